//! MongoDB: databases through the driver, in the archive format of mongodump and mongorestore.
//!
//! [`Mongo`] is the source, [`MongoTarget`] the target, [`MongoVerifier`] the verifier. The archive is written and parsed
//! by [`archive`], which never decodes a document.

pub mod archive;
mod connection;
mod content;
mod create;
mod documents;
mod failure;
mod insert;
mod listing;
mod namespace;
mod oplog;
mod plan;
mod selection;
mod source;

pub use connection::Connection;
pub use selection::{Consistency, DumpOptions};
pub use source::Mongo;

/// The name of this system in manifests.
pub const SYSTEM: &str = "mongodb";
