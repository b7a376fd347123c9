//! The search never loses to the range of the group, whatever the weights: every grid, width, group size and kind of row.
//!
//! `TORTURE=1 cargo test --release --no-default-features --lib never_loses -- --nocapture` tries 100 times as many rows and
//! prints how many groups it compared.

use crate::{
    kernels::{
        affine::{affine, affine_decode, affine_encode},
        gguf::{decode_blocks, encode_blocks},
        minmax::{centred, minmax},
        params::zero_point,
        scale::{scale_code_up, scale_factor},
        search::{search, search_group},
    },
    testing::samples::Random,
    types::{Block, Float, Method},
};

/// Weights of a row; the kinds are those that a search by sums gets wrong, and those that checkpoints have.
const KINDS: [&str; 15] = [
    "normal",
    "heavy tails",
    "constant",
    "nearly constant, 1e-7",
    "nearly constant, 1e-4",
    "nearly constant, 1 %",
    "nearly constant, 10 %",
    "one that differs",
    "one outlier",
    "one far outlier",
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
            "one far outlier" => level * if i == other { 1e6 } else { random.normal() },
            "two values" => level * if random.uniform() < 0.3 { 1.1 } else { 1.0 },
            "one sign" => level * random.normal().abs(),
            "zeros and few" => level * if random.uniform() < 0.1 { random.normal() } else { 0.0 },
            "tiny" => 1e-9 * random.heavy(),
            _ => 1e8 * random.heavy(),
        }
    };
    (0..n).map(draw).map(|x| x as f32).collect()
}

/// Returns the squared error, weight by weight, times the importances.
fn error(row: &[f32], importance: Option<&[f32]>, decoded: impl Fn(usize) -> f32) -> f64 {
    let square = |i: usize| (f64::from(row[i]) - f64::from(decoded(i))).powi(2);
    (0..row.len()).map(|i| square(i) * importance.map_or(1.0, |w| f64::from(w[i]))).sum()
}

/// Returns a row as two-level parameters decode it.
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

