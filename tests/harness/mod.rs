//! What the whole-system tests share: a folder with a sink and a key, and the binaries run in it.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, missing_docs)]

use std::cell::Cell;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use lifeboat::Age;
use lifeboat_testkit::http_api::{Fault, Kind, Server};
use lifeboat_testkit::postgres::programs;
use secrecy::ExposeSecret;
use serde_json::Value;

/// The database of the demo: a shop, and everything that is easy to get wrong.
pub const SHOP: &str = include_str!("../../xtask/src/demo/shop.sql");

/// What the demo's database leaves out: extensions, row security, rights.
pub const MORE: &str = "
CREATE EXTENSION hstore; CREATE EXTENSION citext; CREATE EXTENSION pg_trgm; CREATE EXTENSION \"uuid-ossp\";
CREATE SCHEMA more;
CREATE TABLE more.extended (id int PRIMARY KEY, h hstore, c citext, u uuid DEFAULT uuid_generate_v4());
INSERT INTO more.extended SELECT i, hstore(i::text, NULL) || 'a=>\"b\\\"c\"', 'MiXed ' || i FROM generate_series(1, 100) i;
CREATE INDEX ON more.extended USING gin (c gin_trgm_ops);
CREATE TABLE more.tenants (tenant text, secret text);
INSERT INTO more.tenants VALUES ('a', 'x'), ('b', 'y');
ALTER TABLE more.tenants ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON more.tenants TO PUBLIC USING (tenant = current_user);
CREATE RULE quiet AS ON INSERT TO more.tenants WHERE NEW.tenant = 'nobody' DO INSTEAD NOTHING;
CREATE FUNCTION more.total(VARIADIC numeric[]) RETURNS numeric LANGUAGE sql AS $$ SELECT sum(x) FROM unnest($1) x $$;
CREATE AGGREGATE more.joined(text) (SFUNC = textcat, STYPE = text, INITCOND = '');
CREATE STATISTICS more.s ON id, c FROM more.extended;
COMMENT ON TABLE more.extended IS 'it''s \"quoted\"';
";

/// The marker of a sink in a folder.
pub const MARKER: &str = "_lifeboat/sink.json";

/// A folder of a test's own, with a sink and an age key in it.
pub struct Desk {
    pub folder: tempfile::TempDir,
    pub recipient: String,
    environment: Vec<(String, String)>,
}

/// How a program ended, and what it said.
pub struct Run {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Run {
    /// It ended with 0.
    #[track_caller]
    pub fn good(self) -> Self {
        self.ended(0)
    }

    #[track_caller]
    pub fn ended(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }

    /// Both outputs together hold this.
    #[track_caller]
    pub fn says(self, text: &str) -> Self {
        assert!(
            self.stdout.contains(text) || self.stderr.contains(text),
            "\"{text}\" is not said\nstdout:\n{}\nstderr:\n{}",
            self.stdout,
            self.stderr
        );
        self
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|e| panic!("{e}\nstdout:\n{}\nstderr:\n{}", self.stdout, self.stderr))
    }
}

