//! The kinds of arguments: what each accepts, and what it is cast to.

use std::sync::Arc;

use arrow_schema::{DataType, Field};
use datafusion::common::ScalarValue;

use crate::types::{
    ActivationBits, Bits, Coding, Encoding, Method, QuantizeOptions, TimeMethod,
    factor::factor_type,
    quantized::{params_type, quantized_type},
    weights::weights_type,
};

/// The name of the method whose codes are of variable length.
pub const ENTROPY: &str = Coding::ENTROPY;

/// The kind of an argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A list of numbers.
    Row,
    /// A list of numbers that a join may share among rows.
    SharedRow,
    /// A quantized value.
    Quantized,
    /// A list of numbers or a quantized value.
    RowOrQuantized,
    /// The parameters that `quant_params` gives.
    Params,
    /// 2, 3, 4 or 8.
    Bits,
    /// 2, 3, 4 or 8; with the method `entropy` any number from 1 to 8.
    Rate,
    /// A positive integer.
    GroupSize,
    /// The name of a method.
    Method,
    /// The name of a method, or `entropy`.
    RateMethod,
    /// A boolean.
    Symmetric,
    /// A number from 0 to 1.
    Fraction,
    /// A number.
    Number,
    /// A list of numbers whose digits are all kept.
    WideRow,
    /// A positive integer.
    Groups,
    /// The name of a way to cut time.
    TimeMethod,
    /// 2 to 8.
    ActivationBits,
    /// The name of an encoding.
    Encoding,
    /// Bytes.
    Bytes,
    /// A number of elements.
    Length,
    /// A number above 0.
    Positive,
    /// A factor, as `hessian_factor` returns it.
    Factor,
}

impl Kind {
    /// Returns true if the values are lists.
    pub const fn takes_rows(self) -> bool {
        matches!(self, Self::Row | Self::SharedRow | Self::WideRow | Self::RowOrQuantized)
    }

    /// Returns true if a column of type `given` is accepted.
    pub fn accepts_type(self, given: &DataType) -> bool {
        self.target(given).is_some()
    }

