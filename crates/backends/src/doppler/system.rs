//! Doppler as a system: the secrets of one config, of all configs of a project, or of all that a token sees.
// A help text shows an address as it is typed.
#![allow(rustdoc::bare_urls)]

use std::time::Duration;

use async_trait::async_trait;
use lifeboat_core::Field;
#[cfg(feature = "cli")]
use lifeboat_core::cli::CONNECTION;
use lifeboat_core::memory::NoCoreDumps;
use lifeboat_core::system::{Defaults, NamedTarget, Opening, System};
use lifeboat_core::words::Noun;
use lifeboat_core::{
    ArtifactName, Check, Compression, Dataset, Error, ErrorKind, Level, Manifest, Result, Setting, Source, Verifier,
    setting,
};
use serde::Deserialize;

use super::{
    Connection, Doppler, DopplerTarget, DopplerVerifier, Form, KubernetesName, Scope, SecretsFile, VerifierOptions,
};
use crate::http::token;
use crate::outfile::Destination;

/// The default variable for the token.
const TOKEN: &str = "DOPPLER_TOKEN";
/// How to write a place in Doppler.
const PLACES: &str = "write doppler://PROJECT/CONFIG, or doppler:// for a service token's config";
/// Stands for all projects or configs.
const ALL: &str = "*";
/// The heading of flags about restoring secrets.
#[cfg(feature = "cli")]
const SECRETS: &str = "Secrets";

lifeboat_core::described! {
/// Which configs, and how to reach Doppler.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct DopplerSettings {
    /// The config: doppler://PROJECT/CONFIG; without it, the one that a service token is of. * stands for all
    // A table has `project` and `config` in its place.
    #[serde(skip)]
    #[cfg_attr(feature = "cli", arg(long, value_name = "URL", env = "LIFEBOAT_FROM", hide_env_values = true))]
    pub from: Option<Setting>,
    /// Where the token is: env:NAME or file:PATH; without it, in DOPPLER_TOKEN
    #[serde(deserialize_with = "setting::required")]
    #[cfg_attr(feature = "cli", arg(long, value_name = "PLACE"))]
    pub token: Option<Setting>,
    /// The project; `*` for all. Without project and config, it is the config that a service token is of
    #[serde(default)]
    #[cfg_attr(feature = "cli", arg(skip))]
    pub project: Option<String>,
    /// The config; `*` for all of the project
    #[serde(default)]
    #[cfg_attr(feature = "cli", arg(skip))]
    pub config: Option<String>,
    /// The address of Doppler's API, if not https://api.doppler.com
    #[serde(default)]
    #[cfg_attr(feature = "cli", arg(long, value_name = "URL", env = "DOPPLER_API_HOST", help_heading = CONNECTION))]
    pub api_url: Option<Setting>,
}
}

lifeboat_core::setters!(DopplerSettings {
    from: Option<Setting>,
    token: Option<Setting>,
    project: Option<String>,
    config: Option<String>,
    api_url: Option<Setting>,
});

/// Options for restoring secrets.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct RestoreOptions {
    /// With --into file:PATH: overwrite an existing file
    #[cfg_attr(feature = "cli", arg(long))]
    pub replace: bool,
    /// Carry the plan out; without it the plan is shown and nothing is changed
    #[cfg_attr(feature = "cli", arg(long))]
    pub apply: bool,
    /// Also delete what is in Doppler but not in the backup
    #[cfg_attr(feature = "cli", arg(long))]
    pub delete_extra: bool,
    /// How secrets are written to a file or to standard output: env, json or kubernetes
    #[cfg_attr(feature = "cli", arg(long, value_name = "FORM", help_heading = SECRETS))]
    pub format: Option<String>,
    /// With --format kubernetes: the name of the Secret; without it, the dataset's
    #[cfg_attr(feature = "cli", arg(long, value_name = "NAME", help_heading = SECRETS))]
    pub secret_name: Option<String>,
    /// With --format kubernetes: the namespace of the Secret
    #[cfg_attr(feature = "cli", arg(long, value_name = "NAME", help_heading = SECRETS))]
    pub secret_namespace: Option<String>,
    /// Where a token with write access is: env:NAME or file:PATH; without it, the backup's own
    #[cfg_attr(feature = "cli", arg(long, value_name = "PLACE", help_heading = SECRETS))]
    pub token: Option<Setting>,
}

