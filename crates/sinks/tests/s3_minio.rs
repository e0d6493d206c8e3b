//! The S3 sink against MinIO.
#![cfg(feature = "s3")]
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use lifeboat_core::stream::once;
use lifeboat_core::{ByteStream, Error, ErrorKind, Sink};
use lifeboat_sinks::{Credentials, Environment, Retry, Settings};
use lifeboat_testkit::conformance::sink as conformance;
use lifeboat_testkit::content::{bytes, endless_stream, failing_stream, fresh_name, stream_of};
use lifeboat_testkit::minio::{Minio, free_port};

fn settings(minio: &Minio) -> Settings {
    Settings::default()
        .environment(Environment::empty())
        .credentials(Some(Credentials::new(minio.user(), minio.password())))
        .retry(impatient())
}

fn impatient() -> Retry {
    Retry::default()
        .limit(Duration::from_secs(10))
        .first_contact(Duration::from_millis(300))
        .first(Duration::from_millis(50))
        .longest(Duration::from_millis(500))
        .stall(Duration::from_secs(20))
}

fn open(url: &str, settings: &Settings) -> Arc<dyn Sink> {
    lifeboat_sinks::open_with(url, settings).unwrap()
}

async fn fresh_sink(minio: &Minio) -> (Arc<dyn Sink>, String) {
    let bucket = minio.fresh_bucket().await;
    (open(&minio.sink_url(&bucket), &settings(minio)), bucket)
}

async fn first_error(sink: &dyn Sink) -> Error {
    sink.list("").try_collect::<Vec<_>>().await.unwrap_err()
}

#[tokio::test(flavor = "multi_thread")]
async fn minio_sink_conforms() {
    let minio = Minio::shared();
    let (sink, _) = fresh_sink(&minio).await;
    conformance::all(&*sink).await;
}

