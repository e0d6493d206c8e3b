//! What interrupted runs have left behind, and what deletions without the right to delete versions have only hidden.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::StreamExt;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::{Intent, Role, State, exists, intent_key, intent_of, intents, list_all, role};
use crate::error::{Error, ErrorKind, Result};
use crate::name::{ArtifactName, Dataset, join_key, split_key};
use crate::sink::{Held, Hidden, PROBES_FOLDER, Sink, UPLOADS_FOLDER, upkeep};

/// How many objects are removed in one call.
const BATCH: usize = 500;

/// What [`remove_orphans`] has removed, or would remove.
#[derive(Clone, Debug, Default, Serialize)]
#[non_exhaustive]
pub struct Cleaned {
    /// A description of each thing removed.
    pub removed: Vec<String>,
    /// The number of stored bytes freed, without parts of unfinished uploads: no store says how large those are.
    pub bytes: u64,
    /// What the store holds, and until when. This is not a failure: a later run removes it.
    pub held: Vec<Held>,
    /// Notes for the user: objects could only be hidden, or hidden objects could not be listed.
    pub notes: Vec<String>,
}

/// Removes what killed runs have left in a folder: objects without a manifest for which there is an intent, unfinished
/// uploads, probes, and the notes about them; and, if the store keeps versions, objects of Lifeboat's that are only
/// hidden. Everything must be older than `age` (hidden objects: hidden for that long). Nothing else is touched, in
/// particular no records of runs. With `dry_run`, only reports what would be removed.
///
/// If a dataset has an object that this version does not recognize, nothing of it is removed, and a note says so: a
/// newer Lifeboat may have finished in its own way what looks unfinished here.
/// A sink without [`Upkeep`](crate::sink::Upkeep) has neither unfinished uploads nor hidden objects.
///
/// # Errors
/// Any error of the sink.
///
/// # Cancel safety
/// Safe: the next call finds what is left.
pub async fn remove_orphans(
    sink: &dyn Sink,
    folder: &str,
    now: Timestamp,
    age: Duration,
    dry_run: bool,
) -> Result<Cleaned> {
    let age = SignedDuration::try_from(age).unwrap_or(SignedDuration::MAX);
    let before = now.checked_sub(age).unwrap_or(Timestamp::MIN);
    let folder = folder.trim_matches('/');
    let mut sweep = Sweep { sink, folder, before, dry_run, cleaned: Cleaned::default(), known: BTreeMap::new() };
    // Hidden objects first: only the notes, live or hidden, distinguish them from foreign ones.
    sweep.hidden_artifacts().await?;
    sweep.unfinished().await?;
    let aborted = upkeep(sink).abort_unfinished(folder, before, dry_run).await?;
    sweep.cleaned.removed.extend(aborted);
    sweep.probes().await?;
    for own in [UPLOADS_FOLDER, PROBES_FOLDER] {
        sweep.hidden_notes(&format!("{}/", join_key(folder, own))).await?;
    }
    Ok(sweep.cleaned)
}

struct Sweep<'a> {
    sink: &'a dyn Sink,
    folder: &'a str,
    before: Timestamp,
    dry_run: bool,
    cleaned: Cleaned,
    /// Whether all objects of a dataset are recognized, for datasets checked so far.
    known: BTreeMap<Dataset, bool>,
}

/// Something to remove.
struct Leftover {
    key: String,
    bytes: u64,
    words: String,
}

impl Leftover {
    fn hidden(hidden: Hidden) -> Self {
        let since = Timestamp::from_second(hidden.since.as_second()).unwrap_or(hidden.since);
        let words = format!("{} ({} bytes, hidden since {since})", hidden.key, hidden.bytes);
        Self { key: hidden.key, bytes: hidden.bytes, words }
    }
}

