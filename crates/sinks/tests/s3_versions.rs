//! Versioned buckets and Object Lock: deletion frees the space, and what is held is said to be.
#![cfg(feature = "s3")]
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use futures::TryStreamExt;
use jiff::{SignedDuration, Timestamp};
use lifeboat_core::sink::{HoldMode, PutOptions};
use lifeboat_core::stream::once;
use lifeboat_core::{Check, ErrorKind, Sink, Status, check};
use lifeboat_sinks::{Credentials, Environment, Settings};
use lifeboat_testkit::conformance::sink as conformance;
use lifeboat_testkit::content::stream_of;
use lifeboat_testkit::minio::Minio;
use lifeboat_testkit::versions;

fn settings(minio: &Minio) -> Settings {
    Settings::default()
        .environment(Environment::empty())
        .credentials(Some(Credentials::new(minio.user(), minio.password())))
}

fn open(minio: &Minio, bucket: &str) -> Arc<dyn Sink> {
    lifeboat_sinks::open_with(&minio.sink_url(bucket), &settings(minio)).unwrap()
}

async fn versioned() -> (Minio, String, Arc<dyn Sink>) {
    let minio = Minio::shared();
    let bucket = minio.fresh_bucket().await;
    versions::enable(&minio, &bucket).await;
    let sink = open(&minio, &bucket);
    (minio, bucket, sink)
}

/// A sink whose key may do these things in the bucket and nothing else.
async fn restricted(minio: &Minio, bucket: &str, actions: &[&str]) -> Arc<dyn Sink> {
    let policy = format!(
        r#"{{"Version":"2012-10-17","Statement":[{{"Effect":"Allow","Action":{actions:?},"Resource":["arn:aws:s3:::{bucket}","arn:aws:s3:::{bucket}/*"]}}]}}"#
    );
    let key = minio.restricted(&policy).await;
    let session_token = Some(key.session_token.into());
    let credentials = Credentials::new(key.access_key, key.secret_key).session_token(session_token);
    let settings = settings(minio).credentials(Some(credentials));
    lifeboat_sinks::open_with(&minio.sink_url(bucket), &settings).unwrap()
}

async fn kept(minio: &Minio, bucket: &str) -> Vec<(String, bool)> {
    versions::of(minio, bucket).await.into_iter().map(|v| (v.key, v.is_marker)).collect()
}

fn owned(keys: &[&str]) -> Vec<String> {
    keys.iter().map(|&key| key.to_owned()).collect()
}

