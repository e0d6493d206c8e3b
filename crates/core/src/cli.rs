//! What a [`System`] adds to a command line: help texts and its own commands. Requires the feature `cli`.
//!
//! The flags are the system's three structs of settings, which must also derive [`clap::Args`]. The heading of each
//! flag in [`System::Settings`] determines which commands accept it:
//!
//! | `help_heading` | commands, and what the flags are for |
//! |---|---|
//! | none | `backup`, `verify`, `check`: where the live dataset is |
//! | [`CONNECTION`] | those and `restore`: how to reach the live system |
//! | [`CONTENTS`] | `backup` and `check`: what to back up |
//! | [`CHECKS`] | `check` only |

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use clap::{Args, Command, Subcommand};
use serde_json::Value;

use crate::context::Context;
use crate::error::{Error, ErrorKind, Result};
use crate::plan::Plan;
use crate::report::{Check, Report};
use crate::system::{AnySystem, Sinks, System};

/// The heading of flags that say how to reach the live system.
pub const CONNECTION: &str = "Connection";
/// The heading of flags that say what to back up.
pub const CONTENTS: &str = "What to back up";
/// The heading of flags that only `check` accepts.
pub const CHECKS: &str = "What to check";

/// What the value of `--at` is, in help texts.
pub const AT: &str =
    "latest, an age like 2d, a time or day in UTC (the newest backup taken at or before this time), or a key";

/// A [`System`] with a command line.
pub trait Commands: System<Settings: Args, Restore: Args, Verify: Args> {
    /// The system's own commands, in addition to the general ones; [`NoVerbs`] if there are none.
    ///
    /// A command with the name of a general one (`list`, `show`, `verify`, `restore`) works on the other tool's data,
    /// while the general one works on artifacts: the system's own command runs unless a sink is named with `--sink`.
    type Verbs: Verbs;

    /// Whether `replicate` can copy another tool's data in the [foreign place](System::foreign_place) as is.
    const COPIES_TREES: bool = false;

    /// Adjusts the examples of a command, and the descriptions of its flags, if the general ones do not fit. The
    /// command is identified by its name; the program itself has the name `""`.
    fn shape(command: Command) -> Command {
        command
    }
}

/// A system's own commands.
#[async_trait]
pub trait Verbs: Subcommand + Send + 'static {
    /// Runs the parsed command.
    ///
    /// # Errors
    /// Any error that ends it. Failures that do not end it are [reported](Console::say), and reflected in the outcome.
    async fn run(self, console: &dyn Console) -> Result<Outcome>;
}

/// No own commands: for [`Commands::Verbs`].
#[derive(Debug)]
pub enum NoVerbs {}

#[async_trait]
impl Verbs for NoVerbs {
    async fn run(self, _: &dyn Console) -> Result<Outcome> {
        match self {}
    }
}

impl clap::FromArgMatches for NoVerbs {
    fn from_arg_matches(_: &clap::ArgMatches) -> Result<Self, clap::Error> {
        Err(clap::Error::new(clap::error::ErrorKind::MissingSubcommand))
    }

    fn update_from_arg_matches(&mut self, _: &clap::ArgMatches) -> Result<(), clap::Error> {
        match *self {}
    }
}

impl Subcommand for NoVerbs {
    fn augment_subcommands(command: Command) -> Command {
        command
    }

    fn augment_subcommands_for_update(command: Command) -> Command {
        command
    }

    fn has_subcommand(_: &str) -> bool {
        false
    }
}

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// It did what was asked.
    Good,
    /// Something failed, and was reported.
    Failed,
}

impl Outcome {
    /// [`Good`](Self::Good) if `good`, else [`Failed`](Self::Failed).
    pub fn of(good: bool) -> Self {
        if good { Self::Good } else { Self::Failed }
    }
}

/// The meaning of a text, which determines its colour on a terminal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Tone {
    /// Nothing special.
    #[default]
    Plain,
    /// As it should be.
    Good,
    /// Worth a look.
    Caution,
    /// Wrong.
    Bad,
}

