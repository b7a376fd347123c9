//! Which tensors are quantized, and how: the default, and what patterns change.

mod allocate;
pub mod architectures;
mod goals;
mod table;
mod width;

pub use goals::{Budget, Goals};
pub use table::{choices_batch, choices_schema, option_columns, option_fields};
pub use width::{Width, candidates_batch, widths_batch, widths_schema};

use std::collections::BTreeMap;

use regex::{Regex, RegexSet};

use super::{IoError, Model, Tensor};
use crate::types::{Bits, Block, Method, QuantizeOptions};

/// What becomes of one tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// How it is quantized; none: it is carried as stored.
    pub options: Option<QuantizeOptions>,
    /// Why it is carried, or what gave its bits; empty otherwise.
    pub note: String,
    /// Its bits were asked for by its name: no goal changes them.
    pub pinned: bool,
    /// The blocks that it is stored as instead of our own codes; set where a format of blocks is planned.
    pub block: Option<Block>,
}

impl Choice {
    /// The bytes that a tensor of a model takes in the output by this choice: codes, scales, zero points and row scales, or
    /// its own.
    pub fn bytes_out(&self, model: &Model, tensor: &Tensor) -> u64 {
        match &self.options {
            Some(options) => options.row_bytes(tensor.row_length) as u64 * tensor.rows as u64,
            None => model.carried_bytes(tensor),
        }
    }
}

/// The rules that choose: options, and patterns that change the default choice.
///
/// By default every float tensor of rank 2 and more that has elements is quantized, but for those of
/// [`architectures::KEPT`]. Patterns are regular expressions that match anywhere in a name.
#[derive(Debug, Clone)]
pub struct Rules {
    options: QuantizeOptions,
    method: Option<Method>,
    include: Vec<Regex>,
    exclude: Vec<Regex>,
    bits_for: Vec<(Regex, Bits)>,
}

impl Rules {
    /// The default choice. Without a `method`, each width has its own default.
    #[must_use]
    pub fn new(options: QuantizeOptions, method: Option<Method>) -> Self {
        Self { options, method, include: Vec::new(), exclude: Vec::new(), bits_for: Vec::new() }
    }

    /// Replaces the default choice: quantizes the float tensors of rank 2 and more whose name matches this or another
    /// included pattern.
    ///
    /// # Errors
    /// The pattern is no regular expression.
    pub fn include(mut self, pattern: &str) -> Result<Self, IoError> {
        self.include.push(regex("--include", pattern)?);
        Ok(self)
    }

    /// Takes the tensors whose name matches away from the choice.
    ///
    /// # Errors
    /// The pattern is no regular expression.
    pub fn exclude(mut self, pattern: &str) -> Result<Self, IoError> {
        self.exclude.push(regex("--exclude", pattern)?);
        Ok(self)
    }

    /// Sets the bits of the chosen tensors whose name matches, from `REGEX=BITS`. The last match counts.
    ///
    /// # Errors
    /// There is no `=`, the pattern is no regular expression, or the bits are not 2, 3, 4 or 8.
    pub fn bits_for(mut self, rule: &str) -> Result<Self, IoError> {
        let (pattern, bits) = rule
            .rsplit_once('=')
            .ok_or_else(|| IoError::Request(format!("--bits-for '{rule}' is not of the form REGEX=BITS")))?;
        let bits = bits.parse().map_err(|error| IoError::Request(format!("--bits-for '{rule}': {error}")))?;
        self.bits_for.push((regex("--bits-for", pattern)?, bits));
        Ok(self)
    }

    /// The method that was asked for; none: each width has its own default.
    pub fn method(&self) -> Option<Method> {
        self.method
    }

    /// The rules by the names of their options, for a manifest to record.
    pub fn describe(&self) -> BTreeMap<String, serde_json::Value> {
        let patterns =
            |patterns: &[Regex]| patterns.iter().map(Regex::as_str).map(serde_json::Value::from).collect::<Vec<_>>();
        let bits_for: Vec<_> = self.bits_for.iter().map(|(pattern, bits)| format!("{pattern}={bits}")).collect();
        let options = [
            ("bits", self.options.bits.get().into()),
            ("group_size", self.options.group_size().into()),
            ("method", self.method.map_or("default", Method::name).into()),
            ("symmetric", self.options.symmetric.into()),
            ("include", patterns(&self.include).into()),
            ("exclude", patterns(&self.exclude).into()),
            ("bits_for", bits_for.into()),
        ];
        options.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }

