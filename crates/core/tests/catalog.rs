//! What the catalog promises: it lists what is there and whole, and cleans up only what killed runs have left.
#![allow(clippy::unwrap_used, missing_docs)]

mod doubles;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use doubles::*;
use futures::StreamExt;
use futures::stream;
use jiff::Timestamp;
use lifeboat_core::catalog::{self, At, Kind};
use lifeboat_core::{ErrorKind, Level, Sink};
use lifeboat_testkit::chaos::{ChaosSink, Fault};
use lifeboat_testkit::memory::MemorySink;
use proptest::prelude::*;

const LONG_AGO: &str = "2020-01-01T00:00:00Z";
const T: &str = "20261121-033000";

fn bucket<S: AsRef<str>>(keys: impl IntoIterator<Item = S>) -> MemorySink {
    let sink = MemorySink::new();
    for key in keys {
        sink.place(key.as_ref(), "content", at(LONG_AGO));
    }
    sink
}

async fn names(sink: &dyn Sink, folder: &str, of: Option<&str>) -> Vec<String> {
    list_all(sink, folder, of).await.unwrap().iter().map(|a| a.name.to_string()).collect()
}

async fn kinds(sink: &dyn Sink, folder: &str) -> Vec<(String, Kind)> {
    list_all(sink, folder, None).await.unwrap().into_iter().map(|a| (a.key(), a.kind)).collect()
}

async fn orphans(sink: &dyn Sink, now: &str, age: Duration, dry_run: bool) -> Vec<String> {
    catalog::remove_orphans(sink, "db", at(now), age, dry_run).await.unwrap().removed
}

#[tokio::test]
async fn a_dataset_is_listed_whole_and_never_by_a_bare_prefix() {
    let sink = bucket([
        format!("db/educationelly-{T}.archive.gz"),
        format!("db/educationelly-graphql-{T}.archive.gz"),
        format!("db/educationelly-20261122-{T}.archive.gz"),
        format!("db/educationelly.x-{T}.archive.gz"),
        format!("db/educationellyx-{T}.archive.gz"),
        format!("other/educationelly-{T}.dump"),
        format!("dbs/educationelly-{T}.dump"),
    ]);
    assert_eq!(names(&sink, "db", Some("educationelly")).await, [format!("educationelly-{T}.archive.gz")]);
    assert_eq!(
        names(&sink, "db", Some("educationelly-graphql")).await,
        [format!("educationelly-graphql-{T}.archive.gz")]
    );
    assert_eq!(names(&sink, "db", Some("education")).await, Vec::<String>::new());
    assert_eq!(names(&sink, "/db/", None).await.len(), 5);
    assert_eq!(names(&sink, "d", None).await, Vec::<String>::new());
}

#[tokio::test]
async fn what_is_listed_says_who_wrote_it() {
    let sink = bucket([
        format!("db/a-{T}.dump.zst.age"),
        format!("db/a-{T}.dump.zst.age.manifest.json"),
        format!("db/b-{T}.sql.gz"),
        format!("db/c-{T}.dump.manifest.json"),
    ]);
    let expected = [
        (format!("db/a-{T}.dump.zst.age"), Kind::Managed),
        (format!("db/b-{T}.sql.gz"), Kind::Foreign),
        (format!("db/c-{T}.dump"), Kind::Damaged),
    ];
    assert_eq!(kinds(&sink, "db").await, expected);
}

#[tokio::test]
async fn the_sink_itself_is_a_folder_too() {
    let sink = bucket([format!("a-{T}.dump"), format!("db/b-{T}.dump"), "readme.md".to_owned()]);
    assert_eq!(kinds(&sink, "").await, [(format!("a-{T}.dump"), Kind::Foreign)]);
}

