//! Entropy-coded weights from outside: bits that need not be whole, one step for a budget, folders of them, damaged codes.

use std::{fs, path::Path};

use safetensors::Dtype;

use crate::{
    cli::{Place, contents, fail, interrupt, succeed},
    model::{f32_bytes, noise, write},
};

/// Matrices whose weights have one size, one of much smaller weights, one of zeros, and a norm.
fn place() -> (Place, String, String) {
    let place = Place::new();
    let matrix = |rows: usize, size: f32, seed| {
        let weights: Vec<f32> = noise(rows * 384, seed).iter().map(|weight| weight * size).collect();
        (Dtype::F32, vec![rows, 384], f32_bytes(&weights))
    };
    let mut tensors = vec![("norm.weight".to_owned(), (Dtype::F32, vec![384], f32_bytes(&noise(384, 1))))];
    for layer in 0..6 {
        tensors.push((format!("layers.{layer}.up.weight"), matrix(96 + layer as usize, 1.0, 10 + layer)));
        tensors.push((format!("layers.{layer}.down.weight"), matrix(64, 0.5, 30 + layer)));
    }
    tensors.push(("small.weight".to_owned(), matrix(40, 1e-4, 50)));
    tensors.push(("zero.weight".to_owned(), matrix(8, 0.0, 51)));
    let views: Vec<_> = tensors
        .iter()
        .map(|(name, (dtype, shape, bytes))| (name.as_str(), *dtype, shape.clone(), bytes.clone()))
        .collect();
    write(&place.path("m.safetensors"), &views);
    let (model, out) = (place.text("m.safetensors"), place.text("out"));
    (place, model, out)
}

const ENTROPY: [&str; 2] = ["--method", "entropy"];

fn quantize(model: &str, out: &str, options: &[&str]) -> serde_json::Value {
    let run = [&["quantize", model, "--output", out, "--overwrite", "--json"], &ENTROPY[..], options].concat();
    serde_json::from_str(&succeed(&run)).unwrap()
}

/// One figure of a query over the report.
fn figure(out: &str, expression: &str) -> String {
    let printed =
        succeed(&["sql", "--format", "json", &format!("SELECT {expression} AS f FROM '{out}/report.parquet'")]);
    let rows: serde_json::Value = serde_json::from_str(&printed).unwrap();
    rows[0]["f"].to_string()
}

#[test]
fn any_number_of_bits_is_met_from_below_and_recorded() {
    let (place, model, out) = place();
    let run = quantize(&model, &out, &["--bits", "2.5", "--bits-for", "down=3.25"]);
    assert_eq!(run["quantized_tensors"], 14);
    // Two bytes a row are the length of the codes and the step.
    let per_row = 16.0 / 384.0;
    let most = format!("max(bits_per_weight) FILTER (WHERE name LIKE '%up%') <= {}", 2.5 + per_row);
    assert_eq!(figure(&out, &most), "true");
    let pinned = format!("min(bits_per_weight) FILTER (WHERE name LIKE '%down%') BETWEEN 3.15 AND {}", 3.25 + per_row);
    assert_eq!(figure(&out, &pinned), "true");
    // A bit is worth 6 dB, and 2.5 bits keep more than 13.
    assert_eq!(figure(&out, "min(sqnr_db) FILTER (WHERE name LIKE '%up%') > 13"), "true");
    assert_eq!(figure(&out, "count(*) FILTER (WHERE bits = 0 AND group_size = 4096)"), "14");
    let manifest: serde_json::Value =
        serde_json::from_slice(&fs::read(Path::new(&out).join("arrow_quant.json")).unwrap()).unwrap();
    let options = &manifest["options"];
    assert_eq!((&options["method"], &options["bits"]), (&"entropy".into(), &2.5.into()));
    assert!(options.get("group_size").is_none(), "{options}");
    let plan = succeed(&[&["quantize", &model, "--dry-run", "--bits", "2.5"], &ENTROPY[..]].concat());
    assert!(plan.contains("2.5 bits, entropy\n") && !plan.contains("groups of"), "{plan}");
    drop(place);
}

