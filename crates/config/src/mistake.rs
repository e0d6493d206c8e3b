//! Mistakes in a config file, with the line, the column and a near name.

use std::ops::Range;
use std::path::Path;

use lifeboat_core::words::suggest;
use lifeboat_core::{Error, ErrorKind};

use crate::node::NodeError;

/// A mistake at one place in the file.
#[derive(Debug)]
pub(crate) struct Mistake {
    pub(crate) at: usize,
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
}

impl Mistake {
    pub(crate) fn new(at: usize, message: impl Into<String>) -> Self {
        Self { at, message: message.into(), hint: None }
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// An error of the TOML parser or of a table's deserializer, in the table `table`. `more`: valid keys that the deserializer
    /// does not know.
    pub(crate) fn of_toml(error: &toml::de::Error, table: &str, span: &Range<usize>, more: &[&str]) -> Self {
        Self::of_message(error.message(), error.span().map_or(span.start, |s| s.start), table, more)
    }

    /// Why a system's settings are invalid.
    pub(crate) fn of_node(error: &NodeError, table: &str, span: &Range<usize>) -> Self {
        Self::of_message(&error.message, error.at.unwrap_or(span.start), table, &[])
    }

    fn of_message(message: &str, at: usize, table: &str, more: &[&str]) -> Self {
        let inside = if table.is_empty() { String::new() } else { format!(" in {table}") };
        // serde's own words: "unknown field `x`, expected one of `a`, `b`".
        if let Some((name, known)) = message.strip_prefix("unknown field `").and_then(|m| m.split_once('`')) {
            let known: Vec<&str> = more.iter().copied().chain(known.split('`').skip(1).step_by(2)).collect();
            return Self::new(at, format!("unknown key \"{name}\"{inside}")).hint(suggest(name, &known));
        }
        if let Some(name) = message.strip_prefix("missing field `").and_then(|m| m.strip_suffix('`')) {
            return Self::new(at, format!("the key \"{name}\" is missing{inside}"));
        }
        let table = if table.is_empty() { String::new() } else { format!("{table}: ") };
        Self::new(at, format!("{table}{}", redact(message)))
    }
}

/// serde's message about a wrong type quotes the value, which may be a password.
fn redact(message: &str) -> String {
    match message.split_once("string \"") {
        Some((before, rest)) if before.starts_with("invalid") => match rest.rsplit_once("\", expected") {
            Some((_, expected)) => format!("{before}a string, expected{expected}"),
            None => format!("{before}a string"),
        },
        _ => message.to_owned(),
    }
    .replace('\n', ", ")
}

/// Line and column of a byte, both from 1.
pub(crate) fn position(text: &str, at: usize) -> (usize, usize) {
    let before = text.get(..at.min(text.len())).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |n| n + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

/// All mistakes of a file as one error.
pub(crate) fn error(path: &Path, text: &str, mut mistakes: Vec<Mistake>) -> Error {
    mistakes.sort_by_key(|m| m.at);
    let one = mistakes.len() == 1;
    let lines: Vec<String> = mistakes
        .iter()
        .map(|mistake| {
            let (line, column) = position(text, mistake.at);
            let hint = mistake.hint.as_ref().filter(|_| !one).map(|h| format!(" ({h})")).unwrap_or_default();
            format!("line {line}, column {column}: {}{hint}", mistake.message)
        })
        .collect();
    let message = if one { lines.concat() } else { format!("{} mistakes\n  {}", lines.len(), lines.join("\n  ")) };
    let error = Error::new(ErrorKind::Config, "read", path.display().to_string(), message);
    match mistakes.pop().and_then(|m| m.hint) {
        Some(hint) if one => error.hint(hint),
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_of_the_wrong_type_is_not_printed() {
        let message = "invalid type: string \"postgres://u:hunter2@h\", expected struct Table";
        assert_eq!(redact(message), "invalid type: a string, expected struct Table");
    }

    #[test]
    fn positions_count_from_one() {
        assert_eq!(position("ab\ncd", 0), (1, 1));
        assert_eq!(position("ab\nüd", 5), (2, 2));
        assert_eq!(position("ab", 99), (1, 3));
    }
}
