//! The header and the table of contents: everything before the data.
//!
//! ```text
//! "PGDMP" | major | minor | revision | intSize | offSize | format | compression | 7 ints: time | dbname |
//! server version | pg_dump version | int count | count entries
//! ```
//!
//! They are written by `WriteHead` and `WriteToc` in `src/bin/pg_dump/pg_backup_archiver.c`. Neither has a length or a
//! checksum, so the only way to find where the data begins is to read all of it.

use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;

use lifeboat_core::{Error, ErrorKind, Result};

use super::encoding::to_utf8;
use super::read::{Cursor, Fault, Step, Widths};

/// The largest size of header and table of contents, in bytes. A database of a million objects stays below this.
pub const MAX_TOC_BYTES: usize = 256 << 20;

/// The format byte of the custom format (`archCustom` in `pg_backup.h`).
const FORMAT_CUSTOM: u8 = 1;

/// How the data blocks of an archive are compressed (`pg_compress_algorithm` in `src/include/common/compression.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BlockCompression {
    /// No compression: `-Z0`.
    None,
    /// A zlib stream for each block and large object.
    Gzip,
    /// An LZ4 frame for each.
    Lz4,
    /// A Zstandard frame for each.
    Zstd,
}

impl BlockCompression {
    /// pg_dump's name for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }
}

/// The header, before the table of contents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Version of the archive format: major, minor, revision.
    pub version: (u8, u8, u8),
    /// Bytes of an int's magnitude.
    pub int_size: u8,
    /// Bytes of an offset.
    pub off_size: u8,
    /// How the data blocks are compressed.
    pub compression: BlockCompression,
    /// When the dump was made, in the local time of the machine that made it: second, minute, hour, day of month, month
    /// (0-based), year (minus 1900), daylight saving time.
    pub created: [i32; 7],
    /// The database.
    pub dbname: Vec<u8>,
    /// The server's version, as the server reports it: `15.18 (Debian 15.18-0+deb12u1)`.
    pub server_version: Vec<u8>,
    /// The version of the pg_dump that wrote it.
    pub pg_dump_version: Vec<u8>,
}

/// Whether an entry's data has been found, and where (`K_OFFSET_*` in `pg_backup_archiver.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DataOffset {
    /// Written to a pipe: the place is not known.
    NotSet,
    /// The absolute offset of the block's type byte.
    At(u64),
    /// The entry has no data.
    NoData,
}

/// One entry of the table of contents. Texts are in the dump's encoding, which need not be UTF-8.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TocEntry {
    /// The entry's number, unique in the archive.
    pub dump_id: i32,
    /// Whether a data block with this number must follow.
    pub had_dumper: bool,
    /// The OID of the object's catalog, in decimal.
    pub table_oid: Option<Vec<u8>>,
    /// The OID of the object, in decimal.
    pub oid: Option<Vec<u8>>,
    /// The name, without schema. For some kinds, several names: `a_table a_constraint`.
    pub tag: Option<Vec<u8>>,
    /// The kind: `TABLE`, `TABLE DATA`, `INDEX`.
    pub desc: Option<Vec<u8>>,
    /// The section: 1 none, 2 pre-data, 3 data, 4 post-data.
    pub section: i32,
    /// The SQL that creates it.
    pub defn: Option<Vec<u8>>,
    /// The position of the field [`defn`](Self::defn) in the archive, including the length before it.
    pub defn_at: Range<u64>,
    /// The SQL that drops it.
    pub drop_stmt: Option<Vec<u8>>,
    /// The `COPY … FROM stdin` that loads its data.
    pub copy_stmt: Option<Vec<u8>>,
    /// The schema.
    pub namespace: Option<Vec<u8>>,
    /// The tablespace.
    pub tablespace: Option<Vec<u8>>,
    /// The table access method. From archive version 1.14.
    pub table_am: Option<Vec<u8>>,
    /// `pg_class.relkind` as a number. From archive version 1.16.
    pub rel_kind: Option<i32>,
    /// The owner.
    pub owner: Option<Vec<u8>>,
    /// The position of the field [`owner`](Self::owner) in the archive, including the length before it.
    pub owner_at: Range<u64>,
    /// `true` for tables `WITH OIDS` of old servers.
    pub with_oids: Option<Vec<u8>>,
    /// Numbers of entries that must be restored before. Some may name entries that the dump left out.
    pub dependencies: Vec<i32>,
    /// Where the data is.
    pub offset: DataOffset,
    /// The position of the entry's offset field in the archive: one flag byte, then `off_size` bytes.
    pub offset_position: u64,
}

