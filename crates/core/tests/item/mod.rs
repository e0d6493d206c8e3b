//! One item of an artifact, read alone.

use lifeboat_core::manifest::PrivatePart;
use lifeboat_core::pipeline::Item;
use lifeboat_core::proof::Fingerprint;
use lifeboat_testkit::lines::{Content, LinesTap, LinesVerifier, format};

use super::*;

const LINES: &str = "db/shop-20261121-033000.lines.zst";

fn content() -> Content {
    (0..3000).map(|n| (format!("key-{n:05}"), format!("value {n}"))).collect()
}

/// What an item of [`content`] is: all lines but the last, which says that it ends.
fn expected() -> String {
    format(&content()).strip_suffix("end\n").unwrap().to_owned()
}

async fn stored(encryptor: Option<&Arc<dyn Encryptor>>) -> MemorySink {
    let sink = MemorySink::new();
    let source = FakeSource::of(format(&content())).tapped_by(|| Box::new(LinesTap::default())).format("lines");
    let mut run = backup(source);
    if let Some(encryptor) = encryptor {
        run = run.encrypt(encryptor.clone());
    }
    run.to(Arc::new(sink.clone())).run().await.unwrap();
    sink
}

async fn item(
    sink: &MemorySink,
    verifier: &dyn Verifier,
    name: &str,
    key: Option<&Arc<dyn Encryptor>>,
) -> Result<Item> {
    let restore = Restore::new(Arc::new(sink.clone()), the_artifact(sink).await).context(context());
    match key {
        Some(key) => restore.key(key.clone()).item(verifier, name).await,
        None => restore.item(verifier, name).await,
    }
}

/// The bytes up to the end or the error.
async fn read(mut item: Item) -> (Vec<u8>, Option<Error>) {
    let mut bytes = Vec::new();
    while let Some(chunk) = soon(item.stream.next()).await {
        match chunk {
            Ok(chunk) => bytes.extend_from_slice(&chunk),
            Err(error) => return (bytes, Some(error)),
        }
    }
    (bytes, None)
}

#[tokio::test]
async fn an_item_is_read_alone_and_compared_with_its_proof() {
    let keys = keys();
    let sink = stored(Some(&keys.writer)).await;
    let found = item(&sink, &LinesVerifier, "lines", Some(&keys.reader)).await.unwrap();
    assert_eq!((found.name.as_str(), found.form.as_str()), ("lines", "lines key=value"));
    assert_eq!(found.expected.as_ref().map(|item| item.count), Some(3000));
    let (bytes, error) = read(found).await;
    assert!(error.is_none(), "{error:?}");
    assert!(bytes == expected().as_bytes());
    // A key that does not fit, and a name that does not either.
    assert_eq!(item(&sink, &LinesVerifier, "lines", None).await.unwrap_err().kind(), ErrorKind::Decrypt);
    let error = item(&sink, &LinesVerifier, "lime", Some(&keys.reader)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.message().contains("1 item") && error.advice().unwrap().contains("near it: lines"), "{error:?}");
}

#[tokio::test]
async fn an_item_that_is_not_what_its_proof_says_ends_in_an_error() {
    for (what, change) in [
        ("content differs", (|item| item.fingerprint = Some(Fingerprint(7))) as fn(&mut lifeboat_core::ProofItem)),
        ("3001 rows expected, 3000 found", |item| item.count += 1),
    ] {
        let sink = stored(None).await;
        edit_manifest(&sink, LINES, |manifest| {
            let PrivatePart::Open(private) = &mut manifest.private else { panic!("it is open") };
            change(&mut private.proof.items[0]);
        });
        let (bytes, error) = read(item(&sink, &LinesVerifier, "lines", None).await.unwrap()).await;
        let error = error.unwrap();
        // Nothing else has come, and none of it counts.
        assert!(expected().as_bytes().starts_with(&bytes));
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        assert!(error.to_string().contains(what) && error.to_string().contains("lines"), "{error}");
    }
}

#[tokio::test]
async fn an_artifact_that_was_cut_or_altered_never_ends_as_if_it_were_whole() {
    // With a manifest its hash tells, and without one (a foreign artifact) its format.
    for with_manifest in [true, false] {
        let whole = stored(None).await.bytes(LINES).unwrap();
        for (cut, plain) in [(whole.len() / 2, false), (whole.len() - 1, false), (30_000, true), (9, true), (0, true)] {
            let sink = stored(None).await;
            let (key, bytes) = match plain {
                false => (LINES, whole.slice(..cut)),
                true => ("db/shop-20261121-033000.lines", Bytes::from(format(&content())).slice(..cut)),
            };
            if plain && with_manifest {
                continue;
            }
            if !with_manifest {
                sink.delete(&[LINES.to_owned(), format!("{LINES}.manifest.json")]).await.unwrap();
            }
            sink.place(key, bytes, at("2026-11-21T03:30:01Z"));
            let error = match item(&sink, &LinesVerifier, "lines", None).await {
                Ok(found) => read(found).await.1.unwrap_or_else(|| panic!("cut to {cut}, it ends as if it were whole")),
                Err(error) => error,
            };
            assert_eq!(error.kind(), ErrorKind::Corrupt, "cut to {cut}: {error}");
        }
    }
}

#[tokio::test]
async fn an_item_of_a_foreign_artifact_is_compared_with_nothing_and_one_that_is_not_there_is_missed() {
    let sink = MemorySink::new();
    sink.place("db/shop-20261121-033000.lines", format(&content()), at("2026-11-21T03:30:01Z"));
    let found = item(&sink, &LinesVerifier, "lines", None).await.unwrap();
    assert!(found.expected.is_none());
    let (bytes, error) = read(found).await;
    assert!(error.is_none() && bytes == expected().as_bytes(), "{error:?}");
    assert_eq!(item(&sink, &LinesVerifier, "rows", None).await.unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn a_system_that_reads_no_items_says_so() {
    let sink = super::stored(None).await;
    for name in [ITEM, "no such item"] {
        let error = item(&sink, &super::LinesVerifier::default(), name, None).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    }
}
