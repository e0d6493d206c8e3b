//! Fills the data offsets of a table of contents.
//!
//! When pg_dump writes to a pipe, it cannot seek back, so its entries say "offset not set". pg_restore must then read
//! through the archive to find a table, and cannot distribute the work among jobs by size. The field has a fixed width,
//! so filling it produces exactly the file that pg_dump writes to a disk (`_CloseArchive` in
//! `src/bin/pg_dump/pg_backup_custom.c`).

use std::io::{Seek, SeekFrom, Write};
use std::sync::Arc;

use lifeboat_core::{Error, ErrorKind, Proof, Result};
use serde::{Deserialize, Serialize};

use super::parser::{BlockEnd, EventHandler};
use super::toc::Toc;

/// Flag of an offset that is set (`K_OFFSET_POS_SET`).
const SET: u8 = 2;

/// The position of one data block in the archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockPosition {
    /// The number of its entry.
    pub id: i32,
    /// The offset of its type byte.
    pub offset: u64,
    /// Its length, in bytes.
    pub bytes: u64,
}

/// The block positions in a proof's details. Empty if it has none.
pub fn block_positions(proof: &Proof) -> Vec<BlockPosition> {
    let blocks = proof.details.get("blocks").and_then(|b| b.as_array());
    blocks.into_iter().flatten().filter_map(|b| BlockPosition::deserialize(b).ok()).collect()
}

/// Fills the offsets of `blocks` into header and table of contents (`head`). The length stays the same.
///
/// An entry whose block is not given stays as it is: pg_restore will search for its data. Entries without data are
/// marked as such in every archive, piped or not.
///
/// # Errors
/// [`ErrorKind::Corrupt`] if `head` is not what `toc` was read from, or a block is of an entry that does not exist or
/// has no data.
pub fn fill_offsets(toc: &Toc, head: &[u8], blocks: &[BlockPosition]) -> Result<Vec<u8>> {
    if head.len() as u64 != toc.byte_len {
        return Err(refused(format!("{} bytes are given where there are {}", head.len(), toc.byte_len)));
    }
    let mut head = head.to_vec();
    for (at, field) in fields(toc, blocks)? {
        let start = usize::try_from(at).expect("a position within the head, which is in memory");
        head[start..start + field.len()].copy_from_slice(&field);
    }
    Ok(head)
}

/// Fills in the offsets of `blocks` in an archive that starts at the beginning of `file`.
///
/// # Errors
/// Those of [`fill_offsets`], and [`ErrorKind::Io`] if the file cannot be written.
pub fn fill_offsets_in_place(file: &mut (impl Write + Seek), toc: &Toc, blocks: &[BlockPosition]) -> Result<()> {
    let failed = |e| Error::io("write", "the archive's data offsets", e);
    for (at, field) in fields(toc, blocks)? {
        file.seek(SeekFrom::Start(at)).map_err(failed)?;
        file.write_all(&field).map_err(failed)?;
    }
    file.flush().map_err(failed)
}

/// The offset fields to write, each with its place.
fn fields(toc: &Toc, blocks: &[BlockPosition]) -> Result<Vec<(u64, Vec<u8>)>> {
    let size = usize::from(toc.header.off_size);
    let field = |block: &BlockPosition| {
        let entry = toc
            .entry(block.id)
            .filter(|e| e.had_dumper)
            .ok_or_else(|| refused(format!("no entry {} with data", block.id)))?;
        let bytes = block.offset.to_le_bytes();
        let (low, high) = bytes.split_at(size);
        if high.iter().any(|b| *b != 0) {
            return Err(refused(format!("the offset {} does not fit into {size} bytes", block.offset)));
        }
        let mut field = vec![SET];
        field.extend_from_slice(low);
        Ok((entry.offset_position, field))
    };
    blocks.iter().map(field).collect()
}

fn refused(message: String) -> Error {
    Error::new(ErrorKind::Corrupt, "fill", "the archive's data offsets", message)
}

/// Records where the blocks of an archive are while a [`Parser`](super::Parser) reads it.
#[derive(Debug, Default)]
pub struct BlockIndex {
    /// The table of contents, once it is complete.
    pub toc: Option<Arc<Toc>>,
    /// The blocks that have ended.
    pub blocks: Vec<BlockPosition>,
}

impl BlockIndex {
    /// Fills in the offsets of the archive that was read, which starts at the beginning of `file`.
    ///
    /// # Errors
    /// Those of [`fill_offsets_in_place`]; [`ErrorKind::Corrupt`] if no table of contents was read.
    pub fn fill_in_place(&self, file: &mut (impl Write + Seek)) -> Result<()> {
        let toc = self.toc.as_ref().ok_or_else(|| refused("no table of contents was read".to_owned()))?;
        fill_offsets_in_place(file, toc, &self.blocks)
    }
}

impl EventHandler for BlockIndex {
    fn toc(&mut self, toc: &Arc<Toc>) -> Result<()> {
        self.toc = Some(Arc::clone(toc));
        Ok(())
    }

    fn block_end(&mut self, block: &BlockEnd) -> Result<()> {
        self.blocks.push(BlockPosition { id: block.dump_id, offset: block.offset, bytes: block.len });
        Ok(())
    }
}
