//! The conformance suite for [`Verifier`].
//!
//! ```
//! use lifeboat_conformance::lines::LinesVerifier;
//! use lifeboat_conformance::verifier::{self, Fixture};
//! use lifeboat_core::bytes::Bytes;
//! use lifeboat_core::{ArtifactName, Verifier};
//!
//! struct Backup;
//!
//! impl Fixture for Backup {
//!     fn verifier(&self) -> &dyn Verifier {
//!         &LinesVerifier
//!     }
//!     fn name(&self) -> ArtifactName {
//!         "shop-20261121-033000.lines".parse().unwrap()
//!     }
//!     fn plaintext(&self) -> Bytes {
//!         "one=1\ntwo=2\nend\n".into()
//!     }
//!     fn altered(&self) -> Vec<(String, Bytes)> {
//!         vec![("another value".to_owned(), "one=1\ntwo=3\nend\n".into())]
//!     }
//! }
//!
//! # tokio::runtime::Runtime::new().unwrap().block_on(async {
//! verifier::all(&Backup).await;
//! # });
//! ```

use std::time::Duration;

use bytes::Bytes;
use futures::stream::{self, StreamExt};
use lifeboat_core::{
    ArtifactName, ByteStream, Check, Context, Error, ErrorKind, Proof, RestoreInput, Result, Status, Verifier,
    async_trait,
};

use crate::content::failure;

/// How long the end of a cancelled test, and the clean-up after a dropped one, may take.
const SOON: Duration = Duration::from_secs(15);

/// The input of the suite: a verifier, and a good artifact for it.
#[async_trait]
pub trait Fixture: Send + Sync {
    /// The verifier.
    fn verifier(&self) -> &dyn Verifier;

    /// The name of the artifact.
    fn name(&self) -> ArtifactName;

    /// Its plaintext: a good one, whose proof has an item with a count.
    fn plaintext(&self) -> Bytes;

    /// The same with another content, such as a value that is another: each with a word for it. The suite cuts the plaintext
    /// short by itself.
    fn altered(&self) -> Vec<(String, Bytes)>;

    /// The name of an artifact of a format that the verifier does not know. `None` for one that takes any name, and tells
    /// formats apart by their bytes.
    fn unknown(&self) -> Option<ArtifactName> {
        Some(self.name().format("unheard-of"))
    }

    /// What is left of scratch systems: the names of folders, databases or processes. Empty for a verifier that makes none.
    async fn scratch(&self) -> Vec<String> {
        Vec::new()
    }
}

/// Runs the whole suite.
pub async fn all(fixture: &dyn Fixture) {
    an_unknown_format_is_unsupported(fixture);
    pieces_mean_nothing(fixture);
    an_item_can_be_read_alone(fixture);
    a_good_artifact_passes(fixture).await;
    what_is_cut_short_is_found(fixture).await;
    what_was_altered_is_found(fixture).await;
    another_proof_is_found(fixture).await;
    a_stream_that_fails_never_passes(fixture).await;
    a_cancelled_test_ends_and_cleans_up(fixture).await;
    a_dropped_test_cleans_up(fixture).await;
}

/// What the tap says of these bytes.
fn prove(fixture: &dyn Fixture, plaintext: &Bytes, size: usize) -> Result<Proof> {
    let mut tap = fixture.verifier().tap(&fixture.name()).unwrap();
    for at in (0..plaintext.len()).step_by(size) {
        tap.push(&plaintext[at..plaintext.len().min(at + size)])?;
    }
    tap.finish()
}

fn proof(fixture: &dyn Fixture) -> Proof {
    let proof = prove(fixture, &fixture.plaintext(), 1 << 20).unwrap();
    assert!(proof.total_count() > 0, "the artifact of the fixture holds nothing: {proof:?}");
    proof
}

/// What an extract gives out of these bytes, cut like this, and the proof that it has at the end.
fn extract(
    fixture: &dyn Fixture,
    (item, good): (&str, &Proof),
    plaintext: &Bytes,
    size: usize,
) -> Result<(Vec<u8>, Proof)> {
    let mut given = Vec::new();
    let mut out = |bytes: &[u8]| {
        given.extend_from_slice(bytes);
        Ok(())
    };
    let mut extract = fixture.verifier().extract(&fixture.name(), item, Some(good))?;
    for at in (0..plaintext.len()).step_by(size) {
        extract.take(&plaintext[at..plaintext.len().min(at + size)], &mut out)?;
    }
    let form = extract.form();
    assert!(!form.trim().is_empty() && !form.contains('\n'), "what {item} is, is not said in one line: {form:?}");
    let proof = extract.end(&mut out)?;
    Ok((given, proof))
}

