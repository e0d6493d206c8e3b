//! `outside`: the whole command line of Lifeboat over a system of its own.

use std::process::ExitCode;

fn main() -> ExitCode {
    lifeboat::cli::main(&outside::systems())
}
