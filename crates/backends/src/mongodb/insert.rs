//! Inserts documents into collections: unordered inserts on several connections, with the bytes of each document
//! unchanged.
//!
//! The commands are put together as bytes, each document behind the other, and never decoded. A command with its documents
//! inside has room for 16 MiB and 16 KiB (`BSONObjMaxInternalSize` in the server's `bson/util/builder.h`). A document
//! sequence beside it would have room for 48 MB, but the driver sends one only for documents that it has
//! serialized itself, twice, with a list of all their `_id`s; and three copies of 48 MB on each connection are more memory
//! than all of Lifeboat may take.

use std::collections::BTreeMap;
use std::sync::Arc;

use bson::{Bson, Document, RawDocumentBuf, rawdoc};
use lifeboat_core::{Error, ErrorKind, Result};
use mongodb::Database;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;

use super::command::{Command, Extras, Finished};
use super::failure::{self, code};
use super::listing::{Look, Topology, number};

/// Bytes of documents that are on their way to the server at once, on all connections together. The driver copies each
/// command twice before it is on the wire, into buffers that double as they grow, so this is about a quarter of the memory that
/// they take.
const IN_FLIGHT: usize = 8 << 20;
/// Bytes of a batch that is complete. Larger ones take more memory, and more of the processor: what is copied is no longer in its
/// cache (docs/mongodb.md has the figures).
const BATCH: usize = 1 << 20;
/// Bytes of batches that are still being filled, of all collections.
const OPEN: usize = 8 << 20;
/// Bytes that the first batch of a collection has room for, until it grows: of a thousand collections most are small.
const SMALL: usize = 64 << 10;
/// The number of bytes per permit.
const UNIT: usize = 1024;
/// Keys of duplicates that are remembered, of each collection.
const TWICE: usize = 100_000;
/// The default number of connections that insert concurrently.
pub(crate) const CONNECTIONS: usize = 4;

/// A collection that documents go into.
#[derive(Clone, Debug)]
pub(crate) struct Destination {
    pub(crate) db: String,
    pub(crate) collection: String,
    /// The name in messages.
    pub(crate) shown: String,
    /// Whether to bypass its validator: what was in the source is restored, valid or not.
    pub(crate) bypass_validation: bool,
    /// Whether it is capped: its documents go in one batch after the other, since their order is part of them.
    pub(crate) capped: bool,
    /// Whether its documents are the buckets of a time series without a visible collection of them (8.3 and later).
    pub(crate) raw_buckets: bool,
}

/// The result of the inserts into one collection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) inserted: u64,
    /// The number of documents whose `_id`, or another unique key, already existed.
    pub(crate) duplicates: u64,
    /// Their keys, `{_id: …}`, as far as the server reports them (4.4 and later) and there are only a few.
    pub(crate) twice: Vec<Vec<u8>>,
    /// The number of documents that the server refused for another reason.
    pub(crate) refused: u64,
    /// The server's first message about them.
    pub(crate) first: Option<String>,
    /// Documents with a `Timestamp(0, 0)` at the top in which the server may have put the present time.
    pub(crate) unsure: u64,
}

