//! `encode_as`: a row of weights as the bytes that a file format stores.

use arrow_schema::DataType;

use super::{
    argument::{ENCODING, WEIGHTS},
    options::row_encodings,
    scalar::ScalarFunction,
};
use crate::compute;

pub const FUNCTION: ScalarFunction = ScalarFunction {
    name: "encode_as",
    description: "Encodes each row of weights as a file format stores it, each row by itself. A weight beyond what the \
                  encoding holds is an error. NULL where any argument is NULL.",
    arguments: &[WEIGHTS, ENCODING],
    returns: || DataType::Binary,
    example: "SELECT encode_as([1.0, -2.5], 'BF16') AS data",
    call: |arguments| compute::encode_as(&arguments[0], &row_encodings(&arguments[1])?),
};
