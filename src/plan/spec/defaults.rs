//! Defaults of options that the format takes: those of a profile, and those that a manifest records.

use std::collections::BTreeMap;

use serde_json::Value as Json;

use super::{Spec, spec_error::SpecError};
use crate::plan::{formats, profile::Profile};

impl Spec {
    /// Returns the spec with the settings of a profile for the options that are not set and that apply.
    #[must_use]
    pub fn with_profile(mut self, profile: Profile) -> Self {
        if self.takes("bits") && !self.bits_are_chosen() {
            self.bits = self.bits.or(Some(profile.bits.into()));
        }
        if self.takes("group_size") && !self.is_entropy() {
            self.group_size = self.group_size.or(Some(profile.group_size));
        }
        if self.activations.is_some() {
            self.time_groups = self.time_groups.or(Some(profile.time_groups));
            self.activation_bits = self.activation_bits.or(Some(profile.activation_bits));
        }
        self
    }

    /// Returns the options as JSON for the manifest: defaults filled in, and no paths, since the digests of those files are
    /// recorded beside the options.
    ///
    /// # Errors
    /// Returns an error if an option cannot be written as JSON: a path that is not UTF-8.
    pub fn recorded(&self) -> Result<BTreeMap<String, Json>, SpecError> {
        let mut recorded = self.clone();
        recorded.activations = None;
        recorded.hessians = None;
        if self.takes("bits") && !self.bits_are_chosen() {
            recorded.bits = Some(self.rate());
        }
        if self.takes("group_size") && !self.is_entropy() {
            recorded.group_size = Some(self.group_size.unwrap_or_default());
        }
        if self.activations.is_some() {
            recorded.time_groups = Some(self.time_groups());
            recorded.time_method = Some(self.time_method.unwrap_or_default());
            recorded.activation_bits = Some(self.activation_bits());
        }
        recorded.given()
    }

    /// Returns true if another option chooses the bits.
    fn bits_are_chosen(&self) -> bool {
        let by_ratio = self.is_entropy() && self.min_sqnr.is_some();
        let by_type = self.gguf_type.is_some() || self.mlx_type.is_some();
        by_ratio || by_type || self.target_size.is_some() || self.target_bpw.is_some()
    }

    /// Returns true if the format takes an option.
    fn takes(&self, option: &str) -> bool {
        formats::of(self).is_ok_and(|format| format.options().contains(&option))
    }
}
