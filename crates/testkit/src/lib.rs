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

pub mod b2;
pub mod chaos;
pub mod cloudflare;
pub mod conformance;
pub mod content;
pub mod corpus;
pub mod documents;
pub mod doppler;
pub mod faulty;
mod http;
pub mod http_api;
pub mod kubernetes;
pub mod memory;
pub mod minio;
pub mod mongo;
pub mod mongo_wire;
pub mod pages;
pub mod postgres;
mod signature;
pub mod versions;
