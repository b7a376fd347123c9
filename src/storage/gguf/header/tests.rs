//! Files laid out and read back, crafted lies, and noise.

use proptest::prelude::*;

use super::*;
use crate::storage::gguf::writer::{NewEntry, lay_out};

fn entry(name: &str, element: Element, shape: &[usize]) -> NewEntry {
    NewEntry { name: name.to_owned(), element, shape: shape.to_vec() }
}

fn pair(key: &str, value: Value) -> Pair {
    Pair { key: key.to_owned(), value }
}

/// Returns a file with every type of value and every type of tensor.
fn file() -> (Vec<u8>, Vec<Pair>, Vec<NewEntry>) {
    let pairs = vec![
        pair("general.architecture", Value::String("flux".into())),
        pair("a.u8", Value::U8(1)),
        pair("a.i8", Value::I8(-1)),
        pair("a.u16", Value::U16(1)),
        pair("a.i16", Value::I16(-1)),
        pair("a.u32", Value::U32(1)),
        pair("a.i32", Value::I32(-1)),
        pair("a.f32", Value::F32(0.5)),
        pair("a.bool", Value::Bool(true)),
        pair("a.strings", Value::strings(["x", "", "é"].into_iter())),
        pair("a.i32s", Value::i32s(&[1, -2, 3])),
        pair("a.u64", Value::U64(1)),
        pair("a.i64", Value::I64(-1)),
        pair("a.f64", Value::F64(0.5)),
    ];
    let tensors: Vec<NewEntry> =
        TYPES.iter().map(|(_, element)| entry(&format!("{}.weight", element.name()), *element, &[3, 256])).collect();
    let laid_out = lay_out(&pairs, &tensors).unwrap();
    let mut bytes = laid_out.head;
    bytes.resize(laid_out.bytes, 7);
    (bytes, pairs, tensors)
}

fn parse(bytes: &[u8]) -> Result<Header, String> {
    Header::parse(bytes, Path::new("a.gguf")).map_err(|error| error.to_string())
}

#[test]
fn what_was_laid_out_reads_back() {
    let (bytes, pairs, tensors) = file();
    let header = parse(&bytes).unwrap();
    assert_eq!(header.pairs, pairs);
    assert_eq!(header.value("a.u32").and_then(Value::as_u64), Some(1));
    assert_eq!(header.entries.len(), tensors.len());
    for (entry, tensor) in header.entries.iter().zip(&tensors) {
        assert_eq!((&entry.name, entry.element, &entry.shape), (&tensor.name, tensor.element, &tensor.shape));
        let (unit, unit_bytes) = entry.element.unit();
        assert_eq!(entry.range.len(), 3 * 256 / unit * unit_bytes);
        assert!(entry.range.start.is_multiple_of(32));
    }
}

#[test]
fn the_header_of_the_reference_writer() {
    // The first bytes that gguf-py writes for one pair.
    let laid_out = lay_out(&[pair("general.architecture", Value::String("flux".into()))], &[]).unwrap();
    let mut expected =
        b"GGUF\x03\0\0\0\0\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\x14\0\0\0\0\0\0\0general.architecture".to_vec();
    expected.extend_from_slice(b"\x08\0\0\0\x04\0\0\0\0\0\0\0flux");
    assert_eq!(laid_out.head[..expected.len()], expected);
    assert_eq!(laid_out.head.len() % 32, 0);
    assert!(parse(&laid_out.head).unwrap().entries.is_empty());
}

