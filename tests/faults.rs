//! Things that go wrong: each ends with an error that names the cause, and with nothing that looks like a backup.
#![allow(clippy::print_stdout, clippy::unwrap_used, missing_docs)]

mod corpus;
mod harness;
mod kills;

use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use harness::{Desk, at_work, ends_within, folders, wait_for};
use lifeboat_testkit::minio::Minio;
use lifeboat_testkit::postgres::{Database, Server, psql};

const ROWS: &str = "CREATE TABLE t AS SELECT i AS id, repeat(md5(i::text), 10) AS x FROM generate_series(1, 20000) i";

/// A pg_dump that writes a megabyte, says so, and goes on when it is told.
const HALTING: &str = "
$REAL \"$@\" | { head -c 1000000; touch halted; while [ -e halted ] && [ ! -e go ]; do sleep 0.02; done; cat; }
exit ${PIPESTATUS[0]}";

fn nothing_is_listed(desk: &Desk) {
    assert!(desk.list().is_empty(), "{:?}", desk.list());
}

fn start(desk: &Desk, url: &str, to: &str) -> Child {
    start_with(desk, url, to, &[])
}

fn start_with(desk: &Desk, url: &str, to: &str, more: &[&str]) -> Child {
    desk.command("lifeboat-postgres")
        .env("LIFEBOAT_FROM", url)
        .args(["backup", "--dataset", "shop", "--to", to, "--encrypt", &desk.encrypt()])
        .args(more)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn stderr(child: Child) -> String {
    String::from_utf8_lossy(&child.wait_with_output().unwrap().stderr).into_owned()
}

/// The children of a process, of any generation, whose program's name contains `name`.
fn descendants(of: u32, name: &str) -> Vec<u32> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<u32>() else { continue };
        let Ok(stat) = std::fs::read_to_string(entry.path().join("stat")) else { continue };
        let Some((head, tail)) = stat.rsplit_once(')') else { continue };
        if tail.split_whitespace().nth(1).and_then(|p| p.parse::<u32>().ok()) == Some(of) {
            if head.contains(name) {
                found.push(pid);
            }
            found.extend(descendants(pid, name));
        }
    }
    found
}

fn signal(pid: u32, name: &str) {
    assert!(std::process::Command::new("kill").args([name, &pid.to_string()]).status().unwrap().success());
}

#[test]
fn pg_dump_that_fails_after_it_has_closed_its_output_leaves_nothing() {
    let (live, mut desk) = (Database::fresh(), Desk::new());
    live.run(ROWS);
    desk.shadow("pg_dump", "$REAL \"$@\"\nexec >&-\nsleep 0.3\necho 'pg_dump: error: the last word' >&2\nexit 3");
    desk.backup(&live.url).ended(1).says("status 3").says("the last word");
    nothing_is_listed(&desk);
    assert_eq!(desk.stored(), Vec::<String>::new());
}

#[test]
fn pg_dump_that_is_killed_in_the_middle_leaves_nothing() {
    let (live, mut desk) = (Database::fresh(), Desk::new());
    live.run(ROWS);
    desk.shadow("pg_dump", "$REAL \"$@\" | head -c 1000000\nkill -9 $$");
    desk.backup(&live.url).ended(1).says("pg_dump was killed");
    nothing_is_listed(&desk);
    assert_eq!(desk.stored(), Vec::<String>::new());
}

#[test]
fn an_archive_that_lacks_a_block_is_not_taken_for_whole_though_pg_dump_ends_with_0() {
    let (live, mut desk) = (Database::fresh(), Desk::new());
    live.run("CREATE TABLE a AS SELECT 1 AS x; CREATE TABLE b AS SELECT 2 AS x");
    // The last block of this archive is b's: 1 byte type, 5 of the number, 2 chunks of 5 + length, and the closing 5.
    desk.shadow("pg_dump", "$REAL \"$@\" > whole\nsize=$(stat -c %s whole)\nhead -c $((size - 28)) whole\nexit 0");
    desk.backup(&live.url).ended(1);
    nothing_is_listed(&desk);
    assert_eq!(desk.stored(), Vec::<String>::new());
}

