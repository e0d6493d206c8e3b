//! The headers of pages.

use super::super::wal::Lsn;
use super::end::EndReason;

/// Bytes of a page (`XLOG_BLCKSZ`): servers with another size, which somebody has built for himself, are refused.
pub(super) const PAGE: u64 = 8192;
/// Bytes of a page's header (`SizeOfXLogShortPHD`).
pub(super) const SHORT: usize = 24;
/// The same on the first page of a segment (`SizeOfXLogLongPHD`).
pub(super) const LONG: usize = 40;

/// The first record of the page is the rest of an earlier one.
const CONTINUATION: u16 = 1;
const IS_LONG: u16 = 2;
/// The record that should go on here was cut off by a crash and is void. PostgreSQL 19 has another bit for it.
const OVERWRITTEN: u16 = 8;
/// With `XLP_BKP_REMOVABLE`, which says nothing about what is here.
const ALL: u16 = 15;

/// The versions that write a magic number (`XLOG_PAGE_MAGIC`).
const MAGIC: [(u16, u32); 6] = [(0xD106, 13), (0xD10D, 14), (0xD110, 15), (0xD113, 16), (0xD116, 17), (0xD118, 18)];

/// The header of a page, little-endian (`XLogPageHeaderData`, `XLogLongPageHeaderData`).
///
/// | bytes | |
/// |---|---|
/// | 0 | magic number of the version |
/// | 2 | flags |
/// | 4 | timeline |
/// | 8 | position of the page |
/// | 16 | how many bytes remain of a record that goes on here |
/// | 20 | unused |
/// | 24 | long header only: system identifier |
/// | 32 | long header only: size of segments |
/// | 36 | long header only: size of pages |
pub(super) struct PageHeader {
    pub(super) magic: u16,
    pub(super) info: u16,
    pub(super) timeline: u32,
    pub(super) address: Lsn,
    pub(super) remaining: u32,
    pub(super) long: Option<LongHeader>,
}

pub(super) struct LongHeader {
    pub(super) system: u64,
    pub(super) segment_size: u32,
    pub(super) page_size: u32,
}

impl PageHeader {
    /// Of [`SHORT`] bytes, or of [`LONG`] ones at the start of a segment.
    ///
    /// # Errors
    /// What is wrong by itself, wherever the page may be.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, EndReason> {
        if bytes.iter().all(|byte| *byte == 0) {
            return Err(EndReason::BlankPage);
        }
        let at_start = bytes.len() >= LONG;
        let header = Self {
            magic: u16_at(bytes, 0),
            info: u16_at(bytes, 2),
            timeline: u32_at(bytes, 4),
            address: Lsn(u64_at(bytes, 8)),
            remaining: u32_at(bytes, 16),
            long: at_start.then(|| LongHeader {
                system: u64_at(bytes, 24),
                segment_size: u32_at(bytes, 32),
                page_size: u32_at(bytes, 36),
            }),
        };
        if major_of(header.magic).is_none() {
            return Err(EndReason::UnknownMagic(header.magic));
        }
        if header.info & !ALL != 0 || at_start != (header.info & IS_LONG != 0) {
            return Err(EndReason::Flags(header.info));
        }
        Ok(header)
    }

    /// How many bytes of an earlier record go on here.
    pub(super) fn continuation(&self) -> Option<u32> {
        (self.info & CONTINUATION != 0).then_some(self.remaining)
    }

    pub(super) fn is_overwritten(&self) -> bool {
        self.info & OVERWRITTEN != 0
    }
}

/// The version of PostgreSQL that writes this magic number.
pub(super) fn major_of(magic: u16) -> Option<u32> {
    MAGIC.iter().find(|(known, _)| *known == magic).map(|(_, major)| *major)
}

/// A number in bytes that are known to hold it.
pub(super) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

/// The same, of 32 bits.
pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from(u16_at(bytes, at)) | u32::from(u16_at(bytes, at + 2)) << 16
}

/// The same, of 64 bits.
pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}
