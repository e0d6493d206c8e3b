//! Inspects the files of one backup as they flow past: whether they parse, whether the list of items agrees with the
//! tarball, which claims have volume data.
//!
//! Files are pushed one by one, from the bucket or from a copy in a tar archive. Only names, counts and fingerprints
//! are kept, no content.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use lifeboat_core::{Check, Error, ErrorKind, Fingerprint, ProofItem, Result};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use xxhash_rust::xxh3::Xxh3Default;

use super::api::{Backup, BackupStatus, PodVolumeBackup, Stage};
use super::gunzip::{Consumer, Gunzip};
use super::objects::{Objects, Place, TakesObjects};
use super::outcome::{Operation, Results, Volume, explain_volume};
use super::run::first_of;

/// The largest decompressed size of a list among the files, in bytes: several hundred thousand items.
const LIST_LIMIT: usize = 128 << 20;

/// The largest number of problems of one kind that are named one by one.
const NAMED: usize = 20;

/// The backup itself, as JSON. Velero ignores a folder without it.
pub(crate) const METADATA: &str = "velero-backup.json";

/// The suffixes of a backup's other files, after its name, and whether a backup is bad without the file. Velero uploads
/// the log on a best-effort basis. Source: `PutBackup` in Velero's `pkg/persistence/object_store.go`.
const FILES: [(&str, bool); 8] = [
    (".tar.gz", true),
    ("-resource-list.json.gz", true),
    ("-results.gz", true),
    ("-podvolumebackups.json.gz", true),
    ("-volumesnapshots.json.gz", true),
    ("-itemoperations.json.gz", true),
    ("-volumeinfo.json.gz", true),
    ("-logs.gz", false),
];

/// Inspects the files of one backup.
pub(crate) struct Inspection {
    name: String,
    file: Option<(String, Content)>,
    files: BTreeSet<String>,
    broken: BTreeMap<String, String>,
    backup: Option<Backup>,
    listed: Option<BTreeMap<String, BTreeSet<String>>>,
    tarball: Tarball,
    volumes: Option<Vec<Volume>>,
    pod_volumes: Vec<PodVolumeBackup>,
    operations: Vec<Operation>,
    results: Option<Results>,
}

enum Content {
    Plain(Text),
    Packed(Box<Gunzip<Text>>),
    Tarball(Box<Gunzip<Objects<Tarball>>>),
    Log(Box<Gunzip<Ignored>>),
}

struct Text(Vec<u8>);

impl Consumer for Text {
    fn take(&mut self, bytes: &[u8]) -> Result<()> {
        if self.0.len() + bytes.len() > LIST_LIMIT {
            return Err(Error::new(ErrorKind::Corrupt, "read", "the file", "it is larger than such a file can be"));
        }
        self.0.extend_from_slice(bytes);
        Ok(())
    }
}

struct Ignored;

impl Consumer for Ignored {
    fn take(&mut self, _: &[u8]) -> Result<()> {
        Ok(())
    }
}

