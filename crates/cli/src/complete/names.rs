//! The names that a config and its sinks hold.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use lifeboat_config::{Config, Job, Store};
use lifeboat_core::catalog;
use lifeboat_core::{AnySystem, Dataset, Result};

use super::{Candidates, Given, Kind};
use crate::grammar::CONFIG;
use crate::systems::Systems;

/// How long a sink may take: somebody waits with a finger on a key.
const PATIENCE: Duration = Duration::from_millis(1500);
/// The most artifacts that are offered, the newest ones.
const OFFERED: usize = 100;

/// What names there are.
pub(crate) trait Names {
    /// Those of a kind, given the other words. Without any, or where they cannot be had quickly: none.
    fn of(&self, kind: Kind, given: &Given) -> Candidates;
}

/// Of `lifeboat`: those of the config.
pub(crate) struct Configured<'a>(pub(crate) &'a Systems);

impl Configured<'_> {
    fn config(&self, given: &Given) -> Option<Config> {
        let variable = || std::env::var_os("LIFEBOAT_CONFIG").map(PathBuf::from);
        let path = given.one(CONFIG).map(PathBuf::from).or_else(variable);
        Config::load(path.as_deref(), self.0.config()).ok()
    }

    /// The job that the words name, in the sink that they name.
    fn job(config: &Config, given: &Given) -> Option<Job> {
        let names = given.positionals().get(..1)?;
        config.select(names, given.one("sink").filter(|name| config.sinks.contains_key(*name))).ok()?.pop()?.1.ok()
    }
}

impl Names for Configured<'_> {
    fn of(&self, kind: Kind, given: &Given) -> Candidates {
        let Some(config) = self.config(given) else { return Vec::new() };
        let jobs = || config.jobs.iter().map(|job| (job.name.clone(), job.system.title().to_owned()));
        let sinks = || config.sinks.iter().map(|(name, sink)| (name.clone(), sink.url.raw().to_owned()));
        match kind {
            Kind::Job => jobs().collect(),
            Kind::JobOrCopy => {
                jobs().chain(config.copies.iter().map(|copy| (copy.name.clone(), String::new()))).collect()
            }
            Kind::Sink => sinks().collect(),
            Kind::SinkOrAll => sinks().chain([("all".to_owned(), "each of them".to_owned())]).collect(),
            Kind::Dataset => Self::job(&config, given).map(|job| datasets(&job)).unwrap_or_default(),
            Kind::Artifact => Self::job(&config, given).map(|job| artifacts(&job)).unwrap_or_default(),
        }
    }
}

/// Of a program of one system: those in the sink that the words name.
pub(crate) struct Single<F>(pub(crate) F);

impl<F: Fn() -> Result<Arc<dyn AnySystem>>> Names for Single<F> {
    fn of(&self, kind: Kind, given: &Given) -> Candidates {
        let sink = || given.one("to").map(str::to_owned).or_else(|| std::env::var("LIFEBOAT_SINK").ok());
        let job = || -> Option<Job> {
            let system = (self.0)().ok()?;
            let mut job = Job::new("the dataset", None, system, vec![Store::at(&sink()?).ok()?]);
            job.prefix = given.one("prefix").unwrap_or_default().trim_matches('/').to_owned();
            job.dataset = given.one("dataset").and_then(|name| Dataset::new(name).ok());
            Some(job)
        };
        match kind {
            Kind::Dataset => {
                let Some(mut job) = job() else { return Vec::new() };
                job.dataset = None;
                datasets(&job)
            }
            Kind::Artifact => job().map(|job| artifacts(&job)).unwrap_or_default(),
            _ => Vec::new(),
        }
    }
}

/// The datasets that a job's sink holds.
fn datasets(job: &Job) -> Candidates {
    let mut names: Vec<String> = listed(job).into_iter().map(|(dataset, _)| dataset).collect();
    names.dedup();
    names.into_iter().map(|name| (name, String::new())).collect()
}

/// The artifacts that a job's sink holds, newest first.
fn artifacts(job: &Job) -> Candidates {
    let mut keys: Vec<String> = listed(job).into_iter().map(|(_, key)| key).collect();
    keys.reverse();
    keys.truncate(OFFERED);
    let latest = ("latest".to_owned(), "the newest".to_owned());
    [latest].into_iter().chain(keys.into_iter().map(|key| (key, String::new()))).collect()
}

/// Dataset and key of each artifact, as far as they come in time.
fn listed(job: &Job) -> Vec<(String, String)> {
    let Ok(store) = job.store() else { return Vec::new() };
    let Ok(runtime) = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build() else {
        return Vec::new();
    };
    let mut found = Vec::new();
    // A timer wants to be made within the runtime.
    let listing = async {
        let mut artifacts = catalog::list(&*store.sink, &job.prefix, job.dataset.as_ref());
        while let Some(Ok(artifact)) = artifacts.next().await {
            if job.claims(&artifact.name) {
                found.push((artifact.name.dataset.to_string(), artifact.key()));
            }
        }
    };
    let _ = runtime.block_on(async { tokio::time::timeout(PATIENCE, listing).await });
    // What still blocks a thread is not waited for.
    runtime.shutdown_background();
    found
}
