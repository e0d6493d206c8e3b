//! Turning a listing into artifacts: objects are grouped by artifact, and unfinished artifacts are recognized.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use futures::StreamExt;
use futures::stream::BoxStream;
use jiff::{SignedDuration, Timestamp};
use xxhash_rust::xxh3::xxh3_64;

use super::role::{self, Role, role};
use super::{Artifact, Holds, Kind, Verification, exists, intent_key, intents};
use crate::error::Result;
use crate::name::{ArtifactName, Dataset, MANIFEST_SUFFIX, join_key, split_stem};
use crate::sink::{ObjectInfo, Sink};

/// How far a store's clock may lag behind ours before a foreign object is mistaken for one that was just written.
const CLOCK_SKEW: SignedDuration = SignedDuration::from_hours(1);

/// An artifact, or the part of one that a run has written so far.
#[derive(Debug)]
pub(crate) struct Listed {
    pub(crate) artifact: Artifact,
    pub(crate) state: State,
}

/// How much of an artifact there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// A whole artifact.
    Whole,
    /// A run is still writing it, or was killed while doing so. It is not an artifact, but what it needs must be kept.
    Unfinished,
    /// Only notes about it are left: somebody deleted it, or a prune was killed just before its end.
    Gone,
}

/// Like [`list`], but includes what is being written.
pub(crate) fn list_all<'a>(
    sink: &'a dyn Sink,
    folder: &str,
    dataset: Option<&Dataset>,
) -> BoxStream<'a, Result<Listed>> {
    let folder = folder.trim_matches('/').to_owned();
    let dataset = dataset.cloned();
    let begin = async move {
        let started = Timestamp::now();
        let intents = Arc::new(Announced::read(sink, &folder).await?);
        let prefix = join_key(&folder, &dataset.as_ref().map(|d| format!("{d}-")).unwrap_or_default());
        let prefix = if dataset.is_none() && !folder.is_empty() { format!("{folder}/") } else { prefix };
        let state = Listing::of(sink.list(&prefix), folder, dataset);
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

/// Distinguishes whole artifacts from those that a run is still writing, or left behind when it was killed.
async fn keep(sink: &dyn Sink, artifact: Artifact, intents: &Announced, started: Timestamp) -> Result<Option<Listed>> {
    let listed = |artifact, state| Ok(Some(Listed { artifact, state }));
    let whole = |artifact| listed(artifact, State::Whole);
    if artifact.kind != Kind::Foreign || artifact.other_manifest().is_some() {
        return whole(artifact);
    }
    let name = artifact.name.to_string();
    if intents.has(&name) {
        return listed(artifact, State::Unfinished);
    }
    // The intents were listed before the objects. A newer object may belong to a run whose intent was not there yet, so
    // look for that intent. Older objects cannot be in that state.
    let nothing_yet = artifact.objects.is_empty();
    if nothing_yet || artifact.objects.iter().any(|o| o.modified > started - CLOCK_SKEW) {
        if exists(sink, &intent_key(&artifact.folder, &name)).await? {
            return listed(artifact, State::Unfinished);
        }
        // Neither intent nor manifest was seen: the artifact may have been committed in between.
        let manifest = format!("{}{MANIFEST_SUFFIX}", artifact.key());
        if exists(sink, &manifest).await? {
            if nothing_yet && artifact.needs.is_empty() {
                return Ok(None);
            }
            return whole(Artifact { kind: Kind::Managed, manifest: Some(manifest), ..artifact });
        }
    }
    listed(artifact, if nothing_yet { State::Gone } else { State::Whole })
}

#[derive(Default)]
struct Group {
    objects: Vec<ObjectInfo>,
    manifest: Option<String>,
    verifications: Vec<Verification>,
    needs: Vec<ArtifactName>,
    holds: Vec<Holds>,
    companions: Vec<String>,
    unknown: Vec<String>,
}

pub(super) struct Listing<'a> {
    objects: BoxStream<'a, Result<ObjectInfo>>,
    /// Artifacts for which more objects may follow. Keys are sorted, and those of one artifact all start with its name,
    /// so few are open at a time.
    groups: BTreeMap<String, (ArtifactName, Group)>,
    /// Artifacts that are complete but follow one that is not.
    held: BTreeMap<String, Artifact>,
    ready: VecDeque<Artifact>,
    /// Names of objects of the current dataset and second that have no role. They precede their artifact's objects if
    /// only its manifest is left.
    strays: Vec<String>,
    ended: bool,
    folder: String,
    dataset: Option<Dataset>,
}

