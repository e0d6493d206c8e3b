//! The prelude's entry for a collection, and where its data is.

use std::borrow::Cow;
use std::fmt;

use lifeboat_core::{Error, ErrorKind, Result};

use super::element::{Builder, Elements};
use super::header::Header;
use super::metadata::Metadata;

/// The first server version whose time series have no visible collection of buckets.
const VIEWLESS_TIMESERIES: (u32, u32, u32) = (8, 3, 0);

/// The position of a namespace in an archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// Users, roles and their version: one after the other, before everything else. mongorestore holds them in memory.
    First,
    /// Any collection.
    Middle,
    /// The oplog: when mongorestore reaches it, it assumes that all collections are restored.
    Last,
}

/// An entry of the prelude.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CollectionMetadata {
    /// The database; empty for the oplog.
    pub db: String,
    /// The collection as users know it.
    pub collection: String,
    /// Options and indexes as JSON text, which [`metadata`](Self::metadata) reads. Empty for the oplog.
    pub metadata: String,
    /// Always 0 in archives of mongodump.
    pub size: i64,
    /// The type from `listCollections`: `collection`, `view` or `timeseries`. Empty in archives by old tools.
    pub kind: String,
}

impl CollectionMetadata {
    /// Creates the entry of a collection.
    ///
    /// # Errors
    /// Those of [`Metadata::to_json`]; [`ErrorKind::Unsupported`] if it does not fit into a document.
    pub fn new(db: impl Into<String>, metadata: &Metadata) -> Result<Self> {
        let entry = Self {
            db: db.into(),
            collection: metadata.collection_name.clone(),
            metadata: metadata.to_json()?,
            size: 0,
            kind: metadata.kind.clone(),
        };
        if entry.metadata.len() + entry.db.len() + entry.collection.len() > super::MAX_DOCUMENT - 1024 {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "write",
                format!("the metadata of {entry}"),
                "options and indexes exceed the 16 MiB of a document",
            ));
        }
        Ok(entry)
    }

    /// Creates the entry of the oplog, whose namespace is `.oplog`.
    pub fn oplog() -> Self {
        Self { collection: "oplog".to_owned(), ..Self::default() }
    }

    /// Parses the metadata; `None` if there is none.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] if it cannot be parsed.
    pub fn metadata(&self) -> Result<Option<Metadata>> {
        if self.metadata.is_empty() {
            return Ok(None);
        }
        let parsed = Metadata::parse(&self.metadata);
        parsed.map(Some).map_err(|what| Error::new(ErrorKind::Corrupt, "read", format!("the metadata of {self}"), what))
    }

    /// Whether it is the oplog of a dump with `--oplog`.
    pub fn is_oplog(&self) -> bool {
        self.db.is_empty() && self.collection == "oplog"
    }

    /// Whether it is a time series.
    pub fn is_timeseries(&self) -> bool {
        self.kind == "timeseries"
    }

    /// Whether it is a view. Old tools do not write the type; then the options tell.
    pub fn is_view(&self) -> bool {
        self.kind == "view"
            || (self.kind.is_empty()
                && self.metadata.contains("\"viewOn\"")
                && self.metadata().is_ok_and(|m| m.is_some_and(|m| m.option("viewOn").is_some())))
    }

    /// The position of its data in the archive.
    pub fn place(&self) -> Place {
        let special = ["system.users", "system.roles", "system.version"];
        if self.is_oplog() {
            Place::Last
        } else if (self.db == "admin" && special.contains(&&*self.collection))
            || self.collection.strip_prefix("$admin.").is_some_and(|name| special.contains(&name))
        {
            Place::First
        } else {
            Place::Middle
        }
    }

    /// The collection name of its documents in the archive: for a time series, the collection of its buckets, unless
    /// the server has none (8.3 and later).
    pub fn data_collection(&self, header: &Header) -> Cow<'_, str> {
        if self.is_timeseries() && header.server().is_none_or(|version| version < VIEWLESS_TIMESERIES) {
            Cow::Owned(format!("system.buckets.{}", self.collection))
        } else {
            Cow::Borrowed(&self.collection)
        }
    }

    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let entry = Builder::new()
            .string("db", &self.db)
            .string("collection", &self.collection)
            .string("metadata", &self.metadata);
        let entry = match i32::try_from(self.size) {
            Ok(size) => entry.int32("size", size),
            Err(_) => entry.int64("size", self.size),
        };
        entry.string("type", &self.kind).build()
    }

    pub(crate) fn parse(document: &[u8]) -> Result<Self, String> {
        let mut entry = Self::default();
        let mut named = (false, false);
        for element in Elements::of(document).map_err(|e| e.to_string())? {
            let element = element.map_err(|e| e.to_string())?;
            let text = match element.name {
                b"size" => {
                    entry.size = element.whole_number().ok_or("size is not a number")?;
                    continue;
                }
                b"db" => {
                    named.0 = true;
                    &mut entry.db
                }
                b"collection" => {
                    named.1 = true;
                    &mut entry.collection
                }
                b"metadata" => &mut entry.metadata,
                b"type" => &mut entry.kind,
                _ => continue,
            };
            element
                .text()
                .ok_or_else(|| format!("{} is not a string", String::from_utf8_lossy(element.name)))?
                .clone_into(text);
        }
        if named != (true, true) {
            return Err("a collection's entry lacks its db or its collection".to_owned());
        }
        Ok(entry)
    }
}

impl fmt::Display for CollectionMetadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.db, self.collection)
    }
}
