//! A backup that Velero is asked to make: what goes into it, waiting for its end, and why it failed.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::ResourceExt;
use kube::api::ObjectMeta;
use lifeboat_core::progress::{Event, Step, Total, Unit};
use lifeboat_core::report::human_duration;
use lifeboat_core::{Check, Context, Error, ErrorKind, Result, Sink, Status, stream};

use super::api::{
    BACKUP_LABEL, Backup, BackupSpec, BackupStorageLocation, PodVolumeBackup, Restore, SCHEDULE_LABEL, Schedule, Stage,
};
use super::client::{Cluster, Waited};
use super::go_duration;
use super::gunzip::{Consumer, Gunzip};
use super::outcome::{Results, explain_volume};
use super::pairs;
use super::settings::VeleroSettings;

/// After how long a run that Velero's server has not begun is told of.
const SLOW: Duration = Duration::from_secs(60);

/// The most messages of a failed run that an error shows.
const SHOWN: usize = 10;

/// The most that the list of a run's messages may have, in bytes.
pub(crate) const RESULTS_LIMIT: usize = 32 << 20;

/// How long Velero has to make a backup, where nobody says.
const LIMIT: Duration = Duration::from_secs(4 * 3600);

impl VeleroSettings {
    /// The object to create, with a name of its own.
    pub(crate) async fn backup(&self, cluster: &Cluster, now: Timestamp) -> Result<Backup> {
        let mut labels = BTreeMap::new();
        let mut spec = BackupSpec::default();
        if let Some(name) = &self.from_schedule {
            let schedule = cluster.find::<Schedule>(name).await?.ok_or_else(|| {
                let why = format!("there is no such schedule in the namespace {}", cluster.namespace());
                Error::new(ErrorKind::NotFound, "read", format!("Schedule {name}"), why)
                    .hint("`velero schedule get` shows what there is")
            })?;
            spec = schedule.spec.template;
            labels.insert(SCHEDULE_LABEL.to_owned(), name.clone());
        }
        for (given, place) in [
            (&self.namespaces, &mut spec.included_namespaces),
            (&self.exclude_namespaces, &mut spec.excluded_namespaces),
        ] {
            if !given.is_empty() {
                place.clone_from(given);
            }
        }
        if !self.labels.is_empty() {
            spec.label_selector =
                Some(LabelSelector { match_labels: Some(pairs::map(&self.labels)), ..LabelSelector::default() });
        }
        spec.ttl = self.ttl.map(|ttl| go_duration::write(ttl.0)).or(spec.ttl);
        spec.storage_location = self.storage_location.clone().or(spec.storage_location);
        spec.default_volumes_to_fs_backup = self.default_volumes_to_fs_backup.or(spec.default_volumes_to_fs_backup);
        spec.snapshot_volumes = self.snapshot_volumes.or(spec.snapshot_volumes);
        let stamp = now.strftime("%Y%m%d%H%M%S");
        // The name is a label's value as well, which has 63 characters at most.
        let base: String = self.dataset().chars().take(36).collect();
        let name = format!("{}-{stamp}-{}", base.trim_end_matches(['-', '.']), random_suffix()?);
        let metadata = ObjectMeta { labels: Some(labels).filter(|l| !l.is_empty()), ..ObjectMeta::default() };
        let mut backup = Backup::new(&name, spec);
        backup.metadata = ObjectMeta { name: Some(name), ..metadata };
        Ok(backup)
    }
}

/// Eight hexadecimal digits that make a name unique.
pub(crate) fn random_suffix() -> Result<String> {
    let mut bytes = [0; 4];
    getrandom::fill(&mut bytes)
        .map_err(|error| Error::new(ErrorKind::Io, "read", "random bytes of the system", error.to_string()))?;
    Ok(hex::encode(bytes))
}

