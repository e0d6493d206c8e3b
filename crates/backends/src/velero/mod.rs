//! Velero: backups of a Kubernetes cluster, judged, restore-tested and copied.
//!
//! [`Velero`] is the source: it has Velero make a backup, and copies its files out of the storage location. [`BackupTap`]
//! parses such a copy. [`BucketVerifier`] judges backups where they lie, without a cluster. [`RestoreTest`] has Velero
//! restore a namespace into a scratch one and compares it object by object.
//!
//! The storage location is read through a [`Sink`](lifeboat_core::Sink) that the caller opens at its bucket and prefix.
//! Nothing is ever written there.

pub mod api;
mod bucket;
mod client;
mod compare;
mod gunzip;
mod inspection;
mod objects;
mod restore_test;
mod restored;
mod run;
mod source;
mod tap;

pub use bucket::BucketVerifier;
pub use client::{Cluster, ConnectOptions};
pub use restore_test::{OWNER_LABEL, RestoreTest, RestoreTestOptions};
pub use run::BackupOptions;
pub use source::Velero;
pub use tap::BackupTap;

/// The name of this system in manifests.
pub const SYSTEM: &str = "velero";
