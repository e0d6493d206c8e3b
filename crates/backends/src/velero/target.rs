//! [`VeleroTarget`]: has Velero restore from a copy, after putting its files back where Velero looks for backups.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use jiff::{SignedDuration, Timestamp};
use lifeboat_core::report::human_duration;
use lifeboat_core::{ByteStream, Check, Context, Error, ErrorKind, RestoreInput, Result, Sink, Target, async_trait};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::api::Backup;
use super::bucket;
use super::client::Cluster;
use super::files::Files;
use super::inspection::METADATA;
use super::restore::{RestoreOptions, restore};
use super::tap::{BACKUPS, split_key};
use crate::tar::{Piece, Reader};

/// The largest size of the file with the backup's own object, in bytes.
const METADATA_LIMIT: usize = 16 << 20;

/// How long Velero has to find a backup that was put into its bucket. It looks once a minute by default.
const FOUND: Duration = Duration::from_secs(600);

/// The interval at which its appearance is checked.
const PAUSE: Duration = Duration::from_secs(1);

/// How far in the future a backup that is put back must expire, so that Velero does not delete it during the restore.
const LIVES: SignedDuration = SignedDuration::from_hours(24);

/// Has Velero restore from a copy.
///
/// If Velero still knows the backup, it is restored in place. If not, its files are first put back where they were in
/// the storage location, and Velero finds it there by itself.
#[derive(Clone, Debug)]
pub struct VeleroTarget {
    cluster: Cluster,
    location: Arc<dyn Sink>,
    options: RestoreOptions,
}

impl VeleroTarget {
    /// Creates a target that restores into `cluster`. `location` must be opened at the bucket and prefix of the backup
    /// storage location.
    pub fn new(cluster: Cluster, location: Arc<dyn Sink>, options: RestoreOptions) -> Self {
        Self { cluster, location, options }
    }
}

#[async_trait]
impl Target for VeleroTarget {
    /// # Behaviour
    /// In addition to the trait's: Velero changes the cluster object by object. What it has restored before a failure
    /// stays.
    async fn restore(&self, input: RestoreInput, cx: &Context) -> Result<Vec<Check>> {
        let mut put_back = PutBack { target: self, known: None, copy: None, written: Vec::new() };
        let taken = tokio::select! {
            biased;
            () = cx.cancel.cancelled() => Err(Error::cancelled("restore", input.name.to_string())),
            taken = put_back.take(input.stream, cx) => taken,
        };
        let written = std::mem::take(&mut put_back.written);
        let outcome = match taken {
            Ok((name, mut checks)) => {
                if !written.is_empty() {
                    checks.push(self.found(&name, cx).await?);
                }
                Ok((name, checks))
            }
            Err(error) => {
                // The data cannot be trusted: a partial backup must not stay in Velero's bucket.
                if let Err(left) = self.location.delete(&written).await {
                    tracing::warn!(error = %left, "files of a backup remain under {}", self.location.url());
                }
                Err(error)
            }
        };
        let (name, mut checks) = outcome?;
        let files = Files::Location(Arc::clone(&self.location));
        checks.extend(restore(&self.cluster, &files, &name, &self.options, cx).await?);
        Ok(checks)
    }
}

impl VeleroTarget {
    /// Waits until Velero has found a backup in its bucket.
    async fn found(&self, name: &str, cx: &Context) -> Result<Check> {
        let begun = Instant::now();
        while self.cluster.find::<Backup>(name).await?.is_none() {
            if begun.elapsed() >= FOUND {
                let why = format!(
                    "it is in {}, but Velero has not found it within {}",
                    self.location.url(),
                    human_duration(FOUND)
                );
                return Err(Error::new(ErrorKind::Unavailable, "restore", format!("Velero's backup {name}"), why)
                    .hint(
                        "is its server running, and does an Available storage location name this bucket and prefix?",
                    ));
            }
            tokio::select! {
                biased;
                () = cx.cancel.cancelled() => return Err(Error::cancelled("wait for", format!("Velero's backup {name}"))),
                () = tokio::time::sleep(PAUSE) => {}
            }
        }
        Ok(Check::pass("found by Velero", name, "in its bucket, by itself").took(begun.elapsed()))
    }
}

