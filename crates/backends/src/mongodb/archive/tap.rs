//! The tap over an archive: checks every byte of its structure, and takes the proof.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use lifeboat_core::{Error, ErrorKind, Fingerprint, Proof, ProofItem, Result, Tap};
use serde_json::{Value, json};

use super::element::Walker;
use super::extended_json::to_extended_json;
use super::metadata::Metadata;
use super::parser::{Handler, Parser, Prelude};
use crate::mongodb::order::Order;

/// Whether the inside of each document is checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Inside {
    /// Only lengths and checksums: data from the server is passed on.
    #[default]
    Carried,
    /// Each document is walked through, including nested ones, so that one that no server would accept is detected.
    Walked,
}

/// Takes the proof of an archive while it streams past.
///
/// The proof has
///
/// * an item for each collection: of kind `collection`, `time series` (its buckets), `view` or `oplog`, named
///   `database.collection`. Documents, their bytes, and the sum of XXH3-128 of each document's raw BSON. A view has
///   none of them. A capped collection has the fingerprint of its documents' order as its value;
/// * an item of kind `options` for each collection that has any, a view included: their canonical Extended JSON is its value;
/// * an item of kind `index` for each index, named as the index and of the collection (`of`): its canonical Extended JSON,
///   without `v` and `ns`, which the server writes itself. Proofs of older versions have `database.collection: index` for
///   its name.
///
/// Its details are
///
/// | key | value |
/// |---|---|
/// | `archive_version`, `server_version`, `tool_version`, `concurrent_collections` | from the header |
/// | `prelude` | its bytes, and XXH3-128 of its documents as they are |
/// | `most_open` | how many namespaces were open at once |
/// | `uuids` | collection → UUID |
pub struct ArchiveTap {
    parser: Parser,
    proof: Proving,
}

pub(super) struct Proving {
    walker: Option<Walker>,
    /// An item for each namespace.
    namespaces: Vec<ProofItem>,
    sums: Vec<Fingerprint>,
    /// The order of the documents, for capped collections.
    orders: Vec<Option<Order>>,
    /// Options and indexes.
    items: Vec<ProofItem>,
    uuids: BTreeMap<String, String>,
    done: u64,
}

impl fmt::Debug for ArchiveTap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ArchiveTap")
            .field("position", &self.parser.position())
            .field("done", &self.proof.done)
            .finish_non_exhaustive()
    }
}

impl ArchiveTap {
    /// Creates a tap at the start of an archive.
    pub fn new(inside: Inside) -> Self {
        Self { parser: Parser::new(), proof: Proving::new(inside == Inside::Walked) }
    }

    /// Header and collections, once they have passed.
    pub fn prelude(&self) -> Option<&Arc<Prelude>> {
        self.parser.prelude()
    }
}

impl Tap for ArchiveTap {
    fn push(&mut self, chunk: &[u8]) -> Result<()> {
        self.parser.push(chunk, &mut self.proof)
    }

    fn finish(self: Box<Self>) -> Result<Proof> {
        let most_open = self.parser.most_open();
        let prelude = self.parser.finish()?;
        Ok(self.proof.into_proof(&prelude, most_open))
    }

    fn units_done(&self) -> u64 {
        self.proof.done
    }

    fn units(&self) -> &'static str {
        "collections"
    }
}

impl Handler for Proving {
    fn prelude(&mut self, prelude: &Arc<Prelude>) -> Result<()> {
        for entry in &prelude.collections {
            let name = entry.to_string();
            let view = entry.is_view();
            let kind = match () {
                () if entry.is_oplog() => "oplog",
                () if view => "view",
                () if entry.is_timeseries() => "time series",
                () => "collection",
            };
            self.namespaces.push(ProofItem::new(kind.to_owned(), name.clone(), 0));
            self.sums.push(Fingerprint::default());
            self.orders.push(None);
            if let Some(metadata) = entry.metadata()? {
                if metadata.is_capped()
                    && let Some(order) = self.orders.last_mut()
                {
                    *order = Some(Order::default());
                }
                if let Some(uuid) = &metadata.uuid {
                    self.uuids.insert(name.clone(), uuid.clone());
                }
                self.items.extend(
                    metadata_items(&name, &metadata).map_err(|what| {
                        Error::new(ErrorKind::Corrupt, "read", format!("the metadata of {name}"), what)
                    })?,
                );
            }
        }
        Ok(())
    }

