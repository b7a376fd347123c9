//! Activations: the recipes' plans and results, and what a run writes of them.

use std::{fs::File, path::Path, sync::Arc};

use arrow::util::pretty::pretty_format_batches;
use arrow_array::{
    Array, ArrayRef, Float64Array, Int64Array, ListArray, RecordBatch, StringArray,
    cast::AsArray,
    types::{Float32Type, Float64Type},
};
use arrow_quant::{
    model::output_folder::QuantizedModel,
    sql::{Session, recipes},
    storage::folder::manifest::{ACTIVATION_PARAMS, EQUALIZATION, Manifest},
};
use datafusion::{
    catalog::MemTable,
    common::{ParamValues, ScalarValue},
    physical_plan::displayable,
    prelude::ParquetReadOptions,
};
use parquet::arrow::ArrowWriter;
use safetensors::Dtype;

use crate::{
    cli::{Place, fail, interrupt, succeed},
    model::{self, f32_bytes, noise, small},
};

const LAYERS: [&str; 3] = [
    "model.layers.0.self_attn.q_proj.weight",
    "model.layers.0.mlp.up_proj.weight",
    "model.layers.1.self_attn.q_proj.weight",
];
const STEPS: usize = 12;

fn lists(rows: Vec<Vec<f32>>) -> ArrayRef {
    let rows = rows.into_iter().map(|row| Some(row.into_iter().map(Some)));
    Arc::new(ListArray::from_iter_primitive::<Float32Type, _, _>(rows))
}

/// Ranges that grow along time, with a channel that sticks out; the second half of the rows comes before the first.
fn activations() -> RecordBatch {
    let rows: Vec<_> = (0..LAYERS.len() * STEPS).map(|row| (row + 17) % (LAYERS.len() * STEPS)).collect();
    let wave = |row: usize| {
        let size = 1.0 + (row / LAYERS.len()) as f32;
        let mut high: Vec<f32> = noise(48, row as u64 + 9).iter().map(|x| size * (0.1 + x.abs())).collect();
        high[5] *= 20.0;
        high
    };
    RecordBatch::try_from_iter([
        ("name", Arc::new(rows.iter().map(|row| Some(LAYERS[row % 3])).collect::<StringArray>()) as ArrayRef),
        ("timestep", Arc::new(rows.iter().map(|row| Some((row / 3 * 80) as f64)).collect::<Float64Array>())),
        ("tokens", Arc::new(Int64Array::from(vec![64; rows.len()]))),
        ("channel_min", lists(rows.iter().map(|row| wave(*row).iter().map(|x| -0.5 * x).collect()).collect())),
        ("channel_max", lists(rows.iter().map(|row| wave(*row)).collect())),
        (
            "channel_mean_square",
            lists(rows.iter().map(|row| wave(*row).iter().map(|x| x * x / 9.0).collect()).collect()),
        ),
    ])
    .unwrap()
}

fn write(path: &Path, batch: &RecordBatch) {
    let mut writer = ArrowWriter::try_new(File::create(path).unwrap(), batch.schema(), None).unwrap();
    writer.write(batch).unwrap();
    writer.close().unwrap();
}

fn register(session: &Session, name: &str, batch: RecordBatch) {
    let table = MemTable::try_new(batch.schema(), vec![vec![batch]]).unwrap();
    session.context().register_table(name, Arc::new(table)).unwrap();
}

