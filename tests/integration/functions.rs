//! Properties that hold for every function of the list.

use std::sync::Arc;

use arrow::util::{
    display::{ArrayFormatter, FormatOptions},
    pretty::pretty_format_batches,
};
use arrow_quant::sql::{Session, reference};
use datafusion::catalog::MemTable;

async fn result(session: &Session, query: &str) -> Result<String, String> {
    let frame = session.sql(query).await.map_err(|error| error.to_string())?;
    let batches = frame.collect().await.map_err(|error| error.to_string())?;
    Ok(pretty_format_batches(&batches).unwrap().to_string())
}

#[tokio::test]
async fn every_example_of_the_documentation_runs_and_gives_a_value() {
    let session = Session::new(2).unwrap();
    for entry in reference::entries().unwrap().iter().filter(|entry| entry.section != "Table functions") {
        let table = result(&session, &entry.example).await.unwrap_or_else(|error| panic!("{}: {error}", entry.name));
        let value = table.lines().nth(3).unwrap().trim_matches(['|', ' ']);
        assert!(!value.is_empty() && value != "NULL", "{}:\n{table}", entry.name);
    }
}

/// Literals of every kind that SQL can write, most of them wrong for most arguments.
const LITERALS: [&str; 17] = [
    "NULL",
    "1",
    "-9223372036854775808",
    "4",
    "0.5",
    "'search'",
    "''",
    "true",
    "[]",
    "[NULL]",
    "[1.0, 2.0]",
    "[1, 2, 3]",
    "['a']",
    "quantize([1.0, -2.0, 3.0], 4)",
    "quant_params([1.0, -2.0, 3.0], 4)",
    "named_struct('bits', 4)",
    "hessian_factor([2.0, 1.0, 0.0, 2.0, 1.0, 2.0])",
];

/// The positions of the literals for every way to give a function `count` arguments.
fn choices(count: usize) -> Vec<Vec<usize>> {
    // The first two arguments take every literal, the third a few: enough to reach every check.
    let third = [0, 1, 3, 5, 13, 14];
    let mut lists = vec![Vec::new()];
    for i in 0..count {
        let positions: Vec<usize> = if i < 2 { (0..LITERALS.len()).collect() } else { third.to_vec() };
        lists = lists.iter().flat_map(|list| positions.iter().map(|at| [list.as_slice(), &[*at]].concat())).collect();
    }
    lists
}

async fn values(session: &Session, query: &str) -> Option<Vec<String>> {
    let batches = session.sql(query).await.ok()?.collect().await.ok()?;
    let options = FormatOptions::new();
    let mut values = Vec::new();
    for batch in &batches {
        let column = ArrayFormatter::try_new(batch.column(0), &options).unwrap();
        values.extend((0..batch.num_rows()).map(|row| column.value(row).to_string()));
    }
    Some(values)
}

#[tokio::test]
async fn a_constant_gives_what_a_column_gives_and_nothing_panics() {
    let session = Session::new(1).unwrap();
    let columns: Vec<_> = LITERALS.iter().enumerate().map(|(i, literal)| format!("{literal} AS c{i}")).collect();
    let rows = session.sql(&format!("SELECT {} FROM range(3)", columns.join(", "))).await.unwrap();
    let rows = rows.collect().await.unwrap();
    let table = MemTable::try_new(rows[0].schema(), vec![rows]).unwrap();
    session.context().register_table("literals", Arc::new(table)).unwrap();

    let mut equal = 0;
    for entry in reference::entries().unwrap().iter().filter(|entry| entry.section == "Scalar functions") {
        for list in (0..=entry.arguments.len().min(3)).flat_map(choices) {
            let constants: Vec<_> = list.iter().map(|at| LITERALS[*at].to_string()).collect();
            let columns: Vec<_> = list.iter().map(|at| format!("c{at}")).collect();
            let constant = values(&session, &format!("SELECT {}({})", entry.name, constants.join(", "))).await;
            let column =
                values(&session, &format!("SELECT {}({}) FROM literals", entry.name, columns.join(", "))).await;
            let call = format!("{}({})", entry.name, constants.join(", "));
            if let Some(constant) = constant {
                assert_eq!(Some(vec![constant[0].clone(); 3]), column, "{call}");
                equal += 1;
            } else {
                // A constant out of bounds is refused before a null beside it is seen; a column is read row by row.
                assert!(column.is_none_or(|rows| rows.iter().all(String::is_empty)), "{call}");
            }
        }
    }
    assert!(equal > 100, "only {equal} calls: the literals do not fit the functions");
}

#[tokio::test]
async fn a_null_argument_gives_null() {
    let session = Session::new(1).unwrap();
    for call in [
        "quantize(NULL, 4)",
        "quantize([1.0], NULL)",
        "dequantize(NULL)",
        "quant_params(NULL, 4)",
        "quantize_with([1.0], 4, NULL)",
        "scales(NULL)",
        "zero_points(NULL)",
        "codes(NULL)",
        "cosine_similarity([1.0], NULL)",
        "sqnr(NULL, [1.0])",
        "mse(NULL, NULL)",
        "error_stats([1.0], NULL)",
        "equalize([1.0], NULL)",
        "equalize([1.0], [1.0], NULL, [1.0])",
        "equalization_factors([1.0], [1.0], NULL)",
        "log_equalization_factors(NULL)",
        "weight_equalization_factors(NULL)",
        "time_group(NULL, [1.0])",
        "activation_params(0, 1, NULL)",
        "channel_absmax(NULL)",
        "time_edges(NULL, 0, 1, 2)",
        "hessian(NULL)",
        "hessian_factor(NULL)",
        "gptq(NULL, hessian_factor([1.0]), 4)",
        "gptq([1.0], NULL, 4)",
        "gptq([1.0], hessian_factor([1.0]), NULL)",
    ] {
        let table = result(&session, &format!("SELECT {call} IS NULL AS value")).await;
        let table = table.unwrap_or_else(|error| panic!("{call}: {error}"));
        assert!(table.contains("| true  |"), "{call}:\n{table}");
    }
}

