//! Any keys in a bucket are told apart: each is an artifact, belongs to one, or is nothing of ours; what is read is written as it

//! was.

use futures::StreamExt;
use jiff::Timestamp;
use lifeboat_core::history::Entry;
use lifeboat_core::log::SegmentName;
use lifeboat_core::{ArtifactName, catalog};
use lifeboat_testkit::memory::MemorySink;

// Each line is a key.
pub fn run(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let sink = MemorySink::new();
    for key in text.lines().take(64) {
        if let Some(name) = ArtifactName::parse(key) {
            assert_eq!(name.to_string(), key);
        }
        if let Some(segment) = SegmentName::parse(key) {
            assert_eq!(segment.to_string(), key);
        }
        if let Some(entry) = Entry::parse(key) {
            assert_eq!(entry.key, key);
        }
        sink.place(key, "", Timestamp::UNIX_EPOCH);
    }
    let keys = sink.keys();
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime of one thread");
    let listed = runtime.block_on(catalog::list(&sink, "", None).collect::<Vec<_>>());
    for artifact in listed.into_iter().flatten() {
        let key = artifact.key();
        assert!(keys.iter().any(|there| there.starts_with(&key)), "{key} is listed and nothing of it is there");
    }
}
