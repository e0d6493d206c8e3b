//! [`tee`]: several sinks as one.
//!
//! | what | where |
//! |---|---|
//! | `put`, `put_with`, `replace` | all of them; the first decides |
//! | `get`, `head` | the first that has the object |
//! | `list` | the first that can be listed |
//! | `delete`, `held`, `abort_unfinished`, `abort_uploads_of` | all of them |
//! | `hidden` | what one hides, and no other shows: deleted here, it is deleted in all |
//! | `inspect` | none: each sink is inspected on its own |
//!
//! A backup that should survive the failure of a sink names its sinks one by one (`also_to`); each then succeeds or fails on
//! its own. A tee is for objects that must be in all sinks or count as failed.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::future::join_all;
use futures::stream::{self, BoxStream, Peekable, StreamExt, TryStreamExt};
use jiff::Timestamp;
use lifeboat_core::sink::{Deleted, Held, Hidden, LeftOut, PutOptions, Upkeep};
use lifeboat_core::stream::split;
use lifeboat_core::{ByteStream, Error, ErrorKind, Hint, ObjectInfo, Result, Sink};
use tokio::sync::watch;

/// How many chunks each sink may lag behind.
const DEPTH: usize = 8;
/// How long a further sink may accept no data before it is given up.
const GRACE: Duration = Duration::from_secs(60);

/// Combines several sinks into one.
///
/// A `put` reads its stream once. Each sink has its own buffer; a further sink that accepts nothing for 60 s is given up.
/// **The first sink decides**: the others finish their objects only after it has confirmed its own, so that the same
/// one of several writers of a key wins everywhere, and a stream that fails leaves nothing anywhere. A `put` succeeds when all
/// sinks hold the object. When a further sink fails, the others keep theirs, and the error says which do;
/// [`Replicate`](lifeboat_core::pipeline::Replicate) copies what is missing.
///
/// # Errors
/// [`ErrorKind::Config`] without a sink.
pub fn tee(sinks: impl IntoIterator<Item = Arc<dyn Sink>>) -> Result<Arc<dyn Sink>> {
    let sinks: Vec<_> = sinks.into_iter().collect();
    if sinks.is_empty() {
        return Err(Error::new(ErrorKind::Config, "open", "a tee", "it has no sink"));
    }
    Ok(Arc::new(Tee { sinks }))
}

#[derive(Clone)]
struct Tee {
    /// At least one.
    sinks: Vec<Arc<dyn Sink>>,
}

impl fmt::Debug for Tee {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.sinks).finish()
    }
}

/// The outcome of the first sink's object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum First {
    Writing,
    Holds,
    Failed,
}

/// The stream of a further sink: it ends when the first sink holds the object, and never if that failed.
fn after_the_first(body: ByteStream, first: watch::Receiver<First>, key: String) -> ByteStream {
    stream::unfold(Some((body, first, key)), |state| async move {
        let (mut body, mut first, key) = state?;
        match body.next().await {
            Some(Ok(chunk)) => Some((Ok(chunk), Some((body, first, key)))),
            Some(Err(error)) => Some((Err(error), None)),
            None => match first.wait_for(|first| *first != First::Writing).await.map(|first| *first) {
                Ok(First::Holds) => None,
                _ => Some((Err(Error::cancelled("write", key)), None)),
            },
        }
    })
    .boxed()
}

impl Tee {
    async fn write(&self, key: &str, body: ByteStream, options: PutOptions) -> Result<u64> {
        let (tell, first) = watch::channel(First::Writing);
        let mut bodies = split(body, self.sinks.len(), DEPTH, GRACE).into_iter();
        let store = |sink: Arc<dyn Sink>, body: ByteStream| async move { sink.put_with(key, body, options).await };
        let decides = {
            let body = bodies.next().expect("a stream for each sink, and there is one");
            let written = store(self.sinks[0].clone(), body);
            async move {
                let written = written.await;
                // The others may have gone.
                let _ = tell.send(if written.is_ok() { First::Holds } else { First::Failed });
                written
            }
        };
        let others = self.sinks[1..]
            .iter()
            .zip(bodies)
            .map(|(sink, body)| store(sink.clone(), after_the_first(body, first.clone(), key.to_owned())));
        let (written, others) = futures::future::join(decides, join_all(others)).await;
        let bytes = written?;
        let held = |index: usize| others[index].as_ref().is_ok_and(|stored| *stored == bytes);
        let Some(failed) = (0..others.len()).find(|index| !held(*index)) else { return Ok(bytes) };
        let holding: Vec<String> = std::iter::once(self.sinks[0].url())
            .chain((0..others.len()).filter(|i| held(*i)).map(|i| self.sinks[i + 1].url()))
            .collect();
        let (url, holding) = (self.sinks[failed + 1].url(), holding.join(", "));
        Err(match others.into_iter().nth(failed) {
            Some(Err(error)) => {
                let why = format!("not in {url}: {}; it is in {holding}", error.message());
                Error::new(error.kind(), "write", key, why)
                    .transient(error.is_transient())
                    .with_source(error)
                    .hint(Hint::ReplicateLater)
            }
            _ => {
                let why = format!("{url} confirmed a size other than the {bytes} bytes sent; it is in {holding}");
                Error::new(ErrorKind::Internal, "write", key, why)
            }
        })
    }

