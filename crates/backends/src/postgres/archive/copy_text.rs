//! Rows of COPY text, counted and fingerprinted as they pass.
//!
//! A row is a line: COPY escapes the newlines within values. The data ends with a line `\.` and two empty lines
//! (`dumpTableData_copy` in `src/bin/pg_dump/pg_dump.c` and `CopyTo` of the server), and no row can read `\.`,
//! because a backslash of the data is doubled.

use lifeboat_core::Fingerprint;
use xxhash_rust::xxh3::{Xxh3Default, xxh3_128};

/// From this size on, in bytes, a row that is split by chunk boundaries is hashed piece by piece and not buffered.
const GATHERED: usize = 16 << 10;

/// Counts and fingerprints rows.
pub(super) struct Rows {
    /// The number of rows so far.
    pub count: u64,
    /// The number of bytes in the rows, including their newlines.
    pub bytes: u64,
    /// The sum over the rows.
    pub sum: u128,
    /// The start of a row that was split by a chunk boundary.
    cut: Vec<u8>,
    /// The hash of the start of a row that is too long to buffer.
    long: Option<Box<LongRow>>,
    /// The number of newlines since the terminator, inclusive; 0 before it.
    ending: u8,
    /// For each column in hashing order, its index in the input rows.
    order: Option<Vec<usize>>,
    /// Whether a row could not be put into that order, so that there is no fingerprint.
    pub lost: bool,
}

/// Rows whose columns are reordered are buffered up to this size, in bytes.
const REORDERED: usize = 64 << 20;

impl Rows {
    pub(super) fn new() -> Self {
        Self { count: 0, bytes: 0, sum: 0, cut: Vec::new(), long: None, ending: 0, order: None, lost: false }
    }

    /// Begins a new table's data. With `order`, rows are hashed with reordered columns: the n-th is the input column
    /// `order[n]`.
    pub(super) fn start(&mut self, order: Option<Vec<usize>>) {
        self.order = order;
        self.lost = false;
        self.count = 0;
        self.bytes = 0;
        self.sum = 0;
        self.cut.clear();
        self.long = None;
        self.ending = 0;
    }

    /// The fingerprint of the rows so far.
    pub(super) fn fingerprint(&self) -> Fingerprint {
        Fingerprint(self.sum)
    }

    /// Takes the next bytes of the text.
    #[inline]
    pub(super) fn push(&mut self, mut text: &[u8]) -> Result<(), String> {
        if self.ending > 0 {
            return self.after_end(text);
        }
        if !self.cut.is_empty() || self.long.is_some() {
            let Some(end) = memchr::memchr(b'\n', text) else {
                self.carry(text);
                return Ok(());
            };
            self.end_cut_row(&text[..end]);
            text = &text[end + 1..];
            if self.ending > 0 {
                return self.after_end(text);
            }
        }
        while let Some(end) = memchr::memchr(b'\n', text) {
            let row = &text[..end];
            text = &text[end + 1..];
            if row == b"\\." {
                self.ending = 1;
                return self.after_end(text);
            }
            self.row(row);
        }
        if !text.is_empty() {
            self.carry(text);
        }
        Ok(())
    }

    /// Ends the data; the terminator must have been found.
    pub(super) fn end(&self) -> Result<(), String> {
        if self.ending == 3 { Ok(()) } else { Err("data that does not end with \\. and two empty lines".to_owned()) }
    }

    #[inline]
    fn add(&mut self, hash: u128, len: usize) {
        self.sum = self.sum.wrapping_add(hash);
        self.count += 1;
        self.bytes += len as u64 + 1;
    }

    fn carry(&mut self, piece: &[u8]) {
        if let Some(long) = &mut self.long {
            long.hash.update(piece);
            long.len += piece.len();
        } else if self.cut.len() + piece.len() <= if self.order.is_some() { REORDERED } else { GATHERED } {
            self.cut.extend_from_slice(piece);
        } else {
            let mut hash = Xxh3Default::new();
            hash.update(&self.cut);
            hash.update(piece);
            self.long = Some(Box::new(LongRow { hash, len: self.cut.len() + piece.len() }));
            self.cut.clear();
        }
    }

