//! `lifeboat`: backs up, verifies and restores what a config file names.

fn main() -> std::process::ExitCode {
    lifeboat::cli::main(&lifeboat::programs())
}