    #[inline]
    fn document(&mut self, namespace: usize, document: &[u8]) -> Result<(), String> {
        let mut one = Fingerprint::default();
        one.add(document);
        self.sums[namespace].merge(one);
        if let Some(order) = &mut self.orders[namespace] {
            order.push(one);
        }
        match &mut self.walker {
            Some(walker) => walker.check(document).map_err(|e| format!("a malformed document: {e}")),
            None => Ok(()),
        }
    }

    fn run(&mut self, namespace: usize, run: super::Run<'_>, documents: u64) -> Result<()> {
        let bytes = match run {
            super::Run::InChunk(bytes) => bytes.len(),
            super::Run::Assembled(bytes) => bytes.len(),
        };
        let item = &mut self.namespaces[namespace];
        item.count += documents;
        item.bytes += bytes as u64;
        Ok(())
    }

    fn end(&mut self, _namespace: usize, _crc: u64) -> Result<()> {
        self.done += 1;
        Ok(())
    }
}

impl Proving {
    pub(super) fn new(walks: bool) -> Self {
        Self {
            walker: walks.then(Walker::new),
            namespaces: Vec::new(),
            sums: Vec::new(),
            orders: Vec::new(),
            items: Vec::new(),
            uuids: BTreeMap::new(),
            done: 0,
        }
    }

    /// The items of the namespaces, by their numbers.
    pub(super) fn namespaces(&self) -> &[ProofItem] {
        &self.namespaces
    }

    pub(super) fn into_proof(self, prelude: &Prelude, most_open: usize) -> Proof {
        let header = &prelude.header;
        let details = BTreeMap::from([
            ("archive_version".to_owned(), Value::from(header.version.as_str())),
            ("server_version".to_owned(), Value::from(header.server_version.as_str())),
            ("tool_version".to_owned(), Value::from(header.tool_version.as_str())),
            ("concurrent_collections".to_owned(), Value::from(header.concurrent_collections)),
            ("most_open".to_owned(), Value::from(most_open)),
            (
                "prelude".to_owned(),
                json!({ "bytes": prelude.bytes, "xxh3_128": Fingerprint(prelude.hash).to_string() }),
            ),
            ("uuids".to_owned(), json!(self.uuids)),
        ]);
        let mut items: Vec<ProofItem> = self
            .namespaces
            .into_iter()
            .zip(self.sums)
            .zip(self.orders)
            .map(|((item, sum), order)| {
                let sum = (item.kind != "view").then_some(sum);
                item.fingerprint(sum).value(order.map(Order::text))
            })
            .collect();
        items.extend(self.items);
        Proof::new(items).details(details)
    }
}

/// The items of a collection's options and indexes, named as described at [`ArchiveTap`].
///
/// # Errors
/// A value that cannot be written as Extended JSON.
pub(crate) fn metadata_items(collection: &str, metadata: &Metadata) -> Result<Vec<ProofItem>, String> {
    let mut items = Vec::new();
    if let Some(options) = metadata.options.as_ref().filter(|options| options.as_bytes().len() > super::MIN_DOCUMENT) {
        items.push(ProofItem::new("options", collection.to_owned(), 1).value(to_extended_json(options.as_bytes())?));
    }
    for index in &metadata.indexes {
        let (name, value) = index_item(index.as_bytes())?;
        items.push(ProofItem::new("index", name, 1).of(collection.to_owned()).value(value));
    }
    Ok(items)
}

/// An index's name, and its Extended JSON without what the server writes itself.
fn index_item(index: &[u8]) -> Result<(String, String), String> {
    let mut kept = Vec::with_capacity(index.len());
    kept.extend_from_slice(&[0; 4]);
    let mut name = String::new();
    for element in super::element::Elements::of(index).map_err(|e| e.to_string())? {
        let element = element.map_err(|e| e.to_string())?;
        if element.name == b"name" {
            element.text().unwrap_or_default().clone_into(&mut name);
        }
        if matches!(element.name, b"v" | b"ns") {
            continue;
        }
        kept.push(element.kind);
        kept.extend_from_slice(element.name);
        kept.push(0);
        kept.extend_from_slice(element.value);
    }
    kept.push(0);
    let length = kept.len() as u32;
    kept[..4].copy_from_slice(&length.to_le_bytes());
    Ok((name, to_extended_json(&kept)?))
}
