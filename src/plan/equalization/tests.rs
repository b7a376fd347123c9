//! Tests of the layers that fold and those that do not, and of the notes on them.

use std::{collections::BTreeMap, path::Path};

use arrow_array::{Array, ListArray, cast::AsArray, types::Float32Type};

use super::{architectures::ARCHITECTURES, change::Change, changes::Equalization, foldable, folds::Folds};
use crate::{
    model::Model,
    plan::{selection::Selection, spec::Spec},
    storage::{dtype::Dtype, parquet_table::write_table},
    testing::models::write,
};

#[test]
fn folded_factors_have_bounds_and_those_that_one_is_added_to_lie_near_it() {
    let folded = |factors: &[f32], adds_one| {
        let mut factors = factors.to_vec();
        foldable(&mut factors, adds_one);
        factors
    };
    let wide = [1.5, 1e30, 1e-5];
    assert_eq!(folded(&wide, false), [1.5, 256.0, 1.0 / 256.0]);
    assert_eq!(folded(&wide, true), [1.5 / 256.0, 1.0, 1.0 / 4096.0]);
    assert_eq!(folded(&[0.25, 7.9], true), [0.0625, 1.975]);
    assert_eq!(folded(&[0.01, 0.02], true), [0.64, 1.28]);
    assert!(folded(&[], true).is_empty());
}

#[test]
fn no_architecture_and_no_layer_is_there_twice() {
    let names: Vec<_> = ARCHITECTURES.iter().flat_map(|architecture| architecture.names).collect();
    assert!(names.iter().all(|name| names.iter().filter(|other| other == &name).count() == 1));
    for architecture in ARCHITECTURES {
        assert!(architecture.rules.iter().all(|rule| !rule.consumers.is_empty() && !rule.producers.is_empty()));
    }
}

/// Returns a block of the digits transformer, but for what is given instead.
fn model(folder: &Path, config: &str, other: &[(&str, Dtype, Vec<usize>)]) -> Model {
    let mut tensors: Vec<(&str, Dtype, Vec<usize>)> = vec![
        ("blocks.0.adaLN_modulation.1.weight", Dtype::F32, vec![24, 4]),
        ("blocks.0.adaLN_modulation.1.bias", Dtype::BF16, vec![24]),
        ("blocks.0.attn.qkv.weight", Dtype::F32, vec![12, 4]),
        ("blocks.0.attn.proj.weight", Dtype::F32, vec![4, 4]),
        ("blocks.0.mlp.fc1.weight", Dtype::F32, vec![16, 4]),
        ("blocks.0.mlp.fc2.weight", Dtype::F32, vec![4, 16]),
        ("blocks.x.attn.qkv.weight", Dtype::F32, vec![12, 4]),
    ];
    for given in other {
        match tensors.iter_mut().find(|tensor| tensor.0 == given.0) {
            Some(tensor) => *tensor = given.clone(),
            None => tensors.push(given.clone()),
        }
    }
    tensors.retain(|tensor| tensor.2 != [0]);
    let bytes =
        |(_, dtype, shape): &(&str, Dtype, Vec<usize>)| vec![0; shape.iter().product::<usize>() * dtype.bits() / 8];
    let bytes: Vec<Vec<u8>> = tensors.iter().map(bytes).collect();
    let all: Vec<_> = tensors.iter().zip(&bytes).map(|(t, bytes)| (t.0, t.1, &t.2[..], &bytes[..])).collect();
    write(&folder.join("model.safetensors"), &all);
    std::fs::write(folder.join("config.json"), config).unwrap();
    Model::open(folder).unwrap()
}

const DIGITS: &str = r#"{"model_type": "digits_dit"}"#;

/// Returns the reason why a tensor of a model is not folded; empty if it is.
fn reason(config: &str, other: &[(&str, Dtype, Vec<usize>)], name: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let model = model(folder.path(), config, other);
    let spec = Spec { exclude: vec!["fc1".parse().unwrap()], ..Spec::default() };
    let choices = Selection(&spec).choose(&model).unwrap();
    let folds = Folds::plan(&model, &choices).unwrap();
    let number = model.number_of(&format!("blocks.{name}.weight")).unwrap();
    folds.of(number).map_or_else(|| folds.reason(number).to_owned(), |_| String::new())
}

