//! What Lifeboat's own tests run against: private servers, and imitations of services. The suites for the traits, which
//! need none of them, are in [`lifeboat_conformance`]; they are re-exported here, so that a test needs only one
//! dependency.
//!
//! | module | feature | content |
//! |---|---|---|
//! | [`conformance`], [`memory`], [`chaos`], [`lines`], [`content`] | | of [`lifeboat_conformance`] |
//! | `minio`, `b2`, `versions`, `faulty`, `s3`, `pages` | `http` | a MinIO that a test may kill, Backblaze B2's quirks in front of one, the content of a versioned bucket, a proxy in which requests fail, a store in memory that refuses and lies as others do, a bucket with any number of artifacts |
//! | `http_api`, `cloudflare`, `doppler` | `http` | imitations of APIs, with deliberate faults |
//! | `kubernetes` | `kubernetes` | private namespaces |
//! | `mongo`, `mongo_wire`, `documents` | `mongodb` | a private MongoDB, a scripted server, BSON with every edge case |
//! | `postgres` | `postgres` | private databases and servers |
//! | `corpus` | `services` | the inputs of the fuzzer, in Lifeboat's repository only |
//!
//! Functions here panic instead of returning errors, because they are only called in tests.
#![cfg_attr(docsrs, feature(doc_cfg))]
#![allow(clippy::unwrap_used, clippy::missing_panics_doc)]

#[cfg(feature = "http")]
pub mod b2;
#[cfg(feature = "http")]
pub mod cloudflare;
#[cfg(feature = "services")]
pub mod corpus;
#[cfg(feature = "mongodb")]
pub mod documents;
#[cfg(feature = "http")]
pub mod doppler;
#[cfg(feature = "http")]
pub mod faulty;
#[cfg(feature = "http")]
mod http;
#[cfg(feature = "http")]
pub mod http_api;
#[cfg(feature = "kubernetes")]
pub mod kubernetes;
#[cfg(feature = "http")]
pub mod minio;
#[cfg(feature = "mongodb")]
pub mod mongo;
#[cfg(feature = "mongodb")]
pub mod mongo_wire;
#[cfg(feature = "http")]
pub mod pages;
#[cfg(feature = "postgres")]
pub mod postgres;
#[cfg(feature = "http")]
pub mod s3;
#[cfg(feature = "http")]
mod signature;
#[cfg(feature = "http")]
pub mod versions;

pub use lifeboat_conformance as conformance;
pub use lifeboat_conformance::{chaos, content, lines, memory};
