//! Service files, as libpq reads them (`fe-connect.c`, `parseServiceInfo`): parameters under a name in brackets.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use lifeboat_core::{Error, ErrorKind, Result};

use super::parameters::Parameters;

/// The folders of the system-wide file, as configured by the distributions (`pg_config --sysconfdir`).
const FOLDERS: [&str; 5] = [
    "/etc/postgresql-common",
    "/etc/sysconfig/pgsql",
    "/etc/postgresql",
    "/usr/local/pgsql/etc",
    "/opt/homebrew/etc/postgresql",
];

/// Adds the parameters of a service from the named file, or else from the user's file and then the system-wide one.
///
/// # Errors
/// [`ErrorKind::Config`] if no file has it or one cannot be read; a missing service is never ignored.
pub(super) fn add(
    found: &mut Parameters,
    service: &str,
    file: Option<PathBuf>,
    machine: Option<String>,
    home: Option<&Path>,
) -> Result<()> {
    let own = file.clone().or_else(|| home.map(|home| home.join(".pg_service.conf")));
    let machine: Vec<PathBuf> = match machine {
        Some(folder) => vec![folder.into()],
        None => FOLDERS.map(PathBuf::from).to_vec(),
    };
    let files = own.into_iter().chain(machine.into_iter().map(|folder| folder.join("pg_service.conf")));
    let mut looked_at = Vec::new();
    for path in files {
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && file.as_ref() != Some(&path) => continue,
            Err(error) => return Err(Error::io("read", path.display().to_string(), error)),
        };
        let text = String::from_utf8(bytes).map_err(|_| wrong(&path, "it is not UTF-8"))?;
        if parse(found, &text, service, &path)? {
            return Ok(());
        }
        looked_at.push(path.display().to_string());
    }
    let why = match looked_at.is_empty() {
        true => "there is no service file".to_owned(),
        false => format!("it is not in {}", looked_at.join(", ")),
    };
    Err(Error::new(ErrorKind::Config, "find", format!("the service {service}"), why)
        .hint("PGSERVICE or service= names it, and ~/.pg_service.conf or PGSERVICEFILE holds it"))
}

fn wrong(path: &Path, why: impl Into<String>) -> Error {
    Error::new(ErrorKind::Config, "read", path.display().to_string(), why)
}

/// Adds the parameters of the service, and returns whether the text has it.
fn parse(found: &mut Parameters, text: &str, service: &str, path: &Path) -> Result<bool> {
    let from: Arc<str> = format!("service {service} in {}", path.display()).into();
    let mut within = false;
    let mut seen = false;
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(name) = line.strip_prefix('[') {
            // The first group with this name counts.
            within = !seen && name.strip_suffix(']') == Some(service);
            seen |= within;
            continue;
        }
        if !within {
            continue;
        }
        // An invalid line may contain a password: only its number is reported.
        let Some((name, value)) = line.split_once('=') else {
            return Err(wrong(path, format!("line {} is not of the form name=value", number + 1)));
        };
        if matches!(name, "service" | "servicefile") {
            return Err(wrong(path, format!("line {} names a service within a service", number + 1)));
        }
        found.add(&from, name, value.to_owned())?;
    }
    Ok(seen)
}
