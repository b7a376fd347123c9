//! `decode_as`: the bytes that a file format stores as a row of weights.

use super::{
    argument::{Argument, ENCODING},
    kind::Kind,
    options::{row_encodings, row_lengths},
    scalar::ScalarFunction,
};
use crate::{compute, types::weights::weights_type};

pub const FUNCTION: ScalarFunction = ScalarFunction {
    name: "decode_as",
    description: "Decodes each row of bytes that a file format stores: the reverse of encode_as. NULL where any argument \
                  is NULL.",
    arguments: &[
        Argument::new("data", Kind::Bytes, "the bytes of one row"),
        ENCODING,
        Argument::new("length", Kind::Length, "the weights of the row"),
    ],
    returns: weights_type,
    example: "SELECT decode_as(X'803F20C0', 'BF16', 2) AS weights",
    call: |arguments| compute::decode_as(&arguments[0], &row_encodings(&arguments[1])?, &row_lengths(&arguments[2])?),
};
