//! Spatial (per-group) quantization, channel equalization, time grouping and GPTQ: the array functions on one core.

#![allow(missing_docs, reason = "the macros of criterion make public functions")]

mod workloads;

use std::sync::Arc;

use arrow_array::{
    ArrayRef, BooleanArray, Float32Array, Float64Array, Int64Array, ListArray, cast::AsArray, types::Float64Type,
};
use arrow_buffer::OffsetBuffer;
use arrow_quant::{
    compute::{
        ChannelAccumulator, ChannelStatistic, ComputeError, HessianAccumulator, RowOptions, TimeEdgesAccumulator,
        activation_params, decode_as, dequantize, encode_as, equalization_factors, equalize, gptq, hessian_factor,
        log_equalization_factors, quantize, quantize_step, time_group, weight_equalization_factors,
    },
    types::{Bits, Block, Encoding, Method, QuantizeOptions, TimeMethod, weights::weights_type},
};
use arrow_schema::DataType;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use workloads::NormalTable;

fn list(values: Vec<f32>, length: usize) -> ArrayRef {
    let DataType::List(element) = weights_type() else { unreachable!("weights are lists") };
    let offsets = OffsetBuffer::from_lengths(std::iter::repeat_n(length, values.len() / length));
    Arc::new(ListArray::new(element, offsets, Arc::new(Float32Array::from(values)), None))
}

fn normal(rows: usize, length: usize, seed: u64) -> ArrayRef {
    list(NormalTable::new().draw(rows * length, seed).map(|z| 0.02 * z).collect(), length)
}

/// One row of x[i] = 0.01 i at eight bits, and rows of 4096 by group size and method.
fn spatial(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("spatial");
    for n in [64, 256, 1024, 4096, 16_384] {
        let row = list((0..n).map(|i| 0.01 * i as f32).collect(), n);
        let options = RowOptions::Same(QuantizeOptions::new(Bits::Eight));
        group.throughput(Throughput::Elements(n as u64));
        group.bench_function(BenchmarkId::new("8 bits", n), |bencher| bencher.iter(|| quantize(&row, &options)));
    }
    let rows = normal(64, 4096, 1);
    group.throughput(Throughput::Elements(64 * 4096));
    for size in [32, 64, 128, 4096] {
        for method in Method::ALL.iter().copied() {
            let options = QuantizeOptions::new(Bits::Four).with_group_size(size);
            let options = RowOptions::Same(options.unwrap_or_else(|error| panic!("{error}")).with_method(method));
            let name = format!("4 bits, {method}, groups of {size}");
            group.bench_function(name, |bencher| bencher.iter(|| quantize(&rows, &options)));
        }
    }
    group.finish();
}

/// Absmax per input channel, the factors, and the rows times the factors.
fn channel_equalization(criterion: &mut Criterion) {
    let weights = normal(64, 4096, 2);
    let activations = normal(1, 4096, 3);
    let absmax = || {
        let mut channels = ChannelAccumulator::new(ChannelStatistic::Absmax);
        channels.update(&weights)?;
        channels.finish()
    };
    let weight_absmax = absmax().unwrap_or_else(|error| panic!("{error}"));
    let factors = equalization_factors(&activations, &weight_absmax, 0.5).unwrap_or_else(|error| panic!("{error}"));
    let repeated = arrow::compute::take(&factors, &arrow_array::UInt32Array::from(vec![0; 64]), None);
    let repeated = repeated.unwrap_or_else(|error| panic!("{error}"));
    let mut group = criterion.benchmark_group("channel_equalization");
    group.throughput(Throughput::Elements(64 * 4096));
    group.bench_function("channel_absmax", |bencher| bencher.iter(absmax));
    group.bench_function("equalize", |bencher| bencher.iter(|| equalize(&weights, &repeated)));
    group.throughput(Throughput::Elements(4096));
    group.bench_function("equalization_factors", |bencher| {
        bencher.iter(|| equalization_factors(&activations, &weight_absmax, 0.5));
    });
    group.bench_function("log_equalization_factors", |bencher| {
        bencher.iter(|| log_equalization_factors(&activations));
    });
    let mut squares = ChannelAccumulator::new(ChannelStatistic::SumSquares);
    squares.update(&weights).unwrap_or_else(|error| panic!("{error}"));
    let squares = squares.finish().unwrap_or_else(|error| panic!("{error}"));
    group.bench_function("weight_equalization_factors", |bencher| {
        bencher.iter(|| weight_equalization_factors(&squares));
    });
    group.finish();
}

