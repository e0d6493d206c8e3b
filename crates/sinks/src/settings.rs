//! Settings of a sink that its URL does not hold: credentials, endpoint, retries, memory.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use lifeboat_core::{Error, ErrorKind, Result};
use secrecy::SecretString;

/// What [`open_with`](crate::open_with) needs besides the URL.
///
/// ```
/// use lifeboat_sinks::{Credentials, Environment, Settings};
///
/// let credentials = Credentials::new("writer", "not-a-real-secret");
/// let settings = Settings::default().environment(Environment::empty()).credentials(credentials);
/// let sink = lifeboat_sinks::open_with("minio://127.0.0.1:9000/backups?tls=false", &settings);
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Settings {
    /// Where to look up credentials and regions that are not given here. By default, the process's environment.
    pub environment: Environment,
    /// Credentials. They override those of the environment.
    pub credentials: Option<Credentials>,
    /// The store's endpoint, `https://host:port`. Overrides the URL's and the environment's.
    pub endpoint: Option<String>,
    /// The bucket's region. Overrides the URL's and the environment's.
    pub region: Option<String>,
    /// Locks every new backup (Object Lock). Overrides the URL's.
    pub lock: Option<Lock>,
    /// How, and how long, a failing request is retried. The environment's `LIFEBOAT_RETRY_LIMIT`, in seconds, overrides
    /// `retry.limit`.
    pub retry: Retry,
    /// Bytes that an upload may hold in memory: the parts in flight and the one being filled. One part is always
    /// allowed.
    pub memory: u64,
    /// Bytes of each of the first parts of a multipart upload; later ones are at least as large. A value below
    /// the store's minimum (5 MiB) counts as the minimum.
    pub first_part: u64,
}

lifeboat_core::setters!(Settings {
    environment: Environment,
    credentials: Option<Credentials>,
    endpoint: Option<String>,
    region: Option<String>,
    lock: Option<Lock>,
    retry: Retry,
    memory: u64,
    first_part: u64,
});

impl Default for Settings {
    fn default() -> Self {
        Self {
            environment: Environment::process(),
            credentials: None,
            endpoint: None,
            region: None,
            lock: None,
            retry: Retry::default(),
            memory: 48 << 20,
            first_part: 8 << 20,
        }
    }
}

/// How new objects are locked: for that time the store lets nobody delete or replace them.
///
/// It applies to objects stored with [`PutOptions::lock`](lifeboat_core::sink::PutOptions::lock), not to notes, probes and
/// records of verifications.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Lock {
    /// Who can lift it.
    pub mode: LockMode,
    /// For how many days from the write.
    pub days: u32,
}

/// Who can lift a lock before its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LockMode {
    /// An identity with a special right (`s3:BypassGovernanceRetention`).
    Governance,
    /// Nobody, not even the owner of the account.
    Compliance,
}

impl fmt::Display for LockMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Governance => "governance",
            Self::Compliance => "compliance",
        })
    }
}

impl Lock {
    /// Creates a lock of `days` days.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for an unknown mode, and for days outside 1 to 36,500, which stores refuse.
    pub fn new(mode: &str, days: u32) -> Result<Self> {
        let wrong = |why: String| {
            Error::new(ErrorKind::Config, "use", format!("lock \"{mode}:{days}\""), why)
                .hint("write the mode and the days, as in governance:30 or compliance:30")
        };
        let mode = match mode {
            "governance" => LockMode::Governance,
            "compliance" => LockMode::Compliance,
            _ => return Err(wrong("its mode is neither governance nor compliance".to_owned())),
        };
        if !(1..=36_500).contains(&days) {
            return Err(wrong("its days are not between 1 and 36500".to_owned()));
        }
        Ok(Self { mode, days })
    }
}

impl std::str::FromStr for Lock {
    type Err = Error;

    /// `governance:30` or `compliance:30`: the mode, and days.
    fn from_str(text: &str) -> Result<Self> {
        let parts = text.split_once(':').and_then(|(mode, days)| Some((mode, days.parse().ok()?)));
        let Some((mode, days)) = parts else {
            let why = "it is not a mode and a number of days";
            return Err(Error::new(ErrorKind::Config, "use", format!("lock \"{text}\""), why)
                .hint("write governance:30 or compliance:30"));
        };
        Self::new(mode, days)
    }
}

/// An access key and its secret.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Credentials {
    /// The access key's id: not a secret, but it names an account.
    pub access_key: String,
    /// The secret key.
    pub secret_key: SecretString,
    /// The session token, for temporary credentials.
    pub session_token: Option<SecretString>,
    /// Where the access key and the secret key came from, for hints: `secret_key of [sinks.offsite]`.
    pub places: Option<(String, String)>,
}

impl Credentials {
    /// Creates credentials without a session token.
    pub fn new(access_key: impl Into<String>, secret_key: impl Into<SecretString>) -> Self {
        Self { access_key: access_key.into(), secret_key: secret_key.into(), session_token: None, places: None }
    }

    /// With the places that the access key and the secret key came from, for hints.
    #[must_use]
    pub fn from_places(self, access_key: impl Into<String>, secret_key: impl Into<String>) -> Self {
        Self { places: Some((access_key.into(), secret_key.into())), ..self }
    }

    /// With the session token of temporary credentials.
    #[must_use]
    pub fn session_token(self, session_token: Option<SecretString>) -> Self {
        Self { session_token, ..self }
    }
}

