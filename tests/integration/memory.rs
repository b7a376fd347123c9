//! The memory limit of SQL: a query over a model of ten times the limit spills, or ends in one line.

use std::{
    fs::{self, File},
    io::Read,
    process::{Command, Stdio},
    sync::OnceLock,
    time::Duration,
};

use arrow_quant::sql::Session;
use safetensors::Dtype;

use crate::{
    cli::{PROGRAM, Place},
    model::write,
};

const LIMIT: u64 = 8_000_000;

/// The memory that a query takes beside its rows: batches in the making, more of them where a writer waits for a busy processor, and
/// the allocator's reserve.
const STREAMING: u64 = 48_000_000;

/// A model of 20 matrices of f32, 80 MB; no two rows are alike.
fn model() -> &'static Place {
    static MODEL: OnceLock<Place> = OnceLock::new();
    MODEL.get_or_init(|| {
        let place = Place::new();
        let mut state = 1u32;
        let mut between_one_and_two = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (0x3F80_0000 | state >> 9).to_le_bytes()
        };
        let matrices: Vec<Vec<u8>> =
            (0..20).map(|_| (0..1000 * 1000).flat_map(|_| between_one_and_two()).collect()).collect();
        let names: Vec<String> = (0..20).map(|number| format!("layers.{number}.w.weight")).collect();
        let tensors: Vec<_> =
            names.iter().zip(matrices).map(|(name, m)| (name.as_str(), Dtype::F32, vec![1000, 1000], m)).collect();
        write(&place.path("model.safetensors"), &tensors);
        place
    })
}

struct Finished {
    code: Option<i32>,
    stdout: String,
    stderr: String,
    /// The peak of its resident memory, as often as it was asked for.
    peak: u64,
}

/// Runs statements over the model, which is called `a` and `b`.
fn sql(statements: &str) -> Finished {
    let path = model().text("model.safetensors");
    let (limit, [a, b]) = (LIMIT.to_string(), ["a", "b"].map(|name| format!("{name}={path}")));
    let mut child = Command::new(PROGRAM)
        .args(["sql", "--threads", "2", "--memory-limit", &limit, "--table", &a, "--table", &b, "--max-rows", "3"])
        .arg(statements)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    let code = loop {
        let text = fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        peak = peak.max(kilobytes.unwrap_or(0) * 1024);
        match child.try_wait().unwrap() {
            Some(status) => break status.code(),
            None => std::thread::sleep(Duration::from_millis(2)),
        }
    };
    let (mut stdout, mut stderr) = (String::new(), String::new());
    child.stdout.unwrap().read_to_string(&mut stdout).unwrap();
    child.stderr.unwrap().read_to_string(&mut stderr).unwrap();
    Finished { code, stdout, stderr, peak }
}

/// Runs statements, checks that they end well or in one line, and that they take no more memory than the limit says.
#[track_caller]
fn bounded(statements: &str) -> Finished {
    static IDLE: OnceLock<u64> = OnceLock::new();
    let idle = *IDLE.get_or_init(|| sql("SELECT count(*) FROM a").peak);
    let finished = sql(statements);
    let Finished { code, stderr, peak, .. } = &finished;
    match code {
        Some(0) => assert!(stderr.is_empty(), "{statements}: {stderr}"),
        Some(1) => assert!(
            stderr.starts_with("error: the query ran out of memory: ") && stderr.lines().count() == 1,
            "{statements}: {stderr}"
        ),
        code => panic!("{statements}: {code:?}, {stderr}"),
    }
    assert!(*peak < idle + LIMIT + STREAMING, "{statements}: {peak} bytes, {idle} for an idle query; {stderr}");
    finished
}

#[test]
fn rows_are_sorted_with_temporary_files() {
    for order in ["weights", "channel DESC, name", "sqnr(weights, quantize(weights, 2))"] {
        let finished = bounded(&format!("SELECT name, channel, weights FROM a ORDER BY {order}"));
        assert!(finished.stdout.contains("the first 3 rows"), "{order}: {}", finished.stderr);
    }
}

#[test]
fn rows_are_grouped_with_temporary_files() {
    let finished = bounded("SELECT sum(n), count(*) FROM (SELECT weights, count(*) AS n FROM a GROUP BY weights)");
    assert!(finished.stdout.contains("| 20000  | 20000    |"), "{}{}", finished.stdout, finished.stderr);
}

