//! Archives for the tests.

use std::sync::Arc;

use bson::raw::RawDocumentBuf;
use bytes::Bytes;
use lifeboat_core::{Proof, Result, Tap};
use lifeboat_testkit::documents::Doc;

use super::super::{
    ArchiveTap, CollectionMetadata, Event, Handler, Header, Inside, Metadata, Packer, Prelude, Reader, Run, Writer,
};

/// A document as raw BSON.
pub(super) fn raw(document: Doc) -> RawDocumentBuf {
    RawDocumentBuf::from_bytes(document.build()).unwrap()
}

/// A plain collection with its `_id_` index.
pub(super) fn plain(name: &str) -> Metadata {
    let key = Doc::new().int32("_id", 1);
    Metadata {
        indexes: vec![raw(Doc::new().int32("v", 2).doc("key", key).text("name", "_id_"))],
        uuid: Some("0123456789abcdef0123456789abcdef".to_owned()),
        collection_name: name.to_owned(),
        kind: "collection".to_owned(),
        ..Metadata::default()
    }
}

/// The entry of a plain collection in the database `db`.
pub(super) fn entry(name: &str) -> CollectionMetadata {
    CollectionMetadata::new("db", &plain(name)).unwrap()
}

/// A header that allows `open` namespaces at once.
pub(super) fn header(open: usize) -> Header {
    Header::new(open, "7.0.14", "lifeboat 0.1.0").unwrap()
}

/// The bytes of a BSON array of documents, as a server's reply has them.
pub(super) fn array<D: AsRef<[u8]>>(documents: &[D]) -> Bytes {
    let each = documents.iter().enumerate();
    each.fold(Doc::new(), |array, (i, document)| array.raw(0x03, &i.to_string(), document.as_ref())).build().into()
}

/// An archive of `collections`, one after the other.
pub(super) fn archive(collections: &[(CollectionMetadata, Vec<Vec<u8>>)]) -> Vec<u8> {
    let entries = collections.iter().map(|(entry, _)| entry.clone()).collect();
    let mut writer = Writer::new(header(4), entries).unwrap();
    let mut out = Vec::new();
    for (number, (entry, documents)) in collections.iter().enumerate() {
        let mut packer = Packer::new(entry.to_string());
        for block in packer.batch(&array(documents)) {
            writer.block(number, &block.unwrap(), &mut out).unwrap();
        }
        if let Some(block) = packer.finish() {
            writer.block(number, &block, &mut out).unwrap();
        }
        writer.end(number, &mut out).unwrap();
    }
    out.push(writer.finish().unwrap());
    out.concat()
}

/// The proof of an archive that is pushed in chunks of `size`.
pub(super) fn prove(archive: &[u8], size: usize) -> Result<Proof> {
    let mut tap = Box::new(ArchiveTap::new(Inside::Walked));
    for chunk in archive.chunks(size.max(1)) {
        tap.push(chunk)?;
    }
    tap.finish()
}

/// Documents by namespace.
type Documents = Vec<Vec<Vec<u8>>>;

/// Reads an archive: its prelude, and each namespace's documents in order.
pub(super) fn read(archive: &[u8], size: usize) -> Result<(Arc<Prelude>, Documents)> {
    let (mut reader, mut events) = (Reader::new(), Vec::new());
    for chunk in archive.chunks(size.max(1)) {
        reader.push(&Bytes::copy_from_slice(chunk), &mut events)?;
    }
    let prelude = reader.finish()?;
    let mut all = vec![Vec::new(); prelude.collections.len()];
    for event in events {
        if let Event::Documents { namespace, bytes, documents } = event {
            let before = all[namespace].len();
            let mut rest = &bytes[..];
            while !rest.is_empty() {
                let length = u32::from_le_bytes(rest[..4].try_into().unwrap()) as usize;
                all[namespace].push(rest[..length].to_vec());
                rest = &rest[length..];
            }
            assert_eq!((all[namespace].len() - before) as u64, documents);
        }
    }
    Ok((prelude, all))
}

/// A handler that does nothing: what the parser itself finds is looked at.
pub(super) struct Nothing;

impl Handler for Nothing {
    fn run(&mut self, _: usize, _: Run<'_>, _: u64) -> Result<()> {
        Ok(())
    }
}
