//! About how much a backup is going to read: told while it reads already, so that nothing waits for it.

use std::time::Duration;

use crate::catalog::fuller_before;
use crate::name::ArtifactName;
use crate::progress::{Event, Progress, Total};
use crate::sink::Sink;
use crate::source::Source;

/// How long a sink may take to say how large the backup before was, before the live system is asked instead.
const PATIENCE: Duration = Duration::from_secs(20);

/// Does `work`, and `aside` beside it for as long as that takes.
pub(super) async fn beside<T>(work: impl Future<Output = T>, aside: impl Future<Output = ()>) -> T {
    tokio::pin!(work, aside);
    tokio::select! {
        biased;
        done = &mut work => done,
        () = &mut aside => work.await,
    }
}

/// Tells about how many bytes of plaintext are coming.
///
/// The backup before says it best: its plaintext had the same form, and only what has come and gone since is wrong in it. What a
/// server counts is of another form: without compression or with it, with free space, with headers of rows. So the server is
/// asked where there is no such backup, or the key may not read it.
pub(super) async fn tell(
    source: &dyn Source,
    (sink, folder): (&dyn Sink, &str),
    name: &ArtifactName,
    is_increment: bool,
    progress: &dyn Progress,
) {
    // What an increment will hold, none of the whole backups before it says.
    let last = if is_increment { None } else { last_bytes(sink, folder, name).await };
    let bytes = match last {
        Some(bytes) => Some(bytes),
        None => source
            .estimate()
            .await
            .unwrap_or_else(|error| {
                tracing::debug!(%error, "there is no estimate of how much is read");
                None
            })
            .map(|estimate| estimate.bytes),
    };
    if let Some(bytes) = bytes.filter(|bytes| *bytes > 0) {
        progress.event(Event::Total(Total::About(bytes)));
    }
}

/// The plaintext of the newest good backup before this one, as far as the sink says.
async fn last_bytes(sink: &dyn Sink, folder: &str, name: &ArtifactName) -> Option<u64> {
    match tokio::time::timeout(PATIENCE, fuller_before(sink, folder, name)).await {
        Ok(Ok(last)) => last.map(|(_, amount)| amount.bytes),
        Ok(Err(error)) => {
            tracing::debug!(%error, "the size of the backup before is not known");
            None
        }
        Err(_) => None,
    }
}
