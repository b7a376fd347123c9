//! The report: what each tensor lost and what it takes, added up over parts.

use std::{collections::HashMap, ops::Range, path::Path, sync::Arc};

use arrow_array::{
    Array, ArrayRef, Float64Array, Int64Array, RecordBatch, StringViewArray,
    cast::AsArray,
    types::{Float64Type, Int64Type},
};
use parquet::{arrow::ArrowWriter, file::properties::WriterProperties};
use serde::{Deserialize, Serialize};

use crate::{
    io::{Choice, IoError, Model, Tensor, model::shapes},
    kernels::error_stats::ErrorStats,
    types::{
        Block, QuantizeOptions,
        error_stats::{A2, B2, DOT, ERR2, MAX_ABS, N},
        report::report_schema,
    },
};

/// The name of the report in an output folder.
pub const REPORT: &str = "report.parquet";

/// Sums over the weights of a tensor, `a` the original and `b` what its quantized form decodes to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ErrorSums {
    /// The sum of `a * b`.
    pub dot: f64,
    /// The sum of `a^2`.
    pub a2: f64,
    /// The sum of `b^2`.
    pub b2: f64,
    /// The sum of `(a - b)^2`.
    pub err2: f64,
    /// The largest `|a - b|`.
    pub max_abs: f64,
    /// The number of weights.
    pub n: u64,
}

impl From<ErrorStats> for ErrorSums {
    fn from(ErrorStats { dot, a2, b2, err2, max_abs, n }: ErrorStats) -> Self {
        Self { dot, a2, b2, err2, max_abs, n }
    }
}

impl From<ErrorSums> for ErrorStats {
    fn from(ErrorSums { dot, a2, b2, err2, max_abs, n }: ErrorSums) -> Self {
        Self { dot, a2, b2, err2, max_abs, n }
    }
}

impl ErrorSums {
    /// The sums of both together.
    #[must_use]
    pub fn merge(self, other: Self) -> Self {
        ErrorStats::from(self).merge(other.into()).into()
    }

    /// The sums and those of some rows of an array of `error_stats`, one after the other.
    ///
    /// # Errors
    /// It is no such array.
    pub fn add_rows(self, errors: &dyn Array, rows: Range<usize>) -> Result<Self, String> {
        let errors = errors.as_struct_opt().ok_or("the errors are no structs")?;
        let column = |name: &str| errors.column_by_name(name).ok_or_else(|| format!("the errors have no field {name}"));
        let field = |name: &str| {
            let values = column(name)?.as_primitive_opt::<Float64Type>();
            values.map(|values| values.values().as_ref()).ok_or_else(|| format!("the field {name} is no Float64"))
        };
        let fields: [&[f64]; 5] = [field(DOT)?, field(A2)?, field(B2)?, field(ERR2)?, field(MAX_ABS)?];
        let n = column(N)?.as_primitive_opt::<Int64Type>().ok_or("the field n is no Int64")?.values();
        Ok(rows.fold(self, |sum, row| {
            let [dot, a2, b2, err2, max_abs] = fields.map(|values| values[row]);
            sum.merge(Self { dot, a2, b2, err2, max_abs, n: n[row] as u64 })
        }))
    }

    /// Whether every bit is the same.
    pub fn is_same(&self, other: &Self) -> bool {
        let bits = |sums: &Self| [sums.dot, sums.a2, sums.b2, sums.err2, sums.max_abs].map(f64::to_bits);
        bits(self) == bits(other) && self.n == other.n
    }

    /// The measures of the sums: see [`ErrorStats`].
    pub fn stats(&self) -> ErrorStats {
        (*self).into()
    }
}

/// What a part, or all parts together, say of one tensor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TensorReport {
    /// Its name.
    pub name: String,
    /// Its rows.
    pub rows: u64,
    /// The bytes that they take.
    pub bytes_out: u64,
    /// What they lost; none where they are carried.
    pub errors: Option<ErrorSums>,
    /// The digest of what they hold, in a part of its own file.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub content: String,
}

impl TensorReport {
    pub(super) fn new(name: String, bytes: usize) -> Self {
        Self { name, rows: 1, bytes_out: bytes as u64, errors: None, content: String::new() }
    }

    /// Rows that take no bytes yet.
    pub(super) fn empty(name: String, rows: usize) -> Self {
        Self { name, rows: rows as u64, bytes_out: 0, errors: None, content: String::new() }
    }

    pub(super) fn add(&mut self, bytes: usize) {
        self.rows += 1;
        self.bytes_out += bytes as u64;
    }
}

