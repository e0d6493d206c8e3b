//! Builds archives for tests: any version, any compression, right or wrong.

use std::io::Write as _;

use super::toc::BlockCompression;

/// An archive that is being built.
#[derive(Clone, Debug)]
pub(super) struct ArchiveWriter {
    pub minor: u8,
    pub int_size: u8,
    pub compression: BlockCompression,
    pub chunk: usize,
    pub entries: Vec<Entry>,
    pub blocks: Vec<Block>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Entry {
    pub id: i32,
    pub had_dumper: i32,
    pub desc: String,
    pub tag: String,
    pub namespace: Option<String>,
    pub defn: Option<String>,
    pub copy: Option<String>,
    pub deps: Vec<i32>,
    pub section: i32,
    pub offset: (u8, u64),
}

#[derive(Clone, Debug)]
pub(super) enum Block {
    Data(i32, Vec<u8>),
    LargeObjects(i32, Vec<(u32, Vec<u8>)>),
}

impl Entry {
    pub(super) fn new(id: i32, desc: &str, tag: &str) -> Self {
        Self { id, desc: desc.into(), tag: tag.into(), section: 2, offset: (3, 0), ..Self::default() }
    }

    pub(super) fn data(id: i32, table: &str) -> Self {
        let copy = Some(format!("COPY public.{table} (id) FROM stdin;\n"));
        let namespace = Some("public".into());
        let new = Self::new(id, "TABLE DATA", table);
        Self { had_dumper: 1, copy, namespace, section: 3, offset: (1, 0), ..new }
    }

    pub(super) fn deps(self, deps: &[i32]) -> Self {
        Self { deps: deps.to_vec(), ..self }
    }

    pub(super) fn defn(self, defn: &str) -> Self {
        Self { defn: Some(defn.into()), ..self }
    }

    pub(super) fn namespace(self, schema: &str) -> Self {
        Self { namespace: Some(schema.into()), ..self }
    }
}

impl ArchiveWriter {
    pub(super) fn new(minor: u8, compression: BlockCompression) -> Self {
        Self { minor, int_size: 4, compression, chunk: 11, entries: Vec::new(), blocks: Vec::new() }
    }

    /// A small archive with everything in it.
    pub(super) fn sample(minor: u8, compression: BlockCompression) -> Self {
        let mut w = Self::new(minor, compression);
        let objects = Entry { had_dumper: 1, section: 3, offset: (1, 0), ..Entry::new(8, "BLOBS", "BLOBS") };
        w.entries = vec![
            Entry::new(1, "ENCODING", "ENCODING").defn("SET client_encoding = 'UTF8';\n"),
            Entry::new(2, "TABLE", "a").namespace("public").deps(&[99]),
            Entry::new(3, "TABLE", "b").namespace("public"),
            Entry::data(4, "a").deps(&[2]),
            Entry::data(5, "b").deps(&[3]),
            Entry::new(6, "SEQUENCE SET", "a_id_seq")
                .namespace("public")
                .defn("SELECT pg_catalog.setval('public.a_id_seq', 4, true);\n"),
            Entry::new(7, "EXTENSION", "pg_trgm"),
            objects,
        ];
        w.blocks = vec![
            Block::Data(4, b"1\tx\\\\y\n2\t\\N\n\n\\.\n\n\n".to_vec()),
            Block::Data(5, b"\\.\n\n\n".to_vec()),
            Block::LargeObjects(8, vec![(16468, b"abc".to_vec()), (16469, Vec::new()), (3_000_000_000, vec![7; 40])]),
        ];
        w
    }

    pub(super) fn int(&self, out: &mut Vec<u8>, value: i32) {
        out.push(u8::from(value < 0));
        out.extend_from_slice(&u64::from(value.unsigned_abs()).to_le_bytes()[..usize::from(self.int_size)]);
    }

