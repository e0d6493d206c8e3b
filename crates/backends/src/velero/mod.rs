//! Velero: backups of a Kubernetes cluster, judged, restore-tested and copied.
//!
//! [`BucketVerifier`] judges backups where they lie, without a cluster.

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
mod tar;

pub use bucket::BucketVerifier;
pub use client::{Cluster, ConnectOptions};
pub use restore_test::{OWNER_LABEL, RestoreTest, RestoreTestOptions};
pub use run::BackupOptions;
pub use source::Velero;
pub use tap::BackupTap;

/// The name of this system in manifests.
pub const SYSTEM: &str = "velero";
