//! A server that speaks MongoDB's wire protocol, for what no available server can do: replica sets, snapshots, the
//! oplog, time series, faults at a chosen request, and batches of 16 MB at the speed of the loopback.
//!
//! It is scripted, not a database: it keeps documents in memory, handles the commands that dump and restore tools send,
//! according to the specifications of MongoDB's drivers (`mongodb/specifications`: OP_MSG, handshake,
//! find/getMore/killCursors, sessions, snapshot sessions), and records every request. Checksums of messages are off.
//!
//! [`Script`] defines its content and behaviour; [`MongoWire`] runs it until dropped.

mod commands;
mod filter;
mod message;
mod oplog;
mod server;
mod store;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bson::raw::RawDocumentBuf;
use tokio::net::TcpListener;
use tokio::task::AbortHandle;

pub use store::{Canned, Collection, Store};

use crate::documents::Doc;

/// What happens at a request.
#[derive(Clone)]
pub enum Effect {
    /// The connection is closed instead of an answer.
    Cut,
    /// Half of the answer is sent, then the connection is closed.
    CutWithin,
    /// An error: its code, the name of the code, its text.
    Fail(i32, &'static str, &'static str),
    /// The request is carried out and answered only after this time; others meanwhile.
    Late(Duration),
    /// Something happens to the data, then the request is answered.
    Do(Arc<dyn Fn(&mut Store) + Send + Sync>),
}

impl std::fmt::Debug for Effect {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Cut => f.write_str("Cut"),
            Self::CutWithin => f.write_str("CutWithin"),
            Self::Late(time) => write!(f, "Late({time:?})"),
            Self::Fail(code, name, _) => write!(f, "Fail({code} {name})"),
            Self::Do(_) => f.write_str("Do"),
        }
    }
}

/// A cursor that the server no longer knows.
pub const CURSOR_NOT_FOUND: Effect = Effect::Fail(43, "CursorNotFound", "cursor id not found");
/// A collection that was dropped while it was read.
pub const QUERY_PLAN_KILLED: Effect =
    Effect::Fail(175, "QueryPlanKilled", "collection dropped. UUID 7d3bb7ff-7a2c-4a8e-8f0e-1a0b4a7e8a11");
/// A database or collection that is not there.
pub const NAMESPACE_NOT_FOUND: Effect = Effect::Fail(26, "NamespaceNotFound", "ns does not exist");
/// A snapshot that is older than the server's history.
pub const SNAPSHOT_TOO_OLD: Effect =
    Effect::Fail(239, "SnapshotTooOld", "Read timestamp is older than the oldest available timestamp.");

/// When an [`Effect`] happens.
#[derive(Clone, Debug)]
struct Rule {
    command: String,
    /// The collection; any when empty.
    collection: String,
    /// From which matching request on, counted from 1, and for how many.
    from: usize,
    times: usize,
    effect: Effect,
    seen: usize,
}

/// The content and behaviour of a server.
#[derive(Clone, Debug)]
pub struct Script {
    version: String,
    /// The replica set's name.
    set: Option<String>,
    snapshots: bool,
    refused_fields: Vec<String>,
    rules: Vec<Rule>,
    max_write_batch: i32,
    max_message: i32,
    swallow: bool,
    store: Store,
}

impl Script {
    /// A standalone server: no cluster times, no snapshots, no oplog.
    pub fn standalone() -> Self {
        Self {
            version: "7.0.14".to_owned(),
            set: None,
            snapshots: false,
            refused_fields: Vec::new(),
            rules: Vec::new(),
            max_write_batch: 100_000,
            max_message: 48_000_000,
            swallow: false,
            store: Store::default(),
        }
    }

    /// The primary of a replica set, with cluster times and snapshot reads. It has no oplog until it is given `local.oplog.rs`.
    pub fn replica_set(name: &str) -> Self {
        Self { set: Some(name.to_owned()), snapshots: true, ..Self::standalone() }
    }

    /// Sets the version that it reports; by default 7.0.14.
    #[must_use]
    pub fn version(self, version: &str) -> Self {
        Self { version: version.to_owned(), ..self }
    }

    /// Snapshot reads are refused, as servers before 5.0 and standalones do.
    #[must_use]
    pub fn without_snapshots(self) -> Self {
        Self { snapshots: false, ..self }
    }

    /// A command with this field is refused as one that the server does not know.
    #[must_use]
    pub fn refuse_field(mut self, field: &str) -> Self {
        self.refused_fields.push(field.to_owned());
        self
    }

