//! Jobs: what to work on, from a config file or from flags.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use lifeboat_core::catalog::{self, MaxShrink};
use lifeboat_core::history::Verb;
use lifeboat_core::retention::Policy;
use lifeboat_core::{
    AgeLimit, AnySystem, ArtifactName, Backup, Compression, Context, Dataset, Encryptor, Error, ErrorKind, Hooks,
    Level, Limiter, Result, Setting, Sink, Status,
};

use crate::encryption::{Encryption, demanded, keys, undecided};
use crate::hooks::HookSettings;
use crate::{guards, marker};

/// One dataset, and how and where it is stored.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Job {
    /// The name of the job.
    pub name: String,
    /// The dataset. Without one, the job covers every dataset in its folder that [belongs to it](Job::claims).
    pub dataset: Option<Dataset>,
    /// Datasets that other jobs of the config keep in the same folder.
    pub others: Vec<Dataset>,
    /// What to back up.
    pub system: Arc<dyn AnySystem>,
    /// The folder in each sink.
    pub prefix: String,
    /// Where it is stored.
    pub stores: Vec<Store>,
    /// How it is compressed.
    pub compression: Compression,
    /// How it is encrypted. `None` when nothing was chosen.
    pub encrypt: Option<Encryption>,
    /// The keys to decrypt with.
    pub identities: Vec<Setting>,
    /// The retention policy where a sink has [none of its own](Store::keep). `None` keeps everything.
    pub keep: Option<Policy>,
    /// What a verification requires.
    pub limits: Limits,
    /// How long a sink other than the first may hold up a backup.
    pub sink_grace: Option<Duration>,
    /// How long a backup may make no progress.
    pub stall_limit: Option<Duration>,
    /// Whether an empty dataset is acceptable.
    pub allow_empty: bool,
    /// By how much the dataset may shrink from one backup to the next.
    pub max_shrink: MaxShrink,
    /// What its runs may take, together with those of other jobs that have the same limits.
    pub limiter: Limiter,
    /// Commands that run before and after.
    pub hooks: Option<HookSettings>,
}

/// A sink with its name in the config, or its URL.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Store {
    /// The name.
    pub name: String,
    /// The sink.
    pub sink: Arc<dyn Sink>,
    /// What is kept in it, in place of what the job keeps.
    pub keep: Option<Policy>,
}

impl Store {
    /// Creates a store from a sink. A sink that may be the [wrong place](marker) is not written to.
    pub fn new(name: impl Into<String>, sink: Arc<dyn Sink>) -> Self {
        Self { name: name.into(), sink: marker::guarded(sink), keep: None }
    }

    /// Sets what is kept in it, in place of what the job keeps.
    #[must_use]
    pub fn keep(mut self, keep: Option<Policy>) -> Self {
        self.keep = keep;
        self
    }

    /// The sink at a URL, with credentials from the environment.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for a wrong URL.
    pub fn at(url: &str) -> Result<Self> {
        lifeboat_sinks::open(url).map(|sink| Self::new(sink.url(), sink))
    }
}

/// The defaults of a verification.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Limits {
    /// The level of the verification.
    pub level: Level,
    /// How old the newest backup may be.
    pub max_age: Option<Duration>,
    /// The status of a check of an older one.
    pub age_status: Status,
}

impl Limits {
    /// The age limit, if there is one.
    pub fn age_limit(self) -> Option<AgeLimit> {
        self.max_age.map(|max_age| AgeLimit::new(max_age).status(self.age_status))
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self { level: Level::default(), max_age: None, age_status: Status::Fail }
    }
}

impl Job {
    /// Creates a job with this system and these sinks, and the system's defaults for everything else.
    pub fn new(
        name: impl Into<String>,
        dataset: Option<Dataset>,
        system: Arc<dyn AnySystem>,
        stores: Vec<Store>,
    ) -> Self {
        let defaults = system.defaults();
        Self {
            name: name.into(),
            dataset,
            others: Vec::new(),
            system,
            prefix: String::new(),
            stores,
            compression: defaults.compression,
            encrypt: None,
            identities: Vec::new(),
            keep: None,
            limits: Limits { max_age: defaults.max_age, ..Limits::default() },
            sink_grace: None,
            stall_limit: None,
            allow_empty: false,
            max_shrink: MaxShrink::default(),
            limiter: Limiter::new(),
            hooks: None,
        }
    }

    /// The dataset.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] when none was given.
    pub fn dataset(&self) -> Result<&Dataset> {
        self.dataset.as_ref().ok_or_else(|| {
            Error::new(ErrorKind::Config, "choose", "the dataset", "none was given")
                .hint("name it with --dataset NAME; `list` shows the datasets")
        })
    }

