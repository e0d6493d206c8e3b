//! Our own sessions with a server, apart from what pg_dump and pg_restore do.

use std::net::IpAddr;

use lifeboat_core::{Error, ErrorKind, Result};
use secrecy::ExposeSecret;
use tokio::task::JoinHandle;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::connection::{Connection, Host, SslMode, Wanted};
use super::{own, redact, tls};

/// A session. Its connection ends when it is dropped.
pub(crate) struct Session {
    client: Client,
    task: JoinHandle<()>,
    subject: String,
    connection: Connection,
    major: u32,
    startup: Vec<(String, String)>,
    /// A critical setting that is not ours and could not be made so, with the value that it should have.
    bent: Option<(String, String)>,
}

impl Session {
    /// Opens a session with settings of its own: with the first host that answers and is what was asked for.
    ///
    /// # Errors
    /// As [`open_first`].
    pub(crate) async fn open(to: &Connection) -> Result<Self> {
        open_first(to).await
    }

    async fn open_one(to: &Connection) -> Result<Self> {
        let begun = Self::begin(to, &[]).await?;
        let major = begun.major;
        let error = match begun.with_own_settings().await {
            Ok(session) => return Ok(session),
            Err(error) => error,
        };
        // A time limit of the role's may be too short for even this: then the session has to begin without one.
        tracing::debug!(%error, "the settings of a session could not be set");
        let startup = own::at_the_start(major);
        let Ok(again) = Self::begin(to, &startup).await else { return Err(error) };
        again.with_own_settings().await
    }

    /// Lets a new session in.
    async fn begin(to: &Connection, startup: &[(String, String)]) -> Result<Self> {
        // TLS that is preferred is asked for first: then it is known whether the server has it, and the client programs get
        // the same. What a server says of a session (pg_stat_ssl) is not true behind a proxy.
        let begun = match to.ssl_mode() {
            SslMode::Prefer => match Self::connect(to, true, startup).await {
                Err(error) if no_tls(&error) => Self::connect(to, false, startup).await,
                session => session,
            },
            SslMode::Disable => Self::connect(to, false, startup).await,
            SslMode::Require => Self::connect(to, true, startup).await,
        };
        begun.map_err(|e| e.into_error(to))
    }

    async fn with_own_settings(mut self) -> Result<Self> {
        let rows = self.rows(&own::statements()).await?;
        for row in rows {
            let [Some(name), Some(value)] = &row[..] else { continue };
            match self.execute(&format!("SET {name} = {value}")).await {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::Permission => self.bent = Some((name.clone(), value.clone())),
                Err(error) => return Err(error),
            }
        }
        Ok(self)
    }

    async fn connect(to: &Connection, encrypted: bool, startup: &[(String, String)]) -> Result<Self, Failed> {
        let mut config = tokio_postgres::Config::new();
        let host = to.host();
        config
            .host(&host.name)
            .port(host.port)
            .user(&to.user)
            .dbname(&to.database)
            .application_name("lifeboat")
            .channel_binding(to.channel_binding)
            .ssl_mode(match encrypted {
                true => tokio_postgres::config::SslMode::Require,
                false => tokio_postgres::config::SslMode::Disable,
            });
        if let Some(address) = host.address {
            config.hostaddr(address);
        }
        if let Some(password) = to.password() {
            config.password(password.expose_secret());
        }
        let given = to.options.iter().cloned();
        let options: Vec<String> = given.chain((!startup.is_empty()).then(|| own::as_options(startup))).collect();
        if !options.is_empty() {
            config.options(options.join(" "));
        }
        let (client, task, version) = if encrypted {
            let with_tls = MakeRustlsConnect::new(tls::config(to).map_err(Failed::Config)?);
            let (client, connection) = config.connect(with_tls).await.map_err(Failed::Server)?;
            let version = connection.parameter("server_version").map(major_of);
            (client, tokio::spawn(drive(connection)), version)
        } else {
            let (client, connection) = config.connect(NoTls).await.map_err(Failed::Server)?;
            let version = connection.parameter("server_version").map(major_of);
            (client, tokio::spawn(drive(connection)), version)
        };
        let ssl_mode = Some(if encrypted { SslMode::Require } else { SslMode::Disable });
        Ok(Self {
            client,
            task,
            subject: to.redacted(),
            connection: Connection { ssl_mode, ..to.clone() },
            major: version.unwrap_or_default(),
            startup: startup.to_vec(),
            bent: None,
        })
    }

