//! The target: restores an archive into a live deployment.

use std::collections::BTreeSet;
use std::time::Instant;

use async_trait::async_trait;
use lifeboat_core::progress::Event;
use lifeboat_core::{Check, Context, Error, ErrorKind, Proof, RestoreInput, Result, Target};

use super::connection::Connection;
use super::content::Content;
use super::listing::{Listed, Look};
use super::load::{Load, Loaded, Opened, Place};
use super::namespace::{Pattern, Renames};
use super::plan::{self, Entry, Kind, Mapping};
use super::swap::Swap;

/// What temporary collections are called: this, eight hexadecimal digits, `_` and a number.
const TEMPORARY: &str = "lifeboat_restore_";

/// How an archive is restored.
#[derive(Clone, Debug, Default)]
pub struct RestoreOptions {
    /// Leave to replace collections that are there. Each is replaced when all of the archive is known to be good.
    pub replace: bool,
    /// The replaced collections are kept, under other names.
    pub keep_replaced: bool,
    /// Only these collections: patterns, as `shop.orders`, `orders` or `shop.*`.
    pub collections: Vec<String>,
    /// Renames, in pairs with `ns_to`: `shop.*`.
    pub ns_from: Vec<String>,
    /// What `ns_from` becomes: `copy.*`.
    pub ns_to: Vec<String>,
    /// No index but that of `_id` is built.
    pub no_indexes: bool,
    /// Connections that insert side by side; 0 is 4.
    pub jobs: usize,
    /// The restored content is not read back and compared.
    pub skip_proof: bool,
}

/// Restores into a MongoDB deployment.
///
/// - The archive's collections are made under the temporary names `lifeboat_restore_<random>_<number>`, in the databases that they go
///   to; filled, indexed, read back and compared. Only when the archive has been read to its end, all its checksums are right and
///   everything has been compared, they take their names. Nothing that was there is dropped before.
/// - A connection that names a database restores the archive's only database into it; one that names none restores each to where
///   it was. [`RestoreOptions::ns_from`] renames.
/// - A database that holds collections is refused, or with [`RestoreOptions::replace`] the collections of the archive replace those of
///   the same names. Others stay, and are named. When single collections are chosen or renamed, only those of the same name
///   are in the way.
/// - Users and roles are not restored, and the oplog is not replayed: a warning says so.
///
/// A restore that fails before the last step leaves the deployment as it was. A process that is killed leaves temporary
/// collections behind; the next restore names them.
#[derive(Clone, Debug)]
pub struct MongoTarget {
    connection: Connection,
    options: RestoreOptions,
    renames: Renames,
}

impl MongoTarget {
    /// Into the deployment, and the database, that this connection names.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for renames that do not go together.
    pub fn new(connection: Connection, options: RestoreOptions) -> Result<Self> {
        let renames = Renames::new(&options.ns_from, &options.ns_to)?;
        Ok(Self { connection, options, renames })
    }
}

#[async_trait]
impl Target for MongoTarget {
    async fn restore(&self, input: RestoreInput, cx: &Context) -> Result<Vec<Check>> {
        let begun = Instant::now();
        let look = Look::at(&self.connection).await?;
        let opened = Opened::read(input.stream).await?;
        let mapping = Mapping {
            only: self.options.collections.iter().map(|text| Pattern::new(text)).collect(),
            renames: self.renames.clone(),
            database: self.connection.database().map(str::to_owned),
            databases: None,
        };
        let entries = plan::plan(&opened.prelude, &mapping)?;
        let mut checks = Vec::new();
        let existing = self.existing(&look, &entries, &mut checks).await?;
        self.check_free(&existing, &entries)?;
        let stem = format!("{TEMPORARY}{}", random()?);
        let places: Vec<Option<Place>> = entries
            .iter()
            .enumerate()
            .map(|(number, entry)| {
                let (db, _) = entry.into.as_ref().filter(|_| entry.kind != Kind::View)?;
                Some(Place { db: db.clone(), collection: format!("{stem}_{number}") })
            })
            .collect();
        let load = Load {
            look: &look,
            entries: &entries,
            places: &places,
            plain_buckets: true,
            connections: self.options.jobs,
            cx,
        };
        let loaded = match self.prepare(&load, opened, input.proof.as_ref(), &mut checks).await {
            Ok(loaded) => loaded,
            Err(error) => {
                load.drop_all().await;
                return Err(error);
            }
        };
        self.take_names(&load, &existing, &stem, &loaded, &mut checks).await?;
        let restored = entries.iter().filter(|e| e.into.is_some()).count();
        let documents: u64 = loaded.tallies.iter().map(|t| t.inserted).sum();
        let figure = format!("{restored} collections");
        let detail = format!("{documents} documents into {}", look.connection.redacted());
        checks.insert(0, Check::pass("restored", figure, detail).took(begun.elapsed()));
        self.mention_the_rest(&entries, &existing, &loaded, &mut checks);
        Ok(checks)
    }
}

