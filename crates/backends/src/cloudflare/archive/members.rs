//! The files of a zone's archive, by name.

use lifeboat_core::{Error, ErrorKind, Result};

use super::content::corrupt;
use crate::tar::{self, Piece, Reader};

/// The largest size of a file, in bytes.
const LARGEST_FILE: u64 = 64 << 20;
/// The largest total size of all files, in bytes.
const LARGEST: u64 = 256 << 20;
/// The largest number of files in an archive.
const MOST_FILES: usize = 1000;

/// Writes an archive of these files. Times and owners are zero.
///
/// # Errors
/// [`ErrorKind::Unsupported`] if it would be too large to be read back.
pub(crate) fn write<'a>(files: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    for (name, content) in files {
        let bytes = content.len() as u64;
        if bytes > LARGEST_FILE || out.len() as u64 + bytes > LARGEST {
            let message = format!("it would have more than {LARGEST_FILE} bytes, or the archive more than {LARGEST}");
            return Err(Error::new(ErrorKind::Unsupported, "write", name, message));
        }
        out.extend_from_slice(&tar::header(name, bytes, 0));
        out.extend_from_slice(content);
        out.extend_from_slice(&tar::padding(bytes));
    }
    out.extend_from_slice(&tar::end());
    Ok(out)
}

/// Unpacks an archive that is pushed to it. Memory is bounded by the limits above.
#[derive(Default)]
pub(crate) struct Members {
    reader: Reader,
    files: Vec<(String, Vec<u8>)>,
    total: u64,
}

impl Members {
    /// Takes the next bytes.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] for anything but a tar archive, and for files that no zone's archive contains.
    pub(crate) fn push(&mut self, chunk: &[u8]) -> Result<()> {
        let (files, total) = (&mut self.files, &mut self.total);
        self.reader.push(chunk, &mut |piece| {
            match piece {
                Piece::Begin { name, bytes } => {
                    // Scripts may have packed a folder; its name means nothing.
                    let base = name.rsplit('/').next().unwrap_or_default();
                    *total = total.saturating_add(bytes);
                    if bytes > LARGEST_FILE || *total > LARGEST || files.len() >= MOST_FILES {
                        let what = format!("no zone's backup has a file of {bytes} bytes, or so many files");
                        return Err(corrupt(base, &what));
                    }
                    if base.is_empty() {
                        return Err(corrupt(name, "a file with the name of a folder"));
                    }
                    if files.iter().any(|(known, _)| known == base) {
                        return Err(corrupt(base, "it is there twice"));
                    }
                    files.push((base.to_owned(), Vec::new()));
                }
                Piece::Data(data) => {
                    if let Some((_, content)) = files.last_mut() {
                        content.extend_from_slice(data);
                    }
                }
                Piece::End => {}
            }
            Ok(())
        })
    }

    /// The number of files begun so far.
    pub(crate) fn begun(&self) -> u64 {
        self.files.len() as u64
    }

    /// Ends the archive and returns its files, by name without folders.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] if this cannot be the end.
    pub(crate) fn finish(self) -> Result<Vec<(String, Vec<u8>)>> {
        self.reader.finish()?;
        Ok(self.files)
    }
}
