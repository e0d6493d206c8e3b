//! What a backup promises: all or nothing, one reading of the source, an end when it is asked for.
#![allow(clippy::unwrap_used, missing_docs)]

mod doubles;
#[path = "pipeline/hooks.rs"]
mod hooks;
#[path = "pipeline/limits.rs"]
mod limits;
#[path = "pipeline/spans.rs"]
mod spans;

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use doubles::*;
use futures::stream::{self, StreamExt, TryStreamExt};
use jiff::SignedDuration;
use lifeboat_core::catalog::{self, Kind};
use lifeboat_core::context::{Clock, Context};
use lifeboat_core::encryptor::Age;
use lifeboat_core::memory::Confidential;
use lifeboat_core::progress::{Event, Progress, Tally, Total};
use lifeboat_core::proof::WholeStream;
use lifeboat_core::{
    Backup, Compression, Description, ErrorKind, Estimate, Hint, Manifest, Proof, Reading, Receipt, Restore, Sink,
    Source, Tap,
};
use lifeboat_testkit::chaos::{ChaosSink, Fault};
use lifeboat_testkit::content;
use lifeboat_testkit::memory::MemorySink;
use tokio_util::sync::CancellationToken;

/// No object, no manifest, no note, and so nothing listed.
async fn assert_nothing_is_left(sink: &MemorySink) {
    assert_eq!(sink.keys(), Vec::<String>::new());
    assert!(list_all(sink, FOLDER, None).await.unwrap().is_empty());
}

async fn read_back(sink: Arc<dyn Sink>) -> Bytes {
    let artifact = the_artifact(&*sink).await;
    let stream = Restore::new(sink, artifact).stream().await.unwrap();
    lifeboat_core::stream::collect(stream, 1 << 26, "x").await.unwrap()
}

#[tokio::test]
async fn a_backup_leaves_the_artifact_its_manifest_and_no_note() {
    let sink = MemorySink::new();
    let data = content::bytes(1, 3_000_000);
    let receipt = backup(FakeSource::of(data.clone())).to(Arc::new(sink.clone())).run().await.unwrap();
    assert_eq!(sink.keys(), [KEY.to_owned(), format!("{KEY}.manifest.json")]);
    assert_eq!((receipt.key.as_str(), receipt.plaintext_bytes, receipt.items, receipt.rows), (KEY, 3_000_000, 1, 1));
    assert_eq!(receipt.stored_bytes, sink.bytes(KEY).unwrap().len() as u64);
    assert!(receipt.is_complete() && receipt.sinks.len() == 1);
    let manifest = Manifest::parse(&sink.bytes(&format!("{KEY}.manifest.json")).unwrap(), "m").unwrap();
    assert_eq!((manifest.taken_at, manifest.plaintext_bytes), (at("2026-11-21T03:30:00Z"), 3_000_000));
    assert_eq!(
        (manifest.objects[0].sha256.as_str(), manifest.compression.as_str()),
        (receipt.sha256.as_str(), "zstd:3")
    );
    assert_eq!((manifest.source.system.as_str(), manifest.source.tool.as_deref()), ("fake", Some("fake_dump 1")));
    assert_eq!(read_back(Arc::new(sink)).await, data);
}

#[tokio::test]
async fn the_note_is_written_first_and_the_manifest_last() {
    let sink = ScriptedSink::new(|_, _| Fate::Done);
    backup(FakeSource::of("abc")).to(sink.arc()).run().await.unwrap();
    let manifest = format!("{KEY}.manifest.json");
    let changes: Vec<String> =
        sink.log().into_iter().filter(|l| !l.starts_with("head") && !l.starts_with("list")).collect();
    assert_eq!(
        changes,
        [format!("put {NOTE}"), format!("put {KEY}"), format!("put {manifest}"), format!("delete {NOTE}")]
    );
}

#[tokio::test]
async fn an_empty_source_is_a_backup_of_nothing_and_reads_back_as_such() {
    for compression in [Compression::zstd(3), Compression::gzip(6), Compression::None] {
        let sink = MemorySink::new();
        backup(FakeSource::of(""))
            .allow_empty(true)
            .compress(compression)
            .to(Arc::new(sink.clone()))
            .run()
            .await
            .unwrap();
        assert_eq!(read_back(Arc::new(sink)).await, "", "{compression}");
    }
}

#[tokio::test]
async fn a_source_that_gives_no_byte_has_failed_unless_that_is_allowed() {
    let sink = MemorySink::new();
    let error = backup(FakeSource::of("")).to(Arc::new(sink.clone())).run().await.unwrap_err();
    assert_eq!(error.message(), "its source ended successfully but gave nothing: 0 bytes");
    assert_eq!(error.typed_hint(), Some(&Hint::AllowEmpty));
    assert_nothing_is_left(&sink).await;
}

#[tokio::test]
async fn a_source_that_stands_still_is_told_and_given_up() {
    tokio::time::pause();
    let (sink, tally) = (MemorySink::new(), Arc::new(Tally::default()));
    let source = FakeSource::new(|_| stream::iter([Ok(Bytes::from("abc"))]).chain(stream::pending()).boxed());
    let run = backup(source).to(Arc::new(sink.clone())).progress(tally.clone()).stall_limit(Duration::from_secs(300));
    let error = run.run().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert_eq!(error.message(), "no byte has come from fake for shop for 5m: it was given up");
    assert_eq!(error.typed_hint(), Some(&Hint::RaiseStallLimit));
    assert_eq!(tally.notes()[0], "no byte has come from fake for shop for 1m");
    assert_nothing_is_left(&sink).await;
}

/// So many lines of a table, after a head.
fn headed(lines: u64) -> FakeSource {
    let text = (0..lines).fold("#".to_owned(), |text, n| text + &format!("{ITEM},line {n}\n"));
    FakeSource::of(text).tapped_by(|| Box::<HeadedTap>::default())
}

#[derive(Default)]
struct HeadedTap {
    inner: LinesTap,
    begun: bool,
}

