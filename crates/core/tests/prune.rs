//! What pruning promises: it deletes what the policy says, the manifest first, and never the last good one.
#![allow(clippy::unwrap_used, missing_docs)]

mod doubles;

use std::ops::Range;
use std::sync::Arc;

use doubles::*;
use futures::stream::BoxStream;
use lifeboat_core::catalog::Kind;
use lifeboat_core::progress::Tally;
use lifeboat_core::retention::{Decision, Policy};
use lifeboat_core::sink::{Deleted, Held, HoldMode, Upkeep};
use lifeboat_core::{ByteStream, Context, ErrorKind, ObjectInfo, PlannedPrune, Result, Sink, async_trait};
use lifeboat_testkit::chaos::{ChaosSink, Fault};
use lifeboat_testkit::memory::MemorySink;

const NOW: &str = "2026-11-30T00:00:00Z";

fn key(day: u32) -> String {
    format!("db/shop-202611{day:02}-033000.dump.zst")
}

/// Managed artifacts of these days, 10 bytes each, with what verifications have said.
fn bucket(days: impl IntoIterator<Item = (u32, &'static [&'static str])>) -> MemorySink {
    let sink = MemorySink::new();
    let old = at("2020-01-01T00:00:00Z");
    for (day, records) in days {
        sink.place(&key(day), "0123456789", old);
        sink.place(&format!("{}.manifest.json", key(day)), "{}", old);
        for (n, record) in records.iter().enumerate() {
            sink.place(&format!("{}.verified-202611{:02}-000000-{record}.json", key(day), 24 + n), "{}", old);
        }
    }
    sink
}

async fn plan(sink: impl Sink + 'static, policy: &str) -> PlannedPrune {
    let policy = policy.parse().unwrap();
    prune_at(sink, NOW).keep(policy).history(false).plan().await.unwrap()
}

fn doomed(prune: &PlannedPrune) -> Vec<String> {
    prune.decisions().filter(|d| !d.keeps()).map(|d| d.key).collect()
}

#[tokio::test]
async fn a_plan_deletes_nothing_and_executing_it_deletes_all_of_an_artifact() {
    let sink = bucket([(1, &["restore-pass"][..]), (2, &[]), (25, &["restore-pass"])]);
    sink.place("db/shop-eu-20261101-033000.dump", "other", at(NOW));
    let prune = plan(sink.clone(), "7d").await;
    assert_eq!(doomed(&prune), [key(2), key(1)]);
    assert_eq!(prune.bytes_to_free(), 20);
    assert_eq!(sink.keys().len(), 9);
    let pruned = prune.execute().await.unwrap();
    assert_eq!((pruned.deleted.clone(), pruned.bytes, pruned.failed.len()), (vec![key(2), key(1)], 20, 0));
    let mut left = vec![
        key(25),
        format!("{}.manifest.json", key(25)),
        format!("{}.verified-20261124-000000-restore-pass.json", key(25)),
    ];
    left.push("db/shop-eu-20261101-033000.dump".to_owned());
    left.sort();
    assert_eq!(sink.keys(), left);
}

#[tokio::test]
async fn of_each_artifact_the_manifest_goes_first_and_the_object_last() {
    let sink = ScriptedSink::over(bucket([(1, &["stored-pass"][..]), (25, &[])]), |_, _| Fate::Done);
    plan(sink.clone(), "7d").await.execute().await.unwrap();
    let deletions: Vec<String> = sink.log().into_iter().filter(|l| l.starts_with("delete")).collect();
    let expected = [".manifest.json", ".verified-20261124-000000-stored-pass.json", ""];
    assert_eq!(deletions, expected.map(|suffix| format!("delete {}{suffix}", key(1))));
}

#[tokio::test]
async fn what_cannot_be_deleted_is_reported_and_the_others_go() {
    let locked = format!("{}.manifest.json", key(2));
    let refusing = locked.clone();
    let sink = ScriptedSink::over(bucket([(1, &[][..]), (2, &[]), (3, &[]), (25, &[])]), move |call, key| {
        if call == "delete" && key == refusing { Fate::Fails } else { Fate::Done }
    });
    let pruned = plan(sink.clone(), "7d").await.execute().await.unwrap();
    assert_eq!((pruned.deleted, pruned.bytes), (vec![key(3), key(1)], 20));
    assert_eq!(
        (pruned.failed[0].key.as_str(), pruned.failed[0].why.as_str()),
        (locked.as_str(), "this key may not delete")
    );
    // Its manifest is still there, so the object must be: it is whole.
    assert!(sink.memory.bytes(&key(2)).is_some());
}

