//! A `mongod` of ours: in a throw-away folder, reached by a Unix socket in it only, ended when Lifeboat ends.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use lifeboat_core::{Context, Error, ErrorKind, Result};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use tokio::process::{ChildStdin, Command};

use super::connection::Connection;
use super::listing::Look;
use crate::child::Running;
use crate::keeper::{KEEPER, Owner};

/// Names folders with `mongod` to prefer, separated like `PATH`.
pub(crate) const FOLDERS_VARIABLE: &str = "LIFEBOAT_MONGO_BIN";

/// How long a new server may take to answer.
const START_LIMIT: Duration = Duration::from_secs(60);
/// How long it may take to go away.
const STOP_LIMIT: Duration = Duration::from_secs(30);

/// What is escaped in the path of a socket. The driver knows a socket by the `.sock` at its end: an escaped dot would make it a
/// host's name.
const SOCKET: &AsciiSet = &NON_ALPHANUMERIC.remove(b'.');

/// For a copy that is thrown away: little memory, and nothing that deletes documents while they are compared (indexes with a
/// time to live).
const SETTINGS: [&str; 8] = [
    "--wiredTigerCacheSizeGB",
    "0.5",
    "--setParameter",
    "ttlMonitorEnabled=false",
    "--setParameter",
    "diagnosticDataCollectionEnabled=false",
    "--filePermissions",
    "0700",
];

/// Where `mongod` is.
pub(crate) fn find() -> Option<PathBuf> {
    let preferred = std::env::var_os(FOLDERS_VARIABLE).unwrap_or_default();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> = std::env::split_paths(&preferred).chain(std::env::split_paths(&path)).collect();
    folders.into_iter().map(|folder| folder.join("mongod")).find(|program| program.is_file())
}

/// A running server.
pub(crate) struct Mongod {
    keeper: Option<Running>,
    /// While this is open the server lives.
    lifeline: Option<ChildStdin>,
    folder: PathBuf,
    connection: Connection,
}

impl Mongod {
    /// Starts `program` with an empty data folder below `parent`.
    ///
    /// # Errors
    /// [`ErrorKind::Tool`] with the server's own words; [`ErrorKind::Io`] when the folder cannot be used.
    ///
    /// # Cancel safety
    /// Safe: a dropped future ends what it started and removes the folder.
    pub(crate) async fn start(program: &Path, parent: Option<&Path>, cx: &Context) -> Result<(Self, Look)> {
        let parent = parent.map_or_else(std::env::temp_dir, Path::to_path_buf);
        let failed = |e| Error::io("make", format!("a scratch folder in {}", parent.display()), e);
        // The path of a Unix socket has at most 107 bytes: the name is short.
        let folder = tempfile::Builder::new()
            .permissions(std::fs::Permissions::from_mode(0o700))
            .prefix("lifeboat-")
            .rand_bytes(8)
            .tempdir_in(&parent)
            .map_err(failed)?;
        let data = folder.path().join("data");
        std::fs::create_dir(&data).map_err(failed)?;
        let owner = Owner::choose()?;
        owner.give(folder.path()).and_then(|()| owner.give(&data)).map_err(failed)?;
        let socket = folder.path().join("mongod.sock");
        let mut keeper = Command::new("/bin/sh");
        keeper.args(["-c", KEEPER, "lifeboat-scratch"]).arg(program);
        keeper.arg("--dbpath").arg(&data).arg("--bind_ip").arg(&socket).arg("--unixSocketPrefix").arg(folder.path());
        keeper.args(SETTINGS).env("LIFEBOAT_SCRATCH", folder.path()).stdin(Stdio::piped()).stdout(Stdio::null());
        owner.run_as(&mut keeper, folder.path());
        let mut running = Running::start(&mut keeper)?;
        let lifeline = running.child.stdin.take();
        // From here on the keeper removes the folder.
        let folder = folder.keep();
        let address = utf8_percent_encode(&socket.to_string_lossy(), SOCKET).to_string();
        let url = format!("mongodb://{address}/?directConnection=true&serverSelectionTimeoutMS=2000");
        let connection = Connection::parse(&url.into())?;
        let mut mongod = Self { keeper: Some(running), lifeline, folder, connection };
        let look = mongod.wait_until_it_answers(cx).await?;
        Ok((mongod, look))
    }

    async fn wait_until_it_answers(&mut self, cx: &Context) -> Result<Look> {
        let begun = Instant::now();
        loop {
            let error = match Look::at(&self.connection).await {
                Ok(look) => return Ok(look),
                Err(error) => error,
            };
            let running = self.keeper.as_mut().expect("it is taken only when the server is stopped");
            if let Ok(Some(_)) = running.child.try_wait() {
                let running = self.keeper.take().expect("it was there a line above");
                return Err(running.end().await?.error("start", "mongod"));
            }
            if cx.cancel.is_cancelled() {
                return Err(Error::cancelled("start", "mongod"));
            }
            if begun.elapsed() > START_LIMIT {
                return Err(Error::new(ErrorKind::Tool, "start", "mongod", "it does not answer").with_source(error));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Stops the server and waits until its folder has gone.
    pub(crate) async fn stop(mut self) {
        drop(self.lifeline.take());
        let Some(keeper) = self.keeper.take() else { return };
        if tokio::time::timeout(STOP_LIMIT, keeper.end()).await.is_err() {
            tracing::warn!(folder = %self.folder.display(), "the scratch server did not go away");
        }
        match std::fs::remove_dir_all(&self.folder) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                tracing::warn!(folder = %self.folder.display(), %error, "the scratch folder stays");
            }
            _ => {}
        }
    }
}

impl Drop for Mongod {
    fn drop(&mut self) {
        // Closing the lifeline is what ends the server. The keeper itself must live to see that: it is not killed.
        drop(self.lifeline.take());
        if let Some(keeper) = self.keeper.take() {
            keeper.leave();
        }
    }
}
