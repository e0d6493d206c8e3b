//! The two headers: the archive's, and that of each block.

use lifeboat_core::{Error, ErrorKind, Result};

use super::element::{Builder, Elements, Malformed};

/// The version of the format that is written. Tools accept any.
const FORMAT_VERSION: &str = "0.1";

/// The archive's header: the first document of an archive.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// How many namespaces may be open at once. mongorestore hangs on an archive with more.
    pub concurrent_collections: i32,
    /// The version of the format.
    pub version: String,
    /// The version of the server that was dumped.
    pub server_version: String,
    /// The tool that wrote the archive.
    pub tool_version: String,
}

impl Header {
    /// Creates the header of a new archive.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] if the server's version does not have the form `a.b.c`: mongorestore 100.16 and later
    /// rejects such an archive. [`ErrorKind::Internal`] if no collection could be open.
    pub fn new(
        concurrent_collections: usize,
        server_version: impl Into<String>,
        tool_version: impl Into<String>,
    ) -> Result<Self> {
        let header = Self {
            concurrent_collections: i32::try_from(concurrent_collections).unwrap_or(i32::MAX),
            version: FORMAT_VERSION.to_owned(),
            server_version: server_version.into(),
            tool_version: tool_version.into(),
        };
        if concurrent_collections == 0 {
            return Err(Error::new(ErrorKind::Internal, "write", "the archive's header", "no collection may be open"));
        }
        if header.server().is_none() {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "write",
                "the archive's header",
                format!(
                    "the server says that its version is \"{}\", which mongorestore cannot read",
                    header.server_version
                ),
            ));
        }
        Ok(header)
    }

    /// The server's version as numbers; `None` if it does not have the form `a.b.c`, with anything after a `-` or `+`.
    pub fn server(&self) -> Option<(u32, u32, u32)> {
        let plain = self.server_version.split(['-', '+']).next()?;
        let mut parts = plain.split('.').map(|part| part.parse::<u32>().ok());
        let version = (parts.next()??, parts.next()??, parts.next()??);
        parts.next().is_none().then_some(version)
    }

    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        Builder::new()
            .int32("concurrent_collections", self.concurrent_collections)
            .string("version", &self.version)
            .string("server_version", &self.server_version)
            .string("tool_version", &self.tool_version)
            .build()
    }

    /// Parses the header. Missing fields are empty and unknown ones are skipped, as in mongorestore.
    pub(crate) fn parse(document: &[u8]) -> Result<Self, String> {
        let mut header = Self::default();
        for element in Elements::of(document).map_err(|e| e.to_string())? {
            let element = element.map_err(|e| e.to_string())?;
            let text = match element.name {
                b"concurrent_collections" => {
                    let number = element.whole_number().and_then(|number| i32::try_from(number).ok());
                    header.concurrent_collections = number.ok_or("concurrent_collections is not a number")?;
                    continue;
                }
                b"version" => &mut header.version,
                b"server_version" => &mut header.server_version,
                b"tool_version" => &mut header.tool_version,
                _ => continue,
            };
            element
                .text()
                .ok_or_else(|| format!("{} is not a string", String::from_utf8_lossy(element.name)))?
                .clone_into(text);
        }
        Ok(header)
    }
}

/// The header of a block: the namespace of its documents, or that this namespace has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamespaceHeader {
    /// The database; empty for the oplog.
    pub db: String,
    /// The collection with the data: for a time series on servers before 8.3, that of its buckets.
    pub collection: String,
    /// Whether the namespace ends here.
    pub eof: bool,
    /// CRC-64/XZ of the namespace's documents if it ends here; otherwise 0.
    pub crc: u64,
}

impl NamespaceHeader {
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        Builder::new()
            .string("db", &self.db)
            .string("collection", &self.collection)
            .bool("EOF", self.eof)
            .int64("CRC", self.crc.cast_signed())
            .build()
    }

    /// Parses exactly the four fields, with exactly their types: mongorestore 100.14 and later fails on anything else.
    pub(crate) fn parse(document: &[u8]) -> Result<Self, String> {
        let (mut db, mut collection, mut eof, mut crc) = (None, None, None, None);
        let say = |e: Malformed| format!("the header of a block is malformed: {e}");
        for element in Elements::of(document).map_err(say)? {
            let element = element.map_err(say)?;
            let new = match (element.name, element.kind) {
                (b"db", 0x02) => db.replace(element.text().ok_or("a database's name is not UTF-8")?).is_none(),
                (b"collection", 0x02) => {
                    collection.replace(element.text().ok_or("a collection's name is not UTF-8")?).is_none()
                }
                (b"EOF", 0x08) => eof.replace(element.value == [1]).is_none(),
                (b"CRC", 0x12) => crc.replace(super::element::int64(element.value, 0).map_err(say)?).is_none(),
                _ => false,
            };
            if !new {
                return Err(format!(
                    "the header of a block has a field \"{}\" that is unknown, has another type, or is there twice",
                    String::from_utf8_lossy(element.name).escape_debug()
                ));
            }
        }
        match (db, collection, eof, crc) {
            (Some(db), Some(collection), Some(eof), Some(crc)) => {
                Ok(Self { db: db.to_owned(), collection: collection.to_owned(), eof, crc: crc.cast_unsigned() })
            }
            _ => Err("the header of a block lacks one of its fields db, collection, EOF and CRC".to_owned()),
        }
    }
}
