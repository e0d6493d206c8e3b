//! Compression: zstd and gzip. Reading back goes by magic, whatever wrote the bytes.

use std::fmt;
use std::io::{self, Write};
use std::str::FromStr;

use zstd::zstd_safe::CParameter;

use crate::error::{Error, ErrorKind, Result};
use crate::limiter::Limiter;
use crate::pipeline::stage::{self, StageInput};
use crate::stream::ByteStream;

/// Bytes that a zstd worker compresses at once. The library's choice at level 3, 8 MiB, takes 24 MiB more memory with two
/// workers, for no time and 0.06% of the size.
const JOB: u32 = 4 << 20;

/// How a stream is compressed. As text: `zstd:3`, `zstd`, `gzip:6`, `gzip`, `none`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Compression {
    /// Zstandard, with a content checksum in the frame.
    Zstd {
        /// 1 to 22; 3 is the default.
        level: i32,
        /// Worker threads. 0 compresses on the stage's own thread.
        threads: u32,
    },
    /// Gzip, one member.
    Gzip {
        /// 1 to 9; 6 is the default.
        level: u32,
    },
    /// Not at all.
    None,
}

impl Compression {
    /// Zstandard at this level, on up to two threads beside the stage's own.
    pub fn zstd(level: i32) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self::Zstd { level, threads: if cores > 1 { 2 } else { 0 } }
    }

    /// Gzip at this level.
    pub fn gzip(level: u32) -> Self {
        Self::Gzip { level }
    }

    /// The suffix that a compressed object's name gets, without the dot.
    pub fn suffix(self) -> Option<&'static str> {
        match self {
            Self::Zstd { .. } => Some("zst"),
            Self::Gzip { .. } => Some("gz"),
            Self::None => None,
        }
    }

    /// Compresses a stream on a thread of its own.
    pub(crate) fn compress(self, input: ByteStream) -> ByteStream {
        let failed = |e| Error::io("compress", "the stream", e);
        match self {
            Self::None => input,
            Self::Zstd { level, threads } => stage::spawn("zstd", input, move |input, output| {
                // Workers of its own would compute beside the stages that are counted.
                let threads = if Limiter::current().has_thread_limit() { 0 } else { threads };
                let mut encoder = zstd::stream::write::Encoder::new(output, level).map_err(failed)?;
                encoder.include_checksum(true).map_err(failed)?;
                encoder.multithread(threads).map_err(failed)?;
                if threads > 0 {
                    encoder.set_parameter(CParameter::JobSize(JOB)).map_err(failed)?;
                }
                while let Some(chunk) = input.next_chunk()? {
                    encoder.write_all(&chunk).map_err(failed)?;
                }
                encoder.finish().map(drop).map_err(failed)
            }),
            Self::Gzip { level } => stage::spawn("gzip", input, move |input, output| {
                let mut encoder = flate2::write::GzEncoder::new(output, flate2::Compression::new(level));
                while let Some(chunk) = input.next_chunk()? {
                    encoder.write_all(&chunk).map_err(failed)?;
                }
                encoder.finish().map(drop).map_err(failed)
            }),
        }
    }
}

impl Default for Compression {
    fn default() -> Self {
        Self::zstd(3)
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Zstd { level, .. } => write!(f, "zstd:{level}"),
            Self::Gzip { level } => write!(f, "gzip:{level}"),
            Self::None => f.write_str("none"),
        }
    }
}

impl FromStr for Compression {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = |why: &str| {
            Err(Error::new(ErrorKind::Config, "use", format!("compression \"{text}\""), why)
                .hint("write zstd:3 (levels 1 to 22), gzip:6 (levels 1 to 9) or none"))
        };
        let (name, level) = match text.split_once(':') {
            Some((name, level)) => match level.parse::<i32>() {
                Ok(level) => (name, Some(level)),
                Err(_) => return wrong("its level is not a number"),
            },
            None => (text, None),
        };
        match (name, level) {
            ("none", None) => Ok(Self::None),
            ("zstd", level) => match level.unwrap_or(3) {
                level @ 1..=22 => Ok(Self::zstd(level)),
                _ => wrong("zstd has levels 1 to 22"),
            },
            ("gzip", level) => match level.unwrap_or(6) {
                level @ 1..=9 => Ok(Self::gzip(level as u32)),
                _ => wrong("gzip has levels 1 to 9"),
            },
            _ => wrong("unknown compression"),
        }
    }
}

/// RFC 8878, section 3.1.1: the magic of a Zstandard frame, little-endian 0xFD2FB528.
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// RFC 1952, section 2.3.1: ID1, ID2 and the only compression method, deflate.
const GZIP_MAGIC: [u8; 3] = [0x1f, 0x8b, 0x08];

