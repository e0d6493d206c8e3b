//! The primitives of the format: bytes, ints, strings and offsets (`WriteInt`, `WriteStr`, `WriteOffset` in
//! PostgreSQL's `src/bin/pg_dump/pg_backup_archiver.c`).
//!
//! A read either succeeds, needs bytes that have not come yet ([`Step::More`]), or finds a [`Fault`].

/// What is wrong with some bytes. The caller, who knows their position, makes an error of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fault {
    /// The bytes do not have the right format.
    Corrupt(String),
    /// The bytes may have the right format, but in a version or variant that is not supported.
    Unsupported(String),
}

impl Fault {
    pub(super) fn corrupt(message: impl Into<String>) -> Self {
        Self::Corrupt(message.into())
    }
}

/// Why a read has no result.
#[derive(Debug)]
pub(super) enum Step {
    /// Bytes are missing; read the same thing again when more have arrived.
    More,
    /// The bytes are invalid, and more cannot help.
    Fault(Fault),
}

impl From<Fault> for Step {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

/// The sizes that the header declares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Widths {
    /// Bytes of an int's magnitude, 4 in practice.
    pub int: usize,
    /// Bytes of an offset, 8 in practice.
    pub offset: usize,
}

/// The largest int on the wire: the sign and a magnitude of at most eight bytes.
pub(super) const MAX_INT: usize = 9;

/// Decodes an int: a sign byte, then a little-endian magnitude. PostgreSQL's are all 32 bits wide, so anything larger
/// was not written by pg_dump.
#[inline]
pub(super) fn int(bytes: &[u8]) -> Result<i32, Fault> {
    // Four bytes of magnitude is what every pg_dump writes, once for each row of an uncompressed archive.
    let magnitude = match bytes {
        [_, a, b, c, d] => u64::from(u32::from_le_bytes([*a, *b, *c, *d])),
        [_, magnitude @ ..] if magnitude.len() <= 8 => {
            magnitude.iter().rev().fold(0u64, |sum, b| sum << 8 | u64::from(*b))
        }
        _ => return Err(Fault::corrupt("an int of a width that cannot be")),
    };
    match (bytes[0], magnitude) {
        (0, 0..=0x7FFF_FFFF) => Ok(magnitude as i32),
        // -2147483648 has no positive counterpart: WriteInt negates it to itself.
        (1, 1..=0x8000_0000) => Ok((magnitude as u32).wrapping_neg() as i32),
        (0 | 1, _) => Err(Fault::corrupt(format!("an int whose magnitude {magnitude} pg_dump does not write"))),
        (sign, _) => Err(Fault::corrupt(format!("an int with the sign byte {sign}, which is neither 0 nor 1"))),
    }
}

/// Reads primitives from a slice that may end in the middle of one.
#[derive(Debug)]
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
    limit: usize,
}

impl<'a> Cursor<'a> {
    /// Reads `bytes` from `at` on. Nothing may end after `limit`: a declared length beyond it is a fault at
    /// once, so that no memory is spent waiting for what would be refused.
    pub(super) fn new(bytes: &'a [u8], at: usize, limit: usize) -> Self {
        Self { bytes, at, limit }
    }

    pub(super) fn position(&self) -> usize {
        self.at
    }

    pub(super) fn take(&mut self, len: usize) -> Result<&'a [u8], Step> {
        let end = self.at.checked_add(len).filter(|end| *end <= self.limit);
        let Some(end) = end else {
            return Err(Fault::corrupt(format!(
                "header and table of contents would be larger than {} MiB",
                self.limit >> 20
            ))
            .into());
        };
        let taken = self.bytes.get(self.at..end).ok_or(Step::More)?;
        self.at = end;
        Ok(taken)
    }

    pub(super) fn byte(&mut self) -> Result<u8, Step> {
        Ok(self.take(1)?[0])
    }

    pub(super) fn int(&mut self, widths: Widths) -> Result<i32, Step> {
        Ok(int(self.take(1 + widths.int)?)?)
    }

    /// A string, `None` for NULL. The cursor stays before it if it is incomplete.
    pub(super) fn string(&mut self, widths: Widths) -> Result<Option<&'a [u8]>, Step> {
        let before = self.at;
        let len = self.int(widths)?;
        match usize::try_from(len) {
            Ok(len) => match self.take(len) {
                Err(step) => {
                    self.at = before;
                    Err(step)
                }
                taken => taken.map(Some),
            },
            Err(_) if len == -1 => Ok(None),
            Err(_) => Err(Fault::corrupt(format!("a string of length {len}")).into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ints_are_sign_and_magnitude() {
        assert_eq!(int(&[0, 5, 1, 0, 0]).unwrap(), 261);
        assert_eq!(int(&[1, 1, 0, 0, 0]).unwrap(), -1);
        assert_eq!(int(&[1, 0, 0, 0, 0x80]).unwrap(), i32::MIN);
        assert_eq!(int(&[1, 0, 0, 0, 0x80]).unwrap() as u32, 2_147_483_648);
        assert_eq!(int(&[0, 7, 0, 0, 0, 0, 0, 0, 0]).unwrap(), 7);
        for bad in [&[2, 0, 0, 0, 0][..], &[1, 0, 0, 0, 0], &[0, 0, 0, 0, 0x80], &[0, 0, 0, 0, 0, 1, 0, 0, 0]] {
            assert!(matches!(int(bad), Err(Fault::Corrupt(_))), "{bad:?}");
        }
    }

    #[test]
    fn a_string_that_is_cut_is_asked_for_again() {
        let widths = Widths { int: 4, offset: 8 };
        let all = [0, 3, 0, 0, 0, b'a', b'b', b'c'];
        for end in 0..all.len() {
            let mut cursor = Cursor::new(&all[..end], 0, 100);
            assert!(matches!(cursor.string(widths), Err(Step::More)));
            assert!(end < 5 || cursor.position() == 0);
        }
        assert_eq!(Cursor::new(&all, 0, 100).string(widths).unwrap(), Some(&b"abc"[..]));
        assert_eq!(Cursor::new(&[1, 1, 0, 0, 0], 0, 100).string(widths).unwrap(), None);
        assert!(matches!(Cursor::new(&all, 0, 7).string(widths), Err(Step::Fault(_))));
    }
}
