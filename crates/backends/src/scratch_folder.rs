//! The folders of scratch servers. A lock, which the system releases when the process ends, tells which runs were
//! killed.

use std::fs::File;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::FlockOperation;
use rustix::process::{Pid, Signal};

/// How the folders are called, with eight hexadecimal digits after it. The path of a Unix socket has at most 107 bytes: the
/// name is short.
const PREFIX: &str = "lifeboat-";
/// The file in the folder that is locked while the run lives.
const LOCK: &str = "lock";
/// Where a folder is made: it gets its name when it is locked.
const UNNAMED: &str = ".lifeboat-";
/// How long a server that is left may take to end before it is killed.
const END_LIMIT: Duration = Duration::from_secs(1);
/// How long all that is left is waited for: servers to end, and folders to go in which shells and children of the killed run are
/// still at work. A run that is told to end meanwhile must do so within five seconds; what stays goes with the next one.
const SWEEP_LIMIT: Duration = Duration::from_secs(4);
/// From this age on, a folder without a name is one that nobody will give a name.
const UNNAMED_LIMIT: Duration = Duration::from_secs(3600);

/// A folder that goes when this is dropped.
#[derive(Debug)]
pub(crate) struct ScratchFolder {
    path: PathBuf,
    /// Whether somebody else removes it.
    left: bool,
    _lock: File,
}

impl ScratchFolder {
    /// An empty folder below `parent` that only we may enter.
    pub(crate) fn make(parent: &Path) -> std::io::Result<Self> {
        let mut random = [0; 4];
        getrandom::fill(&mut random).map_err(std::io::Error::other)?;
        let name = hex::encode(random);
        let unnamed = parent.join(format!("{UNNAMED}{name}"));
        std::fs::DirBuilder::new().mode(0o700).create(&unnamed)?;
        let attempt = || {
            let lock = File::create_new(unnamed.join(LOCK))?;
            rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
            let path = parent.join(format!("{PREFIX}{name}"));
            // A folder would take the place of an empty one.
            if path.symlink_metadata().is_ok() {
                return Err(std::io::ErrorKind::AlreadyExists.into());
            }
            std::fs::rename(&unnamed, &path)?;
            Ok(Self { path, left: false, _lock: lock })
        };
        attempt().inspect_err(|_| drop(std::fs::remove_dir_all(&unnamed)))
    }

    /// Removes what killed runs have left below `parent`. What cannot be removed stays: it is not ours, or for the next run.
    pub(crate) fn sweep(parent: &Path) {
        let deadline = Instant::now() + SWEEP_LIMIT;
        for entry in std::fs::read_dir(parent).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            let digits = |prefix| {
                let rest = name.strip_prefix(prefix).unwrap_or_default();
                rest.len() == 8 && rest.bytes().all(|b| b.is_ascii_hexdigit())
            };
            let path = entry.path();
            let old = |limit| {
                let age = entry.metadata().and_then(|m| m.modified()).ok().and_then(|m| m.elapsed().ok());
                age.is_some_and(|age| age > limit)
            };
            let left = (digits(PREFIX) && is_left(&path)) || (digits(UNNAMED) && is_ours(&path) && old(UNNAMED_LIMIT));
            if left {
                end_server(&path, deadline);
                match remove_until(&path, deadline) {
                    Ok(()) => tracing::info!(folder = %path.display(), "removed the leftovers of a killed run"),
                    Err(error) => tracing::debug!(folder = %path.display(), %error, "a killed run's folder stays"),
                }
            }
        }
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Lets somebody else remove it.
    pub(crate) fn leave(&mut self) {
        self.left = true;
    }

    /// Removes it now. It may have gone already.
    pub(crate) fn remove(&mut self) -> std::io::Result<()> {
        self.left = true;
        remove_all(&self.path)
    }
}

impl Drop for ScratchFolder {
    fn drop(&mut self) {
        if !self.left
            && let Err(error) = self.remove()
        {
            tracing::warn!(folder = %self.path.display(), %error, "the scratch folder stays");
        }
    }
}

/// Removes a folder with its lock last: if this is cut short, what is left can still be told from somebody else's folder.
/// Nothing is an error that somebody else has removed meanwhile.
fn remove_all(folder: &Path) -> std::io::Result<()> {
    for entry in gone(std::fs::read_dir(folder))?.into_iter().flatten() {
        let entry = entry?;
        if entry.file_name() == LOCK {
            continue;
        }
        let Some(kind) = gone(entry.file_type())? else { continue };
        gone(if kind.is_dir() { std::fs::remove_dir_all(entry.path()) } else { std::fs::remove_file(entry.path()) })?;
    }
    gone(std::fs::remove_dir_all(folder)).map(drop)
}

/// `None` for what is not there (any more).
fn gone<T>(result: std::io::Result<T>) -> std::io::Result<Option<T>> {
    match result {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        result => result.map(Some),
    }
}

