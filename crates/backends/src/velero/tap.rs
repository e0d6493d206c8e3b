//! The format of a copy: a tar archive of `backups/NAME/…`, with the files as in Velero's bucket.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use futures::TryStreamExt;
use lifeboat_core::progress::{Event, Progress};
use lifeboat_core::{ByteStream, Context, Error, ErrorKind, Proof, Result, Status, Tap};
use tokio::sync::mpsc;

use super::inspection::Inspection;
use crate::tar::{Piece, Reader};

/// The folder, under a location's prefix, in which each backup has a folder with its name.
pub(crate) const BACKUPS: &str = "backups/";

/// The key of the proof's details that holds the backup's name.
pub(crate) const BACKUP_DETAIL: &str = "backup";

/// Takes the proof of a copy, with an item for each resource that has the count and fingerprint of its objects, and
/// checks the copy's structure.
pub struct BackupTap {
    reader: Reader,
    seen: Option<Seen>,
    must_cover: Vec<String>,
    notes: Option<Arc<dyn Progress>>,
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
    /// Creates a tap for a copy of one backup of any name.
    pub fn new() -> Self {
        Self { reader: Reader::default(), seen: None, must_cover: Vec::new(), notes: None }
    }

    /// Sets claims, as `namespace/name`, whose data must be in the backup: without it, the copy is bad.
    #[must_use]
    pub fn must_cover(mut self, claims: impl IntoIterator<Item = String>) -> Self {
        self.must_cover.extend(claims);
        self
    }

    /// Reports each claim in the backup without volume data, with the reason, as a progress note.
    #[must_use]
    pub fn noting(mut self, progress: Arc<dyn Progress>) -> Self {
        self.notes = Some(progress);
        self
    }

    /// Reads a whole copy on its own thread, and takes its proof. An error of the stream takes precedence.
    pub(crate) async fn proof_of(mut stream: ByteStream, cx: &Context) -> Result<Proof> {
        let (pieces, mut inbox) = mpsc::channel::<Bytes>(4);
        let parser = tokio::task::spawn_blocking(move || {
            let mut tap = Box::new(Self::new());
            let mut failed = None;
            while let Some(bytes) = inbox.blocking_recv() {
                if failed.is_none() {
                    failed = tap.push(&bytes).err();
                }
            }
            failed.map_or_else(|| tap.finish(), Err)
        });
        let read = async {
            while let Some(chunk) = stream.try_next().await? {
                let _ = pieces.send(chunk).await;
            }
            Ok(())
        };
        let read = tokio::select! {
            biased;
            () = cx.cancel.cancelled() => Err(Error::cancelled("read", "the copy of a Velero backup")),
            read = read => read,
        };
        drop(pieces);
        let proof = parser.await;
        read?;
        proof.map_err(|error| Error::new(ErrorKind::Internal, "parse", "the copy", error.to_string()))?
    }
}

fn corrupt(why: impl Into<String>) -> Error {
    Error::new(ErrorKind::Corrupt, "read", "the copy of a Velero backup", why)
}

/// The names of the backup and the file in a path `backups/NAME/FILE`.
pub(crate) fn split_key(key: &str) -> Option<(&str, &str)> {
    let (name, file) = key.strip_prefix(BACKUPS)?.split_once('/')?;
    (!name.is_empty() && !file.is_empty() && !file.contains('/')).then_some((name, file))
}

