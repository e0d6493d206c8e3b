//! Any bytes make the reader of plain SQL neither panic nor grow, and what it cuts them into does not depend on how they come.

use bytes::Bytes;
use lifeboat_backends::postgres::script::{Event, Keep, Reader, Whole};
use lifeboat_core::Result;

fn read(chunks: std::slice::Chunks<'_, u8>) -> Result<(Vec<Event>, Whole)> {
    let mut reader = Reader::new(Keep::All);
    let mut events: Vec<Event> = Vec::new();
    for chunk in chunks {
        reader.push(&Bytes::copy_from_slice(chunk), &mut |event| match (events.last_mut(), event) {
            (Some(Event::Rows(rows)), Event::Rows(more)) => *rows = [&rows[..], &more[..]].concat().into(),
            (_, event) => events.push(event),
        })?;
    }
    let whole = reader.finish()?;
    Ok((events, whole))
}

// The first byte is the size of the chunks.
pub fn run(input: &[u8]) {
    let Some((size, dump)) = input.split_first() else { return };
    let cut = read(dump.chunks(usize::from(*size).max(1)));
    let whole = read(dump.chunks(dump.len().max(1)));
    match (cut, whole) {
        (Ok(cut), Ok(whole)) => assert_eq!(cut, whole),
        (Err(cut), Err(whole)) => assert_eq!((cut.kind(), cut.message()), (whole.kind(), whole.message())),
        (cut, whole) => panic!("cut: {cut:?}, whole: {whole:?}"),
    }
}
