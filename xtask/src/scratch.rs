//! A folder that is removed after the run, and what isolates a run from others: free ports, random secrets.

use std::fs::{self, File, TryLockError};
use std::io::Read as _;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

const PREFIX: &str = "lifeboat-xtask-";
const LOCK: &str = ".lock";

/// A fresh folder in the temporary folder. Dropping it removes it with all its contents.
pub(crate) struct Scratch {
    path: PathBuf,
    keep: bool,
    /// Locked for as long as this run lives, which the kernel ends with the process: a folder whose lock is free was
    /// left by a run that was killed.
    _lock: File,
}

impl Scratch {
    pub(crate) fn new() -> Result<Self> {
        let parent = std::env::temp_dir();
        remove_abandoned(&parent);
        let path = parent.join(format!("{PREFIX}{}", &random_hex(4)?));
        fs::create_dir(&path).with_context(|| format!("cannot create the scratch folder {}", path.display()))?;
        // A server that runs as another user has to reach its own folder through this one; nobody may list it.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o711))?;
        let lock = File::create(path.join(LOCK))?;
        lock.lock().with_context(|| format!("cannot lock {}", path.display()))?;
        Ok(Self { path, keep: false, _lock: lock })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Creates a private folder in it.
    pub(crate) fn folder(&self, name: &str) -> Result<PathBuf> {
        let folder = self.path.join(name);
        fs::create_dir(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o700))?;
        Ok(folder)
    }

    /// Keeps the folder after the run. (Without its lock file, it is not mistaken for an abandoned one.)
    pub(crate) fn keep(&mut self) {
        self.keep = true;
        let _ = fs::remove_file(self.path.join(LOCK));
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if self.keep {
            return;
        }
        if let Err(error) = fs::remove_dir_all(&self.path) {
            eprintln!("xtask: cannot remove the scratch folder {}: {error}", self.path.display());
        }
    }
}

/// Removes what runs killed with -9 have left behind.
fn remove_abandoned(parent: &Path) {
    let Ok(entries) = fs::read_dir(parent) else { return };
    for entry in entries.flatten() {
        if !entry.file_name().to_str().is_some_and(|name| name.starts_with(PREFIX)) {
            continue;
        }
        let path = entry.path();
        // A folder that another run is about to lock has no lock file yet, or one that is not locked yet; the time
        // between is far shorter than a minute.
        let fresh = entry.metadata().and_then(|meta| meta.modified()).ok().and_then(|time| time.elapsed().ok());
        if fresh.is_none_or(|age| age.as_secs() < 60) {
            continue;
        }
        let Ok(lock) = File::options().write(true).open(path.join(LOCK)) else { continue };
        match lock.try_lock() {
            Ok(()) => {
                if fs::remove_dir_all(&path).is_ok() {
                    eprintln!("xtask: removed {}, left by a run that was killed", path.display());
                }
            }
            Err(TryLockError::WouldBlock | TryLockError::Error(_)) => {}
        }
    }
}

/// A port of 127.0.0.1 that is currently free. Something else may take it before the server does: then start it again.
pub(crate) fn free_port() -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("cannot find a free port on 127.0.0.1")?;
    Ok(listener.local_addr()?.port())
}

/// That many random bytes from the kernel, in hex.
pub(crate) fn random_hex(bytes: usize) -> Result<String> {
    let mut buffer = vec![0; bytes];
    File::open("/dev/urandom")
        .and_then(|mut source| source.read_exact(&mut buffer))
        .context("cannot read /dev/urandom")?;
    Ok(buffer.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// A folder that is removed unless it is renamed to its final name. Only the holder of that name's lock creates one, so
/// an existing one was left by a killed run.
pub(crate) struct Unfinished {
    pub(crate) path: PathBuf,
}

impl Unfinished {
    pub(crate) fn beside(target: &Path) -> Result<Self> {
        let name = target.file_name().unwrap_or_default().display();
        let path = target.with_file_name(format!("unfinished-{name}"));
        if path.exists() {
            fs::remove_dir_all(&path).with_context(|| format!("cannot remove {}", path.display()))?;
        }
        fs::create_dir(&path).with_context(|| format!("cannot create {}", path.display()))?;
        Ok(Self { path })
    }

    pub(crate) fn rename_to(&self, target: &Path) -> Result<()> {
        fs::rename(&self.path, target)
            .with_context(|| format!("cannot rename {} to {}", self.path.display(), target.display()))
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}
