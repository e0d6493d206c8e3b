//! Our sessions, and those of the client programs, are the same whatever a role, a database or a server has set for its own.
#![cfg(feature = "postgres")]
#![allow(clippy::unwrap_used, missing_docs)]

mod postgres;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use lifeboat_backends::postgres::{
    Postgres, PostgresSettings, PostgresTarget, PostgresVerifier, RestoreOptions, VerifierOptions,
};
use lifeboat_core::{Context, ErrorKind, Source, Target, Verifier};
use lifeboat_testkit::postgres::{Database, psql, with_database};
use postgres::{backup, backup_with, connection, passed, proven, replacing, restore_as, said, stock, test, tls};

/// What a server says before it says nothing more.
#[derive(Clone, Copy, Debug)]
enum Silent {
    AtOnce,
    /// After it has agreed to TLS.
    BeforeTls,
    /// After it has let the user in.
    BeforeReady,
    /// After it has said that it is ready.
    BeforeTheFirstAnswer,
}

/// A server that accepts, and falls silent.
fn silent(after: Silent) -> u16 {
    use std::io::{Read, Write};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let mut kept = Vec::new();
        for client in listener.incoming() {
            let mut client = client.unwrap();
            let answer: &[u8] = match after {
                Silent::AtOnce => b"",
                Silent::BeforeTls => b"S",
                Silent::BeforeReady => b"R\0\0\0\x08\0\0\0\0",
                Silent::BeforeTheFirstAnswer => b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I",
            };
            if !answer.is_empty() {
                let _ = client.read(&mut [0; 1024]).unwrap();
                client.write_all(answer).unwrap();
            }
            kept.push(client);
        }
    });
    port
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_accepts_and_says_nothing_is_left_after_the_limit() {
    let cases = [
        (Silent::AtOnce, &["disable", "prefer", "require"][..]),
        (Silent::BeforeTls, &["prefer", "require"]),
        (Silent::BeforeReady, &["disable"]),
        (Silent::BeforeTheFirstAnswer, &["disable"]),
    ];
    for (after, modes) in cases {
        let port = silent(after);
        for mode in modes {
            let url = format!("postgres://u@127.0.0.1:{port}/d?connect_timeout=1&sslmode={mode}");
            let begun = Instant::now();
            let connected = tokio::time::timeout(Duration::from_secs(20), Postgres::connect(&url)).await;
            let error = connected.expect("it does not hang").unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
            assert!(begun.elapsed() < Duration::from_secs(5), "{after:?} {mode}: {:?}", begun.elapsed());
        }
    }
}

