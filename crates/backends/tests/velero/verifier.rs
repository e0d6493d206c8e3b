//! The verifier of copies: what must be in them, and whether the cluster goes on making backups.

use std::time::Duration;

use futures::StreamExt;
use lifeboat_backends::velero::{Cluster, ScheduleSettings, VeleroVerifier, VerifierOptions, plan_schedules};
use lifeboat_core::{ArtifactName, Check, Context, ErrorKind, Source, Status, Verifier};
use serde_json::{Value, json};

use crate::cluster::{Kubernetes, NAMESPACE, location, options, source, storage_location};

fn named() -> ArtifactName {
    "shop-20261121-033000.tar".parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_that_must_be_covered_fails_the_structure_by_name() {
    let namespace = Kubernetes::new().await.shop().await;
    let mut reading = source(&namespace).await.open(&Context::default()).await.unwrap();
    let claim = format!("{namespace}/data");
    let strict = VerifierOptions::default().must_cover(vec![claim.clone()]);
    let mut strict = VeleroVerifier::new(strict).tap(&named()).unwrap();
    let mut lenient = VeleroVerifier::default().tap(&named()).unwrap();
    while let Some(chunk) = reading.stream.next().await {
        let chunk = chunk.unwrap();
        strict.push(&chunk).unwrap();
        lenient.push(&chunk).unwrap();
    }
    lenient.finish().unwrap();
    let error = strict.finish().unwrap_err();
    assert!(error.message().starts_with(&format!("volume {claim}: no data")), "{error}");
    let other: ArtifactName = "shop-20261121-033000.dump".parse().unwrap();
    assert_eq!(VeleroVerifier::default().tap(&other).err().unwrap().kind(), ErrorKind::Unsupported);
}

fn check<'a>(checks: &'a [Check], name: &str) -> &'a Check {
    checks.iter().find(|check| check.name == name).unwrap_or_else(|| panic!("no check {name}: {checks:#?}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_live_level_tells_whether_the_cluster_goes_on_making_backups() {
    // No server looks into this namespace: what is in it stays as it is said here.
    let kubernetes = Kubernetes::new().await;
    let namespace = kubernetes.fresh_namespace().await;
    storage_location(&kubernetes, &namespace, "default", "any", &json!({})).await;
    let cluster = Cluster::connect(&options(&namespace)).await.unwrap();
    let live = |schedule: &str| {
        VeleroVerifier::new(
            VerifierOptions::default().live((cluster.clone(), location())).schedule(schedule.to_owned()),
        )
    };
    let look = async |schedule: &str| live(schedule).live(None, &Context::default()).await.unwrap();
    let checks = look("daily").await;
    assert_eq!(check(&checks, "schedule").figure, "missing");
    assert_eq!(check(&checks, "latest backup").figure, "none Completed");

    let daily = ScheduleSettings::new("daily", "@daily").paused(true);
    let prepared = plan_schedules(&cluster, &[daily], false).await.unwrap();
    tokio::spawn(async move { prepared.apply(&Context::default()).await });
    let backup = |name: &str, hours: i64, status: Value| {
        let begun = jiff::Timestamp::now() - jiff::SignedDuration::from_hours(hours);
        let mut status = status;
        status["startTimestamp"] = begun.strftime("%Y-%m-%dT%H:%M:%SZ").to_string().into();
        json!({"metadata": {"name": name, "labels": {"velero.io/schedule-name": "daily"}},
            "spec": {"storageLocation": "default"}, "status": status})
    };
    const BACKUP: &str = "velero.io/v1 Backup backups";
    kubernetes.create(BACKUP, Some(&namespace), backup("old", 50, json!({"phase": "Completed"}))).await;
    let checks = look("daily").await;
    assert_eq!(check(&checks, "latest backup").figure, "old");
    let age = check(&checks, "age of the latest");
    assert!(age.status == Status::Fail && age.detail.ends_with("and 2d 0h is the limit"), "{age:?}");

    kubernetes.create(BACKUP, Some(&namespace), backup("new", 2, json!({"phase": "Completed"}))).await;
    let failed = json!({"phase": "Failed", "failureReason": "no space is left"});
    kubernetes.create(BACKUP, Some(&namespace), backup("newer", 1, failed)).await;
    let paused = async { while check(&look("daily").await, "schedule").figure != "paused" {} };
    tokio::time::timeout(Duration::from_secs(20), paused).await.unwrap();
    let checks = look("daily").await;
    assert_eq!(check(&checks, "age of the latest").status, Status::Pass);
    assert_eq!(check(&checks, "schedule").status, Status::Warn);
    let latest = check(&checks, "latest backup");
    assert_eq!((latest.status, latest.figure.as_str()), (Status::Warn, "new"));
    assert_eq!(latest.detail, "the last one, newer: it ended as Failed: no space is left");
    kubernetes.delete(NAMESPACE, None, &namespace).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_cluster_the_levels_that_need_one_say_so() {
    let error = VeleroVerifier::default().live(None, &Context::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.advice().unwrap().contains("structure"), "{error:?}");
}
