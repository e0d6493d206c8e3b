//! A push decoder for LZ4 frames: this code parses the frame, `lz4_flex` decodes its blocks.
//!
//! ```text
//! magic 04 22 4D 18 | FLG | BD | [content size: 8] | [dictionary id: 4] | HC
//! blocks: size: 4 (top bit: stored) | bytes | [XXH32: 4]
//! end mark 00 00 00 00 | [XXH32 of the content: 4]
//! ```
//!
//! The layout is that of `doc/lz4_Frame_format.md` in the LZ4 project. PostgreSQL writes it with the library's
//! default preferences (`compress_lz4.c`): linked blocks of 64 KiB, no checksums.

use xxhash_rust::xxh32::{Xxh32, xxh32};

/// How far back a linked block may refer, in bytes.
const HISTORY: usize = 64 << 10;

/// Decodes one LZ4 frame.
#[derive(Default)]
pub(super) struct FrameDecoder {
    part: Part,
    /// FLG and BD, which the header's checksum covers.
    flags: [u8; 2],
    /// The start of the current part, if it was split by a chunk boundary.
    cut: Vec<u8>,
    /// Up to [`HISTORY`] bytes of the previous output, then room for one block.
    out: Vec<u8>,
    history: usize,
    max_block: usize,
    linked: bool,
    block_sums: bool,
    content_sum: Option<Xxh32>,
    content_size: Option<u64>,
    written: u64,
}

#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum Part {
    #[default]
    Start,
    Descriptor {
        len: usize,
    },
    BlockSize,
    Block {
        len: usize,
        stored: bool,
    },
    ContentSum,
    End,
}

impl FrameDecoder {
    /// Resets to before the frame, keeping the memory.
    pub(super) fn reset(&mut self) {
        self.part = Part::Start;
        self.cut.clear();
        self.history = 0;
        self.written = 0;
    }

    pub(super) fn is_done(&self) -> bool {
        self.part == Part::End
    }

    /// Decodes `input`, and passes the output to `sink`.
    pub(super) fn push<E: From<String>>(
        &mut self,
        mut input: &[u8],
        sink: &mut impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        while !input.is_empty() {
            let need = self.part_len();
            if need == 0 {
                return Err("bytes after the end of the LZ4 frame".to_owned().into());
            }
            if self.cut.is_empty() && input.len() >= need {
                let (part, rest) = input.split_at(need);
                input = rest;
                self.step(part, sink)?;
                continue;
            }
            let (bytes, rest) = input.split_at(input.len().min(need - self.cut.len()));
            self.cut.extend_from_slice(bytes);
            input = rest;
            if self.cut.len() == need {
                let part = std::mem::take(&mut self.cut);
                self.step(&part, sink)?;
                self.cut = part;
                self.cut.clear();
            }
        }
        Ok(())
    }

    /// Bytes that the next part takes. At most a block of 4 MiB and its checksum.
    fn part_len(&self) -> usize {
        match self.part {
            Part::Start => 6,
            Part::Descriptor { len } => len,
            Part::BlockSize | Part::ContentSum => 4,
            Part::Block { len, .. } => len + if self.block_sums { 4 } else { 0 },
            Part::End => 0,
        }
    }

    fn step<E: From<String>>(&mut self, part: &[u8], sink: &mut impl FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
        self.part = match self.part {
            Part::Start => self.start(part)?,
            Part::Descriptor { .. } => self.descriptor(part)?,
            Part::BlockSize => {
                let size = word(part);
                let (len, stored) = ((size & 0x7FFF_FFFF) as usize, size >> 31 == 1);
                if size == 0 {
                    self.end_of_blocks()?
                } else if len == 0 || len > self.max_block {
                    return Err(format!("an LZ4 block of {len} bytes where {} are the most", self.max_block).into());
                } else {
                    Part::Block { len, stored }
                }
            }
            Part::Block { len, stored } => {
                let (block, sum) = part.split_at(len);
                if self.block_sums && xxh32(block, 0) != word(sum) {
                    return Err("an LZ4 block whose checksum differs".to_owned().into());
                }
                self.block(block, stored, sink)?;
                Part::BlockSize
            }
            Part::ContentSum => {
                if self.content_sum.as_ref().is_some_and(|sum| sum.digest() != word(part)) {
                    return Err("LZ4 content whose checksum differs".to_owned().into());
                }
                Part::End
            }
            Part::End => Part::End,
        };
        Ok(())
    }

    fn start(&mut self, part: &[u8]) -> Result<Part, String> {
        if word(part) != 0x184D_2204 {
            return Err("no LZ4 frame".to_owned());
        }
        let (flags, sizes) = (part[4], part[5]);
        if flags >> 6 != 1 || flags & 0x02 != 0 || sizes & 0x8F != 0 {
            return Err("an LZ4 frame of an unknown version".to_owned());
        }
        if flags & 0x01 != 0 {
            return Err("an LZ4 frame that needs a dictionary".to_owned());
        }
        self.max_block = match sizes >> 4 {
            n @ 4..=7 => 1 << (8 + 2 * n),
            n => return Err(format!("an LZ4 frame with the block size {n}")),
        };
        self.linked = flags & 0x20 == 0;
        self.block_sums = flags & 0x10 != 0;
        self.content_size = (flags & 0x08 != 0).then_some(0);
        self.content_sum = (flags & 0x04 != 0).then(|| Xxh32::new(0));
        self.out.resize(HISTORY + self.max_block, 0);
        self.flags = [flags, sizes];
        Ok(Part::Descriptor { len: if self.content_size.is_some() { 9 } else { 1 } })
    }

    fn descriptor(&mut self, part: &[u8]) -> Result<Part, String> {
        let (fields, sum) = part.split_at(part.len() - 1);
        let mut covered = self.flags.to_vec();
        covered.extend_from_slice(fields);
        if (xxh32(&covered, 0) >> 8) as u8 != sum[0] {
            return Err("an LZ4 frame whose header's checksum differs".to_owned());
        }
        if let Ok(size) = <[u8; 8]>::try_from(fields) {
            self.content_size = Some(u64::from_le_bytes(size));
        }
        Ok(Part::BlockSize)
    }

    fn block<E: From<String>>(
        &mut self,
        block: &[u8],
        stored: bool,
        sink: &mut impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let (history, room) = self.out.split_at_mut(self.history);
        let room = &mut room[..self.max_block];
        let len = if stored {
            room[..block.len()].copy_from_slice(block);
            block.len()
        } else {
            lz4_flex::block::decompress_into_with_dict(block, room, history)
                .map_err(|e| format!("an LZ4 block that cannot be decoded: {e}"))?
        };
        let plain = &room[..len];
        if let Some(sum) = &mut self.content_sum {
            sum.update(plain);
        }
        self.written += len as u64;
        sink(plain)?;
        if self.linked {
            let end = self.history + len;
            let start = end.saturating_sub(HISTORY);
            self.out.copy_within(start..end, 0);
            self.history = end - start;
        }
        Ok(())
    }

    fn end_of_blocks(&self) -> Result<Part, String> {
        if self.content_size.is_some_and(|size| size != self.written) {
            return Err("an LZ4 frame whose content is not of the length that its header says".to_owned());
        }
        Ok(if self.content_sum.is_some() { Part::ContentSum } else { Part::End })
    }
}

fn word(bytes: &[u8]) -> u32 {
    u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}
