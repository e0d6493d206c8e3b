//! History: the record that every run leaves, failed ones too.
//!
//! A record is a small JSON object beside the artifacts of its job, so that a key that may only put can write it:
//!
//! ```text
//! <prefix>/_lifeboat/history/<dataset>/<YYYYMMDD-HHMMSS>-<verb>-<outcome>-<8 hex digits>.json
//! ```
//!
//! The time is that of the run's end, UTC; the digits are random, so that no two runs meet. What `status` and alarms need is
//! in the name: [`list`] reads no object. A record holds no secret and nothing of what is inside a dataset.
//!
//! Records are kept for [`KEEP`] and then removed by [`prune`], by nothing else.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::catalog::{Artifact, Verification};
use crate::error::{Error, ErrorKind, Result};
use crate::name::{ArtifactName, Dataset, format_stamp, join_key, parse_stamp, split_key};
use crate::sink::{Held, Sink};
use crate::stream;
use crate::verifier::Level;

mod journal;

pub(crate) use journal::{Figures, Journal};

/// The folder, beside the artifacts, that holds the records, in a folder for each dataset.
pub const HISTORY_FOLDER: &str = "_lifeboat/history";

/// How long records are kept where nothing else is said: 400 days, so that there is always a year to look back on.
pub const KEEP: Duration = Duration::from_secs(400 * 86_400);

/// The version of the form of records that is written and read here.
pub const FORMAT_VERSION: u32 = 1;

/// No record is larger, in bytes.
const RECORD_LIMIT: usize = 64 << 10;

/// What names deleted artifacts takes at most so many bytes of a record.
const DELETED_LIMIT: usize = 48 << 10;

/// Records that are read side by side.
pub(crate) const SIDE_BY_SIDE: usize = 16;

/// Records that are deleted together.
const BATCH: usize = 500;

/// What a run did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Verb {
    /// Backed up.
    Backup,
    /// Verified an artifact.
    Verify,
    /// Restored an artifact.
    Restore,
    /// Deleted what retention no longer keeps.
    Prune,
    /// Copied artifacts to another sink.
    Replicate,
}

impl Verb {
    const ALL: [Self; 5] = [Self::Backup, Self::Verify, Self::Restore, Self::Prune, Self::Replicate];

    /// The verb as it stands in names.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Backup => "backup",
            Self::Verify => "verify",
            Self::Restore => "restore",
            Self::Prune => "prune",
            Self::Replicate => "replicate",
        }
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What came of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Outcome {
    /// All that was asked for.
    Good,
    /// It, but a person should look: one of several sinks failed, a check warned.
    Warning,
    /// Not it. A cancelled run has failed too.
    Failed,
}

impl Outcome {
    const ALL: [Self; 3] = [Self::Good, Self::Warning, Self::Failed];

    /// The outcome as it stands in names.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Warning => "warning",
            Self::Failed => "failed",
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Why a run failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Failure {
    /// The [`ErrorKind`]'s name.
    pub kind: String,
    /// The error's message, at most 500 characters. Empty where the dataset is nothing but secrets.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
}

impl Failure {
    /// What an error says, or its kind only where the dataset is confidential.
    pub fn of(error: &Error, confidential: bool) -> Self {
        Self::new(error.kind(), if confidential { "" } else { error.message() })
    }

