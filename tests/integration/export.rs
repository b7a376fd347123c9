//! Formats for engines from outside: read by the reference implementation, the same bytes for any threads, resumable.

use std::{collections::BTreeMap, fs, path::Path};

use safetensors::{Dtype, SafeTensors};

use crate::{
    cli::{Place, contents, fail, succeed},
    model::{f32_bytes, noise, small, write},
};

/// Every tensor of a folder of safetensors files: dtype, shape and bytes.
fn tensors(folder: &Path) -> BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "safetensors") {
            let bytes = fs::read(&path).unwrap();
            for (name, view) in SafeTensors::deserialize(&bytes).unwrap().tensors() {
                let tensor = (view.dtype(), view.shape().to_vec(), view.data().to_vec());
                assert!(found.insert(name, tensor).is_none());
            }
        }
    }
    found
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
}

fn small_model() -> (Place, String) {
    let place = Place::new();
    small(&place.path("model.safetensors"));
    let model = place.text("model.safetensors");
    (place, model)
}

#[test]
fn safetensors_hold_what_the_codes_decode_to_and_carry_the_rest() {
    let (place, model) = small_model();
    let (out, parts) = (place.text("out"), place.text("parts"));
    succeed(&["quantize", &model, "--output", &out, "--format", "safetensors"]);
    succeed(&["quantize", &model, "--output", &parts]);
    let (source, ours) = (fs::read(&model).unwrap(), tensors(&place.path("out")));
    let source = SafeTensors::deserialize(&source).unwrap();
    assert_eq!(ours.len(), source.len());
    for (name, view) in source.tensors() {
        let (dtype, shape, bytes) = &ours[&name];
        assert_eq!((*dtype, shape.as_slice()), (view.dtype(), view.shape()), "{name}");
        let quantized = name.contains("proj");
        assert_eq!(bytes == view.data(), !quantized, "{name}");
        if quantized {
            let worst = floats(bytes).iter().zip(floats(view.data())).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(worst > 0.0 && worst < 0.01, "{name}: {worst}");
        }
    }
    // What the parts decode to is what the files hold.
    let figures = |candidate: &str| succeed(&["compare", &model, candidate]);
    assert_eq!(figures(&out), figures(&parts));
    assert!(!place.path("out").join("weights").exists());
}

#[test]
fn the_sizes_that_a_run_reports_are_those_of_its_files() {
    let place = Place::new();
    // Quantized and carried rows in the same parts.
    let names: Vec<_> = (0..24).flat_map(|layer| ["a", "b"].map(|name| format!("{layer}.{name}.weight"))).collect();
    let values = f32_bytes(&noise(16 * 256, 5));
    let tensors: Vec<_> = names.iter().map(|name| (name.as_str(), Dtype::F32, vec![16, 256], values.clone())).collect();
    write(&place.path("m.safetensors"), &tensors);
    let model = place.text("m.safetensors");
    for format in ["parquet", "arrow", "safetensors"] {
        let out = place.text(format);
        let arguments = ["quantize", &model, "--output", &out, "--bits", "2", "--exclude", "b", "--format", format];
        let summary = succeed(&[&arguments[..], &["--json"]].concat());
        let summary: serde_json::Value = serde_json::from_str(&summary).unwrap();
        let written = contents(Path::new(&out));
        let weights = |path: &Path| path.starts_with("weights") || path.extension() == Some("safetensors".as_ref());
        let files: usize = written.iter().filter(|(path, _)| weights(path)).map(|(_, bytes)| bytes.len()).sum();
        assert_eq!(summary["file_bytes"], files, "{format}");
        let [rows, source] = ["bytes_out", "bytes_in"].map(|figure| summary[figure].as_u64().unwrap());
        assert!(rows < files as u64 && (files as u64) < rows + source / 4, "{format}: {rows} of {files}");
    }
}