#[tokio::test]
async fn volumes_are_one_artifact_with_its_objects_in_order() {
    let sink = bucket([
        format!("db/a-{T}.dump.zst.age.000"),
        format!("db/a-{T}.dump.zst.age.001"),
        format!("db/a-{T}.dump.zst.age.002"),
        format!("db/a-{T}.dump.zst.age.manifest.json"),
        format!("db/b-{T}.dump.000"),
    ]);
    let all = list_all(&sink, "db", None).await.unwrap();
    assert_eq!(
        all.iter().map(|a| (a.objects.len(), a.kind)).collect::<Vec<_>>(),
        [(3, Kind::Managed), (1, Kind::Foreign)]
    );
    assert!(all[0].objects.is_sorted_by_key(|o| o.key.clone()));
    assert_eq!(all[0].bytes(), 21);
}

#[tokio::test]
async fn names_of_which_one_starts_another_are_told_apart_and_stay_in_order() {
    let sink = bucket([
        format!("db/a-{T}.dump"),
        format!("db/a-{T}.dump.gz"),
        format!("db/a-{T}.dump.gz.age"),
        format!("db/a-{T}.dump.gz.age.manifest.json"),
        format!("db/a-{T}.dump.gz.manifest.json"),
        format!("db/a-{T}.dump.manifest.json"),
        format!("db/a-{T}.dump.zst"),
        format!("db/a-{T}.dumpling"),
    ]);
    let expected = [
        (format!("db/a-{T}.dump"), Kind::Managed),
        (format!("db/a-{T}.dump.gz"), Kind::Managed),
        (format!("db/a-{T}.dump.gz.age"), Kind::Managed),
        (format!("db/a-{T}.dump.zst"), Kind::Foreign),
        (format!("db/a-{T}.dumpling"), Kind::Foreign),
    ];
    assert_eq!(kinds(&sink, "db").await, expected);
}

#[tokio::test]
async fn a_folder_that_sorts_between_an_object_and_its_manifest_does_not_part_them() {
    for folder in ["", "db"] {
        let prefix = if folder.is_empty() { String::new() } else { format!("{folder}/") };
        let sink = bucket([
            format!("{prefix}a-{T}.dump"),
            format!("{prefix}a-{T}.dump-copies/readme.txt"),
            format!("{prefix}a-{T}.dump-copies/a-{T}.dump"),
            format!("{prefix}a-{T}.dump.manifest.json"),
            format!("{prefix}a-{T}.dump/part"),
        ]);
        assert_eq!(kinds(&sink, folder).await, [(format!("{prefix}a-{T}.dump"), Kind::Managed)]);
    }
}

#[tokio::test]
async fn verifications_are_read_from_their_names() {
    let base = format!("db/a-{T}.dump.zst");
    let sink = bucket([
        base.clone(),
        format!("{base}.manifest.json"),
        format!("{base}.verified-20261125-000000-stored-fail.json"),
        format!("{base}.verified-20261124-000000-restore-pass.json"),
        format!("{base}.verified-20261126-000000-oddly-pass.json"),
        format!("{base}.verified-20261126-000000-restore-maybe.json"),
        format!("{base}.verified-20261126-restore-pass.json"),
        format!("{base}.verified-20261126-000000-restore-pass.txt"),
        format!("{base}.verified-.json"),
        format!("db/gone-{T}.dump.verified-20261124-000000-restore-pass.json"),
    ]);
    let all = list_all(&sink, "db", None).await.unwrap();
    assert_eq!(all.len(), 1);
    let told: Vec<_> = all[0].verifications.iter().map(|v| (v.at, v.level, v.passed)).collect();
    assert_eq!(
        told,
        [(at("2026-11-24T00:00:00Z"), Level::Restore, true), (at("2026-11-25T00:00:00Z"), Level::Stored, false)]
    );
    assert_eq!(all[0].last_passed().unwrap().level, Level::Restore);
    assert!(all[0].is_known_bad());
}

