//! What a verification and a restore promise: whatever is wrong with the stored bytes is found, and named.
#![allow(clippy::unwrap_used, missing_docs)]

mod doubles;
mod item;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use doubles::*;
use futures::StreamExt;
use lifeboat_core::catalog::{Artifact, Kind};
use lifeboat_core::encryptor::{Age, OpenSsl};
use lifeboat_core::manifest::StoredObject;
use lifeboat_core::proof::WholeStream;
use lifeboat_core::{
    AgeLimit, ArtifactName, Check, Compression, Context, Encryptor, Error, ErrorKind, Level, Manifest, Proof, Report,
    Restore, RestoreInput, Result, Sink, Status, Tap, Target, Verifier, Verify, async_trait, stream,
};
use lifeboat_testkit::chaos::{ChaosSink, Fault};
use lifeboat_testkit::content;
use lifeboat_testkit::memory::MemorySink;

/// A verifier of [`LinesTap`]'s format. Its restore test keeps what it was given.
#[derive(Default)]
struct LinesVerifier {
    /// Whether the restore test stops after the first chunk.
    stops_early: bool,
    /// Whether the restore test cannot be made, which it finds out in the middle.
    untested: bool,
    whole_stream: bool,
    given: Mutex<Vec<u8>>,
    proof: Mutex<Option<Proof>>,
    ended_with: Mutex<Option<Result<(), ErrorKind>>>,
}

impl LinesVerifier {
    /// For bytes without structure.
    fn whole() -> Self {
        Self { whole_stream: true, ..Self::default() }
    }
}

#[async_trait]
impl Verifier for LinesVerifier {
    fn tap(&self, _: &ArtifactName) -> Result<Box<dyn Tap>> {
        if self.whole_stream {
            return Ok(Box::new(WholeStream::new(ITEM)));
        }
        Ok(Box::new(LinesTap::default()))
    }

    async fn restore_test(&self, mut input: RestoreInput, _: &Context) -> Result<Vec<Check>> {
        *self.proof.lock().unwrap() = input.proof;
        let mut ended = Ok(());
        while let Some(chunk) = input.stream.next().await {
            match chunk {
                Ok(chunk) => self.given.lock().unwrap().extend_from_slice(&chunk),
                Err(error) => ended = Err(error.kind()),
            }
            if self.untested {
                return Ok(vec![Check::untested("restore", "disk full", "no room for the scratch server")]);
            }
            if self.stops_early {
                return Ok(vec![Check::pass("restore", "1", "good enough")]);
            }
        }
        *self.ended_with.lock().unwrap() = Some(ended);
        Ok(vec![match ended {
            Ok(()) => Check::pass("restore", "all", "restored"),
            Err(kind) => Check::fail("restore", kind.as_str(), "the stream broke"),
        }])
    }

    async fn live(&self, expected: Option<&Proof>, _: &Context) -> Result<Vec<Check>> {
        Ok(vec![match expected {
            Some(proof) => Check::fail("drift", proof.total_count().to_string(), "the live system has none"),
            None => Check::warn("drift", "unknown", "no proof"),
        }])
    }
}

struct Keys {
    writer: Arc<dyn Encryptor>,
    reader: Arc<dyn Encryptor>,
}

fn keys() -> Keys {
    let (secret, public) = Age::generate();
    Keys {
        writer: Arc::new(Age::to([public]).unwrap()),
        reader: Arc::new(Age::default().identities(&secret, "k").unwrap()),
    }
}

/// A backup of [`lines`] in memory.
async fn stored(encryptor: Option<&Arc<dyn Encryptor>>) -> MemorySink {
    let sink = MemorySink::new();
    let mut run = backup(FakeSource::of(lines()).tapped_by(|| Box::new(LinesTap::default())));
    if let Some(encryptor) = encryptor {
        run = run.encrypt(encryptor.clone());
    }
    run.to(Arc::new(sink.clone())).run().await.unwrap();
    sink
}

async fn verify_with(
    sink: &MemorySink,
    level: Level,
    verifier: &LinesVerifier,
    key: Option<&Arc<dyn Encryptor>>,
) -> Result<Report> {
    let artifact = the_artifact(sink).await;
    let mut run = Verify::new(Arc::new(sink.clone()), artifact, verifier).level(level).context(context()).record(false);
    if let Some(key) = key {
        run = run.key(key.clone());
    }
    soon(run.run()).await
}

async fn verify(sink: &MemorySink, level: Level) -> Report {
    verify_with(sink, level, &LinesVerifier::default(), None).await.unwrap()
}

/// Changes an object that is there.
fn alter(sink: &MemorySink, key: &str, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = sink.bytes(key).unwrap().to_vec();
    change(&mut bytes);
    sink.place(key, bytes, at("2026-11-21T03:30:01Z"));
}

fn edit_manifest(sink: &MemorySink, key: &str, edit: impl FnOnce(&mut Manifest)) {
    let key = format!("{key}.manifest.json");
    alter(sink, &key, |bytes| {
        let mut manifest = Manifest::parse(bytes, "m").unwrap();
        edit(&mut manifest);
        *bytes = manifest.to_bytes();
    });
}

