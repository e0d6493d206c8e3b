//! The [`System`] trait: one kind of thing that is backed up, with all that is known about it in one place.
//!
//! A system brings the settings of a job, of a restore and of a verification, each as **one** struct: it is the table of the
//! config file, the flags of the command line (with the feature `cli`, see [`cli`](crate::cli)) and the documentation of both.
//! From them it makes source, target and verifier. Whatever drives backups (the config file, the commands) knows systems by
//! this trait alone: [`AnySystem`] is its form for those that hold several kinds.

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::de::DeserializeOwned;

use crate::compress::Compression;
use crate::error::{Error, ErrorKind, Result};
use crate::manifest::Manifest;
use crate::name::{ArtifactName, Dataset};
use crate::pipeline::TreeLayout;
use crate::report::Check;
use crate::setting::Setting;
use crate::sink::Sink;
use crate::source::Source;
use crate::target::Target;
use crate::verifier::{Level, Verifier};

/// What a system gets besides its settings.
pub struct Opening<'a> {
    sinks: &'a dyn Sinks,
    flags: bool,
}

/// The sinks that can be named in the settings of a system.
pub trait Sinks: Send + Sync {
    /// The sink of this name, or at this URL. Nothing is contacted, and no variable is looked up, before it is
    /// [opened](Place::open).
    ///
    /// # Errors
    /// [`ErrorKind::Config`] when there is none.
    fn place(&self, named: &Setting) -> Result<Place>;
}

/// No sinks at all: for systems whose settings name none.
#[derive(Clone, Copy, Debug)]
pub struct NoSinks;

impl Sinks for NoSinks {
    fn place(&self, named: &Setting) -> Result<Place> {
        Err(named.wrong("there are no sinks"))
    }
}

impl<'a> Opening<'a> {
    /// Opens settings from a table: of a config file, or of a program.
    pub fn of_table(sinks: &'a dyn Sinks) -> Self {
        Self { sinks, flags: false }
    }

    /// Opens settings from flags.
    pub fn of_flags(sinks: &'a dyn Sinks) -> Self {
        Self { sinks, flags: true }
    }

    /// Whether the settings came from flags: then hints speak of flags.
    pub fn is_of_flags(&self) -> bool {
        self.flags
    }

    /// The sink that a setting names: [`Sinks::place`].
    ///
    /// # Errors
    /// [`ErrorKind::Config`] when there is none.
    pub fn place(&self, named: &Setting) -> Result<Place> {
        self.sinks.place(named)
    }
}

impl fmt::Debug for Opening<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opening").field("flags", &self.flags).finish_non_exhaustive()
    }
}

/// Opens a sink.
type Open = dyn Fn() -> Result<Arc<dyn Sink>> + Send + Sync;

/// A sink that is opened when it is needed.
#[derive(Clone)]
pub struct Place {
    name: String,
    open: Arc<Open>,
}

impl Place {
    /// A place with the name it has in the configuration (or its URL, as it is written), and what opens it.
    pub fn new(name: impl Into<String>, open: impl Fn() -> Result<Arc<dyn Sink>> + Send + Sync + 'static) -> Self {
        Self { name: name.into(), open: Arc::new(open) }
    }

    /// Its name in the configuration, or its URL as it is written.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Opens it. Nothing is contacted yet.
    ///
    /// # Errors
    /// [`ErrorKind::Config`]: a wrong URL, a variable that is not set.
    pub fn open(&self) -> Result<Arc<dyn Sink>> {
        (self.open)()
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Place").field(&self.name).finish()
    }
}

/// The defaults of a system, for what neither the job nor `[defaults]` sets.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct Defaults {
    /// How its backups are compressed.
    pub compression: Compression,
    /// How old its newest backup may be.
    pub max_age: Option<Duration>,
}

impl Defaults {
    /// Compressed like this, and of any age.
    pub fn compressed(compression: Compression) -> Self {
        Self { compression, max_age: None }
    }

