//! The steps at which entropy-coded weights reach a run's goals, measured through `sql/entropy_steps.sql`: some steps with a sample
//! of the rows, then the one that they lead to with all rows.

mod trial;

use super::Survey;
use crate::{
    plan::{
        bit_allocation::{
            entropy::Entropy,
            goals::{Budget, Goals, Shares},
            step_search::{BudgetSearch, RatioSearch, rounded},
        },
        spec::spelling::spell,
    },
    run::{Cancel, RunError, RunSettings, plan::Plan, progress::Progress, workers::threads_within},
    sql::threads::runtime,
    storage::error::IoError,
    types::quantized::ENTROPY_ROW_BYTES,
};
use trial::{Tried, Try, try_steps};

/// Weights of a sample, about, where a model has more.
const SAMPLE: usize = 4 << 20;
/// Rows of a tensor that a sample has at least, where the tensor has as many.
const LEAST_ROWS: usize = 16;
/// A step beyond every weight: all levels are zero.
const BEYOND: f32 = 1e30;
/// The steps that a sample is tried with, as powers of two of the one that is expected.
const AROUND: [f64; 6] = [-1.2, -0.8, -0.4, 0.0, 0.4, 0.8];
/// The most bits a weight that codes may take.
const MOST_BITS: f64 = 8.0;

/// The tensors whose steps are searched.
struct Coded<'a> {
    plan: &'a Plan,
    survey: Survey<'a>,
    tensors: Vec<usize>,
    /// The root mean square of the weights of each, by a sample.
    rms: Vec<f64>,
    /// The largest step that each may have.
    most: Vec<f32>,
}

/// The steps that were found, and what each tensor takes and loses with its own.
type Found = (Vec<f32>, Vec<Tried>);

impl Plan {
    /// Finds the steps that reach the goals: one for all tensors under a budget, but for those of which it would leave too little;
    /// else for each tensor the largest that keeps the ratio.
    ///
    /// # Errors
    /// Returns an error if weights are not finite, a file cannot be read, the run was cancelled, or a goal cannot be reached
    /// (the message says what can).
    pub(super) fn find_steps(
        &mut self,
        goals: Goals,
        settings: &RunSettings,
        progress: &dyn Progress,
        cancel: &Cancel,
    ) -> Result<(), RunError> {
        let tensors: Vec<usize> = (0..self.choices.len())
            .filter(|n| self.choices[*n].entropy.is_some() && !self.choices[*n].pinned)
            .collect();
        let threads = threads_within(settings, self.loaded, self.longest_row())?;
        let runtime = runtime(1)?;
        let survey = Survey { threads, runtime: runtime.handle(), progress, cancel };
        let mut coded = Coded { plan: self, survey, tensors, rms: Vec::new(), most: Vec::new() };
        coded.measure_rms()?;
        let by_ratio = goals.min_sqnr.map(|goal| coded.keep_ratio(goal)).transpose()?;
        let found = match (goals.budget, by_ratio) {
            (Some(budget), _) => coded.spend(budget, goals.min_sqnr)?,
            (None, Some(found)) => found,
            (None, None) => return Ok(()),
        };
        let (tensors, most) = (coded.tensors, coded.most);
        for (((number, most), step), tried) in tensors.into_iter().zip(most).zip(found.0).zip(found.1) {
            let tensor = &self.model.tensors()[number];
            let codes = tried.bytes - (ENTROPY_ROW_BYTES * tensor.rows) as f64;
            let choice = &mut self.choices[number];
            choice.entropy = Some(Entropy { bits: codes * 8.0 / tensor.elements() as f64, step: Some(step) });
            let ratio = goals.min_sqnr.map(|goal| format!("`min_sqnr` {goal}"));
            let note = match (goals.budget, ratio) {
                (Some(budget), _) if step < most => format!("step by {budget}"),
                (_, Some(ratio)) => format!("step by {ratio}"),
                _ => "step by the deviation of its weights, of which that of the others would leave little".to_owned(),
            };
            let note = format!("{}, {:.2} dB", spell(&note, str::to_owned), tried.sqnr());
            choice.note = if choice.note.is_empty() { note } else { format!("{}; {note}", choice.note) };
        }
        self.selected.clone_from(&self.choices);
        Ok(())
    }
}

