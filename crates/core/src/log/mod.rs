//! Logs: segments that come every few seconds and carry a base forward (a write-ahead log, a log of operations).
//!
//! Segments are not artifacts: they have a layout of their own, no manifest and no row in `list`. A segment is one object;
//! its `put` is its commit.
//!
//! ```text
//! <prefix>/<dataset>.log/<epoch>/<start>-<length>-<hash>.<format>[.zst|.gz][.age|.enc]
//! db/main.log/00000001/0000000003000000-0000000001000000-0123456789abcdef0123456789abcdef.wal.zst.age
//! ```
//!
//! | part | what |
//! |---|---|
//! | epoch | 8 hexadecimal digits: the timeline. A later one has a greater number |
//! | start, length | 16 hexadecimal digits each: the segment covers the positions from `start` up to, and without, `start + length` |
//! | hash | the first 32 hexadecimal digits of the SHA-256 of the plaintext |
//!
//! What a position is, the source says: a byte of the log, a timestamp. It only grows within an epoch, and the
//! next segment starts where the one before ends. Names sort in the order of positions, so a listing tells what is covered,
//! and where something is missing, without reading an object.
//!
//! The hash tells the same segment, sent twice, from another content for the same positions, which is an error and
//! never overwritten; and it is what a segment is compared with when it is read. Whoever can list the bucket and has a whole
//! segment can tell that it is there; what is in one cannot be found by guessing as long as it holds times and
//! checksums, as such logs do.
//!
//! **The end.** A log has no mark at its end: it ends where the last segment does that follows the others without a gap. A
//! reader that must reach a position says so, and gets an error when the log does not.

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use serde::Serialize;

use crate::context::Context;
use crate::error::Result;
use crate::name::Dataset;

mod name;
mod prune;
mod reader;
mod writer;

pub use name::{SegmentName, log_folder};
pub use prune::{LogPruned, is_needed, prune, prune_plan};
pub use reader::{Coverage, Gap, LogReader, Overlap, Piece, Window};
pub use writer::{Appended, LogWriter, ship};

/// A place in a log. In order of epochs, and of positions within one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[non_exhaustive]
pub struct Position {
    /// The timeline.
    pub epoch: u32,
    /// The position in it.
    pub at: u64,
}

impl Position {
    /// A place in a log.
    pub fn new(epoch: u32, at: u64) -> Self {
        Self { epoch, at }
    }
}

impl std::fmt::Display for Position {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:08x}/{:016x}", self.epoch, self.at)
    }
}

/// A piece of a log, whole in memory: some MiB, or what some seconds brought.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Segment {
    /// The timeline.
    pub epoch: u32,
    /// The first position in it.
    pub start: u64,
    /// The first position behind it.
    pub end: u64,
    /// Its bytes in the log's stock format.
    pub bytes: Bytes,
}

impl Segment {
    /// The positions from `start` up to, and without, `end`.
    pub fn new(epoch: u32, start: u64, end: u64, bytes: impl Into<Bytes>) -> Self {
        Self { epoch, start, end, bytes: bytes.into() }
    }
}

/// What a source of segments reads.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LogDescription {
    /// The dataset that the log belongs to: the one of the bases that it carries forward.
    pub dataset: Dataset,
    /// The system, one word: its [name](crate::System::NAME).
    pub system: String,
    /// The extension of the segments' format, one word: `wal`.
    pub format: String,
}

impl LogDescription {
    /// A description.
    pub fn new(dataset: Dataset, system: impl Into<String>, format: impl Into<String>) -> Self {
        Self { dataset, system: system.into(), format: format.into() }
    }
}

/// Segments as a source gives them: an `Err` item is the last.
pub type SegmentStream = BoxStream<'static, Result<Segment>>;

/// Reads the log of a live system.
#[async_trait]
pub trait LogSource: Send + Sync {
    /// Says what would be read. Changes nothing and may be called more than once.
    ///
    /// # Errors
    /// Whatever would make [`open`](LogSource::open) fail at once.
    async fn describe(&self) -> Result<LogDescription>;

    /// Starts reading at a position; without one, at the oldest that there is.
    ///
    /// # Behaviour
    /// - Within an epoch each segment starts where the one before ends. Where the system no longer has a position, the source
    ///   goes on with the oldest that it has: the gap shows in the positions.
    /// - A new epoch starts at or before the end of the one before.
    /// - The same positions always have the same bytes, however they are cut.
    /// - The stream goes on for ever; it ends when `cx.cancel` is cancelled, or with an error. It reads no further ahead than
    ///   a few segments when nobody takes them.
    ///
    /// # Errors
    /// What kept it from starting. What fails later is an item of the stream.
    ///
    /// # Cancel safety
    /// Safe: dropping the stream ends everything that serves it.
    async fn open(&self, from: Option<Position>, cx: &Context) -> Result<SegmentStream>;

    /// Is told that everything before this position is stored and durable: the live system need not keep it any longer.
    ///
    /// # Errors
    /// What ends the run: a system that cannot be told keeps its log for ever.
    async fn confirm(&self, position: Position) -> Result<()> {
        let _ = position;
        Ok(())
    }
}
