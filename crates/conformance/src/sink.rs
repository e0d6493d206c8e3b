//! The conformance suite for [`Sink`].
//!
//! [`all`] runs the suite; a test of a single promise calls its function. Each function works in its own folder with a
//! random name, so that they can run concurrently in one sink, and removes what it has stored. The suite stores up to
//! 41 MiB at once, and about 400 MiB in total.
//!
//! ```
//! use lifeboat_conformance::MemorySink;
//!
//! # tokio::runtime::Runtime::new().unwrap().block_on(async {
//! lifeboat_conformance::sink::all(&MemorySink::new()).await;
//! # });
//! ```

use std::collections::BTreeSet;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use jiff::Timestamp;
use lifeboat_core::name::join_key;
use lifeboat_core::sink::{PutOptions, UPLOADS_FOLDER, upkeep};
use lifeboat_core::stream::{collect, once};
use lifeboat_core::{ErrorKind, ObjectInfo, Sink};

use crate::content::{bytes, endless_stream, failing_stream, failure, fresh_name, stream_of};

const MIB: usize = 1 << 20;

/// Runs the whole suite. The sink must be opened without a lock.
pub async fn all(sink: &dyn Sink) {
    reads_back_what_was_stored(sink).await;
    stores_a_long_stream(sink).await;
    nothing_stays_of_a_stream_that_fails(sink).await;
    nothing_stays_of_a_dropped_put(sink).await;
    never_overwrites(sink).await;
    one_of_many_writers_wins(sink).await;
    a_lock_is_for_sinks_that_were_opened_with_one(sink).await;
    replaces_whole_or_not_at_all(sink).await;
    notes_lie_where_they_are_wanted(sink).await;
    lists_in_order_under_a_prefix(sink).await;
    any_key_is_kept_as_it_is(sink).await;
    what_is_no_key_is_refused(sink).await;
    reads_ranges(sink).await;
    what_is_missing_is_not_found(sink).await;
    deletes(sink).await;
    own_folders_are_listed_only_when_asked_for(sink).await;
    cleaning_up_leaves_foreign_objects_alone(sink).await;
}

/// The keys that a listing under `prefix` shows.
pub async fn keys(sink: &dyn Sink, prefix: &str) -> Vec<String> {
    let objects: Vec<ObjectInfo> = sink.list(prefix).try_collect().await.unwrap();
    objects.into_iter().map(|object| object.key).collect()
}

