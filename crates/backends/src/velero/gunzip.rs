//! Push-based gzip decompression: the decompressed data goes straight to a consumer, piece by piece.

use std::io::{self, Write};

use flate2::write::MultiGzDecoder;
use lifeboat_core::{Error, ErrorKind, Result};

/// Takes bytes in pieces of any size.
pub(crate) trait Consumer: Send {
    /// Takes the next bytes.
    fn take(&mut self, bytes: &[u8]) -> Result<()>;
}

/// Decompresses a gzip stream into a consumer. Memory does not depend on the compression ratio.
pub(crate) struct Gunzip<C: Consumer> {
    decoder: MultiGzDecoder<Feed<C>>,
}

struct Feed<C>(C);

impl<C: Consumer> Write for Feed<C> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.take(bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Errors of the consumer come back as they are; the decoder's own are about the data.
fn corrupt(error: io::Error) -> Error {
    let error = Error::io("decompress", "the gzip stream", error);
    if error.operation() != "decompress" {
        return error;
    }
    let message = match error.message() {
        text if text.contains("deflate") || text.contains("gzip") => text.to_owned(),
        text => format!("it is cut off or damaged ({text})"),
    };
    Error::new(ErrorKind::Corrupt, "decompress", "the gzip stream", message)
}

impl<C: Consumer> Gunzip<C> {
    pub(crate) fn new(consumer: C) -> Self {
        Self { decoder: MultiGzDecoder::new(Feed(consumer)) }
    }

    /// The consumer, to take out of it what it has received so far.
    pub(crate) fn consumer(&mut self) -> &mut C {
        &mut self.decoder.get_mut().0
    }

    /// Decompresses the next bytes.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`], and errors of the consumer.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Result<()> {
        self.decoder.write_all(bytes).map_err(corrupt)
    }

    /// Ends the stream and returns the consumer.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] if it is cut off, or its checksum is wrong.
    pub(crate) fn finish(mut self) -> Result<C> {
        self.decoder.try_finish().map_err(corrupt)?;
        self.decoder.finish().map(|feed| feed.0).map_err(corrupt)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::GzEncoder;

    impl Consumer for Vec<u8> {
        fn take(&mut self, bytes: &[u8]) -> Result<()> {
            self.extend_from_slice(bytes);
            Ok(())
        }
    }

    fn packed(content: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap()
    }

    fn unpacked(bytes: &[u8]) -> Result<Vec<u8>> {
        let mut gunzip = Gunzip::new(Vec::new());
        for chunk in bytes.chunks(3) {
            gunzip.push(chunk)?;
        }
        gunzip.finish()
    }

    #[test]
    fn a_stream_that_is_cut_anywhere_is_corrupt() {
        let (content, mut good) = (b"hello, hello, hello".repeat(20), Vec::new());
        good.extend(packed(&content));
        assert_eq!(unpacked(&good).unwrap(), content);
        for length in 0..good.len() {
            assert_eq!(unpacked(&good[..length]).unwrap_err().kind(), ErrorKind::Corrupt, "cut at {length}");
        }
    }

    #[test]
    fn a_flipped_bit_in_the_data_is_corrupt() {
        let good = packed(&(0..=255).collect::<Vec<u8>>());
        // The ten bytes before hold a time and an operating system, which nothing depends on.
        for at in 10..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 4;
            assert_eq!(unpacked(&bad).unwrap_err().kind(), ErrorKind::Corrupt, "byte {at}");
        }
    }
}