impl Tap for HeadedTap {
    fn push(&mut self, chunk: &[u8]) -> lifeboat_core::Result<()> {
        let head = usize::from(!std::mem::replace(&mut self.begun, true));
        self.inner.push(&chunk[head..])
    }

    fn finish(self: Box<Self>) -> lifeboat_core::Result<Proof> {
        Box::new(self.inner).finish()
    }
}

async fn backup_of(lines: u64, day: &str, sink: Arc<dyn Sink>) -> Receipt {
    backup(headed(lines)).clock(clock_at(&format!("{day}T03:30:00Z"))).to(sink).run().await.unwrap()
}

async fn sidecars(sink: &MemorySink) -> Vec<String> {
    let of = |key: &String| key.split_once(".holds-").map(|(_, rest)| rest.to_owned());
    sink.keys().iter().filter_map(of).collect()
}

#[tokio::test]
async fn a_dataset_that_shrank_or_is_empty_is_said_and_pushes_no_fuller_one_out() {
    let sink = MemorySink::new();
    let arc: Arc<dyn Sink> = Arc::new(sink.clone());
    for (lines, day) in [(100, "2026-11-10"), (60, "2026-11-11")] {
        assert_eq!(backup_of(lines, day, arc.clone()).await.warnings, [] as [String; 0]);
    }
    assert_eq!(sidecars(&sink).await, [] as [String; 0]);
    let small = backup_of(20, "2026-11-12", arc.clone()).await;
    assert!(
        small.warnings[0].starts_with("shop is much smaller than before (1 item, 20 rows, "),
        "{:?}",
        small.warnings
    );
    assert!(
        small.warnings[0].contains("; shop-20261111-033000.dump.zst holds 1 item, 60 rows, "),
        "{:?}",
        small.warnings
    );
    // It is compared with the newest that is not known to hold too little.
    assert_eq!(backup_of(25, "2026-11-13", arc.clone()).await.warnings.len(), 1);
    let empty = backup_of(0, "2026-11-14", arc.clone()).await;
    assert!(empty.warnings[0].starts_with("shop is empty (0 items, 0 rows, 1 B)"), "{:?}", empty.warnings);
    let said = sidecars(&sink).await;
    assert_eq!(said.len(), 3, "{said:?}");
    assert_eq!(said[2], "0-0-1-less.json");

    let words: Vec<Option<&str>> =
        list_all(&sink, FOLDER, None).await.unwrap().iter().map(lifeboat_core::catalog::Artifact::less_word).collect();
    assert_eq!(words, [None, None, Some("less"), Some("less"), Some("empty")]);
    let policy = "last=1".parse().unwrap();
    let prune = prune_at(arc.clone(), "2026-11-15T00:00:00Z").folder(FOLDER).keep(policy).history(false);
    let pruned = prune.plan().await.unwrap().execute().await.unwrap();
    assert_eq!(pruned.deleted.len(), 3, "{pruned:?}");
    let left: Vec<String> = list_all(&sink, FOLDER, None).await.unwrap().iter().map(|a| a.name.stamp()).collect();
    assert_eq!(left, ["20261111-033000", "20261114-033000"]);
    // What is gone leaves nothing behind.
    assert_eq!(sidecars(&sink).await, ["0-0-1-less.json"]);
}

#[tokio::test]
async fn a_run_that_may_lose_all_is_what_the_next_one_is_compared_with() {
    let sink = MemorySink::new();
    let arc: Arc<dyn Sink> = Arc::new(sink.clone());
    backup_of(100, "2026-11-10", arc.clone()).await;
    let run = backup(headed(2)).clock(clock_at("2026-11-11T03:30:00Z")).max_shrink("100%".parse().unwrap());
    assert_eq!(run.to(arc.clone()).run().await.unwrap().warnings, [] as [String; 0]);
    assert_eq!(backup_of(2, "2026-11-12", arc.clone()).await.warnings, [] as [String; 0]);
    assert_eq!(sidecars(&sink).await, [] as [String; 0]);
}

#[tokio::test]
async fn a_dataset_that_may_be_empty_is_no_warning_until_there_was_something_in_it() {
    let sink = MemorySink::new();
    let arc: Arc<dyn Sink> = Arc::new(sink.clone());
    let empty = |day: &str| {
        backup(headed(0)).clock(clock_at(&format!("{day}T03:30:00Z"))).allow_empty(true).to(arc.clone()).run()
    };
    assert_eq!(empty("2026-11-10").await.unwrap().warnings, [] as [String; 0]);
    backup_of(10, "2026-11-11", arc.clone()).await;
    assert_eq!(empty("2026-11-12").await.unwrap().warnings.len(), 1);
    assert_eq!(sidecars(&sink).await, ["0-0-1-less.json", "0-0-1-less.json"]);
}

#[tokio::test]
async fn source_that_dies_leaves_nothing_listed() {
    let (secret, public) = Age::generate();
    drop(secret);
    for length in [0, 1, 70_001, 9_000_000] {
        let sink = MemorySink::new();
        let error = backup(FakeSource::dying_after(content::bytes(1, length)))
            .encrypt(Age::to([&public]).unwrap())
            .to(Arc::new(sink.clone()))
            .run()
            .await
            .unwrap_err();
        assert_is_killed(&error);
        assert_nothing_is_left(&sink).await;
    }
}

#[tokio::test]
async fn source_that_dies_leaves_nothing_without_compression_either() {
    let sink = MemorySink::new();
    let source = FakeSource::dying_after(content::bytes(1, 100));
    let run = backup(source).compress(Compression::None).to(Arc::new(sink.clone())).run();
    assert_is_killed(&run.await.unwrap_err());
    assert_nothing_is_left(&sink).await;
}