    pub(crate) fn new(kind: ErrorKind, message: &str) -> Self {
        let plain = message.chars().map(|c| if c.is_control() { ' ' } else { c });
        Self { kind: kind.as_str().to_owned(), message: plain.take(500).collect() }
    }
}

/// What is recorded of a run.
///
/// ```
/// use futures::TryStreamExt;
/// use lifeboat_core::history::{self, Outcome, Verb};
/// use lifeboat_core::{Dataset, Result, Sink};
///
/// /// Why the last backup failed, if it did.
/// async fn failure(sink: &dyn Sink) -> Result<Option<String>> {
///     let runs: Vec<_> = history::list(sink, "databases", Some(&Dataset::new("shop")?), None).try_collect().await?;
///     let Some(last) = runs.iter().rfind(|run| run.verb == Verb::Backup) else { return Ok(None) };
///     let record = history::read(sink, &last.key).await?;
///     Ok(record.error.filter(|_| last.outcome == Outcome::Failed).map(|error| error.message))
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Record {
    /// Version of this form. A reader refuses what is newer than it knows.
    pub format_version: u32,
    /// Lifeboat's version that wrote it.
    pub written_by: String,
    /// What the run did.
    pub verb: Verb,
    /// With which dataset.
    pub dataset: Dataset,
    /// What came of it.
    pub outcome: Outcome,
    /// When it began.
    pub started_at: Timestamp,
    /// When it ended: the time in the name, to the second.
    pub finished_at: Timestamp,
    /// How long it took, in seconds.
    pub seconds: f64,
    /// The sink's URL, without credentials.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sink: Option<String>,
    /// The key of the artifact, where there was one; of a copy, that of the newest one that is there now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Of a verification, its level.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub level: Option<Level>,
    /// Stored bytes that were written, read, freed or copied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// Of a backup, the items in its proof (tables, zones); of a prune or a copy, the artifacts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub items: Option<u64>,
    /// Of a backup, the rows in its proof.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<u64>,
    /// Of a prune, what it deleted, newest first: without this, an artifact that is missing could be one that somebody took
    /// away. Where there are more than fit into a record, the oldest are left out, and [`items`](Self::items) counts them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deleted: Option<Vec<DeletedArtifact>>,
    /// Why it failed, where there was an error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Failure>,
}

/// An artifact that a prune deleted, and what was known of it: the records beside it went with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct DeletedArtifact {
    /// Its name.
    pub artifact: String,
    /// Of its verifications the one that proved most, and the last one where that failed, each as its name said it:
    /// `20261122-040000-restore-pass`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub verified: Vec<String>,
}

impl DeletedArtifact {
    /// What is worth remembering of an artifact.
    pub(crate) fn of(artifact: &Artifact) -> Self {
        let last_failed = artifact.verifications.last().filter(|v| !v.passed);
        let told = artifact.last_passed().into_iter().chain(last_failed);
        Self { artifact: artifact.name.to_string(), verified: told.map(Verification::in_name).collect() }
    }
}

impl Record {
    /// The record of a run that has just ended and of which nothing else is known.
    pub fn new(verb: Verb, dataset: Dataset, outcome: Outcome, started_at: Timestamp, finished_at: Timestamp) -> Self {
        Self {
            format_version: FORMAT_VERSION,
            written_by: concat!("lifeboat ", env!("CARGO_PKG_VERSION")).to_owned(),
            verb,
            dataset,
            outcome,
            started_at,
            finished_at,
            seconds: finished_at.duration_since(started_at).as_secs_f64().max(0.0),
            sink: None,
            key: None,
            level: None,
            bytes: None,
            items: None,
            rows: None,
            deleted: None,
            error: None,
        }
    }

    /// Remembers what a prune deleted, newest first, as much of it as fits.
    pub(crate) fn remember(&mut self, mut deleted: Vec<DeletedArtifact>) {
        let newest_first = |d: &DeletedArtifact| Reverse(ArtifactName::parse(&d.artifact).map(|name| name.taken_at));
        deleted.sort_by_cached_key(|d| (newest_first(d), d.artifact.clone()));
        let mut room = DELETED_LIMIT;
        let fits = |d: &DeletedArtifact| {
            // With the quotes, commas and indents of its JSON.
            let size = d.artifact.len() + 64 + d.verified.iter().map(|v| v.len() + 24).sum::<usize>();
            room = room.saturating_sub(size);
            room > 0
        };
        self.deleted = Some(deleted.into_iter().take_while(fits).collect());
    }

    /// Whether it says that a prune deleted this artifact. A record of the time before records named what was deleted may mean
    /// any; of one that left some out, any that is older than those it names.
    pub(crate) fn may_have_deleted(&self, name: &ArtifactName) -> bool {
        let items = self.items.unwrap_or(0);
        let Some(deleted) = &self.deleted else { return items > 0 };
        let text = name.to_string();
        let is_older =
            |d: &DeletedArtifact| ArtifactName::parse(&d.artifact).is_some_and(|last| name.taken_at <= last.taken_at);
        deleted.iter().any(|d| d.artifact == text)
            || (items > deleted.len() as u64 && deleted.last().is_none_or(is_older))
    }
}

