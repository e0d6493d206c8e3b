//! Restores by Velero.

use std::time::Duration;

use kube::api::{DeleteParams, Patch, PatchParams};
use lifeboat_backends::velero::{Cluster, ExistingPolicy, Files, LogOf, Pair, RestoreOptions, logs, restore};
use lifeboat_core::duration::Length;
use lifeboat_core::{Check, Context, ErrorKind, Status, stream};
use lifeboat_testkit::content::fresh_name;
use serde_json::json;

use crate::cluster::{
    CONFIG_MAP, Kubernetes, NAMESPACE, back_up, cluster, location, options, storage_location, variable,
};

async fn made(backup: &str, options: &RestoreOptions) -> Vec<Check> {
    restore(&cluster().await, &Files::links(), backup, options, &Context::default()).await.unwrap()
}

fn check<'a>(checks: &'a [Check], name: &str) -> &'a Check {
    checks.iter().find(|check| check.name == name).unwrap_or_else(|| panic!("no check {name}: {checks:#?}"))
}

/// One namespace into another, which does not exist yet.
fn mapped(from: &str) -> (RestoreOptions, String) {
    let into = fresh_name("into");
    let mapping = vec![Pair::new(from, &*into)];
    let options = RestoreOptions::default().namespaces(vec![from.to_owned()]).namespace_mapping(mapping);
    (options, into)
}

