//! Exports written without a query, read back, and damaged.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    path::PathBuf,
    sync::Arc,
};

use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringViewArray, cast::AsArray, types::Float32Type};

use super::*;
use crate::{
    compute::{decode_as, encode_as},
    model::{Model, part::Run, scan::rows_of},
    output::{
        new_manifest::new_manifest,
        row_writer::{ENCODED, RowFiles},
    },
    plan::selection::Selection,
    storage::{dtype::Dtype, error::IoError, row_layout::Piece},
    testing::{models::write, samples::Random},
    types::{
        Bits,
        weights::{CHANNEL, NAME},
    },
};

/// `WEIGHTS` and `DATA` among the columns of the weights table.
const WEIGHTS_AND_DATA: [usize; 2] = [6, 7];

/// Writes a model, exports it in parts of `part_bytes`, and gives the folder with the rows that were meant.
fn exported(spec: &Spec, part_bytes: u64) -> (tempfile::TempDir, PathBuf, HashMap<String, Vec<Vec<f32>>>) {
    let place = tempfile::tempdir().unwrap();
    let mut random = Random::new(11);
    let mut noise =
        |count: usize| -> Vec<u8> { (0..count).flat_map(|_| ((random.normal() * 0.1) as f32).to_le_bytes()).collect() };
    let (a, b, bias) = (noise(70 * 96), noise(33 * 64), noise(70));
    write(
        &place.path().join("model.safetensors"),
        &[
            ("a.weight", Dtype::F32, &[70, 96], &a),
            ("b.weight", Dtype::F32, &[33, 64], &b),
            ("a.bias", Dtype::F32, &[70], &bias),
        ],
    );
    fs::write(place.path().join("config.json"), r#"{"hidden": 96}"#).unwrap();
    let model = Model::open(place.path()).unwrap();
    let mut choices = Selection(spec).choose(&model).unwrap();
    let export = of(spec).unwrap().plan(&model, &mut choices, spec).unwrap().unwrap();
    let parts = model.parts_of(None, part_bytes, Piece::ROWS_TOGETHER);
    let manifest = new_manifest(&model, &parts, spec.format.as_ref(), BTreeMap::new(), String::new(), Vec::new());
    let folder = place.path().join("out");
    fs::create_dir(&folder).unwrap();
    let files = Arc::new(RowFiles::create(&folder, &export.layout, false).unwrap());
    let mut meant: HashMap<String, Vec<Vec<f32>>> = HashMap::new();
    // The last part first: any order will do.
    for (number, part) in parts.iter().enumerate().rev() {
        let mut writer = files.part(&manifest, number).unwrap();
        for Run { tensor, rows } in &part.runs {
            for start in rows.clone().step_by(7) {
                let rows = start..rows.end.min(start + 7);
                let batch = rows_of(&model, Run { tensor: *tensor, rows: rows.clone() }, &WEIGHTS_AND_DATA).unwrap();
                let name = model.tensors()[*tensor].name.as_str();
                let encoding = export.tensors[*tensor].encoding;
                let encoded = match encoding {
                    Some(_) => encode_as(batch.column(0), &[encoding]).unwrap(),
                    None => batch.column(1).clone(),
                };
                if encoding.is_some() {
                    let length = model.tensors()[*tensor].row_length;
                    let decoded = decode_as(&encoded, &[encoding], &[Some(length)]).unwrap();
                    let rows = decoded.as_list::<i32>().iter().flatten();
                    let rows = rows.map(|row| row.as_primitive::<Float32Type>().values().to_vec());
                    meant.entry(name.to_owned()).or_default().extend(rows);
                }
                let names: ArrayRef = Arc::new(StringViewArray::from(vec![name; rows.len()]));
                let channels: ArrayRef = Arc::new(Int64Array::from_iter_values(rows.map(|row| row as i64)));
                let batch = RecordBatch::try_from_iter([(NAME, names), (CHANNEL, channels), (ENCODED, encoded)]);
                writer.write(&batch.unwrap()).unwrap();
            }
        }
        writer.finish(&HashMap::new()).unwrap();
        files.pending(&manifest, number).unwrap().commit().unwrap();
    }
    files.finish().unwrap();
    if parts.len() > 1 {
        // Parts were written from the last to the first.
        meant.clear();
    }
    (place, folder, meant)
}

fn rows(model: &Model, tensor: usize) -> Vec<Vec<f32>> {
    let all = Run { tensor, rows: 0..model.tensors()[tensor].rows };
    let batch = rows_of(model, all, &WEIGHTS_AND_DATA).unwrap();
    batch
        .column(0)
        .as_list::<i32>()
        .iter()
        .flatten()
        .map(|row| row.as_primitive::<Float32Type>().values().to_vec())
        .collect()
}

#[test]
fn packed_modules_read_back_as_they_were_meant_however_the_parts_are_cut() {
    for bits in Bits::ALL {
        for symmetric in [false, true] {
            let spec =
                Spec { format: "compressed-tensors".into(), bits: Some(bits.into()), symmetric, ..Spec::default() };
            let (_place, folder, meant) = exported(&spec, u64::MAX / 4);
            let model = Model::open(&folder).unwrap();
            let names: Vec<_> = model.tensors().iter().map(|tensor| tensor.name.as_str()).collect();
            assert_eq!(names.len(), 3, "{names:?}");
            for (name, expected) in &meant {
                let number = model.number_of(name).unwrap();
                assert_eq!(model.tensors()[number].dtype_name(), format!("INT{bits}"));
                assert_eq!(&rows(&model, number), expected, "{name} at {bits} bits");
            }
            // Cut at multiples of 32 rows, and written from the end.
            let (_place, cut, _) = exported(&spec, 4000);
            let bytes = |folder: &PathBuf| fs::read(folder.join("model.safetensors")).unwrap();
            assert!(bytes(&folder) == bytes(&cut), "{bits} bits");
        }
    }
}

#[test]
fn a_damaged_file_is_an_error_or_other_numbers_and_never_a_panic() {
    let spec = Spec { format: "compressed-tensors".into(), bits: Some(Bits::Three.into()), ..Spec::default() };
    let (_place, folder, _) = exported(&spec, u64::MAX / 4);
    let path = folder.join("model.safetensors");
    let good = fs::read(&path).unwrap();
    let read = || -> Result<(), IoError> {
        let model = Model::open(&folder)?;
        for (tensor, entry) in model.tensors().iter().enumerate() {
            rows_of(&model, Run { tensor, rows: 0..entry.rows }, &WEIGHTS_AND_DATA)?;
        }
        Ok(())
    };
    read().unwrap();
    for length in (0..good.len()).step_by(41) {
        fs::write(&path, &good[..length]).unwrap();
        let message = read().unwrap_err().to_string();
        assert!(message.contains("model.safetensors"), "{message}");
    }
    let header = 8 + u64::from_le_bytes(good[..8].try_into().unwrap()) as usize;
    let mut refused = 0;
    for at in (0..header).chain((header..good.len()).step_by(97)) {
        for bit in [0, 3, 6] {
            let mut bad = good.clone();
            bad[at] ^= 1 << bit;
            fs::write(&path, &bad).unwrap();
            if let Err(error) = read() {
                let message = error.to_string();
                assert!(message.contains("out") && message.lines().count() == 1, "{message}");
                refused += 1;
            }
        }
    }
    assert!(refused > header, "{refused} of {} changes to the header were refused", 3 * header);
}

#[test]
fn modules_whose_tensors_do_not_fit_together_are_named() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("model.safetensors");
    let shape: Vec<u8> = [4i64, 32].iter().flat_map(|size| size.to_le_bytes()).collect();
    let message = |packed: &[usize], scale: (Dtype, &[usize]), shape: &[u8], more: Option<(&str, &[usize])>| {
        let zeros = vec![0; 4096];
        let bytes = |dtype: Dtype, shape: &[usize]| &zeros[..shape.iter().product::<usize>() * dtype.bits() / 8];
        let mut tensors = vec![
            ("m.weight_packed", Dtype::I32, packed, bytes(Dtype::I32, packed)),
            ("m.weight_scale", scale.0, scale.1, bytes(scale.0, scale.1)),
            ("m.weight_shape", Dtype::I64, &[2], shape),
        ];
        if let Some((name, shape)) = more {
            tensors.push((name, Dtype::I32, shape, bytes(Dtype::I32, shape)));
        }
        write(&path, &tensors);
        Model::open(&path).map(drop).map_err(|error| error.to_string())
    };
    assert_eq!(message(&[4, 4], (Dtype::F16, &[4, 2]), &shape, None), Ok(()));
    for (packed, scale, shape, more, expected) in [
        (&[3, 4][..], (Dtype::F16, &[4, 2][..]), &shape[..], None, "4 rows of I32 are read"),
        (&[4, 5], (Dtype::F16, &[4, 2]), &shape, None, "not codes of 2, 3, 4 or 8 bits"),
        (&[4, 4], (Dtype::F16, &[4, 3]), &shape, None, "the same number of groups for each of 4 rows of 32"),
        (&[4, 4], (Dtype::F16, &[1]), &shape, None, "the same number of groups"),
        (&[4, 4], (Dtype::I64, &[4, 2]), &shape, None, "F16, BF16 and F32 are read"),
        (&[4, 4], (Dtype::F16, &[4, 2]), &[255; 16], None, "must hold two sizes"),
        (&[4, 4], (Dtype::F16, &[4, 2]), &shape, Some(("m.weight_zero_point", &[4, 2][..])), "zero points packed down"),
        (&[4, 4], (Dtype::F16, &[4, 2]), &shape, Some(("m.weight_g_idx", &[32])), "order of activations"),
    ] {
        let message = message(packed, scale, shape, more).unwrap_err();
        assert!(message.contains("'m.weight'") && message.contains(expected), "{message}");
    }
}

