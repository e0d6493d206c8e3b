//! Versions of collations: another library, or another version of it, may sort text differently.

use std::collections::BTreeMap;

use lifeboat_core::Check;

use super::session::Session;

/// The name of the database's own collation among the others.
const DATABASE: &str = "the database";

/// The current library versions of the collations that sort text in the database: its own (since PostgreSQL 15) and
/// those of columns and indexes (since 10). Collations without a version, such as `C`, are omitted.
pub(crate) async fn versions(session: &Session, major: u32) -> BTreeMap<String, String> {
    let mut queries = Vec::new();
    if major >= 15 {
        queries.push(format!(
            "SELECT '{DATABASE}', pg_catalog.pg_database_collation_actual_version(oid) FROM pg_catalog.pg_database
             WHERE datname = pg_catalog.current_database()"
        ));
    }
    if major >= 10 {
        // A name in no encoding cannot be read from a database in SQL_ASCII.
        queries.push(
            "SELECT n.nspname || '.' || l.collname, pg_catalog.pg_collation_actual_version(l.oid)
             FROM pg_catalog.pg_collation l JOIN pg_catalog.pg_namespace n ON n.oid = l.collnamespace
             WHERE (n.nspname || l.collname) !~ '[^ -~]' AND l.collprovider IN ('i', 'c') AND l.oid IN (
                 SELECT a.attcollation FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
                 JOIN pg_catalog.pg_namespace s ON s.oid = c.relnamespace
                 WHERE s.nspname NOT IN ('pg_catalog', 'information_schema') AND s.nspname !~ '^pg_toast')"
                .to_owned(),
        );
    }
    let mut versions = BTreeMap::new();
    for sql in queries {
        match session.rows(&sql).await {
            Ok(rows) => versions.extend(rows.into_iter().filter_map(|row| {
                let [Some(name), Some(version)] = &row[..] else { return None };
                Some((name.clone(), version.clone()))
            })),
            // What is not known is not compared.
            Err(error) => tracing::debug!(%error, "the versions of collations could not be asked for"),
        }
    }
    versions
}

/// The collations that sort differently here than at the source, as far as both versions are known.
pub(crate) fn difference(source: &BTreeMap<String, String>, here: &BTreeMap<String, String>) -> Option<Check> {
    let other: Vec<String> = source
        .iter()
        .filter_map(|(name, version)| {
            let ours = here.get(name).filter(|ours| *ours != version)?;
            Some(format!("{name}: {ours} here, {version} at the source"))
        })
        .collect();
    let detail = format!(
        "{}: text may be sorted otherwise, so the order of indexes, and which partition or CHECK takes a row, say nothing of the source",
        other.join("; ")
    );
    (!other.is_empty()).then(|| Check::warn("collations", format!("{} of another version", other.len()), detail))
}
