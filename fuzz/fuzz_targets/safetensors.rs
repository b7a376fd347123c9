//! A safetensors file: whatever the bytes, an error, or a header that fits them and whose rows can all be read. What the
//! reference implementation refuses is refused.

#![no_main]

use std::path::Path;

use arrow_quant::storage::safetensors::header::Header;
use libfuzzer_sys::fuzz_target;
use safetensors::SafeTensors;

fuzz_target!(|bytes: &[u8]| {
    let Ok(header) = Header::parse(bytes, Path::new("fuzz.safetensors")) else { return };
    let reference = SafeTensors::deserialize(bytes).expect("what is read is what the reference implementation reads");
    assert_eq!(reference.len(), header.entries.len());
    let mut end = header.data_start;
    for entry in &header.entries {
        let elements: usize = entry.shape.iter().product();
        assert_eq!((elements * entry.dtype.bits()).div_ceil(8), entry.range.len());
        assert!(entry.range.start == end && entry.range.end <= bytes.len());
        end = entry.range.end;
        let view = reference.tensor(&entry.name).expect("the same names");
        assert_eq!((view.shape(), view.data()), (&entry.shape[..], &bytes[entry.range.clone()]));
    }
    arrow_quant_fuzz::read_all(bytes, "safetensors");
});
