//! [`Backup`]: from a source through the pipeline into one or more sinks.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::future::join_all;
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::amount::{self, AmountRules, Judgement, Told};
use super::estimate;
use super::flow::{self, Hashed, Meter};
use super::receipt::{HookFailure, Notes, Receipt, SinkOutcome};
use super::stall::{Asked, STALL_LIMIT, Subject, Watch};
use super::{room, run};
use crate::catalog::{Amount, Judged, Kind, MaxShrink, intent_key, lookup, need_name};
use crate::compress::Compression;
use crate::context::{Clock, Context};
use crate::encryptor::{self, Encryptor};
use crate::error::{Error, ErrorKind, Result};
use crate::hint::Hint;
use crate::history::{Failure, Figures, Journal, Outcome, Verb};
use crate::hooks::{Hooks, Occasion};
use crate::limiter::paced;
use crate::manifest::{EncryptionNote, FORMAT_VERSION, Manifest, Private, StoredObject};
use crate::memory::Confidential;
use crate::name::{ArtifactName, Dataset, MANIFEST_SUFFIX, join_key};
use crate::progress::{Event, Progress, Step, Unit};
use crate::sink::{PutOptions, Sink, see_that_it_is_there};
use crate::source::{Description, Source};
use crate::span;
use crate::stream::{self, ByteStream};

/// How long a further sink may take no data, or not answer a small request, before it is given up, when nothing else is set.
const SINK_GRACE: Duration = Duration::from_secs(60);
/// How much longer it may take no more data and not confirm either, once the first has confirmed: what it has in flight may
/// have to pass a slow line first.
const CONFIRMING: u32 = 5;
/// Chunks that each of several sinks may be behind.
const SINK_DEPTH: usize = 8;
/// How long an orderly end may take after a cancellation, before everything is dropped.
const CANCEL_GRACE: Duration = Duration::from_secs(3);
/// How long a run tries again because others have taken the name of its second. One of them wins each second.
const TAKEN_LIMIT: Duration = Duration::from_secs(60);

enum Encryption {
    Undecided,
    None,
    With(Arc<dyn Encryptor>),
}

/// Backs up a source: `Backup::new(source).encrypt(age).to(sink).run().await`.
///
/// When [`run`](Backup::run) returns, either the artifact with its manifest is in the sink, or nothing that could be
/// mistaken for one.
///
/// ```
/// use lifeboat_core::{Backup, Compression, Context, Encryptor, Result, Sink, Source};
///
/// async fn back_up(
///     source: impl Source + 'static,
///     key: impl Encryptor + 'static,
///     (near, far): (impl Sink + 'static, impl Sink + 'static),
///     context: Context,
/// ) -> Result<()> {
///     let backup = Backup::new(source).compress(Compression::zstd(3)).encrypt(key).to(near).also_to(far);
///     let receipt = backup.context(context).run().await?;
///     println!("{}: {} rows in {} bytes", receipt.key, receipt.rows, receipt.stored_bytes);
///     Ok(())
/// }
/// ```
pub struct Backup {
    source: Box<dyn Source>,
    dataset: Option<Dataset>,
    prefix: String,
    compression: Compression,
    encryption: Encryption,
    needs: Vec<ArtifactName>,
    sinks: Vec<Arc<dyn Sink>>,
    grace: Duration,
    stall_limit: Duration,
    amount: AmountRules,
    history: bool,
    hooks: Hooks,
    context: Context,
}

impl Backup {
    /// Creates a backup of `source`, compressed with zstd.
    pub fn new(source: impl Source + 'static) -> Self {
        Self {
            source: Box::new(source),
            dataset: None,
            prefix: String::new(),
            compression: Compression::default(),
            encryption: Encryption::Undecided,
            needs: Vec::new(),
            sinks: Vec::new(),
            grace: SINK_GRACE,
            stall_limit: STALL_LIMIT,
            amount: AmountRules::default(),
            history: true,
            hooks: Hooks::new(),
            context: Context::default(),
        }
    }

    /// Sets the name of the dataset. The default is the source's suggestion (the database's name).
    #[must_use]
    pub fn dataset(mut self, dataset: Dataset) -> Self {
        self.dataset = Some(dataset);
        self
    }

    /// Sets the folder in the sink.
    #[must_use]
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// Sets the compression.
    #[must_use]
    pub fn compress(mut self, compression: Compression) -> Self {
        self.compression = compression;
        self
    }

    /// Sets the encryptor.
    #[must_use]
    pub fn encrypt(mut self, encryptor: impl Encryptor + 'static) -> Self {
        self.encryption = Encryption::With(Arc::new(encryptor));
        self
    }

