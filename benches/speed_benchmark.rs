//! File to file: what the program does, through the library, on real safetensors files.

#![allow(missing_docs, reason = "the macros of criterion make public functions")]

mod workloads;

use std::{path::Path, time::Duration};

use arrow_quant::{
    io::{Existing, OutputFormat, Rules},
    sql::{Cancel, Destination, Job, Progress},
    types::{Bits, Method, QuantizeOptions},
};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use workloads::workload;

const DATA: &str = ".benchmarks/data";

struct Silent;

impl Progress for Silent {
    fn start(&self, _: u64) {}
    fn advance(&self, _: u64) {}
    fn finish(&self) {}
}

/// Quantizes a model into a folder that is replaced every time. An error ends the benchmark.
fn quantize(model: &Path, options: QuantizeOptions, threads: usize) {
    let rules = Rules::new(options, Some(options.method));
    let job = Job { model: model.to_owned(), rules, batch: false };
    let destination = Destination {
        output: Path::new(".benchmarks/speed_output").to_owned(),
        format: OutputFormat::Parquet,
        existing: Existing::Overwrite,
        threads,
        memory_limit: None,
    };
    let result = job.plan().and_then(|planned| planned.run(&destination, &Silent, &Cancel::new(false)));
    result.unwrap_or_else(|error| panic!("{}: {error}", model.display()));
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn file_to_file(criterion: &mut Criterion, group: &str, model: &str, cases: &[(&str, QuantizeOptions)]) {
    let workload = workload(model).unwrap_or_else(|| panic!("no workload {model}"));
    let path = workload.make(Path::new(DATA)).unwrap_or_else(|error| panic!("{DATA}: {error}"));
    let mut group = criterion.benchmark_group(group);
    group.sample_size(10).warm_up_time(Duration::from_secs(1)).throughput(Throughput::Elements(workload.parameters()));
    for (case, options) in cases {
        group.bench_function(BenchmarkId::new(model, case), |bencher| {
            bencher.iter(|| quantize(&path, *options, cores()));
        });
    }
    group.finish();
}

fn quantization_speed(criterion: &mut Criterion) {
    for model in ["100M", "600M"] {
        let cases = [("4 bits, minmax", minmax(Bits::Four)), ("4 bits, search", QuantizeOptions::new(Bits::Four))];
        file_to_file(criterion, "quantization_speed", model, &cases);
    }
}

fn bit_width_comparison(criterion: &mut Criterion) {
    let names = ["2 bits", "3 bits", "4 bits", "8 bits"];
    let cases: Vec<_> = names.into_iter().zip(Bits::ALL.map(minmax)).collect();
    file_to_file(criterion, "bit_width_comparison", "100M", &cases);
}

fn dream_7b_target(criterion: &mut Criterion) {
    let cases = [
        ("4 bits, minmax", minmax(Bits::Four)),
        ("4 bits, search", QuantizeOptions::new(Bits::Four)),
        ("2 bits, search", QuantizeOptions::new(Bits::Two)),
    ];
    file_to_file(criterion, "dream_7b_target", "dream-block", &cases);
}

fn minmax(bits: Bits) -> QuantizeOptions {
    QuantizeOptions::new(bits).with_method(Method::Minmax)
}

criterion_group!(benches, quantization_speed, bit_width_comparison, dream_7b_target);
criterion_main!(benches);
