//! The options of `quantize` that are about activations, and the named settings.

use std::{
    fmt::Write as _,
    io::{Write, stdout},
    path::PathBuf,
};

use super::CliError;
use crate::{
    io::escape::escaped,
    sql::{
        ActivationOptions, Equalize, Prepared,
        recipes::{self, Recipe},
    },
    types::{ActivationBits, Profile, TimeMethod},
};

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Activations that calibration wrote (Parquet): make a quantizer for the input of each quantized layer
    #[arg(long, value_name = "FILE")]
    pub activations: Option<PathBuf>,
    /// Groups of timesteps with a quantizer of their own; 1: the same for all [default: 8, or the profile's]
    #[arg(long, value_name = "N", requires = "activations", value_parser = clap::value_parser!(u32).range(1..))]
    time_groups: Option<u32>,
    /// How time is cut: 'optimal', 'uniform' or 'quantile'
    #[arg(long, value_name = "METHOD", requires = "activations", default_value_t)]
    time_method: TimeMethod,
    /// Bits per activation: 2 to 8 [default: 8, or the profile's]
    #[arg(long, value_name = "N", requires = "activations")]
    activation_bits: Option<ActivationBits>,
    /// Activation quantizers whose zero point is the middle code
    #[arg(long, requires = "activations")]
    activation_symmetric: bool,
    /// Trade range between activations and weights: a number from 0 to 1, 'auto' (chosen for each layer) or 'log'; or,
    /// without --activations, among the channels of the weights: 'weights'
    #[arg(long, value_name = "ALPHA")]
    pub equalize: Option<Equalize>,
    /// Named settings, of which single ones may be changed: edge, local or cloud (`profiles` lists them)
    #[arg(long)]
    pub profile: Option<Profile>,
}

impl Arguments {
    /// What to do with the activations, where there are some.
    pub fn options(&self) -> Result<Option<ActivationOptions>, CliError> {
        let Some(file) = &self.activations else { return Ok(None) };
        let bits = match (self.activation_bits, self.profile) {
            (Some(bits), _) => Ok(bits),
            (None, Some(profile)) => profile.activation_bits(),
            (None, None) => ActivationBits::try_from(i64::from(Profile::ACTIVATION_BITS)),
        };
        let profile_groups = self.profile.map_or(Profile::TIME_GROUPS, |profile| profile.time_groups);
        Ok(Some(ActivationOptions {
            file: file.clone(),
            time_groups: self.time_groups.unwrap_or(profile_groups),
            time_method: self.time_method,
            bits: bits.map_err(|error| CliError::Usage(error.to_string()))?,
            symmetric: self.activation_symmetric,
        }))
    }
}

impl Arguments {
    /// Refuses what cannot be done without activations, or with Hessians, before anything is read.
    pub fn check(&self, hessians: bool) -> Result<(), CliError> {
        let check = self.equalize.map_or(Ok(()), |by| by.check(self.activations.is_some(), hessians));
        check.map_err(|error| CliError::Usage(error.to_string()))
    }

    /// The recipe that would quantize the weights, into parts or another format.
    pub const fn recipe(&self, parts: bool) -> Recipe {
        match (parts, self.equalize.is_some()) {
            (true, true) => recipes::EQUALIZE,
            (true, false) => recipes::QUANTIZE,
            (false, true) => recipes::EXPORT_EQUALIZED,
            (false, false) => recipes::EXPORT,
        }
    }
}

/// What a run made of the activations and of channels; `without` are the quantized tensors that had no activations.
pub fn text(Prepared { params, equalization, left_alone }: &Prepared, without: &[&str]) -> String {
    let mut text =
        params.as_ref().map_or_else(String::new, |params| format!("{} activation quantizers", params.num_rows()));
    if let Some(equalization) = equalization {
        let (folded, scaled) = (equalization.folded(), equalization.scaled());
        let then = if text.is_empty() { "" } else { "; " };
        let _ =
            write!(text, "{then}{} layers equalized, {folded} of them folded into the layers before", folded + scaled);
        if scaled > 0 {
            let _ = write!(text, ", {scaled} to be scaled by input_scale at run time");
        }
    }
    if let Some((name, reason)) = left_alone.first_key_value() {
        let _ = write!(
            text,
            "; {} left as they are, such as {}",
            left_alone.len(),
            escaped(&format_args!("{name}: {reason}"))
        );
    }
    if let Some(first) = without.first() {
        let _ = write!(
            text,
            "; none for {} quantized tensors without activations, such as {}",
            without.len(),
            escaped(first)
        );
    }
    if !text.is_empty() {
        text.push('\n');
    }
    text
}

/// `arrow-quant profiles`.
pub fn profiles() -> Result<(), CliError> {
    let mut out = stdout().lock();
    writeln!(
        out,
        "{:<8} {:>4} {:>10} {:>11} {:>15}",
        "profile", "bits", "group size", "time groups", "activation bits"
    )?;
    for Profile { name, bits, group_size, time_groups, activation_bits } in Profile::ALL {
        writeln!(out, "{name:<8} {bits:>4} {group_size:>10} {time_groups:>11} {activation_bits:>15}")?;
    }
    Ok(())
}
