//! The source: collections read side by side from the server, as an archive of mongodump's format.
//!
//! ```text
//! cursor ─► batch (about 1 MiB) ─► packer ─┐
//! cursor ─► batch               ─► packer  ├─► blocks (about 1 MiB) ─► writer ─► chunks
//! cursor ─► …                              ┘    4 MiB of them wait
//! ```
//!
//! A cursor is a task of the runtime, and packs in it what it has received: 1 MiB is copied out of a reply and has its CRC-64
//! taken in 0.2 to 0.3 ms, while it is in the cache of the processor that received it. On a thread of its own, woken for each
//! batch, it took a third more of wall time.
//!
//! A batch takes permits, by its size, before it is asked for, and gives them back when its documents have been passed on in
//! blocks: no number of cursors makes the memory grow.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bson::{Bson, Document, Timestamp, doc};
use bytes::Bytes;
use futures::StreamExt;
use lifeboat_core::progress::Event;
use lifeboat_core::stream::CHUNK;
use lifeboat_core::{
    ByteStream, Context, Description, Error, ErrorKind, Estimate, Proof, Reading, Result, Source, Tap,
};
use mongodb::raw_batch_cursor::{RawBatch, RawBatchCursor};
use secrecy::SecretString;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;

use super::archive::{ArchiveTap, Block, CollectionMetadata, Header, Inside, Packer, Place, Writer};
use super::batch::BatchSize;
use super::connection::{Connection, selection};
use super::estimate;
use super::failure;
use super::listing::{Listed, Look};
use super::oplog;
use super::selection::{ACCOUNTS, Consistency, Selection};
use super::system::MongoSettings;
use super::{CONSISTENCY, OPLOG, SYSTEM, batch, content};

/// Cursors that read side by side, where nobody says.
const CURSORS: usize = 4;
/// MiB of blocks that wait for the writer. One of a document that is larger waits alone.
const BLOCKS: usize = 4;
/// Names of collections that a note lists.
const NAMED: usize = 10;

/// What is written into the archive's header and the manifest as the tool.
fn tool() -> String {
    format!("lifeboat {}", env!("CARGO_PKG_VERSION"))
}

/// A database of a MongoDB deployment, or all of them, read through the driver into mongodump's archive format.
///
/// ```no_run
/// # async fn example() -> lifeboat_core::Result<()> {
/// use lifeboat_backends::mongodb::Mongo;
/// let source = Mongo::connect("mongodb://backup@db.example/shop").await?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Mongo {
    connection: Connection,
    options: MongoSettings,
    selection: Selection,
}

impl Mongo {
    /// The database that the connection names, or all of them when it names none.
    pub fn new(connection: Connection) -> Self {
        let selection = Selection::everything(connection.database());
        Self { connection, options: MongoSettings::default(), selection }
    }

    /// Reads a connection string and looks whether the deployment answers.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for the string; what the first commands fail with.
    pub async fn connect(url: &str) -> Result<Self> {
        let source = Self::new(Connection::parse(&SecretString::from(url.to_owned()))?);
        source.describe().await?;
        Ok(source)
    }

    /// Chooses what goes into the archive. Which deployment and database it is, the connection says: those of the settings are
    /// not read.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for a query that is no filter, and for choices that do not go together.
    pub fn options(mut self, options: MongoSettings) -> Result<Self> {
        self.selection = Selection::new(&options, self.connection.database())?;
        self.options = options;
        Ok(self)
    }

    /// How consistent the collections will be with each other, in words, and whether there is a snapshot.
    fn consistency(&self, look: &Look) -> Result<(String, bool)> {
        if self.options.oplog {
            oplog::possible(look)?;
            return Ok((format!("{OPLOG}a restore that replays it is consistent as of one time"), false));
        }
        match (self.options.consistency.unwrap_or_default(), look.without_snapshot()) {
            (Consistency::None, _) => Ok(("none: each collection as it was when it was read".to_owned(), false)),
            (_, None) => Ok(("snapshot: all collections as of one time".to_owned(), true)),
            (Consistency::Auto, Some(why)) => Ok((format!("none: {why}"), false)),
            (Consistency::Snapshot, Some(why)) => {
                Err(Error::new(ErrorKind::Unsupported, "read a snapshot of", self.connection.redacted(), why)
                    .hint("set consistency to \"auto\" to read each collection as it is in its turn"))
            }
        }
    }
}

