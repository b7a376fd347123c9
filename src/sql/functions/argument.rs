//! The arguments of a function: one kind per argument, with its coercion and its check when the query is planned.

use std::sync::Arc;

use arrow_schema::{DataType, Field, FieldRef};
use datafusion::common::{Result, ScalarValue, plan_datafusion_err, plan_err};

use crate::types::{
    ActivationBits, Bits, Encoding, Method, QuantizeOptions, TimeMethod,
    factor::factor_type,
    quantized::{params_type, quantized_type},
    weights::weights_type,
};

/// One argument of a function.
#[derive(Debug)]
pub struct Argument {
    /// Its name, as SQL and Python write it.
    pub name: &'static str,
    /// The values that it accepts.
    pub kind: Kind,
    /// The meaning of the argument.
    pub description: &'static str,
    /// May be left out, with every argument after it.
    pub optional: bool,
    /// Is nothing without the argument after it.
    pub with_next: bool,
}

impl Argument {
    /// Returns an argument that must be given.
    pub const fn new(name: &'static str, kind: Kind, description: &'static str) -> Self {
        Self { name, kind, description, optional: false, with_next: false }
    }

    /// Returns the argument, which may be left out.
    #[must_use]
    pub const fn optional(mut self) -> Self {
        self.optional = true;
        self
    }

    /// Returns the argument, which may be left out together with the next.
    #[must_use]
    pub const fn optional_with_next(mut self) -> Self {
        self.with_next = true;
        self.optional()
    }
}

/// `weights`, as the functions over rows take it.
pub const WEIGHTS: Argument = Argument::new("weights", Kind::Row, "a list of numbers: one row of weights");
/// `quantized`, as the functions over quantized values take it.
pub const QUANTIZED: Argument = Argument::new("quantized", Kind::Quantized, "a quantized value");
/// `bits`.
pub const BITS: Argument = Argument::new("bits", Kind::Bits, "bits per code: 2, 3, 4 or 8");
/// `group_size`.
pub const GROUP_SIZE: Argument =
    Argument::new("group_size", Kind::GroupSize, "weights that share a scale and a zero point; 32 when left out");
/// `method`.
pub const METHOD: Argument = Argument::new(
    "method",
    Kind::Method,
    "'search' (least squared error; the default up to 4 bits) or 'minmax' (the range; the default for 8)",
);
/// `symmetric`.
pub const SYMMETRIC: Argument =
    Argument::new("symmetric", Kind::Symmetric, "true: no zero points; false when left out");
/// `importance`.
pub const IMPORTANCE: Argument = Argument::new(
    "importance",
    Kind::SharedRow,
    "a number for each input channel, by which the squared error is multiplied in a search, such as the mean square of \
     the layer's input; uniform if omitted or NULL",
);

/// `encoding`.
pub const ENCODING: Argument = Argument::new("encoding", Kind::Encoding, ENCODING_DESCRIPTION);

