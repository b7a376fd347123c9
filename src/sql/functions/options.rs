//! The options of a quantization from argument columns, row by row.

use arrow_array::{Array, ArrayRef, cast::AsArray, types::Int64Type};

use crate::{
    compute::{ComputeError, RowOptions},
    types::{Bits, Encoding, Method, QuantizeOptions},
};

/// Reads `bits [, group_size [, method [, symmetric]]]`. A row without bits has no options; any other that is null is as if left out.
pub fn row_options(columns: &[ArrayRef]) -> Result<RowOptions, ComputeError> {
    let Some(bits) = columns.first() else {
        return Err(ComputeError::InvalidArgument("bits are missing".into()));
    };
    (0..bits.len())
        .map(|row| {
            if bits.is_null(row) {
                return Ok(None);
            }
            let given = |at: usize| columns.get(at).filter(|column| column.is_valid(row));
            let mut options = QuantizeOptions::new(Bits::try_from(bits.as_primitive::<Int64Type>().value(row))?);
            if let Some(sizes) = given(1) {
                options = options.with_group_size(sizes.as_primitive::<Int64Type>().value(row))?;
            }
            if let Some(methods) = given(2) {
                options = options.with_method(methods.as_string::<i32>().value(row).parse::<Method>()?);
            }
            if let Some(symmetric) = given(3) {
                options = options.with_symmetric(symmetric.as_boolean().value(row));
            }
            Ok(Some(options))
        })
        .collect::<Result<_, ComputeError>>()
        .map(RowOptions::PerRow)
}

/// Reads `weights, bits [, group_size [, method [, symmetric [, importance]]]]` but for the weights.
pub fn row_options_and_importance(columns: &[ArrayRef]) -> Result<(RowOptions, Option<&ArrayRef>), ComputeError> {
    Ok((row_options(&columns[1..columns.len().min(5)])?, columns.get(5)))
}

/// Reads a column of bits. A null row has none.
pub fn row_bits(column: &ArrayRef) -> Result<Vec<Option<Bits>>, ComputeError> {
    let bits = column.as_primitive::<Int64Type>();
    bits.iter().map(|bits| Ok(bits.map(Bits::try_from).transpose()?)).collect()
}

/// Reads a column of names of encodings. A null row has none.
pub fn row_encodings(column: &ArrayRef) -> Result<Vec<Option<Encoding>>, ComputeError> {
    // Rows of a tensor follow each other: a name is read once for all of them.
    let mut last: Option<(&str, Encoding)> = None;
    let names = column.as_string::<i32>();
    names
        .iter()
        .map(|name| {
            let Some(name) = name else { return Ok(None) };
            let encoding = match last {
                Some((text, encoding)) if text == name => encoding,
                _ => name.parse()?,
            };
            last = Some((name, encoding));
            Ok(Some(encoding))
        })
        .collect()
}

/// Reads a column of numbers of elements. A null row has none.
pub fn row_lengths(column: &ArrayRef) -> Result<Vec<Option<usize>>, ComputeError> {
    let one = |length: i64| {
        usize::try_from(length)
            .map_err(|_| ComputeError::InvalidArgument(format!("length must not be negative, not {length}")))
    };
    column.as_primitive::<Int64Type>().iter().map(|length| length.map(one).transpose()).collect()
}