/// A cell of a table.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Cell {
    /// The text, in one line.
    pub text: String,
    /// Its colour.
    pub tone: Tone,
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self { text: text.into(), tone: Tone::Plain }
    }
}

impl Cell {
    /// Creates a cell with a colour.
    pub fn new(text: impl Into<String>, tone: Tone) -> Self {
        Self { text: text.into(), tone }
    }
}

/// A table: rows under a header.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Rows {
    /// The titles of the columns.
    pub head: Vec<&'static str>,
    /// The columns that are aligned to the right, from 0.
    pub right: Vec<usize>,
    /// The rows. Each has as many cells as there are titles.
    pub rows: Vec<Vec<Cell>>,
}

impl Rows {
    /// Creates a table without rows.
    pub fn new<const N: usize>(head: [&'static str; N]) -> Self {
        Self { head: head.to_vec(), ..Self::default() }
    }

    /// Aligns these columns to the right.
    #[must_use]
    pub fn right<const N: usize>(mut self, columns: [usize; N]) -> Self {
        self.right = columns.to_vec();
        self
    }

    /// Adds a row.
    pub fn row<const N: usize>(&mut self, cells: [Cell; N]) {
        self.rows.push(cells.into());
    }
}

/// Something that a command tells the user. Programs read the [result](Console::result).
#[derive(Debug)]
#[non_exhaustive]
pub enum Part {
    /// A line.
    Line(String),
    /// A line in a colour.
    Toned(String, Tone),
    /// A line of a verdict: a word like `DONE` in its colour, and the rest.
    Verdict(&'static str, Tone, String),
    /// A table.
    Table(Rows),
    /// Checks, as an indented table.
    Checks(Vec<Check>),
    /// A report with its verdict.
    Report(Report),
    /// The lines of a plan.
    Plan(Plan),
    /// Something that is probably wrong: goes to standard error.
    Warning(String),
    /// Something that failed, while the command goes on: goes to standard error.
    Failure(Error),
}

/// The interface between a command and the program around it. Its [sinks](Sinks) are those that arguments name by URL.
pub trait Console: Sinks {
    /// Prints something at once. With `--json`, only warnings and failures.
    fn say(&self, part: Part);

    /// The result for programs: with `--json`, the one value on standard output.
    fn result(&self, value: Value);

    /// Prints one item of a result that is an array, so that memory does not grow with the number of items.
    fn item(&self, value: Value);

    /// Ends an array of [items](Console::item), which may be empty.
    fn end_of_items(&self);

    /// Whether results are JSON.
    fn is_json(&self) -> bool;

    /// Cancellation, progress and clock.
    fn context(&self) -> &Context;

    /// An error in the form used in results: kind, message, operation, subject, hint and causes.
    fn failure(&self, error: &Error) -> Value;

    /// The jobs of a config file.
    ///
    /// # Errors
    /// [`ErrorKind::Config`], with every mistake in the file.
    fn jobs(&self, config: Option<&Path>) -> Result<Jobs>;
}

/// The jobs of a config file, with the system of each.
#[derive(Debug)]
#[non_exhaustive]
pub struct Jobs {
    /// The file.
    pub path: String,
    /// The jobs, in the order of the file.
    pub jobs: Vec<(String, Arc<dyn AnySystem>)>,
}

impl Jobs {
    /// Creates the jobs of a file.
    pub fn new(path: impl Into<String>, jobs: Vec<(String, Arc<dyn AnySystem>)>) -> Self {
        Self { path: path.into(), jobs }
    }
}

/// Returns the outcome of a step. If the run was cancelled, errors that follow from that become
/// [`ErrorKind::Cancelled`].
///
/// # Errors
/// The outcome's own error, or [`ErrorKind::Cancelled`].
pub fn settle<T>(context: &Context, operation: &'static str, subject: &str, outcome: Result<T>) -> Result<T> {
    outcome.map_err(|error| match error.kind() {
        ErrorKind::Cancelled => error,
        _ if context.cancel.is_cancelled() => Error::cancelled(operation, subject).with_source(error),
        _ => error,
    })
}
