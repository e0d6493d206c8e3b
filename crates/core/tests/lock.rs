//! What the pipeline asks sinks to lock: backups, and nothing that is removed before a lock would end.
#![allow(clippy::unwrap_used, missing_docs)]

mod doubles;

use std::sync::Arc;

use doubles::*;
use lifeboat_core::{Replicate, TreeCopy, check};
use lifeboat_testkit::memory::MemorySink;

fn sink() -> ScriptedSink {
    ScriptedSink::new(|_, _| Fate::Done)
}

/// The keys that were written without a lock.
fn unlocked(sink: &ScriptedSink) -> Vec<String> {
    let locked = sink.locked();
    sink.log()
        .iter()
        .filter_map(|line| line.strip_prefix("put "))
        .filter(|key| !locked.iter().any(|l| l == key))
        .map(str::to_owned)
        .collect()
}

#[tokio::test]
async fn a_backup_is_locked_with_its_manifest_and_its_note_is_not() {
    let sink = sink();
    let receipt = backup(FakeSource::of("abc")).to(sink.arc()).run().await.unwrap();
    assert_eq!(sink.locked(), [receipt.key.clone(), format!("{}.manifest.json", receipt.key)]);
    let [note] = &unlocked(&sink)[..] else { panic!("{:?}", sink.log()) };
    assert!(note.ends_with(".intent.json"), "{note}");
}

#[tokio::test]
async fn a_replicated_artifact_is_locked_as_a_backup_is() {
    let (from, to) = (MemorySink::new(), sink());
    let receipt = backup(FakeSource::of("abc")).to(Arc::new(from.clone())).run().await.unwrap();
    let (folder, _) = receipt.key.rsplit_once('/').unwrap();
    let copied = Replicate::new(Arc::new(from), to.arc()).folder(folder).plan().await.unwrap().execute().await.unwrap();
    assert!(copied.is_complete(), "{copied:?}");
    assert_eq!(to.locked(), [receipt.key.clone(), format!("{}.manifest.json", receipt.key)]);
    let [note, record] = &unlocked(&to)[..] else { panic!("{:?}", to.log()) };
    assert!(note.ends_with(".intent.json"), "{note}");
    assert!(record.contains("_lifeboat/history/"), "{record}");
}

#[tokio::test]
async fn the_objects_of_a_tree_are_locked_and_its_records_are_not() {
    let (from, to) = (MemorySink::new(), sink());
    from.place("theirs/a/b", "content", at("2026-11-20T00:00:00Z"));
    let copy = TreeCopy::new("theirs", Arc::new(from), to.arc()).unwrap().prefix("theirs");
    copy.plan().await.unwrap().execute().await.unwrap();
    assert_eq!(to.locked(), ["theirs/a/b"]);
    assert!(unlocked(&to).iter().all(|key| key.starts_with("_lifeboat/copies/")) && !unlocked(&to).is_empty());
}

#[tokio::test]
async fn the_probe_of_a_check_is_not_locked() {
    let sink = sink();
    check::sink(&sink, "db", "db", at("2026-11-20T00:00:00Z")).await;
    assert_eq!(sink.locked(), [""; 0]);
    assert_eq!(unlocked(&sink).len(), 1);
}
