//! The kernels on every instruction set that this CPU has, beside a loop that takes one weight at a time, and beside what
//! memory allows: a copy, a fill and a sum.
#![allow(missing_docs, reason = "criterion's macros make the functions")]

use std::hint::black_box;

use arrow_quant::kernels::{
    cosine_similarity::cosine_similarity, dequantize::dequantize, dispatch::Target, minmax::minmax, params::Params,
    quantize::quantize, scale::scale_factor,
};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

const BITS: u8 = 4;
const GROUP_SIZE: usize = 128;

/// Reads one value in a way that the compiler must not merge with its neighbours: a plain load, never a vector.
fn scalar<T: Copy>(value: &T) -> T {
    // SAFETY: a reference is valid to read from.
    unsafe { std::ptr::read_volatile(value) }
}

/// Rows of weights and all that quantizing them fills.
struct Layer {
    row: usize,
    group_size: usize,
    weights: Vec<f32>,
    decoded: Vec<f32>,
    packed: Vec<u8>,
    scratch: Vec<f32>,
    scales: Vec<u8>,
    zero_points: Vec<u8>,
    row_scales: Vec<f32>,
}

impl Layer {
    fn new(rows: usize, row: usize, group_size: usize) -> Self {
        let (n, groups) = (rows * row, row.div_ceil(group_size));
        // Two sines of unrelated periods: no two rows alike, and the same on every machine.
        let weights: Vec<f32> =
            (0..n).map(|i| ((i as f64 * 0.7).sin() * 0.02 + (i as f64 * 0.111).sin() * 0.01) as f32).collect();
        let mut layer = Self {
            row,
            group_size,
            weights,
            decoded: vec![0.0; n],
            packed: vec![0; n / 2],
            scratch: vec![0.0; 2 * groups],
            scales: vec![0; rows * groups],
            zero_points: vec![0; rows * groups],
            row_scales: vec![0.0; rows],
        };
        layer.quantize(Target::best());
        layer.dequantize(Target::best());
        layer
    }

    fn quantize(&mut self, target: Target) {
        let groups = self.row.div_ceil(self.group_size);
        let rows = self.weights.chunks(self.row).zip(self.packed.chunks_mut(self.row / 2));
        let params = self.scales.chunks_mut(groups).zip(self.zero_points.chunks_mut(groups)).zip(&mut self.row_scales);
        for ((weights, packed), ((scales, zero_points), row_scale)) in rows.zip(params) {
            *row_scale =
                minmax::on(target, weights, BITS, self.group_size, &mut self.scratch, scales, Some(zero_points));
            let params = Params {
                bits: BITS,
                group_size: self.group_size,
                row_scale: *row_scale,
                scales,
                zero_points: Some(zero_points),
            };
            quantize::on(target, weights, 1.0, &params, packed);
        }
    }

    fn dequantize(&mut self, target: Target) {
        let groups = self.row.div_ceil(self.group_size);
        let rows = self.decoded.chunks_mut(self.row).zip(self.packed.chunks(self.row / 2));
        let params = self.scales.chunks(groups).zip(self.zero_points.chunks(groups)).zip(&self.row_scales);
        for ((decoded, packed), ((scales, zero_points), row_scale)) in rows.zip(params) {
            let params = Params {
                bits: BITS,
                group_size: self.group_size,
                row_scale: *row_scale,
                scales,
                zero_points: Some(zero_points),
            };
            dequantize::on(target, packed, &params, decoded);
        }
    }

    fn cosine(&self, target: Target) -> f64 {
        cosine_similarity::on(target, &self.weights, &self.decoded)
    }

    /// One weight at a time, by the same formulas.
    fn quantize_scalar(&mut self) {
        let groups = self.row.div_ceil(self.group_size);
        for (g, group) in self.weights.chunks(self.group_size.min(self.row)).enumerate() {
            let (mut low, mut high) = (0f32, 0f32);
            for w in group {
                let w = scalar(w);
                low = if w < low { w } else { low };
                high = if w > high { w } else { high };
            }
            let scale = self.row_scales[g / groups] * scale_factor(self.scales[g]);
            let (inverse, zero) = (1.0 / scale, f32::from(self.zero_points[g]) / 17.0);
            black_box((low, high));
            for (i, pair) in group.chunks_exact(2).enumerate() {
                let code = |w: &f32| ((scalar(w) * inverse + zero).clamp(0.0, 15.0) + 8_388_608.0).to_bits() as u8;
                self.packed[(g * self.group_size) / 2 + i] = code(&pair[0]) | code(&pair[1]) << 4;
            }
        }
    }

    fn dequantize_scalar(&mut self) {
        let groups = self.row.div_ceil(self.group_size);
        for (g, group) in self.decoded.chunks_mut(self.group_size.min(self.row)).enumerate() {
            let scale = self.row_scales[g / groups] * scale_factor(self.scales[g]);
            let zero = f32::from(self.zero_points[g]) / 17.0;
            for (i, pair) in group.chunks_exact_mut(2).enumerate() {
                let byte = scalar(&self.packed[(g * self.group_size) / 2 + i]);
                pair[0] = scale * (f32::from(byte & 15) - zero);
                pair[1] = scale * (f32::from(byte >> 4) - zero);
            }
        }
    }

