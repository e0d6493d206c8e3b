//! Where Lifeboat stores artifacts: local folders and S3-compatible object stores.
//!
//! | URL | feature | what it is |
//! |---|---|---|
//! | `file:///dir` | `file` | a folder of a local or mounted file system |
//! | `s3://bucket/prefix` | `s3` | Amazon S3, or any store that `AWS_ENDPOINT_URL` or `?endpoint=` names |
//! | `minio://host:port/bucket/prefix` | `s3` | MinIO; plain http with `?tls=false` |
//! | `b2://bucket/prefix` | `s3` | Backblaze B2 through its S3 interface |
//!
//! [`open`] reads credentials from the environment; [`open_with`] takes them, and everything else that the environment
//! could set, as [`Settings`]. A URL never holds credentials. [`tee`] combines several sinks into one.
//!
//! This crate implements [`Sink`]. The names of artifacts and what is kept or deleted are decided in
//! `lifeboat-core`.
#![cfg_attr(docsrs, feature(doc_cfg))]
#![cfg_attr(test, allow(clippy::unwrap_used))]

use std::sync::Arc;

use lifeboat_core::{Result, Sink};

mod address;
#[cfg_attr(not(any(feature = "file", feature = "s3")), allow(dead_code))]
mod key;
#[cfg(feature = "file")]
pub mod local;
#[cfg(feature = "s3")]
pub mod s3;
mod settings;
mod tee;

pub use settings::{Credentials, Environment, Lock, LockMode, Retry, Settings};
pub use tee::tee;

/// Opens the sink at `url` with the process's environment and default settings. Nothing is contacted yet.
///
/// # Errors
/// [`ErrorKind::Config`](lifeboat_core::ErrorKind::Config): an unknown scheme or query parameter, credentials in the
/// URL, missing settings.
pub fn open(url: &str) -> Result<Arc<dyn Sink>> {
    open_with(url, &Settings::default())
}

/// Opens the sink at `url` with these settings. Nothing is contacted yet.
///
/// # Errors
/// Like [`open`].
pub fn open_with(url: &str, settings: &Settings) -> Result<Arc<dyn Sink>> {
    match address::parse(url)? {
        #[cfg(feature = "file")]
        address::Address::Folder(path) if settings.lock.is_some() => Err(lifeboat_core::Error::new(
            lifeboat_core::ErrorKind::Config,
            "open",
            format!("file://{}", path.display()),
            "a folder cannot lock objects",
        )
        .hint("remove `lock`, or store in a bucket that has Object Lock")),
        #[cfg(feature = "file")]
        address::Address::Folder(path) => Ok(Arc::new(local::LocalSink::new(path))),
        #[cfg(feature = "s3")]
        address::Address::Bucket(bucket) => Ok(Arc::new(s3::S3Sink::open(&bucket, settings)?)),
        #[allow(unreachable_patterns)]
        address => {
            let _ = settings;
            Err(address.not_built())
        }
    }
}
