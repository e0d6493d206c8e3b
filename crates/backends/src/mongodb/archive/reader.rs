//! The parser that passes on documents without copying them, for restores.

use std::sync::Arc;

use bytes::Bytes;
use lifeboat_core::Result;

use super::parser::{Handler, Parser, Prelude, Run};

/// An event of an archive. A namespace is identified by its index in the prelude's collections.
#[derive(Clone, Debug)]
pub enum Event {
    /// Header and collections: the first event.
    Prelude(Arc<Prelude>),
    /// Whole documents, back to back.
    Documents {
        /// The namespace of the documents.
        namespace: usize,
        /// The documents: a slice of the chunk that was pushed, or one document that arrived in pieces.
        bytes: Bytes,
        /// The number of documents.
        documents: u64,
    },
    /// A namespace has ended, and its checksum is right.
    End {
        /// The namespace.
        namespace: usize,
        /// CRC-64/XZ of its documents.
        crc: u64,
    },
}

/// A push reader for archives, with the checks of [`Parser`].
#[derive(Debug, Default)]
pub struct Reader {
    parser: Parser,
}

struct Collect<'a> {
    chunk: &'a Bytes,
    events: &'a mut Vec<Event>,
}

impl Handler for Collect<'_> {
    fn prelude(&mut self, prelude: &Arc<Prelude>) -> Result<()> {
        self.events.push(Event::Prelude(Arc::clone(prelude)));
        Ok(())
    }

    fn run(&mut self, namespace: usize, run: Run<'_>, documents: u64) -> Result<()> {
        let bytes = match run {
            Run::InChunk(run) => self.chunk.slice_ref(run),
            Run::Assembled(document) => Bytes::from(std::mem::take(document)),
        };
        self.events.push(Event::Documents { namespace, bytes, documents });
        Ok(())
    }

    fn end(&mut self, namespace: usize, crc: u64) -> Result<()> {
        self.events.push(Event::End { namespace, crc });
        Ok(())
    }
}

impl Reader {
    /// Creates a reader at the start of an archive.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads the next chunk, and adds its events to `events`.
    ///
    /// # Errors
    /// Those of [`Parser::push`]. Events before the error are added.
    pub fn push(&mut self, chunk: &Bytes, events: &mut Vec<Event>) -> Result<()> {
        self.parser.push(chunk, &mut Collect { chunk, events })
    }

    /// Ends the archive.
    ///
    /// # Errors
    /// Those of [`Parser::finish`].
    pub fn finish(self) -> Result<Arc<Prelude>> {
        self.parser.finish()
    }
}
