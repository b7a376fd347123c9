//! `plan`, `run`, `explain` and `--print-sql`: a plan that is saved, read, changed and run.

use std::{collections::BTreeMap, fs, path::Path};

use crate::{
    activations::llama,
    cli::{Place, contents, fail, succeed},
    gptq,
    model::small,
};

/// The files of an output folder, without what a manifest says of the plan.
fn output(folder: &Path) -> BTreeMap<std::path::PathBuf, Vec<u8>> {
    let mut files = contents(folder);
    let manifest = files.get_mut(Path::new("arrow_quant.json")).unwrap();
    let mut read: serde_json::Value = serde_json::from_slice(manifest).unwrap();
    read["options"].as_object_mut().unwrap().shift_remove("plan");
    // The saved plan has the widths that were measured, in place of the output.
    read["names"].as_array_mut().unwrap().retain(|name| name != "widths.parquet");
    let files_of_it = read.get_mut("files").and_then(serde_json::Value::as_array_mut);
    if let Some(files) = files_of_it {
        files.retain(|file| file["file"] != "widths.parquet");
    }
    if read.get("files").and_then(serde_json::Value::as_array).is_some_and(Vec::is_empty) {
        read.as_object_mut().unwrap().shift_remove("files");
    }
    *manifest = serde_json::to_vec(&read).unwrap();
    files.remove(Path::new("widths.parquet"));
    files
}

/// Plans and runs, and expects what `quantize` writes.
fn check(place: &Place, model: &str, options: &[&str]) {
    let paths = ["direct", "plan", "planned"].map(|name| place.text(name));
    let [direct, plan, planned] = paths.each_ref().map(String::as_str);
    succeed(&[&["quantize", model, "--output", direct], options].concat());
    let shown = succeed(&[&["plan", model, "--output", plan], options].concat());
    assert!(shown.contains("tensors would be quantized"), "{shown}");
    let explained = succeed(&["explain", plan]);
    assert!(explained.contains("WeightsScan") || explained.contains("WeightsExec"), "{explained}");
    // A table without rows is left out of the plan, and only the choices are looked up.
    let is_plain = !options.iter().any(|option| ["--equalize", "--hessians"].contains(option));
    assert!(!is_plain || explained.matches("JoinExec").count() == 1, "{options:?}: {explained}");
    succeed(&["run", plan, "--output", planned]);
    assert!(output(Path::new(direct)) == output(Path::new(planned)), "{options:?}");
    for path in paths {
        fs::remove_dir_all(path).unwrap();
    }
}

#[test]
fn a_saved_plan_runs_to_the_bytes_of_quantize() {
    let place = llama(96, safetensors::Dtype::BF16);
    let (model, acts) = (place.text("."), place.text("acts.parquet"));
    for options in [
        &["--bits", "2", "--bits-for", "mlp=8"][..],
        &["--format", "arrow", "--symmetric", "--exclude", "q_proj"],
        &["--target-bpw", "3.5"],
        &["--equalize", "weights"],
        &["--activations", &acts, "--equalize", "auto"],
        &["--format", "safetensors", "--bits", "3", "--activations", &acts],
        &["--format", "compressed-tensors", "--group-size", "16", "--activations", &acts],
        &["--format", "gguf", "--gguf-type", "Q4_0", "--gguf-type-for", "q_proj=F16", "--equalize", "weights"],
    ] {
        check(&place, &model, options);
    }
    let (place, model, hessians) = gptq::place();
    check(&place, &model, &["--hessians", &hessians]);
}

/// Changes `choices.parquet` of a plan by a query over it.
fn edit(plan: &Path, query: &str) {
    let table = plan.join("choices.parquet");
    let edited = plan.join("edited.parquet");
    let script = format!(
        "CREATE EXTERNAL TABLE choices STORED AS PARQUET LOCATION '{}';
         COPY ({query}) TO '{}' STORED AS PARQUET;",
        table.display(),
        edited.display()
    );
    succeed(&["sql", &script]);
    fs::rename(edited, table).unwrap();
}