/// A session with every table that the recipes need.
async fn session() -> (tempfile::TempDir, Session) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    small(&path);
    let session = Session::new(2).unwrap();
    session.register_model("layers", &path).unwrap();
    register(&session, "activations", activations());
    for (name, query) in [
        (
            "choices",
            "SELECT name, 4 AS bits, 32 AS group_size, 'search' AS method, false AS symmetric, 'BF16' AS encoding, \
             CAST(NULL AS REAL[]) AS importance FROM layers WHERE name LIKE '%proj%' AND channel = 0",
        ),
        ("input_scales", "SELECT name, channel_max AS input_scale FROM activations WHERE false"),
        ("hessian_factors", "SELECT name, hessian_factor([1.0]) AS factor FROM choices WHERE false"),
        ("inputs", "SELECT name, name AS input FROM choices"),
        (
            "changes",
            "SELECT name, channel_max AS factors, channel_max AS row_factors, channel_max AS offsets, \
             channel_max AS back_factors, channel_max AS back_row_factors, channel_max AS back_offsets, \
             channel_max AS importance, 'F32' AS stored_as FROM activations WHERE timestep = 80",
        ),
        ("alphas", "SELECT * FROM (VALUES (0.5), (NULL)) AS t(alpha)"),
        (
            "candidates",
            "SELECT name, 0.5 AS alpha, channel_max AS factors, channel_max AS input_size, 0.1 AS noise FROM activations WHERE timestep = 80",
        ),
    ] {
        let frame = session.sql(query).await.unwrap();
        let schema = Arc::new(frame.schema().as_arrow().clone());
        let batches = frame.collect().await.unwrap();
        register(&session, name, arrow::compute::concat_batches(&schema, &batches).unwrap());
    }
    (folder, session)
}

fn parameters(groups: i64, method: &str) -> ParamValues {
    ParamValues::from(vec![
        ("groups", ScalarValue::from(groups)),
        ("method", ScalarValue::from(method)),
        ("bits", ScalarValue::from(6i64)),
        ("symmetric", ScalarValue::from(false)),
    ])
}

async fn table(session: &Session, query: &str, parameters: Option<ParamValues>) -> String {
    let mut frame = session.sql(query).await.unwrap();
    if let Some(parameters) = parameters {
        frame = frame.with_param_values(parameters).unwrap();
    }
    pretty_format_batches(&frame.collect().await.unwrap()).unwrap().to_string()
}

#[tokio::test]
async fn the_recipes_read_weights_once_and_neither_sort_nor_exchange_them() {
    let (_folder, session) = session().await;
    let weighs = [
        recipes::EQUALIZATION,
        recipes::WEIGHT_EQUALIZATION,
        recipes::EQUALIZATION_COST,
        recipes::QUANTIZE,
        recipes::EXPORT,
    ];
    for recipe in weighs.into_iter().chain([recipes::TIME_GROUPS]) {
        let frame = session.sql(recipe.sql).await.unwrap().with_param_values(parameters(4, "optimal")).unwrap();
        let plan = frame.create_physical_plan().await.unwrap();
        let physical = displayable(plan.as_ref()).indent(false).to_string();
        let lines: Vec<_> = physical.lines().collect();
        let scans = lines.iter().filter(|line| line.contains("WeightsScan")).count();
        assert_eq!(scans, usize::from(weighs.contains(&recipe)), "{}\n{physical}", recipe.name);
        // What lies between the scan of the weights and the first aggregate over them.
        let depth = |line: &str| line.len() - line.trim_start().len();
        let Some(scan) = lines.iter().position(|line| line.contains("WeightsScan")) else { continue };
        let mut above = depth(lines[scan]);
        for line in lines[..scan].iter().rev() {
            if depth(line) >= above || line.trim().is_empty() {
                continue;
            }
            above = depth(line);
            if line.contains("AggregateExec: mode=Partial") {
                break;
            }
            assert!(!line.contains("Sort") && !line.contains("Repartition"), "{}: {line}\n{physical}", recipe.name);
        }
    }
}

