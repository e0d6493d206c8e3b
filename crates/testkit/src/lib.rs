//! What Lifeboat's tests share: conformance suites, faults on purpose, sinks and servers of a test's own.
//!
//! - [`conformance`]: what every implementation of a trait promises, as tests that each implementation runs.
//! - [`chaos`]: a sink that fails on purpose; [`memory`]: a sink that needs nothing.
//! - [`b2`]: Backblaze B2's quirks before a MinIO; [`versions`]: what a versioned bucket holds.
//! - [`faulty`]: a proxy before a store in which requests fail on purpose.
//! - [`pages`]: a bucket with any number of artifacts that are not stored anywhere.
//! - [`minio`]: the MinIO of the tests, or one that a test may kill.
//! - [`postgres`]: a database of a test's own, or a server that it may stop.
//! - [`content`]: bytes, streams and names.
//!
//! Functions here panic instead of returning errors: they are used in tests only.
#![allow(clippy::unwrap_used, clippy::missing_panics_doc)]

pub mod b2;
pub mod chaos;
pub mod conformance;
pub mod content;
pub mod faulty;
mod http;
pub mod memory;
pub mod minio;
pub mod pages;
pub mod postgres;
mod signature;
pub mod versions;
