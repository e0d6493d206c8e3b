//! What a copy of a foreign tree promises: the same objects under the same keys, nothing of ours among them, in an order in
//! which nothing arrives before what it refers to.
#![allow(clippy::unwrap_used, missing_docs)]

mod doubles;

use std::sync::Arc;
use std::time::Duration;

use doubles::*;
use lifeboat_core::pipeline::{Deletion, TreeCopied, TreeLayout, TreeRule, TreeStep};
use lifeboat_core::{Context, ErrorKind, Hint, Sink, Status, TreeCopy};
use lifeboat_testkit::chaos::{ChaosSink, Fault};
use lifeboat_testkit::memory::MemorySink;

const OLD: &str = "2026-11-20T00:00:00Z";
const NOW: &str = "2026-11-21T12:00:00Z";

/// A storage location of Velero, with a kopia repository. All objects have the same time: only names tell their order.
fn velero() -> MemorySink {
    let sink = MemorySink::new();
    for key in KEYS {
        sink.place(&format!("velero/{key}"), format!("content of {key}"), at(OLD));
    }
    sink
}

/// As whoever knows the tools would write them.
fn layouts() -> [TreeLayout; 2] {
    let backup = "velero-backup.json";
    let index = |start: &'static str| TreeRule::starting_with(start, 1).with_marker("kopia.repository", 0);
    [
        TreeLayout::new().rule(TreeRule::named(backup, 3)).rule(TreeRule::any(2).with_marker(backup, 0)).storage(
            "storage location",
            "which makes the location Unavailable",
            [("backups", backup)],
        ),
        TreeLayout::new().rule(index("n")).rule(index("x")),
    ]
}

const KEYS: [&str; 9] = [
    "backups/daily-1/daily-1-logs.gz",
    "backups/daily-1/daily-1.tar.gz",
    "backups/daily-1/velero-backup.json",
    "kopia/shop/kopia.repository",
    "kopia/shop/p0001",
    "kopia/shop/p0002",
    "kopia/shop/q0001",
    "kopia/shop/xn0_0001",
    "restores/r1/restore-r1-logs.gz",
];

fn done(_: &str, _: &str) -> Fate {
    Fate::Done
}

fn copy(from: impl Sink + 'static, to: &ScriptedSink) -> TreeCopy {
    copy_at(from, to, NOW)
}

fn copy_at(from: impl Sink + 'static, to: &ScriptedSink, now: &str) -> TreeCopy {
    let context = Context::default().clock(clock_at(now));
    TreeCopy::new("velero", Arc::new(from), to.arc()).unwrap().prefix("velero").layouts(layouts()).context(context)
}

async fn run(from: &MemorySink, to: &ScriptedSink, now: &str) -> TreeCopied {
    soon(async { copy_at(from.clone(), to, now).plan().await.unwrap().execute().await.unwrap() }).await
}

/// The keys that were written below the copied folder, in order.
fn written(sink: &ScriptedSink) -> Vec<String> {
    let written = |line: &String| {
        let key = line.strip_prefix("put velero/").or(line.strip_prefix("replace velero/"))?;
        Some(key.to_owned())
    };
    sink.log().iter().filter_map(written).collect()
}

fn below(sink: &MemorySink, folder: &str) -> Vec<String> {
    sink.keys().into_iter().filter(|k| k.starts_with(folder)).collect()
}

#[track_caller]
fn assert_equal(from: &MemorySink, to: &MemorySink) {
    assert_eq!(below(from, "velero/"), below(to, "velero/"));
    for key in below(from, "velero/") {
        assert_eq!(from.bytes(&key), to.bytes(&key), "{key}");
    }
}

#[tokio::test]
async fn the_copy_has_the_same_objects_and_nothing_of_ours() {
    let from = velero();
    let to = ScriptedSink::new(done);
    let copied = run(&from, &to, NOW).await;
    assert_eq!((copied.copied, copied.replaced, copied.failed.len()), (9, 0, 0));
    assert_equal(&from, &to.memory);
    assert_eq!(from.keys().len(), 9, "nothing is written at the source");
    let others: Vec<_> = to.memory.keys().into_iter().filter(|k| !k.starts_with("velero/")).collect();
    assert_eq!(others, ["_lifeboat/copies/velero/20261121-120000-000.jsonl.zst"]);
}