/// Removes a folder in which others may still be at work: again and again until it has gone, or until then.
pub(crate) fn remove_until(folder: &Path, deadline: Instant) -> std::io::Result<()> {
    loop {
        match remove_all(folder) {
            // What may not be removed now may not be removed later.
            Err(error) if error.kind() != std::io::ErrorKind::PermissionDenied && Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(5));
            }
            ended => return ended,
        }
    }
}

/// Whether this is a folder, and one that we or the server's user have made.
fn is_ours(path: &Path) -> bool {
    let us = rustix::process::geteuid();
    path.symlink_metadata().is_ok_and(|m| m.is_dir() && (us.is_root() || m.uid() == us.as_raw()))
}

/// Whether the run that made this folder is gone.
fn is_left(path: &Path) -> bool {
    // A link is not followed: who made the folder could lead us anywhere.
    let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::CLOEXEC;
    is_ours(path)
        && rustix::fs::open(path.join(LOCK), flags, rustix::fs::Mode::empty())
            .is_ok_and(|lock| rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok())
}

/// Ends a server that lives on in a folder that is left (its keeper was killed as well), and waits until it has gone: what still
/// writes would keep the folder, and a new cluster whose folder got the same inode would be taken for the old one's
/// (`PGSharedMemoryCreate` of PostgreSQL's `src/backend/port/sysv_shmem.c`).
fn end_server(path: &Path, deadline: Instant) {
    let data = path.join("data");
    let first = std::fs::read_to_string(data.join("postmaster.pid")).ok();
    // Without a sign in front of it, which marks a server that takes no connections: initdb runs one
    // (`CreateLockFile` of PostgreSQL's `src/backend/utils/init/miscinit.c`).
    let number =
        first.and_then(|text| text.lines().next()?.trim_start_matches('-').parse().ok()).and_then(Pid::from_raw);
    let Some(number) = number else { return };
    // The number may be another process's by now.
    let lives =
        || std::fs::read_link(format!("/proc/{}/cwd", number.as_raw_nonzero())).is_ok_and(|there| there == data);
    let begun = Instant::now();
    while lives() {
        // Again and again: one that has only just been started does not listen yet. It may have gone.
        let signal = if begun.elapsed() < END_LIMIT { Signal::QUIT } else { Signal::KILL };
        let _ = rustix::process::kill_process(number, signal);
        if Instant::now() > deadline {
            tracing::warn!(folder = %path.display(), pid = %number.as_raw_nonzero(), "a killed run's scratch server does not end");
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_only_initdb_runs_is_ended_too() {
        let parent = tempfile::tempdir().unwrap();
        let data = parent.path().join("data");
        std::fs::create_dir(&data).unwrap();
        let mut server = std::process::Command::new("sleep").arg("600").current_dir(&data).spawn().unwrap();
        for first in ["", "x", "-", "-0", "99999999999", "1"] {
            std::fs::write(data.join("postmaster.pid"), first).unwrap();
            end_server(parent.path(), Instant::now() + SWEEP_LIMIT);
            assert!(server.try_wait().unwrap().is_none(), "{first:?}");
        }
        std::fs::write(data.join("postmaster.pid"), format!("-{}\n/data\n", server.id())).unwrap();
        // Nobody waits for it otherwise, and its number stays.
        std::thread::scope(|scope| {
            scope.spawn(|| end_server(parent.path(), Instant::now() + SWEEP_LIMIT));
            assert!(!server.wait().unwrap().success());
        });
    }

    #[test]
    fn a_folder_goes_while_another_empties_it_and_a_third_still_writes() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("lifeboat-01234567");
        for n in 0..3000 {
            std::fs::create_dir_all(folder.join(format!("data/{n}/base"))).unwrap();
            std::fs::write(folder.join(format!("data/{n}/base/file")), "").unwrap();
        }
        let mut other = std::process::Command::new("rm").arg("-rf").arg(folder.join("data")).spawn().unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for n in 0..300 {
                    // It fails once the folder has gone.
                    let _ = std::fs::create_dir(folder.join(format!("late{n}")));
                    std::thread::sleep(Duration::from_millis(1));
                }
            });
            std::thread::sleep(Duration::from_millis(5));
            remove_until(&folder, Instant::now() + Duration::from_secs(20)).unwrap();
        });
        other.wait().unwrap();
        assert!(!folder.exists());
    }

    #[test]
    fn what_a_killed_run_has_left_goes_and_what_a_living_one_has_stays() {
        let parent = tempfile::tempdir().unwrap();
        let living = ScratchFolder::make(parent.path()).unwrap();
        let mut killed = ScratchFolder::make(parent.path()).unwrap();
        killed.leave();
        let left = killed.path().to_path_buf();
        // As the system does it with a process's files.
        drop(killed);
        let foreign = parent.path().join("lifeboat-0123abcd");
        std::fs::create_dir(&foreign).unwrap();
        ScratchFolder::sweep(parent.path());
        assert!(living.path().exists() && foreign.exists() && !left.exists());
        let path = living.path().to_path_buf();
        drop(living);
        assert!(!path.exists());
    }
}
