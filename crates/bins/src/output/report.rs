//! Checks as a table, and times and sizes as people and programs read them.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use lifeboat::Check;
use lifeboat::report::{human_bytes, human_duration};

use super::Output;
use super::table::Table;

/// A table of checks, in the order in which they were made.
pub(crate) fn checks(output: &Output, checks: &[Check]) -> Vec<String> {
    let mut table = Table::new(["CHECK", "STATUS", "FIGURE", "TIME", "DETAIL"]);
    for check in checks {
        table.row([
            check.name.clone(),
            output.status(check.status),
            check.figure.clone(),
            if check.seconds > 0.0 { seconds(check.seconds) } else { "-".to_owned() },
            check.detail.clone(),
        ]);
    }
    table.lines()
}

/// Seconds in words: `2m 13s`.
pub(crate) fn seconds(seconds: f64) -> String {
    human_duration(Duration::try_from_secs_f64(seconds).unwrap_or_default())
}

/// A size in human units and in bytes: `1.5 GiB (1610612736)`.
pub(crate) fn size(bytes: u64) -> String {
    if bytes < 1024 { human_bytes(bytes) } else { format!("{} ({bytes})", human_bytes(bytes)) }
}

/// A moment, to the second.
pub(crate) fn time(at: Timestamp) -> String {
    Timestamp::from_second(at.as_second()).unwrap_or(at).to_string()
}

/// How long ago it was.
pub(crate) fn age(at: Timestamp, now: Timestamp) -> String {
    let age: SignedDuration = now.duration_since(at);
    match Duration::try_from(age) {
        Ok(age) => human_duration(age),
        Err(_) => "in the future".to_owned(),
    }
}

/// How old something is, for a sentence: `3d 4h old`.
pub(crate) fn old(at: Timestamp, now: Timestamp) -> String {
    if at > now { "dated in the future".to_owned() } else { format!("{} old", age(at, now)) }
}

/// A noun with its number: `1 table`, `2 tables`.
pub(crate) fn count(n: usize, noun: &str) -> String {
    format!("{n} {noun}{}", if n == 1 { "" } else { "s" })
}