#[tokio::test]
async fn child_that_fails_after_it_closed_its_output_leaves_nothing_listed() {
    // A real child: everything arrives, the output is closed, and only then the exit code says that it failed.
    let sink = MemorySink::new();
    let source = FakeSource::new(|_| {
        let mut child = std::process::Command::new("sh")
            .args(["-c", "head -c 200000 /dev/zero; exec >&-; exit 1"])
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut all = Vec::new();
        std::io::Read::read_to_end(&mut child.stdout.take().unwrap(), &mut all).unwrap();
        assert_eq!(all.len(), 200_000);
        let end = (!child.wait().unwrap().success()).then(|| Err(killed()));
        stream::iter([Ok(Bytes::from(all))]).chain(stream::iter(end)).boxed()
    });
    assert_is_killed(&backup(source).to(Arc::new(sink.clone())).run().await.unwrap_err());
    assert_nothing_is_left(&sink).await;
}

#[tokio::test]
async fn source_that_cannot_be_opened_or_described_leaves_nothing() {
    let sink = MemorySink::new();
    let source = FakeSource { open_fails: true, ..FakeSource::of("abc") };
    assert_is_killed(&backup(source).to(Arc::new(sink.clone())).run().await.unwrap_err());
    assert_nothing_is_left(&sink).await;
    let source = FakeSource { describe: Err(ErrorKind::Permission), ..FakeSource::of("abc") };
    let error = backup(source).to(Arc::new(sink.clone())).run().await.unwrap_err();
    assert_eq!((error.kind(), error.subject()), (ErrorKind::Permission, "db.example.org"));
    assert_nothing_is_left(&sink).await;
}

#[tokio::test]
async fn source_that_panics_is_an_error_and_leaves_nothing() {
    let sink = MemorySink::new();
    let source = FakeSource::new(|_| {
        stream::once(async { Ok(Bytes::from_static(b"abc")) }).chain(stream::poll_fn(|_| panic!("on purpose"))).boxed()
    });
    let error = backup(source).to(Arc::new(sink.clone())).run().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Internal, "{error}");
    assert_nothing_is_left(&sink).await;
}

#[tokio::test]
async fn tap_that_misses_an_announced_block_leaves_nothing_listed() {
    let sink = MemorySink::new();
    let source = FakeSource::of(content::bytes(1, 500_000)).tapped_by(|| Box::new(RefusingTap));
    let error = backup(source).to(Arc::new(sink.clone())).run().await.unwrap_err();
    assert_eq!((error.kind(), error.subject()), (ErrorKind::Corrupt, "the archive"));
    assert!(error.message().contains("announced"), "{error}");
    assert_nothing_is_left(&sink).await;
}

#[tokio::test]
async fn tap_that_does_not_know_the_format_leaves_nothing_listed() {
    let sink = MemorySink::new();
    let source = FakeSource::of("no comma\n").tapped_by(|| Box::new(LinesTap::default()));
    let error = backup(source).to(Arc::new(sink.clone())).run().await.unwrap_err();
    assert_eq!(error.subject(), "the lines");
    assert_nothing_is_left(&sink).await;
}

#[tokio::test]
async fn encryptor_that_fails_leaves_nothing_listed() {
    for at_once in [true, false] {
        let sink = MemorySink::new();
        let error = backup(FakeSource::of(content::bytes(1, 5_000_000)))
            .encrypt(FailingEncryptor { at_once })
            .to(Arc::new(sink.clone()))
            .run()
            .await
            .unwrap_err();
        assert_eq!(error.message(), FailingEncryptor::failure().message(), "at once: {at_once}");
        assert_nothing_is_left(&sink).await;
    }
}

#[tokio::test]
async fn encryption_is_a_choice_that_is_made_and_not_forgotten() {
    let sink = MemorySink::new();
    let source = FakeSource::of("abc");
    let opens = source.opens.clone();
    let error = Backup::new(source).to(Arc::new(sink.clone())).run().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert_eq!(error.typed_hint(), Some(&Hint::ChooseEncryption));
    assert_eq!(opens.load(Ordering::SeqCst), 0);
    assert_nothing_is_left(&sink).await;
}

#[tokio::test]
async fn a_backup_without_a_sink_is_an_error() {
    assert_eq!(backup(FakeSource::of("abc")).run().await.unwrap_err().kind(), ErrorKind::Config);
}

#[tokio::test]
async fn a_name_that_list_would_not_read_back_is_refused_before_anything_starts() {
    for format in ["", "a/b", "tar.gz", "one.two.three", "ü", "dump.zst"] {
        let sink = MemorySink::new();
        let source = FakeSource::of("abc").format(format);
        let run = backup(source).compress(Compression::None).to(Arc::new(sink.clone())).run();
        assert_eq!(run.await.map(|r| r.key).unwrap_err().kind(), ErrorKind::Config, "{format:?}");
        assert_nothing_is_left(&sink).await;
    }
    let run = backup(FakeSource::of("abc")).encrypt(OddSuffix).to(Arc::new(MemorySink::new())).run();
    assert_eq!(run.await.unwrap_err().kind(), ErrorKind::Config);
}

#[tokio::test]
async fn a_second_run_of_the_same_second_fails_clearly_and_changes_nothing() {
    tokio::time::pause();
    let sink = MemorySink::new();
    backup(FakeSource::of("first")).to(Arc::new(sink.clone())).run().await.unwrap();
    let before: Vec<_> = sink.keys().into_iter().map(|k| (sink.bytes(&k), k)).collect();
    let second = [
        FakeSource::of("second"),
        FakeSource::dying_after("second"),
        FakeSource { open_fails: true, ..FakeSource::of("second") },
    ];
    for source in second {
        let error = backup(source).to(Arc::new(sink.clone())).run().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{error}");
        assert!(error.advice().unwrap().contains("run again"), "{error:?}");
        let after: Vec<_> = sink.keys().into_iter().map(|k| (sink.bytes(&k), k)).collect();
        assert_eq!(after, before);
    }
}

