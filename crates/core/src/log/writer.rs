//! [`LogWriter`]: stores segments, one object each.

use std::sync::Arc;

use futures::StreamExt;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::name::{SegmentName, hash_of, is_format, log_folder};
use super::{LogDescription, LogSource, Position, Segment};
use crate::compress::Compression;
use crate::context::Context;
use crate::encryptor::{self, Encryptor};
use crate::error::{Error, ErrorKind, Result};
use crate::limiter::{Limiter, paced};
use crate::progress::Event;
use crate::sink::{PutOptions, Sink, see_that_it_is_there};
use crate::stream;

/// Stores the segments of one log: compress, encrypt, put. [`LogReader`](super::LogReader) has an example.
#[derive(Debug)]
pub struct LogWriter {
    sink: Arc<dyn Sink>,
    folder: String,
    format: String,
    compression: Compression,
    encryptor: Option<Arc<dyn Encryptor>>,
    /// Where the last segment ended.
    end: Option<Position>,
}

/// The result of storing a segment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Appended {
    /// The segment's key.
    pub key: String,
    /// The number of stored bytes, or 0 if the same content was already there.
    pub bytes: u64,
    /// Where the previous segment ended, if that is before this one's start: the positions between are missing.
    pub gap_from: Option<u64>,
}

impl LogWriter {
    /// Creates a writer for the log of a dataset below `folder`. Without an encryptor, everyone who can read the sink
    /// can read the segments.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if the format is not one word, or if names with the encryptor's suffix could not be
    /// parsed.
    pub fn new(
        sink: impl Sink + 'static,
        folder: &str,
        log: &LogDescription,
        compression: Compression,
        encryptor: Option<Arc<dyn Encryptor>>,
    ) -> Result<Self> {
        if !is_format(&log.format) {
            let why = format!("its format \"{}\" is not one word of letters, digits, '_' and '-'", log.format);
            return Err(Error::new(ErrorKind::Config, "store", format!("the log of {}", log.dataset), why));
        }
        if let Some(encryptor) = &encryptor {
            encryptor::check_names(&**encryptor)?;
        }
        let folder = log_folder(folder, &log.dataset);
        Ok(Self { sink: Arc::new(sink), folder, format: log.format.clone(), compression, encryptor, end: None })
    }

    /// Where the last segment that this writer appended ended.
    pub fn end(&self) -> Option<Position> {
        self.end
    }

    /// Stores a segment. It is durable when this returns.
    ///
    /// # Behaviour
    /// - The same content for the same positions is stored once.
    /// - A segment that does not start where the previous one ended is still stored, and the result reports the gap.
    ///
    /// # Errors
    /// [`ErrorKind::AlreadyExists`] if there is different content for the same positions; nothing is overwritten.
    /// Credentials that may not list cannot detect that: then both are stored, and a reader reports it.
    /// [`ErrorKind::Config`] for a segment without positions. Any error of the sink.
    ///
    /// # Cancel safety
    /// Safe: the segment is stored whole or not at all, and appending it again is correct in both cases.
    pub async fn append(&mut self, segment: Segment) -> Result<Appended> {
        let position = Position::new(segment.epoch, segment.start);
        if segment.end <= segment.start {
            let why = format!("it has no positions: it ends at {:016x}", segment.end);
            return Err(Error::new(ErrorKind::Config, "store", format!("the segment at {position}"), why));
        }
        let name = SegmentName {
            epoch: segment.epoch,
            start: segment.start,
            end: segment.end,
            hash: hash_of(&segment.bytes),
            format: self.format.clone(),
            compression: self.compression.suffix().map(str::to_owned),
            encryption: self.encryptor.as_ref().map(|e| e.suffix().to_owned()),
        };
        let key = format!("{}/{name}", self.folder);
        let bytes = if self.is_there(&name).await? { 0 } else { self.put(&key, segment).await? };
        let gap_from = self.end.filter(|end| end.epoch == name.epoch && end.at < name.start).map(|end| end.at);
        self.end = Some(Position::new(name.epoch, name.end));
        Ok(Appended { key, bytes, gap_from })
    }

    async fn put(&self, key: &str, segment: Segment) -> Result<u64> {
        let packed = self.compression.compress(stream::once(segment.bytes));
        let sealed = match &self.encryptor {
            Some(encryptor) => encryptor::seal(encryptor, packed)?,
            None => packed,
        };
        let sealed = paced(sealed, Limiter::current().upload_bucket(), || 1, &CancellationToken::new());
        match self.sink.put_with(key, sealed, PutOptions::new().lock(true)).await {
            // Positions and content are in the name: it is the same segment, put by a run whose answer was lost.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(0),
            Ok(bytes) => {
                see_that_it_is_there(&*self.sink, "write", key, bytes).await?;
                Ok(bytes)
            }
            Err(error) => Err(error),
        }
    }

    /// Whether the same content is there already.
    async fn is_there(&self, name: &SegmentName) -> Result<bool> {
        let prefix = format!("{}/{}", self.folder, SegmentName::prefix_of(name.position()));
        let mut objects = self.sink.list(&prefix);
        while let Some(object) = objects.next().await {
            let object = match object {
                Ok(object) => object,
                // Write-only credentials cannot look, and a folder that nothing was written to may not exist.
                Err(error) if matches!(error.kind(), ErrorKind::Permission | ErrorKind::NotFound) => return Ok(false),
                Err(error) => return Err(error),
            };
            let found =
                object.key.strip_prefix(&self.folder).and_then(|rest| SegmentName::parse(rest.strip_prefix('/')?));
            let Some(found) = found else { continue };
            if found.is_same_content(name) {
                return Ok(true);
            }
            if found.end == name.end {
                let why = "other content exists for the same positions; nothing is overwritten";
                return Err(Error::new(ErrorKind::AlreadyExists, "store", object.key, why)
                    .hint("two systems write the same log: give one of them another dataset or prefix"));
            }
        }
        Ok(false)
    }
}

/// Stores the segments of a source until it ends, and confirms to the source what is durable. Gaps are reported as
/// progress notes. Returns where the log ends now.
///
/// # Errors
/// Any error of the source or the sink. Confirmed segments stay stored.
///
/// # Cancel safety
/// Safe: the next run sends what was not confirmed again.
pub async fn ship(
    source: &dyn LogSource,
    writer: &mut LogWriter,
    from: Option<Position>,
    cx: &Context,
) -> Result<Option<Position>> {
    cx.limiter.govern(ship_all(source, writer, from, cx)).await
}

async fn ship_all(
    source: &dyn LogSource,
    writer: &mut LogWriter,
    from: Option<Position>,
    cx: &Context,
) -> Result<Option<Position>> {
    let mut segments = source.open(from, cx).await?;
    while let Some(segment) = segments.next().await {
        let segment = segment?;
        let appended = writer.append(segment).await?;
        if let Some(gap) = appended.gap_from {
            let note = format!("the log has a gap before {}: what follows {gap:016x} is missing", appended.key);
            cx.progress.event(Event::Note(note));
        }
        cx.progress.event(Event::Advance(appended.bytes));
        if let Some(end) = writer.end() {
            source.confirm(end).await?;
        }
    }
    Ok(writer.end())
}
