//! How a listing becomes artifacts: objects of one name are gathered, and what is still being written is told apart.

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

/// How far a store's clock may be behind ours before a foreign object is mistaken for one that has just been written.
const CLOCK_SKEW: SignedDuration = SignedDuration::from_hours(1);

/// An artifact, or what a run has written of one so far.
#[derive(Debug)]
pub(crate) struct Listed {
    pub(crate) artifact: Artifact,
    pub(crate) state: State,
}

/// How much of an artifact there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// An artifact.
    Whole,
    /// A run is still writing it, or was killed while it did: it is no artifact, but what it needs must stay.
    Unfinished,
    /// Only notes about it are left: somebody deleted it, or a prune was killed at its very end.
    Gone,
}

/// As [`list`], and with it what is being written.
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

/// Tells what a run is still writing, or has left behind when it was killed, from what is whole.
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
    // The intents were listed before the objects. An object that came after that belongs to a run whose intent was not
    // there yet: ask for that one. Older objects cannot be in that state.
    let nothing_yet = artifact.objects.is_empty();
    if nothing_yet || artifact.objects.iter().any(|o| o.modified > started - CLOCK_SKEW) {
        if exists(sink, &intent_key(&artifact.folder, &name)).await? {
            return listed(artifact, State::Unfinished);
        }
        // Neither intent nor manifest was seen: it may have been committed in between.
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
    /// Artifacts of which more objects may come. Keys come in order, and those of one artifact all start with its name, so
    /// few are open at a time.
    groups: BTreeMap<String, (ArtifactName, Group)>,
    /// Artifacts that are complete but come after one that is not.
    held: BTreeMap<String, Artifact>,
    ready: VecDeque<Artifact>,
    /// Names of objects of the current dataset and second that have no role. They come before their artifact's where all
    /// that is left of it is a manifest.
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
            // A manifest of another form, whose data may lie anywhere.
            (None, true) if !group.unknown.is_empty() => Kind::Damaged,
            // What a run that has just begun needs; or the artifact is gone, and a record or a figure is left.
            (None, true) if !group.needs.is_empty() || !group.verifications.is_empty() || !group.holds.is_empty() => {
                Kind::Foreign
            }
            (None, true) => return,
        };
        // In the same second the one that failed counts as the later one.
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

/// Whether a name begins with that of an artifact and a dot.
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
