//! The last node of a run's plan: it writes each partition of its input as a part.

use std::{
    fmt,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use arrow_array::{
    Array, ArrayRef, Float64Array, Int64Array, RecordBatch, StringViewArray,
    cast::AsArray,
    types::{Float64Type, Int64Type},
};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use datafusion::{
    common::{
        DataFusionError, Result, Statistics, internal_datafusion_err, internal_err, tree_node::TreeNodeRecursion,
    },
    execution::{SendableRecordBatchStream, TaskContext},
    physical_expr::EquivalenceProperties,
    physical_plan::{
        DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PhysicalExpr, PlanProperties,
        execution_plan::{Boundedness, ChildrenPropertiesMode, EmissionType, ReplaceChildrenOptions},
        statistics::StatisticsArgs,
        stream::RecordBatchStreamAdapter,
    },
};
use futures::{StreamExt, stream::once};

use super::part_statistics::PartStatistics;
use crate::{
    output::{destination::Destination, pending_part::WrittenPart},
    sql::pass_exec::one_input,
    storage::folder::tensor_report::TensorReport,
    types::{
        ErrorSums,
        error_stats::{A2, B2, DOT, ERR2, MAX_ABS, N},
        weights::NAME,
    },
};

/// Writes each partition of its input as the part of that number, and gives one row for each tensor of it: see
/// [`written_schema`]. The part is whole, but has no name and may not be on the disk yet: a task that runs twice writes the
/// same bytes to the same place.
#[derive(Debug)]
pub struct WritePartsExec {
    input: Arc<dyn ExecutionPlan>,
    format: String,
    /// `None` means that the plan is only explained.
    destination: Option<Destination>,
    /// The rows that were written of each part so far.
    rows: Arc<[AtomicUsize]>,
    properties: Arc<PlanProperties>,
}

impl WritePartsExec {
    /// Returns the node over a plan with one partition for each part. `format` is the name of what is written.
    pub fn new(input: Arc<dyn ExecutionPlan>, format: String, destination: Option<Destination>) -> Self {
        let parts = input.properties().partitioning.partition_count();
        let properties = PlanProperties::new(
            EquivalenceProperties::new(written_schema()),
            Partitioning::UnknownPartitioning(parts),
            EmissionType::Final,
            Boundedness::Bounded,
        );
        let rows = (0..parts).map(|_| AtomicUsize::new(0)).collect();
        Self { input, format, destination, rows, properties: Arc::new(properties) }
    }

    /// Returns how many rows of a part were written so far.
    pub fn rows_written(&self, part: usize) -> usize {
        self.rows[part].load(Ordering::Relaxed)
    }
}

impl DisplayAs for WritePartsExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "WritePartsExec: format={}, parts={}", self.format, self.rows.len())
    }
}

impl ExecutionPlan for WritePartsExec {
    one_input!(|node, input| Self::new(input, node.format.clone(), node.destination.clone()));

    fn name(&self) -> &'static str {
        "WritePartsExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn execute(&self, part: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let Some(destination) = self.destination.clone() else {
            return internal_err!("the plan was made to be explained: it has no folder to write to");
        };
        let (rows, mut input) = (Arc::clone(&self.rows), self.input.execute(part, context)?);
        let written = once(async move {
            let mut writer = destination.begin(part).map_err(external)?;
            let mut statistics = PartStatistics::default();
            loop {
                let started = Instant::now();
                let Some(batch) = input.next().await else { break };
                let batch = batch?;
                writer.write(&batch).map_err(external)?;
                statistics.add(&batch, started.elapsed().as_secs_f64())?;
                rows[part].fetch_add(batch.num_rows(), Ordering::Relaxed);
                // So that whoever waits can look how far it is, and stop it.
                tokio::task::yield_now().await;
            }
            let written = writer.finish(&statistics.errors).map_err(external)?;
            written_batch(&written, |name| statistics.seconds.get(name).copied())
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(written_schema(), written)))
    }

    fn statistics_from_inputs(&self, _: &[Arc<Statistics>], _: &StatisticsArgs) -> Result<Arc<Statistics>> {
        Ok(Arc::new(Statistics::new_unknown(&written_schema())))
    }
}

fn external(error: crate::storage::error::IoError) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}

