//! Options that have the bits chosen by measurement.

use crate::io::choice::{Budget, Goals};

use super::options;

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Give each tensor whose signal-to-noise ratio would be lower than this, in dB, the next more bits that reach it;
    /// fail where 8 do not
    #[arg(long, value_name = "DB", value_parser = options::finite, conflicts_with = "equalize")]
    min_sqnr: Option<f64>,
    /// Choose the bits of each tensor for the least error, so that all tensors together take at most this, such as 4GB
    #[arg(long, value_name = "SIZE", value_parser = options::bytes, conflicts_with_all = ["bits", "target_bpw", "equalize"])]
    target_size: Option<u64>,
    /// Choose the bits of each tensor for the least error, so that a quantized weight takes at most this many bits, such
    /// as 3.2, with scales and zero points
    #[arg(long, value_name = "BITS", value_parser = options::positive, conflicts_with_all = ["bits", "equalize"])]
    target_bpw: Option<f64>,
}

impl Arguments {
    /// What is to be reached.
    pub fn goals(&self) -> Goals {
        let size = self.target_size.map(Budget::Size);
        Goals { min_sqnr: self.min_sqnr, budget: size.or(self.target_bpw.map(Budget::BitsPerWeight)) }
    }
}
