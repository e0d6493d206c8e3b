//! Jobs: what is worked on, whether a config file or flags said it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use lifeboat_core::catalog::{self, MaxShrink};
use lifeboat_core::retention::Policy;
use lifeboat_core::{
    AgeLimit, AnySystem, ArtifactName, Backup, Compression, Dataset, Encryptor, Error, ErrorKind, Level, Result,
    Setting, Sink, Status,
};

use crate::encryption::{Encryption, demanded, keys, undecided};
use crate::guards;

/// One dataset with all that is known about how it is kept.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Job {
    /// Its name.
    pub name: String,
    /// Without one, the job is of every dataset in its folder that [is its own](Job::claims).
    pub dataset: Option<Dataset>,
    /// Datasets that other jobs of the config keep in the same folder.
    pub others: Vec<Dataset>,
    /// What is backed up.
    pub system: Arc<dyn AnySystem>,
    /// The folder in each sink.
    pub prefix: String,
    /// Where it is stored.
    pub stores: Vec<Store>,
    /// How it is compressed.
    pub compression: Compression,
    /// How it is encrypted. `None` when nobody said.
    pub encrypt: Option<Encryption>,
    /// The keys to decrypt with.
    pub identities: Vec<Setting>,
    /// What is kept. `None` keeps all.
    pub keep: Option<Policy>,
    /// What a verification asks for.
    pub limits: Limits,
    /// How long a sink other than the first may hold up a backup.
    pub sink_grace: Option<Duration>,
    /// How long nothing may move in a backup.
    pub stall_limit: Option<Duration>,
    /// Whether a dataset in which there is nothing is as it should be.
    pub allow_empty: bool,
    /// By how much the dataset may shrink from one backup to the next.
    pub max_shrink: MaxShrink,
}

/// A sink with the name that it has in the config, or its URL.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Store {
    /// The name.
    pub name: String,
    /// The sink.
    pub sink: Arc<dyn Sink>,
}

impl Store {
    /// A sink with a name.
    pub fn new(name: impl Into<String>, sink: Arc<dyn Sink>) -> Self {
        Self { name: name.into(), sink }
    }

    /// The sink at a URL, with credentials from the environment.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for a wrong URL.
    pub fn at(url: &str) -> Result<Self> {
        lifeboat_sinks::open(url).map(|sink| Self { name: sink.url(), sink })
    }
}

/// What a verification asks for where nothing else is said.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Limits {
    /// How much is proven.
    pub level: Level,
    /// How old the newest backup may be.
    pub max_age: Option<Duration>,
    /// What one that is older is.
    pub age_status: Status,
}

impl Limits {
    /// The age limit, if there is one.
    pub fn age_limit(self) -> Option<AgeLimit> {
        self.max_age.map(|max_age| AgeLimit { max_age, status: self.age_status })
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self { level: Level::default(), max_age: None, age_status: Status::Fail }
    }
}

impl Job {
    /// A job with this system and these sinks, with all else as the system suggests.
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
        }
    }

    /// The dataset.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] when none was given.
    pub fn dataset(&self) -> Result<&Dataset> {
        self.dataset.as_ref().ok_or_else(|| {
            Error::new(ErrorKind::Config, "choose", "the dataset", "none was given")
                .hint("name it with --dataset NAME; `list` shows which there are")
        })
    }

    /// Whether the job is of datasets whose names it does not know by itself.
    pub fn has_many(&self) -> bool {
        self.dataset.is_none() && self.system.has_many()
    }

    /// Whether an artifact in the job's folder is the job's.
    pub fn claims(&self, name: &ArtifactName) -> bool {
        match &self.dataset {
            Some(dataset) => name.dataset == *dataset,
            None => !self.others.contains(&name.dataset) && self.system.claims(name),
        }
    }

    /// The part of this job that is of one dataset.
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

    /// The datasets of which the job's first sink holds artifacts, in the order of their names.
    ///
    /// # Errors
    /// What kept the sink from being listed.
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

    /// The first sink: where a backup is looked for.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] when it has none.
    pub fn store(&self) -> Result<&Store> {
        self.stores.first().ok_or_else(|| {
            Error::new(ErrorKind::Config, "use", format!("job {}", self.name), "it has no sink")
                .hint("name one with --to, or sinks = […] in the config")
        })
    }

    /// The keys to decrypt with.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for an identity that is missing or no identity.
    pub fn keys(&self) -> Result<Vec<Arc<dyn Encryptor>>> {
        keys(&self.identities, self.encrypt.as_ref())
    }

    /// The encryptor; `None` when not to encrypt was chosen.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] when nothing was chosen, or not to encrypt what has to be, or a key that is none.
    pub fn encryptor(&self) -> Result<Option<Arc<dyn Encryptor>>> {
        match (&self.encrypt, self.system.confidential()) {
            (None | Some(Encryption::None), Some(why)) => Err(demanded(&self.name, why)),
            (None, None) => Err(undecided(&self.name)),
            (Some(choice), _) => choice.encryptor(),
        }
    }

    /// The backup of its dataset, ready to [run](Backup::run).
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for what is missing or not right, and for a sink in which [another tool](guards) keeps its data.
    pub async fn backup(&self) -> Result<Backup> {
        // Before the live system is asked: it is forgotten most often.
        let encryptor = self.encryptor()?;
        self.store()?;
        for store in &self.stores {
            guards::refuse_job(self, store).await?;
        }
        let mut backup = Backup::new(self.system.source().await?).prefix(&self.prefix).compress(self.compression);
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
        for store in &self.stores {
            backup = backup.also_to(store.sink.clone());
        }
        Ok(backup)
    }
}
