//! Object stores as they are, through the binaries: very many artifacts, a store that crashes, neighbours in the bucket.
// The figures of the measurement are printed.
#![allow(clippy::unwrap_used, clippy::print_stderr, missing_docs)]

mod harness;

use std::io::Read;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use harness::{Desk, ends_within, wait_for};
use lifeboat_testkit::b2::{self, B2};
use lifeboat_testkit::faulty::{Call, Fault, FaultProxy, Schedule};
use lifeboat_testkit::minio::Minio;
use lifeboat_testkit::pages::Pages;
use lifeboat_testkit::postgres::Database;
use lifeboat_testkit::versions;
use serde_json::Value;

const MIB: u64 = 1 << 20;

/// Text that does not compress: some 23 MiB, so that several parts are on their way.
const ROWS: &str = "CREATE TABLE t AS SELECT i AS id, encode(sha512(i::text::bytea), 'base64') || encode(sha512((i * 3)::text::bytea), 'base64') AS x FROM generate_series(1, 150000) i";

/// A desk with the keys of a MinIO.
fn desk(user: &str, password: &str) -> Desk {
    let mut desk = Desk::new();
    desk.set("MINIO_ACCESS_KEY", user).set("MINIO_SECRET_KEY", password);
    desk
}

/// The highest resident size of a process so far, in bytes.
fn peak(child: &Child) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? << 10)
}

