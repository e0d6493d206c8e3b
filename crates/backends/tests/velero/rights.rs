//! The role in `examples/kubernetes/velero-rbac.yaml`: enough for the restore test, and not more.

use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::{Api, PostParams};
use lifeboat_backends::velero::{Cluster, RestoreTest, RestoreTestOptions, Use, check};
use lifeboat_core::duration::Length;
use lifeboat_core::{Check, Context, ErrorKind, Status};
use lifeboat_testkit::content::fresh_name;
use serde_json::{Value, json};

use crate::cluster::{Kubernetes, NAMESPACE, back_up, location, options, variable, velero_namespace};

const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/kubernetes/velero-rbac.yaml");

const KINDS: [&str; 5] = [
    "v1 ServiceAccount serviceaccounts",
    "rbac.authorization.k8s.io/v1 Role roles",
    "rbac.authorization.k8s.io/v1 RoleBinding rolebindings",
    "rbac.authorization.k8s.io/v1 ClusterRole clusterroles",
    "rbac.authorization.k8s.io/v1 ClusterRoleBinding clusterrolebindings",
];

/// The example in the cluster, under names of the test's own.
struct Applied {
    kubernetes: Kubernetes,
    name: String,
    /// In which the account is.
    space: String,
    scratch: String,
    roles: Vec<(&'static str, Value)>,
    cluster: Cluster,
    _folder: tempfile::TempDir,
}

impl Applied {
    async fn new() -> Self {
        let kubernetes = Kubernetes::new().await;
        let (name, scratch) = (fresh_name("restore-test"), fresh_name("scratch"));
        let space = kubernetes.fresh_namespace().await;
        let text = std::fs::read_to_string(EXAMPLE).unwrap();
        let text = text.replace("velero-restore-test", &name).replace("velero-test-restore", &scratch);
        let text = text.replace("namespace: lifeboat\n", &format!("namespace: {space}\n"));
        let mut roles = Vec::new();
        for document in text.split("\n---\n") {
            let object: Value = serde_saphyr::from_str(document).unwrap();
            let kind = KINDS.into_iter().find(|kind| kind.split(' ').nth(1) == object["kind"].as_str()).unwrap();
            if object.get("rules").is_some() {
                roles.push((kind, object.clone()));
            }
            let inside = object["metadata"]["namespace"].as_str().map(str::to_owned);
            kubernetes.create(kind, inside.as_deref(), object).await;
        }
        let (folder, cluster) = sign_in(&space, &name).await;
        Self { kubernetes, name, space, scratch, roles, cluster, _folder: folder }
    }

    fn namespace_of(kind: &str) -> Option<String> {
        (!kind.contains("Cluster")).then(velero_namespace)
    }

    /// Leaves one verb of one rule out, or gives it back.
    async fn set_rules(&self, kind: &str, rules: Value) {
        self.kubernetes.patch(kind, Self::namespace_of(kind).as_deref(), &self.name, &json!({"rules": rules})).await;
    }

    async fn end(self) {
        self.kubernetes.delete(NAMESPACE, None, &self.space).await;
        for kind in &KINDS[1..] {
            self.kubernetes.delete(kind, Self::namespace_of(kind).as_deref(), &self.name).await;
        }
    }

    async fn check(&self, namespace: &str) -> Vec<Check> {
        let uses = [Use::RestoreTest { namespace: namespace.to_owned(), scratch_namespace: self.scratch.clone() }];
        check(&self.cluster, Some(&location()), None, &uses, &Context::default()).await
    }

