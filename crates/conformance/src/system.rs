//! The conformance suite for [`System`].
//!
//! ```
//! use lifeboat_conformance::lines::LinesVerifier;
//! use lifeboat_conformance::system::{self, Fixture};
//! use lifeboat_core::{
//!     ArtifactName, Check, Context, Dataset, Description, Error, ErrorKind, Level, Manifest, NamedTarget, Opening, Reading,
//!     Result, Setting, Source, System, Verifier, async_trait, stream,
//! };
//! use serde::Deserialize;
//!
//! /// Backs up the text that stands in the job, in lines `key=value`.
//! #[derive(Clone, Debug)]
//! struct Text(Setting);
//!
//! #[derive(Deserialize)]
//! #[serde(deny_unknown_fields)]
//! struct Settings {
//!     text: Setting,
//! }
//!
//! #[derive(Clone, Default, Deserialize)]
//! #[serde(deny_unknown_fields)]
//! struct NoOptions {}
//!
//! #[async_trait]
//! impl System for Text {
//!     const NAME: &'static str = "text";
//!     const TITLE: &'static str = "Text";
//!     const ABOUT: &'static str = "Backs up a text";
//!     const EXAMPLE: &'static str = "text = { text = \"one=1\" }";
//!
//!     type Settings = Settings;
//!     type Restore = NoOptions;
//!     type Verify = NoOptions;
//!
//!     fn open(settings: Settings, _: &Opening<'_>) -> Result<Self> {
//!         Ok(Self(settings.text))
//!     }
//!     fn dataset(&self) -> Result<Option<Dataset>> {
//!         Ok(None)
//!     }
//!     async fn source(&self) -> Result<Box<dyn Source>> {
//!         Ok(Box::new(Lines(format!("{}\nend\n", self.0.text()?))))
//!     }
//!     async fn target(&self, into: &Setting, _: NoOptions, _: &Dataset) -> Result<NamedTarget> {
//!         Err(into.wrong("this example restores nothing"))
//!     }
//!     async fn verifier(&self, _: Level, _: NoOptions) -> Result<Box<dyn Verifier>> {
//!         Ok(Box::new(LinesVerifier))
//!     }
//!     async fn check(&self) -> Vec<Check> {
//!         match self.0.text() {
//!             Ok(text) => vec![Check::pass("text", format!("{} bytes", text.len()), "")],
//!             Err(error) => vec![Check::from_error("text", &error)],
//!         }
//!     }
//!     fn stock_restore(&self, _: &ArtifactName, _: Option<&Manifest>) -> String {
//!         "cat".to_owned()
//!     }
//! }
//!
//! struct Lines(String);
//!
//! #[async_trait]
//! impl Source for Lines {
//!     async fn describe(&self) -> Result<Description> {
//!         Ok(Description::new("text", "lines"))
//!     }
//!     async fn open(&self, _: &Context) -> Result<Reading> {
//!         let name = "shop-20261121-033000.lines".parse().unwrap();
//!         Ok(Reading::new(stream::once(self.0.clone()), LinesVerifier.tap(&name)?))
//!     }
//! }
//!
//! struct Jobs;
//!
//! impl Fixture for Jobs {
//!     fn job(&self) -> Option<String> {
//!         Some(r#"text = "one=1""#.to_owned())
//!     }
//!     fn locked(&self) -> Option<String> {
//!         Some(r#"text = "${NOT_SET_ANYWHERE}""#.to_owned())
//!     }
//! }
//!
//! # tokio::runtime::Runtime::new().unwrap().block_on(async {
//! system::all::<Text>(&Jobs).await;
//! # });
//! ```

use std::sync::Arc;

use futures::StreamExt;
use lifeboat_core::system::Sinks;
use lifeboat_core::{
    ArtifactName, Context, Dataset, ErrorKind, Level, Opening, Place, Proof, Result, Setting, Status, System,
};
use serde::de::DeserializeOwned;

use crate::memory::MemorySink;

/// A time of day for the names of artifacts.
const STAMP: &str = "20261121-033000";

/// The input of the suite: job tables in TOML, as in a config file after `[jobs.NAME.SYSTEM]`.
pub trait Fixture: Send + Sync {
    /// The table of a job of a live system that can be backed up now; its artifacts are of a few megabytes at most. `None`
    /// leaves out what needs one.
    fn job(&self) -> Option<String>;

    /// The table of a job on a machine that does not hold its secrets: whatever can be looked up names a variable of the
    /// environment that is not set. `None`, the default, for a system that looks nothing up.
    fn locked(&self) -> Option<String> {
        None
    }

