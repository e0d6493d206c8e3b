//! Documents into collections: unordered inserts on several connections, the bytes of each document kept as they are.
//!
//! The commands are put together as bytes, each document behind the other, and never decoded. A command with its documents
//! inside has room for 16 MiB and 16 KiB (`BSONObjMaxInternalSize` in the server's `bson/util/builder.h`). A document
//! sequence beside it would have room for 48 MB, but the driver sends one only for documents that it has
//! serialized itself, twice, with a list of all their `_id`s; and three copies of 48 MB on each connection are more memory
//! than all of Lifeboat may take.

use std::collections::BTreeMap;
use std::sync::Arc;

use bson::{Bson, Document, RawDocumentBuf};
use lifeboat_core::{Error, ErrorKind, Result};
use mongodb::Database;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;

use super::failure::{self, code};
use super::listing::{Look, Topology, number};

/// Bytes of documents that are on their way to the server at once, on all connections together. The driver copies each
/// command twice before it is on the wire, into buffers that double as they grow, so this is about a quarter of the memory that
/// they take.
const IN_FLIGHT: usize = 8 << 20;
/// Bytes of a batch that is complete, with the four connections that are the default.
const BATCH: usize = 2 << 20;
/// Bytes of batches that are still being filled, of all collections.
const OPEN: usize = 8 << 20;
/// What a permit stands for, in bytes.
const UNIT: usize = 1024;
/// Connections that insert side by side, where nobody says.
pub(crate) const CONNECTIONS: usize = 4;

/// A collection that documents go into.
#[derive(Clone, Debug)]
pub(crate) struct Destination {
    pub(crate) db: String,
    pub(crate) collection: String,
    /// What it is called in messages.
    pub(crate) shown: String,
    /// Whether its validator is to let everything pass: what was in the source comes back, valid or not.
    pub(crate) bypass_validation: bool,
    /// Whether its documents are the buckets of a time series without a visible collection of them (8.3 and later).
    pub(crate) raw_buckets: bool,
}

/// What came of the inserts into one collection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) inserted: u64,
    /// Documents whose `_id`, or another unique key, was there already.
    pub(crate) duplicates: u64,
    /// Documents that the server refused for another reason.
    pub(crate) refused: u64,
    /// Its first words about them.
    pub(crate) first: Option<String>,
}

/// Fields of the insert command that not every server knows. Cleared when one is refused.
#[derive(Clone, Copy, Debug)]
struct Extras {
    /// `bypassEmptyTsReplacement`: a `Timestamp(0, 0)` stays one. 8.0, 7.0.13, 6.0.17, 5.0.29 and later.
    keep_empty_timestamps: bool,
    bypass_validation: bool,
}

/// Inserts into many collections at once.
pub(crate) struct Inserter {
    look: Look,
    destinations: Vec<Destination>,
    open: BTreeMap<usize, Command>,
    open_bytes: usize,
    budget: Arc<Semaphore>,
    slots: Arc<Semaphore>,
    batch: usize,
    running: JoinSet<Result<(usize, Tally)>>,
    tallies: Vec<Tally>,
    write_concern: bool,
    knows_empty_timestamps: bool,
}

impl Inserter {
    /// `connections` at once; 0 is [`CONNECTIONS`].
    pub(crate) fn new(look: &Look, destinations: Vec<Destination>, connections: usize) -> Self {
        let connections = if connections == 0 { CONNECTIONS } else { connections };
        Self {
            look: look.clone(),
            tallies: vec![Tally::default(); destinations.len()],
            destinations,
            open: BTreeMap::new(),
            open_bytes: 0,
            budget: Arc::new(Semaphore::new(IN_FLIGHT / UNIT)),
            slots: Arc::new(Semaphore::new(connections)),
            batch: if connections == 1 { 3 * BATCH } else { BATCH },
            running: JoinSet::new(),
            write_concern: look.topology != Topology::Standalone && look.client.write_concern().is_none(),
            knows_empty_timestamps: knows_empty_timestamps(&look.version),
        }
    }

    /// Takes a document. It waits when enough is on its way.
    ///
    /// # Errors
    /// What an earlier insert failed with as a whole. Single documents that the server refuses are counted.
    pub(crate) async fn push(&mut self, destination: usize, document: &[u8]) -> Result<()> {
        let full = self.open.get(&destination).is_some_and(|c| {
            c.bytes.len() + document.len() > self.batch.max(document.len()) || c.count >= self.look.max_batch
        });
        if full {
            self.send(destination).await?;
        }
        let command = self.open.entry(destination).or_insert_with(|| {
            let room = document.len().max(64 << 10) + 1024;
            Command::new(&self.destinations[destination], self.write_concern, room)
        });
        command.push(document);
        self.open_bytes += document.len();
        if self.open_bytes > OPEN {
            let largest = self.open.iter().max_by_key(|(_, c)| c.bytes.len()).map(|(index, _)| *index);
            if let Some(largest) = largest {
                self.send(largest).await?;
            }
        }
        Ok(())
    }

