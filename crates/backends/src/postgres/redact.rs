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
    format!("{} ({})", without_values(db), db.code().code())
}

/// A server's message without values.
pub(crate) fn without_values(db: &DbError) -> String {
    message(db.message(), db.code().code())
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

/// What pg_restore and pg_dump say, without the values that the server quotes to them: which entry, the server's message, the
/// kind of the statement. Its details, its context and the statement itself are left out.
pub(crate) fn words(stderr: &str, program: &str) -> String {
    let prefix = format!("{program}: ");
    let mut kept: Vec<String> = Vec::new();
    // Within something of several lines that is left out.
    let mut skipping = false;
    for line in stderr.lines() {
        let line = line.trim_end();
        let own = line.strip_prefix(&*prefix);
        let text = own.unwrap_or(line);
        let (mark, rest) = text.split_once(':').unwrap_or((text, ""));
        match mark {
            "DETAIL" | "HINT" | "STATEMENT" | "QUERY" => skipping = true,
            "CONTEXT" => {
                skipping = true;
                // `COPY t, line 1: "…"`, `COPY t, line 1, column a: "…"`
                if let Some(place) = rest.trim().strip_prefix("COPY ") {
                    let place = place.split(": \"").next().unwrap_or_default();
                    let place = place.split(": null").next().unwrap_or_default();
                    kept.push(format!("in COPY {}", one_line(place)));
                }
            }
            "Command was" | "detail" | "hint" | "query" => {
                skipping = true;
                if mark == "Command was" || mark == "query" {
                    kept.push(format!("in {}", kind_of(rest.trim_start().as_bytes())));
                }
            }
            _ if mark.starts_with("LINE ") => skipping = true,
            _ if own.is_some() => {
                skipping = false;
                kept.push(server_words(text));
            }
            // What goes on over several lines, or is not the program's own.
            _ if skipping => {}
            _ => kept.push(server_words(text)),
        }
    }
    kept.retain(|line| !line.is_empty());
    let last = kept.len().saturating_sub(12);
    kept[last..].join("; ")
}

/// A line of a program's, the server's message in it without values. A program gives no SQLSTATE: what is quoted stays only
/// where the words before it say that it is the name of an object.
fn server_words(line: &str) -> String {
    let Some((before, message)) = line.split_once("ERROR:") else { return one_line(line) };
    let mut shown = String::new();
    let mut rest = message;
    while let Some((words, quoted)) = rest.split_once('"') {
        let Some((name, after)) = quoted.split_once('"') else {
            shown.push_str(words);
            shown.push_str(GONE);
            rest = "";
            break;
        };
        let named = words.trim_end().rsplit(' ').next().unwrap_or_default();
        let is_object = OBJECTS.contains(&named);
        shown.push_str(words);
        if !is_object {
            // Values may hold quotes: nothing after the first of them is certain to be outside.
            shown.push_str(GONE);
            rest = "";
            break;
        }
        shown.push_str(&format!("\"{name}\""));
        rest = after;
    }
    shown.push_str(rest);
    one_line(&format!("{before}ERROR:{shown}"))
}

/// Words before the name of an object in the server's messages.
const OBJECTS: [&str; 24] = [
    "aggregate",
    "collation",
    "column",
    "constraint",
    "conversion",
    "database",
    "domain",
    "extension",
    "function",
    "index",
    "language",
    "operator",
    "parameter",
    "policy",
    "publication",
    "relation",
    "role",
    "schema",
    "sequence",
    "server",
    "table",
    "tablespace",
    "type",
    "view",
];

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
    fn a_program_says_what_failed_and_not_on_which_value() {
        let said = "pg_restore: while PROCESSING TOC:
pg_restore: from TOC entry 3333; 1418 16391 USER MAPPING USER MAPPING app SERVER x postgres
pg_restore: error: could not execute query: ERROR:  role \"app\" does not exist
LINE 1: CREATE USER MAPPING FOR app SERVER x OPTIONS (password 'hunter2');
                                ^
Command was: CREATE USER MAPPING FOR app SERVER x OPTIONS (
    password 'hunter2'
);
pg_restore: error: COPY failed for table \"t\": ERROR:  invalid input syntax for type integer: \"hunter2\"
CONTEXT:  COPY t, line 1, column a: \"hunter2\"
pg_restore: error: could not execute query: ERROR:  duplicate key value violates unique constraint \"t_pkey\"
DETAIL:  Key (a)=(hunter2) already exists.
CONTEXT:  COPY t, line 7: \"hunter2\"
pg_restore: error: could not execute query: ERROR:  value \"a\" hunter2\" is wrong
";
        let shown = words(said, "pg_restore");
        assert!(!shown.contains("hunter2"), "{shown}");
        for kept in [
            "from TOC entry 3333; 1418 16391 USER MAPPING",
            "role \"app\" does not exist",
            "in CREATE USER MAPPING",
            "in COPY t, line 1, column a",
            "\"t_pkey\"",
            "in COPY t, line 7",
        ] {
            assert!(shown.contains(kept), "{kept}: {shown}");
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
