//! The scanner: bytes in, statements and rows out.

use bytes::Bytes;
use lifeboat_core::{Error, ErrorKind, Result};

use super::data::Data;
use super::words::{Statement, Word, Words};
use super::{Event, Whole};

/// The longest statement that a server takes (`PQ_LARGE_MESSAGE_LIMIT` in libpq.h).
const STATEMENT_LIMIT: usize = (1 << 30) - 2;
/// Bytes of a comment and of a line for psql that are looked at.
const LINE_KEPT: usize = 4096;
/// Bytes of a dollar quote's tag.
const TAG_LIMIT: usize = 1024;

/// The last line of a whole dump of a database (`pg_backup_archiver.c`, `RestoreArchive`), without its dashes.
const DATABASE_END: &[u8] = b" PostgreSQL database dump complete";
/// The last line of a whole dump of a server (`pg_dumpall.c`, `main`), without its dashes.
const CLUSTER_END: &[u8] = b" PostgreSQL database cluster dump complete";

/// Encodings of clients only, in which a part of a character can look like a backslash (`PG_ENCODING_BE_LAST` in
/// pg_wchar.h): only who knows the encoding can tell where a literal ends.
const UNSAFE_ENCODINGS: [&str; 7] = ["sjis", "shiftjis2004", "big5", "gbk", "uhc", "gb18030", "johab"];

/// How much of a statement is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// All of it, up to what a server accepts.
    All,
    /// Its beginning, up to this many bytes.
    Beginning(usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Normal,
    LineComment,
    BlockComment {
        depth: u32,
        last: u8,
    },
    /// `'…'`; whether a backslash escapes in it.
    Quote {
        escapes: bool,
    },
    QuoteEscape,
    /// A quote that ends the literal unless another one follows.
    QuoteEnd {
        escapes: bool,
    },
    DoubleQuote,
    DoubleQuoteEnd,
    /// `$` and what may become the tag of a dollar quote.
    Tag,
    /// `$tag$…`, and how much of the delimiter has been seen.
    Dollar {
        matched: usize,
    },
    /// A line for psql.
    Meta,
    /// What is left of the line of a `COPY … FROM stdin;`.
    AfterCopy,
    Data(Data),
}

/// Splits a plain SQL dump into its statements and rows.
///
/// ```
/// use lifeboat_backends::postgres::script::{Event, Keep, Reader};
/// let mut reader = Reader::new(Keep::All);
/// let mut events = Vec::new();
/// let dump = "SELECT ';';\n-- PostgreSQL database dump complete\n";
/// reader.push(&dump.into(), &mut |event| events.push(event))?;
/// reader.finish()?;
/// assert!(matches!(&events[..], [Event::Statement { sql, line: 1, .. }] if &**sql == b"SELECT ';'"));
/// # Ok::<(), lifeboat_core::Error>(())
/// ```
#[derive(Debug)]
pub struct Reader {
    keep: Keep,
    mode: Mode,
    line: u64,
    /// The statement that is passing, once it has begun.
    text: Vec<u8>,
    begun: bool,
    start: u64,
    words: Words,
    /// The name or key word that is passing or has just passed.
    token: Vec<u8>,
    in_token: bool,
    /// `-` or `/`, which may begin a comment.
    pending: Option<u8>,
    parens: u32,
    routine: Routine,
    standard_strings: bool,
    /// A literal has ended, and goes on if the next thing after a line's end is a quote; whether a backslash escapes in it.
    continued: Option<bool>,
    newline: bool,
    delimiter: Vec<u8>,
    /// A comment, or a line for psql.
    aside: Vec<u8>,
    restricted: Option<Vec<u8>>,
    whole: Option<Whole>,
    /// Bytes of a byte order mark that have been seen at the start; `None` after it.
    mark: Option<usize>,
}

impl Reader {
    /// Creates a reader at the start of a dump.
    pub fn new(keep: Keep) -> Self {
        Self {
            keep,
            mode: Mode::Normal,
            line: 1,
            text: Vec::new(),
            begun: false,
            start: 1,
            words: Words::default(),
            token: Vec::new(),
            in_token: false,
            pending: None,
            parens: 0,
            routine: Routine::default(),
            standard_strings: true,
            continued: None,
            newline: false,
            delimiter: Vec::new(),
            aside: Vec::new(),
            restricted: None,
            whole: None,
            mark: Some(0),
        }
    }

