//! The catalog: which artifacts a sink holds, derived from names alone.
//!
//! | object | meaning |
//! |---|---|
//! | `<artifact>` or `<artifact>.000`, `.001`, … | the stored bytes, in one object or in volumes |
//! | `<artifact>.manifest.json` | Lifeboat finished writing the artifact |
//! | `<artifact>.verified-<time>-<level>-<pass or fail>.json` | the artifact was verified |
//! | `<artifact>.needs-<time>.<extensions>.json` | the artifact cannot be restored without that one: see [`chain`] |
//! | `<artifact>.holds-<items>-<rows>-<bytes>-<judged>.json` | the artifact is empty or much smaller than its predecessors, or [could not be compared](Judged) |
//! | `<artifact>.sha256`, `.asc`, … | a checksum or signature that somebody put there; it is deleted with its artifact |
//! | `_lifeboat/uploads/<artifact>.intent.json` | a run has begun to write the artifact |
//!
//! Anything else whose name starts with an artifact's name and a dot is an unknown sidecar, and so is a manifest of
//! another format (`<artifact>.manifest.v2.json`). A newer Lifeboat may have written it to mark something that must be
//! kept, so nothing of that dataset in that folder is deleted.
//!
//! An object without a manifest that is named like an artifact is *foreign*: a shell script wrote it. If there is an
//! intent for it, it is not an artifact: a run is still writing it, or was killed.

use std::collections::BTreeSet;

use futures::StreamExt;
use futures::stream::BoxStream;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Result};
use crate::manifest::{MANIFEST_LIMIT, Manifest};
use crate::name::{ArtifactName, Dataset, format_stamp, join_key, split_key};
use crate::sink::{ObjectInfo, Sink, UPLOADS_FOLDER};
use crate::stream;
use crate::verifier::Level;

mod amount;
mod chain;
mod find;
mod gap;
mod left_out;
mod listing;
mod orphans;
mod role;

pub(crate) use amount::fuller_before;
pub use amount::{Amount, Holds, Judged, Less, MaxShrink};
pub use chain::chain;
pub(crate) use chain::lookup;
pub use find::{At, find};
pub use left_out::{left_out, left_out_in_words};
pub(crate) use listing::{Listed, State, list_all};
pub use orphans::{Cleaned, remove_orphans};

pub(crate) use role::{Role, holds_name, need_name, role};

use role::VERIFIED_INFIX;

/// The suffix of an intent's name, after its artifact's name.
const INTENT_SUFFIX: &str = ".intent.json";

/// Who wrote an artifact.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Kind {
    /// Lifeboat: the artifact has a manifest.
    Managed,
    /// Something else: the artifact has no manifest. It can still be verified, restored and pruned.
    Foreign,
    /// Only a manifest is left; the objects are gone.
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

/// What the name of a verification's record tells about it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Verification {
    /// The key of the record.
    pub key: String,
    /// When the artifact was verified.
    pub at: Timestamp,
    /// The level of the verification.
    pub level: Level,
    /// Whether it passed.
    pub passed: bool,
}

impl Verification {
    /// The verification as it appears in the name of its record: `20261122-040000-restore-pass`.
    pub(crate) fn in_name(&self) -> String {
        in_name(self.at, self.level, self.passed)
    }
}

/// One artifact in a sink.
///
/// ```
/// use lifeboat_core::catalog::{Artifact, Kind};
/// use lifeboat_core::ArtifactName;
///
/// /// Whether it can be relied on, as far as names tell.
/// fn is_good(artifact: &Artifact) -> bool {
///     artifact.kind == Kind::Managed && artifact.last_passed().is_some() && !artifact.is_known_bad()
/// }
///
/// let name = ArtifactName::parse("shop-20261121-033000.dump.zst").unwrap();
/// let artifact = Artifact::new("databases", name, Kind::Managed);
/// assert_eq!((artifact.key().as_str(), is_good(&artifact)), ("databases/shop-20261121-033000.dump.zst", false));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Artifact {
    /// The folder that holds the artifact, without a trailing slash; empty for the sink itself.
    pub folder: String,
    /// The artifact's name.
    pub name: ArtifactName,
    /// Who wrote the artifact.
    pub kind: Kind,
    /// The artifact's objects, in the order in which their bytes are joined.
    pub objects: Vec<ObjectInfo>,
    /// The manifest's key, if there is one.
    pub manifest: Option<String>,
    /// The recorded verifications, oldest first.
    pub verifications: Vec<Verification>,
    /// The artifacts of the same dataset and folder without which this one cannot be restored (the base of an
    /// increment), in ascending order. Only direct dependencies: see [`chain`].
    pub needs: Vec<ArtifactName>,
    /// The sidecars that say how much the artifact holds.
    pub holds: Vec<Holds>,
    /// Keys of checksums and signatures that somebody put beside the artifact.
    pub companions: Vec<String>,
    /// Keys of unknown objects beside the artifact. While there are any, nothing of its dataset is deleted.
    pub unknown: Vec<String>,
}

impl Artifact {
    /// Creates an artifact. The other fields are empty.
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

    /// The total size of the stored objects, in bytes.
    pub fn bytes(&self) -> u64 {
        self.objects.iter().map(|o| o.bytes).sum()
    }

