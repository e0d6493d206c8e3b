//! The systems: what each makes of a job's settings. A new one is a variant here and a file beside this.

use std::path::PathBuf;

use lifeboat::{ArtifactName, Check, Level, Result, Source, Target, Verifier};

use crate::config::setting::Setting;

pub(crate) mod mongodb;
pub(crate) mod postgres;

/// The system that a job backs up, with its settings.
#[derive(Clone, Debug)]
pub(crate) enum Backend {
    Mongodb(mongodb::Settings),
    Postgres(postgres::Settings),
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
    pub(crate) mongodb: mongodb::Choices,
}

/// What a verification was asked to do, as far as a backend is concerned.
#[derive(Clone, Debug, Default)]
pub(crate) struct VerifyChoices {
    pub(crate) level: Level,
    pub(crate) scratch_folder: Option<PathBuf>,
    /// A server in which restore tests may make databases of their own.
    pub(crate) scratch: Option<Setting>,
    pub(crate) jobs: usize,
}

/// A target, and what to call it in messages.
pub(crate) struct NamedTarget {
    pub(crate) target: Box<dyn Target>,
    pub(crate) name: String,
}

impl Backend {
    /// What to back up.
    pub(crate) fn source(&self) -> Result<Box<dyn Source>> {
        match self {
            Self::Mongodb(settings) => settings.source(),
            Self::Postgres(settings) => settings.source(),
        }
    }

    /// Where to restore to.
    pub(crate) fn target(&self, into: &Setting, choices: RestoreChoices) -> Result<NamedTarget> {
        match self {
            Self::Mongodb(settings) => settings.target(into, choices),
            Self::Postgres(settings) => settings.target(into, choices),
        }
    }

    /// What judges artifacts. The live system is looked up only for the level that needs it.
    pub(crate) fn verifier(&self, choices: &VerifyChoices) -> Result<Box<dyn Verifier>> {
        match self {
            Self::Mongodb(settings) => settings.verifier(choices),
            Self::Postgres(settings) => settings.verifier(choices),
        }
    }

    /// Whether a backup can be made.
    pub(crate) async fn check(&self) -> Vec<Check> {
        match self {
            Self::Mongodb(settings) => settings.check().await,
            Self::Postgres(settings) => settings.check().await,
        }
    }

    /// The end of the shell line that restores an artifact with stock tools.
    pub(crate) fn stock_restore(&self, name: &ArtifactName) -> &'static str {
        match self {
            Self::Mongodb(_) => lifeboat::mongodb::stock_restore(name),
            Self::Postgres(_) => lifeboat::postgres::stock_restore(name),
        }
    }
}
