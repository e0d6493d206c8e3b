//! Velero's objects in the Kubernetes API: group `velero.io`, version v1, as Velero v1.14 defines them.
//!
//! Only what is read or written here; what else an object holds is left alone, because nothing here sends a whole
//! object back. Source: the custom resource definitions in Velero's `config/crd/v1/bases`.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, Time};
use kube::CustomResource;
use serde::{Deserialize, Serialize};

/// The label that names the schedule a backup was made by.
pub const SCHEDULE_LABEL: &str = "velero.io/schedule-name";
/// The label that names the backup which an object belongs to.
pub const BACKUP_LABEL: &str = "velero.io/backup-name";
/// The label that names the restore by which an object came.
pub const RESTORE_LABEL: &str = "velero.io/restore-name";
/// The label that holds the `uid` of the backup which a request is about.
pub const BACKUP_UID_LABEL: &str = "velero.io/backup-uid";

/// What a backup holds, and how it is made. Of the two styles of filters the older, which every release knows.
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
    /// Whether resources outside of namespaces are in it; Velero decides when not set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub include_cluster_resources: Option<bool>,
    /// Only objects with these labels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label_selector: Option<LabelSelector>,
    /// Whether persistent volumes are snapshotted; Velero decides when not set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snapshot_volumes: Option<bool>,
    /// How long Velero keeps it, as Go writes a duration: `720h0m0s`.
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
    /// What of a schedule's template is not named above: passed on as it is.
    #[serde(flatten)]
    pub other: BTreeMap<String, serde_json::Value>,
}

/// How a backup is going, or how it went.
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
    /// What is wrong with what was asked for.
    #[serde(deserialize_with = "or_default")]
    pub validation_errors: Vec<String>,
    /// Why it failed as a whole.
    pub failure_reason: Option<String>,
    /// Number of errors in its log.
    pub errors: u64,
    /// Number of warnings in its log.
    pub warnings: u64,
    /// Items done of items there are.
    pub progress: Option<Progress>,
}

/// Items done of items there are. The total grows while Velero finds more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Progress {
    /// Items that there are, as far as is known.
    pub total_items: u64,
    /// Items in a backup that are done.
    pub items_backed_up: u64,
    /// Items of a restore that are done.
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
    /// Into which namespace what was in which goes.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub namespace_mapping: BTreeMap<String, String>,
    /// Only objects with these labels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label_selector: Option<LabelSelector>,
    /// Whether persistent volumes come back from their snapshots; Velero decides when not set.
    #[serde(rename = "restorePVs", skip_serializing_if = "Option::is_none")]
    pub restore_pvs: Option<bool>,
    /// Whether resources outside of namespaces are restored; Velero decides when not set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub include_cluster_resources: Option<bool>,
    /// What becomes of an object that is there: `none` leaves it, `update` patches it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub existing_resource_policy: Option<String>,
}

/// How a restore is going, or how it went.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RestoreStatus {
    /// As a backup's.
    pub phase: Option<String>,
    /// What is wrong with what was asked for.
    #[serde(deserialize_with = "or_default")]
    pub validation_errors: Vec<String>,
    /// Why it failed as a whole.
    pub failure_reason: Option<String>,
    /// Number of errors.
    pub errors: u64,
    /// Number of warnings.
    pub warnings: u64,
    /// Items done of items there are.
    pub progress: Option<Progress>,
}

/// Makes a backup of a template at times that a cron expression names.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(group = "velero.io", version = "v1", kind = "Schedule", namespaced, status = "ScheduleStatus")]
#[kube(derive = "Default", derive = "PartialEq", schema = "disabled")]
#[serde(rename_all = "camelCase", default)]
pub struct ScheduleSpec {
    /// What each backup holds.
    pub template: BackupSpec,
    /// When: a cron expression.
    pub schedule: String,
    /// Whether it makes no backups for now.
    pub paused: bool,
}

/// How a schedule is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ScheduleStatus {
    /// `New`, `Enabled` or `FailedValidation`.
    pub phase: Option<String>,
    /// When it last made a backup.
    pub last_backup: Option<Time>,
    /// What is wrong with it.
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
    /// Whether it is taken when no location is named.
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

/// How a storage location is.
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

/// A Pod, named.
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

/// How the copy of a volume's files is going.
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
    /// Bytes done of bytes there are.
    pub progress: Option<VolumeProgress>,
}

/// Bytes done of bytes there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct VolumeProgress {
    /// Bytes that there are.
    pub total_bytes: u64,
    /// Bytes that are done.
    pub bytes_done: u64,
}

/// Asks Velero to delete a backup with all that belongs to it.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(group = "velero.io", version = "v1", kind = "DeleteBackupRequest", namespaced)]
#[kube(status = "DeleteBackupRequestStatus", derive = "Default", derive = "PartialEq", schema = "disabled")]
#[serde(rename_all = "camelCase", default)]
pub struct DeleteBackupRequestSpec {
    /// The backup.
    pub backup_name: String,
}

/// What became of a request to delete.
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
    /// Which file.
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
    /// The link, good for ten minutes.
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

/// How far a backup or a restore is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// It has not ended.
    Running,
    /// It ended as it should.
    Completed,
    /// It ended, and some of it is missing.
    PartiallyFailed,
    /// It ended with nothing to use.
    Failed,
}

impl Stage {
    /// Reads a phase of a backup, a restore, or the copy of a volume. One that is not known counts as running, and never as an
    /// end: a later release may have more of them.
    pub fn of(phase: Option<&str>) -> Self {
        match phase {
            Some("Completed") => Self::Completed,
            Some("PartiallyFailed") => Self::PartiallyFailed,
            Some("Failed" | "FailedValidation" | "Deleting" | "Canceled") => Self::Failed,
            _ => Self::Running,
        }
    }
}
