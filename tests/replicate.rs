//! A second place that fails separately: what one run missed comes later, and what Velero wrote has an independent copy.
#![allow(clippy::unwrap_used, missing_docs)]

mod harness;

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;

use futures::TryStreamExt;
use harness::{Desk, is_record, stored_in, wait_for};
use lifeboat::sinks::{Credentials, Environment, Settings, open_with};
use lifeboat::{ObjectInfo, Sink, stream};
use lifeboat_testkit::content::bytes;
use lifeboat_testkit::minio::Minio;
use lifeboat_testkit::postgres::Database;

fn desk(minio: &Minio) -> Desk {
    let mut desk = Desk::new();
    desk.set("MINIO_ACCESS_KEY", minio.user()).set("MINIO_SECRET_KEY", minio.password());
    desk
}

fn open(minio: &Minio, bucket: &str) -> Arc<dyn Sink> {
    let settings = Settings::default()
        .environment(Environment::empty())
        .credentials(Some(Credentials::new(minio.user(), minio.password())));
    open_with(&minio.sink_url(bucket), &settings).unwrap()
}

/// Every key of a bucket, those in folders of ours among them, but for the records of runs.
async fn keys(minio: &Minio, bucket: &str) -> Vec<String> {
    let (status, body) = minio.request("GET", &format!("/{bucket}"), &[("list-type", "2")], b"").await.unwrap();
    assert_eq!(status, 200, "{body}");
    assert!(body.contains("<IsTruncated>false"), "{body}");
    let keys = body.split("<Key>").skip(1).filter_map(|rest| Some(rest.split_once('<')?.0.to_owned()));
    keys.filter(|key| !is_record(key)).collect()
}

async fn fill(sink: &dyn Sink, objects: &[(String, usize)]) {
    for (n, (key, size)) in objects.iter().enumerate() {
        sink.put(key, stream::once(bytes(n as u64 + 1, *size))).await.unwrap();
    }
}

/// The layout of a storage location of Velero 1.14 with kopia, below its prefix.
fn velero() -> Vec<(String, usize)> {
    let mut objects = Vec::new();
    for name in ["daily-20261120033000", "daily-20261121033000"] {
        for (file, size) in [
            ("velero-backup.json", 3_000),
            (&format!("{name}.tar.gz") as &str, 40_000),
            (&format!("{name}-logs.gz"), 9_000),
            (&format!("{name}-results.gz"), 49),
            (&format!("{name}-resource-list.json.gz"), 900),
            (&format!("{name}-volumeinfo.json.gz"), 400),
            (&format!("{name}-podvolumebackups.json.gz"), 700),
            (&format!("{name}-volumesnapshots.json.gz"), 29),
            (&format!("{name}-itemoperations.json.gz"), 27),
        ] {
            objects.push((format!("backups/{name}/{file}"), size));
        }
    }
    for (file, size) in [
        ("kopia.repository", 1_100),
        ("kopia.blobcfg", 30),
        ("kopia.maintenance", 900),
        ("_log_20261121033000_a1b2_1_1", 500),
        // Larger than a part: its upload is noted while it runs.
        ("p0a1b2c3d4e5f60718293a4b5c6d7e8f9-s0011", 20 << 20),
        ("p1a1b2c3d4e5f60718293a4b5c6d7e8f9-s0011", 1 << 20),
        ("q0a1b2c3d4e5f60718293a4b5c6d7e8f9-s0011", 5_000),
        ("xn0_0a1b2c3d4e5f60718293a4b5c6d7e8f9-s0011-c1", 800),
        ("xe1", 0),
    ] {
        objects.push((format!("kopia/shop/{file}"), size));
    }
    objects.push(("restores/r1/restore-r1-logs.gz".to_owned(), 300));
    objects.push(("restores/r1/r1-volumeinfo.json.gz".to_owned(), 30));
    objects
}

fn below(prefix: &str, objects: &[(String, usize)]) -> Vec<(String, usize)> {
    objects.iter().map(|(key, size)| (format!("{prefix}/{key}"), *size)).collect()
}

fn config(desk: &Desk, text: &str) {
    std::fs::write(desk.path("lifeboat.toml"), text).unwrap();
}

