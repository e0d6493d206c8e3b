//! Checks what a server or a database has, and what an archive needs that it lacks, before anything is restored.

use lifeboat_core::{Check, Error, ErrorKind, Result};

use super::archive::{Toc, TocEntry, quote_ident, quote_qualified};
use super::needs;
use super::session::{Session, quote_literal};

/// The first object in a database that somebody would miss.
pub(super) async fn first_object(session: &Session) -> Result<Option<String>> {
    let relation = "SELECT CASE c.relkind WHEN 'S' THEN 'sequence ' WHEN 'v' THEN 'view ' WHEN 'm' THEN 'materialized view ' ELSE 'table ' END || c.oid::pg_catalog.regclass::text
        FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relkind IN ('r', 'p', 'v', 'm', 'S', 'f') AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_(toast|temp)'
          AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = c.oid AND d.deptype = 'e')
        ORDER BY c.oid LIMIT 1";
    let routine = "SELECT 'function ' || p.oid::pg_catalog.regprocedure::text FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
        WHERE n.nspname NOT IN ('pg_catalog', 'information_schema')
          AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass AND d.objid = p.oid AND d.deptype = 'e')
        ORDER BY p.oid LIMIT 1";
    let schema = "SELECT 'schema ' || nspname FROM pg_catalog.pg_namespace n
        WHERE nspname NOT IN ('pg_catalog', 'information_schema', 'public') AND nspname !~ '^pg_(toast|temp)'
          AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_catalog.pg_namespace'::pg_catalog.regclass AND d.objid = n.oid AND d.deptype = 'e')
        ORDER BY oid LIMIT 1";
    let object = "SELECT 'large object ' || oid FROM pg_catalog.pg_largeobject_metadata LIMIT 1";
    for sql in [relation, routine, schema, object] {
        if let Some(found) = session.value(sql).await? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// Extensions in the archive that the server cannot create, reported up front instead of after an hour.
pub(super) async fn missing_extensions(toc: &Toc, session: &Session) -> Result<()> {
    let mut missing = Vec::new();
    for entry in toc.of_kind("EXTENSION") {
        let sql =
            format!("SELECT 1 FROM pg_catalog.pg_available_extensions WHERE name = {}", quote_literal(&entry.label()));
        if session.value(&sql).await?.is_none() {
            missing.push(entry.label().into_owned());
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    Err(Error::new(ErrorKind::NotFound, "restore", "the database", format!("the server lacks the extensions {}", missing.join(", ")))
        .hint("install their packages on the server (Debian: postgresql-contrib, or postgresql-<version>-<extension>), and try again"))
}

/// Whether a database has the relation of this entry.
pub(super) async fn relation_is_there(session: &Session, entry: &TocEntry) -> Result<bool> {
    let name = quote_qualified(entry.namespace.as_deref(), entry.tag.as_deref().unwrap_or_default());
    Ok(session.value(&format!("SELECT pg_catalog.to_regclass({})", quote_literal(&name))).await?.is_some())
}

/// Whether a database has this schema.
pub(super) async fn is_there(session: &Session, schema: &str) -> Result<bool> {
    let name = quote_literal(&quote_ident(schema));
    Ok(session.value(&format!("SELECT pg_catalog.to_regnamespace({name})")).await?.is_some())
}

/// The message if the server lacks tablespaces that the archive names: then pg_restore is told to ignore them all.
pub(super) async fn missing_tablespaces(toc: &Toc, session: &Session) -> Result<Option<Check>> {
    let mut missing = Vec::new();
    for name in needs::tablespaces(toc) {
        let sql = format!("SELECT 1 FROM pg_catalog.pg_tablespace WHERE spcname = {}", quote_literal(&name));
        if session.value(&sql).await?.is_none() {
            missing.push(name);
        }
    }
    if missing.is_empty() {
        return Ok(None);
    }
    let detail = format!(
        "{}: not on this server, so everything is in the database's tablespace; to have tables elsewhere, create the tablespaces first",
        missing.join(", ")
    );
    Ok(Some(Check::warn("tablespaces", format!("{} missing", missing.len()), detail)))
}
