//! Writes an archive: the one task that owns the stream.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use lifeboat_core::stream::CHUNK;
use lifeboat_core::{Error, ErrorKind, Result};

use super::collection::{CollectionMetadata, Place};
use super::header::{Header, NamespaceHeader};
use super::packer::Block;
use super::parser::Prelude;
use super::{MAGIC, MAX_DOCUMENT, MAX_PRELUDE, TERMINATOR};

/// Blocks smaller than this are copied together, so that a thousand small collections do not become as many chunks.
const SMALL: usize = 64 << 10;

/// Turns the blocks of several namespaces into an archive.
///
/// It refuses to write anything that mongorestore rejects or hangs on: more open namespaces than the header states,
/// documents after a namespace's end, users and roles after other collections, anything after the oplog, a namespace
/// without an end.
pub struct Writer {
    prelude: Arc<Prelude>,
    slots: Vec<Slot>,
    /// The number of namespaces that have begun but not ended.
    open: usize,
    /// The number of namespaces of each [`Place`] that have not ended.
    left: [usize; 3],
    /// The namespace whose block has no terminator yet.
    current: Option<usize>,
    /// Bytes written that are not yet a chunk.
    pending: BytesMut,
    failed: bool,
}

struct Slot {
    collection: String,
    place: Place,
    state: State,
}

enum State {
    Waiting,
    /// Begun, with the checksum so far.
    Open(u64),
    Ended,
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer")
            .field("namespaces", &self.slots.len())
            .field("open", &self.open)
            .finish_non_exhaustive()
    }
}

impl Writer {
    /// Starts an archive with its prelude. From here on, a namespace is identified by its index in `collections`.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] if the prelude is larger than our parser accepts; [`ErrorKind::Internal`] if a
    /// collection occurs twice.
    pub fn new(header: Header, collections: Vec<CollectionMetadata>) -> Result<Self> {
        let mut pending = BytesMut::from(&MAGIC[..]);
        pending.extend_from_slice(&header.to_bytes());
        let mut seen = HashSet::new();
        let mut left = [0; 3];
        let mut slots = Vec::with_capacity(collections.len());
        for entry in &collections {
            let collection = entry.data_collection(&header).into_owned();
            if !seen.insert((entry.db.as_str(), collection.clone())) {
                return Err(internal(format!("{entry} is there twice")));
            }
            let bytes = entry.to_bytes();
            if bytes.len() > MAX_DOCUMENT || pending.len() + bytes.len() > MAX_PRELUDE {
                return Err(Error::new(
                    ErrorKind::Unsupported,
                    "write",
                    format!("the metadata of {entry}"),
                    format!("the metadata of all collections has more than {} MiB", MAX_PRELUDE >> 20),
                ));
            }
            pending.extend_from_slice(&bytes);
            left[entry.place() as usize] += 1;
            slots.push(Slot { collection, place: entry.place(), state: State::Waiting });
        }
        pending.extend_from_slice(&TERMINATOR);
        let prelude = Arc::new(Prelude::new(header, collections));
        Ok(Self { prelude, slots, open: 0, left, current: None, pending, failed: false })
    }

    /// The prelude.
    pub fn prelude(&self) -> &Arc<Prelude> {
        &self.prelude
    }

    /// Writes a block of a namespace. Finished parts of the archive are added to `out`, in chunks of at most 1 MiB.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`] if the namespace may not have documents now; see [`Writer`].
    pub fn block(&mut self, namespace: usize, block: &Block, out: &mut Vec<Bytes>) -> Result<()> {
        if block.is_empty() {
            return Ok(());
        }
        self.switch_to(namespace)?;
        let slot = &mut self.slots[namespace];
        match &mut slot.state {
            State::Open(crc) if *crc == block.before => *crc = block.after,
            _ => {
                self.failed = true;
                return Err(internal(format!("a block of {} is not the one that follows", slot.collection)));
            }
        }
        if block.len() < SMALL {
            self.pending.extend_from_slice(&block.bytes);
            if self.pending.len() >= SMALL {
                self.flush(out);
            }
            return Ok(());
        }
        self.flush(out);
        let mut rest = block.bytes.clone();
        while rest.len() > CHUNK {
            out.push(rest.split_to(CHUNK));
        }
        out.push(rest);
        Ok(())
    }

