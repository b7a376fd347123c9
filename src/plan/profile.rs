//! Named settings: what goes together on a small device, on one's own machine and on a server.

use std::{fmt, str::FromStr};

use crate::types::{ActivationBits, Bits, GroupSize, OptionsError};

/// Named settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Profile {
    /// The name as the command line writes it.
    pub name: &'static str,
    /// Bits per weight.
    pub bits: Bits,
    /// Weights that share a scale and a zero point.
    pub group_size: GroupSize,
    /// Groups of timesteps; they matter where activations are given.
    pub time_groups: u32,
    /// Bits per activation.
    pub activation_bits: ActivationBits,
}

impl Profile {
    /// Every profile. Fewer bits leave less room for a range that is too wide, so there are more groups.
    pub const ALL: [Self; 3] = [
        Self {
            name: "edge",
            bits: Bits::Two,
            group_size: GroupSize::of::<32>(),
            time_groups: 16,
            activation_bits: ActivationBits::EIGHT,
        },
        Self {
            name: "local",
            bits: Bits::Four,
            group_size: GroupSize::of::<32>(),
            time_groups: 8,
            activation_bits: ActivationBits::EIGHT,
        },
        Self {
            name: "cloud",
            bits: Bits::Eight,
            group_size: GroupSize::of::<128>(),
            time_groups: 4,
            activation_bits: ActivationBits::EIGHT,
        },
    ];

    /// Groups of timesteps where neither a profile nor a number is named.
    pub const TIME_GROUPS: u32 = 8;
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl FromStr for Profile {
    type Err = OptionsError;

    fn from_str(text: &str) -> Result<Self, OptionsError> {
        Self::ALL
            .into_iter()
            .find(|profile| profile.name == text)
            .ok_or_else(|| OptionsError::new(format!("the profile must be 'edge', 'local' or 'cloud', not '{text}'")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_profile_reads_back_by_its_name() {
        for profile in Profile::ALL {
            assert_eq!(profile.to_string().parse(), Ok(profile));
        }
        let error = "phone".parse::<Profile>().unwrap_err().to_string();
        assert_eq!(error, "the profile must be 'edge', 'local' or 'cloud', not 'phone'");
    }
}
