//! What a sink holds, without a config: each dataset in each of its folders is a job. Its system is told by a manifest, or,
//! where there is none, by the format in the name.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::TryStreamExt;
use lifeboat_config::{Job, Limits, Store};
use lifeboat_core::catalog::{self, Artifact, At};
use lifeboat_core::name::{join_key, split_key};
use lifeboat_core::words::{near, suggest};
use lifeboat_core::{AnySystem, ArtifactName, Dataset, Error, ErrorKind, Result};

use crate::commands::show::is_key;
use crate::exit::no_artifact;
use crate::jobs::Jobs;
use crate::systems::{Entry, Systems};

/// What is asked of a sink.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    /// The sink's URL.
    pub(crate) url: String,
    /// Datasets, with or without their folder, or keys; none means all that there are.
    pub(crate) names: Vec<String>,
    /// The system of what does not say it itself.
    pub(crate) system: Option<String>,
    /// Which backup is meant.
    pub(crate) at: At,
}

/// A dataset in a folder of the sink.
#[derive(Debug)]
pub(crate) struct Found {
    folder: String,
    dataset: Dataset,
    /// The backup that was named by its key.
    pub(crate) key: Option<String>,
    /// Whose it is. `None` where nobody asked.
    system: Option<Result<Entry>>,
}

/// The datasets that are meant, and where they are.
#[derive(Debug)]
pub(crate) struct Holdings {
    pub(crate) store: Store,
    pub(crate) found: Vec<Found>,
}

impl Found {
    fn name(&self) -> String {
        join_key(&self.folder, self.dataset.as_str())
    }

    /// Its system, where it is known.
    pub(crate) fn entry(&self) -> Option<Entry> {
        self.system.as_ref()?.as_ref().ok().copied()
    }
}

/// Looks through the whole sink for the datasets that are meant.
///
/// # Errors
/// [`ErrorKind::NoArtifact`] when there is nothing, or nothing of a dataset that was named; [`ErrorKind::Config`] for a name
/// that means several; what the sink fails with.
pub(crate) async fn datasets(asked: &Asked) -> Result<Holdings> {
    let store = Store::at(&asked.url)?;
    let all = catalog::datasets(&*store.sink).await?;
    if all.is_empty() {
        let why = format!("there is none in {}, nor in any folder of it", store.name);
        return Err(no_artifact("any dataset", why).hint(
            "is this the right bucket, and the right folder of it? `--from-sink` takes the URL of a folder above too",
        ));
    }
    let mut found: Vec<Found> = Vec::new();
    if asked.names.is_empty() {
        let each = |(folder, dataset)| Found { folder, dataset, key: None, system: None };
        found = all.into_iter().map(each).collect();
    } else {
        for name in &asked.names {
            let one = one(&store, &all, name).await?;
            // Named twice, it is done once.
            if !found.iter().any(|known| known.name() == one.name() && known.key == one.key) {
                found.push(one);
            }
        }
    }
    Ok(Holdings { store, found })
}

/// As [`datasets`], each with its system.
///
/// # Errors
/// As [`datasets`].
pub(crate) async fn with_systems(asked: &Asked, systems: &Systems) -> Result<Holdings> {
    let mut holdings = datasets(asked).await?;
    let given = asked.system.as_deref().map(|name| named(systems, name)).transpose()?;
    for found in &mut holdings.found {
        let at = found.key.clone().map_or_else(|| asked.at.clone(), At::Key);
        found.system = Some(system(&holdings.store, found, &at, given, systems).await);
    }
    Ok(holdings)
}