#[tokio::test]
async fn what_one_run_missed_in_the_second_sink_is_copied_later_and_proves_as_much() {
    let minio = Minio::shared();
    let bucket = minio.fresh_bucket().await;
    let (desk, live) = (desk(&minio), Database::fresh());
    live.run("CREATE TABLE t AS SELECT i AS id, md5(i::text) AS x FROM generate_series(1, 5000) i");
    config(
        &desk,
        &format!(
            "[sinks.cluster]\nurl = \"{}\"\n[sinks.offsite]\nurl = \"file://{}\"\n[defaults]\nsinks = [\"cluster\", \"offsite\"]\n\
             encrypt = \"age:{}\"\nidentity = \"key.txt\"\nprefix = \"databases\"\n[jobs.shop]\npostgres = {{ url = \"{}\" }}\n",
            minio.sink_url(&bucket),
            desk.path("offsite").display(),
            desk.recipient,
            live.url,
        ),
    );
    // A file is where the folder should be.
    std::fs::write(desk.path("offsite"), "in the way").unwrap();
    let run = desk.run("lifeboat", &["backup"]).ended(1);
    assert!(run.stdout.contains("in minio://") && run.stdout.contains("NOT in file://"), "{}", run.stdout);
    assert!(run.stderr.contains("run `lifeboat replicate` later to copy what is missing there"), "{}", run.stderr);

    std::fs::remove_file(desk.path("offsite")).unwrap();
    // A place in which there is nothing may be a disk that is not mounted.
    desk.run("lifeboat", &["replicate", "shop"]).ended(1).says("is its disk not mounted?").says("--new-sink");
    let run = desk.run("lifeboat", &["replicate", "--dry-run", "--new-sink"]).good().says("1 artifact would be copied");
    assert!(!desk.path("offsite").exists(), "{}", run.stdout);
    desk.run("lifeboat", &["replicate", "shop", "--new-sink"]).good().says("DONE 1 artifact copied");
    desk.run("lifeboat", &["replicate", "shop", "--new-sink"]).ended(2).says("leave it out");
    assert_eq!(stored_in(&desk.path("offsite")).len(), 2, "{:?}", stored_in(&desk.path("offsite")));
    // It was not decrypted on the way, and proves as much as the first.
    desk.run("lifeboat", &["verify", "shop", "--sink", "offsite", "--level", "structure"]).good().says("PASS shop");
    let run = desk.run("lifeboat", &["replicate", "--json"]).good().json();
    assert_eq!(
        (run[0]["present"].as_u64(), run[0]["bytes"].as_u64(), run[0]["passed"].as_bool()),
        (Some(1), Some(0), Some(true))
    );
    let listed = desk.run("lifeboat", &["list", "--json"]).good().json();
    assert_eq!(listed[0]["sinks"], serde_json::json!(["cluster", "offsite"]));

    // And the other way, into an empty bucket, from places that are named.
    let fresh = minio.fresh_bucket().await;
    let from = format!("file://{}", desk.path("offsite").display());
    desk.run("lifeboat", &["replicate", "--from", &from, "--to", &minio.sink_url(&fresh), "--prefix", "databases"])
        .good();
    assert_eq!(keys(&minio, &fresh).await.len(), 2);

    // What is damaged at the source is named, and does not arrive.
    let artifact = stored_in(&desk.path("offsite")).into_iter().find(|f| f.ends_with(".age")).unwrap();
    let path = desk.path("offsite").join(&artifact);
    let mut damaged = std::fs::read(&path).unwrap();
    damaged[100] ^= 1;
    std::fs::write(&path, damaged).unwrap();
    let empty = minio.fresh_bucket().await;
    let to = minio.sink_url(&empty);
    let run = desk.run("lifeboat", &["replicate", "--from", &from, "--to", &to, "--prefix", "databases"]).ended(1);
    assert!(run.stdout.contains(&artifact) && run.stdout.contains("SHA-256"), "{}", run.stdout);
    assert_eq!(keys(&minio, &empty).await, [""; 0]);
}

