//! The source: a backup is made, watched and copied.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use lifeboat_backends::velero::{Cluster, Pair, Velero, VeleroSettings};
use lifeboat_core::duration::Length;
use lifeboat_core::progress::Tally;
use lifeboat_core::{Context, ErrorKind, Source};
use lifeboat_testkit::conformance;
use lifeboat_testkit::content::{bytes, fresh_name};
use serde_json::json;

use crate::cluster::{
    CONFIG_MAP, Kubernetes, NAMESPACE, STORAGE_LOCATION, cluster, location, options, source, variable, velero_namespace,
};

fn of(namespace: &str) -> VeleroSettings {
    VeleroSettings::default().namespaces(vec![namespace.to_owned()])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_holds_every_object_and_opens_with_stock_tar() {
    let namespace = Kubernetes::new().await.shop().await;
    let tally = Arc::new(Tally::default());
    let context = Context::default().progress(tally.clone());
    let mut reading = source(&namespace).await.open(&context).await.unwrap();
    let mut archive = Vec::new();
    while let Some(chunk) = reading.stream.next().await {
        let chunk = chunk.unwrap();
        reading.tap.push(&chunk).unwrap();
        archive.extend_from_slice(&chunk);
    }
    let units = reading.tap.units_done();
    let proof = reading.tap.finish().unwrap();
    let count = |name: &str| proof.items.iter().find(|item| item.name == name).map(|item| item.count);
    // The cluster adds kube-root-ca.crt.
    assert_eq!(count("configmaps"), Some(4));
    assert_eq!((count("secrets"), count("deployments.apps"), count("services")), (Some(1), Some(1), Some(2)));
    assert_eq!(proof.details["claims without data"], json!([format!("{namespace}/data")]));
    let note = format!("the claim {namespace}/data is in the backup, but its data is not: ");
    assert!(tally.notes().iter().any(|told| told.starts_with(&note)), "{:?}", tally.notes());
    // Velero counted as many items as the copy holds.
    assert_eq!((tally.advanced(), units), (proof.total_count(), proof.total_count()));

    let mut tar = Command::new("tar").arg("-t").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdin = tar.stdin.take().unwrap();
    let writer = std::thread::spawn(move || stdin.write_all(&archive));
    let listed = tar.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    assert!(listed.lines().any(|line| line.ends_with("/velero-backup.json")), "{listed}");
    assert!(listed.lines().all(|line| line.starts_with(&format!("backups/{namespace}-"))), "{listed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn it_keeps_what_a_source_promises() {
    let kubernetes = Kubernetes::new().await;
    let namespace = kubernetes.fresh_namespace().await;
    // What does not compress: the suite wants a megabyte.
    for index in 0..2 {
        let text = hex::encode(bytes(index, 450_000));
        let object = json!({"metadata": {"name": format!("large-{index}")}, "data": {"text": text}});
        kubernetes.create(CONFIG_MAP, Some(&namespace), object).await;
    }
    conformance::source::all(&source(&namespace).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partially_failed_backup_says_why() {
    let missing = fresh_name("missing");
    let source = Velero::new(cluster().await, location(), of(&missing));
    let error = source.open(&Context::default()).await.unwrap_err();
    assert!(error.message().contains("PartiallyFailed"), "{error}");
    assert!(error.message().contains(&format!("fail to get the namespace {missing}")), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_choice_that_fits_nothing_is_an_error() {
    let label = Pair::new("app", fresh_name("missing"));
    let choice = of("default").labels(vec![label]);
    let error = Velero::new(cluster().await, location(), choice).open(&Context::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error:?}");
    assert!(error.message().contains("fits the namespaces and labels"), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_storage_location_that_is_not_available_is_named_before_anything_starts() {
    let kubernetes = Kubernetes::new().await;
    let (name, bucket) = (fresh_name("location"), fresh_name("no-bucket"));
    let minio = variable("LIFEBOAT_TEST_MINIO_URL");
    let config = json!({"region": "us-east-1", "s3ForcePathStyle": "true", "s3Url": minio});
    let spec = json!({"provider": "aws", "objectStorage": {"bucket": bucket}, "config": config});
    kubernetes
        .create(STORAGE_LOCATION, Some(&velero_namespace()), json!({"metadata": {"name": name}, "spec": spec}))
        .await;

    let options = of("default").storage_location(name.clone());
    let source = Velero::new(cluster().await, location(), options);
    let error = source.describe().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.subject().contains(&name), "{error}");
    assert!(error.message().contains(&bucket), "{error}");
    let api = kubernetes.api(STORAGE_LOCATION, Some(&velero_namespace()));
    api.delete(&name, &kube::api::DeleteParams::default()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_does_not_run_is_a_time_limit_and_not_a_hang() {
    // No server looks into this namespace; the location's status is what one left that ran before.
    let kubernetes = Kubernetes::new().await;
    let nobody = kubernetes.fresh_namespace().await;
    let location_object = json!({"metadata": {"name": "default"}, "spec": {"provider": "aws", "default": true,
        "objectStorage": {"bucket": "any"}}, "status": {"phase": "Available"}});
    kubernetes.create(STORAGE_LOCATION, Some(&nobody), location_object).await;
    let cluster = Cluster::connect(&options(&nobody)).await.unwrap();
    let limited = of("default").limit(Length(Duration::from_secs(5)));
    let error = Velero::new(cluster, location(), limited).open(&Context::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert_eq!(error.message(), "Velero has not begun it within 5.0s");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_right_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let kubeconfig = folder.path().join("kubeconfig");
    let text = std::fs::read_to_string(variable("LIFEBOAT_TEST_KUBECONFIG")).unwrap();
    let user = "system:serviceaccount:ops:lifeboat";
    std::fs::write(&kubeconfig, text.replace("  user:\n", &format!("  user:\n    as: {user}\n"))).unwrap();
    let options = options(&velero_namespace()).kubeconfig(kubeconfig);
    let cluster = Cluster::connect(&options).await.unwrap();
    let error = Velero::new(cluster, location(), of("default")).describe().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Permission);
    let expected = format!(
        "give {user} the verb list on backupstoragelocations.velero.io by a Role in the namespace {}",
        velero_namespace()
    );
    assert_eq!(error.advice(), Some(expected.as_str()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_without_velero_says_so() {
    let kubernetes = Kubernetes::new().await;
    let empty = kubernetes.fresh_namespace().await;
    let cluster = Cluster::connect(&options(&empty)).await.unwrap();
    let error = Velero::new(cluster, location(), of("default")).describe().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.subject().contains("storage location"), "{error}");
    kubernetes.api(NAMESPACE, None).delete(&empty, &kube::api::DeleteParams::default()).await.unwrap();
}
