//! The requirements, as data, and their installation: Debian packages and Go programs in parallel.

use std::thread;

use anyhow::{Result, anyhow};

use crate::debian::{self, Package};
use crate::toolchain::{self, GoBuild};
use crate::workspace;

/// One thing that a service or the tests need on this machine.
#[derive(Clone, Copy)]
pub(crate) enum Requirement {
    /// From the Debian archive.
    Debian(Package),
    /// Built from the Go module proxy at an exact version.
    Go(&'static GoBuild),
}

/// The programs that, with `pg_restore`, read a backup without Lifeboat.
pub(crate) const READERS: &[Requirement] = &[
    Requirement::Debian(Package { name: "zstd", present: || Ok(workspace::program("zstd").is_some()) }),
    Requirement::Debian(Package { name: "age", present: || Ok(workspace::program("age").is_some()) }),
];

/// The programs that the tests check Lifeboat's formats with.
pub(crate) const STOCK_TOOLS: &[Requirement] = &[
    Requirement::Debian(Package { name: "zstd", present: || Ok(workspace::program("zstd").is_some()) }),
    Requirement::Debian(Package { name: "age", present: || Ok(workspace::program("age").is_some()) }),
    Requirement::Debian(Package { name: "openssl", present: || Ok(workspace::program("openssl").is_some()) }),
    Requirement::Debian(Package { name: "gzip", present: || Ok(workspace::program("gzip").is_some()) }),
    Requirement::Debian(Package { name: "jq", present: || Ok(workspace::program("jq").is_some()) }),
    Requirement::Debian(Package { name: "openssh-client", present: || Ok(workspace::program("ssh-keygen").is_some()) }),
    Requirement::Debian(Package { name: "bsdutils", present: || Ok(workspace::program("script").is_some()) }),
    Requirement::Debian(Package { name: "util-linux", present: || Ok(workspace::program("unshare").is_some()) }),
    Requirement::Debian(Package { name: "procps", present: || Ok(workspace::program("ps").is_some()) }),
];

/// Installs what is missing of these, and runs `meanwhile` in parallel; returns when both are done.
pub(crate) fn install(requirements: &[Requirement], meanwhile: impl FnOnce() -> Result<()>) -> Result<()> {
    let packages: Vec<Package> = requirements
        .iter()
        .filter_map(|requirement| match requirement {
            Requirement::Debian(package) => Some(*package),
            Requirement::Go(_) => None,
        })
        .collect();
    let packages = debian::missing(&packages)?;
    let programs: Vec<&GoBuild> = requirements
        .iter()
        .filter_map(|requirement| match requirement {
            Requirement::Go(program) if !program.is_built() => Some(*program),
            _ => None,
        })
        .collect();
    let results = thread::scope(|scope| {
        let debian = scope.spawn(|| debian::install(&packages));
        let go = scope.spawn(|| programs.iter().try_for_each(|program| toolchain::build(program)));
        let meanwhile = meanwhile();
        let panicked = |_| Err(anyhow!("the installation panicked"));
        [debian.join().unwrap_or_else(panicked), go.join().unwrap_or_else(panicked), meanwhile]
    });
    // All of them have ended. The first error is the answer; the others are said, because they may be the cause.
    let mut errors: Vec<_> = results.into_iter().filter_map(Result::err).collect();
    if errors.is_empty() {
        return Ok(());
    }
    let first = errors.remove(0);
    for other in errors {
        eprintln!("xtask: also: {other:#}");
    }
    Err(first)
}

/// Like [`install`], but also installs optional requirements: if they cannot be installed, it continues without them.
pub(crate) fn install_with(
    required: &[Requirement],
    wanted: &[Requirement],
    meanwhile: impl FnOnce() -> Result<()>,
) -> Result<()> {
    if !debian::can_install() {
        return install(required, meanwhile);
    }
    let mut built = Ok(());
    let all = [required, wanted].concat();
    let installed = install(&all, || {
        built = meanwhile();
        Ok(())
    });
    built?;
    installed.or_else(|error| {
        install(required, || Ok(()))?;
        eprintln!("xtask: going on without what is only good to have: {error:#}");
        Ok(())
    })
}
