//! The systems: what each makes of a job's settings. A new one is a variant here and a file beside this.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use lifeboat::{
    ArtifactName, Check, Compression, Dataset, Error, ErrorKind, Level, Manifest, Result, Sink, Source, Target,
    Verifier,
};

use crate::config::setting::Setting;

pub(crate) mod cloudflare;
pub(crate) mod doppler;
pub(crate) mod mongodb;
pub(crate) mod postgres;
pub(crate) mod velero;

/// The system that a job backs up, with its settings.
#[derive(Clone, Debug)]
pub(crate) enum Backend {
    CloudflareDns(cloudflare::Settings),
    Doppler(doppler::Settings),
    Mongodb(mongodb::Settings),
    Postgres(postgres::Settings),
    Velero(Box<velero::Settings>),
}

/// What a restore was asked to do. A backend refuses what it has no meaning for.
#[derive(Debug, Default)]
pub(crate) struct RestoreChoices {
    pub(crate) replace: bool,
    pub(crate) keep_replaced: bool,
    pub(crate) jobs: usize,
    pub(crate) tables: Vec<String>,
    pub(crate) schemas: Vec<String>,
    pub(crate) keep_owners: bool,
    pub(crate) skip_proof: bool,
    pub(crate) spool_folder: Option<PathBuf>,
    /// Also delete what the live system has and the backup has not.
    pub(crate) delete_extra: bool,
    /// Also the settings beside the data.
    pub(crate) settings: bool,
    /// How secrets are restored.
    pub(crate) secrets: SecretsChoices,
    pub(crate) mongodb: mongodb::Choices,
    pub(crate) velero: velero::Choices,
}

/// What a choice of a restore is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Topic {
    Databases,
    Postgres,
    Mongodb,
    Velero,
    /// What is changed piece by piece, after a plan.
    Plans,
    Zones,
    Secrets,
    /// A token that may write.
    Tokens,
}

impl RestoreChoices {
    /// Refuses what was chosen and has no meaning for the thing that is restored.
    ///
    /// # Errors
    /// [`ErrorKind::Config`], naming the first such option.
    pub(crate) fn refuse_all_but(&self, meant: &[Topic], thing: &str, hint: &str) -> Result<()> {
        let given = [
            (Topic::Databases, "--keep-replaced", self.keep_replaced),
            (Topic::Databases, "--jobs", self.jobs != 0),
            (Topic::Databases, "--skip-proof", self.skip_proof),
            (Topic::Postgres, "--table", !self.tables.is_empty()),
            (Topic::Postgres, "--schema", !self.schemas.is_empty()),
            (Topic::Postgres, "--keep-owners", self.keep_owners),
            (Topic::Postgres, "--spool-folder", self.spool_folder.is_some()),
            (Topic::Mongodb, "--collection", !self.mongodb.collections.is_empty()),
            (Topic::Mongodb, "--ns-from", !self.mongodb.ns_from.is_empty()),
            (Topic::Mongodb, "--ns-to", !self.mongodb.ns_to.is_empty()),
            (Topic::Mongodb, "--no-indexes", self.mongodb.no_indexes),
            (Topic::Velero, "--namespace", !self.velero.namespaces.is_empty()),
            (Topic::Velero, "--exclude-namespace", !self.velero.exclude_namespaces.is_empty()),
            (Topic::Velero, "--map", !self.velero.maps.is_empty()),
            (Topic::Velero, "--resource", !self.velero.resources.is_empty()),
            (Topic::Velero, "--exclude-resource", !self.velero.exclude_resources.is_empty()),
            (Topic::Velero, "--label", !self.velero.labels.is_empty()),
            (Topic::Velero, "--cluster-resources", self.velero.cluster_resources.is_some()),
            (Topic::Velero, "--existing", self.velero.update_existing),
            (Topic::Velero, "--restore-volumes", self.velero.restore_volumes.is_some()),
            (Topic::Velero, "--limit", self.velero.limit.is_some()),
            (Topic::Plans, "--delete-extra", self.delete_extra),
            (Topic::Zones, "--settings", self.settings),
            (Topic::Secrets, "--format", self.secrets.format.is_some()),
            (Topic::Secrets, "--secret-name", self.secrets.name.is_some()),
            (Topic::Secrets, "--secret-namespace", self.secrets.namespace.is_some()),
            (Topic::Tokens, "--token", self.secrets.token.is_some()),
        ];
        match given.into_iter().find(|(topic, _, given)| *given && !meant.contains(topic)) {
            Some((_, flag, _)) => {
                let message = format!("it has no meaning for {thing}");
                Err(Error::new(ErrorKind::Config, "use", flag, message).hint(hint))
            }
            None => Ok(()),
        }
    }
}

/// How secrets are restored: in which form to a file, or with which token to their service.
#[derive(Debug, Default)]
pub(crate) struct SecretsChoices {
    pub(crate) format: Option<String>,
    /// What a Kubernetes Secret is called.
    pub(crate) name: Option<String>,
    pub(crate) namespace: Option<String>,
    /// A token that may write, where the job's own may only read.
    pub(crate) token: Option<Setting>,
    pub(crate) dataset: Option<String>,
}

/// What a verification was asked to do, as far as a backend is concerned.
#[derive(Clone, Debug, Default)]
pub(crate) struct VerifyChoices {
    pub(crate) level: Level,
    pub(crate) scratch_folder: Option<PathBuf>,
    /// A server in which restore tests may make databases of their own.
    pub(crate) scratch: Option<Setting>,
    pub(crate) jobs: usize,
    /// By how many the live system's count may differ before it is a warning.
    pub(crate) max_drift: Option<u64>,
}

