//! Our own sessions with a server, apart from what pg_dump and pg_restore do.

use std::sync::{Arc, Once};

use lifeboat_core::{Error, ErrorKind, Result};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use secrecy::ExposeSecret;
use tokio::task::JoinHandle;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::connection::{Connection, SslMode};

/// A session. Its connection ends when it is dropped.
pub(crate) struct Session {
    client: Client,
    task: JoinHandle<()>,
    subject: String,
}

impl Session {
    /// Opens a session.
    ///
    /// # Errors
    /// With the kind that follows from the server's answer, and a hint.
    pub(crate) async fn open(to: &Connection) -> Result<Self> {
        let mut config = tokio_postgres::Config::new();
        config
            .host(&to.host)
            .port(to.port)
            .user(&to.user)
            .dbname(&to.database)
            .application_name("lifeboat")
            .connect_timeout(to.connect_timeout)
            .ssl_mode(match to.ssl_mode {
                SslMode::Disable => tokio_postgres::config::SslMode::Disable,
                SslMode::Prefer => tokio_postgres::config::SslMode::Prefer,
                SslMode::Require => tokio_postgres::config::SslMode::Require,
            });
        if let Some(password) = &to.password {
            config.password(password.expose_secret());
        }
        if let Some(options) = &to.options {
            config.options(options);
        }
        let subject = to.redacted();
        let failed = |e| connect_error(to, e);
        let (client, task) = if to.ssl_mode == SslMode::Disable || to.is_socket() {
            let (client, connection) = config.connect(NoTls).await.map_err(failed)?;
            (client, tokio::spawn(drive(connection)))
        } else {
            let tls = MakeRustlsConnect::new(tls_config(to)?);
            let (client, connection) = config.connect(tls).await.map_err(failed)?;
            (client, tokio::spawn(drive(connection)))
        };
        Ok(Self { client, task, subject })
    }

    /// Runs a query that gives at most one value, as text.
    pub(crate) async fn value(&self, sql: &str) -> Result<Option<String>> {
        Ok(self.rows(sql).await?.into_iter().next().and_then(|row| row.into_iter().next().flatten()))
    }

    /// Runs a query by the simple protocol: every value as text.
    pub(crate) async fn rows(&self, sql: &str) -> Result<Vec<Vec<Option<String>>>> {
        let messages = self.client.simple_query(sql).await.map_err(|e| self.error(&e))?;
        Ok(messages
            .into_iter()
            .filter_map(|message| match message {
                tokio_postgres::SimpleQueryMessage::Row(row) => {
                    Some((0..row.len()).map(|i| row.get(i).map(str::to_owned)).collect())
                }
                _ => None,
            })
            .collect())
    }

    /// Runs statements that give nothing.
    pub(crate) async fn execute(&self, sql: &str) -> Result<()> {
        self.client.batch_execute(sql).await.map_err(|e| self.error(&e))
    }

    /// The client itself, for COPY.
    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// An error of this session's server.
    pub(crate) fn error(&self, error: &tokio_postgres::Error) -> Error {
        match error.as_db_error() {
            Some(db) => {
                let kind = match *db.code() {
                    SqlState::INSUFFICIENT_PRIVILEGE => ErrorKind::Permission,
                    SqlState::INVALID_CATALOG_NAME | SqlState::UNDEFINED_TABLE => ErrorKind::NotFound,
                    SqlState::DUPLICATE_DATABASE | SqlState::DUPLICATE_OBJECT => ErrorKind::AlreadyExists,
                    SqlState::DISK_FULL => ErrorKind::Io,
                    SqlState::ADMIN_SHUTDOWN | SqlState::CRASH_SHUTDOWN | SqlState::CANNOT_CONNECT_NOW => {
                        ErrorKind::Unavailable
                    }
                    _ => ErrorKind::Tool,
                };
                let detail = db.detail().map(|d| format!(" ({d})")).unwrap_or_default();
                Error::new(kind, "query", &self.subject, format!("{}{detail}", db.message()))
            }
            None if error.is_closed() => {
                Error::new(ErrorKind::Unavailable, "query", &self.subject, "the server closed the connection")
            }
            None => Error::new(ErrorKind::Unavailable, "query", &self.subject, error_chain(error)),
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn drive<S, T>(connection: tokio_postgres::Connection<S, T>)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    // What fails here fails the query that waits for it, and is told there.
    if let Err(error) = connection.await {
        tracing::debug!(%error, "a session with PostgreSQL ended");
    }
}

/// The text of an error with its causes: tokio-postgres keeps what matters in the source.
fn error_chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text = format!("{text}: {inner}");
        source = inner.source();
    }
    text
}

