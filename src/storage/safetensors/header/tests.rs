//! Crafted headers, the reference implementation as oracle, and noise.

use std::{collections::HashMap, path::Path};

use ::safetensors::{SafeTensors, tensor::TensorView};
use proptest::prelude::*;

use super::*;

/// Returns a file of a header and `data` bytes of data.
fn file(header: &str, data: usize) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(header.as_bytes());
    bytes.resize(bytes.len() + data, 0);
    bytes
}

fn parse(bytes: &[u8]) -> Result<Header, IoError> {
    Header::parse(bytes, Path::new("f"))
}

const GOOD: &str = r#"{"__metadata__":{"format":"pt"},"b":{"dtype":"U8","shape":[2],"data_offsets":[8,10]},"a":{"dtype":"F32","shape":[1,2],"data_offsets":[0,8]}}  "#;

#[test]
fn entries_come_in_the_order_of_their_bytes() {
    let header = parse(&file(GOOD, 10)).unwrap();
    let start = 8 + GOOD.len();
    assert_eq!(header.data_start, start);
    assert_eq!(header.metadata, [("format".to_owned(), "pt".to_owned())]);
    let names: Vec<_> = header.entries.iter().map(|entry| (entry.name.as_str(), entry.range.clone())).collect();
    assert_eq!(names, [("a", start..start + 8), ("b", start + 8..start + 10)]);
}

