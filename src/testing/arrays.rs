//! Arrays of rows and of quantized values.

use std::sync::Arc;

use arrow_array::{
    ArrayRef, BinaryArray, Float32Array, ListArray, StructArray, UInt8Array, UInt32Array, types::Float32Type,
};
use arrow_buffer::NullBuffer;

use crate::types::quantized::quantized_fields;

/// Returns a `List<Float32>` of rows, `None` for null.
pub(crate) fn list(rows: &[Option<&[f32]>]) -> ArrayRef {
    Arc::new(ListArray::from_iter_primitive::<Float32Type, _, _>(
        rows.iter().map(|row| row.map(|row| row.iter().copied().map(Some).collect::<Vec<_>>())),
    ))
}

/// The fields of one quantized value, each of which may be null or wrong.
#[derive(Debug, Clone)]
pub(crate) struct Parts {
    pub bits: Option<u8>,
    pub group_size: Option<u32>,
    pub length: Option<u32>,
    pub row_scale: Option<f32>,
    pub codes: Option<Vec<u8>>,
    pub scales: Option<Vec<u8>>,
    pub zero_points: Option<Vec<u8>>,
}

/// Returns the weights 0, 0.5, 1, 1.5 and -0.25, 0, 0.25, 0.5, at 2 bits in groups of four: scales 0.5 and 0.25,
/// zero points 0 and 1.
pub(crate) fn two_groups() -> Parts {
    Parts {
        bits: Some(2),
        group_size: Some(4),
        length: Some(8),
        row_scale: Some(0.5),
        codes: Some(vec![0b1110_0100, 0b1110_0100]),
        scales: Some(vec![240, 224]),
        zero_points: Some(vec![0, 85]),
    }
}

pub(crate) const TWO_GROUPS: [f32; 8] = [0.0, 0.5, 1.0, 1.5, -0.25, 0.0, 0.25, 0.5];

/// Returns the weights -2, -1, 0, 1, 0 at 3 bits, symmetric: the scale 0.5 reaches from -2 to 1.5.
pub(crate) fn symmetric() -> Parts {
    Parts {
        bits: Some(3),
        group_size: Some(32),
        length: Some(5),
        row_scale: Some(0.5),
        // Codes 0, 2, 4, 6, 4, three bits each.
        codes: Some(vec![0b0001_0000, 0b0100_1101]),
        scales: Some(vec![240]),
        zero_points: None,
    }
}

pub(crate) const SYMMETRIC: [f32; 5] = [-2.0, -1.0, 0.0, 1.0, 0.0];

/// Returns an array of these values, `None` for null.
pub(crate) fn array(rows: &[Option<Parts>]) -> ArrayRef {
    let parts = || rows.iter().map(Option::as_ref);
    let bytes = |field: fn(&Parts) -> Option<&[u8]>| -> ArrayRef {
        Arc::new(parts().map(|parts| parts.and_then(field)).collect::<BinaryArray>())
    };
    let columns: Vec<ArrayRef> = vec![
        Arc::new(parts().map(|parts| parts?.bits).collect::<UInt8Array>()),
        Arc::new(parts().map(|parts| parts?.group_size).collect::<UInt32Array>()),
        Arc::new(parts().map(|parts| parts?.length).collect::<UInt32Array>()),
        Arc::new(parts().map(|parts| parts?.row_scale).collect::<Float32Array>()),
        bytes(|parts| parts.codes.as_deref()),
        bytes(|parts| parts.scales.as_deref()),
        bytes(|parts| parts.zero_points.as_deref()),
    ];
    let nulls: NullBuffer = rows.iter().map(Option::is_some).collect();
    Arc::new(StructArray::new(quantized_fields(), columns, Some(nulls)))
}
