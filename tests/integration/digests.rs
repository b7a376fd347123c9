//! The bytes of every output of the digits transformer: a change of them is one that somebody meant.

use std::{fmt::Write, path::Path};

use xxhash_rust::xxh3::xxh3_128;

use crate::cli::{Place, contents, succeed};

/// Files that are not compared: the manifest names the version, and the others are copies of what tells of the model.
const LEFT_OUT: [&str; 3] = ["arrow_quant.json", "README.md", "metrics.json"];

#[test]
fn every_format_has_the_bytes_that_it_had() {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/digits_dit");
    let model = model.to_str().unwrap();
    let mut digests = String::new();
    for format in ["parquet", "arrow", "safetensors", "compressed-tensors", "gguf", "mlx"] {
        for bits in ["2", "3", "4", "8"] {
            let place = Place::new();
            let output = place.text("out");
            succeed(&["quantize", model, "--output", &output, "--bits", bits, "--format", format, "--no-check"]);
            for (name, bytes) in contents(Path::new(&output)) {
                let name = name.to_str().unwrap();
                if !LEFT_OUT.contains(&name) {
                    writeln!(digests, "{:032x} {format} {bits} {name}", xxh3_128(&bytes)).unwrap();
                }
            }
        }
    }
    insta::assert_snapshot!(digests);
}