lifeboat_core::setters!(RestoreOptions {
    replace: bool,
    apply: bool,
    delete_extra: bool,
    format: Option<String>,
    secret_name: Option<String>,
    secret_namespace: Option<String>,
    token: Option<Setting>,
});

impl RestoreOptions {
    /// How a file is written.
    fn form(&self, dataset: &Dataset) -> Result<Form> {
        let form: Form = self.format.as_deref().unwrap_or("env").parse()?;
        match (form, self.secret_name.as_deref(), self.secret_namespace.as_deref()) {
            (Form::Kubernetes(_), name, namespace) => {
                let name = match name {
                    Some(name) => KubernetesName::new(name, None)?,
                    None => KubernetesName::of_dataset(dataset.as_str()),
                };
                name.in_namespace(namespace).map(Form::Kubernetes)
            }
            (other, None, None) => Ok(other),
            _ => Err(wrong("--secret-name", "only a Kubernetes Secret has a name").hint("add --format kubernetes")),
        }
    }

    /// The first flag that says how a file is written.
    fn flag_of_files(&self) -> Option<&'static str> {
        let given = [
            ("--format", self.format.is_some()),
            ("--secret-name", self.secret_name.is_some()),
            ("--secret-namespace", self.secret_namespace.is_some()),
        ];
        given.into_iter().find_map(|(flag, given)| given.then_some(flag))
    }
}

/// Options for verifying an artifact.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct VerifyOptions {
    /// Level live, of zones and secrets: warn when the count differs by more
    #[cfg_attr(feature = "cli", arg(long, value_name = "N"))]
    pub max_drift: Option<u64>,
}

lifeboat_core::setters!(VerifyOptions { max_drift: Option<u64> });

/// Doppler: the secrets of one config, of all configs of a project, or of all that a token sees.
///
/// Everything created from it turns core dumps off until the process ends, because tokens and values are in memory.
#[derive(Clone, Debug)]
pub struct DopplerSystem {
    token: Setting,
    api_url: Option<Setting>,
    /// A place that has to be looked up first; it then overrides `scope`.
    from: Option<Setting>,
    scope: Scope,
}

impl DopplerSystem {
    fn connection(&self) -> Result<Connection> {
        connect(&self.token, self.api_url.as_ref())
    }

    fn scope(&self) -> Result<Scope> {
        let Some(from) = &self.from else { return Ok(self.scope.clone()) };
        let scope = parse_place(from, &from.text()?)?;
        if is_many(&scope) {
            return Err(from.wrong("a variable cannot name several configs").hint("write them out after --from"));
        }
        Ok(scope)
    }
}

#[async_trait]
impl System for DopplerSystem {
    const NAME: &'static str = super::SYSTEM;
    const TITLE: &'static str = "Doppler";
    const ABOUT: &'static str =
        "Backs up the secrets of a Doppler config, always encrypted, and proves that each backup restores";
    const EXAMPLE: &'static str = "doppler = { token = \"${DOPPLER_TOKEN}\" }";

    type Settings = DopplerSettings;
    type Restore = RestoreOptions;
    type Verify = VerifyOptions;

    fn tables() -> Vec<(&'static str, &'static [Field])> {
        vec![("", DopplerSettings::FIELDS)]
    }

    fn unit(kind: &str) -> Option<Noun> {
        super::unit(kind)
    }

    fn open(settings: DopplerSettings, opening: &Opening<'_>) -> Result<Self> {
        let DopplerSettings { from, token, project, config, api_url } = settings;
        let token = match token {
            Some(token) if opening.is_of_flags() => token::of_flag(token)?,
            Some(token) if token.raw().starts_with("dp.") => {
                return Err(token
                    .wrong("it is the token itself")
                    .hint("write token = \"${DOPPLER_TOKEN}\" or token = \"file:PATH\", and put the token there"));
            }
            Some(token) => token,
            None => Setting::variable_named(TOKEN),
        };
        // A variable set to an empty string counts as an absent flag.
        let api_url = api_url.filter(|url| !(opening.is_of_flags() && url.raw().is_empty()));
        let (from, scope) = match from {
            Some(from) if from.raw().contains("${") => (Some(from), Scope::default()),
            Some(from) => (None, parse_place(&from, from.raw())?),
            None => (None, checked(project, config)?),
        };
        Ok(Self { token, api_url, from, scope })
    }

