//! What the server holds: databases, collections, cursors.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use bson::raw::RawDocumentBuf;
use bson::{Document, RawDocument};

use super::filter;
use crate::documents::Doc;

/// What MongoDB puts into a reply at most, in bytes.
const BATCH: usize = 16 << 20;

/// A collection.
#[derive(Clone, Debug)]
pub struct Collection {
    pub(super) db: String,
    pub(super) name: String,
    /// `collection`, `view` or `timeseries`.
    pub(super) kind: String,
    pub(super) options: Vec<u8>,
    pub(super) uuid: Option<[u8; 16]>,
    pub(super) indexes: Vec<Vec<u8>>,
    /// The documents, in their natural order.
    pub documents: Vec<Vec<u8>>,
    pub(super) ids: HashSet<Vec<u8>>,
    pub(super) canned: Option<Canned>,
    /// Documents and bytes that were swallowed.
    pub swallowed: (u64, u64),
}

impl Collection {
    /// An empty collection with its `_id_` index.
    pub fn new(db: &str, name: &str) -> Self {
        let mut uuid = [0x40; 16];
        uuid.iter_mut().zip(name.bytes()).for_each(|(a, b)| *a = b);
        let id = Doc::new().int32("v", 2).doc("key", Doc::new().int32("_id", 1)).text("name", "_id_");
        Self {
            db: db.to_owned(),
            name: name.to_owned(),
            kind: "collection".to_owned(),
            options: Doc::new().build(),
            uuid: Some(uuid),
            indexes: vec![id.build()],
            documents: Vec::new(),
            ids: HashSet::new(),
            canned: None,
            swallowed: (0, 0),
        }
    }

    /// A view of another collection.
    pub fn view(db: &str, name: &str, on: &str) -> Self {
        let options = Doc::new().text("viewOn", on).docs("pipeline", []);
        Self { kind: "view".to_owned(), uuid: None, indexes: Vec::new(), ..Self::new(db, name).options(options) }
    }

    /// A time series. Its buckets are a collection of their own, `system.buckets.NAME`.
    pub fn timeseries(db: &str, name: &str, time_field: &str) -> Self {
        let series =
            Doc::new().text("timeField", time_field).text("granularity", "seconds").int32("bucketMaxSpanSeconds", 3600);
        let options = Doc::new().doc("timeseries", series);
        Self { kind: "timeseries".to_owned(), uuid: None, indexes: Vec::new(), ..Self::new(db, name).options(options) }
    }

    /// Its options.
    #[must_use]
    pub fn options(self, options: Doc) -> Self {
        Self { options: options.build(), ..self }
    }

    /// One more index.
    #[must_use]
    pub fn index(mut self, index: Doc) -> Self {
        self.indexes.push(index.build());
        self
    }

    /// Its documents.
    #[must_use]
    pub fn documents(self, documents: impl IntoIterator<Item = Vec<u8>>) -> Self {
        let documents: Vec<Vec<u8>> = documents.into_iter().collect();
        let ids = documents.iter().filter_map(|document| id_of(document)).collect();
        Self { documents, ids, ..self }
    }

