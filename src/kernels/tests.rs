//! One number for all that the kernels give, the same for every instruction set and every architecture.

use super::{
    affine::{affine, affine_decode, affine_encode},
    channel::{channel_absmax, channel_max, channel_min, channel_sum_squares},
    cholesky::{BLOCK, cholesky, invert},
    cosine_similarity::cosine_similarity,
    dequantize::dequantize,
    dispatch::Target,
    error_stats::error_stats,
    extreme::{is_tiny, power, rescale, settle, tiny_params},
    finite::absmax_bits,
    gguf::{decode_blocks, encode_blocks},
    gptq::{GptqRows, gptq, gptq_row_scale},
    hessian::hessian,
    minmax::minmax,
    narrow::{narrow_bf16, narrow_f16},
    pack::{pack, unpack},
    params::Params,
    quantize::quantize,
    range::group_ranges,
    search::search,
    triangle::{triangle_len, triangle_row},
    widen::{narrow_f64, widen_bf16, widen_f8_e4m3, widen_f8_e4m3fnuz, widen_f8_e5m2, widen_f8_e5m2fnuz, widen_f16},
};
use crate::{
    testing::samples::Random,
    types::{Block, Float, Method},
};

/// The digest of the kernels' results when this test was written, on x86-64 and on 64-bit Arm.
const DIGEST: u64 = 0xcb19_f72b_df5c_51c9;

/// FNV-1a.
struct Digest(u64);

