//! Finds, reads and checks the file.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use lifeboat_core::catalog::MaxShrink;
use lifeboat_core::history::Verb;
use lifeboat_core::limiter::Rate;
use lifeboat_core::pipeline::TreeLayout;
use lifeboat_core::retention::Policy;
use lifeboat_core::words::suggest;
use lifeboat_core::{
    AnySystem, Compression, Dataset, Error, ErrorKind, Limiter, Opening, Result, Setting, Status, schedule, setting,
};
use secrecy::SecretString;
use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeTable, DeValue, ValueDeserializer};

use crate::copies::CopyConfig;
use crate::encryption::Encryption;
use crate::hooks::HookSettings;
use crate::jobs::{Job, Limits, Store};
use crate::mistake::{self, Mistake};
use crate::node::{Node, Source};
use crate::sinks::{Named as NamedSinks, SinkConfig};
use crate::systems::{Entry, Systems, Unopened};
use crate::table;
use crate::unknown::{self, Fault};

/// The default name of the file.
pub const NAME: &str = "lifeboat.toml";

/// A config file that was read and checked.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// The file.
    pub path: PathBuf,
    /// By their names.
    pub sinks: BTreeMap<String, SinkConfig>,
    /// In the order of the file.
    pub jobs: Vec<JobConfig>,
    /// In the order of the file.
    pub copies: Vec<CopyConfig>,
    /// The layouts of the copied trees.
    pub layouts: Vec<TreeLayout>,
    /// The limits of `[defaults]`: all jobs that set none of their own share them, and so do the copies.
    pub limiter: Limiter,
    /// The file itself, in which secrets may be written out.
    pub(crate) text: SecretString,
}

/// The table `[jobs.NAME]`, completed from `[defaults]`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct JobConfig {
    /// Its name.
    pub name: String,
    /// The dataset; `None` if the job has many datasets, which the live system names.
    pub dataset: Option<Dataset>,
    /// What to back up.
    pub system: Arc<dyn AnySystem>,
    /// The folder in the sinks.
    pub prefix: Option<Setting>,
    /// The names of its sinks.
    pub sinks: Vec<String>,
    /// How it is compressed.
    pub compress: Compression,
    /// How it is encrypted. `None` when nothing was chosen.
    pub encrypt: Option<Encryption>,
    /// The keys to decrypt with.
    pub identities: Vec<Setting>,
    /// The retention policy where a sink has none of its own. `None` keeps everything.
    pub keep: Option<Policy>,
    /// What is kept in single sinks of it, whatever those say.
    pub keep_in: BTreeMap<String, Policy>,
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
    /// What its runs may take.
    pub limiter: Limiter,
    /// What runs before and after.
    pub hooks: Option<HookSettings>,
    /// When to back up, as five cron fields.
    pub schedule: Option<String>,
    /// When to verify.
    pub verify_schedule: Option<String>,
}

impl JobConfig {
    /// The folder in the sinks, as written.
    pub fn folder(&self) -> &str {
        self.prefix.as_ref().map_or("", |p| p.raw().trim_matches('/'))
    }

    /// The programs that it names, those of its hooks among them, as people write them.
    pub fn programs(&self) -> Vec<String> {
        let of_hooks = self.hooks.as_ref().map(HookSettings::programs).unwrap_or_default();
        self.system.programs().into_iter().chain(of_hooks).collect()
    }
}

impl Config {
    /// Finds and reads the file: the named one, or `lifeboat.toml` in the working folder, in `$XDG_CONFIG_HOME/lifeboat` or in
    /// `/etc/lifeboat`.
    ///
    /// # Errors
    /// [`ErrorKind::Config`], with every mistake in the file.
    pub fn load(named: Option<&Path>, systems: &Systems) -> Result<Self> {
        let path = match named {
            Some(path) => path.to_owned(),
            None => find()?,
        };
        let text = setting::read(&path).map_err(|e| {
            let why = match e.kind() {
                std::io::ErrorKind::NotFound => "there is no such file".to_owned(),
                _ => e.to_string(),
            };
            Error::new(ErrorKind::Config, "read", path.display().to_string(), why)
                .hint("`lifeboat init` writes a starting config file; --config names an existing one")
        })?;
        Self::parse(&text, &path, systems)
    }

    /// Parses the text of a file. `path` names it in errors; relative paths in it start from its folder.
    ///
    /// # Errors
    /// [`ErrorKind::Config`], with every mistake in it.
    pub fn parse(text: &str, path: &Path, systems: &Systems) -> Result<Self> {
        Reader::new(&Source::new(path, text), systems).read()
    }