#[test]
fn a_norm_that_adds_one_to_its_weight_is_not_that_of_the_table() {
    let of = |norm: &str| {
        let config = format!(r#"{{"model_type": "llada", "layer_norm_type": {norm}}}"#);
        reason(&config, &[], "0.attn.proj")
    };
    assert!(of("\"gemma_rms\"").contains("layer_norm_type \"gemma_rms\""));
    assert!(of("1").contains("layer_norm_type 1"));
    assert!(!of("\"rms\"").contains("layer_norm_type"));
}

#[test]
fn what_is_not_folded_has_its_reason() {
    const BIAS: &str = "blocks.0.adaLN_modulation.1.bias";
    let digits = |other: &[(&str, Dtype, Vec<usize>)], name: &str| reason(DIGITS, other, name);
    for name in ["0.attn.qkv", "0.attn.proj"] {
        assert_eq!(digits(&[], name), "", "{name}");
    }
    for name in ["0.mlp.fc2", "0.adaLN_modulation.1", "x.attn.qkv"] {
        assert_eq!(digits(&[], name), "what gives its input is not linear in it", "{name}");
    }
    for (other, expected) in [
        (
            (BIAS, Dtype::BF16, vec![0]),
            "blocks.0.adaLN_modulation.1.weight has no bias to carry what the factors leave of 1",
        ),
        ((BIAS, Dtype::BF16, vec![23]), "blocks.0.adaLN_modulation.1.bias has the shape [23], not [24]"),
        ((BIAS, Dtype::F64, vec![24]), "blocks.0.adaLN_modulation.1.bias is kept as F64"),
        (("blocks.0.adaLN_modulation.1.weight", Dtype::F32, vec![0]), "there is no blocks.0.adaLN_modulation.1.weight"),
        (
            ("blocks.0.adaLN_modulation.1.weight", Dtype::F32, vec![20, 4]),
            "blocks.0.adaLN_modulation.1.weight has 20 rows, not 24 for its 4 channels",
        ),
    ] {
        assert_eq!(digits(&[other], "0.attn.qkv"), expected);
    }
    for (config, expected) in [
        (r#"{"model_type": "phi"}"#, "the table of architectures does not have phi"),
        ("{}", "config.json does not say what the model is"),
        ("[", "config.json, which would say what the model is, is no JSON"),
    ] {
        assert_eq!(reason(config, &[], "0.attn.qkv"), expected);
    }
}

#[test]
fn an_equalization_reads_back_as_written_and_lists_must_fit() {
    let folder = tempfile::tempdir().unwrap();
    let model = model(folder.path(), DIGITS, &[]);
    let choices = Selection(&Spec::default()).choose(&model).unwrap();
    let folds = Folds::plan(&model, &choices).unwrap();
    let factors = BTreeMap::from([
        ("blocks.0.attn.qkv.weight".to_owned(), vec![2.0, 0.5, 4.0, 1.0]),
        ("blocks.0.mlp.fc2.weight".to_owned(), vec![3.0; 16]),
    ]);
    let equalization = Equalization::new(&model, &folds, &factors, false);
    assert_eq!((equalization.folded(), equalization.scaled()), (1, 1));
    let bias = equalization.of("blocks.0.adaLN_modulation.1.bias").unwrap();
    assert_eq!(bias.factors.as_ref().unwrap()[..8], [0.5, 2.0, 0.25, 1.0, 0.5, 2.0, 0.25, 1.0]);
    assert_eq!(bias.offsets.as_ref().unwrap()[..8], [0.0, 0.0, 0.0, 0.0, -0.5, 1.0, -0.75, 0.0]);
    write_table(folder.path(), "e.parquet", &equalization.batch(folder.path()).unwrap()).unwrap();
    let mut read = Equalization::read(&folder.path().join("e.parquet")).unwrap();
    assert_eq!(read.batch(folder.path()).unwrap(), equalization.batch(folder.path()).unwrap());
    let table = read.table(&model, |_| None).unwrap();
    assert_eq!(table, equalization.table(&model, |_| None).unwrap());
    assert_eq!(read.digest(), equalization.digest());
    let mut other = factors.clone();
    other.get_mut("blocks.0.mlp.fc2.weight").unwrap()[15] = 3.5;
    assert_ne!(Equalization::new(&model, &folds, &other, false).digest(), equalization.digest());
    assert_eq!(table["importance"].null_count(), table.num_rows());
    // For the weights as they were, an error that is multiplied by 2 when they are brought back counts four times.
    let weighted = Equalization::new(&model, &folds, &factors, true).table(&model, |_| None).unwrap();
    let of = |name: &str| {
        let row = weighted["name"].as_string_view().iter().position(|other| other == Some(name)).unwrap();
        let lists = weighted["importance"].as_list_view::<i32>();
        lists.is_valid(row).then(|| lists.value(row).as_primitive::<Float32Type>().values().to_vec())
    };
    assert_eq!(of("blocks.0.attn.qkv.weight"), Some(vec![0.25, 4.0, 0.0625, 1.0]));
    assert_eq!(of("blocks.0.adaLN_modulation.1.weight"), None);
    read.changes.get_mut("blocks.0.mlp.fc2.weight").unwrap().factors = Some(vec![1.0; 15]);
    let error = read.table(&model, |_| None).unwrap_err().to_string();
    assert!(error.ends_with("'blocks.0.mlp.fc2.weight': is equalized by 15 numbers where 16 are expected"), "{error}");
}

#[test]
fn rows_are_brought_back_wherever_they_begin() {
    let list = |rows: &[[f32; 2]]| {
        ListArray::from_iter_primitive::<Float32Type, _, _>(rows.iter().map(|row| Some(row.map(Some))))
    };
    let change = Change {
        factors: Some(vec![4.0, 0.5]),
        row_factors: Some(vec![1.0, 2.0, 0.25]),
        offsets: Some(vec![0.0, 8.0]),
        ..Change::default()
    };
    let vector = Change { row_factors: None, ..change.clone() };
    assert_eq!(vector.back(1, 2).unwrap().rows(&list(&[[4.0, 9.0]]), 0).unwrap().as_ref(), &list(&[[1.0, 2.0]]));
    let matrix = Change { offsets: None, ..change };
    let back = matrix.back(3, 2).unwrap();
    let stored = [[4.0, 1.0], [24.0, 4.0], [5.0, 0.75]];
    for first in 0..3 {
        let rows = back.rows(&list(&stored[first..]), first).unwrap();
        assert_eq!(rows.as_ref(), &list(&[[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]][first..]));
    }
    assert!(back.rows(&list(&stored), 1).unwrap_err().to_string().contains("the channel is 3"));
    assert_eq!(matrix.back(2, 2).unwrap_err(), "is equalized by 3 numbers where 2 are expected");
}
