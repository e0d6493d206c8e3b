//! Jobs: what a command works on, whether a config file or flags said it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;

use lifeboat::catalog::{self, At};
use lifeboat::name::split_key;
use lifeboat::retention::Policy;
use lifeboat::sinks::{self, Credentials};
use lifeboat::{
    AgeLimit, ArtifactName, Compression, Dataset, Encryptor, Error, ErrorKind, Level, Result, Sink, Status,
};

use crate::backend::Backend;
use crate::commands::place::nothing;
use crate::config::mistake::suggest;
use crate::config::setting::Setting;
use crate::config::{Config, JobConfig, SinkConfig};
use crate::encryption::{self, Choice};
use crate::session::Session;

/// One dataset with all that is known about how it is kept.
pub(crate) struct Job {
    pub(crate) name: String,
    /// Without one, the job is of every dataset in its folder that [is its own](Job::claims).
    pub(crate) dataset: Option<Dataset>,
    /// Datasets that other jobs of the config keep in the same folder.
    pub(crate) others: Vec<Dataset>,
    pub(crate) backend: Backend,
    /// The folder in each sink.
    pub(crate) prefix: String,
    pub(crate) stores: Vec<Store>,
    pub(crate) compression: Compression,
    /// `None` when nobody said.
    pub(crate) encrypt: Option<Choice>,
    pub(crate) identities: Vec<Setting>,
    pub(crate) keep: Option<Policy>,
    pub(crate) limits: Limits,
    /// How long a sink other than the first may hold up a backup.
    pub(crate) sink_grace: Option<Duration>,
}

/// A sink with the name that it has in the config, or its URL.
#[derive(Clone)]
pub(crate) struct Store {
    pub(crate) name: String,
    pub(crate) sink: Arc<dyn Sink>,
}

/// What a verification asks for when the command line does not say.
#[derive(Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) level: Level,
    pub(crate) max_age: Option<Duration>,
    pub(crate) age_status: Status,
}

impl Limits {
    pub(crate) fn age_limit(self) -> Option<AgeLimit> {
        self.max_age.map(|max_age| AgeLimit { max_age, status: self.age_status })
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self { level: Level::default(), max_age: None, age_status: Status::Fail }
    }
}

/// The jobs of a run, by name, each opened or with what is wrong with it: one that cannot run does not keep the others
/// from running.
pub(crate) type Jobs = Vec<(String, Result<Job>)>;

impl Job {
    /// The dataset.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] when none was given.
    pub(crate) fn dataset(&self) -> Result<&Dataset> {
        self.dataset.as_ref().ok_or_else(|| {
            Error::new(ErrorKind::Config, "choose", "the dataset", "none was given")
                .hint("name it with --dataset NAME; `list` shows which there are")
        })
    }

    /// Whether the job is of datasets whose names it does not know by itself.
    pub(crate) fn has_many(&self) -> bool {
        self.dataset.is_none() && self.backend.has_many()
    }

    /// Whether an artifact in the job's folder is the job's.
    pub(crate) fn claims(&self, name: &ArtifactName) -> bool {
        match &self.dataset {
            Some(dataset) => name.dataset == *dataset,
            None => !self.others.contains(&name.dataset) && self.backend.claims(name),
        }
    }

    /// The part of this job that is of one dataset.
    pub(crate) fn narrow(&self, dataset: Dataset) -> Self {
        let backend = if self.has_many() { self.backend.narrow(&dataset) } else { self.backend.clone() };
        Self {
            name: if self.has_many() { format!("{}/{dataset}", self.name) } else { self.name.clone() },
            dataset: Some(dataset),
            others: Vec::new(),
            backend,
            prefix: self.prefix.clone(),
            stores: self.stores.clone(),
            compression: self.compression,
            encrypt: self.encrypt.clone(),
            identities: self.identities.clone(),
            keep: self.keep,
            limits: self.limits,
            sink_grace: self.sink_grace,
        }
    }

    /// The datasets of which the job's sinks hold artifacts, in the order of their names.
    ///
    /// # Errors
    /// What kept the first sink from being listed.
    pub(crate) async fn stored_datasets(&self) -> Result<Vec<Dataset>> {
        let mut found = BTreeSet::new();
        let mut artifacts = catalog::list(&*self.store()?.sink, &self.prefix, None);
        while let Some(artifact) = artifacts.next().await {
            let name = artifact?.name;
            if self.claims(&name) {
                found.insert(name.dataset);
            }
        }
        Ok(found.into_iter().collect())
    }

