//! What an author of a part of Lifeboat tests it with: conformance suites for the traits, a sink in memory, and one that fails
//! on purpose.
//!
//! A suite holds an implementation to everything that its trait's documentation promises. It needs no service and no network;
//! what it does need, such as a place to restore into, the author gives. This sink keeps its objects in a map, and its test is
//! the one line at the end:
//!
//! ```
//! use std::collections::BTreeMap;
//! use std::ops::Range;
//! use std::sync::Mutex;
//!
//! use futures::stream::{self, BoxStream, StreamExt};
//! use lifeboat_core::sink::Deleted;
//! use lifeboat_core::stream::collect;
//! use lifeboat_core::{ByteStream, Error, ErrorKind, ObjectInfo, Result, Sink, async_trait};
//!
//! #[derive(Debug, Default)]
//! struct Map(Mutex<BTreeMap<String, (bytes::Bytes, jiff::Timestamp)>>);
//!
//! fn check(key: &str) -> Result<()> {
//!     let is_wrong = |part: &str| matches!(part, "" | "." | "..") || part.contains(char::is_control);
//!     match key.split('/').any(is_wrong) {
//!         true => Err(Error::new(ErrorKind::Config, "use", format!("{key:?}"), "it is not a key")),
//!         false => Ok(()),
//!     }
//! }
//!
//! impl Map {
//!     fn find(&self, key: &str) -> Result<(bytes::Bytes, jiff::Timestamp)> {
//!         check(key)?;
//!         let missing = || Error::new(ErrorKind::NotFound, "read", key, "there is no such object");
//!         self.0.lock().unwrap().get(key).cloned().ok_or_else(missing)
//!     }
//! }
//!
//! #[async_trait]
//! impl Sink for Map {
//!     fn url(&self) -> String {
//!         "map:".to_owned()
//!     }
//!
//!     fn read_command(&self, key: &str) -> String {
//!         format!("map-cat '{key}'")
//!     }
//!
//!     async fn put(&self, key: &str, body: ByteStream) -> Result<u64> {
//!         let taken = || Error::new(ErrorKind::AlreadyExists, "write", key, "the key is taken");
//!         check(key)?;
//!         if self.0.lock().unwrap().contains_key(key) {
//!             return Err(taken());
//!         }
//!         let body = collect(body, 1 << 30, key).await?;
//!         let bytes = body.len() as u64;
//!         let mut objects = self.0.lock().unwrap();
//!         if objects.contains_key(key) {
//!             return Err(taken());
//!         }
//!         objects.insert(key.to_owned(), (body, jiff::Timestamp::now()));
//!         Ok(bytes)
//!     }
//!
//!     async fn get(&self, key: &str, range: Option<Range<u64>>) -> Result<ByteStream> {
//!         let (body, _) = self.find(key)?;
//!         let at = |place: u64| (place as usize).min(body.len());
//!         let range = range.unwrap_or(0..u64::MAX);
//!         Ok(lifeboat_core::stream::once(body.slice(at(range.start)..at(range.end).max(at(range.start)))))
//!     }
//!
//!     async fn head(&self, key: &str) -> Result<ObjectInfo> {
//!         let (body, modified) = self.find(key)?;
//!         Ok(ObjectInfo { key: key.to_owned(), bytes: body.len() as u64, modified })
//!     }
//!
//!     fn list(&self, prefix: &str) -> BoxStream<'_, Result<ObjectInfo>> {
//!         // What lies in a folder of Lifeboat's own is listed only under a prefix that leads into it.
//!         let hidden = |key: &str| match key.find("_lifeboat/") {
//!             Some(at) => !prefix.starts_with(&key[..at + "_lifeboat/".len()]),
//!             None => false,
//!         };
//!         let objects = self.0.lock().unwrap();
//!         let found: Vec<_> = objects
//!             .iter()
//!             .filter(|(key, _)| key.starts_with(prefix) && !hidden(key))
//!             .map(|(key, (body, modified))| {
//!                 Ok(ObjectInfo { key: key.clone(), bytes: body.len() as u64, modified: *modified })
//!             })
//!             .collect();
//!         stream::iter(found).boxed()
//!     }
//!
//!     async fn delete(&self, keys: &[String]) -> Result<Deleted> {
//!         let mut deleted = Deleted::default();
//!         for key in keys {
//!             match check(key) {
//!                 Ok(()) => {
//!                     self.0.lock().unwrap().remove(key);
//!                     deleted.keys.push(key.clone());
//!                 }
//!                 Err(error) => deleted.failed.push((key.clone(), error.to_string())),
//!             }
//!         }
//!         Ok(deleted)
//!     }
//! }
//!
//! # tokio::runtime::Runtime::new().unwrap().block_on(async {
//! lifeboat_testkit::conformance::sink::all(&Map::default()).await;
//! # });
//! ```
//!
//! | module | feature | what it is |
//! |---|---|---|
//! | [`conformance`] | | the suites |
//! | [`memory`] | | a sink in memory |
//! | [`chaos`] | | a sink that fails on purpose, repeatably |
//! | [`lines`] | | a system of lines `key=value`, with target and verifier |
//! | [`content`] | | bytes, streams and names |
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
pub mod lines;
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
pub mod s3;
#[cfg(feature = "http")]
mod signature;
#[cfg(feature = "http")]
pub mod versions;
