//! What a limiter promises, whatever runs: a rate is kept, what waits for its turn has not stalled, and nothing locks up.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use futures::stream::{self, StreamExt};
use lifeboat_core::encryptor::Age;
use lifeboat_core::progress::Tally;
use lifeboat_core::proof::WholeStream;
use lifeboat_core::{
    ArtifactName, Check, Compression, Context, Level, Limiter, Proof, Replicate, Restore, RestoreInput, Result, Sink,
    Status, Tap, TreeCopy, Verifier, Verify, async_trait,
};
use lifeboat_testkit::content;
use lifeboat_testkit::memory::MemorySink;
use tokio::time::Instant;

use super::doubles::*;

/// What each run moves.
const BYTES: usize = 200_000;

fn source() -> FakeSource {
    FakeSource::of(content::bytes(5, BYTES))
}

fn limited(limiter: &Limiter) -> Context {
    context().limiter(limiter.clone())
}

async fn run(sink: impl Sink + 'static, limiter: &Limiter) {
    let made = backup(source()).compress(Compression::None).context(limited(limiter)).to(sink);
    made.run().await.unwrap();
}

/// Seconds by the clock of the runtime, which is paused. It jumps while a thread computes: it tells the least time that passed.
async fn seconds(work: impl Future<Output = ()>) -> f64 {
    let begun = Instant::now();
    work.await;
    begun.elapsed().as_secs_f64()
}

/// Looks at stored bytes without structure.
pub(super) struct Whole;

#[async_trait]
impl Verifier for Whole {
    fn tap(&self, _: &ArtifactName) -> Result<Box<dyn Tap>> {
        Ok(Box::new(WholeStream::new(ITEM)))
    }

    async fn restore_test(&self, _: RestoreInput, _: &Context) -> Result<Vec<Check>> {
        unreachable!("only the structure is looked at")
    }

    async fn live(&self, _: Option<&Proof>, _: &Context) -> Result<Vec<Check>> {
        unreachable!("only the structure is looked at")
    }
}