/// Edges of one layer, the groups of its timesteps and the quantizers of their ranges.
fn time_grouping(criterion: &mut Criterion) {
    let table = NormalTable::new();
    let mut group = criterion.benchmark_group("time_grouping");
    for steps in [50usize, 1000] {
        // Wide at the noisy end, as activations are, and wobbling.
        let noise: Vec<f32> = table.draw(steps, 4).collect();
        let t: Float64Array = (0..steps).map(|step| Some(step as f64)).collect();
        let hi: Float64Array = noise
            .iter()
            .zip(0..)
            .map(|(z, i)| Some(3.0 + 4.0 * f64::from(i) / steps as f64 + f64::from(z.abs())))
            .collect();
        let lo: Float64Array = hi.iter().map(|hi| hi.map(|hi| -0.7 * hi)).collect();
        group.throughput(Throughput::Elements(steps as u64));
        let edges = |method: TimeMethod| -> Result<ArrayRef, ComputeError> {
            let mut edges = TimeEdgesAccumulator::default();
            edges.update(&t, &lo, &hi, 8, method)?;
            edges.finish()
        };
        for method in TimeMethod::ALL.iter().copied() {
            group.bench_function(BenchmarkId::new(format!("time_edges, {method}"), steps), |bencher| {
                bencher.iter(|| edges(method));
            });
        }
        let edges = edges(TimeMethod::Optimal).unwrap_or_else(|error| panic!("{error}"));
        let edges = edges.as_list::<i32>().value(0);
        let edges = edges.as_primitive::<Float64Type>();
        let edges = ListArray::from_iter_primitive::<Float64Type, _, _>((0..steps).map(|_| Some(edges)));
        group.bench_function(BenchmarkId::new("time_group", steps), |bencher| bencher.iter(|| time_group(&t, &edges)));
        let (bits, symmetric) = (Int64Array::from(vec![8; steps]), BooleanArray::from(vec![false; steps]));
        group.bench_function(BenchmarkId::new("activation_params", steps), |bencher| {
            bencher.iter(|| activation_params(&lo, &hi, &bits, &symmetric));
        });
    }
    group.finish();
}

/// 256 tokens into a Hessian of 1024 channels, its factor, and 64 rows of weights by it.
fn output_error(criterion: &mut Criterion) {
    let (inputs, weights) = (normal(256, 1024, 4), normal(64, 1024, 5));
    let sums = || {
        let mut sums = HessianAccumulator::default();
        sums.update(&inputs)?;
        sums.finish()
    };
    let mean = sums().unwrap_or_else(|error| panic!("{error}"));
    let factor = hessian_factor(&mean, &[Some(0.01)]).unwrap_or_else(|error| panic!("{error}"));
    let factors = arrow::compute::take(&factor, &arrow_array::UInt32Array::from(vec![0; 64]), None);
    let factors = factors.unwrap_or_else(|error| panic!("{error}"));
    let mut group = criterion.benchmark_group("gptq");
    group.sample_size(10);
    group.throughput(Throughput::Elements(256 * 1024));
    group.bench_function("hessian", |bencher| bencher.iter(sums));
    group.throughput(Throughput::Elements(1024 * 1024));
    group.bench_function("hessian_factor", |bencher| bencher.iter(|| hessian_factor(&mean, &[Some(0.01)])));
    group.throughput(Throughput::Elements(64 * 1024));
    for bits in [Bits::Two, Bits::Four] {
        let options = RowOptions::Same(QuantizeOptions::new(bits));
        let name = format!("gptq, {bits} bits");
        group.bench_function(name, |bencher| bencher.iter(|| gptq(&weights, &factors, &options)));
    }
    group.finish();
}

/// Rows to the blocks of GGUF and back.
fn blocks(criterion: &mut Criterion) {
    let rows = normal(64, 4096, 4);
    let mut group = criterion.benchmark_group("blocks");
    group.throughput(Throughput::Elements(64 * 4096));
    for block in Block::ALL.iter().copied() {
        let encoding = [Some(Encoding::Block(block))];
        let stored = encode_as(&rows, &encoding).unwrap_or_else(|error| panic!("{error}"));
        group.bench_function(format!("encode_as {block}"), |bencher| bencher.iter(|| encode_as(&rows, &encoding)));
        group.bench_function(format!("decode_as {block}"), |bencher| {
            bencher.iter(|| decode_as(&stored, &encoding, &[Some(4096)]));
        });
    }
    group.finish();
}

/// Rows of two lengths to entropy-coded values and back.
fn entropy(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("entropy");
    for length in [384, 4096] {
        let rows = normal((1 << 18) / length, length, 5);
        let steps = vec![Some(0.007f32); rows.len()];
        let stored = quantize_step(&rows, &steps).unwrap_or_else(|error| panic!("{error}"));
        group.throughput(Throughput::Elements((rows.len() * length) as u64));
        group.bench_function(BenchmarkId::new("quantize_step", length), |bencher| {
            bencher.iter(|| quantize_step(&rows, &steps));
        });
        group.bench_function(BenchmarkId::new("dequantize", length), |bencher| bencher.iter(|| dequantize(&stored)));
    }
    group.finish();
}

criterion_group!(benches, spatial, channel_equalization, time_grouping, output_error, blocks, entropy);
criterion_main!(benches);
