//! Packages of the Debian archive, by name.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use anyhow::{Context as _, Result, bail};

use crate::{process, workspace};

/// A package, and how to check whether what it provides is already installed (from any source).
#[derive(Clone, Copy)]
pub(crate) struct Package {
    pub(crate) name: &'static str,
    /// An error means a wrong setting, which no package can fix.
    pub(crate) present: fn() -> Result<bool>,
}

/// Whether we may install packages here.
pub(crate) fn can_install() -> bool {
    rustix::process::geteuid().is_root() && workspace::program("apt-get").is_some()
}

/// Those of them that are missing.
pub(crate) fn missing(packages: &[Package]) -> Result<Vec<Package>> {
    let mut missing = Vec::new();
    for package in packages {
        if !(package.present)()? {
            missing.push(*package);
        }
    }
    Ok(missing)
}

/// Installs these packages.
///
/// # Errors
/// If we may not (it names the packages), if apt-get fails, or if they do not provide what they should.
pub(crate) fn install(packages: &[Package]) -> Result<()> {
    // Two threads may want packages; `apt-get update` is done once.
    static UPDATED: Mutex<bool> = Mutex::new(false);
    if packages.is_empty() {
        return Ok(());
    }
    let names = packages.iter().map(|package| package.name).collect::<Vec<_>>().join(" ");
    if !can_install() {
        bail!(
            "missing: {names}. As root on Debian or Ubuntu these packages are installed by themselves; \
             here, run `apt-get install {names}` as root, or install them as this system does"
        );
    }
    let mut updated = UPDATED.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let _lock = workspace::lock("apt")?;
    let packages = missing(packages)?;
    if packages.is_empty() {
        return Ok(());
    }
    process::step(&format!("apt-get install {names}"), || {
        let log = process::fresh_log("apt")?;
        let _no_cluster = NoDefaultCluster::declare()?;
        if !*updated {
            let mut update = process::command("apt-get");
            update.args(["-q", "-o", "DPkg::Lock::Timeout=300", "update"]);
            process::run_logged_to_the_end(&mut update, &log)?;
            *updated = true;
        }
        let mut install = process::command("apt-get");
        install
            .args(["-q", "-y", "-o", "DPkg::Lock::Timeout=300", "install", "--no-install-recommends"])
            .args(packages.iter().map(|package| package.name))
            .env("DEBIAN_FRONTEND", "noninteractive");
        process::run_logged_to_the_end(&mut install, &log)
    })?;
    for package in packages {
        if !(package.present)()? {
            bail!("the Debian package {} is installed, but does not bring what is needed of it", package.name);
        }
    }
    Ok(())
}

/// A guard: while it exists, installing a PostgreSQL server package neither creates nor starts Debian's default
/// cluster: the services run in a scratch folder.
struct NoDefaultCluster {
    file: PathBuf,
}

impl NoDefaultCluster {
    fn declare() -> Result<Self> {
        // postgresql-common reads this folder; the file lies there before the package brings the rest.
        let folder = Path::new("/etc/postgresql-common/createcluster.d");
        let file = folder.join("lifeboat-xtask.conf");
        fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
        fs::write(&file, "create_main_cluster = false\n")
            .with_context(|| format!("cannot write {}", file.display()))?;
        Ok(Self { file })
    }
}

impl Drop for NoDefaultCluster {
    fn drop(&mut self) {
        match fs::remove_file(&self.file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                eprintln!("xtask: cannot remove {}: {error}", self.file.display());
            }
            _ => {}
        }
    }
}
