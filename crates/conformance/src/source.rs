//! What every [`Source`] promises.
//!
//! ```
//! use lifeboat_core::futures::StreamExt;
//! use lifeboat_core::proof::WholeStream;
//! use lifeboat_core::{Context, Description, Reading, Result, Source, async_trait, stream};
//!
//! struct Numbers;
//!
//! #[async_trait]
//! impl Source for Numbers {
//!     async fn describe(&self) -> Result<Description> {
//!         Ok(Description::new("numbers", "txt"))
//!     }
//!
//!     async fn open(&self, _: &Context) -> Result<Reading> {
//!         let chunks = (0..100_000).map(|n| Ok(format!("{n}\n").into()));
//!         Ok(Reading::new(lifeboat_core::futures::stream::iter(chunks).boxed(), Box::new(WholeStream::new("numbers"))))
//!     }
//! }
//!
//! # tokio::runtime::Runtime::new().unwrap().block_on(async {
//! lifeboat_conformance::source::all(&Numbers).await;
//! # });
//! ```

use std::time::Duration;

use futures::StreamExt;
use lifeboat_core::{ArtifactName, Context, ErrorKind, Proof, Reading, Source};

/// How long the end of a cancelled source may take.
const SOON: Duration = Duration::from_secs(5);

/// Runs all of it. The dataset does not change, and holds half a megabyte or more, so that a source can be left in the middle.
pub async fn all(source: &dyn Source) {
    looking_changes_nothing(source).await;
    two_readings_agree(source).await;
    an_estimate_is_near_and_changes_nothing(source).await;
    a_reading_can_be_left_in_the_middle(source).await;
    cancelling_ends_it(source).await;
}

/// `describe` says the same each time, and names what the manifest needs.
pub async fn looking_changes_nothing(source: &dyn Source) {
    let first = source.describe().await.unwrap();
    assert_eq!(first, source.describe().await.unwrap());
    let name = format!("shop-20261121-033000.{}", first.format).parse::<ArtifactName>();
    assert!(!first.format.is_empty() && name.is_ok(), "no name can end in the format {:?}", first.format);
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
    assert!(!first.system.is_empty() && first.system.chars().all(plain), "the system {:?}", first.system);
}

async fn read(source: &dyn Source) -> Proof {
    measured(source).await.0
}

/// The proof, and how many bytes it was taken from.
async fn measured(source: &dyn Source) -> (Proof, u64) {
    let mut reading = source.open(&Context::default()).await.unwrap();
    let mut bytes = 0;
    while let Some(chunk) = reading.stream.next().await {
        let chunk = chunk.unwrap();
        bytes += chunk.len() as u64;
        reading.tap.push(&chunk).unwrap();
    }
    (reading.tap.finish().unwrap(), bytes)
}

/// What does not change has the same proof each time.
pub async fn two_readings_agree(source: &dyn Source) {
    let (first, second) = (read(source).await, read(source).await);
    assert!(!first.items.is_empty());
    assert_eq!(first.items, second.items);
}

/// An estimate is right to an order of magnitude, and asking for it changes nothing. A source may have none.
pub async fn an_estimate_is_near_and_changes_nothing(source: &dyn Source) {
    if source.estimate().await.unwrap().is_none() {
        return;
    }
    let ((before, bytes), described) = (measured(source).await, source.describe().await.unwrap());
    for _ in 0..2 {
        let estimate = source.estimate().await.unwrap().expect("it had an estimate before").bytes;
        let near = estimate.max(bytes) / 10 <= estimate.min(bytes);
        assert!(near, "about {estimate} bytes were to come, and {bytes} came");
    }
    assert_eq!(source.describe().await.unwrap(), described);
    assert_eq!(read(source).await.items, before.items, "something changed while it was asked");
}

/// A tap that has seen half does not say what one says that has seen everything, and a stream that is dropped holds nothing up.
pub async fn a_reading_can_be_left_in_the_middle(source: &dyn Source) {
    let whole = read(source).await;
    let mut reading = source.open(&Context::default()).await.unwrap();
    let chunk = reading.stream.next().await.unwrap().unwrap();
    let half = &chunk[..chunk.len() / 2];
    if reading.tap.push(half).is_ok() {
        // Where the format shows its end, this is an error; a stream without structure has another proof.
        match reading.tap.finish() {
            Ok(proof) => assert_ne!(proof.items, whole.items, "half of it has the proof of the whole"),
            Err(error) => assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}"),
        }
    }
    drop(reading.stream);
    read(source).await;
}

/// A reading that is cancelled ends soon with an error that says so, or when it is dropped. It never ends as if it were complete
/// when it is not.
pub async fn cancelling_ends_it(source: &dyn Source) {
    let context = Context::default();
    let mut reading = source.open(&context).await.unwrap();
    let first = reading.stream.next().await.unwrap().unwrap();
    reading.tap.push(&first).unwrap();
    context.cancel.cancel();
    let Reading { mut stream, mut tap, .. } = reading;
    let rest = async {
        while let Some(chunk) = stream.next().await {
            tap.push(&chunk?)?;
        }
        tap.finish()
    };
    // It may wait to be dropped, as the pipeline does when a run is cancelled.
    match tokio::time::timeout(SOON, rest).await {
        Ok(Ok(proof)) => assert_eq!(proof.items, read(source).await.items, "it was cancelled, and ends as if complete"),
        Ok(Err(error)) => assert_eq!(error.kind(), ErrorKind::Cancelled, "{error}"),
        Err(_) => {}
    }
    tokio::time::timeout(SOON, async { drop(stream) }).await.unwrap();
}