    /// Stores the artifact unencrypted, readable by everyone who can read the sink. The choice must be explicit:
    /// without this or [`encrypt`](Backup::encrypt), [`run`](Backup::run) fails.
    #[must_use]
    pub fn unencrypted(mut self) -> Self {
        self.encryption = Encryption::None;
        self
    }

    /// Adds artifacts that this one needs for a restore, such as the base of an increment, in addition to those in the
    /// source's [`Description`]. They must be of the same dataset and folder, and in every sink.
    #[must_use]
    pub fn needs(mut self, artifacts: impl IntoIterator<Item = ArtifactName>) -> Self {
        self.needs.extend(artifacts);
        self
    }

    /// Adds the sink to store in.
    #[must_use]
    pub fn to(mut self, sink: impl Sink + 'static) -> Self {
        self.sinks.push(Arc::new(sink));
        self
    }

    /// Adds another sink; the source is still read only once. If it fails or stalls, the first sink is not affected.
    #[must_use]
    pub fn also_to(self, sink: impl Sink + 'static) -> Self {
        self.to(sink)
    }

    /// Sets how long a sink other than the first may accept no data, or not answer a small request, before it is given
    /// up; by default 60 s. Once the first sink has confirmed, another one must make progress within five times as
    /// long.
    #[must_use]
    pub fn sink_grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// Sets how long the source may deliver no bytes while the run waits for it, or a sink accept none, before the run
    /// is given up; by default 2 hours. A warning is given after a minute.
    #[must_use]
    pub fn stall_limit(mut self, limit: Duration) -> Self {
        self.stall_limit = limit;
        self
    }

    /// Sets whether an empty dataset is acceptable. Otherwise, a plaintext of zero bytes is an error, and one without
    /// items or rows a warning.
    #[must_use]
    pub fn allow_empty(mut self, allow: bool) -> Self {
        self.amount.allow_empty = allow;
        self
    }

    /// Sets by how much the dataset may have shrunk since the previous backup, in items, rows or bytes, without a
    /// warning; by default by half. Beyond that, retention also keeps the fuller backup.
    #[must_use]
    pub fn max_shrink(mut self, limit: MaxShrink) -> Self {
        self.amount.max_shrink = limit;
        self
    }

    /// Sets whether the run writes a record to the [history](crate::history). It does by default.
    #[must_use]
    pub fn history(mut self, history: bool) -> Self {
        self.history = history;
        self
    }

    /// What is done [before and after](crate::hooks).
    #[must_use]
    pub fn hooks(mut self, hooks: Hooks) -> Self {
        self.hooks = hooks;
        self
    }

    /// Sets the receiver of progress.
    #[must_use]
    pub fn progress(mut self, progress: Arc<dyn Progress>) -> Self {
        self.context.progress = progress;
        self
    }

    /// Sets cancellation, progress and clock together.
    #[must_use]
    pub fn context(mut self, context: Context) -> Self {
        self.context = context.after(&self.context);
        self
    }

    /// Sets the clock, for tests.
    #[must_use]
    pub fn clock(mut self, clock: Clock) -> Self {
        self.context.clock = clock;
        self
    }

    /// Runs the backup.
    ///
    /// # Errors
    /// The source's error, or the first sink's if all sinks failed. If only some failed, the receipt says which.
    ///
    /// # Cancel safety
    /// A dropped future ends the source's children and leaves nothing that is listed; parts of an upload may stay
    /// behind for `prune --orphans`. To end early in good order, cancel the context's token, which aborts uploads. A
    /// dropped run writes no record. Either way each `after` of its [hooks](crate::hooks) runs.
    pub async fn run(self) -> Result<Receipt> {
        let span = span::of_run(Verb::Backup, self.dataset.as_ref().map(|dataset| dataset as &dyn Display));
        let cx = self.context.clone();
        run::within(span, &cx, Receipt::outcome, self.run_all()).await
    }

