//! A sink that fails on purpose, as sinks do in production, and repeatably.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};
use jiff::Timestamp;
use lifeboat_core::sink::{Deleted, Held, Hidden, LeftOut, PutOptions, Upkeep, upkeep};
use lifeboat_core::{ByteStream, Check, Error, ErrorKind, ObjectInfo, Result, Sink, async_trait};

use crate::content::Random;

/// What goes wrong. Bytes are counted over the stream of one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// `put` fails after so many bytes, as if the store had gone.
    PutFails {
        /// Bytes that it takes before.
        after: u64,
    },
    /// `put` stops reading after so many bytes, and never ends.
    PutStalls {
        /// Bytes that it takes before.
        after: u64,
    },
    /// `put` reports a failure after it has stored everything.
    PutLosesItsAnswer,
    /// `put` confirms what it has read, and stores nothing.
    PutForgets,
    /// `put` confirms what it has read, and stores only so many bytes of it.
    PutCuts {
        /// Bytes that it stores.
        after: u64,
    },
    /// `get` ends after so many bytes as if that were all.
    GetTruncates {
        /// Bytes that it gives.
        after: u64,
    },
    /// `get` ends with an error after so many bytes.
    GetFails {
        /// Bytes that it gives before.
        after: u64,
    },
    /// One bit of the byte at this place is flipped in what `get` gives.
    GetFlips {
        /// The place of the byte, counted over the stream.
        at: u64,
    },
    /// `list` fails after so many objects.
    ListFails {
        /// Objects that it gives before.
        after: u64,
    },
    /// This many calls, of any kind, fail with a transient error before one does anything.
    Unavailable {
        /// How many calls.
        calls: u64,
    },
}

/// A sink with faults. Without any it is the sink that it wraps.
#[derive(Clone, Debug)]
pub struct ChaosSink {
    inner: Arc<dyn Sink>,
    faults: Arc<Mutex<Vec<Fault>>>,
    calls: Arc<AtomicU64>,
}

impl ChaosSink {
    /// Creates a sink without faults.
    pub fn new(inner: Arc<dyn Sink>) -> Self {
        Self { inner, faults: Arc::default(), calls: Arc::default() }
    }

    /// Creates a sink with one fault chosen by `seed`, at a place within the first `bytes` bytes. A test that fails prints
    /// the seed and the [`faults`](Self::faults).
    pub fn seeded(inner: Arc<dyn Sink>, seed: u64, bytes: u64) -> Self {
        let mut random = Random::new(seed);
        let (kind, place) = (random.below(8), random.below(bytes));
        let few = random.below(5);
        Self::new(inner).with(match kind {
            0 => Fault::PutFails { after: place },
            1 => Fault::PutStalls { after: place },
            2 => Fault::PutLosesItsAnswer,
            3 => Fault::GetTruncates { after: place },
            4 => Fault::GetFails { after: place },
            5 => Fault::GetFlips { at: place },
            6 => Fault::ListFails { after: few },
            _ => Fault::Unavailable { calls: few },
        })
    }

    /// Adds a fault.
    #[must_use]
    pub fn with(self, fault: Fault) -> Self {
        self.lock().push(fault);
        self
    }

    /// Removes all faults, and starts counting calls again.
    pub fn heal(&self) {
        self.lock().clear();
        self.calls.store(0, Ordering::Relaxed);
    }

    /// Returns its faults.
    pub fn faults(&self) -> Vec<Fault> {
        self.lock().clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Fault>> {
        self.faults.lock().expect("nothing panics while it holds this lock")
    }

    fn find<T>(&self, matching: impl Fn(&Fault) -> Option<T>) -> Option<T> {
        self.lock().iter().find_map(matching)
    }

    /// What a `put` reads, with its faults.
    fn disturbed(&self, key: &str, body: ByteStream) -> ByteStream {
        let body = match self.find(|f| if let Fault::PutFails { after } = f { Some(*after) } else { None }) {
            Some(after) => {
                let key = key.to_owned();
                head_of(body, after).chain(stream::once(async move { Err(gone("write", &key)) })).boxed()
            }
            None => body,
        };
        match self.find(|f| if let Fault::PutStalls { after } = f { Some(*after) } else { None }) {
            Some(after) => head_of(body, after).chain(stream::pending()).boxed(),
            None => body,
        }
    }

    /// Reads all, stores at most so many bytes (of notes, all), and says that it has stored all.
    async fn put_less(&self, key: &str, body: ByteStream, options: PutOptions, most: Option<u64>) -> Result<u64> {
        let all: Vec<Bytes> = body.try_collect().await?;
        let bytes = all.iter().map(|chunk| chunk.len() as u64).sum();
        let body = stream::iter(all.into_iter().map(Ok)).boxed();
        if key.contains("_lifeboat/") {
            return self.inner.put_with(key, body, options).await;
        }
        if let Some(most) = most {
            self.inner.put_with(key, head_of(body, most), options).await?;
        }
        Ok(bytes)
    }

    fn answer(&self, key: &str, stored: u64) -> Result<u64> {
        match self.find(|f| (*f == Fault::PutLosesItsAnswer).then_some(())) {
            Some(()) => Err(gone("write", key)),
            None => Ok(stored),
        }
    }

    fn call(&self, operation: &'static str, subject: &str) -> Result<()> {
        let call = self.calls.fetch_add(1, Ordering::Relaxed);
        match self.find(|f| if let Fault::Unavailable { calls } = f { Some(*calls) } else { None }) {
            Some(calls) if call < calls => Err(gone(operation, subject)),
            _ => Ok(()),
        }
    }
}

fn gone(operation: &'static str, subject: &str) -> Error {
    Error::new(ErrorKind::Unavailable, operation, subject, "the store is gone (a fault of the test)")
}

/// The first `bytes` bytes of a stream.
fn head_of(body: ByteStream, bytes: u64) -> ByteStream {
    stream::unfold((body, bytes), |(mut body, left)| async move {
        if left == 0 {
            return None;
        }
        let mut item = body.next().await?;
        if let Ok(chunk) = &mut item {
            chunk.truncate(usize::try_from(left).unwrap_or(usize::MAX));
        }
        let taken = item.as_ref().map_or(0, Bytes::len) as u64;
        Some((item, (body, left - taken)))
    })
    .boxed()
}

#[async_trait]
impl Sink for ChaosSink {
    fn url(&self) -> String {
        self.inner.url()
    }

