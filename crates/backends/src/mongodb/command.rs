//! Commands that are put together as bytes, around documents that are not decoded.

use std::sync::LazyLock;

use bson::RawDocumentBuf;
use lifeboat_core::{Error, ErrorKind, Result};
use memchr::memmem::Finder;

use super::insert::Destination;

/// Fields of the insert command that not every server knows. Cleared when one is refused.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Extras {
    /// `bypassEmptyTsReplacement`: a `Timestamp(0, 0)` stays one. 8.0, 7.0.13, 6.0.17, 5.0.29 and later.
    pub(crate) keep_empty_timestamps: bool,
    pub(crate) bypass_validation: bool,
}

/// An insert command in the making. What may have to be left out of it comes last.
pub(crate) struct Command {
    pub(crate) bytes: Vec<u8>,
    /// Where its `documents` array begins.
    array: usize,
    pub(crate) count: usize,
    /// Bytes of documents in it.
    pub(crate) documents: usize,
    /// Documents with a `Timestamp(0, 0)` at the top: their numbers, and where they are in the bytes.
    pub(crate) empty_timestamps: Vec<(usize, std::ops::Range<usize>)>,
}

impl Command {
    pub(crate) fn new(place: &Destination, write_concern: bool, room: usize) -> Self {
        let mut bytes = Vec::with_capacity(room);
        bytes.extend_from_slice(&[0; 4]);
        text(&mut bytes, "insert", &place.collection);
        flag(&mut bytes, "ordered", place.capped);
        if place.raw_buckets {
            flag(&mut bytes, "rawData", true);
        }
        if write_concern {
            let mut inner = Vec::new();
            text(&mut inner, "w", "majority");
            document(&mut bytes, 0x03, "writeConcern", &inner);
        }
        name(&mut bytes, 0x04, "documents");
        let array = bytes.len();
        bytes.extend_from_slice(&[0; 4]);
        Self { bytes, array, count: 0, documents: 0, empty_timestamps: Vec::new() }
    }

    pub(crate) fn push(&mut self, document: &[u8]) {
        self.bytes.push(0x03);
        let mut digits = [0u8; 20];
        let mut at = digits.len();
        let mut rest = self.count;
        loop {
            at -= 1;
            digits[at] = b'0' + (rest % 10) as u8;
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        self.bytes.extend_from_slice(&digits[at..]);
        self.bytes.push(0);
        self.bytes.extend_from_slice(document);
        if has_empty_timestamp(document) {
            self.empty_timestamps.push((self.count, self.bytes.len() - document.len()..self.bytes.len()));
        }
        self.count += 1;
        self.documents += document.len();
    }

    /// The whole command, but for what not every server knows.
    pub(crate) fn finish(mut self) -> Result<Finished> {
        self.bytes.push(0);
        let array = self.bytes.len() - self.array;
        let length = i32::try_from(array)
            .map_err(|_| Error::new(ErrorKind::Internal, "insert", "a batch", "it is larger than 2 GiB"))?;
        self.bytes[self.array..self.array + 4].copy_from_slice(&length.to_le_bytes());
        Ok(Finished { command: self.bytes })
    }
}

/// A complete batch, to be sent once or more.
pub(crate) struct Finished {
    /// A command that has no end yet.
    command: Vec<u8>,
}

impl Finished {
    /// The command, as long as it may have to be sent again.
    pub(crate) fn with(&self, extras: Extras) -> Result<RawDocumentBuf> {
        let mut whole = Vec::with_capacity(self.command.len() + 64);
        whole.extend_from_slice(&self.command);
        if extras.bypass_validation {
            flag(&mut whole, "bypassDocumentValidation", true);
        }
        if extras.keep_empty_timestamps {
            flag(&mut whole, "bypassEmptyTsReplacement", true);
        }
        ended(whole)
    }

