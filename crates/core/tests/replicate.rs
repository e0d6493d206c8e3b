//! What replication promises: what arrives is what the manifest says, the manifest comes last, nothing is overwritten, and
//! what is there is not sent again.
#![allow(clippy::unwrap_used, missing_docs)]

mod doubles;

use std::sync::Arc;
use std::time::Duration;

use doubles::*;
use lifeboat_core::catalog::Kind;
use lifeboat_core::pipeline::{ReplicatePlan, Replicated, Step};
use lifeboat_core::{Context, ErrorKind, Level, Manifest, Replicate, Sink};
use lifeboat_testkit::chaos::{ChaosSink, Fault};
use lifeboat_testkit::memory::MemorySink;

/// Well after the backups: nothing of theirs goes on any more.
const LATER: &str = "2026-11-22T00:00:00Z";

fn key(n: u32) -> String {
    format!("db/shop-20261121-03300{n}.dump.zst")
}

fn manifest(key: &str) -> String {
    format!("{key}.manifest.json")
}

fn note(key: &str) -> String {
    format!("db/_lifeboat/uploads/{}.intent.json", key.trim_start_matches("db/"))
}

/// A sink with `count` backups of different contents.
async fn source(count: u32) -> MemorySink {
    let sink = MemorySink::new();
    for n in 0..count {
        let content: Vec<u8> =
            (0..200_000u32).flat_map(|i| (i.wrapping_mul(2_654_435_761 + n)).to_le_bytes()).collect();
        let made = backup(FakeSource::of(content)).clock(clock_at(&format!("2026-11-21T03:30:0{n}Z")));
        assert_eq!(made.to(Arc::new(sink.clone())).run().await.unwrap().key, key(n));
    }
    sink
}

fn of(from: impl Sink + 'static, to: Arc<dyn Sink>) -> Replicate {
    let context = Context::default().clock(clock_at(LATER));
    Replicate::new(Arc::new(from), to).folder("db").history(false).context(context)
}

async fn plan(from: &MemorySink, to: &ScriptedSink) -> ReplicatePlan {
    of(from.clone(), to.arc()).plan().await.unwrap()
}

async fn run(from: &MemorySink, to: &ScriptedSink) -> Replicated {
    soon(async { plan(from, to).await.execute().await.unwrap() }).await
}

fn done(_: &str, _: &str) -> Fate {
    Fate::Done
}

fn puts(sink: &ScriptedSink, key: &str) -> usize {
    sink.log().iter().filter(|line| **line == format!("put {key}")).count()
}

fn steps(plan: &ReplicatePlan) -> Vec<(String, Step)> {
    plan.artifacts.iter().map(|a| (a.key.clone(), a.step)).collect()
}

/// The same objects under the same keys.
fn assert_same(from: &MemorySink, to: &MemorySink, keys: &[String]) {
    for key in keys {
        assert!(from.bytes(key).unwrap() == to.bytes(key).expect(key), "{key}");
    }
}

#[tokio::test]
async fn what_is_missing_is_copied_and_its_manifest_comes_last() {
    let from = source(2).await;
    from.place(&format!("{}.verified-20261121-050000-restore-pass.json", key(0)), "{}", at(LATER));
    let to = ScriptedSink::new(done);
    let copied = run(&from, &to).await;
    assert!(copied.is_complete() && copied.present == 0, "{copied:?}");
    assert_eq!(copied.copied.iter().map(|c| c.key.clone()).collect::<Vec<_>>(), [key(0), key(1)]);
    // A record of a verification speaks of the bytes in one place.
    assert_eq!(to.memory.keys(), [key(0), manifest(&key(0)), key(1), manifest(&key(1))]);
    assert_same(&from, &to.memory, &to.memory.keys());
    let order: Vec<String> = to
        .log()
        .into_iter()
        .filter(|l| l.contains(key(1).trim_start_matches("db/")) && (l.starts_with("put") || l.starts_with("delete")))
        .collect();
    let (note, manifest) = (note(&key(1)), manifest(&key(1)));
    assert_eq!(
        order,
        [format!("put {note}"), format!("put {}", key(1)), format!("put {manifest}"), format!("delete {note}")]
    );
}

