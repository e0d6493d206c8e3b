//! Plain SQL dumps: `pg_dumpall --globals-only`, which we write, and `pg_dump` without `-Fc`, which scripts write.

use lifeboat_core::{Error, ErrorKind, Fingerprint, Proof, ProofItem, Result, Tap};

/// A line that is longer belongs to a row, or to nothing that is looked for; what is beyond is not kept.
const KEPT_LINE: usize = 64 << 10;

/// Cuts a stream into lines. Long ones are kept up to [`KEPT_LINE`].
#[derive(Default)]
struct Lines {
    partial: Vec<u8>,
}

impl Lines {
    fn push(&mut self, chunk: &[u8], mut line: impl FnMut(&[u8])) {
        let mut rest = chunk;
        while let Some(end) = memchr::memchr(b'\n', rest) {
            if self.partial.is_empty() {
                line(&rest[..end]);
            } else {
                self.keep(&rest[..end]);
                line(&self.partial);
                self.partial.clear();
            }
            rest = &rest[end + 1..];
        }
        self.keep(rest);
    }

    fn keep(&mut self, bytes: &[u8]) {
        let room = KEPT_LINE.saturating_sub(self.partial.len());
        self.partial.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }
}

/// Looks at what `pg_dumpall --globals-only` writes. The proof has an item for each role and tablespace: which there are
/// must be known again after a restore. Passwords are not in it.
#[derive(Default)]
pub(crate) struct GlobalsTap {
    lines: Lines,
    roles: Vec<String>,
    tablespaces: Vec<String>,
    complete: bool,
}

impl GlobalsTap {
    pub(crate) fn new() -> Self {
        Self::default()
    }
}

/// The last line of a whole dump of a server (`pg_dumpall.c`, `main`).
const CLUSTER_END: &[u8] = b"-- PostgreSQL database cluster dump complete";
/// The last line of a whole plain dump of a database (`pg_backup_archiver.c`, `RestoreArchive`).
const DATABASE_END: &[u8] = b"-- PostgreSQL database dump complete";

