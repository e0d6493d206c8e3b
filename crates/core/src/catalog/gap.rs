//! Gaps: artifacts that existed, were not pruned, and are gone.
//!
//! Only artifacts newer than the newest remaining one matter: otherwise a backup wrongly taken for the newest would be
//! verified and restored in place of the missing one. Older gaps change no answer, and every new backup closes this
//! one.

use std::collections::VecDeque;

use futures::{StreamExt, TryStreamExt};
use jiff::{SignedDuration, Timestamp};

use super::{Artifact, exists};
use crate::error::{Error, ErrorKind, Result};
use crate::hint::Hint;
use crate::history::{self, Entry, Outcome, Record, SIDE_BY_SIDE, Verb};
use crate::name::{ArtifactName, Dataset, MANIFEST_SUFFIX, join_key, split_key};
use crate::sink::Sink;

/// How many records of backups are examined, newest first, and how many of prunes.
const LOOK_AT: usize = 2_000;
/// How many records are examined of runs that name artifacts which others created: the ones named last matter.
const LOOK_AT_OTHERS: usize = 64;
/// A backup whose record was written this long after the requested time was not taken before that time.
const LONGEST: SignedDuration = SignedDuration::from_hours(24);

/// A missing artifact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Lost {
    pub(super) name: ArtifactName,
    pub(super) trace: Trace,
}

/// The trace that a missing artifact has left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Trace {
    /// Its manifest.
    Manifest,
    /// A manifest of an unknown format. Its data may be anywhere.
    OtherManifest(String),
    /// Records and figures beside it.
    Notes,
    /// The record of a run.
    Run { verb: Verb, at: Timestamp },
}

impl Trace {
    /// The trace of an artifact that is listed as damaged.
    pub(super) fn of_damaged(artifact: &Artifact) -> Self {
        artifact.other_manifest().map_or(Self::Manifest, |key| Self::OtherManifest(key.clone()))
    }

    /// Whether a listing shows the artifact.
    pub(super) fn is_listed(&self) -> bool {
        matches!(self, Self::Manifest | Self::OtherManifest(_))
    }
}

impl Lost {
    /// The error that names the artifact and what is there instead.
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

/// The newest missing artifact that was taken after `found` and not after `until`. `lost` holds those that the listing
/// itself has revealed.
///
/// # Errors
/// Any error of the sink. Without the right to read the history, only what the listing shows counts.
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
        // Nothing was ever written to this folder.
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
        // It may have appeared since the listing.
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

/// The runs whose records may name missing artifacts, from names alone, oldest first.
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

    /// The requested artifacts that they name, each with one run.
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

/// Reads records, newest first.
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
