mod damage;
mod kinds;
mod log;
mod speed;

use proptest::prelude::*;

use super::*;
use log::{Log, SYSTEM, walk};

/// Records of all sizes over several pages, with a commit after each tenth.
fn busy() -> Log {
    let mut log = Log::new();
    for i in 0..60u32 {
        log.filler([0, 1, 8, 30, 200, 4_000, 20_000][i as usize % 7]);
        if i % 10 == 9 {
            log.short(1, 0, 800 + i, &i64::from(i).to_le_bytes());
        }
    }
    log
}

#[test]
fn records_that_go_on_over_pages_and_segments_are_whole() {
    let mut log = Log::new();
    let mut records = 0;
    while log.bytes.len() < 3 << 20 {
        // More than a segment in one of them.
        log.filler(if records == 20 { 1_100_000 } else { records * 37 % 9_000 });
        records += 1;
    }
    let last = log.short(1, 0, 801, &[0; 8]);
    let walked = log.walk();
    assert_eq!(walked.end, None);
    assert_eq!(walked.records, records as u64 + 1);
    assert_eq!(walked.events.iter().map(|event| event.start).collect::<Vec<_>>(), [last]);
    assert_eq!(walked.verified, Some(Lsn(log.at())));
}

#[test]
fn a_walk_may_begin_on_any_page_and_within_one() {
    let log = busy();
    let whole = log.walk();
    for from in (0..log.bytes.len()).step_by(1_000).chain((0..log.bytes.len()).step_by(8_192)) {
        let start = Lsn(log.start + from as u64);
        let walker = Walker::new(Timeline::new(3).unwrap(), log.size, start);
        let walked = walk(walker, [&log.bytes[from..]]);
        assert_eq!(walked.end, None, "from {start}");
        // Those that begin on the next page or later.
        let page = log.start + from.next_multiple_of(8_192) as u64;
        let later: Vec<Event> = whole.events.iter().filter(|event| event.start.0 >= page).cloned().collect();
        assert_eq!(walked.events, later, "from {start}");
    }
}

#[test]
fn what_follows_a_switch_is_unused() {
    let mut log = Log::new();
    log.filler(100);
    let switch = log.record(0, 0x40, 0, &[]);
    let next = Lsn(log.start + (1 << 20));
    // It is what the file held before, or zeros.
    log.bytes.resize(1 << 20, 0x55);
    log.previous = switch.0;
    let commit = log.short(1, 0, 801, &[0; 8]);
    let walked = log.walk();
    assert_eq!(walked.end, None);
    assert_eq!(walked.events[0], Event { start: switch, end: next, kind: EventKind::Switch });
    assert_eq!((walked.events[1].start, walked.records), (commit, 3));
    let cut = walk(log.walker(), [&log.bytes[..9_000]]);
    assert_eq!((cut.end, cut.verified), (None, Some(next)));
}

#[test]
fn a_record_that_a_crash_cut_off_is_void() {
    let mut log = Log::new();
    log.filler(100);
    let previous = log.previous;
    let void = log.cut_record(20_000);
    log.flags = 8;
    log.previous = previous;
    let main = [void.0.to_le_bytes(), 9u64.to_le_bytes()].concat();
    let start = log.short(0, 0xD0, 0, &main);
    log.filler(9_000);
    let walked = log.walk();
    assert_eq!((walked.end, walked.records), (None, 3));
    let kind = EventKind::Overwritten { at: void, time: super::super::wal::PgTime(9) };
    assert_eq!(walked.events, [Event { start, end: Lsn(start.0 + 48), kind }]);
    // Also where the walk began behind its start.
    let from = 8_192;
    let walker = Walker::new(Timeline::new(3).unwrap(), log.size, Lsn(log.start + from as u64));
    assert_eq!(walk(walker, [&log.bytes[from..]]).events, walked.events);
}