#[test]
fn a_budget_is_used_up_and_never_passed_by_one_step_for_all() {
    let (_place, model, out) = place();
    for bits in [1.5, 2.5, 4.0] {
        let run = quantize(&model, &out, &["--target-bpw", &bits.to_string()]);
        let got = run["bits_per_weight"].as_f64().unwrap();
        assert!(got <= bits && got >= bits * 0.995, "{got} of {bits}");
    }
    // Under one step tensors of less power take fewer bits, but of the one that it would leave nothing of, enough is kept.
    assert_eq!(figure(&out, "min(sqnr_db) > 3"), "true");
    let saved = "max(bits_per_weight) FILTER (WHERE name LIKE '%down%') < min(bits_per_weight) FILTER (WHERE name LIKE '%up%') - 0.9";
    assert_eq!(figure(&out, saved), "true");
    let notes = figure(&out, "max(note) FILTER (WHERE name = 'small.weight')");
    assert!(notes.starts_with("\"step by the deviation of its weights"), "{notes}");
    let one_step = figure(&out, "max(note) FILTER (WHERE name LIKE '%up%')");
    assert!(one_step.starts_with("\"step by target_bpw 4, "), "{one_step}");

    let size = quantize(&model, &out, &["--bits", "3"])["bytes_out"].as_u64().unwrap();
    let rows = quantize(&model, &out, &["--bits", "3"])["mse"].as_f64().unwrap();
    let run = quantize(&model, &out, &["--target-size", &size.to_string()]);
    let bytes = run["bytes_out"].as_u64().unwrap();
    assert!(bytes <= size && bytes as f64 >= 0.995 * size as f64, "{bytes} of {size}");
    assert!(run["mse"].as_f64().unwrap() < rows, "{} {rows}", run["mse"]);
}

#[test]
fn a_budget_that_is_too_small_says_the_least_which_then_does() {
    let (_place, model, out) = place();
    for (option, unit) in [("--target-bpw", " bits"), ("--target-size", " bytes")] {
        let run = [&["quantize", &model, "--output", &out, "--overwrite", option, "0.1"], &ENTROPY[..]].concat();
        let run: Vec<&str> =
            run.into_iter().map(|word| if word == "0.1" && option == "--target-size" { "10" } else { word }).collect();
        let error = fail(1, &run);
        let least = error.split("the least that can be had is ").nth(1).unwrap().split(unit).next().unwrap();
        quantize(&model, &out, &[option, least]);
    }
}

#[test]
fn a_least_ratio_is_kept_by_every_tensor_and_hardly_passed() {
    let (_place, model, out) = place();
    quantize(&model, &out, &["--min-sqnr", "18.5"]);
    assert_eq!(
        figure(&out, "min(sqnr_db) >= 18.5 AND max(sqnr_db) FILTER (WHERE name <> 'zero.weight') < 18.7"),
        "true"
    );
    // Beside a budget it holds for the tensors that one step would leave less of.
    let run = quantize(&model, &out, &["--min-sqnr", "12", "--target-bpw", "3"]);
    assert!(run["bits_per_weight"].as_f64().unwrap() > 2.985, "{run}");
    assert_eq!(figure(&out, "min(sqnr_db) >= 12"), "true");
    let error =
        fail(1, &[&["quantize", &model, "--output", &out, "--overwrite", "--min-sqnr", "90"], &ENTROPY[..]].concat());
    assert!(error.contains("miss --min-sqnr 90 with 8 bits a weight, the first 'layers.0.down.weight'"), "{error}");
}