impl TocEntry {
    pub(super) fn blank() -> Self {
        Self {
            dump_id: 0,
            had_dumper: false,
            table_oid: None,
            oid: None,
            tag: None,
            desc: None,
            section: 0,
            defn: None,
            defn_at: 0..0,
            drop_stmt: None,
            copy_stmt: None,
            namespace: None,
            tablespace: None,
            table_am: None,
            rel_kind: None,
            owner: None,
            owner_at: 0..0,
            with_oids: None,
            dependencies: Vec::new(),
            offset: DataOffset::NotSet,
            offset_position: 0,
        }
    }

    /// The kind as text; empty if there is none.
    pub fn kind(&self) -> &str {
        self.desc.as_deref().and_then(|d| std::str::from_utf8(d).ok()).unwrap_or("")
    }

    /// The tag for display: lossy if it is not UTF-8.
    pub fn label(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(self.tag.as_deref().unwrap_or_default())
    }

    /// Whether it is of this kind.
    pub fn is(&self, kind: &str) -> bool {
        self.desc.as_deref() == Some(kind.as_bytes())
    }
}

/// Header and table of contents. Names and statements are in UTF-8, as far as the archive's encoding can be converted.
#[derive(Clone, Debug)]
pub struct Toc {
    /// The header.
    pub header: Header,
    /// The entries in the order of the archive.
    pub entries: Vec<TocEntry>,
    /// The total size of header and table of contents in bytes, which is the offset of the first data block.
    pub byte_len: u64,
    by_id: HashMap<i32, usize>,
}

impl Toc {
    /// The entry with this number.
    pub fn entry(&self, dump_id: i32) -> Option<&TocEntry> {
        self.index_of(dump_id).map(|i| &self.entries[i])
    }

    /// The index in [`entries`](Self::entries) of the entry with this number.
    pub fn index_of(&self, dump_id: i32) -> Option<usize> {
        self.by_id.get(&dump_id).copied()
    }

    /// The entries of one kind.
    pub fn of_kind<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a TocEntry> {
        self.entries.iter().filter(move |e| e.is(kind))
    }

    /// The archive's encoding by its `ENCODING` entry: `UTF8`.
    pub fn encoding(&self) -> Option<Cow<'_, str>> {
        // SET client_encoding = 'UTF8';
        let defn = self.of_kind("ENCODING").next()?.defn.as_deref()?;
        let start = memchr::memchr(b'\'', defn)? + 1;
        let len = memchr::memchr(b'\'', &defn[start..])?;
        Some(String::from_utf8_lossy(&defn[start..start + len]))
    }
}

/// The result of [`TocReader::push`].
#[derive(Debug)]
pub enum TocProgress {
    /// The whole chunk was taken, and more is needed.
    Incomplete,
    /// Header and table of contents are complete.
    Complete {
        /// Their content.
        toc: Box<Toc>,
        /// Their bytes: the archive up to the first data block.
        head: Vec<u8>,
        /// How many bytes of the chunk belong to them. The rest is data.
        consumed: usize,
    },
}

/// Reads header and table of contents from chunks of any size.
///
/// It resumes at the exact field that was split, so that its work is linear in the bytes, and keeps the bytes, at most
/// [`MAX_TOC_BYTES`], because a restore passes them on.
#[derive(Debug)]
pub struct TocReader {
    raw: Vec<u8>,
    at: usize,
    limit: usize,
    widths: Widths,
    field: Field,
    header: Header,
    count: usize,
    entry: TocEntry,
    entries: Vec<TocEntry>,
    by_id: HashMap<i32, usize>,
}

