//! The dataset and its place as flags, for programs of one system.

use std::sync::Arc;

use clap::Args;
use lifeboat_config::{Encryption, Job, Limits, Store};
use lifeboat_core::{AnySystem, Dataset, Result, Setting};

use crate::jobs::{self, Jobs};

/// Which dataset, and where it is stored.
#[derive(Args, Debug)]
pub(crate) struct Place {
    /// The dataset
    #[arg(long, value_name = "NAME")]
    dataset: Option<String>,
    /// The sink: file:///dir, s3://bucket/prefix, minio://host:port/bucket/prefix or b2://bucket/prefix; backup, list and
    /// verify take several
    #[arg(long = "sink", alias = "to", value_name = "SINK-URL", env = "LIFEBOAT_SINK", required = true)]
    pub(crate) to: Vec<String>,
    /// The folder in the sink
    #[arg(long, value_name = "FOLDER", default_value = "", hide_default_value = true)]
    pub(crate) prefix: String,
}

/// How a backup is stored.
#[derive(Args, Debug)]
pub(crate) struct Packing {
    /// zstd:LEVEL, gzip:LEVEL or none
    #[arg(long, value_name = "zstd:3|gzip|none", default_value = "zstd:3")]
    compress: String,
    /// age:RECIPIENT (may be given several times), age-file:PATH, age-passphrase:env:NAME, openssl:env:NAME, or none
    #[arg(long, value_name = "HOW")]
    encrypt: Vec<String>,
}

/// The keys to decrypt with.
#[derive(Args, Debug, Default)]
pub(crate) struct Keys {
    /// A file with age identities or an SSH private key, age-passphrase:env:NAME or openssl:env:NAME; may be given several
    /// times
    #[arg(long, value_name = "PATH", env = "LIFEBOAT_IDENTITY")]
    identity: Vec<String>,
}

impl Keys {
    /// The jobs with these keys in place of those of the config, where any are given.
    pub(crate) fn replace(self, jobs: Jobs) -> Jobs {
        if self.identity.is_empty() {
            return jobs;
        }
        let given = self.settings();
        let with = |mut job: Job| {
            job.identities.clone_from(&given);
            job
        };
        jobs.into_iter().map(|(name, job)| (name, job.map(with))).collect()
    }

    fn settings(self) -> Vec<Setting> {
        self.identity.into_iter().map(|text| Setting::argument(text, "--identity")).collect()
    }
}

impl Place {
    /// The job that these flags describe. Without a live system, artifacts have no age limit.
    pub(crate) fn job(self, system: Arc<dyn AnySystem>, packing: Option<Packing>, keys: Option<Keys>) -> Result<Job> {
        let stores = self.to.iter().map(|url| Store::at(url)).collect::<Result<Vec<_>>>()?;
        let dataset = self.dataset.map(Dataset::new).transpose()?;
        let name = dataset.as_ref().map_or_else(|| "the dataset".to_owned(), ToString::to_string);
        let mut job = Job::new(name, dataset, system, stores);
        if let Some(packing) = packing {
            let argument = |text| Setting::argument(text, "--encrypt");
            let texts: Vec<Setting> = packing.encrypt.into_iter().map(argument).collect();
            job.compression = packing.compress.parse()?;
            job.encrypt = if texts.is_empty() { None } else { Some(Encryption::parse(&texts)?) };
        }
        job.identities = keys.unwrap_or_default().settings();
        job.prefix = self.prefix.trim_matches('/').to_owned();
        Ok(job)
    }

    /// Like [`job`](Self::job), but the live system's address names the dataset when no other name was given.
    pub(crate) fn named(self, system: Arc<dyn AnySystem>, packing: Option<Packing>, keys: Option<Keys>) -> Result<Job> {
        let mut job = self.job(system, packing, keys)?;
        if job.dataset.is_none()
            && let Some(dataset) = job.system.dataset()?
        {
            job.name = dataset.to_string();
            job.dataset = Some(dataset);
        }
        Ok(job)
    }

    /// The only job of a run that reads sinks only.
    pub(crate) fn stored(self, system: Arc<dyn AnySystem>) -> Result<Jobs> {
        let mut job = self.job(system, None, None)?;
        job.limits = Limits::default();
        Ok(jobs::only(job))
    }
}
