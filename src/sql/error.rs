//! What a failed query says: its innermost error, without the names of the layers that it came through.

use datafusion::common::DataFusionError;

/// The error that the layers above have wrapped.
pub fn innermost(error: &DataFusionError) -> &DataFusionError {
    match error {
        DataFusionError::External(inner) => inner.downcast_ref().map_or(error, innermost),
        DataFusionError::Context(_, inner) | DataFusionError::Diagnostic(_, inner) => innermost(inner),
        DataFusionError::Shared(inner) => innermost(inner),
        error => error,
    }
}

/// The message of the innermost error.
pub fn message(error: &DataFusionError) -> String {
    match innermost(error) {
        DataFusionError::External(inner) => inner.to_string(),
        DataFusionError::Plan(text) | DataFusionError::Execution(text) => of_function(text),
        other => other.strip_backtrace(),
    }
}

/// What a function said of its arguments, without what the planner put around it.
fn of_function(text: &str) -> String {
    let text = text.rsplit("coercion failed with: Error during planning: ").next().unwrap_or(text);
    text.split(" No function matches").next().unwrap_or(text).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_is_that_of_the_innermost_error() {
        let inner = DataFusionError::Execution("quantize: bits must be 2".into());
        let error = DataFusionError::Context("while".into(), Box::new(DataFusionError::External(Box::new(inner))));
        assert_eq!(message(&error), "quantize: bits must be 2");
        assert!(matches!(innermost(&error), DataFusionError::Execution(_)));
    }
}
