//! What the files of one backup say, taken as they flow past: they parse, the list of items agrees with the tarball, which
//! claims have volume data.
//!
//! It is fed file by file, from the bucket or from a copy in a tar archive, and holds names, counts and fingerprints, no
//! content.

use std::collections::{BTreeMap, BTreeSet};

use lifeboat_core::{Check, Error, ErrorKind, Fingerprint, ProofItem, Result};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use xxhash_rust::xxh3::Xxh3Default;

use super::api::{Backup, PodVolumeBackup, Stage};
use super::backups::VolumeSummary;
use super::gunzip::{Consumer, Gunzip};
use super::objects::{Objects, Place, TakesObjects};

/// The most that a list among the files may have, in bytes, decompressed: some hundred thousand items.
const LIST_LIMIT: usize = 128 << 20;

/// The most problems of one sort that are named one by one.
const NAMED: usize = 20;

/// The backup itself, as JSON. Velero takes a folder without it for no backup.
pub(crate) const METADATA: &str = "velero-backup.json";

/// What follows the backup's name in the names of its other files, and whether a backup is bad without it. Velero uploads the
/// log as well as it can. Source: `PutBackup` in Velero's `pkg/persistence/object_store.go`.
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

/// What Velero says of one volume, in `NAME-volumeinfo.json.gz`.
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
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Saved {
    snapshot_handle: String,
    size: u64,
    volume_name: String,
    pod_name: String,
    pod_namespace: String,
    // The one field that Velero writes with a capital letter.
    #[serde(rename = "Phase")]
    phase: String,
}

impl Volume {
    /// Why it holds no data of the volume.
    fn problem(&self) -> Option<String> {
        if self.skipped {
            return Some(format!("skipped: {}", self.skipped_reason));
        }
        if self.result == "failed" {
            return Some(format!("{} failed", self.backup_method));
        }
        let saved = self.pvb_info.as_ref().or(self.snapshot_data_movement_info.as_ref());
        saved.is_some_and(|saved| saved.snapshot_handle.is_empty()).then(|| "no snapshot in the repository".to_owned())
    }

    /// As a person reads it.
    pub(crate) fn summary(&self) -> VolumeSummary {
        let saved = self.pvb_info.as_ref().or(self.snapshot_data_movement_info.as_ref());
        let claim = match saved {
            _ if !self.pvc_name.is_empty() => format!("{}/{}", self.pvc_namespace, self.pvc_name),
            Some(saved) if !saved.pod_name.is_empty() => {
                format!("{}/{}:{}", saved.pod_namespace, saved.pod_name, saved.volume_name)
            }
            _ => self.pv_name.clone(),
        };
        let phase = match saved.map(|saved| saved.phase.as_str()) {
            _ if self.skipped => "skipped",
            Some(phase) if !phase.is_empty() => phase,
            _ => &self.result,
        };
        VolumeSummary {
            claim,
            method: self.backup_method.clone(),
            phase: phase.to_owned(),
            bytes: saved.map(|saved| saved.size),
            problem: self.problem(),
        }
    }

    /// Whether its data lies in a repository in the bucket.
    fn is_in_repository(&self) -> bool {
        self.pvb_info.is_some() || self.snapshot_data_movement_info.is_some()
    }
}

/// Errors or warnings of a run, in `NAME-results.gz`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct Results {
    pub(crate) errors: Messages,
    pub(crate) warnings: Messages,
}

/// Messages by where they belong.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct Messages {
    velero: Vec<String>,
    cluster: Vec<String>,
    namespaces: BTreeMap<String, Vec<String>>,
}

impl Messages {
    /// Messages by the place they are about: a namespace, the cluster, or Velero itself.
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

    /// All of them, those of a namespace with its name.
    pub(crate) fn all(&self) -> Vec<String> {
        let general = self.velero.iter().chain(&self.cluster).map(|message| message.trim().to_owned());
        let inside = self.namespaces.iter().flat_map(|(namespace, messages)| {
            messages.iter().map(move |message| format!("namespace {namespace}: {}", message.trim()))
        });
        general.chain(inside).collect()
    }
}

/// Looks at the files of one backup.
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

