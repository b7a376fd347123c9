//! The width of each tensor under a budget: of all ways to stay within it, the one of the least total error.
//!
//! A multiple-choice knapsack. The steps along the convex hull of each tensor's candidates, taken greedily by the error
//! they save per byte, give a good choice, and a bound that no choice of the tensors left can beat. Dynamic programming
//! over (bytes, error) then looks through every choice that the bound does not rule out.

/// The size and the error of a tensor at one width.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Candidate {
    /// The bytes that it takes.
    pub bytes: u64,
    /// The error that it makes; never negative.
    pub error: f64,
}

/// The least saving worth looking for, as a share of the total error: far below what tells models apart.
const WORTH: f64 = 1e-6;

/// Choices of the first tensors that are kept. Hundreds of tensors of a few shapes need a few thousand.
const MOST: usize = 1 << 17;

/// Choices that are kept of all tensors together. Where there are many tensors, the greedy choice is the nearer to the best:
/// it falls short by less than one step of one tensor.
const MOST_OF_ALL: usize = 40_000_000;

/// Returns the position of the candidate that each tensor takes; none when even the smallest do not fit the budget
/// together.
///
/// The total error is within a millionth of the least one possible. (Of more than [`MOST`] choices side by side, which
/// takes hundreds of tensors of unlike sizes, the most promising are kept, and the result may be short of that.)
pub fn allocate(tensors: &[Vec<Candidate>], budget: u64) -> Option<Vec<usize>> {
    let hulls: Vec<Vec<usize>> = tensors.iter().map(|candidates| hull(candidates)).collect();
    let least: Vec<u64> =
        tensors.iter().zip(&hulls).map(|(all, hull)| hull.first().map_or(0, |i| all[*i].bytes)).collect();
    let least_total = least.iter().try_fold(0u64, |sum, bytes| sum.checked_add(*bytes))?;
    if least_total > budget {
        return None;
    }
    let mut steps: Vec<HullStep> =
        tensors.iter().zip(&hulls).enumerate().flat_map(|(t, (all, hull))| steps(t, all, hull)).collect();
    // Of one tensor, steps save ever less per byte, so this keeps their order; equal ones stay as they are.
    steps.sort_by(|a, b| b.rate().total_cmp(&a.rate()));

    let greedy = greedy(&hulls, &steps, budget - least_total);
    let total = |choice: &[usize]| choice.iter().zip(tensors).map(|(i, all)| all[*i].error).sum::<f64>();
    let goal = total(&greedy) * (1.0 - WORTH);
    Some(search(tensors, &steps, &least, budget, goal).unwrap_or(greedy))
}

/// A step from one candidate on a tensor's hull to the next.
#[derive(Debug, Clone, Copy)]
struct HullStep {
    tensor: usize,
    to: usize,
    bytes: u64,
    saved: f64,
}

impl HullStep {
    fn rate(&self) -> f64 {
        self.saved / self.bytes as f64
    }
}

/// Returns the candidates on the lower convex hull, by bytes: each saves more per byte than those after it.
fn hull(candidates: &[Candidate]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..candidates.len()).collect();
    order.sort_by(|a, b| {
        let (a, b) = (&candidates[*a], &candidates[*b]);
        a.bytes.cmp(&b.bytes).then(a.error.total_cmp(&b.error))
    });
    let mut hull: Vec<usize> = Vec::new();
    for next in order {
        if hull.last().is_some_and(|last| candidates[next].error >= candidates[*last].error) {
            continue;
        }
        while let [.., before, last] = hull[..] {
            let rate = |from: usize, to: usize| {
                let (from, to) = (&candidates[from], &candidates[to]);
                (from.error - to.error) / (to.bytes - from.bytes) as f64
            };
            if rate(before, last) > rate(last, next) {
                break;
            }
            hull.pop();
        }
        hull.push(next);
    }
    hull
}

fn steps(tensor: usize, candidates: &[Candidate], hull: &[usize]) -> Vec<HullStep> {
    let step = |pair: &[usize]| {
        let (from, to) = (&candidates[pair[0]], &candidates[pair[1]]);
        HullStep { tensor, to: pair[1], bytes: to.bytes - from.bytes, saved: from.error - to.error }
    };
    hull.windows(2).map(step).collect()
}

/// Returns every step that still fits, the best first. A tensor of which one does not fit takes no more.
fn greedy(hulls: &[Vec<usize>], steps: &[HullStep], mut left: u64) -> Vec<usize> {
    let mut choice: Vec<usize> = hulls.iter().map(|hull| hull.first().copied().unwrap_or(0)).collect();
    let mut full = vec![false; hulls.len()];
    for step in steps {
        if !full[step.tensor] && step.bytes <= left {
            left -= step.bytes;
            choice[step.tensor] = step.to;
        } else {
            full[step.tensor] = true;
        }
    }
    choice
}

