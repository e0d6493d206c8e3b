//! Rates and sizes as people write them: `20MB/s`, `1.5MiB/s`, `512MiB`.

use std::fmt;
use std::num::NonZeroU64;
use std::str::FromStr;

use serde::{Deserialize, Deserializer};

use crate::error::{Error, ErrorKind, Result};

/// The units of bytes: powers of 1000 (SI) and of 1024 (IEC 80000-13).
const UNITS: [(&str, u64); 10] = [
    ("B", 1),
    ("KB", 1000),
    ("kB", 1000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
];

/// Bytes per second. As text a number, a unit of bytes and `/s`: `20MB/s` is 20,000,000 bytes per second, and `20MiB/s`
/// 20,971,520.
///
/// ```
/// use lifeboat_core::limiter::Rate;
///
/// let rate: Rate = "1.5MB/s".parse()?;
/// assert_eq!(rate.bytes_per_second(), 1_500_000);
/// assert!("20Mbit/s".parse::<Rate>().is_err());
/// # Ok::<_, lifeboat_core::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rate(NonZeroU64);

impl Rate {
    /// So many bytes per second.
    pub fn new(bytes_per_second: NonZeroU64) -> Self {
        Self(bytes_per_second)
    }

    /// Bytes per second.
    pub fn bytes_per_second(self) -> u64 {
        self.0.get()
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.0.get();
        // The largest unit in which it is a whole number.
        let whole = UNITS.iter().filter(|(_, factor)| bytes.is_multiple_of(*factor));
        let (unit, factor) = whole.max_by_key(|(_, factor)| *factor).unwrap_or(&UNITS[0]);
        write!(f, "{}{unit}/s", bytes / factor)
    }
}

impl FromStr for Rate {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::parse(text, "the rate")
    }
}

impl Rate {
    /// Reads a rate. `what` names it in errors.
    ///
    /// # Errors
    /// [`ErrorKind::Config`], saying what is wrong with it.
    pub fn parse(text: &str, what: &str) -> Result<Self> {
        let wrong = |why: &str| {
            Error::new(ErrorKind::Config, "use", format!("{what} \"{text}\""), why).hint(
                "write bytes per second with their unit, as in 20MB/s or 20MiB/s (8 Mbit/s are 1MB/s); to set no limit, leave it out",
            )
        };
        let Some(amount) = text.trim().strip_suffix("/s") else { return Err(wrong("a rate ends in /s")) };
        let bytes = number_of_bytes(amount).map_err(|why| wrong(&why))?;
        NonZeroU64::new(bytes).map(Self).ok_or_else(|| wrong("nothing would ever pass"))
    }
}

impl<'de> Deserialize<'de> for Rate {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(|error| crate::setting::with_advice(&error))
    }
}

/// Reads a size in bytes: `512MiB`, `1.5GB`. `what` names it in errors.
///
/// # Errors
/// [`ErrorKind::Config`], saying what is wrong with it.
pub fn parse_size(text: &str, what: &str) -> Result<u64> {
    number_of_bytes(text).map_err(|why| {
        Error::new(ErrorKind::Config, "use", format!("{what} \"{text}\""), why)
            .hint("write a number of bytes with its unit, as in 512MiB or 1GB")
    })
}

fn number_of_bytes(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let end = text.bytes().take_while(|b| b.is_ascii_digit() || *b == b'.').count();
    let (number, unit) = (&text[..end], text[end..].trim_start());
    let Some((_, factor)) = UNITS.iter().find(|(name, _)| *name == unit) else {
        return Err(match unit {
            "" => "its unit is missing".to_owned(),
            other if UNITS.iter().any(|(name, _)| name.eq_ignore_ascii_case(other)) => {
                format!("\"{other}\" could be bits or bytes: the units are kB, MB, GB, KiB, MiB and GiB")
            }
            other => format!("\"{other}\" is not a unit of bytes"),
        });
    };
    let (whole, part) = number.split_once('.').unwrap_or((number, "0"));
    let digits = |text: &str| text.parse::<u64>().map_err(|_| "a number is missing or out of range".to_owned());
    // Nine digits are more than any unit has use for.
    let part = &part[..part.len().min(9)];
    let (whole, fraction) = (digits(whole)?, u128::from(digits(part)?));
    let fraction = fraction * u128::from(*factor) / 10u128.pow(u32::try_from(part.len()).unwrap_or(0));
    let bytes = u128::from(whole) * u128::from(*factor) + fraction;
    u64::try_from(bytes).map_err(|_| "it is out of range".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_read_and_shown() {
        for (text, bytes, shown) in [
            ("20MB/s", 20_000_000, "20MB/s"),
            ("20MiB/s", 20 << 20, "20MiB/s"),
            ("20 MB/s", 20_000_000, "20MB/s"),
            ("1.5MB/s", 1_500_000, "1500kB/s"),
            ("0.5KiB/s", 512, "512B/s"),
            ("800kB/s", 800_000, "800kB/s"),
            ("1GiB/s", 1 << 30, "1GiB/s"),
            ("7B/s", 7, "7B/s"),
        ] {
            let rate: Rate = text.parse().unwrap();
            assert_eq!((rate.bytes_per_second(), rate.to_string().as_str()), (bytes, shown), "{text}");
        }
        assert_eq!(parse_size("512MiB", "memory_limit").unwrap(), 512 << 20);
    }

    #[test]
    fn what_is_no_rate_says_why() {
        for (text, why) in [
            ("", "ends in /s"),
            ("20MB", "ends in /s"),
            ("20/s", "unit is missing"),
            ("20Mbit/s", "not a unit of bytes"),
            ("20mb/s", "bits or bytes"),
            ("MB/s", "number is missing"),
            ("1.MB/s", "number is missing"),
            ("-1MB/s", "not a unit"),
            ("0MB/s", "nothing would ever pass"),
            ("99999999999TB/s", "out of range"),
        ] {
            let error = Rate::parse(text, "upload_limit").unwrap_err();
            assert!(error.message().contains(why), "{text}: {error}");
            assert!(error.subject().starts_with("upload_limit"), "{error}");
            assert_eq!(error.kind(), ErrorKind::Config);
        }
    }
}
