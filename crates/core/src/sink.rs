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

/// The folder, beside the artifacts, that holds notes about unfinished uploads. No artifact has a key in it.
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
    /// Says of a key how many bytes it has and when it was last written.
    pub fn new(key: impl Into<String>, bytes: u64, modified: Timestamp) -> Self {
        Self { key: key.into(), bytes, modified }
    }
}

/// The outcome of deleting several objects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Deleted {
    /// Keys that are gone now (one that was not there before counts as gone).
    pub keys: Vec<String>,
    /// Stored bytes that were freed, all versions together. `None` where the store does not say; whoever has listed the
    /// objects knows.
    pub bytes: Option<u64>,
    /// Keys that the store itself holds until a time: not a failure, and nothing of them was hidden.
    pub held: Vec<Held>,
    /// Keys that could not be deleted, each with the reason. They are still there.
    pub failed: Vec<(String, String)>,
    /// Notes for a person: that objects could only be hidden, and which right was missing. Each is there once.
    pub notes: Vec<String>,
}

/// An object that its store does not let anyone delete yet (S3's Object Lock).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Held {
    /// The key.
    pub key: String,
    /// Until when. `None` for a legal hold, which somebody has to lift.
    pub until: Option<Timestamp>,
    /// What holds it.
    pub mode: HoldMode,
}

impl Held {
    /// Creates the hold of an object, until a time or, for a legal hold, until somebody lifts it.
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

/// An object that is no longer visible but still takes space: only older versions below a delete marker are left of
/// its key.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Hidden {
    /// The key, relative to the sink.
    pub key: String,
    /// Size of all its versions in bytes.
    pub bytes: u64,
    /// Since when it is hidden, by the store's clock.
    pub since: Timestamp,
}

impl Hidden {
    /// Creates what is left of a key: so many bytes, hidden since then.
    pub fn new(key: impl Into<String>, bytes: u64, since: Timestamp) -> Self {
        Self { key: key.into(), bytes, since }
    }
}

/// Something at the place of a sink that no listing gives, because it is no object: a link, or a file whose name can be no key.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LeftOut {
    /// Where it is, relative to the sink. Bytes that are no text are escaped, as `\xe4`.
    pub path: String,
    /// What it is, in words.
    pub what: &'static str,
}

impl LeftOut {
    /// Creates what is left out at a path.
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
    /// The object is worth locking: a sink that was opened with a lock (S3's Object Lock) locks it. Every other sink stores it
    /// as usual.
    pub lock: bool,
    /// The object replaces whatever is stored under the key.
    pub replace: bool,
}

impl PutOptions {
    /// The options of [`Sink::put`]: without a lock, and only under a free key.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether the object is locked where the sink was opened with a lock. Backups are; notes, probes and the records of
    /// verifications are not, because they are removed before a lock would end.
    #[must_use]
    pub fn lock(self, lock: bool) -> Self {
        Self { lock, ..self }
    }

    /// Whether the object may replace another.
    #[must_use]
    pub fn replace(self, replace: bool) -> Self {
        Self { replace, ..self }
    }
}

/// Stores, lists, reads and deletes objects under keys.
///
/// A key is a relative path with `/` between its parts; no part is empty, `.` or `..`, and none has a control character of
/// ASCII. Keys of up to 1,024 bytes are accepted if the store accepts them. A sink is opened at a place (a folder, a bucket with a
/// prefix), and every key is relative to it.
///
/// A sink must implement [`url`](Sink::url), [`read_command`](Sink::read_command), [`put`](Sink::put), [`get`](Sink::get),
/// [`head`](Sink::head), [`list`](Sink::list) and [`delete`](Sink::delete). The rest has defaults that suit a store without
/// locks, versions and unfinished uploads.
///
/// # Contract
/// - **All or nothing.** An object is seen by `get`, `head` and `list` only when it is whole and durable.
/// - **Never overwrites.** A `put` to a key that exists fails and leaves the object as it was. Of several that write a free key at
///   the same moment exactly one succeeds.
/// - **True.** It checks that a stored object is there with the size that was sent, and that a deleted one is gone. An identity
///   without the right to check takes the store's word.
/// - **A listing has an explicit end.** A listing that is incomplete, or may be, is an error.
/// - **Strong listing.** What `put` has confirmed is in the next `list`.
/// - Errors carry the kind: missing object [`NotFound`](crate::ErrorKind::NotFound), missing rights
///   [`Permission`](crate::ErrorKind::Permission), existing key
///   [`AlreadyExists`](crate::ErrorKind::AlreadyExists), store not reachable
///   [`Unavailable`](crate::ErrorKind::Unavailable), text that is not a key [`Config`](crate::ErrorKind::Config). An error about
///   an object names its key.
///
/// `lifeboat_conformance::sink` checks all of it, and its documentation has a whole sink; every implementation passes it.
#[async_trait]
pub trait Sink: Send + Sync + fmt::Debug {
    /// The place as a URL without credentials, for messages and reports: `s3://bucket/prefix`.
    fn url(&self) -> String;

