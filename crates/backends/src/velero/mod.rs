//! Velero: backups of a Kubernetes cluster, judged, restore-tested and copied.
//!
//! - [`Velero`] is the source: it has Velero make a backup, and copies its files out of the storage location. [`BackupTap`]
//!   parses such a copy.
//! - [`RestoreTest`] has Velero restore a namespace into a scratch one and compares it object by object.
//! - [`BucketVerifier`] judges backups in place, without a cluster; [`VeleroVerifier`] judges copies.
//! - [`restore`](fn@restore) has Velero restore from a backup that it knows, [`VeleroTarget`] from a copy.
//! - [`backups`](fn@backups), [`backup`](fn@backup), [`logs`] and [`delete_backup`] manage Velero's own backups;
//!   [`plan_schedules`] brings its schedules into line with the configuration.
//! - [`check`] checks every right before it is needed.
//! - [`VeleroSystem`] combines all of it for config files and command lines, with [`VeleroSettings`].
//!
//! The storage location is read through a [`Sink`](lifeboat_core::Sink) that the caller opens at its bucket and prefix.
//! Only [`VeleroTarget`] writes there: it puts back Velero's own files of a backup that Velero has lost.

pub mod api;
mod backups;
mod bucket;
#[cfg(feature = "cli")]
pub mod cli;
mod client;
mod compare;
mod files;
mod go_duration;
mod gunzip;
mod inspection;
mod layout;
mod objects;
mod outcome;
mod pairs;
mod restore;
mod restore_test;
mod restored;
mod rights;
mod run;
mod schedules;
mod settings;
mod source;
mod system;
mod tap;
mod target;
mod verifier;

use std::time::Duration;

use lifeboat_core::ArtifactName;

pub use backups::{BackupDetails, BackupSummary, VolumeSummary, backup, backups, delete_backup};
pub use bucket::BucketVerifier;
pub use client::{Cluster, ConnectOptions};
pub use files::{Files, LinkOptions, LogOf, logs};
pub use layout::layouts;
pub use pairs::Pair;
pub use restore::{ExistingPolicy, RestoreOptions, restore};
pub use restore_test::{OWNER_LABEL, RestoreTest, RestoreTestOptions};
pub use rights::{Use, check};
pub use schedules::{MANAGED_LABEL, ScheduleSummary, plan_schedules, schedules};
pub use settings::{ScheduleSettings, VeleroSettings};
pub use source::Velero;
pub use system::VeleroSystem;
pub use tap::BackupTap;
pub use target::VeleroTarget;
pub use verifier::{VeleroVerifier, VerifierOptions};

use lifeboat_core::words::Noun;

/// What a cluster holds.
pub(crate) const OBJECTS: Noun = Noun::new("object", "objects");

/// What the items of a kind hold: [`System::unit`](lifeboat_core::System::unit).
pub(crate) fn unit(kind: &str) -> Option<Noun> {
    match kind {
        "" | "objects" => Some(OBJECTS),
        _ => None,
    }
}

/// The name of this system in manifests.
pub const SYSTEM: &str = "velero";

/// The extension of the copies' format.
pub const FORMAT: &str = "tar";

/// The default maximum age of a backup.
pub const MAX_AGE: Duration = Duration::from_secs(48 * 3600);

/// The end of the shell line that restores a copy with stock tools: it puts the files where Velero looks for backups.
pub fn stock_restore(_: &ArtifactName) -> &'static str {
    "tar -xf - -C VELERO_BUCKET"
}
