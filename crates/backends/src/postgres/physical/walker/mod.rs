//! A walk over the log as it comes: every page and record is checked, and what the records say is told.
//!
//! [`Walker`] is fed bytes in pieces of any size. It holds the header of one record, its running checksum, and for the few kinds
//! of records that are read at most one MiB of their content.
//!
//! | what is checked | by |
//! |---|---|
//! | each page: magic number, flags, position, timeline; on the first page of a segment also system identifier, sizes | `src/backend/access/transam/xlogreader.c`, `XLogReaderValidatePageHeader` |
//! | each record: length, the position of the one before | `ValidXLogRecordHeader` |
//! | each record: CRC-32C | `ValidXLogRecord` |
//! | a record that goes on over pages and segments | `XLogDecodeNextRecord` |
//!
//! The log of PostgreSQL 13 to 18 on little-endian machines is read. Headers: `src/include/access/xlog_internal.h` and
//! `src/include/access/xlogrecord.h`.
//!
//! # The timeline of a page
//! The first segment of a new timeline begins with a copy of the pages of the old one, up to where that was left. So a page may be
//! of the segment's timeline or of an earlier one, and none is of an earlier one than the page before it.

mod content;
mod end;
mod event;
mod page;
mod record;
#[cfg(test)]
mod tests;

pub use end::{End, EndReason};
pub use event::{Checkpoint, Event, EventKind, Message, OWN_PREFIX, RelationFile, Transaction};

use super::wal::{Lsn, SegmentSize, Timeline};
use page::{LONG, LongHeader, PAGE, PageHeader, SHORT, major_of, u32_at};
use record::{Checksum, HEADER, LARGEST, RecordHeader};

/// Reads a log from a position on.
///
/// ```
/// use lifeboat_backends::postgres::physical::wal::{Lsn, SegmentSize, Timeline};
/// use lifeboat_backends::postgres::physical::walker::{EndReason, Walker};
///
/// let mut walker = Walker::new(Timeline::FIRST, SegmentSize::DEFAULT, Lsn(0x500_0000));
/// let mut events = Vec::new();
/// let end = walker.push(&[0; 8192], &mut events).unwrap_err();
/// assert_eq!((end.at, end.reason), (Lsn(0x500_0000), EndReason::BlankPage));
/// ```
#[derive(Debug)]
pub struct Walker {
    timeline: Timeline,
    size: SegmentSize,
    system: Option<u64>,
    /// The position of the next byte; of the page, while its header is not whole.
    at: u64,
    header: [u8; LONG],
    header_have: usize,
    magic: Option<u16>,
    page_timeline: u32,
    state: State,
    open: Open,
    previous: Option<Lsn>,
    first: Option<Lsn>,
    verified: Option<Lsn>,
    records: u64,
    end: Option<End>,
}

/// What the bytes are that come after the page's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The rest of a page whose header was not seen.
    Blind,
    /// The first page is still to come.
    First,
    /// The rest of a record whose start was not seen.
    Passing(u32),
    /// A record, begun or not.
    Record,
    /// Up to where a record can begin.
    Padding,
    /// The unused rest of a segment.
    Unused,
}

/// The record that has begun.
#[derive(Default)]
struct Open {
    start: u64,
    header: [u8; HEADER],
    /// How much of it is there: 0 if none has begun.
    have: u32,
    total: u32,
    checksum: Option<Checksum>,
    kept: Vec<u8>,
    keep: usize,
}

impl std::fmt::Debug for Open {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Of the content nothing: rows are in it.
        write!(f, "{} of {} bytes from {}", self.have, self.total, Lsn(self.start))
    }
}

impl Walker {
    /// A walk from `from` on, in files whose names say `timeline`.
    ///
    /// At the start of a segment all is checked. From another position the walk begins with the next page that begins there or
    /// later. A record that began before is passed over unchecked: see [`first`](Self::first).
    pub fn new(timeline: Timeline, size: SegmentSize, from: Lsn) -> Self {
        Self {
            timeline,
            size,
            system: None,
            at: from.0,
            header: [0; LONG],
            header_have: 0,
            magic: None,
            page_timeline: 1,
            state: if from.0.is_multiple_of(PAGE) { State::First } else { State::Blind },
            open: Open::default(),
            previous: None,
            first: None,
            verified: None,
            records: 0,
            end: None,
        }
    }

