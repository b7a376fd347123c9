//! Blocks against their definition, every target against every other.

use super::*;
use crate::{
    kernels::dispatch::Target,
    testing::samples::{self, Random},
    types::Block,
};

/// Reads bytes from hexadecimal.
fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap()).collect()
}

fn encoded(kind: Block, weights: &[f32], importance: Option<&[f32]>) -> Vec<u8> {
    let mut blocks = vec![0; weights.len() / kind.weights() * kind.bytes()];
    encode_blocks(kind, weights, importance, &mut blocks);
    blocks
}

fn decoded(kind: Block, blocks: &[u8]) -> Vec<f32> {
    let mut weights = vec![0.0; blocks.len() / kind.bytes() * kind.weights()];
    decode_blocks(kind, blocks, &mut weights);
    weights
}

fn sqnr(weights: &[f32], back: &[f32]) -> f64 {
    let noise: f64 = weights.iter().zip(back).map(|(a, b)| f64::from(a - b).powi(2)).sum();
    let power: f64 = weights.iter().map(|a| f64::from(*a).powi(2)).sum();
    10.0 * (power / noise).log10()
}

/// Returns rows of whole blocks of 256, of every kind that an f16 can scale.
fn rows() -> Vec<Vec<f32>> {
    let mut rows = Vec::new();
    for seed in 0..6 {
        let heavy = samples::heavy(768, seed);
        rows.push(heavy.iter().map(|x| x * 0.02).collect::<Vec<f32>>());
        rows.push(heavy.iter().map(|x| x * 1e-6).collect());
        rows.push(heavy.iter().map(|x| (x * 5000.0).clamp(-65504.0, 65504.0)).collect());
        rows.push(heavy.iter().map(|x| x.abs() + 0.5).collect());
        rows.push(heavy.iter().map(|x| -x.abs() - 0.5).collect());
        rows.push(heavy.iter().enumerate().map(|(i, x)| if i % 37 == 0 { *x } else { 0.0 }).collect());
        rows.push(samples::normal(512, seed));
    }
    rows.extend([vec![0.0; 512], vec![-0.0; 256], vec![0.37; 256], vec![-65504.0; 256], vec![1e-40; 256]]);
    rows
}

#[test]
fn golden_blocks() {
    let weights: Vec<f32> = (0..32).map(|i| (i as f32 - 16.0) / 8.0).collect();
    for (kind, hex) in [
        (Block::Q4_0, "0034809191a2a2b3b3c4c4d5d5e6e6f7f7f8"),
        (Block::Q4_1, "223400c080809191a2a2b3b3c4c4d5d5e6e6f7f7"),
        (Block::Q5_0, "00300000ffff00112233445566778899aabbccddeeff"),
        (Block::Q5_1, "003000c00000ffff00112233445566778899aabbccddeeff"),
        (Block::Q8_0, "082481899199a1a9b1b9c0c8d0d8e0e8f0f8000810182028303840474f575f676f77"),
    ] {
        assert_eq!(encoded(kind, &weights, None), bytes(hex), "{kind:?}");
    }
}

#[test]
fn every_target_gives_the_same_bits() {
    let mut random = Random::new(11);
    for kind in Block::ALL.iter().copied() {
        let noise: Vec<u8> = (0..7 * kind.bytes()).map(|_| (random.bits() >> 40) as u8).collect();
        let mut want = vec![0.0; 7 * kind.weights()];
        decode_blocks::on(Target::BASELINE, kind, &noise, &mut want);
        for target in Target::available() {
            let mut got = vec![0.0; want.len()];
            decode_blocks::on(target, kind, &noise, &mut got);
            let same = |(a, b): (&f32, &f32)| a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan();
            assert!(want.iter().zip(&got).all(same), "{kind:?} {}", target.name());
        }
        for row in rows() {
            let importance: Vec<f32> = row.iter().map(|x| x.abs().min(3.0)).collect();
            for importance in [None, Some(&importance[..])] {
                let mut want = vec![0; row.len() / kind.weights() * kind.bytes()];
                encode_blocks::on(Target::BASELINE, kind, &row, importance, &mut want);
                for target in Target::available() {
                    let mut got = vec![0; want.len()];
                    encode_blocks::on(target, kind, &row, importance, &mut got);
                    assert_eq!(got, want, "{kind:?} {}", target.name());
                }
            }
        }
    }
}

#[test]
fn blocks_do_not_depend_on_those_beside_them() {
    let row: Vec<f32> = samples::heavy(256 * 7, 3);
    for kind in Block::ALL.iter().copied() {
        let whole = encoded(kind, &row, None);
        let apart: Vec<u8> = row.chunks(256).flat_map(|block| encoded(kind, block, None)).collect();
        assert_eq!(whole, apart, "{kind:?}");
    }
}

#[test]
fn the_noise_is_what_the_bits_allow() {
    // Normal rows: what each type reaches in dB, less a tenth.
    let row = samples::normal(256 * 40, 1);
    for (kind, least) in [
        (Block::Q4_0, 21.1),
        (Block::Q4_1, 21.9),
        (Block::Q5_0, 27.2),
        (Block::Q5_1, 28.2),
        (Block::Q8_0, 45.2),
        (Block::Q2_K, 11.5),
        (Block::Q3_K, 16.7),
        (Block::Q4_K, 22.9),
        (Block::Q5_K, 29.0),
        (Block::Q6_K, 35.1),
    ] {
        let db = sqnr(&row, &decoded(kind, &encoded(kind, &row, None)));
        assert!((least..least + 1.0).contains(&db), "{kind:?}: {db}");
    }
}

#[test]
fn constants_zeros_and_extremes_come_back() {
    for kind in Block::ALL.iter().copied() {
        for constant in [0.0, 0.37, -0.37, 1000.0, -65504.0] {
            let back = decoded(kind, &encoded(kind, &[constant; 256], None));
            let near = |x: &f32| (x - constant).abs() <= constant.abs() * 0.002;
            assert!(back.iter().all(near), "{kind:?} {constant}: {}", back[0]);
        }
        for row in rows() {
            let back = decoded(kind, &encoded(kind, &row, None));
            let most = row.iter().fold(0f32, |most, x| most.max(x.abs()));
            let near = |(a, b): (&f32, &f32)| (a - b).abs() <= most * 1.01 + 1e-7;
            assert!(row.iter().zip(&back).all(near), "{kind:?}");
        }
    }
}

#[test]
fn what_matters_more_is_nearer() {
    let row = samples::heavy(256 * 8, 9);
    let importance: Vec<f32> = (0..row.len()).map(|i| if i % 4 == 0 { 100.0 } else { 1.0 }).collect();
    let error = |back: &[f32]| -> f64 { row.iter().zip(back).step_by(4).map(|(a, b)| f64::from(a - b).powi(2)).sum() };
    for kind in [Block::Q2_K, Block::Q3_K, Block::Q4_K, Block::Q5_K, Block::Q6_K] {
        let plain = error(&decoded(kind, &encoded(kind, &row, None)));
        let weighted = error(&decoded(kind, &encoded(kind, &row, Some(&importance))));
        assert!(weighted < plain, "{kind:?}: {weighted} {plain}");
    }
}

#[test]
fn short_buffers_do_not_panic() {
    for kind in Block::ALL.iter().copied() {
        for n in [0, 31, 33, 255, 300, 600] {
            let row = samples::normal(n, 1);
            encode_blocks(kind, &row, Some(&row[..n / 2]), &mut vec![0; kind.bytes() + 7]);
            decode_blocks(kind, &vec![1; n], &mut [0.0; 40]);
        }
    }
}
