//! A minimal implementation of tar: a push parser, and headers for a streaming writer.
//!
//! Source: POSIX.1-2017, `pax` utility, "ustar Interchange Format" and "pax Interchange Format"; GNU's long names.

use bytes::Bytes;
use lifeboat_core::{Error, ErrorKind, Result};

/// The size of a header and the unit that data is padded to, in bytes.
const BLOCK: usize = 512;

/// The most that the extended header of a file may have, in bytes: it holds a path, not data.
const EXTENDED_LIMIT: u64 = 64 << 10;

/// The largest size that fits into a header's eleven octal digits.
const USTAR_LIMIT: u64 = 0o777_7777_7777;

/// What comes out of the parser.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Piece<'a> {
    /// A regular file begins.
    Begin { name: &'a str, bytes: u64 },
    /// The next bytes of it.
    Data(&'a [u8]),
    /// It is whole.
    End,
}

/// Parses a tar stream that comes in chunks of any size. Folders, links and devices are passed over.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    state: State,
    /// A header that is not whole yet.
    header: Vec<u8>,
    /// What an extended header said of the file that follows.
    extended: Extended,
    /// Bytes that were read.
    read: u64,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Header,
    /// After a block of zeros: another one ends the archive.
    Ending,
    Data {
        left: u64,
        padding: u64,
        use_of: Use,
    },
    Padding {
        left: u64,
    },
    /// After two blocks of zeros: only zeros may follow, which fill the last record.
    Ended,
}

#[derive(Debug)]
enum Use {
    Emit,
    Skip,
    Pax(Vec<u8>),
    GnuName(Vec<u8>),
}

#[derive(Debug, Default)]
struct Extended {
    path: Option<String>,
    bytes: Option<u64>,
}

fn corrupt(at: u64, why: &str) -> Error {
    Error::new(ErrorKind::Corrupt, "read", "the tar archive", format!("at byte {at}: {why}"))
}

