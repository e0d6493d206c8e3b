//! The `file://` sink: a folder of a local or mounted file system.
//!
//! An object is a file under the root. It is written to a temporary name in `_lifeboat/uploads` beside it (the same
//! file system), synced, and given its name in one step that never replaces a file. File I/O runs on blocking
//! threads, joined to the stream by a short bounded channel.

use std::fs::{File, Metadata};
use std::io::{Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures::stream::{BoxStream, StreamExt};
use jiff::Timestamp;
use lifeboat_core::sink::{Deleted, LeftOut, PutOptions, Upkeep};
use lifeboat_core::stream::CHUNK;
use lifeboat_core::{ByteStream, Check, Error, ErrorKind, ObjectInfo, Result, Sink};
use tokio::sync::mpsc;

use crate::key::{self, Notes};
use partial::{Over, Partial};
use walk::Found;

mod inspect;
mod partial;
mod past_cache;
mod walk;

/// Chunks waiting between the stream and the disk.
const WAITING: usize = 4;

/// A folder as a sink.
///
/// Files are made with mode 0600 and folders with 0700. Symbolic links below the root are neither followed nor
/// listed; the root itself may be one.
#[derive(Clone, Debug)]
pub struct LocalSink {
    root: PathBuf,
    notes: Notes,
}

impl LocalSink {
    /// What `wanted` takes of everything below a prefix, in order.
    fn walk<T: Send + 'static>(
        &self,
        prefix: &str,
        wanted: impl Fn(Found) -> Option<T> + Send + 'static,
    ) -> BoxStream<'_, Result<T>> {
        let (root, prefix) = (self.root.clone(), prefix.to_owned());
        let (sender, mut rest) = mpsc::channel(256);
        tokio::task::spawn_blocking(move || {
            let mut found = |item| wanted(item).is_none_or(|item| sender.blocking_send(Ok(item)).is_ok());
            if let Err(error) = walk::walk(&root, &prefix, &mut found) {
                let _ = sender.blocking_send(Err(error));
            }
        });
        futures::stream::poll_fn(move |cx| rest.poll_recv(cx)).boxed()
    }

    /// Creates a sink in the folder `root`. The first [`put`](Sink::put) creates the folder if it does not exist; until
    /// then every other call reports it missing.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into(), notes: Notes::default() }
    }

    /// The error for a missing root.
    fn missing_root(root: &Path, operation: &'static str) -> Error {
        Error::new(ErrorKind::NotFound, operation, root.display().to_string(), "the folder does not exist")
            .hint("check the path of the file:// URL; is the volume mounted? The first backup creates the folder")
    }

    /// Writes a temporary file and gives it its name at the end.
    async fn write(&self, key: &str, mut body: ByteStream, over: Over) -> Result<u64> {
        key::check("write", key)?;
        if key::is_partial(key) {
            return Err(Error::new(ErrorKind::Config, "write", key, "the name is reserved for unfinished uploads"));
        }
        let (root, notes, name) = (self.root.clone(), self.notes.clone(), key.to_owned());
        let mut partial = blocking(move || Partial::begin(&root, &notes, &name, over)).await?;

        let (chunks, mut waiting) = mpsc::channel::<Message>(WAITING);
        let writer = blocking(move || {
            loop {
                match waiting.blocking_recv() {
                    Some(Message::Chunk(chunk)) => partial.write(&chunk)?,
                    Some(Message::End) => return partial.publish().map(Some),
                    None => return Ok(None),
                }
            }
        });
        let feeder = async move {
            while let Some(item) = body.next().await {
                // A closed channel: the writer has failed, and says why.
                if chunks.send(Message::Chunk(item?)).await.is_err() {
                    return Ok(());
                }
            }
            let _ = chunks.send(Message::End).await;
            Ok(())
        };
        // The writer's failure ends the feeder at its next chunk; it must also end one that waits for its source.
        tokio::pin!(writer);
        let fed: Result<()> = tokio::select! {
            biased;
            written = &mut writer => return written?.ok_or_else(|| Error::cancelled("write", key)),
            fed = feeder => fed,
        };
        // The channel is closed now. Without an end before it, the writer undoes what it has begun.
        match fed {
            Ok(()) => writer.await?.ok_or_else(|| Error::cancelled("write", key)),
            Err(error) => {
                if let Err(undo) = writer.await {
                    tracing::warn!(error = %undo, "while undoing an upload");
                }
                Err(error)
            }
        }
    }
}