#[test]
fn pages_of_earlier_timelines_are_good_as_long_as_they_ascend() {
    let with = |timelines: [u32; 3]| {
        let mut log = Log::new();
        for timeline in timelines {
            log.timeline = timeline;
            log.filler(if log.bytes.is_empty() { 8_192 - 40 - 24 } else { 8_192 - 24 - 24 });
        }
        log.walk().end.map(|end| end.reason)
    };
    assert_eq!(with([1, 3, 3]), None);
    let wrong = |found, lowest| Some(EndReason::Timeline { found, lowest, highest: Timeline::new(3).unwrap() });
    assert_eq!(with([3, 2, 3]), wrong(2, 3));
    assert_eq!(with([1, 2, 4]), wrong(4, 2));
    assert_eq!(with([0, 1, 1]), wrong(0, 1));
}

#[test]
fn the_position_and_what_is_known_are_told() {
    let mut log = Log::new();
    log.filler(1_000);
    let mut walker = log.walker();
    assert_eq!((walker.major(), walker.system(), walker.verified()), (None, None, None));
    let mut events = Vec::new();
    walker.push(&log.bytes[..20], &mut events).unwrap();
    assert_eq!(walker.position(), Lsn(log.start + 20));
    walker.push(&log.bytes[20..500], &mut events).unwrap();
    assert!(!walker.is_between_records() && walker.first().is_none());
    assert_eq!((walker.major(), walker.system(), walker.verified()), (Some(15), Some(SYSTEM), None));
    walker.push(&log.bytes[500..], &mut events).unwrap();
    assert!(walker.is_between_records());
    assert_eq!((walker.position(), walker.verified()), (Lsn(log.at()), Some(Lsn(log.at()))));
    assert_eq!(walker.first(), Some(Lsn(log.start + 40)));
}

#[test]
fn the_corpus_is_read_as_it_says_however_it_is_cut() {
    let good = lifeboat_testkit::corpus::replay("wal", |log, size| {
        let Some(address) = log.get(8..16) else { return Err(None) };
        let start = Lsn(u64::from_le_bytes(address.try_into().unwrap()));
        let walker = Walker::new(Timeline::new(u32::MAX).unwrap(), "1MB".parse().unwrap(), start);
        let walked = walk(walker, log.chunks(size.max(1)));
        if walked.end.is_none() && walked.records > 0 { Ok(walked.events) } else { Err(walked.end) }
    });
    assert_eq!(good, ["cut", "postgres-15", "switch"]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn it_does_not_matter_how_the_log_is_cut(
        sizes in prop::collection::vec(0..9_000usize, 1..12),
        cuts in prop::collection::vec(1..3_000usize, 1..20),
        damage in prop::option::of(0..1_000_000usize),
    ) {
        let mut log = Log::new();
        for (at, size) in sizes.iter().enumerate() {
            log.filler(*size);
            log.short(1, 0, at as u32 + 3, &[0; 8]);
        }
        if let Some(at) = damage {
            let at = at % log.bytes.len();
            log.bytes[at] ^= 0x10;
        }
        let mut pieces = Vec::new();
        let mut rest = &log.bytes[..];
        for cut in cuts.iter().cycle() {
            let (piece, later) = rest.split_at((*cut).min(rest.len()));
            pieces.push(piece);
            rest = later;
            if rest.is_empty() {
                break;
            }
        }
        prop_assert_eq!(walk(log.walker(), pieces), log.walk());
    }

    #[test]
    fn no_bytes_make_it_panic(bytes: Vec<u8>, from: u64, timeline in 1..u32::MAX) {
        let walker = Walker::new(Timeline::new(timeline).unwrap(), SegmentSize::DEFAULT, Lsn(from));
        let whole = walk(walker, [&bytes[..]]);
        let walker = Walker::new(Timeline::new(timeline).unwrap(), SegmentSize::DEFAULT, Lsn(from));
        prop_assert_eq!(walk(walker, bytes.chunks(1)), whole);
    }
}

#[test]
fn single_bytes_give_the_same_as_all_at_once() {
    let log = busy();
    assert_eq!(walk(log.walker(), log.bytes.chunks(1)), log.walk());
}
