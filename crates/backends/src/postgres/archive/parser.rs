//! The push parser: it takes chunks of any size and calls an [`EventHandler`].
//!
//! After the table of contents come the data blocks, each a type byte, an int (the entry's number) and
//!
//! * type 1, `DATA`: chunks `{int length > 0, bytes}`, ended by an int 0;
//! * type 3, `BLOBS`: `{int OID, chunks as above, int 0}`, ended by an int 0 in place of an OID.
//!
//! (`src/bin/pg_dump/pg_backup_custom.c`: `_StartData`, `_StartLO`, `_CustomWriteFunc`.) The archive ends after
//! the last block, without a trailer. It is complete if the data of every entry that has any was found.

use std::sync::Arc;

use lifeboat_core::{Error, ErrorKind, Result};

use super::read::{Fault, MAX_INT, int};
use super::toc::{DataOffset, Toc, TocEntry, TocProgress, TocReader};

/// The kind of a data block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BlockKind {
    /// One table's data.
    Data,
    /// Large objects.
    LargeObjects,
}

/// A block that begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockStart {
    /// The number of its entry.
    pub dump_id: i32,
    /// The index of its entry in [`Toc::entries`].
    pub index: usize,
    /// Its kind.
    pub kind: BlockKind,
    /// The offset of its type byte, which is the data offset of an entry.
    pub offset: u64,
}

/// A block that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockEnd {
    /// The number of its entry.
    pub dump_id: i32,
    /// The offset of its type byte.
    pub offset: u64,
    /// Its length in the archive, from the type byte to the end of its last int.
    pub len: u64,
}

/// Receives the events of a [`Parser`]. An error stops the parser for good.
///
/// `at` is the offset in the archive, in bytes, of what the call is about.
pub trait EventHandler {
    /// Header and table of contents are complete; they are [`Toc::byte_len`] bytes.
    fn toc(&mut self, toc: &Arc<Toc>) -> Result<()> {
        let _ = toc;
        Ok(())
    }

    /// A block begins.
    fn block_start(&mut self, block: &BlockStart) -> Result<()> {
        let _ = block;
        Ok(())
    }

    /// Bytes of the block, or of the large object within it, as they stand in the archive: compressed.
    fn data(&mut self, bytes: &[u8], at: u64) -> Result<()> {
        let _ = (bytes, at);
        Ok(())
    }

    /// A large object begins.
    fn large_object_start(&mut self, oid: u32, at: u64) -> Result<()> {
        let _ = (oid, at);
        Ok(())
    }

    /// A large object has ended.
    fn large_object_end(&mut self, oid: u32, at: u64) -> Result<()> {
        let _ = (oid, at);
        Ok(())
    }

    /// The block has ended.
    fn block_end(&mut self, block: &BlockEnd) -> Result<()> {
        let _ = block;
        Ok(())
    }
}

/// A handler that ignores all events, for just checking the archive's structure.
impl EventHandler for () {}

/// Parses a custom archive from chunks of any size, keeping only its table of contents in memory.
#[derive(Debug)]
pub struct Parser {
    state: State,
    /// Offset of the next byte.
    at: u64,
    toc: Option<Arc<Toc>>,
    /// For each entry, whether its block has come.
    seen: Vec<bool>,
    /// An int that a chunk boundary has cut.
    cut: [u8; MAX_INT],
    cut_len: usize,
    /// Bytes of an int: its sign and magnitude.
    int_len: usize,
    block: BlockStart,
    /// The large object that is being read.
    oid: u32,
}

#[derive(Debug)]
enum State {
    Toc(Box<TocReader>),
    BlockType,
    BlockId,
    Oid,
    ChunkLen,
    Data(usize),
    Failed,
}

impl Default for Parser {
    fn default() -> Self {
        Self::new()
    }
}

impl Parser {
    /// Creates a parser at the start of an archive.
    pub fn new() -> Self {
        Self {
            state: State::Toc(Box::default()),
            at: 0,
            toc: None,
            seen: Vec::new(),
            cut: [0; MAX_INT],
            cut_len: 0,
            int_len: 0,
            block: BlockStart { dump_id: 0, index: 0, kind: BlockKind::Data, offset: 0 },
            oid: 0,
        }
    }

