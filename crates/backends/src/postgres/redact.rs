//! What is told of a server's or a program's words: kinds, names of objects and SQLSTATEs, not the values.
//!
//! A server quotes what it stumbles over: a row (`COPY t, line 1: "…"`), a key's value, the statement with the password in
//! it. None of that belongs in a log.

use tokio_postgres::error::DbError;

/// What stands for a value that is left out.
const GONE: &str = "\"…\"";

/// The kind of a statement: its first words, as far as they can only be key words.
pub(crate) fn kind_of(sql: &[u8]) -> String {
    const KINDS: [&str; 40] = [
        "ACCESS",
        "AGGREGATE",
        "ALTER",
        "CAST",
        "COLLATION",
        "COMMENT",
        "CONSTRAINT",
        "COPY",
        "CREATE",
        "DATABASE",
        "DEFAULT",
        "DO",
        "DOMAIN",
        "EVENT",
        "EXTENSION",
        "FOREIGN",
        "FUNCTION",
        "GRANT",
        "INDEX",
        "INSERT",
        "INTO",
        "LANGUAGE",
        "MAPPING",
        "MATERIALIZED",
        "ON",
        "OPERATOR",
        "OR",
        "POLICY",
        "PROCEDURE",
        "REPLACE",
        "REVOKE",
        "ROLE",
        "SCHEMA",
        "SELECT",
        "SEQUENCE",
        "SERVER",
        "SET",
        "TABLE",
        "TYPE",
        "UNIQUE",
    ];
    const MORE: [&str; 7] = ["PUBLICATION", "RULE", "STATISTICS", "SUBSCRIPTION", "TRIGGER", "USER", "VIEW"];
    let start = String::from_utf8_lossy(&sql[..sql.len().min(200)]).into_owned();
    let words: Vec<String> = start
        .split_whitespace()
        .map(str::to_ascii_uppercase)
        .take_while(|word| KINDS.contains(&&**word) || MORE.contains(&&**word))
        .take(4)
        .collect();
    if words.is_empty() { "a statement".to_owned() } else { words.join(" ") }
}

/// A server's answer: its message without values, and the SQLSTATE.
pub(crate) fn answer(db: &DbError) -> String {
    format!("{} ({})", message(db.message(), db.code().code()), db.code().code())
}

/// A message without values. In the classes where what is quoted are the names of objects (access rules, constraints,
/// resources), they stay.
fn message(text: &str, code: &str) -> String {
    // What a function raises is its own text: anything may be in it.
    if code.starts_with("P0") {
        return "a function raised an error".to_owned();
    }
    let names = ["0A", "0L", "0P", "23", "25", "28", "2B", "3D", "3F", "40", "42", "53", "54", "55", "57", "58"];
    if code != "42601" && names.contains(&&code[..code.len().min(2)]) { one_line(text) } else { without_quoted(text) }
}

/// Everything in double quotes is left out; from the first quote on when they do not pair.
fn without_quoted(text: &str) -> String {
    let mut parts = text.splitn(2, '"');
    let before = parts.next().unwrap_or_default();
    match parts.next().map(|rest| rest.rsplit_once('"')) {
        None => one_line(before),
        Some(Some((_, after))) => one_line(&format!("{before}{GONE}{after}")),
        Some(None) => one_line(&format!("{before}{GONE}")),
    }
}

fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_go_and_names_stay() {
        for (text, code, shown) in [
            ("relation \"orders\" does not exist", "42P01", "relation \"orders\" does not exist"),
            (
                "invalid input syntax for type integer: \"4111 1111\"",
                "22P02",
                "invalid input syntax for type integer: \"…\"",
            ),
            ("value \"a\"b\" is out of range", "22003", "value \"…\" is out of range"),
            ("syntax error at or near \"hunter2\"", "42601", "syntax error at or near \"…\""),
            ("syntax error at or near \"hunter2", "42601", "syntax error at or near \"…\""),
            ("the password is hunter2", "P0001", "a function raised an error"),
            (
                "duplicate key value violates unique constraint \"t_pkey\"",
                "23505",
                "duplicate key value violates unique constraint \"t_pkey\"",
            ),
        ] {
            assert_eq!(message(text, code), shown);
        }
    }

    #[test]
    fn the_kind_of_a_statement_has_no_value_in_it() {
        for (sql, kind) in [
            ("CREATE USER MAPPING FOR app SERVER x OPTIONS (password 'p')", "CREATE USER MAPPING"),
            ("INSERT INTO cards VALUES ('4111')", "INSERT INTO"),
            ("hunter2", "a statement"),
            ("COPY public.t (a) FROM stdin", "COPY"),
        ] {
            assert_eq!(kind_of(sql.as_bytes()), kind);
        }
    }
}