    async fn run_all(mut self) -> Result<Receipt> {
        let started = Instant::now();
        let confidential = self.source.is_confidential();
        let _confidential = confidential.then(Confidential::begin);
        let encryptor = match std::mem::replace(&mut self.encryption, Encryption::Undecided) {
            Encryption::With(encryptor) => Some(encryptor),
            Encryption::None | Encryption::Undecided if confidential => {
                let why = "it is nothing but secrets and is never stored unencrypted";
                return Err(Error::new(ErrorKind::Config, "back up", "the dataset", why).hint(Hint::ChooseEncryptor));
            }
            Encryption::None => None,
            Encryption::Undecided => {
                return Err(Error::new(ErrorKind::Config, "back up", "the dataset", "no encryption was chosen")
                    .hint(Hint::ChooseEncryption));
            }
        };
        if self.sinks.is_empty() {
            return Err(Error::new(ErrorKind::Config, "back up", "the dataset", "there is no sink to store it in"));
        }
        let notes = Arc::new(Notes::new(self.context.progress.clone()));
        let cx = Context { progress: notes.clone(), ..self.context.clone() };
        let mut journal = Journal::begin(Verb::Backup, &self.prefix, cx.now(), confidential);
        journal.dataset.clone_from(&self.dataset);
        let (history, sinks, grace) = (self.history, self.sinks.clone(), self.grace);
        let attempt = async {
            let subject = || self.dataset.as_ref().map_or_else(|| "the dataset".to_owned(), Dataset::to_string);
            let _turn = cx.turn("back up", subject, room::of_run(sinks.len())).await?;
            let (hooks, mut occasion) = (self.hooks.clone(), Occasion::new(Verb::Backup));
            occasion.dataset.clone_from(&self.dataset);
            let judge = |done: &Result<Receipt>, occasion: &mut Occasion| {
                let Ok(receipt) = done else { return Outcome::Failed };
                (occasion.dataset, occasion.key) = (Some(receipt.dataset.clone()), Some(receipt.key.clone()));
                if notes.kept().warnings.is_empty() { receipt.outcome() } else { Outcome::Warning }
            };
            let work = self.attempt(encryptor, &cx, &mut journal);
            let (done, failed) = hooks.around(occasion, &cx, judge, work).await;
            let mut receipt = done?;
            receipt.hook = failed.map(|error| HookFailure::new(&error, confidential));
            Ok(receipt)
        };
        let mut result = attempt.await;
        if let Ok(receipt) = &mut result {
            receipt.seconds = started.elapsed().as_secs_f64();
            receipt.warnings.clone_from(&notes.kept().warnings);
        }
        if history {
            write_records(&journal, &sinks, grace, &cx, result.as_ref()).await;
        }
        let mut receipt = result?;
        receipt.notes.clone_from(&notes.kept().notes);
        Ok(receipt)
    }

    async fn attempt(
        self,
        encryptor: Option<Arc<dyn Encryptor>>,
        cx: &Context,
        journal: &mut Journal,
    ) -> Result<Receipt> {
        let description = cx.unless_cancelled("back up", || "the dataset".to_owned(), self.source.describe()).await?;
        let dataset = match self.dataset {
            Some(dataset) => dataset,
            None => Dataset::new(description.dataset.clone())?,
        };
        journal.dataset = Some(dataset.clone());
        span::know(dataset.as_str(), &description.system);
        let name = ArtifactName {
            dataset: dataset.clone(),
            taken_at: this_second(cx),
            format: description.format.clone(),
            compression: self.compression.suffix().map(str::to_owned),
            encryption: encryptor.as_ref().map(|e| e.suffix().to_owned()),
        };
        // The catalog relies on names: an artifact whose name cannot be parsed would be stored and never found again.
        if ArtifactName::parse(&name.to_string()).as_ref() != Some(&name) {
            return Err(Error::new(ErrorKind::Config, "back up", dataset.to_string(), format!("\"{name}\" would not be read back as the name of an artifact"))
                .hint("a format is one or two words of letters, digits, '_' and '-', joined by a dot; encryptors have the suffix age or enc"));
        }
        if let Some(encryptor) = &encryptor {
            encryptor::check_names(&**encryptor)?;
        }
        let needs = needs_of(&name, self.needs.iter().chain(&description.needs))?;
        let mut run = Run {
            needs,
            folder: self.prefix.trim_matches('/').to_owned(),
            name,
            sinks: self.sinks,
            grace: self.grace,
            watch: Watch { limit: self.stall_limit, progress: cx.progress.clone() },
            amount: self.amount,
            compression: self.compression,
            encryptor,
            description,
            cx: cx.clone(),
        };
        let cancelled = async {
            cx.cancel.cancelled().await;
            tokio::time::sleep(CANCEL_GRACE).await;
        };
        tokio::select! {
            done = async {
                let announced = run.announce().await;
                journal.key = Some(run.key());
                run.execute(&*self.source, announced).await
            } => done,
            () = cancelled => Err(Error::cancelled("back up", dataset.to_string())),
        }
    }
}

/// Names carry whole seconds.
fn this_second(cx: &Context) -> Timestamp {
    Timestamp::from_second(cx.now().as_second()).unwrap_or_default()
}

/// Waits for the next second and returns it. `None` if the clock stands still.
async fn next_second(cx: &Context, taken: Timestamp) -> Option<Timestamp> {
    let now = cx.now();
    let left = Duration::try_from(taken.saturating_add(jiff::SignedDuration::from_secs(1)).ok()?.duration_since(now));
    // Not at its very start: runs that wait for the same second should not all start at once.
    let apart = Duration::from_millis(u64::from(std::process::id() % 97));
    tokio::time::sleep(left.unwrap_or_default().min(Duration::from_secs(1)) + apart).await;
    let now = this_second(cx);
    (now > taken).then_some(now)
}

