//! One entry of the oplog: its content, its transaction, and its form for `applyOps`.
//!
//! The fields are those of the server's `repl/oplog_entry.idl`. Entries that mongorestore skips are skipped here
//! (`mongorestore/oplog.go`).

use std::borrow::Cow;

use bson::{RawBsonRef, RawDocument, Timestamp};
use lifeboat_core::{Error, ErrorKind, Result};

use crate::mongodb::command::{ended, name, text};

/// How deep `applyOps` may be nested: the server's own limit (`ApplyOps::kMaxApplyOpsDepth`).
const MAX_DEPTH: usize = 10;

/// Operations that change nothing: notes, and what a server with replicated record IDs keeps for itself.
const NOTHING: [&str; 6] = ["n", "cd", "ci", "cu", "km", "db"];

/// An entry, whose parts are references into the document.
#[derive(Clone, Debug)]
pub(crate) struct Entry<'a> {
    /// When it was written. Those within `applyOps` have that of the whole.
    pub(crate) at: Timestamp,
    /// `i`, `u`, `d`, `c` or one of those that change nothing.
    pub(crate) op: &'a str,
    /// `database.collection`, or `database.$cmd` of a command.
    pub(crate) ns: &'a str,
    /// The document, the change or the command.
    pub(crate) o: &'a RawDocument,
    /// Which document is changed.
    pub(crate) o2: Option<&'a RawDocument>,
    /// Of an update whether it inserts what is not there.
    upsert: Option<bool>,
    /// Session and number of its transaction.
    transaction: Option<(&'a [u8], i64)>,
}

/// The role of an entry in its transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// More of it follows, or its commit.
    Some,
    /// It is whole, and committed.
    Last,
    Commit,
    Abort,
}

impl<'a> Entry<'a> {
    /// Reads an entry.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] if it is not an entry.
    pub(crate) fn read(document: &'a [u8]) -> Result<Self> {
        Self::within(RawDocument::from_bytes(document).map_err(|e| corrupt(e.to_string()))?, None)
    }

    fn within(document: &'a RawDocument, outer: Option<Timestamp>) -> Result<Self> {
        let (mut at, mut op, mut ns, mut o, mut o2, mut upsert) = (outer, None, None, None, None, None);
        let (mut session, mut number, mut is_vectored) = (None, None, false);
        for element in document.iter_elements() {
            let element = element.map_err(|e| corrupt(e.to_string()))?;
            let key = element.key().as_str();
            if !["ts", "op", "ns", "o", "o2", "b", "lsid", "txnNumber", "multiOpType"].contains(&key) {
                continue;
            }
            match (key, element.value().map_err(|e| corrupt(e.to_string()))?) {
                ("ts", RawBsonRef::Timestamp(ts)) => at = at.or(Some(ts)),
                ("op", RawBsonRef::String(text)) => op = Some(text),
                ("ns", RawBsonRef::String(text)) => ns = Some(text),
                ("o", RawBsonRef::Document(inner)) => o = Some(inner),
                ("o2", RawBsonRef::Document(inner)) => o2 = Some(inner),
                ("b", RawBsonRef::Boolean(flag)) => upsert = Some(flag),
                ("lsid", RawBsonRef::Document(id)) => session = Some(id.as_bytes()),
                ("txnNumber", RawBsonRef::Int64(n)) => number = Some(n),
                // Inserts of a retryable write that were put together: it has the fields of a transaction and is none.
                ("multiOpType", value) => is_vectored = value.as_i32() == Some(1),
                _ => {}
            }
        }
        let missing = |what: &str| corrupt(format!("an entry has no {what}"));
        let op = op.ok_or_else(|| missing("op"))?;
        let parsed = Self {
            at: at.ok_or_else(|| missing("ts"))?,
            op,
            ns: ns.ok_or_else(|| missing("ns"))?,
            o: match o {
                Some(o) => o,
                None if NOTHING.contains(&op) => document,
                None => return Err(missing("o")),
            },
            o2,
            upsert,
            transaction: session.zip(number).filter(|_| op == "c" && !is_vectored),
        };
        Ok(parsed)
    }

    /// Whether it changes nothing that is restored.
    pub(crate) fn is_nothing(&self) -> bool {
        NOTHING.contains(&self.op)
    }

