//! The target: restores an archive into a live server.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Instant;

use async_trait::async_trait;
use bytes::Bytes;
use lifeboat_core::progress::Event;
use lifeboat_core::{Check, Context, Error, ErrorKind, Proof, Replace, RestoreInput, Result, Target};
use serde::Deserialize;

use super::archive::{Toc, TocEntry, Wanted, quote_ident, select};
use super::collation;
use super::connection::Connection;
use super::content;
use super::create::{Locale, create};
use super::dump::Look;
use super::globals;
use super::inventory::{first_object, is_there, missing_extensions, missing_tablespaces, relation_is_there};
use super::load::{Dump, Load};
use super::needs;
use super::own::{self, Purpose};
use super::ownership::{self, Kept, Roles};
use super::script;
use super::script::run::{Done, Rules};
use super::session::{Session, quote_literal};
use super::settings::Settings;
use super::swap::{self, Swap};
use super::tools;
use crate::child::Ended;

/// Options for restoring an archive.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct RestoreOptions {
    /// Replace the database that is there; it goes only after the restored data is known to be good. One that is not the job's
    /// own is named again: --replace=NAME
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
    /// How many jobs of pg_restore work at once; more than 1 writes the dump to an unnamed file first
    #[cfg_attr(feature = "cli", arg(long, value_name = "N", default_value_t = 0, hide_default_value = true))]
    pub jobs: usize,
    /// Only this table, as in orders or public.orders; may be given several times
    #[cfg_attr(feature = "cli", arg(long = "table", value_name = "TABLE"))]
    pub tables: Vec<String>,
    /// Only this schema; may be given several times
    #[cfg_attr(feature = "cli", arg(long = "schema", value_name = "SCHEMA"))]
    pub schemas: Vec<String>,
    /// Everything belongs to the connecting role; without it, owners are kept where the server has the roles
    #[cfg_attr(feature = "cli", arg(long, visible_alias = "no-owner"))]
    pub no_owners: bool,
    /// Leave out grants; without it, they are kept where the server has the roles
    #[cfg_attr(feature = "cli", arg(long))]
    pub no_privileges: bool,
    /// Owners are kept without it: accepted so that scripts keep working
    #[cfg_attr(feature = "cli", arg(long, hide = true, conflicts_with = "no_owners"))]
    pub keep_owners: bool,
    /// Do not compare the restored content with the proof
    #[cfg_attr(feature = "cli", arg(long))]
    pub skip_proof: bool,
    /// Where the dump is spooled when a seekable file is needed; without it, the system's temporary folder
    #[cfg_attr(feature = "cli", arg(long, value_name = "FOLDER"))]
    pub spool_folder: Option<PathBuf>,
}

lifeboat_core::setters!(RestoreOptions {
    replace: Replace,
    keep_replaced: bool,
    jobs: usize,
    tables: Vec<String>,
    schemas: Vec<String>,
    no_owners: bool,
    no_privileges: bool,
    keep_owners: bool,
    skip_proof: bool,
    spool_folder: Option<PathBuf>,
});

impl RestoreOptions {
    fn is_whole(&self) -> bool {
        self.tables.is_empty() && self.schemas.is_empty()
    }
}

/// Restores into a database of a PostgreSQL server.
///
/// - A database that does not exist is created under the temporary name `<name>_lifeboat_<random>`, filled, compared
///   with the proof, and then renamed.
/// - An existing empty database is replaced in the same way if the role may create databases and nobody is connected to
///   it; otherwise it is filled in one transaction, and compared after that.
/// - A database that is not empty is refused, or with [`RestoreOptions::replace`] replaced by renaming at the very end.
/// - Selected tables or schemas are restored into an existing database in one transaction, and existing tables are
///   refused; if the database does not exist, it is created.
///
/// Owners and privileges are kept if the server has the roles; a check reports what is not kept. A new database gets
/// the owner, privileges and settings of the source's database; one that replaces another keeps those of the replaced
/// one.
///
/// A failed restore leaves the server as it was. Only a killed process leaves the temporary database behind: the next
/// restore into the same database drops it.
#[derive(Clone, Debug)]
pub struct PostgresTarget {
    connection: Connection,
    options: RestoreOptions,
    globals: bool,
}