/// The server's URL at another place, with further parameters.
fn at(url: &str, place: &str, parameters: &str) -> String {
    let (user, rest) = url.rsplit_once('@').unwrap();
    let (_, database) = rest.split_once('/').unwrap();
    format!("{user}@{place}/{database}?{parameters}")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_url_says_of_the_way_is_so_for_every_session() {
    let server = tls::server();
    let live = Database::on(&server.url);
    live.run("CREATE TABLE public.t AS SELECT generate_series(1, 100) AS id");
    let port = url::Url::parse(&server.url).unwrap().port().unwrap();
    let proxy = tls::Proxy::start(format!("127.0.0.1:{port}"), server.folder()).await;
    let authority = format!("sslrootcert={}", server.folder().join("ca.pem").display());
    // The server says of each session behind the proxy that it has no TLS; the way to the proxy has.
    for mode in ["prefer", "require", "verify-full"] {
        let url = at(&live.url, &format!("localhost:{}", proxy.port), &format!("sslmode={mode}&{authority}"));
        let (dump, proof) = backup(&url).await.unwrap();
        let target = PostgresTarget::new(connection(&url), replacing());
        let checks = target.restore(proven(&dump, &proof), &Context::default()).await.unwrap();
        assert!(passed(&checks), "{}", said(&checks));
    }
    assert_eq!(proxy.plain.load(Ordering::SeqCst), 0);
    assert!(proxy.encrypted.load(Ordering::SeqCst) > 10);

    // The name of the certificate is asked for unless the URL says verify-ca; the authority always.
    let elsewhere = |rest: &str| at(&live.url, &format!("other.example:{port}"), &format!("hostaddr=127.0.0.1&{rest}"));
    let url = elsewhere(&format!("sslmode=verify-ca&{authority}"));
    let (dump, proof) = backup(&url).await.unwrap();
    let target = PostgresTarget::new(connection(&url), replacing());
    assert!(passed(&target.restore(proven(&dump, &proof), &Context::default()).await.unwrap()));
    for mode in ["prefer", "require", "verify-full"] {
        let error = backup(&elsewhere(&format!("sslmode={mode}&{authority}"))).await.unwrap_err();
        assert!(error.message().contains("another name"), "{mode}: {error:?}");
    }
    let stranger = server.folder().join("stranger.pem");
    let made = std::process::Command::new("openssl")
        .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=ca", "-keyout", "/dev/null", "-out"])
        .arg(&stranger)
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    let error = backup(&elsewhere(&format!("sslmode=verify-ca&sslrootcert={}", stranger.display()))).await.unwrap_err();
    assert!(error.message().contains("cannot be trusted"), "{error:?}");

    // A bound channel ends at the server itself: a proxy in between is found.
    let bound = format!("channel_binding=require&{authority}");
    for place in [format!("127.0.0.1:{port}"), format!("[::1]:{port}"), format!("localhost:{port}")] {
        let parameters = format!("sslmode=require&{bound}");
        backup(&at(&live.url, &place, &parameters)).await.unwrap_or_else(|e| panic!("{place}: {e:?}"));
    }
    let through = at(&live.url, &format!("localhost:{}", proxy.port), &format!("sslmode=require&{bound}"));
    let error = backup(&through).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Permission, "{error:?}");
    assert!(error.advice().unwrap().contains("channel_binding"), "{error:?}");

    // Of several hosts the first that answers and is what was asked for.
    let dead = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let hung = silent(Silent::AtOnce);
    let hosts = format!("127.0.0.1:{dead},127.0.0.1:{hung},127.0.0.1:{port}");
    for wanted in ["any", "read-write", "primary", "prefer-standby"] {
        let parameters = format!("connect_timeout=1&target_session_attrs={wanted}");
        let (dump, _) = backup(&at(&live.url, &hosts, &parameters)).await.unwrap_or_else(|e| panic!("{wanted}: {e:?}"));
        assert!(dump.starts_with(b"PGDMP"));
    }
    let url = at(&live.url, &hosts, "connect_timeout=1&target_session_attrs=standby");
    let error = backup(&url).await.unwrap_err();
    assert!(error.message().contains("it is not a standby") && error.message().contains("no answer"), "{error:?}");
    restore_as("dump", &at(&live.url, &hosts, "connect_timeout=1"), &dump_of(&live), replacing()).await.unwrap();
}

