//! Backup, list, verify, prune and replicate with a store that lies: whatever is said to be done is true, as the store itself
//! truly knows.
//!
//! `LIFEBOAT_TEST_SEED=17` runs one of the random schedules, `LIFEBOAT_TEST_SEED=500..2000` others.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use futures::TryStreamExt;
use jiff::Timestamp;
use lifeboat_core::catalog::{self, Artifact, Kind};
use lifeboat_core::retention::Policy;
use lifeboat_core::{Backup, Compression, Context, Dataset, Level, Prune, Replicate, Sink, Verify};
use lifeboat_testkit::lines::LinesVerifier;
use lifeboat_testkit::memory::MemorySink;
use lifeboat_testkit::s3::{Lies, S3, Ways};

use super::answers::open;
use super::{Data, MIB, holds, seeds};

const HERE: &str = "bucket/pg";
const THERE: &str = "bucket/copy";

/// Seeds of the backups that are there before.
const BEFORE: std::ops::Range<u64> = 1..4;

/// Stores, of several ways, that play the schedules side by side.
const STORES: u64 = 15;

fn day(n: u64) -> Timestamp {
    format!("2026-11-{n:02}T03:30:00Z").parse().unwrap()
}

fn backup(n: u64, length: usize, sink: Arc<dyn Sink>) -> Backup {
    let context = Context::default().clock(Arc::new(move || day(n)));
    Backup::new(Data::new(n, length)).unencrypted().compress(Compression::None).history(false).context(context).to(sink)
}

/// What each backup holds, by its day.
fn content(seed: u64, n: u64) -> Data {
    let length = match (BEFORE.contains(&n), seed % 16) {
        (true, _) => 2000 + n as usize,
        (false, 0) => 5 * MIB + 7,
        (false, other) => 1 + 3000 * other as usize,
    };
    Data::new(n, length)
}

/// The objects of the backups that are there before.
async fn before() -> BTreeMap<String, Bytes> {
    let memory = MemorySink::new();
    for n in BEFORE {
        backup(n, content(1, n).length, Arc::new(memory.clone())).run().await.unwrap();
    }
    memory.keys().into_iter().map(|key| (key.clone(), memory.bytes(&key).unwrap())).collect()
}

struct Scene {
    seed: u64,
    store: S3,
    lies: Lies,
    here: Arc<dyn Sink>,
    there: Arc<dyn Sink>,
}

impl Scene {
    /// The store that plays this seed, and others after it: to open a sink takes longer than to play.
    async fn of_store(n: u64) -> Self {
        let ways = Ways {
            page: 3,
            is_versioned: n.is_multiple_of(3),
            lists_as_of_old: n.is_multiple_of(5),
            ..Ways::default()
        };
        let store = S3::start(ways, Lies::none()).await;
        let sink = |place: &str| open(&store.sink_url(place), None);
        let (here, there) = (sink(HERE), sink(THERE));
        Self { seed: n, store, lies: Lies::none(), here, there }
    }

    fn begin(&mut self, seed: u64, before: &BTreeMap<String, Bytes>) {
        (self.seed, self.lies) = (seed, Lies::seeded(seed));
        self.store.clear();
        for (key, bytes) in before {
            self.store.place(&format!("{HERE}/{key}"), bytes.clone());
        }
    }

    /// Does something while the store lies.
    async fn lying<T>(&self, work: impl Future<Output = T>) -> T {
        self.store.set(self.lies.clone());
        let done = work.await;
        self.store.be_honest();
        done
    }

    /// What is truly there, past the protocol.
    fn true_copy(&self, place: &str) -> Arc<dyn Sink> {
        let memory = MemorySink::new();
        for path in self.store.paths() {
            if let Some(key) = path.strip_prefix(place).and_then(|key| key.strip_prefix('/')) {
                memory.place(key, self.store.bytes(&path).unwrap(), day(20));
            }
        }
        Arc::new(memory)
    }

    async fn truth(&self, place: &str) -> Vec<Artifact> {
        catalog::list(&*self.true_copy(place), "", None).try_collect::<Vec<_>>().await.unwrap()
    }

    /// The keys of the artifacts that are truly there, and whole.
    async fn keys(&self, place: &str) -> BTreeSet<String> {
        let (sink, mut whole) = (self.true_copy(place), BTreeSet::new());
        for artifact in self.truth(place).await {
            let n = artifact.name.taken_at.strftime("%d").to_string().parse().unwrap();
            let is_managed = artifact.kind == Kind::Managed;
            if is_managed && holds(&sink, &artifact, &content(self.seed, n)).await.is_ok() {
                whole.insert(artifact.key());
            }
        }
        whole
    }

    /// The error says what was said to be done and is not. Otherwise, how much was done.
    async fn play(&self) -> Result<u32, String> {
        let mut done = 0;
        let source = content(self.seed, 10);
        if let Ok(receipt) = self.lying(backup(10, source.length, self.here.clone()).run()).await {
            if !self.keys(HERE).await.contains(&receipt.key) {
                return Err(format!("a backup is done, and {} is not there", receipt.key));
            }
            done += 1;
        }
        let truth = self.truth(HERE).await;
        let of = |all: &[Artifact]| all.iter().map(|a| (a.key(), a.kind, a.bytes())).collect::<Vec<_>>();
        if let Ok(listed) = self.lying(catalog::list(&*self.here, "", None).try_collect::<Vec<_>>()).await {
            if of(&listed) != of(&truth) {
                return Err(format!("{:?} is listed, and there is {:?}", of(&listed), of(&truth)));
            }
            done += 1;
        }
        done += self.verify(&truth).await?;
        done += self.replicate().await?;
        done += self.prune().await?;
        Ok(done)
    }

