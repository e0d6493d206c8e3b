//! The oplog of an archive, replayed by a restore: at the protocol, against a server that applies operations as MongoDB says.
#![cfg(feature = "mongodb")]
#![allow(clippy::unwrap_used, missing_docs)]

mod mongo;

use std::sync::Arc;

use lifeboat_backends::mongodb::{MongoSettings, RestoreOptions};
use lifeboat_core::{Check, ErrorKind, Status};
use lifeboat_testkit::documents::Doc;
use lifeboat_testkit::mongo::{mongodump, mongorestore};
use lifeboat_testkit::mongo_wire::{Collection, Effect, MongoWire, Script, Store, oplog_entry, oplog_insert};
use mongo::{Read, content, count_of, documents, orders, read_with, restore, verify};

fn id(n: i32) -> Doc {
    Doc::new().int32("_id", n)
}

/// An update that sets `x`, as servers since 5.0 write it, with all that an entry has besides.
fn set_x(seconds: u32, n: i32, x: &str) -> Doc {
    let difference = Doc::new().doc("u", Doc::new().text("x", x));
    let o = Doc::new().int32("$v", 2).doc("diff", difference);
    let uuid = [&16u32.to_le_bytes()[..], &[4], &[9; 16]].concat();
    oplog_entry(seconds, "u", "shop.orders", o).doc("o2", id(n)).raw(0x05, "ui", &uuid).raw(0x09, "wall", &[0; 8])
}

fn command(seconds: u32, o: Doc) -> Doc {
    oplog_entry(seconds, "c", "shop.$cmd", o)
}

/// A replica set in which this is written while `shop.orders` is read.
fn source(entries: Vec<Doc>, more: Vec<Collection>) -> Script {
    let oplog = Collection::new("local", "oplog.rs").documents([oplog_entry(1, "n", "", Doc::new()).build()]);
    let entries: Vec<Vec<u8>> = entries.into_iter().map(Doc::build).collect();
    let write = Effect::Do(Arc::new(move |store: &mut Store| {
        store.get_mut("local", "oplog.rs").unwrap().documents.extend(entries.iter().cloned());
    }));
    let script = Script::replica_set("rs0").collection(orders(10)).collection(oplog).at("find", "orders", 1, write);
    more.into_iter().fold(script, Script::collection)
}

async fn backup(entries: Vec<Doc>, more: Vec<Collection>) -> Read {
    let server = MongoWire::start(source(entries, more)).await;
    read_with(&server, "", MongoSettings::default().oplog(true)).await.unwrap()
}

/// The documents of `shop.orders` after `changes`.
fn orders_with(changes: impl FnOnce(&mut Vec<Vec<u8>>)) -> Vec<Vec<u8>> {
    let mut all = documents(10);
    changes(&mut all);
    all.sort();
    all
}

fn found(server: &MongoWire, name: &str) -> Vec<Vec<u8>> {
    content(server, "shop").into_iter().find(|(found, _)| found == name).unwrap_or_else(|| panic!("no {name}")).1
}

fn check<'a>(checks: &'a [Check], name: &str) -> &'a Check {
    checks.iter().find(|check| check.name == name).unwrap_or_else(|| panic!("no {name}: {checks:?}"))
}

