//! What folded factors change of a folder beside its weights: its size, and what it compares to.

use std::path::{Path, PathBuf};

use arrow_array::{cast::AsArray, types::Int64Type};
use arrow_quant::{
    io::{OutputFormat, Rules, output::EQUALIZATION},
    sql::{ActivationOptions, Job, PlannedJob},
    types::{ActivationBits, Bits, QuantizeOptions, TimeMethod},
};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use safetensors::Dtype;

use crate::{
    activations::llama,
    cli::{Place, fail, succeed},
};

/// What `--dry-run` knows of a run.
fn planned(place: &Place, model: &str, equalize: &str) -> PlannedJob {
    let rules = Rules::new(QuantizeOptions::new(Bits::Eight), None).exclude("k_proj").unwrap();
    let job = Job { model: place.path(model), rules, target: OutputFormat::Parquet.into(), batch: false };
    let options = ActivationOptions {
        file: place.path("acts.parquet"),
        time_groups: 8,
        time_method: TimeMethod::default(),
        bits: ActivationBits::try_from(8).unwrap(),
        symmetric: false,
    };
    job.plan().unwrap().with_activations(options).unwrap().with_equalization(equalize.parse().unwrap()).unwrap()
}

#[test]
fn a_folded_run_takes_the_bytes_that_its_plan_says() {
    let place = llama(96, Dtype::BF16);
    let run = |model: &str, output: &str, equalize: &str, more: &[&str]| {
        let (model, output, acts) = (place.text(model), place.text(output), place.text("acts.parquet"));
        let options = ["--bits", "8", "--activations", &acts, "--equalize", equalize];
        let text = succeed(&[&["quantize", &model, "--output", &output][..], &options, more].concat());
        assert!(text.contains("of them folded"), "{text}");
    };
    // Of what is carried of a quantized folder the bytes are those that its codes stand for.
    run("model.safetensors", "quantized", "0.5", &[]);
    for model in ["model.safetensors", "quantized"] {
        for equalize in ["0.5", "log", "auto"] {
            let planned = planned(&place, model, equalize);
            let plan: Vec<u64> = planned.bytes_out().collect();
            let out = format!("{model}-{equalize}");
            run(model, &out, equalize, &["--exclude", "k_proj"]);
            let report = std::fs::File::open(place.path(&out).join("report.parquet")).unwrap();
            let mut report = ParquetRecordBatchReaderBuilder::try_new(report).unwrap().build().unwrap();
            let report = report.next().unwrap().unwrap();
            let written = report.column_by_name("bytes_out").unwrap().as_primitive::<Int64Type>().values().to_vec();
            assert_eq!(plan, written.iter().map(|bytes| *bytes as u64).collect::<Vec<_>>(), "{model} {equalize}");
            let of = |name: &str| plan[planned.model().number_of(&format!("model.layers.{name}.weight")).unwrap()];
            // Norms have all digits, a matrix that is carried the dtype that it had; what carries nothing is as it was.
            assert_eq!(of("0.input_layernorm"), 48 * 4);
            assert_eq!(of("1.post_attention_layernorm"), 48 * 2);
            assert_eq!(of("0.self_attn.k_proj"), 48 * 48 * 2);
        }
    }
}

/// Each tensor's ratio in dB, the least of them.
fn least_ratio(reference: &Path, candidate: &Path) -> f64 {
    let compared = succeed(&["compare", "--json", reference.to_str().unwrap(), candidate.to_str().unwrap()]);
    let compared: serde_json::Value = serde_json::from_str(&compared).unwrap();
    let ratios = compared["tensors"].as_array().unwrap().iter().filter_map(|tensor| tensor["sqnr_db"].as_f64());
    ratios.fold(f64::INFINITY, f64::min)
}

