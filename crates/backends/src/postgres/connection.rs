//! Where a server is and how to get in: for our own sessions and for the client programs.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use lifeboat_core::{Error, ErrorKind, Result};
use percent_encoding::percent_decode_str;
use secrecy::{ExposeSecret, SecretString};
use tokio_postgres::config::ChannelBinding;
use url::Url;

use super::passfile;

/// How a connection is protected. Whenever TLS is used, the server's certificate and name are checked, for our own
/// sessions and for pg_dump and pg_restore alike: stricter than libpq's `require`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SslMode {
    /// Never.
    Disable,
    /// When the server offers it.
    Prefer,
    /// Always.
    Require,
}

/// A server, a database on it, and how to get in.
///
/// Read from a URL: `postgres://user:password@host:port/database?sslmode=…&sslrootcert=…`. What the URL leaves out comes
/// from `PGHOST`, `PGPORT`, `PGUSER`, `PGPASSWORD`, `PGPASSFILE` or `~/.pgpass`, as libpq has it. A host that starts with
/// `/` (`%2Fvar%2Frun%2Fpostgresql`) is the folder of a Unix socket.
#[derive(Clone)]
pub struct Connection {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) user: String,
    pub(crate) password: Option<SecretString>,
    pub(crate) database: String,
    pub(crate) ssl_mode: SslMode,
    pub(crate) ssl_root: Option<PathBuf>,
    pub(crate) ssl_cert: Option<PathBuf>,
    pub(crate) ssl_key: Option<PathBuf>,
    pub(crate) options: Option<String>,
    pub(crate) connect_timeout: Duration,
    pub(crate) channel_binding: ChannelBinding,
}

const HINT: &str =
    "write postgres://user@host:5432/database?sslmode=require, with the password in PGPASSWORD or ~/.pgpass";

