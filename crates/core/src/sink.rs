//! The [`Sink`] trait: stores, lists, reads and deletes objects.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use futures::stream::BoxStream;
use jiff::Timestamp;
use serde::Serialize;

use crate::error::{Error, ErrorKind, Result};
use crate::report::Check;
use crate::stream::ByteStream;

/// The folder, beside the artifacts, that holds notes about unfinished uploads. It never contains artifacts.
pub const UPLOADS_FOLDER: &str = "_lifeboat/uploads";

/// The folder, beside the artifacts, in which [`check::sink`](crate::check::sink) puts its probes.
pub const PROBES_FOLDER: &str = "_lifeboat/probe";

/// What a sink knows about a stored object without reading it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ObjectInfo {
    /// The key, relative to the sink.
    pub key: String,
    /// Size in bytes.
    pub bytes: u64,
    /// When it was last written, by the store's clock.
    pub modified: Timestamp,
}

impl ObjectInfo {
    /// Creates the info for an object: its key, its size in bytes and when it was last written.
    pub fn new(key: impl Into<String>, bytes: u64, modified: Timestamp) -> Self {
        Self { key: key.into(), bytes, modified }
    }
}

/// The outcome of deleting several objects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Deleted {
    /// Keys that no longer exist (including those that did not exist before).
    pub keys: Vec<String>,
    /// The number of stored bytes freed, including all versions. `None` if the store does not say; a listing shows the
    /// sizes.
    pub bytes: Option<u64>,
    /// Keys that the store itself holds for some time. This is not a failure, and none of them was hidden.
    pub held: Vec<Held>,
    /// Keys that could not be deleted, each with the reason. These objects still exist.
    pub failed: Vec<(String, String)>,
    /// Notes for the user, without duplicates: objects could only be hidden, and which right was missing.
    pub notes: Vec<String>,
}

/// An object that its store does not allow to be deleted yet (S3 Object Lock).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Held {
    /// The key.
    pub key: String,
    /// When the hold ends. `None` for a legal hold, which somebody has to lift.
    pub until: Option<Timestamp>,
    /// What holds the object.
    pub mode: HoldMode,
}

impl Held {
    /// Creates the hold of an object that ends at a time or, for a legal hold, when somebody lifts it.
    pub fn new(key: impl Into<String>, until: Option<Timestamp>, mode: HoldMode) -> Self {
        Self { key: key.into(), until, mode }
    }
}

impl fmt::Display for Held {
    /// `held until 2026-12-21T03:30:00Z (governance)`, without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.until {
            Some(until) => {
                let until = Timestamp::from_second(until.as_second()).unwrap_or(until);
                write!(f, "held until {until} ({})", self.mode)
            }
            None => write!(f, "held by a {}", self.mode),
        }
    }
}

/// What holds an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum HoldMode {
    /// A retention that an identity with a special right can lift early.
    Governance,
    /// A retention that nobody can lift early.
    Compliance,
    /// A hold that lasts until somebody lifts it.
    LegalHold,
}

impl fmt::Display for HoldMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Governance => "governance",
            Self::Compliance => "compliance",
            Self::LegalHold => "legal hold",
        })
    }
}

/// An object that is no longer visible but still takes space: only older versions under a delete marker are left.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Hidden {
    /// The key, relative to the sink.
    pub key: String,
    /// The total size of its versions, in bytes.
    pub bytes: u64,
    /// When it was hidden, by the store's clock.
    pub since: Timestamp,
}

impl Hidden {
    /// Creates a hidden object of `bytes` bytes that was hidden at `since`.
    pub fn new(key: impl Into<String>, bytes: u64, since: Timestamp) -> Self {
        Self { key: key.into(), bytes, since }
    }
}

/// Something in a sink that is in no listing because it is not an object: a link, or a file whose name cannot be a key.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LeftOut {
    /// The path, relative to the sink. Bytes that are not text are escaped, as `\xe4`.
    pub path: String,
    /// What it is, in words.
    pub what: &'static str,
}

