//! Lifeboat backs up what a small platform team cannot lose to object storage that it does not trust, and **proves** by
//! restoring that each backup is good.
//!
//! This crate is the facade: it re-exports [`core`](lifeboat_core), the systems, the sinks, the config file and the command
//! line by feature, so that a program needs one dependency.
//!
//! | feature | what it adds |
//! |---|---|
//! | `mongodb` | `lifeboat::mongodb`: source, target and verifier for MongoDB |
//! | `command` | `lifeboat::command`: the output of any command |
//! | `postgres` | `lifeboat::postgres`: source, target and verifier for PostgreSQL |
//! | `cloudflare-dns` | `lifeboat::cloudflare`: source, targets and verifier for DNS zones at Cloudflare |
//! | `doppler` | `lifeboat::doppler`: source, targets and verifier for Doppler secrets |
//! | `velero` | `lifeboat::velero`: source, target and verifier for Velero's backups of a cluster |
//! | `file` | `file://` sinks |
//! | `s3` | `s3://`, `minio://` and `b2://` sinks |
//! | `age` | `lifeboat::Age` |
//! | `openssl` | `lifeboat::OpenSsl` |
//! | `ssh` | SSH keys as age recipients and identities |
//! | `config` | `lifeboat::config`: the config file as a library |
//! | `cli` | `lifeboat::cli`: the command line as a library, over any list of systems |
//!
//! All but the last three are on by default; with none of them the traits, the pipeline and the catalog remain.
//!
//! ```no_run
//! # #[cfg(all(feature = "postgres", feature = "file", feature = "age"))]
//! # async fn example() -> lifeboat::Result<()> {
//! use std::sync::Arc;
//!
//! use lifeboat::catalog::{self, At};
//! use lifeboat::postgres::{Postgres, PostgresVerifier};
//! use lifeboat::{Age, Backup, Compression, Status, Verify, sinks};
//!
//! // Keep the secret away from the backups: without it nobody can read them, not even you.
//! let (secret, public) = Age::generate();
//! let sink = sinks::open("file:///srv/backups")?;
//! let receipt = Backup::new(Postgres::connect("postgres:///shop").await?)
//!     .compress(Compression::zstd(3))
//!     .encrypt(Age::to([public])?)
//!     .to(sink.clone())
//!     .run()
//!     .await?;
//!
//! let artifact = catalog::find(&sink, "", &receipt.dataset, &At::Latest).await?;
//! let key = Age::default().identities(&secret, "the new key")?;
//! let report = Verify::new(sink, artifact, &PostgresVerifier::default()).key(Arc::new(key)).run().await?;
//! assert_eq!(report.status(), Status::Pass);
//! # Ok(()) }
//! ```
#![cfg_attr(docsrs, feature(doc_cfg))]

pub use lifeboat_core::*;

#[cfg(feature = "age")]
pub use lifeboat_core::encryptor::Age;
#[cfg(feature = "openssl")]
pub use lifeboat_core::encryptor::OpenSsl;

#[cfg(feature = "cloudflare-dns")]
pub use lifeboat_backends::cloudflare;
#[cfg(feature = "command")]
pub use lifeboat_backends::command;
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
#[doc(inline)]
pub use lifeboat_sinks as sinks;

#[cfg(feature = "cli")]
pub use lifeboat_cli as cli;
#[cfg(feature = "config")]
pub use lifeboat_config as config;

/// Adds every built-in system to a list: the one table of systems, with one line each.
#[cfg(feature = "config")]
macro_rules! add_systems {
    ($systems:ident) => {
        #[cfg(feature = "cloudflare-dns")]
        $systems.add::<cloudflare::CloudflareSystem>();
        #[cfg(feature = "command")]
        $systems.add::<command::CommandSystem>();
        #[cfg(feature = "doppler")]
        $systems.add::<doppler::DopplerSystem>();
        #[cfg(feature = "mongodb")]
        $systems.add::<mongodb::MongoSystem>();
        #[cfg(feature = "postgres")]
        $systems.add::<postgres::PostgresSystem>();
        #[cfg(feature = "velero")]
        $systems.add::<velero::VeleroSystem>();
    };
}

/// The built-in systems, for [`config::Config::load`].
#[cfg(feature = "config")]
#[allow(unused_mut, reason = "there may be none")]
pub fn systems() -> config::Systems {
    let mut systems = config::Systems::new();
    add_systems!(systems);
    systems
}

/// The built-in systems, for [`cli::main`].
#[cfg(feature = "cli")]
#[allow(unused_mut, reason = "there may be none")]
pub fn programs() -> cli::Systems {
    let mut systems = cli::Systems::new();
    add_systems!(systems);
    systems
}