    /// The start of a shell line, in stock tools, that writes the object to standard output: `cat '/dir/key'`,
    /// `aws s3 cp s3://bucket/key -`.
    fn read_command(&self, key: &str) -> String;

    /// Stores a stream of unknown length under `key` and returns its size in bytes.
    ///
    /// # Behaviour
    /// - When the stream yields an error, or ends early in any way, nothing is stored, what was begun is
    ///   aborted, and that error is returned as it is.
    /// - It returns after the object is durable: a folder has been synced, a store has confirmed, and the object has been seen
    ///   to be there.
    /// - Memory is bounded whatever the length.
    /// - What a killed process would leave behind is noted under [`UPLOADS_FOLDER`] beside the key while it runs (or where
    ///   [`Upkeep::notes_in`] says), so that [`Upkeep::abort_unfinished`] can clean up.
    ///
    /// # Errors
    /// [`AlreadyExists`](crate::ErrorKind::AlreadyExists) when the key is taken: before anything is sent where the store allows it.
    /// [`Corrupt`](crate::ErrorKind::Corrupt) when the store has confirmed it, but what is there is not what was sent.
    ///
    /// # Cancel safety
    /// A dropped future stores nothing that can be seen. Parts that were already uploaded may stay behind until
    /// [`Upkeep::abort_unfinished`]: to cancel, let the stream end with an error.
    async fn put(&self, key: &str, body: ByteStream) -> Result<u64>;

    /// Stores a stream as [`put`](Sink::put) does, in the way that `options` asks for.
    ///
    /// The default stores without a lock, and refuses to replace. A sink that implements this method makes `put` the same as
    /// `put_with` and [`PutOptions::new`]; one that wraps another sink passes the options on.
    ///
    /// # Behaviour
    /// - With [`lock`](PutOptions::lock), a sink that was opened with a lock keeps the object from being deleted or replaced
    ///   until the lock ends. Without it the object is not locked.
    /// - With [`replace`](PutOptions::replace), the key may be taken. At every moment a reader gets the old object or the new
    ///   one, each whole: a process that is killed, or a stream that fails, leaves the old one as it was. A store that keeps
    ///   versions keeps the old one as a version.
    ///
    /// # Errors
    /// Those of `put`. [`Unsupported`](crate::ErrorKind::Unsupported) where nothing can be replaced.
    ///
    /// # Cancel safety
    /// As [`put`](Sink::put).
    async fn put_with(&self, key: &str, body: ByteStream, options: PutOptions) -> Result<u64> {
        if options.replace {
            let why = "this sink never replaces an object";
            return Err(Error::new(ErrorKind::Unsupported, "replace", key, why));
        }
        self.put(key, body).await
    }

    /// [`put_with`](Sink::put_with) leave to replace what is stored under `key`. Artifacts are never replaced; this is for
    /// copies of what other tools rewrite.
    ///
    /// # Errors
    /// As [`put_with`](Sink::put_with).
    ///
    /// # Cancel safety
    /// As [`put`](Sink::put).
    async fn replace(&self, key: &str, body: ByteStream) -> Result<u64> {
        self.put_with(key, body, PutOptions::new().replace(true)).await
    }

    /// Reads an object, or the bytes of `range` of it.
    ///
    /// # Behaviour
    /// - A range is cut at the object's end; one that begins at or behind it is empty.
    /// - A broken connection is resumed where it broke, or ends the stream with an error: the stream never
    ///   ends early as if it were complete.
    ///
    /// # Errors
    /// [`NotFound`](crate::ErrorKind::NotFound).
    async fn get(&self, key: &str, range: Option<Range<u64>>) -> Result<ByteStream>;

    /// Size and time of an object.
    ///
    /// # Errors
    /// [`NotFound`](crate::ErrorKind::NotFound).
    async fn head(&self, key: &str) -> Result<ObjectInfo>;

    /// Every object whose key starts with `prefix` (a plain string prefix, not only a folder; `""` for all), in
    /// ascending order of keys by their bytes, page by page: memory does not grow with their number.
    ///
    /// # Behaviour
    /// - Objects in a `_lifeboat/` folder are left out, unless `prefix` leads into one.
    /// - A sink whose place does not exist lists as an error, not as empty: a typo must not look like an empty
    ///   bucket. A prefix with nothing under it is empty.
    fn list(&self, prefix: &str) -> BoxStream<'_, Result<ObjectInfo>>;

    /// Deletes objects, and frees their space. One that does not exist counts as deleted. Continues after a failure, and
    /// reports the result of each key.
    ///
    /// # Behaviour
    /// - Where the store keeps versions, every version and delete marker of exactly these keys goes; never one of another
    ///   key that starts alike.
    /// - An identity that may not delete versions hides the objects instead, and the outcome's notes say so.
    /// - An object that the store holds (Object Lock) stays as it is, and is in the outcome with the time.
    /// - A text that is not a key is among the [failed](Deleted::failed) ones; so is what the store says is deleted, and is
    ///   still there.
    ///
    /// # Errors
    /// Only what makes the whole call fail (the store cannot be reached).
    async fn delete(&self, keys: &[String]) -> Result<Deleted>;