impl Tap for GlobalsTap {
    fn push(&mut self, chunk: &[u8]) -> Result<()> {
        let Self { lines, roles, tablespaces, complete } = self;
        lines.push(chunk, |line| {
            let name = |prefix: &[u8]| {
                let rest = line.strip_prefix(prefix)?;
                let len = super::archive::ident_len(rest)?;
                Some(String::from_utf8_lossy(&rest[..len]).into_owned())
            };
            if let Some(role) = name(b"CREATE ROLE ") {
                roles.push(role);
            } else if let Some(tablespace) = name(b"CREATE TABLESPACE ") {
                tablespaces.push(tablespace);
            } else if line == CLUSTER_END {
                *complete = true;
            }
        });
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<Proof> {
        if !self.complete {
            return Err(cut_short("pg_dumpall"));
        }
        let item = |kind: &str| {
            let kind = kind.to_owned();
            move |name| ProofItem { kind: kind.clone(), name, count: 1, ..ProofItem::default() }
        };
        let items =
            self.roles.into_iter().map(item("role")).chain(self.tablespaces.into_iter().map(item("tablespace")));
        Ok(Proof { items: items.collect(), ..Proof::default() })
    }
}

fn cut_short(program: &str) -> Error {
    Error::new(
        ErrorKind::Corrupt,
        "read",
        "the SQL dump",
        format!("it does not end as {program} ends one: it was cut short, or {program} failed while writing it"),
    )
    .hint("use another artifact")
}

/// Looks at a plain SQL dump of a database: counts and fingerprints the rows of its COPY blocks.
#[derive(Default)]
pub(crate) struct SqlTap {
    partial: Vec<u8>,
    /// The table whose rows are passing.
    table: Option<ProofItem>,
    tables: Vec<ProofItem>,
    copy: serde_json::Map<String, serde_json::Value>,
    complete: bool,
    has_inserts: bool,
}

/// No row is larger: PostgreSQL's limit for one field is 1 GB, and the text form escapes.
const ROW_LIMIT: usize = 2 << 30;

impl SqlTap {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    fn line(&mut self, line: &[u8]) {
        if let Some(table) = &mut self.table {
            if line == b"\\." {
                self.tables.extend(self.table.take());
                return;
            }
            table.count += 1;
            table.bytes += line.len() as u64 + 1;
            table.fingerprint.get_or_insert_default().add(line);
            return;
        }
        if let Some(relation) = line.strip_prefix(b"COPY ").and_then(|l| l.strip_suffix(b" FROM stdin;")) {
            let relation = String::from_utf8_lossy(relation).into_owned();
            let name = relation.split(" (").next().unwrap_or_default().trim().to_owned();
            self.copy.insert(name.clone(), relation.into());
            self.table = Some(ProofItem {
                kind: "table".to_owned(),
                name,
                fingerprint: Some(Fingerprint::default()),
                ..ProofItem::default()
            });
        } else if line == DATABASE_END || line == CLUSTER_END {
            self.complete = true;
        } else if line.starts_with(b"INSERT INTO ") {
            self.has_inserts = true;
        }
    }
}

impl Tap for SqlTap {
    fn push(&mut self, chunk: &[u8]) -> Result<()> {
        let mut rest = chunk;
        while let Some(end) = memchr::memchr(b'\n', rest) {
            if self.partial.is_empty() {
                self.line(&rest[..end]);
            } else {
                let mut line = std::mem::take(&mut self.partial);
                line.extend_from_slice(&rest[..end]);
                self.line(&line);
                line.clear();
                self.partial = line;
            }
            rest = &rest[end + 1..];
        }
        if self.partial.len() + rest.len() > ROW_LIMIT {
            return Err(Error::new(
                ErrorKind::Corrupt,
                "read",
                "the SQL dump",
                "a line of it is longer than any row can be",
            ));
        }
        self.partial.extend_from_slice(rest);
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<Proof> {
        if !self.complete || self.table.is_some() {
            return Err(cut_short("pg_dump"));
        }
        let mut proof = Proof { items: self.tables, ..Proof::default() };
        proof.details.insert("copy".to_owned(), self.copy.into());
        if self.has_inserts {
            proof.details.insert("inserts".to_owned(), true.into());
        }
        Ok(proof)
    }

    fn units_done(&self) -> u64 {
        self.tables.len() as u64
    }
}

/// Cuts SQL into statements at semicolons outside of quotes and comments, without psql's own lines (`\restrict`,
/// `\connect`): nothing of a dump is ever given to psql to interpret.
pub(crate) fn statements(sql: &str) -> Vec<&str> {
    let bytes = sql.as_bytes();
    let mut found = Vec::new();
    let (mut start, mut at) = (0, 0);
    let skip_past = |from: usize, end: &[u8]| {
        memchr::memmem::find(&bytes[from..], end).map_or(bytes.len(), |i| from + i + end.len())
    };
    while at < bytes.len() {
        match bytes[at] {
            b'\'' | b'"' => {
                // A doubled quote ends one literal and begins the next: the same to us. Backslashes escape in E'…'.
                let escapes = bytes[at] == b'\'' && at > 0 && matches!(bytes[at - 1], b'E' | b'e');
                let quote = bytes[at];
                at += 1;
                while at < bytes.len() && bytes[at] != quote {
                    at += if escapes && bytes[at] == b'\\' { 2 } else { 1 };
                }
                at += 1;
            }
            b'-' if bytes[at..].starts_with(b"--") => {
                let end = skip_past(at, b"\n");
                // A comment before a statement is not part of it.
                if sql[start..at].trim().is_empty() {
                    start = end;
                }
                at = end;
            }
            b'/' if bytes[at..].starts_with(b"/*") => at = skip_past(at + 2, b"*/"),
            b'$' => {
                let tag = bytes[at + 1..].iter().take_while(|b| b.is_ascii_alphanumeric() || **b == b'_').count();
                if bytes.get(at + 1 + tag) == Some(&b'$') {
                    let delimiter = &bytes[at..at + tag + 2];
                    at = skip_past(at + delimiter.len(), delimiter);
                } else {
                    at += 1;
                }
            }
            b'\\' if sql[start..at].trim().is_empty() => {
                at = skip_past(at, b"\n");
                start = at;
            }
            b';' => {
                found.push(sql[start..at].trim());
                at += 1;
                start = at;
            }
            _ => at += 1,
        }
    }
    found.retain(|s| !s.is_empty());
    found
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GLOBALS: &str = "--\n-- PostgreSQL database cluster dump\n--\n\\restrict abc\nSET default_transaction_read_only = off;\nCREATE ROLE app;\nALTER ROLE app WITH LOGIN PASSWORD 'SCRAM;x''y';\nCREATE ROLE \"a;b\";\nCOMMENT ON ROLE app IS 'two\nlines; one';\n\\unrestrict abc\n--\n-- PostgreSQL database cluster dump complete\n--\n";

    fn proof(mut tap: Box<dyn Tap>, text: &[u8], size: usize) -> Result<Proof> {
        for chunk in text.chunks(size) {
            tap.push(chunk)?;
        }
        tap.finish()
    }

    #[test]
    fn roles_are_counted_and_their_passwords_are_not_kept() {
        for size in [1, 7, 10_000] {
            let proof = proof(Box::new(GlobalsTap::new()), GLOBALS.as_bytes(), size).unwrap();
            let names: Vec<&str> = proof.items.iter().map(|i| &*i.name).collect();
            assert_eq!(names, ["app", "\"a;b\""]);
            assert!(!serde_json::to_string(&proof).unwrap().contains("SCRAM"));
        }
    }

    #[test]
    fn a_dump_without_its_last_line_is_cut_short() {
        for cut in [0, 100, GLOBALS.len() - 30] {
            let text = &GLOBALS.as_bytes()[..cut];
            assert_eq!(proof(Box::new(GlobalsTap::new()), text, 64).unwrap_err().kind(), ErrorKind::Corrupt);
            assert_eq!(proof(Box::new(SqlTap::new()), text, 64).unwrap_err().kind(), ErrorKind::Corrupt);
        }
    }

    #[test]
    fn rows_of_a_plain_dump_are_counted() {
        let text = "CREATE TABLE public.a (id integer);\nCOPY public.a (id, t) FROM stdin;\n1\tx\n2\t\\N\n\\.\n\n\nCOPY public.\"B\"  FROM stdin;\n\\.\n--\n-- PostgreSQL database dump complete\n--\n";
        for size in [1, 5, 1000] {
            let proof = proof(Box::new(SqlTap::new()), text.as_bytes(), size).unwrap();
            assert_eq!(
                proof.items.iter().map(|i| (&*i.name, i.count, i.bytes)).collect::<Vec<_>>(),
                [("public.a", 2, 9), ("public.\"B\"", 0, 0)]
            );
            let mut sum = Fingerprint::default();
            sum.add(b"2\t\\N");
            sum.add(b"1\tx");
            assert_eq!(proof.items[0].fingerprint, Some(sum));
            assert_eq!(proof.details["copy"]["public.a"], "public.a (id, t)");
        }
    }

    #[test]
    fn statements_are_cut_outside_of_quotes_and_without_psql_lines() {
        assert_eq!(
            statements(GLOBALS),
            [
                "SET default_transaction_read_only = off",
                "CREATE ROLE app",
                "ALTER ROLE app WITH LOGIN PASSWORD 'SCRAM;x''y'",
                "CREATE ROLE \"a;b\"",
                "COMMENT ON ROLE app IS 'two\nlines; one'",
            ]
        );
        assert_eq!(statements("DO $x$ a; b $x$; E'\\';' ;/* ; */ c;"), ["DO $x$ a; b $x$", "E'\\';'", "/* ; */ c"]);
    }

    proptest! {
        #[test]
        fn no_text_makes_them_panic(text in "[a-zE;'\"$\\\\\\-/* \n]{0,80}") {
            let _ = statements(&text);
            let _ = proof(Box::new(SqlTap::new()), text.as_bytes(), 3);
            let _ = proof(Box::new(GlobalsTap::new()), text.as_bytes(), 3);
        }
    }
}
