use bytes::Bytes;
use lifeboat_core::{ErrorKind, Result};
use proptest::prelude::*;

use super::{Event, Keep, Reader, Statement, Whole};

const END: &str = "--\n-- PostgreSQL database dump complete\n--\n";

/// What a text is cut into, chunk by chunk, and how it ends. Neighbouring rows are joined.
fn read(text: &[u8], size: usize) -> Result<(Vec<Event>, Whole)> {
    let mut reader = Reader::new(Keep::All);
    let mut events: Vec<Event> = Vec::new();
    for chunk in text.chunks(size.max(1)) {
        reader.push(&Bytes::copy_from_slice(chunk), &mut |event| match (events.last_mut(), event) {
            (Some(Event::Rows(rows)), Event::Rows(more)) => *rows = [&rows[..], &more[..]].concat().into(),
            (_, event) => events.push(event),
        })?;
    }
    let whole = reader.finish()?;
    Ok((events, whole))
}

/// The statements of a text, the same however it is cut.
#[track_caller]
fn statements(text: &str) -> Vec<String> {
    let text = format!("{text}\n{END}");
    let whole = read(text.as_bytes(), usize::MAX).unwrap().0;
    for size in [1, 2, 3, 7] {
        assert_eq!(read(text.as_bytes(), size).unwrap().0, whole, "in chunks of {size}");
    }
    let text = |event: &Event| match event {
        Event::Statement { sql, .. } | Event::Copy { sql, .. } => Some(String::from_utf8(sql.to_vec()).unwrap()),
        _ => None,
    };
    whole.iter().filter_map(text).collect()
}

#[track_caller]
fn refused(text: &str, what: &str, line: u64) {
    let text = format!("{text}\n{END}");
    for size in [1, 3, usize::MAX] {
        let error = read(text.as_bytes(), size).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
        assert!(error.message().starts_with(&format!("line {line} has {what}:")), "{text}: {error}");
    }
}

#[test]
fn statements_end_at_semicolons_outside_of_everything_that_quotes() {
    for (text, parts) in [
        ("a; b ;;\nc;", &["a", "b ", "c"][..]),
        ("SELECT ';''; ';x;", &["SELECT ';''; '", "x"]),
        ("SELECT \"a;\"\"b;\";x;", &["SELECT \"a;\"\"b;\"", "x"]),
        ("SELECT E'\\';';x;", &["SELECT E'\\';'", "x"]),
        // Not an E-string: the name only ends in e.
        ("SELECT typE'\\';x;", &["SELECT typE'\\'", "x"]),
        ("SELECT '\\';x;", &["SELECT '\\'", "x"]),
        ("DO $$ a; $b$ ; $$;x;", &["DO $$ a; $b$ ; $$", "x"]),
        ("DO $x$ a; $$ $y$ $x $x$;y;", &["DO $x$ a; $$ $y$ $x $x$", "y"]),
        ("DO $x$$a$x$;y;", &["DO $x$$a$x$", "y"]),
        // A dollar in a name begins no quote, nor does one before a digit.
        ("SELECT a$x$;b$x$;", &["SELECT a$x$", "b$x$"]),
        ("SELECT $1;$2;", &["SELECT $1", "$2"]),
        ("SELECT 1$x$;$x$;y;", &["SELECT 1$x$;$x$", "y"]),
        ("/* a; /* b; */ ; */ SELECT 1 /* ; */;x;", &["SELECT 1 /* ; */", "x"]),
        ("/*/ ; */x;", &["x"]),
        ("-- a;\nSELECT 1 -- b;\n;x;", &["SELECT 1 -- b;\n", "x"]),
        ("SELECT 1 - 2 / 3;--x;\ny;", &["SELECT 1 - 2 / 3", "y"]),
        ("CREATE RULE r AS ON INSERT TO t DO (a; b);x;", &["CREATE RULE r AS ON INSERT TO t DO (a; b)", "x"]),
        ("SELECT ')';x;", &["SELECT ')'", "x"]),
        // Literals that go on after a line's end keep what a backslash means.
        ("SELECT E'a'\n '\\';';x;", &["SELECT E'a'\n '\\';'", "x"]),
        ("SELECT E'a' -- c\n '\\';';x;", &["SELECT E'a' -- c\n '\\';'", "x"]),
        ("SELECT E'a' '\\';x;", &["SELECT E'a' '\\'", "x"]),
        ("SELECT b'1'\n'\\';x;", &["SELECT b'1'\n'\\'", "x"]),
        ("SELECT E'a''\\';';x;", &["SELECT E'a''\\';'", "x"]),
        ("\u{feff}SELECT 1;", &["SELECT 1"]),
        ("SELECT 'ü;', \"ß;\";x;", &["SELECT 'ü;', \"ß;\"", "x"]),
    ] {
        assert_eq!(statements(text), parts, "{text}");
    }
}