/// The field that is read next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    Fixed,
    Compression,
    Created(usize),
    Dbname,
    ServerVersion,
    PgDumpVersion,
    Count,
    DumpId,
    HadDumper,
    TableOid,
    Oid,
    Tag,
    Desc,
    Section,
    Defn,
    DropStmt,
    CopyStmt,
    Namespace,
    Tablespace,
    TableAm,
    RelKind,
    Owner,
    WithOids,
    Dependency,
    Offset,
    Done,
}

impl Field {
    fn is_header(self) -> bool {
        use Field::*;
        matches!(self, Fixed | Compression | Created(_) | Dbname | ServerVersion | PgDumpVersion | Count)
    }
}

impl Default for TocReader {
    fn default() -> Self {
        Self::new()
    }
}

impl TocReader {
    /// Creates a reader at the start of an archive.
    pub fn new() -> Self {
        Self::with_limit(MAX_TOC_BYTES)
    }

    /// Creates a reader that rejects headers and tables of contents of more than `limit` bytes.
    pub fn with_limit(limit: usize) -> Self {
        Self {
            raw: Vec::new(),
            at: 0,
            limit,
            widths: Widths { int: 4, offset: 8 },
            field: Field::Fixed,
            header: Header {
                version: (0, 0, 0),
                int_size: 0,
                off_size: 0,
                compression: BlockCompression::None,
                created: [0; 7],
                dbname: Vec::new(),
                server_version: Vec::new(),
                pg_dump_version: Vec::new(),
            },
            count: 0,
            entry: TocEntry::blank(),
            entries: Vec::new(),
            by_id: HashMap::new(),
        }
    }

    /// Takes the next bytes of the archive. After [`TocProgress::Complete`] the reader is empty.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] if they are not a custom archive, [`ErrorKind::Unsupported`] if the version or format is
    /// not supported.
    pub fn push(&mut self, chunk: &[u8]) -> Result<TocProgress> {
        let before = self.raw.len();
        self.raw.extend_from_slice(chunk);
        loop {
            if self.field == Field::Done {
                break;
            }
            match self.step() {
                Ok(()) => {}
                Err(Step::More) => return Ok(TocProgress::Incomplete),
                Err(Step::Fault(fault)) => return Err(self.error(fault)),
            }
        }
        let done = std::mem::replace(self, Self::with_limit(self.limit));
        let mut head = done.raw;
        head.truncate(done.at);
        let mut toc =
            Box::new(Toc { header: done.header, entries: done.entries, byte_len: done.at as u64, by_id: done.by_id });
        to_utf8(&mut toc);
        Ok(TocProgress::Complete { toc, head, consumed: done.at - before })
    }

    /// The error for an archive that ends before its table of contents does.
    pub fn cut_short(&self) -> Error {
        let message = if self.raw.is_empty() {
            "it is empty".to_owned()
        } else if self.field.is_header() {
            "it ends within the header".to_owned()
        } else {
            format!("it ends within the table of contents, after {} of {} entries", self.entries.len(), self.count)
        };
        Error::new(ErrorKind::Corrupt, "read", format!("the archive at byte {}", self.raw.len()), message)
    }

    fn error(&self, fault: Fault) -> Error {
        let subject = if self.field.is_header() {
            format!("the archive's header at byte {}", self.at)
        } else {
            format!(
                "the archive's table of contents at byte {} (entry {} of {})",
                self.at,
                self.entries.len() + 1,
                self.count
            )
        };
        match fault {
            Fault::Corrupt(message) => Error::new(ErrorKind::Corrupt, "read", subject, message),
            Fault::Unsupported(message) => Error::new(ErrorKind::Unsupported, "read", subject, message),
        }
    }