/// A choice for the first tensors.
#[derive(Debug, Clone, Copy)]
struct State {
    bytes: u64,
    error: f64,
    /// The state of one tensor less that it came from, and the candidate that was added.
    from: usize,
    candidate: usize,
}

/// Returns the choice of the least error below `goal`, if there is one.
fn search(tensors: &[Vec<Candidate>], steps: &[HullStep], least: &[u64], budget: u64, goal: f64) -> Option<Vec<usize>> {
    let mut levels = vec![vec![State { bytes: 0, error: 0.0, from: 0, candidate: 0 }]];
    let most = (MOST_OF_ALL / tensors.len().max(1)).clamp(1, MOST);
    let mut rest = Rest::new(tensors, steps, least);
    for candidates in tensors {
        rest.take_next();
        let mut states = Vec::new();
        for (from, state) in levels.last()?.iter().enumerate() {
            for (candidate, Candidate { bytes, error }) in candidates.iter().enumerate() {
                let next = State { bytes: state.bytes + bytes, error: state.error + error, from, candidate };
                if rest.bound(&next, budget).is_some_and(|bound| bound < goal) {
                    states.push(next);
                }
            }
        }
        states.sort_by(|a, b| a.bytes.cmp(&b.bytes).then(a.error.total_cmp(&b.error)));
        let mut best = f64::INFINITY;
        states.retain(|state| {
            state.error < best && {
                best = state.error;
                true
            }
        });
        if states.is_empty() {
            return None;
        }
        if states.len() > most {
            states.sort_by_cached_key(|state| rest.bound(state, budget).map_or(u64::MAX, f64::to_bits));
            states.truncate(most);
        }
        levels.push(states);
    }
    let mut at = levels.last()?.iter().enumerate().min_by(|(_, a), (_, b)| a.error.total_cmp(&b.error))?.0;
    let mut choice = vec![0; tensors.len()];
    for (level, choice) in levels.iter().skip(1).zip(&mut choice).rev() {
        (at, *choice) = (level[at].from, level[at].candidate);
    }
    Some(choice)
}

/// The best that the tensors after the first few can do.
struct Rest<'a> {
    steps: &'a [HullStep],
    /// The numbers of the steps of each tensor.
    of_tensor: Vec<Vec<usize>>,
    /// The least bytes, and the error that they make, of the tensors from each on.
    least: Vec<(u64, f64)>,
    /// Sums of the bytes and of the saved errors of the steps that are left: a binary indexed tree.
    sums: Vec<(u64, f64)>,
    /// Tensors that are not left.
    taken: usize,
}

impl<'a> Rest<'a> {
    /// Returns the rest when all tensors are left.
    fn new(tensors: &[Vec<Candidate>], steps: &'a [HullStep], least: &[u64]) -> Self {
        let most_error = |all: &Vec<Candidate>| {
            let least = all.iter().map(|candidate| candidate.bytes).min();
            let errors = all.iter().filter(|candidate| Some(candidate.bytes) == least).map(|candidate| candidate.error);
            errors.fold(f64::INFINITY, f64::min)
        };
        let mut from = vec![(0, 0.0); tensors.len() + 1];
        for (number, all) in tensors.iter().enumerate().rev() {
            let (bytes, error) = from[number + 1];
            from[number] = (bytes + least[number], error + most_error(all));
        }
        let mut of_tensor = vec![Vec::new(); tensors.len()];
        let mut sums = vec![(0, 0.0); steps.len() + 1];
        for (number, step) in steps.iter().enumerate() {
            of_tensor[step.tensor].push(number);
            let node = number + 1;
            let (bytes, saved) = (sums[node].0 + step.bytes, sums[node].1 + step.saved);
            sums[node] = (bytes, saved);
            if let Some(parent) = sums.get_mut(node + (node & node.wrapping_neg())) {
                *parent = (parent.0 + bytes, parent.1 + saved);
            }
        }
        Self { steps, of_tensor, least: from, sums, taken: 0 }
    }

    /// The next tensor is no longer left.
    fn take_next(&mut self) {
        for number in &self.of_tensor[self.taken] {
            let step = &self.steps[*number];
            let mut node = number + 1;
            while let Some(sum) = self.sums.get_mut(node) {
                *sum = (sum.0 - step.bytes, sum.1 - step.saved);
                node += node & node.wrapping_neg();
            }
        }
        self.taken += 1;
    }

