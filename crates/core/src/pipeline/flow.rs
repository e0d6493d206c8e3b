//! The stages that pass data through unchanged: tap, hash, cancellation, progress.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::StreamExt;
use sha2::{Digest, Sha256};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use xxhash_rust::xxh3::Xxh3Default;

use super::stage;
use crate::error::{Error, ErrorKind};
use crate::hint::Hint;
use crate::name::Dataset;
use crate::progress::{Event, Progress};
use crate::proof::{Proof, Tap};
use crate::stream::ByteStream;

/// The result of the tap stage, available when the stream has ended without an error.
#[derive(Debug)]
pub(crate) struct Tapped {
    pub(crate) proof: Proof,
    pub(crate) bytes: u64,
    pub(crate) xxh3_128: String,
}

/// Pushes a stream to a tap and hashes the plaintext, on its own thread. The stream passes through unchanged; it ends
/// without an error only if the tap accepts this as the end.
pub(crate) fn tap(
    input: ByteStream,
    mut tap: Box<dyn Tap>,
    progress: Arc<dyn Progress>,
) -> (ByteStream, oneshot::Receiver<Tapped>) {
    let (sender, receiver) = oneshot::channel();
    let stream = stage::spawn("tap", input, move |input, output| {
        let mut hash = Box::new(Xxh3Default::new());
        let (mut bytes, mut units) = (0, 0);
        while let Some(chunk) = input.next_chunk()? {
            hash.update(&chunk);
            tap.push(&chunk)?;
            if tap.units_done() != units {
                units = tap.units_done();
                progress.event(Event::Items { done: units, what: tap.units() });
            }
            bytes += chunk.len() as u64;
            output.send(chunk)?;
        }
        let proof = tap.finish()?;
        // The receiver may have gone with a run that was given up.
        let _ = sender.send(Tapped { proof, bytes, xxh3_128: format!("{:032x}", hash.digest128()) });
        Ok(())
    });
    (stream, receiver)
}

/// Size and SHA-256 of a stream that has ended without an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hashed {
    pub(crate) bytes: u64,
    pub(crate) sha256: String,
}

/// Hashes stored bytes on its own thread; they pass through unchanged. If they do not match `expected`, the stream ends
/// with an error.
pub(crate) fn hash(
    input: ByteStream,
    expected: Option<Hashed>,
    subject: String,
) -> (ByteStream, oneshot::Receiver<Hashed>) {
    let (sender, receiver) = oneshot::channel();
    let stream = stage::spawn("hash", input, move |input, output| {
        let mut hash = Sha256::new();
        let mut bytes = 0;
        while let Some(chunk) = input.next_chunk()? {
            hash.update(&chunk);
            bytes += chunk.len() as u64;
            output.send(chunk)?;
        }
        let hashed = Hashed { bytes, sha256: hex::encode(hash.finalize()) };
        let _ = sender.send(hashed.clone());
        match expected {
            Some(expected) if expected != hashed => Err(mismatch(&expected, &hashed, subject)),
            _ => Ok(()),
        }
    });
    (stream, receiver)
}

pub(crate) fn mismatch(expected: &Hashed, found: &Hashed, subject: String) -> Error {
    let why = if expected.bytes == found.bytes {
        format!(
            "its SHA-256 is {}, but the manifest says {}: the stored bytes were altered",
            found.sha256, expected.sha256
        )
    } else {
        format!("it has {} bytes, but the manifest says {}: it was cut short or altered", found.bytes, expected.bytes)
    };
    Error::new(ErrorKind::Corrupt, "read", subject, why).hint("use another artifact, or the copy in another sink")
}

/// Ends a stream with an error of kind [`ErrorKind::Cancelled`] when the token is cancelled.
pub(crate) fn until_cancelled(
    input: ByteStream,
    cancel: CancellationToken,
    operation: &'static str,
    subject: String,
) -> ByteStream {
    futures::stream::unfold(Some((input, cancel, subject)), move |state| async move {
        let (mut input, cancel, subject) = state?;
        tokio::select! {
            biased;
            () = cancel.cancelled() => Some((Err(Error::cancelled(operation, subject)), None)),
            next = input.next() => match next? {
                Ok(chunk) => Some((Ok(chunk), Some((input, cancel, subject)))),
                Err(error) => Some((Err(error), None)),
            },
        }
    })
    .boxed()
}

/// Ends a stream with an error when it has no byte at all.
pub(crate) fn not_empty(input: ByteStream, dataset: &Dataset) -> ByteStream {
    futures::stream::unfold(Some((input, false, dataset.clone())), |state| async move {
        let (mut input, mut seen, dataset) = state?;
        match input.next().await {
            Some(Ok(chunk)) => {
                seen |= !chunk.is_empty();
                Some((Ok(chunk), Some((input, seen, dataset))))
            }
            Some(Err(error)) => Some((Err(error), None)),
            None if seen => None,
            None => {
                let why = "its source ended successfully but gave nothing: 0 bytes";
                let error = Error::new(ErrorKind::Tool, "back up", dataset.to_string(), why);
                Some((Err(error.hint(Hint::AllowEmpty)), None))
            }
        }
    })
    .boxed()
}

/// Ends a stream with an error if its length differs from that in the listing: the object is being rewritten, or was
/// cut short. Nothing follows an error.
pub(crate) fn exactly(input: ByteStream, bytes: u64, key: String) -> ByteStream {
    let wrong = move |key: &str, seen: u64| {
        let why = format!("it gave {seen} bytes, but was listed with {bytes}: it is being rewritten, or was cut short");
        Some((Err(Error::new(ErrorKind::Corrupt, "read", key, why).hint("run it again")), None))
    };
    futures::stream::unfold(Some((input, 0u64, key)), move |state| async move {
        let (mut input, seen, key) = state?;
        match input.next().await {
            Some(Ok(chunk)) => {
                let seen = seen + chunk.len() as u64;
                if seen > bytes { wrong(&key, seen) } else { Some((Ok(chunk), Some((input, seen, key)))) }
            }
            Some(Err(error)) => Some((Err(error), None)),
            None if seen == bytes => None,
            None => wrong(&key, seen),
        }
    })
    .fuse()
    .boxed()
}

/// Reports bytes that pass.
pub(crate) fn count(input: ByteStream, progress: Arc<dyn Progress>) -> ByteStream {
    input
        .inspect(move |item| {
            if let Ok(chunk) = item {
                progress.event(Event::Advance(chunk.len() as u64));
            }
        })
        .boxed()
}

/// Counts the bytes that pass. The count can be read at any time.
#[derive(Clone, Debug, Default)]
pub(crate) struct Meter(Arc<AtomicU64>);

impl Meter {
    pub(crate) fn bytes(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn watch(&self, input: ByteStream) -> ByteStream {
        let meter = self.0.clone();
        input
            .inspect(move |item| {
                if let Ok(chunk) = item {
                    meter.fetch_add(chunk.len() as u64, Ordering::Relaxed);
                }
            })
            .boxed()
    }
}
