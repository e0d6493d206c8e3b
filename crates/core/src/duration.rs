//! Durations as users write them: `90s`, `30min`, `36h`, `2d`, `1w`, `2d12h`.

use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer};

use crate::error::{Error, ErrorKind, Result};

const HINT: &str = "write a number and a unit, as in 36h, 2d, 1w or 2d12h; minutes are min, seconds s";

/// Parses a duration. `what` names it in errors.
///
/// # Errors
/// [`ErrorKind::Config`], saying what is wrong.
pub fn parse(text: &str, what: &str) -> Result<Duration> {
    let wrong = |why: String| Error::new(ErrorKind::Config, "use", format!("{what} \"{text}\""), why).hint(HINT);
    let mut total = Duration::ZERO;
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(wrong("it is empty".to_owned()));
    }
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let letters = rest[digits..].bytes().take_while(u8::is_ascii_alphabetic).count();
        let (number, unit) = (&rest[..digits], &rest[digits..digits + letters]);
        let seconds = match unit {
            "s" => 1,
            "min" => 60,
            "h" => 3600,
            "d" => 86_400,
            "w" => 7 * 86_400,
            "m" => return Err(wrong("m could be minutes or months".to_owned())),
            "" => return Err(wrong("a number or its unit is missing".to_owned())),
            other => return Err(wrong(format!("\"{other}\" is not a unit of time"))),
        };
        let number: u64 = number.parse().map_err(|_| wrong("a number is missing or out of range".to_owned()))?;
        let part = number.checked_mul(seconds).map(Duration::from_secs);
        total = part.and_then(|part| total.checked_add(part)).ok_or_else(|| wrong("it is out of range".to_owned()))?;
        rest = &rest[digits + letters..];
    }
    Ok(total)
}

/// A duration that is written as text, in a configuration table or after a flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Length(pub Duration);

impl FromStr for Length {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        parse(text, "the time").map(Self)
    }
}

impl<'de> Deserialize<'de> for Length {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(|error| crate::setting::with_advice(&error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read() {
        for (text, seconds) in [
            ("0s", 0),
            ("90s", 90),
            ("30min", 1800),
            ("36h", 129_600),
            ("2d", 172_800),
            ("1w", 604_800),
            ("2d12h", 216_000),
        ] {
            assert_eq!(parse(text, "max-age").unwrap().as_secs(), seconds, "{text}");
        }
    }

    #[test]
    fn what_is_no_duration_says_why() {
        for (text, why) in [
            ("", "empty"),
            ("2", "unit is missing"),
            ("2m", "minutes or months"),
            ("d", "number is missing"),
            ("2 d", "missing"),
            ("2parsecs", "not a unit"),
            ("99999999999999999999d", "out of range"),
            ("2dü", "missing"),
        ] {
            let error = parse(text, "max-age").unwrap_err();
            assert!(error.message().contains(why), "{text}: {error}");
            assert_eq!(error.kind(), ErrorKind::Config);
        }
    }
}