    /// Whether the job covers datasets whose names only the live system or the sink knows.
    pub fn has_many(&self) -> bool {
        self.dataset.is_none() && self.system.has_many()
    }

    /// Whether an artifact in the job's folder belongs to the job.
    pub fn claims(&self, name: &ArtifactName) -> bool {
        match &self.dataset {
            Some(dataset) => name.dataset == *dataset,
            None => !self.others.contains(&name.dataset) && self.system.claims(name),
        }
    }

    /// This job for one of its datasets.
    #[must_use]
    pub fn narrow(&self, dataset: Dataset) -> Self {
        let many = self.has_many();
        Self {
            name: if many { format!("{}/{dataset}", self.name) } else { self.name.clone() },
            system: if many { self.system.narrow(&dataset) } else { self.system.clone() },
            dataset: Some(dataset),
            others: Vec::new(),
            ..self.clone()
        }
    }

    /// The datasets whose artifacts the job's first sink holds, in the order of their names.
    ///
    /// # Errors
    /// An error of listing the sink.
    pub async fn stored_datasets(&self) -> Result<Vec<Dataset>> {
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

    /// What is kept in one of its sinks. `None` keeps all.
    pub fn keep_in(&self, store: &Store) -> Option<Policy> {
        store.keep.or(self.keep)
    }

    /// A context with the job's limits where it sets none: for restores, verifications and copies of the job's backups.
    pub fn context(&self, context: &Context) -> Context {
        context.clone().limiter(context.limiter.clone().or(&self.limiter))
    }

    /// What runs before and after such a run of this job.
    pub fn hooks(&self, verb: Verb) -> Hooks {
        self.hooks.as_ref().map_or_else(Hooks::new, |hooks| hooks.hooks(&self.name, verb))
    }

    /// The first sink, from which backups are read.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] when it has none.
    pub fn store(&self) -> Result<&Store> {
        self.stores.first().ok_or_else(|| {
            Error::new(ErrorKind::Config, "use", format!("job {}", self.name), "it has no sink")
                .hint("name one with --sink, or with sinks = […] in the config")
        })
    }

    /// The keys to decrypt with.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for a missing or invalid identity.
    pub fn keys(&self) -> Result<Vec<Arc<dyn Encryptor>>> {
        keys(&self.identities, self.encrypt.as_ref())
    }

    /// The encryptor; `None` when no encryption was chosen explicitly.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] when nothing was chosen, when secrets would stay unencrypted, or for an invalid key.
    pub fn encryptor(&self) -> Result<Option<Arc<dyn Encryptor>>> {
        match (&self.encrypt, self.system.confidential()) {
            (None | Some(Encryption::None), Some(why)) => Err(demanded(&self.name, why)),
            (None, None) => Err(undecided(&self.name)),
            (Some(choice), _) => choice.encryptor(),
        }
    }

    /// Refuses to work where none of the sinks is [known](marker). A single one fails when it is written to.
    async fn refuse_unknown(&self) -> Result<()> {
        let mut first = None;
        for store in &self.stores {
            match marker::refuse_unknown(&*store.sink).await {
                Err(error) if error.kind() == ErrorKind::Refused => drop(first.get_or_insert(error)),
                // What is wrong with it otherwise is said when it is written to.
                _ => return Ok(()),
            }
        }
        first.map_or(Ok(()), Err)
    }

    /// Creates the backup of the job's dataset, ready to [run](Backup::run).
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for missing or invalid settings, and for a sink in which [another tool](guards) keeps its data;
    /// [`ErrorKind::Refused`] when no sink is known to be the [right place](marker).
    pub async fn backup(&self) -> Result<Backup> {
        // Before the live system is asked: it is forgotten most often.
        let encryptor = self.encryptor()?;
        self.store()?;
        for store in &self.stores {
            guards::refuse_job(self, store).await?;
        }
        let source = self.system.source().await?;
        self.refuse_unknown().await?;
        let mut backup = Backup::new(source).prefix(&self.prefix).compress(self.compression);
        if let Some(dataset) = &self.dataset {
            backup = backup.dataset(dataset.clone());
        }
        backup = match encryptor {
            Some(encryptor) => backup.encrypt(encryptor),
            None => backup.unencrypted(),
        };
        if let Some(grace) = self.sink_grace {
            backup = backup.sink_grace(grace);
        }
        if let Some(limit) = self.stall_limit {
            backup = backup.stall_limit(limit);
        }
        backup = backup.allow_empty(self.allow_empty).max_shrink(self.max_shrink);
        backup = backup.context(self.context(&Context::default())).hooks(self.hooks(Verb::Backup));
        for store in &self.stores {
            backup = backup.also_to(store.sink.clone());
        }
        Ok(backup)
    }
}