#[tokio::test]
async fn a_second_run_sends_nothing() {
    let from = source(2).await;
    let to = ScriptedSink::new(done);
    run(&from, &to).await;
    let again = ScriptedSink::over(to.memory.clone(), done);
    let copied = run(&from, &again).await;
    assert_eq!((copied.present, copied.copied.len(), copied.failed.len()), (2, 0, 0));
    assert!(again.log().iter().all(|l| l.starts_with("list") || l.starts_with("get")), "{:?}", again.log());
}

#[tokio::test]
async fn a_plan_writes_nothing() {
    let from = source(2).await;
    let to = ScriptedSink::new(done);
    let plan = plan(&from, &to).await;
    assert_eq!(steps(&plan), [(key(0), Step::Copy), (key(1), Step::Copy)]);
    assert_eq!(plan.bytes_to_copy(), (from.bytes(&key(0)).unwrap().len() + from.bytes(&key(1)).unwrap().len()) as u64);
    assert_eq!(to.memory.keys(), [""; 0]);
}

#[tokio::test]
async fn a_corrupt_source_object_never_gets_a_manifest_and_the_rest_goes_on() {
    for (what, damage) in [("flipped", 0), ("cut", 1)] {
        let from = source(3).await;
        let mut bytes = from.bytes(&key(1)).unwrap().to_vec();
        if damage == 0 {
            bytes[1000] ^= 1;
        } else {
            bytes.truncate(1000);
        }
        from.place(&key(1), bytes, at(LATER));
        let to = ScriptedSink::new(done);
        let copied = run(&from, &to).await;
        assert_eq!(copied.copied.iter().map(|c| c.key.clone()).collect::<Vec<_>>(), [key(0), key(2)], "{what}");
        assert_eq!((copied.failed[0].key.clone(), copied.failed[0].kind), (key(1), "corrupt"), "{what}");
        assert!(copied.failed[0].error.contains(&key(1)), "{what}");
        // Nothing of it, not even a note.
        assert!(to.memory.keys().iter().all(|k| !k.contains("033001")), "{what}: {:?}", to.memory.keys());
    }
}

#[tokio::test]
async fn a_read_that_breaks_or_ends_early_leaves_nothing() {
    for fault in [Fault::GetTruncates { after: 5000 }, Fault::GetFails { after: 5000 }, Fault::GetFlips { at: 5000 }] {
        let from = source(1).await;
        // The manifest is shorter than that.
        let to = ScriptedSink::new(done);
        let plan = of(ChaosSink::new(Arc::new(from.clone())).with(fault), to.arc()).plan().await.unwrap();
        let copied = soon(plan.execute()).await.unwrap();
        assert_eq!((copied.copied.len(), copied.failed.len()), (0, 1), "{fault:?}");
        assert_eq!(to.memory.keys(), [""; 0], "{fault:?}");
    }
}

#[tokio::test]
async fn what_the_destination_only_says_that_it_stores_is_not_copied() {
    for fault in [Fault::PutForgets, Fault::PutCuts { after: 5000 }] {
        let from = source(1).await;
        let memory = MemorySink::new();
        let lying = ChaosSink::new(ScriptedSink::over(memory.clone(), done).arc()).with(fault);
        let plan = of(from.clone(), Arc::new(lying)).plan().await.unwrap();
        let copied = soon(plan.execute()).await.unwrap();
        assert_eq!((copied.copied.len(), copied.failed.len()), (0, 1), "{fault:?}");
        assert!(copied.failed[0].error.contains("confirmed it, but"), "{fault:?}: {:?}", copied.failed);
        assert_eq!(memory.bytes(&manifest(&key(0))), None, "{fault:?}");
    }
}