    /// Ends a namespace. One without documents gets its empty block, which makes mongorestore create it.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`] if it has already ended, or may not be written now.
    pub fn end(&mut self, namespace: usize, out: &mut Vec<Bytes>) -> Result<()> {
        self.switch_to(namespace)?;
        let slot = &mut self.slots[namespace];
        let State::Open(crc) = std::mem::replace(&mut slot.state, State::Ended) else {
            return Err(internal(format!("{} is not open", slot.collection)));
        };
        self.left[slot.place as usize] -= 1;
        self.open -= 1;
        self.pending.extend_from_slice(&TERMINATOR);
        self.current = None;
        self.header(namespace, true, crc);
        self.pending.extend_from_slice(&TERMINATOR);
        if self.pending.len() >= SMALL {
            self.flush(out);
        }
        Ok(())
    }

    /// Ends the archive. Returns its last bytes.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`] if a namespace of the prelude has not ended.
    pub fn finish(mut self) -> Result<Bytes> {
        if self.failed {
            return Err(internal("an error has been passed over".to_owned()));
        }
        if let Some(slot) = self.slots.iter().find(|slot| !matches!(slot.state, State::Ended)) {
            return Err(internal(format!("{} has no end", slot.collection)));
        }
        Ok(self.pending.split().freeze())
    }

    /// Makes `namespace`'s block the open one.
    fn switch_to(&mut self, namespace: usize) -> Result<()> {
        if self.current == Some(namespace) {
            return Ok(());
        }
        let checked = self.may_open(namespace);
        self.failed |= checked.is_err();
        if checked? {
            self.slots[namespace].state = State::Open(0);
            self.open += 1;
        }
        if self.current.is_some() {
            self.pending.extend_from_slice(&TERMINATOR);
        }
        self.header(namespace, false, 0);
        self.current = Some(namespace);
        Ok(())
    }

    /// Whether the namespace begins now; an error if it must not.
    fn may_open(&self, namespace: usize) -> Result<bool> {
        let Some(slot) = self.slots.get(namespace) else {
            return Err(internal(format!("there is no namespace {namespace}")));
        };
        match slot.state {
            State::Open(_) => return Ok(false),
            State::Ended => return Err(internal(format!("{} has ended before", slot.collection))),
            State::Waiting => {}
        }
        let most = match slot.place {
            Place::First => 1,
            _ => usize::try_from(self.prelude.header.concurrent_collections).unwrap_or(0),
        };
        if self.open >= most {
            return Err(internal(format!("{} would be open beside {} others", slot.collection, self.open)));
        }
        if self.left[..slot.place as usize].iter().any(|left| *left > 0) {
            return Err(internal(format!("{} comes before what has to come first", slot.collection)));
        }
        Ok(true)
    }

    fn header(&mut self, namespace: usize, eof: bool, crc: u64) {
        let db = self.prelude.collections[namespace].db.clone();
        let collection = self.slots[namespace].collection.clone();
        self.pending.extend_from_slice(&NamespaceHeader { db, collection, eof, crc }.to_bytes());
    }

    /// Passes on what is pending, in chunks.
    fn flush(&mut self, out: &mut Vec<Bytes>) {
        while !self.pending.is_empty() {
            let size = self.pending.len().min(CHUNK);
            out.push(self.pending.split_to(size).freeze());
        }
    }
}

fn internal(what: String) -> Error {
    Error::new(ErrorKind::Internal, "write", "the archive", what)
}
