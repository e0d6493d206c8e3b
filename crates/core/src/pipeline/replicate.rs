//! [`Replicate`]: copies the artifacts that one sink holds and another lacks, as they are stored.
//!
//! Nothing is decrypted. What arrives is compared with the manifest while it passes; the manifest is copied last, byte for
//! byte, and is the commit point as in a backup. What an interrupted run has finished is there and is not copied again.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::future::ready;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use tokio::sync::oneshot;

use super::flow::{self, Hashed};
use super::room::Room;
use crate::catalog::{self, Artifact, Kind, intent_key};
use crate::context::Context;
use crate::error::{Error, ErrorKind, Result};
use crate::hint::Hint;
use crate::history::{Figures, Journal, Outcome, Verb};
use crate::manifest::{MANIFEST_LIMIT, Manifest};
use crate::name::{ArtifactName, Dataset, MANIFEST_SUFFIX, join_key, split_key};
use crate::progress::{self, Event, Unit};
use crate::sink::{LeftOut, PutOptions, Sink, see_that_it_is_there};
use crate::stream::{self, ByteStream};

mod mend;

/// A backup that has written its manifest is done with all its sinks after this time, whatever they do.
const SETTLING: SignedDuration = SignedDuration::from_mins(10);
/// Artifacts that are looked at, or copied, side by side.
const SIDE_BY_SIDE: usize = 8;
/// After so many artifacts in a row that met with a store that is not there, the rest is not tried.
pub(super) const PATIENCE: u32 = 3;
/// What tells the note of a copy from that of a backup.
const COPIED_FROM: &str = "copied_from";
/// A note is a line.
const LONGEST_NOTE: usize = 64 << 10;

/// Copies what is missing: `Replicate::new(from, to).folder("databases").plan().await`, show it,
/// [`execute`](ReplicatePlan::execute).
///
/// ```
/// use lifeboat_core::{Replicate, Result, Sink};
///
/// async fn replicate(from: impl Sink + 'static, to: impl Sink + 'static) -> Result<bool> {
///     let replicate = Replicate::new(from, to).folder("databases");
///     let plan = replicate.plan().await?;
///     println!("{} bytes are to be copied", plan.bytes_to_copy());
///     Ok(plan.execute().await?.is_complete())
/// }
/// ```
#[derive(Clone, Debug)]
pub struct Replicate {
    from: Arc<dyn Sink>,
    to: Arc<dyn Sink>,
    folder: String,
    dataset: Option<Dataset>,
    only: Option<Only>,
    reread: bool,
    history: bool,
    context: Context,
}

/// Tells which artifacts are meant.
#[derive(Clone)]
struct Only(Arc<dyn Fn(&ArtifactName) -> bool + Send + Sync>);

impl fmt::Debug for Only {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Only").finish_non_exhaustive()
    }
}

/// What to do with an artifact of the first sink.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// It is not in the second sink: it is copied.
    Copy,
    /// A part of it is already there: that part is compared, the rest is copied.
    Complete,
    /// It is there, and is read again: if it is not what its manifest says, it is [mended](Step::Mend).
    Reread,
    /// What is there is not what its manifest says: it is replaced by what the first sink holds, if that is.
    Mend,
    /// Different content has its name there. It stays unchanged.
    Conflict,
    /// The first sink does not hold all of it, or its manifest cannot be read.
    Unusable,
}

impl Step {
    /// The step's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Copy => "copy",
            Self::Complete => "complete",
            Self::Reread => "reread",
            Self::Mend => "mend",
            Self::Conflict => "conflict",
            Self::Unusable => "unusable",
        }
    }
}

/// An artifact that is not in both sinks, the same.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct PlannedCopy {
    /// Its key.
    pub key: String,
    /// When it was taken.
    pub taken_at: Timestamp,
    /// Stored bytes.
    pub bytes: u64,
    /// What is done with it.
    pub step: Step,
    /// Why, in words.
    pub why: String,
    #[serde(skip)]
    artifact: Artifact,
    /// What the second sink holds of it.
    #[serde(skip)]
    there: Option<Artifact>,
}

/// What to copy. Printing and dropping it is a dry run.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ReplicatePlan {
    replicate: Replicate,
    /// The artifacts with which something is to be done, in ascending order of keys.
    pub artifacts: Vec<PlannedCopy>,
    /// How many are in both sinks, the same.
    pub present: u64,
    /// What lies among the artifacts of the first sink, is no object, and so cannot be copied.
    pub left_out: Vec<LeftOut>,
    /// The datasets of all that was looked at, each with the newest artifact that is in both sinks, the same.
    datasets: BTreeMap<Dataset, Option<ArtifactName>>,
}