    /// What only upkeep needs: see [`Upkeep`]. `None`, the default, is for a store that holds and hides nothing, and in which a
    /// `put` that ends in any way, a killed process included, leaves nothing behind.
    fn upkeep(&self) -> Option<&dyn Upkeep> {
        None
    }
}

/// What checks, clean-ups and prunes want to know of a [`Sink`] and what backups, verifications and restores do not: which
/// objects the store holds, which it only hides, what it has to say about itself, and what unfinished uploads have left.
///
/// A sink gives it by [`Sink::upkeep`]. Each method's default says that there is nothing of its kind.
#[async_trait]
pub trait Upkeep: Send + Sync {
    /// Which of these objects the store holds, so that [`Sink::delete`] would leave them. A store that cannot
    /// hold objects says none; so does one whose identity may not ask.
    ///
    /// # Errors
    /// Only what keeps the whole from being asked.
    async fn held(&self, _keys: &[String]) -> Result<Vec<Held>> {
        Ok(Vec::new())
    }

    /// Every key that starts with `prefix` and of which only hidden versions are left, in ascending order, page by page. A
    /// store without versions has none. Folders named `_lifeboat` are left out as in [`Sink::list`].
    ///
    /// # Behaviour
    /// - A store that keeps versions, and does not let this identity list them, is an error of kind
    ///   [`Permission`](crate::ErrorKind::Permission).
    fn hidden(&self, _prefix: &str) -> BoxStream<'_, Result<Hidden>> {
        Box::pin(futures::stream::empty())
    }

    /// What lies below `prefix` and is in no listing, in no particular order. Folders named `_lifeboat` are left out as in
    /// [`Sink::list`]. A store that holds nothing but objects has none.
    fn left_out(&self, _prefix: &str) -> BoxStream<'_, Result<LeftOut>> {
        Box::pin(futures::stream::empty())
    }

    /// What this kind of store has to say about itself before it is relied on: whether it exists, how it is reached, what
    /// it does with versions, old objects and unfinished uploads. Each check has a figure, and says what to do.
    ///
    /// `folder` is where the artifacts lie; `probe` an object that exists, and that the sink may try to overwrite (with the
    /// same content) to see whether the store refuses that. [`check::sink`](crate::check::sink) calls this and tries
    /// the rights besides.
    async fn inspect(&self, _folder: &str, _probe: Option<&str>) -> Vec<Check> {
        Vec::new()
    }

    /// Aborts the unfinished uploads of one key that were begun before `before`, also those of which no note could be
    /// written: the id of an upload is known only after it has begun. Returns what was aborted, in words for a report. A
    /// store that has no such uploads does nothing.
    ///
    /// # Errors
    /// [`Permission`](crate::ErrorKind::Permission) where they may not be listed.
    async fn abort_uploads_of(&self, _key: &str, _before: Timestamp, _dry_run: bool) -> Result<Vec<String>> {
        Ok(Vec::new())
    }

    /// Aborts what an earlier `put` began and did not finish: uploads and temporary objects noted in the
    /// [`UPLOADS_FOLDER`] of `folder` (a key prefix without a slash at its end; `""` for the sink itself), when they
    /// were begun before `before`. Returns what was removed, in words for a report.
    ///
    /// # Behaviour
    /// - It touches nothing that Lifeboat did not begin.
    /// - With `dry_run` it only says what it would remove.
    async fn abort_unfinished(&self, _folder: &str, _before: Timestamp, _dry_run: bool) -> Result<Vec<String>> {
        Ok(Vec::new())
    }

    /// The same sink, which keeps the notes about unfinished uploads in the [`UPLOADS_FOLDER`] of `folder` (`""` for the
    /// sink itself) and not beside each key: where the keys lie in a folder of another tool, in which nothing of ours may be.
    /// [`abort_unfinished`](Upkeep::abort_unfinished) of that folder finds them. `None` for a sink that cannot do so.
    ///
    /// It belongs to upkeep because only a sink that leaves something to clean up leaves notes: one without upkeep writes
    /// nothing beside the keys.
    fn notes_in(&self, _folder: &str) -> Option<Arc<dyn Sink>> {
        None
    }
}

/// The upkeep of a sink that needs none.
struct NoUpkeep;

impl Upkeep for NoUpkeep {}

/// The upkeep of `sink`; for a sink without one, an upkeep in which each method has its default.
pub fn upkeep(sink: &dyn Sink) -> &dyn Upkeep {
    sink.upkeep().unwrap_or(&NoUpkeep)
}

/// Makes sure that what a sink has confirmed is there, and of this size, before anything is built on it. An identity that may
/// not look takes the sink's word.
///
/// # Errors
/// [`ErrorKind::Corrupt`] when it is not there or of another size; what the sink fails with.
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

/// A sink behind a pointer is one: what takes a sink takes an `Arc<dyn Sink>` too.
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
