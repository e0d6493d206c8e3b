//! Judges backups where they lie, without a cluster: Velero's own bucket, or a copy of it elsewhere.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use lifeboat_core::progress::{self, Event, Total, Unit};
use lifeboat_core::{Check, Context, Error, ErrorKind, Level, Proof, Report, Result, Sink};
use tokio::sync::mpsc;

use super::inspection::{Inspection, METADATA};
use super::tap::{BACKUPS, split_key};

/// The folders that may lie in a storage location. Velero declares a location with any other unavailable. Source:
/// `isValidSubdir` in Velero's `pkg/persistence/object_store_layout.go`.
const ALLOWED_FOLDERS: [&str; 6] = ["backups", "restores", "restic", "kopia", "metadata", "plugins"];

/// Judges the backups in a bucket.
#[derive(Clone, Debug)]
pub struct BucketVerifier {
    sink: Arc<dyn Sink>,
    must_cover: Vec<String>,
}

/// The files of one backup: names with sizes.
type Files = BTreeMap<String, u64>;

/// What goes to the thread that parses.
enum Step {
    Begin(String),
    Data(Bytes),
    End,
    Broken(String, Error),
}

impl BucketVerifier {
    /// Creates a reader of a storage location, or of a copy of one: `sink` is opened at its bucket and prefix.
    pub fn new(sink: Arc<dyn Sink>) -> Self {
        Self { sink, must_cover: Vec::new() }
    }

    /// Claims, as `namespace/name`, whose data must be in every backup: without it the verdict is a failure, not a warning.
    #[must_use]
    pub fn must_cover(mut self, claims: impl IntoIterator<Item = String>) -> Self {
        self.must_cover.extend(claims);
        self
    }

    /// Names of the backups that are there, in the order of their names.
    ///
    /// # Errors
    /// What the sink answers.
    pub async fn backups(&self) -> Result<Vec<String>> {
        Ok(self.folders("").await?.into_keys().collect())
    }

    /// Looks for folders that do not belong into a storage location: with one of them Velero declares it unavailable.
    ///
    /// # Errors
    /// What the sink answers.
    pub async fn foreign_folders(&self) -> Result<Check> {
        let mut foreign = BTreeSet::new();
        let mut objects = self.sink.list("");
        while let Some(object) = objects.try_next().await? {
            if let Some((folder, _)) = object.key.split_once('/')
                && !ALLOWED_FOLDERS.contains(&folder)
            {
                foreign.insert(folder.to_owned());
            }
        }
        if foreign.is_empty() {
            return Ok(Check::pass("folders", "none foreign", "it holds nothing foreign to Velero"));
        }
        let names = foreign.into_iter().collect::<Vec<_>>().join(", ");
        let detail =
            format!("{names}: Velero declares a storage location with other folders unavailable; move them away");
        Ok(Check::fail("folders", "foreign", detail))
    }

    /// Judges every backup, one report each.
    ///
    /// # Errors
    /// [`ErrorKind::NoArtifact`] when there is none, and what kept it from looking. A bad backup is a report that did not pass.
    ///
    /// # Cancel safety
    /// Safe: it changes nothing.
    pub async fn run(&self, cx: &Context) -> Result<Vec<Report>> {
        let folders = self.folders("").await?;
        if folders.is_empty() {
            return Err(Error::new(ErrorKind::NoArtifact, "find", self.sink.url(), "there is no Velero backup")
                .hint("the URL must name the bucket and the prefix of the storage location, which holds backups/"));
        }
        cx.progress.event(Event::Begin {
            step: progress::Step::Verify(self.sink.url()),
            unit: Unit::Items,
            total: Some(Total::Exact(folders.len() as u64)),
        });
        let mut reports = Vec::new();
        for (name, files) in folders {
            reports.push(self.judge(&name, files, cx).await?);
            cx.progress.event(Event::Advance(1));
        }
        cx.progress.event(Event::End);
        Ok(reports)
    }

