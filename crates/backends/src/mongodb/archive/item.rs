//! The documents of one collection out of an archive that streams past.

use std::fmt;
use std::sync::Arc;

use lifeboat_core::extract::{self, Out};
use lifeboat_core::{Error, ErrorKind, Extract, Proof, ProofItem, Result};

use super::parser::{Handler, Parser, Prelude, Run};
use super::tap::Proving;

/// Gives out the documents of a collection as BSON, back to back, as `mongodump` has them in its `.bson` files, while the archive
/// is checked as by an [`ArchiveTap`](super::ArchiveTap).
pub struct CollectionDocuments {
    parser: Parser,
    proof: Proving,
    collection: Collection,
}

struct Collection {
    /// As it was asked for.
    wanted: String,
    /// The number of its namespace, once the prelude has passed.
    namespace: Option<usize>,
    given: u64,
}

impl fmt::Debug for CollectionDocuments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CollectionDocuments").field("collection", &self.collection.wanted).finish_non_exhaustive()
    }
}

/// Whether an item of a proof has documents: a view has none, and options and indexes are said of a collection.
pub(crate) fn has_documents(item: &ProofItem) -> bool {
    matches!(&*item.kind, "collection" | "time series" | "oplog")
}

impl CollectionDocuments {
    /// The documents of this collection, named with its database.
    pub fn new(collection: impl Into<String>) -> Self {
        let collection = Collection { wanted: collection.into(), namespace: None, given: 0 };
        Self { parser: Parser::new(), proof: Proving::new(true), collection }
    }
}

impl Extract for CollectionDocuments {
    fn form(&self) -> String {
        let name = &self.collection.wanted;
        format!("BSON documents of {name}, as in a .bson file of mongodump")
    }

    fn take(&mut self, chunk: &[u8], out: &mut Out<'_>) -> Result<()> {
        let Self { parser, proof, collection } = self;
        parser.push(chunk, &mut Giving { proof, collection, out })
    }

    fn end(self: Box<Self>, _: &mut Out<'_>) -> Result<Proof> {
        let most_open = self.parser.most_open();
        let prelude = self.parser.finish()?;
        let proof = self.proof.into_proof(&prelude, most_open);
        // What was counted is what was given out. The first items are those of the namespaces.
        let Collection { wanted, namespace, given } = self.collection;
        let counted = namespace.and_then(|number| proof.items.get(number)).map_or(0, |item| item.bytes);
        if counted != given {
            let why = format!("its documents have {counted} bytes, but {given} were given out");
            return Err(Error::new(ErrorKind::Internal, "read", format!("collection {wanted}"), why));
        }
        Ok(proof)
    }
}

/// Takes the proof, and gives out what is of the collection.
struct Giving<'a, 'o> {
    proof: &'a mut Proving,
    collection: &'a mut Collection,
    out: &'a mut Out<'o>,
}

impl Handler for Giving<'_, '_> {
    fn prelude(&mut self, prelude: &Arc<Prelude>) -> Result<()> {
        self.proof.prelude(prelude)?;
        let all = self.proof.namespaces();
        let with_documents = all.iter().filter(|item| has_documents(item));
        let found = extract::find(with_documents, &self.collection.wanted, "the archive")?;
        self.collection.namespace = all.iter().position(|item| std::ptr::eq(item, found));
        Ok(())
    }

    #[inline]
    fn document(&mut self, namespace: usize, document: &[u8]) -> Result<(), String> {
        self.proof.document(namespace, document)
    }

    fn run(&mut self, namespace: usize, run: Run<'_>, documents: u64) -> Result<()> {
        if self.collection.namespace == Some(namespace) {
            let bytes = match &run {
                Run::InChunk(bytes) => bytes,
                Run::Assembled(bytes) => &bytes[..],
            };
            self.collection.given += bytes.len() as u64;
            (self.out)(bytes)?;
        }
        self.proof.run(namespace, run, documents)
    }

    fn end(&mut self, namespace: usize, crc: u64) -> Result<()> {
        self.proof.end(namespace, crc)
    }
}
