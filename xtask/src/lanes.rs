//! Runs the whole test suite in two lanes. Tests spend much time waiting (for a server, a limit, a pause), and
//! `cargo test` runs one test program after the other.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};

use crate::process::{self, Guard};
use crate::services::Session;
use crate::{signals, workspace};

/// How many test programs run at once.
const LANES: usize = 2;

/// What cargo has built.
#[derive(Debug, PartialEq, Eq)]
struct Built {
    /// The names of the integration tests, each once, in reverse alphabetical order, because the longest ones are at
    /// the end.
    tests: Vec<String>,
    /// How many programs there are.
    programs: usize,
}

/// Parses the output of `cargo test --no-run` for each program: `Executable tests/list.rs (target/…)`, with `unittests`
/// before the path for the unit tests of a library or binary.
fn built(said: &str) -> Result<Built> {
    let (mut tests, mut programs) = (Vec::new(), 0);
    for line in said.lines().filter_map(|line| line.trim_start().strip_prefix("Executable ")) {
        programs += 1;
        if line.starts_with("unittests ") {
            continue;
        }
        let path = Path::new(line.split_once(" (").map_or(line, |(path, _)| path));
        let stem = if path.ends_with("main.rs") { path.parent().and_then(Path::file_name) } else { path.file_stem() };
        let name = stem.and_then(|stem| stem.to_str()).with_context(|| format!("cargo names a test \"{line}\""))?;
        tests.push(name.to_owned());
    }
    ensure!(!tests.is_empty(), "cargo names no test that it has built");
    tests.sort_by(|a, b| b.cmp(a));
    tests.dedup();
    Ok(Built { tests, programs })
}

/// Runs every test that was built, and reports at the end which failed.
///
/// # Errors
/// If cargo cannot be run, and if fewer programs ran than were built.
pub(crate) fn run(session: &Session, arguments: &[&str]) -> Result<ExitCode> {
    let mut list = process::cargo();
    let listed = list.args(arguments).arg("--no-run").output().context("cannot start cargo")?;
    ensure!(listed.status.success(), "cargo test --no-run ended with {}", listed.status);
    let built = built(&String::from_utf8_lossy(&listed.stderr))?;

    let mut units: VecDeque<Vec<String>> =
        built.tests.iter().map(|name| vec!["--test".to_owned(), name.clone()]).collect();
    units.push_back(["--lib", "--bins"].map(str::to_owned).to_vec());
    units.push_back(vec!["--doc".to_owned()]);
    let units = Mutex::new(units);
    let done = Mutex::new((0, Vec::new()));
    std::thread::scope(|scope| {
        let lanes: Vec<_> = (0..LANES)
            .map(|_| {
                scope.spawn(|| -> Result<()> {
                    loop {
                        let next = units.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                        let Some(unit) = next else { return Ok(()) };
                        let (ran, passed) = run_one(session, arguments, &unit)?;
                        let mut done = done.lock().unwrap_or_else(PoisonError::into_inner);
                        done.0 += ran;
                        if !passed {
                            done.1.push(unit.join(" "));
                        }
                    }
                })
            })
            .collect();
        lanes.into_iter().try_for_each(|lane| lane.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })?;
    let (ran, failed) = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    if !failed.is_empty() {
        eprintln!("xtask: failed: cargo xtask test -- {}", failed.join("; cargo xtask test -- "));
        return Ok(ExitCode::FAILURE);
    }
    ensure!(ran == built.programs, "{ran} of the {} test programs ran", built.programs);
    Ok(ExitCode::SUCCESS)
}

/// Runs some tests to their end, then prints their output. Returns how many programs ran, and whether all passed.
fn run_one(session: &Session, arguments: &[&str], unit: &[String]) -> Result<(usize, bool)> {
    let name = unit.join(" ").replace("--", "");
    let log = process::fresh_log(&format!("test-{}", name.replace(' ', "-")))?;
    let file = File::create(&log).with_context(|| format!("cannot create {}", log.display()))?;
    let cargo = process::cargo();
    let mut command = process::guarded(cargo.get_program(), Guard::default())?;
    command.current_dir(workspace::root()).args(arguments).args(unit).stdout(file.try_clone()?).stderr(file);
    command.envs(session.environment().iter().map(|(name, value)| (name, value)));
    let begun = Instant::now();
    eprintln!("xtask: {name}: running");
    let status = process::run_attached(&mut command)?;
    signals::check()?;
    let said = fs::read(&log).with_context(|| format!("cannot read {}", log.display()))?;
    let ran = String::from_utf8_lossy(&said).lines().filter(|line| line.trim_start().starts_with("Running ")).count();
    // In one piece: another lane may print too.
    let mut out = std::io::stdout().lock();
    out.write_all(&said)?;
    let how = if status.success() { "passed" } else { "FAILED" };
    writeln!(out, "xtask: {name}: {how} in {:.0} s", begun.elapsed().as_secs_f64())?;
    out.flush()?;
    Ok((ran, status.success()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_programs_that_cargo_names_are_all_counted() {
        let said = "   Compiling x v1\n    Finished `test` profile\n  Executable unittests src/lib.rs (target/debug/deps/x-1)\n  \
                    Executable tests/list.rs (target/debug/deps/list-1)\n  Executable ../../tests/list.rs (target/debug/deps/list-2)\n  \
                    Executable tests/velero/main.rs (target/debug/deps/velero-1)\n";
        let read = built(said).unwrap();
        assert_eq!(read, Built { tests: vec!["velero".to_owned(), "list".to_owned()], programs: 4 });
        assert!(built("    Finished `test` profile\n").is_err());
    }
}
