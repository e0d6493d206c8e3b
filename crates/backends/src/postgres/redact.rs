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
    crate::whole_words::keep("PostgreSQL", &format!("{db:?}"));
    told(db.message(), db.code().code(), db.file())
}

/// What is told of a message with this SQLSTATE from this source file of the server.
pub(crate) fn told(text: &str, code: &str, file: Option<&str>) -> String {
    match file.is_some_and(|file| LANGUAGES.iter().any(|language| file.ends_with(language))) {
        true => RAISED.to_owned(),
        false => message(text, code),
    }
}

/// Sources of the server's languages from which functions raise errors of their own, with any SQLSTATE.
const LANGUAGES: [&str; 7] =
    ["pl_exec.c", "plperl.c", "SPI.xs", "Util.xs", "plpy_elog.c", "plpy_plpymodule.c", "pltcl.c"];

/// What is told of such an error: anything may be in its text.
const RAISED: &str = "a function raised an error";

/// A message without values. In the classes where what is quoted are the names of objects (access rules, constraints,
/// resources), they stay.
fn message(text: &str, code: &str) -> String {
    // What a function raises is its own text: anything may be in it.
    if code.starts_with("P0") {
        return RAISED.to_owned();
    }
    let names = ["0A", "0L", "0P", "23", "25", "28", "2B", "3D", "3F", "40", "42", "53", "54", "55", "57", "58"];
    if code != "42601" && names.contains(&&code[..code.len().min(2)]) { one_line(text) } else { without_quoted(text) }
}

/// What pg_restore and pg_dump say, without the values that the server quotes to them: which entry, the server's message, the
/// kind of the statement, and what they and libpq say of the connection. The server's details, its context and the statement
/// itself are left out.
pub(crate) fn words(stderr: &str, program: &str) -> String {
    let mut said = Said::default();
    let prefix = format!("{program}: ");
    for line in stderr.lines() {
        let line = line.trim_end();
        match line.strip_prefix(&*prefix) {
            Some(own) => said.own(own),
            None => said.further(line),
        }
    }
    said.kept.retain(|line| !line.is_empty());
    let last = said.kept.len().saturating_sub(12);
    said.kept[last..].join("; ")
}

/// Warnings of a program's own.
pub(crate) fn warnings<'a>(stderr: &'a str, program: &str) -> impl Iterator<Item = String> + use<'a> {
    let prefix = format!("{program}: warning: ");
    stderr.lines().filter_map(move |line| Some(of_line(line.strip_prefix(&*prefix)?.trim()).0))
}

/// What is told of a program's lines so far.
#[derive(Default)]
struct Said {
    kept: Vec<String>,
    /// Within something of the server's that may go on over several lines.
    servers: bool,
    /// Within the list of what has called what.
    context: bool,
    /// Where the last message of the server's is.
    message: Option<usize>,
}

impl Said {
    /// A line that begins with the program's name.
    fn own(&mut self, line: &str) {
        self.context = false;
        // Since PostgreSQL 15 such marks stand before what belongs to the line above; before that, in the line itself.
        let text = ["error: ", "detail: ", "hint: "].iter().find_map(|mark| line.strip_prefix(mark)).unwrap_or(line);
        if let Some(statement) = statement_in(text) {
            self.kept.push(format!("in {}", kind_of(statement.as_bytes())));
            self.servers = true;
            return;
        }
        let (told, servers) = of_line(line);
        self.servers = servers;
        if servers {
            self.message = Some(self.kept.len());
        }
        self.kept.push(told);
    }

    /// A line without the program's name: what the one above goes on with.
    fn further(&mut self, line: &str) {
        let (mark, rest) = line.split_once(':').unwrap_or((line, ""));
        match mark {
            "CONTEXT" => {
                (self.servers, self.context) = (true, true);
                self.context(rest.trim());
            }
            "Command was" => {
                (self.servers, self.context) = (true, false);
                self.kept.push(format!("in {}", kind_of(rest.trim_start().as_bytes())));
            }
            "DETAIL" | "HINT" | "STATEMENT" | "QUERY" => self.servers = true,
            _ if mark.starts_with("LINE ") => self.servers = true,
            // Within a function, the COPY that has called it comes last.
            _ if self.context && line.starts_with("COPY ") => self.kept.extend(place_in_copy(line)),
            // A value may have several lines, and so may the server's message that quotes it.
            _ if self.servers => {}
            _ => self.kept.push(of_line(line.trim()).0),
        }
    }

    fn context(&mut self, place: &str) {
        self.kept.extend(place_in_copy(place));
        // What a function raises is its own text.
        let raised = place.starts_with("PL/") && (place.ends_with(" at RAISE") || !place.starts_with("PL/pgSQL"));
        if let Some(message) = self.message.take().filter(|_| raised)
            && let Some(told) = self.kept.get_mut(message)
        {
            let before = told.split("ERROR:").next().unwrap_or_default();
            *told = format!("{before}ERROR: {RAISED}");
        }
    }
}

