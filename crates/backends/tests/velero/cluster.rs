//! The cluster of the tests, with namespaces of a test's own in it.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::TryStreamExt as _;
use kube::api::{Api, DynamicObject, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use lifeboat_backends::velero::{BackupOptions, Cluster, ConnectOptions, Velero};
use lifeboat_core::{Context, Sink, Source};
use lifeboat_sinks::{Credentials, Settings};
use lifeboat_testkit::content::fresh_name;
use lifeboat_testkit::memory::MemorySink;
use lifeboat_testkit::minio::Minio;
use serde_json::{Value, json};

/// What `cargo xtask services --with velero` exports.
pub fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| {
        panic!(
            "{name} is not set: this test needs Velero; run `cargo xtask test --with velero -- …`, or \
             `cargo xtask services --with velero` beside it"
        )
    })
}

/// Velero's namespace.
pub fn velero_namespace() -> String {
    variable("LIFEBOAT_TEST_VELERO_NAMESPACE")
}

/// How to connect as the administrator, to this namespace of Velero's.
pub fn options(namespace: &str) -> ConnectOptions {
    ConnectOptions {
        kubeconfig: Some(variable("LIFEBOAT_TEST_KUBECONFIG").into()),
        namespace: namespace.to_owned(),
        ..ConnectOptions::default()
    }
}

pub async fn cluster() -> Cluster {
    Cluster::connect(&options(&velero_namespace())).await.unwrap()
}

/// The bucket of the storage location.
pub fn location() -> Arc<dyn Sink> {
    bucket(&variable("LIFEBOAT_TEST_VELERO_BUCKET"))
}

/// A bucket of the MinIO server that Velero uses.
pub fn bucket(name: &str) -> Arc<dyn Sink> {
    let minio = Minio::shared();
    let credentials = Some(Credentials::new(minio.user(), minio.password()));
    let settings = Settings { credentials, ..Settings::default() };
    lifeboat_sinks::open_with(&minio.sink_url(name), &settings).unwrap()
}

/// The Kubernetes API, past the code under test.
pub struct Kubernetes(Client);

impl Kubernetes {
    pub async fn new() -> Self {
        let file = Kubeconfig::read_from(variable("LIFEBOAT_TEST_KUBECONFIG")).unwrap();
        let config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await.unwrap();
        Self(Client::try_from(config).unwrap())
    }

    /// Objects of a kind such as `apps/v1 Deployment deployments`, in a namespace or of the whole cluster.
    pub fn api(&self, kind: &str, namespace: Option<&str>) -> Api<DynamicObject> {
        let words: Vec<_> = kind.split(' ').collect();
        let [api_version, kind, plural] = words[..] else { panic!("{kind}") };
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let resource = kube::api::ApiResource {
            group: group.into(),
            version: version.into(),
            api_version: api_version.into(),
            kind: kind.into(),
            plural: plural.into(),
        };
        match namespace {
            Some(namespace) => Api::namespaced_with(self.0.clone(), namespace, &resource),
            None => Api::all_with(self.0.clone(), &resource),
        }
    }

    pub async fn create(&self, kind: &str, namespace: Option<&str>, mut object: Value) {
        let words: Vec<_> = kind.split(' ').collect();
        object["apiVersion"] = words[0].into();
        object["kind"] = words[1].into();
        let object: DynamicObject = serde_json::from_value(object).unwrap();
        self.api(kind, namespace).create(&PostParams::default(), &object).await.unwrap();
    }

    /// A namespace of the test's own with a random name.
    pub async fn fresh_namespace(&self) -> String {
        let name = fresh_name("ns");
        self.create(NAMESPACE, None, json!({"metadata": {"name": name}})).await;
        name
    }

    /// A namespace with a little of everything: ConfigMaps, a Secret, a Deployment, Services, a kind of its own with an
    /// object, a claim that nobody binds.
    pub async fn shop(&self) -> String {
        let name = self.fresh_namespace().await;
        let space = Some(name.as_str());
        for index in 0..3 {
            let object =
                json!({"metadata": {"name": format!("settings-{index}")}, "data": {"colour": format!("blue {index}")}});
            self.create(CONFIG_MAP, space, object).await;
        }
        let secret = json!({"metadata": {"name": "key"}, "stringData": {"password": "hunter2-hunter2"}});
        self.create("v1 Secret secrets", space, secret).await;
        let labels = json!({"app": "web"});
        let pod = json!({"metadata": {"labels": labels}, "spec": {"containers": [{"name": "web", "image": "web:1"}]}});
        let spec = json!({"replicas": 2, "selector": {"matchLabels": labels}, "template": pod});
        self.create("apps/v1 Deployment deployments", space, json!({"metadata": {"name": "web"}, "spec": spec})).await;
        for (service, address) in [("web", Value::Null), ("headless", "None".into())] {
            let spec = json!({"selector": labels, "clusterIP": address, "ports": [{"port": 80}]});
            self.create("v1 Service services", space, json!({"metadata": {"name": service}, "spec": spec})).await;
        }
        let request = json!({"requests": {"storage": "1Gi"}});
        let spec = json!({"accessModes": ["ReadWriteOnce"], "resources": request});
        self.create(
            "v1 PersistentVolumeClaim persistentvolumeclaims",
            space,
            json!({"metadata": {"name": "data"}, "spec": spec}),
        )
        .await;
        name
    }
}

pub const STORAGE_LOCATION: &str = "velero.io/v1 BackupStorageLocation backupstoragelocations";
pub const NAMESPACE: &str = "v1 Namespace namespaces";
pub const CONFIG_MAP: &str = "v1 ConfigMap configmaps";

/// A source of one namespace.
pub async fn source(namespace: &str) -> Velero {
    let options = BackupOptions { namespaces: vec![namespace.to_owned()], ..BackupOptions::default() };
    Velero::new(cluster().await, location(), options)
}

/// Has Velero back this namespace up, and returns the backup's name.
pub async fn back_up(namespace: &str) -> String {
    let reading = source(namespace).await.open(&Context::default()).await.unwrap();
    drop(reading);
    let location = location();
    let objects: Vec<_> = location.list(&format!("backups/{namespace}-")).try_collect().await.unwrap();
    objects.last().unwrap().key.split('/').nth(1).unwrap().to_owned()
}

/// A copy of a backup's files in memory, with those that a test changes in place of them.
pub async fn copied(backup: &str, changes: &BTreeMap<String, Option<Vec<u8>>>) -> MemorySink {
    let (from, to) = (location(), MemorySink::new());
    let objects: Vec<_> = from.list(&format!("backups/{backup}/")).try_collect().await.unwrap();
    for object in objects {
        let file = object.key.rsplit('/').next().unwrap();
        let bytes = match changes.get(file) {
            Some(None) => continue,
            Some(Some(bytes)) => bytes.clone(),
            None => file_of(backup, file).await,
        };
        to.put(&object.key, lifeboat_core::stream::once(bytes)).await.unwrap();
    }
    to
}

/// One file of a backup.
pub async fn file_of(backup: &str, file: &str) -> Vec<u8> {
    let key = format!("backups/{backup}/{file}");
    let stream = location().get(&key, None).await.unwrap();
    lifeboat_core::stream::collect(stream, 1 << 30, &key).await.unwrap().to_vec()
}
