//! Scans of models on disk.

use std::path::Path;

use arrow_array::{
    Array,
    cast::AsArray,
    types::{Float32Type, Int64Type},
};
use half::{bf16, f16};
use proptest::prelude::*;

use super::{buffer_pool::Pool, *};
use crate::{model::part::PART_BYTES, storage::dtype::Dtype, testing::models::write};

fn bytes<T: Copy, const N: usize>(values: &[T], to: fn(T) -> [u8; N]) -> Vec<u8> {
    values.iter().flat_map(|value| to(*value)).collect()
}

/// The widened rows of every tensor, and the rows as stored.
type Rows = Vec<(String, i64, Option<Vec<f32>>, Vec<u8>)>;

fn scan(model: &Arc<Model>, batch_bytes: usize) -> Result<Rows, IoError> {
    let mut rows = Vec::new();
    for part in model.parts(None, 64) {
        for batch in Scan::new(Arc::clone(model), part, vec![0, 5, 6, 7], batch_bytes)? {
            let batch = batch?;
            assert!(batch.num_rows() > 0);
            let weights = batch.column(2).as_list::<i32>();
            for row in 0..batch.num_rows() {
                rows.push((
                    batch.column(0).as_string_view().value(row).to_owned(),
                    batch.column(1).as_primitive::<Int64Type>().value(row),
                    weights.is_valid(row).then(|| weights.value(row).as_primitive::<Float32Type>().values().to_vec()),
                    batch.column(3).as_binary::<i32>().value(row).to_vec(),
                ));
            }
        }
    }
    Ok(rows)
}

proptest! {
    #[test]
    fn a_damaged_file_is_refused_or_read_without_panic(
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0u8..10), 0..4),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.safetensors");
        write(&path, &[
            ("a.weight", Dtype::F8_E4M3, &[4, 8], &[0x38; 32]),
            ("a.weight_scale", Dtype::F32, &[4, 1], &[0; 16]),
            ("b", Dtype::F4, &[2, 4], &[0; 4]),
            ("c", Dtype::F16, &[0, 4], &[]),
        ]);
        let mut bytes = std::fs::read(&path).unwrap();
        let digits: Vec<usize> = (8..bytes.len()).filter(|at| bytes[*at].is_ascii_digit()).collect();
        for (index, digit) in edits {
            bytes[digits[index.index(digits.len())]] = b'0' + digit;
        }
        std::fs::write(&path, bytes).unwrap();
        if let Ok(model) = Model::load(&path) {
            model.tensors_batch().unwrap();
            let _ = scan(&Arc::new(model), 16);
        }
    }
}

fn open(path: &Path) -> Arc<Model> {
    Arc::new(Model::open(path).unwrap())
}

#[test]
fn rows_are_the_same_whatever_the_batch_size_and_read_or_loaded() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.safetensors");
    let weights: Vec<f32> = (0..60u16).map(|i| f32::from(i) - 20.5).collect();
    let narrow: Vec<u8> = weights.iter().flat_map(|weight| bf16::from_f32(*weight).to_le_bytes()).collect();
    write(
        &path,
        &[
            ("bf16.weight", Dtype::BF16, &[10, 6], &narrow),
            (
                "conv.weight",
                Dtype::F16,
                &[2, 3, 1, 1],
                &bytes(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0].map(f16::from_f32), f16::to_le_bytes),
            ),
            ("double", Dtype::F64, &[], &0.1f64.to_le_bytes()),
            ("empty.weight", Dtype::F32, &[0, 4], &[]),
            ("norm.weight", Dtype::F32, &[3], &bytes(&[1.5f32, -2.5, 1e-40], f32::to_le_bytes)),
            ("odd", Dtype::U8, &[3], &[7, 8, 9]),
            ("position_ids", Dtype::I64, &[1, 2], &bytes(&[0i64, 1], i64::to_le_bytes)),
        ],
    );
    let model = open(&path);
    let expected = scan(&model, 1 << 20).unwrap();
    for batch_bytes in [0, 1, 7, 12, 24, 100] {
        assert_eq!(scan(&model, batch_bytes).unwrap(), expected);
    }
    assert_eq!(scan(&Arc::new(Model::load(&path).unwrap()), 12).unwrap(), expected);
    assert_eq!(expected.len(), 10 + 2 + 5);
    let row = |name: &str, channel| {
        let found = expected.iter().find(|row| row.0 == name && row.1 == channel).unwrap();
        (found.2.clone(), found.3.clone())
    };
    assert_eq!(row("bf16.weight", 4), (Some(weights[24..30].to_vec()), narrow[48..60].to_vec()));
    assert_eq!(row("conv.weight", 1).0.unwrap(), [4.0, 5.0, 6.0]);
    assert_eq!(row("double", 0).0.unwrap(), [0.1f32]);
    assert_eq!(row("norm.weight", 0).0.unwrap(), [1.5, -2.5, 1e-40]);
    assert_eq!(row("empty.weight", 0), (Some(vec![]), vec![]));
    assert_eq!(row("odd", 0), (None, vec![7, 8, 9]));
    assert_eq!(row("position_ids", 0).0, None);
}

