//! The source: has Velero make a backup, then streams its files out of the storage location as a tar archive.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use kube::ResourceExt;
use lifeboat_core::sink::ObjectInfo;
use lifeboat_core::{ByteStream, Context, Description, Error, ErrorKind, Reading, Result, Sink, Source};

use super::client::Cluster;
use super::files::until_cancelled;
use super::run;
use super::settings::VeleroSettings;
use super::tap::{BACKUPS, BackupTap};
use super::{SYSTEM, bucket};
use crate::tar;

/// Has Velero make a backup, and copies it out of its bucket.
///
/// The copy is a tar archive of `backups/NAME/…`. Unpacked into the bucket of a storage location, it is a backup again,
/// which Velero finds by itself. Volumes whose data is in a repository are not included.
#[derive(Clone, Debug)]
pub struct Velero {
    cluster: Cluster,
    location: Arc<dyn Sink>,
    settings: VeleroSettings,
}

impl Velero {
    /// Creates a source. `location` must be opened at the bucket and prefix of the backup storage location: they are
    /// not taken from the settings.
    pub fn new(cluster: Cluster, location: Arc<dyn Sink>, settings: VeleroSettings) -> Self {
        Self { cluster, location, settings }
    }

    async fn check_location(&self) -> Result<String> {
        let location = run::available(&self.cluster, self.settings.storage_location.as_deref()).await?;
        Ok(run::bucket_of(&location))
    }
}

#[async_trait]
impl Source for Velero {
    async fn describe(&self) -> Result<Description> {
        let bucket = self.check_location().await?;
        let version = self.cluster.version().await?;
        Ok(Description::new(SYSTEM, "tar")
            .unit(super::OBJECTS)
            .dataset(self.settings.dataset())
            .server_version(format!("Kubernetes {version}"))
            .tool("Velero".to_owned())
            .facts(BTreeMap::from([("bucket".to_owned(), bucket)])))
    }

    async fn open(&self, cx: &Context) -> Result<Reading> {
        let bucket = self.check_location().await?;
        let backup = run::make(&self.cluster, &*self.location, &self.settings, cx).await?;
        let name = backup.name_any();
        if !bucket::is_there(&*self.location, &name).await? {
            let message = format!("Velero stored it in the bucket {bucket}, but it is not in {}", self.location.url());
            return Err(Error::new(ErrorKind::Config, "find", format!("Velero's backup {name}"), message)
                .hint("the location's URL must name the bucket and the prefix of the backup storage location"));
        }
        let files: Vec<ObjectInfo> = self.location.list(&format!("{BACKUPS}{name}/")).try_collect().await?;
        let stream = until_cancelled(archive(Arc::clone(&self.location), files), cx, format!("Velero's backup {name}"));
        Ok(Reading::new(stream, Box::new(BackupTap::new().noting(Arc::clone(&cx.progress)))))
    }
}

/// The files as a tar archive, read one after the other.
fn archive(sink: Arc<dyn Sink>, files: Vec<ObjectInfo>) -> ByteStream {
    let bodies = stream::iter(files).then(move |file| {
        let sink = Arc::clone(&sink);
        async move {
            let body = sink.get(&file.key, None).await?;
            let seconds = u64::try_from(file.modified.as_second()).unwrap_or(0);
            let before = [tar::header(&file.key, file.bytes, seconds)];
            let after = [tar::padding(file.bytes)];
            let whole = exactly(body, file);
            Ok::<_, Error>(chunks(before).chain(whole).chain(chunks(after)))
        }
    });
    bodies.try_flatten().chain(chunks([tar::end()])).boxed()
}

fn chunks<const N: usize>(chunks: [Bytes; N]) -> ByteStream {
    stream::iter(chunks.into_iter().filter(|chunk| !chunk.is_empty()).map(Ok)).boxed()
}

/// The body of a file, which must have the size stated in its archive header.
fn exactly(body: ByteStream, file: ObjectInfo) -> ByteStream {
    let wrong = move |seen: u64| {
        let why = format!("{seen} bytes came, but the bucket lists {}: it was changed meanwhile", file.bytes);
        Error::new(ErrorKind::Corrupt, "read", file.key.clone(), why)
    };
    let expected = file.bytes;
    stream::try_unfold((body, 0_u64), move |(mut body, seen)| {
        let wrong = wrong.clone();
        async move {
            match body.try_next().await? {
                Some(chunk) => {
                    let seen = seen + chunk.len() as u64;
                    if seen > expected { Err(wrong(seen)) } else { Ok(Some((chunk, (body, seen)))) }
                }
                None if seen == expected => Ok(None),
                None => Err(wrong(seen)),
            }
        }
    })
    .boxed()
}
