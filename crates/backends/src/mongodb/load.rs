//! An archive into a server: its collections are made, filled, indexed and read back. Which names they get is the plan's; when
//! they take the names that they shall have in the end is the target's business.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use futures::{FutureExt, StreamExt, TryStreamExt};
use lifeboat_core::progress::{Event as ProgressEvent, Step, Total, Unit};
use lifeboat_core::{ByteStream, Context, Error, ErrorKind, Proof, ProofItem, Result};

use super::accounts;
use super::archive::{self, Event, Prelude, Reader};
use super::content::{self, Content};
use super::create;
use super::insert::{Destination, Inserter, Tally};
use super::listing::Look;
use super::order::Order;
use super::plan::{Account, Entry, Kind};

/// Collections that are indexed side by side.
const SIDE_BY_SIDE: usize = 4;
/// Collections that are read back side by side. Each has two batches of at most 16 MB in memory.
const READERS: usize = 2;

/// Documents at the beginnings of capped collections whose order is remembered, of all together: 16 bytes each.
const BEGINNINGS: usize = 1 << 20;

/// The first server whose time series have no visible collection of buckets.
const VIEWLESS: (u32, u32) = (8, 3);

/// A stream of an archive of which the prelude has been read.
pub(crate) struct Opened {
    pub(crate) prelude: Arc<Prelude>,
    /// `None` when the archive has been read to its end.
    reader: Option<Reader>,
    events: std::vec::IntoIter<Event>,
    rest: ByteStream,
}

impl Opened {
    /// Reads up to the end of the prelude.
    ///
    /// # Errors
    /// The stream's own; [`ErrorKind::Corrupt`] for what is no archive, or ends before its prelude does.
    pub(crate) async fn read(mut stream: ByteStream) -> Result<Self> {
        let mut reader = Reader::new();
        let mut events = Vec::new();
        while let Some(chunk) = stream.next().await {
            reader.push(&chunk?, &mut events)?;
            if let Some(Event::Prelude(prelude)) = events.first() {
                let prelude = prelude.clone();
                return Ok(Self { prelude, reader: Some(reader), events: events.into_iter(), rest: stream });
            }
        }
        let prelude = reader.finish()?;
        Ok(Self { prelude, reader: None, events: events.into_iter(), rest: stream })
    }

    /// What comes next in the archive; `None` when it has ended, and ended well.
    async fn next(&mut self) -> Result<Option<Event>> {
        loop {
            if let Some(event) = self.events.next() {
                return Ok(Some(event));
            }
            let Some(reader) = &mut self.reader else { return Ok(None) };
            match self.rest.next().await {
                Some(chunk) => {
                    let mut events = Vec::new();
                    reader.push(&chunk?, &mut events)?;
                    self.events = events.into_iter();
                }
                None => self.reader.take().map(Reader::finish).transpose().map(drop)?,
            }
        }
    }

    /// What comes next, if it is not of this namespace.
    async fn next_before(&mut self, namespace: Option<usize>) -> Result<Option<Event>> {
        let Some(event) = self.next().await? else { return Ok(None) };
        let of = match &event {
            Event::Prelude(_) => None,
            Event::Documents { namespace, .. } | Event::End { namespace, .. } => Some(*namespace),
        };
        if of.is_none() || of != namespace {
            return Ok(Some(event));
        }
        let rest: Vec<Event> = std::iter::once(event).chain(self.events.by_ref()).collect();
        self.events = rest.into_iter();
        Ok(None)
    }

    /// The next documents, with their namespace.
    ///
    /// # Errors
    /// The stream's own, and the archive's.
    pub(crate) async fn next_documents(&mut self) -> Result<Option<(usize, Bytes)>> {
        while let Some(event) = self.next().await? {
            if let Event::Documents { namespace, bytes, .. } = event {
                return Ok(Some((namespace, bytes)));
            }
        }
        Ok(None)
    }
}

/// Where an entry's documents are put for the time being.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) db: String,
    pub(crate) collection: String,
}

/// What to restore, and where it is for the time being.
#[derive(Clone, Debug, Default)]
pub(crate) struct Work {
    pub(crate) entries: Vec<Entry>,
    /// For each entry its collection for the time being; `None` for one that is not restored, and for views.
    pub(crate) places: Vec<Option<Place>>,
}

impl Work {
    /// For each entry that has data: its number, the namespace of its data in the source, and that of its data here.
    pub(crate) fn data_names(&self, look: &Look, plain_buckets: bool) -> Vec<(usize, String, Option<String>)> {
        let mut names = Vec::new();
        for (index, entry) in self.entries.iter().enumerate() {
            let here = self.data_name(index, look, plain_buckets);
            if entry.kind == Kind::Timeseries {
                names.push((index, format!("{}.system.buckets.{}", entry.db, entry.collection), here.clone()));
            }
            if !matches!(entry.kind, Kind::View | Kind::Oplog) {
                names.push((index, entry.source_name(), here));
            }
        }
        names
    }

