//! The S3 sink against an imitation of Backblaze B2. What is imitated, and what is not, is in `lifeboat_testkit::b2`.
#![cfg(feature = "s3")]
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::TryStreamExt;
use lifeboat_core::stream::once;
use lifeboat_core::{Error, ErrorKind, Sink};
use lifeboat_sinks::{Credentials, Environment, Retry, Settings};
use lifeboat_testkit::b2::{ALL, ApplicationKey, B2, Cap};
use lifeboat_testkit::conformance::sink as conformance;
use lifeboat_testkit::content::stream_of;
use lifeboat_testkit::minio::Minio;

fn settings(b2: &B2, key: &ApplicationKey) -> Settings {
    Settings::default()
        .environment(Environment::empty())
        .credentials(Some(Credentials::new(&key.id, key.secret.as_str())))
        .endpoint(Some(b2.endpoint()))
        .retry(
            Retry::default()
                .limit(Duration::from_secs(10))
                .first(Duration::from_millis(20))
                .longest(Duration::from_millis(200)),
        )
        .first_part(5_u64 << 20)
}

fn open_as(b2: &B2, key: &ApplicationKey) -> Arc<dyn Sink> {
    lifeboat_sinks::open_with(&b2.sink_url(), &settings(b2, key)).unwrap()
}

async fn fresh() -> (B2, Arc<dyn Sink>) {
    let b2 = B2::start(&Minio::shared()).await;
    let sink = open_as(&b2, b2.key());
    (b2, sink)
}

async fn list_error(sink: &dyn Sink) -> Error {
    sink.list("").try_collect::<Vec<_>>().await.unwrap_err()
}

