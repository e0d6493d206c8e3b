//! How many objects may be on their way side by side: many small ones, few large ones.

use tokio::sync::{Semaphore, SemaphorePermit};

/// Bytes that copies may hold together, by estimate.
const ALL: u64 = 160 << 20;
/// What one sink holds of a large object at most: parts on their way and the one being filled, and the chunks before it.
const MOST: u64 = 64 << 20;
/// What even an empty object takes.
const LEAST: u64 = 4 << 20;

/// Room in memory for copies.
#[derive(Debug)]
pub(super) struct Room(Semaphore);

impl Room {
    pub(super) fn new() -> Self {
        Self(Semaphore::new(mib(ALL) as usize))
    }

    /// Waits until there is room for an object of this size.
    pub(super) async fn for_bytes(&self, bytes: u64) -> Option<SemaphorePermit<'_>> {
        // It is never closed, so there is always a permit.
        self.0.acquire_many(mib((bytes.saturating_mul(2)).clamp(LEAST, MOST))).await.ok()
    }
}

fn mib(bytes: u64) -> u32 {
    u32::try_from(bytes >> 20).unwrap_or(u32::MAX)
}
