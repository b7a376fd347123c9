//! `quantize`: a row of weights to codes and the parameters that decode them.

use arrow::compute::{cast, kernels::zip::zip};
use arrow_array::{Array, ArrayRef, BooleanArray, Scalar, cast::AsArray, new_null_array, types::Float64Type};
use arrow_buffer::BooleanBuffer;
use arrow_schema::DataType;

use super::{
    argument::{Argument, GROUP_SIZE, IMPORTANCE, SYMMETRIC, WEIGHTS},
    kind::{ENTROPY, Kind},
    options::row_options_and_importance,
    scalar::ScalarFunction,
};
use crate::{
    compute::{self, ComputeError},
    types::quantized::quantized_type,
};

pub const FUNCTION: ScalarFunction = ScalarFunction {
    name: "quantize",
    description: "Quantizes each row of weights in groups along the row. Gives a struct of the codes and everything \
                  that is needed to decode them (bits, group_size, length, row_scale, codes, scales, zero_points). \
                  NaN and infinity are an error. NULL where weights or bits are NULL; any other argument that is NULL is as if left out.",
    arguments: &[
        WEIGHTS,
        Argument::new(
            "bits",
            Kind::Rate,
            "bits per code: 2, 3, 4 or 8; with 'entropy' any number from 1 to 8, which the codes of the row stay within",
        ),
        GROUP_SIZE.optional(),
        Argument::new(
            "method",
            Kind::RateMethod,
            "'search' (least squared error; the default up to 4 bits), 'minmax' (the range; the default for 8) or \
             'entropy' (codes of variable length, which need no groups and no zero points)",
        )
        .optional(),
        SYMMETRIC.optional(),
        IMPORTANCE.optional(),
    ],
    returns: quantized_type,
    example: "SELECT quantize([0.1, -0.2, 0.3, 0.4], bits => 4, group_size => 4)['codes'] AS codes",
    call: |arguments| {
        let entropy = entropy_rows(arguments);
        if entropy.true_count() == 0 {
            return fixed_width(arguments, &arguments[1]);
        }
        let bits = cast(&arguments[1], &DataType::Float64)?;
        let bits = bits.as_primitive::<Float64Type>();
        let given = |row: usize| entropy.value(row) && arguments[..2].iter().all(|argument| argument.is_valid(row));
        let bits: Vec<Option<f64>> = (0..bits.len()).map(|row| given(row).then(|| bits.value(row))).collect();
        check_others(arguments, &entropy)?;
        let coded = compute::quantize_entropy(&arguments[0], &bits)?;
        if entropy.true_count() == entropy.len() {
            return Ok(coded);
        }
        // A row without bits gives null: each side leaves the rows of the other out.
        let none = Scalar::new(new_null_array(arguments[1].data_type(), 1));
        Ok(zip(&entropy, &coded, &fixed_width(arguments, &zip(&entropy, &none, &arguments[1])?)?)?)
    },
};

/// Returns the rows whose method is `entropy`.
fn entropy_rows(arguments: &[ArrayRef]) -> BooleanArray {
    let rows = arguments[0].len();
    let Some(methods) = arguments.get(3).map(AsArray::as_string::<i32>) else {
        return BooleanArray::new(BooleanBuffer::new_unset(rows), None);
    };
    methods.iter().map(|method| Some(method == Some(ENTROPY))).collect()
}

/// Refuses what entropy-coded rows have no use for. Group sizes are ignored, since a query gives one for rows of every method.
fn check_others(arguments: &[ArrayRef], entropy: &BooleanArray) -> Result<(), ComputeError> {
    let refused = |row: usize, what: &str| {
        Err(ComputeError::InvalidArgument(format!("row {row}: method 'entropy' takes no {what}")))
    };
    for row in (0..entropy.len()).filter(|row| entropy.value(*row)) {
        if arguments.get(4).is_some_and(|symmetric| symmetric.is_valid(row) && symmetric.as_boolean().value(row)) {
            return refused(row, "symmetric: it has no zero points");
        }
        if arguments.get(5).is_some_and(|importance| importance.is_valid(row)) {
            return refused(row, "importance");
        }
    }
    Ok(())
}

/// Quantizes by the methods whose codes have a fixed width.
fn fixed_width(arguments: &[ArrayRef], bits: &ArrayRef) -> Result<ArrayRef, ComputeError> {
    let mut arguments = arguments.to_vec();
    arguments[1] = whole_bits(bits)?;
    match row_options_and_importance(&arguments)? {
        (options, None) => compute::quantize(&arguments[0], &options),
        (options, Some(importance)) => compute::quantize_weighted(&arguments[0], importance, &options),
    }
}

/// Returns bits as integers.
fn whole_bits(bits: &ArrayRef) -> Result<ArrayRef, ComputeError> {
    if let Some(bits) = bits.as_primitive_opt::<Float64Type>()
        && let Some(bits) = bits.iter().flatten().find(|bits| bits.fract() != 0.0 || !bits.is_finite())
    {
        let problem = format!("bits must be 2, 3, 4 or 8 unless the method is 'entropy', not {bits}");
        return Err(ComputeError::InvalidArgument(problem));
    }
    Ok(cast(bits, &DataType::Int64)?)
}