#[test]
fn a_lie_about_a_tensor_names_it() {
    let tensors =
        [entry("first", Element::Plain(Dtype::F32), &[2, 4]), entry("second", Element::Block(Block::Q8_0), &[64])];
    let laid_out = lay_out(&[], &tensors).unwrap();
    let mut bytes = laid_out.head;
    bytes.resize(laid_out.bytes, 0);
    let at = |needle: &[u8]| bytes.windows(needle.len()).position(|window| window == needle).unwrap();
    let (first, second) = (at(b"first") + 5, at(b"second") + 6);
    for (place, value, expected) in [
        (first, 6u32, "tensor 'first': has 6 dimensions; at most 5 are allowed"),
        (first + 20, 99, "tensor 'first': is of type 99, which is not read; read are F32, F16, Q4_0"),
        (first + 20, 12, "tensor 'first': the shape [2, 4] does not divide into blocks of 256, as Q4_K has them"),
        (first + 24, 32, "tensor 'first': its data begins at 32 where 0 is expected"),
        (second + 16, 0, "tensor 'second': its data begins at 0 where 32 is expected"),
        (second + 4, 6400, "tensor 'second': is cut off: its data has 6800 bytes, and 96 are left in the file"),
        (first + 8, u32::MAX, "tensor 'first': the shape"),
    ] {
        let mut bytes = bytes.clone();
        bytes[place..place + 4].copy_from_slice(&value.to_le_bytes());
        let message = parse(&bytes).unwrap_err();
        assert!(message.contains(expected), "{message}");
    }
}

#[test]
fn what_is_not_the_format_says_so() {
    let (bytes, ..) = file();
    let with = |at: usize, new: &[u8]| {
        let mut bytes = bytes.clone();
        bytes[at..at + new.len()].copy_from_slice(new);
        parse(&bytes).unwrap_err()
    };
    assert!(with(0, b"GGML").contains("is not GGUF"));
    assert!(with(4, &[1, 0, 0, 0]).contains("version 1; versions 2 and 3 are read"));
    assert!(with(4, &[0, 0, 0, 3]).contains("big-endian"));
    assert!(with(8, &[0xff; 8]).contains("too many for its"));
    assert!(
        with(24, &[0xff; 8]).contains("key 0: has a string of") || with(24, &[0xff; 8]).contains("key 0: is cut off")
    );
    let mut long = bytes.clone();
    long.extend_from_slice(&[0; 32]);
    assert!(parse(&long).unwrap_err().contains("32 bytes after the last tensor belong to none"));
    let twice = [entry("w", Element::Plain(Dtype::F32), &[8]), entry("w", Element::Plain(Dtype::F32), &[8])];
    let twice = lay_out(&[], &twice).unwrap();
    let mut bytes = twice.head;
    bytes.resize(twice.bytes, 0);
    assert!(parse(&bytes).unwrap_err().contains("tensor 'w': is there twice"));
    for alignment in [0, 3, 1 << 21] {
        let head = lay_out(&[pair("general.alignment", Value::U32(alignment))], &[]).unwrap().head;
        assert!(parse(&head).unwrap_err().contains("it must be a power of two"));
    }
}

#[test]
fn every_file_that_is_cut_off_is_an_error() {
    let (bytes, ..) = file();
    // All but the padding of the last tensor.
    let end = parse(&bytes).unwrap().entries.last().unwrap().range.end;
    for length in (0..2000).chain((2000..end).step_by(97)) {
        assert!(parse(&bytes[..length]).is_err(), "{length} bytes");
    }
}

#[test]
fn a_header_without_tensors_need_not_be_padded() {
    let whole = lay_out(&[pair("general.architecture", Value::String("flux".into()))], &[]).unwrap().head;
    let end = whole.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    assert!(end < whole.len());
    for length in end..=whole.len() {
        assert_eq!(parse(&whole[..length]).unwrap().data_start, length);
    }
}

proptest! {
    #[test]
    fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let mut file = b"GGUF\x03\0\0\0".to_vec();
        file.extend_from_slice(&bytes);
        let _ = parse(&file);
    }

    #[test]
    fn flipped_bits_give_an_error_or_a_header_that_fits(flips in prop::collection::vec((0usize..1800, 0u32..8), 1..4)) {
        let (mut bytes, ..) = file();
        for (at, bit) in flips {
            bytes[at] ^= 1 << bit;
        }
        if let Ok(header) = parse(&bytes) {
            let mut end = header.data_start;
            for entry in &header.entries {
                let (unit, unit_bytes) = entry.element.unit();
                prop_assert!(entry.range.start >= end && entry.range.end <= bytes.len());
                prop_assert_eq!(entry.shape.iter().product::<usize>() / unit * unit_bytes, entry.range.len());
                end = entry.range.end;
            }
        }
    }
}
