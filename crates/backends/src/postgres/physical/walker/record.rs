//! The headers of records, and which records are read.

use crc_fast::{CrcAlgorithm, Digest};

use super::super::wal::Lsn;
use super::page::{u32_at, u64_at};

/// Bytes of a record's header (`SizeOfXLogRecord`).
pub(super) const HEADER: usize = 24;
/// Bytes of the header that the checksum covers: those before it.
const COVERED: usize = 20;
/// What no record exceeds: 16 and newer write at most 1020 MiB (`XLogRecordMaxSize`), older ones what can be allocated.
pub(super) const LARGEST: u32 = 1 << 30;

/// Bytes that are kept of a transaction's record: some 80,000 files of relations, or 250,000 subtransactions.
const KEPT_OF_TRANSACTION: usize = 1 << 20;
/// Bytes that are kept of any other record that is read.
const KEPT: usize = 4 << 10;

/// Numbers of resource managers (`src/include/access/rmgrlist.h`).
pub(super) mod manager {
    pub(crate) const XLOG: u8 = 0;
    pub(crate) const XACT: u8 = 1;
    pub(crate) const DATABASE: u8 = 4;
    pub(crate) const MESSAGE: u8 = 21;
}

/// The header of a record, little-endian (`src/include/access/xlogrecord.h`, `XLogRecord`).
///
/// | bytes | |
/// |---|---|
/// | 0 | length of all |
/// | 4 | transaction |
/// | 8 | position of the record before |
/// | 16 | flags: the upper half belongs to the resource manager |
/// | 17 | resource manager |
/// | 18 | unused |
/// | 20 | CRC-32C over the bytes from 24 on, and then over the first 20 |
#[derive(Clone, Copy)]
pub(super) struct RecordHeader {
    pub(super) total: u32,
    pub(super) xid: u32,
    pub(super) previous: Lsn,
    pub(super) info: u8,
    pub(super) manager: u8,
    pub(super) crc: u32,
}

impl RecordHeader {
    /// Of [`HEADER`] bytes.
    pub(super) fn read(bytes: &[u8]) -> Self {
        Self {
            total: u32_at(bytes, 0),
            xid: u32_at(bytes, 4),
            previous: Lsn(u64_at(bytes, 8)),
            info: bytes[16],
            manager: bytes[17],
            crc: u32_at(bytes, 20),
        }
    }

    /// How much of the record's content has to be kept for what is read of it.
    pub(super) fn kept(&self) -> usize {
        match (self.manager, self.info & 0xF0) {
            (manager::XACT, _) => KEPT_OF_TRANSACTION,
            // Not the images of pages.
            (manager::XLOG, 0x00 | 0x10 | 0x40 | 0x50 | 0x70 | 0x90 | 0xD0) => KEPT,
            (manager::DATABASE | manager::MESSAGE, _) => KEPT,
            _ => 0,
        }
    }

    /// Whether the rest of the segment after it is unused.
    pub(super) fn is_switch(&self) -> bool {
        self.manager == manager::XLOG && self.info & 0xF0 == 0x40
    }
}

/// The checksum of a record as its bytes come.
#[derive(Clone, Copy)]
pub(super) struct Checksum(u64);

impl Checksum {
    const ONES: u64 = 0xFFFF_FFFF;

    pub(super) fn new() -> Self {
        Self(Self::ONES)
    }

    /// Adds bytes of the record's content.
    pub(super) fn update(&mut self, bytes: &[u8]) {
        let mut digest = Digest::new_with_init_state(CrcAlgorithm::Crc32Iscsi, self.0);
        digest.update(bytes);
        self.0 = digest.get_state();
    }

    /// The checksum of the content and the header.
    pub(super) fn of(mut self, header: &[u8]) -> u32 {
        self.update(&header[..COVERED]);
        (self.0 ^ Self::ONES) as u32
    }
}
