//! Entropy-coded values: whatever the codes, an error that names the row, or as many finite weights as the row has, the same ones
//! whatever stands beside it.

#![no_main]

use std::sync::Arc;

use arrow_array::{
    Array, ArrayRef, BinaryArray, Float32Array, StructArray, UInt8Array, UInt32Array, cast::AsArray,
    types::Float32Type,
};
use arrow_quant::{compute, types::quantized::quantized_fields};
use libfuzzer_sys::fuzz_target;

fn values(rows: &[(u32, u32, &[u8])]) -> ArrayRef {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(UInt8Array::from(vec![0; rows.len()])),
        Arc::new(rows.iter().map(|row| Some(row.0)).collect::<UInt32Array>()),
        Arc::new(rows.iter().map(|row| Some(row.1)).collect::<UInt32Array>()),
        Arc::new(Float32Array::from(vec![0.5; rows.len()])),
        Arc::new(rows.iter().map(|row| Some(row.2)).collect::<BinaryArray>()),
        Arc::new(rows.iter().map(|_| Some(b"")).collect::<BinaryArray>()),
        Arc::new(rows.iter().map(|_| None::<&[u8]>).collect::<BinaryArray>()),
    ];
    Arc::new(StructArray::new(quantized_fields(), columns, None))
}

// Two rows: a byte for the group size and two for the length of each, a byte that cuts the codes in two.
fuzz_target!(|bytes: &[u8]| {
    let Some(([a, b, c, d, e, f, cut], codes)) = bytes.split_first_chunk::<7>() else { return };
    let (first, second) = codes.split_at(usize::from(*cut).min(codes.len()));
    let length = |low: u8, high: u8| u32::from(u16::from_le_bytes([low, high]));
    let rows = [(u32::from(*a), length(*b, *c), first), (u32::from(*d), length(*e, *f), second)];
    let alone = rows.map(|row| compute::dequantize(&values(&[row])));
    for (row, decoded) in rows.iter().zip(&alone) {
        match decoded {
            Ok(decoded) => {
                let weights = decoded.as_list::<i32>().value(0);
                assert_eq!(weights.len(), row.1 as usize);
                assert!(weights.as_primitive::<Float32Type>().values().iter().all(|weight| weight.is_finite()));
            }
            Err(error) => assert_eq!(error.row(), Some(0), "{error}"),
        }
    }
    match (&alone, compute::dequantize(&values(&rows))) {
        ([Ok(first), Ok(second)], Ok(both)) => {
            assert_eq!(&both.slice(0, 1), first);
            assert_eq!(&both.slice(1, 1), second);
        }
        ([Ok(_), Ok(_)], Err(error)) => panic!("both decode alone: {error}"),
        (_, both) => assert!(both.is_err()),
    }
});