    /// Judges one backup.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub async fn verify(&self, name: &str, cx: &Context) -> Result<Report> {
        match self.folders(&format!("{name}/")).await?.remove(name) {
            Some(files) => self.judge(name, files, cx).await,
            None => Err(Error::new(ErrorKind::NoArtifact, "find", name, "there is no such backup in the bucket")
                .hint("`list` shows what is there")),
        }
    }

    /// The proof of a backup where it lies, as a copy's.
    pub(crate) async fn proof(&self, name: &str, cx: &Context) -> Result<Proof> {
        let inspection = self.read_all(name, cx).await?;
        Ok(Proof::new(inspection.items()))
    }

    /// Resources of which a namespace has objects in a backup.
    pub(crate) async fn resources(&self, name: &str, namespace: &str, cx: &Context) -> Result<BTreeSet<String>> {
        Ok(self.read_all(name, cx).await?.resources_of(namespace))
    }

    async fn read_all(&self, name: &str, cx: &Context) -> Result<Inspection> {
        match self.folders(&format!("{name}/")).await?.remove(name) {
            Some(files) => self.inspect(name, files, cx).await,
            None => Err(Error::new(ErrorKind::NoArtifact, "find", name, "there is no such backup in the bucket")),
        }
    }

    async fn folders(&self, prefix: &str) -> Result<BTreeMap<String, Files>> {
        let mut folders: BTreeMap<String, Files> = BTreeMap::new();
        let mut objects = self.sink.list(&format!("{BACKUPS}{prefix}"));
        while let Some(object) = objects.try_next().await? {
            if let Some((name, file)) = split_key(&object.key) {
                folders.entry(name.to_owned()).or_default().insert(file.to_owned(), object.bytes);
            }
        }
        Ok(folders)
    }

    async fn judge(&self, name: &str, files: Files, cx: &Context) -> Result<Report> {
        let begun = Instant::now();
        let inspection = self.inspect(name, files, cx).await?;
        let mut checks = inspection.structure();
        checks.extend(inspection.state(&self.must_cover, cx.now()));
        for namespace in inspection.repositories() {
            checks.push(self.repository(&namespace).await?);
        }
        let mut report = Report::new(name, format!("{BACKUPS}{name}"), Level::Structure, checks);
        report.seconds = begun.elapsed().as_secs_f64();
        Ok(report)
    }

    /// Whether the repository that holds a namespace's volumes is there: without its format blob nothing of it can be read.
    async fn repository(&self, namespace: &str) -> Result<Check> {
        let folder = format!("kopia/{namespace}/");
        let name = format!("repository {namespace}");
        match self.sink.head(&format!("{folder}kopia.repository")).await {
            Ok(_) => Ok(Check::pass(name, "there", format!("{folder} holds the data of its volumes"))),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let detail = format!("volumes of this namespace are listed, but {folder} is not a repository");
                Ok(Check::fail(name, "missing", detail))
            }
            Err(error) => Err(error),
        }
    }

    /// Reads all files of a backup through the parser, which runs on a thread of its own.
    async fn inspect(&self, name: &str, files: Files, cx: &Context) -> Result<Inspection> {
        let (steps, mut inbox) = mpsc::channel::<Step>(4);
        let mut inspection = Inspection::new(name);
        let parser = tokio::task::spawn_blocking(move || {
            while let Some(step) = inbox.blocking_recv() {
                match step {
                    Step::Begin(file) => inspection.begin(&file),
                    Step::Data(bytes) => inspection.data(&bytes),
                    Step::End => inspection.end(),
                    Step::Broken(file, error) => inspection.break_off(&file, &error),
                }
            }
            inspection
        });
        let read = tokio::select! {
            biased;
            () = cx.cancel.cancelled() => Err(Error::cancelled("verify", name)),
            read = self.read(name, files, &steps) => read,
        };
        drop(steps);
        let inspection = parser.await;
        read?;
        inspection.map_err(|error| Error::new(ErrorKind::Internal, "parse", name, error.to_string()))
    }

    async fn read(&self, name: &str, files: Files, steps: &mpsc::Sender<Step>) -> Result<()> {
        let send = async |step| {
            let gone = |_| Error::new(ErrorKind::Internal, "parse", name, "the parser ended early");
            steps.send(step).await.map_err(gone)
        };
        for (file, bytes) in files {
            let key = format!("{BACKUPS}{name}/{file}");
            send(Step::Begin(file.clone())).await?;
            let mut stream = match self.sink.get(&key, None).await {
                Ok(stream) => stream,
                // It went away since it was listed: that is a finding, where an unreachable store is not.
                Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Corrupt) => {
                    send(Step::Broken(file, error)).await?;
                    continue;
                }
                Err(error) => return Err(error),
            };
            let mut seen = 0;
            while let Some(chunk) = stream.next().await {
                let chunk = chunk?;
                seen += chunk.len() as u64;
                send(Step::Data(chunk)).await?;
            }
            if seen == bytes {
                send(Step::End).await?;
            } else {
                let why = format!("{seen} bytes came, but the bucket lists {bytes}");
                send(Step::Broken(file, Error::new(ErrorKind::Corrupt, "read", key, why))).await?;
            }
        }
        Ok(())
    }
}

/// Whether a backup of this name lies in the bucket: Velero takes a folder without its metadata for none.
pub(crate) async fn is_there(sink: &dyn Sink, name: &str) -> Result<bool> {
    match sink.head(&format!("{BACKUPS}{name}/{METADATA}")).await {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}
