//! The record of a copy: which objects were copied, with their SHA-256.
//!
//! It is stored outside of the copied tree, in Lifeboat's folder of the sink:
//! `_lifeboat/copies/<name>/<time>.jsonl.zst`. The format is Zstandard of JSON lines: a head, a line for each object in
//! ascending order of keys, and a foot, without which the record was cut short. While a copy runs, its progress is
//! noted in `<time>.<number>.part.jsonl.zst` of the same format, so that the next run need not copy it again.

use std::collections::BTreeMap;

use bytes::BytesMut;
use futures::{StreamExt, TryStreamExt};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::super::replicate::is_not_made_yet;
use crate::compress::{Compression, decompress};
use crate::error::{Error, ErrorKind, Result};
use crate::name::{format_stamp, parse_stamp};
use crate::sink::Sink;
use crate::stream::{ByteStream, CHUNK};

/// The version of the format that this code reads and writes.
const FORMAT_VERSION: u32 = 1;
const SUFFIX: &str = ".jsonl.zst";
const PART: &str = "part";
/// How many records are kept, so that a copy from weeks ago can still be compared.
const KEPT: usize = 10;
/// The longest line, in bytes. A key has at most 1,024.
const LONGEST_LINE: usize = 64 << 10;

/// What is known about a copied object. The key is relative to the tree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Entry {
    pub(super) bytes: u64,
    pub(super) sha256: String,
    /// When the source last wrote it, by the source's clock.
    pub(super) modified: Timestamp,
    /// Whether it was read so soon after it was written that a second write could have the same time.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) fresh: bool,
    /// Whether it is no longer at the source, but was kept in the copy.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) gone: bool,
}

pub(super) type Entries = BTreeMap<String, Entry>;

/// What a record says about itself.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Head {
    format_version: u32,
    written_by: String,
    /// The name of the copy.
    pub(super) copy: String,
    /// Where the tree was copied from and to, as URLs with the folder.
    pub(super) from: String,
    pub(super) to: String,
    pub(super) started_at: Timestamp,
    pub(super) finished_at: Timestamp,
    /// The number of objects that could not be copied in that run.
    pub(super) failed: u64,
}

