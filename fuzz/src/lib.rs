//! What both targets ask of a file whose header was taken: every row of every tensor is read, or an error says why not.

use std::{path::PathBuf, sync::Arc};

use arrow_array::{Array, RecordBatch, cast::AsArray};
use arrow_quant::{storage::dtype::Dtype, model::{Model, scan::Scan, tensor::{Tensor, Storage}}, types::weights::{CHANNEL, DATA, DTYPE, NAME, SHAPE, WEIGHTS, weights_schema}};

/// Source bytes of a part and of a batch: so few that files of a kilobyte have several of each.
const PART_BYTES: u64 = 512;
const BATCH_BYTES: usize = 128;

/// Opens the bytes as a model and reads all of it.
///
/// # Panics
/// The table is not what the header says.
pub fn read_all(bytes: &[u8], extension: &str) {
    let path = file(extension);
    std::fs::write(&path, bytes).expect("the temporary folder can be written to");
    // Loaded, not open: the next input overwrites the file.
    let Ok(model) = Model::load(&path) else { return };
    let model = Arc::new(model);
    assert_eq!(model.tensors_batch().expect("few tensors").num_rows(), model.tensors().len());
    let every = (0..weights_schema().fields().len()).collect::<Vec<_>>();
    let mut next = model.tensors().iter().map(|_| 0).collect::<Vec<usize>>();
    let mut whole = true;
    for part in model.parts(None, PART_BYTES) {
        let scan = Scan::new(Arc::clone(&model), part, every.clone(), BATCH_BYTES).expect("a part of this model");
        for batch in scan {
            // An error ends the rows of a part: an fp8 tensor whose scale cannot be told.
            let Ok(batch) = batch else {
                whole = false;
                break;
            };
            check(&model, &batch, bytes, &mut next, whole);
        }
    }
    let complete = model.tensors().iter().zip(&next).all(|(tensor, rows)| tensor.rows == *rows);
    assert!(!whole || complete, "rows are missing");
}

/// One file for each process: several may fuzz at a time.
fn file(extension: &str) -> PathBuf {
    std::env::temp_dir().join(format!("arrow-quant-fuzz-{}.{extension}", std::process::id()))
}

/// Every row of a batch against its tensor and the bytes of the file.
fn check(model: &Model, batch: &RecordBatch, bytes: &[u8], next: &mut [usize], in_order: bool) {
    let column = |name: &str| batch.column_by_name(name).expect("every column was asked for");
    let (names, dtypes) = (column(NAME).as_string_view(), column(DTYPE).as_string_view());
    let channels = column(CHANNEL).as_primitive::<arrow_array::types::Int64Type>();
    let (shapes, weights) = (column(SHAPE).as_list::<i32>(), column(WEIGHTS).as_list::<i32>());
    let data = column(DATA).as_binary::<i32>();
    for row in 0..batch.num_rows() {
        let number = model.number_of(names.value(row)).expect("a tensor of the model");
        let tensor = &model.tensors()[number];
        let channel = channels.value(row) as usize;
        assert!(channel < tensor.rows);
        assert!(!in_order || channel == next[number]);
        next[number] = channel + 1;
        assert_eq!(dtypes.value(row), tensor.dtype_name());
        assert_eq!(shapes.value(row).len(), tensor.shape.len());
        assert_eq!(weights.is_valid(row), tensor.dtype.is_float());
        if weights.is_valid(row) {
            assert_eq!(weights.value(row).len(), tensor.row_length);
        }
        if let Some(stored) = stored(tensor, channel, bytes) {
            assert_eq!(data.value(row), stored);
            if tensor.dtype == Dtype::F32 {
                let values = weights.value(row);
                let values = values.as_primitive::<arrow_array::types::Float32Type>().values().iter();
                assert!(values.flat_map(|value| value.to_le_bytes()).eq(stored.iter().copied()));
            }
        }
    }
}

/// The bytes of a row, where they are those of the file.
fn stored<'b>(tensor: &Tensor, row: usize, bytes: &'b [u8]) -> Option<&'b [u8]> {
    match &tensor.storage {
        Storage::Plain { range, .. } => {
            let start = range.start + row * tensor.row_bytes();
            Some(&bytes[start..start + tensor.row_bytes()])
        }
        Storage::Encoded { .. } | Storage::Parts { .. } => None,
    }
}
