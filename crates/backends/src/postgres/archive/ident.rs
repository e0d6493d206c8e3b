//! SQL identifiers as pg_dump writes them: quoted where PostgreSQL's `quote_identifier`
//! (`src/backend/utils/adt/ruleutils.c`) quotes.

/// Key words that cannot stand unquoted as a name: those of `src/include/parser/kwlist.h` that are not
/// `UNRESERVED_KEYWORD`, in any version from 9.0 to 18.
const KEYWORDS: &[&str] = &[
    "all",
    "analyse",
    "analyze",
    "and",
    "any",
    "array",
    "as",
    "asc",
    "asymmetric",
    "authorization",
    "between",
    "bigint",
    "binary",
    "bit",
    "boolean",
    "both",
    "case",
    "cast",
    "char",
    "character",
    "check",
    "coalesce",
    "collate",
    "collation",
    "column",
    "concurrently",
    "constraint",
    "create",
    "cross",
    "current_catalog",
    "current_date",
    "current_role",
    "current_schema",
    "current_time",
    "current_timestamp",
    "current_user",
    "dec",
    "decimal",
    "default",
    "deferrable",
    "desc",
    "distinct",
    "do",
    "else",
    "end",
    "except",
    "exists",
    "extract",
    "false",
    "fetch",
    "float",
    "for",
    "foreign",
    "freeze",
    "from",
    "full",
    "grant",
    "greatest",
    "group",
    "grouping",
    "having",
    "ilike",
    "in",
    "initially",
    "inner",
    "inout",
    "int",
    "integer",
    "intersect",
    "interval",
    "into",
    "is",
    "isnull",
    "join",
    "json",
    "json_array",
    "json_arrayagg",
    "json_exists",
    "json_object",
    "json_objectagg",
    "json_query",
    "json_scalar",
    "json_serialize",
    "json_table",
    "json_value",
    "lateral",
    "leading",
    "least",
    "left",
    "like",
    "limit",
    "localtime",
    "localtimestamp",
    "merge_action",
    "national",
    "natural",
    "nchar",
    "none",
    "normalize",
    "not",
    "notnull",
    "null",
    "nullif",
    "numeric",
    "offset",
    "on",
    "only",
    "or",
    "order",
    "out",
    "outer",
    "over",
    "overlaps",
    "overlay",
    "placing",
    "position",
    "precision",
    "primary",
    "real",
    "references",
    "returning",
    "right",
    "row",
    "select",
    "session_user",
    "setof",
    "similar",
    "smallint",
    "some",
    "substring",
    "symmetric",
    "system_user",
    "table",
    "tablesample",
    "then",
    "time",
    "timestamp",
    "to",
    "trailing",
    "treat",
    "trim",
    "true",
    "union",
    "unique",
    "user",
    "using",
    "values",
    "varchar",
    "variadic",
    "verbose",
    "when",
    "where",
    "window",
    "with",
    "xmlattributes",
    "xmlconcat",
    "xmlelement",
    "xmlexists",
    "xmlforest",
    "xmlnamespaces",
    "xmlparse",
    "xmlpi",
    "xmlroot",
    "xmlserialize",
    "xmltable",
];

/// A name as an SQL identifier, quoted only if necessary: `a`, `"Order"`, `"with ""quotes"""`.
pub fn quote_ident(name: &str) -> String {
    let plain =
        name.bytes().enumerate().all(|(i, b)| b.is_ascii_lowercase() || b == b'_' || (i > 0 && b.is_ascii_digit()));
    if plain && !name.is_empty() && KEYWORDS.binary_search(&name).is_err() {
        return name.to_owned();
    }
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// `schema.name`, each quoted if necessary; only the name if there is no schema.
pub fn quote_qualified(schema: Option<&[u8]>, name: &[u8]) -> String {
    let name = quote_ident(&String::from_utf8_lossy(name));
    match schema {
        Some(schema) if !schema.is_empty() => format!("{}.{name}", quote_ident(&String::from_utf8_lossy(schema))),
        _ => name,
    }
}

/// The length of the identifier, quoted or not, at the start of some SQL. `None` if there is none.
pub(crate) fn ident_len(sql: &[u8]) -> Option<usize> {
    if sql.first() == Some(&b'"') {
        let mut at = 1;
        loop {
            at += memchr::memchr(b'"', &sql[at..])? + 1;
            if sql.get(at) != Some(&b'"') {
                return Some(at);
            }
            at += 1;
        }
    }
    let len = sql.iter().take_while(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'$') || **b >= 0x80).count();
    (len > 0).then_some(len)
}

/// The length of the name at the start of some SQL, with its schema if it has one, and the number of its parts.
pub(super) fn qualified_len(sql: &[u8]) -> Option<(usize, usize)> {
    let mut len = ident_len(sql)?;
    let mut parts = 1;
    while sql.get(len) == Some(&b'.') {
        len += 1 + ident_len(&sql[len + 1..])?;
        parts += 1;
    }
    Some((len, parts))
}

/// The name that an SQL identifier denotes: without its quotes, or in lower case if it has none.
pub(crate) fn unquote(ident: &str) -> String {
    match ident.strip_prefix('"').and_then(|i| i.strip_suffix('"')) {
        Some(quoted) => quoted.replace("\"\"", "\""),
        None => ident.to_ascii_lowercase(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_quoted_where_they_must_be() {
        assert!(KEYWORDS.is_sorted());
        for (name, sql) in [
            ("a", "a"),
            ("_a1", "_a1"),
            ("1a", "\"1a\""),
            ("Order", "\"Order\""),
            ("order", "\"order\""),
            ("a b", "\"a b\""),
            ("a\"b", "\"a\"\"b\""),
            ("é", "\"é\""),
            ("a$", "\"a$\""),
            ("", "\"\""),
            ("name", "name"),
        ] {
            assert_eq!(quote_ident(name), sql);
            assert_eq!(unquote(sql), name);
            assert_eq!(ident_len(format!("{sql} x").as_bytes()), Some(sql.len()));
        }
    }

    #[test]
    fn qualified_names_are_measured() {
        assert_eq!(qualified_len(b"public.a (id)"), Some((8, 2)));
        assert_eq!(qualified_len(b"\"a.\"\"b\".\"c d\" (id)"), Some((13, 2)));
        assert_eq!(qualified_len(b"a  FROM"), Some((1, 1)));
        assert_eq!(qualified_len(b"\"open"), None);
        assert_eq!(qualified_len(b"a."), None);
    }
}