/// The uploads folder of `folder` is empty. A sink may finish its cleanup shortly after a `put` was dropped.
pub async fn nothing_is_unfinished(sink: &dyn Sink, folder: &str) {
    let uploads = format!("{}/", join_key(folder, UPLOADS_FOLDER));
    for _ in 0..100 {
        if keys(sink, &uploads).await.is_empty() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{}: left in {uploads}: {:?}", sink.url(), keys(sink, &uploads).await);
}

/// The uploads folder of `folder` is empty after a cleanup; until then, a dropped `put` may leave something there.
pub async fn nothing_stays_after_a_clean_up(sink: &dyn Sink, folder: &str) {
    let uploads = format!("{}/", join_key(folder, UPLOADS_FOLDER));
    for _ in 0..100 {
        if keys(sink, &uploads).await.is_empty() {
            return;
        }
        // A writer that was dropped a moment ago may still be at it.
        tokio::time::sleep(Duration::from_millis(50)).await;
        let later = Timestamp::now() + Duration::from_secs(3600);
        upkeep(sink).abort_unfinished(folder, later, false).await.unwrap();
    }
    panic!("{}: left in {uploads}: {:?}", sink.url(), keys(sink, &uploads).await);
}

async fn remove(sink: &dyn Sink, folder: &str) {
    let mut all = keys(sink, &format!("{folder}/")).await;
    all.extend(keys(sink, &format!("{folder}/{UPLOADS_FOLDER}/")).await);
    sink.delete(&all).await.unwrap();
}

/// Objects of every size are read back unchanged, and `head` and `list` agree about them.
pub async fn reads_back_what_was_stored(sink: &dyn Sink) {
    let folder = fresh_name("sizes");
    let mut last = Timestamp::UNIX_EPOCH + Duration::from_secs(24 * 3600);
    for size in [0, 1, 4095, MIB - 1, MIB, MIB + 1, 8 * MIB - 1, 8 * MIB, 8 * MIB + 1, 16 * MIB, 17 * MIB + 3] {
        let key = format!("{folder}/{size:09}.bin");
        let stored = sink.put(&key, stream_of(7, size)).await.unwrap();
        assert_eq!(stored, size as u64, "{key}: put says how much it stored");
        let head = sink.head(&key).await.unwrap();
        assert_eq!((head.key.as_str(), head.bytes), (key.as_str(), size as u64));
        // By the store's clock, which may be another than ours; some say it in whole seconds.
        let second = Duration::from_secs(1);
        assert!(head.modified + second > last, "{key}: modified at {}, and one before it at {last}", head.modified);
        last = head.modified;
        let listed: Vec<_> = sink.list(&key).try_collect().await.unwrap();
        assert_eq!(listed.len(), 1, "{key}: what put has confirmed is in the next listing");
        assert_eq!((listed[0].key.as_str(), listed[0].bytes), (key.as_str(), size as u64));
        let apart = listed[0].modified.duration_since(head.modified).abs();
        assert!(apart <= second.try_into().unwrap(), "{key}: {} in the listing, {}", listed[0].modified, head.modified);
        assert_same(sink, &key, 7, size).await;
    }
    nothing_is_unfinished(sink, &folder).await;
    remove(sink, &folder).await;
}

/// A stream of many parts is stored.
pub async fn stores_a_long_stream(sink: &dyn Sink) {
    let folder = fresh_name("long");
    let key = format!("{folder}/long.bin");
    let size = 40 * MIB + 12_345;
    assert_eq!(sink.put(&key, stream_of(99, size)).await.unwrap(), size as u64);
    assert_same(sink, &key, 99, size).await;
    nothing_is_unfinished(sink, &folder).await;
    remove(sink, &folder).await;
}

async fn assert_same(sink: &dyn Sink, key: &str, seed: u64, size: usize) {
    let (mut got, mut want) = (sink.get(key, None).await.unwrap(), stream_of(seed, size));
    let (mut have, mut expected, mut at) = (bytes::Bytes::new(), bytes::Bytes::new(), 0usize);
    loop {
        while expected.is_empty() {
            match want.next().await {
                Some(chunk) => expected = chunk.unwrap(),
                None => break,
            }
        }
        while have.is_empty() {
            match got.next().await {
                Some(chunk) => have = chunk.unwrap(),
                None => break,
            }
        }
        let n = have.len().min(expected.len());
        if n == 0 {
            assert!(have.is_empty() && expected.is_empty(), "{key}: ends at {at} of {size} bytes, or goes on behind");
            return;
        }
        assert!(have.split_to(n) == expected.split_to(n), "{key}: differs between {at} and {} ", at + n);
        at += n;
    }
}

/// An error of the stream aborts the upload: it is returned unchanged, and nothing is visible afterwards.
pub async fn nothing_stays_of_a_stream_that_fails(sink: &dyn Sink) {
    let folder = fresh_name("fails");
    for size in [0, 1, MIB, 9 * MIB, 41 * MIB] {
        let key = format!("{folder}/{size}.bin");
        let error = sink.put(&key, failing_stream(3, size)).await.unwrap_err();
        let expected = failure();
        assert_eq!((error.kind(), error.to_string()), (expected.kind(), expected.to_string()), "after {size} bytes");
        assert_eq!(sink.head(&key).await.unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(keys(sink, &format!("{folder}/")).await, [""; 0], "after {size} bytes");
        nothing_is_unfinished(sink, &folder).await;
        // And it does not stand in the way of the next attempt.
        sink.put(&key, stream_of(3, 10)).await.unwrap();
        sink.delete(&[key]).await.unwrap();
    }
}

/// A dropped future stores nothing visible.
pub async fn nothing_stays_of_a_dropped_put(sink: &dyn Sink) {
    let folder = fresh_name("dropped");
    for size in [0, 100, 20 * MIB] {
        let key = format!("{folder}/{size}.bin");
        let put = tokio::time::timeout(Duration::from_millis(400), sink.put(&key, endless_stream(5, size)));
        put.await.unwrap_err();
        assert_eq!(sink.head(&key).await.unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(keys(sink, &format!("{folder}/")).await, [""; 0]);
        nothing_stays_after_a_clean_up(sink, &folder).await;
        assert_eq!(sink.head(&key).await.unwrap_err().kind(), ErrorKind::NotFound);
    }
}

/// An existing object is never overwritten, whatever the size of the new one.
pub async fn never_overwrites(sink: &dyn Sink) {
    let folder = fresh_name("taken");
    let key = format!("{folder}/taken");
    sink.put(&key, once("first")).await.unwrap();
    for size in [0, 6, 20 * MIB] {
        let error = sink.put(&key, stream_of(1, size)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{error}");
        assert_eq!(collect(sink.get(&key, None).await.unwrap(), 100, &key).await.unwrap(), "first");
    }
    nothing_is_unfinished(sink, &folder).await;
    remove(sink, &folder).await;
}

/// If several writers write a key at the same time, exactly one succeeds, and the object is that writer's.
pub async fn one_of_many_writers_wins(sink: &dyn Sink) {
    let folder = fresh_name("race");
    for size in [1000, 9 * MIB] {
        let key = format!("{folder}/{size}");
        let writers = (0..4u64).map(|n| {
            let key = &key;
            async move { (n, sink.put(key, stream_of(n, size)).await) }
        });
        let (won, lost): (Vec<_>, Vec<_>) =
            futures::future::join_all(writers).await.into_iter().partition(|(_, done)| done.is_ok());
        assert_eq!(won.len(), 1, "{key}: {lost:?}");
        for (_, error) in lost {
            assert_eq!(error.as_ref().unwrap_err().kind(), ErrorKind::AlreadyExists, "{error:?}");
        }
        assert_same(sink, &key, won[0].0, size).await;
    }
    nothing_is_unfinished(sink, &folder).await;
    remove(sink, &folder).await;
}

/// Asking for a lock changes nothing in a sink that was opened without one: the object is stored, and can be deleted.
pub async fn a_lock_is_for_sinks_that_were_opened_with_one(sink: &dyn Sink) {
    let folder = fresh_name("lock");
    for size in [10, 9 * MIB] {
        let key = format!("{folder}/{size}");
        let options = PutOptions::new().lock(true);
        assert_eq!(sink.put_with(&key, stream_of(8, size), options).await.unwrap(), size as u64);
        assert_same(sink, &key, 8, size).await;
        let error = sink.put_with(&key, stream_of(9, size), options).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{error}");
        assert_eq!(sink.delete(std::slice::from_ref(&key)).await.unwrap().keys, [key.as_str()]);
        assert_eq!(sink.head(&key).await.unwrap_err().kind(), ErrorKind::NotFound);
    }
}

/// `replace` replaces an existing object, or stores a new one; a failing stream leaves the old object as it was. A sink
/// that never replaces says so, and stores nothing.
pub async fn replaces_whole_or_not_at_all(sink: &dyn Sink) {
    let folder = fresh_name("replace");
    let key = format!("{folder}/sub/key");
    match sink.replace(&key, stream_of(1, 10)).await {
        Err(error) if error.kind() == ErrorKind::Unsupported => {
            assert_eq!(sink.head(&key).await.unwrap_err().kind(), ErrorKind::NotFound);
            return;
        }
        replaced => assert_eq!(replaced.unwrap(), 10, "a key that is free is simply written"),
    }
    for (seed, size) in [(2u64, 20 * MIB), (3, 5), (4, 0), (5, 9 * MIB)] {
        assert_eq!(sink.replace(&key, stream_of(seed, size)).await.unwrap(), size as u64);
        assert_eq!(sink.head(&key).await.unwrap().bytes, size as u64);
        assert_same(sink, &key, seed, size).await;
        assert_eq!(keys(sink, &format!("{folder}/")).await, [key.as_str()]);
        for failing in [0, 1, 21 * MIB] {
            let error = sink.replace(&key, failing_stream(9, failing)).await.unwrap_err();
            assert_eq!(error.kind(), failure().kind(), "{error}");
            assert_same(sink, &key, seed, size).await;
        }
        let put = tokio::time::timeout(Duration::from_millis(200), sink.replace(&key, endless_stream(9, 10 * MIB)));
        put.await.unwrap_err();
        assert_same(sink, &key, seed, size).await;
    }
    // What was replaced is still not overwritten.
    assert_eq!(sink.put(&key, once("x")).await.unwrap_err().kind(), ErrorKind::AlreadyExists);
    nothing_stays_after_a_clean_up(sink, &format!("{folder}/sub")).await;
    remove(sink, &folder).await;
}

/// With [`notes_in`](lifeboat_core::sink::Upkeep::notes_in), nothing of Lifeboat's is ever beside the keys, and
/// unfinished uploads are found where the notes are. A sink without upkeep never has anything beside its keys; one that
/// cannot keep its notes elsewhere says so.
pub async fn notes_lie_where_they_are_wanted(sink: &dyn Sink) {
    let (folder, notes) = (fresh_name("theirs"), fresh_name("notes"));
    let elsewhere = sink.upkeep().map(|upkeep| upkeep.notes_in(&notes));
    let apart = match &elsewhere {
        None => sink,
        Some(Some(apart)) => &**apart,
        Some(None) => return,
    };
    let key = format!("{folder}/a/key");
    {
        let put = apart.put(&key, endless_stream(5, 20 * MIB));
        tokio::pin!(put);
        for _ in 0..8 {
            let waited = tokio::time::timeout(Duration::from_millis(50), &mut put).await;
            assert!(waited.is_err(), "the stream has no end");
            for beside in [format!("{folder}/_lifeboat/"), format!("{folder}/a/_lifeboat/")] {
                assert_eq!(keys(sink, &beside).await, [""; 0]);
            }
            assert_eq!(keys(sink, &format!("{folder}/")).await, [""; 0]);
        }
    }
    nothing_stays_after_a_clean_up(sink, &notes).await;
    apart.put(&key, stream_of(5, 20 * MIB)).await.unwrap();
    match apart.replace(&key, stream_of(6, 20 * MIB)).await {
        Err(error) if error.kind() == ErrorKind::Unsupported => assert_same(sink, &key, 5, 20 * MIB).await,
        replaced => {
            replaced.unwrap();
            assert_same(sink, &key, 6, 20 * MIB).await;
        }
    }
    nothing_is_unfinished(sink, &notes).await;
    assert_eq!(keys(sink, &format!("{folder}/")).await, [key.as_str()]);
    remove(sink, &folder).await;
}

/// Keys are listed in the order of their bytes, and a prefix is a string, not a folder.
///
/// (No key here is also a folder of another one: a file system cannot hold both, and MinIO stores both and lists one.)
pub async fn lists_in_order_under_a_prefix(sink: &dyn Sink) {
    let folder = fresh_name("list");
    let names = [
        "a",
        "a-b",
        "a.b",
        "a.c/d",
        "a0",
        "aa/b/c",
        "aa/b0",
        "aa0",
        "b/",
        "Z",
        "~",
        "ä",
        "educationelly-1",
        "educationelly-graphql-1",
        "_x",
        "zz/_lifeboa/t",
        "zz/lifeboat/uploads",
    ];
    let mut expected = BTreeSet::new();
    for name in names.iter().filter(|name| !name.ends_with('/')) {
        let key = format!("{folder}/{name}");
        sink.put(&key, once("x")).await.unwrap();
        expected.insert(key);
    }
    for prefix in ["", "/", "/a", "/a.", "/aa", "/aa/", "/aa/b", "/educationelly-", "/ä", "/nothing", "/a/", "/zz/_lif"]
    {
        let prefix = format!("{folder}{prefix}");
        let want: Vec<_> = expected.iter().filter(|key| key.starts_with(&prefix)).cloned().collect();
        assert_eq!(keys(sink, &prefix).await, want, "under {prefix}");
    }
    let everything = keys(sink, "").await;
    assert!(everything.is_sorted(), "{everything:?}");
    assert!(expected.iter().all(|key| everything.contains(key)));
    // A listing that is not read to its end is simply dropped.
    assert!(sink.list(&folder).next().await.unwrap().is_ok());
    remove(sink, &folder).await;
    assert_eq!(keys(sink, &folder).await, [""; 0]);
}

/// Characters that are special in URLs, shells, XML or stores are ordinary in a key.
pub async fn any_key_is_kept_as_it_is(sink: &dyn Sink) {
    let folder = fresh_name("odd");
    let names = [
        "with space",
        "plus+plus",
        "100%",
        "%20",
        "%2F",
        "~tilde",
        "#hash",
        "question?x=1&y=2",
        "ünïcödé-日本語-🚣",
        "a:b@c",
        "quote'\"`$HOME",
        "<xml>&amp;",
        "back\\slash",
        "...",
        ".hidden",
        "semi;colon",
        "[brackets]{}|^",
        "comma,=!*()",
        " leading",
        "trailing ",
        "deep/er/and deep+er/x",
    ];
    let mut expected: Vec<_> = names.iter().map(|name| format!("{folder}/{name}")).collect();
    for key in &expected {
        sink.put(key, once(key.clone())).await.unwrap();
    }
    expected.sort();
    assert_eq!(keys(sink, &format!("{folder}/")).await, expected);
    for key in &expected {
        assert_eq!(sink.head(key).await.unwrap().key, *key);
        assert_eq!(collect(sink.get(key, None).await.unwrap(), 1000, key).await.unwrap(), key);
        assert_eq!(keys(sink, key).await.first(), Some(key));
    }
    let deleted = sink.delete(&expected).await.unwrap();
    assert_eq!((deleted.keys, deleted.failed), (expected, vec![]));
    assert_eq!(keys(sink, &folder).await, [""; 0]);
}

/// A text that is not a key is refused before anything is done.
pub async fn what_is_no_key_is_refused(sink: &dyn Sink) {
    for key in ["", "/", "/a", "a/", "a//b", "../a", "a/../../b", "a/./b", "a\0b", "a\nb"] {
        assert_eq!(sink.put(key, once("x")).await.unwrap_err().kind(), ErrorKind::Config, "{key:?}");
        assert_eq!(sink.get(key, None).await.err().unwrap().kind(), ErrorKind::Config, "{key:?}");
        assert_eq!(sink.head(key).await.unwrap_err().kind(), ErrorKind::Config, "{key:?}");
        assert_eq!(sink.delete(&[key.to_owned()]).await.unwrap().failed.len(), 1, "{key:?}");
    }
}

/// A range is cut off at the end of the object; after the end it is empty.
pub async fn reads_ranges(sink: &dyn Sink) {
    let folder = fresh_name("ranges");
    let key = format!("{folder}/x");
    let (size, all) = (3 * MIB + 17, bytes(11, 3 * MIB + 17));
    sink.put(&key, once(all.clone())).await.unwrap();
    let end = size as u64;
    for range in
        [0..1, 0..end, 5..5, 1..2, end - 1..end, 10..end + 100, end..end + 1, end + 5..end + 9, 1_000_000..2_500_000]
    {
        let got = collect(sink.get(&key, Some(range.clone())).await.unwrap(), size + 1, &key).await.unwrap();
        let (from, to) = (range.start.min(end) as usize, range.end.min(end) as usize);
        assert!(got == all.slice(from..to.max(from)), "{range:?}: {} bytes", got.len());
    }
    let empty = format!("{folder}/empty");
    sink.put(&empty, once("")).await.unwrap();
    assert_eq!(collect(sink.get(&empty, Some(0..10)).await.unwrap(), 1, &empty).await.unwrap(), "");
    let error = sink.get(&format!("{folder}/no"), Some(3..3)).await.err().unwrap();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    remove(sink, &folder).await;
}

/// A missing object is reported as missing, by name.
pub async fn what_is_missing_is_not_found(sink: &dyn Sink) {
    let folder = fresh_name("missing");
    let key = format!("{folder}/missing");
    let errors = [
        sink.get(&key, None).await.err().unwrap(),
        sink.get(&key, Some(0..5)).await.err().unwrap(),
        sink.head(&key).await.unwrap_err(),
    ];
    for error in errors {
        assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
        assert!(error.to_string().contains(&key), "{error}");
    }
    // A folder is no object, and an object is no folder.
    sink.put(&format!("{key}/below"), once("x")).await.unwrap();
    assert_eq!(sink.head(&key).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(sink.head(&format!("{key}/below/below")).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(keys(sink, &format!("{key}/below/")).await, [""; 0]);
    remove(sink, &folder).await;
}

/// Existing objects are deleted, and missing ones count as deleted.
pub async fn deletes(sink: &dyn Sink) {
    let folder = fresh_name("delete");
    let stored: Vec<_> = (0..5).map(|n| format!("{folder}/{n}")).collect();
    for key in &stored {
        sink.put(key, once("x")).await.unwrap();
    }
    let mut asked = stored[..3].to_vec();
    asked.extend([format!("{folder}/never"), format!("{folder}/no/where")]);
    let deleted = sink.delete(&asked).await.unwrap();
    assert_eq!(deleted.failed, []);
    assert_eq!(deleted.keys.iter().collect::<BTreeSet<_>>(), asked.iter().collect());
    assert_eq!(keys(sink, &folder).await, stored[3..]);
    assert_eq!(sink.delete(&[]).await.unwrap().keys, [""; 0]);
    remove(sink, &folder).await;
}

/// Folders named `_lifeboat` contain no artifacts: they are listed only under a prefix that leads into one.
pub async fn own_folders_are_listed_only_when_asked_for(sink: &dyn Sink) {
    let folder = fresh_name("own");
    let (note, artifact) = (format!("{folder}/_lifeboat/note.json"), format!("{folder}/artifact"));
    sink.put(&note, once("{}")).await.unwrap();
    sink.put(&artifact, once("x")).await.unwrap();
    for prefix in [format!("{folder}/"), format!("{folder}/_"), folder.clone()] {
        assert!(!keys(sink, &prefix).await.contains(&note), "under {prefix}");
    }
    assert_eq!(keys(sink, &format!("{folder}/_lifeboat/")).await, [note.as_str()]);
    assert_eq!(keys(sink, &format!("{folder}/_lifeboat/n")).await, [note.as_str()]);
    sink.delete(&[note, artifact]).await.unwrap();
}

/// A cleanup removes nothing that it does not recognize, even in the uploads folder.
pub async fn cleaning_up_leaves_foreign_objects_alone(sink: &dyn Sink) {
    let folder = fresh_name("foreign");
    let later = Timestamp::now() + Duration::from_secs(3600);
    let Some(upkeep) = sink.upkeep() else { return };
    assert_eq!(upkeep.abort_unfinished(&folder, later, false).await.unwrap(), [""; 0], "nothing is there");
    let foreign: Vec<_> = ["readme.txt", "x.json", "y.0011223344556677.json"]
        .iter()
        .map(|name| format!("{folder}/{UPLOADS_FOLDER}/{name}"))
        .collect();
    for key in &foreign {
        sink.put(key, once(r#"{"by": "somebody else"}"#)).await.unwrap();
    }
    assert_eq!(upkeep.abort_unfinished(&folder, later, false).await.unwrap(), [""; 0]);
    assert_eq!(keys(sink, &format!("{folder}/{UPLOADS_FOLDER}/")).await, foreign);
    remove(sink, &folder).await;
}

/// A cleanup after a killed writer works. The caller must have left one unfinished upload in `folder`, begun at about
/// this time.
pub async fn cleans_up_after_a_killed_writer(sink: &dyn Sink, folder: &str) {
    let earlier = Timestamp::now() - Duration::from_secs(3600);
    let later = Timestamp::now() + Duration::from_secs(3600);
    let upkeep = sink.upkeep().expect("a sink in which a killed writer leaves something has upkeep");
    assert_eq!(upkeep.abort_unfinished(folder, earlier, false).await.unwrap(), [""; 0], "it is younger than that");
    let would = upkeep.abort_unfinished(folder, later, true).await.unwrap();
    assert_eq!(would.len(), 1, "{would:?}");
    assert_eq!(upkeep.abort_unfinished("elsewhere", later, false).await.unwrap(), [""; 0]);
    let done = upkeep.abort_unfinished(folder, later, false).await.unwrap();
    assert_eq!(done, would, "a dry run says what a run does");
    assert_eq!(upkeep.abort_unfinished(folder, later, false).await.unwrap(), [""; 0], "it is gone");
    nothing_is_unfinished(sink, folder).await;
}