#[tokio::test]
async fn a_run_killed_at_any_step_shows_nothing_and_the_next_sends_only_the_rest() {
    let from = source(1).await;
    for (stuck, sent_again) in [(note(&key(0)), 1), (key(0), 1), (manifest(&key(0)), 0)] {
        let hangs_at = stuck.clone();
        let to =
            ScriptedSink::new(move |call, key| if call == "put" && key == hangs_at { Fate::Hangs } else { Fate::Done });
        let plan = plan(&from, &to).await;
        tokio::time::timeout(Duration::from_millis(300), plan.execute()).await.unwrap_err();
        assert!(list_all(&to.memory, "db", None).await.unwrap().is_empty(), "{stuck}");

        let next = ScriptedSink::over(to.memory.clone(), done);
        let copied = run(&from, &next).await;
        assert!(copied.is_complete(), "{stuck}: {copied:?}");
        assert_eq!(puts(&next, &key(0)), sent_again, "{stuck}");
        assert_eq!(next.memory.keys(), [key(0), manifest(&key(0))], "{stuck}");
        assert_same(&from, &next.memory, &next.memory.keys());
    }
}

#[tokio::test]
async fn an_answer_that_was_lost_is_no_loss() {
    let from = source(1).await;
    for lost in [key(0), manifest(&key(0))] {
        let at = lost.clone();
        let to = ScriptedSink::new(
            move |call, key| if call == "put" && key == at { Fate::LosesItsAnswer } else { Fate::Done },
        );
        assert_eq!(run(&from, &to).await.failed.len(), 1);
        let next = ScriptedSink::over(to.memory.clone(), done);
        assert!(run(&from, &next).await.is_complete(), "{lost}");
        assert_eq!(puts(&next, &key(0)), 0, "{lost}");
        assert_eq!(next.memory.keys().into_iter().filter(|k| !k.contains("_lifeboat")).count(), 2);
    }
}

#[tokio::test]
async fn what_has_another_content_is_a_conflict_and_stays_as_it_is() {
    let from = source(2).await;
    let to = ScriptedSink::new(done);
    // Another backup of the same name.
    let other = backup(FakeSource::of("another content")).clock(clock_at("2026-11-21T03:30:00Z"));
    other.to(Arc::new(to.memory.clone())).run().await.unwrap();
    // The same size, and another SHA-256 in the manifest.
    run(&from, &ScriptedSink::over(MemorySink::new(), done)).await;
    let mut theirs = Manifest::parse(&from.bytes(&manifest(&key(1))).unwrap(), "m").unwrap();
    theirs.objects[0].sha256 = "00".repeat(32);
    to.memory.place(&key(1), from.bytes(&key(1)).unwrap(), at(LATER));
    to.memory.place(&manifest(&key(1)), theirs.to_bytes(), at(LATER));
    let before: Vec<_> = to.memory.keys().into_iter().map(|k| (k.clone(), to.memory.bytes(&k).unwrap())).collect();
    let plan = plan(&from, &to).await;
    assert_eq!(steps(&plan), [(key(0), Step::Conflict), (key(1), Step::Conflict)]);
    let copied = plan.execute().await.unwrap();
    assert_eq!(copied.failed.iter().map(|f| f.kind).collect::<Vec<_>>(), ["already-exists"; 2]);
    let after: Vec<_> = to.memory.keys().into_iter().map(|k| (k.clone(), to.memory.bytes(&k).unwrap())).collect();
    assert!(before == after);
}

#[tokio::test]
async fn an_object_without_its_manifest_is_compared_and_completed() {
    let from = source(1).await;
    let to = ScriptedSink::new(done);
    to.memory.place(&key(0), from.bytes(&key(0)).unwrap(), at(LATER));
    assert_eq!(steps(&plan(&from, &to).await), [(key(0), Step::Complete)]);
    assert!(run(&from, &to).await.is_complete());
    assert_eq!((puts(&to, &key(0)), to.memory.keys()), (0, vec![key(0), manifest(&key(0))]));
}

