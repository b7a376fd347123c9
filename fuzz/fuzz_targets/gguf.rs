//! The header of a GGUF file: whatever the bytes, an error or a header that fits them.
//!
//! `cargo +nightly fuzz run gguf`

#![no_main]

use std::path::Path;

use arrow_quant::io::gguf::Header;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(header) = Header::parse(bytes, Path::new("fuzz.gguf")) else { return };
    let mut end = header.data_start;
    for entry in &header.entries {
        let (unit, unit_bytes) = entry.element.unit();
        let elements: usize = entry.shape.iter().product();
        assert_eq!(elements / unit * unit_bytes, entry.range.len());
        assert!(entry.range.start >= end && entry.range.end <= bytes.len());
        end = entry.range.end;
    }
});