    fn defaults() -> Defaults {
        // Secrets are small, and compressors keep parts of them in memory that is not wiped.
        Defaults::compressed(Compression::None).max_age(Duration::from_secs(8 * 86_400))
    }

    fn formats() -> &'static [&'static str] {
        &[super::FORMAT]
    }

    fn dataset(&self) -> Result<Option<Dataset>> {
        let scope = self.scope()?;
        match (&scope.project, &scope.config) {
            (Some(_), Some(_)) if !is_many(&scope) => Dataset::new(scope.dataset()).map(Some),
            _ => Ok(None),
        }
    }

    fn confidential(&self) -> Option<&'static str> {
        Some("it is nothing but secrets")
    }

    async fn source(&self) -> Result<Box<dyn Source>> {
        NoCoreDumps::for_the_process();
        Ok(Box::new(Doppler::new(self.connection()?, self.scope()?)?))
    }

    async fn target(&self, into: &Setting, choices: RestoreOptions, dataset: &Dataset) -> Result<NamedTarget> {
        NoCoreDumps::for_the_process();
        let own = choices.token.clone().map(token::of_flag).transpose()?;
        let RestoreOptions { replace, apply, delete_extra, .. } = choices;
        let place = into.text()?;
        if let Some(destination) = Destination::parse(&place, replace) {
            if delete_extra {
                return Err(wrong("--delete-extra", "a file holds exactly what the backup holds"));
            }
            let form = choices.form(dataset)?;
            let name = format!("{} ({form})", destination.name());
            let to_stdout = destination == Destination::Stdout;
            let target = NamedTarget::new(SecretsFile::new(destination, form), name);
            return Ok(target.to_stdout(to_stdout).replaces(replace).apply(apply));
        }
        if let Some(flag) = choices.flag_of_files() {
            return Err(wrong(flag, "it sets the form of a file, but this restores into Doppler")
                .hint("write to a file with --into file:PATH, or to standard output with --into -"));
        }
        if replace {
            return Err(wrong("--replace", "a config is changed secret by secret")
                .hint("check the plan, then give --apply; --delete-extra also deletes what is not in the backup"));
        }
        let scope = parse_place(into, &place)?;
        if is_many(&scope) {
            return Err(into.wrong("it names several configs").hint("restore them one after the other"));
        }
        let connection = connect(own.as_ref().unwrap_or(&self.token), self.api_url.as_ref())?;
        let name = scope.name();
        Ok(NamedTarget::new(DopplerTarget::new(connection, scope).delete_extra(delete_extra), name).apply(apply))
    }

    async fn verifier(&self, level: Level, choices: VerifyOptions) -> Result<Box<dyn Verifier>> {
        NoCoreDumps::for_the_process();
        let live = if level == Level::Live { Some((self.connection()?, self.scope()?)) } else { None };
        let max_drift = choices.max_drift.unwrap_or(VerifierOptions::default().max_drift);
        Ok(Box::new(DopplerVerifier::new(VerifierOptions { live, max_drift })))
    }

    async fn check(&self) -> Vec<Check> {
        NoCoreDumps::for_the_process();
        let many = self.has_many();
        let looked_up = self.connection().and_then(|connection| Ok((connection, self.scope()?)));
        match looked_up {
            Ok((connection, scope)) => {
                let scope = if many { Scope { project: one(scope.project), config: None } } else { scope };
                super::check(&connection, &scope, many).await
            }
            Err(error) => vec![Check::from_error("token", &error)],
        }
    }

    fn has_many(&self) -> bool {
        is_many(&self.scope)
    }

    async fn datasets(&self) -> Result<Vec<Dataset>> {
        NoCoreDumps::for_the_process();
        super::datasets(&self.connection()?, one(self.scope()?.project).as_deref()).await
    }

    fn narrow(&self, dataset: &Dataset) -> Self {
        match Scope::of_dataset(dataset.as_str()) {
            Some(scope) => Self { from: None, scope, ..self.clone() },
            None => self.clone(),
        }
    }

    fn claims(&self, name: &ArtifactName) -> bool {
        name.format == super::FORMAT && Scope::of_dataset(name.dataset.as_str()).is_some()
    }

    fn stock_restore(&self, name: &ArtifactName, _: Option<&Manifest>) -> String {
        super::stock_restore(name).to_owned()
    }
}