impl LeftOut {
    /// Creates an entry for a path.
    pub fn new(path: impl Into<String>, what: &'static str) -> Self {
        Self { path: path.into(), what }
    }
}

/// How an object is stored: what [`Sink::put_with`] can do beyond [`Sink::put`].
///
/// ```
/// use lifeboat_core::sink::PutOptions;
///
/// let options = PutOptions::new().lock(true);
/// assert!(options.lock && !options.replace);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PutOptions {
    /// Whether to lock the object if the sink was opened with a lock (S3 Object Lock). Other sinks store it as usual.
    pub lock: bool,
    /// Whether the object replaces whatever is stored under the key.
    pub replace: bool,
}

impl PutOptions {
    /// Creates the options of [`Sink::put`]: no lock, and only under a free key.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets whether the object is locked if the sink was opened with a lock. Backups are locked; notes, probes and the
    /// records of verifications are not, because they are removed before a lock would end.
    #[must_use]
    pub fn lock(self, lock: bool) -> Self {
        Self { lock, ..self }
    }

    /// Sets whether the object may replace another.
    #[must_use]
    pub fn replace(self, replace: bool) -> Self {
        Self { replace, ..self }
    }
}

/// Stores, lists, reads and deletes objects under keys.
///
/// A key is a relative path with `/` between its parts. No part is empty, `.` or `..`, or contains ASCII control
/// characters. Keys of up to 1,024 bytes are accepted if the store accepts them. A sink is opened at a location (a
/// folder, a bucket with a prefix), and every key is relative to it.
///
/// A sink must implement [`url`](Sink::url), [`read_command`](Sink::read_command), [`put`](Sink::put), [`get`](Sink::get),
/// [`head`](Sink::head), [`list`](Sink::list) and [`delete`](Sink::delete). The other methods have defaults that suit a
/// store without locks, versions and unfinished uploads.
///
/// # Contract
/// - **All or nothing.** `get`, `head` and `list` see an object only when it is whole and durable.
/// - **No overwriting.** A `put` to an existing key fails and leaves the object as it was. If several write a free key
///   at the same time, exactly one succeeds.
/// - **Verified.** The sink checks that a stored object exists with the size that was sent, and that a deleted one is
///   gone. Without the right to check, it takes the store's word.
/// - **Explicit end of listings.** A listing that is, or may be, incomplete is an error.
/// - **Strongly consistent listings.** What `put` has confirmed is in the next `list`.
/// - Errors have the right kind: missing object [`NotFound`](crate::ErrorKind::NotFound), missing rights
///   [`Permission`](crate::ErrorKind::Permission), existing key
///   [`AlreadyExists`](crate::ErrorKind::AlreadyExists), store not reachable
///   [`Unavailable`](crate::ErrorKind::Unavailable), text that is not a key [`Config`](crate::ErrorKind::Config). An error about
///   an object names its key.
///
/// `lifeboat_conformance::sink` checks all of this, and its documentation shows a complete sink. Every implementation
/// must pass it.
#[async_trait]
pub trait Sink: Send + Sync + fmt::Debug {
    /// The location as a URL without credentials, for messages and reports: `s3://bucket/prefix`.
    fn url(&self) -> String;

    /// The start of a shell line that writes the object to standard output with stock tools: `cat '/dir/key'`,
    /// `aws s3 cp s3://bucket/key -`.
    fn read_command(&self, key: &str) -> String;

