//! Any bytes are a log or end where they stop being one, however they are cut. History files and names of files are read or refused.

use lifeboat_backends::postgres::physical::wal::{Lsn, SegmentSize, Timeline, TimelineHistory, WalFile};
use lifeboat_backends::postgres::physical::walker::{End, Event, Walker};

type Walked = (Vec<Event>, Option<End>, Option<Lsn>, u64);

fn walk<'a>(log: &[u8], pieces: impl Iterator<Item = &'a [u8]>) -> Walked {
    // The position of the first page, so that it can be right.
    let start = log.get(8..16).and_then(|address| address.try_into().ok()).map_or(0, u64::from_le_bytes);
    let size = SegmentSize::new(1 << 20).expect("the smallest size");
    let mut walker = Walker::new(Timeline::new(u32::MAX).expect("the last timeline"), size, Lsn(start));
    let mut events = Vec::new();
    let end = pieces.fold(None, |_, piece| walker.push(piece, &mut events).err());
    (events, end, walker.verified(), walker.records())
}

// The first byte is the size of the pieces.
pub fn run(input: &[u8]) {
    let Some((size, log)) = input.split_first() else { return };
    let whole = walk(log, std::iter::once(log));
    assert_eq!(walk(log, log.chunks(usize::from(*size).max(1))), whole);
    if let Ok(history) = TimelineHistory::parse(Timeline::new(7).expect("a timeline"), log) {
        for timeline in history.timelines() {
            let range = history.range(timeline).expect("it is of this branch");
            assert!(range.is_empty() || history.timeline_at(range.start) == timeline);
        }
    }
    if let Ok(text) = std::str::from_utf8(log)
        && let Ok(file) = text.parse::<WalFile>()
    {
        assert_eq!(file.to_string(), text);
    }
}
