//! The cluster of the tests, with namespaces of a test's own in it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use futures::TryStreamExt as _;
use lifeboat_backends::velero::{Cluster, ConnectOptions, Velero, VeleroSettings};
use lifeboat_core::{Context, Sink, Source};
use lifeboat_sinks::{Credentials, Settings};
pub use lifeboat_testkit::kubernetes::{
    CONFIG_MAP, Kubernetes, NAMESPACE, STORAGE_LOCATION, storage_location, variable,
};
use lifeboat_testkit::memory::MemorySink;
use lifeboat_testkit::minio::Minio;

/// Velero's namespace.
pub fn velero_namespace() -> String {
    variable("LIFEBOAT_TEST_VELERO_NAMESPACE")
}

/// How to connect as the administrator, to this namespace of Velero's.
pub fn options(namespace: &str) -> ConnectOptions {
    ConnectOptions::default()
        .kubeconfig(PathBuf::from(variable("LIFEBOAT_TEST_KUBECONFIG")))
        .namespace(namespace.to_owned())
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
    let settings = Settings::default().credentials(credentials);
    lifeboat_sinks::open_with(&minio.sink_url(name), &settings).unwrap()
}

/// A source of one namespace.
pub async fn source(namespace: &str) -> Velero {
    let options = VeleroSettings::default().namespaces(vec![namespace.to_owned()]);
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
