//! What Velero knows of its backups: the list, one of them in detail, and its deletion.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, Time};
use kube::ResourceExt;
use lifeboat_core::report::human_duration;
use lifeboat_core::{Check, Context, Error, ErrorKind, Result};
use serde::Serialize;

use super::api::{
    BACKUP_LABEL, BACKUP_UID_LABEL, Backup, DeleteBackupRequest, DeleteBackupRequestSpec, PodVolumeBackup,
    SCHEDULE_LABEL, Stage,
};
use super::client::{Cluster, Waited};
use super::files::{File, Files, find_backup};
use super::outcome::{Results, Volume};
use super::run::{self, RESULTS_LIMIT};

/// A backup in a list.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct BackupSummary {
    /// Its name.
    pub name: String,
    /// `Completed`, `PartiallyFailed`, `InProgress` and so on.
    pub phase: String,
    /// The schedule that made it.
    pub schedule: Option<String>,
    /// Where it is stored; empty for the default location while Velero has not taken it up.
    pub storage_location: String,
    /// The namespaces that are in it; all when empty.
    pub namespaces: Vec<String>,
    /// When it began.
    pub started: Option<Timestamp>,
    /// When it ended.
    pub completed: Option<Timestamp>,
    /// When Velero deletes it.
    pub expires: Option<Timestamp>,
    /// Items that Velero has found.
    pub items: u64,
    /// Items that are backed up.
    pub items_done: u64,
    /// Warnings in its log.
    pub warnings: u64,
    /// Errors in its log.
    pub errors: u64,
}

impl BackupSummary {
    /// Whether it ended as it should.
    pub fn is_completed(&self) -> bool {
        Stage::of(Some(&self.phase)) == Stage::Completed
    }

    /// How long it took, in seconds.
    pub fn seconds(&self) -> Option<f64> {
        Some(self.completed?.duration_since(self.started?).as_secs_f64())
    }
}

impl From<&Backup> for BackupSummary {
    fn from(backup: &Backup) -> Self {
        let status = backup.status.clone().unwrap_or_default();
        let progress = status.progress.unwrap_or_default();
        let time = |time: Option<Time>| time.map(|time| time.0);
        Self {
            name: backup.name_any(),
            phase: status.phase.filter(|phase| !phase.is_empty()).unwrap_or_else(|| "New".to_owned()),
            schedule: backup.labels().get(SCHEDULE_LABEL).cloned(),
            storage_location: backup.spec.storage_location.clone().unwrap_or_default(),
            namespaces: backup.spec.included_namespaces.iter().filter(|name| *name != "*").cloned().collect(),
            started: time(status.start_timestamp),
            completed: time(status.completion_timestamp),
            expires: time(status.expiration),
            items: progress.total_items,
            items_done: progress.items_backed_up,
            warnings: status.warnings,
            errors: status.errors,
        }
    }
}

/// All that is known of a backup.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct BackupDetails {
    /// As in the list.
    #[serde(flatten)]
    pub summary: BackupSummary,
    /// Namespaces that are left out.
    pub excluded_namespaces: Vec<String>,
    /// Resources that are in it; all when empty.
    pub resources: Vec<String>,
    /// Resources that are left out.
    pub excluded_resources: Vec<String>,
    /// Labels that its objects have, as `app=web,tier in (a,b)`.
    pub selector: Option<String>,
    /// How long Velero keeps it, as Go writes durations.
    pub ttl: Option<String>,
    /// Whether persistent volumes were snapshotted; Velero decided when not set.
    pub snapshot_volumes: Option<bool>,
    /// Whether the files of all volumes of Pods were copied.
    pub default_volumes_to_fs_backup: Option<bool>,
    /// Why it is not complete: its own reasons, then the errors of its log.
    pub problems: Vec<String>,
    /// The warnings of its log.
    pub notices: Vec<String>,
    /// What became of the volumes.
    pub volumes: Vec<VolumeSummary>,
    /// Why messages or volumes could not be read, when they could not.
    pub unread: Option<String>,
}

/// What became of one volume.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct VolumeSummary {
    /// The claim, as `namespace/name`; of a volume without one the Pod and the volume, as `namespace/pod:volume`.
    pub claim: String,
    /// `PodVolumeBackup`, `NativeSnapshot`, `CSISnapshot`, or nothing for one that was skipped.
    pub method: String,
    /// How it ended.
    pub phase: String,
    /// Bytes that were saved, where Velero says.
    pub bytes: Option<u64>,
    /// Why there is no data of it.
    pub problem: Option<String>,
}

