//! Core of Lifeboat: traits, pipeline, manifest, catalog, retention, reports.
//!
//! This crate names no system or store: `lifeboat-backends` has the systems, and `lifeboat-sinks` the stores.
#![cfg_attr(docsrs, feature(doc_cfg))]
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod catalog;
pub mod check;
#[cfg(feature = "cli")]
pub mod cli;
pub mod compress;
pub mod context;
mod described;
pub mod duration;
pub mod encryptor;
pub mod error;
pub mod extract;
pub mod hint;
pub mod history;
pub mod hooks;
pub mod limiter;
pub mod log;
pub mod manifest;
pub mod memory;
pub mod name;
pub mod pipeline;
pub mod plan;
pub mod process;
pub mod progress;
pub mod proof;
mod replace;
pub mod report;
pub mod repository;
pub mod retention;
pub mod schedule;
mod setters;
pub mod setting;
pub mod sink;
pub mod source;
mod span;
pub mod stream;
pub mod system;
pub mod target;
pub mod verifier;
pub mod words;

pub use async_trait::async_trait;
// Types in public signatures: a program that names them needs no own dependency of the same version.
pub use compress::Compression;
pub use context::Context;
pub use described::Field;
pub use encryptor::Encryptor;
pub use error::{Error, ErrorKind, Result};
pub use extract::Extract;
pub use hint::Hint;
pub use hooks::{Hook, Hooks};
pub use limiter::Limiter;
pub use manifest::Manifest;
pub use name::{ArtifactName, Dataset};
pub use pipeline::{
    AgeLimit, Backup, PlannedPrune, PlannedRestore, Prune, Receipt, Replicate, Restore, TreeCopy, Verify,
};
pub use plan::{Action, Change, Plan, Prepared};
pub use proof::{Fingerprint, Proof, ProofItem, Tap};
pub use replace::Replace;
pub use report::{Check, Report, Status};
pub use repository::{Repository, Snapshot};
pub use setting::Setting;
pub use sink::{ObjectInfo, Sink};
pub use source::{Description, Estimate, Reading, Source};
pub use stream::ByteStream;
pub use system::{AnySystem, Defaults, NamedTarget, Opening, Place, System};
pub use target::{Link, RestoreInput, Target};
#[doc(no_inline)]
pub use tokio_util::sync::CancellationToken;
pub use verifier::{Level, Verifier};
#[doc(no_inline)]
pub use {bytes, futures, jiff, secrecy};
