//! The source: every secret of one config.

use async_trait::async_trait;
use lifeboat_core::progress::Event;
use lifeboat_core::{Context, Dataset, Description, Error, ErrorKind, Reading, Result, Source, stream};
use tokio::sync::OnceCell;
use tokio_util::sync::CancellationToken;

use super::api::{Connection, Scope};
use super::content::{Salt, SecretsTap};
use super::document::Document;
use super::{FORMAT, SYSTEM};

/// The number of names listed in a note before it only says how many more there are.
const LISTED: usize = 5;

/// Backs up the secrets of one config.
#[derive(Debug)]
pub struct Doppler {
    connection: Connection,
    scope: Scope,
    salt: Salt,
    /// The project and config, once known.
    found: OnceCell<Scope>,
}

impl Doppler {
    /// Creates a source that reads a config. A service token implies project and config; other tokens need both.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] if there are no random numbers.
    pub fn new(connection: Connection, scope: Scope) -> Result<Self> {
        Ok(Self { connection, scope, salt: Salt::random()?, found: OnceCell::new() })
    }

    async fn place(&self, cancel: &CancellationToken) -> Result<&Scope> {
        let look = async {
            let (project, config) = self.connection.resolve(&self.scope, cancel).await?;
            Ok(Scope::of(project, config))
        };
        self.found.get_or_try_init(|| look).await
    }
}

#[async_trait]
impl Source for Doppler {
    async fn describe(&self) -> Result<Description> {
        let cancel = CancellationToken::new();
        let scope = self.place(&cancel).await?;
        if self.connection.names(scope, &cancel).await?.is_empty() {
            return Err(Error::new(ErrorKind::NotFound, "back up", scope.name(), "it has no secrets")
                .hint("check the project and the config: an empty backup is probably not what you want"));
        }
        Ok(Description::new(SYSTEM, FORMAT)
            .unit(super::SECRETS)
            .dataset(scope.dataset())
            .tool("Doppler API v3".to_owned()))
    }

    fn is_confidential(&self) -> bool {
        true
    }

    async fn open(&self, cx: &Context) -> Result<Reading> {
        let scope = self.place(&cx.cancel).await?;
        let secrets = self.connection.secrets(scope, &cx.cancel).await?;
        if secrets.is_empty() {
            return Err(Error::new(ErrorKind::NotFound, "back up", scope.name(), "it has no secrets"));
        }
        let restricted: Vec<&str> =
            secrets.iter().filter(|(_, s)| s.value().is_none()).map(|(name, _)| name.as_str()).collect();
        if !restricted.is_empty() {
            cx.progress.event(Event::Note(format!(
                "{} without a value in the backup, because the token may not read them (restricted): {}",
                match restricted.len() {
                    1 => "1 secret is".to_owned(),
                    n => format!("{n} secrets are"),
                },
                listed(&restricted)
            )));
        }
        let document = Document::new(scope, self.salt.clone(), secrets);
        let bytes = document.write()?.into_bytes();
        drop(document);
        Ok(Reading::new(stream::once(bytes), Box::new(SecretsTap::new(false)?)))
    }
}

/// The first names of a list.
pub(super) fn listed(names: &[&str]) -> String {
    let more = names.len().saturating_sub(LISTED);
    let shown = names[..names.len().min(LISTED)].join(", ");
    if more == 0 { shown } else { format!("{shown} and {more} more") }
}

/// Lists the datasets that a token sees: every config, of one project or of all, as `<project>.<config>`.
///
/// # Errors
/// Any error of the API; [`ErrorKind::Config`] for a config whose name is not valid for a dataset.
pub async fn datasets(connection: &Connection, project: Option<&str>) -> Result<Vec<Dataset>> {
    let cancel = CancellationToken::new();
    let projects = match project {
        Some(project) => vec![project.to_owned()],
        None => connection.projects(&cancel).await?,
    };
    let mut found = Vec::new();
    for project in projects {
        for config in connection.configs(&project, &cancel).await? {
            found.push(Dataset::new(format!("{project}.{}", config.name))?);
        }
    }
    Ok(found)
}