/// A record as its name tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Entry {
    /// The record's key.
    pub key: String,
    /// The dataset.
    pub dataset: Dataset,
    /// When the run ended, to the second.
    pub at: Timestamp,
    /// What it did.
    pub verb: Verb,
    /// What came of it.
    pub outcome: Outcome,
}

impl Entry {
    /// Reads the key of a record; `None` for a key that is none, or that is of a form not known here.
    pub fn parse(key: &str) -> Option<Self> {
        let (folder, name) = key.rsplit_once('/')?;
        let (own, dataset) = folder.rsplit_once('/')?;
        let in_place = own.strip_suffix(HISTORY_FOLDER).is_some_and(|rest| rest.is_empty() || rest.ends_with('/'));
        let mut parts = name.strip_suffix(".json").filter(|_| in_place)?.rsplitn(4, '-');
        let (random, outcome, verb, stamp) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let is_random = random.len() == 8 && random.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        Some(Self {
            key: key.to_owned(),
            dataset: Dataset::new(dataset).ok().filter(|_| is_random)?,
            at: parse_stamp(stamp)?,
            verb: Verb::ALL.into_iter().find(|v| v.as_str() == verb)?,
            outcome: Outcome::ALL.into_iter().find(|o| o.as_str() == outcome)?,
        })
    }
}

/// Writes a record into the history of a folder, and returns its key.
///
/// # Errors
/// What the sink fails with. A run whose record cannot be written has not failed for that.
///
/// # Cancel safety
/// Safe: the record is there or it is not.
pub async fn write(sink: &dyn Sink, folder: &str, record: &Record) -> Result<String> {
    let mut body = serde_json::to_vec_pretty(record).expect("a record has string keys only");
    body.push(b'\n');
    let mut random = [0; 4];
    getrandom::fill(&mut random)
        .map_err(|e| Error::new(ErrorKind::Internal, "read", "the system's random numbers", e.to_string()))?;
    let (stamp, verb, outcome) = (format_stamp(record.finished_at), record.verb, record.outcome);
    let name = format!("{HISTORY_FOLDER}/{}/{stamp}-{verb}-{outcome}-{}.json", record.dataset, hex::encode(random));
    let key = join_key(folder, &name);
    sink.put(&key, stream::once(body)).await?;
    Ok(key)
}

fn prefix_of(folder: &str, dataset: Option<&Dataset>) -> String {
    let own = join_key(folder, HISTORY_FOLDER);
    dataset.map_or_else(|| format!("{own}/"), |dataset| format!("{own}/{dataset}/"))
}

/// The records of a dataset in a folder, oldest first, told from names alone, page by page; without a dataset, of all of
/// them, one after the other. With `since`, those of runs that ended then or later. Names of another form are passed over.
///
/// # Errors
/// As items: what the sink's listing fails with. A folder without a history is empty.
pub fn list<'a>(
    sink: &'a dyn Sink,
    folder: &str,
    dataset: Option<&Dataset>,
    since: Option<Timestamp>,
) -> BoxStream<'a, Result<Entry>> {
    let objects = sink.list(&prefix_of(folder, dataset));
    let entries = objects.filter_map(move |object| {
        let entry = object.map(|o| Entry::parse(&o.key).filter(|entry| since.is_none_or(|since| entry.at >= since)));
        std::future::ready(entry.transpose())
    });
    entries.boxed()
}

/// Reads a record.
///
/// # Errors
/// [`ErrorKind::NotFound`]; [`ErrorKind::Corrupt`] when it is none; [`ErrorKind::Unsupported`] when it is of a newer form.
pub async fn read(sink: &dyn Sink, key: &str) -> Result<Record> {
    #[derive(Deserialize)]
    struct Version {
        format_version: u32,
    }
    let bytes = stream::collect(sink.get(key, None).await?, RECORD_LIMIT, key).await?;
    let corrupt = |e: serde_json::Error| {
        Error::new(ErrorKind::Corrupt, "read", key, format!("it is not the record of a run ({e})"))
    };
    let version: Version = serde_json::from_slice(&bytes).map_err(corrupt)?;
    if version.format_version > FORMAT_VERSION {
        let why = format!("its format version is {}, newer than {FORMAT_VERSION}", version.format_version);
        return Err(Error::new(ErrorKind::Unsupported, "read", key, why).hint("use a newer Lifeboat"));
    }
    serde_json::from_slice(&bytes).map_err(corrupt)
}