#[tokio::test]
async fn an_artifact_that_failed_is_bad_until_it_has_passed_as_deep() {
    for (records, bad) in [
        (&["restore-fail"][..], true),
        (&["restore-pass"], false),
        (&[], false),
        (&["restore-fail", "stored-pass"], true),
        (&["restore-fail", "structure-pass"], true),
        (&["restore-fail", "restore-pass"], false),
        (&["restore-pass", "stored-fail"], true),
        (&["stored-fail", "restore-pass"], false),
        (&["restore-fail", "stored-fail", "stored-pass"], true),
        (&["restore-pass", "live-fail"], false),
        (&["restore-fail", "live-pass"], true),
    ] {
        let base = format!("db/a-{T}.dump");
        let sink = bucket([base.clone()]);
        for (day, record) in records.iter().enumerate() {
            sink.place(&format!("{base}.verified-202611{:02}-000000-{record}.json", day + 22), "{}", at(LONG_AGO));
        }
        assert_eq!(the_artifact(&sink).await.is_known_bad(), bad, "{records:?}");
    }
}

#[tokio::test]
async fn what_other_tools_keep_in_the_bucket_is_ignored() {
    let sink = bucket([
        "db/backups/nightly-20261121033000/velero-backup.json".to_owned(),
        "db/backups/nightly-20261121033000/nightly-20261121033000.tar.gz".to_owned(),
        format!("db/restic/codetalk-{T}.dump"),
        "db/kopia/codetalk/p0000".to_owned(),
        "db/manifest.json".to_owned(),
        "db/.manifest.json".to_owned(),
        "db/something.manifest.json".to_owned(),
        "db/codetalk-2026-11-21.dump".to_owned(),
        format!("db/codetalk-{T}"),
        format!("db/codetalk-{T}.dump~"),
        format!("db/codetalk-{T}.dump.zst.age.manifest.json.bak"),
        format!("db/-{T}.dump"),
        "db/codetalk-20261301-033000.dump".to_owned(),
        format!("db/_lifeboat/uploads/codetalk-{T}.dump.part-7"),
    ]);
    assert_eq!(kinds(&sink, "db").await, []);
}

#[tokio::test]
async fn listing_errors_are_passed_on_and_end_the_list() {
    let sink = bucket((0..5).map(|n| format!("db/a-2026112{n}-033000.dump")));
    let chaos = ChaosSink::new(Arc::new(sink)).with(Fault::ListFails { after: 3 });
    // The notes are listed first: there are none, so it is that listing which fails.
    assert_eq!(list_all(&chaos, "db", None).await.unwrap_err().kind(), ErrorKind::Unavailable);
    let mut listed = catalog::list(&chaos, "db", None);
    let mut items = Vec::new();
    while let Some(item) = listed.next().await {
        items.push(item.is_ok());
    }
    assert_eq!(items.iter().filter(|ok| !**ok).count(), 1);
    assert_eq!(items.last(), Some(&false));
}

/// A sink whose listing goes on for ever: it gives keys as long as somebody asks.
#[derive(Debug)]
struct Endless;

#[lifeboat_core::async_trait]
impl Sink for Endless {
    fn url(&self) -> String {
        "endless:".to_owned()
    }
    fn read_command(&self, _: &str) -> String {
        String::new()
    }
    async fn put(&self, _: &str, _: lifeboat_core::ByteStream) -> lifeboat_core::Result<u64> {
        unreachable!()
    }
    async fn get(&self, _: &str, _: Option<std::ops::Range<u64>>) -> lifeboat_core::Result<lifeboat_core::ByteStream> {
        unreachable!()
    }
    async fn head(&self, _: &str) -> lifeboat_core::Result<lifeboat_core::ObjectInfo> {
        unreachable!("nothing here is new")
    }
    fn list(&self, prefix: &str) -> stream::BoxStream<'_, lifeboat_core::Result<lifeboat_core::ObjectInfo>> {
        if prefix.contains("_lifeboat") {
            return stream::empty().boxed();
        }
        let modified = at(LONG_AGO);
        let seconds = at("2001-01-01T00:00:00Z").as_second()..;
        stream::iter(seconds.map(move |second| {
            let stamp = lifeboat_core::name::format_stamp(Timestamp::from_second(second).unwrap());
            Ok(lifeboat_core::ObjectInfo::new(format!("db/a-{stamp}.dump"), 1, modified))
        }))
        .boxed()
    }
    async fn delete(&self, _: &[String]) -> lifeboat_core::Result<lifeboat_core::sink::Deleted> {
        unreachable!()
    }
}

