//! GPTQ in a run: Hessians that calibration wrote, from their file to the report.

use std::{fs::File, path::Path, sync::Arc};

use arrow_array::{ArrayRef, Int64Array, ListArray, RecordBatch, StringArray, types::Float64Type};
use arrow_quant::{
    model::output_folder::QuantizedModel,
    sql::{Session, recipes},
};
use datafusion::{catalog::MemTable, physical_plan::displayable};
use parquet::arrow::ArrowWriter;

use crate::{
    cli::{Place, contents, fail, succeed},
    model::{noise, small},
};

const INPUTS: usize = 48;
const Q: &str = "model.layers.0.self_attn.q_proj.weight";
const UP: &str = "model.layers.0.mlp.up_proj.weight";

/// What a model is joined with that is not equalized.
const NO_CHANGES: &str = "CREATE VIEW changes AS SELECT NULL AS name, NULL AS factors, NULL AS row_factors, NULL AS offsets, \
                          NULL AS back_factors, NULL AS back_row_factors, NULL AS back_offsets, NULL AS importance, \
                          NULL AS stored_as WHERE false";

/// The upper triangle of the mean product of inputs whose neighbouring channels are alike.
fn hessian(seed: u64) -> Vec<f64> {
    let tokens = 200;
    let mut sums = vec![0.0; INPUTS * (INPUTS + 1) / 2];
    for token in 0..tokens {
        let mut x: Vec<f64> = noise(INPUTS, seed * 1000 + token).into_iter().map(f64::from).collect();
        (1..INPUTS).for_each(|i| x[i] += 0.9 * x[i - 1]);
        let products = (0..INPUTS).flat_map(|i| (i..INPUTS).map(move |j| (i, j)));
        for (sum, (i, j)) in sums.iter_mut().zip(products) {
            *sum += x[i] * x[j] / tokens as f64;
        }
    }
    sums
}

