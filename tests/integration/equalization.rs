//! What folded factors change of a folder beside its weights: its size, what it compares to, and what cannot be stored.

use std::{
    path::{Path, PathBuf},
    sync::Mutex,
};

use arrow_array::{cast::AsArray, types::Int64Type};
use arrow_quant::{
    output::existing::Existing,
    plan::spec::Spec,
    run::{
        Cancel, RunSettings,
        plan::Plan,
        progress::{Pass, Progress},
    },
    storage::folder::manifest::EQUALIZATION,
    types::Bits,
};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use safetensors::Dtype;

use crate::{
    activations::llama,
    cli::{Place, fail, succeed},
    model::{f32_bytes, noise, write},
};

/// What `--dry-run` knows of a run.
fn planned(place: &Place, model: &str, equalize: &str) -> Plan {
    let spec = Spec {
        bits: Some(Bits::Eight.into()),
        exclude: vec!["k_proj".parse().unwrap()],
        activations: Some(place.path("acts.parquet")),
        equalize: Some(equalize.parse().unwrap()),
        ..Spec::default()
    };
    let (passes, cancel) = (Passes::default(), Cancel::new(false));
    Plan::new(spec, &place.path(model), None, &RunSettings::default(), &passes, &cancel).unwrap()
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
            let expected = format!("{}: was made from an equalized folder", made.display());
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

/// A model of one block of `LLaMA` with eight channels, in which `changed` names tensors with their dtype and values.
fn block(place: &Place, changed: &[(&str, Dtype, Vec<f32>)]) -> String {
    const MODULES: [(&str, bool); 9] = [
        ("self_attn.q_proj", true),
        ("self_attn.k_proj", true),
        ("self_attn.v_proj", true),
        ("self_attn.o_proj", true),
        ("mlp.gate_proj", true),
        ("mlp.up_proj", true),
        ("mlp.down_proj", true),
        ("input_layernorm", false),
        ("post_attention_layernorm", false),
    ];
    let tensors: Vec<_> = MODULES
        .iter()
        .enumerate()
        .map(|(seed, (module, matrix))| {
            let shape = if *matrix { vec![8, 8] } else { vec![8] };
            let plain = || (Dtype::F32, noise(shape.iter().product(), seed as u64));
            let given = changed.iter().find(|change| change.0 == *module);
            let (dtype, values) = given.map_or_else(plain, |(_, dtype, values)| (*dtype, values.clone()));
            let bytes = match dtype {
                Dtype::F16 => values.iter().flat_map(|value| half::f16::from_f32(*value).to_le_bytes()).collect(),
                _ => f32_bytes(&values),
            };
            (format!("model.layers.0.{module}.weight"), dtype, shape, bytes)
        })
        .collect();
    let tensors =
        tensors.iter().map(|(name, dtype, shape, bytes)| (name.as_str(), *dtype, shape.clone(), bytes.clone()));
    write(&place.path("model.safetensors"), &tensors.collect::<Vec<_>>());
    std::fs::write(place.path("config.json"), r#"{"model_type": "llama"}"#).unwrap();
    place.text("model.safetensors")
}

/// A matrix of eight rows whose channel `large` holds 100 and whose others 0.01: the factors are 0.46 and 256, the most that
/// is folded.
fn uneven(large: usize) -> Vec<f32> {
    (0..64).map(|i| if i % 8 == large { 100.0 } else { 0.01 }).collect()
}

#[test]
fn what_factors_make_too_large_is_named_with_its_row_before_anything_is_whole() {
    const ADVICE: &str = " (--dtype BF16 has more range)";
    let place = Place::new();
    let out = place.text("out");
    let refused = |model: &str, more: &[&str]| {
        let error = fail(1, &[&["quantize", model, "--output", &out, "--equalize", "weights"][..], more].concat());
        assert!(error.contains("model.safetensors: tensor 'model.layers.0."), "{error}");
        assert!(!place.path("out").exists());
        std::fs::remove_dir_all(place.path("out.partial")).unwrap();
        error
    };
    // A matrix that is carried takes the factors of the input that it shares: 256 at most.
    let inputs = ["q", "v"].map(|name| (format!("self_attn.{name}_proj"), uneven(0)));
    let inputs: Vec<(&str, Dtype, Vec<f32>)> =
        inputs.iter().map(|(name, values)| (name.as_str(), Dtype::F32, values.clone())).collect();
    let mut carried = vec![0.5; 64];
    carried[3 * 8 + 1] = 1000.0;
    let matrix = [&inputs[..], &[("self_attn.k_proj", Dtype::F16, carried)]].concat();
    let model = block(&place, &matrix);
    let excluded = ["--exclude", "k_proj"];
    let expected = "k_proj.weight': row 3, element 1 is 1000, 256000 when equalized, which is beyond what F16 holds";
    for format in ["parquet", "arrow", "safetensors"] {
        let error = refused(&model, &[&excluded[..], &["--format", format]].concat());
        assert!(error.contains(expected), "{format}: {error}");
        assert_eq!(error.contains(ADVICE), format == "safetensors", "{format}: {error}");
    }
    // A norm is divided by them, by 0.4585 for the channel that is large: 60000 / 0.4585 is 130859. In parts it is F32.
    let mut norm = vec![1.0; 8];
    norm[0] = 60000.0;
    let vector = [&inputs[..], &[("input_layernorm", Dtype::F16, norm)]].concat();
    let model = block(&place, &vector);
    let error = refused(&model, &["--format", "safetensors"]);
    assert!(error.contains("input_layernorm.weight': row 0, element 0 is 60000, 13"), "{error}");
    let expected = format!(" when equalized, which is beyond what F16 holds{ADVICE}");
    assert!(error.contains(&expected), "{error}");
    succeed(&[
        "quantize",
        &model,
        "--output",
        &out,
        "--equalize",
        "weights",
        "--format",
        "safetensors",
        "--dtype",
        "BF16",
    ]);
    std::fs::remove_dir_all(&out).unwrap();
    succeed(&["quantize", &model, "--output", &out, "--equalize", "weights"]);
    std::fs::remove_dir_all(&out).unwrap();
    // A matrix that is quantized leaves F32 itself: its row 2 is divided by 0.4585.
    let model =
        block(&place, &[("mlp.up_proj", Dtype::F32, vec![2.5e38; 64]), ("mlp.down_proj", Dtype::F32, uneven(2))]);
    for (format, when) in [("parquet", "equalized"), ("safetensors", "equalized and rounded")] {
        let error = refused(&model, &["--format", format]);
        let expected = format!("up_proj.weight': row 2, element 0 is {}, inf when {when}; only finite", 2.5e38f32);
        assert!(error.contains(&expected), "{format}: {error}");
    }
    // What is not finite from the start says so: of an equalized tensor that is not quantized, too.
    let mut norm = vec![1.0; 8];
    norm[5] = f32::NAN;
    let model = block(&place, &[("input_layernorm", Dtype::F32, norm)]);
    let error = refused(&model, &[]);
    assert!(error.contains("layernorm.weight': row 0, element 5 is NaN; only finite weights are equalized"), "{error}");
}

/// The passes of a run: their kind, the bytes that they were to do and those that they did, and whether they ended.
#[derive(Default)]
pub struct Passes(Mutex<Vec<(Pass, u64, u64, bool)>>);

impl Progress for Passes {
    fn start(&self, pass: Pass, total: u64) {
        self.0.lock().unwrap().push((pass, total, 0, false));
    }

    fn advance(&self, bytes: u64) {
        self.0.lock().unwrap().last_mut().unwrap().2 += bytes;
    }

    fn finish(&self) {
        self.0.lock().unwrap().last_mut().unwrap().3 = true;
    }
}

#[test]
fn every_pass_says_what_it_is_and_counts_its_own_bytes_from_0_to_all() {
    let place = llama(96, Dtype::F32);
    let (parts, file) = ("parquet", "safetensors");
    for (bits_per_weight, equalize, format, check, expected) in [
        (Some(3.5), None, parts, true, &[Pass::Widths, Pass::Quantize][..]),
        (None, Some("weights"), parts, true, &[Pass::Channels, Pass::Quantize]),
        (None, Some("auto"), parts, false, &[Pass::Alphas, Pass::Quantize]),
        (None, Some("weights"), file, true, &[Pass::Channels, Pass::Quantize, Pass::Check]),
        (None, Some("0.5"), file, false, &[Pass::Quantize]),
        (None, None, parts, true, &[Pass::Quantize]),
    ] {
        let spec = Spec {
            format: format.into(),
            target_bpw: bits_per_weight,
            activations: equalize.map(|_| place.path("acts.parquet")),
            equalize: equalize.map(|by| by.parse().unwrap()),
            ..Spec::default()
        };
        let (passes, cancel) = (Passes::default(), Cancel::new(false));
        let settings = RunSettings { existing: Existing::Overwrite, check, threads: 2, ..RunSettings::default() };
        let planned =
            Plan::new(spec, &place.path("model.safetensors"), Some(&place.path("out")), &settings, &passes, &cancel)
                .unwrap();
        planned.run(&place.path("out"), &settings, &passes, &cancel).unwrap();
        let passes = passes.0.into_inner().unwrap();
        assert_eq!(passes.iter().map(|pass| pass.0).collect::<Vec<_>>(), expected, "{equalize:?} {format}");
        for (pass, total, done, ended) in passes {
            assert!(total > 0 && done == total && ended, "{equalize:?} {format}, {pass}: {done} of {total}");
            let model = planned.model().total_bytes();
            let read_back = pass == Pass::Quantize && format == parts && check;
            assert!(total <= if read_back { 2 * model } else { model }, "{pass}: {total} of {model}");
        }
    }
}
