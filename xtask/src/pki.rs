//! The keys and certificates of a temporary Kubernetes cluster, created by openssl.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::process;

/// The folder of the files, which are removed with it; the certificates are valid for two days.
pub(crate) struct Pki {
    folder: PathBuf,
}

/// Names that the API server is reached under; 10.96.0.1 is its service in the cluster.
const SERVER_NAMES: &str = "subjectAltName=IP:127.0.0.1,IP:10.96.0.1,DNS:localhost,DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc";

impl Pki {
    /// Makes an authority, the server's certificate, an administrator's, and the key that signs service accounts.
    pub(crate) fn create(folder: PathBuf, log: &Path) -> Result<Self> {
        let pki = Self { folder };
        let key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"];
        let openssl = |arguments: &[&str]| {
            let mut command = process::command("openssl");
            command.args(arguments).current_dir(&pki.folder);
            process::run_logged(&mut command, log)
        };
        let authority = ["-subj", "/CN=lifeboat-test-ca", "-keyout", "ca.key", "-out", "ca.crt"];
        openssl(&[&["req", "-x509"], &key[..], &authority[..]].concat())?;
        let signed = |name: &str, subject: &str, extensions: &[&str]| {
            let (key_file, certificate) = (format!("{name}.key"), format!("{name}.crt"));
            let files =
                ["-CA", "ca.crt", "-CAkey", "ca.key", "-subj", subject, "-keyout", &key_file, "-out", &certificate];
            openssl(&[&["req", "-x509"], &key[..], &files[..], extensions].concat())
        };
        let leaf = "basicConstraints=critical,CA:FALSE";
        signed("server", "/CN=kube-apiserver", &["-addext", leaf, "-addext", SERVER_NAMES])?;
        // Members of system:masters may do everything.
        signed("admin", "/O=system:masters/CN=lifeboat-test-admin", &["-addext", leaf])?;
        openssl(&["genrsa", "-out", "service-accounts.key", "2048"])?;
        Ok(pki)
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Writes the administrator's kubeconfig for the API server on this port, and returns its path.
    pub(crate) fn kubeconfig(&self, port: u16) -> Result<PathBuf> {
        let path = self.file("kubeconfig");
        let folder = self.folder.display();
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: test\n\
             clusters:\n- name: test\n  cluster:\n    server: https://127.0.0.1:{port}\n    certificate-authority: {folder}/ca.crt\n\
             users:\n- name: admin\n  user:\n    client-certificate: {folder}/admin.crt\n    client-key: {folder}/admin.key\n\
             contexts:\n- name: test\n  context:\n    cluster: test\n    user: admin\n"
        );
        fs::write(&path, text)
            .and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(0o600)))
            .with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }
}
