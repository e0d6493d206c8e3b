//! Logs: what is appended is read back in order, and a gap, an overlap or a stranger's content is never passed over.
#![allow(clippy::unwrap_used, missing_docs)]

mod doubles;

use std::sync::{Arc, Mutex};

use doubles::*;
use futures::{StreamExt, TryStreamExt};
use lifeboat_core::encryptor::Age;
use lifeboat_core::log::{
    self, Coverage, LogDescription, LogReader, LogSource, LogWriter, Piece, Position, Segment, SegmentName,
    SegmentStream, ship,
};
use lifeboat_core::progress::Tally;
use lifeboat_core::{Compression, Context, Encryptor, Error, ErrorKind, Result, Sink, async_trait};
use lifeboat_testkit::chaos::{ChaosSink, Fault};
use lifeboat_testkit::memory::MemorySink;
use proptest::prelude::*;

fn described() -> LogDescription {
    LogDescription::new(dataset("main"), "fake", "wal")
}

fn writer(sink: &Arc<dyn Sink>) -> LogWriter {
    LogWriter::new(sink.clone(), "db", &described(), Compression::None, None).unwrap()
}

fn reader(sink: &Arc<dyn Sink>) -> LogReader {
    LogReader::new(sink.clone(), "db", &dataset("main"), [])
}

/// The bytes of these positions: the same however they are cut.
fn bytes(start: u64, end: u64) -> Vec<u8> {
    (start..end).map(|n| (n * 7 % 251) as u8).collect()
}

fn segment(epoch: u32, start: u64, end: u64) -> Segment {
    Segment::new(epoch, start, end, bytes(start, end))
}

async fn filled(segments: &[(u32, u64, u64)]) -> (MemorySink, Arc<dyn Sink>) {
    let memory = MemorySink::new();
    let sink: Arc<dyn Sink> = Arc::new(memory.clone());
    for &(epoch, start, end) in segments {
        writer(&sink).append(segment(epoch, start, end)).await.unwrap();
    }
    (memory, sink)
}

async fn read(sink: &Arc<dyn Sink>, from: u64, to: Option<u64>) -> Result<Vec<Piece>> {
    reader(sink).read(Position::new(1, from), to).try_collect().await
}

#[tokio::test]
async fn a_segment_that_is_only_said_to_be_stored_is_not_appended() {
    for fault in [Fault::PutForgets, Fault::PutCuts { after: 3 }] {
        let sink: Arc<dyn Sink> = Arc::new(ChaosSink::new(Arc::new(MemorySink::new())).with(fault));
        let error = writer(&sink).append(segment(1, 0, 100)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{fault:?}: {error}");
    }
}

/// A log that the system holds: a position is a byte.
struct FakeLog {
    end: u64,
    step: u64,
    confirmed: Mutex<Vec<u64>>,
}

#[async_trait]
impl LogSource for FakeLog {
    async fn describe(&self) -> Result<LogDescription> {
        Ok(described())
    }

    async fn open(&self, from: Option<Position>, _: &Context) -> Result<SegmentStream> {
        let (from, end, step) = (from.map_or(0, |p| p.at), self.end, self.step);
        let starts = (from..end).step_by(usize::try_from(step).unwrap());
        let segments: Vec<Result<Segment>> = starts.map(|at| Ok(segment(1, at, (at + step).min(end)))).collect();
        Ok(futures::stream::iter(segments).boxed())
    }

    async fn confirm(&self, position: Position) -> Result<()> {
        self.confirmed.lock().unwrap().push(position.at);
        Ok(())
    }
}

#[tokio::test]
async fn a_log_is_shipped_confirmed_and_read_back() {
    let (secret, public) = Age::generate();
    let key: Arc<dyn Encryptor> = Arc::new(Age::to([public]).unwrap().identities(&secret, "k").unwrap());
    let memory = MemorySink::new();
    let sink: Arc<dyn Sink> = Arc::new(memory.clone());
    let source = FakeLog { end: 1000, step: 300, confirmed: Mutex::default() };
    let described = source.describe().await.unwrap();
    let mut writer = LogWriter::new(sink.clone(), "db", &described, Compression::zstd(1), Some(key.clone())).unwrap();
    let end = ship(&source, &mut writer, None, &Context::default()).await.unwrap();
    assert_eq!(end, Some(Position::new(1, 1000)));
    assert_eq!(*source.confirmed.lock().unwrap(), [300, 600, 900, 1000]);
    let first = &memory.keys()[0];
    assert!(first.starts_with("db/main.log/00000001/0000000000000000-000000000000012c-"), "{first}");
    assert!(first.ends_with(".wal.zst.age"), "{first}");
    assert!(!memory.bytes(first).unwrap().windows(16).any(|w| w == &bytes(0, 300)[..16]));
    let reader = LogReader::new(sink.clone(), "db", &dataset("main"), [key]);
    let pieces: Vec<Piece> = reader.read(Position::new(1, 0), Some(1000)).try_collect().await.unwrap();
    let all: Vec<u8> = pieces.iter().flat_map(|p| p.segment.bytes.to_vec()).collect();
    assert_eq!(all, bytes(0, 1000));
    let without = LogReader::new(sink.clone(), "db", &dataset("main"), []);
    let refused: Result<Vec<Piece>> = without.read(Position::new(1, 0), None).try_collect().await;
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Decrypt);
    // Segments are no artifacts, and nothing that looks for artifacts sees them.
    assert_eq!(list_all(&*sink, "db", None).await.unwrap(), []);
    assert_eq!(list_all(&*sink, "db", Some("main")).await.unwrap(), []);
}

