//! The Kubernetes cluster of the tests, bypassing the code under test: private namespaces with objects in them.

use std::sync::Arc;

use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use kube::client::Body;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::{Value, json};

use crate::content::fresh_name;
use crate::http_api::{Api, Request, Response, Server};

/// What `cargo xtask services --with velero` exports.
pub fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| {
        panic!(
            "{name} is not set: this test needs Velero; run `cargo xtask test --with velero -- …`, or \
             `cargo xtask services --with velero` beside it"
        )
    })
}

/// The cluster's API server behind a port of ours, so that each request to it can be made to fail.
///
/// A watch ends after a second: then it can be passed on whole.
pub struct Relay {
    client: Client,
    runtime: tokio::runtime::Handle,
}

impl Relay {
    /// Starts it. It needs a runtime of several threads, on which it passes requests on.
    pub async fn start() -> Server {
        let Kubernetes(client) = Kubernetes::new().await;
        Server::start(Arc::new(Self { client, runtime: tokio::runtime::Handle::current() }))
    }
}

impl Api for Relay {
    fn answer(&self, request: &Request) -> Response {
        let wanted = request.query.iter().map(|(name, value)| {
            let value = if name == "timeoutSeconds" { "1" } else { value };
            format!("{}={}", encoded(name), encoded(value))
        });
        let target = format!("{}?{}", request.path, wanted.collect::<Vec<_>>().join("&"));
        let mut relayed = http::Request::builder().method(&*request.method).uri(target);
        for name in ["accept", "content-type"] {
            if let Some(value) = request.header(name) {
                relayed = relayed.header(name, value);
            }
        }
        let (client, runtime) = (self.client.clone(), self.runtime.clone());
        let relayed = relayed.body(Body::from(request.body.clone())).unwrap();
        let asked = async move {
            let (head, body) = client.send(relayed).await.unwrap().into_parts();
            let body = body.collect_bytes().await.unwrap();
            let kind = head.headers.get("content-type").map_or("application/json", |kind| kind.to_str().unwrap());
            Response::new(head.status.as_u16(), kind, body)
        };
        // The server's own thread is inside a runtime already.
        std::thread::spawn(move || runtime.block_on(asked)).join().unwrap()
    }
}

fn encoded(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}

/// The Kubernetes API, bypassing the code under test.
pub struct Kubernetes(Client);

impl Kubernetes {
    /// Connects as the administrator.
    pub async fn new() -> Self {
        let file = Kubeconfig::read_from(variable("LIFEBOAT_TEST_KUBECONFIG")).unwrap();
        let config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await.unwrap();
        Self(Client::try_from(config).unwrap())
    }

    /// Objects of a kind such as `apps/v1 Deployment deployments`, in a namespace or of the whole cluster.
    pub fn api(&self, kind: &str, namespace: Option<&str>) -> kube::Api<DynamicObject> {
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
            Some(namespace) => kube::Api::namespaced_with(self.0.clone(), namespace, &resource),
            None => kube::Api::all_with(self.0.clone(), &resource),
        }
    }

    /// Creates an object; kind as for [`api`](Self::api).
    pub async fn create(&self, kind: &str, namespace: Option<&str>, mut object: Value) {
        let words: Vec<_> = kind.split(' ').collect();
        object["apiVersion"] = words[0].into();
        object["kind"] = words[1].into();
        let object: DynamicObject = serde_json::from_value(object).unwrap();
        self.api(kind, namespace).create(&PostParams::default(), &object).await.unwrap();
    }

    /// An object as JSON, if it is there.
    pub async fn get(&self, kind: &str, namespace: Option<&str>, name: &str) -> Option<Value> {
        let found = self.api(kind, namespace).get_opt(name).await.unwrap();
        found.map(|object| serde_json::to_value(object).unwrap())
    }

    /// Changes an object by a merge patch.
    pub async fn patch(&self, kind: &str, namespace: Option<&str>, name: &str, change: &Value) {
        self.api(kind, namespace).patch(name, &PatchParams::default(), &Patch::Merge(change)).await.unwrap();
    }

    /// Asks for an object's deletion.
    pub async fn delete(&self, kind: &str, namespace: Option<&str>, name: &str) {
        self.api(kind, namespace).delete(name, &DeleteParams::default()).await.unwrap();
    }

    /// Creates a private namespace with a random name.
    pub async fn fresh_namespace(&self) -> String {
        let name = fresh_name("ns");
        self.create(NAMESPACE, None, json!({"metadata": {"name": name}})).await;
        name
    }

    /// Creates a namespace with a little of everything: ConfigMaps, a Secret, a Deployment, Services, a custom resource
    /// with an object, an unbound claim.
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

/// For [`Kubernetes::api`].
pub const STORAGE_LOCATION: &str = "velero.io/v1 BackupStorageLocation backupstoragelocations";
/// For [`Kubernetes::api`].
pub const NAMESPACE: &str = "v1 Namespace namespaces";
/// For [`Kubernetes::api`].
pub const CONFIG_MAP: &str = "v1 ConfigMap configmaps";

/// Creates a storage location in a bucket of the MinIO server, with the status that a Velero server would have set, for
/// namespaces without one.
pub async fn storage_location(kubernetes: &Kubernetes, namespace: &str, name: &str, bucket: &str, config: &Value) {
    let minio = variable("LIFEBOAT_TEST_MINIO_URL");
    let mut settings = json!({"region": "us-east-1", "s3ForcePathStyle": "true", "s3Url": minio, "publicUrl": minio});
    for (key, value) in config.as_object().unwrap() {
        settings[key] = value.clone();
    }
    let spec = json!({"provider": "aws", "objectStorage": {"bucket": bucket}, "config": settings, "default": name == "default"});
    let object = json!({"metadata": {"name": name}, "spec": spec, "status": {"phase": "Available"}});
    kubernetes.create(STORAGE_LOCATION, Some(namespace), object).await;
}