/// Adds up the reports of all parts, given in the order of the parts, into one for each tensor of the model in its order.
///
/// # Errors
/// A tensor's rows are not all there.
pub fn merge<'a>(
    model: &Model,
    parts: impl IntoIterator<Item = &'a TensorReport>,
) -> Result<Vec<TensorReport>, IoError> {
    let mut merged: HashMap<&str, TensorReport> = HashMap::new();
    for report in parts {
        if let Some(sum) = merged.get_mut(report.name.as_str()) {
            sum.rows = sum.rows.saturating_add(report.rows);
            sum.bytes_out = sum.bytes_out.saturating_add(report.bytes_out);
            sum.errors = match (sum.errors, report.errors) {
                (Some(a), Some(b)) => Some(a.merge(b)),
                (a, b) => a.or(b),
            };
        } else {
            // The digest is that of the rows of one part.
            merged.insert(&report.name, TensorReport { content: String::new(), ..report.clone() });
        }
    }
    let one = |tensor: &Tensor| {
        let report = merged.remove(tensor.name.as_str());
        let rows = report.as_ref().map_or(0, |report| report.rows);
        report.filter(|_| rows == tensor.rows as u64).ok_or_else(|| {
            let problem = format!("the parts hold {rows} of its {} rows", tensor.rows);
            IoError::tensor(&model.file_of(tensor).path, &tensor.name, problem)
        })
    };
    model.tensors().iter().map(one).collect()
}

/// The report: one row per tensor of the model. `seconds` gives the time spent on each tensor where it is known.
///
/// # Errors
/// There is not one choice and one report for each tensor.
pub fn report_batch(
    model: &Model,
    choices: &[Choice],
    reports: &[TensorReport],
    seconds: &[Option<f64>],
) -> Result<RecordBatch, IoError> {
    let tensors = model.tensors();
    let options = |number: fn(&QuantizeOptions) -> i64, of_block: fn(Block) -> i64| -> ArrayRef {
        let one = |choice: &Choice| choice.block.map(of_block).or_else(|| choice.options.as_ref().map(number));
        Arc::new(choices.iter().map(one).collect::<Int64Array>())
    };
    let measure = |measure: fn(&ErrorSums) -> f64| -> ArrayRef {
        Arc::new(reports.iter().map(|report| report.errors.as_ref().map(measure)).collect::<Float64Array>())
    };
    let per_weight =
        tensors.iter().zip(reports).map(|(tensor, report)| bits_per_weight(tensor.elements(), report.bytes_out));
    let bytes = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
    let notes = choices.iter().map(|choice| Some(choice.note.as_str()).filter(|note| !note.is_empty()));
    let batch = || {
        RecordBatch::try_new(
            report_schema(),
            vec![
                Arc::new(StringViewArray::from_iter_values(tensors.iter().map(|tensor| tensor.name.as_str()))),
                Arc::new(shapes(tensors.iter().map(|tensor| (tensor, 1)))?),
                Arc::new(StringViewArray::from_iter_values(tensors.iter().map(Tensor::dtype_name))),
                options(|options| i64::from(options.bits.get()), |block| i64::from(block.bits())),
                options(|options| i64::from(options.group_size()), |block| i64::from(block.group_size())),
                Arc::new(per_weight.collect::<Float64Array>()),
                measure(|sums| sums.stats().sqnr()),
                measure(|sums| sums.stats().cosine_similarity()),
                measure(|sums| sums.stats().mse()),
                measure(|sums| sums.max_abs),
                Arc::new(Int64Array::from_iter_values(tensors.iter().map(|tensor| bytes(tensor.bytes() as u64)))),
                Arc::new(Int64Array::from_iter_values(reports.iter().map(|report| bytes(report.bytes_out)))),
                Arc::new(seconds.iter().copied().collect::<Float64Array>()),
                Arc::new(notes.collect::<StringViewArray>()),
            ],
        )
    };
    batch().map_err(IoError::arrow(model.folder()))
}

fn bits_per_weight(elements: usize, bytes: u64) -> Option<f64> {
    (elements > 0).then(|| bytes as f64 * 8.0 / elements as f64)
}

/// The figures of a whole model.
#[derive(Debug, Clone, PartialEq)]
pub struct Totals {
    /// All tensors.
    pub tensors: usize,
    /// Those that are quantized.
    pub quantized_tensors: usize,
    /// The weights of the quantized tensors.
    pub weights: u64,
    /// The bits that a quantized weight takes, all included; none without quantized weights.
    pub bits_per_weight: Option<f64>,
    /// The error sums of all quantized weights; none where nothing was measured.
    pub errors: Option<ErrorSums>,
    /// The bytes of all tensors in the source.
    pub bytes_in: u64,
    /// The bytes that all tensors take in the output.
    pub bytes_out: u64,
}

/// Adds up a model's reports.
pub fn totals(model: &Model, choices: &[Choice], reports: &[TensorReport]) -> Totals {
    let quantized = || {
        let all = model.tensors().iter().zip(choices).zip(reports);
        all.filter(|((_, choice), _)| choice.options.is_some()).map(|((tensor, _), report)| (tensor, report))
    };
    let weights: usize = quantized().map(|(tensor, _)| tensor.elements()).sum();
    let stored = quantized().map(|(_, report)| report.bytes_out).sum();
    Totals {
        tensors: model.tensors().len(),
        quantized_tensors: quantized().count(),
        weights: weights as u64,
        bits_per_weight: bits_per_weight(weights, stored),
        errors: quantized().filter_map(|(_, report)| report.errors).reduce(ErrorSums::merge),
        bytes_in: model.total_bytes(),
        bytes_out: reports.iter().map(|report| report.bytes_out).sum(),
    }
}