impl Coded<'_> {
    /// Measures how large the weights of each tensor are, and allows steps up to that, which leave about 6 dB.
    fn measure_rms(&mut self) -> Result<(), RunError> {
        let steps = vec![BEYOND; self.tensors.len()];
        let tried = self.sample(&steps)?;
        self.rms = tried.iter().map(|one| (one.errors.a2 / (one.errors.n as f64).max(1.0)).sqrt()).collect();
        self.most = self.rms.iter().map(|rms| if *rms > 0.0 { rounded(*rms) } else { f32::MAX }).collect();
        Ok(())
    }

    /// Finds for each tensor the largest step that keeps a ratio, which is then the largest that it may have.
    fn keep_ratio(&mut self, goal: f64) -> Result<Found, RunError> {
        let mut searches: Vec<_> =
            self.rms.iter().map(|rms| RatioSearch::new(goal, rms.max(f64::MIN_POSITIVE))).collect();
        let mut found: Vec<Option<Tried>> = vec![None; searches.len()];
        let mut open: Vec<usize> = (0..searches.len()).collect();
        while !open.is_empty() {
            let tries = open.iter().map(|at| Try { tensor: self.tensors[*at], step: searches[*at].step, every: 1 });
            let tried = try_steps(self.plan, self.survey, &tries.collect::<Vec<_>>())?;
            let mut left = Vec::new();
            for (at, tried) in open.into_iter().zip(tried) {
                let search = &mut searches[at];
                let step = search.step;
                let over = search.take(tried.sqnr());
                if search.found() == Some(step) {
                    found[at] = Some(tried);
                }
                if !over {
                    left.push(at);
                }
            }
            open = left;
        }
        let mut missing = Vec::new();
        let mut all = Vec::new();
        for (at, (search, tried)) in searches.iter().zip(found).enumerate() {
            let tensor = &self.plan.model.tensors()[self.tensors[at]];
            match (search.found(), tried) {
                (Some(step), Some(tried)) if tried.bytes * 8.0 <= MOST_BITS * tensor.elements() as f64 => {
                    all.push((step, tried));
                }
                _ => missing.push((&tensor.name, search.last)),
            }
        }
        if let Some((name, _)) = missing.first() {
            let count = missing.len();
            let tensors = if count == 1 { "1 tensor misses" } else { &format!("{count} tensors miss") };
            return Err(IoError::Request(format!(
                "{tensors} `min_sqnr` {goal} with {MOST_BITS} bits a weight, the first '{name}'; `exclude` leaves a tensor as it is"
            ))
            .into());
        }
        let (steps, tried): Found = all.into_iter().unzip();
        self.most.clone_from(&steps);
        Ok((steps, tried))
    }

    /// Finds the step with which all tensors take the most of a budget.
    fn spend(&mut self, budget: Budget, ratio: Option<f64>) -> Result<Found, RunError> {
        let (model, choices) = (&self.plan.model, &self.plan.choices);
        let by_name = model.tensors().iter().zip(choices).filter(|(_, choice)| choice.pinned);
        let pinned: u64 = by_name.map(|(tensor, choice)| choice.bytes_out(model, tensor)).sum();
        let weights: f64 = self.elements().map(|(elements, _)| elements).sum();
        let rows: f64 = self.elements().map(|(_, rows)| rows).sum();
        let bytes = budget.bytes(Shares::of(model, choices)).map(|bytes| bytes as f64 - pinned as f64);
        if self.tensors.is_empty() {
            let fits = bytes.is_some_and(|bytes| bytes >= 0.0);
            let too_small = || budget.too_small(Shares::of(model, choices), pinned).into();
            return if fits { Ok(Found::default()) } else { Err(too_small()) };
        }
        // More than the most bits a weight are of no use.
        let most = weights * MOST_BITS / 8.0 + rows * ENTROPY_ROW_BYTES as f64;
        let bytes = bytes.unwrap_or(-1.0).min(most);
        let expected = self.expected((bytes - rows * ENTROPY_ROW_BYTES as f64).max(0.0) * 8.0);
        let sample: Vec<f32> =
            AROUND.iter().map(|octave| rounded(expected * octave.exp2())).chain([self.largest()]).collect();
        let steps: Vec<f32> = sample.iter().flat_map(|step| self.limited(*step)).collect();
        let tried = self.sample(&steps)?;
        let sums = tried.chunks(self.tensors.len()).map(|all| all.iter().map(|one| one.bytes).sum());
        let sums: Vec<f64> = sums.collect();
        let near_least = sums.last().is_none_or(|least| *least > 0.95 * bytes);
        let mut found = if near_least { Some(self.least(budget, pinned, bytes)?) } else { None };
        let mut search = BudgetSearch::new(bytes, sample.into_iter().zip(sums));
        while let Some(step) = search.next() {
            let (tried, bytes) = self.all_at(step)?;
            // A smaller step keeps more, but not strictly.
            let kept = |one: &Tried| ratio.is_none_or(|ratio| one.sqnr() >= ratio);
            let missing: Vec<usize> = (0..tried.len()).filter(|at| !kept(&tried[*at])).collect();
            if !missing.is_empty() {
                for at in missing {
                    self.most[at] = rounded(f64::from(self.most[at].min(step)) * 0.99);
                }
                search.retry();
                continue;
            }
            search.take(step, bytes);
            if search.best() == Some(step) {
                found = Some((self.limited(step), tried));
            }
        }
        found.map_or_else(|| self.least(budget, pinned, bytes), Ok)
    }

    /// Tries the largest step that each tensor may have.
    ///
    /// # Errors
    /// Returns an error if that takes more than `bytes`, which are the budget without what is `pinned`.
    fn least(&self, budget: Budget, pinned: u64, bytes: f64) -> Result<Found, RunError> {
        let (tried, least) = self.all_at(self.largest())?;
        if least > bytes {
            return Err(budget
                .too_small(Shares::of(&self.plan.model, &self.plan.choices), pinned + least as u64)
                .into());
        }
        Ok((self.limited(self.largest()), tried))
    }

    /// Returns the elements and the rows of each tensor.
    fn elements(&self) -> impl Iterator<Item = (f64, f64)> {
        let tensors = self.tensors.iter().map(|number| &self.plan.model.tensors()[*number]);
        tensors.map(|tensor| (tensor.elements() as f64, tensor.rows as f64))
    }

    /// Returns the step of each tensor where all have one, but no larger than it may have.
    fn limited(&self, step: f32) -> Vec<f32> {
        self.most.iter().map(|most| most.min(step)).collect()
    }

    /// Returns a step that is no less than any tensor may have.
    fn largest(&self) -> f32 {
        self.most.iter().copied().filter(|most| *most < f32::MAX).fold(1e-30, f32::max)
    }

    /// Returns the step at which normal weights of these sizes take so many bits together.
    fn expected(&self, bits: f64) -> f64 {
        let taken = |step: f64| -> f64 {
            let tensors = self.elements().zip(self.rms.iter().zip(&self.most));
            let one = |rms: f64, most: f32| 0.5 * (1.0 + (2.07 * rms / step.min(f64::from(most))).powi(2)).log2();
            tensors.map(|((elements, _), (rms, most))| elements * one(*rms, *most)).sum()
        };
        let largest = f64::from(self.largest());
        let (mut low, mut high) = (largest * 2f64.powi(-40), largest);
        for _ in 0..60 {
            let middle = (low * high).sqrt();
            if taken(middle) > bits { low = middle } else { high = middle }
        }
        high
    }

    /// Tries a step with all rows of all tensors. Returns the bytes of all as well.
    fn all_at(&self, step: f32) -> Result<(Vec<Tried>, f64), RunError> {
        let tries = self.tensors.iter().zip(self.limited(step));
        let tried = try_steps(
            self.plan,
            self.survey,
            &tries.map(|(tensor, step)| Try { tensor: *tensor, step, every: 1 }).collect::<Vec<_>>(),
        )?;
        let bytes = tried.iter().map(|one| one.bytes).sum();
        Ok((tried, bytes))
    }

    /// Tries steps with a sample of the rows: one step for each tensor, and as often again as there are more steps.
    fn sample(&self, steps: &[f32]) -> Result<Vec<Tried>, RunError> {
        let weights: f64 = self.elements().map(|(elements, _)| elements).sum();
        let every = (weights / SAMPLE as f64) as usize;
        let tries = steps.iter().zip(self.tensors.iter().cycle()).map(|(step, tensor)| {
            let rows = self.plan.model.tensors()[*tensor].rows;
            // Odd, so that the rows are not all the same ones of heads whose size is a power of two.
            Try { tensor: *tensor, step: *step, every: every.min(rows / LEAST_ROWS) | 1 }
        });
        try_steps(self.plan, self.survey, &tries.collect::<Vec<_>>())
    }
}
