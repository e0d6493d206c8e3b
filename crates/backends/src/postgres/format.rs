//! What a dump is, told by its first bytes: an archive, SQL, or neither, and then what to do.

use lifeboat_core::extract::Out;
use lifeboat_core::{Error, ErrorKind, Extract, Proof, Result, Tap};

use super::archive::{ArchiveTap, TableRows, form_of_rows};
use super::sql::{SqlRows, SqlTap};

/// Bytes of a dump that tell what it is: a tar header has its mark at 257.
pub(super) const TELLING: usize = 512;

/// Formats by their first bytes: what it is, and how it becomes a dump that is read.
const FORMATS: [(&[u8], &str, &str); 10] = [
    (b"\xFD7zXZ\0", "compressed with xz", "unpack it first: xz -d"),
    (b"BZh", "compressed with bzip2", "unpack it first: bzip2 -d"),
    (b"\x04\x22\x4D\x18", "compressed with lz4", "unpack it first: lz4 -d"),
    (b"\x1F\x8B", "compressed with gzip", "its name must end in .gz"),
    (b"\x28\xB5\x2F\xFD", "compressed with zstd", "its name must end in .zst"),
    (b"PK\x03\x04", "a zip file", "unpack it first: unzip"),
    (b"age-encryption.org/", "encrypted with age", "its name must end in .age"),
    (b"Salted__", "encrypted with openssl enc", "its name must end in .enc"),
    (b"\xFF\xFE", "text in UTF-16", UTF16),
    (b"\xFE\xFF", "text in UTF-16", UTF16),
];

const UTF16: &str = "PowerShell writes a program's output like this: convert it to UTF-8 (iconv -f UTF-16 -t UTF-8), and use pg_dump's --file";

/// Whether a dump that is none of these and no archive can be SQL: by its first bytes only, for a value may hold any.
pub(super) fn is_text(start: &[u8]) -> bool {
    !start.starts_with(b"PGDMP") && start.iter().take(16).all(|b| *b >= 0x20 || b.is_ascii_whitespace())
}

/// The error for what is known to be no dump that is read here.
pub(super) fn refused(start: &[u8]) -> Option<Error> {
    let compressed = start.strip_prefix(b"BZh").is_none_or(|rest| rest.get(1..7) == Some(b"1AY&SY"));
    let known = FORMATS.iter().find(|(mark, ..)| start.starts_with(mark)).filter(|_| compressed);
    let tar = start.get(257..262) == Some(b"ustar");
    let (what, help) = match known {
        Some((_, what, help)) => (*what, *help),
        None if tar && start.starts_with(b"toc.dat\0") => (
            "an archive in pg_dump's tar format",
            "pg_restore reads it; to have Lifeboat read it, dump with --format=custom",
        ),
        None if tar => ("a tar archive", "unpack it first: tar -x"),
        None => return None,
    };
    Some(Error::new(ErrorKind::Unsupported, "read", "the dump", format!("it is {what}")).hint(help))
}

/// Told apart by the first bytes: scripts name both kinds as they like.
pub(super) enum AnyTap {
    Unknown(Vec<u8>),
    Known(Box<dyn Tap>),
}

impl AnyTap {
    pub(super) fn new() -> Self {
        Self::Unknown(Vec::new())
    }
}

impl Tap for AnyTap {
    fn push(&mut self, chunk: &[u8]) -> Result<()> {
        match self {
            Self::Known(tap) => tap.push(chunk),
            Self::Unknown(start) => {
                start.extend_from_slice(chunk);
                if start.len() < TELLING {
                    return Ok(());
                }
                let start = std::mem::take(start);
                let mut tap = known(&start)?;
                tap.push(&start)?;
                *self = Self::Known(tap);
                Ok(())
            }
        }
    }

    fn finish(self: Box<Self>) -> Result<Proof> {
        match *self {
            Self::Known(tap) => tap.finish(),
            Self::Unknown(start) => {
                let mut tap = known(&start)?;
                tap.push(&start)?;
                tap.finish()
            }
        }
    }

    fn units_done(&self) -> u64 {
        match self {
            Self::Known(tap) => tap.units_done(),
            Self::Unknown(_) => 0,
        }
    }

    fn units(&self) -> &'static str {
        "tables"
    }
}

fn known(start: &[u8]) -> Result<Box<dyn Tap>> {
    if let Some(error) = refused(start) {
        return Err(error);
    }
    // What cannot be text is given to the archive's parser, which says best what is wrong with it.
    Ok(if is_text(start) { Box::new(SqlTap::new()) } else { Box::new(ArchiveTap::new()) })
}

/// As [`AnyTap`], for the rows of a table.
pub(super) enum AnyRows {
    Unknown { start: Vec<u8>, table: String, relation: Option<String> },
    Known(Box<dyn Extract>),
}

impl AnyRows {
    /// The rows of a table, of which a proof says its columns.
    pub(super) fn new(table: &str, relation: Option<String>) -> Self {
        Self::Unknown { start: Vec::new(), table: table.to_owned(), relation }
    }

    /// What reads a dump that starts so.
    fn known(start: &[u8], table: &str, relation: Option<&str>) -> Result<Box<dyn Extract>> {
        if let Some(error) = refused(start) {
            return Err(error);
        }
        Ok(match is_text(start) {
            true => Box::new(SqlRows::new(table)),
            false => Box::new(TableRows::new(table, relation)),
        })
    }
}

impl Extract for AnyRows {
    fn form(&self) -> String {
        match self {
            Self::Known(rows) => rows.form(),
            Self::Unknown { table, relation, .. } => form_of_rows(relation.as_deref().unwrap_or(table)),
        }
    }

    fn take(&mut self, chunk: &[u8], out: &mut Out<'_>) -> Result<()> {
        let (start, table, relation) = match self {
            Self::Known(rows) => return rows.take(chunk, out),
            Self::Unknown { start, table, relation } => (start, table, relation),
        };
        start.extend_from_slice(chunk);
        if start.len() < TELLING {
            return Ok(());
        }
        let start = std::mem::take(start);
        let mut rows = Self::known(&start, table, relation.as_deref())?;
        rows.take(&start, out)?;
        *self = Self::Known(rows);
        Ok(())
    }

    fn end(self: Box<Self>, out: &mut Out<'_>) -> Result<Proof> {
        match *self {
            Self::Known(rows) => rows.end(out),
            Self::Unknown { start, table, relation } => {
                let mut rows = Self::known(&start, &table, relation.as_deref())?;
                rows.take(&start, out)?;
                rows.end(out)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_dump_is_named() {
        let mut tar = b"toc.dat".to_vec();
        tar.resize(257, 0);
        tar.extend_from_slice(b"ustar  ");
        for (start, what) in [
            (&b"\xFD7zXZ\0\0"[..], "xz"),
            (b"BZh91AY&SY\0", "bzip2"),
            (b"\x04\x22\x4D\x18d", "lz4"),
            (b"\xFF\xFE-\0-\0", "UTF-16"),
            (&tar, "pg_dump's tar format"),
        ] {
            assert!(refused(start).unwrap().message().contains(what), "{what}");
        }
        for start in [&b"PGDMP"[..], b"CREATE TABLE a", b"BZhello();", b"\xEF\xBB\xBF-- x", b""] {
            assert!(refused(start).is_none(), "{start:?}");
        }
    }
}