    /// Limits the age of the newest backup.
    #[must_use]
    pub fn max_age(mut self, age: Duration) -> Self {
        self.max_age = Some(age);
        self
    }
}

/// A target and its name in messages.
#[non_exhaustive]
pub struct NamedTarget {
    /// The target.
    pub target: Box<dyn Target>,
    /// Its name, without a secret.
    pub name: String,
    /// Whether the restored data goes to standard output, so that nothing else may.
    pub to_stdout: bool,
    /// Whether existing data is replaced.
    pub replaces: bool,
    /// Whether the plan of a target that [plans](Target::plans) is carried out, and not only shown.
    pub apply: bool,
}

impl NamedTarget {
    /// A target that replaces nothing and is no standard output.
    pub fn new(target: impl Target + 'static, name: impl Into<String>) -> Self {
        Self { target: Box::new(target), name: name.into(), to_stdout: false, replaces: false, apply: false }
    }

    /// Sets whether it is standard output.
    #[must_use]
    pub fn to_stdout(mut self, to_stdout: bool) -> Self {
        self.to_stdout = to_stdout;
        self
    }

    /// Sets whether existing data is replaced.
    #[must_use]
    pub fn replaces(mut self, replaces: bool) -> Self {
        self.replaces = replaces;
        self
    }

    /// Sets whether its plan is carried out.
    #[must_use]
    pub fn apply(mut self, apply: bool) -> Self {
        self.apply = apply;
        self
    }
}

impl fmt::Debug for NamedTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NamedTarget").field("name", &self.name).finish_non_exhaustive()
    }
}