#[tokio::test]
async fn a_foreign_object_in_its_place_is_neither_completed_nor_hidden() {
    let from = source(1).await;
    let to = ScriptedSink::new(done);
    let size = from.bytes(&key(0)).unwrap().len();
    to.memory.place(&key(0), vec![7; size], at("2020-01-01T00:00:00Z"));
    let copied = run(&from, &to).await;
    assert_eq!(copied.failed[0].kind, "already-exists");
    assert_eq!(to.memory.keys(), [key(0)]);
    assert_eq!(the_artifact(&to.memory).await.kind, Kind::Foreign);
}

#[tokio::test]
async fn a_manifest_without_its_object_gets_it_back() {
    let from = source(1).await;
    let to = ScriptedSink::new(done);
    run(&from, &to).await;
    to.memory.delete(&[key(0)]).await.unwrap();
    assert!(run(&from, &to).await.is_complete());
    assert_eq!(the_artifact(&to.memory).await.kind, Kind::Managed);
    // And at the source it is said to be gone, when the copy lacks it too.
    from.delete(&[key(0)]).await.unwrap();
    assert!(run(&from, &to).await.is_complete());
    let nothing = ScriptedSink::new(done);
    assert_eq!(run(&from, &nothing).await.failed[0].kind, "corrupt");
    assert_eq!(nothing.memory.keys(), [""; 0]);
}

#[tokio::test]
async fn what_a_script_wrote_is_copied_and_read_back() {
    let from = MemorySink::new();
    from.place("db/shop-20261101-030000.sql.gz", "some old dump", at("2026-11-01T03:00:00Z"));
    let to = ScriptedSink::new(done);
    assert!(run(&from, &to).await.is_complete());
    assert_same(&from, &to.memory, &from.keys());
    assert_eq!(to.memory.keys(), from.keys());
    assert!(to.log().contains(&"get db/shop-20261101-030000.sql.gz".to_owned()), "{:?}", to.log());
    // Of another size, it is a conflict.
    from.place("db/shop-20261101-030000.sql.gz", "another dump", at("2026-11-01T03:00:00Z"));
    assert_eq!(steps(&plan(&from, &to).await)[0].1, Step::Conflict);
}

/// A copy that was whole, and is `bytes` now.
async fn spoiled(bytes: impl FnOnce(Vec<u8>) -> Vec<u8>) -> (MemorySink, ScriptedSink) {
    let from = source(1).await;
    let to = ScriptedSink::new(done);
    run(&from, &to).await;
    let spoiled = bytes(to.memory.bytes(&key(0)).unwrap().to_vec());
    to.memory.place(&key(0), spoiled, at(LATER));
    (from, to)
}

fn flipped(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes[1000] ^= 1;
    bytes
}

fn record(what: &str) -> String {
    format!("{}.verified-{what}.json", key(0))
}

#[tokio::test]
async fn a_copy_that_is_cut_is_mended() {
    let (from, to) = spoiled(|bytes| bytes[..1000].to_vec()).await;
    assert_eq!(steps(&plan(&from, &to).await), [(key(0), Step::Mend)]);
    let mended = run(&from, &to).await;
    assert!(mended.is_complete(), "{mended:?}");
    assert_eq!((mended.mended.len(), mended.copied.len(), mended.present), (1, 0, 0));
    assert_eq!(mended.bytes(), from.bytes(&key(0)).unwrap().len() as u64);
    assert_same(&from, &to.memory, &[key(0), manifest(&key(0))]);
}

