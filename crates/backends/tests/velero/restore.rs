//! The restore test.

use std::process::Command;
use std::time::Duration;

use futures::TryStreamExt;
use kube::api::{DeleteParams, Patch, PatchParams};
use lifeboat_backends::velero::{Cluster, OWNER_LABEL, RestoreTest, RestoreTestOptions, Velero, VeleroSettings};
use lifeboat_core::duration::Length;
use lifeboat_core::{Check, Context, ErrorKind, Report, Source, Status, stream};
use lifeboat_testkit::content::fresh_name;
use lifeboat_testkit::minio::Minio;
use serde_json::json;

use crate::cluster::{
    CONFIG_MAP, Kubernetes, NAMESPACE, STORAGE_LOCATION, back_up, bucket, cluster, location, source, variable,
    velero_namespace,
};
use crate::server::Server;

async fn test(options: RestoreTestOptions) -> Report {
    RestoreTest::new(cluster().await, location(), options).run(&Context::default()).await.unwrap()
}

fn of(namespace: &str, backup: &str) -> RestoreTestOptions {
    let mut options = RestoreTestOptions::new(namespace);
    options.backup = Some(backup.to_owned());
    // Tests run side by side: each has a scratch namespace of its own.
    options.scratch_namespace = Some(fresh_name("scratch"));
    options.limit = Some(Length(Duration::from_secs(60)));
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
    let scratch = options.scratch().to_owned();
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
    let scratch = options.scratch().to_owned();
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
    let scratch = options.scratch().to_owned();
    let left = json!({"metadata": {"name": scratch, "labels": {OWNER_LABEL: scratch}}});
    kubernetes.create(NAMESPACE, None, left).await;
    kubernetes.create(CONFIG_MAP, Some(&scratch), json!({"metadata": {"name": "a"}, "data": {"x": "stale"}})).await;
    let report = test(options).await;
    assert!(report.passed, "{report:#?}");
    assert_eq!(
        check(&report, "leftovers").detail,
        format!("an earlier test was interrupted; removed Namespace {scratch}")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_that_no_test_made_is_not_touched() {
    let kubernetes = Kubernetes::new().await;
    let namespace = kubernetes.fresh_namespace().await;
    let backup = back_up(&namespace).await;
    let precious = kubernetes.fresh_namespace().await;
    let report = test(of(&namespace, &backup).scratch_namespace(precious.clone())).await;
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
    let later =
        Context::default().clock(std::sync::Arc::new(|| jiff::Timestamp::now() + jiff::SignedDuration::from_hours(49)));
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
    let scratch = options.scratch().to_owned();
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

/// A kind of the test's own, as an operator brings it.
async fn boats(kubernetes: &Kubernetes) -> (String, String) {
    let group = format!("{}.example.org", fresh_name("fleet"));
    let schema = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let spec = json!({"group": group, "scope": "Namespaced", "names": {"kind": "Boat", "plural": "boats", "singular": "boat"},
        "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}}]});
    let name = format!("boats.{group}");
    kubernetes.create(DEFINITION, None, json!({"metadata": {"name": name}, "spec": spec})).await;
    let established = async {
        loop {
            let found = kubernetes.get(DEFINITION, None, &name).await.unwrap();
            let conditions = found["status"]["conditions"].as_array().cloned().unwrap_or_default();
            if conditions.iter().any(|each| each["type"] == "Established" && each["status"] == "True") {
                return;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(30), established).await.unwrap();
    (format!("{group}/v1 Boat boats"), name)
}

const DEFINITION: &str = "apiextensions.k8s.io/v1 CustomResourceDefinition customresourcedefinitions";

#[tokio::test(flavor = "multi_thread")]
async fn objects_of_a_kind_of_its_own_come_back_and_are_compared() {
    let kubernetes = Kubernetes::new().await;
    let namespace = kubernetes.fresh_namespace().await;
    let (kind, definition) = boats(&kubernetes).await;
    for (name, crew) in [("anna", 12), ("berta", 30)] {
        let object = json!({"metadata": {"name": name}, "spec": {"crew": crew, "drills": [{"day": "monday"}]}});
        kubernetes.create(&kind, Some(&namespace), object).await;
    }
    // Velero's server learns of new kinds every five minutes; one of its own, which starts now, knows it.
    let server = Server::start().await;
    let options = VeleroSettings::default().namespaces(vec![namespace.clone()]);
    drop(Velero::new(server.cluster.clone(), server.location(), options).open(&Context::default()).await.unwrap());
    let options = RestoreTestOptions::new(&namespace)
        .scratch_namespace(fresh_name("scratch"))
        .limit(Length(Duration::from_secs(60)));
    let test = RestoreTest::new(server.cluster.clone(), server.location(), options.clone());
    let report = test.run(&Context::default()).await.unwrap();
    assert!(report.passed, "{report:#?}");
    assert_eq!(check(&report, &format!("content: {definition}")).figure, "2");

    // One that comes back otherwise is named, as any other object is.
    let scratch = options.scratch().to_owned();
    let test = RestoreTest::new(server.cluster.clone(), server.location(), options);
    let running = tokio::spawn(async move { test.run(&Context::default()).await.unwrap() });
    while kubernetes.get(&kind, Some(&scratch), "berta").await.is_none() {
        assert!(!running.is_finished(), "{:#?}", running.await);
    }
    kubernetes.patch(&kind, Some(&scratch), "berta", &json!({"spec": {"crew": 29}})).await;
    let report = running.await.unwrap();
    assert_eq!(check(&report, &format!("{definition} berta")).detail, "not as in the backup: .spec.crew");
    server.end().await;
    kubernetes.delete(DEFINITION, None, &definition).await;
    kubernetes.delete(NAMESPACE, None, &namespace).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partially_failed_backup_is_explained_by_its_volumes_and_its_log() {
    let kubernetes = Kubernetes::new().await;
    let missing = fresh_name("missing");
    source(&missing).await.open(&Context::default()).await.map(drop).unwrap_err();
    let all = lifeboat_backends::velero::backups(&cluster().await, None).await.unwrap();
    let name = all.iter().find(|backup| backup.namespaces == [missing.clone()]).unwrap().name.clone();
    // There is no node agent here: the copy of a volume is what one would have left.
    let copy = json!({"metadata": {"name": fresh_name("copy"), "labels": {"velero.io/backup-name": name}},
        "spec": {"node": "n1", "pod": {"kind": "Pod", "namespace": "shop", "name": "db-0"}, "volume": "data",
            "backupStorageLocation": "default", "repoIdentifier": "", "uploaderType": "kopia"},
        "status": {"phase": "Failed", "message": "timed out waiting for the node agent"}});
    kubernetes.create("velero.io/v1 PodVolumeBackup podvolumebackups", Some(&velero_namespace()), copy).await;
    let report = test(of("shop", &name)).await;
    let detail = &check(&report, "backup").detail;
    assert!(detail.contains(&format!("{name}, is PartiallyFailed: ")), "{detail}");
    assert!(detail.contains("volume data of Pod shop/db-0 (Failed): timed out waiting for the node agent"), "{detail}");
    assert!(detail.contains(&missing), "the log's own error is there too: {detail}");
    // Deleting the backup takes the copy along.
    let limit = Duration::from_secs(60);
    lifeboat_backends::velero::delete_backup(&cluster().await, &name, limit, &Context::default()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_test_that_is_gone_in_the_middle_is_cleaned_up_by_the_next() {
    let kubernetes = Kubernetes::new().await;
    let namespace = kubernetes.shop().await;
    let backup = back_up(&namespace).await;
    let options = of(&namespace, &backup);
    let scratch = options.scratch().to_owned();
    let running = tokio::spawn(test(options.clone()));
    while kubernetes.get(CONFIG_MAP, Some(&scratch), "settings-0").await.is_none() {
        assert!(!running.is_finished(), "{:#?}", running.await);
    }
    running.abort();
    assert!(running.await.unwrap_err().is_cancelled());
    assert!(kubernetes.get(NAMESPACE, None, &scratch).await.is_some());
    let report = test(options).await;
    assert!(report.passed, "{report:#?}");
    let leftovers = check(&report, "leftovers");
    assert!(
        leftovers.status == Status::Warn && leftovers.detail.contains("Restore lifeboat-restore-test-"),
        "{leftovers:?}"
    );
    assert_eq!(kubernetes.get(NAMESPACE, None, &scratch).await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_location_that_is_unavailable_ends_the_test_before_anything_is_made() {
    let kubernetes = Kubernetes::new().await;
    let nobody = kubernetes.fresh_namespace().await;
    crate::cluster::storage_location(&kubernetes, &nobody, "default", "gone", &json!({})).await;
    let status = json!({"status": {"phase": "Unavailable", "message": "bucket gone does not exist"}});
    kubernetes.patch(STORAGE_LOCATION, Some(&nobody), "default", &status).await;
    let object = json!({"metadata": {"name": "b"}, "spec": {"storageLocation": "default"},
        "status": {"phase": "Completed", "startTimestamp": jiff::Timestamp::now().to_string()}});
    kubernetes.create("velero.io/v1 Backup backups", Some(&nobody), object).await;
    let options = of("shop", "b");
    let scratch = options.scratch().to_owned();
    let cluster = Cluster::connect(&crate::cluster::options(&nobody)).await.unwrap();
    let report = RestoreTest::new(cluster, location(), options).run(&Context::default()).await.unwrap();
    let place = check(&report, "storage location");
    assert_eq!(
        (place.figure.as_str(), place.detail.as_str()),
        ("Unavailable", "default: gone: bucket gone does not exist")
    );
    assert_eq!(report.failures().count(), 1, "{report:#?}");
    assert_eq!(kubernetes.get(NAMESPACE, None, &scratch).await, None);
    kubernetes.delete(NAMESPACE, None, &nobody).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn backups_of_which_none_is_completed_are_said_to_be_so() {
    let kubernetes = Kubernetes::new().await;
    let schedule = fresh_name("weekly");
    let object = json!({"metadata": {"name": fresh_name("b"), "labels": {"velero.io/schedule-name": schedule}},
        "spec": {"storageLocation": "default"}, "status": {"phase": "Failed", "failureReason": "no space is left"}});
    let name = object["metadata"]["name"].as_str().unwrap().to_owned();
    kubernetes.create("velero.io/v1 Backup backups", Some(&velero_namespace()), object).await;
    let mut options = RestoreTestOptions::new("shop");
    options.schedule = Some(schedule.clone());
    let report = test(options).await;
    let expected = format!(
        "there is not a backup of the schedule {schedule} that is Completed; the last one, {name}, is Failed: it ended as \
         Failed: no space is left"
    );
    assert_eq!(check(&report, "backup").detail, expected);
    kubernetes.delete("velero.io/v1 Backup backups", Some(&velero_namespace()), &name).await;
}
