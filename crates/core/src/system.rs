//! The [`System`] trait: one kind of system that can be backed up, with everything about it in one place.
//!
//! A system defines the settings of a job, of a restore and of a verification, each as **one** struct, which is the
//! table of the config file, the flags of the command line (with the feature `cli`, see [`cli`](crate::cli)) and the
//! documentation of both. From these settings it creates sources, targets and verifiers. The code that drives backups
//! (the config file, the commands) knows systems only through this trait, or through its object-safe form,
//! [`AnySystem`].

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::de::DeserializeOwned;

use crate::compress::Compression;
use crate::described::Field;
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
use crate::words::Noun;

/// What a system is opened with besides its settings.
pub struct Opening<'a> {
    sinks: &'a dyn Sinks,
    flags: bool,
}

/// The sinks that the settings of a system can name.
pub trait Sinks: Send + Sync {
    /// Returns the sink with this name or URL. Nothing is contacted, and no variable is looked up, before it is
    /// [opened](Place::open).
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if there is none.
    fn place(&self, named: &Setting) -> Result<Place>;
}

/// No sinks: for systems whose settings name none.
#[derive(Clone, Copy, Debug)]
pub struct NoSinks;

impl Sinks for NoSinks {
    fn place(&self, named: &Setting) -> Result<Place> {
        Err(named.wrong("there are no sinks"))
    }
}

impl<'a> Opening<'a> {
    /// For settings from a table in a config file or a program.
    pub fn of_table(sinks: &'a dyn Sinks) -> Self {
        Self { sinks, flags: false }
    }

    /// For settings from flags.
    pub fn of_flags(sinks: &'a dyn Sinks) -> Self {
        Self { sinks, flags: true }
    }

    /// Whether the settings came from flags, so that hints should mention flags.
    pub fn is_of_flags(&self) -> bool {
        self.flags
    }

    /// Returns the sink that a setting names: [`Sinks::place`].
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if there is none.
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
    /// Creates a place from its name in the configuration (or its URL as written) and a function that opens it.
    pub fn new(name: impl Into<String>, open: impl Fn() -> Result<Arc<dyn Sink>> + Send + Sync + 'static) -> Self {
        Self { name: name.into(), open: Arc::new(open) }
    }

    /// The name in the configuration, or the URL as written.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Opens the sink. Nothing is contacted yet.
    ///
    /// # Errors
    /// [`ErrorKind::Config`]: an invalid URL, a variable that is not set.
    pub fn open(&self) -> Result<Arc<dyn Sink>> {
        (self.open)()
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Place").field(&self.name).finish()
    }
}

/// The defaults of a system, for options that neither the job nor `[defaults]` sets.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct Defaults {
    /// The compression of backups.
    pub compression: Compression,
    /// The maximum age of the newest backup.
    pub max_age: Option<Duration>,
}

impl Defaults {
    /// Creates defaults with this compression and no maximum age.
    pub fn compressed(compression: Compression) -> Self {
        Self { compression, max_age: None }
    }

    /// Sets the maximum age of the newest backup.
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
    /// The name, without secrets.
    pub name: String,
    /// Whether the restored data goes to standard output, so that nothing else may.
    pub to_stdout: bool,
    /// Whether existing data is replaced.
    pub replaces: bool,
    /// For a target that [plans](Target::plans): whether the plan is carried out, not only shown.
    pub apply: bool,
}

impl NamedTarget {
    /// Creates a target that replaces nothing and is not standard output.
    pub fn new(target: impl Target + 'static, name: impl Into<String>) -> Self {
        Self { target: Box::new(target), name: name.into(), to_stdout: false, replaces: false, apply: false }
    }

    /// Sets whether the restored data goes to standard output.
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

    /// Sets whether the plan is carried out.
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

/// One kind of system that can be backed up, opened with the settings of one job.
///
/// # Contract
/// - [`open`](System::open) contacts nothing and looks up no variables or files, because config files are also checked
///   on machines without their secrets. It reports every mistake that can be found without them.
/// - [`source`](System::source), [`target`](System::target) and [`verifier`](System::verifier) look up what they need,
///   and only that: a machine that verifies does not have the password of the live system.
/// - An error about a setting names its [place](Setting::place) as the subject.
///
/// `lifeboat_conformance::system` checks this contract. `examples/custom_system.rs` and `examples/outside` are complete
/// systems.
#[async_trait]
pub trait System: Clone + fmt::Debug + Send + Sync + Sized + 'static {
    /// The key in `[jobs.NAME]`, the suffix of the binary, and the `system` of manifests: a lower-case letter, followed
    /// by lower-case letters, digits and `-`.
    const NAME: &'static str;
    /// The name for display, with its capitals.
    const TITLE: &'static str;
    /// A sentence for the help of the binary, without a full stop.
    const ABOUT: &'static str;
    /// The key of the job's table that most jobs need, as an example: `NAME = { url = "${SHOP_URL}" }`.
    const EXAMPLE: &'static str;