/// Writes the report to a folder.
///
/// # Errors
/// It cannot be written.
pub fn write_report(folder: &Path, report: &RecordBatch) -> Result<(), IoError> {
    write_table(folder, REPORT, report)
}

/// Writes a small table to a folder, as Parquet.
///
/// # Errors
/// It cannot be written.
pub fn write_table(folder: &Path, name: &str, table: &RecordBatch) -> Result<(), IoError> {
    let path = folder.join(name);
    let properties = WriterProperties::builder()
        .set_created_by(concat!("arrow-quant ", env!("CARGO_PKG_VERSION")).to_owned())
        .build();
    let mut bytes = Vec::new();
    let write = || {
        let mut writer = ArrowWriter::try_new(&mut bytes, table.schema(), Some(properties))?;
        writer.write(table)?;
        writer.close()
    };
    write().map_err(IoError::parquet(&path))?;
    super::write_renamed(&path, &bytes)
}

#[cfg(test)]
mod tests {
    use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

    use super::*;
    use crate::{
        io::{Dtype, Rules, model::tests::write},
        types::{Bits, QuantizeOptions},
    };

    fn model() -> (Model, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        let tensors: &[(&str, Dtype, &[usize], &[u8])] = &[
            ("a.weight", Dtype::F32, &[2, 4], &[0; 32]),
            ("b.weight", Dtype::F32, &[2, 4], &[0; 32]),
            ("norm.weight", Dtype::F32, &[4], &[0; 16]),
        ];
        write(&path, tensors);
        (Model::open(&path).unwrap(), folder)
    }

    fn report(name: &str, rows: u64, bytes_out: u64, err2: Option<f64>) -> TensorReport {
        let errors = err2.map(|err2| ErrorSums { dot: 8.0, a2: 10.0, b2: 10.0, err2, max_abs: err2, n: 4 * rows });
        TensorReport { name: name.into(), rows, bytes_out, errors, content: "x".to_owned() }
    }

    #[test]
    fn parts_add_up_to_tensors_and_tensors_to_totals() {
        let (model, folder) = model();
        let choices = Rules::new(QuantizeOptions::new(Bits::Four), None).choose(&model).unwrap();
        let parts = [
            report("a.weight", 1, 8, Some(0.5)),
            report("a.weight", 1, 8, Some(1.5)),
            report("b.weight", 2, 16, Some(0.0)),
            report("norm.weight", 1, 16, None),
        ];
        let reports = merge(&model, &parts).unwrap();
        let totals = totals(&model, &choices, &reports);
        assert_eq!((totals.tensors, totals.quantized_tensors, totals.weights), (3, 2, 16));
        assert_eq!((totals.bits_per_weight, totals.bytes_in, totals.bytes_out), (Some(16.0), 80, 48));
        let errors = totals.errors.unwrap();
        assert_eq!((errors.err2, errors.max_abs, errors.n, errors.a2), (2.0, 1.5, 16, 30.0));

        let batch = report_batch(&model, &choices, &reports, &[Some(1.0), None, None]).unwrap();
        write_report(folder.path(), &batch).unwrap();
        let file = std::fs::File::open(folder.path().join(REPORT)).unwrap();
        let read = ParquetRecordBatchReaderBuilder::try_new(file).unwrap().build().unwrap().next().unwrap().unwrap();
        assert_eq!(read, batch);
        let sqnr = batch.column(6).as_primitive::<Float64Type>();
        assert_eq!((sqnr.value(0), sqnr.value(1), sqnr.is_null(2)), (10.0, f64::INFINITY, true));
    }

    #[test]
    fn rows_that_are_missing_from_the_parts_are_an_error() {
        let (model, _folder) = model();
        let parts = [report("a.weight", 1, 8, None)];
        let message = merge(&model, &parts).unwrap_err().to_string();
        assert!(message.ends_with("tensor 'a.weight': the parts hold 1 of its 2 rows"), "{message}");
    }

    #[test]
    fn error_sums_read_back_as_written() {
        for value in [0.1, 1.0 / 3.0, 1e-310, f64::MAX, 5e-324, 123_456_789.123_456_78] {
            let sums =
                ErrorSums { dot: -value, a2: value, b2: value * 0.7, err2: value / 3.0, max_abs: value, n: u64::MAX };
            let json = serde_json::to_string(&sums).unwrap();
            assert_eq!(serde_json::from_str::<ErrorSums>(&json).unwrap(), sums, "{json}");
        }
    }
}