#[tokio::test]
async fn what_is_referred_to_comes_first() {
    let to = ScriptedSink::new(done);
    run(&velero(), &to, NOW).await;
    let order = written(&to);
    let at = |name: &str| order.iter().position(|k| k.ends_with(name)).unwrap();
    for pack in ["p0001", "p0002", "q0001", "kopia.repository"] {
        assert!(at(pack) < at("xn0_0001"), "{order:?}");
    }
    assert!(at("xn0_0001") < at("daily-1.tar.gz"), "{order:?}");
    assert_eq!(order.last().unwrap(), "backups/daily-1/velero-backup.json");
}

#[tokio::test]
async fn a_second_run_sends_nothing() {
    let from = velero();
    let to = ScriptedSink::new(done);
    run(&from, &to, NOW).await;
    let again = ScriptedSink::over(to.memory.clone(), done);
    let copied = run(&from, &again, "2026-11-22T12:00:00Z").await;
    assert_eq!((copied.copied, copied.replaced, copied.unchanged, copied.bytes), (0, 0, 9, 0));
    assert_eq!(written(&again), [""; 0]);
    assert!(!again.log().iter().any(|l| l.starts_with("get velero/")), "{:?}", again.log());
}

#[tokio::test]
async fn what_was_rewritten_is_replaced_and_nothing_else() {
    let from = velero();
    let to = ScriptedSink::new(done);
    run(&from, &to, NOW).await;
    let (json, logs) = ("velero/backups/daily-1/velero-backup.json", "velero/backups/daily-1/daily-1-logs.gz");
    let same_size: String = from.bytes(json).unwrap().iter().map(|_| 'x').collect();
    from.place(json, same_size, at("2026-11-21T13:00:00Z"));
    from.place(logs, "of another size", at("2026-11-21T13:00:00Z"));
    // Touched, and the same: not sent.
    let pack = "velero/kopia/shop/p0001";
    from.place(pack, from.bytes(pack).unwrap(), at("2026-11-21T13:00:00Z"));
    let again = ScriptedSink::over(to.memory.clone(), done);
    let copied = run(&from, &again, "2026-11-22T12:00:00Z").await;
    assert_eq!((copied.copied, copied.replaced, copied.unchanged), (0, 2, 7));
    assert_eq!(written(&again), ["backups/daily-1/daily-1-logs.gz", "backups/daily-1/velero-backup.json"]);
    assert_equal(&from, &to.memory);
}

#[tokio::test]
async fn an_object_that_was_read_in_the_second_of_its_writing_is_looked_at_again() {
    let from = velero();
    let json = "velero/backups/daily-1/velero-backup.json";
    from.place(json, "first", at("2026-11-21T11:59:59.5Z"));
    let to = ScriptedSink::new(done);
    run(&from, &to, NOW).await;
    // The same size and, by the store's clock, the same time.
    from.place(json, "other", at("2026-11-21T11:59:59.5Z"));
    assert_eq!(run(&from, &to, "2026-11-22T12:00:00Z").await.replaced, 1);
    assert_equal(&from, &to.memory);
}

#[tokio::test]
async fn a_run_killed_three_times_sends_each_object_once() {
    let from = velero();
    let memory = MemorySink::new();
    let mut sent = Vec::new();
    for stuck in ["kopia/shop/p0002", "kopia/shop/xn0_0001", "velero-backup.json"] {
        let to = ScriptedSink::over(memory.clone(), move |call, key| {
            if call == "put" && key.ends_with(stuck) { Fate::Hangs } else { Fate::Done }
        });
        let plan = copy(from.clone(), &to).plan().await.unwrap();
        tokio::time::timeout(Duration::from_millis(300), plan.execute()).await.unwrap_err();
        sent.extend(written(&to).into_iter().filter(|key| !key.ends_with(stuck)));
        // What is there refers to nothing that is missing.
        let there = below(&memory, "velero/");
        assert!(!there.iter().any(|k| k.ends_with("velero-backup.json")), "{there:?}");
    }
    let to = ScriptedSink::over(memory.clone(), done);
    assert!(run(&from, &to, NOW).await.is_complete());
    sent.extend(written(&to));
    sent.sort();
    assert_eq!(sent, KEYS);
    assert_equal(&from, &memory);
    let left: Vec<_> = memory.keys().into_iter().filter(|k| k.contains(".part.")).collect();
    assert_eq!(left, [""; 0]);
}