/// The path of `key`, when no part of it below the root is a symbolic link.
fn locate(root: &Path, operation: &'static str, key: &str) -> Result<PathBuf> {
    key::check(operation, key)?;
    let mut path = root.to_owned();
    for part in key.split('/') {
        path.push(part);
        match path.symlink_metadata() {
            Ok(meta) if meta.file_type().is_symlink() => {
                return Err(Error::new(
                    ErrorKind::Refused,
                    operation,
                    path.display().to_string(),
                    "it is a symbolic link, which this sink does not follow",
                ));
            }
            // What is not there has nothing below it to check; what else is wrong shows when it is used.
            Err(_) => return Ok(root.join(key)),
            Ok(_) => {}
        }
    }
    Ok(path)
}

/// The opened file of `key`, with its metadata.
fn open(root: &Path, operation: &'static str, key: &str) -> Result<(File, Metadata)> {
    let missing = || {
        if root.is_dir() {
            Error::new(ErrorKind::NotFound, operation, key, format!("no such object in {}", root.display()))
        } else {
            LocalSink::missing_root(root, operation)
        }
    };
    let path = locate(root, operation, key)?;
    if key::is_partial(key) {
        return Err(missing());
    }
    let failed = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory => missing(),
        _ => io_error(operation, &path, error),
    };
    let file = File::open(&path).map_err(failed)?;
    let meta = file.metadata().map_err(failed)?;
    if !meta.is_file() {
        return Err(missing());
    }
    Ok((file, meta))
}

/// An I/O error, with a hint where an administrator can do something.
fn io_error(operation: &'static str, path: &Path, error: std::io::Error) -> Error {
    let advice = match error.kind() {
        std::io::ErrorKind::StorageFull => "free space there, or choose another place",
        std::io::ErrorKind::QuotaExceeded => "this user's disk quota is used up: free space or raise the quota",
        std::io::ErrorKind::FileTooLarge => {
            "the file system or the process limit (ulimit -f) does not allow a file this large"
        }
        std::io::ErrorKind::ReadOnlyFilesystem => "the file system is mounted read-only",
        std::io::ErrorKind::PermissionDenied => "let the user that runs this read and write the folder",
        _ => return Error::io(operation, path.display().to_string(), error),
    };
    Error::io(operation, path.display().to_string(), error).hint(advice)
}

/// Deletes one file, and returns its size.
fn delete_one(root: &Path, key: &str) -> Result<u64> {
    let path = locate(root, "delete", key)?;
    if key::is_partial(key) {
        return Err(Error::new(ErrorKind::Refused, "delete", key, "it is an unfinished upload"));
    }
    let bytes = path.symlink_metadata().map_or(0, |meta| meta.len());
    match std::fs::remove_file(&path) {
        Ok(()) => Ok(bytes),
        Err(e) if matches!(e.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => Ok(0),
        Err(e) => Err(io_error("delete", &path, e)),
    }
}

fn info(key: String, meta: &Metadata) -> ObjectInfo {
    let modified = meta.modified().ok().and_then(|t| Timestamp::try_from(t).ok()).unwrap_or(Timestamp::UNIX_EPOCH);
    ObjectInfo::new(key, meta.len(), modified)
}

/// Runs blocking file I/O off the async threads.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_) => Err(Error::cancelled("use", "the local folder")),
    }
}

/// Messages from the stream to the writing thread. A channel closed without [`Message::End`] means: undo.
enum Message {
    Chunk(Bytes),
    End,
}

#[async_trait]
impl Sink for LocalSink {
    fn url(&self) -> String {
        format!("file://{}", self.root.display())
    }

    fn read_command(&self, key: &str) -> String {
        format!("cat {}", key::shell_word(&self.root.join(key).display().to_string()))
    }

    async fn put(&self, key: &str, body: ByteStream) -> Result<u64> {
        self.put_with(key, body, PutOptions::new()).await
    }

    async fn put_with(&self, key: &str, body: ByteStream, options: PutOptions) -> Result<u64> {
        self.write(key, body, if options.replace { Over::WhatIsThere } else { Over::Nothing }).await
    }

