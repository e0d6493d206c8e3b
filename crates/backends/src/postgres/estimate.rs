//! About how large a dump will be, from the catalog alone.
//!
//! A dump holds the rows as COPY text. What the server counts is pages, with free space and a header for each row, and long values
//! compressed in TOAST. So a row's header is taken off, and TOAST counts twice: text that was compressed grows again, and
//! what could not be compressed is mostly `bytea`, whose text is hexadecimal. Indexes are not dumped and not counted.

use lifeboat_core::{Estimate, Result};

use super::session::{Session, quote_literal};
use super::system::PostgresSettings;

/// Bytes of a row that are not its values: its header, and the pointer to it (`HeapTupleHeaderData`, `ItemIdData`).
const ROW_OVERHEAD: u32 = 28;
/// About what a table takes in the table of contents, in bytes.
const TABLE_ENTRY: u32 = 1024;

/// The bytes of a relation. `relpages` is what the last VACUUM or ANALYZE has counted: reading it waits for nobody. Only a relation
/// that neither has seen is looked at itself, which waits for whoever holds it exclusively.
const PAGES: &str = "CASE WHEN {r}.relpages > 0 THEN {r}.relpages * pg_catalog.current_setting('block_size')::bigint \
    ELSE pg_catalog.pg_relation_size({r}.oid) END";

/// Asks a database how much a dump of these of its tables holds. `None` where arguments of pg_dump's decide that.
///
/// # Errors
/// What the server fails with; that a table which was never analyzed is locked.
pub(super) async fn of(session: &Session, settings: &PostgresSettings) -> Result<Option<Estimate>> {
    if !settings.extra_args.is_empty() {
        return Ok(None);
    }
    session.execute("SET lock_timeout = '2s'").await?;
    let bytes = session.value(&query(settings, &searched(session).await?)).await?;
    Ok(bytes.and_then(|bytes| bytes.parse().ok()).map(Estimate::new))
}

/// The schemas in which pg_dump looks for a table that is named without one: those of the role's own search path. Everything else is
/// asked with an empty one, in which nobody can put an operator of theirs.
async fn searched(session: &Session) -> Result<Vec<String>> {
    session.execute("RESET search_path").await?;
    let found = session.rows("SELECT pg_catalog.unnest(pg_catalog.current_schemas(false))").await?;
    session.execute("SET search_path = ''").await?;
    Ok(found.into_iter().flatten().flatten().collect())
}

fn query(settings: &PostgresSettings, searched: &[String]) -> String {
    let pages = |relation: &str| PAGES.replace("{r}", relation);
    // Large objects go into a dump of a whole database.
    let objects = match settings.is_whole_database() {
        true => format!(
            " + (SELECT {} FROM pg_catalog.pg_class o WHERE o.oid = 'pg_catalog.pg_largeobject'::pg_catalog.regclass)",
            pages("o")
        ),
        false => String::new(),
    };
    format!(
        "SELECT (coalesce(pg_catalog.sum({TABLE_ENTRY}
            + greatest({} - greatest(c.reltuples, 0)::bigint * {ROW_OVERHEAD}, 0)
            + CASE WHEN t.oid IS NULL THEN 0 ELSE 2 * ({}) END), 0){objects})::bigint
         FROM pg_catalog.pg_class c
         JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
         LEFT JOIN pg_catalog.pg_class t ON t.oid = c.reltoastrelid
         WHERE c.relkind = 'r' AND c.relpersistence <> 't'
         AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
         AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_depend d
            WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = c.oid AND d.deptype = 'e')
         AND {}",
        pages("c"),
        pages("t"),
        chosen(settings, searched)
    )
}

/// The condition for the tables whose rows are dumped, as `selectDumpableTable` in pg_dump.c decides it.
fn chosen(settings: &PostgresSettings, searched: &[String]) -> String {
    let any = |patterns: &[String], condition: &dyn Fn(&str) -> String| {
        let each: Vec<String> = patterns.iter().map(|pattern| condition(pattern)).collect();
        if each.is_empty() { "false".to_owned() } else { format!("({})", each.join(" OR ")) }
    };
    let of_table = |pattern: &str| of_table(pattern, searched);
    // Where tables are named, schemas do not matter.
    let included = match (settings.tables.is_empty(), settings.schemas.is_empty()) {
        (false, _) => any(&settings.tables, &of_table),
        (true, false) => any(&settings.schemas, &of_schema),
        (true, true) => "true".to_owned(),
    };
    let schemas: &[String] = if settings.tables.is_empty() { &settings.exclude_schemas } else { &[] };
    format!(
        "{included} AND NOT {} AND NOT {} AND NOT {}",
        any(schemas, &of_schema),
        any(&settings.exclude_tables, &of_table),
        any(&settings.exclude_table_data, &of_table)
    )
}

