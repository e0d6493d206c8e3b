//! The bytes themselves, and what is refused on both sides.

use lifeboat_testkit::documents::{Doc, of_size};

use super::super::{
    Block, CollectionMetadata, Crc64, Header, MAGIC, MAX_DOCUMENT, Metadata, NamespaceHeader, Packer, Parser,
    TERMINATOR, Walker, Writer,
};
use super::fixtures::{Nothing, archive, array, entry, header, prove, read};

/// The header of a block.
fn block_header(collection: &str, eof: bool, crc: u64) -> Vec<u8> {
    NamespaceHeader { db: "db".to_owned(), collection: collection.to_owned(), eof, crc }.to_bytes()
}

fn crc(documents: &[Vec<u8>]) -> u64 {
    let mut crc = Crc64::new();
    documents.iter().for_each(|document| crc.update(document));
    crc.value()
}

/// An archive put together by hand: a prelude with the collections `a` and `b`, and these parts.
fn by_hand(parts: &[&[u8]]) -> Vec<u8> {
    let mut all = MAGIC.to_vec();
    all.extend(header(4).to_bytes());
    all.extend(entry("a").to_bytes());
    all.extend(entry("b").to_bytes());
    all.extend(TERMINATOR);
    all.extend(parts.concat());
    all
}

/// Why an archive is refused.
fn refusal(archive: &[u8]) -> String {
    let error = read(archive, 13).unwrap_err();
    assert_eq!(error.kind(), lifeboat_core::ErrorKind::Corrupt);
    assert_eq!(error.to_string(), read(archive, archive.len()).unwrap_err().to_string(), "whole and in chunks");
    assert_eq!(error.to_string(), prove(archive, 5).unwrap_err().to_string(), "read and proven");
    error.to_string()
}

fn block(documents: &[Vec<u8>]) -> Block {
    let (array, mut packer) = (array(documents), Packer::new("db.c"));
    assert!(packer.batch(&array).next().is_none());
    packer.finish().unwrap()
}

