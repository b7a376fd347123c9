//! The report: what each tensor lost and what it takes, added up over parts.

pub mod peak_memory;
pub mod summary;

use std::{collections::HashMap, path::Path, sync::Arc};

use arrow_array::{
    Array, ArrayRef, Float64Array, Int64Array, RecordBatch, StringViewArray, cast::AsArray, types::Float64Type,
};

use crate::{
    model::{Model, labels::shapes, tensor::Tensor},
    plan::selection::Choice,
    storage::{
        error::IoError,
        folder::{manifest::REPORT, tensor_report::TensorReport},
        parquet_table::write_table,
    },
    types::{
        ErrorSums, QuantizeOptions,
        report::{SQNR_DB, report_schema},
        weights::NAME,
    },
};

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
    let all = All::new(model, choices, reports, seconds);
    let All { tensors, choices, reports, seconds } = &all;
    let options = |number: fn(&QuantizeOptions) -> i64, of_type: fn((i64, i64)) -> i64| -> ArrayRef {
        let one = |choice: &Choice| choice.width_of_type().map(of_type).or_else(|| choice.options.as_ref().map(number));
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
                Arc::new(shapes(tensors.iter().map(|tensor| (*tensor, 1)))?),
                Arc::new(StringViewArray::from_iter_values(tensors.iter().map(|tensor| tensor.dtype_name()))),
                options(|options| i64::from(options.bits.get()), |(bits, _)| bits),
                options(|options| i64::from(options.group_size()), |(_, group_size)| group_size),
                Arc::new(per_weight.collect::<Float64Array>()),
                measure(ErrorSums::sqnr),
                measure(ErrorSums::cosine_similarity),
                measure(ErrorSums::mse),
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

/// The tensors of a model, and then those that were dropped from it.
struct All<'a> {
    tensors: Vec<&'a Tensor>,
    choices: Vec<Choice>,
    reports: Vec<TensorReport>,
    seconds: Vec<Option<f64>>,
}

impl<'a> All<'a> {
    fn new(model: &'a Model, choices: &[Choice], reports: &[TensorReport], seconds: &[Option<f64>]) -> Self {
        let dropped = || model.dropped().iter();
        let choice = |note: &String| Choice { note: note.clone(), ..Choice::default() };
        let report = |tensor: &Tensor| TensorReport {
            name: tensor.name.clone(),
            rows: 0,
            bytes_out: 0,
            errors: None,
            content: String::new(),
        };
        Self {
            tensors: model.tensors().iter().chain(dropped().map(|(tensor, _)| tensor)).collect(),
            choices: choices.iter().cloned().chain(dropped().map(|(_, note)| choice(note))).collect(),
            reports: reports.iter().cloned().chain(dropped().map(|(tensor, _)| report(tensor))).collect(),
            seconds: seconds.iter().copied().chain(dropped().map(|_| None)).collect(),
        }
    }
}

fn bits_per_weight(elements: usize, bytes: u64) -> Option<f64> {
    (elements > 0).then(|| bytes as f64 * 8.0 / elements as f64)
}