fn failures(report: &Report) -> Vec<(&str, &str)> {
    assert_eq!(report.passed, report.failures().count() == 0);
    report.failures().map(|c| (c.name.as_str(), c.figure.as_str())).collect()
}

const MANIFEST: &str = "db/shop-20261121-033000.dump.zst.manifest.json";
const SEALED: &str = "db/shop-20261121-033000.dump.zst.age";

// ---- stored ----

#[tokio::test]
async fn a_good_artifact_passes_at_every_level() {
    let keys = keys();
    let sink = stored(Some(&keys.writer)).await;
    // What is stored is checked without a key.
    let report = verify_with(&sink, Level::Stored, &LinesVerifier::default(), None).await.unwrap();
    assert_eq!(failures(&report), []);
    for level in [Level::Structure, Level::Restore] {
        let verifier = LinesVerifier::default();
        let report = verify_with(&sink, level, &verifier, Some(&keys.reader)).await.unwrap();
        assert_eq!(failures(&report), [], "{level}");
        let names: Vec<&str> = report.checks.iter().map(|c| c.name.as_str()).collect();
        assert_eq!(names[..4], ["age", "stored", "structure", "proof"]);
        assert_eq!(report.checks[2].figure, "2 items, 1000 rows");
        let given = verifier.given.lock().unwrap().clone();
        assert_eq!(given, if level == Level::Restore { lines().to_vec() } else { Vec::new() });
    }
}

type Damage = Box<dyn Fn(&mut Vec<u8>)>;

fn flip(bytes: &mut [u8], place: usize) {
    bytes[place] ^= 1;
}

#[tokio::test]
async fn any_damage_to_the_stored_bytes_fails_at_every_level_and_names_the_object() {
    let keys = keys();
    for encrypted in [false, true] {
        let (writer, reader, key) =
            if encrypted { (Some(&keys.writer), Some(&keys.reader), SEALED) } else { (None, None, KEY) };
        let mut damages: Vec<(String, Damage)> = vec![
            ("cut by one".to_owned(), Box::new(|b| b.truncate(b.len() - 1))),
            ("cut in half".to_owned(), Box::new(|b| b.truncate(b.len() / 2))),
            ("emptied".to_owned(), Box::new(Vec::clear)),
            ("one byte more".to_owned(), Box::new(|b| b.push(0))),
            ("itself twice".to_owned(), Box::new(|b| b.extend(b.clone()))),
            ("flip at 500".to_owned(), Box::new(|b| flip(b, 500))),
            ("flip at the end".to_owned(), Box::new(|b| *b.last_mut().unwrap() ^= 1)),
        ];
        for place in [0, 3, 50] {
            damages.push((format!("flip at {place}"), Box::new(move |b| flip(b, place))));
        }
        for (what, damage) in damages {
            let sink = stored(writer).await;
            alter(&sink, key, damage);
            let report = verify_with(&sink, Level::Stored, &LinesVerifier::default(), reader).await.unwrap();
            assert_eq!(failures(&report), [("stored", "corrupt")], "{what}");
            let detail = &report.failures().next().unwrap().detail;
            assert!(detail.contains(key) && detail.contains("another artifact"), "{what}: {detail}");
            for level in [Level::Structure, Level::Restore] {
                let report = verify_with(&sink, level, &LinesVerifier::default(), reader).await;
                // What its own key cannot open any more may be an error; it never passes.
                match report {
                    Ok(report) => assert!(!report.passed, "{what} at {level}: {report:?}"),
                    Err(error) => assert_eq!(error.kind(), ErrorKind::Decrypt, "{what} at {level}: {error}"),
                }
            }
        }
    }
}

#[tokio::test]
async fn an_artifact_whose_last_age_chunk_is_full_is_read_to_its_end() {
    // The age format cuts into chunks of 64 KiB: after a full one only the end of the stream says that it was the last.
    let keys = keys();
    for length in [64 << 10, (64 << 10) - 1, (64 << 10) + 1, 2 << 20] {
        let sink = MemorySink::new();
        let run = backup(FakeSource::of(content::bytes(1, length))).compress(Compression::None);
        run.encrypt(keys.writer.clone()).to(Arc::new(sink.clone())).run().await.unwrap();
        let report = verify_with(&sink, Level::Restore, &LinesVerifier::whole(), Some(&keys.reader)).await.unwrap();
        assert_eq!(failures(&report), [], "{length}");
        alter(&sink, &the_artifact(&sink).await.key(), |b| b.push(0));
        let report = verify_with(&sink, Level::Structure, &LinesVerifier::whole(), Some(&keys.reader)).await.unwrap();
        assert!(!report.passed, "{length}");
    }
}

