//! A push parser for archives: chunks of any size go in, events come out.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use lifeboat_core::{Error, ErrorKind, Result};
use xxhash_rust::xxh3::Xxh3Default;

use super::checksum::Crc64;
use super::collection::CollectionMetadata;
use super::header::{Header, NamespaceHeader};
use super::{MAGIC, MAX_DOCUMENT, MAX_PRELUDE, MIN_DOCUMENT, TERMINATOR};

/// The part of an archive before the data.
#[derive(Clone, Debug)]
pub struct Prelude {
    /// The archive's header.
    pub header: Header,
    /// The collections. A namespace is identified by its index here.
    pub collections: Vec<CollectionMetadata>,
    /// The size of the prelude in bytes, from the start of the archive to the end of the terminator; 0 if it was not
    /// parsed.
    pub bytes: u64,
    /// XXH3-128 of its documents' bytes; 0 if it was not parsed.
    pub hash: u128,
}

impl Prelude {
    pub(super) fn new(header: Header, collections: Vec<CollectionMetadata>) -> Self {
        Self { header, collections, bytes: 0, hash: 0 }
    }
}

/// Whole documents, back to back.
pub enum Run<'a> {
    /// A part of the chunk that was pushed.
    InChunk(&'a [u8]),
    /// One document that arrived in pieces. To keep it, take the bytes.
    Assembled(&'a mut Vec<u8>),
}

impl fmt::Debug for Run<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InChunk(bytes) => write!(f, "InChunk({} bytes)", bytes.len()),
            Self::Assembled(bytes) => write!(f, "Assembled({} bytes)", bytes.len()),
        }
    }
}

/// Receives an archive's events. A namespace is identified by its index in the prelude's collections.
pub trait Handler {
    /// The prelude has been read.
    ///
    /// # Errors
    /// Any error ends the parsing.
    fn prelude(&mut self, prelude: &Arc<Prelude>) -> Result<()> {
        let _ = prelude;
        Ok(())
    }

    /// One document, at byte `at` of the archive: called for each, before [`run`](Self::run) is called for several.
    ///
    /// # Errors
    /// What is wrong with it; [`Parser`] adds the position.
    #[inline]
    fn document(&mut self, namespace: usize, document: &[u8]) -> Result<(), String> {
        let _ = (namespace, document);
        Ok(())
    }

    /// Several documents, each of which has been passed to [`document`](Self::document).
    ///
    /// # Errors
    /// Any error ends the parsing.
    fn run(&mut self, namespace: usize, run: Run<'_>, documents: u64) -> Result<()> {
        let _ = (namespace, run, documents);
        Ok(())
    }

    /// A namespace has ended, and its checksum is right.
    ///
    /// # Errors
    /// Any error ends the parsing.
    fn end(&mut self, namespace: usize, crc: u64) -> Result<()> {
        let _ = (namespace, crc);
        Ok(())
    }
}

/// A parser of archives. It checks everything except the inside of documents: lengths, order, checksums, that each
/// namespace of the prelude ends, that nothing follows.
///
/// Memory: the prelude, which is rejected above [`MAX_PRELUDE`], and one document of at most [`MAX_DOCUMENT`].
#[derive(Clone)]
pub struct Parser {
    state: State,
    /// The start of the next document or terminator, if a chunk has ended within it.
    partial: Vec<u8>,
    /// The position in the archive of the first byte of `partial`, or of the next byte.
    position: u64,
    header: Option<Header>,
    collections: Vec<CollectionMetadata>,
    prelude: Option<Arc<Prelude>>,
    /// Until the prelude has been read.
    prelude_hash: Option<Box<Xxh3Default>>,
    /// Database and collection, as in the headers of blocks.
    index: Arc<HashMap<(String, String), usize>>,
    namespaces: Vec<Namespace>,
    open: usize,
    most_open: usize,
    ended: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The magic.
    Magic,
    /// The archive's header.
    Header,
    /// Collections, or the prelude's terminator.
    Collections,
    /// The header of a block, or the end of the archive.
    Border,
    /// Documents of the namespace, or the block's terminator.
    Documents(usize),
    /// The terminator after the header that ended the namespace.
    AfterEnd,
    /// An error has been returned.
    Failed,
}