    /// The verification that proves most: the last one that passed at the deepest level. Comparisons with the live
    /// system do not count, because they prove nothing about what is stored.
    pub fn last_passed(&self) -> Option<&Verification> {
        let depth = |level| match level {
            Level::Live => 0,
            Level::Stored => 1,
            Level::Structure => 2,
            Level::Restore => 3,
        };
        self.verifications.iter().filter(|v| v.passed).max_by_key(|v| (depth(v.level), v.at))
    }

    /// The newest failed verification, unless a later one passed at that level or a deeper one. Comparisons with the
    /// live system do not count, because they say nothing about the artifact.
    pub fn standing_failure(&self) -> Option<&Verification> {
        let mut proven = None;
        self.verifications.iter().rev().filter(|v| v.level != Level::Live).find(|v| {
            if v.passed {
                proven = proven.max(Some(v.level));
            }
            !v.passed && proven < Some(v.level)
        })
    }

    /// Whether the artifact is known to be bad: it has a [standing failure](Self::standing_failure).
    pub fn is_known_bad(&self) -> bool {
        self.standing_failure().is_some()
    }

    /// Every key that belongs to the artifact, except the manifest, which is deleted first, and the
    /// [sidecars](Self::sidecar_keys), which are deleted last.
    pub(crate) fn keys_without_manifest(&self) -> Vec<String> {
        let records = self.verifications.iter().map(|v| &v.key);
        records.chain(&self.companions).chain(self.objects.iter().map(|o| &o.key)).cloned().collect()
    }

    /// The keys of the sidecars that say what the artifact needs.
    pub(crate) fn need_keys(&self) -> impl Iterator<Item = String> {
        self.needs.iter().filter_map(|needed| Some(join_key(&self.folder, &need_name(&self.name, needed)?)))
    }

    /// The keys of the sidecars that matter as long as any part of the artifact exists: what it needs, and how much it
    /// holds.
    pub(crate) fn sidecar_keys(&self) -> impl Iterator<Item = String> {
        self.need_keys().chain(self.holds.iter().map(|holds| holds.key.clone()))
    }

    /// The manifest of an unknown format beside the artifact.
    fn other_manifest(&self) -> Option<&String> {
        self.unknown.iter().find(|key| matches!(role(split_key(key).1), Some((_, Role::OtherManifest))))
    }

    /// Reads the artifact's manifest; `None` if the artifact is foreign.
    ///
    /// # Errors
    /// If the manifest cannot be read or is invalid; [`ErrorKind::Unsupported`] if its format is unknown.
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

/// The key of an artifact's intent.
pub(crate) fn intent_key(folder: &str, artifact: &str) -> String {
    join_key(folder, &format!("{UPLOADS_FOLDER}/{artifact}{INTENT_SUFFIX}"))
}

/// The key of a verification's record.
pub(crate) fn verification_key(artifact_key: &str, at: Timestamp, level: Level, passed: bool) -> String {
    format!("{artifact_key}{VERIFIED_INFIX}{}.json", in_name(at, level, passed))
}

fn in_name(at: Timestamp, level: Level, passed: bool) -> String {
    let outcome = if passed { "pass" } else { "fail" };
    format!("{}-{level}-{outcome}", format_stamp(at))
}

/// Lists the artifacts in one folder of a sink in ascending order of their keys (a damaged one is placed by its
/// manifest), page by page: memory does not grow with their number. With `dataset`, lists only that dataset's
/// artifacts, by its whole name, not by prefix.
///
/// # Errors
/// Errors of the sink's listing, as items. A folder without objects is empty; a bucket or root folder that does not
/// exist is an error.
pub fn list<'a>(sink: &'a dyn Sink, folder: &str, dataset: Option<&Dataset>) -> BoxStream<'a, Result<Artifact>> {
    let finished = |item: Result<Listed>| async move {
        match item {
            Ok(Listed { state: State::Unfinished | State::Gone, .. }) => None,
            item => Some(item.map(|listed| listed.artifact)),
        }
    };
    list_all(sink, folder, dataset).filter_map(finished).boxed()
}

/// Every dataset in every folder of a sink, told from the names of artifacts and manifests. The listing is read to its end;
/// memory grows with the number of datasets.
///
/// # Errors
/// What the sink's listing fails with.
pub async fn datasets(sink: &dyn Sink) -> Result<BTreeSet<(String, Dataset)>> {
    let mut found = BTreeSet::new();
    let mut objects = sink.list("");
    while let Some(object) = objects.next().await.transpose()? {
        let (folder, name) = split_key(&object.key);
        if let Some((artifact, Role::Object | Role::Manifest | Role::OtherManifest)) = role(name) {
            found.insert((folder.to_owned(), artifact.dataset));
        }
    }
    Ok(found)
}

/// Whether there is an object with this key. If an identity may list only below a prefix, some stores answer a request
/// for a missing object as forbidden: then the listing decides.
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

/// The name of the artifact whose intent has this key; `uploads` is the folder of notes, with a trailing slash.
pub(crate) fn intent_of<'a>(key: &'a str, uploads: &str) -> Option<&'a str> {
    key.strip_prefix(uploads)?.strip_suffix(INTENT_SUFFIX)
}
