//! Tar archives (POSIX.1-1988 ustar, with the extensions of pax and GNU for long names): a writer, and a push parser.

use lifeboat_core::{Error, ErrorKind, Result};

const BLOCK: usize = 512;
/// Bytes that a member may have.
const LARGEST_MEMBER: u64 = 64 << 20;
/// Bytes that all members may have together.
const LARGEST: u64 = 256 << 20;
/// Members that an archive may have.
const MOST_MEMBERS: usize = 1000;
/// Bytes that the extension with a long name may have.
const LONGEST_NAME: u64 = 64 << 10;

/// Writes an archive of these members. Times and owners are zero.
///
/// # Errors
/// [`ErrorKind::Internal`] for a name that does not fit, [`ErrorKind::Unsupported`] for more than can be read back.
pub(crate) fn write<'a>(members: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    for (name, content) in members {
        if content.len() as u64 > LARGEST_MEMBER || (out.len() + content.len()) as u64 > LARGEST {
            let message = format!("it would have more than {LARGEST_MEMBER} bytes");
            return Err(Error::new(ErrorKind::Unsupported, "write", name, message));
        }
        out.extend_from_slice(&header(name, content.len())?);
        out.extend_from_slice(content);
        out.resize(out.len().next_multiple_of(BLOCK), 0);
    }
    out.resize(out.len() + 2 * BLOCK, 0);
    Ok(out)
}

fn header(name: &str, size: usize) -> Result<[u8; BLOCK]> {
    let mut block = [0; BLOCK];
    if name.len() > 100 {
        return Err(Error::new(ErrorKind::Internal, "write", name, "the name is too long for the archive"));
    }
    let mut put = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, name.as_bytes());
    put(100, b"0000600\0");
    put(108, b"0000000\0");
    put(116, b"0000000\0");
    put(124, format!("{size:011o}\0").as_bytes());
    put(136, b"00000000000\0");
    put(148, b"        ");
    put(156, b"0");
    put(257, b"ustar\x0000");
    let sum: u32 = block.iter().map(|b| u32::from(*b)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    Ok(block)
}

/// Takes an archive apart. It is fed; what it holds is bounded by the limits above.
#[derive(Default)]
pub(crate) struct Unpack {
    block: Vec<u8>,
    state: State,
    long_name: Option<String>,
    total: u64,
    members: Vec<(String, Vec<u8>)>,
    read: u64,
}

#[derive(Default)]
enum State {
    #[default]
    Header,
    Member {
        kind: Kind,
        name: String,
        content: Vec<u8>,
        left: u64,
        padding: u64,
    },
    /// One block of zeros has come.
    Ending,
    Ended,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    File,
    LongName,
    Pax,
    Other,
}

impl Unpack {
    fn corrupt(&self, why: impl Into<String>) -> Error {
        let why = why.into();
        Error::new(ErrorKind::Corrupt, "read", "the archive", format!("at byte {}: {why}", self.read))
    }

    /// Takes the next bytes.
    pub(crate) fn push(&mut self, mut chunk: &[u8]) -> Result<()> {
        while !chunk.is_empty() {
            let took = match &mut self.state {
                State::Member { left, padding, content, kind, .. } => {
                    let body = usize::try_from(*left).unwrap_or(usize::MAX).min(chunk.len());
                    if *kind != Kind::Other {
                        content.extend_from_slice(&chunk[..body]);
                    }
                    *left -= body as u64;
                    let pad = if *left == 0 {
                        usize::try_from(*padding).unwrap_or(usize::MAX).min(chunk.len() - body)
                    } else {
                        0
                    };
                    *padding -= pad as u64;
                    body + pad
                }
                State::Ended => {
                    // Tar fills its last record with zeros.
                    if chunk.iter().any(|b| *b != 0) {
                        return Err(self.corrupt("there is something after the end of the archive"));
                    }
                    chunk.len()
                }
                State::Header | State::Ending => {
                    let took = (BLOCK - self.block.len()).min(chunk.len());
                    self.block.extend_from_slice(&chunk[..took]);
                    took
                }
            };
            self.read += took as u64;
            chunk = &chunk[took..];
            self.advance()?;
        }
        Ok(())
    }

    fn advance(&mut self) -> Result<()> {
        if self.block.len() == BLOCK {
            let block = std::mem::take(&mut self.block);
            self.header(&block)?;
        }
        if matches!(self.state, State::Member { left: 0, padding: 0, .. }) {
            self.member()?;
        }
        Ok(())
    }

