//! [`Prune`]: deletes what a retention policy no longer keeps.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use futures::StreamExt;
use jiff::Timestamp;
use serde::Serialize;

use crate::catalog::{self, Artifact, Kind, Listed, State};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::history::{DeletedArtifact, Figures, Journal, Outcome, Verb};
use crate::name::{ArtifactName, Dataset, MANIFEST_SUFFIX, format_stamp, join_key, split_key};
use crate::progress::{Event, Step, Total, Unit};
use crate::retention::{Decision, Policy, Subject, Ties, Verdicts, Warning, decide};
use crate::sink::{Deleted, Held, Sink, upkeep};
use crate::verifier::Level;

/// Artifacts that are deleted together. Each has a manifest, an object and some records, and stores delete 1,000 keys in one
/// request.
const BATCH: usize = 250;

/// Prunes one dataset in one folder of a sink: deletes what a [`Policy`] no longer keeps.
///
/// ```
/// use lifeboat_core::retention::Policy;
/// use lifeboat_core::{Dataset, Prune, Result, Sink};
///
/// async fn tidy(sink: impl Sink + 'static) -> Result<()> {
///     let prune = Prune::new(sink, Dataset::new("shop")?).folder("databases").keep(Policy::days(30)).plan().await?;
///     for decision in prune.decisions().filter(|decision| !decision.keeps()) {
///         println!("{}: {}", decision.key, decision.why());
///     }
///     prune.execute().await.map(drop)
/// }
/// ```
#[derive(Debug)]
pub struct Prune {
    sink: Arc<dyn Sink>,
    folder: String,
    dataset: Dataset,
    policy: Policy,
    history: bool,
    context: Context,
}

/// What a [`Prune`] will delete: show it, then [`execute`](PlannedPrune::execute) it.
///
/// Of each artifact some 40 bytes are held: its time and size, and what was decided; as much again of one that needs others.
/// Its key and the reasons in words are made when they are asked for. Executing holds in full what is deleted.
#[derive(Debug)]
pub struct PlannedPrune {
    sink: Arc<dyn Sink>,
    folder: String,
    dataset: Dataset,
    facts: Facts,
    verdicts: Verdicts,
    now: Timestamp,
    history: bool,
    context: Context,
}

/// What a decision needs to know of an artifact.
#[derive(Clone, Copy, Debug)]
struct Fact {
    taken_at: Timestamp,
    bytes: u64,
    /// Which of the extensions its name has.
    extensions: u32,
    proven: Proven,
    bad: bool,
    less: bool,
}

/// The deepest level at which it ever passed, as far as retention cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Proven {
    No,
    Parsed,
    Restored,
}

/// The artifacts of a dataset, newest first, in the same second by key. Keys differ in time and extensions only, and there
/// are few extensions: none is held as text.
#[derive(Debug, Default)]
struct Facts {
    all: Vec<Fact>,
    extensions: Vec<String>,
}

/// What a name says beside its dataset, with its extensions as a number.
type Place = (Timestamp, u32);

