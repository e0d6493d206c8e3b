//! Retention of logs: everything that the oldest kept base needs is kept.

use std::sync::Arc;

use futures::StreamExt;
use serde::Serialize;

use super::{LogReader, Position, SegmentName};
use crate::error::Result;
use crate::name::Dataset;
use crate::sink::{Held, Sink};

/// How many segments are deleted in one call.
const BATCH: usize = 500;

/// Whether a segment is needed by a base that is restored from this position on, or by a later one: all segments are,
/// except those of earlier epochs and those of its own epoch that end before it.
pub fn is_needed(oldest_kept_base: Position, segment: &SegmentName) -> bool {
    segment.epoch > oldest_kept_base.epoch
        || (segment.epoch == oldest_kept_base.epoch && segment.end > oldest_kept_base.at)
}

/// The segments that may be deleted, in the order given, which must be oldest first, as in a listing, so that an
/// interrupted run leaves no gap. None if no base is kept. Pure.
pub fn prune_plan(
    oldest_kept_base: Option<Position>,
    segments: impl IntoIterator<Item = SegmentName>,
) -> impl Iterator<Item = SegmentName> {
    segments.into_iter().filter(move |segment| oldest_kept_base.is_some_and(|oldest| !is_needed(oldest, segment)))
}

/// What pruning a log has done, or would do.
#[derive(Clone, Debug, Default, Serialize)]
#[non_exhaustive]
pub struct LogPruned {
    /// The number of segments deleted.
    pub segments: u64,
    /// The number of stored bytes freed, by the sizes in the listing.
    pub bytes: u64,
    /// Segments that the store holds, and until when. This is not a failure.
    pub held: Vec<Held>,
    /// Keys that could not be deleted, each with the reason.
    pub failed: Vec<(String, String)>,
    /// Notes for the user.
    pub notes: Vec<String>,
}

/// Deletes the segments of a log that [`prune_plan`] selects: those that the oldest kept base does not need.
///
/// # Behaviour
/// - Deletes oldest first. If no base is kept, nothing is deleted.
/// - While the log's folder holds an object that this version does not recognize, nothing is deleted, and a note says
///   so.
/// - With `dry_run`, it only counts.
///
/// # Errors
/// Any error of the sink. Nothing is decided from an incomplete listing.
///
/// # Cancel safety
/// Safe: a later call continues where this one was dropped.
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
