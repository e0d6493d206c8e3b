//! The systems that a program registers, with their flags.

use std::sync::Arc;

use clap::{ArgMatches, Args, Command, FromArgMatches};
use lifeboat_core::cli::{CONNECTION, Commands};
use lifeboat_core::system::Choices;
use lifeboat_core::{AnySystem, Error, ErrorKind};

use crate::flags;
use crate::opening::{self, Taken};

/// The systems of a program, which the jobs of its config file can name, each with its flags.
///
/// An embedder's program lists its own, with or without those of this project:
///
/// ```no_run
/// let systems = lifeboat_cli::Systems::new();
/// // systems.add::<Sqlite>();
/// lifeboat_cli::main(&systems);
/// ```
#[derive(Clone, Debug, Default)]
pub struct Systems {
    config: lifeboat_config::Systems,
    entries: Vec<Entry>,
}

/// The flags of one system.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    pub(crate) name: &'static str,
    title: &'static str,
    restore: Flags,
    verify: Flags,
    shape: fn(Command) -> Command,
    formats: fn() -> &'static [&'static str],
    /// Adds the flags that say how the live system is reached.
    reach: fn(Command) -> Command,
    open: fn(Option<&ArgMatches>) -> lifeboat_core::Result<Arc<dyn AnySystem>>,
}

/// Of a system's settings, a restore without a config takes what says how the live system is reached.
const REACH: Taken = Taken { headings: &[CONNECTION], plain: false };

fn open<S: Commands>(reached: Option<&ArgMatches>) -> lifeboat_core::Result<Arc<dyn AnySystem>> {
    let Some(matches) = reached else { return opening::nowhere::<S>() };
    let settings = opening::settings::<S>(REACH, matches)
        .map_err(|error| Error::new(ErrorKind::Config, "read", "the options", error.to_string()))?;
    opening::open::<S>(settings)
}

#[derive(Clone, Copy, Debug)]
struct Flags {
    augment: fn(Command) -> Command,
    read: fn(&ArgMatches) -> Result<Choices, clap::Error>,
}

impl Flags {
    fn of<T: Args + Clone + Send + Sync + 'static>() -> Self {
        Self { augment: T::augment_args, read: read::<T> }
    }
}

fn read<T: FromArgMatches + Send + Sync + 'static>(matches: &ArgMatches) -> Result<Choices, clap::Error> {
    Ok(Some(Arc::new(T::from_arg_matches(matches)?)))
}

impl Systems {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a system. It replaces one of the same name.
    pub fn add<S: Commands>(&mut self) {
        self.config.add::<S>();
        self.entries.retain(|entry| entry.name != S::NAME);
        self.entries.push(Entry {
            name: S::NAME,
            title: S::TITLE,
            restore: Flags::of::<S::Restore>(),
            verify: Flags::of::<S::Verify>(),
            shape: S::shape,
            formats: S::formats,
            reach: |command| opening::add::<S>(command, REACH),
            open: open::<S>,
        });
        self.entries.sort_by_key(|entry| entry.name);
    }

    /// What reads config files.
    pub fn config(&self) -> &lifeboat_config::Systems {
        &self.config
    }

    pub(crate) fn find(&self, name: &str) -> Option<Entry> {
        self.entries.iter().find(|entry| entry.name == name).copied()
    }

    /// The systems that have this format.
    pub(crate) fn of_format(&self, format: &str) -> Vec<Entry> {
        self.entries.iter().filter(|entry| (entry.formats)().contains(&format)).copied().collect()
    }

    /// Any one of them.
    pub(crate) fn first(&self) -> Option<Entry> {
        self.entries.first().copied()
    }

    /// The names of all of them.
    pub(crate) fn names(&self) -> Vec<&'static str> {
        self.entries.iter().map(|entry| entry.name).collect()
    }

    /// A command with the flags of all systems, each under the name of its system: for completions and manual pages, and to
    /// tell which arguments are values.
    pub(crate) fn add_all(&self, mut command: Command) -> Command {
        for entry in &self.entries {
            let mut scratch = Command::new(command.get_name().to_owned());
            if let Some(flags) = entry.flags(&scratch) {
                scratch = (flags.augment)(scratch);
            }
            for arg in scratch.get_arguments() {
                if !flags::has(&command, arg) {
                    let heading = arg.get_help_heading().unwrap_or(entry.title).to_owned();
                    command = command.arg(arg.clone().required(false).help_heading(heading));
                }
            }
        }
        command
    }

    /// The title of the systems that have a flag for this command.
    pub(crate) fn that_take(&self, command: &str, flag: &str) -> Vec<&'static str> {
        let takes = |entry: &&Entry| {
            let scratch = Command::new(command.to_owned());
            let flags = entry.flags(&scratch).map(|flags| (flags.augment)(scratch));
            flags.is_some_and(|command| command.get_arguments().any(|arg| arg.get_long() == Some(flag)))
        };
        self.entries.iter().filter(takes).map(|entry| entry.title).collect()
    }
}

impl Entry {
    fn flags(&self, command: &Command) -> Option<Flags> {
        match command.get_name() {
            "restore" => Some(self.restore),
            "verify" => Some(self.verify),
            _ => None,
        }
    }

    /// A command with the flags of this system, and its descriptions of the flags that every system has.
    pub(crate) fn add(&self, command: Command) -> Command {
        let Some(flags) = self.flags(&command) else { return command };
        // The examples are of the program with this system alone.
        let (before, after) = (command.get_about().cloned(), command.get_after_help().cloned());
        let mut command = (self.shape)((flags.augment)(command));
        if let Some(about) = before {
            command = command.about(about);
        }
        if let Some(after) = after {
            command = command.after_help(after);
        }
        command
    }

    /// A command with the flags of this system that say how its live system is reached: what a config would say.
    pub(crate) fn reach(&self, command: Command) -> Command {
        (self.reach)(command)
    }

    /// The system without a config: with the flags that [`reach`](Self::reach) has added, or with none.
    pub(crate) fn open(&self, reached: Option<&ArgMatches>) -> lifeboat_core::Result<Arc<dyn AnySystem>> {
        (self.open)(reached)
    }

    /// The options given for this system.
    pub(crate) fn read(&self, command: &Command, matches: &ArgMatches) -> Result<Choices, clap::Error> {
        self.flags(command).map_or(Ok(None), |flags| (flags.read)(matches))
    }
}