    /// Stores a stream of unknown length under `key` and returns its size in bytes.
    ///
    /// # Behaviour
    /// - If the stream yields an error, or ends early in any way, nothing is stored, the upload is aborted, and that
    ///   error is returned unchanged.
    /// - It returns when the object is durable: the folder has been synced or the store has confirmed, and a check has
    ///   found the object.
    /// - Memory is bounded regardless of the length.
    /// - While it runs, whatever a killed process would leave behind is noted in [`UPLOADS_FOLDER`] beside the key (or
    ///   where [`Upkeep::notes_in`] says), so that [`Upkeep::abort_unfinished`] can clean up.
    ///
    /// # Errors
    /// [`AlreadyExists`](crate::ErrorKind::AlreadyExists) if the key is taken; if the store allows it, before anything
    /// is sent. [`Corrupt`](crate::ErrorKind::Corrupt) if the store has confirmed the object, but what it stored is not
    /// what was sent.
    ///
    /// # Cancel safety
    /// A dropped future stores nothing visible. Parts that were already uploaded may stay until
    /// [`Upkeep::abort_unfinished`]. To cancel cleanly, let the stream end with an error.
    async fn put(&self, key: &str, body: ByteStream) -> Result<u64>;

    /// Stores a stream like [`put`](Sink::put), with options.
    ///
    /// The default stores without a lock, and refuses to replace. In a sink that implements this method, `put` must be
    /// the same as `put_with` and [`PutOptions::new`]; a sink that wraps another one must pass the options on.
    ///
    /// # Behaviour
    /// - With [`lock`](PutOptions::lock), a sink that was opened with a lock keeps the object from being deleted or replaced
    ///   until the lock ends. Without it, the object is not locked.
    /// - With [`replace`](PutOptions::replace), the key may be taken. At any time, a reader gets either the whole old
    ///   object or the whole new one: a killed process or a failing stream leaves the old one as it was. A store that
    ///   keeps versions keeps the old one as a version.
    ///
    /// # Errors
    /// Those of `put`. [`Unsupported`](crate::ErrorKind::Unsupported) if the sink cannot replace.
    ///
    /// # Cancel safety
    /// Like [`put`](Sink::put).
    async fn put_with(&self, key: &str, body: ByteStream, options: PutOptions) -> Result<u64> {
        if options.replace {
            let why = "this sink never replaces an object";
            return Err(Error::new(ErrorKind::Unsupported, "replace", key, why));
        }
        self.put(key, body).await
    }

    /// Calls [`put_with`](Sink::put_with) so that it may replace what is stored under `key`. Artifacts are never
    /// replaced; this is for copies of objects that other tools rewrite.
    ///
    /// # Errors
    /// Like [`put_with`](Sink::put_with).
    ///
    /// # Cancel safety
    /// Like [`put`](Sink::put).
    async fn replace(&self, key: &str, body: ByteStream) -> Result<u64> {
        self.put_with(key, body, PutOptions::new().replace(true)).await
    }

    /// Reads an object, or a range of its bytes.
    ///
    /// # Behaviour
    /// - A range is cut off at the object's end; one that begins at or after the end is empty.
    /// - A broken connection is resumed where it broke, or ends the stream with an error: the stream never
    ///   ends early as if it were complete.
    ///
    /// # Errors
    /// [`NotFound`](crate::ErrorKind::NotFound).
    async fn get(&self, key: &str, range: Option<Range<u64>>) -> Result<ByteStream>;

    /// Returns the size and time of an object.
    ///
    /// # Errors
    /// [`NotFound`](crate::ErrorKind::NotFound).
    async fn head(&self, key: &str) -> Result<ObjectInfo>;

    /// Lists every object whose key starts with `prefix` (a plain string prefix, not only a folder; `""` for all), in
    /// ascending order of keys by their bytes, page by page: memory does not grow with their number.
    ///
    /// # Behaviour
    /// - Objects in a `_lifeboat/` folder are left out, unless `prefix` leads into one.
    /// - If the sink's location does not exist, the listing is an error, not empty: a typo must not look like an empty
    ///   bucket. The listing of a prefix with nothing under it is empty.
    fn list(&self, prefix: &str) -> BoxStream<'_, Result<ObjectInfo>>;

