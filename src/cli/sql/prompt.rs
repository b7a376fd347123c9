//! The SQL prompt: history across sessions, statements over several lines.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Instant,
};

use rustyline::{
    Context, Editor, Helper, Highlighter, Hinter,
    completion::{Completer, Pair},
    error::ReadlineError,
    history::DefaultHistory,
    validate::{ValidationContext, ValidationResult, Validator},
};

use super::console::Console;
use crate::{
    cli::{CliError, error::tell, functions},
    sql::{Session, reference},
    storage::escape::escaped,
};

const HELP: &str = "A statement ends with a semicolon and may span lines. Ctrl-C clears or stops, Tab completes.
  SELECT name, count(*) FROM 'model.safetensors' GROUP BY name;
  CREATE EXTERNAL TABLE layers STORED AS SAFETENSORS LOCATION 'model.safetensors';
  SELECT name, channel, sqnr(weights, quantize(weights, 4)) AS db FROM layers WHERE layer = 0;
  \\d            the tables
  \\d TABLE      the columns of a table
  \\h            the functions
  \\h FUNCTION   how a function is called
  \\timing       turns the time of each statement on and off
  \\q            leaves, as Ctrl-D does";

/// A line is complete when it is empty, a command, or ends with a semicolon.
#[derive(Helper, Highlighter, Hinter)]
struct Statements {
    session: Session,
    functions: Vec<String>,
}

impl Statements {
    /// Returns the names of tables, of their columns, and of functions.
    fn names(&self) -> Vec<String> {
        let context = self.session.context();
        let schemas = context.catalog("datafusion").and_then(|catalog| catalog.schema("public"));
        let tables = schemas.map(|schema| schema.table_names()).unwrap_or_default();
        let columns = crate::types::weights::weights_schema();
        let columns = columns.fields().iter().map(|field| field.name().clone());
        tables.into_iter().chain(columns).chain(self.functions.iter().cloned()).collect()
    }
}

impl Completer for Statements {
    type Candidate = Pair;

    fn complete(&self, line: &str, at: usize, _: &Context) -> rustyline::Result<(usize, Vec<Pair>)> {
        let begin = line[..at].rfind(|c: char| !c.is_alphanumeric() && c != '_').map_or(0, |last| last + 1);
        let word = line[begin..at].to_lowercase();
        let names = self.names().into_iter().filter(|name| !word.is_empty() && name.starts_with(&word));
        let pairs = names.map(|name| Pair { display: name.clone(), replacement: name });
        Ok((begin, pairs.collect()))
    }
}

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
    let functions = reference::entries()?.into_iter().map(|entry| entry.name).collect();
    editor.set_helper(Some(Statements { session: console.session.clone(), functions }));
    let history = history_file();
    if let Some(file) = history.as_ref().filter(|file| file.exists()) {
        warn(file, editor.load_history(file));
    }
    tell(format_args!("arrow-quant {}; type 'help' for help", env!("CARGO_PKG_VERSION")));
    let mut timing = false;
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
            "help" | "\\?" => tell(format_args!("{HELP}")),
            "\\timing" => {
                timing = !timing;
                tell(format_args!("timing is {}", if timing { "on" } else { "off" }));
            }
            text => {
                editor.add_history_entry(text).map_err(failed)?;
                let began = Instant::now();
                if let Err(error) = run_line(console, text) {
                    error.report();
                }
                if timing {
                    tell(format_args!("{:.3} s", began.elapsed().as_secs_f64()));
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

/// Runs a command or statements.
fn run_line(console: &Console, text: &str) -> Result<(), CliError> {
    let (command, name) =
        text.split_once(char::is_whitespace).map_or((text, ""), |(command, name)| (command, name.trim()));
    let quoted = name.trim_matches(['"', '\'']).replace('"', "\"\"");
    match command {
        "\\d" if name.is_empty() => console.run_script("SHOW TABLES"),
        "\\d" => console.run_script(&format!("DESCRIBE \"{quoted}\"")),
        "\\h" => functions::print((!name.is_empty()).then_some(name)),
        _ if command.starts_with('\\') => {
            Err(CliError::Usage(format!("there is no command '{command}'; 'help' lists them")))
        }
        _ => console.run_script(text),
    }
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
