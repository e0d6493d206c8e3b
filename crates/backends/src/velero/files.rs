//! The files that Velero stores of a backup or a restore: through the links that its server signs, or in the bucket itself.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use kube::ResourceExt;
use lifeboat_core::report::human_duration;
use lifeboat_core::{ByteStream, Context, Error, ErrorKind, Result, Sink};
use reqwest::{Certificate, StatusCode, Url};

use super::api::{Backup, BackupStorageLocation, DownloadRequest, DownloadRequestSpec, DownloadTarget, Restore, Stage};
use super::client::{Cluster, Waited};
use super::gunzip::{Consumer, Gunzip};
use super::run;

/// Compressed bytes that are decompressed at a time: gzip makes at most a thousand times as many of them.
const PIECE: usize = 16 << 10;

/// Where the files of backups and restores are read.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Files {
    /// Through links that Velero's server signs, by a DownloadRequest: it takes no key of the bucket.
    Links(LinkOptions),
    /// In the bucket: a sink at the bucket and prefix of the storage location.
    Location(Arc<dyn Sink>),
}

impl Files {
    /// Downloads through links, with the usual options.
    pub fn links() -> Self {
        Self::Links(LinkOptions::default())
    }
}

/// How links are followed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LinkOptions {
    /// Certificates of authorities, as PEM, that are trusted besides the system's and the storage location's own.
    pub ca: Option<Vec<u8>>,
    /// How long Velero's server has to sign a link.
    pub limit: Duration,
}

lifeboat_core::setters!(LinkOptions { ca: Option<Vec<u8>>, limit: Duration });

impl Default for LinkOptions {
    fn default() -> Self {
        Self { ca: None, limit: Duration::from_secs(60) }
    }
}

/// Whose log is read.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LogOf {
    /// A backup's.
    Backup(String),
    /// A restore's.
    Restore(String),
}

/// Reads the log of a backup or restore that has ended: a stream of text, decompressed.
///
/// # Errors
/// [`ErrorKind::NoArtifact`] when there is no such backup or restore, [`ErrorKind::Refused`] while it goes on: its log is stored
/// at its end. [`ErrorKind::Unavailable`] when Velero's server signs no link, or the link leads nowhere from here.
///
/// # Cancel safety
/// Safe. A dropped future may leave a DownloadRequest, which Velero removes after ten minutes.
pub async fn logs(cluster: &Cluster, files: &Files, of: &LogOf, cx: &Context) -> Result<ByteStream> {
    let (file, phase) = match of {
        LogOf::Backup(name) => {
            let backup = find_backup(cluster, name).await?;
            (File::BackupLog(name), backup.status.and_then(|status| status.phase))
        }
        LogOf::Restore(name) => {
            let restore = find_restore(cluster, name).await?;
            (File::RestoreLog(name), restore.status.and_then(|status| status.phase))
        }
    };
    if Stage::of(phase.as_deref()) == Stage::Running {
        let why = format!("it has not ended: its phase is {}", phase.as_deref().unwrap_or("New"));
        return Err(Error::new(ErrorKind::Refused, "read", file.subject(), why)
            .hint("Velero stores the log when the backup ends"));
    }
    let packed = files.open(cluster, file, cx).await?;
    Ok(until_cancelled(unpacked(packed, file.subject()), cx, file.subject()))
}

/// The backup of this name.
pub(crate) async fn find_backup(cluster: &Cluster, name: &str) -> Result<Backup> {
    cluster.find::<Backup>(name).await?.ok_or_else(|| missing("backup", name, cluster))
}

async fn find_restore(cluster: &Cluster, name: &str) -> Result<Restore> {
    cluster.find::<Restore>(name).await?.ok_or_else(|| missing("restore", name, cluster))
}

fn missing(kind: &str, name: &str, cluster: &Cluster) -> Error {
    let why = format!("Velero knows of none in the namespace {}", cluster.namespace());
    Error::new(ErrorKind::NoArtifact, "find", format!("Velero's {kind} {name}"), why).hint(if kind == "backup" {
        "`list` shows what there is"
    } else {
        "`velero restore get` shows what there is"
    })
}