    /// Only segments of the cluster with this system identifier are good. Without it, all have to be of the cluster that the first
    /// one is of.
    #[must_use]
    pub fn of_system(mut self, identifier: u64) -> Self {
        self.system = Some(identifier);
        self
    }

    /// Takes the next bytes, and adds what they say to `events`.
    ///
    /// # Errors
    /// Where the log ends, and then that again for whatever comes. The events up to there have been added; a record counts only
    /// when it is whole and its checksum is right. How the bytes are cut changes neither events nor errors.
    pub fn push(&mut self, bytes: &[u8], events: &mut Vec<Event>) -> Result<(), End> {
        if let Some(end) = &self.end {
            return Err(end.clone());
        }
        let mut rest = bytes;
        while !rest.is_empty() {
            match self.step(rest, events) {
                Ok(taken) => rest = &rest[taken..],
                Err(end) => {
                    self.open = Open::default();
                    self.end = Some(end.clone());
                    return Err(end);
                }
            }
        }
        Ok(())
    }

    /// The position of the next byte that it expects.
    pub fn position(&self) -> Lsn {
        Lsn(self.at.wrapping_add(self.header_have as u64))
    }

    /// Where the first record begins that is good: what lies before it, of a walk that began within a record, was not checked.
    /// `None` before there was one.
    pub fn first(&self) -> Option<Lsn> {
        self.first
    }

    /// Where the last record ends that is good. `None` before the first one.
    pub fn verified(&self) -> Option<Lsn> {
        self.verified
    }

    /// Whether every byte so far is of a record that is good: none has begun that is not whole.
    pub fn is_between_records(&self) -> bool {
        self.state != State::Blind && !matches!(self.state, State::Passing(_)) && self.open.have == 0
    }

    /// How many records were good.
    pub fn records(&self) -> u64 {
        self.records
    }

    /// The major version of the server that wrote the log, once a page has said it.
    pub fn major(&self) -> Option<u32> {
        self.magic.and_then(major_of)
    }

    /// The system identifier of the cluster, once a segment has said it.
    pub fn system(&self) -> Option<u64> {
        self.system
    }

    /// One step with bytes that are not empty: how many of them it took, which is at least one.
    fn step(&mut self, bytes: &[u8], events: &mut Vec<Event>) -> Result<usize, End> {
        if self.state == State::Unused {
            return Ok(self.unused(bytes));
        }
        if self.at.is_multiple_of(PAGE) {
            return self.page(bytes);
        }
        let in_page = (PAGE - self.at % PAGE) as usize;
        let bytes = &bytes[..bytes.len().min(in_page)];
        match self.state {
            State::Blind | State::First => {
                self.at = self.at.wrapping_add(bytes.len() as u64);
                Ok(bytes.len())
            }
            State::Passing(left) => {
                let taken = bytes.len().min(left as usize);
                self.at = self.at.wrapping_add(taken as u64);
                let left = left - taken as u32;
                self.state = if left == 0 { self.after_record() } else { State::Passing(left) };
                Ok(taken)
            }
            State::Padding => {
                let taken = bytes.len().min(padding(self.at));
                self.at = self.at.wrapping_add(taken as u64);
                self.state = self.after_record();
                Ok(taken)
            }
            State::Record | State::Unused => self.in_page(bytes, events),
        }
    }

    fn after_record(&self) -> State {
        if padding(self.at) == 0 { State::Record } else { State::Padding }
    }

    /// The unused rest of a segment, page headers included. The server does not read it, so it is not looked at.
    fn unused(&mut self, bytes: &[u8]) -> usize {
        let left = u64::from(self.size.bytes()) - u64::from(Lsn(self.at).segment_offset(self.size));
        let taken = bytes.len().min(left as usize);
        self.at = self.at.wrapping_add(taken as u64);
        if taken as u64 == left {
            self.state = State::Record;
        }
        taken
    }