#[tokio::test]
async fn the_same_segment_twice_is_stored_once() {
    let (memory, sink) = filled(&[(1, 0, 100)]).await;
    let again = writer(&sink).append(segment(1, 0, 100)).await.unwrap();
    assert_eq!((again.bytes, memory.keys().len()), (0, 1));
    // Packed in another way, too.
    let mut zstd = LogWriter::new(sink.clone(), "db", &described(), Compression::zstd(1), None).unwrap();
    assert_eq!(zstd.append(segment(1, 0, 100)).await.unwrap().bytes, 0);
    assert_eq!(memory.keys().len(), 1);
}

#[tokio::test]
async fn another_content_for_the_same_positions_is_never_written_over() {
    let (memory, sink) = filled(&[(1, 0, 100)]).await;
    let before = memory.bytes(&memory.keys()[0]);
    let other = Segment::new(1, 0, 100, vec![9; 100]);
    let error = writer(&sink).append(other.clone()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    assert_eq!((memory.keys().len(), memory.bytes(&memory.keys()[0])), (1, before));
    // One who may not look stores it beside the first; whoever reads is told.
    let elsewhere = MemorySink::new();
    let other_sink: Arc<dyn Sink> = Arc::new(elsewhere.clone());
    writer(&other_sink).append(other).await.unwrap();
    let key = elsewhere.keys().remove(0);
    memory.place(&key, elsewhere.bytes(&key).unwrap(), at("2026-11-21T00:00:00Z"));
    assert_eq!(read(&sink, 0, None).await.unwrap_err().kind(), ErrorKind::Corrupt);
    let coverage = reader(&sink).coverage().await.unwrap();
    assert_eq!((coverage.overlaps.len(), coverage.overlaps[0].is_conflict), (1, true), "{coverage:?}");
}

#[tokio::test]
async fn a_writer_that_is_killed_or_loses_an_answer_goes_on() {
    for fate in [Fate::Fails, Fate::LosesItsAnswer] {
        let struck = Arc::new(Mutex::new(true));
        let once = struck.clone();
        let scripted = ScriptedSink::new(move |call, key| {
            if call == "put" && key.contains("-0000000000000064-") && std::mem::take(&mut *once.lock().unwrap()) {
                return fate;
            }
            Fate::Done
        });
        let sink = scripted.arc();
        let source = FakeLog { end: 300, step: 100, confirmed: Mutex::default() };
        let mut first = writer(&sink);
        let failed: Error = ship(&source, &mut first, None, &Context::default()).await.unwrap_err();
        assert_eq!(failed.kind(), ErrorKind::Io);
        // What was not confirmed is sent again.
        let from = first.end();
        ship(&source, &mut writer(&sink), from, &Context::default()).await.unwrap();
        let pieces = read(&sink, 0, Some(300)).await.unwrap();
        assert_eq!(pieces.iter().map(|p| p.overlap).collect::<Vec<_>>(), [0, 0, 0]);
        assert_eq!(scripted.memory.keys().len(), 3);
    }
}

#[tokio::test]
async fn a_gap_is_told_and_nothing_behind_it_is_given() {
    let (_, sink) = filled(&[(1, 0, 100), (1, 100, 200), (1, 250, 300)]).await;
    let pieces: Vec<Result<Piece>> = reader(&sink).read(Position::new(1, 0), None).collect().await;
    assert_eq!(pieces.len(), 3);
    let error = pieces[2].as_ref().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.message().contains("00000001/00000000000000c8 up to 00000000000000fa is missing"), "{error}");
    // What lies before it, or behind it, can be read.
    assert_eq!(read(&sink, 0, Some(200)).await.unwrap().len(), 2);
    assert_eq!(read(&sink, 260, None).await.unwrap().len(), 1);
    let coverage = reader(&sink).coverage().await.unwrap();
    let windows: Vec<(u64, u64, u64)> = coverage.windows.iter().map(|w| (w.start, w.end, w.segments)).collect();
    assert_eq!(windows, [(0, 200, 2), (250, 300, 1)]);
    assert_eq!((coverage.gaps.len(), coverage.gaps[0].start, coverage.gaps[0].end), (1, 200, 250));
    assert_eq!(coverage.end_from(Position::new(1, 0)), Some(Position::new(1, 200)));
    assert_eq!(coverage.end_from(Position::new(1, 220)), None);
    // And the writer says so when it makes one.
    let tally = Arc::new(Tally::default());
    let cx = Context::default().progress(tally.clone());
    let source = FakeLog { end: 600, step: 100, confirmed: Mutex::default() };
    let mut writer = writer(&sink);
    writer.append(segment(1, 300, 310)).await.unwrap();
    ship(&source, &mut writer, Some(Position::new(1, 500)), &cx).await.unwrap();
    assert!(tally.notes()[0].contains("has a gap"), "{:?}", tally.notes());
}