#[derive(Clone, Copy)]
struct Namespace {
    crc: Crc64,
    begun: bool,
    ended: bool,
}

impl fmt::Debug for Parser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parser").field("state", &self.state).field("position", &self.position).finish_non_exhaustive()
    }
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
            state: State::Magic,
            partial: Vec::new(),
            position: 0,
            header: None,
            collections: Vec::new(),
            prelude: None,
            prelude_hash: Some(Box::default()),
            index: Arc::default(),
            namespaces: Vec::new(),
            open: 0,
            most_open: 0,
            ended: 0,
        }
    }

    /// The position up to which the archive has been parsed, in bytes.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// The prelude, once it has passed.
    pub fn prelude(&self) -> Option<&Arc<Prelude>> {
        self.prelude.as_ref()
    }

    /// The largest number of namespaces open at once: mongorestore hangs if the header states a smaller one.
    pub fn most_open(&self) -> usize {
        self.most_open
    }

    #[cfg(test)]
    pub(super) fn partial_capacity(&self) -> usize {
        self.partial.capacity()
    }

    /// Whether a block, or nothing, may follow.
    #[cfg(test)]
    pub(super) fn is_at_border(&self) -> bool {
        self.state == State::Border && self.partial.is_empty()
    }

    /// Reads the next bytes. Chunk boundaries mean nothing.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] with the position, the namespace and what is wrong; errors of `handler`. After an error,
    /// nothing more can be pushed.
    pub fn push<H: Handler>(&mut self, chunk: &[u8], handler: &mut H) -> Result<()> {
        let done = self.advance(chunk, handler);
        if done.is_err() {
            self.state = State::Failed;
            self.partial = Vec::new();
        }
        done
    }

    /// Ends the archive.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] if this cannot be its end.
    pub fn finish(self) -> Result<Arc<Prelude>> {
        if self.position == 0 && self.partial.is_empty() {
            return Err(self.corrupt("it is empty"));
        }
        if self.state != State::Border || !self.partial.is_empty() {
            return Err(self
                .corrupt("it ends here, within a block")
                .hint("it was cut short; look for the whole archive elsewhere"));
        }
        if self.ended < self.namespaces.len() {
            let missing = self.namespaces.iter().position(|n| !n.ended).unwrap_or(0);
            let name = &self.collections_of()[missing];
            return Err(self
                .corrupt(format!("it ends, but {name} does not: {} of {}", self.ended, self.namespaces.len()))
                .hint("it was cut short; look for the whole archive elsewhere"));
        }
        match self.prelude {
            Some(prelude) => Ok(prelude),
            None => Err(Error::new(ErrorKind::Internal, "read", "the archive", "it has no prelude")),
        }
    }

    fn collections_of(&self) -> &[CollectionMetadata] {
        self.prelude.as_ref().map_or(&self.collections[..], |prelude| &prelude.collections)
    }

    fn corrupt(&self, what: impl Into<String>) -> Error {
        self.corrupt_at(self.position, what)
    }

    fn corrupt_at(&self, at: u64, what: impl Into<String>) -> Error {
        let subject = match self.state {
            State::Documents(namespace) => {
                format!("{} in the archive at byte {at}", self.collections_of()[namespace])
            }
            _ => format!("the archive at byte {at}"),
        };
        Error::new(ErrorKind::Corrupt, "read", subject, what)
    }

    fn advance<H: Handler>(&mut self, chunk: &[u8], handler: &mut H) -> Result<()> {
        let mut rest = chunk;
        while !rest.is_empty() {
            if self.state == State::Failed {
                return Err(self.corrupt("it was given up before"));
            }
            if self.partial.is_empty() {
                if let State::Documents(namespace) = self.state {
                    let run = self.documents(namespace, rest, handler)?;
                    rest = &rest[run..];
                    if rest.is_empty() {
                        break;
                    }
                }
                if let Some(whole) = self.whole(rest)? {
                    let (unit, after) = rest.split_at(whole);
                    self.unit(unit, handler)?;
                    self.position += whole as u64;
                    rest = after;
                    continue;
                }
            }
            rest = self.gather(rest)?;
            if let Some(whole) = self.whole(&self.partial)?
                && whole == self.partial.len()
            {
                let mut unit = std::mem::take(&mut self.partial);
                if let State::Documents(namespace) = self.state
                    && unit[..] != TERMINATOR
                {
                    self.document(namespace, &unit, handler)?;
                    self.namespaces[namespace].crc.update(&unit);
                    handler.run(namespace, Run::Assembled(&mut unit), 1)?;
                } else {
                    self.unit(&unit, handler)?;
                }
                self.position += whole as u64;
                unit.clear();
                self.partial = unit;
            }
        }
        Ok(())
    }

    /// Adds the missing bytes to `partial`. Returns what is left.
    fn gather<'a>(&mut self, rest: &'a [u8]) -> Result<&'a [u8]> {
        // The length first: it determines how much follows.
        let wanted = self.whole_length(&self.partial)?.unwrap_or(4);
        let (now, after) = rest.split_at(rest.len().min(wanted - self.partial.len()));
        // It grows by received bytes, not by the announced length, which alone costs nothing.
        self.partial.extend_from_slice(now);
        Ok(after)
    }

    /// The length of what `bytes` start with, if all of it is there.
    fn whole(&self, bytes: &[u8]) -> Result<Option<usize>> {
        Ok(self.whole_length(bytes)?.filter(|length| bytes.len() >= *length))
    }

    /// The length of what `bytes` start with: the magic, a terminator or a document. `None` while too few are there.
    fn whole_length(&self, bytes: &[u8]) -> Result<Option<usize>> {
        let Some(first) = bytes.first_chunk::<4>() else { return Ok(None) };
        if self.state == State::Magic || *first == TERMINATOR {
            return Ok(Some(4));
        }
        let length = i32::from_le_bytes(*first);
        match usize::try_from(length) {
            Ok(length) if (MIN_DOCUMENT..=MAX_DOCUMENT).contains(&length) => Ok(Some(length)),
            _ => {
                Err(self.corrupt(format!("a document of {length} bytes; it can have {MIN_DOCUMENT} to {MAX_DOCUMENT}")))
            }
        }
    }

    /// As many whole documents as `rest` starts with. Returns their bytes.
    fn documents<H: Handler>(&mut self, namespace: usize, rest: &[u8], handler: &mut H) -> Result<usize> {
        let (mut at, mut count) = (0, 0);
        while let Some(first) = rest[at..].first_chunk::<4>() {
            let length = u32::from_le_bytes(*first) as usize;
            if !(MIN_DOCUMENT..=MAX_DOCUMENT).contains(&length) || length > rest.len() - at {
                // A terminator, a document split by the chunk boundary, or an invalid one.
                break;
            }
            self.document(namespace, &rest[at..at + length], handler)?;
            self.position += length as u64;
            at += length;
            count += 1;
        }
        if count > 0 {
            let run = &rest[..at];
            self.namespaces[namespace].crc.update(run);
            handler.run(namespace, Run::InChunk(run), count)?;
        }
        Ok(at)
    }

    #[inline]
    fn document<H: Handler>(&self, namespace: usize, document: &[u8], handler: &mut H) -> Result<()> {
        if document[document.len() - 1] != 0 {
            return Err(self.corrupt("a document does not end with NUL"));
        }
        handler.document(namespace, document).map_err(|what| self.corrupt(what))
    }

    /// A terminator or document that is not one of a namespace's documents.
    fn unit<H: Handler>(&mut self, unit: &[u8], handler: &mut H) -> Result<()> {
        let terminator = unit == TERMINATOR;
        match self.state {
            State::Magic => {
                if unit != MAGIC {
                    let error = self.corrupt("it does not start with the magic of a mongodump archive");
                    return Err(match unit {
                        [0x1f, 0x8b, ..] => error.hint("it is compressed with gzip"),
                        [0x28, 0xb5, 0x2f, 0xfd] => error.hint("it is compressed with zstd"),
                        _ => error,
                    });
                }
                self.state = State::Header;
            }
            State::Header => {
                if terminator {
                    return Err(self.corrupt("it has no header"));
                }
                let header =
                    Header::parse(unit).map_err(|e| self.corrupt(format!("its header cannot be read: {e}")))?;
                self.hash_prelude(unit);
                self.header = Some(header);
                self.state = State::Collections;
            }
            State::Collections if terminator => self.begin(handler)?,
            State::Collections => {
                let entry = CollectionMetadata::parse(unit)
                    .map_err(|e| self.corrupt(format!("a collection's entry cannot be read: {e}")))?;
                if self.position + unit.len() as u64 > MAX_PRELUDE as u64 {
                    return Err(self.corrupt(format!("its collections have more than {MAX_PRELUDE} bytes of metadata")));
                }
                entry.metadata().map_err(|e| self.corrupt(format!("{}: {}", e.subject(), e.message())))?;
                self.hash_prelude(unit);
                self.collections.push(entry);
            }
            State::Border => {
                if terminator {
                    return Err(self.corrupt("two terminators follow each other"));
                }
                self.block(unit, handler)?;
            }
            State::Documents(_) => self.state = State::Border,
            State::AfterEnd => {
                if !terminator {
                    return Err(self.corrupt("a document follows the end of its namespace"));
                }
                self.state = State::Border;
            }
            State::Failed => {}
        }
        Ok(())
    }

    fn hash_prelude(&mut self, unit: &[u8]) {
        if let Some(hash) = &mut self.prelude_hash {
            hash.update(unit);
        }
    }

    /// The prelude has ended.
    fn begin<H: Handler>(&mut self, handler: &mut H) -> Result<()> {
        let header = self.header.take().unwrap_or_default();
        let collections = std::mem::take(&mut self.collections);
        let mut index = HashMap::with_capacity(collections.len());
        for (number, entry) in collections.iter().enumerate() {
            let data = entry.data_collection(&header).into_owned();
            if index.insert((entry.db.clone(), data), number).is_some() {
                return Err(self.corrupt(format!("the collection {entry} is there twice")));
            }
            self.namespaces.push(Namespace { crc: Crc64::new(), begun: false, ended: false });
        }
        self.index = Arc::new(index);
        let bytes = self.position + TERMINATOR.len() as u64;
        let hash = self.prelude_hash.take().map_or(0, |hash| hash.digest128());
        let prelude = Arc::new(Prelude { header, collections, bytes, hash });
        self.prelude = Some(Arc::clone(&prelude));
        self.state = State::Border;
        handler.prelude(&prelude)
    }

    /// The header of a block.
    fn block<H: Handler>(&mut self, unit: &[u8], handler: &mut H) -> Result<()> {
        let header = NamespaceHeader::parse(unit).map_err(|e| self.corrupt(e))?;
        let NamespaceHeader { db, collection, eof, crc } = header;
        let key = (db, collection);
        let name = || format!("{}.{}", key.0, key.1);
        let Some(&number) = self.index.get(&key) else {
            return Err(self.corrupt(format!("a block of {}, which is not among its collections", name())));
        };
        let namespace = &mut self.namespaces[number];
        if namespace.ended {
            return Err(self.corrupt(format!("a block of {}, which has already ended", name())));
        }
        if !namespace.begun {
            namespace.begun = true;
            self.open += 1;
            self.most_open = self.most_open.max(self.open);
        }
        if !eof {
            if crc != 0 {
                return Err(self.corrupt(format!("a block of {} has a checksum but is not the last one", name())));
            }
            self.state = State::Documents(number);
            return Ok(());
        }
        let found = namespace.crc.value();
        namespace.ended = true;
        self.open -= 1;
        self.ended += 1;
        if found != crc {
            return Err(self.corrupt(format!(
                "the documents of {} have the checksum {found:016x}, not the {crc:016x} written at their end",
                name()
            )));
        }
        self.state = State::AfterEnd;
        handler.end(number, found)
    }
}