    /// Tables that no machine can use, with mistakes that are seen without a secret, besides unknown keys. None by default: not
    /// every system has settings that can be wrong.
    fn mistakes(&self) -> Vec<String> {
        Vec::new()
    }
}

/// Every sink there could be: one in memory.
struct AnySink;

impl Sinks for AnySink {
    fn place(&self, named: &Setting) -> Result<Place> {
        Ok(Place::new(named.raw(), || Ok(Arc::new(MemorySink::default()))))
    }
}

/// Runs the whole suite.
pub async fn all<S: System>(fixture: &dyn Fixture) {
    names_are_as_they_are_shown::<S>();
    unknown_keys_are_refused::<S>(fixture);
    mistakes_are_found_without_secrets::<S>(fixture);
    opening_looks_nothing_up::<S>(fixture);
    what_is_looked_up_says_where_it_was_asked_for::<S>(fixture).await;
    judging_needs_no_secret_of_the_live_system::<S>(fixture).await;
    what_cannot_be_looked_up_fails_the_check::<S>(fixture).await;
    a_live_system_is_backed_up_and_judged::<S>(fixture).await;
    each_of_many_is_one::<S>(fixture).await;
}

fn read<T: DeserializeOwned>(table: &str) -> std::result::Result<T, String> {
    toml::from_str(table).map_err(|error| error.message().to_owned())
}

fn open<S: System>(table: &str) -> std::result::Result<S, String> {
    S::open(read(table)?, &Opening::of_table(&AnySink)).map_err(|error| error.to_string())
}

fn opened<S: System>(table: &str) -> S {
    open(table).unwrap_or_else(|why| panic!("this table cannot be used: {why}\n{table}"))
}

fn artifact(dataset: &str, format: &str) -> ArtifactName {
    format!("{dataset}-{STAMP}.{format}").parse().expect("what describes itself can name an artifact")
}

/// The name is valid as a key and as the suffix of a program's name; the texts for display are single lines, and the
/// example is a table that the settings accept.
pub fn names_are_as_they_are_shown<S: System>() {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    assert!(S::NAME.starts_with(|c: char| c.is_ascii_lowercase()) && S::NAME.chars().all(plain), "{:?}", S::NAME);
    for text in [S::TITLE, S::ABOUT, S::EXAMPLE] {
        assert!(!text.trim().is_empty() && !text.contains(char::is_control), "{text:?} is not one line");
    }
    assert!(!S::ABOUT.ends_with('.'), "the help ends no sentence there: {:?}", S::ABOUT);
    opened::<S>(&example::<S>());
}

/// The table of the example.
fn example<S: System>() -> String {
    let job: toml::Table = read(S::EXAMPLE).unwrap();
    let table = job.get(S::NAME).and_then(toml::Value::as_table);
    table.unwrap_or_else(|| panic!("the example is no table {}: {}", S::NAME, S::EXAMPLE)).to_string()
}

/// A table that can be read everywhere.
fn readable<S: System>(fixture: &dyn Fixture) -> String {
    fixture.locked().unwrap_or_else(example::<S>)
}

/// A misspelt key is an error that names it; for restores and verifications, all options can be omitted.
pub fn unknown_keys_are_refused<S: System>(fixture: &dyn Fixture) {
    const UNKNOWN: &str = "no_such_setting";
    fn refused<T: DeserializeOwned>(table: &str) {
        let why = read::<T>(&format!("{UNKNOWN} = 1\n{table}")).err();
        let why = why.unwrap_or_else(|| panic!("{UNKNOWN} is taken beside\n{table}"));
        assert!(why.contains(UNKNOWN), "{why}");
    }
    opened::<S>(&readable::<S>(fixture));
    refused::<S::Settings>(&readable::<S>(fixture));
    refused::<S::Restore>("");
    refused::<S::Verify>("");
    read::<S::Restore>("").unwrap();
    read::<S::Verify>("").unwrap();
}

/// Mistakes that can be found without secrets are found before anything begins.
pub fn mistakes_are_found_without_secrets<S: System>(fixture: &dyn Fixture) {
    for table in fixture.mistakes() {
        assert!(open::<S>(&table).is_err(), "this is taken:\n{table}");
    }
}

/// A config file can be read on machines without its secrets.
pub fn opening_looks_nothing_up<S: System>(fixture: &dyn Fixture) {
    let system = opened::<S>(&readable::<S>(fixture));
    if let Some(dataset) = system.dataset_of_job() {
        Dataset::new(dataset).expect("the dataset of a job can be one");
    }
    if let Some(why) = system.confidential() {
        assert!(!why.ends_with('.'), "it ends no sentence: {why:?}");
    }
    let line = system.stock_restore(&artifact("shop", "dump"), None);
    assert!(!line.trim().is_empty() && !line.contains('\n'), "it is no shell line: {line:?}");
}