impl Sweep<'_> {
    /// Removes these, and returns whether none of them is held.
    async fn remove(&mut self, leftovers: &[Leftover]) -> Result<bool> {
        if leftovers.is_empty() {
            return Ok(true);
        }
        let keys: Vec<String> = leftovers.iter().map(|l| l.key.clone()).collect();
        let (held, freed) = if self.dry_run {
            (upkeep(self.sink).held(&keys).await?, None)
        } else {
            let deleted = self.sink.delete(&keys).await?;
            if let Some((key, why)) = deleted.failed.into_iter().next() {
                return Err(Error::new(ErrorKind::Permission, "delete", key, why));
            }
            for note in deleted.notes {
                self.note(note);
            }
            (deleted.held, deleted.bytes)
        };
        for leftover in leftovers.iter().filter(|l| held.iter().all(|h| h.key != l.key)) {
            self.cleaned.removed.push(leftover.words.clone());
            self.cleaned.bytes += if freed.is_none() { leftover.bytes } else { 0 };
        }
        self.cleaned.bytes += freed.unwrap_or(0);
        let none_held = held.is_empty();
        self.cleaned.held.extend(held);
        Ok(none_held)
    }

    fn note(&mut self, note: String) {
        if !self.cleaned.notes.contains(&note) {
            self.cleaned.notes.push(note);
        }
    }

    /// Whether all objects of a dataset in the folder are recognized. A note names one that is not.
    async fn is_known(&mut self, dataset: &Dataset) -> Result<bool> {
        if let Some(known) = self.known.get(dataset) {
            return Ok(*known);
        }
        let mut unknown = None;
        {
            let mut listed = list_all(self.sink, self.folder, Some(dataset));
            while let Some(listed) = listed.next().await {
                let listed = listed?;
                if listed.state == State::Gone {
                    continue;
                }
                unknown = listed.artifact.unknown.into_iter().next();
                if unknown.is_some() {
                    break;
                }
            }
        }
        self.known.insert(dataset.clone(), unknown.is_none());
        if let Some(unknown) = &unknown {
            self.note(format!(
                "nothing of {dataset} was removed: {unknown} is not known here; a newer Lifeboat may have written it"
            ));
        }
        Ok(unknown.is_none())
    }

    /// What intents point to: everything of an unfinished run, only the note of a finished one.
    async fn unfinished(&mut self) -> Result<()> {
        let sink = self.sink;
        let mut found = intents(sink, self.folder);
        let mut old = Vec::new();
        while let Some(intent) = found.next().await {
            let intent = intent?;
            if intent.modified < self.before {
                old.push(intent);
            }
            if old.len() >= BATCH {
                self.settle(std::mem::take(&mut old)).await?;
            }
        }
        self.settle(old).await
    }

    async fn settle(&mut self, intents: Vec<Intent>) -> Result<()> {
        let mut notes = Vec::new();
        for intent in intents {
            let Some(name) = ArtifactName::parse(&intent.artifact) else { continue };
            if !self.is_known(&name.dataset).await? {
                continue;
            }
            let key = join_key(self.folder, &intent.artifact);
            let (mut leftovers, mut sidecars) = (Vec::new(), Vec::new());
            let mut committed = false;
            {
                let mut objects = self.sink.list(&key);
                while let Some(object) = objects.next().await {
                    let object = object?;
                    match role(split_key(&object.key).1) {
                        Some((artifact, Role::Manifest)) if artifact == name => committed = true,
                        Some((artifact, Role::Object)) if artifact == name => {
                            let words = format!("{} ({} bytes, its backup did not finish)", object.key, object.bytes);
                            leftovers.push(Leftover { key: object.key, bytes: object.bytes, words });
                        }
                        Some((artifact, Role::Need(_))) if artifact == name => {
                            let words = format!("{} (what it needs, its backup did not finish)", object.key);
                            sidecars.push(Leftover { key: object.key, bytes: object.bytes, words });
                        }
                        Some((artifact, Role::Holds(..))) if artifact == name => {
                            let words = format!("{} (how much it holds, its backup did not finish)", object.key);
                            sidecars.push(Leftover { key: object.key, bytes: object.bytes, words });
                        }
                        _ => {}
                    }
                }
            }
            let run = if committed { "a run that has finished" } else { "a run that did not finish" };
            let words = format!("{} (the note of {run})", intent.key);
            if !committed {
                // A held object needs its note: without it, it would be taken for a foreign backup.
                let all_gone = self.remove(&leftovers).await? && self.remove(&sidecars).await?;
                match upkeep(self.sink).abort_uploads_of(&key, self.before, self.dry_run).await {
                    Ok(aborted) => self.cleaned.removed.extend(aborted),
                    Err(error) if error.kind() == ErrorKind::Permission => {
                        tracing::debug!(%error, "cannot look for uploads without a note");
                    }
                    Err(error) => return Err(error),
                }
                if !all_gone {
                    continue;
                }
            }
            notes.push(Leftover { key: intent.key, bytes: 0, words });
        }
        self.remove(&notes).await.map(drop)
    }

    /// The probes that a check could not delete.
    async fn probes(&mut self) -> Result<()> {
        let mut leftovers = Vec::new();
        {
            let mut objects = self.sink.list(&format!("{}/", join_key(self.folder, PROBES_FOLDER)));
            while let Some(object) = objects.next().await {
                let object = object?;
                if object.modified < self.before {
                    let words = format!("{} (the probe of a check)", object.key);
                    leftovers.push(Leftover { key: object.key, bytes: object.bytes, words });
                }
            }
        }
        for batch in leftovers.chunks(BATCH) {
            self.remove(batch).await?;
        }
        Ok(())
    }

    /// Hidden notes in a folder of Lifeboat's own.
    async fn hidden_notes(&mut self, prefix: &str) -> Result<()> {
        let sink = self.sink;
        let mut found = upkeep(sink).hidden(prefix);
        let mut batch = Vec::new();
        while let Some(hidden) = self.next_hidden(found.next().await)? {
            let is_note = intent_of(&hidden.key, prefix).is_some_and(|name| ArtifactName::parse(name).is_some())
                || hidden.key.strip_prefix(prefix).is_some_and(|name| is_note_name(prefix, name));
            if is_note && hidden.since < self.before {
                batch.push(Leftover::hidden(hidden));
            }
            if batch.len() >= BATCH {
                self.remove(&std::mem::take(&mut batch)).await?;
            }
        }
        self.remove(&batch).await.map(drop)
    }

    /// Hidden artifacts that Lifeboat wrote: those with an intent, or with a manifest or record that is hidden too.
    async fn hidden_artifacts(&mut self) -> Result<()> {
        let sink = self.sink;
        let prefix = if self.folder.is_empty() { String::new() } else { format!("{}/", self.folder) };
        let mut found = upkeep(sink).hidden(&prefix);
        let (mut batch, mut group) = (Vec::new(), Group::default());
        loop {
            let hidden = self.next_hidden(found.next().await)?;
            let ended = hidden.is_none();
            let next = hidden.and_then(|hidden| {
                let name = hidden.key.strip_prefix(&prefix)?;
                let (artifact, role) = role(name).filter(|_| !name.contains('/'))?;
                Some((artifact, role, hidden))
            });
            if ended || next.as_ref().is_some_and(|(artifact, ..)| group.artifact.as_ref() != Some(artifact)) {
                let done = std::mem::take(&mut group);
                if self.is_ours(&done).await? && self.may_go(&done).await? {
                    batch.extend(done.hidden.into_iter().filter(|h| h.since < self.before).map(Leftover::hidden));
                }
                if ended || batch.len() >= BATCH {
                    self.remove(&std::mem::take(&mut batch)).await?;
                }
            }
            if ended {
                return Ok(());
            }
            if let Some((artifact, role, hidden)) = next {
                group.artifact = Some(artifact);
                group.ours |= !matches!(role, Role::Object);
                group.hidden.push(hidden);
            }
        }
    }

    async fn may_go(&mut self, group: &Group) -> Result<bool> {
        match &group.artifact {
            Some(artifact) => self.is_known(&artifact.dataset.clone()).await,
            None => Ok(true),
        }
    }

    async fn is_ours(&self, group: &Group) -> Result<bool> {
        let Some(artifact) = &group.artifact else { return Ok(false) };
        if group.ours {
            return Ok(true);
        }
        let intent = intent_key(self.folder, &artifact.to_string());
        if exists(self.sink, &intent).await? {
            return Ok(true);
        }
        let hidden = upkeep(self.sink).hidden(&intent).next().await.transpose()?;
        Ok(hidden.is_some_and(|hidden| hidden.key == intent))
    }

    /// The next hidden object. If versions may not be listed, returns none and adds a note.
    fn next_hidden(&mut self, next: Option<Result<Hidden>>) -> Result<Option<Hidden>> {
        match next {
            Some(Err(error)) if error.kind() == ErrorKind::Permission => {
                let advice = error.advice().map(|a| format!("; {a}")).unwrap_or_default();
                self.note(format!("hidden versions were not looked for: {error}{advice}"));
                Ok(None)
            }
            next => next.transpose(),
        }
    }
}

/// The hidden objects of one artifact.
#[derive(Default)]
struct Group {
    artifact: Option<ArtifactName>,
    /// Whether one of them has a name that only Lifeboat uses.
    ours: bool,
    hidden: Vec<Hidden>,
}

/// Whether a name in one of Lifeboat's own folders is that of an upload's note (`<object>.<16 hex digits>.json`) or of a
/// probe (`<time>-<process>`).
fn is_note_name(folder: &str, name: &str) -> bool {
    if folder.ends_with(&format!("{PROBES_FOLDER}/")) {
        return name.bytes().all(|b| b.is_ascii_digit() || b == b'-');
    }
    let hash = name.strip_suffix(".json").and_then(|name| name.rsplit_once('.')).map(|(_, hash)| hash);
    hash.is_some_and(|h| h.len() == 16 && h.bytes().all(|b| b.is_ascii_hexdigit()))
}
