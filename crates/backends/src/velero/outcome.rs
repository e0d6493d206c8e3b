//! The outcomes of the parts of a backup, from the files that Velero writes beside it: volumes, operations of plugins,
//! messages.
//!
//! All of Velero's words for outcomes are known here; an unknown one never counts as success. Source: the constants
//! of Velero's `internal/volume/volumes_information.go`, `pkg/itemoperation/shared.go`, `pkg/apis/velero/v1` and `v2alpha1`.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::api::{PodVolumeBackup, Stage};
use super::backups::VolumeSummary;
use super::run::first_of;

/// Velero's entry for one volume, in `NAME-volumeinfo.json.gz`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Volume {
    pvc_name: String,
    pvc_namespace: String,
    pv_name: String,
    backup_method: String,
    skipped: bool,
    skipped_reason: String,
    result: String,
    pvb_info: Option<Saved>,
    snapshot_data_movement_info: Option<Saved>,
    native_snapshot_info: Option<Saved>,
    csi_snapshot_info: Option<CsiSnapshot>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Saved {
    snapshot_handle: String,
    size: u64,
    volume_name: String,
    pod_name: String,
    pod_namespace: String,
    // Velero writes this one with a capital letter. Releases before 1.15 do not write it.
    #[serde(rename = "Phase", alias = "phase")]
    phase: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct CsiSnapshot {
    #[serde(rename = "ReadyToUse", alias = "readyToUse")]
    ready_to_use: Option<bool>,
}

impl Volume {
    /// The claim, as `namespace/name`.
    pub(crate) fn claim(&self) -> Option<String> {
        (!self.pvc_name.is_empty()).then(|| format!("{}/{}", self.pvc_namespace, self.pvc_name))
    }

    /// The namespace of the claim.
    pub(crate) fn namespace(&self) -> &str {
        &self.pvc_namespace
    }

    fn saved(&self) -> Option<&Saved> {
        self.pvb_info.as_ref().or(self.snapshot_data_movement_info.as_ref())
    }

    /// Its name: the claim, the volume of a Pod, or the persistent volume.
    fn name(&self) -> String {
        match (self.claim(), self.saved()) {
            (Some(claim), _) => claim,
            (None, Some(saved)) if !saved.pod_name.is_empty() => {
                format!("{}/{}:{}", saved.pod_namespace, saved.pod_name, saved.volume_name)
            }
            _ => self.pv_name.clone(),
        }
    }

    /// How saving it failed, in Velero's own words. Skipping is not a failure.
    fn wrong(&self) -> Option<String> {
        if self.skipped {
            return None;
        }
        let method = if self.backup_method.is_empty() { "the backup of the volume" } else { &self.backup_method };
        match &*self.result {
            // Releases before 1.14 do not write it.
            "" | "succeeded" => {}
            "failed" => return Some(format!("{method} failed")),
            other => return Some(format!("{method}: its result {other} is not known here")),
        }
        for saved in
            [&self.pvb_info, &self.snapshot_data_movement_info, &self.native_snapshot_info].into_iter().flatten()
        {
            match (&*saved.phase, Stage::of(Some(&saved.phase))) {
                ("", _) | (_, Stage::Completed) => {}
                (phase, Stage::Failed | Stage::PartiallyFailed) => return Some(format!("{method}: {phase}")),
                (phase, Stage::Running) => return Some(format!("{method} has not ended: {phase}")),
            }
        }
        let unready = self.csi_snapshot_info.as_ref().is_some_and(|snapshot| snapshot.ready_to_use == Some(false));
        unready.then(|| format!("{method}: the snapshot is not ready to be used"))
    }

    /// Why there is no data of the volume.
    pub(crate) fn problem(&self) -> Option<String> {
        if self.skipped {
            return Some(format!("skipped: {}", first_of(vec![self.skipped_reason.clone()])));
        }
        let lost = || self.saved().is_some_and(|saved| saved.snapshot_handle.is_empty());
        self.wrong().or_else(|| lost().then(|| "no snapshot in the repository".to_owned()))
    }

    /// Which volume failed, and how.
    pub(crate) fn failure(&self) -> Option<String> {
        self.wrong().map(|why| format!("{}: {why}", self.name()))
    }

    /// The summary for display.
    pub(crate) fn summary(&self) -> VolumeSummary {
        let phase = match self.saved().map(|saved| saved.phase.as_str()) {
            _ if self.skipped => "skipped",
            Some(phase) if !phase.is_empty() => phase,
            _ => &self.result,
        };
        VolumeSummary {
            claim: self.name(),
            method: self.backup_method.clone(),
            phase: phase.to_owned(),
            bytes: self.saved().map(|saved| saved.size),
            problem: self.problem(),
        }
    }

    /// Whether its data is in a repository in the bucket.
    pub(crate) fn is_in_repository(&self) -> bool {
        self.saved().is_some()
    }
}

/// An operation of a plugin on one object, during or after the backup, in `NAME-itemoperations.json.gz`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct Operation {
    spec: OperationSpec,
    status: OperationStatus,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct OperationSpec {
    backup_item_action: String,
    // The tag of this field is misspelt in Velero's source, and its parts have none: Go writes their names as they are.
    #[serde(alias = "ResourceIdentifier")]
    resource_identifier: Identifier,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Identifier {
    resource: String,
    namespace: String,
    name: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct OperationStatus {
    phase: String,
    error: String,
}

impl Operation {
    /// Which operation did not succeed, and why.
    pub(crate) fn failure(&self) -> Option<String> {
        let Self { spec, status } = self;
        if status.phase == "Completed" {
            return None;
        }
        let phase = if status.phase.is_empty() { "New" } else { &status.phase };
        let place = &spec.resource_identifier;
        let path = [&*place.namespace, &*place.name].into_iter().filter(|part| !part.is_empty());
        let path = path.collect::<Vec<_>>().join("/");
        let why = first_of(vec![status.error.clone()]);
        Some(format!("{} of {} {path} ({phase}): {why}", spec.backup_item_action, place.resource))
    }
}

/// Errors or warnings of a run, in `NAME-results.gz`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct Results {
    pub(crate) errors: Messages,
    pub(crate) warnings: Messages,
}

/// Messages by scope.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct Messages {
    velero: Vec<String>,
    cluster: Vec<String>,
    namespaces: BTreeMap<String, Vec<String>>,
}

impl Messages {
    /// Messages by what they are about: a namespace, the cluster, or Velero itself.
    pub(crate) fn by_place(&self) -> Vec<(String, Vec<String>)> {
        let general = [("Velero", &self.velero), ("the cluster", &self.cluster)];
        let general = general.into_iter().map(|(place, messages)| (place.to_owned(), messages));
        let inside = self.namespaces.iter().map(|(name, messages)| (format!("namespace {name}"), messages));
        let trimmed = |messages: &Vec<String>| messages.iter().map(|message| message.trim().to_owned()).collect();
        general
            .chain(inside)
            .filter(|(_, messages)| !messages.is_empty())
            .map(|(place, messages)| (place, trimmed(messages)))
            .collect()
    }

    /// All messages, those of a namespace with its name.
    pub(crate) fn all(&self) -> Vec<String> {
        let general = self.velero.iter().chain(&self.cluster).map(|message| message.trim().to_owned());
        let inside = self.namespaces.iter().flat_map(|(namespace, messages)| {
            messages.iter().map(move |message| format!("namespace {namespace}: {}", message.trim()))
        });
        general.chain(inside).collect()
    }
}

/// Which volume was not copied, and why.
pub(crate) fn explain_volume(copy: &PodVolumeBackup) -> String {
    let status = copy.status.clone().unwrap_or_default();
    let pod = &copy.spec.pod;
    let phase = status.phase.filter(|phase| !phase.is_empty()).unwrap_or_else(|| "New".to_owned());
    let why = first_of(status.message.into_iter().collect());
    format!("volume {} of Pod {}/{} ({phase}): {why}", copy.spec.volume, pod.namespace, pod.name)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn volume(more: serde_json::Value) -> Volume {
        let mut all = json!({"pvcName": "data", "pvcNamespace": "shop", "backupMethod": "PodVolumeBackup"});
        all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value(all).unwrap()
    }

    #[test]
    fn each_word_for_the_end_of_a_volume_is_judged_and_an_unknown_one_does_not_pass() {
        let of = |phase: &str| {
            ["pvbInfo", "snapshotDataMovementInfo", "nativeSnapshotInfo"].map(|info| {
                volume(json!({"result": "succeeded", info: {"snapshotHandle": "s", "Phase": phase}})).failure()
            })
        };
        // Velero's `PodVolumeBackupPhase` and `DataUploadPhase`; nothing, before release 1.15.
        assert_eq!((of("Completed"), of("")), ([None, None, None], [None, None, None]));
        let bad = ["New", "Accepted", "Prepared", "InProgress", "Canceling", "Canceled", "Failed", "SomethingNew"];
        for phase in bad {
            for failure in of(phase) {
                let failure = failure.unwrap_or_else(|| panic!("{phase} passes"));
                assert!(failure.starts_with("shop/data: ") && failure.ends_with(phase), "{failure}");
            }
        }
        for result in ["failed", "unknown"] {
            assert!(volume(json!({"result": result})).failure().is_some(), "{result}");
        }
        let unready = json!({"result": "succeeded", "csiSnapshotInfo": {"snapshotHandle": "s", "ReadyToUse": false}});
        assert!(volume(unready).failure().unwrap().contains("not ready"));
        let skipped = volume(json!({"skipped": true, "result": "failed"}));
        assert_eq!(
            (skipped.failure(), skipped.problem().unwrap()),
            (None, "skipped: Velero gives no reason".to_owned())
        );
    }

    #[test]
    fn an_operation_that_has_not_ended_well_is_named() {
        let operation = |phase: &str, error: &str| -> Operation {
            let spec = json!({"backupItemAction": "velero.io/csi-pvc-backupper",
                "ResourceIdentifier": {"Group": "", "Resource": "persistentvolumeclaims", "Namespace": "shop", "Name": "data"}});
            serde_json::from_value(json!({"spec": spec, "status": {"phase": phase, "error": error}})).unwrap()
        };
        assert_eq!(operation("Completed", "").failure(), None);
        for phase in ["New", "InProgress", "Failed", "Canceled", "SomethingNew"] {
            let failure = operation(phase, "it broke").failure().unwrap();
            let expected =
                format!("velero.io/csi-pvc-backupper of persistentvolumeclaims shop/data ({phase}): it broke");
            assert_eq!(failure, expected);
        }
        assert!(operation("Failed", "").failure().unwrap().ends_with("(Failed): Velero gives no reason"));
    }

    #[test]
    fn a_reason_without_words_is_told_as_none() {
        let status = Some(serde_json::from_value(json!({"phase": "Canceled", "message": " "})).unwrap());
        let copy = PodVolumeBackup { status, ..PodVolumeBackup::default() };
        assert!(explain_volume(&copy).ends_with("(Canceled): Velero gives no reason"));
        assert_eq!(first_of(vec![String::new(), "\n".to_owned()]), "Velero gives no reason");
    }
}
