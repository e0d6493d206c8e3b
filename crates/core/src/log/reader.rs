//! [`LogReader`]: finds what a log covers, and reads its segments in order.

use std::sync::Arc;

use futures::StreamExt;
use futures::stream::BoxStream;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::name::{SegmentName, hash_of, log_folder};
use super::{Position, Segment};
use crate::compress::decompress;
use crate::encryptor::{Encryptor, START};
use crate::error::{Error, ErrorKind, Result};
use crate::limiter::{Limiter, paced};
use crate::manifest;
use crate::name::Dataset;
use crate::sink::Sink;
use crate::stream;

/// The largest size of a segment, in bytes of plaintext.
const SEGMENT_LIMIT: usize = 1 << 30;

/// Reads the log of a dataset.
///
/// ```
/// use futures::TryStreamExt;
/// use lifeboat_core::log::{LogDescription, LogReader, LogWriter, Position, Segment};
/// use lifeboat_core::{Compression, Dataset};
/// # use lifeboat_testkit::memory::MemorySink;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> lifeboat_core::Result<()> {
/// # let sink = MemorySink::new();
/// let log = LogDescription::new(Dataset::new("main")?, "ledger", "log");
/// let mut writer = LogWriter::new(sink.clone(), "db", &log, Compression::None, None)?;
/// writer.append(Segment::new(1, 0, 4, "abcd")).await?;
/// writer.append(Segment::new(1, 4, 6, "ef")).await?;
///
/// // From any position on; a gap would be an error.
/// let reader = LogReader::new(sink, "db", &log.dataset, []);
/// let pieces: Vec<_> = reader.read(Position::new(1, 2), None).try_collect().await?;
/// assert_eq!(pieces.len(), 2);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct LogReader {
    sink: Arc<dyn Sink>,
    folder: String,
    keys: Vec<Arc<dyn Encryptor>>,
}

/// A range of positions that is covered without a gap.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Window {
    /// The timeline.
    pub epoch: u32,
    /// The first position.
    pub start: u64,
    /// The first position after the window.
    pub end: u64,
    /// The number of segments in it.
    pub segments: u64,
    /// The stored bytes of these segments.
    pub bytes: u64,
}

/// The missing positions between two windows of an epoch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Gap {
    /// The timeline.
    pub epoch: u32,
    /// The first missing position.
    pub start: u64,
    /// The first position after the gap.
    pub end: u64,
}

/// A segment that covers positions which an earlier one covers too.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Overlap {
    /// The segment's key.
    pub key: String,
    /// The number of its positions that were already covered.
    pub positions: u64,
    /// Whether it has different content for exactly the same positions: then one of the two does not belong to this
    /// log.
    pub is_conflict: bool,
}

/// What a log covers, derived from names alone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Coverage {
    /// The windows, in order. The last window of an epoch ends where the log ends in that epoch.
    pub windows: Vec<Window>,
    /// The gaps between the windows of an epoch, in order.
    pub gaps: Vec<Gap>,
    /// Segments that overlap others. The same content packed twice does not count as an overlap.
    pub overlaps: Vec<Overlap>,
    /// Keys that this version does not recognize. They cover nothing.
    pub unknown: Vec<String>,
}

impl Coverage {
    /// The end of the window that contains a position or ends there: how far the log carries it forward in its epoch.
    pub fn end_from(&self, position: Position) -> Option<Position> {
        let fits = |w: &&Window| w.epoch == position.epoch && w.start <= position.at && position.at <= w.end;
        self.windows.iter().rev().find(fits).map(|w| Position::new(w.epoch, w.end))
    }
}

/// A segment of a log being read in order.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Piece {
    /// The whole segment.
    pub segment: Segment,
    /// How many of its first positions were covered by earlier pieces, or precede the requested position.
    pub overlap: u64,
}

impl LogReader {
    /// Creates a reader of the log of a dataset below `folder`.
    pub fn new(
        sink: impl Sink + 'static,
        folder: &str,
        dataset: &Dataset,
        keys: impl IntoIterator<Item = Arc<dyn Encryptor>>,
    ) -> Self {
        Self { sink: Arc::new(sink), folder: log_folder(folder, dataset), keys: keys.into_iter().collect() }
    }

