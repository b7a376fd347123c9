//! The header of a safetensors file: whatever the bytes, an error or a header that fits them.
//!
//! `cargo +nightly fuzz run safetensors`

#![no_main]

use std::path::Path;

use arrow_quant::io::safetensors::Header;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(header) = Header::parse(bytes, Path::new("fuzz.safetensors")) else { return };
    let mut end = header.data_start;
    for entry in &header.entries {
        let elements: usize = entry.shape.iter().product();
        assert_eq!((elements * entry.dtype.bits()).div_ceil(8), entry.range.len());
        assert!(entry.range.start >= end && entry.range.end <= bytes.len());
        end = entry.range.end;
    }
});