impl Reader {
    /// Parses the next bytes and hands on what they hold.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`], and what `out` answers.
    pub(crate) fn push(&mut self, mut chunk: &[u8], out: &mut dyn FnMut(Piece<'_>) -> Result<()>) -> Result<()> {
        while !chunk.is_empty() {
            match &mut self.state {
                State::Header | State::Ending => {
                    let taken = chunk.len().min(BLOCK - self.header.len());
                    self.header.extend_from_slice(&chunk[..taken]);
                    self.read += taken as u64;
                    chunk = &chunk[taken..];
                    if self.header.len() == BLOCK {
                        self.begin(out)?;
                        self.header.clear();
                    }
                }
                State::Data { left, padding, use_of } => {
                    let taken = usize::try_from(*left).unwrap_or(usize::MAX).min(chunk.len());
                    match use_of {
                        Use::Emit => out(Piece::Data(&chunk[..taken]))?,
                        Use::Skip => {}
                        Use::Pax(text) | Use::GnuName(text) => text.extend_from_slice(&chunk[..taken]),
                    }
                    self.read += taken as u64;
                    chunk = &chunk[taken..];
                    *left -= taken as u64;
                    if *left == 0 {
                        let (padding, use_of) = (*padding, std::mem::replace(use_of, Use::Skip));
                        self.end(use_of, padding, out)?;
                    }
                }
                State::Padding { left } => {
                    let taken = usize::try_from(*left).unwrap_or(usize::MAX).min(chunk.len());
                    self.read += taken as u64;
                    chunk = &chunk[taken..];
                    *left -= taken as u64;
                    if *left == 0 {
                        self.state = State::Header;
                    }
                }
                State::Ended if chunk.iter().all(|byte| *byte == 0) => {
                    self.read += chunk.len() as u64;
                    return Ok(());
                }
                State::Ended => return Err(self.corrupt("there is data after its end")),
            }
        }
        Ok(())
    }

    /// The stream has ended.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] when this is not where a tar archive ends.
    pub(crate) fn finish(&self) -> Result<()> {
        match self.state {
            State::Ended => Ok(()),
            _ => Err(self.corrupt("it is cut off: its end is missing").hint("use another artifact")),
        }
    }

    /// An error at the place that was read last.
    fn corrupt(&self, why: &str) -> Error {
        corrupt(self.read, why)
    }

    fn begin(&mut self, out: &mut dyn FnMut(Piece<'_>) -> Result<()>) -> Result<()> {
        let header = &self.header;
        if header.iter().all(|byte| *byte == 0) {
            self.state = if matches!(self.state, State::Ending) { State::Ended } else { State::Ending };
            return Ok(());
        }
        if matches!(self.state, State::Ending) {
            return Err(self.corrupt("a file after its end"));
        }
        if octal(&header[148..156]) != Some(checksum(header)) {
            return Err(self.corrupt("a header's checksum is wrong: this is not a tar archive, or it is damaged"));
        }
        let size = octal(&header[124..136]).ok_or_else(|| self.corrupt("a file's size is not a number"))?;
        let kind = header[156];
        let extended = if matches!(kind, b'x' | b'g' | b'L') { None } else { Some(std::mem::take(&mut self.extended)) };
        let bytes = extended.as_ref().and_then(|extended| extended.bytes).unwrap_or(size);
        let use_of = match kind {
            b'0' | 0 | b'7' => {
                let name = match extended.and_then(|extended| extended.path) {
                    Some(name) => name,
                    None => {
                        ustar_name(&self.header).ok_or_else(|| self.corrupt("a file's name is empty or not UTF-8"))?
                    }
                };
                out(Piece::Begin { name: &name, bytes })?;
                Use::Emit
            }
            b'x' | b'L' if bytes > EXTENDED_LIMIT => {
                return Err(self.corrupt("a file's path is longer than a path can be"));
            }
            b'x' => Use::Pax(Vec::new()),
            b'L' => Use::GnuName(Vec::new()),
            _ => Use::Skip,
        };
        let padding = (BLOCK as u64 - bytes % BLOCK as u64) % BLOCK as u64;
        if bytes == 0 {
            return self.end(use_of, padding, out);
        }
        self.state = State::Data { left: bytes, padding, use_of };
        Ok(())
    }

    fn end(&mut self, use_of: Use, padding: u64, out: &mut dyn FnMut(Piece<'_>) -> Result<()>) -> Result<()> {
        self.state = if padding == 0 { State::Header } else { State::Padding { left: padding } };
        match use_of {
            Use::Emit => out(Piece::End)?,
            Use::Skip => {}
            Use::Pax(text) => self.read_pax(&text)?,
            Use::GnuName(text) => {
                let text = text.strip_suffix(&[0]).unwrap_or(&text);
                let name = std::str::from_utf8(text).map_err(|_| self.corrupt("a file's path is not UTF-8"))?;
                self.extended.path = Some(name.to_owned());
            }
        }
        Ok(())
    }

    /// Records such as `30 path=resources/a/b.json\n`, the length counting the whole record.
    fn read_pax(&mut self, mut text: &[u8]) -> Result<()> {
        let at = self.read;
        let bad = || corrupt(at, "an extended header is malformed");
        while !text.is_empty() {
            let space = text.iter().position(|byte| *byte == b' ').ok_or_else(bad)?;
            let length = std::str::from_utf8(&text[..space]).ok().and_then(|digits| digits.parse::<usize>().ok());
            let length = length.filter(|length| *length > space + 1 && *length <= text.len()).ok_or_else(bad)?;
            let record = std::str::from_utf8(&text[space + 1..length]).map_err(|_| bad())?;
            match record.trim_end_matches('\n').split_once('=').ok_or_else(bad)? {
                ("path", path) => self.extended.path = Some(path.to_owned()),
                ("size", size) => self.extended.bytes = Some(size.parse().map_err(|_| bad())?),
                _ => {}
            }
            text = &text[length..];
        }
        Ok(())
    }
}

/// A number in octal digits, padded with spaces and NULs.
fn octal(field: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(field).ok()?.trim_matches([' ', '\0']);
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    u64::from_str_radix(text, 8).ok()
}

/// The sum of all bytes of a header, with spaces in place of the sum itself.
fn checksum(header: &[u8]) -> u64 {
    header.iter().enumerate().map(|(at, byte)| u64::from(if (148..156).contains(&at) { b' ' } else { *byte })).sum()
}

fn ustar_name(header: &[u8]) -> Option<String> {
    let text = |field: &[u8]| {
        let end = field.iter().position(|byte| *byte == 0).unwrap_or(field.len());
        std::str::from_utf8(&field[..end]).map(str::to_owned).ok()
    };
    let (name, prefix) = (text(&header[..100])?, text(&header[345..500])?);
    let has_prefix = header[257..262] == *b"ustar" && !prefix.is_empty();
    let name = if has_prefix { format!("{prefix}/{name}") } else { name };
    (!name.is_empty()).then_some(name)
}

/// The header of a regular file, with an extended one before it where the name or the size does not fit.
pub(crate) fn header(name: &str, bytes: u64, modified_seconds: u64) -> Bytes {
    let mut out = Vec::new();
    let split = split_name(name);
    if split.is_none() || bytes > USTAR_LIMIT {
        let records = format!("{}{}", record("path", name), record("size", &bytes.to_string()));
        out.extend_from_slice(&plain("pax", "", records.len() as u64, modified_seconds, b'x'));
        out.extend_from_slice(records.as_bytes());
        out.resize(out.len().next_multiple_of(BLOCK), 0);
    }
    let (prefix, short) = split.unwrap_or(("", "long-name"));
    out.extend_from_slice(&plain(short, prefix, bytes.min(USTAR_LIMIT), modified_seconds, b'0'));
    out.into()
}

/// The zeros after a file of this size.
pub(crate) fn padding(bytes: u64) -> Bytes {
    static ZEROS: [u8; BLOCK] = [0; BLOCK];
    let rest = usize::try_from(bytes % BLOCK as u64).unwrap_or(0);
    Bytes::from_static(&ZEROS[..(BLOCK - rest) % BLOCK])
}

/// The two blocks of zeros that end an archive.
pub(crate) fn end() -> Bytes {
    Bytes::from_static(&[0; 2 * BLOCK])
}

/// A path as a ustar header holds it: at most 155 bytes, a slash, and at most 100 more.
fn split_name(name: &str) -> Option<(&str, &str)> {
    if name.len() <= 100 {
        return Some(("", name));
    }
    name.match_indices('/')
        .map(|(at, _)| (&name[..at], &name[at + 1..]))
        .find(|(prefix, rest)| prefix.len() <= 155 && !prefix.is_empty() && !rest.is_empty() && rest.len() <= 100)
}

fn record(key: &str, value: &str) -> String {
    let rest = format!(" {key}={value}\n");
    let mut length = rest.len() + 1;
    while length != rest.len() + length.to_string().len() {
        length = rest.len() + length.to_string().len();
    }
    format!("{length}{rest}")
}

fn plain(name: &str, prefix: &str, bytes: u64, modified_seconds: u64, kind: u8) -> [u8; BLOCK] {
    let mut header = [0; BLOCK];
    let mut put = |at: usize, text: &[u8]| header[at..at + text.len()].copy_from_slice(text);
    put(0, name.as_bytes());
    put(100, b"0000600\0");
    put(108, b"0000000\0");
    put(116, b"0000000\0");
    put(124, format!("{bytes:011o}\0").as_bytes());
    put(136, format!("{:011o}\0", modified_seconds.min(USTAR_LIMIT)).as_bytes());
    put(156, &[kind]);
    put(257, b"ustar\x0000");
    put(345, prefix.as_bytes());
    let sum = checksum(&header);
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    header
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;
    use std::process::{Command, Stdio};

    fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut out = Vec::new();
        for (name, content) in files {
            out.extend_from_slice(&header(name, content.len() as u64, 1_700_000_000));
            out.extend_from_slice(content);
            out.extend_from_slice(&padding(content.len() as u64));
        }
        out.extend_from_slice(&end());
        out
    }

    fn read(archive: &[u8], step: usize) -> Result<Vec<(String, Vec<u8>)>> {
        let (mut reader, mut files) = (Reader::default(), Vec::new());
        for chunk in archive.chunks(step) {
            reader.push(chunk, &mut |piece| {
                match piece {
                    Piece::Begin { name, .. } => files.push((name.to_owned(), Vec::new())),
                    Piece::Data(data) => files.last_mut().unwrap().1.extend_from_slice(data),
                    Piece::End => {}
                }
                Ok(())
            })?;
        }
        reader.finish()?;
        Ok(files)
    }

    fn names() -> Vec<String> {
        let long = "n".repeat(253);
        vec![
            "a.json".into(),
            format!("{}/{}", "d".repeat(120), "e".repeat(90)),
            format!("x/{long}.json"),
            "empty".into(),
        ]
    }

    #[test]
    fn what_is_written_is_read_in_chunks_of_any_size() {
        let names = names();
        let content: Vec<Vec<u8>> = vec![vec![7; 512], vec![1; 513], b"x".to_vec(), Vec::new()];
        let files: Vec<_> = names.iter().map(String::as_str).zip(content.iter().map(Vec::as_slice)).collect();
        let archive = archive(&files);
        for step in [1, 7, 512, 1000, archive.len()] {
            let read = read(&archive, step).unwrap();
            assert_eq!(read.iter().map(|(n, c)| (n.as_str(), c.as_slice())).collect::<Vec<_>>(), files);
        }
    }

    #[test]
    fn gnu_tar_lists_what_is_written() {
        let names = names();
        let files: Vec<_> = names.iter().map(|name| (name.as_str(), b"x".as_slice())).collect();
        let mut tar = Command::new("tar").arg("-t").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        tar.stdin.take().unwrap().write_all(&archive(&files)).unwrap();
        let output = tar.wait_with_output().unwrap();
        assert!(output.status.success());
        assert_eq!(String::from_utf8(output.stdout).unwrap().lines().collect::<Vec<_>>(), names);
    }

    #[test]
    fn an_archive_that_is_cut_anywhere_is_corrupt() {
        let archive = archive(&[("a", b"hello"), ("b", &[9; 600])]);
        for length in 0..archive.len() {
            assert_eq!(read(&archive[..length], 100).unwrap_err().kind(), ErrorKind::Corrupt, "cut at {length}");
        }
    }

    #[test]
    fn nothing_follows_the_end() {
        let one = archive(&[("a", b"hello")]);
        let without_end = &one[..one.len() - 2 * BLOCK];
        for wrong in [
            [&one, without_end].concat(),
            [without_end, &[0; BLOCK], without_end, &[0; 2 * BLOCK]].concat(),
            [&one, b"x".as_slice()].concat(),
        ] {
            assert_eq!(read(&wrong, 100).unwrap_err().kind(), ErrorKind::Corrupt);
        }
        let full_record = [&one, [0; 8 * BLOCK].as_slice()].concat();
        assert_eq!(read(&full_record, 100).unwrap(), [("a".to_owned(), b"hello".to_vec())]);
    }

    #[test]
    fn a_damaged_header_is_corrupt() {
        let good = archive(&[("a", b"hello")]);
        for at in 0..BLOCK {
            let mut bad = good.clone();
            bad[at] ^= 1;
            assert!(read(&bad, 512).is_err(), "byte {at}");
        }
    }
}
