//! What reaches a terminal: names from a bucket and texts from a server are shown, but never act on it.
//!
//! All output passes through here last. Until then, colours are marks that only this process can make, so an escape sequence in
//! a name is not one of them.

use std::borrow::Cow;
use std::hash::{BuildHasher, RandomState};
use std::sync::OnceLock;

use lifeboat_core::words::{is_unseen, visible};

use super::Color;

/// How a mark begins. Foreign text contains it with a probability of 1 in 2^64.
fn opening() -> &'static str {
    static OPENING: OnceLock<String> = OnceLock::new();
    OPENING.get_or_init(|| format!("\x1b{:016x};", RandomState::new().hash_one(std::process::id())))
}

/// The mark where a colour begins; 0 ends it. An escape and what follows to the next `m`, as a terminal's own.
pub(super) fn mark(color: Color) -> String {
    format!("{}{color}m", opening())
}

/// A cell of a table: visible, with its marks.
pub(super) fn cell(text: &str) -> Cow<'_, str> {
    by_marks(text, visible, opening())
}

/// A text as it is written to a terminal, a file or a pipe.
pub(super) fn text(text: &str) -> Cow<'_, str> {
    by_marks(text, visible, "\x1b[")
}

fn by_marks<'a>(text: &'a str, between: fn(&str) -> Cow<'_, str>, mark: &str) -> Cow<'a, str> {
    let opening = opening();
    if !text.contains(opening) {
        return between(text);
    }
    Cow::Owned(text.split(opening).map(between).collect::<Vec<_>>().join(mark))
}

/// JSON as it is written: escapes characters that `serde_json` leaves alone but a terminal acts on. They occur only in strings.
pub(super) fn json(text: &str) -> Cow<'_, str> {
    let acts = |c: char| is_unseen(c) && c != '\n';
    if !text.contains(acts) {
        return Cow::Borrowed(text);
    }
    let escaped = |c: char| if acts(c) { format!("\\u{:04x}", u32::from(c)) } else { c.to_string() };
    Cow::Owned(text.chars().map(escaped).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_of_ours_are_colours_and_those_of_others_are_text() {
        let painted = format!("{}PASS{} \x1b[32mPASS\x1b[0m \u{9b}2J", mark(32), mark(0));
        assert_eq!(text(&painted), "\x1b[32mPASS\x1b[0m \\x1b[32mPASS\\x1b[0m \\u{9b}2J");
        assert_eq!(text(&cell(&painted)), text(&painted));
        assert_eq!(text("a\nb"), "a\nb");
    }

    #[test]
    fn json_stays_the_same_value() {
        let value = serde_json::json!({ "key": "shop\u{9b}2J\u{7f}\x1b\u{202e}" });
        let written = json(&value.to_string()).into_owned();
        assert!(!written.contains(is_unseen), "{written:?}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&written).unwrap(), value);
    }
}
