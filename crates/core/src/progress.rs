//! Progress of a run, for bars and log lines.

use std::borrow::Cow;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::hint::Hint;

/// What a run does at the moment. `Display` gives the words for it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Step {
    /// Backs up this dataset.
    BackUp(String),
    /// Restores this dataset.
    Restore(String),
    /// Carries out the plan for this dataset.
    Apply(String),
    /// Verifies this dataset.
    Verify(String),
    /// Replicates to the sink of this URL.
    Replicate(String),
    /// Deletes what is no longer kept of this dataset.
    Prune(String),
    /// Copies this tree.
    Copy(String),
    /// Reads this tree.
    Read(String),
    /// Compares what was restored with the proof.
    Compare,
    /// Builds indexes.
    Index,
    /// Replays a log up to the moment of the backup.
    Replay,
    /// Something else, in words of its own: a system from elsewhere has steps that are not listed here.
    Other(Cow<'static, str>),
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BackUp(dataset) => write!(f, "back up {dataset}"),
            Self::Restore(dataset) => write!(f, "restore {dataset}"),
            Self::Apply(dataset) => write!(f, "apply {dataset}"),
            Self::Verify(dataset) => write!(f, "verify {dataset}"),
            Self::Replicate(sink) => write!(f, "replicate to {sink}"),
            Self::Prune(dataset) => write!(f, "prune {dataset}"),
            Self::Copy(tree) => write!(f, "copy {tree}"),
            Self::Read(tree) => write!(f, "read {tree}"),
            Self::Compare => f.write_str("compare"),
            Self::Index => f.write_str("index"),
            Self::Replay => f.write_str("replay"),
            Self::Other(words) => f.write_str(words),
        }
    }
}

/// What a run reports while it is in progress.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// A step has begun. Steps may lie within each other.
    Begin {
        /// What is done.
        step: Step,
        /// The unit in which [`Event::Advance`] counts.
        unit: Unit,
        /// How much there is, where that is known.
        total: Option<u64>,
    },
    /// The current step has advanced by this much.
    Advance(u64),
    /// This many tables, collections or zones have passed since the step began, in addition to the bytes that it counts.
    Items {
        /// How many.
        done: u64,
        /// What they are, in the plural: `tables`, `zones`.
        what: &'static str,
    },
    /// The step has ended.
    End,
    /// Something that is probably wrong, although the run goes on: the dataset is empty.
    Warning {
        /// What.
        text: String,
        /// What to try.
        hint: Hint,
    },
    /// Something that the user should be told once: a role that is missing, a check that could not be made.
    Note(String),
}

/// What progress is counted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unit {
    /// Bytes of a stream.
    Bytes,
    /// Tables, collections, zones.
    Items,
}

/// Receives progress. Called from many threads and often (each chunk): it must be quick and must not block.
pub trait Progress: Send + Sync {
    /// Something happened.
    fn event(&self, event: Event);
}

/// Discards all progress.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Progress for Silent {
    fn event(&self, _: Event) {}
}

/// Adds up what was advanced and keeps the notes: for tests and for receipts.
///
/// ```
/// use lifeboat_core::progress::{Event, Progress, Tally};
///
/// let tally = Tally::default();
/// tally.event(Event::Advance(1 << 20));
/// tally.event(Event::Note("a role is missing".to_owned()));
/// assert_eq!((tally.advanced(), tally.notes().len()), (1 << 20, 1));
/// ```
#[derive(Debug, Default)]
pub struct Tally {
    advanced: AtomicU64,
    notes: std::sync::Mutex<Vec<String>>,
}

impl Tally {
    /// Everything that was advanced, in whatever unit.
    pub fn advanced(&self) -> u64 {
        self.advanced.load(Ordering::Relaxed)
    }

    /// The notes so far.
    pub fn notes(&self) -> Vec<String> {
        self.notes.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }
}

impl Progress for Tally {
    fn event(&self, event: Event) {
        match event {
            Event::Advance(n) => {
                self.advanced.fetch_add(n, Ordering::Relaxed);
            }
            Event::Note(note) => {
                self.notes.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(note);
            }
            _ => {}
        }
    }
}
