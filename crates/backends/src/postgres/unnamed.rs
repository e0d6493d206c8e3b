//! Tables, sequences and columns whose names are not valid text. Names in an SQL_ASCII database have no encoding, and
//! Lifeboat's sessions use UTF-8 only: pg_dump copies their bytes, but our statements cannot name them. Only the number
//! of their rows is compared.

use lifeboat_core::words::{Noun, count};
use lifeboat_core::{Check, Error, ErrorKind, Proof, ProofItem, Result};

use super::session::Session;

/// An SQL expression for the bytes of a name, in hexadecimal digits: in UTF-8 if the database has an encoding.
fn hex_of(name: &str) -> String {
    format!(
        "pg_catalog.encode(pg_catalog.convert_to({name}, CASE pg_catalog.getdatabaseencoding() WHEN 'SQL_ASCII' THEN 'SQL_ASCII' ELSE 'UTF8' END), 'hex')"
    )
}

/// An SQL expression for the rows of the table with this number, without those of its children.
///
/// `query_to_xml` runs a statement that the server itself has written: unlike `DO` it needs no language, and no right to write.
fn count_of(oid: &str) -> String {
    format!(
        "pg_catalog.substring(pg_catalog.query_to_xml(pg_catalog.format('SELECT pg_catalog.count(*) AS n FROM ONLY %s', {oid}::pg_catalog.regclass), false, true, '')::text, '<n>([0-9]+)</n>')"
    )
}

/// The relations that a query of `pg_class c` returns, with their row counts. Bytes of a name that are not UTF-8 are
/// replaced by U+FFFD.
///
/// # Errors
/// Any error of the server.
pub(super) async fn counted(session: &Session, with: &str, from: &str) -> Result<Vec<(String, u64)>> {
    let name = hex_of("c.oid::pg_catalog.regclass::text");
    let rows = session.rows(&format!("{with} SELECT {name}, {} FROM {from}", count_of("c.oid"))).await?;
    let counted = rows.into_iter().map(|row| {
        let read = |row: &[Option<String>]| {
            let [Some(name), Some(count)] = row else { return None };
            let name = String::from_utf8_lossy(&hex::decode(name).ok()?).into_owned();
            Some((name, count.parse().ok()?))
        };
        // A skipped table would go unnoticed.
        read(&row).ok_or_else(|| {
            let why = format!("a row that was not expected: {row:?}");
            Error::new(ErrorKind::Internal, "count the rows of", "tables whose names are not UTF-8", why)
        })
    });
    counted.collect()
}

/// The note in a backup about names that are not text, if there are any.
///
/// # Errors
/// Any error of the server.
pub(super) async fn note(session: &Session) -> Result<Option<String>> {
    let name = hex_of("pg_catalog.concat_ws('.', n.nspname, c.relname)");
    let rows = session
        .rows(&format!(
            "SELECT {name} FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
             WHERE c.relkind IN ('r', 'p', 'S', 'm', 'v', 'f') AND n.nspname NOT IN ('pg_catalog', 'information_schema')"
        ))
        .await?;
    let names = rows.into_iter().filter_map(|row| hex::decode(row.into_iter().next()??).ok());
    let unnamed: Vec<String> =
        names.filter(|name| std::str::from_utf8(name).is_err()).map(|name| name.escape_ascii().to_string()).collect();
    let shown = &unnamed[..unnamed.len().min(3)];
    let more = if unnamed.len() > shown.len() { " …" } else { "" };
    Ok((!unnamed.is_empty()).then(|| {
        format!(
            "{} not UTF-8 ({}{more}): what has it is backed up, and after a restore its rows can only be counted",
            Noun::new("name of a table, view or sequence is", "names of tables, views or sequences are")
                .count(unnamed.len()),
            shown.join(", ")
        )
    }))
}

/// Whether bytes of a name are lost, so that no statement can name it.
pub(super) fn is_unnamed(text: &str) -> bool {
    text.contains('\u{fffd}')
}

/// An expected proof, split by whether statements can name its items.
pub(super) struct Apart {
    /// The items that can be named; for tables with columns that cannot, only the number of rows.
    pub(super) named: Proof,
    unnamed: Vec<ProofItem>,
    /// Tables with columns that cannot be named.
    columns: usize,
}

impl Apart {
    pub(super) fn of(expected: &Proof) -> Self {
        let mut named = expected.clone();
        let unnamed = named.items.extract_if(.., |item| is_unnamed(&item.name)).collect();
        let mut columns = 0;
        for item in named.items.iter_mut().filter(|item| item.kind == "table") {
            let copy = expected.details.get("copy").and_then(|all| all.get(&item.name)).and_then(|copy| copy.as_str());
            if copy.is_some_and(is_unnamed) {
                item.fingerprint = None;
                columns += 1;
            }
        }
        Self { named, unnamed, columns }
    }

    /// Takes tables out of what was found that stand for those that cannot be named, and says how they compare. With `all`,
    /// everything with rows in the database was found.
    pub(super) fn compare(&self, found: &mut Proof, all: bool) -> Option<Check> {
        if self.unnamed.is_empty() && self.columns == 0 {
            return None;
        }
        const NAME: &str = "content: no text";
        let tables = self.unnamed.iter().filter(|item| item.kind == "table");
        let expected: u64 = tables.clone().map(|item| item.count).sum();
        let known = |name: &str| self.named.of_kind("table").any(|item| item.name == name);
        let others: u64 = match self.unnamed.is_empty() {
            true => 0,
            false => found
                .items
                .extract_if(.., |item| item.kind == "table" && !known(&item.name))
                .map(|item| item.count)
                .sum(),
        };
        let figure = count(self.unnamed.len() + self.columns, "name");
        if all && expected != others {
            let detail = format!(
                "tables whose names are not UTF-8 had {} together, and {others} came back",
                Noun::ROWS.count(expected)
            );
            return Some(Check::fail(NAME, figure, detail));
        }
        let how = if all { "only counted" } else { "not compared" };
        let mut parts = Vec::new();
        let mut add = |what: &str, count: usize, fate: String| {
            if count > 0 {
                parts.push(format!("{what}: {count} ({fate})"));
            }
        };
        add("tables", tables.count(), format!("{}, {how}", Noun::ROWS.count(expected)));
        let others = self.unnamed.iter().filter(|item| item.kind != "table").count();
        add("others", others, "not compared".to_owned());
        add("tables with such columns", self.columns, "only counted".to_owned());
        let detail =
            format!("names that are not UTF-8 are restored, and no statement can name them: {}", parts.join("; "));
        Some(Check::warn(NAME, figure, detail))
    }
}
