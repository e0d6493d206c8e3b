//! How lists of the Kubernetes API are read: to the piece that says that there is no further. An imitation of one list.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use lifeboat_backends::velero::{Cluster, ConnectOptions, backups};
use lifeboat_core::ErrorKind;
use lifeboat_testkit::http_api::{Api, Request, Response, Server};
use serde_json::{Value, json};

/// What a list does that has seven backups, three in a piece.
#[derive(Clone, Copy)]
enum Manner {
    Whole,
    /// The first token is forgotten once, or always.
    Gone(usize),
    /// The second piece has no token, and says that there is more.
    Left,
    /// Each piece leads to the second one.
    Circle,
}

struct List {
    manner: Manner,
    asked: AtomicUsize,
}

impl Api for List {
    fn answer(&self, request: &Request) -> Response {
        assert!(request.path.ends_with("/namespaces/velero/backups"), "{}", request.path);
        assert!(request.param("limit").is_some(), "{}", request.line);
        let asked = self.asked.fetch_add(1, Ordering::SeqCst);
        let from: usize = request.param("continue").map_or(0, |token| token.parse().unwrap());
        if matches!(self.manner, Manner::Gone(until) if from > 0 && asked < until) {
            let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "reason": "Expired",
                "message": "The provided continue parameter is too old", "code": 410});
            return Response::json(410, &status);
        }
        let to = (from + 3).min(7);
        let items: Vec<Value> =
            (from..to).map(|n| json!({"metadata": {"name": format!("b{n}")}, "spec": {}})).collect();
        let metadata = match (self.manner, to) {
            (_, 7) => json!({"resourceVersion": "1"}),
            (Manner::Left, 6) => json!({"resourceVersion": "1", "remainingItemCount": 1}),
            (Manner::Circle, _) => json!({"continue": "3", "remainingItemCount": 4}),
            _ => json!({"continue": to.to_string(), "remainingItemCount": 7 - to}),
        };
        let list = json!({"kind": "BackupList", "apiVersion": "velero.io/v1", "metadata": metadata, "items": items});
        Response::json(200, &list)
    }
}

async fn read(manner: Manner) -> lifeboat_core::Result<usize> {
    let server = Server::start(Arc::new(List { manner, asked: AtomicUsize::new(0) }));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kubeconfig");
    let config = json!({"apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": server.url()}}], "users": [{"name": "u", "user": {}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}]});
    std::fs::write(&path, config.to_string()).unwrap();
    let options = ConnectOptions::default().kubeconfig(path);
    let cluster = Cluster::connect(&options).await.unwrap();
    Ok(backups(&cluster, None).await?.len())
}

#[tokio::test]
async fn a_list_of_backups_is_read_to_its_last_piece() {
    assert_eq!(read(Manner::Whole).await.unwrap(), 7);
    assert_eq!(read(Manner::Gone(2)).await.unwrap(), 7, "begun anew once");
}

#[tokio::test]
async fn a_list_of_backups_that_may_not_be_whole_is_refused() {
    for (manner, says) in [
        (Manner::Gone(usize::MAX), "while it was read"),
        (Manner::Left, "1 more are announced"),
        (Manner::Circle, "leads back to an earlier one"),
    ] {
        let error = read(manner).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(error.message().contains(says), "{error}");
    }
}
