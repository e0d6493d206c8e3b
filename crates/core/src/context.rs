//! The context of a run: cancellation, progress, the clock.

use std::sync::Arc;

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::error::{Error, Result};
use crate::progress::{Progress, Silent};

/// The clock of a run. Passed in, so that a test can set it.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// The context of a run: cancellation, progress, the clock. Cheap to clone.
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
    /// The receiver of progress.
    pub progress: Arc<dyn Progress>,
    /// The clock.
    pub clock: Clock,
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

    /// The time by this run's clock.
    pub fn now(&self) -> Timestamp {
        (self.clock)()
    }

    /// Runs `work`, which must not need any undoing, but ends it when the run is cancelled.
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
        Self { cancel: CancellationToken::new(), progress: Arc::new(Silent), clock: Arc::new(Timestamp::now) }
    }
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context").field("cancelled", &self.cancel.is_cancelled()).finish_non_exhaustive()
    }
}
