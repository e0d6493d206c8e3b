//! A private `mongod` in a temporary folder, reachable only by a Unix socket there, which ends when Lifeboat ends.

use std::path::{Path, PathBuf};

use lifeboat_core::{Context, Result};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use tokio::process::Command;

use super::connection::Connection;
use super::listing::Look;
use crate::keeper::{Folder, Server};

/// Names folders with `mongod` to prefer, separated like `PATH`.
pub(crate) const FOLDERS_VARIABLE: &str = "LIFEBOAT_MONGO_BIN";

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
pub(crate) struct Mongod(Server);

impl Mongod {
    /// Starts `program` with an empty data folder below `parent`.
    ///
    /// # Errors
    /// [`ErrorKind::Tool`] with the server's own words; [`ErrorKind::Io`] when the folder cannot be used.
    ///
    /// # Cancel safety
    /// Safe: a dropped future ends what it started and removes the folder.
    pub(crate) async fn start(program: &Path, parent: Option<&Path>, cx: &Context) -> Result<(Self, Look)> {
        let folder = Folder::make(parent)?;
        folder.fits_socket("mongod.sock")?;
        let data = folder.path().join("data");
        std::fs::create_dir(&data).map_err(|e| folder.failed(e))?;
        folder.give(&data)?;
        let socket = folder.path().join("mongod.sock");
        let mut command = Command::new(program);
        command.arg("--dbpath").arg(&data).arg("--bind_ip").arg(&socket).arg("--unixSocketPrefix").arg(folder.path());
        command.args(SETTINGS);
        let mut server = folder.start("mongod", &command).await?;
        let address = utf8_percent_encode(&socket.to_string_lossy(), SOCKET).to_string();
        let url = format!("mongodb://{address}/?directConnection=true&serverSelectionTimeoutMS=2000");
        let connection = Connection::parse(&url.into())?;
        let look = server.wait_until_it_answers(cx, || Look::at(&connection)).await?;
        Ok((Self(server), look))
    }

    /// Stops the server and waits until its folder has gone.
    pub(crate) async fn stop(self) {
        self.0.stop().await;
    }
}