#[test]
fn choices_and_sql_may_be_edited() {
    let place = Place::new();
    small(&place.path("model.safetensors"));
    let (model, plan, out) = (place.text("model.safetensors"), place.text("plan"), place.text("out"));
    succeed(&["plan", &model, "--output", &plan]);
    edit(
        &place.path("plan"),
        "SELECT name, CASE WHEN name LIKE '%layers.1%' THEN 8 ELSE bits END AS bits, group_size, method, symmetric,
                type, 'by hand' AS note FROM choices",
    );
    let sql = fs::read_to_string(place.path("plan/plan.sql")).unwrap();
    let louder = sql.replace("weights), bits", "weights), CASE WHEN bits = 4 THEN 2 ELSE bits END");
    assert_ne!(louder, sql);
    fs::write(place.path("plan/plan.sql"), &louder).unwrap();
    let report = succeed(&["run", &plan, "--output", &out, "--report"]);
    assert!(report.contains("by hand"), "{report}");
    let parts = place.text("out/weights");
    let script = format!(
        "CREATE EXTERNAL TABLE rows STORED AS PARQUET LOCATION '{parts}/'; SELECT name LIKE '%layers.1%' AS second,
         min(quantized['bits']) AS low, max(quantized['bits']) AS high FROM rows WHERE quantized IS NOT NULL
         GROUP BY second ORDER BY second"
    );
    let manifest = fs::read_to_string(place.path("out/arrow_quant.json")).unwrap();
    let manifest: serde_json::Value = serde_json::from_str(&manifest).unwrap();
    assert_eq!(manifest["sql"], louder.as_str());
    assert!(manifest["options"]["plan"]["digest"].is_string(), "{manifest}");
    let bits = succeed(&["sql", &script]);
    assert!(bits.contains("| false  | 2   | 2    |") && bits.contains("| true   | 8   | 8    |"), "{bits}");
}

#[test]
fn a_query_may_store_codes_of_variable_length() {
    let place = Place::new();
    small(&place.path("model.safetensors"));
    let [model, plan, out, floats] = ["model.safetensors", "plan", "out", "floats"].map(|name| place.text(name));
    succeed(&["plan", &model, "--output", &plan]);
    let sql = fs::read_to_string(place.path("plan/plan.sql")).unwrap();
    let coded = sql.replace(
        "quantize(coalesce(equalized, weights), bits, group_size, method, symmetric, importance)",
        "CASE WHEN bits IS NOT NULL THEN quantize(coalesce(equalized, weights), 5.5, 32, 'entropy') END",
    );
    assert_ne!(coded, sql);
    fs::write(place.path("plan/plan.sql"), coded).unwrap();
    let said = succeed(&["run", &plan, "--output", &out]);
    assert!(said.contains("verified"), "{said}");
    // The folder is read as any other: compared with its source, and exported.
    let compared = succeed(&["compare", &model, &out]);
    assert!(compared.contains("dB"), "{compared}");
    succeed(&["quantize", &out, "--output", &floats, "--format", "safetensors", "--include", "nothing|weight"]);
    let script = format!(
        "CREATE EXTERNAL TABLE rows STORED AS PARQUET LOCATION '{}/';
         SELECT min(quantized['bits']) AS low, max(quantized['bits']) AS high FROM rows WHERE quantized IS NOT NULL",
        place.text("out/weights")
    );
    let bits = succeed(&["sql", &script]);
    assert!(bits.contains("| 0   | 0    |"), "{bits}");
}

