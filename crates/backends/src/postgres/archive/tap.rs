//! The tap over a custom archive: checks every byte of its structure, and takes the proof.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::sync::Arc;

use lifeboat_core::{Error, ErrorKind, Fingerprint, Proof, ProofItem, Result, Tap};
use serde_json::{Value, json};
use xxhash_rust::xxh3::Xxh3Default;

use super::codec::Codec;
use super::copy_text::Rows;
use super::ident::quote_qualified;
use super::parser::{BlockEnd, BlockKind, BlockStart, EventHandler, Parser, describe};
use super::roles::roles;
use super::statement::{column_order, copy_target, sequence_state};
use super::toc::Toc;

/// Takes the proof of a custom archive while it streams past.
///
/// The proof has
///
/// * an item of kind `table` for each table with data: its name as in the copy statement, rows, bytes of their COPY
///   text with newlines, and the sum of XXH3-128 of each row's text without its newline. Several entries that load one
///   table (partitions loaded through their root) are one item, and its rows are hashed with their columns in the order
///   of the first. An entry of a dump made with `--inserts` has bytes but no fingerprint;
/// * an item of kind `sequence` for each sequence, with `last_value,is_called`;
/// * one item of kind `large objects`, named `all`, if the archive has any entry of them: number, bytes, and
///   the sum of XXH3-128 of each one's OID (4 bytes, little-endian) and content.
///
/// Its details are
///
/// | key | value |
/// |---|---|
/// | `archive_version`, `pg_dump_version`, `server_version`, `dbname`, `encoding` | from header and `ENCODING` |
/// | `toc_bytes` | length of header and table of contents |
/// | `compression` | of the data blocks: `none`, `gzip`, `lz4`, `zstd` |
/// | `extensions`, `roles`, `materialized_views` | names; roles are owners and those in grants, policies and user mappings |
/// | `copy` | table → `table (columns)`, to read it back with `COPY … TO STDOUT` |
/// | `inserts` | tables that are dumped as `INSERT`s, whose rows cannot be counted |
/// | `blocks` | `{id, type, table, offset, bytes, raw_bytes}` of each data block in the archive |
pub struct ArchiveTap {
    parser: Parser,
    walk: Walk,
}

impl fmt::Debug for ArchiveTap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ArchiveTap")
            .field("position", &self.parser.position())
            .field("tables_done", &self.walk.tables_done)
            .finish_non_exhaustive()
    }
}

impl Default for ArchiveTap {
    fn default() -> Self {
        Self::new()
    }
}

impl ArchiveTap {
    /// Creates a tap at the start of an archive.
    pub fn new() -> Self {
        Self { parser: Parser::new(), walk: Walk::new() }
    }

    /// The table of contents, once it has passed.
    pub fn toc(&self) -> Option<&Arc<Toc>> {
        self.parser.toc()
    }
}

impl Tap for ArchiveTap {
    fn push(&mut self, chunk: &[u8]) -> Result<()> {
        self.parser.push(chunk, &mut self.walk)
    }

    fn finish(self: Box<Self>) -> Result<Proof> {
        let toc = self.parser.finish()?;
        Ok(self.walk.into_proof(&toc))
    }

    fn units_done(&self) -> u64 {
        self.walk.tables_done
    }

    fn units(&self) -> &'static str {
        "tables"
    }
}

/// The content of the current stream.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Content {
    Idle,
    /// Rows of COPY text.
    Rows,
    /// SQL statements, which are only measured.
    Inserts,
    LargeObject,
}

/// Why the content of a block could not be taken.
enum Fault {
    /// It is wrong.
    Data(String),
    /// Whoever it was given to did not take it.
    Elsewhere(Error),
}

impl From<String> for Fault {
    fn from(message: String) -> Self {
        Self::Data(message)
    }
}

struct Block {
    id: i32,
    /// Index of the table's item; `None` for large objects.
    item: Option<usize>,
    offset: u64,
    bytes: u64,
    raw_bytes: u64,
}

/// Takes the proof from what the parser says.
pub(super) struct Walk {
    toc: Option<Arc<Toc>>,
    codec: Option<Codec>,
    /// The items of tables.
    pub(super) tables: Vec<ProofItem>,
    /// The items of sequences.
    sequences: Vec<ProofItem>,
    /// Table → table and columns of its first entry.
    pub(super) copy: BTreeMap<String, String>,
    /// Tables that are dumped as statements.
    pub(super) inserts: BTreeSet<String>,
    /// Entry number → index of the table's item.
    pub(super) item_of: HashMap<i32, usize>,
    /// Entry number → the permutation of its columns into the order of the table's first entry.
    order_of: HashMap<i32, Vec<usize>>,
    /// Tables with an entry whose columns differ from those of the first.
    other_columns: BTreeSet<String>,
    blocks: Vec<Block>,
    tables_done: u64,
    pub(super) content: Content,
    /// The index of the entry whose block is being read.
    entry: usize,
    rows: Rows,
    /// Bytes of the block's content so far.
    raw: u64,
    object: Box<Xxh3Default>,
    objects: ProofItem,
}