#[test]
fn a_server_that_stops_in_the_middle_leaves_nothing() {
    let mut server = Server::start();
    let mut desk = Desk::new();
    psql(&server.url, ROWS);
    psql(&server.url, "CREATE TABLE u AS SELECT * FROM t, generate_series(1, 20)");
    desk.shadow("pg_dump", HALTING);
    let mut backup = start(&desk, &server.url, &desk.sink());
    wait_for("the middle of the dump", || desk.path("halted").exists());
    server.kill();
    std::fs::write(desk.path("go"), "").unwrap();
    assert_eq!(ends_within(&mut backup, Duration::from_secs(30)), Some(1));
    let said = stderr(backup);
    assert!(said.contains("PQgetCopyData() failed") || said.contains("terminat"), "{said}");
    assert!(said.contains("hint: run it again"), "{said}");
    nothing_is_listed(&desk);
    assert_eq!(desk.stored(), Vec::<String>::new());
}

#[test]
fn ctrl_c_and_sigterm_end_it_within_five_seconds_and_leave_nothing() {
    for name in ["-INT", "-TERM"] {
        let (live, mut desk) = (Database::fresh(), Desk::new());
        live.run(ROWS);
        desk.shadow("pg_dump", HALTING);
        let mut backup = start(&desk, &live.url, &desk.sink());
        wait_for("the middle of the dump", || desk.path("halted").exists());
        let dumps = descendants(backup.id(), "pg_dump");
        assert!(!dumps.is_empty());
        signal(backup.id(), name);
        let begun = Instant::now();
        assert_eq!(ends_within(&mut backup, Duration::from_secs(5)), Some(1), "{name}");
        assert!(begun.elapsed() < Duration::from_secs(5));
        assert!(stderr(backup).contains("cancelled"));
        nothing_is_listed(&desk);
        assert_eq!(desk.stored(), Vec::<String>::new());
        // The script's own children wait for `go`.
        std::fs::write(desk.path("go"), "").unwrap();
    }
}

#[test]
fn a_full_disk_is_named_and_leaves_nothing() {
    let (live, desk) = (Database::fresh(), Desk::new());
    live.run("CREATE TABLE t AS SELECT md5(i::text) || md5((-i)::text) AS x FROM generate_series(1, 100000) i");
    // A file system of one megabyte, in a mount namespace of its own: as root, or as a user that maps itself to root.
    let line = format!(
        "mount -t tmpfs -o size=1m tmpfs sink && mkdir sink/_lifeboat && touch sink/_lifeboat/sink.json && {{ {} backup --dataset shop --to {} --encrypt {}; code=$?; find sink -type f; exit $code; }}",
        env!("CARGO_BIN_EXE_lifeboat-postgres"),
        desk.sink(),
        desk.encrypt()
    );
    let output = desk
        .command("unshare")
        .args(["--map-root-user", "--mount", "bash", "-c", &line])
        .env("LIFEBOAT_FROM", &live.url)
        .output()
        .unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(1), "{out}{err}");
    assert!(err.contains("No space left on device") && err.contains("sink"), "{err}");
    assert!(!out.contains("shop-"), "{out}");
}

#[test]
fn kill_9_of_a_restore_test_leaves_no_server_and_no_folder() {
    let (live, mut desk) = (Database::fresh(), Desk::new());
    live.run(ROWS);
    desk.backup(&live.url).good();
    // It runs confined: as another user, in the scratch server's folder.
    let folder = desk.path("tmp").display().to_string();
    let halting = format!(
        "cd {folder}; touch halted; while [ -e halted ] && [ ! -e go ]; do sleep 0.02; done; exec $REAL \"$@\""
    );
    desk.shadow("pg_restore", &halting);
    let mut verify = desk
        .command("lifeboat-postgres")
        .args(["verify", "--dataset", "shop", "--to", &desk.sink(), "--identity", &desk.key()])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    wait_for("the restore", || desk.path("tmp/halted").exists());
    let servers = descendants(verify.id(), "postgres");
    assert!(!servers.is_empty());
    verify.kill().unwrap();
    verify.wait().unwrap();
    wait_for("the scratch server's end", || {
        servers.iter().all(|pid| !std::path::Path::new(&format!("/proc/{pid}")).exists())
    });
    std::fs::write(desk.path("tmp/go"), "").unwrap();
    wait_for("the scratch folder's end", || {
        std::fs::read_dir(desk.path("tmp")).unwrap().flatten().all(|e| !e.file_type().unwrap().is_dir())
    });
}