    /// The choice for every tensor of a model, in its order.
    ///
    /// # Errors
    /// A pattern that has no effect, since it is most likely mistyped: an include that matches no float tensor of rank 2
    /// and more, an exclude that matches no tensor, a bits-for that matches no chosen tensor.
    pub fn choose(&self, model: &Model) -> Result<Vec<Choice>, IoError> {
        let kept = KeptPatterns::new()?;
        let mut scales = vec![false; model.tensors().len()];
        for companion in model.tensors().iter().filter_map(|tensor| tensor.scale.companion()) {
            scales[companion] = true;
        }
        let choices: Vec<Choice> =
            model.tensors().iter().zip(scales).map(|(tensor, is_scale)| self.one(tensor, is_scale, &kept)).collect();
        self.check_effect(model, &choices)?;
        Ok(choices)
    }

    fn one(&self, tensor: &Tensor, is_scale: bool, kept: &KeptPatterns) -> Choice {
        let carried = |note: &str| Choice { options: None, note: note.to_owned(), pinned: false, block: None };
        let name = tensor.name.as_str();
        if let Some(reason) = unquantizable(tensor) {
            return carried(&reason);
        }
        if is_scale {
            return carried("scale of another tensor");
        }
        if let Some(pattern) = self.exclude.iter().find(|pattern| pattern.is_match(name)) {
            return carried(&format!("excluded by --exclude '{pattern}'"));
        }
        if self.include.is_empty() {
            if let Some(kind) = kept.kind(name) {
                return carried(&format!("{kind} (default exclusion)"));
            }
        } else if !self.include.iter().any(|pattern| pattern.is_match(name)) {
            return carried("not matched by --include");
        }
        let mut options = self.options;
        let (mut note, mut pinned) = (String::new(), false);
        if let Some((pattern, bits)) = self.bits_for.iter().rev().find(|(pattern, _)| pattern.is_match(name)) {
            options.bits = *bits;
            note = format!("bits by --bits-for '{pattern}={bits}'");
            pinned = true;
        }
        let options = options.with_method(self.method.unwrap_or(Method::default_for(options.bits)));
        Choice { options: Some(options), note, pinned, block: None }
    }

    fn check_effect(&self, model: &Model, choices: &[Choice]) -> Result<(), IoError> {
        let tensors = || model.tensors().iter().zip(choices);
        let refuse = |option: &str, pattern: &str, what: &str| {
            Err(IoError::Request(format!("{option} '{pattern}' matches no {what} of {}", model.folder().display())))
        };
        for pattern in &self.include {
            if !tensors().any(|(tensor, _)| unquantizable(tensor).is_none() && pattern.is_match(&tensor.name)) {
                return refuse("--include", pattern.as_str(), "float tensor of rank 2 or more");
            }
        }
        for pattern in &self.exclude {
            if !tensors().any(|(tensor, _)| pattern.is_match(&tensor.name)) {
                return refuse("--exclude", pattern.as_str(), "tensor");
            }
        }
        for (pattern, bits) in &self.bits_for {
            if !tensors().any(|(tensor, choice)| choice.options.is_some() && pattern.is_match(&tensor.name)) {
                return refuse("--bits-for", &format!("{pattern}={bits}"), "quantized tensor");
            }
        }
        Ok(())
    }
}

/// Why a tensor cannot be quantized whatever its name.
fn unquantizable(tensor: &Tensor) -> Option<String> {
    if !tensor.dtype.is_float() {
        Some(format!("{} is not a float that can be quantized", tensor.dtype))
    } else if tensor.shape.len() < 2 {
        Some(format!("rank {}", tensor.shape.len()))
    } else if tensor.elements() == 0 {
        Some("no elements".to_owned())
    } else {
        None
    }
}

/// The patterns of the table, compiled together.
struct KeptPatterns {
    set: RegexSet,
    kinds: Vec<&'static str>,
}

impl KeptPatterns {
    fn new() -> Result<Self, IoError> {
        let patterns = || architectures::KEPT.iter().flat_map(|kept| kept.patterns.iter().map(|p| (*p, kept.kind)));
        let set = RegexSet::new(patterns().map(|(pattern, _)| pattern))
            .map_err(|error| IoError::Request(format!("the table of architectures: {error}")))?;
        Ok(Self { set, kinds: patterns().map(|(_, kind)| kind).collect() })
    }

    fn kind(&self, name: &str) -> Option<&'static str> {
        self.set.matches(name).iter().next().map(|first| self.kinds[first])
    }
}

/// Compiles a pattern of the user; the error is one line, without the drawing that the library makes.
fn regex(option: &str, pattern: &str) -> Result<Regex, IoError> {
    Regex::new(pattern).map_err(|error| {
        let error = error.to_string();
        let reason = error.lines().last().unwrap_or_default().trim_start_matches("error: ");
        IoError::Request(format!("{option} '{pattern}' is not a regular expression: {reason}"))
    })
}

#[cfg(test)]
mod tests;
