//! The content of live collections in the terms of a proof: counted and fingerprinted from the server's raw replies, as the
//! archive's tap does it.

use bson::{RawDocumentBuf, doc};
use futures::StreamExt;
use lifeboat_core::{Context, Error, ErrorKind, Fingerprint, Result};
use mongodb::raw_batch_cursor::RawBatch;

use super::batch::BatchSize;
use super::documents::documents;
use super::failure;
use super::listing::Look;
use super::order::Order;

/// The content of a collection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Content {
    pub(crate) count: u64,
    pub(crate) bytes: u64,
    pub(crate) fingerprint: Fingerprint,
    /// Of a capped collection: the order of its documents.
    pub(crate) order: Option<Order>,
}

impl Content {
    /// Creates an empty content; `capped` is whether the order matters.
    pub(crate) fn empty(capped: bool) -> Self {
        Self { order: capped.then(Order::default), ..Self::default() }
    }

    pub(crate) fn add(&mut self, document: &[u8]) {
        self.count += 1;
        self.bytes += document.len() as u64;
        let mut one = Fingerprint::default();
        one.add(document);
        self.fingerprint.merge(one);
        if let Some(order) = &mut self.order {
            order.push(one);
        }
    }

    /// Appends the content that follows.
    fn append(&mut self, next: Self) {
        self.count += next.count;
        self.bytes += next.bytes;
        self.fingerprint.merge(next.fingerprint);
        if let (Some(order), Some(of_next)) = (&mut self.order, next.order) {
            order.append(of_next, next.count);
        }
    }
}

/// Reads a collection to its end, in its natural order. `raw_buckets` reads a time series of 8.3 and later as it is stored.
///
/// # Errors
/// What the server fails with. A collection that is not there is empty.
pub(crate) async fn read(
    look: &Look,
    db: &str,
    collection: &str,
    raw_buckets: bool,
    capped: bool,
    cx: &Context,
) -> Result<Content> {
    let shown = format!("{db}.{collection}");
    let mut command = doc! { "find": collection, "hint": { "$natural": 1 } };
    if raw_buckets {
        command.insert("rawData", true);
    }
    let failed = |e: mongodb::error::Error| failure::of_driver("read back", &shown, &e);
    let database = look.client.database(db);
    let wanted = BatchSize::of(look, db, collection).await;
    let mut cursor = wanted.run(&database, command).batch().await.map_err(failed)?;
    let mut sum = Content::empty(capped);
    // One batch is hashed on a thread of its own while the next is on its way.
    let mut hashing: Option<tokio::task::JoinHandle<Result<Content>>> = None;
    loop {
        let next = tokio::select! {
            biased;
            () = cx.cancel.cancelled() => return Err(Error::cancelled("read back", shown)),
            next = cursor.next() => next,
        };
        if let Some(done) = hashing.take() {
            sum.append(
                done.await.map_err(|_| Error::new(ErrorKind::Internal, "read back", &shown, "a thread panicked"))??,
            );
        }
        let Some(batch) = next else { return Ok(sum) };
        let batch = batch.map_err(failed)?;
        let shown = shown.clone();
        hashing = Some(tokio::task::spawn_blocking(move || of_batch(&batch, &shown, capped)));
    }
}

fn of_batch(batch: &RawBatch, shown: &str, capped: bool) -> Result<Content> {
    let mut content = Content::empty(capped);
    let array = batch.doc_slices().map_err(|e| failure::of_driver("read back", shown, &e))?;
    for document in documents(array.as_bytes()) {
        let document = document.map_err(|why| {
            Error::new(ErrorKind::Corrupt, "read back", shown, format!("the server's reply is not BSON: {why}"))
        })?;
        content.add(document);
    }
    Ok(content)
}

/// The number of documents in a live collection, from its statistics if they cover all documents.
pub(crate) async fn count(look: &Look, db: &str, collection: &str) -> Result<u64> {
    let reply =
        look.ask(db, doc! { "count": collection }, "count the documents of", &format!("{db}.{collection}")).await?;
    Ok(super::listing::number(&reply, "n").and_then(|n| u64::try_from(n).ok()).unwrap_or_default())
}

/// Whether two documents say the same: the same fields in the same order. Numbers of different
/// kinds are the same when their values are: servers give 1, 1.0 and NumberLong(1) back as one or the other.
pub(crate) fn same(a: &RawDocumentBuf, b: &RawDocumentBuf) -> bool {
    // As bytes: two `Document`s are equal whatever the order of their fields.
    let plain = |document: &RawDocumentBuf| -> Option<Vec<u8>> {
        let read = bson::Document::try_from(document.as_ref()).ok()?;
        let read_back: bson::Document = read.into_iter().map(|(key, value)| (key, numbers(value))).collect();
        Some(RawDocumentBuf::try_from(&read_back).ok()?.into_bytes())
    };
    match (plain(a), plain(b)) {
        (Some(a), Some(b)) => a == b,
        // What the library does not decode (fields of deprecated types) is compared as it is.
        _ => a.as_bytes() == b.as_bytes(),
    }
}

fn numbers(value: bson::Bson) -> bson::Bson {
    match value {
        bson::Bson::Int32(n) => bson::Bson::Double(f64::from(n)),
        bson::Bson::Int64(n) if n.unsigned_abs() < (1 << 53) => bson::Bson::Double(n as f64),
        bson::Bson::Document(inner) => bson::Bson::Document(inner.into_iter().map(|(k, v)| (k, numbers(v))).collect()),
        bson::Bson::Array(inner) => bson::Bson::Array(inner.into_iter().map(numbers).collect()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_and_indexes_are_compared_by_what_they_say() {
        let a = bson::rawdoc! { "v": 2, "key": { "a": 1, "b": -1.0 }, "name": "a" };
        let b = bson::rawdoc! { "v": 2, "key": { "a": 1.0, "b": -1i64 }, "name": "a" };
        assert!(same(&a, &b));
        let turned = bson::rawdoc! { "v": 2, "key": { "b": -1, "a": 1 }, "name": "a" };
        assert!(!same(&b, &turned), "the order of an index's keys means something");
    }
}
