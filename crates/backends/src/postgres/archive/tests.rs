//! The promises of the archive parser, over archives that are built here.

use std::path::Path;

use lifeboat_core::{ErrorKind, Fingerprint, Proof, Result, Tap};
use proptest::prelude::*;
use xxhash_rust::xxh3::xxh3_128;

use super::writer::{ArchiveWriter, Block, Entry};
use super::*;

const ALL: [(u8, BlockCompression); 9] = [
    (12, BlockCompression::None),
    (13, BlockCompression::Gzip),
    (14, BlockCompression::None),
    (14, BlockCompression::Gzip),
    (15, BlockCompression::Lz4),
    (16, BlockCompression::None),
    (16, BlockCompression::Gzip),
    (16, BlockCompression::Lz4),
    (16, BlockCompression::Zstd),
];

fn prove<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> Result<Proof> {
    let mut tap = Box::new(ArchiveTap::new());
    for chunk in chunks {
        tap.push(chunk)?;
    }
    tap.finish()
}

fn sum(rows: &[&[u8]]) -> Option<Fingerprint> {
    Some(Fingerprint(rows.iter().fold(0, |s, r| s.wrapping_add(xxh3_128(r)))))
}

#[test]
fn every_version_and_compression_gives_the_same_proof() {
    for (minor, compression) in ALL {
        let archive = ArchiveWriter::sample(minor, compression).build();
        let proof = prove([&archive[..]]).unwrap_or_else(|e| panic!("1.{minor} {compression:?}: {e}"));
        let items: Vec<_> = proof.items.iter().map(|i| (i.kind.as_str(), i.name.as_str(), i.count, i.bytes)).collect();
        assert_eq!(
            items,
            [
                ("table", "public.a", 3, 13),
                ("table", "public.b", 0, 0),
                ("sequence", "public.a_id_seq", 0, 0),
                ("large objects", "all", 3, 43),
            ]
        );
        assert_eq!(proof.items[0].fingerprint, sum(&[b"1\tx\\\\y", b"2\t\\N", b""]));
        assert_eq!(proof.items[1].fingerprint, sum(&[]));
        assert_eq!(proof.items[2].value.as_deref(), Some("4,true"));
        let object = |oid: u32, content: &[u8]| [&oid.to_le_bytes()[..], content].concat();
        let objects = [object(16468, b"abc"), object(16469, b""), object(3_000_000_000, &[7; 40])];
        assert_eq!(proof.items[3].fingerprint, sum(&objects.each_ref().map(|o| &o[..])));
        let detail = |key: &str| proof.details[key].to_string();
        assert_eq!(detail("archive_version"), format!("\"1.{minor}.0\""));
        assert_eq!(detail("encoding"), "\"UTF8\"");
        assert_eq!(detail("extensions"), "[\"pg_trgm\"]");
        assert_eq!(detail("roles"), "[\"postgres\"]");
        assert_eq!(detail("copy"), r#"{"public.a":"public.a (id)","public.b":"public.b (id)"}"#);
        for block in block_positions(&proof) {
            let at = block.offset as usize;
            assert!(matches!(archive[at], 1 | 3));
            assert_eq!(i32::from(archive[at + 2]), block.id);
        }
        assert_eq!(
            block_positions(&proof).iter().map(|b| b.bytes).sum::<u64>() + proof.details["toc_bytes"].as_u64().unwrap(),
            archive.len() as u64
        );
    }
}

#[test]
fn ints_of_another_width_give_the_same_proof() {
    let mut w = ArchiveWriter::sample(16, BlockCompression::Zstd);
    let want = prove([&w.build()[..]]).unwrap();
    w.int_size = 8;
    let archive = w.build();
    assert_eq!(prove([&archive[..]]).unwrap().items, want.items);
    assert_eq!(prove(archive.chunks(3)).unwrap().items, want.items);
}

#[test]
fn every_cut_is_noticed() {
    for (minor, compression) in ALL {
        let archive = ArchiveWriter::sample(minor, compression).build();
        for end in 0..archive.len() {
            let error = prove([&archive[..end]]).expect_err("a cut archive");
            assert_eq!(error.kind(), ErrorKind::Corrupt, "1.{minor} {compression:?} cut at {end}: {error}");
        }
    }
}

#[test]
fn no_flipped_bit_makes_it_panic_and_none_changes_a_gzip_proof_unseen() {
    for (minor, compression) in ALL {
        let archive = ArchiveWriter::sample(minor, compression).build();
        let data = ArchiveWriter::sample(minor, compression).head().len();
        let good = prove([&archive[..]]).unwrap();
        for bit in 0..archive.len() * 8 {
            let mut bad = archive.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            let proof = prove([&bad[..]]);
            // The rest is for the hash around the archive: only zlib has a checksum of its own. An empty large
            // object's stream has no bytes, and OIDs stand outside of the streams.
            let (Ok(proof), BlockCompression::Gzip, true) = (proof, compression, bit / 8 >= data) else { continue };
            assert_eq!(proof.items[..3], good.items[..3], "bit {bit}");
        }
    }
}

#[test]
fn bytes_after_the_end_are_refused() {
    for (minor, compression) in ALL {
        let mut archive = ArchiveWriter::sample(minor, compression).build();
        archive.push(0);
        assert_eq!(prove([&archive[..]]).unwrap_err().kind(), ErrorKind::Corrupt);
    }
}

#[test]
fn partitions_loaded_through_their_root_are_one_table() {
    let mut w = ArchiveWriter::new(14, BlockCompression::None);
    let part = |id| Entry::data(id, "root").defn("-- load via partition root public.root\n");
    w.entries = vec![part(1), part(2)];
    w.blocks = vec![Block::Data(1, b"1\n\\.\n\n\n".to_vec()), Block::Data(2, b"2\n3\n\\.\n\n\n".to_vec())];
    let proof = prove([&w.build()[..]]).unwrap();
    assert_eq!(proof.items.len(), 1);
    assert_eq!((proof.items[0].count, proof.items[0].bytes), (3, 6));
    assert_eq!(proof.items[0].fingerprint, sum(&[b"1", b"2", b"3"]));
}

#[test]
fn inserts_are_measured_and_not_counted() {
    let mut w = ArchiveWriter::new(16, BlockCompression::Zstd);
    w.entries = vec![Entry { copy: None, ..Entry::data(1, "Order") }];
    w.blocks = vec![Block::Data(1, b"INSERT INTO public.\"Order\" VALUES (1);\n\n\n".to_vec())];
    let proof = prove([&w.build()[..]]).unwrap();
    let item = &proof.items[0];
    assert_eq!((item.name.as_str(), item.count, item.bytes, item.fingerprint), ("public.\"Order\"", 0, 41, None));
    assert_eq!(proof.details["inserts"].to_string(), r#"["public.\"Order\""]"#);
}

/// Every way in which an archive can be wrong, and what is said about it.
#[test]
fn corrupt_archives_are_named_for_what_they_are() {
    use BlockCompression::{Gzip, Lz4, None as Raw, Zstd};
    let sample = || ArchiveWriter::sample(14, Raw);
    let edit = |f: &dyn Fn(&mut ArchiveWriter)| {
        let mut w = sample();
        f(&mut w);
        w.build()
    };
    let at = |w: ArchiveWriter, byte: usize, value: u8| {
        let mut bytes = w.build();
        bytes[byte] = value;
        bytes
    };
    let data = |compression, raw: &[u8]| {
        let mut w = ArchiveWriter::new(16, compression);
        w.entries = vec![Entry::data(1, "t")];
        w.blocks = vec![Block::Data(1, raw.to_vec())];
        w
    };
    // A stream of its own in place of what the writer would compress.
    let stream = |compression, stream: &[u8]| {
        let mut w = data(compression, b"");
        let mut out = w.head();
        w.compression = Raw;
        w.chunk = 1 << 20;
        out.extend_from_slice(&w.block(&Block::Data(1, stream.to_vec())));
        out
    };
    let good = b"1\n\\.\n\n\n";
    let joined = |c| [&data(c, b"").compress(good)[..], b"!"].concat();
    let cut = |c| {
        let all = data(c, b"").compress(good);
        all[..all.len() - 2].to_vec()
    };
    let (corrupt, unsupported) = (ErrorKind::Corrupt, ErrorKind::Unsupported);
    let cases: Vec<(Vec<u8>, ErrorKind, &str)> = vec![
        (b"".to_vec(), corrupt, "it is empty"),
        (b"PG".to_vec(), corrupt, "it ends within the header"),
        (b"PK".to_vec(), corrupt, "does not start with PGDMP"),
        (b"--\n-- PostgreSQL database dump".to_vec(), corrupt, "does not start with PGDMP"),
        (at(sample(), 6, 11), unsupported, "archive version 1.11.0 is unknown"),
        (at(sample(), 6, 17), unsupported, "archive version 1.17.0 is unknown"),
        (at(sample(), 5, 2), unsupported, "archive version 2.14.0 is unknown"),
        (at(sample(), 8, 0), corrupt, "ints of 0 bytes"),
        (at(sample(), 8, 9), corrupt, "ints of 9 bytes"),
        (at(sample(), 9, 9), corrupt, "offsets of 9 bytes"),
        (at(sample(), 10, 3), unsupported, "a tar archive"),
        (at(sample(), 10, 5), unsupported, "a directory archive"),
        (at(sample(), 10, 9), corrupt, "unknown archive format 9"),
        (at(sample(), 11, 2), corrupt, "sign byte 2"),
        (at(sample(), 12, 10), corrupt, "compression level 10"),
        (at(ArchiveWriter::sample(16, Raw), 11, 4), unsupported, "unknown compression algorithm 4"),
        (edit(&|w| w.entries[1].id = 1), corrupt, "the number 1 is taken already, by entry 1"),
        (edit(&|w| w.entries[1].id = 0), corrupt, "an entry with the number 0"),
        (edit(&|w| w.entries[1].had_dumper = 2), corrupt, "hadDumper is 2"),
        (edit(&|w| w.entries[1].section = 5), corrupt, "section 5"),
        (edit(&|w| w.entries[1].offset.0 = 0), corrupt, "an offset with the flag 0"),
        (edit(&|w| w.entries[3].offset.0 = 3), corrupt, "has data and says that it has none"),
        (edit(&|w| w.entries[3].copy = Some("COPY nothing".into())), corrupt, "copy statement cannot be read"),
        (edit(&|w| w.entries[5].defn = None), corrupt, "setval cannot be read"),
        (edit(&|w| w.entries[3].offset = (2, 7)), corrupt, "TABLE DATA public.a (4) should be at byte 7"),
        (edit(&|w| w.entries[3].had_dumper = 0), corrupt, "a block for TABLE DATA public.a (4), which has no data"),
        (edit(&|w| w.blocks.push(w.blocks[0].clone())), corrupt, "a second block for TABLE DATA public.a (4)"),
        (edit(&|w| w.blocks[0] = Block::Data(77, vec![])), corrupt, "a block with the number 77"),
        (edit(&|w| w.blocks[0] = Block::LargeObjects(4, vec![])), corrupt, "that is not of its type"),
        (edit(&|w| w.blocks[2] = Block::Data(8, vec![])), corrupt, "that is not of its type"),
        (edit(&|w| drop(w.blocks.remove(1))), corrupt, "it ends before the data of TABLE DATA public.b (5)"),
        (edit(&|w| w.blocks.clear()), corrupt, "TABLE DATA public.a (4) and of 2 more"),
        ([edit(&|_| {}), vec![2]].concat(), corrupt, "a block of the unknown type 2"),
        (data(Raw, b"1\n").build(), corrupt, "does not end with"),
        (data(Raw, b"1\n\\.\n\n").build(), corrupt, "does not end with"),
        (data(Raw, b"1\n\\.\n\n\n2\n").build(), corrupt, "data after its terminator"),
        (data(Zstd, b"1\n").build(), corrupt, "does not end with"),
        (stream(Gzip, &cut(Gzip)), corrupt, "a compressed stream that is cut"),
        (stream(Lz4, &cut(Lz4)), corrupt, "a compressed stream that is cut"),
        (stream(Zstd, &cut(Zstd)), corrupt, "a compressed stream that is cut"),
        (stream(Gzip, &joined(Gzip)), corrupt, "bytes after the end of the zlib stream"),
        (stream(Lz4, &joined(Lz4)), corrupt, "bytes after the end of the LZ4 frame"),
        (stream(Zstd, &joined(Zstd)), corrupt, "bytes after the end of the Zstandard frame"),
        (stream(Gzip, b"nonsense"), corrupt, "a zlib stream that cannot be decoded"),
        (stream(Lz4, b"nonsense"), corrupt, "no LZ4 frame"),
        (stream(Zstd, b"nonsense"), corrupt, "a Zstandard frame that cannot be decoded"),
        (stream(Zstd, b""), corrupt, "does not end with"),
    ];
    for (archive, kind, message) in cases {
        let error = prove([&archive[..]]).expect_err(message);
        assert_eq!(error.kind(), kind, "{message}: {error}");
        assert!(error.to_string().contains(message), "{message}: {error}");
        let bytewise = prove(archive.chunks(1)).expect_err(message);
        assert_eq!(bytewise.message(), error.message());
    }
}

#[test]
fn a_table_of_contents_cannot_fill_the_memory() {
    let mut archive = ArchiveWriter::new(14, BlockCompression::None);
    archive.entries = vec![Entry::new(1, "TABLE", &"x".repeat(4000))];
    let head = archive.head();
    let error = TocReader::with_limit(2000).push(&head[..300]).unwrap_err();
    assert!(error.to_string().contains("would be larger than"), "{error}");
    // A declared length is refused as soon as it is read, with none of its bytes there.
    let mut huge = ArchiveWriter::new(14, BlockCompression::None).head();
    let count = huge.len() - 4;
    huge[count] = 1;
    huge.extend_from_slice(&[0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF, 0xFF, 0x7F]);
    let error = TocReader::new().push(&huge).unwrap_err();
    assert!(error.to_string().contains("larger than 256 MiB"), "{error}");
}

#[test]
fn the_toc_reader_takes_no_more_than_the_toc() {
    let w = ArchiveWriter::sample(16, BlockCompression::Zstd);
    let archive = w.build();
    let length = w.head().len();
    for size in [1, 3, 100, archive.len()] {
        let mut reader = TocReader::new();
        let mut taken = 0;
        let mut complete = None;
        for chunk in archive.chunks(size) {
            if let TocProgress::Complete { toc, head, consumed } = reader.push(chunk).unwrap() {
                complete = Some((toc, head));
                taken += consumed;
                break;
            }
            taken += chunk.len();
        }
        let (toc, head) = complete.unwrap();
        assert_eq!((taken, toc.byte_len, &head[..]), (length, length as u64, &archive[..length]));
        for entry in &toc.entries {
            assert!(matches!(head[entry.offset_position as usize], 1..=3));
        }
        assert_eq!(toc.entry(4).unwrap().label(), "a");
    }
}

#[test]
fn filled_offsets_are_those_that_the_parser_demands() {
    for (minor, compression) in ALL {
        let w = ArchiveWriter::sample(minor, compression);
        let mut archive = w.build();
        let mut index = BlockIndex::default();
        let mut parser = Parser::new();
        parser.push(&archive, &mut index).unwrap();
        let toc = parser.finish().unwrap();
        let head = fill_offsets(&toc, &archive[..toc.byte_len as usize], &index.blocks).unwrap();
        let mut file = std::io::Cursor::new(&mut archive);
        index.fill_in_place(&mut file).unwrap();
        assert_eq!(archive[..head.len()], head);
        // Every offset is set now, and the parser compares each with where the block is.
        let mut parser = Parser::new();
        parser.push(&archive, &mut ()).unwrap();
        let toc = parser.finish().unwrap();
        assert!(toc.entries.iter().all(|e| matches!(e.offset, DataOffset::At(_)) == e.had_dumper));
        assert!(fill_offsets(&toc, &head[1..], &index.blocks).is_err());
        assert!(fill_offsets(&toc, &head, &[BlockPosition { id: 1, offset: 1, bytes: 1 }]).is_err());
    }
}

#[test]
fn a_parser_that_failed_stays_failed() {
    let mut parser = Parser::new();
    parser.push(b"nonsense", &mut ()).unwrap_err();
    parser.push(b"PGDMP", &mut ()).unwrap_err();
    parser.finish().unwrap_err();
}

#[test]
fn long_compressed_tables_decode_across_many_blocks() {
    let mut text = Vec::new();
    for i in 0..60_000u32 {
        text.extend_from_slice(
            format!("{i}\t{:x}\tsome text that repeats\n", i.wrapping_mul(2_654_435_761)).as_bytes(),
        );
    }
    let rows: Vec<&[u8]> = text.split(|b| *b == b'\n').filter(|r| !r.is_empty()).collect();
    let want = sum(&rows);
    let raw = [&text[..], b"\\.\n\n\n"].concat();
    for compression in [BlockCompression::None, BlockCompression::Gzip, BlockCompression::Lz4, BlockCompression::Zstd] {
        let mut w = ArchiveWriter::new(16, compression);
        w.entries = vec![Entry::data(1, "t")];
        w.blocks = vec![Block::Data(1, raw.clone())];
        for chunk in [4096, 17_000] {
            w.chunk = chunk;
            let archive = w.build();
            for size in [1 << 20, 777] {
                let proof = prove(archive.chunks(size)).unwrap();
                assert_eq!((proof.items[0].count, proof.items[0].fingerprint), (60_000, want), "{compression:?}");
            }
        }
    }
}

fn seeds() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/archive")
}

/// What the fuzz target does with its input: the first byte chooses the size of the chunks.
fn replay(input: &[u8]) -> Result<Proof> {
    let Some((size, archive)) = input.split_first() else { return prove([]) };
    prove(archive.chunks(usize::from(*size).max(1)))
}

#[test]
fn the_fuzz_corpus_makes_nothing_panic() {
    let mut read = 0;
    for seed in std::fs::read_dir(seeds()).expect("the corpus is part of the repository") {
        let input = std::fs::read(seed.unwrap().path()).unwrap();
        let proof = replay(&input);
        // However it is cut, the same bytes say the same.
        let whole = input.get(1..).map(|archive| prove([archive]));
        assert_eq!(proof.ok(), whole.and_then(Result::ok));
        read += 1;
    }
    assert!(read >= ALL.len(), "{read} seeds");
}

#[test]
#[ignore = "writes the seeds into the repository"]
fn write_fuzz_seeds() {
    std::fs::create_dir_all(seeds()).unwrap();
    for (minor, compression) in ALL {
        let archive = ArchiveWriter::sample(minor, compression).build();
        let name = format!("sample-1.{minor}-{}", compression.as_str());
        std::fs::write(seeds().join(name), [&[255], &archive[..]].concat()).unwrap();
    }
    let archive = ArchiveWriter::sample(16, BlockCompression::None).build();
    std::fs::write(seeds().join("cut"), [&[7], &archive[..archive.len() / 2]].concat()).unwrap();
    let mut patched = archive.clone();
    let mut index = BlockIndex::default();
    Parser::new().push(&archive, &mut index).unwrap();
    index.fill_in_place(&mut std::io::Cursor::new(&mut patched)).unwrap();
    std::fs::write(seeds().join("offsets"), [&[64], &patched[..]].concat()).unwrap();
}

/// `cargo test --release -p lifeboat-backends --features postgres archive::tests::throughput -- --ignored --nocapture`
#[test]
#[ignore = "a measurement"]
#[allow(clippy::print_stdout)]
fn throughput() {
    for (compression, row_len) in [
        (BlockCompression::None, 20),
        (BlockCompression::None, 100),
        (BlockCompression::None, 400),
        (BlockCompression::Gzip, 100),
        (BlockCompression::Lz4, 100),
        (BlockCompression::Zstd, 100),
    ] {
        let mut w = ArchiveWriter::new(16, compression);
        w.entries = vec![Entry::data(1, "t")];
        let mut raw = Vec::new();
        let mut seed = 1u64;
        while raw.len() < 256 << 20 {
            for _ in 0..row_len / 10 {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                raw.extend_from_slice(format!("{:09}\t", (seed >> 33) % 1_000_000_000).as_bytes());
            }
            *raw.last_mut().unwrap() = b'\n';
        }
        raw.extend_from_slice(b"\\.\n\n\n");
        // Uncompressed archives have one chunk for each row.
        w.chunk = if compression == BlockCompression::None { row_len } else { 16 << 10 };
        let size = raw.len() as f64 / 1e6;
        w.blocks = vec![Block::Data(1, raw)];
        let archive = w.build();
        let begun = std::time::Instant::now();
        let proof = prove(archive.chunks(1 << 20)).unwrap();
        let seconds = begun.elapsed().as_secs_f64();
        let rows = proof.items[0].count as f64 / seconds / 1e6;
        println!(
            "{:>5} rows of {row_len:>3} B: {:>6.0} MB/s, {rows:>5.1} M rows/s",
            compression.as_str(),
            size / seconds
        );
    }
}

fn toc(w: &ArchiveWriter) -> Toc {
    match TocReader::new().push(&w.head()).unwrap() {
        TocProgress::Complete { toc, .. } => *toc,
        TocProgress::Incomplete => panic!("the head is whole"),
    }
}

fn shop() -> Toc {
    let mut w = ArchiveWriter::new(14, BlockCompression::None);
    let post = |e: Entry| Entry { section: 4, ..e };
    w.entries = vec![
        Entry::new(1, "ENCODING", "ENCODING"),
        Entry::new(2, "DATABASE", "shop"),
        Entry::new(3, "SCHEMA", "s"),
        Entry::new(4, "TYPE", "mood").namespace("s").deps(&[3]),
        Entry::new(5, "FUNCTION", "f()").namespace("s").deps(&[3]),
        Entry::new(10, "TABLE", "customer").namespace("s").deps(&[3, 4, 900]),
        Entry::new(11, "TABLE", "Order").namespace("s").deps(&[3]),
        Entry::new(12, "VIEW", "recent").namespace("s").deps(&[11]),
        Entry::new(13, "TABLE", "customer").namespace("other"),
        Entry::new(20, "SEQUENCE", "customer_id_seq").namespace("s").deps(&[10]).defn("CREATE SEQUENCE s.x"),
        Entry::new(21, "SEQUENCE OWNED BY", "customer_id_seq").namespace("s").deps(&[20]),
        Entry::new(22, "DEFAULT", "customer id").namespace("s").deps(&[10, 20]),
        Entry::new(23, "DEFAULT", "Order customer").namespace("s").deps(&[11, 20]),
        Entry { namespace: Some("s".into()), ..Entry::data(30, "customer").deps(&[10]) },
        Entry { namespace: Some("s".into()), ..Entry::data(31, "Order").deps(&[11]) },
        Entry::new(32, "SEQUENCE SET", "customer_id_seq").namespace("s").deps(&[20]),
        post(Entry::new(40, "CONSTRAINT", "customer customer_pkey").namespace("s").deps(&[10])),
        post(Entry::new(41, "FK CONSTRAINT", "Order fk").namespace("s").deps(&[11, 10, 40])),
        post(Entry::new(42, "TRIGGER", "customer tr").namespace("s").deps(&[10, 5])),
        post(Entry::new(43, "ACL", "TABLE customer").namespace("s").deps(&[10])),
        post(Entry::new(44, "COMMENT", "INDEX customer_pkey").namespace("s").deps(&[40])),
        post(Entry::new(45, "PUBLICATION TABLE", "p customer").namespace("s").deps(&[10])),
    ];
    toc(&w)
}

fn pick(tables: &[&str], schemas: &[&str]) -> Result<Selection> {
    let own = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect();
    select(&shop(), &Wanted { tables: own(tables), schemas: own(schemas), ..Wanted::default() })
}

#[test]
fn a_table_comes_with_what_belongs_to_it_and_what_it_needs() {
    let got = pick(&["s.customer"], &[]).unwrap();
    assert_eq!(got.ids.iter().copied().collect::<Vec<_>>(), [1, 3, 4, 5, 10, 20, 21, 22, 30, 32, 40, 42, 43, 44]);
    assert_eq!(got.left_out.iter().copied().collect::<Vec<_>>(), [41]);
    assert!(got.bare.is_empty());
    assert!(got.list(&shop()).starts_with("1; ENCODING - ENCODING postgres\n3; SCHEMA - s postgres\n"));
}

#[test]
fn a_foreign_key_comes_only_with_both_of_its_tables() {
    // The sequence of another table that a default uses comes, without that table.
    let got = pick(&["s.Order"], &[]).unwrap();
    assert_eq!(got.ids.iter().copied().collect::<Vec<_>>(), [1, 3, 11, 20, 23, 31, 32]);
    assert!(pick(&["s.\"Order\"", "s.customer"], &[]).unwrap().ids.contains(&41));
}

#[test]
fn a_view_brings_the_definition_of_its_tables_only() {
    let got = pick(&["recent"], &[]).unwrap();
    assert_eq!(got.ids.iter().copied().collect::<Vec<_>>(), [1, 3, 11, 12]);
    assert_eq!(got.bare.iter().copied().collect::<Vec<_>>(), [11]);
}

#[test]
fn a_schema_brings_all_that_is_in_it() {
    let got = pick(&[], &["s"]).unwrap();
    let not: Vec<i32> = shop().entries.iter().map(|e| e.dump_id).filter(|i| !got.ids.contains(i)).collect();
    assert_eq!(not, [2, 13, 45]);
}

#[test]
fn names_that_mean_nothing_or_several_things_are_refused() {
    for (table, kind, text) in [
        ("s.custommer", ErrorKind::NotFound, "near it: s.customer"),
        ("s.order", ErrorKind::NotFound, "near it: s.\"Order\""),
        ("customer", ErrorKind::Config, "name it with its schema"),
    ] {
        let error = pick(&[table], &[]).unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.advice().unwrap().contains(text), "{error:?}");
    }
    assert!(pick(&["nothing_like_it"], &[]).unwrap_err().advice().is_none());
    assert_eq!(pick(&[], &["t"]).unwrap_err().advice(), Some("near it: s"));
    assert_eq!(pick(&[], &[]).unwrap_err().kind(), ErrorKind::Config);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn any_chunking_gives_the_same_proof(
        which in 0..ALL.len(),
        inner in 1usize..40,
        cuts in prop::collection::vec(0usize..3000, 0..40),
    ) {
        let (minor, compression) = ALL[which];
        let mut w = ArchiveWriter::sample(minor, compression);
        w.chunk = inner;
        let archive = w.build();
        let mut cuts: Vec<usize> = cuts.into_iter().map(|c| c % archive.len()).collect();
        cuts.extend([0, archive.len()]);
        cuts.sort_unstable();
        let cut = prove(cuts.windows(2).map(|c| &archive[c[0]..c[1]])).unwrap();
        prop_assert_eq!(cut, prove([&archive[..]]).unwrap());
    }

    #[test]
    fn nonsense_after_a_good_head_never_panics(
        which in 0..ALL.len(),
        tail in prop::collection::vec(any::<u8>(), 0..300),
        size in 1usize..50,
    ) {
        let (minor, compression) = ALL[which];
        let archive = [ArchiveWriter::sample(minor, compression).head(), tail].concat();
        let _ = prove(archive.chunks(size));
    }

    #[test]
    fn rows_and_objects_are_what_was_written(
        rows in prop::collection::vec("[a-zA-Z0-9\t\\\\]{0,30}", 0..50),
        objects in prop::collection::vec((1u32.., prop::collection::vec(any::<u8>(), 0..200)), 0..5),
        which in 0..ALL.len(),
        size in 1usize..200,
    ) {
        let rows: Vec<String> = rows.into_iter().map(|r| r.replace('\\', "\\\\")).collect();
        let (minor, compression) = ALL[which];
        let mut w = ArchiveWriter::sample(minor, compression);
        let mut text: String = rows.iter().map(|r| format!("{r}\n")).collect();
        text.push_str("\\.\n\n\n");
        w.blocks[0] = Block::Data(4, text.into_bytes());
        w.blocks[2] = Block::LargeObjects(8, objects.clone());
        let proof = prove(w.build().chunks(size)).unwrap();
        prop_assert_eq!(proof.items[0].count, rows.len() as u64);
        prop_assert_eq!(proof.items[0].fingerprint, sum(&rows.iter().map(String::as_bytes).collect::<Vec<_>>()));
        let stored: Vec<Vec<u8>> = objects.iter().map(|(o, c)| [&o.to_le_bytes()[..], c].concat()).collect();
        prop_assert_eq!(proof.items[3].fingerprint, sum(&stored.iter().map(|o| &o[..]).collect::<Vec<_>>()));
    }
}

