//! The table of options that go together.

use std::fmt;

use super::{Spec, spec_error::SpecError};
use crate::{
    plan::formats::{self, format::Format, gguf::options::Misfit},
    types::Equalize,
};

/// The demand of one option on the others.
enum Rule {
    /// The first cannot be used with the second.
    Excludes(&'static str, &'static str, &'static str),
    /// The first means something only if the second is given.
    Needs(&'static str, &'static str),
    /// The option cannot be used with the method of entropy-coded weights.
    NotEntropy(&'static str, &'static str),
}

use Rule::{Excludes, Needs, NotEntropy};

const OWN_GROUPS: &str = "each type of GGUF has its own groups, zero points and search (`gguf_type` chooses one)";
const FLOATS: &str = "every tensor of the other format takes as many bytes as before";
const EQUALIZED_AFTER: &str = "they are measured on weights that are not equalized";

/// The options that do not mean something in every format ([`Format::options`](formats::format::Format::options) has those
/// of each), and why.
const OF_FORMATS: [(&str, &str); 21] = [
    ("bits", "a type of ComfyUI has its bits (`comfy_type` chooses one)"),
    ("bits_for", "a type of ComfyUI has its bits; use `comfy_type_for`"),
    ("equalize", "scales of whole tensors are measured on weights that are not equalized"),
    ("group_size", OWN_GROUPS),
    ("method", OWN_GROUPS),
    ("symmetric", OWN_GROUPS),
    ("min_sqnr", FLOATS),
    ("target_size", FLOATS),
    ("target_bpw", FLOATS),
    ("dtype", "the other formats keep the dtype of what they copy"),
    ("shard_size", ""),
    ("gguf_type", ""),
    ("gguf_type_for", ""),
    ("misfit", ""),
    ("gguf_architecture", ""),
    ("gguf_pre", ""),
    ("comfy_type", ""),
    ("comfy_type_for", ""),
    ("mlx_type", ""),
    ("mlx_type_for", ""),
    ("hessians", "the other formats have scales of their own"),
];

/// Every demand, each with its reason (empty if the names say it).
const RULES: [Rule; 26] = [
    Excludes("target_size", "bits", "the budget chooses them"),
    Excludes("target_bpw", "bits", "the budget chooses them"),
    Excludes("target_size", "gguf_type", "the budget chooses the types"),
    Excludes("target_bpw", "gguf_type", "the budget chooses the types"),
    Excludes("target_size", "comfy_type", "the budget chooses the types"),
    Excludes("target_bpw", "comfy_type", "the budget chooses the types"),
    Excludes("target_size", "mlx_type", "the budget chooses the types"),
    Excludes("target_bpw", "mlx_type", "the budget chooses the types"),
    Excludes("target_size", "target_bpw", ""),
    Excludes("gguf_type", "bits", "a type has its bits"),
    Excludes("gguf_type", "bits_for", "a type has its bits; use `gguf_type_for`"),
    Excludes("mlx_type", "bits", "a type has its bits"),
    Excludes("mlx_type", "bits_for", "a type has its bits; use `mlx_type_for`"),
    Excludes("equalize", "min_sqnr", EQUALIZED_AFTER),
    Excludes("equalize", "target_size", EQUALIZED_AFTER),
    Excludes("equalize", "target_bpw", EQUALIZED_AFTER),
    Excludes("hessians", "equalize", "Hessians are those of inputs that are not equalized"),
    Excludes("hessians", "symmetric", "GPTQ quantizes with zero points"),
    Excludes("hessians", "min_sqnr", "GPTQ trades the error of weights for that of outputs"),
    Needs("time_groups", "activations"),
    Needs("time_method", "activations"),
    Needs("activation_bits", "activations"),
    Needs("activation_symmetric", "activations"),
    NotEntropy("group_size", "each group of 4,096 weights has a distribution of its own"),
    NotEntropy("symmetric", "it has no zero points"),
    NotEntropy("hessians", "GPTQ makes codes of a fixed width"),
];

impl Spec {
    /// Checks each value, and that the options go together.
    ///
    /// # Errors
    /// Returns an error that names the option and says what it cannot be used with, what it needs, or what is accepted.
    pub fn check(&self) -> Result<(), SpecError> {
        self.check_values()?;
        let given = self.given()?;
        let has = |option: &str| given.contains_key(option);
        let format = formats::of(self)?;
        if let Some((option, reason)) =
            OF_FORMATS.iter().find(|(option, _)| has(option) && !format.options().contains(option))
        {
            return Err(SpecError::new(option, because(format!("needs `format` {}", formats_with(option)), reason)));
        }
        for rule in &RULES {
            match rule {
                Excludes(a, b, reason) if has(a) && has(b) => {
                    return Err(SpecError::new(a, because(format!("cannot be used with `{b}`"), reason)));
                }
                Needs(a, b) if has(a) && !has(b) => return Err(SpecError::new(a, format!("needs `{b}`"))),
                NotEntropy(a, reason) if has(a) && self.is_entropy() => {
                    return Err(SpecError::new(a, because("cannot be used with `method` entropy".to_owned(), reason)));
                }
                Excludes(..) | Needs(..) | NotEntropy(..) => {}
            }
        }
        self.check_coding(format)?;
        let is_measured = has("target_size") || has("target_bpw") || has("min_sqnr");
        if is_measured && self.misfit == Some(Misfit::Error) {
            return Err(SpecError::new("misfit", "error cannot be used where types are chosen: some do not fit"));
        }
        if has("min_sqnr") && has("activations") && format.part_format().is_none() {
            let problem =
                "cannot be used with `activations` in this format: its search then weighs errors by the inputs";
            return Err(SpecError::new("min_sqnr", problem));
        }
        match self.equalize {
            Some(by) if by.needs_activations() && !has("activations") => {
                let other = Equalize::Weights;
                Err(SpecError::new("equalize", format!("{by} needs `activations`; without, use `equalize` {other}")))
            }
            _ => Ok(()),
        }
    }

