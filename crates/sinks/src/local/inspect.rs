//! Checks of a folder before it is relied on.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use lifeboat_core::Check;
use lifeboat_core::report::human_bytes;

use crate::key;

/// Below this share of free space, or this many bytes, a backup may not fit.
const LITTLE_SHARE: u64 = 20;
const LITTLE_BYTES: u64 = 1 << 30;

pub(super) fn inspect(root: &Path, folder: &str) -> Vec<Check> {
    let shown = root.display();
    let meta = match root.metadata() {
        Ok(meta) if meta.is_dir() => meta,
        Ok(_) => {
            return vec![Check::fail("folder", "not a folder", format!("{shown} is a file: name a folder in the URL"))];
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let detail =
                format!("file://{shown} does not exist yet: the first backup creates it. Is the volume mounted?");
            return vec![Check::warn("folder", "missing", detail)];
        }
        Err(error) => return vec![Check::fail("folder", "not readable", format!("{shown}: {error}"))],
    };
    let mut found = vec![of_permissions(root, &meta)];
    found.extend(of_space(root));
    found.push(of_file_system(root, folder, &meta));
    found
}

fn of_permissions(root: &Path, meta: &std::fs::Metadata) -> Check {
    let mode = meta.mode() & 0o7777;
    let figure = format!("{mode:04o}");
    if mode & 0o002 != 0 && mode & 0o1000 == 0 {
        let detail = format!("anybody can replace the files in {}: chmod 700", root.display());
        return Check::warn("permissions", figure, detail);
    }
    let detail = match mode & 0o077 {
        0 => "only its owner has access",
        _ => "others see the names; the files themselves have mode 0600",
    };
    Check::pass("permissions", figure, detail)
}

fn of_space(root: &Path) -> Option<Check> {
    let space = rustix::fs::statvfs(root).ok()?;
    let (free, total) = (space.f_bavail * space.f_frsize, space.f_blocks * space.f_frsize);
    let figure = format!("{} free", human_bytes(free));
    let detail = format!("of {}", human_bytes(total));
    Some(if free < LITTLE_BYTES || free < total / LITTLE_SHARE {
        Check::warn("space", figure, format!("{detail}: a backup may not fit; prune, or choose another place"))
    } else {
        Check::pass("space", figure, detail)
    })
}

/// A file gets its name by being moved out of the uploads folder, which is impossible across file systems.
fn of_file_system(root: &Path, folder: &str, meta: &std::fs::Metadata) -> Check {
    let mut device = meta.dev();
    let artifacts = if folder.is_empty() { root.to_owned() } else { root.join(folder) };
    let uploads = root.join(key::uploads_folder(folder));
    if let Ok(meta) = artifacts.metadata() {
        device = meta.dev();
    }
    match uploads.metadata() {
        Ok(meta) if meta.dev() != device => {
            let detail = format!(
                "{} is on a different file system from {}: files cannot be moved between them; unmount it",
                uploads.display(),
                artifacts.display()
            );
            Check::fail("file system", "two", detail)
        }
        _ => Check::pass("file system", "one", artifacts.display().to_string()),
    }
}
