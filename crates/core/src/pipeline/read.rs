//! From a stored artifact back to its plaintext.

use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use tracing::Span;

use super::flow::{self, Hashed};
use crate::catalog::Artifact;
use crate::compress::{Compression, decompress};
use crate::context::Context;
use crate::encryptor::{Encryptor, START};
use crate::error::{Error, ErrorKind, Result};
use crate::limiter::paced;
use crate::manifest::{self, Manifest, Private, StoredObject};
use crate::name::join_key;
use crate::sink::Sink;
use crate::span;
use crate::stream::{self, ByteStream};

/// What reading the stored bytes has revealed so far.
#[derive(Debug, Default)]
pub(crate) struct Stored {
    /// The total size of the objects that have been read to their end.
    pub(crate) bytes: u64,
    /// SHA-256 of each object that has been read to its end.
    pub(crate) hashes: Vec<String>,
    /// The first error in the stored bytes themselves.
    pub(crate) error: Option<Error>,
    /// Whether the last object has been read to its end.
    pub(crate) ended: bool,
}

/// What an object must match.
enum Expected {
    /// Size and hash from the manifest.
    Hashed(Hashed),
    /// Without a manifest: the size in the listing.
    Listed(u64),
}

/// The stored bytes of an artifact: its objects joined, each compared with the manifest as it ends.
pub(crate) fn stored(
    sink: Arc<dyn Sink>,
    artifact: &Artifact,
    manifest: Option<&Manifest>,
    cx: &Context,
) -> (ByteStream, Arc<Mutex<Stored>>) {
    let objects: Vec<(String, Expected)> = match manifest {
        Some(manifest) => {
            let of = |o: &StoredObject| Expected::Hashed(Hashed { bytes: o.bytes, sha256: o.sha256.clone() });
            manifest.objects.iter().map(|o| (join_key(&artifact.folder, &o.name), of(o))).collect()
        }
        None => artifact.objects.iter().map(|o| (o.key.clone(), Expected::Listed(o.bytes))).collect(),
    };
    let seen = Arc::new(Mutex::new(Stored::default()));
    // Objects are opened when they are asked for, by a stage.
    let run = Span::current();
    let each = {
        let seen = seen.clone();
        let (limiter, cancel) = (cx.limiter.clone(), cx.cancel.clone());
        move |(key, expected): (String, Expected)| {
            let (sink, seen) = (sink.clone(), seen.clone());
            let (limiter, cancel, run) = (limiter.clone(), cancel.clone(), run.clone());
            async move {
                let object = sink.get(&key, None).await?;
                let object = run.in_scope(|| span::get(&*sink, &key, object));
                let object = paced(object, limiter.download_bucket(), || 1, &cancel);
                let (object, hashed) = run.in_scope(|| match expected {
                    Expected::Hashed(hashed) => flow::hash(object, Some(hashed), key),
                    Expected::Listed(bytes) => flow::hash(flow::exactly(object, bytes, key.clone()), None, key),
                });
                let noted = futures::stream::once(async move {
                    if let Ok(hashed) = hashed.await {
                        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
                        seen.bytes += hashed.bytes;
                        seen.hashes.push(hashed.sha256);
                    }
                    Ok(Bytes::new())
                });
                Ok::<_, Error>(object.chain(noted))
            }
        }
    };
    let joined = futures::stream::iter(objects.into_iter().map(Ok)).and_then(each).try_flatten();
    let watched = {
        let (failed, ended) = (seen.clone(), seen.clone());
        joined
            .inspect_err(move |error| {
                failed.lock().unwrap_or_else(PoisonError::into_inner).error.get_or_insert_with(|| error.duplicate());
            })
            .try_filter(|chunk| std::future::ready(!chunk.is_empty()))
            .chain(
                futures::stream::once(async move {
                    let mut ended = ended.lock().unwrap_or_else(PoisonError::into_inner);
                    ended.ended = ended.error.is_none();
                })
                .filter_map(|()| async { None }),
            )
            .boxed()
    };
    let stream = flow::until_cancelled(watched, cx.cancel.clone(), "read", artifact.key());
    (flow::count(stop_at_error(stream), cx.progress.clone()), seen)
}

/// Nothing follows an error.
fn stop_at_error(stream: ByteStream) -> ByteStream {
    futures::stream::unfold(Some(stream), |state| async move {
        let mut stream = state?;
        match stream.next().await? {
            Ok(chunk) => Some((Ok(chunk), Some(stream))),
            Err(error) => Some((Err(error), None)),
        }
    })
    // `peek` finds the end of an artifact that is smaller than what it looks at; its reader then asks again.
    .fuse()
    .boxed()
}

/// Converts stored bytes to plaintext: decrypts as the manifest says, or without one by magic bytes; decompresses by
/// magic bytes.
///
/// # Errors
/// [`ErrorKind::Decrypt`] if no key matches, [`ErrorKind::Unsupported`] if the compression is unknown; later errors are
/// items of the stream.
pub(crate) async fn plaintext(
    stored: ByteStream,
    artifact: &Artifact,
    manifest: Option<&Manifest>,
    keys: &[Arc<dyn Encryptor>],
) -> Result<ByteStream> {
    if let Some(manifest) = manifest {
        Compression::from_str(&manifest.compression).map_err(|_| {
            let why = format!("it is compressed with {}, which is not known here", manifest.compression);
            Error::new(ErrorKind::Unsupported, "read", artifact.key(), why).hint("use a newer Lifeboat")
        })?;
    }
    let (start, stream) = stream::peek(stored, START).await?;
    let start = &start[..start.len().min(START)];
    let suffix = artifact.name.encryption.as_deref();
    let cipher = match manifest {
        // What is not encrypted may be anything, an age file too.
        Some(manifest) if manifest.encryption.is_none() => None,
        Some(manifest) => {
            let scheme = manifest.encryption.as_ref().map(|e| e.scheme.as_str());
            manifest::choose(scheme, suffix, start, keys, &artifact.key())?
        }
        None => manifest::choose(None, suffix, start, keys, &artifact.key())?,
    };
    Ok(decompress(match cipher {
        Some(cipher) => cipher.decrypt(stream)?,
        None => stream,
    }))
}

/// Ends the plaintext with an error if its hash differs from the recorded one.
pub(crate) fn check_plaintext(stream: ByteStream, private: Option<&Private>, subject: String) -> ByteStream {
    let Some(expected) = private.map(|p| p.plaintext_xxh3_128.clone()) else { return stream };
    super::stage::spawn("check", stream, move |input, output| {
        let mut hash = Box::new(xxhash_rust::xxh3::Xxh3Default::new());
        while let Some(chunk) = input.next_chunk()? {
            hash.update(&chunk);
            output.send(chunk)?;
        }
        if format!("{:032x}", hash.digest128()) == expected {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Corrupt,
            "read",
            subject,
            "its plaintext is not what was backed up (its hash differs)",
        )
        .hint("use another artifact"))
    })
}
