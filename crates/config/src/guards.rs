//! Guards against storing in another tool's place: a foreign folder in its bucket can make it unusable.

use std::time::Duration;

use futures::StreamExt;
use lifeboat_core::name::join_key;
use lifeboat_core::{Check, Error, ErrorKind, Result, Sink};

use crate::{Config, Job, Store};

/// How many objects to look at to see whether a tool keeps its data in a folder.
const LOOK_AT: usize = 2_000;
/// How long to look at one folder.
const LOOK_FOR: Duration = Duration::from_secs(5);

/// The layout of a tool that tolerates no foreign objects.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct ForeignTree {
    /// The tool.
    pub tool: &'static str,
    /// The folder that holds its marks.
    pub folder: &'static str,
    /// The end of a mark's key.
    pub mark: &'static str,
    /// What foreign objects do to it: completes "TOOL keeps … in PLACE, and …".
    pub harm: &'static str,
}

/// The known tools.
pub const FOREIGN_TREES: &[ForeignTree] = &[ForeignTree {
    tool: "Velero",
    folder: "backups/",
    mark: "/velero-backup.json",
    harm: "any other folder there makes its storage location Unavailable",
}];

/// A finding when a job would write in another tool's place. Then not even a probe may be written there.
pub async fn check(config: Option<&Config>, job: &Job, store: &Store) -> Option<Check> {
    let place = join_key(&store.sink.url(), &job.prefix);
    let advice = "give the job its own prefix";
    if let Some(copy) = config.and_then(|c| c.copies.iter().find(|copy| copy.covers(&store.name, &job.prefix))) {
        let detail = format!(
            "{place} belongs to the tree of copy {}, and nothing else may be written there; {advice}",
            copy.name
        );
        return Some(Check::warn("another tool's", &copy.name, detail));
    }
    refuse_job(job, store).await.err().map(|error| Check::from_error("another tool's", &error))
}

/// Refuses a sink where the job would write in another tool's place.
///
/// # Errors
/// [`ErrorKind::Config`] for such a place. A sink that cannot be read is not refused: its own error comes later.
pub async fn refuse_job(job: &Job, store: &Store) -> Result<()> {
    if let Some(place) = job.system.foreign_place() {
        let location = place.open()?;
        let of = |sink: &dyn Sink, folder: &str| format!("{}/", join_key(&sink.url(), folder).trim_end_matches('/'));
        if of(&*store.sink, &job.prefix).starts_with(&of(&*location, "")) {
            return Err(taken(
                &join_key(&store.sink.url(), &job.prefix),
                &location.url(),
                job.system.title(),
                FOREIGN_TREES
                    .iter()
                    .find(|tree| tree.tool == job.system.title())
                    .map_or("nothing else may be there", |t| t.harm),
            ));
        }
    }
    refuse_folder(&*store.sink, &job.prefix).await
}

/// Refuses a folder of a sink that is, or is in, another tool's place.
///
/// # Errors
/// Like [`refuse_job`].
pub async fn refuse_folder(sink: &dyn Sink, folder: &str) -> Result<()> {
    let ends = folder.match_indices('/').map(|(end, _)| end).chain([folder.len()]);
    let mut tops = vec![""];
    tops.extend(ends.filter(|end| *end > 0).map(|end| &folder[..end]));
    for top in tops {
        for tree in FOREIGN_TREES {
            // A store that does not answer must not hold a backup up: others may.
            if let Ok(true) = tokio::time::timeout(LOOK_FOR, is_there(tree, sink, top)).await {
                return Err(taken(&join_key(&sink.url(), folder), &join_key(&sink.url(), top), tree.tool, tree.harm));
            }
        }
    }
    Ok(())
}

fn taken(place: &str, location: &str, tool: &str, harm: &str) -> Error {
    let [place, location] = [place, location].map(|url| url.trim_end_matches('/'));
    let why = format!("{tool} keeps its backups in {location}, and {harm}");
    Error::new(ErrorKind::Config, "store in", place, why)
        .hint(format!("choose another bucket, which also fails independently, or a folder beside {tool}'s"))
}

/// Whether a folder is the top of a tool's place.
async fn is_there(tree: &ForeignTree, sink: &dyn Sink, folder: &str) -> bool {
    let mut objects = sink.list(&join_key(folder, tree.folder)).take(LOOK_AT);
    while let Some(Ok(object)) = objects.next().await {
        if object.key.ends_with(tree.mark) {
            return true;
        }
    }
    false
}
