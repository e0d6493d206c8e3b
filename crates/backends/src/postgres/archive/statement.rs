//! The few SQL statements in a table of contents that are parsed, not just passed on.

use super::ident::{ident_len, qualified_len, quote_ident, unquote};
use super::toc::TocEntry;

/// The target of a `COPY … FROM stdin`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CopyTarget {
    /// The table, with its schema: `public."Order"`.
    pub table: String,
    /// Table and column list, as written: `public.a (id, t)`.
    pub relation: String,
}

/// Reads a copy statement: `COPY public.a (id, t) FROM stdin;`. A table without columns has two spaces in
/// place of the list.
pub(super) fn copy_target(entry: &TocEntry) -> Option<CopyTarget> {
    let sql = entry.copy_stmt.as_deref()?.strip_prefix(b"COPY ")?;
    let (len, parts) = qualified_len(sql)?;
    let tail = &sql[len..];
    // The last one, because a column can have any name.
    let end = memchr::memmem::rfind(tail, b" FROM stdin;")?;
    // pg_dump below 12 copies the OIDs of tables that have them.
    let columns = tail[..end].trim_ascii();
    let columns = columns.strip_suffix(b"WITH OIDS").unwrap_or(columns).trim_ascii();
    let listed = columns.starts_with(b"(") && columns.ends_with(b")");
    if !listed && !columns.is_empty() {
        return None;
    }
    let table = qualify(entry, &sql[..len], parts);
    let columns = String::from_utf8_lossy(columns);
    let relation = if columns.is_empty() { table.clone() } else { format!("{table} {columns}") };
    Some(CopyTarget { table, relation })
}

/// For each column of the copy target `first`, its index in `other`, of the same table; `None` if their columns differ.
pub(super) fn column_order(first: &str, other: &str) -> Option<Vec<usize>> {
    let (first, other) = (columns(first)?, columns(other)?);
    if first.len() != other.len() {
        return None;
    }
    first.iter().map(|name| other.iter().position(|n| n == name)).collect()
}

/// The columns of a copy target, as they are written.
fn columns(relation: &str) -> Option<Vec<&str>> {
    let (len, _) = qualified_len(relation.as_bytes())?;
    let mut rest = relation[len..].trim().strip_prefix('(')?.strip_suffix(')')?;
    let mut columns = Vec::new();
    loop {
        let len = ident_len(rest.as_bytes())?;
        columns.push(&rest[..len]);
        match rest[len..].strip_prefix(", ") {
            Some(next) => rest = next,
            None => return rest[len..].is_empty().then_some(columns),
        }
    }
}

/// The statement that reads back what a `COPY … FROM` of this table and column list has loaded (a value of the proof's
/// detail `copy`).
///
/// Reading a partitioned table (the root of `--load-via-partition-root`) or a foreign table requires `by_query`;
/// without it, an inheritance parent gives only its own rows, as in the dump.
///
/// `None` if `relation` is not a table with an optional column list.
pub fn copy_to_stdout(relation: &str, by_query: bool) -> Option<String> {
    if !by_query {
        return Some(format!("COPY {relation} TO STDOUT"));
    }
    let (len, _) = qualified_len(relation.as_bytes())?;
    let (table, columns) = relation.split_at(len);
    let columns = match columns.trim() {
        "" => "",
        list => list.strip_prefix('(')?.strip_suffix(')')?,
    };
    Some(format!("COPY (SELECT {columns} FROM {table}) TO STDOUT"))
}

/// The sequence and the state that a `SEQUENCE SET` entry gives it, from
/// `SELECT pg_catalog.setval('public.x', 4, true);`.
pub(super) fn sequence_state(entry: &TocEntry) -> Option<(String, String)> {
    let sql = entry.defn.as_deref()?;
    let start = memchr::memmem::find(sql, b"setval(")? + b"setval(".len();
    let (name, rest) = string_literal(&sql[start..])?;
    let rest = std::str::from_utf8(rest).ok()?;
    let (last_value, rest) = rest.strip_prefix(',')?.split_once(',')?;
    let (is_called, _) = rest.split_once(')')?;
    let (last_value, is_called) = (last_value.trim().parse::<i64>().ok()?, is_called.trim());
    if !matches!(is_called, "true" | "false") {
        return None;
    }
    let (len, parts) = qualified_len(&name)?;
    (len == name.len()).then(|| (qualify(entry, &name, parts), format!("{last_value},{is_called}")))
}