#[tokio::test]
async fn a_copy_of_which_a_verification_failed_is_read_again_and_mended() {
    let (from, to) = spoiled(flipped).await;
    // Nothing tells of it yet.
    assert_eq!(steps(&plan(&from, &to).await), []);
    to.memory.place(&record("20261121-120000-restore-fail"), "{}", at(LATER));
    assert_eq!(steps(&plan(&from, &to).await), [(key(0), Step::Reread)]);
    assert_eq!(run(&from, &to).await.mended.len(), 1);
    assert_same(&from, &to.memory, &[key(0)]);
    let artifact = the_artifact(&to.memory).await;
    assert!(!artifact.is_known_bad());
    assert_eq!(artifact.verifications.iter().map(|v| (v.level, v.passed)).collect::<Vec<_>>(), [(Level::Stored, true)]);
    assert_eq!(run(&from, &to).await.present, 1);
}

#[tokio::test]
async fn copies_are_read_again_when_that_is_asked_for() {
    let (from, to) = spoiled(flipped).await;
    let again = || async { of(from.clone(), to.arc()).reread(true).plan().await.unwrap() };
    assert_eq!(steps(&again().await), [(key(0), Step::Reread)]);
    let mended = again().await.execute().await.unwrap();
    assert_eq!((mended.mended.len(), mended.present, mended.reread), (1, 0, 0));
    assert_same(&from, &to.memory, &[key(0)]);
    let same = again().await.execute().await.unwrap();
    assert_eq!((same.mended.len(), same.present, same.reread, same.notes.len()), (0, 1, 1, 0));
}

#[tokio::test]
async fn a_bad_copy_is_never_replaced_by_something_worse() {
    // The source is bad as well.
    let (from, to) = spoiled(flipped).await;
    let (bad, theirs) = (flipped(flipped(from.bytes(&key(0)).unwrap().to_vec())), to.memory.bytes(&key(0)).unwrap());
    from.place(&key(0), bad[..bad.len() - 1].to_vec(), at(LATER));
    let run = of(from.clone(), to.arc()).reread(true).plan().await.unwrap().execute().await.unwrap();
    assert_eq!((run.mended.len(), run.failed[0].kind), (0, "corrupt"), "{run:?}");
    let mut same_size = from.bytes(&key(0)).unwrap().to_vec();
    same_size.push(0);
    from.place(&key(0), same_size, at(LATER));
    let run = of(from.clone(), to.arc()).reread(true).plan().await.unwrap().execute().await.unwrap();
    assert_eq!((run.mended.len(), run.failed[0].kind), (0, "corrupt"), "{run:?}");
    assert_eq!(to.memory.bytes(&key(0)).unwrap(), theirs);
    // The source breaks in the middle.
    let (from, to) = spoiled(flipped).await;
    let theirs = to.memory.bytes(&key(0)).unwrap();
    let breaks = ChaosSink::new(Arc::new(from.clone())).with(Fault::GetTruncates { after: 5000 });
    let run = of(breaks, to.arc()).reread(true).plan().await.unwrap().execute().await.unwrap();
    assert_eq!((run.mended.len(), run.failed.len()), (0, 1), "{run:?}");
    assert_eq!(to.memory.bytes(&key(0)).unwrap(), theirs);
}

#[tokio::test]
async fn a_copy_that_is_as_good_as_its_source_is_not_sent_again_for_a_failed_restore_test() {
    let from = source(1).await;
    let to = ScriptedSink::new(done);
    run(&from, &to).await;
    to.memory.place(&record("20261121-120000-restore-fail"), "{}", at(LATER));
    let again = run(&from, &to).await;
    assert_eq!((again.mended.len(), again.present, again.reread), (0, 1, 1));
    assert!(again.notes[0].contains("the backup itself is bad"), "{again:?}");
    assert!(the_artifact(&to.memory).await.is_known_bad());
}