fn dump_of(database: &Database) -> Vec<u8> {
    stock("pg_dump", &database.url, &["-Fc"])
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_of_a_role_and_a_database_change_neither_backup_nor_restore() {
    let (live, into) = (Database::fresh(), Database::reserved());
    let (role, other) = (format!("{}_r", live.name), format!("{}_o", live.name));
    live.run(&format!(
        "CREATE ROLE {role} LOGIN SUPERUSER PASSWORD 'pw'; CREATE ROLE {other};
         CREATE TABLE public.t AS SELECT i AS id, 'grün ' || i AS x FROM generate_series(1, 300000) i;
         CREATE TABLE public.v (b bytea DEFAULT '\\x5c00', f float8 DEFAULT 0.1, i interval DEFAULT '-1 day 2 hours', d timestamptz DEFAULT '2024-02-03 04:05:06+07', a text[] DEFAULT '{{NULL,\"NULL\"}}', x xml DEFAULT '<a/>');
         INSERT INTO public.v DEFAULT VALUES; INSERT INTO public.v (b, f, i) VALUES ('\\xff5c', 1e-300, '1 mon -2 days -03:04:05');
         CREATE VIEW public.w AS SELECT b IS NULL AS n, i FROM public.v WHERE d < '2024-12-31';
         ALTER DATABASE {0} SET client_encoding = 'LATIN1'; ALTER DATABASE {0} SET statement_timeout = '50ms'",
        live.name
    ));
    let hostile = [
        ("statement_timeout", "1ms"),
        ("lock_timeout", "1ms"),
        ("idle_session_timeout", "300ms"),
        ("idle_in_transaction_session_timeout", "50ms"),
        ("default_transaction_read_only", "on"),
        ("default_transaction_isolation", "serializable"),
        ("search_path", "nowhere"),
        ("session_replication_role", "replica"),
        ("row_security", "on"),
        ("bytea_output", "escape"),
        ("datestyle", "SQL, DMY"),
        ("intervalstyle", "sql_standard"),
        ("extra_float_digits", "-15"),
        ("timezone", "Asia/Tokyo"),
        ("xmlbinary", "hex"),
        ("xmloption", "document"),
        ("array_nulls", "off"),
        ("transform_null_equals", "on"),
        ("standard_conforming_strings", "off"),
        ("quote_all_identifiers", "on"),
        ("zero_damaged_pages", "on"),
        ("client_min_messages", "error"),
        ("role", &other),
    ];
    let set: String =
        hostile.iter().map(|(name, value)| format!("ALTER ROLE {role} SET {name} = '{value}';\n")).collect();
    psql(&with_database(&live.url, "postgres"), &set);
    let (_, server) = live.url.split_once('@').unwrap();
    let url = format!("postgres://{role}:pw@{server}");
    let (dump, proof) = backup(&url).await.unwrap();
    assert!(dump.windows(5).any(|w| w == "grün".as_bytes()), "the text is not in the database's encoding");
    // The same values as of a session with nothing set.
    assert!(dump.windows(6).any(|w| w == br"\xff5c"), "bytea is not in hex");
    let checks = PostgresVerifier::new(VerifierOptions::default())
        .restore_test(proven(&dump, &proof), &Context::default())
        .await
        .unwrap();
    assert!(passed(&checks), "{}", said(&checks));
    for (url, options) in [(with_database(&url, &into.name), RestoreOptions::default()), (url.clone(), replacing())] {
        let target = PostgresTarget::new(connection(&url), options);
        let checks = target.restore(proven(&dump, &proof), &Context::default()).await;
        let checks = checks.unwrap_or_else(|e| panic!("{url}: {e:?}"));
        assert!(passed(&checks) && said(&checks).contains("ANALYZE"), "{}", said(&checks));
    }
    let content = "SELECT md5(string_agg(x, ',' ORDER BY id)) FROM public.t; SELECT * FROM public.v ORDER BY f; SELECT pg_get_viewdef('public.w')";
    let reset = "SET statement_timeout = 0; SET client_encoding = 'UTF8';";
    assert_eq!(live.run(&format!("{reset}{content}")), into.run(&format!("{reset}{content}")));
    let maintenance = with_database(&live.url, "postgres");
    psql(
        &maintenance,
        &format!("DROP DATABASE {} WITH (FORCE); DROP DATABASE {} WITH (FORCE)", live.name, into.name)
            .replace("; ", ";\n"),
    );
    psql(&maintenance, &format!("DROP ROLE {role}; DROP ROLE {other}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_setting_that_bends_what_is_read_and_cannot_be_changed_is_an_error() {
    let live = Database::fresh();
    let role = format!("{}_r", live.name);
    live.run(&format!(
        "CREATE ROLE {role} LOGIN CREATEDB PASSWORD 'pw'; GRANT pg_read_all_data TO {role}; CREATE TABLE public.t (id int);
         ALTER ROLE {role} SET zero_damaged_pages = on"
    ));
    let (_, server) = live.url.split_once('@').unwrap();
    let url = format!("postgres://{role}:pw@{server}");
    let error = backup(&url).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Permission, "{error:?}");
    assert!(error.message().contains("zero_damaged_pages"), "{error:?}");
    live.run(&format!("ALTER ROLE {role} RESET ALL; ALTER ROLE {role} SET session_replication_role = replica"));
    let dump = dump_of(&live);
    let into = with_database(&url, &format!("{}_n", live.name));
    let error = restore_as("dump", &into, &dump, RestoreOptions::default()).await.unwrap_err();
    assert!(error.message().contains("session_replication_role"), "{error:?}");
    live.run(&format!("DROP OWNED BY {role}; DROP ROLE {role}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_provider_of_a_locale_is_kept() {
    let live = Database::reserved();
    let maintenance = with_database(&live.url, "postgres");
    psql(
        &maintenance,
        &format!(
            "CREATE DATABASE {} TEMPLATE template0 ENCODING 'UTF8' LOCALE_PROVIDER icu ICU_LOCALE 'de-AT' LC_COLLATE 'C' LC_CTYPE 'C'",
            live.name
        ),
    );
    live.run("CREATE TABLE public.t AS SELECT 'ä' AS x");
    let dump = stock("pg_dump", &live.url, &["-Fc"]);
    restore_as("dump", &live.url, &dump, replacing()).await.unwrap();
    let provider = format!("SELECT datlocprovider, daticulocale FROM pg_database WHERE datname = '{}'", live.name);
    assert_eq!(live.run(&provider).trim(), "i|de-AT");
}

#[tokio::test(flavor = "multi_thread")]
async fn names_in_no_encoding_make_nothing_panic() {
    let live = Database::reserved();
    let maintenance = with_database(&live.url, "postgres");
    psql(
        &maintenance,
        &format!("CREATE DATABASE {} TEMPLATE template0 ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C'", live.name),
    );
    // A byte that is no UTF-8, in a name and in a row.
    live.run(
        "DO $$ BEGIN EXECUTE convert_from('\\x435245415445205441424c45207075626c69632e22e42220287820746578742c2079207465787429', 'SQL_ASCII'); END $$",
    );
    let dump = stock("pg_dump", &live.url, &["-Fc"]);
    let checks = test("dump", &dump).await;
    assert!(passed(&checks) || said(&checks).contains("SQL_ASCII"), "{}", said(&checks));
    let error = restore_as("dump", &live.url, &dump, RestoreOptions::default()).await.unwrap_err();
    // The database is not empty, and what is in it cannot be named.
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error:?}");
}

/// Statements with bytes (`\xe4`) that a client cannot send, each of its own.
fn in_bytes(statements: &str) -> String {
    let run = |statement: &str| {
        let mut bytes = Vec::new();
        let mut parts = statement.split("\\x");
        bytes.extend_from_slice(parts.next().unwrap().as_bytes());
        for part in parts {
            bytes.push(u8::from_str_radix(&part[..2], 16).unwrap());
            bytes.extend_from_slice(&part.as_bytes()[2..]);
        }
        format!("EXECUTE convert_from('\\x{}', 'SQL_ASCII');", hex::encode(bytes))
    };
    format!("DO $$ BEGIN {} END $$", statements.split(';').map(run).collect::<String>())
}

/// The checks of a restore test of an archive with its proof.
async fn verified(dump: &[u8], proof: &lifeboat_core::Proof) -> Vec<lifeboat_core::Check> {
    let verifier = PostgresVerifier::new(VerifierOptions::default());
    verifier.restore_test(proven(dump, proof), &Context::default()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn ranges_that_are_bounded_in_the_order_of_icu_come_back() {
    let (live, again) = (Database::reserved(), Database::reserved());
    psql(
        &with_database(&live.url, "postgres"),
        &format!(
            "CREATE DATABASE {} TEMPLATE template0 ENCODING 'UTF8' LOCALE_PROVIDER icu ICU_LOCALE 'en' LC_COLLATE 'C' LC_CTYPE 'C'",
            live.name
        ),
    );
    // In the order of bytes the first range would be empty, and the server refuses it.
    live.run(
        "CREATE TABLE public.t (x text) PARTITION BY RANGE (x);
         CREATE TABLE public.t1 PARTITION OF public.t FOR VALUES FROM ('a') TO ('K');
         CREATE TABLE public.t2 PARTITION OF public.t FOR VALUES FROM ('K') TO ('z');
         INSERT INTO public.t VALUES ('b'), ('J'), ('m')",
    );
    let (dump, proof) = backup(&live.url).await.unwrap();
    let checks = verified(&dump, &proof).await;
    assert!(passed(&checks) && !said(&checks).contains("locale"), "{}", said(&checks));
    // Another version of what sorts is told; a locale that is not here, or sorts otherwise here, is no verdict on the dump.
    let altered = |alter: &dyn Fn(&mut serde_json::Value)| {
        let mut proof = proof.clone();
        alter(proof.details.get_mut("settings").unwrap());
        proof
    };
    let older = altered(&|settings| settings["collations"]["the database"] = "9.0".into());
    let checks = verified(&dump, &older).await;
    assert!(passed(&checks) && said(&checks).contains("9.0 at the source"), "{}", said(&checks));
    let target = PostgresTarget::new(connection(&live.url), replacing());
    let restored = target.restore(proven(&dump, &older), &Context::default()).await.unwrap();
    assert!(said(&restored).contains("9.0 at the source"), "{}", said(&restored));
    let checks = verified(
        &dump,
        &altered(&|settings| {
            settings["provider"] = "c".into();
            settings["collate"] = "xx_XX.UTF-8".into();
        }),
    )
    .await;
    let last = checks.last().unwrap();
    assert_eq!(last.status, lifeboat_core::Status::Untested, "{}", said(&checks));
    assert!(last.detail.contains("sorted otherwise"), "{}", said(&checks));
    // An archive by a script has no proof, and says itself how its source sorts.
    let foreign = dump_of(&live);
    let checks = test("dump", &foreign).await;
    assert!(passed(&checks) && said(&checks).contains("(3 rows)"), "{}", said(&checks));
    restore_as("dump", &again.url, &foreign, RestoreOptions::default()).await.unwrap();
    assert_eq!(again.run("SELECT count(*) FROM public.t").trim(), "3");
}

#[tokio::test(flavor = "multi_thread")]
async fn names_in_other_encodings_are_proven_and_come_back() {
    for encoding in ["LATIN1", "EUC_JP", "SQL_ASCII"] {
        let (live, again) = (Database::reserved(), Database::reserved());
        // Of 63 bytes in UTF-8, which the names of restores cut.
        let name = format!("{}{}", live.name, if encoding == "LATIN1" { "ü".repeat(14) } else { "数".repeat(9) });
        let url = with_database(&live.url, &name);
        psql(
            &with_database(&again.url, "postgres"),
            &format!("CREATE DATABASE \"{name}\" TEMPLATE template0 ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C'"),
        );
        let (schema, table) = if encoding == "EUC_JP" { ("日本", "表") } else { ("Zähler", "größe \"x\"") };
        let quoted = table.replace('"', "\"\"");
        psql(&url, &format!(
            "SET client_encoding = 'UTF8'; CREATE SCHEMA \"{schema}\"; CREATE TABLE \"{schema}\".\"{quoted}\" (\"{schema}\" serial, t text);
             INSERT INTO \"{schema}\".\"{quoted}\" (t) VALUES ('{schema}'), ('x')"
        ));
        let (dump, proof) = backup(&url).await.unwrap();
        let names: Vec<&str> = proof.of_kind("table").map(|item| &*item.name).collect();
        assert_eq!(names, [format!("\"{schema}\".\"{quoted}\"")], "{encoding}");
        let checks = verified(&dump, &proof).await;
        assert!(passed(&checks) && !said(&checks).contains("not compared"), "{encoding}: {}", said(&checks));
        for (url, options) in [(&again.url, RestoreOptions::default()), (&url, replacing())] {
            let target = PostgresTarget::new(connection(url), options);
            let checks = target.restore(proven(&dump, &proof), &Context::default()).await;
            let checks = checks.unwrap_or_else(|e| panic!("{encoding}: {e:?}"));
            assert!(!said(&checks).contains("not compared"), "{encoding}: {}", said(&checks));
        }
        let content =
            format!("SET client_encoding = 'UTF8'; SELECT * FROM \"{schema}\".\"{quoted}\"; SHOW server_encoding");
        assert_eq!(psql(&url, &content), again.run(&content));
        psql(&with_database(&again.url, "postgres"), &format!("DROP DATABASE \"{name}\" WITH (FORCE)"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_good_backup_with_names_in_no_encoding_is_not_called_bad() {
    let (live, again) = (Database::reserved(), Database::reserved());
    psql(
        &with_database(&live.url, "postgres"),
        &format!("CREATE DATABASE {} TEMPLATE template0 ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C'", live.name),
    );
    // Two tables, a sequence and a column with names that become the same text.
    for name in [0xe4, 0xf6] {
        let name = format!("public.\"\\x{name:02x}\"");
        live.run(&in_bytes(&format!(
            "CREATE TABLE {name} (x serial, y text); INSERT INTO {name} (y) VALUES ('a'), ('b')"
        )));
    }
    live.run(&in_bytes("CREATE TABLE public.c (x int, \"\\xdf\" text); INSERT INTO public.c VALUES (1, 'a')"));
    live.run("CREATE TABLE public.t AS SELECT i AS id, 'x' AS x FROM generate_series(1, 5) i");
    let told = Arc::new(postgres::Notes::default());
    let cx = Context::default().progress(told.clone());
    let (dump, proof) = backup_with(&live.url, PostgresSettings::default(), &cx).await.unwrap();
    let notes = told.0.lock().unwrap().clone();
    assert!(notes.iter().any(|note| note.contains("not UTF-8") && note.contains(r"public.\xe4")), "{notes:?}");
    let checks = verified(&dump, &proof).await;
    assert!(passed(&checks) && said(&checks).contains("(4 rows, only counted)"), "{}", said(&checks));
    // What can be named is compared as ever, and rows of the others do not go unnoticed.
    assert!(said(&checks).contains("content: table"), "{}", said(&checks));
    for (table, alter) in [("public.t", None), ("\u{fffd}", Some(7))] {
        let mut other = proof.clone();
        let item = other.items.iter_mut().find(|item| item.kind == "table" && item.name.contains(table)).unwrap();
        match alter {
            Some(count) => item.count = count,
            None => item.fingerprint = Some(lifeboat_core::Fingerprint(1)),
        }
        let checks = verified(&dump, &other).await;
        assert!(!passed(&checks), "{table}: {}", said(&checks));
    }
    // A dump by a script is counted too.
    let checks = test("dump", &dump).await;
    assert!(passed(&checks) && said(&checks).contains("4 (10 rows)"), "{}", said(&checks));
    for (url, options) in [(&again.url, RestoreOptions::default()), (&live.url, replacing())] {
        let target = PostgresTarget::new(connection(url), options);
        let checks = target.restore(proven(&dump, &proof), &Context::default()).await.unwrap();
        assert!(said(&checks).contains("not UTF-8"), "{}", said(&checks));
    }
    let names = "SELECT encode(relname::text::bytea, 'escape') FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' ORDER BY 1";
    assert_eq!(again.run(names).lines().collect::<Vec<_>>(), [r"\344", r"\366", "c", "t"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_programs_say_of_an_archive_holds_no_value_of_it() {
    let (live, into) = (Database::fresh(), Database::reserved());
    let role = format!("{}_m", live.name);
    live.run(&format!(
        "CREATE ROLE {role}; CREATE FUNCTION public.here() RETURNS bool LANGUAGE sql AS $$ SELECT current_database() = '{}' $$;
         CREATE FUNCTION public.number(text) RETURNS bool LANGUAGE sql AS $$ SELECT public.here() OR $1::int > 0 $$;
         CREATE FUNCTION public.raised(text) RETURNS bool LANGUAGE plpgsql AS $$ BEGIN IF NOT public.here() THEN RAISE 'no % here', $1 USING ERRCODE = '23514'; END IF; RETURN true; END $$",
        live.name
    ));
    for (statement, undo, shown) in [
        (
            "CREATE TABLE public.t (a text CHECK (public.number(a))); INSERT INTO public.t VALUES (E'x\\nhunter2')",
            "DROP TABLE public.t",
            "in COPY t, line 1",
        ),
        (
            "CREATE TABLE public.t (a text CHECK (public.raised(a))); INSERT INTO public.t VALUES ('hunter2')",
            "DROP TABLE public.t",
            "a function raised an error",
        ),
        (
            &*format!(
                "CREATE FOREIGN DATA WRAPPER w; CREATE SERVER s FOREIGN DATA WRAPPER w; CREATE USER MAPPING FOR {role} SERVER s OPTIONS (password 'hunter2')"
            ),
            &*format!("DROP USER MAPPING FOR {role} SERVER s; DROP ROLE {role}"),
            "user mappings are left out",
        ),
    ] {
        live.run(statement);
        let dump = dump_of(&live);
        live.run(undo);
        let told = match restore_as("dump", &into.url, &dump, RestoreOptions::default()).await {
            Err(error) => format!("{error} {error:?} {:?}", error.advice()),
            // The mapping of a role that is not there is left out.
            Ok(checks) => said(&checks),
        };
        assert!(told.contains(shown) && !told.contains("hunter2"), "{told}");
        let checks = test("dump", &dump).await;
        assert!(!said(&checks).contains("hunter2"), "{}", said(&checks));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_goes_while_it_is_read_is_named() {
    let live = Database::fresh();
    live.run("CREATE TABLE public.t AS SELECT i, repeat('x', 1000) FROM generate_series(1, 20000) i");
    let reading = Postgres::new(connection(&live.url)).open(&Context::default()).await.unwrap();
    let mut stream = reading.stream;
    futures::StreamExt::next(&mut stream).await.unwrap().unwrap();
    // The server ends pg_dump's session while its rows are waited for.
    let end = format!(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{}' AND pid <> pg_backend_pid() AND query LIKE 'COPY%'",
        live.name
    );
    let mut error = None;
    while let Some(chunk) = futures::StreamExt::next(&mut stream).await {
        live.run(&end);
        error = chunk.err();
    }
    let error = error.expect("the stream does not end well");
    let said = error.message();
    assert!(said.contains("terminating connection") || said.contains("closed the connection"), "{error:?}");
    assert!(said.contains("table \"t\"") && said.contains("in COPY"), "{error:?}");
}
