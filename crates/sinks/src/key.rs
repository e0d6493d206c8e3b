//! Keys: which strings are keys, and which are in a folder that is not for artifacts.

use lifeboat_core::sink::UPLOADS_FOLDER;
use lifeboat_core::{Error, ErrorKind, Result};

/// The folder for everything that Lifeboat stores besides artifacts.
pub(crate) const OWN_FOLDER: &str = "_lifeboat";

/// The suffix of a local file still being written.
#[cfg(feature = "file")]
pub(crate) const PARTIAL_SUFFIX: &str = ".partial";

/// Checks that `key` is a relative path without control characters, and that none of its parts is empty, `.` or `..`.
///
/// # Errors
/// [`ErrorKind::Config`], saying what is wrong with it.
pub(crate) fn check(operation: &'static str, key: &str) -> Result<()> {
    let wrong =
        |why: String| Err(Error::new(ErrorKind::Config, operation, format!("key \"{}\"", key.escape_debug()), why));
    if key.is_empty() {
        return wrong("it is empty".into());
    }
    if key.len() > 1024 {
        return wrong("it is longer than 1024 bytes".into());
    }
    if let Some(c) = key.chars().find(char::is_ascii_control) {
        return wrong(format!("it has the control character {c:?}"));
    }
    for part in key.split('/') {
        match part {
            "" => return wrong("a part between its slashes is empty".into()),
            "." | ".." => return wrong(format!("a part is \"{part}\"")),
            _ => {}
        }
    }
    Ok(())
}

/// A text as one word of a POSIX shell.
#[cfg(any(feature = "file", feature = "s3"))]
pub(crate) fn shell_word(text: &str) -> String {
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-./:=@%+,".contains(&b)) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// Whether a listing under `prefix` omits `key`: it is in one of Lifeboat's own folders, which was not asked for.
#[cfg(any(feature = "s3", test))]
pub(crate) fn is_left_out(key: &str, prefix: &str) -> bool {
    folders(key).any(|folder| folder_is_own(folder) && !prefix.starts_with(folder))
}

/// Whether a folder's key (with the slash at its end) is one of Lifeboat's own.
pub(crate) fn folder_is_own(folder: &str) -> bool {
    folder.trim_end_matches('/').rsplit('/').next() == Some(OWN_FOLDER)
}

/// Every folder above `key`, with the slash at its end, from the outermost.
#[cfg(any(feature = "s3", test))]
fn folders(key: &str) -> impl Iterator<Item = &str> {
    key.match_indices('/').map(|(at, _)| &key[..=at])
}

/// The folder for notes about unfinished uploads of objects in `folder`; the same for the notes themselves.
pub(crate) fn uploads_folder(folder: &str) -> String {
    if folder == UPLOADS_FOLDER || folder.ends_with(&format!("/{UPLOADS_FOLDER}")) {
        return folder.to_owned();
    }
    lifeboat_core::name::join_key(folder, UPLOADS_FOLDER)
}

/// Where a sink keeps its notes about unfinished uploads.
#[cfg(any(feature = "file", feature = "s3"))]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Notes {
    /// Beside each key.
    #[default]
    Beside,
    /// All of them below this folder.
    In(String),
}

#[cfg(any(feature = "file", feature = "s3"))]
impl Notes {
    pub(crate) fn in_folder(folder: &str) -> Self {
        Self::In(folder.trim_matches('/').to_owned())
    }

    /// The folder for the notes about `key`.
    pub(crate) fn folder_for(&self, key: &str) -> String {
        match self {
            Self::Beside => uploads_folder(lifeboat_core::name::split_key(key).0),
            Self::In(folder) => uploads_folder(folder),
        }
    }

    /// The key as its note names it: relative to the folder that holds the notes' folder, or, with a slash before it,
    /// relative to the sink.
    #[cfg(feature = "s3")]
    pub(crate) fn name_of(&self, key: &str) -> String {
        match self {
            Self::Beside => lifeboat_core::name::split_key(key).1.to_owned(),
            Self::In(_) => format!("/{key}"),
        }
    }
}

/// The key that a note in the uploads folder of `folder` names. `None` when it is not one of Lifeboat's notes.
#[cfg(any(feature = "s3", test))]
pub(crate) fn named_in_note(folder: &str, name: &str) -> Option<String> {
    match name.strip_prefix('/') {
        Some(key) => check("clean up", key).ok().map(|()| key.to_owned()),
        None if name.contains('/') => None,
        None => Some(lifeboat_core::name::join_key(folder, name)),
    }
}

/// Whether `key` is that of a local file that is still being written: no object.
#[cfg(feature = "file")]
pub(crate) fn is_partial(key: &str) -> bool {
    let (folder, name) = lifeboat_core::name::split_key(key);
    name.ends_with(PARTIAL_SUFFIX) && (folder == UPLOADS_FOLDER || folder.ends_with(&format!("/{UPLOADS_FOLDER}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_key_is_refused() {
        for key in ["", "/a", "a/", "a//b", "..", "a/../b", "./a", "a\0b", "a\nb", &"x".repeat(1025)] {
            assert_eq!(check("write", key).unwrap_err().kind(), ErrorKind::Config, "{key:?}");
        }
        for key in ["a", "a/b.c", "ü/ +%~#?&=:@\\", "...", "a..b", ".hidden"] {
            check("write", key).unwrap();
        }
    }

    #[test]
    fn a_shell_reads_a_word_as_it_was() {
        assert_eq!(shell_word("/a/b-c.zst"), "/a/b-c.zst");
        assert_eq!(shell_word("it's $HOME"), r"'it'\''s $HOME'");
    }

    #[test]
    fn own_folders_are_listed_only_when_asked_for() {
        let note = "pg/_lifeboat/uploads/x.json";
        assert!(is_left_out(note, "") && is_left_out(note, "pg/") && is_left_out(note, "pg/_life"));
        assert!(!is_left_out(note, "pg/_lifeboat/") && !is_left_out(note, "pg/_lifeboat/uploads/x"));
        assert!(!is_left_out("pg/_lifeboat", "") && !is_left_out("pg/x_lifeboat/a", ""));
    }

    #[cfg(feature = "s3")]
    #[test]
    fn a_note_names_its_key_wherever_it_lies() {
        for (notes, folder) in [(Notes::Beside, "a/b"), (Notes::in_folder("x/y/"), "x/y")] {
            assert_eq!(notes.folder_for("a/b/key"), format!("{folder}/{UPLOADS_FOLDER}"));
            assert_eq!(named_in_note(folder, &notes.name_of("a/b/key")).as_deref(), Some("a/b/key"));
        }
        for foreign in ["b/key", "/../key", "/", "/a//b"] {
            assert_eq!(named_in_note("a", foreign), None, "{foreign}");
        }
    }
}
