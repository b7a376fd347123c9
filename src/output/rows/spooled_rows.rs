//! Rows of tensors in any order to one safetensors or GGUF file, the same bytes whatever the order.
//!
//! The layout is known only when the last row has come, so rows wait in a file without a name. In memory is one number for
//! each.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, BufWriter, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use arrow_array::{Array, BinaryArray, RecordBatch, cast::AsArray, types::Int64Type};

use super::spooled_columns::Columns;
pub use super::spooled_columns::Container;
use crate::{
    compute::encode_as,
    model::tensor::Tensor,
    storage::{
        atomic_file::{AtomicFile, folder_of},
        dtype::Dtype,
        error::IoError,
        gguf::{
            header::Element,
            writer::{NewEntry, check, lay_out, pairs_of},
        },
        safetensors::{
            header::Entry,
            writer::{HeadEntry, head},
        },
    },
};

/// A file in the making.
#[derive(Debug)]
pub struct RowGatherer {
    container: Container,
    path: PathBuf,
    spool: Spool,
    tensors: BTreeMap<String, Gathered>,
    rows: u64,
}

/// The rows that wait, in a file in the folder of the output. It has no name, so that nothing is left of it.
#[derive(Debug)]
struct Spool {
    file: BufWriter<File>,
    bytes: u64,
}

#[derive(Debug)]
struct Gathered {
    element: Element,
    shape: Option<Vec<usize>>,
    row_bytes: usize,
    /// Channel, and where the row begins in the spool.
    rows: Vec<(i64, u64)>,
}

impl RowGatherer {
    /// Begins the file `path`.
    ///
    /// # Errors
    /// Returns an error if it is a folder, or cannot be created.
    pub fn create(path: &Path, container: Container) -> Result<Self, IoError> {
        if path.is_dir() {
            return Err(IoError::file(path, "is a folder; rows are written to a file"));
        }
        let file = tempfile::tempfile_in(folder_of(path)).map_err(IoError::system("create a file beside", path))?;
        let spool = Spool { file: BufWriter::with_capacity(1 << 20, file), bytes: 0 };
        Ok(Self { container, path: path.to_owned(), spool, tensors: BTreeMap::new(), rows: 0 })
    }