    /// Documents that are all the same, in batches that are made once: for benchmarks.
    #[must_use]
    pub fn canned(self, canned: Canned) -> Self {
        Self { canned: Some(canned), ..self }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The same collection, its UUID included, with another name.
    #[must_use]
    pub fn named(self, name: &str) -> Self {
        Self { name: name.to_owned(), ..self }
    }

    /// How many documents it has.
    pub fn count(&self) -> u64 {
        self.canned.as_ref().map_or(self.documents.len() as u64, |canned| canned.count) + self.swallowed.0
    }

    /// How many bytes its documents have.
    pub(super) fn bytes(&self) -> u64 {
        let own: u64 = self.documents.iter().map(|document| document.len() as u64).sum();
        own + self.canned.as_ref().map_or(0, |canned| canned.document.len() as u64 * canned.count) + self.swallowed.1
    }

    pub(super) fn ns(&self) -> String {
        format!("{}.{}", self.db, self.name)
    }

    /// Its entry in the answer to `listCollections`.
    pub(super) fn listing(&self) -> Doc {
        let mut info = Doc::new().bool("readOnly", self.kind == "view");
        if let Some(uuid) = &self.uuid {
            info = info.raw(0x05, "uuid", &[&16u32.to_le_bytes()[..], &[4], uuid].concat());
        }
        let listing = Doc::new().text("name", &self.name).text("type", &self.kind).raw(0x03, "options", &self.options);
        let listing = listing.doc("info", info);
        if self.indexes.is_empty() { listing } else { listing.raw(0x03, "idIndex", &self.indexes[0]) }
    }

    /// Adds a document; false when its `_id` is there.
    pub(super) fn insert(&mut self, document: &[u8]) -> bool {
        if let Some(id) = id_of(document)
            && !self.ids.insert(id)
        {
            return false;
        }
        self.documents.push(document.to_vec());
        true
    }

    /// How many documents a capped collection holds.
    pub(super) fn capacity(&self) -> Option<usize> {
        let options = Document::from_reader(&self.options[..]).ok()?;
        let max = options.get("max").and_then(|max| max.as_i32().map(i64::from).or(max.as_i64()))?;
        options.get_bool("capped").ok()?.then(|| usize::try_from(max).ok()).flatten()
    }

    /// Drops the oldest documents, as a capped collection does.
    pub(super) fn make_room(&mut self, capacity: usize) {
        while self.documents.len() > capacity {
            let oldest = self.documents.remove(0);
            id_of(&oldest).map(|id| self.ids.remove(&id));
        }
    }

    /// Adds a document, in the place of the one with its `_id`.
    pub(super) fn upsert(&mut self, document: &[u8]) {
        let id = id_of(document);
        match self.documents.iter_mut().find(|found| id_of(found) == id) {
            Some(found) => *found = document.to_vec(),
            None => drop(self.insert(document)),
        }
    }

    /// Takes the document with this one's `_id` away.
    pub(super) fn remove(&mut self, document: &[u8]) {
        if let Some(id) = id_of(document) {
            self.documents.retain(|found| id_of(found).as_ref() != Some(&id));
            self.ids.remove(&id);
        }
    }

    /// The documents that a query gets.
    pub(super) fn query(&self, query: &Query) -> Vec<Vec<u8>> {
        let mut found: Vec<Vec<u8>> = self
            .documents
            .iter()
            .filter(|document| {
                query.filter.is_empty()
                    || RawDocument::from_bytes(&document[..])
                        .ok()
                        .and_then(|raw| Document::try_from(raw).ok())
                        .is_some_and(|document| filter::matches(&query.filter, &document))
            })
            .cloned()
            .collect();
        if query.backwards {
            found.reverse();
        }
        if query.limit > 0 {
            found.truncate(query.limit);
        }
        found
    }
}

/// What a find asks for.
pub(super) struct Query {
    pub(super) filter: Document,
    /// In the reverse of the natural order.
    pub(super) backwards: bool,
    pub(super) limit: usize,
}

/// The type and the bytes of a document's `_id`.
pub(super) fn id_of(document: &[u8]) -> Option<Vec<u8>> {
    let raw = RawDocument::from_bytes(document).ok()?;
    let element = raw.iter_elements().filter_map(Result::ok).find(|element| element.key() == "_id")?;
    let mut id = RawDocumentBuf::new();
    id.append(element.key(), element.value().ok()?);
    Some(id.into_bytes())
}

/// Documents that are all the same.
#[derive(Clone, Debug)]
pub struct Canned {
    document: Vec<u8>,
    count: u64,
    /// The arrays that were made, by their number of documents.
    arrays: HashMap<u64, Arc<[u8]>>,
}

impl Canned {
    /// `count` times this document.
    pub fn new(document: Vec<u8>, count: u64) -> Self {
        Self { document, count, arrays: HashMap::new() }
    }

    /// Takes over the arrays that another one has made.
    pub(super) fn learn(&mut self, other: &Self) {
        if other.arrays.len() > self.arrays.len() {
            self.arrays.clone_from(&other.arrays);
        }
    }

    /// The array of so many documents, or of as many as fit into a reply.
    fn array(&mut self, wanted: u64) -> (Arc<[u8]>, u64) {
        // An element has its type, at most 6 digits and their NUL besides.
        let most = (BATCH / (self.document.len() + 8)).max(1) as u64;
        let count = wanted.min(most);
        let document = &self.document;
        let array = self.arrays.entry(count).or_insert_with(|| array((0..count).map(|_| &document[..])).into());
        (Arc::clone(array), count)
    }
}

/// The bytes of a BSON array of documents.
pub(super) fn array<'a>(documents: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut all = vec![0; 4];
    for (number, document) in documents.enumerate() {
        all.push(0x03);
        all.extend_from_slice(number.to_string().as_bytes());
        all.push(0);
        all.extend_from_slice(document);
    }
    all.push(0);
    let length = all.len() as u32;
    all[..4].copy_from_slice(&length.to_le_bytes());
    all
}

