//! A log as a server writes it, for tests.

use super::super::page::PAGE;
use super::super::record::{Checksum, HEADER};
use crate::postgres::physical::wal::{Lsn, SegmentSize, Timeline};
use crate::postgres::physical::walker::{End, Event, Walker};

pub(super) const SYSTEM: u64 = 7_574_000_000_000_000_001;

pub(super) struct Log {
    pub(super) bytes: Vec<u8>,
    pub(super) start: u64,
    pub(super) magic: u16,
    pub(super) timeline: u32,
    pub(super) size: SegmentSize,
    pub(super) previous: u64,
    /// Flags of the next page beside those that follow from what is on it.
    pub(super) flags: u16,
}

impl Log {
    pub(super) fn new() -> Self {
        let size = "1MB".parse().unwrap();
        Self { bytes: Vec::new(), start: 5 << 20, magic: 0xD110, timeline: 3, size, previous: 0x4F_FF00, flags: 0 }
    }

    pub(super) fn at(&self) -> u64 {
        self.start + self.bytes.len() as u64
    }

    fn page_header(&mut self, remaining: u32) {
        let at = self.at();
        let is_first = at.is_multiple_of(u64::from(self.size.bytes()));
        let info = u16::from(remaining > 0) | if is_first { 2 } else { 0 } | std::mem::take(&mut self.flags);
        self.bytes.extend(self.magic.to_le_bytes());
        self.bytes.extend(info.to_le_bytes());
        self.bytes.extend(self.timeline.to_le_bytes());
        self.bytes.extend(at.to_le_bytes());
        self.bytes.extend(remaining.to_le_bytes());
        self.bytes.extend([0; 4]);
        if is_first {
            self.bytes.extend(SYSTEM.to_le_bytes());
            self.bytes.extend(self.size.bytes().to_le_bytes());
            self.bytes.extend(8192u32.to_le_bytes());
        }
    }

    /// Bytes of a record, over as many pages as they need.
    fn put(&mut self, record: &[u8]) {
        let mut left = record;
        while !left.is_empty() {
            if self.at().is_multiple_of(PAGE) {
                let remaining = if left.len() == record.len() { 0 } else { left.len() };
                self.page_header(remaining as u32);
            }
            let room = (PAGE - self.at() % PAGE) as usize;
            let (now, later) = left.split_at(left.len().min(room));
            self.bytes.extend(now);
            left = later;
        }
    }

    pub(super) fn encode(&self, manager: u8, info: u8, xid: u32, body: &[u8]) -> Vec<u8> {
        let mut record = Vec::new();
        record.extend(((HEADER + body.len()) as u32).to_le_bytes());
        record.extend(xid.to_le_bytes());
        record.extend(self.previous.to_le_bytes());
        record.extend([info, manager, 0, 0]);
        let mut checksum = Checksum::new();
        checksum.update(body);
        record.extend(checksum.of(&[&record[..], &[0; 4]].concat()).to_le_bytes());
        record.extend(body);
        record
    }

    /// Adds a record, and gives its position.
    pub(super) fn record(&mut self, manager: u8, info: u8, xid: u32, body: &[u8]) -> Lsn {
        let record = self.encode(manager, info, xid, body);
        if self.at().is_multiple_of(PAGE) {
            self.page_header(0);
        }
        self.previous = self.at();
        self.put(&record);
        while !self.at().is_multiple_of(8) {
            self.bytes.push(0);
        }
        Lsn(self.previous)
    }

    /// A record of a kind that is not read, with so many bytes of content.
    pub(super) fn filler(&mut self, bytes: usize) -> Lsn {
        let body: Vec<u8> = (0..bytes).map(|i| (i * 7 + bytes) as u8).collect();
        self.record(10, 0, 700, &body)
    }

    /// Adds a record whose main data is short.
    pub(super) fn short(&mut self, manager: u8, info: u8, xid: u32, main: &[u8]) -> Lsn {
        self.record(manager, info, xid, &[&[255, main.len() as u8], main].concat())
    }

    /// Adds a record whose main data is long.
    pub(super) fn long(&mut self, manager: u8, info: u8, xid: u32, main: &[u8]) -> Lsn {
        let length = (main.len() as u32).to_le_bytes();
        self.record(manager, info, xid, &[&[254], &length[..], main].concat())
    }

    /// The first part of a record up to the end of its page, as a crash leaves it.
    pub(super) fn cut_record(&mut self, bytes: usize) -> Lsn {
        let record = self.encode(10, 0, 700, &vec![1; bytes]);
        let at = self.at();
        let room = (PAGE - at % PAGE) as usize;
        assert!(record.len() > room && room < PAGE as usize);
        self.bytes.extend(&record[..room]);
        Lsn(at)
    }

    pub(super) fn walker(&self) -> Walker {
        Walker::new(Timeline::new(3).unwrap(), self.size, Lsn(self.start))
    }

    pub(super) fn walk(&self) -> Walked {
        walk(self.walker(), [&self.bytes[..]])
    }
}

/// What comes of a walk.
#[derive(Debug, PartialEq)]
pub(super) struct Walked {
    pub(super) events: Vec<Event>,
    pub(super) end: Option<End>,
    pub(super) verified: Option<Lsn>,
    pub(super) records: u64,
}

pub(super) fn walk<'a>(mut walker: Walker, pieces: impl IntoIterator<Item = &'a [u8]>) -> Walked {
    let (mut events, mut end) = (Vec::new(), None);
    for piece in pieces {
        let now = walker.push(piece, &mut events).err();
        assert!(end.is_none() || end == now, "an end stays the end");
        end = now;
    }
    Walked { events, end, verified: walker.verified(), records: walker.records() }
}
