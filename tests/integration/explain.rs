//! What the plans must look like: filters, columns and limits in the scan; no sort and no exchange of weights.

use arrow::util::pretty::pretty_format_batches;
use arrow_quant::sql::Session;

use crate::model::small;

/// The physical plan of `query` over a model called `layers`, without the path of the file.
async fn plan(query: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    small(&path);
    let session = Session::new(2).unwrap();
    session.register_model("layers", &path).unwrap();
    let explain = session.sql(&format!("EXPLAIN FORMAT INDENT {query}")).await.unwrap().collect().await.unwrap();
    let text = pretty_format_batches(&explain).unwrap().to_string();
    let physical = text.split("physical_plan").nth(1).unwrap();
    let lines = physical.lines().map(|line| line.trim_matches(['|', ' ', '+', '-'])).filter(|line| !line.is_empty());
    lines.collect::<Vec<_>>().join("\n")
}

#[tokio::test]
async fn columns_filters_on_tensors_and_limits_are_in_the_scan() {
    insta::assert_snapshot!(plan("SELECT name, channel FROM layers WHERE layer = 1 AND name LIKE '%q_proj%'").await);
    insta::assert_snapshot!(plan("SELECT quantize(weights, 4) FROM layers LIMIT 3").await);
}

#[tokio::test]
async fn a_query_that_needs_no_weights_reads_none() {
    for query in [
        "SELECT count(*) FROM layers",
        "SELECT name, count(*) FROM layers GROUP BY name",
        "SELECT DISTINCT layer, dtype FROM layers WHERE module = 'mlp.up_proj'",
    ] {
        let plan = plan(query).await;
        assert!(!plan.contains("weights") && !plan.contains("data"), "{plan}");
    }
}

#[tokio::test]
async fn weights_are_neither_sorted_nor_exchanged() {
    for query in [
        "SELECT quantize(weights, 2) FROM layers",
        "SELECT layer, avg(sqnr(weights, quantize(weights, 4))) FROM layers GROUP BY layer",
        "SELECT name, channel_absmax(weights) FROM layers GROUP BY name",
        "SELECT quantize(l.weights, c.bits) FROM layers l LEFT JOIN (VALUES ('a', 4), ('b', 2)) AS c(name, bits) ON l.name = c.name",
        "SELECT equalize(l.weights, f.factors) FROM layers l JOIN \
         (SELECT name, channel_absmax(weights) AS factors FROM layers GROUP BY name) f ON l.name = f.name",
    ] {
        let plan = plan(query).await;
        for line in plan.lines().filter(|line| line.contains("Sort") || line.contains("Repartition")) {
            let below: Vec<_> = plan.lines().skip_while(|other| *other != line).skip(1).collect();
            // What is exchanged may only be what an aggregate has already made of the weights.
            let aggregated = below.first().is_some_and(|next| next.contains("AggregateExec: mode=Partial"));
            assert!(line.contains("Repartition") && aggregated, "{query}\n{plan}");
        }
    }
}
