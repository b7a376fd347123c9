//! File to file: what the program does, through the library, on real safetensors files.

#![allow(missing_docs, reason = "the macros of criterion make public functions")]

mod workloads;

use std::{fs::File, path::Path, sync::Arc, time::Duration};

use arrow_array::{Array, ArrayRef, Float64Array, Int64Array, ListArray, RecordBatch, StringArray, types::Float32Type};
use arrow_quant::{
    compute,
    io::{
        Existing, Model, Rules, Scan,
        scan::{BATCH_BYTES, PART_BYTES},
    },
    sql::{ActivationOptions, Cancel, Destination, Equalize, Job, Pass, PlannedJob, Progress, Session},
    types::{
        ActivationBits, Bits, Method, OutputFormat, QuantizeOptions, TimeMethod,
        weights::{WEIGHTS, weights_schema},
    },
};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use datafusion::common::DataFusionError;
use futures::StreamExt;
use parquet::arrow::ArrowWriter;
use workloads::{NormalTable, workload};

const DATA: &str = ".benchmarks/data";

struct Silent;

impl Progress for Silent {
    fn start(&self, _: Pass, _: u64) {}
    fn advance(&self, _: u64) {}
    fn finish(&self) {}
}

fn plan(model: &Path, options: QuantizeOptions) -> PlannedJob {
    let rules = Rules::new(options, Some(options.method));
    let job = Job { model: model.to_owned(), rules, target: OutputFormat::Parquet.into(), batch: false };
    job.plan().unwrap_or_else(|error| panic!("{}: {error}", model.display()))
}

/// Quantizes a model into a folder that is replaced every time. An error ends the benchmark.
fn quantize(model: &Path, options: QuantizeOptions, threads: usize) {
    run(model, &plan(model, options), threads);
}