impl Walk {
    pub(super) fn new() -> Self {
        Self {
            toc: None,
            codec: None,
            tables: Vec::new(),
            sequences: Vec::new(),
            copy: BTreeMap::new(),
            inserts: BTreeSet::new(),
            item_of: HashMap::new(),
            order_of: HashMap::new(),
            other_columns: BTreeSet::new(),
            blocks: Vec::new(),
            tables_done: 0,
            content: Content::Idle,
            entry: 0,
            rows: Rows::new(),
            raw: 0,
            object: Box::default(),
            objects: ProofItem::new("large objects", "all", 0).fingerprint(Fingerprint::default()),
        }
    }

    /// An error about the data of the current entry.
    fn corrupt(&self, at: u64, message: String) -> Error {
        let what = self.toc.as_ref().map_or_else(|| "data".to_owned(), |toc| describe(&toc.entries[self.entry]));
        Error::new(ErrorKind::Corrupt, "read", format!("{what} in the archive at byte {at}"), message)
    }

    fn codec(&mut self) -> &mut Codec {
        self.codec.as_mut().expect("the codec is made with the table of contents, before any block")
    }

    /// Whether an entry of this table has its columns in another order than the first, or others.
    pub(super) fn has_other_orders(&self, table: &str) -> bool {
        let in_order = |id: &i32| self.item_of.get(id).is_none_or(|item| self.tables[*item].name != table);
        self.other_columns.contains(table) || !self.order_of.keys().all(in_order)
    }

    /// Takes bytes of a block, and gives each piece of the content to `each` as well.
    #[inline]
    pub(super) fn data_with(&mut self, bytes: &[u8], at: u64, mut each: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let codec = self.codec.as_mut().expect("the codec is made with the table of contents, before any block");
        let (rows, object, raw, content) = (&mut self.rows, &mut self.object, &mut self.raw, self.content);
        let mut sink = |plain: &[u8]| -> std::result::Result<(), Fault> {
            *raw += plain.len() as u64;
            match content {
                Content::Rows => rows.push(plain)?,
                Content::LargeObject => object.update(plain),
                Content::Inserts | Content::Idle => {}
            }
            each(plain).map_err(Fault::Elsewhere)
        };
        codec.push(bytes, &mut sink).map_err(|fault| match fault {
            Fault::Data(message) => self.corrupt(at, message),
            Fault::Elsewhere(error) => error,
        })
    }

    pub(super) fn into_proof(self, toc: &Toc) -> Proof {
        let text = |bytes: &[u8]| Value::from(String::from_utf8_lossy(bytes));
        let names = |kind: &str| -> Value {
            toc.of_kind(kind)
                .map(|e| quote_qualified(e.namespace.as_deref(), e.tag.as_deref().unwrap_or_default()))
                .collect()
        };
        let blocks: Vec<Value> = self
            .blocks
            .iter()
            .map(|b| {
                json!({
                    "id": b.id,
                    "type": if b.item.is_some() { "data" } else { "large objects" },
                    "table": b.item.map(|i| self.tables[i].name.as_str()),
                    "offset": b.offset,
                    "bytes": b.bytes,
                    "raw_bytes": b.raw_bytes,
                })
            })
            .collect();
        let (major, minor, revision) = toc.header.version;
        let mut details = BTreeMap::from([
            ("archive_version".to_owned(), Value::from(format!("{major}.{minor}.{revision}"))),
            ("pg_dump_version".to_owned(), text(&toc.header.pg_dump_version)),
            ("server_version".to_owned(), text(&toc.header.server_version)),
            ("dbname".to_owned(), text(&toc.header.dbname)),
            ("toc_bytes".to_owned(), Value::from(toc.byte_len)),
            ("compression".to_owned(), Value::from(toc.header.compression.as_str())),
            ("extensions".to_owned(), toc.of_kind("EXTENSION").map(|e| e.label().into_owned()).collect::<Value>()),
            ("roles".to_owned(), roles(toc).into_iter().collect()),
            ("materialized_views".to_owned(), names("MATERIALIZED VIEW")),
            ("copy".to_owned(), json!(self.copy)),
            ("blocks".to_owned(), Value::from(blocks)),
        ]);
        if let Some(encoding) = toc.encoding() {
            details.insert("encoding".to_owned(), Value::from(encoding));
        }
        if !self.inserts.is_empty() {
            details.insert("inserts".to_owned(), json!(self.inserts));
        }
        let mut items = self.tables;
        items.extend(self.sequences);
        if toc.entries.iter().any(|e| matches!(e.kind(), "BLOBS" | "BLOB" | "BLOB METADATA")) {
            items.push(self.objects);
        }
        Proof::new(items).details(details)
    }
}