/// Writes the record of a run to every sink. In a sink without the artifact, the run has failed; in the others, it has
/// then succeeded with a warning.
async fn write_records(
    journal: &Journal,
    sinks: &[Arc<dyn Sink>],
    grace: Duration,
    cx: &Context,
    result: Result<&Receipt, &Error>,
) {
    let each = sinks.iter().enumerate().map(|(index, sink)| async move {
        let figures = result.map(|receipt| Figures {
            outcome: Some(receipt.outcome()),
            bytes: Some(receipt.stored_bytes),
            items: Some(receipt.items as u64),
            rows: Some(receipt.rows),
        });
        let mut record = journal.record(&**sink, figures.as_ref().map_err(|error| *error))?;
        record.error = result.ok().and_then(|receipt| Some(receipt.hook.as_ref()?.failure.clone())).or(record.error);
        let failure = result.ok().and_then(|receipt| receipt.sinks.get(index)?.failure.clone());
        if let Some(failure) = failure {
            (record.outcome, record.error) = (Outcome::Failed, Some(failure));
        }
        let patience = Journal::patience(cx);
        let patience = if index == 0 { patience } else { patience.min(grace) };
        journal.write(sink, &record, patience).await.err()
    });
    for note in join_all(each).await.into_iter().flatten() {
        cx.progress.event(Event::Note(note));
    }
}

impl std::fmt::Debug for Backup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Backup").field("dataset", &self.dataset).field("sinks", &self.sinks).finish_non_exhaustive()
    }
}

/// The dependencies of an artifact, each once.
fn needs_of<'a>(name: &ArtifactName, needs: impl Iterator<Item = &'a ArtifactName>) -> Result<BTreeSet<ArtifactName>> {
    let needs: BTreeSet<ArtifactName> = needs.cloned().collect();
    let wrong = needs
        .iter()
        .find(|n| n.dataset != name.dataset || *n == name || ArtifactName::parse(&n.to_string()).as_ref() != Some(n));
    match wrong {
        Some(wrong) => {
            let why = format!("it needs \"{wrong}\", which is not another artifact of the same dataset");
            Err(Error::new(ErrorKind::Config, "back up", name.dataset.to_string(), why))
        }
        None => Ok(needs),
    }
}

/// The keys of the sidecars that were begun, by the number of the sink.
#[derive(Default)]
struct Said(Mutex<BTreeMap<usize, String>>);

impl Said {
    fn note(&self, sink: usize, key: String) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(sink, key);
    }

    fn of(&self, sink: usize) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&sink).cloned()
    }
}

struct Run {
    needs: BTreeSet<ArtifactName>,
    folder: String,
    name: ArtifactName,
    sinks: Vec<Arc<dyn Sink>>,
    grace: Duration,
    watch: Watch,
    amount: AmountRules,
    compression: Compression,
    encryptor: Option<Arc<dyn Encryptor>>,
    description: Description,
    cx: Context,
}

impl Run {
    fn artifact(&self) -> String {
        self.name.to_string()
    }

    fn key(&self) -> String {
        join_key(&self.folder, &self.artifact())
    }

    /// Announces the artifact in every sink, under the name of the first second that nobody else has taken. Returns the
    /// failures by sink.
    async fn announce(&mut self) -> Vec<Option<Error>> {
        let begun = Instant::now();
        loop {
            let run = &*self;
            let announced = run.sinks.iter().enumerate().map(|(index, sink)| async move {
                run.within_grace(index, run.announce_in(sink)).await.unwrap_or_else(Some)
            });
            let failed: Vec<Option<Error>> = join_all(announced).await;
            let taken = failed.iter().flatten().any(|error| error.kind() == ErrorKind::AlreadyExists);
            if !taken || begun.elapsed() > TAKEN_LIMIT {
                return failed;
            }
            tracing::debug!(artifact = %self.name, "another run has this second's name: waiting for the next");
            let Some(next) = next_second(&run.cx, run.name.taken_at).await else { return failed };
            let announced = run.sinks.iter().enumerate().filter(|(index, _)| failed[*index].is_none());
            let withdrawn = announced.map(|(index, sink)| async move {
                let mut keys = run.need_keys();
                keys.push(intent_key(&run.folder, &run.artifact()));
                run.within_grace(index, run.take_away(sink, keys)).await
            });
            for error in join_all(withdrawn).await.into_iter().filter_map(Result::err) {
                tracing::warn!(%error, "what this run has left there stays; pruning orphans removes it");
            }
            self.name.taken_at = next;
        }
    }

