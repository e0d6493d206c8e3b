//! The binaries of Lifeboat: `lifeboat`, everything from a config file, and one small binary for each system.
//!
//! Both kinds make jobs, from a file or from flags, and hand them to the same commands; the commands use the
//! builders that a program would use. Nothing here knows how a backup is made.
//!
//! # Exit status
//!
//! | status | meaning |
//! |---|---|
//! | 0 | good |
//! | 1 | a backup, restore or check failed, or the run was cancelled (Ctrl-C, SIGTERM) |
//! | 2 | usage or configuration: nothing was started |
//! | 3 | nothing to do where something was asked for: no artifact was found |
//!
//! Where several jobs end differently, a failure (1) goes before a wrong configuration (2), and that before nothing found (3).
//!
//! # Output
//!
//! Results go to standard output; progress, notes, warnings and errors to standard error. With `--json` standard output
//! holds exactly one JSON value: the result, or `{"error": …}` when the command ended before it had one; each error
//! is then one line of JSON on standard error as well. An error is
//! `{kind, message, operation, subject, hint, chain}`.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod arguments;
mod backend;
mod commands;
mod config;
mod duration;
mod encryption;
mod exit;
mod jobs;
mod output;
mod progress;
mod session;

use std::process::ExitCode;

/// Runs `lifeboat` with the arguments of this process.
pub fn lifeboat() -> ExitCode {
    session::main::<arguments::configured::Lifeboat>()
}

/// Runs `lifeboat-cloudflare-dns` with the arguments of this process.
pub fn lifeboat_cloudflare_dns() -> ExitCode {
    session::main::<arguments::cloudflare::LifeboatCloudflareDns>()
}

/// Runs `lifeboat-doppler` with the arguments of this process.
pub fn lifeboat_doppler() -> ExitCode {
    session::main::<arguments::doppler::LifeboatDoppler>()
}

/// Runs `lifeboat-mongodb` with the arguments of this process.
pub fn lifeboat_mongodb() -> ExitCode {
    session::main::<arguments::mongodb::LifeboatMongodb>()
}

/// Runs `lifeboat-postgres` with the arguments of this process.
pub fn lifeboat_postgres() -> ExitCode {
    session::main::<arguments::postgres::LifeboatPostgres>()
}

/// Runs `lifeboat-velero` with the arguments of this process.
pub fn lifeboat_velero() -> ExitCode {
    session::main::<arguments::velero::LifeboatVelero>()
}