async fn drop_namespace(kubernetes: &Kubernetes, name: &str) {
    kubernetes.api(NAMESPACE, None).delete(name, &DeleteParams::default()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_is_restored_under_another_name_with_chosen_resources() {
    let kubernetes = Kubernetes::new().await;
    let namespace = kubernetes.shop().await;
    let backup = back_up(&namespace).await;
    let (options, into) = mapped(&namespace);
    let options = options.exclude_resources(vec![
        "deployments.apps".to_owned(),
        "pods".to_owned(),
        "replicasets.apps".to_owned(),
    ]);
    let checks = made(&backup, &options).await;
    assert!(checks.iter().all(|check| check.status == Status::Pass), "{checks:#?}");
    assert_eq!(check(&checks, "restore").figure, "Completed");
    let exists = async |kind, name| kubernetes.api(kind, Some(&into)).get_opt(name).await.unwrap().is_some();
    assert!(exists(CONFIG_MAP, "settings-2").await && exists("v1 Service services", "web").await);
    assert!(!exists("apps/v1 Deployment deployments", "web").await);

    // Its log is there afterwards.
    let name = check(&checks, "restore").detail.rsplit(' ').next().unwrap().to_owned();
    let log = logs(&cluster().await, &Files::links(), &LogOf::Restore(name), &Context::default()).await.unwrap();
    let log = stream::collect(log, 1 << 24, "the log").await.unwrap();
    assert!(String::from_utf8_lossy(&log).contains(&into));
    drop_namespace(&kubernetes, &into).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_selector_chooses_objects_by_label() {
    let kubernetes = Kubernetes::new().await;
    let namespace = kubernetes.fresh_namespace().await;
    for (name, labels) in [("wanted", json!({"tier": "a"})), ("other", json!({"tier": "b"}))] {
        let object = json!({"metadata": {"name": name, "labels": labels}, "data": {"x": "1"}});
        kubernetes.create(CONFIG_MAP, Some(&namespace), object).await;
    }
    let backup = back_up(&namespace).await;
    let (options, into) = mapped(&namespace);
    let options = options.labels(vec![Pair::new("tier", "a")]).resources(vec!["configmaps".to_owned()]);
    made(&backup, &options).await;
    let api = kubernetes.api(CONFIG_MAP, Some(&into));
    assert!(api.get_opt("wanted").await.unwrap().is_some());
    assert!(api.get_opt("other").await.unwrap().is_none());
    drop_namespace(&kubernetes, &into).await;
    let missing = RestoreOptions::default().namespaces(vec![fresh_name("missing")]);
    let files = Files::Location(location());
    let checks = restore(&cluster().await, &files, &backup, &missing, &Context::default()).await.unwrap();
    let nothing = check(&checks, "restore");
    assert!(nothing.status == Status::Fail && nothing.detail.contains("misspelt"), "{checks:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_that_the_backup_does_not_hold_is_named_before_anything_is_restored() {
    let kubernetes = Kubernetes::new().await;
    let namespace = kubernetes.shop().await;
    let backup = back_up(&namespace).await;
    kubernetes.api(CONFIG_MAP, Some(&namespace)).delete("settings-1", &DeleteParams::default()).await.unwrap();
    let misspelt = format!("{namespace}x");
    let named = |names: &[&String]| names.iter().map(|name| (*name).clone()).collect::<Vec<_>>();
    let all = RestoreOptions::default();
    for options in [
        all.clone().namespaces(named(&[&namespace, &misspelt])),
        all.clone().exclude_namespaces(named(&[&misspelt])),
        all.clone().namespace_mapping(vec![Pair::new(&*misspelt, "elsewhere")]),
    ] {
        let checks = made(&backup, &options).await;
        let nothing = check(&checks, "restore");
        assert_eq!((nothing.status, nothing.figure.as_str()), (Status::Fail, "nothing"), "{options:?}: {checks:#?}");
        let near = format!("did you mean {namespace}?");
        assert!(nothing.detail.contains(&misspelt) && nothing.detail.contains(&near), "{checks:#?}");
    }
    let gone = kubernetes.api(CONFIG_MAP, Some(&namespace)).get_opt("settings-1").await.unwrap();
    assert!(gone.is_none(), "something was restored");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_there_stays_with_a_warning_or_is_made_as_it_was() {
    let kubernetes = Kubernetes::new().await;
    let namespace = kubernetes.fresh_namespace().await;
    kubernetes.create(CONFIG_MAP, Some(&namespace), json!({"metadata": {"name": "a"}, "data": {"x": "old"}})).await;
    let backup = back_up(&namespace).await;
    let api = kubernetes.api(CONFIG_MAP, Some(&namespace));
    api.patch("a", &PatchParams::default(), &Patch::Merge(json!({"data": {"x": "new"}}))).await.unwrap();

    let options = RestoreOptions::default().namespaces(vec![namespace.clone()]);
    let checks = made(&backup, &options).await;
    let warned = check(&checks, &format!("warnings: namespace {namespace}"));
    assert!(warned.status == Status::Warn && warned.detail.contains("\"a\""), "{checks:#?}");
    assert_eq!(api.get("a").await.unwrap().data["data"]["x"], json!("new"));

    let checks = made(&backup, &options.existing(ExistingPolicy::Update)).await;
    assert_eq!(check(&checks, "restore").status, Status::Pass);
    assert_eq!(api.get("a").await.unwrap().data["data"]["x"], json!("old"));
}

#[tokio::test(flavor = "multi_thread")]
async fn options_that_restore_nothing_are_refused_before_anything_starts() {
    let mapping = vec![Pair::new("shop", "copy")];
    let options = RestoreOptions::default().namespaces(vec!["blog".to_owned()]).namespace_mapping(mapping);
    let files = Files::Location(location());
    let error = restore(&cluster().await, &files, "any", &options, &Context::default()).await.unwrap_err();
    assert!(error.kind() == ErrorKind::Config && error.message().contains("not among the namespaces"), "{error}");
    let missing = fresh_name("none");
    let error =
        restore(&cluster().await, &files, &missing, &RestoreOptions::default(), &Context::default()).await.unwrap_err();
    assert!(error.kind() == ErrorKind::NoArtifact && error.subject().contains(&missing), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_server_a_restore_ends_by_its_limit_and_is_withdrawn() {
    let kubernetes = Kubernetes::new().await;
    let nobody = kubernetes.fresh_namespace().await;
    storage_location(&kubernetes, &nobody, "default", &variable("LIFEBOAT_TEST_VELERO_BUCKET"), &json!({})).await;
    let object =
        json!({"metadata": {"name": "b"}, "spec": {"storageLocation": "default"}, "status": {"phase": "Completed"}});
    kubernetes.create("velero.io/v1 Backup backups", Some(&nobody), object).await;
    let cluster = Cluster::connect(&options(&nobody)).await.unwrap();
    let limited = RestoreOptions::default().limit(Length(Duration::from_secs(5)));
    let error = restore(&cluster, &Files::links(), "b", &limited, &Context::default()).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.message()),
        (ErrorKind::Unavailable, "Velero has not begun it within 5.0s, and it was withdrawn")
    );
    let restores = kubernetes.api("velero.io/v1 Restore restores", Some(&nobody));
    assert_eq!(restores.list(&kube::api::ListParams::default()).await.unwrap().items.len(), 0);
    drop_namespace(&kubernetes, &nobody).await;
}
