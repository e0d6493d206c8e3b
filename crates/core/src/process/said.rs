//! What a program says on standard error and output: its end is kept, and made fit for messages.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::task::JoinHandle;

/// How much is kept: the end.
const KEPT: usize = 64 << 10;
/// How long after the end of a command what it has written is waited for. What is later comes from a process that it left behind.
const GRACE: Duration = Duration::from_secs(1);
/// How many lines a message has. All that is kept is in the error's source.
const LINES: usize = 12;
/// The shortest value that is hidden: what is shorter is in every text.
const SHORTEST: usize = 4;

/// Reads a stream to its end and keeps the last of it.
pub(super) struct Tail {
    kept: Arc<Mutex<Kept>>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Kept {
    bytes: Vec<u8>,
    /// Whether something before them is gone.
    cut: bool,
}

impl Tail {
    pub(super) fn of(mut from: impl AsyncRead + Unpin + Send + 'static) -> Self {
        let kept = Arc::new(Mutex::new(Kept::default()));
        let into = kept.clone();
        let task = tokio::spawn(async move {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = from.read(&mut buffer).await {
                into.lock().unwrap_or_else(PoisonError::into_inner).add(&buffer[..count]);
            }
        });
        Self { kept, task }
    }

    /// Waits for the end of the stream, or for [`GRACE`].
    pub(super) async fn settle(&mut self) {
        let _ = tokio::time::timeout(GRACE, &mut self.task).await;
    }

    /// What there is so far.
    pub(super) fn text(&self, hidden: &Hidden) -> String {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let mut bytes = &kept.bytes[kept.bytes.len().saturating_sub(KEPT)..];
        // The rest of a line may be the rest of a secret, which is not recognized by it.
        if kept.cut || bytes.len() < kept.bytes.len() {
            let line = bytes.iter().position(|b| *b == b'\n').map_or(bytes.len(), |at| at + 1);
            bytes = &bytes[line..];
        }
        hidden.hide(&clean(&hidden.hide(&String::from_utf8_lossy(bytes))))
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Kept {
    fn add(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        if self.bytes.len() > 2 * KEPT {
            self.bytes.drain(..self.bytes.len() - KEPT);
            self.cut = true;
        }
    }
}

/// The values of variables, none of which is shown in a message.
#[derive(Clone, Default)]
pub(super) struct Hidden(Vec<(String, SecretString)>);

impl Hidden {
    /// A further one. Of a value with several lines, each is hidden as well: messages are made of lines.
    pub(super) fn add(&mut self, name: &str, value: &str) {
        let lines = value.lines().map(str::trim).filter(|line| *line != value);
        for part in std::iter::once(value).chain(lines).filter(|part| part.len() >= SHORTEST) {
            self.0.push((format!("${{{name}}}"), part.to_owned().into()));
        }
        // The longest first: a value may be a part of another one.
        self.0.sort_by_key(|(_, value)| std::cmp::Reverse(value.expose_secret().len()));
    }

    /// The text with names in the place of values.
    pub(super) fn hide(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, (name, value)| text.replace(value.expose_secret(), name))
    }
}

/// The text without control characters but for the ends of lines, and without the sequences that colour a terminal.
fn clean(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '\x1b' => match rest.next() {
                // ECMA-48, 5.4: parameters, and one final character.
                Some('[') => while rest.next().is_some_and(|c| !('@'..='~').contains(&c)) {},
                // 5.6: a string, until BEL or ESC \.
                Some(']' | 'P' | '_' | '^' | 'X') => {
                    while let Some(c) = rest.next() {
                        if c == '\x07' || (c == '\x1b' && rest.next_if_eq(&'\\').is_some()) {
                            break;
                        }
                    }
                }
                _ => {}
            },
            // A bar that is drawn over and over is so many lines.
            '\n' | '\r' => clean.push('\n'),
            '\t' => clean.push(' '),
            // Characters that turn the direction of what follows.
            '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {}
            c if c.is_control() => {}
            c => clean.push(c),
        }
    }
    clean
}

/// The last lines of what a program said as one, without its name before each.
pub fn words(text: &str, program: &str) -> String {
    let lines = lines(text, program);
    lines[lines.len().saturating_sub(LINES)..].join("; ")
}

/// Whether [`words`] leaves out some of it.
pub(super) fn is_long(text: &str, program: &str) -> bool {
    lines(text, program).len() > LINES
}

fn lines<'a>(text: &'a str, program: &str) -> Vec<&'a str> {
    let prefix = format!("{program}: ");
    text.lines().map(|l| l.trim_end().trim_start_matches(&*prefix)).filter(|l| !l.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn tail(text: impl AsRef<[u8]>, hidden: &Hidden) -> String {
        let mut tail = Tail::of(std::io::Cursor::new(text.as_ref().to_vec()));
        tail.settle().await;
        tail.text(hidden)
    }

    #[tokio::test]
    async fn the_end_is_kept_from_a_line_on() {
        let text: String = (0..40_000).map(|n| format!("line {n}\n")).collect();
        let kept = tail(&text, &Hidden::default()).await;
        assert!(kept.len() <= KEPT && kept.len() > KEPT - 20, "{}", kept.len());
        assert!(kept.starts_with("line ") && kept.ends_with("line 39999\n"));
        assert_eq!(tail(vec![b'x'; 3 * KEPT], &Hidden::default()).await, "", "a line without an end may be anything");
    }

    #[test]
    fn what_a_terminal_would_obey_is_removed() {
        for (said, clean_text) in [
            ("\x1b[1;31merror:\x1b[0m no\x07 such\0 table", "error: no such table"),
            ("\x1b]0;title\x07words \x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "words link"),
            (" 10%\r 20%\rdone", " 10%\n 20%\ndone"),
            ("a\u{202e}b\u{9b}c\x1b", "abc"),
            ("\x1b[", ""),
            ("Gemüse\tund Obst", "Gemüse und Obst"),
        ] {
            assert_eq!(clean(said), clean_text, "{said:?}");
        }
    }

    #[tokio::test]
    async fn values_are_shown_by_their_names() {
        let mut hidden = Hidden::default();
        hidden.add("TOKEN", "hunter2");
        hidden.add("LONG", "hunter2-and-more");
        hidden.add("KEY", "-----BEGIN\nc2VjcmV0\n-----END\n");
        hidden.add("SHORT", "a");
        let said = "Bearer hunter2\nhunter2-and-more\nkey c2VjcmV0 a\nhun\x1b[0mter2";
        assert_eq!(tail(said, &hidden).await, "Bearer ${TOKEN}\n${LONG}\nkey ${KEY} a\n${TOKEN}");
    }

    #[test]
    fn a_message_has_the_last_lines() {
        let text: String = (0..20).map(|n| format!("curl: line {n}\n\n")).collect();
        assert!(is_long(&text, "curl"));
        assert!(words(&text, "curl").starts_with("line 8; line 9"));
        assert!(words(&text, "curl").ends_with("; line 19"));
        assert!(!is_long("one\n", "curl"));
    }
}
