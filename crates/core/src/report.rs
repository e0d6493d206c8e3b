//! Reports: named checks, each with a status and a figure.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::verifier::Level;

/// The outcome of one check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Status {
    /// It is as it should be.
    Pass,
    /// A person should look, but the artifact is good.
    Warn,
    /// It could not be looked at here: nothing is known, neither good nor bad. A full disk, a server that was killed, an
    /// extension that is not installed.
    Untested,
    /// The artifact does not prove what was asked.
    Fail,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Pass => "PASS",
            Self::Warn => "WARN",
            Self::Untested => "UNTESTED",
            Self::Fail => "FAIL",
        })
    }
}

/// One named check with its figure.
///
/// ```
/// use lifeboat_core::{Check, Status};
///
/// let check = Check::pass("content", "15 tables", "counts and fingerprints equal the proof");
/// assert_eq!((check.status, check.name.as_str()), (Status::Pass, "content"));
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Check {
    /// What was looked at: `age`, `stored sha256`, `table public.orders`.
    pub name: String,
    /// What came of it.
    pub status: Status,
    /// The figure: a count, a size, a time. Short enough for a table's column.
    pub figure: String,
    /// A sentence with both sides of a comparison, or what to do.
    pub detail: String,
    /// How long it took, in seconds.
    pub seconds: f64,
}

impl Check {
    /// Creates a check with this status.
    pub fn new(status: Status, name: impl Into<String>, figure: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { name: name.into(), status, figure: figure.into(), detail: detail.into(), seconds: 0.0 }
    }

    /// Creates a check that passed.
    pub fn pass(name: impl Into<String>, figure: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::new(Status::Pass, name, figure, detail)
    }

    /// Creates a check that a person should look at.
    pub fn warn(name: impl Into<String>, figure: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::new(Status::Warn, name, figure, detail)
    }

    /// Creates a check that could not be made: the detail says why, and what to do.
    pub fn untested(name: impl Into<String>, figure: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::new(Status::Untested, name, figure, detail)
    }

    /// Creates a check that failed.
    pub fn fail(name: impl Into<String>, figure: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::new(Status::Fail, name, figure, detail)
    }

    /// Creates a failed check from an error and its hint.
    pub fn from_error(name: impl Into<String>, error: &crate::Error) -> Self {
        Self::of_error(Status::Fail, name, error)
    }

    /// Creates a check that could not be made from the error that prevented it and its hint.
    pub fn untested_for(name: impl Into<String>, error: &crate::Error) -> Self {
        Self::of_error(Status::Untested, name, error)
    }

    fn of_error(status: Status, name: impl Into<String>, error: &crate::Error) -> Self {
        let detail = match error.advice() {
            Some(advice) => format!("{error}; {advice}"),
            None => error.to_string(),
        };
        Self::new(status, name, error.kind().as_str(), detail)
    }

    /// Records how long it took.
    #[must_use]
    pub fn took(mut self, time: Duration) -> Self {
        self.seconds = time.as_secs_f64();
        self
    }
}

/// What a verification found out about one artifact.
///
/// ```
/// use lifeboat_core::{Check, Level, Report, Status};
///
/// let checks = vec![Check::pass("stored", "1083 bytes", "size and SHA-256 match"), Check::fail("content", "1 table", "it lacks rows")];
/// let report = Report::new("shop", "databases/shop-20261121-033000.dump.zst", Level::Restore, checks);
/// assert_eq!((report.passed, report.status()), (false, Status::Fail));
/// assert_eq!(report.failures().map(|check| check.name.as_str()).collect::<Vec<_>>(), ["content"]);
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Report {
    /// The dataset.
    pub dataset: String,
    /// The artifact's key.
    pub key: String,
    /// The level that was asked for.
    pub level: Level,
    /// Whether every check could be made, and none failed.
    pub passed: bool,
    /// Every check, in the order in which they were made.
    pub checks: Vec<Check>,
    /// How long the whole took, in seconds.
    pub seconds: f64,
}

impl Report {
    /// Creates a report of these checks; it passed when every one could be made and none failed.
    pub fn new(dataset: impl Into<String>, key: impl Into<String>, level: Level, checks: Vec<Check>) -> Self {
        let passed = !checks.is_empty() && checks.iter().all(|c| c.status < Status::Untested);
        Self { dataset: dataset.into(), key: key.into(), level, passed, checks, seconds: 0.0 }
    }

    /// The report with a further check.
    #[must_use]
    pub(crate) fn with(mut self, check: Check) -> Self {
        self.passed &= check.status < Status::Untested;
        self.checks.push(check);
        self
    }

    /// The worst status of all checks.
    pub fn status(&self) -> Status {
        self.checks.iter().map(|c| c.status).max().unwrap_or(Status::Fail)
    }

    /// The checks that failed.
    pub fn failures(&self) -> impl Iterator<Item = &Check> {
        self.checks.iter().filter(|c| c.status == Status::Fail)
    }
}

/// Formats a duration for people, in at most two units: `2d 4h`, `2m 13s`, `0.8s`.
pub fn human_duration(time: Duration) -> String {
    let total = time.as_secs();
    let (days, hours, minutes, seconds) = (total / 86_400, total / 3600 % 24, total / 60 % 60, total % 60);
    match (days, hours, minutes) {
        (0, 0, 0) if total < 10 => format!("{:.1}s", time.as_secs_f64()),
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, m) => format!("{m}m {seconds}s"),
        (0, h, m) => format!("{h}h {m}m"),
        (d, h, _) => format!("{d}d {h}h"),
    }
}

/// Formats a size for people, in binary units: `1.5 GiB`.
pub fn human_bytes(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1023.95 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes_read_well() {
        for (seconds, text) in
            [(0.84, "0.8s"), (59.0, "59s"), (133.0, "2m 13s"), (7260.0, "2h 1m"), (187_200.0, "2d 4h")]
        {
            assert_eq!(human_duration(Duration::from_secs_f64(seconds)), text);
        }
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1_048_575, "1.0 MiB"),
            (1_610_612_736, "1.5 GiB"),
            (u64::MAX, "16.0 EiB"),
        ] {
            assert_eq!(human_bytes(bytes), text);
        }
    }

    #[test]
    fn a_report_without_checks_has_not_passed() {
        assert!(!Report::new("d", "k", Level::Stored, Vec::new()).passed);
        assert!(Report::new("d", "k", Level::Stored, vec![Check::warn("a", "", "")]).passed);
        assert!(!Report::new("d", "k", Level::Stored, vec![Check::pass("a", "", ""), Check::fail("b", "", "")]).passed);
        let open = Report::new("d", "k", Level::Stored, vec![Check::pass("a", "", ""), Check::untested("b", "", "")]);
        assert!(!open.passed && open.failures().count() == 0);
    }
}
