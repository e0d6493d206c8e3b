//! Our sessions, and those of the client programs, are the same whatever a role, a database or a server has set for its own.
#![cfg(feature = "postgres")]
#![allow(clippy::unwrap_used, missing_docs)]

mod postgres;

use std::time::{Duration, Instant};

use lifeboat_backends::postgres::{Postgres, RestoreOptions};
use lifeboat_core::{Context, ErrorKind, Source};
use lifeboat_testkit::postgres::{Database, psql, with_database};
use postgres::{connection, passed, replacing, restore_as, said, stock, test};

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_accepts_and_says_nothing_is_left_after_the_limit() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let mut kept = Vec::new();
        for client in listener.incoming() {
            kept.push(client);
        }
    });
    for mode in ["disable", "prefer", "require"] {
        let url = format!("postgres://u@127.0.0.1:{port}/d?connect_timeout=1&sslmode={mode}");
        let begun = Instant::now();
        let connected = tokio::time::timeout(Duration::from_secs(20), Postgres::connect(&url)).await;
        let error = connected.expect("it does not hang").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
        assert!(begun.elapsed() < Duration::from_secs(5), "{mode}: {:?}", begun.elapsed());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_of_a_role_and_a_database_change_neither_backup_nor_restore() {
    let (live, into) = (Database::fresh(), Database::reserved());
    let (role, other) = (format!("{}_r", live.name), format!("{}_o", live.name));
    live.run(&format!(
        "CREATE ROLE {role} LOGIN SUPERUSER PASSWORD 'pw'; CREATE ROLE {other};
         CREATE TABLE public.t AS SELECT i AS id, 'grün ' || i AS x FROM generate_series(1, 300000) i;
         ALTER DATABASE {0} SET client_encoding = 'LATIN1'; ALTER DATABASE {0} SET statement_timeout = '50ms';
         ALTER ROLE {role} SET statement_timeout = '50ms'; ALTER ROLE {role} SET lock_timeout = '1ms';
         ALTER ROLE {role} SET idle_session_timeout = '300ms'; ALTER ROLE {role} SET idle_in_transaction_session_timeout = '50ms';
         ALTER ROLE {role} SET default_transaction_read_only = on; ALTER ROLE {role} SET search_path = 'nowhere';
         ALTER ROLE {role} SET role = '{other}'",
        live.name
    ));
    let (_, server) = live.url.split_once('@').unwrap();
    let url = format!("postgres://{role}:pw@{server}");
    let cx = Context::default();
    let reading = Postgres::new(connection(&url)).open(&cx).await.unwrap();
    let dump = lifeboat_core::stream::collect(reading.stream, 64 << 20, "the dump").await.unwrap();
    assert!(dump.windows(5).any(|w| w == "grün".as_bytes()), "the text is not in the database's encoding");
    for (url, options) in [(with_database(&url, &into.name), RestoreOptions::default()), (url.clone(), replacing())] {
        let checks = restore_as("dump", &url, &dump, options).await.unwrap_or_else(|e| panic!("{url}: {e:?}"));
        assert!(said(&checks).contains("ANALYZE"), "{}", said(&checks));
    }
    let content = "SELECT md5(string_agg(x, ',' ORDER BY id)) FROM public.t";
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