/// The contents of the tarball.
#[derive(Default)]
struct Tarball {
    /// Kind, as the list of items writes it, and `namespace/name` of each object.
    objects: BTreeMap<String, BTreeSet<String>>,
    /// Count, bytes and fingerprint of each resource.
    resources: BTreeMap<String, ProofItem>,
    /// Persistent volume claims, as `namespace/name`.
    claims: BTreeSet<String>,
    /// Resources of which each namespace has objects.
    namespaces: BTreeMap<String, BTreeSet<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Typed {
    api_version: String,
    kind: String,
}

impl TakesObjects for Tarball {
    fn object(&mut self, place: Place, text: Vec<u8>) -> Result<()> {
        let path =
            place.namespace.as_ref().map_or_else(|| place.name.clone(), |space| format!("{space}/{}", place.name));
        let typed: Typed = serde_json::from_slice(&text).map_err(|error| {
            Error::new(ErrorKind::Corrupt, "parse", format!("{} {path}", place.resource), error.to_string())
        })?;
        let mut hash = Xxh3Default::new();
        hash.update(path.as_bytes());
        hash.update(&[0]);
        hash.update(&text);
        let item = self.resources.entry(place.resource.clone()).or_insert_with(|| {
            ProofItem::new("objects", place.resource.clone(), 0).fingerprint(Fingerprint::default())
        });
        item.count += 1;
        item.bytes += text.len() as u64;
        if let Some(fingerprint) = &mut item.fingerprint {
            fingerprint.merge(Fingerprint(hash.digest128()));
        }
        if place.resource == "persistentvolumeclaims" {
            self.claims.insert(path.clone());
        }
        if let Some(namespace) = place.namespace {
            self.namespaces.entry(namespace).or_default().insert(place.resource);
        }
        self.objects.entry(format!("{}/{}", typed.api_version, typed.kind)).or_default().insert(path);
        Ok(())
    }
}

impl Inspection {
    pub(crate) fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            file: None,
            files: BTreeSet::new(),
            broken: BTreeMap::new(),
            backup: None,
            listed: None,
            tarball: Tarball::default(),
            volumes: None,
            pod_volumes: Vec::new(),
            operations: Vec::new(),
            results: None,
        }
    }

    /// Begins a file of the backup's folder.
    pub(crate) fn begin(&mut self, file: &str) {
        let suffix = file.strip_prefix(&self.name).unwrap_or_default();
        let content = match suffix {
            ".tar.gz" => Content::Tarball(Box::new(Gunzip::new(Objects::new(Tarball::default())))),
            "-logs.gz" => Content::Log(Box::new(Gunzip::new(Ignored))),
            _ if file.ends_with(".gz") => Content::Packed(Box::new(Gunzip::new(Text(Vec::new())))),
            _ => Content::Plain(Text(Vec::new())),
        };
        self.files.insert(file.to_owned());
        self.file = Some((file.to_owned(), content));
    }

    /// Takes the next bytes of the current file. Once a file is found to be broken, the rest of it is skipped.
    pub(crate) fn data(&mut self, bytes: &[u8]) {
        let Some((file, content)) = &mut self.file else { return };
        let taken = match content {
            Content::Plain(text) => text.take(bytes),
            Content::Packed(gunzip) => gunzip.push(bytes),
            Content::Tarball(gunzip) => gunzip.push(bytes),
            Content::Log(gunzip) => gunzip.push(bytes),
        };
        if let Err(error) = taken {
            let file = file.clone();
            self.break_off(&file, &error);
        }
    }

    /// Ends the current file, which is whole.
    pub(crate) fn end(&mut self) {
        let Some((file, content)) = self.file.take() else { return };
        if let Err(error) = self.read(&file, content) {
            self.break_off(&file, &error);
        }
    }

    /// Ends the current file, which cannot be read to its end.
    pub(crate) fn break_off(&mut self, file: &str, error: &Error) {
        self.file = None;
        self.broken.insert(file.to_owned(), error.message().to_owned());
    }

    fn read(&mut self, file: &str, content: Content) -> Result<()> {
        let text = match content {
            Content::Plain(text) => text.0,
            Content::Packed(gunzip) => gunzip.finish()?.0,
            Content::Log(gunzip) => return gunzip.finish().map(drop),
            Content::Tarball(gunzip) => {
                self.tarball = gunzip.finish()?.finish()?;
                return Ok(());
            }
        };
        if file == METADATA {
            self.backup = Some(parse(&text)?);
            return Ok(());
        }
        match file.strip_prefix(&self.name).unwrap_or_default() {
            "-resource-list.json.gz" => self.listed = Some(parse(&text)?),
            "-volumeinfo.json.gz" => self.volumes = Some(parse::<Option<_>>(&text)?.unwrap_or_default()),
            "-podvolumebackups.json.gz" => self.pod_volumes = parse::<Option<_>>(&text)?.unwrap_or_default(),
            "-itemoperations.json.gz" => self.operations = parse::<Option<_>>(&text)?.unwrap_or_default(),
            "-results.gz" => self.results = Some(parse(&text)?),
            _ if file.ends_with(".json.gz") || file.ends_with(".json") => {
                parse::<serde::de::IgnoredAny>(&text)?;
            }
            _ => {}
        }
        Ok(())
    }

    /// The backup as Velero stored it, if that could be read.
    pub(crate) fn backup(&self) -> Option<&Backup> {
        self.backup.as_ref()
    }

    /// Count, bytes and fingerprint of each resource in the tarball.
    pub(crate) fn items(&self) -> Vec<ProofItem> {
        self.tarball.resources.values().cloned().collect()
    }

    /// Resources of which a namespace has objects in the tarball.
    pub(crate) fn resources_of(&self, namespace: &str) -> BTreeSet<String> {
        self.tarball.namespaces.get(namespace).cloned().unwrap_or_default()
    }

    /// The number of objects in the tarball.
    pub(crate) fn count(&self) -> u64 {
        self.tarball.resources.values().map(|item| item.count).sum()
    }

    /// The namespaces of volumes whose data is in the repository in the bucket.
    pub(crate) fn repositories(&self) -> BTreeSet<String> {
        let volumes = self.volumes.iter().flatten();
        let listed = volumes.filter(|volume| volume.is_in_repository()).map(|volume| volume.namespace().to_owned());
        let pods = self.pod_volumes.iter().map(|copy| copy.spec.pod.namespace.clone());
        listed.chain(pods).filter(|namespace| !namespace.is_empty()).collect()
    }

    /// The claims in the backup without volume data, each with the reason.
    pub(crate) fn uncovered_claims(&self) -> Vec<(String, String)> {
        let mut uncovered = Vec::new();
        for claim in &self.tarball.claims {
            let of_claim = |volume: &&Volume| volume.claim().as_ref() == Some(claim);
            let mut reason = "neither a snapshot nor a copy of its files was made".to_owned();
            let mut covered = false;
            for volume in self.volumes.iter().flatten().filter(of_claim) {
                match volume.problem() {
                    Some(problem) => reason = problem,
                    None => covered = true,
                }
            }
            if !covered {
                uncovered.push((claim.clone(), reason));
            }
        }
        uncovered
    }

    /// Whether every file is there and readable, and the list of items agrees with the tarball.
    pub(crate) fn structure(&self) -> Vec<Check> {
        let missing = |required: bool| {
            let files = FILES.iter().filter(move |(_, needed)| *needed == required);
            let names = files.map(|(suffix, _)| format!("{}{suffix}", self.name));
            let metadata = required.then(|| METADATA.to_owned());
            metadata.into_iter().chain(names).filter(|file| !self.files.contains(file)).collect::<Vec<_>>()
        };
        let (needed, wanted) = (missing(true), missing(false));
        let mut checks = Vec::new();
        if !needed.is_empty() {
            let detail = format!("{}; Velero uploads them with each backup since release 1.13", needed.join(", "));
            checks.push(Check::fail("files", format!("{} missing", needed.len()), detail));
        } else if !wanted.is_empty() {
            checks.push(Check::warn("files", "no log", "Velero could not upload the log of this backup"));
        } else {
            checks.push(Check::pass("files", self.files.len().to_string(), "every file that Velero writes is there"));
        }
        if self.broken.is_empty() {
            checks.push(Check::pass("readable", self.files.len().to_string(), "all of them decompress and parse"));
        }
        for (file, why) in &self.broken {
            checks.push(Check::fail(format!("readable {file}"), "broken", why.clone()));
        }
        checks.extend(self.agreement());
        checks
    }

    /// Compares the list of items with the tarball.
    fn agreement(&self) -> Vec<Check> {
        let whole = |suffix: &str| {
            let file = format!("{}{suffix}", self.name);
            self.files.contains(&file) && !self.broken.contains_key(&file)
        };
        let Some(listed) = self.listed.as_ref().filter(|_| whole(".tar.gz")) else { return Vec::new() };
        let nothing = BTreeSet::new();
        let mut problems = Vec::new();
        let kinds: BTreeSet<&String> = listed.keys().chain(self.tarball.objects.keys()).collect();
        for kind in kinds {
            let (list, stored) =
                (listed.get(kind).unwrap_or(&nothing), self.tarball.objects.get(kind).unwrap_or(&nothing));
            problems
                .extend(list.difference(stored).map(|name| format!("{kind} {name} is listed, but not in the tarball")));
            problems
                .extend(stored.difference(list).map(|name| format!("{kind} {name} is in the tarball, but not listed")));
        }
        if problems.is_empty() {
            let detail = "the list of items and the tarball name the same objects";
            return vec![Check::pass("items", self.count().to_string(), detail)];
        }
        let more = problems.len().saturating_sub(NAMED);
        let mut detail = problems.iter().take(NAMED).cloned().collect::<Vec<_>>().join("; ");
        if more > 0 {
            detail.push_str(&format!("; and {more} more"));
        }
        vec![Check::fail("items", format!("{} differ", problems.len()), detail)]
    }

    /// Checks the backup's own account of itself: phase, items, errors, and claims without data. `must_cover` names
    /// claims (`namespace/name`) whose missing data is a failure; `now` determines whether it has expired.
    pub(crate) fn state(&self, must_cover: &[String], now: Timestamp) -> Vec<Check> {
        let mut checks = Vec::new();
        if let Some(status) = self.backup.as_ref().map(|backup| backup.status.clone().unwrap_or_default()) {
            let phase = status.phase.clone().filter(|phase| !phase.is_empty()).unwrap_or_else(|| "none".to_owned());
            checks.push(match Stage::of(status.phase.as_deref()) {
                Stage::Completed => Check::pass("phase", phase, "Velero says that it is complete"),
                // This includes unknown phases.
                Stage::Running => Check::fail("phase", phase, "it has not ended, or Velero was stopped before it did"),
                Stage::PartiallyFailed | Stage::Failed => {
                    let reasons = status.failure_reason.iter().chain(&status.validation_errors).cloned();
                    let errors = self.results.iter().flat_map(|results| results.errors.all());
                    Check::fail("phase", phase, first_of(reasons.chain(errors).collect()))
                }
            });
            if let Some(progress) = status.progress {
                let figure = format!("{} of {}", progress.items_backed_up, progress.total_items);
                checks.push(if progress.items_backed_up == progress.total_items {
                    Check::pass("progress", figure, "every item that Velero found is backed up")
                } else {
                    Check::fail("progress", figure, "items were left out")
                });
            }
            checks.extend(self.messages(&status));
            checks.extend(expiration(&status, now));
        }
        checks.extend(self.failures());
        checks.extend(self.coverage(must_cover));
        checks
    }

    /// Errors and warnings that Velero counts and lists: the phase alone does not reveal them.
    fn messages(&self, status: &BackupStatus) -> Vec<Check> {
        let (errors, warnings) = match &self.results {
            Some(results) => (results.errors.all(), results.warnings.all()),
            None => (Vec::new(), Vec::new()),
        };
        let mut checks = Vec::new();
        let counted = status.errors.max(errors.len() as u64);
        // Otherwise they are the reasons of the phase.
        if counted > 0 && Stage::of(status.phase.as_deref()) == Stage::Completed {
            checks.push(Check::fail("errors", counted.to_string(), first_of(errors)));
        }
        let counted = status.warnings.max(warnings.len() as u64);
        if counted > 0 {
            checks.push(Check::warn("warnings", counted.to_string(), first_of(warnings)));
        }
        checks
    }

    /// Copies and snapshots of volumes, and operations of plugins, that did not succeed.
    pub(crate) fn failures(&self) -> Vec<Check> {
        let pods = self.pod_volumes.iter().filter(|copy| {
            Stage::of(copy.status.as_ref().and_then(|status| status.phase.as_deref())) != Stage::Completed
        });
        let copies: Vec<_> = pods.map(explain_volume).collect();
        let volumes: Vec<_> = self.volumes.iter().flatten().filter_map(Volume::failure).collect();
        let operations: Vec<_> = self.operations.iter().filter_map(Operation::failure).collect();
        [("volume copies", copies), ("volume data", volumes), ("operations", operations)]
            .into_iter()
            .filter(|(_, failed)| !failed.is_empty())
            .map(|(name, failed)| Check::fail(name, format!("{} failed", failed.len()), first_of(failed)))
            .collect()
    }

    /// Checks how many claims have data, and names each that has none or is missing altogether.
    pub(crate) fn coverage(&self, must_cover: &[String]) -> Vec<Check> {
        let (claims, uncovered) = (self.tarball.claims.len(), self.uncovered_claims());
        let mut checks = vec![Check::pass(
            "volumes",
            format!("{} of {claims}", claims - uncovered.len()),
            "persistent volume claims whose data is in the backup",
        )];
        for (claim, reason) in uncovered {
            let check = if must_cover.contains(&claim) { Check::fail } else { Check::warn };
            checks.push(check(format!("volume {claim}"), "no data".to_owned(), reason));
        }
        for claim in must_cover.iter().filter(|claim| !self.tarball.claims.contains(*claim)) {
            checks.push(Check::fail(format!("volume {claim}"), "missing", "this claim is not in the backup at all"));
        }
        checks
    }
}