#[tokio::test]
async fn artifacts_are_listed_as_the_keys_come_and_in_their_order() {
    let first: Vec<_> = catalog::list(&Endless, "db", None).take(1000).map(|a| a.unwrap().key()).collect().await;
    assert_eq!(
        (first.len(), first[0].as_str(), first[999].as_str()),
        (1000, "db/a-20010101-000000.dump", "db/a-20010101-001639.dump")
    );
    assert!(first.is_sorted());
}

// ---- the states that kill -9 leaves ----

const OBJECT: &str = "db/shop-20261121-033000.dump.zst";

fn manifest() -> String {
    format!("{OBJECT}.manifest.json")
}

type State = (&'static str, Vec<String>, Option<Kind>, Vec<String>);

/// Every state in which a run, its cleaning up or a prune can be interrupted: what is there, what is listed, and what
/// is left after cleaning up.
fn states() -> Vec<State> {
    let (note, object, manifest) = (NOTE.to_owned(), OBJECT.to_owned(), manifest());
    vec![
        ("before anything", vec![], None, vec![]),
        ("after the note", vec![note.clone()], None, vec![]),
        ("after the object", vec![note.clone(), object.clone()], None, vec![]),
        (
            "after the manifest",
            vec![note.clone(), object.clone(), manifest.clone()],
            Some(Kind::Managed),
            vec![object.clone(), manifest.clone()],
        ),
        (
            "at the end",
            vec![object.clone(), manifest.clone()],
            Some(Kind::Managed),
            vec![object.clone(), manifest.clone()],
        ),
        // Whole, and deleted by the next prune.
        ("a prune after the manifest", vec![object.clone()], Some(Kind::Foreign), vec![object.clone()]),
        ("an object that somebody deleted", vec![manifest.clone()], Some(Kind::Damaged), vec![manifest.clone()]),
        (
            "volumes of a run that was killed",
            vec![note.clone(), format!("{object}.000"), format!("{object}.001")],
            None,
            vec![],
        ),
    ]
}

#[tokio::test]
async fn a_kill_at_any_moment_leaves_nothing_listed_that_is_not_whole() {
    for (when, there, listed, _) in states() {
        // As an object of just now, and as one of long ago: the first are looked at more closely.
        for modified in [Timestamp::now(), at(LONG_AGO)] {
            let sink = MemorySink::new();
            for key in &there {
                sink.place(key, "x", modified);
            }
            let all = list_all(&sink, "db", None).await.unwrap();
            assert_eq!(all.first().map(|a| a.kind), listed, "{when}");
            assert!(all.len() <= 1);
        }
    }
}

#[tokio::test]
async fn orphans_are_what_killed_runs_left_and_nothing_else() {
    for (when, there, _, left) in states() {
        let foreign =
            [format!("db/shop-{T}.dump"), format!("db/shop-{T}.dump.zst.age"), format!("db/shop-extra-{T}.dump.zst")];
        let sink = bucket(there.iter().chain(&foreign));
        let would = orphans(&sink, "2020-01-03T00:00:00Z", Duration::from_secs(86_400), true).await;
        assert_eq!(sink.keys().len(), there.len() + 3, "{when}: a dry run deletes nothing");
        let did = orphans(&sink, "2020-01-03T00:00:00Z", Duration::from_secs(86_400), false).await;
        assert_eq!(would, did, "{when}");
        assert_eq!(did.len(), there.iter().filter(|k| !left.contains(k)).count(), "{when}: {did:?}");
        let expected: BTreeSet<String> = left.iter().chain(&foreign).cloned().collect();
        assert_eq!(sink.keys().into_iter().collect::<BTreeSet<_>>(), expected, "{when}");
        assert!(
            orphans(&sink, "2020-01-03T00:00:00Z", Duration::ZERO, false).await.is_empty(),
            "{when}: a second time"
        );
    }
}

#[tokio::test]
async fn orphans_that_are_young_may_belong_to_a_run_that_goes_on() {
    let sink = bucket([NOTE, OBJECT]);
    for age in
        [Duration::from_secs(86_400), Duration::from_secs(86_400 * 400), Duration::from_secs(u64::MAX), Duration::MAX]
    {
        assert_eq!(orphans(&sink, "2020-01-01T23:59:59Z", age, false).await, Vec::<String>::new(), "{age:?}");
    }
    assert_eq!(sink.keys().len(), 2);
    assert_eq!(orphans(&sink, "2020-01-02T00:00:01Z", Duration::from_secs(86_400), false).await.len(), 2);
}

#[tokio::test]
async fn orphans_that_may_not_be_deleted_are_an_error_that_names_one() {
    let sink =
        ScriptedSink::over(bucket([NOTE, OBJECT]), |call, _| if call == "delete" { Fate::Fails } else { Fate::Done });
    let error = catalog::remove_orphans(&sink, "db", Timestamp::now(), Duration::ZERO, false).await.unwrap_err();
    assert_eq!((error.kind(), error.subject()), (ErrorKind::Permission, OBJECT));
    assert_eq!(sink.memory.keys().len(), 2);
}

#[tokio::test]
async fn orphans_go_before_their_note_so_that_a_kill_while_cleaning_up_is_found_again() {
    let sink = ScriptedSink::over(bucket([NOTE, OBJECT]), |_, _| Fate::Done);
    catalog::remove_orphans(&sink, "db", Timestamp::now(), Duration::ZERO, false).await.unwrap();
    let deletions: Vec<String> = sink.log().into_iter().filter(|l| l.starts_with("delete")).collect();
    assert_eq!(deletions, [format!("delete {OBJECT}"), format!("delete {NOTE}")]);
}

#[tokio::test]
async fn orphans_of_another_folder_stay() {
    let sink = bucket([NOTE, OBJECT]);
    assert!(
        catalog::remove_orphans(&sink, "", Timestamp::now(), Duration::ZERO, false).await.unwrap().removed.is_empty()
    );
    assert!(
        catalog::remove_orphans(&sink, "d", Timestamp::now(), Duration::ZERO, false).await.unwrap().removed.is_empty()
    );
    assert_eq!(
        catalog::remove_orphans(&sink, "/db/", Timestamp::now(), Duration::ZERO, false).await.unwrap().removed.len(),
        2
    );
}

#[tokio::test]
async fn an_object_of_a_run_whose_note_came_after_the_notes_were_listed_is_not_taken_for_a_foreign_one() {
    // The listing of the notes is empty; the note is there when it is asked for.
    let memory = MemorySink::new();
    memory.place(OBJECT, "x", Timestamp::now());
    let late = memory.clone();
    let sink = ScriptedSink::over(memory, move |call, key| {
        if call == "head" && key == NOTE {
            late.place(NOTE, "{}", Timestamp::now());
        }
        Fate::Done
    });
    assert!(list_all(&sink, "db", None).await.unwrap().is_empty());
}

#[tokio::test]
async fn an_object_whose_manifest_comes_while_it_is_listed_is_managed() {
    let memory = MemorySink::new();
    memory.place(OBJECT, "x", Timestamp::now());
    let late = memory.clone();
    let sink = ScriptedSink::over(memory, move |call, key| {
        if call == "head" && key == NOTE {
            late.place(&manifest(), "{}", Timestamp::now());
        }
        Fate::Done
    });
    let all = list_all(&sink, "db", None).await.unwrap();
    assert_eq!((all[0].kind, all[0].manifest.clone()), (Kind::Managed, Some(manifest())));
}

// ---- any bucket ----

const DATASETS: [&str; 4] = ["educationelly", "educationelly-graphql", "educationelly.old", "e"];
const TAILS: [&str; 5] = ["dump", "dump.gz", "dump.zst.age", "archive.gz", "globals.sql"];

#[derive(Clone, Copy, Debug, Default)]
struct Parts {
    object: bool,
    manifest: bool,
    note: bool,
    record: bool,
}

fn any_parts() -> impl Strategy<Value = Parts> {
    any::<[bool; 4]>().prop_map(|[object, manifest, note, record]| Parts { object, manifest, note, record })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bucket_is_listed_and_cleaned_up_as_its_parts_say(
        parts in prop::collection::btree_map((0..DATASETS.len(), 0..TAILS.len(), 21..24), any_parts(), 0..30),
        foreign in prop::collection::btree_set("(db/)?[a-e]{1,2}(/[a-z]{1,3}|-2026112[1-3]-03300[0-9])(\\.[a-z]{1,4}){0,2}", 0..10),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let sink = MemorySink::new();
        let old = at(LONG_AGO);
        let mut expected = std::collections::BTreeMap::new();
        let mut left: BTreeSet<String> = BTreeSet::new();
        for ((dataset, tail, day), parts) in &parts {
            let name = format!("{}-202611{day}-033000.{}", DATASETS[*dataset], TAILS[*tail]);
            let keys = [
                (parts.object, format!("db/{name}")),
                (parts.manifest, format!("db/{name}.manifest.json")),
                (parts.note, format!("db/_lifeboat/uploads/{name}.intent.json")),
                (parts.record, format!("db/{name}.verified-20261124-000000-restore-pass.json")),
            ];
            for (i, (there, key)) in keys.iter().enumerate() {
                if *there {
                    sink.place(key, "x", old);
                    // What a killed run left goes: its note, and its object when there is no manifest.
                    if i != 2 && !(i == 0 && parts.note && !parts.manifest) {
                        left.insert(key.clone());
                    }
                }
            }
            let kind = match (parts.object, parts.manifest) {
                (true, true) => Some(Kind::Managed),
                (true, false) if !parts.note => Some(Kind::Foreign),
                (false, true) => Some(Kind::Damaged),
                _ => None,
            };
            expected.extend(kind.map(|kind| (format!("db/{name}"), (DATASETS[*dataset], kind))));
        }
        for key in &foreign {
            if sink.bytes(key).is_none() {
                sink.place(key, "foreign", old);
                left.insert(key.clone());
                let (folder, name) = lifeboat_core::name::split_key(key);
                if folder == "db" && lifeboat_core::ArtifactName::parse(name).is_some() {
                    expected.insert(key.clone(), ("", Kind::Foreign));
                }
            }
        }
        runtime.block_on(async {
            let all = list_all(&sink, "db", None).await.unwrap();
            let found: Vec<_> = all.iter().map(|a| (a.key(), a.kind)).collect();
            let wanted: Vec<_> = expected.iter().map(|(key, (_, kind))| (key.clone(), *kind)).collect();
            // One whose object is gone comes where its manifest does.
            prop_assert!(found.iter().filter(|(_, kind)| *kind != Kind::Damaged).is_sorted_by_key(|(key, _)| key));
            let mut sorted = found;
            sorted.sort_by(|a, b| a.0.cmp(&b.0));
            prop_assert_eq!(sorted, wanted);
            for dataset in DATASETS {
                let found = list_all(&sink, "db", Some(dataset)).await.unwrap();
                let wanted = expected.values().filter(|(of, _)| *of == dataset).count();
                let ours = found.iter().filter(|a| expected[&a.key()].0 == dataset).count();
                prop_assert_eq!(ours, wanted);
                prop_assert!(found.iter().all(|a| a.name.dataset.as_str() == dataset));
            }
            catalog::remove_orphans(&sink, "db", Timestamp::now(), Duration::from_secs(3600), false).await.unwrap();
            prop_assert_eq!(sink.keys().into_iter().collect::<BTreeSet<_>>(), left);
            Ok(())
        })?;
    }
}

// ---- which one is meant ----

#[test]
fn at_reads_what_people_write() {
    let time = |text: &str| At::Time(at(text));
    for (text, meant) in [
        ("latest", At::Latest),
        ("20261121-033000", time("2026-11-21T03:30:00Z")),
        ("2026-11-21T03:30:00Z", time("2026-11-21T03:30:00Z")),
        ("2026-11-21T04:30:00+01:00", time("2026-11-21T03:30:00Z")),
        ("2026-11-21 03:30:00Z", time("2026-11-21T03:30:00Z")),
        ("2026-11-21T03:30:00", time("2026-11-21T03:30:00Z")),
        ("2026-11-21 03:30", time("2026-11-21T03:30:00Z")),
        ("2026-11-21T03:30", time("2026-11-21T03:30:00Z")),
        // A day means all of it.
        ("2026-11-21", time("2026-11-21T23:59:59Z")),
        ("20261121", time("2026-11-21T23:59:59Z")),
        ("shop-20261121-033000.dump", At::Key("shop-20261121-033000.dump".to_owned())),
        (OBJECT, At::Key(OBJECT.to_owned())),
    ] {
        assert_eq!(text.parse::<At>().unwrap(), meant, "{text}");
    }
    // Days and ages are counted in UTC.
    for (text, meant) in [
        ("today", "2026-11-21T23:59:59Z"),
        ("yesterday", "2026-11-20T23:59:59Z"),
        ("2d", "2026-11-19T00:30:00Z"),
        ("1w2d12h", "2026-11-11T12:30:00Z"),
        ("90min", "2026-11-20T23:00:00Z"),
        ("36h ago", "2026-11-19T12:30:00Z"),
    ] {
        let now = at("2026-11-21T01:30:00+01:00");
        assert_eq!(At::parse(text, now).unwrap(), time(meant), "{text}");
    }
    for text in [
        "",
        "Latest",
        "tomorrow",
        "2026-13-01",
        "2026-11-31",
        "03:30",
        "shop",
        "db/shop-20261121.dump",
        "2026",
        "2",
        "2m",
        "-2d",
        "99999999999999999d",
    ] {
        let error = text.parse::<At>().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{text}");
        assert!(error.advice().unwrap().contains("latest"), "{text}");
    }
}

fn three() -> Arc<dyn Sink> {
    Arc::new(bucket([
        "db/shop-20261119-033000.dump",
        "db/shop-20261120-033000.dump",
        "db/shop-20261121-033000.dump",
        "db/shop-20261122-033000.dump.manifest.json",
        "db/shop-eu-20261123-033000.dump",
    ]))
}

async fn find(sink: &Arc<dyn Sink>, text: &str) -> lifeboat_core::Result<String> {
    catalog::find(sink, "db", &dataset("shop"), &text.parse().unwrap()).await.map(|a| a.name.stamp())
}

#[tokio::test]
async fn find_gives_the_one_that_is_meant() {
    let sink = three();
    assert_eq!(find(&sink, "2026-11-21").await.unwrap(), "20261121-033000");
    assert_eq!(find(&sink, "2026-11-20").await.unwrap(), "20261120-033000");
    assert_eq!(find(&sink, "2026-11-20T03:30:00Z").await.unwrap(), "20261120-033000");
    assert_eq!(find(&sink, "2026-11-20T03:29:59Z").await.unwrap(), "20261119-033000");
    assert_eq!(find(&sink, "shop-20261119-033000.dump").await.unwrap(), "20261119-033000");
    assert_eq!(find(&sink, "db/shop-20261119-033000.dump").await.unwrap(), "20261119-033000");
}

/// A bucket in which the newest artifact is missing, and something tells of it.
#[tokio::test]
async fn a_newest_artifact_that_is_missing_is_named_and_no_older_one_given_for_it() {
    const GONE: &str = "shop-20261122-033000.dump";
    for (left, told) in [
        (format!("db/{GONE}.manifest.json"), "only the manifest is left in memory:/db; its object is missing"),
        (format!("db/{GONE}.manifest.v2.json"), "is of a form that is not known here"),
        (format!("db/{GONE}.verified-20261122-040000-restore-pass.json"), "where notes about it are left"),
        (format!("db/{GONE}.holds-0-0-9-less.json"), "where notes about it are left"),
    ] {
        let sink: Arc<dyn Sink> =
            Arc::new(bucket(["db/shop-20261120-033000.dump", "db/shop-20261121-033000.dump", &left]));
        for text in ["latest", "2026-11-22", "2026-11-23T00:00:00Z"] {
            let error = find(&sink, text).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::NotFound, "{left}");
            assert!(error.message().contains(told) && error.message().contains(GONE), "{error}");
            assert!(error.message().ends_with("; the newest before it is shop-20261121-033000.dump"), "{error}");
        }
        // Whoever asks for an older one gets it.
        assert_eq!(find(&sink, "2026-11-21").await.unwrap(), "20261121-033000");
        assert_eq!(find(&sink, "shop-20261121-033000.dump").await.unwrap(), "20261121-033000");
        // A newer one closes the gap, and what a run is still writing is none.
        for more in ["db/shop-20261123-033000.dump".to_owned(), format!("db/_lifeboat/uploads/{GONE}.intent.json")] {
            let is_running = more.contains("intent");
            let sink: Arc<dyn Sink> = Arc::new(bucket(["db/shop-20261121-033000.dump", &left, &more]));
            if !is_running {
                assert_eq!(find(&sink, "latest").await.unwrap(), "20261123-033000");
            } else if !left.contains("manifest") {
                assert_eq!(find(&sink, "latest").await.unwrap(), "20261121-033000");
            }
        }
    }
}

