//! Not faster than an API allows: a limit of our own, so that its own is met rarely.

use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

/// How many requests may be sent in a time: `burst` at once, then one every `interval`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Rate {
    /// The time that one request costs.
    pub interval: Duration,
    /// Requests that may be sent at once after a pause.
    pub burst: u32,
}

impl Rate {
    /// `requests` in each `time`, half of them at once.
    pub fn new(requests: u32, time: Duration) -> Self {
        let requests = requests.max(1);
        Self { interval: time / requests, burst: (requests / 2).max(1) }
    }
}

/// Hands out the times at which requests may start. What an API asks for by `Retry-After` counts for all of them.
#[derive(Debug)]
pub(super) struct Pace {
    rate: Rate,
    /// When as many as `burst` requests would be free again (the "theoretical arrival time" of GCRA).
    next: Mutex<Instant>,
}

impl Pace {
    pub(super) fn new(rate: Rate) -> Self {
        Self { rate, next: Mutex::new(Instant::now()) }
    }

    /// Takes a turn, and says when it is.
    pub(super) fn turn(&self) -> Instant {
        let now = Instant::now();
        let mut next = self.next.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let due = (*next).max(now);
        *next = due + self.rate.interval;
        let ahead = self.rate.interval * (self.rate.burst.saturating_sub(1));
        due.checked_sub(ahead).unwrap_or(now).max(now)
    }

    /// Nobody's turn is before then.
    pub(super) fn not_before(&self, time: Instant) {
        let mut next = self.next.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        // The whole burst is spent: that is what the API has just said.
        let ahead = self.rate.interval * (self.rate.burst.saturating_sub(1));
        *next = (*next).max(time + ahead);
    }
}
