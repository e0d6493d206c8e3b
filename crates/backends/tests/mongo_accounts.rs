//! Users and roles, and documents that a server would change: at the protocol.
#![cfg(feature = "mongodb")]
#![allow(clippy::unwrap_used, missing_docs)]

mod mongo;

use lifeboat_backends::mongodb::{Mongo, MongoSettings, RestoreOptions};
use lifeboat_core::{ErrorKind, Source, Status};
use lifeboat_testkit::documents::Doc;
use lifeboat_testkit::mongo::{mongodump, mongorestore};
use lifeboat_testkit::mongo_wire::{Collection, Effect, MongoWire, Script};
use mongo::{connection, content, count_of, documents, orders, read_with, restore};

fn user(db: &str, name: &str, secret: &str) -> Vec<u8> {
    Doc::new()
        .text("_id", &format!("{db}.{name}"))
        .text("user", name)
        .text("db", db)
        .text("credentials", secret)
        .build()
}

fn with_users() -> Script {
    let version = Doc::new().text("_id", "authSchema").int32("currentVersion", 5).build();
    Script::standalone()
        .collection(orders(5))
        .collection(Collection::new("admin", "system.users").documents([
            user("admin", "root", "a"),
            user("shop", "app", "b"),
            user("other", "app", "c"),
        ]))
        .collection(Collection::new("admin", "system.roles").documents([user("shop", "reader", "")]))
        .collection(Collection::new("admin", "system.version").documents([version]))
}

fn users(server: &MongoWire) -> Vec<Vec<u8>> {
    content(server, "admin").into_iter().find(|(name, _)| name == "system.users").unwrap_or_default().1
}

fn sorted(mut all: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    all.sort();
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn users_and_roles_of_a_whole_deployment_come_back_when_told() {
    let server = MongoWire::start(with_users()).await;
    assert!(Mongo::new(connection(&server, "")).is_confidential());
    let read = read_with(&server, "", MongoSettings::default()).await.unwrap();
    let there = || {
        let there = [user("admin", "root", "of the target"), user("admin", "other", "x")];
        Script::standalone().collection(Collection::new("admin", "system.users").documents(there))
    };
    let target = MongoWire::start(there()).await;
    let checks = restore(&target, "", &read.archive, RestoreOptions::default()).await.unwrap();
    let told = checks.iter().find(|c| c.name == "users and roles").unwrap();
    assert_eq!((told.status, &*told.figure), (Status::Warn, "4 not restored"));
    assert_eq!(users(&target).len(), 2);
    let target = MongoWire::start(there()).await;
    let options = RestoreOptions::default().users_and_roles(true);
    let checks = restore(&target, "", &read.archive, options).await.unwrap();
    let told = checks.iter().find(|c| c.name == "users and roles").unwrap();
    assert_eq!((told.status, &*told.figure), (Status::Pass, "4 restored"));
    let expected =
        [user("admin", "root", "a"), user("admin", "other", "x"), user("shop", "app", "b"), user("other", "app", "c")];
    assert_eq!(users(&target), sorted(expected.to_vec()));
    let names: Vec<String> = content(&target, "admin").into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["system.roles", "system.users"], "no temporary collection stays");
    let merge = &target.seen("_mergeAuthzCollections")[0].body;
    assert_eq!((merge.get_str("db").unwrap(), merge.get_bool("drop").unwrap()), ("", false));
}

