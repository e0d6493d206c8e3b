//! The catalog: which artifacts a sink holds, told from names alone.
//!
//! | object | what it says |
//! |---|---|
//! | `<artifact>` or `<artifact>.000`, `.001`, … | the stored bytes, in one object or in volumes |
//! | `<artifact>.manifest.json` | the artifact was finished by Lifeboat |
//! | `<artifact>.verified-<time>-<level>-<pass or fail>.json` | somebody verified it |
//! | `_lifeboat/uploads/<artifact>.intent.json` | a run has begun to write it |
//!
//! An object without a manifest that is named like an artifact is *foreign*: a shell script wrote it. One for which
//! there is an intent is the remains of a run that was killed, or a run that goes on: it is not an artifact.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use futures::StreamExt;
use futures::stream::BoxStream;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use crate::error::{Error, ErrorKind, Result};
use crate::hint::Hint;
use crate::manifest::{MANIFEST_LIMIT, Manifest};
use crate::name::{ArtifactName, Dataset, MANIFEST_SUFFIX, format_stamp, join_key, parse_stamp, split_key};
use crate::sink::{ObjectInfo, Sink, UPLOADS_FOLDER};
use crate::stream;
use crate::verifier::Level;

mod orphans;

pub use orphans::{Cleaned, remove_orphans};

/// The suffix of an intent's name, after its artifact's name.
const INTENT_SUFFIX: &str = ".intent.json";

/// What stands between an artifact's name and the rest of a verification record's.
const VERIFIED_INFIX: &str = ".verified-";

/// How far a store's clock may be behind ours before a foreign object is mistaken for one that has just been written.
const CLOCK_SKEW: SignedDuration = SignedDuration::from_hours(1);

/// Who wrote an artifact.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Lifeboat: it has a manifest.
    Managed,
    /// Something else: it has none. It can be verified, restored and pruned all the same.
    Foreign,
    /// A manifest whose objects are gone.
    Damaged,
}

impl Kind {
    /// The kind's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Managed => "managed",
            Self::Foreign => "foreign",
            Self::Damaged => "damaged",
        }
    }
}

/// The record of one verification, as its name tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verification {
    /// Key of the record.
    pub key: String,
    /// When it was made.
    pub at: Timestamp,
    /// At which level.
    pub level: Level,
    /// Whether it passed.
    pub passed: bool,
}

/// One artifact in a sink.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Artifact {
    /// The folder it lies in, without a slash at its end; empty for the sink itself.
    pub folder: String,
    /// Its name.
    pub name: ArtifactName,
    /// Who wrote it.
    pub kind: Kind,
    /// Its objects, in the order in which their bytes are joined.
    pub objects: Vec<ObjectInfo>,
    /// The manifest's key, when there is one.
    pub manifest: Option<String>,
    /// The verifications that were recorded, oldest first.
    pub verifications: Vec<Verification>,
}

impl Artifact {
    /// The artifact's key: its folder and name.
    pub fn key(&self) -> String {
        join_key(&self.folder, &self.name.to_string())
    }

    /// Stored bytes, all objects together.
    pub fn bytes(&self) -> u64 {
        self.objects.iter().map(|o| o.bytes).sum()
    }

    /// The verification that proves most: of those that passed, the last at the deepest level. A look at the live system
    /// proves nothing of what is stored.
    pub fn last_passed(&self) -> Option<&Verification> {
        let depth = |level| match level {
            Level::Live => 0,
            Level::Stored => 1,
            Level::Structure => 2,
            Level::Restore => 3,
        };
        self.verifications.iter().filter(|v| v.passed).max_by_key(|v| (depth(v.level), v.at))
    }

    /// Whether it is known to be bad: a verification failed, and no later one at that level or a deeper one passed. One of
    /// the live system says nothing about the artifact.
    pub fn is_known_bad(&self) -> bool {
        let mut proven = None;
        self.verifications.iter().rev().filter(|v| v.level != Level::Live).any(|v| {
            if v.passed {
                proven = proven.max(Some(v.level));
            }
            !v.passed && proven < Some(v.level)
        })
    }

    /// Every key that belongs to it but for the manifest, which goes first.
    pub(crate) fn keys_without_manifest(&self) -> Vec<String> {
        self.verifications.iter().map(|v| v.key.clone()).chain(self.objects.iter().map(|o| o.key.clone())).collect()
    }

    /// Reads its manifest; `None` when it is foreign.
    ///
    /// # Errors
    /// When the manifest cannot be read or is not one.
    pub async fn read_manifest(&self, sink: &dyn Sink) -> Result<Option<Manifest>> {
        let Some(key) = &self.manifest else { return Ok(None) };
        let bytes = stream::collect(sink.get(key, None).await?, MANIFEST_LIMIT, key).await?;
        let manifest = Manifest::parse(&bytes, key)?;
        if manifest.artifact != self.name.to_string() {
            return Err(Error::new(
                ErrorKind::Corrupt,
                "read",
                key,
                format!("it is the manifest of {}", manifest.artifact),
            ));
        }
        Ok(Some(manifest))
    }
}

