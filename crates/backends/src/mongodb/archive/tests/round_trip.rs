//! What is written is read again, however it is interleaved and cut.

use lifeboat_core::Fingerprint;
use lifeboat_testkit::documents::{Doc, odd, odd_collection_names, of_size};
use proptest::prelude::*;

use super::super::{CollectionMetadata, MAX_DOCUMENT, Metadata, Packer, Writer};
use super::fixtures::{archive, array, entry, header, plain, prove, raw, read};

/// What becomes of one namespace next.
#[derive(Clone, Debug)]
enum Step {
    /// Some documents of this size.
    Documents(usize, usize),
    End,
}

fn steps() -> impl Strategy<Value = Vec<(usize, Step)>> {
    let step = prop_oneof![
        4 => (0usize..9, 32usize..300).prop_map(|(count, size)| Step::Documents(count, size)),
        1 => (1usize..3, 60_000usize..90_000).prop_map(|(count, size)| Step::Documents(count, size)),
        1 => Just(Step::End),
    ];
    proptest::collection::vec((0usize..6, step), 0..40)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn any_interleaving_cut_into_any_chunks_gives_the_same_documents(steps in steps(), open in 1usize..5, size in 1usize..3000) {
        let names = ["a", "b", "c", "d", "e", "f"];
        let mut writer = Writer::new(header(open), names.iter().map(|name| entry(name)).collect()).unwrap();
        let mut packers: Vec<Packer> = names.iter().map(|name| Packer::new(*name)).collect();
        let (mut wanted, mut out) = (vec![Vec::new(); names.len()], Vec::new());
        let (mut begun, mut ended) = (vec![false; names.len()], vec![false; names.len()]);
        let mut id = 0;
        let finish = |writer: &mut Writer, packer: &mut Packer, namespace, out: &mut Vec<_>| {
            if let Some(block) = packer.finish() {
                writer.block(namespace, &block, out).unwrap();
            }
            writer.end(namespace, out).unwrap();
        };
        for (namespace, step) in steps {
            let in_use = (0..names.len()).filter(|n| begun[*n] && !ended[*n]).count();
            if ended[namespace] || (!begun[namespace] && in_use >= open) {
                continue;
            }
            match step {
                Step::Documents(count, size) => {
                    begun[namespace] |= count > 0;
                    let documents: Vec<Vec<u8>> = (0..count).map(|_| { id += 1; of_size(id, size) }).collect();
                    for block in packers[namespace].batch(&array(&documents)) {
                        writer.block(namespace, &block.unwrap(), &mut out).unwrap();
                    }
                    // A source that passes on what it has after each batch.
                    if let Some(block) = packers[namespace].finish() {
                        writer.block(namespace, &block, &mut out).unwrap();
                    }
                    wanted[namespace].extend(documents);
                }
                Step::End => {
                    finish(&mut writer, &mut packers[namespace], namespace, &mut out);
                    ended[namespace] = true;
                }
            }
        }
        for namespace in (0..names.len()).filter(|n| begun[*n]).chain((0..names.len()).filter(|n| !begun[*n])) {
            if !ended[namespace] {
                finish(&mut writer, &mut packers[namespace], namespace, &mut out);
            }
        }
        out.push(writer.finish().unwrap());
        let bytes = out.concat();
        let (prelude, found) = read(&bytes, size).unwrap();
        prop_assert_eq!(&found, &wanted);
        prop_assert_eq!(&*prelude.collections[2].collection, "c");
        prop_assert_eq!(read(&bytes, bytes.len()).unwrap().1, found);
        let proof = prove(&bytes, size).unwrap();
        for (item, documents) in proof.of_kind("collection").zip(&wanted) {
            let mut sum = Fingerprint::default();
            documents.iter().for_each(|document| sum.add(document));
            prop_assert_eq!(item.count, documents.len() as u64);
            prop_assert_eq!(item.fingerprint, Some(sum));
            prop_assert_eq!(item.bytes, documents.iter().map(|d| d.len() as u64).sum::<u64>());
        }
        prop_assert_eq!(proof, prove(&bytes, bytes.len()).unwrap());
    }
}

#[test]
fn every_type_of_value_and_every_odd_document_is_carried_as_it_is() {
    let documents: Vec<Vec<u8>> = odd().into_iter().map(|(_, document)| document).collect();
    let archive = archive(&[(entry("odd"), documents.clone())]);
    for size in [1, 2, 3, 7, 100, archive.len()] {
        assert_eq!(read(&archive, size).unwrap().1[0], documents, "in chunks of {size}");
    }
    assert_eq!(prove(&archive, 1000).unwrap().items[0].count, documents.len() as u64);
}

#[test]
fn documents_of_16_mib_are_carried_whole() {
    let documents = vec![of_size(1, MAX_DOCUMENT), of_size(2, 40), of_size(3, MAX_DOCUMENT - 1)];
    let archive = archive(&[(entry("large"), documents.clone())]);
    for size in [1 << 20, 1_000_003, archive.len()] {
        assert_eq!(read(&archive, size).unwrap().1[0], documents);
    }
}

