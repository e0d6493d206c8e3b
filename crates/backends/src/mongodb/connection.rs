//! How to connect to a deployment. The driver does the rest: SCRAM, X.509, TLS, SRV records, read preference.

use std::fmt;
use std::time::Duration;

use lifeboat_core::{Error, ErrorKind, Result};
use mongodb::Client;
use mongodb::options::{ClientOptions, ConnectionString, HostInfo, SelectionCriteria};
use secrecy::{ExposeSecret, SecretString};

use super::failure;

/// How long finding a suitable server may take, unless the URL says otherwise (`serverSelectionTimeoutMS`).
const SELECTION_LIMIT: Duration = Duration::from_secs(15);

/// How long a server may take to authenticate us and to describe itself.
const ANSWER_LIMIT: Duration = Duration::from_secs(15);

const HINT: &str = "write mongodb://user:password@host:27017/database?authSource=admin, or mongodb+srv://… for a cluster with SRV \
                    records; percent-encode : / ? # [ ] @ and % in user and password";

/// A deployment, a database in it, and the credentials.
///
/// Parsed from a standard connection string: `mongodb://user:password@host:27017/database?tls=true&tlsCAFile=…` or
/// `mongodb+srv://…`. Without a database, it means all of them.
#[derive(Clone)]
pub struct Connection {
    url: SecretString,
    redacted: String,
    database: Option<String>,
    selection_limit: Duration,
}

impl Connection {
    /// Parses a connection string. Nothing is contacted.
    ///
    /// # Errors
    /// [`ErrorKind::Config`], saying what is wrong. The error contains no part of the string.
    pub fn parse(url: &SecretString) -> Result<Self> {
        let text = url.expose_secret();
        let wrong = |why: String| Error::new(ErrorKind::Config, "read", "the MongoDB URL", why).hint(HINT);
        if !(text.starts_with("mongodb://") || text.starts_with("mongodb+srv://")) {
            return Err(wrong("it starts with neither mongodb:// nor mongodb+srv://".to_owned()));
        }
        let read = ConnectionString::parse(text).map_err(|error| {
            // The driver quotes what it cannot read, and a password that is not encoded is cut in odd places.
            match text.contains('@') {
                true => wrong(
                    "the driver cannot read it; its message is not shown, because it may hold the password".to_owned(),
                ),
                false => wrong(failure::message(&error)),
            }
        })?;
        let hosts = match &read.host_info {
            HostInfo::HostIdentifiers(hosts) => hosts.iter().map(ToString::to_string).collect::<Vec<_>>().join(","),
            HostInfo::DnsRecord(name) => name.clone(),
            _ => "a host".to_owned(),
        };
        let scheme = text.split("://").next().unwrap_or("mongodb");
        let user = read.credential.as_ref().and_then(|c| c.username.as_deref());
        let user = user.map(|u| format!("{u}@")).unwrap_or_default();
        Ok(Self {
            url: url.clone(),
            redacted: format!("{scheme}://{user}{hosts}"),
            database: read.default_database,
            selection_limit: read.server_selection_timeout.unwrap_or(SELECTION_LIMIT),
        })
    }

    /// The same deployment, another database.
    #[must_use]
    pub fn with_database(&self, database: impl Into<String>) -> Self {
        Self { database: Some(database.into()), ..self.clone() }
    }

    /// The database, if one is named.
    pub fn database(&self) -> Option<&str> {
        self.database.as_deref()
    }

    /// The deployment and database without password and options, for messages: `mongodb://user@host:27017/database`.
    pub fn redacted(&self) -> String {
        format!("{}/{}", self.redacted, self.database.as_deref().unwrap_or_default())
    }

    /// How long the first responses may take: finding a server, authentication, and its description of itself.
    pub(crate) fn limit(&self) -> Duration {
        self.selection_limit + ANSWER_LIMIT
    }

    /// Creates a client of the driver. It looks for servers in the background; the first command waits for one.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for options that cannot be combined or a certificate that cannot be read;
    /// [`ErrorKind::Unavailable`] if the SRV records cannot be resolved.
    pub(crate) async fn client(&self) -> Result<Client> {
        let mut options =
            ClientOptions::parse(self.url.expose_secret()).await.map_err(|e| self.error("connect to", &e))?;
        options.app_name = Some("lifeboat".to_owned());
        options.server_selection_timeout = Some(self.selection_limit);
        Client::with_options(options).map_err(|e| self.error("connect to", &e))
    }

    /// Converts an error of the driver into one about this deployment.
    pub(crate) fn error(&self, operation: &'static str, error: &mongodb::error::Error) -> Error {
        failure::of_driver(operation, &self.redacted(), error)
    }
}

/// The read preference of the connection string. Commands built by hand do not use it automatically.
pub(crate) fn selection(client: &Client) -> Option<SelectionCriteria> {
    client.selection_criteria().cloned()
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Connection").field(&self.redacted()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Result<Connection> {
        Connection::parse(&SecretString::from(url.to_owned()))
    }

    #[test]
    fn a_connection_string_is_read_as_drivers_read_it() {
        let c = parse("mongodb://b%40ck:p%2Fw@a.example:27018,b.example/shop?replicaSet=rs0&authSource=admin").unwrap();
        assert_eq!(c.database(), Some("shop"));
        assert_eq!(c.redacted(), "mongodb://b@ck@a.example:27018,b.example:27017/shop");
        let c = parse("mongodb+srv://u:p@cluster.example.net/?retryWrites=true").unwrap();
        assert_eq!((c.database(), &*c.redacted()), (None, "mongodb+srv://u@cluster.example.net/"));
        assert_eq!(c.with_database("x").database(), Some("x"));
    }

    #[test]
    fn what_is_wrong_is_said_without_the_password() {
        for url in [
            "postgres://u:s3cret@h/d",
            "mongodb://u:s3cret?@h/d",
            "mongodb://u:s3/cret@h/d",
            "mongodb://u:s3cret@h:s3cret/d",
            "mongodb://u:s3cret@h/d?readPreference=s3cret",
            "s3cret",
        ] {
            let error = parse(url).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config);
            assert!(!format!("{error} {error:?}").contains("s3"), "{error}");
        }
    }

    #[test]
    fn neither_debug_nor_the_redacted_form_holds_the_password() {
        let c = parse("mongodb://u:s3cret@h/d").unwrap();
        assert!(!format!("{c:?} {}", c.redacted()).contains("s3cret"));
    }
}
