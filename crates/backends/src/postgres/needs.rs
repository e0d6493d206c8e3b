//! What an archive requires of the scratch server that it is restored into, and what is left out there.

use std::collections::{BTreeSet, HashSet};

use lifeboat_core::{Check, ErrorKind, Result};

use super::archive::{Toc, TocEntry, quote_ident, roles};
use super::connection::Connection;
use super::inventory::missing_extensions;
use super::scratch::Scratch;
use super::session::{Session, quote_literal};

/// Extensions whose library of the same name must be loaded at server start (`shared_preload_libraries`), in the order
/// of loading: citus must be first.
const PRELOADED: [&str; 19] = [
    "citus",
    "timescaledb",
    "pg_stat_statements",
    "pg_stat_kcache",
    "pg_qualstats",
    "pg_stat_monitor",
    "pg_wait_sampling",
    "pgaudit",
    "pg_cron",
    "pg_net",
    "pg_squeeze",
    "pg_tle",
    "pg_search",
    "pglogical",
    "set_user",
    "credcheck",
    "vchord",
    "vectors",
    "anon",
];

/// What a dump requires of the server that it is restored into.
#[derive(Clone, Debug, Default)]
pub(crate) struct Needs {
    /// Relations that one statement can lock at once, all of them together: a view over a table of 2,500 partitions locks
    /// each, with its indexes.
    relations: usize,
    /// Libraries to start with.
    libraries: Vec<&'static str>,
}

impl Needs {
    /// The requirements of an archive.
    pub(crate) fn of(toc: &Toc) -> Self {
        let kinds = ["TABLE", "INDEX", "CONSTRAINT", "SEQUENCE", "MATERIALIZED VIEW", "VIEW", "FOREIGN TABLE"];
        let extensions: HashSet<&[u8]> = toc.of_kind("EXTENSION").filter_map(|e| e.tag.as_deref()).collect();
        Self {
            relations: toc.entries.iter().filter(|entry| kinds.contains(&entry.kind())).count(),
            libraries: PRELOADED.into_iter().filter(|name| extensions.contains(name.as_bytes())).collect(),
        }
    }

    /// Whether libraries have to be loaded at the start.
    pub(super) fn has_libraries(&self) -> bool {
        !self.libraries.is_empty()
    }

    /// The same requirements without libraries, for a machine that lacks them.
    pub(super) fn without_libraries(&self) -> Self {
        Self { relations: self.relations, libraries: Vec::new() }
    }

    /// The settings (`name=value`) of a server with `connections` that meets the requirements.
    pub(super) fn settings(&self, connections: usize) -> Vec<String> {
        // The lock table has room for so many times the connections, and it is all one (`NLOCKENTS` in lock.c). An entry
        // takes some 300 bytes.
        let locks = 256 + self.relations / connections;
        let mut settings = vec![format!("max_locks_per_transaction={locks}")];
        if self.has_libraries() {
            settings.push(format!("shared_preload_libraries={}", self.libraries.join(",")));
        }
        if self.libraries.contains(&"pg_cron") {
            settings.push(format!("cron.database_name={}", super::scratch::DATABASE));
            settings.push("cron.launch_active_jobs=off".to_owned());
        }
        if self.libraries.contains(&"timescaledb") {
            // What its timescaledb_pre_restore() sets.
            settings.push("timescaledb.restoring=on".to_owned());
        }
        settings
    }
}

