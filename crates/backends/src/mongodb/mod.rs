//! MongoDB: databases through the driver, in the archive format of mongodump and mongorestore.
//!
//! [`Mongo`] is the source, [`MongoTarget`] the target, [`MongoVerifier`] the verifier. The archive is written and parsed
//! by [`archive`], which never decodes a document.

mod accounts;
pub mod archive;
mod batch;
mod command;
mod connection;
mod content;
mod create;
mod diagnosis;
mod documents;
mod estimate;
mod failure;
mod insert;
mod listing;
mod load;
mod mongod;
mod namespace;
mod oplog;
mod order;
mod plan;
mod replay;
mod scratch;
mod selection;
mod source;
mod swap;
mod system;
mod target;
mod verifier;

pub use connection::Connection;
pub use selection::{Consistency, Query};
pub use source::Mongo;
pub use system::{MongoSettings, MongoSystem, VerifyOptions};
pub use target::{MongoTarget, RestoreOptions};
pub use verifier::{MongoVerifier, VerifierOptions};

use std::collections::BTreeMap;

use lifeboat_core::{ArtifactName, Check};

/// The name of this system in manifests.
pub const SYSTEM: &str = "mongodb";

/// The fact of a manifest that says how consistent the collections are with each other.
const CONSISTENCY: &str = "consistency";
/// How that fact begins when the archive holds an oplog.
const OPLOG: &str = "oplog: ";

/// Looks whether a deployment can be backed up: it answers, there is a snapshot or not, the user may read; and whether there is
/// a server for restore tests, `scratch` or a `mongod`. A check a line, each with what to do.
pub async fn check(connection: &Connection, settings: &MongoSettings, scratch: Option<&Connection>) -> Vec<Check> {
    diagnosis::check(connection, settings, scratch).await
}

/// The end of the shell line that restores an artifact with stock tools; `facts` are those of its manifest, where it has one. An
/// oplog has to be replayed, or the collections are not of one time.
pub fn stock_restore(_name: &ArtifactName, facts: Option<&BTreeMap<String, String>>) -> &'static str {
    match facts.and_then(|facts| facts.get(CONSISTENCY)) {
        Some(consistency) if consistency.starts_with(OPLOG) => "mongorestore --archive --oplogReplay --uri URI",
        _ => "mongorestore --archive --uri URI",
    }
}