/// An artifact that was not copied.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct NotCopied {
    /// Its key.
    pub key: String,
    /// The error's kind.
    pub kind: &'static str,
    /// Why not.
    pub error: String,
    /// What to try.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<Hint>,
}

impl NotCopied {
    /// Of what no listing gives.
    pub(super) fn left_out(left: &LeftOut) -> Self {
        let error =
            Error::new(ErrorKind::Unsupported, "copy", &left.path, format!("it is {}, and no object", left.what));
        Self::new(&left.path, &error.hint("put the file itself there, under a name in UTF-8, or move it elsewhere"))
    }

    pub(super) fn new(key: &str, error: &Error) -> Self {
        Self {
            key: key.to_owned(),
            kind: error.kind().as_str(),
            error: error.to_string(),
            hint: error.typed_hint().cloned(),
        }
    }
}

/// An artifact that was copied.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Copied {
    /// Its key.
    pub key: String,
    /// Bytes that were sent. Zero where only the manifest was missing.
    pub bytes: u64,
}

/// The result of a run.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Replicated {
    /// What was copied, in ascending order of keys.
    pub copied: Vec<Copied>,
    /// Copies that were not what their manifests say and were replaced, in ascending order of keys.
    pub mended: Vec<Copied>,
    /// How many were in both sinks before, the same as far as that is known.
    pub present: u64,
    /// How many of those were read again in this run.
    pub reread: u64,
    /// What a person should know.
    pub notes: Vec<String>,
    /// What was not copied, in ascending order of keys: conflicts too.
    pub failed: Vec<NotCopied>,
    /// How long it took, in seconds.
    pub seconds: f64,
}

impl Replicated {
    /// Whether the second sink now holds every artifact of the first.
    pub fn is_complete(&self) -> bool {
        self.failed.is_empty()
    }

    /// Bytes that were sent.
    pub fn bytes(&self) -> u64 {
        self.copied.iter().chain(&self.mended).map(|c| c.bytes).sum()
    }
}

impl Replicate {
    /// Creates a replication from one sink to another.
    pub fn new(from: impl Sink + 'static, to: impl Sink + 'static) -> Self {
        let (from, to) = (Arc::new(from), Arc::new(to));
        Self {
            from,
            to,
            folder: String::new(),
            dataset: None,
            only: None,
            reread: false,
            history: true,
            context: Context::default(),
        }
    }

    /// The folder in both sinks.
    #[must_use]
    pub fn folder(mut self, folder: impl AsRef<str>) -> Self {
        self.folder = folder.as_ref().trim_matches('/').to_owned();
        self
    }

    /// Only this dataset; without it, all in the folder.
    #[must_use]
    pub fn dataset(mut self, dataset: Option<Dataset>) -> Self {
        self.dataset = dataset;
        self
    }

    /// Only the artifacts of which `claims` is true, as when several jobs have one folder.
    #[must_use]
    pub fn only(mut self, claims: impl Fn(&ArtifactName) -> bool + Send + Sync + 'static) -> Self {
        self.only = Some(Only(Arc::new(claims)));
        self
    }

    /// Whether the copies that are there already are read again, compared with their manifests, and mended. Without it, that is
    /// done with those of which it is known that they are bad.
    #[must_use]
    pub fn reread(mut self, reread: bool) -> Self {
        self.reread = reread;
        self
    }

    /// Whether the run leaves a record in the [history](crate::history) of each dataset in the second sink. It does,
    /// unless said otherwise.
    #[must_use]
    pub fn history(mut self, history: bool) -> Self {
        self.history = history;
        self
    }

    /// Sets cancellation, progress and clock.
    #[must_use]
    pub fn context(mut self, context: Context) -> Self {
        self.context = context;
        self
    }

    /// Compares the two catalogs. Writes nothing. Of an artifact that both hold, the manifests are compared, and the sizes
    /// that the listings say; the stored bytes are not read.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] when both are the same place; what a listing fails with: from half a listing nothing is decided.
    pub async fn plan(&self) -> Result<ReplicatePlan> {
        if self.from.url() == self.to.url() {
            return Err(Error::new(
                ErrorKind::Config,
                "replicate",
                self.from.url(),
                "it is both source and destination",
            ));
        }
        let subject = || self.from.url();
        self.context.unless_cancelled("replicate", subject, self.compare()).await
    }