#[tokio::test(start_paused = true)]
async fn everything_that_moves_bytes_keeps_to_the_rate() {
    let rate = || "100kB/s".parse().unwrap();
    let whole = BYTES as f64 / 100_000.0 - 0.2;
    let (from, two) = (MemorySink::new(), [MemorySink::new(), MemorySink::new()]);

    assert!(seconds(run(from.clone(), &Limiter::new().source(rate()))).await >= whole, "source");
    let upload = Limiter::new().upload(rate());
    // Two runs, one limit.
    let both = async {
        tokio::join!(run(two[0].clone(), &upload), run(two[1].clone(), &upload));
    };
    assert!(seconds(both).await >= 2.0 * whole, "two backups");
    let tee = async {
        let made = backup(source()).compress(Compression::None).context(limited(&Limiter::new().upload(rate())));
        let receipt = made.to(MemorySink::new()).also_to(MemorySink::new()).run().await.unwrap();
        assert!(receipt.is_complete());
    };
    assert!(seconds(tee).await >= 2.0 * whole, "two sinks");

    let artifact = the_artifact(&from).await;
    let download = Limiter::new().download(rate());
    let restored = async {
        let restore = Restore::new(from.clone(), artifact.clone()).context(limited(&download));
        let stream = restore.stream().await.unwrap();
        assert_eq!(lifeboat_core::stream::collect(stream, 1 << 20, "x").await.unwrap().len(), BYTES);
    };
    assert!(seconds(restored).await >= whole, "restore");
    let verified = async {
        let verify = Verify::new(from.clone(), artifact.clone(), &Whole).level(Level::Structure);
        assert_eq!(verify.context(limited(&download)).run().await.unwrap().status(), Status::Pass);
    };
    assert!(seconds(verified).await >= whole, "verify");

    for limiter in [Limiter::new().download(rate()), Limiter::new().upload(rate())] {
        let to = ScriptedSink::new(|_, _| Fate::Done).named("copy");
        let replicate = Replicate::new(from.clone(), to.arc()).folder(FOLDER).context(limited(&limiter));
        let copied = async {
            let copied = replicate.plan().await.unwrap().execute().await.unwrap();
            assert!(copied.is_complete() && copied.copied.len() == 1);
        };
        assert!(seconds(copied).await >= whole, "replicate, {limiter:?}");
        let to = ScriptedSink::new(|_, _| Fate::Done).named("tree");
        let whole_tree = ScriptedSink::over(from.clone(), |_, _| Fate::Done).named("source");
        let tree = TreeCopy::new("tree", whole_tree.arc(), to.arc()).unwrap().context(limited(&limiter));
        let copied = async {
            assert!(tree.plan().await.unwrap().execute().await.unwrap().is_complete());
        };
        assert!(seconds(copied).await >= whole, "tree, {limiter:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_waits_for_its_turn_has_not_stalled() {
    let rate = || "200B/s".parse().unwrap();
    for limiter in [Limiter::new().upload(rate()), Limiter::new().source(rate())] {
        let tally = Arc::new(Tally::default());
        let made = backup(FakeSource::of(content::bytes(5, 8_000)))
            .compress(Compression::None)
            .context(limited(&limiter).progress(tally.clone()))
            .stall_limit(Duration::from_secs(20))
            .sink_grace(Duration::from_secs(10));
        let begun = Instant::now();
        let receipt = made.to(MemorySink::new()).also_to(MemorySink::new()).run().await.unwrap();
        assert!(receipt.is_complete(), "{receipt:?}");
        assert!(begun.elapsed() > Duration::from_secs(35), "{limiter:?}");
        assert_eq!(tally.notes(), [] as [&str; 0]);
    }
}

#[tokio::test]
async fn a_cancelled_backup_does_not_send_what_is_waiting() {
    let sink = MemorySink::new();
    let cx = limited(&Limiter::new().upload("1kB/s".parse().unwrap()));
    let cancel = cx.cancel.clone();
    let made = backup(source()).compress(Compression::None).context(cx).to(sink.clone());
    let (ended, ()) = tokio::join!(made.run(), async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        cancel.cancel();
    });
    assert_eq!(ended.unwrap_err().kind(), lifeboat_core::ErrorKind::Cancelled);
    super::assert_nothing_is_left(&sink).await;
}

/// How many do something at once.
#[derive(Clone, Default)]
struct AtOnce {
    now: Arc<AtomicU64>,
    most: Arc<AtomicU64>,
    threads: Arc<Mutex<HashSet<std::thread::ThreadId>>>,
}

impl AtOnce {
    fn begin(&self) {
        self.most.fetch_max(self.now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        self.threads.lock().unwrap().insert(std::thread::current().id());
    }

    fn end(&self) {
        self.now.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Computes for a while on each chunk.
struct BusyTap(Box<WholeStream>, AtOnce);

impl Tap for BusyTap {
    fn push(&mut self, chunk: &[u8]) -> Result<()> {
        self.1.begin();
        let done = self.0.push(chunk);
        std::thread::sleep(Duration::from_millis(1));
        self.1.end();
        done
    }

    fn finish(self: Box<Self>) -> Result<Proof> {
        self.0.finish()
    }
}

async fn computing_at_once(limiter: &Limiter) -> u64 {
    let at_once = AtOnce::default();
    let runs = (0..4).map(|_| {
        let counted = at_once.clone();
        let chunks = (0..10).map(|n| Ok(content::bytes(n, 50_000)));
        let source = FakeSource::new(move |_| stream::iter(chunks.clone().collect::<Vec<_>>()).boxed())
            .tapped_by(move || Box::new(BusyTap(Box::new(WholeStream::new(ITEM)), counted.clone())));
        let sink = MemorySink::new();
        let (_, public) = Age::generate();
        let made = backup(source).context(limited(limiter)).encrypt(Age::to([public]).unwrap()).to(sink);
        async move { made.run().await.unwrap() }
    });
    soon(join_all(runs)).await;
    assert_eq!(at_once.threads.lock().unwrap().len(), 4, "each run has a thread of its own all the same");
    at_once.most.load(Ordering::SeqCst)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_more_stages_compute_at_once_than_there_are_places() {
    assert!(computing_at_once(&Limiter::new()).await > 1, "otherwise this test says nothing");
    assert_eq!(computing_at_once(&Limiter::new().threads(1)).await, 1);
    assert!(computing_at_once(&Limiter::new().threads(2)).await <= 2);
}

#[tokio::test]
async fn runs_that_share_less_memory_than_each_wants_go_one_after_the_other() {
    let limiter = Limiter::new().memory(1 << 20);
    let reading = AtOnce::default();
    let stored = MemorySink::new();
    let runs = (0..3u32).map(|n| {
        let counted = reading.clone();
        let source = FakeSource::new(move |_| {
            let (first, last) = (counted.clone(), counted.clone());
            let begin = stream::once(async move {
                first.begin();
                tokio::time::sleep(Duration::from_millis(20)).await;
                Ok(Bytes::from_static(b"abc"))
            });
            let end = stream::once(async move {
                last.end();
                Ok(Bytes::from_static(b"d"))
            });
            begin.chain(end).boxed()
        });
        let made = backup(source).clock(clock_at(&format!("2026-11-21T03:30:0{n}Z")));
        made.context(limited(&limiter).clock(clock_at(&format!("2026-11-21T03:30:0{n}Z")))).to(stored.clone()).run()
    });
    let ended = soon(join_all(runs)).await;
    assert!(ended.iter().all(Result::is_ok), "{ended:?}");
    assert_eq!(reading.most.load(Ordering::SeqCst), 1);
    // Copies side by side, each of which would want more than there is.
    let to = ScriptedSink::new(|_, _| Fate::Done).named("copy");
    let replicate = Replicate::new(stored, to.arc()).folder(FOLDER).context(limited(&limiter));
    let copied = soon(async { replicate.plan().await.unwrap().execute().await.unwrap() }).await;
    assert_eq!(copied.copied.len(), 3);
}