impl Facts {
    /// Reads the catalog: the artifacts, and what stands between them.
    async fn read(sink: &dyn Sink, folder: &str, dataset: &Dataset) -> Result<(Self, Ties)> {
        let mut facts = Self::default();
        let mut ties = Ties::default();
        let mut numbers: HashMap<String, u32> = HashMap::new();
        let mut place_of = |name: &ArtifactName| -> Place {
            let next = u32::try_from(numbers.len()).expect("there are fewer than four billion objects");
            (name.taken_at, *numbers.entry(name.extensions()).or_insert(next))
        };
        let mut needs: Vec<(Place, Place)> = Vec::new();
        let mut awaited: Vec<(ArtifactName, String)> = Vec::new();
        let mut listed = catalog::list_all(sink, folder, Some(dataset));
        while let Some(next) = listed.next().await {
            let Listed { mut artifact, state } = next?;
            if state == State::Gone {
                continue;
            }
            ties.unknown.append(&mut artifact.unknown);
            if state == State::Unfinished {
                let key = artifact.key();
                awaited.extend(artifact.needs.into_iter().map(|needed| (needed, key.clone())));
                continue;
            }
            let place = place_of(&artifact.name);
            facts.all.push(Fact::of(&artifact, place.1));
            needs.extend(artifact.needs.iter().map(|needed| (place, place_of(needed))));
        }
        facts.extensions = vec![String::new(); numbers.len()];
        for (extensions, number) in numbers {
            facts.extensions[usize::try_from(number).expect("a position fits")] = extensions;
        }
        let Self { all, extensions } = &mut facts;
        let place = |fact: &Fact| (Reverse(fact.taken_at), fact.extensions(extensions));
        all.sort_unstable_by(|a, b| place(a).cmp(&place(b)));
        // Of what is listed twice the worst is believed.
        all.dedup_by(|again, known| {
            let same = place(again) == place(known);
            if same {
                known.bad |= again.bad;
                known.less |= again.less;
                known.proven = known.proven.max(again.proven);
                known.bytes = known.bytes.max(again.bytes);
            }
            same
        });
        needs.sort_unstable();
        needs.dedup();
        for (above, needed) in needs {
            let Some(above) = facts.position_of(above) else { continue };
            match facts.position_of(needed) {
                Some(base) => ties.needs.entry(above).or_default().push(base),
                None => ties.missing.push((above, facts.key(folder, dataset, needed))),
            }
        }
        ties.awaited.extend(awaited.into_iter().filter_map(|(needed, key)| Some((facts.position(&needed)?, key))));
        let all = &mut facts.all;
        // Where something was restored, only that counts as proven: a mere look at a newer one must not cost it.
        if all.iter().any(|fact| fact.proven == Proven::Restored) {
            for fact in all.iter_mut().filter(|fact| fact.proven == Proven::Parsed) {
                fact.proven = Proven::No;
            }
        }
        Ok((facts, ties))
    }

    /// Where the artifact with this time and these extensions stands.
    fn position_of(&self, place: Place) -> Option<usize> {
        self.find(place.0, self.text_of(place.1))
    }

    fn text_of(&self, extensions: u32) -> &str {
        &self.extensions[usize::try_from(extensions).expect("a position fits")]
    }

    fn key(&self, folder: &str, dataset: &Dataset, (taken_at, extensions): Place) -> String {
        let extensions = self.text_of(extensions);
        join_key(folder, &format!("{dataset}-{}.{extensions}", format_stamp(taken_at)))
    }

    /// Where this artifact stands; `None` for one that was not there.
    fn position(&self, name: &ArtifactName) -> Option<usize> {
        self.find(name.taken_at, &name.extensions())
    }

    fn find(&self, taken_at: Timestamp, extensions: &str) -> Option<usize> {
        let place = |fact: &Fact| {
            let time = Reverse(fact.taken_at).cmp(&Reverse(taken_at));
            time.then_with(|| fact.extensions(&self.extensions).cmp(extensions))
        };
        self.all.binary_search_by(place).ok()
    }
}

impl Fact {
    fn of(artifact: &Artifact, extensions: u32) -> Self {
        let passed = |level| artifact.verifications.iter().any(|v| v.passed && v.level == level);
        Self {
            taken_at: artifact.name.taken_at,
            bytes: artifact.bytes(),
            extensions,
            proven: match () {
                () if passed(Level::Restore) => Proven::Restored,
                () if passed(Level::Structure) => Proven::Parsed,
                () => Proven::No,
            },
            bad: artifact.kind == Kind::Damaged || artifact.is_known_bad() || artifact.bytes() == 0,
            less: artifact.less().is_some(),
        }
    }

    fn place(self) -> Place {
        (self.taken_at, self.extensions)
    }

