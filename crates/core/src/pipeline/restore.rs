//! [`Restore`]: from a sink back into a live system.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;
use tracing::{Instrument, Span};

use super::{read, room, run, series};
use crate::catalog::{Artifact, Less};
use crate::context::Context;
use crate::encryptor::Encryptor;
use crate::error::{Error, ErrorKind, Result};
use crate::hint::Hint;
use crate::history::{Figures, Journal, Outcome, Verb};
use crate::hooks::{Hooks, Occasion};
use crate::limiter::Turn;
use crate::memory::Confidential;
use crate::plan::{Plan, Prepared};
use crate::progress::{Event, Step, Total, Unit};
use crate::report::Check;
use crate::sink::Sink;
use crate::span;
use crate::stream::ByteStream;
use crate::target::{RestoreInput, Target};
use crate::words::Noun;

/// Restores an artifact: `Restore::new(sink, artifact).key(age).into(&target).await`.
///
/// ```
/// use lifeboat_core::catalog::{self, At};
/// use lifeboat_core::{Dataset, Encryptor, Restore, Result, Sink, Target};
///
/// /// Restores the newest backup.
/// async fn restore(sink: impl Sink + 'static, key: impl Encryptor + 'static, target: &dyn Target) -> Result<()> {
///     let newest = catalog::find(&sink, "databases", &Dataset::new("shop")?, &At::Latest).await?;
///     for check in Restore::new(sink, newest).key(key).into(target).await?.checks {
///         println!("{}: {}", check.name, check.figure);
///     }
///     Ok(())
/// }
/// ```
pub struct Restore {
    sink: Arc<dyn Sink>,
    artifact: Artifact,
    keys: Vec<Arc<dyn Encryptor>>,
    history: bool,
    hooks: Hooks,
    context: Context,
}

impl Restore {
    /// Creates a restore of `artifact`, as returned by [`catalog::find`](crate::catalog::find).
    pub fn new(sink: impl Sink + 'static, artifact: Artifact) -> Self {
        Self {
            sink: Arc::new(sink),
            artifact,
            keys: Vec::new(),
            history: true,
            hooks: Hooks::new(),
            context: Context::default(),
        }
    }

    /// Adds a key to decrypt with. The right one is chosen by the artifact's magic bytes.
    #[must_use]
    pub fn key(mut self, encryptor: impl Encryptor + 'static) -> Self {
        self.keys.push(Arc::new(encryptor));
        self
    }

    /// Adds several keys.
    #[must_use]
    pub fn keys(self, encryptors: impl IntoIterator<Item = impl Encryptor + 'static>) -> Self {
        encryptors.into_iter().fold(self, Self::key)
    }

    /// Sets whether the run writes a record to the [history](crate::history) of the sink it reads. It does by default.
    #[must_use]
    pub fn history(mut self, history: bool) -> Self {
        self.history = history;
        self
    }

    /// What is done [before and after](crate::hooks): of a restore with a plan, before and after it is carried out. An `after` that
    /// fails is a failed check of the result.
    #[must_use]
    pub fn hooks(mut self, hooks: Hooks) -> Self {
        self.hooks = hooks;
        self
    }

    /// Sets cancellation, progress and clock.
    #[must_use]
    pub fn context(mut self, context: Context) -> Self {
        self.context = context.after(&self.context);
        self
    }

    /// What is restored.
    pub(super) fn artifact(&self) -> &Artifact {
        &self.artifact
    }

    /// Opens the plaintext as a stream, for a program that does its own restore. It can be trusted only after it has
    /// ended without an error: stored bytes and plaintext are compared with the manifest on the way.
    ///
    /// # Errors
    /// Errors of reading and decrypting; later errors are items of the stream.
    /// [`ErrorKind::Unsupported`] for an artifact that needs others: use [`input`](Restore::input), which includes
    /// them.
    pub async fn stream(&self) -> Result<ByteStream> {
        let input = self.input().await?;
        input.check_series(false)?;
        Ok(input.stream)
    }

    /// Opens the input for a target: the plaintext, and what to restore before it. For a program that does its own
    /// restore.
    ///
    /// # Errors
    /// Errors of reading and decrypting; [`ErrorKind::NotFound`] if an artifact that it needs is missing;
    /// [`ErrorKind::Corrupt`] if its manifest and its sidecars disagree about what it needs.
    pub async fn input(&self) -> Result<RestoreInput> {
        self.context.limiter.govern(self.open()).await
    }

