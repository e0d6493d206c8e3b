//! Copies of trees, opened from the config or from flags; and what `check` says of them.

use std::time::Duration;

use futures::StreamExt;
use lifeboat::name::join_key;
use lifeboat::pipeline::{Deletion, TreeLayout};
use lifeboat::{Check, Context, Error, ErrorKind, Result, Sink, TreeCopy};

use crate::config::Config;
use crate::config::copies::CopyConfig;
use crate::config::mistake::suggest;
use crate::config::setting::Setting;
use crate::jobs::{Job, Store, open_sink};

/// Objects that are looked at to see whether Velero keeps its backups in a folder.
const LOOK_AT: usize = 2_000;
/// How long one folder is looked at.
const LOOK_FOR: Duration = Duration::from_secs(5);

/// A sink by its name in the config, or by its URL.
pub(crate) fn sink(config: Option<&Config>, named: &str) -> Result<Store> {
    if named.contains("://") {
        return Ok(Store { name: named.to_owned(), sink: lifeboat::sinks::open(named)? });
    }
    let config = config.ok_or_else(|| {
        Error::new(ErrorKind::Config, "use", format!("sink {named}"), "it is no URL, and there is no config")
    })?;
    match config.sinks.get(named) {
        Some(sink) => Ok(Store { name: named.to_owned(), sink: open_sink(sink)? }),
        None => {
            let known: Vec<&str> = config.sinks.keys().map(String::as_str).collect();
            let why = format!("{} has no such sink", config.path.display());
            Err(Error::new(ErrorKind::Config, "use", format!("sink {named}"), why).hint(suggest(named, &known)))
        }
    }
}

/// The layouts of the trees that are known here.
pub(crate) fn layouts() -> Vec<TreeLayout> {
    let mut layouts = lifeboat::velero::layouts();
    layouts.push(lifeboat::postgres::archive_layout());
    layouts
}

/// The copies that a table of the config makes: one for each destination.
pub(crate) fn of_config(
    config: &Config,
    copy: &CopyConfig,
    deletion: Option<Deletion>,
    context: &Context,
) -> Result<Vec<(String, TreeCopy)>> {
    let text = |setting: &Option<Setting>| setting.as_ref().map(Setting::text).transpose();
    let from = sink(Some(config), &copy.from)?;
    let mut copies = Vec::new();
    for name in &copy.to {
        let to = sink(Some(config), name)?;
        let mut tree =
            TreeCopy::new(&copy.name, from.sink.clone(), to.sink)?.layouts(layouts()).context(context.clone());
        if let Some(prefix) = text(&copy.prefix)? {
            tree = tree.prefix(&prefix);
        }
        if let Some(into) = text(&copy.into)? {
            tree = tree.into_folder(&into);
        }
        copies.push((name.clone(), tree.deletion(deletion.unwrap_or(copy.deletion))));
    }
    Ok(copies)
}

/// What `check` says of each copy of the config.
pub(crate) async fn check(config: &Config, context: &Context) -> Vec<(String, Vec<Check>)> {
    let mut found = Vec::new();
    for copy in &config.copies {
        match of_config(config, copy, None, context) {
            Ok(trees) => {
                for (to, tree) in trees {
                    found.push((format!("copy {} to {to}", copy.name), tree.check().await));
                }
            }
            Err(error) => found.push((format!("copy {}", copy.name), vec![Check::from_error("config", &error)])),
        }
    }
    found
}

/// A finding when a job would write where only another tool may. Then not even a probe may be written there.
pub(crate) async fn foreign(config: Option<&Config>, job: &Job, store: &Store) -> Option<Check> {
    let place = join_key(&store.sink.url(), &job.prefix);
    let advice = "give the job a prefix of its own";
    if let Some(copy) = config.and_then(|c| c.copies.iter().find(|copy| copy.covers(&store.name, &job.prefix))) {
        let detail =
            format!("{place} belongs to the tree of copy {}: nothing else may be written there; {advice}", copy.name);
        return Some(Check::warn("another tool's", &copy.name, detail));
    }
    refuse_foreign(job, store).await.err().map(|error| Check::from_error("another tool's", &error))
}

/// Refuses a sink in which what a job writes would lie in a storage location of Velero.
///
/// # Errors
/// [`ErrorKind::Config`] for such a place. A sink that cannot be looked at is not refused: what it says comes later.
pub(crate) async fn refuse_foreign(job: &Job, store: &Store) -> Result<()> {
    if let Some(location) = job.backend.foreign_place()? {
        let of = |sink: &dyn Sink, folder: &str| format!("{}/", join_key(&sink.url(), folder).trim_end_matches('/'));
        if of(&*store.sink, &job.prefix).starts_with(&of(&*location, "")) {
            return Err(in_velero(&join_key(&store.sink.url(), &job.prefix), &location.url()));
        }
    }
    refuse_velero(&*store.sink, &job.prefix).await
}

/// Refuses a folder of a sink that lies in a storage location of Velero, or is one.
///
/// # Errors
/// As [`refuse_foreign`].
pub(crate) async fn refuse_velero(sink: &dyn Sink, folder: &str) -> Result<()> {
    let ends = folder.match_indices('/').map(|(end, _)| end).chain([folder.len()]);
    let mut tops = vec![""];
    tops.extend(ends.filter(|end| *end > 0).map(|end| &folder[..end]));
    for top in tops {
        // A store that does not answer must not hold a backup up: others may.
        if let Ok(true) = tokio::time::timeout(LOOK_FOR, is_velero(sink, top)).await {
            return Err(in_velero(&join_key(&sink.url(), folder), &join_key(&sink.url(), top)));
        }
    }
    Ok(())
}

fn in_velero(place: &str, location: &str) -> Error {
    let [place, location] = [place, location].map(|url| url.trim_end_matches('/'));
    let why = format!(
        "Velero keeps its backups in {location}, and any other folder there makes its storage location Unavailable"
    );
    Error::new(ErrorKind::Config, "store in", place, why)
        .hint("choose another bucket, which also fails separately, or a folder beside Velero's")
}

/// Whether a folder is the top of a storage location of Velero.
async fn is_velero(sink: &dyn Sink, folder: &str) -> bool {
    let mut objects = sink.list(&join_key(folder, "backups/")).take(LOOK_AT);
    while let Some(Ok(object)) = objects.next().await {
        if object.key.ends_with("/velero-backup.json") {
            return true;
        }
    }
    false
}
