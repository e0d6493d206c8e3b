//! `[sinks.NAME]`, and looking sinks up by name.

use std::collections::BTreeMap;
use std::sync::Arc;

use lifeboat_core::retention::Policy;
use lifeboat_core::system::Sinks;
use lifeboat_core::words::suggest;
use lifeboat_core::{Error, ErrorKind, Place, Result, Setting, Sink};
use lifeboat_sinks::{Credentials, Lock};

/// `[sinks.NAME]`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SinkConfig {
    /// Its URL.
    pub url: Setting,
    /// The endpoint of an S3 store, if not the default of the URL's scheme.
    pub endpoint: Option<Setting>,
    /// The region of an S3 store.
    pub region: Option<Setting>,
    /// Credentials; without them, those of the environment.
    pub access_key: Option<Setting>,
    /// Belongs to the access key.
    pub secret_key: Option<Setting>,
    /// Belongs to temporary credentials.
    pub session_token: Option<Setting>,
    /// Object Lock for what is stored.
    pub lock: Option<Lock>,
    /// What is kept here, in place of what the jobs keep.
    pub keep: Option<Policy>,
}

impl SinkConfig {
    /// The sink at a URL, with credentials from the environment.
    pub fn of_url(url: Setting) -> Self {
        Self {
            url,
            endpoint: None,
            region: None,
            access_key: None,
            secret_key: None,
            session_token: None,
            lock: None,
            keep: None,
        }
    }

    /// Opens it. Nothing is contacted yet.
    ///
    /// # Errors
    /// [`Config`](lifeboat_core::ErrorKind::Config): a wrong URL, a variable that is not set.
    pub fn open(&self) -> Result<Arc<dyn Sink>> {
        let text = |setting: &Option<Setting>| setting.as_ref().map(Setting::text).transpose();
        let credentials = match (&self.access_key, &self.secret_key) {
            (Some(access), Some(secret)) => {
                use secrecy::ExposeSecret;
                let mut credentials = Credentials::new(access.secret()?.expose_secret(), secret.secret()?)
                    .from_places(access.place(), secret.place());
                credentials.session_token = self.session_token.as_ref().map(Setting::secret).transpose()?;
                Some(credentials)
            }
            (None, None) => None,
            (Some(half), None) | (None, Some(half)) => {
                return Err(half
                    .wrong("access_key and secret_key must be given together")
                    .hint("give both here, or set both in the environment"));
            }
        };
        let settings = lifeboat_sinks::Settings::default()
            .credentials(credentials)
            .endpoint(text(&self.endpoint)?)
            .region(text(&self.region)?)
            .lock(self.lock);
        lifeboat_sinks::open_with(&self.url.text()?, &settings)
    }

    /// The sink as a place with this name.
    fn place(&self, name: &str) -> Place {
        let config = self.clone();
        Place::new(name, move || config.open())
    }
}

/// The sinks of a file, by their names; `None` for one with a mistake.
#[derive(Debug, Default)]
pub(crate) struct Named {
    pub(crate) sinks: BTreeMap<String, Option<SinkConfig>>,
    /// Whether a part of the file could not be read, and may hold what is missing.
    pub(crate) partial: bool,
}

impl Sinks for Named {
    fn place(&self, named: &Setting) -> Result<Place> {
        if named.raw().contains("://") {
            return Ok(SinkConfig::of_url(named.clone()).place(named.raw()));
        }
        let name = named.raw();
        match self.sinks.get(name) {
            Some(Some(config)) => Ok(config.place(name)),
            // Its own mistake is reported, and nothing of the file is opened.
            Some(None) => Ok(broken(name)),
            None if self.partial => Ok(broken(name)),
            None => {
                let known: Vec<&str> = self.sinks.keys().map(String::as_str).collect();
                Err(named.wrong(format!("there is no sink \"{name}\"")).hint(suggest(name, &known)))
            }
        }
    }
}

fn broken(name: &str) -> Place {
    let subject = format!("sink {name}");
    Place::new(name, move || Err(Error::new(ErrorKind::Config, "open", &subject, "the config file has mistakes")))
}

/// Sinks named by their URLs alone, without a config file.
#[derive(Clone, Copy, Debug, Default)]
pub struct ByUrl;

impl Sinks for ByUrl {
    fn place(&self, named: &Setting) -> Result<Place> {
        Ok(SinkConfig::of_url(named.clone()).place(named.raw()))
    }
}