/// One kind of thing that is backed up, opened with the settings of one job.
///
/// # Contract
/// - [`open`](System::open) contacts nothing and looks up no variable or file: a config file is checked on machines that hold
///   none of its secrets. It finds every mistake that can be found without them.
/// - What is made from it ([`source`](System::source), [`target`](System::target), [`verifier`](System::verifier)) looks up
///   what it needs, and only that: a machine that verifies does not have the password of the live system.
/// - An error about a setting names its [place](Setting::place) as the subject.
///
/// `lifeboat_conformance::system` holds a system to it. `examples/custom_system.rs` and `examples/outside` are whole ones.
#[async_trait]
pub trait System: Clone + fmt::Debug + Send + Sync + Sized + 'static {
    /// Its key in `[jobs.NAME]`, the suffix of its binary, and the `system` of its manifests: a small letter, then small letters,
    /// digits and `-`.
    const NAME: &'static str;
    /// What people call it, with its capitals.
    const TITLE: &'static str;
    /// One sentence for the help of its binary, without a full stop.
    const ABOUT: &'static str;
    /// The key of the job's table that most jobs need, as an example: `NAME = { url = "${SHOP_URL}" }`.
    const EXAMPLE: &'static str;

    /// The settings of a job: the table in the config file, and the flags of `backup`. `deny_unknown_fields`.
    type Settings: DeserializeOwned + Send;
    /// The options of a restore.
    type Restore: DeserializeOwned + Default + Clone + Send + Sync + 'static;
    /// The options of a verification.
    type Verify: DeserializeOwned + Default + Clone + Send + Sync + 'static;

    /// Checks the settings.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for settings that cannot be combined.
    fn open(settings: Self::Settings, opening: &Opening<'_>) -> Result<Self>;

    /// Its defaults.
    fn defaults() -> Defaults {
        Defaults::default()
    }

    /// The [formats](ArtifactName::format) by which an artifact without a manifest is known as one of this system, where no
    /// config says it. A format that several systems have tells nothing.
    fn formats() -> &'static [&'static str] {
        &[]
    }

    /// The dataset that the settings name by themselves, for flags without `--dataset`: the database of a URL. `None` where
    /// they name none.
    ///
    /// # Errors
    /// A variable that is not set, a name that cannot name a dataset.
    fn dataset(&self) -> Result<Option<Dataset>>;

    /// The dataset that a job of a config file gets when it does not name one: with `None` the name of the job. Nothing is
    /// looked up for it.
    fn dataset_of_job(&self) -> Option<String> {
        None
    }

    /// Why its backups are never stored unencrypted, if they are not: it completes "X: …, and is never stored without
    /// encryption".
    fn confidential(&self) -> Option<&'static str> {
        None
    }

    /// The keys of its table whose [`Setting`]s hold no secret. All others are taken for secrets where they are written out: a
    /// config that is stored beside the backups has variables in their places. A URL is a secret when it holds a password.
    fn plain_settings() -> &'static [&'static str] {
        &[]
    }

    /// The programs that its settings name, as people write them: whoever gets a config from elsewhere looks at them before
    /// anything is run.
    fn programs(&self) -> Vec<String> {
        Vec::new()
    }

    /// What to back up.
    ///
    /// # Errors
    /// What is found to be wrong before the live system is contacted.
    async fn source(&self) -> Result<Box<dyn Source>>;

    /// Where to restore to. `dataset` is the one that is restored.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for an invalid place, and for options that cannot be combined.
    async fn target(&self, into: &Setting, choices: Self::Restore, dataset: &Dataset) -> Result<NamedTarget>;

    /// What judges its artifacts. The live system is looked up only for the level that needs it.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for options that cannot be combined.
    async fn verifier(&self, level: Level, choices: Self::Verify) -> Result<Box<dyn Verifier>>;

    /// Whether a backup can be made: server, rights, tools. At least one check; one that fails when a backup would.
    async fn check(&self) -> Vec<Check>;

    /// Whether only the live system knows its datasets, as with all zones of a token.
    fn has_many(&self) -> bool {
        false
    }

    /// The datasets of the live system, where it [has many](System::has_many).
    ///
    /// # Errors
    /// What kept the live system from saying.
    async fn datasets(&self) -> Result<Vec<Dataset>> {
        Ok(Vec::new())
    }

    /// The part of it that is one dataset of those that it [has](System::has_many).
    #[must_use]
    fn narrow(&self, dataset: &Dataset) -> Self {
        let _ = dataset;
        self.clone()
    }

    /// Whether an artifact in the folder of a job with many datasets is of this system, as far as its name tells.
    fn claims(&self, name: &ArtifactName) -> bool {
        let _ = name;
        true
    }

    /// A place in which another tool keeps its data, where Lifeboat must not write.
    fn foreign_place(&self) -> Option<&Place> {
        None
    }

    /// How the trees are laid out that the tools of this system write: in which order their objects have to be copied.
    fn layouts() -> Vec<TreeLayout> {
        Vec::new()
    }

    /// The end of the shell line that restores an artifact with stock tools: what its plaintext is piped into. One line.
    fn stock_restore(&self, name: &ArtifactName, manifest: Option<&Manifest>) -> String;

    /// What to know before that line is run, where its tool does more with a stranger's bytes than restore them.
    fn stock_caution(&self, _name: &ArtifactName, _manifest: Option<&Manifest>) -> Option<&'static str> {
        None
    }
}

/// What a restore or verification was asked to do, as the system's own type; `None` is its default.
pub type Choices = Option<Arc<dyn Any + Send + Sync>>;