    /// Takes the next bytes.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] for anything that cannot occur in a dump, with its name and line: a psql command, `COPY`
    /// with a file or a program. [`ErrorKind::Unsupported`] for an encoding or a size that is not supported.
    pub fn push(&mut self, chunk: &Bytes, events: &mut dyn FnMut(Event)) -> Result<()> {
        let mut at = 0;
        while at < chunk.len() {
            if let Mode::Data(data) = &mut self.mode {
                let taken = data.push(&chunk.slice(at..), |rows| events(Event::Rows(rows)));
                at += taken.consumed;
                self.line += taken.lines;
                if taken.ended {
                    events(Event::CopyEnd);
                    self.mode = Mode::Normal;
                }
                continue;
            }
            let plain = self.plain(&chunk[at..]);
            if plain > 0 {
                let run = &chunk[at..at + plain];
                self.line += memchr::memchr_iter(b'\n', run).count() as u64;
                self.keep_all(run)?;
                if self.parens == 0 && run.len() < LINE_KEPT {
                    run.iter().for_each(|byte| self.words.extend(*byte));
                }
                at += plain;
                continue;
            }
            let byte = chunk[at];
            at += 1;
            if let Some(seen) = self.mark {
                if byte == [0xEF, 0xBB, 0xBF][seen] {
                    self.mark = (seen < 2).then_some(seen + 1);
                    continue;
                }
                self.mark = None;
                if seen > 0 {
                    return Err(self.corrupt("the dump begins with a part of a byte order mark"));
                }
            }
            self.step(byte, events)?;
            if byte == b'\n' {
                self.line += 1;
            }
        }
        Ok(())
    }

    /// Ends the dump, and returns what kind of dump it is.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] if it is incomplete: it does not end like a dump by pg_dump or pg_dumpall, or something
    /// is still open.
    pub fn finish(&mut self) -> Result<Whole> {
        match self.mode {
            Mode::LineComment => self.end_comment(),
            Mode::Meta => self.end_meta(&mut |_| ())?,
            Mode::Normal | Mode::QuoteEnd { .. } | Mode::DoubleQuoteEnd | Mode::Tag => {}
            Mode::Data(_) | Mode::AfterCopy => return Err(self.cut_short("the rows of a COPY do not end")),
            Mode::BlockComment { .. } => return Err(self.cut_short("a comment does not end")),
            _ => return Err(self.cut_short("a literal does not end")),
        }
        if self.begun || self.pending.is_some() || matches!(self.mode, Mode::Tag) {
            return Err(self.cut_short("a statement does not end"));
        }
        if self.restricted.is_some() {
            return Err(self.cut_short("\\restrict has no \\unrestrict"));
        }
        self.whole.ok_or_else(|| {
            self.cut_short("its last line, \"-- PostgreSQL database dump complete\" or the like, is missing")
        })
    }

    /// Bytes at the start of `rest` that change nothing: most of a literal.
    fn plain(&self, rest: &[u8]) -> usize {
        match self.mode {
            Mode::Quote { escapes: true } => memchr::memchr2(b'\'', b'\\', rest),
            Mode::Quote { escapes: false } => memchr::memchr(b'\'', rest),
            Mode::DoubleQuote => memchr::memchr(b'"', rest),
            Mode::Dollar { matched: 0 } => memchr::memchr(b'$', rest),
            _ => Some(0),
        }
        .unwrap_or(rest.len())
    }