    async fn execute(&self, source: &dyn Source, mut failed: Vec<Option<Error>>) -> Result<Receipt> {
        let willing: Vec<usize> = (0..self.sinks.len()).filter(|i| failed[*i].is_none()).collect();
        if willing.is_empty() {
            return Err(failed.remove(0).expect("every sink has failed"));
        }
        // The names that say how much it holds, by the sinks that have one.
        let said = Said::default();
        let unfinished = Error::new(ErrorKind::Internal, "store", self.key(), "the run did not get that far");
        let result = self.store(source, &willing, &mut failed, &said).await;
        join_all(willing.iter().map(|index| {
            let stored =
                if result.is_ok() { failed[*index].as_ref() } else { failed[*index].as_ref().or(Some(&unfinished)) };
            let settled = self.settle(&self.sinks[*index], stored, said.of(*index));
            async move {
                if let Err(error) = self.within_grace(*index, settled).await {
                    tracing::warn!(%error, "what this run left there stays; pruning orphans removes it");
                }
            }
        }))
        .await;
        let (hashed, tapped) = match result {
            Ok(done) => done,
            Err(Some(error)) => return Err(error),
            Err(None) => {
                let first = willing.iter().find_map(|index| failed[*index].take());
                return Err(first.unwrap_or_else(|| {
                    let why = "it was confirmed before its end";
                    Error::new(ErrorKind::Internal, "store", self.key(), why)
                }));
            }
        };
        Ok(Receipt {
            dataset: self.name.dataset.clone(),
            key: self.key(),
            taken_at: self.name.taken_at,
            plaintext_bytes: tapped.bytes,
            stored_bytes: hashed.bytes,
            sha256: hashed.sha256,
            items: tapped.proof.items.len(),
            rows: tapped.proof.total_count(),
            kinds: tapped.proof.by_kind().into_iter().map(|(kind, (_, count))| (kind.to_owned(), count)).collect(),
            seconds: 0.0,
            sinks: self
                .sinks
                .iter()
                .zip(&failed)
                .map(|(sink, error)| SinkOutcome {
                    url: sink.url(),
                    kind: error.as_ref().map(Error::kind),
                    error: error.as_ref().map(ToString::to_string),
                    hint: error.as_ref().map(advice_for_later),
                    failure: error.as_ref().map(|error| Failure::of(error, source.is_confidential())),
                })
                .collect(),
            hook: None,
            notes: Vec::new(),
            warnings: Vec::new(),
        })
    }

    /// Waits for the first sink as long as it takes, and for any other no longer than the grace period, so that it
    /// cannot hold up the first.
    async fn within_grace<T>(&self, index: usize, work: impl Future<Output = T>) -> Result<T> {
        if index == 0 {
            return Ok(work.await);
        }
        tokio::time::timeout(self.grace, work).await.map_err(|_| self.gave_no_answer(index, self.grace))
    }

    fn gave_no_answer(&self, index: usize, grace: Duration) -> Error {
        let why = format!("it did not answer for {} s and was given up", grace.as_secs());
        Error::new(ErrorKind::Unavailable, "write to", self.sinks[index].url(), why).hint(Hint::ReplicateLater)
    }

