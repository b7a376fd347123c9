//! Rows of tensors in any order to one safetensors file, the same bytes whatever the order.
//!
//! The layout is known only when the last row has come, so rows wait in a file beside the output. In memory is one number
//! for each.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{BufWriter, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use arrow::compute::cast;
use arrow_array::{Array, ArrayRef, BinaryArray, RecordBatch, cast::AsArray, types::Int64Type};
use arrow_schema::DataType;

use super::shards::{HeadEntry, head};
use crate::{
    compute::encode_as,
    io::{
        Dtype, IoError, Tensor,
        dtype::{dtype_of, float_of},
        safetensors::Entry,
    },
    types::{
        Encoding, Float,
        weights::{CHANNEL, DATA, DTYPE, NAME, SHAPE, WEIGHTS, shape_type, weights_type},
    },
};

/// A safetensors file in the making.
#[derive(Debug)]
pub struct SafetensorsGatherer {
    path: PathBuf,
    spool: Spool,
    tensors: BTreeMap<String, Gathered>,
    rows: u64,
}

/// Removed when it is dropped.
#[derive(Debug)]
struct Spool {
    path: PathBuf,
    file: BufWriter<File>,
    bytes: u64,
}

impl Drop for Spool {
    fn drop(&mut self) {
        // Nothing depends on it any more.
        let _ = fs::remove_file(&self.path);
    }
}

#[derive(Debug)]
struct Gathered {
    dtype: Dtype,
    shape: Option<Vec<usize>>,
    row_bytes: usize,
    /// Channel, and where the row begins in the spool.
    rows: Vec<(i64, u64)>,
}

/// What a row is stored as, where that is known, and the float that its weights are encoded as, where it has weights.
type StoredAs = (Option<Dtype>, Option<Float>);

/// The columns of a batch, of the types that they are read as.
struct Columns {
    names: ArrayRef,
    channels: ArrayRef,
    dtypes: Option<ArrayRef>,
    shapes: Option<ArrayRef>,
    weights: Option<ArrayRef>,
    data: Option<ArrayRef>,
}

impl SafetensorsGatherer {
    /// Begins the file `path`.
    ///
    /// # Errors
    /// It cannot be created.
    pub fn create(path: &Path) -> Result<Self, IoError> {
        let spool = beside(path, ".rows.tmp");
        let file = File::options().read(true).write(true).create(true).truncate(true).open(&spool);
        let file = BufWriter::with_capacity(1 << 20, file.map_err(IoError::system("create", &spool))?);
        let spool = Spool { path: spool, file, bytes: 0 };
        Ok(Self { path: path.to_owned(), spool, tensors: BTreeMap::new(), rows: 0 })
    }

    /// Adds rows: columns `name` and `channel`, `weights` or `data` or both, and where they are known `dtype` and `shape`.
    ///
    /// `weights`, where they are not null, are stored as `dtype` says if that is F16, BF16, F32 or F64, else as F32; otherwise
    /// `data` is stored as it is, of that `dtype`. Without `shape` a tensor has as many rows as came.
    ///
    /// # Errors
    /// A column is missing or of another type, a name or channel is null, a row has neither weights nor data, a weight is
    /// beyond its dtype, or rows of one tensor differ in dtype, shape or length.
    pub fn add(&mut self, batch: &RecordBatch) -> Result<(), IoError> {
        let columns = Columns::of(batch).map_err(|problem| IoError::file(&self.path, problem))?;
        let dtypes = columns.stored(batch.num_rows()).map_err(|problem| IoError::file(&self.path, problem))?;
        let encodings: Vec<_> = dtypes.iter().map(|(_, float)| float.map(Encoding::Float)).collect();
        let encoded = match &columns.weights {
            Some(weights) if !encodings.is_empty() => {
                Some(encode_as(weights, &encodings).map_err(IoError::compute(&self.path, batch))?)
            }
            _ => None,
        };
        let encoded = encoded.as_ref().map(AsArray::as_binary::<i32>);
        let data: Option<&BinaryArray> = columns.data.as_ref().map(AsArray::as_binary);
        let (names, channels) = (columns.names.as_string_view(), columns.channels.as_primitive::<Int64Type>());
        for (row, (dtype, _)) in dtypes.iter().enumerate() {
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
            let dtype = dtype.ok_or_else(|| refuse("has data, and no dtype that says of what"))?;
            let new = || Gathered { dtype, shape: shape.clone(), row_bytes: bytes.len(), rows: Vec::new() };
            let tensor = self.tensors.entry(name.to_owned()).or_insert_with(new);
            if (tensor.dtype, &tensor.shape, tensor.row_bytes) != (dtype, &shape, bytes.len()) {
                return Err(refuse("has another dtype, shape or length than other rows of its tensor"));
            }
            tensor.rows.push((channel, self.spool.bytes));
            self.spool.file.write_all(&bytes).map_err(IoError::system("write", &self.spool.path))?;
            self.spool.bytes += bytes.len() as u64;
            self.rows += 1;
        }
        Ok(())
    }