/// The storage location of this name, or the default one.
pub(crate) async fn location(cluster: &Cluster, name: Option<&str>) -> Result<BackupStorageLocation> {
    let missing = |subject: String, why: &str| {
        Error::new(ErrorKind::NotFound, "find", subject, why).hint("`velero backup-location get` shows what there is")
    };
    if let Some(name) = name {
        let found = cluster.find::<BackupStorageLocation>(name).await?;
        return found.ok_or_else(|| missing(format!("backup storage location {name}"), "there is none of that name"));
    }
    let all = cluster.list::<BackupStorageLocation>("").await?;
    let only = if all.len() == 1 { all.first() } else { None };
    let chosen = all.iter().find(|location| location.spec.is_default).or(only).cloned();
    chosen.ok_or_else(|| missing("the default backup storage location".to_owned(), "none is marked as the default"))
}

/// Whether a storage location can be used now.
pub(crate) fn location_check(location: &BackupStorageLocation) -> Check {
    let (name, status) = (location.name_any(), location.status.clone().unwrap_or_default());
    let place = format!("{name}: {}", bucket_of(location));
    match status.phase.as_deref() {
        Some("Available") => Check::pass("storage location", "Available", place),
        phase => {
            let why = match status.message.filter(|why| !why.trim().is_empty()) {
                Some(why) => why,
                None if phase == Some("Unavailable") => "Velero gives no reason: check its server's log".to_owned(),
                None => "Velero has not processed it yet: is its server running?".to_owned(),
            };
            let phase = phase.filter(|phase| !phase.is_empty()).unwrap_or("unknown");
            Check::fail("storage location", phase, format!("{place}: {why}"))
        }
    }
}

/// The storage location of this name, or the default one, when it can be used.
pub(crate) async fn available(cluster: &Cluster, name: Option<&str>) -> Result<BackupStorageLocation> {
    let location = location(cluster, name).await?;
    let check = location_check(&location);
    if check.status == Status::Pass {
        return Ok(location);
    }
    let subject = format!("backup storage location {}", location.name_any());
    let why = format!("{} ({})", check.figure, check.detail);
    Err(Error::new(ErrorKind::Unavailable, "use", subject, why)
        .hint("Velero does nothing until it is Available: check its bucket, its credentials and foreign folders"))
}

/// `bucket/prefix` of a storage location.
pub(crate) fn bucket_of(location: &BackupStorageLocation) -> String {
    let storage = &location.spec.object_storage;
    let prefix = storage.prefix.as_deref().unwrap_or_default().trim_matches('/');
    if prefix.is_empty() { storage.bucket.clone() } else { format!("{}/{prefix}", storage.bucket) }
}

/// Has Velero make a backup and waits until it is complete.
///
/// Velero goes on with it when this run ends early.
pub(crate) async fn make(
    cluster: &Cluster,
    sink: &dyn Sink,
    settings: &VeleroSettings,
    cx: &Context,
) -> Result<Backup> {
    let limit = settings.limit.map_or(LIMIT, |limit| limit.0);
    let wanted = settings.backup(cluster, cx.now()).await?;
    let created = cluster.create(&wanted).await?;
    let name = created.name_any();
    let backup = match end_of::<Backup>(cluster, &name, limit, cx).await? {
        Waited::Done(backup) => backup,
        Waited::TooLong(backup) => return Err(too_long(&backup, limit)),
    };
    let status = backup.status.clone().unwrap_or_default();
    match Stage::of(status.phase.as_deref()) {
        Stage::Completed if fits_nothing(&wanted.spec, &backup) => {
            let why = "it is complete and holds nothing: no object fits the namespaces and labels that were chosen";
            Err(Error::new(ErrorKind::NotFound, "make", format!("Velero's backup {name}"), why)
                .hint("a name that fits nothing is probably misspelt, or what it named was deleted"))
        }
        Stage::Completed => Ok(backup),
        _ => Err(explain_failure(cluster, sink, &backup).await),
    }
}

