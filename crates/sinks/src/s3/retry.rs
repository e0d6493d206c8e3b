//! Trying again: the one place where requests to a store are repeated.

use std::error::Error as StdError;
use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use lifeboat_core::{Error, Result};
use tokio::time::Instant;

use super::failure::Failure;
use crate::settings::Retry;

/// The longest pause that a store can ask for.
const LONGEST_ASKED: Duration = Duration::from_secs(60);

/// What requests to one store share: that it is reachable, and that it asked for a pause.
#[derive(Debug)]
pub(super) struct Pacing {
    retry: Retry,
    answered: AtomicBool,
    not_before: Mutex<Option<Instant>>,
}

impl Pacing {
    pub(super) fn new(retry: Retry) -> Arc<Self> {
        Arc::new(Self { retry, answered: AtomicBool::new(false), not_before: Mutex::new(None) })
    }

    pub(super) fn retry(&self) -> &Retry {
        &self.retry
    }

    /// The store has answered, with whatever result.
    pub(super) fn answered(&self) {
        self.answered.store(true, Ordering::Relaxed);
    }

    /// Repeats `request` until it succeeds, fails for good, or has failed for too long.
    pub(super) async fn run<T, F: Future<Output = Result<T>>>(&self, mut request: impl FnMut() -> F) -> Result<T> {
        let mut attempts = Attempts::new(self);
        loop {
            self.wait_as_asked().await;
            match request().await {
                Ok(done) => return Ok(done),
                Err(error) => attempts.pause_after(error).await?,
            }
        }
    }

    async fn wait_as_asked(&self) {
        let until = *self.not_before.lock().expect("nothing panics while it holds this lock");
        if let Some(until) = until {
            tokio::time::sleep_until(until).await;
        }
    }
}

/// The failures of one request so far.
pub(super) struct Attempts<'a> {
    pacing: &'a Pacing,
    failing_since: Option<Instant>,
    failures: u32,
}

impl<'a> Attempts<'a> {
    pub(super) fn new(pacing: &'a Pacing) -> Self {
        Self { pacing, failing_since: None, failures: 0 }
    }

    /// Waits before the next attempt, or returns the error if there is none.
    pub(super) async fn pause_after(&mut self, error: Error) -> Result<()> {
        let Pacing { retry, answered, not_before } = self.pacing;
        let now = Instant::now();
        let limit = if answered.load(Ordering::Relaxed) { retry.limit } else { retry.first_contact.min(retry.limit) };
        let pause = pause(retry, self.failures, random());
        let failing_for = now - *self.failing_since.get_or_insert(now);
        if !error.is_transient() || failing_for + pause > limit {
            return Err(match self.failures {
                0 => error,
                n => with_attempts(error, n + 1, failing_for),
            });
        }
        self.failures += 1;
        tracing::info!(%error, attempt = self.failures, pause_ms = pause.as_millis(), "trying again");
        if let Some(Failure::Answer(answer)) = StdError::source(&error).and_then(|s| s.downcast_ref::<Failure>())
            && let Some(asked) = answer.retry_after
        {
            let until = now + asked.min(LONGEST_ASKED);
            let mut not_before = not_before.lock().expect("nothing panics while it holds this lock");
            *not_before = Some(not_before.map_or(until, |other| other.max(until)));
        }
        tokio::time::sleep(pause).await;
        Ok(())
    }
}

/// The error, with the number of attempts.
fn with_attempts(error: Error, attempts: u32, time: Duration) -> Error {
    let message = format!("{} (tried {attempts} times in {} s)", error.message(), time.as_secs());
    error.reworded(message)
}

/// The pause after a number of failures: half fixed, half random, so that many clients do not return at once.
fn pause(retry: &Retry, failures: u32, chance: f64) -> Duration {
    let full = retry.first.saturating_mul(1 << failures.min(16)).min(retry.longest);
    full.mul_f64(0.5 + chance / 2.0)
}

fn random() -> f64 {
    let mut bytes = [0; 4];
    // Without randomness there is only no jitter.
    let _ = getrandom::fill(&mut bytes);
    f64::from(u32::from_le_bytes(bytes)) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use lifeboat_core::ErrorKind;

    use super::super::failure::Answer;
    use super::*;

    fn failure(kind: ErrorKind) -> Error {
        Error::new(kind, "write", "x", "no")
    }

    #[test]
    fn pauses_double_up_to_the_longest() {
        let retry = Retry::default();
        let pauses: Vec<_> = (0..10).map(|n| pause(&retry, n, 1.0).as_millis()).collect();
        assert_eq!(pauses, [200, 400, 800, 1600, 3200, 6400, 12800, 15000, 15000, 15000]);
        assert_eq!(pause(&retry, 3, 0.0).as_millis(), 800);
        assert_eq!(pause(&retry, u32::MAX, 0.0).as_millis(), 7500);
    }

    #[tokio::test(start_paused = true)]
    async fn only_what_is_transient_is_tried_again_and_not_for_ever() {
        let pacing = Pacing::new(Retry::default());
        let mut tries = 0;
        let denied = pacing.run(|| {
            tries += 1;
            async { Err::<(), _>(failure(ErrorKind::Permission)) }
        });
        assert_eq!(denied.await.unwrap_err().kind(), ErrorKind::Permission);
        assert_eq!(tries, 1);

        let limited = pacing.run(|| async { Err::<(), _>(failure(ErrorKind::Unavailable)) }).await.unwrap_err();
        assert!(limited.message().contains("tried "), "{limited}");

        let mut left = 5;
        let recovered = pacing.run(|| {
            left -= 1;
            async move { if left > 0 { Err(failure(ErrorKind::Unavailable)) } else { Ok(7) } }
        });
        assert_eq!(recovered.await.unwrap(), 7);
    }

    #[tokio::test]
    async fn a_store_that_asks_for_a_pause_gets_it() {
        let pacing = Pacing::new(Retry { first: Duration::from_millis(1), ..Retry::default() });
        let (start, mut failed) = (Instant::now(), false);
        let answer = Answer { status: 503, retry_after: Some(Duration::from_millis(300)), ..Answer::default() };
        pacing
            .run(|| {
                let again = std::mem::replace(&mut failed, true);
                let error = failure(ErrorKind::Unavailable).with_source(Failure::Answer(answer.clone()));
                async move { if again { Ok(()) } else { Err(error) } }
            })
            .await
            .unwrap();
        assert!(start.elapsed() >= Duration::from_millis(300));
    }
}
