//! Doppler: the secrets of one config, of all configs of a project, or of all that a token sees.

use std::time::Duration;

use lifeboat::doppler::{
    Connection, Doppler, DopplerTarget, DopplerVerifier, Form, KubernetesName, Scope, SecretsFile, VerifierOptions,
    datasets,
};
use lifeboat::memory::NoCoreDumps;
use lifeboat::outfile::Destination;
use lifeboat::{ArtifactName, Check, Compression, Dataset, Error, ErrorKind, Level, Result, Source, Verifier};

use super::{NamedTarget, RestoreChoices, SecretsChoices, Suggested, Topic, VerifyChoices};
use crate::config::setting::Setting;

/// How a place in Doppler is written.
const PLACES: &str = "write doppler://PROJECT/CONFIG, or doppler:// for the config that a service token is of";
/// In the place of a project or config: all of them.
const ALL: &str = "*";

/// How Doppler is reached, and which configs.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    token: Setting,
    api_url: Option<Setting>,
    project: Option<String>,
    config: Option<String>,
}

impl Settings {
    /// Settings of a job.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for a project without a config, or all projects with one config.
    pub(crate) fn new(
        token: Setting,
        api_url: Option<Setting>,
        project: Option<String>,
        config: Option<String>,
    ) -> Result<Self> {
        // From now on for the whole process: tokens and values come and go until it ends.
        NoCoreDumps::for_the_process();
        let wrong = |why: &str, hint: &str| Err(Error::new(ErrorKind::Config, "use", "doppler", why).hint(hint));
        match (project.as_deref(), config.as_deref()) {
            (Some(ALL), Some(config)) if config != ALL => {
                wrong("one config of all projects is nothing", "for all configs of all projects, write project = \"*\"")
            }
            (Some(project), None) if project != ALL => wrong(
                "a project without a config does not say what to back up",
                "name the config, as in config = \"prd\", or write config = \"*\" for all of them",
            ),
            (None, Some(_)) => wrong(
                "a config without a project does not say what to back up",
                "name the project; without both, it is the config that a service token is of",
            ),
            _ => Ok(Self { token, api_url, project, config }),
        }
    }

    /// As [`new`](Self::new), from `doppler://PROJECT/CONFIG`.
    pub(crate) fn of_place(token: Setting, api_url: Option<Setting>, place: Option<&str>) -> Result<Self> {
        let (project, config) = place.map(parse_place).transpose()?.unwrap_or_default();
        Self::new(token, api_url, project, config)
    }

    fn connection(&self) -> Result<Connection> {
        connect(&self.token, self.api_url.as_ref())
    }

    fn scope(&self) -> Scope {
        Scope { project: self.project.clone(), config: self.config.clone() }
    }

    /// The dataset that the settings name by themselves.
    pub(crate) fn dataset(&self) -> Result<Option<Dataset>> {
        match (&self.project, &self.config) {
            (Some(project), Some(config)) if !self.has_many() => Dataset::new(format!("{project}.{config}")).map(Some),
            _ => Ok(None),
        }
    }

    pub(crate) fn source(&self) -> Result<Box<dyn Source>> {
        Ok(Box::new(Doppler::new(self.connection()?, self.scope())?))
    }

    #[allow(clippy::unused_self, reason = "as the other backends have it")]
    pub(crate) fn suggested(&self) -> Suggested {
        // Secrets are small, and what compresses them keeps parts of them in memory that nobody wipes.
        Suggested { compression: Compression::None, max_age: Some(Duration::from_secs(8 * 86_400)) }
    }

    pub(crate) fn has_many(&self) -> bool {
        [&self.project, &self.config].into_iter().any(|name| name.as_deref() == Some(ALL))
    }

    pub(crate) async fn datasets(&self) -> Result<Vec<Dataset>> {
        datasets(&self.connection()?, self.project.as_deref().filter(|p| *p != ALL)).await
    }

    pub(crate) fn narrow(&self, dataset: &Dataset) -> Self {
        match Scope::of_dataset(dataset.as_str()) {
            Some(scope) => Self { project: scope.project, config: scope.config, ..self.clone() },
            None => self.clone(),
        }
    }

    #[allow(clippy::unused_self, reason = "as the other backends have it")]
    pub(crate) fn claims(&self, name: &ArtifactName) -> bool {
        let of_secrets = name.format == lifeboat::doppler::FORMAT;
        of_secrets && Scope::of_dataset(name.dataset.as_str()).is_some()
    }

