//! A scratch server: a cluster of its own in a throw-away folder, reached by a Unix socket only.
//!
//! A dump is code that its source wrote: restoring runs it. So the server never runs as root, listens on no network, and
//! its superuser's password is random. It ends, and its folder goes, when Lifeboat does, however that happens: a
//! small shell in between waits for our end of a pipe to close.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use lifeboat_core::{Context, Error, ErrorKind, Result};
use secrecy::SecretString;
use tokio::process::ChildStdin;

use super::connection::{Connection, SslMode};
use super::session::Session;
use super::tools::Tools;
use crate::child::Running;
use crate::keeper::{KEEPER, Owner};

/// How long a new cluster may take to answer.
const START_LIMIT: Duration = Duration::from_secs(60);
/// How long the server may take to go away.
const STOP_LIMIT: Duration = Duration::from_secs(30);
/// Name of the cluster's superuser: unlike any role in a dump, so that restoring roles finds none in the way.
const SUPERUSER: &str = "lifeboat_scratch";

/// For speed alone: what is lost in a crash is a copy that is thrown away anyhow.
const SETTINGS: [&str; 18] = [
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
    "unix_socket_permissions=0700",
    "max_connections=20",
];

/// A running scratch server.
pub(crate) struct Scratch {
    keeper: Option<Running>,
    /// While this is open the server lives.
    lifeline: Option<ChildStdin>,
    connection: Connection,
    folder: PathBuf,
}

impl Scratch {
    /// Makes a cluster and starts it.
    ///
    /// # Errors
    /// [`ErrorKind::Tool`] with initdb's or the server's own words; [`ErrorKind::Io`] when the folder cannot be used.
    ///
    /// # Cancel safety
    /// Safe: a dropped future ends what it started and removes the folder.
    pub(crate) async fn start(tools: &Tools, parent: Option<&Path>, cx: &Context) -> Result<Self> {
        let parent = parent.map_or_else(std::env::temp_dir, Path::to_path_buf);
        let failed = |what: &str| {
            let subject = format!("{what} in {}", parent.display());
            move |e| Error::io("make", subject, e)
        };
        // The path of a Unix socket has at most 107 bytes: the name is short.
        let folder = tempfile::Builder::new()
            .permissions(std::fs::Permissions::from_mode(0o700))
            .prefix("lifeboat-")
            .rand_bytes(8)
            .tempdir_in(&parent)
            .map_err(failed("a scratch folder"))?;
        let password = SecretString::from(random_hex()?);
        let password_file = folder.path().join("password");
        write_private(&password_file, &password).map_err(failed("a scratch folder"))?;
        let owner = Owner::choose()?;
        owner.give(folder.path()).and_then(|()| owner.give(&password_file)).map_err(failed("a scratch folder"))?;
        let data = folder.path().join("data");
        let mut initdb = tools.command("initdb");
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
            .arg(format!("--pwfile={}", password_file.display()))
            .stdout(Stdio::null());
        owner.run_as(&mut initdb, folder.path());
        let ended = Running::start(&mut initdb)?.end().await?;
        if !ended.status.success() {
            return Err(ended.error("make", format!("a scratch cluster in {}", folder.path().display()))
                .hint("the folder must be one that the server's user can enter, on a file system with room: set TMPDIR or --scratch-folder"));
        }
        let command = tools.command("postgres");
        let mut keeper = tokio::process::Command::new("/bin/sh");
        keeper.args(["-c", KEEPER, "lifeboat-scratch"]).arg(command.as_std().get_program());
        keeper.arg("-D").arg(&data).arg("-k").arg(folder.path());
        for setting in SETTINGS {
            keeper.args(["-c", setting]);
        }
        for (name, value) in command.as_std().get_envs() {
            match value {
                Some(value) => keeper.env(name, value),
                None => keeper.env_remove(name),
            };
        }
        keeper.env("LIFEBOAT_SCRATCH", folder.path()).stdin(Stdio::piped()).stdout(Stdio::null());
        owner.run_as(&mut keeper, folder.path());
        let mut running = Running::start(&mut keeper)?;
        let lifeline = running.child.stdin.take();
        // From here on the keeper removes the folder.
        let folder = folder.keep();
        let connection = Connection {
            host: folder.to_string_lossy().into_owned(),
            port: 5432,
            user: SUPERUSER.to_owned(),
            password: Some(password),
            database: "postgres".to_owned(),
            ssl_mode: SslMode::Disable,
            ssl_root: None,
            ssl_cert: None,
            ssl_key: None,
            options: None,
            connect_timeout: Duration::from_secs(5),
        };
        let mut scratch = Self { keeper: Some(running), lifeline, connection, folder };
        scratch.wait_until_it_answers(cx).await?;
        Ok(scratch)
    }

