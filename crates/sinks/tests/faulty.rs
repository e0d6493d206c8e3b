//! Whole backups to MinIO through a proxy in which requests fail.
//!
//! `LIFEBOAT_TEST_SEED=17` runs one of the random schedules, `LIFEBOAT_TEST_SEED=200..2000` others.
#![cfg(feature = "s3")]
// What a schedule has broken is told with its seed.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use jiff::Timestamp;
use lifeboat_core::catalog::{self, Artifact, Kind};
use lifeboat_core::proof::WholeStream;
use lifeboat_core::sink::UPLOADS_FOLDER;
use lifeboat_core::{
    Backup, Compression, Context, Description, Error, ErrorKind, Reading, Receipt, Restore, Result, Sink, Source,
    async_trait,
};
use lifeboat_sinks::{Credentials, Environment, Retry, Settings};
use lifeboat_testkit::conformance::sink::keys;
use lifeboat_testkit::content::{Random, stream_of};
use lifeboat_testkit::faulty::{Call, Fault, FaultProxy, Schedule};
use lifeboat_testkit::minio::Minio;

#[path = "faulty/answers.rs"]
mod answers;
#[path = "faulty/lies.rs"]
mod lies;

const MIB: usize = 1 << 20;
const KEY: &str = "shop-20261121-033000.dump";

/// A dataset of so many bytes from a seed.
struct Data {
    seed: u64,
    length: usize,
    opens: Arc<AtomicUsize>,
}

impl Data {
    fn new(seed: u64, length: usize) -> Self {
        Self { seed, length, opens: Arc::default() }
    }
}

#[async_trait]
impl Source for Data {
    async fn describe(&self) -> Result<Description> {
        let (dataset, system, format) = ("shop".to_owned(), "fake".to_owned(), "dump".to_owned());
        Ok(Description::new(system, format).dataset(dataset))
    }

    async fn open(&self, _: &Context) -> Result<Reading> {
        self.opens.fetch_add(1, Ordering::SeqCst);
        Ok(Reading::new(stream_of(self.seed, self.length), Box::new(WholeStream::new("x"))))
    }
}

/// Gives up soon: most schedules in which that happens show it within a second.
fn impatient() -> Retry {
    Retry::default()
        .limit(Duration::from_millis(1200))
        .first_contact(Duration::from_millis(1200))
        .first(Duration::from_millis(10))
        .longest(Duration::from_millis(100))
        .stall(Duration::from_millis(400))
}

/// Outlasts a single fault, and a machine that has other things to do.
fn steady() -> Retry {
    impatient().limit(Duration::from_secs(20)).first_contact(Duration::from_secs(20))
}

fn open(minio: &Minio, url: &str, retry: Retry) -> Arc<dyn Sink> {
    let settings = Settings::default()
        .environment(Environment::empty())
        .credentials(Some(Credentials::new(minio.user(), minio.password())))
        .retry(retry)
        .first_part(5_u64 << 20);
    lifeboat_sinks::open_with(url, &settings).unwrap()
}

/// A place of a test's own in a bucket, through a proxy and past it.
struct Stage {
    minio: Minio,
    bucket: String,
    folder: String,
    proxy: FaultProxy,
    /// Through the proxy.
    faulty: Arc<dyn Sink>,
    /// Past it.
    clean: Arc<dyn Sink>,
}

impl Stage {
    async fn new(bucket: &str, folder: &str, schedule: Schedule, retry: Retry) -> Self {
        let minio = Minio::shared();
        let proxy = FaultProxy::start(minio.host(), schedule).await;
        let place = format!("{bucket}/{folder}");
        let faulty = open(&minio, &proxy.sink_url(&place), retry);
        let clean = open(&minio, &minio.sink_url(&place), Retry::default());
        Self { minio, bucket: bucket.to_owned(), folder: folder.to_owned(), proxy, faulty, clean }
    }