#[tokio::test]
async fn what_was_noted_before_a_kill_is_not_even_read_again() {
    let from = MemorySink::new();
    for n in 0..450 {
        from.place(&format!("velero/data/{n:04}"), format!("{n}"), at(OLD));
    }
    let memory = MemorySink::new();
    let to = ScriptedSink::over(memory.clone(), |call, key| {
        if call == "put" && key == "velero/data/0449" { Fate::Hangs } else { Fate::Done }
    });
    let plan = copy(from.clone(), &to).plan().await.unwrap();
    tokio::time::timeout(Duration::from_millis(1500), plan.execute()).await.unwrap_err();
    assert_eq!(memory.keys().iter().filter(|k| k.contains(".part.")).count(), 2);

    let next = ScriptedSink::over(memory.clone(), done);
    let copied = run(&from, &next, "2026-11-22T12:00:00Z").await;
    assert_eq!((copied.copied, copied.unchanged), (1, 449));
    let read = next.log().iter().filter(|l| l.starts_with("get velero/")).count();
    assert!(read <= 49, "{read} objects were read again");
    assert_eq!(memory.keys().iter().filter(|k| k.contains("_lifeboat")).count(), 1);
}

#[tokio::test]
async fn what_comes_while_it_is_copied_is_taken_too() {
    let from = velero();
    let late = from.clone();
    let growing = ScriptedSink::over(from.clone(), move |call, key| {
        if call == "get" && key.ends_with("kopia.repository") {
            late.place("velero/kopia/shop/p0003", "late", at(OLD));
            late.place("velero/backups/daily-1/velero-backup.json", "finalized", at("2026-11-21T11:00:00Z"));
        }
        Fate::Done
    });
    let to = ScriptedSink::new(done);
    let copied =
        soon(async { copy(growing.named("source"), &to).plan().await.unwrap().execute().await.unwrap() }).await;
    assert!(copied.is_complete(), "{copied:?}");
    assert_equal(&from, &to.memory);
}

#[tokio::test]
async fn an_object_that_vanishes_meanwhile_is_no_failure() {
    let from = velero();
    let gone = from.clone();
    let shrinking = ScriptedSink::over(from.clone(), move |call, key| {
        if call == "get" && key.ends_with("p0001") {
            futures::executor::block_on(gone.delete(&[key.to_owned()])).unwrap();
        }
        Fate::Done
    });
    let to = ScriptedSink::new(done);
    let copied =
        soon(async { copy(shrinking.named("source"), &to).plan().await.unwrap().execute().await.unwrap() }).await;
    assert_eq!((copied.copied, copied.failed.len()), (8, 0));
    assert_equal(&from, &to.memory);
}

#[tokio::test]
async fn what_refers_to_an_object_that_could_not_be_copied_is_held_back() {
    // It cannot be read whole at the source: its repository waits, the backup of another does not.
    let from = velero();
    from.place("velero/kopia/blog/kopia.repository", "x", at(OLD));
    from.place("velero/kopia/blog/xn0_0002", "x", at(OLD));
    let failing = ScriptedSink::over(from.clone(), |call, key| {
        if call == "get" && key.ends_with("shop/p0001") { Fate::Fails } else { Fate::Done }
    });
    let to = ScriptedSink::new(done);
    let copied =
        soon(async { copy(failing.named("source"), &to).plan().await.unwrap().execute().await.unwrap() }).await;
    let failed: Vec<_> = copied.failed.iter().map(|f| f.key.as_str()).collect();
    assert_eq!(failed, ["kopia/shop/p0001", "kopia/shop/xn0_0001"]);
    assert!(to.memory.bytes("velero/kopia/blog/xn0_0002").is_some());

    // The destination says that it stores, and does not: nothing of a later rank is tried.
    for fault in [Fault::PutForgets, Fault::PutCuts { after: 0 }] {
        let lying = ChaosSink::new(Arc::new(MemorySink::new())).with(fault);
        let tree = TreeCopy::new("velero", ScriptedSink::over(velero(), done).arc(), Arc::new(lying)).unwrap();
        let copied = soon(tree.prefix("velero").plan().await.unwrap().execute()).await.unwrap();
        assert_eq!(copied.copied, 0, "{fault:?}");
        assert!(copied.failed.iter().any(|f| f.error.contains("confirmed it, but")), "{fault:?}: {:?}", copied.failed);
    }

    // The destination is gone: nothing of a later rank is tried.
    let to = MemorySink::new();
    let away = ChaosSink::new(Arc::new(to.clone()));
    let tree = TreeCopy::new("velero", ScriptedSink::over(velero(), done).arc(), Arc::new(away.clone()))
        .unwrap()
        .prefix("velero");
    let plan = tree.plan().await.unwrap();
    let _away = away.with(Fault::PutFails { after: 0 });
    soon(plan.execute()).await.unwrap_err();
    assert_eq!(to.keys(), [""; 0]);
}

