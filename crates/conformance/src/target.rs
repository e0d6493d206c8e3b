//! What every [`Target`] promises.
//!
//! ```
//! use lifeboat_conformance::lines::{LinesTarget, Table};
//! use lifeboat_conformance::target::{self, Fixture, Place};
//! use lifeboat_core::bytes::Bytes;
//! use lifeboat_core::{ArtifactName, Target, async_trait};
//!
//! struct Backup;
//!
//! #[async_trait]
//! impl Fixture for Backup {
//!     fn name(&self) -> ArtifactName {
//!         "shop-20261121-033000.lines".parse().unwrap()
//!     }
//!     fn plaintext(&self) -> Bytes {
//!         "one=1\ntwo=2\nend\n".into()
//!     }
//!     async fn place(&self) -> Box<dyn Place> {
//!         Box::new(InMemory(Table::default()))
//!     }
//! }
//!
//! struct InMemory(Table);
//!
//! #[async_trait]
//! impl Place for InMemory {
//!     fn target(&self, replace: bool) -> Box<dyn Target> {
//!         Box::new(LinesTarget::new(self.0.clone()).replace(replace))
//!     }
//!     async fn state(&self) -> String {
//!         format!("{:?}", self.0.content())
//!     }
//!     async fn fill(&self) {
//!         self.0.set([("somebody".to_owned(), "else".to_owned())].into());
//!     }
//! }
//!
//! # tokio::runtime::Runtime::new().unwrap().block_on(async {
//! target::all(&Backup).await;
//! # });
//! ```

use std::time::Duration;

use bytes::Bytes;
use futures::stream::{self, StreamExt};
use lifeboat_core::{
    ArtifactName, ByteStream, Check, Context, Error, ErrorKind, Proof, RestoreInput, Result, Status, Target,
    async_trait,
};

use crate::content::failure;

/// How long the end of a cancelled restore may take.
const SOON: Duration = Duration::from_secs(10);

/// What the suite has to be given: a good artifact, and places to restore it into.
#[async_trait]
pub trait Fixture: Send + Sync {
    /// The name of the artifact.
    fn name(&self) -> ArtifactName;

    /// Its plaintext: a good one, of more than a few bytes.
    fn plaintext(&self) -> Bytes;

    /// Its proof, where the target compares with one.
    fn proof(&self) -> Option<Proof> {
        None
    }

    /// Whether a target can be built that replaces what is there. Without it, [`Place::target`] is never asked for one.
    fn replaces(&self) -> bool {
        true
    }

    /// A new place in which nothing is. It goes when it is dropped.
    async fn place(&self) -> Box<dyn Place>;
}

/// A place that can be restored into.
#[async_trait]
pub trait Place: Send + Sync {
    /// The target that restores into it, with leave to replace what is there or without.
    fn target(&self, replace: bool) -> Box<dyn Target>;

    /// Everything that is there, in a form that is the same for the same content and names no place: what a restore has made
    /// in one place and in another is compared, and so is what was there before with what is there after. What half a restore
    /// would leave behind belongs to it, such as temporary files and databases.
    async fn state(&self) -> String;

    /// Puts something there that is not of the artifact, as somebody else would have.
    async fn fill(&self);
}

/// Runs all of it.
pub async fn all(fixture: &dyn Fixture) {
    restores_and_says_what(fixture).await;
    pieces_mean_nothing(fixture).await;
    what_is_there_is_not_touched_without_leave(fixture).await;
    what_is_there_is_replaced_with_leave(fixture).await;
    a_stream_that_fails_changes_nothing(fixture).await;
    a_stream_that_fails_replaces_nothing(fixture).await;
    a_restore_after_one_that_failed_works(fixture).await;
    a_cancelled_restore_ends_and_cleans_up(fixture).await;
    a_plan_changes_nothing(fixture).await;
}

fn input(fixture: &dyn Fixture, stream: ByteStream) -> RestoreInput {
    RestoreInput::new(stream, fixture.name(), fixture.proof())
}