    /// The command as it is, not copied.
    pub(crate) fn without(self) -> Result<RawDocumentBuf> {
        ended(self.command)
    }
}

/// A document of which the elements are there, and room for the length before them.
pub(crate) fn ended(mut whole: Vec<u8>) -> Result<RawDocumentBuf> {
    whole.push(0);
    let length = i32::try_from(whole.len()).unwrap_or(i32::MAX);
    whole[..4].copy_from_slice(&length.to_le_bytes());
    RawDocumentBuf::from_bytes(whole)
        .map_err(|e| Error::new(ErrorKind::Internal, "insert", "a batch", format!("it was built wrongly: {e}")))
}

pub(crate) fn name(out: &mut Vec<u8>, kind: u8, name: &str) {
    out.push(kind);
    out.extend_from_slice(name.as_bytes());
    out.push(0);
}

pub(crate) fn text(out: &mut Vec<u8>, key: &str, value: &str) {
    name(out, 0x02, key);
    out.extend_from_slice(&(value.len() as i32 + 1).to_le_bytes());
    out.extend_from_slice(value.as_bytes());
    out.push(0);
}

pub(crate) fn flag(out: &mut Vec<u8>, key: &str, value: bool) {
    name(out, 0x08, key);
    out.push(u8::from(value));
}

pub(crate) fn document(out: &mut Vec<u8>, kind: u8, key: &str, elements: &[u8]) {
    name(out, kind, key);
    out.extend_from_slice(&(elements.len() as i32 + 5).to_le_bytes());
    out.extend_from_slice(elements);
    out.push(0);
}

/// Finds nine zero bytes: the end of a name, and an empty timestamp. To make it takes longer than to search a small document.
static ZEROS: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(&[0; 9]));

/// Whether a top-level field is `Timestamp(0, 0)`: the server puts the present time there on insert.
fn has_empty_timestamp(document: &[u8]) -> bool {
    // Eight zero bytes after a type byte and a name: without such a run there is none, and few documents have one.
    ZEROS.find(document).is_some()
        && bson::RawDocument::from_bytes(document).is_ok_and(|raw| {
            raw.iter().filter_map(std::result::Result::ok).any(|(_, value)| {
                matches!(value, bson::RawBsonRef::Timestamp(bson::Timestamp { time: 0, increment: 0 }))
            })
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> Destination {
        Destination {
            db: "shop".to_owned(),
            collection: "orders".to_owned(),
            shown: "shop.orders".to_owned(),
            bypass_validation: true,
            capped: false,
            raw_buckets: false,
        }
    }

    #[test]
    fn a_command_holds_the_documents_byte_by_byte() {
        let documents: Vec<RawDocumentBuf> = (0..12)
            .map(|n| bson::rawdoc! { "b": n, "a": "x", "b": 1.5, "t": bson::Timestamp { time: 0, increment: 0 } })
            .collect();
        let mut command = Command::new(&place(), true, 64);
        for document in &documents {
            command.push(document.as_bytes());
        }
        let (last, at) = command.empty_timestamps.last().unwrap().clone();
        assert_eq!((last, &command.bytes[at]), (11, documents[11].as_bytes()));
        let extras = Extras { keep_empty_timestamps: true, bypass_validation: true };
        let whole = command.finish().unwrap().with(extras).unwrap();
        assert_eq!(whole.get_str("insert").unwrap(), "orders");
        assert!(!whole.get_bool("ordered").unwrap() && whole.get_bool("bypassEmptyTsReplacement").unwrap());
        assert_eq!(whole.get_document("writeConcern").unwrap().get_str("w").unwrap(), "majority");
        let array = whole.get_array("documents").unwrap();
        for (index, element) in array.into_iter().enumerate() {
            assert_eq!(element.unwrap().as_document().unwrap().as_bytes(), documents[index].as_bytes());
        }
        assert_eq!(array.into_iter().count(), 12);
        let keys: Vec<String> =
            whole.get_document("writeConcern").unwrap().into_iter().map(|e| e.unwrap().0.to_string()).collect();
        assert_eq!(keys, ["w"]);
    }

    #[test]
    fn only_an_empty_timestamp_at_the_top_is_one_that_the_server_would_replace() {
        let empty = bson::Timestamp { time: 0, increment: 0 };
        assert!(has_empty_timestamp(bson::rawdoc! { "a": 1, "t": empty }.as_bytes()));
        assert!(!has_empty_timestamp(bson::rawdoc! { "a": { "t": empty } }.as_bytes()));
        assert!(!has_empty_timestamp(bson::rawdoc! { "a": 0i64, "b": 0.0 }.as_bytes()));
    }
}
