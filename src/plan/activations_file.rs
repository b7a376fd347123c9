//! Activations that calibration wrote: what of them is checked before they are used.

use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
};

use arrow_array::{
    Array, ArrayRef, ListArray, RecordBatch, StringViewArray,
    cast::AsArray,
    types::{Float32Type, Float64Type, Int64Type},
};

use crate::{
    model::{Model, tensor::Tensor},
    storage::{digest::digest_of, error::IoError, parquet_table},
    types::{
        activations::{CHANNEL_MAX, CHANNEL_MEAN_SQUARE, CHANNEL_MIN, TIMESTEP, TOKENS, activations_schema},
        weights::NAME,
    },
};

/// Rows read at a time: each holds three numbers per channel.
const BATCH_ROWS: usize = 64;

/// A file of activations that fits a model.
#[derive(Debug)]
pub struct CheckedFile {
    /// The digest of the file.
    pub digest: String,
    /// The mean square of each input channel over the tokens of all timesteps, by the name of the tensor.
    pub mean_squares: BTreeMap<String, Vec<f64>>,
}

/// Reads every row of the Parquet file of activations at `path` and holds it against the model. Rows may come in any
/// order, and a layer and timestep may have several.
///
/// # Errors
/// Returns an error if the file cannot be read, lacks a column or has one of another type, or has no rows, or if a row has a
/// null, a timestep that is not finite, no tokens, a name that is no tensor of rank 2 or more of the model, lists of
/// another width than that tensor's input, numbers that are not finite, a minimum above its maximum or a negative mean
/// square.
pub fn check_activations(path: &Path, model: &Model) -> Result<CheckedFile, IoError> {
    let reader = parquet_table::open(path, &activations_schema(), "activations", BATCH_ROWS)?;
    let tensors: HashMap<&str, &Tensor> = model.tensors().iter().map(|tensor| (tensor.name.as_str(), tensor)).collect();
    let mut rows = 0;
    let mut squares: BTreeMap<String, (f64, Vec<f64>)> = BTreeMap::new();
    for batch in reader {
        let batch = Columns::new(path, &batch.map_err(IoError::arrow(path))?)?;
        for row in 0..batch.names.len() {
            let refuse = |problem| IoError::file(path, format!("row {}: {problem}", rows + row));
            batch.check(row, &tensors).map_err(refuse)?;
            batch.add(row, &mut squares).map_err(refuse)?;
        }
        rows += batch.names.len();
    }
    if rows == 0 {
        return Err(IoError::file(path, "has no rows; activations have one for each layer and timestep"));
    }
    let mean = |(tokens, sums): (f64, Vec<f64>)| sums.into_iter().map(|sum| sum / tokens).collect();
    Ok(CheckedFile {
        digest: digest_of(path)?.1,
        mean_squares: squares.into_iter().map(|(name, sums)| (name, mean(sums))).collect(),
    })
}