    async fn compare(&self) -> Result<ReplicatePlan> {
        let mut plan = ReplicatePlan {
            replicate: self.clone(),
            artifacts: Vec::new(),
            present: 0,
            left_out: Vec::new(),
            datasets: BTreeMap::new(),
        };
        plan.datasets.extend(self.dataset.clone().map(|dataset| (dataset, None)));
        let mut judged = self.pairs().map_ok(|(here, there)| self.judge(here, there)).try_buffered(SIDE_BY_SIDE);
        while let Some((name, planned)) = judged.try_next().await? {
            let newest = plan.datasets.entry(name.dataset.clone()).or_default();
            if planned.as_ref().is_none_or(|p| matches!(p.step, Step::Reread | Step::Mend)) {
                *newest = newest.take().max(Some(name));
            }
            match planned {
                Some(planned) => plan.artifacts.push(planned),
                None => plan.present += 1,
            }
        }
        drop(judged);
        plan.left_out = catalog::left_out(&*self.from, &self.folder, self.dataset.as_ref()).try_collect().await?;
        Ok(plan)
    }

    /// Each artifact of the first sink with what the second holds under its name. Both catalogs are in order of keys, so
    /// that they are read side by side, page by page.
    fn pairs(&self) -> BoxStream<'_, Result<(Artifact, Option<Artifact>)>> {
        let here = catalog::list(&*self.from, &self.folder, self.dataset.as_ref())
            .try_filter(|artifact| ready(self.only.as_ref().is_none_or(|Only(claims)| claims(&artifact.name))));
        // A folder that nothing was ever written to is empty.
        let mut at_first = true;
        let there = catalog::list(&*self.to, &self.folder, self.dataset.as_ref())
            .filter(move |item| {
                let skip = std::mem::replace(&mut at_first, false)
                    && item.as_ref().is_err_and(|error| is_not_made_yet(&*self.to, error));
                ready(!skip)
            })
            .peekable();
        futures::stream::try_unfold((here, Box::pin(there)), |(mut here, mut there)| async move {
            let Some(artifact) = here.try_next().await? else { return Ok(None) };
            let key = artifact.key();
            let mut found = None;
            while let Some(next) = there.as_mut().next_if(|a| a.as_ref().map_or(true, |a| a.key() <= key)).await {
                let next = next?;
                if next.key() == key {
                    found = Some(next);
                    break;
                }
            }
            Ok(Some(((artifact, found), (here, there))))
        })
        .boxed()
    }

    /// What to do with an artifact; `None` when it is there, the same.
    async fn judge(&self, here: Artifact, there: Option<Artifact>) -> Result<(ArtifactName, Option<PlannedCopy>)> {
        let name = here.name.clone();
        let (step, why) = match self.compare_one(&here, there.as_ref()).await? {
            Some(verdict) => verdict,
            None => return Ok((name, None)),
        };
        let planned = PlannedCopy {
            key: here.key(),
            taken_at: here.name.taken_at,
            bytes: here.bytes(),
            step,
            why,
            artifact: here,
            there,
        };
        Ok((name, Some(planned)))
    }

    async fn compare_one(&self, here: &Artifact, there: Option<&Artifact>) -> Result<Option<(Step, String)>> {
        let told = |step, why: &str| Ok(Some((step, why.to_owned())));
        let sizes =
            |a: &Artifact| -> BTreeMap<String, u64> { a.objects.iter().map(|o| (o.key.clone(), o.bytes)).collect() };
        if here.kind == Kind::Damaged {
            return match there {
                Some(there) if there.kind == Kind::Managed => Ok(None),
                _ => told(Step::Unusable, "its manifest is there, but its object is gone"),
            };
        }
        // What a newer Lifeboat means by it would be lost on the way.
        if let Some(unknown) = here.unknown.first() {
            let why = format!("{unknown} is stored beside it and is not known here: use a newer Lifeboat");
            return Ok(Some((Step::Unusable, why)));
        }
        let Some(there) = there else { return told(Step::Copy, "it is not there") };
        let differ = !there.objects.is_empty() && sizes(here) != sizes(there);
        if differ && (here.kind, there.kind) != (Kind::Managed, Kind::Managed) {
            let why = format!("the object of that name there has {} bytes, not {}", there.bytes(), here.bytes());
            return Ok(Some((Step::Conflict, why)));
        }
        match (here.kind, there.kind) {
            (Kind::Foreign, Kind::Damaged) => told(Step::Conflict, "a manifest without its object is there"),
            // Without a manifest there is nothing to compare but the size, or the bytes.
            (Kind::Foreign, _) => Ok(self.doubt(there)),
            (_, Kind::Foreign) => told(Step::Complete, "its object is there, but its manifest is not"),
            (_, kind) => {
                let manifests =
                    futures::future::join(read_manifest(&*self.from, here), read_manifest(&*self.to, there));
                match manifests.await {
                    (Err(error), _) if is_about_the_store(&error) => Err(error),
                    (_, Err(error)) if is_about_the_store(&error) => Err(error),
                    (Err(error), _) => Ok(Some((Step::Unusable, error.to_string()))),
                    (_, Err(error)) => Ok(Some((Step::Conflict, format!("the manifest there is invalid: {error}")))),
                    (Ok((_, ours)), Ok((_, theirs))) if ours.objects != theirs.objects => {
                        told(Step::Conflict, "the manifest there describes other content")
                    }
                    (Ok((_, ours)), Ok(_)) if differ => {
                        let told_of = |a: &Artifact| ours.objects.iter().map(|o| o.bytes).sum::<u64>() == a.bytes();
                        let (at_source, size) = (!told_of(here), ours.objects.iter().map(|o| o.bytes).sum::<u64>());
                        let of = |a: &Artifact| format!("has {} of the {size} bytes of its manifest", a.bytes());
                        Ok(Some(match at_source {
                            true => (Step::Unusable, format!("the object at the source {}", of(here))),
                            false => (Step::Mend, format!("the object there {}", of(there))),
                        }))
                    }
                    _ if here.needs.iter().any(|needed| !there.needs.contains(needed)) => {
                        told(Step::Complete, "it is there, but the note of what it needs is not")
                    }
                    _ if kind == Kind::Damaged => told(Step::Complete, "its manifest is there, but its object is gone"),
                    _ => Ok(self.doubt(there)),
                }
            }
        }
    }
}