    /// The name of its command.
    pub(crate) fn command(&self) -> Option<&'a str> {
        (self.op == "c").then(|| self.o.iter_elements().next()?.ok().map(|first| first.key().as_str())).flatten()
    }

    /// The transaction that it is of, and what it is in it.
    pub(crate) fn transaction(&self) -> Option<((&'a [u8], i64), Part)> {
        let id = self.transaction?;
        let has = |field: &str| matches!(self.o.get(field), Ok(Some(RawBsonRef::Boolean(true))));
        let part = match self.command()? {
            "commitTransaction" => Part::Commit,
            "abortTransaction" => Part::Abort,
            "applyOps" if has("partialTxn") || has("prepare") => Part::Some,
            "applyOps" => Part::Last,
            _ => return None,
        };
        Some((id, part))
    }

    /// The single operations that it consists of: itself, or those in its `applyOps`, at any depth.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] for what is no list of entries.
    pub(crate) fn leaves(&self) -> Result<Vec<Entry<'a>>> {
        let mut leaves = Vec::new();
        self.gather(&mut leaves, 0)?;
        Ok(leaves)
    }

    fn gather(&self, leaves: &mut Vec<Entry<'a>>, depth: usize) -> Result<()> {
        if self.command() != Some("applyOps") {
            leaves.push(self.clone());
            return Ok(());
        }
        if depth == MAX_DEPTH {
            return Err(corrupt("applyOps is nested too deeply"));
        }
        for inner in self.o.get_array("applyOps").map_err(|e| corrupt(e.to_string()))? {
            let RawBsonRef::Document(inner) = inner.map_err(|e| corrupt(e.to_string()))? else {
                return Err(corrupt("applyOps holds something that is not an entry"));
            };
            Self::within(inner, Some(self.at))?.gather(leaves, depth + 1)?;
        }
        Ok(())
    }

    /// The database of its namespace.
    pub(crate) fn database(&self) -> &'a str {
        self.ns.split('.').next().unwrap_or_default()
    }

    /// `{_id: …}` of its document.
    pub(crate) fn key(&self) -> Option<Vec<u8>> {
        let id = self.o.get("_id").ok()??;
        let mut key = bson::RawDocumentBuf::new();
        key.append(bson::cstr!("_id"), id);
        Some(key.into_bytes())
    }

    /// The collection that its command names.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] when it names none.
    pub(crate) fn collection(&self) -> Result<&'a str> {
        let first = self.o.iter_elements().next().and_then(std::result::Result::ok).map(|e| e.value());
        match first {
            Some(Ok(RawBsonRef::String(name))) => Ok(name),
            _ => Err(corrupt(format!("a command in {} names no collection", self.ns))),
        }
    }

    /// The fields of its command behind the name, but for these.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] for bytes that are no document.
    pub(crate) fn fields(&self, without: &[&str]) -> Result<bson::Document> {
        let read = bson::Document::try_from(self.o).map_err(|e| corrupt(e.to_string()))?;
        Ok(read.into_iter().skip(1).filter(|(key, _)| !without.contains(&key.as_str())).collect())
    }

    /// The entry as `applyOps` takes it, for another collection: without the UUID of the one that it was of, session and times. The
    /// bytes of the documents are kept.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`], if it were put together wrongly.
    pub(crate) fn rewritten(&self, ns: &str) -> Result<bson::RawDocumentBuf> {
        let mut whole = vec![0; 4];
        whole.reserve(self.o.as_bytes().len() + 64 + ns.len());
        text(&mut whole, "op", self.op);
        text(&mut whole, "ns", ns);
        name(&mut whole, 0x03, "o");
        whole.extend_from_slice(self.o.as_bytes());
        if let Some(o2) = self.o2 {
            name(&mut whole, 0x03, "o2");
            whole.extend_from_slice(o2.as_bytes());
        }
        if let Some(upsert) = self.upsert.filter(|_| self.op == "u") {
            name(&mut whole, 0x08, "b");
            whole.push(u8::from(upsert));
        }
        ended(whole)
    }

    /// A description for messages, without its documents: `u in shop.orders at 2026-11-21T13:08:24Z`.
    pub(crate) fn shown(&self) -> String {
        let what: Cow<'_, str> = match self.command() {
            Some(command) => Cow::Owned(format!("{} {command}", self.op)),
            None => Cow::Borrowed(self.op),
        };
        format!("{what} in {} at {}", self.ns, time(self.at))
    }
}

/// A time for display, and the number of the entry within its second.
pub(crate) fn time(at: Timestamp) -> String {
    let text = bson::DateTime::from_millis(i64::from(at.time) * 1000).try_to_rfc3339_string().unwrap_or_default();
    format!("{text} ({}:{})", at.time, at.increment)
}

