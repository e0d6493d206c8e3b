//! Durations as Go writes them (`720h0m0s`), which is how Velero's objects hold them. Source: `time.ParseDuration` and
//! `Duration.String` of Go's standard library.

use std::time::Duration;

/// Writes a duration, to the second.
pub(crate) fn write(duration: Duration) -> String {
    let seconds = duration.as_secs();
    format!("{}h{}m{}s", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

/// Parses a duration; `None` if it is invalid or negative.
pub(crate) fn read(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    let mut nanoseconds = 0_f64;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        let tail = &rest[digits..];
        let unit_length = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let unit = match &tail[..unit_length] {
            "h" => 3600e9,
            "m" => 60e9,
            "s" => 1e9,
            "ms" => 1e6,
            "us" | "µs" | "μs" => 1e3,
            "ns" => 1.0,
            _ => return None,
        };
        nanoseconds += number * unit;
        rest = &tail[unit_length..];
    }
    Duration::try_from_secs_f64(nanoseconds / 1e9).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_back_as_go_reads_them() {
        for (text, seconds) in [("720h0m0s", 2_592_000), ("168h", 604_800), ("1h30m", 5400), ("90m", 5400), ("0s", 0)] {
            assert_eq!(read(text), Some(Duration::from_secs(seconds)), "{text}");
        }
        assert_eq!(read("1.5h"), Some(Duration::from_secs(5400)));
        assert_eq!(read("250ms"), Some(Duration::from_millis(250)));
        for wrong in ["", "7d", "-1h", "h", "1", "1h2"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
        assert_eq!(write(Duration::from_secs(7 * 86_400)), "168h0m0s");
        assert_eq!(read(&write(Duration::from_secs(3725))), Some(Duration::from_secs(3725)));
    }
}
