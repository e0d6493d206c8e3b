//! A system opened with those of its flags that a command takes, or with none.

use std::sync::Arc;

use clap::{ArgMatches, Args, Command, FromArgMatches};
use lifeboat_config::ByUrl;
use lifeboat_core::cli::Commands;
use lifeboat_core::{AnySystem, Error, ErrorKind, Opening, Result};

use crate::flags;

/// Which flags of a system's settings a command takes: those under these headings, and those without one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Taken {
    pub(crate) headings: &'static [&'static str],
    pub(crate) plain: bool,
}

impl Taken {
    fn takes(self, heading: Option<&str>) -> bool {
        heading.map_or(self.plain, |heading| self.headings.contains(&heading))
    }
}

/// A command with these flags of the settings. The others are withheld.
pub(crate) fn add<S: Commands>(command: Command, taken: Taken) -> Command {
    let settings = S::Settings::augment_args(Command::new("settings"));
    flags::add(command, &settings, |arg| taken.takes(arg.get_help_heading()))
}

/// The settings that this command takes. A flag that it does not take may have another meaning in it.
pub(crate) fn settings<S: Commands>(taken: Taken, command: &ArgMatches) -> Result<S::Settings, clap::Error> {
    let mut matches = command.clone();
    for arg in S::Settings::augment_args(Command::new("settings")).get_arguments() {
        if !taken.takes(arg.get_help_heading()) && arg.get_action().takes_values() {
            // It is there, or was never given.
            let _ = matches.try_clear_id(arg.get_id().as_str());
        }
    }
    S::Settings::from_arg_matches(&matches)
}

/// The system with these settings.
pub(crate) fn open<S: Commands>(settings: S::Settings) -> Result<Arc<dyn AnySystem>> {
    Ok(Arc::new(S::open(settings, &Opening::of_flags(&ByUrl))?))
}

/// The system with empty settings: for commands that read sinks only.
pub(crate) fn nowhere<S: Commands>() -> Result<Arc<dyn AnySystem>> {
    let command = add::<S>(Command::new("settings"), Taken { headings: &[], plain: false });
    let matches = command.try_get_matches_from(["settings"]);
    let settings = matches
        .and_then(|matches| S::Settings::from_arg_matches(&matches))
        .map_err(|error| Error::new(ErrorKind::Internal, "make", "empty settings", error.to_string()))?;
    open::<S>(settings)
}