    async fn get(&self, key: &str, range: Option<Range<u64>>) -> Result<ByteStream> {
        let (root, name) = (self.root.clone(), key.to_owned());
        let (file, at, left) = blocking(move || {
            let (mut file, meta) = open(&root, "read", &name)?;
            let range = range.unwrap_or(0..meta.len());
            let at = range.start.min(meta.len());
            let end = range.end.min(meta.len());
            file.seek(SeekFrom::Start(at)).map_err(|e| Error::io("read", &name, e))?;
            Ok((file, at, end.saturating_sub(at)))
        })
        .await?;
        let key = key.to_owned();
        let chunks = futures::stream::try_unfold((file, at, left), move |(mut file, at, left)| {
            let key = key.clone();
            async move {
                if left == 0 {
                    return Ok(None);
                }
                blocking(move || {
                    let want = usize::try_from(left).unwrap_or(CHUNK).min(CHUNK);
                    let mut chunk = BytesMut::zeroed(want);
                    let mut have = 0;
                    while have < want {
                        match file.read(&mut chunk[have..]) {
                            Ok(0) => {
                                let at = at + have as u64;
                                let why = format!("the file ended at {at} bytes, before its size when it was opened");
                                return Err(Error::new(ErrorKind::Corrupt, "read", key, why));
                            }
                            Ok(n) => have += n,
                            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                            Err(e) => return Err(Error::io("read", key, e)),
                        }
                    }
                    Ok(Some((chunk.freeze(), (file, at + want as u64, left - want as u64))))
                })
                .await
            }
        });
        Ok(chunks.boxed())
    }

    async fn head(&self, key: &str) -> Result<ObjectInfo> {
        let (root, name) = (self.root.clone(), key.to_owned());
        blocking(move || {
            let (_, meta) = open(&root, "look up", &name)?;
            Ok(info(name, &meta))
        })
        .await
    }

    fn list(&self, prefix: &str) -> BoxStream<'_, Result<ObjectInfo>> {
        self.walk(prefix, |found| match found {
            Found::Object(object) => Some(object),
            Found::LeftOut(_) => None,
        })
    }

    async fn delete(&self, keys: &[String]) -> Result<Deleted> {
        let (root, keys) = (self.root.clone(), keys.to_vec());
        blocking(move || {
            if !root.is_dir() {
                return Err(Self::missing_root(&root, "delete from"));
            }
            let mut deleted = Deleted::default();
            let mut freed = 0;
            for key in keys {
                match delete_one(&root, &key) {
                    Ok(bytes) => {
                        freed += bytes;
                        deleted.keys.push(key);
                    }
                    Err(error) => deleted.failed.push((key, error.to_string())),
                }
            }
            deleted.bytes = Some(freed);
            Ok(deleted)
        })
        .await
    }

    fn upkeep(&self) -> Option<&dyn Upkeep> {
        Some(self)
    }
}

#[async_trait]
impl Upkeep for LocalSink {
    async fn inspect(&self, folder: &str, _: Option<&str>) -> Vec<Check> {
        let (root, folder) = (self.root.clone(), folder.to_owned());
        match blocking(move || Ok(inspect::inspect(&root, &folder))).await {
            Ok(found) => found,
            Err(error) => vec![Check::from_error("folder", &error)],
        }
    }

    fn left_out(&self, prefix: &str) -> BoxStream<'_, Result<LeftOut>> {
        self.walk(prefix, |found| match found {
            Found::Object(_) => None,
            Found::LeftOut(left_out) => Some(left_out),
        })
    }

    async fn abort_unfinished(&self, folder: &str, before: Timestamp, dry_run: bool) -> Result<Vec<String>> {
        let (root, folder) = (self.root.clone(), folder.trim_matches('/').to_owned());
        blocking(move || {
            if !root.is_dir() {
                return Err(Self::missing_root(&root, "clean up"));
            }
            partial::remove_abandoned(&root, &folder, before, dry_run)
        })
        .await
    }

    fn notes_in(&self, folder: &str) -> Option<Arc<dyn Sink>> {
        Some(Arc::new(Self { notes: Notes::in_folder(folder), ..self.clone() }))
    }
}
