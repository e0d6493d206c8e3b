//! `cargo xtask COMMAND`: everything that a newcomer or CI runs.
//!
//! This package compiles before everything else, so it uses only the standard library and a few small crates. It knows
//! how to get and start the servers that the tests need; it contains no tests and no part of the product.
#![allow(clippy::print_stdout, clippy::print_stderr)] // A terminal tool: what it prints is what it is for.

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::{Context as _, Result};

mod arguments;
mod bench;
mod checks;
mod debian;
mod demo;
mod lanes;
mod minio;
mod mongodb;
mod pki;
mod postgres;
mod process;
mod python;
mod requirements;
mod scratch;
mod services;
mod signals;
mod testing;
mod toolchain;
mod velero;
mod workspace;

use arguments::{Arguments, UsageError};

const HELP: &str = "\
Developer tasks of Lifeboat

Usage: cargo xtask <COMMAND>

Commands:
  demo       Show Lifeboat at work on a real database: needs PostgreSQL only, cleans up after itself
  test       Start the services and run the whole test suite against them
  services   Start the services, for a command or until Ctrl-C
  bench      Measure Lifeboat against the stock tools' pipeline
  ci         Formatting, lints, documentation, each feature alone, dependency checks
  help       This text; `cargo xtask <COMMAND> --help` says more of one command

What is missing is installed: Debian packages by apt-get (as root, on Debian), Go programs into the cache folder.
Servers listen on random free ports of 127.0.0.1, live in a scratch folder, and end with the command.

Environment:
  LIFEBOAT_CACHE    folder for what is downloaded and built [default: .cache in the workspace]
  LIFEBOAT_PG_BIN   folder of the PostgreSQL programs to prefer [default: the newest in /usr/lib/postgresql]
  TMPDIR            where scratch folders are made [default: /tmp]
";

const SERVICES_HELP: &str = "\
Start the services that the tests need, for a command or until Ctrl-C

Usage: cargo xtask services [--with NAME]... [-- COMMAND [ARGUMENT]...]
       cargo xtask services [--with NAME]... --install-only

With a COMMAND: runs it with the services' environment, then stops them; the exit status is the command's.
Without: prints `export NAME=value` lines on standard output and stays until Ctrl-C.

Options:
  --with NAME      a service that is not started by default; may be repeated, or name several with commas
  --install-only   install what is missing, start nothing
  --help           this text

Examples:
  cargo xtask services -- cargo test -p lifeboat-sinks
  cargo xtask services > services.env      # in one terminal; then, in another: . ./services.env

Services:
";

const TEST_HELP: &str = "\
Start the services and run the whole test suite against them

Usage: cargo xtask test [--with NAME]... [-- ARGUMENTS OF CARGO TEST]

Runs `cargo test --workspace --all-features` with every service. With -p among the arguments it runs only the tests of
those packages, with the services that start by default and those that --with names. The exit status is that of the
tests.

Options:
  --with NAME   a service that is not started by default, as in `cargo xtask services`
  --help        this text

Examples:
  cargo xtask test
  cargo xtask test -- -p lifeboat-backends postgres -- --nocapture
  cargo xtask test --with velero -- -p lifeboat-backends velero
";

const DEMO_HELP: &str = "\
Show Lifeboat at work on a real database

Usage: cargo xtask demo [--keep]

Builds `lifeboat`, starts a PostgreSQL server of its own, fills it with a shop's data and every awkward type, and backs
it up, verifies, restores, damages and prunes. It prints each command that it runs and what the command answers. It
needs PostgreSQL only, touches nothing outside of its scratch folder, and cleans up.

Options:
  --keep   leave the folder with the configuration, the key and the backups (not the server) and say where it is
  --help   this text
";

const BENCH_HELP: &str = "\
Measure Lifeboat against the stock tools' pipeline

Usage: cargo xtask bench [--gib N] [--runs N] [--only CASE,...] [--binaries FOLDER]

Builds the binaries for release, starts the servers, fills databases, and runs each case and its counterpart in turns. It prints wall time, CPU time of the command and of the servers, and peak memory. What counts are
the ratios; the machine should have nothing else to do.

Options:
  --gib N             GiB of rows in COPY text form [default: 1]
  --runs N            runs of each command [default: 3]
  --only CASE,...     these cases only
  --binaries FOLDER   measure the binaries that are there, build nothing
  --help              this text

Cases:
";

const CI_HELP: &str = "\
Formatting, lints, documentation, each feature alone, dependency checks

Usage: cargo xtask ci

All checks run, also after one has failed; the last lines say how each ended. A check whose tool is not installed is
shown as not run. The tests are not part of it: `cargo xtask test`.
";

fn main() -> ExitCode {
    match run(std::env::args_os().skip(1).collect()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            if let Some(signal) = signals::received() {
                return ExitCode::from(128 + signal);
            }
            ExitCode::from(if error.is::<UsageError>() { 2 } else { 1 })
        }
    }
}

fn run(arguments: Vec<OsString>) -> Result<ExitCode> {
    let mut arguments = Arguments::new(arguments);
    let command = arguments.command()?;
    signals::listen().context("cannot listen for signals")?;
    match command.as_deref() {
        Some("services") => {
            let options = arguments.parse(&["--install-only"], true)?;
            if options.help {
                print!("{SERVICES_HELP}");
                for service in services::ALL {
                    let default = if service.default { " [started by default]" } else { "" };
                    println!("  {:<10} {}{default}", service.name, service.about);
                }
                return Ok(ExitCode::SUCCESS);
            }
            testing::services(&options)
        }
        Some("test") => {
            let options = arguments.parse(&[], true)?;
            if options.help {
                print!("{TEST_HELP}");
                return Ok(ExitCode::SUCCESS);
            }
            testing::test(&options)
        }
        Some("demo") => {
            let options = arguments.parse(&["--keep"], false)?;
            if options.help {
                print!("{DEMO_HELP}");
                return Ok(ExitCode::SUCCESS);
            }
            demo::run(options.has("--keep"))
        }
        Some("bench") => {
            let options = arguments.parse_with_values(&[], &["--gib", "--runs", "--only", "--binaries"])?;
            if options.help {
                print!("{BENCH_HELP}");
                for (name, about) in bench::CASES {
                    println!("  {name:<9} {about}");
                }
                return Ok(ExitCode::SUCCESS);
            }
            bench::run(&options)
        }
        Some("ci") => {
            let options = arguments.parse(&[], false)?;
            if options.help {
                print!("{CI_HELP}");
                return Ok(ExitCode::SUCCESS);
            }
            checks::run()
        }
        Some("help") => {
            print!("{HELP}");
            Ok(ExitCode::SUCCESS)
        }
        Some(other) => {
            Err(UsageError(format!("there is no command `{other}`; `cargo xtask help` lists what there is")).into())
        }
        None => {
            eprint!("{HELP}");
            Ok(ExitCode::from(2))
        }
    }
}