    /// Of two artifacts one is damaged.
    async fn verify(&self, truth: &[Artifact]) -> Result<u32, String> {
        let [damaged, good, ..] = truth else { return Err(format!("there is {truth:?}")) };
        let path = format!("{HERE}/{}", damaged.key());
        let whole = self.store.bytes(&path).unwrap();
        let mut flipped = whole.to_vec();
        flipped[100] ^= 1;
        self.store.place(&path, flipped);
        let mut done = 0;
        for (artifact, is_good) in [(damaged, false), (good, true)] {
            let verify = Verify::new(self.here.clone(), artifact.clone(), &LinesVerifier).level(Level::Stored);
            if let Ok(report) = self.lying(verify.record(false).history(false).run()).await
                && report.passed
            {
                if !is_good {
                    return Err(format!("{} is damaged, and passes", artifact.key()));
                }
                done += 1;
            }
        }
        self.store.place(&path, whole);
        Ok(done)
    }

    async fn replicate(&self) -> Result<u32, String> {
        let context = Context::default().clock(Arc::new(|| day(20)));
        let all = Replicate::new(self.here.clone(), self.there.clone()).history(false).context(context);
        let copied = self.lying(async { all.plan().await?.execute().await }).await;
        let Ok(copied) = copied else { return Ok(0) };
        let (here, there) = (self.keys(HERE).await, self.keys(THERE).await);
        if let Some(missing) = copied.copied.iter().find(|copied| !there.contains(&copied.key)) {
            return Err(format!("{} is copied, and not there", missing.key));
        }
        if copied.is_complete() && here != there {
            return Err(format!("all is copied, and of {here:?} there is {there:?}"));
        }
        Ok(u32::from(copied.is_complete()))
    }

    async fn prune(&self) -> Result<u32, String> {
        let policy: Policy = "last=2".parse().unwrap();
        let dataset = Dataset::new("shop").unwrap();
        // One that a failed run could not take away counts, until a verification has found it.
        let listed = |all: Vec<Artifact>| all.iter().map(Artifact::key).collect::<BTreeSet<_>>();
        let (whole, before) = (self.keys(HERE).await, listed(self.truth(HERE).await));
        let pruned = self
            .lying(async {
                let context = Context::default().clock(Arc::new(|| day(20)));
                let prune = Prune::new(self.here.clone(), dataset.clone()).keep(policy).context(context);
                prune.plan().await?.execute().await
            })
            .await;
        let after = self.keys(HERE).await;
        let kept: BTreeSet<String> = before.iter().rev().take(2).cloned().collect();
        if kept.intersection(&whole).any(|key| !after.contains(key)) {
            return Err(format!("of {kept:?}, which are kept, there is {after:?}"));
        }
        let Ok(pruned) = pruned else { return Ok(0) };
        let paths = self.store.paths();
        if let Some(there) = pruned.deleted.iter().find(|key| paths.contains(&format!("{HERE}/{key}"))) {
            return Err(format!("{there} is deleted, and there"));
        }
        let is_whole = pruned.failed.is_empty() && pruned.notes.is_empty() && pruned.held.is_empty();
        let left = listed(self.truth(HERE).await);
        if is_whole && left != kept {
            return Err(format!("all but {kept:?} is deleted, and there is {left:?}"));
        }
        Ok(u32::from(is_whole))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_a_store_says_nothing_is_done_that_is_not_true() {
    let before = Arc::new(before().await);
    let runs = (0..STORES).map(|n| {
        let before = before.clone();
        // On a thread of its own each: the future is not known to be `Send`.
        let runtime = tokio::runtime::Handle::current();
        tokio::task::spawn_blocking(move || {
            runtime.block_on(async move {
                let (mut scene, mut ended) = (Scene::of_store(n).await, Vec::new());
                for seed in seeds(500).filter(|seed| seed % STORES == n) {
                    scene.begin(seed, &before);
                    let run = scene.play().await.map(|done| (done, scene.store.log().len()));
                    let told = |why| format!("{why}\n  {:?}\n    {}", scene.lies, scene.store.log().join("\n    "));
                    ended.push((seed, run.map_err(told)));
                }
                ended
            })
        })
    });
    let ended: Vec<_> = futures::future::try_join_all(runs).await.unwrap().concat();
    let broken: Vec<_> = ended.iter().filter_map(|(seed, run)| Some((seed, run.as_ref().err()?))).collect();
    for (seed, why) in &broken {
        eprintln!("LIFEBOAT_TEST_SEED={seed}: {why}");
    }
    assert!(broken.is_empty(), "{} of {} schedules break a promise: see above", broken.len(), ended.len());
    // A store to which nobody listens would show nothing, and neither would one that is believed in all.
    let (done, lies) = ended.iter().flat_map(|(_, run)| run).fold((0, 0), |(a, b), (done, lies)| (a + done, b + lies));
    eprintln!("{done} of {} things are done, against {lies} lies", 6 * ended.len());
    if ended.len() >= 500 {
        let all = 6 * ended.len() as u32;
        assert!(done > all / 4 && done < all && lies > 2 * ended.len(), "{done} of {all} done, {lies} lies");
    }
}