    fn header(&mut self, block: &[u8]) -> Result<()> {
        if block.iter().all(|b| *b == 0) {
            self.state = if matches!(self.state, State::Ending) { State::Ended } else { State::Ending };
            return Ok(());
        }
        if matches!(self.state, State::Ending) {
            return Err(self.corrupt("a member after the end of the archive"));
        }
        let sum: u64 =
            block.iter().enumerate().map(|(at, b)| if (148..156).contains(&at) { 32 } else { u64::from(*b) }).sum();
        if octal(&block[148..156]) != Some(sum) {
            return Err(self.corrupt("this is no tar archive, or it is damaged: the sum of a header is wrong"));
        }
        let size = octal(&block[124..136]).ok_or_else(|| self.corrupt("the size of a member is wrong"))?;
        let kind = match block[156] {
            b'0' | 0 | b'7' => Kind::File,
            b'L' => Kind::LongName,
            b'x' => Kind::Pax,
            _ => Kind::Other,
        };
        let limit = if matches!(kind, Kind::LongName | Kind::Pax) { LONGEST_NAME } else { LARGEST_MEMBER };
        self.total = self.total.saturating_add(size);
        if size > limit || self.total > LARGEST || self.members.len() >= MOST_MEMBERS {
            return Err(self.corrupt(format!("a member of {size} bytes, or so many members, are in no zone's backup")));
        }
        let text = |range: std::ops::Range<usize>| {
            let field = &block[range];
            let end = field.iter().position(|b| *b == 0).unwrap_or(field.len());
            String::from_utf8_lossy(&field[..end]).into_owned()
        };
        let mut name = text(0..100);
        let prefix = text(345..500);
        if &block[257..263] == b"ustar\0" && !prefix.is_empty() {
            name = format!("{prefix}/{name}");
        }
        if kind == Kind::File
            && let Some(long) = self.long_name.take()
        {
            name = long;
        }
        let padding = size.next_multiple_of(BLOCK as u64) - size;
        self.state = State::Member { kind, name, content: Vec::new(), left: size, padding };
        Ok(())
    }

    fn member(&mut self) -> Result<()> {
        let State::Member { kind, name, content, .. } = std::mem::take(&mut self.state) else { return Ok(()) };
        match kind {
            Kind::File => {
                // The folder that a script has packed means nothing.
                let base = name.rsplit('/').next().unwrap_or_default().to_owned();
                if base.is_empty() {
                    return Err(self.corrupt("a file without a name"));
                }
                if self.members.iter().any(|(known, _)| *known == base) {
                    return Err(self.corrupt(format!("{base} is there twice")));
                }
                self.members.push((base, content));
            }
            Kind::LongName => {
                let end = content.iter().position(|b| *b == 0).unwrap_or(content.len());
                self.long_name = Some(String::from_utf8_lossy(&content[..end]).into_owned());
            }
            Kind::Pax => {
                if let Some(path) = pax_path(&content) {
                    self.long_name = Some(path);
                }
            }
            Kind::Other => {}
        }
        Ok(())
    }

    /// The archive has ended: its files, by their names without folders.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] when this cannot be the end.
    pub(crate) fn finish(self) -> Result<Vec<(String, Vec<u8>)>> {
        match self.state {
            State::Ended => Ok(self.members),
            _ => Err(self.corrupt("the archive breaks off").hint("the file is cut short: use another artifact")),
        }
    }
}

/// A number as text, with spaces or zeros around it.
fn octal(field: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(field).ok()?.trim_matches(['\0', ' ']);
    if text.is_empty() || !text.bytes().all(|b| (b'0'..=b'7').contains(&b)) {
        return None;
    }
    u64::from_str_radix(text, 8).ok()
}

/// `path` of a pax header: records `<length> <key>=<value>\n`.
fn pax_path(content: &[u8]) -> Option<String> {
    let mut rest = content;
    while !rest.is_empty() {
        let space = rest.iter().position(|b| *b == b' ')?;
        let length: usize = std::str::from_utf8(&rest[..space]).ok()?.parse().ok()?;
        let record = rest.get(space + 1..length.checked_sub(1)?)?;
        if let Some(path) = record.strip_prefix(b"path=") {
            return Some(String::from_utf8_lossy(path).into_owned());
        }
        rest = rest.get(length..)?;
    }
    None
}
