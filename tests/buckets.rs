//! Buckets as they are: versions, Object Lock, and keys that may do little.
#![allow(clippy::unwrap_used, missing_docs)]

mod harness;

use std::sync::Arc;

use harness::Desk;
use lifeboat::sink::PutOptions;
use lifeboat::stream::once;
use lifeboat::{Sink, sinks};
use lifeboat_testkit::b2::{self, ApplicationKey, B2};
use lifeboat_testkit::minio::Minio;
use lifeboat_testkit::postgres::Database;
use lifeboat_testkit::versions::{self, Version};

const WRITER: &str = include_str!("../docs/policies/writer.json");
const LOCKING_WRITER: &str = include_str!("../docs/policies/writer-object-lock.json");
const VERIFIER: &str = include_str!("../docs/policies/verifier.json");
const PRUNER: &str = include_str!("../docs/policies/pruner.json");

const SHOP: &str = "shop-20260901-030000.dump";
/// Names that other tools put beside ours.
const NEIGHBOURS: &[&str] = &[
    "databases/shop-eu-20260901-030000.dump",
    "databases/shop-20260901",
    "databases/shop-20260901-030000.dump.d/x",
    "databases/educationelly-graphql-20260901-030000.dump",
    "databases/readme.txt",
    "databases2/shop-20260901-030000.dump",
    "backups/nightly-20260901030000/velero-backup.json",
    "backups/nightly-20260901030000/nightly-20260901030000.tar.gz",
    "restic/default/index/shop-20260901-030000.dump",
];

/// Whether this is a note about a run that goes on, or a probe. Records of runs, and configs, stay.
fn is_note(key: &str) -> bool {
    key.contains("_lifeboat/") && !harness::is_record(key)
}

fn open(minio: &Minio, place: &str) -> Arc<dyn Sink> {
    let settings =
        sinks::Settings::default().credentials(Some(sinks::Credentials::new(minio.user(), minio.password())));
    sinks::open_with(place, &settings).unwrap()
}

fn desk(minio: &Minio) -> Desk {
    let mut desk = Desk::new();
    desk.set("MINIO_ACCESS_KEY", minio.user()).set("MINIO_SECRET_KEY", minio.password());
    desk
}

/// A desk whose key may do what one of the documented policies says, and nothing else.
async fn desk_of(minio: &Minio, bucket: &str, policy: &str) -> Desk {
    let key = minio.restricted(&policy.replace("BUCKET", bucket).replace("PREFIX", "prod")).await;
    let mut desk = Desk::new();
    desk.set("MINIO_ACCESS_KEY", key.access_key)
        .set("MINIO_SECRET_KEY", key.secret_key)
        .set("MINIO_SESSION_TOKEN", key.session_token);
    desk
}

