//! The taps for plain SQL: `pg_dumpall --globals-only`, as used by Lifeboat, and `pg_dump` without `-Fc`, as used by
//! scripts.

use bytes::Bytes;
use lifeboat_core::extract::Out;
use lifeboat_core::{Error, ErrorKind, Extract, Fingerprint, Proof, ProofItem, Result, Tap};

use super::script::{Event, Keep, Reader, Statement, Whole};

/// How much of a statement is examined: enough for a `COPY` with the largest possible number of columns.
const LOOKED_AT: usize = 256 << 10;

/// Examines the output of `pg_dumpall --globals-only`. The proof has an item for each role and tablespace, so that a
/// restore can be checked for completeness. It contains no passwords.
pub(crate) struct GlobalsTap {
    reader: Reader,
    roles: Vec<String>,
    tablespaces: Vec<String>,
}

impl GlobalsTap {
    pub(crate) fn new() -> Self {
        Self { reader: Reader::new(Keep::Beginning(LOOKED_AT)), roles: Vec::new(), tablespaces: Vec::new() }
    }
}

impl Tap for GlobalsTap {
    fn push(&mut self, chunk: &[u8]) -> Result<()> {
        let Self { reader, roles, tablespaces } = self;
        reader.push(&Bytes::copy_from_slice(chunk), &mut |event| {
            let Event::Statement { sql, kind: Statement::ServerWide(what), .. } = event else { return };
            let (names, prefix) = match what {
                "CREATE ROLE" => (&mut *roles, &b"CREATE ROLE "[..]),
                "CREATE TABLESPACE" => (&mut *tablespaces, &b"CREATE TABLESPACE "[..]),
                _ => return,
            };
            let rest = sql.strip_prefix(prefix).unwrap_or_default();
            names.extend(super::archive::ident_len(rest).map(|len| String::from_utf8_lossy(&rest[..len]).into_owned()));
        })
    }

    fn finish(mut self: Box<Self>) -> Result<Proof> {
        if self.reader.finish()? != Whole::Cluster {
            let why = "it is pg_dump's dump of a database, not of a server's roles";
            return Err(Error::new(ErrorKind::Corrupt, "read", "the SQL dump", why));
        }
        let item = |kind: &str| {
            let kind = kind.to_owned();
            move |name| ProofItem::new(kind.clone(), name, 1)
        };
        let items =
            self.roles.into_iter().map(item("role")).chain(self.tablespaces.into_iter().map(item("tablespace")));
        Ok(Proof::new(items))
    }
}

/// Examines a plain SQL dump of a database: counts and fingerprints the rows of its COPY blocks.
pub(crate) struct SqlTap {
    reader: Reader,
    seen: Seen,
}

/// What has gone past.
#[derive(Default)]
struct Seen {
    /// The table whose rows are currently passing.
    table: Option<ProofItem>,
    /// The start of an incomplete row.
    partial: Vec<u8>,
    tables: Vec<ProofItem>,
    copy: serde_json::Map<String, serde_json::Value>,
    has_inserts: bool,
}

/// The largest row: PostgreSQL's limit for one field is 1 GB, and the text form adds escapes.
const ROW_LIMIT: usize = 2 << 30;

impl SqlTap {
    pub(crate) fn new() -> Self {
        Self { reader: Reader::new(Keep::Beginning(LOOKED_AT)), seen: Seen::default() }
    }
}

impl Seen {
    fn event(&mut self, event: Event) -> Result<()> {
        match event {
            Event::Copy { sql, .. } => {
                let sql = String::from_utf8_lossy(&sql).into_owned();
                let relation = sql.strip_prefix("COPY ").unwrap_or(&sql);
                let relation = relation.strip_suffix(" FROM stdin").unwrap_or(relation);
                let name = relation.split(" (").next().unwrap_or_default().trim().to_owned();
                self.copy.insert(name.clone(), relation.into());
                self.table = Some(ProofItem::new("table", name, 0).fingerprint(Fingerprint::default()));
            }
            Event::Rows(rows) => {
                let mut rest = &rows[..];
                while let Some(end) = memchr::memchr(b'\n', rest) {
                    if self.partial.is_empty() {
                        self.row(&rest[..end]);
                    } else {
                        let mut row = std::mem::take(&mut self.partial);
                        row.extend_from_slice(&rest[..end]);
                        self.row(&row);
                        row.clear();
                        self.partial = row;
                    }
                    rest = &rest[end + 1..];
                }
                if self.partial.len() + rest.len() > ROW_LIMIT {
                    let why = "a line of it is longer than any row can be";
                    return Err(Error::new(ErrorKind::Corrupt, "read", "the SQL dump", why));
                }
                self.partial.extend_from_slice(rest);
            }
            Event::CopyEnd => self.tables.extend(self.table.take()),
            Event::Statement { sql, .. } => self.has_inserts |= sql.starts_with(b"INSERT INTO "),
            Event::Connect { .. } => {}
        }
        Ok(())
    }