/// The backups that Velero knows, the oldest first; of one schedule only, when it is named.
///
/// # Errors
/// What the cluster answers.
///
/// # Cancel safety
/// Safe: it changes nothing.
pub async fn backups(cluster: &Cluster, schedule: Option<&str>) -> Result<Vec<BackupSummary>> {
    let found = of_schedule(cluster, schedule).await?;
    Ok(found.iter().map(BackupSummary::from).collect())
}

/// The backups of a schedule, or all, in the order in which they began. One that has not begun is the last.
pub(crate) async fn of_schedule(cluster: &Cluster, schedule: Option<&str>) -> Result<Vec<Backup>> {
    let labels = schedule.map(|schedule| format!("{SCHEDULE_LABEL}={schedule}")).unwrap_or_default();
    let mut found: Vec<Backup> = cluster.list(&labels).await?;
    found.sort_by_cached_key(|backup| {
        let begun = backup.status.as_ref().and_then(|status| status.start_timestamp.as_ref().map(|time| time.0));
        (begun.is_none(), begun, backup.name_any())
    });
    Ok(found)
}

/// One backup with its messages and volumes.
///
/// # Behaviour
/// What its files would say and cannot be read is left out, and [`BackupDetails::unread`] says why: a backup that goes on
/// has none yet.
///
/// # Errors
/// [`ErrorKind::NoArtifact`] when there is none of that name, and what the cluster answers.
///
/// # Cancel safety
/// As [`logs`](super::logs).
pub async fn backup(cluster: &Cluster, files: &Files, name: &str, cx: &Context) -> Result<BackupDetails> {
    let found = find_backup(cluster, name).await?;
    let (spec, status) = (found.spec.clone(), found.status.clone().unwrap_or_default());
    let mut details = BackupDetails {
        summary: BackupSummary::from(&found),
        excluded_namespaces: spec.excluded_namespaces,
        resources: spec.included_resources,
        excluded_resources: spec.excluded_resources,
        selector: spec.label_selector.as_ref().map(write_selector).filter(|text| !text.is_empty()),
        ttl: spec.ttl,
        snapshot_volumes: spec.snapshot_volumes,
        default_volumes_to_fs_backup: spec.default_volumes_to_fs_backup,
        problems: status.failure_reason.into_iter().chain(status.validation_errors).collect(),
        ..BackupDetails::default()
    };
    let copies: Vec<PodVolumeBackup> = cluster.list(&format!("{BACKUP_LABEL}={name}")).await?;
    let unread = match Stage::of(status.phase.as_deref()) {
        Stage::Running => Err(Error::new(ErrorKind::Refused, "read", "its messages", "it has not ended yet")),
        _ => read_files(cluster, files, name, cx).await,
    };
    match unread {
        Ok((results, volumes)) => {
            details.problems.extend(results.errors.all());
            details.notices = results.warnings.all();
            details.volumes = volumes.iter().map(Volume::summary).collect();
        }
        Err(error) if error.kind() == ErrorKind::Cancelled => return Err(error),
        Err(error) => details.unread = Some(error.to_string()),
    }
    // What the list of volumes, which newer releases write, does not say, and all while the backup goes on.
    if details.volumes.is_empty() {
        details.volumes = copies.iter().map(of_pod).collect();
    }
    Ok(details)
}

async fn read_files(cluster: &Cluster, files: &Files, name: &str, cx: &Context) -> Result<(Results, Vec<Volume>)> {
    let results = files.read(cluster, File::BackupResults(name), RESULTS_LIMIT, cx).await?;
    let volumes = files.read(cluster, File::BackupVolumes(name), RESULTS_LIMIT, cx).await?;
    let parsed = |error: serde_json::Error| {
        Error::new(ErrorKind::Corrupt, "parse", format!("the messages of Velero's backup {name}"), error.to_string())
    };
    let volumes: Option<Vec<Volume>> = serde_json::from_slice(&volumes).map_err(parsed)?;
    Ok((serde_json::from_slice(&results).map_err(parsed)?, volumes.unwrap_or_default()))
}

