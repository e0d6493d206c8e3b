//! What no MongoDB-compatible server at hand can do or be made to do, at the protocol: snapshots, the oplog, time series, cursors
//! that die, collections that come and go, servers that refuse a field.
#![cfg(feature = "mongodb")]
#![allow(clippy::unwrap_used, missing_docs)]

mod mongo;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use lifeboat_backends::mongodb::archive::{ArchiveTap, Inside};
use lifeboat_backends::mongodb::{
    Consistency, Mongo, MongoSettings, MongoVerifier, RestoreOptions, VerifierOptions, stock_restore,
};
use lifeboat_core::{ArtifactName, Context, Error, ErrorKind, Proof, Source, Status, Tap, Verifier};
use lifeboat_testkit::conformance;
use lifeboat_testkit::documents::{Doc, odd, odd_collection_names, of_size};
use lifeboat_testkit::mongo::mongorestore;
use lifeboat_testkit::mongo_wire::{
    CURSOR_NOT_FOUND, Collection, Effect, MongoWire, QUERY_PLAN_KILLED, SNAPSHOT_TOO_OLD, Script, Store, oplog_insert,
};
use mongo::{connection, content, count_of, documents, input, orders, read, read_with, restore, verify};

/// `shop.orders` with more than a cursor asks for in one batch, whether the server answers soon or not.
fn two_batches() -> Collection {
    Collection::new("shop", "orders").documents((0..60).map(|id| of_size(id, 100 << 10)))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_keeps_what_its_trait_promises() {
    let server = MongoWire::start(Script::standalone().collection(orders(60_000))).await;
    conformance::source::all(&Mongo::new(connection(&server, "shop"))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_estimate_is_of_what_is_chosen_and_asks_once_for_a_whole_database() {
    let script = Script::standalone()
        .collection(orders(1000))
        .collection(Collection::new("shop", "events").documents(documents(3000)))
        .collection(Collection::view("shop", "seen", "orders"))
        .collection(Collection::new("blog", "posts").documents(documents(10)));
    let server = MongoWire::start(script).await;
    let bytes = |count: i32| documents(count).iter().map(|d| d.len() as u64).sum::<u64>();
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let only = |of: &[&str]| MongoSettings::default().collections(names(of));
    let without = |of: &[&str]| MongoSettings::default().exclude_collections(names(of));
    let query =
        MongoSettings::default().queries(vec![lifeboat_backends::mongodb::Query::new("orders", "{\"_id\": 1}")]);
    for (database, options, expected, asked) in [
        ("shop", MongoSettings::default(), Some(bytes(1000) + bytes(3000)), (1, 0)),
        (
            "",
            MongoSettings::default().users_and_roles(Some(false)),
            Some(bytes(1000) + bytes(3000) + bytes(10)),
            (2, 0),
        ),
        ("shop", only(&["orders", "seen"]), Some(bytes(1000)), (0, 1)),
        ("shop", without(&["orders"]), Some(bytes(3000)), (0, 1)),
        // How many documents a query takes, no statistics say.
        ("shop", query, None, (0, 0)),
    ] {
        let before = (server.seen("dbStats").len(), server.seen("collStats").len());
        let source = Mongo::new(connection(&server, database)).options(options).unwrap();
        assert_eq!(source.estimate().await.unwrap().map(|estimate| estimate.bytes), expected, "{database}");
        let after = (server.seen("dbStats").len(), server.seen("collStats").len());
        assert_eq!((after.0 - before.0, after.1 - before.1), asked, "{database}");
    }
}

/// The documents of a collection, read alone out of an archive.
fn alone(archive: &[u8], collection: &str) -> lifeboat_core::Result<Vec<u8>> {
    let mut documents = Vec::new();
    let mut out = |bytes: &[u8]| {
        documents.extend_from_slice(bytes);
        Ok(())
    };
    let name = "shop-20261121-033000.archive".parse().unwrap();
    let mut extract = MongoVerifier::default().extract(&name, collection, None)?;
    for chunk in archive.chunks(70_001) {
        extract.take(chunk, &mut out)?;
    }
    extract.end(&mut out)?;
    Ok(documents)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collection_is_read_alone_out_of_an_archive() {
    let script = Script::standalone()
        .collection(two_batches())
        .collection(Collection::new("shop", "a.b").documents(documents(300)))
        .collection(Collection::new("shop", "nothing"))
        .collection(Collection::view("shop", "seen", "orders"));
    let server = MongoWire::start(script).await;
    let read = read(&server).await.unwrap();
    let stored = content(&server, "shop");
    for (name, expected) in stored.iter().filter(|(name, _)| name != "seen") {
        // In the order of the server, which is that of their numbers here.
        let bytes = alone(&read.archive, &format!("shop.{name}")).unwrap();
        let (mut found, mut rest) = (Vec::new(), &bytes[..]);
        while let Some(length) = rest.first_chunk::<4>() {
            let (document, after) = rest.split_at(u32::from_le_bytes(*length) as usize);
            found.push(document.to_vec());
            rest = after;
        }
        found.sort();
        assert!(found == *expected, "{name}");
    }
    for (name, near) in [("shop.order", "near it: shop.orders"), ("shop.seen", "shop.orders")] {
        let error = alone(&read.archive, name).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
        assert!(error.advice().unwrap().contains(near), "{error:?}");
    }
    for cut in [read.archive.len() / 2, read.archive.len() - 1] {
        assert_eq!(alone(&read.archive[..cut], "shop.nothing").unwrap_err().kind(), ErrorKind::Corrupt, "cut to {cut}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_set_is_read_as_of_one_time() {
    let more = Collection::new("shop", "people").documents(documents(300));
    let script = Script::replica_set("rs0").collection(orders(500)).collection(more);
    let server = MongoWire::start(script).await;
    let read = read(&server).await.unwrap();
    assert_eq!((count_of(&read.proof, "shop.orders"), count_of(&read.proof, "shop.people")), (500, 300));
    assert!(read.notes.is_empty(), "{:?}", read.notes);
    let finds: Vec<_> =
        server.seen("find").into_iter().filter(|seen| seen.body.get_bool("singleBatch").is_err()).collect();
    assert_eq!(finds.len(), 2);
    let at = |seen: &lifeboat_testkit::mongo_wire::Seen| {
        let concern = seen.body.get_document("readConcern").unwrap().to_owned();
        (concern.get_str("level").unwrap().to_owned(), concern.get_timestamp("atClusterTime").unwrap())
    };
    assert_eq!(at(&finds[0]).0, "snapshot");
    assert_eq!(at(&finds[0]), at(&finds[1]));
    assert!(read.proof.details["consistency"].as_str().unwrap().starts_with("snapshot"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_refuses_snapshots_is_read_with_a_note_or_not_at_all() {
    let server = MongoWire::start(Script::replica_set("rs0").without_snapshots().collection(orders(50))).await;
    let done = read(&server).await.unwrap();
    assert!(done.notes.iter().any(|n| n.contains("not from the same time")), "{:?}", done.notes);
    let strict = MongoSettings::default().consistency(Consistency::Snapshot);
    assert!(read_with(&server, "shop", strict).await.is_err());
    let alone = MongoWire::start(Script::standalone().collection(orders(5))).await;
    let done = read(&alone).await.unwrap();
    assert!(done.notes[0].contains("standalone"), "{:?}", done.notes);
    let facts = Mongo::new(connection(&alone, "shop")).describe().await.unwrap().facts;
    assert!(facts["consistency"].contains("standalone"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_that_dies_fails_the_backup_whatever_kills_it() {
    for (what, effect) in [
        ("cut", Effect::Cut),
        ("cut within an answer", Effect::CutWithin),
        ("timed out", CURSOR_NOT_FOUND),
        ("dropped", QUERY_PLAN_KILLED),
        ("snapshot too old", SNAPSHOT_TOO_OLD),
        ("unknown", Effect::Fail(1, "InternalError", "something")),
    ] {
        let script = Script::replica_set("rs0").collection(two_batches()).at("getMore", "orders", 1, effect);
        let server = MongoWire::start(script).await;
        let error = read(&server).await.err().unwrap_or_else(|| panic!("{what}: a backup was made"));
        assert!(error.to_string().contains("shop.orders"), "{what}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_oplog_is_copied_from_before_the_first_read_to_after_the_last() {
    let entries: Vec<Vec<u8>> =
        (1..=5).map(|n| oplog_insert(n, "shop.orders", Doc::new().int32("_id", n as i32)).build()).collect();
    let oplog = Collection::new("local", "oplog.rs").documents(entries);
    let script = Script::replica_set("rs0").collection(orders(10)).collection(oplog.clone());
    // What is written while the collections are read.
    let write = Effect::Do(Arc::new(|store: &mut Store| {
        let late = oplog_insert(9, "shop.orders", Doc::new().int32("_id", 900)).build();
        store.get_mut("local", "oplog.rs").unwrap().documents.push(late);
    }));
    let options = MongoSettings::default().oplog(true);
    let server = MongoWire::start(script.clone().at("find", "orders", 1, write)).await;
    let read = read_with(&server, "", options.clone()).await.unwrap();
    // The newest of before and the late one.
    assert_eq!(count_of(&read.proof, ".oplog"), 2);
    // mongorestore has to be told of it.
    let name = ArtifactName::parse("all-databases-20261121-120000.archive").unwrap();
    let source = Mongo::new(connection(&server, "")).options(options.clone()).unwrap();
    let facts = source.describe().await.unwrap().facts;
    assert!(stock_restore(&name, Some(&facts)).contains("--oplogReplay"));
    let facts = Mongo::new(connection(&server, "")).describe().await.unwrap().facts;
    assert!(!stock_restore(&name, Some(&facts)).contains("--oplogReplay"));
    // And when the oldest was overwritten meanwhile, there is none.
    let overflow = Effect::Do(Arc::new(|store: &mut Store| {
        store.get_mut("local", "oplog.rs").unwrap().documents.drain(..5);
        let late = oplog_insert(9, "shop.orders", Doc::new()).build();
        store.get_mut("local", "oplog.rs").unwrap().documents.push(late);
    }));
    let server = MongoWire::start(script.at("find", "orders", 1, overflow)).await;
    let error = read_with(&server, "", options).await.err().unwrap();
    assert!(error.message().contains("overwritten"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn collections_that_come_and_go_while_it_runs_are_told() {
    let drop_and_make = Effect::Do(Arc::new(|store: &mut Store| {
        store.drop_collection("shop", "gone");
        store.put(Collection::new("shop", "new").documents(documents(1)));
    }));
    let script = Script::standalone()
        .collection(orders(10))
        .collection(Collection::new("shop", "gone").documents(documents(3)))
        .at("find", "gone", 1, drop_and_make);
    let server = MongoWire::start(script).await;
    let read = read(&server).await.unwrap();
    assert!(read.notes.iter().any(|n| n.contains("without documents") && n.contains("shop.gone")), "{:?}", read.notes);
    assert!(read.notes.iter().any(|n| n.contains("created") && n.contains("shop.new")), "{:?}", read.notes);
    assert_eq!(count_of(&read.proof, "shop.gone"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collection_that_is_replaced_while_it_runs_fails_the_backup() {
    let replace = Effect::Do(Arc::new(|store: &mut Store| {
        // Another name gives another UUID.
        store.put(Collection::new("shop", "next").documents(documents(1)));
        let next = store.get("shop", "next").unwrap().clone();
        store.put(next.named("orders"));
        store.drop_collection("shop", "next");
    }));
    let server = MongoWire::start(Script::standalone().collection(orders(10)).at("find", "orders", 1, replace)).await;
    let error = read(&server).await.err().unwrap();
    assert!(error.message().contains("replaced"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn views_time_series_capped_collections_and_odd_documents_come_back() {
    let options = Doc::new().bool("capped", true).int32("size", 4096).doc("collation", Doc::new().text("locale", "de"));
    let script = Script::standalone()
        .collection(orders(300))
        .collection(Collection::new("shop", "log").options(options).documents(documents(20)))
        .collection(Collection::view("shop", "open", "orders"))
        .collection(Collection::timeseries("shop", "weather", "at"))
        .collection(Collection::new("shop", "system.buckets.weather").documents(documents(7)))
        .collection(Collection::new("shop", "odd").documents(odd().into_iter().map(|(_, d)| d)));
    let server = MongoWire::start(script).await;
    let read = read(&server).await.unwrap();
    assert_eq!(count_of(&read.proof, "shop.weather"), 7);
    let before = content(&server, "shop");
    let target = MongoWire::start(Script::standalone()).await;
    restore(&target, "shop", &read.archive, RestoreOptions::default()).await.unwrap();
    assert_eq!(content(&target, "shop"), before);
    // And again from the target: options and indexes as well.
    let again = read_with(&target, "shop", MongoSettings::default()).await.unwrap();
    let metadata = |proof: &Proof| -> Vec<(String, Option<String>)> {
        let mut all: Vec<_> = proof.items.iter().map(|i| (format!("{} {}", i.kind, i.name), i.value.clone())).collect();
        all.sort();
        all
    };
    assert_eq!(metadata(&again.proof), metadata(&read.proof));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_collections_and_unusual_names_come_back() {
    let mut script = Script::standalone();
    for n in 0..1000 {
        script = script.collection(Collection::new("shop", &format!("c{n}")).documents(documents(n % 3)));
    }
    for name in odd_collection_names() {
        script = script.collection(Collection::new("shop", &name).documents(documents(2)));
    }
    let server = MongoWire::start(script).await;
    let read = read(&server).await.unwrap();
    let target = MongoWire::start(Script::standalone()).await;
    restore(&target, "shop", &read.archive, RestoreOptions::default()).await.unwrap();
    assert_eq!(content(&target, "shop"), content(&server, "shop"));
}

#[tokio::test(flavor = "multi_thread")]
async fn documents_of_16_mib_come_back() {
    let large = (0..3).map(|n| of_size(n, 16 << 20));
    let server =
        MongoWire::start(Script::standalone().collection(Collection::new("shop", "large").documents(large))).await;
    let read = read(&server).await.unwrap();
    let target = MongoWire::start(Script::standalone()).await;
    restore(&target, "shop", &read.archive, RestoreOptions::default()).await.unwrap();
    assert!(content(&target, "shop") == content(&server, "shop"));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_batch_is_a_small_one_and_the_first_too() {
    let server = MongoWire::start(Script::standalone().collection(two_batches())).await;
    assert_eq!(count_of(&read(&server).await.unwrap().proof, "shop.orders"), 60);
    for command in ["find", "getMore"] {
        let seen = server.seen(command);
        assert!(!seen.is_empty());
        for request in seen {
            let asked = request.body.get("batchSize").unwrap().and_then(|n| n.as_i64().or(n.as_i32().map(i64::from)));
            // 1 MiB, or 4 MiB where the server took its time to answer.
            assert!(asked.is_some_and(|n| (1..=41).contains(&n)), "{command}: {asked:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn duplicate_keys_are_counted_and_what_was_there_stays() {
    let mut twice = documents(10);
    twice.extend(documents(3));
    let server =
        MongoWire::start(Script::standalone().collection(Collection::new("shop", "orders").documents(twice))).await;
    let read = read(&server).await.unwrap();
    let target = MongoWire::start(Script::standalone().collection(orders(1))).await;
    let options = RestoreOptions::default().replace(true);
    let error = restore(&target, "shop", &read.archive, options).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Mismatch);
    assert!(error.message().contains("3 documents with a key"), "{error}");
    assert_eq!(content(&target, "shop"), [("orders".to_owned(), documents(1))]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_that_fails_at_any_step_leaves_what_was_there() {
    let index = Doc::new().int32("v", 2).doc("key", Doc::new().int32("b", -1)).text("name", "b");
    let server = MongoWire::start(Script::standalone().collection(two_batches().index(index))).await;
    let read = read(&server).await.unwrap();
    let fail = || Effect::Fail(1, "InternalError", "the disk is full");
    for (command, effect) in [
        ("create", fail()),
        ("insert", fail()),
        ("insert", Effect::Cut),
        ("createIndexes", fail()),
        ("find", fail()),
        ("getMore", Effect::Cut),
        ("renameCollection", fail()),
    ] {
        let script = Script::standalone().collection(orders(1)).at(command, "", 1, effect);
        let target = MongoWire::start(script).await;
        let options = RestoreOptions::default().replace(true);
        let done = restore(&target, "shop", &read.archive, options).await;
        assert!(done.is_err(), "{command}");
        assert_eq!(content(&target, "shop"), [("orders".to_owned(), documents(1))], "{command}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_with_a_flipped_bit_or_cut_short_is_not_restored() {
    let server = MongoWire::start(Script::standalone().collection(orders(200))).await;
    let archive = read(&server).await.unwrap().archive;
    let target = MongoWire::start(Script::standalone().collection(orders(1))).await;
    let mut flipped = archive.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 4;
    for bad in [&flipped[..], &archive[..archive.len() - 4], &archive[..middle], b"hello", b""] {
        let options = RestoreOptions::default().replace(true);
        let error = restore(&target, "shop", bad, options).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
        assert_eq!(content(&target, "shop"), [("orders".to_owned(), documents(1))]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fields_that_a_server_refuses_are_left_out() {
    let empty = Doc::new().int32("_id", 1).raw(0x11, "t", &[0; 8]).build();
    let options = Doc::new().doc("validator", Doc::new().doc("a", Doc::new().bool("$exists", true)));
    let source = Collection::new("shop", "orders").options(options).documents([empty]);
    let server = MongoWire::start(Script::standalone().version("8.0.1").collection(source)).await;
    let read = read(&server).await.unwrap();
    for field in ["bypassEmptyTsReplacement", "bypassDocumentValidation", "dropTarget"] {
        let script = Script::standalone().version("8.0.1").collection(orders(2)).refuse_field(field);
        let target = MongoWire::start(script).await;
        let options = RestoreOptions::default().replace(true);
        restore(&target, "shop", &read.archive, options).await.unwrap_or_else(|e| panic!("{field}: {e}"));
        assert_eq!(content(&target, "shop"), content(&server, "shop"), "{field}");
    }
    let target = MongoWire::start(Script::standalone().version("8.0.1")).await;
    restore(&target, "shop", &read.archive, RestoreOptions::default()).await.unwrap();
    let insert = &target.seen("insert")[0].body;
    assert!(
        insert.get_bool("bypassEmptyTsReplacement").unwrap() && insert.get_bool("bypassDocumentValidation").unwrap()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_test_compares_content_and_leaves_nothing_behind() {
    let view = Collection::view("shop", "open", "orders");
    let server = MongoWire::start(Script::standalone().collection(orders(500)).collection(view)).await;
    let read = read(&server).await.unwrap();
    let script = Script::standalone().collection(Collection::new("theirs", "precious").documents(documents(1)));
    let scratch = MongoWire::start(script.clone()).await;
    let checks = verify(&scratch, &read.archive, Some(read.proof.clone())).await;
    assert!(checks.iter().all(|c| c.status != Status::Fail), "{checks:?}");
    assert_eq!(scratch.with_store(|store| store.databases()), ["theirs"]);
    // A server that loses a document, or changes one, is found out.
    for (what, spoil) in [("lost", true), ("changed", false)] {
        let effect = Effect::Do(Arc::new(move |store: &mut Store| {
            let db = store.databases().into_iter().find(|db| db.ends_with("_1")).unwrap();
            let orders = store.get_mut(&db, "orders").unwrap();
            if spoil {
                orders.documents.pop();
            } else {
                orders.documents[7] = Doc::new().int32("_id", 7).text("x", "y7").build();
            }
        }));
        // The first `find` of orders reads back.
        let scratch = MongoWire::start(script.clone().at("find", "orders", 1, effect)).await;
        let checks = verify(&scratch, &read.archive, Some(read.proof.clone())).await;
        let failed = checks.iter().find(|c| c.status == Status::Fail).unwrap_or_else(|| panic!("{what}: {checks:?}"));
        assert!(failed.name.contains("shop.orders"), "{what}: {failed:?}");
        assert_eq!(scratch.with_store(|store| store.databases()), ["theirs"], "{what}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_scratch_server_lacks_is_no_verdict() {
    let index = Doc::new().int32("v", 2).doc("key", Doc::new().int32("b", -1)).text("name", "b");
    let server = MongoWire::start(Script::standalone().collection(two_batches().index(index))).await;
    let read = read(&server).await.unwrap();
    let full = || Effect::Fail(14_031, "OutOfDiskSpace", "available disk space is less than required");
    let engine = || Effect::Fail(8, "UnknownError", "28: No space left on device");
    for (command, effect, figure) in [
        ("insert", full(), Some("disk full")),
        ("insert", engine(), Some("disk full")),
        ("create", full(), Some("disk full")),
        ("createIndexes", full(), Some("disk full")),
        ("insert", Effect::Fail(121, "DocumentValidationFailure", "it is refused"), None),
    ] {
        let scratch = MongoWire::start(Script::standalone().always(command, "orders", effect)).await;
        let checks = verify(&scratch, &read.archive, Some(read.proof.clone())).await;
        let worst = checks.iter().max_by_key(|check| check.status).unwrap();
        match figure {
            Some(figure) => assert_eq!((worst.status, &*worst.figure), (Status::Untested, figure), "{checks:?}"),
            None => assert_eq!(worst.status, Status::Fail, "{checks:?}"),
        }
    }
    // One that dies in the middle: nothing answers any more.
    let script = Script::standalone().always("insert", "orders", Effect::Cut).always("ping", "", Effect::Cut);
    let checks = verify(&MongoWire::start(script).await, &read.archive, Some(read.proof.clone())).await;
    let worst = checks.iter().max_by_key(|check| check.status).unwrap();
    assert_eq!((worst.status, &*worst.figure), (Status::Untested, "server ended"), "{checks:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_test_sweeps_what_a_killed_one_has_left_and_nothing_else() {
    let server = MongoWire::start(Script::standalone().collection(orders(5))).await;
    let read = read(&server).await.unwrap();
    let old =
        Doc::new().int32("_id", 1).text("owner", "elsewhere").int64("pid", 1).raw(0x09, "started", &0i64.to_le_bytes());
    let now = bson::DateTime::now().timestamp_millis();
    let young =
        Doc::new().int32("_id", 1).text("owner", "elsewhere").int64("pid", 1).raw(0x09, "started", &now.to_le_bytes());
    let left = |stem: &str, marker: Doc| {
        [
            Collection::new(&format!("{stem}_0"), "lifeboat_owner").documents([marker.build()]),
            Collection::new(&format!("{stem}_1"), "orders").documents(documents(1)),
        ]
    };
    let mut script =
        Script::standalone().collection(Collection::new("lifeboat_scratch_mine", "x").documents(documents(1)));
    for collection in left("lifeboat_scratch_aaaaaaaa", old).into_iter().chain(left("lifeboat_scratch_bbbbbbbb", young))
    {
        script = script.collection(collection);
    }
    let scratch = MongoWire::start(script).await;
    verify(&scratch, &read.archive, None).await;
    let kept = ["lifeboat_scratch_bbbbbbbb_0", "lifeboat_scratch_bbbbbbbb_1", "lifeboat_scratch_mine"];
    assert_eq!(scratch.with_store(|store| store.databases()), kept);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_restore_test_drops_its_databases() {
    let server = MongoWire::start(Script::standalone().collection(orders(50))).await;
    let archive = read(&server).await.unwrap().archive;
    let scratch = MongoWire::start(Script::standalone()).await;
    let cx = Context::default();
    let cancel = cx.cancel.clone();
    let mut input = input(&archive, None);
    // Cancelled between two chunks.
    let half = archive.len() / 2;
    let chunks = vec![Bytes::copy_from_slice(&archive[..half]), Bytes::copy_from_slice(&archive[half..])];
    input.stream = futures::stream::iter(chunks.into_iter().enumerate())
        .map(move |(n, chunk)| {
            if n == 1 {
                cancel.cancel();
            }
            Ok::<_, Error>(chunk)
        })
        .boxed();
    let options = VerifierOptions::default().scratch(connection(&scratch, ""));
    let error = MongoVerifier::new(options).restore_test(input, &cx).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cancelled);
    assert_eq!(scratch.with_store(|store| store.databases()), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn mongorestore_gives_our_archives_their_options_and_indexes() {
    let options = Doc::new().bool("capped", true).int32("size", 4096);
    let script = Script::standalone()
        .collection(orders(100))
        .collection(Collection::new("shop", "log").options(options).documents(documents(20)))
        .collection(Collection::view("shop", "open", "orders"));
    let server = MongoWire::start(script).await;
    let first = read(&server).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("shop.archive");
    std::fs::write(&path, &first.archive).unwrap();
    let target = MongoWire::start(Script::standalone()).await;
    let (uri, archive) = (format!("--uri={}", target.url()), format!("--archive={}", path.display()));
    tokio::task::spawn_blocking(move || mongorestore(&[&uri, &archive]).unwrap()).await.unwrap();
    assert_eq!(content(&target, "shop"), content(&server, "shop"));
    let again = read(&target).await.unwrap();
    let values = |proof: &Proof| {
        let mut all: Vec<_> = proof.items.iter().filter_map(|i| Some((i.name.clone(), i.value.clone()?))).collect();
        all.sort();
        all
    };
    assert_eq!(values(&again.proof), values(&first.proof));
}

#[test]
fn the_structure_of_what_is_no_archive_is_told() {
    let mut tap = Box::new(ArchiveTap::new(Inside::Walked));
    assert!(tap.push(b"PGDMP is something else").is_err());
}

fn capped(max: i32) -> Doc {
    Doc::new().bool("capped", true).int32("size", 1 << 26).int32("max", max)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_capped_collection_keeps_its_order() {
    // Batches of a MiB: many of them.
    let log: Vec<_> = (0..40).map(|n| of_size(n, 300_000)).collect();
    let script = Script::standalone().collection(Collection::new("shop", "log").options(capped(1000)).documents(log));
    let server = MongoWire::start(script).await;
    let first = read(&server).await.unwrap();
    // The first batch takes its time: what comes after it must not overtake it.
    let slow = Effect::Late(Duration::from_millis(300));
    let target = MongoWire::start(Script::standalone().at("insert", "", 1, slow)).await;
    restore(&target, "shop", &first.archive, RestoreOptions::default()).await.unwrap();
    let in_order = |server: &MongoWire| server.with_store(|store| store.get("shop", "log").unwrap().documents.clone());
    assert!(in_order(&target) == in_order(&server));
    // The order is part of the proof.
    let turned = MongoWire::start(Script::standalone().collection(
        Collection::new("shop", "log").options(capped(1000)).documents(in_order(&server).into_iter().rev()),
    ))
    .await;
    let second = read(&turned).await.unwrap();
    let failed = |a: &Proof, b: &Proof| a.compare(b).iter().any(|check| check.status == Status::Fail);
    assert!(failed(&first.proof, &second.proof) && !failed(&first.proof, &read(&target).await.unwrap().proof));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_capped_collection_that_was_overwritten_while_it_was_read_is_no_failure() {
    let script = Script::standalone()
        .collection(Collection::new("shop", "log").options(capped(50)).documents((0..60).map(|n| of_size(n, 100))));
    let server = MongoWire::start(script).await;
    let read = read(&server).await.unwrap();
    assert_eq!(count_of(&read.proof, "shop.log"), 60);
    let target = MongoWire::start(Script::standalone()).await;
    restore(&target, "shop", &read.archive, RestoreOptions::default()).await.unwrap();
    let last: Vec<_> = (10..60).map(|n| of_size(n, 100)).collect();
    assert!(target.with_store(|store| store.get("shop", "log").unwrap().documents == last));
    let scratch = MongoWire::start(Script::standalone()).await;
    let checks = verify(&scratch, &read.archive, Some(read.proof.clone())).await;
    assert!(checks.iter().all(|check| check.status != Status::Fail), "{checks:?}");
    // Others than the last ones are a failure.
    let lose = Effect::Do(Arc::new(|store: &mut Store| {
        for db in store.databases() {
            if let Some(log) = store.get_mut(&db, "log") {
                log.documents.remove(30);
            }
        }
    }));
    let scratch = MongoWire::start(Script::standalone().at("find", "log", 1, lose)).await;
    let checks = verify(&scratch, &read.archive, Some(read.proof.clone())).await;
    assert!(checks.iter().any(|check| check.status == Status::Fail), "{checks:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn indexes_that_are_written_alike_are_told_apart() {
    let index =
        |name: &str, key: &str| Doc::new().int32("v", 2).doc("key", Doc::new().int32(key, 1)).text("name", name);
    let script = Script::standalone()
        .collection(Collection::new("shop", "a").index(index("b: c", "x")).documents(documents(3)))
        .collection(Collection::new("shop", "a: b").index(index("c", "y")).documents(documents(2)));
    let server = MongoWire::start(script).await;
    let read = read(&server).await.unwrap();
    let scratch = MongoWire::start(Script::standalone()).await;
    let checks = verify(&scratch, &read.archive, Some(read.proof.clone())).await;
    assert!(checks.iter().all(|check| check.status != Status::Fail), "{checks:?}");
    let target = MongoWire::start(Script::standalone()).await;
    restore(&target, "shop", &read.archive, RestoreOptions::default()).await.unwrap();
    assert_eq!(content(&target, "shop"), content(&server, "shop"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_falls_silent_is_left_after_the_limit() {
    // One that accepts and says nothing; one that says what it is to the driver, and answers no command of ours.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = listener.local_addr().unwrap();
    let hangs = Effect::Late(Duration::from_secs(3600));
    let server = MongoWire::start(Script::standalone().at("buildInfo", "", 1, hangs)).await;
    let answering = server.url().trim_start_matches("mongodb://").split('/').next().unwrap().to_owned();
    for address in [silent.to_string(), answering] {
        let url = format!("mongodb://{address}/shop?serverSelectionTimeoutMS=500&directConnection=true");
        let source = Mongo::new(lifeboat_backends::mongodb::Connection::parse(&url.into()).unwrap());
        let begun = std::time::Instant::now();
        let described = tokio::time::timeout(Duration::from_secs(60), source.describe()).await;
        let error = described.expect("it does not hang").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
        assert!(begun.elapsed() < Duration::from_secs(25), "{:?}", begun.elapsed());
    }
}
