//! Velero's objects in the Kubernetes API: group `velero.io`, version v1, as Velero v1.14 defines them.
//!
//! Only fields that are read or written here are declared. Other fields are preserved, because no whole object is ever
//! sent back. Source: the custom resource definitions in Velero's `config/crd/v1/bases`.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, Time};
use kube::CustomResource;
use serde::{Deserialize, Serialize};

/// The label that names the schedule which made a backup.
pub const SCHEDULE_LABEL: &str = "velero.io/schedule-name";
/// The label that names the backup which an object belongs to.
pub const BACKUP_LABEL: &str = "velero.io/backup-name";
/// The label that names the restore which created an object.
pub const RESTORE_LABEL: &str = "velero.io/restore-name";
/// The label that holds the `uid` of the backup that a request is about.
pub const BACKUP_UID_LABEL: &str = "velero.io/backup-uid";

/// What a backup contains, and how it is made. Uses the older of the two filter styles, which every release supports.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(group = "velero.io", version = "v1", kind = "Backup", namespaced, status = "BackupStatus")]
#[kube(derive = "Default", derive = "PartialEq", schema = "disabled")]
#[serde(rename_all = "camelCase", default)]
pub struct BackupSpec {
    /// Only these namespaces; all when empty.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "or_default")]
    pub included_namespaces: Vec<String>,
    /// All namespaces but these.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "or_default")]
    pub excluded_namespaces: Vec<String>,
    /// Only these resources, as `deployments.apps`; all when empty.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "or_default")]
    pub included_resources: Vec<String>,
    /// All resources but these.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "or_default")]
    pub excluded_resources: Vec<String>,
    /// Whether to include cluster-scoped resources; if not set, Velero decides.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub include_cluster_resources: Option<bool>,
    /// Only objects with these labels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label_selector: Option<LabelSelector>,
    /// Whether persistent volumes are snapshotted; Velero decides when not set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snapshot_volumes: Option<bool>,
    /// How long Velero keeps the backup, as a Go duration: `720h0m0s`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl: Option<String>,
    /// The backup storage location; the default one when not set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage_location: Option<String>,
    /// Where snapshots of volumes go.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "or_default")]
    pub volume_snapshot_locations: Vec<String>,
    /// Whether the files of all volumes of Pods are copied.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_volumes_to_fs_backup: Option<bool>,
    /// The other fields of a schedule's template, passed on unchanged.
    #[serde(flatten)]
    pub other: BTreeMap<String, serde_json::Value>,
}

/// The status of a backup.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BackupStatus {
    /// `New`, `InProgress`, `Completed`, `PartiallyFailed`, `Failed`, `FailedValidation`, `Deleting` and those between.
    pub phase: Option<String>,
    /// The version of the tarball's layout: `1.1.0`.
    pub format_version: Option<String>,
    /// When Velero deletes it.
    pub expiration: Option<Time>,
    /// When it began.
    pub start_timestamp: Option<Time>,
    /// When it ended.
    pub completion_timestamp: Option<Time>,
    /// Why the request is invalid.
    #[serde(deserialize_with = "or_default")]
    pub validation_errors: Vec<String>,
    /// Why it failed altogether.
    pub failure_reason: Option<String>,
    /// Number of errors in its log.
    pub errors: u64,
    /// Number of warnings in its log.
    pub warnings: u64,
    /// The progress in items.
    pub progress: Option<Progress>,
}

/// Progress in items. The total grows as Velero finds more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Progress {
    /// The number of items found so far.
    pub total_items: u64,
    /// The number of items backed up.
    pub items_backed_up: u64,
    /// The number of items restored.
    pub items_restored: u64,
}

/// What to restore from a backup, and how.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(group = "velero.io", version = "v1", kind = "Restore", namespaced, status = "RestoreStatus")]
#[kube(derive = "Default", derive = "PartialEq", schema = "disabled")]
#[serde(rename_all = "camelCase", default)]
pub struct RestoreSpec {
    /// The backup.
    pub backup_name: String,
    /// Only these namespaces; all when empty.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "or_default")]
    pub included_namespaces: Vec<String>,
    /// All namespaces but these.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "or_default")]
    pub excluded_namespaces: Vec<String>,
    /// Only these resources; all when empty.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "or_default")]
    pub included_resources: Vec<String>,
    /// All resources but these.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "or_default")]
    pub excluded_resources: Vec<String>,
    /// The namespaces to restore into others, and those others.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub namespace_mapping: BTreeMap<String, String>,
    /// Only objects with these labels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label_selector: Option<LabelSelector>,
    /// Whether persistent volumes come back from their snapshots; Velero decides when not set.
    #[serde(rename = "restorePVs", skip_serializing_if = "Option::is_none")]
    pub restore_pvs: Option<bool>,
    /// Whether to restore cluster-scoped resources; if not set, Velero decides.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub include_cluster_resources: Option<bool>,
    /// What to do with an object that already exists: `none` leaves it, `update` patches it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub existing_resource_policy: Option<String>,
}

/// The status of a restore.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RestoreStatus {
    /// The phase, with the same values as a backup's.
    pub phase: Option<String>,
    /// Why the request is invalid.
    #[serde(deserialize_with = "or_default")]
    pub validation_errors: Vec<String>,
    /// Why it failed altogether.
    pub failure_reason: Option<String>,
    /// Number of errors.
    pub errors: u64,
    /// Number of warnings.
    pub warnings: u64,
    /// The progress in items.
    pub progress: Option<Progress>,
}