/// Key of the intent of an artifact.
pub(crate) fn intent_key(folder: &str, artifact: &str) -> String {
    join_key(folder, &format!("{UPLOADS_FOLDER}/{artifact}{INTENT_SUFFIX}"))
}

/// Key of the record of a verification.
pub(crate) fn verification_key(artifact_key: &str, at: Timestamp, level: Level, passed: bool) -> String {
    let outcome = if passed { "pass" } else { "fail" };
    format!("{artifact_key}{VERIFIED_INFIX}{}-{level}-{outcome}.json", format_stamp(at))
}

/// The artifacts in one folder of a sink, in ascending order of their keys (a damaged one stands where its manifest
/// does), page by page: memory does not grow with their number. With `dataset`, only that one's, matched whole and never
/// by a bare prefix.
///
/// # Errors
/// As items: what the sink's listing fails with. A folder in which there is nothing is empty; a bucket or root folder
/// that does not exist is an error.
pub fn list<'a>(sink: &'a dyn Sink, folder: &str, dataset: Option<&Dataset>) -> BoxStream<'a, Result<Artifact>> {
    let folder = folder.trim_matches('/').to_owned();
    let dataset = dataset.cloned();
    let begin = async move {
        let started = Timestamp::now();
        let intents = Arc::new(Announced::read(sink, &folder).await?);
        let prefix = join_key(&folder, &dataset.as_ref().map(|d| format!("{d}-")).unwrap_or_default());
        let prefix = if dataset.is_none() && !folder.is_empty() { format!("{folder}/") } else { prefix };
        let state = Listing {
            objects: sink.list(&prefix),
            groups: BTreeMap::new(),
            held: BTreeMap::new(),
            ready: VecDeque::new(),
            ended: false,
            folder,
            dataset,
        };
        Ok(grouped(state).filter_map(move |artifact| {
            let intents = intents.clone();
            async move {
                match artifact {
                    Ok(artifact) => keep(sink, artifact, &intents, started).await.transpose(),
                    Err(error) => Some(Err(error)),
                }
            }
        }))
    };
    futures::stream::once(begin)
        .flat_map(|begun| match begun {
            Ok(artifacts) => artifacts.boxed(),
            Err(error) => futures::stream::iter([Err(error)]).boxed(),
        })
        .boxed()
}

/// Whether there is an object with this key. Stores that let an identity list below a prefix only answer a question for a
/// missing object as if it were forbidden: then the listing says.
pub(crate) async fn exists(sink: &dyn Sink, key: &str) -> Result<bool> {
    match sink.head(key).await {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) if error.kind() == ErrorKind::Permission => {
            let first = sink.list(key).next().await.transpose()?;
            Ok(first.is_some_and(|object| object.key == key))
        }
        Err(error) => Err(error),
    }
}

/// Leaves out what a run is still writing, or has left behind when it was killed.
async fn keep(
    sink: &dyn Sink,
    artifact: Artifact,
    intents: &Announced,
    started: Timestamp,
) -> Result<Option<Artifact>> {
    if artifact.kind != Kind::Foreign {
        return Ok(Some(artifact));
    }
    let name = artifact.name.to_string();
    if intents.has(&name) {
        return Ok(None);
    }
    // The intents were listed before the objects. An object that came after that belongs to a run whose intent was not
    // there yet: ask for that one. Older objects cannot be in that state.
    if artifact.objects.iter().any(|o| o.modified > started - CLOCK_SKEW) {
        if exists(sink, &intent_key(&artifact.folder, &name)).await? {
            return Ok(None);
        }
        // Neither intent nor manifest was seen: it may have been committed in between.
        let manifest = format!("{}{MANIFEST_SUFFIX}", artifact.key());
        if exists(sink, &manifest).await? {
            return Ok(Some(Artifact { kind: Kind::Managed, manifest: Some(manifest), ..artifact }));
        }
    }
    Ok(Some(artifact))
}

#[derive(Default)]
struct Group {
    objects: Vec<ObjectInfo>,
    manifest: Option<String>,
    verifications: Vec<Verification>,
}

struct Listing<'a> {
    objects: BoxStream<'a, Result<ObjectInfo>>,
    /// Artifacts of which more objects may come. Keys come in order, and those of one artifact all start with its name, so
    /// few are open at a time.
    groups: BTreeMap<String, (ArtifactName, Group)>,
    /// Artifacts that are complete but come after one that is not.
    held: BTreeMap<String, Artifact>,
    ready: VecDeque<Artifact>,
    ended: bool,
    folder: String,
    dataset: Option<Dataset>,
}

