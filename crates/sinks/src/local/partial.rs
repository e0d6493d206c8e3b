//! A file being written: its temporary name, its publication, and what a `kill -9` leaves of it.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use lifeboat_core::name::{format_stamp, join_key, parse_stamp, split_key};
use lifeboat_core::{Error, ErrorKind, Result};

use super::past_cache::Pieces;
use super::{io_error, locate};
use crate::key::{self, Notes, PARTIAL_SUFFIX};

/// What a file may replace when it gets its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Over {
    /// Nothing: the name must be free.
    Nothing,
    /// An existing file. Its readers keep the old one; at no moment is there no file.
    WhatIsThere,
}

/// A file under a temporary name. Dropping it removes it, unless it was published.
///
/// It stays locked (`flock`) while it is written, so that a clean-up can tell it from one whose writer was killed.
pub(super) struct Partial {
    file: File,
    pieces: Pieces,
    path: PathBuf,
    target: PathBuf,
    key: String,
    bytes: u64,
    over: Over,
    /// Folders whose entries have changed and must be synced.
    changed: Vec<PathBuf>,
    published: bool,
}

impl Partial {
    /// Makes the temporary file for `key`, and the folders it needs.
    ///
    /// # Errors
    /// [`ErrorKind::AlreadyExists`] when the key is taken.
    pub(super) fn begin(root: &Path, notes: &Notes, key: &str, over: Over) -> Result<Self> {
        let target = locate(root, "write", key)?;
        match target.symlink_metadata() {
            Ok(_) if over == Over::Nothing => return Err(taken(key)),
            Ok(meta) if !meta.is_file() => {
                let why = "a folder of that name exists";
                return Err(Error::new(ErrorKind::AlreadyExists, "write", key, why));
            }
            _ => {}
        }
        let name = split_key(key).1;
        let uploads = locate(root, "write", &notes.folder_for(key))?;
        let mut changed = Vec::new();
        // Another upload that ends at this moment removes the empty folder: make it again.
        for _ in 0..100 {
            match make_folders(&uploads, &mut changed) {
                Ok(()) => {}
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                Err(e) => return Err(io_error("make folder", &uploads, e)),
            }
            let path = uploads.join(partial_name(name));
            match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path) {
                Ok(file) => {
                    // A file system without locks only loses the distinction.
                    if let Err(error) = file.lock() {
                        tracing::debug!(%error, path = %path.display(), "cannot lock");
                    }
                    let key = key.to_owned();
                    let pieces = Pieces::new();
                    return Ok(Self { file, pieces, path, target, key, bytes: 0, over, changed, published: false });
                }
                Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::AlreadyExists) => {}
                Err(e) => return Err(io_error("create", &path, e)),
            }
        }
        Err(Error::new(ErrorKind::Io, "create", uploads.display().to_string(), "the folder keeps disappearing"))
    }

    pub(super) fn write(&mut self, chunk: &[u8]) -> Result<()> {
        self.pieces.write(&mut self.file, chunk).map_err(|e| self.failed(e))?;
        self.bytes += chunk.len() as u64;
        Ok(())
    }

    /// Makes the file durable, gives it its name, and makes the name durable.
    pub(super) fn publish(mut self) -> Result<u64> {
        let flushed = self.pieces.finish(&mut self.file).and_then(|()| self.file.sync_all());
        flushed.map_err(|e| self.failed(e))?;
        let folder = self.target.parent().unwrap_or(Path::new("/")).to_owned();
        make_folders(&folder, &mut self.changed).map_err(|e| io_error("make folder", &folder, e))?;
        let renamed = match self.over {
            Over::Nothing => rename_without_replacing(&self.path, &self.target),
            Over::WhatIsThere => std::fs::rename(&self.path, &self.target),
        };
        renamed.map_err(|e| match e.kind() {
            io::ErrorKind::AlreadyExists => taken(&self.key),
            io::ErrorKind::Unsupported => Error::new(
                ErrorKind::Unsupported,
                "write",
                self.target.display().to_string(),
                "this file system can neither rename without replacing nor create hard links: a file could be overwritten",
            ),
            _ => io_error("rename to", &self.target, e),
        })?;
        self.published = true;
        self.changed.push(folder);
        for folder in &self.changed {
            sync_folder(folder).map_err(|e| io_error("sync", folder, e))?;
        }
        self.see_that_it_is_there()?;
        Ok(self.bytes)
    }

    /// Mounted file systems are servers too, so look at what is there now, by its name.
    fn see_that_it_is_there(&self) -> Result<()> {
        let there = self.target.symlink_metadata().map_err(|e| io_error("look up", &self.target, e))?.len();
        if there == self.bytes {
            return Ok(());
        }
        if let Err(error) = std::fs::remove_file(&self.target) {
            tracing::warn!(%error, path = %self.target.display(), "cannot remove an incomplete file");
        }
        let why = format!("the file has {there} bytes of the {} written", self.bytes);
        Err(Error::new(ErrorKind::Corrupt, "write", self.target.display().to_string(), why)
            .hint("the file system loses data that it has confirmed: check the disk, or the server of the mount"))
    }

    fn failed(&self, error: io::Error) -> Error {
        let error_of_write = io_error("write", &self.target, error);
        let message = format!("{} (after {} bytes)", error_of_write.message(), self.bytes);
        let again = Error::new(error_of_write.kind(), "write", self.target.display().to_string(), message);
        match error_of_write.typed_hint() {
            Some(hint) => again.hint(hint.clone()),
            None => again,
        }
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if !self.published
            && let Err(error) = std::fs::remove_file(&self.path)
        {
            tracing::warn!(%error, path = %self.path.display(), "cannot remove the temporary file");
        }
        remove_if_empty(&self.path);
    }
}

