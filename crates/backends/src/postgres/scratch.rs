//! A scratch server: a separate cluster in a temporary folder, reachable only by a Unix socket.
//!
//! A dump is code written by its source, and restoring runs it. So the server and the programs that restore into it run
//! confined (not as root, in an empty environment, without network if possible), and its superuser's password is
//! random. When Lifeboat ends, however that happens, the server ends and its folder is removed: a small shell in
//! between waits for Lifeboat's end of a pipe to close.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use lifeboat_core::{Context, Error, ErrorKind, Result};
use secrecy::SecretString;

use super::connection::{Connection, Host, SslMode, Wanted};
use super::create::{self, Locale};
use super::needs::Needs;
use super::session::Session;
use super::tools::Tools;
use crate::confine::Confinement;
use crate::keeper::{Folder, Server};

/// The name of the cluster's superuser, unlike any role in a dump, so that it does not conflict with restored roles.
const SUPERUSER: &str = "lifeboat_scratch";

/// The socket in the folder.
const SOCKET: &str = ".s.PGSQL.5432";

/// For speed: a crash only loses a copy that is discarded anyway.
const SETTINGS: [&str; 19] = [
    "listen_addresses=",
    "fsync=off",
    "full_page_writes=off",
    "synchronous_commit=off",
    "wal_level=minimal",
    "max_wal_senders=0",
    "max_wal_size=4GB",
    "checkpoint_timeout=1h",
    "autovacuum=off",
    "shared_buffers=128MB",
    "maintenance_work_mem=256MB",
    "jit=off",
    "lc_messages=C",
    "log_destination=stderr",
    "logging_collector=off",
    "log_min_messages=fatal",
    "log_min_error_statement=panic",
    "log_error_verbosity=terse",
    "unix_socket_permissions=0700",
];

/// The number of connections that it accepts.
const CONNECTIONS: usize = 20;

/// The database to restore into.
pub(super) const DATABASE: &str = "restored";

/// A running scratch server.
pub(crate) struct Scratch {
    server: Server,
    connection: Connection,
}

impl Scratch {
    /// Creates and starts a cluster that meets the dump's requirements, except for libraries that are not installed.
    ///
    /// # Errors
    /// [`ErrorKind::Tool`] with initdb's or the server's own words; [`ErrorKind::Io`] when the folder cannot be used;
    /// [`ErrorKind::Config`] when its path is too long for a socket.
    ///
    /// # Cancel safety
    /// Safe: a dropped future ends what it started and removes the folder.
    pub(crate) async fn start(tools: &Tools, parent: Option<&Path>, needs: &Needs, cx: &Context) -> Result<Self> {
        match Self::try_start(tools, parent, needs, cx).await {
            Err(error) if needs.has_libraries() && error.kind() == ErrorKind::Tool => {
                tracing::debug!(%error, "the scratch server does not start with the libraries of the dump's extensions");
                Self::try_start(tools, parent, &needs.without_libraries(), cx).await
            }
            started => started,
        }
    }

