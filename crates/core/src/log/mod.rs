//! Logs: segments that arrive every few seconds and carry a base forward (a write-ahead log, an operation log).
//!
//! Segments are not artifacts: they have their own layout, no manifest and no row in `list`. A segment is one object,
//! and its `put` is its commit.
//!
//! ```text
//! <prefix>/<dataset>.log/<epoch>/<start>-<length>-<hash>.<format>[.zst|.gz][.age|.enc]
//! db/main.log/00000001/0000000003000000-0000000001000000-0123456789abcdef0123456789abcdef.wal.zst.age
//! ```
//!
//! | part | meaning |
//! |---|---|
//! | epoch | 8 hexadecimal digits: the timeline. A later timeline has a greater number |
//! | start, length | 16 hexadecimal digits each: the segment covers the positions from `start` up to but excluding `start + length` |
//! | hash | the first 32 hexadecimal digits of the SHA-256 of the plaintext |
//!
//! The source defines what a position is: a byte of the log, a timestamp. Positions only grow within an epoch, and each
//! segment starts where the previous one ends. Names sort by position, so a listing shows what is covered, and where
//! something is missing, without reading an object.
//!
//! The hash distinguishes a segment sent twice from different content for the same positions, which is an error and is
//! never overwritten. A segment is also checked against it when read. Whoever can list the bucket and has a whole
//! segment can tell that it is stored; the content of a segment cannot be found by guessing as long as it holds times
//! and checksums, as such logs do.
//!
//! **The end.** A log has no end marker: it ends with the last segment that follows the others without a gap. A reader
//! that must reach a position names it, and gets an error if the log does not reach that far.

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

/// A place in a log. Ordered by epoch, then by position.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[non_exhaustive]
pub struct Position {
    /// The timeline.
    pub epoch: u32,
    /// The position in it.
    pub at: u64,
}

impl Position {
    /// Creates a position.
    pub fn new(epoch: u32, at: u64) -> Self {
        Self { epoch, at }
    }
}

impl std::fmt::Display for Position {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:08x}/{:016x}", self.epoch, self.at)
    }
}

/// A piece of a log, held in memory: a few MiB, or a few seconds' worth.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Segment {
    /// The timeline.
    pub epoch: u32,
    /// The first position in it.
    pub start: u64,
    /// The first position after the segment.
    pub end: u64,
    /// Its bytes in the log's stock format.
    pub bytes: Bytes,
}

impl Segment {
    /// Creates a segment of the positions from `start` up to but excluding `end`.
    pub fn new(epoch: u32, start: u64, end: u64, bytes: impl Into<Bytes>) -> Self {
        Self { epoch, start, end, bytes: bytes.into() }
    }
}

/// What a source of segments reads.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LogDescription {
    /// The dataset of the log, which is also that of the bases it carries forward.
    pub dataset: Dataset,
    /// The system's [name](crate::System::NAME), one word.
    pub system: String,
    /// The extension of the segments' format, one word: `wal`.
    pub format: String,
}

impl LogDescription {
    /// Creates a description.
    pub fn new(dataset: Dataset, system: impl Into<String>, format: impl Into<String>) -> Self {
        Self { dataset, system: system.into(), format: format.into() }
    }
}

/// The segments of a source. An `Err` item is the last.
pub type SegmentStream = BoxStream<'static, Result<Segment>>;

/// Reads the log of a live system.
#[async_trait]
pub trait LogSource: Send + Sync {
    /// Describes what would be read. Changes nothing and may be called more than once.
    ///
    /// # Errors
    /// Any error that would make [`open`](LogSource::open) fail at once.
    async fn describe(&self) -> Result<LogDescription>;

    /// Starts reading at a position, or without one at the oldest available.
    ///
    /// # Behaviour
    /// - Within an epoch, each segment starts where the previous one ends. If the system no longer has a position, the
    ///   source continues with the oldest it has: the positions show the gap.
    /// - A new epoch starts at or before the end of the previous one.
    /// - The same positions always have the same bytes, however they are split.
    /// - The stream is endless; it ends only when `cx.cancel` is cancelled, or with an error. If segments are not
    ///   consumed, it reads at most a few ahead.
    ///
    /// # Errors
    /// Any error that prevents the start. Later errors are items of the stream.
    ///
    /// # Cancel safety
    /// Safe: dropping the stream ends everything that serves it.
    async fn open(&self, from: Option<Position>, cx: &Context) -> Result<SegmentStream>;

    /// Confirms that everything before this position is stored and durable, so that the live system need not keep it.
    ///
    /// # Errors
    /// Any error ends the run: a system that gets no confirmations keeps its log forever.
    async fn confirm(&self, position: Position) -> Result<()> {
        let _ = position;
        Ok(())
    }
}