#[test]
fn weights_below_what_half_scales_hold_are_kept() {
    let place = tempfile::tempdir().unwrap();
    let rows = |values: [f32; 2]| -> Vec<u8> {
        let row = |value: f32| (0..64).flat_map(move |k| half::f16::from_f32(value * (k as f32 / 64.0)).to_le_bytes());
        values.into_iter().flat_map(row).collect()
    };
    let (small, late, zero) = (rows([2e-6, 1e-6]), rows([1e-6, 0.1]), rows([0.0, 0.0]));
    write(
        &place.path().join("model.safetensors"),
        &[
            ("small.weight", Dtype::F16, &[2, 64], &small),
            ("late.weight", Dtype::F16, &[2, 64], &late),
            ("zero.weight", Dtype::F16, &[2, 64], &zero),
        ],
    );
    fs::write(place.path().join("config.json"), "{}").unwrap();
    let model = Model::open(place.path()).unwrap();
    for (format, form) in [("gguf", "Q8_0"), ("compressed-tensors", "int8")] {
        let spec = Spec { format: format.into(), bits: Some(Bits::Eight.into()), ..Spec::default() };
        let mut choices = Selection(&spec).choose(&model).unwrap();
        of(&spec).unwrap().choose(&model, &mut choices, &spec).unwrap();
        of(&spec).unwrap().plan(&model, &mut choices, &spec).unwrap().unwrap();
        for (tensor, choice) in model.tensors().iter().zip(&choices) {
            assert_eq!(choice.options.is_some(), tensor.name != "small.weight", "{format} {}", tensor.name);
            if choice.options.is_none() {
                let note = format!("kept: its largest weight is 2.0e-6, and {form} with scales of F16 needs 3.8e-6");
                assert_eq!(choice.note, note);
            }
        }
    }
}