    /// The answer of the first sink that does not fail. When all fail, the object counts as missing only if all say
    /// so.
    async fn first_that_can<T, F>(&self, ask: impl Fn(Arc<dyn Sink>) -> F) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        let mut failed: Option<Error> = None;
        for sink in &self.sinks {
            match ask(sink.clone()).await {
                Ok(found) => return Ok(found),
                Err(error) => {
                    if failed.as_ref().is_none_or(|f| f.kind() == ErrorKind::NotFound) {
                        failed = Some(error);
                    }
                }
            }
        }
        Err(failed.expect("there is a sink, and it failed"))
    }
}

#[async_trait]
impl Sink for Tee {
    fn url(&self) -> String {
        self.sinks.iter().map(Sink::url).collect::<Vec<_>>().join(" + ")
    }

    fn read_command(&self, key: &str) -> String {
        self.sinks[0].read_command(key)
    }

    async fn put(&self, key: &str, body: ByteStream) -> Result<u64> {
        self.put_with(key, body, PutOptions::new()).await
    }

    async fn put_with(&self, key: &str, body: ByteStream, options: PutOptions) -> Result<u64> {
        if options.replace {
            return self.write(key, body, options).await;
        }
        // The first cannot know of an object that only another holds.
        for sink in &self.sinks[1..] {
            match sink.head(key).await {
                Ok(_) => {
                    let why = format!("an object of that name is already in {}", sink.url());
                    return Err(Error::new(ErrorKind::AlreadyExists, "write", key, why));
                }
                // What is wrong otherwise shows when it is written to.
                Err(error) if error.kind() == ErrorKind::Config => return Err(error),
                Err(_) => {}
            }
        }
        self.write(key, body, options).await
    }

    async fn get(&self, key: &str, range: Option<Range<u64>>) -> Result<ByteStream> {
        self.first_that_can(|sink| {
            let range = range.clone();
            async move { sink.get(key, range).await }
        })
        .await
    }

    async fn head(&self, key: &str) -> Result<ObjectInfo> {
        self.first_that_can(|sink| async move { sink.head(key).await }).await
    }

