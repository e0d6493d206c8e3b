//! Core of Lifeboat: traits, pipeline, manifest, catalog, retention, reports.
//!
//! It names no system: what a PostgreSQL is, is `lifeboat-backends`' business, what an S3 is, `lifeboat-sinks`'.
#![cfg_attr(docsrs, feature(doc_cfg))]
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod catalog;
pub mod check;
pub mod compress;
pub mod context;
pub mod encryptor;
pub mod error;
pub mod history;
pub mod log;
pub mod manifest;
pub mod memory;
pub mod name;
pub mod pipeline;
pub mod plan;
pub mod progress;
pub mod proof;
pub mod report;
pub mod repository;
pub mod retention;
pub mod sink;
pub mod source;
pub mod stream;
pub mod target;
pub mod verifier;

pub use async_trait::async_trait;
pub use compress::Compression;
pub use context::Context;
pub use encryptor::Encryptor;
pub use error::{Error, ErrorKind, Result};
pub use manifest::Manifest;
pub use name::{ArtifactName, Dataset};
pub use pipeline::{AgeLimit, Backup, PlannedRestore, Prune, Receipt, Replicate, Restore, TreeCopy, Verify};
pub use plan::{Action, Change, Plan, Prepared};
pub use proof::{Fingerprint, Proof, ProofItem, Tap};
pub use report::{Check, Report, Status};
pub use repository::{Repository, Snapshot};
pub use sink::{ObjectInfo, Sink};
pub use source::{Description, Reading, Source};
pub use stream::ByteStream;
pub use target::{Link, RestoreInput, Target};
pub use verifier::{Level, Verifier};