    /// Returns the error that no choice from `state` on is below; none where nothing fits.
    fn bound(&self, state: &State, budget: u64) -> Option<f64> {
        let (least_bytes, most_error) = self.least[self.taken];
        let spare = budget.checked_sub(state.bytes + least_bytes)?;
        // The best steps that fit together: down the tree, at each power of two.
        let (mut at, mut bytes, mut saved) = (0, 0, 0.0);
        let mut stride = self.sums.len().next_power_of_two() / 2;
        while stride > 0 {
            if let Some((more, save)) = self.sums.get(at + stride).filter(|(more, _)| bytes + more <= spare) {
                (at, bytes, saved) = (at + stride, bytes + more, saved + save);
            }
            stride /= 2;
        }
        // The next step in part; one that is taken would have fitted.
        let part = self.steps.get(at).map_or(0.0, |next| next.saved * ((spare - bytes) as f64 / next.bytes as f64));
        Some((state.error + most_error - saved - part).max(0.0))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn candidates() -> impl Strategy<Value = Vec<Candidate>> {
        let candidate = (1u64..60, 0u32..1000).prop_map(|(bytes, error)| Candidate { bytes, error: f64::from(error) });
        prop::collection::vec(candidate, 1..5)
    }

    /// Returns the least error within the budget by trying every choice.
    fn exhaustive(tensors: &[Vec<Candidate>], budget: u64) -> Option<f64> {
        let Some((first, rest)) = tensors.split_first() else { return Some(0.0) };
        let fits = first.iter().filter(|candidate| candidate.bytes <= budget);
        let errors = fits.filter_map(|candidate| Some(candidate.error + exhaustive(rest, budget - candidate.bytes)?));
        errors.reduce(f64::min)
    }

    proptest! {
        #[test]
        fn no_choice_within_the_budget_has_less_error(
            tensors in prop::collection::vec(candidates(), 0..7),
            budget in 0u64..300,
        ) {
            let choice = allocate(&tensors, budget);
            let chosen = choice.as_ref().map(|choice| {
                let chosen = choice.iter().zip(&tensors).map(|(i, all)| all[*i]);
                chosen.fold((0, 0.0), |(bytes, error), chosen| (bytes + chosen.bytes, error + chosen.error))
            });
            prop_assert!(chosen.is_none_or(|(bytes, _)| bytes <= budget));
            let (got, want) = (chosen.map(|(_, error)| error), exhaustive(&tensors, budget));
            prop_assert_eq!(got.is_some(), want.is_some());
            if let (Some(got), Some(want)) = (got, want) {
                prop_assert!((got - want).abs() <= want * 1.1e-6, "{got} {want}");
            }
        }
    }

    /// Tensors as those of a network: a few shapes, four widths, errors that fall by 6 dB a bit.
    fn network(count: usize, shape: impl Fn(usize) -> u64) -> Vec<Vec<Candidate>> {
        let tensor = |t: usize| {
            let (weights, loudness) = (shape(t), 1.0 + (t * 7919 % 101) as f64 / 10.0);
            let width = |bits: u64| Candidate {
                bytes: weights * bits / 8 + weights / 16,
                error: weights as f64 * loudness * 4f64.powi(-(bits as i32)),
            };
            [2, 3, 4, 8].map(width).to_vec()
        };
        (0..count).map(tensor).collect()
    }

    #[test]
    fn large_networks_use_up_their_budget() {
        let few_shapes = network(400, |t| [1 << 16, 3 << 16, 1 << 18][t % 3]);
        let all_unlike = network(300, |t| 65_536 + (t as u64 * 7919 % 1009) * 64);
        for tensors in [few_shapes, all_unlike] {
            let smallest: u64 = tensors.iter().map(|all| all[0].bytes).sum();
            for share in [1.01, 1.3, 1.7, 2.5] {
                let budget = (smallest as f64 * share) as u64;
                let choice = allocate(&tensors, budget).unwrap();
                let bytes: u64 = choice.iter().zip(&tensors).map(|(i, all)| all[*i].bytes).sum();
                assert!(bytes <= budget && bytes as f64 >= budget as f64 * 0.999, "{bytes} of {budget}");
            }
        }
    }

    #[test]
    fn more_than_enough_takes_the_best_and_too_little_nothing() {
        let tensors = network(5, |_| 1 << 16);
        assert_eq!(allocate(&tensors, u64::MAX).unwrap(), [3; 5]);
        let smallest: u64 = tensors.iter().map(|all| all[0].bytes).sum();
        assert_eq!(allocate(&tensors, smallest).unwrap(), [0; 5]);
        assert_eq!(allocate(&tensors, smallest - 1), None);
        assert_eq!(allocate(&[], 0), Some(Vec::new()));
    }
}
