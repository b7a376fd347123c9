//! The share of a model's parameters that is quantized, and the largest tensors that are not.

use std::fmt;

use super::{selection::Choice, spec::spec_error::SpecError};
use crate::model::Model;

/// The tensors that are named.
const NAMED: usize = 3;

/// The share of a model's parameters that is quantized. Parameters are the elements of all float tensors but companions.
#[derive(Debug, Clone, PartialEq)]
pub struct Share {
    /// The parameters that are quantized.
    pub quantized: u64,
    /// All parameters.
    pub parameters: u64,
    /// The largest tensors that are not quantized: name, parameters and the reason, at most three.
    pub largest: Vec<(String, u64, String)>,
}

impl Share {
    /// Adds up the choices for the tensors of a model.
    #[must_use]
    pub fn of(model: &Model, choices: &[Choice]) -> Self {
        let mut share = Self { quantized: 0, parameters: 0, largest: Vec::new() };
        for (number, (tensor, choice)) in model.tensors().iter().zip(choices).enumerate() {
            if !tensor.dtype.is_float() || model.is_companion(number) || tensor.elements() == 0 {
                continue;
            }
            let elements = tensor.elements() as u64;
            share.parameters += elements;
            if choice.options.is_some() {
                share.quantized += elements;
            } else {
                share.largest.push((tensor.name.clone(), elements, choice.note.clone()));
            }
        }
        share.largest.sort_by_key(|(_, elements, _)| std::cmp::Reverse(*elements));
        share.largest.truncate(NAMED);
        share
    }

    /// Returns the share, from 0 to 1; 1 of nothing.
    #[must_use]
    pub fn ratio(&self) -> f64 {
        if self.parameters == 0 { 1.0 } else { self.quantized as f64 / self.parameters as f64 }
    }

    /// Checks that it is not less than the least that is asked for.
    ///
    /// # Errors
    /// Returns an error that says what it is, and names the largest tensors that are not quantized.
    pub fn check(&self, least: Option<f64>) -> Result<(), SpecError> {
        match least.filter(|least| self.ratio() < *least) {
            None => Ok(()),
            Some(least) => Err(SpecError::new("min_share", format!("{least} is not reached: {self}"))),
        }
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1} % of the parameters quantized", 100.0 * self.ratio())?;
        for (number, (name, elements, note)) in self.largest.iter().enumerate() {
            let share = 100.0 * *elements as f64 / self.parameters as f64;
            let before = if number == 0 { "; the largest of the others: " } else { ", " };
            write!(f, "{before}{name} {share:.1} % ({note})")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        plan::{selection::Selection, spec::Spec},
        storage::dtype::Dtype,
        testing::models::write,
    };

    #[test]
    fn the_largest_of_the_others_are_named_and_integers_are_no_parameters() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        let bytes = vec![0; 4096];
        let tensors: &[(&str, Dtype, &[usize], &[u8])] = &[
            ("layers.0.up_proj.weight", Dtype::F32, &[30, 16], &bytes[..1920]),
            ("lm_head.weight", Dtype::F32, &[8, 16], &bytes[..512]),
            ("model.embed_tokens.weight", Dtype::F32, &[8, 16], &bytes[..512]),
            ("router.weight", Dtype::F32, &[2, 16], &bytes[..128]),
            ("norm.weight", Dtype::F32, &[32], &bytes[..128]),
            ("ids", Dtype::I64, &[512], &bytes),
        ];
        write(&path, tensors);
        let spec = Spec { exclude: vec!["router".parse().unwrap()], ..Spec::default() };
        let model = Model::open(&path).unwrap();
        let share = Share::of(&model, &Selection(&spec).choose(&model).unwrap());
        assert_eq!((share.quantized, share.parameters), (480, 800));
        assert_eq!(
            share.to_string(),
            "60.0 % of the parameters quantized; the largest of the others: lm_head.weight 16.0 % (head (default \
             exclusion)), model.embed_tokens.weight 16.0 % (embedding (default exclusion)), norm.weight 4.0 % (rank 1)"
        );
        share.check(Some(0.6)).unwrap();
        let message = share.check(Some(0.61)).unwrap_err().to_string();
        assert!(message.contains("0.61 is not reached: 60.0 % of"), "{message}");
    }
}