pub(crate) fn corrupt(what: impl Into<String>) -> Error {
    Error::new(ErrorKind::Corrupt, "read", "the oplog of the archive", what)
}

#[cfg(test)]
mod tests {
    use bson::rawdoc;

    use super::*;

    fn at(time: u32) -> Timestamp {
        Timestamp { time, increment: 1 }
    }

    #[test]
    fn an_entry_is_given_on_without_what_is_of_its_server() {
        let document = rawdoc! {
            "op": "u", "ns": "shop.orders", "ui": bson::Binary::from(bson::Uuid::from_bytes([7; 16])), "o": { "$v": 2, "diff": { "u": { "a": 1 } } },
            "o2": { "_id": 5 }, "ts": at(9), "t": 3i64, "v": 2i64, "wall": bson::DateTime::from_millis(1), "stmtId": 0,
        };
        let entry = Entry::read(document.as_bytes()).unwrap();
        let expected = rawdoc! {
            "op": "u", "ns": "shop.temporary", "o": { "$v": 2, "diff": { "u": { "a": 1 } } }, "o2": { "_id": 5 },
        };
        assert_eq!(entry.rewritten("shop.temporary").unwrap(), expected);
        assert_eq!(entry.shown(), "u in shop.orders at 1970-01-01T00:00:09Z (9:1)");
    }

    #[test]
    fn transactions_are_told_from_what_looks_like_one() {
        let of = |o: bson::RawDocumentBuf, more: bson::RawDocumentBuf| {
            let mut whole =
                rawdoc! { "op": "c", "ns": "admin.$cmd", "o": o, "ts": at(1), "lsid": { "id": 1 }, "txnNumber": 4i64 };
            for element in more.iter_elements().map(Result::unwrap) {
                whole.append(element.key(), element.value().unwrap());
            }
            let entry = Entry::read(whole.as_bytes()).unwrap();
            entry.transaction().map(|(_, part)| part)
        };
        let empty = || bson::RawArrayBuf::new();
        assert_eq!(of(rawdoc! { "applyOps": empty() }, rawdoc! {}), Some(Part::Last));
        assert_eq!(of(rawdoc! { "applyOps": empty(), "partialTxn": true }, rawdoc! {}), Some(Part::Some));
        assert_eq!(of(rawdoc! { "applyOps": empty(), "prepare": true }, rawdoc! {}), Some(Part::Some));
        assert_eq!(of(rawdoc! { "commitTransaction": 1 }, rawdoc! {}), Some(Part::Commit));
        assert_eq!(of(rawdoc! { "abortTransaction": 1 }, rawdoc! {}), Some(Part::Abort));
        assert_eq!(of(rawdoc! { "applyOps": empty() }, rawdoc! { "multiOpType": 1 }), None);
        assert_eq!(of(rawdoc! { "create": "x" }, rawdoc! {}), None);
    }

    #[test]
    fn nested_operations_come_out_in_their_order_with_the_time_of_the_whole() {
        let one = |n: i32| rawdoc! { "op": "i", "ns": "shop.orders", "o": { "_id": n } };
        let inner = rawdoc! { "op": "c", "ns": "admin.$cmd", "o": { "applyOps": [one(2), one(3)] } };
        let whole =
            rawdoc! { "op": "c", "ns": "admin.$cmd", "o": { "applyOps": [one(1), inner, one(4)] }, "ts": at(5) };
        let entry = Entry::read(whole.as_bytes()).unwrap();
        let leaves = entry.leaves().unwrap();
        let ids: Vec<i32> = leaves.iter().map(|leaf| leaf.o.get_i32("_id").unwrap()).collect();
        assert_eq!(ids, [1, 2, 3, 4]);
        assert!(leaves.iter().all(|leaf| leaf.at == at(5)));
    }

    #[test]
    fn what_is_no_entry_is_told() {
        let mut deep = rawdoc! { "op": "i", "ns": "a.b", "o": { "_id": 1 } };
        for _ in 0..=MAX_DEPTH {
            deep = rawdoc! { "op": "c", "ns": "a.$cmd", "o": { "applyOps": [deep] }, "ts": at(1) };
        }
        assert!(Entry::read(deep.as_bytes()).unwrap().leaves().is_err());
        for bad in [rawdoc! { "op": "i" }, rawdoc! { "ts": at(1), "op": "i", "ns": "a.b" }, rawdoc! { "x": 1 }] {
            assert_eq!(Entry::read(bad.as_bytes()).unwrap_err().kind(), ErrorKind::Corrupt);
        }
    }
}
