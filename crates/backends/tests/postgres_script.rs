//! Plain SQL from a bucket, restored and tested on a real server: it does only what a dump may do.
#![cfg(feature = "postgres")]
#![allow(clippy::unwrap_used, missing_docs)]

mod postgres;

use lifeboat_backends::postgres::{PostgresVerifier, RestoreOptions};
use lifeboat_core::{ErrorKind, Verifier};
use lifeboat_testkit::postgres::Database;
use postgres::{passed, replacing, restore, restore_as, rows, said, stock, test, with_rows};

const END: &str = "\n--\n-- PostgreSQL database dump complete\n--\n";

fn default() -> RestoreOptions {
    RestoreOptions::default()
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_that_pg_dump_writes_as_plain_sql_comes_back() {
    let live = Database::fresh();
    live.run(
        "CREATE SCHEMA \"S;\"; CREATE TABLE \"S;\".\"T\\\" (id int PRIMARY KEY, \"a;b\" text, bin bytea);
         INSERT INTO \"S;\".\"T\\\" SELECT i, E'x;\\n\\\\.\\t''' || i, decode('00ff5c', 'hex') FROM generate_series(1, 3000) i;
         CREATE FUNCTION f(int) RETURNS int LANGUAGE sql BEGIN ATOMIC SELECT CASE WHEN $1 > 0 THEN 1 END; SELECT 2; END;
         CREATE FUNCTION g() RETURNS text LANGUAGE plpgsql AS $$ BEGIN RETURN 'a;$b$'; END $$;
         CREATE TABLE log (x text); CREATE RULE r AS ON DELETE TO \"S;\".\"T\\\" DO (INSERT INTO log VALUES ('a;'); INSERT INTO log VALUES ('b'));
         CREATE VIEW v AS SELECT count(*) FROM \"S;\".\"T\\\"; CREATE MATERIALIZED VIEW m AS SELECT * FROM v;
         COMMENT ON TABLE log IS E'it''s\\n\\\\! not a command;';
         SELECT lo_from_bytea(0, repeat('x', 50000)::bytea);",
    );
    for arguments in [&[][..], &["--inserts"], &["--create"], &["--clean", "--if-exists"]] {
        let dump = stock("pg_dump", &live.url, arguments);
        for existing in [false, true] {
            let into = if existing { Database::fresh() } else { Database::reserved() };
            restore(&into.url, &dump, default()).await.unwrap_or_else(|e| panic!("{arguments:?}: {e:?}"));
            assert_eq!(into.schema().replace(&into.name, ""), live.schema().replace(&live.name, ""), "{arguments:?}");
            let content = "SELECT md5(string_agg(t::text, '' ORDER BY id)) FROM \"S;\".\"T\\\" t; SELECT md5(lo_get(oid)) FROM pg_largeobject_metadata";
            assert_eq!(into.run(content), live.run(content), "{arguments:?}");
        }
        let checks = test("sql", &dump).await;
        assert!(
            passed(&checks) && said(&checks).contains("(3002 rows)") || said(&checks).contains("(3000 rows)"),
            "{}",
            said(&checks)
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_sql_is_read_however_it_begins_and_ends_its_lines() {
    let table = "CREATE TABLE public.t (id int, x text);\nCOPY public.t (id, x) FROM stdin;\n1\t\u{1}a\n2\tb\n\\.\n";
    for (what, text) in [
        ("CREATE", format!("{table}{END}")),
        ("comment", format!("/* made by /* hand */ */ -- so\n{table}{END}")),
        ("BOM", format!("\u{feff}-- first\n{table}{END}")),
        ("CRLF", format!("-- first\n{table}{END}").replace('\n', "\r\n")),
        ("BOM and CRLF", format!("\u{feff}{table}{END}").replace('\n', "\r\n")),
    ] {
        let name = "a-20261121-033000.sql".parse().unwrap();
        let mut tap = PostgresVerifier::default().tap(&name).unwrap();
        for chunk in text.as_bytes().chunks(37) {
            tap.push(chunk).unwrap();
        }
        assert_eq!(tap.finish().unwrap().total_count(), 2, "{what}");
        let into = Database::reserved();
        restore(&into.url, text.as_bytes(), default()).await.unwrap_or_else(|e| panic!("{what}: {e:?}"));
        assert_eq!(into.run("SELECT sum(length(x)) FROM public.t").trim(), "3", "{what}");
    }
    // What it is else is named.
    let into = Database::reserved();
    let error = restore(&into.url, b"\xFD7zXZ\0\0\x04", default()).await.unwrap_err();
    assert!(error.message().contains("xz") && error.advice().unwrap().contains("xz -d"), "{error:?}");
    let tar = stock("pg_dump", &with_rows(3).url, &["-Ft"]);
    let error = restore_as("dump", &into.url, &tar, default()).await.unwrap_err();
    assert!(error.message().contains("tar format"), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_line_for_psql_runs_anything() {
    let into = with_rows(10);
    let folder = tempfile::tempdir().unwrap();
    let mark = folder.path().join("ran");
    std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    let path = mark.display();
    for (command, name) in [
        (format!("\\! touch {path}"), "\\!"),
        (format!("\\copy t from program 'touch {path}'"), "\\copy"),
        (format!("\\o |touch {path}"), "\\o"),
        (format!("SELECT 1 \\g |touch {path}"), "\\g"),
        (format!("\\set x `touch {path}`"), "\\set"),
        (format!("SELECT '\\! touch {path}' \\gexec"), "\\gexec"),
        (format!("COPY t FROM PROGRAM 'touch {path}';"), "COPY … PROGRAM"),
        (format!("COPY t TO '{path}';"), "COPY … TO a file"),
    ] {
        let dump = format!("CREATE TABLE public.t (id int, x text);\n{command}\n{END}");
        let error = restore(&into.url, dump.as_bytes(), replacing()).await.unwrap_err();
        assert!(error.message().contains(&format!("line 2 has {name}")), "{error:?}");
        let checks = test("sql", dump.as_bytes()).await;
        assert!(!passed(&checks) && said(&checks).contains(&format!("line 2 has {name}")), "{}", said(&checks));
        assert!(!mark.exists(), "{command}");
    }
    assert_eq!(rows(&into), "10");
}

/// The server takes several statements in one message: what the reader took for one must be one.
#[tokio::test(flavor = "multi_thread")]
async fn what_looks_like_one_statement_is_one_for_the_server_too() {
    let into = Database::reserved();
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    let mark = folder.path().join("ran");
    for hidden in [
        // The word begin makes it look like the body of a function.
        format!(
            "CREATE FUNCTION f() RETURNS begin LANGUAGE sql AS 'x'; COPY t FROM PROGRAM 'touch {}'; end;",
            mark.display()
        ),
        // The setting is not what the dump said last.
        format!(
            "SELECT pg_catalog.set_config('standard_conforming_strings', 'off', false);\nSELECT '\\'; COPY t FROM PROGRAM 'touch {}' --';",
            mark.display()
        ),
        format!("CREATE RULE r AS ON INSERT TO t DO (SELECT 1; COPY t FROM PROGRAM 'touch {}');", mark.display()),
    ] {
        let dump = format!(
            "CREATE TABLE public.t (x text);\nCREATE TYPE public.begin AS (a int);\nSET search_path = public;\n{hidden}\n{END}"
        );
        restore(&into.url, dump.as_bytes(), default()).await.unwrap_err();
        assert!(!passed(&test("sql", dump.as_bytes()).await));
        assert!(!mark.exists(), "{hidden}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dump_that_was_cut_replaces_nothing() {
    let live = with_rows(2000);
    let dump = stock("pg_dump", &live.url, &[]);
    let (full, empty) = (with_rows(2000), Database::fresh());
    let last = dump.len() - 40;
    for cut in [1, dump.len() / 3, dump.len() / 2, last] {
        let error = restore(&full.url, &dump[..cut], replacing()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{cut}: {error:?}");
        assert_eq!(rows(&full), "2000");
        restore(&empty.url, &dump[..cut], default()).await.unwrap_err();
        // Somebody is in it: it is filled in place, in one transaction.
        let url = empty.url.clone();
        let session = std::thread::spawn(move || lifeboat_testkit::postgres::psql(&url, "SELECT pg_sleep(0.7)"));
        std::thread::sleep(std::time::Duration::from_millis(200));
        restore(&empty.url, &dump[..cut], default()).await.unwrap_err();
        session.join().unwrap();
        let tables = empty.run("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'");
        assert_eq!(tables.trim(), "0");
        let checks = test("sql", &dump[..cut]).await;
        assert!(!passed(&checks), "{cut}: {}", said(&checks));
    }
    restore(&full.url, &dump, replacing()).await.unwrap();
    assert_eq!(rows(&full), "2000");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connect_leads_into_no_other_database() {
    let (live, into) = (with_rows(10), with_rows(3));
    let dump = format!("\\connect {}\nDROP TABLE public.t;\n{END}", live.name);
    let error = restore(&into.url, dump.as_bytes(), replacing()).await.unwrap_err();
    assert!(error.message().contains("line 1 has \\connect"), "{error:?}");
    assert!(!passed(&test("sql", dump.as_bytes()).await));
    assert_eq!((rows(&live).as_str(), rows(&into).as_str()), ("10", "3"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dump_with_create_goes_into_the_database_that_was_named() {
    let live = with_rows(10);
    live.run(&format!(
        "ALTER DATABASE {0} SET work_mem = '5MB'; COMMENT ON DATABASE {0} IS 'live'; REVOKE CONNECT ON DATABASE {0} FROM PUBLIC",
        live.name
    ));
    let dump = stock("pg_dump", &live.url, &["--create", "--clean"]);
    live.run(&format!("INSERT INTO public.t VALUES (11); COMMENT ON DATABASE {} IS 'new'", live.name));
    let into = Database::reserved();
    let checks = restore(&into.url, &dump, default()).await.unwrap();
    let said_of_it = said(&checks);
    assert!(said_of_it.contains("CREATE DATABASE") && said_of_it.contains(&live.name), "{said_of_it}");
    assert_eq!((rows(&into).as_str(), rows(&live).as_str()), ("10", "11"));
    let comment =
        format!("SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = '{}'", live.name);
    assert_eq!(live.run(&comment).trim(), "new");
    let checks = test("sql", &dump).await;
    assert!(passed(&checks) && said(&checks).contains("(10 rows)"), "{}", said(&checks));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dump_of_a_database_changes_nothing_of_the_server() {
    let into = Database::reserved();
    let role = format!("{}_evil", into.name);
    let dump = format!("CREATE TABLE public.t (x text);\nCREATE ROLE {role} SUPERUSER;\n{END}");
    let error = restore(&into.url, dump.as_bytes(), default()).await.unwrap_err();
    assert!(error.message().contains("line 2 has CREATE ROLE"), "{error:?}");
    let other = Database::fresh();
    assert_eq!(other.run(&format!("SELECT count(*) FROM pg_roles WHERE rolname = '{role}'")).trim(), "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn roles_that_were_cut_are_not_made() {
    let live = Database::fresh();
    let role = format!("{}_r", live.name);
    let dump = format!("CREATE ROLE {role};\nALTER ROLE {role} WITH LOGIN;\n");
    let end = "--\n-- PostgreSQL database cluster dump complete\n--\n";
    let there = || live.run(&format!("SELECT count(*) FROM pg_roles WHERE rolname = '{role}'")).trim().to_owned();
    for bad in [
        dump.clone(),
        format!("{dump}\\! id\n{end}"),
        format!("{dump}CREATE TABLE x (y int);\n{end}"),
        format!("{dump}\\connect shop\n{end}"),
    ] {
        let error = restore_as("globals.sql", &live.url, bad.as_bytes(), default()).await.unwrap_err();
        assert_eq!((error.kind(), &*there()), (ErrorKind::Corrupt, "0"), "{bad}: {error}");
        assert!(!passed(&test("globals.sql", bad.as_bytes()).await), "{bad}");
    }
    let good = format!("{dump}{end}");
    assert!(passed(&test("globals.sql", good.as_bytes()).await));
    restore_as("globals.sql", &live.url, good.as_bytes(), default()).await.unwrap();
    assert_eq!(there(), "1");
    live.run(&format!("DROP ROLE {role}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn dumps_in_other_encodings_come_back() {
    let shared = std::env::var("LIFEBOAT_TEST_PG_URL").unwrap();
    for encoding in ["LATIN1", "SQL_ASCII"] {
        let (live, into) = (Database::reserved(), Database::reserved());
        let create = format!(
            "CREATE DATABASE {} TEMPLATE template0 ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C'",
            live.name
        );
        lifeboat_testkit::postgres::psql(&shared, &create);
        live.run("CREATE TABLE public.\"Zäh;ler\" (\"grün\" text DEFAULT 'ö'); INSERT INTO public.\"Zäh;ler\" VALUES ('süß')");
        let dump = stock("pg_dump", &live.url, &[]);
        restore(&into.url, &dump, default()).await.unwrap_or_else(|e| panic!("{encoding}: {e:?}"));
        let content = "SELECT * FROM public.\"Zäh;ler\"; SHOW server_encoding";
        assert_eq!(into.run(content), live.run(content));
        let checks = test("sql", &dump).await;
        if encoding == "LATIN1" {
            assert!(passed(&checks) && said(&checks).contains("(1 row)"), "{}", said(&checks));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_server_says_of_a_dump_holds_no_value_of_it() {
    let into = Database::reserved();
    for (dump, shown) in [
        ("CREATE TABLE public.t (a int);\nCOPY public.t (a) FROM stdin;\n1\nhunter2\n\\.\n", "line 2, COPY"),
        ("CREATE TABLE public.t (a int);\nINSERT INTO public.t VALUES ('hunter2');\n", "line 2, INSERT INTO"),
        ("CREATE TABLE public.t (a text UNIQUE);\nCOPY public.t (a) FROM stdin;\nhunter2\nhunter2\n\\.\n", "t_a_key"),
        ("CREATE USER MAPPING FOR postgres SERVER s OPTIONS (password 'hunter2');\n", "CREATE USER MAPPING"),
        ("DO $$ BEGIN RAISE 'hunter2'; END $$;\n", "P0001"),
    ] {
        let dump = format!("{dump}{END}");
        let error = restore(&into.url, dump.as_bytes(), default()).await.unwrap_err();
        let chain = format!("{error} {error:?} {:?}", error.advice());
        assert!(chain.contains(shown) && !chain.contains("hunter2"), "{chain}");
        let checks = test("sql", dump.as_bytes()).await;
        assert!(!said(&checks).contains("hunter2"), "{}", said(&checks));
    }
}

/// What a superuser of the scratch server can do reaches nothing of ours.
#[tokio::test(flavor = "multi_thread")]
async fn code_in_a_dump_that_is_tested_has_no_network_no_environment_and_no_rights() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let open = tempfile::tempdir().unwrap();
    std::fs::set_permissions(open.path(), std::os::unix::fs::PermissionsExt::from_mode(0o1777)).unwrap();
    let mark = open.path().join("ran");
    let script = format!(
        "(id -u; env; (exec 3<>/dev/tcp/127.0.0.1/{port}) 2>/dev/null && echo connected; cat /etc/shadow 2>/dev/null; true) > {}",
        mark.display()
    );
    let dump = format!("DO $do$ BEGIN COPY (SELECT 1) TO PROGRAM $sh$ bash -c '{script}' $sh$; END $do$;\n{END}");
    let archive = Database::fresh();
    archive.run(&format!(
        "CREATE FUNCTION public.run() RETURNS int LANGUAGE plpgsql AS $f$ BEGIN COPY (SELECT 1) TO PROGRAM $sh$ bash -c '{script}' $sh$; RETURN 1; END $f$;
         CREATE TABLE public.c (x int CHECK (public.run() = 1)); INSERT INTO public.c VALUES (1)"
    ));
    std::fs::remove_file(&mark).unwrap();
    for (format, dump) in [("sql", dump.into_bytes()), ("dump", stock("pg_dump", &archive.url, &["-Fc"]))] {
        let checks = test(format, &dump).await;
        let seen = std::fs::read_to_string(&mark).unwrap_or_else(|e| panic!("{format}, {e}: {}", said(&checks)));
        std::fs::remove_file(&mark).unwrap();
        assert!(!seen.contains("connected"), "{seen}");
        assert!(!seen.contains("root:") && !seen.starts_with("0\n"), "{seen}");
        for (name, _) in std::env::vars().filter(|(n, _)| n.starts_with("CARGO") || n.starts_with("LIFEBOAT")) {
            // The folder of the scratch server itself is told to it.
            assert!(name == "LIFEBOAT_SCRATCH" || !seen.contains(&format!("{name}=")), "{name} in {seen}");
        }
        // Nothing of ours is left that a program may have found by name.
        assert!(!seen.contains("LIFEBOAT_TEST_PG_URL"), "{seen}");
    }
}