/// What the tarball holds.
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
        let item = self.resources.entry(place.resource.clone()).or_insert_with(|| ProofItem {
            kind: "objects".to_owned(),
            name: place.resource.clone(),
            fingerprint: Some(Fingerprint::default()),
            ..ProofItem::default()
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
            results: None,
        }
    }

    /// A file of the backup's folder begins.
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

    /// The next bytes of the file that has begun. After a file is found to be broken the rest of it is passed over.
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

    /// The file that has begun is whole.
    pub(crate) fn end(&mut self) {
        let Some((file, content)) = self.file.take() else { return };
        if let Err(error) = self.read(&file, content) {
            self.break_off(&file, &error);
        }
    }

    /// The file that has begun cannot be read to its end.
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
            "-results.gz" => self.results = Some(parse(&text)?),
            _ if file.ends_with(".json.gz") || file.ends_with(".json") => {
                parse::<serde::de::IgnoredAny>(&text)?;
            }
            _ => {}
        }
        Ok(())
    }

    /// The backup as Velero stored it, when that could be read.
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

    /// How many objects the tarball holds.
    pub(crate) fn count(&self) -> u64 {
        self.tarball.resources.values().map(|item| item.count).sum()
    }

    /// Namespaces of volumes whose data lies in the repository in the bucket.
    pub(crate) fn repositories(&self) -> BTreeSet<String> {
        let volumes = self.volumes.iter().flatten();
        let listed = volumes.filter(|volume| volume.is_in_repository()).map(|volume| volume.pvc_namespace.clone());
        let pods = self.pod_volumes.iter().map(|copy| copy.spec.pod.namespace.clone());
        listed.chain(pods).filter(|namespace| !namespace.is_empty()).collect()
    }

    /// Claims in the backup without data of their volumes, each with the reason.
    pub(crate) fn uncovered_claims(&self) -> Vec<(String, String)> {
        let mut uncovered = Vec::new();
        for claim in &self.tarball.claims {
            let of_claim = |volume: &&Volume| format!("{}/{}", volume.pvc_namespace, volume.pvc_name) == *claim;
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

    /// The list of items against the tarball.
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

    /// How the backup went, by its own words: phase, items, errors, and claims without data. `must_cover` names claims
    /// (`namespace/name`) whose missing data is a failure.
    pub(crate) fn state(&self, must_cover: &[String]) -> Vec<Check> {
        let mut checks = Vec::new();
        if let Some(status) = self.backup.as_ref().map(|backup| backup.status.clone().unwrap_or_default()) {
            let phase = status.phase.clone().unwrap_or_else(|| "none".to_owned());
            checks.push(match Stage::of(status.phase.as_deref()) {
                Stage::Completed => Check::pass("phase", phase, "Velero says that it is complete"),
                Stage::Running => Check::fail("phase", phase, "it has not ended, or Velero was stopped before it did"),
                Stage::PartiallyFailed | Stage::Failed => {
                    let reasons = status.failure_reason.into_iter().chain(status.validation_errors);
                    let errors = self.results.iter().flat_map(|results| results.errors.all());
                    let reasons: Vec<_> = reasons.chain(errors).take(NAMED).collect();
                    Check::fail("phase", phase, reasons.join("; "))
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
        }
        let failed: Vec<_> = self
            .pod_volumes
            .iter()
            .filter(|copy| Stage::of(copy.status.as_ref().and_then(|s| s.phase.as_deref())) != Stage::Completed)
            .map(explain_volume)
            .collect();
        if !failed.is_empty() {
            checks.push(Check::fail("volume copies", format!("{} failed", failed.len()), failed.join("; ")));
        }
        checks.extend(self.coverage(must_cover));
        checks
    }

    /// How many claims have data, each that has none, and each that should be there and is not.
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

/// Which volume was not copied, and why.
pub(crate) fn explain_volume(copy: &PodVolumeBackup) -> String {
    let status = copy.status.clone().unwrap_or_default();
    let pod = &copy.spec.pod;
    let phase = status.phase.unwrap_or_else(|| "New".to_owned());
    let why = status.message.filter(|why| !why.is_empty()).unwrap_or_else(|| "no reason is given".to_owned());
    format!("volume {} of Pod {}/{} ({phase}): {why}", copy.spec.volume, pod.namespace, pod.name)
}

fn parse<T: DeserializeOwned>(text: &[u8]) -> Result<T> {
    serde_json::from_slice(text).map_err(|error| {
        Error::new(ErrorKind::Corrupt, "parse", "the file", format!("it is not the JSON it should be: {error}"))
    })
}
