//! Packs the server's batches into blocks, in each cursor's own task, so that several cursors use several cores.

use bytes::{Bytes, BytesMut};
use lifeboat_core::stream::CHUNK;
use lifeboat_core::{Error, ErrorKind, Result};

use super::checksum::Crc64;
use super::element::int32;
use super::{MAX_DOCUMENT, MIN_DOCUMENT};

/// Bytes that a block is made for, and that are asked for in a batch of a server nearby. A little less than 1 MiB, so that a batch
/// does not fill one block and begin another: reading documents of 1 KiB took 0.42 s of wall time for a GiB with 1 MiB, and takes
/// 0.39 s.
pub(crate) const BLOCK: usize = CHUNK - (16 << 10);

/// Documents of this many bytes are not copied: their block is a part of the server's reply. Smaller ones would make many small
/// chunks of the archive, and each of them would hold on to its reply.
const LARGE: usize = 512 << 10;

/// Whole documents, back to back, with the checksum of their namespace up to here.
#[derive(Clone, Debug)]
pub struct Block {
    pub(super) bytes: Bytes,
    pub(super) documents: u64,
    /// The namespace's checksum before these documents, and with them.
    pub(super) before: u64,
    pub(super) after: u64,
}

impl Block {
    /// Its size in bytes.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether it is empty.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The number of documents in it.
    pub fn documents(&self) -> u64 {
        self.documents
    }
}

/// Collects documents of one namespace into [`Block`]s of about 1 MiB, and computes their checksum.
///
/// A namespace has one packer, and its blocks must be written in the order in which they are returned. Documents are
/// not decoded; only their length and last byte are checked. A document is copied once, out of the server's reply; a
/// large one is not copied, and its block keeps the reply in memory.
#[derive(Debug)]
pub struct Packer {
    /// The namespace, for errors.
    name: String,
    buffer: BytesMut,
    documents: u64,
    /// The checksum of everything in blocks so far. It is kept running here instead of combining those of the blocks:
    /// combining two takes longer than computing that of a MiB.
    crc: Crc64,
}

impl Packer {
    /// Creates a packer for the namespace `name`.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), buffer: BytesMut::new(), documents: 0, crc: Crc64::new() }
    }

    /// Adds the documents of a batch, given as the bytes of the BSON array that contains them (`cursor.firstBatch` or
    /// `cursor.nextBatch` of a reply). What does not fill a block is kept for the next batch, or for
    /// [`finish`](Self::finish).
    ///
    /// # Errors
    /// Items are [`ErrorKind::Corrupt`] if the array or a document is malformed or has more than 16 MiB.
    pub fn batch<'a>(&'a mut self, array: &'a Bytes) -> Batch<'a> {
        Batch { packer: self, array, at: 4, ended: false }
    }

    /// Adds one document. Returns the block if the document no longer fitted into it.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] if it is malformed or has more than 16 MiB.
    pub fn push(&mut self, document: &[u8]) -> Result<Option<Block>> {
        let length = int32(document, 0).ok().and_then(|length| usize::try_from(length).ok());
        if length != Some(document.len())
            || !(MIN_DOCUMENT..=MAX_DOCUMENT).contains(&document.len())
            || document.last() != Some(&0)
        {
            return Err(self.corrupt(format!("a document of {} bytes that says it has {length:?}", document.len())));
        }
        let full = self.make_room(document.len());
        self.buffer.extend_from_slice(document);
        self.documents += 1;
        Ok(full)
    }

    /// Returns what is left, after the last document.
    pub fn finish(&mut self) -> Option<Block> {
        if self.buffer.is_empty() {
            return None;
        }
        let bytes = std::mem::take(&mut self.buffer).freeze();
        let documents = std::mem::take(&mut self.documents);
        Some(self.block(bytes, documents))
    }

    fn block(&mut self, bytes: Bytes, documents: u64) -> Block {
        let before = self.crc.value();
        self.crc.update(&bytes);
        Block { bytes, documents, before, after: self.crc.value() }
    }

    /// Makes sure that `length` bytes fit; returns the previous content if they did not.
    #[inline]
    fn make_room(&mut self, length: usize) -> Option<Block> {
        if self.buffer.capacity() - self.buffer.len() >= length {
            return None;
        }
        let full = self.finish();
        self.buffer = BytesMut::with_capacity(length.max(BLOCK));
        full
    }

    fn corrupt(&self, what: impl Into<String>) -> Error {
        Error::new(ErrorKind::Corrupt, "read", format!("a batch of {}", self.name), what)
            .hint("the server has sent malformed BSON; validate the collection there")
    }
}

/// The blocks that a batch fills: an iterator, so that only one of them is in memory besides the batch.
#[derive(Debug)]
pub struct Batch<'a> {
    packer: &'a mut Packer,
    array: &'a Bytes,
    at: usize,
    ended: bool,
}

impl Batch<'_> {
    /// Goes on until a block is full or the array ends.
    fn fill(&mut self) -> Result<Option<Block>, &'static str> {
        let array = self.array;
        if array.len() < MIN_DOCUMENT || array.last() != Some(&0) {
            return Err("the array of documents has no end");
        }
        let end = array.len() - 1;
        while self.at < end {
            // An element: type 3 (document), its number as a C string, the document.
            if array[self.at] != 0x03 {
                return Err("the array of documents holds something else");
            }
            let mut at = self.at + 1;
            while array[at] != 0 {
                at += 1;
            }
            at += 1;
            let length = int32(&array[..end], at).map_err(|_| "a document is cut")?;
            let length = usize::try_from(length).map_err(|_| "a document has an impossible length")?;
            if !(MIN_DOCUMENT..=MAX_DOCUMENT).contains(&length) || length > end - at {
                return Err("a document has an impossible length");
            }
            let document = &array[at..at + length];
            if document[length - 1] != 0 {
                return Err("a document does not end with NUL");
            }
            if length >= LARGE {
                // Earlier documents come first; then this one is processed again.
                if let Some(gathered) = self.packer.finish() {
                    return Ok(Some(gathered));
                }
                self.at = at + length;
                return Ok(Some(self.packer.block(array.slice(at..at + length), 1)));
            }
            let full = self.packer.make_room(length);
            self.packer.buffer.extend_from_slice(document);
            self.packer.documents += 1;
            self.at = at + length;
            if full.is_some() {
                return Ok(full);
            }
        }
        Ok(None)
    }
}

impl Iterator for Batch<'_> {
    type Item = Result<Block>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let filled = self.fill();
        self.ended = !matches!(filled, Ok(Some(_)));
        filled.map_err(|what| self.packer.corrupt(what)).transpose()
    }
}