    /// The header of a page.
    fn page(&mut self, bytes: &[u8]) -> Result<usize, End> {
        let wanted = if Lsn(self.at).segment_offset(self.size) == 0 { LONG } else { SHORT };
        let taken = bytes.len().min(wanted - self.header_have);
        self.header[self.header_have..self.header_have + taken].copy_from_slice(&bytes[..taken]);
        self.header_have += taken;
        if self.header_have < wanted {
            return Ok(taken);
        }
        let noticed = Lsn(self.at);
        let at = if self.open.have > 0 { Lsn(self.open.start) } else { noticed };
        let header = PageHeader::read(&self.header[..wanted]);
        header.and_then(|header| self.admit_page(&header)).map_err(|reason| End { at, noticed, reason })?;
        self.at = self.at.wrapping_add(wanted as u64);
        self.header_have = 0;
        Ok(taken)
    }

    fn admit_page(&mut self, page: &PageHeader) -> Result<(), EndReason> {
        let expected = *self.magic.get_or_insert(page.magic);
        if page.magic != expected {
            return Err(EndReason::OtherMagic { found: page.magic, expected });
        }
        if page.address != Lsn(self.at) {
            return Err(EndReason::Address(page.address));
        }
        if !(self.page_timeline..=self.timeline.number()).contains(&page.timeline) {
            let (lowest, highest) = (self.page_timeline, self.timeline);
            return Err(EndReason::Timeline { found: page.timeline, lowest, highest });
        }
        if let Some(long) = &page.long {
            self.admit_segment(long)?;
        }
        self.page_timeline = page.timeline;
        self.state = self.go_on(page)?;
        Ok(())
    }

    fn admit_segment(&mut self, long: &LongHeader) -> Result<(), EndReason> {
        if long.segment_size != self.size.bytes() {
            return Err(EndReason::SegmentSize { found: long.segment_size, expected: self.size });
        }
        if u64::from(long.page_size) != PAGE {
            return Err(EndReason::PageSize(long.page_size));
        }
        let expected = *self.system.get_or_insert(long.system);
        if long.system != expected {
            return Err(EndReason::System { found: long.system, expected });
        }
        Ok(())
    }

    /// What comes after the header of a page.
    fn go_on(&mut self, page: &PageHeader) -> Result<State, EndReason> {
        if page.is_overwritten() {
            self.open = Open::default();
            return Ok(State::Record);
        }
        let found = page.continuation();
        let expected = match self.state {
            State::Passing(left) => Some(left),
            _ if self.open.have > 0 => Some(self.open.total - self.open.have),
            // How much is left of a record that began before the walk only the page knows.
            State::Blind | State::First => match found {
                Some(left @ 1..=LARGEST) => return Ok(State::Passing(left)),
                _ => None,
            },
            _ => None,
        };
        if found != expected {
            return Err(EndReason::Continuation { found, expected });
        }
        Ok(match self.state {
            State::Passing(left) => State::Passing(left),
            _ => State::Record,
        })
    }

    /// Records, as far as this page and these bytes go.
    fn in_page(&mut self, bytes: &[u8], events: &mut Vec<Event>) -> Result<usize, End> {
        let mut taken = 0;
        while self.state == State::Record && taken < bytes.len() {
            let rest = &bytes[taken..];
            taken += match self.whole_record(rest, events)? {
                Some(record) => record,
                None => self.part_of_record(rest, events)?,
            };
        }
        Ok(taken)
    }

    /// A record that lies in these bytes as a whole, with what pads it: nearly all do.
    fn whole_record(&mut self, bytes: &[u8], events: &mut Vec<Event>) -> Result<Option<usize>, End> {
        if self.open.have > 0 || bytes.len() < HEADER {
            return Ok(None);
        }
        let start = self.at;
        let header = RecordHeader::read(bytes);
        self.admit_record(start, header.total, Some(header.previous))?;
        let total = header.total as usize;
        let Some(record) = bytes.get(..total) else { return Ok(None) };
        let mut checksum = Checksum::new();
        checksum.update(&record[HEADER..]);
        let kept = header.kept().min(total - HEADER);
        self.at = self.at.wrapping_add(total as u64);
        self.complete(start, &record[..HEADER], &record[HEADER..HEADER + kept], checksum, events)?;
        let padding = padding(self.at);
        if self.state == State::Padding && bytes.len() >= total + padding {
            self.at = self.at.wrapping_add(padding as u64);
            self.state = State::Record;
            return Ok(Some(total + padding));
        }
        Ok(Some(total))
    }

