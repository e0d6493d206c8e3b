//! Decompression of data blocks, by push and in bounded memory.

use flate2::{Decompress, FlushDecompress, Status};
use zstd::stream::raw::{Decoder as ZstdDecoder, InBuffer, Operation, OutBuffer};

use super::lz4::FrameDecoder;
use super::toc::BlockCompression;

/// The size of the output buffer: what Zstandard emits as a block.
const OUT: usize = 128 << 10;

/// Decodes the streams of an archive one after the other. Each block and each large object is a stream.
pub(super) struct Codec {
    kind: Kind,
    out: Vec<u8>,
    /// Whether the stream has had any input.
    begun: bool,
    done: bool,
}

enum Kind {
    None,
    Gzip(Decompress),
    Lz4(Box<FrameDecoder>),
    Zstd(Box<ZstdDecoder<'static>>),
}

impl Codec {
    pub(super) fn new(compression: BlockCompression) -> Result<Self, String> {
        let (kind, out) = match compression {
            BlockCompression::None => (Kind::None, 0),
            BlockCompression::Gzip => (Kind::Gzip(Decompress::new(true)), OUT),
            BlockCompression::Lz4 => (Kind::Lz4(Box::default()), 0),
            BlockCompression::Zstd => {
                let decoder = ZstdDecoder::new().map_err(|e| format!("no Zstandard decoder: {e}"))?;
                (Kind::Zstd(Box::new(decoder)), OUT)
            }
        };
        Ok(Self { kind, out: vec![0; out], begun: false, done: false })
    }

    /// A new stream begins.
    pub(super) fn start(&mut self) -> Result<(), String> {
        self.begun = false;
        self.done = false;
        match &mut self.kind {
            Kind::None => {}
            Kind::Gzip(d) => d.reset(true),
            Kind::Lz4(d) => d.reset(),
            Kind::Zstd(d) => d.reinit().map_err(|e| format!("no Zstandard decoder: {e}"))?,
        }
        Ok(())
    }

    /// Decodes `input`, and passes the output to `sink`.
    #[inline]
    pub(super) fn push<E: From<String>>(
        &mut self,
        input: &[u8],
        sink: &mut impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        if let Kind::None = self.kind {
            return sink(input);
        }
        self.decode(input, sink)
    }

    fn decode<E: From<String>>(
        &mut self,
        mut input: &[u8],
        sink: &mut impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        self.begun |= !input.is_empty();
        match &mut self.kind {
            Kind::None => sink(input)?,
            Kind::Lz4(d) => d.push(input, sink)?,
            Kind::Gzip(d) => {
                while !self.done {
                    let (before_in, before_out) = (d.total_in(), d.total_out());
                    let status = d
                        .decompress(input, &mut self.out, FlushDecompress::None)
                        .map_err(|e| format!("a zlib stream that cannot be decoded: {e}"))?;
                    let taken = (d.total_in() - before_in) as usize;
                    let given = (d.total_out() - before_out) as usize;
                    input = &input[taken..];
                    sink(&self.out[..given])?;
                    self.done = status == Status::StreamEnd;
                    // A full buffer may mean more output; anything less means that the input is used up.
                    if given < self.out.len() && (input.is_empty() || (taken == 0 && given == 0)) {
                        break;
                    }
                }
                if !input.is_empty() {
                    return Err("bytes after the end of the zlib stream".to_owned().into());
                }
            }
            Kind::Zstd(d) => {
                let mut buffer = InBuffer::around(input);
                while !self.done {
                    let mut out = OutBuffer::around(&mut self.out[..]);
                    let hint = d
                        .run(&mut buffer, &mut out)
                        .map_err(|e| format!("a Zstandard frame that cannot be decoded: {e}"))?;
                    let given = out.pos();
                    sink(&self.out[..given])?;
                    self.done = hint == 0;
                    if buffer.pos() == input.len() && given < self.out.len() {
                        break;
                    }
                }
                if buffer.pos() < input.len() {
                    return Err("bytes after the end of the Zstandard frame".to_owned().into());
                }
            }
        }
        Ok(())
    }

    /// Ends the stream, which must have reached its own end. A stream without a single byte is empty, as pg_dump writes
    /// it for an empty large object.
    pub(super) fn end(&self) -> Result<(), String> {
        let done = match &self.kind {
            Kind::None => true,
            Kind::Lz4(d) => d.is_done(),
            Kind::Gzip(_) | Kind::Zstd(_) => self.done,
        };
        if done || !self.begun { Ok(()) } else { Err("a compressed stream that is cut".to_owned()) }
    }
}