/// The names of the roles in a `GRANT`, `REVOKE`, `ALTER DEFAULT PRIVILEGES` or `CREATE POLICY`.
pub(crate) fn acl_roles(sql: &[u8]) -> Vec<String> {
    let mut roles = Vec::new();
    let (mut before, mut last) = (String::new(), String::new());
    let mut depth = 0u32;
    // After a role and a comma there is another one: a policy can name several.
    let (mut after_role, mut listed) = (false, false);
    let mut at = 0;
    while at < sql.len() {
        let Some(len) = ident_len(&sql[at..]) else {
            match sql[at] {
                b'(' => depth += 1,
                b')' => depth = depth.saturating_sub(1),
                b';' => (before, last) = (String::new(), String::new()),
                b',' => listed = after_role,
                _ => {}
            }
            at += 1;
            continue;
        };
        let word = String::from_utf8_lossy(&sql[at..at + len]).into_owned();
        at += len;
        // Columns are in parentheses, and the parts of a qualified name are no key words.
        if depth > 0 || sql.get(at) == Some(&b'.') || (at > len && sql[at - len - 1] == b'.') {
            last.clear();
            (after_role, listed) = (false, false);
            continue;
        }
        let named = match last.as_str() {
            _ if listed => true,
            "TO" | "FROM" | "AUTHORIZATION" => true,
            "ROLE" => before == "FOR",
            "BY" => before == "GRANTED",
            _ => false,
        };
        if named && !matches!(word.as_str(), "PUBLIC" | "DEFAULT") {
            roles.push(unquote(&word));
        }
        (after_role, listed) = (named, false);
        before = std::mem::replace(&mut last, word);
    }
    roles
}

/// Parses `'…'`, or `E'…'`, which pg_dump writes if `standard_conforming_strings` is off.
fn string_literal(sql: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let (escaped, sql) = match sql.trim_ascii_start() {
        [b'E', b'\'', rest @ ..] => (true, rest),
        [b'\'', rest @ ..] => (false, rest),
        _ => return None,
    };
    let mut text = Vec::new();
    let mut at = 0;
    loop {
        match (sql.get(at)?, sql.get(at + 1)) {
            (b'\'', Some(b'\'')) => at += 1,
            (b'\'', _) => return Some((text, &sql[at + 1..])),
            (b'\\', Some(b'\\')) if escaped => at += 1,
            _ => {}
        }
        text.push(sql[at]);
        at += 1;
    }
}

