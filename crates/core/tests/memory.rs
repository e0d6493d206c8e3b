//! Constant memory. Alone in its program, so that no other test's memory is counted.
#![allow(clippy::unwrap_used, missing_docs)]

mod doubles;

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use doubles::*;
use futures::stream::{self, BoxStream, StreamExt};
use lifeboat_core::encryptor::Age;
use lifeboat_core::sink::Deleted;
use lifeboat_core::{ByteStream, Compression, Error, ErrorKind, ObjectInfo, Result, Sink, async_trait};
use lifeboat_testkit::content;

/// Keeps the sizes of what it is given, and nothing else.
#[derive(Debug, Default)]
struct Counting(Mutex<HashMap<String, u64>>);

#[async_trait]
impl Sink for Counting {
    fn url(&self) -> String {
        "counting:".to_owned()
    }
    fn read_command(&self, _: &str) -> String {
        String::new()
    }
    async fn put(&self, key: &str, mut body: ByteStream) -> Result<u64> {
        let mut bytes = 0;
        while let Some(chunk) = body.next().await {
            bytes += chunk?.len() as u64;
        }
        self.0.lock().unwrap().insert(key.to_owned(), bytes);
        Ok(bytes)
    }
    async fn get(&self, key: &str, _: Option<Range<u64>>) -> Result<ByteStream> {
        Err(Error::new(ErrorKind::NotFound, "read", key, "nothing is kept"))
    }
    async fn head(&self, key: &str) -> Result<ObjectInfo> {
        let missing = || Error::new(ErrorKind::NotFound, "read", key, "nothing of this name came");
        let bytes = *self.0.lock().unwrap().get(key).ok_or_else(missing)?;
        Ok(ObjectInfo::new(key, bytes, jiff::Timestamp::UNIX_EPOCH))
    }
    fn list(&self, _: &str) -> BoxStream<'_, Result<ObjectInfo>> {
        stream::empty().boxed()
    }
    async fn delete(&self, keys: &[String]) -> Result<Deleted> {
        let mut deleted = Deleted::default();
        deleted.keys = keys.to_vec();
        Ok(deleted)
    }
}

/// The highest resident size so far, in bytes.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|l| l.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() << 10
}

/// Backs up so many MiB: each chunk half random and half text-like, made anew.
async fn back_up(mib: u64, sinks: usize) -> u64 {
    let random = content::bytes(1, 1 << 19);
    let source = FakeSource::new(move |_| {
        let random = random.clone();
        stream::iter(0..mib)
            .map(move |n| {
                let mut chunk = Vec::with_capacity(1 << 20);
                chunk.extend_from_slice(&random);
                chunk.extend_from_slice(&n.to_le_bytes());
                chunk.resize(1 << 20, b' ');
                Ok(Bytes::from(chunk))
            })
            .boxed()
    });
    let (_, public) = Age::generate();
    let counting: Vec<Arc<Counting>> = (0..sinks).map(|_| Arc::default()).collect();
    let mut run = backup(source).compress(Compression::zstd(1)).encrypt(Age::to([public]).unwrap());
    for sink in &counting {
        run = run.to(sink.clone());
    }
    let receipt = run.run().await.unwrap();
    assert_eq!(receipt.plaintext_bytes, mib << 20);
    counting[0].0.lock().unwrap().values().sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_does_not_grow_with_the_data() {
    // What threads, tables of zstd and the channels take is there after the first.
    back_up(64, 2).await;
    let before = peak();
    back_up(2048, 2).await;
    let grown = peak().saturating_sub(before);
    assert!(grown < 100 << 20, "the peak grew by {} MiB", grown >> 20);
    assert!(peak() < 300 << 20, "the peak is {} MiB", peak() >> 20);
}