    async fn fresh(schedule: Schedule, retry: Retry) -> Self {
        let bucket = Minio::shared().fresh_bucket().await;
        Self::new(&bucket, "pg", schedule, retry).await
    }

    fn backup(&self, source: Data) -> Backup {
        let context = Context::default().clock(Arc::new(|| "2026-11-21T03:30:00Z".parse().unwrap()));
        Backup::new(source).unencrypted().compress(Compression::None).context(context).to(self.faulty.clone())
    }

    async fn run(&self, source: Data) -> Result<Receipt> {
        let run = self.backup(source).run();
        tokio::time::timeout(Duration::from_secs(120), run).await.expect("it neither ends well nor fails: it hangs")
    }

    async fn listed(&self) -> Vec<Artifact> {
        catalog::list(&*self.clean, "", None).try_collect().await.unwrap()
    }

    /// What the store holds of uploads that nobody has finished.
    async fn unfinished(&self) -> Vec<String> {
        let key = format!("{}/{KEY}", self.folder);
        let mut known = Vec::new();
        for id in self.minio.unfinished_uploads(&self.bucket, &key).await {
            // A part that was given up and arrives after the end of its upload makes MinIO list that one again. It says itself
            // that there is no such upload, whoever wants its parts or its end; it sweeps up after a day.
            let path = format!("/{}/{key}", self.bucket);
            let (status, _) = self.minio.request("GET", &path, &[("uploadId", &id)], b"").await.unwrap();
            if status != 404 {
                known.push(id);
            }
        }
        known
    }

    /// Cleans up as `prune --orphans` does.
    async fn prune_orphans(&self) {
        let later = Timestamp::now() + Duration::from_secs(3600);
        catalog::remove_orphans(&*self.clean, "", later, Duration::ZERO, false).await.unwrap();
    }

    /// Everything below the place, what is Lifeboat's own included.
    async fn everything(&self) -> Vec<String> {
        let mut all = keys(&*self.clean, "").await;
        all.extend(keys(&*self.clean, &format!("{UPLOADS_FOLDER}/")).await);
        all
    }
}

/// The content of an artifact is what the source gave.
async fn holds(sink: &Arc<dyn Sink>, artifact: &Artifact, source: &Data) -> Result<(), String> {
    let mut expected = stream_of(source.seed, source.length);
    let mut waiting = bytes::Bytes::new();
    let mut stored = Restore::new(sink.clone(), artifact.clone()).stream().await.map_err(|e| e.to_string())?;
    while let Some(mut chunk) = stored.try_next().await.map_err(|e| e.to_string())? {
        while !chunk.is_empty() {
            if waiting.is_empty() {
                waiting = expected.try_next().await.unwrap().ok_or("it is longer than what was backed up")?;
                continue;
            }
            let both = chunk.len().min(waiting.len());
            if chunk.split_to(both) != waiting.split_to(both) {
                return Err("it has other bytes than what was backed up".to_owned());
            }
        }
    }
    match (waiting.is_empty(), expected.try_next().await.unwrap()) {
        (true, None) => Ok(()),
        _ => Err("it is shorter than what was backed up".to_owned()),
    }
}

/// An error that a user can do something with.
fn is_clear(error: &Error) -> Result<(), String> {
    let sensible = matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Corrupt);
    if sensible && error.is_transient() && !error.message().is_empty() && !error.subject().is_empty() {
        return Ok(());
    }
    Err(format!("the error is not clear: {:?} {error}", error.kind()))
}

