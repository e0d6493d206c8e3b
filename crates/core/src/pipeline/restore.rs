//! [`Restore`]: from a sink back into a live system.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::{read, series};
use crate::catalog::{Artifact, Less};
use crate::context::Context;
use crate::encryptor::Encryptor;
use crate::error::{Error, ErrorKind, Result};
use crate::hint::Hint;
use crate::history::{Figures, Journal, Verb};
use crate::memory::Confidential;
use crate::plan::{Plan, Prepared};
use crate::progress::{Event, Step, Total, Unit};
use crate::report::Check;
use crate::sink::Sink;
use crate::stream::ByteStream;
use crate::target::{RestoreInput, Target};

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
    context: Context,
}

impl Restore {
    /// Creates a restore of `artifact`, as [`catalog::find`](crate::catalog::find) gives it.
    pub fn new(sink: impl Sink + 'static, artifact: Artifact) -> Self {
        Self { sink: Arc::new(sink), artifact, keys: Vec::new(), history: true, context: Context::default() }
    }

    /// Adds a key to decrypt with. The one that fits is chosen by the artifact's own magic.
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

    /// Whether the run leaves a record in the [history](crate::history) of the sink that is read. It does by
    /// default.
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

    /// What is restored.
    pub(super) fn artifact(&self) -> &Artifact {
        &self.artifact
    }

    /// The plaintext as a stream, for a program that does its own restore. It counts only after it has ended without an error: stored
    /// bytes and plaintext are compared with the manifest on the way.
    ///
    /// # Errors
    /// What cannot be read or decrypted; what is wrong further on is an item of the stream.
    /// [`ErrorKind::Unsupported`] for an artifact that needs others: [`input`](Restore::input) gives all of them.
    pub async fn stream(&self) -> Result<ByteStream> {
        let input = self.input().await?;
        input.check_series(false)?;
        Ok(input.stream)
    }

    /// A target's input: the plaintext, and what is restored before it. For a program that does its own restore.
    ///
    /// # Errors
    /// What cannot be read or decrypted; [`ErrorKind::NotFound`] where something that it needs is missing, and
    /// [`ErrorKind::Corrupt`] where its manifest and the names beside it disagree about that.
    pub async fn input(&self) -> Result<RestoreInput> {
        let read = self.artifact.read_manifest(&*self.sink);
        let manifest = self.context.unless_cancelled("restore", || self.artifact.key(), read).await?;
        let private = match &manifest {
            Some(manifest) => Some(manifest.private(&self.keys).await?),
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
    /// What cannot be read or decrypted, and what the target fails with; the target is then as it was.
    ///
    /// # Cancel safety
    /// As [`Target::restore`]: cancel through the context's token.
    pub async fn into(self, target: &dyn Target) -> Result<Restored> {
        let started = Instant::now();
        let _confidential = target.is_confidential().then(Confidential::begin);
        let journal = self.journal(target.is_confidential());
        let attempt = async {
            let input = self.begin(target).await?;
            let checks = target.restore(input, &self.context).await?;
            self.context.progress.event(Event::End);
            Ok(self.restored(None, checks, started.elapsed()))
        };
        let restored = attempt.await;
        self.note(&journal, restored.as_ref()).await;
        restored
    }

    /// Reads the artifact and the live system, and says what restoring into a target that plans would change. Nothing is
    /// changed before [`PlannedRestore::apply`].
    ///
    /// # Errors
    /// What cannot be read or decrypted; [`ErrorKind::Unsupported`] for a target that does not plan.
    ///
    /// # Cancel safety
    /// Safe: nothing was changed.
    ///
    /// A plan leaves a record only when it fails; carrying it out leaves one.
    pub async fn plan(self, target: &dyn Target) -> Result<PlannedRestore> {
        let started = Instant::now();
        let confidential = target.is_confidential().then(Confidential::begin);
        let journal = self.journal(target.is_confidential());
        let attempt = async {
            let input = self.begin(target).await?;
            target.plan(input, &self.context).await
        };
        let prepared = match attempt.await {
            Ok(prepared) => prepared,
            Err(error) => {
                self.note(&journal, Err(&error)).await;
                return Err(error);
            }
        };
        self.context.progress.event(Event::End);
        Ok(PlannedRestore { restore: self, journal, prepared, took: started.elapsed(), _confidential: confidential })
    }

    fn journal(&self, confidential: bool) -> Journal {
        let mut journal = Journal::begin(Verb::Restore, &self.artifact.folder, self.context.now(), confidential);
        journal.dataset = Some(self.artifact.name.dataset.clone());
        journal.key = Some(self.artifact.key());
        journal
    }

    /// Leaves the record of the run.
    async fn note(&self, journal: &Journal, result: Result<&Restored, &Error>) {
        if !self.history {
            return;
        }
        let figures = result.map(|restored| Figures {
            outcome: Some(Figures::of_checks(&restored.checks)),
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
            let less = Less { amount, fuller: None };
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
    /// What it would change.
    pub fn plan(&self) -> &Plan {
        self.prepared.plan()
    }

    /// What is known without carrying it out: the plan, and no checks.
    pub fn report(&self) -> Restored {
        self.restore.restored(Some(self.plan().clone()), Vec::new(), self.took)
    }

    /// Carries it out.
    ///
    /// # Errors
    /// What ended it. What was done before that stays done, and the next plan holds the rest.
    ///
    /// # Cancel safety
    /// As [`Prepared::apply`]: cancel through the context's token.
    pub async fn apply(self) -> Result<Restored> {
        let started = Instant::now();
        let plan = self.plan().clone();
        let cx = &self.restore.context;
        let step = Step::Apply(self.restore.artifact.name.dataset.to_string());
        let total = Some(Total::Exact(plan.counts().to_do() as u64));
        cx.progress.event(Event::Begin { step, unit: Unit::Items, total });
        let restored = match self.prepared.apply(cx).await {
            Ok(checks) => {
                cx.progress.event(Event::End);
                Ok(self.restore.restored(Some(plan), checks, self.took + started.elapsed()))
            }
            Err(error) => Err(error),
        };
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
    /// Stored bytes that were read.
    pub stored_bytes: u64,
    /// What was to be changed, where the target plans.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plan: Option<Plan>,
    /// What was restored, and what the user should know.
    pub checks: Vec<Check>,
    /// Duration in seconds.
    pub seconds: f64,
}
