//! PostgreSQL's programs: finding them, and their versions.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use lifeboat_core::{Error, ErrorKind, Result};
use tokio::process::Command;

use crate::confine;

/// Names folders with PostgreSQL's programs to prefer, separated like `PATH`.
pub(crate) const FOLDERS_VARIABLE: &str = "LIFEBOAT_PG_BIN";

/// A folder of PostgreSQL's programs of one version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tools {
    folder: PathBuf,
    /// `15` of `15.18`.
    pub(crate) major: u32,
    /// `15.18`.
    pub(crate) version: String,
}

impl Tools {
    /// A command from this folder, in a minimal environment: variables about PostgreSQL are set by Lifeboat.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.folder.join(program));
        confine::clear_environment(&mut command);
        // libpq looks for client certificates below HOME; OpenSSL for its configuration.
        for name in ["HOME", "TMPDIR", "SSL_CERT_FILE", "SSL_CERT_DIR", "OPENSSL_CONF"] {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        // The programs' own messages are in English (LC_ALL), for the reader and for us.
        command.stdin(Stdio::null()).kill_on_drop(true);
        command
    }

    /// A command from this folder with an empty environment, to run confined.
    pub(crate) fn bare_command(&self, program: &str) -> Command {
        Command::new(self.folder.join(program))
    }

    /// The folder.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }
}

/// The programs that match a server: of its major version, or else of the nearest newer one. `program` is the one that
/// must exist.
///
/// # Errors
/// [`ErrorKind::NotFound`], naming what was found, if all are older than the server (and would refuse it) or there are
/// none.
pub(crate) async fn at_least(program: &str, major: u32) -> Result<Tools> {
    let found = match find(program, Some(major)).await {
        Found::Wanted(tools) => return Ok(tools),
        Found::All(found) => found,
    };
    if let Some(tools) = found.iter().filter(|t| t.major >= major).min_by_key(|t| t.major) {
        return Ok(tools.clone());
    }
    let why = match found.iter().map(|t| t.major).max() {
        Some(newest) => format!(
            "the server is PostgreSQL {major}, but the newest {program} here is {newest}, which cannot read a newer server"
        ),
        None => format!("there is no {program} here"),
    };
    Err(missing(program, major, &why))
}

/// The programs of exactly this major version.
///
/// # Errors
/// [`ErrorKind::NotFound`], naming what was found.
pub(crate) async fn exactly(program: &str, major: u32) -> Result<Tools> {
    let found = match find(program, Some(major)).await {
        Found::Wanted(tools) => return Ok(tools),
        Found::All(found) => found,
    };
    let have: Vec<String> = found.iter().map(|t| t.version.clone()).collect();
    let why = match have.is_empty() {
        true => format!("there is no {program} here"),
        false => format!("PostgreSQL {major} is needed, but {} is installed here", have.join(", ")),
    };
    Err(missing(program, major, &why))
}

/// The newest available programs; of several with the same version, the preferred ones.
pub(crate) async fn newest(program: &str) -> Option<Tools> {
    match find(program, None).await {
        Found::Wanted(tools) => Some(tools),
        // Of equals the last one is the greatest.
        Found::All(found) => found.into_iter().rev().max_by_key(|t| t.major),
    }
}

fn missing(program: &str, major: u32, why: &str) -> Error {
    let package = match program {
        "initdb" | "postgres" => format!("postgresql-{major}"),
        _ => format!("postgresql-client-{major}"),
    };
    Error::new(ErrorKind::NotFound, "find", format!("{program} {major}"), why)
        .hint(format!("install it (Debian: {package}), or name its folder in {FOLDERS_VARIABLE}"))
}

enum Found {
    /// The first of the requested major version.
    Wanted(Tools),
    /// All available ones, the preferred ones first.
    All(Vec<Tools>),
}

/// Searches the folders, the preferred ones first, and no further than necessary: asking a program for its version
/// takes a few milliseconds, and Debian's wrapper in /usr/bin up to a hundred.
async fn find(program: &str, wanted: Option<u32>) -> Found {
    let mut found: Vec<Tools> = Vec::new();
    for folder in folders() {
        let path = folder.join(program);
        if !path.is_file() || found.iter().any(|t| t.folder == folder) {
            continue;
        }
        let output = Command::new(&path).arg("--version").stdin(Stdio::null()).output().await;
        if let Some((major, version)) = output.ok().and_then(|o| parse_version(&String::from_utf8_lossy(&o.stdout))) {
            let tools = Tools { folder, major, version };
            if wanted == Some(major) {
                return Found::Wanted(tools);
            }
            found.push(tools);
        }
    }
    Found::All(found)
}

fn folders() -> Vec<PathBuf> {
    let split = |name: &str| -> Vec<PathBuf> {
        std::env::var_os(name).map(|v| std::env::split_paths(&v).collect()).unwrap_or_default()
    };
    let mut folders = split(FOLDERS_VARIABLE);
    // Debian and Ubuntu; Red Hat and its kin; Homebrew. Debian's /usr/bin/pg_dump is a wrapper that chooses by itself.
    let layouts =
        [("/usr/lib/postgresql", "", "bin"), ("/usr", "pgsql-", "bin"), ("/opt/homebrew/opt", "postgresql@", "bin")];
    for (root, prefix, bin) in layouts {
        let mut versions: Vec<PathBuf> = std::fs::read_dir(root)
            .into_iter()
            .flatten()
            .flatten()
            .filter(|e| e.file_name().to_string_lossy().starts_with(prefix))
            .map(|e| e.path().join(bin))
            .filter(|p| p.join("pg_dump").is_file() || p.join("postgres").is_file())
            .collect();
        versions.sort();
        folders.extend(versions);
    }
    folders.push("/usr/local/pgsql/bin".into());
    folders.extend(split("PATH"));
    folders
}

/// `pg_dump (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)` gives 15 and `15.18`; betas (`18beta1`) count as their major.
fn parse_version(text: &str) -> Option<(u32, String)> {
    let version = text.split_whitespace().find(|w| w.starts_with(|c: char| c.is_ascii_digit()))?;
    let major: String = version.chars().take_while(char::is_ascii_digit).collect();
    Some((major.parse().ok()?, version.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read() {
        let debian = "pg_dump (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n";
        assert_eq!(parse_version(debian), Some((15, "15.18".to_owned())));
        assert_eq!(parse_version("postgres (PostgreSQL) 18beta1"), Some((18, "18beta1".to_owned())));
        assert_eq!(parse_version("nonsense"), None);
    }

    #[tokio::test]
    async fn a_server_newer_than_every_tool_is_an_error_that_says_what_to_install() {
        let error = at_least("pg_dump", 9999).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert!(error.advice().unwrap().contains("postgresql-client-9999"), "{error:?}");
    }
}