    /// The table of contents, once it is complete.
    pub fn toc(&self) -> Option<&Arc<Toc>> {
        self.toc.as_ref()
    }

    /// The number of bytes taken so far.
    pub fn position(&self) -> u64 {
        self.at
    }

    /// Takes the next bytes of the archive.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] if they cannot be part of an archive, [`ErrorKind::Unsupported`] if the version is
    /// unknown, and errors of the handler. The parser cannot be used after an error.
    pub fn push(&mut self, chunk: &[u8], events: &mut impl EventHandler) -> Result<()> {
        let done = self.take(chunk, events);
        if done.is_err() {
            self.state = State::Failed;
        }
        done
    }

    /// Ends the archive and returns its table of contents.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] if it is cut short: within something, or before the data of some entry.
    pub fn finish(self) -> Result<Arc<Toc>> {
        let toc = match (&self.state, self.toc) {
            (State::Toc(reader), _) => return Err(reader.cut_short()),
            (State::Failed, _) | (_, None) => return Err(failed()),
            (State::BlockType, Some(toc)) => toc,
            (_, Some(toc)) => {
                let what = match &self.state {
                    State::BlockId => "a block's head".to_owned(),
                    _ => format!("the data of {}", describe(&toc.entries[self.block.index])),
                };
                return Err(corrupt(self.at, format!("it ends within {what}")));
            }
        };
        let mut missing = toc.entries.iter().zip(&self.seen).filter(|(e, seen)| e.had_dumper && !**seen);
        if let Some((first, _)) = missing.next() {
            let more = match missing.count() {
                0 => String::new(),
                n => format!(" and of {n} more"),
            };
            return Err(corrupt(self.at, format!("it ends before the data of {}{more}", describe(first))));
        }
        Ok(toc)
    }

    fn take(&mut self, mut chunk: &[u8], events: &mut impl EventHandler) -> Result<()> {
        if let State::Toc(reader) = &mut self.state {
            let TocProgress::Complete { toc, consumed, .. } = reader.push(chunk)? else {
                self.at += chunk.len() as u64;
                return Ok(());
            };
            self.at = toc.byte_len;
            self.seen = vec![false; toc.entries.len()];
            self.int_len = 1 + usize::from(toc.header.int_size);
            let toc = Arc::new(*toc);
            self.toc = Some(Arc::clone(&toc));
            self.state = State::BlockType;
            events.toc(&toc)?;
            chunk = &chunk[consumed..];
        }
        while !chunk.is_empty() {
            match &mut self.state {
                State::Data(left) => {
                    let len = (*left).min(chunk.len());
                    let (bytes, rest) = chunk.split_at(len);
                    *left -= len;
                    if *left == 0 {
                        self.state = State::ChunkLen;
                    }
                    let at = self.at;
                    self.at += len as u64;
                    chunk = rest;
                    events.data(bytes, at)?;
                }
                State::ChunkLen => {
                    let Some(len) = self.int(&mut chunk)? else { return Ok(()) };
                    match usize::try_from(len) {
                        Ok(0) => self.end_of_chunks(events)?,
                        Ok(len) => self.state = State::Data(len),
                        Err(_) => return Err(self.corrupt_int(format!("a chunk of {len} bytes"))),
                    }
                }
                State::BlockType => {
                    let kind = match chunk[0] {
                        1 => BlockKind::Data,
                        3 => BlockKind::LargeObjects,
                        n => return Err(corrupt(self.at, format!("a block of the unknown type {n}"))),
                    };
                    self.block = BlockStart { dump_id: 0, index: 0, kind, offset: self.at };
                    self.at += 1;
                    chunk = &chunk[1..];
                    self.state = State::BlockId;
                }
                State::BlockId => {
                    let Some(id) = self.int(&mut chunk)? else { return Ok(()) };
                    self.begin_block(id)?;
                    self.state = match self.block.kind {
                        BlockKind::Data => State::ChunkLen,
                        BlockKind::LargeObjects => State::Oid,
                    };
                    events.block_start(&self.block)?;
                }
                State::Oid => {
                    let Some(oid) = self.int(&mut chunk)? else { return Ok(()) };
                    if oid == 0 {
                        self.end_block(events)?;
                    } else {
                        // OIDs are unsigned and written as an int: from 2^31 on they come as negative ones.
                        self.oid = oid as u32;
                        self.state = State::ChunkLen;
                        events.large_object_start(self.oid, self.at)?;
                    }
                }
                State::Failed | State::Toc(_) => return Err(failed()),
            }
        }
        Ok(())
    }

