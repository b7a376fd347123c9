//! The goals that the widths of the tensors reach together, and the choice that reaches them.

use std::fmt;

use super::{
    knapsack::{Candidate, allocate},
    width::Width,
};
use crate::{
    model::Model,
    plan::{
        formats::format::Format,
        selection::Choice,
        spec::{Spec, spelling::spell},
    },
    storage::error::IoError,
    types::Method,
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

    /// Returns the choices that a tensor may have: none where it is copied unchanged, one where its bits were asked for by name,
    /// all widths of the format under a budget, else that of the rules and those of more bits. `method` is the one asked for, if any.
    pub fn candidates(&self, choice: &Choice, format: &dyn Format, method: Option<Method>) -> Vec<Choice> {
        let Some(options) = choice.options else { return Vec::new() };
        if choice.pinned {
            return vec![choice.clone()];
        }
        let widths = format.widths(choice, options, method);
        if self.budget.is_some() {
            return widths;
        }
        let wider = widths.into_iter().filter(|other| other.code_bits() > choice.code_bits());
        std::iter::once(choice.clone()).chain(wider).collect()
    }

    /// Returns the position of the width that each tensor takes to reach the goals: under a budget those of the least total squared
    /// error, else the fewest bits for each tensor. `widths` holds for each tensor of the model what its forms take and lose, fewest
    /// bits first, and `beside` the bytes of all else. The tensors of a group of `fused` take the same width.
    ///
    /// # Errors
    /// Returns an error if a tensor misses the ratio at every width, or the budget is too small; the message
    /// says what can be had.
    pub fn choose(
        &self,
        model: &Model,
        widths: &[Vec<Width>],
        beside: u64,
        fused: &[Vec<usize>],
    ) -> Result<Vec<usize>, IoError> {
        let items = items(widths, fused);
        let allowed = self.allowed(model, widths, &items)?;
        let taken: Vec<usize> = match self.budget {
            Some(budget) => {
                let weights = items.iter().flatten().map(|tensor| model.tensors()[*tensor].elements()).sum();
                within(budget, Shares { beside, weights }, widths, &items, &allowed)?
            }
            None => allowed.iter().map(|positions| positions[0]).collect(),
        };
        let mut all = vec![0; widths.len()];
        for (tensors, taken) in items.into_iter().zip(taken) {
            for tensor in tensors {
                all[tensor] = taken;
            }
        }
        Ok(all)
    }

    /// Returns for each item the positions of the widths at which all its tensors reach the ratio.
    fn allowed(&self, model: &Model, widths: &[Vec<Width>], items: &[Vec<usize>]) -> Result<Vec<Vec<usize>>, IoError> {
        let reaches = |width: &Width| self.min_sqnr.is_none_or(|limit| width.sqnr() >= limit);
        let allowed = items.iter().map(|tensors| {
            let positions = 0..widths[tensors[0]].len();
            positions.filter(|at| tensors.iter().all(|tensor| reaches(&widths[*tensor][*at]))).collect()
        });
        let allowed: Vec<Vec<usize>> = allowed.collect();
        let missing = items.iter().zip(&allowed).filter(|(_, allowed)| allowed.is_empty());
        let missing: Vec<(usize, &Width)> = missing
            .filter_map(|(tensors, _)| {
                let best = |tensor: &usize| widths[*tensor].iter().max_by(|a, b| a.sqnr().total_cmp(&b.sqnr()));
                let best = tensors.iter().filter_map(|tensor| Some((*tensor, best(tensor)?)));
                best.min_by(|(_, a), (_, b)| a.sqnr().total_cmp(&b.sqnr()))
            })
            .collect();
        let worst = missing.iter().min_by(|(_, a), (_, b)| a.sqnr().total_cmp(&b.sqnr()));
        let (Some((worst, width)), Some(limit)) = (worst, self.min_sqnr) else { return Ok(allowed) };
        let tensors = if missing.len() == 1 { "1 tensor misses" } else { &format!("{} tensors miss", missing.len()) };
        Err(IoError::Request(format!(
            "{tensors} `min_sqnr` {limit} at every width that may be taken, the worst '{}' with {:.2} dB at {} bits; \
             `exclude` leaves a tensor as it is",
            model.tensors()[*worst].name,
            width.sqnr(),
            width.form.choice.code_bits()
        )))
    }

    /// Returns the choice of a width for a tensor. Its note says which goal gave its bits; it is that of the rules where no goal did.
    pub fn chosen(&self, choice: &Choice, widths: &[Width], taken: usize) -> Choice {
        let Some(width) = widths.get(taken) else { return choice.clone() };
        let note = match (self.budget, self.min_sqnr) {
            _ if choice.pinned => choice.note.clone(),
            (Some(budget), _) => format!("bits by {}", spell(&budget.to_string(), str::to_owned)),
            (None, Some(limit)) if taken > 0 => {
                let (bits, sqnr) = (widths[0].form.choice.code_bits(), widths[0].sqnr());
                format!("bits by min_sqnr {limit}: {bits} bits give {sqnr:.2} dB")
            }
            _ => choice.note.clone(),
        };
        Choice { note, ..width.form.choice.clone() }
    }
}