impl PostgresTarget {
    /// Creates a target that restores into the database that the connection names.
    pub fn new(connection: Connection, options: RestoreOptions) -> Self {
        Self { connection, options, globals: false }
    }

    /// Sets whether artifacts whose names do not state a format contain a server's roles instead of a database.
    #[must_use]
    pub fn globals(self, globals: bool) -> Self {
        Self { globals, ..self }
    }
}

/// How to restore the archive, decided before anything is written.
enum Place {
    /// Restores directly into the database, in one transaction, and compares with the proof only after that.
    Inside,
    /// Restores into a new database, which then takes the name; `replaced` is whether one of this name exists.
    Beside { replaced: bool },
}

/// The properties of a new database that replaces none.
struct Like<'a> {
    encoding: Option<String>,
    settings: &'a Settings,
    owner: Option<String>,
}

/// What is known about the server when a database is filled.
struct Way<'a> {
    maintenance: &'a Look,
    roles: &'a Roles,
    place: &'a Place,
}

#[async_trait]
impl Target for PostgresTarget {
    async fn restore(&self, input: RestoreInput, cx: &Context) -> Result<Vec<Check>> {
        if super::format_of(&input.name, self.globals) == "globals.sql" {
            return globals::restore(&self.connection, input, cx).await;
        }
        let (maintenance, server) = self.maintenance().await?;
        // From here on all sessions are with the server that answered.
        let connection = server.with_database(&self.connection.database);
        Self { connection, ..self.clone() }.restore_at(maintenance, server, input, cx).await
    }
}

impl PostgresTarget {
    async fn restore_at(
        &self,
        maintenance: Look,
        server: Connection,
        input: RestoreInput,
        cx: &Context,
    ) -> Result<Vec<Check>> {
        maintenance.session.not_bent()?;
        let mut checks = swap::sweep(&maintenance.session, &self.connection.database).await?;
        let place = self.place(&maintenance.session).await?;
        if let Place::Beside { replaced: true } = place {
            let limit = std::time::Duration::from_secs(5);
            swap::no_prepared_transactions(&maintenance.session, &self.connection.database, limit, cx).await?;
        }
        let begun = Instant::now();
        let dump = Dump::open(input.stream).await?;
        let roles = Roles::ask(&maintenance.session, !self.options.no_owners, !self.options.no_privileges).await?;
        let way = Way { maintenance: &maintenance, roles: &roles, place: &place };
        match place {
            Place::Inside => {
                self.fill(&self.connection, dump, &way, &mut checks, cx).await?;
                self.prove(&self.connection, true, input.proof.as_ref(), &mut checks, cx).await?;
            }
            Place::Beside { replaced } => {
                let temporary = self.connection.with_database(self.temporary_name()?);
                let settings = input.proof.as_ref().map(Settings::load).unwrap_or_default().or(&dump);
                let name = &self.connection.database;
                swap::claim(&maintenance.session, &temporary.database).await?;
                let toc = dump.toc();
                let filled = async {
                    // From here on, the temporary database may exist, even if the response was lost.
                    let owner = toc.as_deref().and_then(|toc| roles.database_owner(toc));
                    let like = Like { encoding: encoding_of(&dump), settings: &settings, owner };
                    self.create(&maintenance, &temporary.database, replaced, &like, &mut checks).await?;
                    if replaced {
                        // Before the restore: settings that are not allowed are better reported now than after an hour.
                        copy_database_settings(&maintenance.session, name, &temporary.database).await?;
                    }
                    self.fill(&temporary, dump, &way, &mut checks, cx).await?;
                    self.prove(&temporary, false, input.proof.as_ref(), &mut checks, cx).await?;
                    if !replaced {
                        // Before the rename, so that nobody can connect who was not allowed to.
                        if let Some(toc) = &toc {
                            checks.extend(ownership::dress(toc, &roles, &server, &temporary.database).await?);
                        }
                        return swap::name_new(&server, &temporary.database, name).await;
                    }
                    let keep_replaced = self.options.keep_replaced;
                    let swap = Swap { server: &server, name, temporary: &temporary.database, keep_replaced };
                    checks.extend(swap.run(cx).await?);
                    Ok(())
                };
                if let Err(error) = filled.await {
                    drop(maintenance);
                    swap::discard(&server, &temporary.database).await;
                    return Err(error);
                }
            }
        }
        let seconds = begun.elapsed();
        checks.insert(
            0,
            Check::pass("restored", self.connection.database.clone(), format!("into {}", self.connection.redacted()))
                .took(seconds),
        );
        Ok(checks)
    }

