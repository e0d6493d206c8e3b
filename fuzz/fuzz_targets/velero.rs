//! Any content of the files of a Velero backup is judged, however the copy is cut; none of it makes the parser panic or hang.
#![no_main]

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use libfuzzer_sys::fuzz_target;
use lifeboat_backends::velero::BackupTap;
use lifeboat_core::{Proof, Result, Tap};

/// The files of a backup `b`, in the order of the input's parts.
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

fn copy(parts: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut archive = tar::Builder::new(Vec::new());
    for (file, part) in FILES.iter().zip(parts.split(|byte| *byte == 0xff)) {
        let stored = if file.ends_with(".gz") {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::none());
            encoder.write_all(part)?;
            encoder.finish()?
        } else {
            part.to_vec()
        };
        let mut header = tar::Header::new_ustar();
        header.set_size(stored.len() as u64);
        archive.append_data(&mut header, format!("backups/b/{file}"), &*stored)?;
    }
    archive.into_inner()
}

fn prove(chunks: std::slice::Chunks<'_, u8>) -> Result<Proof> {
    let mut tap = BackupTap::new();
    for chunk in chunks {
        tap.push(chunk)?;
    }
    Box::new(tap).finish()
}

// The first byte is the size of the chunks; the parts are parted by 0xff, which no JSON holds.
fuzz_target!(|input: &[u8]| {
    let Some((size, parts)) = input.split_first() else { return };
    let archive = copy(parts).expect("a vector takes everything");
    let cut = prove(archive.chunks(usize::from(*size).max(1)));
    let whole = prove(archive.chunks(archive.len()));
    match (cut, whole) {
        (Ok(cut), Ok(whole)) => assert_eq!(cut, whole),
        (Err(cut), Err(whole)) => assert_eq!(cut.kind(), whole.kind()),
        (cut, whole) => panic!("cut: {cut:?}, whole: {whole:?}"),
    }
});
