//! What Lifeboat's own tests run against: servers of a test's own, and imitations of services. The suites for the traits, which
//! need none of them, are [`lifeboat_conformance`]; they are here too, so that a test has one dependency.
//!
//! | module | feature | what it is |
//! |---|---|---|
//! | [`conformance`], [`memory`], [`chaos`], [`lines`], [`content`] | | of [`lifeboat_conformance`] |
//! | `minio`, `b2`, `versions`, `faulty`, `s3`, `pages` | `http` | a MinIO that a test may kill, Backblaze B2's quirks before one, what a versioned bucket holds, a proxy in which requests fail, a store in memory that refuses and lies as others do, a bucket of any number of artifacts |
//! | `http_api`, `cloudflare`, `doppler` | `http` | imitations of APIs, with faults on purpose |
//! | `kubernetes` | `kubernetes` | namespaces of a test's own |
//! | `mongo`, `mongo_wire`, `documents` | `mongodb` | a MongoDB of a test's own, a server that follows a script, BSON with every edge |
//! | `postgres` | `postgres` | databases and servers of a test's own |
//! | `corpus` | `services` | the inputs of the fuzzer, in Lifeboat's repository only |
//!
//! Functions here panic instead of returning errors, because they are called in tests only.
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
