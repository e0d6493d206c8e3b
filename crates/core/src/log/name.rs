//! The names of segments.

use std::fmt;

use sha2::{Digest, Sha256};

use super::Position;
use crate::name::{Dataset, is_foreign_encryption, join_key};

/// The folder of a dataset's log, without a slash at its end.
pub fn log_folder(folder: &str, dataset: &Dataset) -> String {
    join_key(folder, &format!("{dataset}.log"))
}

/// The name of a segment, below the log's folder: what its key says about it. In the order of positions.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub struct SegmentName {
    /// The timeline.
    pub epoch: u32,
    /// The first position in it.
    pub start: u64,
    /// The first position behind it.
    pub end: u64,
    /// The first 32 hexadecimal digits of the plaintext's SHA-256.
    pub hash: String,
    /// Extension of the plaintext's format: `wal`.
    pub format: String,
    /// `zst` or `gz`, when compressed.
    pub compression: Option<String>,
    /// `age`, `enc` or `enc-<word>`, when encrypted.
    pub encryption: Option<String>,
}

impl SegmentName {
    /// Reads what follows the log's folder and a slash. `None` for what is no segment's name.
    pub fn parse(name: &str) -> Option<Self> {
        let (epoch, name) = name.split_once('/')?;
        let (positions, extensions) = name.split_once('.')?;
        let mut parts = positions.split('-');
        let (start, length, hash) = (parts.next()?, parts.next()?, parts.next()?);
        let is_hex =
            |text: &str, digits| text.len() == digits && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if parts.next().is_some() || !is_hex(epoch, 8) || !is_hex(start, 16) || !is_hex(length, 16) || !is_hex(hash, 32)
        {
            return None;
        }
        let start = u64::from_str_radix(start, 16).ok()?;
        let length = u64::from_str_radix(length, 16).ok().filter(|length| *length > 0)?;
        let mut extensions: Vec<&str> = extensions.split('.').collect();
        let mut take = |fits: &dyn Fn(&str) -> bool| {
            let fits = extensions.len() > 1 && extensions.last().is_some_and(|last| fits(last));
            extensions.pop_if(|_| fits).map(str::to_owned)
        };
        let encryption = take(&|e| matches!(e, "age" | "enc") || is_foreign_encryption(e));
        let compression = take(&|e| matches!(e, "zst" | "gz"));
        let format = match extensions[..] {
            [format] if is_format(format) => format.to_owned(),
            _ => return None,
        };
        Some(Self {
            epoch: u32::from_str_radix(epoch, 16).ok()?,
            start,
            end: start.checked_add(length)?,
            hash: hash.to_owned(),
            format,
            compression,
            encryption,
        })
    }

    /// Where it starts.
    pub fn position(&self) -> Position {
        Position::new(self.epoch, self.start)
    }

    /// What all segments of the same epoch that start there begin with.
    pub(super) fn prefix_of(position: Position) -> String {
        format!("{:08x}/{:016x}-", position.epoch, position.at)
    }

    /// Whether it is the same content for the same positions, however it is packed.
    pub(super) fn is_same_content(&self, other: &Self) -> bool {
        (self.epoch, self.start, self.end, &self.hash) == (other.epoch, other.start, other.end, &other.hash)
    }
}

impl fmt::Display for SegmentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let prefix = Self::prefix_of(self.position());
        write!(f, "{prefix}{:016x}-{}.{}", self.end - self.start, self.hash, self.format)?;
        [&self.compression, &self.encryption].into_iter().flatten().try_for_each(|extension| write!(f, ".{extension}"))
    }
}

/// Whether this is one word.
pub(super) fn is_format(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
}

/// The hash that a name tells of a plaintext.
pub(super) fn hash_of(plaintext: &[u8]) -> String {
    let mut text = hex::encode(Sha256::digest(plaintext));
    text.truncate(32);
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_name_tells_everything() {
        let text = "00000002/0000000003000000-0000000001000000-0123456789abcdef0123456789abcdef.wal.zst.age";
        let name = SegmentName::parse(text).unwrap();
        assert_eq!((name.epoch, name.start, name.end), (2, 0x0300_0000, 0x0400_0000));
        assert_eq!(
            (name.format.as_str(), name.compression.as_deref(), name.encryption.as_deref()),
            ("wal", Some("zst"), Some("age"))
        );
        assert_eq!(name.to_string(), text);
    }

    #[test]
    fn what_is_no_segment_is_not_read_as_one() {
        let hash = "0123456789abcdef0123456789abcdef";
        for name in [
            format!("00000002/0000000003000000-0000000000000000-{hash}.wal"),
            format!("00000002/ffffffffffffffff-0000000000000001-{hash}.wal"),
            format!("2/0000000003000000-0000000001000000-{hash}.wal"),
            format!("00000002/0000000003000000-0000000001000000-{hash}"),
            format!("00000002/0000000003000000-0000000001000000-{hash}."),
            format!("00000002/0000000003000000-0000000001000000-{hash}.wal.xz"),
            format!("00000002/0000000003000000-000000000100000G-{hash}.wal"),
            format!("00000002/0000000003000000-0000000001000000-{hash}-x.wal"),
            "00000002/0000000003000000-0000000001000000.wal".to_owned(),
            "index/0".to_owned(),
        ] {
            assert_eq!(SegmentName::parse(&name), None, "{name}");
        }
    }

    proptest! {
        #[test]
        fn names_read_back_and_sort_as_positions_do(a in any::<(u32, u64, u64)>(), b in any::<(u32, u64, u64)>(), x in 0usize..4) {
            let make = |(epoch, start, length): (u32, u64, u64)| {
                let start = start >> 1;
                let extensions = [(None, None), (Some("zst"), None), (None, Some("enc")), (Some("gz"), Some("enc-kms"))][x];
                SegmentName {
                    epoch,
                    start,
                    end: start + (length >> 1) + 1,
                    hash: hash_of(b"x"),
                    format: "wal".to_owned(),
                    compression: extensions.0.map(str::to_owned),
                    encryption: extensions.1.map(str::to_owned),
                }
            };
            let (a, b) = (make(a), make(b));
            prop_assert_eq!(SegmentName::parse(&a.to_string()), Some(a.clone()));
            prop_assert_eq!(a.to_string().cmp(&b.to_string()), a.cmp(&b));
        }

        #[test]
        fn no_text_makes_it_panic(text in "\\PC*") {
            let _ = SegmentName::parse(&text);
        }
    }
}