#[test]
fn models_are_compared_in_the_channels_that_they_share() {
    let place = llama(96, Dtype::F32);
    let quantize = |model: &Path, output: &str, more: &[&str]| -> PathBuf {
        let output = place.path(output);
        let paths = [model.to_str().unwrap(), "--output", output.to_str().unwrap(), "--bits", "8"];
        succeed(&[&["quantize"][..], &paths, more].concat());
        output
    };
    let acts = place.text("acts.parquet");
    let folded = ["--activations", &acts, "--equalize", "0.5"];
    let model = place.path("model.safetensors");
    for format in ["parquet", "safetensors"] {
        let name = |name: &str| format!("{name}-{format}");
        let out = quantize(&model, &name("out"), &[&folded[..], &["--format", format]].concat());
        let again = quantize(&out, &name("again"), &["--format", "safetensors"]);
        let third = quantize(&out, &name("third"), &folded);
        let fourth = quantize(&third, &name("fourth"), &[]);
        // Each with what it was made from, either way around, a file of its folder too.
        let file = again.join("model.safetensors");
        for (a, b) in
            [(&model, &out), (&out, &again), (&out, &third), (&third, &fourth), (&again, &third), (&out, &file)]
        {
            let ratios = [least_ratio(a, b), least_ratio(b, a)];
            assert!(ratios.iter().all(|ratio| *ratio > 30.0), "{} {}: {ratios:?}", a.display(), b.display());
        }
        if format == "safetensors" {
            assert!(least_ratio(&model, &out.join("model.safetensors")) > 30.0);
        }
        // With what that was made from the channels are others.
        for (a, b, made) in [(&model, &again, &again), (&third, &model, &third), (&out, &fourth, &fourth)] {
            let error = fail(1, &["compare", a.to_str().unwrap(), b.to_str().unwrap()]);
            let expected = format!("{}: was made from a folder whose channels were equalized", made.display());
            assert!(error.contains(&expected), "{error}");
        }
    }
}

#[test]
fn channels_are_equalized_by_the_weights_alone() {
    let place = Place::new();
    let model = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/digits_dit");
    let run = |output: &str, more: &[&str]| -> (PathBuf, f64) {
        let output = place.path(output);
        let paths = ["quantize", model, "--output", output.to_str().unwrap(), "--bits", "2", "--json"];
        let summary: serde_json::Value = serde_json::from_str(&succeed(&[&paths, more].concat())).unwrap();
        assert!(summary["activation_quantizers"].is_null());
        (output, summary["sqnr_db"].as_f64().unwrap())
    };
    let weights = ["--equalize", "weights"];
    for method in ["search", "minmax"] {
        let method = ["--method", method];
        let (plain, equalized) = (run("plain", &method), run(method[1], &[weights, method].concat()));
        // The ratio is that of the weights as they were.
        assert!(equalized.1 > plain.1 + 0.3, "{plain:?} {equalized:?}");
        std::fs::remove_dir_all(plain.0).unwrap();
    }
    let written: Vec<Vec<Vec<u8>>> = ["1", "2", "5"]
        .map(|threads| {
            let (out, _) = run(threads, &[&weights[..], &["--threads", threads]].concat());
            assert!(!out.join("activation_params.parquet").exists());
            let ratio = least_ratio(Path::new(model), &out);
            assert!(ratio > 9.0, "{ratio}");
            ["weights/part-00000.parquet", EQUALIZATION].map(|file| std::fs::read(out.join(file)).unwrap()).to_vec()
        })
        .to_vec();
    assert!(written[0] == written[1] && written[0] == written[2]);
    // Other formats, with what folds and with nothing for run time.
    for format in ["safetensors", "gguf", "compressed-tensors"] {
        let format = ["--format", format];
        let (plain, equalized) = (run("plain", &format), run(format[1], &[weights, format].concat()));
        assert!(equalized.1 > plain.1, "{plain:?} {equalized:?}");
        std::fs::remove_dir_all(plain.0).unwrap();
    }
}

#[test]
fn an_export_whose_factors_have_changed_is_not_compared() {
    let place = llama(96, Dtype::F32);
    let (model, acts, out) = (place.text("model.safetensors"), place.text("acts.parquet"), place.text("out"));
    let options = ["--activations", &acts, "--equalize", "0.5", "--format", "safetensors"];
    succeed(&[&["quantize", &model, "--output", &out][..], &options].concat());
    let table = Path::new(&out).join(EQUALIZATION);
    let mut bytes = std::fs::read(&table).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&table, bytes).unwrap();
    let error = fail(1, &["compare", &model, &out]);
    assert!(error.contains("equalization.parquet: is damaged: its digest is not the one in the manifest"), "{error}");
}