impl MongoTarget {
    /// What is in the databases that are restored into, without what killed restores have left.
    async fn existing(&self, look: &Look, entries: &[Entry], checks: &mut Vec<Check>) -> Result<Vec<Listed>> {
        let databases: BTreeSet<&String> = entries.iter().filter_map(|e| e.into.as_ref()).map(|(db, _)| db).collect();
        let mut existing = Vec::new();
        for db in databases {
            existing.extend(look.collections(db, |name| !name.starts_with("system.") || name == "system.js").await?);
        }
        let (left, existing): (Vec<Listed>, Vec<Listed>) =
            existing.into_iter().partition(|l| l.name.starts_with(TEMPORARY));
        if let Some(first) = left.first() {
            let figure = format!("{} collections", left.len());
            let detail = format!(
                "{} and the like were left by a restore that was killed, or belong to one that is running; if none is, drop them",
                first.full_name()
            );
            checks.push(Check::warn("left over", figure, detail));
        }
        Ok(existing)
    }

    fn check_free(&self, existing: &[Listed], entries: &[Entry]) -> Result<()> {
        if self.options.replace {
            return Ok(());
        }
        let is_whole = self.options.collections.is_empty() && self.renames.is_empty();
        let taken = |l: &&Listed| {
            entries.iter().any(|e| e.into.as_ref().is_some_and(|(db, name)| *db == l.db && *name == l.name))
        };
        let Some(found) = existing.iter().find(taken).or_else(|| existing.first().filter(|_| is_whole)) else {
            return Ok(());
        };
        let (subject, why) = match is_whole {
            true => (found.db.clone(), format!("the database is not empty: it holds {}", found.name)),
            false => (found.full_name(), "it is there already".to_owned()),
        };
        Err(Error::new(ErrorKind::Refused, "restore into", subject, why)
            .hint("name another database in the URL, or give --replace: the collections are then restored beside, and take the place of those that are there once all of them are known to be good"))
    }

    /// Everything but taking the names.
    async fn prepare(
        &self,
        load: &Load<'_>,
        opened: Opened,
        proof: Option<&Proof>,
        checks: &mut Vec<Check>,
    ) -> Result<Loaded> {
        let loaded = load.fill(opened).await?;
        if let Some(proof) = proof {
            same_as_proof(load.entries, &loaded.seen, proof)?;
        }
        loaded.check(load.entries)?;
        // Before indexes with a time to live can take anything away.
        if !self.options.skip_proof {
            self.compare(load, &loaded, checks).await?;
        }
        if !self.options.no_indexes {
            let notes = load.index().await?;
            checks.extend(notes.into_iter().map(|note| Check::warn("indexes", "other", note)));
        }
        Ok(loaded)
    }

    /// Reads back everything and holds it against what came out of the archive.
    async fn compare(&self, load: &Load<'_>, loaded: &Loaded, checks: &mut Vec<Check>) -> Result<()> {
        let begun = Instant::now();
        let found = load.read_back().await?;
        let mut compared = Content::default();
        for ((entry, seen), found) in load.entries.iter().zip(&loaded.seen).zip(found) {
            let Some(found) = found else { continue };
            if found != *seen {
                let why = match found.count == seen.count {
                    true => format!(
                        "{} documents, as in the archive, but not the same (fingerprint {} there, {} here)",
                        seen.count, seen.fingerprint, found.fingerprint
                    ),
                    false => format!("{} documents in the archive, {} restored", seen.count, found.count),
                };
                return Err(Error::new(ErrorKind::Mismatch, "restore", entry.shown(), why)
                    .hint("the server changes documents that it is given; what was there before is untouched"));
            }
            compared.count += found.count;
            compared.bytes += found.bytes;
        }
        let detail = "read back: every document is, byte by byte, that of the archive";
        checks.push(Check::pass("content", format!("{} documents", compared.count), detail).took(begun.elapsed()));
        Ok(())
    }