#[tokio::test]
async fn a_log_that_ends_before_what_is_asked_for_is_an_error() {
    let (_, sink) = filled(&[(1, 0, 100)]).await;
    assert_eq!(read(&sink, 0, Some(101)).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(read(&sink, 0, Some(100)).await.unwrap().len(), 1);
    assert_eq!(read(&sink, 0, None).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_truncated_or_altered_segment_is_corrupt() {
    for zstd in [false, true] {
        let memory = MemorySink::new();
        let sink: Arc<dyn Sink> = Arc::new(memory.clone());
        let compression = if zstd { Compression::zstd(1) } else { Compression::None };
        let mut writer = LogWriter::new(sink.clone(), "db", &described(), compression, None).unwrap();
        writer.append(segment(1, 0, 1000)).await.unwrap();
        let key = memory.keys().remove(0);
        let whole = memory.bytes(&key).unwrap();
        let mut flipped = whole.to_vec();
        flipped[whole.len() / 2] ^= 1;
        for damaged in [whole.slice(..whole.len() - 1), whole.slice(..0), flipped.into()] {
            memory.place(&key, damaged, at("2026-11-21T00:00:00Z"));
            assert_eq!(read(&sink, 0, None).await.unwrap_err().kind(), ErrorKind::Corrupt);
        }
    }
}

#[tokio::test]
async fn an_overlap_is_told_with_the_piece() {
    let (_, sink) = filled(&[(1, 0, 100), (1, 50, 150), (1, 60, 90), (1, 150, 160)]).await;
    let pieces = read(&sink, 20, None).await.unwrap();
    let told: Vec<(u64, u64)> = pieces.iter().map(|p| (p.segment.start, p.overlap)).collect();
    assert_eq!(told, [(0, 20), (50, 50), (60, 30), (150, 0)]);
    let coverage = reader(&sink).coverage().await.unwrap();
    assert_eq!(
        coverage.overlaps.iter().map(|o| (o.positions, o.is_conflict)).collect::<Vec<_>>(),
        [(50, false), (30, false)]
    );
    assert_eq!((coverage.windows.len(), coverage.windows[0].end), (1, 160));
}

#[tokio::test]
async fn what_the_oldest_kept_base_needs_stays() {
    let segments = [(1, 0, 100), (1, 100, 200), (2, 150, 250), (2, 250, 300), (3, 100, 200)];
    let (memory, sink) = filled(&segments).await;
    let of = dataset("main");
    let none = log::prune(sink.clone(), "db", &of, None, false).await.unwrap();
    assert_eq!((none.segments, none.notes.len(), memory.keys().len()), (0, 1, 5));
    let base = Some(Position::new(2, 250));
    let would = log::prune(sink.clone(), "db", &of, base, true).await.unwrap();
    assert_eq!((would.segments, would.bytes, memory.keys().len()), (3, 300, 5));
    memory.place("db/main.log/index/1", "x", at("2026-11-21T00:00:00Z"));
    let unknown = log::prune(sink.clone(), "db", &of, base, false).await.unwrap();
    assert_eq!((unknown.segments, unknown.notes.len(), memory.keys().len()), (0, 1, 6));
    assert_eq!(reader(&sink).coverage().await.unwrap().unknown, ["db/main.log/index/1"]);
    sink.delete(&["db/main.log/index/1".to_owned()]).await.unwrap();
    let done = log::prune(sink.clone(), "db", &of, base, false).await.unwrap();
    assert_eq!((done.segments, done.bytes), (3, 300));
    let left: Vec<(u32, u64)> =
        reader(&sink).segments(None).map_ok(|s| (s.epoch, s.start)).try_collect().await.unwrap();
    assert_eq!(left, [(2, 250), (3, 100)]);
}

#[tokio::test]
async fn a_segment_without_positions_and_a_format_of_two_words_are_refused() {
    let (memory, sink) = filled(&[]).await;
    assert_eq!(writer(&sink).append(Segment::new(1, 5, 5, "x")).await.unwrap_err().kind(), ErrorKind::Config);
    let odd = LogDescription::new(dataset("main"), "fake", "a.b");
    let made = LogWriter::new(sink.clone(), "db", &odd, Compression::None, None);
    assert_eq!(made.unwrap_err().kind(), ErrorKind::Config);
    assert_eq!(memory.keys(), Vec::<String>::new());
}

fn run<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Against a model: a set of positions.
    #[test]
    fn coverage_is_that_of_the_positions(cuts in prop::collection::vec((0u64..200, 1u64..40), 0..12)) {
        let segments: Vec<(u32, u64, u64)> = cuts.iter().map(|(start, length)| (1, *start, start + length)).collect();
        let model: std::collections::BTreeSet<u64> = segments.iter().flat_map(|(_, start, end)| *start..*end).collect();
        let coverage: Coverage = run(async {
            let (_, sink) = filled(&segments).await;
            reader(&sink).coverage().await.unwrap()
        });
        let covered: Vec<u64> = coverage.windows.iter().flat_map(|w| w.start..w.end).collect();
        prop_assert_eq!(covered, model.iter().copied().collect::<Vec<_>>());
        prop_assert_eq!(coverage.gaps.len(), coverage.windows.len().saturating_sub(1));
        prop_assert!(coverage.gaps.iter().all(|g| g.start < g.end && (g.start..g.end).all(|p| !model.contains(&p))));
    }

    /// Whatever is pruned in whatever part: from every kept base on, what could be read can be read.
    #[test]
    fn pruning_costs_no_kept_base_a_segment(
        ends in prop::collection::vec(1u64..30, 1..20), bases in prop::collection::vec(0u64..300, 1..4), done in 0usize..20,
    ) {
        let mut at = 0;
        let names: Vec<SegmentName> = ends.iter().map(|length| {
            let text = format!("00000001/{at:016x}-{length:016x}-{}.wal", "0".repeat(32));
            at += length;
            SegmentName::parse(&text).unwrap()
        }).collect();
        let oldest = bases.iter().min().map(|at| Position::new(1, *at));
        let gone: Vec<SegmentName> = log::prune_plan(oldest, names.clone()).take(done).collect();
        let left: Vec<&SegmentName> = names.iter().filter(|n| !gone.contains(n)).collect();
        for base in &bases {
            prop_assert!(names.iter().filter(|n| n.end > *base).all(|n| left.contains(&n)));
        }
        // No gap, however far it got.
        prop_assert!(left.windows(2).all(|w| w[0].end == w[1].start));
        prop_assert_eq!(log::prune_plan(None, names.clone()).count(), 0);
    }
}
