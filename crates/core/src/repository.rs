//! Repositories: stores of many snapshots that share data.
//!
//! A snapshot is no artifact: it has no object of its own, and what it takes is known only to the store. So a repository
//! is driven as a whole, by the same commands: `backup` makes a [snapshot](Repository::snapshot), `list`, `verify` and
//! `restore` go by snapshots, and `prune` [forgets](Repository::forget) by the same retention policy that artifacts have and
//! then gives the room [back](Repository::prune). Encryption and integrity are the format's own business; stock tools read
//! it.

use std::collections::BTreeMap;

use async_trait::async_trait;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::context::Context;
use crate::error::Result;
use crate::name::Dataset;
use crate::report::Check;
use crate::retention::{Candidate, Plan, Policy};
use crate::verifier::Level;

/// One snapshot in a repository.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Snapshot {
    /// Its id in the repository, in full.
    pub id: String,
    /// The dataset.
    pub dataset: Dataset,
    /// When it was begun.
    pub taken_at: Timestamp,
    /// Bytes that it restores to, where the store says.
    pub bytes: Option<u64>,
    /// Bytes that it added to the store, where the store says. What deleting it frees is something else.
    pub added_bytes: Option<u64>,
    /// Whether it is whole: `false` for one that the store itself calls incomplete.
    pub good: bool,
    /// When it last passed a verification of level `structure` or above.
    pub verified_at: Option<Timestamp>,
    /// What else the store says of it: host, paths, tags.
    pub facts: BTreeMap<String, String>,
}

impl Snapshot {
    /// A whole snapshot of which nothing else is known.
    pub fn new(id: impl Into<String>, dataset: Dataset, taken_at: Timestamp) -> Self {
        Self {
            id: id.into(),
            dataset,
            taken_at,
            bytes: None,
            added_bytes: None,
            good: true,
            verified_at: None,
            facts: BTreeMap::new(),
        }
    }

    fn candidate(&self) -> Candidate {
        let mut candidate = Candidate::new(&self.id, self.taken_at);
        candidate.good = self.good;
        candidate.verified_at = self.verified_at;
        candidate
    }
}

/// What [`Repository::forget`] has done, or would.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Forgotten {
    /// What is kept and what goes, each with the reason. Keys are ids.
    pub plan: Plan,
    /// The ids of the snapshots that are gone. Empty after a dry run.
    pub removed: Vec<String>,
}

/// What [`Repository::prune`] has done, or would.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Reclaimed {
    /// Bytes that were freed.
    pub bytes: u64,
    /// What a person should know.
    pub notes: Vec<String>,
}

/// A store of snapshots that share data.
///
/// # Contract
/// - **All or nothing.** A snapshot is listed only when it is whole, or it is listed as not [good](Snapshot::good).
/// - **Snapshots do not depend on each other.** Removing one never costs another anything; data that one of them needs stays.
/// - Several writers may make snapshots at a time. Removing and giving room back exclude each other and wait for, or refuse
///   beside, running writers, as the format asks.
/// - A repository of a newer format version than the implementation knows is an error of kind
///   [`Unsupported`](crate::ErrorKind::Unsupported) from every method that changes it, before anything is changed.
/// - Errors carry the kind, as those of a [`Sink`](crate::Sink) do; a wrong password is
///   [`Decrypt`](crate::ErrorKind::Decrypt).
#[async_trait]
pub trait Repository: Send + Sync {
    /// The place as a URL without credentials.
    fn url(&self) -> String;

    /// Takes a snapshot of the live dataset.
    ///
    /// # Errors
    /// What failed; then no whole snapshot was added. Data that is stored already stays until [`prune`](Repository::prune).
    ///
    /// # Cancel safety
    /// Cancel through `cx.cancel`. A dropped future leaves no whole snapshot.
    async fn snapshot(&self, cx: &Context) -> Result<Snapshot>;

    /// The snapshots of this dataset, oldest first; in the same second by id.
    ///
    /// # Errors
    /// What cannot be read: from half a list nothing may be decided.
    async fn list(&self, dataset: &Dataset) -> Result<Vec<Snapshot>>;

    /// Verifies a snapshot: `stored` that all its data is there, `structure` that it is what its hashes say, `restore` that
    /// it restores and the restored content is right.
    ///
    /// # Errors
    /// What kept the verification itself from being made. A snapshot that is bad is a failed check.
    async fn verify(&self, id: &str, level: Level, cx: &Context) -> Result<Vec<Check>>;

    /// Restores a snapshot to where the implementation was told to, which is empty unless it was given leave to replace.
    ///
    /// # Errors
    /// [`NotFound`](crate::ErrorKind::NotFound) for an id that is not there; what failed otherwise. Then what was there
    /// before is as it was.
    ///
    /// # Cancel safety
    /// Cancel through `cx.cancel`, which cleans up.
    async fn restore(&self, id: &str, cx: &Context) -> Result<Vec<Check>>;

    /// Removes these snapshots; one that is not there counts as removed. Their data stays until
    /// [`prune`](Repository::prune). Returns the ids of those that are gone.
    ///
    /// # Errors
    /// What keeps the whole from being done.
    async fn remove(&self, ids: &[String], cx: &Context) -> Result<Vec<String>>;

    /// Removes the snapshots of a dataset that a policy no longer keeps, in the order of the plan. With `dry_run` it only
    /// decides. The default goes by [`list`](Repository::list), [`Policy::plan`] and [`remove`](Repository::remove), and
    /// that is the meaning of it: an implementation that does it otherwise comes to the same.
    ///
    /// # Errors
    /// As those.
    async fn forget(
        &self,
        dataset: &Dataset,
        policy: &Policy,
        now: Timestamp,
        dry_run: bool,
        cx: &Context,
    ) -> Result<Forgotten> {
        let candidates: Vec<Candidate> = self.list(dataset).await?.iter().map(Snapshot::candidate).collect();
        let plan = policy.plan(&candidates, now);
        let doomed: Vec<String> = plan.deletions().map(|decision| decision.key.clone()).collect();
        let removed = if dry_run || doomed.is_empty() { Vec::new() } else { self.remove(&doomed, cx).await? };
        Ok(Forgotten { plan, removed })
    }

    /// Gives back the room of data that no snapshot needs. With `dry_run` it only says how much.
    ///
    /// # Behaviour
    /// - An interrupted run costs no snapshot anything, and the next one goes on.
    ///
    /// # Errors
    /// What keeps it from being done: a lock of a running writer is [`Refused`](crate::ErrorKind::Refused).
    async fn prune(&self, dry_run: bool, cx: &Context) -> Result<Reclaimed>;
}