/// Inserts into many collections at once.
pub(crate) struct Inserter {
    look: Look,
    destinations: Vec<Destination>,
    open: BTreeMap<usize, Command>,
    open_bytes: usize,
    budget: Arc<Semaphore>,
    slots: Arc<Semaphore>,
    /// Of each capped collection the turn to be written to.
    turns: BTreeMap<usize, Arc<Semaphore>>,
    batch: usize,
    /// Whether a batch of each collection has been large: then room for the next is made at once.
    large: Vec<bool>,
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
            large: vec![false; destinations.len()],
            turns: destinations
                .iter()
                .enumerate()
                .filter(|(_, place)| place.capped)
                .map(|(index, _)| (index, Arc::new(Semaphore::new(1))))
                .collect(),
            destinations,
            open: BTreeMap::new(),
            open_bytes: 0,
            budget: Arc::new(Semaphore::new(IN_FLIGHT / UNIT)),
            slots: Arc::new(Semaphore::new(connections)),
            batch: if connections == 1 { 6 * BATCH } else { BATCH },
            running: JoinSet::new(),
            write_concern: look.topology != Topology::Standalone && look.client.write_concern().is_none(),
            knows_empty_timestamps: knows_empty_timestamps(&look.version),
        }
    }

    /// Takes a document. Waits if enough documents are in transit.
    ///
    /// # Errors
    /// The error of an earlier insert that failed altogether. Single documents that the server refuses are only
    /// counted.
    pub(crate) async fn push(&mut self, destination: usize, document: &[u8]) -> Result<()> {
        let full = self.open.get(&destination).is_some_and(|c| {
            c.bytes.len() + document.len() > self.batch.max(document.len()) || c.count >= self.look.max_batch
        });
        if full {
            self.send(destination).await?;
        }
        let command = self.open.entry(destination).or_insert_with(|| {
            let usual = if self.large[destination] { self.batch } else { SMALL };
            let room = document.len().max(usual) + 1024;
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

    /// Sends the rest of a collection, after its last document.
    ///
    /// # Errors
    /// Those of [`push`](Self::push).
    pub(crate) async fn close(&mut self, destination: usize) -> Result<()> {
        self.send(destination).await
    }

    /// Sends the rest and waits for all inserts.
    ///
    /// # Errors
    /// Those of [`push`](Self::push).
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
        self.large[destination] |= command.bytes.len() > self.batch / 2;
        let units = (command.bytes.len() / UNIT + 1).min(IN_FLIGHT / UNIT);
        let closed = |_| Error::new(ErrorKind::Internal, "insert", "documents", "its semaphore is closed");
        // Taken before anything else: whoever waits here holds nothing that the one before needs.
        let turn = match self.turns.get(&destination) {
            Some(turn) => Some(turn.clone().acquire_owned().await.map_err(closed)?),
            None => None,
        };
        let budget = self.budget.clone().acquire_many_owned(units as u32).await.map_err(closed)?;
        let slot = self.slots.clone().acquire_owned().await.map_err(closed)?;
        let (look, place) = (self.look.clone(), self.destinations[destination].clone());
        let extras = Extras {
            keep_empty_timestamps: !command.empty_timestamps.is_empty() && self.knows_empty_timestamps,
            bypass_validation: place.bypass_validation,
        };
        self.running.spawn(async move {
            let tally = insert(&look, &place, command, extras, budget, slot).await?;
            drop(turn);
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
        sum.twice.extend(tally.twice);
        sum.twice.truncate(TWICE);
        sum.refused += tally.refused;
        sum.unsure += tally.unsure;
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
    let empty: Vec<(usize, Vec<u8>)> =
        command.empty_timestamps.iter().map(|(index, at)| (*index, command.bytes[at.clone()].to_vec())).collect();
    let finished = command.finish()?;
    let (reply, kept) = if !extras.keep_empty_timestamps && !extras.bypass_validation {
        let whole = finished.without()?;
        let reply = database.run_raw_command(whole).await;
        (reply.map_err(|e| failure::of_driver("insert into", &place.shown, &e))?, extras)
    } else {
        with_extras(&database, finished, extras, place).await?
    };
    if let Ok(concern) = reply.get_document("writeConcernError") {
        let said = concern.get_str("errmsg").unwrap_or("the write concern was not satisfied");
        return Err(Error::new(ErrorKind::Unavailable, "insert into", &place.shown, said)
            .hint("the majority of the replica set did not confirm: check its members"));
    }
    let mut tally = tally(&reply, count, place)?;
    if !empty.is_empty() && !kept.keep_empty_timestamps {
        tally.unsure = put_back(&database, place, empty, &reply, kept.bypass_validation).await?;
    }
    Ok(tally)
}

/// Puts documents back as they are into which the server may have put the present time, in the place of a `Timestamp(0, 0)` at
/// the top: an update with a pipeline writes what it is given (`mongorestore` has this way as well). Returns how many could not be.
async fn put_back(
    database: &Database,
    place: &Destination,
    documents: Vec<(usize, Vec<u8>)>,
    inserted: &Document,
    bypass_validation: bool,
) -> Result<u64> {
    let failed: Vec<i64> = inserted
        .get_array("writeErrors")
        .into_iter()
        .flatten()
        .filter_map(|error| number(error.as_document()?, "index"))
        .collect();
    let mut updates = bson::RawArrayBuf::new();
    let mut count = 0;
    for (index, document) in documents {
        let raw = RawDocumentBuf::from_bytes(document).ok();
        let id = raw.as_ref().and_then(|raw| Some(bson::RawBson::from(raw.get("_id").ok()??)));
        let (Some(raw), Some(id), false) = (raw, id, failed.contains(&(index as i64))) else { continue };
        updates.push(rawdoc! { "q": { "_id": id }, "u": [{ "$replaceRoot": { "newRoot": { "$literal": raw } } }] });
        count += 1;
    }
    if count == 0 {
        return Ok(0);
    }
    let mut command = rawdoc! { "update": &*place.collection, "updates": updates };
    if bypass_validation {
        command.append(bson::cstr!("bypassDocumentValidation"), true);
    }
    match database.run_raw_command(command).await {
        Ok(reply) if number(&reply, "n") == Some(count) && !reply.contains_key("writeErrors") => Ok(0),
        // It does not know such updates: whether the documents are as they were is for the comparison to say.
        Ok(_) => Ok(count.unsigned_abs()),
        Err(error) if failure::code_of(&error).is_some() => Ok(count.unsigned_abs()),
        Err(error) => Err(failure::of_driver("insert into", &place.shown, &error)),
    }
}

/// Sends a command, and again without a field that the server does not know. Returns also which fields it took.
async fn with_extras(
    database: &Database,
    command: Finished,
    mut extras: Extras,
    place: &Destination,
) -> Result<(Document, Extras)> {
    loop {
        match database.run_raw_command(command.with(extras)?).await {
            Ok(reply) => return Ok((reply, extras)),
            Err(error) => {
                let said = failure::whole(&error);
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
fn tally(reply: &Document, count: u64, place: &Destination) -> Result<Tally> {
    let mut made = Tally {
        inserted: number(reply, "n").and_then(|n| u64::try_from(n).ok()).unwrap_or_default(),
        ..Tally::default()
    };
    for error in reply.get_array("writeErrors").into_iter().flatten().filter_map(Bson::as_document) {
        if number(error, "code") == Some(i64::from(code::DUPLICATE_KEY)) {
            made.duplicates += 1;
            made.twice.extend(error.get_document("keyValue").ok().and_then(key_of));
        } else {
            let (code, said) = (number(error, "code").unwrap_or_default(), error.get_str("errmsg").unwrap_or_default());
            let code = i32::try_from(code).unwrap_or_default();
            if let Some(error) = failure::of_write("insert into", &place.shown, code, said) {
                return Err(error);
            }
            made.refused += 1;
        }
        if made.first.is_none() {
            let said = error.get_str("errmsg").ok().map(failure::without_values);
            made.first = said.map(|said| said.chars().take(300).collect());
        }
    }
    if place.capped && made.refused + made.duplicates > 0 {
        // In order: nothing after the first one that was refused was tried.
        made.refused = count.saturating_sub(made.inserted + made.duplicates);
    }
    if made.inserted + made.duplicates + made.refused != count {
        let said = format!(
            "of {} the server counts {} in and {} not",
            super::DOCUMENTS.count(count),
            made.inserted,
            made.duplicates + made.refused
        );
        return Err(Error::new(ErrorKind::Tool, "insert into", &place.shown, said));
    }
    Ok(made)
}

/// The key that a server says is there already, when it is that of `_id`.
fn key_of(value: &Document) -> Option<Vec<u8>> {
    let is_id = value.len() == 1 && value.contains_key("_id");
    is_id.then(|| RawDocumentBuf::try_from(value).ok().map(RawDocumentBuf::into_bytes)).flatten()
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

#[cfg(test)]
mod tests {
    use super::*;

    fn place(capped: bool) -> Destination {
        Destination {
            db: "shop".to_owned(),
            collection: "orders".to_owned(),
            shown: "shop.orders".to_owned(),
            bypass_validation: false,
            capped,
            raw_buckets: false,
        }
    }

    #[test]
    fn what_was_not_tried_in_order_is_not_in() {
        let reply =
            bson::doc! { "n": 2, "ok": 1.0, "writeErrors": [{ "index": 2, "code": 121, "errmsg": "no { a: 1 }" }] };
        let counted = tally(&reply, 10, &place(true)).unwrap();
        assert_eq!((counted.inserted, counted.refused, counted.first.as_deref()), (2, 8, Some("no {…}")));
    }

    #[test]
    fn duplicates_are_told_from_other_refusals_and_nothing_gets_lost() {
        let reply = bson::doc! { "n": 2, "ok": 1.0, "writeErrors": [
            { "index": 1, "code": 11000, "errmsg": "E11000 duplicate key" }, { "index": 3, "code": 121, "errmsg": "invalid" },
        ] };
        let counted = tally(&reply, 4, &place(false)).unwrap();
        assert_eq!((counted.inserted, counted.duplicates, counted.refused), (2, 1, 1));
        assert_eq!(counted.first.as_deref(), Some("E11000 duplicate key"));
        assert!(tally(&reply, 5, &place(false)).is_err());
    }

    #[test]
    fn servers_that_keep_empty_timestamps_are_known_by_their_versions() {
        for (version, knows) in
            [("4.4.30", false), ("5.0.29", true), ("6.0.16", false), ("7.0.13-rc1", true), ("8.2.0", true)]
        {
            assert_eq!(knows_empty_timestamps(version), knows, "{version}");
        }
    }
}
