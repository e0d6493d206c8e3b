//! PostgreSQL for tests: a fresh database on the server that runs for all of them, or a server of a test's own.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::content::fresh_name;
use crate::minio::free_port;

fn shared_url() -> String {
    std::env::var("LIFEBOAT_TEST_PG_URL").unwrap_or_else(|_| {
        panic!(
            "LIFEBOAT_TEST_PG_URL is not set: this test needs PostgreSQL; run `cargo xtask test`, or `cargo xtask services` beside it"
        )
    })
}

/// The folder of PostgreSQL's programs that the tests use.
///
/// # Panics
/// When there is none.
pub fn programs() -> PathBuf {
    let named = std::env::var_os("LIFEBOAT_PG_BIN").map(PathBuf::from);
    let debian = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten().map(|e| e.path().join("bin"));
    named.into_iter().chain(debian).find(|folder| folder.join("initdb").is_file()).expect(
        "PostgreSQL's programs are not here: run `cargo xtask test`, which installs them, or set LIFEBOAT_PG_BIN",
    )
}

/// `url` with another database.
pub fn with_database(url: &str, database: &str) -> String {
    let (server, _) = url.rsplit_once('/').expect("the URL names a database");
    format!("{server}/{database}")
}

/// Runs SQL through psql and returns what it prints, unaligned, tuples only.
///
/// # Panics
/// When it fails.
pub fn psql(url: &str, sql: &str) -> String {
    try_psql(url, sql).unwrap_or_else(|error| panic!("{error}"))
}

/// Like [`psql`], with what psql said when it failed.
pub fn try_psql(url: &str, sql: &str) -> Result<String, String> {
    let mut child = Command::new(programs().join("psql"))
        .args(["--no-psqlrc", "--quiet", "--no-align", "--tuples-only", "--set=ON_ERROR_STOP=1", "--file=-", url])
        .env("PGCLIENTENCODING", "UTF8")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let text = sql.to_owned();
    // psql that stops at an error closes its end.
    let feeder = std::thread::spawn(move || drop(stdin.write_all(text.as_bytes())));
    let output = child.wait_with_output().unwrap();
    feeder.join().unwrap();
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    Ok(String::from_utf8(output.stdout).unwrap())
}

/// A database of a test's own. It is dropped with this value.
#[derive(Debug)]
pub struct Database {
    /// Its name.
    pub name: String,
    /// Its URL, password included.
    pub url: String,
    server: String,
}

impl Database {
    /// A fresh one on the server that runs for all tests.
    ///
    /// # Panics
    /// When there is no server: a missing service fails a test, it does not skip it.
    pub fn fresh() -> Self {
        Self::on(&shared_url())
    }

    /// A fresh one on the server that this URL leads to.
    pub fn on(server: &str) -> Self {
        let database = Self::reserved_on(server);
        psql(server, &format!("CREATE DATABASE {} TEMPLATE template0", database.name));
        database
    }

    /// The name of a database that does not exist yet. What a test makes there is dropped in the end.
    pub fn reserved() -> Self {
        Self::reserved_on(&shared_url())
    }

    fn reserved_on(server: &str) -> Self {
        let name = fresh_name("t").replace('-', "_");
        Self { url: with_database(server, &name), name, server: server.to_owned() }
    }

    /// Runs SQL in it.
    pub fn run(&self, sql: &str) -> String {
        psql(&self.url, sql)
    }

    /// `pg_dump --schema-only` of it, without what differs from run to run.
    pub fn schema(&self) -> String {
        let output =
            Command::new(programs().join("pg_dump")).args(["--schema-only", "--no-owner", &self.url]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).unwrap();
        // Since August 2025 a random key stands in these.
        text.lines()
            .filter(|l| !l.starts_with("\\restrict") && !l.starts_with("\\unrestrict"))
            .collect::<Vec<_>>()
            .join("\n")
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        // A server that the test has stopped takes its databases with it.
        let _ = try_psql(&self.server, &format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name));
    }
}

/// A server of a test's own, which it may stop. It goes with this value.
#[derive(Debug)]
pub struct Server {
    /// Its URL, of the database `postgres`.
    pub url: String,
    folder: tempfile::TempDir,
    port: u16,
    settings: Vec<String>,
    process: Option<Child>,
}

impl Server {
    /// Makes a cluster and starts it on a free port of the loopback address.
    ///
    /// # Panics
    /// When it does not start.
    pub fn start() -> Self {
        Self::start_with(|_| Vec::new())
    }

    /// Like [`start`](Server::start), with further settings (`name=value`). They are asked for when the server's folder, in
    /// which files that they name can lie, is there.
    ///
    /// # Panics
    /// When it does not start.
    pub fn start_with(settings: impl FnOnce(&Path) -> Vec<String>) -> Self {
        Self::start_as(&[], settings)
    }