#[tokio::test(flavor = "multi_thread")]
async fn b2_sink_conforms_and_sends_nothing_that_b2_does_not_have() {
    let (b2, sink) = fresh().await;
    conformance::all(&*sink).await;
    assert_eq!(b2.refused(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn b2_sink_writes_into_a_bucket_with_object_lock() {
    let b2 = B2::start_locked(&Minio::shared(), 1).await;
    let sink = open_as(&b2, b2.key());
    for size in [0, 1000, 11 << 20] {
        let key = format!("pg/{size}");
        assert_eq!(sink.put(&key, stream_of(1, size)).await.unwrap(), size as u64);
        assert_eq!(sink.head(&key).await.unwrap().bytes, size as u64);
    }
    assert_eq!(b2.refused(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn b2_that_is_busy_is_asked_again_after_the_time_it_asked_for() {
    let (b2, sink) = fresh().await;
    b2.be_busy(3, None);
    sink.put("a", once("x")).await.unwrap();
    b2.be_busy(1, Some(1));
    let begun = Instant::now();
    sink.put("b", once("x")).await.unwrap();
    assert!(begun.elapsed() >= Duration::from_secs(1), "{:?}", begun.elapsed());
    b2.be_busy(u64::MAX, None);
    let impatient = settings(&b2, b2.key()).retry(settings(&b2, b2.key()).retry.limit(Duration::from_millis(300)));
    let sink = lifeboat_sinks::open_with(&b2.sink_url(), &impatient).unwrap();
    let error = list_error(&*sink).await;
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.message().contains("no tomes available"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cap_that_is_reached_is_named_and_not_taken_for_a_missing_right() {
    let (b2, sink) = fresh().await;
    sink.put("a", once("x")).await.unwrap();
    for cap in [Cap::Transactions, Cap::Storage, Cap::Download] {
        b2.reach(Some(cap));
        let error = match cap {
            Cap::Storage => sink.put("b", once("x")).await.unwrap_err(),
            Cap::Transactions | Cap::Download => sink.get("a", None).await.err().unwrap(),
        };
        assert_eq!(error.kind(), ErrorKind::Io, "{cap:?}: {error}");
        assert!(error.message().contains("cap exceeded"), "{cap:?}: {error}");
        let advice = error.advice().unwrap();
        assert!(advice.contains("cap") && !advice.contains("right"), "{cap:?}: {advice}");
        assert!(!error.is_transient());
    }
    b2.reach(None);
    assert!(sink.get("a", None).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_application_key_is_said_to_be_wrong() {
    let (b2, _) = fresh().await;
    let with = |id: &str, secret: &str| {
        let credentials = Some(Credentials::new(id, secret));
        lifeboat_sinks::open_with(&b2.sink_url(), &settings(&b2, b2.key()).credentials(credentials)).unwrap()
    };
    let other = b2.key().id.replace("004", "005");
    for (id, secret, words) in [
        (b2.key().id.as_str(), "K004hunter2hunter2", "the secret key is wrong"),
        (other.as_str(), "K004hunter2hunter2", "does not know the access key"),
        // The master application key's id is the account's: 12 digits.
        ("0123456789ab", "K004hunter2hunter2", "does not accept this key for its S3 interface"),
    ] {
        let error = list_error(&*with(id, secret)).await;
        assert_eq!(error.kind(), ErrorKind::Permission, "{error}");
        assert!(error.message().contains(words), "{error}");
        // It came from no variable.
        assert!(error.advice().unwrap().contains("key that was given"), "{:?}", error.advice());
        assert!(!format!("{error:?}").contains("hunter2"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_only_key_is_told_which_capability_it_lacks() {
    let (b2, sink) = fresh().await;
    sink.put("pg/a", once("x")).await.unwrap();
    let reader = open_as(&b2, &b2.restricted(&["listBuckets", "listFiles", "readFiles"], ""));
    assert_eq!(conformance::keys(&*reader, "").await, ["pg/a"]);
    assert!(reader.get("pg/a", None).await.is_ok());
    for size in [1, 11 << 20] {
        let error = reader.put("pg/b", stream_of(1, size)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Permission, "{error}");
        assert!(error.message().contains("not entitled"), "{error}");
        assert!(error.advice().unwrap().contains("writeFiles"), "{:?}", error.advice());
    }
    let denied = match reader.delete(&["pg/a".to_owned()]).await {
        Ok(deleted) => deleted.failed.into_iter().map(|(_, why)| why).collect(),
        Err(error) => format!("{:?} {error} {}", error.kind(), error.advice().unwrap_or_default()),
    };
    assert!(denied.contains("deleteFiles"), "{denied}");
    assert_eq!(conformance::keys(&*sink, "").await, ["pg/a"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_for_another_prefix_is_told_so() {
    let (b2, _) = fresh().await;
    let key = b2.restricted(ALL, "velero/");
    let sink = open_as(&b2, &key);
    let error = sink.put("pg/a", once("x")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Permission, "{error}");
    let advice = error.advice().unwrap();
    assert!(advice.contains("writeFiles") && advice.contains("prefix"), "{advice}");
    let error = list_error(&*sink).await;
    let advice = error.advice().unwrap();
    assert!(advice.contains("listFiles") && advice.contains("prefix"), "{advice}");
    // Within its prefix it does everything.
    let url = format!("b2://{}/velero?region={}", b2.bucket(), lifeboat_testkit::b2::REGION);
    let inside = lifeboat_sinks::open_with(&url, &settings(&b2, &key)).unwrap();
    conformance::all(&*inside).await;
    assert_eq!(b2.refused(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_may_only_add_is_enough_to_store_and_never_hides_what_is_there() {
    let (b2, sink) = fresh().await;
    let writer = open_as(&b2, &b2.restricted(&["listBuckets", "listFiles", "readFiles", "writeFiles"], ""));
    for size in [10, 11 << 20] {
        let key = format!("pg/{size}");
        assert_eq!(writer.put(&key, stream_of(1, size)).await.unwrap(), size as u64);
        assert_eq!(writer.put(&key, stream_of(2, size)).await.unwrap_err().kind(), ErrorKind::AlreadyExists);
        let stored: Vec<_> = sink.get(&key, None).await.unwrap().try_collect().await.unwrap();
        let expected: Vec<_> = stream_of(1, size).try_collect().await.unwrap();
        assert!(stored.concat() == expected.concat(), "{key}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_bucket_and_another_region_are_named() {
    let (b2, _) = fresh().await;
    let region = lifeboat_testkit::b2::REGION;
    let open = |url: String| lifeboat_sinks::open_with(&url, &settings(&b2, b2.key())).unwrap();
    let error = list_error(&*open(format!("b2://no-such-bucket?region={region}"))).await;
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.message().contains("\"no-such-bucket\""), "{error}");
    // B2 checks the signature with its own region: it can only say that the signature is wrong.
    let error = list_error(&*open(format!("b2://{}?region=eu-central-003", b2.bucket()))).await;
    assert_eq!(error.kind(), ErrorKind::Permission);
    assert!(error.advice().unwrap().contains("region"), "{:?}", error.advice());
}
