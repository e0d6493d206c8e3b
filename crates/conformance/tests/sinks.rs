//! The sinks of this package keep the promises of a sink.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use lifeboat_conformance::MemorySink;
use lifeboat_conformance::chaos::{ChaosSink, Fault};
use lifeboat_conformance::content::stream_of;
use lifeboat_conformance::sink;
use lifeboat_core::stream::collect;
use lifeboat_core::{ErrorKind, Sink};

#[tokio::test]
async fn memory_sink_conforms() {
    sink::all(&MemorySink::new()).await;
}

#[tokio::test]
async fn chaos_sink_without_faults_conforms() {
    sink::all(&ChaosSink::new(Arc::new(MemorySink::new()))).await;
}

#[tokio::test]
async fn each_fault_does_what_it_says() {
    let memory = MemorySink::new();
    let with = |fault| ChaosSink::new(Arc::new(memory.clone())).with(fault);
    let failing = with(Fault::PutFails { after: 5 });
    assert_eq!(failing.put("a", stream_of(1, 100)).await.unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(memory.keys(), [""; 0]);
    assert_eq!(
        with(Fault::PutLosesItsAnswer).put("a", stream_of(1, 100)).await.unwrap_err().kind(),
        ErrorKind::Unavailable
    );
    let whole = memory.bytes("a").unwrap();
    assert_eq!(whole.len(), 100);

    let short = with(Fault::GetTruncates { after: 7 }).get("a", None).await.unwrap();
    assert_eq!(collect(short, 100, "a").await.unwrap(), whole[..7]);
    let broken = with(Fault::GetFails { after: 7 }).get("a", None).await.unwrap();
    assert_eq!(collect(broken, 100, "a").await.unwrap_err().kind(), ErrorKind::Unavailable);
    let flipped = collect(with(Fault::GetFlips { at: 60 }).get("a", None).await.unwrap(), 100, "a").await.unwrap();
    let differ: Vec<_> = (0..100).filter(|i| flipped[*i] != whole[*i]).collect();
    assert_eq!(differ, [60]);

    let away = with(Fault::Unavailable { calls: 2 });
    assert!(away.head("a").await.unwrap_err().is_transient());
    assert!(away.head("a").await.unwrap_err().is_transient());
    away.head("a").await.unwrap();
}
