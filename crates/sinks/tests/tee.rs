//! What a sink over several sinks promises beyond what every sink does.
#![allow(clippy::unwrap_used)]
#![cfg(all(feature = "file", feature = "s3"))]

use std::sync::Arc;

use futures::TryStreamExt;
use lifeboat_core::stream::{collect, once};
use lifeboat_core::{ErrorKind, Hint, Sink};
use lifeboat_sinks::{Credentials, Environment, Settings, local::LocalSink, open_with, tee};
use lifeboat_testkit::chaos::{ChaosSink, Fault};
use lifeboat_testkit::conformance;
use lifeboat_testkit::content::stream_of;
use lifeboat_testkit::memory::MemorySink;
use lifeboat_testkit::minio::Minio;
use lifeboat_testkit::s3::{Lies, S3, Ways};

fn over(sinks: &[&MemorySink]) -> Arc<dyn Sink> {
    tee(sinks.iter().map(|s| Arc::new((*s).clone()) as Arc<dyn Sink>)).unwrap()
}

fn settings(user: &str, password: &str) -> Settings {
    Settings::default().environment(Environment::empty()).credentials(Some(Credentials::new(user, password)))
}

/// A store that keeps versions.
async fn versioned() -> S3 {
    S3::start(Ways { is_versioned: true, ..Ways::default() }, Lies::none()).await
}

fn open(store: &S3) -> Arc<dyn Sink> {
    open_with(&store.sink_url("bucket/pg"), &settings("user", "hunter2-hunter2")).unwrap()
}

#[tokio::test]
async fn a_tee_of_memory_conforms() {
    let (a, b) = (MemorySink::new(), MemorySink::new());
    conformance::sink::all(&*over(&[&a, &b])).await;
}

#[tokio::test]
async fn a_tee_of_a_folder_and_minio_conforms() {
    let folder = tempfile::tempdir().unwrap();
    let minio = Minio::shared();
    let settings = settings(minio.user(), minio.password());
    let store = open_with(&minio.sink_url(&minio.fresh_bucket().await), &settings).unwrap();
    conformance::sink::all(&*tee([Arc::new(LocalSink::new(folder.path())) as Arc<dyn Sink>, store]).unwrap()).await;
}

#[tokio::test]
async fn a_put_is_in_all_of_them() {
    let (a, b, c) = (MemorySink::new(), MemorySink::new(), MemorySink::new());
    let all = over(&[&a, &b, &c]);
    assert_eq!(all.put("x/y", stream_of(1, 5_000_000)).await.unwrap(), 5_000_000);
    let sent = collect(stream_of(1, 5_000_000), 5_000_000, "x/y").await.unwrap();
    for sink in [&a, &b, &c] {
        assert!(sink.bytes("x/y").unwrap() == sent);
    }
    assert_eq!(all.delete(&["x/y".to_owned()]).await.unwrap().keys, ["x/y"]);
    assert!([a, b, c].iter().all(|sink| sink.keys().is_empty()));
}

