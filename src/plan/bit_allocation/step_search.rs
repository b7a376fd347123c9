//! The searches for steps of entropy-coded weights: the one at which all tensors take a budget, and that of a tensor at which it
//! keeps a ratio.

/// The share of a budget that is to be used at least.
const USED: f64 = 0.995;

/// Rounds a step to twelve significant bits: what the last bits of a logarithm are is no matter then.
#[must_use]
pub fn rounded(step: f64) -> f32 {
    let step = (step as f32).clamp(f32::MIN_POSITIVE, f32::MAX / 2.0);
    f32::from_bits((step.to_bits() + 0x7ff) & !0xfff)
}

/// The search for the step of all tensors.
///
/// A sample of the weights gives a curve of bytes over steps. A pass over all weights then says how far off it is at one step, which
/// is nearly as much at the steps near by.
#[derive(Debug)]
pub struct BudgetSearch {
    budget: f64,
    /// Logarithms of steps, the least first, and the bytes at them, which fall.
    curve: Vec<(f64, f64)>,
    /// The bytes that the curve lacks.
    offset: f64,
    tries: usize,
    /// The step that takes the most of the budget, with its bytes.
    best: Option<(f32, f64)>,
}

impl BudgetSearch {
    /// Passes over all weights, at most.
    pub const TRIES: usize = 6;

    /// Begins the search with the bytes that some steps take by a sample.
    #[must_use]
    pub fn new(budget: f64, steps: impl IntoIterator<Item = (f32, f64)>) -> Self {
        let mut curve: Vec<(f64, f64)> =
            steps.into_iter().map(|(step, bytes)| (f64::from(step).log2(), bytes)).collect();
        curve.sort_by(|a, b| a.0.total_cmp(&b.0));
        curve.dedup_by(|a, b| a.0 == b.0);
        Self { budget, curve, offset: 0.0, tries: 0, best: None }
    }

    /// Returns the next step to try with all weights; none where the best one is found.
    #[must_use]
    pub fn next(&self) -> Option<f32> {
        let used = self.best.map_or(0.0, |(_, bytes)| bytes);
        if used >= USED * self.budget || self.tries >= Self::TRIES {
            return None;
        }
        let margin = 0.0015 * (self.tries + 1) as f64;
        let wanted = self.budget * (1.0 - margin) - self.offset;
        let step = rounded(self.step_at(wanted).exp2());
        (self.best.map(|(best, _)| best) != Some(step)).then_some(step)
    }

    /// Takes the bytes of all weights at a step.
    pub fn take(&mut self, step: f32, bytes: f64) {
        self.tries += 1;
        if bytes <= self.budget && self.best.is_none_or(|(_, best)| bytes > best) {
            self.best = Some((step, bytes));
        }
        self.offset = bytes - self.bytes_at(f64::from(step).log2());
    }

    /// Counts a try that does not count otherwise.
    pub const fn retry(&mut self) {
        self.tries += 1;
    }

    /// Returns the step that takes the most of the budget, of those that were tried.
    #[must_use]
    pub fn best(&self) -> Option<f32> {
        self.best.map(|(step, _)| step)
    }

    /// Returns the piece of the curve to go by: the first whose end is `past`, or the last.
    fn piece(&self, past: impl Fn(&(f64, f64)) -> bool) -> [(f64, f64); 2] {
        let at = self.curve.iter().skip(1).position(past).unwrap_or(self.curve.len().saturating_sub(2));
        match self.curve.get(at..at + 2) {
            Some([a, b]) => [*a, *b],
            // A curve of one point falls by a bit where the step doubles, whatever that takes.
            _ => self.curve.first().map_or([(0.0, 1.0), (1.0, 0.5)], |(x, y)| [(*x, *y), (x + 1.0, y / 2.0)]),
        }
    }

    fn bytes_at(&self, x: f64) -> f64 {
        let [(x0, y0), (x1, y1)] = self.piece(|(end, _)| *end >= x);
        y0 + (y1 - y0) * (x - x0) / (x1 - x0)
    }

    fn step_at(&self, y: f64) -> f64 {
        let [(x0, y0), (x1, y1)] = self.piece(|(_, bytes)| *bytes <= y);
        // Never flat: the least steps are of no use, and the curve ends where it is.
        let slope = (y1 - y0) / (x1 - x0);
        if slope < 0.0 { (x0 + (y - y0) / slope).clamp(x0 - 4.0, x1 + 4.0) } else { x0 }
    }
}

