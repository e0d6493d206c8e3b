//! A sink of one's own: objects in memory. It implements the seven methods that a sink must, and leaves the others at their defaults.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use lifeboat::bytes::Bytes;
use lifeboat::futures::stream::{self, BoxStream, StreamExt};
use lifeboat::jiff::Timestamp;
use lifeboat::sink::Deleted;
use lifeboat::stream::collect;
use lifeboat::{ByteStream, Error, ErrorKind, ObjectInfo, Result, Sink, async_trait};

/// The largest object, in bytes: it is held in memory.
const LARGEST: usize = 1 << 30;

/// Keeps objects for as long as the program runs.
#[derive(Debug, Default)]
pub struct Shelf(Mutex<BTreeMap<String, (Bytes, Timestamp)>>);

impl Shelf {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, (Bytes, Timestamp)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find(&self, key: &str) -> Result<(Bytes, Timestamp)> {
        check(key)?;
        let missing = || Error::new(ErrorKind::NotFound, "read", key, "there is no such object");
        self.lock().get(key).cloned().ok_or_else(missing)
    }
}

fn check(key: &str) -> Result<()> {
    let wrong = |part: &str| matches!(part, "" | "." | "..") || part.contains(|c: char| c.is_ascii_control());
    if key.split('/').any(wrong) {
        return Err(Error::new(ErrorKind::Config, "use", format!("{key:?}"), "it is not a key"));
    }
    Ok(())
}

fn taken(key: &str) -> Error {
    Error::new(ErrorKind::AlreadyExists, "write", key, "the key is taken")
}

/// Whether a key lies in a folder of Lifeboat's own into which the prefix does not lead.
fn is_hidden(key: &str, prefix: &str) -> bool {
    let own = "_lifeboat/";
    key.match_indices(own)
        .any(|(at, _)| (at == 0 || key.as_bytes()[at - 1] == b'/') && !prefix.starts_with(&key[..at + own.len()]))
}

#[async_trait]
impl Sink for Shelf {
    fn url(&self) -> String {
        "shelf:".to_owned()
    }

    fn read_command(&self, key: &str) -> String {
        format!("false # {key} was in the memory of a program")
    }

    async fn put(&self, key: &str, body: ByteStream) -> Result<u64> {
        check(key)?;
        if self.lock().contains_key(key) {
            return Err(taken(key));
        }
        let body = collect(body, LARGEST, key).await?;
        let bytes = body.len() as u64;
        let mut objects = self.lock();
        // Another writer may have been faster.
        if objects.contains_key(key) {
            return Err(taken(key));
        }
        objects.insert(key.to_owned(), (body, Timestamp::now()));
        Ok(bytes)
    }

    async fn get(&self, key: &str, range: Option<Range<u64>>) -> Result<ByteStream> {
        let (body, _) = self.find(key)?;
        let at = |place: u64| usize::try_from(place).unwrap_or(usize::MAX).min(body.len());
        let range = range.map_or(0..body.len(), |range| at(range.start)..at(range.end).max(at(range.start)));
        Ok(lifeboat::stream::once(body.slice(range)))
    }

    async fn head(&self, key: &str) -> Result<ObjectInfo> {
        let (body, modified) = self.find(key)?;
        Ok(ObjectInfo::new(key, body.len() as u64, modified))
    }

    fn list(&self, prefix: &str) -> BoxStream<'_, Result<ObjectInfo>> {
        let objects = self.lock();
        let listed = objects.iter().filter(|(key, _)| key.starts_with(prefix) && !is_hidden(key, prefix));
        let listed = listed.map(|(key, (body, modified))| Ok(ObjectInfo::new(key, body.len() as u64, *modified)));
        stream::iter(listed.collect::<Vec<_>>()).boxed()
    }

    async fn delete(&self, keys: &[String]) -> Result<Deleted> {
        let mut deleted = Deleted::default();
        for key in keys {
            match check(key) {
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