#[test]
fn the_body_of_an_sql_function_is_one_statement() {
    let function = "CREATE OR REPLACE FUNCTION f(a int) RETURNS int LANGUAGE sql BEGIN ATOMIC SELECT CASE WHEN a > 0 THEN 1 END; SELECT 2; END";
    assert_eq!(statements(&format!("{function};x;")), [function, "x"]);
    assert_eq!(statements("BEGIN;SELECT 1;END;"), ["BEGIN", "SELECT 1", "END"]);
    assert_eq!(statements("CREATE TABLE t (c text DEFAULT 'begin');x;").len(), 2);
}

#[test]
fn a_backslash_escapes_in_plain_literals_once_the_dump_says_so() {
    let off = "SET standard_conforming_strings = off;SELECT '\\';';x;";
    assert_eq!(statements(off)[1..], ["SELECT '\\';'", "x"]);
    let on = "SET standard_conforming_strings = off;SET standard_conforming_strings = on;SELECT '\\';x;";
    assert_eq!(statements(on)[2..], ["SELECT '\\'", "x"]);
}

#[test]
fn rows_go_up_to_their_end_and_are_not_looked_into() {
    let rows = "1\t\\N\n\\\\.\n\\.x\n;'$$/*\n\n\\\n\\..\n-- PostgreSQL database dump complete\n";
    let text = format!("COPY public.\"T;\" (a, \"b)\") FROM stdin;\n{rows}\\.\n\nx;\nCOPY e FROM stdin;\n\\.\n{END}");
    for size in 1..text.len() {
        let (events, whole) = read(text.as_bytes(), size).unwrap();
        assert_eq!(whole, Whole::Database);
        let [
            Event::Copy { sql, line: 1, .. },
            Event::Rows(found),
            Event::CopyEnd,
            Event::Statement { line: 12, .. },
            Event::Copy { .. },
            Event::CopyEnd,
        ] = &events[..]
        else {
            panic!("{events:?}")
        };
        assert_eq!(&sql[..], b"COPY public.\"T;\" (a, \"b)\") FROM stdin");
        assert_eq!(String::from_utf8_lossy(found), rows);
    }
}

#[test]
fn lines_that_end_like_those_of_windows_are_read() {
    let text = "SET a = b;\r\nCOPY t FROM stdin;\r\n1\r\n\\.\r\n--\r\n-- PostgreSQL database dump complete\r\n--\r\n";
    let (events, _) = read(text.as_bytes(), 1).unwrap();
    assert!(matches!(&events[2], Event::Rows(rows) if &**rows == b"1\r\n"), "{events:?}");
}

#[test]
fn what_psql_would_carry_out_is_refused_by_name_and_line() {
    for (command, name) in [
        ("\\! touch /tmp/x", "\\!"),
        ("\\!touch /tmp/x", "\\!"),
        ("\\copy t from program 'id'", "\\copy"),
        ("\\i /etc/passwd", "\\i"),
        ("\\ir x", "\\ir"),
        ("\\include x", "\\include"),
        ("\\o |sh", "\\o"),
        ("\\g |sh", "\\g"),
        ("\\gexec", "\\gexec"),
        ("\\w |sh", "\\w"),
        ("\\set x `id`", "\\set"),
        ("\\setenv PAGER sh", "\\setenv"),
        ("\\lo_import /etc/passwd", "\\lo_import"),
        ("\\restrict `id`", "\\restrict"),
        ("\\restrict a\\! id", "\\restrict"),
        ("\\unrestrict other", "\\unrestrict"),
        ("\\connect `id`", "\\connect"),
        ("\\.", "\\."),
        ("\\\\", "\\\\"),
        ("\\", "a backslash"),
    ] {
        refused(&format!("SET a = b;\n{command}"), name, 2);
        refused(&format!("SET a = b; -- c\n  {command}"), name, 2);
    }
    // Also where a statement has begun: psql looks for its own lines there too.
    refused("SELECT 1\n\\gexec", "\\gexec", 2);
    refused("SELECT 1 \\g |sh", "\\g", 1);
    // In rows and literals it is data.
    assert_eq!(statements("COPY t FROM stdin;\n\\! x\n\\.\nSELECT '\\! x', $$\n\\! x\n$$;").len(), 2);
}