impl Desk {
    pub fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("lifeboat-test-").tempdir().unwrap();
        let (secret, recipient) = Age::generate();
        std::fs::write(folder.path().join("key.txt"), secret.expose_secret()).unwrap();
        std::fs::create_dir(folder.path().join("sink")).unwrap();
        std::fs::create_dir(folder.path().join("tmp")).unwrap();
        // The scratch server of a root process is another user: a temporary folder is as /tmp is.
        for (open, mode) in [(folder.path().to_path_buf(), 0o755), (folder.path().join("tmp"), 0o1777)] {
            std::fs::set_permissions(&open, std::fs::Permissions::from_mode(mode)).unwrap();
        }
        let desk = Self { folder, recipient, environment: Vec::new() };
        desk.known("sink");
        desk
    }

    /// Marks a folder as a sink that is in use, as `--new-sink` does.
    pub fn known(&self, name: &str) {
        let marker = self.path(name).join(MARKER);
        std::fs::create_dir_all(marker.parent().unwrap()).unwrap();
        std::fs::write(marker, "{}\n").unwrap();
    }

    /// Sets a variable for every program that is run from now on.
    pub fn set(&mut self, name: &str, value: impl Into<String>) -> &mut Self {
        self.environment.push((name.to_owned(), value.into()));
        self
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn sink(&self) -> String {
        format!("file://{}", self.path("sink").display())
    }

    /// `age:<recipient>`, for `--encrypt`.
    pub fn encrypt(&self) -> String {
        format!("age:{}", self.recipient)
    }

    pub fn key(&self) -> String {
        self.path("key.txt").display().to_string()
    }

    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(match program {
            "lifeboat" => env!("CARGO_BIN_EXE_lifeboat"),
            "lifeboat-cloudflare-dns" => env!("CARGO_BIN_EXE_lifeboat-cloudflare-dns"),
            "lifeboat-doppler" => env!("CARGO_BIN_EXE_lifeboat-doppler"),
            "lifeboat-mongodb" => env!("CARGO_BIN_EXE_lifeboat-mongodb"),
            "lifeboat-postgres" => env!("CARGO_BIN_EXE_lifeboat-postgres"),
            "lifeboat-velero" => env!("CARGO_BIN_EXE_lifeboat-velero"),
            other => other,
        });
        command
            .current_dir(self.folder.path())
            .env("NO_COLOR", "1")
            .env("TMPDIR", self.path("tmp"))
            .env("RUST_BACKTRACE", "0");
        command.envs(self.environment.iter().map(|(n, v)| (n, v)));
        command
    }

    pub fn run(&self, program: &str, arguments: &[&str]) -> Run {
        run(self.command(program).args(arguments))
    }

    /// `lifeboat-postgres` with a database in `LIFEBOAT_FROM`.
    pub fn postgres(&self, from: &str, arguments: &[&str]) -> Run {
        run(self.command("lifeboat-postgres").env("LIFEBOAT_FROM", from).args(arguments))
    }

    /// Backs a database up as the dataset `shop`, encrypted, into the folder.
    pub fn backup(&self, from: &str) -> Run {
        self.postgres(from, &["backup", "--dataset", "shop", "--to", &self.sink(), "--encrypt", &self.encrypt()])
    }

    pub fn verify(&self, level: &str) -> Run {
        let sink = self.sink();
        self.run(
            "lifeboat-postgres",
            &["verify", "--dataset", "shop", "--to", &sink, "--identity", &self.key(), "--level", level],
        )
    }

    pub fn list(&self) -> Vec<Value> {
        let run = self.run("lifeboat-postgres", &["list", "--to", &self.sink(), "--json"]);
        // 3 says that there is nothing.
        assert!(matches!(run.code, Some(0 | 3)), "{}", run.stderr);
        if run.stdout.trim().is_empty() { Vec::new() } else { run.json().as_array().unwrap().clone() }
    }

    /// Every file in the sink, relative to it, but for the records of runs, of which every run leaves one.
    pub fn stored(&self) -> Vec<String> {
        stored_in(&self.path("sink"))
    }

    /// A folder of programs that shadows PostgreSQL's: the script `body` runs as `name`, with the real program in `$REAL`;
    /// everything else is the real one. It is preferred from now on.
    pub fn shadow(&mut self, name: &str, body: &str) {
        let folder = self.path("shadow");
        let real = programs();
        std::fs::create_dir_all(&folder).unwrap();
        for entry in std::fs::read_dir(&real).unwrap().flatten() {
            let link = folder.join(entry.file_name());
            if !link.exists() {
                std::os::unix::fs::symlink(entry.path(), link).unwrap();
            }
        }
        let script = folder.join(name);
        std::fs::remove_file(&script).unwrap();
        let real = real.join(name);
        let text = format!(
            "#!/bin/bash\nREAL={}\nif [ \"$1\" = --version ]; then exec $REAL --version; fi\n{body}\n",
            real.display()
        );
        std::fs::write(&script, text).unwrap();
        std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
        self.set("LIFEBOAT_PG_BIN", folder.display().to_string());
    }
}

