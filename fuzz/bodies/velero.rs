//! Any content of the files of a Velero backup is judged, however the copy is cut; none of it makes the parser panic or hang.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
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

/// A member of a tar archive.
fn member(name: &str, content: &[u8]) -> Vec<u8> {
    let mut header = [0; 512];
    let size = format!("{:011o}", content.len());
    let fields = [(0, name), (100, "0000644"), (108, "0000000"), (116, "0000000"), (124, &*size), (136, "00000000000")];
    for (at, text) in fields.into_iter().chain([(148, "        "), (156, "0"), (257, "ustar\u{0}00")]) {
        header[at..at + text.len()].copy_from_slice(text.as_bytes());
    }
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let mut all = [&header, content].concat();
    all.resize(all.len().next_multiple_of(512), 0);
    all
}

fn copy(parts: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut archive = Vec::new();
    for (file, part) in FILES.iter().zip(parts.split(|byte| *byte == 0xff)) {
        let stored = if file.ends_with(".gz") {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::none());
            encoder.write_all(part)?;
            encoder.finish()?
        } else {
            part.to_vec()
        };
        archive.extend(member(&format!("backups/b/{file}"), &stored));
    }
    archive.resize(archive.len() + 1024, 0);
    Ok(archive)
}

fn prove(chunks: std::slice::Chunks<'_, u8>) -> Result<Proof> {
    let mut tap = BackupTap::new();
    for chunk in chunks {
        tap.push(chunk)?;
    }
    Box::new(tap).finish()
}

// The first byte is the size of the chunks; the parts are parted by 0xff, which no JSON holds.
pub fn run(input: &[u8]) {
    let Some((size, parts)) = input.split_first() else { return };
    let archive = copy(parts).expect("a vector takes everything");
    let cut = prove(archive.chunks(usize::from(*size).max(1)));
    let whole = prove(archive.chunks(archive.len()));
    match (cut, whole) {
        (Ok(cut), Ok(whole)) => assert_eq!(cut, whole),
        (Err(cut), Err(whole)) => assert_eq!(cut.kind(), whole.kind()),
        (cut, whole) => panic!("cut: {cut:?}, whole: {whole:?}"),
    }
}