    fn extensions(self, all: &[String]) -> &str {
        &all[usize::try_from(self.extensions).expect("a position fits")]
    }
}

impl Subject for Fact {
    fn taken_at(&self) -> Timestamp {
        self.taken_at
    }

    fn is_good(&self) -> bool {
        !self.bad
    }

    fn holds_less(&self) -> bool {
        self.less
    }

    fn is_verified(&self) -> bool {
        self.proven != Proven::No
    }
}

impl Prune {
    /// Prunes this dataset in a sink. Without [`keep`](Self::keep) everything is kept.
    pub fn new(sink: impl Sink + 'static, dataset: Dataset) -> Self {
        Self {
            sink: Arc::new(sink),
            folder: String::new(),
            dataset,
            policy: Policy::default(),
            history: true,
            context: Context::default(),
        }
    }

    /// The folder of the artifacts in the sink; without it the sink itself.
    #[must_use]
    pub fn folder(mut self, folder: &str) -> Self {
        folder.trim_matches('/').clone_into(&mut self.folder);
        self
    }

    /// What is kept.
    #[must_use]
    pub fn keep(mut self, policy: Policy) -> Self {
        self.policy = policy;
        self
    }

    /// Whether executing it leaves a record in the [history](crate::history). It does, unless said otherwise.
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

    /// Reads the catalog and decides. Deletes nothing.
    ///
    /// Foreign artifacts count like any other. One that failed a verification is bad until it has passed one as deep: it
    /// stands in for nothing.
    ///
    /// # Errors
    /// What the sink's listing fails with: from half a listing nothing is decided.
    /// [`Cancelled`](crate::ErrorKind::Cancelled).
    ///
    /// # Cancel safety
    /// Safe: nothing was changed.
    pub async fn plan(self) -> Result<PlannedPrune> {
        let Self { sink, folder, dataset, policy, history, context } = self;
        let now = context.now();
        let read = Facts::read(&*sink, &folder, &dataset);
        let (facts, ties) = context.unless_cancelled("prune", || dataset.to_string(), read).await?;
        let key_of = |i: usize| facts.key(&folder, &dataset, facts.all[i].place());
        let verdicts = decide(&policy, &facts.all, now, ties, key_of);
        Ok(PlannedPrune { sink, folder, dataset, facts, verdicts, now, history, context })
    }
}

impl PlannedPrune {
    /// What will be kept and what deleted, each with the reason, newest first. They are made one by one: memory does not grow
    /// with their number as long as the caller lets them go.
    pub fn decisions(&self) -> impl Iterator<Item = Decision> {
        (0..self.facts.all.len()).map(|i| {
            let taken_at = self.facts.all[i].taken_at;
            let action = self.verdicts.action(i, taken_at, |other| self.key(other));
            Decision { key: self.key(i), taken_at, good: self.verdicts.is_good(i), action }
        })
    }

    /// Signs that something is wrong with the backups or the clock.
    pub fn warnings(&self) -> &[Warning] {
        self.verdicts.warnings()
    }

    /// How many are kept.
    pub fn kept(&self) -> usize {
        self.verdicts.kept()
    }

    /// How many are to be deleted.
    pub fn to_delete(&self) -> usize {
        self.facts.all.len() - self.kept()
    }

    /// Bytes that executing the plan frees, as the listing shows them. Older versions of the same keys come on top, and what
    /// the store holds does not count.
    pub fn bytes_to_free(&self) -> u64 {
        self.deletions().map(|i| self.facts.all[i].bytes).sum()
    }