#[test]
fn the_bytes_do_not_depend_on_threads_or_on_an_interruption() {
    let (place, model, out) = place();
    let mut results = Vec::new();
    for threads in ["1", "3"] {
        quantize(&model, &out, &["--target-bpw", "2.5", "--threads", threads]);
        results.push(contents(&place.path("out")));
    }
    let again = place.text("again");
    let run = [&["quantize", &model, "--output", &again, "--target-bpw", "2.5"], &ENTROPY[..]].concat();
    interrupt(&run[1..]);
    succeed(&[&run[..], &["--resume"]].concat());
    results.push(contents(&place.path("again")));
    assert!(results[0] == results[1] && results[0] == results[2]);
    // Other bits are another run.
    let other = place.text("other");
    interrupt(&[&[model.as_str(), "--output", &other, "--bits", "2.5"], &ENTROPY[..]].concat());
    let error =
        fail(1, &[&["quantize", &model, "--output", &other, "--bits", "2.6", "--resume"], &ENTROPY[..]].concat());
    assert!(error.contains("bits"), "{error}");
}

#[test]
fn the_plan_is_a_query_that_runs_by_itself_and_can_be_saved_and_changed() {
    let (place, model, out) = place();
    let options = [&ENTROPY[..], &["--target-bpw", "2.5"]].concat();
    let script = succeed(&[&["quantize", &model, "--print-sql"], &options[..]].concat());
    assert!(script.contains("quantize_step(") && script.contains("CREATE "), "{script}");
    let counted = script.replace(
        "SELECT name, module, coalesce(stored_as, dtype)",
        "SELECT sum(stored_bytes(quantized)) AS bytes FROM stored; -- ",
    );
    let bytes = quantize(&model, &out, &["--target-bpw", "2.5"])["bytes_out"].as_u64().unwrap() - 4 * 384;
    assert!(succeed(&["sql", counted.split("; -- ").next().unwrap()]).contains(&bytes.to_string()), "{bytes}");

    let (plan, planned) = (place.text("plan"), place.text("planned"));
    succeed(&[&["plan", &model, "--output", &plan], &options[..]].concat());
    assert!(succeed(&["explain", &plan]).matches("JoinExec").count() == 1);
    succeed(&["run", &plan, "--output", &planned]);
    let parts = |folder: &str| contents(&place.path(folder).join("weights"));
    assert!(parts("planned") == parts("out"));
    let edit = |query: &str| {
        let table = format!("{plan}/choices.parquet");
        succeed(&[
            "sql",
            &format!("COPY ({}) TO '{plan}/new.parquet'", query.replace("choices", &format!("'{table}'"))),
        ]);
        fs::rename(place.path("plan/new.parquet"), &table).unwrap();
    };
    edit("SELECT * REPLACE (CASE WHEN name = 'small.weight' THEN 1e-7 ELSE step END AS step) FROM choices");
    succeed(&["run", &plan, "--output", &planned, "--overwrite"]);
    assert_eq!(figure(&planned, "max(sqnr_db) FILTER (WHERE name = 'small.weight') > 30"), "true");
    for (change, message) in [
        ("-1.0 AS step", "step must be a number above 0, not -1"),
        ("'search' AS method", "method must be 'entropy' in a plan of entropy-coded weights, not 'search'"),
        ("NULL AS bits", "bits is null where a step is given"),
    ] {
        edit(&format!("SELECT * REPLACE ({change}) FROM choices"));
        let error = fail(1, &["run", &plan, "--output", &planned, "--overwrite"]);
        assert!(error.contains("choices.parquet: row ") && error.contains(message), "{error}");
        fs::remove_dir_all(place.path("plan")).unwrap();
        succeed(&[&["plan", &model, "--output", &plan], &options[..]].concat());
    }
}

#[test]
fn a_folder_is_a_model_that_is_inspected_compared_and_exported() {
    let (place, model, out) = place();
    for format in ["parquet", "arrow"] {
        quantize(&model, &out, &["--bits", "2.5", "--format", format]);
        assert!(succeed(&["inspect", &out]).contains("small.weight"));
        let report = figure(&out, "avg(sqnr_db) FILTER (WHERE name = 'layers.1.up.weight')");
        let report = format!("{:.3}", report.parse::<f64>().unwrap());
        let compared = succeed(&["compare", &model, &out]);
        let line = compared.lines().find(|line| line.starts_with("layers.1.up.weight")).unwrap();
        assert!(line.contains(&report), "{report}: {line}");
        for (format, options) in
            [("safetensors", &[][..]), ("safetensors", &["--dtype", "F32"]), ("gguf", &["--gguf-type", "Q8_0"])]
        {
            let exported = place.text(&format!("exported-{format}"));
            let none = ["--exclude", "."];
            let options = if format == "gguf" { options } else { &[options, &none].concat()[..] };
            succeed(&[&["quantize", &out, "--output", &exported, "--format", format, "--overwrite"], options].concat());
            let compared = succeed(&["compare", &out, &exported]);
            let line = compared.lines().find(|line| line.starts_with("layers.1.up.weight")).unwrap();
            assert!(format == "gguf" || line.contains(" inf "), "{line}");
        }
    }
}

