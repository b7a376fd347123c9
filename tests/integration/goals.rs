//! Bits chosen by measurement: a least ratio, a budget, and what is said where neither can be reached.

use std::path::Path;

use safetensors::Dtype;

use crate::{
    cli::{Place, contents, fail, succeed},
    model::{f32_bytes, noise, write},
};

/// Matrices of many sizes, so that nearly every budget can be used up; the noise of some is louder, and one is easy: two
/// values need two codes.
fn unlike(path: &Path) {
    let matrix = |rows: usize, loudness: f32, seed| {
        (
            Dtype::F32,
            vec![rows, 96],
            f32_bytes(&noise(rows * 96, seed).iter().map(|w| w * loudness).collect::<Vec<_>>()),
        )
    };
    let easy = (Dtype::F32, vec![16, 96], f32_bytes(&[0.5, -0.5].repeat(8 * 96)));
    let mut tensors = vec![("easy.weight".to_owned(), easy), ("norm.weight".to_owned(), matrix(1, 1.0, 9))];
    tensors[1].1.1 = vec![96];
    for layer in 0..8 {
        let loudness = 1.0 + layer as f32;
        tensors.push((format!("layers.{layer}.up.weight"), matrix(64 + 3 * layer as usize, loudness, 10 + layer)));
        tensors.push((format!("layers.{layer}.down.weight"), matrix(24 + layer as usize, 0.5 * loudness, 30 + layer)));
    }
    let views: Vec<_> = tensors
        .iter()
        .map(|(name, (dtype, shape, bytes))| (name.as_str(), *dtype, shape.clone(), bytes.clone()))
        .collect();
    write(path, &views);
}

fn place() -> (Place, String, String) {
    let place = Place::new();
    unlike(&place.path("m.safetensors"));
    let (model, out) = (place.text("m.safetensors"), place.text("out"));
    (place, model, out)
}

fn summary(arguments: &[&str]) -> serde_json::Value {
    serde_json::from_str(&succeed(&[arguments, &["--json"]].concat())).unwrap()
}

/// One figure of a query over a table of the output.
fn figure(out: &str, table: &str, expression: &str) -> String {
    let script = format!(
        "CREATE EXTERNAL TABLE t STORED AS PARQUET LOCATION '{out}/{table}.parquet'; SELECT {expression} AS f FROM t"
    );
    let printed = succeed(&["sql", &script]);
    printed.lines().nth(3).unwrap().trim_matches(['|', ' ']).to_owned()
}

#[test]
fn only_what_misses_the_ratio_gets_more_bits_and_the_report_says_so() {
    let (_place, model, out) = place();
    succeed(&["quantize", &model, "--output", &out, "--bits", "2", "--min-sqnr", "12"]);
    assert_eq!(figure(&out, "report", "min(sqnr_db) >= 12"), "true");
    assert_eq!(
        figure(&out, "report", "count(*) FILTER (WHERE name = 'easy.weight' AND bits = 2 AND note IS NULL)"),
        "1"
    );
    let note = figure(&out, "report", "max(note) FILTER (WHERE bits = 3)");
    assert!(note.starts_with("bits by min_sqnr 12: 2 bits give "), "{note}");
    // Fewer bits would not have done.
    let wasted = "count(*) FILTER (WHERE sqnr_db >= 12 AND NOT chosen AND bits < 3)";
    assert_eq!(figure(&out, "widths", wasted), "0");
}

#[test]
fn what_misses_the_ratio_at_eight_bits_fails_before_anything_is_written() {
    let (place, model, out) = place();
    let error = fail(1, &["quantize", &model, "--output", &out, "--min-sqnr", "90"]);
    assert!(error.contains("17 tensors miss --min-sqnr 90 at every width") && error.contains("at 8 bits"), "{error}");
    let pinned = ["quantize", &model, "--output", &out, "--bits-for", "layers.3.up=2", "--min-sqnr", "20"];
    let error = fail(1, &pinned);
    assert!(error.contains("the worst 'layers.3.up.weight' with") && error.contains("at 2 bits"), "{error}");
    assert!(!place.path("out").exists() && !place.path("out.partial").exists());
}