    /// A session with a database of the server other than the target, and its connection: `postgres` or `template1`, or
    /// any that the role may connect to.
    async fn maintenance(&self) -> Result<(Look, Connection)> {
        let mut last = None;
        // The last is libpq's default.
        for database in ["postgres", "template1", &*self.connection.user] {
            if database == self.connection.database {
                continue;
            }
            let server = self.connection.with_database(database);
            match Look::at(&server).await {
                Ok(look) => return Ok(at_its_server(look)),
                Err(error)
                    if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Permission | ErrorKind::Refused) =>
                {
                    last = Some(error);
                }
                Err(error) => return Err(error),
            }
        }
        let failed = last.unwrap_or_else(|| {
            Error::new(
                ErrorKind::NotFound,
                "restore into",
                self.connection.redacted(),
                "the server has neither a database postgres nor template1",
            )
        });
        // Only the target's own database can tell which others exist.
        let Ok(inside) = Session::open(&self.connection).await else { return Err(failed) };
        let connection = inside.connection().clone();
        let others =
            "SELECT datname FROM pg_catalog.pg_database WHERE datallowconn AND datname <> pg_catalog.current_database()
            AND pg_catalog.has_database_privilege(oid, 'CONNECT') ORDER BY datname LIMIT 20";
        for row in inside.rows(others).await? {
            let Some(database) = row.into_iter().next().flatten() else { continue };
            let server = connection.with_database(database);
            if let Ok(look) = Look::at(&server).await {
                return Ok(at_its_server(look));
            }
        }
        Err(failed)
    }

    async fn place(&self, maintenance: &Session) -> Result<Place> {
        let name = &self.connection.database;
        let exists = format!("SELECT 1 FROM pg_catalog.pg_database WHERE datname = {}", quote_literal(name));
        if maintenance.value(&exists).await?.is_none() {
            return Ok(Place::Beside { replaced: false });
        }
        let inside = Session::open(&self.connection).await?;
        if !self.options.is_whole() {
            return Ok(Place::Inside);
        }
        let found = match first_object(&inside).await {
            // It is not empty, which is all that matters.
            Err(error) if error.kind() == ErrorKind::Unsupported && self.options.replace.is_given() => {
                Some(String::new())
            }
            found => found?,
        };
        let Some(found) = found else {
            // Beside is safer: what is not as it must be then never gets the name. It takes the right to make databases, and
            // nobody who is in there.
            let sql = format!(
                "SELECT 1 FROM pg_catalog.pg_roles me, pg_catalog.pg_database d WHERE me.rolname = current_user AND d.datname = {0}
                   AND (me.rolsuper OR (me.rolcreatedb AND d.datdba = me.oid))
                   AND NOT EXISTS (SELECT FROM pg_catalog.pg_stat_activity WHERE datname = {0} AND pid <> pg_catalog.pg_backend_pid())",
                quote_literal(name)
            );
            drop(inside);
            let beside = maintenance.value(&sql).await?.is_some();
            return Ok(if beside { Place::Beside { replaced: true } } else { Place::Inside });
        };
        if self.options.replace.is_given() {
            return Ok(Place::Beside { replaced: true });
        }
        Err(Error::new(ErrorKind::Refused, "restore into", self.connection.redacted(), format!("the database is not empty: it holds {found}"))
            .hint("name a database that does not exist yet, or give --replace: the backup is then restored beside it, and takes its place once it is known to be good"))
    }

    fn temporary_name(&self) -> Result<String> {
        let mut random = [0; 4];
        getrandom::fill(&mut random)
            .map_err(|e| Error::new(ErrorKind::Io, "make", "a name", format!("no random numbers: {e}")))?;
        let stem = swap::shortened(&self.connection.database, swap::STEM, true);
        Ok(format!("{stem}_lifeboat_{}", hex::encode(random)))
    }

    /// Creates the temporary database, like the one it replaces, or else like the source.
    async fn create(
        &self,
        maintenance: &Look,
        temporary: &str,
        replaced: bool,
        source: &Like<'_>,
        checks: &mut Vec<Check>,
    ) -> Result<()> {
        let session = &maintenance.session;
        let major = maintenance.major;
        let may_not_create = |error: Error| {
            let user = &self.connection.user;
            error.hint(format!("role {user} needs CREATEDB, or an empty database created for it beforehand"))
        };
        if replaced {
            let like = format!(
                "SELECT pg_catalog.pg_encoding_to_char(encoding), pg_catalog.pg_get_userbyid(datdba), datconnlimit::text, {}
                 FROM pg_catalog.pg_database WHERE datname = {}",
                Locale::columns(major),
                quote_literal(&self.connection.database)
            );
            let row = session.rows(&like).await?.into_iter().next().unwrap_or_default();
            let [Some(encoding), Some(owner), Some(limit), locale @ ..] = &row[..] else {
                return Err(Error::new(
                    ErrorKind::NotFound,
                    "replace",
                    &self.connection.database,
                    "the database has gone",
                ));
            };
            let rest = format!(" OWNER {} CONNECTION LIMIT {limit}", quote_ident(owner));
            let options = Locale::of(locale).options(major) + &rest;
            return session.execute(&create(temporary, Some(encoding), &options)).await;
        }
        let encoding = source.encoding.as_deref();
        let locale = &source.settings.locale;
        let owner = source.owner.as_ref().map(|owner| format!(" OWNER {}", quote_ident(owner))).unwrap_or_default();
        if locale.collate.is_some() {
            match session.execute(&create(temporary, encoding, &(locale.options(major) + &owner))).await {
                Ok(()) if locale.is_known_to(major) => return Ok(()),
                Ok(()) => {
                    let why = format!("PostgreSQL {major} does not know it: text may sort differently");
                    checks.push(Check::warn("locale", locale.label(), why));
                    return Ok(());
                }
                Err(error) if error.kind() == ErrorKind::Permission => return Err(may_not_create(error)),
                Err(error) => {
                    let why = format!("the source's locale is not available: {}", error.message());
                    checks.push(Check::warn("locale", locale.label(), why));
                }
            }
        }
        match session.execute(&create(temporary, encoding, &owner)).await {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == ErrorKind::Permission => Err(may_not_create(error)),
            // The server's default locale may not support the encoding; C supports all.
            Err(_) => {
                let options = format!(" LC_COLLATE 'C' LC_CTYPE 'C'{owner}");
                session.execute(&create(temporary, encoding, &options)).await
            }
        }
    }

    async fn fill(
        &self,
        into: &Connection,
        dump: Dump,
        way: &Way<'_>,
        checks: &mut Vec<Check>,
        cx: &Context,
    ) -> Result<()> {
        let one_transaction = matches!(way.place, Place::Inside);
        let ended = match dump {
            Dump::Archive { toc, head, rest } => {
                let inside = Session::open(into).await?;
                let (list, head) = self.choose(&toc, head, &inside, way, checks, cx).await?;
                let elsewhere = missing_tablespaces(&toc, &inside).await?;
                let major = way.maintenance.major.max(oldest_reader(toc.header.version.1));
                let tools = tools::at_least("pg_restore", major).await?;
                let mut arguments = vec!["--exit-on-error"];
                if self.options.no_owners {
                    arguments.push("--no-owner");
                }
                if self.options.no_privileges {
                    arguments.push("--no-privileges");
                }
                let jobs = if one_transaction { 1 } else { self.options.jobs };
                if one_transaction {
                    arguments.push("--single-transaction");
                }
                if let Some(check) = elsewhere {
                    checks.push(check);
                    arguments.push("--no-tablespaces");
                }
                let options = own::for_program(&inside, Purpose::Restore).await?;
                drop(inside);
                let load = Load {
                    connection: into,
                    tools: &tools,
                    jobs,
                    spool_folder: self.options.spool_folder.clone(),
                    list,
                    arguments,
                    options,
                    confinement: None,
                    cx,
                };
                load.archive(head, rest).await?
            }
            Dump::Sql { stream, .. } => {
                if !self.options.is_whole() {
                    return Err(Error::new(
                        ErrorKind::Unsupported,
                        "restore",
                        "single tables",
                        "the artifact is plain SQL, which has no table of contents",
                    )
                    .hint("restore it whole into a separate database, and copy from there"));
                }
                let rules = Rules {
                    one_transaction,
                    without_owners: self.options.no_owners,
                    without_privileges: self.options.no_privileges,
                };
                let done = script::run::run(stream, into, rules, cx).await.map_err(|e| self.explain_script(e))?;
                checks.extend(left_out(&done));
                return Ok(());
            }
        };
        for warning in ended.warnings() {
            checks.push(Check::warn("pg_restore", "warning", warning));
        }
        if ended.status.success() { Ok(()) } else { Err(explain(&ended, into)) }
    }

    /// Adds a hint to an error of plain SQL.
    fn explain_script(&self, error: Error) -> Error {
        if error.advice().is_some() {
            return error;
        }
        match error.kind() {
            ErrorKind::Permission => error.hint(format!(
                "role {} is not allowed to create some of the objects, or to give them to their owners: restore as a superuser, or with --no-owners",
                self.connection.user
            )),
            _ => error.hint("nothing was replaced"),
        }
    }

    /// The entries to restore, as a list for pg_restore, those that cannot be restored, and the archive's head with the
    /// owners and grants that are kept.
    async fn choose(
        &self,
        toc: &Toc,
        head: Bytes,
        inside: &Session,
        way: &Way<'_>,
        checks: &mut Vec<Check>,
        cx: &Context,
    ) -> Result<(Option<String>, Bytes)> {
        missing_extensions(toc, inside).await?;
        let selection = if self.options.is_whole() {
            None
        } else {
            let (tables, schemas) = (self.options.tables.clone(), self.options.schemas.clone());
            let mut wanted = Wanted { tables, schemas, ..Wanted::default() };
            let mut selection = select(toc, &wanted)?;
            for id in &selection.read {
                let Some(entry) = toc.entry(*id) else { continue };
                if relation_is_there(inside, entry).await? {
                    wanted.present.insert(*id);
                }
            }
            if !wanted.present.is_empty() {
                selection = select(toc, &wanted)?;
            }
            let mut taken = Vec::new();
            for id in selection.ids.clone() {
                let Some(entry) = toc.entry(id) else { continue };
                let name = super::archive::quote_qualified(
                    entry.namespace.as_deref(),
                    entry.tag.as_deref().unwrap_or_default(),
                );
                let there = match entry.kind() {
                    "TABLE" | "VIEW" | "MATERIALIZED VIEW" | "SEQUENCE" | "FOREIGN TABLE" => {
                        relation_is_there(inside, entry).await?
                    }
                    "TYPE" | "DOMAIN" => inside
                        .value(&format!("SELECT pg_catalog.to_regtype({})", quote_literal(&name)))
                        .await?
                        .is_some(),
                    "SCHEMA" => is_there(inside, &entry.label()).await?,
                    "EXTENSION" => {
                        let sql = format!(
                            "SELECT 1 FROM pg_catalog.pg_extension WHERE extname = {}",
                            quote_literal(&entry.label())
                        );
                        inside.value(&sql).await?.is_some()
                    }
                    _ => false,
                };
                if there && selection.chosen.contains(&id) && entry.kind() != "SCHEMA" {
                    taken.push(name);
                } else if there {
                    // Entries that are only needed by a chosen one, and already exist.
                    selection.ids.remove(&id);
                }
            }
            if !taken.is_empty() {
                return Err(Error::new(
                    ErrorKind::Refused,
                    "restore into",
                    self.connection.redacted(),
                    format!("it already has {}", taken.join(", ")),
                )
                .hint("restore into a separate database and copy from there, or rename or drop what is there"));
            }
            let named = |ids: &BTreeSet<i32>, kinds: &[&str]| -> Vec<String> {
                let restored = ids.iter().filter(|id| selection.ids.contains(id)).filter_map(|id| toc.entry(*id));
                restored.filter(|entry| kinds.contains(&entry.kind())).map(|entry| entry.label().into_owned()).collect()
            };
            let read = named(&selection.read, &["TABLE", "MATERIALIZED VIEW", "FOREIGN TABLE"]);
            if !read.is_empty() {
                let detail = format!("{}: a materialized view is computed from them", read.join(", "));
                checks.push(Check::pass("restored too", read.len().to_string(), detail));
            }
            let bare = named(&selection.bare, &["TABLE", "MATERIALIZED VIEW"]);
            if !bare.is_empty() {
                let detail = format!(
                    "{}: the selection needs their definitions, but their rows were not restored; name them too to restore the rows",
                    bare.join(", ")
                );
                checks.push(Check::warn("empty", bare.len().to_string(), detail));
            }
            for id in &selection.left_out {
                if let Some(entry) = toc.entry(*id) {
                    let detail = format!("{} {} needs something that was not selected", entry.kind(), entry.label());
                    checks.push(Check::warn("left out", entry.label(), detail));
                }
            }
            Some(selection)
        };
        let whole = matches!(way.place, Place::Beside { replaced: false });
        let restored = |id: i32| selection.as_ref().is_none_or(|selection| selection.ids.contains(&id));
        let kept = Kept::decide(toc, &head, way.roles, inside, whole, restored).await?;
        for check in kept.checks(way.roles) {
            // Known before anything is loaded or replaced: better said now than after an hour.
            cx.progress.event(Event::Note(format!("{}: {}: {}", check.name, check.figure, check.detail)));
            checks.push(check);
        }
        let head = kept.apply(toc, head)?;
        let skip = |id: i32| kept.left_out.contains(&id);
        match selection {
            Some(mut selection) => {
                selection.ids.retain(|id| !skip(*id));
                Ok((Some(selection.list(toc)), head))
            }
            None => {
                let public = match toc.entries.iter().find(|entry| needs::makes_schema(entry, "public")) {
                    Some(entry) if is_there(inside, "public").await? => {
                        self.own_public(entry, inside, way, &kept).await?;
                        Some(entry.dump_id)
                    }
                    _ => None,
                };
                let restored = |entry: &TocEntry| !skip(entry.dump_id) && Some(entry.dump_id) != public;
                Ok(((!toc.entries.iter().all(restored)).then(|| needs::list(toc, restored)), head))
            }
        }
    }

    /// Restores the owner of the existing schema `public`, if owners are kept. A database that is filled in one
    /// transaction keeps its own owner: a failed restore must have changed nothing.
    async fn own_public(&self, entry: &TocEntry, inside: &Session, way: &Way<'_>, kept: &Kept) -> Result<()> {
        let owner = String::from_utf8_lossy(entry.owner.as_deref().unwrap_or_default());
        let one_transaction = matches!(way.place, Place::Inside);
        if self.options.no_owners || one_transaction || owner.is_empty() || !kept.keeps_owner(entry) {
            return Ok(());
        }
        inside.execute(&format!("ALTER SCHEMA public OWNER TO {}", quote_ident(&owner))).await
    }

    /// Compares what was restored with the proof, and updates the planner's statistics.
    async fn prove(
        &self,
        restored: &Connection,
        inside: bool,
        proof: Option<&Proof>,
        checks: &mut Vec<Check>,
        cx: &Context,
    ) -> Result<()> {
        let begun = Instant::now();
        match proof {
            Some(_) if self.options.skip_proof => checks.push(Check::warn("content", "not compared", "as asked")),
            Some(proof) if self.options.is_whole() => {
                cx.progress.event(Event::Note("comparing the restored content with the proof".to_owned()));
                let compared = content::compare(restored, proof, false, self.options.jobs.max(2), cx).await?;
                let hint = match inside {
                    true => {
                        "the restored content is in the database and must not be used; `lifeboat verify` tests the artifact in a scratch server"
                    }
                    false => "nothing was replaced; `lifeboat verify` tests the artifact in a scratch server",
                };
                if let Some(bad) = compared.iter().find(|c| c.status == lifeboat_core::Status::Fail) {
                    return Err(Error::new(
                        ErrorKind::Mismatch,
                        "restore into",
                        self.connection.redacted(),
                        format!("the restored content is not what was backed up: {}: {}", bad.name, bad.detail),
                    )
                    .hint(hint));
                }
                checks.extend(compared.into_iter().map(|c| c.took(begun.elapsed())));
            }
            Some(_) => checks.push(Check::warn(
                "content",
                "not compared",
                "only a part was restored, but the proof covers the whole",
            )),
            None => checks.push(Check::warn("content", "not compared", "the artifact has no proof: it is foreign")),
        }
        let begun = Instant::now();
        let session = Session::open(restored).await?;
        if let Some(proof) = proof {
            let here = collation::versions(&session, session.major()).await;
            checks.extend(collation::difference(&Settings::load(proof).collations, &here));
        }
        // A proven restore is not discarded because of the planner.
        checks.push(match session.execute("ANALYZE").await {
            Ok(()) => {
                Check::pass("statistics", "ANALYZE", "the planner's statistics are up to date").took(begun.elapsed())
            }
            Err(error) => {
                let detail =
                    format!("run ANALYZE in the restored database, because it failed here: {}", error.message());
                Check::warn("statistics", "not made", detail)
            }
        });
        Ok(())
    }
}

