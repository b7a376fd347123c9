//! The message of a failed query: its innermost error, without the names of the layers that it came through.

use datafusion::common::DataFusionError;

use super::functions::error::FunctionError;

/// Returns the error that the layers above have wrapped.
pub fn innermost(error: &DataFusionError) -> &DataFusionError {
    match error {
        DataFusionError::External(inner) => inner.downcast_ref().map_or(error, innermost),
        DataFusionError::Context(_, inner) | DataFusionError::Diagnostic(_, inner) => innermost(inner),
        DataFusionError::Shared(inner) => innermost(inner),
        error => error,
    }
}

/// Returns the function that refused its arguments, where an error is of one.
pub fn of_function(error: &DataFusionError) -> Option<&FunctionError> {
    match innermost(error) {
        DataFusionError::External(inner) => inner.downcast_ref(),
        _ => None,
    }
}

/// Returns the message of the innermost error.
pub fn message(error: &DataFusionError) -> String {
    match innermost(error) {
        DataFusionError::External(inner) => inner.to_string(),
        DataFusionError::Plan(text) | DataFusionError::Execution(text) => text.clone(),
        DataFusionError::ResourcesExhausted(text) => format!(
            "the query ran out of memory: {text}; raise the limit (--memory-limit, memory_limit in Python), or select fewer \
             rows or columns"
        ),
        other => other.strip_backtrace(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compute::ComputeError;

    #[test]
    fn the_message_is_that_of_the_innermost_error() {
        let source = ComputeError::InvalidArgument("bits must be 2".into());
        let inner = DataFusionError::External(Box::new(FunctionError { function: "quantize", source }));
        let error = DataFusionError::Context("while".into(), Box::new(DataFusionError::External(Box::new(inner))));
        assert_eq!(message(&error), "quantize: bits must be 2");
        assert_eq!(of_function(&error).map(|error| error.function), Some("quantize"));
        let error = DataFusionError::ResourcesExhausted("no room on the disk".into());
        assert!(message(&error).starts_with("the query ran out of memory: no room on the disk; raise"), "{error}");
        assert!(of_function(&error).is_none());
    }
}