/// The whole plaintext, in pieces of this size.
fn whole(fixture: &dyn Fixture, size: usize) -> ByteStream {
    let bytes = fixture.plaintext();
    let pieces: Vec<_> =
        (0..bytes.len()).step_by(size).map(|at| Ok(bytes.slice(at..bytes.len().min(at + size)))).collect();
    stream::iter(pieces).boxed()
}

/// The first bytes of the plaintext, and then an error.
fn broken(fixture: &dyn Fixture, after: usize) -> ByteStream {
    stream::iter([Ok(fixture.plaintext().slice(..after)), Err(failure())]).boxed()
}

/// Where a stream breaks: before the first byte, within, and after the last one.
fn breaks(fixture: &dyn Fixture) -> [usize; 5] {
    let length = fixture.plaintext().len();
    assert!(length > 10, "the plaintext is too short to be cut: {length} bytes");
    [0, 1, length / 2, length - 1, length]
}

async fn restore(fixture: &dyn Fixture, target: &dyn Target, stream: ByteStream) -> Result<Vec<Check>> {
    target.restore(input(fixture, stream), &Context::default()).await
}

#[track_caller]
fn assert_good(checks: &[Check]) {
    assert!(!checks.is_empty(), "a restore says what was restored");
    assert!(checks.iter().all(|check| check.status != Status::Fail), "{checks:?}");
}

/// What is in a place after a good restore. It differs from an empty place.
async fn restored(fixture: &dyn Fixture) -> String {
    let place = fixture.place().await;
    let empty = place.state().await;
    assert_good(&restore(fixture, &*place.target(false), whole(fixture, 1 << 20)).await.unwrap());
    let state = place.state().await;
    assert_ne!(state, empty, "the restore has made nothing, or the state does not show it");
    state
}

/// A good artifact is restored into an empty place, the same each time, and the checks say what was restored.
pub async fn restores_and_says_what(fixture: &dyn Fixture) {
    assert_eq!(restored(fixture).await, restored(fixture).await, "the same artifact makes the same of each place");
}

/// The stream may come in pieces of any size.
pub async fn pieces_mean_nothing(fixture: &dyn Fixture) {
    let expected = restored(fixture).await;
    let few = (fixture.plaintext().len() / 500).max(1);
    for size in [few, 4097] {
        let place = fixture.place().await;
        assert_good(&restore(fixture, &*place.target(false), whole(fixture, size)).await.unwrap());
        assert_eq!(place.state().await, expected, "in pieces of {size} bytes");
    }
}

/// A place that is not empty is refused. A target that plans is exempt: what it does to what is there, its plan says.
pub async fn what_is_there_is_not_touched_without_leave(fixture: &dyn Fixture) {
    let place = fixture.place().await;
    let target = place.target(false);
    if target.plans() {
        return;
    }
    place.fill().await;
    let before = place.state().await;
    let error = restore(fixture, &*target, whole(fixture, 1 << 20)).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Refused | ErrorKind::AlreadyExists), "{}: {error}", error.kind());
    assert_eq!(place.state().await, before);
}

/// With leave, what is there makes room. A target that plans is exempt.
pub async fn what_is_there_is_replaced_with_leave(fixture: &dyn Fixture) {
    if !fixture.replaces() {
        return;
    }
    let place = fixture.place().await;
    let target = place.target(true);
    if target.plans() {
        return;
    }
    let expected = restored(fixture).await;
    place.fill().await;
    assert_ne!(place.state().await, expected, "what the place was filled with is not of the artifact");
    assert_good(&restore(fixture, &*target, whole(fixture, 1 << 20)).await.unwrap());
    assert_eq!(place.state().await, expected);
}

/// When the stream ends with an error, so does the restore, and the place is as it was: however much has come, even all of it.
pub async fn a_stream_that_fails_changes_nothing(fixture: &dyn Fixture) {
    let place = fixture.place().await;
    let before = place.state().await;
    for after in breaks(fixture) {
        let ended = restore(fixture, &*place.target(false), broken(fixture, after)).await;
        assert!(ended.is_err(), "the stream failed after {after} bytes, and the restore says {ended:?}");
        assert_eq!(place.state().await, before, "after {after} bytes");
    }
}