#[tokio::test]
async fn what_another_tool_has_stored_under_the_name_is_never_overwritten_nor_deleted() {
    tokio::time::pause();
    for key in [KEY.to_owned(), format!("{KEY}.manifest.json")] {
        let sink = MemorySink::new();
        sink.place(&key, "theirs", at("2026-11-21T03:30:00Z"));
        for source in [FakeSource::of("ours"), FakeSource { open_fails: true, ..FakeSource::of("ours") }] {
            let error = backup(source).to(Arc::new(sink.clone())).run().await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{error}");
            assert_eq!((sink.keys(), sink.bytes(&key).unwrap()), (vec![key.clone()], Bytes::from("theirs")));
        }
    }
}

#[tokio::test]
async fn a_run_that_finishes_while_another_of_its_second_begins_keeps_its_artifact() {
    tokio::time::pause();
    // The other run's artifact appears, and its note goes, just after this run has seen that the name is free.
    let memory = MemorySink::new();
    let sink = ScriptedSink::over(memory.clone(), move |call, key| {
        if (call, key) == ("put", NOTE) {
            memory.place(KEY, "theirs", at("2026-11-21T03:30:00Z"));
            memory.place(&format!("{KEY}.manifest.json"), "theirs", at("2026-11-21T03:30:00Z"));
        }
        Fate::Done
    });
    let source = FakeSource { open_fails: true, ..FakeSource::of("ours") };
    assert_eq!(backup(source).to(sink.arc()).run().await.unwrap_err().kind(), ErrorKind::AlreadyExists);
    assert_eq!(sink.memory.keys(), [KEY.to_owned(), format!("{KEY}.manifest.json")]);
}

#[tokio::test]
async fn a_run_beside_another_run_of_the_same_second_leaves_that_ones_note() {
    tokio::time::pause();
    let sink = MemorySink::new();
    sink.place(NOTE, "{}", at("2026-11-21T03:30:00Z"));
    let error = backup(FakeSource::of("abc")).to(Arc::new(sink.clone())).run().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    assert!(error.message().contains("another run"), "{error}");
    assert_eq!(error.typed_hint(), Some(&Hint::RunAgainOrPruneOrphans));
    assert_eq!(sink.keys(), [NOTE]);
}

#[tokio::test]
async fn runs_of_the_same_second_wait_for_a_second_of_their_own() {
    let (first, second) = (MemorySink::new(), MemorySink::new());
    // All three begin within one second, whenever the test runs.
    let begun = Instant::now();
    let clock: Clock =
        Arc::new(move || at("2026-11-21T03:30:00Z") + SignedDuration::try_from(begun.elapsed()).unwrap());
    let run = |text: &'static str| {
        let run = backup(FakeSource::of(text)).to(Arc::new(first.clone())).also_to(Arc::new(second.clone()));
        run.clock(clock.clone()).run()
    };
    let (a, b, c) = tokio::join!(run("a"), run("b"), run("c"));
    let mut keys = [a, b, c].map(|receipt| receipt.unwrap()).map(|r| (r.is_complete(), r.key)).to_vec();
    keys.sort();
    keys.dedup();
    assert!(keys.len() == 3 && keys.iter().all(|(complete, _)| *complete), "{keys:?}");
    for sink in [first, second] {
        let listed = list_all(&sink, FOLDER, None).await.unwrap();
        assert!(listed.len() == 3 && listed.iter().all(|artifact| artifact.kind == Kind::Managed), "{listed:?}");
        assert_eq!(sink.keys().len(), 6, "no note is left: {:?}", sink.keys());
    }
}

#[tokio::test]
async fn a_further_sink_that_failed_says_of_what_kind_that_is() {
    let broken = ScriptedSink::new(|call, _| if call == "put" { Fate::Fails } else { Fate::Done });
    let receipt =
        backup(FakeSource::of("abc")).to(Arc::new(MemorySink::new())).also_to(broken.arc()).run().await.unwrap();
    assert_eq!(receipt.sinks.iter().map(|sink| sink.kind).collect::<Vec<_>>(), [None, Some(ErrorKind::Io)]);
}

fn ends_with(suffix: &'static str, of: &'static str, fate: Fate) -> impl Fn(&str, &str) -> Fate + Send + Sync {
    move |call, key| if call == of && key.ends_with(suffix) { fate } else { Fate::Done }
}

#[tokio::test]
async fn sink_that_fails_leaves_nothing_and_its_own_error() {
    for suffix in [".intent.json", ".zst", ".manifest.json"] {
        let sink = ScriptedSink::new(ends_with(suffix, "put", Fate::Fails));
        let error = backup(FakeSource::of(content::bytes(1, 3_000_000))).to(sink.arc()).run().await.unwrap_err();
        assert_eq!((error.kind(), error.message()), (ErrorKind::Io, "the disk is full"), "{suffix}");
        assert_eq!(error.advice(), Some("free some space"));
        assert!(error.subject().ends_with(suffix), "{error}");
        assert_nothing_is_left(&sink.memory).await;
    }
}

#[tokio::test]
async fn sink_that_fails_in_the_middle_leaves_nothing() {
    for after in [0, 1, 2_000_000] {
        let memory = MemorySink::new();
        let note_passes = ChaosSink::new(Arc::new(memory.clone())).with(Fault::PutFails { after });
        let run = backup(FakeSource::of(content::bytes(1, 3_000_000))).to(Arc::new(note_passes)).run();
        assert_eq!(run.await.unwrap_err().kind(), ErrorKind::Unavailable, "after {after}");
        assert_nothing_is_left(&memory).await;
    }
}

#[tokio::test]
async fn a_lost_answer_leaves_nothing_listed() {
    for suffix in [".zst", ".manifest.json"] {
        let sink = ScriptedSink::new(ends_with(suffix, "put", Fate::LosesItsAnswer));
        let error = backup(FakeSource::of("abc")).to(sink.arc()).run().await.unwrap_err();
        assert_eq!(error.message(), "the disk is full");
        assert_nothing_is_left(&sink.memory).await;
    }
}