    fn row(&mut self, row: &[u8]) {
        if let Some(table) = &mut self.table {
            table.count += 1;
            table.bytes += row.len() as u64 + 1;
            table.fingerprint.get_or_insert_default().add(row);
        }
    }
}

impl Tap for SqlTap {
    fn push(&mut self, chunk: &[u8]) -> Result<()> {
        let Self { reader, seen } = self;
        let mut told = Ok(());
        reader.push(&Bytes::copy_from_slice(chunk), &mut |event| {
            if told.is_ok() {
                told = seen.event(event);
            }
        })?;
        told
    }

    fn finish(mut self: Box<Self>) -> Result<Proof> {
        self.reader.finish()?;
        let mut proof = Proof::new(self.seen.tables);
        proof.details.insert("copy".to_owned(), self.seen.copy.into());
        if self.seen.has_inserts {
            proof.details.insert("inserts".to_owned(), true.into());
        }
        Ok(proof)
    }

    fn units_done(&self) -> u64 {
        self.seen.tables.len() as u64
    }

    fn units(&self) -> &'static str {
        "tables"
    }
}

/// Gives out the rows of a table of a plain SQL dump, each with its newline, while the dump is looked at as by a [`SqlTap`].
pub(crate) struct SqlRows {
    tap: SqlTap,
    wanted: String,
    form: String,
    given: u64,
}

impl SqlRows {
    pub(crate) fn new(table: &str) -> Self {
        Self { tap: SqlTap::new(), wanted: table.to_owned(), form: super::archive::form_of_rows(table), given: 0 }
    }
}

impl Extract for SqlRows {
    fn form(&self) -> String {
        self.form.clone()
    }

    fn take(&mut self, chunk: &[u8], out: &mut Out<'_>) -> Result<()> {
        let Self { tap: SqlTap { reader, seen }, wanted, given, .. } = self;
        let mut told = Ok(());
        reader.push(&Bytes::copy_from_slice(chunk), &mut |event| {
            if told.is_err() {
                return;
            }
            told = (|| {
                if let Event::Rows(rows) = &event
                    && seen.table.as_ref().is_some_and(|table| same(&table.name, wanted))
                {
                    *given += rows.len() as u64;
                    out(rows)?;
                }
                seen.event(event)
            })();
        })?;
        told
    }

    fn end(self: Box<Self>, _: &mut Out<'_>) -> Result<Proof> {
        let proof = Tap::finish(Box::new(self.tap))?;
        let counted: u64 =
            proof.items.iter().filter(|table| same(&table.name, &self.wanted)).map(|table| table.bytes).sum();
        // Says which there are, when it is none of them, and when they are several.
        let mut tables = proof.items.iter().filter(|table| same(&table.name, &self.wanted));
        if tables.next().is_none() || tables.next().is_some() {
            lifeboat_core::extract::find(&proof.items, &self.wanted, "the SQL dump")?;
            let why = format!("\"{}\" needs its schema: only that tells it while it passes", self.wanted);
            return Err(Error::new(ErrorKind::Config, "find", "the table in the SQL dump", why));
        }
        if counted != self.given {
            let why = format!("its rows have {counted} bytes, but {} were given out", self.given);
            return Err(Error::new(ErrorKind::Internal, "read", format!("table {}", self.wanted), why));
        }
        Ok(proof)
    }
}

/// Whether a table is the wanted one, which may be written without its quotes.
fn same(name: &str, wanted: &str) -> bool {
    name == wanted || (!wanted.contains('"') && name.replace('"', "") == wanted)
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

    proptest! {
        #[test]
        fn no_text_makes_them_panic(text in "[a-zE;'\"$\\\\\\-/* \n]{0,80}") {
            let _ = proof(Box::new(SqlTap::new()), text.as_bytes(), 3);
            let _ = proof(Box::new(GlobalsTap::new()), text.as_bytes(), 3);
        }
    }
}