/// pg_dump up to 10.2 relies on the search path and writes no schema: the entry knows it.
fn qualify(entry: &TocEntry, name: &[u8], parts: usize) -> String {
    let name = String::from_utf8_lossy(name);
    match &entry.namespace {
        Some(schema) if parts == 1 && !schema.is_empty() => {
            format!("{}.{name}", quote_ident(&String::from_utf8_lossy(schema)))
        }
        _ => name.into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(namespace: &str, copy: &str, defn: &str) -> TocEntry {
        let text = |t: &str| (!t.is_empty()).then(|| t.as_bytes().to_vec());
        TocEntry { namespace: text(namespace), copy_stmt: text(copy), defn: text(defn), ..TocEntry::blank() }
    }

    #[test]
    fn copy_statements_name_their_table() {
        for (copy, table, relation) in [
            ("COPY public.a (id, t) FROM stdin;\n", "public.a", "public.a (id, t)"),
            ("COPY public.nocol  FROM stdin;\n", "public.nocol", "public.nocol"),
            ("COPY a (id) FROM stdin;\n", "s.a", "s.a (id)"),
            ("COPY a (id) WITH OIDS FROM stdin;\n", "s.a", "s.a (id)"),
            (
                "COPY \"Odd Schema\".\"O\"\"rder\" (\"x FROM stdin;\") FROM stdin;\n",
                "\"Odd Schema\".\"O\"\"rder\"",
                "\"Odd Schema\".\"O\"\"rder\" (\"x FROM stdin;\")",
            ),
        ] {
            let got = copy_target(&entry("s", copy, "")).unwrap();
            assert_eq!((got.table.as_str(), got.relation.as_str()), (table, relation));
        }
        for copy in ["", "COPY ", "COPY a", "COPY a x FROM stdin;", "SELECT 1", "COPY \"a FROM stdin;"] {
            assert_eq!(copy_target(&entry("s", copy, "")), None, "{copy}");
        }
    }

    #[test]
    fn columns_are_found_again_in_another_order() {
        assert_eq!(column_order("s.a (x, \"y, z\", é)", "s.a (\"y, z\", é, x)"), Some(vec![2, 0, 1]));
        for other in ["s.a (x)", "s.a (x, y)", "s.a", "s.a (x,\"y, z\")"] {
            assert_eq!(column_order("s.a (x, \"y, z\")", other), None, "{other}");
        }
    }

    #[test]
    fn what_was_copied_in_is_copied_out() {
        for (relation, by_query, sql) in [
            ("s.\"A\" (id, t)", false, "COPY s.\"A\" (id, t) TO STDOUT"),
            ("s.\"A\" (id, t)", true, "COPY (SELECT id, t FROM s.\"A\") TO STDOUT"),
            ("s.a", true, "COPY (SELECT  FROM s.a) TO STDOUT"),
        ] {
            assert_eq!(copy_to_stdout(relation, by_query).as_deref(), Some(sql));
        }
    }

    #[test]
    fn sequences_name_their_state() {
        for (defn, name, value) in [
            ("SELECT pg_catalog.setval('public.a_id_seq', 4, true);\n", "public.a_id_seq", "4,true"),
            ("SELECT pg_catalog.setval('public.\"We''ird\"', -1, false);\n", "public.\"We'ird\"", "-1,false"),
            ("SELECT pg_catalog.setval('x', 4, true);\n", "s.x", "4,true"),
            ("SELECT pg_catalog.setval(E'public.\"a\\\\b\"', 4, true);\n", "public.\"a\\b\"", "4,true"),
            ("SELECT pg_catalog.setval('public.\"a\"\"b,\"', 4, true);\n", "public.\"a\"\"b,\"", "4,true"),
        ] {
            let got = sequence_state(&entry("s", "", defn)).unwrap();
            assert_eq!((got.0.as_str(), got.1.as_str()), (name, value));
        }
        for defn in
            ["", "setval(", "setval('a", "setval('a', x, true);", "setval('a', 1, maybe);", "setval('a b', 1, true)"]
        {
            assert_eq!(sequence_state(&entry("s", "", defn)), None, "{defn}");
        }
    }

    #[test]
    fn grants_name_their_roles() {
        for (sql, roles) in [
            (
                "GRANT SELECT(t) ON TABLE public.a TO r1;\nGRANT ALL ON TABLE public.role TO \"R 2\" WITH GRANT OPTION;\n",
                &["r1", "R 2"][..],
            ),
            ("REVOKE USAGE ON SCHEMA public FROM PUBLIC;\nGRANT ALL ON SCHEMA public TO PUBLIC;\n", &[]),
            (
                "SET SESSION AUTHORIZATION r3;\nGRANT SELECT ON TABLE public.role TO r1;\nRESET SESSION AUTHORIZATION;\n",
                &["r3", "r1"],
            ),
            (
                "CREATE POLICY p ON public.a AS RESTRICTIVE FOR SELECT TO r1, \"R, 2\", r3 USING (true);\n",
                &["r1", "R, 2", "r3"],
            ),
            ("GRANT SELECT, INSERT ON TABLE public.a TO r1;\n", &["r1"]),
            (
                "ALTER DEFAULT PRIVILEGES FOR ROLE postgres IN SCHEMA s GRANT SELECT ON TABLES  TO r1;\n",
                &["postgres", "r1"],
            ),
        ] {
            assert_eq!(acl_roles(sql.as_bytes()), roles, "{sql}");
        }
    }
}
