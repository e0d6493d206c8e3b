//! The config file: `lifeboat.toml`.
//!
//! It is read and checked as a whole, with all its mistakes at once; variables and files that it names are looked up when
//! they are needed ([`setting`]).

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use lifeboat::cloudflare::ZoneRef;
use lifeboat::retention::Policy;
use lifeboat::{Compression, Dataset, Error, ErrorKind, Result, Status};
use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeTable, DeValue, ValueDeserializer};

pub(crate) mod copies;
pub(crate) mod mistake;
mod schedule;
pub(crate) mod setting;
mod table;
mod velero;

use crate::backend;
use crate::encryption::Choice;
use crate::jobs::Limits;
use mistake::{Mistake, position, suggest};
use setting::Setting;

/// The file's name where none is given.
pub(crate) const NAME: &str = "lifeboat.toml";

/// A config file that was read and makes sense.
pub(crate) struct Config {
    pub(crate) path: PathBuf,
    pub(crate) sinks: BTreeMap<String, SinkConfig>,
    /// In the order of the file.
    pub(crate) jobs: Vec<JobConfig>,
    /// In the order of the file.
    pub(crate) copies: Vec<copies::CopyConfig>,
}

/// `[sinks.NAME]`.
#[derive(Clone, Debug)]
pub(crate) struct SinkConfig {
    pub(crate) url: Setting,
    pub(crate) endpoint: Option<Setting>,
    pub(crate) region: Option<Setting>,
    pub(crate) access_key: Option<Setting>,
    pub(crate) secret_key: Option<Setting>,
    pub(crate) session_token: Option<Setting>,
    pub(crate) lock: Option<lifeboat::sinks::Lock>,
}

impl SinkConfig {
    /// The sink at a URL, with credentials from the environment.
    pub(crate) fn of_url(url: Setting) -> Self {
        Self { url, endpoint: None, region: None, access_key: None, secret_key: None, session_token: None, lock: None }
    }
}

/// `[jobs.NAME]` with what it takes from `[defaults]`.
#[derive(Clone)]
pub(crate) struct JobConfig {
    pub(crate) name: String,
    /// `None` where the job has many, whose names the live system knows.
    pub(crate) dataset: Option<Dataset>,
    pub(crate) backend: backend::Backend,
    pub(crate) prefix: Option<Setting>,
    pub(crate) sinks: Vec<String>,
    pub(crate) compress: Compression,
    pub(crate) encrypt: Option<Choice>,
    pub(crate) identities: Vec<Setting>,
    pub(crate) keep: Option<Policy>,
    pub(crate) limits: Limits,
    pub(crate) sink_grace: Option<Duration>,
}

impl JobConfig {
    /// The folder in the sinks, as it is written.
    pub(crate) fn folder(&self) -> &str {
        self.prefix.as_ref().map_or("", |p| p.raw().trim_matches('/'))
    }
}

impl Config {
    /// Finds and reads the file.
    ///
    /// # Errors
    /// [`ErrorKind::Config`], with every mistake that is in it.
    pub(crate) fn load(named: Option<&Path>) -> Result<Self> {
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
                .hint("`lifeboat init` writes a config file to start with; --config names another one")
        })?;
        Reader::new(&path, &text).read()
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
        Error::new(ErrorKind::Config, "find", "a config file", format!("there is none of {}", listed.join(", ")))
            .hint("`lifeboat init` writes one to start with; --config or LIFEBOAT_CONFIG names one elsewhere")
    })
}

struct Reader<'a> {
    path: &'a Path,
    text: &'a str,
    mistakes: Vec<Mistake>,
    /// The sinks by name; none where there is a mistake in it.
    sinks: BTreeMap<String, Option<SinkConfig>>,
    /// Whether a part of the file could not be read, so that what is missing may be there.
    partial: bool,
}

impl<'a> Reader<'a> {
    fn new(path: &'a Path, text: &'a str) -> Self {
        Self { path, text, mistakes: Vec::new(), sinks: BTreeMap::new(), partial: false }
    }
}

type Named<T> = Vec<(String, Range<usize>, T)>;