    /// An int, once all of its bytes have come.
    #[inline]
    fn int(&mut self, chunk: &mut &[u8]) -> Result<Option<i32>> {
        let len = self.int_len;
        let value = if self.cut_len == 0 && chunk.len() >= len {
            let (bytes, rest) = chunk.split_at(len);
            *chunk = rest;
            self.at += len as u64;
            int(bytes)
        } else {
            let (bytes, rest) = chunk.split_at(chunk.len().min(len - self.cut_len));
            self.cut[self.cut_len..self.cut_len + bytes.len()].copy_from_slice(bytes);
            self.cut_len += bytes.len();
            self.at += bytes.len() as u64;
            *chunk = rest;
            if self.cut_len < len {
                return Ok(None);
            }
            self.cut_len = 0;
            int(&self.cut[..len])
        };
        match value {
            Ok(value) => Ok(Some(value)),
            Err(Fault::Corrupt(message) | Fault::Unsupported(message)) => Err(self.corrupt_int(message)),
        }
    }

    fn begin_block(&mut self, id: i32) -> Result<()> {
        let toc = self.toc.as_ref().expect("blocks are read after the table of contents");
        let at = self.block.offset;
        let Some(index) = toc.index_of(id) else {
            return Err(corrupt(at, format!("a block with the number {id}, which no entry has")));
        };
        let entry = &toc.entries[index];
        if !entry.had_dumper {
            return Err(corrupt(at, format!("a block for {}, which has no data", describe(entry))));
        }
        if self.seen[index] {
            return Err(corrupt(at, format!("a second block for {}", describe(entry))));
        }
        let large = entry.is("BLOBS");
        if large != (self.block.kind == BlockKind::LargeObjects) {
            return Err(corrupt(at, format!("a block for {} that is not of its type", describe(entry))));
        }
        if let DataOffset::At(said) = entry.offset
            && said != at
        {
            return Err(corrupt(at, format!("the block of {} should be at byte {said}", describe(entry))));
        }
        self.seen[index] = true;
        self.block.dump_id = id;
        self.block.index = index;
        Ok(())
    }

    fn end_of_chunks(&mut self, events: &mut impl EventHandler) -> Result<()> {
        match self.block.kind {
            BlockKind::Data => self.end_block(events),
            BlockKind::LargeObjects => {
                self.state = State::Oid;
                events.large_object_end(self.oid, self.at)
            }
        }
    }

    fn end_block(&mut self, events: &mut impl EventHandler) -> Result<()> {
        self.state = State::BlockType;
        let BlockStart { dump_id, offset, .. } = self.block;
        events.block_end(&BlockEnd { dump_id, offset, len: self.at - offset })
    }

    /// An error about the int that has just been read.
    fn corrupt_int(&self, message: String) -> Error {
        let at = self.at.saturating_sub(self.int_len as u64);
        match (&self.state, &self.toc) {
            (State::ChunkLen | State::Oid, Some(toc)) => {
                corrupt(at, format!("{message}, in the data of {}", describe(&toc.entries[self.block.index])))
            }
            _ => corrupt(at, message),
        }
    }
}

fn corrupt(at: u64, message: String) -> Error {
    Error::new(ErrorKind::Corrupt, "read", format!("the archive at byte {at}"), message)
}

fn failed() -> Error {
    Error::new(ErrorKind::Internal, "read", "the archive", "its parser was used after it had failed")
}

/// An entry for people: `TABLE DATA public.a (3480)`.
pub(super) fn describe(entry: &TocEntry) -> String {
    let schema = match &entry.namespace {
        Some(name) if !name.is_empty() => format!("{}.", String::from_utf8_lossy(name)),
        _ => String::new(),
    };
    format!("{} {schema}{} ({})", entry.kind(), entry.label(), entry.dump_id)
}
