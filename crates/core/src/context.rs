//! What every run is given from outside: cancellation, progress, the clock, limits.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::error::{Error, Result};
use crate::limiter::{Limiter, Turn};
use crate::progress::{Progress, Silent};

/// The clock of a run. Passed in, so that a test can set it.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// What a run is given from outside. Cheap to clone.
///
/// ```
/// use std::sync::Arc;
///
/// use lifeboat_core::progress::Tally;
/// use lifeboat_core::{CancellationToken, Context};
///
/// let (cancel, tally) = (CancellationToken::new(), Arc::new(Tally::default()));
/// let context = Context::default().cancel(cancel.clone()).progress(tally.clone());
/// // Any number of runs can share it: `Backup::new(…).context(context.clone())`.
/// cancel.cancel();
/// assert!(context.cancel.is_cancelled());
/// ```
#[derive(Clone)]
#[non_exhaustive]
pub struct Context {
    /// Cancelled to end the run early: children are ended, uploads aborted.
    pub cancel: CancellationToken,
    /// Where progress goes.
    pub progress: Arc<dyn Progress>,
    /// The clock.
    pub clock: Clock,
    /// What it may take, together with the other runs that have the same one.
    pub limiter: Limiter,
    /// How many runs still have hooks to run.
    pub(crate) owed: Arc<AtomicUsize>,
}

impl Context {
    /// Ends the run early when `cancel` is cancelled.
    #[must_use]
    pub fn cancel(mut self, cancel: CancellationToken) -> Self {
        self.cancel = cancel;
        self
    }

    /// Sends progress to `progress`.
    #[must_use]
    pub fn progress(mut self, progress: Arc<dyn Progress>) -> Self {
        self.progress = progress;
        self
    }

    /// Takes the time from `clock`.
    #[must_use]
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Keeps to these limits, together with all other runs that have the same ones.
    #[must_use]
    pub fn limiter(mut self, limiter: Limiter) -> Self {
        self.limiter = limiter;
        self
    }

    /// This context with the limits of `before` where it sets none itself.
    pub(crate) fn after(mut self, before: &Self) -> Self {
        self.limiter = self.limiter.or(&before.limiter);
        self
    }

    /// Waits until a run may begin that holds at most so many bytes.
    ///
    /// # Errors
    /// [`ErrorKind::Cancelled`](crate::ErrorKind::Cancelled).
    pub(crate) async fn turn(&self, operation: &'static str, subject: impl Fn() -> String, bytes: u64) -> Result<Turn> {
        self.unless_cancelled(operation, subject, async { Ok(self.limiter.turn(bytes).await) }).await
    }

    /// Whether a run of this context, or of a clone of it, still has [hooks](crate::hooks) to run: a program that is told to end
    /// waits for them.
    pub fn owes_hooks(&self) -> bool {
        self.owed.load(Ordering::SeqCst) > 0
    }

    /// The time by this run's clock.
    pub fn now(&self) -> Timestamp {
        (self.clock)()
    }

    /// Ends `work`, which holds nothing that must be undone, when the run is cancelled.
    pub(crate) async fn unless_cancelled<T>(
        &self,
        operation: &'static str,
        subject: impl Fn() -> String,
        work: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        tokio::select! {
            biased;
            () = self.cancel.cancelled() => Err(Error::cancelled(operation, subject())),
            done = work => done,
        }
    }
}

impl Default for Context {
    fn default() -> Self {
        Self {
            cancel: CancellationToken::new(),
            progress: Arc::new(Silent),
            clock: Arc::new(Timestamp::now),
            limiter: Limiter::new(),
            owed: Arc::default(),
        }
    }
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context").field("cancelled", &self.cancel.is_cancelled()).finish_non_exhaustive()
    }
}
