//! The format of a copy: a tar archive of `backups/NAME/…`, as the files lie in Velero's bucket.

use std::collections::BTreeMap;

use lifeboat_core::{Error, ErrorKind, Proof, Result, Status, Tap};

use super::inspection::Inspection;
use crate::tar::{Piece, Reader};

/// The folder, under a location's prefix, in which each backup has a folder of its name.
pub(crate) const BACKUPS: &str = "backups/";

/// The key of the proof's details that holds the backup's name.
pub(crate) const BACKUP_DETAIL: &str = "backup";

/// Takes the proof of a copy, and checks its structure: an item for each resource, with the count and the fingerprint of
/// its objects.
pub struct BackupTap {
    reader: Reader,
    seen: Option<Seen>,
}

struct Seen {
    name: String,
    inspection: Inspection,
}

impl std::fmt::Debug for BackupTap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BackupTap").finish_non_exhaustive()
    }
}

impl Default for BackupTap {
    fn default() -> Self {
        Self::new()
    }
}

impl BackupTap {
    /// For a copy of one backup, whatever its name is.
    pub fn new() -> Self {
        Self { reader: Reader::default(), seen: None }
    }
}

fn corrupt(why: impl Into<String>) -> Error {
    Error::new(ErrorKind::Corrupt, "read", "the copy of a Velero backup", why)
}

/// The backup's and the file's name of a path `backups/NAME/FILE`.
pub(crate) fn split_key(key: &str) -> Option<(&str, &str)> {
    let (name, file) = key.strip_prefix(BACKUPS)?.split_once('/')?;
    (!name.is_empty() && !file.is_empty() && !file.contains('/')).then_some((name, file))
}

impl Tap for BackupTap {
    fn push(&mut self, chunk: &[u8]) -> Result<()> {
        let Self { reader, seen } = self;
        reader.push(chunk, &mut |piece| {
            match piece {
                Piece::Begin { name: path, .. } => {
                    let (name, file) = split_key(path)
                        .ok_or_else(|| corrupt(format!("it holds {path}, which is no file of a backup")))?;
                    let seen =
                        seen.get_or_insert_with(|| Seen { name: name.to_owned(), inspection: Inspection::new(name) });
                    if seen.name != name {
                        return Err(corrupt(format!("it holds two backups, {} and {name}", seen.name)));
                    }
                    seen.inspection.begin(file);
                }
                Piece::Data(data) => {
                    if let Some(seen) = seen {
                        seen.inspection.data(data);
                    }
                }
                Piece::End => {
                    if let Some(seen) = seen {
                        seen.inspection.end();
                    }
                }
            }
            Ok(())
        })
    }

    fn finish(self: Box<Self>) -> Result<Proof> {
        self.reader.finish()?;
        let Some(Seen { name, inspection }) = self.seen else { return Err(corrupt("it holds no file")) };
        let failed: Vec<_> = inspection.structure().into_iter().filter(|check| check.status == Status::Fail).collect();
        if !failed.is_empty() {
            let why: Vec<_> = failed.iter().map(|c| format!("{}: {} ({})", c.name, c.figure, c.detail)).collect();
            return Err(corrupt(why.join("; ")));
        }
        let mut details = BTreeMap::from([(BACKUP_DETAIL.to_owned(), name.into())]);
        if let Some(phase) = inspection.backup().and_then(|backup| backup.status.as_ref()?.phase.clone()) {
            details.insert("phase".to_owned(), phase.into());
        }
        let uncovered: Vec<_> = inspection.uncovered_claims().into_iter().map(|(claim, _)| claim).collect();
        if !uncovered.is_empty() {
            details.insert("claims without data".to_owned(), uncovered.into());
        }
        Ok(Proof { items: inspection.items(), details })
    }

    fn units_done(&self) -> u64 {
        self.seen.as_ref().map_or(0, |seen| seen.inspection.count())
    }
}