/// The result of an inspection, and the connection to the inspected server.
fn at_its_server(look: Look) -> (Look, Connection) {
    let server = look.session.connection().clone();
    (look, server)
}

/// The oldest major version of pg_restore that reads archives of version 1.`minor` (reference: K_VERS_* in
/// pg_backup_archiver.h).
fn oldest_reader(minor: u8) -> u32 {
    match minor {
        0..=13 => 0,
        14 => 12,
        15 => 16,
        _ => 17,
    }
}

fn encoding_of(dump: &Dump) -> Option<String> {
    match dump {
        Dump::Archive { toc, .. } => toc.encoding().map(std::borrow::Cow::into_owned),
        Dump::Sql { start, .. } => super::load::encoding_in_text(start),
    }
}

/// Settings of a database (`ALTER DATABASE … SET`) are not in its dump, and must not get lost in the rename.
async fn copy_database_settings(session: &Session, from: &str, to: &str) -> Result<()> {
    let sql = format!(
        "SELECT r.rolname, pg_catalog.split_part(c.setting, '=', 1), pg_catalog.substr(c.setting, pg_catalog.strpos(c.setting, '=') + 1)
         FROM pg_catalog.pg_db_role_setting s JOIN pg_catalog.pg_database d ON d.oid = s.setdatabase
         LEFT JOIN pg_catalog.pg_roles r ON r.oid = s.setrole, pg_catalog.unnest(s.setconfig) c(setting) WHERE d.datname = {}",
        quote_literal(from)
    );
    for row in session.rows(&sql).await? {
        let [role, Some(name), Some(value)] = &row[..] else { continue };
        let whose = match role {
            Some(role) => format!("ROLE {} IN DATABASE {}", quote_ident(role), quote_ident(to)),
            None => format!("DATABASE {}", quote_ident(to)),
        };
        // Lists (search_path) are stored as they are written in SQL; everything else is one literal.
        let value = if LIST_SETTINGS.contains(&&**name) { value.clone() } else { quote_literal(value) };
        session.execute(&format!("ALTER {whose} SET {} = {value}", quote_ident(name))).await?;
    }
    let comment = format!(
        "SELECT pg_catalog.shobj_description(oid, 'pg_database') FROM pg_catalog.pg_database WHERE datname = {}",
        quote_literal(from)
    );
    if let Some(comment) = session.value(&comment).await? {
        session.execute(&format!("COMMENT ON DATABASE {} IS {}", quote_ident(to), quote_literal(&comment))).await?;
    }
    let acl = format!(
        "SELECT CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(a.grantee)) END, a.privilege_type, a.is_grantable
         FROM pg_catalog.pg_database d, pg_catalog.aclexplode(d.datacl) a WHERE d.datname = {}",
        quote_literal(from)
    );
    let grants = session.rows(&acl).await?;
    if !grants.is_empty() {
        session.execute(&format!("REVOKE ALL ON DATABASE {} FROM PUBLIC", quote_ident(to))).await?;
    }
    for row in grants {
        let [Some(grantee), Some(privilege), grantable] = &row[..] else { continue };
        let option = if grantable.as_deref() == Some("t") { " WITH GRANT OPTION" } else { "" };
        session.execute(&format!("GRANT {privilege} ON DATABASE {} TO {grantee}{option}", quote_ident(to))).await?;
    }
    Ok(())
}