#[tokio::test]
async fn a_prune_that_was_interrupted_is_finished_by_the_next() {
    let object = key(1);
    let sink = ScriptedSink::over(bucket([(1, &[][..]), (25, &[])]), move |call, key| {
        if call == "delete" && key == object { Fate::LosesItsAnswer } else { Fate::Done }
    });
    plan(sink.clone(), "7d").await.execute().await.unwrap_err();
    let left = list_all(&sink.memory, "db", None).await.unwrap();
    assert_eq!((left[0].key(), left[0].kind), (key(1), Kind::Foreign));
    let pruned = plan(sink.memory.clone(), "7d").await.execute().await.unwrap();
    assert_eq!((pruned.deleted, sink.memory.keys().len()), (vec![key(1)], 2));
}

#[tokio::test]
async fn the_newest_good_and_the_newest_verified_one_are_kept() {
    let sink = bucket([(1, &["restore-pass"][..]), (2, &["restore-pass"]), (3, &["stored-pass"]), (4, &[]), (5, &[])]);
    // Everything is older than the rule. That the bytes are there proves nothing about a restore.
    assert_eq!(doomed(&plan(sink, "1d").await), [key(4), key(3), key(1)]);
}

#[tokio::test]
async fn a_mere_look_at_a_newer_one_does_not_cost_the_one_that_was_restored() {
    let sink = bucket([(1, &["restore-pass"][..]), (2, &["structure-pass"]), (3, &[])]);
    assert_eq!(doomed(&plan(sink, "1d").await), [key(2)]);
    // Where nothing was ever restored, a look is the best that there is.
    let sink = bucket([(1, &["structure-pass"][..]), (2, &["structure-pass"]), (3, &[])]);
    assert_eq!(doomed(&plan(sink, "1d").await), [key(1)]);
}

#[tokio::test]
async fn an_artifact_that_failed_stands_in_for_nothing() {
    for failed in [&["restore-fail"][..], &["restore-pass", "stored-fail"], &["restore-fail", "stored-pass"]] {
        let sink = bucket([(1, &[][..]), (2, &[]), (3, failed)]);
        let left: Vec<String> = plan(sink, "1d").await.decisions().filter(Decision::keeps).map(|d| d.key).collect();
        assert!(left.contains(&key(2)), "{failed:?}: {left:?}");
    }
}

#[tokio::test]
async fn an_empty_or_damaged_artifact_stands_in_for_nothing() {
    let sink = bucket([(1, &[][..]), (2, &[]), (3, &[]), (4, &[])]);
    sink.place(&key(3), "", at(NOW));
    sink.delete(&[key(4)]).await.unwrap();
    assert_eq!(doomed(&plan(sink, "1d").await), [key(4), key(3), key(1)]);
}

#[tokio::test]
async fn a_backup_that_verified_only_as_too_old_or_drifted_is_still_good() {
    let sink = bucket([(1, &[][..]), (2, &["live-fail"])]);
    assert_eq!(doomed(&plan(sink, "1d").await), [key(1)]);
}

#[tokio::test]
async fn foreign_artifacts_and_volumes_are_pruned_like_any_other() {
    let sink = bucket([(25, &[][..])]);
    for name in ["shop-20261101-033000.sql.gz", "shop-20261102-033000.dump.000", "shop-20261102-033000.dump.001"] {
        sink.place(&format!("db/{name}"), "0123456789", at(NOW));
    }
    let pruned = plan(sink.clone(), "7d").await.execute().await.unwrap();
    assert_eq!((pruned.deleted.len(), pruned.bytes, sink.keys().len()), (2, 30, 2));
}

#[tokio::test]
async fn without_a_policy_everything_is_kept() {
    let sink = bucket([(1, &[][..]), (2, &[])]);
    let planned = prune_at(sink.clone(), NOW).history(false).plan().await.unwrap();
    assert_eq!((planned.kept(), planned.to_delete()), (2, 0));
    assert_eq!(planned.execute().await.unwrap().deleted, [""; 0]);
    assert_eq!(sink.keys().len(), 4);
}

#[tokio::test]
async fn a_prune_says_how_far_it_is_and_can_be_cancelled() {
    let sink = bucket((1..=20).map(|day| (day, &[][..])));
    let tally = Arc::new(Tally::default());
    let cx = Context::default().clock(clock_at(NOW)).progress(tally.clone());
    let cancel = cx.cancel.clone();
    let prune = || prune_at(sink.clone(), NOW).keep("last=1".parse().unwrap()).history(false).context(cx.clone());
    let planned = prune().plan().await.unwrap();
    assert_eq!(tally.advanced(), 0);

    cancel.cancel();
    assert_eq!(planned.execute().await.unwrap_err().kind(), ErrorKind::Cancelled);
    assert_eq!(prune().plan().await.unwrap_err().kind(), ErrorKind::Cancelled);
    assert_eq!(sink.keys().len(), 40, "what was cancelled before it began has deleted nothing");

    let cx = Context::default().clock(clock_at(NOW)).progress(tally.clone());
    let prune = prune_at(sink.clone(), NOW).keep("last=1".parse().unwrap()).history(false).context(cx);
    assert_eq!(prune.plan().await.unwrap().execute().await.unwrap().deleted.len(), 19);
    assert_eq!(tally.advanced(), 19);
}