    /// The artifacts of the plan's deletions that the store holds (Object Lock), by their keys: executing the plan leaves them.
    ///
    /// # Errors
    /// What the sink fails with.
    pub async fn held(&self) -> Result<Vec<Held>> {
        let (mut held, mut batch) = (Vec::new(), Vec::with_capacity(BATCH));
        if self.to_delete() == 0 {
            return Ok(held);
        }
        let mut listed = catalog::list(&*self.sink, &self.folder, Some(&self.dataset));
        while let Some(artifact) = listed.next().await {
            let artifact = artifact?;
            if self.deletes(&artifact.name).is_some() {
                batch.push(artifact);
            }
            if batch.len() == BATCH {
                held.extend(self.held_of(&batch.iter().collect::<Vec<_>>()).await?);
                batch.clear();
            }
        }
        held.extend(self.held_of(&batch.iter().collect::<Vec<_>>()).await?);
        // In the plan's order: the newest first.
        held.reverse();
        Ok(held)
    }

    /// Deletes what the plan says. Of each artifact the manifest goes first: one that is half deleted is never taken
    /// for whole. An artifact goes before what it needs.
    ///
    /// # Behaviour
    /// - An artifact of which the store holds anything but the records of its verifications stays whole, and is in the
    ///   result with the time. What it needs stays with it, and so does what is needed by anything that has come since the
    ///   plan was made: a note says so.
    /// - When an object has come since that is not known here, nothing is deleted.
    /// - What was deleted by somebody else since the plan was made counts as deleted.
    ///
    /// # Errors
    /// What keeps the whole from being done; artifacts that could not be deleted are in the result.
    /// [`Cancelled`](crate::ErrorKind::Cancelled) between two batches of artifacts.
    ///
    /// # Cancel safety
    /// Safe: a later prune goes on where this one was dropped.
    pub async fn execute(&self) -> Result<Pruned> {
        let mut journal = Journal::begin(Verb::Prune, &self.folder, self.now, false);
        journal.dataset = Some(self.dataset.clone());
        let (mut pruned, mut gone) = (Pruned::default(), Vec::new());
        let total = u64::try_from(self.to_delete()).ok().map(Total::Exact);
        let step = Step::Prune(self.dataset.to_string());
        self.context.progress.event(Event::Begin { step, unit: Unit::Items, total });
        let result = self.carry_out(&mut pruned, &mut gone).await;
        self.context.progress.event(Event::End);
        let figures = result.as_ref().map(|()| Figures {
            outcome: Some(if pruned.failed.is_empty() { Outcome::Good } else { Outcome::Failed }),
            bytes: Some(pruned.bytes),
            ..Figures::default()
        });
        let record = journal.record(&*self.sink, figures.as_ref().map_err(|error| *error)).map(|mut record| {
            // What is gone is said of a prune that failed halfway too.
            record.items = Some(gone.len() as u64);
            record.remember(gone);
            record
        });
        if self.history
            && let Some(record) = record
            && let Err(note) = journal.write(&self.sink, &record, Journal::patience(&self.context)).await
        {
            match &result {
                Ok(()) => pruned.notes.push(note),
                Err(_) => tracing::warn!("{note}"),
            }
        }
        result.map(|()| pruned)
    }

    async fn carry_out(&self, pruned: &mut Pruned, gone: &mut Vec<DeletedArtifact>) -> Result<()> {
        let Doomed { artifacts, mut spared } = match self.doomed().await? {
            Ok(doomed) => doomed,
            Err(unknown) => {
                pruned.notes.push(format!("nothing was deleted: {unknown} has appeared since, and is not known here"));
                return Ok(());
            }
        };
        for level in self.verdicts.deletions() {
            let level: Vec<usize> = level.iter().map(|&i| usize::try_from(i).expect("a position fits")).collect();
            pruned.deleted.extend(level.iter().filter(|i| !artifacts.contains_key(i)).map(|&i| self.key(i)));
            let there = level.into_iter().filter_map(|i| Some((i, artifacts.get(&i)?)));
            let there: Vec<(usize, &Artifact)> = there.filter(|(i, _)| !spared.contains_key(i)).collect();
            for batch in there.chunks(BATCH) {
                if self.context.cancel.is_cancelled() {
                    return Err(Error::cancelled("prune", self.dataset.to_string()));
                }
                self.context.progress.event(Event::Advance(batch.len() as u64));
                for (i, artifact) in self.delete(batch.to_vec(), pruned, gone).await? {
                    self.spare(i, &format!("{}, which stays, needs it", artifact.key()), &mut spared);
                }
            }
        }
        let notes = spared.into_iter().map(|(i, why)| format!("{} stays: {why}", self.key(i)));
        pruned.notes.extend(notes);
        Ok(())
    }