fn write(path: &Path, rows: &[(&str, i64, Vec<f64>)]) {
    let lists = rows.iter().map(|(_, _, hessian)| Some(hessian.iter().copied().map(Some)));
    let batch = RecordBatch::try_from_iter([
        ("name", Arc::new(rows.iter().map(|row| Some(row.0)).collect::<StringArray>()) as ArrayRef),
        ("tokens", Arc::new(rows.iter().map(|row| Some(row.1)).collect::<Int64Array>())),
        ("hessian", Arc::new(ListArray::from_iter_primitive::<Float64Type, _, _>(lists))),
    ])
    .unwrap();
    let mut writer = ArrowWriter::try_new(File::create(path).unwrap(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

/// The first layer's inputs are known; of the second, one Hessian is that of no inputs.
pub fn place() -> (Place, String, String) {
    let place = Place::new();
    small(&place.path("model.safetensors"));
    let mut indefinite = hessian(3);
    indefinite[1] = 1e6;
    let rows = [(Q, 200, hessian(1)), (UP, 200, hessian(2)), ("model.layers.1.mlp.up_proj.weight", 200, indefinite)];
    write(&place.path("hessians.parquet"), &rows);
    let (model, hessians) = (place.text("model.safetensors"), place.text("hessians.parquet"));
    (place, model, hessians)
}

#[test]
fn a_run_quantizes_what_it_has_hessians_of_by_gptq_and_the_report_says_so() {
    let (place, model, hessians) = place();
    let out = place.text("out");
    let text = succeed(&["quantize", &model, "--output", &out, "--bits", "3", "--hessians", &hessians, "--report"]);
    assert!(text.contains("2 tensors quantized by GPTQ") && text.contains(": verified"), "{text}");
    let line = |name: &str| text.lines().find(|line| line.contains(name)).unwrap().to_owned();
    assert!(line(Q).contains("GPTQ, damping 0.01") && line(UP).contains("GPTQ, damping 0.01"), "{text}");
    assert!(line("layers.1.mlp.up").contains("search: no damping made its Hessian positive definite"), "{text}");
    assert!(!line("layers.1.self_attn").contains("GPTQ"), "{text}");
    let folder = QuantizedModel::open(Path::new(&out)).unwrap();
    assert_eq!(folder.manifest().options["hessians"]["damping"], 0.01);

    // What GPTQ did not quantize is as without; what it did decodes to other weights, and to those that SQL gives.
    let plain = place.text("plain");
    succeed(&["quantize", &model, "--output", &plain, "--bits", "3"]);
    let script = format!(
        "CREATE EXTERNAL TABLE hessians STORED AS PARQUET LOCATION '{hessians}';
         CREATE EXTERNAL TABLE o STORED AS PARQUET LOCATION '{out}/weights/part-00000.parquet';
         CREATE EXTERNAL TABLE p STORED AS PARQUET LOCATION '{plain}/weights/part-00000.parquet';
         CREATE TABLE factors AS SELECT name, hessian_factor(hessian) AS factor FROM hessians;
         SELECT l.name, bool_and(o.quantized = p.quantized) AS as_without,
                bool_and(o.quantized = gptq(l.weights, f.factor, 3)) AS as_sql
         FROM layers l JOIN o ON l.name = o.name AND l.channel = o.channel
         JOIN p ON l.name = p.name AND l.channel = p.channel
         LEFT JOIN factors f ON l.name = f.name
         WHERE o.quantized IS NOT NULL GROUP BY l.name ORDER BY l.name"
    );
    let table = succeed(&["sql", &script, "--table", &format!("layers={model}")]);
    for (name, expected) in [
        (Q, "| false      | true "),
        (UP, "| false      | true "),
        ("model.layers.1.self_attn.q_proj.weight", "| true       | "),
        ("model.layers.1.mlp.up_proj.weight", "| true       | "),
    ] {
        let line = table.lines().find(|line| line.contains(name)).unwrap();
        assert!(line.contains(expected), "{table}");
    }
}

#[test]
fn the_bytes_are_the_same_for_any_number_of_threads() {
    let (place, model, hessians) = place();
    let written = ["1", "3"].map(|threads| {
        let out = place.text(threads);
        let options = ["--bits", "2", "--hessians", &hessians, "--threads", threads];
        succeed(&[&["quantize", &model, "--output", &out][..], &options].concat());
        contents(Path::new(&out))
    });
    assert!(written[0] == written[1]);
}

#[test]
fn a_dry_run_shows_what_would_run() {
    let (_place, model, hessians) = place();
    let text = succeed(&["quantize", &model, "--dry-run", "--hessians", &hessians]);
    assert!(text.lines().any(|line| line.contains(UP) && line.ends_with("(GPTQ, damping 0.01)")), "{text}");
}

#[tokio::test]
async fn the_recipe_reads_weights_once_and_neither_sorts_nor_exchanges_them() {
    let (_place, model, hessians) = place();
    let session = Session::new(2).unwrap();
    session.register_model("layers", Path::new(&model)).unwrap();
    for statement in [
        format!("CREATE EXTERNAL TABLE hessians STORED AS PARQUET LOCATION '{hessians}'"),
        format!("CREATE TABLE hessian_factors AS {}", recipes::HESSIAN_FACTORS.sql),
        NO_CHANGES.to_owned(),
        format!(
            "CREATE TABLE choices AS SELECT '{UP}' AS name, 2 AS bits, 32 AS group_size, 'search' AS method, false AS symmetric"
        ),
    ] {
        session.sql(&statement).await.unwrap().collect().await.unwrap();
    }
    let plan = session.sql(recipes::QUANTIZE.sql).await.unwrap().create_physical_plan().await.unwrap();
    let physical = displayable(plan.as_ref()).indent(false).to_string();
    assert_eq!(physical.lines().filter(|line| line.contains("WeightsScan")).count(), 1, "{physical}");
    assert!(!physical.contains("Sort") && !physical.contains("Repartition"), "{physical}");
}

#[test]
fn what_cannot_be_used_is_one_line_of_error() {
    let (place, model, hessians) = place();
    let out = place.text("out");
    let base = ["quantize", &model, "--output", &out, "--hessians", &hessians];
    for extra in [&["--symmetric"][..], &["--min-sqnr", "10"]] {
        assert!(fail(2, &[&base, extra].concat()).contains("cannot be used with"));
    }
    let error = fail(2, &[&base, &["--format", "safetensors"][..]].concat());
    assert!(error.contains("--hessians needs --format parquet or arrow"), "{error}");
    let wrong = place.text("wrong.parquet");
    let long = || vec![1.0; INPUTS * (INPUTS + 1) / 2];
    let mut nan = long();
    nan[7] = f64::NAN;
    for (rows, message) in [
        (vec![("gone", 1, long())], "row 0: 'gone' is no matrix of the model"),
        (vec![("scalar", 1, vec![1.0])], "row 0: 'scalar' is no matrix of the model"),
        (vec![(Q, 1, vec![1.0; 3])], "has 3 numbers; the upper triangle for 48 inputs has 1176"),
        (
            vec![(Q, 1, hessian(1)), (Q, 1, hessian(1))],
            "row 1: 'model.layers.0.self_attn.q_proj.weight' has a row already",
        ),
        (vec![(Q, 0, long())], "tokens must be 1 or more"),
        (vec![(Q, 1, nan)], "row 0: 'model.layers.0.self_attn.q_proj.weight': element 7 is NaN"),
        (vec![], "has no rows"),
    ] {
        write(Path::new(&wrong), &rows);
        let error = fail(1, &["quantize", &model, "--output", &out, "--hessians", &wrong]);
        assert!(error.contains("wrong.parquet") && error.contains(message), "{error}");
        assert!(!Path::new(&out).exists());
    }
    assert!(fail(1, &["quantize", &model, "--output", &out, "--hessians", &model]).contains("model.safetensors"));
}

#[test]
fn what_does_not_go_together_is_refused_whichever_is_asked_for_first() {
    let (place, model, hessians) = place();
    let expected = "--hessians cannot be used with --equalize: Hessians are those of inputs that are not equalized";
    let (one, other) = (["--hessians", &hessians], ["--equalize", "weights"]);
    let errors = [[one, other], [other, one]].map(|options| {
        let run = ["quantize", &model, "--output", &place.text("out")];
        fail(2, &[&run[..], &options.concat()].concat())
    });
    assert!(errors[0].contains(expected) && errors[0] == errors[1], "{errors:?}");
}

#[tokio::test]
async fn factors_without_rows_quantize_everything_by_search() {
    let (_place, model, _) = place();
    let session = Session::new(1).unwrap();
    session.register_model("layers", Path::new(&model)).unwrap();
    let schema = arrow_quant::types::factor::factors_schema();
    let empty = MemTable::try_new(Arc::clone(&schema), vec![vec![RecordBatch::new_empty(schema)]]).unwrap();
    session.context().register_table("hessian_factors", Arc::new(empty)).unwrap();
    session.sql(NO_CHANGES).await.unwrap();
    let choices = "CREATE TABLE choices AS SELECT DISTINCT name, 2 AS bits, 32 AS group_size, 'search' AS method, \
                   false AS symmetric FROM layers WHERE name LIKE '%proj%'";
    session.sql(choices).await.unwrap().collect().await.unwrap();
    let query = format!(
        "SELECT bool_and(r.quantized = quantize(l.weights, 2)) AS same FROM ({}) r \
         JOIN layers l ON r.name = l.name AND r.channel = l.channel WHERE r.quantized IS NOT NULL",
        recipes::QUANTIZE.sql
    );
    let batches = session.sql(&query).await.unwrap().collect().await.unwrap();
    let same = arrow_array::cast::AsArray::as_boolean(batches[0].column(0));
    assert!(same.value(0));
}
