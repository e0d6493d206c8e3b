//! Velero, on a real server with a real Kubernetes API behind it.
#![cfg(feature = "velero")]
#![allow(clippy::unwrap_used, missing_docs, unreachable_pub)]

#[path = "velero/bucket.rs"]
mod bucket;
#[path = "velero/cluster.rs"]
mod cluster;
#[path = "velero/restore.rs"]
mod restore;
#[path = "velero/source.rs"]
mod source;