    /// A sink by its name in the file, or by its URL.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for one that does not exist or cannot be opened.
    pub fn sink(&self, named: &str) -> Result<Store> {
        if named.contains("://") {
            return Ok(Store::new(named, lifeboat_sinks::open(named)?));
        }
        match self.sinks.get(named) {
            Some(sink) => Ok(Store::new(named, sink.open()?)),
            None => Err(self.no_sink(format!("sink {named}"), named)),
        }
    }

    fn no_sink(&self, subject: String, name: &str) -> Error {
        let known: Vec<&str> = self.sinks.keys().map(String::as_str).collect();
        let why = format!("{} has no such sink", self.path.display());
        Error::new(ErrorKind::Config, "use", subject, why).hint(suggest(name, &known))
    }

    /// The job of this name, opened.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] when there is none, or its sinks cannot be opened.
    pub fn job(&self, name: &str) -> Result<Job> {
        let (_, job) = self.select(&[name.to_owned()], None)?.remove(0);
        job
    }

    /// The jobs with these names, or all of them, each opened or with its error: one that cannot run does not stop the others.
    /// With `sink`, each has only that sink.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for a name that is neither a job's nor a sink's.
    pub fn select(&self, names: &[String], sink: Option<&str>) -> Result<Vec<(String, Result<Job>)>> {
        let path = self.path.display();
        if let Some(sink) = sink
            && !self.sinks.contains_key(sink)
        {
            return Err(self.no_sink(format!("--sink {sink}"), sink));
        }
        if self.jobs.is_empty() {
            return Err(Error::new(ErrorKind::Config, "find", "a job", format!("{path} has none"))
                .hint("write a table [jobs.NAME], as in the example that `lifeboat init` writes"));
        }
        let mut selected: Vec<(&JobConfig, Option<Dataset>)> = Vec::new();
        if names.is_empty() {
            selected.extend(self.jobs.iter().map(|job| (job, None)));
        }
        for name in names {
            let (job, dataset) = self.find(name)?;
            // Named twice, it is done once.
            if !selected.iter().any(|(known, of)| known.name == job.name && *of == dataset) {
                selected.push((job, dataset));
            }
        }
        let open = |(job, dataset): (&JobConfig, Option<Dataset>)| {
            let name = dataset.as_ref().map_or_else(|| job.name.clone(), |dataset| format!("{}/{dataset}", job.name));
            let opened = self.open(job, sink);
            (name, opened.map(|opened| dataset.map_or(opened.clone(), |dataset| opened.narrow(dataset))))
        };
        Ok(selected.into_iter().map(open).collect())
    }

    /// The job of this name, or the only one that backs up the dataset of this name. `JOB/DATASET` is one dataset of a job that
    /// has many.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] where there is none, and for a dataset of several jobs.
    pub fn find(&self, name: &str) -> Result<(&JobConfig, Option<Dataset>)> {
        if let Some(job) = self.jobs.iter().find(|job| job.name == name) {
            return Ok((job, None));
        }
        let mut many = self.jobs.iter().filter(|job| job.dataset.is_none() && job.system.has_many());
        let of_many = name.split_once('/').and_then(|(of, dataset)| Some((many.find(|job| job.name == of)?, dataset)));
        if let Some((job, dataset)) = of_many {
            return Ok((job, Some(Dataset::new(dataset)?)));
        }
        let of_dataset = self.jobs.iter().filter(|job| job.dataset.as_ref().is_some_and(|own| own.as_str() == name));
        match of_dataset.collect::<Vec<_>>()[..] {
            [job] => Ok((job, None)),
            [] => {
                let known: Vec<&str> = self.jobs.iter().map(|job| job.name.as_str()).collect();
                let why = format!("{} has no such job", self.path.display());
                Err(Error::new(ErrorKind::Config, "find", format!("job \"{name}\""), why).hint(suggest(name, &known)))
            }
            ref several => {
                let names: Vec<&str> = several.iter().map(|job| job.name.as_str()).collect();
                let why = "several jobs back up that dataset";
                Err(Error::new(ErrorKind::Config, "find", format!("job \"{name}\""), why)
                    .hint(format!("name one of the jobs {}", names.join(", "))))
            }
        }
    }