/// One random schedule. The error says which promise was broken.
async fn survives(bucket: &str, seed: u64) -> Result<bool, String> {
    let stage = Stage::new(bucket, &format!("seed-{seed}"), Schedule::seeded(seed), impatient()).await;
    let length = [40_000, MIB, 5 * MIB + 7, 11 * MIB, 21 * MIB][Random::new(seed ^ 0xfeed).below(5) as usize];
    let told = |why: String| {
        format!("{why}\n  {:?}, {length} bytes\n    {}", Schedule::seeded(seed), stage.proxy.log().join("\n    "))
    };
    let source = Data::new(seed, length);
    let opens = source.opens.clone();
    let outcome = stage.run(source).await;
    if opens.load(Ordering::SeqCst) > 1 {
        return Err(told("the source was read more than once".to_owned()));
    }
    let source = Data::new(seed, length);
    let listed = stage.listed().await;
    match (&outcome, &listed[..]) {
        (Ok(receipt), [artifact]) => {
            let expected = (Kind::Managed, receipt.key.clone(), receipt.stored_bytes);
            if (artifact.kind, artifact.key(), artifact.bytes()) != expected {
                return Err(told(format!("{artifact:?} is listed after {receipt:?}")));
            }
            holds(&stage.clean, artifact, &source).await.map_err(told)?;
            // Reading, with the faults that writing has not used up: the same bytes, or an error, and never others.
            let read = tokio::time::timeout(Duration::from_secs(60), holds(&stage.faulty, artifact, &source));
            match read.await {
                Ok(Err(why)) if why.starts_with("it ") => return Err(told(format!("read through faults {why}"))),
                Ok(_) => {}
                Err(_) => return Err(told("reading hangs".to_owned())),
            }
        }
        (Err(error), []) => is_clear(error).map_err(told)?,
        // The answer about the manifest was lost and the store never came back: nobody can know. What is there is whole.
        (Err(error), [artifact]) if artifact.kind == Kind::Managed => {
            is_clear(error).map_err(told)?;
            holds(&stage.clean, artifact, &source).await.map_err(told)?;
            let (put, gone) = (format!("{KEY}.manifest.json"), stage.proxy.log().pop().unwrap_or_default());
            // The same holds for the look at it.
            let is_asked = |l: &String| (l.starts_with("Put") || l.starts_with("Head")) && l.contains(&put);
            if !stage.proxy.log().iter().any(is_asked) || gone.is_empty() {
                return Err(told(format!("it failed ({error}), and {artifact:?} is listed")));
            }
        }
        (outcome, listed) => return Err(told(format!("{listed:?} is listed after {outcome:?}"))),
    }
    // A store that is slow begins an upload after everybody has given it up: as long as it may come, a note is there.
    let mut unfinished = Vec::new();
    for _ in 0..20 {
        stage.prune_orphans().await;
        unfinished = stage.unfinished().await;
        if unfinished.is_empty() || stage.everything().await.len() <= 2 * listed.len() {
            break;
        }
    }
    if !unfinished.is_empty() {
        return Err(told(format!("after {outcome:?} and prune there are unfinished uploads: {unfinished:?}")));
    }
    let expected: Vec<_> = listed.iter().flat_map(|a| [a.key(), format!("{}.manifest.json", a.key())]).collect();
    let mut left = stage.everything().await;
    // Where the store could not be listed, a name says that nobody has compared how much the artifact holds.
    if let (Ok(receipt), [artifact]) = (&outcome, &listed[..])
        && receipt.notes.iter().any(|note| note.contains("could not be compared"))
    {
        let unjudged = format!("{}.holds-", artifact.key());
        left.retain(|key| !(key.starts_with(&unjudged) && key.ends_with("-unjudged.json")));
    }
    if left != expected {
        return Err(told(format!("after {outcome:?} and prune there is {left:?}")));
    }
    Ok(outcome.is_ok())
}

