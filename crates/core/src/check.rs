//! Trying a sink before it is relied on: the rights, with a probe object, and what the sink says of itself.

use std::time::Instant;

use futures::StreamExt;
use jiff::Timestamp;

use crate::error::{Error, ErrorKind, Result};
use crate::name::{format_stamp, join_key};
use crate::report::Check;
use crate::sink::{PROBES_FOLDER, Sink, upkeep};
use crate::stream;

/// What a probe holds.
pub const PROBE: &[u8] = b"lifeboat check\n";

/// Lists, writes, reads and deletes a probe object in a sink, and asks it about itself ([`Upkeep::inspect`](crate::sink::Upkeep::inspect), where it has that).
///
/// `folder` is where the artifacts lie. The probe is written beside `beside`: usually the same, because a key may be allowed
/// below its prefix only; `""` where the folder itself should not come into being by a mere check.
///
/// # Behaviour
/// - Nothing stays behind, but where the store does not let it be deleted: then the check of deletion says so.
/// - A failure is a check that failed, and what depends on it is not tried.
///
/// # Cancel safety
/// A dropped future may leave the probe, which [a clean-up](crate::catalog::remove_orphans) removes.
pub async fn sink(sink: &dyn Sink, folder: &str, beside: &str, now: Timestamp) -> Vec<Check> {
    let begun = Instant::now();
    let listed = sink.list(&join_key(beside, PROBES_FOLDER)).next().await;
    if let Some(Err(error)) = listed {
        let found = upkeep(sink).inspect(folder, None).await;
        // What it knows of itself says it better: that its place does not exist.
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