#[test]
fn what_cannot_be_spilled_ends_in_one_line() {
    for (query, holder) in [
        ("SELECT array_agg(weights) FROM a", "AggregateStream"),
        ("SELECT name, array_agg(weights) FROM a GROUP BY name", ""),
        ("SELECT name, hessian(weights) FROM a GROUP BY name", "hessian needs more"),
        ("SELECT * FROM a, b", "CrossJoinExec needs more"),
        ("SELECT count(*) FROM a JOIN b ON a.name = b.name WHERE sqnr(a.weights, b.weights) > 1", "HashJoinInput"),
        (
            "SELECT count(v), count(w) FROM (SELECT a.weights AS v, b.weights AS w FROM a JOIN b USING (name, channel))",
            "BroadcastJoinExec needs more",
        ),
        ("SELECT name, weights, count(*) OVER () FROM a", "Window needs more"),
        ("SELECT max(w) FROM (SELECT lag(weights, 20000) OVER (ORDER BY name, channel) AS w FROM a)", ""),
        ("CREATE TABLE t AS SELECT * FROM a", "CreateTable needs more"),
        ("CREATE TABLE t AS SELECT * FROM a LIMIT 1; INSERT INTO t SELECT * FROM a", "Insert needs more"),
    ] {
        let finished = bounded(query);
        assert_eq!(finished.code, Some(1), "{query}: {}", finished.stdout);
        assert!(finished.stderr.contains(holder) && finished.stderr.contains("--memory-limit"), "{}", finished.stderr);
    }
}

#[test]
fn a_table_that_is_dropped_gives_its_memory_back() {
    let one = "CREATE TABLE t AS SELECT weights FROM a WHERE layer = 3; SELECT count(weights) FROM t; DROP TABLE t;";
    let replaced = "CREATE OR REPLACE TABLE u AS SELECT weights FROM a WHERE layer = 4;";
    let finished = bounded(&format!("{}{replaced}", one.repeat(5)));
    assert_eq!(finished.code, Some(0), "{}", finished.stderr);
    assert_eq!(finished.stdout.matches("1000").count(), 5, "{}", finished.stdout);
}

#[test]
fn models_are_copied_to_parquet_row_group_by_row_group() {
    let file = model().text("copied.parquet");
    let finished = bounded(&format!("COPY (SELECT name, channel, weights FROM a) TO '{file}' STORED AS PARQUET"));
    assert_eq!(finished.code, Some(0), "{}", finished.stderr);
    let copied = parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(File::open(&file).unwrap());
    assert!(copied.unwrap().metadata().num_row_groups() > 1, "{file}");
}

#[tokio::test]
async fn create_table_means_what_it_did() {
    let session = Session::with_memory_limit(2, 64 << 20).unwrap();
    let run = async |statement: &str| -> Result<usize, String> {
        let frame = session.sql(statement).await.map_err(|error| error.to_string())?;
        let batches = frame.collect().await.map_err(|error| error.to_string())?;
        Ok(batches.iter().map(arrow::array::RecordBatch::num_rows).sum())
    };
    run("CREATE TABLE t (x INT, y TEXT DEFAULT 'none') AS VALUES (1, 'a'), (2, NULL), (3, 'c')").await.unwrap();
    assert_eq!(run("SELECT * FROM t WHERE y IS NOT NULL").await, Ok(2));
    assert!(run("CREATE TABLE t AS SELECT 1 AS x").await.unwrap_err().contains("already exists"));
    run("CREATE TABLE IF NOT EXISTS t AS SELECT 1 AS x").await.unwrap();
    assert_eq!(run("SELECT * FROM t").await, Ok(3));
    run("INSERT INTO t (x) VALUES (4)").await.unwrap();
    assert_eq!(run("SELECT * FROM t WHERE y = 'none'").await, Ok(1));
    run("CREATE OR REPLACE TABLE t AS SELECT x + 1 AS x FROM t").await.unwrap();
    assert_eq!(run("SELECT * FROM t WHERE x = 5").await, Ok(1));
    // What fails leaves the table that is there.
    run("CREATE OR REPLACE TABLE t AS SELECT sqnr([x], [1.0, 2.0]) AS x FROM t").await.unwrap_err();
    assert_eq!(run("SELECT * FROM t WHERE x = 5").await, Ok(1));
    assert!(run("CREATE TABLE u AS SELECT x, x FROM t").await.is_err());
    run("CREATE TABLE empty (x INT)").await.unwrap();
    run("INSERT INTO empty VALUES (1)").await.unwrap();
    assert_eq!(run("SELECT * FROM empty").await, Ok(1));
}