/// Undoes compression, told by the stream's own magic: zstd (many frames, skippable ones too), gzip (many
/// members), or nothing at all. Runs on a thread of its own.
pub(crate) fn decompress(input: ByteStream) -> ByteStream {
    stage::spawn("decompress", input, |input, output| {
        let magic = input.peek(4)?;
        // RFC 8878, section 3.1.2: a skippable frame starts with 0x184D2A5? and may be the first.
        let skippable = magic.len() == 4 && magic[0] & 0xf0 == 0x50 && magic[1..] == [0x2a, 0x4d, 0x18];
        if magic == ZSTD_MAGIC[..] || skippable {
            let mut decoder =
                zstd::stream::read::Decoder::with_buffer(&mut *input).map_err(|e| corrupt(e, "zstd", 0))?;
            let copied = io::copy(&mut decoder, output);
            drop(decoder);
            copied.map(drop).map_err(|e| corrupt(e, "zstd", input.consumed()))
        } else if magic.starts_with(&GZIP_MAGIC) {
            let mut decoder = flate2::bufread::MultiGzDecoder::new(&mut *input);
            let copied = io::copy(&mut decoder, output);
            drop(decoder);
            copied.map(drop).map_err(|e| corrupt(e, "gzip", input.consumed()))
        } else {
            pass(input, output)
        }
    })
}

fn pass(input: &mut StageInput, output: &mut stage::StageOutput) -> Result<()> {
    while let Some(chunk) = input.next_chunk()? {
        output.send(chunk)?;
    }
    Ok(())
}

fn corrupt(error: io::Error, format: &str, at: u64) -> Error {
    if Error::is_within(&error) {
        return Error::io("decompress", "the stream", error);
    }
    let message = match error.kind() {
        io::ErrorKind::UnexpectedEof => {
            format!("the {format} data ends in the middle, after {at} bytes: it was cut short")
        }
        _ => format!("the {format} data is damaged near byte {at} ({error})"),
    };
    Error::new(ErrorKind::Corrupt, "decompress", "the stream", message)
        .hint("the stored object is damaged: use another artifact")
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use futures::StreamExt;
    use proptest::prelude::*;

    use super::*;
    use crate::stream::{collect, once};

    async fn round_trip(compression: Compression, data: Bytes) -> Bytes {
        let packed = collect(compression.compress(once(data.clone())), 1 << 26, "x").await.unwrap();
        collect(decompress(once(packed)), 1 << 26, "x").await.unwrap()
    }

    fn sample(len: usize) -> Bytes {
        (0..len).map(|i| (i / 7 * i % 251) as u8).collect::<Vec<_>>().into()
    }

    #[tokio::test]
    async fn what_was_compressed_reads_back_by_magic() {
        for len in [0, 1, 3, 70_000, 3_000_000] {
            for text in ["zstd:1", "zstd:3", "gzip", "none"] {
                let compression: Compression = text.parse().unwrap();
                assert_eq!(round_trip(compression, sample(len)).await, sample(len), "{text} {len}");
            }
        }
    }

    #[tokio::test]
    async fn many_members_and_frames_read_back_as_one() {
        for text in ["zstd", "gzip"] {
            let compression: Compression = text.parse().unwrap();
            let mut parts = Vec::new();
            for _ in 0..3 {
                parts.push(Ok(collect(compression.compress(once("abc")), 1 << 20, "x").await.unwrap()));
            }
            let joined = decompress(futures::stream::iter(parts).boxed());
            assert_eq!(&collect(joined, 100, "x").await.unwrap()[..], b"abcabcabc", "{text}");
        }
    }

    #[tokio::test]
    async fn a_stream_cut_short_is_corrupt() {
        for text in ["zstd", "gzip"] {
            let compression: Compression = text.parse().unwrap();
            let whole = collect(compression.compress(once(sample(300_000))), 1 << 26, "x").await.unwrap();
            for cut in [5, whole.len() / 2, whole.len() - 1] {
                let error = collect(decompress(once(whole.slice(..cut))), 1 << 26, "x").await.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Corrupt, "{text} {cut} {error}");
                assert!(error.message().contains("cut short"), "{text} {cut}: {error}");
            }
        }
    }

    #[tokio::test]
    async fn a_flipped_byte_is_corrupt() {
        for text in ["zstd", "gzip"] {
            let compression: Compression = text.parse().unwrap();
            let whole = collect(compression.compress(once(sample(300_000))), 1 << 26, "x").await.unwrap();
            let mut damaged = whole.to_vec();
            damaged[whole.len() / 2] ^= 4;
            let error = collect(decompress(once(damaged)), 1 << 26, "x").await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{text} {error}");
        }
    }

    #[test]
    fn a_wrong_setting_says_what_to_write() {
        for text in ["", "zstd:0", "zstd:23", "gzip:10", "zstd:x", "lzma", "none:1"] {
            let error = text.parse::<Compression>().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config);
            assert!(error.advice().unwrap().contains("zstd:3"), "{text}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn any_bytes_round_trip(data in prop::collection::vec(any::<u8>(), 0..5000), zstd in any::<bool>()) {
            // Bytes that start like a compressed stream are what `none` cannot carry; the others carry anything.
            let compression = if zstd { Compression::zstd(1) } else { Compression::gzip(1) };
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let data = Bytes::from(data);
            prop_assert_eq!(runtime.block_on(round_trip(compression, data.clone())), data);
        }

        #[test]
        fn no_bytes_make_it_panic(data in prop::collection::vec(any::<u8>(), 0..500), magic in 0usize..3) {
            let start: &[u8] = [&ZSTD_MAGIC[..], &GZIP_MAGIC[..], &[]][magic];
            let data = [start, &data].concat();
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let _ = runtime.block_on(async { collect(decompress(once(data)), 1 << 24, "x").await });
        }
    }
}