#[tokio::test]
async fn what_a_further_sink_did_not_take_is_an_error_and_the_others_keep_theirs() {
    let (a, b, c) = (MemorySink::new(), MemorySink::new(), MemorySink::new());
    for fault in [Fault::PutFails { after: 10 }, Fault::Unavailable { calls: 9 }] {
        let dying: Arc<dyn Sink> = Arc::new(ChaosSink::new(Arc::new(b.clone())).with(fault));
        let all = tee([Arc::new(a.clone()) as Arc<dyn Sink>, dying, Arc::new(c.clone())]).unwrap();
        let error = all.put("x", stream_of(1, 3_000_000)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        assert_eq!(error.typed_hint(), Some(&Hint::ReplicateLater));
        assert_eq!((a.keys(), b.keys(), c.keys()), (vec!["x".to_owned()], vec![], vec!["x".to_owned()]));
        a.delete(&["x".to_owned()]).await.unwrap();
        c.delete(&["x".to_owned()]).await.unwrap();
    }
}

#[tokio::test]
async fn what_the_first_sink_did_not_take_is_nowhere() {
    let (a, b) = (MemorySink::new(), MemorySink::new());
    let dying: Arc<dyn Sink> = Arc::new(ChaosSink::new(Arc::new(a.clone())).with(Fault::PutFails { after: 2_000_000 }));
    let all = tee([dying, Arc::new(b.clone()) as Arc<dyn Sink>]).unwrap();
    assert_eq!(all.put("x", stream_of(1, 3_000_000)).await.unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!((a.keys(), b.keys()), (vec![], vec![]));
}

#[tokio::test]
async fn a_stalled_further_sink_is_given_up_after_its_grace() {
    tokio::time::pause();
    let (a, b) = (MemorySink::new(), MemorySink::new());
    let stalled: Arc<dyn Sink> = Arc::new(ChaosSink::new(Arc::new(b.clone())).with(Fault::PutStalls { after: 0 }));
    let all = tee([Arc::new(a.clone()) as Arc<dyn Sink>, stalled]).unwrap();
    let put = tokio::time::timeout(std::time::Duration::from_secs(600), all.put("x", stream_of(1, 40_000_000)));
    // A stream that never ends holds the call, but not the first sink: that has taken everything.
    put.await.unwrap_err();
    assert_eq!(a.bytes("x").unwrap().len(), 40_000_000);
    assert_eq!(b.keys(), [""; 0]);
}

#[tokio::test]
async fn reading_goes_to_the_first_that_can() {
    let (a, b) = (MemorySink::new(), MemorySink::new());
    b.put("only/there", once("b")).await.unwrap();
    let all = over(&[&a, &b]);
    assert_eq!(collect(all.get("only/there", None).await.unwrap(), 9, "x").await.unwrap(), "b");
    assert_eq!(all.head("only/there").await.unwrap().bytes, 1);
    assert_eq!(all.put("only/there", once("x")).await.unwrap_err().kind(), ErrorKind::AlreadyExists);
    assert_eq!(a.keys(), [""; 0]);

    let away: Arc<dyn Sink> = Arc::new(ChaosSink::new(Arc::new(a)).with(Fault::Unavailable { calls: 99 }));
    let all = tee([away, Arc::new(b) as Arc<dyn Sink>]).unwrap();
    let listed: Vec<_> = all.list("").try_collect().await.unwrap();
    assert_eq!(listed[0].key, "only/there");
    // That it is missing is not known as long as one of them does not answer.
    assert_eq!(all.head("neither").await.unwrap_err().kind(), ErrorKind::Unavailable);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_hides_and_another_shows_is_not_hidden() {
    let (a, b) = (versioned().await, versioned().await);
    let (first, second) = (open(&a), open(&b));
    let all = tee([first.clone(), second.clone()]).unwrap();
    for key in ["both", "first", "second", "shown"] {
        all.put(key, once(key)).await.unwrap();
    }
    for (store, keys) in [(&a, ["both", "first"]), (&b, ["both", "second"])] {
        for key in keys {
            store.hide(&format!("bucket/pg/{key}"));
        }
    }
    let hidden = async |sink: &Arc<dyn Sink>| -> Vec<(String, u64)> {
        let found: Vec<_> = sink.upkeep().unwrap().hidden("").try_collect().await.unwrap();
        found.into_iter().map(|hidden| (hidden.key, hidden.bytes)).collect()
    };
    assert_eq!(hidden(&all).await, [("both".to_owned(), 8)]);
    let shown = MemorySink::new();
    shown.put("both", once("both")).await.unwrap();
    assert_eq!(hidden(&tee([first, second, Arc::new(shown)]).unwrap()).await, []);

    all.delete(&["both".to_owned()]).await.unwrap();
    assert_eq!(hidden(&all).await, []);
    assert!(all.head("first").await.is_ok() && all.head("second").await.is_ok());
}

#[test]
fn a_tee_has_a_sink() {
    assert_eq!(tee([]).unwrap_err().kind(), ErrorKind::Config);
}
