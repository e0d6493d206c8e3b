//! What hooks promise: `before` comes before anything is read, `after` comes whatever happens, and neither changes an artifact.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::StreamExt;
use lifeboat_core::history::{self, Outcome, Verb};
use lifeboat_core::hooks::Occasion;
use lifeboat_core::progress::Tally;
use lifeboat_core::{
    Check, Context, Error, ErrorKind, Hook, Hooks, Level, Restore, RestoreInput, Result, Status, Target, Verify,
    async_trait,
};
use lifeboat_testkit::memory::MemorySink;

use super::doubles::*;
use super::limits::Whole;

type Log = Arc<Mutex<Vec<String>>>;

fn failure() -> Error {
    Error::new(ErrorKind::Tool, "run", "freeze.sh", "it ended with status 3: no such table")
}

/// Notes what runs, and fails where the test says so.
struct Notes {
    log: Log,
    name: &'static str,
    before: bool,
    after: bool,
}

#[async_trait]
impl Hook for Notes {
    fn name(&self) -> String {
        self.name.to_owned()
    }

    async fn before(&self, run: &Occasion, _: &Context) -> Result<()> {
        self.log.lock().unwrap().push(format!("{} before {}", self.name, run.verb));
        if self.before { Ok(()) } else { Err(failure()) }
    }

    async fn after(&self, run: &Occasion, outcome: Outcome, cx: &Context) -> Result<()> {
        assert!(!cx.cancel.is_cancelled());
        let key = run.key.as_ref().map_or("none", |_| "a key");
        self.log.lock().unwrap().push(format!("{} after {}: {outcome}, {key}", self.name, run.verb));
        if self.after { Ok(()) } else { Err(failure()) }
    }
}

fn hooks(log: &Log, (before, after): (bool, bool)) -> Hooks {
    let outer = Notes { log: log.clone(), name: "outer", before: true, after: true };
    Hooks::new().hook(outer).hook(Notes { log: log.clone(), name: "freeze.sh", before, after })
}

fn noted(log: &Log) -> Vec<String> {
    std::mem::take(&mut *log.lock().unwrap())
}

async fn records(sink: &MemorySink) -> Vec<history::Record> {
    let keys: Vec<String> = sink.keys().into_iter().filter(|key| key.contains("/history/")).collect();
    let mut all = Vec::new();
    for key in keys {
        all.push(history::read(sink, &key).await.unwrap());
    }
    all
}

#[tokio::test]
async fn after_always_comes_when_before_came_and_knows_what_came_of_the_run() {
    let (log, sink) = (Log::default(), MemorySink::new());
    let made = backup(FakeSource::of("abc")).hooks(hooks(&log, (true, true))).to(sink.clone()).run().await.unwrap();
    assert!(made.is_good());
    assert_eq!(
        noted(&log),
        [
            "outer before backup",
            "freeze.sh before backup",
            "freeze.sh after backup: good, a key",
            "outer after backup: good, a key"
        ]
    );
    let run = backup(FakeSource::dying_after("abc")).hooks(hooks(&log, (true, true))).to(MemorySink::new()).run();
    assert_is_killed(&run.await.unwrap_err());
    assert_eq!(noted(&log)[2..], ["freeze.sh after backup: failed, none", "outer after backup: failed, none"]);
    let verify = Verify::new(sink.clone(), the_artifact(&sink).await, &Whole).level(Level::Stored);
    verify.hooks(hooks(&log, (true, true))).run().await.unwrap();
    assert_eq!(noted(&log)[2], "freeze.sh after verify: good, a key");
}

#[tokio::test]
async fn a_before_that_fails_fails_the_backup_before_anything_is_read() {
    let (log, sink) = (Log::default(), MemorySink::new());
    let source = FakeSource::of("abc");
    let opens = source.opens.clone();
    let run = backup(source).dataset(dataset("shop")).history(true).hooks(hooks(&log, (false, true)));
    let error = run.to(sink.clone()).run().await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot run freeze.sh, the hook before the backup: it ended with status 3: no such table"
    );
    assert_eq!(error.kind(), ErrorKind::Tool);
    assert_eq!(opens.load(std::sync::atomic::Ordering::SeqCst), 0);
    assert_eq!(noted(&log)[2..], ["freeze.sh after backup: failed, none", "outer after backup: failed, none"]);
    let records = records(&sink).await;
    assert_eq!((sink.keys().len(), records.len()), (1, 1), "nothing but the record: {:?}", sink.keys());
    assert_eq!((records[0].verb, records[0].outcome), (Verb::Backup, Outcome::Failed));
    assert_eq!(records[0].error.as_ref().unwrap().message, "it ended with status 3: no such table");
}

