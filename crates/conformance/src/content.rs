//! Reproducible test data.

use bytes::Bytes;
use futures::{StreamExt, stream};
use lifeboat_core::{ByteStream, Error, ErrorKind};

/// Pseudorandom bytes, the same for the same seed.
pub fn bytes(seed: u64, length: usize) -> Bytes {
    let mut random = Random::new(seed);
    let mut out = Vec::with_capacity(length + 8);
    while out.len() < length {
        out.extend_from_slice(&random.next().to_le_bytes());
    }
    out.truncate(length);
    out.into()
}

/// A stream of `length` such bytes in chunks of uneven sizes, including an empty one. It is never completely in memory.
pub fn stream_of(seed: u64, length: usize) -> ByteStream {
    let sizes = [1 << 20, 1, 0, 77_777, 3 << 20, 4096];
    stream::unfold((seed, 0, length), move |(seed, n, left)| async move {
        if left == 0 {
            return None;
        }
        let size = sizes[n % sizes.len()].min(left);
        Some((Ok(bytes(seed.wrapping_add(n as u64), size)), (seed, n + 1, left - size)))
    })
    .boxed()
}

/// The same, followed by an error.
pub fn failing_stream(seed: u64, length: usize) -> ByteStream {
    stream_of(seed, length).chain(stream::once(async { Err(failure()) })).boxed()
}

/// The same, but the stream never ends.
pub fn endless_stream(seed: u64, length: usize) -> ByteStream {
    stream_of(seed, length).chain(stream::pending()).boxed()
}

/// The error of [`failing_stream`].
pub fn failure() -> Error {
    Error::new(ErrorKind::Tool, "dump", "the source", "it was killed in the middle")
}

/// A name that no other test uses.
pub fn fresh_name(what: &str) -> String {
    let mut random = [0; 6];
    getrandom::fill(&mut random).expect("the system has randomness");
    let random: String = random.iter().map(|byte: &u8| format!("{byte:02x}")).collect();
    format!("{what}-{random}")
}

/// Pseudorandom numbers (SplitMix64) that are always the same for a seed, unlike those of a crate.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// Creates a generator from a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `limit`.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit.max(1)
    }
}