#[tokio::test(flavor = "multi_thread")]
async fn users_of_one_database_go_along_when_told_and_come_back_to_it_only() {
    let server = MongoWire::start(with_users()).await;
    let plain = read_with(&server, "shop", MongoSettings::default()).await.unwrap();
    assert_eq!(plain.proof.items.iter().filter(|i| i.name.contains("system.users")).count(), 0);
    let options = MongoSettings::default().users_and_roles(true);
    assert!(Mongo::new(connection(&server, "shop")).options(options.clone()).unwrap().is_confidential());
    let read = read_with(&server, "shop", options).await.unwrap();
    assert!(read.notes.iter().all(|note| !note.contains("system.")), "{:?}", read.notes);
    assert_eq!(count_of(&read.proof, "shop.$admin.system.users"), 1);
    assert_eq!(count_of(&read.proof, "shop.$admin.system.roles"), 1);
    let options = RestoreOptions::default().users_and_roles(true);
    let target = MongoWire::start(Script::standalone()).await;
    restore(&target, "shop", &read.archive, options.clone()).await.unwrap();
    assert_eq!(users(&target), [user("shop", "app", "b")]);
    assert_eq!(target.seen("_mergeAuthzCollections")[0].body.get_str("db").unwrap(), "shop");
    for (archive, into) in [(&read.archive, "copy"), (&plain.archive, "shop")] {
        let target = MongoWire::start(Script::standalone()).await;
        let error = restore(&target, into, archive, options.clone()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{error}");
        assert!(target.seen("create").is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn users_and_roles_go_both_ways_with_the_stock_tools() {
    let server = MongoWire::start(with_users()).await;
    let options = MongoSettings::default().users_and_roles(true);
    let read = read_with(&server, "shop", options).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("shop.archive");
    std::fs::write(&path, &read.archive).unwrap();
    let target = MongoWire::start(Script::standalone()).await;
    let (uri, archive) = (format!("--uri={}", target.url()), format!("--archive={}", path.display()));
    let run = move || mongorestore(&[&uri, &archive, "--restoreDbUsersAndRoles", "--db=shop"]).unwrap();
    tokio::task::spawn_blocking(run).await.unwrap();
    assert_eq!(users(&target), [user("shop", "app", "b")]);
    let uri = format!("--uri={}", server.url());
    let run = move || mongodump(&[&uri, "--db=shop", "--dumpDbUsersAndRoles", "--archive"]);
    let dumped = tokio::task::spawn_blocking(run).await.unwrap();
    let target = MongoWire::start(Script::standalone()).await;
    let options = RestoreOptions::default().users_and_roles(true);
    restore(&target, "shop", &dumped, options).await.unwrap();
    assert_eq!(users(&target), [user("shop", "app", "b")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn users_that_the_server_will_not_take_fail_the_restore_and_leave_what_was_there() {
    let server = MongoWire::start(with_users()).await;
    let read = read_with(&server, "", MongoSettings::default()).await.unwrap();
    for (effect, kind) in [
        (Effect::Fail(59, "CommandNotFound", "no such command: '_mergeAuthzCollections'"), ErrorKind::Unsupported),
        (Effect::Fail(13, "Unauthorized", "not authorized"), ErrorKind::Permission),
    ] {
        let script = Script::standalone().collection(orders(1)).always("_mergeAuthzCollections", "", effect);
        let target = MongoWire::start(script).await;
        let options = RestoreOptions::default().users_and_roles(true).replace(true);
        let error = restore(&target, "", &read.archive, options).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert_eq!(content(&target, "shop"), [("orders".to_owned(), documents(1))]);
        assert_eq!(target.with_store(|store| store.databases()), ["shop"]);
    }
}

/// Documents with a `Timestamp(0, 0)` at the top, and one with it further down.
fn timed() -> Vec<Vec<u8>> {
    vec![
        Doc::new().int32("_id", 1).raw(0x11, "t", &[0; 8]).text("x", "y").raw(0x11, "t2", &[0; 8]).build(),
        Doc::new().int32("_id", 2).doc("d", Doc::new().raw(0x11, "t", &[0; 8])).build(),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_timestamp_stays_empty_in_servers_that_replace_it() {
    let source = Script::standalone().collection(Collection::new("shop", "times").documents(timed()));
    let server = MongoWire::start(source).await;
    let read = read_with(&server, "shop", MongoSettings::default()).await.unwrap();
    for (script, asked) in [
        (Script::standalone(), 0),
        (Script::standalone().version("4.4.30"), 1),
        (Script::standalone().refuse_field("bypassEmptyTsReplacement"), 1),
    ] {
        let target = MongoWire::start(script).await;
        restore(&target, "shop", &read.archive, RestoreOptions::default()).await.unwrap();
        assert_eq!(content(&target, "shop"), [("times".to_owned(), sorted(timed()))]);
        let updates = target.seen("update");
        assert_eq!(updates.len(), asked);
        assert!(updates.iter().all(|seen| seen.body.get_array("updates").unwrap().into_iter().count() == 1));
    }
    // One that knows neither way changes the document, and that is told.
    let script =
        Script::standalone().version("4.0.28").always("update", "", Effect::Fail(9, "FailedToParse", "no pipelines"));
    let target = MongoWire::start(script.clone()).await;
    let error = restore(&target, "shop", &read.archive, RestoreOptions::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Mismatch);
    assert!(error.advice().unwrap().contains("1 document with a Timestamp(0, 0)"), "{:?}", error.advice());
    assert_eq!(content(&target, "shop"), []);
    let target = MongoWire::start(script).await;
    let options = RestoreOptions::default().skip_proof(true);
    let checks = restore(&target, "shop", &read.archive, options).await.unwrap();
    assert!(checks.iter().any(|c| c.name == "timestamps" && c.status == Status::Warn), "{checks:?}");
}
