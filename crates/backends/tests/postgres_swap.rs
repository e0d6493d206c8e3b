//! `--replace`: whatever ends it and whenever, the name leads to a whole database that is open.
#![cfg(feature = "postgres")]
#![allow(clippy::unwrap_used, missing_docs)]

mod postgres;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use lifeboat_core::ErrorKind;
use lifeboat_testkit::postgres::{Database, Server, psql, with_database};
use postgres::{replacing, restore, rows, said, stock, with_rows};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What happens to the connection at the chosen message.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Cut {
    /// The server does not get it.
    Before,
    /// The server gets it, and its answer is lost.
    After,
}

/// Passes everything on to a server, counts what clients send, and ends the connection with which the message of a given
/// number comes. Later connections are served.
struct Proxy {
    port: u16,
    sent: Arc<AtomicUsize>,
}

impl Proxy {
    async fn start(server: String, at: usize, cut: Cut) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let sent = Arc::new(AtomicUsize::new(0));
        let counter = sent.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (server, counter) = (server.clone(), counter.clone());
                tokio::spawn(async move {
                    let Ok(upstream) = TcpStream::connect(server).await else { return };
                    let (mut from_client, mut to_client) = client.into_split();
                    let (mut from_server, mut to_server) = upstream.into_split();
                    let back = tokio::spawn(async move {
                        let _ = tokio::io::copy(&mut from_server, &mut to_client).await;
                    });
                    let mut buffer = vec![0; 1 << 16];
                    // What a client writes at once is one message or one batch of them.
                    while let Ok(count @ 1..) = from_client.read(&mut buffer).await {
                        let number = counter.fetch_add(1, Ordering::SeqCst);
                        if number == at && cut == Cut::Before {
                            break;
                        }
                        if number == at {
                            back.abort();
                            let _ = to_server.write_all(&buffer[..count]).await;
                            // Long enough for the server to do it; nobody waits for the answer.
                            tokio::time::sleep(Duration::from_millis(50)).await;
                            break;
                        }
                        if to_server.write_all(&buffer[..count]).await.is_err() {
                            break;
                        }
                    }
                    back.abort();
                });
            }
        });
        Self { port, sent }
    }
}

fn through(url: &str, port: u16) -> String {
    let (user, rest) = url.rsplit_once('@').unwrap();
    let (_, database) = rest.split_once('/').unwrap();
    format!("{user}@127.0.0.1:{port}/{database}?sslmode=disable")
}

fn address(url: &str) -> String {
    let (_, rest) = url.rsplit_once('@').unwrap();
    rest.split_once('/').unwrap().0.to_owned()
}

fn is_open(database: &Database) -> bool {
    let sql = format!("SELECT datallowconn FROM pg_database WHERE datname = '{}'", database.name);
    database.run(&sql).trim() == "t"
}