    fn step(&mut self, byte: u8, events: &mut dyn FnMut(Event)) -> Result<()> {
        match self.mode {
            Mode::Normal => return self.normal(byte, events),
            Mode::LineComment if byte == b'\n' => {
                self.end_comment();
                self.mode = Mode::Normal;
                return self.normal(byte, events);
            }
            Mode::LineComment => self.note(byte),
            Mode::BlockComment { depth, last } => {
                self.mode = match (last, byte) {
                    (b'*', b'/') if depth == 1 => Mode::Normal,
                    (b'*', b'/') => Mode::BlockComment { depth: depth - 1, last: 0 },
                    (b'/', b'*') => Mode::BlockComment { depth: depth.saturating_add(1), last: 0 },
                    _ => Mode::BlockComment { depth, last: byte },
                };
            }
            Mode::Quote { escapes } => match byte {
                b'\'' => self.mode = Mode::QuoteEnd { escapes },
                _ => self.mode = Mode::QuoteEscape,
            },
            Mode::QuoteEscape => {
                self.mode = Mode::Quote { escapes: true };
                self.extend(byte);
            }
            Mode::QuoteEnd { escapes } => {
                if byte != b'\'' {
                    self.mode = Mode::Normal;
                    self.continued = Some(escapes);
                    self.newline = false;
                    return self.normal(byte, events);
                }
                self.mode = Mode::Quote { escapes };
                self.extend(byte);
            }
            Mode::DoubleQuote => self.mode = Mode::DoubleQuoteEnd,
            Mode::DoubleQuoteEnd => {
                if byte != b'"' {
                    self.mode = Mode::Normal;
                    return self.normal(byte, events);
                }
                self.mode = Mode::DoubleQuote;
                self.extend(byte);
                self.extend(byte);
            }
            Mode::Tag if byte == b'$' => {
                self.delimiter = [b"$", &self.token[..], b"$"].concat();
                self.mode = Mode::Dollar { matched: 0 };
                self.word(Word::Text(Vec::new()));
            }
            Mode::Tag if is_name(byte) && !(self.token.is_empty() && byte.is_ascii_digit()) => {
                if self.token.len() >= TAG_LIMIT {
                    return Err(self.corrupt("a dollar quote has an endless tag"));
                }
                self.token.push(byte);
            }
            Mode::Tag => {
                // No dollar quote: a dollar, and then perhaps a name.
                self.mode = Mode::Normal;
                self.word(Word::Mark(b'$'));
                self.in_token = !self.token.is_empty();
                if self.in_token {
                    self.token.make_ascii_lowercase();
                    self.word(Word::Name(self.token.clone()));
                }
                return self.normal(byte, events);
            }
            Mode::Dollar { matched } => {
                let matched = match byte {
                    byte if byte == self.delimiter[matched] => matched + 1,
                    b'$' => 1,
                    _ => 0,
                };
                self.mode = if matched == self.delimiter.len() { Mode::Normal } else { Mode::Dollar { matched } };
            }
            Mode::Meta if byte == b'\n' => {
                self.mode = Mode::Normal;
                self.end_meta(events)?;
            }
            Mode::Meta => self.note(byte),
            Mode::AfterCopy => match byte {
                b'\n' => self.mode = Mode::Data(Data::default()),
                b' ' | b'\t' | b'\r' => {}
                _ => return Err(self.corrupt("there is something between a COPY and its rows")),
            },
            Mode::Data(_) => unreachable!("push gives rows to their own reader"),
        }
        if !matches!(self.mode, Mode::Meta | Mode::AfterCopy | Mode::Data(_)) {
            self.keep_all(&[byte])?;
        }
        Ok(())
    }

    /// A byte outside of literals and comments.
    fn normal(&mut self, byte: u8, events: &mut dyn FnMut(Event)) -> Result<()> {
        match (self.pending.take(), byte) {
            (Some(b'-'), b'-') => {
                self.aside.clear();
                self.mode = Mode::LineComment;
                return self.keep_all(b"--");
            }
            (Some(b'/'), b'*') => {
                self.continued = None;
                self.mode = Mode::BlockComment { depth: 1, last: 0 };
                return self.keep_all(b"/*");
            }
            (Some(first), _) => {
                self.begin();
                self.word(Word::Mark(first));
                self.keep_all(&[first])?;
            }
            (None, _) => {}
        }
        if is_name(byte) && (self.in_token || !byte.is_ascii_digit()) || self.in_token && byte == b'$' {
            let byte_lower = byte.to_ascii_lowercase();
            if !self.in_token {
                self.begin();
                self.in_token = true;
                self.token.clear();
                self.word(Word::Name(Vec::new()));
            }
            if self.token.len() < TAG_LIMIT {
                self.token.push(byte_lower);
            }
            self.extend(byte_lower);
            return self.keep_all(&[byte]);
        }
        let after_token = std::mem::take(&mut self.in_token);
        if after_token {
            self.routine.name(&self.token, self.parens);
        }
        match byte {
            b'-' | b'/' => {
                self.pending = Some(byte);
                return Ok(());
            }
            b' ' | b'\t' | b'\r' | b'\n' | 0x0B | 0x0C => self.newline |= byte == b'\n',
            b'\'' => {
                let escapes = match self.continued.take().filter(|_| self.newline) {
                    Some(escapes) => escapes,
                    None => match &*self.token {
                        b"e" if after_token => true,
                        b"b" | b"x" if after_token => false,
                        _ => !self.standard_strings,
                    },
                };
                self.begin();
                self.word(Word::Text(Vec::new()));
                self.mode = Mode::Quote { escapes };
            }
            b'"' => {
                self.begin();
                self.word(Word::Quoted(Vec::new()));
                self.mode = Mode::DoubleQuote;
            }
            b'$' => {
                self.begin();
                self.token.clear();
                self.mode = Mode::Tag;
            }
            b';' if self.parens == 0 && !self.routine.is_open() => return self.end_statement(events),
            b'\\' => {
                self.aside.clear();
                self.mode = Mode::Meta;
                return Ok(());
            }
            0 => return Err(self.corrupt("a NUL byte stands outside of a literal")),
            _ => {
                self.begin();
                match byte {
                    b'(' => {
                        self.word(Word::Mark(byte));
                        self.parens = self.parens.saturating_add(1);
                    }
                    b')' => {
                        self.parens = self.parens.saturating_sub(1);
                        self.word(Word::Mark(byte));
                    }
                    _ => self.word(Word::Mark(byte)),
                }
            }
        }
        self.keep_all(&[byte])
    }