#[tokio::test]
async fn nothing_is_deleted_unless_it_is_asked_for_and_then_what_refers_first() {
    let from = velero();
    let to = ScriptedSink::new(done);
    run(&from, &to, NOW).await;
    let gone = ["velero/backups/daily-1/velero-backup.json", "velero/kopia/shop/p0001", "velero/kopia/shop/xn0_0001"];
    from.delete(&gone.map(str::to_owned)).await.unwrap();
    let copied = run(&from, &to, "2026-11-22T12:00:00Z").await;
    assert_eq!((copied.extra, copied.deleted), (3, 0));
    assert_eq!(below(&to.memory, "velero/").len(), 9);
    // What was kept is still known.
    assert!(copy(from.clone(), &to).verify().await.unwrap().passed);

    let deleting = ScriptedSink::over(to.memory.clone(), done);
    let plan =
        copy_at(from.clone(), &deleting, "2026-11-23T12:00:00Z").deletion(Deletion::AtMostHalf).plan().await.unwrap();
    assert_eq!(plan.extra.len(), 3);
    let copied = soon(plan.execute()).await.unwrap();
    assert_eq!((copied.extra, copied.deleted), (0, 3));
    let deleted: Vec<_> =
        deleting.log().into_iter().filter_map(|l| l.strip_prefix("delete velero/").map(str::to_owned)).collect();
    assert_eq!(deleted, ["backups/daily-1/velero-backup.json", "kopia/shop/xn0_0001", "kopia/shop/p0001"]);
    assert_equal(&from, &to.memory);
}

#[tokio::test]
async fn a_source_that_was_emptied_does_not_empty_the_copy() {
    let from = velero();
    let to = ScriptedSink::new(done);
    run(&from, &to, NOW).await;
    let keys = from.keys();
    from.delete(&keys[..6]).await.unwrap();
    let copied = copy(from.clone(), &to).context(Context::default().clock(clock_at("2026-11-22T12:00:00Z")));
    let plan = copied.clone().deletion(Deletion::AtMostHalf).plan().await.unwrap();
    assert_eq!(plan.deletes.as_ref().unwrap_err().kind(), ErrorKind::Refused);
    let refused = plan.execute().await.unwrap();
    assert_eq!((refused.deleted, refused.failed[0].kind), (0, "refused"));

    from.delete(&keys[6..]).await.unwrap();
    let error = copied.deletion(Deletion::All).plan().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoArtifact);
    assert_eq!(below(&to.memory, "velero/").len(), 9);
}

#[tokio::test]
async fn from_half_a_listing_nothing_is_decided() {
    let half = ChaosSink::new(Arc::new(velero())).with(Fault::ListFails { after: 4 });
    let to = ScriptedSink::new(done);
    let error = copy(half, &to).deletion(Deletion::All).plan().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
}

#[tokio::test]
async fn a_verification_names_what_differs_and_what_is_missing() {
    let from = velero();
    let to = ScriptedSink::new(done);
    let tree = copy(from.clone(), &to);
    assert_eq!(tree.verify().await.unwrap_err().kind(), ErrorKind::NoArtifact);
    run(&from, &to, NOW).await;
    let report = tree.verify().await.unwrap();
    assert!(report.passed, "{report:?}");
    assert_eq!(report.checks.iter().map(|c| c.name.as_str()).collect::<Vec<_>>(), ["record", "objects", "others"]);
    assert_eq!(report.checks[1].figure, "9 of 9");

    let mut flipped = from.bytes("velero/kopia/shop/p0001").unwrap().to_vec();
    flipped[3] ^= 1;
    to.memory.place("velero/kopia/shop/p0001", flipped, at(OLD));
    to.memory.delete(&["velero/kopia/shop/q0001".to_owned()]).await.unwrap();
    to.memory.place("velero/kopia/shop/other", "x", at(OLD));
    let report = tree.verify().await.unwrap();
    let found: Vec<_> = report.checks[2..].iter().map(|c| (c.name.as_str(), c.status, c.figure.as_str())).collect();
    assert_eq!(
        found,
        [
            ("object kopia/shop/p0001", Status::Fail, "differs"),
            ("object kopia/shop/q0001", Status::Fail, "missing"),
            ("others", Status::Warn, "1"),
        ]
    );
    // The next run brings back what is missing. Of what has the right size and time, only a verification can tell.
    assert_eq!(run(&from, &to, "2026-11-22T12:00:00Z").await.copied, 1);
}