    /// Reads one field, and goes on to the next.
    fn step(&mut self) -> Result<(), Step> {
        let widths = self.widths;
        let mut cursor = Cursor::new(&self.raw, self.at, self.limit);
        let string = |cursor: &mut Cursor<'_>| Ok::<_, Step>(cursor.string(widths)?.map(<[u8]>::to_vec));
        let entry = &mut self.entry;
        let minor = self.header.version.1;
        let next = match self.field {
            Field::Fixed => {
                // Enough to recognize a wrong file, even if it is shorter than a header.
                let magic = &self.raw[..self.raw.len().min(5)];
                if !b"PGDMP".starts_with(magic) {
                    return Err(Fault::corrupt("it does not start with PGDMP: not an archive of pg_dump -Fc").into());
                }
                let fixed = cursor.take(11)?;
                let (version, format) = ((fixed[5], fixed[6], fixed[7]), fixed[10]);
                if version.0 != 1 || !(12..=16).contains(&version.1) {
                    return Err(Fault::Unsupported(format!(
                        "archive version {}.{}.{} is unknown: 1.12 to 1.16 are read (PostgreSQL 9.0 to 18)",
                        version.0, version.1, version.2
                    ))
                    .into());
                }
                for (what, size) in [("ints", fixed[8]), ("offsets", fixed[9])] {
                    if !(1..=8).contains(&size) {
                        return Err(Fault::corrupt(format!("{what} of {size} bytes")).into());
                    }
                }
                let other = match format {
                    FORMAT_CUSTOM => None,
                    3 => Some("a tar archive (pg_dump -Ft)"),
                    5 => Some("the table of contents of a directory archive (pg_dump -Fd)"),
                    _ => return Err(Fault::corrupt(format!("unknown archive format {format}")).into()),
                };
                if let Some(other) = other {
                    return Err(Fault::Unsupported(format!("it is {other}; custom archives are read")).into());
                }
                self.widths = Widths { int: fixed[8].into(), offset: fixed[9].into() };
                self.header.version = version;
                (self.header.int_size, self.header.off_size) = (fixed[8], fixed[9]);
                Field::Compression
            }
            Field::Compression => {
                // Up to 1.14 it is zlib's level, from 1.15 (PostgreSQL 16) the algorithm.
                self.header.compression = if minor < 15 {
                    match cursor.int(widths)? {
                        0 => BlockCompression::None,
                        -1 | 1..=9 => BlockCompression::Gzip,
                        level => return Err(Fault::corrupt(format!("compression level {level}")).into()),
                    }
                } else {
                    match cursor.byte()? {
                        0 => BlockCompression::None,
                        1 => BlockCompression::Gzip,
                        2 => BlockCompression::Lz4,
                        3 => BlockCompression::Zstd,
                        n => return Err(Fault::Unsupported(format!("unknown compression algorithm {n}")).into()),
                    }
                };
                Field::Created(0)
            }
            Field::Created(i) => {
                self.header.created[i] = cursor.int(widths)?;
                if i == 6 { Field::Dbname } else { Field::Created(i + 1) }
            }
            Field::Dbname => {
                self.header.dbname = string(&mut cursor)?.unwrap_or_default();
                Field::ServerVersion
            }
            Field::ServerVersion => {
                self.header.server_version = string(&mut cursor)?.unwrap_or_default();
                Field::PgDumpVersion
            }
            Field::PgDumpVersion => {
                self.header.pg_dump_version = string(&mut cursor)?.unwrap_or_default();
                Field::Count
            }
            Field::Count => {
                let count = cursor.int(widths)?;
                // Every entry takes far more than one byte.
                self.count = usize::try_from(count)
                    .ok()
                    .filter(|n| *n < self.limit)
                    .ok_or_else(|| Fault::corrupt(format!("a table of contents of {count} entries")))?;
                if self.count == 0 { Field::Done } else { Field::DumpId }
            }
            Field::DumpId => {
                let id = cursor.int(widths)?;
                if id <= 0 {
                    return Err(Fault::corrupt(format!("an entry with the number {id}")).into());
                }
                if let Some(first) = self.by_id.get(&id) {
                    return Err(
                        Fault::corrupt(format!("the number {id} is taken already, by entry {}", first + 1)).into()
                    );
                }
                entry.dump_id = id;
                Field::HadDumper
            }
            Field::HadDumper => {
                entry.had_dumper = match cursor.int(widths)? {
                    0 => false,
                    1 => true,
                    n => return Err(Fault::corrupt(format!("hadDumper is {n}, not 0 or 1")).into()),
                };
                Field::TableOid
            }
            Field::TableOid => {
                entry.table_oid = string(&mut cursor)?;
                Field::Oid
            }
            Field::Oid => {
                entry.oid = string(&mut cursor)?;
                Field::Tag
            }
            Field::Tag => {
                entry.tag = string(&mut cursor)?;
                Field::Desc
            }
            Field::Desc => {
                entry.desc = string(&mut cursor)?;
                Field::Section
            }
            Field::Section => {
                entry.section = match cursor.int(widths)? {
                    n @ 1..=4 => n,
                    n => return Err(Fault::corrupt(format!("section {n}")).into()),
                };
                Field::Defn
            }
            Field::Defn => {
                entry.defn = string(&mut cursor)?;
                entry.defn_at = self.at as u64..cursor.position() as u64;
                Field::DropStmt
            }
            Field::DropStmt => {
                entry.drop_stmt = string(&mut cursor)?;
                Field::CopyStmt
            }
            Field::CopyStmt => {
                entry.copy_stmt = string(&mut cursor)?;
                Field::Namespace
            }
            Field::Namespace => {
                entry.namespace = string(&mut cursor)?;
                Field::Tablespace
            }
            Field::Tablespace => {
                entry.tablespace = string(&mut cursor)?;
                if minor >= 14 { Field::TableAm } else { Field::Owner }
            }
            Field::TableAm => {
                entry.table_am = string(&mut cursor)?;
                if minor >= 16 { Field::RelKind } else { Field::Owner }
            }
            Field::RelKind => {
                entry.rel_kind = Some(cursor.int(widths)?);
                Field::Owner
            }
            Field::Owner => {
                entry.owner = string(&mut cursor)?;
                entry.owner_at = self.at as u64..cursor.position() as u64;
                Field::WithOids
            }
            Field::WithOids => {
                entry.with_oids = string(&mut cursor)?;
                Field::Dependency
            }
            Field::Dependency => match cursor.string(widths)? {
                None => Field::Offset,
                Some(text) => {
                    let id = std::str::from_utf8(text).ok().and_then(|t| t.parse::<i32>().ok());
                    entry.dependencies.push(id.ok_or_else(|| {
                        Fault::corrupt(format!("\"{}\" as a dependency", String::from_utf8_lossy(text)))
                    })?);
                    Field::Dependency
                }
            },
            Field::Offset => {
                let field = cursor.take(1 + widths.offset)?;
                let value = field[1..].iter().rev().fold(0u64, |sum, b| sum << 8 | u64::from(*b));
                entry.offset = match field[0] {
                    1 => DataOffset::NotSet,
                    2 => DataOffset::At(value),
                    3 => DataOffset::NoData,
                    flag => return Err(Fault::corrupt(format!("an offset with the flag {flag}")).into()),
                };
                // pg_restore silently skips an entry with this flag, whatever data follows.
                if entry.had_dumper && entry.offset == DataOffset::NoData {
                    return Err(Fault::corrupt("an entry that has data and says that it has none").into());
                }
                entry.offset_position = self.at as u64;
                let done = std::mem::replace(entry, TocEntry::blank());
                self.by_id.insert(done.dump_id, self.entries.len());
                self.entries.push(done);
                if self.entries.len() == self.count { Field::Done } else { Field::DumpId }
            }
            Field::Done => Field::Done,
        };
        self.at = cursor.position();
        self.field = next;
        Ok(())
    }
}
