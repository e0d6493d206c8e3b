//! Stand-ins for what surrounds the core: a source, taps, an encryptor that fails, and a sink that does as it is told.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt};
use jiff::Timestamp;
use lifeboat_core::catalog::{self, Artifact};
use lifeboat_core::context::Clock;
use lifeboat_core::proof::WholeStream;
use lifeboat_core::sink::{Deleted, PutOptions};
use lifeboat_core::{
    Backup, ByteStream, Context, Dataset, Description, Encryptor, Error, ErrorKind, Estimate, Fingerprint, ObjectInfo,
    Proof, ProofItem, Prune, Reading, Result, Sink, Source, Tap, async_trait,
};
use lifeboat_testkit::memory::MemorySink;

/// The folder of the tests' backups.
pub const FOLDER: &str = "db";
/// The key of an artifact of [`backup`] that is compressed with zstd and not encrypted.
pub const KEY: &str = "db/shop-20261121-033000.dump.zst";
/// The key of the note beside it.
pub const NOTE: &str = "db/_lifeboat/uploads/shop-20261121-033000.dump.zst.intent.json";
/// What no manifest, record or error may say: the name of what is inside.
pub const ITEM: &str = "public.secret_orders";

pub fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// A clock that stands.
pub fn clock() -> Clock {
    clock_at("2026-11-21T03:30:00.7Z")
}

pub fn clock_at(text: &str) -> Clock {
    let now = at(text);
    Arc::new(move || now)
}

pub fn context() -> Context {
    Context::default().clock(clock())
}

pub fn dataset(name: &str) -> Dataset {
    Dataset::new(name).unwrap()
}

/// A backup of `source` into [`FOLDER`], not encrypted, at the time of [`clock`]. It leaves no record of itself.
pub fn backup(source: impl Source + 'static) -> Backup {
    Backup::new(source).prefix(FOLDER).unencrypted().history(false).context(context())
}

pub async fn list_all(sink: &dyn Sink, folder: &str, of: Option<&str>) -> Result<Vec<Artifact>> {
    let of = of.map(dataset);
    let mut listed = catalog::list(sink, folder, of.as_ref());
    let mut all = Vec::new();
    while let Some(artifact) = listed.next().await {
        all.push(artifact?);
    }
    Ok(all)
}

pub async fn the_artifact(sink: &dyn Sink) -> Artifact {
    let mut all = list_all(sink, FOLDER, None).await.unwrap();
    assert_eq!(all.len(), 1, "{all:?}");
    all.remove(0)
}

/// Ends a test that hangs.
pub async fn soon<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), work).await.expect("it ends")
}

type MakeStream = Box<dyn Fn(&Context) -> ByteStream + Send + Sync>;
type MakeTap = Box<dyn Fn() -> Box<dyn Tap> + Send + Sync>;

/// A source whose stream and tap the test makes.
pub struct FakeSource {
    pub stream: MakeStream,
    pub tap: MakeTap,
    pub opens: Arc<AtomicUsize>,
    pub describe: Result<Description, ErrorKind>,
    pub open_fails: bool,
    /// What it says of its size; an error where it cannot be asked.
    pub estimate: Result<Option<u64>, ErrorKind>,
}

impl FakeSource {
    pub fn new(stream: impl Fn(&Context) -> ByteStream + Send + Sync + 'static) -> Self {
        let description = Description::new("fake", "dump")
            .dataset("shop")
            .server_version("15.18".to_owned())
            .tool("fake_dump 1".to_owned());
        Self {
            stream: Box::new(stream),
            tap: Box::new(|| Box::new(WholeStream::new(ITEM))),
            opens: Arc::default(),
            describe: Ok(description),
            open_fails: false,
            estimate: Ok(None),
        }
    }

    pub fn of(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        Self::new(move |_| stream_of(bytes.clone()))
    }

    /// Gives `bytes`, and then the failure of [`killed`].
    pub fn dying_after(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        Self::new(move |_| stream_of(bytes.clone()).chain(stream::once(async { Err(killed()) })).boxed())
    }

    pub fn tapped_by(mut self, tap: impl Fn() -> Box<dyn Tap> + Send + Sync + 'static) -> Self {
        self.tap = Box::new(tap);
        self
    }

    pub fn format(mut self, format: &str) -> Self {
        self.describe.as_mut().unwrap().format = format.to_owned();
        self
    }
}

#[async_trait]
impl Source for FakeSource {
    async fn describe(&self) -> Result<Description> {
        match &self.describe {
            Ok(description) => Ok(description.clone()),
            Err(kind) => Err(Error::new(*kind, "connect to", "db.example.org", "refused")),
        }
    }

    async fn estimate(&self) -> Result<Option<Estimate>> {
        match self.estimate {
            Ok(bytes) => Ok(bytes.map(Estimate::new)),
            Err(kind) => Err(Error::new(kind, "ask", "db.example.org", "no")),
        }
    }

