//! The target: restores an archive into a live deployment.

use super::DOCUMENTS;
use lifeboat_core::words::{Noun, count};
use std::collections::BTreeSet;
use std::time::Instant;

use async_trait::async_trait;
use lifeboat_core::progress::Event;
use lifeboat_core::{Check, Context, Error, ErrorKind, Proof, Replace, RestoreInput, Result, Target};
use serde::Deserialize;

use super::accounts;
use super::connection::Connection;
use super::content::Content;
use super::listing::{Listed, Look};
use super::load::{Load, Loaded, Opened, Place, Work};
use super::namespace::{Pattern, Renames};
use super::plan::{self, Account, Entry, Kind, Mapping};
use super::replay::{self, Applier, Replayed};
use super::swap::Swap;

/// The prefix of temporary collections, followed by eight hexadecimal digits, `_` and a number.
const TEMPORARY: &str = "lifeboat_restore_";

/// Options for restoring an archive.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct RestoreOptions {
    /// Replace what is there; it goes only after the restored data is known to be good. In a database that is not the job's own
    /// it is named again: --replace=NAME
    #[cfg_attr(
        feature = "cli",
        arg(
            long,
            value_name = "NAME",
            num_args = 0..=1,
            require_equals = true,
            default_missing_value = Replace::OWN,
            default_value = "",
            hide_default_value = true
        )
    )]
    pub replace: Replace,
    /// With --replace: keep what was there under another name
    #[cfg_attr(feature = "cli", arg(long, requires = "replace"))]
    pub keep_replaced: bool,
    /// How many connections insert at once; 0 means 4
    #[cfg_attr(feature = "cli", arg(long, value_name = "N", default_value_t = 0, hide_default_value = true))]
    pub jobs: usize,
    /// Do not compare the restored content with the proof
    #[cfg_attr(feature = "cli", arg(long))]
    pub skip_proof: bool,
    /// Only this collection, as in orders or shop.orders; may hold `*`, and may be given several times
    #[cfg_attr(feature = "cli", arg(long = "collection", value_name = "PATTERN"))]
    pub collections: Vec<String>,
    /// Rename collections: those that fit this pattern, as in 'shop.*' or '$db$.orders'; in pairs with --ns-to
    #[cfg_attr(feature = "cli", arg(long, value_name = "PATTERN"))]
    pub ns_from: Vec<String>,
    /// What they become, as in 'copy.*' or 'copy.$db$'
    #[cfg_attr(feature = "cli", arg(long, value_name = "PATTERN"))]
    pub ns_to: Vec<String>,
    /// Build no indexes except the one on _id
    #[cfg_attr(feature = "cli", arg(long))]
    pub no_indexes: bool,
    /// Do not replay what was written during the backup (of one with an oplog): collections are then as they were read, each at
    /// its own time
    #[cfg_attr(feature = "cli", arg(long))]
    pub no_oplog_replay: bool,
    /// Also restore users and roles: existing ones are reset to the backup, others stay
    #[cfg_attr(feature = "cli", arg(long))]
    pub users_and_roles: bool,
}

lifeboat_core::setters!(RestoreOptions {
    replace: Replace,
    keep_replaced: bool,
    jobs: usize,
    skip_proof: bool,
    collections: Vec<String>,
    ns_from: Vec<String>,
    ns_to: Vec<String>,
    no_indexes: bool,
    no_oplog_replay: bool,
    users_and_roles: bool,
});

/// Restores into a MongoDB deployment.
///
/// - The archive's collections are created under the temporary names `lifeboat_restore_<random>_<number>` in their
///   final databases, then filled, indexed, read back and compared. Only when the archive has been read to its end, all
///   its checksums are right and everything has been compared, they get their final names. Nothing existing is dropped
///   before.
/// - A connection that names a database restores the archive's only database into it; one that names none restores each
///   database under its own name. [`RestoreOptions::ns_from`] renames collections.
/// - A database that contains collections is refused; with [`RestoreOptions::replace`], the archive's collections
///   replace those with the same names. Others stay, and are named. If single collections are selected or renamed, only
///   those with the same name conflict.
/// - An oplog in the archive is replayed into the temporary collections after they have been compared, so that the
///   final collections are consistent. This also works with renamed and selected collections.
/// - Users and roles are restored with [`RestoreOptions::users_and_roles`]; a warning names those that were not.
///
/// A restore that fails before the last step leaves the deployment as it was (users and roles are merged just before
/// it). A killed process leaves temporary collections behind; the next restore names them.
#[derive(Clone, Debug)]
pub struct MongoTarget {
    connection: Connection,
    options: RestoreOptions,
    renames: Renames,
}