/// Returns the tensors that take a width together: those of each group that may, the others alone.
fn items(widths: &[Vec<Width>], fused: &[Vec<usize>]) -> Vec<Vec<usize>> {
    let together = |group: &&Vec<usize>| group.iter().all(|tensor| widths[*tensor].len() == widths[group[0]].len());
    let groups: Vec<&Vec<usize>> = fused.iter().filter(together).collect();
    let mut leader: Vec<usize> = (0..widths.len()).collect();
    for group in &groups {
        for tensor in *group {
            leader[*tensor] = group[0];
        }
    }
    let mut items: Vec<Vec<usize>> = vec![Vec::new(); widths.len()];
    for (tensor, leader) in leader.into_iter().enumerate().filter(|(tensor, _)| !widths[*tensor].is_empty()) {
        items[leader].push(tensor);
    }
    items.retain(|item| !item.is_empty());
    items
}

/// The bytes and the weights that a budget counts.
#[derive(Debug, Clone, Copy)]
pub struct Shares {
    /// Bytes beside the quantized tensors.
    pub beside: u64,
    /// Weights of the quantized tensors.
    pub weights: usize,
}

impl Shares {
    /// Returns those of parts of our own, which have nothing beside the tensors.
    pub fn of(model: &Model, choices: &[Choice]) -> Self {
        let tensors = || model.tensors().iter().zip(choices);
        Self {
            beside: tensors().filter(|(_, c)| c.options.is_none()).map(|(one, _)| model.carried_bytes(one)).sum(),
            weights: tensors().filter(|(_, c)| c.options.is_some()).map(|(tensor, _)| tensor.elements()).sum(),
        }
    }
}

impl Budget {
    /// Returns the bytes that the quantized tensors may take; none where the others take more.
    #[must_use]
    pub fn bytes(&self, shares: Shares) -> Option<u64> {
        match self {
            Self::Size(bytes) => bytes.checked_sub(shares.beside),
            Self::BitsPerWeight(bits) => Some((bits * shares.weights as f64 / 8.0) as u64),
        }
    }

    /// Returns the error of a budget that is less than the `least` bytes of the quantized tensors that can be had.
    #[must_use]
    pub fn too_small(&self, shares: Shares, least: u64) -> IoError {
        let Shares { beside, weights } = shares;
        let least = match self {
            Self::Size(_) => {
                format!("{} bytes, {beside} of them for tensors that are copied unchanged", least + beside)
            }
            // Rounded up, so that what is said can be asked for.
            Self::BitsPerWeight(_) => format!("{:.4} bits", (least as f64 * 8e4 / weights as f64).ceil() / 1e4),
        };
        IoError::Request(format!("{self} is too small; the least that can be had is {least}"))
    }
}

/// Returns the position of the width that each item takes within the budget.
fn within(
    budget: Budget,
    shares: Shares,
    widths: &[Vec<Width>],
    items: &[Vec<usize>],
    allowed: &[Vec<usize>],
) -> Result<Vec<usize>, IoError> {
    let candidates = items.iter().zip(allowed).map(|(tensors, positions)| {
        let at = |position: &usize| Candidate {
            bytes: tensors.iter().map(|tensor| widths[*tensor][*position].form.bytes).sum(),
            error: tensors.iter().map(|tensor| widths[*tensor][*position].errors.err2).sum(),
        };
        positions.iter().map(at).collect()
    });
    let candidates: Vec<Vec<Candidate>> = candidates.collect();
    let Some(taken) = budget.bytes(shares).and_then(|bytes| allocate(&candidates, bytes)) else {
        let least = candidates.iter().filter_map(|all| all.iter().map(|candidate| candidate.bytes).min()).sum();
        return Err(budget.too_small(shares, least));
    };
    Ok(taken.into_iter().zip(allowed).map(|(taken, positions)| positions[taken]).collect())
}