/// Databases of restores of this one.
fn others(database: &Database) -> String {
    database.run(&format!("SELECT datname FROM pg_database WHERE datname LIKE '{}_lifeboat_%'", database.name))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_is_cut_at_any_message_leaves_the_old_or_the_new_database_open() {
    let server = Server::start();
    let new = Database::on(&server.url);
    new.run("CREATE TABLE public.t AS SELECT 1 AS id");
    let dump = stock("pg_dump", &new.url, &[]);
    let live = Database::on(&server.url);
    let mut outcomes = [0; 2];
    for cut in [Cut::Before, Cut::After] {
        for at in 0.. {
            live.run("DROP TABLE IF EXISTS public.t; CREATE TABLE public.t AS SELECT generate_series(1, 2000) AS id");
            let proxy = Proxy::start(address(&server.url), at, cut).await;
            let restored = restore(&through(&live.url, proxy.port), &dump, replacing()).await;
            let found = rows(&live);
            assert!(is_open(&live), "{cut:?} {at}");
            match &restored {
                Ok(checks) => assert_eq!(found, "1", "{cut:?} {at}: {}", said(checks)),
                Err(error) => assert_eq!(found, "2000", "{cut:?} {at}: {error:?}"),
            }
            outcomes[usize::from(restored.is_ok())] += 1;
            if restored.is_err() {
                // What a lost session was doing would show by now.
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            let left = others(&live);
            assert!(left.is_empty() || restored.is_ok(), "{cut:?} {at}: {left}");
            for name in left.split_whitespace() {
                psql(&server.url, &format!("DROP DATABASE {name} WITH (FORCE)"));
            }
            if proxy.sent.load(Ordering::SeqCst) <= at {
                break;
            }
        }
    }
    assert!(outcomes[0] > 20 && outcomes[1] > 2, "failed and done: {outcomes:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_that_is_dropped_at_any_time_leaves_the_live_database_open() {
    let (new, live) = (with_rows(1), with_rows(2000));
    let dump = stock("pg_dump", &new.url, &[]);
    let begun = Instant::now();
    restore(&live.url, &dump, replacing()).await.unwrap();
    let whole = begun.elapsed();
    let mut done = 0;
    for step in 0..=25 {
        // The last one has time enough.
        let limit = if step == 25 { whole * 20 } else { whole * step / 20 };
        let restoring = restore(&live.url, &dump, replacing());
        if tokio::time::timeout(limit, restoring).await.is_ok() {
            done += 1;
        }
        assert!(is_open(&live), "after {step}");
        let found = rows(&live);
        assert!(found == "2000" || found == "1", "{found}");
        for name in others(&live).split_whitespace() {
            // The server may be dropping it by itself.
            let drop = format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)");
            let _ = lifeboat_testkit::postgres::try_psql(&with_database(&live.url, "postgres"), &drop);
        }
        live.run("DROP TABLE public.t; CREATE TABLE public.t AS SELECT generate_series(1, 2000) AS id");
    }
    assert!(done > 0 && done < 20, "{done} of 26 were done in time: the moments are badly chosen");
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_of_the_live_database_are_ended_and_new_ones_wait_for_the_new_one() {
    let (new, live) = (with_rows(1), with_rows(2000));
    let dump = stock("pg_dump", &new.url, &[]);
    // Clients that come back at once, as a pool does.
    let stop = Arc::new(AtomicUsize::new(0));
    let clients: Vec<_> = (0..3)
        .map(|_| {
            let (url, stop) = (live.url.clone(), stop.clone());
            std::thread::spawn(move || {
                let mut refused = Vec::new();
                while stop.load(Ordering::SeqCst) == 0 {
                    if let Err(error) = lifeboat_testkit::postgres::try_psql(&url, "SELECT pg_sleep(0.3)") {
                        refused.push(error);
                    }
                }
                refused
            })
        })
        .collect();
    std::thread::sleep(Duration::from_millis(300));
    restore(&live.url, &dump, replacing()).await.unwrap();
    assert_eq!(rows(&live), "1");
    stop.store(1, Ordering::SeqCst);
    for client in clients {
        for error in client.join().unwrap() {
            assert!(!error.contains("not currently accepting connections"), "{error}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prepared_transaction_is_named_before_anything_is_restored() {
    let server = Server::start_with(|_| vec!["max_prepared_transactions=5".to_owned()]);
    let live = Database::on(&server.url);
    live.run("CREATE TABLE public.t AS SELECT 1 AS id");
    let dump = stock("pg_dump", &live.url, &[]);
    live.run("BEGIN; INSERT INTO public.t VALUES (2); PREPARE TRANSACTION 'it''s stuck'");
    let begun = Instant::now();
    let error = restore(&live.url, &dump, replacing()).await.unwrap_err();
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert!(error.message().contains("'it''s stuck'"), "{error:?}");
    assert!(error.advice().unwrap().contains("ROLLBACK PREPARED 'it''s stuck'"), "{error:?}");
    // One that ends soon is waited for.
    let url = live.url.clone();
    let ending = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_secs(1));
        psql(&url, "COMMIT PREPARED 'it''s stuck'")
    });
    restore(&live.url, &dump, replacing()).await.unwrap();
    ending.join().unwrap();
    assert_eq!(rows(&live), "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_was_left_closed_is_told_with_the_line_that_opens_it() {
    let live = with_rows(3);
    let maintenance = with_database(&live.url, "postgres");
    psql(&maintenance, &format!("ALTER DATABASE {} WITH ALLOW_CONNECTIONS false", live.name));
    let line = format!("ALTER DATABASE {} WITH ALLOW_CONNECTIONS true", live.name);
    let error = lifeboat_backends::postgres::Postgres::connect(&live.url).await.unwrap_err();
    assert!(error.advice().unwrap().contains(&line), "{error:?}");
    let error = restore(&live.url, b"", replacing()).await.unwrap_err();
    assert!(error.advice().unwrap().contains(&line), "{error:?}");
    psql(&maintenance, &line);
    // One that a killed restore left aside.
    let aside = format!("{}_lifeboat_0123abcd_replaced", live.name);
    psql(&maintenance, &format!("CREATE DATABASE {aside} TEMPLATE template0 ALLOW_CONNECTIONS false"));
    let dump = stock("pg_dump", &live.url, &[]);
    let checks = restore(&live.url, &dump, replacing()).await.unwrap();
    let said = said(&checks);
    assert!(said.contains(&format!("ALTER DATABASE {aside} WITH ALLOW_CONNECTIONS true")), "{said}");
    psql(&maintenance, &format!("DROP DATABASE {aside}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_restore_never_named_goes_and_what_another_fills_stays() {
    let live = with_rows(3);
    let maintenance = with_database(&live.url, "postgres");
    let [dead, filled, entered, others] =
        ["_lifeboat_f123abcd", "_lifeboat_0123abce", "_lifeboat_0123abcf", "x_lifeboat_0123abcd"]
            .map(|end| format!("{}{end}", live.name));
    for name in [&dead, &filled, &entered, &others] {
        psql(&maintenance, &format!("CREATE DATABASE {name} TEMPLATE template0"));
    }
    // As a restore that is alive does it, from any database of the server.
    let (filler, connection) =
        tokio_postgres::connect(&with_database(&live.url, "template1"), tokio_postgres::NoTls).await.unwrap();
    let filling = tokio::spawn(connection);
    filler.batch_execute("SELECT pg_advisory_lock(x'4c424f54'::int, x'0123abce'::int)").await.unwrap();
    let url = with_database(&live.url, &entered);
    let (visitor, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.unwrap();
    let visiting = tokio::spawn(connection);
    let dump = stock("pg_dump", &live.url, &[]);
    let checks = restore(&live.url, &dump, replacing()).await.unwrap();
    let said = said(&checks);
    assert!(said.contains(&format!("{dead}: an interrupted restore left this database: dropped")), "{said}");
    for name in [&filled, &entered, &others] {
        assert!(said.contains(&format!("DROP DATABASE {name} removes it")), "{said}");
    }
    drop((filler, visitor));
    filling.await.unwrap().ok();
    visiting.await.unwrap().ok();
    for name in [&filled, &entered, &others] {
        psql(&maintenance, &format!("DROP DATABASE {name}"));
    }
    assert_eq!(psql(&maintenance, &format!("SELECT count(*) FROM pg_database WHERE datname = '{dead}'")).trim(), "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_of_many_bytes_is_cut_between_its_characters() {
    let server = Server::start();
    // 62 bytes, and a character across every place where it could be cut.
    let name = format!("x{}é", "数据库".repeat(6) + "ééé");
    psql(&server.url, &format!("CREATE DATABASE \"{name}\""));
    let url = with_database(&server.url, &name);
    psql(&url, "CREATE TABLE public.t AS SELECT 1 AS id");
    let dump = stock("pg_dump", &url, &[]);
    restore(&url, &dump, replacing()).await.unwrap();
    assert_eq!(psql(&url, "SELECT count(*) FROM public.t").trim(), "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replaced_database_that_cannot_be_dropped_is_a_warning() {
    let (new, live) = (with_rows(1), with_rows(2000));
    let dump = stock("pg_dump", &new.url, &[]);
    psql(&with_database(&live.url, "postgres"), &format!("ALTER DATABASE {} IS_TEMPLATE true", live.name));
    let checks = restore(&live.url, &dump, replacing()).await.unwrap();
    assert_eq!(rows(&live), "1");
    assert!(said(&checks).contains("stays under this one"), "{}", said(&checks));
    for name in others(&live).split_whitespace() {
        let maintenance = with_database(&live.url, "postgres");
        psql(&maintenance, &format!("ALTER DATABASE {name} IS_TEMPLATE false"));
        psql(&maintenance, &format!("DROP DATABASE {name}"));
    }
}
