//! Repositories: stores of many snapshots that share data.
//!
//! A snapshot is not an artifact: it has no object of its own, and only the store knows how much space it takes. So a
//! repository is driven as a whole, by the same commands: `backup` takes a [snapshot](Repository::snapshot); `list`,
//! `verify` and `restore` work with snapshots; `prune` [forgets](Repository::forget) by the same retention policy as
//! for artifacts and then [reclaims space](Repository::prune). The format handles encryption and integrity itself, and
//! stock tools read it.

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
    /// The full id in the repository.
    pub id: String,
    /// The dataset.
    pub dataset: Dataset,
    /// When the snapshot was begun.
    pub taken_at: Timestamp,
    /// The size after a restore in bytes, if the store says.
    pub bytes: Option<u64>,
    /// The number of bytes added to the store, if the store says. Deleting the snapshot may free a different amount.
    pub added_bytes: Option<u64>,
    /// Whether the snapshot is whole: `false` if the store itself calls it incomplete.
    pub good: bool,
    /// When a verification at level `structure` or above last passed.
    pub verified_at: Option<Timestamp>,
    /// What else the store says about the snapshot: host, paths, tags.
    pub facts: BTreeMap<String, String>,
}

impl Snapshot {
    /// Creates a whole snapshot. The optional fields are empty.
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

/// The result of [`Repository::forget`].
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Forgotten {
    /// What is kept and what is removed, with reasons. Keys are ids.
    pub plan: Plan,
    /// The ids of the removed snapshots. Empty after a dry run.
    pub removed: Vec<String>,
}

/// The result of [`Repository::prune`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Reclaimed {
    /// The number of bytes freed, or that would be freed.
    pub bytes: u64,
    /// Notes for the user.
    pub notes: Vec<String>,
}

/// A store of snapshots that share data.
///
/// # Contract
/// - **All or nothing.** A snapshot that is not whole is not listed, or is listed as not [good](Snapshot::good).
/// - **Snapshots are independent.** Removing one never damages another; data that any of them needs is kept.
/// - Several writers may take snapshots at the same time. Removing snapshots and reclaiming space exclude each other;
///   with writers running, they wait or refuse, as the format requires.
/// - If the repository's format version is newer than the implementation knows, every method that changes it fails with
///   [`Unsupported`](crate::ErrorKind::Unsupported) before changing anything.
/// - Errors have the same kinds as those of a [`Sink`](crate::Sink); a wrong password is
///   [`Decrypt`](crate::ErrorKind::Decrypt).
#[async_trait]
pub trait Repository: Send + Sync {
    /// The location as a URL without credentials.
    fn url(&self) -> String;

    /// Takes a snapshot of the live dataset.
    ///
    /// # Errors
    /// Any failure; then no whole snapshot was added. Data already stored stays until [`prune`](Repository::prune).
    ///
    /// # Cancel safety
    /// Cancel through `cx.cancel`. A dropped future leaves no whole snapshot.
    async fn snapshot(&self, cx: &Context) -> Result<Snapshot>;

    /// Lists the snapshots of a dataset, oldest first, by id within a second.
    ///
    /// # Errors
    /// Any failure to read: nothing may be decided from an incomplete list.
    async fn list(&self, dataset: &Dataset) -> Result<Vec<Snapshot>>;

    /// Verifies a snapshot. Level `stored` checks that all its data exists, `structure` that the data matches its
    /// hashes, `restore` that it can be restored with the right content.
    ///
    /// # Errors
    /// Any failure of the verification itself. A bad snapshot is a failed check.
    async fn verify(&self, id: &str, level: Level, cx: &Context) -> Result<Vec<Check>>;

    /// Restores a snapshot to the destination that the implementation was configured with. It must be empty, unless the
    /// implementation was allowed to replace its content.
    ///
    /// # Errors
    /// [`NotFound`](crate::ErrorKind::NotFound) for an unknown id; any other failure. The destination is then as
    /// before.
    ///
    /// # Cancel safety
    /// Cancel through `cx.cancel`, which cleans up.
    async fn restore(&self, id: &str, cx: &Context) -> Result<Vec<Check>>;

    /// Removes these snapshots; one that does not exist counts as removed. Their data stays until
    /// [`prune`](Repository::prune). Returns the ids of the removed snapshots.
    ///
    /// # Errors
    /// Any failure of the operation as a whole.
    async fn remove(&self, ids: &[String], cx: &Context) -> Result<Vec<String>>;

    /// Removes the snapshots of a dataset that a policy no longer keeps, in the order of the plan. With `dry_run`, only
    /// decides. The default calls [`list`](Repository::list), [`Policy::plan`] and [`remove`](Repository::remove); any
    /// other implementation must have the same result.
    ///
    /// # Errors
    /// Those of `list` and `remove`.
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

    /// Reclaims the space of data that no snapshot needs. With `dry_run`, only returns how much that is.
    ///
    /// # Behaviour
    /// - An interrupted run damages no snapshot, and the next run continues.
    ///
    /// # Errors
    /// Any failure; a lock held by a running writer is [`Refused`](crate::ErrorKind::Refused).
    async fn prune(&self, dry_run: bool, cx: &Context) -> Result<Reclaimed>;
}