impl Connection {
    /// Reads a URL.
    ///
    /// # Errors
    /// [`ErrorKind::Config`], naming the part that is wrong. The password is never in it.
    pub fn parse(url: &SecretString) -> Result<Self> {
        let wrong = |why: String| Error::new(ErrorKind::Config, "read", "the PostgreSQL URL", why).hint(HINT);
        let parsed = Url::parse(url.expose_secret()).map_err(|e| wrong(format!("it is not a URL ({e})")))?;
        if !matches!(parsed.scheme(), "postgres" | "postgresql") {
            return Err(wrong(format!("its scheme is {}, not postgres", parsed.scheme())));
        }
        let decode = |text: &str, part: &str| {
            percent_decode_str(text)
                .decode_utf8()
                .map(std::borrow::Cow::into_owned)
                .map_err(|_| wrong(format!("its {part} is not UTF-8")))
        };
        let variable = |name: &str| std::env::var(name).ok().filter(|v| !v.is_empty());
        let mut host = decode(parsed.host_str().unwrap_or_default(), "host")?;
        if host.contains(',') {
            return Err(wrong("it names several hosts; name the one to read from".to_owned()));
        }
        // A URL has the brackets of an IPv6 address; a host has none.
        if let Some(address) = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
            host = address.to_owned();
        }
        if host.is_empty() {
            host = variable("PGHOST").unwrap_or_else(|| "/var/run/postgresql".to_owned());
        }
        let port = match parsed.port() {
            Some(port) => port,
            None => match variable("PGPORT") {
                Some(text) => text.parse().map_err(|_| wrong(format!("PGPORT is \"{text}\", not a port")))?,
                None => 5432,
            },
        };
        let user = match decode(parsed.username(), "user")? {
            user if user.is_empty() => variable("PGUSER")
                .or_else(|| variable("USER"))
                .ok_or_else(|| wrong("it names no user, and neither do PGUSER and USER".to_owned()))?,
            user => user,
        };
        let database = match decode(parsed.path().trim_start_matches('/'), "database")? {
            database if database.is_empty() => variable("PGDATABASE").unwrap_or_else(|| user.clone()),
            database => database,
        };
        if database.contains('\0') || user.contains('\0') {
            return Err(wrong("it has a NUL byte in a name".to_owned()));
        }
        let mut made = Self {
            host,
            port,
            user,
            password: None,
            database,
            ssl_mode: SslMode::Prefer,
            ssl_root: None,
            ssl_cert: None,
            ssl_key: None,
            options: None,
            connect_timeout: Duration::from_secs(15),
            channel_binding: ChannelBinding::Prefer,
        };
        made.set_default_ssl_mode();
        let mut password = match parsed.password() {
            Some(password) => Some(SecretString::from(decode(password, "password")?)),
            None => None,
        };
        for (name, value) in parsed.query_pairs() {
            let value = value.into_owned();
            match &*name {
                "sslmode" => {
                    made.ssl_mode = match &*value {
                        "disable" => SslMode::Disable,
                        "allow" | "prefer" => SslMode::Prefer,
                        "require" | "verify-ca" | "verify-full" => SslMode::Require,
                        _ => {
                            return Err(wrong(format!("sslmode={value} is not known; use disable, prefer or require")));
                        }
                    };
                }
                "sslrootcert" => made.ssl_root = (value != "system").then(|| PathBuf::from(value)),
                "sslcert" => made.ssl_cert = Some(value.into()),
                "sslkey" => made.ssl_key = Some(value.into()),
                "options" => made.options = Some(value),
                "password" => password = Some(SecretString::from(value)),
                "host" => {
                    made.host = value;
                    made.set_default_ssl_mode();
                }
                "connect_timeout" => {
                    let seconds = value
                        .parse()
                        .map_err(|_| wrong(format!("connect_timeout={value} is not a number of seconds")))?;
                    made.connect_timeout = Duration::from_secs(seconds);
                }
                "channel_binding" => {
                    made.channel_binding = match &*value {
                        "disable" => ChannelBinding::Disable,
                        "prefer" => ChannelBinding::Prefer,
                        "require" => ChannelBinding::Require,
                        _ => {
                            return Err(wrong(format!(
                                "channel_binding={value} is not known; use disable, prefer or require"
                            )));
                        }
                    };
                }
                "application_name" => {}
                other => {
                    return Err(wrong(format!(
                        "its parameter {other} is not known; known are sslmode, sslrootcert, sslcert, sslkey, channel_binding, options, host and connect_timeout"
                    )));
                }
            }
        }
        if made.channel_binding == ChannelBinding::Require && made.ssl_mode != SslMode::Require {
            // There is nothing to bind to without TLS (libpq ends such a connection too).
            if made.ssl_mode == SslMode::Disable {
                return Err(wrong("channel_binding=require needs TLS: add sslmode=require".to_owned()));
            }
            made.ssl_mode = SslMode::Require;
        }
        made.password = match password.or_else(|| variable("PGPASSWORD").map(SecretString::from)) {
            Some(password) => Some(password),
            None => passfile::lookup(&made)?,
        };
        Ok(made)
    }

    /// On the machine itself nobody listens in, and Debian's self-signed certificate would only be in the way.
    fn set_default_ssl_mode(&mut self) {
        let local = self.is_socket() || matches!(&*self.host, "localhost" | "127.0.0.1" | "::1");
        self.ssl_mode = if local { SslMode::Disable } else { SslMode::Prefer };
    }

    pub(crate) fn is_socket(&self) -> bool {
        self.host.starts_with('/')
    }

    /// The same server, another database.
    #[must_use]
    pub fn with_database(&self, database: impl Into<String>) -> Self {
        Self { database: database.into(), ..self.clone() }
    }

    /// The database.
    pub fn database(&self) -> &str {
        &self.database
    }

    /// The server and database without password, for messages: `postgres://user@host:5432/database`.
    pub fn redacted(&self) -> String {
        let (open, close) = if self.host.contains(':') { ("[", "]") } else { ("", "") };
        format!("postgres://{}@{open}{}{close}:{}/{}", self.user, self.host, self.port, self.database)
    }

    /// The variables by which libpq's programs get all of this, so that nothing of it is in their arguments. `encrypted`
    /// says whether our own session ended up with TLS: theirs then must, with the same checks. Where the URL demands it, they
    /// have it in any case.
    pub(crate) fn environment(&self, encrypted: bool) -> Vec<(&'static str, String)> {
        let encrypted = encrypted || (self.ssl_mode == SslMode::Require && !self.is_socket());
        let mut vars = vec![
            ("PGHOST", self.host.clone()),
            ("PGPORT", self.port.to_string()),
            ("PGUSER", self.user.clone()),
            ("PGDATABASE", self.database.clone()),
            ("PGAPPNAME", "lifeboat".to_owned()),
            (
                "PGCONNECT_TIMEOUT",
                match self.connect_timeout.as_secs() {
                    0 => "0".to_owned(),
                    seconds => seconds.max(2).to_string(),
                },
            ),
            // Times with a zone are written in the session's zone: the proof holds only if that is always the same.
            ("PGTZ", "UTC".to_owned()),
        ];
        if let Some(password) = &self.password {
            vars.push(("PGPASSWORD", password.expose_secret().to_owned()));
        }
        if let Some(options) = &self.options {
            vars.push(("PGOPTIONS", options.clone()));
        }
        if !encrypted {
            vars.push(("PGSSLMODE", "disable".to_owned()));
            return vars;
        }
        vars.push(("PGSSLMODE", "verify-full".to_owned()));
        let binding = match self.channel_binding {
            ChannelBinding::Disable => "disable",
            ChannelBinding::Require => "require",
            _ => "prefer",
        };
        vars.push(("PGCHANNELBINDING", binding.to_owned()));
        let root = self.ssl_root.clone().or_else(system_roots).unwrap_or_else(|| PathBuf::from("system"));
        let show = |path: &Path| path.to_string_lossy().into_owned();
        vars.push(("PGSSLROOTCERT", show(&root)));
        if let Some(cert) = &self.ssl_cert {
            vars.push(("PGSSLCERT", show(cert)));
        }
        if let Some(key) = &self.ssl_key {
            vars.push(("PGSSLKEY", show(key)));
        }
        vars
    }
}

