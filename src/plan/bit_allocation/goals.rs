//! The goals that the widths of the tensors reach together, and the choice that reaches them.

use std::fmt;

use super::{
    knapsack::{Candidate, allocate},
    width::Width,
};
use crate::{
    model::{Model, tensor::Tensor},
    plan::{
        selection::Choice,
        spec::{Spec, spelling::spell},
    },
    storage::error::IoError,
    types::{Bits, Method, QuantizeOptions},
};

/// The most that all tensors together may take.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Budget {
    /// Bytes of all tensors in the output, those that are copied unchanged included.
    Size(u64),
    /// Bits that a quantized weight takes: codes, scales, zero points and row scales.
    BitsPerWeight(f64),
}

impl fmt::Display for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Size(bytes) => write!(f, "`target_size` {bytes}"),
            Self::BitsPerWeight(bits) => write!(f, "`target_bpw` {bits}"),
        }
    }
}

/// The goals of the widths. Without any goal they are those of the rules.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Goals {
    /// The least signal-to-noise ratio of each quantized tensor, in dB.
    pub min_sqnr: Option<f64>,
    /// The most that all tensors together may take.
    pub budget: Option<Budget>,
}

impl Goals {
    /// Returns the goals of a spec; `None` means that it has none.
    #[must_use]
    pub fn of(spec: &Spec) -> Option<Self> {
        let size = spec.target_size.map(|size| Budget::Size(size.as_u64()));
        let budget = size.or(spec.target_bpw.map(Budget::BitsPerWeight));
        spec.has_bit_budget().then_some(Self { min_sqnr: spec.min_sqnr, budget })
    }

    /// Returns the ways in which a tensor may be quantized: none where it is copied unchanged, one where its bits were asked for
    /// by name, all widths under a budget, else those from that of the rules up. `method` is the one asked for, if any.
    pub fn candidates(&self, choice: &Choice, method: Option<Method>) -> Vec<QuantizeOptions> {
        let Some(options) = choice.options else { return Vec::new() };
        if choice.pinned {
            return vec![options];
        }
        let may = |bits: &Bits| self.budget.is_some() || *bits >= options.bits;
        let with = |bits| options.with_bits(bits).with_method(method.unwrap_or(Method::default_for(bits)));
        Bits::ALL.into_iter().filter(may).map(with).collect()
    }

    /// Returns the choice that reaches the goals: under a budget that of the least total squared error, else the fewest
    /// bits for each tensor. `widths` holds for each tensor of the model what its candidates take and lose, fewest bits
    /// first.
    ///
    /// # Errors
    /// Returns an error if a tensor misses the ratio at every width, or the budget is too small; the message
    /// says what can be had.
    pub fn choose(&self, model: &Model, choices: &[Choice], widths: &[Vec<Width>]) -> Result<Vec<Choice>, IoError> {
        let allowed = self.allowed(model, widths)?;
        let taken: Vec<usize> = match self.budget {
            Some(budget) => within(budget, model, choices, &allowed)?,
            None => vec![0; allowed.len()],
        };
        let choose = |(tensor, choice): (usize, &Choice)| {
            let Some(width) = allowed[tensor].get(taken[tensor]) else { return choice.clone() };
            let note = self.note(choice, &widths[tensor], width);
            Choice { options: Some(width.options), note, ..choice.clone() }
        };
        Ok(choices.iter().enumerate().map(choose).collect())
    }

    /// Returns the widths that reach the ratio.
    fn allowed(&self, model: &Model, widths: &[Vec<Width>]) -> Result<Vec<Vec<Width>>, IoError> {
        let Some(limit) = self.min_sqnr else { return Ok(widths.to_vec()) };
        let reach = |widths: &Vec<Width>| widths.iter().filter(|width| width.sqnr() >= limit).copied().collect();
        let allowed: Vec<Vec<Width>> = widths.iter().map(reach).collect();
        let missing: Vec<(&Tensor, &Width)> = model
            .tensors()
            .iter()
            .zip(widths.iter().zip(&allowed))
            .filter(|(_, (_, allowed))| allowed.is_empty())
            .filter_map(|(tensor, (widths, _))| {
                Some((tensor, widths.iter().max_by(|a, b| a.sqnr().total_cmp(&b.sqnr()))?))
            })
            .collect();
        let Some((worst, width)) = missing.iter().min_by(|(_, a), (_, b)| a.sqnr().total_cmp(&b.sqnr())) else {
            return Ok(allowed);
        };
        let tensors = if missing.len() == 1 { "1 tensor misses" } else { &format!("{} tensors miss", missing.len()) };
        Err(IoError::Request(format!(
            "{tensors} `min_sqnr` {limit} at every width that may be taken, the worst '{}' with {:.2} dB at {} bits; \
             `exclude` leaves a tensor as it is",
            worst.name,
            width.sqnr(),
            width.options.bits
        )))
    }