    async fn wait_until_it_answers(&mut self, cx: &Context) -> Result<()> {
        let begun = Instant::now();
        loop {
            let error = match Session::open(&self.connection).await {
                Ok(_) => return Ok(()),
                Err(error) => error,
            };
            let running = self.keeper.as_mut().expect("it is taken only when the server is stopped");
            if let Ok(Some(_)) = running.child.try_wait() {
                let running = self.keeper.take().expect("it was there a line above");
                return Err(running.end().await?.error("start", "the scratch server"));
            }
            if cx.cancel.is_cancelled() {
                return Err(Error::cancelled("start", "the scratch server"));
            }
            if begun.elapsed() > START_LIMIT {
                return Err(
                    Error::new(ErrorKind::Tool, "start", "the scratch server", "it does not answer").with_source(error)
                );
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// How to reach it, as its superuser.
    pub(crate) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Makes a database with the encoding and, where this machine has them, the locales of the source. Returns it, and a
    /// note when the locale had to be another.
    pub(crate) async fn create_database(
        &self,
        encoding: &str,
        collate: Option<&str>,
        ctype: Option<&str>,
    ) -> Result<(Connection, Option<String>)> {
        let session = Session::open(&self.connection).await?;
        let create = |collate: &str, ctype: &str| {
            let quote = super::session::quote_literal;
            format!(
                "CREATE DATABASE restored TEMPLATE template0 ENCODING {} LC_COLLATE {} LC_CTYPE {}",
                quote(encoding),
                quote(collate),
                quote(ctype)
            )
        };
        let database = self.connection.with_database("restored");
        let fallback = if encoding == "UTF8" { "C.UTF-8" } else { "C" };
        let Some(collate) = collate else {
            session.execute(&create(fallback, fallback)).await?;
            return Ok((database, None));
        };
        let ctype = ctype.unwrap_or(collate);
        match session.execute(&create(collate, ctype)).await {
            Ok(()) => Ok((database, None)),
            Err(error) => {
                tracing::debug!(%error, "the source's locale is not to be had here");
                session.execute(&create(fallback, fallback)).await?;
                Ok((database, Some(format!("locale {collate} is not installed here: sorted as {fallback}"))))
            }
        }
    }

    /// Stops the server and waits until its folder has gone.
    pub(crate) async fn stop(mut self) {
        drop(self.lifeline.take());
        let Some(keeper) = self.keeper.take() else { return };
        // The server's end is an immediate shutdown: its status says nothing. The keeper's standard error stays open until
        // the folder has been emptied.
        if tokio::time::timeout(STOP_LIMIT, keeper.end()).await.is_err() {
            tracing::warn!(folder = %self.folder.display(), "the scratch server did not go away");
        }
        // Emptied by the server's own user, who may not be allowed to remove it from its parent.
        match std::fs::remove_dir_all(&self.folder) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                tracing::warn!(folder = %self.folder.display(), %error, "the scratch folder stays");
            }
            _ => {}
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Closing the lifeline is what ends the server. The keeper itself must live to see that: it is not killed.
        drop(self.lifeline.take());
        if let Some(keeper) = self.keeper.take() {
            keeper.leave();
        }
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