/// Makes the scratch server ready for an archive: its roles, so that owners and grants are restored as well. They are
/// superusers, as some of them were at the source: event triggers, foreign-data wrappers and subscriptions want such an
/// owner, and a materialized view is refreshed with its owner's rights. A check when the archive cannot be restored here.
pub(super) async fn prepare(scratch: &Scratch, database: &Connection, toc: &Toc) -> Result<Option<Check>> {
    let session = Session::open(scratch.connection()).await?;
    for role in roles(toc) {
        let there = session
            .value(&format!("SELECT 1 FROM pg_catalog.pg_roles WHERE rolname = {}", quote_literal(&role)))
            .await?;
        if there.is_none() && !role.starts_with("pg_") {
            session.execute(&format!("CREATE ROLE {} SUPERUSER", quote_ident(&role))).await?;
        }
    }
    match missing_extensions(toc, &Session::open(database).await?).await {
        Ok(()) => Ok(None),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Some(Check::untested_for("extensions", &error))),
        Err(error) => Err(error),
    }
}

/// What to leave out of an archive in a restore test.
pub(super) struct Left {
    /// What remains, for pg_restore's `--use-list`; `None` if that is everything.
    pub(super) list: Option<String>,
    /// The check that reports it.
    pub(super) checks: Vec<Check>,
}

/// Leaves out what a scratch server cannot restore: the schema that every database already has, and the content of
/// views that is computed from other servers.
pub(super) fn leave_out(toc: &Toc) -> Left {
    let mut checks = Vec::new();
    let remote = remote_views(toc);
    if !remote.is_empty() {
        let names: Vec<String> = remote.iter().filter_map(|i| Some(toc.entry(*i)?.label().into_owned())).collect();
        let detail = format!("they read foreign servers, which a restore test cannot reach: {}", names.join(", "));
        checks.push(Check::warn("materialized views", format!("{} not refreshed", names.len()), detail));
    }
    let spaces = tablespaces(toc);
    if !spaces.is_empty() {
        let names: Vec<String> = spaces.iter().cloned().collect();
        let detail = format!("everything is in one place in the scratch server, without {}", names.join(", "));
        checks.push(Check::pass("tablespaces", spaces.len().to_string(), detail));
    }
    let skip = |entry: &TocEntry| makes_schema(entry, "public") || remote.contains(&entry.dump_id);
    let list = toc.entries.iter().any(skip).then(|| list(toc, |entry| !skip(entry)));
    Left { list, checks }
}

/// The entries that are kept, for pg_restore's `--use-list`.
pub(super) fn list(toc: &Toc, keep: impl Fn(&TocEntry) -> bool) -> String {
    toc.entries.iter().filter(|entry| keep(entry)).map(|entry| format!("{};\n", entry.dump_id)).collect()
}

/// Whether an entry creates this schema. pg_dump includes even `public`, which every database has, if it was requested
/// by name (`selectDumpableNamespace` in pg_dump.c).
pub(super) fn makes_schema(entry: &TocEntry, name: &str) -> bool {
    entry.is("SCHEMA")
        && entry.tag.as_deref() == Some(name.as_bytes())
        && entry.defn.as_deref().is_some_and(|sql| sql.trim_ascii_start().starts_with(b"CREATE SCHEMA"))
}

/// The tablespaces that an archive names, except the two that every server has.
pub(super) fn tablespaces(toc: &Toc) -> BTreeSet<String> {
    let named = toc.entries.iter().filter_map(|entry| entry.tablespace.as_deref());
    let named = named.filter(|name| !name.is_empty() && !matches!(*name, b"pg_default" | b"pg_global"));
    named.map(|name| String::from_utf8_lossy(name).into_owned()).collect()
}

/// The numbers of the entries that fill materialized views from foreign tables, directly or not.
fn remote_views(toc: &Toc) -> Vec<i32> {
    let is_remote = |entry: &TocEntry| {
        let mut seen = HashSet::new();
        let mut open = entry.dependencies.clone();
        while let Some(id) = open.pop() {
            if !seen.insert(id) {
                continue;
            }
            let Some(needed) = toc.entry(id) else { continue };
            if needed.is("FOREIGN TABLE") {
                return true;
            }
            open.extend(&needed.dependencies);
        }
        false
    };
    toc.of_kind("MATERIALIZED VIEW DATA").filter(|entry| is_remote(entry)).map(|entry| entry.dump_id).collect()
}
