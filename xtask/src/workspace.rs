//! Where things lie: the workspace, its cache folder, programs on the path.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::signals;

/// The workspace's root folder.
pub(crate) fn root() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    // The checkout may have been moved since xtask was built: cargo says where it is now.
    let package = std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| package.to_owned(), PathBuf::from);
    package.parent().map_or_else(|| PathBuf::from("."), Path::to_owned)
}

/// What is downloaded and built outlives a run here, one folder for each program and version.
pub(crate) fn cache() -> Result<PathBuf> {
    let folder = std::env::var_os("LIFEBOAT_CACHE").map_or_else(|| root().join(".cache"), PathBuf::from);
    fs::create_dir_all(&folder).with_context(|| format!("cannot create the cache folder {}", folder.display()))?;
    folder.canonicalize().with_context(|| format!("cannot open the cache folder {}", folder.display()))
}

/// A place for the log of a step, so that it can be read after a failure.
pub(crate) fn log_file(step: &str) -> Result<PathBuf> {
    let folder = cache()?.join("logs");
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    Ok(folder.join(format!("{step}.log")))
}

/// Holds a lock between processes for as long as it lives: two runs at once install a thing once.
pub(crate) struct Lock(#[allow(dead_code)] File);

/// Waits for the lock of that name in the cache folder.
pub(crate) fn lock(name: &str) -> Result<Lock> {
    let path = cache()?.join(format!("{name}.lock"));
    let file = File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
    let mut told = false;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(Lock(file)),
            Err(TryLockError::WouldBlock) => {
                if !told {
                    eprintln!("xtask: waiting for another run that installs {name}");
                    told = true;
                }
                signals::check()?;
                std::thread::sleep(Duration::from_millis(200));
            }
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("cannot lock {}", path.display()));
            }
        }
    }
}

/// The program of that name on the path.
pub(crate) fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|candidate| is_executable(candidate))
}

/// Whether it is a file that can be run.
pub(crate) fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}