    /// Adds rows: columns `name` and `channel`, `weights` or `data` or both, and where they are known `dtype` and `shape`.
    ///
    /// Weights are stored as `dtype` says if that is F16, BF16, F32, F64 or, in GGUF, a type of blocks. They are stored as F32
    /// if it is null or another type that a weights table has. Where `weights` is null, `data` is stored unchanged, of that
    /// `dtype`. Without `shape` a tensor has as many rows as came.
    ///
    /// # Errors
    /// Returns an error if a column is missing or of another type, a name or channel is null, a row has neither weights
    /// nor data, a dtype is unknown, a weight is beyond its dtype, or rows of one tensor differ in dtype, shape or
    /// length.
    pub fn add(&mut self, batch: &RecordBatch) -> Result<(), IoError> {
        let columns = Columns::of(batch).map_err(|problem| IoError::file(&self.path, problem))?;
        let dtypes =
            columns.stored(&self.container, batch.num_rows()).map_err(|problem| IoError::file(&self.path, problem))?;
        let encodings: Vec<_> = dtypes.iter().map(|(_, encoding)| *encoding).collect();
        let encoded = match &columns.weights {
            Some(weights) if !encodings.is_empty() => {
                let place = columns.place().map_err(IoError::arrow(&self.path))?;
                Some(encode_as(weights, &encodings).map_err(IoError::compute(&self.path, &place))?)
            }
            _ => None,
        };
        let encoded = encoded.as_ref().map(AsArray::as_binary::<i32>);
        let data: Option<&BinaryArray> = columns.data.as_ref().map(AsArray::as_binary);
        let (names, channels) = (columns.names.as_string_view(), columns.channels.as_primitive::<Int64Type>());
        for (row, (element, _)) in dtypes.iter().enumerate() {
            if names.is_null(row) || channels.is_null(row) {
                return Err(IoError::file(&self.path, "a row has no name or no channel"));
            }
            let (name, channel) = (names.value(row), channels.value(row));
            let refuse = |problem: &str| IoError::tensor(&self.path, name, format!("row {channel} {problem}"));
            let of = |array: Option<&'_ BinaryArray>| {
                array.filter(|array| array.is_valid(row)).map(|array| array.value(row).to_vec())
            };
            let bytes = of(encoded).or_else(|| of(data)).ok_or_else(|| refuse("has neither weights nor data"))?;
            let shape = columns.shape(row).map_err(|problem| refuse(&problem))?;
            let element = element.ok_or_else(|| refuse("has data, and no dtype that says of what"))?;
            let new = || Gathered { element, shape: shape.clone(), row_bytes: bytes.len(), rows: Vec::new() };
            let tensor = self.tensors.entry(name.to_owned()).or_insert_with(new);
            if (tensor.element, &tensor.shape, tensor.row_bytes) != (element, &shape, bytes.len()) {
                return Err(refuse("has another dtype, shape or length than other rows of its tensor"));
            }
            tensor.rows.push((channel, self.spool.bytes));
            self.spool.file.write_all(&bytes).map_err(IoError::system("write", &self.path))?;
            self.spool.bytes += bytes.len() as u64;
            self.rows += 1;
        }
        Ok(())
    }

    /// Puts every row in its place and renames the file into place, over what is there. Returns the number of rows.
    ///
    /// # Errors
    /// Returns an error if a tensor has a name that the container reserves, a row of a tensor is missing or there
    /// twice, a shape does not fit its rows, or a file cannot be read or written.
    pub fn finish(mut self) -> Result<u64, IoError> {
        let mut shapes = Vec::with_capacity(self.tensors.len());
        for (name, tensor) in &mut self.tensors {
            let shape = tensor.complete().map_err(|problem| IoError::tensor(&self.path, name, problem))?;
            shapes.push(shape);
        }
        let (head, starts, length) = self.layout(shapes)?;
        let mut order: Vec<usize> = (0..starts.len()).collect();
        let tensors: Vec<&Gathered> = self.tensors.values().collect();
        order.sort_by_key(|at| (starts[*at], tensors[*at].rows.len() * tensors[*at].row_bytes));
        let mut out = BufWriter::with_capacity(1 << 20, AtomicFile::create(&self.path)?);
        let write = || {
            out.write_all(&head)?;
            self.spool.file.flush()?;
            let spool = self.spool.file.get_mut();
            let (mut bytes, mut at, mut written) = (Vec::new(), u64::MAX, head.len());
            for number in order {
                let tensor = tensors[number];
                pad(&mut out, &mut written, starts[number])?;
                bytes.resize(tensor.row_bytes, 0);
                for (_, start) in &tensor.rows {
                    if at != *start {
                        spool.seek(SeekFrom::Start(*start))?;
                    }
                    spool.read_exact(&mut bytes)?;
                    at = start + bytes.len() as u64;
                    out.write_all(&bytes)?;
                }
                written += tensor.row_bytes * tensor.rows.len();
            }
            pad(&mut out, &mut written, length)
        };
        write().map_err(IoError::system("write", &self.path))?;
        let out = out.into_inner().map_err(|error| IoError::system("write", &self.path)(error.into_error()))?;
        out.commit()?;
        Ok(self.rows)
    }

    /// Returns the header, where each tensor begins, and the length of the file; tensors are in the order of their names.
    fn layout(&self, shapes: Vec<Vec<usize>>) -> Result<(Vec<u8>, Vec<usize>, usize), IoError> {
        let tensors = self.tensors.iter().zip(shapes);
        match &self.container {
            Container::Safetensors => {
                let entry = |((name, tensor), shape): ((&'_ String, &Gathered), Vec<usize>)| {
                    let bytes = tensor.row_bytes * tensor.rows.len();
                    match tensor.element {
                        Element::Plain(dtype) => Ok((name.clone(), dtype, shape, bytes)),
                        Element::Block(block) => {
                            let problem = format!("is {block}, which safetensors do not have");
                            Err(IoError::tensor(&self.path, name, problem))
                        }
                    }
                };
                let entries = tensors.map(entry).collect::<Result<Vec<_>, _>>()?;
                let entries: Vec<HeadEntry> = entries
                    .iter()
                    .map(|(name, dtype, shape, bytes)| HeadEntry {
                        name,
                        dtype: *dtype,
                        shape: shape.clone(),
                        bytes: *bytes,
                    })
                    .collect();
                let (head, starts) = head(&entries, &[]).map_err(|problem| IoError::file(&self.path, problem))?;
                let length = head.len() + entries.iter().map(|entry| entry.bytes).sum::<usize>();
                Ok((head, starts, length))
            }
            Container::Gguf { architecture } => {
                let mut entries = Vec::with_capacity(self.tensors.len());
                for ((name, tensor), shape) in tensors {
                    check(name, tensor.element, shape.len())
                        .map_err(|problem| IoError::tensor(&self.path, name, problem))?;
                    entries.push(NewEntry { name: name.clone(), element: tensor.element, shape });
                }
                let pairs = pairs_of(architecture.as_deref(), &entries);
                let file = lay_out(&pairs, &entries).map_err(|name| {
                    IoError::tensor(&self.path, &name, "has a type or a shape that GGUF does not have")
                })?;
                Ok((file.head, file.starts, file.bytes))
            }
        }
    }
}