    /// Where it leads, for others that must lead to the same server, no less protected.
    pub(crate) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Whether it is protected by TLS.
    pub(crate) fn is_encrypted(&self) -> bool {
        self.connection.ssl_mode() == SslMode::Require
    }

    /// The server's major version.
    pub(super) fn major(&self) -> u32 {
        self.major
    }

    /// The settings that it had to begin with.
    pub(super) fn startup(&self) -> &[(String, String)] {
        &self.startup
    }

    /// # Errors
    /// [`ErrorKind::Permission`] when a setting bends what is read or written, and the role may not change it.
    pub(super) fn not_bent(&self) -> Result<()> {
        self.bent.as_ref().map_or(Ok(()), |(name, value)| Err(own::bent(&self.subject, name, value)))
    }

    async fn fits(&self, wanted: Wanted) -> Result<bool> {
        // As libpq asks it; reset_val is what the session had before it was given our settings.
        let sql = "SELECT pg_catalog.pg_is_in_recovery(), (SELECT reset_val FROM pg_catalog.pg_settings WHERE name = 'default_transaction_read_only')";
        let rows = self.rows(sql).await?;
        let [Some(standby), Some(read_only)] = &rows.first().map_or(&[][..], |row| &row[..]) else { return Ok(false) };
        Ok(suits(wanted, standby == "t", standby == "t" || read_only == "on"))
    }

    /// Runs a query that gives at most one value, as text.
    pub(crate) async fn value(&self, sql: &str) -> Result<Option<String>> {
        Ok(self.rows(sql).await?.into_iter().next().and_then(|row| row.into_iter().next().flatten()))
    }

    /// Runs a query by the simple protocol: every value as text.
    pub(crate) async fn rows(&self, sql: &str) -> Result<Vec<Vec<Option<String>>>> {
        let messages = self.client.simple_query(sql).await.map_err(|e| self.error(&e))?;
        let mut rows = Vec::new();
        for message in messages {
            let tokio_postgres::SimpleQueryMessage::Row(row) = message else { continue };
            let values = (0..row.len()).map(|i| row.try_get(i).map(|value| value.map(str::to_owned)));
            rows.push(values.collect::<Result<_, _>>().map_err(|_| self.not_unicode())?);
        }
        Ok(rows)
    }

    /// Runs statements that give nothing.
    pub(crate) async fn execute(&self, sql: &str) -> Result<()> {
        self.client.batch_execute(sql).await.map_err(|e| self.error(&e))
    }

    /// The client itself, for COPY.
    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// The server has sent bytes of no encoding: it converts nothing from a database in SQL_ASCII.
    fn not_unicode(&self) -> Error {
        let why = "a name or value is not UTF-8, and the database has no encoding to convert it from (SQL_ASCII)";
        Error::new(ErrorKind::Unsupported, "read", &self.subject, why)
            .hint("rename it, or convert the database to an encoding")
    }

    /// An error of this session's server.
    pub(crate) fn error(&self, error: &tokio_postgres::Error) -> Error {
        match error.as_db_error() {
            // A database in SQL_ASCII converts nothing, and its server refuses to pass on what is not UTF-8.
            Some(db) if *db.code() == SqlState::CHARACTER_NOT_IN_REPERTOIRE => self.not_unicode(),
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
                // A detail can hold a row's values; of an object that is in use it says who uses it.
                let detail = db.detail().filter(|_| matches!(&db.code().code()[..2], "2B" | "53" | "55"));
                let detail = detail.map(|d| format!(" ({d})")).unwrap_or_default();
                Error::new(kind, "query", &self.subject, format!("{}{detail}", redact::without_values(db)))
            }
            None if error.is_closed() => {
                Error::new(ErrorKind::Unavailable, "query", &self.subject, "the server closed the connection")
            }
            None => Error::new(ErrorKind::Unavailable, "query", &self.subject, error_chain(error)),
        }
    }
}

/// What can be opened with a server: a session, or what speaks another protocol on the same way in.
pub(super) trait Opened: Sized {
    /// Opens it at the one host and address that `to` leads to.
    fn open_one(to: &Connection) -> impl Future<Output = Result<Self>> + Send;

    /// Whether the server is like this. It is not asked for [`Wanted::Any`].
    fn fits(&mut self, wanted: Wanted) -> impl Future<Output = Result<bool>> + Send;
}