fn of_pod(copy: &PodVolumeBackup) -> VolumeSummary {
    let (pod, status) = (&copy.spec.pod, copy.status.clone().unwrap_or_default());
    let phase = status.phase.filter(|phase| !phase.is_empty()).unwrap_or_else(|| "New".to_owned());
    VolumeSummary {
        claim: format!("{}/{}:{}", pod.namespace, pod.name, copy.spec.volume),
        method: "PodVolumeBackup".to_owned(),
        problem: (Stage::of(Some(&phase)) == Stage::Failed)
            .then(|| run::first_of(status.message.into_iter().collect())),
        bytes: status.progress.map(|progress| progress.bytes_done),
        phase,
    }
}

/// A selector as `kubectl` writes it.
pub(crate) fn write_selector(selector: &LabelSelector) -> String {
    let equal = selector.match_labels.iter().flatten().map(|(key, value)| format!("{key}={value}"));
    let others = selector.match_expressions.iter().flatten().map(|rule| {
        let (key, values) = (&rule.key, rule.values.clone().unwrap_or_default().join(","));
        match rule.operator.as_str() {
            "In" => format!("{key} in ({values})"),
            "NotIn" => format!("{key} notin ({values})"),
            "Exists" => key.clone(),
            "DoesNotExist" => format!("!{key}"),
            other => format!("{key} {other} ({values})"),
        }
    });
    equal.chain(others).collect::<Vec<_>>().join(",")
}

/// Has Velero delete a backup with all that belongs to it: its files, the snapshots and copies of its volumes, its restores.
///
/// # Behaviour
/// - It waits until the backup is gone.
/// - Velero deletes a backup that was asked for even when this run ends early; a request that its server has not taken up
///   within `limit` is withdrawn.
///
/// # Errors
/// [`ErrorKind::NoArtifact`] when there is none of that name; [`ErrorKind::Refused`] with Velero's errors when it does not
/// delete it, or not all of it; [`ErrorKind::Unavailable`] when the time is over.
///
/// # Cancel safety
/// Safe: whether the backup is deleted is then not known.
pub async fn delete_backup(cluster: &Cluster, name: &str, limit: Duration, cx: &Context) -> Result<Check> {
    let backup = find_backup(cluster, name).await?;
    let request = format!("{}-{}", name.chars().take(48).collect::<String>(), run::random_suffix()?);
    let mut wanted = DeleteBackupRequest::new(&request, DeleteBackupRequestSpec { backup_name: name.to_owned() });
    // By these labels Velero finds the requests of a backup, and removes them with it.
    let uid = backup.uid().unwrap_or_default();
    let labels = [(BACKUP_LABEL, name.chars().take(63).collect()), (BACKUP_UID_LABEL, uid.clone())];
    wanted.metadata.labels = Some(BTreeMap::from(labels.map(|(key, value)| (key.to_owned(), value))));
    let begun = std::time::Instant::now();
    cluster.create(&wanted).await?;
    let subject = format!("Velero's backup {name}");
    let phase = |request: &DeleteBackupRequest| request.status.as_ref().and_then(|status| status.phase.clone());
    let waited = cluster
        .wait::<DeleteBackupRequest>(&request, limit, cx, |request| phase(request).as_deref() == Some("Processed"))
        .await;
    match waited {
        Ok(Waited::Done(request)) => {
            let errors = request.status.map(|status| status.errors).unwrap_or_default();
            if !errors.is_empty() {
                return Err(Error::new(ErrorKind::Refused, "delete", subject, run::first_of(errors))
                    .hint("what is left of it is still listed; fix what Velero names, then delete it again"));
            }
        }
        // Velero removes the requests together with the backup.
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error),
        Ok(Waited::TooLong(seen)) => {
            let limit = human_duration(limit);
            if matches!(phase(&seen).as_deref(), None | Some("" | "New")) {
                cluster.delete::<DeleteBackupRequest>(&request).await?;
                let why = format!("Velero has not begun to delete it within {limit}; the request is withdrawn");
                return Err(Error::new(ErrorKind::Unavailable, "delete", subject, why)
                    .hint("is Velero's server running? Check its log"));
            }
            let why = format!("Velero is not done with it after {limit}");
            return Err(Error::new(ErrorKind::Unavailable, "delete", subject, why)
                .hint("it continues if its server runs; check its log"));
        }
    }
    if cluster.find::<Backup>(name).await?.is_some_and(|there| there.uid().unwrap_or_default() == uid) {
        let why = "Velero says that it is deleted, but it is still there";
        return Err(Error::new(ErrorKind::Refused, "delete", subject, why).hint("check the log of Velero's server"));
    }
    Ok(Check::pass("deleted", name, "its files, the data of its volumes and its restores are gone")
        .took(begun.elapsed()))
}