    /// Sends what is there for a collection, whose last document has come.
    ///
    /// # Errors
    /// As [`push`](Self::push).
    pub(crate) async fn close(&mut self, destination: usize) -> Result<()> {
        self.send(destination).await
    }

    /// Sends the rest and waits for all of it.
    ///
    /// # Errors
    /// As [`push`](Self::push).
    pub(crate) async fn finish(mut self) -> Result<Vec<Tally>> {
        for destination in self.open.keys().copied().collect::<Vec<_>>() {
            self.send(destination).await?;
        }
        while let Some(done) = self.running.join_next().await {
            self.settle(done)?;
        }
        Ok(std::mem::take(&mut self.tallies))
    }

    async fn send(&mut self, destination: usize) -> Result<()> {
        let Some(command) = self.open.remove(&destination) else { return Ok(()) };
        self.open_bytes = self.open_bytes.saturating_sub(command.documents);
        while let Some(done) = self.running.try_join_next() {
            self.settle(done)?;
        }
        let units = (command.bytes.len() / UNIT + 1).min(IN_FLIGHT / UNIT);
        let closed = |_| Error::new(ErrorKind::Internal, "insert", "documents", "its semaphore is closed");
        let budget = self.budget.clone().acquire_many_owned(units as u32).await.map_err(closed)?;
        let slot = self.slots.clone().acquire_owned().await.map_err(closed)?;
        let (look, place) = (self.look.clone(), self.destinations[destination].clone());
        let extras = Extras {
            keep_empty_timestamps: command.has_empty_timestamp && self.knows_empty_timestamps,
            bypass_validation: place.bypass_validation,
        };
        self.running.spawn(async move {
            let tally = insert(&look, &place, command, extras, budget, slot).await?;
            Ok((destination, tally))
        });
        Ok(())
    }

    fn settle(&mut self, done: std::result::Result<Result<(usize, Tally)>, tokio::task::JoinError>) -> Result<()> {
        let (destination, tally) = done.map_err(|e| {
            Error::new(ErrorKind::Internal, "insert", "documents", format!("a task ended without an answer: {e}"))
        })??;
        let sum = &mut self.tallies[destination];
        sum.inserted += tally.inserted;
        sum.duplicates += tally.duplicates;
        sum.refused += tally.refused;
        if sum.first.is_none() {
            sum.first = tally.first;
        }
        Ok(())
    }
}

/// Sends one command.
async fn insert(
    look: &Look,
    place: &Destination,
    command: Command,
    extras: Extras,
    _budget: OwnedSemaphorePermit,
    _slot: OwnedSemaphorePermit,
) -> Result<Tally> {
    let count = command.count as u64;
    let database = look.client.database(&place.db);
    let finished = command.finish()?;
    let reply = if !extras.keep_empty_timestamps && !extras.bypass_validation {
        let whole = finished.without()?;
        database.run_raw_command(whole).await.map_err(|e| failure::of_driver("insert into", &place.shown, &e))?
    } else {
        with_extras(&database, finished, extras, place).await?
    };
    if let Ok(concern) = reply.get_document("writeConcernError") {
        let said = concern.get_str("errmsg").unwrap_or("the write concern was not satisfied");
        return Err(Error::new(ErrorKind::Unavailable, "insert into", &place.shown, said)
            .hint("the majority of the replica set did not confirm: look at its members"));
    }
    tally(&reply, count, &place.shown)
}

/// Sends a command, and again without a field that the server does not know.
async fn with_extras(
    database: &Database,
    command: Finished,
    mut extras: Extras,
    place: &Destination,
) -> Result<Document> {
    loop {
        match database.run_raw_command(command.with(extras)?).await {
            Ok(reply) => return Ok(reply),
            Err(error) => {
                let said = failure::message(&error);
                let refused = |field: &str| said.contains(field);
                if extras.keep_empty_timestamps && refused("bypassEmptyTsReplacement") {
                    extras.keep_empty_timestamps = false;
                } else if extras.bypass_validation
                    && (refused("bypassDocumentValidation") || failure::code_of(&error) == Some(code::UNAUTHORIZED))
                {
                    extras.bypass_validation = false;
                } else {
                    return Err(failure::of_driver("insert into", &place.shown, &error));
                }
            }
        }
    }
}