#[test]
fn any_threads_any_shards_and_a_resumed_run_give_the_same_bytes() {
    let (place, model) = small_model();
    let run = |out: &str, more: &[&str]| {
        let out = place.text(out);
        let arguments = ["quantize", &model, "--output", &out, "--bits", "3", "--format", "safetensors"];
        succeed(&[&arguments, more].concat());
        contents(Path::new(&out))
    };
    let one = run("one", &["--threads", "1"]);
    assert_eq!(one, run("two", &["--threads", "2"]));
    assert_eq!(one, run("loaded", &["--batch"]));
    let sharded = run("sharded", &["--shard-size", "20kB"]);
    let names: Vec<_> = sharded.keys().map(|path| path.to_str().unwrap()).collect();
    assert!(names.contains(&"model-00001-of-00005.safetensors"), "{names:?}");
    assert_eq!(tensors(&place.path("one")), tensors(&place.path("sharded")));
    let index: serde_json::Value = serde_json::from_slice(&sharded[Path::new("model.safetensors.index.json")]).unwrap();
    assert_eq!(index["weight_map"].as_object().unwrap().len(), 9);
    // The index is what our own reader goes by.
    let compared = succeed(&["compare", &place.text("one"), &place.text("sharded")]);
    assert_eq!(compared.matches("identical").count(), 9, "{compared}");
}

#[test]
fn a_dtype_is_that_of_every_float_and_what_it_cannot_hold_is_named() {
    let place = Place::new();
    let mut values = noise(64 * 48, 3);
    write(
        &place.path("m.safetensors"),
        &[
            ("a.weight", Dtype::F32, vec![64, 48], f32_bytes(&values)),
            ("norm.weight", Dtype::F32, vec![48], f32_bytes(&noise(48, 4))),
            ("steps", Dtype::I64, vec![2], vec![0; 16]),
        ],
    );
    let (model, out) = (place.text("m.safetensors"), place.text("out"));
    for (name, dtype) in [("F16", Dtype::F16), ("BF16", Dtype::BF16), ("F64", Dtype::F64)] {
        let arguments =
            ["quantize", &model, "--output", &out, "--format", "safetensors", "--dtype", name, "--overwrite"];
        succeed(&arguments);
        let ours = tensors(&place.path("out"));
        assert_eq!((ours["a.weight"].0, ours["norm.weight"].0, ours["steps"].0), (dtype, dtype, Dtype::I64));
    }
    values[7 * 48 + 3] = 1e6;
    write(&place.path("m.safetensors"), &[("a.weight", Dtype::F32, vec![64, 48], f32_bytes(&values))]);
    let arguments = ["quantize", &model, "--output", &out, "--format", "safetensors", "--dtype", "F16", "--overwrite"];
    let error = fail(1, &arguments);
    assert!(
        error.contains("'a.weight': row 7, element 3 is 1000000, ") && error.contains(" when rounded, which is"),
        "{error}"
    );
    assert!(error.contains("which is beyond what F16 holds (--dtype BF16 has more range)"), "{error}");
    let error = fail(2, &["quantize", &model, "--output", &out, "--dtype", "F16", "--overwrite"]);
    assert!(error.contains("needs --format safetensors"), "{error}");
}

#[test]
fn a_mask_of_infinities_is_carried_as_it_is_and_named_where_its_dtype_would_change() {
    let place = Place::new();
    let mut mask = vec![0.0; 4 * 4];
    mask[2 * 4 + 3] = f32::NEG_INFINITY;
    write(
        &place.path("m.safetensors"),
        &[
            ("a.weight", Dtype::F32, vec![64, 48], f32_bytes(&noise(64 * 48, 3))),
            ("mask", Dtype::F32, vec![4, 4], f32_bytes(&mask)),
        ],
    );
    let (model, out) = (place.text("m.safetensors"), place.text("out"));
    let arguments =
        ["quantize", &model, "--output", &out, "--exclude", "mask", "--format", "safetensors", "--overwrite"];
    succeed(&arguments);
    assert_eq!(tensors(&place.path("out"))["mask"].2, f32_bytes(&mask));
    let error = fail(1, &[&arguments[..], &["--dtype", "BF16"]].concat());
    let expected =
        "m.safetensors: tensor 'mask': row 2, element 3 is -inf; only finite weights are stored as another type";
    assert!(error.contains(expected), "{error}");
}