/// A [`System`] whose kind is not known: what config files and commands hold. Every system is one.
#[async_trait]
pub trait AnySystem: fmt::Debug + Send + Sync + Any {
    /// [`System::NAME`].
    fn name(&self) -> &'static str;
    /// [`System::TITLE`].
    fn title(&self) -> &'static str;
    /// [`System::defaults`].
    fn defaults(&self) -> Defaults;
    /// [`System::dataset`].
    fn dataset(&self) -> Result<Option<Dataset>>;
    /// [`System::dataset_of_job`].
    fn dataset_of_job(&self) -> Option<String>;
    /// [`System::confidential`].
    fn confidential(&self) -> Option<&'static str>;
    /// [`System::programs`].
    fn programs(&self) -> Vec<String>;
    /// [`System::source`].
    async fn source(&self) -> Result<Box<dyn Source>>;
    /// [`System::target`].
    async fn target(&self, into: &Setting, choices: Choices, dataset: &Dataset) -> Result<NamedTarget>;
    /// [`System::verifier`].
    async fn verifier(&self, level: Level, choices: Choices) -> Result<Box<dyn Verifier>>;
    /// [`System::check`].
    async fn check(&self) -> Vec<Check>;
    /// [`System::has_many`].
    fn has_many(&self) -> bool;
    /// [`System::datasets`].
    async fn datasets(&self) -> Result<Vec<Dataset>>;
    /// [`System::narrow`].
    fn narrow(&self, dataset: &Dataset) -> Arc<dyn AnySystem>;
    /// [`System::claims`].
    fn claims(&self, name: &ArtifactName) -> bool;
    /// [`System::foreign_place`].
    fn foreign_place(&self) -> Option<&Place>;
    /// [`System::stock_restore`].
    fn stock_restore(&self, name: &ArtifactName, manifest: Option<&Manifest>) -> String;
    /// [`System::stock_caution`].
    fn stock_caution(&self, name: &ArtifactName, manifest: Option<&Manifest>) -> Option<&'static str>;
}

impl dyn AnySystem {
    /// The system itself, where it is of this kind.
    pub fn downcast<S: System>(&self) -> Option<&S> {
        (self as &dyn Any).downcast_ref()
    }
}

#[async_trait]
impl<S: System> AnySystem for S {
    fn name(&self) -> &'static str {
        S::NAME
    }

    fn title(&self) -> &'static str {
        S::TITLE
    }

    fn defaults(&self) -> Defaults {
        S::defaults()
    }

    fn dataset(&self) -> Result<Option<Dataset>> {
        System::dataset(self)
    }

    fn dataset_of_job(&self) -> Option<String> {
        System::dataset_of_job(self)
    }

    fn confidential(&self) -> Option<&'static str> {
        System::confidential(self)
    }

    fn programs(&self) -> Vec<String> {
        System::programs(self)
    }

    async fn source(&self) -> Result<Box<dyn Source>> {
        System::source(self).await
    }

    async fn target(&self, into: &Setting, choices: Choices, dataset: &Dataset) -> Result<NamedTarget> {
        System::target(self, into, chosen(choices, S::NAME)?, dataset).await
    }

    async fn verifier(&self, level: Level, choices: Choices) -> Result<Box<dyn Verifier>> {
        System::verifier(self, level, chosen(choices, S::NAME)?).await
    }

    async fn check(&self) -> Vec<Check> {
        System::check(self).await
    }

    fn has_many(&self) -> bool {
        System::has_many(self)
    }

    async fn datasets(&self) -> Result<Vec<Dataset>> {
        System::datasets(self).await
    }

    fn narrow(&self, dataset: &Dataset) -> Arc<dyn AnySystem> {
        Arc::new(System::narrow(self, dataset))
    }

    fn claims(&self, name: &ArtifactName) -> bool {
        System::claims(self, name)
    }

    fn foreign_place(&self) -> Option<&Place> {
        System::foreign_place(self)
    }

    fn stock_restore(&self, name: &ArtifactName, manifest: Option<&Manifest>) -> String {
        System::stock_restore(self, name, manifest)
    }

    fn stock_caution(&self, name: &ArtifactName, manifest: Option<&Manifest>) -> Option<&'static str> {
        System::stock_caution(self, name, manifest)
    }
}

fn chosen<T: Default + Clone + 'static>(choices: Choices, name: &str) -> Result<T> {
    match choices {
        None => Ok(T::default()),
        Some(choices) => choices.downcast_ref().cloned().ok_or_else(|| {
            Error::new(ErrorKind::Internal, "use", format!("the options for {name}"), "they belong to another system")
        }),
    }
}
