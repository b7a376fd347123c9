//! The tensors that are quantized, and their options: the default, and what patterns change.

use std::fmt;

use regex::RegexSet;

use super::{
    bit_allocation::entropy::Entropy,
    class_lists::kind_in,
    default_exclusions,
    format_type::FormatType,
    spec::{Spec, pattern_rule::PatternRule, spec_error::SpecError},
};
use crate::{
    model::{
        Model, said,
        tensor::{Scale, Tensor},
    },
    storage::error::IoError,
    types::{
        Encoding, Method, QuantizeOptions,
        quantized::{ENTROPY_BITS, ENTROPY_GROUP_SIZE},
    },
};

/// The options for a tensor that cannot be decoded.
pub const ODD: &str = "`exclude` leaves it as it is, `drop` leaves it out";

/// The decision for one tensor.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Choice {
    /// The options that quantize it. `None` means that it is copied unchanged.
    pub options: Option<QuantizeOptions>,
    /// The reason why it is copied unchanged, or what gave its bits; empty otherwise.
    pub note: String,
    /// Its bits were asked for by its name: no goal changes them.
    pub pinned: bool,
    /// The rate at which it is entropy-coded instead of having codes of a fixed width.
    pub entropy: Option<Entropy>,
    /// The type that it is to have; `None` means that the format has no types of its own, or that it is copied unchanged.
    pub kind: Option<FormatType>,
    /// The encoding that is planned for that type.
    pub stored: Option<Encoding>,
}

impl Choice {
    /// Returns bits and group size of what it is stored as instead of our own codes of a fixed width: of entropy-coded weights the
    /// bits are 0, as in their values.
    pub fn width_of_type(&self) -> Option<(i64, i64)> {
        let (bits, group_size) = match (self.entropy, self.stored) {
            (Some(_), _) => (ENTROPY_BITS, ENTROPY_GROUP_SIZE),
            (None, Some(Encoding::Block(block))) => (block.bits(), block.group_size()),
            (None, Some(Encoding::Mlx(mlx))) => (mlx.kind.bits(), mlx.group_size),
            (None, Some(Encoding::Comfy(comfy))) => (comfy.layout.bits(), comfy.scale_group()),
            (None, Some(Encoding::Float(_) | Encoding::Packed(_)) | None) => return None,
        };
        Some((i64::from(bits), i64::from(group_size)))
    }

    /// Returns the bits of a number of the type that it is to have; 255 where it stays as it is.
    pub fn code_bits(&self) -> u8 {
        let Some(options) = self.options else { return u8::MAX };
        self.kind.map_or(options.bits.get(), FormatType::bits)
    }

    /// Puts a text before the note.
    pub fn say(&mut self, text: String) {
        let before = std::mem::take(&mut self.note);
        self.note = if before.is_empty() { text } else { format!("{text}; {before}") };
    }

    /// The bytes that a tensor of a model takes in the output by this choice: codes, scales, zero points and row scales, or
    /// its own.
    pub fn bytes_out(&self, model: &Model, tensor: &Tensor) -> u64 {
        match (&self.options, self.entropy) {
            (Some(_), Some(entropy)) => entropy.bytes(tensor),
            (Some(options), None) => options.row_bytes(tensor.row_length) as u64 * tensor.rows as u64,
            (None, _) => model.carried_bytes(tensor),
        }
    }
}

/// Chooses what becomes of each tensor by a [`Spec`].
///
/// By default every float tensor of rank 2 and more that has elements is quantized, but for those of
/// [`default_exclusions::KEPT`]. Patterns are regular expressions that match anywhere in a name.
pub struct Selection<'a>(pub &'a Spec);

impl Selection<'_> {
    /// The choice for every tensor of a model, in its order.
    ///
    /// # Errors
    /// A pattern that has no effect, since it is most likely mistyped: an include that matches no float tensor of rank 2
    /// and more, an exclude that matches no tensor, a bits-for that matches no chosen tensor.
    pub fn choose(&self, model: &Model) -> Result<Vec<Choice>, IoError> {
        self.choose_with(model, &[])
    }

    /// Does the same as [`Self::choose`], but quantizes the tensors of some kinds that stay as they are by default.
    ///
    /// # Errors
    /// Returns the errors of [`Self::choose`].
    pub fn choose_with(&self, model: &Model, kinds: &'static [&'static str]) -> Result<Vec<Choice>, IoError> {
        let kept = KeptPatterns { quantized: kinds, ..KeptPatterns::new(model)? };
        let tensors = model.tensors().iter().enumerate();
        let choices: Result<Vec<Choice>, IoError> = tensors
            .map(|(number, tensor)| {
                let choice = self.one(tensor, model.is_companion(number), &kept);
                if let (Some(_), Scale::Unknown(reason)) = (&choice.options, &tensor.scale) {
                    let problem = format!("{reason} ({ODD})");
                    return Err(IoError::tensor(&model.file_of(tensor).path, &tensor.name, problem));
                }
                Ok(choice)
            })
            .collect();
        let choices = choices?;
        self.check_effect(model, &choices)?;
        Ok(choices)
    }

    fn one(&self, tensor: &Tensor, is_companion: bool, kept: &KeptPatterns) -> Choice {
        let carried = |note: &str| Choice { note: note.to_owned(), ..Choice::default() };
        let name = tensor.name.as_str();
        if is_companion {
            return carried("belongs to an fp8 or a packed tensor");
        }
        if let Some(reason) = unquantizable(tensor) {
            return carried(&reason);
        }
        if let Some(pattern) = self.0.exclude.iter().find(|pattern| pattern.is_match(name)) {
            return carried(&format!("excluded by pattern '{pattern}'"));
        }
        if self.0.include.is_empty() {
            if let Some(kind) = kept.kind(name) {
                return carried(&format!("{kind} (default exclusion)"));
            }
        } else if !self.0.include.iter().any(|pattern| pattern.is_match(name)) {
            return carried("not matched by a pattern of those to include");
        }
        let mut options = self.0.row_options();
        let (mut note, mut pinned, mut rate) = (String::new(), false, self.0.rate());
        if let Some(rule) = PatternRule::last_match(&self.0.bits_for, name) {
            rate = rule.value;
            options.bits = rate.fixed().unwrap_or(options.bits);
            note = format!("bits by pattern '{rule}'");
            pinned = true;
        }
        if tensor.scale == Scale::One {
            const UNSCALED: &str = "fp8 without a scale: taken as they are";
            note = if note.is_empty() { UNSCALED.to_owned() } else { format!("{note}; {UNSCALED}") };
        }
        let options = options.with_method(self.0.fixed_method().unwrap_or(Method::default_for(options.bits)));
        let entropy = self.0.is_entropy().then(|| Entropy { bits: rate.get(), step: None });
        Choice { options: Some(options), note, pinned, entropy, ..Choice::default() }
    }

    fn check_effect(&self, model: &Model, choices: &[Choice]) -> Result<(), IoError> {
        let tensors = || model.tensors().iter();
        for pattern in &self.0.include {
            if !tensors().any(|tensor| unquantizable(tensor).is_none() && pattern.is_match(&tensor.name)) {
                return Err(refused("include", pattern, "float tensor of rank 2 or more", model));
            }
        }
        for pattern in &self.0.exclude {
            if !tensors().any(|tensor| pattern.is_match(&tensor.name)) {
                return Err(refused("exclude", pattern, "tensor", model));
            }
        }
        check_rules("bits_for", &self.0.bits_for, model, choices)
    }
}