/// Where in a COPY something is: `COPY t, line 1: "…"`, `COPY t, line 1, column a: "…"`.
fn place_in_copy(context: &str) -> Option<String> {
    let (_, line) = context.strip_prefix("COPY ")?.rsplit_once(", line ")?;
    line.starts_with(|c: char| c.is_ascii_digit()).then_some(())?;
    let place = context.split(": \"").next().unwrap_or_default();
    let place = place.split(": null").next().unwrap_or_default();
    Some(format!("in {}", one_line(place)))
}

/// The statement that a line of a program's quotes.
fn statement_in(text: &str) -> Option<&str> {
    ["Command was: ", "The command was: ", "Query was: ", "query was: "].iter().find_map(|mark| text.strip_prefix(mark))
}

/// A line without values, and whether it is the server's. A program gives no SQLSTATE: what is quoted stays only where the
/// words before it say that it is the name of an object.
fn of_line(line: &str) -> (String, bool) {
    // libpq writes the server's severity, a colon and two spaces (`pqBuildErrorMessage3`). What it says itself has no such
    // thing.
    let Some((before, message)) = line.split_once(":  ") else { return (one_line(line), false) };
    let severity = before.rsplit(": ").next().unwrap_or_default();
    if severity.is_empty() || !severity.chars().all(|c| c.is_alphabetic() && !c.is_lowercase()) {
        return (one_line(line), false);
    }
    let told = match severity {
        "ERROR" | "FATAL" | "PANIC" => without_values_by_words(message),
        // What a function wrote, or the server in another language, where other words stand before names.
        _ => "…".to_owned(),
    };
    (one_line(&format!("{before}: {told}")), true)
}

/// The server's message without what is quoted and not the name of an object.
fn without_values_by_words(message: &str) -> String {
    let mut shown = String::new();
    let mut rest = message;
    while let Some((words, quoted)) = rest.split_once('"') {
        let named = words.trim_end().rsplit(' ').next().unwrap_or_default();
        shown.push_str(words);
        // Values may hold quotes: nothing after the first of them is certain to be outside.
        let Some((name, after)) = quoted.split_once('"').filter(|_| OBJECTS.contains(&named)) else {
            shown.push_str(GONE);
            return shown;
        };
        shown.push_str(&format!("\"{name}\""));
        rest = after;
    }
    shown.push_str(rest);
    shown
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
            "could not execute query: ERROR: role",
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
    fn a_value_of_several_lines_and_what_a_function_raises_go_too() {
        let said = "pg_restore: error: COPY failed for table \"t\": ERROR:  invalid input syntax for type json: \"{
hunter2
Zeile: hunter2\"
DETAIL:  Token \"hunter2\" is invalid.
pg_restore: error: could not execute query: ERROR:  no hunter2 here
CONTEXT:  PL/pgSQL function public.f(text) line 3 at RAISE
COPY v, line 4: \"hunter2: \"
COPY hunter2
pg_restore: error: COPY failed for table \"u\": FEHLER:  ungültige Eingabesyntax für Typ integer: »hunter2«
pg_restore: WARNING:  hunter2
pg_restore: warning: errors ignored on restore: 1
";
        let shown = words(said, "pg_restore");
        assert!(!shown.contains("hunter2"), "{shown}");
        for kept in [
            "in COPY v, line 4",
            "WARNING: …",
            "table \"t\": ERROR: invalid input",
            "a function raised",
            "table \"u\": FEHLER: …",
            "ignored on restore: 1",
        ] {
            assert!(shown.contains(kept), "{kept}: {shown}");
        }
        let noise = "hunter2 warning: hunter2\npg_restore: warning: errors ignored on restore: 1\n";
        assert_eq!(warnings(noise, "pg_restore").collect::<Vec<_>>(), ["errors ignored on restore: 1"]);
    }

    #[test]
    fn what_became_of_the_connection_is_said() {
        for said in [
            "pg_dump: error: Dumping the contents of table \"t\" failed: PQgetCopyData() failed.
pg_dump: detail: Error message from server: server closed the connection unexpectedly
\tThis probably means the server terminated abnormally
\tbefore or while processing the request.
pg_dump: detail: Command was: COPY public.t (hunter2) TO stdout;
",
            "pg_dump: error: Dumping the contents of table \"t\" failed: PQgetCopyData() failed.
pg_dump: error: Error message from server: server closed the connection unexpectedly
pg_dump: error: The command was: COPY public.t (hunter2) TO stdout;
",
        ] {
            let shown = words(said, "pg_dump");
            assert!(
                shown.contains("server closed the connection unexpectedly") && shown.ends_with("in COPY"),
                "{shown}"
            );
            assert!(!shown.contains("hunter2"), "{shown}");
        }
        for line in [
            "connection to server at \"db\" (10.0.0.1), port 5432 failed: Connection refused",
            "error: connection to server at \"db\" (10.0.0.1), port 5432 failed: FATAL:  role \"x\" does not exist",
            "detail: Error message from server: FATAL:  terminating connection due to administrator command",
            "detail: server version: 17.2; pg_dump version: 15.18",
        ] {
            assert_eq!(words(&format!("pg_dump: {line}\n"), "pg_dump"), line.replace(":  ", ": "));
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
