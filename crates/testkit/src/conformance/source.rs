//! What every [`Source`] promises.

use std::time::Duration;

use futures::StreamExt;
use lifeboat_core::{Context, ErrorKind, Proof, Source};

/// How long the end of a cancelled source may take.
const SOON: Duration = Duration::from_secs(5);

/// Runs all of it. The dataset must hold a megabyte or more, so that a source can be left in the middle.
pub async fn all(source: &dyn Source) {
    looking_changes_nothing(source).await;
    two_readings_agree(source).await;
    a_reading_can_be_left_in_the_middle(source).await;
    cancelling_ends_it(source).await;
}

/// `describe` says the same each time, and names what the manifest needs.
pub async fn looking_changes_nothing(source: &dyn Source) {
    let first = source.describe().await.unwrap();
    assert_eq!(first, source.describe().await.unwrap());
    assert!(!first.system.is_empty() && !first.format.is_empty() && !first.dataset.is_empty());
}

async fn read(source: &dyn Source) -> Proof {
    let mut reading = source.open(&Context::default()).await.unwrap();
    while let Some(chunk) = reading.stream.next().await {
        reading.tap.push(&chunk.unwrap()).unwrap();
    }
    reading.tap.finish().unwrap()
}

/// What does not change has the same proof each time.
pub async fn two_readings_agree(source: &dyn Source) {
    let (first, second) = (read(source).await, read(source).await);
    assert!(!first.items.is_empty());
    assert_eq!(first.items, second.items);
}

/// A tap that has not seen the end does not say that it has, and a stream that is dropped holds nothing up.
pub async fn a_reading_can_be_left_in_the_middle(source: &dyn Source) {
    let mut reading = source.open(&Context::default()).await.unwrap();
    let chunk = reading.stream.next().await.unwrap().unwrap();
    let half = &chunk[..chunk.len() / 2];
    if reading.tap.push(half).is_ok() {
        assert_eq!(reading.tap.finish().unwrap_err().kind(), ErrorKind::Corrupt);
    }
    drop(reading.stream);
    read(source).await;
}

/// A run that is cancelled through the pipeline ends soon, with an error that says so.
pub async fn cancelling_ends_it(source: &dyn Source) {
    let context = Context::default();
    let mut reading = source.open(&context).await.unwrap();
    reading.stream.next().await.unwrap().unwrap();
    context.cancel.cancel();
    // The source may end by itself or wait to be dropped; either is soon.
    let rest = async { while let Some(Ok(_)) = reading.stream.next().await {} };
    let _ = tokio::time::timeout(SOON, rest).await;
    tokio::time::timeout(SOON, async { drop(reading) }).await.unwrap();
}