    /// Bytes of a record that goes on over pages or pieces.
    fn part_of_record(&mut self, bytes: &[u8], events: &mut Vec<Event>) -> Result<usize, End> {
        if self.open.have == 0 {
            self.open.start = self.at;
            // Until its length is known.
            self.open.total = HEADER as u32;
            self.open.checksum = Some(Checksum::new());
        }
        let have = self.open.have as usize;
        let taken = if have < HEADER {
            let taken = bytes.len().min(HEADER - have);
            self.open.header[have..have + taken].copy_from_slice(&bytes[..taken]);
            taken
        } else {
            let taken = bytes.len().min((self.open.total - self.open.have) as usize);
            if let Some(checksum) = &mut self.open.checksum {
                checksum.update(&bytes[..taken]);
            }
            let keep = taken.min(self.open.keep - self.open.kept.len());
            self.open.kept.extend_from_slice(&bytes[..keep]);
            taken
        };
        self.open.have += taken as u32;
        self.at = self.at.wrapping_add(taken as u64);
        let now = self.open.have as usize;
        // The length does not cross a page, so that the next page's header can be checked against it.
        if have < 4 && now >= 4 {
            self.open.total = u32_at(&self.open.header, 0);
            self.admit_record(self.open.start, self.open.total, None)?;
        }
        if have < HEADER && now == HEADER {
            let header = RecordHeader::read(&self.open.header);
            self.admit_record(self.open.start, header.total, Some(header.previous))?;
            self.open.keep = header.kept().min(header.total as usize - HEADER);
        }
        if now >= HEADER && self.open.have == self.open.total {
            let open = std::mem::take(&mut self.open);
            let checksum = open.checksum.unwrap_or_else(Checksum::new);
            self.complete(open.start, &open.header, &open.kept, checksum, events)?;
        }
        Ok(taken)
    }

    /// Whether a record can begin like this.
    fn admit_record(&self, start: u64, total: u32, previous: Option<Lsn>) -> Result<(), End> {
        let at = Lsn(start);
        let end = |reason| Err(End { at, noticed: at, reason });
        if total == 0 {
            return end(EndReason::Nothing);
        }
        if !(HEADER as u32..=LARGEST).contains(&total) {
            return end(EndReason::Length(total));
        }
        let Some(found) = previous else { return Ok(()) };
        match self.previous {
            Some(expected) if found != expected => end(EndReason::Previous { found, expected: Some(expected) }),
            None if found >= at => end(EndReason::Previous { found, expected: None }),
            _ => Ok(()),
        }
    }

    /// A record is whole, and the position is behind it.
    fn complete(
        &mut self,
        start: u64,
        header: &[u8],
        kept: &[u8],
        checksum: Checksum,
        events: &mut Vec<Event>,
    ) -> Result<(), End> {
        let start = Lsn(start);
        let computed = checksum.of(header);
        let header = RecordHeader::read(header);
        if computed != header.crc {
            let reason = EndReason::Checksum { found: header.crc, computed };
            return Err(End { at: start, noticed: start, reason });
        }
        self.previous = Some(start);
        self.records += 1;
        self.state = self.after_record();
        let mut end = self.at.wrapping_add(padding(self.at) as u64);
        if header.is_switch() {
            // A record that ends with its segment leaves nothing of it unused.
            let size = u64::from(self.size.bytes());
            end = end.wrapping_add(size - 1) & !(size - 1);
            self.state = if self.at.is_multiple_of(size) { State::Record } else { State::Unused };
        }
        let end = Lsn(end);
        self.first.get_or_insert(start);
        self.verified = Some(end);
        let is_whole = kept.len() == header.total as usize - HEADER;
        if header.kept() > 0
            && let Some(kind) = content::read(&header, kept, is_whole, self.major().unwrap_or_default())
        {
            events.push(Event { start, end, kind });
        }
        Ok(())
    }
}

/// How many bytes it is to where a record can begin.
fn padding(at: u64) -> usize {
    (at.wrapping_neg() & 7) as usize
}