impl MongoTarget {
    /// Creates a target that restores into the deployment and database that the connection names.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for invalid pairs of renames.
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
        let oplog = entries.iter().position(|e| e.kind == Kind::Oplog).filter(|_| !self.options.no_oplog_replay);
        self.check_accounts(&entries)?;
        let mut checks = Vec::new();
        let existing = self.existing(&look, &entries, &mut checks).await?;
        self.check_free(&existing, &entries)?;
        if oplog.is_some() {
            Applier::try_out(&look).await?;
        }
        let stem = format!("{TEMPORARY}{}", random()?);
        let places = entries.iter().enumerate().map(|(number, entry)| {
            let db = match (&entry.into, entry.kind) {
                (_, Kind::Account(Account::Users | Account::Roles)) if self.options.users_and_roles => {
                    "admin".to_owned()
                }
                (_, Kind::View) | (None, _) => return None,
                (Some((db, _)), _) => db.clone(),
            };
            Some(Place { db, collection: format!("{stem}_{number}") })
        });
        let places = places.collect();
        let mut restore = Restore {
            look: &look,
            mapping: &mapping,
            stem: &stem,
            oplog,
            existing,
            work: Work { entries, places },
            checks,
            cx,
        };
        let loaded = match self.prepare(&mut restore, opened, input.proof.as_ref()).await {
            Ok(loaded) => loaded,
            Err(error) => {
                self.load(&restore, None).drop_all().await;
                return Err(error);
            }
        };
        self.take_names(&mut restore, &loaded).await?;
        let restored = restore.work.entries.iter().filter(|e| e.into.is_some()).count();
        let documents: u64 = loaded.tallies.iter().map(|t| t.inserted).sum();
        let figure = count(restored, "collection");
        let detail = format!("{} into {}", DOCUMENTS.count(documents), look.connection.redacted());
        restore.checks.insert(0, Check::pass("restored", figure, detail).took(begun.elapsed()));
        self.mention_the_rest(&mut restore, &loaded);
        Ok(restore.checks)
    }

    fn is_confidential(&self) -> bool {
        self.options.users_and_roles
    }
}

/// A restore in progress.
struct Restore<'a> {
    look: &'a Look,
    mapping: &'a Mapping,
    /// What its temporary collections are called, before their numbers.
    stem: &'a str,
    /// The entry of the oplog, where it is replayed.
    oplog: Option<usize>,
    /// What was there before.
    existing: Vec<Listed>,
    work: Work,
    checks: Vec<Check>,
    cx: &'a Context,
}

impl MongoTarget {
    /// The contents of the databases that are restored into, except leftovers of killed restores.
    async fn existing(&self, look: &Look, entries: &[Entry], checks: &mut Vec<Check>) -> Result<Vec<Listed>> {
        let databases: BTreeSet<&String> = entries.iter().filter_map(|e| e.into.as_ref()).map(|(db, _)| db).collect();
        let mut existing = Vec::new();
        for db in databases {
            existing.extend(look.collections(db, |name| !name.starts_with("system.") || name == "system.js").await?);
        }
        let (left, existing): (Vec<Listed>, Vec<Listed>) =
            existing.into_iter().partition(|l| l.name.starts_with(TEMPORARY));
        if let Some(first) = left.first() {
            let figure = count(left.len(), "collection");
            let detail = format!(
                "{} and the like were left by a killed restore, or belong to a running one; if none is running, drop them",
                first.full_name()
            );
            checks.push(Check::warn("left over", figure, detail));
        }
        Ok(existing)
    }

    fn check_free(&self, existing: &[Listed], entries: &[Entry]) -> Result<()> {
        if self.options.replace.is_given() {
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
            .hint("name another database in the URL, or give --replace: the collections are then restored beside the existing ones, and replace them once all of them are known to be good"))
    }

    /// Users and roles have the name of their database in them.
    fn check_accounts(&self, entries: &[Entry]) -> Result<()> {
        if !self.options.users_and_roles {
            return Ok(());
        }
        let wrong =
            |why: &str, hint: &str| Err(Error::new(ErrorKind::Config, "use", "--users-and-roles", why).hint(hint));
        let Some(account) = entries.iter().find(|e| matches!(e.kind, Kind::Account(_))) else {
            let hint = "a backup of one database holds them if it was made with --users-and-roles yes";
            return wrong("the archive holds no users and roles", hint);
        };
        let renamed = |e: &&Entry| e.into.as_ref().is_some_and(|(db, _)| *db != e.db);
        if account.db != "admin" && entries.iter().any(|e| renamed(&e)) {
            return wrong(
                &format!("they are users of the database {}, but it is restored under another name", account.db),
                "leave it out, and create the users by hand",
            );
        }
        Ok(())
    }

    fn load<'a>(&self, restore: &'a Restore<'_>, stop_before: Option<usize>) -> Load<'a> {
        Load {
            look: restore.look,
            entries: &restore.work.entries,
            places: &restore.work.places,
            plain_buckets: true,
            connections: self.options.jobs,
            stop_before,
            cx: restore.cx,
        }
    }