const ENCODING_DESCRIPTION: &str = "how a file format stores a row: 'F16', 'BF16', 'F32' or 'F64'; a type of GGUF, such as \
                                    'Q4_K'; or, as compressed-tensors does, codes with a scale for each group: \
                                    'int4:g32:symmetric:BF16' (int2, int3, int4 or int8; g and the group size, or \
                                    channel; symmetric or asymmetric; the dtype of the scales; and search or minmax, \
                                    which may be left out)";

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
    /// A positive integer.
    GroupSize,
    /// The name of a method.
    Method,
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

    fn accepts(self) -> &'static str {
        match self {
            Self::Row | Self::SharedRow | Self::WideRow => "a list of numbers",
            Self::Quantized => "a quantized value, as quantize gives it",
            Self::RowOrQuantized => "a list of numbers or a quantized value",
            Self::Params => "parameters, as quant_params gives them",
            Self::Bits => "an integer: 2, 3, 4 or 8",
            Self::GroupSize | Self::Groups => "a positive integer",
            Self::Method => "a string: 'search' or 'minmax'",
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
    fn target(self, given: &DataType) -> Option<DataType> {
        match self {
            Self::Row => row_type(given),
            Self::SharedRow => shared_row_type(given).or_else(|| row_type(given)),
            Self::Quantized => struct_type(given, quantized_type()),
            Self::RowOrQuantized => row_type(given).or_else(|| struct_type(given, quantized_type())),
            Self::Params => struct_type(given, params_type()),
            Self::Bits | Self::GroupSize | Self::Groups | Self::ActivationBits | Self::Length => {
                (given.is_integer() || given.is_null()).then_some(DataType::Int64)
            }
            Self::Bytes => (given.is_binary() || given.is_null()).then_some(DataType::Binary),
            Self::Method | Self::TimeMethod | Self::Encoding => {
                (given.is_string() || given.is_null()).then_some(DataType::Utf8)
            }
            Self::Symmetric => (*given == DataType::Boolean || given.is_null()).then_some(DataType::Boolean),
            Self::Fraction | Self::Number | Self::Positive => {
                (given.is_numeric() || given.is_null()).then_some(DataType::Float64)
            }
            Self::WideRow => row_type(given).map(|_| wide_type()),
            Self::Factor => struct_type(given, factor_type()),
        }
    }

    /// Refuses a constant outside what is accepted, so that the error comes before any row is read.
    fn check_constant(self, value: &ScalarValue) -> Result<(), String> {
        match (self, value) {
            (Self::Bits, ScalarValue::Int64(Some(bits))) => {
                Bits::try_from(*bits).map(drop).map_err(|error| error.to_string())
            }
            (Self::GroupSize, ScalarValue::Int64(Some(size))) => {
                QuantizeOptions::new(Bits::Two).with_group_size(*size).map(drop).map_err(|error| error.to_string())
            }
            (Self::Method, ScalarValue::Utf8(Some(name))) => {
                name.parse::<Method>().map(drop).map_err(|error| error.to_string())
            }
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

/// Returns the types that the arguments of `function` are cast to.
///
/// # Errors
/// Returns an error if an argument is missing, too many or of a type that is not accepted.
pub fn coerce(function: &str, arguments: &[Argument], given: &[DataType]) -> Result<Vec<DataType>> {
    let required = arguments.iter().take_while(|argument| !argument.optional).count();
    if given.len() < required || given.len() > arguments.len() {
        let names: Vec<_> = arguments.iter().map(|argument| argument.name).collect();
        let count = if required == arguments.len() {
            required.to_string()
        } else {
            format!("{required} to {}", arguments.len())
        };
        return plan_err!("{function} takes {count} arguments ({}), not {}", names.join(", "), given.len());
    }
    if let Some([last, next]) = arguments.get(given.len().saturating_sub(1)..=given.len())
        && last.with_next
    {
        return plan_err!("{function}: {} must be given where {} is", next.name, last.name);
    }
    arguments
        .iter()
        .zip(given)
        .map(|(argument, given)| {
            let refused = || {
                let accepted = argument.kind.accepts();
                plan_datafusion_err!("{function}: {} must be {accepted}, not {given}", argument.name)
            };
            argument.kind.target(given).ok_or_else(refused)
        })
        .collect()
}

/// Returns the types that the arguments of `function` are cast to, or the given ones where [`coerce`] refuses them.
///
/// `DataFusion` turns an error of a coercion into text, so that the refusal waits for the type of the result, which [`check`]
/// or [`coerce`] then refuses.
pub fn coerced(function: &str, arguments: &[Argument], given: &[DataType]) -> Vec<DataType> {
    coerce(function, arguments, given).unwrap_or_else(|_| given.to_vec())
}

/// Checks the types of the arguments of `function`.
///
/// # Errors
/// Returns the errors of [`coerce`].
pub fn check(function: &str, arguments: &[Argument], given: &[FieldRef]) -> Result<()> {
    let types: Vec<_> = given.iter().map(|field| field.data_type().clone()).collect();
    coerce(function, arguments, &types).map(drop)
}

/// Checks the arguments of `function` that are constants.
///
/// # Errors
/// Returns an error if a constant lies outside what is accepted.
pub fn check_constants(function: &str, arguments: &[Argument], constants: &[Option<&ScalarValue>]) -> Result<()> {
    for (argument, constant) in arguments.iter().zip(constants) {
        if let Some(Err(message)) = constant.map(|value| argument.kind.check_constant(value)) {
            let name = if message.starts_with(argument.name) { "" } else { argument.name };
            return plan_err!("{function}: {name}{}{message}", if name.is_empty() { "" } else { " " });
        }
    }
    Ok(())
}
