//! The names of all files of a log.

use std::fmt;
use std::str::FromStr;

use super::timeline::hex32;
use super::{Malformed, SegmentName, Timeline};

/// A file in `pg_wal` or in an archive of it, by its name. A name is read only if it is exactly what is written for it.
///
/// ```
/// use lifeboat_backends::postgres::physical::wal::{Timeline, WalFile};
///
/// assert_eq!("00000002.history".parse(), Ok(WalFile::History(Timeline::new(2).unwrap())));
/// assert!("RECOVERYXLOG".parse::<WalFile>().is_err());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WalFile {
    /// A whole segment.
    Segment(SegmentName),
    /// `<segment>.partial`: the last segment of a timeline that was left, or one that `pg_receivewal` is still filling.
    Partial(SegmentName),
    /// `<segment>.<offset>.backup`: a text about the base backup that begins at this offset in this segment.
    BackupHistory {
        /// Where the backup begins.
        segment: SegmentName,
        /// In bytes; it is below the size of segments.
        offset: u32,
    },
    /// `<timeline>.history`: from which timelines it comes.
    History(Timeline),
}

impl WalFile {
    /// Its timeline.
    pub fn timeline(self) -> Timeline {
        match self {
            Self::Segment(segment) | Self::Partial(segment) | Self::BackupHistory { segment, .. } => segment.timeline(),
            Self::History(timeline) => timeline,
        }
    }
}

impl fmt::Display for WalFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Segment(segment) => segment.fmt(f),
            Self::Partial(segment) => write!(f, "{segment}.partial"),
            Self::BackupHistory { segment, offset } => write!(f, "{segment}.{offset:08X}.backup"),
            Self::History(timeline) => write!(f, "{:08X}.history", timeline.number()),
        }
    }
}

impl FromStr for WalFile {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let read = || {
            let Some((name, rest)) = text.split_once('.') else { return text.parse().ok().map(Self::Segment) };
            if rest == "history" {
                return Timeline::from_hex(name).map(Self::History);
            }
            let segment = name.parse().ok()?;
            if rest == "partial" {
                return Some(Self::Partial(segment));
            }
            Some(Self::BackupHistory { segment, offset: hex32(rest.strip_suffix(".backup")?)? })
        };
        let expected =
            "a segment (24 hexadecimal digits), and after it nothing, .partial or .OFFSET.backup; or TIMELINE.history";
        read().ok_or_else(|| Malformed::new("the name of a file of the log", text, expected))
    }
}