    fn open(&self, job: &JobConfig, sink: Option<&str>) -> Result<Job> {
        let names: Vec<&String> = job.sinks.iter().filter(|name| sink.is_none_or(|s| s == *name)).collect();
        if let (Some(sink), true) = (sink, names.is_empty()) {
            let why = format!("job {} does not store there", job.name);
            return Err(Error::new(ErrorKind::Config, "use", format!("--sink {sink}"), why)
                .hint(format!("its sinks are {}", job.sinks.join(", "))));
        }
        let open = |name: &String| {
            let of_sink = || self.sinks.get(name).and_then(|sink| sink.keep);
            self.sink(name).map(|store| store.keep(job.keep_in.get(name).copied().or_else(of_sink)))
        };
        let stores = names.into_iter().map(open).collect::<Result<Vec<_>>>()?;
        let others = match job.dataset {
            Some(_) => Vec::new(),
            None => {
                let beside = self.jobs.iter().filter(|other| other.folder() == job.folder());
                beside.filter_map(|other| other.dataset.clone()).collect()
            }
        };
        let prefix = job.prefix.as_ref().map(Setting::text).transpose()?.unwrap_or_default();
        Ok(Job {
            others,
            prefix: prefix.trim_matches('/').to_owned(),
            compression: job.compress,
            encrypt: job.encrypt.clone(),
            identities: job.identities.clone(),
            keep: job.keep,
            limits: job.limits,
            sink_grace: job.sink_grace,
            stall_limit: job.stall_limit,
            allow_empty: job.allow_empty,
            max_shrink: job.max_shrink,
            limiter: job.limiter.clone(),
            hooks: job.hooks.clone(),
            ..Job::new(&job.name, job.dataset.clone(), job.system.clone(), stores)
        })
    }
}

/// Where the file is looked for: here, in the user's folder, in the system's.
fn find() -> Result<PathBuf> {
    let user = std::env::var_os("XDG_CONFIG_HOME")
        .filter(|v| !v.is_empty())
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".config")));
    let mut places = vec![PathBuf::from(NAME)];
    places.extend(user.map(|folder| folder.join("lifeboat").join(NAME)));
    places.push(Path::new("/etc/lifeboat").join(NAME));
    places.iter().find(|p| p.is_file()).cloned().ok_or_else(|| {
        let listed: Vec<String> = places.iter().map(|p| p.display().to_string()).collect();
        Error::new(
            ErrorKind::Config,
            "find",
            "a config file",
            format!("none of these files exists: {}", listed.join(", ")),
        )
        .hint("`lifeboat init` writes a starting one; --config or LIFEBOAT_CONFIG names one elsewhere")
    })
}

pub(crate) struct Reader<'s> {
    source: &'s Source<'s>,
    systems: &'s Systems,
    pub(crate) mistakes: Vec<Mistake>,
    pub(crate) named: NamedSinks,
}

impl<'s> Reader<'s> {
    pub(crate) fn new(source: &'s Source<'s>, systems: &'s Systems) -> Self {
        Self { source, systems, mistakes: Vec::new(), named: NamedSinks::default() }
    }
}

/// Tables by their names, with the place of the name.
type Tables<T> = Vec<(String, Range<usize>, T)>;

/// The two tables of a job: its own and its system's.
struct JobTables<'a> {
    /// `None` if it has mistakes, which are reported.
    own: Option<table::Job>,
    systems: Vec<(Entry, Range<usize>, Spanned<DeValue<'a>>)>,
}

