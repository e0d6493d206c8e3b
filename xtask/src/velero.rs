//! Velero's server on a Kubernetes API, without containers: etcd, kube-apiserver, kube-controller-manager and Velero as
//! plain processes, and a backup storage location in the MinIO of the tests.
//!
//! There is no kubelet and no scheduler: Pods stay Pending, so there are no hooks, no volume data and no snapshots.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};
use rustix::process::Signal;

use crate::debian::Package;
use crate::pki::Pki;
use crate::process::{self, Guard};
use crate::requirements::Requirement;
use crate::scratch;
use crate::services::{Launch, Service, Session};
use crate::toolchain::{GoBuild, Module, Recipe};
use crate::workspace;

const KUBERNETES: GoBuild = GoBuild {
    name: "kubernetes",
    version: "v1.31.0",
    recipe: Recipe::Module(Module {
        binaries: &[
            ("kube-apiserver", "k8s.io/kubernetes/cmd/kube-apiserver"),
            ("kube-controller-manager", "k8s.io/kubernetes/cmd/kube-controller-manager"),
            ("etcd", "go.etcd.io/etcd/server/v3"),
        ],
        // Without it the server says that it is v0.0.0.
        link: "-X k8s.io/component-base/version.gitVersion=v1.31.0 -X k8s.io/client-go/pkg/version.gitVersion=v1.31.0",
    }),
    note: "four minutes and more",
};

/// Velero's command, which also is the plugin that stores objects when it is called `object-store`.
const VELERO: GoBuild = GoBuild {
    name: "velero",
    version: "v1.14.1",
    recipe: Recipe::Module(Module {
        binaries: &[("velero", ".")],
        link: "-X github.com/vmware-tanzu/velero/pkg/buildinfo.Version=v1.14.1",
    }),
    note: "two minutes and more",
};

pub(crate) const SERVICE: Service = Service {
    name: "velero",
    about: "Velero on a Kubernetes API: LIFEBOAT_TEST_KUBECONFIG, LIFEBOAT_TEST_VELERO_*",
    default: false,
    requirements: &[
        Requirement::Debian(Package { name: "openssl", present: || Ok(workspace::program("openssl").is_some()) }),
        Requirement::Debian(Package { name: "curl", present: || Ok(workspace::program("curl").is_some()) }),
        Requirement::Go(&VELERO),
        Requirement::Go(&KUBERNETES),
    ],
    start,
};

/// Velero's usual namespace, and the usual name of its first storage location.
const NAMESPACE: &str = "velero";
const LOCATION: &str = "default";

/// Where Velero makes a folder for the credentials of storage locations, whatever TMPDIR says.
const CREDENTIALS: &str = "/tmp/credentials";

/// How long one of the servers has to get ready, on a machine that compiles beside.
const LIMIT: Duration = Duration::from_secs(120);

/// The cluster that the servers make up.
struct Cluster {
    folder: PathBuf,
    pki: Pki,
    kubeconfig: PathBuf,
    /// The API server's port.
    port: u16,
}