    async fn take_names(
        &self,
        load: &Load<'_>,
        existing: &[Listed],
        stem: &str,
        loaded: &Loaded,
        checks: &mut Vec<Check>,
    ) -> Result<()> {
        let suffix = stem.replace(TEMPORARY, "_lifeboat_replaced_");
        let swap = Swap {
            look: load.look,
            existing,
            aside: self.options.keep_replaced.then_some(&*suffix),
            indexes: !self.options.no_indexes,
            cx: load.cx,
        };
        // What can be renamed first: it takes no time. Views last: they look at collections.
        let rank = |entry: &Entry| match (Swap::is_copied(entry), entry.kind) {
            (_, Kind::View) => 2,
            (true, _) => 1,
            (false, _) => 0,
        };
        let mut order: Vec<usize> = (0..load.entries.len()).filter(|i| load.entries[*i].into.is_some()).collect();
        order.sort_by_key(|index| rank(&load.entries[*index]));
        for (done, index) in order.iter().enumerate() {
            let entry = &load.entries[*index];
            let placed = swap.one(entry, load.places[*index].as_ref(), loaded.seen[*index], checks).await;
            if let Err(error) = placed {
                // Those that have not had their turn are whole; what they would replace is as well.
                let rest: Vec<Option<Place>> = order[done + 1..].iter().map(|i| load.places[*i].clone()).collect();
                Load { places: &rest, ..*load }.drop_all().await;
                if !Swap::is_copied(entry) {
                    Load { places: &load.places[*index..=*index], ..*load }.drop_all().await;
                }
                load.cx.progress.event(Event::Note(format!(
                    "{done} of {} collections had taken their names when this happened; the others are as they were",
                    order.len()
                )));
                return Err(error);
            }
        }
        Ok(())
    }

    fn mention_the_rest(&self, entries: &[Entry], existing: &[Listed], loaded: &Loaded, checks: &mut Vec<Check>) {
        for (kind, name, advice) in [
            (
                Kind::Account,
                "users and roles",
                "they are in the archive, and were not restored: `mongorestore` restores them (see the docs, \"Users and roles\")",
            ),
            (
                Kind::Oplog,
                "oplog",
                "it is in the archive, and was not replayed: `mongorestore --oplogReplay` does (see the docs, \"Consistency\")",
            ),
        ] {
            let count: u64 =
                entries.iter().zip(&loaded.seen).filter(|(e, _)| e.kind == kind).map(|(_, s)| s.count).sum();
            if count > 0 {
                checks.push(Check::warn(name, format!("{count} not restored"), advice));
            }
        }
        let ours = |l: &&Listed| {
            entries.iter().any(|e| e.into.as_ref().is_some_and(|(db, name)| *db == l.db && *name == l.name))
        };
        let others: Vec<String> = existing.iter().filter(|l| !ours(l)).map(Listed::full_name).collect();
        if !others.is_empty() && self.options.collections.is_empty() {
            let shown = others.iter().take(10).cloned().collect::<Vec<_>>().join(", ");
            checks.push(Check::warn(
                "others",
                format!("{} kept", others.len()),
                format!("not in the archive, and left as they were: {shown}"),
            ));
        }
    }
}

/// Whether what came out of the stream is what its source saw.
fn same_as_proof(entries: &[Entry], seen: &[Content], proof: &Proof) -> Result<()> {
    for (entry, seen) in entries.iter().zip(seen) {
        let name = entry.shown();
        let data = |kind: &str| matches!(kind, "collection" | "time series" | "oplog");
        let Some(item) = proof.items.iter().find(|i| data(&i.kind) && i.name == name) else { continue };
        if item.count != seen.count || item.fingerprint.is_some_and(|f| f != seen.fingerprint) {
            let why = format!(
                "{} documents are in the archive, {} were backed up, or they are not the same",
                seen.count, item.count
            );
            return Err(Error::new(ErrorKind::Mismatch, "restore", name, why)
                .hint("the artifact is not what its manifest says: use another one"));
        }
    }
    Ok(())
}

/// Eight hexadecimal digits.
pub(crate) fn random() -> Result<String> {
    let mut random = [0; 4];
    getrandom::fill(&mut random)
        .map_err(|e| Error::new(ErrorKind::Io, "make", "a name", format!("no random numbers: {e}")))?;
    Ok(hex::encode(random))
}