#[test]
fn files_and_programs_in_a_copy_are_refused_by_name_and_line() {
    for (copy, name) in [
        ("COPY t FROM PROGRAM 'id'", "COPY … PROGRAM"),
        ("copy public.t (a, b) from /* x */ program $$id$$", "COPY … PROGRAM"),
        ("COPY t TO PROGRAM 'cat > x'", "COPY … PROGRAM"),
        ("COPY (SELECT ')', 'FROM stdin') TO PROGRAM 'x'", "COPY … PROGRAM"),
        ("COPY t FROM '/etc/passwd'", "COPY … FROM a file"),
        ("COPY t TO '/tmp/x'", "COPY … TO a file"),
        ("COPY t FROM E'/etc/passwd'", "COPY"),
        ("COPY t TO STDOUT", "COPY … TO STDOUT"),
        ("COPY BINARY t FROM stdin", "COPY"),
        ("COPY t FROM stdin BINARY", "COPY in binary form"),
        // A literal before it: the server might take it otherwise.
        ("COPY t '\\' FROM stdin", "COPY"),
        ("ROLLBACK", "ROLLBACK"),
        ("PREPARE TRANSACTION 'x'", "PREPARE TRANSACTION"),
        ("ALTER SYSTEM SET archive_command = 'id'", "ALTER SYSTEM"),
    ] {
        refused(&format!("-- c\n\n{copy};"), name, 3);
    }
}

#[test]
fn the_lines_that_pg_dump_writes_for_psql_are_known() {
    let text = format!(
        "\\restrict k3Y\nSET a = b;\n\\unrestrict k3Y\n\\connect shop\n\\restrict k3Y\nx;\n{END}\\unrestrict k3Y\n"
    );
    for size in [1, 5, usize::MAX] {
        let (events, _) = read(text.as_bytes(), size).unwrap();
        let expected = Event::Connect { database: Some("shop".to_owned()), line: 4 };
        assert_eq!(events[1], expected);
        // The last line may lack its end.
        read(text.trim_end().as_bytes(), size).unwrap();
    }
    for (argument, database) in [
        ("shop", Some("shop")),
        ("\"My \"\"db\"", Some("My \"db")),
        ("-reuse-previous=on \"dbname='a b'\"", Some("a b")),
        ("-reuse-previous=on \"dbname='a\\'b\\\\'\"", Some("a'b\\")),
        ("-reuse-previous=on \"dbname=x host=evil\"", Some("x host=evil")),
        ("shop evil", None),
        ("\"a\" b \"c\"", None),
    ] {
        let (events, _) = read(format!("\\connect {argument}\n{END}").as_bytes(), 4).unwrap();
        assert_eq!(events[0], Event::Connect { database: database.map(str::to_owned), line: 1 }, "{argument}");
    }
}

#[test]
fn a_dump_that_was_cut_anywhere_is_not_whole() {
    let text = format!(
        "\\restrict k\nSET a = 'b';\nCREATE FUNCTION f() AS $$ x; $$;\nCOPY t FROM stdin;\n1\n2\n\\.\n/* c */ x;\n\n{END}\n\\unrestrict k\n"
    );
    assert_eq!(read(text.as_bytes(), 9).unwrap().1, Whole::Database);
    let last = text.trim_end().len();
    for cut in 0..last {
        for size in [1, usize::MAX] {
            let error = read(&text.as_bytes()[..cut], size).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt, "cut at {cut}: {error}");
        }
    }
    // The end that stands in a literal, in rows or before more of it is none.
    for text in [
        "SELECT '\n-- PostgreSQL database dump complete\n';\n",
        "COPY t FROM stdin;\n-- PostgreSQL database dump complete\n\\.\n",
        "-- PostgreSQL database dump complete\nSELECT 1;\n",
        "/*\n-- PostgreSQL database dump complete\n*/\n",
        "SELECT 1 -- PostgreSQL database dump complete\n;",
    ] {
        read(text.as_bytes(), 5).unwrap_err();
    }
    assert_eq!(read(b"-- PostgreSQL database cluster dump complete", 3).unwrap().1, Whole::Cluster);
}

