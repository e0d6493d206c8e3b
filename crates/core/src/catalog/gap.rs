//! Gaps: artifacts that were there, that no prune has deleted, and that are there no more.
//!
//! Only what is newer than the newest one that is left matters: a backup that is taken for the newest, and is not, would be
//! verified and restored in the place of the one that is missing. Older gaps change no answer, and every new backup closes
//! this one.

use std::collections::VecDeque;

use futures::{StreamExt, TryStreamExt};
use jiff::{SignedDuration, Timestamp};

use super::{Artifact, exists};
use crate::error::{Error, ErrorKind, Result};
use crate::hint::Hint;
use crate::history::{self, Entry, Outcome, Record, SIDE_BY_SIDE, Verb};
use crate::name::{ArtifactName, Dataset, MANIFEST_SUFFIX, join_key, split_key};
use crate::sink::Sink;

/// So many records of backups are looked at, the newest first, and so many of prunes.
const LOOK_AT: usize = 2_000;
/// So many of runs that name an artifact which others have named before: what they name last is what matters.
const LOOK_AT_OTHERS: usize = 64;
/// A backup whose record came so long after the time that is asked for was not taken before it.
const LONGEST: SignedDuration = SignedDuration::from_hours(24);

/// An artifact that is not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Lost {
    pub(super) name: ArtifactName,
    pub(super) trace: Trace,
}

/// What tells of an artifact that is not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Trace {
    /// Its manifest.
    Manifest,
    /// A manifest of a form that is not known here. Its data may lie anywhere.
    OtherManifest(String),
    /// Records and figures beside it.
    Notes,
    /// The record of a run.
    Run { verb: Verb, at: Timestamp },
}

impl Trace {
    /// Of an artifact that is listed as damaged.
    pub(super) fn of_damaged(artifact: &Artifact) -> Self {
        artifact.other_manifest().map_or(Self::Manifest, |key| Self::OtherManifest(key.clone()))
    }

    /// Whether a listing shows it.
    pub(super) fn is_listed(&self) -> bool {
        matches!(self, Self::Manifest | Self::OtherManifest(_))
    }
}

impl Lost {
    /// The error that names it, and what is there instead.
    pub(super) fn error(&self, place: &str, older: Option<&Artifact>) -> Error {
        let name = &self.name;
        let what = match &self.trace {
            Trace::Manifest => format!("of {name} only the manifest is left in {place}; its object is missing"),
            Trace::OtherManifest(key) => format!("{key} in {place} is of a form that is not known here"),
            Trace::Notes => format!("{name} is missing from {place}, where notes about it are left"),
            Trace::Run { verb, at } => {
                let done = match verb {
                    Verb::Backup => "backed up",
                    Verb::Verify => "verified",
                    Verb::Restore => "restored from",
                    Verb::Replicate => "copied to it",
                    Verb::Prune => "deleted",
                };
                format!(
                    "{name} is missing from {place}: by the history it was {done} at {at}, and no prune has deleted it"
                )
            }
        };
        let instead = match older {
            Some(older) => format!("; the newest before it is {}", older.name),
            None => "; there is no older one".to_owned(),
        };
        let hint = match &self.trace {
            Trace::OtherManifest(_) => Hint::from("use a newer Lifeboat"),
            _ => Hint::FindMissingArtifact { older: older.map(|older| older.name.to_string()) },
        };
        let subject = format!("the newest artifact of {}", name.dataset);
        Error::new(ErrorKind::NotFound, "find", subject, what + &instead).hint(hint)
    }
}

