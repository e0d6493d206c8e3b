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
        /// How much there is, where that is known when it begins.
        total: Option<Total>,
    },
    /// How much there is in the current step has become known, or is known better, since it began: a backup does not wait for its
    /// estimate.
    Total(Total),
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

/// How much there is in a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Total {
    /// So much, as a manifest or a plan says.
    Exact(u64),
    /// About so much: a backup does not know how much it reads before it has read it. More or less may come, so a share of it
    /// never says that all is done; only [`Event::End`] does.
    About(u64),
}

impl Total {
    /// The figure.
    pub fn figure(self) -> u64 {
        match self {
            Self::Exact(figure) | Self::About(figure) => figure,
        }
    }

    /// How much of it is done, in whole per cent: at most 99 of an estimate. `None` where there is nothing to do.
    pub fn percent(self, done: u64) -> Option<u8> {
        let share = (u128::from(done) * 100).checked_div(u128::from(self.figure()))?;
        let most = match self {
            Self::Exact(_) => 100,
            Self::About(_) => 99,
        };
        u8::try_from(share.min(most)).ok()
    }
}

impl From<u64> for Total {
    fn from(exact: u64) -> Self {
        Self::Exact(exact)
    }
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
///
/// ```
/// use std::sync::Mutex;
///
/// use lifeboat_core::progress::{Event, Progress, Total};
///
/// /// The share of the current step that is done.
/// #[derive(Default)]
/// struct Share(Mutex<(u64, Option<Total>)>);
///
/// impl Share {
///     fn percent(&self) -> Option<u8> {
///         let (done, total) = *self.0.lock().unwrap();
///         total?.percent(done)
///     }
/// }
///
/// impl Progress for Share {
///     fn event(&self, event: Event) {
///         let mut state = self.0.lock().unwrap();
///         match event {
///             Event::Begin { total, .. } => *state = (0, total),
///             // Of a backup it is known a little later, and about.
///             Event::Total(total) => state.1 = Some(total),
///             Event::Advance(bytes) => state.0 += bytes,
///             _ => {}
///         }
///     }
/// }
///
/// let share = Share::default();
/// share.event(Event::Advance(300));
/// share.event(Event::Total(Total::About(200)));
/// // However much more has come than was expected, the end is told by its event alone.
/// assert_eq!(share.percent(), Some(99));
/// ```
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
