//! Classifies a statement by its words outside of parentheses.

/// The number of words of a statement that are kept.
const KEPT: usize = 64;
/// The number of bytes of a word that are kept: a name has at most 63, at worst all of them quotes.
const KEPT_BYTES: usize = 160;

/// A word, or an equivalent token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Word {
    /// A key word or a name without quotes, in lower case.
    Name(Vec<u8>),
    /// A name in double quotes, without them.
    Quoted(Vec<u8>),
    /// A literal, without its quotes.
    Text(Vec<u8>),
    /// Any other character.
    Mark(u8),
}

/// The words of the current statement.
#[derive(Clone, Debug, Default)]
pub(super) struct Words {
    kept: Vec<Word>,
    full: bool,
}

impl Words {
    pub(super) fn clear(&mut self) {
        self.kept.clear();
        self.full = false;
    }

    pub(super) fn push(&mut self, word: Word) {
        self.full = self.kept.len() >= KEPT;
        if !self.full {
            self.kept.push(word);
        }
    }

    /// Adds a byte to the last word.
    pub(super) fn extend(&mut self, byte: u8) {
        if let Some(Word::Name(text) | Word::Quoted(text) | Word::Text(text)) = self.kept.last_mut()
            && !self.full
            && text.len() < KEPT_BYTES
        {
            text.push(byte);
        }
    }

    /// Classifies the statement.
    pub(super) fn statement(&self) -> Statement {
        Statement::of(&self.kept)
    }

    /// The key word or name at this place.
    fn at(words: &[Word], place: usize) -> &[u8] {
        match words.get(place) {
            Some(Word::Name(name)) => name,
            _ => b"",
        }
    }
}

