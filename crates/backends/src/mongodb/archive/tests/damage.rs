//! Each truncation and each flipped bit is found.

use std::sync::Arc;

use lifeboat_testkit::documents::{Doc, of_size};

use super::super::{Handler, MAGIC, Parser, Prelude};
use super::fixtures::{Nothing, archive, entry, prove};

#[test]
fn every_truncation_is_an_error() {
    let documents = |count| (0..count).map(|id| of_size(id, 32 + id as usize % 5)).collect::<Vec<_>>();
    let whole = archive(&[(entry("a"), documents(20)), (entry("empty"), vec![]), (entry("b"), documents(7))]);
    assert!(prove(&whole, 64).is_ok());
    for length in 0..whole.len() {
        assert!(prove(&whole[..length], whole.len()).is_err(), "cut to {length} of {} bytes", whole.len());
    }
}

/// Counts the namespaces that have ended.
struct Segments {
    ends: usize,
}

impl Handler for Segments {
    fn end(&mut self, _: usize, _: u64) -> lifeboat_core::Result<()> {
        self.ends += 1;
        Ok(())
    }
}

/// 10,000 documents in 200 collections. Each bit after the prelude, of documents and headers, is flipped in turn. Parsing
/// starts at the border before it, from a copy of the parser's state there, and goes on until the error: at the latest at the
/// end of the namespace, where its checksum stands.
#[test]
fn each_flipped_bit_in_blocks_of_10_000_documents_is_an_error() {
    let collections: Vec<_> = (0..200)
        .map(|n| {
            let documents = (0..50).map(|id| Doc::new().int32("_id", n * 50 + id).text("s", "abcd").build()).collect();
            (entry(&format!("c{n:03}")), documents)
        })
        .collect();
    let whole = archive(&collections);

    // The state of the parser before each namespace, found by pushing byte by byte.
    let mut starts: Vec<(usize, Parser)> = Vec::new();
    let (mut parser, mut seen) = (Parser::new(), Segments { ends: 0 });
    let mut ends = 0;
    for (at, byte) in whole.iter().enumerate() {
        parser.push(std::slice::from_ref(byte), &mut seen).unwrap();
        // The terminator after a namespace's end is its own.
        let is_border = parser.prelude().is_some() && parser.position() == at as u64 + 1;
        if is_border && (starts.is_empty() || (seen.ends > ends && parser.is_at_border())) {
            ends = seen.ends;
            starts.push((at + 1, parser.clone()));
        }
    }
    parser.finish().unwrap();
    assert_eq!(starts.len(), 201, "a start before each namespace, and the end");

    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    let (whole, starts) = (&whole, &starts);
    let checked: u64 = std::thread::scope(|scope| {
        let work: Vec<_> = (0..threads)
            .map(|thread| {
                scope.spawn(move || (thread..200).step_by(threads).map(|n| flip_all(whole, starts, n)).sum::<u64>())
            })
            .collect();
        work.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    let prelude = starts[0].0;
    assert_eq!(checked, (whole.len() - prelude) as u64 * 8);
}

/// Flips each bit between the starts of the namespace `n` and the next one.
fn flip_all(whole: &[u8], starts: &[(usize, Parser)], n: usize) -> u64 {
    let ((start, before), (end, _)) = (&starts[n], &starts[n + 1]);
    let mut bytes = whole[*start..*end].to_vec();
    for bit in 0..bytes.len() * 8 {
        bytes[bit / 8] ^= 1 << (bit % 8);
        let mut parser = before.clone();
        let found = parser.push(&bytes, &mut Nothing).is_err()
            // Not yet an error when a length has grown beyond the segment, or a namespace has been taken for another:
            // then in what follows.
            || parser.push(&whole[*end..], &mut Nothing).is_err()
            || parser.finish().is_err();
        assert!(found, "bit {} of byte {} has been flipped unseen", bit % 8, start + bit / 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
    bytes.len() as u64 * 8
}

/// What the proof knows of a prelude.
#[derive(Default)]
struct Seen(Option<Arc<Prelude>>);

impl Handler for Seen {
    fn prelude(&mut self, prelude: &Arc<Prelude>) -> lifeboat_core::Result<()> {
        self.0 = Some(Arc::clone(prelude));
        Ok(())
    }
}

/// The prelude has no checksum in the format: what its bits say otherwise and the parser accepts, the proof does not.
#[test]
fn each_flipped_bit_of_the_prelude_is_an_error_or_another_proof() {
    let whole =
        archive(&[(entry("a"), vec![of_size(1, 40)]), (entry("b"), vec![]), (entry("c"), vec![of_size(2, 50)])]);
    let (mut parser, mut seen) = (Parser::new(), Seen::default());
    parser.push(&whole, &mut seen).unwrap();
    let good = seen.0.unwrap();
    let mut bytes = whole[..good.bytes as usize].to_vec();
    assert_eq!(bytes[..4], MAGIC);
    let mut accepted = 0;
    for bit in 0..bytes.len() * 8 {
        bytes[bit / 8] ^= 1 << (bit % 8);
        let (mut parser, mut seen) = (Parser::new(), Seen::default());
        let refused = parser.push(&bytes, &mut seen).is_err();
        // A length or terminator that is wrong makes it go on looking: then the archive's end is within something.
        let refused = refused
            || seen.0.is_none() && (parser.push(&whole[bytes.len()..], &mut seen).is_err() || parser.finish().is_err());
        if !refused {
            assert_ne!(seen.0.unwrap().hash, good.hash, "bit {} of byte {}", bit % 8, bit / 8);
            accepted += 1;
        }
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
    assert!(accepted > 0, "names and texts can be others");
    let proof = prove(&whole, 1000).unwrap();
    assert_eq!(proof.details["prelude"]["xxh3_128"], format!("{:032x}", good.hash));
}

/// The corpus of the fuzz target: its first byte is the size of the chunks.
#[test]
fn the_fuzzers_corpus_is_read_or_refused_however_it_is_cut() {
    let good = lifeboat_testkit::corpus::replay("mongo_archive", |archive, size| {
        prove(archive, size).map_err(|error| error.to_string())
    });
    for name in ["interleaved", "mongodump-100.10", "old", "plain"] {
        assert!(good.iter().any(|found| found == name), "{name} is good");
    }
    assert!(
        good.iter().all(|name| !["bad-metadata", "cut", "wrong-binary", "wrong-checksum"].contains(&name.as_str())),
        "{good:?}"
    );
}