/// The bundle of trusted roots as the distributions lay it. libpq before 16 cannot be told "the system's".
fn system_roots() -> Option<PathBuf> {
    let named = std::env::var_os("SSL_CERT_FILE").map(PathBuf::from);
    let known = ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];
    named.into_iter().chain(known.into_iter().map(PathBuf::from)).find(|path| path.is_file())
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
    fn a_url_is_read_with_its_escapes() {
        let c = parse("postgres://b%40ck:p%2Fw@db.example:6543/my%20db?sslmode=require&sslrootcert=/ca.pem").unwrap();
        assert_eq!((&*c.user, &*c.host, c.port, &*c.database), ("b@ck", "db.example", 6543, "my db"));
        assert_eq!(c.password.as_ref().unwrap().expose_secret(), "p/w");
        assert_eq!(c.ssl_mode, SslMode::Require);
        assert_eq!(c.redacted(), "postgres://b@ck@db.example:6543/my db");
        let c = parse("postgresql://u@%2Frun%2Fpg:5433/d").unwrap();
        assert!(c.is_socket());
        assert_eq!(c.host, "/run/pg");
    }

    #[test]
    fn tls_is_preferred_over_a_network_and_off_on_the_machine_itself() {
        assert_eq!(parse("postgres://u@db/d").unwrap().ssl_mode, SslMode::Prefer);
        for local in ["localhost", "127.0.0.1", "[::1]", "%2Ftmp"] {
            assert_eq!(parse(&format!("postgres://u@{local}/d")).unwrap().ssl_mode, SslMode::Disable, "{local}");
        }
    }

    #[test]
    fn what_is_wrong_is_said_without_the_password() {
        for url in [
            "mysql://u:s3cret@h/d",
            "postgres://u:s3cret@h:port/d",
            "postgres://u:s3cret@h/d?sslmode=strong",
            "postgres://u:s3cret@h/d?nonsense=1",
            "postgres://u:s3cret@a,b/d",
            "s3cret",
        ] {
            let error = parse(url).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config);
            assert!(!format!("{error} {error:?}").contains("s3cret"), "{error}");
        }
    }

    #[test]
    fn neither_debug_nor_the_redacted_form_holds_the_password() {
        let c = parse("postgres://u:s3cret@h/d").unwrap();
        assert!(!format!("{c:?} {}", c.redacted()).contains("s3cret"));
    }

    #[test]
    fn programs_get_the_same_checks_as_our_own_sessions() {
        let c = parse("postgres://u:s3cret@h/d?sslmode=require&sslrootcert=/ca.pem").unwrap();
        let vars = c.environment(true);
        assert!(vars.contains(&("PGSSLMODE", "verify-full".to_owned())));
        assert!(vars.contains(&("PGSSLROOTCERT", "/ca.pem".to_owned())));
        // A server behind a proxy that ends TLS says that its session has none: what the URL demands stays.
        assert!(c.environment(false).contains(&("PGSSLMODE", "verify-full".to_owned())));
        let c = parse("postgres://u:s3cret@h/d").unwrap();
        assert!(c.environment(false).contains(&("PGSSLMODE", "disable".to_owned())));
    }

    #[test]
    fn a_bound_channel_is_one_with_tls() {
        let c = parse("postgres://u@db/d?channel_binding=require").unwrap();
        assert_eq!(c.ssl_mode, SslMode::Require);
        assert!(c.environment(false).contains(&("PGCHANNELBINDING", "require".to_owned())));
        parse("postgres://u@localhost/d?channel_binding=require").unwrap_err();
        parse("postgres://u@db/d?channel_binding=maybe").unwrap_err();
    }

    #[test]
    fn an_ipv6_address_has_brackets_in_urls_only() {
        let c = parse("postgres://u@[2001:db8::1]:5433/d").unwrap();
        assert_eq!((&*c.host, c.port), ("2001:db8::1", 5433));
        assert!(c.environment(false).contains(&("PGHOST", "2001:db8::1".to_owned())));
        assert_eq!(c.redacted(), "postgres://u@[2001:db8::1]:5433/d");
    }
}