    /// Returns the goal that gave a tensor its bits; the note of the rules where no goal did.
    fn note(&self, choice: &Choice, widths: &[Width], width: &Width) -> String {
        if choice.pinned {
            return choice.note.clone();
        }
        if let Some(budget) = self.budget {
            return format!("bits by {}", spell(&budget.to_string(), str::to_owned));
        }
        match (self.min_sqnr, widths.first()) {
            (Some(limit), Some(first)) if first.options.bits != width.options.bits => {
                format!("bits by min_sqnr {limit}: {} bits give {:.2} dB", first.options.bits, first.sqnr())
            }
            _ => choice.note.clone(),
        }
    }
}

impl Budget {
    /// Returns the bytes that the quantized tensors may take; none where the others take more.
    #[must_use]
    pub fn bytes(&self, model: &Model, choices: &[Choice]) -> Option<u64> {
        let shares = Shares::of(model, choices);
        match self {
            Self::Size(bytes) => bytes.checked_sub(shares.carried),
            Self::BitsPerWeight(bits) => Some((bits * shares.weights as f64 / 8.0) as u64),
        }
    }

    /// Returns the error of a budget that is less than the `least` bytes of the quantized tensors that can be had.
    #[must_use]
    pub fn too_small(&self, model: &Model, choices: &[Choice], least: u64) -> IoError {
        let Shares { carried, weights } = Shares::of(model, choices);
        let least = match self {
            Self::Size(_) => {
                format!("{} bytes, {carried} of them for tensors that are copied unchanged", least + carried)
            }
            // Rounded up, so that what is said can be asked for.
            Self::BitsPerWeight(_) => format!("{:.4} bits", (least as f64 * 8e4 / weights as f64).ceil() / 1e4),
        };
        IoError::Request(format!("{self} is too small; the least that can be had is {least}"))
    }
}

/// The tensors of a model by their choices.
struct Shares {
    /// Bytes of those that are copied unchanged.
    carried: u64,
    /// Weights of those that are quantized.
    weights: usize,
}

impl Shares {
    fn of(model: &Model, choices: &[Choice]) -> Self {
        let tensors = || model.tensors().iter().zip(choices);
        Self {
            carried: tensors().filter(|(_, c)| c.options.is_none()).map(|(one, _)| model.carried_bytes(one)).sum(),
            weights: tensors().filter(|(_, c)| c.options.is_some()).map(|(tensor, _)| tensor.elements()).sum(),
        }
    }
}

/// Returns the width that each tensor takes within the budget; 0 for those without any.
fn within(budget: Budget, model: &Model, choices: &[Choice], widths: &[Vec<Width>]) -> Result<Vec<usize>, IoError> {
    let (chosen, candidates): (Vec<usize>, Vec<Vec<Candidate>>) = widths
        .iter()
        .enumerate()
        .filter(|(_, widths)| !widths.is_empty())
        .map(|(at, widths)| (at, widths.iter().map(|w| Candidate { bytes: w.bytes, error: w.errors.err2 }).collect()))
        .unzip();
    let Some(taken) = budget.bytes(model, choices).and_then(|bytes| allocate(&candidates, bytes)) else {
        let least = candidates.iter().filter_map(|all| all.iter().map(|candidate| candidate.bytes).min()).sum();
        return Err(budget.too_small(model, choices, least));
    };
    let mut all = vec![0; widths.len()];
    for (at, taken) in chosen.into_iter().zip(taken) {
        all[at] = taken;
    }
    Ok(all)
}