/// Fills up with zeros from `written` to `to`.
fn pad(out: &mut impl Write, written: &mut usize, to: usize) -> io::Result<()> {
    out.write_all(&vec![0; to - *written])?;
    *written = to;
    Ok(())
}

impl Gathered {
    /// Returns the shape, when every row is there once.
    fn complete(&mut self) -> Result<Vec<usize>, String> {
        self.rows.sort_unstable();
        for (expected, (channel, _)) in (0..).zip(&self.rows) {
            if *channel != expected {
                let problem = if *channel < expected {
                    format!("row {channel} is there twice")
                } else {
                    format!("row {expected} is missing")
                };
                return Err(problem);
            }
        }
        let rows = self.rows.len();
        let (unit, unit_bits) = match self.element {
            Element::Plain(dtype) => (1, dtype.bits()),
            Element::Block(block) => (block.weights(), 8 * block.bytes()),
        };
        let length = self.row_bytes * 8 / unit_bits * unit;
        let shape = self.shape.clone().unwrap_or_else(|| vec![rows, length]);
        let elements = shape.iter().try_fold(1usize, |product, size| product.checked_mul(*size));
        let bits = elements.and_then(|elements| (elements / unit).checked_mul(unit_bits));
        if bits != Some(rows * self.row_bytes * 8) || shape.last().is_some_and(|last| !last.is_multiple_of(unit)) {
            return Err(format!(
                "the shape {shape:?} of {} is not that of {rows} rows of {} bytes",
                self.element.name(),
                self.row_bytes
            ));
        }
        let dtype = match self.element {
            Element::Plain(dtype) => dtype,
            Element::Block(_) => Dtype::F32,
        };
        let entry = Entry { name: String::new(), dtype, shape: shape.clone(), range: 0..0 };
        let expected = Tensor::new(entry, 0).rows;
        if self.shape.is_some() && expected != rows {
            return Err(format!("the shape {shape:?} has {expected} rows, and {rows} came"));
        }
        Ok(shape)
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, sync::Arc};

    use arrow_array::{ArrayRef, Int64Array, ListArray, StringArray, StringViewArray, types::Float32Type};

    use super::*;
    use crate::types::weights::{CHANNEL, DATA, DTYPE, NAME, WEIGHTS};