impl Reader<'_> {
    fn read(mut self) -> Result<Config> {
        let root = match DeTable::parse(self.text) {
            Ok(root) => root.into_inner(),
            Err(error) => {
                let mistake = Mistake::of_toml(&error, "", &(0..0));
                return Err(mistake::error(self.path, self.text, vec![mistake]));
            }
        };
        let (mut sinks, mut defaults, mut jobs) = (Vec::new(), table::Defaults::default(), Vec::new());
        let mut copies = Vec::new();
        for (key, value) in root {
            match &**key.get_ref() {
                "sinks" => {
                    let named = value.get_ref().as_table().into_iter().flat_map(|t| t.keys());
                    self.sinks = named.map(|name| (name.get_ref().to_string(), None)).collect();
                    sinks = self.tables("sinks", value);
                }
                "jobs" => jobs = self.tables("jobs", value),
                "copies" => copies = self.tables("copies", value),
                "defaults" => {
                    let read = self.table("[defaults]", value);
                    self.partial |= read.is_none();
                    defaults = read.unwrap_or_default();
                }
                other => {
                    let unknown = Mistake::new(key.span().start, format!("unknown key \"{other}\""))
                        .hint(suggest(other, &["sinks", "defaults", "jobs", "copies"]));
                    self.mistakes.push(unknown);
                    self.partial = true;
                }
            }
        }
        let sinks: BTreeMap<String, SinkConfig> = sinks
            .into_iter()
            .map(|(name, _, sink)| {
                let made = self.sink(&name, sink);
                self.sinks.insert(name.clone(), Some(made.clone()));
                (name, made)
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
            return Err(mistake::error(self.path, self.text, self.mistakes));
        }
        Ok(Config { path: self.path.to_owned(), sinks, jobs, copies })
    }

    /// The tables in `[sinks]` or `[jobs]`, each read by itself, in the order of the file.
    fn tables<T: for<'de> Deserialize<'de>>(&mut self, kind: &str, value: Spanned<DeValue<'_>>) -> Named<T> {
        let span = value.span();
        let DeValue::Table(table) = value.into_inner() else {
            self.mistakes.push(Mistake::new(span.start, format!("{kind} is not a table; write [{kind}.NAME]")));
            return Vec::new();
        };
        let mut named: Named<T> = Vec::new();
        for (key, value) in table {
            let name = key.get_ref().to_string();
            if let Some(read) = self.table(&format!("[{kind}.{name}]"), value) {
                named.push((name, key.span(), read));
            }
        }
        named.sort_by_key(|(_, span, _)| span.start);
        named
    }

    fn table<T: for<'de> Deserialize<'de>>(&mut self, name: &str, value: Spanned<DeValue<'_>>) -> Option<T> {
        let span = value.span();
        match T::deserialize(ValueDeserializer::from(value)) {
            Ok(table) => Some(table),
            Err(error) => {
                self.mistakes.push(Mistake::of_toml(&error, name, &span));
                None
            }
        }
    }

    fn setting(&self, raw: impl Into<String>, at: usize, key: &str, table: &str) -> Setting {
        let (line, _) = position(self.text, at);
        let place = format!("{key} of {table} ({}, line {line})", self.path.display());
        Setting::new(raw, place, self.path.parent().unwrap_or(Path::new("")))
    }

    fn spanned(&self, value: Spanned<String>, key: &str, table: &str) -> Setting {
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
        }
    }

    fn identities(&self, texts: Spanned<table::Texts>, table: &str) -> Vec<Setting> {
        let at = texts.span().start;
        texts.into_inner().0.into_iter().map(|text| self.setting(text, at, "identity", table)).collect()
    }

    fn encrypt(&mut self, encrypt: Spanned<table::Encrypt>, table: &str) -> Option<Choice> {
        let at = encrypt.span().start;
        let one = |text: String| self.setting(text, at, "encrypt", table);
        let wrong = |why: &str| Err(one(String::new()).wrong(why));
        let made = match encrypt.into_inner() {
            table::Encrypt::Texts(texts) => Choice::parse(&texts.0.into_iter().map(one).collect::<Vec<_>>()),
            table::Encrypt::Table(table::EncryptTable { age: Some(age), openssl: None }) => {
                match (age.passphrase, age.recipients.is_empty() && age.recipients_file.is_none()) {
                    (Some(passphrase), true) => Ok(Choice::AgePassphrase(one(passphrase))),
                    (Some(_), false) => wrong("an age passphrase stands alone, without recipients"),
                    (None, true) => wrong("it names no age recipient"),
                    (None, false) => Ok(Choice::Age {
                        recipients: age.recipients.into_iter().map(one).collect(),
                        files: age.recipients_file.into_iter().map(one).collect(),
                    }),
                }
            }
            table::Encrypt::Table(table::EncryptTable { age: None, openssl: Some(openssl) }) => {
                Ok(Choice::OpenSsl(one(openssl.passphrase)))
            }
            table::Encrypt::Table(_) => wrong("it has exactly one of age and openssl"),
        };
        // A recipient that is written out can be checked now.
        let checked = made.and_then(|choice| choice.check_literals().map(|()| choice));
        checked.map_err(|error| self.mistakes.push(of_error(&error, at, "encrypt", table))).ok()
    }

    fn job(&mut self, name: &str, span: &Range<usize>, job: table::Job, defaults: &Defaults) -> Option<JobConfig> {
        let table = format!("[jobs.{name}]");
        let named_at = job.dataset.as_ref().map(|d| d.span().start);
        let dataset_at = named_at.unwrap_or(span.start);
        // A zone that is written out names its backups.
        let zone = job
            .cloudflare_dns
            .as_ref()
            .and_then(|c| Some(ZoneRef::parse(c.get_ref().zone.get_ref()).ok()?.name()?.to_owned()));
        let dataset =
            Dataset::new(job.dataset.map_or_else(|| zone.unwrap_or_else(|| name.to_owned()), Spanned::into_inner))
                .map_err(|error| self.mistakes.push(of_error(&error, dataset_at, "dataset", &table)))
                .ok();
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
        let sinks = self.sinks_of(&table, span, job.sinks.as_ref().or(defaults.sinks.as_ref()));
        if let Some(velero) = &job.velero {
            self.check_location(velero.get_ref(), sinks.as_deref(), &table);
        }
        let backend = self.backend(
            Systems {
                cloudflare_dns: job.cloudflare_dns,
                doppler: job.doppler,
                mongodb: job.mongodb,
                postgres: job.postgres,
                velero: job.velero,
            },
            span,
            &table,
        )?;
        let suggested = backend.suggested();
        if let (true, Some(at)) = (backend.has_many(), named_at) {
            let message = format!("dataset of {table}: the job has many, and the live system names them");
            self.mistakes.push(Mistake::new(at, message).hint("leave it out"));
        }
        if let (Some(why), Some(Choice::None)) = (backend.confidential(), &encrypt) {
            let message = format!("encrypt of {table}: {why}, and is never stored without encryption");
            let hint = "choose an encryptor, as in encrypt = \"age:age1…\" (`lifeboat init` makes a key)";
            self.mistakes.push(Mistake::new(span.start, message).hint(hint));
        }
        Some(JobConfig {
            name: name.to_owned(),
            dataset: if backend.has_many() { None } else { Some(dataset?) },
            backend,
            prefix: job.prefix.map(|p| self.spanned(p, "prefix", &table)).or_else(|| defaults.prefix.clone()),
            sinks: sinks?,
            compress: job.compress.map(|p| p.0).or(defaults.compress).unwrap_or(suggested.compression),
            encrypt,
            identities: match job.identity {
                Some(identity) => self.identities(identity, &table),
                None => defaults.identities.clone().unwrap_or_default(),
            },
            keep: job.keep.or(defaults.keep),
            limits: Limits {
                level: verify.level.or(defaults.verify.level).unwrap_or_default(),
                max_age: verify.max_age.or(defaults.verify.max_age).or(suggested.max_age),
                age_status: verify.age_status.or(defaults.verify.age_status).unwrap_or(Status::Fail),
            },
            sink_grace: job.sink_grace.or(defaults.sink_grace),
        })
    }

    /// The one system that a job names.
    fn backend(&mut self, systems: Systems, span: &Range<usize>, table: &str) -> Option<backend::Backend> {
        let named: Vec<&str> = [
            ("cloudflare-dns", systems.cloudflare_dns.is_some()),
            ("doppler", systems.doppler.is_some()),
            ("mongodb", systems.mongodb.is_some()),
            ("postgres", systems.postgres.is_some()),
            ("velero", systems.velero.is_some()),
        ]
        .into_iter()
        .filter_map(|(name, given)| given.then_some(name))
        .collect();
        if named.len() > 1 {
            let message = format!("{table} names several systems: {}", named.join(" and "));
            self.mistakes.push(Mistake::new(span.start, message).hint("make a job of each"));
            return None;
        }
        match systems {
            Systems { cloudflare_dns: Some(cloudflare), .. } => self.cloudflare_dns(cloudflare, table),
            Systems { doppler: Some(doppler), .. } => self.doppler(doppler, table),
            Systems { mongodb: Some(mongodb), .. } => Some(self.mongodb(mongodb, table)),
            Systems { postgres: Some(postgres), .. } => self.postgres(postgres, table),
            Systems { velero: Some(velero), .. } => {
                Some(backend::Backend::Velero(Box::new(self.velero(velero.into_inner(), table))))
            }
            Systems { .. } => {
                let mistake = Mistake::new(span.start, format!("{table} does not say what to back up"));
                self.mistakes.push(mistake.hint("write for example: postgres = { url = \"${SHOP_URL}\" }"));
                None
            }
        }
    }

    fn cloudflare_dns(&mut self, cloudflare: Spanned<table::CloudflareDns>, table: &str) -> Option<backend::Backend> {
        let at = cloudflare.span().start;
        let cloudflare = cloudflare.into_inner();
        let zone_at = cloudflare.zone.span().start;
        let token = match cloudflare.token {
            Some(token) => self.spanned(token, "cloudflare-dns.token", table),
            None => self.setting("${CLOUDFLARE_API_TOKEN}", at, "cloudflare-dns.token", table),
        };
        let zone = self.spanned(cloudflare.zone, "cloudflare-dns.zone", table);
        if !zone.raw().contains("${")
            && let Err(error) = ZoneRef::parse(zone.raw())
        {
            self.mistakes.push(of_error(&error, zone_at, "cloudflare-dns.zone", table));
            return None;
        }
        let api_url = cloudflare.api_url.map(|url| self.spanned(url, "cloudflare-dns.api_url", table));
        Some(backend::Backend::CloudflareDns(backend::cloudflare::Settings::new(token, api_url, Some(zone))))
    }

    fn doppler(&mut self, doppler: Spanned<table::Doppler>, table: &str) -> Option<backend::Backend> {
        let at = doppler.span().start;
        let doppler = doppler.into_inner();
        let token_at = doppler.token.span().start;
        let token = self.spanned(doppler.token, "doppler.token", table);
        if token.raw().starts_with("dp.") {
            let message = format!("doppler.token of {table}: it is the token itself");
            let hint = "write token = \"${DOPPLER_TOKEN}\" or token = \"file:PATH\", and put the token there";
            self.mistakes.push(Mistake::new(token_at, message).hint(hint));
            return None;
        }
        let api_url = doppler.api_url.map(|url| self.spanned(url, "doppler.api_url", table));
        backend::doppler::Settings::new(token, api_url, doppler.project, doppler.config)
            .map(backend::Backend::Doppler)
            .map_err(|error| self.mistakes.push(of_error(&error, at, "doppler", table)))
            .ok()
    }

    fn postgres(&mut self, postgres: Spanned<table::Postgres>, table: &str) -> Option<backend::Backend> {
        let at = postgres.span().start;
        let postgres = postgres.into_inner();
        let url = self.spanned(postgres.url, "postgres.url", table);
        let dump = backend::postgres::DumpOptions {
            schemas: postgres.schemas,
            exclude_schemas: postgres.exclude_schemas,
            tables: postgres.tables,
            exclude_tables: postgres.exclude_tables,
            exclude_table_data: postgres.exclude_table_data,
            extra_args: postgres.extra_args,
        };
        backend::postgres::Settings::new(Some(url), postgres.globals, dump)
            .map(backend::Backend::Postgres)
            .map_err(|error| self.mistakes.push(of_error(&error, at, "postgres", table)))
            .ok()
    }

    fn mongodb(&mut self, mongodb: Spanned<table::Mongodb>, table: &str) -> backend::Backend {
        let mongodb = mongodb.into_inner();
        let dump = backend::mongodb::DumpOptions {
            collections: mongodb.collections,
            exclude_collections: mongodb.exclude_collections,
            exclude_databases: mongodb.exclude_databases,
            queries: mongodb.queries,
            consistency: mongodb.consistency,
            oplog: mongodb.oplog,
            cursors: mongodb.cursors,
            users_and_roles: mongodb.users_and_roles,
        };
        let url = self.spanned(mongodb.url, "mongodb.url", table);
        let scratch = mongodb.scratch.map(|url| self.spanned(url, "mongodb.scratch", table));
        backend::Backend::Mongodb(backend::mongodb::Settings::new(Some(url), mongodb.database, scratch, dump))
    }

    /// The names of a job's sinks; where nothing says, the only sink there is.
    fn sinks_of(
        &mut self,
        table: &str,
        span: &Range<usize>,
        named: Option<&Vec<Spanned<String>>>,
    ) -> Option<Vec<String>> {
        let known: Vec<&str> = self.sinks.keys().map(String::as_str).collect();
        let Some(named) = named.filter(|n| !n.is_empty()) else {
            if let [only] = known[..] {
                return Some(vec![only.to_owned()]);
            }
            let hint = match known.first() {
                Some(first) => {
                    format!("write sinks = [\"{first}\"] there or in [defaults]; known are {}", known.join(", "))
                }
                None => "write a table [sinks.NAME] with a url, and sinks = [\"NAME\"] in [defaults]".to_owned(),
            };
            if !self.partial {
                self.mistakes.push(Mistake::new(span.start, format!("{table} names no sink")).hint(hint));
            }
            return None;
        };
        for sink in named {
            let at = sink.span().start;
            // Named in [defaults], it is wrong once and not for every job.
            let is_told = self.partial || self.mistakes.iter().any(|m| m.at == at);
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
                        format!("[jobs.{}] has the dataset and the folder of [jobs.{}]", job.name, other.name),
                        "give one of them another dataset or prefix",
                    ),
                    None => (
                        format!(
                            "[jobs.{}] and [jobs.{}] have many datasets each, and the same folder",
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

/// What a job says of systems.
struct Systems {
    cloudflare_dns: Option<Spanned<table::CloudflareDns>>,
    doppler: Option<Spanned<table::Doppler>>,
    mongodb: Option<Spanned<table::Mongodb>>,
    postgres: Option<Spanned<table::Postgres>>,
    velero: Option<Spanned<velero::Velero>>,
}

struct Defaults {
    sinks: Option<Vec<Spanned<String>>>,
    prefix: Option<Setting>,
    compress: Option<Compression>,
    encrypt: Option<Choice>,
    identities: Option<Vec<Setting>>,
    keep: Option<Policy>,
    verify: table::Verify,
    sink_grace: Option<Duration>,
}

/// A mistake that an error speaks of. The error's own subject stays when it is more than the place.
fn of_error(error: &Error, at: usize, key: &str, table: &str) -> Mistake {
    let subject = error.subject();
    let what = if subject.starts_with(&format!("{key} of {table}")) { String::new() } else { format!("{subject}: ") };
    let mistake = Mistake::new(at, format!("{key} of {table}: {what}{}", error.message()));
    match crate::output::hint::advice(error) {
        Some(advice) => mistake.hint(advice),
        None => mistake,
    }
}

#[cfg(test)]
mod tests;
