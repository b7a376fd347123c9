//! Makes one of the models that the benchmarks quantize: `make_workload dream-7b .benchmarks/data`.

#[path = "../benches/workloads/mod.rs"]
mod workloads;

use std::{env, path::Path, process::ExitCode};

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let (Some(workload), Some(folder)) =
        (arguments.first().and_then(|name| workloads::workload(name)), arguments.get(1))
    else {
        eprintln!("usage: make_workload NAME FOLDER, where NAME is one of {}", workloads::NAMES.join(", "));
        return ExitCode::from(2);
    };
    match workload.make(Path::new(folder)) {
        Ok(place) => {
            eprintln!("{}: {} parameters in {}", workload.name, workload.parameters(), place.display());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {folder}: {error}");
            ExitCode::FAILURE
        }
    }
}