/// What the name of an object in a folder says it is.
pub(crate) enum Role {
    Object,
    Manifest,
    Verification(Timestamp, Level, bool),
}

pub(crate) fn role(name: &str) -> Option<(ArtifactName, Role)> {
    if let Some(base) = name.strip_suffix(MANIFEST_SUFFIX) {
        return Some((ArtifactName::parse(base)?, Role::Manifest));
    }
    if let Some((base, record)) = name.split_once(VERIFIED_INFIX) {
        let mut parts = record.strip_suffix(".json")?.rsplitn(3, '-');
        let passed = match parts.next()? {
            "pass" => true,
            "fail" => false,
            _ => return None,
        };
        let level = parts.next()?.parse().ok()?;
        return Some((ArtifactName::parse(base)?, Role::Verification(parse_stamp(parts.next()?)?, level, passed)));
    }
    if let Some((base, volume)) = name.rsplit_once('.')
        && volume.len() == 3
        && volume.bytes().all(|b| b.is_ascii_digit())
    {
        return Some((ArtifactName::parse(base)?, Role::Object));
    }
    Some((ArtifactName::parse(name)?, Role::Object))
}

impl Listing<'_> {
    fn take(&mut self, object: ObjectInfo) {
        let below = match self.folder.as_str() {
            "" => Some(object.key.as_str()),
            folder => object.key.strip_prefix(folder).and_then(|rest| rest.strip_prefix('/')),
        };
        let Some(name) = below else { return };
        self.close_groups_before(name);
        if name.contains('/') {
            return;
        }
        let Some((artifact, role)) = role(name) else { return };
        if self.dataset.as_ref().is_some_and(|d| *d != artifact.dataset) {
            return;
        }
        let (_, group) = self.groups.entry(artifact.to_string()).or_insert_with(|| (artifact, Group::default()));
        match role {
            Role::Object => group.objects.push(object),
            Role::Manifest => group.manifest = Some(object.key),
            Role::Verification(at, level, passed) => {
                group.verifications.push(Verification { key: object.key, at, level, passed });
            }
        }
    }

    /// Artifacts whose name `next` does not start with are complete.
    fn close_groups_before(&mut self, next: &str) {
        let closed: Vec<String> = self.groups.keys().filter(|base| !next.starts_with(*base)).cloned().collect();
        for base in closed {
            self.close(&base);
        }
        // In order of keys: where one name starts another, the shorter one is complete later.
        while let Some(next) = self.held.first_entry() {
            if self.groups.first_key_value().is_some_and(|(open, _)| open < next.key()) {
                return;
            }
            self.ready.push_back(next.remove());
        }
    }

    fn close(&mut self, base: &str) {
        let Some((name, mut group)) = self.groups.remove(base) else { return };
        let kind = match (&group.manifest, group.objects.is_empty()) {
            (Some(_), false) => Kind::Managed,
            (Some(_), true) => Kind::Damaged,
            (None, false) => Kind::Foreign,
            // A verification's record alone: the artifact is gone.
            (None, true) => return,
        };
        group.verifications.sort_by_key(|v| v.at);
        let artifact = Artifact {
            folder: self.folder.clone(),
            name,
            kind,
            objects: group.objects,
            manifest: group.manifest,
            verifications: group.verifications,
        };
        self.held.insert(base.to_owned(), artifact);
    }
}

fn grouped(listing: Listing<'_>) -> BoxStream<'_, Result<Artifact>> {
    futures::stream::unfold(listing, |mut listing| async move {
        loop {
            if let Some(artifact) = listing.ready.pop_front() {
                return Some((Ok(artifact), listing));
            }
            if listing.ended {
                return None;
            }
            match listing.objects.next().await {
                Some(Ok(object)) => listing.take(object),
                Some(Err(error)) => {
                    listing.ended = true;
                    return Some((Err(error), listing));
                }
                None => {
                    listing.ended = true;
                    listing.close_groups_before("");
                }
            }
        }
    })
    .boxed()
}

/// Which of a dataset's artifacts is meant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum At {
    /// The newest.
    #[default]
    Latest,
    /// The newest that is not younger than this.
    Time(Timestamp),
    /// The one with this key or name.
    Key(String),
}

impl std::str::FromStr for At {
    type Err = Error;

