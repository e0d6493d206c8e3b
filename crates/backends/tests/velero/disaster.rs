//! What must be said, and what must still work, when Velero's server or its bucket is gone.

use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt;
use kube::api::{DeleteParams, ListParams};
use lifeboat_backends::velero::{
    Pair, RestoreOptions, RestoreTest, RestoreTestOptions, Velero, VeleroSettings, VeleroTarget, VeleroVerifier,
    VerifierOptions, layouts,
};
use lifeboat_core::duration::Length;
use lifeboat_core::{
    ArtifactName, Context, ErrorKind, RestoreInput, Source, Status, Target, TreeCopy, Verifier, stream,
};
use lifeboat_testkit::content::fresh_name;
use lifeboat_testkit::minio::Minio;
use serde_json::json;

use crate::cluster::{CONFIG_MAP, Kubernetes, NAMESPACE, STORAGE_LOCATION, bucket, storage_location};
use crate::server::Server;

const BACKUP: &str = "velero.io/v1 Backup backups";

fn of(namespace: &str) -> VeleroSettings {
    VeleroSettings::default().namespaces(vec![namespace.to_owned()])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_stops_in_mid_backup_is_a_time_limit_and_not_a_hang() {
    let kubernetes = Kubernetes::new().await;
    let namespace = kubernetes.fresh_namespace().await;
    for index in 0..100 {
        let object = json!({"metadata": {"name": format!("c{index}")}, "data": {"x": "1"}});
        kubernetes.create(CONFIG_MAP, Some(&namespace), object).await;
    }
    let server = Server::start().await;
    let options = of(&namespace).limit(Length(Duration::from_secs(8)));
    let source = Velero::new(server.cluster.clone(), server.location(), options);
    let making = tokio::spawn(async move { source.open(&Context::default()).await.map(drop) });
    let backups = kubernetes.api(BACKUP, Some(&server.namespace));
    loop {
        assert!(!making.is_finished(), "{:?}", making.await);
        let all = backups.list(&ListParams::default()).await.unwrap();
        if all.items.iter().any(|backup| backup.data["status"]["phase"] == "InProgress") {
            break;
        }
    }
    server.freeze();
    let error = making.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.message().starts_with("it is not complete after 8.0s: InProgress, "), "{error}");
    assert!(error.advice().unwrap().contains("check its log"));
    server.end().await;
    kubernetes.delete(NAMESPACE, None, &namespace).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_copy_in_the_second_bucket_restores_a_cluster_whose_first_bucket_is_gone() {
    let kubernetes = Kubernetes::new().await;
    let namespace = kubernetes.shop().await;
    let server = Server::start().await;
    let made = Velero::new(server.cluster.clone(), server.location(), of(&namespace));
    drop(made.open(&Context::default()).await.unwrap());
    let backups = kubernetes.api(BACKUP, Some(&server.namespace));
    let name = backups.list(&ListParams::default()).await.unwrap().items.remove(0).metadata.name.unwrap();

    // The whole bucket is copied, as `replicate` does it: its record lies outside of the folder that Velero will see.
    let second = Minio::shared().fresh_bucket().await;
    let copy =
        TreeCopy::new("velero", server.location(), bucket(&second)).unwrap().into_folder("velero").layouts(layouts());
    copy.plan().await.unwrap().execute().await.unwrap();

    // The first bucket is emptied; the cluster forgets the location and the backup, and loses the namespace.
    let first = server.location();
    let keys: Vec<String> = first.list("").map_ok(|object| object.key).try_collect().await.unwrap();
    assert!(keys.len() > 10, "{keys:?}");
    first.delete(&keys).await.unwrap();
    kubernetes.delete(STORAGE_LOCATION, Some(&server.namespace), "default").await;
    if backups.get_opt(&name).await.unwrap().is_some() {
        let _ = backups.delete(&name, &DeleteParams::default()).await;
    }
    kubernetes.delete(NAMESPACE, None, &namespace).await;

    // A location on the copy: Velero finds the backup there by itself.
    storage_location(&kubernetes, &server.namespace, "second", &second, &json!({})).await;
    let place = json!({"spec": {"objectStorage": {"prefix": "velero"}, "default": true}, "status": null});
    kubernetes.patch(STORAGE_LOCATION, Some(&server.namespace), "second", &place).await;
    server.available("second").await;
    let found = async {
        while backups.get_opt(&name).await.unwrap().is_none() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), found).await.unwrap();

    let options = RestoreTestOptions::new(&namespace)
        .backup(name)
        .scratch_namespace(fresh_name("scratch"))
        .limit(Length(Duration::from_secs(60)));
    let settings = lifeboat_sinks::Settings::default()
        .credentials(Some(lifeboat_sinks::Credentials::new(Minio::shared().user(), Minio::shared().password())));
    let copied = lifeboat_sinks::open_with(&Minio::shared().sink_url(&format!("{second}/velero")), &settings).unwrap();
    let report = RestoreTest::new(server.cluster.clone(), copied, options).run(&Context::default()).await.unwrap();
    assert!(report.passed, "{report:#?}");
    let check = |name: &str| report.checks.iter().find(|check| check.name == name).unwrap();
    assert_eq!(check("content: configmaps").figure, "3");
    assert_eq!(check("content: secrets").figure, "1");
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_artifact_is_put_back_and_restored_where_velero_has_lost_the_backup() {
    let kubernetes = Kubernetes::new().await;
    let namespace = kubernetes.fresh_namespace().await;
    kubernetes.create(CONFIG_MAP, Some(&namespace), json!({"metadata": {"name": "a"}, "data": {"x": "1"}})).await;
    let server = Server::start().await;
    let reading =
        Velero::new(server.cluster.clone(), server.location(), of(&namespace)).open(&Context::default()).await.unwrap();
    let artifact = stream::collect(reading.stream, 1 << 24, "the copy").await.unwrap();
    let first = server.location();
    let keys: Vec<String> = first.list("").map_ok(|object| object.key).try_collect().await.unwrap();
    let input = |bytes: bytes::Bytes| {
        RestoreInput::new(stream::once(bytes), "shop-20261121-033000.tar".parse::<ArtifactName>().unwrap(), None)
    };

    // While Velero has it the copy proves itself by the restore test of that very backup.
    let test = RestoreTestOptions::new(&namespace).scratch_namespace(fresh_name("scratch"));
    let verifier =
        VeleroVerifier::new(VerifierOptions::default().live((server.cluster.clone(), server.location())).test(test));
    let checks = verifier.restore_test(input(artifact.clone()), &Context::default()).await.unwrap();
    let failed: Vec<_> = checks.iter().filter(|check| check.status == Status::Fail).collect();
    assert!(failed.is_empty() && checks[0].name == "same backup", "{checks:#?}");
    assert!(checks.iter().any(|check| check.name == "content: configmaps"), "{checks:#?}");

    // Velero loses it.
    first.delete(&keys).await.unwrap();
    let backups = kubernetes.api(BACKUP, Some(&server.namespace));
    let name = keys[0].split('/').nth(1).unwrap();
    if backups.get_opt(name).await.unwrap().is_some() {
        let _ = backups.delete(name, &DeleteParams::default()).await;
    }
    let checks = verifier.restore_test(input(artifact.clone()), &Context::default()).await.unwrap();
    assert_eq!((checks[0].status, checks[0].figure.as_str()), (Status::Fail, "gone"));

    // A copy that is cut off leaves nothing in the bucket.
    let into = fresh_name("into");
    let options = RestoreOptions::default()
        .namespaces(vec![namespace.clone()])
        .namespace_mapping(vec![Pair::new(&*namespace, &*into)]);
    let target = VeleroTarget::new(server.cluster.clone(), Arc::clone(&first), options);
    let cut = artifact.slice(..artifact.len() - 3000);
    let error = target.restore(input(cut), &Context::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    let left: Vec<_> = first.list("").try_collect().await.unwrap();
    assert!(left.is_empty(), "{left:?}");

    let checks = target.restore(input(artifact.clone()), &Context::default()).await.unwrap();
    assert!(checks.iter().all(|check| check.status == Status::Pass), "{checks:#?}");
    assert!(checks[0].figure.ends_with("put back"), "{checks:#?}");
    assert_eq!(kubernetes.get(CONFIG_MAP, Some(&into), "a").await.unwrap()["data"]["x"], json!("1"));
    // Once more: it is there now.
    let checks = target.restore(input(artifact), &Context::default()).await.unwrap();
    assert_eq!(checks[0].figure, "there");
    server.end().await;
    for gone in [&namespace, &into] {
        kubernetes.delete(NAMESPACE, None, gone).await;
    }
}
