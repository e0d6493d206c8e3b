//! Listing: the files below a folder in ascending order of their keys' bytes, one folder in memory at a time.

use std::io;
use std::path::Path;

use lifeboat_core::sink::LeftOut;
use lifeboat_core::{ObjectInfo, Result};

use super::{LocalSink, info, io_error};
use crate::key;

/// What is below a folder.
pub(super) enum Found {
    Object(ObjectInfo),
    /// What has no key, or is neither a file nor a folder. Those of a folder come before its objects.
    LeftOut(LeftOut),
}

/// Calls `found` for everything whose key starts with `prefix`, in order, until it returns `false`.
pub(super) fn walk(root: &Path, prefix: &str, found: &mut dyn FnMut(Found) -> bool) -> Result<()> {
    if !root.is_dir() {
        return Err(LocalSink::missing_root(root, "list"));
    }
    // Only the folder that the prefix names can hold matches. It is reached part by part, so that a prefix with `..`
    // or through a symbolic link finds nothing.
    let mut folder = String::new();
    if let Some((parts, _)) = prefix.rsplit_once('/') {
        if key::check("list", parts).is_err() {
            return Ok(());
        }
        for part in parts.split('/') {
            folder = format!("{folder}{part}/");
            if !root.join(&folder[..folder.len() - 1]).symlink_metadata().is_ok_and(|m| m.is_dir()) {
                return Ok(());
            }
        }
    }
    visit(root, &folder, prefix, found).map(drop)
}

/// Visits a folder (its key with the slash at its end, or `""`). Returns whether to go on.
fn visit(root: &Path, folder: &str, prefix: &str, found: &mut dyn FnMut(Found) -> bool) -> Result<bool> {
    let path = root.join(folder);
    let entries = match std::fs::read_dir(&path) {
        // Removed since its parent was read: it has no objects.
        Err(e) if e.kind() == io::ErrorKind::NotFound && !folder.is_empty() => return Ok(true),
        entries => entries.map_err(|e| io_error("list", &path, e))?,
    };
    // Keys are compared as whole strings, so a folder sorts with its slash: "a.b" comes before "a/x".
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|e| io_error("list", &path, e))?;
        let kind = entry.file_type().map_err(|e| io_error("list", &entry.path(), e))?;
        let name = entry.file_name().into_string();
        let left_out = match &name {
            Ok(_) if kind.is_dir() || kind.is_file() => None,
            Ok(name) if kind.is_symlink() => Some(LeftOut::new(format!("{folder}{name}"), "a link")),
            Ok(name) => Some(LeftOut::new(format!("{folder}{name}"), "a device, a pipe or a socket")),
            Err(name) => {
                let name = name.as_encoded_bytes().escape_ascii();
                Some(LeftOut::new(format!("{folder}{name}"), "a file with a name that is not UTF-8"))
            }
        };
        if let Some(left_out) = left_out {
            if left_out.path.starts_with(prefix) && !found(Found::LeftOut(left_out)) {
                return Ok(false);
            }
            continue;
        }
        let Ok(mut name) = name else { continue };
        if kind.is_dir() {
            name.push('/');
        }
        let key = format!("{folder}{name}");
        let may_match = key.starts_with(prefix) || (kind.is_dir() && prefix.starts_with(&key));
        let own = kind.is_dir() && key::folder_is_own(&key) && !prefix.starts_with(&key);
        if may_match && !own && !key::is_partial(&key) {
            names.push(name);
        }
    }
    names.sort_unstable();
    for name in names {
        let key = format!("{folder}{name}");
        if key.ends_with('/') {
            if !visit(root, &key, prefix, found)? {
                return Ok(false);
            }
            continue;
        }
        let path = root.join(&key);
        match path.symlink_metadata() {
            Ok(meta) if !found(Found::Object(info(key, &meta))) => return Ok(false),
            Ok(_) => {}
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(io_error("list", &path, e)),
        }
    }
    Ok(true)
}