/// The records of runs that had to do with one artifact, oldest first: the evidence that outlives it. They are read one by one,
/// so this takes a while where the history is long.
///
/// # Errors
/// What the sink fails with. A record that is none, or of a newer form, is passed over.
pub async fn of_artifact(sink: &dyn Sink, folder: &str, artifact: &ArtifactName) -> Result<Vec<Record>> {
    let text = artifact.to_string();
    let is_about = |record: &Record| {
        record.key.as_deref().is_some_and(|key| split_key(key).1 == text)
            || record.deleted.iter().flatten().any(|deleted| deleted.artifact == text)
    };
    let entries = list(sink, folder, Some(&artifact.dataset), Some(artifact.taken_at));
    let records = entries.map_ok(|entry| async move { read_if_known(sink, &entry.key).await });
    records.try_buffered(SIDE_BY_SIDE).try_filter_map(async |record| Ok(record.filter(&is_about))).try_collect().await
}

/// Reads a record; `None` for one that has gone, is none, or is of a newer form.
pub(crate) async fn read_if_known(sink: &dyn Sink, key: &str) -> Result<Option<Record>> {
    match read(sink, key).await {
        Ok(record) => Ok(Some(record)),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Corrupt | ErrorKind::Unsupported) => {
            tracing::warn!(%error, "a record of the history is passed over");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// What [`prune`] has done.
#[derive(Clone, Debug, Default, Serialize)]
#[non_exhaustive]
pub struct Forgotten {
    /// How many records are gone.
    pub deleted: u64,
    /// What the store holds, and until when: no failure.
    pub held: Vec<Held>,
    /// Keys that could not be deleted, each with the reason.
    pub failed: Vec<(String, String)>,
    /// What a person should know.
    pub notes: Vec<String>,
}

/// Deletes the records of a folder that are older than `keep`, of one dataset or of all.
///
/// # Behaviour
/// - Of a dataset with a record that is not known here nothing is deleted, and a note says so.
///
/// # Errors
/// What the sink fails with; from half a listing nothing is decided.
///
/// # Cancel safety
/// Safe: what is left is found again by the next call.
pub async fn prune(
    sink: &dyn Sink,
    folder: &str,
    dataset: Option<&Dataset>,
    now: Timestamp,
    keep: Duration,
) -> Result<Forgotten> {
    let age = SignedDuration::try_from(keep).unwrap_or(SignedDuration::MAX);
    let before = now.checked_sub(age).unwrap_or(Timestamp::MIN);
    let prefix = prefix_of(folder, dataset);
    let mut forgotten = Forgotten::default();
    let mut unknown = BTreeSet::new();
    let mut objects = sink.list(&prefix);
    while let Some(object) = objects.next().await {
        let key = object?.key;
        if Entry::parse(&key).is_none()
            && let Some((folder, _)) = key.rsplit_once('/')
            && unknown.insert(folder.to_owned())
        {
            let note = format!(
                "no record in {folder} was deleted: {key} is not known here; a newer Lifeboat may have written it"
            );
            forgotten.notes.push(note);
        }
    }
    drop(objects);
    let mut batch = Vec::new();
    let mut entries = list(sink, folder, dataset, None);
    loop {
        let entry = entries.next().await.transpose()?;
        let ended = entry.is_none();
        let old = entry.filter(|entry| entry.at < before).map(|entry| entry.key);
        batch.extend(old.filter(|key| key.rsplit_once('/').is_some_and(|(folder, _)| !unknown.contains(folder))));
        if ended || batch.len() == BATCH {
            let deleted = sink.delete(&std::mem::take(&mut batch)).await?;
            forgotten.deleted += deleted.keys.len() as u64;
            forgotten.held.extend(deleted.held);
            forgotten.failed.extend(deleted.failed);
            let new = deleted.notes.into_iter().filter(|note| !forgotten.notes.contains(note)).collect::<Vec<_>>();
            forgotten.notes.extend(new);
        }
        if ended {
            return Ok(forgotten);
        }
    }
}