/// The kind of a statement, as far as it matters here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Statement {
    /// `COPY … FROM stdin`, in text form.
    CopyIn {
        /// Whether it has options.
        options: bool,
    },
    /// Something that does not belong in a dump, with its name.
    Refused(&'static str),
    /// `BEGIN`.
    Begin,
    /// `COMMIT`.
    Commit,
    /// A statement about a whole database.
    Database {
        /// The action: `CREATE DATABASE`.
        what: &'static str,
        /// The database, if it is easy to determine.
        name: Option<Vec<u8>>,
    },
    /// A statement about a role, a membership or a tablespace, which belong to the whole server.
    ServerWide(&'static str),
    /// `SET name = value`.
    Set {
        /// The setting, in lower case.
        name: Vec<u8>,
        /// The value, if it is a name or a literal.
        value: Option<Vec<u8>>,
    },
    /// Everything else.
    Other,
}

impl Statement {
    fn of(words: &[Word]) -> Self {
        let at = |place| Words::at(words, place);
        let has = |first: &[u8], second: &[u8]| {
            words.windows(2).any(|w| matches!(w, [Word::Name(a), Word::Name(b)] if a == first && b == second))
        };
        let object = |what, place| Self::Database { what, name: name_at(words, place) };
        match (at(0), at(1)) {
            (b"copy", _) => copy(words),
            (b"begin", _) | (b"start", b"transaction") => Self::Begin,
            (b"commit" | b"rollback", b"prepared") => Self::Refused("COMMIT or ROLLBACK PREPARED"),
            (b"prepare", b"transaction") => Self::Refused("PREPARE TRANSACTION"),
            (b"commit" | b"end", _) => Self::Commit,
            (b"rollback" | b"abort", _) => Self::Refused("ROLLBACK"),
            (b"savepoint" | b"release", _) => Self::Refused("SAVEPOINT"),
            (b"alter", b"system") => Self::Refused("ALTER SYSTEM"),
            (b"drop" | b"reassign", b"owned") => Self::Refused("DROP OWNED or REASSIGN OWNED"),
            (b"create", b"database") => object("CREATE DATABASE", 2),
            (b"alter", b"database") => object("ALTER DATABASE", 2),
            (b"drop", b"database") if at(2) == b"if" => object("DROP DATABASE", 4),
            (b"drop", b"database") => object("DROP DATABASE", 2),
            (b"comment", _) if at(2) == b"database" => object("COMMENT ON DATABASE", 3),
            (b"comment", _) if matches!(at(2), b"role" | b"tablespace") => Self::ServerWide("COMMENT ON ROLE"),
            (b"security", b"label") if has(b"on", b"database") => object("SECURITY LABEL ON DATABASE", words.len()),
            (b"security", b"label") if has(b"on", b"role") || has(b"on", b"tablespace") => {
                Self::ServerWide("SECURITY LABEL ON ROLE")
            }
            (b"grant" | b"revoke", _) if has(b"on", b"database") => object("GRANT or REVOKE ON DATABASE", words.len()),
            (b"grant" | b"revoke", _) if has(b"on", b"tablespace") => Self::ServerWide("GRANT or REVOKE ON TABLESPACE"),
            (b"grant" | b"revoke", _) if has(b"on", b"parameter") => Self::ServerWide("GRANT or REVOKE ON PARAMETER"),
            (b"grant" | b"revoke", _) if !words.contains(&Word::Name(b"on".to_vec())) => {
                Self::ServerWide("GRANT or REVOKE of a role")
            }
            (b"alter", b"role" | b"user" | b"group") if has(b"in", b"database") => {
                object("ALTER ROLE … IN DATABASE", words.len())
            }
            (b"create" | b"alter" | b"drop", b"user") if at(2) == b"mapping" => Self::Other,
            (b"create", b"role" | b"user" | b"group") => Self::ServerWide("CREATE ROLE"),
            (b"alter", b"role" | b"user" | b"group") => Self::ServerWide("ALTER ROLE"),
            (b"drop", b"role" | b"user" | b"group") => Self::ServerWide("DROP ROLE"),
            (b"create", b"tablespace") => Self::ServerWide("CREATE TABLESPACE"),
            (b"alter", b"tablespace") => Self::ServerWide("ALTER TABLESPACE"),
            (b"drop", b"tablespace") => Self::ServerWide("DROP TABLESPACE"),
            (b"set", b"names") => Self::Set { name: b"client_encoding".to_vec(), value: name_at(words, 2) },
            (b"set", b"session" | b"local") if at(2) != b"authorization" => set(&words[2..]),
            (b"set", _) => set(&words[1..]),
            _ => Self::Other,
        }
    }
}

/// The name or literal at this place.
fn name_at(words: &[Word], place: usize) -> Option<Vec<u8>> {
    match words.get(place) {
        Some(Word::Name(name) | Word::Text(name)) => Some(name.clone()),
        Some(Word::Quoted(name)) => Some(String::from_utf8_lossy(name).replace("\"\"", "\"").into_bytes()),
        _ => None,
    }
}

/// `name = value` or `name TO value`.
fn set(words: &[Word]) -> Statement {
    let set = words.get(1).is_some_and(|w| matches!(w, Word::Mark(b'=')) || *w == Word::Name(b"to".to_vec()));
    match (words, set) {
        ([Word::Name(name), ..], true) => Statement::Set { name: name.clone(), value: name_at(words, 2) },
        _ => Statement::Other,
    }
}

/// Accepts only statements that are certain to read the rows that follow: the server must see the same, however it
/// interprets quotes. So there must be no literal before `FROM stdin`.
fn copy(words: &[Word]) -> Statement {
    let direction = words.iter().position(|w| matches!(w, Word::Name(n) if n == b"from" || n == b"to"));
    let Some(direction) = direction else { return Statement::Refused("COPY") };
    let into = words[direction] == Word::Name(b"from".to_vec());
    let plain = words[1..direction].iter().all(|w| match w {
        Word::Name(name) => name != b"binary",
        Word::Quoted(_) => true,
        Word::Mark(mark) => matches!(mark, b'.' | b'(' | b')'),
        Word::Text(_) => false,
    });
    match words.get(direction + 1) {
        Some(Word::Name(name)) if name == b"program" => Statement::Refused("COPY … PROGRAM"),
        Some(Word::Text(_)) if into => Statement::Refused("COPY … FROM a file"),
        Some(Word::Text(_)) => Statement::Refused("COPY … TO a file"),
        Some(Word::Name(name)) if name == b"stdin" && into && plain => {
            let options = &words[direction + 2..];
            let binary = options.iter().any(|w| matches!(w, Word::Name(n) if n == b"binary"));
            if binary {
                Statement::Refused("COPY in binary form")
            } else {
                Statement::CopyIn { options: !options.is_empty() }
            }
        }
        _ if into => Statement::Refused("COPY"),
        _ => Statement::Refused("COPY … TO STDOUT"),
    }
}
