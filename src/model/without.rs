//! A model without some of its tensors.

use std::collections::HashMap;

use super::{
    Model,
    tensor::{Scale, Tensor},
};
use crate::storage::error::IoError;

impl Model {
    /// Returns the model without the tensors for whose names there is a reason, which [`Self::dropped`] then lists.
    ///
    /// # Errors
    /// Returns an error if the only scale of an fp8 tensor goes that stays, or if nothing is left.
    pub fn without(mut self, reason: impl Fn(&str) -> Option<String>) -> Result<Self, IoError> {
        let reasons: Vec<Option<String>> = self.tensors.iter().map(|tensor| reason(&tensor.name)).collect();
        let kept: Vec<bool> = reasons.iter().map(Option::is_none).collect();
        if kept.iter().all(|kept| *kept) {
            return Ok(self);
        }
        let scales: HashMap<String, String> = self
            .tensors
            .iter()
            .filter_map(|tensor| Some((tensor.name.clone(), self.tensors[tensor.scale.companion()?].name.clone())))
            .collect();
        let (mut tensors, mut dropped) = (Vec::new(), self.dropped);
        for (tensor, reason) in self.tensors.into_iter().zip(reasons) {
            match reason {
                Some(reason) => dropped.push((tensor, reason)),
                None => tensors.push(Tensor { scale: Scale::None, ..tensor }),
            }
        }
        if let Some(parts) = &mut self.parts {
            parts.retain(&kept);
        }
        let model = Self::new(self.folder, self.files, tensors, self.parts)?;
        if model.tensors.is_empty() {
            return Err(IoError::file(&model.folder, "has no tensor that is not dropped"));
        }
        let mut unscaled = model.tensors.iter().filter(|tensor| tensor.scale == Scale::One);
        if let Some((tensor, scale)) = unscaled.find_map(|tensor| Some((tensor, scales.get(&tensor.name)?))) {
            let problem = format!("cannot stay without its scale '{scale}', which is dropped; drop both or none");
            return Err(IoError::tensor(&model.file_of(tensor).path, &tensor.name, problem));
        }
        Ok(Self { passed_over: self.passed_over, given: self.given, dropped, ..model })
    }

    /// Lists the tensors that [`Self::without`] took out, and why.
    pub fn dropped(&self) -> &[(Tensor, String)] {
        &self.dropped
    }
}
