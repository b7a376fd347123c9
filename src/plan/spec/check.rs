//! What options go together: one table.

use std::fmt;

use super::{Spec, spec_error::SpecError};
use crate::types::{Equalize, OutputFormat};

/// What one option demands of the others.
enum Rule {
    /// The first cannot be used with the second.
    Excludes(&'static str, &'static str, &'static str),
    /// The first means something only if the second is given.
    Needs(&'static str, &'static str),
    /// The option belongs to these formats.
    Formats(&'static str, &'static [OutputFormat], &'static str),
}

use OutputFormat::{Arrow, CompressedTensors, Gguf, Parquet, Safetensors};
use Rule::{Excludes, Formats, Needs};

const PARTS: &[OutputFormat] = &[Parquet, Arrow];
const SHARDS: &[OutputFormat] = &[Safetensors, CompressedTensors];
const GROUPS: &[OutputFormat] = &[Parquet, Arrow, Safetensors, CompressedTensors];
const OWN_GROUPS: &str = "each type of GGUF has its own groups, zero points and search (`gguf_type` chooses one)";
const OWN_SCALES: &str = "the other formats have other scales than those that are measured";
const EQUALIZED_AFTER: &str = "they are measured on weights that are not equalized";

/// Every demand, each with its reason (empty if the names say it).
const RULES: [Rule; 29] = [
    Formats("group_size", GROUPS, OWN_GROUPS),
    Formats("method", GROUPS, OWN_GROUPS),
    Formats("symmetric", GROUPS, OWN_GROUPS),
    Formats("min_sqnr", PARTS, OWN_SCALES),
    Formats("target_size", PARTS, OWN_SCALES),
    Formats("target_bpw", PARTS, OWN_SCALES),
    Formats("dtype", &[Safetensors], "the other formats keep the dtype of what they copy"),
    Formats("shard_size", SHARDS, ""),
    Formats("gguf_type", &[Gguf], ""),
    Formats("gguf_type_for", &[Gguf], ""),
    Formats("misfit", &[Gguf], ""),
    Formats("gguf_architecture", &[Gguf], ""),
    Formats("gguf_pre", &[Gguf], ""),
    Formats("hessians", PARTS, "the other formats have scales of their own"),
    Excludes("target_size", "bits", "the budget chooses them"),
    Excludes("target_bpw", "bits", "the budget chooses them"),
    Excludes("target_size", "target_bpw", ""),
    Excludes("gguf_type", "bits", "a type has its bits"),
    Excludes("gguf_type", "bits_for", "a type has its bits; use `gguf_type_for`"),
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
];

impl Spec {
    /// Checks each value, and that the options go together.
    ///
    /// # Errors
    /// Returns an error that names the option and says what it cannot be used with, what it needs, or what is accepted.
    pub fn check(&self) -> Result<(), SpecError> {
        self.check_values()?;
        let given = self.to_json()?;
        let has = |option: &str| given.contains_key(option);
        for rule in &RULES {
            match rule {
                Excludes(a, b, reason) if has(a) && has(b) => {
                    return Err(SpecError::new(a, because(format!("cannot be used with `{b}`"), reason)));
                }
                Needs(a, b) if has(a) && !has(b) => return Err(SpecError::new(a, format!("needs `{b}`"))),
                Formats(a, formats, reason) if has(a) && !formats.contains(&self.format) => {
                    let names = formats.iter().map(|format| format.name()).collect::<Vec<_>>();
                    let names = match names.as_slice() {
                        [one] => (*one).to_owned(),
                        [first @ .., last] => format!("{} or {last}", first.join(", ")),
                        [] => String::new(),
                    };
                    return Err(SpecError::new(a, because(format!("needs `format` {names}"), reason)));
                }
                Excludes(..) | Needs(..) | Formats(..) => {}
            }
        }
        match self.equalize {
            Some(by) if by.needs_activations() && !has("activations") => {
                let other = Equalize::Weights;
                Err(SpecError::new("equalize", format!("{by} needs `activations`; without, use `equalize` {other}")))
            }
            _ => Ok(()),
        }
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

fn because(problem: String, reason: &str) -> String {
    if reason.is_empty() { problem } else { format!("{problem}: {reason}") }
}

#[cfg(test)]
mod tests;