#[test]
fn documents_that_are_copied_and_those_that_are_not_keep_their_order() {
    let large = 512 << 10;
    let sizes = [40, large - 1, large, large + 1, 41, 42, 3 * large, 3 * large, 43];
    let documents: Vec<Vec<u8>> = (0..).zip(sizes).map(|(id, size)| of_size(id, size)).collect();
    for cut in 0..documents.len() {
        let mut writer = Writer::new(header(1), vec![entry("c")]).unwrap();
        let (mut packer, mut out) = (Packer::new("db.c"), Vec::new());
        // What one batch leaves comes before what is large in the next.
        for batch in [&documents[..cut], &documents[cut..]] {
            for block in packer.batch(&array(batch)) {
                writer.block(0, &block.unwrap(), &mut out).unwrap();
            }
        }
        if let Some(block) = packer.finish() {
            writer.block(0, &block, &mut out).unwrap();
        }
        writer.end(0, &mut out).unwrap();
        out.push(writer.finish().unwrap());
        assert!(out.iter().all(|chunk| chunk.len() <= 1 << 20));
        let archive = out.concat();
        assert_eq!(read(&archive, 100_003).unwrap().1[0], documents, "two batches, cut at {cut}");
        assert_eq!(prove(&archive, archive.len()).unwrap().items[0].count, documents.len() as u64);
    }
}

#[test]
fn a_document_of_more_than_16_mib_is_not_written() {
    let error = Packer::new("db.c").push(&of_size(1, MAX_DOCUMENT + 1)).unwrap_err();
    assert_eq!(error.kind(), lifeboat_core::ErrorKind::Corrupt);
    let mut packer = Packer::new("db.c");
    let batch = array(&[of_size(1, MAX_DOCUMENT + 1)]);
    assert!(packer.batch(&batch).next().unwrap().is_err());
}

#[test]
fn a_thousand_collections_of_which_some_are_empty_are_told_apart() {
    let collections: Vec<_> = (0..1000)
        .map(|n| (entry(&format!("c{n}")), (0..n % 3).map(|id| of_size(id, 40)).collect::<Vec<_>>()))
        .collect();
    let archive = archive(&collections);
    let (prelude, found) = read(&archive, 4096).unwrap();
    for (number, (wanted, documents)) in collections.iter().enumerate() {
        assert_eq!(prelude.collections[number], *wanted);
        assert_eq!(&found[number], documents);
    }
}

#[test]
fn odd_names_of_collections_are_kept() {
    let names = odd_collection_names();
    let collections: Vec<_> = names.iter().map(|name| (entry(name), vec![of_size(1, 40)])).collect();
    let (prelude, found) = read(&archive(&collections), 17).unwrap();
    for (number, name) in names.iter().enumerate() {
        assert_eq!(prelude.collections[number].collection, *name);
        assert_eq!(prelude.collections[number].metadata().unwrap().unwrap(), plain(name));
        assert_eq!(found[number].len(), 1);
    }
}

#[test]
fn options_indexes_views_and_time_series_are_in_the_proof() {
    let mut capped = plain("capped");
    capped.options = Some(raw(Doc::new().bool("capped", true).int32("size", 4096)));
    let key = Doc::new().int32("b", -1).int32("a", 1).text("c", "2dsphere");
    capped.indexes.push(raw(Doc::new().int32("v", 2).doc("key", key).text("name", "b_a").text("ns", "db.capped")));
    let view = Metadata {
        options: Some(raw(Doc::new()
            .text("viewOn", "capped")
            .docs("pipeline", [Doc::new().doc("$match", Doc::new())]))),
        collection_name: "view".to_owned(),
        kind: "view".to_owned(),
        ..Metadata::default()
    };
    let series = Metadata {
        options: Some(raw(Doc::new().doc("timeseries", Doc::new().text("timeField", "t")))),
        collection_name: "series".to_owned(),
        kind: "timeseries".to_owned(),
        ..Metadata::default()
    };
    let entry = |metadata| CollectionMetadata::new("db", metadata).unwrap();
    let archive = archive(&[
        (entry(&capped), vec![of_size(1, 40)]),
        (entry(&view), vec![]),
        (entry(&series), vec![of_size(2, 50)]),
        (CollectionMetadata::oplog(), vec![of_size(3, 60)]),
    ]);
    let proof = prove(&archive, 100).unwrap();
    let names: Vec<_> = proof.items.iter().map(|item| item.shown()).collect();
    let items: Vec<(&str, &str, u64, Option<&str>)> =
        proof.items.iter().zip(&names).map(|(i, name)| (&*i.kind, &**name, i.count, i.value.as_deref())).collect();
    let order = items[0].3.unwrap();
    assert!(order.starts_with("in the order "), "{order}");
    let index = r#"{"key":{"_id":{"$numberInt":"1"}},"name":"_id_"}"#;
    let b_a = r#"{"key":{"b":{"$numberInt":"-1"},"a":{"$numberInt":"1"},"c":"2dsphere"},"name":"b_a"}"#;
    assert_eq!(
        items,
        [
            ("collection", "db.capped", 1, Some(order)),
            ("view", "db.view", 0, None),
            ("time series", "db.series", 1, None),
            ("oplog", ".oplog", 1, None),
            ("options", "db.capped", 1, Some(r#"{"capped":true,"size":{"$numberInt":"4096"}}"#)),
            ("index", "db.capped: _id_", 1, Some(index)),
            ("index", "db.capped: b_a", 1, Some(b_a)),
            ("options", "db.view", 1, Some(r#"{"viewOn":"capped","pipeline":[{"$match":{}}]}"#)),
            ("options", "db.series", 1, Some(r#"{"timeseries":{"timeField":"t"}}"#)),
        ]
    );
    assert_eq!(proof.items[1].fingerprint, None, "a view has no documents");
    let buckets = b"system.buckets.series";
    assert!(
        archive.windows(buckets.len()).any(|window| window == buckets),
        "the data of a time series is its buckets'"
    );
}
