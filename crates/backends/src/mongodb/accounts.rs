//! Merges users and roles from temporary collections into the server's, with the command that mongorestore uses.
//!
//! `_mergeAuthzCollections` (`mergeAuthzCollections` in the server's `user_management_commands.cpp`) takes two collections of
//! `admin`, adds their missing users and roles and updates existing ones. With `drop` it would also remove all others,
//! including the restoring user, so that is not used.

use bson::{Document, doc};
use lifeboat_core::{Error, ErrorKind, Result};

use super::failure::{self, code};
use super::listing::{Look, Topology, number};
use super::load::{Loaded, Work};
use super::plan::{Account, Kind};

/// The schema version of users since server 3.0, SCRAM.
const SCRAM: i64 = 5;
/// The schema version of server 2.6, which later servers can read.
const OLD: i64 = 3;

/// The schema version of users and roles according to a document in `admin.system.version`.
pub(crate) fn schema<'a>(documents: impl Iterator<Item = &'a [u8]>) -> Option<i64> {
    let read = |document| bson::RawDocument::from_bytes(document).ok();
    documents
        .filter_map(read)
        .filter(|document| document.get_str("_id").is_ok_and(|id| id == "authSchema"))
        .find_map(|document| number(&Document::try_from(document).ok()?, "currentVersion"))
}

/// The number of users and roles in the archive.
pub(crate) fn count(work: &Work, loaded: &Loaded) -> u64 {
    let of = work.entries.iter().zip(&loaded.seen);
    of.filter(|(e, _)| matches!(e.kind, Kind::Account(Account::Users | Account::Roles)))
        .map(|(_, seen)| seen.count)
        .sum()
}

/// Merges the loaded users and roles into the server's.
///
/// # Errors
/// [`ErrorKind::Unsupported`] if the server does not support it, or not with users of that version;
/// [`ErrorKind::Permission`].
pub(crate) async fn merge(look: &Look, work: &Work, loaded: &Loaded) -> Result<()> {
    let mut command = doc! { "_mergeAuthzCollections": 1 };
    let mut of = String::new();
    for (field, which) in [("tempUsersCollection", Account::Users), ("tempRolesCollection", Account::Roles)] {
        let found = work.entries.iter().zip(&work.places).zip(&loaded.seen);
        for ((entry, place), seen) in found {
            if let (true, Some(place), true) = (entry.kind == Kind::Account(which), place, seen.count > 0) {
                command.insert(field, format!("{}.{}", place.db, place.collection));
                // No database means all of them.
                of = if entry.db == "admin" { String::new() } else { entry.db.clone() };
            }
        }
    }
    if command.len() == 1 {
        return Ok(());
    }
    check_version(look, loaded.accounts_version).await?;
    command.insert("drop", false);
    command.insert("db", of);
    if look.topology != Topology::Standalone {
        command.insert("writeConcern", doc! { "w": "majority" });
    }
    let subject = look.connection.redacted();
    let done = look.client.database("admin").run_command(command).await;
    done.map(drop).map_err(|error| match failure::code_of(&error) {
        Some(code::COMMAND_NOT_FOUND) => {
            let why = "this server cannot take users and roles from an archive (_mergeAuthzCollections)";
            Error::new(ErrorKind::Unsupported, "restore users and roles into", subject, why)
                .hint("leave out --users-and-roles, and create them by hand")
        }
        _ => failure::of_driver("restore users and roles into", &subject, &error),
    })
}

async fn check_version(look: &Look, archive: Option<i64>) -> Result<()> {
    let ask = doc! { "getParameter": 1, "authSchemaVersion": 1 };
    // If the server does not say, it has the only version that has existed for years.
    let server = look.client.database("admin").run_command(ask).await.ok();
    let server = server.and_then(|reply| number(&reply, "authSchemaVersion")).unwrap_or(SCRAM);
    let archive = archive.unwrap_or(SCRAM);
    if matches!((archive, server), (SCRAM, SCRAM) | (OLD, SCRAM | OLD)) {
        return Ok(());
    }
    let why = format!("the archive's have version {archive}, but the server's have version {server}");
    Err(Error::new(ErrorKind::Unsupported, "restore users and roles into", look.connection.redacted(), why)
        .hint("restore into a server of the source's version; or leave out --users-and-roles"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_of_users_is_that_of_the_schema_and_of_nothing_else() {
        let other = bson::rawdoc! { "_id": "featureCompatibilityVersion", "version": "7.0", "currentVersion": 9 };
        let schema_document = bson::rawdoc! { "_id": "authSchema", "currentVersion": 5 };
        assert_eq!(schema([other.as_bytes(), schema_document.as_bytes()].into_iter()), Some(5));
        assert_eq!(schema([other.as_bytes()].into_iter()), None);
    }
}
