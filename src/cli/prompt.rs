//! The SQL prompt: history across sessions, statements over several lines.

use std::{
    fs,
    path::{Path, PathBuf},
};

use rustyline::{
    Completer, Editor, Helper, Highlighter, Hinter,
    error::ReadlineError,
    history::DefaultHistory,
    validate::{ValidationContext, ValidationResult, Validator},
};

use super::{CliError, console::Console, error::tell};
use crate::storage::escape::escaped;

const HELP: &str = "A statement ends with a semicolon and may span lines. Ctrl-C clears or stops, Ctrl-D or \\q leaves.
  CREATE EXTERNAL TABLE layers STORED AS SAFETENSORS LOCATION 'model.safetensors';
  SELECT name, count(*) FROM layers GROUP BY name;
  SELECT name, channel, sqnr(weights, quantize(weights, 4)) AS db FROM layers WHERE layer = 0;
'arrow-quant functions' lists the functions.";

/// A line is complete when it is empty, a command, or ends with a semicolon.
#[derive(Completer, Helper, Highlighter, Hinter)]
struct Statements;

impl Validator for Statements {
    fn validate(&self, context: &mut ValidationContext) -> rustyline::Result<ValidationResult> {
        let text = context.input().trim();
        let complete = text.is_empty() || text.ends_with(';') || is_command(text);
        Ok(if complete { ValidationResult::Valid(None) } else { ValidationResult::Incomplete })
    }
}

fn is_command(text: &str) -> bool {
    text.starts_with('\\') || ["help", "quit", "exit"].contains(&text)
}

/// Reads and runs statements until the end of the input.
pub fn run(console: &Console) -> Result<(), CliError> {
    let failed = |error: ReadlineError| CliError::Failed(format!("the prompt failed: {error}"));
    let mut editor: Editor<Statements, DefaultHistory> = Editor::new().map_err(failed)?;
    editor.set_helper(Some(Statements));
    let history = history_file();
    if let Some(file) = history.as_ref().filter(|file| file.exists()) {
        warn(file, editor.load_history(file));
    }
    tell(format_args!("arrow-quant {}; type 'help' for help", env!("CARGO_PKG_VERSION")));
    loop {
        let line = match editor.readline("sql> ") {
            Ok(line) => line,
            Err(ReadlineError::Interrupted) => continue,
            Err(ReadlineError::Eof) => break,
            Err(error) => return Err(failed(error)),
        };
        match line.trim() {
            "" => {}
            "\\q" | "quit" | "exit" => break,
            "help" | "\\h" | "\\?" => tell(format_args!("{HELP}")),
            text => {
                editor.add_history_entry(text).map_err(failed)?;
                if let Err(error) = console.run_script(text) {
                    error.report();
                }
            }
        }
    }
    if let Some(file) = history {
        let folder = file.parent().map_or(Ok(()), fs::create_dir_all);
        warn(&file, folder.map_err(ReadlineError::from).and_then(|()| editor.save_history(&file)));
    }
    Ok(())
}

/// A history that cannot be read or written does not keep anyone from asking.
fn warn(file: &Path, result: rustyline::Result<()>) {
    if let Err(error) = result {
        tell(format_args!("warning: {}: {error}", escaped(&file.display())));
    }
}

/// `$XDG_STATE_HOME/arrow-quant/history`, under `~/.local/state` by default; none without a home.
fn history_file() -> Option<PathBuf> {
    let state = std::env::var_os("XDG_STATE_HOME").filter(|path| !path.is_empty()).map(PathBuf::from);
    let state = state.or_else(|| std::env::home_dir().map(|home| home.join(".local/state")))?;
    Some(state.join("arrow-quant").join("history"))
}
