//! Threads 1, 2, 4, 8, 16, up to the cores there are: the array functions in memory.

#![allow(missing_docs, reason = "the macros of criterion make public functions")]

mod workloads;

use std::sync::Arc;

use arrow_array::{Float32Array, ListArray, RecordBatch};
use arrow_buffer::OffsetBuffer;
use arrow_quant::{
    compute::quantize_batch,
    types::{Bits, Method, QuantizeOptions, weights::weights_type},
};
use arrow_schema::{DataType, Field, Schema};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use workloads::NormalTable;

/// Returns `rows` rows of `length` weights.
fn batch(rows: usize, length: usize) -> RecordBatch {
    let values: Vec<f32> = NormalTable::new().draw(rows * length, 1).map(|z| 0.02 * z).collect();
    let offsets = OffsetBuffer::from_lengths(std::iter::repeat_n(length, rows));
    let DataType::List(element) = weights_type() else { unreachable!("weights are lists") };
    let weights = ListArray::new(element, offsets, Arc::new(Float32Array::from(values)), None);
    let schema = Schema::new(vec![Field::new("weights", weights_type(), true)]);
    RecordBatch::try_new(Arc::new(schema), vec![Arc::new(weights)]).unwrap_or_else(|error| panic!("{error}"))
}

fn thread_counts() -> Vec<usize> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    [1, 2, 4, 8, 16].into_iter().filter(|threads| *threads <= cores).collect()
}

fn in_pool(threads: usize, run: impl FnOnce() + Send) {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
    pool.unwrap_or_else(|error| panic!("{error}")).install(run);
}

fn threads(criterion: &mut Criterion) {
    for (name, method) in [("minmax", Method::Minmax), ("search", Method::Search)] {
        let batch = batch(2048, 4096);
        let options = QuantizeOptions::new(Bits::Four).with_method(method);
        let mut group = criterion.benchmark_group(format!("threads/{name}"));
        group.sample_size(20).throughput(Throughput::Elements(2048 * 4096));
        for threads in thread_counts() {
            group.bench_function(BenchmarkId::from_parameter(threads), |bencher| {
                in_pool(threads, || bencher.iter(|| quantize_batch(&batch, &options)));
            });
        }
        group.finish();
    }
}

fn sizes(criterion: &mut Criterion) {
    let options = QuantizeOptions::new(Bits::Four).with_method(Method::Minmax);
    let mut group = criterion.benchmark_group("sizes");
    for rows in [1, 16, 256, 4096] {
        let batch = batch(rows, 4096);
        group.throughput(Throughput::Elements(rows as u64 * 4096));
        for (name, threads) in [("sequential", 1), ("parallel", thread_counts().into_iter().max().unwrap_or(1))] {
            group.bench_function(BenchmarkId::new(name, format!("{rows}x4096")), |bencher| {
                in_pool(threads, || bencher.iter(|| quantize_batch(&batch, &options)));
            });
        }
    }
    group.finish();
}

criterion_group!(benches, threads, sizes);
criterion_main!(benches);