#[async_trait]
impl Source for Mongo {
    async fn describe(&self) -> Result<Description> {
        let look = Look::at(&self.connection).await?;
        let (consistency, _) = self.consistency(&look)?;
        Header::new(1, look.version.clone(), tool())?;
        let mut facts = BTreeMap::from([
            ("topology".to_owned(), look.topology.kind().to_owned()),
            (CONSISTENCY.to_owned(), consistency),
        ]);
        let o = &self.options;
        if !(o.collections.is_empty()
            && o.exclude_collections.is_empty()
            && o.exclude_databases.is_empty()
            && o.queries.is_empty())
        {
            facts.insert("selection".to_owned(), "a part of what is there".to_owned());
        }
        Ok(Description::new(SYSTEM, "archive")
            .dataset(self.connection.database().unwrap_or("all-databases"))
            .server_version(look.version)
            .tool(tool())
            .facts(facts))
    }

    fn is_confidential(&self) -> bool {
        self.selection.holds_accounts()
    }

    async fn estimate(&self) -> Result<Option<Estimate>> {
        let look = Look::at(&self.connection).await?;
        estimate::of(&look, &self.selection, self.connection.database()).await
    }

    async fn open(&self, cx: &Context) -> Result<Reading> {
        let look = Look::at(&self.connection).await?;
        let (consistency, has_snapshot) = self.consistency(&look)?;
        let note = |text: String| cx.progress.event(Event::Note(text));
        let oplog_start = if self.options.oplog { Some(oplog::start(&look).await?) } else { None };
        let database = self.connection.database();
        let (listed, gone) = look.everything(&self.selection, database, cx).await?;
        if !gone.is_empty() {
            note(format!("dropped while they were listed, and not in the backup: {}", names(gone.into_iter())));
        }
        let full: Vec<String> = listed.iter().map(|listed| format!("{}.{}", listed.db, listed.name)).collect();
        if let Some(pattern) = self.selection.idle_pattern(&full) {
            let why = "there is no such collection";
            return Err(Error::new(ErrorKind::Config, "use", format!("the collection \"{pattern}\""), why)
                .hint("a name that matches nothing is probably misspelt, or its collection was dropped; remove it"));
        }
        let idle = self.selection.idle_queries(|db, name| listed.iter().any(|l| l.db == db && l.name == name));
        if let Some(name) = idle.into_iter().next() {
            return Err(Error::new(
                ErrorKind::Config,
                "use",
                format!("the query of {name}"),
                "there is no such collection",
            )
            .hint("a query that matches nothing is probably misspelt; remove it"));
        }
        let mut consistency = consistency;
        let snapshot = if has_snapshot {
            match take_snapshot(&look, &listed).await {
                Ok(at) => at,
                Err(error) if self.options.consistency == Some(Consistency::Snapshot) => return Err(error),
                Err(error) => {
                    consistency = format!("none: the server refused a snapshot ({})", error.message());
                    None
                }
            }
        } else {
            None
        };
        if consistency.starts_with("none") {
            let why = consistency.trim_start_matches("none: ");
            note(format!("the collections are not from the same time: {why}"));
        }
        let mut order = in_order(&look, listed).await;
        if let Some(db) = self.selection.accounts_of() {
            order.splice(0..0, ACCOUNTS.map(|name| Listed::account(db, name)));
        }
        let cursors = self.options.cursors.filter(|n| *n > 0).unwrap_or(CURSORS);
        let header = Header::new(cursors, look.version.clone(), tool())?;
        let mut entries = Vec::with_capacity(order.len() + 1);
        for listed in &order {
            entries.push(match listed.is_account() {
                // As mongodump has them: nothing but their names.
                true => CollectionMetadata {
                    db: listed.db.clone(),
                    collection: listed.name.clone(),
                    ..CollectionMetadata::default()
                },
                false => CollectionMetadata::new(listed.db.clone(), &listed.metadata())?,
            });
        }
        if oplog_start.is_some() {
            entries.push(CollectionMetadata::oplog());
        }
        let datas: Vec<String> = entries.iter().map(|e| e.data_collection(&header).into_owned()).collect();
        let writer = Writer::new(header, entries.clone())?;
        let (send, receive) = mpsc::channel(BLOCKS);
        let yielded = Yielded::new(Mutex::new(vec![0; entries.len()]));
        let reader = Reader {
            look,
            selection: self.selection.clone(),
            order,
            entries,
            datas,
            snapshot,
            oplog_start,
            cursors,
            send: send.clone(),
            batches: Arc::new(Semaphore::new(batch::PERMITS)),
            blocks: Arc::new(Semaphore::new(BLOCKS)),
            yielded: yielded.clone(),
            cx: cx.clone(),
        };
        let task = tokio::spawn(async move {
            let last = match Arc::new(reader).run().await {
                Ok(()) => Message::Done,
                Err(error) => Message::Failed(error),
            };
            // Nobody takes it when the stream was dropped.
            let _ = send.send(last).await;
        });
        let state =
            Writing { writer: Some(writer), receive, ready: VecDeque::new(), held: None, _task: AbortOnDrop(task) };
        let stream: ByteStream =
            futures::stream::unfold(Some(state), |state| async move { state?.next().await }).boxed();
        let tap = CountingTap { inner: Box::new(ArchiveTap::new(Inside::Carried)), yielded, consistency };
        Ok(Reading::new(stream, Box::new(tap)))
    }
}

