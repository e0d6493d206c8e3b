//! Whatever a bucket holds under a manifest's name, reading it ends with a manifest or an error.
#![allow(clippy::unwrap_used, missing_docs)]

mod doubles;

use std::sync::Arc;

use doubles::*;
use lifeboat_core::encryptor::Age;
use lifeboat_core::manifest::PrivatePart;
use lifeboat_core::{Compression, Encryptor, ErrorKind, Manifest};
use lifeboat_testkit::memory::MemorySink;
use proptest::prelude::*;
use serde_json::{Value, json};

fn key() -> Arc<dyn Encryptor> {
    let (secret, public) = Age::generate();
    Arc::new(Age::to([public]).unwrap().identities(&secret, "k").unwrap())
}

fn written(encryptor: Option<&Arc<dyn Encryptor>>) -> Vec<u8> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let sink = MemorySink::new();
        let mut run = backup(FakeSource::of(lines()).tapped_by(|| Box::new(LinesTap::default())));
        run = run.compress(Compression::None);
        if let Some(encryptor) = encryptor {
            run = run.encrypt(encryptor.clone());
        }
        run.to(Arc::new(sink.clone())).run().await.unwrap();
        sink.bytes(&sink.keys()[1]).unwrap().to_vec()
    })
}

/// A key, a manifest that is open, and one that is sealed for the key.
type Written = (Arc<dyn Encryptor>, Vec<u8>, Vec<u8>);

/// Every place in a JSON value.
fn places(value: &Value, at: &str, found: &mut Vec<String>) {
    found.push(at.to_owned());
    match value {
        Value::Object(map) => map.iter().for_each(|(k, v)| places(v, &format!("{at}/{k}"), found)),
        Value::Array(all) => all.iter().enumerate().for_each(|(i, v)| places(v, &format!("{at}/{i}"), found)),
        _ => {}
    }
}

fn odd_values() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        Just(json!([])),
        Just(json!({})),
        any::<bool>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "\\PC{0,40}".prop_map(Value::from),
        Just(json!("../../etc/passwd")),
        Just(json!("shop-20261121-033000.dump")),
        Just(json!("9999-12-31T23:59:59Z")),
        Just(json!("-009999-01-01T00:00:00Z")),
        Just(json!({ "sealed": "" })),
        Just(json!({ "open": {} })),
    ]
}

fn config() -> ProptestConfig {
    ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() }
}

#[test]
fn what_was_written_reads_back() {
    let key = key();
    for encryptor in [None, Some(&key)] {
        let bytes = written(encryptor);
        let manifest = Manifest::parse(&bytes, "m").unwrap();
        assert_eq!(manifest.to_bytes(), bytes);
        assert_eq!(matches!(manifest.private, PrivatePart::Sealed(_)), encryptor.is_some());
        assert_eq!(manifest.encryption.map(|e| e.recipients), encryptor.map(Encryptor::recipients));
    }
}

#[test]
fn objects_outside_the_artifact_are_refused() {
    let manifest: Value = serde_json::from_slice(&written(None)).unwrap();
    for name in
        ["", "../x", "db/shop-20261121-033000.dump", "shop-20261121-033000.dump/../x", "other-20261121-033000.dump"]
    {
        let mut altered = manifest.clone();
        altered["objects"][0]["name"] = json!(name);
        let error = Manifest::parse(altered.to_string().as_bytes(), "m").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{name}");
    }
}

#[test]
fn fields_that_a_later_version_adds_do_no_harm() {
    let mut manifest: Value = serde_json::from_slice(&written(None)).unwrap();
    manifest["signature"] = json!({ "by": "somebody" });
    manifest["objects"][0]["etag"] = json!("x");
    Manifest::parse(manifest.to_string().as_bytes(), "m").unwrap();
    manifest["format_version"] = json!(2);
    let error = Manifest::parse(manifest.to_string().as_bytes(), "m").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.advice().unwrap().contains("newer Lifeboat"));
}

#[test]
fn every_prefix_of_a_manifest_is_an_error() {
    let bytes = written(None);
    // The last two bytes are the brace that closes it and a newline.
    for length in 0..bytes.len() - 1 {
        assert_eq!(Manifest::parse(&bytes[..length], "m").unwrap_err().kind(), ErrorKind::Corrupt, "{length}");
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn no_mutation_of_the_bytes_makes_it_panic(
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..3u8), 1..8),
        sealed: bool,
    ) {
        static WRITTEN: std::sync::OnceLock<Written> = std::sync::OnceLock::new();
        let (key, open, closed) = WRITTEN.get_or_init(|| {
            let key = key();
            let closed = written(Some(&key));
            (key, written(None), closed)
        });
        let mut bytes = if sealed { closed.clone() } else { open.clone() };
        for (place, byte, edit) in edits {
            let place = place.index(bytes.len());
            match edit {
                0 => bytes[place] = byte,
                1 => bytes.insert(place, byte),
                _ => drop(bytes.remove(place)),
            }
        }
        if let Ok(manifest) = Manifest::parse(&bytes, "m") {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let read = runtime.block_on(manifest.private(std::slice::from_ref(key)));
            if let Err(error) = read {
                prop_assert!(matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Decrypt), "{error}");
            }
        }
    }

    #[test]
    fn no_odd_value_anywhere_makes_it_panic(place: prop::sample::Index, value in odd_values()) {
        static WRITTEN: std::sync::OnceLock<Value> = std::sync::OnceLock::new();
        let mut manifest = WRITTEN.get_or_init(|| serde_json::from_slice(&written(None)).unwrap()).clone();
        let mut all = Vec::new();
        places(&manifest, "", &mut all);
        *manifest.pointer_mut(&all[place.index(all.len())]).unwrap() = value;
        if let Ok(manifest) = Manifest::parse(manifest.to_string().as_bytes(), "m") {
            prop_assert!(manifest.objects.iter().all(|o| o.name.starts_with(&manifest.artifact)));
        }
    }
}

#[test]
fn the_fuzzers_corpus_is_read_or_refused() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/corpus/manifest");
    let mut read = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        if let Ok(manifest) = Manifest::parse(&bytes, "corpus") {
            assert_eq!(Manifest::parse(&manifest.to_bytes(), "corpus").unwrap(), manifest);
            read += 1;
        }
    }
    assert!(read >= 2, "the corpus has manifests");
}