/// An item that has content is read alone, however the bytes are cut, and with the proof of the whole; not out of an artifact that is
/// cut short. One that is not there is said to be missing, and a verifier of which nothing can be read alone says that.
pub fn an_item_can_be_read_alone(fixture: &dyn Fixture) {
    let (plaintext, good) = (fixture.plaintext(), proof(fixture));
    let readable: Vec<_> = good.items.iter().filter(|item| fixture.verifier().has_content(item)).collect();
    let elsewhere =
        extract(fixture, ("an item of somebody else", &good), &plaintext, usize::MAX).map(|(given, _)| given);
    let expected = if readable.is_empty() { ErrorKind::Unsupported } else { ErrorKind::NotFound };
    assert_eq!(elsewhere.map_err(|error| error.kind()), Err(expected), "an item that is not there");
    for item in readable {
        let (whole, proof) = extract(fixture, (&item.name, &good), &plaintext, usize::MAX).unwrap();
        assert_eq!(proof.items, good.items, "{}: the proof is not that of the tap", item.name);
        for size in [7, 4096] {
            let (given, _) = extract(fixture, (&item.name, &good), &plaintext, size).unwrap();
            assert!(given == whole, "{}: other bytes in pieces of {size}", item.name);
        }
        for length in [plaintext.len() / 3, plaintext.len() * 2 / 3, plaintext.len() - plaintext.len() / 20 - 1] {
            if let Ok((_, proof)) = extract(fixture, (&item.name, &good), &plaintext.slice(..length), 4096) {
                assert_ne!(proof.items, good.items, "{}: cut to {length} bytes, it is taken for whole", item.name);
            }
        }
        if whole.is_empty() {
            continue;
        }
        // Whoever reads it may have gone.
        let mut refusing = fixture.verifier().extract(&fixture.name(), &item.name, Some(&good)).unwrap();
        let mut refuse = |_: &[u8]| Err(failure());
        let taken = refusing.take(&plaintext, &mut refuse).and_then(|()| refusing.end(&mut refuse).map(drop));
        assert_eq!(taken.map_err(|error| error.kind()), Err(failure().kind()), "{}", item.name);
    }
}

async fn test(fixture: &dyn Fixture, stream: ByteStream, proof: Option<Proof>) -> Result<Vec<Check>> {
    let input = RestoreInput::new(stream, fixture.name(), proof);
    fixture.verifier().restore_test(input, &Context::default()).await
}

fn once(bytes: Bytes) -> ByteStream {
    stream::iter([Ok(bytes)]).boxed()
}

fn has_failed(checks: &[Check]) -> bool {
    checks.iter().any(|check| check.status == Status::Fail)
}

