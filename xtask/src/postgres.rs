//! PostgreSQL from the Debian package: one shared server for the tests, with a random password.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::Signal;

use crate::debian::Package;
use crate::process::{self, Guard};
use crate::requirements::Requirement;
use crate::scratch;
use crate::services::{Launch, Service, Session};
use crate::workspace;

pub(crate) const SERVICE: Service = Service {
    name: "postgres",
    about: "PostgreSQL: LIFEBOAT_TEST_PG_URL (a superuser), LIFEBOAT_PG_BIN",
    default: true,
    // The metapackage brings the server, the clients and contrib of the release's major version.
    requirements: &[Requirement::Debian(Package { name: "postgresql", present: || Ok(programs()?.is_some()) })],
    start,
};

/// The folder of the PostgreSQL programs: `LIFEBOAT_PG_BIN`, or the newest of Debian's, if there is one.
fn programs() -> Result<Option<PathBuf>> {
    let has_all = |folder: &Path| {
        ["initdb", "postgres", "pg_isready", "pg_dump", "pg_restore", "psql"]
            .iter()
            .all(|name| workspace::is_executable(&folder.join(name)))
    };
    if let Some(folder) = std::env::var_os("LIFEBOAT_PG_BIN").map(PathBuf::from) {
        ensure!(
            has_all(&folder),
            "LIFEBOAT_PG_BIN is {}, which holds no PostgreSQL server and client",
            folder.display()
        );
        return Ok(Some(folder));
    }
    let Ok(folders) = fs::read_dir("/usr/lib/postgresql") else { return Ok(None) };
    let mut found: Vec<(u32, PathBuf)> = folders
        .flatten()
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
        .filter(|(_, folder)| has_all(folder))
        .collect();
    found.sort();
    Ok(found.pop().map(|(_, folder)| folder))
}

fn start(session: &mut Session) -> Result<()> {
    let programs = programs()?.context("the PostgreSQL programs are not there")?;
    let folder = session.scratch().folder("postgres")?;
    let data = folder.join("data");
    let password = scratch::random_hex(16)?;
    let password_file = folder.join("password");
    fs::write(&password_file, &password)?;
    fs::set_permissions(&password_file, fs::Permissions::from_mode(0o600))?;

    // The server refuses to run as root.
    let account = if rustix::process::geteuid().is_root() { Some(unprivileged_account()?) } else { None };
    if let Some(account) = &account {
        for path in [&folder, &password_file] {
            chown(path, Some(account.user), Some(account.group))
                .with_context(|| format!("cannot give {} to {}", path.display(), account.name))?;
        }
    }
    let user = account.as_ref().map(|account| (account.user, account.group));

    let mut initdb = process::guarded(programs.join("initdb"), Guard { user, at_our_death: None })?;
    initdb
        .args(["--username=postgres", "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync"])
        .arg(format!("--pwfile={}", password_file.display()))
        .arg("--pgdata")
        .arg(&data)
        .current_dir(&folder);
    process::run_logged(&mut initdb, &process::fresh_log("initdb")?)?;
    fs::remove_file(&password_file)?;

    let port = session.serve(
        "postgres",
        Duration::from_secs(60),
        |port| {
            // SIGQUIT is an immediate shutdown: unlike KILL it lets the server give its shared memory back.
            let guard = Guard { user, at_our_death: Some("QUIT") };
            let mut command = process::guarded(programs.join("postgres"), guard)?;
            command.arg("-D").arg(&data).current_dir(&folder);
            let settings = [
                format!("port={port}"),
                "listen_addresses=127.0.0.1".to_owned(),
                format!("unix_socket_directories={}", folder.display()),
                "wal_level=replica".to_owned(),
                "max_connections=200".to_owned(),
                // The data lives as long as the run.
                "fsync=off".to_owned(),
                "synchronous_commit=off".to_owned(),
                "full_page_writes=off".to_owned(),
            ];
            command.args(settings.iter().flat_map(|setting| ["-c", setting]));
            // SIGINT is a fast shutdown: it does not wait for clients.
            Ok(Launch { command, stop: Signal::INT })
        },
        |port| {
            process::command(programs.join("pg_isready"))
                .args(["--quiet", "--host=127.0.0.1", &format!("--port={port}"), "--timeout=2"])
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status()
                .is_ok_and(|status| status.success())
        },
    )?;
    session.export("LIFEBOAT_TEST_PG_URL", format!("postgres://postgres:{password}@127.0.0.1:{port}/postgres"));
    session.export("LIFEBOAT_PG_BIN", programs);
    Ok(())
}

/// User, password, host and port of the URL that this service exports.
pub(crate) fn url_parts(url: &str) -> Option<(&str, &str, &str, &str)> {
    let (login, place) = url.strip_prefix("postgres://")?.split_once('@')?;
    let (place, _database) = place.split_once('/')?;
    let ((user, password), (host, port)) = (login.split_once(':')?, place.split_once(':')?);
    Some((user, password, host, port))
}

struct Account {
    name: String,
    user: u32,
    group: u32,
}

/// The account that Debian's package made for the server; on other systems nobody's.
fn unprivileged_account() -> Result<Account> {
    let accounts = fs::read_to_string("/etc/passwd").context("cannot read /etc/passwd")?;
    for wanted in ["postgres", "nobody"] {
        for line in accounts.lines() {
            let fields: Vec<&str> = line.split(':').collect();
            if let [name, _, user, group, ..] = fields[..]
                && name == wanted
                && let (Ok(user), Ok(group)) = (user.parse(), group.parse())
            {
                return Ok(Account { name: name.to_owned(), user, group });
            }
        }
    }
    bail!("PostgreSQL does not run as root, and there is no account `postgres` or `nobody` that it could run as")
}

#[cfg(test)]
mod tests {
    use super::url_parts;

    #[test]
    fn url_is_taken_apart() {
        assert_eq!(url_parts("postgres://u:p@127.0.0.1:5432/postgres"), Some(("u", "p", "127.0.0.1", "5432")));
        assert_eq!(url_parts("postgres://u@127.0.0.1:5432/postgres"), None);
    }
}