/// The dataset that a word means: its name, its folder and name (a slash alone for no folder), or the key of a backup.
async fn one(store: &Store, all: &BTreeSet<(String, Dataset)>, word: &str) -> Result<Found> {
    let (folder, last) = match split_key(word) {
        ("", last) if !word.starts_with('/') => (None, last),
        (folder, last) => (Some(folder.trim_matches('/')), last),
    };
    let key = is_key(word);
    let dataset = if key { ArtifactName::parse(last).map(|name| name.dataset) } else { Dataset::new(last).ok() };
    let fits = |(held, of): &&(String, Dataset)| Some(of) == dataset.as_ref() && folder.is_none_or(|f| f == held);
    let mut fitting: Vec<&(String, Dataset)> = all.iter().filter(fits).collect();
    if key && fitting.len() > 1 {
        // Names are exact to the second: one of the folders holds it.
        let mut holding = Vec::new();
        for place in fitting {
            match store.sink.head(&join_key(&place.0, last)).await {
                Ok(_) => holding.push(place),
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        fitting = holding;
    }
    match fitting[..] {
        [(folder, dataset)] => Ok(Found {
            folder: folder.clone(),
            dataset: dataset.clone(),
            key: key.then(|| join_key(folder, last)),
            system: None,
        }),
        [] => {
            let known: Vec<String> = all.iter().map(|(folder, dataset)| join_key(folder, dataset.as_str())).collect();
            let known: Vec<&str> = known.iter().map(String::as_str).collect();
            let alike = near(last, all.iter().map(|(_, dataset)| dataset.as_str()));
            let hint = alike.map_or_else(|| suggest(word, &known), |near| format!("did you mean \"{near}\"?"));
            Err(no_artifact(word, format!("there is none in {}, nor in any folder of it", store.name)).hint(hint))
        }
        _ => {
            let listed: Vec<String> = fitting
                .iter()
                .map(|(f, d)| if f.is_empty() { format!("/{d}") } else { join_key(f, d.as_str()) })
                .collect();
            let why = format!("several folders of {} hold one", store.name);
            Err(Error::new(ErrorKind::Config, "choose", format!("\"{word}\""), why)
                .hint(format!("name it with its folder: {}", listed.join(" or "))))
        }
    }
}

fn named(systems: &Systems, name: &str) -> Result<Entry> {
    systems.find(name).ok_or_else(|| {
        Error::new(ErrorKind::Config, "use", format!("--system {name}"), "there is no such system")
            .hint(suggest(name, &systems.names()))
    })
}

/// The system of a dataset: that of the backup that is meant, or, where that one cannot be said, of the newest.
async fn system(store: &Store, of: &Found, at: &At, given: Option<Entry>, systems: &Systems) -> Result<Entry> {
    let meant = match catalog::find(&store.sink, &of.folder, &of.dataset, at).await {
        Ok(artifact) => Some(artifact),
        // What is wrong is said by the command itself, in its own words.
        Err(error) if matches!(error.kind(), ErrorKind::NoArtifact | ErrorKind::NotFound) => newest(store, of).await?,
        Err(error) => return Err(error),
    };
    let Some(artifact) = meant else { return Err(no_artifact(&of.name(), format!("there is none in {}", store.name))) };
    if let Some(manifest) = artifact.read_manifest(&*store.sink).await? {
        let system = &manifest.source.system;
        return systems.find(system).ok_or_else(|| {
            let why = format!("it is a backup of {system}, which this program does not know");
            Error::new(ErrorKind::Unsupported, "read", artifact.key(), why)
                .hint(format!("lifeboat-{system} may: it is a program of its own"))
        });
    }
    if let Some(given) = given {
        return Ok(given);
    }
    match systems.of_format(&artifact.name.format)[..] {
        [entry] => Ok(entry),
        _ => {
            let why = "it has no manifest, and its name does not tell which system it is a backup of";
            Err(Error::new(ErrorKind::Config, "read", artifact.key(), why)
                .hint(format!("say it: --system {}", systems.names().join(" or "))))
        }
    }
}

async fn newest(store: &Store, of: &Found) -> Result<Option<Artifact>> {
    let mut newest: Option<Artifact> = None;
    let mut artifacts = catalog::list(&*store.sink, &of.folder, Some(&of.dataset));
    while let Some(artifact) = artifacts.try_next().await? {
        if newest.as_ref().is_none_or(|known| known.name.taken_at <= artifact.name.taken_at) {
            newest = Some(artifact);
        }
    }
    Ok(newest)
}

impl Holdings {
    /// The one dataset, if it is one.
    pub(crate) fn only(&self) -> Option<&Found> {
        if let [only] = &self.found[..] { Some(only) } else { None }
    }

    /// A job for each. `open` opens the system of one; those whose system is not known are told when they are run.
    pub(crate) fn jobs(self, open: impl Fn(Entry) -> Result<Arc<dyn AnySystem>>) -> Jobs {
        let Self { store, found } = self;
        let job = |found: Found| {
            let (name, store) = (found.name(), store.clone());
            let untold = || Err(Error::new(ErrorKind::Internal, "open", &name, "nobody asked for its system"));
            let job = found.system.unwrap_or_else(untold).and_then(&open).map(|system| {
                let mut job = Job::new(&name, Some(found.dataset), system, vec![store]);
                job.prefix = found.folder;
                // How old a backup may be is what a config says.
                job.limits = Limits::default();
                job
            });
            (name, job)
        };
        found.into_iter().map(job).collect()
    }

    /// A job for each, to list what there is: a listing asks the system nothing, so that any will do.
    pub(crate) fn listed(mut self, systems: &Systems) -> Jobs {
        for found in &mut self.found {
            let none = || Error::new(ErrorKind::Config, "list", &self.store.name, "this program has no systems");
            found.system = Some(systems.first().ok_or_else(none));
        }
        self.jobs(|entry| entry.open(None))
    }
}