impl Tap for BackupTap {
    fn push(&mut self, chunk: &[u8]) -> Result<()> {
        let Self { reader, seen, .. } = self;
        reader.push(chunk, &mut |piece| {
            match piece {
                Piece::Begin { name: path, .. } => {
                    let (name, file) = split_key(path)
                        .ok_or_else(|| corrupt(format!("it holds {path}, which is not a file of a backup")))?;
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
        let Self { reader, seen, must_cover, notes } = *self;
        reader.finish()?;
        let Some(Seen { name, inspection }) = seen else { return Err(corrupt("it holds no file")) };
        let mut failed: Vec<_> =
            inspection.structure().into_iter().filter(|check| check.status == Status::Fail).collect();
        if !must_cover.is_empty() {
            let coverage = inspection.coverage(&must_cover);
            failed.extend(coverage.into_iter().filter(|check| check.status == Status::Fail));
        }
        if !failed.is_empty() {
            let why: Vec<_> = failed.iter().map(|c| format!("{}: {} ({})", c.name, c.figure, c.detail)).collect();
            return Err(corrupt(why.join("; ")));
        }
        let mut details = BTreeMap::from([(BACKUP_DETAIL.to_owned(), name.into())]);
        if let Some(phase) = inspection.backup().and_then(|backup| backup.status.as_ref()?.phase.clone()) {
            details.insert("phase".to_owned(), phase.into());
        }
        let uncovered = inspection.uncovered_claims();
        if let Some(progress) = &notes {
            for (claim, why) in &uncovered {
                progress.event(Event::Note(format!("the claim {claim} is in the backup, but its data is not: {why}")));
            }
        }
        for failed in inspection.failures() {
            if let Some(progress) = &notes {
                progress.event(Event::Note(format!("{}: {} ({})", failed.name, failed.figure, failed.detail)));
            }
            details.insert(failed.name, failed.detail.into());
        }
        let uncovered: Vec<_> = uncovered.into_iter().map(|(claim, _)| claim).collect();
        if !uncovered.is_empty() {
            details.insert("claims without data".to_owned(), uncovered.into());
        }
        Ok(Proof::new(inspection.items()).details(details))
    }

    fn units_done(&self) -> u64 {
        self.seen.as_ref().map_or(0, |seen| seen.inspection.count())
    }

    fn units(&self) -> &'static str {
        "resources"
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;
    use crate::tar;

    /// The files of a backup `b`, in the order of the parts of the fuzzer's input.
    const FILES: [&str; 9] = [
        "velero-backup.json",
        "b.tar.gz",
        "b-resource-list.json.gz",
        "b-results.gz",
        "b-podvolumebackups.json.gz",
        "b-volumesnapshots.json.gz",
        "b-itemoperations.json.gz",
        "b-volumeinfo.json.gz",
        "b-logs.gz",
    ];

    fn copy(parts: &[u8]) -> Vec<u8> {
        let mut archive = Vec::new();
        for (file, part) in FILES.iter().zip(parts.split(|byte| *byte == 0xff)) {
            let stored = if file.ends_with(".gz") {
                let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
                encoder.write_all(part).unwrap();
                encoder.finish().unwrap()
            } else {
                part.to_vec()
            };
            let bytes = stored.len() as u64;
            archive.extend_from_slice(&tar::header(&format!("{BACKUPS}b/{file}"), bytes, 0));
            archive.extend_from_slice(&stored);
            archive.extend_from_slice(&tar::padding(bytes));
        }
        archive.extend_from_slice(&tar::end());
        archive
    }

    fn prove(archive: &[u8], size: usize) -> Result<Proof, String> {
        let mut tap = Box::new(BackupTap::new());
        for chunk in archive.chunks(size.max(1)) {
            tap.push(chunk).map_err(|error| error.to_string())?;
        }
        tap.finish().map_err(|error| error.to_string())
    }

    /// Its first byte is the size of the chunks.
    #[test]
    fn the_fuzzers_corpus_is_proven_or_refused_however_it_is_cut() {
        let good = lifeboat_testkit::corpus::replay("velero", |parts, size| prove(&copy(parts), size));
        // Its phase is judged by others; here it is a detail of the proof.
        assert_eq!(good, ["good", "no-volumes", "partially-failed"]);
    }

    #[test]
    fn a_copy_that_is_cut_anywhere_proves_nothing() {
        let input = include_bytes!("../../../../fuzz/corpus/velero/no-volumes");
        let archive = copy(&input[1..]);
        assert!(prove(&archive, 1000).is_ok());
        for length in (0..archive.len()).step_by(61) {
            assert!(prove(&archive[..length], 1000).is_err(), "cut at {length}");
        }
    }
}
