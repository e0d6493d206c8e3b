//! What Lifeboat's tests share: conformance suites, faults on purpose, sinks and servers of a test's own.
//!
//! - [`conformance`]: what every implementation of a trait promises, as tests that each implementation runs.
//! - [`chaos`]: a sink that fails on purpose; [`memory`]: a sink that needs nothing.
//! - [`b2`]: Backblaze B2's quirks before a MinIO; [`versions`]: what a versioned bucket holds.
//! - [`faulty`]: a proxy before a store in which requests fail on purpose.
//! - [`pages`]: a bucket with any number of artifacts that are not stored anywhere.
//! - [`minio`]: the MinIO of the tests, or one that a test may kill.
//! - [`kubernetes`]: the cluster of the tests, with namespaces of a test's own.
//! - [`mongo`]: a MongoDB-compatible database of a test's own, or a server that it may kill, and the stock tools.
//! - [`mongo_wire`]: a server that speaks MongoDB's protocol and does what its script says.
//! - [`postgres`]: a database of a test's own, or a server that it may stop.
//! - [`cloudflare`]: an imitation of Cloudflare's API.
//! - [`doppler`]: an imitation of Doppler's API.
//! - [`http_api`]: imitations of HTTP APIs, with faults on purpose.
//! - [`documents`]: BSON documents as bytes, with every type and its edges.
//! - [`content`]: bytes, streams and names.
//!
//! Functions here panic instead of returning errors: they are used in tests only.
#![allow(clippy::unwrap_used, clippy::missing_panics_doc)]

#[cfg(feature = "http")]
pub mod b2;
pub mod chaos;
#[cfg(feature = "http")]
pub mod cloudflare;
pub mod conformance;
pub mod content;
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
pub mod memory;
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
mod signature;
#[cfg(feature = "http")]
pub mod versions;