    /// Something that is neither white space nor a comment.
    fn begin(&mut self) {
        self.continued = None;
        if !self.begun {
            self.begun = true;
            self.start = self.line;
            self.whole = None;
        }
    }

    fn word(&mut self, word: Word) {
        if self.parens == 0 {
            self.words.push(word);
        }
    }

    fn extend(&mut self, byte: u8) {
        if self.parens == 0 {
            self.words.extend(byte);
        }
    }

    fn keep_all(&mut self, bytes: &[u8]) -> Result<()> {
        if !self.begun {
            return Ok(());
        }
        let limit = match self.keep {
            Keep::All if self.text.len() + bytes.len() > STATEMENT_LIMIT => {
                let why = format!("the statement in line {} is longer than any server takes", self.start);
                return Err(Error::new(ErrorKind::Unsupported, "read", "the SQL dump", why));
            }
            Keep::All => STATEMENT_LIMIT,
            Keep::Beginning(limit) => limit,
        };
        let room = limit.saturating_sub(self.text.len());
        self.text.extend_from_slice(&bytes[..bytes.len().min(room)]);
        Ok(())
    }

    fn note(&mut self, byte: u8) {
        if self.aside.len() < LINE_KEPT {
            self.aside.push(byte);
        }
    }

    fn end_comment(&mut self) {
        if self.begun {
            return;
        }
        let text = self.aside.strip_suffix(b"\r").unwrap_or(&self.aside);
        match text {
            DATABASE_END => self.whole = Some(Whole::Database),
            CLUSTER_END => self.whole = Some(Whole::Cluster),
            _ => {}
        }
    }

    fn end_statement(&mut self, events: &mut dyn FnMut(Event)) -> Result<()> {
        let begun = std::mem::take(&mut self.begun);
        let sql = Bytes::from(std::mem::take(&mut self.text));
        let kind = self.words.statement();
        self.words.clear();
        self.routine = Routine::default();
        self.continued = None;
        if !begun {
            return Ok(());
        }
        let line = self.start;
        match &kind {
            Statement::CopyIn { .. } => {
                self.mode = Mode::AfterCopy;
                events(Event::Copy { sql, line, kind });
                return Ok(());
            }
            Statement::Refused(what) => return Err(refused(line, what, "it has no place in a dump of a database")),
            Statement::Set { name, value } => self.setting(name, value.as_deref())?,
            _ => {}
        }
        events(Event::Statement { sql, line, kind });
        Ok(())
    }

    /// What a setting means for what follows.
    fn setting(&mut self, name: &[u8], value: Option<&[u8]>) -> Result<()> {
        let value = String::from_utf8_lossy(value.unwrap_or_default()).to_ascii_lowercase();
        if name == b"standard_conforming_strings" {
            self.standard_strings = !matches!(&*value, "off" | "false" | "no");
        }
        let plain: String = value.chars().filter(char::is_ascii_alphanumeric).collect();
        if name == b"client_encoding" && UNSAFE_ENCODINGS.contains(&&*plain) {
            let why = format!("line {}: it is in the encoding {value}", self.start);
            return Err(Error::new(ErrorKind::Unsupported, "read", "the SQL dump", why)
                .hint("write it with `pg_dump --encoding=UTF8`, or convert it, its SET client_encoding included"));
        }
        Ok(())
    }

