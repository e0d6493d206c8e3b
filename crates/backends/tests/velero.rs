//! Velero, on a real server with a real Kubernetes API behind it.
#![cfg(feature = "velero")]
#![allow(clippy::unwrap_used, missing_docs, unreachable_pub)]

#[path = "velero/backups.rs"]
mod backups;
#[path = "velero/bucket.rs"]
mod bucket;
#[path = "velero/cluster.rs"]
mod cluster;
#[path = "velero/disaster.rs"]
mod disaster;
#[path = "velero/lists.rs"]
mod lists;
#[path = "velero/restore.rs"]
mod restore;
#[path = "velero/restores.rs"]
mod restores;
#[path = "velero/rights.rs"]
mod rights;
#[path = "velero/schedules.rs"]
mod schedules;
#[path = "velero/server.rs"]
mod server;
#[path = "velero/silence.rs"]
mod silence;
#[path = "velero/source.rs"]
mod source;
#[path = "velero/verifier.rs"]
mod verifier;
