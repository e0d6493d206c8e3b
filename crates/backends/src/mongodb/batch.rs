//! How much to request from a server at once.

use std::time::{Duration, Instant};

use bson::{Document, doc};
use mongodb::Database;
use mongodb::action::RunCursorCommand;

use super::archive::{BLOCK, MAX_DOCUMENT};
use super::listing::{Look, number};

/// The size of a batch from a nearby server, in bytes: that of a block. By itself, a server would fill 16 MiB. This
/// size stays in the processor's cache while it is received, copied and packed: each byte of a reply is written five
/// times before it is part of a block.
const NEAR: f64 = BLOCK as f64;
/// The size of a batch from a more distant server, in bytes, where each batch costs a round trip; four cursors with
/// such batches stay within the memory budget of a backup.
const FAR: f64 = (4 * BLOCK) as f64;
/// The overhead of a document in a batch, in bytes: its type, its number, a NUL.
const ELEMENT: f64 = 7.0;
/// The longest response time to a small request of a nearby server.
const SOON: Duration = Duration::from_millis(5);

/// Permits for replies in memory, for all cursors together: one per MiB. The driver holds a reply twice while parsing
/// it.
pub(crate) const PERMITS: usize = 12;
/// The permits that even a small reply takes: more than four at once are no faster.
const LEAST_PERMITS: usize = 3;

/// How much of a collection to request at once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BatchSize {
    /// The number of documents; `None` leaves it to the server.
    pub(crate) documents: Option<u32>,
    /// The estimated size of these documents, in bytes.
    pub(crate) bytes: usize,
}

impl BatchSize {
    /// As much as the server puts into a reply.
    const WHOLE: Self = Self { documents: None, bytes: MAX_DOCUMENT };

    /// As many documents of a collection as fill a batch, by their average size; a whole reply if the server does not
    /// report that size.
    pub(crate) async fn of(look: &Look, db: &str, collection: &str) -> Self {
        let asked = Instant::now();
        let command = doc! { "collStats": collection };
        let Some(statistics) = look.ask(db, command, "look at the size of", collection).await.ok() else {
            return Self::WHOLE;
        };
        let bytes = if asked.elapsed() < SOON { NEAR } else { FAR };
        match number(&statistics, "avgObjSize").map(|average| average as f64) {
            Some(average) if average >= 1.0 => Self {
                documents: Some((bytes / (average + ELEMENT)).clamp(1.0, 1_000_000.0) as u32),
                bytes: bytes.max(average).min(MAX_DOCUMENT as f64) as usize,
            },
            _ => Self::WHOLE,
        }
    }

    /// The command that opens a cursor of such batches.
    pub(crate) fn run<'a>(&self, database: &'a Database, mut command: Document) -> RunCursorCommand<'a> {
        let Some(most) = self.documents else { return database.run_cursor_command(command) };
        // The driver's option applies to the batches after the first, which would have 101 documents of any size.
        command.insert("batchSize", i64::from(most));
        database.run_cursor_command(command).batch_size(most)
    }

    /// How many of the [`PERMITS`] a reply of this size takes: all of them if it is large.
    pub(crate) fn permits(bytes: usize) -> u32 {
        bytes.div_ceil(1 << 20).clamp(LEAST_PERMITS, PERMITS) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_small_replies_are_in_memory_three_larger_ones_or_one_that_is_full() {
        let at_once = |bytes: usize| PERMITS / BatchSize::permits(bytes) as usize;
        let around = 1000;
        assert_eq!(at_once(0), 4);
        assert_eq!(at_once(NEAR as usize + around), 4);
        assert_eq!(at_once(FAR as usize + around), 3);
        assert_eq!(at_once(MAX_DOCUMENT + around), 1);
    }
}