fn start(session: &mut Session) -> Result<()> {
    let folder = session.scratch().folder("velero")?;
    let cluster = start_kubernetes(session, folder)?;
    let bucket = make_bucket(session, &cluster.folder)?;

    // This waits until the API server answers for all of them.
    let mut definitions = velero(&cluster)?;
    definitions.args(["install", "--crds-only"]);
    process::run_logged(&mut definitions, &process::fresh_log("velero-install")?)?;
    cluster.create("/api/v1/namespaces", &format!(r#"{{"metadata":{{"name":"{NAMESPACE}"}}}}"#))?;
    let minio = setting(session, "LIFEBOAT_TEST_MINIO_URL")?;
    cluster.create(
        &format!("/apis/velero.io/v1/namespaces/{NAMESPACE}/backupstoragelocations"),
        &format!(
            r#"{{"apiVersion":"velero.io/v1","kind":"BackupStorageLocation","metadata":{{"name":"{LOCATION}"}},
               "spec":{{"provider":"aws","default":true,"objectStorage":{{"bucket":"{bucket}"}},
               "config":{{"region":"us-east-1","s3ForcePathStyle":"true","s3Url":"{minio}","publicUrl":"{minio}"}}}}}}"#
        ),
    )?;

    let plugins = cluster.folder.join("plugins");
    fs::create_dir(&plugins)?;
    symlink(VELERO.path("velero")?, plugins.join("object-store"))?;
    let credentials = cluster.folder.join("credentials");
    // The folder stays empty: the server takes the keys from the file that its environment names.
    session.remove_empty_at_the_end(format!("{CREDENTIALS}/{NAMESPACE}"));
    session.remove_empty_at_the_end(CREDENTIALS);
    session.serve(
        "velero",
        LIMIT,
        |metrics| {
            // Killed at once it would leave its plugins behind.
            let guard = Guard { user: None, at_our_death: Some("TERM") };
            let mut command = process::guarded(VELERO.path("velero")?, guard)?;
            command
                .args(["server", "--namespace", NAMESPACE, "--uploader-type", "kopia", "--plugin-dir"])
                .arg(&plugins)
                .args(["--metrics-address", &format!("127.0.0.1:{metrics}")])
                .args(["--profiler-address", &format!("127.0.0.1:{}", scratch::free_port()?)])
                .args(["--backup-sync-period", "10s", "--store-validation-frequency", "10s"])
                .args(["--item-operation-sync-frequency", "2s"])
                .env("KUBECONFIG", &cluster.kubeconfig)
                .env("VELERO_NAMESPACE", NAMESPACE)
                .env("VELERO_SCRATCH_DIR", &cluster.folder)
                .env("TMPDIR", &cluster.folder)
                .env("AWS_SHARED_CREDENTIALS_FILE", &credentials)
                .current_dir(&cluster.folder);
            Ok(Launch { command, stop: Signal::TERM })
        },
        |_| {
            let path = format!("/apis/velero.io/v1/namespaces/{NAMESPACE}/backupstoragelocations/{LOCATION}");
            cluster.get(&path).is_ok_and(|location| location.contains(r#""phase":"Available""#))
        },
    )?;

    session.export("LIFEBOAT_TEST_KUBECONFIG", &cluster.kubeconfig);
    session.export("LIFEBOAT_TEST_VELERO_NAMESPACE", NAMESPACE);
    session.export("LIFEBOAT_TEST_VELERO_BUCKET", bucket);
    session.export("LIFEBOAT_TEST_VELERO_BIN", VELERO.path("velero")?);
    session.export("LIFEBOAT_TEST_VELERO_PLUGINS", plugins);
    session.export("LIFEBOAT_TEST_VELERO_CREDENTIALS", credentials);
    Ok(())
}

fn start_kubernetes(session: &mut Session, folder: PathBuf) -> Result<Cluster> {
    let keys = folder.join("pki");
    fs::create_dir(&keys)?;
    let pki = Pki::create(keys, &process::fresh_log("openssl")?)?;

    let etcd = session.serve(
        "etcd",
        LIMIT,
        |port| {
            let mut command = process::guarded(KUBERNETES.path("etcd")?, Guard::default())?;
            let (clients, peers) =
                (format!("http://127.0.0.1:{port}"), format!("http://127.0.0.1:{}", scratch::free_port()?));
            command
                .args(["--listen-client-urls", &clients, "--advertise-client-urls", &clients])
                .args(["--listen-peer-urls", &peers, "--initial-advertise-peer-urls", &peers])
                .args(["--initial-cluster", &format!("default={peers}"), "--unsafe-no-fsync", "--log-level", "warn"])
                .arg("--data-dir")
                .arg(folder.join(format!("etcd-{port}")))
                .current_dir(&folder);
            Ok(Launch { command, stop: Signal::TERM })
        },
        listens,
    )?;

    let port = session.serve(
        "kube-apiserver",
        LIMIT,
        |port| {
            let mut command = process::guarded(KUBERNETES.path("kube-apiserver")?, Guard::default())?;
            let file = |flag: &str, name: &str| format!("--{flag}={}", pki.file(name).display());
            command
                .arg(format!("--etcd-servers=http://127.0.0.1:{etcd}"))
                .args(["--bind-address=127.0.0.1", "--advertise-address=127.0.0.1", "--endpoint-reconciler-type=none"])
                .arg(format!("--secure-port={port}"))
                .arg(file("tls-cert-file", "server.crt"))
                .arg(file("tls-private-key-file", "server.key"))
                .arg(file("client-ca-file", "ca.crt"))
                .args(["--anonymous-auth=false", "--authorization-mode=RBAC", "--allow-privileged=true"])
                .arg("--service-account-issuer=https://kubernetes.default.svc")
                .arg(file("service-account-key-file", "service-accounts.key"))
                .arg(file("service-account-signing-key-file", "service-accounts.key"))
                .arg("--service-cluster-ip-range=10.96.0.0/24")
                .current_dir(&folder);
            Ok(Launch { command, stop: Signal::TERM })
        },
        |port| process::output(&mut curl(&pki, port, "/readyz")).is_ok(),
    )?;
    let kubeconfig = pki.kubeconfig(port)?;

    // What a restore test needs: namespaces go away, with claims in them, Deployments make Pods, service accounts come by
    // themselves.
    const CONTROLLERS: &str = "namespace-controller,garbage-collector-controller,serviceaccount-controller,\
                               root-ca-certificate-publisher-controller,deployment-controller,replicaset-controller,\
                               persistentvolumeclaim-protection-controller";
    session.serve(
        "kube-controller-manager",
        LIMIT,
        |port| {
            let mut command = process::guarded(KUBERNETES.path("kube-controller-manager")?, Guard::default())?;
            command
                .args(["--bind-address=127.0.0.1", &format!("--secure-port={port}"), "--leader-elect=false"])
                .arg(format!("--cert-dir={}", folder.join("controller-manager").display()))
                .arg(format!("--kubeconfig={}", kubeconfig.display()))
                .arg(format!("--root-ca-file={}", pki.file("ca.crt").display()))
                .arg(format!("--service-account-private-key-file={}", pki.file("service-accounts.key").display()))
                .arg(format!("--controllers={CONTROLLERS}"))
                .current_dir(&folder);
            Ok(Launch { command, stop: Signal::TERM })
        },
        listens,
    )?;
    Ok(Cluster { folder, pki, kubeconfig, port })
}

/// Makes a bucket of our own in MinIO, and the file with its keys from which Velero reads them.
fn make_bucket(session: &Session, folder: &Path) -> Result<String> {
    let bucket = format!("velero-{}", scratch::random_hex(4)?);
    let (user, password) =
        (setting(session, "LIFEBOAT_TEST_MINIO_USER")?, setting(session, "LIFEBOAT_TEST_MINIO_PASSWORD")?);
    let credentials = format!("[default]\naws_access_key_id={user}\naws_secret_access_key={password}\n");
    fs::write(folder.join("credentials"), credentials)?;
    // A file, so that the password is in no list of processes.
    let settings = folder.join("curl");
    fs::write(&settings, format!("user = \"{user}:{password}\"\naws-sigv4 = \"aws:amz:us-east-1:s3\"\n"))?;
    let mut put = process::command("curl");
    put.args(["--silent", "--show-error", "--fail", "--noproxy", "*", "--request", "PUT", "--config"])
        .arg(&settings)
        .arg(format!("{}/{bucket}", setting(session, "LIFEBOAT_TEST_MINIO_URL")?));
    process::output(&mut put).context("cannot make a bucket in MinIO")?;
    Ok(bucket)
}

/// What an earlier service exported.
fn setting<'a>(session: &'a Session, name: &str) -> Result<&'a str> {
    let value = session.environment().iter().find(|(known, _)| *known == name);
    value.and_then(|(_, value)| value.to_str()).with_context(|| format!("{name} is not there: Velero needs MinIO"))
}

