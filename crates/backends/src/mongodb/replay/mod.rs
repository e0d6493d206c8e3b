//! Replays the oplog of an archive: what was written while the collections were read. Afterwards they all have the
//! state at the time of its last entry.
//!
//! The entries are applied to the collections under their temporary names: users see nothing of it, and on failure it
//! is dropped with them. Entries of collections that are not restored are left out, and renamed collections are
//! supported (unlike in mongorestore). Inserts, updates and deletes go through `applyOps`; commands are carried out
//! here, on a collection's temporary name or on its recorded metadata: indexes are built at the end, in the state that
//! the oplog has left them in, as in mongorestore. A transaction is held back until its commit.

mod apply;
mod catalog;
mod entry;

use super::DOCUMENTS;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use bson::Timestamp;
use lifeboat_core::progress::{Event, Step, Unit};
use lifeboat_core::{Context, Error, ErrorKind, Result};

pub(crate) use apply::{Applier, WITHOUT};
use entry::{Part, corrupt, time};

use super::content::Content;
use super::listing::Look;
use super::load::{Opened, Work, each};
use super::plan::Mapping;
use super::selection::is_skipped_database;

/// Bytes of transactions that have not been committed, at most. They are rare, and short: a server ends them after a minute.
const OPEN_TRANSACTIONS: usize = 128 << 20;

/// Namespaces that a note lists.
const NAMED: usize = 10;

/// The settings of a replay.
pub(crate) struct Settings<'a> {
    pub(crate) look: &'a Look,
    /// Where collections go that the oplog makes.
    pub(crate) mapping: &'a Mapping,
    /// The prefix of temporary collections, before their number; `None` if they have their final names from the start.
    pub(crate) stem: Option<&'a str>,
    /// Whether time series are ordinary collections of their buckets.
    pub(crate) plain_buckets: bool,
    /// The keys of documents that occur twice in the archive, each with its entry: only the oplog tells which one is
    /// right.
    pub(crate) twice: HashSet<(usize, Vec<u8>)>,
    pub(crate) cx: &'a Context,
}

/// The result of a replay.
#[derive(Debug, Default)]
pub(crate) struct Replayed {
    /// The content of the oplog, as in the proof.
    pub(crate) seen: Content,
    /// Inserts, updates and deletes that were applied, and commands that were carried out.
    pub(crate) applied: u64,
    /// Documents that the archive holds twice, of which the oplog has said what became of them.
    pub(crate) settled: u64,
    /// The time of the last entry, which is the time of the restored state.
    pub(crate) until: Option<Timestamp>,
    /// Entries whose options or indexes are others now, that were made or are gone.
    pub(crate) changed: BTreeSet<usize>,
    /// What could not be carried out, in words.
    pub(crate) notes: Vec<String>,
}

impl Replayed {
    /// The time of the last entry, for people.
    pub(crate) fn until(&self) -> String {
        self.until.map_or_else(|| "the time of the backup".to_owned(), time)
    }
}

/// Session and number of a transaction.
type Transaction = (Vec<u8>, i64);

/// A replay in progress.
struct Replay<'a> {
    settings: Settings<'a>,
    work: &'a mut Work,
    applier: Applier,
    /// `database.collection` of the data in the source → the entry and its namespace here; `None` for one that is not restored.
    known: HashMap<String, Option<(usize, String)>>,
    /// Entries of transactions that have not been committed.
    open: HashMap<Transaction, Vec<Vec<u8>>>,
    open_bytes: usize,
    /// The number of operations on unknown collections, by namespace.
    unknown: BTreeMap<String, u64>,
    done: Replayed,
}

/// Replays what is left of an archive: its oplog, the namespace `number`. When it returns, the archive has been read to its end.
///
/// # Errors
/// The stream's, the archive's, or what the server says of an entry.
pub(crate) async fn replay(
    opened: &mut Opened,
    number: usize,
    settings: Settings<'_>,
    work: &mut Work,
) -> Result<Replayed> {
    let progress = settings.cx.progress.clone();
    progress.event(Event::Begin { step: Step::Replay, unit: Unit::Items, total: None });
    let applier = Applier::new(settings.look);
    let known = work
        .data_names(settings.look, settings.plain_buckets)
        .into_iter()
        .map(|(index, name, here)| (name, here.map(|here| (index, here))))
        .collect();
    let mut replay = Replay {
        applier,
        known,
        open: HashMap::new(),
        open_bytes: 0,
        unknown: BTreeMap::new(),
        done: Replayed::default(),
        settings,
        work,
    };
    while let Some((namespace, bytes)) = opened.next_documents().await? {
        if namespace != number {
            return Err(corrupt("documents of a collection follow it, but it must come last"));
        }
        for document in each(&bytes) {
            if replay.settings.cx.cancel.is_cancelled() {
                return Err(Error::cancelled("replay", "the oplog"));
            }
            replay.done.seen.add(document);
            replay.entry(document).await?;
            progress.event(Event::Advance(1));
        }
    }
    let done = replay.finish().await?;
    progress.event(Event::End);
    Ok(done)
}

