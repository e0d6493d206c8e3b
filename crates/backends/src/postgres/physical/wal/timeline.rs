//! Timelines.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;

use super::Malformed;

/// The number of a timeline (`TimeLineID`): a branch of the log. A server begins with 1, and takes a free higher number whenever
/// it is promoted or recovered to a point in time. That number need not be the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timeline(NonZeroU32);

impl Timeline {
    /// The one that a new cluster begins with. It has no history.
    pub const FIRST: Self = Self(NonZeroU32::MIN);

    /// `None` for 0, which is no timeline.
    pub fn new(number: u32) -> Option<Self> {
        NonZeroU32::new(number).map(Self)
    }

    /// The number.
    pub fn number(self) -> u32 {
        self.0.get()
    }

    /// From its eight capital hexadecimal digits in the name of a file.
    pub(super) fn from_hex(digits: &str) -> Option<Self> {
        hex32(digits).and_then(Self::new)
    }
}

/// Eight capital hexadecimal digits, as the names of files have them.
pub(super) fn hex32(digits: &str) -> Option<u32> {
    let good = digits.len() == 8 && digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'A'..=b'F'));
    good.then(|| u32::from_str_radix(digits, 16).ok())?
}

/// In decimal, as commands and messages have it.
impl fmt::Display for Timeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Timeline {
    type Err = Malformed;

    /// Reads a decimal number.
    fn from_str(text: &str) -> Result<Self, Malformed> {
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let number = digits.then(|| text.parse().ok()).flatten().and_then(Self::new);
        number.ok_or_else(|| Malformed::new("a timeline", text, "a number from 1 to 4294967295"))
    }
}
