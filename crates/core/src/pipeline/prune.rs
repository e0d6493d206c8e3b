//! [`Prune`]: deletes what a retention policy no longer keeps.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use futures::StreamExt;
use jiff::Timestamp;
use serde::Serialize;

use crate::catalog::{self, Artifact, Kind};
use crate::error::Result;
use crate::name::{ArtifactName, Dataset, MANIFEST_SUFFIX, format_stamp, join_key, split_key};
use crate::retention::{Decision, Policy, Subject, Verdicts, Warning, decide};
use crate::sink::{Deleted, Held, Sink, upkeep};
use crate::verifier::Level;

/// Artifacts that are deleted together. Each has a manifest, an object and some records, and stores delete 1,000 keys in one
/// request.
const BATCH: usize = 250;

/// Prunes one dataset in one folder of a sink: [`plan`](Prune::plan), show it, [`execute`](Prune::execute).
///
/// Of each artifact some 40 bytes are held: its time and size, and what was decided. Its key and the reasons in words are
/// made when they are asked for. Executing holds in full what is deleted.
#[derive(Debug)]
pub struct Prune {
    sink: Arc<dyn Sink>,
    folder: String,
    dataset: Dataset,
    facts: Facts,
    verdicts: Verdicts,
}

/// What a decision needs to know of an artifact.
#[derive(Clone, Copy, Debug)]
struct Fact {
    taken_at: Timestamp,
    bytes: u64,
    /// Which of the extensions its name has.
    extensions: u32,
    proven: Proven,
    bad: bool,
}

/// The deepest level at which it ever passed, as far as retention cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Proven {
    No,
    Parsed,
    Restored,
}

/// The artifacts of a dataset, newest first, in the same second by key. Keys differ in time and extensions only, and there
/// are few extensions: none is held as text.
#[derive(Debug, Default)]
struct Facts {
    all: Vec<Fact>,
    extensions: Vec<String>,
}

impl Facts {
    async fn read(sink: &dyn Sink, folder: &str, dataset: &Dataset) -> Result<Self> {
        let mut facts = Self::default();
        let mut numbers: HashMap<String, u32> = HashMap::new();
        let mut listed = catalog::list(sink, folder, Some(dataset));
        while let Some(artifact) = listed.next().await {
            let artifact = artifact?;
            let next = u32::try_from(numbers.len()).expect("there are fewer than four billion objects");
            let extensions = *numbers.entry(artifact.name.extensions()).or_insert(next);
            facts.all.push(Fact::of(&artifact, extensions));
        }
        facts.extensions = vec![String::new(); numbers.len()];
        for (extensions, number) in numbers {
            facts.extensions[usize::try_from(number).expect("a position fits")] = extensions;
        }
        let Self { all, extensions } = &mut facts;
        let place = |fact: &Fact| (Reverse(fact.taken_at), fact.extensions(extensions));
        all.sort_unstable_by(|a, b| place(a).cmp(&place(b)));
        // Of what is listed twice the worst is believed.
        all.dedup_by(|again, known| {
            let same = place(again) == place(known);
            if same {
                known.bad |= again.bad;
                known.proven = known.proven.max(again.proven);
                known.bytes = known.bytes.max(again.bytes);
            }
            same
        });
        // Where something was restored, only that counts as proven: a mere look at a newer one must not cost it.
        if all.iter().any(|fact| fact.proven == Proven::Restored) {
            for fact in all.iter_mut().filter(|fact| fact.proven == Proven::Parsed) {
                fact.proven = Proven::No;
            }
        }
        Ok(facts)
    }

    /// Where this artifact stands; `None` for one that was not there.
    fn position(&self, name: &ArtifactName) -> Option<usize> {
        let wanted = name.extensions();
        let place = |fact: &Fact| {
            let time = Reverse(fact.taken_at).cmp(&Reverse(name.taken_at));
            time.then_with(|| fact.extensions(&self.extensions).cmp(&wanted))
        };
        self.all.binary_search_by(place).ok()
    }
}

impl Fact {
    fn of(artifact: &Artifact, extensions: u32) -> Self {
        let passed = |level| artifact.verifications.iter().any(|v| v.passed && v.level == level);
        Self {
            taken_at: artifact.name.taken_at,
            bytes: artifact.bytes(),
            extensions,
            proven: match () {
                () if passed(Level::Restore) => Proven::Restored,
                () if passed(Level::Structure) => Proven::Parsed,
                () => Proven::No,
            },
            bad: artifact.kind == Kind::Damaged || artifact.is_known_bad() || artifact.bytes() == 0,
        }
    }

    fn extensions(self, all: &[String]) -> &str {
        &all[usize::try_from(self.extensions).expect("a position fits")]
    }
}

