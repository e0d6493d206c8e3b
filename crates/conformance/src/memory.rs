//! A sink in memory, for tests of code that uses sinks.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt};
use jiff::Timestamp;
use lifeboat_core::sink::{Deleted, PutOptions};
use lifeboat_core::stream::CHUNK;
use lifeboat_core::{ByteStream, Error, ErrorKind, ObjectInfo, Result, Sink, async_trait};

/// A sink in memory. Clones share their objects. It passes the suite of [`sink`](crate::sink).
#[derive(Clone, Debug, Default)]
pub struct MemorySink {
    objects: Arc<Mutex<BTreeMap<String, (Bytes, Timestamp)>>>,
}

impl MemorySink {
    /// Creates an empty sink.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns every key, in order, including those in Lifeboat's own folders.
    pub fn keys(&self) -> Vec<String> {
        self.lock().keys().cloned().collect()
    }

    /// Returns the bytes of an object.
    pub fn bytes(&self, key: &str) -> Option<Bytes> {
        self.lock().get(key).map(|(bytes, _)| bytes.clone())
    }

    /// Stores an object, replacing what was there, as another tool or a fault would.
    pub fn place(&self, key: &str, bytes: impl Into<Bytes>, modified: Timestamp) {
        self.lock().insert(key.to_owned(), (bytes.into(), modified));
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, (Bytes, Timestamp)>> {
        self.objects.lock().expect("nothing panics while it holds this lock")
    }

    fn find(&self, operation: &'static str, key: &str) -> Result<(Bytes, Timestamp)> {
        check(operation, key)?;
        let missing = || Error::new(ErrorKind::NotFound, operation, key, "no such object in memory");
        self.lock().get(key).cloned().ok_or_else(missing)
    }

    fn insert(&self, operation: &'static str, key: &str, bytes: Bytes) -> Result<()> {
        match self.lock().entry(key.to_owned()) {
            std::collections::btree_map::Entry::Occupied(_) => {
                Err(Error::new(ErrorKind::AlreadyExists, operation, key, "an object of that name already exists"))
            }
            std::collections::btree_map::Entry::Vacant(free) => {
                free.insert((bytes, Timestamp::now()));
                Ok(())
            }
        }
    }
}

fn check(operation: &'static str, key: &str) -> Result<()> {
    let bad = key.bytes().any(|b| b.is_ascii_control()) || key.split('/').any(|part| matches!(part, "" | "." | ".."));
    if bad {
        return Err(Error::new(ErrorKind::Config, operation, format!("key {key:?}"), "it is not a key"));
    }
    Ok(())
}

async fn read(mut body: ByteStream) -> Result<Bytes> {
    let mut all = Vec::new();
    while let Some(chunk) = body.next().await {
        all.extend_from_slice(&chunk?);
    }
    Ok(all.into())
}

#[async_trait]
impl Sink for MemorySink {
    fn url(&self) -> String {
        "memory:".to_owned()
    }

    fn read_command(&self, key: &str) -> String {
        format!("false # {key} is in memory only")
    }

    async fn put(&self, key: &str, body: ByteStream) -> Result<u64> {
        match self.find("write", key) {
            Ok(_) => self.insert("write", key, Bytes::new())?,
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let all = read(body).await?;
        let bytes = all.len() as u64;
        self.insert("write", key, all)?;
        Ok(bytes)
    }

    async fn put_with(&self, key: &str, body: ByteStream, options: PutOptions) -> Result<u64> {
        if !options.replace {
            return self.put(key, body).await;
        }
        check("replace", key)?;
        let all = read(body).await?;
        let bytes = all.len() as u64;
        self.place(key, all, Timestamp::now());
        Ok(bytes)
    }

    async fn get(&self, key: &str, range: Option<Range<u64>>) -> Result<ByteStream> {
        let (bytes, _) = self.find("read", key)?;
        let range = range.unwrap_or(0..bytes.len() as u64);
        let at = usize::try_from(range.start).unwrap_or(usize::MAX).min(bytes.len());
        let end = usize::try_from(range.end).unwrap_or(usize::MAX).clamp(at, bytes.len());
        let chunks = (at..end).step_by(CHUNK).map(move |from| Ok(bytes.slice(from..(from + CHUNK).min(end))));
        Ok(stream::iter(chunks.collect::<Vec<_>>()).boxed())
    }

    async fn head(&self, key: &str) -> Result<ObjectInfo> {
        let (bytes, modified) = self.find("look up", key)?;
        Ok(ObjectInfo::new(key, bytes.len() as u64, modified))
    }

    fn list(&self, prefix: &str) -> BoxStream<'_, Result<ObjectInfo>> {
        let own = |key: &str| {
            key.match_indices("_lifeboat/").any(|(at, own)| {
                (at == 0 || key.as_bytes()[at - 1] == b'/') && !prefix.starts_with(&key[..at + own.len()])
            })
        };
        let found: Vec<_> = self
            .lock()
            .range(prefix.to_owned()..)
            .take_while(|(key, _)| key.starts_with(prefix))
            .filter(|(key, _)| !own(key))
            .map(|(key, (bytes, modified))| Ok(ObjectInfo::new(key, bytes.len() as u64, *modified)))
            .collect();
        stream::iter(found).boxed()
    }

    async fn delete(&self, keys: &[String]) -> Result<Deleted> {
        let mut deleted = Deleted::default();
        for key in keys {
            match check("delete", key) {
                Ok(()) => {
                    self.lock().remove(key);
                    deleted.keys.push(key.clone());
                }
                Err(error) => deleted.failed.push((key.clone(), error.to_string())),
            }
        }
        Ok(deleted)
    }
}