/// The newest artifact that must be there, was taken after `found` and not after `until`, and is not there. `lost` is what the
/// listing itself has shown.
///
/// # Errors
/// What the sink fails with. An identity that may not read the history knows only what the listing shows.
pub(super) async fn newest(
    sink: &dyn Sink,
    folder: &str,
    dataset: &Dataset,
    found: Option<&Artifact>,
    until: Option<Timestamp>,
    mut lost: Vec<Lost>,
) -> Result<Option<Lost>> {
    let after = found.map(|found| found.name.taken_at);
    let is_asked_for = |name: &ArtifactName| {
        name.dataset == *dataset
            && after.is_none_or(|after| name.taken_at > after)
            && until.is_none_or(|until| name.taken_at <= until)
    };
    let runs = match Runs::list(sink, folder, dataset, after, until).await {
        Ok(runs) => runs,
        Err(error) if error.kind() == ErrorKind::Permission => {
            tracing::warn!(%error, "whether a newer artifact is missing cannot be told from the history");
            Runs::default()
        }
        // A folder in which nothing was ever written.
        Err(error) if error.kind() == ErrorKind::NotFound => Runs::default(),
        Err(error) => return Err(error),
    };
    lost.retain(|lost| is_asked_for(&lost.name));
    lost.extend(runs.named(sink, &is_asked_for).await?);
    lost.sort_by(|a, b| b.name.cmp(&a.name));
    let mut prunes: Option<Vec<Record>> = None;
    for lost in lost {
        if lost.trace.is_listed() {
            return Ok(Some(lost));
        }
        // It may have come since it was listed.
        let key = join_key(folder, &lost.name.to_string());
        if exists(sink, &key).await?
            || exists(sink, &format!("{key}.000")).await?
            || exists(sink, &format!("{key}{MANIFEST_SUFFIX}")).await?
        {
            continue;
        }
        if prunes.is_none() {
            prunes = Some(read_all(sink, &runs.prunes).await?);
        }
        if prunes.iter().flatten().all(|prune| !prune.may_have_deleted(&lost.name)) {
            return Ok(Some(lost));
        }
    }
    Ok(None)
}

/// The runs that may tell what was there, by their names alone, oldest first.
#[derive(Default)]
struct Runs {
    backups: VecDeque<Entry>,
    others: VecDeque<Entry>,
    prunes: VecDeque<Entry>,
}

impl Runs {
    async fn list(
        sink: &dyn Sink,
        folder: &str,
        dataset: &Dataset,
        after: Option<Timestamp>,
        until: Option<Timestamp>,
    ) -> Result<Self> {
        let mut runs = Self::default();
        let until = until.and_then(|until| until.checked_add(LONGEST).ok());
        let mut entries = history::list(sink, folder, Some(dataset), after);
        while let Some(entry) = entries.try_next().await? {
            let (kept, limit) = match (entry.verb, entry.outcome) {
                (Verb::Prune, _) => (&mut runs.prunes, LOOK_AT),
                _ if until.is_some_and(|until| entry.at > until) => continue,
                (Verb::Backup, Outcome::Failed) => continue,
                (Verb::Backup, _) => (&mut runs.backups, LOOK_AT),
                (Verb::Verify | Verb::Restore | Verb::Replicate, _) => (&mut runs.others, LOOK_AT_OTHERS),
            };
            kept.push_back(entry);
            if kept.len() > limit {
                kept.pop_front();
            }
        }
        Ok(runs)
    }

    /// The artifacts that they name and that are asked for, each with one run.
    async fn named(&self, sink: &dyn Sink, is_asked_for: &impl Fn(&ArtifactName) -> bool) -> Result<Vec<Lost>> {
        let mut named: Vec<Lost> = Vec::new();
        for entries in [&self.backups, &self.others] {
            for record in read_all(sink, entries).await? {
                let key = record.key.as_deref().unwrap_or_default();
                if let Some(name) = ArtifactName::parse(split_key(key).1)
                    && is_asked_for(&name)
                    && named.iter().all(|known| known.name != name)
                {
                    let at = Timestamp::from_second(record.finished_at.as_second()).unwrap_or(record.finished_at);
                    named.push(Lost { name, trace: Trace::Run { verb: record.verb, at } });
                }
            }
        }
        Ok(named)
    }
}

/// Reads records, the newest first.
async fn read_all(sink: &dyn Sink, entries: &VecDeque<Entry>) -> Result<Vec<Record>> {
    let keys: Vec<String> = entries.iter().rev().map(|entry| entry.key.clone()).collect();
    let reads = futures::stream::iter(keys).map(|key| async move { history::read_if_known(sink, &key).await });
    let may_read = |read: Result<Option<Record>>| match read {
        Err(error) if error.kind() == ErrorKind::Permission => Ok(None),
        other => other,
    };
    let records = reads.buffered(SIDE_BY_SIDE).map(may_read);
    records.try_filter_map(|record| std::future::ready(Ok(record))).try_collect().await
}