/// The columns of a batch, cast to the types of the schema.
struct Columns {
    names: StringViewArray,
    timesteps: ArrayRef,
    tokens: ArrayRef,
    lists: [(&'static str, ListArray); 3],
}

impl Columns {
    fn new(path: &Path, batch: &RecordBatch) -> Result<Self, IoError> {
        let schema = activations_schema();
        let column = |name| parquet_table::column(path, batch, &schema, name);
        let list = |name| Ok::<_, IoError>((name, column(name)?.as_list::<i32>().clone()));
        Ok(Self {
            names: column(NAME)?.as_string_view().clone(),
            timesteps: column(TIMESTEP)?,
            tokens: column(TOKENS)?,
            lists: [list(CHANNEL_MIN)?, list(CHANNEL_MAX)?, list(CHANNEL_MEAN_SQUARE)?],
        })
    }

    /// Adds the squares of a row to those of its layer.
    fn add(&self, row: usize, squares: &mut BTreeMap<String, (f64, Vec<f64>)>) -> Result<(), String> {
        let name = self.names.value(row);
        let tokens = self.tokens.as_primitive::<Int64Type>().value(row) as f64;
        let list = self.lists[2].1.value(row);
        let list = list.as_primitive::<Float32Type>().values();
        if !squares.contains_key(name) {
            squares.insert(name.to_owned(), (0.0, vec![0.0; list.len()]));
        }
        let Some((total, sums)) = squares.get_mut(name) else { return Ok(()) };
        if sums.len() != list.len() {
            return Err(format!("'{name}' has {} channels, and {} in a row before", list.len(), sums.len()));
        }
        *total += tokens;
        for (sum, square) in sums.iter_mut().zip(list) {
            *sum += tokens * f64::from(*square);
        }
        Ok(())
    }

    fn check(&self, row: usize, tensors: &HashMap<&str, &Tensor>) -> Result<(), String> {
        if self.names.is_null(row) {
            return Err(format!("{NAME} is null"));
        }
        let name = self.names.value(row);
        let timesteps = self.timesteps.as_primitive::<Float64Type>();
        if timesteps.is_null(row) || !timesteps.value(row).is_finite() {
            let given = if timesteps.is_null(row) { "null".to_owned() } else { timesteps.value(row).to_string() };
            return Err(format!("'{name}': the timestep must be a finite number, not {given}"));
        }
        let tokens = self.tokens.as_primitive::<Int64Type>();
        if tokens.is_null(row) || tokens.value(row) < 1 {
            return Err(format!("'{name}': tokens must be 1 or more"));
        }
        let tensor = tensors.get(name).ok_or_else(|| format!("'{name}' is no tensor of the model"))?;
        let [_, inputs, ..] = tensor.shape[..] else {
            return Err(format!(
                "'{name}' has rank {}; only tensors of rank 2 and more have inputs",
                tensor.shape.len()
            ));
        };
        let mut values = Vec::with_capacity(3);
        for (column, lists) in &self.lists {
            if lists.is_null(row) {
                return Err(format!("'{name}': {column} is null"));
            }
            let list = lists.value(row);
            // A convolution in groups sees the channels of every group.
            let grouped = tensor.shape.len() > 2 && inputs > 0 && list.len() % inputs == 0 && !list.is_empty();
            if list.len() != inputs && !grouped {
                return Err(format!("'{name}': {column} has {} channels where the weights take {inputs}", list.len()));
            }
            let list = list.as_primitive::<Float32Type>().clone();
            if let Some(at) = (0..list.len()).find(|at| list.is_null(*at) || !list.value(*at).is_finite()) {
                return Err(format!("'{name}': {column}, channel {at} is not a finite number"));
            }
            values.push(list);
        }
        let [low, high, squares] = &values[..] else { return Err("three lists are expected".into()) };
        if low.len() != high.len() || low.len() != squares.len() {
            return Err(format!(
                "'{name}': the lists have {}, {} and {} channels",
                low.len(),
                high.len(),
                squares.len()
            ));
        }
        for channel in 0..low.len() {
            if low.value(channel) > high.value(channel) {
                return Err(format!("'{name}': channel {channel} has a minimum above its maximum"));
            }
            if squares.value(channel) < 0.0 {
                return Err(format!("'{name}': channel {channel} has a negative mean square"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::{fs::File, sync::Arc};

    use arrow_array::{Float64Array, Int64Array, StringArray};
    use parquet::arrow::ArrowWriter;
    use safetensors::{Dtype, tensor::TensorView};

    use super::*;

    fn model(folder: &Path) -> Model {
        let bytes = [0; 4 * 24];
        let view = |shape: Vec<usize>| {
            let count: usize = shape.iter().product();
            TensorView::new(Dtype::F32, shape, &bytes[..4 * count]).unwrap()
        };
        let path = folder.join("model.safetensors");
        let tensors = [("fc.weight", view(vec![3, 2])), ("conv.weight", view(vec![4, 2, 1, 3])), ("b", view(vec![3]))];
        safetensors::serialize_to_file(tensors, None, &path).unwrap();
        Model::open(&path).unwrap()
    }

    fn list(values: &[f32]) -> ArrayRef {
        Arc::new(ListArray::from_iter_primitive::<Float32Type, _, _>([Some(values.iter().copied().map(Some))]))
    }

    struct Row(&'static str, f64, i64, [&'static [f32]; 3]);

    fn check(row: Option<Row>) -> Result<CheckedFile, String> {
        let folder = tempfile::tempdir().unwrap();
        let Row(name, timestep, tokens, lists) = row.unwrap_or(Row("fc.weight", 0.0, 1, [&[], &[], &[]]));
        let batch = RecordBatch::try_from_iter([
            (NAME, Arc::new(StringArray::from(vec![name])) as ArrayRef),
            (TIMESTEP, Arc::new(Float64Array::from(vec![timestep]))),
            (TOKENS, Arc::new(Int64Array::from(vec![tokens]))),
            (CHANNEL_MIN, list(lists[0])),
            (CHANNEL_MAX, list(lists[1])),
            (CHANNEL_MEAN_SQUARE, list(lists[2])),
        ]);
        let path = folder.path().join("a.parquet");
        let batch = batch.unwrap();
        let mut writer = ArrowWriter::try_new(File::create(&path).unwrap(), batch.schema(), None).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
        check_activations(&path, &model(folder.path())).map_err(|error| error.to_string())
    }

    const GOOD: [&[f32]; 3] = [&[-1.0, 0.0], &[1.0, 0.0], &[0.5, 0.0]];

    #[test]
    fn rows_that_fit_the_model_are_accepted() {
        let checked = check(Some(Row("fc.weight", 999.0, 64, GOOD))).unwrap();
        assert_eq!(checked.mean_squares["fc.weight"], [0.5, 0.0]);
        check(Some(Row("conv.weight", -1.5, 1, GOOD))).unwrap();
        // Two groups.
        check(Some(Row("conv.weight", 0.0, 1, [&[0.0; 4], &[1.0; 4], &[1.0; 4]]))).unwrap();
    }

    #[test]
    fn what_does_not_fit_is_refused_with_its_row_and_reason() {
        for (row, message) in [
            (Row("fc.weight", f64::NAN, 1, GOOD), "row 0: 'fc.weight': the timestep must be a finite number, not NaN"),
            (Row("fc.weight", 0.0, 0, GOOD), "tokens must be 1 or more"),
            (Row("gone.weight", 0.0, 1, GOOD), "'gone.weight' is no tensor of the model"),
            (Row("b", 0.0, 1, GOOD), "'b' has rank 1"),
            (
                Row("fc.weight", 0.0, 1, [&[0.0; 3], &[0.0; 3], &[0.0; 3]]),
                "channel_min has 3 channels where the weights take 2",
            ),
            (Row("conv.weight", 0.0, 1, [&[0.0; 3], &[0.0; 3], &[0.0; 3]]), "has 3 channels"),
            (Row("conv.weight", 0.0, 1, [&[0.0; 4], &[1.0; 2], &[1.0; 4]]), "the lists have 4, 2 and 4 channels"),
            (
                Row("fc.weight", 0.0, 1, [&[0.0, 2.0], &[1.0, 1.0], &[1.0, 1.0]]),
                "channel 1 has a minimum above its maximum",
            ),
            (
                Row("fc.weight", 0.0, 1, [&[0.0, 0.0], &[1.0, f32::INFINITY], &[1.0, 1.0]]),
                "channel_max, channel 1 is not a finite number",
            ),
            (Row("fc.weight", 0.0, 1, [&[0.0, 0.0], &[1.0, 1.0], &[-1.0, 1.0]]), "negative mean square"),
        ] {
            let error = check(Some(row)).unwrap_err();
            assert!(error.contains(message), "{error}");
        }
    }

    #[test]
    fn files_without_the_columns_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.parquet");
        let model = model(folder.path());
        let write = |batch: &RecordBatch| {
            let mut writer = ArrowWriter::try_new(File::create(&path).unwrap(), batch.schema(), None).unwrap();
            writer.write(batch).unwrap();
            writer.close().unwrap();
            check_activations(&path, &model).unwrap_err().to_string()
        };
        let names: ArrayRef = Arc::new(StringArray::from(vec!["fc.weight"]));
        let error = write(&RecordBatch::try_from_iter([(NAME, Arc::clone(&names))]).unwrap());
        assert!(error.contains("has no column timestep; activations have name, timestep"), "{error}");
        let all = activations_schema();
        let error = write(
            &RecordBatch::try_from_iter(all.fields().iter().map(|field| (field.name(), Arc::clone(&names)))).unwrap(),
        );
        assert!(error.contains("column timestep must be Float64, not Utf8"), "{error}");
        let error = write(&RecordBatch::new_empty(all));
        assert!(error.contains("has no rows"), "{error}");
        assert!(check_activations(&folder.path().join("none"), &model).is_err());
    }
}