/// Whether a choice was made, and a backup holds nothing of it. A namespace that is named is an item itself, whatever labels are
/// asked for (`nsTracker` of Velero's `pkg/backup/item_collector.go`).
fn fits_nothing(spec: &BackupSpec, backup: &Backup) -> bool {
    let named = spec.included_namespaces.iter().filter(|name| *name != "*").count() as u64;
    let by_label = spec.label_selector.is_some();
    let themselves = if by_label { named } else { 0 };
    (by_label || named > 0) && backup.items().is_some_and(|(total, _)| total <= themselves)
}

/// A run of Velero's server that is asked for by an object and told of in its status.
pub(crate) trait Run {
    /// The word for it.
    const WORD: &'static str;
    /// The step that it is, of the run with this name.
    const STEP: fn(String) -> Step;

    fn phase(&self) -> Option<&str>;

    /// Items there are, and items done.
    fn items(&self) -> Option<(u64, u64)>;

    /// Whether Velero's server has not taken it up.
    fn is_waiting(&self) -> bool {
        matches!(self.phase(), None | Some("" | "New"))
    }

    fn stage(&self) -> Stage {
        Stage::of(self.phase())
    }
}

impl Run for Backup {
    const WORD: &'static str = "backup";
    const STEP: fn(String) -> Step = Step::BackUp;

    fn phase(&self) -> Option<&str> {
        self.status.as_ref()?.phase.as_deref()
    }

    fn items(&self) -> Option<(u64, u64)> {
        let progress = self.status.as_ref()?.progress?;
        Some((progress.total_items, progress.items_backed_up))
    }
}

impl Run for Restore {
    const WORD: &'static str = "restore";
    const STEP: fn(String) -> Step = Step::Restore;

    fn phase(&self) -> Option<&str> {
        self.status.as_ref()?.phase.as_deref()
    }

    fn items(&self) -> Option<(u64, u64)> {
        let progress = self.status.as_ref()?.progress?;
        Some((progress.total_items, progress.items_restored))
    }
}

/// Waits for the end of a run, and shows its progress.
pub(crate) async fn end_of<K>(cluster: &Cluster, name: &str, limit: Duration, cx: &Context) -> Result<Waited<K>>
where
    K: Run
        + kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>
        + Clone
        + serde::de::DeserializeOwned
        + std::fmt::Debug,
{
    let deadline = tokio::time::Instant::now() + limit;
    let mut shown = Shown::begin(cx, K::STEP(name.to_owned()));
    let mut ended = |run: &K| {
        shown.show(run.items());
        run.stage() != Stage::Running
    };
    let begun = |run: &K| !run.is_waiting();
    let left = || deadline.saturating_duration_since(tokio::time::Instant::now());
    let waited = match cluster.wait::<K>(name, limit.min(SLOW), cx, begun).await? {
        Waited::TooLong(_) if limit > SLOW => {
            let note = format!("Velero has not begun the {} {name} yet: is its server running?", K::WORD);
            cx.progress.event(Event::Note(note));
            cluster.wait::<K>(name, left(), cx, &mut ended).await?
        }
        Waited::TooLong(run) => Waited::TooLong(run),
        Waited::Done(_) => cluster.wait::<K>(name, left(), cx, &mut ended).await?,
    };
    shown.end();
    Ok(waited)
}

/// Progress of a run in items, whose total grows.
struct Shown<'a> {
    cx: &'a Context,
    total: Option<u64>,
    done: u64,
}

impl<'a> Shown<'a> {
    fn begin(cx: &'a Context, step: Step) -> Self {
        cx.progress.event(Event::Begin { step, unit: Unit::Items, total: None });
        Self { cx, total: None, done: 0 }
    }

    fn show(&mut self, items: Option<(u64, u64)>) {
        let Some((total, done)) = items else { return };
        if self.total != Some(total) && total > 0 {
            self.total = Some(total);
            self.cx.progress.event(Event::Total(Total::Exact(total)));
        }
        self.cx.progress.event(Event::Advance(done.saturating_sub(self.done)));
        self.done = self.done.max(done);
    }

    fn end(self) {
        self.cx.progress.event(Event::End);
    }
}

