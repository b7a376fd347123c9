//! The edges against every way to cut, and the rules for rows that are not perfect.

use super::*;

fn edges(rows: &[(f64, f64, f64)], groups: i64, method: TimeMethod) -> Result<Vec<f64>, ComputeError> {
    let column = |value: fn(&(f64, f64, f64)) -> f64| rows.iter().map(|row| Some(value(row))).collect();
    let mut accumulator = TimeEdgesAccumulator::default();
    accumulator.update(&column(|row| row.0), &column(|row| row.1), &column(|row| row.2), groups, method)?;
    let edges = accumulator.finish()?;
    Ok(edges.as_list::<i32>().value(0).as_primitive::<Float64Type>().values().to_vec())
}

/// Ranges that shrink and wobble along time.
fn wobbling(count: usize) -> Vec<(f64, f64, f64)> {
    let wobble = |i: usize| ((i * 7919) % 31) as f64 / 31.0;
    (0..count).map(|i| (i as f64 * 20.0, -1.0 - wobble(i), 1.0 + 3.0 / (1.0 + i as f64) + wobble(i + 3))).collect()
}

fn cost(rows: &[(f64, f64, f64)], edges: &[f64]) -> f64 {
    let group = |t: f64| edges.iter().filter(|edge| **edge <= t).count();
    let width = |of: usize| {
        let rows = rows.iter().filter(|row| group(row.0) == of);
        let (lo, hi) = rows.fold((0f64, 0f64), |(lo, hi), row| (lo.min(row.1), hi.max(row.2)));
        (hi - lo) * (hi - lo)
    };
    rows.iter().map(|row| width(group(row.0))).sum()
}

/// Returns the least cost over every way to cut.
fn least(rows: &[(f64, f64, f64)], groups: usize, cuts: &mut Vec<f64>, from: usize) -> f64 {
    let here = cost(rows, cuts);
    if cuts.len() + 1 == groups {
        return here;
    }
    (from..rows.len()).fold(here, |best, at| {
        cuts.push(rows[at - 1].0.midpoint(rows[at].0));
        let best = best.min(least(rows, groups, cuts, at + 1));
        cuts.pop();
        best
    })
}

#[test]
fn optimal_edges_cost_no_more_than_any_others() {
    for count in [2, 5, 9, 12] {
        let rows = wobbling(count);
        for groups in 1..=4 {
            let found = edges(&rows, groups, TimeMethod::Optimal).unwrap();
            let least = least(&rows, groups as usize, &mut Vec::new(), 1);
            assert!(cost(&rows, &found) <= least * (1.0 + 1e-12), "{count} timesteps, {groups} groups");
            for method in [TimeMethod::Uniform, TimeMethod::Quantile] {
                assert!(least <= cost(&rows, &edges(&rows, groups, method).unwrap()) * (1.0 + 1e-12));
            }
        }
    }
}

#[test]
fn one_group_has_no_edge_and_many_part_every_timestep() {
    let rows = wobbling(7);
    let all: Vec<f64> = (0..6).map(|i| 20.0 * f64::from(i) + 10.0).collect();
    for method in TimeMethod::ALL.iter().copied() {
        assert!(edges(&rows, 1, method).unwrap().is_empty());
        assert_eq!(edges(&rows, 7, method).unwrap(), all);
        assert_eq!(edges(&rows, i64::MAX, method).unwrap(), all);
    }
}

#[test]
fn order_repetition_and_the_unit_of_time_do_not_matter() {
    let rows = wobbling(20);
    let mut mixed: Vec<_> = rows.iter().rev().copied().collect();
    // The same timesteps again, with a part of the range.
    mixed.extend(rows.iter().map(|(t, lo, hi)| (*t, lo / 2.0, hi / 3.0)));
    let tiny: Vec<_> = rows.iter().map(|(t, lo, hi)| (t / 1024.0, lo * 1e200, hi * 1e200)).collect();
    for method in TimeMethod::ALL.iter().copied() {
        let found = edges(&rows, 5, method).unwrap();
        assert_eq!(edges(&mixed, 5, method).unwrap(), found);
        let scaled: Vec<_> = found.iter().map(|edge| edge / 1024.0).collect();
        assert_eq!(edges(&tiny, 5, method).unwrap(), scaled);
    }
}

#[test]
fn uniform_and_quantile_cut_time_and_timesteps() {
    let rows: Vec<_> = [0.0, 1.0, 2.0, 3.0, 4.0, 100.0].iter().map(|t| (*t, 0.0, 1.0)).collect();
    assert_eq!(edges(&rows, 2, TimeMethod::Uniform).unwrap(), [52.0]);
    assert_eq!(edges(&rows, 4, TimeMethod::Uniform).unwrap(), [52.0], "no timestep in the middle groups");
    assert_eq!(edges(&rows, 2, TimeMethod::Quantile).unwrap(), [2.5]);
    assert_eq!(edges(&rows, 3, TimeMethod::Quantile).unwrap(), [1.5, 3.5]);
}

#[test]
fn a_timestep_never_leaves_its_group_for_want_of_digits() {
    let later = f64::from_bits(1f64.to_bits() + 1);
    assert_eq!(between(1.0, later), later);
    assert_eq!(between(-f64::MAX, f64::MAX), 0.0);
}

#[test]
fn merged_states_are_the_whole_and_wrong_rows_are_refused() {
    let rows = wobbling(9);
    let mut merged = TimeEdgesAccumulator::default();
    for (t, lo, hi) in &rows {
        let mut part = TimeEdgesAccumulator::default();
        let one = |x: f64| Float64Array::from(vec![x]);
        part.update(&one(*t), &one(*lo), &one(*hi), 3, TimeMethod::Optimal).unwrap();
        let (ranges, groups, methods) = part.state().unwrap();
        merged.merge(ranges.as_list(), &groups, &methods).unwrap();
    }
    let whole = edges(&rows, 3, TimeMethod::Optimal).unwrap();
    let found = merged.finish().unwrap();
    assert_eq!(found.as_list::<i32>().value(0).as_primitive::<Float64Type>().values(), &whole[..]);
    let error = merged.set(4, TimeMethod::Optimal).unwrap_err().to_string();
    assert!(error.contains("not 3 'optimal' and 4 'optimal'"), "{error}");
    assert!(TimeEdgesAccumulator::default().finish().unwrap().is_null(0));
    for (row, message) in [
        ((f64::NAN, 0.0, 1.0), "row 0: timesteps must be finite, not NaN"),
        ((1.0, 2.0, 1.0), "at timestep 1, lo must not exceed hi"),
        ((1.0, 0.0, f64::INFINITY), "both finite"),
    ] {
        let error = edges(&[row], 2, TimeMethod::Optimal).unwrap_err().to_string();
        assert!(error.contains(message), "{error}");
    }
    let error = edges(&[], 0, TimeMethod::Optimal).unwrap_err().to_string();
    assert_eq!(error, "groups must be 1 or more, not 0");
    let many: Vec<_> = (0..5000).map(|t| (f64::from(t), 0.0, 1.0)).collect();
    assert!(edges(&many, 4, TimeMethod::Optimal).is_err() && edges(&many, 4, TimeMethod::Quantile).is_ok());
}
