//! Reading an object; a broken download resumes where it stopped.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use lifeboat_core::{ByteStream, Error, ErrorKind, Result};
use object_store::path::Path;
use object_store::{GetRange, GetResult, GetResultPayload};

use super::failure::{Action, Failure, status};
use super::retry::Attempts;
use super::{GetOptions, ObjectStore, Store};

/// A download on its way.
struct Download {
    store: Arc<Store>,
    key: String,
    path: Path,
    /// Which object it was at the beginning: the rest of another one is refused.
    object: Identity,
    at: u64,
    end: u64,
    body: Option<BoxStream<'static, object_store::Result<Bytes>>>,
}

/// What tells an object from another one under the same key.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Identity {
    e_tag: Option<String>,
    version: Option<String>,
    bytes: u64,
    modified: i64,
}

impl Identity {
    fn of(result: &GetResult) -> Self {
        let meta = &result.meta;
        Self {
            e_tag: meta.e_tag.clone(),
            version: meta.version.clone(),
            bytes: meta.size,
            modified: meta.last_modified.timestamp(),
        }
    }
}

pub(super) async fn get(store: Arc<Store>, key: &str, range: Option<Range<u64>>) -> Result<ByteStream> {
    let path = store.path(Action::Read, key)?;
    if range.as_ref().is_some_and(|range| range.start >= range.end) {
        store.head(Action::Read, key).await?;
        return Ok(futures::stream::empty().boxed());
    }
    let asked = range.clone().map(GetRange::Bounded);
    let opened = store.pacing.run(|| open(&store, &path, key, asked.clone(), None)).await;
    let result = match opened {
        // It starts at the end of the object or behind it.
        Err(error) if status(&error) == Some(416) => {
            let bytes = store.head(Action::Read, key).await?.bytes;
            return match range {
                Some(range) if range.start >= bytes => Ok(futures::stream::empty().boxed()),
                _ => Err(error),
            };
        }
        result => result?,
    };
    let (at, end, object) = (result.range.start, result.range.end, Identity::of(&result));
    let whole = range.map_or(0..object.bytes, |range| range.start..range.end.min(object.bytes));
    if (at..end) != whole {
        return Err(Error::new(
            ErrorKind::Corrupt,
            "read",
            key,
            "the store sent a different range from the one requested",
        ));
    }
    let body = Some(stream_of(result));
    let download = Download { key: key.to_owned(), path, object, at, end, body, store };
    Ok(futures::stream::try_unfold(download, |mut download| async move {
        Ok(download.next().await?.map(|chunk| (chunk, download)))
    })
    .boxed())
}

async fn open(
    store: &Store,
    path: &Path,
    key: &str,
    range: Option<GetRange>,
    e_tag: Option<String>,
) -> Result<GetResult> {
    let options = GetOptions { range, if_match: e_tag, ..GetOptions::default() };
    store.store.get_opts(path, options).await.map_err(|e| store.place.store_error(Action::Read, key, e))
}

fn stream_of(result: GetResult) -> BoxStream<'static, object_store::Result<Bytes>> {
    match result.payload {
        GetResultPayload::Stream(stream) => stream,
        // Only a store of local files answers with a file.
        #[allow(unreachable_patterns)]
        _ => futures::stream::empty().boxed(),
    }
}

impl Download {
    fn replaced(&self) -> Error {
        Error::new(ErrorKind::Corrupt, "read", &self.key, "the object was replaced while it was read")
    }

    async fn next(&mut self) -> Result<Option<Bytes>> {
        if self.at == self.end {
            return Ok(None);
        }
        let store = self.store.clone();
        let mut attempts = Attempts::new(&store.pacing);
        loop {
            let error = match &mut self.body {
                Some(body) => match self.store.chunk_of(&self.key, body).await {
                    Ok(chunk) => {
                        self.at += chunk.len() as u64;
                        if self.at > self.end {
                            let why = "the store sent more bytes than it announced";
                            return Err(Error::new(ErrorKind::Corrupt, "read", &self.key, why));
                        }
                        return Ok(Some(chunk));
                    }
                    Err(error) => error,
                },
                None => {
                    let rest = Some(GetRange::Bounded(self.at..self.end));
                    match open(&self.store, &self.path, &self.key, rest, self.object.e_tag.clone()).await {
                        // A store that ignores the condition would give the rest of another object.
                        Ok(result) if Identity::of(&result) != self.object => return Err(self.replaced()),
                        Ok(result) if result.range == (self.at..self.end) => {
                            self.body = Some(stream_of(result));
                            continue;
                        }
                        Ok(_) => {
                            let why = "the store sent a different range from the one requested";
                            return Err(Error::new(ErrorKind::Corrupt, "read", &self.key, why));
                        }
                        Err(error) if status(&error) == Some(412) => return Err(self.replaced()),
                        Err(error) => error,
                    }
                }
            };
            self.body = None;
            attempts.pause_after(error).await?;
        }
    }
}

impl Store {
    /// The next chunk that has bytes. A body that ends is an error here: this is called only while something is missing.
    async fn chunk_of(&self, key: &str, body: &mut BoxStream<'static, object_store::Result<Bytes>>) -> Result<Bytes> {
        let stall = self.pacing.retry().stall;
        loop {
            let failure = match tokio::time::timeout(stall, body.next()).await {
                Ok(Some(Ok(chunk))) if chunk.is_empty() => continue,
                Ok(Some(Ok(chunk))) => return Ok(chunk),
                Ok(Some(Err(error))) => return Err(self.place.store_error(Action::Read, key, error)),
                Ok(None) => Failure::Broken("it ended before the end of the object".to_owned()),
                Err(_) => Failure::Stalled(stall),
            };
            return Err(self.place.error(Action::Read, key, failure));
        }
    }
}
