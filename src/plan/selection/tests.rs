//! Choices for models on disk.

use super::*;
use crate::{plan::choices_table::choices_batch, storage::dtype::Dtype, testing::models::write, types::Coding};

fn model() -> (Model, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    write(
        &path,
        &[
            ("embeddings.word_embeddings.weight", Dtype::F32, &[2, 2], &[0; 16]),
            ("embeddings.position_ids", Dtype::I64, &[1, 1], &[0; 8]),
            ("encoder.layer.0.output.dense.weight", Dtype::F16, &[2, 2], &[0; 8]),
            ("encoder.layer.1.output.dense.weight", Dtype::F16, &[2, 2], &[0; 8]),
            ("encoder.layer.1.output.dense.bias", Dtype::F16, &[2], &[0; 4]),
            ("fp8.weight", Dtype::F8_E4M3, &[2, 2], &[0; 4]),
            ("fp8.weight_scale", Dtype::F32, &[2, 1], &[0; 8]),
            ("pooler.dense.weight", Dtype::F32, &[2, 2], &[0; 16]),
            ("void.weight", Dtype::F32, &[0, 2], &[]),
        ],
    );
    (Model::open(&path).unwrap(), folder)
}

fn spec(json: &str) -> Spec {
    Spec::from_json(json).unwrap()
}

/// The bits of a tensor and its note.
fn choice(spec: &Spec, name: &str) -> (Option<u8>, String) {
    let (model, _folder) = model();
    let choices = Selection(spec).choose(&model).unwrap();
    let at = model.tensors().iter().position(|tensor| tensor.name == name).unwrap();
    (choices[at].options.map(|options| options.bits.get()), choices[at].note.clone())
}

#[test]
fn every_tensor_is_quantized_or_says_why_not() {
    for (name, bits, note) in [
        ("embeddings.word_embeddings.weight", None, "embedding (default exclusion)"),
        ("embeddings.position_ids", None, "I64 is not a float that can be quantized"),
        ("encoder.layer.0.output.dense.weight", Some(4), ""),
        ("encoder.layer.1.output.dense.bias", None, "rank 1"),
        ("fp8.weight", Some(4), ""),
        ("fp8.weight_scale", None, "belongs to an fp8 or a packed tensor"),
        ("pooler.dense.weight", Some(4), ""),
        ("void.weight", None, "no elements"),
    ] {
        assert_eq!(choice(&Spec::default(), name), (bits, note.to_owned()), "{name}");
    }
}

#[test]
fn include_replaces_the_default_and_exclude_takes_away() {
    let include = spec(r#"{"include": ["embed", "layer"]}"#);
    assert_eq!(choice(&include, "embeddings.word_embeddings.weight").0, Some(4));
    assert_eq!(choice(&include, "encoder.layer.1.output.dense.bias"), (None, "rank 1".to_owned()));
    assert_eq!(
        choice(&include, "pooler.dense.weight"),
        (None, "not matched by a pattern of those to include".to_owned())
    );
    let exclude = spec(r#"{"include": ["embed", "layer"], "exclude": ["layer\\.1"]}"#);
    assert_eq!(choice(&exclude, "encoder.layer.0.output.dense.weight").0, Some(4));
    let note = r"excluded by pattern 'layer\.1'".to_owned();
    assert_eq!(choice(&exclude, "encoder.layer.1.output.dense.weight"), (None, note));
}

#[test]
fn the_last_match_sets_the_bits_and_their_default_method() {
    let rules = spec(r#"{"bits_for": ["dense=2", "layer\\.1=8"]}"#);
    assert_eq!(choice(&rules, "encoder.layer.0.output.dense.weight").0, Some(2));
    let note = r"bits by pattern 'layer\.1=8'".to_owned();
    assert_eq!(choice(&rules, "encoder.layer.1.output.dense.weight"), (Some(8), note));
    let (model, _folder) = model();
    let methods = |spec: &Spec| -> Vec<Method> {
        Selection(spec)
            .choose(&model)
            .unwrap()
            .iter()
            .filter_map(|choice| choice.options)
            .map(|options| options.method)
            .collect()
    };
    assert!(methods(&rules).contains(&Method::Minmax) && methods(&rules).contains(&Method::Search));
    let fixed = Spec { method: Some(Coding::Fixed(Method::Search)), ..rules };
    assert!(methods(&fixed).iter().all(|method| *method == Method::Search));
}

#[test]
fn a_pattern_without_effect_is_an_error_of_one_line() {
    let (model, _folder) = model();
    for (json, expected) in [
        (r#"{"include": ["bias"]}"#, "`include` 'bias' matches no float tensor of rank 2 or more of "),
        (r#"{"exclude": ["q_porj"]}"#, "`exclude` 'q_porj' matches no tensor of "),
        (r#"{"bits_for": ["embeddings=8"]}"#, "`bits_for` 'embeddings=8' matches no quantized tensor of "),
    ] {
        let message = Selection(&spec(json)).choose(&model).unwrap_err().to_string();
        assert!(message.starts_with(expected) && !message.contains('\n'), "{message}");
    }
}

#[test]
fn the_bytes_of_a_choice_are_those_of_its_rows() {
    let (model, _folder) = model();
    let choices = Selection(&Spec::default()).choose(&model).unwrap();
    let tensor = model.tensor("pooler.dense.weight").unwrap();
    let at = model.tensors().iter().position(|other| other.name == tensor.name).unwrap();
    // A row of two 4-bit codes, one scale, one zero point and the row's scale.
    assert_eq!(choices[at].bytes_out(&model, tensor), 2 * (1 + 1 + 1 + 4));
    assert_eq!(Choice::default().bytes_out(&model, tensor), 16);
}

#[test]
fn the_table_has_a_row_for_every_tensor() {
    let (model, _folder) = model();
    let batch = choices_batch(&model, &Selection(&Spec::default()).choose(&model).unwrap()).unwrap();
    assert_eq!((batch.num_rows(), batch.column(1).null_count()), (9, 5));
    assert!(choices_batch(&model, &[]).is_err());
}