    /// Makes sure that this artifact's name is free.
    async fn check_free(&self, sink: &Arc<dyn Sink>) -> Result<()> {
        for key in [self.key(), format!("{}{MANIFEST_SUFFIX}", self.key())] {
            match sink.head(&key).await {
                Ok(_) => {
                    return Err(Error::new(
                        ErrorKind::AlreadyExists,
                        "write",
                        key,
                        "an object of that name already exists",
                    )
                    .hint("run again: a second later the name is different"));
                }
                // A key that may only write cannot look; the sink itself never overwrites.
                Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Permission) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Makes sure that the name is free, and notes in the sink that this artifact is about to be written. From then on,
    /// everything under the name belongs to this run, which may delete it if it fails.
    async fn announce_in(&self, sink: &Arc<dyn Sink>) -> Option<Error> {
        // Before the note: a run that is killed must not leave one beside what another has stored.
        if let Err(error) = self.check_free(sink).await {
            return Some(error);
        }
        if let Some(error) = self.leave_note(sink).await {
            return Some(error);
        }
        // And after it: a run of the same second may have finished, and taken its note away, in between.
        if let Err(error) = self.check_free(sink).await {
            let note = intent_key(&self.folder, &self.artifact());
            if let Err(error) = sink.delete(&[note]).await {
                tracing::debug!(sink = sink.url(), %error, "the note of this run stays");
            }
            return Some(error);
        }
        // The first thing that is there of an increment, so that a prune leaves its base from now on.
        let error = self.leave_needs(sink).await.err()?;
        self.settle(sink, Some(&error), None).await;
        Some(error)
    }

    /// Writes sidecars whose names say what the artifact needs, and makes sure that those artifacts exist.
    async fn leave_needs(&self, sink: &Arc<dyn Sink>) -> Result<()> {
        for key in self.need_keys() {
            let body = serde_json::json!({ "artifact": self.artifact() });
            sink.put_with(&key, stream::once(format!("{body}\n")), PutOptions::new().lock(true)).await?;
        }
        for needed in &self.needs {
            match lookup(&**sink, &self.folder, needed).await {
                Ok(Some(found)) if found.kind != Kind::Damaged => {}
                // A key that may only write cannot look.
                Err(error) if error.kind() == ErrorKind::Permission => {}
                Err(error) => return Err(error),
                Ok(_) => {
                    let why = format!("it needs {needed}, which is not there");
                    return Err(Error::new(ErrorKind::NotFound, "write", self.key(), why)
                        .hint("back up a new base; if another sink has it, `lifeboat replicate` copies it"));
                }
            }
        }
        Ok(())
    }

    fn need_keys(&self) -> Vec<String> {
        let names = self.needs.iter().filter_map(|needed| need_name(&self.name, needed));
        names.map(|name| join_key(&self.folder, &name)).collect()
    }

    async fn leave_note(&self, sink: &Arc<dyn Sink>) -> Option<Error> {
        let note = serde_json::json!({ "artifact": self.artifact(), "started_at": self.cx.now(), "process": std::process::id() });
        sink.put(&intent_key(&self.folder, &self.artifact()), stream::once(note.to_string())).await.err().map(|error| {
            if error.kind() != ErrorKind::AlreadyExists {
                return error;
            }
            Error::new(
                ErrorKind::AlreadyExists,
                "write",
                self.key(),
                "another run is writing the same artifact, or was killed while it did",
            )
            .hint(Hint::RunAgainOrPruneOrphans)
        })
    }

    /// Leaves the sink in a proper state after the run: with the artifact and no note, or with neither. If a note has
    /// to stay, it prevents leftovers from being mistaken for a backup, until `prune --orphans` removes both.
    async fn settle(&self, sink: &Arc<dyn Sink>, failure: Option<&Error>, sidecar: Option<String>) {
        let withdraw = failure.is_some_and(|e| e.kind() != ErrorKind::AlreadyExists);
        let note = intent_key(&self.folder, &self.artifact());
        if !withdraw {
            self.take_away(sink, [note]).await;
            return;
        }
        // A store may have done what its lost answer would have confirmed. The manifest goes first: alone it would speak of an
        // object that is gone.
        let manifest = format!("{}{MANIFEST_SUFFIX}", self.key());
        let stored = [manifest.clone(), self.key()];
        let keys = stored.iter().cloned().chain(self.need_keys()).chain(sidecar);
        let gone = self.take_away(sink, keys).await;
        // A deletion that is only said to be done leaves what looks like a good backup.
        let mut stays = Vec::new();
        for key in stored {
            if sink.head(&key).await.is_ok() {
                stays.push(key);
            }
        }
        if stays.contains(&manifest) {
            let words = format!(
                "{} was not made, and stays in {}, where it is listed like a backup: verify it, or delete it there",
                self.key(),
                sink.url()
            );
            self.cx.progress.event(Event::Note(words));
        }
        if gone && stays.is_empty() {
            self.take_away(sink, [note]).await;
        }
    }

    /// Deletes these one by one, stopping at the first that stays. Returns whether all are gone, according to the sink.
    async fn take_away(&self, sink: &Arc<dyn Sink>, keys: impl IntoIterator<Item = String>) -> bool {
        for key in keys {
            match sink.delete(&[key]).await {
                Ok(deleted) if deleted.failed.is_empty() && deleted.held.is_empty() => {}
                Ok(deleted) if deleted.failed.is_empty() => {
                    tracing::debug!(sink = sink.url(), why = %deleted.held[0], "the note of this run stays");
                    return false;
                }
                // A key that may not delete is a good key for a writer.
                Ok(deleted) => {
                    tracing::debug!(sink = sink.url(), why = deleted.failed[0].1, "the note of this run stays");
                    return false;
                }
                Err(error) => {
                    tracing::warn!(sink = sink.url(), %error, "the note of this run stays; pruning orphans removes it");
                    return false;
                }
            }
        }
        true
    }

    async fn store(
        &self,
        source: &dyn Source,
        willing: &[usize],
        failed: &mut [Option<Error>],
        said: &Said,
    ) -> Result<(Hashed, flow::Tapped), Option<Error>> {
        let cx = &self.cx;
        cx.progress.event(Event::Begin {
            step: Step::BackUp(self.name.dataset.to_string()),
            unit: Unit::Bytes,
            total: None,
        });
        // What a source does before its first byte has limits of its own, and may rightly take long.
        let reading = source.open(cx).await.map_err(Some)?;
        let subject = Subject::source(&self.description.system, self.name.dataset.as_str());
        let stream = self.watch.reading(reading.stream, subject);
        let stream = if self.amount.allow_empty { stream } else { flow::not_empty(stream, &self.name.dataset) };
        // Behind the watch: what waits for its turn does not stand still.
        let stream = paced(stream, cx.limiter.source_bucket().as_ref(), || 1, &cx.cancel);
        let stream = flow::until_cancelled(stream, cx.cancel.clone(), "back up", self.name.dataset.to_string());
        let stream = flow::count(stream, cx.progress.clone());
        let (plain, tapped) = flow::tap(stream, reading.tap, cx.progress.clone());
        let packed = self.compression.compress(plain);
        let sealed = match &self.encryptor {
            Some(encryptor) => encryptor::seal(encryptor, packed).map_err(Some)?,
            None => packed,
        };
        let (stored, hashed) = flow::hash(sealed, None, self.key());
        let key = self.key();
        // Cancelled when the first of them has confirmed: the stream has ended then.
        let first_done = CancellationToken::new();
        // Before it is split: a sink that is kept waiting by the limit has not stalled.
        let writing = Arc::new(AtomicU64::new(willing.len() as u64));
        let counted = writing.clone();
        let stored = paced(stored, cx.limiter.upload_bucket(), move || counted.load(Ordering::Relaxed), &cx.cancel);
        let bodies = stream::split(stored, willing.len(), SINK_DEPTH, self.grace);
        let puts = bodies.into_iter().zip(willing).enumerate().map(|(place, (body, index))| {
            let (sink, key, meter, first_done) = (&self.sinks[*index], &key, Meter::default(), &first_done);
            let body = OneLess { writing: writing.clone() }.with(body);
            async move {
                let asked = Asked::default();
                let body = asked.watch(meter.watch(body));
                let put = span::put(&**sink, key, sink.put_with(key, body, PutOptions::new().lock(true)));
                let subject = Subject::sink(sink.url());
                let put = self.watch.writing(&subject, &meter, &asked, put);
                if place == 0 {
                    let put = put.await;
                    if put.is_ok() {
                        first_done.cancel();
                    }
                    return (*index, meter, put);
                }
                let grace = self.grace * CONFIRMING;
                let put = tokio::select! {
                    put = put => put,
                    () = given_up(first_done, &meter, grace) => Err(self.gave_no_answer(*index, grace)),
                };
                (*index, meter, put)
            }
        });
        let mut sizes = Vec::new();
        let first: &dyn Sink = &*self.sinks[willing[0]];
        let increment = !self.needs.is_empty();
        let estimate = estimate::tell(source, (first, &self.folder), &self.name, increment, &*cx.progress);
        for (index, meter, put) in estimate::beside(join_all(puts), estimate).await {
            match put {
                Ok(bytes) if bytes == meter.bytes() => sizes.push((index, bytes)),
                Ok(bytes) => {
                    let why = format!("it confirmed {bytes} of the {} bytes sent", meter.bytes());
                    failed[index] = Some(Error::new(ErrorKind::Internal, "store", &key, why));
                }
                Err(error) => failed[index] = Some(error),
            }
        }
        cx.progress.event(Event::End);
        // Both are sent before the stream ends well, and a sink confirms only after that.
        let (Ok(hashed), Ok(tapped)) = (hashed.await, tapped.await) else { return Err(None) };
        for (index, bytes) in sizes {
            if bytes != hashed.bytes {
                let why = format!("{bytes} of {} bytes arrived", hashed.bytes);
                failed[index] = Some(Error::new(ErrorKind::Internal, "store", &key, why));
            }
        }
        // What is not there cannot be an artifact, whatever was confirmed.
        let looks = willing.iter().filter(|i| failed[**i].is_none()).map(|index| {
            let (sink, key, bytes) = (&self.sinks[*index], &key, hashed.bytes);
            async move {
                let looked = see_that_it_is_there(&**sink, "store", key, bytes);
                (*index, self.within_grace(*index, looked).await.and_then(|looked| looked))
            }
        });
        for (index, looked) in join_all(looks).await {
            failed[index] = looked.err();
        }
        if willing.iter().all(|i| failed[*i].is_some()) {
            return Err(None);
        }
        let stored: Vec<usize> = willing.iter().copied().filter(|i| failed[*i].is_none()).collect();
        let judgements = self.judge(&stored, Amount::of(&tapped.proof, tapped.bytes)).await;
        // The commit point: from here on it is an artifact.
        let manifest = self.manifest(&hashed, &tapped).await.map_err(Some)?.to_bytes();
        let commits = stored.iter().zip(&judgements).map(|(index, judgement)| {
            let (sink, manifest) = (&self.sinks[*index], manifest.clone());
            let key = format!("{key}{MANIFEST_SUFFIX}");
            async move {
                let bytes = manifest.len() as u64;
                let commit = async {
                    // Most hold what could be expected: then there is nothing to say.
                    if let Some(judgement) = judgement.as_ref().filter(|judgement| judgement.judged != Judged::Whole) {
                        said.note(*index, amount::sidecar(&self.folder, &self.name, judgement));
                        amount::leave(sink, &self.folder, &self.name, judgement).await?;
                    }
                    sink.put_with(&key, stream::once(manifest), PutOptions::new().lock(true)).await?;
                    see_that_it_is_there(&**sink, "store", &key, bytes).await
                };
                (*index, self.within_grace(*index, commit).await.and_then(|put| put))
            }
        });
        for (index, committed) in join_all(commits).await {
            failed[index] = committed.err();
        }
        if willing.iter().all(|i| failed[*i].is_some()) {
            return Err(None);
        }
        Ok((hashed, tapped))
    }

    /// Compares what was read with the earlier artifacts in each of these sinks. Increments hold only changes and are
    /// skipped.
    async fn judge(&self, sinks: &[usize], amount: Amount) -> Vec<Option<Judgement>> {
        if !self.needs.is_empty() {
            return vec![None; sinks.len()];
        }
        let judged = join_all(sinks.iter().map(|index| async move {
            let (sink, rules) = (&*self.sinks[*index], self.amount);
            let judging = rules.judge(sink, &self.folder, &self.name, amount);
            let judging = tokio::time::timeout(self.grace, judging);
            judging.await.unwrap_or_else(|_| {
                AmountRules::unjudged(amount, Some(self.gave_no_answer(*index, self.grace).to_string()))
            })
        }));
        let judged = judged.await;
        for (index, judgement) in sinks.iter().zip(&judged) {
            match self.amount.words(&self.name, &self.sinks[*index].url(), self.description.unit, judgement) {
                Some(Told::Warning(text, hint)) => self.cx.progress.event(Event::Warning { text, hint }),
                Some(Told::Note(note)) => self.cx.progress.event(Event::Note(note)),
                None => {}
            }
        }
        judged.into_iter().map(Some).collect()
    }

    async fn manifest(&self, hashed: &Hashed, tapped: &flow::Tapped) -> Result<Manifest> {
        let private = Private { proof: tapped.proof.clone(), plaintext_xxh3_128: tapped.xxh3_128.clone() };
        Ok(Manifest {
            format_version: FORMAT_VERSION,
            written_by: concat!("lifeboat ", env!("CARGO_PKG_VERSION")).to_owned(),
            dataset: self.name.dataset.clone(),
            artifact: self.artifact(),
            taken_at: self.name.taken_at,
            finished_at: self.cx.now(),
            plaintext_bytes: tapped.bytes,
            items: Some(tapped.proof.items.len() as u64),
            rows: Some(tapped.proof.total_count()),
            stored_bytes: hashed.bytes,
            objects: vec![StoredObject { name: self.artifact(), bytes: hashed.bytes, sha256: hashed.sha256.clone() }],
            compression: self.compression.to_string(),
            encryption: self
                .encryptor
                .as_ref()
                .map(|e| EncryptionNote { scheme: e.scheme().to_owned(), recipients: e.recipients() }),
            needs: self.needs.iter().map(ToString::to_string).collect(),
            source: self.description.clone(),
            private: private.store(self.encryptor.as_ref()).await?,
        })
    }
}

/// Ends when a further sink has taken nothing for `grace` after the first was done.
async fn given_up(first_done: &CancellationToken, meter: &Meter, grace: Duration) {
    first_done.cancelled().await;
    loop {
        let taken = meter.bytes();
        tokio::time::sleep(grace).await;
        if meter.bytes() == taken {
            return;
        }
    }
}

/// Counts the sinks that are being written to: one less when the body of one of them has gone.
struct OneLess {
    writing: Arc<AtomicU64>,
}

impl OneLess {
    fn with(self, body: ByteStream) -> ByteStream {
        body.inspect(move |_| {
            let _held = &self;
        })
        .boxed()
    }
}

impl Drop for OneLess {
    fn drop(&mut self) {
        self.writing.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What to do about a sink that did not get the artifact while others did: it need not be read from the source again.
fn advice_for_later(error: &Error) -> Hint {
    match error.typed_hint() {
        Some(hint) => hint.clone().and(Hint::ReplicateLater),
        None => Hint::ReplicateLater,
    }
}