/// The seeds that the environment names, or the usual ones.
fn seeds(usual: u64) -> std::ops::Range<u64> {
    let Ok(text) = std::env::var("LIFEBOAT_TEST_SEED") else { return 0..usual };
    let (from, to) = text.split_once("..").unwrap_or((&text, ""));
    let from = from.parse().expect("LIFEBOAT_TEST_SEED is a number or two with .. between");
    from..to.parse().unwrap_or(from + 1)
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_goes_wrong_ends_with_a_good_artifact_or_a_clear_failure_and_nothing_listed() {
    let bucket = Minio::shared().fresh_bucket().await;
    let runs = futures::stream::iter(seeds(200))
        .map(|seed| {
            let bucket = bucket.clone();
            async move {
                let run = tokio::spawn(async move { survives(&bucket, seed).await }).await;
                (seed, run.unwrap_or_else(|panic| Err(panic.to_string())))
            }
        })
        .buffer_unordered(20);
    let ended: Vec<_> = runs.collect().await;
    let broken: Vec<_> = ended.iter().filter_map(|(seed, run)| Some((seed, run.as_ref().err()?))).collect();
    for (seed, why) in &broken {
        eprintln!("LIFEBOAT_TEST_SEED={seed}: {why}");
    }
    assert!(broken.is_empty(), "{} of {} schedules break a promise: see above", broken.len(), ended.len());
    // A test in which everything fails, or nothing, would show nothing.
    let good = ended.iter().filter(|(_, run)| *run == Ok(true)).count();
    eprintln!("{good} of {} schedules end with an artifact", ended.len());
    if ended.len() >= 200 {
        assert!(good * 10 > ended.len() * 4 && good < ended.len(), "{good} of {} ended well", ended.len());
    }
}

/// A backup of some parts under one fault, and what is in the store after it.
async fn stored_under(schedule: Schedule) -> (Stage, Receipt) {
    let stage = Stage::fresh(schedule, steady()).await;
    let receipt = stage.run(several_parts()).await.unwrap();
    let listed = stage.listed().await;
    assert_eq!(listed.len(), 1, "{listed:?}");
    holds(&stage.clean, &listed[0], &several_parts()).await.unwrap();
    assert_eq!(stage.everything().await, [KEY.to_owned(), format!("{KEY}.manifest.json")]);
    assert_eq!(stage.unfinished().await, [""; 0]);
    assert!(!stage.proxy.log().is_empty(), "the fault has not come about");
    (stage, receipt)
}

fn several_parts() -> Data {
    Data::new(1, 16 * MIB)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_that_is_damaged_on_its_way_is_refused_by_its_checksum_and_sent_again() {
    let damaged = Schedule::of("part 2 is damaged twice", |asked| {
        let hit = asked.call == Call::PutPart && asked.identity.contains(" 2 ") && asked.attempt < 2;
        hit.then_some(Fault::Corrupt(3_000_000))
    });
    let (stage, _) = stored_under(damaged).await;
    assert_eq!((stage.proxy.log().len(), stage.proxy.count(Call::PutPart)), (2, 4 + 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_that_is_always_damaged_is_a_clear_failure_and_leaves_nothing() {
    let damaged = Schedule::of("part 2 is damaged always", |asked| {
        (asked.call == Call::PutPart && asked.identity.contains(" 2 ")).then_some(Fault::Corrupt(3_000_000))
    });
    let stage = Stage::fresh(damaged, impatient()).await;
    let error = stage.run(several_parts()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    assert!(error.message().contains("damaged on their way") && error.message().contains("tried "), "{error}");
    assert_eq!(stage.everything().await, [""; 0]);
    assert_eq!(stage.unfinished().await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_part_that_failed_is_sent_again() {
    for fault in [Fault::ResetInRequest(2_000_000), Fault::Refuse { status: 500, retry_after: None }, Fault::LoseAnswer]
    {
        let once = Schedule::of("part 3 fails once", move |asked| {
            let hit = asked.call == Call::PutPart && asked.identity.contains(" 3 ") && asked.attempt == 0;
            hit.then_some(fault)
        });
        let (stage, _) = stored_under(once).await;
        assert_eq!(stage.proxy.count(Call::PutPart), 4 + 1, "{fault:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_completion_whose_answer_is_lost_or_speaks_of_an_error_is_known_to_be_done() {
    for fault in [
        Fault::LoseAnswer,
        Fault::StallAnswer,
        Fault::ErrorInside { done: true },
        Fault::ErrorInside { done: false },
        Fault::Truncate(20),
        Fault::StallInAnswer(20),
    ] {
        let (_, receipt) = stored_under(Schedule::once(Call::Complete, KEY, fault)).await;
        assert!(receipt.is_complete(), "{fault:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_whose_answer_is_lost_is_known_to_be_there() {
    for fault in [Fault::LoseAnswer, Fault::StallAnswer, Fault::ResetInRequest(10)] {
        let (_, receipt) = stored_under(Schedule::once(Call::Put, ".manifest.json", fault)).await;
        assert!(receipt.is_complete(), "{fault:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_beginning_whose_answer_is_lost_leaves_no_upload_that_nobody_knows() {
    for fault in [Fault::LoseAnswer, Fault::StallAnswer, Fault::StallInAnswer(30)] {
        stored_under(Schedule::once(Call::Begin, KEY, fault)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_asks_for_a_pause_gets_it_from_every_part() {
    let slow = Schedule::once(Call::PutPart, KEY, Fault::Refuse { status: 503, retry_after: Some(1) });
    let (_, receipt) = stored_under(slow).await;
    assert!(receipt.seconds >= 1.0, "{} s", receipt.seconds);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_gone_for_good_after_the_manifest_was_sent_is_not_said_to_hold_another_ones_object() {
    // The manifest is stored, its answer is lost, and nothing else is answered ever again.
    let sent = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let gone = Schedule::of("gone after the manifest", move |asked| {
        if asked.call == Call::Put && asked.path.ends_with(".manifest.json") && !sent.swap(true, Ordering::SeqCst) {
            return Some(Fault::LoseAnswer);
        }
        (sent.load(Ordering::SeqCst) && !(asked.call == Call::Put && asked.attempt < 2)).then_some(Fault::Reset)
    });
    let stage = Stage::fresh(gone, impatient()).await;
    let error = stage.run(several_parts()).await.unwrap_err();
    is_clear(&error).unwrap();
    let listed = stage.listed().await;
    assert_eq!(listed.len(), 1);
    holds(&stage.clean, &listed[0], &several_parts()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_download_that_breaks_is_taken_up_again_and_one_that_is_damaged_is_not_taken_for_good() {
    let stage = Stage::fresh(Schedule::none(), steady()).await;
    stage.run(several_parts()).await.unwrap();
    let artifact = stage.listed().await.remove(0);
    for fault in [
        Fault::Truncate(5_000_000),
        Fault::ResetInAnswer(5_000_000),
        Fault::StallInAnswer(5_000_000),
        Fault::StallAnswer,
        Fault::Refuse { status: 503, retry_after: None },
    ] {
        let hit = Arc::new(std::sync::atomic::AtomicBool::new(false));
        stage.proxy.set(Schedule::of(format!("{fault:?}"), move |asked| {
            (asked.call == Call::Get && asked.path.ends_with(KEY) && !hit.swap(true, Ordering::SeqCst)).then_some(fault)
        }));
        holds(&stage.faulty, &artifact, &several_parts()).await.unwrap();
    }
    assert_eq!(stage.proxy.log().len(), 5);
    stage.proxy.set(Schedule::of("damaged", |asked| {
        (asked.call == Call::Get && asked.path.ends_with(KEY)).then_some(Fault::CorruptAnswer(9_000_000))
    }));
    let mut stored = Restore::new(stage.faulty.clone(), artifact).stream().await.unwrap();
    let ended = loop {
        match stored.try_next().await {
            Ok(Some(_)) => {}
            ended => break ended,
        }
    };
    assert_eq!(ended.unwrap_err().kind(), ErrorKind::Corrupt);
}
