//! Writing past the page cache.
//!
//! A backup is written once, synced, and not read soon. Through the page cache the kernel finds, clears and fills a page for
//! every 4 KiB of it and writes them back later: that takes more processor time than the rest of a backup, and evicts what
//! other programs read. With `O_DIRECT` the disk reads the bytes from our buffer.
//!
//! It is used for files of [`PIECE`] or more, on file systems known to support it well. Elsewhere, and wherever the kernel refuses
//! a write, the file is written normally.

use std::fs::File;
use std::io::{self, Write};

/// Bytes that go to the disk at once.
const PIECE: usize = 2 << 20;
/// Where a buffer, a place in a file and a length may begin and end: a page, and at least a block of any disk.
const ALIGNED: usize = 4096;

/// Gathers writes into pieces that the disk can take directly.
pub(super) struct Pieces {
    /// [`PIECE`] bytes from `start`, and room to align them. Never moved or grown.
    buffer: Box<[u8]>,
    start: usize,
    filled: usize,
    way: Way,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// Nothing has been written yet.
    Undecided,
    /// Past the cache.
    Direct,
    /// Through it.
    Cached,
}

impl Pieces {
    pub(super) fn new() -> Self {
        Self { buffer: Box::default(), start: 0, filled: 0, way: Way::Undecided }
    }

    /// Writes these bytes, or keeps them until there are more.
    pub(super) fn write(&mut self, file: &mut File, mut bytes: &[u8]) -> io::Result<()> {
        if self.buffer.is_empty() && self.way == Way::Undecided {
            self.buffer = vec![0; PIECE + ALIGNED].into();
            // An offset that cannot be told is larger than the buffer; then nothing can be aligned.
            self.start = self.buffer.as_ptr().align_offset(ALIGNED).min(ALIGNED);
        }
        while !bytes.is_empty() {
            if self.way == Way::Cached {
                return file.write_all(bytes);
            }
            let (now, rest) = bytes.split_at(bytes.len().min(PIECE - self.filled));
            let at = self.start + self.filled;
            self.buffer[at..at + now.len()].copy_from_slice(now);
            self.filled += now.len();
            bytes = rest;
            if self.filled == PIECE {
                if self.way == Way::Undecided {
                    self.way = if turn_on(file) { Way::Direct } else { Way::Cached };
                }
                self.write_piece(file)?;
            }
        }
        Ok(())
    }

    /// Writes what has been kept. Nothing may be written after it.
    pub(super) fn finish(&mut self, file: &mut File) -> io::Result<()> {
        if self.filled < PIECE && self.way == Way::Direct {
            // The last bytes have no length that the disk could take.
            self.turn_off(file)?;
        }
        self.write_piece(file)
    }

    fn write_piece(&mut self, file: &mut File) -> io::Result<()> {
        let (mut at, end) = (self.start, self.start + self.filled);
        while at < end {
            match file.write(&self.buffer[at..end]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    at += written;
                    if self.way == Way::Direct && written % ALIGNED != 0 {
                        self.turn_off(file)?;
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                // A file system with other demands on buffers and places.
                Err(e) if e.kind() == io::ErrorKind::InvalidInput && self.way == Way::Direct => self.turn_off(file)?,
                Err(e) => return Err(e),
            }
        }
        self.filled = 0;
        if self.way == Way::Cached {
            self.buffer = Box::default();
        }
        Ok(())
    }

    fn turn_off(&mut self, file: &File) -> io::Result<()> {
        set(file, false)?;
        self.way = Way::Cached;
        Ok(())
    }
}

/// Whether what is written to `file` goes past the cache from now on.
fn turn_on(file: &File) -> bool {
    is_known(file) && set(file, true).is_ok()
}

/// Whether the file is on ext2 to ext4 or XFS. Others take `O_DIRECT` too, and pay for it: a network file system with a wait for
/// each piece, btrfs with its compression.
#[cfg(target_os = "linux")]
fn is_known(file: &File) -> bool {
    /// `EXT4_SUPER_MAGIC` and `XFS_SUPER_MAGIC` of linux/magic.h.
    const KNOWN: [u64; 2] = [0xef53, 0x5846_5342];
    rustix::fs::fstatfs(file).is_ok_and(|system| KNOWN.contains(&(system.f_type as u64)))
}

#[cfg(target_os = "linux")]
fn set(file: &File, direct: bool) -> io::Result<()> {
    use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
    let mut flags = fcntl_getfl(file)?;
    flags.set(OFlags::DIRECT, direct);
    Ok(fcntl_setfl(file, flags)?)
}

#[cfg(not(target_os = "linux"))]
fn is_known(_: &File) -> bool {
    false
}

#[cfg(not(target_os = "linux"))]
fn set(_: &File, _: bool) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Seek, SeekFrom};

    use super::*;

    /// In the folder of the build, which is on a disk; the system's temporary one may be in memory.
    fn file() -> File {
        tempfile::tempfile_in(std::env::current_exe().unwrap().parent().unwrap()).unwrap()
    }

    fn content(length: usize) -> Vec<u8> {
        (0..length).map(|at| (at * 7 + at / 4093) as u8).collect()
    }

    fn read(file: &mut File) -> Vec<u8> {
        let mut all = Vec::new();
        file.seek(SeekFrom::Start(0)).unwrap();
        file.read_to_end(&mut all).unwrap();
        all
    }

    #[test]
    fn what_is_written_is_in_the_file_whatever_its_length_and_cut() {
        for length in [0, 1, ALIGNED, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE, 2 * PIECE + ALIGNED, 3 * PIECE + 4097] {
            for cut in [ALIGNED - 1, 1 << 20, 5 << 20] {
                let (content, mut file, mut pieces) = (content(length), file(), Pieces::new());
                content.chunks(cut).for_each(|chunk| pieces.write(&mut file, chunk).unwrap());
                pieces.finish(&mut file).unwrap();
                assert!(read(&mut file) == content, "{length} bytes, cut every {cut}");
            }
        }
    }

    #[test]
    fn a_write_that_the_kernel_refuses_goes_through_the_cache() {
        let mut file = file();
        let content = content(2 * PIECE + 100);
        let mut pieces = Pieces::new();
        pieces.write(&mut file, &content[..PIECE / 2]).unwrap();
        // No disk takes a buffer that begins at an odd address.
        let half = pieces.buffer[pieces.start..][..PIECE / 2].to_vec();
        pieces.start = 1;
        pieces.buffer[1..][..PIECE / 2].copy_from_slice(&half);
        pieces.write(&mut file, &content[PIECE / 2..PIECE]).unwrap();
        assert_eq!(pieces.way, Way::Cached);
        pieces.write(&mut file, &content[PIECE..]).unwrap();
        pieces.finish(&mut file).unwrap();
        assert!(read(&mut file) == content);
    }

    #[test]
    fn large_files_go_past_the_cache_and_small_ones_do_not() {
        let mut file = file();
        let mut pieces = Pieces::new();
        pieces.write(&mut file, &content(PIECE - 1)).unwrap();
        assert_eq!(pieces.way, Way::Undecided);
        pieces.write(&mut file, &content(1)).unwrap();
        let wanted = if is_known(&file) { Way::Direct } else { Way::Cached };
        assert_eq!(pieces.way, wanted);
    }
}