impl Replicate {
    /// Whether a copy that looks right is to be read again, and why.
    fn doubt(&self, there: &Artifact) -> Option<(Step, String)> {
        let failed = there.standing_failure().map(|failed| {
            let at = Timestamp::from_second(failed.at.as_second()).unwrap_or(failed.at);
            format!("its verification there at level {} failed on {at}", failed.level)
        });
        let asked = self.reread.then(|| "it is there, and is read again".to_owned());
        Some((Step::Reread, failed.or(asked)?))
    }
}

/// Whether an error says that a folder is not there, which the first `put` makes.
pub(super) fn is_not_made_yet(sink: &dyn Sink, error: &Error) -> bool {
    error.kind() == ErrorKind::NotFound && sink.url().starts_with("file://")
}

/// Whether an error is about the store as a whole, and not about the one object.
pub(super) fn is_about_the_store(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Permission | ErrorKind::Cancelled)
}

/// The manifest of an artifact, as it is stored and as it reads.
async fn read_manifest(sink: &dyn Sink, artifact: &Artifact) -> Result<(Bytes, Manifest)> {
    let key = format!("{}{MANIFEST_SUFFIX}", artifact.key());
    let bytes = stream::collect(sink.get(&key, None).await?, MANIFEST_LIMIT, &key).await?;
    let manifest = Manifest::parse(&bytes, &key)?;
    if manifest.artifact != artifact.name.to_string() {
        let why = format!("it is the manifest of {}", manifest.artifact);
        return Err(Error::new(ErrorKind::Corrupt, "read", key, why));
    }
    Ok((bytes, manifest))
}

impl ReplicatePlan {
    /// Bytes that are to be sent.
    pub fn bytes_to_copy(&self) -> u64 {
        self.artifacts.iter().filter(|a| a.step == Step::Copy).map(|a| a.bytes).sum()
    }

