//! The systems that Lifeboat backs up, one folder each, behind the feature of its name.
#![cfg_attr(docsrs, feature(doc_cfg))]
#![cfg_attr(test, allow(clippy::unwrap_used))]

#[cfg(any(feature = "mongodb", feature = "postgres"))]
mod child;
#[cfg(feature = "cloudflare-dns")]
pub mod cloudflare;
#[cfg(feature = "command")]
pub mod command;
#[cfg(any(feature = "mongodb", feature = "postgres"))]
mod confine;
#[cfg(feature = "doppler")]
pub mod doppler;
#[cfg(feature = "http-api")]
pub mod http;
#[cfg(any(feature = "mongodb", feature = "postgres"))]
mod keeper;
#[cfg(feature = "mongodb")]
pub mod mongodb;
#[cfg(feature = "http-api")]
pub mod outfile;
#[cfg(feature = "postgres")]
pub mod postgres;
#[cfg(any(feature = "mongodb", feature = "postgres"))]
mod scratch_folder;
#[cfg(any(feature = "cloudflare-dns", feature = "velero"))]
mod tar;
#[cfg(feature = "velero")]
pub mod velero;
#[cfg(any(feature = "mongodb", feature = "postgres"))]
mod whole_words;