#[test]
fn a_table_of_contents_that_says_less_is_read_as_that() {
    use std::collections::BTreeMap;
    for (minor, compression) in ALL {
        let w = ArchiveWriter::sample(minor, compression);
        let mut archive = w.build();
        let mut index = BlockIndex::default();
        let mut parser = Parser::new();
        parser.push(&archive, &mut index).unwrap();
        let toc = parser.finish().unwrap();
        let changes = BTreeMap::from([
            (
                2,
                Change {
                    without_owner: true,
                    defn: Some(b"CREATE TABLE public.a (id int, and much more text);".to_vec()),
                },
            ),
            (6, Change { without_owner: false, defn: Some(Vec::new()) }),
            (8, Change { without_owner: true, defn: None }),
        ]);
        // Piped, and as pg_dump writes a file, with its offsets.
        for filled in [false, true] {
            let start = toc.byte_len as usize;
            if filled {
                index.fill_in_place(&mut std::io::Cursor::new(&mut archive)).unwrap();
            }
            let mut parser = Parser::new();
            parser.push(&archive, &mut ()).unwrap();
            let before = parser.finish().unwrap();
            let mut changed = rewrite(&before, &archive[..start], &changes).unwrap();
            changed.extend_from_slice(&archive[start..]);
            // The parser compares each offset with where the block is.
            let mut parser = Parser::new();
            parser.push(&changed, &mut ()).unwrap();
            let after = parser.finish().unwrap();
            let owner = |id: i32| after.entry(id).unwrap().owner.clone().unwrap();
            assert_eq!([owner(2), owner(3), owner(8)], [&b""[..], b"postgres", b""]);
            assert_eq!(after.entry(2).unwrap().defn, changes[&2].defn);
            assert_eq!(after.entry(6).unwrap().defn.as_deref(), Some(&b""[..]));
            assert_eq!(after.entry(5).unwrap().copy_stmt, before.entry(5).unwrap().copy_stmt);
            assert!(rewrite(&before, &archive[..start - 1], &changes).is_err());
        }
    }
}
