//! Named settings: what goes together on a small device, on one's own machine and on a server.

use std::{fmt, str::FromStr};

use super::{ActivationBits, Bits, OptionsError};

/// Named settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Profile {
    /// The name as the command line writes it.
    pub name: &'static str,
    /// Bits per weight.
    pub bits: Bits,
    /// Weights that share a scale and a zero point.
    pub group_size: u32,
    /// Groups of timesteps; they matter where activations are given.
    pub time_groups: u32,
    /// Bits per activation.
    pub activation_bits: u8,
}

impl Profile {
    /// Every profile. Fewer bits leave less room for a range that is too wide, so there are more groups.
    pub const ALL: [Self; 3] = [
        Self { name: "edge", bits: Bits::Two, group_size: 32, time_groups: 16, activation_bits: 8 },
        Self { name: "local", bits: Bits::Four, group_size: 32, time_groups: 8, activation_bits: 8 },
        Self { name: "cloud", bits: Bits::Eight, group_size: 128, time_groups: 4, activation_bits: 8 },
    ];

    /// Groups of timesteps where neither a profile nor a number is named.
    pub const TIME_GROUPS: u32 = 8;
    /// Bits per activation where neither a profile nor a number is named.
    pub const ACTIVATION_BITS: u8 = 8;

    /// The bits per activation as the quantizers take them.
    ///
    /// # Errors
    /// The number is not accepted.
    pub fn activation_bits(&self) -> Result<ActivationBits, OptionsError> {
        ActivationBits::try_from(i64::from(self.activation_bits))
    }
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
            assert_eq!(profile.activation_bits().unwrap().get(), profile.activation_bits);
        }
        let error = "phone".parse::<Profile>().unwrap_err().to_string();
        assert_eq!(error, "the profile must be 'edge', 'local' or 'cloud', not 'phone'");
    }
}
