//! The command line of Lifeboat as a library: the whole grammar over any list of systems, and the program of a single one.
//!
//! This crate names no system. `lifeboat` runs [`main`] over a table of them, `lifeboat-<system>` runs [`single`] over one and links only
//! that one, and an embedder's program runs either over any list:
//!
//! ```no_run
//! let mut systems = lifeboat_cli::Systems::new();
//! // systems.add::<Sqlite>();
//! let exit = lifeboat_cli::main(&systems);
//! ```
//!
//! # Exit status
//!
//! | status | meaning |
//! |---|---|
//! | 0 | good |
//! | 1 | a backup, restore or check failed, or the run was cancelled (Ctrl-C, SIGTERM, SIGHUP, SIGQUIT) |
//! | 2 | usage or configuration: nothing was started |
//! | 3 | nothing to do where something was asked for: no artifact was found |
//!
//! When several jobs end differently, a failure (1) takes precedence over a wrong configuration (2), and that over nothing found (3).
//!
//! # Output
//!
//! Results go to standard output; progress, notes, warnings and errors to standard error. With `--json` standard output
//! holds exactly one JSON value: the result, or `{"error": …}` when the command ended before it had one; each error
//! is then one line of JSON on standard error as well. An error is
//! `{kind, message, operation, subject, hint, chain}`.
#![cfg_attr(docsrs, feature(doc_cfg))]
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod arguments;
mod commands;
mod complete;
mod configured;
mod console;
mod exit;
mod flags;
mod found;
mod grammar;
mod jobs;
mod opening;
mod output;
mod progress;
mod session;
mod single;
mod systems;

pub use configured::main;
pub use lifeboat_core::cli::*;
pub use single::{assert_grammar, single};
pub use systems::Systems;