#[tokio::test]
async fn a_missing_object_and_a_damaged_artifact_fail() {
    for level in [Level::Stored, Level::Structure, Level::Restore, Level::Live] {
        let sink = stored(None).await;
        sink.delete(&[KEY.to_owned()]).await.unwrap();
        assert_eq!(the_artifact(&sink).await.kind, Kind::Damaged);
        assert_eq!(failures(&verify(&sink, level).await), [("stored", "missing")]);
    }
    // One volume of several.
    let sink = stored(None).await;
    edit_manifest(&sink, KEY, |m| {
        let mut second = m.objects[0].clone();
        second.name.push_str(".001");
        m.objects.push(second);
    });
    assert_eq!(failures(&verify(&sink, Level::Stored).await), [("stored", "not-found")]);
    let report = verify(&sink, Level::Structure).await;
    assert!(failures(&report).contains(&("stored", "not-found")), "{report:?}");
}

#[tokio::test]
async fn volumes_are_read_as_one_and_each_is_compared() {
    let whole = stored(None).await;
    let bytes = whole.bytes(KEY).unwrap();
    let sink = MemorySink::new();
    let parts: Vec<Bytes> = bytes.chunks(bytes.len() / 3 + 1).map(Bytes::copy_from_slice).collect();
    assert_eq!(parts.len(), 3);
    let manifest_key = format!("{KEY}.manifest.json");
    sink.place(&manifest_key, whole.bytes(&manifest_key).unwrap(), at("2026-11-21T03:30:01Z"));
    for (n, part) in parts.iter().enumerate() {
        sink.place(&format!("{KEY}.{n:03}"), part.clone(), at("2026-11-21T03:30:01Z"));
    }
    // Foreign volumes need no manifest.
    let foreign = MemorySink::new();
    for (n, part) in parts.iter().enumerate() {
        foreign.place(&format!("{KEY}.{n:03}"), part.clone(), at("2020-11-21T03:30:01Z"));
    }
    assert!(verify(&foreign, Level::Restore).await.passed);
    let sha256 = |bytes: &[u8]| {
        use sha2::Digest;
        hex::encode(sha2::Sha256::digest(bytes))
    };
    edit_manifest(&sink, KEY, |m| {
        let name = m.objects.remove(0).name;
        m.objects.extend(
            parts
                .iter()
                .enumerate()
                .map(|(n, part)| StoredObject::new(format!("{name}.{n:03}"), part.len() as u64, sha256(part))),
        );
    });
    assert!(verify(&sink, Level::Stored).await.passed);
    assert!(verify(&sink, Level::Restore).await.passed);
    alter(&sink, &format!("{KEY}.001"), |b| b[5] ^= 1);
    let report = verify(&sink, Level::Stored).await;
    assert!(report.failures().next().unwrap().detail.contains(".001"), "{report:?}");
}

// ---- the manifest ----