#[test]
fn what_outlives_its_keeper_goes_with_the_next_run() {
    let (live, desk) = (Database::fresh(), Desk::new());
    live.run("CREATE TABLE t AS SELECT 1 AS id");
    desk.backup(&live.url).good();
    let arguments = ["verify", "--dataset", "shop", "--to", &desk.sink(), "--identity", &desk.key(), "--no-record"];
    let tmp = desk.path("tmp");
    let mut child =
        desk.command("lifeboat-postgres").args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    wait_for("the server", || folders(&tmp).first().is_some_and(|folder| folder.join("data/postmaster.pid").exists()));
    let folder = folders(&tmp).remove(0);
    let keepers = descendants(child.id(), "sh");
    child.kill().unwrap();
    for keeper in keepers {
        let _ = std::process::Command::new("kill").args(["-KILL", &keeper.to_string()]).status();
    }
    child.wait().unwrap();
    desk.run("lifeboat-postgres", &arguments).good();
    wait_for("the folder's end", || !folder.exists() && folders(&tmp).is_empty());
    wait_for("the end of all processes", || at_work(&tmp) == 0);
}

#[test]
fn a_restore_test_runs_as_a_user_that_no_table_names() {
    let (live, desk) = (Database::fresh(), Desk::new());
    live.run("CREATE TABLE t AS SELECT 1 AS id");
    desk.backup(&live.url).good();
    let (sink, key) = (desk.sink(), desk.key());
    // As a container runs it: a number and no name.
    let unshare = ["--user", "--map-user=54321", "--map-group=54321", "--", env!("CARGO_BIN_EXE_lifeboat-postgres")];
    let verify = ["verify", "--dataset", "shop", "--to", &sink, "--identity", &key];
    desk.run("unshare", &[&unshare[..], &verify].concat()).good().says("PASS");
    assert_eq!(folders(&desk.path("tmp")), Vec::<std::path::PathBuf>::new());
    let named = ["--user", "--map-user=54321", "--map-group=54321", "--", "id", "-un"];
    assert_ne!(desk.run("unshare", &named).code, Some(0), "somebody has that number");
}

fn minio_desk(minio: &Minio, bucket: &str) -> (Desk, String) {
    let mut desk = Desk::new();
    desk.set("MINIO_ACCESS_KEY", minio.user()).set("MINIO_SECRET_KEY", minio.password());
    (desk, minio.sink_url(bucket))
}

