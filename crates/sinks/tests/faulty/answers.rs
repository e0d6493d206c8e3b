//! What the S3 sink makes of answers that are not those of a store that has done what was asked.

use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use jiff::Timestamp;
use lifeboat_core::sink::upkeep;
use lifeboat_core::stream::{collect, once};
use lifeboat_core::{Error, ErrorKind, ObjectInfo, Result, Sink, Status, check};
use lifeboat_sinks::{Credentials, Environment, Retry, Settings};
use lifeboat_testkit::content::{bytes, stream_of};
use lifeboat_testkit::faulty::{Call, Fault, FaultProxy, Schedule};
use lifeboat_testkit::s3::{Lie, Lies, Refusal, S3, Ways};

use super::MIB;

pub(crate) fn retry() -> Retry {
    Retry::default()
        .limit(Duration::from_millis(100))
        .first_contact(Duration::from_millis(100))
        .first(Duration::from_millis(2))
        .longest(Duration::from_millis(20))
        .stall(Duration::from_secs(20))
}

pub(crate) fn open(url: &str, endpoint: Option<String>) -> Arc<dyn Sink> {
    let settings = Settings::default()
        .environment(Environment::empty())
        .credentials(Some(Credentials::new("user", "hunter2-hunter2")))
        .endpoint(endpoint)
        .retry(retry())
        .first_part(5_u64 << 20);
    lifeboat_sinks::open_with(url, &settings).unwrap()
}

fn sink_of(store: &S3) -> Arc<dyn Sink> {
    open(&store.sink_url("bucket/pg"), None)
}

async fn listed(sink: &dyn Sink, prefix: &str) -> Result<Vec<String>> {
    let objects: Vec<ObjectInfo> = sink.list(prefix).try_collect().await?;
    Ok(objects.into_iter().map(|object| object.key).collect())
}