#[test]
fn the_bytes_are_those_that_mongodump_writes() {
    let document = Doc::new().int32("_id", 7).build();
    let metadata = Metadata { collection_name: "c".to_owned(), kind: "collection".to_owned(), ..Metadata::default() };
    let written = archive(&[(CollectionMetadata::new("db", &metadata).unwrap(), vec![document.clone()])]);
    let head = Doc::new()
        .int32("concurrent_collections", 4)
        .text("version", "0.1")
        .text("server_version", "7.0.14")
        .text("tool_version", "lifeboat 0.1.0")
        .build();
    let collection = Doc::new()
        .text("db", "db")
        .text("collection", "c")
        .text("metadata", r#"{"indexes":[],"collectionName":"c","type":"collection"}"#)
        .int32("size", 0)
        .text("type", "collection")
        .build();
    let begin = Doc::new().text("db", "db").text("collection", "c").bool("EOF", false).int64("CRC", 0).build();
    let sum = crc(std::slice::from_ref(&document));
    let end = Doc::new().text("db", "db").text("collection", "c").bool("EOF", true).int64("CRC", sum as i64).build();
    let wanted: [&[u8]; 10] = [
        &[0x6d, 0xe2, 0x99, 0x81],
        &head,
        &collection,
        &[0xff; 4],
        &begin,
        &document,
        &[0xff; 4],
        &end,
        &[0xff; 4],
        &[],
    ];
    assert_eq!(written, wanted.concat());
}

#[test]
fn an_empty_collection_has_its_empty_block_and_its_end() {
    let written = archive(&[(entry("a"), vec![]), (entry("b"), vec![])]);
    let mut wanted = by_hand(&[]);
    for name in ["a", "b"] {
        wanted.extend([block_header(name, false, 0), TERMINATOR.to_vec()].concat());
        wanted.extend([block_header(name, true, 0), TERMINATOR.to_vec()].concat());
    }
    assert_eq!(written, wanted);
}

#[test]
fn an_end_without_a_block_before_it_is_accepted() {
    let end = |name| [block_header(name, true, 0), TERMINATOR.to_vec()].concat();
    assert!(read(&by_hand(&[&end("b"), &end("a")]), 9).is_ok());
}

#[test]
fn extra_fields_and_odd_numbers_in_the_archives_header_are_accepted() {
    let head = Doc::new()
        .text("lifeboat", "anything")
        .int64("concurrent_collections", 4)
        .text("version", "99")
        .text("server_version", "unknown")
        .build();
    let collection =
        Doc::new().text("db", "db").text("collection", "a").text("metadata", "").int64("size", i64::MAX).build();
    let end = block_header("a", true, 0);
    let parts: [&[u8]; 6] = [&MAGIC, &head, &collection, &TERMINATOR, &end, &TERMINATOR];
    let (prelude, _) = read(&parts.concat(), 11).unwrap();
    assert_eq!(prelude.header.version, "99");
    assert_eq!(prelude.header.server(), None);
    assert_eq!(prelude.collections[0].size, i64::MAX);
}

#[test]
fn unknown_missing_and_repeated_fields_in_a_blocks_header_are_refused() {
    let whole = || Doc::new().text("db", "db").text("collection", "a").bool("EOF", true);
    for (header, what) in [
        (whole().int64("CRC", 0).int32("x", 1), "a field \"x\""),
        (whole().int32("CRC", 0), "a field \"CRC\""),
        (whole(), "lacks one of its fields"),
        (whole().int64("CRC", 0).bool("EOF", true), "a field \"EOF\""),
    ] {
        let said = refusal(&by_hand(&[&header.build(), &TERMINATOR]));
        assert!(said.contains(what), "{said}");
    }
}

#[test]
fn what_mongorestore_rejects_is_refused_with_place_and_name() {
    let documents = [of_size(1, 40)];
    let (begin, end) = (block_header("a", false, 0), block_header("a", true, crc(&documents)));
    let (t, d) = (&TERMINATOR[..], &documents[0][..]);
    let whole = [&begin[..], d, t, &end, t].concat();
    let empty_b = [&block_header("b", true, 0)[..], t].concat();
    let unknown = block_header("c", false, 0);
    let wrong = block_header("a", true, 1);
    let huge = i32::to_le_bytes(MAX_DOCUMENT as i32 + 1);
    let mut no_nul = of_size(1, 40);
    no_nul[39] = 1;
    for (parts, what) in [
        (vec![&whole[..], &empty_b, t], "two terminators"),
        (vec![&whole, &empty_b, &begin, t], "a block of db.a, which has already ended"),
        (vec![&unknown, t], "a block of db.c, which is not among its collections"),
        (vec![&whole], "but db.b does not: 1 of 2"),
        (vec![&begin, d, t, &wrong, t, &empty_b], "have the checksum"),
        (vec![&begin, d, t, &end, d], "follows the end of its namespace"),
        (vec![&begin, &huge], "a document of 16777217 bytes"),
        (vec![&begin, &[4, 0, 0, 0, 0]], "a document of 4 bytes"),
        (vec![&begin, &[0, 0, 0, 0x80, 0]], "a document of -2147483648 bytes"),
        (vec![&begin, &no_nul], "does not end with NUL"),
        (vec![&whole, &empty_b, &[1]], "it ends here, within a block"),
        (vec![&whole, &empty_b[..empty_b.len() - 4]], "it ends here, within a block"),
    ] {
        let said = refusal(&by_hand(&parts));
        assert!(said.contains(what), "{said} has no {what}");
        assert!(said.contains("the archive at byte "), "{said}");
    }
    let inside = refusal(&by_hand(&[&begin, &no_nul]));
    assert!(inside.starts_with("cannot read db.a in the archive at byte "), "{inside}");
}

#[test]
fn what_is_no_archive_is_said_to_be_none() {
    for (bytes, what) in [
        (&b""[..], "it is empty"),
        (b"abcdefgh", "does not start with the magic"),
        (&MAGIC[..3], "it ends here"),
        (&MAGIC[..], "it ends here"),
        (&[MAGIC, TERMINATOR].concat(), "it has no header"),
    ] {
        let said = refusal(bytes);
        assert!(said.contains(what), "{said}");
    }
    let packed = read(&[0x1f, 0x8b, 8, 0, 0], 5).unwrap_err();
    assert_eq!(packed.advice(), Some("it is compressed with gzip"));
}

#[test]
fn metadata_that_cannot_be_read_is_refused_before_any_document() {
    let mut entry = entry("a");
    entry.metadata = r#"{"options":{"a"b":1},"indexes":[]}"#.to_owned();
    let parts = [&MAGIC[..], &header(1).to_bytes(), &entry.to_bytes()].concat();
    let said = refusal(&parts);
    assert!(said.contains("the metadata of db.a: invalid JSON input"), "{said}");
}

#[test]
fn a_length_alone_makes_nothing_grow() {
    let mut parser = Parser::new();
    let begin = block_header("a", false, 0);
    parser.push(&by_hand(&[&begin, &i32::to_le_bytes(MAX_DOCUMENT as i32)]), &mut Nothing).unwrap();
    assert!(parser.partial_capacity() < 1024);
}

#[test]
fn the_writer_refuses_more_open_namespaces_than_its_header_says() {
    let mut writer = Writer::new(header(1), vec![entry("a"), entry("b")]).unwrap();
    let (mut out, block) = (Vec::new(), block(&[of_size(1, 40)]));
    writer.block(0, &block, &mut out).unwrap();
    let error = writer.block(1, &block, &mut out).unwrap_err();
    assert!(error.to_string().contains("b would be open beside 1 others"), "{error}");
    assert!(writer.finish().is_err(), "what was refused is not passed over");
}

#[test]
fn the_writer_refuses_documents_after_the_end_and_a_namespace_without_one() {
    let mut writer = Writer::new(header(2), vec![entry("a"), entry("b")]).unwrap();
    let mut out = Vec::new();
    writer.end(0, &mut out).unwrap();
    assert!(writer.block(0, &block(&[of_size(1, 40)]), &mut out).is_err());
    let mut writer = Writer::new(header(2), vec![entry("a"), entry("b")]).unwrap();
    writer.end(0, &mut out).unwrap();
    let error = writer.finish().unwrap_err();
    assert!(error.to_string().contains("b has no end"), "{error}");
}

#[test]
fn the_writer_refuses_a_block_that_is_written_twice_or_left_out() {
    let (one, two) = ([of_size(1, 40)], [of_size(2, 40)]);
    let mut packer = Packer::new("db.a");
    let mut next = |document: &[Vec<u8>]| {
        assert!(packer.push(&document[0]).unwrap().is_none());
        packer.finish().unwrap()
    };
    let (first, second, mut out) = (next(&one), next(&two), Vec::new());
    for wrong in [[&first, &first], [&second, &first]] {
        let mut writer = Writer::new(header(1), vec![entry("a")]).unwrap();
        assert!(wrong.into_iter().any(|block| writer.block(0, block, &mut out).is_err()));
        assert!(writer.finish().is_err());
    }
}

#[test]
fn the_writer_puts_users_first_and_the_oplog_last() {
    let users = CollectionMetadata {
        db: "admin".to_owned(),
        collection: "system.users".to_owned(),
        ..CollectionMetadata::default()
    };
    let all = || Writer::new(header(4), vec![entry("a"), CollectionMetadata::oplog(), users.clone()]).unwrap();
    let (mut out, block) = (Vec::new(), block(&[of_size(1, 40)]));
    assert!(all().block(0, &block, &mut out).is_err(), "a collection before the users");
    let mut writer = all();
    writer.end(2, &mut out).unwrap();
    assert!(writer.block(1, &block, &mut out).is_err(), "the oplog before a collection");
    let mut writer = all();
    for namespace in [2, 0, 1] {
        writer.block(namespace, &block, &mut out).unwrap();
        writer.end(namespace, &mut out).unwrap();
    }
    writer.finish().unwrap();
}

#[test]
fn the_writer_refuses_a_collection_that_is_there_twice() {
    assert!(Writer::new(header(4), vec![entry("a"), entry("a")]).is_err());
}

#[test]
fn a_servers_version_that_mongorestore_cannot_read_is_refused() {
    for good in ["7.0.14", "8.3.0-rc1", "4.4.29+enterprise", "0.0.0"] {
        assert!(Header::new(4, good, "").is_ok(), "{good}");
    }
    for bad in ["", "unknown", "7.0", "7.0.x", "7.0.1.2", "-1.0.0"] {
        assert!(Header::new(4, bad, "").is_err(), "{bad}");
    }
}

#[test]
fn a_time_series_is_found_under_its_own_name_from_server_8_3_on() {
    let series = CollectionMetadata {
        db: "db".to_owned(),
        collection: "s".to_owned(),
        kind: "timeseries".to_owned(),
        ..CollectionMetadata::default()
    };
    for (server, data) in
        [("7.0.14", "system.buckets.s"), ("8.2.9", "system.buckets.s"), ("8.3.0", "s"), ("9.0.0", "s")]
    {
        assert_eq!(series.data_collection(&Header::new(1, server, "").unwrap()), data, "{server}");
    }
}

#[test]
fn a_batch_that_is_no_array_of_documents_is_refused() {
    let mut cut = array(&[of_size(1, 40)]).to_vec();
    cut[8] = 200;
    for bad in [vec![], vec![5, 0, 0, 0, 1], Doc::new().int32("0", 1).build(), cut] {
        let (bad, mut packer) = (bad.into(), Packer::new("db.c"));
        let mut batch = packer.batch(&bad);
        assert!(batch.next().unwrap().is_err());
        assert!(batch.next().is_none(), "an error is the last item");
    }
}

#[test]
fn the_walker_finds_what_no_server_takes() {
    let mut walker = Walker::new();
    for (_, document) in lifeboat_testkit::documents::odd() {
        walker.check(&document).unwrap();
    }
    let nested = (0..300).fold(Doc::new(), |inner, _| Doc::new().doc("a", inner));
    for (bad, what) in [
        (Doc::new().raw(0x20, "a", &[]).build(), "a type of value that BSON does not have"),
        (Doc::new().raw(0x08, "a", &[2]).build(), "a boolean is neither 0 nor 1"),
        (Doc::new().raw(0x02, "a", &[0, 0, 0, 0]).build(), "a string has an impossible length"),
        (Doc::new().raw(0x02, "a", &[1, 0, 0, 0, 1]).build(), "a string does not end with NUL"),
        (Doc::new().raw(0x10, "a", &[1]).build(), "a value ends after its document"),
        (Doc::new().raw(0x03, "a", &[5, 0, 0, 0, 1]).build(), "a document does not end with NUL"),
        (Doc::new().raw(0x05, "a", &[200, 0, 0, 0, 0]).build(), "binary data has an impossible length"),
        (Doc::new().raw(0x0b, "a", b"x\0y").build(), "it ends before its length"),
        (nested.build(), "documents are nested too deeply"),
    ] {
        let said = walker.check(&bad).unwrap_err();
        assert!(matches!(said.what, w if w == what) || what == "it ends before its length", "{said} instead of {what}");
    }
}

#[test]
fn a_malformed_document_is_carried_by_a_backup_and_found_by_structure() {
    let bad = Doc::new().raw(0x20, "a", &[]).build();
    let archive = archive(&[(entry("a"), vec![bad])]);
    assert!(read(&archive, 100).is_ok());
    let said = prove(&archive, 100).unwrap_err().to_string();
    assert!(
        said.contains("cannot read db.a in the archive at byte ") && said.contains("a malformed document"),
        "{said}"
    );
}