/// Reads a copy, and puts its files into the bucket unless the backup is already there.
struct PutBack<'a> {
    target: &'a VeleroTarget,
    /// The backup in the cluster or the bucket, if it is there.
    known: Option<Known>,
    /// The backup's name and its own object, which is written last: with it the backup exists.
    copy: Option<(String, Vec<u8>)>,
    /// Keys that were written.
    written: Vec<String>,
}

enum Known {
    Nowhere,
    /// There since then.
    Since(Option<Timestamp>),
}

/// A piece of the archive that outlives the chunk that it came in.
enum Part {
    Begin(String),
    Data(Bytes),
    End,
}

/// A file that is being written.
struct Upload {
    key: String,
    /// `None` marks the end: a sender that is merely dropped must not look like one.
    bytes: mpsc::Sender<Option<Bytes>>,
    done: JoinHandle<Result<()>>,
}

fn corrupt(why: impl Into<String>) -> Error {
    Error::new(ErrorKind::Corrupt, "read", "the copy of a Velero backup", why)
}

impl PutBack<'_> {
    /// Reads a whole copy. Returns the backup's name and what was done.
    async fn take(&mut self, mut stream: ByteStream, cx: &Context) -> Result<(String, Vec<Check>)> {
        let (mut reader, mut upload, mut metadata) = (Reader::default(), None::<Upload>, false);
        while let Some(chunk) = stream.try_next().await? {
            let mut parts = VecDeque::new();
            reader.push(&chunk, &mut |piece| {
                parts.push_back(match piece {
                    Piece::Begin { name, .. } => Part::Begin(name.to_owned()),
                    Piece::Data(data) => Part::Data(Bytes::copy_from_slice(data)),
                    Piece::End => Part::End,
                });
                Ok(())
            })?;
            for part in parts {
                match part {
                    Part::Begin(path) => {
                        let (name, file) = split_key(&path)
                            .ok_or_else(|| corrupt(format!("it holds {path}, which is not a file of a backup")))?;
                        metadata = file == METADATA;
                        if self.begin(name).await? && !metadata {
                            upload = Some(self.upload(path));
                        }
                    }
                    Part::Data(bytes) if metadata => {
                        if let Some((_, text)) = &mut self.copy {
                            if text.len() + bytes.len() > METADATA_LIMIT {
                                return Err(corrupt(format!("{METADATA} is too large")));
                            }
                            text.extend_from_slice(&bytes);
                        }
                    }
                    Part::Data(bytes) => {
                        // A receiver that is gone has an error, which the end of the file tells.
                        if let Some(upload) = &upload {
                            let _ = upload.bytes.send(Some(bytes)).await;
                        }
                    }
                    Part::End => {
                        if let Some(upload) = upload.take() {
                            self.finish(upload).await?;
                        }
                    }
                }
            }
        }
        reader.finish()?;
        self.end(cx).await
    }

    /// Begins a file of this backup. Returns whether its files should be written.
    async fn begin(&mut self, name: &str) -> Result<bool> {
        if let Some((known, _)) = &self.copy {
            if known != name {
                return Err(corrupt(format!("it holds two backups, {known} and {name}")));
            }
        } else {
            self.copy = Some((name.to_owned(), Vec::new()));
            let VeleroTarget { cluster, location, .. } = self.target;
            self.known = Some(match cluster.find::<Backup>(name).await? {
                Some(backup) => Known::Since(begun(&backup)),
                None if bucket::is_there(&**location, name).await? => {
                    let key = format!("{BACKUPS}{name}/{METADATA}");
                    let text =
                        lifeboat_core::stream::collect(location.get(&key, None).await?, METADATA_LIMIT, &key).await?;
                    Known::Since(begun(&parse(&text)?))
                }
                None => Known::Nowhere,
            });
        }
        Ok(matches!(self.known, Some(Known::Nowhere)))
    }

    fn upload(&self, key: String) -> Upload {
        let (bytes, inbox) = mpsc::channel::<Option<Bytes>>(4);
        let (sink, path) = (Arc::clone(&self.target.location), key.clone());
        let stream =
            futures::stream::try_unfold((inbox, path.clone()), async |(mut inbox, path)| match inbox.recv().await {
                Some(Some(bytes)) => Ok(Some((bytes, (inbox, path)))),
                Some(None) => Ok(None),
                None => Err(Error::cancelled("write", path)),
            })
            .boxed();
        let done = tokio::spawn(async move { sink.put(&path, stream).await.map(drop) });
        Upload { key, bytes, done }
    }

    async fn finish(&mut self, upload: Upload) -> Result<()> {
        let _ = upload.bytes.send(None).await;
        let done = upload.done.await;
        done.map_err(|error| Error::new(ErrorKind::Internal, "write", upload.key.clone(), error.to_string()))??;
        self.written.push(upload.key);
        Ok(())
    }

    /// Ends the archive: the backup's own object tells whether it is the existing backup, or creates it.
    async fn end(&mut self, cx: &Context) -> Result<(String, Vec<Check>)> {
        let Some((name, text)) = self.copy.take() else { return Err(corrupt("it holds no file")) };
        let backup = parse(&text)?;
        if let Some(Known::Since(there)) = &self.known {
            if *there != begun(&backup) {
                let why = "another backup of this name is there, which began at a different time";
                return Err(Error::new(ErrorKind::Refused, "restore", format!("Velero's backup {name}"), why)
                    .hint("restore it in a cluster, or through a storage location, that does not have the other one"));
            }
            let detail = "Velero has this backup: restoring it from Velero's location, not from the copy";
            return Ok((name.clone(), vec![Check::pass("files", "there", detail)]));
        }
        let (text, prolonged) = prolong(text, cx.now())?;
        let key = format!("{BACKUPS}{name}/{METADATA}");
        self.target.location.put(&key, lifeboat_core::stream::once(text)).await?;
        self.written.push(key);
        let mut detail = format!("into {}, where Velero keeps its backups", self.target.location.url());
        if prolonged {
            detail += "; it had expired, and is kept for one more day";
        }
        let figure = format!("{} put back", self.written.len());
        Ok((name, vec![Check::pass("files", figure, detail)]))
    }
}