    /// Like [`start_with`](Server::start_with), with further arguments of `initdb`.
    ///
    /// # Panics
    /// When it does not start.
    pub fn start_as(initdb: &[&str], settings: impl FnOnce(&Path) -> Vec<String>) -> Self {
        let folder = tempfile::Builder::new().prefix("lifeboat-pg-").tempdir().unwrap();
        let programs = programs();
        let password = fresh_name("password");
        let password_file = folder.path().join("password");
        std::fs::write(&password_file, &password).unwrap();
        own(folder.path());
        own(&password_file);
        let data = folder.path().join("data");
        let initialized = unprivileged(programs.join("initdb"), folder.path())
            .arg("-D")
            .arg(&data)
            .args(["-U", "postgres", "-A", "scram-sha-256", "--no-sync", "-E", "UTF8", "--locale=C"])
            .arg(format!("--pwfile={}", password_file.display()))
            .args(initdb)
            .output()
            .unwrap();
        assert!(initialized.status.success(), "{}", String::from_utf8_lossy(&initialized.stderr));
        let settings = settings(folder.path());
        for entry in std::fs::read_dir(folder.path()).unwrap().flatten() {
            own(&entry.path());
        }
        Self::launched(folder, &password, settings)
    }

    /// A server over files that `fill` puts into a new data directory, such as those of a backup. `password` is that of the user
    /// `postgres` in them.
    ///
    /// # Panics
    /// When it does not start.
    pub fn over(password: &str, fill: impl FnOnce(&Path), settings: &[&str]) -> Self {
        let folder = tempfile::Builder::new().prefix("lifeboat-pg-").tempdir().unwrap();
        let data = folder.path().join("data");
        std::fs::create_dir(&data).unwrap();
        fill(&data);
        own(folder.path());
        own_all(&data);
        std::fs::set_permissions(&data, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
        Self::launched(folder, password, settings.iter().map(|setting| (*setting).to_owned()).collect())
    }

    fn launched(folder: tempfile::TempDir, password: &str, settings: Vec<String>) -> Self {
        let port = free_port();
        let url = format!("postgres://postgres:{password}@127.0.0.1:{port}/postgres");
        let mut server = Self { url, folder, port, settings, process: None };
        server.launch();
        server
    }

    /// Starts the server that was ended, on the same port.
    ///
    /// # Panics
    /// When it does not start.
    pub fn launch(&mut self) {
        let folder = self.folder.path();
        let process = unprivileged(programs().join("postgres"), folder)
            .arg("-D")
            .arg(folder.join("data"))
            .arg("-k")
            .arg(folder)
            .args(["-c", "listen_addresses=127.0.0.1", "-c", "fsync=off", "-c", &format!("port={}", self.port)])
            .args(self.settings.iter().flat_map(|setting| ["-c", setting]))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        self.process = Some(process);
        let begun = Instant::now();
        while let Err(error) = try_psql(&self.url, "SELECT 1") {
            assert!(begun.elapsed() < Duration::from_secs(60), "the test's PostgreSQL does not answer: {error}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Asks the server to shut down without waiting for its sessions (`pg_ctl stop -m fast`), and does not wait for it.
    pub fn shut_down(&self) {
        let process = self.process.as_ref().expect("the server runs");
        let asked = Command::new("kill").args(["-INT", &process.id().to_string()]).status().unwrap();
        assert!(asked.success());
    }

    /// Waits until the server has ended.
    pub fn ended(&mut self) {
        self.process.take().expect("the server runs").wait().unwrap();
    }

    /// Ends the server at once, as a crash would.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            let postmaster = process.id();
            let children = std::fs::read_to_string(format!("/proc/{postmaster}/task/{postmaster}/children"));
            process.kill().unwrap();
            process.wait().unwrap();
            // They look for it only while they wait: one that is sending could go on to its end. Some have gone meanwhile.
            let _ = Command::new("kill")
                .arg("-9")
                .args(children.unwrap_or_default().split_whitespace())
                .stderr(Stdio::null())
                .status();
        }
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

fn is_root() -> bool {
    std::os::unix::fs::MetadataExt::uid(&std::fs::metadata("/proc/self").unwrap()) == 0
}

/// PostgreSQL does not run as root.
fn unprivileged(program: PathBuf, folder: &Path) -> Command {
    use std::os::unix::process::CommandExt;
    let mut command = Command::new(program);
    command.current_dir(folder).env("LC_ALL", "C");
    if is_root() {
        let (uid, gid) = nobody();
        command.uid(uid).gid(gid);
    }
    command
}

fn own(path: &Path) {
    if is_root() {
        let (uid, gid) = nobody();
        std::os::unix::fs::chown(path, Some(uid), Some(gid)).unwrap();
    }
}

/// A folder with all that is in it.
fn own_all(folder: &Path) {
    own(folder);
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        match entry.file_type().unwrap().is_dir() {
            true => own_all(&entry.path()),
            false => own(&entry.path()),
        }
    }
}

fn nobody() -> (u32, u32) {
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap();
    let line = passwd.lines().find(|l| l.starts_with("nobody:")).expect("there is a user nobody");
    let ids: Vec<u32> = line.split(':').skip(2).take(2).map(|id| id.parse().unwrap()).collect();
    (ids[0], ids[1])
}