#[test]
fn data_is_not_copied_and_small_tensors_share_a_batch() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.safetensors");
    let names: Vec<String> = (0..100).map(|i| format!("norm.{i:03}")).collect();
    let tensors: Vec<_> =
        names.iter().map(|name| (name.as_str(), Dtype::U8, &[300usize][..], &[5u8; 300][..])).collect();
    write(&path, &tensors);
    let model = open(&path);
    let part = model.parts(None, PART_BYTES).remove(0);
    let batches: Vec<_> =
        Scan::new(Arc::clone(&model), part, vec![7], BATCH_BYTES).unwrap().collect::<Result<_, _>>().unwrap();
    assert_eq!((batches.len(), batches[0].num_rows()), (1, 100));
    let data = batches[0].column(0).as_binary::<i32>();
    assert!(data.iter().flatten().all(|row| row == [5; 300]));
    // In memory they are not copied.
    let loaded = Arc::new(Model::load(&path).unwrap());
    let part = loaded.parts(None, PART_BYTES).remove(0);
    let batch = Scan::new(Arc::clone(&loaded), part, vec![7], BATCH_BYTES).unwrap().next().unwrap().unwrap();
    let whole = loaded.buffer(0, loaded.tensors()[0].rows_range(&(0..1)), &Pool::default()).unwrap();
    assert_eq!(batch.column(0).as_binary::<i32>().values().as_ptr(), whole.as_ptr());

    // Every second tensor: not adjacent, so copied, and still one batch.
    let second: Vec<usize> = (0..100).step_by(2).collect();
    let part = model.parts(Some(&second), PART_BYTES).remove(0);
    let batches: Vec<_> = Scan::new(model, part, vec![0, 7], BATCH_BYTES).unwrap().collect::<Result<_, _>>().unwrap();
    assert_eq!((batches.len(), batches[0].num_rows()), (1, 50));
    assert_eq!(batches[0].column(0).as_string_view().value(49), "norm.098");
}

#[test]
fn without_columns_a_scan_counts_rows() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.safetensors");
    write(&path, &[("w", Dtype::U8, &[70_000, 1], &vec![0u8; 70_000])]);
    let model = open(&path);
    let part = model.parts(None, PART_BYTES).remove(0);
    let rows = |projection| -> usize {
        let scan = Scan::new(Arc::clone(&model), part.clone(), projection, BATCH_BYTES).unwrap();
        scan.map(|batch| batch.unwrap().num_rows()).sum()
    };
    assert_eq!((rows(vec![]), rows(vec![2, 1])), (70_000, 70_000));
    let error = Scan::new(Arc::clone(&model), part.clone(), vec![8], BATCH_BYTES).unwrap_err().to_string();
    assert!(error.starts_with("the columns of a scan: "), "{error}");
}

