//! The catalog: which artifacts a sink holds, told from names alone.
//!
//! | object | what it says |
//! |---|---|
//! | `<artifact>` or `<artifact>.000`, `.001`, … | the stored bytes, in one object or in volumes |
//! | `<artifact>.manifest.json` | the artifact was finished by Lifeboat |
//! | `<artifact>.verified-<time>-<level>-<pass or fail>.json` | somebody verified it |
//! | `<artifact>.needs-<time>.<extensions>.json` | it cannot be restored without that artifact of its dataset: see [`chain`] |
//! | `<artifact>.holds-<items>-<rows>-<bytes>-<judged>.json` | it holds nothing or much less than those before it, or that [could not be told](Judged) |
//! | `<artifact>.sha256`, `.asc`, … | a checksum or signature that somebody put there: it goes with its artifact |
//! | `_lifeboat/uploads/<artifact>.intent.json` | a run has begun to write it |
//!
//! Anything else whose name begins with an artifact's and a dot is a sidecar that is not known here, and so is a manifest of
//! another form (`<artifact>.manifest.v2.json`). A newer Lifeboat may mean by it that something must stay: nothing of that
//! dataset in that folder is deleted.
//!
//! An object without a manifest that is named like an artifact is *foreign*: a shell script wrote it. One for which
//! there is an intent is the remains of a run that was killed, or a run that goes on: it is not an artifact.

use futures::StreamExt;
use futures::stream::BoxStream;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Result};
use crate::hint::Hint;
use crate::manifest::{MANIFEST_LIMIT, Manifest};
use crate::name::{ArtifactName, Dataset, format_stamp, join_key, parse_stamp, split_key};
use crate::sink::{ObjectInfo, Sink, UPLOADS_FOLDER};
use crate::stream;
use crate::verifier::Level;

mod amount;
mod chain;
mod left_out;
mod listing;
mod orphans;
mod role;

pub(crate) use amount::fuller_before;
pub use amount::{Amount, Holds, Judged, Less, MaxShrink};
pub use chain::chain;
pub(crate) use chain::lookup;
pub use left_out::{left_out, left_out_in_words};
pub(crate) use listing::{Listed, list_all};
pub use orphans::{Cleaned, remove_orphans};

pub(crate) use role::{Role, holds_name, need_name, role};

use role::VERIFIED_INFIX;

/// The suffix of an intent's name, after its artifact's name.
const INTENT_SUFFIX: &str = ".intent.json";

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
#[non_exhaustive]
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
#[non_exhaustive]
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
    /// The artifacts without which it cannot be restored, of the same dataset and folder, in ascending order: the base of
    /// an increment. What those need in turn is not among them: see [`chain`].
    pub needs: Vec<ArtifactName>,
    /// The sidecars that say how much it holds.
    pub holds: Vec<Holds>,
    /// Keys of checksums and signatures that somebody put beside it.
    pub companions: Vec<String>,
    /// Keys of what lies beside it and is not known here. While there is any, nothing of its dataset is deleted.
    pub unknown: Vec<String>,
}

impl Artifact {
    /// An artifact of which nothing else is known.
    pub fn new(folder: impl Into<String>, name: ArtifactName, kind: Kind) -> Self {
        Self {
            folder: folder.into(),
            name,
            kind,
            objects: Vec::new(),
            manifest: None,
            verifications: Vec::new(),
            needs: Vec::new(),
            holds: Vec::new(),
            companions: Vec::new(),
            unknown: Vec::new(),
        }
    }

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

    /// Every key that belongs to it but for the manifest, which goes first, and the [sidecars](Self::sidecar_keys), which go last.
    pub(crate) fn keys_without_manifest(&self) -> Vec<String> {
        let records = self.verifications.iter().map(|v| &v.key);
        records.chain(&self.companions).chain(self.objects.iter().map(|o| &o.key)).cloned().collect()
    }

    /// The keys of the sidecars that say what it needs.
    pub(crate) fn need_keys(&self) -> impl Iterator<Item = String> {
        self.needs.iter().filter_map(|needed| Some(join_key(&self.folder, &need_name(&self.name, needed)?)))
    }

    /// The keys of the sidecars that mean something as long as anything of it is there: what it needs, and how much it holds.
    pub(crate) fn sidecar_keys(&self) -> impl Iterator<Item = String> {
        self.need_keys().chain(self.holds.iter().map(|holds| holds.key.clone()))
    }

    /// The manifest beside it that is of a form not known here.
    fn other_manifest(&self) -> Option<&String> {
        self.unknown.iter().find(|key| matches!(role(split_key(key).1), Some((_, Role::OtherManifest))))
    }

    /// Reads its manifest; `None` when it is foreign.
    ///
    /// # Errors
    /// When the manifest cannot be read or is not one; [`ErrorKind::Unsupported`] when it is of a form not known here.
    pub async fn read_manifest(&self, sink: &dyn Sink) -> Result<Option<Manifest>> {
        let Some(key) = &self.manifest else {
            return match self.other_manifest() {
                Some(key) => Err(Error::new(ErrorKind::Unsupported, "read", key, "its format is not known here")
                    .hint("use a newer Lifeboat")),
                None => Ok(None),
            };
        };
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
    let finished = |item: Result<Listed>| async move {
        match item {
            Ok(Listed { unfinished: true, .. }) => None,
            item => Some(item.map(|listed| listed.artifact)),
        }
    };
    list_all(sink, folder, dataset).filter_map(finished).boxed()
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
pub async fn find(sink: &dyn Sink, folder: &str, dataset: &Dataset, at: &At) -> Result<Artifact> {
    let mut found: Option<Artifact> = None;
    let (mut total, mut oldest) = (0u64, None);
    let mut artifacts = list(sink, folder, Some(dataset));
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
                    format!("none of the {total} in {place} is as old as {time}; the oldest is from {oldest}")
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