/// Documents that the cursors yielded, by namespace.
type Yielded = Arc<Mutex<Vec<u64>>>;

/// What the readers send to the writer.
enum Message {
    /// With its permits, which go back when its chunks have been passed on.
    Block(usize, Block, OwnedSemaphorePermit),
    End(usize),
    /// Everything has been read: only with this does the archive end well.
    Done,
    Failed(Error),
}

struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The stream's state: blocks become chunks of the archive.
struct Writing {
    writer: Option<Writer>,
    receive: mpsc::Receiver<Message>,
    ready: VecDeque<Bytes>,
    /// The permits of the block that `ready` is of.
    held: Option<OwnedSemaphorePermit>,
    _task: AbortOnDrop,
}

impl Writing {
    async fn next(mut self) -> Option<(Result<Bytes>, Option<Self>)> {
        loop {
            if let Some(chunk) = self.ready.pop_front() {
                return Some((Ok(chunk), Some(self)));
            }
            self.held = None;
            let writer = self.writer.as_mut()?;
            let mut out = Vec::new();
            let written = match self.receive.recv().await {
                Some(Message::Block(namespace, block, permits)) => {
                    self.held = Some(permits);
                    writer.block(namespace, &block, &mut out)
                }
                Some(Message::End(namespace)) => writer.end(namespace, &mut out),
                Some(Message::Done) => match self.writer.take()?.finish() {
                    Ok(last) if last.is_empty() => Ok(()),
                    Ok(last) => {
                        out.push(last);
                        Ok(())
                    }
                    Err(error) => Err(error),
                },
                Some(Message::Failed(error)) => Err(error),
                None => {
                    Err(Error::new(ErrorKind::Internal, "read", "the collections", "the reader ended without a result"))
                }
            };
            self.ready.extend(out);
            if let Err(error) = written {
                return Some((Err(error), None));
            }
        }
    }
}

/// Reads everything, in the order that mongorestore needs.
struct Reader {
    look: Look,
    selection: Selection,
    order: Vec<Listed>,
    entries: Vec<CollectionMetadata>,
    datas: Vec<String>,
    snapshot: Option<Timestamp>,
    oplog_start: Option<Timestamp>,
    cursors: usize,
    send: mpsc::Sender<Message>,
    batches: Arc<Semaphore>,
    blocks: Arc<Semaphore>,
    yielded: Yielded,
    cx: Context,
}

impl Reader {
    async fn run(self: Arc<Self>) -> Result<()> {
        let of = |place: Place| -> Vec<usize> {
            (0..self.order.len()).filter(|i| self.entries[*i].place() == place).collect()
        };
        for index in of(Place::First) {
            self.collection(index).await?;
        }
        // A task each, so that several cores receive and pack.
        let mut waiting = of(Place::Middle).into_iter();
        let mut running = JoinSet::new();
        loop {
            while running.len() < self.cursors
                && let Some(index) = waiting.next()
            {
                let reader = Arc::clone(&self);
                running.spawn(async move { reader.collection(index).await });
            }
            let Some(ended) = running.join_next().await else { break };
            ended.map_err(|e| Error::new(ErrorKind::Internal, "read", "a collection", e.to_string()))??;
        }
        if let Some(start) = self.oplog_start {
            self.oplog(start).await?;
        }
        self.look_again().await
    }

