//! API servers that accept and then say nothing: at the handshake of TLS, before the answer, in the middle of it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use lifeboat_backends::velero::{Cluster, ConnectOptions, backups};
use lifeboat_core::ErrorKind;
use lifeboat_testkit::http_api::{Api, Fault, Kind, Request, Response, Server};
use serde_json::json;
use tokio::net::TcpListener;

struct Nothing;

impl Api for Nothing {
    fn answer(&self, _: &Request) -> Response {
        Response::json(200, &json!({"kind": "BackupList", "apiVersion": "velero.io/v1", "metadata": {}, "items": []}))
    }
}

/// Asks for Velero's backups, and says how that failed.
async fn failing(server: &str) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kubeconfig");
    let config = json!({"apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": server}}], "users": [{"name": "u", "user": {}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}]});
    std::fs::write(&path, config.to_string()).unwrap();
    let options = ConnectOptions::default().kubeconfig(path).silence(Duration::from_millis(300));
    let cluster = Cluster::connect(&options).await.unwrap();
    let begun = Instant::now();
    let listed = tokio::time::timeout(Duration::from_secs(20), backups(&cluster, None)).await;
    let error = listed.unwrap_or_else(|_| panic!("{server} is waited for without end")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
    assert!(error.message().contains("cannot be reached"), "{error:?}");
    assert!(begun.elapsed() >= Duration::from_millis(300), "it was not waited for");
}

#[tokio::test]
async fn an_api_server_that_falls_silent_is_left_after_the_limit() {
    // Who connects is accepted by the system, and nobody reads.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = silent.local_addr().unwrap();
    failing(&format!("https://{at}")).await;
    failing(&format!("http://{at}")).await;
    for kind in [Kind::Hang, Kind::HangInBody] {
        let server = Server::start(Arc::new(Nothing));
        server.fault(Fault::on("/apis", kind).always());
        failing(&server.url()).await;
    }
}