#[tokio::test]
async fn minio_sink_conforms_under_a_prefix_and_on_one_thread() {
    let minio = Minio::shared();
    let bucket = minio.fresh_bucket().await;
    let url = format!("minio://{}/{bucket}/deep/with%20space+%25/ü?tls=false", minio.host());
    conformance::all(&*open(&url, &settings(&minio))).await;
    // A neighbour whose prefix starts with ours is not ours.
    let neighbour = open(&format!("minio://{}/{bucket}/deep2?tls=false", minio.host()), &settings(&minio));
    neighbour.put("x", once("x")).await.unwrap();
    let deep = open(&format!("minio://{}/{bucket}/deep?tls=false", minio.host()), &settings(&minio));
    assert_eq!(conformance::keys(&*deep, "").await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_part_of_a_failed_upload_stays_in_the_store() {
    let minio = Minio::shared();
    let (sink, bucket) = fresh_sink(&minio).await;
    sink.put("pg/a", failing_stream(1, 30 << 20)).await.unwrap_err();
    assert_eq!(minio.unfinished_uploads(&bucket, "pg/a").await, [""; 0]);
    sink.put("pg/b", stream_of(1, 30 << 20)).await.unwrap();
    assert_eq!(minio.unfinished_uploads(&bucket, "pg/b").await, [""; 0]);
    let dropped = tokio::time::timeout(Duration::from_secs(1), sink.put("pg/c", endless_stream(1, 30 << 20)));
    dropped.await.unwrap_err();
    conformance::nothing_is_unfinished(&*sink, "pg").await;
    assert_eq!(minio.unfinished_uploads(&bucket, "pg/c").await, [""; 0]);
}

/// Leaves an upload as a killed process does: everything that could clean up is gone.
async fn leave_unfinished(minio: &Minio, bucket: &str, key: &'static str) {
    let writer = open(&minio.sink_url(bucket), &settings(minio));
    leave_unfinished_by(writer, lifeboat_core::name::split_key(key).0, minio, bucket, key).await;
}

/// The same, by a writer that keeps its notes in `folder`.
async fn leave_unfinished_by(writer: Arc<dyn Sink>, folder: &str, minio: &Minio, bucket: &str, key: &'static str) {
    let sink = open(&minio.sink_url(bucket), &settings(minio));
    let uploads = format!("{}/", lifeboat_core::name::join_key(folder, lifeboat_core::sink::UPLOADS_FOLDER));
    let process = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.spawn(async move { writer.put(key, endless_stream(1, 20 << 20)).await });
        runtime
    });
    let runtime = process.join().unwrap();
    while conformance::keys(&*sink, &uploads).await.is_empty() || minio.unfinished_uploads(bucket, key).await.is_empty()
    {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    runtime.shutdown_background();
    // What was on its way when it died.
    tokio::time::sleep(Duration::from_millis(300)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_writer_left_is_found_and_aborted() {
    let minio = Minio::shared();
    let (sink, bucket) = fresh_sink(&minio).await;
    for (key, folder) in [("pg/killed.dump", "pg"), ("killed.dump", "")] {
        leave_unfinished(&minio, &bucket, key).await;
        assert_eq!(conformance::keys(&*sink, "").await, [""; 0]);
        conformance::cleans_up_after_a_killed_writer(&*sink, folder).await;
        assert_eq!(minio.unfinished_uploads(&bucket, key).await, [""; 0]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_writer_left_is_found_where_its_notes_are() {
    let minio = Minio::shared();
    let (sink, bucket) = fresh_sink(&minio).await;
    let (key, notes) = ("velero/kopia/shop/p0001", "_lifeboat/copies/velero");
    leave_unfinished_by(sink.upkeep().unwrap().notes_in(notes).unwrap(), notes, &minio, &bucket, key).await;
    assert_eq!(conformance::keys(&*sink, "velero/kopia/shop/_lifeboat/").await, [""; 0]);
    conformance::cleans_up_after_a_killed_writer(&*sink, notes).await;
    assert_eq!(minio.unfinished_uploads(&bucket, key).await, [""; 0]);
}

/// A stream whose `n`th chunk of 1 MiB waits until it is told to go on.
fn gated(
    chunks: u64,
    gate_at: u64,
) -> (ByteStream, tokio::sync::oneshot::Receiver<()>, tokio::sync::oneshot::Sender<()>) {
    let (reached, at_gate) = tokio::sync::oneshot::channel();
    let (open, gate) = tokio::sync::oneshot::channel::<()>();
    let stream = futures::stream::unfold((0, Some((reached, gate))), move |(n, mut waiting)| async move {
        if n == chunks {
            return None;
        }
        if n == gate_at
            && let Some((reached, gate)) = waiting.take()
        {
            reached.send(()).unwrap();
            gate.await.unwrap();
        }
        Some((Ok(bytes(n, 1 << 20)), (n + 1, waiting)))
    });
    (stream.boxed(), at_gate, open)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_outlives_a_restart_of_the_store() {
    let mut minio = Minio::start().await;
    let (sink, bucket) = fresh_sink(&minio).await;
    let (body, at_gate, gate) = gated(60, 30);
    let writer = sink.clone();
    let put = tokio::spawn(async move { writer.put("pg/a.dump", body).await });
    at_gate.await.unwrap();
    minio.kill();
    gate.send(()).unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    minio.restart().await;
    assert_eq!(put.await.unwrap().unwrap(), 60 << 20);
    let mut body = sink.get("pg/a.dump", None).await.unwrap();
    let mut all = Vec::new();
    while let Some(chunk) = body.next().await {
        all.extend_from_slice(&chunk.unwrap());
    }
    assert!((0..60).all(|n| all[(n as usize) << 20..][..1 << 20] == bytes(n, 1 << 20)));
    conformance::nothing_is_unfinished(&*sink, "pg").await;
    assert_eq!(minio.unfinished_uploads(&bucket, "pg/a.dump").await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_stays_away_ends_the_upload_with_an_error_that_names_it() {
    let mut minio = Minio::start().await;
    let bucket = minio.fresh_bucket().await;
    let retry = impatient().limit(Duration::from_secs(2));
    let sink = open(&minio.sink_url(&bucket), &settings(&minio).retry(retry));
    let (body, at_gate, gate) = gated(60, 30);
    let writer = sink.clone();
    let put = tokio::spawn(async move { writer.put("pg/a.dump", body).await });
    at_gate.await.unwrap();
    minio.kill();
    gate.send(()).unwrap();
    let error = tokio::time::timeout(Duration::from_secs(60), put).await.unwrap().unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("pg/a.dump") && error.to_string().contains(minio.host()), "{error}");
    assert!(error.to_string().contains("tried "), "{error}");
    // The note was left, because nobody could remove it: a later run cleans up.
    minio.restart().await;
    assert_eq!(conformance::keys(&*sink, "").await, [""; 0]);
    let later = jiff::Timestamp::now() + Duration::from_secs(60);
    assert_eq!(sink.upkeep().unwrap().abort_unfinished("pg", later, false).await.unwrap().len(), 1);
    assert_eq!(minio.unfinished_uploads(&bucket, "pg/a.dump").await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_download_goes_on_where_the_store_was_restarted() {
    let mut minio = Minio::start().await;
    let (sink, _) = fresh_sink(&minio).await;
    let size = 64 << 20;
    sink.put("a", once(bytes(4, size))).await.unwrap();
    let mut body = sink.get("a", None).await.unwrap();
    let mut got = body.next().await.unwrap().unwrap().to_vec();
    minio.kill();
    minio.restart().await;
    while let Some(chunk) = body.next().await {
        got.extend_from_slice(&chunk.unwrap());
    }
    assert!(got == bytes(4, size), "{} bytes", got.len());
}

#[tokio::test]
async fn a_wrong_secret_is_said_to_be_wrong() {
    let minio = Minio::shared();
    let bucket = minio.fresh_bucket().await;
    let with = |credentials| {
        let settings = settings(&minio).credentials(Some(credentials));
        open(&minio.sink_url(&bucket), &settings)
    };
    let error = first_error(&*with(Credentials::new(minio.user(), "hunter2-hunter2"))).await;
    assert_eq!(error.kind(), ErrorKind::Permission);
    assert!(error.message().contains("the secret key is wrong"), "{error}");
    assert!(error.advice().unwrap().contains("the secret key that was given"), "{error:?}");
    // The hint names the place that it came from, and no other.
    let placed = Credentials::new(minio.user(), "hunter2-hunter2").from_places("KEY_HERE", "secret_key of [sinks.s]");
    assert_eq!(first_error(&*with(placed)).await.advice(), Some("check secret_key of [sinks.s]"));
    let secret = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(secret.path(), "hunter2-hunter2").unwrap();
    let file = secret.path().display().to_string();
    for (name, value, place) in [
        ("MINIO_ROOT_PASSWORD", "hunter2-hunter2", "MINIO_ROOT_PASSWORD"),
        ("MINIO_ROOT_PASSWORD_FILE", &file, "the file that MINIO_ROOT_PASSWORD_FILE names"),
    ] {
        let variables = [("MINIO_ROOT_USER", minio.user()), (name, value)];
        let settings = settings(&minio).environment(Environment::fixed(variables)).credentials(None);
        let error = first_error(&*open(&minio.sink_url(&bucket), &settings)).await;
        assert_eq!(error.advice(), Some(&*format!("check {place}")));
    }
    assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");

    let nobody = with(Credentials::new("nobody", "hunter2-hunter2"));
    let error = first_error(&*nobody).await;
    assert_eq!(error.kind(), ErrorKind::Permission);
    assert!(error.message().contains("does not know the access key"), "{error}");
    let put = nobody.put("a", once("x")).await.unwrap_err();
    assert_eq!(put.kind(), ErrorKind::Permission, "{put}");
    assert!(!format!("{nobody:?}").contains("hunter2"));
}

#[tokio::test]
async fn a_missing_bucket_is_named() {
    let minio = Minio::shared();
    let bucket = fresh_name("missing");
    let sink = open(&minio.sink_url(&bucket), &settings(&minio));
    let errors = [
        first_error(&*sink).await,
        sink.put("a", once("x")).await.unwrap_err(),
        sink.put("a", stream_of(1, 20 << 20)).await.unwrap_err(),
        sink.get("a", None).await.err().unwrap(),
        sink.delete(&["a".to_owned()]).await.unwrap_err(),
    ];
    for error in errors {
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert!(error.message().contains(&format!("the bucket \"{bucket}\" does not exist")), "{error}");
        assert!(error.advice().unwrap().contains("create the bucket"));
    }
}

#[tokio::test]
async fn a_store_that_nobody_answers_for_is_named_soon() {
    let url = format!("minio://127.0.0.1:{}/bucket?tls=false", free_port());
    let retry = impatient().limit(Duration::from_secs(180));
    let credentials = Some(Credentials::new("user", "hunter2-hunter2"));
    let sink = open(&url, &Settings::default().credentials(credentials).retry(retry).environment(Environment::empty()));
    let start = std::time::Instant::now();
    let error = first_error(&*sink).await;
    assert!(start.elapsed() < Duration::from_secs(5), "a first contact does not take minutes");
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.message().contains("cannot connect to http://127.0.0.1:"), "{error}");
    assert!(error.message().contains("Connection refused"), "{error}");
}

#[tokio::test]
async fn tls_to_a_store_without_it_says_what_to_write() {
    let minio = Minio::shared();
    let url = format!("minio://{}/bucket", minio.host());
    let error = first_error(&*open(&url, &settings(&minio))).await;
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.advice().unwrap().contains("?tls=false"), "{error}: {:?}", error.advice());
    assert!(!error.is_transient());
}

#[tokio::test]
async fn credentials_come_from_the_environment_or_from_files() {
    let minio = Minio::shared();
    let bucket = minio.fresh_bucket().await;
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, content: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, format!("{content}\n")).unwrap();
        path.display().to_string()
    };
    let (user, password) = (minio.user().to_owned(), minio.password().to_owned());
    let (user_file, password_file) = (file("user", &user), file("password", &password));
    let endpoint = format!("http://{}", minio.host());
    for (url, variables) in [
        (minio.sink_url(&bucket), vec![("MINIO_ACCESS_KEY", &user), ("MINIO_SECRET_KEY", &password)]),
        (
            minio.sink_url(&bucket),
            vec![("MINIO_ACCESS_KEY_FILE", &user_file), ("MINIO_SECRET_KEY_FILE", &password_file)],
        ),
        (minio.sink_url(&bucket), vec![("MINIO_ROOT_USER", &user), ("MINIO_ROOT_PASSWORD_FILE", &password_file)]),
        (
            format!("s3://{bucket}?tls=false"),
            vec![("AWS_ACCESS_KEY_ID", &user), ("AWS_SECRET_ACCESS_KEY", &password), ("AWS_ENDPOINT_URL", &endpoint)],
        ),
        (
            format!("s3://{bucket}?tls=false&endpoint={endpoint}"),
            vec![("AWS_ACCESS_KEY_ID", &user), ("AWS_SECRET_ACCESS_KEY_FILE", &password_file)],
        ),
    ] {
        let environment = Environment::fixed(variables.iter().map(|(k, v)| (*k, v.as_str())));
        let sink = open(&url, &Settings::default().environment(environment).retry(impatient()));
        assert_eq!(conformance::keys(&*sink, "").await, [""; 0], "{url} {variables:?}");
    }
    for (url, variables, words) in [
        (minio.sink_url(&bucket), vec![], "MINIO_ACCESS_KEY and MINIO_SECRET_KEY"),
        ("b2://bucket?region=us-west-004".to_owned(), vec![], "B2_APPLICATION_KEY_ID"),
        ("b2://bucket".to_owned(), vec![("B2_APPLICATION_KEY_ID", "x"), ("B2_APPLICATION_KEY", "y")], "B2_REGION"),
        (minio.sink_url(&bucket), vec![("MINIO_ACCESS_KEY", "x")], "MINIO_SECRET_KEY is not"),
        (
            "s3://bucket".to_owned(),
            vec![("AWS_ENDPOINT_URL", "http://h"), ("AWS_ACCESS_KEY_ID", "x"), ("AWS_SECRET_ACCESS_KEY", "y")],
            "?tls=false",
        ),
    ] {
        let settings = Settings::default().environment(Environment::fixed(variables));
        let error = lifeboat_sinks::open_with(&url, &settings).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{error}");
        assert!(format!("{error} {}", error.advice().unwrap_or_default()).contains(words), "{error:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_this_product_would_not_write_do_not_break_a_listing() {
    let minio = Minio::shared();
    let (sink, bucket) = fresh_sink(&minio).await;
    // What a console makes to show a folder, and what a script may have made.
    for path in ["folder/", "tab\there", "new\nline"] {
        let (status, body) = minio.request("PUT", &format!("/{bucket}/{path}"), &[], b"").await.unwrap();
        assert_eq!(status, 200, "{path:?}: {body}");
    }
    sink.put("folder/a", once("x")).await.unwrap();
    assert_eq!(conformance::keys(&*sink, "").await, ["folder/a", "new\nline", "tab\there"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_listing_and_a_large_delete_take_several_pages() {
    let minio = Minio::shared();
    let (sink, _) = fresh_sink(&minio).await;
    let keys: Vec<_> = (0..2300).map(|n| format!("many/{n:05}")).collect();
    futures::stream::iter(&keys)
        .for_each_concurrent(32, |key| async {
            sink.put(key, once("x")).await.unwrap();
        })
        .await;
    assert_eq!(conformance::keys(&*sink, "many/").await, keys);
    assert_eq!(sink.delete(&keys).await.unwrap().keys, keys);
    assert_eq!(conformance::keys(&*sink, "").await, [""; 0]);
}

/// A sink whose key may do these things in the bucket and nothing else.
async fn restricted(minio: &Minio, bucket: &str, actions: &[&str]) -> Arc<dyn Sink> {
    let policy = format!(
        r#"{{"Version":"2012-10-17","Statement":[{{"Effect":"Allow","Action":{actions:?},"Resource":["arn:aws:s3:::{bucket}","arn:aws:s3:::{bucket}/*"]}}]}}"#
    );
    let key = minio.restricted(&policy).await;
    let session_token = Some(key.session_token.into());
    let credentials = Credentials::new(key.access_key, key.secret_key).session_token(session_token);
    open(&minio.sink_url(bucket), &settings(minio).credentials(Some(credentials)))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_right_that_the_key_lacks_is_named() {
    let minio = Minio::shared();
    let (sink, bucket) = fresh_sink(&minio).await;
    sink.put("a", once("x")).await.unwrap();
    let reader = restricted(&minio, &bucket, &["s3:GetObject"]).await;
    reader.head("a").await.unwrap();
    let writer = restricted(&minio, &bucket, &["s3:PutObject"]).await;
    for (error, right) in [
        (first_error(&*reader).await, "s3:ListBucket"),
        (reader.put("b", once("x")).await.unwrap_err(), "s3:PutObject"),
        (writer.get("a", None).await.err().unwrap(), "s3:GetObject"),
    ] {
        assert_eq!(error.kind(), ErrorKind::Permission, "{error}");
        assert!(error.advice().unwrap().contains(right), "{error}: {:?}", error.advice());
        assert!(!error.is_transient());
    }
    let kept = reader.delete(&["a".to_owned()]).await;
    let denied = match kept {
        Ok(deleted) => deleted.failed.len() == 1,
        Err(error) => error.kind() == ErrorKind::Permission,
    };
    assert!(denied);
    assert_eq!(conformance::keys(&*sink, "").await, ["a"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_may_only_write_is_enough_to_store_and_never_overwrites() {
    let minio = Minio::shared();
    let (sink, bucket) = fresh_sink(&minio).await;
    let writer = restricted(&minio, &bucket, &["s3:PutObject"]).await;
    for size in [10, 20 << 20] {
        let key = format!("pg/{size}");
        assert_eq!(writer.put(&key, stream_of(1, size)).await.unwrap(), size as u64);
        assert_eq!(writer.put(&key, stream_of(2, size)).await.unwrap_err().kind(), ErrorKind::AlreadyExists);
        assert_eq!(sink.head(&key).await.unwrap().bytes, size as u64);
    }
}

#[tokio::test]
async fn the_command_that_reads_an_object_names_the_endpoint() {
    let minio = Minio::shared();
    let (sink, bucket) = fresh_sink(&minio).await;
    assert_eq!(sink.url(), format!("minio://{}/{bucket}", minio.host()));
    let expected = format!("aws s3 cp 's3://{bucket}/it'\\''s' - --endpoint-url http://{}", minio.host());
    assert_eq!(sink.read_command("it's"), expected);
}