    /// Reads one collection to its end.
    async fn collection(&self, index: usize) -> Result<()> {
        let listed = &self.order[index];
        if listed.kind == "view" {
            return self.end(index).await;
        }
        let shown = listed.full_name();
        // The users of one database are kept with all others.
        let (db, data) = match listed.name.strip_prefix("$admin.").filter(|_| listed.is_account()) {
            Some(name) => ("admin", name),
            None => (&*listed.db, &*self.datas[index]),
        };
        let mut command = doc! { "find": data };
        match self.selection.query(&listed.db, &listed.name) {
            Some(filter) => {
                let filter = Document::try_from(filter.as_ref()).map_err(|e| {
                    Error::new(ErrorKind::Config, "use", format!("the query of {shown}"), e.to_string())
                })?;
                command.insert("filter", filter);
            }
            None if listed.is_account() && data != "system.version" => {
                command.insert("filter", doc! { "db": &listed.db });
            }
            None => {
                command.insert("hint", doc! { "$natural": 1 });
            }
        }
        if listed.kind == "timeseries" && self.datas[index] == listed.name {
            command.insert("rawData", true);
        }
        let wanted = BatchSize::of(&self.look, db, data).await;
        let permits = self.permits(wanted.bytes).await?;
        let mut plain = command.clone();
        if let Some(at) = self.snapshot {
            command.insert("readConcern", doc! { "level": "snapshot", "atClusterTime": at });
        }
        let mut opened = self.open(db, command, wanted).await;
        // Servers of 5.0 refuse snapshots of capped collections (SERVER-47574), and one may of those of `admin`.
        if let (Err(_), Some(_), true) = (&opened, self.snapshot, listed.is_capped() || db == "admin") {
            self.note(format!("the server has no snapshot of {shown}: it was read as it is"));
            opened = self.open(db, std::mem::take(&mut plain), wanted).await;
        }
        let cursor = opened.map_err(|e| failure::of_driver("read", &shown, &e))?;
        self.drain(index, cursor, wanted, permits, &shown, None).await
    }

    /// Packs what a cursor yields, and ends the namespace.
    async fn drain(
        &self,
        index: usize,
        mut cursor: RawBatchCursor,
        wanted: BatchSize,
        permits: OwnedSemaphorePermit,
        shown: &str,
        inspect: Option<fn(&RawBatch) -> Result<()>>,
    ) -> Result<()> {
        let mut packer = Packer::new(shown);
        let mut next = cursor.next().await.map(|batch| (batch, permits));
        while let Some((batch, held)) = next {
            let batch = batch.map_err(|e| failure::of_driver("read", shown, &e))?;
            let received = batch.as_raw_document().as_bytes().len();
            // The next batch is asked for, and on its way while this one is packed.
            let fetch = async {
                let expected = wanted.documents.map_or(received, |_| received.max(wanted.bytes));
                let permits = self.permits(expected).await?;
                Ok(cursor.next().await.map(|batch| (batch, permits)))
            };
            let pack = async {
                let _held = held;
                if let Some(inspect) = inspect {
                    inspect(&batch)?;
                }
                let array = array_of(batch).map_err(|e| failure::of_driver("read", shown, &e))?;
                for block in packer.batch(&array) {
                    self.block(index, block?).await?;
                    // No poll packs more than a block, and what comes is received meanwhile.
                    tokio::task::yield_now().await;
                }
                Ok(())
            };
            (next, ()) = futures::future::try_join(fetch, pack).await?;
        }
        if let Some(last) = packer.finish() {
            self.block(index, last).await?;
        }
        self.end(index).await
    }