#[tokio::test]
async fn a_manifest_that_is_none_fails_and_one_of_a_newer_form_is_an_error() {
    let sink = stored(None).await;
    alter(&sink, &format!("{KEY}.manifest.json"), |b| b.truncate(b.len() / 2));
    assert_eq!(failures(&verify(&sink, Level::Stored).await), [("manifest", "corrupt")]);
    let sink = stored(None).await;
    edit_manifest(&sink, KEY, |m| m.artifact = "shop-20261121-033001.dump.zst".to_owned());
    let sink_objects = sink.keys();
    assert_eq!(sink_objects.len(), 2);
    assert_eq!(failures(&verify(&sink, Level::Stored).await), [("manifest", "corrupt")]);
    let sink = stored(None).await;
    edit_manifest(&sink, KEY, |m| m.format_version = 99);
    let error = verify_with(&sink, Level::Stored, &LinesVerifier::default(), None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
}

#[tokio::test]
async fn the_manifest_of_another_artifact_is_not_taken_for_this_ones() {
    let sink = stored(None).await;
    let other = KEY.replace("033000", "043000");
    let at_night = at("2026-11-21T04:30:01Z");
    sink.place(&other, sink.bytes(KEY).unwrap(), at_night);
    sink.place(&format!("{other}.manifest.json"), sink.bytes(&format!("{KEY}.manifest.json")).unwrap(), at_night);
    let all = list_all(&sink, FOLDER, None).await.unwrap();
    let report =
        Verify::new(Arc::new(sink), all[1].clone(), &LinesVerifier::default()).record(false).run().await.unwrap();
    assert_eq!(failures(&report), [("manifest", "corrupt")]);
}

fn open_private(manifest: &mut Manifest) -> &mut lifeboat_core::manifest::Private {
    match &mut manifest.private {
        lifeboat_core::manifest::PrivatePart::Open(private) => private,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn content_that_is_not_the_proofs_fails_and_names_the_item() {
    let sink = stored(None).await;
    edit_manifest(&sink, KEY, |m| open_private(m).proof.items[1].fingerprint.as_mut().unwrap().0 ^= 1);
    let report = verify(&sink, Level::Structure).await;
    assert_eq!(failures(&report), [(format!("table {ITEM}").as_str(), "334 of 334")]);
    let sink = stored(None).await;
    edit_manifest(&sink, KEY, |m| open_private(m).proof.items[0].count += 1);
    assert_eq!(failures(&verify(&sink, Level::Structure).await), [("table public.b", "666 of 667")]);
    let sink = stored(None).await;
    edit_manifest(&sink, KEY, |m| open_private(m).proof.items.truncate(1));
    assert_eq!(failures(&verify(&sink, Level::Structure).await), [(format!("table {ITEM}").as_str(), "unexpected")]);
}

#[tokio::test]
async fn plaintext_that_is_not_the_one_backed_up_fails() {
    let sink = stored(None).await;
    edit_manifest(&sink, KEY, |m| open_private(m).plaintext_xxh3_128 = "0".repeat(32));
    let report = verify(&sink, Level::Structure).await;
    assert_eq!(failures(&report), [("structure", "corrupt")]);
    assert!(report.failures().next().unwrap().detail.contains("hash differs"));
    let verifier = LinesVerifier::default();
    let report = verify_with(&sink, Level::Restore, &verifier, None).await.unwrap();
    assert_eq!(failures(&report), [("structure", "corrupt"), ("restore", "corrupt")]);
    assert_eq!(*verifier.ended_with.lock().unwrap(), Some(Err(ErrorKind::Corrupt)));
}

#[tokio::test]
async fn a_private_part_that_was_altered_fails() {
    let keys = keys();
    let sink = stored(Some(&keys.writer)).await;
    edit_manifest(&sink, SEALED, |m| m.private = lifeboat_core::manifest::PrivatePart::Sealed("!".to_owned()));
    let report = verify_with(&sink, Level::Structure, &LinesVerifier::default(), Some(&keys.reader)).await.unwrap();
    assert_eq!(failures(&report), [("manifest", "corrupt")]);
}

// ---- keys ----

#[tokio::test]
async fn without_the_right_key_nothing_is_known_and_that_is_an_error() {
    let (right, wrong) = (keys(), keys());
    let sink = stored(Some(&right.writer)).await;
    let foreign = MemorySink::new();
    foreign.place(SEALED, sink.bytes(SEALED).unwrap(), at("2020-01-01T00:00:00Z"));
    for sink in [sink, foreign] {
        for level in [Level::Structure, Level::Restore] {
            for key in [None, Some(&right.writer), Some(&wrong.reader)] {
                let error = verify_with(&sink, level, &LinesVerifier::default(), key).await.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Decrypt, "{error}");
                assert!(error.advice().is_some(), "{error:?}");
            }
        }
    }
}

#[tokio::test]
async fn plaintext_under_an_encrypted_name_is_refused() {
    let keys = keys();
    let forged = stored(None).await;
    for managed in [false, true] {
        let sink = stored(Some(&keys.writer)).await;
        alter(&sink, SEALED, |b| *b = forged.bytes(KEY).unwrap().to_vec());
        if managed {
            // Whoever can write the bucket can write a manifest that fits, too.
            let theirs = Manifest::parse(&forged.bytes(&format!("{KEY}.manifest.json")).unwrap(), "m").unwrap();
            edit_manifest(&sink, SEALED, |m| {
                m.objects[0].bytes = theirs.objects[0].bytes;
                m.objects[0].sha256.clone_from(&theirs.objects[0].sha256);
                m.private = theirs.private;
            });
        } else {
            sink.delete(&[format!("{SEALED}.manifest.json")]).await.unwrap();
        }
        let verifier = LinesVerifier::default();
        let report = verify_with(&sink, Level::Restore, &verifier, Some(&keys.reader)).await.unwrap();
        // A manifest that does not seal what it says of an encrypted artifact is refused before anything is read.
        let refused = if managed { "manifest" } else { "structure" };
        assert_eq!(failures(&report), [(refused, "corrupt")], "managed: {managed}");
        assert!(verifier.given.lock().unwrap().is_empty());
        let restore = Restore::new(Arc::new(sink.clone()), the_artifact(&sink).await).key(keys.reader.clone());
        assert_eq!(restore.stream().await.err().unwrap().kind(), ErrorKind::Corrupt);
    }
}

// ---- restore level ----

#[tokio::test]
async fn the_restore_test_gets_the_whole_stream_and_the_proof() {
    let keys = keys();
    let sink = stored(Some(&keys.writer)).await;
    let verifier = LinesVerifier::default();
    verify_with(&sink, Level::Restore, &verifier, Some(&keys.reader)).await.unwrap();
    assert_eq!(*verifier.given.lock().unwrap(), lines());
    assert_eq!(verifier.proof.lock().unwrap().as_ref().unwrap().total_count(), 1000);
    assert_eq!(*verifier.ended_with.lock().unwrap(), Some(Ok(())));
}

#[tokio::test]
async fn a_restore_test_that_stops_early_does_not_pass() {
    for length in [1_000, 40_000_000] {
        let sink = MemorySink::new();
        let source = FakeSource::new(move |_| content::stream_of(1, length));
        backup(source).compress(Compression::None).to(Arc::new(sink.clone())).run().await.unwrap();
        let verifier = LinesVerifier { stops_early: true, ..LinesVerifier::whole() };
        let report = verify_with(&sink, Level::Restore, &verifier, None).await.unwrap();
        // Of a short one everything may have been read and compared before it stopped.
        assert!(length < 2_000_000 || failures(&report) == [("structure", "not read")]);
    }
}

#[tokio::test]
async fn a_restore_test_that_could_not_be_made_is_no_verdict_and_is_not_recorded() {
    let sink = MemorySink::new();
    let source = FakeSource::new(move |_| content::stream_of(1, 40_000_000));
    backup(source).compress(Compression::None).to(Arc::new(sink.clone())).run().await.unwrap();
    let verifier = LinesVerifier { untested: true, ..LinesVerifier::whole() };
    // That it is old as well makes it neither good nor bad.
    for max_age in [None, Some(AgeLimit::new(Duration::ZERO))] {
        let artifact = the_artifact(&sink).await;
        let run = Verify::new(Arc::new(sink.clone()), artifact, &verifier).level(Level::Restore).age_limit(max_age);
        let report = run.run().await.unwrap();
        assert!(!report.passed);
        let failed: Vec<&str> = report.failures().map(|c| &*c.name).collect();
        assert_eq!(failed, if max_age.is_some() { vec!["age"] } else { vec![] }, "{report:#?}");
        let artifact = the_artifact(&sink).await;
        assert!(artifact.verifications.is_empty() && !artifact.is_known_bad(), "{artifact:?}");
    }
}

// ---- foreign ----

#[tokio::test]
async fn a_foreign_artifact_is_verified_without_a_proof() {
    for name in ["shop-20261121-033000.lines", "shop-20261121-033000.lines.gz"] {
        let sink = MemorySink::new();
        let bytes = if name.ends_with(".gz") { gzip(&lines()) } else { lines().to_vec() };
        sink.place(&format!("db/{name}"), bytes, at("2020-01-01T00:00:00Z"));
        for level in [Level::Stored, Level::Structure, Level::Restore] {
            let verifier = LinesVerifier::default();
            let report = verify_with(&sink, level, &verifier, None).await.unwrap();
            assert_eq!(failures(&report), [], "{name} {level}");
            assert!(report.checks[1].detail.contains("foreign") && report.checks[1].detail.contains("SHA-256"));
            assert!(report.checks.iter().all(|c| c.name != "proof"));
            assert!(verifier.proof.lock().unwrap().is_none());
        }
        alter(&sink, &format!("db/{name}"), |b| b.truncate(b.len() - 3));
        let report = verify(&sink, Level::Structure).await;
        assert_eq!(failures(&report), [("structure", "corrupt")], "{name}");
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[tokio::test]
async fn a_foreign_artifact_of_openssl_with_the_wrong_passphrase_is_an_error() {
    let right: Arc<dyn Encryptor> = Arc::new(OpenSsl::passphrase("right".to_owned().into()).unwrap());
    let wrong: Arc<dyn Encryptor> = Arc::new(OpenSsl::passphrase("wrong".to_owned().into()).unwrap());
    let sealed = stream::collect(right.encrypt(stream::once(lines())).unwrap(), 1 << 20, "x").await.unwrap();
    let sink = MemorySink::new();
    sink.place("db/shop-20261121-033000.lines.enc", sealed, at("2020-01-01T00:00:00Z"));
    assert!(verify_with(&sink, Level::Restore, &LinesVerifier::default(), Some(&right)).await.unwrap().passed);
    // It may come to light as a wrong end or as lines that are none, but it never passes.
    if let Ok(report) = verify_with(&sink, Level::Structure, &LinesVerifier::default(), Some(&wrong)).await {
        assert!(!report.passed);
    }
}

// ---- age ----

#[tokio::test]
async fn the_age_is_judged_as_the_limit_says() {
    let limit = |hours: u64, status| Some(AgeLimit::new(Duration::from_secs(hours * 3600)).status(status));
    for (now, limit, status, passed) in [
        ("2026-11-21T03:30:00Z", limit(24, Status::Fail), Status::Pass, true),
        ("2026-11-22T03:30:00Z", limit(24, Status::Fail), Status::Pass, true),
        ("2026-11-22T03:30:01Z", limit(24, Status::Fail), Status::Fail, false),
        ("2026-11-22T03:30:01Z", limit(24, Status::Warn), Status::Warn, true),
        ("2036-11-22T03:30:01Z", None, Status::Pass, true),
        ("2026-11-20T03:30:01Z", limit(24, Status::Fail), Status::Warn, true),
        ("2026-11-20T03:30:01Z", None, Status::Warn, true),
    ] {
        let sink = stored(None).await;
        let cx = Context::default().clock(clock_at(now));
        let verifier = LinesVerifier::default();
        let run = Verify::new(Arc::new(sink.clone()), the_artifact(&sink).await, &verifier).level(Level::Stored);
        let report = run.age_limit(limit).context(cx).run().await.unwrap();
        assert_eq!((report.checks[0].name.as_str(), report.checks[0].status), ("age", status), "{now}");
        assert_eq!(report.passed, passed, "{now}");
        // A good artifact stays one, however old it is.
        assert!(!the_artifact(&sink).await.is_known_bad(), "{now}");
    }
}

// ---- what keeps a verification from being made ----

#[tokio::test]
async fn a_store_that_fails_in_the_middle_is_an_error_and_no_verdict() {
    for level in [Level::Stored, Level::Structure, Level::Restore] {
        for after in [0, 100] {
            let sink = stored(None).await;
            let artifact = the_artifact(&sink).await;
            // The manifest is read before: it is smaller than the object here, so the fault is for the object alone.
            let memory = sink.clone();
            let inner = ScriptedSink::over(sink, |_, _| Fate::Done);
            let chaos = ChaosSink::new(inner.arc()).with(Fault::GetFails { after });
            let verifier = LinesVerifier::default();
            let run = Verify::new(Arc::new(ManifestFrom(memory.clone(), chaos)), artifact, &verifier)
                .level(level)
                .history(false);
            assert_eq!(run.run().await.unwrap_err().kind(), ErrorKind::Unavailable, "{level} after {after}");
            assert_eq!(memory.keys().len(), 2, "nothing is recorded");
        }
    }
}

/// Reads manifests from the first, everything else from the second.
#[derive(Debug)]
struct ManifestFrom(MemorySink, ChaosSink);

#[async_trait]
impl Sink for ManifestFrom {
    fn url(&self) -> String {
        self.0.url()
    }
    fn read_command(&self, key: &str) -> String {
        self.0.read_command(key)
    }
    async fn put(&self, key: &str, body: lifeboat_core::ByteStream) -> Result<u64> {
        self.0.put(key, body).await
    }
    async fn get(&self, key: &str, range: Option<std::ops::Range<u64>>) -> Result<lifeboat_core::ByteStream> {
        if key.ends_with(".manifest.json") {
            return self.0.get(key, range).await;
        }
        self.1.get(key, range).await
    }
    async fn head(&self, key: &str) -> Result<lifeboat_core::ObjectInfo> {
        self.0.head(key).await
    }
    fn list(&self, prefix: &str) -> futures::stream::BoxStream<'_, Result<lifeboat_core::ObjectInfo>> {
        self.0.list(prefix)
    }
    async fn delete(&self, keys: &[String]) -> Result<lifeboat_core::sink::Deleted> {
        self.0.delete(keys).await
    }
}

#[tokio::test]
async fn a_store_that_ends_early_as_if_that_were_all_is_found() {
    let sink = stored(None).await;
    let artifact = the_artifact(&sink).await;
    for fault in [Fault::GetTruncates { after: 100 }, Fault::GetTruncates { after: 0 }, Fault::GetFlips { at: 77 }] {
        let chaos = ChaosSink::new(Arc::new(sink.clone())).with(fault);
        let verifier = LinesVerifier::default();
        let split = ManifestFrom(sink.clone(), chaos);
        let run = Verify::new(Arc::new(split), artifact.clone(), &verifier).level(Level::Structure).record(false);
        assert!(!run.run().await.unwrap().passed, "{fault:?}");
    }
}

#[tokio::test]
async fn a_cancelled_verification_is_an_error_and_is_not_recorded() {
    let levels = [Level::Stored, Level::Structure, Level::Restore];
    for (level, hangs) in levels.into_iter().flat_map(|l| [(l, KEY), (l, MANIFEST)]) {
        let cx = context();
        let cancel = cx.cancel.clone();
        let memory = stored(None).await;
        let artifact = the_artifact(&memory).await;
        let sink = ScriptedSink::over(memory, move |call, key| {
            if call == "get" && key == hangs {
                cancel.cancel();
                return Fate::Hangs;
            }
            Fate::Done
        });
        let verifier = LinesVerifier::default();
        let run = Verify::new(sink.arc(), artifact, &verifier).level(level).history(false).context(cx);
        assert_eq!(soon(run.run()).await.unwrap_err().kind(), ErrorKind::Cancelled, "{level}");
        assert_eq!(sink.memory.keys().len(), 2);
    }
}

// ---- the record ----

#[tokio::test]
async fn the_record_of_a_verification_is_not_locked() {
    let sink = ScriptedSink::over(stored(None).await, |_, _| Fate::Done);
    let artifact = the_artifact(&sink.memory).await;
    let verifier = LinesVerifier::default();
    let run = Verify::new(sink.arc(), artifact, &verifier).level(Level::Structure).context(context());
    assert!(run.run().await.unwrap().passed);
    assert!(sink.log().iter().any(|line| line.starts_with(&format!("put {KEY}.verified-"))), "{:?}", sink.log());
    assert_eq!(sink.locked(), [""; 0]);
}

#[tokio::test]
async fn the_outcome_is_recorded_beside_the_artifact_without_a_name_of_what_is_inside() {
    let keys = keys();
    let sink = stored(Some(&keys.writer)).await;
    let verifier = LinesVerifier::default();
    let run =
        Verify::new(Arc::new(sink.clone()), the_artifact(&sink).await, &verifier).history(false).context(context());
    run.key(keys.reader.clone()).run().await.unwrap();
    let record = format!("{SEALED}.verified-20261121-033000-restore-pass.json");
    let text = String::from_utf8(sink.bytes(&record).unwrap().to_vec()).unwrap();
    assert!(text.contains("\"passed\": true") && text.contains("\"level\": \"restore\""), "{text}");
    let artifact = the_artifact(&sink).await;
    assert_eq!(artifact.last_passed().map(|v| (v.level, v.at)), Some((Level::Restore, at("2026-11-21T03:30:00Z"))));
    // One that fails with the item's name in its report records no name either.
    let sink = stored(None).await;
    edit_manifest(&sink, KEY, |m| open_private(m).proof.items[1].count += 1);
    let report = Verify::new(Arc::new(sink.clone()), the_artifact(&sink).await, &verifier)
        .history(false)
        .context(context())
        .run()
        .await;
    assert!(report.unwrap().failures().any(|c| c.name.contains(ITEM)));
    let record = format!("{KEY}.verified-20261121-033000-restore-fail.json");
    assert!(!String::from_utf8(sink.bytes(&record).unwrap().to_vec()).unwrap().contains(ITEM));
    assert!(the_artifact(&sink).await.is_known_bad());
}

#[tokio::test]
async fn a_verifier_that_may_not_write_verifies_and_says_so() {
    let memory = stored(None).await;
    let artifact = the_artifact(&memory).await;
    let sink = ScriptedSink::over(memory, |call, _| if call == "put" { Fate::Fails } else { Fate::Done });
    let tally = Arc::new(lifeboat_core::progress::Tally::default());
    let cx = context().progress(tally.clone());
    let verifier = LinesVerifier::default();
    assert!(Verify::new(sink.arc(), artifact, &verifier).history(false).context(cx).run().await.unwrap().passed);
    assert!(tally.notes()[0].contains("could not be recorded"), "{:?}", tally.notes());
}

#[tokio::test]
async fn drift_of_the_live_system_does_not_make_the_artifact_bad() {
    let sink = stored(None).await;
    let verifier = LinesVerifier::default();
    let run = Verify::new(Arc::new(sink.clone()), the_artifact(&sink).await, &verifier).level(Level::Live);
    assert_eq!(failures(&run.context(context()).run().await.unwrap()), [("drift", "1000")]);
    assert_eq!(the_artifact(&sink).await.verifications.len(), 1);
    assert!(!the_artifact(&sink).await.is_known_bad());
}

// ---- restore ----

/// Keeps what it is given.
#[derive(Default)]
struct Keeping {
    given: Mutex<Vec<u8>>,
    proof: Mutex<Option<Proof>>,
}

#[async_trait]
impl Target for Keeping {
    async fn restore(&self, mut input: RestoreInput, _: &Context) -> Result<Vec<Check>> {
        *self.proof.lock().unwrap() = input.proof;
        while let Some(chunk) = input.stream.next().await {
            self.given.lock().unwrap().extend_from_slice(&chunk?);
        }
        Ok(vec![Check::pass("restored", "all", "")])
    }
}

async fn restore(
    sink: impl Sink + 'static,
    artifact: Artifact,
    keys: &[&Arc<dyn Encryptor>],
) -> (Keeping, Result<(), Error>) {
    let target = Keeping::default();
    let run = Restore::new(Arc::new(sink), artifact).keys(keys.iter().map(|k| (*k).clone())).context(context());
    let done = soon(run.into(&target)).await.map(|restored| assert_eq!(restored.checks.len(), 1));
    (target, done)
}

#[tokio::test]
async fn the_target_gets_exactly_the_bytes_of_the_source() {
    let keys = keys();
    for (compression, encrypt) in [
        (Compression::None, false),
        (Compression::gzip(1), true),
        (Compression::zstd(1), true),
        (Compression::None, true),
    ] {
        let data = content::bytes(5, 5_000_000);
        let sink = MemorySink::new();
        let mut run = backup(FakeSource::of(data.clone())).compress(compression);
        if encrypt {
            run = run.encrypt(keys.writer.clone());
        }
        run.to(Arc::new(sink.clone())).run().await.unwrap();
        // Of several keys the one that fits is taken, whatever the order.
        let other: Arc<dyn Encryptor> = Arc::new(OpenSsl::passphrase("x".to_owned().into()).unwrap());
        let artifact = the_artifact(&sink).await;
        let (target, done) = restore(sink, artifact, &[&other, &keys.writer, &keys.reader]).await;
        done.unwrap();
        assert!(*target.given.lock().unwrap() == data, "{compression}, encrypted: {encrypt}");
        assert_eq!(target.proof.lock().unwrap().as_ref().unwrap().items[0].bytes, 5_000_000);
    }
}

#[tokio::test]
async fn what_is_wrong_at_the_end_reaches_the_target_as_an_error_of_its_stream() {
    let sink = stored(None).await;
    edit_manifest(&sink, KEY, |m| open_private(m).plaintext_xxh3_128 = "0".repeat(32));
    let artifact = the_artifact(&sink).await;
    let (target, done) = restore(sink, artifact, &[]).await;
    assert_eq!(done.unwrap_err().kind(), ErrorKind::Corrupt);
    assert_eq!(*target.given.lock().unwrap(), lines(), "only the end tells");
    let sink = stored(None).await;
    edit_manifest(&sink, KEY, |m| m.objects[0].sha256 = "0".repeat(64));
    let artifact = the_artifact(&sink).await;
    let error = restore(sink, artifact, &[]).await.1.unwrap_err();
    assert!(error.message().contains("SHA-256") && error.subject() == KEY, "{error}");
}

#[tokio::test]
async fn a_restore_with_the_wrong_key_gives_the_target_nothing() {
    let (right, wrong) = (keys(), keys());
    let sink = stored(Some(&right.writer)).await;
    for key in [vec![], vec![&right.writer], vec![&wrong.reader]] {
        let artifact = the_artifact(&sink).await;
        let (target, done) = restore(sink.clone(), artifact, &key).await;
        assert_eq!(done.unwrap_err().kind(), ErrorKind::Decrypt);
        assert!(target.given.lock().unwrap().is_empty());
    }
}

#[tokio::test]
async fn a_restore_of_a_damaged_artifact_says_that_its_data_is_gone() {
    let sink = stored(None).await;
    sink.delete(&[KEY.to_owned()]).await.unwrap();
    let artifact = the_artifact(&sink).await;
    let error = restore(sink, artifact, &[]).await.1.unwrap_err();
    assert_eq!((error.kind(), error.subject()), (ErrorKind::NotFound, KEY));
}

#[tokio::test]
async fn a_cancelled_restore_ends_with_an_error_whatever_hangs() {
    for hangs in [KEY, MANIFEST] {
        let memory = stored(None).await;
        let artifact = the_artifact(&memory).await;
        let cx = context();
        let cancel = cx.cancel.clone();
        let sink = ScriptedSink::over(memory, move |call, key| {
            if call == "get" && key == hangs {
                cancel.cancel();
                return Fate::Hangs;
            }
            Fate::Done
        });
        let target = Keeping::default();
        let error = soon(Restore::new(sink.arc(), artifact).context(cx).into(&target)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Cancelled, "{hangs}");
        assert!(target.given.lock().unwrap().is_empty());
    }
}

#[tokio::test]
async fn a_key_that_may_not_read_says_that_it_could_not_compare_and_a_verification_does() {
    let sink = MemorySink::new();
    let arc: Arc<dyn Sink> = Arc::new(sink.clone());
    let of = |lines: usize, day: &str| {
        let text = (0..lines).fold(String::new(), |text, n| text + &format!("{ITEM},line {n}\n"));
        let source = FakeSource::of(text).tapped_by(|| Box::<LinesTap>::default());
        backup(source).clock(clock_at(&format!("{day}T03:30:00Z")))
    };
    of(100, "2026-11-10").to(arc.clone()).run().await.unwrap();
    let script = |call: &str, _: &str| if call == "get" { Fate::Fails } else { Fate::Done };
    let receipt = of(20, "2026-11-11").to(ScriptedSink::over(sink.clone(), script).arc()).run().await.unwrap();
    assert_eq!(receipt.warnings, [] as [String; 0]);
    assert!(receipt.notes[0].contains("could not be compared"), "{:?}", receipt.notes);
    let newest = async || list_all(&sink, FOLDER, None).await.unwrap().pop().unwrap();
    let told = |report: &Report| report.checks.iter().find(|check| check.name == "amount").cloned();
    let verify = async |level| {
        let verifier = LinesVerifier::default();
        let run = Verify::new(arc.clone(), newest().await, &verifier).level(level).context(context());
        run.run().await.unwrap()
    };
    assert_eq!((newest().await.less_word(), newest().await.holds.len()), (None, 1));
    assert_eq!(told(&verify(Level::Stored).await), None);
    for level in [Level::Structure, Level::Stored] {
        let report = verify(level).await;
        let check = told(&report).unwrap();
        assert_eq!((check.status, check.figure.as_str(), report.passed), (Status::Warn, "less", true), "{check:?}");
        assert_eq!(newest().await.less_word(), Some("less"));
    }
    // A name that somebody else put there is no reason to call a good backup bad.
    let forged = format!("{}.holds-0-0-9-less.json", list_all(&sink, FOLDER, None).await.unwrap()[0].key());
    sink.put(&forged, lifeboat_core::stream::once("{}")).await.unwrap();
    let first = list_all(&sink, FOLDER, None).await.unwrap().remove(0);
    let report =
        Verify::new(arc.clone(), first, &LinesVerifier::default()).level(Level::Structure).run().await.unwrap();
    assert_eq!((told(&report).unwrap().figure.as_str(), report.passed), ("differs", true));
}