/// The same of what was planned.
fn run(model: &Path, planned: &PlannedJob, threads: usize) {
    let destination = Destination {
        check: false,
        output: Path::new(".benchmarks/speed_output").to_owned(),
        existing: Existing::Overwrite,
        threads,
        memory_limit: None,
    };
    let result = planned.run(&destination, &Silent, &Cancel::new(false));
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

/// Activations of every quantized layer of a model at twenty timesteps, wider towards the end. Made once.
fn activations(model: &Path) -> std::path::PathBuf {
    const STEPS: usize = 20;
    let path = Path::new(DATA).join("activations.parquet");
    if path.is_file() {
        return path;
    }
    let planned = plan(model, minmax(Bits::Four));
    let layers: Vec<_> = planned.model().tensors().iter().zip(planned.choices()).collect();
    let layers = layers.into_iter().filter(|(_, choice)| choice.options.is_some()).map(|(tensor, _)| tensor);
    let normal = NormalTable::new();
    let temporary = path.with_extension("tmp");
    let file = File::create(&temporary).unwrap_or_else(|error| panic!("{}: {error}", temporary.display()));
    let mut writer: Option<ArrowWriter<File>> = None;
    let mut file = Some(file);
    for (seed, layer) in (0..).zip(layers) {
        let width = layer.shape[1];
        let size: Vec<f32> = normal.draw(width, seed).map(|z| 1.0 + z.abs()).collect();
        let lists = |factor: fn(f32) -> f32| -> ArrayRef {
            let row = |step: usize| {
                Some(size.iter().map(move |size| Some(factor(*size * (1.0 + step as f32 / 10.0)))).collect::<Vec<_>>())
            };
            Arc::new(ListArray::from_iter_primitive::<Float32Type, _, _>((0..STEPS).map(row)))
        };
        let batch = RecordBatch::try_from_iter([
            ("name", Arc::new(StringArray::from(vec![layer.name.as_str(); STEPS])) as ArrayRef),
            ("timestep", Arc::new((0..STEPS).map(|step| Some(step as f64)).collect::<Float64Array>())),
            ("tokens", Arc::new(Int64Array::from(vec![1024; STEPS]))),
            ("channel_min", lists(|x| -x)),
            ("channel_max", lists(|x| x)),
            ("channel_mean_square", lists(|x| x * x / 9.0)),
        ]);
        let batch = batch.unwrap_or_else(|error| panic!("{error}"));
        let written = match (&mut writer, file.take()) {
            (None, Some(file)) => ArrowWriter::try_new(file, batch.schema(), None).and_then(|mut new| {
                new.write(&batch)?;
                writer = Some(new);
                Ok(())
            }),
            (Some(writer), _) => writer.write(&batch),
            (None, None) => Ok(()),
        };
        written.unwrap_or_else(|error| panic!("{}: {error}", temporary.display()));
    }
    let closed = writer.map(ArrowWriter::close).transpose();
    closed.unwrap_or_else(|error| panic!("{}: {error}", temporary.display()));
    std::fs::rename(&temporary, &path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    path
}

/// What grouping rows, grouping timesteps and equalizing add to a scale per row, through the real recipes.
fn optimization_levels(criterion: &mut Criterion) {
    let workload = workload("100M").unwrap_or_else(|| panic!("no workload 100M"));
    let model = workload.make(Path::new(DATA)).unwrap_or_else(|error| panic!("{DATA}: {error}"));
    let bits = ActivationBits::try_from(8).unwrap_or_else(|error| panic!("{error}"));
    let time_aware = ActivationOptions {
        file: activations(&model),
        time_groups: 8,
        time_method: TimeMethod::Optimal,
        bits,
        symmetric: false,
    };
    let grouped = minmax(Bits::Four);
    let by_row = grouped.with_group_size(i64::from(u32::MAX)).unwrap_or_else(|error| panic!("{error}"));
    let cases = [
        ("baseline", by_row, None, None),
        ("time-aware", by_row, Some(&time_aware), None),
        ("spatial", grouped, None, None),
        ("all", grouped, Some(&time_aware), Some(Equalize::Alpha(0.5))),
    ];
    let mut group = criterion.benchmark_group("optimization_levels");
    group.sample_size(10).warm_up_time(Duration::from_secs(1)).throughput(Throughput::Elements(workload.parameters()));
    for (case, options, activations, equalize) in cases {
        group.bench_function(BenchmarkId::new("100M", case), |bencher| {
            bencher.iter(|| {
                let mut planned = Ok(plan(&model, options));
                if let Some(activations) = activations {
                    planned = planned.and_then(|planned| planned.with_activations(activations.clone()));
                }
                if let Some(by) = equalize {
                    planned = planned.and_then(|planned| planned.with_equalization(by));
                }
                let planned = planned.unwrap_or_else(|error| panic!("{}: {error}", model.display()));
                run(&model, &planned, cores());
            });
        });
    }
    group.finish();
}

/// A query into nothing beside the array function on the same rows, read from the same file by one thread.
fn sql_and_array_function(criterion: &mut Criterion) {
    let workload = workload("dream-block").unwrap_or_else(|| panic!("no workload dream-block"));
    let path = workload.make(Path::new(DATA)).unwrap_or_else(|error| panic!("{DATA}: {error}"));
    let model = Arc::new(Model::open(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())));
    let weights = weights_schema().index_of(WEIGHTS).unwrap_or_else(|error| panic!("{error}"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.unwrap_or_else(|error| panic!("{error}"));
    let session = Session::new(1).unwrap_or_else(|error| panic!("{error}"));
    session.register_model("layers", &path).unwrap_or_else(|error| panic!("{error}"));

    let mut group = criterion.benchmark_group("sql_and_array_function");
    group.sample_size(10).warm_up_time(Duration::from_secs(1)).throughput(Throughput::Elements(workload.parameters()));
    for (name, call, options) in [
        ("minmax", "quantize(weights, 4, 32, 'minmax')", minmax(Bits::Four)),
        ("search", "quantize(weights, 4)", QuantizeOptions::new(Bits::Four)),
    ] {
        let query = format!("SELECT {call} FROM layers");
        group.bench_function(BenchmarkId::new("sql", name), |bencher| {
            bencher.iter(|| {
                let rows = runtime.block_on(async {
                    let mut stream = session.sql(&query).await?.execute_stream().await?;
                    let mut rows = 0;
                    while let Some(batch) = stream.next().await {
                        rows += batch?.num_rows();
                    }
                    Ok::<_, DataFusionError>(rows)
                });
                rows.unwrap_or_else(|error| panic!("{error}"))
            });
        });
        let options = options.into();
        group.bench_function(BenchmarkId::new("array function", name), |bencher| {
            bencher.iter(|| {
                let mut rows = 0;
                for part in model.parts(None, PART_BYTES) {
                    let scan = Scan::new(Arc::clone(&model), part, vec![weights], BATCH_BYTES);
                    for batch in scan.unwrap_or_else(|error| panic!("{error}")) {
                        let batch = batch.unwrap_or_else(|error| panic!("{error}"));
                        let quantized = compute::quantize(batch.column(0), &options);
                        rows += quantized.unwrap_or_else(|error| panic!("{error}")).len();
                    }
                }
                rows
            });
        });
    }
    group.finish();
}

fn minmax(bits: Bits) -> QuantizeOptions {
    QuantizeOptions::new(bits).with_method(Method::Minmax)
}

criterion_group!(
    benches,
    quantization_speed,
    bit_width_comparison,
    dream_7b_target,
    optimization_levels,
    sql_and_array_function
);
criterion_main!(benches);