    /// Returns what is accepted, in words.
    pub(super) fn accepts(self) -> &'static str {
        match self {
            Self::Row | Self::SharedRow | Self::WideRow => "a list of numbers",
            Self::Quantized => "a quantized value, as quantize gives it",
            Self::RowOrQuantized => "a list of numbers or a quantized value",
            Self::Params => "parameters, as quant_params gives them",
            Self::Bits => "an integer: 2, 3, 4 or 8",
            Self::Rate => "a number: 2, 3, 4 or 8, or 1 to 8 with method 'entropy'",
            Self::GroupSize | Self::Groups => "a positive integer",
            Self::Method => "a string: 'search' or 'minmax'",
            Self::RateMethod => "a string: 'search', 'minmax' or 'entropy'",
            Self::Symmetric => "a boolean",
            Self::Fraction => "a number from 0 to 1",
            Self::Number => "a number",
            Self::TimeMethod => "a string: 'uniform', 'quantile' or 'optimal'",
            Self::ActivationBits => "an integer from 2 to 8",
            Self::Encoding => "a string, the name of an encoding",
            Self::Bytes => "bytes",
            Self::Length => "an integer that is not negative",
            Self::Positive => "a number above 0",
            Self::Factor => "a factor, as hessian_factor gives it",
        }
    }

    /// Returns the type that an argument of type `given` is cast to, or `None` where it is not accepted.
    pub(super) fn target(self, given: &DataType) -> Option<DataType> {
        match self {
            Self::Row => row_type(given),
            Self::SharedRow => shared_row_type(given).or_else(|| row_type(given)),
            Self::Quantized => struct_type(given, quantized_type()),
            Self::RowOrQuantized => row_type(given).or_else(|| struct_type(given, quantized_type())),
            Self::Params => struct_type(given, params_type()),
            Self::Bits | Self::GroupSize | Self::Groups | Self::ActivationBits | Self::Length => {
                (given.is_integer() || given.is_null()).then_some(DataType::Int64)
            }
            Self::Rate if given.is_integer() || given.is_null() => Some(DataType::Int64),
            Self::Bytes => (given.is_binary() || given.is_null()).then_some(DataType::Binary),
            Self::Method | Self::RateMethod | Self::TimeMethod | Self::Encoding => {
                (given.is_string() || given.is_null()).then_some(DataType::Utf8)
            }
            Self::Symmetric => (*given == DataType::Boolean || given.is_null()).then_some(DataType::Boolean),
            Self::Rate | Self::Fraction | Self::Number | Self::Positive => {
                (given.is_numeric() || given.is_null()).then_some(DataType::Float64)
            }
            Self::WideRow => row_type(given).map(|_| wide_type()),
            Self::Factor => struct_type(given, factor_type()),
        }
    }

    /// Refuses a constant outside what is accepted, so that the error comes before any row is read.
    pub(super) fn check_constant(self, value: &ScalarValue) -> Result<(), String> {
        match (self, value) {
            (Self::Bits | Self::Rate, ScalarValue::Int64(Some(bits))) => {
                Bits::try_from(*bits).map(drop).map_err(|error| error.to_string())
            }
            (Self::Rate, ScalarValue::Float64(Some(bits))) if ![2.0, 3.0, 4.0, 8.0].contains(bits) => {
                Err(format!("bits must be 2, 3, 4 or 8 unless the method is 'entropy', not {bits}"))
            }
            (Self::GroupSize, ScalarValue::Int64(Some(size))) => {
                QuantizeOptions::new(Bits::Two).with_group_size(*size).map(drop).map_err(|error| error.to_string())
            }
            (Self::Method, ScalarValue::Utf8(Some(name))) => {
                name.parse::<Method>().map(drop).map_err(|error| error.to_string())
            }
            (Self::RateMethod, ScalarValue::Utf8(Some(name))) if name != ENTROPY => name
                .parse::<Method>()
                .map(drop)
                .map_err(|_| format!("method must be 'search', 'minmax' or 'entropy', not '{name}'")),
            (Self::TimeMethod, ScalarValue::Utf8(Some(name))) => {
                name.parse::<TimeMethod>().map(drop).map_err(|error| error.to_string())
            }
            (Self::ActivationBits, ScalarValue::Int64(Some(bits))) => {
                ActivationBits::try_from(*bits).map(drop).map_err(|error| error.to_string())
            }
            (Self::Encoding, ScalarValue::Utf8(Some(name))) => {
                name.parse::<Encoding>().map(drop).map_err(|error| error.to_string())
            }
            (Self::Length, ScalarValue::Int64(Some(length))) if *length < 0 => {
                Err(format!("must not be negative, not {length}"))
            }
            (Self::Fraction, ScalarValue::Float64(Some(value))) if !(0.0..=1.0).contains(value) => {
                Err(format!("must be 0 to 1, not {value}"))
            }
            (Self::Positive, ScalarValue::Float64(Some(value))) if !(*value > 0.0 && value.is_finite()) => {
                Err(format!("must be above 0, not {value}"))
            }
            _ => Ok(()),
        }
    }
}

/// Returns the type of a [`Kind::WideRow`].
pub fn wide_type() -> DataType {
    DataType::List(Arc::new(Field::new_list_field(DataType::Float64, true)))
}

/// Lists of f16, f32 and f64 are taken as they are; a view of a list or a list of another number is cast.
fn row_type(given: &DataType) -> Option<DataType> {
    match given {
        DataType::Null => Some(weights_type()),
        DataType::List(field) | DataType::LargeList(field) | DataType::FixedSizeList(field, _) => {
            match field.data_type() {
                DataType::Float16 | DataType::Float32 | DataType::Float64 => Some(given.clone()),
                DataType::Null => Some(weights_type()),
                element if element.is_numeric() => Some(wide_type()),
                _ => None,
            }
        }
        DataType::ListView(field) | DataType::LargeListView(field) if field.data_type().is_numeric() => {
            Some(DataType::List(Arc::new(Field::new_list_field(DataType::Float32, true))))
        }
        _ => None,
    }
}

/// Takes a view of a list unchanged: cast, what a join shares among the rows of a tensor would be copied for
/// each.
fn shared_row_type(given: &DataType) -> Option<DataType> {
    let (DataType::ListView(field) | DataType::LargeListView(field)) = given else { return None };
    let taken = matches!(field.data_type(), DataType::Float16 | DataType::Float32 | DataType::Float64);
    taken.then(|| given.clone())
}

/// Casts a struct with the fields of `target`, by name: a file may have widened a `Binary` to a view.
fn struct_type(given: &DataType, target: DataType) -> Option<DataType> {
    match (given, &target) {
        (DataType::Null, _) => Some(target),
        (DataType::Struct(fields), DataType::Struct(wanted)) => {
            let same = fields.len() == wanted.len() && fields.iter().zip(wanted).all(|(a, b)| a.name() == b.name());
            same.then_some(target)
        }
        _ => None,
    }
}