impl Reader<'_> {
    pub(crate) fn read(mut self) -> Result<Config> {
        let text = self.source.text;
        let root = match DeTable::parse(text) {
            Ok(root) => root.into_inner(),
            Err(error) => {
                let mistake = Mistake::of_toml(&error, "", &(0..0), &[]);
                return Err(mistake::error(self.source.path, self.source.text, vec![mistake]));
            }
        };
        let (mut sinks, mut defaults, mut jobs) = (Vec::new(), table::Defaults::default(), Vec::new());
        let mut copies = Vec::new();
        for (key, value) in root {
            match &**key.get_ref() {
                "sinks" => {
                    let named = value.get_ref().as_table().into_iter().flat_map(|t| t.keys());
                    self.named.sinks = named.map(|name| (name.get_ref().to_string(), None)).collect();
                    sinks = self.tables("sinks", value);
                }
                "jobs" => jobs = self.job_tables(value),
                "copies" => copies = self.tables("copies", value),
                "defaults" => {
                    let read = self.table("[defaults]", value, &[]);
                    self.named.partial |= read.is_none();
                    defaults = read.unwrap_or_default();
                }
                other => {
                    let unknown = Mistake::new(key.span().start, format!("unknown key \"{other}\""))
                        .hint(suggest(other, &["sinks", "defaults", "jobs", "copies"]));
                    self.mistakes.push(unknown);
                    self.named.partial = true;
                }
            }
        }
        let sinks: BTreeMap<String, SinkConfig> = sinks
            .into_iter()
            .map(|(name, _, sink)| {
                let config = self.sink(&name, sink);
                self.named.sinks.insert(name.clone(), Some(config.clone()));
                (name, config)
            })
            .collect();
        let defaults = self.defaults(defaults);
        let jobs: Vec<(Range<usize>, JobConfig)> = jobs
            .into_iter()
            .filter_map(|(name, span, job)| Some((span.clone(), self.job(&name, &span, job, &defaults)?)))
            .collect();
        self.check_collisions(&jobs);
        let jobs: Vec<JobConfig> = jobs.into_iter().map(|(_, job)| job).collect();
        let copies = copies.into_iter().filter_map(|(name, span, copy)| self.copy(&name, &span, copy, &jobs)).collect();
        if !self.mistakes.is_empty() {
            return Err(mistake::error(self.source.path, self.source.text, self.mistakes));
        }
        let (path, layouts) = (self.source.path.to_owned(), self.systems.layouts());
        let (text, limiter) = (self.source.text.into(), defaults.limiter);
        Ok(Config { path, sinks, jobs, copies, layouts, limiter, text })
    }

    /// The tables in `[sinks]` or `[copies]`, each read by itself, in the order of the file.
    fn tables<T: for<'de> Deserialize<'de>>(&mut self, kind: &str, value: Spanned<DeValue<'_>>) -> Tables<T> {
        self.each(kind, value, |reader, table, value| reader.table(table, value, &[]))
    }

    fn each<'a, T>(
        &mut self,
        kind: &str,
        value: Spanned<DeValue<'a>>,
        read: impl Fn(&mut Self, &str, Spanned<DeValue<'a>>) -> Option<T>,
    ) -> Tables<T> {
        let span = value.span();
        let DeValue::Table(table) = value.into_inner() else {
            self.mistakes.push(Mistake::new(span.start, format!("{kind} is not a table; write [{kind}.NAME]")));
            return Vec::new();
        };
        let mut named: Tables<T> = Vec::new();
        for (key, value) in table {
            let name = key.get_ref().to_string();
            if let Some(read) = read(self, &format!("[{kind}.{name}]"), value) {
                named.push((name, key.span(), read));
            }
        }
        named.sort_by_key(|(_, span, _)| span.start);
        named
    }

    /// The tables in `[jobs]`. What their systems hold is read later.
    fn job_tables<'a>(&mut self, value: Spanned<DeValue<'a>>) -> Tables<JobTables<'a>> {
        self.each("jobs", value, |reader, table, value| {
            let span = value.span();
            let mut systems = Vec::new();
            let own = match value.into_inner() {
                DeValue::Table(entries) => {
                    let (known, own): (Vec<_>, Vec<_>) =
                        entries.into_iter().partition(|(key, _)| reader.systems.find(key.get_ref()).is_some());
                    for (key, value) in known {
                        let entry = reader.systems.find(key.get_ref()).expect("it was found above");
                        systems.push((entry, key.span(), value));
                    }
                    DeValue::Table(own.into_iter().collect())
                }
                other => other,
            };
            let names: Vec<&str> = reader.systems.names().collect();
            let own = reader.table(table, Spanned::new(span, own), &names);
            Some(JobTables { own, systems })
        })
    }

    fn table<T: for<'de> Deserialize<'de>>(
        &mut self,
        name: &str,
        value: Spanned<DeValue<'_>>,
        more: &[&str],
    ) -> Option<T> {
        let span = value.span();
        let fault = |error: &toml::de::Error| {
            Some(Fault { message: error.message().to_owned(), at: error.span().map(|span| span.start) })
        };
        match unknown::read(value, |value| T::deserialize(ValueDeserializer::from(value)), fault) {
            Ok(table) => Some(table),
            Err(errors) => {
                self.mistakes.extend(errors.iter().map(|error| Mistake::of_toml(error, name, &span, more)));
                None
            }
        }
    }

    fn setting(&self, raw: impl Into<String>, at: usize, key: &str, table: &str) -> Setting {
        self.source.setting(raw, at, key, table)
    }

    pub(crate) fn spanned(&self, value: Spanned<String>, key: &str, table: &str) -> Setting {
        let at = value.span().start;
        self.setting(value.into_inner(), at, key, table)
    }

    fn sink(&self, name: &str, sink: table::Sink) -> SinkConfig {
        let table = format!("[sinks.{name}]");
        let read = |value: Option<Spanned<String>>, key: &str| value.map(|v| self.spanned(v, key, &table));
        SinkConfig {
            url: self.spanned(sink.url, "url", &table),
            endpoint: read(sink.endpoint, "endpoint"),
            region: read(sink.region, "region"),
            access_key: read(sink.access_key, "access_key"),
            secret_key: read(sink.secret_key, "secret_key"),
            session_token: read(sink.session_token, "session_token"),
            lock: sink.lock.map(|lock| lock.0),
            keep: sink.keep,
        }
    }

    fn defaults(&mut self, defaults: table::Defaults) -> Defaults {
        let table = "[defaults]";
        Defaults {
            encrypt: defaults.encrypt.and_then(|e| self.encrypt(e, table)),
            identities: defaults.identity.map(|i| self.identities(i, table)),
            prefix: defaults.prefix.map(|p| self.spanned(p, "prefix", table)),
            sinks: defaults.sinks,
            compress: defaults.compress.map(|p| p.0),
            keep: defaults.keep,
            verify: defaults.verify.unwrap_or_default(),
            sink_grace: defaults.sink_grace,
            stall_limit: defaults.stall_limit,
            hooks: defaults.hooks.and_then(|hooks| self.hooks(hooks, table)),
            allow_empty: defaults.allow_empty,
            max_shrink: defaults.max_shrink,
            limiter: limiter(
                (defaults.upload_limit, defaults.download_limit, defaults.source_limit),
                defaults.thread_limit,
                defaults.memory_limit,
            ),
        }
    }

    fn hooks(&mut self, hooks: Spanned<table::Hooks>, table: &str) -> Option<HookSettings> {
        let at = hooks.span().start;
        let hooks = hooks.into_inner();
        let words = |texts: Option<table::Texts>| texts.map_or_else(Vec::new, |texts| texts.0);
        let own = HookSettings::default();
        let settings = HookSettings {
            before: words(hooks.before),
            after: words(hooks.after),
            timeout: hooks.timeout.map_or(own.timeout, |length| length.0),
            shell: hooks.shell,
            on: hooks.on.map_or(own.on, |on| on.into_iter().map(Verb::from).collect()),
            pass_env: hooks.pass_env,
        };
        let both = [("before", &settings.before), ("after", &settings.after)];
        let wrong = both.into_iter().find_map(|(key, words)| match words.split_first() {
            Some((first, _)) if first.trim().is_empty() => {
                Some((key, "it names no program", "write [\"PROGRAM\", \"ARGUMENT\"]"))
            }
            Some((_, rest)) if settings.shell && !rest.is_empty() => {
                Some((key, "with shell = true it is one line", "write it as one text"))
            }
            Some((line, _)) if !settings.shell && words.len() == 1 && line.contains(' ') => Some((
                key,
                "it is one word with spaces in it, and no shell splits it",
                "write [\"PROGRAM\", \"ARGUMENT\"], or add shell = true",
            )),
            _ => None,
        });
        let wrong = wrong.or_else(|| {
            let empty = settings.before.is_empty() && settings.after.is_empty();
            empty.then_some((
                "before",
                "neither it nor after is set",
                "write before = [\"PROGRAM\"], or leave hooks out",
            ))
        });
        let Some((key, why, hint)) = wrong else { return Some(settings) };
        self.mistakes.push(Mistake::new(at, format!("{key} in hooks of {table}: {why}")).hint(hint));
        None
    }

    fn identities(&self, texts: Spanned<table::Texts>, table: &str) -> Vec<Setting> {
        let at = texts.span().start;
        texts.into_inner().0.into_iter().map(|text| self.setting(text, at, "identity", table)).collect()
    }

    fn encrypt(&mut self, encrypt: Spanned<table::Encrypt>, table: &str) -> Option<Encryption> {
        let at = encrypt.span().start;
        let one = |text: String| self.setting(text, at, "encrypt", table);
        let wrong = |why: &str| Err(one(String::new()).wrong(why));
        let choice = match encrypt.into_inner() {
            table::Encrypt::Texts(texts) => Encryption::parse(&texts.0.into_iter().map(one).collect::<Vec<_>>()),
            table::Encrypt::Table(table::EncryptTable { age: Some(age), openssl: None }) => {
                match (age.passphrase, age.recipients.is_empty() && age.recipients_file.is_none()) {
                    (Some(passphrase), true) => Ok(Encryption::AgePassphrase(one(passphrase))),
                    (Some(_), false) => wrong("an age passphrase stands alone, without recipients"),
                    (None, true) => wrong("no age recipient is named"),
                    (None, false) => Ok(Encryption::Age {
                        recipients: age.recipients.into_iter().map(one).collect(),
                        files: age.recipients_file.into_iter().map(one).collect(),
                    }),
                }
            }
            table::Encrypt::Table(table::EncryptTable { age: None, openssl: Some(openssl) }) => {
                Ok(Encryption::OpenSsl(one(openssl.passphrase)))
            }
            table::Encrypt::Table(_) => wrong("exactly one of age and openssl must be given"),
        };
        // A recipient that is written out can be checked now.
        let checked = choice.and_then(|choice| choice.check_literals().map(|()| choice));
        checked.map_err(|error| self.mistakes.push(of_error(&error, at, "encrypt", table))).ok()
    }

    fn job(
        &mut self,
        name: &str,
        span: &Range<usize>,
        tables: JobTables<'_>,
        defaults: &Defaults,
    ) -> Option<JobConfig> {
        let JobTables { own, systems } = tables;
        let table = format!("[jobs.{name}]");
        let Some(job) = own else {
            // Only for its mistakes. What is missing may be what is misspelt.
            if !systems.is_empty() {
                self.system(systems, span, &table);
            }
            return None;
        };
        for (key, schedule) in [("schedule", &job.schedule), ("verify_schedule", &job.verify_schedule)] {
            let Some(schedule) = schedule else { continue };
            if let Err(why) = schedule::check(schedule.get_ref()) {
                self.mistakes.push(Mistake::new(schedule.span().start, format!("{key} of {table}: {why}")));
            }
        }
        let encrypt = match job.encrypt {
            Some(encrypt) => self.encrypt(encrypt, &table),
            None => defaults.encrypt.clone(),
        };
        let verify = job.verify.unwrap_or_default();
        let hooks = match job.hooks {
            Some(hooks) => self.hooks(hooks, &table),
            None => defaults.hooks.clone(),
        };
        let sinks = self.sinks_of(&table, span, job.sinks.as_ref().or(defaults.sinks.as_ref()));
        let system = self.system(systems, span, &table);
        let named_at = job.dataset.as_ref().map(|d| d.span().start);
        let own_name = || system.as_ref().and_then(|(system, _)| system.dataset_of_job());
        let dataset = job.dataset.map(Spanned::into_inner).or_else(own_name).unwrap_or_else(|| name.to_owned());
        let dataset = Dataset::new(dataset)
            .map_err(|error| self.mistakes.push(of_error(&error, named_at.unwrap_or(span.start), "dataset", &table)))
            .ok();
        let (system, system_at) = system?;
        if let (true, Some(at)) = (system.has_many(), named_at) {
            let message = format!("dataset of {table}: the job has many datasets, and the live system names them");
            self.mistakes.push(Mistake::new(at, message).hint("leave it out"));
        }
        if let (Some(why), Some(Encryption::None)) = (system.confidential(), &encrypt) {
            let message = format!("encrypt of {table}: {why} and is never stored unencrypted");
            let hint = "choose an encryptor, as in encrypt = \"age:age1…\" (`lifeboat init` makes a key)";
            self.mistakes.push(Mistake::new(span.start, message).hint(hint));
        }
        if let Some(place) = system.foreign_place()
            && sinks.as_ref().is_some_and(|sinks| sinks.iter().any(|sink| sink == place.name()))
        {
            let (name, tool) = (place.name(), system.title());
            let message = format!("{table} stores in \"{name}\", which is {tool}'s storage location");
            self.mistakes.push(Mistake::new(system_at, message).hint(
                "any other folder there makes the location Unavailable: write sinks = [\"NAME\"] with a sink that fails independently",
            ));
        }
        let suggested = system.defaults();
        let sinks = sinks?;
        let keep_in = self.keep_in(job.keep_in, &sinks, &table);
        Some(JobConfig {
            name: name.to_owned(),
            dataset: if system.has_many() { None } else { Some(dataset?) },
            system,
            prefix: job.prefix.map(|p| self.spanned(p, "prefix", &table)).or_else(|| defaults.prefix.clone()),
            sinks,
            compress: job.compress.map(|p| p.0).or(defaults.compress).unwrap_or(suggested.compression),
            encrypt,
            identities: match job.identity {
                Some(identity) => self.identities(identity, &table),
                None => defaults.identities.clone().unwrap_or_default(),
            },
            keep: job.keep.or(defaults.keep),
            keep_in,
            limits: Limits {
                level: verify.level.or(defaults.verify.level).unwrap_or_default(),
                max_age: verify.max_age.or(defaults.verify.max_age).or(suggested.max_age),
                age_status: verify.age_status.or(defaults.verify.age_status).unwrap_or(Status::Fail),
            },
            sink_grace: job.sink_grace.or(defaults.sink_grace),
            stall_limit: job.stall_limit.or(defaults.stall_limit),
            allow_empty: job.allow_empty.or(defaults.allow_empty).unwrap_or(false),
            max_shrink: job.max_shrink.or(defaults.max_shrink).unwrap_or_default(),
            hooks,
            limiter: limiter(
                (job.upload_limit, job.download_limit, job.source_limit),
                job.thread_limit,
                job.memory_limit,
            )
            .or(&defaults.limiter),
            schedule: job.schedule.map(Spanned::into_inner),
            verify_schedule: job.verify_schedule.map(Spanned::into_inner),
        })
    }

    /// What a job keeps in single sinks, each of which must be its own.
    fn keep_in(
        &mut self,
        keep_in: Option<Spanned<BTreeMap<String, Policy>>>,
        sinks: &[String],
        table: &str,
    ) -> BTreeMap<String, Policy> {
        let Some(keep_in) = keep_in else { return BTreeMap::new() };
        let at = keep_in.span().start;
        let known: Vec<&str> = sinks.iter().map(String::as_str).collect();
        for unknown in keep_in.get_ref().keys().filter(|name| !sinks.contains(name)) {
            let message = format!("keep_in of {table}: the job does not store in \"{unknown}\"");
            self.mistakes.push(Mistake::new(at, message).hint(suggest(unknown, &known)));
        }
        keep_in.into_inner()
    }

    /// The one system that a job names, and where.
    fn system(
        &mut self,
        mut systems: Vec<(Entry, Range<usize>, Spanned<DeValue<'_>>)>,
        span: &Range<usize>,
        table: &str,
    ) -> Option<(Arc<dyn AnySystem>, usize)> {
        if systems.len() > 1 {
            let named: BTreeSet<&str> = systems.iter().map(|(entry, ..)| entry.name).collect();
            let named: Vec<&str> = named.into_iter().collect();
            let message = format!("{table} names several systems: {}", named.join(" and "));
            self.mistakes.push(Mistake::new(span.start, message).hint("make one job for each"));
            return None;
        }
        let Some((entry, key, value)) = systems.pop() else {
            let mistake = Mistake::new(span.start, format!("{table} does not say what to back up"));
            let mistake = match self.systems.example() {
                Some(example) => mistake.hint(format!("write for example: {example}")),
                None => mistake,
            };
            self.mistakes.push(mistake);
            return None;
        };
        let at = value.span();
        let open = |value| {
            let node = Node::new(value, entry.name, table, self.source);
            (entry.open)(node, &Opening::of_table(&self.named))
        };
        let fault = |error: &Unopened| match error {
            Unopened::Shape(error) => Some(Fault { message: error.message.clone(), at: error.at }),
            Unopened::Settings(_) => None,
        };
        let errors = match unknown::read(value, open, fault) {
            Ok(system) => return Some((system, key.start)),
            Err(errors) => errors,
        };
        let mistakes: Vec<Mistake> = errors
            .iter()
            .map(|error| match error {
                Unopened::Shape(error) => Mistake::of_node(error, table, &at),
                // The setting that is wrong, where the error is about one.
                Unopened::Settings(error) => match self.source.find(error.subject()) {
                    Some(at) => {
                        let place = error.subject().rsplit_once(" (").map_or(error.subject(), |(place, _)| place);
                        let mistake = Mistake::new(at, format!("{place}: {}", error.message()));
                        crate::hint::advice(error).into_iter().fold(mistake, Mistake::hint)
                    }
                    None => of_error(error, at.start, entry.name, table),
                },
            })
            .collect();
        self.mistakes.extend(mistakes);
        None
    }

    /// The names of a job's sinks; without any, the only sink there is.
    fn sinks_of(
        &mut self,
        table: &str,
        span: &Range<usize>,
        named: Option<&Vec<Spanned<String>>>,
    ) -> Option<Vec<String>> {
        let known: Vec<String> = self.named.sinks.keys().cloned().collect();
        let known: Vec<&str> = known.iter().map(String::as_str).collect();
        let Some(named) = named.filter(|n| !n.is_empty()) else {
            if let [only] = known[..] {
                return Some(vec![only.to_owned()]);
            }
            let hint = match known.first() {
                Some(first) => {
                    format!(
                        "add sinks = [\"{first}\"] there or in [defaults]; the known sinks are {}",
                        known.join(", ")
                    )
                }
                None => "write a table [sinks.NAME] with a url, and sinks = [\"NAME\"] in [defaults]".to_owned(),
            };
            if !self.named.partial {
                self.mistakes.push(Mistake::new(span.start, format!("{table} names no sink")).hint(hint));
            }
            return None;
        };
        for sink in named {
            let at = sink.span().start;
            // Named in [defaults], it is wrong once and not for every job.
            let is_told = self.named.partial || self.mistakes.iter().any(|m| m.at == at);
            if !known.contains(&sink.get_ref().as_str()) && !is_told {
                let message = format!("there is no sink \"{}\"", sink.get_ref());
                self.mistakes.push(Mistake::new(at, message).hint(suggest(sink.get_ref(), &known)));
            }
        }
        Some(named.iter().map(|n| n.get_ref().clone()).collect())
    }

    /// Two jobs that write the same names into the same folder could not be told apart.
    fn check_collisions(&mut self, jobs: &[(Range<usize>, JobConfig)]) {
        for (index, (span, job)) in jobs.iter().enumerate() {
            let same = jobs[..index].iter().find(|(_, other)| {
                other.dataset == job.dataset
                    && other.folder() == job.folder()
                    && other.sinks.iter().any(|s| job.sinks.contains(s))
            });
            if let Some((_, other)) = same {
                let (message, hint) = match job.dataset {
                    Some(_) => (
                        format!("[jobs.{}] has the same dataset and folder as [jobs.{}]", job.name, other.name),
                        "give one of them another dataset or prefix",
                    ),
                    None => (
                        format!(
                            "[jobs.{}] and [jobs.{}] both have many datasets and share a folder",
                            job.name, other.name
                        ),
                        "give one of them another prefix",
                    ),
                };
                self.mistakes.push(Mistake::new(span.start, message).hint(hint));
            }
        }
    }
}