#[test]
fn what_does_not_fit_is_named() {
    let place = Place::new();
    small(&place.path("model.safetensors"));
    let (model, plan, out) = (place.text("model.safetensors"), place.text("plan"), place.text("out"));
    let run = || fail(1, &["run", &plan, "--output", &out]);
    assert!(run().contains("plan: holds no plan: "), "{}", run());
    succeed(&["plan", &model, "--output", &plan]);
    let again = fail(1, &["plan", &model, "--output", &plan]);
    assert!(again.contains("is not empty; a plan needs a folder of its own"), "{again}");
    let good = fs::read(place.path("plan/choices.parquet")).unwrap();
    let columns = "name, bits, group_size, method, symmetric, type, note";
    for (query, problem) in [
        (format!("SELECT {columns} FROM choices WHERE name <> 'scalar'"), "has no row for 'scalar'"),
        (format!("SELECT {columns} FROM choices UNION ALL SELECT {columns} FROM choices"), "has a row already"),
        ("SELECT * REPLACE (5 AS bits) FROM choices".to_owned(), "bits must be"),
        ("SELECT * REPLACE (0 AS group_size) FROM choices WHERE bits = 4".to_owned(), "group_size must be"),
        ("SELECT * REPLACE ('best' AS method) FROM choices WHERE bits = 4".to_owned(), "method must be"),
        (
            "SELECT * REPLACE (NULL AS method) FROM choices WHERE bits = 4".to_owned(),
            "method is null where bits are given",
        ),
        ("SELECT * REPLACE ('Q4_0' AS type) FROM choices".to_owned(), "type must be null in a plan for parquet"),
        (
            "SELECT name, 4 AS bits, 32 AS group_size, 'search' AS method, false AS symmetric, type, note FROM choices"
                .to_owned(),
            "cannot be quantized (",
        ),
        ("SELECT * REPLACE ('other' AS name) FROM choices".to_owned(), "'other' is no tensor of the model"),
        ("SELECT name, bits FROM choices".to_owned(), "has no column group_size"),
    ] {
        fs::write(place.path("plan/choices.parquet"), &good).unwrap();
        edit(&place.path("plan"), &query);
        let error = run();
        assert!(error.contains("choices.parquet: ") && error.contains(problem), "{query}: {error}");
    }
    fs::write(place.path("plan/choices.parquet"), &good).unwrap();
    let sql = fs::read_to_string(place.path("plan/plan.sql")).unwrap();
    for (changed, problem) in [
        ("DROP TABLE layers".to_owned(), "DDL not supported"),
        ("SELECT name FROM layers".to_owned(), "the query gives no column module; it must give name, module, "),
    ] {
        fs::write(place.path("plan/plan.sql"), changed).unwrap();
        assert!(run().contains(problem), "{}", run());
    }
    // A small model is one part, so that the writer is the first to see that rows are in another order.
    fs::write(place.path("plan/plan.sql"), format!("{sql} ORDER BY name")).unwrap();
    let error = run();
    assert!(error.contains("'empty'") || error.contains(" belongs"), "{error}");
    fs::remove_dir_all(place.path("out.partial")).unwrap();
    fs::write(place.path("plan/plan.sql"), &sql).unwrap();
    assert!(!place.path("out").exists());
    let weights = crate::model::f32_bytes(&crate::model::noise(64, 1));
    let tensor = ("a.weight", safetensors::Dtype::F32, vec![2, 32], weights);
    crate::model::write(&place.path("model.safetensors"), &[tensor]);
    assert!(run().contains("model.safetensors: has changed since the plan was made; plan again"), "{}", run());
}

#[test]
fn print_sql_prints_statements_that_run() {
    let place = llama(96, safetensors::Dtype::F32);
    let model = place.text(".");
    for options in [
        &["--bits", "2"][..],
        &["--equalize", "weights"],
        &["--format", "compressed-tensors"],
        &["--format", "gguf", "--activations", &place.text("acts.parquet"), "--equalize", "0.5"],
    ] {
        let script = succeed(&[&["quantize", &model, "--print-sql"], options].concat());
        let (tables, query) = script.split_at(script.find("-- ").unwrap());
        let query = query.trim_end().trim_end_matches(';');
        let counted = format!("{tables} SELECT count(*) AS rows, count(DISTINCT name) AS tensors FROM ({query})");
        let printed = succeed(&["sql", &counted]);
        // Two blocks: four matrices of 48 rows, two of 96, one of 48, and two norms.
        assert!(printed.contains("| 868  | 18      |"), "{options:?}: {printed}");
        assert!(succeed(&["sql", &script, "--max-rows", "1"]).contains("the first 1 rows"));
    }
    let (_place, model, hessians) = gptq::place();
    let error = fail(1, &["quantize", &model, "--print-sql", "--hessians", &hessians]);
    assert!(error.contains("cannot be written as SQL"), "{error}");
}