    async fn open(&self, cx: &Context) -> Result<Reading> {
        self.opens.fetch_add(1, Ordering::SeqCst);
        if self.open_fails {
            return Err(killed());
        }
        Ok(Reading::new((self.stream)(cx), (self.tap)()))
    }
}

/// Chunks of uneven sizes.
pub fn stream_of(bytes: Bytes) -> ByteStream {
    let sizes = [1, 70_000, 0, 1 << 20];
    stream::unfold((bytes, 0), move |(mut bytes, n)| async move {
        if bytes.is_empty() {
            return None;
        }
        let chunk = bytes.split_to(sizes[n % sizes.len()].min(bytes.len()));
        Some((Ok(chunk), (bytes, n + 1)))
    })
    .boxed()
}

pub fn killed() -> Error {
    Error::new(ErrorKind::Tool, "run", "fake_dump of shop", "it ended with exit code 1").hint("look at its log")
}

pub fn assert_is_killed(error: &Error) {
    assert_eq!(
        (error.kind(), error.operation(), error.subject(), error.message(), error.advice()),
        (ErrorKind::Tool, "run", "fake_dump of shop", "it ended with exit code 1", Some("look at its log")),
    );
}

/// Announces more than comes: refuses at the end.
pub struct RefusingTap;

impl Tap for RefusingTap {
    fn push(&mut self, _: &[u8]) -> Result<()> {
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<Proof> {
        Err(Error::new(ErrorKind::Corrupt, "read", "the archive", "a block that was announced has not come"))
    }
}

/// Counts lines: each line is a row of `<table>,<anything>`.
#[derive(Default)]
pub struct LinesTap {
    tables: std::collections::BTreeMap<String, (u64, Fingerprint)>,
    pending: Vec<u8>,
}

impl Tap for LinesTap {
    fn push(&mut self, chunk: &[u8]) -> Result<()> {
        for byte in chunk {
            if *byte != b'\n' {
                self.pending.push(*byte);
                continue;
            }
            let line = String::from_utf8(std::mem::take(&mut self.pending))
                .map_err(|_| Error::new(ErrorKind::Corrupt, "parse", "the lines", "not UTF-8"))?;
            let Some((table, row)) = line.split_once(',') else {
                return Err(Error::new(ErrorKind::Corrupt, "parse", "the lines", "a line without a table"));
            };
            let sum = self.tables.entry(table.to_owned()).or_default();
            sum.0 += 1;
            sum.1.add(row.as_bytes());
        }
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<Proof> {
        if !self.pending.is_empty() {
            return Err(Error::new(ErrorKind::Corrupt, "parse", "the lines", "the last line has no end"));
        }
        let items =
            self.tables.into_iter().map(|(name, (count, sum))| ProofItem::new("table", name, count).fingerprint(sum));
        Ok(Proof::new(items))
    }
}

/// Lines for [`LinesTap`]: 1,000 rows of two tables.
pub fn lines() -> Bytes {
    (0..1000).map(|n| format!("{},row {n}\n", if n % 3 == 0 { ITEM } else { "public.b" })).collect::<String>().into()
}

/// Passes some bytes on and then fails.
#[derive(Debug)]
pub struct FailingEncryptor {
    pub at_once: bool,
}

impl FailingEncryptor {
    pub fn failure() -> Error {
        Error::new(ErrorKind::Internal, "encrypt", "the stream", "the cipher broke")
    }
}

impl Encryptor for FailingEncryptor {
    fn scheme(&self) -> &'static str {
        "age"
    }
    fn suffix(&self) -> &'static str {
        "age"
    }
    fn can_decrypt(&self) -> bool {
        false
    }
    fn recognises(&self, _: &[u8]) -> bool {
        true
    }
    fn encrypt(&self, plaintext: ByteStream) -> Result<ByteStream> {
        if self.at_once {
            return Err(Self::failure());
        }
        Ok(plaintext.take(1).chain(stream::once(async { Err(Self::failure()) })).boxed())
    }
    fn decrypt(&self, _: ByteStream) -> Result<ByteStream> {
        Err(Self::failure())
    }
}

/// An encryptor with a suffix that no name can have.
#[derive(Debug)]
pub struct OddSuffix;

impl Encryptor for OddSuffix {
    fn scheme(&self) -> &'static str {
        "gpg"
    }
    fn suffix(&self) -> &'static str {
        "gpg"
    }
    fn can_decrypt(&self) -> bool {
        false
    }
    fn recognises(&self, _: &[u8]) -> bool {
        true
    }
    fn encrypt(&self, plaintext: ByteStream) -> Result<ByteStream> {
        Ok(plaintext)
    }
    fn decrypt(&self, ciphertext: ByteStream) -> Result<ByteStream> {
        Ok(ciphertext)
    }
}

/// What becomes of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is done.
    Done,
    /// It fails, with nothing done.
    Fails,
    /// It fails after it was done: the answer was lost.
    LosesItsAnswer,
    /// It never ends. It has not read anything.
    Hangs,
    /// It confirms without having read to the end; a deletion, without having done it.
    ConfirmsEarly,
}