struct Defaults {
    sinks: Option<Vec<Spanned<String>>>,
    prefix: Option<Setting>,
    compress: Option<Compression>,
    encrypt: Option<Encryption>,
    identities: Option<Vec<Setting>>,
    keep: Option<Policy>,
    verify: table::Verify,
    sink_grace: Option<Duration>,
    stall_limit: Option<Duration>,
    allow_empty: Option<bool>,
    max_shrink: Option<MaxShrink>,
    limiter: Limiter,
    hooks: Option<HookSettings>,
}

impl From<table::HookedVerb> for Verb {
    fn from(verb: table::HookedVerb) -> Self {
        match verb {
            table::HookedVerb::Backup => Self::Backup,
            table::HookedVerb::Restore => Self::Restore,
            table::HookedVerb::Verify => Self::Verify,
        }
    }
}

/// The limits that a table sets: rates of uploads, downloads and sources, threads, and memory.
fn limiter(
    (upload, download, source): (Option<Rate>, Option<Rate>, Option<Rate>),
    threads: Option<NonZeroUsize>,
    memory: Option<table::Size>,
) -> Limiter {
    let with = |limiter: Limiter, rate: Option<Rate>, set: fn(Limiter, Rate) -> Limiter| match rate {
        Some(rate) => set(limiter, rate),
        None => limiter,
    };
    let mut limiter = with(Limiter::new(), upload, Limiter::upload);
    limiter = with(limiter, download, Limiter::download);
    limiter = with(limiter, source, Limiter::source);
    if let Some(threads) = threads {
        limiter = limiter.threads(threads.get());
    }
    match memory {
        Some(table::Size(bytes)) => limiter.memory(bytes),
        None => limiter,
    }
}

/// The mistake that an error describes. The error's own subject stays when it says more than the place.
pub(crate) fn of_error(error: &Error, at: usize, key: &str, table: &str) -> Mistake {
    let subject = error.subject();
    let is_known = subject == key || subject.starts_with(&format!("{key} of {table}"));
    let what = if is_known { String::new() } else { format!("{subject}: ") };
    let mistake = Mistake::new(at, format!("{key} of {table}: {what}{}", error.message()));
    match crate::hint::advice(error) {
        Some(advice) => mistake.hint(advice),
        None => mistake,
    }
}
