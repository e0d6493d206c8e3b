//! How many objects may be copied concurrently: many small ones, few large ones.

use tokio::sync::{Semaphore, SemaphorePermit};

/// The estimated number of bytes that all copies together may hold.
const ALL: u64 = 160 << 20;
/// The most that one sink holds of a large object: parts being sent, the one being filled, and the chunks before it.
const MOST: u64 = 64 << 20;
/// The least that an object takes, even an empty one.
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