/// The search for the largest step at which a tensor keeps a signal-to-noise ratio.
#[derive(Debug)]
pub struct RatioSearch {
    goal: f64,
    /// The next step to try.
    pub step: f32,
    /// The smallest step that loses too much, and the largest that does not.
    too_large: f32,
    fits: Option<f32>,
    /// The ratio of the last try, in dB.
    pub last: f64,
    tries: usize,
}

impl RatioSearch {
    /// Decibels above the goal that are near enough.
    const NEAR: f64 = 0.05;
    const TRIES: usize = 10;

    /// Begins the search for a tensor whose weights have the root mean square `rms`.
    #[must_use]
    pub fn new(goal: f64, rms: f64) -> Self {
        // The mean squared error is 0.27 squared steps, about.
        let step = rounded(rms * 10f64.powf(-goal / 20.0) * 1.92);
        Self { goal, step, too_large: f32::MAX, fits: None, last: f64::NEG_INFINITY, tries: 0 }
    }

    /// Takes the ratio in dB that the step gave. Returns true where the search is over.
    pub fn take(&mut self, db: f64) -> bool {
        self.tries += 1;
        self.last = db;
        let (tried, fits) = (self.step, db >= self.goal);
        if fits {
            self.fits = Some(self.fits.map_or(tried, |best| best.max(tried)));
        } else {
            self.too_large = self.too_large.min(tried);
        }
        let best = self.fits.unwrap_or(0.0);
        let near = fits && (db - self.goal <= Self::NEAR || !db.is_finite());
        if near || self.tries >= Self::TRIES || self.too_large / best <= 1.003 {
            return true;
        }
        let change = if db.is_finite() { (db - self.goal - Self::NEAR / 3.0) / 20.0 } else { -0.3 };
        let next = rounded(f64::from(tried) * 10f64.powf(change.clamp(-1.0, 1.0)));
        let between = next > best && next < self.too_large;
        self.step =
            if between { next } else { rounded((f64::from(best.max(tried / 4.0)) * f64::from(self.too_large)).sqrt()) };
        false
    }

    /// Returns the step; none where no step that was tried keeps the ratio.
    #[must_use]
    pub const fn found(&self) -> Option<f32> {
        self.fits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bytes of a million weights that take about a bit less for twice the step, and no less than 1.1 bits.
    fn bytes(step: f32) -> f64 {
        let x = f64::from(step).log2();
        125_000.0 * ((1.0 - x) + 0.03 * (x + 4.0).powi(2)).max(1.1)
    }

    #[test]
    fn a_budget_is_used_up_by_few_passes_and_never_passed() {
        for bits in [1.2, 2.0, 2.5, 3.3, 6.0] {
            for error in [0.97, 1.0, 1.04] {
                let budget = 125_000.0 * bits;
                let sample = (-4..3).map(|x| 0.3 * 2f32.powf(0.5 * x as f32)).map(|step| (step, error * bytes(step)));
                let (mut search, mut passes) = (BudgetSearch::new(budget, sample), 0);
                while let Some(step) = search.next() {
                    search.take(step, bytes(step));
                    passes += 1;
                }
                let used = bytes(search.best().unwrap()) / budget;
                assert!((0.995..=1.0).contains(&used) && passes <= 4, "{bits} {error}: {used} after {passes}");
            }
        }
    }

    #[test]
    fn a_ratio_is_kept_and_hardly_passed() {
        for (goal, constant) in [(3.0, 0.27), (20.0, 0.2), (40.0, 0.33)] {
            let db = |step: f32| -10.0 * (constant * f64::from(step).powi(2) / 0.04).log10();
            let mut search = RatioSearch::new(goal, 0.2);
            while !search.take(db(search.step)) {}
            let got = db(search.found().unwrap());
            assert!(got >= goal && got < goal + 0.06, "{got} for {goal}");
        }
        // Weights of which no step keeps enough, and weights that lose nothing.
        let mut search = RatioSearch::new(20.0, 0.2);
        while !search.take(1.0) {}
        assert_eq!(search.found(), None);
        assert!(RatioSearch::new(20.0, 0.2).take(f64::INFINITY));
    }
}