    fn test(&self, namespace: &str, backup: &str) -> RestoreTest {
        let mut options = RestoreTestOptions::new(namespace);
        options.backup = Some(backup.to_owned());
        options.scratch_namespace = Some(self.scratch.clone());
        options.limit = Some(Length(Duration::from_secs(60)));
        RestoreTest::new(self.cluster.clone(), location(), options)
    }
}

/// As a Pod signs in that runs under the service account: by its token.
async fn sign_in(namespace: &str, account: &str) -> (tempfile::TempDir, Cluster) {
    let config = kube::config::Kubeconfig::read_from(variable("LIFEBOAT_TEST_KUBECONFIG")).unwrap();
    let choice = kube::config::KubeConfigOptions::default();
    let config = kube::Config::from_custom_kubeconfig(config, &choice).await.unwrap();
    let accounts: Api<ServiceAccount> = Api::namespaced(kube::Client::try_from(config).unwrap(), namespace);
    let asked = TokenRequest::default();
    let token =
        accounts.create_token_request(account, &PostParams::default(), &asked).await.unwrap().status.unwrap().token;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kubeconfig");
    let text = std::fs::read_to_string(variable("LIFEBOAT_TEST_KUBECONFIG")).unwrap();
    // The administrator's certificate goes, the token comes.
    let kept: String = text.lines().filter(|line| !line.contains("client-")).map(|line| format!("{line}\n")).collect();
    let text = kept.replace("  user:\n", &format!("  user:\n    token: {}\n", token.unwrap()));
    std::fs::write(&path, text).unwrap();
    let options = options(&velero_namespace()).kubeconfig(path);
    (folder, Cluster::connect(&options).await.unwrap())
}

fn missing(checks: &[Check]) -> Vec<&str> {
    checks.iter().filter(|check| check.status == Status::Fail).map(|check| check.name.as_str()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_account_with_this_role_passes_the_restore_test() {
    let namespace = Kubernetes::new().await.shop().await;
    let backup = back_up(&namespace).await;
    let applied = Applied::new().await;
    let checks = applied.check(&namespace).await;
    assert_eq!(missing(&checks), [""; 0], "{checks:#?}");
    assert!(checks.iter().any(|check| check.name == "rights for the restore test"), "{checks:#?}");
    let account = format!("as system:serviceaccount:{}:{}", applied.space, applied.name);
    assert!(checks[0].detail.contains(&account), "{checks:#?}");
    let report = applied.test(&namespace, &backup).run(&Context::default()).await.unwrap();
    assert!(report.passed, "{report:#?}");
    applied.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_verb_of_the_role_is_needed_and_named_when_it_is_missing() {
    let namespace = Kubernetes::new().await.shop().await;
    back_up(&namespace).await;
    let applied = Applied::new().await;
    let mut tried = 0;
    for (kind, role) in &applied.roles {
        let rules = role["rules"].as_array().unwrap();
        for (rule, verb) in rules.iter().enumerate().flat_map(|(at, rule)| {
            rule["verbs"].as_array().unwrap().iter().map(move |verb| (at, verb.as_str().unwrap()))
        }) {
            let of_rule = &rules[rule];
            let group = of_rule["apiGroups"][0].as_str().unwrap();
            let resources: Vec<_> =
                of_rule["resources"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
            // Of the kinds that are compared the shop has these.
            let has = ["configmaps", "secrets", "services", "deployments", "replicasets", "namespaces"];
            if group != "velero.io" && !resources.iter().any(|resource| has.contains(resource)) {
                continue;
            }
            let mut fewer = json!(rules);
            let left: Vec<_> =
                of_rule["verbs"].as_array().unwrap().iter().filter(|other| other.as_str() != Some(verb)).collect();
            fewer[rule]["verbs"] = json!(left);
            if left.is_empty() {
                fewer.as_array_mut().unwrap().remove(rule);
            }
            applied.set_rules(kind, fewer).await;
            // The API server learns of it by a watch of its own.
            let begun = Instant::now();
            let named = loop {
                let checks = applied.check(&namespace).await;
                if checks.iter().any(|check| check.name.starts_with("right: ")) {
                    break checks;
                }
                assert!(
                    begun.elapsed() < Duration::from_secs(20),
                    "{verb} on {resources:?} is not needed: {checks:#?}"
                );
            };
            for resource in resources.iter().filter(|resource| group == "velero.io" || has.contains(resource)) {
                let full = if group.is_empty() { (*resource).to_owned() } else { format!("{resource}.{group}") };
                assert!(missing(&named).contains(&format!("right: {verb} {full}").as_str()), "{named:#?}");
            }
            applied.set_rules(kind, json!(rules)).await;
            tried += 1;
        }
    }
    assert!(tried >= 12, "{tried}");
    applied.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_test_that_lacks_a_verb_names_it_with_the_resource() {
    let namespace = Kubernetes::new().await.shop().await;
    let backup = back_up(&namespace).await;
    let applied = Applied::new().await;
    let (role, cluster_role) = (applied.roles[0].clone(), applied.roles[1].clone());
    for (kind, rules, resource, verb) in
        [(role.0, &role.1["rules"], "restores", "create"), (cluster_role.0, &cluster_role.1["rules"], "secrets", "get")]
    {
        let mut fewer = rules.clone();
        for rule in fewer.as_array_mut().unwrap() {
            if resource == "secrets" {
                rule["resources"].as_array_mut().unwrap().retain(|name| name != resource);
            } else if rule["resources"].as_array().unwrap().iter().any(|name| name == resource) {
                rule["verbs"].as_array_mut().unwrap().retain(|name| name != verb);
            }
        }
        applied.set_rules(kind, fewer).await;
        let begun = Instant::now();
        while missing(&applied.check(&namespace).await).is_empty() {
            assert!(begun.elapsed() < Duration::from_secs(20));
        }
        let error = applied.test(&namespace, &backup).run(&Context::default()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Permission, "{error}");
        let advice = error.advice().unwrap();
        assert!(advice.contains(&format!("the verb {verb} on {resource}")), "{advice}");
        // What it had made by then is gone.
        let scratch = applied.kubernetes.get(NAMESPACE, None, &applied.scratch).await;
        assert_eq!(scratch, None);
        applied.set_rules(kind, rules.clone()).await;
        while !missing(&applied.check(&namespace).await).is_empty() {
            assert!(begun.elapsed() < Duration::from_secs(40));
        }
    }
    applied.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_check_names_a_wrong_bucket_and_a_foreign_folder() {
    let namespace = Kubernetes::new().await.fresh_namespace().await;
    back_up(&namespace).await;
    let sink = lifeboat_testkit::memory::MemorySink::new();
    use lifeboat_core::Sink as _;
    sink.put("mine/manifest.json", lifeboat_core::stream::once("{}")).await.unwrap();
    let other: Arc<dyn lifeboat_core::Sink> = Arc::new(sink);
    let cluster = crate::cluster::cluster().await;
    let uses = [Use::List, Use::Backup, Use::Logs, Use::Delete, Use::Schedules, Use::Restore];
    let checks = check(&cluster, Some(&other), None, &uses, &Context::default()).await;
    assert_eq!(missing(&checks), ["bucket", "folders"], "{checks:#?}");
    let checks = check(&cluster, Some(&location()), Some("none-such"), &[], &Context::default()).await;
    assert_eq!(missing(&checks), ["storage location"], "{checks:#?}");
}
