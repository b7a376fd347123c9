//! Whole record batches: their column of weights quantized, or decoded again, in parallel over rows.

use std::{ops::Range, sync::Arc};

use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_schema::{Field, Schema};

use super::{
    ComputeError,
    arrays::parallel::{by_blocks, memory_size},
    dequantize, quantize,
};
use crate::types::{QuantizeOptions, quantized::QUANTIZED, weights::WEIGHTS};

/// Quantizes the column `weights` of a batch; the result has a column `quantized` in its place, and all others as they
/// are. Rows are shared out to rayon's threads; the bits do not depend on how many there are.
///
/// # Errors
/// Returns an error if there is no column `weights`, and the errors of [`quantize`].
///
/// # Example
/// See `examples/quantize_batch.rs`.
pub fn quantize_batch(batch: &RecordBatch, options: &QuantizeOptions) -> Result<RecordBatch, ComputeError> {
    let options = (*options).into();
    replace(batch, WEIGHTS, QUANTIZED, |weights| quantize(weights, &options))
}

/// Decodes the column `quantized` of a batch; the result has a column `weights` in its place: the reverse of
/// [`quantize_batch`].
///
/// # Errors
/// Returns an error if there is no column `quantized`, and the errors of [`dequantize`].
pub fn dequantize_batch(batch: &RecordBatch) -> Result<RecordBatch, ComputeError> {
    replace(batch, QUANTIZED, WEIGHTS, dequantize)
}

fn replace(
    batch: &RecordBatch,
    from: &str,
    to: &str,
    function: impl Fn(&dyn Array) -> Result<ArrayRef, ComputeError> + Sync,
) -> Result<RecordBatch, ComputeError> {
    let schema = batch.schema();
    let (index, _) = schema.column_with_name(from).ok_or_else(|| {
        let names: Vec<_> = schema.fields().iter().map(|field| field.name().as_str()).collect();
        ComputeError::InvalidArgument(format!("the batch must have a column '{from}'; it has {}", names.join(", ")))
    })?;
    let column = batch.column(index);
    let call = |rows: Range<usize>| function(&column.slice(rows.start, rows.len()));
    let column = by_blocks(column.len(), |rows| memory_size(column, rows), call)?;
    let mut fields = schema.fields().to_vec();
    fields[index] = Arc::new(Field::new(to, column.data_type().clone(), true));
    let mut columns = batch.columns().to_vec();
    columns[index] = column;
    let schema = Schema::new_with_metadata(fields, schema.metadata().clone());
    Ok(RecordBatch::try_new(Arc::new(schema), columns)?)
}

#[cfg(test)]
mod tests {
    use arrow_array::StringArray;

    use super::*;
    use crate::{
        testing::{arrays::list, samples},
        types::Bits,
    };

    fn batch(rows: &[Option<&[f32]>]) -> RecordBatch {
        let names: ArrayRef = Arc::new(StringArray::from_iter_values((0..rows.len()).map(|i| format!("t{i}"))));
        RecordBatch::try_from_iter_with_nullable([("name", names, false), ("weights", list(rows), true)]).unwrap()
    }

    #[test]
    fn a_batch_gives_the_bits_of_the_array_function_on_any_number_of_threads() {
        let rows: Vec<_> = (0..100).map(|i| samples::heavy(i % 70, i as u64)).collect();
        let rows: Vec<_> = rows.iter().enumerate().map(|(i, row)| (i % 9 != 4).then_some(&row[..])).collect();
        let batch = batch(&rows);
        let options = QuantizeOptions::new(Bits::Three);
        let want = quantize(batch.column(1), &options.into()).unwrap();
        for threads in [1, 2, 7] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let got = pool.install(|| quantize_batch(&batch, &options)).unwrap();
            assert_eq!(got.column(1), &want);
            assert_eq!(got.column(0), batch.column(0));
            assert_eq!(got.schema().field(1).name(), "quantized");
            let back = pool.install(|| dequantize_batch(&got)).unwrap();
            assert_eq!(back.column_by_name("weights"), Some(&dequantize(&want).unwrap()));
        }
        let empty = quantize_batch(&batch.slice(0, 0), &options).unwrap();
        assert_eq!(dequantize_batch(&empty).unwrap().num_rows(), 0);
    }

    #[test]
    fn errors_name_the_row_of_the_batch_and_the_missing_column() {
        let good = [1.0f32, 2.0];
        let bad = [1.0f32, f32::NAN];
        let mut rows = vec![Some(&good[..]); 50];
        rows[33] = Some(&bad);
        rows[41] = Some(&bad);
        let batch = batch(&rows);
        let options = QuantizeOptions::new(Bits::Four);
        let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
        let error = pool.install(|| quantize_batch(&batch, &options)).unwrap_err();
        assert_eq!((error.row(), error.to_string().contains("element 1 is NaN")), (Some(33), true));
        let error = dequantize_batch(&batch).unwrap_err().to_string();
        assert_eq!(error, "the batch must have a column 'quantized'; it has name, weights");
    }
}
