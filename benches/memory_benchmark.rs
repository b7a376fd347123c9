//! Peak resident memory of the program, a fresh process per case: streaming and batch, models, bit widths.

#![allow(clippy::print_stdout, missing_docs, reason = "it is what a benchmark does")]

mod workloads;

use std::{path::Path, process::Command};

use workloads::workload;

const PROGRAM: &str = env!("CARGO_BIN_EXE_arrow-quant");
const DATA: &str = ".benchmarks/data";

/// The memory and time of one process.
struct Case {
    peak: u64,
    seconds: f64,
    bytes_in: u64,
}

fn run(model: &str, more: &[&str]) -> Case {
    let workload = workload(model).unwrap_or_else(|| panic!("no workload {model}"));
    let path = workload.make(Path::new(DATA)).unwrap_or_else(|error| panic!("{DATA}: {error}"));
    let output = Command::new(PROGRAM)
        .args(["quantize", "--json", "--overwrite", "--method", "minmax", "--output", ".benchmarks/memory_output"])
        .args(more)
        .arg(&path)
        .output()
        .unwrap_or_else(|error| panic!("{PROGRAM}: {error}"));
    assert!(output.status.success(), "{model} {more:?}: {}", String::from_utf8_lossy(&output.stderr));
    let summary: serde_json::Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{model} {more:?}: {error}"));
    let number = |key: &str| summary[key].as_f64().unwrap_or_else(|| panic!("the summary has no {key}"));
    Case { peak: number("peak_memory") as u64, seconds: number("seconds"), bytes_in: number("bytes_in") as u64 }
}

fn print(group: &str, name: &str, case: &Case) {
    let megabytes = |bytes: u64| bytes as f64 / 1e6;
    println!(
        "{group:<20} {name:<24} peak {:>8.1} MB, input {:>9.1} MB, {:.2} s",
        megabytes(case.peak),
        megabytes(case.bytes_in),
        case.seconds
    );
}

fn main() {
    let streaming = run("mem-svb", &[]);
    let batch = run("mem-svb", &["--batch"]);
    print("streaming_vs_batch", "mem-svb streaming", &streaming);
    print("streaming_vs_batch", "mem-svb batch", &batch);
    let share = streaming.peak as f64 / batch.peak as f64;
    let verdict = if share < 0.5 { "met" } else { "missed" };
    println!(
        "streaming_vs_batch   streaming takes {:.0} % of batch; under 50 % was promised: {verdict}",
        100.0 * share
    );
    for model in ["100M", "par-100M", "600M"] {
        print("model_sizes", model, &run(model, &[]));
    }
    for bits in ["2", "3", "4", "8"] {
        print("bit_widths", &format!("100M {bits} bits"), &run("100M", &["--bits", bits]));
    }
}