#[test]
fn damaged_codes_are_an_error_that_names_tensor_and_row() {
    let (place, model, out) = place();
    // A plan whose query damages a row after it was made, so that every digest of the folder is right.
    let plan = place.text("plan");
    succeed(&[&["plan", &model, "--output", &plan, "--bits", "3"], &ENTROPY[..]].concat());
    let sql = fs::read_to_string(place.path("plan/plan.sql")).unwrap();
    let fields =
        ["bits", "group_size", "length", "row_scale"].map(|field| format!("'{field}', quantized['{field}'], "));
    let damaged = format!(
        "CASE WHEN name = 'layers.2.up.weight' AND channel = 7 THEN named_struct({}'codes', \
         decode(concat('00', encode(quantized['codes'], 'hex')), 'hex'), 'scales', quantized['scales'], \
         'zero_points', quantized['zero_points']) ELSE quantized END AS quantized,\n       CASE WHEN quantized IS NULL",
        fields.concat()
    );
    let changed = sql.replace("quantized,\n       CASE WHEN quantized IS NULL", &damaged);
    assert_ne!(sql, changed);
    fs::write(place.path("plan/plan.sql"), changed).unwrap();
    succeed(&["run", &plan, "--output", &out]);
    let told = |error: &str| {
        error.contains("layers.2.up.weight") && error.contains("row 7") && error.contains("its codes are damaged")
    };
    for command in [
        &["compare", &model, &out][..],
        &["quantize", &out, "--output", &place.text("exported"), "--format", "safetensors", "--exclude", "."],
        &["quantize", &out, "--output", &place.text("again"), "--bits", "4"],
    ] {
        let error = fail(1, command);
        assert!(told(&error), "{command:?}: {error}");
    }
}

#[test]
fn what_does_not_go_with_it_is_refused_by_name() {
    let (_place, model, out) = place();
    for (options, message) in [
        (&["--method", "entropy", "--group-size", "64"][..], "--group-size cannot be used with --method entropy"),
        (&["--method", "entropy", "--symmetric"], "--symmetric cannot be used with --method entropy"),
        (&["--method", "entropy", "--format", "gguf"], "--method needs --format"),
        (
            &["--method", "entropy", "--format", "compressed-tensors"],
            "--method entropy needs --format parquet or arrow",
        ),
        (&["--method", "entropy", "--format", "safetensors"], "--method entropy needs --format parquet or arrow"),
        (&["--method", "entropy", "--hessians", "h"], "--hessians cannot be used with --method entropy"),
        (&["--method", "entropy", "--equalize", "weights"], "--equalize weights cannot be used with --method entropy"),
        (&["--method", "entropy", "--bits", "9"], "any number from 1 to 8, not '9'"),
        (&["--method", "entropy", "--min-sqnr", "9", "--bits", "3"], "--min-sqnr cannot be used with --bits"),
        (&["--bits", "2.5"], "--bits must be 2, 3, 4 or 8, not 2.5: any number from 1 to 8 needs --method entropy"),
        (&["--bits-for", "up=2.5"], "'up=2.5': bits must be 2, 3, 4 or 8, not 2.5: any number from 1 to 8 needs"),
    ] {
        let error = fail(2, &[&["quantize", &model, "--output", &out], options].concat());
        assert!(error.contains(message), "{options:?}: {error}");
    }
}