/// The warning about a backup that Velero may already delete.
pub(crate) fn expiration(status: &BackupStatus, now: Timestamp) -> Option<Check> {
    let at = status.expiration.as_ref()?.0;
    (at <= now).then(|| {
        let detail = format!(
            "at {at}: a Velero server that finds it in a location where it may write deletes it within the hour; set the \
             location's accessMode to ReadOnly before it is restored from"
        );
        Check::warn("expiration", "expired", detail)
    })
}

fn parse<T: DeserializeOwned>(text: &[u8]) -> Result<T> {
    serde_json::from_slice(text)
        .map_err(|error| Error::new(ErrorKind::Corrupt, "parse", "the file", format!("it is not valid JSON: {error}")))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;
    use lifeboat_core::Status;
    use serde_json::{Value, json};

    use super::*;

    /// The checks for a backup `b` with this status and these lists.
    fn state(status: Value, lists: &[(&str, Value)]) -> Vec<Check> {
        let mut inspection = Inspection::new("b");
        let mut feed = |file: &str, bytes: &[u8]| {
            inspection.begin(file);
            inspection.data(bytes);
            inspection.end();
        };
        let backup =
            json!({"apiVersion": "velero.io/v1", "kind": "Backup", "metadata": {}, "spec": {}, "status": status});
        feed(METADATA, backup.to_string().as_bytes());
        for (file, list) in lists {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
            encoder.write_all(list.to_string().as_bytes()).unwrap();
            feed(&format!("b-{file}.gz"), &encoder.finish().unwrap());
        }
        assert_eq!(inspection.broken, BTreeMap::new());
        inspection.state(&[], "2026-11-21T12:00:00Z".parse().unwrap())
    }

    fn said(checks: &[Check], name: &str) -> Option<(Status, String)> {
        let check = checks.iter().find(|check| check.name == name)?;
        Some((check.status, format!("{}: {}", check.figure, check.detail)))
    }

    #[test]
    fn a_complete_backup_with_a_part_that_failed_does_not_pass() {
        let complete = json!({"phase": "Completed", "expiration": "2026-12-21T12:00:00Z"});
        assert!(state(complete.clone(), &[]).iter().all(|check| check.status == Status::Pass));
        let volume = |phase: &str| {
            json!([{"pvcName": "d", "pvcNamespace": "shop", "result": "succeeded",
            "backupMethod": "PodVolumeBackup", "pvbInfo": {"snapshotHandle": "k1", "Phase": phase}}])
        };
        let pod = |phase: &str| {
            json!([{"metadata": {}, "spec": {"volume": "d", "pod": {"namespace": "shop", "name": "p"}},
            "status": {"phase": phase, "message": ""}}])
        };
        let operation = |phase: &str| json!([{"spec": {"backupItemAction": "csi"}, "status": {"phase": phase}}]);
        for phase in ["Failed", "Canceled", "SomethingNew", "InProgress"] {
            for (file, list, name) in [
                ("volumeinfo.json", volume(phase), "volume data"),
                ("podvolumebackups.json", pod(phase), "volume copies"),
                ("itemoperations.json", operation(phase), "operations"),
            ] {
                let (status, why) = said(&state(complete.clone(), &[(file, list)]), name).unwrap();
                assert!(status == Status::Fail && why.contains(phase), "{file} {phase}: {why}");
            }
        }
        let good = [
            ("volumeinfo.json", volume("Completed")),
            ("podvolumebackups.json", pod("Completed")),
            ("itemoperations.json", operation("Completed")),
        ];
        assert!(state(complete.clone(), &good).iter().all(|check| check.status == Status::Pass));

        let results = json!({"errors": {"namespaces": {"shop": ["it broke"]}}, "warnings": {"velero": ["look here"]}});
        let checks = state(complete, &[("results", results)]);
        assert_eq!(said(&checks, "errors").unwrap(), (Status::Fail, "1: namespace shop: it broke".to_owned()));
        assert_eq!(said(&checks, "warnings").unwrap(), (Status::Warn, "1: look here".to_owned()));
        let counted = state(json!({"phase": "Completed", "errors": 2}), &[]);
        assert_eq!(said(&counted, "errors").unwrap(), (Status::Fail, "2: Velero gives no reason".to_owned()));
    }

    #[test]
    fn every_phase_but_one_fails_and_says_something() {
        for phase in [
            "",
            "New",
            "Queued",
            "ReadyToStart",
            "InProgress",
            "WaitingForPluginOperations",
            "WaitingForPluginOperationsPartiallyFailed",
            "Finalizing",
            "FinalizingPartiallyFailed",
            "PartiallyFailed",
            "Failed",
            "FailedValidation",
            "Deleting",
            "SomethingNew",
        ] {
            let checks = state(json!({"phase": phase, "failureReason": ""}), &[]);
            let (status, why) = said(&checks, "phase").unwrap();
            assert!(status == Status::Fail && !why.ends_with(": ") && !why.starts_with(':'), "{phase}: {why}");
        }
    }

    #[test]
    fn a_backup_that_has_expired_is_told() {
        let expired = |at: &str| said(&state(json!({"phase": "Completed", "expiration": at}), &[]), "expiration");
        let (status, why) = expired("2026-11-21T11:59:59Z").unwrap();
        assert!(status == Status::Warn && why.contains("ReadOnly"), "{why}");
        assert_eq!(expired("2026-11-21T12:00:01Z"), None);
    }
}