    fn string(&self, out: &mut Vec<u8>, text: Option<&str>) {
        match text {
            None => self.int(out, -1),
            Some(text) => {
                self.int(out, text.len() as i32);
                out.extend_from_slice(text.as_bytes());
            }
        }
    }

    pub(super) fn compress(&self, raw: &[u8]) -> Vec<u8> {
        match self.compression {
            BlockCompression::None => raw.to_vec(),
            // pg_dump of 16 and later sends nothing at all for an empty large object.
            BlockCompression::Gzip if raw.is_empty() => Vec::new(),
            BlockCompression::Gzip => {
                let mut e = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
                e.write_all(raw).unwrap();
                e.finish().unwrap()
            }
            BlockCompression::Lz4 => {
                let info = lz4_flex::frame::FrameInfo::new()
                    .block_mode(lz4_flex::frame::BlockMode::Linked)
                    .block_size(lz4_flex::frame::BlockSize::Max64KB);
                let mut e = lz4_flex::frame::FrameEncoder::with_frame_info(info, Vec::new());
                e.write_all(raw).unwrap();
                e.finish().unwrap()
            }
            BlockCompression::Zstd => zstd::stream::encode_all(raw, 3).unwrap(),
        }
    }

    fn chunks(&self, out: &mut Vec<u8>, stream: &[u8]) {
        for chunk in stream.chunks(self.chunk) {
            self.int(out, chunk.len() as i32);
            out.extend_from_slice(chunk);
        }
        self.int(out, 0);
    }

    pub(super) fn head(&self) -> Vec<u8> {
        let mut out = b"PGDMP".to_vec();
        out.extend_from_slice(&[1, self.minor, 0, self.int_size, 8, 1]);
        if self.minor >= 15 {
            out.push(match self.compression {
                BlockCompression::None => 0,
                BlockCompression::Gzip => 1,
                BlockCompression::Lz4 => 2,
                BlockCompression::Zstd => 3,
            });
        } else {
            self.int(&mut out, if self.compression == BlockCompression::None { 0 } else { -1 });
        }
        for n in [36, 46, 6, 21, 10, 126, 0] {
            self.int(&mut out, n);
        }
        for text in ["shop", "15.18", "15.18"] {
            self.string(&mut out, Some(text));
        }
        self.int(&mut out, self.entries.len() as i32);
        for e in &self.entries {
            self.int(&mut out, e.id);
            self.int(&mut out, e.had_dumper);
            for text in [Some("0"), Some("0"), Some(&e.tag[..]), Some(&e.desc[..])] {
                self.string(&mut out, text);
            }
            self.int(&mut out, e.section);
            for text in [e.defn.as_deref(), Some(""), e.copy.as_deref(), e.namespace.as_deref(), Some("")] {
                self.string(&mut out, text);
            }
            if self.minor >= 14 {
                self.string(&mut out, None);
            }
            if self.minor >= 16 {
                self.int(&mut out, 114);
            }
            self.string(&mut out, Some("postgres"));
            self.string(&mut out, Some("false"));
            for dep in &e.deps {
                self.string(&mut out, Some(&dep.to_string()));
            }
            self.string(&mut out, None);
            out.push(e.offset.0);
            out.extend_from_slice(&e.offset.1.to_le_bytes());
        }
        out
    }

    pub(super) fn block(&self, block: &Block) -> Vec<u8> {
        let mut out = Vec::new();
        match block {
            Block::Data(id, raw) => {
                out.push(1);
                self.int(&mut out, *id);
                self.chunks(&mut out, &self.compress(raw));
            }
            Block::LargeObjects(id, objects) => {
                out.push(3);
                self.int(&mut out, *id);
                for (oid, raw) in objects {
                    self.int(&mut out, *oid as i32);
                    self.chunks(&mut out, &self.compress(raw));
                }
                self.int(&mut out, 0);
            }
        }
        out
    }

    pub(super) fn build(&self) -> Vec<u8> {
        let mut out = self.head();
        for block in &self.blocks {
            out.extend_from_slice(&self.block(block));
        }
        out
    }
}
