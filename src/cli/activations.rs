//! The summary of activations in a run, and the named settings.

use std::{
    fmt::Write as _,
    io::{Write, stdout},
};

use super::CliError;
use crate::{plan::profile::Profile, run::measure::prepared::Prepared, storage::escape::escaped};

/// Returns the text on activations and channels; `without` are the quantized tensors that had no activations.
pub fn text(Prepared { params, equalization, left_alone, .. }: &Prepared, without: &[&str]) -> String {
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

/// Returns `arrow-quant profiles`.
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