fn begun(backup: &Backup) -> Option<Timestamp> {
    Some(backup.status.as_ref()?.start_timestamp.as_ref()?.0)
}

fn parse(text: &[u8]) -> Result<Backup> {
    serde_json::from_slice(text).map_err(|error| corrupt(format!("{METADATA} is not valid JSON: {error}")))
}

/// Extends an expired backup by a day: otherwise Velero would delete it as soon as it finds it.
fn prolong(text: Vec<u8>, now: Timestamp) -> Result<(Vec<u8>, bool)> {
    let mut object: Value = serde_json::from_slice(&text).map_err(|error| corrupt(format!("{METADATA}: {error}")))?;
    let until = now.saturating_add(LIVES).map_err(|error| corrupt(error.to_string()))?;
    let Some(expiration) = object.pointer_mut("/status/expiration") else { return Ok((text, false)) };
    let expires: Option<Timestamp> = expiration.as_str().and_then(|time| time.parse().ok());
    if expires.is_none_or(|time| time >= until) {
        return Ok((text, false));
    }
    *expiration = until.strftime("%Y-%m-%dT%H:%M:%SZ").to_string().into();
    let text = serde_json::to_vec_pretty(&object).map_err(|error| corrupt(error.to_string()))?;
    Ok((text, true))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backup_that_has_expired_gets_a_day_and_another_stays_as_it_is() {
        let now: Timestamp = "2026-11-21T12:00:00Z".parse().unwrap();
        let text = |expires: &str| format!(r#"{{"kind":"Backup","status":{{"expiration":"{expires}"}}}}"#).into_bytes();
        let (prolonged, done) = prolong(text("2026-01-01T00:00:00Z"), now).unwrap();
        assert!(done && String::from_utf8(prolonged).unwrap().contains("2026-11-22T12:00:00Z"));
        for kept in [text("2026-12-01T00:00:00Z"), b"{}".to_vec()] {
            assert_eq!(prolong(kept.clone(), now).unwrap(), (kept, false));
        }
    }
}
