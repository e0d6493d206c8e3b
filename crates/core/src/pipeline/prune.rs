//! [`Prune`]: deletes what a retention policy no longer keeps.

use std::collections::HashMap;
use std::sync::Arc;

use futures::StreamExt;
use jiff::Timestamp;
use serde::Serialize;

use crate::catalog::{self, Artifact, Kind};
use crate::error::Result;
use crate::name::Dataset;
use crate::retention::{Candidate, Plan, Policy};
use crate::sink::Sink;
use crate::verifier::Level;

/// Prunes one dataset in one folder of a sink: [`plan`](Prune::plan), show it, [`execute`](Prune::execute).
#[derive(Debug)]
pub struct Prune {
    sink: Arc<dyn Sink>,
    plan: Plan,
    artifacts: HashMap<String, Artifact>,
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
        let mut artifacts = HashMap::new();
        {
            let mut listed = catalog::list(&*sink, folder, Some(dataset));
            while let Some(artifact) = listed.next().await {
                let artifact = artifact?;
                artifacts.insert(artifact.key(), artifact);
            }
        }
        // Where something was restored, only that counts as proven: a mere look at a newer one must not cost it.
        let proofs = [Level::Restore, Level::Structure];
        let has_passed = |level: Level| artifacts.values().any(|a| passed_at(a, level).is_some());
        let proof = proofs.into_iter().find(|level| has_passed(*level)).unwrap_or(Level::Restore);
        let candidates: Vec<Candidate> = artifacts.values().map(|a| candidate(a, proof)).collect();
        Ok(Self { plan: policy.plan(&candidates, now), sink, artifacts })
    }

    /// What will be kept and what deleted, each with the reason.
    pub fn decisions(&self) -> &Plan {
        &self.plan
    }

    /// Bytes that executing the plan frees.
    pub fn bytes_to_free(&self) -> u64 {
        self.plan.deletions().filter_map(|d| self.artifacts.get(&d.key)).map(Artifact::bytes).sum()
    }

    /// Deletes what the plan says. Of each artifact the manifest goes first: one that is half deleted is never taken
    /// for whole.
    ///
    /// # Errors
    /// What keeps the whole from being done; artifacts that could not be deleted are in the result.
    ///
    /// # Cancel safety
    /// Safe: a later prune goes on where this one was dropped.
    pub async fn execute(&self) -> Result<Pruned> {
        let mut pruned = Pruned::default();
        for decision in self.plan.deletions() {
            let Some(artifact) = self.artifacts.get(&decision.key) else { continue };
            let first: Vec<String> = artifact.manifest.iter().cloned().collect();
            let mut kept = self.sink.delete(&first).await?.kept;
            if kept.is_empty() {
                kept = self.sink.delete(&artifact.keys_without_manifest()).await?.kept;
            }
            match kept.into_iter().next() {
                None => {
                    pruned.bytes += artifact.bytes();
                    pruned.deleted.push(decision.key.clone());
                }
                Some((key, why)) => pruned.failed.push(Undeleted { key, why }),
            }
        }
        Ok(pruned)
    }
}

/// When it last passed at this level.
fn passed_at(artifact: &Artifact, level: Level) -> Option<Timestamp> {
    artifact.verifications.iter().rev().find(|v| v.passed && v.level == level).map(|v| v.at)
}

fn candidate(artifact: &Artifact, proof: Level) -> Candidate {
    let mut candidate = Candidate::new(artifact.key(), artifact.name.taken_at);
    if let Some(at) = passed_at(artifact, proof) {
        candidate = candidate.verified(at);
    }
    if artifact.kind == Kind::Damaged || artifact.is_known_bad() || artifact.bytes() == 0 {
        candidate = candidate.bad();
    }
    candidate
}

/// What a prune has done.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Pruned {
    /// Keys of the artifacts that are gone.
    pub deleted: Vec<String>,
    /// Stored bytes that were freed.
    pub bytes: u64,
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