#[tokio::test]
async fn an_after_that_fails_fails_the_run_and_the_artifact_stays() {
    let (log, sink) = (Log::default(), MemorySink::new());
    let run = backup(FakeSource::of("abc")).history(true).hooks(hooks(&log, (true, false))).to(sink.clone());
    let receipt = run.run().await.unwrap();
    assert!(receipt.is_complete() && !receipt.is_good());
    let failed = receipt.hook.unwrap();
    assert_eq!(failed.error, "cannot run freeze.sh, the hook after the backup: it ended with status 3: no such table");
    assert_eq!(noted(&log).last().unwrap(), "outer after backup: good, a key", "the others run all the same");
    let artifact = the_artifact(&sink).await;
    assert_eq!(super::read_back(Arc::new(sink.clone())).await, "abc");
    let record = records(&sink).await.remove(0);
    assert_eq!((record.outcome, record.error.unwrap().kind.as_str()), (Outcome::Warning, "tool"));

    let verify = Verify::new(sink.clone(), artifact.clone(), &Whole).level(Level::Stored);
    let report = verify.hooks(hooks(&log, (true, false))).run().await.unwrap();
    let failed: Vec<&str> = report.failures().map(|check| check.name.as_str()).collect();
    assert_eq!((report.passed, failed), (false, vec!["hook"]));
    let judged = the_artifact(&sink).await.verifications;
    assert!(judged.len() == 1 && judged[0].passed, "what is recorded of the artifact is about the artifact");

    let restore = Restore::new(sink.clone(), artifact).hooks(hooks(&log, (true, false)));
    let restored = restore.into(&Reads).await.unwrap();
    assert_eq!((restored.checks[0].name.as_str(), restored.checks[0].status), ("hook", Status::Fail));
}

struct Reads;

#[async_trait]
impl Target for Reads {
    async fn restore(&self, mut input: RestoreInput, _: &Context) -> Result<Vec<Check>> {
        while let Some(chunk) = input.stream.next().await {
            chunk?;
        }
        Ok(Vec::new())
    }
}

#[tokio::test(start_paused = true)]
async fn a_hook_that_takes_too_long_is_told_to_end_and_then_dropped() {
    let log = Log::default();
    let notes = log.clone();
    let slow = Hooks::new().before(|_| std::future::pending()).after(move |_, outcome| {
        notes.lock().unwrap().push(outcome.to_string());
        async { Ok(()) }
    });
    let begun = tokio::time::Instant::now();
    let run = backup(FakeSource::of("abc")).hooks(slow.timeout(Duration::from_secs(60))).to(MemorySink::new());
    let error = run.run().await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot run a hook, the hook before the backup: it had not ended after 1m 0s, and was ended"
    );
    assert_eq!((begun.elapsed().as_secs(), noted(&log)), (70, vec!["failed".to_owned()]));
}

#[tokio::test]
async fn a_cancellation_ends_before_and_the_backup_and_after_comes_all_the_same() {
    for hangs_before in [true, false] {
        let log = Log::default();
        let notes = log.clone();
        let hooks = Hooks::new()
            .before(move |_| async move { if hangs_before { std::future::pending().await } else { Ok(()) } })
            .after(move |_, outcome| {
                notes.lock().unwrap().push(outcome.to_string());
                async { Ok(()) }
            });
        let cx = context();
        let (cancel, owing) = (cx.cancel.clone(), cx.clone());
        let source = FakeSource::new(|_| futures::stream::pending().boxed());
        let run = backup(source).context(cx).hooks(hooks).to(MemorySink::new());
        tokio::time::pause();
        let (ended, ()) = tokio::join!(run.run(), async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            assert!(owing.owes_hooks());
            cancel.cancel();
        });
        tokio::time::resume();
        assert_eq!(ended.unwrap_err().kind(), ErrorKind::Cancelled);
        assert_eq!(noted(&log), ["failed"]);
        assert!(!owing.owes_hooks());
    }
}

#[tokio::test]
async fn after_comes_when_the_run_is_dropped_too() {
    let log = Log::default();
    let cx = context().progress(Arc::new(Tally::default()));
    let source = FakeSource::new(|_| futures::stream::pending().boxed());
    let run = backup(source).context(cx.clone()).hooks(hooks(&log, (true, true))).to(MemorySink::new());
    assert!(tokio::time::timeout(Duration::from_millis(50), run.run()).await.is_err());
    soon(async {
        while cx.owes_hooks() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(noted(&log)[2..], ["freeze.sh after backup: failed, none", "outer after backup: failed, none"]);
}
