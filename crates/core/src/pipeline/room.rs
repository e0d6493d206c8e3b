//! How much memory a run, or an object that is copied, takes at most: many small objects are on their way side by side, few
//! large ones.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::limiter::Limiter;

/// Bytes that the copies of one run may hold together, by estimate, when nothing else is set.
const ALL: u64 = 160 << 20;
/// What one sink holds of a large object at most: parts on their way and the one being filled, and the chunks before it.
const MOST: u64 = 64 << 20;
/// What even an empty object takes.
const LEAST: u64 = 4 << 20;
/// What the stages of a run hold: the chunks between them and in hand, and the compressor's windows.
const STAGES: u64 = 56 << 20;

/// What a run holds at most that writes to so many sinks.
pub(super) fn of_run(sinks: usize) -> u64 {
    STAGES + MOST * sinks as u64
}

/// Room in memory for copies.
#[derive(Debug)]
pub(super) enum Room {
    /// That of one run.
    Own(Arc<Semaphore>),
    /// That of all runs together.
    Shared(Limiter),
}

impl Room {
    pub(super) fn new(limiter: &Limiter) -> Self {
        if limiter.has_memory_limit() {
            Self::Shared(limiter.clone())
        } else {
            Self::Own(Arc::new(Semaphore::new(mib(ALL) as usize)))
        }
    }

    /// Waits until there is room for an object of this size.
    pub(super) async fn for_bytes(&self, bytes: u64) -> Option<OwnedSemaphorePermit> {
        let bytes = bytes.saturating_mul(2).clamp(LEAST, MOST);
        match self {
            // It is never closed, so there is always a permit.
            Self::Own(free) => free.clone().acquire_many_owned(mib(bytes)).await.ok(),
            Self::Shared(limiter) => limiter.room(bytes).await,
        }
    }
}

fn mib(bytes: u64) -> u32 {
    u32::try_from(bytes >> 20).unwrap_or(u32::MAX)
}