/// Reads the answer to an insert of `count` documents.
fn tally(reply: &Document, count: u64, shown: &str) -> Result<Tally> {
    let mut made = Tally {
        inserted: number(reply, "n").and_then(|n| u64::try_from(n).ok()).unwrap_or_default(),
        ..Tally::default()
    };
    for error in reply.get_array("writeErrors").into_iter().flatten().filter_map(Bson::as_document) {
        if number(error, "code") == Some(i64::from(code::DUPLICATE_KEY)) {
            made.duplicates += 1;
        } else {
            made.refused += 1;
        }
        if made.first.is_none() {
            made.first = error.get_str("errmsg").ok().map(|said| said.chars().take(300).collect());
        }
    }
    if made.inserted + made.duplicates + made.refused != count {
        let said = format!(
            "of {count} documents the server counts {} in and {} not",
            made.inserted,
            made.duplicates + made.refused
        );
        return Err(Error::new(ErrorKind::Tool, "insert into", shown, said));
    }
    Ok(made)
}

/// An insert command in the making. What may have to be left out of it comes last.
struct Command {
    bytes: Vec<u8>,
    /// Where its `documents` array begins.
    array: usize,
    count: usize,
    /// Bytes of documents in it.
    documents: usize,
    has_empty_timestamp: bool,
}

impl Command {
    fn new(place: &Destination, write_concern: bool, room: usize) -> Self {
        let mut bytes = Vec::with_capacity(room);
        bytes.extend_from_slice(&[0; 4]);
        text(&mut bytes, "insert", &place.collection);
        flag(&mut bytes, "ordered", false);
        if place.raw_buckets {
            flag(&mut bytes, "rawData", true);
        }
        if write_concern {
            let mut inner = Vec::new();
            text(&mut inner, "w", "majority");
            document(&mut bytes, 0x03, "writeConcern", &inner);
        }
        name(&mut bytes, 0x04, "documents");
        let array = bytes.len();
        bytes.extend_from_slice(&[0; 4]);
        Self { bytes, array, count: 0, documents: 0, has_empty_timestamp: false }
    }

    fn push(&mut self, document: &[u8]) {
        self.bytes.push(0x03);
        let mut digits = [0u8; 20];
        let mut at = digits.len();
        let mut rest = self.count;
        loop {
            at -= 1;
            digits[at] = b'0' + (rest % 10) as u8;
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        self.bytes.extend_from_slice(&digits[at..]);
        self.bytes.push(0);
        self.bytes.extend_from_slice(document);
        self.count += 1;
        self.documents += document.len();
        self.has_empty_timestamp = self.has_empty_timestamp || has_empty_timestamp(document);
    }

    /// The whole command, but for what not every server knows.
    fn finish(mut self) -> Result<Finished> {
        self.bytes.push(0);
        let array = self.bytes.len() - self.array;
        let length = i32::try_from(array)
            .map_err(|_| Error::new(ErrorKind::Internal, "insert", "a batch", "it has more than 2 GiB"))?;
        self.bytes[self.array..self.array + 4].copy_from_slice(&length.to_le_bytes());
        Ok(Finished { command: self.bytes })
    }
}

/// A complete batch, to be sent once or more.
struct Finished {
    /// A command that has no end yet.
    command: Vec<u8>,
}

impl Finished {
    /// The command, as long as it may have to be sent again.
    fn with(&self, extras: Extras) -> Result<RawDocumentBuf> {
        let mut whole = Vec::with_capacity(self.command.len() + 64);
        whole.extend_from_slice(&self.command);
        if extras.bypass_validation {
            flag(&mut whole, "bypassDocumentValidation", true);
        }
        if extras.keep_empty_timestamps {
            flag(&mut whole, "bypassEmptyTsReplacement", true);
        }
        ended(whole)
    }

