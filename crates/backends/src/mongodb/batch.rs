//! How much is asked of a server at once.

use std::time::{Duration, Instant};

use bson::doc;

use super::listing::{Look, number};

/// Bytes of a batch of a server nearby. A server would fill 16 MiB. This stays in the processor's cache while it is received, copied
/// and packed: each byte of a reply is written five times before it is part of a block.
const NEAR: f64 = (1 << 20) as f64;
/// Bytes of a batch of a server further away, where each costs a round trip; four cursors with these stay within the memory of a
/// backup.
const FAR: f64 = (4 << 20) as f64;
/// How long a server nearby takes at most to answer a small question.
const SOON: Duration = Duration::from_millis(5);

/// How many documents a batch of a collection may have: as many as make the bytes of one, by their average size. `None` when the
/// server does not say it.
pub(crate) async fn documents(look: &Look, db: &str, collection: &str) -> Option<u32> {
    let asked = Instant::now();
    let command = doc! { "collStats": collection };
    let statistics = look.ask(db, command, "look at the size of", collection).await.ok()?;
    let bytes = if asked.elapsed() < SOON { NEAR } else { FAR };
    let average = number(&statistics, "avgObjSize")? as f64;
    (average >= 1.0).then(|| (bytes / average).clamp(1.0, 1_000_000.0) as u32)
}
