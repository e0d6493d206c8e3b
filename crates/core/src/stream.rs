//! Streams of bytes, the one shape in which data passes between parts.

use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use futures::stream::BoxStream;

use crate::error::{Error, ErrorKind, Result};

/// A stream of chunks. An `Err` item is the last one: whoever reads it stops and undoes what it had begun.
///
/// Chunks are passed on without copying. They may have any size; about [`CHUNK`] bytes is what stages emit.
pub type ByteStream = BoxStream<'static, Result<Bytes>>;

/// The size of a chunk that stages aim for, in bytes: small enough for constant memory, large enough that what
/// is paid for each chunk does not matter.
pub const CHUNK: usize = 1 << 20;

/// A stream of one chunk (none when `bytes` is empty).
pub fn once(bytes: impl Into<Bytes>) -> ByteStream {
    let bytes = bytes.into();
    if bytes.is_empty() {
        return futures::stream::empty().boxed();
    }
    futures::stream::iter([Ok(bytes)]).boxed()
}

/// Reads a stream to its end into memory.
///
/// # Errors
/// The stream's own error, or [`ErrorKind::Corrupt`] when more than `limit` bytes arrive: nothing that a
/// bucket holds can make the reader's memory grow without a bound.
pub async fn collect(mut stream: ByteStream, limit: usize, subject: &str) -> Result<Bytes> {
    let mut all = BytesMut::new();
    while let Some(chunk) = stream.next().await {
        let chunk = chunk?;
        if all.len() + chunk.len() > limit {
            return Err(Error::new(
                ErrorKind::Corrupt,
                "read",
                subject,
                format!("larger than the {limit} bytes that such an object can have"),
            ));
        }
        all.extend_from_slice(&chunk);
    }
    Ok(all.freeze())
}