    /// How many documents and bytes a message of inserts can have.
    #[must_use]
    pub fn limits(self, documents: i32, bytes: i32) -> Self {
        Self { max_write_batch: documents, max_message: bytes, ..self }
    }

    /// Inserted documents are counted and forgotten: for benchmarks.
    #[must_use]
    pub fn swallow_inserts(self) -> Self {
        Self { swallow: true, ..self }
    }

    /// A collection that is there from the start.
    #[must_use]
    pub fn collection(mut self, collection: Collection) -> Self {
        self.store.put(collection);
        self
    }

    /// What happens at the `nth` request (from 1) of a command for a collection, or for any when it is empty.
    #[must_use]
    pub fn at(self, command: &str, collection: &str, nth: usize, effect: Effect) -> Self {
        self.rule(command, collection, nth, 1, effect)
    }

    /// What happens at every request of a command for a collection, or for any when it is empty.
    #[must_use]
    pub fn always(self, command: &str, collection: &str, effect: Effect) -> Self {
        self.rule(command, collection, 1, usize::MAX, effect)
    }

    fn rule(mut self, command: &str, collection: &str, from: usize, times: usize, effect: Effect) -> Self {
        let (command, collection) = (command.to_owned(), collection.to_owned());
        self.rules.push(Rule { command, collection, from, times, effect, seen: 0 });
        self
    }
}

/// An oplog entry.
pub fn oplog_entry(seconds: u32, op: &str, ns: &str, o: Doc) -> Doc {
    let ts = [1u32.to_le_bytes(), seconds.to_le_bytes()].concat();
    Doc::new().raw(0x11, "ts", &ts).int64("t", 1).int64("v", 2).text("op", op).text("ns", ns).doc("o", o)
}

/// An oplog entry of an insert.
pub fn oplog_insert(seconds: u32, ns: &str, document: Doc) -> Doc {
    oplog_entry(seconds, "i", ns, document)
}

/// A request that came.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The command's name.
    pub command: String,
    /// Its collection, where it has one.
    pub collection: String,
    /// The database.
    pub db: String,
    /// The command, without the documents of a sequence.
    pub body: RawDocumentBuf,
    /// Documents in its sequence or array.
    pub documents: usize,
}

struct Shared {
    script: Mutex<Script>,
    seen: Mutex<Vec<Seen>>,
    cursors: Mutex<store::Cursors>,
    address: SocketAddr,
}

/// A running server. It ends when this is dropped.
pub struct MongoWire {
    shared: Arc<Shared>,
    task: AbortHandle,
}

impl std::fmt::Debug for MongoWire {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MongoWire").field("address", &self.shared.address).finish_non_exhaustive()
    }
}

impl Drop for MongoWire {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl MongoWire {
    /// Starts a server on a free port of 127.0.0.1.
    pub async fn start(script: Script) -> Self {
        Self::start_at(script, "127.0.0.1:0").await
    }

    /// Starts a server on an address.
    pub async fn start_at(script: Script, address: &str) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let shared = Arc::new(Shared {
            script: Mutex::new(script),
            seen: Mutex::new(Vec::new()),
            cursors: Mutex::default(),
            address: listener.local_addr().unwrap(),
        });
        let task = tokio::spawn(server::accept(listener, Arc::clone(&shared))).abort_handle();
        Self { shared, task }
    }

    /// Its URL. A replica set is named in it.
    pub fn url(&self) -> String {
        let set = self.shared.script.lock().unwrap().set.clone();
        let options = set.map_or_else(|| "?directConnection=true".to_owned(), |set| format!("?replicaSet={set}"));
        format!("mongodb://{}/{options}", self.shared.address)
    }

    /// Its address.
    pub fn address(&self) -> SocketAddr {
        self.shared.address
    }

    /// The requests of a command so far.
    pub fn seen(&self, command: &str) -> Vec<Seen> {
        self.shared.seen.lock().unwrap().iter().filter(|seen| seen.command == command).cloned().collect()
    }

    /// All requests so far.
    pub fn all_seen(&self) -> Vec<Seen> {
        self.shared.seen.lock().unwrap().clone()
    }

    /// Looks at the data, or changes it.
    pub fn with_store<T>(&self, work: impl FnOnce(&mut Store) -> T) -> T {
        work(&mut self.shared.script.lock().unwrap().store)
    }
}
