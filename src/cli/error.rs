//! What went wrong, as one line on stderr and an exit code.

use std::io;

use clap::error::ErrorKind;
use datafusion::common::DataFusionError;

use super::printable::printable;
use crate::{io::IoError, sql::error::message};

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
    pub(super) fn is_broken_pipe(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }

    /// Prints the error as one line; gives the exit code.
    pub(super) fn report(&self) -> u8 {
        eprintln!("error: {}", one_line(&self.to_string()));
        if matches!(self, Self::Usage(_)) { 2 } else { 1 }
    }
}

/// Prints what clap found wrong as one line; help and version as they are. Gives the exit code.
pub(super) fn report_usage(error: &clap::Error) -> u8 {
    if !error.use_stderr() || error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        error.exit();
    }
    eprintln!("error: {} (--help tells more)", usage(error));
    2
}

/// What clap found wrong, as one line.
pub(super) fn usage(error: &clap::Error) -> String {
    let text = error.to_string();
    let message = text.split("\n\nUsage:").next().unwrap_or(&text).split("\n\nFor more").next().unwrap_or_default();
    let message = one_line(message);
    message.strip_prefix("error: ").unwrap_or(&message).to_owned()
}

fn one_line(text: &str) -> String {
    printable(&text.split_whitespace().collect::<Vec<_>>().join(" ")).into_owned()
}
