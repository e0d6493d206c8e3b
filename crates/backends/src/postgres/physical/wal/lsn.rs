//! Positions in the log.

use std::fmt;
use std::str::FromStr;

use super::{Malformed, SegmentSize};

/// A position in the log, in bytes from its beginning (`XLogRecPtr`). It is written as two hexadecimal numbers of 32 bits, as
/// `pg_lsn` is (`src/backend/utils/adt/pg_lsn.c`).
///
/// ```
/// use lifeboat_backends::postgres::physical::wal::Lsn;
///
/// let lsn: Lsn = "1/72000188".parse().unwrap();
/// assert_eq!(lsn, Lsn(0x1_7200_0188));
/// assert_eq!(lsn.to_string(), "1/72000188");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lsn(pub u64);

impl Lsn {
    /// The beginning, which the server calls invalid: no record is there.
    pub const ZERO: Self = Self(0);

    /// Whether it is [`ZERO`](Self::ZERO), which stands for "none".
    pub fn is_zero(self) -> bool {
        self == Self::ZERO
    }

    /// The position so many bytes later. `None` past the end of all positions.
    pub fn checked_add(self, bytes: u64) -> Option<Self> {
        self.0.checked_add(bytes).map(Self)
    }

    /// How many bytes lie between an earlier position and this one. `None` if the other is later.
    pub fn since(self, earlier: Self) -> Option<u64> {
        self.0.checked_sub(earlier.0)
    }

    /// Where the segment begins that holds the byte at this position.
    pub fn segment_start(self, size: SegmentSize) -> Self {
        Self(self.0 & !(u64::from(size.bytes()) - 1))
    }

    /// How far into its segment it is, in bytes.
    pub fn segment_offset(self, size: SegmentSize) -> u32 {
        // Less than a segment, and a segment has at most 1 GiB.
        (self.0 & (u64::from(size.bytes()) - 1)) as u32
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xFFFF_FFFF)
    }
}

impl FromStr for Lsn {
    type Err = Malformed;

    /// Reads `X/X`, each part of 1 to 8 hexadecimal digits in either case: newer servers pad the second one with zeros.
    fn from_str(text: &str) -> Result<Self, Malformed> {
        let part = |digits: &str| {
            let good = (1..=8).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_hexdigit());
            good.then(|| u64::from_str_radix(digits, 16).ok())?
        };
        let read = || {
            let (high, low) = text.split_once('/')?;
            Some(Self(part(high)? << 32 | part(low)?))
        };
        read()
            .ok_or_else(|| Malformed::new("a position in the log", text, "two hexadecimal numbers such as 1/72000188"))
    }
}