#[tokio::test]
async fn one_group_is_static_and_as_many_as_timesteps_are_one_per_timestep() {
    let (_folder, session) = session().await;
    let fixed = "SELECT name, CAST(0 AS INT) AS time_group, CAST('-Infinity' AS DOUBLE) AS t_from, \
                 CAST('Infinity' AS DOUBLE) AS t_to, params['scale'] AS scale, params['zero_point'] AS zero_point, \
                 CAST($bits AS BIGINT) AS bits FROM (SELECT name, activation_params(min(array_min(channel_min)), \
                 max(array_max(channel_max)), $bits, $symmetric) AS params FROM activations GROUP BY name) ORDER BY name";
    let fixed = table(&session, fixed, Some(parameters(1, ""))).await;
    for method in ["uniform", "quantile", "optimal"] {
        let one = table(&session, recipes::TIME_GROUPS.sql, Some(parameters(1, method))).await;
        assert_eq!(one, fixed, "{method}");
        let query = format!(
            "SELECT name, time_group, scale, zero_point FROM ({}) ORDER BY name, time_group",
            recipes::TIME_GROUPS.sql
        );
        let all = table(&session, &query, Some(parameters(STEPS as i64, method))).await;
        let each = "SELECT name, time_group, params['scale'] AS scale, params['zero_point'] AS zero_point FROM (\
                    SELECT name, CAST(timestep / 80 AS INT) AS time_group, \
                    activation_params(array_min(channel_min), array_max(channel_max), 6) AS params FROM activations) \
                    ORDER BY name, time_group";
        assert_eq!(all, table(&session, each, None).await, "{method}");
    }
}

#[tokio::test]
async fn more_groups_have_narrower_ranges_that_cover_all_time() {
    let (_folder, session) = session().await;
    let frame = session.sql(recipes::TIME_GROUPS.sql).await.unwrap();
    let batches = frame.with_param_values(parameters(4, "optimal")).unwrap().collect().await.unwrap();
    let rows = arrow::compute::concat_batches(&batches[0].schema(), &batches).unwrap();
    assert_eq!(rows.num_rows(), 4 * LAYERS.len());
    let number = |name: &str| rows.column_by_name(name).unwrap().as_primitive::<Float64Type>().values().to_vec();
    let (from, to) = (number("t_from"), number("t_to"));
    for row in 0..rows.num_rows() {
        let (first, last) = (row % 4 == 0, row % 4 == 3);
        assert!(first == (from[row] == f64::NEG_INFINITY) && last == (to[row] == f64::INFINITY));
        assert!(last || to[row] == from[row + 1]);
    }
    // The ranges of these activations grow.
    let scales = rows.column_by_name("scale").unwrap().as_primitive::<Float32Type>().values();
    assert!(scales.chunks(4).all(|scales| scales.windows(2).all(|pair| pair[0] < pair[1])), "{scales:?}");
}

#[tokio::test]
async fn equalization_keeps_the_products_of_inputs_and_weights() {
    let (_folder, session) = session().await;
    let frame = session.sql(recipes::EQUALIZATION.sql).await.unwrap();
    let schema = Arc::new(frame.schema().as_arrow().clone());
    let factors = arrow::compute::concat_batches(&schema, &frame.collect().await.unwrap()).unwrap();
    assert_eq!(factors.num_rows(), 2 * LAYERS.len());
    register(&session, "found", factors);
    // One over the factors, by the function itself: absmax of 1 and the factors as weights, alpha 0.
    let query = "SELECT max(error['max_abs']) / sqrt(sum(error['a2']) / sum(error['n'])) < 1e-6 AS same FROM (\
                 SELECT error_stats(weights, equalize(equalize(weights, factors), \
                 equalization_factors(factors, factors, 0))) AS error FROM layers JOIN found ON layers.name = found.input)";
    assert!(table(&session, query, None).await.contains("| true |"));
}

fn place() -> Place {
    let place = Place::new();
    small(&place.path("model.safetensors"));
    write(&place.path("acts.parquet"), &activations());
    place
}

#[test]
fn a_run_writes_the_quantizers_and_says_what_has_none() {
    let place = place();
    let (model, acts) = (place.text("model.safetensors"), place.text("acts.parquet"));
    let out = place.text("out");
    let text = succeed(&["quantize", &model, "--output", &out, "--activations", &acts, "--time-groups", "3"]);
    assert!(text.contains("9 activation quantizers"), "{text}");
    assert!(
        text.contains("none for 1 quantized tensors without activations, such as model.layers.1.mlp.up_proj.weight"),
        "{text}"
    );
    let folder = QuantizedModel::open(Path::new(&out)).unwrap();
    assert_eq!(folder.manifest().files.len(), 1);
    assert_eq!(folder.manifest().options["time_groups"], 3);
    assert!(!place.path("out").join(EQUALIZATION).exists());
    // The weights are as they are without activations.
    let plain = place.text("plain");
    succeed(&["quantize", &model, "--output", &plain]);
    let part = |folder: &str| std::fs::read(Path::new(folder).join("weights/part-00000.parquet")).unwrap();
    assert!(part(&out) == part(&plain));
    // A changed table is not one of this model.
    std::fs::write(place.path("out").join(ACTIVATION_PARAMS), b"PAR1").unwrap();
    let error = QuantizedModel::open(Path::new(&out)).unwrap_err().to_string();
    assert!(error.contains("is damaged"), "{error}");
}