/// The data.
#[derive(Clone, Debug, Default)]
pub struct Store {
    collections: BTreeMap<(String, String), Collection>,
}

impl Store {
    /// Adds a collection, or puts it in place of the one that is there.
    pub fn put(&mut self, collection: Collection) {
        self.collections.insert((collection.db.clone(), collection.name.clone()), collection);
    }

    /// A collection.
    pub fn get(&self, db: &str, name: &str) -> Option<&Collection> {
        self.collections.get(&(db.to_owned(), name.to_owned()))
    }

    /// A collection, to change it.
    pub fn get_mut(&mut self, db: &str, name: &str) -> Option<&mut Collection> {
        self.collections.get_mut(&(db.to_owned(), name.to_owned()))
    }

    /// Drops a collection; false when there is none.
    pub fn drop_collection(&mut self, db: &str, name: &str) -> bool {
        self.collections.remove(&(db.to_owned(), name.to_owned())).is_some()
    }

    /// Drops a database.
    pub fn drop_database(&mut self, db: &str) {
        self.collections.retain(|(of, _), _| of != db);
    }

    /// Gives a collection another name.
    pub(super) fn rename(&mut self, from: (&str, &str), to: (&str, &str), replace: bool) -> Result<(), &'static str> {
        if self.get(to.0, to.1).is_some() && !replace {
            return Err("target namespace exists");
        }
        let found = self.collections.remove(&(from.0.to_owned(), from.1.to_owned()));
        let mut collection = found.ok_or("source namespace does not exist")?;
        collection.db = to.0.to_owned();
        collection.name = to.1.to_owned();
        self.put(collection);
        Ok(())
    }

    /// The names of the databases.
    pub fn databases(&self) -> Vec<String> {
        let mut names: Vec<String> = self.collections.keys().map(|(db, _)| db.clone()).collect();
        names.dedup();
        names
    }

    /// The collections of a database.
    pub fn of<'a>(&'a self, db: &'a str) -> impl Iterator<Item = &'a Collection> {
        self.collections.values().filter(move |collection| collection.db == db)
    }
}

/// What a cursor has still to give.
pub(super) enum Rest {
    Documents(Vec<Vec<u8>>),
    Canned(Canned),
}

impl Rest {
    /// The next batch, of at most `most` documents (0: as many as fit).
    pub(super) fn next(&mut self, most: u64) -> Arc<[u8]> {
        let most = if most == 0 { u64::MAX } else { most };
        match self {
            Self::Documents(documents) => {
                let (mut count, mut bytes) = (0, 0);
                while count < documents.len()
                    && (count as u64) < most
                    && (count == 0 || bytes + documents[count].len() <= BATCH)
                {
                    bytes += documents[count].len();
                    count += 1;
                }
                let rest = documents.split_off(count);
                let batch = std::mem::replace(documents, rest);
                array(batch.iter().map(Vec::as_slice)).into()
            }
            Self::Canned(canned) => {
                let (array, count) = canned.array(most.min(canned.count));
                canned.count -= count;
                array
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        match self {
            Self::Documents(documents) => documents.is_empty(),
            Self::Canned(canned) => canned.count == 0,
        }
    }
}

/// The cursors that are open.
#[derive(Default)]
pub(super) struct Cursors {
    next: i64,
    open: HashMap<i64, (String, Rest)>,
}

impl Cursors {
    /// Keeps what a cursor has still to give. Returns its id: 0 when that is nothing.
    pub(super) fn keep(&mut self, id: i64, ns: &str, rest: Rest) -> i64 {
        if rest.is_empty() {
            return 0;
        }
        let id = if id == 0 {
            self.next += 1;
            // Above 2^32, as servers' are: a cursor's id is an int64.
            (1 << 40) + self.next
        } else {
            id
        };
        self.open.insert(id, (ns.to_owned(), rest));
        id
    }

    pub(super) fn take(&mut self, id: i64) -> Option<(String, Rest)> {
        self.open.remove(&id)
    }
}