impl Digest {
    fn bytes(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    fn f64s(&mut self, values: &[f64]) {
        // Which NaN is a matter of the architecture.
        for x in values {
            self.bytes(&if x.is_nan() { f64::NAN } else { *x }.to_bits().to_le_bytes());
        }
    }

    fn f32s(&mut self, values: &[f32]) {
        for x in values {
            self.f64s(&[f64::from(*x)]);
        }
    }
}

/// Calls a kernel on a target, or by its name.
macro_rules! call {
    ($target:expr, $kernel:ident($($arg:expr),*)) => {
        match $target {
            None => $kernel($($arg),*),
            Some(target) => $kernel::on(target, $($arg),*),
        }
    };
}

/// Returns rows of every kind; made without a function of the C library, which differ in the last bit.
fn corpus() -> Vec<Vec<f32>> {
    let mut rows = Vec::new();
    for (i, n) in [0usize, 1, 2, 7, 31, 32, 33, 64, 100, 257, 600, 1024].into_iter().enumerate() {
        let mut random = Random::new(i as u64 + 99);
        let mut uniform = || 2.0 * random.uniform() - 1.0;
        // A quotient of uniforms has heavy tails.
        let heavy: Vec<f32> = (0..n).map(|_| (uniform() / (uniform().abs() + 0.03)) as f32).collect();
        let scaled = |factor: f32| heavy.iter().map(|x| (x * factor).clamp(-f32::MAX, f32::MAX)).collect();
        rows.push(scaled(1e-41));
        rows.push(scaled(2e37));
        rows.push(scaled(1e-33));
        rows.push(scaled(1e-15));
        rows.push(heavy.iter().map(|x| x.abs() + 0.5).collect());
        rows.push(heavy.iter().enumerate().map(|(i, x)| if i % 5 == 0 { *x } else { -0.0 }).collect());
        rows.push(heavy);
        rows.push(vec![0.0; n]);
        rows.push(vec![-0.37; n]);
    }
    rows
}

fn quantized(target: Option<Target>, row: &[f32], digest: &mut Digest) {
    let importance: Vec<f32> = row.iter().map(|x| x.abs().min(3.0)).collect();
    let power = power(f32::from_bits(call!(target, absmax_bits(row))));
    let mut weights = vec![0.0; row.len()];
    rescale(row, power, &mut weights);
    for (bits, group_size) in
        [2, 3, 4, 8].into_iter().flat_map(|bits| [1, 7, 32, 128, 300].map(|group_size| (bits, group_size)))
    {
        let groups = row.len().div_ceil(group_size);
        for (method, symmetric) in [0, 1, 2].into_iter().flat_map(|method| [(method, false), (method, true)]) {
            let (mut scratch, mut scales, mut zeros) = (vec![0.0; 2 * groups], vec![0; groups], vec![0; groups]);
            let codes = (!symmetric).then_some(&mut zeros[..]);
            let (x, scratch) = (&weights[..], &mut scratch[..]);
            let mut row_scale = match method {
                _ if is_tiny(power) => tiny_params(x, power, bits, group_size, &mut scales, codes),
                0 => call!(target, minmax(x, bits, group_size, scratch, &mut scales, codes)),
                1 => call!(target, search(x, None, bits, group_size, scratch, &mut scales, codes)),
                _ => call!(target, search(x, Some(&importance), bits, group_size, scratch, &mut scales, codes)),
            };
            let codes = (!symmetric).then_some(&zeros[..]);
            if power != 1.0 && !is_tiny(power) {
                row_scale = settle(x, power, bits, group_size, row_scale, &mut scales, codes);
            }
            let params = Params { bits, group_size, row_scale, scales: &scales, zero_points: codes };
            let mut packed = vec![0; (row.len() * bits as usize).div_ceil(8)];
            call!(target, quantize(x, power, &params, &mut packed));
            let mut decoded = vec![0.0; row.len()];
            call!(target, dequantize(&packed, &params, &mut decoded));
            digest.f32s(&[row_scale]);
            for bytes in [&scales, &zeros, &packed] {
                digest.bytes(bytes);
            }
            digest.f32s(&decoded);
            measures(target, row, &decoded, digest);
        }
        let (mut lows, mut highs) = (vec![0.0; groups], vec![0.0; groups]);
        call!(target, group_ranges(row, group_size, &mut lows, &mut highs));
        digest.f32s(&lows);
        digest.f32s(&highs);
    }
}

fn measures(target: Option<Target>, a: &[f32], b: &[f32], digest: &mut Digest) {
    let stats = call!(target, error_stats(a, b));
    digest.f64s(&[stats.dot, stats.a2, stats.b2, stats.err2, stats.max_abs, stats.n as f64]);
    digest.f64s(&[call!(target, cosine_similarity(a, b))]);
}

fn channels(target: Option<Target>, rows: &[Vec<f32>], digest: &mut Digest) {
    let (mut absmax, mut low, mut high, mut squares) = ([0.0; 1024], [0.0; 1024], [0.0; 1024], [0.0; 1024]);
    for row in rows {
        call!(target, channel_absmax(row, &mut absmax));
        call!(target, channel_min(row, &mut low));
        call!(target, channel_max(row, &mut high));
        call!(target, channel_sum_squares(row, &mut squares));
    }
    for values in [absmax, low, high] {
        digest.f32s(&values);
    }
    digest.f64s(&squares);
}

fn stored(target: Option<Target>, digest: &mut Digest) {
    let all: Vec<u8> = (0..=u16::MAX).flat_map(u16::to_le_bytes).collect();
    for bits in [2, 3, 4, 8] {
        let mut codes = vec![0; 1001];
        call!(target, unpack(&all, bits, &mut codes));
        digest.bytes(&codes);
        let mut packed = vec![0; codes.len() * bits as usize / 8 + 1];
        call!(target, pack(&codes, bits, &mut packed));
        digest.bytes(&packed);
    }
    let mut out = vec![0.0; 1 << 16];
    call!(target, widen_bf16(&all, &mut out));
    digest.f32s(&out);
    call!(target, widen_f16(&all, &mut out));
    digest.f32s(&out);
    let bytes: Vec<u8> = (0..=u8::MAX).collect();
    let out = &mut out[..256];
    call!(target, widen_f8_e4m3(&bytes, out));
    digest.f32s(out);
    call!(target, widen_f8_e5m2(&bytes, out));
    digest.f32s(out);
    call!(target, widen_f8_e4m3fnuz(&bytes, out));
    digest.f32s(out);
    call!(target, widen_f8_e5m2fnuz(&bytes, out));
    digest.f32s(out);
    call!(target, narrow_f64(&all[..2048], out));
    digest.f32s(out);
}

/// Digests the forms of other programs: blocks of GGUF, groups whose scale is a float, and floats.
fn exported(target: Option<Target>, row: &[f32], digest: &mut Digest) {
    let weights: Vec<f32> = row.iter().map(|x| x.clamp(-60_000.0, 60_000.0)).collect();
    let importance: Vec<f32> = row.iter().map(|x| x.abs().min(3.0)).collect();
    for importance in [None, Some(&importance[..])] {
        for kind in Block::ALL.iter().copied() {
            let blocks = weights.len() / kind.weights();
            let (mut stored, mut back) = (vec![0; blocks * kind.bytes()], vec![0.0; blocks * kind.weights()]);
            call!(target, encode_blocks(kind, &weights, importance, &mut stored));
            call!(target, decode_blocks(kind, &stored, &mut back));
            digest.bytes(&stored);
            digest.f32s(&back);
        }
        for (bits, scale) in [(2, Float::BF16), (3, Float::F16), (4, Float::F16), (4, Float::F32), (8, Float::BF16)] {
            for (method, symmetric) in [(Method::Minmax, false), (Method::Search, false), (Method::Search, true)] {
                let groups = weights.len().div_ceil(32);
                let (mut scales, mut zeros) = (vec![0.0; groups], vec![0; groups]);
                let codes = (!symmetric).then_some(&mut zeros[..]);
                call!(target, affine(&weights, importance, bits, 32, (scale, method), &mut scales, codes));
                let codes = (!symmetric).then_some(&zeros[..]);
                let mut packed = vec![0; (weights.len() * bits as usize).div_ceil(8)];
                call!(target, affine_encode(&weights, 1.0, bits, 32, &scales, codes, &mut packed));
                let mut back = vec![0.0; weights.len()];
                call!(target, affine_decode(&packed, bits, 32, &scales, codes, &mut back));
                digest.bytes(&packed);
                digest.f32s(&back);
            }
        }
    }
    let mut halves = vec![0; 2 * weights.len()];
    call!(target, narrow_bf16(&weights, &mut halves));
    digest.bytes(&halves);
    call!(target, narrow_f16(&weights, &mut halves));
    digest.bytes(&halves);
}

/// Digests GPTQ from its Hessian on: 8 rows of 96 columns, of which neighbours are alike.
fn solved(target: Option<Target>, digest: &mut Digest) {
    const N: usize = 96;
    let mut random = Random::new(5);
    let mut rows: Vec<f32> = (0..200 * N).map(|_| (2.0 * random.uniform() - 1.0) as f32).collect();
    for row in rows.chunks_mut(N) {
        for i in 1..N {
            row[i] += 0.75 * row[i - 1];
        }
    }
    let mut sums = vec![0.0; triangle_len(N).unwrap()];
    call!(target, hessian(&rows, N, &mut sums));
    digest.f64s(&sums);
    for i in 0..N {
        sums[triangle_row(i, N).start] += 0.5;
    }
    assert!(call!(target, cholesky(&mut sums, N)));
    call!(target, invert(&mut sums, N, &mut vec![0.0; BLOCK * N]));
    digest.f64s(&sums);
    let factor: Vec<f32> = sums.iter().map(|u| *u as f32).collect();
    let weights = &rows[..8 * N];
    for (bits, group_size) in [(2, 32), (3, 40), (4, 96), (8, 32)] {
        let groups = 8 * N.div_ceil(group_size);
        let row_scales = weights.chunks(N).map(|row| call!(target, gptq_row_scale(row, bits, group_size)));
        let row_scales: Vec<f32> = row_scales.collect();
        let mut working: Vec<f64> = weights.iter().map(|w| f64::from(*w)).collect();
        let (mut scales, mut zeros, mut codes) = (vec![0; groups], vec![0; groups], vec![0; weights.len()]);
        let mut rows = GptqRows {
            weights: &mut working,
            row_scales: &row_scales,
            scales: &mut scales,
            zero_points: &mut zeros,
            codes: &mut codes,
        };
        call!(target, gptq(&mut rows, &factor, bits, group_size, &mut vec![0.0; 2 * group_size]));
        for bytes in [scales, zeros, codes] {
            digest.bytes(&bytes);
        }
    }
}

#[test]
fn every_kernel_gives_the_same_bits_everywhere() {
    let corpus = corpus();
    for target in Target::available().map(Some).chain([None]) {
        let mut digest = Digest(0xcbf2_9ce4_8422_2325);
        for row in &corpus {
            quantized(target, row, &mut digest);
            exported(target, row, &mut digest);
        }
        channels(target, &corpus, &mut digest);
        stored(target, &mut digest);
        solved(target, &mut digest);
        let name = target.map_or("called by name", Target::name);
        assert_eq!(digest.0, DIGEST, "{:#018x}, {name}", digest.0);
    }
}