/// Nothing is left of scratch systems, at once or (after a dropped test) soon.
async fn nothing_is_left(fixture: &dyn Fixture) {
    let begun = tokio::time::Instant::now();
    loop {
        let left = fixture.scratch().await;
        if left.is_empty() {
            return;
        }
        assert!(begun.elapsed() < SOON, "left behind: {left:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// An unknown format is refused as unsupported.
pub fn an_unknown_format_is_unsupported(fixture: &dyn Fixture) {
    let Some(unknown) = fixture.unknown() else { return };
    let tap = fixture.verifier().tap(&unknown);
    assert_eq!(tap.err().map(|error| error.kind()), Some(ErrorKind::Unsupported), "{unknown}");
}

/// The proof is the same however the bytes are split.
pub fn pieces_mean_nothing(fixture: &dyn Fixture) {
    let (plaintext, expected) = (fixture.plaintext(), proof(fixture).items);
    for size in [1, 7, 4096, usize::MAX] {
        assert_eq!(prove(fixture, &plaintext, size).unwrap().items, expected, "in pieces of {size}");
    }
}

/// A good artifact passes, with its proof and, as for a foreign artifact, without.
pub async fn a_good_artifact_passes(fixture: &dyn Fixture) {
    for proof in [Some(proof(fixture)), None] {
        let checks = test(fixture, once(fixture.plaintext()), proof).await.unwrap();
        assert!(!checks.is_empty(), "a test says what was restored");
        assert!(!has_failed(&checks), "{checks:?}");
        nothing_is_left(fixture).await;
    }
}

/// Damage is found by the tap, which fails or has another proof, or by a failed check of the test. A restore that fails is no
/// error of the test.
async fn is_found(fixture: &dyn Fixture, what: &str, damaged: Bytes) {
    let good = proof(fixture);
    let by_tap = match prove(fixture, &damaged, 1 << 20) {
        Ok(proof) => proof.items != good.items,
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{what}: {error}");
            true
        }
    };
    let checks = test(fixture, once(damaged), Some(good)).await;
    let checks = checks.unwrap_or_else(|e| panic!("{what}: a restore that fails is a failed check, not an error: {e}"));
    assert!(by_tap || has_failed(&checks), "{what} is found by nobody: {checks:?}");
    nothing_is_left(fixture).await;
}

/// A truncated plaintext is detected. (Its very last bytes may be insignificant in its format, such as a line end.)
pub async fn what_is_cut_short_is_found(fixture: &dyn Fixture) {
    let whole = fixture.plaintext();
    for length in [0, 1, whole.len() / 3, whole.len() * 2 / 3, whole.len() - whole.len() / 20 - 1] {
        is_found(fixture, &format!("cut to {length} of {} bytes", whole.len()), whole.slice(..length)).await;
    }
}

/// Altered content is detected.
pub async fn what_was_altered_is_found(fixture: &dyn Fixture) {
    let altered = fixture.altered();
    assert!(!altered.is_empty(), "the fixture alters nothing");
    for (what, plaintext) in altered {
        assert_ne!(plaintext, fixture.plaintext(), "{what}: it is the same");
        is_found(fixture, &what, plaintext).await;
    }
}

/// Restored content that does not match the proof fails: a proof of other content, and one of more than was restored.
pub async fn another_proof_is_found(fixture: &dyn Fixture) {
    let good = proof(fixture);
    let altered = fixture.altered().into_iter().filter_map(|(what, plaintext)| {
        let proof = prove(fixture, &plaintext, 1 << 20).ok()?;
        (proof.items != good.items).then(|| (format!("the proof of another content: {what}"), proof))
    });
    let mut proofs: Vec<(String, Proof)> = altered.collect();
    let mut more = good.clone();
    let like = more.items.iter().find(|item| item.count > 0).expect("checked by proof()");
    let another = like.clone().name(format!("{}_of_somebody_else", like.name.trim_matches('"')));
    more.items.push(another);
    proofs.push(("a thing that did not come".to_owned(), more));
    for (what, proof) in proofs {
        let checks = test(fixture, once(fixture.plaintext()), Some(proof)).await.unwrap();
        assert!(has_failed(&checks), "{what}: {checks:?}");
    }
    nothing_is_left(fixture).await;
}

/// The test never passes after an error of the stream, whatever came before.
pub async fn a_stream_that_fails_never_passes(fixture: &dyn Fixture) {
    let whole = fixture.plaintext();
    for after in [0, whole.len() / 2, whole.len()] {
        let stream = stream::iter([Ok(whole.slice(..after)), Err(failure())]).boxed();
        match test(fixture, stream, Some(proof(fixture))).await {
            Ok(checks) => assert!(has_failed(&checks), "the stream failed after {after} bytes: {checks:?}"),
            Err(error) => assert_ne!(error.kind(), ErrorKind::Internal, "{error}"),
        }
        nothing_is_left(fixture).await;
    }
}

/// Half of the plaintext, then nothing until the run is cancelled, then the error that says so: what the pipeline gives.
fn until_cancelled(fixture: &dyn Fixture, cx: &Context) -> ByteStream {
    let (whole, cancel) = (fixture.plaintext(), cx.cancel.clone());
    let end = async move {
        cancel.cancelled().await;
        Err(Error::cancelled("read", "the artifact"))
    };
    stream::iter([Ok(whole.slice(..whole.len() / 2))]).chain(stream::once(end)).boxed()
}

/// A cancelled test ends soon, does not pass, and leaves nothing behind.
pub async fn a_cancelled_test_ends_and_cleans_up(fixture: &dyn Fixture) {
    let cx = Context::default();
    let input = RestoreInput::new(until_cancelled(fixture, &cx), fixture.name(), Some(proof(fixture)));
    let cancel = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        cx.cancel.cancel();
    };
    let both = futures::future::join(fixture.verifier().restore_test(input, &cx), cancel);
    let (ended, ()) = tokio::time::timeout(SOON, both).await.expect("a cancelled test ends soon");
    assert!(ended.as_ref().map_or(true, |checks| has_failed(checks)), "it was cancelled, and says {ended:?}");
    nothing_is_left(fixture).await;
}

/// A test whose future is dropped leaves nothing behind either.
pub async fn a_dropped_test_cleans_up(fixture: &dyn Fixture) {
    let cx = Context::default();
    let input = RestoreInput::new(until_cancelled(fixture, &cx), fixture.name(), Some(proof(fixture)));
    let running = fixture.verifier().restore_test(input, &cx);
    let ended = tokio::time::timeout(Duration::from_millis(700), running).await;
    assert!(ended.is_err(), "the artifact has no end, and the test says {ended:?}");
    nothing_is_left(fixture).await;
}