impl EventHandler for Walk {
    fn toc(&mut self, toc: &Arc<Toc>) -> Result<()> {
        self.toc = Some(Arc::clone(toc));
        self.codec = Some(
            Codec::new(toc.header.compression)
                .map_err(|e| Error::new(ErrorKind::Internal, "read", "the archive", e))?,
        );
        let mut by_name: HashMap<String, usize> = HashMap::new();
        for (index, entry) in toc.entries.iter().enumerate() {
            self.entry = index;
            if entry.had_dumper && !entry.is("BLOBS") {
                let name = if entry.copy_stmt.is_some() {
                    let Some(target) = copy_target(entry) else {
                        return Err(self.corrupt(entry.offset_position, "its copy statement cannot be read".to_owned()));
                    };
                    // Partitions that are loaded through their root keep their own order of columns.
                    let first = self.copy.entry(target.table.clone()).or_insert_with(|| target.relation.clone());
                    if *first != target.relation {
                        match column_order(first, &target.relation) {
                            Some(order) => drop(self.order_of.insert(entry.dump_id, order)),
                            None => drop(self.other_columns.insert(target.table.clone())),
                        }
                    }
                    target.table
                } else {
                    let name = quote_qualified(entry.namespace.as_deref(), entry.tag.as_deref().unwrap_or_default());
                    self.inserts.insert(name.clone());
                    name
                };
                let item = *by_name.entry(name.clone()).or_insert(self.tables.len());
                if item == self.tables.len() {
                    let fingerprint = entry.copy_stmt.is_some().then(Fingerprint::default);
                    self.tables.push(ProofItem::new("table", name, 0).fingerprint(fingerprint));
                } else if entry.copy_stmt.is_none() {
                    self.tables[item].fingerprint = None;
                }
                self.item_of.insert(entry.dump_id, item);
            }
            if entry.is("SEQUENCE SET") {
                let Some((name, value)) = sequence_state(entry) else {
                    return Err(self.corrupt(entry.offset_position, "its setval cannot be read".to_owned()));
                };
                let kind = "sequence".to_owned();
                self.sequences.push(ProofItem::new(kind, name, 0).value(value));
            }
        }
        for table in &mut self.tables {
            if self.other_columns.contains(&table.name) {
                table.fingerprint = None;
            }
        }
        Ok(())
    }

    fn block_start(&mut self, block: &BlockStart) -> Result<()> {
        self.entry = block.index;
        self.raw = 0;
        self.content = match block.kind {
            BlockKind::LargeObjects => Content::Idle,
            BlockKind::Data => {
                let with_copy = self.toc.as_ref().is_some_and(|toc| toc.entries[block.index].copy_stmt.is_some());
                self.rows.start(self.order_of.remove(&block.dump_id));
                self.codec().start().map_err(|e| self.corrupt(block.offset, e))?;
                if with_copy { Content::Rows } else { Content::Inserts }
            }
        };
        Ok(())
    }

    #[inline]
    fn data(&mut self, bytes: &[u8], at: u64) -> Result<()> {
        self.data_with(bytes, at, |_| Ok(()))
    }

    fn large_object_start(&mut self, oid: u32, at: u64) -> Result<()> {
        self.content = Content::LargeObject;
        self.object.reset();
        self.object.update(&oid.to_le_bytes());
        self.codec().start().map_err(|e| self.corrupt(at, e))
    }

    fn large_object_end(&mut self, oid: u32, at: u64) -> Result<()> {
        self.codec().end().map_err(|e| self.corrupt(at, format!("{e}, of the large object {oid}")))?;
        self.content = Content::Idle;
        self.objects.count += 1;
        if let Some(sum) = &mut self.objects.fingerprint {
            sum.merge(Fingerprint(self.object.digest128()));
        }
        Ok(())
    }

    fn block_end(&mut self, block: &BlockEnd) -> Result<()> {
        let end = block.offset + block.len;
        let item = self.item_of.get(&block.dump_id).copied();
        match self.content {
            Content::Idle | Content::LargeObject => self.objects.bytes += self.raw,
            Content::Rows => {
                self.codec().end().and_then(|()| self.rows.end()).map_err(|e| self.corrupt(end, e))?;
            }
            Content::Inserts => self.codec().end().map_err(|e| self.corrupt(end, e))?,
        }
        if let Some(item) = item {
            let item = &mut self.tables[item];
            if self.content == Content::Rows {
                item.count += self.rows.count;
                item.bytes += self.rows.bytes;
                match &mut item.fingerprint {
                    Some(sum) if !self.rows.lost => sum.merge(self.rows.fingerprint()),
                    sum => *sum = None,
                }
            } else {
                item.bytes += self.raw;
            }
            self.tables_done += 1;
        }
        self.content = Content::Idle;
        let Walk { raw: raw_bytes, .. } = *self;
        self.blocks.push(Block { id: block.dump_id, item, offset: block.offset, bytes: block.len, raw_bytes });
        Ok(())
    }
}