    /// The first sink: where a backup is looked for.
    pub(crate) fn store(&self) -> Result<&Store> {
        self.stores.first().ok_or_else(|| {
            Error::new(ErrorKind::Config, "use", format!("job {}", self.name), "it has no sink")
                .hint("name one with --to, or sinks = […] in the config")
        })
    }

    /// The keys to decrypt with.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for an identity that is missing or no identity.
    pub(crate) fn keys(&self) -> Result<Vec<Arc<dyn Encryptor>>> {
        encryption::keys(&self.identities, self.encrypt.as_ref())
    }

    fn open(config: &Config, job: &JobConfig, sink: Option<&str>) -> Result<Self> {
        let names: Vec<&String> = job.sinks.iter().filter(|name| sink.is_none_or(|s| s == *name)).collect();
        if let (Some(sink), true) = (sink, names.is_empty()) {
            return Err(Error::new(
                ErrorKind::Config,
                "use",
                format!("--sink {sink}"),
                format!("job {} does not store there", job.name),
            )
            .hint(format!("its sinks are {}", job.sinks.join(", "))));
        }
        let stores = names
            .into_iter()
            .map(|name| {
                let sink = config.sinks.get(name).expect("the config was checked: every sink of a job is there");
                Ok(Store { name: name.clone(), sink: open_sink(sink)? })
            })
            .collect::<Result<Vec<_>>>()?;
        Ok(Self {
            name: job.name.clone(),
            dataset: job.dataset.clone(),
            others: match job.dataset {
                Some(_) => Vec::new(),
                None => config
                    .jobs
                    .iter()
                    .filter(|o| o.folder() == job.folder())
                    .filter_map(|o| o.dataset.clone())
                    .collect(),
            },
            backend: job.backend.clone(),
            prefix: match &job.prefix {
                Some(prefix) => prefix.text()?.trim_matches('/').to_owned(),
                None => String::new(),
            },
            stores,
            compression: job.compress,
            encrypt: job.encrypt.clone(),
            identities: job.identities.clone(),
            keep: job.keep,
            limits: job.limits,
            sink_grace: job.sink_grace,
        })
    }
}

/// Where the datasets of a job with many are looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LookIn {
    /// The live system: what there is to back up.
    Live,
    /// The sink: what there is to verify, restore and prune.
    Sink,
}

/// Puts, in the place of each job with many datasets, one job for each of them.
pub(crate) async fn expand(jobs: Jobs, session: &Session, place: LookIn) -> Jobs {
    let mut expanded = Jobs::new();
    for (name, job) in jobs {
        match job {
            Ok(job) if job.has_many() => match session.context.cancel.run_until_cancelled(each(&job, place)).await {
                Some(Ok(each)) => expanded.extend(each.into_iter().map(|job| (job.name.clone(), Ok(job)))),
                Some(Err(error)) => expanded.push((name, Err(error))),
                None => expanded.push((name.clone(), Err(Error::cancelled("list the datasets of", name)))),
            },
            other => expanded.push((name, other)),
        }
    }
    expanded
}

async fn each(job: &Job, place: LookIn) -> Result<Vec<Job>> {
    let datasets = match place {
        LookIn::Sink => job.stored_datasets().await?,
        LookIn::Live => {
            // A dataset that has a job of its own is backed up once.
            let live = job.backend.datasets().await?;
            let own: Vec<Dataset> = live.iter().filter(|d| !job.others.contains(d)).cloned().collect();
            if own.is_empty() {
                let why = "the live system shows none that is not another job's";
                return Err(Error::new(ErrorKind::NotFound, "find", format!("a dataset of job {}", job.name), why)
                    .hint("may the token see any? `lifeboat check` says what it may"));
            }
            own
        }
    };
    if datasets.is_empty() {
        return Err(nothing(job).await);
    }
    Ok(datasets.into_iter().map(|dataset| job.narrow(dataset)).collect())
}