    /// Checks that the bits are those of the method, and what else depends on its value.
    fn check_coding(&self, format: &dyn Format) -> Result<(), SpecError> {
        if !self.is_entropy() {
            const OTHER: &str = "any number from 1 to 8 needs `method` entropy";
            if let Some(rate) = self.bits.filter(|rate| rate.fixed().is_err()) {
                return Err(SpecError::new("bits", format!("must be 2, 3, 4 or 8, not {rate}: {OTHER}")));
            }
            let mut rules = self.bits_for.iter().enumerate();
            let refused = rules.find_map(|(at, rule)| Some((at, rule, rule.value.fixed().err()?)));
            return refused.map_or(Ok(()), |(at, rule, error)| {
                Err(SpecError::new(&format!("bits_for[{at}]"), format!("'{rule}': {error}: {OTHER}")))
            });
        }
        if format.part_format().is_none() {
            let parts = formats::ALL.into_iter().filter(|format| format.part_format().is_some()).map(Format::name);
            let problem = format!("entropy needs `format` {}", parts.collect::<Vec<_>>().join(" or "));
            return Err(SpecError::new("method", because(problem, "other programs cannot decode its codes")));
        }
        if self.min_sqnr.is_some() && self.bits.is_some() {
            let problem =
                "cannot be used with `bits` where `method` is entropy: the ratio chooses the step of each tensor";
            return Err(SpecError::new("min_sqnr", problem));
        }
        if self.equalize == Some(Equalize::Weights) {
            let problem =
                "weights cannot be used with `method` entropy: a channel takes as many bits as its weights need";
            return Err(SpecError::new("equalize", problem));
        }
        Ok(())
    }

    fn check_values(&self) -> Result<(), SpecError> {
        let refuse = |field: &str, expected: &str, value: &dyn fmt::Display| {
            Err(SpecError::new(field, format!("must be {expected}, not {value}")))
        };
        if let Some(db) = self.min_sqnr.filter(|db| !db.is_finite()) {
            return refuse("min_sqnr", "a number of dB", &db);
        }
        if let Some(bits) = self.target_bpw.filter(|bits| !(bits.is_finite() && *bits > 0.0)) {
            return refuse("target_bpw", "a number above 0", &bits);
        }
        if let Some(share) = self.min_share.filter(|share| !(0.0..=1.0).contains(share)) {
            return refuse("min_share", "a number from 0 to 1", &share);
        }
        for (field, size) in [("target_size", self.target_size), ("shard_size", self.shard_size)] {
            if size.is_some_and(|size| size.as_u64() == 0) {
                return refuse(field, "at least 1 byte", &0);
            }
        }
        if self.time_groups == Some(0) {
            return refuse("time_groups", "at least 1", &0);
        }
        Ok(())
    }
}

/// Returns the names of the formats that take an option: "a, b or c".
fn formats_with(option: &str) -> String {
    let formats = formats::ALL.into_iter().filter(|format| format.options().contains(&option));
    match formats.map(Format::name).collect::<Vec<_>>().as_slice() {
        [first @ .., last] if !first.is_empty() => format!("{} or {last}", first.join(", ")),
        names => names.concat(),
    }
}

fn because(problem: String, reason: &str) -> String {
    if reason.is_empty() { problem } else { format!("{problem}: {reason}") }
}

#[cfg(test)]
mod tests;
