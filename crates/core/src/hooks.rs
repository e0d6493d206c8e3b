//! [`Hooks`]: what is done before and after a run: freeze and unfreeze, mount and unmount, notify.
//!
//! - Each `before` runs before anything is read, in order. One that fails, or takes too long, fails the run: nothing is read, nothing
//!   is stored, and the record says why.
//! - Once the first `before` has begun, each `after` runs, in the opposite order, whatever comes: after success, after failure (that of
//!   a `before` too), after a cancellation, and when the run is dropped. So it must not mind that its `before` was not reached.
//! - An `after` that fails fails the run, and changes nothing of what was done: the artifact is good, and stays.
//! - Each has a [time limit](Hooks::timeout). When it is over, or for a `before` when the run is cancelled, the token of the hook's
//!   context is cancelled; what has not ended ten seconds later is dropped.

use std::fmt;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, info_span};

use crate::context::Context;
use crate::error::{Error, ErrorKind, Result};
use crate::history::{Outcome, Verb};
use crate::name::Dataset;
use crate::progress::Event;
use crate::report::human_duration;

/// How long a hook may take when nothing else is set.
pub const TIMEOUT: Duration = Duration::from_secs(5 * 60);
/// How long a hook may go on after it was told to end.
const GRACE: Duration = Duration::from_secs(10);
/// How long the work may go on after a cancellation, before each `after` runs.
const WORK_GRACE: Duration = Duration::from_millis(3500);

/// The run that a hook belongs to.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Occasion {
    /// What is done.
    pub verb: Verb,
    /// With which dataset. `None` before a backup whose dataset only the source can name.
    pub dataset: Option<Dataset>,
    /// The artifact's key, where there is an artifact: before and after a restore or a verification, after a backup that has made one.
    pub key: Option<String>,
}

impl Occasion {
    /// A run of which nothing else is known.
    pub fn new(verb: Verb) -> Self {
        Self { verb, dataset: None, key: None }
    }
}

/// Something that is done before and after a run.
///
/// ```
/// use lifeboat_core::hooks::{Hook, Hooks, Occasion};
/// use lifeboat_core::{Context, Result, async_trait, history::Outcome};
///
/// struct Freeze;
///
/// #[async_trait]
/// impl Hook for Freeze {
///     async fn before(&self, run: &Occasion, _: &Context) -> Result<()> {
///         println!("freezing {:?}", run.dataset);
///         Ok(())
///     }
///
///     async fn after(&self, _: &Occasion, outcome: Outcome, _: &Context) -> Result<()> {
///         println!("going on after a backup that was {outcome}");
///         Ok(())
///     }
/// }
///
/// let hooks = Hooks::new().hook(Freeze).after(|run, outcome| async move {
///     println!("{} of {:?}: {outcome}", run.verb, run.dataset);
///     Ok(())
/// });
/// // `Backup::new(…).hooks(hooks)`
/// # drop(hooks);
/// ```
#[async_trait]
pub trait Hook: Send + Sync {
    /// What messages call it.
    fn name(&self) -> String {
        "a hook".to_owned()
    }

    /// Runs before anything is read. `cx` has a token of its own, which is cancelled when the hook is to end.
    ///
    /// # Errors
    /// What keeps the run from beginning.
    ///
    /// # Cancel safety
    /// It is dropped when it goes on for ten seconds after its token was cancelled.
    async fn before(&self, _run: &Occasion, _cx: &Context) -> Result<()> {
        Ok(())
    }

    /// Runs when the run has ended. A run that was cancelled has failed; the token of `cx` is not cancelled then.
    ///
    /// # Errors
    /// What is to be told. The run has failed then, and its artifact stays.
    ///
    /// # Cancel safety
    /// As [`before`](Hook::before).
    async fn after(&self, _run: &Occasion, _outcome: Outcome, _cx: &Context) -> Result<()> {
        Ok(())
    }
}

