//! About how large an archive will be, from what the server counts.

use bson::{Document, doc};
use futures::{StreamExt, TryStreamExt};
use lifeboat_core::{Estimate, Result};

use super::listing::{Look, number};
use super::selection::Selection;

/// Questions that are asked at once.
const SIDE_BY_SIDE: usize = 8;

/// The bytes of BSON of what a selection takes: `dataSize` of whole databases (`dbStats`), or else `size` of each collection
/// (`collStats`). An archive holds the documents as they are, so it has hardly more. `None` where queries choose among documents.
///
/// # Errors
/// What the server fails with.
pub(super) async fn of(look: &Look, chosen: &Selection, database: Option<&str>) -> Result<Option<Estimate>> {
    if chosen.has_queries() {
        return Ok(None);
    }
    let whole = chosen.takes_every_collection();
    let figure = if whole { "dataSize" } else { "size" };
    let mut questions: Vec<(String, Document)> = Vec::new();
    for db in look.chosen_databases(chosen, database).await? {
        if whole {
            questions.push((db, doc! { "dbStats": 1 }));
            continue;
        }
        let listed = look.collections(&db, |name| chosen.takes(&db, name)).await?;
        let collections = listed.into_iter().filter(|listed| listed.kind != "view");
        questions.extend(collections.map(|listed| (db.clone(), doc! { "collStats": listed.name })));
    }
    let sizes = futures::stream::iter(questions).map(|(db, command)| async move {
        let reply = look.ask(&db, command, "look at the size of", &db).await?;
        Ok(number(&reply, figure).and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or_default())
    });
    let bytes = sizes.buffer_unordered(SIDE_BY_SIDE).try_fold(0, |all, bytes| async move { Ok(all + bytes) }).await?;
    Ok(Some(Estimate::new(bytes)))
}