    async fn oplog(&self, start: Timestamp) -> Result<()> {
        let index = self.entries.len() - 1;
        let end = oplog::newest(&self.look).await?;
        oplog::check_reach(&self.look, start).await?;
        let command = doc! { "find": oplog::COLLECTION, "filter": { "ts": { "$gte": start, "$lte": end } } };
        let wanted = BatchSize::of(&self.look, "local", oplog::COLLECTION).await;
        let permits = self.permits(wanted.bytes).await?;
        let opened = self.open("local", command, wanted).await;
        let cursor = opened.map_err(|e| failure::of_driver("read", "the oplog", &e))?;
        self.drain(index, cursor, wanted, permits, "the oplog", Some(oplog::inspect)).await?;
        // What was overwritten while it was read would be missing in the middle.
        oplog::check_reach(&self.look, start).await
    }

    async fn open(&self, db: &str, command: Document, wanted: BatchSize) -> mongodb::error::Result<RawBatchCursor> {
        let database = self.look.client.database(db);
        let mut run = wanted.run(&database, command);
        // With the oplog everything is read from the primary: what a member behind it had not applied yet could be missing in
        // both.
        if let Some(criteria) = selection(&self.look.client).filter(|_| self.oplog_start.is_none()) {
            run = run.selection_criteria(criteria);
        }
        run.batch().await
    }

    async fn block(&self, index: usize, block: Block) -> Result<()> {
        let permits = acquire(&self.blocks, block.len().div_ceil(CHUNK).clamp(1, BLOCKS) as u32).await?;
        self.yielded.lock().unwrap_or_else(PoisonError::into_inner)[index] += block.documents();
        self.send
            .send(Message::Block(index, block, permits))
            .await
            .map_err(|_| stopped(&self.entries[index].to_string()))
    }

    async fn end(&self, index: usize) -> Result<()> {
        self.send.send(Message::End(index)).await.map_err(|_| stopped(&self.entries[index].to_string()))
    }

    /// For a batch of so many bytes.
    async fn permits(&self, bytes: usize) -> Result<OwnedSemaphorePermit> {
        acquire(&self.batches, BatchSize::permits(bytes)).await
    }

    fn note(&self, text: String) {
        self.cx.progress.event(Event::Note(text));
    }

    /// What has been created, dropped or replaced since the list was made.
    ///
    /// # Errors
    /// [`ErrorKind::Refused`] for a collection that is another one now: its options and indexes in the archive would be those
    /// of the one before.
    async fn look_again(&self) -> Result<()> {
        let databases: BTreeSet<&str> = match self.look.connection.database() {
            Some(db) => BTreeSet::from([db]),
            None => self.order.iter().map(|l| l.db.as_str()).collect(),
        };
        let mut now: BTreeMap<String, Option<String>> = BTreeMap::new();
        for db in databases {
            for listed in self.look.collections(db, |name| self.selection.takes(db, name)).await? {
                now.insert(listed.full_name(), listed.uuid);
            }
        }
        let yielded = self.yielded.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let (mut vanished, mut dropped) = (Vec::new(), Vec::new());
        for (index, listed) in self.order.iter().enumerate().filter(|(_, listed)| !listed.is_account()) {
            let name = listed.full_name();
            match now.remove(&name) {
                Some(uuid) if uuid == listed.uuid => {}
                Some(_) if self.snapshot.is_some() => {
                    dropped.push(name);
                }
                Some(_) => {
                    return Err(Error::new(ErrorKind::Refused, "back up", name, "it was replaced by another collection of that name while the backup ran")
                        .hint("run the backup again at a time when nobody replaces collections, or from a snapshot (a replica set of 5.0 or later)"));
                }
                None if yielded[index] == 0 && listed.kind != "view" => vanished.push(name),
                None => dropped.push(name),
            }
        }
        if !vanished.is_empty() {
            self.note(format!(
                "dropped while the backup ran, or empty before: in the backup without documents: {}",
                names(vanished.into_iter())
            ));
        }
        if !dropped.is_empty() {
            self.note(format!(
                "dropped after they had been read completely: in the backup as they were: {}",
                names(dropped.into_iter())
            ));
        }
        if !now.is_empty() {
            self.note(format!("created while the backup ran, so not in it: {}", names(now.into_keys())));
        }
        Ok(())
    }
}

async fn acquire(from: &Arc<Semaphore>, permits: u32) -> Result<OwnedSemaphorePermit> {
    let closed = |_| Error::new(ErrorKind::Internal, "read", "a batch", "its semaphore is closed");
    Arc::clone(from).acquire_many_owned(permits).await.map_err(closed)
}