impl<'a> Listing<'a> {
    pub(super) fn of(objects: BoxStream<'a, Result<ObjectInfo>>, folder: String, dataset: Option<Dataset>) -> Self {
        Self {
            objects,
            groups: BTreeMap::new(),
            held: BTreeMap::new(),
            ready: VecDeque::new(),
            strays: Vec::new(),
            ended: false,
            folder,
            dataset,
        }
    }

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
        let Some((stem, _)) = split_stem(name) else { return };
        self.strays.retain(|stray| stray.starts_with(stem));
        if role::is_companion(name)
            && let Some((_, (_, group))) = self.groups.iter_mut().rev().find(|(base, _)| is_beside(name, base))
        {
            group.companions.push(object.key);
            return;
        }
        let Some((artifact, role)) = role(name) else {
            if !role::is_companion(name) {
                self.strays.push(name.to_owned());
            }
            return;
        };
        if self.dataset.as_ref().is_some_and(|d| *d != artifact.dataset) {
            return;
        }
        let (_, group) = self.groups.entry(artifact.to_string()).or_insert_with(|| (artifact, Group::default()));
        match role {
            Role::Object => group.objects.push(object),
            Role::Manifest => group.manifest = Some(object.key),
            Role::OtherManifest => group.unknown.push(object.key),
            Role::Need(needed) => group.needs.push(needed),
            Role::Holds(amount, judged) => group.holds.push(Holds { key: object.key, amount, judged }),
            Role::Verification(at, level, passed) => {
                group.verifications.push(Verification { key: object.key, at, level, passed });
            }
        }
    }

    /// Completes the artifacts whose name is not a prefix of `next`.
    fn close_groups_before(&mut self, next: &str) {
        let closed: Vec<String> = self.groups.keys().filter(|base| !next.starts_with(*base)).cloned().collect();
        for base in closed {
            self.close(&base);
        }
        // In order of keys: if one name is a prefix of another, the shorter one is completed later.
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
            // A manifest of another format, whose data may be anywhere.
            (None, true) if !group.unknown.is_empty() => Kind::Damaged,
            // Sidecars of a run that has just begun, or leftovers of an artifact that is gone.
            (None, true) if !group.needs.is_empty() || !group.verifications.is_empty() || !group.holds.is_empty() => {
                Kind::Foreign
            }
            (None, true) => return,
        };
        // Within a second, a failed verification counts as later than a passed one.
        group.verifications.sort_by_key(|v| (v.at, !v.passed));
        group.needs.sort();
        let strays = self.strays.iter().filter(|stray| is_beside(stray, base));
        group.unknown.extend(strays.map(|stray| join_key(&self.folder, stray)));
        let artifact = Artifact {
            objects: group.objects,
            manifest: group.manifest,
            verifications: group.verifications,
            needs: group.needs,
            holds: group.holds,
            companions: group.companions,
            unknown: group.unknown,
            ..Artifact::new(self.folder.clone(), name, kind)
        };
        self.held.insert(base.to_owned(), artifact);
    }
}

/// Whether a name starts with an artifact's name and a dot.
fn is_beside(name: &str, artifact: &str) -> bool {
    name.strip_prefix(artifact).is_some_and(|rest| rest.starts_with('.'))
}

pub(super) fn grouped(listing: Listing<'_>) -> BoxStream<'_, Result<Artifact>> {
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

/// The artifacts for which there is an intent, in 8 bytes each: a writer without the right to delete leaves an intent
/// for every artifact.
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
