//! `lifeboat-command`: backs up what a command prints, from flags alone.

fn main() -> std::process::ExitCode {
    lifeboat::cli::single::<lifeboat::command::CommandSystem>()
}
