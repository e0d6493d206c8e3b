//! Why a walk ends.

use std::error::Error;
use std::fmt;

use super::super::wal::{Lsn, SegmentSize, Timeline};

/// Where a log stops being valid, and why. What lies before [`Walker::verified`](super::Walker::verified) is good all the same.
///
/// Whether it is damage depends on what is read. In the last segment of a server it is how a log ends: behind it lie zeros, or
/// what the file held when it was another segment. In what a server has streamed, or in a segment that another one follows, it is
/// damage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// Where the page or record begins that is not valid.
    pub at: Lsn,
    /// Where that came to light: on a later page, if the record goes on there.
    pub noticed: Lsn,
    /// What is not valid.
    pub reason: EndReason,
}

/// What is not valid in a log.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EndReason {
    /// No record was written here: its length is 0.
    Nothing,
    /// A length that no record has.
    Length(u32),
    /// A record follows another one than the one before it: it is left from the file's earlier use, or one is missing.
    Previous {
        /// What it says it follows.
        found: Lsn,
        /// The record before it. `None` for the first record, for which any earlier position would do.
        expected: Option<Lsn>,
    },
    /// A record's checksum is not that of its content.
    Checksum {
        /// What it says.
        found: u32,
        /// What it should say.
        computed: u32,
    },
    /// The page was never written: its header is zeros.
    BlankPage,
    /// A magic number of no PostgreSQL from 13 to 18: another version, or a vendor's own. The bytes may well be good, but cannot
    /// be judged here: keep them.
    UnknownMagic(u16),
    /// Another magic number than that of the pages before.
    OtherMagic {
        /// That of this page.
        found: u16,
        /// That of the pages before.
        expected: u16,
    },
    /// Flags that no page has, or not at this place.
    Flags(u16),
    /// A page of another position: left from the file's earlier use, or misplaced.
    Address(Lsn),
    /// A page of a later timeline than the segment's, or of an earlier one than the page before.
    Timeline {
        /// That of this page.
        found: u32,
        /// The lowest that it can have.
        lowest: u32,
        /// The segment's.
        highest: Timeline,
    },
    /// A segment of another cluster.
    System {
        /// The system identifier in the segment.
        found: u64,
        /// The cluster's.
        expected: u64,
    },
    /// A segment of another size.
    SegmentSize {
        /// In bytes, as the segment says.
        found: u32,
        /// The size that was expected.
        expected: SegmentSize,
    },
    /// Pages of another size than 8 KiB, in bytes.
    PageSize(u32),
    /// A record does not go on here as it should: how many bytes of it are left by this page, and by the record itself. `None`
    /// where it says that there is no such record.
    Continuation {
        /// By the page.
        found: Option<u32>,
        /// By the record.
        expected: Option<u32>,
    },
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the log is valid only up to {}: ", self.at)?;
        if self.noticed != self.at {
            write!(f, "at {}: ", self.noticed)?;
        }
        self.reason.fmt(f)
    }
}

impl Error for End {}

impl fmt::Display for EndReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let left = |left: &Option<u32>| left.map_or("none".to_owned(), |bytes| format!("{bytes} bytes"));
        match self {
            Self::Nothing => f.write_str("no record was written there"),
            Self::Length(found) => write!(f, "a record cannot have {found} bytes"),
            Self::Previous { found, expected: Some(expected) } => {
                write!(f, "the record says that it follows {found}, but the one before it is at {expected}")
            }
            Self::Previous { found, expected: None } => {
                write!(f, "the record says that it follows {found}, a later one")
            }
            Self::Checksum { found, computed } => {
                write!(f, "the record's checksum is {computed:08x}, but {found:08x} is stored with it")
            }
            Self::BlankPage => f.write_str("the page was never written"),
            Self::UnknownMagic(found) => {
                write!(f, "the page's magic number {found:04X} is of no version from 13 to 18 of PostgreSQL")
            }
            Self::OtherMagic { found, expected } => {
                write!(f, "the page's magic number is {found:04X}, but {expected:04X} on the pages before")
            }
            Self::Flags(found) => write!(f, "the page has the flags {found:04x}, which cannot be there"),
            Self::Address(found) => write!(f, "the page is that of {found}"),
            Self::Timeline { found, lowest, highest } => {
                write!(f, "the page is of timeline {found}, not of one from {lowest} to {highest}")
            }
            Self::System { found, expected } => {
                write!(f, "the segment is of the cluster with system identifier {found}, not of {expected}")
            }
            Self::SegmentSize { found, expected } => {
                write!(f, "the segment is one of {found} bytes, not of {}", expected.bytes())
            }
            Self::PageSize(found) => write!(f, "its pages have {found} bytes; only pages of 8192 can be read"),
            Self::Continuation { found, expected } => write!(
                f,
                "of a record that goes on there, {} remain by the page and {} by the record",
                left(found),
                left(expected)
            ),
        }
    }
}
