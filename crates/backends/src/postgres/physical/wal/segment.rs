//! Segments: the files of fixed size that hold the log.

use std::fmt;
use std::str::FromStr;

use super::timeline::hex32;
use super::{Lsn, Malformed, Timeline};

/// The size of a cluster's segments (`wal_segment_size`): a power of two from 1 MiB to 1 GiB. It is chosen by `initdb`, so
/// nothing may assume 16 MiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentSize(u32);

impl SegmentSize {
    /// What `initdb` chooses unless told otherwise.
    pub const DEFAULT: Self = Self(16 << 20);

    /// `None` for what is no power of two from 1 MiB to 1 GiB (`IsValidWalSegSize`).
    pub fn new(bytes: u64) -> Option<Self> {
        let bytes = u32::try_from(bytes).ok()?;
        (bytes.is_power_of_two() && (1 << 20..=1 << 30).contains(&bytes)).then_some(Self(bytes))
    }

    /// In bytes.
    pub fn bytes(self) -> u32 {
        self.0
    }

    /// How many segments a name's middle part stands for (`XLogSegmentsPerXLogId`): 4 to 4096.
    fn in_each_group(self) -> u64 {
        (1 << 32) / u64::from(self.0)
    }
}

/// As `SHOW wal_segment_size` says it.
impl fmt::Display for SegmentSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 >> 20 {
            1024 => f.write_str("1GB"),
            megabytes => write!(f, "{megabytes}MB"),
        }
    }
}

impl FromStr for SegmentSize {
    type Err = Malformed;

    /// Reads a number and its unit, as `SHOW wal_segment_size` gives them: `16MB`, `1GB`. A server's units are multiples of
    /// 1024.
    fn from_str(text: &str) -> Result<Self, Malformed> {
        let read = || {
            let digits = text.bytes().take_while(u8::is_ascii_digit).count();
            let (number, unit) = text.split_at(digits);
            let unit: u64 = match unit {
                "B" => 1,
                "kB" => 1 << 10,
                "MB" => 1 << 20,
                "GB" => 1 << 30,
                _ => return None,
            };
            Self::new(number.parse::<u64>().ok()?.checked_mul(unit)?)
        };
        read().ok_or_else(|| {
            Malformed::new("a size of segments", text, "a power of two from 1MB to 1GB with its unit, such as 16MB")
        })
    }
}

/// The name of a segment: 24 hexadecimal digits (`XLogFileName`).
///
/// | digits | |
/// |---|---|
/// | 1 to 8 | timeline |
/// | 9 to 16 | number of the segment / (4 GiB / size of segments) |
/// | 17 to 24 | number of the segment % (4 GiB / size of segments) |
///
/// So which part of the log a name stands for depends on the size of segments.
///
/// ```
/// use lifeboat_backends::postgres::physical::wal::{Lsn, SegmentName, SegmentSize, Timeline};
///
/// let lsn: Lsn = "1/72000188".parse().unwrap();
/// let name = SegmentName::holding(Timeline::FIRST, lsn, SegmentSize::DEFAULT);
/// assert_eq!(name.to_string(), "000000010000000100000072");
/// assert_eq!(name.start(SegmentSize::DEFAULT), Some(Lsn(0x1_7200_0000)));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentName {
    timeline: Timeline,
    group: u32,
    within: u32,
}

impl SegmentName {
    /// The segment of a timeline that holds the byte at a position.
    pub fn holding(timeline: Timeline, lsn: Lsn, size: SegmentSize) -> Self {
        let number = lsn.0 / u64::from(size.bytes());
        // Of 2^64 / size segments, in groups of 2^32 / size: both parts are below 2^32.
        Self { timeline, group: (number / size.in_each_group()) as u32, within: (number % size.in_each_group()) as u32 }
    }

    /// Its timeline.
    pub fn timeline(self) -> Timeline {
        self.timeline
    }

    /// The same part of the log on another timeline.
    #[must_use]
    pub fn on(self, timeline: Timeline) -> Self {
        Self { timeline, ..self }
    }

    /// Where it begins. `None` if no segment of this size has this name.
    pub fn start(self, size: SegmentSize) -> Option<Lsn> {
        let within = u64::from(self.within);
        let number = u64::from(self.group) * size.in_each_group() + within;
        (within < size.in_each_group()).then(|| Lsn(number * u64::from(size.bytes())))
    }

    /// The next one on the same timeline. `None` after the last, or if no segment of this size has this name.
    pub fn next(self, size: SegmentSize) -> Option<Self> {
        let start = self.start(size)?.checked_add(u64::from(size.bytes()))?;
        Some(Self::holding(self.timeline, start, size))
    }
}

impl fmt::Display for SegmentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08X}{:08X}{:08X}", self.timeline.number(), self.group, self.within)
    }
}

impl FromStr for SegmentName {
    type Err = Malformed;

    /// Reads 24 digits, in capitals as the server writes them (`IsXLogFileName`).
    fn from_str(text: &str) -> Result<Self, Malformed> {
        let read = || {
            let (timeline, group, within) = (text.get(..8)?, text.get(8..16)?, text.get(16..)?);
            Some(Self { timeline: Timeline::from_hex(timeline)?, group: hex32(group)?, within: hex32(within)? })
        };
        read().ok_or_else(|| Malformed::new("the name of a segment", text, "24 hexadecimal digits in capitals"))
    }
}