/// A target, and what to call it in messages.
pub(crate) struct NamedTarget {
    pub(crate) target: Box<dyn Target>,
    pub(crate) name: String,
    /// Whether what is restored goes to standard output, so that nothing else may.
    pub(crate) to_stdout: bool,
}

/// What a kind of system suggests where neither job nor defaults say.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Suggested {
    pub(crate) compression: Compression,
    pub(crate) max_age: Option<Duration>,
}

impl Backend {
    /// What to back up.
    pub(crate) async fn source(&self) -> Result<Box<dyn Source>> {
        match self {
            Self::CloudflareDns(settings) => settings.source(),
            Self::Doppler(settings) => settings.source(),
            Self::Mongodb(settings) => settings.source(),
            Self::Postgres(settings) => settings.source(),
            Self::Velero(settings) => settings.source().await,
        }
    }

    /// Why a backup is never stored without encryption, if it is not.
    pub(crate) fn confidential(&self) -> Option<&'static str> {
        match self {
            Self::Doppler(_) => Some("it is nothing but secrets"),
            Self::Mongodb(settings) => settings.confidential(),
            Self::CloudflareDns(_) | Self::Postgres(_) | Self::Velero(_) => None,
        }
    }

    /// What this kind of system suggests where nobody says.
    pub(crate) fn suggested(&self) -> Suggested {
        match self {
            Self::CloudflareDns(_) => cloudflare::Settings::suggested(),
            Self::Doppler(settings) => settings.suggested(),
            Self::Velero(_) => velero::Settings::suggested(),
            Self::Mongodb(_) | Self::Postgres(_) => Suggested::default(),
        }
    }

    /// Whether which datasets there are is known to the live system alone, as with all zones of a token.
    pub(crate) fn has_many(&self) -> bool {
        match self {
            Self::CloudflareDns(settings) => settings.has_many(),
            Self::Doppler(settings) => settings.has_many(),
            Self::Mongodb(_) | Self::Postgres(_) | Self::Velero(_) => false,
        }
    }

    /// The datasets of the live system, where it [has many](Self::has_many).
    ///
    /// # Errors
    /// What kept the live system from saying.
    pub(crate) async fn datasets(&self) -> Result<Vec<Dataset>> {
        match self {
            Self::CloudflareDns(settings) => settings.datasets().await,
            Self::Doppler(settings) => settings.datasets().await,
            Self::Mongodb(_) | Self::Postgres(_) | Self::Velero(_) => Ok(Vec::new()),
        }
    }

    /// The backend of one dataset of those that this one [has](Self::has_many).
    pub(crate) fn narrow(&self, dataset: &Dataset) -> Self {
        match self {
            Self::CloudflareDns(settings) => Self::CloudflareDns(settings.narrow(dataset)),
            Self::Doppler(settings) => Self::Doppler(settings.narrow(dataset)),
            Self::Mongodb(_) | Self::Postgres(_) | Self::Velero(_) => self.clone(),
        }
    }

    /// Whether an artifact in the folder of a job with many datasets is of this system, as far as its name tells.
    pub(crate) fn claims(&self, name: &ArtifactName) -> bool {
        match self {
            Self::CloudflareDns(_) => cloudflare::Settings::claims(name),
            Self::Doppler(settings) => settings.claims(name),
            Self::Mongodb(_) | Self::Postgres(_) | Self::Velero(_) => true,
        }
    }

    /// Where to restore to.
    pub(crate) async fn target(&self, into: &Setting, choices: RestoreChoices) -> Result<NamedTarget> {
        match self {
            Self::CloudflareDns(settings) => settings.target(into, choices),
            Self::Doppler(settings) => settings.target(into, choices),
            Self::Mongodb(settings) => settings.target(into, choices),
            Self::Postgres(settings) => settings.target(into, choices),
            Self::Velero(settings) => settings.target(into, choices).await,
        }
    }

    /// What judges artifacts. The live system is looked up only for the level that needs it.
    pub(crate) async fn verifier(&self, choices: &VerifyChoices) -> Result<Box<dyn Verifier>> {
        match self {
            Self::CloudflareDns(settings) => settings.verifier(choices),
            Self::Doppler(settings) => settings.verifier(choices),
            Self::Mongodb(settings) => settings.verifier(choices),
            Self::Postgres(settings) => settings.verifier(choices),
            Self::Velero(settings) => settings.verifier(choices).await,
        }
    }

    /// Whether a backup can be made.
    pub(crate) async fn check(&self) -> Vec<Check> {
        match self {
            Self::CloudflareDns(settings) => settings.check().await,
            Self::Doppler(settings) => settings.check().await,
            Self::Mongodb(settings) => settings.check().await,
            Self::Postgres(settings) => settings.check().await,
            Self::Velero(settings) => settings.check().await,
        }
    }

    /// A place in which another tool keeps what is backed up, so that nothing of ours may lie there.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] when it cannot be opened.
    pub(crate) fn foreign_place(&self) -> Result<Option<Arc<dyn Sink>>> {
        match self {
            Self::Velero(settings) if settings.location.is_some() => settings.location().map(Some),
            _ => Ok(None),
        }
    }

    /// The end of the shell line that restores an artifact with stock tools.
    pub(crate) fn stock_restore(&self, name: &ArtifactName, manifest: Option<&Manifest>) -> &'static str {
        match self {
            Self::CloudflareDns(_) => lifeboat::cloudflare::stock_restore(name),
            Self::Doppler(_) => lifeboat::doppler::stock_restore(name),
            Self::Mongodb(_) => lifeboat::mongodb::stock_restore(name, manifest.map(|m| &m.source.facts)),
            Self::Postgres(_) => lifeboat::postgres::stock_restore(name),
            Self::Velero(_) => lifeboat::velero::stock_restore(name),
        }
    }
}