    /// Deletes these, none of which needs another of them, and returns those that stay.
    async fn delete<'a>(
        &self,
        mut batch: Vec<(usize, &'a Artifact)>,
        pruned: &mut Pruned,
        gone: &mut Vec<DeletedArtifact>,
    ) -> Result<Vec<(usize, &'a Artifact)>> {
        let all = batch.clone();
        let held = self.held_of(&batch.iter().map(|(_, artifact)| *artifact).collect::<Vec<_>>()).await?;
        batch.retain(|(_, artifact)| held.iter().all(|h| h.key != artifact.key()));
        pruned.held.extend(held);

        let manifests: Vec<String> = batch.iter().filter_map(|(_, a)| a.manifest.clone()).collect();
        let first = self.sink.delete(&manifests).await?;
        let stays: HashSet<&str> =
            first.failed.iter().map(|(key, _)| key.as_str()).chain(first.held.iter().map(|h| h.key.as_str())).collect();
        batch.retain(|(_, artifact)| artifact.manifest.as_deref().is_none_or(|m| !stays.contains(m)));
        pruned.note(&first, self);

        let rest: Vec<String> = batch.iter().flat_map(|(_, a)| a.keys_without_manifest()).collect();
        let second = self.sink.delete(&rest).await?;
        let failed: HashSet<&str> = second.failed.iter().map(|(key, _)| key.as_str()).collect();
        batch.retain(|(_, a)| a.keys_without_manifest().iter().all(|key| !failed.contains(key.as_str())));
        for (_, artifact) in &batch {
            pruned.deleted.push(artifact.key());
            gone.push(DeletedArtifact::of(artifact));
            if second.bytes.is_none() {
                pruned.bytes += artifact.bytes();
            }
        }
        pruned.note(&second, self);

        // What an artifact needs and how much it holds is said as long as anything of it is there.
        let sidecars: Vec<String> = batch.iter().flat_map(|(_, a)| a.sidecar_keys()).collect();
        if !sidecars.is_empty() {
            let third = self.sink.delete(&sidecars).await?;
            pruned.note(&third, self);
        }
        let away: HashSet<usize> = batch.iter().map(|(i, _)| *i).collect();
        Ok(all.into_iter().filter(|(i, _)| !away.contains(i)).collect())
    }

    /// Leaves what this one needs, directly or not.
    fn spare(&self, i: usize, why: &str, spared: &mut BTreeMap<usize, String>) {
        for &base in self.verdicts.needs_of(i) {
            if !self.verdicts.keeps(base) && !spared.contains_key(&base) {
                spared.insert(base, why.to_owned());
                self.spare(base, why, spared);
            }
        }
    }

    /// What is to be deleted and is there, with all its objects; or the key of what has come and is not known here.
    async fn doomed(&self) -> Result<Result<Doomed, String>> {
        let mut doomed = Doomed { artifacts: BTreeMap::new(), spared: BTreeMap::new() };
        if self.to_delete() == 0 {
            return Ok(Ok(doomed));
        }
        let mut needed = BTreeSet::new();
        let mut listed = catalog::list_all(&*self.sink, &self.folder, Some(&self.dataset));
        while let Some(listed) = listed.next().await {
            let Listed { mut artifact, state } = listed?;
            if state == State::Gone {
                continue;
            }
            if let Some(unknown) = artifact.unknown.pop() {
                return Ok(Err(unknown));
            }
            match self.deletes(&artifact.name) {
                Some(i) if state == State::Whole => drop(doomed.artifacts.insert(i, artifact)),
                _ => needed.extend(artifact.needs.iter().filter_map(|n| Some((self.deletes(n)?, artifact.key())))),
            }
        }
        for (base, by) in needed {
            let why = format!("{by}, which has appeared since, needs it");
            doomed.spared.entry(base).or_insert_with(|| why.clone());
            self.spare(base, &why, &mut doomed.spared);
        }
        Ok(Ok(doomed))
    }

