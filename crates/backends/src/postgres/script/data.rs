//! The rows after `COPY … FROM stdin;`, up to the line `\.`.

use bytes::Bytes;

/// Finds the end of the rows. Up to three bytes that may be part of it are held back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Data {
    line: Line,
}

/// What has been seen of a line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Line {
    #[default]
    Start,
    /// `\`
    Backslash,
    /// `\.`
    Dot,
    /// `\.` and a carriage return.
    Return,
    /// Anything else: a row.
    Row,
}

/// How far a chunk went.
pub(super) struct Taken {
    /// The number of bytes of the chunk that were consumed.
    pub(super) consumed: usize,
    /// The number of newlines among them.
    pub(super) lines: u64,
    /// Whether the line `\.` was the last of them.
    pub(super) ended: bool,
}

impl Data {
    pub(super) fn push(&mut self, chunk: &Bytes, mut rows: impl FnMut(Bytes)) -> Taken {
        let (mut at, mut lines) = (0, 0);
        // What the chunk before held back, should it belong to a row after all.
        let mut held = self.held();
        while at < chunk.len() {
            if self.line == Line::Row {
                match memchr::memchr(b'\n', &chunk[at..]) {
                    Some(end) => {
                        at += end + 1;
                        lines += 1;
                        self.line = Line::Start;
                    }
                    None => at = chunk.len(),
                }
                continue;
            }
            let byte = chunk[at];
            let next = match (self.line, byte) {
                (Line::Start, b'\\') => Line::Backslash,
                (Line::Backslash, b'.') => Line::Dot,
                (Line::Dot, b'\r') => Line::Return,
                (Line::Dot | Line::Return, b'\n') => {
                    // What was held back is the end itself; so is what this chunk has of it.
                    let own = self.held().len() - held.len();
                    if at > own {
                        rows(chunk.slice(..at - own));
                    }
                    return Taken { consumed: at + 1, lines: lines + 1, ended: true };
                }
                _ => {
                    if !held.is_empty() {
                        rows(Bytes::from_static(held));
                        held = b"";
                    }
                    // Decided anew as a part of a row.
                    self.line = Line::Row;
                    continue;
                }
            };
            self.line = next;
            at += 1;
        }
        let own = self.held().len() - held.len();
        if chunk.len() > own {
            rows(chunk.slice(..chunk.len() - own));
        }
        Taken { consumed: chunk.len(), lines, ended: false }
    }

    fn held(self) -> &'static [u8] {
        match self.line {
            Line::Start | Line::Row => b"",
            Line::Backslash => b"\\",
            Line::Dot => b"\\.",
            Line::Return => b"\\.\r",
        }
    }
}
