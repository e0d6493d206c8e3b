//! Entries among the artifacts that no listing contains: a local folder may hold links, and names that are not text.

use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};

use crate::error::Result;
use crate::name::{Dataset, join_key, split_key, split_stem};
use crate::sink::{LeftOut, Sink};

/// Lists the entries of a folder that, by name, could be artifacts of this dataset but are in no listing.
pub fn left_out<'a>(sink: &'a dyn Sink, folder: &str, dataset: Option<&Dataset>) -> BoxStream<'a, Result<LeftOut>> {
    let Some(upkeep) = sink.upkeep() else { return futures::stream::empty().boxed() };
    let folder = folder.trim_matches('/').to_owned();
    let start = dataset.map(|dataset| format!("{dataset}-")).unwrap_or_default();
    let prefix = join_key(&folder, &start);
    let is_meant = move |path: &str| {
        let (beside, name) = split_key(path);
        // A link such as `latest` is in nobody's way.
        beside == folder && name.starts_with(&start) && split_stem(name).is_some()
    };
    upkeep.left_out(&prefix).try_filter(move |left| std::future::ready(is_meant(&left.path))).boxed()
}

/// Describes what is [left out](left_out), for a message; `None` if nothing is.
///
/// # Errors
/// Any error of the sink.
pub async fn left_out_in_words(sink: &dyn Sink, folder: &str, dataset: Option<&Dataset>) -> Result<Option<String>> {
    let (mut shown, mut count) = (Vec::new(), 0u64);
    let mut all = left_out(sink, folder, dataset);
    while let Some(left) = all.try_next().await? {
        count += 1;
        if shown.len() < 3 {
            shown.push(format!("{} ({})", left.path, left.what));
        }
    }
    let more = if count > shown.len() as u64 { " …" } else { "" };
    let what = if count == 1 { "1 file is" } else { &format!("{count} files are") };
    Ok((count > 0).then(|| format!("{what} left out in {}: {}{more}", sink.url(), shown.join(", "))))
}
