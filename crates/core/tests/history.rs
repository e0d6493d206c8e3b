//! Every run leaves a record, failed ones too, told from its name alone; and no run fails for its record.
#![allow(clippy::unwrap_used, missing_docs)]

mod doubles;

use std::sync::Arc;

use doubles::*;
use futures::TryStreamExt;
use lifeboat_core::history::{self, Entry, Outcome, Verb};
use lifeboat_core::progress::Tally;
use lifeboat_core::proof::WholeStream;
use lifeboat_core::{
    ArtifactName, Backup, Check, Context, ErrorKind, Level, Proof, Replicate, Restore, RestoreInput, Result, Sink, Tap,
    Target, Verifier, Verify, async_trait, catalog, stream,
};
use lifeboat_testkit::memory::MemorySink;

/// Takes everything; the checks it makes are those it was given.
struct Taker(Vec<Check>, bool);

#[async_trait]
impl Target for Taker {
    async fn restore(&self, input: RestoreInput, _: &Context) -> Result<Vec<Check>> {
        stream::collect(input.stream, 1 << 20, "it").await?;
        if self.1 { Err(killed()) } else { Ok(self.0.clone()) }
    }
}

#[async_trait]
impl Verifier for Taker {
    fn tap(&self, _: &ArtifactName) -> Result<Box<dyn Tap>> {
        Ok(Box::new(WholeStream::new(ITEM)))
    }
    async fn restore_test(&self, input: RestoreInput, cx: &Context) -> Result<Vec<Check>> {
        self.restore(input, cx).await
    }
    async fn live(&self, _: Option<&Proof>, _: &Context) -> Result<Vec<Check>> {
        Ok(Vec::new())
    }
}

async fn entries(sink: &dyn Sink) -> Vec<Entry> {
    history::list(sink, FOLDER, Some(&dataset("shop")), None).try_collect().await.unwrap()
}

async fn the_entry(sink: &dyn Sink) -> Entry {
    let mut all = entries(sink).await;
    assert_eq!(all.len(), 1, "{all:?}");
    all.remove(0)
}

fn recorded(source: FakeSource) -> Backup {
    backup(source).history(true)
}

async fn forget(sink: &MemorySink) {
    let records: Vec<String> = sink.keys().into_iter().filter(|k| k.contains("/history/")).collect();
    sink.delete(&records).await.unwrap();
}