/// Headers that are not the format, the bytes of data after them, and what the message must say.
const BAD: &[(&str, usize, &str)] = &[
    ("", 0, "does not begin with '{'"),
    (" {}", 0, "does not begin with '{'"),
    ("[]", 0, "does not begin with '{'"),
    ("{", 0, "EOF"),
    ("{}x", 0, "trailing characters"),
    (r#"{"a":1}"#, 0, "'a': invalid type: integer `1`, expected an object of dtype, shape and data_offsets"),
    (r#"{"a":["F32",[1],[0,4]]}"#, 4, "'a': invalid type: sequence"),
    (r#"{"a":{"dtype":"F33","shape":[1],"data_offsets":[0,4]}}"#, 4, "tensor 'a': unknown dtype 'F33'; known are"),
    (r#"{"a":{"dtype":32,"shape":[1],"data_offsets":[0,4]}}"#, 4, "'a': invalid type: integer"),
    (r#"{"a":{"shape":[1],"data_offsets":[0,4]}}"#, 4, "'a': missing field `dtype`"),
    (r#"{"a":{"dtype":"F32","data_offsets":[0,4]}}"#, 4, "'a': missing field `shape`"),
    (r#"{"a":{"dtype":"F32","shape":[1]}}"#, 4, "'a': missing field `data_offsets`"),
    (r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4],"x":0}}"#, 4, "'a': unknown field `x`"),
    (r#"{"a":{"dtype":"F32","dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#, 4, "'a': duplicate field `dtype`"),
    (r#"{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}"#, 4, "'a': invalid value: integer `-1`"),
    (r#"{"a":{"dtype":"F32","shape":[1.0],"data_offsets":[0,4]}}"#, 4, "'a': invalid type: floating point"),
    (r#"{"a":{"dtype":"F32","shape":1,"data_offsets":[0,4]}}"#, 4, "'a': invalid type: integer"),
    (r#"{"a":{"dtype":"F32","shape":[18446744073709551616],"data_offsets":[0,4]}}"#, 4, "'a': invalid type"),
    (r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0]}}"#, 4, "'a': invalid length 1"),
    (r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4,8]}}"#, 4, "'a'"),
    (r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[-4,0]}}"#, 4, "'a': invalid value: integer `-4`"),
    (
        r#"{"a":{"dtype":"F32","shape":[2147483648],"data_offsets":[0,8589934592]}}"#,
        4,
        "tensor 'a': its bytes 0 to 8589934592 lie outside the file",
    ),
    (
        r#"{"a":{"dtype":"F32","shape":[2147483648],"data_offsets":[0,4]}}"#,
        4,
        "tensor 'a': F32 of shape [2147483648] takes 8589934592 bytes, not 4",
    ),
    (
        r#"{"a":{"dtype":"F32","shape":[9223372036854775807],"data_offsets":[0,4]}}"#,
        4,
        "tensor 'a': the shape [9223372036854775807] has more bytes",
    ),
    (
        r#"{"a":{"dtype":"F32","shape":[9223372036854775808],"data_offsets":[0,4]}}"#,
        4,
        "tensor 'a': the shape [9223372036854775808] has more elements",
    ),
    (
        r#"{"a":{"dtype":"U8","shape":[4294967296,4294967296],"data_offsets":[0,0]}}"#,
        0,
        "tensor 'a': the shape [4294967296, 4294967296] has more elements",
    ),
    (r#"{"a":{"dtype":"U8","shape":[0,9223372036854775808],"data_offsets":[0,0]}}"#, 0, "has more elements"),
    (r#"{"a":{"dtype":"F4","shape":[3],"data_offsets":[0,1]}}"#, 1, "tensor 'a': 3 elements of F4 end inside a byte"),
    (
        r#"{"a":{"dtype":"U8","shape":[4],"data_offsets":[4,0]}}"#,
        4,
        "tensor 'a': its bytes end at 0, before they begin at 4",
    ),
    (
        r#"{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,5]}}"#,
        4,
        "tensor 'a': its bytes 0 to 5 lie outside the file, which has 4 bytes of data",
    ),
    (r#"{"a":{"dtype":"U8","shape":[4],"data_offsets":[18446744073709551612,0]}}"#, 4, "outside the file"),
    (
        r#"{"a":{"dtype":"F16","shape":[4],"data_offsets":[0,4]}}"#,
        4,
        "tensor 'a': F16 of shape [4] takes 8 bytes, not 4",
    ),
    (
        r#"{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}}"#,
        3,
        "tensor 'b': its bytes from 1 overlap those before it, which end at 2",
    ),
    (
        r#"{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[2],"data_offsets":[3,5]}}"#,
        5,
        "tensor 'b': its bytes from 3 leave a gap after those before it, which end at 2",
    ),
    (r#"{"a":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}}"#, 3, "leave a gap"),
    (r#"{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}}"#, 3, "1 bytes after the last tensor belong to none"),
    ("{}", 1, "1 bytes after the last tensor belong to none"),
    (
        r#"{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"a":{"dtype":"U8","shape":[2],"data_offsets":[2,4]}}"#,
        4,
        "'a' is there twice",
    ),
    (r#"{"__metadata__":{"a":1}}"#, 0, "'__metadata__': invalid type: integer `1`, expected a string"),
    (r#"{"__metadata__":[]}"#, 0, "'__metadata__': invalid type: sequence, expected an object of strings"),
    (r#"{"__metadata__":{"a":"1","a":"2"}}"#, 0, "'__metadata__': 'a' is there twice"),
    (r#"{"__metadata__":{},"__metadata__":{}}"#, 0, "'__metadata__' is there twice"),
];

#[test]
fn a_header_that_is_not_the_format_is_refused_with_the_reason() {
    for (header, data, expected) in BAD {
        let message = parse(&file(header, *data)).expect_err(header).to_string();
        assert!(message.starts_with("f: ") && message.contains(expected), "{header}\n{message}");
        assert!(!message.contains('\n'));
    }
}

#[test]
fn a_length_that_does_not_fit_the_file_is_refused() {
    for (bytes, expected) in [
        (vec![], "f: is empty; a safetensors file begins with"),
        (vec![2, 0, 0], "f: has 3 bytes; a safetensors file begins with"),
        (u64::MAX.to_le_bytes().to_vec(), "at most 100000000 are allowed"),
        (100_000_001u64.to_le_bytes().to_vec(), "at most 100000000 are allowed"),
        (3u64.to_le_bytes().to_vec(), "its header should have 3 bytes, and 0 follow"),
        (b"\x04\0\0\0\0\0\0\0{\"\xff}".to_vec(), "not UTF-8 from its byte 2"),
    ] {
        let message = parse(&bytes).unwrap_err().to_string();
        assert!(message.contains(expected), "{message}");
    }
}

#[test]
fn more_than_64_dimensions_are_refused() {
    let shape = |rank| format!(r#"{{"a":{{"dtype":"U8","shape":{:?},"data_offsets":[0,1]}}}}"#, vec![1; rank]);
    assert!(parse(&file(&shape(64), 1)).is_ok());
    assert!(parse(&file(&shape(65), 1)).unwrap_err().to_string().contains("has 65 dimensions; at most 64"));
}

#[test]
fn every_truncation_of_a_file_is_refused() {
    let bytes = file(GOOD, 10);
    for length in 0..bytes.len() {
        assert!(parse(&bytes[..length]).is_err(), "{length}");
    }
}

#[test]
fn what_the_reference_implementation_refuses_is_refused() {
    for (header, data, _) in BAD {
        let bytes = file(header, *data);
        if SafeTensors::deserialize(&bytes).is_err() {
            assert!(parse(&bytes).is_err(), "{header}");
        }
    }
}

#[test]
fn what_the_reference_implementation_writes_is_read_for_every_dtype() {
    let data = [1u8; 96];
    let views = Dtype::ALL.iter().copied().map(|dtype| {
        let reference: ::safetensors::Dtype = serde_json::from_str(&format!("\"{dtype}\"")).unwrap();
        let bytes = 12 * dtype.bits() / 8;
        (dtype.name(), TensorView::new(reference, vec![3, 4], &data[..bytes]).unwrap())
    });
    let empty = TensorView::new(::safetensors::Dtype::F32, vec![0, 4], &[]).unwrap();
    let scalar = TensorView::new(::safetensors::Dtype::F64, vec![], &data[..8]).unwrap();
    let all = views.into_iter().chain([("empty", empty), ("scalar", scalar)]);
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    let bytes = ::safetensors::serialize(all, Some(metadata)).unwrap();
    let header = parse(&bytes).unwrap();
    assert_eq!(header.entries.len(), 24);
    let reference = SafeTensors::deserialize(&bytes).unwrap();
    for entry in &header.entries {
        let view = reference.tensor(&entry.name).unwrap();
        assert_eq!((entry.dtype.name(), &entry.shape[..]), (&*view.dtype().to_string(), view.shape()));
        assert_eq!(&bytes[entry.range.clone()], view.data());
    }
}

proptest! {
    #[test]
    fn noise_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse(&bytes);
    }

    #[test]
    fn a_mutated_file_never_panics_and_is_refused_if_the_reference_refuses(
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        digits in any::<bool>(),
    ) {
        let mut bytes = file(GOOD, 10);
        for (index, byte) in edits {
            let at = index.index(bytes.len() - 8) + 8;
            bytes[at] = if digits { b'0' + byte % 10 } else { byte };
        }
        let ours = parse(&bytes);
        if SafeTensors::deserialize(&bytes).is_err() {
            prop_assert!(ours.is_err());
        }
    }
}

#[test]
fn metadata_may_be_null() {
    let text = GOOD.replace(r#"{"format":"pt"}"#, "null");
    let bytes = [&(text.len() as u64).to_le_bytes()[..], text.as_bytes(), &[0; 10]].concat();
    let header = Header::parse(&bytes, Path::new("m")).unwrap();
    assert_eq!((header.metadata.len(), header.entries.len()), (0, 2));
}

#[test]
fn files_of_other_kinds_are_called_what_they_are() {
    for (begin, expected) in [
        (&b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"[..], "a pointer of Git LFS"),
        (b"<!DOCTYPE html><html></html>", "a page of HTML"),
        (b"PK\x03\x04\0\0\0\0\0\0\0\0", "a zip archive, as PyTorch writes it"),
        (b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.", "a pickle, as PyTorch wrote it"),
        (b"\x93NUMPY\x01\0v\0{'descr'", "an array of NumPy"),
    ] {
        let message = Header::parse(begin, Path::new("m.safetensors")).unwrap_err().to_string();
        assert!(message.starts_with("m.safetensors: is not safetensors: it is "), "{message}");
        assert!(message.contains(expected) && message.lines().count() == 1, "{message}");
    }
    // A header of 640 bytes begins with the same two bytes as a pickle.
    let text = format!("{:<640}", r#"{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}"#);
    let bytes = [&640u64.to_le_bytes()[..], text.as_bytes(), &[0]].concat();
    assert_eq!(Header::parse(&bytes, Path::new("m")).unwrap().entries.len(), 1);
}
