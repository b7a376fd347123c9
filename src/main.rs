//! The `arrow-quant` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    arrow_quant::cli::main()
}