/// An error about a setting names its place.
pub async fn what_is_looked_up_says_where_it_was_asked_for<S: System>(fixture: &dyn Fixture) {
    let Some(locked) = fixture.locked() else { return };
    let system = opened::<S>(&locked);
    let error = match system.source().await {
        Err(error) => error,
        Ok(source) => source.describe().await.map(drop).expect_err("what is not set is not missed"),
    };
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    // The place of a string that was read from a plain table.
    assert!(error.subject().contains("the settings"), "{error}");
}

/// Judging artifacts needs no secret of the live system.
pub async fn judging_needs_no_secret_of_the_live_system<S: System>(fixture: &dyn Fixture) {
    let system = opened::<S>(&readable::<S>(fixture));
    for level in [Level::Stored, Level::Structure] {
        if let Err(error) = system.verifier(level, S::Verify::default()).await {
            panic!("the level {level} asks for more than the artifact: {error}");
        }
    }
    if fixture.locked().is_none() {
        return;
    }
    let Ok(verifier) = system.verifier(Level::Live, S::Verify::default()).await else { return };
    let compared = verifier.live(None, &Context::default()).await;
    assert!(compared.is_err(), "without its secrets, the live system was compared with: {compared:?}");
}

/// The check fails for whatever cannot be looked up on this machine.
pub async fn what_cannot_be_looked_up_fails_the_check<S: System>(fixture: &dyn Fixture) {
    let Some(locked) = fixture.locked() else { return };
    let checks = opened::<S>(&locked).check().await;
    assert!(checks.iter().any(|check| check.status == Status::Fail), "what is not set is not missed: {checks:?}");
}

/// A system that passes its check can be backed up, under its own name, and its verifier confirms the source's proof in
/// the artifact.
pub async fn a_live_system_is_backed_up_and_judged<S: System>(fixture: &dyn Fixture) {
    let Some(job) = fixture.job() else { return };
    let system = opened::<S>(&job);
    let checks = system.check().await;
    assert!(!checks.is_empty() && checks.iter().all(|check| check.status != Status::Fail), "{checks:?}");
    let system = match system.has_many() {
        true => system.narrow(&system.datasets().await.unwrap()[0]),
        false => system,
    };
    let source = system.source().await.unwrap();
    let description = source.describe().await.unwrap();
    assert_eq!(description.system, S::NAME);
    if let Some(dataset) = system.dataset().unwrap() {
        assert_eq!(dataset.as_str(), description.dataset, "the dataset has two names");
    }
    let dataset = match description.dataset.is_empty() {
        true => "shop",
        false => description.dataset.as_str(),
    };
    let name = artifact(dataset, &description.format);
    assert!(system.claims(&name), "it disowns {name}");

    let verifier = system.verifier(Level::Structure, S::Verify::default()).await.unwrap();
    let mut judge = verifier.tap(&name).unwrap();
    let mut reading = source.open(&Context::default()).await.unwrap();
    while let Some(chunk) = reading.stream.next().await {
        let chunk = chunk.unwrap();
        reading.tap.push(&chunk).unwrap();
        judge.push(&chunk).unwrap();
    }
    let (proof, judged): (Proof, Proof) = (reading.tap.finish().unwrap(), judge.finish().unwrap());
    assert!(!proof.items.is_empty(), "the proof proves nothing");
    assert_eq!(proof.items, judged.items, "the verifier does not find what was backed up");
}

/// Datasets that only the live system knows are listed once each, and each can be selected by itself.
pub async fn each_of_many_is_one<S: System>(fixture: &dyn Fixture) {
    let Some(job) = fixture.job() else { return };
    let system = opened::<S>(&job);
    if !system.has_many() {
        return;
    }
    let datasets = system.datasets().await.unwrap();
    assert!(!datasets.is_empty(), "the live system has none");
    for (index, dataset) in datasets.iter().enumerate() {
        assert!(!datasets[..index].contains(dataset), "{dataset} is there twice");
        let one = system.narrow(dataset);
        assert!(!one.has_many(), "{dataset} by itself is many");
        assert_eq!(one.dataset().unwrap().as_ref(), Some(dataset));
        let format = one.source().await.unwrap().describe().await.unwrap().format;
        assert!(one.claims(&artifact(dataset.as_str(), &format)), "{dataset} disowns its artifacts");
    }
}
