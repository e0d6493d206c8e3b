//! Any bytes, cut into chunks in any way, make the archive's parser neither panic nor grow, and what it says
//! does not depend on the cuts.

use lifeboat_backends::postgres::archive::{ArchiveTap, Wanted, select};
use lifeboat_core::{Proof, Result, Tap};

fn prove<'a>(chunks: impl Iterator<Item = &'a [u8]>) -> Result<Proof> {
    let mut tap = Box::new(ArchiveTap::new());
    for chunk in chunks {
        tap.push(chunk)?;
    }
    if let Some(toc) = tap.toc() {
        let tables = toc.of_kind("TABLE").take(2).map(|e| e.label().into_owned()).collect();
        let _ = select(toc, &Wanted { tables, ..Wanted::default() });
    }
    tap.finish()
}

// The first byte is the size of the chunks.
pub fn run(input: &[u8]) {
    let Some((size, archive)) = input.split_first() else { return };
    let cut = prove(archive.chunks(usize::from(*size).max(1)));
    let whole = prove(std::iter::once(archive));
    match (cut, whole) {
        (Ok(cut), Ok(whole)) => assert_eq!(cut, whole),
        (Err(cut), Err(whole)) => assert_eq!(cut.kind(), whole.kind()),
        (cut, whole) => panic!("cut: {cut:?}, whole: {whole:?}"),
    }
}