/// A file of a backup or restore.
#[derive(Clone, Copy, Debug)]
pub(crate) enum File<'a> {
    BackupLog(&'a str),
    BackupResults(&'a str),
    BackupVolumes(&'a str),
    RestoreLog(&'a str),
    RestoreResults(&'a str),
}

impl File<'_> {
    /// Where it lies under the location's prefix.
    fn key(self) -> String {
        match self {
            Self::BackupLog(name) => format!("backups/{name}/{name}-logs.gz"),
            Self::BackupResults(name) => format!("backups/{name}/{name}-results.gz"),
            Self::BackupVolumes(name) => format!("backups/{name}/{name}-volumeinfo.json.gz"),
            Self::RestoreLog(name) => format!("restores/{name}/restore-{name}-logs.gz"),
            Self::RestoreResults(name) => format!("restores/{name}/restore-{name}-results.gz"),
        }
    }

    /// What a DownloadRequest calls it. Source: `DownloadTargetKind` in Velero's `pkg/apis/velero/v1`.
    fn target(self) -> DownloadTarget {
        let (kind, name) = match self {
            Self::BackupLog(name) => ("BackupLog", name),
            Self::BackupResults(name) => ("BackupResults", name),
            Self::BackupVolumes(name) => ("BackupVolumeInfos", name),
            Self::RestoreLog(name) => ("RestoreLog", name),
            Self::RestoreResults(name) => ("RestoreResults", name),
        };
        DownloadTarget { kind: kind.to_owned(), name: name.to_owned() }
    }

    fn subject(self) -> String {
        match self {
            Self::BackupLog(name) => format!("the log of Velero's backup {name}"),
            Self::BackupResults(name) => format!("the messages of Velero's backup {name}"),
            Self::BackupVolumes(name) => format!("the volumes of Velero's backup {name}"),
            Self::RestoreLog(name) => format!("the log of Velero's restore {name}"),
            Self::RestoreResults(name) => format!("the messages of Velero's restore {name}"),
        }
    }
}

impl Files {
    /// The stored bytes of a file, compressed.
    pub(crate) async fn open(&self, cluster: &Cluster, file: File<'_>, cx: &Context) -> Result<ByteStream> {
        let options = match self {
            Self::Location(sink) => return sink.get(&file.key(), None).await,
            Self::Links(options) => options,
        };
        let location = location_of(cluster, file).await?;
        let link = link(cluster, file, options, cx).await?;
        tokio::select! {
            biased;
            () = cx.cancel.cancelled() => Err(Error::cancelled("read", file.subject())),
            opened = follow(&link, file, options, &location) => opened,
        }
    }

    /// The whole of a file, decompressed.
    pub(crate) async fn read(&self, cluster: &Cluster, file: File<'_>, limit: usize, cx: &Context) -> Result<Bytes> {
        let subject = file.subject();
        let text = unpacked(self.open(cluster, file, cx).await?, subject.clone());
        lifeboat_core::stream::collect(until_cancelled(text, cx, subject.clone()), limit, &subject).await
    }
}

/// The storage location that a file lies in. A request about a backup that is not there would never be answered.
async fn location_of(cluster: &Cluster, file: File<'_>) -> Result<BackupStorageLocation> {
    let backup = match file {
        File::BackupLog(name) | File::BackupResults(name) | File::BackupVolumes(name) => name.to_owned(),
        File::RestoreLog(name) | File::RestoreResults(name) => find_restore(cluster, name).await?.spec.backup_name,
    };
    let backup = find_backup(cluster, &backup).await?;
    run::location(cluster, backup.spec.storage_location.as_deref()).await
}

/// Asks Velero's server for a link.
async fn link(cluster: &Cluster, file: File<'_>, options: &LinkOptions, cx: &Context) -> Result<Url> {
    let name = format!("lifeboat-{}", run::random_suffix()?);
    let wanted = DownloadRequest::new(&name, DownloadRequestSpec { target: file.target() });
    cluster.create(&wanted).await?;
    let url = |request: &DownloadRequest| {
        let url = request.status.as_ref()?.download_url.clone()?;
        (!url.is_empty()).then_some(url)
    };
    let waited = cluster.wait::<DownloadRequest>(&name, options.limit, cx, |request| url(request).is_some()).await;
    // It has served. Where the right to delete is missing Velero removes it when the link has expired.
    if let Err(error) = cluster.delete::<DownloadRequest>(&name).await {
        tracing::debug!(%error, "a DownloadRequest is left for Velero to remove");
    }
    let wrong = |why: String| Error::new(ErrorKind::Unavailable, "read", file.subject(), why);
    match waited? {
        Waited::Done(request) => Url::parse(&url(&request).unwrap_or_default())
            .map_err(|error| wrong(format!("the link that Velero signed is invalid: {error}")).transient(false)),
        Waited::TooLong(_) => {
            let limit = human_duration(options.limit);
            Err(wrong(format!("Velero has not signed a link to it within {limit}"))
                .hint("is Velero's server running, and is the storage location Available?"))
        }
    }
}

async fn follow(
    link: &Url,
    file: File<'_>,
    options: &LinkOptions,
    location: &BackupStorageLocation,
) -> Result<ByteStream> {
    // The rest of the link is a key to the file.
    let (host, place) = (link.origin().ascii_serialization(), location.name_any());
    let subject = file.subject();
    let client = http_client(options, location)?;
    let broken = {
        let (subject, host) = (subject.clone(), host.clone());
        move |error: reqwest::Error| unreachable(&error, &subject, &host, &place)
    };
    let answer = client.get(link.clone()).send().await.map_err(&broken)?;
    match answer.status() {
        StatusCode::OK => Ok(answer.bytes_stream().map_err(broken).boxed()),
        StatusCode::NOT_FOUND => {
            Err(Error::new(ErrorKind::NotFound, "read", subject, "Velero has stored no such file in the bucket"))
        }
        status => {
            Err(Error::new(ErrorKind::Refused, "read", subject, format!("{host} answers {status} to Velero's link"))
                .hint("a proxy that changes the host name breaks the signature; is the server's clock right?"))
        }
    }
}

fn http_client(options: &LinkOptions, location: &BackupStorageLocation) -> Result<reqwest::Client> {
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        // Whoever embeds this may have chosen a provider: then it stays.
        let _ = rustls::crypto::ring::default_provider().install_default();
    }
    let name = location.name_any();
    let wrong = |subject: String, why: String| Error::new(ErrorKind::Config, "use", subject, why);
    let mut bundles = Vec::new();
    if let Some(text) = location.spec.object_storage.ca_cert.as_ref().filter(|text| !text.is_empty()) {
        let subject = format!("the caCert of the storage location {name}");
        let pem = BASE64_STANDARD.decode(text).map_err(|error| wrong(subject.clone(), error.to_string()))?;
        bundles.push((subject, pem));
    }
    bundles.extend(options.ca.iter().map(|pem| ("the certificates of authorities".to_owned(), pem.clone())));
    let mut trusted = Vec::new();
    for (subject, pem) in bundles {
        let read = Certificate::from_pem_bundle(&pem).map_err(|error| wrong(subject.clone(), error.to_string()))?;
        if read.is_empty() {
            return Err(wrong(subject, "it holds no certificate in PEM".to_owned()));
        }
        trusted.extend(read);
    }
    let mut client = reqwest::Client::builder()
        .user_agent(concat!("lifeboat/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(Duration::from_secs(10))
        .read_timeout(Duration::from_secs(60))
        .redirect(reqwest::redirect::Policy::none());
    if !trusted.is_empty() {
        client = client.tls_certs_merge(trusted);
    }
    client.build().map_err(|error| wrong("the HTTP client".to_owned(), error.without_url().to_string()))
}

/// A link that cannot be followed: usually it names the bucket as only the cluster knows it.
fn unreachable(error: &reqwest::Error, subject: &str, host: &str, location: &str) -> Error {
    let mut cause: &dyn std::error::Error = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    // The outermost error would name the whole link.
    let why = if cause.source().is_none() && error.url().is_some() && cause.to_string().contains("://") {
        "it does not answer".to_owned()
    } else {
        cause.to_string()
    };
    let message = format!("Velero's link leads to {host}, which cannot be read from here: {why}");
    let hint = if why.to_ascii_lowercase().contains("certificate") {
        "the store's certificate is not trusted: give its authority's certificate".to_owned()
    } else {
        format!(
            "set publicUrl in the config of the storage location {location} to the URL at which its store is reached from outside; or run this in the cluster; or read the file from the bucket itself"
        )
    };
    Error::new(ErrorKind::Unavailable, "read", subject, message).hint(hint)
}

/// Decompresses a stream as it is taken.
fn unpacked(packed: ByteStream, subject: String) -> ByteStream {
    struct Out(Vec<u8>);
    impl Consumer for Out {
        fn take(&mut self, bytes: &[u8]) -> Result<()> {
            self.0.extend_from_slice(bytes);
            Ok(())
        }
    }
    struct State {
        packed: ByteStream,
        rest: Bytes,
        gunzip: Option<Gunzip<Out>>,
    }
    let named = move |error: Error| error.about("read", subject.clone());
    let state = State { packed, rest: Bytes::new(), gunzip: Some(Gunzip::new(Out(Vec::new()))) };
    stream::try_unfold(state, move |mut state| {
        let named = named.clone();
        async move {
            loop {
                let Some(gunzip) = &mut state.gunzip else { return Ok(None) };
                let out = gunzip.consumer();
                if !out.0.is_empty() {
                    return Ok(Some((Bytes::from(std::mem::take(&mut out.0)), state)));
                }
                if state.rest.is_empty() {
                    match state.packed.try_next().await? {
                        Some(chunk) => state.rest = chunk,
                        None => {
                            let Some(gunzip) = state.gunzip.take() else { return Ok(None) };
                            let out = gunzip.finish().map_err(&named)?.0;
                            return Ok((!out.is_empty()).then(|| (Bytes::from(out), state)));
                        }
                    }
                }
                let piece = state.rest.split_to(PIECE.min(state.rest.len()));
                gunzip.push(&piece).map_err(&named)?;
            }
        }
    })
    .boxed()
}

/// A stream that ends with an error when the run is cancelled.
pub(crate) fn until_cancelled(stream: ByteStream, cx: &Context, subject: String) -> ByteStream {
    let cancel = cx.cancel.clone();
    stream::try_unfold(stream, move |mut stream| {
        let (cancel, subject) = (cancel.clone(), subject.clone());
        async move {
            tokio::select! {
                biased;
                () = cancel.cancelled() => Err(Error::cancelled("read", subject)),
                chunk = stream.try_next() => Ok(chunk?.map(|chunk| (chunk, stream))),
            }
        }
    })
    .boxed()
}