    /// Everything except the final renaming.
    async fn prepare(&self, restore: &mut Restore<'_>, mut opened: Opened, proof: Option<&Proof>) -> Result<Loaded> {
        let load = self.load(restore, restore.oplog);
        let mut loaded = load.fill(&mut opened).await?;
        if let Some(proof) = proof {
            same_as_proof(load.entries, &loaded.seen, proof, restore.oplog)?;
        }
        loaded.check(load.entries, restore.oplog.is_some())?;
        // Before indexes with a time to live can take anything away, and the oplog changes anything.
        if !self.options.skip_proof {
            let check = self.compare(&load, &loaded).await?;
            restore.checks.push(check);
        }
        if let Some(oplog) = restore.oplog {
            self.replay(restore, &mut opened, oplog, &mut loaded, proof).await?;
        }
        if !self.options.no_indexes {
            let notes = self.load(restore, None).index().await?;
            restore.checks.extend(notes.into_iter().map(|note| Check::warn("indexes", "other", note)));
        }
        if self.options.users_and_roles {
            let begun = Instant::now();
            accounts::merge(restore.look, &restore.work, &loaded).await?;
            self.drop_accounts(restore).await;
            let figure = format!("{} restored", accounts::count(&restore.work, &loaded));
            let detail = "existing ones are now as in the archive; others stay";
            restore.checks.push(Check::pass("users and roles", figure, detail).took(begun.elapsed()));
        }
        Ok(loaded)
    }

    async fn replay(
        &self,
        restore: &mut Restore<'_>,
        opened: &mut Opened,
        oplog: usize,
        loaded: &mut Loaded,
        proof: Option<&Proof>,
    ) -> Result<()> {
        let begun = Instant::now();
        let before = restore.work.entries.len();
        let settings = replay::Settings {
            look: restore.look,
            mapping: restore.mapping,
            stem: Some(restore.stem),
            plain_buckets: true,
            twice: loaded.twice(),
            cx: restore.cx,
        };
        let done = replay::replay(opened, oplog, settings, &mut restore.work).await?;
        let added = restore.work.entries.get(loaded.seen.len()..).unwrap_or_default();
        loaded.seen.extend(added.iter().map(|entry| Content::empty(entry.is_capped())).collect::<Vec<_>>());
        loaded.seen[oplog] = done.seen;
        if let Some(proof) = proof {
            same_as_proof(&restore.work.entries[..before], &loaded.seen, proof, None)?;
        }
        if restore.work.entries.len() > before {
            // Their names may be taken.
            restore.existing = self.existing(restore.look, &restore.work.entries, &mut Vec::new()).await?;
            self.check_free(&restore.existing, &restore.work.entries)?;
        }
        // What has to be copied is compared with what is there now.
        for (index, entry) in restore.work.entries.iter().enumerate() {
            if Swap::is_copied(entry)
                && let Some(content) = self.load(restore, None).read_one(index).await?
            {
                loaded.seen[index] = content;
            }
        }
        restore.checks.extend(check_of(&done, begun));
        Ok(())
    }

    /// Reads back everything and holds it against what came out of the archive.
    async fn compare(&self, load: &Load<'_>, loaded: &Loaded) -> Result<Check> {
        let begun = Instant::now();
        let found = load.read_back().await?;
        let mut compared = Content::default();
        for (index, (entry, found)) in load.entries.iter().zip(found).enumerate() {
            let (seen, tally) = (&loaded.seen[index], &loaded.tallies[index]);
            let Some(found) = found.map(|found| loaded.but_for_twice(index, found)) else { continue };
            if found != *seen {
                let why = match found.count == seen.count {
                    true => format!(
                        "{}, as in the archive, but with other content (fingerprint {} there, {} here)",
                        DOCUMENTS.count(seen.count),
                        seen.fingerprint,
                        found.fingerprint
                    ),
                    false => format!("{} in the archive, {} restored", DOCUMENTS.count(seen.count), found.count),
                };
                let hint = match tally.unsure {
                    0 => "the server changes documents that it receives; what was there before is untouched".to_owned(),
                    n => format!(
                        "{} with a Timestamp(0, 0) at the top, which this server replaces by the current time: restore into 8.0, 7.0.13, 6.0.17, 5.0.29 or later; what was there before is untouched",
                        DOCUMENTS.count(n)
                    ),
                };
                return Err(Error::new(ErrorKind::Mismatch, "restore", entry.shown(), why).hint(hint));
            }
            compared.count += found.count;
            compared.bytes += found.bytes;
        }
        let detail = "read back: every document equals the archive's, byte by byte";
        Ok(Check::pass("content", DOCUMENTS.count(compared.count), detail).took(begun.elapsed()))
    }