fn wrong(subject: &str, why: &str) -> Error {
    Error::new(ErrorKind::Config, "use", subject, why)
}

fn connect(token: &Setting, api_url: Option<&Setting>) -> Result<Connection> {
    let api_url = api_url.map(Setting::text).transpose()?;
    Connection::new(token.secret()?, token.place(), api_url.as_deref())
}

/// The name, unless it stands for all.
fn one(name: Option<String>) -> Option<String> {
    name.filter(|name| name != ALL)
}

fn is_many(scope: &Scope) -> bool {
    [&scope.project, &scope.config].into_iter().any(|name| name.as_deref() == Some(ALL))
}

/// The scope that a table names, after checking it.
fn checked(project: Option<String>, config: Option<String>) -> Result<Scope> {
    let refused = |why, hint: &str| Err(wrong(super::SYSTEM, why).hint(hint));
    match (project.as_deref(), config.as_deref()) {
        (Some(ALL), Some(config)) if config != ALL => refused(
            "one config cannot be chosen from all projects",
            "for all configs of all projects, write project = \"*\"",
        ),
        (Some(project), None) if project != ALL => refused(
            "a project without a config does not say what to back up",
            "name the config, as in config = \"prd\", or write config = \"*\" for all of them",
        ),
        (None, Some(_)) => refused(
            "a config without a project does not say what to back up",
            "name the project; without both, the service token's config is backed up",
        ),
        _ => Ok(Scope { project, config }),
    }
}

/// Parses `doppler://PROJECT/CONFIG`, the text of a setting; both parts may be missing.
fn parse_place(setting: &Setting, text: &str) -> Result<Scope> {
    // Not printed: an invalid place may be a token.
    let wrong = |why: &str| setting.wrong(why).hint(PLACES);
    let rest = text.strip_prefix("doppler://").ok_or_else(|| wrong("it does not begin with doppler://"))?;
    let fits = |name: &&str| {
        *name == ALL || name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
    };
    let names: Vec<&str> = rest.trim_end_matches('/').split('/').filter(|n| !n.is_empty()).collect();
    if !names.iter().all(fits) {
        return Err(wrong("it has a character that no project or config can have"));
    }
    match names[..] {
        [] => Ok(Scope::default()),
        [ALL] => Ok(Scope::of(ALL, ALL)),
        [_] => Err(wrong("it names a project but no config")),
        [ALL, config] if config != ALL => Err(setting
            .wrong("one config cannot be chosen from all projects")
            .hint("for all configs of all projects, write doppler://*")),
        [project, config] => Ok(Scope::of(project, config)),
        _ => Err(wrong("it has more parts than project and config")),
    }
}

#[cfg(feature = "cli")]
mod cli {
    use clap::Command;
    use lifeboat_core::cli::{Commands, NoVerbs};

    use super::DopplerSystem;

    impl Commands for DopplerSystem {
        type Verbs = NoVerbs;