#[tokio::test]
async fn from_half_a_listing_nothing_is_decided() {
    let chaos = ChaosSink::new(Arc::new(bucket([(1, &[][..]), (25, &[])]))).with(Fault::ListFails { after: 2 });
    let decided = prune_at(chaos, NOW).keep(Policy::days(1)).plan().await;
    assert_eq!(decided.unwrap_err().kind(), ErrorKind::Unavailable);
}

#[tokio::test]
async fn what_a_killed_run_has_left_is_no_business_of_prune() {
    let sink = bucket([(25, &[][..])]);
    let old = at("2020-01-01T00:00:00Z");
    sink.place("db/_lifeboat/uploads/shop-20261101-033000.dump.zst.intent.json", "{}", old);
    sink.place(&key(1), "half", old);
    assert_eq!(doomed(&plan(sink, "7d").await), Vec::<String>::new());
}

/// A sink that holds some of its objects, as Object Lock does.
#[derive(Debug)]
struct Holding {
    memory: MemorySink,
    held: Vec<String>,
}

#[async_trait]
impl Sink for Holding {
    fn url(&self) -> String {
        self.memory.url()
    }
    fn read_command(&self, key: &str) -> String {
        self.memory.read_command(key)
    }
    async fn put(&self, key: &str, body: ByteStream) -> Result<u64> {
        self.memory.put(key, body).await
    }
    async fn get(&self, key: &str, range: Option<Range<u64>>) -> Result<ByteStream> {
        self.memory.get(key, range).await
    }
    async fn head(&self, key: &str) -> Result<ObjectInfo> {
        self.memory.head(key).await
    }
    fn list(&self, prefix: &str) -> BoxStream<'_, Result<ObjectInfo>> {
        self.memory.list(prefix)
    }
    async fn delete(&self, keys: &[String]) -> Result<Deleted> {
        let (held, free): (Vec<_>, Vec<_>) = keys.iter().cloned().partition(|key| self.held.contains(key));
        let mut deleted = self.memory.delete(&free).await?;
        deleted.held = self.held(&held).await?;
        deleted.bytes = Some(7 * free.len() as u64);
        Ok(deleted)
    }
    fn upkeep(&self) -> Option<&dyn Upkeep> {
        Some(self)
    }
}

#[async_trait]
impl Upkeep for Holding {
    async fn held(&self, keys: &[String]) -> Result<Vec<Held>> {
        let until = Some(at("2026-12-24T00:00:00Z"));
        let held = keys.iter().filter(|key| self.held.contains(key));
        Ok(held.map(|key| Held::new(key, until, HoldMode::Compliance)).collect())
    }
}

#[tokio::test]
async fn an_artifact_of_which_anything_is_held_stays_whole() {
    for part in ["", ".manifest.json"] {
        let memory = bucket([(1, &[][..]), (2, &[]), (25, &[])]);
        let held = vec![format!("{}{part}", key(2))];
        let prune = plan(Holding { memory: memory.clone(), held }, "7d").await;
        let would: Vec<_> = prune.held().await.unwrap().into_iter().map(|h| h.to_string()).collect();
        assert_eq!(would, ["held until 2026-12-24T00:00:00Z (compliance)"]);
        assert_eq!(memory.keys().len(), 6, "asking deletes nothing");
        let pruned = prune.execute().await.unwrap();
        // A manifest and an object, of which the sink says that they had 7 bytes each.
        assert_eq!((pruned.deleted, pruned.bytes, pruned.failed.len()), (vec![key(1)], 14, 0));
        assert_eq!(pruned.held.iter().map(|h| h.key.clone()).collect::<Vec<_>>(), [key(2)]);
        assert_eq!(memory.keys().len(), 4);
    }
}

#[tokio::test]
async fn a_held_record_of_a_verification_does_not_hold_its_artifact() {
    let memory = bucket([(1, &["stored-pass"][..]), (25, &[])]);
    let record = memory.keys().into_iter().find(|key| key.contains(".verified-")).unwrap();
    let prune = plan(Holding { memory: memory.clone(), held: vec![record.clone()] }, "7d").await;
    assert_eq!(prune.held().await.unwrap(), []);
    let pruned = prune.execute().await.unwrap();
    assert_eq!((pruned.deleted, &pruned.held[0].key), (vec![key(1)], &record));
    assert_eq!(memory.keys(), [record, key(25), format!("{}.manifest.json", key(25))]);
}