    async fn take_names(&self, restore: &mut Restore<'_>, loaded: &Loaded) -> Result<()> {
        let mut checks = std::mem::take(&mut restore.checks);
        let load = self.load(restore, None);
        let suffix = restore.stem.replace(TEMPORARY, "_lifeboat_replaced_");
        let swap = Swap {
            look: load.look,
            existing: &restore.existing,
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
            let placed = swap.one(entry, load.places[*index].as_ref(), loaded.seen[*index], &mut checks).await;
            if let Err(error) = placed {
                // Those that have not had their turn are whole; what they would replace is as well.
                let rest: Vec<Option<Place>> = order[done + 1..].iter().map(|i| load.places[*i].clone()).collect();
                Load { places: &rest, ..load }.drop_all().await;
                if !Swap::is_copied(entry) {
                    Load { places: &load.places[*index..=*index], ..load }.drop_all().await;
                }
                load.cx.progress.event(Event::Note(format!(
                    "{done} of {} collections had been replaced when this happened; the others are unchanged",
                    order.len()
                )));
                return Err(error);
            }
        }
        restore.checks = checks;
        Ok(())
    }

    /// Drops the collections that users and roles were merged from.
    async fn drop_accounts(&self, restore: &mut Restore<'_>) {
        let Work { entries, places } = &mut restore.work;
        let accounts = entries.iter().zip(places).filter(|(entry, _)| matches!(entry.kind, Kind::Account(_)));
        let places: Vec<Option<Place>> = accounts.map(|(_, place)| place.take()).collect();
        Load { places: &places, ..self.load(restore, None) }.drop_all().await;
    }

    fn mention_the_rest(&self, restore: &mut Restore<'_>, loaded: &Loaded) {
        let Restore { work: Work { entries, .. }, existing, checks, .. } = restore;
        let unsure: u64 = loaded.tallies.iter().map(|t| t.unsure).sum();
        if unsure > 0 && self.options.skip_proof {
            let detail = "documents with a Timestamp(0, 0) at the top, which this server may have replaced by the current time; this was not checked";
            checks.push(Check::warn("timestamps", unsure.to_string(), detail));
        }
        let count = |of: fn(Kind) -> bool| -> u64 {
            entries.iter().zip(&loaded.seen).filter(|(e, _)| of(e.kind)).map(|(_, seen)| seen.count).sum()
        };
        let accounts = count(|kind| matches!(kind, Kind::Account(Account::Users | Account::Roles)));
        if accounts > 0 && !self.options.users_and_roles {
            let advice = "they are in the archive but were not restored; --users-and-roles restores them (see the docs, \"Users and roles\")";
            checks.push(Check::warn("users and roles", format!("{accounts} not restored"), advice));
        }
        let written = count(|kind| kind == Kind::Oplog);
        if written > 0 && self.options.no_oplog_replay {
            let advice = "what was written during the backup is in the archive but was not replayed, as requested: the collections are not from the same time";
            checks.push(Check::warn("oplog", format!("{written} not replayed"), advice));
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
                format!("not in the archive, and left unchanged: {shown}"),
            ));
        }
    }
}

/// What a replay is told with.
pub(crate) fn check_of(done: &Replayed, begun: Instant) -> Vec<Check> {
    let mut detail = format!("replayed up to {}: the restored data is as of that time", done.until());
    if done.settled > 0 {
        detail += &format!("; {} that had been read twice: as in the oplog", DOCUMENTS.count(done.settled));
    }
    let mut checks =
        vec![Check::pass("oplog", Noun::new("change", "changes").count(done.applied), detail).took(begun.elapsed())];
    checks.extend(done.notes.iter().map(|note| Check::warn("oplog", "not all", note.clone())));
    checks
}

/// Checks that what came out of the stream matches the proof, except for one entry that follows later.
fn same_as_proof(entries: &[Entry], seen: &[Content], proof: &Proof, later: Option<usize>) -> Result<()> {
    for (index, (entry, seen)) in entries.iter().zip(seen).enumerate() {
        if later == Some(index) {
            continue;
        }
        let name = entry.shown();
        let data = |kind: &str| matches!(kind, "collection" | "time series" | "oplog");
        let Some(item) = proof.items.iter().find(|i| data(&i.kind) && i.name == name) else { continue };
        let order = |wanted: &String| seen.order.is_some_and(|order| order.text() == *wanted);
        let same = item.fingerprint.is_none_or(|f| f == seen.fingerprint) && item.value.as_ref().is_none_or(order);
        if item.count != seen.count || !same {
            let why = format!(
                "the archive holds {}, but {} went into it, or the content differs",
                DOCUMENTS.count(seen.count),
                item.count
            );
            return Err(Error::new(ErrorKind::Mismatch, "restore", name, why)
                .hint("the artifact does not match its manifest: use another one"));
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
