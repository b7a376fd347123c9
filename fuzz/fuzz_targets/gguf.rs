//! A GGUF file: whatever the bytes, an error, or a header that fits them, reads back when it is written again, and whose
//! rows can all be read.

#![no_main]

use std::path::Path;

use arrow_quant::storage::gguf::{header::Header, writer::{NewEntry, lay_out}};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let path = Path::new("fuzz.gguf");
    let Ok(header) = Header::parse(bytes, path) else { return };
    let mut end = header.data_start;
    for entry in &header.entries {
        let (unit, unit_bytes) = entry.element.unit();
        let elements: usize = entry.shape.iter().product();
        assert_eq!(elements / unit * unit_bytes, entry.range.len());
        assert!(entry.range.start >= end && entry.range.end <= bytes.len());
        end = entry.range.end;
    }
    // The writer aligns as files do that say nothing of it.
    if header.value("general.alignment").is_none() {
        let entries = header.entries.iter().map(|entry| NewEntry {
            name: entry.name.clone(),
            element: entry.element,
            shape: entry.shape.clone(),
        });
        let file = lay_out(&header.pairs, &entries.collect::<Vec<_>>()).expect("what was read can be written");
        let mut written = file.head;
        written.resize(file.bytes, 0);
        let again = Header::parse(&written, path).expect("what was written can be read");
        // Not by `==`: a pair may be NaN.
        assert_eq!(format!("{:?}", again.pairs), format!("{:?}", header.pairs));
        assert!(again.entries.iter().map(|entry| &entry.shape).eq(header.entries.iter().map(|entry| &entry.shape)));
    }
    arrow_quant_fuzz::read_all(bytes, "gguf");
});
