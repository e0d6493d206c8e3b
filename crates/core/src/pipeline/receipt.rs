//! What a backup says of itself at its end.

use std::sync::Arc;

use jiff::Timestamp;
use serde::Serialize;

use crate::error::{Error, ErrorKind};
use crate::hint::Hint;
use crate::history::{Failure, Outcome};
use crate::name::Dataset;
use crate::progress::{Event, Progress};

/// What became of a backup.
///
/// ```
/// use lifeboat_core::Receipt;
///
/// fn tell(receipt: &Receipt) {
///     println!("{}: {} rows of {} items", receipt.key, receipt.rows, receipt.items);
///     for sink in receipt.sinks.iter().filter(|sink| sink.error.is_some()) {
///         println!("not in {}: {:?}", sink.url, sink.error);
///     }
///     if !receipt.is_good() {
///         // It is stored all the same: `is_complete` says whether in every sink, `hook` what a hook failed with.
///     }
/// }
/// ```
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Receipt {
    /// The dataset.
    pub dataset: Dataset,
    /// The artifact's key in every sink.
    pub key: String,
    /// When it was taken.
    pub taken_at: Timestamp,
    /// Size of the plaintext in bytes.
    pub plaintext_bytes: u64,
    /// Stored bytes.
    pub stored_bytes: u64,
    /// SHA-256 of the stored bytes.
    pub sha256: String,
    /// Items in the proof: tables, sequences, zones.
    pub items: usize,
    /// Rows in the proof, of all items.
    pub rows: u64,
    /// How long it took, in seconds.
    pub seconds: f64,
    /// What each sink holds now.
    pub sinks: Vec<SinkOutcome>,
    /// What a [hook](crate::hooks) failed with that ran after it, where one did. The artifact is as good as without.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hook: Option<HookFailure>,
    /// What the user should know: what the dump does not hold, what a role lacks.
    pub notes: Vec<String>,
    /// What is probably wrong: that the dataset is empty, or much smaller than before.
    pub warnings: Vec<String>,
}

impl Receipt {
    /// Whether nothing has failed: every sink holds the artifact, and every hook has done its work.
    pub fn is_good(&self) -> bool {
        self.is_complete() && self.hook.is_none()
    }

    pub(super) fn outcome(&self) -> Outcome {
        if self.is_good() && self.warnings.is_empty() { Outcome::Good } else { Outcome::Warning }
    }

    /// Whether every sink holds the artifact.
    pub fn is_complete(&self) -> bool {
        self.sinks.iter().all(|s| s.error.is_none())
    }
}

/// What became of a backup in one sink.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct SinkOutcome {
    /// The sink's URL.
    pub url: String,
    /// Why it does not hold the artifact, when it does not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// What kind of failure that is: whether trying again can help.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<ErrorKind>,
    /// What to try, when it does not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<Hint>,
    /// The same error, for the record there.
    #[serde(skip)]
    pub(super) failure: Option<Failure>,
}

/// What a hook failed with that ran after a backup.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct HookFailure {
    /// Which, and why.
    pub error: String,
    /// What kind of failure that is.
    pub kind: ErrorKind,
    /// What to try.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<Hint>,
    /// The same error, for the record.
    #[serde(skip)]
    pub(super) failure: Failure,
}

impl HookFailure {
    pub(super) fn new(error: &Error, confidential: bool) -> Self {
        Self {
            error: error.to_string(),
            kind: error.kind(),
            hint: error.typed_hint().cloned(),
            failure: Failure::of(error, confidential),
        }
    }
}

/// Passes progress on, and keeps what a person is told for the receipt.
pub(super) struct Notes {
    inner: Arc<dyn Progress>,
    kept: std::sync::Mutex<Kept>,
}

#[derive(Default)]
pub(super) struct Kept {
    pub(super) notes: Vec<String>,
    pub(super) warnings: Vec<String>,
}

impl Notes {
    pub(super) fn new(inner: Arc<dyn Progress>) -> Self {
        Self { inner, kept: std::sync::Mutex::default() }
    }

    pub(super) fn kept(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Progress for Notes {
    fn event(&self, event: Event) {
        match &event {
            Event::Note(note) => self.kept().notes.push(note.clone()),
            // Of several sinks each may say the same.
            Event::Warning { text, .. } if !self.kept().warnings.contains(text) => {
                self.kept().warnings.push(text.clone());
            }
            _ => {}
        }
        self.inner.event(event);
    }
}