    /// Does what the plan says, several artifacts side by side. One that fails does not keep the others from being copied;
    /// a store that is gone ends the run.
    ///
    /// An artifact counts as copied when its objects are there with the manifest's SHA-256, and then its manifest. One
    /// without a manifest is read back and compared. Records of verifications are not copied: they describe the bytes in
    /// one place.
    ///
    /// A copy is replaced only when it has been read in this run and is not what the manifest says, and by nothing that is not:
    /// what is sent is hashed on its way, and a sink replaces an object at once or not at all. What is there then is read
    /// again. The records of verifications that failed go with the bytes that they spoke of; the history keeps them.
    ///
    /// # Errors
    /// [`ErrorKind::Cancelled`]. What was not copied is in the result.
    ///
    /// # Cancel safety
    /// Safe: what is finished stays, and the next run goes on from there. An object that was cut off is sent again from its
    /// start.
    pub async fn execute(&self) -> Result<Replicated> {
        let started_at = self.replicate.context.now();
        let journal = Journal::begin(Verb::Replicate, &self.replicate.folder, started_at, false);
        let result = self.carry_out().await;
        if self.replicate.history {
            for (dataset, newest) in &self.datasets {
                let mut journal = journal.clone();
                journal.dataset = Some(dataset.clone());
                // Where nothing else has written a record, this one tells what must be there.
                let copied = result.iter().flat_map(|done| &done.copied);
                let copied = copied.filter_map(|copied| ArtifactName::parse(split_key(&copied.key).1));
                let newest = copied.filter(|name| name.dataset == *dataset).chain(newest.clone()).max();
                journal.key = newest.map(|name| join_key(&self.replicate.folder, &name.to_string()));
                self.note(journal, dataset, result.as_ref()).await;
            }
        }
        result
    }

    /// Leaves the record of what was done with one dataset.
    async fn note(&self, journal: Journal, dataset: &Dataset, result: Result<&Replicated, &Error>) {
        let is_of = |key: &str| ArtifactName::parse(split_key(key).1).is_some_and(|name| name.dataset == *dataset);
        let figures = result.map(|done| {
            let copied: Vec<&Copied> = done.copied.iter().filter(|copied| is_of(&copied.key)).collect();
            let failed = done.failed.iter().any(|failed| is_of(&failed.key));
            Figures {
                outcome: Some(if failed { Outcome::Failed } else { Outcome::Good }),
                bytes: Some(copied.iter().map(|copied| copied.bytes).sum()),
                items: Some(copied.len() as u64),
                rows: None,
            }
        });
        let (to, cx) = (&self.replicate.to, &self.replicate.context);
        journal.close(to, cx, figures.as_ref().map_err(|error| *error)).await;
    }

    async fn carry_out(&self) -> Result<Replicated> {
        let begun = Instant::now();
        let cx = &self.replicate.context;
        let step = progress::Step::Replicate(self.replicate.to.url());
        cx.progress.event(Event::Begin { step, unit: Unit::Bytes, total: Some(self.bytes_to_copy().into()) });
        let mut done = Replicated {
            copied: Vec::new(),
            mended: Vec::new(),
            present: self.present,
            reread: 0,
            notes: Vec::new(),
            failed: Vec::new(),
            seconds: 0.0,
        };
        let (room, away) = (Room::new(), AtomicU32::new(0));
        // Bases first, each level side by side.
        for level in self.levels() {
            // By position: a future that holds a closure over references could not be spawned.
            let each = futures::stream::iter(0..level.len()).map(|at| self.copy_one(level[at], &room, &away));
            let mut each = each.buffer_unordered(SIDE_BY_SIDE);
            while let Some((key, outcome)) = each.next().await {
                match outcome {
                    Ok(Done::Copied(bytes)) => done.copied.push(Copied { key: key.clone(), bytes }),
                    Ok(Done::Mended(bytes)) => done.mended.push(Copied { key: key.clone(), bytes }),
                    Ok(Done::Same(note)) => {
                        done.present += 1;
                        done.reread += 1;
                        done.notes.extend(note);
                    }
                    Err(error) => done.failed.push(NotCopied::new(key, &error)),
                }
            }
        }
        done.failed.extend(self.left_out.iter().map(NotCopied::left_out));
        cx.progress.event(Event::End);
        if cx.cancel.is_cancelled() {
            return Err(Error::cancelled("replicate to", self.replicate.to.url()));
        }
        done.copied.sort_by(|a, b| a.key.cmp(&b.key));
        done.mended.sort_by(|a, b| a.key.cmp(&b.key));
        done.failed.sort_by(|a, b| a.key.cmp(&b.key));
        done.seconds = begun.elapsed().as_secs_f64();
        Ok(done)
    }
}

