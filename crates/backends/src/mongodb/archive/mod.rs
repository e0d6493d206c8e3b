//! The archive format of `mongodump --archive`, version 0.1, written and read without decoding a document.
//!
//! [`Writer`] makes an archive of blocks that [`Packer`]s cut from the server's replies. [`Parser`] reads one by push,
//! in chunks of any size, and checks its structure and its checksums. [`Reader`] is the parser that hands out documents as
//! slices of the chunks, for a restore; [`ArchiveTap`] is the parser with the proof on top of it. [`Metadata`] is what the
//! archive contains about a collection besides its documents, in canonical Extended JSON.
//!
//! ```text
//! archive  = magic(4) header { collection } TERM { block }
//! block    = namespace { document } TERM
//! TERM     = FF FF FF FF
//! ```
//!
//! All of `header`, `collection`, `namespace` and `document` are BSON documents; integers are little-endian. The format is
//! described in `common/archive/spec.md` of mongo-tools; what its tools actually accept is in `common/archive/*.go`
//! there.

mod checksum;
mod collection;
mod element;
mod extended_json;
mod extended_json_read;
mod header;
mod item;
mod metadata;
mod packer;
mod parser;
mod reader;
mod tap;
#[cfg(test)]
mod tests;
mod writer;

pub use checksum::Crc64;
pub use collection::{CollectionMetadata, Place};
pub use element::{Malformed, Walker};
pub use extended_json::to_extended_json;
pub use extended_json_read::from_extended_json;
pub use header::{Header, NamespaceHeader};
pub use item::CollectionDocuments;
pub(crate) use item::has_documents;
pub use metadata::Metadata;
pub(crate) use packer::BLOCK;
pub use packer::{Batch, Block, Packer};
pub use parser::{Handler, Parser, Prelude, Run};
pub use reader::{Event, Reader};
pub(crate) use tap::metadata_items;
pub use tap::{ArchiveTap, Inside};
pub use writer::Writer;

/// The first four bytes of an archive: `0x8199e26d`, little-endian.
pub const MAGIC: [u8; 4] = [0x6d, 0xe2, 0x99, 0x81];

/// What ends the prelude and each block.
pub const TERMINATOR: [u8; 4] = [0xff; 4];

/// The largest size of a document in an archive, in bytes: `MaxBSONSize` of mongo-tools.
pub const MAX_DOCUMENT: usize = 16 << 20;

/// The smallest size of a BSON document, in bytes: its length and the NUL at its end.
pub const MIN_DOCUMENT: usize = 5;

/// The largest accepted size of the prelude of an archive, in bytes. It is held in memory; a collection with a few
/// indexes takes about a kilobyte.
pub const MAX_PRELUDE: usize = 256 << 20;