    /// Deletes objects, and frees their space. An object that does not exist counts as deleted. Continues after a
    /// failure, and reports the result for each key.
    ///
    /// # Behaviour
    /// - If the store keeps versions, deletes every version and delete marker of exactly these keys, never one of
    ///   another key with the same prefix.
    /// - Without the right to delete versions, objects are hidden instead, and the result's notes say so.
    /// - An object that the store holds (Object Lock) stays as it is, and is in the result with the time.
    /// - A text that is not a key is among the [failed](Deleted::failed) ones; so is an object that still exists
    ///   although the store reports it deleted.
    ///
    /// # Errors
    /// Only errors that make the whole call fail (the store cannot be reached).
    async fn delete(&self, keys: &[String]) -> Result<Deleted>;

    /// The operations that only upkeep needs: see [`Upkeep`]. `None`, the default, is for a store that holds and hides
    /// nothing, and in which a `put` leaves nothing behind however it ends, even if the process is killed.
    fn upkeep(&self) -> Option<&dyn Upkeep> {
        None
    }
}

/// The part of a [`Sink`] that checks, cleanups and prunes need, but backups, verifications and restores do not: which
/// objects the store holds, which it only hides, how the store is set up, and what unfinished uploads have left behind.
///
/// A sink provides it through [`Sink::upkeep`]. The default of each method reports that there is nothing of its kind.
#[async_trait]
pub trait Upkeep: Send + Sync {
    /// Returns which of these objects the store holds, so that [`Sink::delete`] would leave them. Returns none if the
    /// store cannot hold objects, or without the right to ask.
    ///
    /// # Errors
    /// Only errors that make the whole call fail.
    async fn held(&self, _keys: &[String]) -> Result<Vec<Held>> {
        Ok(Vec::new())
    }

    /// Lists every key that starts with `prefix` and has only hidden versions left, in ascending order, page by page. A
    /// store without versions has none. Folders named `_lifeboat` are left out as in [`Sink::list`].
    ///
    /// # Behaviour
    /// - If the store keeps versions but this identity may not list them, the result is an error of kind
    ///   [`Permission`](crate::ErrorKind::Permission).
    fn hidden(&self, _prefix: &str) -> BoxStream<'_, Result<Hidden>> {
        Box::pin(futures::stream::empty())
    }

    /// Lists what is below `prefix` but in no listing of objects, in no particular order. Folders named `_lifeboat` are
    /// left out as in [`Sink::list`]. A store that contains nothing but objects has none.
    fn left_out(&self, _prefix: &str) -> BoxStream<'_, Result<LeftOut>> {
        Box::pin(futures::stream::empty())
    }

    /// Checks how the store is set up before it is relied on: whether it exists, how it is reached, what it does with
    /// versions, old objects and unfinished uploads. Each check has a figure, and says what to do.
    ///
    /// `folder` is where the artifacts are; `probe` is an existing object that the sink may try to overwrite (with the
    /// same content) to see whether the store refuses. [`check::sink`](crate::check::sink) calls this, and also tries
    /// the rights.
    async fn inspect(&self, _folder: &str, _probe: Option<&str>) -> Vec<Check> {
        Vec::new()
    }

    /// Aborts the unfinished uploads of one key that were begun before `before`, including those for which no note
    /// could be written: the id of an upload is known only after it has begun. Returns what was aborted, in words for a
    /// report. A store that has no such uploads does nothing.
    ///
    /// # Errors
    /// [`Permission`](crate::ErrorKind::Permission) if they may not be listed.
    async fn abort_uploads_of(&self, _key: &str, _before: Timestamp, _dry_run: bool) -> Result<Vec<String>> {
        Ok(Vec::new())
    }

    /// Aborts what an earlier `put` began and did not finish: uploads and temporary objects noted in the
    /// [`UPLOADS_FOLDER`] of `folder` (a key prefix without a trailing slash; `""` for the sink itself), if they
    /// were begun before `before`. Returns what was removed, in words for a report.
    ///
    /// # Behaviour
    /// - It touches nothing that Lifeboat did not begin.
    /// - With `dry_run`, it only reports what it would remove.
    async fn abort_unfinished(&self, _folder: &str, _before: Timestamp, _dry_run: bool) -> Result<Vec<String>> {
        Ok(Vec::new())
    }

    /// Returns the same sink, but with notes about unfinished uploads in the [`UPLOADS_FOLDER`] of `folder` (`""` for
    /// the sink itself) instead of beside each key. This is for keys in another tool's folder, where Lifeboat must not
    /// add anything. [`abort_unfinished`](Upkeep::abort_unfinished) of that folder finds them. `None` if the sink
    /// cannot do so.
    ///
    /// It is part of upkeep because only a sink that leaves something to clean up writes notes: one without upkeep
    /// writes nothing beside the keys.
    fn notes_in(&self, _folder: &str) -> Option<Arc<dyn Sink>> {
        None
    }
}