#[tokio::test]
async fn a_lost_answer_about_the_note_leaves_only_the_note() {
    // Whose note it is cannot be told, so it stays for prune --orphans.
    let sink = ScriptedSink::new(ends_with(".intent.json", "put", Fate::LosesItsAnswer));
    backup(FakeSource::of("abc")).to(sink.arc()).run().await.unwrap_err();
    assert_eq!(sink.memory.keys(), [NOTE]);
    assert!(list_all(&sink.memory, FOLDER, None).await.unwrap().is_empty());
}

#[tokio::test]
async fn when_cleaning_up_the_manifest_goes_before_its_object_and_the_note_last() {
    let sink = ScriptedSink::new(ends_with(".manifest.json", "put", Fate::LosesItsAnswer));
    backup(FakeSource::of("abc")).to(sink.arc()).run().await.unwrap_err();
    let deletions: Vec<String> = sink.log().into_iter().filter(|l| l.starts_with("delete")).collect();
    assert_eq!(deletions, [format!("delete {KEY}.manifest.json"), format!("delete {KEY}"), format!("delete {NOTE}")]);
}

#[tokio::test]
async fn a_key_that_may_only_add_writes_artifacts_that_are_listed() {
    for refusal in [Fate::Fails, Fate::LosesItsAnswer] {
        let sink = ScriptedSink::new(move |call, _| if call == "delete" { refusal } else { Fate::Done });
        let receipt = backup(FakeSource::of("abc")).to(sink.arc()).run().await.unwrap();
        assert!(receipt.is_complete());
        assert_eq!(the_artifact(&sink.memory).await.kind, Kind::Managed);
        assert!(sink.memory.keys().contains(&NOTE.to_owned()));
    }
}

#[tokio::test]
async fn a_key_that_may_only_add_leaves_nothing_listed_when_the_manifest_fails() {
    let sink = ScriptedSink::new(|call, key| match call {
        "delete" => Fate::Fails,
        "put" if key.ends_with(".manifest.json") => Fate::Fails,
        _ => Fate::Done,
    });
    backup(FakeSource::of("abc")).to(sink.arc()).run().await.unwrap_err();
    assert_eq!(sink.memory.keys(), [NOTE.to_owned(), KEY.to_owned()]);
    assert!(list_all(&sink.memory, FOLDER, None).await.unwrap().is_empty());
}

#[tokio::test]
async fn what_is_listed_after_a_lost_answer_that_cannot_be_undone_is_whole() {
    let sink = ScriptedSink::new(|call, key| match call {
        "delete" => Fate::Fails,
        "put" if key.ends_with(".manifest.json") => Fate::LosesItsAnswer,
        _ => Fate::Done,
    });
    backup(FakeSource::of("abc")).to(sink.arc()).run().await.unwrap_err();
    assert_eq!(read_back(Arc::new(sink.memory)).await, "abc");
}

#[tokio::test]
async fn sink_that_confirms_before_the_end_is_an_error_and_leaves_nothing() {
    for length in [3_000_000, 50_000_000] {
        let sink = ScriptedSink::new(ends_with(".dump", "put", Fate::ConfirmsEarly));
        let source = FakeSource::new(move |_| content::stream_of(1, length));
        let run = backup(source).compress(Compression::None).to(sink.arc()).run();
        assert_eq!(run.await.unwrap_err().kind(), ErrorKind::Internal);
        assert_nothing_is_left(&sink.memory).await;
    }
}

