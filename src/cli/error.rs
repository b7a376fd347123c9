//! Errors, as one line on stderr and an exit code.

use std::{
    borrow::Cow,
    fmt,
    io::{self, Write, stderr, stdout},
};

use clap::error::ErrorKind;
use datafusion::common::DataFusionError;

use crate::{
    plan::spec::spelling::spell,
    sql::error::message,
    storage::{error::IoError, escape::escaped},
};

/// An error of a command.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// A file or a model.
    #[error(transparent)]
    Io(#[from] IoError),
    /// A query; the text is that of the innermost error.
    #[error("{}", message(.0))]
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
    fn is_broken_pipe(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }

    /// Prints the error as one line; gives the exit code.
    pub(super) fn report(&self) -> u8 {
        tell(format_args!("error: {}", one_line(&spelled(&self.to_string()))));
        if matches!(self, Self::Usage(_)) { 2 } else { 1 }
    }
}

/// Writes a line to stderr. Where that cannot be written to, nobody is there to be told; the exit code still says how it
/// went.
pub(super) fn tell(line: fmt::Arguments) {
    let _ = writeln!(stderr(), "{line}");
}

/// Returns a message with the options that it names as they are typed.
pub(super) fn spelled(message: &str) -> Cow<'_, str> {
    spell(message, |option| format!("--{}", option.replace('_', "-")))
}

/// Prints help and version as they are, and what clap found wrong as one line. Returns the exit code.
pub(super) fn report_usage(error: &clap::Error) -> u8 {
    if !error.use_stderr() {
        return exit_code(error.print().and_then(|()| stdout().flush()).map_err(CliError::from));
    }
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        tell(format_args!("{}", error.render()));
    } else {
        tell(format_args!("error: {} (--help tells more)", usage(error)));
    }
    2
}

/// Returns the exit code of a command, and prints its error.
pub(super) fn exit_code(result: Result<(), CliError>) -> u8 {
    match result {
        // The reader of a pipe has seen enough.
        Err(error) if error.is_broken_pipe() => 0,
        Err(error) => error.report(),
        Ok(()) => 0,
    }
}

/// Returns clap's message, as one line.
pub(super) fn usage(error: &clap::Error) -> String {
    let text = error.to_string();
    let message = text.split("\n\nUsage:").next().unwrap_or(&text).split("\n\nFor more").next().unwrap_or_default();
    let message = one_line(&spelled(message));
    message.strip_prefix("error: ").unwrap_or(&message).to_owned()
}

fn one_line(text: &str) -> String {
    escaped(&text.split_whitespace().collect::<Vec<_>>().join(" "))
}