/// The upkeep of a sink that needs none.
struct NoUpkeep;

impl Upkeep for NoUpkeep {}

/// Returns the upkeep of `sink`, or one with only default methods if the sink has none.
pub fn upkeep(sink: &dyn Sink) -> &dyn Upkeep {
    sink.upkeep().unwrap_or(&NoUpkeep)
}

/// Makes sure that an object confirmed by a sink exists with this size, before anything relies on it. Without the right
/// to look, takes the sink's word.
///
/// # Errors
/// [`ErrorKind::Corrupt`] if it does not exist or has another size; any error of the sink.
pub(crate) async fn see_that_it_is_there(
    sink: &dyn Sink,
    operation: &'static str,
    key: &str,
    bytes: u64,
) -> Result<()> {
    let wrong = |why: String| {
        Err(Error::new(ErrorKind::Corrupt, operation, key, format!("{} confirmed it, but {why}", sink.url()))
            .hint("the store, or a proxy in front of it, confirms writes that it does not carry out"))
    };
    match sink.head(key).await {
        Ok(there) if there.bytes == bytes => Ok(()),
        Ok(there) => wrong(format!("{} of the {bytes} bytes sent are there", there.bytes)),
        Err(error) if error.kind() == ErrorKind::NotFound => wrong("it is not there".to_owned()),
        Err(error) if error.kind() == ErrorKind::Permission => Ok(()),
        Err(error) => Err(error),
    }
}

/// Implements the trait for pointers: whatever takes a sink also takes an `Arc<dyn Sink>`.
macro_rules! pointers {
    ($($pointer:ident),*) => {$(
        #[async_trait]
        impl<T: Sink + ?Sized> Sink for $pointer<T> {
            fn url(&self) -> String {
                (**self).url()
            }

            fn read_command(&self, key: &str) -> String {
                (**self).read_command(key)
            }

            async fn put(&self, key: &str, body: ByteStream) -> Result<u64> {
                (**self).put(key, body).await
            }

            async fn put_with(&self, key: &str, body: ByteStream, options: PutOptions) -> Result<u64> {
                (**self).put_with(key, body, options).await
            }

            async fn replace(&self, key: &str, body: ByteStream) -> Result<u64> {
                (**self).replace(key, body).await
            }

            async fn get(&self, key: &str, range: Option<Range<u64>>) -> Result<ByteStream> {
                (**self).get(key, range).await
            }

            async fn head(&self, key: &str) -> Result<ObjectInfo> {
                (**self).head(key).await
            }

            fn list(&self, prefix: &str) -> BoxStream<'_, Result<ObjectInfo>> {
                (**self).list(prefix)
            }

            async fn delete(&self, keys: &[String]) -> Result<Deleted> {
                (**self).delete(keys).await
            }

            fn upkeep(&self) -> Option<&dyn Upkeep> {
                (**self).upkeep()
            }
        }
    )*};
}
pointers!(Arc, Box);
