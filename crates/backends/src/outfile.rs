//! The destination of a restore that does not go into a live system: a file of mode 0600, or standard output.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use lifeboat_core::{Error, ErrorKind, Result};

/// A file, or standard output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// Standard output.
    Stdout,
    /// A file, which only its owner may read.
    File {
        /// The path.
        path: PathBuf,
        /// Whether to replace an existing file.
        replace: bool,
    },
}

impl Destination {
    /// Parses `-`, `file:PATH` or `file:///PATH`. `None` for everything else.
    pub fn parse(text: &str, replace: bool) -> Option<Self> {
        if text == "-" {
            return Some(Self::Stdout);
        }
        let path = text.strip_prefix("file:")?;
        let path = path.strip_prefix("//").unwrap_or(path);
        (!path.is_empty()).then(|| Self::File { path: path.into(), replace })
    }

    /// The name for messages.
    pub fn name(&self) -> String {
        match self {
            Self::Stdout => "standard output".to_owned(),
            Self::File { path, .. } => path.display().to_string(),
        }
    }

    /// Refuses what [`write`](Self::write) would refuse, before anything is fetched.
    ///
    /// # Errors
    /// [`ErrorKind::AlreadyExists`].
    pub fn check(&self) -> Result<()> {
        match self {
            Self::File { path, replace: false } if path.symlink_metadata().is_ok() => Err(exists(path)),
            _ => Ok(()),
        }
    }

    /// Writes the content. A file appears whole or not at all: it is written under a temporary name, synced, and
    /// renamed last.
    ///
    /// # Errors
    /// [`ErrorKind::AlreadyExists`] for an existing file that may not be replaced; any error of the system.
    pub fn write(&self, content: &[u8]) -> Result<()> {
        let Self::File { path, replace } = self else {
            let mut out = std::io::stdout().lock();
            return out
                .write_all(content)
                .and_then(|()| out.flush())
                .map_err(|e| Error::io("write to", self.name(), e));
        };
        let failed = |e| Error::io("write", path.display().to_string(), e);
        let temporary = beside(path)?;
        let written = (|| {
            let mut file = File::options().write(true).create_new(true).mode(0o600).open(&temporary)?;
            file.write_all(content)?;
            file.sync_all()
        })();
        let named = written.and_then(|()| {
            if *replace {
                std::fs::rename(&temporary, path)
            } else {
                // A link never takes the place of a file that has appeared meanwhile.
                std::fs::hard_link(&temporary, path).and_then(|()| std::fs::remove_file(&temporary))
            }
        });
        named.map_err(|error| {
            let _ = std::fs::remove_file(&temporary);
            if error.kind() == std::io::ErrorKind::AlreadyExists { exists(path) } else { failed(error) }
        })
    }
}

fn exists(path: &Path) -> Error {
    Error::new(ErrorKind::AlreadyExists, "write", path.display().to_string(), "it already exists")
        .hint("choose another name, or give --replace to replace it")
}

/// A name of its own in the folder of the file.
fn beside(path: &Path) -> Result<PathBuf> {
    let subject = || path.display().to_string();
    let Some(name) = path.file_name() else {
        return Err(Error::new(ErrorKind::Config, "write", subject(), "it is not the name of a file"));
    };
    let mut random = [0; 8];
    getrandom::fill(&mut random).map_err(|e| Error::new(ErrorKind::Io, "write", subject(), e.to_string()))?;
    let mut hidden = std::ffi::OsString::from(".");
    hidden.push(name);
    hidden.push(format!(".{}.partial", hex::encode(random)));
    Ok(path.with_file_name(hidden))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_file_is_its_owners_alone_and_never_overwritten_by_accident() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("zone.txt");
        let text = format!("file:{}", path.display());
        let first = Destination::parse(&text, false).unwrap();
        first.check().unwrap();
        first.write(b"one").unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        for refused in [first.check(), first.write(b"two")] {
            assert_eq!(refused.unwrap_err().kind(), ErrorKind::AlreadyExists);
        }
        assert_eq!(std::fs::read(&path).unwrap(), b"one");
        Destination::parse(&text, true).unwrap().write(b"two").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"two");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing half-written is left");
    }

    #[test]
    fn the_forms_are_read() {
        assert_eq!(Destination::parse("-", false), Some(Destination::Stdout));
        assert_eq!(
            Destination::parse("file:///a/b", true),
            Some(Destination::File { path: "/a/b".into(), replace: true })
        );
        assert_eq!(Destination::parse("example.org", false), None);
        assert_eq!(Destination::parse("file:", false), None);
    }
}