    /// `latest`, a time (`2026-11-21T03:30:00Z`, `2026-11-21 03:30`, `2026-11-21`, `20261121-033000`; UTC), or a key.
    fn from_str(text: &str) -> Result<Self> {
        use jiff::civil;
        if text == "latest" {
            return Ok(Self::Latest);
        }
        if let Some(time) = parse_stamp(text).or_else(|| text.parse().ok()) {
            return Ok(Self::Time(time));
        }
        let utc = |at: civil::DateTime| at.to_zoned(jiff::tz::TimeZone::UTC).map(|z| z.timestamp()).ok();
        if let Some(time) = text.parse::<civil::Date>().ok().filter(|_| matches!(text.len(), 8 | 10)).and_then(|d| {
            // A day means all of it.
            utc(d.at(23, 59, 59, 0))
        }) {
            return Ok(Self::Time(time));
        }
        if let Some(time) = text.parse::<civil::DateTime>().ok().and_then(utc) {
            return Ok(Self::Time(time));
        }
        if ArtifactName::parse(split_key(text).1).is_some() {
            return Ok(Self::Key(text.to_owned()));
        }
        Err(Error::new(ErrorKind::Config, "use", format!("\"{text}\""), "neither a time nor the key of an artifact")
            .hint(Hint::NameArtifact))
    }
}

/// The artifact of a dataset that is meant.
///
/// # Errors
/// [`ErrorKind::NoArtifact`], saying what there is instead.
pub async fn find(sink: &Arc<dyn Sink>, folder: &str, dataset: &Dataset, at: &At) -> Result<Artifact> {
    let mut found: Option<Artifact> = None;
    let (mut total, mut oldest) = (0u64, None);
    let mut artifacts = list(&**sink, folder, Some(dataset));
    while let Some(artifact) = artifacts.next().await {
        let artifact = artifact?;
        total += 1;
        oldest = oldest.min(Some(artifact.name.taken_at)).or(Some(artifact.name.taken_at));
        let fits = match at {
            At::Latest => artifact.kind != Kind::Damaged,
            At::Time(time) => artifact.kind != Kind::Damaged && artifact.name.taken_at <= *time,
            At::Key(key) => artifact.key() == *key || artifact.name.to_string() == *key,
        };
        // Of two of the same second the managed one comes later or wins: it has a proof.
        if fits && found.as_ref().is_none_or(|f| rank(&artifact) >= rank(f)) {
            found = Some(artifact);
        }
    }
    found.ok_or_else(|| {
        let place = join_key(&sink.url(), folder);
        let place = place.trim_end_matches('/');
        let subject = format!("an artifact of {dataset}");
        let message = match (total, oldest) {
            (0, _) | (_, None) => format!("there is none in {place}"),
            (_, Some(oldest)) => match at {
                At::Time(time) => {
                    format!("none of the {total} in {place} is as old as {time}; the oldest is of {oldest}")
                }
                At::Key(key) => format!("none of the {total} in {place} is named {key}"),
                At::Latest => format!("all {total} in {place} are damaged"),
            },
        };
        Error::new(ErrorKind::NoArtifact, "find", subject, message).hint(Hint::ListArtifacts)
    })
}

fn rank(artifact: &Artifact) -> (Timestamp, bool) {
    (artifact.name.taken_at, artifact.kind == Kind::Managed)
}

/// A note that a run has begun to write an artifact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Intent {
    pub(crate) key: String,
    pub(crate) artifact: String,
    pub(crate) modified: Timestamp,
}

pub(crate) fn intents<'a>(sink: &'a dyn Sink, folder: &str) -> BoxStream<'a, Result<Intent>> {
    let prefix = format!("{}/", join_key(folder, UPLOADS_FOLDER));
    let objects = sink.list(&prefix);
    objects
        .filter_map(move |object| {
            let intent = object.map(|object| {
                let artifact = intent_of(&object.key, &prefix)?.to_owned();
                Some(Intent { artifact, modified: object.modified, key: object.key })
            });
            futures::future::ready(intent.transpose())
        })
        .boxed()
}

/// The name of the artifact whose intent has this key; `uploads` is the folder of notes, with its slash.
pub(crate) fn intent_of<'a>(key: &'a str, uploads: &str) -> Option<&'a str> {
    key.strip_prefix(uploads)?.strip_suffix(INTENT_SUFFIX)
}

/// The artifacts for which there is an intent, 8 bytes for each: a writer that may not delete leaves one beside every
/// artifact.
struct Announced(Vec<u64>);

impl Announced {
    async fn read(sink: &dyn Sink, folder: &str) -> Result<Self> {
        let mut found = Vec::new();
        let mut intents = intents(sink, folder);
        while let Some(intent) = intents.next().await {
            found.push(xxh3_64(intent?.artifact.as_bytes()));
        }
        found.sort_unstable();
        Ok(Self(found))
    }

    fn has(&self, artifact: &str) -> bool {
        self.0.binary_search(&xxh3_64(artifact.as_bytes())).is_ok()
    }
}
