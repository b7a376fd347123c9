//! A small model cut into parts, and the rows of its output.

use std::{collections::HashMap, path::Path, sync::Arc};

use arrow_array::{Array, ArrayRef, RecordBatch, cast::AsArray, new_null_array};
use arrow_schema::DataType;

use super::models::write;
use crate::{
    compute::quantize,
    model::{Model, part::Part, scan::Scan},
    output::new_manifest::new_manifest,
    plan::{
        selection::{Choice, Selection},
        spec::Spec,
    },
    storage::{dtype::Dtype, folder::manifest::Manifest},
    types::{
        Bits, ErrorSums, PartFormat,
        output::output_schema,
        quantized::quantized_type,
        weights::{CHANNEL, DATA, DTYPE, MODULE, NAME, SHAPE, WEIGHTS},
    },
};

/// A model of two matrices, a vector and integers, cut into parts of `target` bytes.
pub(crate) fn model(folder: &Path, target: u64) -> (Arc<Model>, Vec<Part>) {
    let path = folder.join("model.safetensors");
    let floats =
        |n: usize| -> Vec<u8> { (0..n).flat_map(|i| (((i * 37) % 101) as f32 - 50.0).to_le_bytes()).collect() };
    write(
        &path,
        &[
            ("layers.0.a.weight", Dtype::F32, &[40, 64], &floats(40 * 64)),
            ("layers.1.a.weight", Dtype::F32, &[40, 64], &floats(40 * 64)),
            ("norm.weight", Dtype::F32, &[64], &floats(64)),
            ("position_ids", Dtype::I64, &[1, 8], &[3; 64]),
            ("void", Dtype::F32, &[0, 8], &[]),
        ],
    );
    let model = Arc::new(Model::open(&path).unwrap());
    let parts = model.parts(None, target);
    (model, parts)
}

/// Returns the rows of a part, quantized by the default choice.
pub(crate) fn output(model: &Arc<Model>, part: &Part, batch_bytes: usize) -> Vec<RecordBatch> {
    let choices = Selection(&Spec { bits: Some(Bits::Three.into()), ..Spec::default() }).choose(model).unwrap();
    let scan = Scan::new(Arc::clone(model), part.clone(), (0..8).collect(), batch_bytes).unwrap();
    scan.flat_map(|batch| rows(model, &choices, &batch.unwrap())).collect()
}

/// One output batch for each row.
fn rows(model: &Model, choices: &[Choice], batch: &RecordBatch) -> Vec<RecordBatch> {
    (0..batch.num_rows())
        .map(|row| {
            let batch = batch.slice(row, 1);
            let column = |name: &str| Arc::clone(batch.column_by_name(name).unwrap());
            let name = column(NAME).as_string_view().value(0).to_owned();
            let at = model.tensors().iter().position(|tensor| tensor.name == name).unwrap();
            let (quantized, data): (ArrayRef, ArrayRef) = match choices[at].options {
                Some(options) => {
                    (quantize(&column(WEIGHTS), &options.into()).unwrap(), new_null_array(&DataType::Binary, 1))
                }
                None => (new_null_array(&quantized_type(), 1), column(DATA)),
            };
            let columns =
                vec![column(NAME), column(MODULE), column(DTYPE), column(SHAPE), column(CHANNEL), quantized, data];
            RecordBatch::try_new(output_schema(), columns).unwrap()
        })
        .collect()
}

pub(crate) fn manifest(model: &Model, parts: &[Part], format: PartFormat) -> Manifest {
    let names = ["model.safetensors", "report.parquet"].map(str::to_owned).into();
    new_manifest(model, parts, format.name(), std::collections::BTreeMap::default(), "SELECT 1".to_owned(), names)
}

pub(crate) fn sums(part: &[RecordBatch]) -> HashMap<String, ErrorSums> {
    let mut sums: HashMap<String, ErrorSums> = HashMap::new();
    for batch in part.iter().filter(|batch| batch.column(5).null_count() == 0) {
        let name = batch.column(0).as_string_view().value(0).to_owned();
        let one = ErrorSums { dot: 0.1, a2: 1.0 / 3.0, b2: 0.3, err2: 0.7, max_abs: 2.0, n: 64 };
        let sum = sums.entry(name).or_default();
        *sum = sum.merge(one);
    }
    sums
}