#[tokio::test(flavor = "multi_thread")]
async fn after_prune_a_versioned_bucket_holds_no_version_of_what_was_pruned() {
    let minio = Minio::shared();
    let bucket = minio.fresh_bucket().await;
    versions::enable(&minio, &bucket).await;
    let sink = open(&minio, &minio.sink_url(&bucket));
    let (desk, place, live) = (desk(&minio), minio.sink_url(&bucket), Database::fresh());
    live.run("CREATE TABLE t AS SELECT 1 AS id");
    let to = ["--dataset", "shop", "--to", place.as_str(), "--prefix", "databases"];
    let backup = [&["backup", "--encrypt", "none"][..], &to].concat();
    desk.postgres(&live.url, &backup).good();
    desk.run("lifeboat-postgres", &[&["verify", "--level", "stored"][..], &to].concat()).good();
    for key in NEIGHBOURS {
        sink.replace(key, once("first")).await.unwrap();
        sink.replace(key, once("second")).await.unwrap();
    }
    let neighbours = |all: &[Version]| {
        let is_one = |v: &&Version| NEIGHBOURS.contains(&v.key.as_str());
        all.iter().filter(is_one).cloned().collect::<Vec<_>>()
    };
    let before = neighbours(&versions::of(&minio, &bucket).await);
    assert_eq!(before.len(), 2 * NEIGHBOURS.len());

    // An old one of a script, which was written twice; and one of ours with its manifest and a record.
    let old = ["", ".manifest.json", ".verified-20260802-000000-stored-pass.json"]
        .map(|rest| format!("databases/shop-20260801-030000.dump.zst{rest}"));
    for key in &old {
        sink.put(key, once("12345")).await.unwrap();
    }
    for text in ["ten bytes!", "ten bytes."] {
        sink.replace(&format!("databases/{SHOP}"), once(text)).await.unwrap();
    }
    // Hidden by somebody, and written again.
    let path = format!("/{bucket}/databases/{SHOP}");
    assert_eq!(minio.request("DELETE", &path, &[], b"").await.unwrap().0, 204);
    sink.put(&format!("databases/{SHOP}"), once("ten bytes?")).await.unwrap();

    let prune = [&["prune", "--keep", "last=1", "--json"][..], &to].concat();
    let said = desk.run("lifeboat-postgres", &prune).good().json();
    assert_eq!(said[0]["deleted"], serde_json::json!([format!("databases/{SHOP}"), &old[0]]));
    assert_eq!(said[0]["bytes"], 30 + 15);
    let all = versions::of(&minio, &bucket).await;
    assert_eq!(neighbours(&all), before, "what is not ours is as it was");
    let pruned = |v: &&Version| v.key == format!("databases/{SHOP}") || v.key.starts_with(&old[0]);
    assert_eq!(all.iter().filter(pruned).count(), 0, "{all:?}");
    // No note of any run is left, not even hidden.
    assert_eq!(all.iter().filter(|v| is_note(&v.key)).count(), 0, "{all:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_only_hidden_goes_with_the_orphans_if_it_is_ours() {
    let minio = Minio::shared();
    let bucket = minio.fresh_bucket().await;
    versions::enable(&minio, &bucket).await;
    let sink = open(&minio, &minio.sink_url(&bucket));
    let foreign = format!("databases/{SHOP}");
    let (ours, unfinished) = ("databases/shop-20260902-030000.dump", "databases/shop-20260903-030000.dump.zst");
    let mut all: Vec<String> = NEIGHBOURS.iter().map(|&key| key.to_owned()).collect();
    all.push(foreign);
    let foreign_ones = all.len();
    all.extend([ours, &format!("{ours}.manifest.json"), unfinished].map(str::to_owned));
    all.push("databases/_lifeboat/uploads/shop-20260903-030000.dump.zst.intent.json".to_owned());
    all.push("databases/_lifeboat/uploads/shop-20260903-030000.dump.zst.0011223344556677.json".to_owned());
    for key in &all {
        sink.put(key, once("12345")).await.unwrap();
        // As a key does that may not delete versions.
        let (status, answer) = minio.request("DELETE", &format!("/{bucket}/{key}"), &[], b"").await.unwrap();
        assert_eq!(status, 204, "{answer}");
    }
    let (desk, place) = (desk(&minio), minio.sink_url(&bucket));
    let orphans = ["prune", "--dataset", "shop", "--to", &place, "--prefix", "databases", "--orphans", "--json"];
    let young = desk.run("lifeboat-postgres", &orphans).good().json();
    assert_eq!(young[0]["orphans"], serde_json::json!([]), "hidden for less than a day");
    let now = [&orphans[..], &["--orphan-age", "0s"]].concat();
    let would = desk.run("lifeboat-postgres", &[&now[..], &["--dry-run"]].concat()).good().json();
    assert_eq!(versions::of(&minio, &bucket).await.len(), 2 * all.len());
    let done = desk.run("lifeboat-postgres", &now).good().says("hidden since").json();
    assert_eq!((&would[0]["orphans"], &would[0]["bytes"]), (&done[0]["orphans"], &done[0]["bytes"]));
    assert_eq!(done[0]["bytes"], 25);
    let mut left: Vec<_> = versions::of(&minio, &bucket).await.into_iter().map(|v| v.key).collect();
    left.dedup();
    let mut expected = all[..foreign_ones].to_vec();
    expected.sort();
    assert_eq!(left, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_object_lock_holds_is_said_with_its_time_and_is_no_failure() {
    let minio = Minio::shared();
    let bucket = minio.locked_bucket(None).await;
    let (desk, live) = (desk(&minio), Database::fresh());
    live.run("CREATE TABLE t AS SELECT 1 AS id");
    let place = format!("{}&lock=governance:2", minio.sink_url(&bucket));
    open(&minio, &place).put_with(SHOP, once("locked"), PutOptions::new().lock(true)).await.unwrap();
    let to = ["--dataset", "shop", "--to", place.as_str()];
    desk.postgres(&live.url, &[&["backup", "--encrypt", "none"][..], &to].concat()).good();
    desk.run("lifeboat-postgres", &[&["verify", "--level", "structure"][..], &to].concat()).good();
    let prune = [&["prune", "--keep", "last=1"][..], &to].concat();
    let held = format!("{SHOP} is held until 2");
    desk.run("lifeboat-postgres", &[&prune[..], &["--dry-run"]].concat()).good().says(&held).says("(governance)");
    desk.run("lifeboat-postgres", &prune).good().says(&held).says("0 artifacts deleted");
    let said = desk.run("lifeboat-postgres", &[&prune[..], &["--json"]].concat()).good().json();
    assert_eq!((&said[0]["held"][0]["key"], &said[0]["held"][0]["mode"]), (&SHOP.into(), &"governance".into()));
    assert_eq!((&said[0]["deleted"], &said[0]["failed"]), (&serde_json::json!([]), &serde_json::json!([])));
    let listed = desk.run("lifeboat-postgres", &[&["list", "--json"][..], &to].concat()).good().json();
    assert_eq!(listed.as_array().unwrap().len(), 2, "nothing of it was hidden");
    // Notes and the record of the verification were not locked: only backups are.
    let versions = versions::of(&minio, &bucket).await;
    assert!(versions.iter().all(|v| !is_note(&v.key)), "{versions:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_locks_everything_by_default_takes_backups() {
    let minio = Minio::shared();
    let bucket = minio.locked_bucket(Some("COMPLIANCE")).await;
    let (mut desk, live) = (desk(&minio), Database::fresh());
    // More than one part: the upload has a note.
    live.run("CREATE TABLE t AS SELECT encode(sha512(i::text::bytea), 'base64') || encode(sha512((i * 3)::text::bytea), 'base64') AS x FROM generate_series(1, 120000) i");
    let place = minio.sink_url(&bucket);
    let to = ["--dataset", "shop", "--to", place.as_str()];
    let backup = [&["backup", "--encrypt", "none"][..], &to].concat();
    desk.postgres(&live.url, &backup).good();
    desk.run("lifeboat-postgres", &[&["verify", "--level", "structure"][..], &to].concat()).good();
    let list = [&["list", "--json"][..], &to].concat();
    let listed = desk.run("lifeboat-postgres", &list).good().json();
    assert_eq!(
        (listed[0]["kind"].as_str(), listed[0]["verified_level"].as_str()),
        (Some("managed"), Some("structure"))
    );
    // A run that fails leaves what it cannot delete, and none of it is taken for a backup.
    desk.shadow("pg_dump", "$REAL \"$@\" | head -c 20000000\nexit 3");
    desk.postgres(&live.url, &backup).ended(1);
    assert_eq!(desk.run("lifeboat-postgres", &list).good().json(), listed);
    let orphans = [&["prune", "--orphans", "--orphan-age", "0s"][..], &to].concat();
    desk.run("lifeboat-postgres", &orphans).good().says("is held until 2").says("(compliance)");
    assert_eq!(desk.run("lifeboat-postgres", &list).good().json(), listed);
}

#[tokio::test(flavor = "multi_thread")]
async fn three_keys_with_the_documented_policies_do_their_own_work_and_no_other() {
    let minio = Minio::shared();
    let bucket = minio.locked_bucket(None).await;
    let place = format!("minio://{}/{bucket}/prod?tls=false", minio.host());
    let (root, live) = (open(&minio, &place), Database::fresh());
    live.run("CREATE TABLE t AS SELECT encode(sha512(i::text::bytea), 'base64') || encode(sha512((i * 3)::text::bytea), 'base64') AS x FROM generate_series(1, 120000) i");
    let (writer, verifier, pruner) = (
        desk_of(&minio, &bucket, WRITER).await,
        desk_of(&minio, &bucket, VERIFIER).await,
        desk_of(&minio, &bucket, PRUNER).await,
    );
    let to = ["--dataset", "shop", "--to", place.as_str()];
    let with = |first: &[&'static str]| [first, &to].concat();
    let key = writer.key();

    // The writer stores, and can neither list nor read nor delete.
    let encrypt = writer.encrypt();
    let backup = ["backup", "--encrypt", &encrypt, "--dataset", "shop", "--to", &place];
    let said = writer.postgres(&live.url, &backup).good();
    assert!(!said.stderr.contains("error"), "{}", said.stderr);
    writer.run("lifeboat-postgres", &with(&["list"])).ended(1).says("s3:ListBucket");
    writer.run("lifeboat-postgres", &with(&["prune", "--keep", "last=1"])).ended(1);
    let verify = ["verify", "--level", "structure", "--dataset", "shop", "--to", &place, "--identity", &key];
    writer.run("lifeboat-postgres", &verify).ended(1);
    let artifact = {
        let listed = verifier.run("lifeboat-postgres", &with(&["list", "--json"])).good().json();
        assert_eq!((listed.as_array().unwrap().len(), listed[0]["kind"].as_str()), (1, Some("managed")));
        listed[0]["key"].as_str().unwrap().to_owned()
    };

    // The verifier verifies and leaves its record; it stores no backup and deletes nothing.
    verifier.run("lifeboat-postgres", &verify).good();
    let listed = verifier.run("lifeboat-postgres", &with(&["list", "--json"])).good().json();
    assert_eq!(listed[0]["verified_level"], "structure");
    verifier.postgres(&live.url, &backup).ended(1).says("s3:PutObject");
    root.put(SHOP, once("an old one of a script")).await.unwrap();
    verifier.run("lifeboat-postgres", &with(&["prune", "--keep", "last=1"])).ended(1).says("s3:DeleteObject");
    assert!(root.head(SHOP).await.is_ok());

    // The pruner deletes with all versions; it stores nothing, and reads no backup.
    pruner.postgres(&live.url, &backup).ended(1).says("s3:PutObject");
    pruner.run("lifeboat-postgres", &verify).ended(1);
    pruner
        .run("lifeboat-postgres", &with(&["prune", "--keep", "last=1"]))
        .good()
        .says("1 artifact deleted, 22 B freed");
    let left = versions::of(&minio, &bucket).await;
    assert!(left.iter().all(|v| !v.key.ends_with(SHOP)), "{left:?}");
    // What the writer could not take away: the notes of its run.
    assert!(left.iter().any(|v| v.key.contains("_lifeboat/")));
    // Each could leave its record: what a prune deleted without one would be missed.
    for run in ["-backup-good-", "-verify-good-", "-prune-good-"] {
        assert!(left.iter().any(|v| harness::is_record(&v.key) && v.key.contains(run)), "{run}: {left:?}");
    }
    pruner.run("lifeboat-postgres", &with(&["prune", "--orphans", "--orphan-age", "0s"])).good();
    let left = versions::of(&minio, &bucket).await;
    assert!(left.iter().all(|v| !is_note(&v.key)), "{left:?}");
    assert!(root.head(&artifact).await.is_ok());

    // The writer's run leaves its config, which it can neither find nor overwrite; the pruner takes the old ones away.
    let config = format!(
        "[sinks.s]\nurl = \"{place}\"\n[jobs.word]\nkeep = \"last=1\"\nencrypt = \"none\"\ncommand = {{ run = [\"printf\", \"x\"] }}\n"
    );
    for desk in [&writer, &pruner] {
        std::fs::write(desk.path("lifeboat.toml"), &config).unwrap();
    }
    for _ in 0..2 {
        let said = writer.run("lifeboat", &["backup"]).good();
        assert!(!said.stderr.contains("the config"), "{}", said.stderr);
    }
    let configs =
        || async { versions::of(&minio, &bucket).await.into_iter().filter(|v| harness::is_config(&v.key)).count() };
    assert_eq!(configs().await, 2, "a key that may not list stores it on each run");
    for day in 10..20 {
        root.put(&format!("_lifeboat/config/202601{day}-000000-00112233445566aa.toml"), once("x")).await.unwrap();
    }
    pruner.run("lifeboat", &["prune"]).good().says("2 older configs in s deleted");
    assert_eq!(configs().await, 10);

    // With a lock the writer needs one right more, and the pruner is told until when.
    let locked = format!("{place}&lock=governance:1");
    let backup = ["backup", "--encrypt", "none", "--dataset", "locked", "--to", &locked];
    writer.postgres(&live.url, &backup).ended(1).says("s3:PutObjectRetention");
    desk_of(&minio, &bucket, LOCKING_WRITER).await.postgres(&live.url, &backup).good();
    root.put("locked-20991231-000000.dump", once("newer")).await.unwrap();
    root.put("locked-20200101-000000.dump", once("older")).await.unwrap();
    let prune = ["prune", "--keep", "last=1", "--dataset", "locked", "--to", &place];
    pruner.run("lifeboat-postgres", &prune).good();
}

#[tokio::test(flavor = "multi_thread")]
async fn check_has_a_line_with_advice_for_each_setting_of_the_bucket() {
    let minio = Minio::shared();
    let bucket = minio.fresh_bucket().await;
    versions::enable(&minio, &bucket).await;
    let rule = "<Rule><ID>spring-cleaning</ID><Status>Enabled</Status><Filter><Prefix></Prefix></Filter><Expiration><Days>30</Days></Expiration></Rule>";
    minio.configure(&bucket, "lifecycle", &format!("<LifecycleConfiguration>{rule}</LifecycleConfiguration>")).await;
    let (desk, live, place) = (desk(&minio), Database::fresh(), minio.sink_url(&bucket));
    let check = ["check", "--dataset", "shop", "--to", &place, "--prefix", "databases", "--encrypt", "none"];
    let said = desk.postgres(&live.url, &check).good();
    for line in [
        "no overwriting",
        "versioning",
        "the bucket's rule \"spring-cleaning\" deletes backups after 30 days",
        "let a rule delete noncurrent versions",
        "object lock",
        "http, loopback",
        "clock",
    ] {
        assert!(said.stdout.contains(line), "\"{line}\" is not said in\n{}", said.stdout);
    }
    assert_eq!(versions::of(&minio, &bucket).await, [], "the probe is gone with all its versions");
    let locking = format!("{place}&lock=compliance:1");
    let check = ["check", "--dataset", "shop", "--to", &locking, "--encrypt", "none"];
    desk.postgres(&live.url, &check).ended(1).says("the bucket cannot lock objects");
}

fn desk_of_b2(key: &ApplicationKey) -> Desk {
    let mut desk = Desk::new();
    desk.set("B2_APPLICATION_KEY_ID", &key.id).set("B2_APPLICATION_KEY", &key.secret);
    desk
}

fn b2_url(b2: &B2) -> String {
    format!("b2://{}/prod?endpoint={}&tls=false&region={}", b2.bucket(), b2.endpoint(), b2::REGION)
}

#[tokio::test(flavor = "multi_thread")]
async fn three_application_keys_with_the_documented_capabilities_do_their_work_on_b2() {
    let minio = Minio::shared();
    let b2 = B2::start(&minio).await;
    let (place, live) = (b2_url(&b2), Database::fresh());
    // More than one part.
    live.run("CREATE TABLE t AS SELECT encode(sha512(i::text::bytea), 'base64') || encode(sha512((i * 3)::text::bytea), 'base64') AS x FROM generate_series(1, 120000) i");
    let desk = |capabilities: &[&str]| desk_of_b2(&b2.restricted(capabilities, "prod/"));
    let writer = desk(&["writeFiles", "readFiles", "listFiles"]);
    let verifier = desk(&["listFiles", "readFiles"]);
    let pruner = desk(&["listFiles", "readFiles", "deleteFiles", "writeFiles", "readFileRetentions"]);
    let to = ["--dataset", "shop", "--to", place.as_str()];
    let with = |first: &[&'static str]| [first, &to].concat();

    writer.postgres(&live.url, &with(&["backup", "--encrypt", "none"])).good();
    verifier.run("lifeboat-postgres", &with(&["verify", "--level", "structure", "--no-record"])).good();
    verifier.postgres(&live.url, &with(&["backup", "--encrypt", "none"])).ended(1).says("writeFiles").says("read-only");

    // The writer destroys nothing, and hides nothing.
    let key = b2.key();
    let settings = sinks::Settings::default().credentials(Some(sinks::Credentials::new(&key.id, key.secret.as_str())));
    let root = sinks::open_with(&place, &settings).unwrap();
    root.put(SHOP, once("an old one of a script")).await.unwrap();
    let prune = with(&["prune", "--keep", "last=1"]);
    writer.run("lifeboat-postgres", &prune).ended(1).says("deleteFiles");
    assert!(root.head(SHOP).await.is_ok());
    pruner.run("lifeboat-postgres", &prune).good().says("1 artifact deleted, 22 B freed");
    pruner.run("lifeboat-postgres", &with(&["prune", "--orphans", "--orphan-age", "0s"])).good();
    let left = versions::of(&minio, b2.bucket()).await;
    assert!(left.iter().all(|v| !v.key.ends_with(SHOP) && !is_note(&v.key)), "{left:?}");
    let listed = verifier.run("lifeboat-postgres", &with(&["list", "--json"])).good().json();
    assert_eq!((listed.as_array().unwrap().len(), listed[0]["kind"].as_str()), (1, Some("managed")));
    assert_eq!(b2.refused(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn check_says_of_b2_what_it_is() {
    let minio = Minio::shared();
    let b2 = B2::start(&minio).await;
    let (desk, live, place) = (desk_of_b2(b2.key()), Database::fresh(), b2_url(&b2));
    let check = ["check", "--dataset", "shop", "--to", &place, "--encrypt", "none"];
    let said = desk.postgres(&live.url, &check).good();
    for line in [
        "by looking",
        "deleted objects are only hidden; prune needs listFiles and deleteFiles",
        "add a rule that aborts incomplete uploads",
        "let a rule delete noncurrent versions",
    ] {
        assert!(said.stdout.contains(line), "\"{line}\" is not said in\n{}", said.stdout);
    }
    assert_eq!(versions::of(&minio, b2.bucket()).await, [], "the probe is gone with all its versions");
    let reader = desk_of_b2(&b2.restricted(&["listFiles", "readFiles"], ""));
    reader.postgres(&live.url, &check).ended(1).says("writeFiles").says("must not be restricted");
    assert_eq!(b2.refused(), [""; 0]);
}
