//! When a request is sent again, and how long is waited before.

use std::time::Duration;

use jiff::Timestamp;
use lifeboat_core::{Error, ErrorKind, Result};

/// When requests are sent again: what an API refused for its rate (429) always; what failed on its side (5xx) or on the way
/// only where doing it twice is doing it once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Retry {
    /// The pause after the first failure; it doubles from failure to failure.
    pub first: Duration,
    /// The longest pause of our own.
    pub longest: Duration,
    /// The longest pause that is taken because the API asks for it. Cloudflare blocks for five minutes.
    pub longest_asked: Duration,
    /// How often a request is sent at the most.
    pub attempts: u32,
    /// How long a request may go on failing, without the pauses that the API asked for.
    pub limit: Duration,
    /// The same for an API that has never answered: its address is probably wrong.
    pub first_contact: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            first: Duration::from_millis(500),
            longest: Duration::from_secs(15),
            longest_asked: Duration::from_secs(310),
            attempts: 10,
            limit: Duration::from_secs(180),
            first_contact: Duration::from_secs(15),
        }
    }
}

impl Retry {
    /// The default, with the limit of `LIFEBOAT_RETRY_LIMIT` (seconds) when that is set.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] when that is no number of seconds.
    pub fn from_env() -> Result<Self> {
        const NAME: &str = "LIFEBOAT_RETRY_LIMIT";
        let Ok(text) = std::env::var(NAME) else { return Ok(Self::default()) };
        if text.is_empty() {
            return Ok(Self::default());
        }
        let seconds = text.parse().map_err(|_| {
            Error::new(ErrorKind::Config, "read", NAME, format!("\"{text}\" is not a number of seconds"))
        })?;
        Ok(Self { limit: Duration::from_secs(seconds), ..Self::default() })
    }

    /// The pause after a number of failures: half of it fixed, half of it chance (0 to 1), so that many do not come back at
    /// once.
    pub(super) fn pause(&self, failures: u32, chance: f64) -> Duration {
        let full = self.first.saturating_mul(1 << failures.min(16)).min(self.longest);
        full.mul_f64(0.5 + chance / 2.0)
    }
}

/// What `Retry-After` asks for: seconds or an HTTP date (RFC 9110, section 10.2.3).
pub(super) fn retry_after(value: &str, now: Timestamp) -> Option<Duration> {
    let value = value.trim();
    if let Ok(seconds) = value.parse::<f64>() {
        // Some APIs send fractions, which the RFC does not know.
        return Duration::try_from_secs_f64(seconds).ok();
    }
    let date = jiff::fmt::rfc2822::parse(value).ok()?;
    Some(Duration::try_from(date.timestamp().duration_since(now)).unwrap_or_default())
}

pub(super) fn chance() -> f64 {
    let mut bytes = [0; 4];
    // Without randomness there is only no jitter.
    let _ = getrandom::fill(&mut bytes);
    f64::from(u32::from_le_bytes(bytes)) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest() {
        let retry = Retry::default();
        let pauses: Vec<_> = (0..8).map(|n| retry.pause(n, 1.0).as_millis()).collect();
        assert_eq!(pauses, [500, 1000, 2000, 4000, 8000, 15000, 15000, 15000]);
        assert_eq!(retry.pause(2, 0.0).as_millis(), 1000);
        assert_eq!(retry.pause(u32::MAX, 0.0).as_millis(), 7500);
    }

    #[test]
    fn retry_after_is_read_as_seconds_and_as_a_date() {
        let now: Timestamp = "2026-11-21T08:00:00Z".parse().unwrap();
        assert_eq!(retry_after("30", now), Some(Duration::from_secs(30)));
        assert_eq!(retry_after(" 0.5 ", now), Some(Duration::from_millis(500)));
        assert_eq!(retry_after("Sat, 21 Nov 2026 08:01:00 GMT", now), Some(Duration::from_secs(60)));
        assert_eq!(retry_after("Sat, 21 Nov 2026 07:00:00 GMT", now), Some(Duration::ZERO), "it is over");
        for none in ["", "soon", "-5", "NaN"] {
            assert_eq!(retry_after(none, now), None, "{none}");
        }
    }
}
