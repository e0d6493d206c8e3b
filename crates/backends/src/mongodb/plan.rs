//! Decides what to restore from an archive, and where, from its prelude and before anything is written.

use std::collections::{BTreeMap, BTreeSet};

use lifeboat_core::{Error, ErrorKind, Result};

use super::archive::{Metadata, Prelude};
use super::namespace::{Pattern, Renames};

/// The kind of an entry in the prelude.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Collection,
    View,
    Timeseries,
    /// Users, roles and their version: of the deployment, or of one database (`$admin.system.users`).
    Account(Account),
    /// What was written during the backup.
    Oplog,
}

/// What of users and roles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Account {
    Users,
    Roles,
    Version,
}

impl Account {
    fn of(collection: &str) -> Self {
        match collection.rsplit('.').next() {
            Some("users") => Self::Users,
            Some("roles") => Self::Roles,
            _ => Self::Version,
        }
    }
}

/// One entry of the prelude, and where it goes.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// Its database and name in the archive.
    pub(crate) db: String,
    pub(crate) collection: String,
    pub(crate) kind: Kind,
    pub(crate) metadata: Metadata,
    /// The database and collection that it becomes; `None` if it is not restored.
    pub(crate) into: Option<(String, String)>,
}

impl Entry {
    /// Its name in the archive.
    pub(crate) fn shown(&self) -> String {
        format!("{}.{}", self.db, self.collection)
    }

    /// The namespace of its documents in the source.
    pub(crate) fn source_name(&self) -> String {
        match self.collection.strip_prefix("$admin.") {
            Some(system) if matches!(self.kind, Kind::Account(_)) => format!("admin.{system}"),
            _ => self.shown(),
        }
    }

    /// Whether it is capped: then the order of its documents matters, and new ones displace old ones.
    pub(crate) fn is_capped(&self) -> bool {
        self.metadata.is_capped()
    }

    /// An option that is a boolean, a number or a text, as text.
    pub(crate) fn option(&self, name: &str) -> Option<bson::Bson> {
        let options = self.metadata.options.as_ref()?;
        let value = options.get(name).ok()??;
        bson::Bson::try_from(value.to_owned()).ok()
    }
}

/// Which collections of the archive are restored, and under which names.
#[derive(Clone, Debug, Default)]
pub(crate) struct Mapping {
    /// Only these; all if empty.
    pub(crate) only: Vec<Pattern>,
    pub(crate) renames: Renames,
    /// The database that the archive's only one becomes.
    pub(crate) database: Option<String>,
    /// For each database of the archive, its name in a restore test. Overrides everything else.
    pub(crate) databases: Option<BTreeMap<String, String>>,
}

/// Reads the prelude and decides.
///
/// # Errors
/// [`ErrorKind::Corrupt`] for metadata that cannot be read; [`ErrorKind::Config`] when two collections would become one, or
/// several databases go into one that is named, or a choice fits nothing.
pub(crate) fn plan(prelude: &Prelude, mapping: &Mapping) -> Result<Vec<Entry>> {
    let mut entries = Vec::with_capacity(prelude.collections.len());
    for listed in &prelude.collections {
        let kind = match listed.place() {
            super::archive::Place::First => Kind::Account(Account::of(&listed.collection)),
            super::archive::Place::Last => Kind::Oplog,
            super::archive::Place::Middle if listed.is_view() => Kind::View,
            super::archive::Place::Middle if listed.is_timeseries() => Kind::Timeseries,
            super::archive::Place::Middle => Kind::Collection,
        };
        entries.push(Entry {
            db: listed.db.clone(),
            collection: listed.collection.clone(),
            kind,
            metadata: listed.metadata()?.unwrap_or_default(),
            into: None,
        });
    }
    let databases: BTreeSet<String> = entries.iter().filter(|e| is_data(e)).map(|e| e.db.clone()).collect();
    if let (Some(one), true, None) = (&mapping.database, mapping.renames.is_empty(), &mapping.databases)
        && databases.len() > 1
    {
        let names: Vec<&str> = databases.iter().map(String::as_str).collect();
        let why = format!("the archive holds {} databases: {}", names.len(), names.join(", "));
        return Err(Error::new(ErrorKind::Config, "restore into", one, why)
            .hint("leave the database out of the URL to restore each under its own name, or map them with --ns-from 'a.*' --ns-to 'b.*'"));
    }
    for entry in &mut entries {
        entry.into = is_data(entry).then(|| place_of(entry, mapping)).flatten();
    }
    check_distinct(&entries)?;
    if !mapping.only.is_empty() && entries.iter().all(|e| e.into.is_none()) {
        let held: Vec<String> = entries.iter().filter(|e| is_data(e)).map(Entry::shown).take(20).collect();
        return Err(Error::new(
            ErrorKind::NotFound,
            "restore",
            "the chosen collections",
            "the archive holds none of them",
        )
        .hint(format!("it holds {}", held.join(", "))));
    }
    Ok(entries)
}

/// Whether an entry is a collection of somebody's, and not of the server.
pub(crate) fn is_data(entry: &Entry) -> bool {
    !matches!(entry.kind, Kind::Account(_) | Kind::Oplog) && entry.db != "config"
}

/// The database and collection that an entry becomes; `None` if it was not selected.
pub(crate) fn place_of(entry: &Entry, mapping: &Mapping) -> Option<(String, String)> {
    let shown = entry.shown();
    // A name without a database's is of whichever there is.
    let chosen =
        mapping.only.is_empty() || mapping.only.iter().any(|p| p.matches(&shown) || p.matches(&entry.collection));
    if !chosen {
        return None;
    }
    if let Some(databases) = &mapping.databases {
        return databases.get(&entry.db).map(|db| (db.clone(), entry.collection.clone()));
    }
    if let Some(renamed) = mapping.renames.apply(&shown) {
        let (db, collection) = renamed.split_once('.')?;
        return Some((db.to_owned(), collection.to_owned()));
    }
    let db = match &mapping.database {
        Some(db) if mapping.renames.is_empty() => db.clone(),
        _ => entry.db.clone(),
    };
    Some((db, entry.collection.clone()))
}

fn check_distinct(entries: &[Entry]) -> Result<()> {
    let mut seen: BTreeMap<&(String, String), &Entry> = BTreeMap::new();
    for entry in entries {
        let Some(into) = &entry.into else { continue };
        if let Some(other) = seen.insert(into, entry) {
            let subject = format!("{} and {}", other.shown(), entry.shown());
            return Err(Error::new(
                ErrorKind::Config,
                "rename",
                subject,
                format!("both would become {}.{}", into.0, into.1),
            ));
        }
    }
    Ok(())
}