#[tokio::test]
async fn a_backup_leaves_a_record_that_its_name_tells() {
    let sink = MemorySink::new();
    recorded(FakeSource::of("abc")).to(Arc::new(sink.clone())).run().await.unwrap();
    let entry = the_entry(&sink).await;
    assert_eq!((entry.verb, entry.outcome, entry.at), (Verb::Backup, Outcome::Good, at("2026-11-21T03:30:00Z")));
    let name = entry.key.strip_prefix("db/_lifeboat/history/shop/20261121-033000-backup-good-").unwrap();
    assert_eq!(name.len(), "01234567.json".len(), "{name}");
    let record = history::read(&sink, &entry.key).await.unwrap();
    assert_eq!((record.key.as_deref(), record.items, record.rows), (Some(KEY), Some(1), Some(1)));
    assert_eq!(record.sink.as_deref(), Some("memory:"));
    assert_eq!(record.bytes, Some(sink.bytes(KEY).unwrap().len() as u64));
    let text = String::from_utf8(sink.bytes(&entry.key).unwrap().to_vec()).unwrap();
    assert!(!text.contains(ITEM), "{text}");
    // The catalog does not see it, and a sink that locks what it stores leaves it open.
    assert_eq!(list_all(&sink, FOLDER, None).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_backup_that_fails_leaves_a_record_with_the_kind() {
    let sink = MemorySink::new();
    recorded(FakeSource::dying_after("half")).to(Arc::new(sink.clone())).run().await.unwrap_err();
    let entry = the_entry(&sink).await;
    assert_eq!((entry.verb, entry.outcome), (Verb::Backup, Outcome::Failed));
    let record = history::read(&sink, &entry.key).await.unwrap();
    let error = record.error.unwrap();
    assert_eq!((error.kind.as_str(), error.message.as_str()), ("tool", "it ended with exit code 1"));
    assert_eq!(sink.keys(), [entry.key]);
}

#[tokio::test]
async fn a_database_that_does_not_answer_is_recorded_where_the_dataset_is_known() {
    for named in [true, false] {
        let sink = MemorySink::new();
        let mut source = FakeSource::of("x");
        source.describe = Err(ErrorKind::Unavailable);
        let run = recorded(source).to(Arc::new(sink.clone()));
        let run = if named { run.dataset(dataset("shop")) } else { run };
        run.run().await.unwrap_err();
        assert_eq!(entries(&sink).await.len(), usize::from(named));
    }
}

#[tokio::test]
async fn each_sink_has_the_record_of_what_became_of_it_there() {
    let good = MemorySink::new();
    let bad = ScriptedSink::new(|call, key| if call == "put" && key == KEY { Fate::Fails } else { Fate::Done });
    recorded(FakeSource::of("abc")).to(Arc::new(good.clone())).also_to(bad.arc()).run().await.unwrap();
    assert_eq!(the_entry(&good).await.outcome, Outcome::Warning);
    let entry = the_entry(&bad.memory).await;
    assert_eq!(entry.outcome, Outcome::Failed);
    assert_eq!(history::read(&bad.memory, &entry.key).await.unwrap().error.unwrap().kind, "io");
}

#[tokio::test]
async fn a_record_that_cannot_be_written_is_a_note_and_no_failure() {
    let sink = ScriptedSink::new(
        |call, key| {
            if call == "put" && key.contains("/history/") { Fate::Fails } else { Fate::Done }
        },
    );
    let tally = Arc::new(Tally::default());
    let cx = context().progress(tally.clone());
    let receipt = recorded(FakeSource::of("abc")).context(cx).to(sink.arc()).run().await.unwrap();
    assert!(receipt.notes[0].contains("the record of this run could not be written"), "{:?}", receipt.notes);
    assert_eq!(tally.notes(), receipt.notes);
    assert_eq!(list_all(&sink.memory, FOLDER, None).await.unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_backup_waits_only_shortly_for_its_record() {
    for hangs in [false, true] {
        let sink = ScriptedSink::new(move |call, key| {
            if hangs && call == "put" && key.contains("/history/") { Fate::Hangs } else { Fate::Done }
        });
        let cx = context();
        let cancel = cx.cancel.clone();
        let source = FakeSource::new(move |_| {
            cancel.cancel();
            Box::pin(futures::stream::pending())
        });
        let begun = tokio::time::Instant::now();
        let error = recorded(source).context(cx).to(sink.arc()).run().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Cancelled);
        assert!(begun.elapsed().as_secs() < 10, "{:?}", begun.elapsed());
        assert_eq!(entries(&sink.memory).await.len(), usize::from(!hangs));
    }
}

#[tokio::test]
async fn verifications_restores_prunes_and_copies_leave_theirs() {
    let memory = MemorySink::new();
    let sink: Arc<dyn Sink> = Arc::new(memory.clone());
    backup(FakeSource::of("abc")).to(sink.clone()).run().await.unwrap();
    let artifact = the_artifact(&*sink).await;
    for (checks, fails, outcome) in [
        (vec![Check::pass("a", "", "")], false, Outcome::Good),
        (vec![Check::warn("a", "", "")], false, Outcome::Warning),
        (vec![Check::fail("a", "", "")], false, Outcome::Failed),
        (Vec::new(), true, Outcome::Failed),
    ] {
        let taker = Taker(checks, fails);
        let _ = Verify::new(sink.clone(), artifact.clone(), &taker).context(context()).run().await;
        let entry = the_entry(&memory).await;
        assert_eq!((entry.verb, entry.outcome), (Verb::Verify, outcome));
        let record = history::read(&memory, &entry.key).await.unwrap();
        assert_eq!((record.level, record.key.as_deref()), (Some(Level::Restore), Some(KEY)));
        forget(&memory).await;
        let _ = Restore::new(sink.clone(), artifact.clone()).context(context()).into(&taker).await;
        let entry = the_entry(&memory).await;
        assert_eq!((entry.verb, entry.outcome), (Verb::Restore, outcome));
        forget(&memory).await;
    }
    let policy = "last=1".parse().unwrap();
    let prune = prune_at(sink.clone(), "2026-11-30T00:00:00Z").folder(FOLDER).keep(policy);
    let plan = prune.plan().await.unwrap();
    assert_eq!(entries(&memory).await, []);
    plan.execute().await.unwrap();
    let entry = the_entry(&memory).await;
    assert_eq!((entry.verb, entry.outcome), (Verb::Prune, Outcome::Good));
    assert_eq!(entry.at, at("2026-11-30T00:00:00Z"));

    let to = ScriptedSink::new(|call, key| if call == "put" && key == KEY { Fate::Fails } else { Fate::Done });
    for outcome in [Outcome::Failed, Outcome::Good] {
        let to = if outcome == Outcome::Failed { to.clone() } else { ScriptedSink::new(|_, _| Fate::Done) };
        let copy = Replicate::new(sink.clone(), to.arc()).folder(FOLDER).context(context());
        copy.plan().await.unwrap().execute().await.unwrap();
        let entry = the_entry(&to.memory).await;
        assert_eq!((entry.verb, entry.outcome), (Verb::Replicate, outcome));
    }
    // The source of a copy is only read.
    assert_eq!(entries(&memory).await.len(), 1);
}

/// Backups of three days, with their records. Returns the keys of their artifacts.
async fn three_days(sink: &MemorySink) -> Vec<String> {
    let mut keys = Vec::new();
    for day in ["21", "22", "23"] {
        let cx = Context::default().clock(clock_at(&format!("2026-11-{day}T03:30:00Z")));
        let run = recorded(FakeSource::of(day)).context(cx).to(Arc::new(sink.clone()));
        keys.push(run.run().await.unwrap().key);
    }
    keys
}

async fn find(sink: &dyn Sink, text: &str) -> Result<String> {
    catalog::find(sink, FOLDER, &dataset("shop"), &text.parse().unwrap()).await.map(|a| a.name.stamp())
}

async fn lose(sink: &MemorySink, key: &str) {
    let keys = sink.keys().into_iter().filter(|k| k.starts_with(key)).collect::<Vec<_>>();
    assert!(!keys.is_empty(), "{key}");
    sink.delete(&keys).await.unwrap();
}

#[tokio::test]
async fn what_the_history_names_and_nobody_pruned_is_missed() {
    let sink = MemorySink::new();
    let keys = three_days(&sink).await;
    lose(&sink, &keys[2]).await;
    for text in ["latest", "2026-11-23"] {
        let error = find(&sink, text).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert_eq!(
            error.message(),
            "shop-20261123-033000.dump.zst is missing from memory:/db: by the history it was backed up at 2026-11-23T03:30:00Z, \
             and no prune has deleted it; the newest before it is shop-20261122-033000.dump.zst"
        );
        assert!(error.advice().unwrap().contains("shop-20261122-033000.dump.zst"), "{error}");
    }
    assert_eq!(find(&sink, "2026-11-22").await.unwrap(), "20261122-033000");
    // All of them: that there is none is no answer either.
    for key in &keys[..2] {
        lose(&sink, key).await;
    }
    let error = find(&sink, "latest").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.message().contains("20261123-033000") && error.message().contains("no older one"), "{error}");
    // A backup that failed has left nothing to be missed.
    forget(&sink).await;
    recorded(FakeSource::dying_after("half")).to(Arc::new(sink.clone())).run().await.unwrap_err();
    assert_eq!(find(&sink, "latest").await.unwrap_err().kind(), ErrorKind::NoArtifact);
}

#[tokio::test]
async fn what_a_prune_deleted_is_not_missed_and_its_proof_outlives_it() {
    let sink = MemorySink::new();
    let keys = three_days(&sink).await;
    let mut all = list_all(&sink, FOLDER, None).await.unwrap();
    let (newest, oldest) = (all.pop().unwrap(), all.remove(0));
    for (checks, hour) in [(vec![Check::fail("a", "", "")], "04"), (vec![Check::pass("a", "", "")], "05")] {
        let cx = Context::default().clock(clock_at(&format!("2026-11-21T{hour}:00:00Z")));
        Verify::new(sink.clone(), oldest.clone(), &Taker(checks, false))
            .context(cx)
            .history(false)
            .run()
            .await
            .unwrap();
    }
    // The last one that is proven would stay.
    Verify::new(sink.clone(), newest, &Taker(Vec::new(), false)).context(context()).history(false).run().await.unwrap();
    let prune = prune_at(sink.clone(), "2027-11-24T00:00:00Z").keep("30d".parse().unwrap());
    let mut pruned = prune.plan().await.unwrap().execute().await.unwrap().deleted;
    pruned.sort();
    assert_eq!(pruned, keys[..2]);
    let told = history::of_artifact(&sink, FOLDER, &oldest.name).await.unwrap();
    assert_eq!(told.iter().map(|record| record.verb).collect::<Vec<_>>(), [Verb::Backup, Verb::Prune]);
    let deleted = told[1].deleted.clone().unwrap();
    assert_eq!((deleted.len(), &deleted[1].artifact), (2, &oldest.name.to_string()));
    assert_eq!(
        (&deleted[0].verified[..], &deleted[1].verified[..]),
        (&[][..], &["20261121-050000-restore-pass".to_owned()][..])
    );

    // What is not named is missed.
    lose(&sink, &keys[2]).await;
    assert!(find(&sink, "latest").await.unwrap_err().message().contains("20261123-033000"));
    // A record of the time before records named what was deleted may mean any of it, and one that names it does.
    let entry = entries(&sink).await.into_iter().find(|entry| entry.verb == Verb::Prune).unwrap();
    let record = serde_json::to_value(history::read(&sink, &entry.key).await.unwrap()).unwrap();
    let mut old = record.clone();
    old.as_object_mut().unwrap().remove("deleted");
    let mut naming = record;
    naming["deleted"] = keys.iter().map(|key| serde_json::json!({ "artifact": &key["db/".len()..] })).collect();
    for record in [old, naming] {
        sink.place(&entry.key, record.to_string(), entry.at);
        assert_eq!(find(&sink, "latest").await.unwrap_err().kind(), ErrorKind::NoArtifact);
    }
}

#[tokio::test]
async fn what_a_copy_has_brought_is_missed_in_the_second_sink() {
    let (sink, second) = (MemorySink::new(), ScriptedSink::new(|_, _| Fate::Done));
    let to = second.memory.clone();
    let keys = three_days(&sink).await;
    for _ in 0..2 {
        let cx = Context::default().clock(clock_at("2026-11-24T00:00:00Z"));
        let copy = Replicate::new(sink.clone(), second.arc()).folder(FOLDER).context(cx);
        copy.plan().await.unwrap().execute().await.unwrap();
    }
    lose(&to, &keys[2]).await;
    let error = find(&to, "latest").await.unwrap_err();
    assert!(error.message().contains("20261123-033000.dump.zst is missing"), "{error}");
    assert_eq!(find(&sink, "latest").await.unwrap(), "20261123-033000");
}

#[tokio::test]
async fn a_prune_of_very_many_names_the_newest_in_its_record() {
    let sink = MemorySink::new();
    let begin = at("2020-01-01T00:00:00Z").as_second();
    for hour in 0..2_000 {
        let time = jiff::Timestamp::from_second(begin + hour * 3600).unwrap();
        let stamp = lifeboat_core::name::format_stamp(time);
        sink.place(&format!("db/shop-{stamp}.dump"), "x", time);
    }
    let prune = prune_at(sink.clone(), "2026-11-30T00:00:00Z").keep("last=1".parse().unwrap());
    prune.plan().await.unwrap().execute().await.unwrap();
    let entry = the_entry(&sink).await;
    let record = history::read(&sink, &entry.key).await.unwrap();
    let deleted = record.deleted.unwrap();
    assert_eq!(record.items, Some(1_999));
    assert!((100..1_999).contains(&deleted.len()), "{}", deleted.len());
    assert!(deleted.is_sorted_by(|a, b| a.artifact > b.artifact));
}

#[tokio::test]
async fn a_verification_that_shall_leave_nothing_leaves_nothing() {
    let memory = MemorySink::new();
    let sink: Arc<dyn Sink> = Arc::new(memory.clone());
    backup(FakeSource::of("abc")).to(sink.clone()).run().await.unwrap();
    let before = memory.keys();
    let taker = Taker(Vec::new(), false);
    Verify::new(sink.clone(), the_artifact(&*sink).await, &taker).record(false).run().await.unwrap();
    Restore::new(sink.clone(), the_artifact(&*sink).await).history(false).into(&taker).await.unwrap();
    assert_eq!(memory.keys(), before);
}

fn place(sink: &MemorySink, dataset: &str, name: &str) {
    sink.place(&format!("db/_lifeboat/history/{dataset}/{name}.json"), "{}", at("2020-01-01T00:00:00Z"));
}

#[tokio::test]
async fn records_are_listed_oldest_first_and_read_from_a_time_on() {
    let sink = MemorySink::new();
    for name in [
        "20261103-000000-prune-failed-00000001",
        "20261101-000000-backup-good-ffffffff",
        "20261102-000000-verify-warning-0a0a0a0a",
    ] {
        place(&sink, "shop", name);
    }
    place(&sink, "shop-eu", "20261101-000000-backup-good-00000000");
    for other in [
        "20261101-000000-dance-good-00000000",
        "20261101-000000-backup-good-0000000G",
        "20261101-000000-backup-good",
        "x",
    ] {
        place(&sink, "shop", other);
    }
    let verbs = |since: Option<&str>, of: Option<&str>| {
        let (sink, since, of) = (sink.clone(), since.map(at), of.map(dataset));
        async move {
            let all: Vec<Entry> = history::list(&sink, "db", of.as_ref(), since).try_collect().await.unwrap();
            all.into_iter().map(|e| format!("{} {} {}", e.dataset, e.verb, e.outcome)).collect::<Vec<_>>()
        }
    };
    assert_eq!(verbs(None, Some("shop")).await, ["shop backup good", "shop verify warning", "shop prune failed"]);
    assert_eq!(verbs(Some("2026-11-02T00:00:00Z"), Some("shop")).await.len(), 2);
    assert_eq!(verbs(None, None).await.len(), 4);
    assert_eq!(verbs(None, Some("none")).await.len(), 0);
}

#[tokio::test]
async fn old_records_go_and_one_that_is_not_known_keeps_those_beside_it() {
    let sink = MemorySink::new();
    let now = at("2026-11-21T00:00:00Z");
    for dataset in ["a", "b"] {
        place(&sink, dataset, "20251018-000000-backup-good-00000000");
        place(&sink, dataset, "20251016-000000-backup-good-00000001");
        place(&sink, dataset, "20240101-000000-backup-failed-00000002");
    }
    place(&sink, "b", "20240101-000000-rekey-good-00000003");
    sink.place("db/a-20200101-000000.dump", "x", now);
    let forgotten = history::prune(&sink, "db", None, now, history::KEEP).await.unwrap();
    assert_eq!((forgotten.deleted, forgotten.notes.len()), (2, 1), "{forgotten:?}");
    assert!(forgotten.notes[0].contains("rekey"), "{forgotten:?}");
    let left: Vec<Entry> = history::list(&sink, "db", Some(&dataset("a")), None).try_collect().await.unwrap();
    assert_eq!(left.len(), 1);
    assert_eq!(sink.keys().len(), 6);
    // Nothing else touches them.
    catalog::remove_orphans(&sink, "db", now, std::time::Duration::ZERO, false).await.unwrap();
    assert_eq!(sink.keys().len(), 6);
}

#[tokio::test]
async fn what_is_no_record_is_refused() {
    let sink = MemorySink::new();
    for (body, kind) in
        [("{}", ErrorKind::Corrupt), ("x", ErrorKind::Corrupt), ("{\"format_version\": 2}", ErrorKind::Unsupported)]
    {
        sink.place("r.json", body, at("2026-11-21T00:00:00Z"));
        assert_eq!(history::read(&sink, "r.json").await.unwrap_err().kind(), kind, "{body}");
    }
}
