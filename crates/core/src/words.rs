//! Formatting of figures, times and names for messages.

use std::borrow::Cow;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::report::{human_bytes, human_duration};

/// Seconds in words: `2m 13s`.
pub fn seconds(seconds: f64) -> String {
    human_duration(Duration::try_from_secs_f64(seconds).unwrap_or_default())
}

/// A size in human units and in bytes: `1.5 GiB (1610612736)`.
pub fn size(bytes: u64) -> String {
    if bytes < 1024 { human_bytes(bytes) } else { format!("{} ({bytes})", human_bytes(bytes)) }
}

/// A time, to the second.
pub fn time(at: Timestamp) -> String {
    Timestamp::from_second(at.as_second()).unwrap_or(at).to_string()
}

/// How long ago it was.
pub fn age(at: Timestamp, now: Timestamp) -> String {
    let age: SignedDuration = now.duration_since(at);
    match Duration::try_from(age) {
        Ok(age) => human_duration(age),
        Err(_) => "in the future".to_owned(),
    }
}

/// How old something is, for a sentence: `3d 4h old`.
pub fn old(at: Timestamp, now: Timestamp) -> String {
    if at > now { "dated in the future".to_owned() } else { format!("{} old", age(at, now)) }
}

/// What is counted, as one and as several of it: `secret`, `secrets`.
///
/// ```
/// use lifeboat_core::words::Noun;
///
/// const COPIES: Noun = Noun::new("copy", "copies");
/// assert_eq!((COPIES.count(1), COPIES.count(0)), ("1 copy".to_owned(), "0 copies".to_owned()));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Noun {
    one: &'static str,
    several: &'static str,
}

impl Noun {
    /// What most systems count.
    pub const ROWS: Self = Self::new("row", "rows");
    /// What is counted where there is no better word.
    pub const ENTRIES: Self = Self::new("entry", "entries");

    /// A noun in both its forms.
    pub const fn new(one: &'static str, several: &'static str) -> Self {
        Self { one, several }
    }

    /// The form for this number.
    pub fn of(self, n: u64) -> &'static str {
        if n == 1 { self.one } else { self.several }
    }

    /// With its number.
    pub fn count(self, n: impl TryInto<u64>) -> String {
        let n = n.try_into().unwrap_or(u64::MAX);
        format!("{n} {}", self.of(n))
    }
}

/// Several things as a sentence names them: `a, b and c`.
pub fn listed(things: &[String]) -> String {
    match things {
        [] => String::new(),
        [one] => one.clone(),
        [before @ .., last] => format!("{} and {last}", before.join(", ")),
    }
}

impl Default for Noun {
    fn default() -> Self {
        Self::ROWS
    }
}

/// A noun with its number: `1 table`, `2 tables`.
pub fn count(n: usize, noun: &str) -> String {
    format!("{n} {noun}{}", if n == 1 { "" } else { "s" })
}

/// Whether a character affects the terminal, or the order of the text, instead of being displayed.
pub fn is_unseen(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{61c}' | '\u{feff}')
}

/// Makes an untrusted text safe to show: characters that would act on a terminal are escaped, as `\x1b` or `\u{202e}`.
/// Line ends and tabs stay.
pub fn visible(text: &str) -> Cow<'_, str> {
    shown(text, |c| !matches!(c, '\n' | '\t'))
}

/// Like [`visible`], in one line.
pub fn visible_line(text: &str) -> Cow<'_, str> {
    shown(text, |_| true)
}

fn shown(text: &str, of_these: impl Fn(char) -> bool) -> Cow<'_, str> {
    let acts = |c: char| is_unseen(c) && of_these(c);
    if !text.contains(acts) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            // The first half of a CRLF line end.
            '\r' if rest.peek() == Some(&'\n') && !of_these('\n') => {}
            '\n' if of_these('\n') => shown.push_str("\\n"),
            c if acts(c) && c.is_ascii() => shown.push_str(&format!("\\x{:02x}", u32::from(c))),
            c if acts(c) => shown.push_str(&format!("\\u{{{:x}}}", u32::from(c))),
            c => shown.push(c),
        }
    }
    Cow::Owned(shown)
}

/// Suggests the name that was probably meant, or all known names.
pub fn suggest(name: &str, known: &[&str]) -> String {
    match near(name, known.iter().copied()) {
        Some(near) => format!("did you mean \"{near}\"?"),
        None if known.is_empty() => "there are none".to_owned(),
        None => format!("known are {}", known.join(", ")),
    }
}

/// The nearest of some names, if `name` is likely a typo of it.
pub fn near<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let limit = (name.chars().count() / 3).clamp(1, 3);
    known
        .into_iter()
        .map(|k| (strsim::damerau_levenshtein(&name.to_lowercase(), &k.to_lowercase()), k))
        .filter(|(distance, k)| *distance <= limit || (name.len() >= 4 && k.starts_with(name)))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, k)| k)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_acts_on_a_terminal_is_made_visible() {
        for (text, shown) in [
            ("shop\x1b[2J\x07", "shop\\x1b[2J\\x07"),
            ("a\u{9b}31m\u{7f}", "a\\u{9b}31m\\x7f"),
            ("\u{202e}txt.exe", "\\u{202e}txt.exe"),
            ("a\r\nb\tc", "a\nb\tc"),
            ("a\rb", "a\\x0db"),
            ("größe 日本 👍", "größe 日本 👍"),
        ] {
            assert_eq!(visible(text), shown);
            assert_eq!(visible(&visible(text)), shown);
        }
        assert_eq!(visible_line("a\nDONE b\t"), "a\\nDONE b\\x09");
    }

    #[test]
    fn a_near_name_is_a_typo_and_a_far_one_is_not() {
        let known = ["prefix", "database", "keep"];
        assert_eq!(near("pefix", known), Some("prefix"));
        assert_eq!(near("databases", known), Some("database"));
        assert_eq!(near("kep", known), Some("keep"));
        assert_eq!(near("mailbox", known), None);
    }
}