impl Opened for Session {
    fn open_one(to: &Connection) -> impl Future<Output = Result<Self>> + Send {
        Self::open_one(to)
    }

    fn fits(&mut self, wanted: Wanted) -> impl Future<Output = Result<bool>> + Send {
        Self::fits(self, wanted)
    }
}

/// Opens it with the first host that answers and is what was asked for.
///
/// # Errors
/// With the kind that follows from the server's answer, and a hint. Of several hosts the next one is tried only after
/// one that does not answer, as libpq does.
pub(super) async fn open_first<T: Opened>(to: &Connection) -> Result<T> {
    let passes: &[Wanted] = match &to.wanted {
        Wanted::PreferStandby => &[Wanted::Standby, Wanted::Any],
        wanted => std::slice::from_ref(wanted),
    };
    let mut failed = Vec::new();
    for wanted in passes {
        for host in &to.hosts {
            let opened = open_at::<T>(to, host).await;
            let error = match opened {
                Ok(opened) if *wanted == Wanted::Any => return Ok(opened),
                Ok(mut opened) => match opened.fits(*wanted).await? {
                    true => return Ok(opened),
                    false => other_than(&to.at(host.clone()), *wanted),
                },
                Err(error) if error.kind() == ErrorKind::Unavailable => error,
                Err(error) => return Err(error),
            };
            failed.push(error);
        }
    }
    let last = failed.pop().expect("there is at least one host");
    if failed.is_empty() {
        return Err(last);
    }
    let said: Vec<String> = failed.iter().chain([&last]).map(|e| format!("{}: {}", e.subject(), e.message())).collect();
    let error = Error::new(
        last.kind(),
        "connect to",
        to.redacted(),
        format!("none of the hosts is suitable: {}", said.join("; ")),
    );
    Err(match last.advice() {
        Some(advice) => error.hint(advice),
        None => error,
    })
}

/// Within the time limit for each address of the host: until the server's first answer.
async fn open_at<T: Opened>(to: &Connection, host: &Host) -> Result<T> {
    let mut last = None;
    for address in addresses(to, host).await? {
        let place = to.at(Host { address, ..host.clone() });
        match limited(&place, T::open_one(&place)).await {
            Ok(opened) => return Ok(opened),
            Err(error) if error.kind() == ErrorKind::Unavailable => last = Some(error),
            Err(error) => return Err(error),
        }
    }
    Err(last.expect("a name has an address, or looking it up is an error"))
}

/// Whether a server that is a standby, and one that takes no writes, is what is wanted.
pub(super) fn suits(wanted: Wanted, standby: bool, read_only: bool) -> bool {
    match wanted {
        Wanted::Any | Wanted::PreferStandby => true,
        Wanted::ReadWrite => !read_only,
        Wanted::ReadOnly => read_only,
        Wanted::Primary => !standby,
        Wanted::Standby => standby,
    }
}

fn other_than(to: &Connection, wanted: Wanted) -> Error {
    let why = match wanted {
        Wanted::ReadWrite => "it takes no writes, but target_session_attrs=read-write",
        Wanted::ReadOnly => "it takes writes, but target_session_attrs=read-only",
        Wanted::Primary => "it is a standby, but target_session_attrs=primary",
        _ => "it is not a standby, but target_session_attrs=standby",
    };
    Error::new(ErrorKind::Unavailable, "use", to.redacted(), why)
}

