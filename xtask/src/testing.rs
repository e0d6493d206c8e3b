//! `services` and `test`: run a command with servers.

use std::ffi::{OsStr, OsString};
use std::process::ExitCode;

use anyhow::{Result, bail};

use crate::arguments::{Options, UsageError};
use crate::lanes;
use crate::process::{self, Guard};
use crate::requirements::{self, STOCK_TOOLS};
use crate::services::{self, Session};
use crate::signals;

/// `cargo xtask services`.
pub(crate) fn services(options: &Options) -> Result<ExitCode> {
    let selected = services::select(&options.with)?;
    let install_only = options.has("--install-only");
    if install_only && !options.tail.is_empty() {
        return Err(
            UsageError("--install-only starts nothing, so there is nothing to run a command with".into()).into()
        );
    }
    let mut required = services::requirements(&selected);
    required.extend(STOCK_TOOLS);
    requirements::install(&required, || Ok(()))?;
    if install_only {
        let names = selected.iter().map(|service| service.name).collect::<Vec<_>>().join(", ");
        eprintln!("xtask: installed: {names}");
        return Ok(ExitCode::SUCCESS);
    }

    let mut session = Session::start(&selected)?;
    let Some((program, arguments)) = options.tail.split_first() else {
        for (name, value) in session.environment() {
            println!("export {name}={}", quoted(value));
        }
        eprintln!("xtask: running until Ctrl-C");
        session.stay()?;
        eprintln!("xtask: stopping");
        return Ok(ExitCode::SUCCESS);
    };
    // Ours to end with us, as the servers are.
    let mut command = process::guarded(program, Guard::default())?;
    command.args(arguments);
    run_with(&session, &mut command)
}

/// `cargo xtask test`.
pub(crate) fn test(options: &Options) -> Result<ExitCode> {
    let named = services::select(&options.with)?;
    let selected = if names_packages(&options.tail) { named } else { services::every() };
    let mut required = services::requirements(&selected);
    required.extend(STOCK_TOOLS);

    // The tests are compiled while the servers are built.
    let mut built = None;
    requirements::install(&required, || {
        let mut build = process::cargo();
        // What follows another `--` is for the test programs.
        let for_cargo = options.tail.iter().take_while(|argument| *argument != OsStr::new("--"));
        build.args(test_arguments(&options.tail)).args(for_cargo).arg("--no-run");
        built = Some(process::run_attached(&mut build)?);
        Ok(())
    })?;
    match built {
        Some(status) if status.success() => {}
        Some(status) => {
            eprintln!("xtask: the tests do not build");
            return Ok(process::exit_code(status));
        }
        None => bail!("the tests were not built"),
    }

    let session = Session::start(&selected)?;
    if options.tail.is_empty() {
        return lanes::run(&session, &test_arguments(&options.tail));
    }
    let cargo = process::cargo();
    let mut command = process::guarded(cargo.get_program(), Guard::default())?;
    command.current_dir(crate::workspace::root()).args(test_arguments(&options.tail)).args(&options.tail);
    run_with(&session, &mut command)
}

/// Whether only the tests of some packages were requested.
fn names_packages(given: &[OsString]) -> bool {
    given
        .iter()
        .take_while(|argument| *argument != OsStr::new("--"))
        .filter_map(|argument| argument.to_str())
        .any(|argument| argument == "--package" || argument.starts_with("--package=") || argument.starts_with("-p"))
}

fn test_arguments(given: &[OsString]) -> Vec<&'static str> {
    // One run says all that is wrong.
    let mut arguments = vec!["test", "--all-features", "--no-fail-fast"];
    if !names_packages(given) {
        arguments.push("--workspace");
    }
    arguments
}

/// Runs the command with the session's environment, to its end.
fn run_with(session: &Session, command: &mut std::process::Command) -> Result<ExitCode> {
    command.envs(session.environment().iter().map(|(name, value)| (name, value)));
    let status = process::run_attached(command)?;
    signals::check()?;
    Ok(process::exit_code(status))
}

/// Puts a text in single quotes for a POSIX shell, if necessary.
fn quoted(value: &OsStr) -> String {
    let text = value.to_string_lossy();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./:@,+=".contains(&byte);
    if !text.is_empty() && text.bytes().all(plain) {
        return text.into_owned();
    }
    format!("'{}'", text.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_survive_the_shell() {
        assert_eq!(quoted(OsStr::new("postgres://u:p@127.0.0.1:5/db")), "postgres://u:p@127.0.0.1:5/db");
        assert_eq!(quoted(OsStr::new("a b'c")), "'a b'\\''c'");
        assert_eq!(quoted(OsStr::new("")), "''");
    }

    #[test]
    fn named_packages_replace_the_whole_workspace() {
        let words = |words: &[&str]| words.iter().map(OsString::from).collect::<Vec<_>>();
        assert!(test_arguments(&words(&["some_test", "--", "-p"])).contains(&"--workspace"));
        assert!(!test_arguments(&words(&["-p", "lifeboat-core"])).contains(&"--workspace"));
    }
}