#[test]
fn the_scale_of_an_fp8_tensor_is_applied_and_left_out() {
    let place = Place::new();
    // 0x38 is 1 in E4M3, 0xC0 is -2.
    write(
        &place.path("m.safetensors"),
        &[
            ("m.weight", Dtype::F8_E4M3, vec![1, 2], vec![0x38, 0xc0]),
            ("m.weight_scale", Dtype::F32, vec![1], f32_bytes(&[0.5])),
        ],
    );
    let (model, out) = (place.text("m.safetensors"), place.text("out"));
    succeed(&["quantize", &model, "--output", &out, "--bits", "8", "--format", "safetensors"]);
    let ours = tensors(&place.path("out"));
    assert_eq!(ours.keys().collect::<Vec<_>>(), ["m.weight"]);
    assert_eq!(ours["m.weight"].0, Dtype::BF16);
    assert_eq!(ours["m.weight"].2, [0x00, 0x3f, 0x80, 0xbf]);
}

#[test]
fn copy_writes_the_same_bytes_whatever_the_order_of_the_rows() {
    let (place, model) = small_model();
    let table = format!("layers={model}");
    let copy = |to: &str, query: &str, threads: &str| {
        let to = place.text(to);
        let statement = format!("COPY ({query}) TO '{to}' STORED AS SAFETENSORS");
        succeed(&["sql", &statement, "--table", &table, "--threads", threads]);
        fs::read(to).unwrap()
    };
    let one = copy("one.safetensors", "SELECT * FROM layers", "1");
    assert_eq!(one, copy("two.safetensors", "SELECT * FROM layers ORDER BY channel DESC, name", "2"));
    let (source, ours) = (fs::read(&model).unwrap(), SafeTensors::deserialize(&one).unwrap());
    let source = SafeTensors::deserialize(&source).unwrap();
    assert_eq!(ours.len(), source.len());
    for (name, view) in source.tensors() {
        let copied = ours.tensor(&name).unwrap();
        assert_eq!(
            (copied.dtype(), copied.shape(), copied.data()),
            (view.dtype(), view.shape(), view.data()),
            "{name}"
        );
    }
    let rounded = copy(
        "rounded.safetensors",
        "SELECT name, channel, dequantize(quantize(weights, 4)) AS weights FROM layers WHERE module LIKE 'mlp%'",
        "2",
    );
    assert_eq!(SafeTensors::deserialize(&rounded).unwrap().len(), 2);
    assert_eq!(place.names(), ["model.safetensors", "one.safetensors", "rounded.safetensors", "two.safetensors"]);
}

#[test]
fn copy_says_what_is_wrong_with_the_rows() {
    let (place, model) = small_model();
    let (table, to) = (format!("layers={model}"), place.text("out.safetensors"));
    for (query, options, message) in [
        ("SELECT name, channel FROM layers", "", "neither a column weights nor a column data"),
        ("SELECT weights FROM layers", "", "no column name"),
        ("SELECT name, 0 AS channel, weights FROM layers WHERE module LIKE 'mlp%'", "", "row 0 is there twice"),
        ("SELECT name, channel, shape, weights FROM layers WHERE channel > 0", "", "row 0 is missing"),
        ("SELECT name, channel, data FROM layers", "", "no dtype that says of what"),
        ("SELECT * FROM layers", "OPTIONS ('format.a' 'b')", "takes no options"),
        (
            "SELECT '__metadata__' AS name, 0 AS channel, [0.5] AS weights",
            "",
            "'__metadata__': safetensors reserve this",
        ),
    ] {
        let statement = format!("COPY ({query}) TO '{to}' STORED AS SAFETENSORS {options}");
        let error = fail(1, &["sql", &statement, "--table", &table]);
        assert!(error.contains(message), "{query}: {error}");
        assert_eq!(place.names(), ["model.safetensors"]);
    }
}