    /// Puts every row in its place, and gives the file its name. Gives the number of rows.
    ///
    /// # Errors
    /// A row of a tensor is missing or there twice, a shape does not fit its rows, or a file cannot be read or written.
    pub fn finish(mut self) -> Result<u64, IoError> {
        let mut entries = Vec::with_capacity(self.tensors.len());
        for (name, tensor) in &mut self.tensors {
            let shape = tensor.complete().map_err(|problem| IoError::tensor(&self.path, name, problem))?;
            let bytes = tensor.row_bytes * tensor.rows.len();
            entries.push(HeadEntry { name, dtype: tensor.dtype, shape, bytes });
        }
        let (head, starts) = head(&entries).map_err(|problem| IoError::file(&self.path, problem))?;
        let mut order: Vec<usize> = (0..entries.len()).collect();
        order.sort_by_key(|at| (starts[*at], entries[*at].bytes));
        let names: Vec<String> = entries.iter().map(|entry| entry.name.to_owned()).collect();
        let temporary = beside(&self.path, ".tmp");
        let file = File::create(&temporary).map_err(IoError::system("create", &temporary))?;
        let mut out = BufWriter::with_capacity(1 << 20, file);
        out.write_all(&head).map_err(IoError::system("write", &temporary))?;
        self.spool.file.flush().map_err(IoError::system("write", &self.spool.path))?;
        let spool = self.spool.file.get_mut();
        let (mut bytes, mut at) = (Vec::new(), u64::MAX);
        for number in order {
            let tensor = &self.tensors[&names[number]];
            bytes.resize(tensor.row_bytes, 0);
            for (_, start) in &tensor.rows {
                if at != *start {
                    spool.seek(SeekFrom::Start(*start)).map_err(IoError::system("read", &self.spool.path))?;
                }
                spool.read_exact(&mut bytes).map_err(IoError::system("read", &self.spool.path))?;
                at = start + bytes.len() as u64;
                out.write_all(&bytes).map_err(IoError::system("write", &temporary))?;
            }
        }
        let file = out.into_inner().map_err(|error| IoError::system("write", &temporary)(error.into_error()))?;
        file.sync_all().map_err(IoError::system("write", &temporary))?;
        fs::rename(&temporary, &self.path).map_err(IoError::system("rename into place", &self.path))?;
        Ok(self.rows)
    }
}

impl Gathered {
    /// The shape, when every row is there once.
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
        let length = self.row_bytes * 8 / self.dtype.bits();
        let shape = self.shape.clone().unwrap_or_else(|| vec![rows, length]);
        let elements = shape.iter().try_fold(1usize, |product, size| product.checked_mul(*size));
        if elements.and_then(|elements| elements.checked_mul(self.dtype.bits())) != Some(rows * self.row_bytes * 8) {
            return Err(format!(
                "the shape {shape:?} of {} is not that of {rows} rows of {} bytes",
                self.dtype, self.row_bytes
            ));
        }
        let entry = Entry { name: String::new(), dtype: self.dtype, shape: shape.clone(), range: 0..0 };
        let expected = Tensor::new(entry, 0).rows;
        if self.shape.is_some() && expected != rows {
            return Err(format!("the shape {shape:?} has {expected} rows, and {rows} came"));
        }
        Ok(shape)
    }
}

impl Columns {
    fn of(batch: &RecordBatch) -> Result<Self, String> {
        let column = |name: &str, to: DataType| {
            let Some(column) = batch.column_by_name(name) else { return Ok(None) };
            let cast = cast(column, &to);
            cast.map(Some).map_err(|_| format!("the column {name} is {}; {to} is expected", column.data_type()))
        };
        let needed = |name: &str, to| column(name, to)?.ok_or_else(|| format!("the query gives no column {name}"));
        let columns = Self {
            names: needed(NAME, DataType::Utf8View)?,
            channels: needed(CHANNEL, DataType::Int64)?,
            dtypes: column(DTYPE, DataType::Utf8View)?,
            shapes: column(SHAPE, shape_type())?,
            weights: column(WEIGHTS, weights_type())?,
            data: column(DATA, DataType::Binary)?,
        };
        if columns.weights.is_none() && columns.data.is_none() {
            return Err("the query gives neither a column weights nor a column data".to_owned());
        }
        Ok(columns)
    }

    fn stored(&self, rows: usize) -> Result<Vec<StoredAs>, String> {
        let dtypes = self.dtypes.as_ref().map(AsArray::as_string_view);
        let one = |row: usize| {
            let named = dtypes.filter(|dtypes| dtypes.is_valid(row)).map(|dtypes| dtypes.value(row));
            if self.weights.as_ref().is_some_and(|weights| weights.is_valid(row)) {
                let dtype = named.and_then(|name| name.parse::<Dtype>().ok());
                let float = dtype.filter(|dtype| !dtype.is_fp8()).and_then(float_of).unwrap_or(Float::F32);
                return Ok((Some(dtype_of(float)), Some(float)));
            }
            Ok((named.map(str::parse).transpose()?, None))
        };
        (0..rows).map(one).collect()
    }

    fn shape(&self, row: usize) -> Result<Option<Vec<usize>>, String> {
        let Some(shapes) = self.shapes.as_ref().filter(|shapes| shapes.is_valid(row)) else { return Ok(None) };
        let shape = shapes.as_list::<i32>().value(row);
        let sizes = shape.as_primitive::<Int64Type>().iter();
        let sizes: Option<Vec<usize>> = sizes.map(|size| usize::try_from(size?).ok()).collect();
        sizes.map(Some).ok_or_else(|| "has a shape with a size that is null or negative".to_owned())
    }
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}