/// How, and how long, a failing request is retried: the pause doubles from `first` to `longest`, with jitter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Retry {
    /// How long a request is retried, measured from its first failure.
    pub limit: Duration,
    /// The same while the store has never answered: a wrong address should not take minutes to report.
    pub first_contact: Duration,
    /// The first pause.
    pub first: Duration,
    /// The longest pause.
    pub longest: Duration,
    /// A request that transfers nothing for this long is aborted and retried.
    pub stall: Duration,
}

lifeboat_core::setters!(Retry {
    limit: Duration,
    first_contact: Duration,
    first: Duration,
    longest: Duration,
    stall: Duration,
});

impl Default for Retry {
    fn default() -> Self {
        Self {
            limit: Duration::from_secs(180),
            first_contact: Duration::from_secs(15),
            first: Duration::from_millis(200),
            longest: Duration::from_secs(15),
            stall: Duration::from_secs(60),
        }
    }
}

impl Retry {
    /// With the limit from the environment, if it sets one.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] when it is not a number of seconds.
    #[cfg(feature = "s3")]
    pub(crate) fn limited_by(self, environment: &Environment) -> Result<Self> {
        const NAME: &str = "LIFEBOAT_RETRY_LIMIT";
        let Some(text) = environment.get(NAME) else { return Ok(self) };
        let seconds = text.parse().map_err(|_| {
            Error::new(ErrorKind::Config, "read", NAME, format!("\"{text}\" is not a number of seconds"))
        })?;
        Ok(Self { limit: Duration::from_secs(seconds), ..self })
    }
}

/// Where variables are looked up: the process's environment, or a fixed set (for tests, or a program with its own
/// configuration).
#[derive(Clone)]
pub struct Environment(Option<Arc<BTreeMap<String, String>>>);

impl Environment {
    /// Uses the process's environment, read at each look-up.
    pub fn process() -> Self {
        Self(None)
    }

    /// Uses no variables at all.
    pub fn empty() -> Self {
        Self(Some(Arc::default()))
    }

    /// Uses these variables and no others.
    pub fn fixed<K: Into<String>, V: Into<String>>(variables: impl IntoIterator<Item = (K, V)>) -> Self {
        Self(Some(Arc::new(variables.into_iter().map(|(k, v)| (k.into(), v.into())).collect())))
    }

    /// The value of a variable; an empty one counts as unset.
    pub fn get(&self, name: &str) -> Option<String> {
        match &self.0 {
            None => std::env::var(name).ok(),
            Some(fixed) => fixed.get(name).cloned(),
        }
        .filter(|value| !value.is_empty())
    }

    /// Every variable whose name starts with `prefix`.
    #[cfg(feature = "s3")]
    pub(crate) fn starting_with(&self, prefix: &str) -> Vec<(String, String)> {
        match &self.0 {
            None => std::env::vars_os()
                .filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)))
                .filter(|(k, _)| k.starts_with(prefix))
                .collect(),
            Some(fixed) => {
                fixed.iter().filter(|(k, _)| k.starts_with(prefix)).map(|(k, v)| (k.clone(), v.clone())).collect()
            }
        }
    }

    /// The value of a variable, or the content of the file that `<name>_FILE` names, without trailing white space.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] when that file cannot be read.
    pub fn get_or_file(&self, name: &str) -> Result<Option<String>> {
        if let Some(value) = self.get(name) {
            return Ok(Some(value));
        }
        let Some(path) = self.get(&format!("{name}_FILE")) else { return Ok(None) };
        let text = std::fs::read_to_string(&path).map_err(|error| {
            Error::new(ErrorKind::Config, "read", format!("{name}_FILE ({path})"), error.to_string())
        })?;
        Ok(Some(text.trim_end().to_owned()).filter(|value| !value.is_empty()))
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            None => f.write_str("Environment(process)"),
            Some(fixed) => f.debug_tuple("Environment").field(&fixed.keys()).finish(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_comes_from_a_file_when_only_its_file_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("key");
        std::fs::write(&file, "s3cr3t\n").unwrap();
        let env =
            Environment::fixed([("A_FILE", file.to_str().unwrap()), ("B", "b"), ("C", ""), ("D_FILE", "/nowhere")]);
        assert_eq!(env.get_or_file("A").unwrap().as_deref(), Some("s3cr3t"));
        assert_eq!(env.get_or_file("B").unwrap().as_deref(), Some("b"));
        assert_eq!(env.get_or_file("C").unwrap(), None);
        assert_eq!(env.get_or_file("D").unwrap_err().kind(), ErrorKind::Config);
    }

    #[test]
    fn a_lock_is_a_mode_and_days() {
        assert_eq!("governance:30".parse::<Lock>().unwrap(), Lock { mode: LockMode::Governance, days: 30 });
        assert_eq!("compliance:1".parse::<Lock>().unwrap(), Lock { mode: LockMode::Compliance, days: 1 });
        for wrong in
            ["", "30", "governance", "governance:", "governance:0", "legal:3", "governance:40000", "governance:-1"]
        {
            assert_eq!(wrong.parse::<Lock>().unwrap_err().kind(), ErrorKind::Config, "{wrong}");
        }
    }

    #[test]
    fn no_secret_is_in_debug_output() {
        let settings = Settings {
            credentials: Some(Credentials::new("me", "hunter2")),
            environment: Environment::fixed([("AWS_SECRET_ACCESS_KEY", "hunter2")]),
            ..Settings::default()
        };
        assert!(!format!("{settings:?}").contains("hunter2"));
    }
}
