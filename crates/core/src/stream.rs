//! Streams of bytes, the only form in which data passes between components.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use futures::stream::BoxStream;
use tokio::sync::mpsc;
use tracing::Instrument;

use crate::error::{Error, ErrorKind, Result};
use crate::hint::Hint;

/// A stream of chunks. An `Err` item is the last one: the reader stops and undoes what it has begun.
///
/// Chunks are passed on without copying. They may have any size; stages emit about [`CHUNK`] bytes.
pub type ByteStream = BoxStream<'static, Result<Bytes>>;

/// The chunk size that stages aim for, in bytes: small enough for constant memory, large enough that the cost per chunk
/// does not matter.
pub const CHUNK: usize = 1 << 20;

/// Creates a stream of one chunk (none if `bytes` is empty).
pub fn once(bytes: impl Into<Bytes>) -> ByteStream {
    let bytes = bytes.into();
    if bytes.is_empty() {
        return futures::stream::empty().boxed();
    }
    futures::stream::iter([Ok(bytes)]).boxed()
}

/// Creates a stream with only this error.
pub(crate) fn failed(error: Error) -> ByteStream {
    futures::stream::iter([Err(error)]).boxed()
}

/// Returns the first `count` bytes (fewer if the stream is shorter, more depending on the chunks), and the whole stream
/// including them.
///
/// # Errors
/// Errors of the stream within these bytes.
pub(crate) async fn peek(stream: ByteStream, count: usize) -> Result<(Bytes, ByteStream)> {
    let mut stream = stream.fuse();
    let mut start = BytesMut::new();
    while start.len() < count {
        match stream.next().await {
            Some(chunk) => start.extend_from_slice(&chunk?),
            None => break,
        }
    }
    let start = start.freeze();
    let again = start.clone();
    Ok((start, futures::stream::iter([Ok(again)]).chain(stream).boxed()))
}

/// Reads a stream to its end into memory.
///
/// # Errors
/// The stream's own error, or [`ErrorKind::Corrupt`] if more than `limit` bytes arrive: no content of a bucket can make
/// memory grow without bound.
pub async fn collect(mut stream: ByteStream, limit: usize, subject: &str) -> Result<Bytes> {
    let mut all = BytesMut::new();
    while let Some(chunk) = stream.next().await {
        let chunk = chunk?;
        if all.len() + chunk.len() > limit {
            return Err(Error::new(
                ErrorKind::Corrupt,
                "read",
                subject,
                format!("it is larger than the {limit} bytes allowed for such an object"),
            ));
        }
        all.extend_from_slice(&chunk);
    }
    Ok(all.freeze())
}

/// Splits a stream to `count` receivers without copying. Each has its own buffer of `depth` chunks. The first is
/// awaited as long as it takes; any other that takes nothing for `grace` is given up with an error, so that it does not
/// hold up the first. Dropped receivers are skipped; when all are dropped, the input is dropped too.
pub fn split(input: ByteStream, count: usize, depth: usize, grace: Duration) -> Vec<ByteStream> {
    if count == 1 {
        return vec![input];
    }
    type Item = Option<Result<Bytes>>;
    let (senders, receivers): (Vec<_>, Vec<_>) = (0..count).map(|_| mpsc::channel::<Item>(depth)).unzip();
    let copying = async move {
        let mut input = input;
        let mut senders: Vec<Option<mpsc::Sender<Item>>> = senders.into_iter().map(Some).collect();
        loop {
            let item = input.next().await;
            let last = !matches!(item, Some(Ok(_)));
            for (index, slot) in senders.iter_mut().enumerate() {
                let Some(sender) = slot else { continue };
                let copy = match &item {
                    Some(Ok(chunk)) => Some(Ok(chunk.clone())),
                    Some(Err(error)) => Some(Err(error.duplicate())),
                    None => None,
                };
                let gone = if index == 0 {
                    sender.send(copy).await.is_err()
                } else {
                    // The channel of a stalled receiver stays full, so dropping the sender makes it fail: its stream
                    // ends without the closing item.
                    tokio::time::timeout(grace, sender.send(copy)).await.map_or(true, |sent| sent.is_err())
                };
                if gone {
                    *slot = None;
                }
            }
            if last || senders.iter().all(Option::is_none) {
                return;
            }
        }
    };
    tokio::spawn(copying.in_current_span());
    receivers
        .into_iter()
        .map(|receiver| {
            futures::stream::unfold(Some(receiver), move |state| async move {
                let mut receiver = state?;
                match receiver.recv().await {
                    Some(Some(Ok(chunk))) => Some((Ok(chunk), Some(receiver))),
                    Some(Some(Err(error))) => Some((Err(error), None)),
                    Some(None) => None,
                    None => {
                        let error = Error::new(
                            ErrorKind::Unavailable,
                            "write to",
                            "this sink",
                            format!(
                                "it took no data for {} s and was given up so that the others could continue",
                                grace.as_secs()
                            ),
                        )
                        .hint(Hint::ReplicateLater);
                        Some((Err(error), None))
                    }
                }
            })
            .boxed()
        })
        .collect()
}
