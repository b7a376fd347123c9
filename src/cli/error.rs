//! What went wrong, as one line on stderr and an exit code.

use std::{io, process::ExitCode};

use clap::error::ErrorKind;
use datafusion::common::DataFusionError;

use crate::io::IoError;

/// An error of a command.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// A file or a model.
    #[error(transparent)]
    Io(#[from] IoError),
    /// A query; the text is that of the innermost error.
    #[error("{}", query_message(.0))]
    Query(#[from] DataFusionError),
    /// Standard output.
    #[error("cannot write the result: {0}")]
    Output(#[from] io::Error),
    /// Options that contradict each other or name something that is not there.
    #[error("{0}")]
    Usage(String),
    /// A run that finished and did not reach what was asked of it.
    #[error("{0}")]
    Failed(String),
}

impl CliError {
    pub fn is_broken_pipe(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }

    /// Prints the error as one line.
    pub fn report(&self) -> ExitCode {
        eprintln!("error: {}", one_line(&self.to_string()));
        ExitCode::from(if matches!(self, Self::Usage(_)) { 2 } else { 1 })
    }
}

/// Prints what clap found wrong as one line; help and version as they are.
pub fn report_usage(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() || error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        error.exit();
    }
    let text = error.to_string();
    let message = text.split("\n\nUsage:").next().unwrap_or(&text).split("\n\nFor more").next().unwrap_or_default();
    eprintln!("{} (--help tells more)", one_line(message));
    ExitCode::from(2)
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The message without the names of the layers it came through.
fn query_message(error: &DataFusionError) -> String {
    match error {
        DataFusionError::External(inner) => match inner.downcast_ref::<DataFusionError>() {
            Some(inner) => query_message(inner),
            None => inner.to_string(),
        },
        DataFusionError::Context(_, inner) | DataFusionError::Diagnostic(_, inner) => query_message(inner),
        DataFusionError::Shared(inner) => query_message(inner),
        DataFusionError::Plan(text) | DataFusionError::Execution(text) => innermost(text),
        other => other.strip_backtrace(),
    }
}

/// What a function said of its arguments, without what the planner put around it.
fn innermost(text: &str) -> String {
    let text = text.rsplit("coercion failed with: Error during planning: ").next().unwrap_or(text);
    text.split(" No function matches").next().unwrap_or(text).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_error_is_its_innermost_message() {
        let inner = DataFusionError::Execution("quantize: bits must be 2".into());
        let error = DataFusionError::Context("while".into(), Box::new(DataFusionError::External(Box::new(inner))));
        assert_eq!(CliError::from(error).to_string(), "quantize: bits must be 2");
    }
}
