//! The commands of `lifeboat-velero`.
//!
//! Two things are called a backup here: what Velero keeps in its storage location, and a copy of it in a sink, which is
//! an artifact. `list`, `show`, `verify` and `restore` work on Velero's own backups, and with `--sink` on the copies.

use async_trait::async_trait;
use clap::Command;
use lifeboat_core::cli::{Commands, Console, Outcome, Part, Verbs};
use lifeboat_core::system::{Opening, System};
use lifeboat_core::{Error, ErrorKind, Result};

use super::{VeleroSettings, VeleroSystem};

mod backups;
mod help;
mod judge;
mod reach;
mod restored;
mod schedules;
mod verbs;

pub use verbs::Verb;

impl Commands for VeleroSystem {
    type Verbs = Verb;

    const COPIES_TREES: bool = true;

    fn shape(command: Command) -> Command {
        help::shape(command)
    }
}

#[async_trait]
impl Verbs for Verb {
    async fn run(self, console: &dyn Console) -> Result<Outcome> {
        match self {
            Self::List(list) => backups::list(list, console).await,
            Self::Show(show) => backups::show(show, console).await,
            Self::Verify(verify) => judge::test(*verify, console).await,
            Self::Judge(judge) => judge::run(judge, console).await,
            Self::Restore(restore) => restored::run(*restore, console).await,
            Self::Logs(logs) => backups::logs(logs, console).await,
            Self::Delete(delete) => backups::delete(delete, console).await,
            Self::Schedules(verbs::Schedules::List { cluster }) => schedules::list(cluster, console).await,
            Self::Schedules(verbs::Schedules::Apply(apply)) => schedules::apply(apply, console).await,
        }
    }
}

/// Opens the system that the flags describe.
fn open(settings: VeleroSettings, console: &dyn Console) -> Result<VeleroSystem> {
    VeleroSystem::open(settings, &Opening::of_flags(console))
}

/// Checks whether a step may begin.
///
/// # Errors
/// [`ErrorKind::Cancelled`] if the run was cancelled.
fn begin(console: &dyn Console, operation: &'static str, subject: &str) -> Result<()> {
    if console.context().cancel.is_cancelled() { Err(Error::cancelled(operation, subject)) } else { Ok(()) }
}

fn wrong(subject: &str, why: &str, hint: &str) -> Error {
    Error::new(ErrorKind::Config, "use", subject, why).hint(hint)
}

fn unnamed(command: &str) -> Error {
    wrong(
        "the backup",
        "none was named",
        &format!("name it, as in `lifeboat-velero {command} daily-20261121030000`; `lifeboat-velero list` shows them"),
    )
}

/// The outcomes of several operations: a failed one does not stop the others.
struct Outcomes<'a> {
    console: &'a dyn Console,
    failed: bool,
    /// A missing object or a usage error. It ends the command if nothing worse does, so that the exit status shows it.
    held: Option<Error>,
}

impl<'a> Outcomes<'a> {
    fn new(console: &'a dyn Console) -> Self {
        Self { console, failed: false, held: None }
    }

    /// Notes whether something passed.
    fn note(&mut self, passed: bool) {
        self.failed |= !passed;
    }

    /// Notes an error.
    fn error(&mut self, error: Error) {
        let told = match (error.kind(), self.held.as_ref().map(Error::kind)) {
            (ErrorKind::Config, _) | (ErrorKind::NoArtifact, None | Some(ErrorKind::NoArtifact)) => {
                self.held.replace(error)
            }
            (ErrorKind::NoArtifact, _) => Some(error),
            _ => {
                self.failed = true;
                Some(error)
            }
        };
        if let Some(error) = told {
            self.console.say(Part::Failure(error));
        }
    }

    /// Whether everything has succeeded so far.
    fn is_good(&self) -> bool {
        !self.failed && self.held.is_none()
    }

    fn end(self) -> Result<Outcome> {
        match self.held {
            Some(error) if !self.failed => return Err(error),
            Some(error) => self.console.say(Part::Failure(error)),
            None => {}
        }
        Ok(Outcome::of(!self.failed))
    }
}

#[cfg(test)]
mod tests;
