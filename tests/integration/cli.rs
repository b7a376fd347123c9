//! The program from outside: exit codes, one line of error, nothing half-written, the same bytes for any threads.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::atomic::{AtomicU64, Ordering},
};

use arrow_quant::run::{
    Cancel,
    progress::{Pass, Progress},
};
use safetensors::Dtype;

use crate::model::{f32_bytes, noise, small, write};

pub const PROGRAM: &str = env!("CARGO_BIN_EXE_arrow-quant");

fn run(arguments: &[&str]) -> Output {
    Command::new(PROGRAM).args(arguments).output().unwrap()
}

pub fn succeed(arguments: &[&str]) -> String {
    let output = run(arguments);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{arguments:?}: {stderr}");
    String::from_utf8(output.stdout).unwrap()
}

/// Fails with `code`, nothing on stdout, and one line on stderr, which is given back.
pub fn fail(code: i32, arguments: &[&str]) -> String {
    let output = run(arguments);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {stderr}");
    // A run of more than five seconds, as on a busy machine, says how far it is.
    let errors: Vec<_> = stderr.lines().filter(|line| !line.ends_with(" s left")).collect();
    let [error] = errors[..] else { panic!("{arguments:?}: {stderr}") };
    assert!(error.starts_with("error: ") && !error.contains("backtrace"), "{arguments:?}: {stderr}");
    assert!(output.stdout.is_empty(), "{arguments:?}");
    format!("{error}\n")
}

/// Runs `quantize` on one thread, and interrupts it when half of the weights are quantized.
pub fn interrupt(arguments: &[&str]) {
    struct Half<'a> {
        left: AtomicU64,
        cancel: &'a Cancel,
    }
    impl Progress for Half<'_> {
        fn start(&self, pass: Pass, total: u64) {
            let enough = if pass == Pass::Quantize { total / 2 } else { u64::MAX };
            self.left.store(enough, Ordering::Relaxed);
        }
        fn advance(&self, bytes: u64) {
            let left = self.left.load(Ordering::Relaxed).saturating_sub(bytes);
            self.left.store(left, Ordering::Relaxed);
            self.cancel.fetch_or(left == 0, Ordering::Relaxed);
        }
        fn finish(&self) {}
    }
    let cancel = Cancel::new(false);
    let options: Vec<_> = arguments.iter().chain(&["--threads", "1"]).map(Into::into).collect();
    let progress = Half { left: AtomicU64::new(u64::MAX), cancel: &cancel };
    let error = arrow_quant::cli::quantize(&options, &progress, &cancel).unwrap_err().to_string();
    assert!(error.starts_with("interrupted; finished parts are in "), "{error}");
}

pub struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    pub fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn with_small_model() -> Self {
        let place = Self::new();
        small(&place.path("model.safetensors"));
        place
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_string()
    }

    /// Names of everything in the folder, sorted.
    pub fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.folder.path()).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

/// Every file below `folder` with its bytes; the report is left out, for it holds seconds.
pub fn contents(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut open = vec![folder.to_owned()];
    while let Some(next) = open.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else if !path.ends_with("report.parquet") {
                found.insert(path.strip_prefix(folder).unwrap().to_owned(), fs::read(&path).unwrap());
            }
        }
    }
    found
}

#[test]
fn the_same_bytes_whatever_the_number_of_threads_or_the_mode() {
    for format in ["parquet", "arrow"] {
        let place = Place::with_small_model();
        let model = place.text("model.safetensors");
        let mut results = Vec::new();
        for (name, more) in
            [("one", ["--threads", "1"].as_slice()), ("two", &["--threads", "2"]), ("batch", &["--batch"])]
        {
            let out = place.text(name);
            let mut arguments = vec!["quantize", &model, "--output", &out, "--bits", "4", "--format", format];
            arguments.extend(more);
            succeed(&arguments);
            results.push(contents(&place.path(name)));
        }
        assert!(results[0].len() >= 2, "{:?}", results[0].keys());
        assert!(results[0] == results[1] && results[0] == results[2], "{format}");
    }
}