#[tokio::test]
async fn a_copy_of_a_velero_bucket_has_its_keys_and_nothing_of_ours() {
    let minio = Minio::shared();
    let (first, second) = (minio.fresh_bucket().await, minio.fresh_bucket().await);
    let (from, to) = (open(&minio, &first), open(&minio, &second));
    fill(&*from, &below("velero", &velero())).await;
    let desk = desk(&minio);
    desk.known("offsite");
    let other = format!("file://{}", desk.path("offsite").display());
    config(
        &desk,
        &format!(
            "[sinks.minio]\nurl = \"{}\"\n[sinks.second]\nurl = \"{}\"\n[sinks.folder]\nurl = \"{other}\"\n\
             [copies.velero]\nfrom = \"minio\"\nto = [\"second\", \"folder\"]\nprefix = \"velero\"\n\
             [jobs.shop]\npostgres = {{ url = \"postgres://u@127.0.0.1:1/x\" }}\nsinks = [\"second\"]\nprefix = \"velero/shop\"\nencrypt = \"none\"\n",
            minio.sink_url(&first),
            minio.sink_url(&second),
        ),
    );
    let before = keys(&minio, &first).await;
    let all = below("velero", &velero()).len();
    desk.run("lifeboat", &["replicate", "--dry-run"]).good().says(&format!("{all} objects would be copied"));
    assert_eq!(keys(&minio, &second).await, [""; 0]);

    // While it is copied there is never anything else below the copied folder.
    let mut child = desk.command("lifeboat").args(["replicate", "velero"]).stdout(Stdio::null()).spawn().unwrap();
    while child.try_wait().unwrap().is_none() {
        let strange: Vec<_> = keys(&minio, &second).await.into_iter().filter(|k| is_strange(k, &before)).collect();
        assert_eq!(strange, [""; 0]);
    }
    assert!(child.wait().unwrap().success());
    assert_eq!(keys(&minio, &first).await, before, "nothing is written at the source");
    let copied = keys(&minio, &second).await;
    assert_eq!(copied.iter().filter(|k| k.starts_with("velero/")).cloned().collect::<Vec<_>>(), before);
    let ours: Vec<_> = copied.iter().filter(|k| !k.starts_with("velero/")).collect();
    assert!(ours.len() == 1 && ours[0].starts_with("_lifeboat/copies/velero/2"), "{ours:?}");
    for key in &before {
        let (a, b) = (from.get(key, None).await.unwrap(), to.get(key, None).await.unwrap());
        let (a, b) = (stream::collect(a, 1 << 26, key).await.unwrap(), stream::collect(b, 1 << 26, key).await.unwrap());
        assert!(a == b && a == std::fs::read(desk.path("offsite").join(key)).unwrap(), "{key}");
    }
    desk.run("lifeboat", &["replicate", "velero", "--verify"]).good().says(&format!("{all} of {all}"));

    // Velero finalizes a backup: it rewrites the JSON. Kopia adds a pack, and deletes one.
    let json = "velero/backups/daily-20261121033000/velero-backup.json";
    from.replace(json, stream::once(bytes(77, 3_000))).await.unwrap();
    from.put("velero/kopia/shop/p2-s0012", stream::once(bytes(78, 9_000))).await.unwrap();
    from.delete(&["velero/kopia/shop/xe1".to_owned()]).await.unwrap();
    let run = desk.run("lifeboat", &["replicate", "velero", "--json"]).good().json();
    let done = &run[0]["done"];
    assert_eq!(
        (done["copied"].as_u64(), done["replaced"].as_u64(), done["extra"].as_u64()),
        (Some(1), Some(1), Some(1)),
        "{done}"
    );
    let there = stream::collect(to.get(json, None).await.unwrap(), 1 << 20, json).await.unwrap();
    assert!(there == bytes(77, 3_000));
    desk.run("lifeboat", &["replicate", "velero", "--delete-extra"]).good().says("1 deleted");

    // A copy that was altered is found out, by name.
    std::fs::write(desk.path("offsite").join("velero/kopia/shop/p2-s0012"), bytes(79, 9_000)).unwrap();
    desk.run("lifeboat", &["replicate", "velero", "--verify"])
        .ended(1)
        .says("object kopia/shop/p2-s0012")
        .says("differs");

    // `check` does not write a probe where only Velero may, and says why.
    let run = desk.run("lifeboat", &["check"]).ended(1);
    assert!(run.stdout.contains("belongs to the tree of copy velero"), "{}", run.stdout);
    assert!(run.stdout.contains("outside the copy"), "{}", run.stdout);
    assert!(keys(&minio, &second).await.iter().all(|k| !is_strange(k, &before) || k.ends_with("p2-s0012")));
}

/// A key below the copied folder that is not at the source.
fn is_strange(key: &str, source: &[String]) -> bool {
    key.starts_with("velero/") && !source.iter().any(|k| k == key)
}

