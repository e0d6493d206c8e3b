//! What is cut or flipped is never told as if it were good.

use super::log::Walked;
use super::*;

fn reason(change: impl FnOnce(&mut Log)) -> EndReason {
    let mut log = Log::new();
    log.filler(100);
    log.filler(9_000);
    change(&mut log);
    log.walk().end.expect("it is damaged").reason
}

#[test]
fn each_kind_of_end_is_told_apart() {
    let at = |log: &mut Log, at: usize, bytes: &[u8]| log.bytes[at..at + bytes.len()].copy_from_slice(bytes);
    // Where the second record begins, and the second page.
    let (second, page) = (40 + 128, 8_192);
    assert_eq!(reason(|log| log.bytes.extend([0; 64])), EndReason::Nothing);
    assert_eq!(reason(|log| log.bytes.resize(16_384 + 64, 0)), EndReason::Nothing);
    assert_eq!(reason(|log| at(log, second, &[23, 0, 0, 0])), EndReason::Length(23));
    assert_eq!(reason(|log| at(log, second, &[0xff; 4])), EndReason::Length(u32::MAX));
    assert_eq!(
        reason(|log| at(log, second + 8, &[1, 0])),
        EndReason::Previous { found: Lsn(0x50_0001), expected: Some(Lsn(0x50_0028)) }
    );
    assert_eq!(reason(|log| at(log, 40 + 8, &[0xff; 8])), EndReason::Previous { found: Lsn(u64::MAX), expected: None });
    assert!(matches!(reason(|log| log.bytes[second + 30] ^= 1), EndReason::Checksum { .. }));
    assert_eq!(reason(|log| at(log, page, &[0; 24])), EndReason::BlankPage);
    // PostgreSQL 19, where the flags mean something else.
    assert_eq!(reason(|log| at(log, 0, &[0x21, 0xD1])), EndReason::UnknownMagic(0xD121));
    assert_eq!(reason(|log| at(log, page, &[0x13, 0xD1])), EndReason::OtherMagic { found: 0xD113, expected: 0xD110 });
    assert_eq!(reason(|log| at(log, page + 2, &[0x11])), EndReason::Flags(0x11));
    assert_eq!(reason(|log| at(log, page + 2, &[3])), EndReason::Flags(3));
    assert_eq!(reason(|log| at(log, 2, &[0])), EndReason::Flags(0));
    assert_eq!(reason(|log| at(log, page + 8, &[0, 0])), EndReason::Address(Lsn(0x50_0000)));
    assert_eq!(reason(|log| at(log, 36, &[0, 0x40])), EndReason::PageSize(16_384));
    let size = log_size();
    assert_eq!(
        reason(|log| at(log, 32, &(16u32 << 20).to_le_bytes())),
        EndReason::SegmentSize { found: 16 << 20, expected: size }
    );
    let left = 100 + 24 + 4 + 40 + 9_024 - 8_192;
    assert_eq!(reason(|log| at(log, page + 2, &[0])), EndReason::Continuation { found: None, expected: Some(left) });
    assert_eq!(
        reason(|log| at(log, page + 16, &[1, 0])),
        EndReason::Continuation { found: Some(1), expected: Some(left) }
    );
}

fn log_size() -> SegmentSize {
    Log::new().size
}

#[test]
fn a_record_that_goes_on_where_none_was_is_damage() {
    let mut log = Log::new();
    log.filler(8_192 - 40 - 24);
    log.flags = 1;
    log.filler(10);
    let end = log.walk().end.unwrap();
    assert_eq!(end.at, Lsn(log.start + 8_192));
    assert_eq!(end.reason, EndReason::Continuation { found: Some(0), expected: None });
}

#[test]
fn a_segment_of_another_cluster_is_refused() {
    let log = busy();
    let walked = walk(log.walker().of_system(42), [&log.bytes[..]]);
    assert_eq!(walked.end.unwrap().reason, EndReason::System { found: SYSTEM, expected: 42 });
    assert!(walked.events.is_empty() && walked.verified.is_none());
    assert_eq!(walk(log.walker().of_system(SYSTEM), [&log.bytes[..]]), log.walk());
}

/// Three pages of small records, with commits among them.
fn small() -> Log {
    let mut log = Log::new();
    for i in 0..24u32 {
        log.filler([0, 1, 8, 30, 200, 4_000][i as usize % 6]);
        log.short(1, 0, 800 + i, &i64::from(i).to_le_bytes());
    }
    log
}

#[test]
fn bytes_that_end_early_give_what_was_whole_by_then() {
    let log = small();
    let whole = log.walk();
    let (mut walker, mut events) = (log.walker(), Vec::new());
    for (at, byte) in log.bytes.iter().enumerate() {
        walker.push(&[*byte], &mut events).unwrap();
        let position = log.start + at as u64 + 1;
        // The six bytes of padding behind a commit need not be there.
        let by_then = whole.events.iter().filter(|event| event.end.0 <= position + 6).count();
        assert_eq!(events, whole.events[..by_then], "{at} bytes");
        assert!(walker.verified().is_none_or(|verified| verified.0 < position + 8));
    }
}

#[test]
fn no_flipped_bit_gives_an_event_behind_it() {
    let log = small();
    let whole = log.walk();
    let mut bytes = log.bytes.clone();
    let mut noticed = 0;
    for at in 0..bytes.len() {
        let bit = 1 << (at % 8);
        bytes[at] ^= bit;
        let Walked { events, end, verified, .. } = walk(log.walker(), [&bytes[..]]);
        bytes[at] ^= bit;
        let damaged = Lsn(log.start + at as u64);
        match end {
            Some(end) => {
                noticed += 1;
                assert!(end.at <= damaged, "{at}: {end}");
                assert!(verified.is_none_or(|verified| verified <= damaged), "{at}: {end}");
                assert_eq!(events, whole.events[..events.len()], "{at}");
                assert!(events.iter().all(|event| event.end <= damaged), "{at}");
            }
            // A length that reaches beyond what is there.
            None if events.len() < whole.events.len() => {
                assert!(events.iter().all(|event| event.end <= damaged), "{at}");
            }
            // Padding, and bits of a page's header that say nothing.
            None => assert_eq!(events, whole.events, "{at}"),
        }
    }
    let bits = bytes.len();
    assert!(noticed > bits * 98 / 100, "{noticed} of {bits} bits were noticed");
}