/// Inserts, updates of both kinds and deletes, and what they make of the ten orders.
fn writes() -> (Vec<Doc>, Vec<Vec<u8>>) {
    let entries = vec![
        oplog_insert(2, "shop.orders", id(900).text("x", "new")),
        // What had been read already is inserted again.
        oplog_insert(3, "shop.orders", id(4).text("x", "again")),
        set_x(4, 1, "set"),
        oplog_entry(5, "u", "shop.orders", id(2).text("y", "whole")).doc("o2", id(2)),
        oplog_entry(6, "d", "shop.orders", id(3)),
        oplog_entry(7, "d", "shop.orders", id(777)),
        oplog_insert(8, "config.cache", id(1)),
        oplog_entry(9, "n", "shop.orders", Doc::new().text("msg", "note")),
    ];
    let after = orders_with(|all| {
        all[1] = id(1).text("x", "set").build();
        all[2] = id(2).text("y", "whole").build();
        all[4] = id(4).text("x", "again").build();
        all[3] = id(900).text("x", "new").build();
    });
    (entries, after)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_written_during_the_backup_is_replayed_before_anything_takes_its_name() {
    let (entries, after) = writes();
    let read = backup(entries, Vec::new()).await;
    assert_eq!(count_of(&read.proof, ".oplog"), 9);
    let target = MongoWire::start(Script::replica_set("rs1")).await;
    let checks = restore(&target, "", &read.archive, RestoreOptions::default()).await.unwrap();
    assert_eq!(found(&target, "orders"), after);
    let oplog = check(&checks, "oplog");
    assert_eq!((oplog.status, &*oplog.figure), (Status::Pass, "6 changes"));
    assert!(oplog.detail.contains("1970-01-01T00:00:09Z"), "{}", oplog.detail);
    let all = target.all_seen();
    let last = all.iter().rposition(|seen| seen.command == "applyOps").unwrap();
    let renamed = all.iter().position(|seen| seen.command == "renameCollection").unwrap();
    assert!(last < renamed);
    let body = &all[last].body;
    assert_eq!(body.get_document("writeConcern").unwrap().get_str("w").unwrap(), "majority");
    for operation in body.get_array("applyOps").unwrap() {
        let operation = operation.unwrap().as_document().unwrap();
        assert!(operation.get_str("ns").unwrap().starts_with("shop.lifeboat_restore_"), "{operation:?}");
        assert!(operation.get("ui").unwrap().is_none() && operation.get("ts").unwrap().is_none());
    }
    assert_eq!(target.with_store(|store| store.databases()), ["shop"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_makes_the_same_as_that_of_mongorestore() {
    let (entries, after) = writes();
    let server = MongoWire::start(source(entries.clone(), Vec::new())).await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("all.archive");
    // Ours by theirs.
    std::fs::write(&path, backup(entries, Vec::new()).await.archive).unwrap();
    let target = MongoWire::start(Script::standalone()).await;
    let (uri, archive) = (format!("--uri={}", target.url()), format!("--archive={}", path.display()));
    tokio::task::spawn_blocking(move || mongorestore(&[&uri, &archive, "--oplogReplay"]).unwrap()).await.unwrap();
    assert_eq!(found(&target, "orders"), after);
    // Theirs by ours.
    let uri = format!("--uri={}", server.url());
    let dumped = tokio::task::spawn_blocking(move || mongodump(&[&uri, "--oplog", "--archive"])).await.unwrap();
    let target = MongoWire::start(Script::standalone()).await;
    restore(&target, "", &dumped, RestoreOptions::default()).await.unwrap();
    assert_eq!(found(&target, "orders"), after);
}

/// A part of a transaction.
fn part(seconds: u32, number: i64, o: Doc) -> Doc {
    oplog_entry(seconds, "c", "admin.$cmd", o).doc("lsid", Doc::new().int32("id", 1)).int64("txnNumber", number)
}

fn writes_of(documents: &[i32]) -> Doc {
    let insert = |n: &i32| Doc::new().text("op", "i").text("ns", "shop.orders").doc("o", id(*n));
    Doc::new().docs("applyOps", documents.iter().map(insert))
}

#[tokio::test(flavor = "multi_thread")]
async fn of_transactions_only_what_was_committed_is_replayed_and_when_it_was() {
    let entries = vec![
        // In one entry.
        part(2, 1, writes_of(&[101, 102])),
        // In several, with another's between them.
        part(3, 2, writes_of(&[201]).bool("partialTxn", true)),
        part(4, 3, writes_of(&[301]).bool("prepare", true)),
        part(5, 2, writes_of(&[202])),
        // Prepared and committed; what is written before the commit comes before it.
        oplog_insert(6, "shop.orders", id(301).text("x", "before")),
        part(7, 3, Doc::new().int32("commitTransaction", 1)),
        // Prepared and given up; and one that is still open.
        part(8, 4, writes_of(&[401]).bool("prepare", true)),
        part(9, 4, Doc::new().int32("abortTransaction", 1)),
        part(10, 5, writes_of(&[501]).bool("prepare", true)),
        // Inserts of a retryable write look like a transaction.
        part(11, 6, writes_of(&[601, 602])).int32("multiOpType", 1),
    ];
    let read = backup(entries, Vec::new()).await;
    let target = MongoWire::start(Script::standalone()).await;
    restore(&target, "", &read.archive, RestoreOptions::default()).await.unwrap();
    let made = [101, 102, 201, 202, 301, 601, 602].map(|n| id(n).build());
    assert_eq!(found(&target, "orders"), orders_with(|all| all.extend(made)));
    // The end of one whose beginning is not there.
    let read = backup(vec![part(2, 9, Doc::new().int32("commitTransaction", 1))], Vec::new()).await;
    let target = MongoWire::start(Script::standalone()).await;
    let error = restore(&target, "", &read.archive, RestoreOptions::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn collections_views_and_indexes_that_were_made_or_dropped_are_so_afterwards() {
    let more = vec![
        Collection::new("shop", "old").documents(documents(3)),
        Collection::new("gone", "things").documents(documents(3)),
        Collection::view("shop", "old_view", "orders"),
    ];
    let index = |name: &str| Doc::new().int32("v", 2).doc("key", Doc::new().int32(name, 1)).text("name", name);
    let view = Doc::new().text("_id", "shop.open").text("viewOn", "orders").docs("pipeline", []);
    let entries = vec![
        command(
            2,
            Doc::new().text("create", "new").bool("capped", true).int32("size", 4096).doc("idIndex", index("_id_")),
        ),
        oplog_insert(3, "shop.new", id(1)),
        command(4, Doc::new().text("drop", "old")),
        oplog_entry(5, "c", "gone.$cmd", Doc::new().int32("dropDatabase", 1)),
        command(
            6,
            Doc::new()
                .text("createIndexes", "orders")
                .int32("v", 2)
                .doc("key", Doc::new().int32("a", 1))
                .text("name", "a"),
        ),
        command(7, Doc::new().text("startIndexBuild", "orders").docs("indexes", [index("b")])),
        command(8, Doc::new().text("commitIndexBuild", "orders").docs("indexes", [index("b"), index("c")])),
        command(9, Doc::new().text("dropIndexes", "orders").text("index", "x_b")),
        command(
            10,
            Doc::new()
                .text("collMod", "orders")
                .doc("index", Doc::new().text("name", "c").int32("expireAfterSeconds", 60)),
        ),
        oplog_insert(11, "shop.system.views", view),
        oplog_entry(12, "d", "shop.system.views", Doc::new().text("_id", "shop.old_view")),
        // One that came and went before anything was listed.
        oplog_insert(13, "shop.short", id(1)),
        command(14, Doc::new().text("drop", "short")),
        // And one that is in no archive.
        oplog_insert(15, "shop.stranger", id(1)),
    ];
    let read = backup(entries, more).await;
    let target = MongoWire::start(Script::standalone()).await;
    let checks = restore(&target, "", &read.archive, RestoreOptions::default()).await.unwrap();
    let names: Vec<String> = content(&target, "shop").into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["new", "open", "orders"]);
    assert_eq!(target.with_store(|store| store.databases()), ["shop"]);
    assert_eq!(found(&target, "new"), [id(1).build()]);
    let built = target.seen("createIndexes");
    let built = built.iter().find(|seen| seen.body.get_array("indexes").is_ok()).unwrap();
    let names: Vec<(String, bool)> = built
        .body
        .get_array("indexes")
        .unwrap()
        .into_iter()
        .map(|index| {
            let index = index.unwrap().as_document().unwrap().to_owned();
            (index.get_str("name").unwrap().to_owned(), index.get("expireAfterSeconds").unwrap().is_some())
        })
        .collect();
    assert_eq!(names, [("a".to_owned(), false), ("b".to_owned(), false), ("c".to_owned(), true)]);
    let left_out = checks.iter().find(|c| c.status == Status::Warn).unwrap();
    assert!(left_out.detail.contains("1 change") && left_out.detail.contains("shop.stranger"), "{}", left_out.detail);
    // A restore test carries out the same, and compares what the archive itself holds.
    let scratch = MongoWire::start(Script::standalone()).await;
    let checks = verify(&scratch, &read.archive, Some(read.proof)).await;
    assert!(checks.iter().all(|c| c.status != Status::Fail), "{checks:?}");
    assert!(check(&checks, "oplog").detail.contains("1970-01-01T00:00:15Z"));
    assert_eq!(scratch.with_store(|store| store.databases()), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn chosen_and_renamed_collections_get_their_part_of_the_oplog() {
    let (mut entries, after) = writes();
    entries.push(oplog_insert(20, "shop.people", id(5)));
    let read = backup(entries, vec![Collection::new("shop", "people").documents(documents(2))]).await;
    let target = MongoWire::start(Script::standalone()).await;
    let options = RestoreOptions::default()
        .collections(vec!["shop.orders".to_owned()])
        .ns_from(vec!["shop.*".to_owned()])
        .ns_to(vec!["copy.x_*".to_owned()]);
    let checks = restore(&target, "", &read.archive, options).await.unwrap();
    assert_eq!(content(&target, "copy"), [("x_orders".to_owned(), after)]);
    assert_eq!(check(&checks, "oplog").figure, "6 changes");
    assert!(checks.iter().all(|c| c.status != Status::Warn), "{checks:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_that_fails_leaves_what_was_there_and_names_the_entry() {
    let (entries, _) = writes();
    let read = backup(entries, Vec::new()).await;
    let fail = || Effect::Fail(1, "InternalError", "the disk is full");
    // What is refused is asked for again, one by one.
    for (what, times, effect) in
        [("refused", 2, fail()), ("cut", 1, Effect::Cut), ("cut within an answer", 1, Effect::CutWithin)]
    {
        let there = Script::standalone().collection(orders(1));
        // The first asks whether the server can.
        let script = (0..times).fold(there, |script, n| script.at("applyOps", "", 2 + n, effect.clone()));
        let target = MongoWire::start(script).await;
        let options = RestoreOptions::default().replace(true);
        let error = restore(&target, "", &read.archive, options).await.unwrap_err();
        assert_eq!(error.subject(), "i in shop.orders at 1970-01-01T00:00:02Z (2:1)", "{what}: {error}");
        assert_eq!(content(&target, "shop"), [("orders".to_owned(), documents(1))], "{what}");
    }
    // The archive ends, or is another, in its oplog.
    for (what, archive) in [
        ("cut", read.archive[..read.archive.len() - 200].to_vec()),
        ("altered", {
            let mut altered = read.archive.clone();
            let at = altered.windows(5).rposition(|w| w == b"whole").unwrap();
            altered[at] = b'W';
            altered
        }),
    ] {
        let target = MongoWire::start(Script::standalone().collection(orders(1))).await;
        let options = RestoreOptions::default().replace(true);
        let error = restore(&target, "", &archive, options).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{what}: {error}");
        assert_eq!(content(&target, "shop"), [("orders".to_owned(), documents(1))], "{what}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_applied_at_once_is_applied_one_by_one() {
    let (entries, after) = writes();
    let read = backup(entries, Vec::new()).await;
    let atomic = Effect::Fail(20, "IllegalOperation", "cannot apply this atomically");
    let target = MongoWire::start(Script::standalone().at("applyOps", "", 2, atomic)).await;
    restore(&target, "", &read.archive, RestoreOptions::default()).await.unwrap();
    assert_eq!(found(&target, "orders"), after);
    assert_eq!(target.seen("applyOps").len(), 2 + 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn entries_that_cannot_be_replayed_are_refused_by_name() {
    for o in [
        Doc::new().text("renameCollection", "shop.orders").text("to", "shop.other"),
        Doc::new().text("convertToCapped", "orders"),
    ] {
        // A backup of ours gives up on some of them: the archive is put together without looking.
        let server = MongoWire::start(source(vec![command(2, o)], Vec::new())).await;
        let uri = format!("--uri={}", server.url());
        let dumped = tokio::task::spawn_blocking(move || {
            std::panic::catch_unwind(|| mongodump(&[&uri, "--oplog", "--archive"]))
        });
        // mongodump gives up on renames, too.
        let Ok(dumped) = dumped.await.unwrap() else { continue };
        let target = MongoWire::start(Script::standalone()).await;
        let error = restore(&target, "", &dumped, RestoreOptions::default()).await.unwrap_err();
        assert_eq!(
            (error.kind(), error.subject()),
            (ErrorKind::Unsupported, "c convertToCapped in shop.$cmd at 1970-01-01T00:00:02Z (2:1)")
        );
        assert_eq!(content(&target, "shop"), []);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_that_was_read_twice_is_as_the_oplog_has_it_and_otherwise_fails_the_restore() {
    // 4 was deleted and inserted again while a cursor went on: it came at its old place, and at the new one.
    let mut read_twice = documents(10);
    read_twice.push(id(4).text("x", "new").build());
    let orders = || Collection::new("shop", "more").documents(read_twice.clone());
    let settles = vec![oplog_entry(2, "d", "shop.more", id(4)), oplog_insert(3, "shop.more", id(4).text("x", "new"))];
    let read = backup(settles, vec![orders()]).await;
    assert_eq!(count_of(&read.proof, "shop.more"), 11);
    let target = MongoWire::start(Script::standalone()).await;
    let checks = restore(&target, "", &read.archive, RestoreOptions::default()).await.unwrap();
    assert_eq!(found(&target, "more"), orders_with(|all| all[4] = id(4).text("x", "new").build()));
    assert!(check(&checks, "oplog").detail.contains("1 document that had been read twice"));
    let scratch = MongoWire::start(Script::standalone()).await;
    let checks = verify(&scratch, &read.archive, Some(read.proof)).await;
    assert!(checks.iter().all(|c| c.status != Status::Fail), "{checks:?}");
    // Without a word of it in the oplog, or without the oplog, nobody knows which one is right.
    let silent = backup(vec![set_x(2, 1, "set")], vec![orders()]).await;
    for (archive, no_oplog_replay) in [(&silent.archive, false), (&read.archive, true)] {
        let target = MongoWire::start(Script::standalone()).await;
        let options = RestoreOptions::default().no_oplog_replay(no_oplog_replay);
        let error = restore(&target, "", archive, options).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Mismatch, "{error}");
        assert_eq!(content(&target, "shop"), []);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_cannot_replay_is_told_before_anything_is_written() {
    let (entries, _) = writes();
    let read = backup(entries, Vec::new()).await;
    let unknown = Effect::Fail(59, "CommandNotFound", "no such command: 'applyOps'");
    let forbidden = Effect::Fail(13, "Unauthorized", "not authorized on admin to execute command");
    for (effect, kind) in [(unknown.clone(), ErrorKind::Unsupported), (forbidden, ErrorKind::Permission)] {
        let target = MongoWire::start(Script::standalone().always("applyOps", "", effect)).await;
        let error = restore(&target, "", &read.archive, RestoreOptions::default()).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.advice().unwrap().contains("--no-oplog-replay"));
        assert!(target.seen("create").is_empty());
    }
    let target = MongoWire::start(Script::standalone().always("applyOps", "", unknown.clone())).await;
    let options = RestoreOptions::default().no_oplog_replay(true);
    let checks = restore(&target, "", &read.archive, options).await.unwrap();
    assert_eq!(check(&checks, "oplog").status, Status::Warn);
    assert_eq!(found(&target, "orders"), documents(10));
    // A restore test in such a server says what it could not show.
    let scratch = MongoWire::start(Script::standalone().always("applyOps", "", unknown)).await;
    let checks = verify(&scratch, &read.archive, Some(read.proof)).await;
    assert_eq!(check(&checks, "oplog").status, Status::Warn);
    assert!(checks.iter().all(|c| c.status != Status::Fail), "{checks:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_of_many_entries_goes_in_batches() {
    let entries = (0..1_203).map(|n| oplog_insert(n + 2, "shop.orders", id(n as i32 + 1_000))).collect();
    let read = backup(entries, Vec::new()).await;
    let target = MongoWire::start(Script::standalone()).await;
    let checks = restore(&target, "", &read.archive, RestoreOptions::default()).await.unwrap();
    assert_eq!(check(&checks, "oplog").figure, "1203 changes");
    assert_eq!(found(&target, "orders").len(), 1_213);
    assert_eq!(target.seen("applyOps").len(), 1 + 3);
}