fn of_schema(pattern: &str) -> String {
    let parts = parts(pattern);
    format!("n.nspname ~ {}", quote_literal(&anchored(&parts[parts.len() - 1])))
}

fn of_table(pattern: &str, searched: &[String]) -> String {
    let parts = parts(pattern);
    let name = format!("c.relname ~ {}", quote_literal(&anchored(&parts[parts.len() - 1])));
    match parts.len().checked_sub(2) {
        Some(schema) => format!("({name} AND n.nspname ~ {})", quote_literal(&anchored(&parts[schema]))),
        None => {
            let searched: Vec<String> = searched.iter().map(|schema| quote_literal(schema)).collect();
            format!("({name} AND n.nspname = ANY (ARRAY[{}]::pg_catalog.name[]))", searched.join(", "))
        }
    }
}

fn anchored(expression: &str) -> String {
    format!("^({expression})$")
}

/// A pattern of pg_dump's as regular expressions: the database, if it is named, the schema, the table (`patternToSQLRegex` in
/// string_utils.c).
fn parts(pattern: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut quoted = false;
    let mut rest = pattern.chars().peekable();
    while let Some(c) = rest.next() {
        let part = parts.last_mut().expect("there is one from the start");
        match c {
            '"' if quoted && rest.peek() == Some(&'"') => part.extend(rest.next()),
            '"' => quoted = !quoted,
            '.' if !quoted => parts.push(String::new()),
            '*' if !quoted => part.push_str(".*"),
            '?' if !quoted => part.push('.'),
            // The start of an expression's set otherwise, but never empty.
            '[' if !quoted && rest.peek() == Some(&']') => part.push_str("\\["),
            '$' => part.push_str("\\$"),
            c if quoted && "|*+?()[]{}.^\\".contains(c) => part.extend(['\\', c]),
            c if quoted => part.push(c),
            c => part.extend(c.to_lowercase()),
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn patterns_are_read_as_pg_dump_reads_them() {
        for (pattern, expected) in [
            ("orders", &["orders"][..]),
            ("Orders", &["orders"]),
            ("\"Orders\"", &["Orders"]),
            ("public.ord*", &["public", "ord.*"]),
            ("shop.public.o?", &["shop", "public", "o."]),
            ("\"a.b\".c", &["a\\.b", "c"]),
            ("\"a\"\"b\"", &["a\"b"]),
            ("a$b", &["a\\$b"]),
            ("int[]", &["int\\[]"]),
            ("(a|b)", &["(a|b)"]),
        ] {
            assert_eq!(parts(pattern), expected, "{pattern}");
        }
    }

    #[test]
    fn where_tables_are_named_schemas_do_not_matter() {
        let settings = PostgresSettings::default().schemas(vec!["s".to_owned()]).exclude_schemas(vec!["x".to_owned()]);
        assert!(chosen(&settings, &[]).contains("n.nspname ~ '^(s)$'"));
        let named = chosen(&settings.tables(vec!["s.t".to_owned()]), &[]);
        assert!(named.contains("c.relname ~ '^(t)$'") && !named.contains("^(x)$"), "{named}");
        assert_eq!(chosen(&PostgresSettings::default(), &[]), "true AND NOT false AND NOT false AND NOT false");
    }

    proptest! {
        #[test]
        fn whatever_a_pattern_is_it_stays_within_its_literal(pattern in "[a-z\"'.*?$\\\\\\[\\]();é-]{0,20}") {
            let settings = PostgresSettings::default().tables(vec![pattern.clone()]).exclude_schemas(vec![pattern]);
            let condition = chosen(&settings, &["a'b".to_owned()]);
            // Quotes come in pairs: what stands between them is data.
            prop_assert_eq!(condition.matches('\'').count() % 2, 0);
        }
    }
}