    /// The command as it is, not copied.
    fn without(self) -> Result<RawDocumentBuf> {
        ended(self.command)
    }
}

/// A document of which the elements are there, and room for the length before them.
fn ended(mut whole: Vec<u8>) -> Result<RawDocumentBuf> {
    whole.push(0);
    let length = i32::try_from(whole.len()).unwrap_or(i32::MAX);
    whole[..4].copy_from_slice(&length.to_le_bytes());
    RawDocumentBuf::from_bytes(whole)
        .map_err(|e| Error::new(ErrorKind::Internal, "insert", "a batch", format!("it was put together wrongly: {e}")))
}

fn name(out: &mut Vec<u8>, kind: u8, name: &str) {
    out.push(kind);
    out.extend_from_slice(name.as_bytes());
    out.push(0);
}

fn text(out: &mut Vec<u8>, key: &str, value: &str) {
    name(out, 0x02, key);
    out.extend_from_slice(&(value.len() as i32 + 1).to_le_bytes());
    out.extend_from_slice(value.as_bytes());
    out.push(0);
}

fn flag(out: &mut Vec<u8>, key: &str, value: bool) {
    name(out, 0x08, key);
    out.push(u8::from(value));
}

fn document(out: &mut Vec<u8>, kind: u8, key: &str, elements: &[u8]) {
    name(out, kind, key);
    out.extend_from_slice(&(elements.len() as i32 + 5).to_le_bytes());
    out.extend_from_slice(elements);
    out.push(0);
}

/// Whether a server keeps a `Timestamp(0, 0)` when it is asked to.
fn knows_empty_timestamps(version: &str) -> bool {
    let mut parts = version.split(['.', '-', '+']).map(|p| p.parse::<u32>().unwrap_or_default());
    let (major, minor, patch) =
        (parts.next().unwrap_or_default(), parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    match (major, minor) {
        (5, 0) => patch >= 29,
        (6, 0) => patch >= 17,
        (7, 0) => patch >= 13,
        _ => major >= 8,
    }
}

/// Whether a top-level field is `Timestamp(0, 0)`: the server puts the present time there on insert.
fn has_empty_timestamp(document: &[u8]) -> bool {
    // Eight zero bytes after a type byte and a name: without such a run there is none, and few documents have one.
    memchr::memmem::find(document, &[0; 9]).is_some()
        && bson::RawDocument::from_bytes(document).is_ok_and(|raw| {
            raw.iter().filter_map(std::result::Result::ok).any(|(_, value)| {
                matches!(value, bson::RawBsonRef::Timestamp(bson::Timestamp { time: 0, increment: 0 }))
            })
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> Destination {
        Destination {
            db: "shop".to_owned(),
            collection: "orders".to_owned(),
            shown: "shop.orders".to_owned(),
            bypass_validation: true,
            raw_buckets: false,
        }
    }

    #[test]
    fn a_command_holds_the_documents_byte_by_byte() {
        let documents: Vec<RawDocumentBuf> = (0..12)
            .map(|n| bson::rawdoc! { "b": n, "a": "x", "b": 1.5, "t": bson::Timestamp { time: 0, increment: 0 } })
            .collect();
        let mut command = Command::new(&place(), true, 64);
        for document in &documents {
            command.push(document.as_bytes());
        }
        assert!(command.has_empty_timestamp);
        let extras = Extras { keep_empty_timestamps: true, bypass_validation: true };
        let whole = command.finish().unwrap().with(extras).unwrap();
        assert_eq!(whole.get_str("insert").unwrap(), "orders");
        assert!(!whole.get_bool("ordered").unwrap() && whole.get_bool("bypassEmptyTsReplacement").unwrap());
        assert_eq!(whole.get_document("writeConcern").unwrap().get_str("w").unwrap(), "majority");
        let array = whole.get_array("documents").unwrap();
        for (index, element) in array.into_iter().enumerate() {
            assert_eq!(element.unwrap().as_document().unwrap().as_bytes(), documents[index].as_bytes());
        }
        assert_eq!(array.into_iter().count(), 12);
        let keys: Vec<String> =
            whole.get_document("writeConcern").unwrap().into_iter().map(|e| e.unwrap().0.to_string()).collect();
        assert_eq!(keys, ["w"]);
    }

    #[test]
    fn duplicates_are_told_from_other_refusals_and_nothing_gets_lost() {
        let reply = bson::doc! { "n": 2, "ok": 1.0, "writeErrors": [
            { "index": 1, "code": 11000, "errmsg": "E11000 duplicate key" }, { "index": 3, "code": 121, "errmsg": "invalid" },
        ] };
        let made = tally(&reply, 4, "shop.orders").unwrap();
        assert_eq!((made.inserted, made.duplicates, made.refused), (2, 1, 1));
        assert_eq!(made.first.as_deref(), Some("E11000 duplicate key"));
        assert!(tally(&reply, 5, "shop.orders").is_err());
    }

    #[test]
    fn only_an_empty_timestamp_at_the_top_is_one_that_the_server_would_replace() {
        let empty = bson::Timestamp { time: 0, increment: 0 };
        assert!(has_empty_timestamp(bson::rawdoc! { "a": 1, "t": empty }.as_bytes()));
        assert!(!has_empty_timestamp(bson::rawdoc! { "a": { "t": empty } }.as_bytes()));
        assert!(!has_empty_timestamp(bson::rawdoc! { "a": 0i64, "b": 0.0 }.as_bytes()));
        for (version, knows) in
            [("4.4.30", false), ("5.0.29", true), ("6.0.16", false), ("7.0.13-rc1", true), ("8.2.0", true)]
        {
            assert_eq!(knows_empty_timestamps(version), knows, "{version}");
        }
    }
}