    fn list(&self, prefix: &str) -> BoxStream<'_, Result<ObjectInfo>> {
        let prefix = prefix.to_owned();
        // A listing that has begun is not taken up by another sink: its objects may be others.
        let begin = async move {
            let mut failed = None;
            for sink in &self.sinks {
                let mut listed = sink.list(&prefix);
                match listed.next().await {
                    Some(Err(error)) => failed = failed.or(Some(error)),
                    first => return stream::iter(first).chain(listed).boxed(),
                }
            }
            stream::iter(failed.map(Err)).boxed()
        };
        stream::once(begin).flatten().boxed()
    }

    async fn delete(&self, keys: &[String]) -> Result<Deleted> {
        let mut all = Deleted::default();
        all.keys = keys.to_vec();
        let (mut bytes, mut failed) = (Some(0), None);
        for (sink, outcome) in self.sinks.iter().zip(join_all(self.sinks.iter().map(|s| s.delete(keys))).await) {
            match outcome {
                Ok(deleted) => {
                    all.keys.retain(|key| deleted.keys.contains(key));
                    bytes = bytes.zip(deleted.bytes).map(|(a, b)| a + b);
                    all.held.extend(
                        deleted
                            .held
                            .into_iter()
                            .filter(|h| all.held.iter().all(|k| k.key != h.key))
                            .collect::<Vec<_>>(),
                    );
                    for (key, why) in deleted.failed {
                        if all.failed.iter().all(|(failed, _)| *failed != key) {
                            all.failed.push((key, format!("{}: {why}", sink.url())));
                        }
                    }
                    all.notes.extend(deleted.notes);
                }
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        all.bytes = bytes;
        all.notes.dedup();
        failed.map_or(Ok(all), Err)
    }

    fn upkeep(&self) -> Option<&dyn Upkeep> {
        Some(self)
    }
}

/// Takes the first key of several ascending listings, and what each of them hides of it.
async fn next_hidden(each: &mut [Peekable<BoxStream<'_, Result<Hidden>>>]) -> Result<Option<Hidden>> {
    let mut first: Option<String> = None;
    for listing in &mut *each {
        // An error comes first: what follows it is not known.
        match std::pin::Pin::new(&mut *listing).next_if(Result::is_err).await {
            Some(failed) => return failed.map(Some),
            None => {
                if let Some(Ok(next)) = std::pin::Pin::new(listing).peek().await
                    && first.as_ref().is_none_or(|first| next.key < *first)
                {
                    first = Some(next.key.clone());
                }
            }
        }
    }
    let Some(key) = first else { return Ok(None) };
    let mut all: Option<Hidden> = None;
    for listing in each {
        let same = |next: &Result<Hidden>| next.as_ref().is_ok_and(|next| next.key == key);
        while let Some(Ok(next)) = std::pin::Pin::new(&mut *listing).next_if(same).await {
            all = Some(match all {
                Some(all) => Hidden::new(next.key, all.bytes + next.bytes, all.since.max(next.since)),
                None => next,
            });
        }
    }
    Ok(all)
}

impl Tee {
    /// The upkeep of those sinks that have any.
    fn upkeeps(&self) -> impl Iterator<Item = &dyn Upkeep> {
        self.sinks.iter().filter_map(|sink| sink.upkeep())
    }
}

#[async_trait]
impl Upkeep for Tee {
    async fn held(&self, keys: &[String]) -> Result<Vec<Held>> {
        let mut all: Vec<Held> = Vec::new();
        for upkeep in self.upkeeps() {
            for held in upkeep.held(keys).await? {
                if all.iter().all(|known| known.key != held.key) {
                    all.push(held);
                }
            }
        }
        Ok(all)
    }

    fn hidden(&self, prefix: &str) -> BoxStream<'_, Result<Hidden>> {
        let each: Vec<_> = self.upkeeps().map(|upkeep| upkeep.hidden(prefix).peekable()).collect();
        let merged = stream::try_unfold(each, |mut each| async move {
            Ok::<_, Error>(next_hidden(&mut each).await?.map(|hidden| (hidden, each)))
        });
        merged
            .try_filter_map(move |hidden| async move {
                match self.head(&hidden.key).await {
                    Ok(_) => Ok(None),
                    Err(error) if error.kind() == ErrorKind::NotFound => Ok(Some(hidden)),
                    Err(error) => Err(error),
                }
            })
            .boxed()
    }

    fn left_out(&self, prefix: &str) -> BoxStream<'_, Result<LeftOut>> {
        let each: Vec<_> = self.upkeeps().map(|upkeep| upkeep.left_out(prefix)).collect();
        stream::iter(each).flatten().boxed()
    }

    async fn abort_uploads_of(&self, key: &str, before: Timestamp, dry_run: bool) -> Result<Vec<String>> {
        let mut all = Vec::new();
        for upkeep in self.upkeeps() {
            all.extend(upkeep.abort_uploads_of(key, before, dry_run).await?);
        }
        Ok(all)
    }

    async fn abort_unfinished(&self, folder: &str, before: Timestamp, dry_run: bool) -> Result<Vec<String>> {
        let mut all = Vec::new();
        for upkeep in self.upkeeps() {
            all.extend(upkeep.abort_unfinished(folder, before, dry_run).await?);
        }
        Ok(all)
    }

    fn notes_in(&self, folder: &str) -> Option<Arc<dyn Sink>> {
        let apart = |sink: &Arc<dyn Sink>| match sink.upkeep() {
            Some(upkeep) => upkeep.notes_in(folder),
            // It leaves no notes.
            None => Some(sink.clone()),
        };
        let sinks = self.sinks.iter().map(apart).collect::<Option<_>>()?;
        Some(Arc::new(Self { sinks }))
    }
}