/// What is to be replaced stays until its replacement is known to be good.
pub async fn a_stream_that_fails_replaces_nothing(fixture: &dyn Fixture) {
    if !fixture.replaces() {
        return;
    }
    let place = fixture.place().await;
    place.fill().await;
    let before = place.state().await;
    for after in breaks(fixture) {
        let ended = restore(fixture, &*place.target(true), broken(fixture, after)).await;
        assert!(ended.is_err(), "the stream failed after {after} bytes, and the restore says {ended:?}");
        assert_eq!(place.state().await, before, "after {after} bytes");
    }
}

/// A restore that failed does not stand in the way of the next one.
pub async fn a_restore_after_one_that_failed_works(fixture: &dyn Fixture) {
    let expected = restored(fixture).await;
    let place = fixture.place().await;
    let half = fixture.plaintext().len() / 2;
    restore(fixture, &*place.target(false), broken(fixture, half)).await.unwrap_err();
    assert_good(&restore(fixture, &*place.target(false), whole(fixture, 1 << 20)).await.unwrap());
    assert_eq!(place.state().await, expected);
}

/// The first half of the plaintext, then nothing until the run is cancelled, then the error that says so: what the pipeline
/// gives a target.
fn until_cancelled(fixture: &dyn Fixture, cx: &Context) -> ByteStream {
    let half = fixture.plaintext().len() / 2;
    let (first, cancel) = (fixture.plaintext().slice(..half), cx.cancel.clone());
    let end = async move {
        cancel.cancelled().await;
        Err(Error::cancelled("read", "the artifact"))
    };
    stream::iter([Ok(first)]).chain(stream::once(end)).boxed()
}

/// A restore that is cancelled in the middle ends soon, with an error, and undoes what it did.
pub async fn a_cancelled_restore_ends_and_cleans_up(fixture: &dyn Fixture) {
    let place = fixture.place().await;
    let before = place.state().await;
    let (target, cx) = (place.target(false), Context::default());
    let input = input(fixture, until_cancelled(fixture, &cx));
    let cancel = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        cx.cancel.cancel();
    };
    let both = futures::future::join(target.restore(input, &cx), cancel);
    let (ended, ()) = tokio::time::timeout(SOON, both).await.expect("a cancelled restore ends soon");
    assert!(ended.is_err(), "it was cancelled, and says {ended:?}");
    assert_eq!(place.state().await, before);
}

/// A target that plans reads the artifact to its end, changes nothing, and has nothing to do once it has been restored. One
/// that does not plan says so.
pub async fn a_plan_changes_nothing(fixture: &dyn Fixture) {
    let place = fixture.place().await;
    let (target, cx) = (place.target(false), Context::default());
    let before = place.state().await;
    let planned = target.plan(input(fixture, whole(fixture, 1 << 20)), &cx).await;
    assert_eq!(place.state().await, before, "a plan changes nothing");
    if !target.plans() {
        assert_eq!(planned.err().map(|error| error.kind()), Some(ErrorKind::Unsupported));
        return;
    }
    let prepared = planned.unwrap();
    assert!(prepared.plan().counts().to_do() > 0, "nothing is there, and nothing is to be done: {:?}", prepared.plan());
    drop(prepared);
    for after in breaks(fixture) {
        let planned = target.plan(input(fixture, broken(fixture, after)), &cx).await;
        assert!(planned.is_err(), "the stream failed after {after} bytes, and there is a plan");
        assert_eq!(place.state().await, before);
    }
    assert_good(&restore(fixture, &*target, whole(fixture, 1 << 20)).await.unwrap());
    let again = target.plan(input(fixture, whole(fixture, 1 << 20)), &cx).await.unwrap();
    assert_eq!(again.plan().counts().to_do(), 0, "it has just been restored: {:?}", again.plan());
}