    fn read_command(&self, key: &str) -> String {
        self.inner.read_command(key)
    }

    async fn put(&self, key: &str, body: ByteStream) -> Result<u64> {
        self.put_with(key, body, PutOptions::new()).await
    }

    async fn put_with(&self, key: &str, body: ByteStream, options: PutOptions) -> Result<u64> {
        self.call(if options.replace { "replace" } else { "write" }, key)?;
        let body = self.disturbed(key, body);
        let most = self.find(|f| match f {
            Fault::PutForgets => Some(None),
            Fault::PutCuts { after } => Some(Some(*after)),
            _ => None,
        });
        let stored = match most {
            Some(most) => self.put_less(key, body, options, most).await?,
            None => self.inner.put_with(key, body, options).await?,
        };
        self.answer(key, stored)
    }

    async fn get(&self, key: &str, range: Option<Range<u64>>) -> Result<ByteStream> {
        self.call("read", key)?;
        let mut body = self.inner.get(key, range).await?;
        if let Some(after) = self.find(|f| if let Fault::GetTruncates { after } = f { Some(*after) } else { None }) {
            body = head_of(body, after);
        }
        if let Some(after) = self.find(|f| if let Fault::GetFails { after } = f { Some(*after) } else { None }) {
            let key = key.to_owned();
            body = head_of(body, after).chain(stream::once(async move { Err(gone("read", &key)) })).boxed();
        }
        if let Some(flip) = self.find(|f| if let Fault::GetFlips { at } = f { Some(*at) } else { None }) {
            let mut at = 0;
            body = body
                .map(move |item| {
                    let chunk = item?;
                    let from = at;
                    at += chunk.len() as u64;
                    if !(from..at).contains(&flip) {
                        return Ok(chunk);
                    }
                    let mut flipped = chunk.to_vec();
                    flipped[usize::try_from(flip - from).unwrap_or_default()] ^= 1;
                    Ok(flipped.into())
                })
                .boxed();
        }
        Ok(body)
    }

    async fn head(&self, key: &str) -> Result<ObjectInfo> {
        self.call("look up", key)?;
        self.inner.head(key).await
    }

    fn list(&self, prefix: &str) -> BoxStream<'_, Result<ObjectInfo>> {
        if let Err(error) = self.call("list", prefix) {
            return stream::once(async { Err(error) }).boxed();
        }
        let list = self.inner.list(prefix);
        match self.find(|f| if let Fault::ListFails { after } = f { Some(*after) } else { None }) {
            Some(after) => {
                let prefix = prefix.to_owned();
                let after = usize::try_from(after).unwrap_or(usize::MAX);
                list.take(after).chain(stream::once(async move { Err(gone("list", &prefix)) })).boxed()
            }
            None => list,
        }
    }

    async fn delete(&self, keys: &[String]) -> Result<Deleted> {
        self.call("delete from", &self.url())?;
        self.inner.delete(keys).await
    }

    fn upkeep(&self) -> Option<&dyn Upkeep> {
        self.inner.upkeep().map(|_| self as &dyn Upkeep)
    }
}

#[async_trait]
impl Upkeep for ChaosSink {
    async fn held(&self, keys: &[String]) -> Result<Vec<Held>> {
        self.call("look up", &self.url())?;
        upkeep(&*self.inner).held(keys).await
    }

    fn hidden(&self, prefix: &str) -> BoxStream<'_, Result<Hidden>> {
        upkeep(&*self.inner).hidden(prefix)
    }

    fn left_out(&self, prefix: &str) -> BoxStream<'_, Result<LeftOut>> {
        upkeep(&*self.inner).left_out(prefix)
    }

    async fn inspect(&self, folder: &str, probe: Option<&str>) -> Vec<Check> {
        upkeep(&*self.inner).inspect(folder, probe).await
    }

    async fn abort_uploads_of(&self, key: &str, before: Timestamp, dry_run: bool) -> Result<Vec<String>> {
        upkeep(&*self.inner).abort_uploads_of(key, before, dry_run).await
    }

    async fn abort_unfinished(&self, folder: &str, before: Timestamp, dry_run: bool) -> Result<Vec<String>> {
        self.call("clean up", folder)?;
        upkeep(&*self.inner).abort_unfinished(folder, before, dry_run).await
    }

    fn notes_in(&self, folder: &str) -> Option<Arc<dyn Sink>> {
        Some(Arc::new(Self { inner: upkeep(&*self.inner).notes_in(folder)?, ..self.clone() }))
    }
}
