//! [`Prune`]: deletes what a retention policy no longer keeps.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use futures::StreamExt;
use jiff::Timestamp;
use serde::Serialize;

use crate::catalog::{self, Artifact, Kind};
use crate::error::Result;
use crate::name::{Dataset, MANIFEST_SUFFIX};
use crate::retention::{Candidate, Plan, Policy};
use crate::sink::{Deleted, Held, Sink};
use crate::verifier::Level;

/// Artifacts that are deleted together. Each has a manifest, an object and some records, and stores delete 1,000 keys in one
/// request.
const BATCH: usize = 250;

/// Prunes one dataset in one folder of a sink: [`plan`](Prune::plan), show it, [`execute`](Prune::execute).
///
/// Of each artifact only what the decision needs is kept in memory.
#[derive(Debug)]
pub struct Prune {
    sink: Arc<dyn Sink>,
    folder: String,
    dataset: Dataset,
    plan: Plan,
    bytes_to_free: u64,
}

/// What a decision needs to know of an artifact.
struct Fact {
    key: String,
    taken_at: Timestamp,
    restored: Option<Timestamp>,
    parsed: Option<Timestamp>,
    bad: bool,
    bytes: u64,
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
        let mut facts = Vec::new();
        {
            let mut listed = catalog::list(&*sink, folder, Some(dataset));
            while let Some(artifact) = listed.next().await {
                facts.push(Fact::of(&artifact?));
            }
        }
        // Where something was restored, only that counts as proven: a mere look at a newer one must not cost it.
        let any_restored = facts.iter().any(|f| f.restored.is_some());
        let mut sizes = Vec::with_capacity(facts.len());
        let mut candidates = Vec::with_capacity(facts.len());
        for fact in facts {
            let proven = if any_restored { fact.restored } else { fact.parsed };
            sizes.push(fact.bytes);
            let mut candidate = Candidate::new(fact.key, fact.taken_at);
            if let Some(at) = proven {
                candidate = candidate.verified(at);
            }
            candidates.push(if fact.bad { candidate.bad() } else { candidate });
        }
        let plan = policy.plan(&candidates, now);
        let sizes: HashMap<&str, u64> = candidates.iter().map(|c| c.key.as_str()).zip(sizes).collect();
        let bytes_to_free = plan.deletions().filter_map(|d| sizes.get(d.key.as_str())).sum();
        Ok(Self { sink, folder: folder.to_owned(), dataset: dataset.clone(), plan, bytes_to_free })
    }

    /// What will be kept and what deleted, each with the reason.
    pub fn decisions(&self) -> &Plan {
        &self.plan
    }

    /// Bytes that executing the plan frees, as the listing shows them. Older versions of the same keys come on top, and what
    /// the store holds does not count.
    pub fn bytes_to_free(&self) -> u64 {
        self.bytes_to_free
    }

    /// The artifacts of the plan's deletions that the store holds (Object Lock), by their keys: executing the plan leaves them.
    ///
    /// # Errors
    /// What the sink fails with.
    pub async fn held(&self) -> Result<Vec<Held>> {
        let keys: HashSet<&str> = self.plan.deletions().map(|d| d.key.as_str()).collect();
        let (mut held, mut batch) = (Vec::new(), Vec::with_capacity(BATCH));
        if keys.is_empty() {
            return Ok(held);
        }
        let mut listed = catalog::list(&*self.sink, &self.folder, Some(&self.dataset));
        while let Some(artifact) = listed.next().await {
            let artifact = artifact?;
            if keys.contains(artifact.key().as_str()) {
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
        pruned.deleted.extend(self.plan.deletions().filter(|d| !doomed.contains_key(&d.key)).map(|d| d.key.clone()));
        for mut batch in self.batches(&doomed) {
            let held = self.held_of(&batch).await?;
            batch.retain(|artifact| held.iter().all(|h| h.key != artifact.key()));
            pruned.held.extend(held);

            let manifests: Vec<String> = batch.iter().filter_map(|a| a.manifest.clone()).collect();
            let first = self.sink.delete(&manifests).await?;
            let stays: HashSet<&str> = first
                .kept
                .iter()
                .map(|(key, _)| key.as_str())
                .chain(first.held.iter().map(|h| h.key.as_str()))
                .collect();
            batch.retain(|artifact| artifact.manifest.as_deref().is_none_or(|m| !stays.contains(m)));
            pruned.note(&first, &doomed);

            let rest: Vec<String> = batch.iter().flat_map(|a| a.keys_without_manifest()).collect();
            let second = self.sink.delete(&rest).await?;
            let failed: HashSet<&str> = second.kept.iter().map(|(key, _)| key.as_str()).collect();
            let gone = |a: &&Artifact| a.keys_without_manifest().iter().all(|key| !failed.contains(key.as_str()));
            for artifact in batch.iter().copied().filter(gone) {
                pruned.deleted.push(artifact.key());
                if second.bytes.is_none() {
                    pruned.bytes += artifact.bytes();
                }
            }
            pruned.note(&second, &doomed);
        }
        Ok(pruned)
    }

    /// What is to be deleted and is there, with all its objects.
    async fn doomed(&self) -> Result<HashMap<String, Artifact>> {
        let keys: HashSet<&str> = self.plan.deletions().map(|d| d.key.as_str()).collect();
        let mut doomed = HashMap::new();
        if keys.is_empty() {
            return Ok(doomed);
        }
        let mut listed = catalog::list(&*self.sink, &self.folder, Some(&self.dataset));
        while let Some(artifact) = listed.next().await {
            let artifact = artifact?;
            let key = artifact.key();
            if keys.contains(key.as_str()) {
                doomed.insert(key, artifact);
            }
        }
        Ok(doomed)
    }

    /// In the plan's order: the newest first.
    fn batches<'a>(&self, doomed: &'a HashMap<String, Artifact>) -> Vec<Vec<&'a Artifact>> {
        let ordered: Vec<&Artifact> = self.plan.deletions().filter_map(|d| doomed.get(&d.key)).collect();
        ordered.chunks(BATCH).map(<[_]>::to_vec).collect()
    }

    async fn held_of(&self, batch: &[&Artifact]) -> Result<Vec<Held>> {
        let keys: Vec<String> =
            batch.iter().flat_map(|a| a.manifest.iter().chain(a.objects.iter().map(|o| &o.key)).cloned()).collect();
        let held = self.sink.held(&keys).await?;
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
    fn note(&mut self, deleted: &Deleted, doomed: &HashMap<String, Artifact>) {
        self.bytes += deleted.bytes.unwrap_or(0);
        self.failed.extend(deleted.kept.iter().map(|(key, why)| Undeleted { key: key.clone(), why: why.clone() }));
        for held in &deleted.held {
            // The key of its artifact, where it is that of a manifest.
            let key =
                held.key.strip_suffix(MANIFEST_SUFFIX).filter(|key| doomed.contains_key(*key)).unwrap_or(&held.key);
            self.held.push(Held { key: key.to_owned(), ..held.clone() });
        }
        for note in &deleted.notes {
            if !self.notes.contains(note) {
                self.notes.push(note.clone());
            }
        }
    }
}

impl Fact {
    fn of(artifact: &Artifact) -> Self {
        Self {
            key: artifact.key(),
            taken_at: artifact.name.taken_at,
            restored: passed_at(artifact, Level::Restore),
            parsed: passed_at(artifact, Level::Structure),
            bad: artifact.kind == Kind::Damaged || artifact.is_known_bad() || artifact.bytes() == 0,
            bytes: artifact.bytes(),
        }
    }
}

/// When it last passed at this level.
fn passed_at(artifact: &Artifact, level: Level) -> Option<Timestamp> {
    artifact.verifications.iter().rev().find(|v| v.passed && v.level == level).map(|v| v.at)
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
