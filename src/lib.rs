//! Lifeboat backs up what a small platform team cannot lose to object storage that it does not trust, and **proves** by
//! restoring that each backup is good.
//!
//! This crate is the facade: it re-exports [`core`](lifeboat_core), the backends and the sinks by feature, so that a
//! program needs one dependency.
//!
//! | feature | what it adds |
//! |---|---|
//! | `mongodb` | `lifeboat::mongodb`: source, target and verifier for MongoDB |
//! | `postgres` | `lifeboat::postgres`: source, target and verifier for PostgreSQL |
//! | `cloudflare-dns` | `lifeboat::cloudflare`: source, targets and verifier for DNS zones at Cloudflare |
//! | `doppler` | `lifeboat::doppler`: source, targets and verifier for Doppler secrets |
//! | `velero` | `lifeboat::velero`: source, target and verifier for Velero's backups of a cluster |
//! | `file` | `file://` sinks |
//! | `s3` | `s3://`, `minio://` and `b2://` sinks |
//! | `age` | `lifeboat::Age` |
//! | `openssl` | `lifeboat::OpenSsl` |
//!
//! All are on by default; with none of them the traits, the pipeline and the catalog remain.
#![cfg_attr(docsrs, feature(doc_cfg))]

pub use lifeboat_core::*;

#[cfg(feature = "age")]
pub use lifeboat_core::encryptor::Age;
#[cfg(feature = "openssl")]
pub use lifeboat_core::encryptor::OpenSsl;

#[cfg(feature = "cloudflare-dns")]
pub use lifeboat_backends::cloudflare;
#[cfg(feature = "doppler")]
pub use lifeboat_backends::doppler;
#[cfg(feature = "mongodb")]
pub use lifeboat_backends::mongodb;
#[cfg(any(feature = "cloudflare-dns", feature = "doppler"))]
pub use lifeboat_backends::outfile;
#[cfg(feature = "postgres")]
pub use lifeboat_backends::postgres;
#[cfg(feature = "velero")]
pub use lifeboat_backends::velero;

#[cfg(any(feature = "file", feature = "s3"))]
pub use lifeboat_sinks as sinks;
