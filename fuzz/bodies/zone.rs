//! Any bytes under the name of a zone's backup are parsed or refused, however they are cut.

use lifeboat_backends::cloudflare::archive::ZoneTap;
use lifeboat_core::{Proof, Result, Tap};

fn prove(chunks: std::slice::Chunks<'_, u8>) -> Result<Proof> {
    let mut tap = ZoneTap::new();
    for chunk in chunks {
        tap.push(chunk)?;
    }
    Box::new(tap).finish()
}

pub fn run(archive: &[u8]) {
    let cut = prove(archive.chunks(archive.len() % 600 + 1));
    let whole = prove(archive.chunks(archive.len().max(1)));
    match (cut, whole) {
        (Ok(cut), Ok(whole)) => assert_eq!(cut, whole),
        (Err(cut), Err(whole)) => assert_eq!(cut.kind(), whole.kind()),
        (cut, whole) => panic!("cut: {cut:?}, whole: {whole:?}"),
    }
}