    /// A line for psql. Those that pg_dump writes are known; all others are refused.
    fn end_meta(&mut self, events: &mut dyn FnMut(Event)) -> Result<()> {
        let line = self.line;
        let text = String::from_utf8_lossy(&self.aside).into_owned();
        let name: String = text.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
        let rest = text[name.len()..].trim();
        let shown = match (&*name, rest.chars().next()) {
            ("", Some(mark)) if mark.is_ascii_graphic() => format!("\\{mark}"),
            ("", _) => "a backslash".to_owned(),
            (name, _) => format!("\\{}", &name[..name.len().min(32)]),
        };
        if self.begun {
            return Err(refused(
                line,
                &shown,
                "it stands in the middle of a statement, and is psql's, not the server's",
            ));
        }
        // psql ends such a line at a second backslash too, and runs what stands in backquotes.
        let simple = !rest.contains(['\\', '`']) && !rest.is_empty();
        match &*name {
            "restrict" if simple && self.restricted.is_none() => self.restricted = Some(rest.as_bytes().to_vec()),
            "unrestrict" if simple && self.restricted.as_deref() == Some(rest.as_bytes()) => self.restricted = None,
            "connect" | "c" if !rest.contains('`') && !rest.is_empty() => {
                self.whole = None;
                events(Event::Connect { database: database_of(rest), line });
            }
            _ => {
                return Err(refused(
                    line,
                    &shown,
                    "psql would carry it out, and no file from a bucket may have that done",
                ));
            }
        }
        Ok(())
    }

    fn corrupt(&self, why: &str) -> Error {
        Error::new(ErrorKind::Corrupt, "read", "the SQL dump", format!("line {}: {why}", self.line))
    }

    fn cut_short(&self, why: &str) -> Error {
        let message = format!(
            "it is not whole: {why} (line {} is its last); it was cut short, or the program failed while writing it",
            self.line
        );
        Error::new(ErrorKind::Corrupt, "read", "the SQL dump", message).hint("use another artifact")
    }
}

fn refused(line: u64, what: &str, why: &str) -> Error {
    Error::new(ErrorKind::Corrupt, "read", "the SQL dump", format!("line {line} has {what}: {why}"))
        .hint("if the file is your own and you trust it, restore it by hand; `lifeboat show` prints the line for it")
}

/// Whether a byte can stand in a name (`ident_cont` in scan.l, without the dollar).
fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}

/// The database of a `\connect` as pg_dump writes it (`appendPsqlMetaConnect` in string_utils.c): a name, a quoted name, or
/// a quoted connection string.
fn database_of(argument: &str) -> Option<String> {
    let unquoted = |text: &str, quote: char| {
        let inner = text.strip_prefix(quote)?.strip_suffix(quote)?;
        let doubled = format!("{quote}{quote}");
        let plain = inner.replace(&doubled, "\0");
        (!plain.contains(quote)).then(|| plain.replace('\0', &quote.to_string()))
    };
    if let Some(conninfo) = argument.strip_prefix("-reuse-previous=on ") {
        let conninfo = unquoted(conninfo.trim(), '"')?;
        let value = conninfo.strip_prefix("dbname=")?;
        let Some(inner) = value.strip_prefix('\'') else { return Some(value.to_owned()) };
        let mut name = String::new();
        let mut chars = inner.strip_suffix('\'')?.chars();
        while let Some(c) = chars.next() {
            name.push(if c == '\\' { chars.next()? } else { c });
        }
        return Some(name);
    }
    if argument.starts_with('"') {
        return unquoted(argument, '"');
    }
    argument.chars().all(|c| c.is_alphanumeric() || c == '_').then(|| argument.to_owned())
}

/// Whether the body of an SQL function is passing, in which semicolons end nothing: psql's own rule (`{identifier}` in
/// psqlscan.l).
#[derive(Clone, Copy, Debug, Default)]
struct Routine {
    first: [u8; 4],
    count: usize,
    depth: u32,
}

impl Routine {
    fn name(&mut self, name: &[u8], parens: u32) {
        if matches!(name, b"create" | b"function" | b"procedure" | b"or" | b"replace") && self.count < 4 {
            self.first[self.count] = name[0];
        }
        self.count += 1;
        let routine = matches!(self.first, [b'c', b'f' | b'p', ..] | [b'c', b'o', b'r', b'f' | b'p']);
        if !routine || parens > 0 {
            return;
        }
        match name {
            b"begin" => self.depth += 1,
            b"case" if self.depth > 0 => self.depth += 1,
            b"end" => self.depth = self.depth.saturating_sub(1),
            _ => {}
        }
    }

    fn is_open(self) -> bool {
        self.depth > 0
    }
}