    fn cosine_scalar(&self) -> f64 {
        let (mut dot, mut a2, mut b2) = (0.0, 0.0, 0.0);
        for (a, b) in self.weights.iter().zip(&self.decoded) {
            let (a, b) = (f64::from(scalar(a)), f64::from(scalar(b)));
            dot += a * b;
            a2 += a * a;
            b2 += b * b;
        }
        dot / (a2 * b2).sqrt()
    }
}

fn operations(c: &mut Criterion, group: &str, size: &str, layer: &mut Layer, which: &[&str]) {
    let mut group = c.benchmark_group(group);
    group.throughput(Throughput::Elements(layer.weights.len() as u64));
    group.sample_size(10);
    for operation in which {
        for target in Target::available() {
            group.bench_function(format!("{operation}/{size}/{}", target.name()), |b| {
                b.iter(|| match *operation {
                    "quantize" => layer.quantize(black_box(target)),
                    "dequantize" => layer.dequantize(black_box(target)),
                    "cosine_similarity" => drop(black_box(layer.cosine(black_box(target)))),
                    _ => {
                        layer.quantize(black_box(target));
                        layer.dequantize(black_box(target));
                    }
                });
            });
        }
        group.bench_function(format!("{operation}/{size}/scalar"), |b| {
            b.iter(|| match *operation {
                "quantize" => layer.quantize_scalar(),
                "dequantize" => layer.dequantize_scalar(),
                "cosine_similarity" => drop(black_box(layer.cosine_scalar())),
                _ => {
                    layer.quantize_scalar();
                    layer.dequantize_scalar();
                }
            });
        });
    }
    group.bench_function(format!("memcpy/{size}"), |b| {
        b.iter(|| black_box(&mut layer.decoded[..]).copy_from_slice(black_box(&layer.weights)));
    });
    group.finish();
}

fn row(c: &mut Criterion) {
    let mut layer = Layer::new(1, 4096, GROUP_SIZE);
    for operation in ["quantize", "dequantize", "cosine_similarity", "roundtrip"] {
        operations(c, operation, "4096", &mut layer, &[operation]);
    }
}

fn layers(c: &mut Criterion) {
    for (rows, row) in [(768, 768), (3072, 768), (12288, 3072)] {
        let mut layer = Layer::new(rows, row, GROUP_SIZE);
        let size = format!("{rows}x{row}");
        operations(c, "layers", &size, &mut layer, &["quantize", "dequantize", "cosine_similarity"]);
    }
}

/// Ranges, parameters and codes of a row that stays in the nearest cache.
fn in_cache(c: &mut Criterion) {
    for group_size in [32, 128] {
        let mut layer = Layer::new(1, 4096, group_size);
        let mut group = c.benchmark_group("in_cache");
        group.throughput(Throughput::Elements(layer.weights.len() as u64));
        group.sample_size(10);
        for target in Target::available() {
            group.bench_function(format!("quantize, groups of {group_size}/{}", target.name()), |b| {
                b.iter(|| layer.quantize(black_box(target)));
            });
        }
        group.finish();
    }
}

/// Rows that no cache holds, beside what memory allows.
fn memory(c: &mut Criterion) {
    const LANES: usize = 64;
    for group_size in [32, 128] {
        let mut layer = Layer::new(12288, 3072, group_size);
        let mut group = c.benchmark_group("memory");
        group.throughput(Throughput::Bytes(4 * layer.weights.len() as u64));
        group.sample_size(10);
        let target = Target::best();
        let name = |what: &str| format!("groups of {group_size}/{what}");
        group.bench_function(name("copy"), |b| {
            b.iter(|| black_box(&mut layer.decoded[..]).copy_from_slice(black_box(&layer.weights)));
        });
        group.bench_function(name("quantize"), |b| b.iter(|| layer.quantize(black_box(target))));
        group.bench_function(name("fill"), |b| b.iter(|| black_box(&mut layer.decoded[..]).fill(black_box(0.5))));
        group.bench_function(name("dequantize"), |b| b.iter(|| layer.dequantize(black_box(target))));
        group.bench_function(name("sum of both"), |b| {
            b.iter(|| {
                let mut sums = [0f32; LANES];
                for row in [&layer.weights, &layer.decoded] {
                    for chunk in black_box(&row[..]).as_chunks::<LANES>().0 {
                        for (sum, x) in sums.iter_mut().zip(chunk) {
                            *sum += x;
                        }
                    }
                }
                black_box(sums)
            });
        });
        group.bench_function(name("cosine_similarity"), |b| {
            b.iter(|| {
                for (a, b) in layer.weights.chunks(layer.row).zip(layer.decoded.chunks(layer.row)) {
                    black_box(cosine_similarity::on(black_box(target), a, b));
                }
            });
        });
        group.finish();
    }
}

criterion_group!(benches, in_cache, memory, row, layers);
criterion_main!(benches);