#[tokio::test]
async fn what_is_null_or_skipped_by_name_is_as_if_left_out() {
    let session = Session::new(1).unwrap();
    let row = "[0.3, -0.7, 1.1, 0.2]";
    let factor = "hessian_factor([2.0, 1.0, 0.5, 0.0, 2.0, 1.0, 0.5, 2.0, 1.0, 2.0])";
    for (call, expected) in [
        (format!("quantize({row}, 4, NULL, NULL, NULL, NULL)"), format!("quantize({row}, 4)")),
        (format!("quantize({row}, 8, NULL, NULL, true)"), format!("quantize({row}, 8, 32, 'minmax', true)")),
        (format!("quantize({row}, 4, symmetric => true)"), format!("quantize({row}, 4, 32, 'search', true)")),
        (
            format!("QUANTIZE(bits => 4, weights => {row}, METHOD => 'minmax')"),
            format!("quantize({row}, 4, 32, 'minmax')"),
        ),
        (format!("quantize({row}, 2.5, method => 'entropy')"), format!("quantize({row}, 2.5, 32, 'entropy')")),
        (
            format!("quant_params({row}, 4, importance => [1.0, 2.0, 3.0, 4.0])"),
            format!("quant_params({row}, 4, 32, 'search', false, [1.0, 2.0, 3.0, 4.0])"),
        ),
        (format!("equalize({row}, {row}, offsets => {row})"), format!("equalize({row}, {row}, 0, [1.0], {row})")),
        (format!("equalize({row}, {row}, 0, [2.0], NULL)"), format!("equalize({row}, {row}, 0, [2.0])")),
        (format!("gptq({row}, {factor}, 4, NULL)"), format!("gptq({row}, {factor}, 4)")),
        ("hessian_factor([2.0], NULL)".to_owned(), "hessian_factor([2.0])".to_owned()),
        ("activation_params(0.0, 1.0, 8, NULL)".to_owned(), "activation_params(0.0, 1.0, 8)".to_owned()),
        (
            format!("sqnr({row}, quantize({row}, 4, symmetric => true))"),
            format!("sqnr({row}, quantize({row}, 4, 32, 'search', true))"),
        ),
    ] {
        let one = async |call: &str| {
            let table = result(&session, &format!("SELECT {call} AS value")).await;
            table.unwrap_or_else(|error| panic!("{call}: {error}"))
        };
        let (found, expected) = (one(&call).await, one(&expected).await);
        assert_eq!(found, expected, "{call}");
        assert!(!found.contains("|       |"), "{call}: {found}");
    }
    // In the rows of a table, in a query within a query, and explained.
    let query = "SELECT count(*) AS n FROM (SELECT quantize(w, bits, symmetric => s) AS q FROM (VALUES
                 ([1.0], 4, true), ([1.0], 8, NULL), ([1.0], NULL, false)) AS rows(w, bits, s)) WHERE q IS NOT NULL";
    assert!(result(&session, query).await.unwrap().contains("| 2 |"));
    assert!(result(&session, &format!("EXPLAIN {query}")).await.is_ok());
    // What must be given is still asked for.
    let error = session.sql("SELECT quantize([1.0], group_size => 32)").await.map(drop).unwrap_err().to_string();
    assert!(error.contains("bits"), "{error}");
}

#[tokio::test]
async fn a_wrong_constant_is_refused_when_the_query_is_planned() {
    let session = Session::new(1).unwrap();
    for (call, message) in [
        ("quantize([1.0], 5)", "bits must be 2, 3, 4 or 8, not 5"),
        ("quantize([1.0], 4, 0)", "group_size must be 1 to 4294967295, not 0"),
        ("quantize([1.0], 2.5)", "bits must be 2, 3, 4 or 8 unless the method is 'entropy', not 2.5"),
        ("quantize([1.0], 4, 32, 'hqq')", "method must be 'search', 'minmax' or 'entropy', not 'hqq'"),
        ("quantize_step([1.0], 0.0)", "step must be above 0, not 0"),
        ("quantize('x', 4)", "weights must be a list of numbers, not Utf8"),
        ("quantize([1.0], 'four')", "bits must be a number: 2, 3, 4 or 8"),
        ("quantize([1.0])", "quantize takes 2 to 6 arguments"),
        ("quantize([1.0], bits => 4, size => 8)", "Unknown parameter name 'size'"),
        ("dequantize([1.0])", "quantized must be a quantized value, as quantize gives it"),
        ("activation_params(0, 1, 9)", "bits of activations must be 2 to 8, not 9"),
        ("time_group(1, 2)", "edges must be a list of numbers, not Int64"),
        ("equalization_factors([1.0], [1.0], 2.0)", "alpha must be 0 to 1, not 2"),
        ("hessian_factor([1.0], 0.0)", "damping must be above 0, not 0"),
        ("hessian_factor('x')", "hessian must be a list of numbers, not Utf8"),
        ("gptq([1.0], [1.0], 4)", "hessian_factor must be a factor, as hessian_factor gives it"),
    ] {
        let error = session.sql(&format!("SELECT {call}")).await.map(drop).unwrap_err().to_string();
        assert!(error.contains(message), "{call}: {error}");
    }
}