    async fn try_start(tools: &Tools, parent: Option<&Path>, needs: &Needs, cx: &Context) -> Result<Self> {
        let mut folder = Folder::make(parent)?;
        folder.fits_socket(SOCKET)?;
        let password = SecretString::from(random_hex()?);
        let password_file = folder.path().join("password");
        write_private(&password_file, &password).map_err(|e| folder.failed(e))?;
        folder.give(&password_file)?;
        let data = folder.path().join("data");
        let mut initdb = tools.bare_command("initdb");
        initdb
            .arg("--pgdata")
            .arg(&data)
            .args([
                "--username",
                SUPERUSER,
                "--auth=scram-sha-256",
                "--no-sync",
                "--encoding=UTF8",
                "--locale=C",
                "--no-instructions",
            ])
            .arg(format!("--pwfile={}", password_file.display()));
        let ended = folder.run(&initdb).await?;
        if !ended.status.success() {
            return Err(ended.error("make", format!("a scratch cluster in {}", folder.path().display()))
                .hint("the folder must be one that the server's user can enter, on a file system with room: set TMPDIR or --scratch-folder"));
        }
        let mut command = tools.bare_command("postgres");
        command.arg("-D").arg(&data).arg("-k").arg(folder.path());
        for setting in SETTINGS {
            command.args(["-c", setting]);
        }
        command.arg("-c").arg(format!("max_connections={CONNECTIONS}"));
        for setting in needs.settings(CONNECTIONS) {
            command.arg("-c").arg(setting);
        }
        let connection = Connection {
            hosts: vec![Host { name: folder.path().to_string_lossy().into_owned(), address: None, port: 5432 }],
            wanted: Wanted::Any,
            user: SUPERUSER.to_owned(),
            password: Some(password),
            passfile: None,
            database: "postgres".to_owned(),
            ssl_mode: Some(SslMode::Disable),
            any_name: false,
            ssl_root: None,
            ssl_cert: None,
            ssl_key: None,
            options: None,
            connect_timeout: Duration::from_secs(5),
            channel_binding: tokio_postgres::config::ChannelBinding::Prefer,
        };
        let mut server = folder.start("the scratch server", &command).await?;
        server.wait_until_it_answers(cx, || Session::open(&connection)).await?;
        Ok(Self { server, connection })
    }

    /// The confinement of programs that process its input.
    pub(crate) fn confinement(&self) -> Confinement {
        self.server.confinement()
    }

    /// Its folder, which confined programs may enter.
    pub(crate) fn folder(&self) -> &Path {
        Path::new(&self.connection.host().name)
    }

    /// The connection to it, as its superuser.
    pub(crate) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Makes a database with the encoding and, where this machine has them, the locales of the source. Returns it, and a
    /// note when the locale had to be another.
    pub(crate) async fn create_database(
        &self,
        encoding: &str,
        locale: &Locale,
        major: u32,
    ) -> Result<(Connection, Option<String>)> {
        let session = Session::open(&self.connection).await?;
        let database = self.connection.with_database(DATABASE);
        let fallback = if encoding == "UTF8" { "C.UTF-8" } else { "C" };
        let like = Locale { collate: Some(fallback.to_owned()), ..Locale::default() };
        let plain = create::create(DATABASE, Some(encoding), &like.options(major));
        if locale.collate.is_none() {
            session.execute(&plain).await?;
            return Ok((database, None));
        }
        match session.execute(&create::create(DATABASE, Some(encoding), &locale.options(major))).await {
            Ok(()) => Ok((database, None)),
            Err(error) => {
                tracing::debug!(%error, "the source's locale is not available here");
                session.execute(&plain).await?;
                Ok((database, Some(format!("locale {} is not installed here: sorted as {fallback}", locale.label()))))
            }
        }
    }

    /// Stops the server and waits until its folder is gone. Returns its last words if it had ended by itself.
    pub(crate) async fn stop(self) -> String {
        let said = self.server.stop().await;
        // Nothing of a statement: a line that goes on has no mark.
        let last = said.lines().filter_map(|line| {
            let (_, words) = line.split_once("PANIC:").or_else(|| line.split_once("FATAL:"))?;
            // What it answers while it starts is no last word.
            Some(words.trim()).filter(|words| !words.starts_with("the database system is"))
        });
        last.take(3).collect::<Vec<_>>().join("; ")
    }
}

fn write_private(path: &Path, secret: &SecretString) -> std::io::Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;

    use secrecy::ExposeSecret;
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.set_permissions(std::fs::Permissions::from_mode(0o600))?;
    file.write_all(secret.expose_secret().as_bytes())
}

fn random_hex() -> Result<String> {
    let mut bytes = [0; 24];
    getrandom::fill(&mut bytes)
        .map_err(|e| Error::new(ErrorKind::Io, "make", "a password", format!("no random numbers: {e}")))?;
    Ok(hex::encode(bytes))
}