    pub(crate) fn target(&self, into: &Setting, choices: RestoreChoices) -> Result<NamedTarget> {
        let RestoreChoices { replace, delete_extra, secrets, .. } = &choices;
        let hint = "look at the plan, then say --apply; or write a file with --into file:PATH";
        choices.refuse_all_but(&[Topic::Plans, Topic::Secrets, Topic::Tokens], "secrets", hint)?;
        let place = into.text()?;
        if let Some(destination) = Destination::parse(&place, *replace) {
            if *delete_extra {
                let why = "a file holds what the backup holds and nothing else";
                return Err(Error::new(ErrorKind::Config, "use", "--delete-extra", why));
            }
            let form = form(secrets)?;
            let name = format!("{} ({form})", destination.name());
            let to_stdout = destination == Destination::Stdout;
            return Ok(NamedTarget { target: Box::new(SecretsFile::new(destination, form)), name, to_stdout });
        }
        if secrets.format.is_some() || secrets.name.is_some() || secrets.namespace.is_some() {
            let why = "it says how a file is written, and this restores into Doppler";
            return Err(Error::new(ErrorKind::Config, "use", "--format", why)
                .hint("write to a file with --into file:PATH, or to standard output with --into -"));
        }
        if *replace {
            return Err(Error::new(ErrorKind::Config, "use", "--replace", "a config is changed secret by secret")
                .hint("look at the plan, then say --apply; --delete-extra also deletes what is not in the backup"));
        }
        let (project, config) = parse_place(&place)?;
        let scope = Scope { project, config };
        if [&scope.project, &scope.config].into_iter().any(|name| name.as_deref() == Some(ALL)) {
            return Err(into.wrong("it names several configs").hint("restore one after the other"));
        }
        let token = secrets.token.as_ref().unwrap_or(&self.token);
        let target =
            DopplerTarget::new(connect(token, self.api_url.as_ref())?, scope.clone()).delete_extra(*delete_extra);
        Ok(NamedTarget { target: Box::new(target), name: scope.name(), to_stdout: false })
    }

    pub(crate) fn verifier(&self, choices: &VerifyChoices) -> Result<Box<dyn Verifier>> {
        let live = match choices.level {
            Level::Live => Some((self.connection()?, self.scope())),
            _ => None,
        };
        let max_drift = choices.max_drift.unwrap_or(VerifierOptions::default().max_drift);
        Ok(Box::new(DopplerVerifier::new(VerifierOptions { live, max_drift })))
    }

    pub(crate) async fn check(&self) -> Vec<Check> {
        let many = self.has_many();
        let scope = if many {
            Scope { project: self.project.clone().filter(|p| p != ALL), config: None }
        } else {
            self.scope()
        };
        match self.connection() {
            Ok(connection) => lifeboat::doppler::check(&connection, &scope, many).await,
            Err(error) => vec![Check::from_error("token", &error)],
        }
    }
}

fn connect(token: &Setting, api_url: Option<&Setting>) -> Result<Connection> {
    let api_url = api_url.map(Setting::text).transpose()?;
    Connection::new(token.secret()?, token.place(), api_url.as_deref())
}

/// Reads `doppler://PROJECT/CONFIG`; both may be missing.
fn parse_place(place: &str) -> Result<(Option<String>, Option<String>)> {
    // Not printed: what is no place may be a token.
    let wrong = |why: &str| Error::new(ErrorKind::Config, "use", "the place in Doppler", why).hint(PLACES);
    let rest = place.strip_prefix("doppler://").ok_or_else(|| wrong("it does not begin with doppler://"))?;
    let fits = |name: &&str| {
        *name == ALL || name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
    };
    let names: Vec<&str> = rest.trim_end_matches('/').split('/').filter(|n| !n.is_empty()).collect();
    if !names.iter().all(fits) {
        return Err(wrong("it has a character that no project and no config has"));
    }
    match names[..] {
        [] => Ok((None, None)),
        [ALL] => Ok((Some(ALL.to_owned()), Some(ALL.to_owned()))),
        [_] => Err(wrong("it names a project and no config")),
        [project, config] => Ok((Some(project.to_owned()), Some(config.to_owned()))),
        _ => Err(wrong("it has more parts than a project and a config")),
    }
}

fn form(choices: &SecretsChoices) -> Result<Form> {
    let form: Form = choices.format.as_deref().unwrap_or("env").parse()?;
    match form {
        Form::Kubernetes(_) => {
            let default = choices.dataset.as_deref().map_or_else(KubernetesName::default, KubernetesName::of_dataset);
            let name = choices.name.as_deref().map_or_else(|| Ok(default), |name| KubernetesName::new(name, None))?;
            name.in_namespace(choices.namespace.as_deref()).map(Form::Kubernetes)
        }
        other if choices.name.is_none() && choices.namespace.is_none() => Ok(other),
        _ => Err(Error::new(ErrorKind::Config, "use", "--secret-name", "only a Kubernetes Secret has a name")
            .hint("add --format kubernetes")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(place: &str) -> Result<Settings> {
        Settings::of_place(Setting::argument("${DOPPLER_TOKEN}", "--token"), None, Some(place))
    }

    #[test]
    fn a_place_names_one_config_or_many() {
        let one = settings("doppler://backend/prd").unwrap();
        assert_eq!((one.has_many(), one.dataset().unwrap().unwrap().as_str()), (false, "backend.prd"));
        for many in ["doppler://backend/*", "doppler://*", "doppler://*/*"] {
            let many = settings(many).unwrap();
            assert!(many.has_many() && many.dataset().unwrap().is_none());
            let narrow = many.narrow(&Dataset::new("backend.dev").unwrap());
            assert_eq!(narrow.scope(), Scope::of("backend", "dev"));
        }
        assert_eq!(settings("doppler://").unwrap().scope(), Scope::default());
    }

    #[test]
    fn what_is_no_place_is_refused_and_not_printed() {
        for wrong in ["dp.st.secret-token", "doppler://a", "doppler://*/prd", "doppler://a/b/c", "doppler://a b/c"] {
            let error = settings(wrong).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config, "{wrong}");
            assert!(!format!("{error:?}").contains("secret-token"));
        }
    }
}