    fn end_cut_row(&mut self, last: &[u8]) {
        if let Some(mut long) = self.long.take() {
            long.hash.update(last);
            // Too long to be split into columns.
            self.lost |= self.order.is_some();
            self.add(long.hash.digest128(), long.len + last.len());
            return;
        }
        self.cut.extend_from_slice(last);
        if self.cut == b"\\." {
            self.ending = 1;
        } else {
            let row = std::mem::take(&mut self.cut);
            self.row(&row);
            self.cut = row;
        }
        self.cut.clear();
    }

    #[inline]
    fn row(&mut self, row: &[u8]) {
        let hash = match &self.order {
            None => xxh3_128(row),
            Some(order) => {
                // COPY escapes the tabs within values.
                let fields: Vec<&[u8]> = row.split(|byte| *byte == b'\t').collect();
                self.lost |= fields.len() != order.len();
                let fields: Vec<&[u8]> = order.iter().filter_map(|at| fields.get(*at).copied()).collect();
                xxh3_128(&fields.join(&b'\t'))
            }
        };
        self.add(hash, row.len());
    }

    fn after_end(&mut self, text: &[u8]) -> Result<(), String> {
        for byte in text {
            if *byte != b'\n' || self.ending == 3 {
                return Err("data after its terminator \\.".to_owned());
            }
            self.ending += 1;
        }
        Ok(())
    }
}

struct LongRow {
    hash: Xxh3Default,
    len: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pieces: &[&[u8]]) -> Result<(u64, u64, u128), String> {
        let mut rows = Rows::new();
        for piece in pieces {
            rows.push(piece)?;
        }
        rows.end()?;
        Ok((rows.count, rows.bytes, rows.sum))
    }

    #[test]
    fn rows_are_lines_before_the_terminator() {
        let sum = |rows: &[&[u8]]| rows.iter().fold(0u128, |s, r| s.wrapping_add(xxh3_128(r)));
        assert_eq!(read(&[b"\\.\n\n\n"]), Ok((0, 0, 0)));
        assert_eq!(read(&[b"\n\n\\.\n\n\n"]), Ok((2, 2, sum(&[b"", b""]))));
        assert_eq!(read(&[b"a\t\\N\n\\\\.\n\\.\n\n\n"]), Ok((2, 9, sum(&[b"a\t\\N", b"\\\\."]))));
    }

    #[test]
    fn rows_are_hashed_in_the_order_that_is_asked_for() {
        let plain = read(&[b"1\ta b\t\\N\n\\.\n\n\n"]).unwrap();
        for size in [1, 4, 100] {
            let mut rows = Rows::new();
            rows.start(Some(vec![2, 0, 1]));
            for piece in b"a b\t\\N\t1\n\\.\n\n\n".chunks(size) {
                rows.push(piece).unwrap();
            }
            assert_eq!((rows.count, rows.bytes, rows.sum, rows.lost), (plain.0, plain.1, plain.2, false));
        }
        let mut rows = Rows::new();
        rows.start(Some(vec![1, 0]));
        rows.push(b"only one\n").unwrap();
        assert!(rows.lost);
    }

    #[test]
    fn data_without_its_exact_end_is_refused() {
        for text in ["", "a\n", "a\n\\.", "\\.\n", "\\.\n\n", "\\.\n\n\n\n", "\\.\n\n\nx", "\\.\nx\n\n", "\\.x\n\n\n"] {
            assert!(read(&[text.as_bytes()]).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_row_of_any_length_hashes_the_same_in_pieces() {
        for len in [0, 1, GATHERED - 1, GATHERED, GATHERED + 1, 5 * GATHERED] {
            let mut text: Vec<u8> = (0..len).map(|i| b'a' + (i % 23) as u8).collect();
            text.extend_from_slice(b"\nsecond\n\\.\n\n\n");
            let whole = read(&[&text]).unwrap();
            for size in [1, 7, 1000, GATHERED] {
                let pieces: Vec<&[u8]> = text.chunks(size).collect();
                assert_eq!(read(&pieces).unwrap(), whole, "row of {len} in pieces of {size}");
            }
        }
    }
}
