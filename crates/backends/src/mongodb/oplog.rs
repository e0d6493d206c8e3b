//! The oplog: what was written while collections were read. A restore that replays it is consistent.
//!
//! As mongodump does it (`oplog_dump.go`): from before the first read, or from the oldest transaction that was open then, to
//! the newest entry after the last read; and nothing of that may have been overwritten meanwhile.

use bson::{Document, RawDocument, Timestamp, doc};
use lifeboat_core::{Error, ErrorKind, Result};
use mongodb::raw_batch_cursor::RawBatch;

use super::failure;
use super::listing::{Look, Topology};

/// The collection, in the database `local`.
pub(crate) const COLLECTION: &str = "oplog.rs";

/// # Errors
/// [`ErrorKind::Unsupported`] for a deployment that has no oplog to read.
pub(crate) fn possible(look: &Look) -> Result<()> {
    let why = match &look.topology {
        Topology::ReplicaSet(_) => return Ok(()),
        Topology::Standalone => "a standalone has no oplog",
        Topology::Sharded => "each shard of a cluster has its own oplog, which cannot be read through mongos",
    };
    Err(Error::new(ErrorKind::Unsupported, "read the oplog of", look.connection.redacted(), why)
        .hint("set oplog = false; on a replica set of one member, rs.initiate() is enough to have one"))
}

/// Where the copy begins.
pub(crate) async fn start(look: &Look) -> Result<Timestamp> {
    let open = doc! {
        "find": "transactions",
        "filter": { "state": { "$in": ["prepared", "inProgress"] } },
        "sort": { "startOpTime": 1 },
        "limit": 1,
        "singleBatch": true,
        "readConcern": { "level": "local" },
    };
    let reply = look.run("config", open, "look for open transactions in", "config.transactions").await?;
    let oldest = first(&reply)
        .and_then(|entry| entry.get_document("startOpTime").ok())
        .and_then(|at| at.get_timestamp("ts").ok());
    match oldest {
        Some(ts) => Ok(ts),
        None => newest(look).await,
    }
}

/// The time of the newest entry.
pub(crate) async fn newest(look: &Look) -> Result<Timestamp> {
    edge(look, -1).await
}

/// Makes sure that entries from `start` on are still there.
///
/// # Errors
/// [`ErrorKind::Unavailable`] when the oplog has begun to overwrite them.
pub(crate) async fn check_reach(look: &Look, start: Timestamp) -> Result<()> {
    let oldest = edge(look, 1).await?;
    if oldest <= start {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Unavailable, "copy", "the oplog", format!("what was written since {start} has been overwritten: its oldest entry is from {oldest}"))
        .hint("the oplog is too small for the duration of a backup: enlarge it (replSetResizeOplog), or use a snapshot (consistency = \"snapshot\")"))
}

async fn edge(look: &Look, direction: i32) -> Result<Timestamp> {
    let command = doc! {
        "find": COLLECTION, "sort": { "$natural": direction }, "projection": { "ts": 1 }, "limit": 1, "singleBatch": true,
    };
    let reply = look.run("local", command, "read", "the oplog").await?;
    first(&reply)
        .and_then(|entry| entry.get_timestamp("ts").ok())
        .ok_or_else(|| Error::new(ErrorKind::Unsupported, "read", "the oplog", "it has no entry with a time"))
}

fn first(reply: &Document) -> Option<&Document> {
    reply.get_document("cursor").ok()?.get_array("firstBatch").ok()?.first()?.as_document()
}

/// Entries after which what was read before cannot be brought up to date: mongodump gives up on them as well.
const FATAL: [&str; 3] = ["renameCollection", "importCollection", "upgradeDowngradeViewlessTimeseries"];

/// Looks at the entries of a batch.
///
/// # Errors
/// [`ErrorKind::Refused`] for one that makes the backup worthless.
pub(crate) fn inspect(batch: &RawBatch) -> Result<()> {
    let array = batch.doc_slices().map_err(|e| failure::of_driver("read", "the oplog", &e))?;
    for entry in array.into_iter().filter_map(std::result::Result::ok) {
        if let Some(name) = entry.as_document().and_then(fatal) {
            return Err(Error::new(
                ErrorKind::Refused,
                "back up",
                "the oplog",
                format!("a {name} ran during the backup, and it cannot be replayed"),
            )
            .hint("run the backup again when there are no such changes, or from a snapshot"));
        }
    }
    Ok(())
}

fn fatal(entry: &RawDocument) -> Option<&'static str> {
    if entry.get_str("ns").is_ok_and(|ns| ns == "admin.system.version") && entry.get_str("op").is_ok_and(|op| op != "n")
    {
        return Some("change of admin.system.version");
    }
    if !entry.get_str("op").is_ok_and(|op| op == "c") {
        return None;
    }
    let (name, _) = entry.get_document("o").ok()?.iter().next()?.ok()?;
    FATAL.into_iter().find(|fatal| name == *fatal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_that_cannot_be_replayed_are_found() {
        let rename = bson::rawdoc! { "op": "c", "ns": "a.$cmd", "o": { "renameCollection": "a.b", "to": "a.c" } };
        assert_eq!(fatal(&rename), Some("renameCollection"));
        let version = bson::rawdoc! { "op": "u", "ns": "admin.system.version", "o": { "_id": 1 } };
        assert!(fatal(&version).is_some());
        for harmless in [
            bson::rawdoc! { "op": "i", "ns": "a.b", "o": { "renameCollection": 1 } },
            bson::rawdoc! { "op": "c", "ns": "a.$cmd", "o": { "create": "b" } },
            bson::rawdoc! { "op": "n", "ns": "", "o": { "msg": "x" } },
        ] {
            assert_eq!(fatal(&harmless), None);
        }
    }
}