#[tokio::test]
async fn find_prefers_the_managed_one_of_the_same_second() {
    for tails in [["dump", "sql"], ["sql", "dump"]] {
        let managed = format!("db/shop-{T}.{}", tails[0]);
        let sink: Arc<dyn Sink> = Arc::new(bucket([
            managed.clone(),
            format!("{managed}.manifest.json"),
            format!("db/shop-{T}.{}", tails[1]),
        ]));
        assert_eq!(catalog::find(&sink, "db", &dataset("shop"), &At::Latest).await.unwrap().key(), managed);
    }
}

#[tokio::test]
async fn find_says_what_there_is_instead() {
    let sink = three();
    for (text, part) in [
        (
            "2026-11-18",
            "none of the 4 in memory:/db is as old as 2026-11-18T23:59:59Z; the oldest is from 2026-11-19T03:30:00Z",
        ),
        ("shop-20261118-033000.dump", "none of the 4 in memory:/db is named shop-20261118-033000.dump"),
    ] {
        let error = find(&sink, text).await.unwrap_err();
        assert_eq!((error.kind(), error.subject()), (ErrorKind::NoArtifact, "an artifact of shop"));
        assert_eq!(error.message(), part);
        assert_eq!(error.typed_hint(), Some(&lifeboat_core::Hint::ListArtifacts));
    }
    let error = catalog::find(&sink, "db", &dataset("shops"), &At::Latest).await.unwrap_err();
    assert_eq!(error.message(), "there is none in memory:/db");
    let damaged: Arc<dyn Sink> = Arc::new(bucket(["db/shop-20261122-033000.dump.manifest.json"]));
    assert_eq!(find(&damaged, "latest").await.unwrap_err().message(), "all 1 in memory:/db are damaged");
}

#[tokio::test]
async fn find_from_half_a_listing_is_an_error() {
    let chaos: Arc<dyn Sink> = Arc::new(ChaosSink::new(three()).with(Fault::ListFails { after: 2 }));
    assert_eq!(find(&chaos, "latest").await.unwrap_err().kind(), ErrorKind::Unavailable);
}
