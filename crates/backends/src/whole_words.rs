//! The unredacted messages of programs and servers, including the values that are otherwise removed, on request.

use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// Names the file that they are added to, when everything is to be told (`-vv`).
pub(crate) const VARIABLE: &str = "LIFEBOAT_WHOLE_WORDS";

/// Keeps what somebody has said, if that was asked for.
pub(crate) fn keep(who: &str, said: &str) {
    if said.is_empty() || !tracing::enabled!(tracing::Level::TRACE) {
        return;
    }
    let Some(path) = std::env::var_os(VARIABLE).filter(|path| !path.is_empty()) else { return };
    let path = Path::new(&path);
    match append(path, who, said) {
        Ok(()) => tracing::debug!(file = %path.display(), who, "its whole words were kept"),
        Err(error) => tracing::warn!(file = %path.display(), %error, "the whole words were not kept"),
    }
}

/// Adds to a file that only its owner can read.
fn append(path: &Path, who: &str, said: &str) -> std::io::Result<()> {
    // A link or a pipe that somebody else has laid there is not written to.
    let flags = i32::try_from(rustix::fs::OFlags::NOFOLLOW.bits()).unwrap_or_default();
    let mut file = std::fs::OpenOptions::new().append(true).create(true).mode(0o600).custom_flags(flags).open(path)?;
    let found = file.metadata()?;
    if !found.is_file() || found.permissions().mode() & 0o077 != 0 {
        return Err(std::io::Error::other("others can read it, or it is not a file: name one that does not exist yet"));
    }
    let at = jiff::Timestamp::now();
    file.write_all(format!("--- {at:.0} {who}\n{}\n", said.trim_end()).as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_lie_in_a_file_that_others_cannot_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("words");
        for said in ["hunter2\n", "more"] {
            append(&path, "pg_restore", said).unwrap();
        }
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains("pg_restore\nhunter2\n--- ") && text.ends_with("more\n"), "{text}");
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        std::os::unix::fs::symlink(&path, folder.path().join("link")).unwrap();
        append(&folder.path().join("link"), "x", "y").unwrap_err();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        append(&path, "x", "y").unwrap_err();
    }
}
