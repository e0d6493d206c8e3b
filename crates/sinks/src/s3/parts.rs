//! Parts of a multipart upload: their sizes, and how a stream is cut into them.

use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use lifeboat_core::stream::CHUNK;
use lifeboat_core::{ByteStream, Result};
use object_store::PutPayload;

use super::profile::Profile;

const MIB: u64 = 1 << 20;

/// Parts of 8 MiB (unless set otherwise), then of 16 MiB up to 100 GiB, then ever larger ones.
const SMALL: u64 = 1000;
const MEDIUM: u64 = 6900;
/// By how many bytes each part after [`MEDIUM`] is larger than the one before. The 3,100 parts that are left hold 5.7 TiB.
const GROWTH: u64 = MIB + MIB / 4;

/// The size of each part of an upload of unknown length.
///
/// Up to 100 GiB the parts are 8, then 16 MiB, so that memory stays constant; still, 10,000 parts hold 5 TiB,
/// because later ones grow. (Larger than 100 GiB, several objects are better.)
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartSchedule {
    first: u64,
    least: u64,
    most: u64,
    parts: u32,
}

impl PartSchedule {
    /// The schedule for a store whose first parts have `first` bytes; no later one has fewer.
    pub fn new(profile: &Profile, first: u64) -> Self {
        Self { first, least: profile.least_part, most: profile.most_part, parts: profile.most_parts }
    }

    /// Bytes of the part with this index, counted from 0. `None` after the last one that the store allows.
    pub fn size(&self, index: u32) -> Option<u64> {
        if index >= self.parts {
            return None;
        }
        let standard = match u64::from(index) {
            index if index < SMALL => self.first,
            index if index < MEDIUM => 16 * MIB,
            index => 16 * MIB + (index - MEDIUM + 1) * GROWTH,
        };
        Some(standard.max(self.first).clamp(self.least, self.most))
    }
}

/// Chunks smaller than this are gathered by copying: a part of millions of tiny chunks would cost more than its bytes.
const SMALL_CHUNK: usize = 64 << 10;

/// Cuts a stream into parts without copying (except tiny chunks).
pub(super) struct Assembler {
    body: ByteStream,
    /// The rest of a chunk that did not fit into the part before.
    rest: Option<Bytes>,
    chunks: Vec<Bytes>,
    small: BytesMut,
    bytes: u64,
    ended: bool,
}

/// Bytes of one part.
pub(super) struct Part {
    pub(super) payload: PutPayload,
    pub(super) bytes: u64,
}

impl Assembler {
    pub(super) fn new(body: ByteStream) -> Self {
        Self { body, rest: None, chunks: Vec::new(), small: BytesMut::new(), bytes: 0, ended: false }
    }

    /// The next part, of `size` bytes or, at the end of the stream, fewer. `None` when nothing is left.
    ///
    /// # Cancel safety
    /// Safe: what was gathered goes into the part of the next call.
    pub(super) async fn next(&mut self, size: u64) -> Result<Option<Part>> {
        while self.bytes < size {
            let Some(chunk) = self.chunk().await? else { break };
            // Of at most a chunk each, so that progress is seen while a part is sent.
            let fits = usize::try_from(size - self.bytes).unwrap_or(usize::MAX).min(CHUNK);
            let mut chunk = chunk;
            if chunk.len() > fits {
                self.rest = Some(chunk.split_off(fits));
            }
            self.bytes += chunk.len() as u64;
            if chunk.len() < SMALL_CHUNK {
                self.small.extend_from_slice(&chunk);
                if self.small.len() >= SMALL_CHUNK {
                    self.flush();
                }
            } else {
                self.flush();
                self.chunks.push(chunk);
            }
        }
        self.flush();
        if self.bytes == 0 {
            return Ok(None);
        }
        let payload = std::mem::take(&mut self.chunks).into_iter().collect();
        Ok(Some(Part { payload, bytes: std::mem::take(&mut self.bytes) }))
    }

    /// Whether the stream has ended. Waits for the next chunk to find out.
    pub(super) async fn is_at_end(&mut self) -> Result<bool> {
        self.rest = self.chunk().await?;
        Ok(self.rest.is_none())
    }

    async fn chunk(&mut self) -> Result<Option<Bytes>> {
        if let Some(rest) = self.rest.take() {
            return Ok(Some(rest));
        }
        while !self.ended {
            match self.body.next().await {
                Some(Ok(chunk)) if chunk.is_empty() => {}
                Some(chunk) => return chunk.map(Some),
                None => self.ended = true,
            }
        }
        Ok(None)
    }

    fn flush(&mut self) {
        if !self.small.is_empty() {
            self.chunks.push(self.small.split().freeze());
        }
    }
}

#[cfg(test)]
mod five_tebibytes;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn parts_stay_small_up_to_100_gib() {
        let schedule = PartSchedule::new(&Profile::AWS, 8 * MIB);
        let mut written = 0;
        for index in 0.. {
            let size = schedule.size(index).unwrap();
            if written >= 100 << 30 {
                assert!(size > 16 * MIB);
                break;
            }
            assert!(size <= 16 * MIB);
            written += size;
        }
        assert_eq!(written, 100 << 30);
    }

    proptest! {
        #[test]
        fn every_schedule_reaches_the_largest_object(
            profile in prop::sample::select(vec![Profile::AWS, Profile::MINIO, Profile::B2]),
            first in 0u64..6 << 30,
        ) {
            let schedule = PartSchedule::new(&profile, first);
            let (mut total, mut last) = (0u64, 0);
            for index in 0..profile.most_parts {
                let size = schedule.size(index).unwrap();
                prop_assert!(size >= profile.least_part && size <= profile.most_part && size >= last);
                last = size;
                total += size;
            }
            prop_assert_eq!(schedule.size(profile.most_parts), None);
            prop_assert!(total >= 5 << 40, "{}", total);
        }

        #[test]
        fn cutting_changes_no_byte(
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..5000), 0..40),
            size in 1u64..20_000,
        ) {
            let whole: Vec<u8> = chunks.concat();
            let stream = futures::stream::iter(chunks.into_iter().map(|c| Ok(Bytes::from(c)))).boxed();
            let mut assembler = Assembler::new(stream);
            let mut parts = Vec::new();
            tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
                while let Some(part) = assembler.next(size).await.unwrap() {
                    assert_eq!(part.payload.content_length() as u64, part.bytes);
                    parts.push(Bytes::from(part.payload));
                }
            });
            prop_assert!(parts.iter().rev().skip(1).all(|p| p.len() as u64 == size));
            prop_assert_eq!(parts.concat(), whole);
        }
    }
}
