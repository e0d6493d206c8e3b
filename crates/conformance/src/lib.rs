//! Tools for testing implementations of Lifeboat's traits: a conformance suite for each trait, a sink in memory, and
//! one that fails on purpose. Use it as a dev-dependency; it needs only a few crates beyond those of `lifeboat-core`.
//!
//! | suite | input |
//! |---|---|
//! | [`source`], [`sink`], [`encryptor`] | the implementation itself |
//! | [`target`], [`verifier`], [`system`] | a fixture with what the suite cannot create itself, such as a place to restore into |
//!
//! A suite checks everything that the trait's documentation promises. It needs no service and no network; the author
//! supplies what it does need, such as a place to restore into. This sink keeps its objects in a map, and its test is
//! the single line at the end:
//!
//! ```
//! use std::collections::BTreeMap;
//! use std::ops::Range;
//! use std::sync::Mutex;
//!
//! use lifeboat_core::futures::stream::{self, BoxStream, StreamExt};
//! use lifeboat_core::sink::Deleted;
//! use lifeboat_core::stream::collect;
//! use lifeboat_core::{ByteStream, Error, ErrorKind, ObjectInfo, Result, Sink, async_trait, bytes, jiff};
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
//!         Ok(ObjectInfo::new(key, body.len() as u64, modified))
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
//!                 Ok(ObjectInfo::new(key, body.len() as u64, *modified))
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
//! lifeboat_conformance::sink::all(&Map::default()).await;
//! # });
//! ```
//!
//! Each suite is a set of async functions that panic if a promise of the trait is broken; `all` runs them. Each module
//! has an example. A suite requires what the documentation of the trait says, and no more: an implementation that uses
//! the defaults of all optional methods passes.
//!
//! | module | content |
//! |---|---|
//! | [`memory`] | a sink in memory |
//! | [`chaos`] | a sink that fails on purpose and reproducibly |
//! | [`lines`] | a minimal target and verifier: lines `key=value` |
//! | [`content`] | bytes, streams and names |
//!
//! Functions here panic instead of returning errors, because they are only called in tests.
#![cfg_attr(docsrs, feature(doc_cfg))]
#![allow(clippy::unwrap_used, clippy::missing_panics_doc)]

pub mod chaos;
pub mod content;
pub mod encryptor;
pub mod lines;
pub mod memory;
pub mod sink;
pub mod source;
pub mod system;
pub mod target;
pub mod verifier;

pub use chaos::ChaosSink;
pub use memory::MemorySink;
