//! The bucket-side verifier: what is wrong with a backup is named, without a cluster.

use std::collections::BTreeMap;
use std::sync::Arc;

use lifeboat_backends::velero::BucketVerifier;
use lifeboat_core::{Check, Context, ErrorKind, Report, Sink, Status, stream};
use lifeboat_testkit::memory::MemorySink;
use tokio::sync::OnceCell;

use crate::cluster::{Kubernetes, back_up, copied, file_of};

/// One backup that all tests here copy and damage: its namespace and its name.
async fn backup() -> &'static (String, String) {
    static BACKUP: OnceCell<(String, String)> = OnceCell::const_new();
    BACKUP
        .get_or_init(async || {
            let namespace = Kubernetes::new().await.shop().await;
            let name = back_up(&namespace).await;
            (namespace, name)
        })
        .await
}

async fn verdict(sink: MemorySink) -> Report {
    let mut reports = BucketVerifier::new(Arc::new(sink)).run(&Context::default()).await.unwrap();
    assert_eq!(reports.len(), 1);
    reports.remove(0)
}

async fn changed(file: &str, content: Option<Vec<u8>>) -> Report {
    verdict(copied(&backup().await.1, &BTreeMap::from([(file.to_owned(), content)])).await).await
}

fn check<'a>(report: &'a Report, name: &str) -> &'a Check {
    report.checks.iter().find(|check| check.name == name).unwrap_or_else(|| panic!("no check {name}: {report:#?}"))
}

fn packed(content: &[u8]) -> Vec<u8> {
    use std::io::Write as _;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_good_backup_passes_and_its_claim_without_data_is_named() {
    let (namespace, name) = backup().await;
    let report = verdict(copied(name, &BTreeMap::new()).await).await;
    assert!(report.passed, "{report:#?}");
    assert_eq!(check(&report, "phase").figure, "Completed");
    assert_eq!(check(&report, "volumes").figure, "0 of 1");
    assert_eq!(check(&report, &format!("volume {namespace}/data")).status, Status::Warn);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_that_must_be_covered_fails_it() {
    let (namespace, name) = backup().await;
    let sink = Arc::new(copied(name, &BTreeMap::new()).await);
    let claims = ["data", "gone"].map(|claim| format!("{namespace}/{claim}"));
    let report = BucketVerifier::new(sink).must_cover(claims).verify(name, &Context::default()).await.unwrap();
    assert!(!report.passed);
    assert_eq!(check(&report, &format!("volume {namespace}/data")).figure, "no data");
    assert_eq!(check(&report, &format!("volume {namespace}/gone")).figure, "missing");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_file_that_is_missing_or_cut_off_fails_it_by_name() {
    let name = &backup().await.1;
    for suffix in [
        ".tar.gz",
        "-resource-list.json.gz",
        "-results.gz",
        "-podvolumebackups.json.gz",
        "-volumesnapshots.json.gz",
        "-itemoperations.json.gz",
        "-volumeinfo.json.gz",
        "velero-backup.json",
    ] {
        let file = if suffix.starts_with(['.', '-']) { format!("{name}{suffix}") } else { suffix.to_owned() };
        let report = changed(&file, None).await;
        assert!(!report.passed && check(&report, "files").detail.contains(&file), "{file}: {report:#?}");
        let mut whole = file_of(name, &file).await;
        whole.truncate(whole.len() - 5);
        let report = changed(&file, Some(whole)).await;
        assert!(!report.passed, "{file}: {report:#?}");
        assert_eq!(check(&report, &format!("readable {file}")).figure, "broken");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flipped_byte_in_the_tarball_fails_it() {
    let name = &backup().await.1;
    let file = format!("{name}.tar.gz");
    let mut bytes = file_of(name, &file).await;
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    let report = changed(&file, Some(bytes)).await;
    assert!(!report.passed);
    assert_eq!(check(&report, &format!("readable {file}")).status, Status::Fail);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_does_not_agree_with_the_tarball_names_the_object() {
    let (namespace, name) = backup().await;
    let list = format!(r#"{{"v1/ConfigMap":["{namespace}/never-was"]}}"#);
    let report = changed(&format!("{name}-resource-list.json.gz"), Some(packed(list.as_bytes()))).await;
    assert!(!report.passed);
    let detail = &check(&report, "items").detail;
    assert!(
        detail.contains(&format!("v1/ConfigMap {namespace}/never-was is listed, but not in the tarball")),
        "{detail}"
    );
    assert!(
        detail.contains(&format!("v1/ConfigMap {namespace}/settings-0 is in the tarball, but not listed")),
        "{detail}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_phase_that_is_not_completed_fails_it_with_the_errors() {
    let name = &backup().await.1;
    let metadata = String::from_utf8(file_of(name, "velero-backup.json").await).unwrap();
    let metadata = metadata.replace(r#""phase": "Completed""#, r#""phase": "PartiallyFailed""#);
    let results =
        packed(br#"{"errors":{"velero":["timed out waiting for all PodVolumeBackups to complete"]},"warnings":{}}"#);
    let changes = BTreeMap::from([
        ("velero-backup.json".to_owned(), Some(metadata.into_bytes())),
        (format!("{name}-results.gz"), Some(results)),
    ]);
    let report = verdict(copied(name, &changes).await).await;
    let phase = check(&report, "phase");
    assert_eq!((phase.status, phase.figure.as_str()), (Status::Fail, "PartiallyFailed"));
    assert_eq!(phase.detail, "timed out waiting for all PodVolumeBackups to complete");
}

#[tokio::test(flavor = "multi_thread")]
async fn volumes_need_their_snapshot_and_their_repository() {
    let (namespace, name) = backup().await;
    let volume = |handle: &str| {
        let info = format!(
            r#"[{{"pvcName":"data","pvcNamespace":"{namespace}","backupMethod":"PodVolumeBackup","result":"succeeded",
               "pvbInfo":{{"snapshotHandle":"{handle}","Phase":"Completed"}}}}]"#
        );
        BTreeMap::from([(format!("{name}-volumeinfo.json.gz"), Some(packed(info.as_bytes())))])
    };
    let sink = copied(name, &volume("k1234")).await;
    let report = verdict(sink.clone()).await;
    assert_eq!(check(&report, "volumes").figure, "1 of 1");
    assert_eq!(check(&report, &format!("repository {namespace}")).figure, "missing");
    sink.put(&format!("kopia/{namespace}/kopia.repository"), stream::once("x")).await.unwrap();
    assert!(verdict(sink).await.passed);
    let report = verdict(copied(name, &volume("")).await).await;
    assert_eq!(check(&report, &format!("volume {namespace}/data")).detail, "no snapshot in the repository");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_without_backups_is_no_success() {
    let error = BucketVerifier::new(Arc::new(MemorySink::new())).run(&Context::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoArtifact);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_makes_the_location_unavailable_is_named() {
    let sink = MemorySink::new();
    sink.put("backups/a/velero-backup.json", stream::once("{}")).await.unwrap();
    let verifier = BucketVerifier::new(Arc::new(sink.clone()));
    assert_eq!(verifier.foreign_folders().await.unwrap().status, Status::Pass);
    sink.put("postgresql-backups/a-20261121-033000.dump", stream::once("x")).await.unwrap();
    let check = verifier.foreign_folders().await.unwrap();
    assert!(check.status == Status::Fail && check.detail.starts_with("postgresql-backups:"), "{check:?}");
}