#[test]
fn a_pass_over_a_large_model_uses_its_buffers_again() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let header = r#"{"w":{"dtype":"BF16","shape":[8192,4096],"data_offsets":[0,67108864]}}"#;
    let bytes = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes()].concat();
    std::fs::write(file.path(), &bytes).unwrap();
    file.as_file().set_len(bytes.len() as u64 + 67_108_864).unwrap();
    let model = open(file.path());
    let part = model.parts(None, PART_BYTES).remove(0);
    let (mut rows, mut places) = (0, std::collections::HashSet::new());
    for batch in Scan::new(Arc::clone(&model), part, vec![6, 7], BATCH_BYTES).unwrap() {
        let batch = batch.unwrap();
        rows += batch.num_rows();
        let widened = batch.column(0).as_list::<i32>().values().as_primitive::<Float32Type>().values().as_ptr();
        places.insert((widened, batch.column(1).as_binary::<i32>().values().as_ptr()));
    }
    assert_eq!((rows, places.len()), (8192, 1));
}

#[test]
fn fp8_weights_are_multiplied_by_their_companion() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.safetensors");
    // 0x38 is 1.0 in E4M3, 0x3c in E5M2.
    let (ones, wide) = ([0x38; 6], vec![0x38u8; 130 * 129]);
    let block: Vec<u8> = bytes(&[2.0f32, 3.0, 5.0, 7.0], f32::to_le_bytes);
    write(
        &path,
        &[
            ("block.weight", Dtype::F8_E4M3, &[130, 129], &wide),
            ("block.weight_scale_inv", Dtype::F32, &[2, 2], &block),
            ("row.weight", Dtype::F8_E4M3, &[2, 3], &ones),
            ("row.weight_scale", Dtype::BF16, &[2, 1], &bytes(&[2.0, 0.5].map(bf16::from_f32), bf16::to_le_bytes)),
            ("tensor.weight", Dtype::F8_E5M2, &[2, 3], &[0x3c; 6]),
            ("tensor.scale_weight", Dtype::F32, &[], &0.25f32.to_le_bytes()),
        ],
    );
    let model = open(&path);
    for batch_bytes in [1, 1000, 1 << 20] {
        let rows = scan(&model, batch_bytes).unwrap();
        let row =
            |name: &str, channel| rows.iter().find(|row| row.0 == name && row.1 == channel).unwrap().2.clone().unwrap();
        assert_eq!((row("row.weight", 0), row("row.weight", 1)), (vec![2.0; 3], vec![0.5; 3]));
        assert_eq!(row("tensor.weight", 1), [0.25; 3]);
        assert_eq!((row("block.weight", 127)[127..].to_vec()), [2.0, 3.0]);
        assert_eq!((row("block.weight", 128)[127..].to_vec()), [5.0, 7.0]);
    }
}

#[test]
fn an_fp8_tensor_of_unknown_scale_is_an_error_only_where_its_weights_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.safetensors");
    write(&path, &[("m.weight", Dtype::F8_E4M3, &[2, 3], &[0x38; 6]), ("m.weight_scale", Dtype::F32, &[5], &[0; 20])]);
    let model = open(&path);
    let error = scan(&model, 1).unwrap_err().to_string();
    let expected = "a.safetensors: tensor 'm.weight': its scale cannot be told: 'm.weight_scale' is F32 of shape [5]";
    assert!(error.contains(expected), "{error}");
    let part = model.parts(None, 64).remove(0);
    assert_eq!(Scan::new(model, part, vec![0, 7], 64).unwrap().flatten().count(), 1);
}

#[test]
fn exponents_are_powers_of_two_and_no_scale_is_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.safetensors");
    write(
        &path,
        &[
            ("bare.weight", Dtype::F8_E4M3, &[1, 2], &[0x38; 2]),
            ("mx.weight", Dtype::F8_E4M3, &[1, 96], &[0x38; 96]),
            ("mx.weight_scale", Dtype::F8_E8M0, &[1, 3], &[126, 129, 0]),
        ],
    );
    let rows = scan(&open(&path), 1 << 20).unwrap();
    let row = |name: &str| rows.iter().find(|row| row.0 == name).unwrap().2.clone().unwrap();
    assert_eq!(row("bare.weight"), [1.0; 2]);
    assert_eq!((row("mx.weight")[31], row("mx.weight")[32], row("mx.weight")[95]), (0.5, 4.0, 2f32.powi(-127)));
}