/// Makes backups from a template at the times of a cron expression.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(group = "velero.io", version = "v1", kind = "Schedule", namespaced, status = "ScheduleStatus")]
#[kube(derive = "Default", derive = "PartialEq", schema = "disabled")]
#[serde(rename_all = "camelCase", default)]
pub struct ScheduleSpec {
    /// What each backup contains.
    pub template: BackupSpec,
    /// The times, as a cron expression.
    pub schedule: String,
    /// Whether it is paused.
    pub paused: bool,
}

/// The status of a schedule.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ScheduleStatus {
    /// `New`, `Enabled` or `FailedValidation`.
    pub phase: Option<String>,
    /// When it last made a backup.
    pub last_backup: Option<Time>,
    /// Why the schedule is invalid.
    #[serde(deserialize_with = "or_default")]
    pub validation_errors: Vec<String>,
}

/// Where Velero keeps backups: a bucket and a prefix.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(group = "velero.io", version = "v1", kind = "BackupStorageLocation", namespaced)]
#[kube(status = "BackupStorageLocationStatus", derive = "Default", derive = "PartialEq", schema = "disabled")]
#[serde(rename_all = "camelCase", default)]
pub struct BackupStorageLocationSpec {
    /// The plugin that stores: `aws`.
    pub provider: String,
    /// Settings of the plugin.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub config: BTreeMap<String, String>,
    /// Bucket and prefix.
    pub object_storage: ObjectStorage,
    /// Whether this is the default location.
    #[serde(rename = "default")]
    pub is_default: bool,
    /// `ReadWrite` or `ReadOnly`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access_mode: Option<String>,
}

/// Bucket and prefix of a storage location.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ObjectStorage {
    /// The bucket.
    pub bucket: String,
    /// The folder in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    /// The authority that signed the store's certificate: PEM, in base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_cert: Option<String>,
}

/// The status of a storage location.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BackupStorageLocationStatus {
    /// `Available` or `Unavailable`.
    pub phase: Option<String>,
    /// Why it is not available.
    pub message: Option<String>,
}

/// The copy of one volume's files.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(group = "velero.io", version = "v1", kind = "PodVolumeBackup", namespaced)]
#[kube(status = "PodVolumeBackupStatus", derive = "Default", derive = "PartialEq", schema = "disabled")]
#[serde(rename_all = "camelCase", default)]
pub struct PodVolumeBackupSpec {
    /// The node that it runs on.
    pub node: String,
    /// The Pod whose volume it is.
    pub pod: PodReference,
    /// The volume's name in the Pod.
    pub volume: String,
    /// The storage location.
    pub backup_storage_location: String,
    /// The repository that it goes into.
    pub repo_identifier: String,
    /// `kopia` or `restic`.
    pub uploader_type: String,
}

/// A reference to a Pod.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PodReference {
    /// Always `Pod`.
    pub kind: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// The status of the copy of a volume's files.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodVolumeBackupStatus {
    /// `New`, `InProgress`, `Completed`, `Failed` and those between.
    pub phase: Option<String>,
    /// Why it failed.
    pub message: Option<String>,
    /// The repository's snapshot.
    #[serde(rename = "snapshotID")]
    pub snapshot_id: Option<String>,
    /// The progress in bytes.
    pub progress: Option<VolumeProgress>,
}

/// Progress in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct VolumeProgress {
    /// The total number of bytes.
    pub total_bytes: u64,
    /// The number of bytes done.
    pub bytes_done: u64,
}

/// Asks Velero to delete a backup with everything that belongs to it.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(group = "velero.io", version = "v1", kind = "DeleteBackupRequest", namespaced)]
#[kube(status = "DeleteBackupRequestStatus", derive = "Default", derive = "PartialEq", schema = "disabled")]
#[serde(rename_all = "camelCase", default)]
pub struct DeleteBackupRequestSpec {
    /// The backup.
    pub backup_name: String,
}

/// The status of a request to delete.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DeleteBackupRequestStatus {
    /// `New`, `InProgress` or `Processed`.
    pub phase: Option<String>,
    /// Why it was not deleted.
    #[serde(deserialize_with = "or_default")]
    pub errors: Vec<String>,
}

/// Asks Velero for a link to one of a backup's or restore's files.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(group = "velero.io", version = "v1", kind = "DownloadRequest", namespaced)]
#[kube(status = "DownloadRequestStatus", derive = "Default", derive = "PartialEq", schema = "disabled")]
#[serde(rename_all = "camelCase", default)]
pub struct DownloadRequestSpec {
    /// The file.
    pub target: DownloadTarget,
}

/// A file of a backup or restore.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct DownloadTarget {
    /// `BackupLog`, `BackupResults`, `RestoreLog` and so on.
    pub kind: String,
    /// Name of the backup or restore.
    pub name: String,
}

/// The link.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DownloadRequestStatus {
    /// `New` or `Processed`.
    pub phase: Option<String>,
    /// The link, valid for ten minutes.
    #[serde(rename = "downloadURL")]
    pub download_url: Option<String>,
}

/// Go writes an empty list as `null`.
fn or_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// The stage of a backup or a restore.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// It has not ended.
    Running,
    /// It ended successfully.
    Completed,
    /// It ended, but some of it is missing.
    PartiallyFailed,
    /// It ended without a usable result.
    Failed,
}

impl Stage {
    /// Parses the phase of a backup, a restore, or the copy of a volume. An unknown phase counts as running, never as
    /// ended: a later release may have more of them.
    pub fn of(phase: Option<&str>) -> Self {
        match phase {
            Some("Completed") => Self::Completed,
            Some("PartiallyFailed") => Self::PartiallyFailed,
            Some("Failed" | "FailedValidation" | "Deleting" | "Canceled") => Self::Failed,
            _ => Self::Running,
        }
    }
}