fn line<'a>(checks: &'a [Check], name: &str) -> &'a Check {
    checks.iter().find(|c| c.name == name).unwrap_or_else(|| panic!("no line \"{name}\" in {checks:#?}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn versioned_minio_conforms_and_keeps_no_version_of_anything() {
    let (minio, bucket, sink) = versioned().await;
    conformance::all(&*sink).await;
    assert_eq!(kept(&minio, &bucket).await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn minio_with_object_lock_conforms_and_keeps_no_version_of_anything() {
    let minio = Minio::shared();
    let bucket = minio.locked_bucket(None).await;
    conformance::all(&*open(&minio, &bucket)).await;
    assert_eq!(kept(&minio, &bucket).await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delete_frees_every_version_of_its_keys_and_none_of_those_that_start_alike() {
    let (minio, bucket, sink) = versioned().await;
    let neighbours = [
        "pg/educationelly-graphql-1",
        "pg/educationelly-1.manifest",
        "pg/educationelly-",
        "pg/educationelly-10",
        "backups/pg/x",
    ];
    for key in neighbours.iter().chain(&["pg/educationelly-1"]) {
        for text in ["first", "and second"] {
            sink.replace(key, once(text)).await.unwrap();
        }
    }
    // Hidden by somebody else, twice.
    for _ in 0..2 {
        let (status, _) = minio.request("DELETE", &format!("/{bucket}/pg/educationelly-1"), &[], b"").await.unwrap();
        assert_eq!(status, 204);
    }
    let before = versions::of(&minio, &bucket).await;
    let deleted = sink.delete(&owned(&["pg/educationelly-1"])).await.unwrap();
    assert_eq!((deleted.keys, deleted.bytes), (owned(&["pg/educationelly-1"]), Some(15)));
    assert_eq!((deleted.failed, deleted.held, deleted.notes), (vec![], vec![], vec![]));
    let others: Vec<_> = before.into_iter().filter(|v| v.key != "pg/educationelly-1").collect();
    assert_eq!(others.len(), 2 * neighbours.len());
    assert_eq!(versions::of(&minio, &bucket).await, others);
}

#[tokio::test(flavor = "multi_thread")]
async fn more_versions_than_a_page_are_all_deleted() {
    let (minio, bucket, sink) = versioned().await;
    let keys: Vec<String> = (0..130).map(|n| format!("many/{n:03}")).collect();
    let writes = keys.iter().flat_map(|key| std::iter::repeat_n(key, 9));
    futures::stream::iter(writes.map(Ok::<_, lifeboat_core::Error>))
        .try_for_each_concurrent(16, |key| {
            let sink = sink.clone();
            async move { sink.replace(key, once("xy")).await.map(drop) }
        })
        .await
        .unwrap();
    assert_eq!(kept(&minio, &bucket).await.len(), 9 * 130);
    let deleted = sink.delete(&keys).await.unwrap();
    assert_eq!((deleted.keys, deleted.bytes), (keys, Some(2 * 9 * 130)));
    assert_eq!(kept(&minio, &bucket).await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_keeps_versions_only_since_it_was_asked_is_cleaned_all_the_same() {
    let minio = Minio::shared();
    let bucket = minio.fresh_bucket().await;
    let sink = open(&minio, &bucket);
    sink.put("a", once("before")).await.unwrap();
    sink.put("b", once("x")).await.unwrap();
    sink.delete(&owned(&["b"])).await.unwrap();
    versions::enable(&minio, &bucket).await;
    let deleted = sink.delete(&owned(&["a"])).await.unwrap();
    assert_eq!((deleted.keys, deleted.bytes), (owned(&["a"]), Some(6)));
    assert_eq!(kept(&minio, &bucket).await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_may_not_delete_versions_hides_and_says_so() {
    let (minio, bucket, sink) = versioned().await;
    for (actions, right) in [
        (&["s3:DeleteObject"][..], "s3:ListBucketVersions"),
        (&["s3:DeleteObject", "s3:GetBucketVersioning", "s3:ListBucketVersions"], "s3:DeleteObjectVersion"),
    ] {
        sink.put("a", once("12345")).await.unwrap();
        let hider = restricted(&minio, &bucket, actions).await;
        let deleted = hider.delete(&owned(&["a"])).await.unwrap();
        assert_eq!((deleted.keys, deleted.bytes, deleted.failed), (owned(&["a"]), Some(0), vec![]));
        assert!(deleted.notes.len() == 1 && deleted.notes[0].contains(right), "{:?}", deleted.notes);
        assert_eq!(conformance::keys(&*sink, "").await, [""; 0]);
        let hidden: Vec<_> = sink.upkeep().unwrap().hidden("").try_collect().await.unwrap();
        assert_eq!(hidden.iter().map(|h| (h.key.as_str(), h.bytes)).collect::<Vec<_>>(), [("a", 5)]);
        assert_eq!(sink.delete(&owned(&["a"])).await.unwrap().bytes, Some(5));
        assert_eq!(kept(&minio, &bucket).await, []);
    }
    // Where nothing is kept, a key that may not ask has nothing to say.
    let plain = minio.fresh_bucket().await;
    open(&minio, &plain).put("a", once("x")).await.unwrap();
    let deleted = restricted(&minio, &plain, &["s3:DeleteObject"]).await.delete(&owned(&["a"])).await.unwrap();
    assert_eq!((deleted.keys, deleted.notes), (owned(&["a"]), vec![]));
}

#[tokio::test(flavor = "multi_thread")]
async fn only_keys_whose_newest_version_is_a_marker_are_hidden() {
    let (minio, bucket, sink) = versioned().await;
    for key in ["p/a", "p/b", "p/c", "p/_lifeboat/uploads/n", "q/a"] {
        sink.put(key, once("x")).await.unwrap();
    }
    for key in ["p/a", "p/c", "p/_lifeboat/uploads/n", "q/a"] {
        minio.request("DELETE", &format!("/{bucket}/{key}"), &[], b"").await.unwrap();
    }
    sink.put("p/c", once("again")).await.unwrap();
    let hidden = async |prefix: &str| {
        let found: Vec<_> = sink.upkeep().unwrap().hidden(prefix).try_collect().await.unwrap();
        found.into_iter().map(|h| h.key).collect::<Vec<_>>()
    };
    assert_eq!(hidden("p/").await, ["p/a"]);
    assert_eq!(hidden("p/_lifeboat/uploads/").await, ["p/_lifeboat/uploads/n"]);
    assert_eq!(hidden("").await, ["p/a", "q/a"]);
    let blind = restricted(&minio, &bucket, &["s3:GetBucketVersioning"]).await;
    let error = blind.upkeep().unwrap().hidden("").try_collect::<Vec<_>>().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Permission);
    assert!(error.advice().unwrap().contains("s3:ListBucketVersions"), "{error:?}");
}

// ---- Object Lock ----

#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_under_a_lock_cannot_be_deleted_and_that_is_no_failure() {
    let minio = Minio::shared();
    let bucket = minio.locked_bucket(None).await;
    let lock = Some("governance:3".parse().unwrap());
    let sink = lifeboat_sinks::open_with(&minio.sink_url(&bucket), &settings(&minio).lock(lock)).unwrap();
    let record = "db/shop-20261121-033000.dump.verified-20261122-000000-restore-pass.json";
    let keys = owned(&["db/large", "db/small", "db/_lifeboat/uploads/note", record]);
    for (key, (size, lock)) in keys.iter().zip([(20 << 20, true), (10, true), (10, false), (10, false)]) {
        sink.put_with(key, stream_of(1, size), PutOptions::new().lock(lock)).await.unwrap();
    }
    let replaced = PutOptions::new().lock(true).replace(true);
    sink.put_with("db/rewritten", stream_of(1, 10), replaced).await.unwrap();
    sink.put("db/unlocked", stream_of(1, 20 << 20)).await.unwrap();
    let all = [keys.clone(), owned(&["db/rewritten", "db/unlocked"])].concat();
    let locked = owned(&["db/large", "db/small", "db/rewritten"]);

    let held = sink.upkeep().unwrap().held(&all).await.unwrap();
    assert_eq!(held.iter().map(|h| h.key.clone()).collect::<Vec<_>>(), locked);
    for held in &held {
        let left = held.until.unwrap().duration_since(Timestamp::now());
        assert_eq!(held.mode, HoldMode::Governance);
        assert!(left > SignedDuration::from_hours(71) && left <= SignedDuration::from_hours(72), "{left:?}");
    }
    let before = kept(&minio, &bucket).await;
    let deleted = sink.delete(&all).await.unwrap();
    // What nobody asked to lock is left open.
    assert_eq!(deleted.keys, [&keys[2..], &owned(&["db/unlocked"])].concat());
    assert_eq!((deleted.failed, deleted.notes), (vec![], vec![]));
    let mut still: Vec<_> = deleted.held.into_iter().map(|h| h.key).collect();
    still.sort();
    assert_eq!(still, ["db/large", "db/rewritten", "db/small"]);
    // And nothing of it was hidden.
    assert_eq!(conformance::keys(&*sink, "").await, ["db/large", "db/rewritten", "db/small"]);
    assert_eq!(kept(&minio, &bucket).await, before.into_iter().filter(|(k, _)| still.contains(k)).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_legal_hold_is_told_from_a_retention() {
    let minio = Minio::shared();
    let bucket = minio.locked_bucket(None).await;
    let sink = open(&minio, &bucket);
    sink.put("a", once("x")).await.unwrap();
    let set = async |status: &str| {
        let hold = format!("<LegalHold><Status>{status}</Status></LegalHold>");
        minio.configure(&format!("{bucket}/a"), "legal-hold", &hold).await;
    };
    set("ON").await;
    let deleted = sink.delete(&owned(&["a"])).await.unwrap();
    assert_eq!((deleted.held[0].until, deleted.held[0].mode), (None, HoldMode::LegalHold));
    assert_eq!(deleted.held[0].to_string(), "held by a legal hold");
    set("OFF").await;
    assert_eq!(sink.delete(&owned(&["a"])).await.unwrap().keys, ["a"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_that_the_bucket_cannot_keep_is_an_error_of_configuration() {
    let minio = Minio::shared();
    let bucket = minio.fresh_bucket().await;
    let url = format!("{}&lock=governance:30", minio.sink_url(&bucket));
    let sink = lifeboat_sinks::open_with(&url, &settings(&minio)).unwrap();
    for size in [10, 20 << 20] {
        let error = sink.put_with("a", stream_of(1, size), PutOptions::new().lock(true)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{error}");
        assert!(error.message().contains("cannot lock objects"), "{error}");
    }
    let checks = sink.upkeep().unwrap().inspect("", None).await;
    assert_eq!(line(&checks, "object lock").status, Status::Fail);
    let error = lifeboat_sinks::open_with("file:///tmp", &settings(&minio).lock(Some("governance:1".parse().unwrap())));
    assert_eq!(error.unwrap_err().kind(), ErrorKind::Config);
}

// ---- what a bucket says of itself ----

#[tokio::test(flavor = "multi_thread")]
async fn a_plain_bucket_has_a_line_for_everything_that_matters() {
    let minio = Minio::shared();
    let bucket = minio.fresh_bucket().await;
    let sink = open(&minio, &bucket);
    let checks = check::sink(&*sink, "db", "db", Timestamp::now()).await;
    for (name, figure) in [
        ("list", "works"),
        ("write", "works"),
        ("read", "works"),
        ("delete", "works"),
        ("bucket", "exists"),
        ("tls", "http, loopback"),
        ("clock", "agrees"),
        ("no overwriting", "refused"),
        ("versioning", "off"),
        ("expiry", "none"),
        ("unfinished uploads", "no rule"),
        ("object lock", "off"),
    ] {
        let line = line(&checks, name);
        assert_eq!((line.status, line.figure.as_str()), (Status::Pass, figure), "{line:?}");
    }
    assert_eq!(conformance::keys(&*sink, "db/_lifeboat/").await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_that_deletes_backups_is_named() {
    let (minio, bucket, sink) = versioned().await;
    let rules = r#"<LifecycleConfiguration>
        <Rule><ID>logs</ID><Status>Enabled</Status><Filter><Prefix>logs/</Prefix></Filter><Expiration><Days>1</Days></Expiration></Rule>
        <Rule><ID>old-things</ID><Status>Enabled</Status><Filter><Prefix>d</Prefix></Filter><Expiration><Days>9</Days></Expiration></Rule>
        <Rule><ID>off</ID><Status>Disabled</Status><Filter><Prefix></Prefix></Filter><Expiration><Days>2</Days></Expiration></Rule>
        <Rule><ID>hidden</ID><Status>Enabled</Status><Filter><Prefix></Prefix></Filter><NoncurrentVersionExpiration><NoncurrentDays>3</NoncurrentDays></NoncurrentVersionExpiration></Rule>
        </LifecycleConfiguration>"#;
    let checks = sink.upkeep().unwrap().inspect("db", None).await;
    assert_eq!(line(&checks, "hidden versions").status, Status::Warn);
    minio.configure(&bucket, "lifecycle", rules).await;
    let checks = sink.upkeep().unwrap().inspect("db", None).await;
    let expiry: Vec<_> = checks.iter().filter(|c| c.name == "expiry").collect();
    assert_eq!(expiry.len(), 1, "{expiry:?}");
    assert_eq!((expiry[0].status, expiry[0].figure.as_str()), (Status::Warn, "after 9 days"));
    assert!(expiry[0].detail.contains("\"old-things\""), "{expiry:?}");
    assert_eq!(
        (line(&checks, "versioning").figure.as_str(), line(&checks, "hidden versions").figure.as_str()),
        ("on", "3d")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_that_must_stay_is_said_to_stay() {
    let minio = Minio::shared();
    let bucket = minio.locked_bucket(Some("GOVERNANCE")).await;
    let sink = open(&minio, &bucket);
    let checks = check::sink(&*sink, "", "", Timestamp::now()).await;
    let delete = line(&checks, "delete");
    assert_eq!((delete.status, delete.figure.as_str()), (Status::Warn, "held"));
    assert!(delete.detail.contains("_lifeboat/probe/") && delete.detail.contains("held until"), "{delete:?}");
    let lock = line(&checks, "object lock");
    assert!(lock.detail.contains("1 days (governance)"), "{lock:?}");
    assert_eq!(line(&checks, "no overwriting").status, Status::Pass);
    // Uploads of several parts leave a note that cannot be removed: it does no harm.
    sink.put("large", stream_of(1, 20 << 20)).await.unwrap();
    let later = Timestamp::now() + SignedDuration::from_hours(1);
    assert_eq!(sink.upkeep().unwrap().abort_unfinished("", later, false).await.unwrap(), [""; 0]);
    assert_eq!(conformance::keys(&*sink, "").await, ["large"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_writer_s_key_may_not_ask_is_no_failure() {
    let (minio, bucket, _) = versioned().await;
    let writer = restricted(&minio, &bucket, &["s3:PutObject"]).await;
    let checks = writer.upkeep().unwrap().inspect("db", None).await;
    assert!(checks.iter().all(|c| c.status == Status::Pass), "{checks:#?}");
    assert_eq!(line(&checks, "versioning").figure, "not asked");
    assert_eq!(line(&checks, "clock").figure, "agrees", "a refusal has a date as well");
    let missing = open(&minio, "no-such-bucket-here");
    let checks = check::sink(&*missing, "", "", Timestamp::now()).await;
    assert_eq!(
        (line(&checks, "bucket").status, checks.iter().filter(|c| c.status == Status::Fail).count()),
        (Status::Fail, 1)
    );
}