    /// The namespace of an entry's data here.
    pub(crate) fn data_name(&self, index: usize, look: &Look, plain_buckets: bool) -> Option<String> {
        let at = destination(look, plain_buckets, &self.entries[index], self.places[index].as_ref());
        self.places[index].is_some().then(|| format!("{}.{}", at.db, at.collection))
    }
}

/// What is loaded where.
pub(crate) struct Load<'a> {
    pub(crate) look: &'a Look,
    pub(crate) entries: &'a [Entry],
    /// As in [`Work`].
    pub(crate) places: &'a [Option<Place>],
    /// Whether time series become ordinary collections of their buckets, which can be renamed.
    pub(crate) plain_buckets: bool,
    pub(crate) connections: usize,
    /// Where to stop reading: before the documents of this entry, the oplog.
    pub(crate) stop_before: Option<usize>,
    pub(crate) cx: &'a Context,
}

/// What came of it, for each entry.
pub(crate) struct Loaded {
    /// What the archive holds of it.
    pub(crate) seen: Vec<Content>,
    /// Of capped ones, the order of the first documents, up to each of them, as far as [`BEGINNINGS`] reach.
    beginnings: Vec<Vec<Order>>,
    /// What the server made of it.
    pub(crate) tallies: Vec<Tally>,
    /// The version of the users and roles in the archive, where it says one.
    pub(crate) accounts_version: Option<i64>,
}

impl Loaded {
    /// Documents that are not in the server.
    pub(crate) fn missing(&self) -> (u64, u64) {
        self.tallies.iter().fold((0, 0), |(d, r), t| (d + t.duplicates, r + t.refused))
    }

    /// Names what is missing. Where an oplog is replayed, documents of a key that is there already are none: a document that was
    /// deleted and inserted again while it was read comes twice, and the oplog has the second insert. That it has is looked at then
    /// ([`twice`](Self::twice)).
    ///
    /// # Errors
    /// [`ErrorKind::Mismatch`] when there is anything.
    pub(crate) fn check(&self, entries: &[Entry], is_replayed: bool) -> Result<()> {
        let (duplicates, refused) = self.missing();
        let is_known = |tally: &Tally| is_replayed && tally.twice.len() as u64 == tally.duplicates;
        let is_missing = |tally: &Tally| tally.refused > 0 || (tally.duplicates > 0 && !is_known(tally));
        let Some((entry, tally)) = entries.iter().zip(&self.tallies).find(|(_, t)| is_missing(t)) else {
            return Ok(());
        };
        let said =
            tally.first.as_deref().map(|said| format!(", first of {}: {said}", entry.shown())).unwrap_or_default();
        let why = match (duplicates, refused) {
            (d, 0) => format!("{d} documents have a key that another one already has{said}"),
            (0, r) => format!("the server refused {r} documents{said}"),
            (d, r) => format!("{d} documents have a key that another one already has, and {r} were refused{said}"),
        };
        Err(Error::new(ErrorKind::Mismatch, "restore", "all documents", why)
            .hint("the archive holds them; mongorestore would leave them out and end with 0"))
    }
}

impl Loaded {
    /// What the archive holds of an entry, if `found` is that but for documents that came twice, or of a capped one the last
    /// documents of it; otherwise what was found.
    ///
    /// A capped collection that was written to while it was read is in the archive with more documents than it can hold: in the
    /// source too, the first of them have gone.
    pub(crate) fn but_for_twice(&self, index: usize, found: Content) -> Content {
        let duplicates = self.tallies[index].duplicates;
        let seen = self.seen[index];
        let twice = duplicates > 0 && found.count + duplicates == seen.count;
        if twice || self.is_the_end_of(index, found) { seen } else { found }
    }

    fn is_the_end_of(&self, index: usize, found: Content) -> bool {
        let seen = self.seen[index];
        let (Some(all), Some(order)) = (seen.order, found.order) else { return false };
        let gone = seen.count.checked_sub(found.count).filter(|gone| *gone > 0 && found.count > 0);
        let beginning = gone.and_then(|gone| self.beginnings.get(index)?.get(usize::try_from(gone - 1).ok()?));
        beginning.is_some_and(|beginning| all.last(found.count, *beginning) == order)
    }

    /// The keys of documents that came twice, each with its entry.
    pub(crate) fn twice(&self) -> HashSet<(usize, Vec<u8>)> {
        let all = self.tallies.iter().enumerate();
        all.flat_map(|(index, tally)| tally.twice.iter().map(move |key| (index, key.clone()))).collect()
    }
}