    /// The positions of what is to be deleted.
    fn deletions(&self) -> impl Iterator<Item = usize> {
        (0..self.facts.all.len()).filter(|&i| !self.verdicts.keeps(i))
    }

    /// The position of an artifact that is to be deleted; `None` for one that is kept or has come since.
    fn deletes(&self, name: &ArtifactName) -> Option<usize> {
        self.facts.position(name).filter(|&i| !self.verdicts.keeps(i))
    }

    fn key(&self, i: usize) -> String {
        self.facts.key(&self.folder, &self.dataset, self.facts.all[i].place())
    }

    async fn held_of(&self, batch: &[&Artifact]) -> Result<Vec<Held>> {
        let of = |a: &Artifact| -> Vec<String> {
            let keys = a.manifest.iter().chain(a.objects.iter().map(|o| &o.key)).cloned();
            keys.chain(a.sidecar_keys()).collect()
        };
        let keys: Vec<String> = batch.iter().flat_map(|a| of(a)).collect();
        let held = upkeep(&*self.sink).held(&keys).await?;
        let by_key: HashMap<&str, &Held> = held.iter().map(|h| (h.key.as_str(), h)).collect();
        let longest = |artifact: &&Artifact| {
            let keys = of(artifact);
            let holds = keys.iter().filter_map(|key| by_key.get(key.as_str()));
            // A hold without an end is longer than any time.
            let longest = holds.max_by_key(|h| (h.until.is_none(), h.until))?;
            Some(Held { key: artifact.key(), ..(*longest).clone() })
        };
        Ok(batch.iter().filter_map(longest).collect())
    }
}

/// What is to be deleted, by positions.
struct Doomed {
    artifacts: BTreeMap<usize, Artifact>,
    /// What must stay all the same, and why.
    spared: BTreeMap<usize, String>,
}

impl Pruned {
    fn note(&mut self, deleted: &Deleted, prune: &PlannedPrune) {
        let doomed =
            |key: &&str| ArtifactName::parse(split_key(key).1).is_some_and(|name| prune.deletes(&name).is_some());
        self.bytes += deleted.bytes.unwrap_or(0);
        self.failed.extend(deleted.failed.iter().map(|(key, why)| Undeleted { key: key.clone(), why: why.clone() }));
        for held in &deleted.held {
            // The key of its artifact, where it is that of a manifest.
            let key = held.key.strip_suffix(MANIFEST_SUFFIX).filter(doomed).unwrap_or(&held.key);
            self.held.push(Held { key: key.to_owned(), ..held.clone() });
        }
        for note in &deleted.notes {
            if !self.notes.contains(note) {
                self.notes.push(note.clone());
            }
        }
    }
}

/// What a prune has done.
#[derive(Clone, Debug, Default, Serialize)]
#[non_exhaustive]
pub struct Pruned {
    /// Keys of the artifacts that are gone.
    pub deleted: Vec<String>,
    /// Stored bytes that were freed, older versions included.
    pub bytes: u64,
    /// Artifacts that the store holds, and until when: no failure. (Of an artifact that is gone, a record of a verification
    /// can be held.)
    pub held: Vec<Held>,
    /// What a person should know: that objects could only be hidden.
    pub notes: Vec<String>,
    /// What could not be deleted.
    pub failed: Vec<Undeleted>,
}

/// An object that could not be deleted.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Undeleted {
    /// Its key.
    pub key: String,
    /// Why not.
    pub why: String,
}