fn connect_error(to: &Connection, error: tokio_postgres::Error) -> Error {
    let subject = to.redacted();
    let make = |kind, message: String| Error::new(kind, "connect to", subject.clone(), message);
    let Some(db) = error.as_db_error() else {
        let text = error_chain(&error);
        if text.contains("password missing") {
            return make(
                ErrorKind::Permission,
                format!("the server asks for a password, and there is none for user {}", to.user),
            )
            .hint("put it into PGPASSWORD, ~/.pgpass or the URL of a config file");
        }
        if text.contains("certificate") {
            return make(ErrorKind::Permission, format!("its certificate cannot be trusted: {text}"))
                .hint("give the authority that signed it: sslrootcert=/path/ca.pem (sslmode=disable switches TLS off altogether)");
        }
        if text.contains("server does not support TLS") {
            return make(ErrorKind::Unavailable, "the server does not offer TLS".to_owned())
                .transient(false)
                .hint("sslmode=disable connects without it");
        }
        return make(ErrorKind::Unavailable, format!("no answer: {text}"))
            .hint("is the server running, and are host and port right?");
    };
    match *db.code() {
        SqlState::INVALID_PASSWORD => {
            make(ErrorKind::Permission, format!("the password for user {} is wrong", to.user))
                .hint("check PGPASSWORD, ~/.pgpass or the URL")
        }
        SqlState::INVALID_AUTHORIZATION_SPECIFICATION => make(ErrorKind::Permission, db.message().to_owned())
            .hint("the server's pg_hba.conf must let this user in from here; sslmode=require may be asked for"),
        SqlState::INVALID_CATALOG_NAME => {
            make(ErrorKind::NotFound, format!("there is no database \"{}\"", to.database))
                .hint("`psql -l` lists the databases of the server")
        }
        SqlState::TOO_MANY_CONNECTIONS => {
            make(ErrorKind::Unavailable, db.message().to_owned()).hint("the server has no connection left for us")
        }
        SqlState::CANNOT_CONNECT_NOW => make(ErrorKind::Unavailable, db.message().to_owned()),
        _ => make(ErrorKind::Permission, db.message().to_owned()),
    }
}

fn tls_config(to: &Connection) -> Result<rustls::ClientConfig> {
    static PROVIDER: Once = Once::new();
    PROVIDER.call_once(|| {
        // Another part of the program may have chosen one already: that one is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
    let wrong = |what: &str, path: &std::path::Path, e: String| {
        Error::new(ErrorKind::Config, "use", format!("{what}={}", path.display()), e)
    };
    let mut roots = rustls::RootCertStore::empty();
    match &to.ssl_root {
        Some(path) => {
            let certificates =
                CertificateDer::pem_file_iter(path).map_err(|e| wrong("sslrootcert", path, e.to_string()))?;
            for certificate in certificates {
                let added =
                    certificate.map_err(|e| e.to_string()).and_then(|c| roots.add(c).map_err(|e| e.to_string()));
                added.map_err(|e| wrong("sslrootcert", path, e))?;
            }
            if roots.is_empty() {
                return Err(wrong("sslrootcert", path, "there is no certificate in it".to_owned()));
            }
        }
        None => {
            // A root that cannot be read is one that is not trusted.
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    let builder = rustls::ClientConfig::builder().with_root_certificates(Arc::new(roots));
    match (&to.ssl_cert, &to.ssl_key) {
        (Some(cert), Some(key)) => {
            let chain = CertificateDer::pem_file_iter(cert)
                .and_then(Iterator::collect::<std::result::Result<Vec<_>, _>>)
                .map_err(|e| wrong("sslcert", cert, e.to_string()))?;
            let secret = PrivateKeyDer::from_pem_file(key).map_err(|e| wrong("sslkey", key, e.to_string()))?;
            builder.with_client_auth_cert(chain, secret).map_err(|e| wrong("sslcert", cert, e.to_string()))
        }
        (None, None) => Ok(builder.with_no_client_auth()),
        _ => Err(Error::new(ErrorKind::Config, "read", "the PostgreSQL URL", "sslcert and sslkey go together")),
    }
}

/// Quotes a literal as `quote_literal` does.
pub(crate) fn quote_literal(text: &str) -> String {
    let escaped = text.replace('\\', "\\\\").replace('\'', "''");
    if escaped.contains('\\') { format!("E'{escaped}'") } else { format!("'{escaped}'") }
}
