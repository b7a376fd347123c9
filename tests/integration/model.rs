//! Models made for the tests, and what SQL says of them.

use std::{collections::HashMap, path::Path};

use arrow::{array::RecordBatch, util::pretty::pretty_format_batches};
use arrow_quant::sql::Session;
use safetensors::{Dtype, tensor::TensorView};

/// A deterministic, roughly normal sequence: the sum of four uniform numbers.
pub fn noise(count: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut uniform = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5
    };
    (0..count).map(|_| (0..4).map(|_| uniform()).sum::<f32>() * 0.04).collect()
}

pub fn f32_bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// Writes tensors with the `safetensors` crate.
pub fn write(path: &Path, tensors: &[(&str, Dtype, Vec<usize>, Vec<u8>)]) {
    let views: Vec<_> = tensors
        .iter()
        .map(|(name, dtype, shape, data)| (*name, TensorView::new(*dtype, shape.clone(), data).unwrap()))
        .collect();
    safetensors::serialize_to_file(views, None::<HashMap<String, String>>, path).unwrap();
}

/// Two layers with a norm each, an embedding, and tensors that no one quantizes.
pub fn small(path: &Path) {
    let matrix = |rows: usize, length: usize, seed| f32_bytes(&noise(rows * length, seed));
    write(
        path,
        &[
            ("model.embed_tokens.weight", Dtype::F32, vec![20, 48], matrix(20, 48, 1)),
            ("model.layers.0.self_attn.q_proj.weight", Dtype::F32, vec![48, 48], matrix(48, 48, 2)),
            ("model.layers.0.mlp.up_proj.weight", Dtype::F32, vec![96, 48], matrix(96, 48, 3)),
            ("model.layers.0.input_layernorm.weight", Dtype::F32, vec![48], matrix(1, 48, 4)),
            ("model.layers.1.self_attn.q_proj.weight", Dtype::F32, vec![48, 48], matrix(48, 48, 5)),
            ("model.layers.1.mlp.up_proj.weight", Dtype::F32, vec![96, 48], matrix(96, 48, 6)),
            (
                "position_ids",
                Dtype::I64,
                vec![4],
                [0i64, 1, 2, 3].iter().flat_map(|value| value.to_le_bytes()).collect(),
            ),
            ("scalar", Dtype::F32, vec![], f32_bytes(&[0.5])),
            ("empty", Dtype::F32, vec![0, 4], vec![]),
        ],
    );
}

async fn table(session: &Session, query: &str) -> String {
    let batches = session.sql(query).await.unwrap().collect().await.unwrap();
    pretty_format_batches(&batches).unwrap().to_string()
}

async fn session() -> (tempfile::TempDir, Session) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    small(&path);
    let session = Session::new(2).unwrap();
    let create = format!("CREATE EXTERNAL TABLE layers STORED AS SAFETENSORS LOCATION '{}'", path.display());
    session.sql(&create).await.unwrap().collect().await.unwrap();
    (folder, session)
}

#[tokio::test]
async fn the_query_of_the_readme_works_as_it_stands() {
    let (_folder, session) = session().await;
    let batches = session.sql("SELECT quantize(weights, 2) FROM layers").await.unwrap().collect().await.unwrap();
    let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
    assert_eq!(rows, 20 + 48 + 96 + 1 + 48 + 96 + 1 + 1 + 1);
}

#[tokio::test]
async fn grouping_joins_columns_of_bits_and_names_work_in_sql() {
    let (_folder, session) = session().await;
    insta::assert_snapshot!(
        table(
            &session,
            "
        SELECT layer, count(*) AS rows, min(sqnr(weights, quantize(weights, bits => 4, group_size => 16))) > 15 AS good
        FROM layers WHERE layer IS NOT NULL GROUP BY layer ORDER BY layer"
        )
        .await
    );
    insta::assert_snapshot!(table(&session, "
        SELECT l.module, quantize(l.weights, b.bits)['bits'] AS bits, count(*) AS rows
        FROM layers l JOIN (VALUES ('self_attn.q_proj', 8), ('mlp.up_proj', 2)) AS b(module, bits) ON l.module = b.module
        GROUP BY 1, 2 ORDER BY 1").await);
    insta::assert_snapshot!(
        table(
            &session,
            "
        SELECT name, dtype, shape, count(*) AS rows, count(weights) AS floats, count(data) AS stored
        FROM layers GROUP BY name, dtype, shape ORDER BY name"
        )
        .await
    );
}

#[tokio::test]
async fn the_order_of_rows_does_not_depend_on_the_number_of_threads() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    small(&path);
    let mut results = Vec::new();
    for threads in [1, 3, 8] {
        let session = Session::new(threads).unwrap();
        let query = format!(
            "SELECT name, channel, codes(quantize(weights, 4)) AS codes FROM safetensors('{}') WHERE weights IS NOT NULL",
            path.display()
        );
        let partitions = session.sql(&query).await.unwrap().collect_partitioned().await.unwrap();
        let batches: Vec<_> = partitions.into_iter().flatten().collect();
        results.push(pretty_format_batches(&batches).unwrap().to_string());
    }
    assert_eq!(results[0], results[1]);
    assert_eq!(results[0], results[2]);
}

#[tokio::test]
async fn a_limit_gives_that_many_rows() {
    let (_folder, session) = session().await;
    for limit in [0, 1, 21, 1000] {
        let batches = session.sql(&format!("SELECT weights FROM layers LIMIT {limit}")).await.unwrap();
        let rows: usize = batches.collect().await.unwrap().iter().map(RecordBatch::num_rows).sum();
        assert_eq!(rows, limit.min(312));
    }
}

#[tokio::test]
async fn a_wrong_path_or_option_is_one_clear_error() {
    let session = Session::new(1).unwrap();
    for (query, message) in [
        ("SELECT * FROM safetensors('/nowhere/x.safetensors')", "/nowhere/x.safetensors"),
        ("SELECT * FROM safetensors(1)", "safetensors takes one argument, the path of a model in single quotes"),
        ("CREATE EXTERNAL TABLE t STORED AS SAFETENSORS LOCATION '/nowhere'", "/nowhere"),
        ("CREATE EXTERNAL TABLE t (a INT) STORED AS SAFETENSORS LOCATION '/nowhere'", "takes no columns"),
        ("CREATE EXTERNAL TABLE t STORED AS SAFETENSORS LOCATION '/nowhere' OPTIONS ('a' 'b')", "takes no options"),
    ] {
        let error = session.sql(query).await.map(drop).unwrap_err().to_string();
        assert!(error.contains(message), "{query}: {error}");
    }
}

#[tokio::test]
async fn a_filter_that_no_tensor_passes_gives_no_rows() {
    let (_folder, session) = session().await;
    for query in [
        "SELECT DISTINCT name FROM layers WHERE name = 'nope'",
        "SELECT name FROM layers WHERE name = 'nope' ORDER BY channel",
        "SELECT name, channel_absmax(weights) FROM layers WHERE name = 'nope' GROUP BY name",
        "SELECT a.name FROM layers a JOIN layers b ON a.name = b.name AND a.channel = b.channel WHERE a.name = 'nope'",
    ] {
        let batches = session.sql(query).await.unwrap().collect().await.unwrap();
        assert_eq!(batches.iter().map(RecordBatch::num_rows).sum::<usize>(), 0, "{query}");
    }
}
