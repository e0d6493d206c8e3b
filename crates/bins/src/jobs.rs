//! Jobs: what a command works on, whether a config file or flags said it.

use std::sync::Arc;
use std::time::Duration;

use lifeboat::retention::Policy;
use lifeboat::sinks::{self, Credentials};
use lifeboat::{AgeLimit, Compression, Dataset, Encryptor, Error, ErrorKind, Level, Result, Sink, Status};

use crate::backend::Backend;
use crate::config::mistake::suggest;
use crate::config::setting::Setting;
use crate::config::{Config, JobConfig, SinkConfig};
use crate::encryption::{self, Choice};

/// One dataset with all that is known about how it is kept.
pub(crate) struct Job {
    pub(crate) name: String,
    /// Without one, `list` shows every dataset.
    pub(crate) dataset: Option<Dataset>,
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
            dataset: Some(job.dataset.clone()),
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