#[tokio::test]
async fn a_record_that_was_lost_costs_reading_and_no_sending() {
    let from = velero();
    let to = ScriptedSink::new(done);
    run(&from, &to, NOW).await;
    let record = to.memory.keys().into_iter().find(|k| k.contains("_lifeboat")).unwrap();
    for lost in [true, false] {
        if lost {
            to.memory.delete(std::slice::from_ref(&record)).await.unwrap();
        } else {
            let whole = to.memory.keys().into_iter().find(|k| k.contains("_lifeboat")).unwrap();
            let bytes = to.memory.bytes(&whole).unwrap();
            to.memory.place(&whole, bytes.slice(..bytes.len() / 2), at(NOW));
        }
        let next = ScriptedSink::over(to.memory.clone(), done);
        let now = if lost { "2026-11-22T12:00:00Z" } else { "2026-11-23T12:00:00Z" };
        let plan = copy_at(from.clone(), &next, now).plan().await.unwrap();
        assert!(plan.objects.iter().all(|o| o.step == TreeStep::Compare) && plan.objects.len() == 9);
        assert_eq!(soon(plan.execute()).await.unwrap().unchanged, 9);
        assert_eq!(written(&next), [""; 0]);
    }
}

#[tokio::test]
async fn a_copy_whose_record_would_lie_in_it_is_refused() {
    let to = ScriptedSink::new(done);
    // The sink itself would be the storage location.
    let from = velero();
    let error = copy(from.clone(), &to).into_folder("").plan().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert_eq!(error.typed_hint(), Some(&Hint::CopyIntoFolder { folder: "velero".to_owned() }));
    let part =
        TreeCopy::new("x", Arc::new(from.clone()), to.arc()).unwrap().prefix("velero/backups").into_folder("backups");
    let error = part.clone().layouts(layouts()).plan().await.unwrap_err();
    assert!(error.message().contains("Unavailable"), "{error}");
    assert_eq!(error.typed_hint(), Some(&Hint::CopyWholeTree { folder: "x".to_owned() }));
    // Nobody who does not know the tool can know that.
    part.plan().await.unwrap();
    // And so is one within itself.
    let memory: Arc<dyn Sink> = Arc::new(from);
    let within = TreeCopy::new("x", memory.clone(), memory).unwrap().prefix("velero").into_folder("velero/copy");
    assert_eq!(within.plan().await.unwrap_err().kind(), ErrorKind::Config);
    assert_eq!(to.memory.keys(), [""; 0]);
}

#[tokio::test]
async fn a_cancelled_run_notes_what_it_has_done() {
    let from = velero();
    let context = Context::default().clock(clock_at(NOW));
    let cancel = context.cancel.clone();
    let to = ScriptedSink::new(move |call, key| {
        if call == "put" && key.ends_with("xn0_0001") {
            cancel.cancel();
            return Fate::Fails;
        }
        Fate::Done
    });
    let plan = copy(from.clone(), &to).context(context).plan().await.unwrap();
    assert_eq!(soon(plan.execute()).await.unwrap_err().kind(), ErrorKind::Cancelled);
    assert_eq!(to.memory.keys().iter().filter(|k| k.contains(".part.")).count(), 1);
    let next = ScriptedSink::over(to.memory.clone(), done);
    run(&from, &next, "2026-11-22T12:00:00Z").await;
    assert!(!next.log().iter().any(|l| l.starts_with("get velero/kopia/shop/p")), "{:?}", next.log());
}

#[tokio::test]
async fn what_is_named_like_a_folder_and_has_content_is_told_and_the_copy_is_not_complete() {
    let from = velero();
    from.place("velero/notes/", "content", at(OLD));
    from.place("velero/marker/", "", at(OLD));
    let to = ScriptedSink::new(done);
    for now in [NOW, "2026-11-21T13:00:00Z"] {
        let copied = run(&from, &to, now).await;
        let failed: Vec<&str> = copied.failed.iter().map(|object| object.key.as_str()).collect();
        assert_eq!((failed, copied.is_complete()), (vec!["notes/"], false));
    }
    assert_eq!(below(&to.memory, "velero/").len(), 9);
    // With nothing else there, it is not taken for an empty place either.
    let odd = MemorySink::new();
    odd.place("velero/", "content", at(OLD));
    let copied = run(&odd, &ScriptedSink::new(done), NOW).await;
    assert_eq!((copied.copied, copied.failed.len(), copied.is_complete()), (0, 1, false));
}
