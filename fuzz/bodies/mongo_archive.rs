//! Any bytes, cut into chunks in any way, make the parser of MongoDB archives neither panic nor grow, and what it says does not
//! depend on the cuts. Metadata that is read is written and read again.

use bytes::Bytes;
use lifeboat_backends::mongodb::archive::{ArchiveTap, Inside, Metadata, Reader};
use lifeboat_core::{Proof, Result, Tap};

fn prove<'a>(chunks: impl Iterator<Item = &'a [u8]>) -> Result<Proof> {
    let mut tap = Box::new(ArchiveTap::new(Inside::Walked));
    for chunk in chunks {
        tap.push(chunk)?;
    }
    tap.finish()
}

fn read(archive: &[u8]) -> Result<()> {
    let (mut reader, mut events) = (Reader::new(), Vec::new());
    reader.push(&Bytes::copy_from_slice(archive), &mut events)?;
    let prelude = reader.finish()?;
    for entry in &prelude.collections {
        let Some(metadata) = entry.metadata()? else { continue };
        if let Ok(text) = metadata.to_json() {
            assert_eq!(Metadata::parse(&text).as_ref(), Ok(&metadata));
        }
    }
    Ok(())
}

// The first byte is the size of the chunks.
pub fn run(input: &[u8]) {
    let Some((size, archive)) = input.split_first() else { return };
    let cut = prove(archive.chunks(usize::from(*size).max(1)));
    let whole = prove(std::iter::once(archive));
    match (&cut, &whole) {
        (Ok(cut), Ok(whole)) => {
            assert_eq!(cut, whole);
            // The reader looks into no document, so it accepts at least as much.
            read(archive).unwrap();
        }
        (Err(cut), Err(whole)) => assert_eq!(cut.to_string(), whole.to_string()),
        (cut, whole) => panic!("cut: {cut:?}, whole: {whole:?}"),
    }
}
