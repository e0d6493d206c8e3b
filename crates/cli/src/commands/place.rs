//! Finds artifacts that are not where they were expected.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::StreamExt;
use lifeboat_config::{Job, Store, marker};
use lifeboat_core::catalog::{self, Artifact, At};
use lifeboat_core::name::{join_key, split_key};
use lifeboat_core::words::near;
use lifeboat_core::{ArtifactName, Dataset, Encryptor, Error, ErrorKind, Result, Sink};

use crate::exit::no_artifact;
use crate::jobs::Jobs;
use crate::session::Session;

/// How many objects to look at before giving up: the user is waiting.
const LOOK_AT: usize = 50_000;
/// Names that a hint lists.
const LISTED: usize = 5;

/// The error for a job that has no artifact; its hint says what there is instead.
pub(crate) async fn nothing(job: &Job) -> Error {
    let whose = job.dataset.as_ref().map_or("any dataset", Dataset::as_str);
    let places: Vec<String> =
        job.stores.iter().map(|s| join_key(&s.sink.url(), &job.prefix).trim_end_matches('/').to_owned()).collect();
    let error = no_artifact(whose, format!("there is none in {}", places.join(" or ")));
    match job.stores.first() {
        Some(store) => explain(error, job, store).await,
        None => error,
    }
}

/// Marks those of the jobs' sinks that are not known yet: [`take_as_new`]. A job that is wrong is told when it is run.
pub(crate) async fn take_sinks_as_new(session: &Session, jobs: &Jobs) -> Result<()> {
    let stores = jobs.iter().filter_map(|(_, job)| job.as_ref().ok()).flat_map(|job| &job.stores);
    take_as_new(session, stores.map(|store| &*store.sink)).await
}

/// Marks those of these sinks that are not known yet: somebody says that they are new.
///
/// # Errors
/// [`ErrorKind::Config`] when all of them are known: what is said only once must not become a habit.
pub(crate) async fn take_as_new<'a>(session: &Session, sinks: impl IntoIterator<Item = &'a dyn Sink>) -> Result<()> {
    let mut known = Vec::new();
    let mut taken = 0;
    for sink in sinks {
        if marker::take_as_new(sink).await? {
            taken += 1;
            session.output.note(&format!("{} is marked as a sink", sink.url()));
        } else {
            known.push(sink.url());
        }
    }
    if taken > 0 {
        return Ok(());
    }
    let why = format!("there is nothing new in it: {}", known.join(", "));
    Err(Error::new(ErrorKind::Config, "use", "--new-sink", why)
        .hint("leave it out: it is given once for each place, and never by a schedule"))
}

/// The artifact of a job that is meant.
pub(crate) async fn find(job: &Job, store: &Store, at: &At) -> Result<Artifact> {
    match catalog::find(&store.sink, &job.prefix, job.dataset()?, at).await {
        Ok(artifact) => Ok(artifact),
        Err(error) => Err(explain(error, job, store).await),
    }
}

/// The keys that it takes to read an artifact: none for a foreign object in the clear.
pub(crate) fn keys_for(job: &Job, artifact: &Artifact) -> Result<Vec<Arc<dyn Encryptor>>> {
    if artifact.manifest.is_none() && artifact.name.encryption.is_none() { Ok(Vec::new()) } else { job.keys() }
}

/// Adds a hint to the error for a missing artifact: what the sink holds elsewhere. Other errors are unchanged.
pub(crate) async fn explain(error: Error, job: &Job, store: &Store) -> Error {
    // Something is there, but not what was asked for: the error says what.
    if error.kind() != ErrorKind::NoArtifact || !error.message().starts_with("there is none") {
        return error;
    }
    // Of a folder that is not there, the error itself asks whether it is mounted.
    if let Err(unknown) = marker::refuse_unknown(&*store.sink).await
        && unknown.kind() == ErrorKind::Refused
    {
        return error
            .hint("the sink holds nothing of Lifeboat's: is its disk not mounted, or has a backup never been made?");
    }
    let Some(folders) = folders(&*store.sink).await else { return error };
    let hint = advice(&folders, &job.prefix, job.dataset.as_ref());
    error.hint(hint)
}