    async fn open(&self) -> Result<RestoreInput> {
        let read = self.artifact.read_manifest(&*self.sink);
        let manifest = self.context.unless_cancelled("restore", || self.artifact.key(), read).await?;
        let private = match &manifest {
            Some(manifest) => {
                span::know(manifest.dataset.as_str(), &manifest.source.system);
                Some(manifest.private(&self.keys).await?)
            }
            None => None,
        };
        let chain = async {
            let before = series::before(&*self.sink, &self.artifact, manifest.as_ref()).await?;
            series::links(&self.sink, before, &self.keys, &self.context).await
        };
        let chain = self.context.unless_cancelled("restore", || self.artifact.key(), chain).await?;
        let (stored, _) = read::stored(self.sink.clone(), &self.artifact, manifest.as_ref(), &self.context);
        let plain = read::plaintext(stored, &self.artifact, manifest.as_ref(), &self.keys).await?;
        let stream = read::check_plaintext(plain, private.as_ref(), self.artifact.key());
        Ok(RestoreInput::new(stream, self.artifact.name.clone(), private.map(|p| p.proof)).after(chain))
    }

    /// Restores into a target.
    ///
    /// # Errors
    /// Errors of reading and decrypting, and of the target; the live system is then as before.
    ///
    /// # Cancel safety
    /// Like [`Target::restore`]: cancel through the context's token.
    pub async fn into(self, target: &dyn Target) -> Result<Restored> {
        run::within(self.span(), &self.context, Restored::outcome, self.restore_into(target)).await
    }

    async fn restore_into(&self, target: &dyn Target) -> Result<Restored> {
        let started = Instant::now();
        let _confidential = target.is_confidential().then(Confidential::begin);
        let journal = self.journal(target.is_confidential());
        let work = async {
            let input = self.begin(target).await?;
            let checks = target.restore(input, &self.context).await?;
            self.context.progress.event(Event::End);
            Ok(self.restored(None, checks, started.elapsed()))
        };
        let restored = self.around(&journal, work).await;
        self.note(&journal, restored.as_ref()).await;
        restored
    }

    /// Reads the artifact and the live system, and plans what restoring into a target that plans would change. Nothing
    /// is changed before [`PlannedRestore::apply`]. Planning writes a record only if it fails; applying the plan writes
    /// one.
    ///
    /// # Errors
    /// Errors of reading and decrypting; [`ErrorKind::Unsupported`] for a target that does not plan.
    ///
    /// # Cancel safety
    /// Safe: nothing is changed.
    pub async fn plan(self, target: &dyn Target) -> Result<PlannedRestore> {
        let started = Instant::now();
        let confidential = target.is_confidential().then(Confidential::begin);
        let journal = self.journal(target.is_confidential());
        let attempt = async {
            let _turn = self.turn().await?;
            let input = self.begin(target).await?;
            target.plan(input, &self.context).await
        };
        let span = self.span();
        let prepared = match self.context.limiter.govern(attempt).instrument(span).await {
            Ok(prepared) => prepared,
            Err(error) => {
                self.note(&journal, Err(&error)).await;
                return Err(error);
            }
        };
        self.context.progress.event(Event::End);
        Ok(PlannedRestore { restore: self, journal, prepared, took: started.elapsed(), _confidential: confidential })
    }

    fn span(&self) -> Span {
        span::of_run(Verb::Restore, Some(&self.artifact.name.dataset))
    }

    /// Waits for leave to run, and does the work between the hooks.
    async fn around(&self, journal: &Journal, work: impl Future<Output = Result<Restored>>) -> Result<Restored> {
        let _turn = self.turn().await?;
        let mut occasion = Occasion::new(Verb::Restore);
        (occasion.dataset, occasion.key) = (journal.dataset.clone(), journal.key.clone());
        let judge =
            |done: &Result<Restored>, _: &mut Occasion| done.as_ref().map_or(Outcome::Failed, Restored::outcome);
        let (done, failed) = self.hooks.around(occasion, &self.context, judge, work).await;
        let mut restored = done?;
        restored.checks.extend(failed.map(|error| Check::from_error("hook", &error)));
        Ok(restored)
    }

    /// Waits for leave to run.
    async fn turn(&self) -> Result<Turn> {
        self.context.turn("restore", || self.artifact.key(), room::of_run(0)).await
    }

    fn journal(&self, confidential: bool) -> Journal {
        let mut journal = Journal::begin(Verb::Restore, &self.artifact.folder, self.context.now(), confidential);
        journal.dataset = Some(self.artifact.name.dataset.clone());
        journal.key = Some(self.artifact.key());
        journal
    }

