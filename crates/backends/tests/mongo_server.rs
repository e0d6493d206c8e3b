//! What a source and a target ask of a server, and how: read preference, logins, limits, the order of things. At the protocol.
#![cfg(feature = "mongodb")]
#![allow(clippy::unwrap_used, missing_docs)]

mod mongo;

use lifeboat_backends::mongodb::{Connection, Mongo, MongoSettings, RestoreOptions};
use lifeboat_core::{Context, ErrorKind, Source};
use lifeboat_testkit::documents::Doc;
use lifeboat_testkit::mongo_wire::{Collection, Effect, MongoWire, Script, oplog_entry};
use mongo::{content, documents, orders, read, read_with, restore};

/// Reads everything, with more options in the URL. What was asked for by each `find` in `shop`, as a read preference.
async fn preferences(server: &MongoWire, more: &str, options: MongoSettings) -> Vec<String> {
    use futures::TryStreamExt;
    let connection = Connection::parse(&format!("{}{more}", server.url()).into()).unwrap();
    let source = Mongo::new(connection).options(options).unwrap();
    let reading = source.open(&Context::default()).await.unwrap();
    reading.stream.try_for_each(|_| std::future::ready(Ok(()))).await.unwrap();
    let finds = server.seen("find").into_iter().filter(|seen| seen.db == "shop");
    let mode = |seen: lifeboat_testkit::mongo_wire::Seen| {
        let preference = seen.body.get_document("$readPreference").ok().map(ToOwned::to_owned);
        preference.map_or_else(|| "primary".to_owned(), |p| p.get_str("mode").unwrap().to_owned())
    };
    finds.map(mode).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_reads_from_the_members_that_the_url_prefers_and_with_an_oplog_from_the_primary() {
    let oplog = Collection::new("local", "oplog.rs").documents([oplog_entry(1, "n", "", Doc::new()).build()]);
    let script = Script::replica_set("rs0").collection(orders(10)).collection(oplog);
    let more = "&readPreference=secondaryPreferred";
    let server = MongoWire::start(script.clone()).await;
    let asked = preferences(&server, more, MongoSettings::default()).await;
    assert!(!asked.is_empty() && asked.iter().all(|mode| mode == "secondaryPreferred"), "{asked:?}");
    let server = MongoWire::start(script).await;
    let asked = preferences(&server, more, MongoSettings::default().oplog(true)).await;
    assert!(!asked.is_empty() && asked.iter().all(|mode| mode.starts_with("primary")), "{asked:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_is_refused_says_where_the_user_is_looked_for_and_not_the_password() {
    let refused = Effect::Fail(18, "AuthenticationFailed", "Authentication failed.");
    let server = MongoWire::start(Script::standalone().collection(orders(1)).always("saslStart", "", refused)).await;
    let url = server.url().replace("mongodb://", "mongodb://backup:Zx9-secret@");
    let url = format!("{}&authMechanism=SCRAM-SHA-256", url.replace("/?", "/shop?"));
    let source = Mongo::new(Connection::parse(&url.into()).unwrap());
    let error = source.describe().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Permission, "{error}");
    assert!(error.advice().unwrap().contains("authSource"));
    assert!(!format!("{error} {error:?} {:?}", error.advice()).contains("Zx9"));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_insert_has_more_documents_than_the_server_takes() {
    let server = MongoWire::start(Script::standalone().collection(orders(1_050))).await;
    let read = read(&server).await.unwrap();
    let target = MongoWire::start(Script::standalone().limits(100, 48_000_000)).await;
    restore(&target, "shop", &read.archive, RestoreOptions::default()).await.unwrap();
    assert_eq!(content(&target, "shop"), content(&server, "shop"));
    let inserts: Vec<usize> = target.seen("insert").iter().map(|seen| seen.documents).collect();
    assert_eq!((inserts.len(), inserts.iter().max(), inserts.iter().sum::<usize>()), (11, Some(&100), 1_050));
}

#[tokio::test(flavor = "multi_thread")]
async fn views_come_last_and_indexes_after_the_documents() {
    let script = Script::standalone()
        .collection(Collection::view("shop", "a_view", "orders"))
        .collection(orders(50))
        .collection(Collection::new("shop", "z").documents(documents(3)));
    let server = MongoWire::start(script).await;
    let read = read(&server).await.unwrap();
    let target = MongoWire::start(Script::standalone()).await;
    restore(&target, "shop", &read.archive, RestoreOptions::default()).await.unwrap();
    let all = target.all_seen();
    let last = |command: &str| all.iter().rposition(|seen| seen.command == command).unwrap();
    let first = |command: &str| all.iter().position(|seen| seen.command == command).unwrap();
    assert!(last("insert") < first("createIndexes") && last("createIndexes") < first("renameCollection"));
    assert!(last("renameCollection") < last("create"), "the view");
    assert!(matches!(all[last("create")].body.get("viewOn"), Ok(Some(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_server_keeps_for_itself_is_in_no_backup_of_all_databases() {
    let of = |db: &str, name: &str| Collection::new(db, name).documents(documents(1));
    let script = [
        of("shop", "orders"),
        of("shop", "system.profile"),
        of("shop", "system.js"),
        of("local", "startup_log"),
        of("config", "system.sessions"),
        of("config", "settings"),
        of("admin", "system.keys"),
        of("__mdb_internal_x", "y"),
    ];
    let server = MongoWire::start(script.into_iter().fold(Script::standalone(), Script::collection)).await;
    let read = read_with(&server, "", MongoSettings::default()).await.unwrap();
    let mut held: Vec<&str> = read.proof.items.iter().filter(|i| i.kind == "collection").map(|i| &*i.name).collect();
    held.sort_unstable();
    assert_eq!(held, ["config.settings", "shop.orders", "shop.system.js"]);
}