/// Checks that every rule of an option matches a quantized tensor.
///
/// # Errors
/// Returns an error that names the option and the first rule that has no effect: it is most likely mistyped.
fn check_rules<T: fmt::Display>(
    option: &str,
    rules: &[PatternRule<T>],
    model: &Model,
    choices: &[Choice],
) -> Result<(), IoError> {
    let quantized = || model.tensors().iter().zip(choices).filter(|(_, choice)| choice.options.is_some());
    match rules.iter().find(|rule| !quantized().any(|(tensor, _)| rule.pattern.is_match(&tensor.name))) {
        Some(rule) => Err(refused(option, rule, "quantized tensor", model)),
        None => Ok(()),
    }
}

/// Gives each quantized tensor its type in a format that has types of its own: `kind` makes it from what the last rule that matches
/// says, if one does, and from the tensor's options.
///
/// # Errors
/// Returns the errors of [`check_rules`].
pub(super) fn choose_types<T: Copy + fmt::Display>(
    option: &str,
    rules: &[PatternRule<T>],
    model: &Model,
    choices: &mut [Choice],
    kind: impl Fn(Option<T>, QuantizeOptions) -> FormatType,
) -> Result<(), IoError> {
    check_rules(option, rules, model, choices)?;
    for (tensor, choice) in model.tensors().iter().zip(choices) {
        let ruled = PatternRule::last_match(rules, &tensor.name).map(|rule| rule.value);
        choice.kind = choice.options.map(|options| kind(ruled, options));
        choice.pinned |= ruled.is_some();
    }
    Ok(())
}

fn refused(option: &str, pattern: &dyn fmt::Display, what: &str, model: &Model) -> IoError {
    let problem = format!("'{pattern}' matches no {what} of {}", model.folder().display());
    SpecError::new(option, problem).into()
}

/// Returns the reason why a tensor cannot be quantized, whatever its name.
pub(super) fn unquantizable(tensor: &Tensor) -> Option<String> {
    if !tensor.dtype.is_float() {
        Some(format!("{} is not a float that can be quantized", tensor.dtype))
    } else if tensor.shape.len() < 2 {
        Some(format!("rank {}", tensor.shape.len()))
    } else if tensor.elements() == 0 {
        Some("no elements".to_owned())
    } else if tensor.is_cut() {
        Some(format!("rows of {} elements", tensor.shape.iter().skip(1).product::<usize>()))
    } else {
        None
    }
}

/// The patterns of the table, compiled together.
struct KeptPatterns {
    set: RegexSet,
    kinds: Vec<&'static str>,
    /// The architectures that the configuration names.
    architectures: Vec<String>,
    /// The kinds that are not kept.
    quantized: &'static [&'static str],
}

impl KeptPatterns {
    fn new(model: &Model) -> Result<Self, IoError> {
        let patterns =
            || default_exclusions::KEPT.iter().flat_map(|kept| kept.patterns.iter().map(|p| (*p, kept.kind)));
        let set = RegexSet::new(patterns().map(|(pattern, _)| pattern))
            .map_err(|error| IoError::Request(format!("the table of architectures: {error}")))?;
        Ok(Self {
            set,
            kinds: patterns().map(|(_, kind)| kind).collect(),
            architectures: said::architectures(&said::config(model.folder())),
            quantized: &[],
        })
    }

    fn kind(&self, name: &str) -> Option<&'static str> {
        let is_kept = |kind: &&'static str| !self.quantized.contains(kind);
        let by_name = self.set.matches(name).iter().map(|number| self.kinds[number]).find(is_kept);
        by_name.or_else(|| kind_in(&self.architectures, name).filter(is_kept))
    }
}

#[cfg(test)]
mod tests;