    /// Returns one row, longer than what is buffered.
    fn row(name: &str, value: i32) -> RecordBatch {
        let names: ArrayRef = Arc::new(StringViewArray::from(vec![name]));
        let dtypes: ArrayRef = Arc::new(StringViewArray::from(vec!["I32"]));
        let channels: ArrayRef = Arc::new(Int64Array::from(vec![0]));
        let data: ArrayRef = Arc::new(BinaryArray::from(vec![&value.to_le_bytes().repeat(1 << 19)[..]]));
        RecordBatch::try_from_iter([(NAME, names), (CHANNEL, channels), (DTYPE, dtypes), (DATA, data)]).unwrap()
    }

    fn value(path: &Path) -> i32 {
        let bytes = fs::read(path).unwrap();
        let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let (values, _) = tensors.tensor("a").unwrap().data().as_chunks();
        assert!(values.iter().all(|value| *value == values[0]));
        i32::from_le_bytes(values[0])
    }

    #[test]
    fn two_gatherers_of_one_path_share_nothing_and_the_last_one_wins() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("x.safetensors");
        let gatherer = || RowGatherer::create(&path, Container::Safetensors).unwrap();
        let (mut first, mut second) = (gatherer(), gatherer());
        first.add(&row("a", 1)).unwrap();
        second.add(&row("a", 2)).unwrap();
        assert_eq!(second.finish().unwrap(), 1);
        assert_eq!(value(&path), 2);
        assert_eq!(first.finish().unwrap(), 1);
        assert_eq!(value(&path), 1);
    }

    #[test]
    fn rows_that_wait_have_no_name() {
        let place = tempfile::tempdir().unwrap();
        let mut gatherer = RowGatherer::create(&place.path().join("x.safetensors"), Container::Safetensors).unwrap();
        gatherer.add(&row("a", 1)).unwrap();
        let names = || fs::read_dir(place.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect::<Vec<_>>();
        assert!(names().is_empty(), "{:?}", names());
        drop(gatherer);
        assert!(names().is_empty(), "{:?}", names());
    }

    #[test]
    fn a_weight_beyond_its_dtype_is_named() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("x.safetensors");
        // As a query that computes them gives names and channels.
        let names: ArrayRef = Arc::new(StringArray::from(vec!["a", "b"]));
        let dtypes: ArrayRef = Arc::new(StringArray::from(vec!["F16", "F16"]));
        let channels: ArrayRef = Arc::new(arrow_array::Int32Array::from(vec![0, 7]));
        let rows = [vec![Some(1.0), Some(2.0)], vec![Some(1.0), Some(65520.0)]].map(Some);
        let weights: ArrayRef = Arc::new(ListArray::from_iter_primitive::<Float32Type, _, _>(rows));
        let batch =
            RecordBatch::try_from_iter([(NAME, names), (CHANNEL, channels), (DTYPE, dtypes), (WEIGHTS, weights)]);
        let mut gatherer = RowGatherer::create(&path, Container::Safetensors).unwrap();
        let message = gatherer.add(&batch.unwrap()).unwrap_err().to_string();
        let expected = "tensor 'b', row 7: element 1 is 65520, which is beyond what F16 holds";
        assert_eq!(message, format!("{}: {expected}", path.display()));
    }

    #[test]
    fn the_name_that_safetensors_reserve_is_refused() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("x.safetensors");
        let mut gatherer = RowGatherer::create(&path, Container::Safetensors).unwrap();
        gatherer.add(&row("__metadata__", 1)).unwrap();
        let message = gatherer.finish().unwrap_err().to_string();
        let expected = "tensor '__metadata__': safetensors reserve this name; rename the tensor";
        assert_eq!(message, format!("{}: {expected}", path.display()));
        assert!(!path.exists());
        let path = place.path().join("x.gguf");
        let mut gatherer = RowGatherer::create(&path, Container::Gguf { architecture: None }).unwrap();
        gatherer.add(&row("__metadata__", 1)).unwrap();
        gatherer.finish().unwrap();
    }
}