        fn shape(command: Command) -> Command {
            match command.get_name() {
                "" => command.after_help(
                    "\
Examples:
  export DOPPLER_TOKEN=dp.st.prd.…
  lifeboat-doppler backup --sink file:///backups --encrypt age:age1…
  lifeboat-doppler verify --dataset backend.prd --sink file:///backups --identity key.txt
  lifeboat-doppler restore --dataset backend.prd --sink file:///backups --identity key.txt --into -",
                ),
                "backup" => command.after_help(
                    "\
Examples:
  lifeboat-doppler backup --sink file:///backups --encrypt age:age1…
  lifeboat-doppler backup --from doppler://backend/prd --token file:token.txt --sink s3://backups --encrypt openssl:env:PASSPHRASE
  lifeboat-doppler backup --from 'doppler://backend/*' --sink file:///backups --encrypt age:age1…",
                ),
                "show" => command
                    .mut_arg("items", |arg| arg.help("Also list the names of the secrets; needs the key"))
                    .mut_arg("item", |arg| arg.help("Write the value of one secret to standard output")),
                "verify" => command.after_help(
                    "\
Levels:
  stored      it is there, young enough (8 days), and has the size and SHA-256 of its manifest
  structure   it decrypts, parses to its end and agrees with its proof
  restore     it is written as .env, JSON and Kubernetes Secret in memory, and reads back as it was (the default)
  live        how far Doppler has drifted from it: names, and how many values have changed

Examples:
  lifeboat-doppler verify --dataset backend.prd --sink file:///backups --identity key.txt
  lifeboat-doppler verify --dataset backend.prd --sink file:///backups --identity key.txt --level live --max-drift 0",
                ),
                "restore" => command
                    .about("Restore a backup: into Doppler, into a file or to standard output")
                    .mut_arg("into", |arg| {
                        arg.value_name("URL|file:PATH|-").help(
                            "Where to: doppler://PROJECT/CONFIG (doppler:// for a service token's config), \
                             file:PATH or - for standard output",
                        )
                    })
                    .after_help(
                        "\
Examples:
  lifeboat-doppler restore --dataset backend.prd --sink file:///backups --identity key.txt --into doppler://backend/prd
  lifeboat-doppler restore --dataset backend.prd --sink file:///backups --identity key.txt --into doppler://backend/prd --apply
  lifeboat-doppler restore --dataset backend.prd --sink file:///backups --identity key.txt --into file:/run/app.env
  lifeboat-doppler restore --dataset backend.prd --sink file:///backups --identity key.txt --into - --format kubernetes | kubectl apply -f -",
                    ),
                "check" => command.about("Check the sink, the token, the config and the keys").after_help(
                    "\
Examples:
  lifeboat-doppler check --sink file:///backups --encrypt age:age1…
  lifeboat-doppler check --from doppler://backend/prd --sink s3://backups --encrypt age-file:keys.txt",
                ),
                _ => command,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use lifeboat_core::system::NoSinks;
    use serde_json::{Value, from_value, json};

    use super::*;

    fn open(table: Value) -> Result<DopplerSystem> {
        DopplerSystem::open(from_value(table).unwrap(), &Opening::of_table(&NoSinks))
    }

    fn of_place(place: &str) -> Result<DopplerSystem> {
        let settings = DopplerSettings { from: Some(Setting::given(place, "--from")), ..DopplerSettings::default() };
        DopplerSystem::open(settings, &Opening::of_flags(&NoSinks))
    }

    #[test]
    fn a_place_names_one_config_or_many() {
        let one = of_place("doppler://backend/prd").unwrap();
        assert_eq!((one.has_many(), one.dataset().unwrap().unwrap().as_str()), (false, "backend.prd"));
        for many in ["doppler://backend/*", "doppler://*", "doppler://*/*"] {
            let many = of_place(many).unwrap();
            assert!(many.has_many() && many.dataset().unwrap().is_none());
            let narrow = many.narrow(&Dataset::new("backend.dev").unwrap());
            assert_eq!(narrow.scope().unwrap(), Scope::of("backend", "dev"));
        }
        assert_eq!(of_place("doppler://").unwrap().scope().unwrap(), Scope::default());
        let elsewhere = of_place("env:LIFEBOAT_TEST_NOT_SET").unwrap();
        assert!(!elsewhere.has_many() && elsewhere.dataset().is_err());
    }

    #[test]
    fn what_is_no_place_is_refused_and_not_printed() {
        for wrong in ["dp.st.secret-token", "doppler://a", "doppler://*/prd", "doppler://a/b/c", "doppler://a b/c"] {
            let error = of_place(wrong).unwrap_err();
            assert_eq!((error.kind(), error.subject()), (ErrorKind::Config, "--from"), "{wrong}");
            assert!(!format!("{error:?}").contains("secret-token"));
        }
    }

    #[test]
    fn a_table_has_the_keys_of_the_settings() {
        let all = json!({ "token": "${T}", "project": "backend", "config": "prd", "api_url": "https://api.example" });
        let system = open(all).unwrap();
        assert_eq!(system.dataset().unwrap().unwrap().as_str(), "backend.prd");
        assert!(open(json!({ "token": "${T}", "project": "*" })).unwrap().has_many());
        assert_eq!(open(json!({ "token": "${T}" })).unwrap().scope().unwrap(), Scope::default());
        for wrong in [json!({}), json!({ "token": "${T}", "from": "doppler://a/b" })] {
            assert!(from_value::<DopplerSettings>(wrong.clone()).is_err(), "{wrong}");
        }
        assert!(from_value::<RestoreOptions>(json!({ "settings": true })).is_err());
        assert!(from_value::<VerifyOptions>(json!({ "jobs": 1 })).is_err());
    }

    #[test]
    fn a_table_says_what_to_back_up_and_holds_no_token() {
        for wrong in [
            json!({ "token": "${T}", "project": "*", "config": "prd" }),
            json!({ "token": "${T}", "project": "backend" }),
            json!({ "token": "${T}", "config": "prd" }),
        ] {
            assert_eq!(open(wrong.clone()).unwrap_err().subject(), "doppler", "{wrong}");
        }
        let error = open(json!({ "token": "dp.st.hunter2" })).unwrap_err();
        // The place of a setting that was read by serde_json.
        assert_eq!((error.subject(), error.message()), ("the settings", "it is the token itself"));
        assert!(!format!("{error:?}").contains("hunter2"));
    }

    #[test]
    fn a_token_is_not_taken_from_a_flag() {
        let open = |token: &str| {
            let token = Some(Setting::given(token, "--token"));
            DopplerSystem::open(DopplerSettings { token, ..DopplerSettings::default() }, &Opening::of_flags(&NoSinks))
        };
        assert_eq!(open("dp.st.x").unwrap_err().to_string(), "cannot use --token: it does not take a token itself");
        assert_eq!(open("env:OTHER").unwrap().token.place(), "OTHER");
    }

    #[tokio::test]
    async fn a_restore_refuses_what_does_not_go_together() {
        let system = open(json!({ "token": "a-token" })).unwrap();
        let dataset = Dataset::new("backend.prd").unwrap();
        let given = |text: &str| Setting::given(text, "--into");
        let text = |text: &str| Some(text.to_owned());
        let nothing = RestoreOptions::default;
        for (into, choices, subject) in [
            ("-", RestoreOptions { delete_extra: true, ..nothing() }, "--delete-extra"),
            ("-", RestoreOptions { secret_name: text("app"), ..nothing() }, "--secret-name"),
            ("doppler://a/b", RestoreOptions { secret_name: text("app"), ..nothing() }, "--secret-name"),
            ("doppler://a/b", RestoreOptions { format: text("json"), ..nothing() }, "--format"),
            ("doppler://a/b", RestoreOptions { replace: true, ..nothing() }, "--replace"),
            ("doppler://a/*", nothing(), "--into"),
            ("file", nothing(), "--into"),
            ("-", RestoreOptions { token: Some(Setting::given("dp.st.x", "--token")), ..nothing() }, "--token"),
        ] {
            let error = system.target(&given(into), choices, &dataset).await.unwrap_err();
            assert_eq!((error.kind(), error.subject()), (ErrorKind::Config, subject));
        }
        let live = system.target(&given("doppler://a/b"), RestoreOptions { apply: true, ..nothing() }, &dataset).await;
        let live = live.unwrap();
        assert_eq!((live.name.as_str(), live.apply), ("config b of project a", true));
        let choices = RestoreOptions { format: text("kubernetes"), replace: true, ..nothing() };
        let file = system.target(&given("file:x.yaml"), choices, &dataset).await.unwrap();
        assert_eq!((file.name.as_str(), file.to_stdout, file.replaces), ("x.yaml (kubernetes)", false, true));
    }

    #[cfg(feature = "cli")]
    #[test]
    fn the_commands_hold_together() {
        use clap::{Arg, Args, Command};
        use lifeboat_core::cli::Commands;

        VerifyOptions::augment_args(DopplerSettings::augment_args(Command::new("verify"))).debug_assert();
        let settings = DopplerSettings::augment_args(Command::new("restore"));
        let connection = settings.get_arguments().filter(|arg| arg.get_help_heading() == Some(CONNECTION));
        let restore = Command::new("restore").arg(Arg::new("into").long("into")).args(connection.cloned());
        DopplerSystem::shape(RestoreOptions::augment_args(restore)).debug_assert();
    }
}
