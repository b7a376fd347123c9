//! The coercion of arguments, and their check when the query is planned.

use arrow_schema::{DataType, FieldRef};
use datafusion::common::{Result, ScalarValue, plan_datafusion_err, plan_err};

use super::{
    argument::Argument,
    kind::{ENTROPY, Kind},
};

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
    let pairs = || arguments.iter().zip(constants);
    // Which bits there are then depends on the row, or is any number.
    let any_rate = pairs().any(|(argument, constant)| {
        let fixed = matches!(constant, Some(ScalarValue::Utf8(name)) if name.as_deref() != Some(ENTROPY));
        argument.kind == Kind::RateMethod && !fixed
    });
    for (argument, constant) in pairs().filter(|(argument, _)| !(any_rate && argument.kind == Kind::Rate)) {
        if let Some(Err(message)) = constant.map(|value| argument.kind.check_constant(value)) {
            let name = if message.starts_with(argument.name) { "" } else { argument.name };
            return plan_err!("{function}: {name}{}{message}", if name.is_empty() { "" } else { " " });
        }
    }
    Ok(())
}