const PART_BYTES: &str = "part_bytes";
const PART_DIGEST: &str = "part_digest";
const ROWS: &str = "rows";
const BYTES: &str = "bytes";
const CONTENT: &str = "content";
const SECONDS: &str = "seconds";
const SUMS: [&str; 5] = [DOT, A2, B2, ERR2, MAX_ABS];

/// Returns the schema of what is said of a written part: for each tensor, in the order of its rows, `part_bytes` and
/// `part_digest` of the file of the part (0 and empty where its rows are in files with others), `name`, `rows`, `bytes`, the
/// error sums and `n` (null where it is copied), `content` (the digest of what its rows hold) and `seconds`.
pub fn written_schema() -> SchemaRef {
    static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
        let number = |name: &str| Field::new(name, DataType::Int64, true);
        let text = |name: &str| Field::new(name, DataType::Utf8View, false);
        let mut fields = vec![number(PART_BYTES), text(PART_DIGEST), text(NAME), number(ROWS), number(BYTES)];
        fields.extend(SUMS.map(|name| Field::new(name, DataType::Float64, true)));
        fields.extend([number(N), text(CONTENT), Field::new(SECONDS, DataType::Float64, true)]);
        Arc::new(Schema::new(fields))
    });
    Arc::clone(&SCHEMA)
}

fn written_batch(written: &WrittenPart, seconds: impl Fn(&str) -> Option<f64>) -> Result<RecordBatch> {
    let reports = || written.reports.iter();
    let number = |value: fn(&TensorReport) -> u64| -> ArrayRef {
        Arc::new(Int64Array::from_iter_values(reports().map(|report| value(report) as i64)))
    };
    let text = |value: fn(&TensorReport) -> &String| -> ArrayRef {
        Arc::new(StringViewArray::from_iter_values(reports().map(value)))
    };
    let sum = |value: fn(&ErrorSums) -> f64| -> ArrayRef {
        Arc::new(reports().map(|report| report.errors.as_ref().map(value)).collect::<Float64Array>())
    };
    let weights = reports().map(|report| report.errors.map(|errors| errors.n as i64));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(reports().map(|_| written.bytes as i64))),
        Arc::new(StringViewArray::from_iter_values(reports().map(|_| &written.digest))),
        text(|report| &report.name),
        number(|report| report.rows),
        number(|report| report.bytes_out),
        sum(|errors| errors.dot),
        sum(|errors| errors.a2),
        sum(|errors| errors.b2),
        sum(|errors| errors.err2),
        sum(|errors| errors.max_abs),
        Arc::new(weights.collect::<Int64Array>()),
        text(|report| &report.content),
        Arc::new(reports().map(|report| seconds(&report.name)).collect::<Float64Array>()),
    ];
    Ok(RecordBatch::try_new(written_schema(), columns)?)
}

/// Reads what [`WritePartsExec`] gives for a part, and the seconds that each tensor took.
///
/// # Errors
/// Returns an error if the batch has not the columns of [`written_schema`], or no row.
pub fn written_part(batch: &RecordBatch) -> Result<(WrittenPart, Vec<(String, f64)>)> {
    if batch.schema() != written_schema() || batch.num_rows() == 0 {
        return Err(internal_datafusion_err!(
            "a part was written and gave {} rows of {}",
            batch.num_rows(),
            batch.schema()
        ));
    }
    let number = |column: usize, row: usize| batch.column(column).as_primitive::<Int64Type>().value(row) as u64;
    let text = |column: usize, row: usize| batch.column(column).as_string_view().value(row).to_owned();
    let float = |column: usize, row: usize| batch.column(column).as_primitive::<Float64Type>().value(row);
    let report = |row: usize| TensorReport {
        name: text(2, row),
        rows: number(3, row),
        bytes_out: number(4, row),
        errors: batch.column(5).is_valid(row).then(|| ErrorSums {
            dot: float(5, row),
            a2: float(6, row),
            b2: float(7, row),
            err2: float(8, row),
            max_abs: float(9, row),
            n: number(10, row),
        }),
        content: text(11, row),
    };
    let reports: Vec<_> = (0..batch.num_rows()).map(report).collect();
    let timed = (0..batch.num_rows()).filter(|row| batch.column(12).is_valid(*row));
    let seconds = timed.map(|row| (text(2, row), float(12, row))).collect();
    let (bytes, digest) = (number(0, 0), text(1, 0));
    Ok((WrittenPart { bytes, digest, source: String::new(), checked: false, reports }, seconds))
}
