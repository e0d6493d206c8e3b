//! What Velero knows of its backups: list, details, logs, deletion.

use std::sync::Arc;
use std::time::Duration;

use lifeboat_backends::velero::{
    Cluster, Files, LinkOptions, LogOf, Velero, VeleroSettings, backup, backups, delete_backup, logs,
};
use lifeboat_core::{Context, ErrorKind, Sink, Source, stream};
use lifeboat_testkit::content::fresh_name;
use serde_json::json;

use crate::cluster::{
    Kubernetes, STORAGE_LOCATION, back_up, bucket, cluster, location, options, storage_location, variable,
    velero_namespace,
};

async fn text(files: &Files, of: LogOf) -> String {
    let log = logs(&cluster().await, files, &of, &Context::default()).await.unwrap();
    String::from_utf8(stream::collect(log, 1 << 24, "the log").await.unwrap().to_vec()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_is_listed_with_its_figures_and_told_in_detail() {
    let namespace = Kubernetes::new().await.shop().await;
    let name = back_up(&namespace).await;
    let all = backups(&cluster().await, None).await.unwrap();
    let listed = all.iter().find(|backup| backup.name == name).unwrap();
    assert!(listed.is_completed() && listed.seconds().unwrap() >= 0.0);
    assert_eq!((listed.storage_location.as_str(), &listed.namespaces), ("default", &vec![namespace.clone()]));
    assert!(listed.items > 5 && listed.items == listed.items_done, "{listed:?}");
    let kept = listed.expires.unwrap().duration_since(listed.started.unwrap()).as_hours();
    assert!((719..=720).contains(&kept), "Velero keeps a backup 30 days: {kept} h");

    // The same through a link and from the bucket.
    for files in [Files::links(), Files::Location(location())] {
        let details = backup(&cluster().await, &files, &name, &Context::default()).await.unwrap();
        assert_eq!(&details.summary, listed);
        assert_eq!((details.unread, details.problems.len()), (None, 0));
        assert_eq!(details.ttl.as_deref(), Some("720h0m0s"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_comes_through_a_link_as_it_lies_in_the_bucket() {
    let namespace = Kubernetes::new().await.fresh_namespace().await;
    let name = back_up(&namespace).await;
    let linked = text(&Files::links(), LogOf::Backup(name.clone())).await;
    assert!(linked.contains("Setting up backup log") || linked.contains("level=info"), "{linked}");
    assert_eq!(linked, text(&Files::Location(location()), LogOf::Backup(name)).await);
    let requests =
        Kubernetes::new().await.api("velero.io/v1 DownloadRequest downloadrequests", Some(&velero_namespace()));
    let left = requests.list(&kube::api::ListParams::default()).await.unwrap();
    // Those of tests that run beside this one are young.
    assert!(left.items.len() < 5, "{left:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_is_said_at_once_and_not_after_a_limit() {
    let cluster = cluster().await;
    let (files, name) = (Files::links(), fresh_name("none"));
    for of in [LogOf::Backup(name.clone()), LogOf::Restore(name.clone())] {
        let error = logs(&cluster, &files, &of, &Context::default()).await.map(drop).unwrap_err();
        assert!(error.kind() == ErrorKind::NoArtifact && error.subject().contains(&name), "{error}");
    }
    let error = delete_backup(&cluster, &name, Duration::from_secs(5), &Context::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoArtifact);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_leads_nowhere_from_here_says_where_it_leads_and_what_to_do() {
    let kubernetes = Kubernetes::new().await;
    let namespace = kubernetes.fresh_namespace().await;
    let name = fresh_name("elsewhere");
    // As in a cluster: its server reaches the store under a name that means nothing outside.
    let second = lifeboat_testkit::minio::Minio::shared().fresh_bucket().await;
    let public = json!({"publicUrl": "http://minio.velero.invalid:9000"});
    storage_location(&kubernetes, &velero_namespace(), &name, &second, &public).await;
    let options = VeleroSettings::default().namespaces(vec![namespace.clone()]).storage_location(name.clone());
    let source = Velero::new(cluster().await, bucket(&second), options);
    drop(source.open(&Context::default()).await.unwrap());
    let all = backups(&cluster().await, None).await.unwrap();
    let made = all.iter().find(|backup| backup.storage_location == name).unwrap().name.clone();

    let of = LogOf::Backup(made.clone());
    let error = logs(&cluster().await, &Files::links(), &of, &Context::default()).await.map(drop).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.message().starts_with("Velero's link leads to http://minio.velero.invalid:9000, "), "{error}");
    assert!(!error.to_string().contains("X-Amz"), "a link is a key: {error}");
    assert!(error.advice().unwrap().contains("publicUrl"), "{error:?}");
    // What it would say otherwise is told all the same.
    let details = backup(&cluster().await, &Files::links(), &made, &Context::default()).await.unwrap();
    assert!(details.unread.unwrap().contains("minio.velero.invalid"));

    delete_backup(&cluster().await, &made, Duration::from_secs(60), &Context::default()).await.unwrap();
    let locations = kubernetes.api(STORAGE_LOCATION, Some(&velero_namespace()));
    locations.delete(&name, &kube::api::DeleteParams::default()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_is_none_is_named() {
    let namespace = Kubernetes::new().await.fresh_namespace().await;
    let name = back_up(&namespace).await;
    let files = Files::Links(LinkOptions::default().ca(b"no certificate".to_vec()));
    let error = logs(&cluster().await, &files, &LogOf::Backup(name), &Context::default()).await.map(drop).unwrap_err();
    assert_eq!((error.kind(), error.message()), (ErrorKind::Config, "it holds no certificate in PEM"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_backup_leaves_nothing_in_cluster_and_bucket() {
    let namespace = Kubernetes::new().await.fresh_namespace().await;
    let name = back_up(&namespace).await;
    let check = delete_backup(&cluster().await, &name, Duration::from_secs(60), &Context::default()).await.unwrap();
    assert_eq!(check.figure, name);
    assert!(backups(&cluster().await, None).await.unwrap().iter().all(|backup| backup.name != name));
    let error = location().head(&format!("backups/{name}/velero-backup.json")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_velero_refuses_to_delete_is_told_in_its_words() {
    let kubernetes = Kubernetes::new().await;
    let name = fresh_name("broken");
    // A backup in a location that is not there any more.
    let spec = json!({"storageLocation": "gone", "ttl": "720h0m0s"});
    let object = json!({"metadata": {"name": name}, "spec": spec, "status": {"phase": "Completed"}});
    kubernetes.create("velero.io/v1 Backup backups", Some(&velero_namespace()), object).await;
    let error = delete_backup(&cluster().await, &name, Duration::from_secs(60), &Context::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert!(error.message().contains("backup storage location gone not found"), "{error}");
    let backups = kubernetes.api("velero.io/v1 Backup backups", Some(&velero_namespace()));
    backups.delete(&name, &kube::api::DeleteParams::default()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_server_links_and_deletions_end_by_their_limit() {
    let kubernetes = Kubernetes::new().await;
    let nobody = kubernetes.fresh_namespace().await;
    storage_location(&kubernetes, &nobody, "default", &variable("LIFEBOAT_TEST_VELERO_BUCKET"), &json!({})).await;
    let name = fresh_name("orphan");
    let object =
        json!({"metadata": {"name": name}, "spec": {"storageLocation": "default"}, "status": {"phase": "Completed"}});
    kubernetes.create("velero.io/v1 Backup backups", Some(&nobody), object).await;
    let cluster = Cluster::connect(&options(&nobody)).await.unwrap();
    let limit = Duration::from_secs(5);
    let files = Files::Links(LinkOptions::default().limit(limit));
    let error = logs(&cluster, &files, &LogOf::Backup(name.clone()), &Context::default()).await.map(drop).unwrap_err();
    assert_eq!(
        (error.kind(), error.message()),
        (ErrorKind::Unavailable, "Velero has not signed a link to it within 5.0s")
    );

    let error = delete_backup(&cluster, &name, limit, &Context::default()).await.unwrap_err();
    assert_eq!(error.message(), "Velero has not begun to delete it within 5.0s; the request is withdrawn");
    let requests = kubernetes.api("velero.io/v1 DeleteBackupRequest deletebackuprequests", Some(&nobody));
    assert_eq!(requests.list(&kube::api::ListParams::default()).await.unwrap().items.len(), 0);
    kubernetes.api("v1 Namespace namespaces", None).delete(&nobody, &kube::api::DeleteParams::default()).await.unwrap();
}

/// The sink is what the program gives: an `Arc<dyn Sink>`.
#[test]
fn files_can_be_sent_between_threads() {
    fn takes<T: Send + Sync + 'static>() {}
    takes::<Files>();
    takes::<Arc<dyn Sink>>();
}