type Script = Arc<dyn Fn(&str, &str) -> Fate + Send + Sync>;

/// A sink in memory that does with each call (`put`, `delete`, `head`, `get`) on each key what the test says, and
/// remembers the order of what was asked.
#[derive(Clone)]
pub struct ScriptedSink {
    pub memory: MemorySink,
    script: Script,
    log: Arc<Mutex<Vec<String>>>,
    locked: Arc<Mutex<Vec<String>>>,
    name: &'static str,
}

impl ScriptedSink {
    pub fn new(script: impl Fn(&str, &str) -> Fate + Send + Sync + 'static) -> Self {
        let (log, locked) = Default::default();
        Self { memory: MemorySink::new(), script: Arc::new(script), log, locked, name: "scripted" }
    }

    pub fn over(memory: MemorySink, script: impl Fn(&str, &str) -> Fate + Send + Sync + 'static) -> Self {
        Self { memory, ..Self::new(script) }
    }

    /// With another URL: a second place.
    pub fn named(self, name: &'static str) -> Self {
        Self { name, ..self }
    }

    pub fn arc(&self) -> Arc<dyn Sink> {
        Arc::new(self.clone())
    }

    pub fn log(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }

    /// The keys for which a lock was asked for, in order.
    pub fn locked(&self) -> Vec<String> {
        self.locked.lock().unwrap().clone()
    }

    fn fate(&self, call: &str, key: &str) -> Fate {
        self.log.lock().unwrap().push(format!("{call} {key}"));
        (self.script)(call, key)
    }
}

/// How [`ScriptedSink`] fails.
pub fn full(key: &str) -> Error {
    Error::new(ErrorKind::Io, "write", key, "the disk is full").hint("free some space")
}

impl fmt::Debug for ScriptedSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ScriptedSink")
    }
}

#[async_trait]
impl Sink for ScriptedSink {
    fn url(&self) -> String {
        format!("memory://{}", self.name)
    }

    fn read_command(&self, key: &str) -> String {
        self.memory.read_command(key)
    }

    async fn put(&self, key: &str, body: ByteStream) -> Result<u64> {
        self.put_with(key, body, PutOptions::new()).await
    }

    async fn put_with(&self, key: &str, mut body: ByteStream, options: PutOptions) -> Result<u64> {
        if options.replace {
            return match self.fate("replace", key) {
                Fate::Fails => Err(full(key)),
                Fate::Hangs => std::future::pending().await,
                _ => self.memory.put_with(key, body, options).await,
            };
        }
        if options.lock {
            self.locked.lock().unwrap().push(key.to_owned());
        }
        match self.fate("put", key) {
            Fate::Done => self.memory.put(key, body).await,
            Fate::Fails => Err(full(key)),
            Fate::LosesItsAnswer => {
                self.memory.put(key, body).await?;
                Err(full(key))
            }
            Fate::Hangs => std::future::pending().await,
            Fate::ConfirmsEarly => Ok(body.next().await.map_or(0, |chunk| chunk.unwrap().len()) as u64),
        }
    }

    async fn get(&self, key: &str, range: Option<Range<u64>>) -> Result<ByteStream> {
        match self.fate("get", key) {
            Fate::Hangs => std::future::pending().await,
            Fate::Fails => Err(full(key)),
            _ => self.memory.get(key, range).await,
        }
    }

    async fn head(&self, key: &str) -> Result<ObjectInfo> {
        match self.fate("head", key) {
            Fate::Hangs => std::future::pending().await,
            Fate::Fails => Err(full(key)),
            _ => self.memory.head(key).await,
        }
    }

    fn list(&self, prefix: &str) -> BoxStream<'_, Result<ObjectInfo>> {
        self.log.lock().unwrap().push(format!("list {prefix}"));
        self.memory.list(prefix)
    }

    async fn delete(&self, keys: &[String]) -> Result<Deleted> {
        let mut deleted = Deleted::default();
        for key in keys {
            match self.fate("delete", key) {
                Fate::Hangs => std::future::pending().await,
                Fate::Fails => deleted.failed.push((key.clone(), "this key may not delete".to_owned())),
                Fate::LosesItsAnswer => return Err(full(key)),
                Fate::ConfirmsEarly => deleted.keys.push(key.clone()),
                _ => deleted.keys.extend(self.memory.delete(std::slice::from_ref(key)).await?.keys),
            }
        }
        Ok(deleted)
    }
}

/// Says when it is dropped.
pub struct Guard(pub Option<tokio::sync::oneshot::Sender<()>>);

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(sender) = self.0.take() {
            let _ = sender.send(());
        }
    }
}

/// A prune of the dataset `shop` in the folder `db`, as of this time.
pub fn prune_at(sink: impl Sink + 'static, now: &str) -> Prune {
    Prune::new(sink, dataset("shop")).folder("db").context(Context::default().clock(clock_at(now)))
}
