//! The rows of one table out of a custom archive that streams past.

use std::fmt;
use std::sync::Arc;

use lifeboat_core::extract::{self, Out};
use lifeboat_core::{Error, ErrorKind, Extract, Proof, Result};

use super::parser::{BlockEnd, BlockStart, EventHandler, Parser};
use super::tap::{Content, Walk};
use super::toc::Toc;

/// What ends a table's data: `\.` and two empty lines. It is no row.
const END: &[u8] = b"\\.\n\n\n";

/// Gives out the rows of a table as COPY text, each with its newline, while the archive is checked as by an
/// [`ArchiveTap`](super::ArchiveTap).
pub struct TableRows {
    parser: Parser,
    walk: Walk,
    table: Table,
}

struct Table {
    /// As it was asked for.
    wanted: String,
    /// The index of the table's item, once the table of contents has passed.
    item: Option<usize>,
    form: String,
    /// Whether the block that passes is one of the table's.
    passes: bool,
    /// The last bytes of the block so far, which may be its end.
    held: Vec<u8>,
    given: u64,
}

impl fmt::Debug for TableRows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TableRows").field("table", &self.table.wanted).finish_non_exhaustive()
    }
}

impl TableRows {
    /// The rows of this table. `relation` is what its proof says of it in `copy`: the table with its columns.
    pub fn new(table: impl Into<String>, relation: Option<&str>) -> Self {
        let wanted = table.into();
        let form = super::form_of_rows(relation.unwrap_or(&wanted));
        let held = Vec::with_capacity(2 * END.len());
        let table = Table { wanted, item: None, form, passes: false, held, given: 0 };
        Self { parser: Parser::new(), walk: Walk::new(), table }
    }
}

impl Extract for TableRows {
    fn form(&self) -> String {
        self.table.form.clone()
    }

    fn take(&mut self, chunk: &[u8], out: &mut Out<'_>) -> Result<()> {
        let Self { parser, walk, table } = self;
        parser.push(chunk, &mut Giving { walk, table, out })
    }

    fn end(self: Box<Self>, _: &mut Out<'_>) -> Result<Proof> {
        let toc = self.parser.finish()?;
        let proof = self.walk.into_proof(&toc);
        // What was counted is what was given out.
        let counted = self.table.item.and_then(|item| proof.items.get(item)).map_or(0, |item| item.bytes);
        if counted != self.table.given {
            let why = format!("its rows have {counted} bytes, but {} were given out", self.table.given);
            return Err(Error::new(ErrorKind::Internal, "read", format!("table {}", self.table.wanted), why));
        }
        Ok(proof)
    }
}

/// Walks through the archive, and gives out what is of the table.
struct Giving<'a, 'o> {
    walk: &'a mut Walk,
    table: &'a mut Table,
    out: &'a mut Out<'o>,
}

impl EventHandler for Giving<'_, '_> {
    fn toc(&mut self, toc: &Arc<Toc>) -> Result<()> {
        self.walk.toc(toc)?;
        let tables = &self.walk.tables;
        let found = extract::find(tables, &self.table.wanted, "the archive")?;
        self.table.item = tables.iter().position(|table| table.name == found.name);
        if let Some(relation) = self.walk.copy.get(&found.name) {
            self.table.form = super::form_of_rows(relation);
        }
        let why = if self.walk.inserts.contains(&found.name) {
            "the dump has its rows as INSERT statements"
        } else if self.walk.has_other_orders(&found.name) {
            "its partitions were dumped with their columns in other orders"
        } else {
            return Ok(());
        };
        let why = format!("table {} cannot be read alone: {why}", found.name);
        Err(Error::new(ErrorKind::Unsupported, "read", "the archive", why)
            .hint(format!("restore it into a database: --table {}", found.name)))
    }

    fn block_start(&mut self, block: &BlockStart) -> Result<()> {
        self.walk.block_start(block)?;
        let is_its = self.walk.item_of.get(&block.dump_id).copied() == self.table.item && self.table.item.is_some();
        self.table.passes = is_its && self.walk.content == Content::Rows;
        self.table.held.clear();
        Ok(())
    }

    fn data(&mut self, bytes: &[u8], at: u64) -> Result<()> {
        if !self.table.passes {
            return self.walk.data(bytes, at);
        }
        let (table, out) = (&mut *self.table, &mut *self.out);
        self.walk.data_with(bytes, at, |plain| table.give(plain, out))
    }

    fn large_object_start(&mut self, oid: u32, at: u64) -> Result<()> {
        self.walk.large_object_start(oid, at)
    }

    fn large_object_end(&mut self, oid: u32, at: u64) -> Result<()> {
        self.walk.large_object_end(oid, at)
    }

    fn block_end(&mut self, block: &BlockEnd) -> Result<()> {
        // Says that the block ended as it must: what is held back is that end.
        self.walk.block_end(block)
    }
}

impl Table {
    /// Gives out all but the last bytes, which may be the end of the data.
    fn give(&mut self, plain: &[u8], out: &mut Out<'_>) -> Result<()> {
        let ready = (self.held.len() + plain.len()).saturating_sub(END.len());
        let (of_held, of_plain) = (ready.min(self.held.len()), ready.saturating_sub(self.held.len()));
        if of_held > 0 {
            out(&self.held[..of_held])?;
            self.held.drain(..of_held);
        }
        if of_plain > 0 {
            out(&plain[..of_plain])?;
        }
        self.held.extend_from_slice(&plain[of_plain..]);
        self.given += ready as u64;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn all_but_the_end_is_given_out_however_it_is_cut(
            rows in proptest::collection::vec("[a-z\\t]{0,9}", 0..9),
            cuts in proptest::collection::vec(1usize..20, 1..9),
        ) {
            let text: String = rows.iter().map(|row| format!("{row}\n")).collect();
            let data = format!("{text}\\.\n\n\n");
            let mut table = TableRows::new("t", None).table;
            let (mut given, mut rest, mut cuts) = (Vec::new(), data.as_bytes(), cuts.iter().cycle());
            while !rest.is_empty() {
                let (piece, after) = rest.split_at(rest.len().min(*cuts.next().unwrap()));
                table.give(piece, &mut |bytes| { given.extend_from_slice(bytes); Ok(()) }).unwrap();
                rest = after;
            }
            prop_assert_eq!(given, text.as_bytes());
            prop_assert_eq!(table.given, text.len() as u64);
            prop_assert_eq!(&table.held[..], END);
        }
    }
}
