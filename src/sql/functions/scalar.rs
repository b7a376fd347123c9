//! An array function as a `DataFusion` scalar function: names, types, documentation, and the call.

use std::{
    fmt::{self, Write},
    hash::{Hash, Hasher},
};

use arrow_array::{Array, ArrayRef};
use arrow_schema::{DataType, Field, FieldRef};
use datafusion::{
    common::{Result, ScalarValue, internal_err},
    logical_expr::{
        ColumnarValue, DocSection, Documentation, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl,
        Signature, Volatility,
    },
};

use super::{
    argument::Argument,
    coerce::{check, check_constants, coerced},
    error::FunctionError,
};
use crate::compute::ComputeError;

/// A function as data; [`ScalarFunction::udf`] makes it callable.
#[derive(Clone, Copy)]
pub struct ScalarFunction {
    pub name: &'static str,
    pub description: &'static str,
    pub arguments: &'static [Argument],
    pub returns: fn() -> DataType,
    /// A query that stands alone; a test runs it.
    pub example: &'static str,
    /// Arrays of equal length, one per argument given, already of the types that the arguments accept.
    pub call: fn(&[ArrayRef]) -> Result<ArrayRef, ComputeError>,
}

impl ScalarFunction {
    /// # Errors
    /// Returns an error if two arguments have the same name.
    pub fn udf(self) -> Result<ScalarUDF> {
        let names: Vec<_> = self.arguments.iter().map(|argument| argument.name).collect();
        let signature = Signature::user_defined(Volatility::Immutable).with_parameter_names(names)?;
        let documentation = documentation(SECTION, self.name, self.description, self.arguments, self.example);
        Ok(ScalarUDF::new_from_impl(Adapter { function: self, signature, documentation }))
    }
}

const SECTION: DocSection = DocSection { include: true, label: "Scalar functions", description: None };

/// Returns the documentation of a function, as `DataFusion` and the reference page show it.
pub fn documentation(
    section: DocSection,
    name: &str,
    description: &str,
    arguments: &[Argument],
    example: &str,
) -> Documentation {
    let mut syntax = format!("{name}(");
    for (i, argument) in arguments.iter().enumerate() {
        let comma = if i == 0 { "" } else { ", " };
        let follows = i.checked_sub(1).is_some_and(|before| arguments[before].with_next);
        let open = if argument.optional && !follows { "[" } else { "" };
        let close = if argument.optional && !argument.with_next { "]" } else { "" };
        // Writing to a string does not fail.
        let _ = write!(syntax, "{open}{comma}{}{close}", argument.name);
    }
    syntax.push(')');
    let builder = Documentation::builder(section, description, syntax).with_sql_example(example);
    arguments
        .iter()
        .fold(builder, |builder, argument| builder.with_argument(argument.name, argument.description))
        .build()
}

struct Adapter {
    function: ScalarFunction,
    signature: Signature,
    documentation: Documentation,
}

// A name stands once in the list of functions, so the name is the identity.
impl PartialEq for Adapter {
    fn eq(&self, other: &Self) -> bool {
        self.function.name == other.function.name
    }
}

impl Eq for Adapter {}

impl Hash for Adapter {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.function.name.hash(state);
    }
}

impl fmt::Debug for Adapter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ScalarFunction({})", self.function.name)
    }
}

impl ScalarUDFImpl for Adapter {
    fn name(&self) -> &str {
        self.function.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        Ok(coerced(self.function.name, self.function.arguments, given))
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        internal_err!("return_field_from_args is what is called")
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        check(self.function.name, self.function.arguments, args.arg_fields)?;
        check_constants(self.function.name, self.function.arguments, args.scalar_arguments)?;
        Ok(Field::new(self.function.name, (self.function.returns)(), true).into())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let constant = args.args.iter().all(|value| matches!(value, ColumnarValue::Scalar(_)));
        let rows = if constant { 1 } else { args.number_rows };
        let arrays = args.args.into_iter().map(|value| value.into_array(rows)).collect::<Result<Vec<_>>>()?;
        let result = (self.function.call)(&arrays).map_err(FunctionError::of(self.function.name))?;
        debug_assert_eq!(result.len(), rows);
        if constant {
            Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&result, 0)?))
        } else {
            Ok(ColumnarValue::Array(result))
        }
    }

    fn documentation(&self) -> Option<&Documentation> {
        Some(&self.documentation)
    }
}
