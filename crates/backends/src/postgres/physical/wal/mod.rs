//! The vocabulary of the write-ahead log: positions, timelines, segments and the names of their files.
//!
//! All of it is pure. Formats: PostgreSQL's `src/include/access/xlog_internal.h` (names, sizes),
//! `src/include/access/xlogdefs.h` (positions, timelines) and `src/backend/access/transam/timeline.c` (history files).

mod file;
mod history;
mod lsn;
mod segment;
#[cfg(test)]
mod tests;
mod time;
mod timeline;

use std::error::Error;
use std::fmt;

pub use file::WalFile;
pub use history::{Ancestor, BrokenHistory, TimelineHistory};
pub use lsn::Lsn;
pub use segment::{SegmentName, SegmentSize};
pub use time::PgTime;
pub use timeline::Timeline;

/// A text that is not what it was read as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Malformed {
    what: &'static str,
    text: String,
    expected: &'static str,
}

impl Malformed {
    /// Of a long text only its start is kept.
    fn new(what: &'static str, text: &str, expected: &'static str) -> Self {
        Self { what, text: text.chars().take(64).collect(), expected }
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is not {}: expected {}", self.text, self.what, self.expected)
    }
}

impl Error for Malformed {}