impl Replay<'_> {
    async fn entry(&mut self, document: &[u8]) -> Result<()> {
        let entry = entry::Entry::read(document)?;
        self.done.until = self.done.until.max(Some(entry.at));
        let Some(((session, number), part)) = entry.transaction() else { return self.operations(&entry).await };
        let id = (session.to_vec(), number);
        match part {
            Part::Some => {
                self.open_bytes += document.len();
                if self.open_bytes > OPEN_TRANSACTIONS {
                    let why = format!("transactions of more than {OPEN_TRANSACTIONS} bytes are open at once");
                    return Err(Error::new(ErrorKind::Unsupported, "replay", entry.shown(), why)
                        .hint(format!("mongorestore --oplogReplay takes as much memory as they need; {WITHOUT}")));
                }
                self.open.entry(id).or_default().push(document.to_vec());
            }
            Part::Last => {
                self.held(id).await?;
                self.operations(&entry).await?;
            }
            Part::Commit if !self.open.contains_key(&id) => {
                return Err(corrupt(format!("the beginning of a transaction is missing: {}", entry.shown())));
            }
            Part::Commit => self.held(id).await?,
            Part::Abort => self.open_bytes -= self.open.remove(&id).iter().flatten().map(Vec::len).sum::<usize>(),
        }
        Ok(())
    }

    /// Applies what was held back of a transaction.
    async fn held(&mut self, id: Transaction) -> Result<()> {
        for document in self.open.remove(&id).unwrap_or_default() {
            self.open_bytes -= document.len();
            self.operations(&entry::Entry::read(&document)?).await?;
        }
        Ok(())
    }

    async fn operations(&mut self, whole: &entry::Entry<'_>) -> Result<()> {
        for leaf in whole.leaves()? {
            if leaf.is_nothing() || leaf.ns.starts_with("config.") || is_skipped_database(leaf.database()) {
                continue;
            }
            match leaf.op {
                "i" | "u" | "d" => self.write(&leaf).await?,
                "c" => {
                    // They come after what was written before.
                    self.applier.flush().await?;
                    self.command(&leaf).await?;
                }
                _ => return Err(unknown(&leaf)),
            }
        }
        Ok(())
    }

    async fn write(&mut self, leaf: &entry::Entry<'_>) -> Result<()> {
        match self.known.get(leaf.ns) {
            Some(Some((index, here))) => {
                if leaf.op != "u" && !self.settings.twice.is_empty() {
                    let key = leaf.key().map(|key| (*index, key));
                    self.done.settled += u64::from(key.is_some_and(|key| self.settings.twice.remove(&key)));
                }
                let operation = leaf.rewritten(here)?;
                self.applier.push(operation, leaf.shown()).await
            }
            Some(None) => Ok(()),
            None if leaf.ns.ends_with(".system.views") => self.view(leaf),
            None => {
                *self.unknown.entry(leaf.ns.to_owned()).or_default() += 1;
                Ok(())
            }
        }
    }

    async fn finish(mut self) -> Result<Replayed> {
        self.applier.flush().await?;
        self.done.applied += self.applier.applied;
        if !self.settings.twice.is_empty() {
            let why = format!(
                "the archive holds {} twice under one key, and its oplog does not say which is right",
                DOCUMENTS.count(self.settings.twice.len())
            );
            return Err(Error::new(ErrorKind::Mismatch, "restore", "all documents", why).hint("use another artifact"));
        }
        if !self.unknown.is_empty() {
            let total: u64 = self.unknown.values().sum();
            let shown: Vec<&str> = self.unknown.keys().take(NAMED).map(String::as_str).collect();
            self.done.notes.push(format!(
                "{total} changes of collections that are not in the archive were left out: {}",
                shown.join(", ")
            ));
        }
        // Those that were open at the last entry's time had changed nothing by then.
        Ok(self.done)
    }
}

fn unknown(leaf: &entry::Entry<'_>) -> Error {
    Error::new(ErrorKind::Unsupported, "replay", leaf.shown(), "this kind of entry is unknown or cannot be replayed")
        .hint(format!("what was there before is untouched; {WITHOUT}"))
}
