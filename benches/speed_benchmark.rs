//! File to file: what the program does, through the library, on real safetensors files.

#![allow(missing_docs, reason = "the macros of criterion make public functions")]

mod workloads;

use std::{fs::File, path::Path, sync::Arc, time::Duration};

use arrow_array::{Array, ArrayRef, Float64Array, Int64Array, ListArray, RecordBatch, StringArray, types::Float32Type};
use arrow_quant::{
    compute,
    model::{
        Model,
        part::PART_BYTES,
        scan::{BATCH_BYTES, Scan},
    },
    output::existing::Existing,
    plan::{selection::Selection, spec::Spec},
    run::{
        Cancel, RunSettings,
        plan::Plan,
        progress::{Pass, Progress},
    },
    sql::Session,
    types::{
        Bits, Coding, Equalize, GroupSize, Method,
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

/// Quantizes a model into a folder that is replaced every time. An error ends the benchmark.
fn quantize(model: &Path, spec: &Spec, threads: usize) {
    let settings = RunSettings { check: false, existing: Existing::Overwrite, threads, ..RunSettings::default() };
    let cancel = Cancel::new(false);
    let output = Path::new(".benchmarks/speed_output");
    let planned = Plan::new(spec.clone(), model, Some(output), &settings, &Silent, &cancel);
    let result = planned.and_then(|planned| planned.run(output, &settings, &Silent, &cancel));
    result.unwrap_or_else(|error| panic!("{}: {error}", model.display()));
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn file_to_file(criterion: &mut Criterion, group: &str, model: &str, cases: &[(&str, Spec)]) {
    let workload = workload(model).unwrap_or_else(|| panic!("no workload {model}"));
    let path = workload.make(Path::new(DATA)).unwrap_or_else(|error| panic!("{DATA}: {error}"));
    let mut group = criterion.benchmark_group(group);
    group.sample_size(10).warm_up_time(Duration::from_secs(1)).throughput(Throughput::Elements(workload.parameters()));
    for (case, spec) in cases {
        group.bench_function(BenchmarkId::new(model, case), |bencher| {
            bencher.iter(|| quantize(&path, spec, cores()));
        });
    }
    group.finish();
}

fn quantization_speed(criterion: &mut Criterion) {
    for model in ["100M", "600M"] {
        let cases = [("4 bits, minmax", minmax(Bits::Four)), ("4 bits, search", search(Bits::Four))];
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
        ("4 bits, search", search(Bits::Four)),
        ("2 bits, search", search(Bits::Two)),
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
    let opened = Model::open(model).unwrap_or_else(|error| panic!("{}: {error}", model.display()));
    let choices = Selection(&Spec::default()).choose(&opened);
    let choices = choices.unwrap_or_else(|error| panic!("{}: {error}", model.display()));
    let layers = opened.tensors().iter().zip(&choices);
    let layers = layers.filter(|(_, choice)| choice.options.is_some()).map(|(tensor, _)| tensor);
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

/// Measures what grouping rows, grouping timesteps and equalizing add to a scale per row, through the real recipes.
fn optimization_levels(criterion: &mut Criterion) {
    let workload = workload("100M").unwrap_or_else(|| panic!("no workload 100M"));
    let model = workload.make(Path::new(DATA)).unwrap_or_else(|error| panic!("{DATA}: {error}"));
    let activations = activations(&model);
    let grouped = minmax(Bits::Four);
    let by_row = Spec { group_size: Some(GroupSize::CHANNEL), ..grouped.clone() };
    let time_aware = |spec: &Spec| Spec { activations: Some(activations.clone()), ..spec.clone() };
    let cases = [
        ("baseline", by_row.clone()),
        ("time-aware", time_aware(&by_row)),
        ("spatial", grouped.clone()),
        ("all", Spec { equalize: Some(Equalize::Alpha(0.5)), ..time_aware(&grouped) }),
    ];
    let mut group = criterion.benchmark_group("optimization_levels");
    group.sample_size(10).warm_up_time(Duration::from_secs(1)).throughput(Throughput::Elements(workload.parameters()));
    for (case, spec) in cases {
        group.bench_function(BenchmarkId::new("100M", case), |bencher| {
            bencher.iter(|| quantize(&model, &spec, cores()));
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
        ("minmax", "quantize(weights, 4, 32, 'minmax')", minmax(Bits::Four).row_options()),
        ("search", "quantize(weights, 4)", search(Bits::Four).row_options()),
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

fn minmax(bits: Bits) -> Spec {
    Spec { bits: Some(bits.into()), method: Some(Coding::Fixed(Method::Minmax)), ..Spec::default() }
}

fn search(bits: Bits) -> Spec {
    Spec { bits: Some(bits.into()), ..Spec::default() }
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