type Folders = BTreeMap<String, BTreeSet<String>>;

/// Which folder holds artifacts of which datasets.
async fn folders(sink: &dyn Sink) -> Option<Folders> {
    let mut folders = Folders::new();
    let mut objects = sink.list("").take(LOOK_AT);
    while let Some(object) = objects.next().await {
        let object = object.ok()?;
        let (folder, name) = split_key(&object.key);
        if let Some(name) = ArtifactName::parse(name) {
            folders.entry(folder.to_owned()).or_default().insert(name.dataset.to_string());
        }
    }
    Some(folders)
}

fn advice(folders: &Folders, prefix: &str, dataset: Option<&Dataset>) -> String {
    let show = |folder: &str| if folder.is_empty() { "the top folder".to_owned() } else { format!("\"{folder}\"") };
    if folders.is_empty() {
        return "the sink holds no artifacts at all: has a backup ever been made?".to_owned();
    }
    if let Some(dataset) = dataset {
        let holding: Vec<&str> =
            folders.iter().filter(|(_, held)| held.contains(dataset.as_str())).map(|(f, _)| f.as_str()).collect();
        if let Some(best) = near(prefix, holding.iter().copied()).or(holding.first().copied()) {
            return format!("artifacts of {dataset} lie in {}: is the prefix \"{prefix}\" a typo?", show(best));
        }
        if let Some(held) = folders.get(prefix) {
            if let Some(near) = near(dataset.as_str(), held.iter().map(String::as_str)) {
                return format!("that folder holds artifacts of {near}: did you mean that?");
            }
            return format!("that folder holds artifacts of {}", first(held.iter().cloned()));
        }
    }
    if let Some(near) = near(prefix, folders.keys().map(String::as_str)) {
        return format!("artifacts lie in {}: is the prefix \"{prefix}\" a typo?", show(near));
    }
    format!("artifacts lie in {}", first(folders.keys().map(|f| show(f))))
}

fn first(names: impl ExactSizeIterator<Item = String>) -> String {
    let more = names.len().saturating_sub(LISTED);
    let mut listed: Vec<String> = names.take(LISTED).collect();
    if more > 0 {
        listed.push(format!("{more} more"));
    }
    listed.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folders(entries: &[(&str, &[&str])]) -> Folders {
        entries
            .iter()
            .map(|(folder, held)| ((*folder).to_owned(), held.iter().map(|d| (*d).to_owned()).collect()))
            .collect()
    }

    #[test]
    fn a_prefix_with_a_typo_is_told_by_where_the_dataset_lies() {
        let shop = Dataset::new("shop").unwrap();
        let held = folders(&[("", &["roles"]), ("databases", &["shop", "blog"]), ("old", &["shop"])]);
        assert_eq!(
            advice(&held, "databses", Some(&shop)),
            "artifacts of shop lie in \"databases\": is the prefix \"databses\" a typo?"
        );
        let none = Dataset::new("shpo").unwrap();
        let two = folders(&[("databases", &["shop", "blog"])]);
        assert_eq!(advice(&two, "databases", Some(&none)), "that folder holds artifacts of shop: did you mean that?");
        let far = Dataset::new("warehouse").unwrap();
        assert_eq!(advice(&two, "databases", Some(&far)), "that folder holds artifacts of blog, shop");
        assert_eq!(advice(&two, "elsewhere", Some(&far)), "artifacts lie in \"databases\"");
        assert_eq!(advice(&two, "databse", None), "artifacts lie in \"databases\": is the prefix \"databse\" a typo?");
        assert!(advice(&Folders::new(), "x", Some(&far)).contains("no artifacts at all"));
    }
}
