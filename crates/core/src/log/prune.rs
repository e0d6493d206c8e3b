//! Retention of logs: what the oldest kept base needs stays.

use std::sync::Arc;

use futures::StreamExt;
use serde::Serialize;

use super::{LogReader, Position, SegmentName};
use crate::error::Result;
use crate::name::Dataset;
use crate::sink::{Held, Sink};

/// Segments that are deleted together.
const BATCH: usize = 500;

/// Whether a segment is needed by a base that is restored from this position on, or by a later one: all but what ends
/// before it in its own epoch, and but for earlier epochs.
pub fn is_needed(oldest_kept_base: Position, segment: &SegmentName) -> bool {
    segment.epoch > oldest_kept_base.epoch
        || (segment.epoch == oldest_kept_base.epoch && segment.end > oldest_kept_base.at)
}

/// The segments that may go, in the order in which they are given: oldest first, as a listing gives them, so that an
/// interrupted run leaves no gap. Without a base that is kept, none. Pure.
pub fn prune_plan(
    oldest_kept_base: Option<Position>,
    segments: impl IntoIterator<Item = SegmentName>,
) -> impl Iterator<Item = SegmentName> {
    segments.into_iter().filter(move |segment| oldest_kept_base.is_some_and(|oldest| !is_needed(oldest, segment)))
}

/// What pruning a log has done, or would.
#[derive(Clone, Debug, Default, Serialize)]
#[non_exhaustive]
pub struct LogPruned {
    /// How many segments are gone.
    pub segments: u64,
    /// Stored bytes that were freed, as the listing shows them.
    pub bytes: u64,
    /// What the store holds, and until when: no failure.
    pub held: Vec<Held>,
    /// Keys that could not be deleted, each with the reason.
    pub failed: Vec<(String, String)>,
    /// What a person should know.
    pub notes: Vec<String>,
}

/// Deletes the segments of a log that [`prune_plan`] lets go: keep from the oldest kept base on.
///
/// # Behaviour
/// - Oldest first. Without a base that is kept nothing is deleted.
/// - While there is an object in the log's folder that is not known here nothing is deleted, and a note says so.
/// - With `dry_run` it only counts.
///
/// # Errors
/// What the sink fails with; from half a listing nothing is decided.
///
/// # Cancel safety
/// Safe: a later call goes on where this one was dropped.
pub async fn prune(
    sink: impl Sink + 'static,
    folder: &str,
    dataset: &Dataset,
    oldest_kept_base: Option<Position>,
    dry_run: bool,
) -> Result<LogPruned> {
    let sink: Arc<dyn Sink> = Arc::new(sink);
    let mut pruned = LogPruned::default();
    if oldest_kept_base.is_none() {
        pruned.notes.push(format!("nothing of the log of {dataset} was deleted: no base is kept"));
        return Ok(pruned);
    }
    let reader = LogReader::new(sink.clone(), folder, dataset, []);
    let mut objects = reader.objects(None);
    while let Some(object) = objects.next().await {
        let (key, _, name) = object?;
        if name.is_none() {
            pruned.notes.push(format!(
                "nothing of the log of {dataset} was deleted: {key} is not known here; a newer Lifeboat may have written it"
            ));
            return Ok(pruned);
        }
    }
    let mut objects = reader.objects(None);
    let mut batch: Vec<(String, u64)> = Vec::new();
    loop {
        let object = objects.next().await.transpose()?;
        let ended = object.is_none();
        let doomed = object.filter(|(_, _, name)| prune_plan(oldest_kept_base, name.clone()).next().is_some());
        batch.extend(doomed.map(|(key, bytes, _)| (key, bytes)));
        if ended || batch.len() == BATCH {
            let batch = std::mem::take(&mut batch);
            let mut gone = batch.iter();
            if !dry_run {
                let keys: Vec<String> = batch.iter().map(|(key, _)| key.clone()).collect();
                let deleted = sink.delete(&keys).await?;
                pruned.held.extend(deleted.held);
                pruned.failed.extend(deleted.failed);
                let new: Vec<String> = deleted.notes.into_iter().filter(|n| !pruned.notes.contains(n)).collect();
                pruned.notes.extend(new);
            }
            let stays =
                |key: &str| pruned.held.iter().any(|h| h.key == key) || pruned.failed.iter().any(|(k, _)| k == key);
            let (segments, bytes) =
                gone.by_ref().filter(|(key, _)| !stays(key)).fold((0, 0), |(n, sum), (_, bytes)| (n + 1, sum + bytes));
            pruned.segments += segments;
            pruned.bytes += bytes;
        }
        if ended {
            return Ok(pruned);
        }
    }
}