/// Settings whose values are lists of names (GUC_LIST_QUOTE in guc_tables.c).
const LIST_SETTINGS: [&str; 6] = [
    "search_path",
    "temp_tablespaces",
    "local_preload_libraries",
    "session_preload_libraries",
    "shared_preload_libraries",
    "unix_socket_directories",
];

/// Reports what was left out of plain SQL: parts of a dump by `pg_dump --create`, and references to missing
/// tablespaces.
pub(super) fn left_out(done: &Done) -> Vec<Check> {
    let kinds: Vec<&str> = done.left_out.iter().copied().collect();
    let own = done.database.as_deref().unwrap_or("the dump's");
    let mut checks = Vec::new();
    if !kinds.is_empty() {
        let detail = format!(
            "{}: the dump calls its database {own}; its content was restored into the database that was named, and settings of the database as a whole were left out",
            kinds.join(", ")
        );
        checks.push(Check::warn("left out", kinds.len().to_string(), detail));
    }
    if !done.missing_roles.is_empty() {
        let names: Vec<&str> = done.missing_roles.iter().map(String::as_str).collect();
        let detail = format!(
            "{}: not on this server, so their ownerships, grants, policies and user mappings are left out; to have them, restore the server's globals (or create the roles), and restore again",
            names.join(", ")
        );
        checks.push(Check::warn("roles", format!("{} missing", names.len()), detail));
    }
    let spaces: Vec<&str> = done.missing_tablespaces.iter().map(String::as_str).collect();
    if !spaces.is_empty() {
        let detail =
            format!("{}: not on this server, so their content is in the database's tablespace", spaces.join(", "));
        checks.push(Check::warn("tablespaces", format!("{} missing", spaces.len()), detail));
    }
    checks
}

fn explain(ended: &Ended, into: &Connection) -> Error {
    let error = super::diagnosis::of_program(ended, "restore into", into);
    let words = ended.stderr.as_str();
    if words.contains("must be owner of") || words.contains("permission denied") {
        return error.hint(format!(
            "role {} is not allowed to create some of the objects, or to give them to their owners: restore as a superuser, or with --no-owners",
            into.user
        ));
    }
    if words.contains("No space left on device") {
        return error.hint("the server's disk is full; nothing was replaced");
    }
    error
}