impl Subject for Fact {
    fn taken_at(&self) -> Timestamp {
        self.taken_at
    }

    fn is_good(&self) -> bool {
        !self.bad
    }

    fn is_verified(&self) -> bool {
        self.proven != Proven::No
    }
}

impl Prune {
    /// Reads the catalog and decides. Deletes nothing.
    ///
    /// Foreign artifacts count like any other. One that failed a verification is bad until it has passed one as deep: it
    /// stands in for nothing.
    ///
    /// # Errors
    /// What the sink's listing fails with: from half a listing nothing is decided.
    pub async fn plan(
        sink: Arc<dyn Sink>,
        folder: &str,
        dataset: &Dataset,
        policy: &Policy,
        now: Timestamp,
    ) -> Result<Self> {
        let folder = folder.trim_matches('/').to_owned();
        let facts = Facts::read(&*sink, &folder, dataset).await?;
        let verdicts = decide(policy, &facts.all, now);
        Ok(Self { sink, folder, dataset: dataset.clone(), facts, verdicts })
    }

    /// What will be kept and what deleted, each with the reason, newest first. They are made one by one: memory does not grow
    /// with their number as long as the caller lets them go.
    pub fn decisions(&self) -> impl Iterator<Item = Decision> {
        (0..self.facts.all.len()).map(|i| {
            let taken_at = self.facts.all[i].taken_at;
            let action = self.verdicts.action(i, taken_at, |other| self.key(other));
            Decision { key: self.key(i), taken_at, good: self.verdicts.is_good(i), action }
        })
    }

    /// Signs that something is wrong with the backups or the clock.
    pub fn warnings(&self) -> &[Warning] {
        self.verdicts.warnings()
    }

    /// How many are kept.
    pub fn kept(&self) -> usize {
        self.verdicts.kept()
    }

    /// How many are to be deleted.
    pub fn to_delete(&self) -> usize {
        self.facts.all.len() - self.kept()
    }

    /// Bytes that executing the plan frees, as the listing shows them. Older versions of the same keys come on top, and what
    /// the store holds does not count.
    pub fn bytes_to_free(&self) -> u64 {
        self.deletions().map(|i| self.facts.all[i].bytes).sum()
    }

    /// The artifacts of the plan's deletions that the store holds (Object Lock), by their keys: executing the plan leaves them.
    ///
    /// # Errors
    /// What the sink fails with.
    pub async fn held(&self) -> Result<Vec<Held>> {
        let (mut held, mut batch) = (Vec::new(), Vec::with_capacity(BATCH));
        if self.to_delete() == 0 {
            return Ok(held);
        }
        let mut listed = catalog::list(&*self.sink, &self.folder, Some(&self.dataset));
        while let Some(artifact) = listed.next().await {
            let artifact = artifact?;
            if self.deletes(&artifact.name).is_some() {
                batch.push(artifact);
            }
            if batch.len() == BATCH {
                held.extend(self.held_of(&batch.iter().collect::<Vec<_>>()).await?);
                batch.clear();
            }
        }
        held.extend(self.held_of(&batch.iter().collect::<Vec<_>>()).await?);
        // In the plan's order: the newest first.
        held.reverse();
        Ok(held)
    }

    /// Deletes what the plan says. Of each artifact the manifest goes first: one that is half deleted is never taken
    /// for whole.
    ///
    /// # Behaviour
    /// - An artifact of which the store holds anything but the records of its verifications stays whole, and is in the
    ///   result with the time.
    /// - What was deleted by somebody else since the plan was made counts as deleted.
    ///
    /// # Errors
    /// What keeps the whole from being done; artifacts that could not be deleted are in the result.
    ///
    /// # Cancel safety
    /// Safe: a later prune goes on where this one was dropped.
    pub async fn execute(&self) -> Result<Pruned> {
        let mut pruned = Pruned::default();
        let doomed = self.doomed().await?;
        pruned.deleted.extend(self.deletions().filter(|i| !doomed.contains_key(i)).map(|i| self.key(i)));
        let doomed: Vec<&Artifact> = doomed.values().collect();
        for batch in doomed.chunks(BATCH) {
            let mut batch = batch.to_vec();
            let held = self.held_of(&batch).await?;
            batch.retain(|artifact| held.iter().all(|h| h.key != artifact.key()));
            pruned.held.extend(held);

            let manifests: Vec<String> = batch.iter().filter_map(|a| a.manifest.clone()).collect();
            let first = self.sink.delete(&manifests).await?;
            let stays: HashSet<&str> = first
                .failed
                .iter()
                .map(|(key, _)| key.as_str())
                .chain(first.held.iter().map(|h| h.key.as_str()))
                .collect();
            batch.retain(|artifact| artifact.manifest.as_deref().is_none_or(|m| !stays.contains(m)));
            pruned.note(&first, self);

            let rest: Vec<String> = batch.iter().flat_map(|a| a.keys_without_manifest()).collect();
            let second = self.sink.delete(&rest).await?;
            let failed: HashSet<&str> = second.failed.iter().map(|(key, _)| key.as_str()).collect();
            let gone = |a: &&Artifact| a.keys_without_manifest().iter().all(|key| !failed.contains(key.as_str()));
            for artifact in batch.iter().copied().filter(gone) {
                pruned.deleted.push(artifact.key());
                if second.bytes.is_none() {
                    pruned.bytes += artifact.bytes();
                }
            }
            pruned.note(&second, self);
        }
        Ok(pruned)
    }

