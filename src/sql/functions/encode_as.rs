//! `encode_as`: a row of weights as the bytes that a file format stores.

use arrow_schema::DataType;

use super::{
    argument::{ENCODING, IMPORTANCE, WEIGHTS},
    options::row_encodings,
    scalar::ScalarFunction,
};
use crate::compute;

pub const FUNCTION: ScalarFunction = ScalarFunction {
    name: "encode_as",
    description: "Encodes each row of weights as a file format stores it, each row by itself. A weight beyond what the \
                  encoding holds is an error. NULL where any argument but importance is NULL.",
    arguments: &[WEIGHTS, ENCODING, IMPORTANCE.optional()],
    returns: || DataType::Binary,
    example: "SELECT encode_as([1.0, -2.5], 'BF16') AS data",
    call: |arguments| {
        let encodings = row_encodings(&arguments[1])?;
        match arguments.get(2) {
            Some(importance) => compute::encode_as_weighted(&arguments[0], importance, &encodings),
            None => compute::encode_as(&arguments[0], &encodings),
        }
    },
};