/// Returns a row as float scales decode it.
fn float_scales(
    row: &[f32],
    importance: Option<&[f32]>,
    bits: u8,
    g: usize,
    symmetric: bool,
    method: (Float, Method),
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
fn one_weight_that_is_far_larger_than_the_others_keeps_its_value() {
    // Few codes differ from their zero points: what the row's scale is fitted to is the rest of sums that cancel.
    for seed in 0..2000 {
        let mut random = Random::new(seed);
        let row = row("one far outlier", 400, &mut random);
        let importance: Vec<f32> = (0..400).map(|_| random.normal().abs() as f32).collect();
        for importance in [None, Some(&importance[..])] {
            let decode = |by| two_level(&row, importance, 2, 200, true, by);
            compare(&format!("seed {seed}"), &row, importance, &decode("search"), &decode("minmax"));
        }
    }
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
                        for (scale, factor) in
                            [(Float::F32, 1.0), (Float::F16, 1.0), (Float::F16, 1e-5), (Float::BF16, 1.0)]
                        {
                            let row: Vec<f32> = row.iter().map(|x| x * factor).collect();
                            let decode = |by| float_scales(&row, importance, bits, g, symmetric, (scale, by));
                            let (search, range) = (decode(Method::Search), decode(Method::Minmax));
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

/// Blocks of 256 by the range alone, in f64: scale and minimum of each sub-block, rounded to codes relative to the largest.
fn block_range(kind: Block, block: &[f32]) -> Vec<f32> {
    /// Returns the half of no smaller magnitude below the normal ones, else the nearest.
    fn half(x: f64) -> f64 {
        let near = half::f16::from_f64(x);
        let further = half::f16::from_bits(near.to_bits() + 1);
        let short = near.to_f64().abs() < x.abs() && x.abs() < half::f16::MIN_POSITIVE.to_f64();
        if short { further.to_f64() } else { near.to_f64() }
    }
    let (sub, bits, most) = match kind {
        Block::Q2_K => (16, 2, 15.0),
        Block::Q3_K => (16, 3, 32.0),
        Block::Q4_K => (32, 4, 63.0),
        Block::Q5_K => (32, 5, 63.0),
        _ => (16, 6, 128.0),
    };
    let (codes, middle) = (f64::from((1 << bits) - 1), f64::from(1 << (bits - 1)));
    let symmetric = matches!(kind, Block::Q3_K | Block::Q6_K);
    let ends = |x: &[f32]| x.iter().fold((0f64, 0f64), |(low, high), x| (low.min((*x).into()), high.max((*x).into())));
    let real: Vec<(f64, f64)> = block
        .chunks(sub)
        .map(|x| match ends(x) {
            (low, high) if symmetric => (if -low > high { low } else { high } / -middle, 0.0),
            (low, high) => ((high - low) / codes, -low),
        })
        .collect();
    let furthest = |value: fn(&(f64, f64)) -> f64| {
        real.iter().map(value).fold(0f64, |most, x| if x.abs() > most.abs() { x } else { most })
    };
    let d = half(furthest(|real| real.0) * if symmetric { -1.0 } else { 1.0 } / most);
    let dmin = half(furthest(|real| real.1) / most);
    let code = |x: f64, unit: f64, least: f64, most: f64| {
        if unit == 0.0 { 0.0 } else { (x / unit).round_ties_even().clamp(least, most) }
    };
    let decode = |(i, x): (usize, &f32)| {
        let (scale, min) = real[i / sub];
        let (least, largest) = if symmetric { (-most, most - 1.0) } else { (0.0, most) };
        let (s, m) = (d * code(scale, d, least, largest), dmin * code(min, dmin, 0.0, most));
        let m = if symmetric { s * middle } else { m };
        let q =
            if s == 0.0 { if symmetric { middle } else { 0.0 } } else { ((f64::from(*x) + m) / s).round_ties_even() };
        (s * q.clamp(0.0, codes) - m) as f32
    };
    block.iter().enumerate().map(decode).collect()
}

#[test]
fn blocks_never_lose_to_the_range() {
    let rounds = if std::env::var_os("TORTURE").is_some() { 100 } else { 2 };
    for round in 0..rounds {
        let mut random = Random::new(round * 104_729 + 3);
        for (kind, factor) in
            KINDS.into_iter().flat_map(|kind| [1.0, 1e-4, 2e-5, 1e-6, 1e-9].map(|factor| (kind, factor)))
        {
            let row: Vec<f32> = row(kind, 768, &mut random).iter().map(|x| (x * factor).clamp(-6e4, 6e4)).collect();
            let weights: Vec<f32> = (0..768).map(|_| random.normal().abs() as f32).collect();
            for block in [Block::Q2_K, Block::Q3_K, Block::Q4_K, Block::Q5_K, Block::Q6_K] {
                let range: Vec<f32> = row.chunks(256).flat_map(|x| block_range(block, x)).collect();
                for importance in [None, Some(&weights[..])] {
                    let mut stored = vec![0; 3 * block.bytes()];
                    encode_blocks(block, &row, importance, &mut stored);
                    let mut found = vec![0.0; 768];
                    decode_blocks(block, &stored, &mut found);
                    for start in (0..768).step_by(256) {
                        let here = start..start + 256;
                        let importance = importance.map(|weights| &weights[here.clone()]);
                        let error = |back: &[f32]| error(&row[here.clone()], importance, |i| back[start + i]);
                        let (found, least, signal) = (error(&found), error(&range), error(&[0.0; 768]));
                        let what = format!("{block:?}, {kind} times {factor:e}, importance: {}", importance.is_some());
                        assert!(found <= least * 1.02 + signal * 1e-13, "{what}: {found:e} {least:e} of {signal:e}");
                    }
                }
            }
        }
    }
}

#[test]
fn groups_of_gptq_never_lose_to_the_range() {
    fn check<const BITS: usize>(kind: &str, g: usize, random: &mut Random) {
        let group = row(kind, g, random);
        let weights: Vec<f32> = (0..g).map(|_| (random.uniform() * 0.99 + 0.01).powi(2) as f32).collect();
        let (low, high) = group.iter().fold((0f32, 0f32), |(low, high), x| (low.min(*x), high.max(*x)));
        let cover = (high - low) / f32::from((1u16 << BITS) - 1);
        for share in [0.6, 1.0, 3.7, 1e3, 1e5] {
            let row_scale = cover.max(1e-6) * share;
            let decoded = |scale: u8, zero: u8| -> Vec<f32> {
                let (s, z) = (row_scale * scale_factor(scale), zero_point::<BITS>(zero));
                let most = f32::from((1u16 << BITS) - 1);
                group.iter().map(|x| s * ((x * (1.0 / s) + z).round_ties_even().clamp(0.0, most) - z)).collect()
            };
            let (scale, zero) = search_group::<BITS>(&group, &weights, row_scale);
            let up = scale_code_up(cover / row_scale);
            let range = decoded(up, centred::<BITS>(low, high, row_scale * scale_factor(up)));
            compare(
                &format!("{kind}, {BITS} bits, {g}, {share}"),
                &group,
                Some(&weights),
                &decoded(scale, zero),
                &range,
            );
        }
    }
    let rounds = if std::env::var_os("TORTURE").is_some() { 1000 } else { 10 };
    let mut random = Random::new(77);
    for (kind, g) in (0..rounds).flat_map(|_| KINDS.into_iter().flat_map(|kind| [32, 128, 300].map(|g| (kind, g)))) {
        check::<2>(kind, g, &mut random);
        check::<3>(kind, g, &mut random);
        check::<4>(kind, g, &mut random);
        check::<8>(kind, g, &mut random);
    }
}