    /// What is to be deleted and is there, with all its objects, in the plan's order: the newest first.
    async fn doomed(&self) -> Result<BTreeMap<usize, Artifact>> {
        let mut doomed = BTreeMap::new();
        if self.to_delete() == 0 {
            return Ok(doomed);
        }
        let mut listed = catalog::list(&*self.sink, &self.folder, Some(&self.dataset));
        while let Some(artifact) = listed.next().await {
            let artifact = artifact?;
            if let Some(i) = self.deletes(&artifact.name) {
                doomed.insert(i, artifact);
            }
        }
        Ok(doomed)
    }

    /// The positions of what is to be deleted.
    fn deletions(&self) -> impl Iterator<Item = usize> {
        (0..self.facts.all.len()).filter(|&i| !self.verdicts.keeps(i))
    }

    /// The position of an artifact that is to be deleted; `None` for one that is kept or has come since.
    fn deletes(&self, name: &ArtifactName) -> Option<usize> {
        self.facts.position(name).filter(|&i| !self.verdicts.keeps(i))
    }

    fn key(&self, i: usize) -> String {
        let fact = self.facts.all[i];
        let extensions = fact.extensions(&self.facts.extensions);
        join_key(&self.folder, &format!("{}-{}.{extensions}", self.dataset, format_stamp(fact.taken_at)))
    }

    async fn held_of(&self, batch: &[&Artifact]) -> Result<Vec<Held>> {
        let keys: Vec<String> =
            batch.iter().flat_map(|a| a.manifest.iter().chain(a.objects.iter().map(|o| &o.key)).cloned()).collect();
        let held = upkeep(&*self.sink).held(&keys).await?;
        let by_key: HashMap<&str, &Held> = held.iter().map(|h| (h.key.as_str(), h)).collect();
        let longest = |artifact: &&Artifact| {
            let keys = artifact.manifest.iter().chain(artifact.objects.iter().map(|o| &o.key));
            let holds = keys.filter_map(|key| by_key.get(key.as_str()));
            // A hold without an end is longer than any time.
            let longest = holds.max_by_key(|h| (h.until.is_none(), h.until))?;
            Some(Held { key: artifact.key(), ..(*longest).clone() })
        };
        Ok(batch.iter().filter_map(longest).collect())
    }
}

impl Pruned {
    fn note(&mut self, deleted: &Deleted, prune: &Prune) {
        let doomed =
            |key: &&str| ArtifactName::parse(split_key(key).1).is_some_and(|name| prune.deletes(&name).is_some());
        self.bytes += deleted.bytes.unwrap_or(0);
        self.failed.extend(deleted.failed.iter().map(|(key, why)| Undeleted { key: key.clone(), why: why.clone() }));
        for held in &deleted.held {
            // The key of its artifact, where it is that of a manifest.
            let key = held.key.strip_suffix(MANIFEST_SUFFIX).filter(doomed).unwrap_or(&held.key);
            self.held.push(Held { key: key.to_owned(), ..held.clone() });
        }
        for note in &deleted.notes {
            if !self.notes.contains(note) {
                self.notes.push(note.clone());
            }
        }
    }
}

/// What a prune has done.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Pruned {
    /// Keys of the artifacts that are gone.
    pub deleted: Vec<String>,
    /// Stored bytes that were freed, older versions included.
    pub bytes: u64,
    /// Artifacts that the store holds, and until when: no failure. (Of an artifact that is gone, a record of a verification
    /// can be held.)
    pub held: Vec<Held>,
    /// What a person should know: that objects could only be hidden.
    pub notes: Vec<String>,
    /// What could not be deleted.
    pub failed: Vec<Undeleted>,
}

/// An object that could not be deleted.
#[derive(Clone, Debug, Serialize)]
pub struct Undeleted {
    /// Its key.
    pub key: String,
    /// Why not.
    pub why: String,
}
