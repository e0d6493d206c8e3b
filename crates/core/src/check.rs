//! Checking a sink before it is relied on: its rights, with a probe object, and its own inspection.

use std::time::Instant;

use futures::StreamExt;
use jiff::Timestamp;

use crate::error::{Error, ErrorKind, Result};
use crate::name::{format_stamp, join_key};
use crate::report::Check;
use crate::sink::{PROBES_FOLDER, Sink, upkeep};
use crate::stream;

/// The content of a probe.
pub const PROBE: &[u8] = b"lifeboat check\n";

/// Lists a sink, writes, reads and deletes a probe object in it, and calls
/// [`Upkeep::inspect`](crate::sink::Upkeep::inspect), if the sink has it.
///
/// `folder` is where the artifacts are. The probe is written beside `beside`: usually the same folder, because
/// credentials may be limited to its prefix; `""` if a mere check should not create the folder.
///
/// # Behaviour
/// - Nothing stays behind, unless the store does not allow the probe to be deleted: then the check of deletion says so.
/// - A failure is a failed check, and whatever depends on it is not tried.
///
/// # Cancel safety
/// A dropped future may leave the probe behind; [`remove_orphans`](crate::catalog::remove_orphans) removes it.
pub async fn sink(sink: &dyn Sink, folder: &str, beside: &str, now: Timestamp) -> Vec<Check> {
    let begun = Instant::now();
    let listed = sink.list(&join_key(beside, PROBES_FOLDER)).next().await;
    if let Some(Err(error)) = listed {
        let found = upkeep(sink).inspect(folder, None).await;
        // The inspection explains it better: the location does not exist.
        if error.kind() == ErrorKind::NotFound && !found.is_empty() {
            return found;
        }
        return [Check::from_error("list", &error)].into_iter().chain(found).collect();
    }
    let mut found = vec![Check::pass("list", "works", sink.url()).took(begun.elapsed())];
    let key = join_key(beside, &format!("{PROBES_FOLDER}/{}-{}", format_stamp(now), std::process::id()));
    let begun = Instant::now();
    if let Err(error) = sink.put(&key, stream::once(PROBE)).await {
        found.push(Check::from_error("write", &error));
        found.extend(upkeep(sink).inspect(folder, None).await);
        return found;
    }
    found.push(Check::pass("write", "works", &key).took(begun.elapsed()));
    let begun = Instant::now();
    found.push(match read_back(sink, &key).await {
        Ok(()) => Check::pass("read", "works", "the probe came back as it was").took(begun.elapsed()),
        Err(error) if error.kind() == ErrorKind::Permission => Check::warn(
            "read",
            "refused",
            format!("{error}. Backups do not need the right to read; verifying and restoring do"),
        ),
        Err(error) => Check::from_error("read", &error),
    });
    let said = upkeep(sink).inspect(folder, Some(&key)).await;
    let begun = Instant::now();
    found.push(deletion(sink, &key).await.took(begun.elapsed()));
    found.extend(said);
    found
}

async fn read_back(sink: &dyn Sink, key: &str) -> Result<()> {
    let read = stream::collect(sink.get(key, None).await?, 1 << 20, key).await?;
    if read == PROBE {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Corrupt, "read", key, "what was read back is not what was written"))
}

async fn deletion(sink: &dyn Sink, key: &str) -> Check {
    let refused = |why: String| {
        let detail = format!("{why}. Backups do not need the right to delete; pruning does. The probe {key} remains");
        Check::warn("delete", "refused", detail)
    };
    let deleted = match sink.delete(&[key.to_owned()]).await {
        Ok(deleted) => deleted,
        Err(error) => return refused(error.to_string()),
    };
    if let Some((_, why)) = deleted.failed.first() {
        return refused(why.clone());
    }
    if let Some(held) = deleted.held.first() {
        let detail =
            format!("the probe {key} is {held}, like everything written here. Pruning orphans removes it afterwards");
        return Check::warn("delete", "held", detail);
    }
    match deleted.notes.is_empty() {
        true => Check::pass("delete", "works", "the probe is gone"),
        false => Check::warn("delete", "hides", deleted.notes.join("; ")),
    }
}