impl ReplicatePlan {
    /// Copies one artifact, unless the store has not answered for so many before it.
    async fn copy_one<'a>(
        &self,
        planned: &'a PlannedCopy,
        room: &Room,
        away: &AtomicU32,
    ) -> (&'a String, Result<Done>) {
        let outcome = match planned.step {
            Step::Copy | Step::Complete | Step::Reread | Step::Mend if away.load(Ordering::Relaxed) >= PATIENCE => {
                let why = "it was not tried, because the store did not answer";
                Err(Error::new(ErrorKind::Unavailable, "copy", &planned.key, why).hint("run it again later"))
            }
            Step::Copy | Step::Complete | Step::Reread | Step::Mend => {
                let _room = room.for_bytes(planned.bytes).await;
                let copied = match (planned.step, &planned.there) {
                    (Step::Reread | Step::Mend, Some(there)) => self.replicate.mend(&planned.artifact, there).await,
                    _ => self.replicate.copy(&planned.artifact).await.map(Done::Copied),
                };
                match &copied {
                    Err(e) if is_about_the_store(e) => drop(away.fetch_add(1, Ordering::Relaxed)),
                    _ => away.store(0, Ordering::Relaxed),
                }
                copied
            }
            Step::Conflict => Err(Error::new(ErrorKind::AlreadyExists, "copy", &planned.key, &planned.why)
                .hint("verify both, and delete the unwanted one: nothing is overwritten")),
            Step::Unusable => {
                Err(Error::new(ErrorKind::Corrupt, "copy", &planned.key, &planned.why).hint(Hint::UseAnotherArtifact))
            }
        };
        (&planned.key, outcome)
    }

    /// The artifacts in the order of copying: of the first level is what needs nothing that is copied as well, and so on.
    fn levels(&self) -> Vec<Vec<&PlannedCopy>> {
        let mut open: Vec<&PlannedCopy> = self.artifacts.iter().collect();
        let mut levels = Vec::new();
        while !open.is_empty() {
            let names: HashSet<&ArtifactName> = open.iter().map(|planned| &planned.artifact.name).collect();
            let (later, mut now): (Vec<_>, Vec<_>) =
                open.iter().copied().partition(|p| p.artifact.needs.iter().any(|needed| names.contains(needed)));
            // Those that need each other in a circle: copying them says what is wrong.
            let in_a_circle = now.is_empty();
            if in_a_circle {
                now.clone_from(&later);
            }
            levels.push(now);
            open = if in_a_circle { Vec::new() } else { later };
        }
        levels
    }
}

/// What was done with one artifact.
pub(super) enum Done {
    /// Copied: so many bytes were sent.
    Copied(u64),
    /// Its copy was bad and was replaced: so many bytes were sent.
    Mended(u64),
    /// Its copy was read, and is what it must be. Perhaps there is something to say of it.
    Same(Option<String>),
}

/// An object that is to be in the second sink.
struct Wanted {
    key: String,
    bytes: u64,
    /// What the manifest says. `None` for a foreign one.
    expected: Option<Hashed>,
}

/// The objects of an artifact, with what its manifest says of them.
fn wanted(artifact: &Artifact, manifest: Option<&Manifest>) -> Vec<Wanted> {
    let Some(manifest) = manifest else {
        let of = |o: &crate::ObjectInfo| Wanted { key: o.key.clone(), bytes: o.bytes, expected: None };
        return artifact.objects.iter().map(of).collect();
    };
    let of = |o: &crate::manifest::StoredObject| Wanted {
        key: join_key(&artifact.folder, &o.name),
        bytes: o.bytes,
        expected: Some(Hashed { bytes: o.bytes, sha256: o.sha256.clone() }),
    };
    manifest.objects.iter().map(of).collect()
}