    /// Every object of the log with its key, size and segment name, or `None` if the name is unknown. In order of
    /// positions, page by page.
    pub(super) fn objects(&self, epoch: Option<u32>) -> BoxStream<'_, Result<(String, u64, Option<SegmentName>)>> {
        let prefix = epoch.map_or_else(|| format!("{}/", self.folder), |epoch| format!("{}/{epoch:08x}/", self.folder));
        let own = format!("{}/", self.folder);
        let objects = self.sink.list(&prefix).map(move |object| {
            object.map(|object| {
                let name = object.key.strip_prefix(&own).and_then(SegmentName::parse);
                (object.key, object.bytes, name)
            })
        });
        objects.boxed()
    }

    /// Lists the segments in order of positions, from names alone, page by page. Unknown names are skipped;
    /// [`coverage`](LogReader::coverage) reports them.
    ///
    /// # Errors
    /// Errors of the sink's listing, as items.
    pub fn segments(&self, epoch: Option<u32>) -> BoxStream<'_, Result<SegmentName>> {
        let named = |object: Result<(String, u64, Option<SegmentName>)>| async move {
            object.map(|(_, _, name)| name).transpose()
        };
        self.objects(epoch).filter_map(named).boxed()
    }

    /// Finds what the log covers. Keeps only the result in memory, not the list of segments.
    ///
    /// # Errors
    /// Errors of the sink's listing. An incomplete listing gives no result.
    pub async fn coverage(&self) -> Result<Coverage> {
        let mut coverage = Coverage::default();
        let mut objects = self.objects(None);
        let mut last: Option<SegmentName> = None;
        while let Some(object) = objects.next().await {
            let (key, bytes, name) = object?;
            let Some(name) = name else {
                coverage.unknown.push(key);
                continue;
            };
            if last.as_ref().is_some_and(|last| last.is_same_content(&name)) {
                continue;
            }
            match coverage.windows.last_mut().filter(|window| window.epoch == name.epoch) {
                Some(window) if name.start <= window.end => {
                    if name.start < window.end {
                        let is_conflict =
                            last.as_ref().is_some_and(|last| (last.start, last.end) == (name.start, name.end));
                        let positions = window.end.min(name.end) - name.start;
                        coverage.overlaps.push(Overlap { key, positions, is_conflict });
                    }
                    window.end = window.end.max(name.end);
                    window.segments += 1;
                    window.bytes += bytes;
                }
                before => {
                    if let Some(window) = before {
                        coverage.gaps.push(Gap { epoch: name.epoch, start: window.end, end: name.start });
                    }
                    let (epoch, start, end) = (name.epoch, name.start, name.end);
                    coverage.windows.push(Window { epoch, start, end, segments: 1, bytes });
                }
            }
            last = Some(name);
        }
        Ok(coverage)
    }

    /// Reads the segments that cover an epoch from a position on, in order: decrypted, decompressed and checked against
    /// their names. The stream ends where `to` is reached or, without `to`, where the log ends.
    ///
    /// # Behaviour
    /// - A piece reports its own overlap. The same content packed twice is returned once.
    /// - Only one epoch is read. The caller has to check whether another follows.
    ///
    /// # Errors
    /// As the last item: [`ErrorKind::NotFound`] for a gap, or if the log ends before `to`; [`ErrorKind::Corrupt`] for
    /// different content for the same positions, and for bytes that do not match the name; errors of reading and
    /// decrypting.
    pub fn read(&self, from: Position, to: Option<u64>) -> BoxStream<'_, Result<Piece>> {
        let state = Reading { reader: self, names: self.segments(Some(from.epoch)), next: from, to, last: None };
        futures::stream::unfold(Some(state), |state| async move {
            let mut state = state?;
            match state.piece().await {
                Ok(None) => None,
                Ok(Some(piece)) => Some((Ok(piece), Some(state))),
                Err(error) => Some((Err(error), None)),
            }
        })
        .boxed()
    }

    async fn open(&self, name: &SegmentName) -> Result<Segment> {
        let key = format!("{}/{name}", self.folder);
        let stored = self.sink.get(&key, None).await?;
        let stored = paced(stored, Limiter::current().download_bucket(), || 1, &CancellationToken::new());
        let (start, stored) = stream::peek(stored, START).await?;
        let start = &start[..start.len().min(START)];
        let cipher = match name.encryption.as_deref() {
            Some(suffix) => manifest::choose(None, Some(suffix), start, &self.keys, &key)?,
            None => None,
        };
        let sealed = match cipher {
            Some(cipher) => cipher.decrypt(stored)?,
            None => stored,
        };
        let plain = if name.compression.is_some() { decompress(sealed) } else { sealed };
        let bytes = stream::collect(plain, SEGMENT_LIMIT, &key).await?;
        if hash_of(&bytes) != name.hash {
            let why = "its content does not match its name (the hash differs): it was cut short or altered";
            return Err(Error::new(ErrorKind::Corrupt, "read", key, why).hint("use the copy in another sink"));
        }
        Ok(Segment::new(name.epoch, name.start, name.end, bytes))
    }
}

struct Reading<'a> {
    reader: &'a LogReader,
    names: BoxStream<'a, Result<SegmentName>>,
    /// The first position that was not returned yet.
    next: Position,
    to: Option<u64>,
    last: Option<SegmentName>,
}

impl Reading<'_> {
    async fn piece(&mut self) -> Result<Option<Piece>> {
        while self.to.is_none_or(|to| self.next.at < to) {
            let Some(name) = self.names.next().await.transpose()? else {
                return match self.to {
                    Some(to) => Err(self.missing(format!("the log ends at {}, before {to:016x}", self.next))),
                    None => Ok(None),
                };
            };
            if let Some(last) = &self.last {
                if last.is_same_content(&name) {
                    continue;
                }
                if (last.start, last.end) == (name.start, name.end) {
                    let why = format!("{last} and {name} hold different content for the same positions");
                    return Err(Error::new(ErrorKind::Corrupt, "read", &self.reader.folder, why)
                        .hint("two systems have written the same log: find out which one is right"));
                }
            } else if name.end <= self.next.at {
                continue;
            }
            if name.start > self.next.at {
                return Err(self.missing(format!("a gap: {} up to {:016x} is missing", self.next, name.start)));
            }
            let segment = self.reader.open(&name).await?;
            let overlap = self.next.at.min(name.end) - name.start;
            self.next.at = self.next.at.max(name.end);
            self.last = Some(name);
            return Ok(Some(Piece { segment, overlap }));
        }
        Ok(None)
    }

    fn missing(&self, why: String) -> Error {
        Error::new(ErrorKind::NotFound, "read", &self.reader.folder, why)
            .hint("restore to a position before it, or from a base after it")
    }
}