    /// The settings of a job: the table in the config file, and the flags of `backup`. Use `deny_unknown_fields`.
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

    /// The system's defaults.
    fn defaults() -> Defaults {
        Defaults::default()
    }

    /// The [formats](ArtifactName::format) by which an artifact without a manifest is known as one of this system, where no
    /// config says it. A format that several systems have tells nothing.
    fn formats() -> &'static [&'static str] {
        &[]
    }

    /// The dataset that follows from the settings, for flags without `--dataset`: the database of a URL. `None` if they
    /// name none.
    ///
    /// # Errors
    /// A variable that is not set, a name that is not valid for a dataset.
    fn dataset(&self) -> Result<Option<Dataset>>;

    /// The dataset of a job in a config file that does not name one; `None` for the name of the job. Nothing is looked
    /// up.
    fn dataset_of_job(&self) -> Option<String> {
        None
    }

    /// The keys of its table with their descriptions, and those of the tables in it: for the manual page of the config file. Each
    /// table has its path in that of the job: `""` its own, `test`, `schedules.NAME`. [`described!`](crate::described) makes
    /// them of the struct's comments; what is missing here is described as the flag of its name is.
    fn tables() -> Vec<(&'static str, &'static [Field])> {
        Vec::new()
    }

    /// What the items of this kind hold, as messages count it: documents, records. `None` where an item is one thing, as an index
    /// is. Of the kind `""`: what the system counts most.
    fn unit(kind: &str) -> Option<Noun> {
        let _ = kind;
        Some(Noun::ROWS)
    }

    /// Why backups are never stored unencrypted, if that is so: completes "X: …, and is never stored without
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

    /// Creates the source.
    ///
    /// # Errors
    /// Mistakes found before the live system is contacted.
    async fn source(&self) -> Result<Box<dyn Source>>;

    /// Creates the target of a restore. `dataset` is the one to restore.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for an invalid place, and for options that cannot be combined.
    async fn target(&self, into: &Setting, choices: Self::Restore, dataset: &Dataset) -> Result<NamedTarget>;

    /// Creates the verifier. The settings of the live system are looked up only for the level that needs it.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for options that cannot be combined.
    async fn verifier(&self, level: Level, choices: Self::Verify) -> Result<Box<dyn Verifier>>;

    /// Checks whether a backup can be made: server, rights, tools. Returns at least one check, and a failed one if a
    /// backup would fail.
    async fn check(&self) -> Vec<Check>;

    /// Whether only the live system knows the datasets, as with all zones of a token.
    fn has_many(&self) -> bool {
        false
    }

    /// Lists the datasets of the live system, if it [has many](System::has_many).
    ///
    /// # Errors
    /// Any error of the live system.
    async fn datasets(&self) -> Result<Vec<Dataset>> {
        Ok(Vec::new())
    }

    /// Returns the system reduced to one of its [many](System::has_many) datasets.
    #[must_use]
    fn narrow(&self, dataset: &Dataset) -> Self {
        let _ = dataset;
        self.clone()
    }

    /// Whether an artifact in the folder of a job with many datasets is of this system, judging by its name.
    fn claims(&self, name: &ArtifactName) -> bool {
        let _ = name;
        true
    }

    /// The place where another tool keeps its data and Lifeboat must not write, if there is one.
    fn foreign_place(&self) -> Option<&Place> {
        None
    }

    /// The layouts of the trees that this system's tools write, which determine the order to copy their objects in.
    fn layouts() -> Vec<TreeLayout> {
        Vec::new()
    }

    /// The end of the shell line that restores an artifact with stock tools: the command that its plaintext is piped
    /// into. One line.
    fn stock_restore(&self, name: &ArtifactName, manifest: Option<&Manifest>) -> String;

    /// A caution about that line, if its tool does more with untrusted bytes than restore them.
    fn stock_caution(&self, _name: &ArtifactName, _manifest: Option<&Manifest>) -> Option<&'static str> {
        None
    }
}

/// The options of a restore or verification, as the system's own type; `None` for its default.
pub type Choices = Option<Arc<dyn Any + Send + Sync>>;

/// The object-safe form of [`System`], for config files and commands. Every system implements it.
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
    /// [`System::unit`].
    fn unit(&self, kind: &str) -> Option<Noun>;
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
    /// Returns the system itself if it is an `S`.
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

    fn unit(&self, kind: &str) -> Option<Noun> {
        S::unit(kind)
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