/// Every file in a folder sink, relative to it, but for its marker and the records of runs.
pub fn stored_in(folder: &Path) -> Vec<String> {
    files(folder).into_iter().filter(|file| !is_record(file) && file != MARKER).collect()
}

/// Whether this is the record of a run, or the config that it stored.
pub fn is_record(key: &str) -> bool {
    key.contains("_lifeboat/history/") || is_config(key)
}

/// Whether this is a stored config.
pub fn is_config(key: &str) -> bool {
    key.contains("_lifeboat/config/")
}

pub fn files(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(next) = folders.pop() {
        let entries = match std::fs::read_dir(&next) {
            // A program that is at work may have removed it.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && next != folder => continue,
            entries => entries.unwrap(),
        };
        for entry in entries.flatten() {
            if entry.file_type().unwrap().is_dir() {
                folders.push(entry.path());
            } else {
                found.push(entry.path().strip_prefix(folder).unwrap().display().to_string());
            }
        }
    }
    found.sort();
    found
}

/// The folders in a folder.
pub fn folders(within: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(within).unwrap().flatten();
    entries.filter(|e| e.file_type().is_ok_and(|kind| kind.is_dir())).map(|e| e.path()).collect()
}

/// How many processes work in a folder: of a scratch server's initdb, its children, the server.
pub fn at_work(folder: &Path) -> usize {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    processes
        .filter_map(|p| std::fs::read_link(p.path().join("cwd")).ok())
        .filter(|cwd| cwd.starts_with(folder))
        .count()
}

/// The stamp in the name of an artifact that was taken a day ago: one that is older than eight days fails its verification.
pub fn yesterday() -> String {
    lifeboat::name::format_stamp(jiff::Timestamp::now() - jiff::SignedDuration::from_hours(24))
}

/// Waits for something that another process does.
#[track_caller]
pub fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < Duration::from_secs(60), "{what} has not come about");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Runs a command to its end. A backup gets another name than the last one of this test: names are exact to the second.
fn run(command: &mut Command) -> Run {
    thread_local!(static LAST_BACKUP: Cell<i64> = const { Cell::new(0) });
    let second = || jiff::Timestamp::now().as_second();
    let backs_up = command.get_args().any(|argument| argument == "backup");
    if backs_up {
        wait_for("the next second", || second() > LAST_BACKUP.get());
    }
    let output = command.stdin(Stdio::null()).output().unwrap();
    if backs_up {
        LAST_BACKUP.set(second());
    }
    Run {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Waits for a child's end, for at most this long.
#[track_caller]
pub fn ends_within(child: &mut Child, limit: Duration) -> Option<i32> {
    let begun = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code();
        }
        assert!(begun.elapsed() < limit, "it has not ended within {limit:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Runs a command again and again while the server falls silent at its first request, its second, and so on, before the head of
/// the answer or after it, and interrupts it there. Each run ends at once and says why. Returns how many requests there were.
pub fn interrupted_at_each_request(server: &Server, desk: &Desk, program: &str, arguments: &[&str]) -> usize {
    for silent in 0..200 {
        server.forget();
        server.heal();
        let kind = if silent % 2 == 0 { Kind::Hang } else { Kind::HangInBody };
        server.fault(Fault::on("/", kind).after(silent).always());
        let mut command = desk.command(program);
        let mut child =
            command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut ended = None;
        wait_for("the silence, or the end", || {
            ended = child.try_wait().unwrap();
            ended.is_some() || server.requests().len() > silent
        });
        if let Some(status) = ended {
            server.heal();
            assert!(status.success(), "{:?}", child.wait_with_output().unwrap());
            return silent;
        }
        assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
        let code = ends_within(&mut child, Duration::from_secs(5));
        let said = String::from_utf8_lossy(&child.wait_with_output().unwrap().stderr).into_owned();
        assert!(code == Some(1) && said.contains("cancelled"), "request {silent}: {code:?}: {said}");
    }
    panic!("it asks without end");
}
