//! The checksum of a namespace: CRC-64/XZ over its documents' bytes.

use std::fmt;

use crc_fast::{CrcAlgorithm, Digest};

/// What the algorithm's state starts with, and is combined with at its end.
const ONES: u64 = u64::MAX;

/// A running CRC-64/XZ, which Go's `hash/crc64` calls ECMA: what the end of a namespace carries.
#[derive(Clone, Copy)]
pub struct Crc64 {
    state: u64,
}

impl Default for Crc64 {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Crc64 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.value())
    }
}

impl Crc64 {
    /// The checksum of nothing, which is 0.
    pub fn new() -> Self {
        Self { state: ONES }
    }

    /// Adds bytes.
    #[inline]
    pub fn update(&mut self, bytes: &[u8]) {
        let mut digest = Digest::new_with_init_state(CrcAlgorithm::Crc64Xz, self.state);
        digest.update(bytes);
        self.state = digest.get_state();
    }

    /// The checksum of what has been added.
    pub fn value(&self) -> u64 {
        self.state ^ ONES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_that_of_the_catalogue() {
        let mut crc = Crc64::new();
        assert_eq!(crc.value(), 0);
        crc.update(b"123456789");
        assert_eq!(crc.value(), 0x995d_c9bb_df19_39fa);
    }

    #[test]
    fn it_does_not_matter_how_the_bytes_are_cut() {
        let bytes: Vec<u8> = (0..=255u8).cycle().take(10_000).collect();
        let mut whole = Crc64::new();
        whole.update(&bytes);
        for size in [1, 7, 8, 129, 4_096] {
            let mut cut = Crc64::new();
            bytes.chunks(size).for_each(|chunk| cut.update(chunk));
            assert_eq!(cut.value(), whole.value(), "cut every {size} bytes");
        }
    }
}