impl Load<'_> {
    /// Makes the collections and fills them. When it returns, the archive has been read to its end, or up to the oplog where that is to
    /// be replayed, and all checksums were right.
    ///
    /// # Errors
    /// The stream's, the archive's or the server's. What was made stays: see [`drop_all`](Self::drop_all).
    pub(crate) async fn fill(&self, opened: &mut Opened) -> Result<Loaded> {
        for (entry, place) in self.entries.iter().zip(self.places) {
            // `system.js` comes with its first document; it cannot be made.
            if let Some(place) = place.as_ref().filter(|p| !p.collection.starts_with("system.")) {
                create::collection(self.look, entry, &place.db, &place.collection, self.plain_buckets).await?;
            }
        }
        let destinations =
            self.entries.iter().zip(self.places).map(|(entry, place)| self.destination(entry, place.as_ref()));
        let mut inserter = Inserter::new(self.look, destinations.collect(), self.connections);
        let mut seen: Vec<Content> = self.entries.iter().map(|entry| Content::empty(entry.is_capped())).collect();
        let mut beginnings = vec![Vec::new(); self.entries.len()];
        let mut room = BEGINNINGS;
        let mut accounts_version = None;
        let mut ended = 0;
        while let Some(event) = opened.next_before(self.stop_before).await? {
            match event {
                Event::Prelude(_) => {}
                Event::Documents { namespace, bytes, .. } => {
                    let insert = self.places[namespace].is_some();
                    for document in each(&bytes) {
                        let seen = &mut seen[namespace];
                        seen.add(document);
                        if let Some(order) = seen.order.filter(|_| room > 0) {
                            beginnings[namespace].push(order);
                            room -= 1;
                        }
                        if insert {
                            inserter.push(namespace, document).await?;
                        }
                    }
                    if self.entries[namespace].kind == Kind::Account(Account::Version) {
                        accounts_version = accounts::schema(each(&bytes)).or(accounts_version);
                    }
                }
                Event::End { namespace, .. } => {
                    ended += 1;
                    inserter.close(namespace).await?;
                }
            }
            if self.cx.cancel.is_cancelled() {
                return Err(Error::cancelled("restore", self.look.connection.redacted()));
            }
        }
        if self.stop_before.is_some() && ended + 1 != self.entries.len() {
            return Err(Error::new(
                ErrorKind::Corrupt,
                "read",
                "the archive",
                "its oplog comes before its collections have ended",
            ));
        }
        let tallies = inserter.finish().await?;
        Ok(Loaded { seen, beginnings, tallies, accounts_version })
    }

    fn destination(&self, entry: &Entry, place: Option<&Place>) -> Destination {
        destination(self.look, self.plain_buckets, entry, place)
    }

    /// Builds the indexes, all of a collection with one command. Returns what the server would not take of them.
    ///
    /// # Errors
    /// [`create::build`]'s.
    pub(crate) async fn index(&self) -> Result<Vec<String>> {
        let mut work = Vec::new();
        for (number, (entry, place)) in self.entries.iter().zip(self.places).enumerate() {
            // Those of a time series are of the series, not of its buckets.
            // Users and roles are only on their way through.
            let passes =
                matches!(entry.kind, Kind::Account(_)) || (self.plain_buckets && entry.kind == Kind::Timeseries);
            if place.is_some() && !passes {
                let indexes = create::indexes(entry)?;
                if !indexes.is_empty() {
                    work.push((number, indexes));
                }
            }
        }
        let total = Some(Total::Exact(work.len() as u64));
        self.cx.progress.event(ProgressEvent::Begin { step: Step::Index, unit: Unit::Items, total });
        let notes: Vec<Vec<String>> = futures::stream::iter(work)
            .map(|(number, indexes)| self.index_one(number, indexes).boxed())
            .buffered(SIDE_BY_SIDE)
            .try_collect()
            .await?;
        self.cx.progress.event(ProgressEvent::End);
        Ok(notes.into_iter().flatten().collect())
    }

    async fn index_one(&self, number: usize, indexes: Vec<bson::Document>) -> Result<Vec<String>> {
        let entry = &self.entries[number];
        let Some(place) = &self.places[number] else { return Ok(Vec::new()) };
        if self.cx.cancel.is_cancelled() {
            return Err(Error::cancelled("build the indexes of", entry.shown()));
        }
        let notes = create::build(self.look, &place.db, &place.collection, indexes, &entry.shown()).await?;
        self.cx.progress.event(ProgressEvent::Advance(1));
        Ok(notes)
    }

    /// Reads back what is in the server, for each entry that has a place.
    ///
    /// # Errors
    /// What the server fails with.
    pub(crate) async fn read_back(&self) -> Result<Vec<Option<Content>>> {
        let total = Some(Total::Exact(self.places.iter().flatten().count() as u64));
        self.cx.progress.event(ProgressEvent::Begin { step: Step::Compare, unit: Unit::Items, total });
        let found: Vec<Option<Content>> = futures::stream::iter(0..self.entries.len())
            .map(|number| self.read_one(number).boxed())
            .buffered(READERS)
            .try_collect()
            .await?;
        self.cx.progress.event(ProgressEvent::End);
        Ok(found)
    }

    /// Reads back one entry's documents.
    ///
    /// # Errors
    /// What the server fails with.
    pub(crate) async fn read_one(&self, number: usize) -> Result<Option<Content>> {
        let Some(place) = &self.places[number] else { return Ok(None) };
        let at = self.destination(&self.entries[number], Some(place));
        let content = content::read(self.look, &at.db, &at.collection, at.raw_buckets, at.capped, self.cx).await?;
        self.cx.progress.event(ProgressEvent::Advance(1));
        Ok(Some(content))
    }

    /// Drops what was made. What cannot be dropped is named in the log.
    pub(crate) async fn drop_all(&self) {
        for place in self.places.iter().flatten() {
            if let Err(error) = create::drop_collection(self.look, &place.db, &place.collection).await {
                tracing::warn!(collection = format!("{}.{}", place.db, place.collection), %error, "a temporary collection remains");
            }
        }
    }
}