/// Velero's command against the cluster.
fn velero(cluster: &Cluster) -> Result<Command> {
    let mut command = process::guarded(VELERO.path("velero")?, Guard::default())?;
    // It keeps settings in a file in the home folder.
    command.env("KUBECONFIG", &cluster.kubeconfig).env("HOME", &cluster.folder).current_dir(&cluster.folder);
    Ok(command)
}

impl Cluster {
    fn get(&self, path: &str) -> Result<String> {
        process::output(&mut curl(&self.pki, self.port, path))
    }

    /// Creates an object from JSON.
    fn create(&self, path: &str, object: &str) -> Result<()> {
        let mut command = curl(&self.pki, self.port, path);
        command.args(["--header", "Content-Type: application/json", "--data", object]);
        process::output(&mut command).with_context(|| format!("cannot create {path}")).map(drop)
    }
}

/// Asks the API server as its administrator. To a client that calls itself curl it answers in indented JSON.
fn curl(pki: &Pki, port: u16, path: &str) -> Command {
    let mut command = process::command("curl");
    command.args([
        "--user-agent",
        "lifeboat-xtask",
        "--silent",
        "--show-error",
        "--fail-with-body",
        "--noproxy",
        "*",
        "--max-time",
        "10",
        "--cacert",
    ]);
    command.arg(pki.file("ca.crt")).arg("--cert").arg(pki.file("admin.crt")).arg("--key").arg(pki.file("admin.key"));
    command.arg(format!("https://127.0.0.1:{port}{path}"));
    command
}

fn listens(port: u16) -> bool {
    TcpStream::connect_timeout(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)), Duration::from_secs(2)).is_ok()
}
