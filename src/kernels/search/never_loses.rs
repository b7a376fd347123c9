//! The search never loses to the range of the group, whatever the weights: every grid, width, group size and kind of row.
//!
//! `TORTURE=1 cargo test --release --no-default-features --lib never_loses -- --nocapture` tries 100 times as many rows and
//! prints how many groups it compared.

use crate::kernels::{
    affine::{Scale, affine, affine_decode, affine_encode},
    minmax::minmax,
    params::zero_point,
    samples::Random,
    scale::scale_factor,
    search::search,
};

/// Weights of a row; the kinds are those that a search by sums gets wrong, and those that checkpoints have.
const KINDS: [&str; 14] = [
    "normal",
    "heavy tails",
    "constant",
    "nearly constant, 1e-7",
    "nearly constant, 1e-4",
    "nearly constant, 1 %",
    "nearly constant, 10 %",
    "one that differs",
    "one outlier",
    "two values",
    "one sign",
    "zeros and few",
    "tiny",
    "huge",
];

fn row(kind: &str, n: usize, random: &mut Random) -> Vec<f32> {
    let level = 10f64.powf(random.uniform() * 8.0 - 4.0) * if random.uniform() < 0.5 { -1.0 } else { 1.0 };
    let near = |random: &mut Random, spread: f64| level * (1.0 + spread * (random.uniform() - 0.5));
    let other = (random.uniform() * n as f64) as usize;
    let draw = |i: usize| -> f64 {
        match kind {
            "normal" => level * random.normal(),
            "heavy tails" => level * random.heavy(),
            "constant" => level,
            "nearly constant, 1e-7" => near(random, 1e-7),
            "nearly constant, 1e-4" => near(random, 1e-4),
            "nearly constant, 1 %" => near(random, 1e-2),
            "nearly constant, 10 %" => near(random, 0.1),
            "one that differs" => level * if i == other { 0.5 } else { 1.0 },
            "one outlier" => level * if i == other { 1000.0 } else { random.normal() },
            "two values" => level * if random.uniform() < 0.3 { 1.1 } else { 1.0 },
            "one sign" => level * random.normal().abs(),
            "zeros and few" => level * if random.uniform() < 0.1 { random.normal() } else { 0.0 },
            "tiny" => 1e-9 * random.heavy(),
            _ => 1e8 * random.heavy(),
        }
    };
    (0..n).map(draw).map(|x| x as f32).collect()
}

/// The squared error, weight by weight, times the importances.
fn error(row: &[f32], importance: Option<&[f32]>, decoded: impl Fn(usize) -> f32) -> f64 {
    let square = |i: usize| (f64::from(row[i]) - f64::from(decoded(i))).powi(2);
    (0..row.len()).map(|i| square(i) * importance.map_or(1.0, |w| f64::from(w[i]))).sum()
}

/// What the two-level parameters decode a row to.
fn two_level(row: &[f32], importance: Option<&[f32]>, bits: u8, g: usize, symmetric: bool, by: &str) -> Vec<f32> {
    let groups = row.len().div_ceil(g);
    let (mut scratch, mut scales, mut zeros) = (vec![0.0; 2 * groups], vec![0; groups], vec![0; groups]);
    let codes = (!symmetric).then_some(&mut zeros[..]);
    let row_scale = match by {
        "minmax" => minmax(row, bits, g, &mut scratch, &mut scales, codes),
        _ => search(row, importance, bits, g, &mut scratch, &mut scales, codes),
    };
    let most = f32::from((1u16 << bits) - 1);
    let decode = |(i, x): (usize, &f32)| {
        let s = row_scale * scale_factor(scales[i / g]);
        let z = match (symmetric, bits) {
            (true, _) => f32::from(1u16 << (bits - 1)),
            (_, 2) => zero_point::<2>(zeros[i / g]),
            (_, 3) => zero_point::<3>(zeros[i / g]),
            (_, 4) => zero_point::<4>(zeros[i / g]),
            _ => zero_point::<8>(zeros[i / g]),
        };
        if s < f32::MIN_POSITIVE { 0.0 } else { s * ((x * (1.0 / s) + z).round_ties_even().clamp(0.0, most) - z) }
    };
    row.iter().enumerate().map(decode).collect()
}

/// What float scales decode a row to.
fn float_scales(
    row: &[f32],
    importance: Option<&[f32]>,
    bits: u8,
    g: usize,
    symmetric: bool,
    method: (Scale, bool),
) -> Vec<f32> {
    let groups = row.len().div_ceil(g);
    let (mut scales, mut zeros) = (vec![0.0; groups], vec![0; groups]);
    affine(row, importance, bits, g, method, &mut scales, (!symmetric).then_some(&mut zeros[..]));
    let zeros = (!symmetric).then_some(&zeros[..]);
    let mut packed = vec![0; (row.len() * bits as usize).div_ceil(8)];
    affine_encode(row, 1.0, bits, g, &scales, zeros, &mut packed);
    let mut back = vec![0.0; row.len()];
    affine_decode(&packed, bits, g, &scales, zeros, &mut back);
    back
}

/// Fails unless the search's error is at most the range's, but for what sums of f32 round: 0.02 dB, and the last bit of the
/// weights.
fn compare(what: &str, row: &[f32], importance: Option<&[f32]>, search: &[f32], range: &[f32]) {
    let [found, least] = [search, range].map(|back| error(row, importance, |i| back[i]));
    let signal = error(row, importance, |_| 0.0);
    assert!(found <= least * 1.005 + signal * 1e-14, "{what}: {found:e} {least:e} of {signal:e}: {row:?}");
}

#[test]
fn search_never_loses_to_the_range() {
    let rounds = if std::env::var_os("TORTURE").is_some() { 100 } else { 1 };
    let mut groups = 0usize;
    for round in 0..rounds {
        let mut random = Random::new(round * 7919 + 1);
        for kind in KINDS {
            for (g, n) in [(16, 80), (32, 96), (32, 64), (64, 200), (128, 256), (200, 400), (300, 300)] {
                let row = row(kind, n, &mut random);
                let weights: Vec<f32> = (0..n).map(|_| random.normal().abs() as f32).collect();
                for (bits, symmetric) in [2, 3, 4, 8].into_iter().flat_map(|bits| [(bits, false), (bits, true)]) {
                    for importance in [None, Some(&weights[..])] {
                        let what = format!("{kind}, {bits} bits, groups of {g}, symmetric: {symmetric}");
                        let decode = |by| two_level(&row, importance, bits, g, symmetric, by);
                        compare(&what, &row, importance, &decode("search"), &decode("minmax"));
                        groups += n.div_ceil(g);
                        for scale in [Scale::F32, Scale::F16, Scale::BF16] {
                            let decode = |by| float_scales(&row, importance, bits, g, symmetric, (scale, by));
                            let (search, range) = (decode(true), decode(false));
                            for start in (0..n).step_by(g) {
                                let group = start..n.min(start + g);
                                let importance = importance.map(|weights| &weights[group.clone()]);
                                let (search, range) = (&search[group.clone()], &range[group.clone()]);
                                compare(&format!("{what}, {scale:?}"), &row[group], importance, search, range);
                                groups += 1;
                            }
                        }
                    }
                }
            }
        }
    }
    assert!(groups > 10_000);
    if rounds > 1 {
        eprintln!("{groups} groups compared");
    }
}