#[test]
fn what_is_about_more_than_the_content_is_told_apart() {
    let kind = |sql: &str| match &read(format!("{sql};\n{END}").as_bytes(), usize::MAX).unwrap().0[..] {
        [Event::Statement { kind, .. }] => kind.clone(),
        other => panic!("{sql}: {other:?}"),
    };
    let database = |what, name: Option<&str>| Statement::Database { what, name: name.map(|n| n.as_bytes().to_vec()) };
    assert_eq!(kind("CREATE DATABASE \"My \"\"db\" WITH TEMPLATE = x"), database("CREATE DATABASE", Some("My \"db")));
    assert_eq!(kind("DROP DATABASE IF EXISTS shop"), database("DROP DATABASE", Some("shop")));
    assert_eq!(kind("/* x */ alter /**/ database Shop SET a = b"), database("ALTER DATABASE", Some("shop")));
    assert_eq!(kind("GRANT ALL ON DATABASE shop TO x"), database("GRANT or REVOKE ON DATABASE", None));
    assert_eq!(kind("ALTER ROLE x IN DATABASE shop SET a = b"), database("ALTER ROLE … IN DATABASE", None));
    for (sql, what) in [
        ("CREATE ROLE x", "CREATE ROLE"),
        ("CREATE USER x", "CREATE ROLE"),
        ("GRANT a TO b", "GRANT or REVOKE of a role"),
        ("CREATE TABLESPACE t LOCATION '/x'", "CREATE TABLESPACE"),
    ] {
        assert_eq!(kind(sql), Statement::ServerWide(what), "{sql}");
    }
    for sql in [
        "CREATE USER MAPPING FOR x SERVER y",
        "GRANT SELECT (a), UPDATE ON TABLE t TO x",
        "ALTER DEFAULT PRIVILEGES FOR ROLE x GRANT SELECT ON TABLES TO y",
        "SET SESSION AUTHORIZATION x",
    ] {
        assert_eq!(kind(sql), Statement::Other, "{sql}");
    }
    assert_eq!(
        kind("SET SESSION client_encoding TO 'LATIN1'"),
        Statement::Set { name: b"client_encoding".to_vec(), value: Some(b"LATIN1".to_vec()) }
    );
}

#[test]
fn an_encoding_in_which_a_character_can_hold_a_backslash_is_not_guessed_at() {
    let error = read(format!("SET client_encoding = 'SJIS';\n{END}").as_bytes(), 8).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.advice().unwrap().contains("UTF8"));
}

#[test]
fn no_more_is_kept_than_was_asked_for() {
    let mut reader = Reader::new(Keep::Beginning(10));
    let long = Bytes::from(vec![b'x'; 1 << 20]);
    for part in [Bytes::from_static(b"SELECT '"), long.clone(), long, Bytes::from_static(b"';")] {
        reader
            .push(&part, &mut |event| assert!(matches!(event, Event::Statement { sql, .. } if sql.len() == 10)))
            .unwrap();
    }
}

/// What the reader makes of an input of the fuzzer's.
fn prove(text: &[u8], size: usize) -> Result<(Vec<Event>, Whole), ErrorKind> {
    read(text, size).map_err(|e| e.kind())
}

#[test]
fn the_fuzzers_corpus_is_read_however_it_is_cut() {
    assert_eq!(lifeboat_testkit::corpus::replay("script", prove), ["create", "plain", "strings"]);
}

proptest! {
    #[test]
    fn what_is_read_does_not_depend_on_the_cuts(text in "[a-bE;'\"$\\\\.\\-/*(\n]{0,60}", size in 1usize..9) {
        prop_assert_eq!(prove(text.as_bytes(), size), prove(text.as_bytes(), usize::MAX));
    }
}
