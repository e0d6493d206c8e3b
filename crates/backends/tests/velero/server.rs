//! A server of Velero's that belongs to one test, with a namespace and a bucket of its own: it may be stopped, and its bucket
//! emptied.

use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use lifeboat_backends::velero::Cluster;
use lifeboat_core::Sink;
use lifeboat_testkit::minio::Minio;
use serde_json::json;

use crate::cluster::{Kubernetes, NAMESPACE, STORAGE_LOCATION, bucket, options, storage_location, variable};

/// Where Velero makes a folder for credentials, whatever TMPDIR says.
const CREDENTIALS: &str = "/tmp/credentials";

/// How long it has to get ready, beside compilers.
const LIMIT: Duration = Duration::from_secs(60);

pub struct Server {
    process: Child,
    /// Its namespace.
    pub namespace: String,
    pub cluster: Cluster,
    /// Its bucket.
    pub bucket: String,
    _folder: tempfile::TempDir,
}

impl Server {
    /// Starts it, and waits until its storage location is Available.
    pub async fn start() -> Self {
        let kubernetes = Kubernetes::new().await;
        let namespace = kubernetes.fresh_namespace().await;
        let bucket = Minio::shared().fresh_bucket().await;
        storage_location(&kubernetes, &namespace, "default", &bucket, &json!({})).await;
        kubernetes.patch(STORAGE_LOCATION, Some(&namespace), "default", &json!({"status": null})).await;
        let folder = tempfile::tempdir().unwrap();
        let process = run(&namespace, folder.path().to_owned());
        let cluster = Cluster::connect(&options(&namespace)).await.unwrap();
        let server = Self { process, namespace, cluster, bucket, _folder: folder };
        server.available("default").await;
        server
    }

    /// Waits until a storage location of it is Available.
    pub async fn available(&self, location: &str) {
        let (kubernetes, begun) = (Kubernetes::new().await, Instant::now());
        loop {
            let found = kubernetes.get(STORAGE_LOCATION, Some(&self.namespace), location).await.unwrap();
            if found["status"]["phase"] == "Available" {
                return;
            }
            assert!(begun.elapsed() < LIMIT, "the storage location is not Available: {found:#}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// A sink at its storage location.
    pub fn location(&self) -> Arc<dyn Sink> {
        bucket(&self.bucket)
    }

    /// Stops it in the middle of what it does, as a node that hangs.
    pub fn freeze(&self) {
        self.signal("STOP");
    }

    fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([&format!("-{name}"), &self.process.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    /// Removes its namespace with all that is in it.
    pub async fn end(self) {
        let namespace = self.namespace.clone();
        drop(self);
        Kubernetes::new().await.delete(NAMESPACE, None, &namespace).await;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Killed at once it would leave its plugins behind.
        self.signal("CONT");
        self.signal("TERM");
        let begun = Instant::now();
        while self.process.try_wait().is_ok_and(|ended| ended.is_none()) {
            if begun.elapsed() > Duration::from_secs(20) {
                let _ = self.process.kill();
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.process.wait();
        let _ = std::fs::remove_dir(format!("{CREDENTIALS}/{}", self.namespace));
    }
}

fn run(namespace: &str, folder: PathBuf) -> Child {
    let port = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
    let log = std::fs::File::create(folder.join("log")).unwrap();
    Command::new(variable("LIFEBOAT_TEST_VELERO_BIN"))
        .args(["server", "--namespace", namespace, "--uploader-type", "kopia"])
        .args(["--plugin-dir", &variable("LIFEBOAT_TEST_VELERO_PLUGINS")])
        .args(["--metrics-address", &port().to_string(), "--profiler-address", &port().to_string()])
        .args(["--backup-sync-period", "2s", "--store-validation-frequency", "2s"])
        .args(["--item-operation-sync-frequency", "2s"])
        .env("KUBECONFIG", variable("LIFEBOAT_TEST_KUBECONFIG"))
        .env("VELERO_NAMESPACE", namespace)
        .env("VELERO_SCRATCH_DIR", &folder)
        .env("TMPDIR", &folder)
        .env("HOME", &folder)
        .env("AWS_SHARED_CREDENTIALS_FILE", variable("LIFEBOAT_TEST_VELERO_CREDENTIALS"))
        .current_dir(&folder)
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap()
}