impl Head {
    pub(super) fn new(copy: &str, from: String, to: String, started_at: Timestamp) -> Self {
        Self {
            format_version: FORMAT_VERSION,
            written_by: concat!("lifeboat ", env!("CARGO_PKG_VERSION")).to_owned(),
            copy: copy.to_owned(),
            from,
            to,
            started_at,
            finished_at: started_at,
            failed: 0,
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Foot {
    objects: u64,
    bytes: u64,
}

#[derive(Serialize, Deserialize)]
struct Line {
    key: String,
    #[serde(flatten)]
    entry: Entry,
}

/// What the records of a copy say together.
#[derive(Debug, Default)]
pub(super) struct Known {
    pub(super) entries: Entries,
    /// The last whole record and its key.
    pub(super) last: Option<(String, Head)>,
    /// Notes of a run that did not finish.
    parts: Vec<String>,
    /// Whole records, oldest first.
    whole: Vec<String>,
}

/// The name of a record: the time to the millisecond, since two runs may be in one second.
pub(super) fn stamp(at: Timestamp) -> String {
    format!("{}-{:03}", format_stamp(at), at.subsec_millisecond())
}

pub(super) fn record_key(folder: &str, stamp: &str) -> String {
    format!("{folder}/{stamp}{SUFFIX}")
}

pub(super) fn part_key(folder: &str, stamp: &str, number: u32) -> String {
    format!("{folder}/{stamp}.{number:06}.{PART}{SUFFIX}")
}

/// The stamp in a record's name, and whether it is a note of a run in progress.
fn parse_name(name: &str) -> Option<(&str, bool)> {
    let name = name.strip_suffix(SUFFIX)?;
    let (stamp, rest) = name.split_once('.').map_or((name, None), |(stamp, rest)| (stamp, Some(rest)));
    let (at, millis) = stamp.rsplit_once('-')?;
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if parse_stamp(at).is_none() || millis.len() != 3 || !digits(millis) {
        return None;
    }
    match rest {
        None => Some((stamp, false)),
        Some(rest) => (digits(rest.strip_suffix(PART)?.strip_suffix('.')?)).then_some((stamp, true)),
    }
}

impl Known {
    /// Reads the last record in `folder`, and the notes since.
    ///
    /// A record that cannot be read is skipped with a warning: its objects are then read and compared.
    pub(super) async fn read(sink: &dyn Sink, folder: &str) -> Result<Self> {
        let mut known = Self::default();
        let prefix = format!("{folder}/");
        let mut listed = sink.list(&prefix);
        while let Some(object) = listed.next().await {
            let object = match object {
                Ok(object) => object,
                // A folder that nothing was ever written to.
                Err(error) if is_not_made_yet(sink, &error) => break,
                Err(error) => return Err(error),
            };
            match object.key.strip_prefix(&prefix).and_then(parse_name) {
                Some((_, false)) => known.whole.push(object.key),
                Some((_, true)) => known.parts.push(object.key),
                None => {}
            }
        }
        drop(listed);
        for key in known.whole.iter().rev() {
            match read(sink, key).await {
                Ok((head, entries)) => {
                    (known.last, known.entries) = (Some((key.clone(), head)), entries);
                    break;
                }
                Err(error) if error.is_transient() => return Err(error),
                Err(error) => tracing::warn!(%error, "this record of the copy was skipped"),
            }
        }
        let last = known
            .last
            .as_ref()
            .and_then(|(key, _)| parse_name(&key[prefix.len()..]))
            .map(|(stamp, _)| stamp.to_owned());
        for key in &known.parts {
            let is_older = parse_name(&key[prefix.len()..]).is_some_and(|(stamp, _)| last.as_deref() >= Some(stamp));
            if is_older {
                continue;
            }
            match read(sink, key).await {
                Ok((_, entries)) => known.entries.extend(entries),
                Err(error) if error.is_transient() => return Err(error),
                Err(error) => tracing::warn!(%error, "this note of an earlier run was skipped"),
            }
        }
        Ok(known)
    }

    /// Removes the notes that a whole record has superseded, and the oldest records. Without the right to delete, they
    /// stay.
    pub(super) async fn tidy(&self, sink: &dyn Sink, own_parts: &[String]) {
        let old = self.whole.len().saturating_sub(KEPT - 1);
        let keys: Vec<String> =
            self.parts.iter().chain(own_parts).chain(self.whole.iter().take(old)).cloned().collect();
        if keys.is_empty() {
            return;
        }
        match sink.delete(&keys).await {
            Ok(deleted) if deleted.failed.is_empty() => {}
            Ok(deleted) => tracing::debug!(why = deleted.failed[0].1, "old records of the copy stay"),
            Err(error) => tracing::debug!(%error, "old records of the copy stay"),
        }
    }
}

/// Writes a record, or a note of a run in progress.
pub(super) async fn write(sink: &dyn Sink, key: &str, head: &Head, entries: &Entries) -> Result<()> {
    let foot = Foot { objects: entries.len() as u64, bytes: entries.values().map(|e| e.bytes).sum() };
    let mut chunks = Vec::new();
    let mut text = line(head);
    for (key, entry) in entries {
        text.extend(line(&Line { key: key.clone(), entry: entry.clone() }));
        if text.len() >= CHUNK {
            chunks.push(Ok(std::mem::take(&mut text).into()));
        }
    }
    text.extend(line(&foot));
    chunks.push(Ok(text.into()));
    let body = Compression::Zstd { level: 3, threads: 0 }.compress(futures::stream::iter(chunks).boxed());
    sink.put(key, body).await.map(drop)
}

fn line(value: &impl Serialize) -> Vec<u8> {
    let mut line = serde_json::to_vec(value).expect("a record has string keys only");
    line.push(b'\n');
    line
}

async fn read(sink: &dyn Sink, key: &str) -> Result<(Head, Entries)> {
    let corrupt = |why: String| Error::new(ErrorKind::Corrupt, "read", key, why);
    let mut lines = Lines { stream: decompress(sink.get(key, None).await?), rest: BytesMut::new(), key };
    let head = lines.next().await?.ok_or_else(|| corrupt("it is empty".to_owned()))?;
    let head: Head =
        serde_json::from_slice(&head).map_err(|e| corrupt(format!("it is not a record of a copy ({e})")))?;
    if head.format_version > FORMAT_VERSION {
        let why = format!("its format version is {}, newer than {FORMAT_VERSION}", head.format_version);
        return Err(Error::new(ErrorKind::Unsupported, "read", key, why).hint("use a newer Lifeboat"));
    }
    let mut entries = Entries::new();
    let mut foot: Option<Foot> = None;
    while let Some(text) = lines.next().await? {
        if let Ok(Line { key, entry }) = serde_json::from_slice(&text) {
            entries.insert(key, entry);
        } else {
            foot = Some(
                serde_json::from_slice(&text)
                    .map_err(|e| corrupt(format!("one of its lines is not an object ({e})")))?,
            );
        }
    }
    match foot {
        Some(foot) if foot.objects == entries.len() as u64 => Ok((head, entries)),
        _ => Err(corrupt("it was cut short".to_owned())),
    }
}

/// The lines of a stream.
struct Lines<'a> {
    stream: ByteStream,
    rest: BytesMut,
    key: &'a str,
}

impl Lines<'_> {
    async fn next(&mut self) -> Result<Option<BytesMut>> {
        let mut looked_at = 0;
        loop {
            if let Some(at) = self.rest[looked_at..].iter().position(|b| *b == b'\n') {
                let mut line = self.rest.split_to(looked_at + at + 1);
                line.truncate(looked_at + at);
                return Ok(Some(line));
            }
            looked_at = self.rest.len();
            if looked_at > LONGEST_LINE {
                return Err(Error::new(ErrorKind::Corrupt, "read", self.key, "one of its lines does not end"));
            }
            match self.stream.try_next().await? {
                Some(chunk) => self.rest.extend_from_slice(&chunk),
                None if self.rest.is_empty() => return Ok(None),
                None => return Err(Error::new(ErrorKind::Corrupt, "read", self.key, "its last line was cut short")),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_records_are_read() {
        let at: Timestamp = "2026-11-21T03:30:00.042Z".parse().unwrap();
        assert_eq!(stamp(at), "20261121-033000-042");
        let name = |key: String| key.strip_prefix("f/").unwrap().to_owned();
        assert_eq!(parse_name(&name(record_key("f", &stamp(at)))), Some(("20261121-033000-042", false)));
        assert_eq!(parse_name(&name(part_key("f", &stamp(at), 7))), Some(("20261121-033000-042", true)));
        for other in ["x.jsonl.zst", "20261121-033000.jsonl.zst", "20261121-033000-042.x.part.jsonl.zst", "readme"] {
            assert_eq!(parse_name(other), None, "{other}");
        }
    }
}