#[tokio::test(flavor = "multi_thread")]
async fn minio_backup_verify_restore_prune() {
    let minio = Minio::shared();
    let bucket = minio.fresh_bucket().await;
    let (desk, sink) = minio_desk(&minio, &bucket);
    let (live, restored) = (Database::fresh(), Database::reserved());
    live.run("CREATE TABLE t AS SELECT i AS id, repeat(md5(i::text) || md5((i * 7)::text), 4) AS x FROM generate_series(1, 120000) i");
    let (encrypt, key) = (desk.encrypt(), desk.key());
    desk.postgres(&live.url, &["backup", "--dataset", "shop", "--to", &sink, "--encrypt", &encrypt]).good();
    desk.run("lifeboat-postgres", &["verify", "--dataset", "shop", "--to", &sink, "--identity", &key]).good();
    desk.run(
        "lifeboat-postgres",
        &["restore", "--dataset", "shop", "--to", &sink, "--identity", &key, "--into", &restored.url],
    )
    .good();
    assert_eq!(live.schema(), restored.schema());
    desk.postgres(&live.url, &["backup", "--dataset", "shop", "--to", &sink, "--encrypt", &encrypt]).good();
    desk.run("lifeboat-postgres", &["verify", "--dataset", "shop", "--to", &sink, "--identity", &key]).good();
    desk.run("lifeboat-postgres", &["prune", "--dataset", "shop", "--to", &sink, "--keep", "last=1"]).good();
    let left = desk.run("lifeboat-postgres", &["list", "--to", &sink, "--json"]).good().json();
    assert_eq!(left.as_array().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn minio_killed_in_the_middle_leaves_nothing_after_prune() {
    let mut minio = Minio::start().await;
    let bucket = minio.fresh_bucket().await;
    let (mut desk, sink) = minio_desk(&minio, &bucket);
    let live = Database::fresh();
    // Several parts are on their way when it happens.
    live.run("CREATE TABLE t AS SELECT i AS id, encode(sha512(i::text::bytea), 'base64') || encode(sha512((i * 3)::text::bytea), 'base64') AS x FROM generate_series(1, 250000) i");
    desk.shadow("pg_dump", "$REAL \"$@\" | { head -c 30000000; touch halted; while [ -e halted ] && [ ! -e go ]; do sleep 0.02; done; cat; }\nexit ${PIPESTATUS[0]}");
    desk.set("LIFEBOAT_RETRY_LIMIT", "3");
    // A compressor that is given nothing more may keep all that it was given.
    let mut backup = start_with(&desk, &live.url, &sink, &["--compress", "none"]);
    wait_for("the middle of the dump", || desk.path("halted").exists());
    let settings = lifeboat::sinks::Settings::default()
        .credentials(Some(lifeboat::sinks::Credentials::new(minio.user(), minio.password())));
    let opened = lifeboat::sinks::open_with(&sink, &settings).unwrap();
    // Its upload has begun: the run's own note is not the only one.
    let begun = std::time::Instant::now();
    loop {
        let notes: Vec<_> = futures::StreamExt::collect(opened.list("_lifeboat/uploads/")).await;
        if notes.iter().flatten().any(|note| !note.key.ends_with(".intent.json")) {
            break;
        }
        if let Some(status) = backup.try_wait().unwrap() {
            panic!("the backup has ended before its upload began: {status}: {}", stderr(backup));
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "no upload has begun");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    minio.kill();
    std::fs::write(desk.path("go"), "").unwrap();
    assert_eq!(ends_within(&mut backup, Duration::from_secs(90)), Some(1));
    let said = stderr(backup);
    assert!(said.contains(minio.host()), "{said}");
    minio.restart().await;
    let run = desk.run("lifeboat-postgres", &["list", "--to", &sink, "--json"]);
    assert!(run.code == Some(3) || run.json().as_array().unwrap().is_empty(), "{}", run.stdout);
    // The notes tell which upload was under way.
    let mut notes = opened.list("_lifeboat/uploads/");
    let note = futures::StreamExt::next(&mut notes).await.expect("a note").unwrap().key;
    drop(notes);
    let name = note.rsplit('/').next().unwrap();
    let key = &name[..name.find(".age").unwrap() + ".age".len()];
    assert!(!minio.unfinished_uploads(&bucket, key).await.is_empty(), "the upload of {key} was cut off");
    desk.run("lifeboat-postgres", &["prune", "--dataset", "shop", "--to", &sink, "--orphans", "--orphan-age", "0s"])
        .good();
    assert_eq!(minio.unfinished_uploads(&bucket, key).await, Vec::<String>::new());
    let mut objects = opened.list("_lifeboat/");
    assert!(futures::StreamExt::next(&mut objects).await.is_none(), "a note was left behind");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_may_only_write_is_enough_for_a_backup() {
    let minio = Minio::shared();
    let bucket = minio.fresh_bucket().await;
    let policy = format!(
        r#"{{"Version":"2012-10-17","Statement":[{{"Effect":"Allow","Action":["s3:PutObject","s3:AbortMultipartUpload"],"Resource":["arn:aws:s3:::{bucket}/*"]}}]}}"#
    );
    let writer = minio.restricted(&policy).await;
    let (live, mut desk) = (Database::fresh(), Desk::new());
    // More than one part.
    live.run("CREATE TABLE t AS SELECT encode(sha512(i::text::bytea), 'base64') || encode(sha512((i * 3)::text::bytea), 'base64') AS x FROM generate_series(1, 120000) i");
    desk.set("AWS_ACCESS_KEY_ID", writer.access_key)
        .set("AWS_SECRET_ACCESS_KEY", writer.secret_key)
        .set("AWS_SESSION_TOKEN", writer.session_token);
    let place = format!("s3://{bucket}?endpoint=http://{}&tls=false&region=us-east-1", minio.host());
    let backup =
        desk.postgres(&live.url, &["backup", "--dataset", "shop", "--to", &place, "--encrypt", &desk.encrypt()]).good();
    assert!(!backup.stderr.contains("error="), "{}", backup.stderr);
    let mut reader = Desk::new();
    reader.set("MINIO_ACCESS_KEY", minio.user()).set("MINIO_SECRET_KEY", minio.password());
    let sink = minio.sink_url(&bucket);
    let listed = reader.run("lifeboat-postgres", &["list", "--to", &sink, "--json"]).good().json();
    assert_eq!((listed.as_array().unwrap().len(), &listed[0]["kind"]), (1, &"managed".into()));
    desk.run("lifeboat-postgres", &["list", "--to", &sink]);
    // Its notes could not be taken away by it; they belong to a run that has finished, and say so.
    let orphans = ["prune", "--dataset", "shop", "--to", &sink, "--orphans", "--orphan-age", "0s"];
    reader.run("lifeboat-postgres", &orphans).good().says("a run that has finished");
    let listed = reader.run("lifeboat-postgres", &["list", "--to", &sink, "--json"]).good().json();
    assert_eq!(listed.as_array().unwrap().len(), 1);
}
