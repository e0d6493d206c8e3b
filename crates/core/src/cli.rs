//! What a [`System`] adds to a command line: help texts and commands of its own. With the feature `cli`.
//!
//! The flags themselves are the system's three structs, which then also derive [`clap::Args`]. Where the flags of
//! [`System::Settings`] appear depends on their heading:
//!
//! | `help_heading` | the commands that take them |
//! |---|---|
//! | none | `backup`, `verify`, `check`: where the live dataset is |
//! | [`CONNECTION`] | those and `restore`: how the live system is reached |
//! | [`CONTENTS`] | `backup` and `check`: what of it is backed up |
//! | [`CHECKS`] | `check` alone |

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

/// The heading of flags that say how the live system is reached.
pub const CONNECTION: &str = "Connection";
/// The heading of flags that say what of the live system is backed up.
pub const CONTENTS: &str = "What to back up";
/// The heading of flags that only `check` takes.
pub const CHECKS: &str = "What to check";

/// A [`System`] with a command line.
pub trait Commands: System<Settings: Args, Restore: Args, Verify: Args> {
    /// Its own commands, in addition to those of every system; [`NoVerbs`] if there are none.
    ///
    /// One with the name of a general command (`list`, `show`, `verify`, `restore`) works on what the other tool keeps, and the
    /// general one on artifacts: it is the system's own as long as no sink is named with `--sink`.
    type Verbs: Verbs;

    /// Whether what another tool keeps in the [foreign place](System::foreign_place) can be copied as it is, by `replicate`.
    const COPIES_TREES: bool = false;

    /// Gives a command its examples, and its flags their descriptions, where the general ones do not fit. Its name tells which it is;
    /// the program itself has the name `""`.
    fn shape(command: Command) -> Command {
        command
    }
}

/// Commands of a system's own.
#[async_trait]
pub trait Verbs: Subcommand + Send + 'static {
    /// Runs the one that was read.
    ///
    /// # Errors
    /// What ended it. What failed but did not end it was [said](Console::say), and is in the outcome.
    async fn run(self, console: &dyn Console) -> Result<Outcome>;
}

/// No commands of its own: for [`Commands::Verbs`].
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
    /// As it was asked.
    Good,
    /// Something failed, which was said.
    Failed,
}

impl Outcome {
    /// [`Good`](Self::Good) when all is well.
    pub fn of(good: bool) -> Self {
        if good { Self::Good } else { Self::Failed }
    }
}

/// How something is meant, for its colour on a terminal.
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
    /// What stands in it, in one line.
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
    /// A cell with a colour.
    pub fn new(text: impl Into<String>, tone: Tone) -> Self {
        Self { text: text.into(), tone }
    }
}

/// A table: rows under a head.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Rows {
    /// The titles of the columns.
    pub head: Vec<&'static str>,
    /// The columns that are aligned to the right, from 0.
    pub right: Vec<usize>,
    /// As many cells in each as there are titles.
    pub rows: Vec<Vec<Cell>>,
}

impl Rows {
    /// A table without rows.
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

/// Something that a command says to a person. Programs read the [result](Console::result).
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

/// What a command is given by the program around it. Its [sinks](Sinks) are those that an argument names by its URL.
pub trait Console: Sinks {
    /// Says something at once. Nothing with `--json`, but for warnings and failures.
    fn say(&self, part: Part);

    /// The result for programs: with `--json`, the one value on standard output.
    fn result(&self, value: Value);

    /// One item of a result that is an array and comes piece by piece: memory does not grow with their number.
    fn item(&self, value: Value);

    /// Ends an array of [items](Console::item), of which there may be none.
    fn end_of_items(&self);

    /// Whether results are JSON.
    fn is_json(&self) -> bool;

    /// Cancellation, progress and clock.
    fn context(&self) -> &Context;

    /// An error as results have it: its kind, message, operation and subject, what to try, and what caused it.
    fn failure(&self, error: &Error) -> Value;

    /// The jobs of a config file.
    ///
    /// # Errors
    /// [`ErrorKind::Config`], with every mistake that is in it.
    fn jobs(&self, config: Option<&Path>) -> Result<Jobs>;
}

/// The jobs of a config file, with the system of each.
#[derive(Debug)]
#[non_exhaustive]
pub struct Jobs {
    /// The file.
    pub path: String,
    /// In the order of the file.
    pub jobs: Vec<(String, Arc<dyn AnySystem>)>,
}

impl Jobs {
    /// Those of a file.
    pub fn new(path: impl Into<String>, jobs: Vec<(String, Arc<dyn AnySystem>)>) -> Self {
        Self { path: path.into(), jobs }
    }
}

/// The outcome of a step. What a cancelled run stumbles over on its way out is not what ended it.
///
/// # Errors
/// The outcome's own, or [`ErrorKind::Cancelled`].
pub fn settle<T>(context: &Context, operation: &'static str, subject: &str, outcome: Result<T>) -> Result<T> {
    outcome.map_err(|error| match error.kind() {
        ErrorKind::Cancelled => error,
        _ if context.cancel.is_cancelled() => Error::cancelled(operation, subject).with_source(error),
        _ => error,
    })
}
