//! Models on disk, written by the reference implementation.

use arrow_array::cast::AsArray;

use super::*;
use crate::{
    storage::{
        dtype::Dtype,
        gguf::{value::Value, writer::lay_out},
    },
    testing::models::write,
};

fn message(path: &Path) -> String {
    Model::open(path).unwrap_err().to_string()
}

#[test]
fn the_tensors_table_has_every_tensor() {
    let folder = tempfile::tempdir().unwrap();
    let tensors: &[(&str, Dtype, &[usize], &[u8])] = &[
        ("model.layers.3.self_attn.q_proj.weight", Dtype::BF16, &[2, 3], &[0; 12]),
        ("model.norm.weight", Dtype::F32, &[3], &[0; 12]),
        ("empty", Dtype::F32, &[0, 4], &[]),
        ("steps", Dtype::I64, &[], &[0; 8]),
    ];
    write(&folder.path().join("model.safetensors"), tensors);
    let model = Model::open(folder.path()).unwrap();
    assert_eq!(model.total_bytes(), 32);
    let batch = model.tensors_batch().unwrap();
    let names: Vec<_> = batch.column(0).as_string_view().iter().flatten().collect();
    assert_eq!(names, ["steps", "empty", "model.norm.weight", "model.layers.3.self_attn.q_proj.weight"]);
    let modules: Vec<_> = batch.column(2).as_string_view().iter().flatten().collect();
    assert_eq!(modules, ["steps", "empty", "model.norm", "self_attn.q_proj"]);
    let numbers = |column: usize| -> Vec<i64> {
        batch.column(column).as_primitive::<arrow_array::types::Int64Type>().values().to_vec()
    };
    assert_eq!((numbers(5), numbers(6)), (vec![1, 0, 3, 6], vec![8, 0, 12, 12]));
    assert_eq!((numbers(7), numbers(8)), (vec![1, 1, 1, 2], vec![1, 0, 3, 3]));
    assert_eq!(batch.column(9).as_string_view().value(0), "model.safetensors");
}

#[test]
fn a_tensor_in_two_files_is_an_error_unless_an_index_says_which() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["model.safetensors", "model.fp16.safetensors"] {
        write(&folder.path().join(name), &[("w", Dtype::U8, &[1], &[1])]);
    }
    assert_eq!(Model::open(folder.path()).unwrap().passed_over(), ["model.fp16.safetensors"]);
    for number in 1..3 {
        write(&folder.path().join(format!("x-0000{number}-of-00002.safetensors")), &[("w", Dtype::U8, &[1], &[1])]);
    }
    let shard = folder.path().join("x-00002-of-00002.safetensors");
    let expected = "x-00002-of-00002.safetensors: tensor 'w': is in x-00001-of-00002.safetensors too; give the path of";
    assert!(message(&shard).contains(expected), "{}", message(&shard));
    let index = folder.path().join("model.safetensors.index.json");
    std::fs::write(&index, r#"{"metadata":{},"weight_map":{"w":"model.safetensors"}}"#).unwrap();
    for path in [folder.path(), &index] {
        assert_eq!(Model::open(path).unwrap().files()[0].name, "model.safetensors");
    }
}

#[test]
fn an_index_that_its_shards_contradict_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    write(&folder.path().join("1.safetensors"), &[("a", Dtype::U8, &[1], &[1])]);
    write(&folder.path().join("2.safetensors"), &[("b", Dtype::U8, &[1], &[1])]);
    let index = folder.path().join("model.safetensors.index.json");
    for (map, expected) in [
        (
            r#"{"a":"2.safetensors","b":"1.safetensors"}"#,
            "model.safetensors.index.json: tensor 'a': should be in 2.safetensors and is in 1.safetensors",
        ),
        (r#"{"a":"1.safetensors","c":"2.safetensors"}"#, "tensor 'c': should be in 2.safetensors and is missing"),
        (r#"{"a":"1.safetensors","b":"3.safetensors"}"#, "names '3.safetensors', which is missing"),
    ] {
        std::fs::write(&index, format!(r#"{{"weight_map":{map}}}"#)).unwrap();
        assert!(message(folder.path()).contains(expected), "{}", message(folder.path()));
    }
}

#[test]
fn a_path_that_is_no_model_is_one_clear_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.safetensors");
    std::fs::write(&path, "").unwrap();
    assert!(
        message(&path)
            .ends_with("a.safetensors: is empty; a safetensors file begins with the 8-byte length of its header")
    );
    std::fs::write(&path, "PK\x03\x04 a zip").unwrap();
    assert!(message(&path).contains("is not safetensors: "), "{}", message(&path));
}

#[test]
fn names_and_values_change_the_digest() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.safetensors");
    let mut digests = Vec::new();
    for (name, value) in [("a", 1), ("b", 1), ("a", 2)] {
        write(&path, &[(name, Dtype::U8, &[300_000], &vec![value; 300_000])]);
        let digest = Model::load(&path).unwrap().files()[0].source_digest.clone();
        assert_eq!(digest, Model::open(&path).unwrap().files()[0].source_digest);
        digests.push(digest);
    }
    assert!(digests[0] != digests[1] && digests[0] != digests[2]);
}

#[test]
fn a_digest_covers_a_header_that_ends_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let digest = |architecture: &str| {
        let value = Value::String(architecture.to_owned());
        let head = lay_out(&[Pair { key: "general.architecture".to_owned(), value }], &[]).unwrap().head;
        let path = folder.path().join("a.gguf");
        // Without the padding, which nothing needs where no data follows.
        std::fs::write(&path, &head[..24 + 8 + 20 + 4 + 8 + architecture.len()]).unwrap();
        Model::open(&path).unwrap().files()[0].source_digest.clone()
    };
    assert_ne!(digest("flux"), digest("flow"));
}