/// Where an entry's documents are put.
fn destination(look: &Look, plain_buckets: bool, entry: &Entry, place: Option<&Place>) -> Destination {
    let buckets = entry.kind == Kind::Timeseries && !plain_buckets;
    let viewless = buckets && is_viewless(look);
    let (db, name) = place.map(|p| (p.db.clone(), p.collection.clone())).unwrap_or_default();
    Destination {
        collection: if buckets && !viewless { format!("system.buckets.{name}") } else { name },
        db,
        shown: entry.shown(),
        // A time series checks its buckets, whatever it is told (`mongorestore` does not ask it to either).
        bypass_validation: !buckets && entry.option("validator").is_some(),
        raw_buckets: viewless,
        capped: entry.is_capped(),
    }
}

/// Whether the server's time series have no visible collection of buckets.
pub(crate) fn is_viewless(look: &Look) -> bool {
    let mut parts = look.version.split('.').map(|p| p.parse::<u32>().unwrap_or_default());
    (parts.next().unwrap_or_default(), parts.next().unwrap_or_default()) >= VIEWLESS
}

/// The documents of a run, of which the reader has checked the lengths.
pub(crate) fn each(run: &Bytes) -> impl Iterator<Item = &[u8]> {
    let mut rest: &[u8] = run;
    std::iter::from_fn(move || {
        let length = rest.first_chunk::<4>().map(|raw| u32::from_le_bytes(*raw) as usize)?;
        let document = rest.get(..length.max(4))?;
        rest = &rest[document.len()..];
        Some(document)
    })
}

/// The proof that an archive would have, of the entries that are restored: the expectation where there is no manifest.
///
/// # Errors
/// [`ErrorKind::Corrupt`] for metadata that cannot be written as JSON again.
pub(crate) fn expected(entries: &[Entry], seen: &[Content]) -> Result<Proof> {
    let mut items = Vec::new();
    for (entry, content) in entries.iter().zip(seen).filter(|(e, _)| e.into.is_some()) {
        items.extend(items_of(entry, Some(*content), &entry.metadata)?);
    }
    Ok(Proof::new(items))
}

/// A collection's items in a proof, named as in the archive.
pub(crate) fn items_of(
    entry: &Entry,
    content: Option<Content>,
    metadata: &archive::Metadata,
) -> Result<Vec<ProofItem>> {
    let name = entry.shown();
    let kind = match entry.kind {
        Kind::View => "view",
        Kind::Timeseries => "time series",
        Kind::Oplog => "oplog",
        Kind::Collection | Kind::Account(_) => "collection",
    };
    let content = content.unwrap_or_default();
    let mut items = vec![
        ProofItem::new(kind.to_owned(), name.clone(), content.count)
            .bytes(content.bytes)
            .fingerprint((entry.kind != Kind::View).then_some(content.fingerprint))
            .value(content.order.map(Order::text)),
    ];
    items.extend(
        archive::metadata_items(&name, metadata)
            .map_err(|what| Error::new(ErrorKind::Corrupt, "read", format!("the metadata of {name}"), what))?,
    );
    Ok(items)
}