impl Replicate {
    /// Copies one artifact, and returns the bytes that were sent.
    async fn copy(&self, artifact: &Artifact) -> Result<u64> {
        let cx = &self.context;
        if cx.cancel.is_cancelled() {
            return Err(Error::cancelled("copy", artifact.key()));
        }
        let manifest = match artifact.kind {
            Kind::Foreign => None,
            _ => Some(read_manifest(&*self.from, artifact).await?),
        };
        let wanted = wanted(artifact, manifest.as_ref().map(|(_, manifest)| manifest));
        let intent = intent_key(&artifact.folder, &artifact.name.to_string());
        let finished_at = manifest.as_ref().map(|(_, m)| m.finished_at);
        let noted = self.is_noted(&intent, artifact, finished_at).await?;

        // What is there already is compared before anything is written: it may be somebody else's.
        let mut missing = Vec::new();
        for object in &wanted {
            match self.to.head(&object.key).await {
                Ok(_) => self.check_there(object).await?,
                Err(error) if error.kind() == ErrorKind::NotFound => missing.push(object),
                Err(error) => return Err(error),
            }
        }
        let anew = !missing.is_empty() && !noted;
        if anew {
            self.leave_note(&intent, artifact).await?;
        }
        // Before anything that could be taken for it: an increment is never seen without what it needs.
        if let Err(error) = self.copy_sidecars(artifact).await {
            if anew {
                self.withdraw(&intent, &wanted, artifact).await;
            }
            return Err(error);
        }
        let mut sent = 0;
        for object in &missing {
            match self.send(object).await {
                Ok(bytes) => sent += bytes,
                Err(error) => {
                    self.withdraw(&intent, &wanted, artifact).await;
                    return Err(error);
                }
            }
        }
        if let Some((bytes, _)) = &manifest {
            self.commit(&format!("{}{MANIFEST_SUFFIX}", artifact.key()), bytes).await?;
        }
        if (noted || !missing.is_empty())
            && let Err(error) = self.to.delete(&[intent]).await
        {
            tracing::warn!(%error, "the note of this copy stays; pruning orphans removes it");
        }
        Ok(sent)
    }

    /// Whether there is a note that a run has begun to write this artifact.
    ///
    /// # Errors
    /// [`ErrorKind::Refused`] when that is the backup itself, which may still be at it.
    async fn is_noted(&self, intent: &str, artifact: &Artifact, finished_at: Option<Timestamp>) -> Result<bool> {
        let note = match self.to.get(intent, None).await {
            Ok(note) => stream::collect(note, LONGEST_NOTE, intent).await?,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        };
        let is_a_copy = serde_json::from_slice::<serde_json::Value>(&note).is_ok_and(|n| n.get(COPIED_FROM).is_some());
        // Everything under the name is the backup's until it has settled: it may delete it.
        if !is_a_copy && finished_at.is_some_and(|at| self.context.now().duration_since(at) < SETTLING) {
            let why = "the backup that made it has only just ended, and may still be writing there";
            return Err(Error::new(ErrorKind::Refused, "copy", artifact.key(), why)
                .hint(format!("run it again in {} minutes", SETTLING.as_mins())));
        }
        Ok(true)
    }

    /// Notes that this artifact is being written: until its manifest is there, nobody takes it for a foreign one.
    async fn leave_note(&self, intent: &str, artifact: &Artifact) -> Result<()> {
        let note = serde_json::json!({
            "artifact": artifact.name.to_string(),
            "started_at": self.context.now(),
            "process": std::process::id(),
            COPIED_FROM: self.from.url(),
        });
        match self.to.put(intent, stream::once(note.to_string())).await {
            // Another copy of the same artifact has begun: both write the same.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
            put => put.map(drop),
        }
    }

    /// Sends one object, compared with the manifest while it passes: one that differs is never finished there.
    async fn send(&self, object: &Wanted) -> Result<u64> {
        let cx = &self.context;
        let (body, hashed) = self.body(object).await?;
        let body = flow::count(body, cx.progress.clone());
        match self.to.put_with(&object.key, body, PutOptions::new().lock(true)).await {
            // Another copy was faster.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => self.check_there(object).await.map(|()| 0),
            Err(error) => Err(error),
            Ok(bytes) => {
                let hashed = hashed.await.map_err(|_| internal(&object.key, "it was confirmed before its end"))?;
                if bytes != hashed.bytes || bytes != object.bytes {
                    let why = format!("{bytes} of {} bytes were confirmed", object.bytes);
                    return Err(internal(&object.key, &why));
                }
                match object.expected {
                    Some(_) => see_that_it_is_there(&*self.to, "copy", &object.key, bytes).await?,
                    // Nobody can tell later whether it is the same.
                    None => self.read_back(&object.key, hashed).await?,
                }
                Ok(bytes)
            }
        }
    }

    /// What the first sink holds of an object: it ends with an error unless it is what is wanted.
    async fn body(&self, object: &Wanted) -> Result<(ByteStream, oneshot::Receiver<Hashed>)> {
        let body = self.from.get(&object.key, None).await?;
        let body = flow::until_cancelled(body, self.context.cancel.clone(), "copy", object.key.clone());
        let body = flow::exactly(body, object.bytes, object.key.clone());
        Ok(flow::hash(body, object.expected.clone(), object.key.clone()))
    }