#[tokio::test]
async fn which_of_two_foreign_copies_is_right_only_their_verifications_tell() {
    const KEY: &str = "db/shop-20261101-030000.sql.gz";
    let from = MemorySink::new();
    let to = ScriptedSink::new(done);
    from.place(KEY, "an old dump", at(LATER));
    to.memory.place(KEY, "an odd dump", at(LATER));
    let run = || async { of(from.clone(), to.arc()).reread(true).plan().await.unwrap().execute().await.unwrap() };
    assert_eq!(run().await.failed[0].kind, "already-exists");
    to.memory.place(&format!("{KEY}.verified-20261121-120000-structure-fail.json"), "{}", at(LATER));
    assert_eq!(run().await.failed[0].kind, "already-exists");
    from.place(&format!("{KEY}.verified-20261121-120000-structure-pass.json"), "{}", at(LATER));
    assert_eq!(run().await.mended.len(), 1);
    assert_same(&from, &to.memory, &[KEY.to_owned()]);
}

#[tokio::test]
async fn a_backup_that_may_still_be_writing_there_is_left_alone() {
    let from = source(1).await;
    let to = ScriptedSink::new(done);
    to.memory.place(&note(&key(0)), r#"{"artifact":"x"}"#, at(LATER));
    let finished = Manifest::parse(&from.bytes(&manifest(&key(0))).unwrap(), "m").unwrap().finished_at;
    for (minutes, copies) in [(1, false), (11, true)] {
        let now = finished + Duration::from_secs(minutes * 60);
        let context = Context::default().clock(Arc::new(move || now));
        let plan = of(from.clone(), to.arc()).context(context).plan().await.unwrap();
        let copied = plan.execute().await.unwrap();
        assert_eq!(copied.is_complete(), copies, "{minutes} minutes: {copied:?}");
        if !copies {
            assert_eq!((copied.failed[0].kind, to.memory.keys()), ("refused", vec![note(&key(0))]));
        }
    }
    assert_eq!(to.memory.keys(), [key(0), manifest(&key(0))]);
}

#[tokio::test]
async fn a_destination_that_is_gone_ends_the_run_and_what_it_has_stays() {
    let from = source(9).await;
    let to = MemorySink::new();
    let chaos = ChaosSink::new(Arc::new(ScriptedSink::over(to.clone(), done)));
    let plan = of(from.clone(), Arc::new(chaos.clone())).plan().await.unwrap();
    let away = chaos.with(Fault::Unavailable { calls: u64::MAX });
    let copied = soon(plan.execute()).await.unwrap();
    assert_eq!((copied.copied.len(), copied.failed.len()), (0, 9));
    assert!(copied.failed.iter().any(|f| f.error.contains("was not tried")), "{copied:?}");
    away.heal();
    assert_eq!(soon(plan.execute()).await.unwrap().copied.len(), 9);
}

#[tokio::test]
async fn a_cancelled_run_says_so_and_leaves_nothing_half_done() {
    let from = source(2).await;
    let to = ScriptedSink::new(done);
    let plan = of(from.clone(), to.arc());
    let context = Context::default().clock(clock_at(LATER));
    let made = plan.context(context.clone()).plan().await.unwrap();
    context.cancel.cancel();
    assert_eq!(soon(made.execute()).await.unwrap_err().kind(), ErrorKind::Cancelled);
    assert_eq!(to.memory.keys(), [""; 0]);
}

#[tokio::test]
async fn from_half_a_listing_nothing_is_decided() {
    let from = source(3).await;
    let half = |sink: &MemorySink| ChaosSink::new(Arc::new(sink.clone())).with(Fault::ListFails { after: 2 });
    let to = ScriptedSink::new(done);
    let error = of(half(&from), to.arc()).plan().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    run(&from, &to).await;
    let half_there = half(&to.memory);
    let there = ScriptedSink::over(from.clone(), done);
    let error = Replicate::new(there.arc(), Arc::new(half_there)).folder("db").plan().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
}

#[tokio::test]
async fn only_the_dataset_that_was_asked_for_is_copied() {
    let from = source(1).await;
    from.place("db/shop-eu-20261121-033000.dump", "other", at(LATER));
    let to = ScriptedSink::new(done);
    let plan = of(from, to.arc()).dataset(Some(dataset("shop"))).plan().await.unwrap();
    assert_eq!(steps(&plan), [(key(0), Step::Copy)]);
}