/// Runs a program to its end: what it wrote, and its peak memory. It cannot end before its last lines were taken, so the last
/// look at it misses nothing that counts.
fn measured(desk: &Desk, arguments: &[&str]) -> (String, u64) {
    let mut child = desk
        .command("lifeboat-postgres")
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let (mut text, mut chunk, mut highest) = (Vec::new(), [0; 8192], 0);
    loop {
        let read = stdout.read(&mut chunk).unwrap();
        highest = highest.max(peak(&child).unwrap_or_default());
        if read == 0 {
            break;
        }
        text.extend_from_slice(&chunk[..read]);
    }
    assert!(child.wait().unwrap().success());
    (String::from_utf8(text).unwrap(), highest)
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_thousand_artifacts_are_listed_in_the_memory_of_five_thousand_and_planned_in_little_more() {
    let (few, many) = (Pages::start("shop", 5_000).await, Pages::start("shop", 50_000).await);
    let desk = desk("any", "any-secret");
    for command in [
        &["list"][..],
        &["list", "--json"],
        &["prune", "--dataset", "shop", "--keep", "last=3", "--dry-run", "-v"],
        &["prune", "--dataset", "shop", "--keep", "last=3", "--dry-run", "--json"],
    ] {
        let take = || {
            let mut peaks = Vec::new();
            for (pages, artifacts) in [(&few, 5_000), (&many, 50_000)] {
                let before = pages.served();
                let mut arguments = command.to_vec();
                let url = pages.sink_url();
                arguments.extend(["--to", &url]);
                let (text, peak) = tokio::task::block_in_place(|| measured(&desk, &arguments));
                let told = if command.contains(&"--json") {
                    text.matches("\"taken_at\"").count()
                } else {
                    text.matches(".dump.zst.age").count()
                };
                assert_eq!(told, artifacts, "{command:?}");
                assert!(pages.served() - before >= 2 * artifacts as u64 / 1000, "{command:?}");
                peaks.push(peak);
            }
            eprintln!("{command:?}: {} KiB for 5,000, {} KiB for 50,000", peaks[0] >> 10, peaks[1] >> 10);
            peaks[1].saturating_sub(peaks[0])
        };
        // A listing holds a page of the store's and 500 rows. A plan is made of all artifacts together: of each it holds its time,
        // its size and what becomes of it, in some 40 bytes, and neither its key nor what it consists of.
        let most = if command[0] == "list" { 2 * MIB } else { 45_000 * 64 };
        // What threads and the allocator take differs by half a MiB from run to run: the least of three is the data's.
        let mut grown = take();
        for _ in 0..2 {
            if grown >= most {
                grown = grown.min(take());
            }
        }
        assert!(grown < most, "{command:?} takes {} KiB more for 50,000 than for 5,000", grown >> 10);
    }
}

fn start(desk: &Desk, from: &str, arguments: &[&str]) -> Child {
    desk.command("lifeboat-postgres")
        .env("LIFEBOAT_FROM", from)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_killed_and_restarted_in_mid_upload_costs_no_second_reading_of_the_source() {
    let mut minio = Minio::start().await;
    let bucket = minio.fresh_bucket().await;
    let sink = minio.sink_url(&bucket);
    let mut desk = desk(minio.user(), minio.password());
    desk.set("RUST_LOG", "lifeboat_sinks=info");
    let live = Database::fresh();
    live.run(ROWS);
    desk.shadow(
        "pg_dump",
        "echo run >> dumps; $REAL \"$@\" | { head -c 15000000; touch halted; while [ -e halted ] && [ ! -e go ]; do sleep 0.02; done; cat; }\nexit ${PIPESTATUS[0]}",
    );
    let encrypt = desk.encrypt();
    let mut backup = start(&desk, &live.url, &["backup", "--dataset", "shop", "--to", &sink, "--encrypt", &encrypt]);
    wait_for("the middle of the dump", || desk.path("halted").exists());
    minio.kill();
    std::fs::write(desk.path("go"), "").unwrap();
    // It notices that the store is gone, and goes on trying.
    let log = std::io::BufReader::new(backup.stderr.take().unwrap());
    let mut seen = String::new();
    for line in std::io::BufRead::lines(log) {
        seen += &line.unwrap();
        if seen.contains("trying again") {
            break;
        }
    }
    assert!(seen.contains(minio.host()), "{seen}");
    minio.restart().await;
    assert_eq!(ends_within(&mut backup, Duration::from_secs(60)), Some(0), "{seen}");
    assert_eq!(std::fs::read_to_string(desk.path("dumps")).unwrap(), "run\n", "the source was read once");
    let key = desk.key();
    desk.run(
        "lifeboat-postgres",
        &["verify", "--dataset", "shop", "--to", &sink, "--identity", &key, "--level", "structure"],
    )
    .good();
    let listed = desk.run("lifeboat-postgres", &["list", "--to", &sink, "--json"]).good().json();
    assert_eq!((listed.as_array().unwrap().len(), &listed[0]["kind"]), (1, &Value::from("managed")));
    let artifact = listed[0]["key"].as_str().unwrap();
    assert_eq!(minio.unfinished_uploads(&bucket, artifact).await, Vec::<String>::new());
}

/// What other tools put beside ours, in the folder of ours and elsewhere.
const NEIGHBOURS: &[&str] = &[
    // Datasets whose names begin as ours does, as scripts write them.
    "pg/shop-graphql-20200101-030000.dump",
    "pg/shop-graphql-20200101-030000.dump.manifest.json",
    "pg/shop-20200101-030000-copy.dump",
    "pg/shop-latest.dump",
    "pg/shop-2020.tar",
    "pg/shop",
    "pg/xshop-20200101-030000.dump",
    "pg/old/shop-20200101-030000.dump",
    // Velero's tree: an object storage provider's layout.
    "pg/velero/backups/shop-20200101-030000/velero-backup.json",
    "pg/velero/backups/shop-20200101-030000/shop-20200101-030000.tar.gz",
    "pg/velero/restores/shop-20200101-030000/restore-shop-20200101-030000-logs.gz",
    "pg/velero/kopia/default/kopia.repository",
    "backups/shop-20200101-030000/velero-backup.json",
    "restic/default/config",
    // A restic repository, and a WAL archive.
    "pg/config",
    "pg/data/00/00aa11bb22cc33dd44ee55ff66aa77bb88cc99dd00ee11ff22aa33bb44cc55dd",
    "pg/locks/shop-20200101-030000.dump",
    "pg/wal/000000010000000000000001.gz",
    "pg/000000010000000000000002.partial",
    // What looks most like ours, and is nobody's we know.
    "pg/_lifeboat/readme.txt",
    "pg/_lifeboat/uploads/readme.txt",
    "pg/_lifeboat/uploads/shop-graphql-20200101-030000.dump.note",
    "_lifeboat/uploads/elsewhere.json",
];

/// Neighbours that another tool has deleted where a deletion only hides: whether they go for good is its affair.
const HIDDEN: &[&str] = &[
    "pg/shop-latest.dump",
    "pg/shop-20200101-030000-copy.dump",
    "pg/velero/backups/shop-20200101-030000/velero-backup.json",
    "pg/wal/000000010000000000000001.gz",
    "pg/_lifeboat/uploads/readme.txt",
];

async fn neighbours(minio: &Minio, bucket: &str) -> Vec<versions::Version> {
    let all = without_records(versions::of(minio, bucket).await);
    all.into_iter().filter(|version| NEIGHBOURS.contains(&version.key.as_str())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_other_tools_put_beside_ours_is_never_touched() {
    let minio = Minio::shared();
    let live = Database::fresh();
    live.run("CREATE TABLE t AS SELECT 1 AS x");
    for versioned in [false, true] {
        let bucket = minio.fresh_bucket().await;
        if versioned {
            versions::enable(&minio, &bucket).await;
        }
        // Of each an older version and a newer one.
        for body in ["older", "newer"] {
            for key in NEIGHBOURS {
                let (status, answer) =
                    minio.request("PUT", &format!("/{bucket}/{key}"), &[], body.as_bytes()).await.unwrap();
                assert_eq!(status, 200, "{answer}");
            }
        }
        if versioned {
            for key in HIDDEN {
                let (status, answer) = minio.request("DELETE", &format!("/{bucket}/{key}"), &[], b"").await.unwrap();
                assert_eq!(status, 204, "{answer}");
            }
        }
        let before = neighbours(&minio, &bucket).await;
        assert_eq!(before.len(), if versioned { NEIGHBOURS.len() * 2 + HIDDEN.len() } else { NEIGHBOURS.len() });

        let (desk, url) = (desk(minio.user(), minio.password()), minio.sink_url(&bucket));
        let sink = url.replacen("?tls", "/pg?tls", 1);
        let encrypt = desk.encrypt();
        let backup = ["backup", "--dataset", "shop", "--to", &sink, "--encrypt", &encrypt];
        for _ in 0..3 {
            desk.postgres(&live.url, &backup).good();
        }
        let listed =
            desk.run("lifeboat-postgres", &["list", "--dataset", "shop", "--to", &sink, "--json"]).good().json();
        assert_eq!(listed.as_array().unwrap().len(), 3, "{listed}");
        desk.run("lifeboat-postgres", &["verify", "--dataset", "shop", "--to", &sink, "--level", "stored"]).good();
        let prune = ["prune", "--dataset", "shop", "--to", &sink, "--keep", "last=1"];
        desk.run("lifeboat-postgres", &prune).good().says("2 artifacts deleted");
        let orphans = ["prune", "--dataset", "shop", "--to", &sink, "--orphans", "--orphan-age", "0s"];
        desk.run("lifeboat-postgres", &orphans).good();
        assert_eq!(neighbours(&minio, &bucket).await, before, "versioned: {versioned}");

        // The neighbour's own prune leaves ours alone.
        let ours = without_records(versions::of(&minio, &bucket).await).len();
        let theirs = ["prune", "--dataset", "shop-graphql", "--to", &sink, "--keep", "last=1"];
        desk.run("lifeboat-postgres", &theirs).good();
        assert_eq!(without_records(versions::of(&minio, &bucket).await).len(), ours);
        let listed =
            desk.run("lifeboat-postgres", &["list", "--dataset", "shop", "--to", &sink, "--json"]).good().json();
        assert_eq!(listed.as_array().unwrap().len(), 1, "{listed}");
    }
}

/// What becomes of the second sink.
enum Fate {
    /// It is gone from the start.
    Gone,
    /// It refuses the second part and everything after it.
    Fails,
    /// It takes nothing more in the middle of the second part.
    Stalls,
}

fn schedule(fate: &Fate) -> Schedule {
    let second_part =
        |asked: &lifeboat_testkit::faulty::Asked| asked.call == Call::PutPart && asked.identity.contains(" 2 ");
    match fate {
        Fate::Gone => Schedule::of("gone", |_| Some(Fault::Reset)),
        Fate::Fails => Schedule::of("fails in the middle", move |asked| {
            second_part(asked).then_some(Fault::Refuse { status: 500, retry_after: None })
        }),
        Fate::Stalls => Schedule::of("stalls in the middle", move |asked| {
            (asked.call == Call::PutPart && !asked.identity.contains(" 1 ")).then_some(Fault::StallInRequest(100_000))
        }),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_sink_that_fails_or_stalls_neither_fails_the_first_nor_holds_it_up_past_the_grace() {
    let minio = Minio::shared();
    let live = Database::fresh();
    live.run(ROWS);
    for (fate, words) in
        [(Fate::Gone, "the connection broke"), (Fate::Fails, "InternalError"), (Fate::Stalls, "and was given up")]
    {
        let (first, second) = (minio.fresh_bucket().await, minio.fresh_bucket().await);
        let proxy = FaultProxy::start(minio.host(), schedule(&fate)).await;
        let mut desk = desk(minio.user(), minio.password());
        desk.set("SHOP_URL", &live.url).set("LIFEBOAT_RETRY_LIMIT", "1");
        let config = format!(
            "[sinks.minio]\nurl = \"{}\"\n[sinks.offsite]\nurl = \"{}\"\n[defaults]\nsinks = [\"minio\", \"offsite\"]\nsink_grace = \"2s\"\nencrypt = {{ age = {{ recipients = [\"{}\"] }} }}\n[jobs.shop]\npostgres = {{ url = \"${{SHOP_URL}}\" }}\n",
            minio.sink_url(&first),
            proxy.sink_url(&second),
            desk.recipient
        );
        std::fs::write(desk.path("lifeboat.toml"), config).unwrap();
        let begun = Instant::now();
        let run = desk.run("lifeboat", &["backup", "--json"]).ended(1);
        let took = begun.elapsed();
        // The grace is waited for when it is announced, when it takes no data, and when it is told to clean up; five times as
        // long when it has taken everything and does not confirm.
        assert!(took < Duration::from_secs(40), "{took:?}");
        assert!(!proxy.log().is_empty());

        let report = &run.json()[0];
        assert_eq!(report["passed"], false, "{report}");
        let sinks = report["sinks"].as_array().unwrap();
        assert_eq!((sinks.len(), &sinks[0]["error"]), (2, &Value::Null), "{report}");
        assert!(sinks[1]["error"].as_str().unwrap().contains(words), "{report}");

        // The first holds a whole artifact; of the second nothing is listed, once it can be asked again.
        proxy.heal();
        let listed = desk.run("lifeboat", &["list", "--json"]).good().json();
        assert_eq!(
            (listed.as_array().unwrap().len(), &listed[0]["sinks"]),
            (1, &serde_json::json!(["minio"])),
            "{listed}"
        );
        let identity = desk.key();
        desk.run(
            "lifeboat-postgres",
            &[
                "verify",
                "--dataset",
                "shop",
                "--to",
                &minio.sink_url(&first),
                "--identity",
                &identity,
                "--level",
                "structure",
            ],
        )
        .good();
        let orphans =
            ["prune", "--dataset", "shop", "--to", &proxy.sink_url(&second), "--orphans", "--orphan-age", "0s"];
        desk.run("lifeboat-postgres", &orphans).good();
        assert_eq!(without_records(versions::of(&minio, &second).await), []);
        let key = listed[0]["key"].as_str().unwrap();
        assert_eq!(minio.unfinished_uploads(&second, key).await, Vec::<String>::new());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn b2_backup_check_verify_and_prune_leave_one_version_of_what_is_kept_and_none_of_the_rest() {
    let minio = Minio::shared();
    let b2 = B2::start(&minio).await;
    let live = Database::fresh();
    live.run(ROWS);
    let sink = format!("b2://{}/pg?region={}&endpoint={}&tls=false", b2.bucket(), b2::REGION, b2.endpoint());
    let with = |key: &b2::ApplicationKey| {
        let mut desk = Desk::new();
        desk.set("B2_APPLICATION_KEY_ID", &key.id).set("B2_APPLICATION_KEY", &key.secret);
        desk
    };
    let writer = with(&b2.restricted(&["listFiles", "readFiles", "writeFiles"], "pg/"));
    let encrypt = writer.encrypt();
    for _ in 0..2 {
        writer.postgres(&live.url, &["backup", "--dataset", "shop", "--to", &sink, "--encrypt", &encrypt]).good();
    }
    let identity = writer.key();
    let verify = ["verify", "--dataset", "shop", "--to", &sink, "--identity", &identity, "--level", "structure"];
    writer.run("lifeboat-postgres", &verify).good();

    let owner = with(b2.key());
    let check = ["check", "--dataset", "shop", "--to", &sink, "--encrypt", &encrypt];
    owner.postgres(&live.url, &check).good().says("versioning");
    owner.run("lifeboat-postgres", &["prune", "--dataset", "shop", "--to", &sink, "--keep", "last=1"]).good();
    owner
        .run("lifeboat-postgres", &["prune", "--dataset", "shop", "--to", &sink, "--orphans", "--orphan-age", "0s"])
        .good();
    let listed = owner.run("lifeboat-postgres", &["list", "--to", &sink, "--json"]).good().json();
    assert_eq!(listed.as_array().unwrap().len(), 1, "{listed}");
    let kept = format!("pg/{}", listed[0]["key"].as_str().unwrap());
    let left = without_records(versions::of(&minio, b2.bucket()).await);
    assert!(left.iter().all(|v| v.is_latest && !v.is_marker && v.key.starts_with(&kept)), "{left:#?}");
    // The object, its manifest, and the record of its verification.
    assert_eq!(left.len(), 3, "{left:#?}");
    assert_eq!(b2.refused(), Vec::<String>::new());
}

/// What a bucket holds but for the records of runs, of which every run leaves one.
fn without_records(mut all: Vec<versions::Version>) -> Vec<versions::Version> {
    all.retain(|version| !harness::is_record(&version.key));
    all
}
