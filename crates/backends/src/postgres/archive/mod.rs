//! A push parser for PostgreSQL's custom archive format (`pg_dump -Fc`), versions 1.12 to 1.16.
//!
//! [`Parser`] turns chunks of any size into events and checks the structure; [`ArchiveTap`] is the parser with
//! the proof on top of it; [`TocReader`] reads only the table of contents; [`fill_offsets`] fills in the offsets that a
//! piped pg_dump could not; [`select`] chooses what to restore from an archive.
//!
//! The format has no specification other than its source: `src/bin/pg_dump/pg_backup_archiver.{h,c}` and
//! `pg_backup_custom.c` of PostgreSQL. It has no checksums (except zlib's in gzip blocks): what this parser accepts is
//! complete and well-formed, but only the hash around it shows whether it is unchanged.

mod codec;
mod copy_text;
mod encoding;
mod ident;
mod item;
mod lz4;
mod parser;
mod patch;
mod read;
mod rewrite;
mod roles;
mod select;
mod statement;
mod tap;
#[cfg(test)]
mod tests;
mod toc;
#[cfg(test)]
mod writer;

pub(crate) use ident::{ident_len, unquote};
pub use ident::{quote_ident, quote_qualified};
pub use item::TableRows;
pub use parser::{BlockEnd, BlockKind, BlockStart, EventHandler, Parser};
pub use patch::{BlockIndex, BlockPosition, block_positions, fill_offsets, fill_offsets_in_place};
pub use rewrite::{Change, rewrite};
pub use roles::{granted_roles, roles};
pub use select::{Selection, Wanted, select};
pub(crate) use statement::acl_roles;
pub use statement::copy_to_stdout;
pub use tap::ArchiveTap;
pub use toc::{BlockCompression, DataOffset, Header, MAX_TOC_BYTES, Toc, TocEntry, TocProgress, TocReader};

/// What the rows of a relation are, for a person.
pub(super) fn form_of_rows(relation: &str) -> String {
    format!("rows for COPY {relation} FROM STDIN")
}