fn is_told(error: &Error, what: &dyn std::fmt::Debug) {
    let sensible =
        [ErrorKind::Unsupported, ErrorKind::Corrupt, ErrorKind::Unavailable, ErrorKind::NotFound, ErrorKind::Io];
    assert!(sensible.contains(&error.kind()) && !error.message().is_empty(), "{what:?}: {:?} {error}", error.kind());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_is_only_said_to_be_done_fails_and_leaves_nothing() {
    use Lie::*;

    let store = S3::honest().await;
    let sink = sink_of(&store);
    for (call, length) in [(Call::Put, 40_000), (Call::Complete, 5 * MIB + 7), (Call::PutPart, 5 * MIB + 7)] {
        for lie in [SaysNothing, DoesAndSaysNothing, Forgets, Cuts, Flips, ErrorInside, PageForPeople] {
            let what = (call, lie);
            // That of a part is its ETag, which the completion repeats.
            store.set(Lies::always(call, "/pg/a.dump", lie));
            let error = sink.put("a.dump", stream_of(1, length)).await.err();
            let error =
                error.unwrap_or_else(|| panic!("{what:?}: {:?}", store.bytes("bucket/pg/a.dump").map(|b| b.len())));
            is_told(&error, &what);
            store.be_honest();
            match lie {
                // It is there, whole; only the answer was none.
                DoesAndSaysNothing if call != Call::PutPart => drop(sink.delete(&["a.dump".to_owned()]).await.unwrap()),
                _ => assert_eq!(store.bytes("bucket/pg/a.dump"), None, "{what:?}: {error}"),
            }
            // Nor is anything in the way of the next attempt.
            sink.put("a.dump", stream_of(1, length)).await.unwrap();
            store.set(Lies::always(call, "/pg/a.dump", lie));
            let error = sink.replace("a.dump", stream_of(2, length)).await.unwrap_err();
            is_told(&error, &what);
            store.be_honest();
            assert_eq!(sink.delete(&["a.dump".to_owned()]).await.unwrap().failed, [], "{what:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_written_is_known_again_without_metadata() {
    let store = S3::start(Ways { forgets_metadata: true, ..Ways::default() }, Lies::none()).await;
    let sink = sink_of(&store);
    for length in [40_000, 5 * MIB + 7] {
        let key = format!("{length}");
        sink.put(&key, stream_of(1, length)).await.unwrap();
        sink.replace(&key, stream_of(2, length)).await.unwrap();
        store
            .set(Lies::of("forgets", |asked| matches!(asked.call, Call::Put | Call::Complete).then_some(Lie::Forgets)));
        // An old object of the same size is not the new one.
        is_told(&sink.replace(&key, stream_of(3, length)).await.unwrap_err(), &length);
        store.be_honest();
    }
}

#[tokio::test]
async fn an_object_of_which_size_or_time_is_not_said_is_not_looked_up() {
    let store = S3::honest().await;
    let sink = sink_of(&store);
    store.place("bucket/pg/a", "content");
    store.set(Lies::always(Call::Head, "/pg/a", Lie::SaysNothing));
    let error = sink.head("a").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.message().contains("how long the object is"), "{error}");
}

#[tokio::test]
async fn a_range_of_an_object_is_not_empty_because_the_store_says_so() {
    let store = S3::honest().await;
    let sink = sink_of(&store);
    store.place("bucket/pg/a", "0123456789");
    assert_eq!(collect(sink.get("a", Some(2..5)).await.unwrap(), 10, "a").await.unwrap(), "234");
    assert_eq!(collect(sink.get("a", Some(10..15)).await.unwrap(), 10, "a").await.unwrap(), "");
    store.set(Lies::always(Call::Get, "/pg/a", Lie::OutOfRange));
    assert_eq!(collect(sink.get("a", Some(10..15)).await.unwrap(), 10, "a").await.unwrap(), "");
    sink.get("a", Some(2..5)).await.err().unwrap();
}

#[tokio::test]
async fn the_rest_of_another_object_is_not_taken_from_a_store_without_conditions() {
    let store = S3::start(Ways { ignores_conditions: true, ..Ways::default() }, Lies::none()).await;
    let once = Schedule::once(Call::Get, "/pg/a", Fault::Truncate(3 << 20));
    let proxy = FaultProxy::start(&store.host(), once).await;
    let sink = open(&proxy.sink_url("bucket/pg"), None);
    store.place("bucket/pg/a", bytes(1, 5 << 20));
    let mut body = sink.get("a", None).await.unwrap();
    body.next().await.unwrap().unwrap();
    store.place("bucket/pg/a", bytes(2, 5 << 20));
    let error = body.try_collect::<Vec<_>>().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.message().contains("replaced while it was read"), "{error}");
}

const LISTINGS: [Lie; 9] = [
    Lie::SaysNothing,
    Lie::ErrorInside,
    Lie::PageForPeople,
    Lie::NoToken,
    Lie::RepeatsPage,
    Lie::RepeatsToken,
    Lie::Disorder,
    Lie::Stranger,
    Lie::NoEnd,
];

fn lying(lie: Lie) -> Lies {
    Lies::of(format!("{lie:?}"), move |asked| (asked.call == Call::List).then_some(lie))
}

#[tokio::test]
async fn a_listing_without_a_known_end_is_an_error() {
    let store = S3::start(Ways { page: 3, ..Ways::default() }, Lies::none()).await;
    let sink = sink_of(&store);
    let keys: Vec<String> = (0..8).map(|n| format!("shop-{n}")).collect();
    for key in &keys {
        store.place(&format!("bucket/pg/{key}"), "x");
    }
    assert_eq!(listed(&*sink, "").await.unwrap(), keys);
    for lie in LISTINGS {
        store.set(lying(lie));
        is_told(&listed(&*sink, "").await.expect_err(&format!("{lie:?}")), &lie);
    }
    let all_at_once = S3::start(Ways::default(), Lies::none()).await;
    let sink = sink_of(&all_at_once);
    all_at_once.set(lying(Lie::NoToken));
    is_told(&listed(&*sink, "").await.unwrap_err(), &"a page without keys, of several");
}

#[tokio::test]
async fn a_store_that_lists_as_of_old_is_read_to_the_end() {
    let store = S3::start(Ways { page: 3, lists_as_of_old: true, ..Ways::default() }, Lies::none()).await;
    let sink = sink_of(&store);
    let keys: Vec<String> = (0..9).map(|n| format!("with space+{n}/ü&")).collect();
    for key in &keys {
        store.place(&format!("bucket/pg/{key}"), "x");
    }
    assert_eq!(listed(&*sink, "").await.unwrap(), keys);
    store.set(Lies::of("again", |asked| asked.identity.contains("marker").then_some(Lie::RepeatsPage)));
    is_told(&listed(&*sink, "").await.unwrap_err(), &"the first page again");
}

#[tokio::test]
async fn a_listing_of_versions_or_uploads_without_a_known_end_is_an_error() {
    let store = S3::start(Ways { page: 3, is_versioned: true, ..Ways::default() }, Lies::none()).await;
    let sink = sink_of(&store);
    let keys: Vec<String> = (0..8).map(|n| format!("shop-{n}")).collect();
    for key in &keys {
        store.place(&format!("bucket/pg/{key}"), "x");
        store.begin("bucket/pg/upload");
    }
    let later = Timestamp::now() + Duration::from_secs(60);
    let uploads = |dry_run| upkeep(&*sink).abort_uploads_of("upload", later, dry_run);
    assert_eq!(uploads(true).await.unwrap().len(), 8);
    for lie in LISTINGS {
        store.set(lying(lie));
        // A page is put in order here: of one that comes once nothing is lost.
        if lie != Lie::Disorder {
            let hidden = upkeep(&*sink).hidden("").try_collect::<Vec<_>>().await;
            is_told(&hidden.expect_err(&format!("{lie:?}")), &lie);
        }
        // An upload that comes twice is aborted twice, and of another key none is taken.
        if !matches!(lie, Lie::RepeatsPage | Lie::Disorder | Lie::Stranger) {
            is_told(&uploads(true).await.expect_err(&format!("{lie:?}")), &lie);
        }
    }
    store.be_honest();
    // 8 versions of one key go over three pages.
    for _ in 0..7 {
        store.place("bucket/pg/shop-3", "y");
    }
    assert_eq!(sink.delete(&keys).await.unwrap().keys, keys);
    assert_eq!((store.versions(), uploads(false).await.unwrap().len(), store.unfinished()), (0, 8, 0));
}

#[tokio::test]
async fn what_is_said_to_be_deleted_and_stays_could_not_be_deleted() {
    use Lie::*;

    for is_versioned in [false, true] {
        let store = S3::start(Ways { is_versioned, ..Ways::default() }, Lies::none()).await;
        let sink = sink_of(&store);
        let keys = ["a".to_owned(), "b".to_owned()];
        for lie in [SaysNothing, Forgets, ErrorInside, PageForPeople] {
            for key in &keys {
                store.place(&format!("bucket/pg/{key}"), "x");
            }
            store.set(Lies::of(format!("{lie:?}"), move |asked| (asked.call == Call::Delete).then_some(lie)));
            match sink.delete(&keys).await {
                Ok(deleted) => {
                    assert_eq!((deleted.keys, deleted.failed.len()), (vec![], 2), "{lie:?}");
                    assert!(deleted.failed[0].1.contains("still there"), "{:?}", deleted.failed);
                    assert_eq!(deleted.bytes.unwrap_or_default(), 0, "{lie:?}");
                }
                Err(error) => is_told(&error, &lie),
            }
            store.be_honest();
            assert_eq!(store.paths().len(), 2, "{lie:?}");
            assert_eq!(sink.delete(&keys).await.unwrap().keys, keys);
            assert_eq!(store.versions(), 0);
        }
        // What a bucket does with versions is not guessed.
        store.set(Lies::of("settings", |asked| (asked.call == Call::Other).then_some(SaysNothing)));
        is_told(&sink_of(&store).delete(&keys).await.unwrap_err(), &"versioning");
    }
}

const GENERAL: &str = "A header you provided implies functionality that is not implemented";

/// Refusals as stores were seen to send them: AWS and versitygw, MinIO before it knew conditions, Backblaze, Ceph, Oracle.
fn refusals() -> Vec<(&'static str, Vec<Refusal>)> {
    let of = |header, status, code, message, element| Refusal { header, status, code, message, element };
    let checksum = "x-amz-checksum-";
    vec![
        ("named", vec![of("if-none-match", 501, "NotImplemented", GENERAL, Some("Header"))]),
        ("not named", vec![of("if-none-match", 501, "NotImplemented", GENERAL, None)]),
        ("not named checksum", vec![of(checksum, 501, "NotImplemented", GENERAL, None)]),
        (
            "400",
            vec![of(
                checksum,
                400,
                "InvalidArgument",
                "Unsupported header 'x-amz-checksum-sha256' received for this API call.",
                None,
            )],
        ),
        (
            "argument",
            vec![of("x-amz-checksum-sha256", 400, "InvalidArgument", "Invalid Argument", Some("ArgumentName"))],
        ),
        (
            "both",
            vec![
                of("if-none-match", 501, "NotImplemented", GENERAL, None),
                of(
                    checksum,
                    400,
                    "NotImplemented",
                    "A header or query you provided requested a function that is not implemented.",
                    None,
                ),
            ],
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_header_that_the_store_refuses_is_left_out() {
    for (name, refuses) in refusals() {
        let without_conditions = refuses.iter().any(|r| r.header == "if-none-match");
        let without_checksums = refuses.iter().any(|r| r.header.starts_with("x-amz-checksum"));
        let store = S3::start(Ways { refuses, ..Ways::default() }, Lies::none()).await;
        for length in [0, 40_000, 5 * MIB + 7] {
            let sink = sink_of(&store);
            let key = format!("{length}");
            assert_eq!(
                sink.put(&key, stream_of(1, length)).await.unwrap_or_else(|e| panic!("{name}: {e}")),
                length as u64
            );
            assert_eq!(store.bytes(&format!("bucket/pg/{key}")).unwrap().len(), length, "{name}");
            for sink in [sink, sink_of(&store)] {
                let error = sink.put(&key, stream_of(2, length)).await.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{name}: {error}");
                sink.replace(&key, stream_of(1, length)).await.unwrap();
            }
        }
        let sink = sink_of(&store);
        let found = check::sink(&*sink, "", "", Timestamp::now()).await;
        let said = |name: &str| found.iter().find(|check| check.name == name).map(|check| check.figure.clone());
        assert!(found.iter().all(|check| check.status != Status::Fail), "{name}: {found:?}");
        let overwriting = if without_conditions { "by looking" } else { "refused" };
        assert_eq!(said("no overwriting").as_deref(), Some(overwriting), "{name}: {found:?}");
        assert_eq!(said("checksums").as_deref(), without_checksums.then_some("MD5"), "{name}: {found:?}");
        assert_eq!(store.unfinished(), 0, "{name}");
    }
}

#[tokio::test]
async fn a_header_that_cannot_be_left_out_is_named() {
    let refuses = vec![Refusal {
        header: "x-amz-meta-lifeboat-upload",
        status: 501,
        code: "NotImplemented",
        message: GENERAL,
        element: Some("Header"),
    }];
    let store = S3::start(Ways { refuses, ..Ways::default() }, Lies::none()).await;
    let error = sink_of(&store).put("a", once("x")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.message().contains("the header x-amz-meta-lifeboat-upload"), "{error}");
}

#[tokio::test]
async fn a_store_that_deletes_one_object_at_a_time_is_asked_for_one_at_a_time() {
    for refusal in [
        (501, "NotImplemented", GENERAL),
        (400, "NotImplemented", "A header or query you provided requested a function that is not implemented."),
        (400, "InvalidArgument", "Invalid argument. Cannot create buckets using a POST."),
        (405, "MethodNotAllowed", "The specified method is not allowed against this resource."),
    ] {
        for is_versioned in [false, true] {
            let ways = Ways { deletes_one_by_one: Some(refusal), is_versioned, ..Ways::default() };
            let store = S3::start(ways, Lies::none()).await;
            let sink = sink_of(&store);
            let keys: Vec<String> = (0..20).map(|n| format!("a b/{n}")).collect();
            for key in &keys {
                store.place(&format!("bucket/pg/{key}"), "x");
            }
            store.set(Lies::always(Call::Delete, "/pg/a b/7", Lie::Forgets));
            let deleted = sink.delete(&keys).await.unwrap();
            assert_eq!((deleted.keys.len(), deleted.failed.len()), (19, 1), "{refusal:?}");
            store.be_honest();
            assert_eq!(sink.delete(&keys).await.unwrap().keys, keys, "{refusal:?}");
            assert_eq!(store.versions(), 0);
        }
    }
}

#[tokio::test]
async fn the_region_of_the_bucket_is_named_also_where_the_answer_has_no_body() {
    for status in [301, 400] {
        let store = S3::start(Ways { region: Some(("eu-central-1", status)), ..Ways::default() }, Lies::none()).await;
        let sink = open("s3://bucket/pg", Some(store.endpoint()));
        let errors = [
            sink.head("a").await.unwrap_err(),
            listed(&*sink, "").await.unwrap_err(),
            sink.put("a", once("x")).await.unwrap_err(),
        ];
        for error in errors {
            assert_eq!(error.kind(), ErrorKind::Config, "{status}: {error}");
            assert!(error.message().contains("in the region eu-central-1"), "{status}: {error}");
            assert!(error.advice().unwrap().contains("?region=eu-central-1"), "{status}: {error}");
        }
        open("s3://bucket/pg?region=eu-central-1", Some(store.endpoint())).put("a", once("x")).await.unwrap();
    }
}