/// The array of a batch's documents, which keeps the whole reply in memory.
fn array_of(batch: RawBatch) -> mongodb::error::Result<Bytes> {
    struct Reply(RawBatch);
    impl AsRef<[u8]> for Reply {
        fn as_ref(&self) -> &[u8] {
            self.0.as_raw_document().as_bytes()
        }
    }
    let (reply, array) = (batch.as_raw_document().as_bytes(), batch.doc_slices()?.as_bytes());
    let from = array.as_ptr().addr() - reply.as_ptr().addr();
    let to = from + array.len();
    Ok(Bytes::from_owner(Reply(batch)).slice(from..to))
}

fn stopped(subject: &str) -> Error {
    Error::cancelled("read", subject)
}

fn names(all: impl Iterator<Item = String>) -> String {
    let all: Vec<String> = all.collect();
    let more = all.len().saturating_sub(NAMED);
    let shown = all.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
    if more == 0 { shown } else { format!("{shown} and {more} more") }
}

/// Chooses the time that all collections are read as of: that of a first small read.
async fn take_snapshot(look: &Look, listed: &[Listed]) -> Result<Option<Timestamp>> {
    let Some(first) = listed.iter().find(|l| l.kind == "collection" && !l.is_capped()) else { return Ok(None) };
    let command = doc! { "find": &first.name, "limit": 1, "singleBatch": true, "readConcern": { "level": "snapshot" } };
    let database = look.client.database(&first.db);
    let mut run = database.run_command(command);
    if let Some(criteria) = selection(&look.client) {
        run = run.selection_criteria(criteria);
    }
    let failed = |e: mongodb::error::Error| failure::of_driver("read a snapshot of", &first.full_name(), &e);
    let reply = run.await.map_err(failed)?;
    match reply.get_document("cursor").ok().and_then(|c| c.get("atClusterTime")).or_else(|| reply.get("atClusterTime"))
    {
        Some(Bson::Timestamp(at)) => Ok(Some(*at)),
        _ => Err(Error::new(
            ErrorKind::Unsupported,
            "read a snapshot of",
            first.full_name(),
            "the server does not report the time of its snapshot",
        )),
    }
}

/// The order in which collections are read: accounts first, then views, then the largest first, so that no cursor is alone
/// with one at the end.
async fn in_order(look: &Look, listed: Vec<Listed>) -> Vec<Listed> {
    let mut sized: Vec<(Listed, u64)> = futures::stream::iter(listed)
        .map(|listed| async move {
            let count = match &*listed.kind {
                "collection" => content::count(look, &listed.db, &listed.name).await.unwrap_or_default(),
                _ => 0,
            };
            (listed, count)
        })
        .buffered(8)
        .collect()
        .await;
    let rank = |listed: &Listed| match &*listed.name {
        "system.users" if listed.db == "admin" => 0,
        "system.roles" if listed.db == "admin" => 1,
        "system.version" if listed.db == "admin" => 2,
        _ if listed.kind == "view" => 3,
        _ => 4,
    };
    sized.sort_by(|(a, x), (b, y)| rank(a).cmp(&rank(b)).then(y.cmp(x)));
    sized.into_iter().map(|(listed, _)| listed).collect()
}

/// The archive's tap, which also holds what it saw against what the cursors yielded.
struct CountingTap {
    inner: Box<ArchiveTap>,
    yielded: Yielded,
    consistency: String,
}

impl Tap for CountingTap {
    fn push(&mut self, chunk: &[u8]) -> Result<()> {
        self.inner.push(chunk)
    }

    fn finish(self: Box<Self>) -> Result<Proof> {
        let mut proof = self.inner.finish()?;
        let yielded = self.yielded.lock().unwrap_or_else(PoisonError::into_inner);
        // The first items are those of the namespaces, in the order of the prelude.
        for (item, yielded) in proof.items.iter().zip(yielded.iter()) {
            if item.count != *yielded {
                let why = format!("the cursor yielded {yielded} documents, but {} are in the archive", item.count);
                return Err(Error::new(ErrorKind::Internal, "back up", &item.name, why));
            }
        }
        proof.details.insert(CONSISTENCY.to_owned(), self.consistency.into());
        Ok(proof)
    }

    fn units_done(&self) -> u64 {
        self.inner.units_done()
    }

    fn units(&self) -> &'static str {
        self.inner.units()
    }
}