    async fn read_back(&self, key: &str, expected: Hashed) -> Result<()> {
        let there = self.hash_of(&self.to, key).await?;
        if there == expected {
            return Ok(());
        }
        let why = format!("what is there now has the SHA-256 {}, but {} was sent", there.sha256, expected.sha256);
        Err(Error::new(ErrorKind::Corrupt, "copy", key, why).hint("delete it there, and run this again"))
    }

    /// Compares an object that is there already with what is to be there.
    ///
    /// # Errors
    /// [`ErrorKind::AlreadyExists`] when it is another.
    async fn check_there(&self, object: &Wanted) -> Result<()> {
        let there = self.hash_of(&self.to, &object.key).await?;
        let expected = match &object.expected {
            Some(expected) => expected.clone(),
            None => self.hash_of(&self.from, &object.key).await?,
        };
        if there == expected {
            return Ok(());
        }
        let why = format!("the object of that name there has other content (SHA-256 {})", there.sha256);
        Err(Error::new(ErrorKind::AlreadyExists, "copy", &object.key, why)
            .hint("verify both, and delete the unwanted one: nothing is overwritten"))
    }

    async fn hash_of(&self, sink: &Arc<dyn Sink>, key: &str) -> Result<Hashed> {
        hash_of(&**sink, key, &self.context).await
    }

    async fn commit(&self, key: &str, manifest: &Bytes) -> Result<()> {
        match self.to.put_with(key, stream::once(manifest.clone()), PutOptions::new().lock(true)).await {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                let there = stream::collect(self.to.get(key, None).await?, MANIFEST_LIMIT, key).await?;
                if there == *manifest {
                    return Ok(());
                }
                let why = "another manifest is there; it is not overwritten";
                Err(Error::new(ErrorKind::AlreadyExists, "copy", key, why))
            }
            Ok(_) => see_that_it_is_there(&*self.to, "copy", key, manifest.len() as u64).await,
            Err(error) => Err(error),
        }
    }

    /// Takes the note away when nothing of the artifact is there. Otherwise it stays: it keeps what is there from being
    /// taken for a backup, and the next run goes on from it.
    async fn withdraw(&self, intent: &str, wanted: &[Wanted], artifact: &Artifact) {
        for object in wanted {
            match self.to.head(&object.key).await {
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                _ => return,
            }
        }
        for key in artifact.sidecar_keys().chain([intent.to_owned()]) {
            let Err(error) = self.to.delete(&[key]).await else { continue };
            tracing::debug!(%error, "the note of this copy stays; pruning orphans removes it");
            return;
        }
    }

    /// Says there as well what the artifact needs, once that is there, and how much it holds.
    async fn copy_sidecars(&self, artifact: &Artifact) -> Result<()> {
        for needed in &artifact.needs {
            let found = catalog::lookup(&*self.to, &artifact.folder, needed).await?;
            if found.is_none_or(|found| found.kind == Kind::Damaged) {
                let why = format!("it needs {needed}, which is not there");
                return Err(Error::new(ErrorKind::NotFound, "copy", artifact.key(), why)
                    .hint("copy that one first; if it is lost, this one cannot be restored"));
            }
        }
        for key in artifact.sidecar_keys() {
            let body = serde_json::json!({ "artifact": artifact.name.to_string() });
            match self.to.put_with(&key, stream::once(format!("{body}\n")), PutOptions::new().lock(true)).await {
                // Its name says everything.
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                put => drop(put?),
            }
        }
        Ok(())
    }
}

/// Size and SHA-256 of an object, read to its end.
pub(super) async fn hash_of(sink: &dyn Sink, key: &str, cx: &Context) -> Result<Hashed> {
    let body = flow::until_cancelled(sink.get(key, None).await?, cx.cancel.clone(), "read", key.to_owned());
    let (mut body, hashed) = flow::hash(body, None, key.to_owned());
    while body.try_next().await?.is_some() {}
    hashed.await.map_err(|_| internal(key, "its end was not said"))
}

pub(super) fn internal(key: &str, why: &str) -> Error {
    Error::new(ErrorKind::Internal, "copy", key, why)
}

/// How long ago something may have been written that a killed run has left: a run that goes on is not disturbed.
pub(super) const ABANDONED: Duration = Duration::from_secs(24 * 3600);