#[test]
fn a_spec_file_is_the_same_as_its_options() {
    let place = Place::with_small_model();
    let (model, spec) = (place.text("model.safetensors"), place.text("spec.json"));
    fs::write(&spec, r#"{"bits": 2, "group_size": 16, "bits_for": ["mlp=3"], "method": "minmax"}"#).unwrap();
    let options = ["--bits", "2", "--group-size", "16", "--bits-for", "mlp=3", "--method", "minmax"];
    let (a, b) = (place.text("a"), place.text("b"));
    succeed(&["quantize", &model, "--output", &a, "--spec", &spec]);
    succeed(&[&["quantize", &model, "--output", &b][..], &options].concat());
    assert!(contents(&place.path("a")) == contents(&place.path("b")));
    let error = fail(2, &["quantize", &model, "--output", &place.text("c"), "--spec", &spec, "--bits", "4"]);
    assert!(error.contains("--spec <FILE>' cannot be used with"), "{error}");
    fs::write(&spec, r#"{"bits": 5}"#).unwrap();
    let error = fail(1, &["quantize", &model, "--output", &place.text("c"), "--spec", &spec]);
    assert!(error.contains("spec.json: --bits must be 2, 3, 4 or 8, not 5"), "{error}");
}

#[test]
fn wrong_usage_is_one_line_and_writes_nothing() {
    let place = Place::with_small_model();
    let (model, out) = (place.text("model.safetensors"), place.text("out"));
    let quantize = |more: &[&str]| {
        [&["quantize", &model, "--output", &out], more].concat().iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    for (more, message) in [
        (["--bits", "5"].as_slice(), "bits must be 2, 3, 4 or 8, not 5"),
        (&["--bitz", "4"], "--bitz"),
        (&["--group-size", "0"], "group_size must be 1 to"),
        (&["--method", "hqq"], "method must be 'search', 'minmax' or 'entropy', not 'hqq'"),
        (&["--threads", "0"], "must be 1 to 4096"),
        (&["--resume", "--overwrite"], "cannot be used with"),
        (&["--format", "zip"], "zip"),
        (
            &["--format", "gguf", "--group-size", "64"],
            "--group-size needs --format parquet, arrow, safetensors, compressed-tensors or mlx",
        ),
        (&["--format", "gguf", "--method", "minmax"], "--method needs --format"),
        (&["--format", "gguf", "--symmetric"], "--symmetric needs --format"),
        (&["--format", "gguf", "--gguf-type", "Q4_K", "--bits", "4"], "cannot be used with"),
        (
            &["--format", "gguf", "--shard-size", "1GB"],
            "--shard-size needs --format safetensors, compressed-tensors, comfy or mlx",
        ),
        (
            &["--format", "safetensors", "--min-sqnr", "20"],
            "--min-sqnr needs --format parquet, arrow, compressed-tensors, gguf, comfy or mlx: every tensor",
        ),
    ] {
        let arguments = quantize(more);
        let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
        let error = fail(2, &arguments);
        assert!(error.contains(message), "{error}");
    }
    fail(2, &["quantize", &model]);
    assert_eq!(place.names(), ["model.safetensors"]);
}

#[test]
fn what_cannot_be_read_or_written_is_one_line_and_leaves_nothing() {
    let place = Place::with_small_model();
    fs::create_dir(place.path("empty")).unwrap();
    fs::write(place.path("truncated.safetensors"), &fs::read(place.path("model.safetensors")).unwrap()[..2000])
        .unwrap();
    let (model, out) = (place.text("model.safetensors"), place.text("out"));
    let before = place.names();
    for (model, out, message) in [
        (place.text("nowhere"), out.clone(), "nowhere"),
        (place.text("empty"), out.clone(), "empty"),
        (place.text("truncated.safetensors"), out.clone(), "truncated.safetensors"),
        (model.clone(), place.text("model.safetensors/out"), "model.safetensors/out"),
        (model.clone(), "/proc/nothing/out".to_string(), "/proc/nothing"),
    ] {
        let error = fail(1, &["quantize", &model, "--output", &out]);
        assert!(error.contains(message), "{error}");
    }
    let error = fail(2, &["quantize", &model, "--output", &out, "--include", "("]);
    assert!(error.contains("--include"), "{error}");
    let error = fail(1, &["quantize", &model, "--output", &out, "--include", "no_such_tensor"]);
    assert!(error.contains("no_such_tensor"), "{error}");
    assert_eq!(place.names(), before);
}

#[test]
fn a_full_disk_is_one_line_and_leaves_nothing_that_looks_whole() {
    let place = Place::new();
    let values = f32_bytes(&noise(1024 * 1024, 7));
    write(&place.path("model.safetensors"), &[("blocks.0.w.weight", Dtype::F32, vec![1024, 1024], values)]);
    // A limit on the size of a file, its signal ignored, fails a write as a full disk does.
    let script =
        format!("trap '' XFSZ; ulimit -f 100; exec {PROGRAM} quantize model.safetensors --output out --bits 8");
    let output = Command::new("bash").args(["-c", &script]).current_dir(place.folder.path()).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.lines().count() == 1 && stderr.contains("out.partial"), "{stderr}");
    assert!(!place.path("out").exists());
}

#[test]
fn weights_that_are_not_finite_are_named_and_stop_the_run() {
    for (value, word) in [(f32::NAN, "NaN"), (f32::INFINITY, "inf"), (f32::NEG_INFINITY, "-inf")] {
        let place = Place::new();
        let mut values = noise(64 * 48, 3);
        values[17 * 48 + 5] = value;
        let (good, bad) = (f32_bytes(&noise(64 * 48, 4)), f32_bytes(&values));
        write(
            &place.path("m.safetensors"),
            &[("a.weight", Dtype::F32, vec![64, 48], good), ("b.weight", Dtype::F32, vec![64, 48], bad.clone())],
        );
        let (model, out) = (place.text("m.safetensors"), place.text("out"));
        let error = fail(1, &["quantize", &model, "--output", &out]);
        for part in ["m.safetensors", "'b.weight'", "row 17, element 5", word] {
            assert!(error.contains(part), "{error}");
        }
        assert!(!place.path("out").exists());
        // A tensor that is not quantized may hold anything.
        succeed(&["quantize", &model, "--output", &out, "--exclude", "b", "--overwrite"]);
    }
}

#[test]
fn every_tensor_is_reported_and_what_is_not_quantized_says_why() {
    let place = Place::new();
    let constant = f32_bytes(&[0.25; 8 * 40]);
    let denormal = f32_bytes(&[1.0e-40; 8 * 40]);
    let half = |count: usize| noise(count, 9).iter().flat_map(|v| half::bf16::from_f32(*v).to_le_bytes()).collect();
    write(
        &place.path("m.safetensors"),
        &[
            ("a.empty.weight", Dtype::F32, vec![0, 4], vec![]),
            ("a.hollow.weight", Dtype::F32, vec![4, 0], vec![]),
            ("a.scalar", Dtype::F32, vec![], f32_bytes(&[1.0])),
            ("a.vector", Dtype::BF16, vec![7], half(7)),
            ("a.integers", Dtype::I64, vec![2, 3], vec![1; 48]),
            ("a.bools", Dtype::BOOL, vec![2, 3], vec![1; 6]),
            ("a.ragged.weight", Dtype::BF16, vec![5, 33], half(165)),
            ("a.column.weight", Dtype::F32, vec![6, 1], f32_bytes(&noise(6, 2))),
            ("a.constant.weight", Dtype::F32, vec![8, 40], constant),
            ("a.denormal.weight", Dtype::F32, vec![8, 40], denormal),
            ("a.zeros.weight", Dtype::F32, vec![8, 40], vec![0; 8 * 40 * 4]),
            ("a.conv.weight", Dtype::F32, vec![4, 3, 3, 3], f32_bytes(&noise(108, 5))),
        ],
    );
    let (model, out) = (place.text("m.safetensors"), place.text("out"));
    for bits in ["2", "3", "4", "8"] {
        succeed(&["quantize", &model, "--output", &out, "--bits", bits, "--overwrite"]);
        let compared: serde_json::Value = serde_json::from_str(&succeed(&["compare", &model, &out, "--json"])).unwrap();
        let tensors: BTreeMap<_, _> = compared["tensors"]
            .as_array()
            .unwrap()
            .iter()
            .map(|tensor| (tensor["name"].as_str().unwrap(), tensor))
            .collect();
        assert_eq!(tensors.len(), 12);
        for name in ["a.empty.weight", "a.hollow.weight", "a.scalar", "a.vector", "a.integers", "a.bools"] {
            assert_eq!(tensors[name]["difference"], "identical", "{name} at {bits} bits");
        }
        assert_eq!(tensors["a.zeros.weight"]["max_abs_error"], 0.0, "{bits} bits");
        for name in ["a.constant.weight", "a.column.weight"] {
            assert!(
                tensors[name]["max_abs_error"].as_f64().unwrap() < 1e-7,
                "{name} at {bits} bits: {}",
                tensors[name]
            );
        }
        let denormal = tensors["a.denormal.weight"]["max_abs_error"].as_f64().unwrap();
        assert!(denormal < 1e-42, "{bits} bits: {denormal}");
        let report = succeed(&["quantize", &model, "--output", &out, "--bits", bits, "--overwrite", "--report"]);
        for word in ["no elements", "rank 0", "rank 1", "I64", "BOOL"] {
            assert!(report.contains(word), "{word} at {bits} bits:\n{report}");
        }
    }
}

#[test]
fn an_output_that_is_there_is_refused_unless_it_may_be_replaced() {
    let place = Place::with_small_model();
    let (model, out) = (place.text("model.safetensors"), place.text("out"));
    succeed(&["quantize", &model, "--output", &out, "--bits", "2"]);
    let two = contents(&place.path("out"));
    let error = fail(1, &["quantize", &model, "--output", &out, "--bits", "8"]);
    assert!(error.contains("--overwrite"), "{error}");
    assert_eq!(contents(&place.path("out")), two);
    succeed(&["quantize", &model, "--output", &out, "--bits", "8", "--overwrite"]);
    assert_ne!(contents(&place.path("out")), two);
    assert_eq!(place.names(), ["model.safetensors", "out"]);
}

#[test]
fn an_interrupted_overwrite_goes_on_by_resume_alone_and_writes_what_was_damaged_again() {
    for (format, options) in [("parquet", ["--bits", "8"]), ("gguf", ["--gguf-type", "Q8_0"])] {
        let place = Place::new();
        // Three parts.
        let values = f32_bytes(&noise(1 << 20, 7));
        let names: Vec<_> = (0..12).map(|number| format!("layers.{number}.w")).collect();
        let tensors: Vec<_> =
            names.iter().map(|name| (name.as_str(), Dtype::F32, vec![1024, 1024], values.clone())).collect();
        write(&place.path("model.safetensors"), &tensors);
        let (model, out, whole) = (place.text("model.safetensors"), place.text("out"), place.text("whole"));
        let run = |output: &str, more: &[&str]| {
            succeed(&[&["quantize", &model, "--output", output, "--format", format], &options[..], more].concat())
        };
        run(&whole, &[]);
        run(&out, &["--exclude", "w"]);
        let old = contents(&place.path("out"));
        interrupt(&[&[model.as_str(), "--output", &out, "--format", format, "--overwrite"], &options[..]].concat());
        assert!(contents(&place.path("out")) == old);
        let part = place.path("out.partial/output/weights/part-00000.parquet");
        if format == "parquet" {
            let mut bytes = fs::read(&part).unwrap();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            fs::write(&part, bytes).unwrap();
        }
        run(&out, &["--resume", "--no-check"]);
        assert!(contents(&place.path("out")) == contents(&place.path("whole")));
        assert_eq!(place.names(), ["model.safetensors", "out", "whole"]);
    }
}

#[test]
fn what_a_run_reads_and_what_no_run_wrote_outlive_an_overwrite() {
    let place = Place::with_small_model();
    let (model, out) = (place.text("model.safetensors"), place.text("out"));
    fs::write(place.path("config.json"), "{}").unwrap();
    succeed(&["quantize", &model, "--output", &out, "--target-bpw", "4"]);
    fs::create_dir(place.path("out/source")).unwrap();
    fs::copy(&model, place.path("out/source/model.safetensors")).unwrap();
    fs::copy(&model, place.path("out/hessians.parquet")).unwrap();
    let before = contents(&place.path("out"));
    let [folder, file, hessians] = ["out/source", "out/source/model.safetensors", "out/hessians.parquet"];
    let (folder, file, hessians) = (place.text(folder), place.text(file), place.text(hessians));
    for (source, more) in [
        (&out, &[][..]),
        (&folder, &[]),
        (&file, &[]),
        (&model, &["--hessians", &hessians]),
        (&model, &["--activations", &hessians]),
    ] {
        for replace in [&["--overwrite"][..], &["--overwrite", "--force"]] {
            let arguments = [&["quantize", source, "--output", &out], more, replace].concat();
            let error = fail(1, &arguments);
            assert!(error.contains("lies in it and is read; give another output"), "{arguments:?}: {error}");
        }
    }
    let arguments = ["quantize", &model, "--output", &out, "--overwrite"];
    let error = fail(1, &arguments);
    assert!(error.contains("holds 2 entries that no run wrote, such as 'hessians.parquet'"), "{error}");
    assert_eq!(contents(&place.path("out")), before);
    assert!(fail(2, &["quantize", &model, "--output", &out, "--force"]).contains("--overwrite"));
    succeed(&[&arguments[..], &["--force"]].concat());
    assert!(!place.path("out/hessians.parquet").exists());
    // All that a run writes is known as such, and read.
    succeed(&[&arguments[..], &["--target-bpw", "4"]].concat());
    assert!(place.path("out/widths.parquet").exists());
    succeed(&["inspect", &out]);
    succeed(&arguments);
    assert_eq!(place.names(), ["config.json", "model.safetensors", "out"]);
}

#[test]
fn a_dry_run_says_what_a_run_makes_and_writes_nothing() {
    let place = Place::with_small_model();
    let (model, out) = (place.text("model.safetensors"), place.text("out"));
    let plan =
        succeed(&["quantize", &model, "--bits", "4", "--bits-for", "mlp=2", "--exclude", "layers.1.self", "--dry-run"]);
    assert!(plan.contains("2 bits, groups of 32, search") && plan.contains("4 bits, groups of 32, search"), "{plan}");
    assert!(plan.contains("3 of 9 tensors would be quantized"), "{plan}");
    assert_eq!(place.names(), ["model.safetensors"]);
    let run = ["quantize", &model, "--output", &out, "--bits-for", "mlp=2", "--exclude", "layers.1.self", "--json"];
    let summary: serde_json::Value = serde_json::from_str(&succeed(&run)).unwrap();
    assert_eq!(summary["quantized_tensors"], 3);
}

#[test]
fn the_other_commands_answer() {
    let place = Place::with_small_model();
    let model = place.text("model.safetensors");
    let inspect = succeed(&["inspect", &model]);
    assert!(inspect.contains("9 tensors in 1 file,") && inspect.contains("position_ids"), "{inspect}");
    let compare = succeed(&["compare", &model, &model]);
    assert_eq!(compare.matches("identical").count(), 9, "{compare}");
    assert!(succeed(&["recipes"]).contains("quantize"));
    assert_eq!(succeed(&["recipes", "report"]), include_str!("../../sql/report.sql"));
    assert!(succeed(&["functions"]).contains("cosine_similarity(a, b)"));
    assert!(succeed(&["functions", "quantize"]).contains("example:"));
    fail(2, &["recipes", "nothing"]);
    fail(2, &["functions", "nothing"]);
    let error = fail(1, &["sql", "SELECT quantize(weights, 5) FROM layers", "--table", &format!("layers={model}")]);
    assert!(error.contains("bits must be 2, 3, 4 or 8, not 5"), "{error}");
}

#[test]
fn tensors_of_other_shapes_are_not_identical() {
    let place = Place::new();
    let values = noise(24, 8);
    write(&place.path("a.safetensors"), &[("w.weight", Dtype::F32, vec![2, 4], f32_bytes(&values[..8]))]);
    write(&place.path("b.safetensors"), &[("w.weight", Dtype::F32, vec![6, 4], f32_bytes(&values))]);
    let compared = succeed(&["compare", &place.text("a.safetensors"), &place.text("b.safetensors")]);
    assert!(compared.contains("shape [2, 4], in the candidate [6, 4]"), "{compared}");
}

#[test]
fn a_statement_is_run_whole() {
    let place = Place::with_small_model();
    let model = place.text("model.safetensors");
    let create = |words: &str, options: &str| {
        format!("CREATE {words} TABLE l STORED AS SAFETENSORS LOCATION '{model}' {options};")
    };
    let error = fail(1, &["sql", &create("EXTERNAL", "OPTIONS ('a' 'b')")]);
    assert!(error.contains("takes no options"), "{error}");
    let twice = create("EXTERNAL", "") + &create("OR REPLACE EXTERNAL", "") + "SELECT count(*) FROM l";
    assert!(succeed(&["sql", &twice]).contains("| 312      |"));
}

#[test]
fn a_changed_checkpoint_is_not_resumed() {
    let place = Place::with_small_model();
    let (model, out) = (place.text("model.safetensors"), place.text("out"));
    interrupt(&[&model, "--output", &out]);
    let mut bytes = fs::read(place.path("model.safetensors")).unwrap();
    let at = bytes.len() - 4000;
    bytes[at..].fill(0);
    fs::write(place.path("model.safetensors"), bytes).unwrap();
    let error = fail(1, &["quantize", &model, "--output", &out, "--resume"]);
    assert!(error.contains("model.safetensors: has changed since the run began to read it"), "{error}");
}

#[test]
fn comparing_names_the_weight_that_is_not_finite_unless_all_bytes_are_the_same() {
    let place = Place::new();
    let model = |name: &str, seed: u64, wrong: Option<(usize, f32)>| {
        let mut values = noise(64 * 48, seed);
        values[17 * 48 + 5] = f32::NEG_INFINITY;
        let mask = f32_bytes(&values);
        let mut values = noise(64 * 48, seed);
        if let Some((at, value)) = wrong {
            values[at] = value;
        }
        let mut tensors = vec![("b.weight", Dtype::F32, vec![64, 48], f32_bytes(&values))];
        if seed == 1 {
            tensors.push(("a.mask", Dtype::F32, vec![64, 48], mask));
        }
        write(&place.path(name), &tensors);
        place.text(name)
    };
    let (good, same) = (model("good.safetensors", 1, None), model("same.safetensors", 1, Some((0, 0.5))));
    let (nan, infinite) = (
        model("nan.safetensors", 2, Some((9 * 48 + 3, f32::NAN))),
        model("inf.safetensors", 3, Some((60 * 48 + 1, f32::INFINITY))),
    );
    for (with, problem) in [
        (&nan, "nan.safetensors: tensor 'b.weight': row 9, element 3 is NaN; only finite weights are compared"),
        (&infinite, "inf.safetensors: tensor 'b.weight': row 60, element 1 is inf; only finite weights are compared"),
    ] {
        for pair in [[&good, with], [with, &good]] {
            let error = fail(1, &["compare", pair[0], pair[1], "--threads", "2"]);
            assert!(error.contains(problem), "{error}");
        }
    }
    // What is the same needs no figures, whatever it holds, and the others have theirs.
    let compared = succeed(&["compare", &good, &same]);
    assert_eq!(compared.matches("identical").count(), 1, "{compared}");
    assert_eq!(succeed(&["compare", &nan, &nan]).matches("identical").count(), 1);
    // An output folder carries it.
    let out = place.text("out");
    succeed(&["quantize", &good, "--output", &out, "--exclude", "mask"]);
    assert_eq!(succeed(&["compare", &good, &out]).matches("identical").count(), 1);
}

#[test]
fn a_piece_that_is_the_same_and_not_finite_is_named_where_another_piece_differs() {
    let place = Place::new();
    let (rows, length) = (2100, 4096);
    let mut values = noise(rows * length, 1);
    values[3 * length + 7] = f32::NAN;
    let model = |name: &str, values: &[f32]| {
        write(&place.path(name), &[("w", Dtype::F32, vec![rows, length], f32_bytes(values))]);
        place.text(name)
    };
    let one = model("one.safetensors", &values);
    assert!(succeed(&["compare", &one, &one]).contains("identical"));
    values[2000 * length] += 1.0;
    let other = model("other.safetensors", &values);
    let error = fail(1, &["compare", &one, &other]);
    assert!(error.contains("one.safetensors: tensor 'w': row 3, element 7 is NaN"), "{error}");
    // Of two pieces that fail, the first is told.
    values[0] += 1.0;
    values[2000 * length] = f32::NAN;
    let both = model("both.safetensors", &values);
    for _ in 0..3 {
        let error = fail(1, &["compare", &both, &one, "--threads", "2"]);
        assert!(error.contains("both.safetensors: tensor 'w': row 3, element 7 is NaN"), "{error}");
    }
}