/// The figures of a whole model.
#[derive(Debug, Clone, PartialEq)]
pub struct Totals {
    /// All tensors.
    pub tensors: usize,
    /// The quantized tensors.
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

/// The SQNR in dB below which little is left of a tensor: half of its power is noise.
pub const LITTLE_LEFT_DB: f64 = 3.0;

/// Says in the notes which tensors have an SQNR below [`LITTLE_LEFT_DB`].
pub fn note_little_left(choices: &mut [Choice], reports: &[TensorReport]) {
    for (choice, report) in choices.iter_mut().zip(reports) {
        let Some(db) = report.errors.map(|errors| errors.sqnr()).filter(|db| *db < LITTLE_LEFT_DB) else {
            continue;
        };
        let note = format!("little is left of it: {db:.2} dB SQNR");
        choice.note = if choice.note.is_empty() { note } else { format!("{}; {note}", choice.note) };
    }
}

/// The dB below other tensors of the same width from which on a tensor stands out.
pub const FAR_BELOW_DB: f64 = 6.0;

/// The tensors of one width that are enough to say what is usual.
const NEIGHBOURS: usize = 3;

/// A tensor that lost far more than others of the same width.
#[derive(Debug, Clone, PartialEq)]
pub struct FarBelow {
    /// Its name.
    pub name: String,
    /// Its SQNR in dB.
    pub db: f64,
    /// The median SQNR of the others, in dB.
    pub usual: f64,
}

/// Finds the tensors with an SQNR more than [`FAR_BELOW_DB`] below the median of the others of their width, and says so in
/// their notes. The least comes first.
pub fn note_far_below(choices: &mut [Choice], reports: &[TensorReport]) -> Vec<FarBelow> {
    let sqnr = |report: &TensorReport| report.errors.map(|errors| errors.sqnr());
    let width = |choice: &Choice| match choice.entropy {
        // Where all have one step, tensors of small weights lose more by design.
        Some(entropy) => entropy.step.is_none().then_some(((entropy.bits * 1000.0) as i64, 0)),
        None => choice
            .width_of_type()
            .or_else(|| choice.options.map(|options| (i64::from(options.bits.get()), i64::from(options.group_size())))),
    };
    let mut by_width: HashMap<(i64, i64), Vec<f64>> = HashMap::new();
    for (choice, report) in choices.iter().zip(reports) {
        if let (Some(width), Some(db)) = (width(choice), sqnr(report)) {
            by_width.entry(width).or_default().push(db);
        }
    }
    for all in by_width.values_mut() {
        all.sort_by(f64::total_cmp);
    }
    let mut found = Vec::new();
    for (choice, report) in choices.iter_mut().zip(reports) {
        let (Some(width), Some(db)) = (width(choice), sqnr(report)) else { continue };
        let all = &by_width[&width];
        // The others: a tensor that is far below is in the lower half.
        let usual = all[all.len() / 2];
        if all.len() <= NEIGHBOURS || db >= usual - FAR_BELOW_DB {
            continue;
        }
        let note = format!("{db:.2} dB SQNR, where others of its width have {usual:.2}");
        choice.note = if choice.note.is_empty() { note } else { format!("{}; {note}", choice.note) };
        found.push(FarBelow { name: report.name.clone(), db, usual });
    }
    found.sort_by(|a, b| a.db.total_cmp(&b.db));
    found
}

/// The tensors of a report with an SQNR below [`LITTLE_LEFT_DB`], with it in dB, the least first.
pub fn little_left(report: &RecordBatch) -> Vec<(&str, f64)> {
    let (Some(names), Some(sqnr)) = (report.column_by_name(NAME), report.column_by_name(SQNR_DB)) else {
        return Vec::new();
    };
    let (names, sqnr) = (names.as_string_view(), sqnr.as_primitive::<Float64Type>());
    let measured = (0..report.num_rows()).filter(|row| sqnr.is_valid(*row));
    let mut found: Vec<_> = measured.map(|row| (names.value(row), sqnr.value(row))).collect();
    found.retain(|(_, db)| *db < LITTLE_LEFT_DB);
    found.sort_by(|a, b| a.1.total_cmp(&b.1));
    found
}

/// Writes the report to a folder.
///
/// # Errors
/// It cannot be written.
pub fn write_report(folder: &Path, report: &RecordBatch) -> Result<(), IoError> {
    write_table(folder, REPORT, report)
}

#[cfg(test)]
mod tests {
    use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

    use super::*;
    use crate::{
        plan::{selection::Selection, spec::Spec},
        storage::dtype::Dtype,
        testing::models::write,
        types::Bits,
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
        let choices = Selection(&Spec::default()).choose(&model).unwrap();
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
    fn tensors_of_which_little_is_left_are_noted_and_found() {
        let (model, _folder) = model();
        let mut choices = Selection(&Spec::default()).choose(&model).unwrap();
        let reports = [
            report("a.weight", 2, 16, Some(9.0)),
            report("b.weight", 2, 16, Some(10.0)),
            report("norm.weight", 1, 16, None),
        ];
        note_little_left(&mut choices, &reports);
        assert!(choices[0].note.ends_with("little is left of it: 0.46 dB SQNR"), "{}", choices[0].note);
        let batch = report_batch(&model, &choices, &reports, &[None, None, None]).unwrap();
        let found = little_left(&batch);
        assert_eq!(found.iter().map(|(name, _)| *name).collect::<Vec<_>>(), ["b.weight", "a.weight"]);
        let good = [report("a.weight", 2, 16, Some(0.1)), report("b.weight", 2, 16, Some(4.9)), reports[2].clone()];
        assert!(little_left(&report_batch(&model, &choices, &good, &[None, None, None]).unwrap()).is_empty());
    }

    #[test]
    fn a_tensor_that_lost_far_more_than_others_of_its_width_is_noted() {
        let choice = |bits| Choice { options: Some(QuantizeOptions::new(bits)), ..Choice::default() };
        let mut choices = vec![choice(Bits::Four); 5];
        choices.extend([choice(Bits::Two), choice(Bits::Eight), choice(Bits::Eight)]);
        let errors = [0.1, 0.11, 0.5, 0.09, 0.3, 5.0, 0.001, 1.0];
        let reports: Vec<_> =
            errors.iter().enumerate().map(|(at, err2)| report(&format!("{at}"), 1, 1, Some(*err2))).collect();
        let found = note_far_below(&mut choices, &reports);
        // 10 log10(10 / 0.5) = 13.01 and the median is that of 0.11; 0.3 is 4.4 dB below.
        assert_eq!(found.iter().map(|one| one.name.as_str()).collect::<Vec<_>>(), ["2"]);
        assert!((found[0].db - 13.01).abs() < 0.01 && (found[0].usual - 19.59).abs() < 0.01, "{found:?}");
        assert_eq!(choices[2].note, "13.01 dB SQNR, where others of its width have 19.59");
        assert!(choices.iter().enumerate().all(|(at, choice)| at == 2 || choice.note.is_empty()));
    }

    #[test]
    fn rows_that_are_missing_from_the_parts_are_an_error() {
        let (model, _folder) = model();
        let parts = [report("a.weight", 1, 8, None)];
        let message = merge(&model, &parts).unwrap_err().to_string();
        assert!(message.ends_with("tensor 'a.weight': the parts hold 1 of its 2 rows"), "{message}");
    }
}