fn taken(key: &str) -> Error {
    Error::new(ErrorKind::AlreadyExists, "write", key, "an object of that name already exists")
}

/// Removes the folders of notes above `path` if they are empty.
fn remove_if_empty(path: &Path) {
    // The uploads folder, then `_lifeboat` itself. One that is not empty stays: that is no error.
    for folder in path.ancestors().skip(1).take(2) {
        if std::fs::remove_dir(folder).is_err() {
            return;
        }
    }
}

/// Creates `folder` and its missing parents, and notes which folders got a new entry.
fn make_folders(folder: &Path, changed: &mut Vec<PathBuf>) -> io::Result<()> {
    let missing: Vec<_> = folder.ancestors().take_while(|f| !f.as_os_str().is_empty() && !f.exists()).collect();
    for folder in missing.into_iter().rev() {
        match DirBuilder::new().mode(0o700).create(folder) {
            Ok(()) => changed.extend(folder.parent().map(Path::to_owned)),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    match File::open(folder).and_then(|f| f.sync_all()) {
        // Some network file systems do not know the call for folders. One that is gone was an empty uploads folder.
        Err(e)
            if matches!(
                e.kind(),
                io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported | io::ErrorKind::NotFound
            ) =>
        {
            Ok(())
        }
        result => result,
    }
}

fn rename_without_replacing(from: &Path, to: &Path) -> io::Result<()> {
    #[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
    {
        use rustix::fs::{CWD, RenameFlags, renameat_with};
        match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE).map_err(io::Error::from) {
            // NFS and old kernels: fall through to the link.
            Err(e) if matches!(e.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported) => {}
            result => return result,
        }
    }
    link_and_unlink(from, to)
}

/// For file systems that cannot rename without replacing. A crash between the two steps leaves the temporary name
/// beside the published one; the clean-up removes it.
fn link_and_unlink(from: &Path, to: &Path) -> io::Result<()> {
    match std::fs::hard_link(from, to) {
        Ok(()) => std::fs::remove_file(from),
        Err(e) if matches!(e.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::Unsupported) => {
            Err(io::ErrorKind::Unsupported.into())
        }
        Err(e) => Err(e),
    }
}

/// `<name>.<time>-<random>.partial`; a long name is cut, because a file's name has at most 255 bytes.
fn partial_name(name: &str) -> String {
    let mut random = [0; 8];
    // Without randomness the time still tells apart all but the closest.
    let _ = getrandom::fill(&mut random);
    let cut = (0..=name.len().min(190)).rev().find(|at| name.is_char_boundary(*at)).unwrap_or(0);
    format!("{}.{}-{}{PARTIAL_SUFFIX}", &name[..cut], format_stamp(Timestamp::now()), hex::encode(random))
}

/// When the upload with this temporary name began. `None` for a foreign name.
fn begun(name: &str) -> Option<Timestamp> {
    let (_, tail) = name.strip_suffix(PARTIAL_SUFFIX)?.rsplit_once('.')?;
    let (stamp, random) = tail.rsplit_once('-')?;
    (random.len() == 16 && random.bytes().all(|b| b.is_ascii_hexdigit())).then_some(())?;
    parse_stamp(stamp)
}

/// Removes the temporary files in the uploads folder of `folder` that were begun before `before` and that nobody is
/// writing. Returns what it removed.
pub(super) fn remove_abandoned(root: &Path, folder: &str, before: Timestamp, dry_run: bool) -> Result<Vec<String>> {
    let folder_key = key::uploads_folder(folder);
    let uploads = locate(root, "clean up", &folder_key)?;
    let entries = match std::fs::read_dir(&uploads) {
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => return Ok(Vec::new()),
        entries => entries.map_err(|e| io_error("read", &uploads, e))?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|e| io_error("read", &uploads, e))?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        if begun(&name).is_some_and(|at| at < before) && entry.file_type().is_ok_and(|t| t.is_file()) {
            names.push(name);
        }
    }
    names.sort();
    let mut removed = Vec::new();
    for name in names {
        let path = uploads.join(&name);
        let Ok(file) = File::open(&path) else { continue };
        if matches!(file.try_lock(), Err(TryLockError::WouldBlock)) {
            continue;
        }
        let bytes = file.metadata().map(|m| m.len()).unwrap_or_default();
        if !dry_run {
            std::fs::remove_file(&path).map_err(|e| io_error("remove", &path, e))?;
            remove_if_empty(&path);
        }
        removed.push(format!("unfinished file {} ({bytes} bytes)", join_key(&folder_key, &name)));
    }
    Ok(removed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_temporary_name_says_when_it_was_begun() {
        let long = "ü".repeat(127);
        for name in ["a.dump.zst", long.as_str()] {
            let partial = partial_name(name);
            assert!(partial.len() <= 255);
            let age = Timestamp::now().as_second() - begun(&partial).unwrap().as_second();
            assert!((0..5).contains(&age));
        }
        for foreign in ["a.partial", "a.20260101-000000.partial", "a.20260101-000000-zz.partial", "movie.mkv"] {
            assert_eq!(begun(foreign), None, "{foreign}");
        }
    }

    #[test]
    fn a_file_that_is_shorter_than_what_was_written_is_not_published() {
        let root = tempfile::tempdir().unwrap();
        for over in [Over::Nothing, Over::WhatIsThere] {
            let mut partial = Partial::begin(root.path(), &Notes::Beside, "a/b", over).unwrap();
            partial.write(&[7; 5000]).unwrap();
            // As a full server of a mount does, which has confirmed the bytes.
            let path = partial.path.clone();
            partial.pieces.finish(&mut partial.file).unwrap();
            File::options().write(true).open(&path).unwrap().set_len(4096).unwrap();
            let error = partial.publish().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
            assert!(error.message().contains("4096 bytes of the 5000"), "{error}");
            assert!(!root.path().join("a/b").exists());
        }
    }

    #[test]
    fn neither_way_of_publishing_replaces_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        for publish in [rename_without_replacing, link_and_unlink] {
            std::fs::write(&from, "new").unwrap();
            std::fs::write(&to, "old").unwrap();
            assert_eq!(publish(&from, &to).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
            assert_eq!(std::fs::read_to_string(&to).unwrap(), "old");
            std::fs::remove_file(&to).unwrap();
            publish(&from, &to).unwrap();
            assert_eq!(std::fs::read_to_string(&to).unwrap(), "new");
            assert!(!from.exists());
        }
    }
}