#[test]
fn a_budget_is_used_up_and_never_passed() {
    let (_place, model, out) = place();
    let error_at = |bits: &str| {
        summary(&["quantize", &model, "--output", &out, "--bits", bits, "--overwrite"])["mse"].as_f64().unwrap()
    };
    let uniform = error_at("3");
    let uniform_size = figure(&out, "report", "sum(bytes_out) FILTER (WHERE bits IS NOT NULL)");
    let uniform_size: f64 = uniform_size.parse().unwrap();
    for (option, budget) in [("--target-bpw", 3.2), ("--target-bpw", 4.0), ("--target-bpw", 6.5)] {
        let budget_text = budget.to_string();
        let run = summary(&["quantize", &model, "--output", &out, option, &budget_text, "--overwrite"]);
        let bits = run["bits_per_weight"].as_f64().unwrap();
        assert!(bits <= budget && bits >= budget * 0.995, "{bits} of {budget}");
    }
    let whole = figure(&out, "report", "sum(bytes_out)");
    let carried: f64 = whole.parse::<f64>().unwrap()
        - figure(&out, "report", "sum(bytes_out) FILTER (WHERE bits IS NOT NULL)").parse::<f64>().unwrap();
    let size = (uniform_size + carried).to_string();
    let mixed = summary(&["quantize", &model, "--output", &out, "--target-size", &size, "--overwrite"]);
    let bytes = mixed["bytes_out"].as_f64().unwrap();
    assert!(bytes <= uniform_size + carried && bytes >= (uniform_size + carried) * 0.995, "{bytes} of {size}");
    assert!(mixed["mse"].as_f64().unwrap() < uniform * 0.95, "{} {uniform}", mixed["mse"]);
    assert_eq!(figure(&out, "widths", "count(*) FILTER (WHERE chosen)"), "17");
    assert!(figure(&out, "report", "max(note)").starts_with("rank 1"), "norms are carried");
}

#[test]
fn what_was_asked_for_by_name_holds_under_a_budget() {
    let (_place, model, out) = place();
    let arguments = ["quantize", &model, "--output", &out, "--target-bpw", "4.5", "--bits-for", "layers.[01].up=8"];
    succeed(&arguments);
    let held = "count(*) FILTER (WHERE bits = 8 AND note LIKE '%by pattern%')";
    assert_eq!(figure(&out, "report", held), "2");
    let ratio = [&arguments[..], &["--min-sqnr", "8", "--overwrite"]].concat();
    succeed(&ratio);
    assert_eq!(figure(&out, "report", "min(sqnr_db) >= 8"), "true");
}

#[test]
fn a_budget_that_is_too_small_says_the_least_which_then_does() {
    let (_place, model, out) = place();
    for (option, unit) in [("--target-bpw", " bits"), ("--target-size", " bytes")] {
        let error = fail(1, &["quantize", &model, "--output", &out, option, "2", "--overwrite"]);
        let least = error.split("the least that can be had is ").nth(1).unwrap().split(unit).next().unwrap();
        succeed(&["quantize", &model, "--output", &out, option, least, "--overwrite"]);
        assert_eq!(figure(&out, "report", "max(bits)"), "2");
    }
    for wrong in [["--target-bpw", "0"], ["--target-bpw", "NaN"], ["--target-size", "much"]] {
        fail(2, &["quantize", &model, "--output", &out, wrong[0], wrong[1], "--overwrite"]);
    }
    fail(2, &["quantize", &model, "--output", &out, "--target-bpw", "3", "--bits", "4", "--overwrite"]);
}

#[test]
fn the_choice_does_not_depend_on_the_threads_and_a_dry_run_shows_it() {
    let (place, model, out) = place();
    let mut results = Vec::new();
    for threads in ["1", "3"] {
        succeed(&["quantize", &model, "--output", &out, "--target-bpw", "3.3", "--threads", threads, "--overwrite"]);
        results.push(contents(&place.path("out")));
    }
    assert!(results[0] == results[1]);
    std::fs::remove_dir_all(place.path("out")).unwrap();
    let plan = succeed(&["quantize", &model, "--dry-run", "--target-bpw", "3.3"]);
    assert!(plan.contains(" dB (bits by target_bpw 3.3)"), "{plan}");
    assert!(!place.path("out").exists());
}

#[test]
fn weights_that_are_not_finite_are_named_when_they_are_measured() {
    let place = Place::new();
    let mut values = noise(64 * 48, 3);
    values[17 * 48 + 5] = f32::NAN;
    write(&place.path("m.safetensors"), &[("b.weight", Dtype::F32, vec![64, 48], f32_bytes(&values))]);
    let error = fail(1, &["quantize", &place.text("m.safetensors"), "--dry-run", "--target-bpw", "4"]);
    assert!(error.contains("'b.weight'") && error.contains("row 17, element 5"), "{error}");
}