/// The addresses of a host: `None` for what needs none.
async fn addresses(to: &Connection, host: &Host) -> Result<Vec<Option<IpAddr>>> {
    if host.is_socket() || host.address.is_some() {
        return Ok(vec![host.address]);
    }
    let place = to.at(host.clone());
    let looked_up = async {
        let found = tokio::net::lookup_host((&*host.name, host.port)).await;
        let found = found.map(|all| all.map(|address| Some(address.ip())).collect::<Vec<_>>());
        match found {
            Ok(found) if !found.is_empty() => Ok(found),
            Ok(_) => Err("the name has no address".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    };
    limited(&place, async {
        looked_up.await.map_err(|why| no_answer(&place, &format!("error connecting to server: {why}")))
    })
    .await
}

/// Lets a step of opening a session take no longer than the connection's limit.
async fn limited<T>(to: &Connection, step: impl Future<Output = Result<T>>) -> Result<T> {
    let limit = to.connect_timeout;
    if limit.is_zero() {
        return step.await;
    }
    tokio::time::timeout(limit, step).await.unwrap_or_else(|_| {
        let why = format!("no answer within {} s", limit.as_secs());
        Err(Error::new(ErrorKind::Unavailable, "connect to", to.redacted(), why).hint(
            "is it a PostgreSQL server, and does it still accept sessions? To wait longer, set connect_timeout=… in the URL",
        ))
    })
}

pub(super) fn no_answer(to: &Connection, why: &str) -> Error {
    Error::new(ErrorKind::Unavailable, "connect to", to.redacted(), format!("no answer: {why}"))
        .hint("is the server running, and are the host and port right?")
}

/// `15` of `15.18 (Debian …)` and of `9.6`: 9.
pub(super) fn major_of(version: &str) -> u32 {
    let digits: String = version.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap_or_default()
}

/// Why there is no session.
pub(super) enum Failed {
    Config(Error),
    Server(tokio_postgres::Error),
}

impl Failed {
    pub(super) fn into_error(self, to: &Connection) -> Error {
        match self {
            Self::Config(error) => error,
            Self::Server(error) => connect_error(to, error),
        }
    }
}

pub(super) fn no_tls(failed: &Failed) -> bool {
    matches!(failed, Failed::Server(error) if error_chain(error).contains("server does not support TLS"))
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
                format!("the server asks for a password, but there is none for user {}", to.user),
            )
            .hint("put it into PGPASSWORD, ~/.pgpass or the URL of a config file");
        }
        if text.contains("certificate") {
            if text.contains("not valid for name") {
                return make(ErrorKind::Permission, format!("its certificate is for another name: {text}"))
                    .hint("connect by a name that the certificate has (hostaddr=… gives the address); sslmode=verify-ca with sslrootcert=… takes any name of your own authority");
            }
            return make(ErrorKind::Permission, format!("its certificate cannot be trusted: {text}"))
                .hint("give the authority that signed it: sslrootcert=/path/ca.pem (sslmode=disable switches TLS off altogether)");
        }
        if text.contains("server does not support TLS") {
            return make(ErrorKind::Unavailable, "the server does not offer TLS".to_owned())
                .transient(false)
                .hint("sslmode=disable connects without it");
        }
        if text.contains("channel binding") {
            return make(ErrorKind::Permission, format!("the login is not bound to the TLS connection: {text}")).hint(
                "channel_binding=require needs a server with its own TLS and SCRAM passwords; it does not work through a proxy that terminates TLS",
            );
        }
        return no_answer(to, &text);
    };
    match *db.code() {
        SqlState::INVALID_PASSWORD => {
            make(ErrorKind::Permission, format!("the password for user {} is wrong", to.user))
                .hint("check PGPASSWORD, ~/.pgpass or the URL")
        }
        SqlState::INVALID_AUTHORIZATION_SPECIFICATION => make(ErrorKind::Permission, db.message().to_owned())
            .hint("the server's pg_hba.conf must admit this user from here; it may require sslmode=require"),
        SqlState::INVALID_CATALOG_NAME => {
            make(ErrorKind::NotFound, format!("there is no database \"{}\"", to.database))
                .hint("`psql -l` lists the databases of the server")
        }
        SqlState::TOO_MANY_CONNECTIONS => {
            make(ErrorKind::Unavailable, db.message().to_owned()).hint("the server has no connection left for us")
        }
        SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE if db.message().contains("not currently accepting connections") => {
            make(ErrorKind::Refused, db.message().to_owned()).hint(format!(
                "it is closed; a restore with --replace by an older Lifeboat may have left it closed. To open it, connect to another database and run: ALTER DATABASE {} WITH ALLOW_CONNECTIONS true",
                super::archive::quote_ident(&to.database)
            ))
        }
        SqlState::CANNOT_CONNECT_NOW => make(ErrorKind::Unavailable, db.message().to_owned()),
        _ => make(ErrorKind::Permission, db.message().to_owned()),
    }
}

/// Quotes a literal as `quote_literal` does.
pub(crate) fn quote_literal(text: &str) -> String {
    let escaped = text.replace('\\', "\\\\").replace('\'', "''");
    if escaped.contains('\\') { format!("E'{escaped}'") } else { format!("'{escaped}'") }
}
