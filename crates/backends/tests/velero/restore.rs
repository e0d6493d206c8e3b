//! The restore test.

use std::process::Command;
use std::time::Duration;

use futures::TryStreamExt;
use kube::api::{DeleteParams, Patch, PatchParams};
use lifeboat_backends::velero::{OWNER_LABEL, RestoreTest, RestoreTestOptions};
use lifeboat_core::{Check, Context, ErrorKind, Report, Source, Status, stream};
use lifeboat_testkit::content::fresh_name;
use lifeboat_testkit::minio::Minio;
use serde_json::json;

use crate::cluster::{
    CONFIG_MAP, Kubernetes, NAMESPACE, STORAGE_LOCATION, back_up, bucket, cluster, location, source, variable,
    velero_namespace,
};

async fn test(options: RestoreTestOptions) -> Report {
    RestoreTest::new(cluster().await, location(), options).run(&Context::default()).await.unwrap()
}

fn of(namespace: &str, backup: &str) -> RestoreTestOptions {
    let mut options = RestoreTestOptions::new(namespace);
    options.backup = Some(backup.to_owned());
    // Tests run side by side: each has a scratch namespace of its own.
    options.scratch_namespace = fresh_name("scratch");
    options.limit = Duration::from_secs(60);
    options
}

fn check<'a>(report: &'a Report, name: &str) -> &'a Check {
    report.checks.iter().find(|check| check.name == name).unwrap_or_else(|| panic!("no check {name}: {report:#?}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_comes_back_object_by_object_and_nothing_is_left() {
    let kubernetes = Kubernetes::new().await;
    let namespace = kubernetes.shop().await;
    let backup = back_up(&namespace).await;
    let options = of(&namespace, &backup);
    let scratch = options.scratch_namespace.clone();
    let report = test(options).await;
    assert!(report.passed, "{report:#?}");
    assert_eq!(check(&report, "restore").figure, "Completed");
    assert_eq!(check(&report, "content: configmaps").figure, "3");
    assert_eq!(check(&report, "content: services").figure, "2");
    assert_eq!(check(&report, "content: deployments.apps").figure, "1");
    assert_eq!(check(&report, &format!("volume {namespace}/data")).status, Status::Warn);
    assert!(kubernetes.api(NAMESPACE, None).get_opt(&scratch).await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_came_back_changed_is_named() {
    let kubernetes = Kubernetes::new().await;
    let namespace = kubernetes.shop().await;
    let backup = back_up(&namespace).await;
    let options = of(&namespace, &backup);
    let scratch = options.scratch_namespace.clone();
    let test = tokio::spawn(test(options));
    // It is altered as soon as it is there; the test compares after the whole namespace is restored.
    let restored = kubernetes.api(CONFIG_MAP, Some(&scratch));
    while restored.get_opt("settings-1").await.unwrap().is_none() {
        assert!(!test.is_finished(), "{:#?}", test.await);
        tokio::task::yield_now().await;
    }
    let patch = Patch::Merge(json!({"data": {"colour": "red"}}));
    restored.patch("settings-1", &PatchParams::default(), &patch).await.unwrap();
    let report = test.await.unwrap();
    assert!(!report.passed);
    let check = check(&report, "configmaps settings-1");
    assert_eq!((check.figure.as_str(), check.detail.as_str()), ("differs", "not as in the backup: .data.colour"));
    assert_eq!(report.failures().count(), 1, "{report:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_test_left_is_removed_first() {
    let kubernetes = Kubernetes::new().await;
    let namespace = kubernetes.fresh_namespace().await;
    kubernetes.create(CONFIG_MAP, Some(&namespace), json!({"metadata": {"name": "a"}, "data": {"x": "1"}})).await;
    let backup = back_up(&namespace).await;
    let options = of(&namespace, &backup);
    let scratch = options.scratch_namespace.clone();
    let left = json!({"metadata": {"name": scratch, "labels": {OWNER_LABEL: scratch}}});
    kubernetes.create(NAMESPACE, None, left).await;
    kubernetes.create(CONFIG_MAP, Some(&scratch), json!({"metadata": {"name": "a"}, "data": {"x": "stale"}})).await;
    let report = test(options).await;
    assert!(report.passed, "{report:#?}");
    assert_eq!(check(&report, "leftovers").detail, format!("an earlier test was cut off; removed Namespace {scratch}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_that_no_test_made_is_not_touched() {
    let kubernetes = Kubernetes::new().await;
    let namespace = kubernetes.fresh_namespace().await;
    let backup = back_up(&namespace).await;
    let precious = kubernetes.fresh_namespace().await;
    let report = test(RestoreTestOptions { scratch_namespace: precious.clone(), ..of(&namespace, &backup) }).await;
    assert_eq!(check(&report, "scratch namespace").figure, "refused");
    let there = kubernetes.api(NAMESPACE, None).get(&precious).await.unwrap();
    assert!(there.metadata.deletion_timestamp.is_none());
    kubernetes.api(NAMESPACE, None).delete(&precious, &DeleteParams::default()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_backup_fails_though_it_comes_back() {
    let kubernetes = Kubernetes::new().await;
    let namespace = kubernetes.fresh_namespace().await;
    let backup = back_up(&namespace).await;
    let options = of(&namespace, &backup);
    let later = Context {
        clock: std::sync::Arc::new(|| jiff::Timestamp::now() + jiff::SignedDuration::from_hours(49)),
        ..Context::default()
    };
    let report = RestoreTest::new(cluster().await, location(), options).run(&later).await.unwrap();
    assert_eq!(check(&report, "age").status, Status::Fail);
    assert!(check(&report, "age").detail.ends_with("and 2d 0h is the limit"), "{report:#?}");
    assert_eq!(check(&report, "restore").status, Status::Pass);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_completed_backup_of_the_schedule_it_fails() {
    let schedule = fresh_name("nightly");
    let mut options = RestoreTestOptions::new("default");
    options.schedule = Some(schedule.clone());
    let report = test(options).await;
    assert!(!report.passed);
    assert_eq!(check(&report, "backup").detail, format!("there is not a backup of the schedule {schedule}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_test_cleans_up() {
    let kubernetes = Kubernetes::new().await;
    let namespace = kubernetes.shop().await;
    let backup = back_up(&namespace).await;
    let options = of(&namespace, &backup);
    let scratch = options.scratch_namespace.clone();
    let context = Context::default();
    let cancel = context.cancel.clone();
    let test = RestoreTest::new(cluster().await, location(), options);
    let test = tokio::spawn(async move { test.run(&context).await });
    let api = kubernetes.api(NAMESPACE, None);
    while api.get_opt(&scratch).await.unwrap().is_none() {
        assert!(!test.is_finished(), "{:#?}", test.await);
        tokio::task::yield_now().await;
    }
    cancel.cancel();
    assert_eq!(test.await.unwrap().unwrap_err().kind(), ErrorKind::Cancelled);
    assert!(api.get_opt(&scratch).await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_restores_when_the_first_bucket_has_lost_the_backup() {
    let kubernetes = Kubernetes::new().await;
    let namespace = kubernetes.shop().await;
    let reading = source(&namespace).await.open(&Context::default()).await.unwrap();
    let copy = stream::collect(reading.stream, 1 << 24, "the copy").await.unwrap();

    // The first bucket loses it, and the cluster forgets it.
    let lost: Vec<_> = location().list(&format!("backups/{namespace}-")).try_collect().await.unwrap();
    let keys: Vec<_> = lost.into_iter().map(|object| object.key).collect();
    location().delete(&keys).await.unwrap();
    let backup = keys[0].split('/').nth(1).unwrap();
    let backups = kubernetes.api("velero.io/v1 Backup backups", Some(&velero_namespace()));
    backups.delete(backup, &DeleteParams::default()).await.unwrap();

    // The copy is unpacked by stock tar into a bucket that a second storage location names.
    let folder = tempfile::tempdir().unwrap();
    let archive = folder.path().join("copy.tar");
    std::fs::write(&archive, copy).unwrap();
    assert!(Command::new("tar").arg("-xf").arg(&archive).arg("-C").arg(folder.path()).status().unwrap().success());
    let second = Minio::shared().fresh_bucket().await;
    let sink = bucket(&second);
    for key in &keys {
        sink.put(key, stream::once(std::fs::read(folder.path().join(key)).unwrap())).await.unwrap();
    }
    let (place, minio) = (fresh_name("second"), variable("LIFEBOAT_TEST_MINIO_URL"));
    let config = json!({"region": "us-east-1", "s3ForcePathStyle": "true", "s3Url": minio});
    let spec = json!({"provider": "aws", "objectStorage": {"bucket": second}, "config": config});
    kubernetes
        .create(STORAGE_LOCATION, Some(&velero_namespace()), json!({"metadata": {"name": place}, "spec": spec}))
        .await;

    // Velero finds it there by itself, within its interval of ten seconds.
    let found = async {
        while backups.get_opt(backup).await.unwrap().is_none() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(90), found).await.unwrap();
    let options = of(&namespace, backup);
    let report = RestoreTest::new(cluster().await, sink, options).run(&Context::default()).await.unwrap();
    assert!(report.passed, "{report:#?}");
    assert_eq!(check(&report, "content: configmaps").figure, "3");
    assert!(check(&report, "storage location").detail.ends_with(&second), "{report:#?}");
    let locations = kubernetes.api(STORAGE_LOCATION, Some(&velero_namespace()));
    locations.delete(&place, &DeleteParams::default()).await.unwrap();
}