#[tokio::test]
async fn two_sinks_hold_the_same_bytes_and_the_source_is_read_once() {
    let (first, second) = (MemorySink::new(), MemorySink::new());
    let (_, public) = Age::generate();
    let source = FakeSource::of(content::bytes(7, 30_000_000));
    let opens = source.opens.clone();
    let receipt = backup(source)
        .encrypt(Age::to([public]).unwrap())
        .to(Arc::new(first.clone()))
        .also_to(Arc::new(second.clone()))
        .run()
        .await
        .unwrap();
    assert!(receipt.is_complete() && receipt.sinks.len() == 2);
    assert_eq!(first.keys(), second.keys());
    assert_eq!(first.keys().len(), 2);
    for key in first.keys() {
        assert!(first.bytes(&key) == second.bytes(&key), "{key}");
    }
    assert_eq!(opens.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn second_sink_that_fails_does_not_fail_the_first() {
    for suffix in [".intent.json", ".zst", ".manifest.json"] {
        let first = MemorySink::new();
        let second = ScriptedSink::new(ends_with(suffix, "put", Fate::Fails));
        let source = FakeSource::of(content::bytes(7, 30_000_000));
        let receipt = backup(source).to(Arc::new(first.clone())).also_to(second.arc()).run().await.unwrap();
        assert!(!receipt.is_complete());
        assert_eq!(receipt.sinks[0].error, None);
        assert!(receipt.sinks[1].error.as_ref().unwrap().contains("the disk is full"), "{suffix}");
        assert_eq!(receipt.sinks[1].url, "memory://scripted");
        assert_eq!(receipt.sinks[1].hint, Some(Hint::from("free some space").and(Hint::ReplicateLater)));
        assert_eq!(the_artifact(&first).await.kind, Kind::Managed);
        assert_nothing_is_left(&second.memory).await;
    }
}

#[tokio::test]
async fn first_sink_that_fails_does_not_fail_the_second() {
    let first = ScriptedSink::new(ends_with(".zst", "put", Fate::Fails));
    let second = MemorySink::new();
    let data = content::bytes(7, 30_000_000);
    let receipt =
        backup(FakeSource::of(data.clone())).to(first.arc()).also_to(Arc::new(second.clone())).run().await.unwrap();
    assert!(receipt.sinks[0].error.is_some() && receipt.sinks[1].error.is_none());
    assert_nothing_is_left(&first.memory).await;
    assert!(read_back(Arc::new(second)).await == data);
}

#[tokio::test]
async fn when_all_sinks_fail_the_error_is_the_first_ones() {
    let first = ScriptedSink::new(ends_with(".zst", "put", Fate::Fails));
    let second = ChaosSink::new(Arc::new(MemorySink::new())).with(Fault::PutFails { after: 500 });
    let source = FakeSource::of(content::bytes(7, 3_000_000));
    let error = backup(source).to(first.arc()).also_to(Arc::new(second)).run().await.unwrap_err();
    assert_eq!(error.message(), "the disk is full");
}

#[tokio::test]
async fn what_a_sink_only_says_that_it_stores_gets_no_manifest() {
    let data = content::bytes(7, 3_000_000);
    for fault in [Fault::PutForgets, Fault::PutCuts { after: 1000 }, Fault::PutCuts { after: 0 }] {
        let memory = MemorySink::new();
        let lying = Arc::new(ChaosSink::new(Arc::new(memory.clone())).with(fault));
        let error = backup(FakeSource::of(data.clone())).to(lying.clone()).run().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{fault:?}: {error}");
        assert!(error.message().contains("confirmed it, but"), "{fault:?}: {error}");
        assert_nothing_is_left(&memory).await;
        // As a further sink it does not fail the first.
        let first = MemorySink::new();
        let receipt =
            backup(FakeSource::of(data.clone())).to(Arc::new(first.clone())).also_to(lying).run().await.unwrap();
        assert!(receipt.sinks[0].error.is_none() && receipt.sinks[1].error.is_some(), "{fault:?}: {receipt:?}");
        assert_nothing_is_left(&memory).await;
        assert!(read_back(Arc::new(first)).await == data);
    }
}

#[tokio::test]
async fn what_a_failed_run_could_not_take_away_is_told() {
    for (lost, deleted, listed) in [
        (".manifest.json", Fate::ConfirmsEarly, 1),
        (".manifest.json", Fate::Fails, 1),
        (".manifest.json", Fate::Done, 0),
        // Without a manifest the note keeps it from being taken for a backup.
        (".zst", Fate::ConfirmsEarly, 0),
    ] {
        let sink = ScriptedSink::new(move |call, key| match call {
            "put" if key.ends_with(lost) => Fate::LosesItsAnswer,
            "delete" => deleted,
            _ => Fate::Done,
        });
        let tally = Arc::new(Tally::default());
        let run = backup(FakeSource::of(content::bytes(7, 1000))).context(Context::default().progress(tally.clone()));
        run.to(sink.arc()).run().await.unwrap_err();
        let there: Vec<_> = catalog::list(&sink.memory, FOLDER, None).try_collect().await.unwrap();
        let told = tally.notes().iter().any(|note| note.contains("was not made, and stays in"));
        assert_eq!((there.len(), told), (listed, listed > 0), "{lost} {deleted:?}: {:?}", tally.notes());
    }
}

#[tokio::test]
async fn a_source_that_dies_leaves_nothing_in_any_of_two_sinks() {
    let (first, second) = (MemorySink::new(), MemorySink::new());
    let source = FakeSource::dying_after(content::bytes(7, 30_000_000));
    let run = backup(source).to(Arc::new(first.clone())).also_to(Arc::new(second.clone())).run();
    assert_is_killed(&run.await.unwrap_err());
    assert_nothing_is_left(&first).await;
    assert_nothing_is_left(&second).await;
}

/// The clock of these tests does not wait: when everybody does, it goes to the next time that somebody waits for.
#[tokio::test(start_paused = true)]
async fn second_sink_that_hangs_does_not_hang_the_first() {
    for (call, suffix) in [
        ("head", ".zst"),
        ("put", ".intent.json"),
        ("put", ".zst"),
        ("put", ".manifest.json"),
        ("delete", ".intent.json"),
    ] {
        // Less than what may be in flight, and more.
        for length in [1000, 40_000_000] {
            let first = MemorySink::new();
            let second = ScriptedSink::new(ends_with(suffix, call, Fate::Hangs));
            let source = FakeSource::of(content::bytes(7, length));
            let receipt = backup(source).to(Arc::new(first.clone())).also_to(second.arc()).run().await.unwrap();
            assert_eq!(receipt.sinks[0].error, None, "{call} {suffix} {length}");
            assert_eq!(receipt.sinks[1].error.is_some(), call != "delete", "{call} {suffix} {length}");
            assert_eq!(the_artifact(&first).await.kind, Kind::Managed);
            let listed = list_all(&second.memory, FOLDER, None).await.unwrap();
            assert_eq!(listed.len(), usize::from(call == "delete"), "{call} {suffix} {length}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn second_sink_that_stalls_in_the_middle_does_not_hang_the_first() {
    for after in [10, 5_000_000] {
        let first = MemorySink::new();
        let second = MemorySink::new();
        let stalling = ChaosSink::new(Arc::new(second.clone())).with(Fault::PutStalls { after });
        let source = FakeSource::of(content::bytes(7, 40_000_000));
        let receipt = backup(source).to(Arc::new(first.clone())).also_to(Arc::new(stalling)).run().await.unwrap();
        assert!(receipt.sinks[1].error.as_ref().unwrap().contains("given up"), "{:?}", receipt.sinks[1]);
        assert!(receipt.sinks[1].hint.is_some());
        assert_eq!(the_artifact(&first).await.kind, Kind::Managed);
        assert!(list_all(&second, FOLDER, None).await.unwrap().is_empty());
    }
}

/// Cancels a run at a moment that the test chooses, and waits for its end.
struct Cancelled {
    error: lifeboat_core::Error,
    took: Duration,
}

async fn cancelled(run: impl Future<Output = lifeboat_core::Result<lifeboat_core::Receipt>>) -> Cancelled {
    let started = Instant::now();
    let error = soon(run).await.unwrap_err();
    Cancelled { error, took: started.elapsed() }
}

#[tokio::test]
async fn cancelling_in_the_middle_ends_the_run_drops_the_source_and_leaves_nothing() {
    let cancel = CancellationToken::new();
    let (sender, dropped) = tokio::sync::oneshot::channel();
    let guard = Arc::new(Mutex::new(Some(Guard(Some(sender)))));
    let source = FakeSource::new(move |cx| {
        let guard = guard.lock().unwrap().take().unwrap();
        let cancel = cx.cancel.clone();
        content::stream_of(1, 5_000_000)
            .chain(stream::poll_fn(move |_| {
                let _held = &guard;
                cancel.cancel();
                std::task::Poll::Pending
            }))
            .boxed()
    });
    let sink = MemorySink::new();
    let cx = context().cancel(cancel.clone());
    let ended = cancelled(backup(source).context(cx).to(Arc::new(sink.clone())).run()).await;
    assert_eq!(ended.error.kind(), ErrorKind::Cancelled);
    assert!(ended.took < Duration::from_secs(5), "{:?}", ended.took);
    soon(dropped).await.unwrap();
    assert_nothing_is_left(&sink).await;
}

#[tokio::test]
async fn cancelling_before_the_start_reads_nothing() {
    let cx = context();
    cx.cancel.cancel();
    let sink = MemorySink::new();
    let ended = cancelled(backup(FakeSource::of("abc")).context(cx).to(Arc::new(sink.clone())).run()).await;
    assert_eq!(ended.error.kind(), ErrorKind::Cancelled);
    assert_nothing_is_left(&sink).await;
}

struct HangingSource {
    describes: bool,
    cancel: CancellationToken,
}

#[lifeboat_core::async_trait]
impl lifeboat_core::Source for HangingSource {
    async fn describe(&self) -> lifeboat_core::Result<lifeboat_core::Description> {
        if self.describes {
            return FakeSource::of("").describe().await;
        }
        self.cancel.cancel();
        std::future::pending().await
    }

    async fn open(&self, _: &Context) -> lifeboat_core::Result<lifeboat_core::Reading> {
        self.cancel.cancel();
        std::future::pending().await
    }
}

#[tokio::test]
async fn cancelling_ends_within_five_seconds_whatever_hangs() {
    let mut runs = Vec::new();
    for describes in [false, true] {
        runs.push((format!("the source, describes: {describes}"), MemorySink::new(), None, Some(describes)));
    }
    for (call, suffix) in [("head", ".zst"), ("put", ".intent.json"), ("put", ".zst"), ("put", ".manifest.json")] {
        runs.push((format!("{call} {suffix}"), MemorySink::new(), Some((call, suffix)), None));
    }
    // All at once: each takes the time that an orderly end is given.
    futures::future::join_all(runs.into_iter().map(|(what, memory, hang, source)| async move {
        let cancel = CancellationToken::new();
        let script = {
            let cancel = cancel.clone();
            move |call: &str, key: &str| match hang {
                Some((of, suffix)) if of == call && key.ends_with(suffix) => {
                    cancel.cancel();
                    Fate::Hangs
                }
                _ => Fate::Done,
            }
        };
        let sink = ScriptedSink::over(memory, script);
        let run = match source {
            Some(describes) => Backup::new(HangingSource { describes, cancel: cancel.clone() }),
            None => Backup::new(FakeSource::of(content::bytes(1, 20_000_000))),
        };
        let cx = context().cancel(cancel);
        let ended = cancelled(run.prefix(FOLDER).unencrypted().context(cx).to(sink.arc()).run()).await;
        assert_eq!(ended.error.kind(), ErrorKind::Cancelled, "{what}");
        assert!(ended.took < Duration::from_secs(5), "{what}: {:?}", ended.took);
        assert!(list_all(&sink.memory, FOLDER, None).await.unwrap().is_empty(), "{what}");
    }))
    .await;
}

#[tokio::test]
async fn progress_counts_the_plaintext_and_notes_reach_the_receipt() {
    let tally = Arc::new(Tally::default());
    let source = FakeSource::new(|cx| {
        cx.progress.event(Event::Note("roles are not in it".to_owned()));
        content::stream_of(1, 4_000_000)
    });
    let receipt = backup(source).progress(tally.clone()).to(Arc::new(MemorySink::new())).run().await.unwrap();
    assert_eq!(tally.advanced(), 4_000_000);
    assert_eq!(
        (receipt.notes, tally.notes()),
        (vec!["roles are not in it".to_owned()], vec!["roles are not in it".to_owned()])
    );
}

/// Keeps what is said of the total, and lets a source wait for it.
#[derive(Default)]
struct Totals(Mutex<Vec<Total>>, tokio::sync::Notify);

impl Progress for Totals {
    fn event(&self, event: Event) {
        if let Event::Begin { total: Some(total), .. } | Event::Total(total) = event {
            self.0.lock().unwrap().push(total);
            self.1.notify_one();
        }
    }
}

/// What is told of the total of a backup of 5,000 bytes, which are held back until it is, where `told`.
async fn totals(
    sink: Arc<dyn Sink>,
    day: &str,
    needs: &[&str],
    estimate: Result<Option<u64>, ErrorKind>,
    told: bool,
) -> Vec<Total> {
    let totals = Arc::new(Totals::default());
    let gate = totals.clone();
    let mut source = FakeSource::new(move |_| {
        let gate = gate.clone();
        let wait = async move {
            if told {
                gate.1.notified().await;
            }
            Ok(Bytes::from(vec![7; 5000]))
        };
        stream::once(wait).boxed()
    });
    source.estimate = estimate;
    let context = Context::default().clock(clock_at(&format!("{day}T03:30:00Z"))).progress(totals.clone());
    let needs = needs.iter().map(|name| name.parse().unwrap());
    soon(backup(source).needs(needs).context(context).to(sink).run()).await.unwrap();
    totals.0.lock().unwrap().clone()
}

#[tokio::test]
async fn how_much_is_coming_is_told_by_the_backup_before_or_else_by_the_source_and_nothing_waits_for_it() {
    let memory = MemorySink::new();
    let sink: Arc<dyn Sink> = Arc::new(memory.clone());
    let unknown = Err(ErrorKind::Unavailable);
    // Nothing is known: nothing is told, and the backup is made all the same.
    for (day, nothing) in [("2026-11-01", unknown), ("2026-11-02", Ok(None)), ("2026-11-03", Ok(Some(0)))] {
        let empty: Arc<dyn Sink> = Arc::new(MemorySink::new());
        assert_eq!(totals(empty, day, &[], nothing, false).await, []);
    }
    assert_eq!(totals(sink.clone(), "2026-11-21", &[], Ok(Some(4000)), true).await, [Total::About(4000)]);
    assert_eq!(totals(sink.clone(), "2026-11-22", &[], unknown, true).await, [Total::About(5000)]);
    // What an increment holds, its base does not say.
    let base = "shop-20261122-033000.dump.zst";
    assert_eq!(totals(sink.clone(), "2026-11-23", &[base], Ok(Some(40)), true).await, [Total::About(40)]);
    // A key that may not read.
    let blind = ScriptedSink::over(memory, |call, _| if call == "get" { Fate::Fails } else { Fate::Done });
    assert_eq!(totals(blind.arc(), "2026-11-24", &[], Ok(Some(4000)), true).await, [Total::About(4000)]);
}

#[tokio::test]
async fn an_estimate_that_never_comes_holds_nothing_up() {
    struct Silent(FakeSource);

    #[lifeboat_core::async_trait]
    impl Source for Silent {
        async fn describe(&self) -> lifeboat_core::Result<Description> {
            self.0.describe().await
        }
        async fn estimate(&self) -> lifeboat_core::Result<Option<Estimate>> {
            std::future::pending().await
        }
        async fn open(&self, cx: &Context) -> lifeboat_core::Result<Reading> {
            self.0.open(cx).await
        }
    }

    let sink = MemorySink::new();
    let source = Silent(FakeSource::new(|_| content::stream_of(1, 4_000_000)));
    let receipt = soon(backup(source).to(Arc::new(sink)).run()).await.unwrap();
    assert_eq!(receipt.plaintext_bytes, 4_000_000);
}

#[tokio::test]
async fn no_name_of_what_is_inside_is_readable_in_the_bucket() {
    let sink = MemorySink::new();
    let (secret, public) = Age::generate();
    let source = FakeSource::of(lines()).tapped_by(|| Box::new(LinesTap::default()));
    backup(source).encrypt(Age::to([public]).unwrap()).to(Arc::new(sink.clone())).run().await.unwrap();
    let keys = sink.keys();
    assert_eq!(keys.len(), 2);
    for key in &keys {
        assert!(!String::from_utf8_lossy(&sink.bytes(key).unwrap()).contains(ITEM), "{key}");
    }
    let manifest = Manifest::parse(&sink.bytes(&keys[1]).unwrap(), "m").unwrap();
    let reader: Arc<dyn lifeboat_core::Encryptor> = Arc::new(Age::default().identities(&secret, "k").unwrap());
    let private = manifest.private(&[reader]).await.unwrap();
    assert_eq!((private.proof.total_count(), private.proof.items[1].name.as_str()), (1000, ITEM));
}

#[tokio::test]
async fn any_fault_of_the_sink_leaves_either_the_whole_artifact_or_nothing() {
    let data = content::bytes(3, 200_000);
    for seed in 0..60 {
        let memory = MemorySink::new();
        let chaos = ChaosSink::seeded(Arc::new(memory.clone()), seed, 250_000);
        if chaos.faults().iter().any(|f| matches!(f, Fault::PutStalls { .. })) {
            continue;
        }
        let faults = chaos.faults();
        let source = FakeSource::of(data.clone()).tapped_by(|| Box::new(WholeStream::new("x")));
        let outcome = backup(source).to(Arc::new(chaos)).run().await;
        let listed = list_all(&memory, FOLDER, None).await.unwrap();
        assert_eq!(listed.len(), usize::from(outcome.is_ok()), "seed {seed}, {faults:?}");
        if outcome.is_ok() {
            assert!(read_back(Arc::new(memory)).await == data, "seed {seed}, {faults:?}");
        }
    }
}

/// A source of nothing but secrets.
struct Secrets(FakeSource);

#[lifeboat_core::async_trait]
impl Source for Secrets {
    async fn describe(&self) -> lifeboat_core::Result<Description> {
        self.0.describe().await
    }

    fn is_confidential(&self) -> bool {
        true
    }

    async fn open(&self, cx: &Context) -> lifeboat_core::Result<Reading> {
        assert!(Confidential::is_held(), "plaintext is read only when it will be wiped");
        self.0.open(cx).await
    }
}

#[tokio::test]
async fn nothing_but_secrets_is_never_stored_without_encryption() {
    let sink = MemorySink::new();
    for unencrypted in [true, false] {
        let source = Secrets(FakeSource::of("{}"));
        let opens = source.0.opens.clone();
        let mut backup = Backup::new(source).prefix(FOLDER).to(Arc::new(sink.clone()));
        if unencrypted {
            backup = backup.unencrypted();
        }
        let error = backup.run().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.message().contains("never stored unencrypted"), "{error}");
        assert!(!error.advice().unwrap().contains("none"), "not even in the hint");
        assert_eq!(opens.load(Ordering::SeqCst), 0);
    }
    assert_nothing_is_left(&sink).await;
    let (secret, public) = Age::generate();
    let source = Secrets(FakeSource::of(content::bytes(3, 2_500_000)));
    let made = Backup::new(source).prefix(FOLDER).encrypt(Age::to([public]).unwrap()).to(Arc::new(sink.clone()));
    made.run().await.unwrap();
    let artifact = the_artifact(&sink).await;
    let key = Age::default().identities(&secret, "the key").unwrap();
    let stream = Restore::new(Arc::new(sink), artifact).key(Arc::new(key)).stream().await.unwrap();
    let back = lifeboat_core::stream::collect(stream, 1 << 26, "x").await.unwrap();
    assert_eq!(back, content::bytes(3, 2_500_000), "wiping takes nothing away");
}