fn too_long(backup: &Backup, limit: Duration) -> Error {
    let status = backup.status.clone().unwrap_or_default();
    let progress = status.progress.unwrap_or_default();
    let limit = human_duration(limit);
    let (message, hint) = match status.phase.as_deref() {
        None | Some("" | "New") => (
            format!("Velero has not begun it within {limit}"),
            "is Velero's server running, and does it have other backups to finish first? Check its log. The backup remains: Velero makes it in its turn, unless you delete it with kubectl first",
        ),
        Some(phase) => (
            format!(
                "it is not complete after {limit}: {phase}, {} of {} items",
                progress.items_backed_up, progress.total_items
            ),
            "Velero continues if its server runs; check its log, or allow more time",
        ),
    };
    Error::new(ErrorKind::Unavailable, "make", format!("Velero's backup {}", backup.name_any()), message).hint(hint)
}

/// Why a backup is not complete: its own reasons, volumes that were not copied, errors of its log.
pub(crate) async fn explain_failure(cluster: &Cluster, sink: &dyn Sink, backup: &Backup) -> Error {
    let (name, status) = (backup.name_any(), backup.status.clone().unwrap_or_default());
    let mut reasons: Vec<String> = status.failure_reason.into_iter().chain(status.validation_errors).collect();
    // What cannot be read must not hide that the backup failed.
    if let Ok(copies) = cluster.list::<PodVolumeBackup>(&format!("{BACKUP_LABEL}={name}")).await {
        let failed = copies.iter().filter(|copy| {
            Stage::of(copy.status.as_ref().and_then(|status| status.phase.as_deref())) != Stage::Completed
        });
        reasons.extend(failed.map(explain_volume));
    }
    if let Ok(results) = results(sink, &format!("backups/{name}/{name}-results.gz")).await {
        reasons.extend(results.errors.all());
    }
    let timed_out = reasons.iter().any(|reason| reason.contains("timed out") || reason.contains("timeout"));
    let hint = if timed_out {
        "something took too long: raise the server's --fs-backup-timeout, or the backup's csiSnapshotTimeout or \
         itemOperationTimeout"
    } else {
        "the backup's log has more: `logs` shows it"
    };
    let phase = status.phase.filter(|phase| !phase.is_empty()).unwrap_or_else(|| "no phase".to_owned());
    let message = format!("it ended as {phase}: {}", first_of(reasons));
    Error::new(ErrorKind::Tool, "make", format!("Velero's backup {name}"), message).hint(hint)
}

/// The first of these messages, and how many more there are. One without words says nothing.
pub(crate) fn first_of(mut messages: Vec<String>) -> String {
    messages.retain(|message| !message.trim().is_empty());
    if messages.is_empty() {
        return "Velero gives no reason".to_owned();
    }
    let more = messages.len().saturating_sub(SHOWN);
    messages.truncate(SHOWN);
    let tail = if more > 0 { format!("; and {more} more") } else { String::new() };
    format!("{}{tail}", messages.join("; "))
}

/// Errors and warnings of a backup or restore, from the storage location.
pub(crate) async fn results(sink: &dyn Sink, key: &str) -> Result<Results> {
    struct Text(Vec<u8>);
    impl Consumer for Text {
        fn take(&mut self, bytes: &[u8]) -> Result<()> {
            if self.0.len() + bytes.len() > RESULTS_LIMIT {
                return Err(Error::new(ErrorKind::Corrupt, "read", "the list of messages", "it is too large"));
            }
            self.0.extend_from_slice(bytes);
            Ok(())
        }
    }
    let packed = stream::collect(sink.get(key, None).await?, RESULTS_LIMIT, key).await?;
    let mut gunzip = Gunzip::new(Text(Vec::new()));
    gunzip.push(&packed)?;
    let text = gunzip.finish()?.0;
    serde_json::from_slice(&text).map_err(|error| Error::new(ErrorKind::Corrupt, "parse", key, error.to_string()))
}