    /// Writes the record of the run.
    async fn note(&self, journal: &Journal, result: Result<&Restored, &Error>) {
        if !self.history {
            return;
        }
        let figures = result.map(|restored| Figures {
            outcome: Some(restored.outcome()),
            bytes: Some(restored.stored_bytes),
            ..Figures::default()
        });
        journal.close(&self.sink, &self.context, figures.as_ref().map_err(|error| *error)).await;
    }

    async fn begin(&self, target: &dyn Target) -> Result<RestoreInput> {
        if self.artifact.objects.is_empty() {
            return Err(Error::new(
                ErrorKind::NotFound,
                "restore",
                self.artifact.key(),
                "its manifest is there, but not its data",
            )
            .hint("use another artifact, or the copy in another sink"));
        }
        if let Some(amount) = self.artifact.less() {
            let less = Less { amount, fuller: None }.in_words(Noun::ENTRIES);
            let text = format!("{} is {less}: you may want an older one", self.artifact.key());
            self.context.progress.event(Event::Warning { text, hint: Hint::ListArtifacts });
        }
        let step = Step::Restore(self.artifact.name.dataset.to_string());
        let total = Some(self.artifact.bytes().into());
        self.context.progress.event(Event::Begin { step, unit: Unit::Bytes, total });
        let input = self.input().await?;
        input.check_series(target.restores_series())?;
        let before: u64 = input.chain.iter().map(|link| link.stored_bytes).sum();
        if before > 0 {
            self.context.progress.event(Event::Total(Total::Exact(self.artifact.bytes() + before)));
        }
        Ok(input)
    }

    fn restored(&self, plan: Option<Plan>, checks: Vec<Check>, took: Duration) -> Restored {
        Restored {
            dataset: self.artifact.name.dataset.to_string(),
            key: self.artifact.key(),
            stored_bytes: self.artifact.bytes(),
            plan,
            checks,
            seconds: took.as_secs_f64(),
        }
    }
}

/// A restore that was planned and not yet carried out.
pub struct PlannedRestore {
    restore: Restore,
    journal: Journal,
    prepared: Box<dyn Prepared>,
    took: Duration,
    _confidential: Option<Confidential>,
}

impl PlannedRestore {
    /// The plan.
    pub fn plan(&self) -> &Plan {
        self.prepared.plan()
    }

    /// The result without carrying the plan out: the plan, and no checks.
    pub fn report(&self) -> Restored {
        self.restore.restored(Some(self.plan().clone()), Vec::new(), self.took)
    }

    /// Carries the plan out.
    ///
    /// # Errors
    /// Any error that ends it. Earlier changes stay, and the next plan holds the rest.
    ///
    /// # Cancel safety
    /// Like [`Prepared::apply`]: cancel through the context's token.
    pub async fn apply(self) -> Result<Restored> {
        let started = Instant::now();
        let plan = self.plan().clone();
        let cx = &self.restore.context;
        let step = Step::Apply(self.restore.artifact.name.dataset.to_string());
        let total = Some(Total::Exact(plan.counts().to_do() as u64));
        cx.progress.event(Event::Begin { step, unit: Unit::Items, total });
        let (restore, journal) = (&self.restore, &self.journal);
        let work = async {
            let checks = self.prepared.apply(cx).await?;
            cx.progress.event(Event::End);
            Ok(restore.restored(Some(plan), checks, self.took + started.elapsed()))
        };
        let restored = run::within(restore.span(), cx, Restored::outcome, restore.around(journal, work)).await;
        self.restore.note(&self.journal, restored.as_ref()).await;
        restored
    }
}

impl std::fmt::Debug for PlannedRestore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PlannedRestore").field("restore", &self.restore).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Restore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Restore")
            .field("sink", &self.sink)
            .field("artifact", &self.artifact.key())
            .finish_non_exhaustive()
    }
}

/// The result of a restore.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Restored {
    /// The dataset.
    pub dataset: String,
    /// The artifact's key.
    pub key: String,
    /// The number of stored bytes read.
    pub stored_bytes: u64,
    /// The plan, if the target plans.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plan: Option<Plan>,
    /// What was restored, and what the user should know.
    pub checks: Vec<Check>,
    /// Duration in seconds.
    pub seconds: f64,
}

impl Restored {
    fn outcome(&self) -> Outcome {
        Figures::of_checks(&self.checks)
    }
}