/// The hooks of a run: see the [module](self).
#[derive(Clone)]
pub struct Hooks {
    all: Vec<Arc<dyn Hook>>,
    timeout: Duration,
}

impl Default for Hooks {
    fn default() -> Self {
        Self { all: Vec::new(), timeout: TIMEOUT }
    }
}

impl fmt::Debug for Hooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<String> = self.all.iter().map(|hook| hook.name()).collect();
        f.debug_struct("Hooks").field("all", &names).field("timeout", &self.timeout).finish()
    }
}

impl Hooks {
    /// None.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a hook.
    #[must_use]
    pub fn hook(mut self, hook: impl Hook + 'static) -> Self {
        self.all.push(Arc::new(hook));
        self
    }

    /// Adds a closure that runs before.
    #[must_use]
    pub fn before<F>(self, run: impl Fn(Occasion) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<()>> + Send + 'static,
    {
        self.hook(Before(Box::new(move |occasion| run(occasion).boxed())))
    }

    /// Adds a closure that runs after, with what came of the run.
    #[must_use]
    pub fn after<F>(self, run: impl Fn(Occasion, Outcome) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<()>> + Send + 'static,
    {
        self.hook(After(Box::new(move |occasion, outcome| run(occasion, outcome).boxed())))
    }

    /// How long each may take: 5 minutes when this is not called.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Does the work between the hooks. Gives what came of it, and what the first `after` failed with that did.
    pub(crate) async fn around<T>(
        &self,
        occasion: Occasion,
        cx: &Context,
        judge: impl FnOnce(&Result<T>, &mut Occasion) -> Outcome,
        work: impl Future<Output = Result<T>>,
    ) -> (Result<T>, Option<Error>) {
        let work = Box::pin(work);
        if self.all.is_empty() {
            return (work.await, None);
        }
        let mut owed = Owed::new(self.clone(), occasion, cx);
        let done = match self.run_before(&owed.occasion, cx).await {
            Ok(()) => {
                let late = async {
                    cx.cancel.cancelled().await;
                    tokio::time::sleep(WORK_GRACE).await;
                };
                tokio::select! {
                    biased;
                    done = work => done,
                    () = late => Err(Error::cancelled("finish", "the run")),
                }
            }
            Err(error) => Err(error),
        };
        let outcome = judge(&done, &mut owed.occasion);
        let failed = owed.pay(outcome).await;
        // The run's own failure is the one to be told first.
        match (&done, failed) {
            (Err(_), Some(failed)) => {
                cx.progress.event(Event::Note(failed.to_string()));
                (done, None)
            }
            (_, failed) => (done, failed),
        }
    }

    async fn run_before(&self, occasion: &Occasion, cx: &Context) -> Result<()> {
        for hook in &self.all {
            let own = Context { cancel: CancellationToken::new(), ..cx.clone() };
            let work = hook.before(occasion, &own).instrument(info_span!("hook", when = "before"));
            self.bounded(work, &own.cancel, &cx.cancel)
                .await
                .map_err(|e| told(&e, &**hook, "before", occasion.verb))?;
        }
        Ok(())
    }

    /// Runs each `after`. Gives the first failure; the others are notes.
    async fn run_after(&self, occasion: &Occasion, outcome: Outcome, cx: &Context) -> Option<Error> {
        let mut first = None;
        for hook in self.all.iter().rev() {
            let own = Context { cancel: CancellationToken::new(), ..cx.clone() };
            let work = hook.after(occasion, outcome, &own).instrument(info_span!("hook", when = "after"));
            let done = self.bounded(work, &own.cancel, &CancellationToken::new()).await;
            let Err(error) = done.map_err(|e| told(&e, &**hook, "after", occasion.verb)) else { continue };
            match &first {
                None => first = Some(error),
                Some(_) => cx.progress.event(Event::Note(error.to_string())),
            }
        }
        first
    }

    /// Waits for a hook, and tells it to end when it is to.
    async fn bounded(
        &self,
        work: impl Future<Output = Result<()>>,
        stop: &CancellationToken,
        cancel: &CancellationToken,
    ) -> Result<()> {
        let mut work = pin!(work);
        let over = tokio::select! {
            biased;
            done = &mut work => return done,
            () = cancel.cancelled() => None,
            () = tokio::time::sleep(self.timeout) => Some(self.timeout),
        };
        stop.cancel();
        // What it says on its way out tells where it was.
        let last = tokio::time::timeout(GRACE, work).await.ok().and_then(Result::err);
        let Some(limit) = over else { return Err(Error::cancelled("run", "the hook")) };
        let said = last.filter(|last| last.kind() != ErrorKind::Cancelled).map(|last| format!(": {}", last.message()));
        let why =
            format!("it had not ended after {}, and was ended{}", human_duration(limit), said.unwrap_or_default());
        Err(Error::new(ErrorKind::Tool, "run", "the hook", why)
            .hint("give it more time with timeout in hooks, or look why it hangs"))
    }
}

/// The error of a hook, with its name and place.
fn told(error: &Error, hook: &dyn Hook, when: &str, verb: Verb) -> Error {
    let subject = format!("{}, the hook {when} the {}", hook.name(), verb_noun(verb));
    let told = Error::new(error.kind(), "run", subject, error.message());
    // All that a program said, where that is more than fits into the message.
    let told = match std::error::Error::source(error) {
        Some(source) => told.with_source(source.to_string()),
        None => told,
    };
    match error.typed_hint() {
        Some(hint) => told.hint(hint.clone()),
        None => told,
    }
}

fn verb_noun(verb: Verb) -> &'static str {
    match verb {
        Verb::Backup => "backup",
        Verb::Verify => "verification",
        Verb::Restore => "restore",
        Verb::Prune => "prune",
        Verb::Replicate => "copy",
    }
}

struct Before(Box<dyn Fn(Occasion) -> BoxFuture<'static, Result<()>> + Send + Sync>);

#[async_trait]
impl Hook for Before {
    async fn before(&self, run: &Occasion, _: &Context) -> Result<()> {
        (self.0)(run.clone()).await
    }
}

struct After(Box<dyn Fn(Occasion, Outcome) -> BoxFuture<'static, Result<()>> + Send + Sync>);

#[async_trait]
impl Hook for After {
    async fn after(&self, run: &Occasion, outcome: Outcome, _: &Context) -> Result<()> {
        (self.0)(run.clone(), outcome).await
    }
}

/// Each `after` that is still to be run. When this is dropped before that, they run on their own.
struct Owed {
    hooks: Option<Hooks>,
    occasion: Occasion,
    cx: Context,
    debt: Debt,
}

impl Owed {
    fn new(hooks: Hooks, occasion: Occasion, cx: &Context) -> Self {
        Self { hooks: Some(hooks), occasion, cx: cx.clone(), debt: Debt::new(&cx.owed) }
    }

    async fn pay(mut self, outcome: Outcome) -> Option<Error> {
        let hooks = self.hooks.clone()?;
        let failed = hooks.run_after(&self.occasion, outcome, &self.cx).await;
        self.hooks = None;
        failed
    }
}

impl Drop for Owed {
    fn drop(&mut self) {
        let (Some(hooks), Ok(runtime)) = (self.hooks.take(), tokio::runtime::Handle::try_current()) else { return };
        let (occasion, cx, debt) = (self.occasion.clone(), self.cx.clone(), Debt::new(&self.debt.0));
        runtime.spawn(async move {
            let _debt = debt;
            if let Some(error) = hooks.run_after(&occasion, Outcome::Failed, &cx).await {
                tracing::error!(%error, "after a run that was dropped");
            }
        });
    }
}

/// Counts what is owed while it lives.
struct Debt(Arc<AtomicUsize>);

impl Debt {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count.clone())
    }
}

impl Drop for Debt {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}
