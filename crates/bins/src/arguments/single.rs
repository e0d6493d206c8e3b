//! What the binaries of one system have in common: the dataset and its place are given by flags, and what is done with
//! stored backups does not depend on the system.

use clap::Args;
use lifeboat::name::join_key;
use lifeboat::{Dataset, Error, ErrorKind, Result};

use super::{PruneArgs, no_limits};
use crate::backend::Backend;
use crate::commands;
use crate::config::setting::Setting;
use crate::encryption::Choice;
use crate::exit::Exit;
use crate::jobs::{Job, Jobs, Store};
use crate::session::Session;

/// Which dataset, and where it is stored.
#[derive(Args, Debug)]
pub(crate) struct Place {
    /// The dataset
    #[arg(long, value_name = "NAME")]
    dataset: Option<String>,
    /// The sink: file:///dir, s3://bucket/prefix, minio://host:port/bucket/prefix or b2://bucket/prefix; backup and list take
    /// several
    #[arg(long, visible_alias = "sink", value_name = "SINK-URL", env = "LIFEBOAT_TO", required = true)]
    to: Vec<String>,
    /// The folder in the sink
    #[arg(long, value_name = "FOLDER", default_value = "", hide_default_value = true)]
    prefix: String,
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

impl Place {
    /// Whether a sink was named, where none has to be.
    pub(crate) fn is_given(&self) -> bool {
        !self.to.is_empty()
    }

    /// The job that these flags describe.
    pub(crate) fn job(self, backend: Backend, packing: Option<Packing>, keys: Option<Keys>) -> Result<Job> {
        let stores = self
            .to
            .iter()
            .map(|url| lifeboat::sinks::open(url).map(|sink| Store { name: sink.url(), sink }))
            .collect::<Result<Vec<_>>>()?;
        let dataset = self.dataset.map(Dataset::new).transpose()?;
        let (compression, encrypt) = match packing {
            Some(packing) => {
                let texts: Vec<Setting> =
                    packing.encrypt.into_iter().map(|text| Setting::argument(text, "--encrypt")).collect();
                let encrypt = if texts.is_empty() { None } else { Some(Choice::parse(&texts)?) };
                (packing.compress.parse()?, encrypt)
            }
            None => (lifeboat::Compression::default(), None),
        };
        let identities = keys.unwrap_or_default().identity;
        Ok(Job {
            name: dataset.as_ref().map_or_else(|| "the dataset".to_owned(), ToString::to_string),
            dataset,
            others: Vec::new(),
            backend,
            prefix: self.prefix.trim_matches('/').to_owned(),
            stores,
            compression,
            encrypt,
            identities: identities.into_iter().map(|text| Setting::argument(text, "--identity")).collect(),
            keep: None,
            limits: no_limits(),
            sink_grace: None,
        })
    }

    /// As [`job`](Self::job), with the dataset that the live system's address names when no other name was given.
    pub(crate) fn named(
        self,
        backend: Backend,
        packing: Option<Packing>,
        keys: Option<Keys>,
        dataset: impl FnOnce() -> Result<Option<Dataset>>,
    ) -> Result<Job> {
        let mut job = self.job(backend, packing, keys)?;
        if job.dataset.is_none()
            && let Some(dataset) = dataset()?
        {
            job.name = dataset.to_string();
            job.dataset = Some(dataset);
        }
        Ok(job)
    }
}

/// The arguments of `list`.
#[derive(Args, Debug)]
// One program flattens it into a command of the same name, whose group has that name.
#[group(skip)]
pub(crate) struct List {
    #[command(flatten)]
    place: Place,
}

impl List {
    /// Whether a sink was named, where none has to be.
    pub(crate) fn is_given(&self) -> bool {
        self.place.is_given()
    }

    pub(crate) async fn run(self, backend: Backend, session: &Session) -> Result<Exit> {
        Ok(commands::list::run(session, one(self.place.job(backend, None, None)?), true).await)
    }
}

/// The arguments of `show`.
#[derive(Args, Debug)]
#[group(skip)]
pub(crate) struct Show {
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    keys: Keys,
    /// Which backup: latest, a time or day (the newest that is not younger), or a key
    #[arg(long, value_name = "latest|TIME|KEY", default_value = "latest", hide_default_value = true)]
    at: String,
    /// Also list what is inside (tables with their rows); needs the key when it is encrypted
    #[arg(long)]
    items: bool,
}

impl Show {
    /// Whether a sink was named, where none has to be.
    pub(crate) fn is_given(&self) -> bool {
        self.place.is_given()
    }

    pub(crate) async fn run(self, backend: Backend, session: &Session) -> Result<Exit> {
        let job = self.place.job(backend, None, Some(self.keys))?;
        commands::show::run(session, &job, &self.at.parse()?, self.items).await
    }
}

/// The arguments of `prune`.
#[derive(Args, Debug)]
pub(crate) struct Prune {
    #[command(flatten)]
    place: Place,
    /// What to keep, as in 30d, 30d,at-least=3 or last=7,daily=7,weekly=4,monthly=12,yearly=3
    #[arg(long, value_name = "POLICY", required_unless_present = "orphans")]
    keep: Option<String>,
    #[command(flatten)]
    prune: PruneArgs,
}

impl Prune {
    pub(crate) async fn run(self, backend: Backend, session: &Session) -> Result<Exit> {
        let options = self.prune.options()?;
        let mut job = self.place.job(backend, None, None)?;
        job.keep = self.keep.map(|text| text.parse()).transpose()?;
        Ok(commands::prune::run(session, one(job), true, &options).await)
    }
}

/// The arguments of `replicate`.
#[derive(Args, Debug)]
#[group(skip)]
pub(crate) struct Replicate {
    #[command(flatten)]
    place: Place,
    /// Only show what would be done
    #[arg(long)]
    dry_run: bool,
}

impl Replicate {
    pub(crate) async fn run(self, backend: Backend, session: &Session) -> Result<Exit> {
        Ok(commands::replicate::one(session, self.place.job(backend, None, None)?, self.dry_run).await)
    }

    /// `replicate` of what another tool keeps at a URL, into a folder of the sink.
    pub(crate) async fn tree(self, from: String, into: &str, reread: bool, session: &Session) -> Result<Exit> {
        let Place { to, prefix, .. } = self.place;
        let [to] = <[String; 1]>::try_from(to).map_err(|_| {
            Error::new(ErrorKind::Config, "use", "--to", "a bucket is copied to one sink at a time")
                .hint("run it once for each")
        })?;
        let into = Some(join_key(&prefix, into.trim_matches('/')));
        let options = commands::replicate::Options {
            from: Some(from),
            to: Some(to),
            into,
            tree: true,
            verify: reread,
            dry_run: self.dry_run,
            ..commands::replicate::Options::default()
        };
        commands::replicate::run(session, options, None).await
    }
}

/// The only job of a run.
pub(crate) fn one(job: Job) -> Jobs {
    vec![(job.name.clone(), Ok(job))]
}