/// The one dataset of a job that a command works on: the one that is named, the one of the key, or the only one there is.
///
/// # Errors
/// [`ErrorKind::Config`] when there are several and none was named, or when the job is of another one.
pub(crate) async fn one(job: Job, named: Option<&str>, at: &At) -> Result<Job> {
    let of_key = match at {
        At::Key(key) => ArtifactName::parse(split_key(key).1).map(|name| name.dataset),
        _ => None,
    };
    let named = named.map(Dataset::new).transpose()?;
    if let (Some(asked), Some(own)) = (&named, &job.dataset)
        && asked != own
    {
        let subject = format!("--dataset {asked}");
        return Err(Error::new(ErrorKind::Config, "use", subject, format!("job {} is of the dataset {own}", job.name)));
    }
    if !job.has_many() {
        return Ok(job);
    }
    if let Some(dataset) = named.or(of_key) {
        return Ok(job.narrow(dataset));
    }
    let mut stored = job.stored_datasets().await?;
    match stored.len() {
        0 => Err(nothing(&job).await),
        1 => Ok(job.narrow(stored.remove(0))),
        _ => {
            let listed: Vec<&str> = stored.iter().map(Dataset::as_str).collect();
            Err(Error::new(ErrorKind::Config, "choose", "the dataset", format!("job {} has several", job.name))
                .hint(format!("name one with --dataset: {}", listed.join(", "))))
        }
    }
}

/// Opens a sink of the config. Nothing is contacted yet.
///
/// # Errors
/// [`ErrorKind::Config`]: a wrong URL, a variable that is not set.
pub(crate) fn open_sink(config: &SinkConfig) -> Result<Arc<dyn Sink>> {
    let text = |setting: &Option<Setting>| setting.as_ref().map(Setting::text).transpose();
    let credentials = match (&config.access_key, &config.secret_key) {
        (Some(access), Some(secret)) => {
            use secrecy::ExposeSecret;
            let mut made = Credentials::new(access.secret()?.expose_secret(), secret.secret()?);
            made.session_token = config.session_token.as_ref().map(Setting::secret).transpose()?;
            Some(made)
        }
        (None, None) => None,
        (Some(half), None) | (None, Some(half)) => {
            return Err(half
                .wrong("access_key and secret_key belong together")
                .hint("give both, or neither and set them in the environment"));
        }
    };
    let settings = sinks::Settings {
        credentials,
        endpoint: text(&config.endpoint)?,
        region: text(&config.region)?,
        lock: config.lock,
        ..sinks::Settings::default()
    };
    sinks::open_with(&config.url.text()?, &settings)
}

/// The jobs with these names, or all of them.
///
/// # Errors
/// [`ErrorKind::Config`] for a name that is no job's or no sink's.
pub(crate) fn select(config: &Config, names: &[String], sink: Option<&str>) -> Result<Jobs> {
    let path = config.path.display().to_string();
    if let Some(sink) = sink
        && !config.sinks.contains_key(sink)
    {
        let known: Vec<&str> = config.sinks.keys().map(String::as_str).collect();
        return Err(Error::new(ErrorKind::Config, "use", format!("--sink {sink}"), format!("{path} has no such sink"))
            .hint(suggest(sink, &known)));
    }
    if config.jobs.is_empty() {
        return Err(Error::new(ErrorKind::Config, "find", "a job", format!("{path} has none"))
            .hint("write a table [jobs.NAME], as in the example that `lifeboat init` writes"));
    }
    let mut selected: Vec<&JobConfig> = Vec::new();
    if names.is_empty() {
        selected.extend(&config.jobs);
    }
    for name in names {
        match config.jobs.iter().find(|job| job.name == *name) {
            // Named twice, it is done once.
            Some(job) if selected.iter().any(|s| s.name == job.name) => {}
            Some(job) => selected.push(job),
            None => {
                let known: Vec<&str> = config.jobs.iter().map(|j| j.name.as_str()).collect();
                let subject = format!("job \"{name}\"");
                return Err(Error::new(ErrorKind::Config, "find", subject, format!("{path} has no such job"))
                    .hint(suggest(name, &known)));
            }
        }
    }
    Ok(selected.into_iter().map(|job| (job.name.clone(), Job::open(config, job, sink))).collect())
}