/// A place whose model says that it is one of `LLaMA`, with all layers of two blocks, in F32 or BF16.
pub fn llama(inner: usize, dtype: Dtype) -> Place {
    let place = Place::new();
    let matrix = |rows: usize, length: usize, seed| {
        let bytes = f32_bytes(&noise(rows * length, seed));
        if dtype == Dtype::F32 { bytes } else { bytes.chunks(4).flat_map(|bytes| [bytes[2], bytes[3]]).collect() }
    };
    let mut tensors = Vec::new();
    let names: Vec<String> = (0..2).map(|layer| format!("model.layers.{layer}")).collect();
    let all: Vec<(String, Vec<usize>)> = names
        .iter()
        .flat_map(|block| {
            let attention =
                ["q", "k", "v", "o"].map(|name| (format!("{block}.self_attn.{name}_proj.weight"), vec![48, 48]));
            let mlp = ["gate", "up"].map(|name| (format!("{block}.mlp.{name}_proj.weight"), vec![inner, 48]));
            let norms = ["input", "post_attention"].map(|name| (format!("{block}.{name}_layernorm.weight"), vec![48]));
            let down = (format!("{block}.mlp.down_proj.weight"), vec![48, inner]);
            attention.into_iter().chain(mlp).chain([down]).chain(norms)
        })
        .collect();
    for (seed, (name, shape)) in all.iter().enumerate() {
        let (rows, length) = if let [rows, length] = shape[..] { (rows, length) } else { (1, shape[0]) };
        tensors.push((name.as_str(), dtype, shape.clone(), matrix(rows, length, seed as u64)));
    }
    model::write(&place.path("model.safetensors"), &tensors);
    std::fs::write(place.path("config.json"), r#"{"model_type": "llama"}"#).unwrap();
    write(&place.path("acts.parquet"), &activations());
    place
}

#[test]
fn an_equalized_run_compares_to_the_original_and_is_the_same_for_any_threads() {
    for (place, folds) in [(place(), false), (llama(96, Dtype::F32), true)] {
        let (model, acts) = (place.text("model.safetensors"), place.text("acts.parquet"));
        for equalize in ["0.5", "log", "auto", "weights"] {
            let mut written = Vec::new();
            for threads in ["1", "2", "5"] {
                let out = place.text(&format!("{equalize}-{threads}"));
                let given = ["--bits", "8", "--activations", &acts, "--equalize", equalize, "--threads", threads];
                let text = succeed(&[&["quantize", &model, "--output", &out][..], &given].concat());
                let scaled = text.contains("to be scaled by input_scale at run time");
                // Activations are of q_proj and up_proj, which take the output of norms.
                assert!(text.contains("layers equalized, ") && scaled != folds, "{text}");
                let folder = QuantizedModel::open(Path::new(&out)).unwrap();
                assert_eq!(folder.manifest().equalized(), !folds);
                let files = ["weights/part-00000.parquet", EQUALIZATION, ACTIVATION_PARAMS];
                written.push(files.map(|file| std::fs::read(Path::new(&out).join(file)).unwrap()));
                // In the original's channels the 8-bit model is near the original.
                let compared = succeed(&["compare", "--json", &model, &out]);
                let compared: serde_json::Value = serde_json::from_str(&compared).unwrap();
                let tensors = compared["tensors"].as_array().unwrap().iter();
                let ratios: Vec<f64> = tensors.filter_map(|tensor| tensor["sqnr_db"].as_f64()).collect();
                assert!(!ratios.is_empty() && ratios.iter().all(|ratio| *ratio > 30.0), "{compared}");
            }
            assert!(written[0] == written[1] && written[0] == written[2], "{equalize}");
        }
    }
}

#[test]
fn a_folded_run_that_was_interrupted_goes_on_and_gives_the_same() {
    // Large enough for several parts, of the model and of the layer that alpha is chosen for.
    let place = llama(100_000, Dtype::F32);
    let (model, acts) = (place.text("model.safetensors"), place.text("acts.parquet"));
    let (whole, out) = (place.text("whole"), place.text("out"));
    let quantize = |out: &str, alpha: &str, more: &[&str]| {
        let given = ["--activations", &acts, "--equalize", alpha, "--bits", "8"];
        [&["quantize", &model, "--output", out][..], &given, more].concat().into_iter().map(str::to_owned).collect()
    };
    let succeed = |arguments: Vec<String>| succeed(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
    let fail = |arguments: Vec<String>| fail(1, &arguments.iter().map(String::as_str).collect::<Vec<_>>());
    succeed(quantize(&whole, "auto", &["--threads", "1"]));
    let manifest = Manifest::read(Path::new(&whole)).unwrap();
    assert!(manifest.parts.len() > 2);
    let arguments = quantize(&out, "auto", &[]);
    interrupt(&arguments.iter().skip(1).map(String::as_str).collect::<Vec<_>>());
    let finished = std::fs::read_dir(place.path("out.partial/parts")).unwrap().count();
    assert!((1..manifest.parts.len()).contains(&finished), "{finished}");
    // Another alpha is another run.
    let error = fail(quantize(&out, "0.6", &["--resume"]));
    assert!(error.contains("--equalize was"), "{error}");
    // So is another weight of up_proj, even one that the digest of the source passes over: it takes 4096 bytes of each of 64
    // stretches.
    let bytes = std::fs::read(&model).unwrap();
    let data = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let at = data + ((bytes.len() - data) / 64 * 25 + 8192) / 4 * 4;
    let mut changed = bytes.clone();
    changed[at..at + 4].copy_from_slice(&10f32.to_le_bytes());
    // Nor does the time of the file tell.
    let modified = std::fs::metadata(&model).unwrap().modified().unwrap();
    let write = |bytes: &[u8]| {
        std::fs::write(&model, bytes).unwrap();
        std::fs::File::options().write(true).open(&model).unwrap().set_modified(modified).unwrap();
    };
    write(&changed);
    let error = fail(quantize(&out, "auto", &["--resume"]));
    assert!(error.contains("cannot be resumed: its channels were equalized by other factors"), "{error}");
    write(&bytes);
    succeed(quantize(&out, "auto", &["--resume"]));
    let read = |folder: &str, file: &str| std::fs::read(Path::new(folder).join(file)).unwrap();
    let parts = manifest.parts.iter().map(|part| part.file.as_str());
    for file in parts.chain([EQUALIZATION, ACTIVATION_PARAMS, "arrow_quant.json"]) {
        assert!(read(&whole, file) == read(&out, file), "{file}");
    }
}

#[tokio::test]
async fn equalization_lowers_the_range_of_the_activations() {
    let place = place();
    let (model, acts) = (place.text("model.safetensors"), place.text("acts.parquet"));
    let session = Session::new(1).unwrap();
    let mut sums = Vec::new();
    for (name, extra) in [("with", vec!["--equalize", "0.5"]), ("without", vec![])] {
        let out = place.text(name);
        succeed(&[&["quantize", &model, "--output", &out, "--activations", &acts][..], &extra].concat());
        let path = Path::new(&out).join(ACTIVATION_PARAMS);
        let options = ParquetReadOptions::default();
        session.context().register_parquet(name, path.to_str().unwrap(), options).await.unwrap();
        let batches = session.sql(&format!("SELECT sum(CAST(scale AS DOUBLE)) FROM {name}")).await.unwrap();
        sums.push(batches.collect().await.unwrap()[0].column(0).as_primitive::<Float64Type>().value(0));
    }
    assert!(sums[0] < sums[1], "{sums:?}");
}

#[test]
fn what_cannot_be_used_is_one_line_of_error() {
    let place = place();
    let (model, acts, out) = (place.text("model.safetensors"), place.text("acts.parquet"), place.text("out"));
    let quantize = |extra: &[&str]| -> Vec<String> {
        ["quantize", &model, "--output", &out].iter().chain(extra).map(ToString::to_string).collect()
    };
    let fail =
        |code: i32, arguments: Vec<String>| fail(code, &arguments.iter().map(String::as_str).collect::<Vec<_>>());
    for (extra, message) in [
        (vec!["--time-groups", "4"], "--activations"),
        (vec!["--activations", &acts, "--equalize", "2"], "'auto', 'log' or 'weights', not '2'"),
        (vec!["--activations", &acts, "--activation-bits", "9"], "bits of activations must be 2 to 8, not 9"),
        (vec!["--activations", &acts, "--time-groups", "0"], "0"),
        (vec!["--profile", "phone"], "must be 'edge', 'local' or 'cloud', not 'phone'"),
    ] {
        let error = fail(2, quantize(&extra));
        assert!(error.contains(message), "{error}");
    }
    let error = fail(2, quantize(&["--equalize", "0.5"]));
    let expected = "--equalize 0.5 needs --activations; without, use --equalize weights";
    assert!(error.contains(expected), "{error}");
    let error = fail(1, quantize(&["--activations", &model]));
    assert!(error.contains("model.safetensors"), "{error}");
    let unknown = place.path("unknown.parquet");
    let columns: Vec<(String, ArrayRef)> = activations()
        .schema()
        .fields()
        .iter()
        .zip(activations().columns())
        .map(|(field, column)| match field.name().as_str() {
            "name" => ("name".to_owned(), Arc::new(StringArray::from(vec!["gone.weight"; column.len()])) as ArrayRef),
            name => (name.to_owned(), Arc::clone(column)),
        })
        .collect();
    write(&unknown, &RecordBatch::try_from_iter(columns).unwrap());
    let error = fail(1, quantize(&["--activations", unknown.to_str().unwrap()]));
    assert!(error.contains("unknown.parquet: row 0: 'gone.weight' is no tensor of the model"), "{error}");
    assert!(!place.path("out").exists());
}

#[test]
fn a_weight_that_is_not_finite_is_named_before_equalization() {
    let place = place();
    let mut bytes = std::fs::read(place.path("model.safetensors")).unwrap();
    let header = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let text = String::from_utf8(bytes[8..header].to_vec()).unwrap();
    let entry = text.split("model.layers.1.self_attn.q_proj.weight").nth(1).unwrap();
    let start: usize = entry.split("\"data_offsets\":[").nth(1).unwrap().split(',').next().unwrap().parse().unwrap();
    let at = header + start + 4 * (48 * 2 + 7);
    bytes[at..at + 4].copy_from_slice(&f32::NAN.to_le_bytes());
    std::fs::write(place.path("model.safetensors"), bytes).unwrap();
    let (model, acts, out) = (place.text("model.safetensors"), place.text("acts.parquet"), place.text("out"));
    let error = fail(1, &["quantize", &model, "--output", &out, "--activations", &acts, "--equalize", "0.5"]);
    assert!(error.contains("tensor 'model.layers.1.self_attn.q_proj.weight': row 2, element 7 is NaN"), "{error}");
    assert!(!place.path("out").exists() && !place.path("out.partial").exists());
}

#[test]
fn a_profile_sets_what_is_not_given() {
    let place = place();
    let (model, acts, out) = (place.text("model.safetensors"), place.text("acts.parquet"), place.text("out"));
    assert!(succeed(&["profiles"]).lines().count() == 4);
    succeed(&["quantize", &model, "--output", &out, "--profile", "edge", "--group-size", "16", "--activations", &acts]);
    let folder = QuantizedModel::open(Path::new(&out)).unwrap();
    let options = &folder.manifest().options;
    assert_eq!((options["bits"].clone(), options["group_size"].clone()), (2.into(), 16.into()));
    assert_eq!(options["time_groups"], 16);
}