#[tokio::test]
async fn a_storage_location_at_the_top_of_a_bucket_is_copied_into_a_folder_only() {
    let minio = Minio::shared();
    let (first, second) = (minio.fresh_bucket().await, minio.fresh_bucket().await);
    let from = open(&minio, &first);
    fill(&*from, &[("backups/a/velero-backup.json".to_owned(), 10), ("backups/a/a.tar.gz".to_owned(), 100)]).await;
    let desk = desk(&minio);
    let (a, b) = (minio.sink_url(&first), minio.sink_url(&second));
    desk.run("lifeboat", &["replicate", "--tree", "--from", &a, "--to", &b]).ended(2).says("which folder to copy");
    desk.run("lifeboat", &["replicate", "--tree", "--from", &a, "--to", &b, "--prefix", "backups"])
        .ended(2)
        .says("Unavailable");
    assert_eq!(keys(&minio, &second).await, [""; 0]);
    desk.run("lifeboat", &["replicate", "--tree", "--from", &a, "--to", &b, "--into", "velero"]).good();
    assert_eq!(
        keys(&minio, &second).await.into_iter().filter(|k| !k.starts_with("_lifeboat/")).collect::<Vec<_>>(),
        ["velero/backups/a/a.tar.gz", "velero/backups/a/velero-backup.json"]
    );
    // An empty source is nothing to copy, and never empties the copy.
    let empty = minio.fresh_bucket().await;
    let run = desk.run(
        "lifeboat",
        &[
            "replicate",
            "--tree",
            "--from",
            &minio.sink_url(&empty),
            "--to",
            &b,
            "--into",
            "velero",
            "--delete-extra=all",
        ],
    );
    run.ended(3);
    assert_eq!(keys(&minio, &second).await.iter().filter(|k| k.starts_with("velero/")).count(), 2);
}

/// The files of a folder that are whole objects, with their inodes: what is sent again is another file.
fn inodes(folder: &Path) -> BTreeMap<String, u64> {
    if !folder.exists() {
        return BTreeMap::new();
    }
    stored_in(folder)
        .into_iter()
        .filter(|name| !name.contains("_lifeboat/"))
        // One that is being renamed may have gone.
        .filter_map(|name| Some((name.clone(), folder.join(&name).metadata().ok()?.ino())))
        .collect()
}

/// Runs it, and kills it as soon as so many objects have arrived.
fn kill_after(desk: &Desk, arguments: &[&str], objects: usize) -> BTreeMap<String, u64> {
    let mut child =
        desk.command("lifeboat").args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let folder = desk.path("offsite");
    wait_for("the copy of some objects", || inodes(&folder).len() >= objects);
    child.kill().unwrap();
    assert!(!child.wait().unwrap().success(), "it was killed before its end");
    inodes(&folder)
}

fn assert_kept(before: &BTreeMap<String, u64>, after: &BTreeMap<String, u64>) {
    for (name, inode) in before {
        assert_eq!(after.get(name), Some(inode), "{name} was sent again");
    }
}

#[tokio::test]
async fn three_kills_cost_no_object_that_had_arrived() {
    let minio = Minio::shared();
    let bucket = minio.fresh_bucket().await;
    let from = open(&minio, &bucket);
    let tree: Vec<_> = (0..60).map(|n| (format!("wal/{n:024X}"), 1 << 20)).collect();
    let scripts: Vec<_> = (0..60).map(|n| (format!("db/shop-20261101-0300{n:02}.dump"), 1 << 20)).collect();
    fill(&*from, &tree).await;
    fill(&*from, &scripts).await;
    let source = minio.sink_url(&bucket);
    for (what, count, flags) in
        [("trees", 60, &["--tree", "--prefix", "wal"][..]), ("backups", 60, &["--prefix", "db"])]
    {
        let desk = desk(&minio);
        desk.known("offsite");
        let to = format!("file://{}", desk.path("offsite").display());
        let mut arguments = vec!["replicate", "--from", &source, "--to", &to];
        arguments.extend(flags);
        let mut before = BTreeMap::new();
        for objects in [5, 15, 30] {
            let after = kill_after(&desk, &arguments, objects);
            assert_kept(&before, &after);
            before = after;
        }
        assert!(before.len() < count, "{what}: it was killed in the middle");
        arguments.push("--json");
        let run = desk.run("lifeboat", &arguments).good().json();
        assert_eq!(run[0]["passed"], true, "{run}");
        let after = inodes(&desk.path("offsite"));
        assert_kept(&before, &after);
        assert_eq!(after.len(), count, "{what}");
        for (name, inode) in &after {
            assert!(*inode > 0);
            let there = std::fs::read(desk.path("offsite").join(name)).unwrap();
            let here = stream::collect(from.get(name, None).await.unwrap(), 2 << 20, name).await.unwrap();
            assert!(here == there, "{what}: {name}");
        }
        // No note of an object stays. (Half files of the killed runs do, until `prune --orphans`.)
        let stored = stored_in(&desk.path("offsite"));
        let intents: Vec<_> =
            stored.into_iter().filter(|n| n.ends_with(".intent.json") || n.ends_with(".part.jsonl.zst")).collect();
        assert_eq!(intents, [""; 0], "{what}");
    }
    let all: Vec<ObjectInfo> = from.list("").try_collect().await.unwrap();
    assert_eq!(all.len(), 120);
}
