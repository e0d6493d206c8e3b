//! MongoDB from the live server to the sink and back, through the binaries, and both ways with the stock tools.
#![allow(clippy::unwrap_used, missing_docs)]

mod harness;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use bson::doc;
use harness::{Desk, Run, wait_for, yesterday};
use lifeboat_testkit::documents;
use lifeboat_testkit::mongo::{Database, Server, ferretdb, mongodump, mongorestore, shared_url};

/// Documents of an ordinary collection.
fn people(count: i32) -> Vec<Vec<u8>> {
    let one = |n: i32| bson::rawdoc! { "_id": n, "name": format!("n{n}"), "z": { "b": n, "a": [n, "x"] }, "big": i64::from(n) << 33 };
    (0..count).map(|n| one(n).into_bytes()).collect()
}

/// A database with two collections and indexes.
fn shop() -> Database {
    let live = Database::fresh();
    live.insert("people", people(500));
    live.insert("odd names", (0..20).map(|n| bson::rawdoc! { "_id": n, "x y": n }.into_bytes()));
    live.run(doc! { "createIndexes": "people", "indexes": [{ "key": { "name": -1, "big": 1 }, "name": "by name", "unique": true }] });
    live.run(doc! { "create": "nothing" });
    live
}

fn mongodb(desk: &Desk, arguments: &[&str]) -> Run {
    desk.run("lifeboat-mongodb", &[arguments, &["--to", &desk.sink()]].concat())
}

fn desk() -> Desk {
    let mut desk = Desk::new();
    desk.set("LIFEBOAT_SCRATCH_URL", shared_url());
    desk
}

fn backup(desk: &mut Desk, live: &Database) -> Run {
    desk.set("FROM_URL", &*live.url);
    let encrypt = desk.encrypt();
    mongodb(desk, &["backup", "--from", "env:FROM_URL", "--dataset", "shop", "--encrypt", &encrypt])
}

fn restore(desk: &mut Desk, into: &Database, more: &[&str]) -> Run {
    desk.set("INTO_URL", &*into.url);
    let key = desk.key();
    mongodb(desk, &[&["restore", "--dataset", "shop", "--identity", &key, "--into", "env:INTO_URL"], more].concat())
}

/// The flag that replaces what is in a database.
fn replace(target: &Database) -> String {
    format!("--replace={}", target.name)
}

#[track_caller]
fn same(a: &Database, b: &Database) {
    assert_eq!(a.collections(), b.collections());
    for name in a.collections() {
        assert!(a.documents(&name) == b.documents(&name), "{name}");
        assert_eq!(a.indexes(&name), b.indexes(&name), "{name}");
    }
}

#[test]
fn a_database_comes_back_byte_by_byte_and_is_proven() {
    let (live, restored, mut desk) = (shop(), Database::fresh(), desk());
    backup(&mut desk, &live).good().says("standalone");
    let key = desk.key();
    let report = mongodb(&desk, &["verify", "--dataset", "shop", "--identity", &key]).good();
    report.says("520 documents").says("content: collection").says("content: index");
    mongodb(&desk, &["verify", "--dataset", "shop", "--identity", &key, "--level", "live", "--from", "env:FROM_URL"])
        .good();
    restore(&mut desk, &restored, &[]).good().says("byte by byte");
    same(&live, &restored);
    // The documents of a collection alone, as mongodump has them in its `.bson`.
    let sink = desk.sink();
    let mut show = desk.command("lifeboat-mongodb");
    show.args(["show", "--dataset", "shop", "--to", &sink, "--identity", &key, "--item", "people"]);
    let shown = show.output().unwrap();
    assert!(shown.status.success(), "{}", String::from_utf8_lossy(&shown.stderr));
    let (mut found, mut rest) = (Vec::new(), &shown.stdout[..]);
    while let Some(length) = rest.first_chunk::<4>() {
        let (document, after) = rest.split_at(u32::from_le_bytes(*length) as usize);
        found.push(document.to_vec());
        rest = after;
    }
    found.sort();
    assert!(found == live.documents("people"));
}

#[test]
fn what_mongodump_has_written_is_verified_and_restored() {
    for (gzip, format) in [(false, "archive"), (true, "archive.gz")] {
        let (live, restored, mut desk) = (shop(), Database::fresh(), desk());
        let uri = format!("--uri={}", live.url);
        let dumped = mongodump(&[&[&*uri, "--archive"][..], if gzip { &["--gzip"] } else { &[] }].concat());
        std::fs::write(desk.path("sink").join(format!("shop-{}.{format}", yesterday())), dumped).unwrap();
        mongodb(&desk, &["verify", "--dataset", "shop"]).good().says("foreign").says("520 documents");
        restore(&mut desk, &restored, &[]).good();
        same(&live, &restored);
    }
}

#[test]
fn what_we_have_written_is_restored_by_mongorestore() {
    for compress in ["none", "gzip"] {
        let (live, restored, mut desk) = (Database::fresh(), Database::fresh(), desk());
        // This server refuses the `ns` that mongorestore writes into an index: without one.
        live.insert("people", people(500));
        live.insert("odd names", (0..20).map(|n| bson::rawdoc! { "_id": n, "x y": n }.into_bytes()));
        live.run(doc! { "create": "nothing" });
        desk.set("FROM_URL", &*live.url);
        mongodb(
            &desk,
            &["backup", "--from", "env:FROM_URL", "--dataset", "shop", "--encrypt", "none", "--compress", compress],
        )
        .good();
        let stored = desk.stored().into_iter().find(|name| !name.contains("manifest")).unwrap();
        let archive = format!("--archive={}", desk.path("sink").join(stored).display());
        let (from, to) = (format!("--nsFrom={}.*", live.name), format!("--nsTo={}.*", restored.name));
        let uri = format!("--uri={}", shared_url());
        let gzip: &[&str] = if compress == "gzip" { &["--gzip"] } else { &[] };
        mongorestore(&[&[&*uri, &*archive, &*from, &*to][..], gzip].concat()).unwrap();
        same(&live, &restored);
    }
}

#[test]
fn a_database_that_is_not_empty_is_refused_and_replaced_only_when_told() {
    let (live, target, mut desk) = (shop(), Database::fresh(), desk());
    target.insert("people", [bson::rawdoc! { "_id": 1, "precious": true }.into_bytes()]);
    target.insert("other", [bson::rawdoc! { "_id": 1 }.into_bytes()]);
    backup(&mut desk, &live).good();
    restore(&mut desk, &target, &[]).ended(1).says("not empty").says("--replace");
    assert_eq!(target.collections(), ["other", "people"]);
    assert_eq!(target.documents("people").len(), 1);
    // It is not what was backed up: it has to be named again.
    let named = replace(&target);
    restore(&mut desk, &target, &["--replace"]).ended(2).says(&named);
    assert_eq!(target.documents("people").len(), 1);
    restore(&mut desk, &target, &[&named]).good().says("others").says("1 kept");
    assert!(target.documents("people") == live.documents("people"));
    assert_eq!(target.indexes("people"), live.indexes("people"));
    assert_eq!(target.collections(), ["nothing", "odd names", "other", "people"]);
}

#[test]
fn the_replaced_collections_can_be_kept() {
    let (live, target, mut desk) = (shop(), Database::fresh(), desk());
    target.insert("people", [bson::rawdoc! { "_id": 1, "precious": true }.into_bytes()]);
    backup(&mut desk, &live).good();
    restore(&mut desk, &target, &[&replace(&target), "--keep-replaced"]).good().says("kept as");
    let kept = target.collections().into_iter().find(|name| name.starts_with("people_lifeboat_replaced_")).unwrap();
    assert_eq!(target.documents(&kept), [bson::rawdoc! { "_id": 1, "precious": true }.into_bytes()]);
    assert!(target.documents("people") == live.documents("people"));
}

#[test]
fn collections_are_chosen_and_renamed() {
    let (live, target, mut desk) = (shop(), Database::fresh(), desk());
    backup(&mut desk, &live).good();
    restore(&mut desk, &target, &["--collection", "people", "--no-indexes"]).good();
    assert_eq!(target.collections(), ["people"]);
    assert_eq!(target.indexes("people").len(), 1);
    let (from, to) = (format!("{}.*", live.name), format!("{}.again_*", target.name));
    restore(&mut desk, &target, &["--ns-from", &from, "--ns-to", &to]).good();
    assert_eq!(target.collections(), ["again_nothing", "again_odd names", "again_people", "people"]);
    restore(&mut desk, &target, &["--collection", "nobody"]).ended(1).says("holds none of them");
    restore(&mut desk, &target, &["--table", "people"]).ended(2).says("unexpected argument");
}

#[test]
fn a_part_of_a_database_can_be_backed_up() {
    let (live, restored, mut desk) = (shop(), Database::fresh(), desk());
    desk.set("FROM_URL", &*live.url);
    let encrypt = desk.encrypt();
    let query = r#"people={"_id": {"$lt": {"$numberInt": "10"}}}"#;
    mongodb(
        &desk,
        &[
            "backup",
            "--from",
            "env:FROM_URL",
            "--dataset",
            "shop",
            "--encrypt",
            &encrypt,
            "--query",
            query,
            "--exclude-collection",
            "no*",
        ],
    )
    .good();
    restore(&mut desk, &restored, &[]).good();
    assert_eq!(restored.collections(), ["odd names", "people"]);
    assert_eq!(restored.documents("people"), people(10));
}

#[test]
fn a_database_without_documents_is_backed_up_and_its_mechanics_are_verified() {
    let (live, mut desk) = (Database::fresh(), desk());
    live.run(doc! { "create": "nothing" });
    backup(&mut desk, &live).good();
    let key = desk.key();
    mongodb(&desk, &["verify", "--dataset", "shop", "--identity", &key]).good().says("restore mechanics verified");
    assert_eq!(live.databases("lifeboat_scratch_").iter().filter(|n| n.ends_with("_1")).count(), 0);
}

#[test]
fn an_archive_that_is_cut_or_a_key_that_does_not_fit_changes_nothing() {
    let (live, target, mut desk) = (shop(), Database::fresh(), desk());
    let dumped = mongodump(&[&format!("--uri={}", live.url), "--archive"]);
    target.insert("people", [bson::rawdoc! { "_id": 1, "precious": true }.into_bytes()]);
    let file = desk.path("sink").join(format!("shop-{}.archive", yesterday()));
    for cut in [dumped.len() - 1, dumped.len() / 2, 100, 3] {
        std::fs::write(&file, &dumped[..cut]).unwrap();
        mongodb(&desk, &["verify", "--dataset", "shop", "--level", "structure"]).ended(1).says("FAIL");
        restore(&mut desk, &target, &[&replace(&target)]).ended(1);
        assert_eq!(target.collections(), ["people"], "cut at {cut}");
        assert_eq!(target.documents("people").len(), 1);
    }
    std::fs::remove_file(file).unwrap();
    backup(&mut desk, &live).good();
    let (other, _) = lifeboat::Age::generate();
    std::fs::write(desk.path("key.txt"), secrecy::ExposeSecret::expose_secret(&other)).unwrap();
    restore(&mut desk, &target, &[&replace(&target)]).ended(1);
    assert_eq!(target.documents("people").len(), 1);
}

#[test]
fn kill_9_of_a_restore_leaves_what_was_there_and_the_next_one_tells_what_is_left() {
    let (live, target, mut desk) = (Database::fresh(), Database::fresh(), desk());
    live.insert("people", people(15_000));
    target.insert("people", [bson::rawdoc! { "_id": 1, "precious": true }.into_bytes()]);
    backup(&mut desk, &live).good();
    let (sink, key) = (desk.sink(), desk.key());
    let mut child = desk
        .command("lifeboat-mongodb")
        .env("INTO_URL", &target.url)
        .args([
            "restore",
            "--dataset",
            "shop",
            "--to",
            &sink,
            "--identity",
            &key,
            "--into",
            "env:INTO_URL",
            &replace(&target),
        ])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    wait_for("the middle of the restore", || target.collections().len() > 1);
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(target.documents("people"), [bson::rawdoc! { "_id": 1, "precious": true }.into_bytes()]);
    restore(&mut desk, &target, &[&replace(&target)]).good().says("left over");
    assert_eq!(target.documents("people").len(), 15_000);
}

#[test]
fn a_server_that_is_killed_while_it_is_read_leaves_no_backup() {
    let mut server = Server::start();
    let mut desk = desk();
    let live = Database::on(&server.url);
    live.insert("people", people(10));
    desk.set("FROM_URL", &*live.url);
    // It is gone before the first byte; in the middle of a cursor it is at the protocol's level (crates/backends/tests).
    server.kill();
    let encrypt = desk.encrypt();
    mongodb(&desk, &["backup", "--from", "env:FROM_URL", "--dataset", "shop", "--encrypt", &encrypt])
        .ended(1)
        .says("hint");
    assert_eq!(desk.stored(), Vec::<String>::new());
}

#[test]
fn password_hashes_of_users_are_not_stored_in_the_clear() {
    let mut desk = desk();
    desk.set("FROM_URL", shared_url());
    let backup = ["backup", "--from", "env:FROM_URL", "--encrypt", "none"];
    mongodb(&desk, &backup).ended(2).says("password hashes").says("--users-and-roles no");
    let one = ["--database", "shop", "--users-and-roles", "yes"];
    mongodb(&desk, &[&backup[..], &one].concat()).ended(2).says("password hashes");
    let file = desk.path("lifeboat.toml");
    let config = "[sinks.local]\nurl = \"file:///nowhere\"\n[defaults]\nencrypt = \"none\"\n[jobs.all]\nmongodb = { url = \"${FROM_URL}\" }\n";
    std::fs::write(file, config).unwrap();
    desk.run("lifeboat", &["backup"]).ended(2).says("password hashes").says("users_and_roles = false");
    assert_eq!(desk.stored(), Vec::<String>::new());
}

#[test]
fn what_a_restore_of_mongodb_can_do_is_said_to_it() {
    let (live, target, mut desk) = (shop(), Database::fresh(), desk());
    backup(&mut desk, &live).good();
    restore(&mut desk, &target, &["--users-and-roles"]).ended(2).says("holds no users and roles");
    restore(&mut desk, &target, &["--no-oplog-replay"]).good();
    same(&live, &target);
}

#[test]
fn datasets_are_told_apart_by_whole_names() {
    let (one, other, mut desk) = (Database::fresh(), Database::fresh(), desk());
    one.insert("a", people(3));
    other.insert("b", people(5));
    for (name, live) in [("educationelly", &one), ("educationelly-graphql", &other)] {
        let dumped = mongodump(&[&format!("--uri={}", live.url), "--archive", "--gzip"]);
        std::fs::write(desk.path("sink").join(format!("{name}-{}.archive.gz", yesterday())), dumped).unwrap();
    }
    let listed = mongodb(&desk, &["list", "--dataset", "educationelly", "--json"]).good().json();
    assert_eq!(listed.as_array().unwrap().len(), 1);
    mongodb(&desk, &["verify", "--dataset", "educationelly"]).good().says("3 documents");
    let restored = Database::fresh();
    desk.set("INTO_URL", &*restored.url);
    mongodb(&desk, &["restore", "--dataset", "educationelly", "--into", "env:INTO_URL"]).good();
    assert_eq!(restored.collections(), ["a"]);
}

#[test]
fn every_kind_of_value_that_the_server_takes_comes_back() {
    let (live, restored, mut desk) = (Database::fresh(), Database::fresh(), desk());
    // What this server does not store at all is tested at the protocol's level.
    let mut taken = 0;
    for (_, document) in documents::odd() {
        let raw = bson::RawDocumentBuf::from_bytes(document.clone()).unwrap();
        if live.try_insert("odd", raw) {
            taken += 1;
        }
    }
    assert!(taken > 20, "{taken}");
    backup(&mut desk, &live).good();
    restore(&mut desk, &restored, &[]).good();
    assert!(live.documents("odd") == restored.documents("odd"));
}

#[test]
fn jobs_of_a_config_file_work_and_mistakes_in_it_are_told() {
    let (live, mut desk) = (shop(), desk());
    desk.set("SHOP_URL", shared_url());
    let config = |more: &str| {
        format!(
            "[sinks.local]\nurl = \"{}\"\n[defaults]\nencrypt = \"none\"\n[jobs.shop]\nmongodb = {{ url = \"${{SHOP_URL}}\", database = \"{}\"{more} }}\n",
            desk.sink(),
            live.name
        )
    };
    let file = desk.path("lifeboat.toml");
    std::fs::write(&file, config(", exclude_collections = [\"odd*\"], consistency = \"auto\"")).unwrap();
    desk.run("lifeboat", &["check"]).good().says("standalone").says("scratch server");
    desk.run("lifeboat", &["backup"]).good();
    desk.run("lifeboat", &["verify"]).good().says("500 documents");
    desk.run("lifeboat", &["show", "shop"]).good().says("| mongorestore --archive");
    std::fs::write(&file, config(", colections = []")).unwrap();
    desk.run("lifeboat", &["backup"]).ended(2).says("did you mean \"collections\"");
    std::fs::write(&file, config(", queries = { people = \"{\" }")).unwrap();
    desk.run("lifeboat", &["backup"]).ended(2).says("query of people");
    std::fs::write(&file, config(", consistency = \"snapshot\"")).unwrap();
    desk.run("lifeboat", &["backup"]).ended(1).says("standalone");
}

/// A `mongod` that is FerretDB: it takes exactly what a scratch server is started with, and no other argument. What it cannot
/// do of that (the cache, the parameters, the mode of the socket) it leaves out. It notes its process.
fn stand_in(desk: &mut Desk) {
    let folder = desk.path("mongo");
    std::fs::create_dir(&folder).unwrap();
    let script = format!(
        r#"#!/bin/sh
folder=$(pwd -P)
expected="--dbpath $folder/data --bind_ip $folder/mongod.sock --unixSocketPrefix $folder --wiredTigerCacheSizeGB 0.5"
expected="$expected --setParameter ttlMonitorEnabled=false --setParameter diagnosticDataCollectionEnabled=false"
expected="$expected --filePermissions 0700"
if [ "$*" != "$expected" ]; then echo "Error parsing command line: $*" >&2; exit 2; fi
if [ "$(id -u)" = 0 ]; then echo "it runs as root" >&2; exit 2; fi
if [ "$(stat -c %a "$folder")" != 700 ]; then echo "others can reach the socket" >&2; exit 2; fi
if [ -n "$(ls -A data)" ]; then echo "its data folder is not empty" >&2; exit 2; fi
echo $$ >> '{started}'
exec '{server}' "$folder/mongod.sock" "$folder/data"
"#,
        started = folder.join("started").display(),
        server = ferretdb().display(),
    );
    std::fs::write(folder.join("mongod"), script).unwrap();
    // Where the tests run as root it runs as another user, who has to note its process.
    std::fs::write(folder.join("started"), "").unwrap();
    for (name, mode) in [("mongod", 0o755), ("started", 0o666)] {
        std::fs::set_permissions(folder.join(name), std::fs::Permissions::from_mode(mode)).unwrap();
    }
    desk.set("LIFEBOAT_MONGO_BIN", folder.display().to_string());
}

/// The processes of all servers that were started so far.
fn started(desk: &Desk) -> Vec<String> {
    std::fs::read_to_string(desk.path("mongo/started")).unwrap().lines().map(str::to_owned).collect()
}

/// The scratch folders that are there.
fn scratch_folders(desk: &Desk) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(desk.path("tmp")).unwrap().flatten();
    entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect()
}

fn runs(pid: &String) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

#[test]
fn a_restore_test_starts_a_server_of_its_own_and_leaves_nothing_of_it() {
    let (live, mut desk) = (shop(), Desk::new());
    stand_in(&mut desk);
    backup(&mut desk, &live).good();
    let key = desk.key();
    mongodb(&desk, &["verify", "--dataset", "shop", "--identity", &key, "--level", "restore"])
        .good()
        .says("its own server, deleted afterwards")
        .says("520 documents");
    let servers = started(&desk);
    assert_eq!((servers.len(), servers.iter().any(runs)), (1, false));
    assert_eq!(scratch_folders(&desk), Vec::<PathBuf>::new());
}

#[test]
fn an_altered_archive_fails_and_leaves_no_server_of_its_own() {
    let (live, mut desk) = (shop(), Desk::new());
    stand_in(&mut desk);
    let mut dumped = mongodump(&[&format!("--uri={}", live.url), "--archive"]);
    let at = dumped.windows(5).position(|w| w == b"n499\0").unwrap();
    dumped[at + 3] = b'8';
    std::fs::write(desk.path("sink").join(format!("shop-{}.archive", yesterday())), dumped).unwrap();
    mongodb(&desk, &["verify", "--dataset", "shop", "--level", "restore"]).ended(1).says("FAIL");
    // What is wrong may be seen before a server is needed.
    let servers = started(&desk);
    assert!(servers.len() <= 1 && !servers.iter().any(runs), "{servers:?}");
    assert_eq!(scratch_folders(&desk), Vec::<PathBuf>::new());
}

#[test]
fn kill_9_of_a_restore_test_leaves_no_server_of_its_own_and_no_folder() {
    let (live, mut desk) = (Database::fresh(), Desk::new());
    stand_in(&mut desk);
    live.insert("people", people(15_000));
    backup(&mut desk, &live).good();
    let (sink, key) = (desk.sink(), desk.key());
    let mut verify = desk
        .command("lifeboat-mongodb")
        .args(["verify", "--dataset", "shop", "--to", &sink, "--identity", &key, "--level", "restore"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    // FerretDB has a file for each database. Number 0 holds the marker, number 1 what is restored.
    let restoring = |folder: &PathBuf| {
        let mut files = std::fs::read_dir(folder.join("data")).into_iter().flatten().flatten();
        files.any(|file| file.file_name().to_string_lossy().contains("_1.sqlite"))
    };
    wait_for("the middle of the restore", || scratch_folders(&desk).iter().any(restoring));
    let servers = started(&desk);
    assert_eq!((servers.len(), servers.iter().all(runs)), (1, true));
    verify.kill().unwrap();
    assert!(!verify.wait().unwrap().success());
    wait_for("the scratch server's end", || !servers.iter().any(runs));
    wait_for("the scratch folder's end", || scratch_folders(&desk).is_empty());
}

#[test]
fn no_password_is_in_any_output_or_file() {
    const PASSWORD: &str = "Zx9-mongodb-password";
    let (live, restored, mut desk) = (shop(), Database::fresh(), desk());
    let with = |url: &str| {
        format!(
            "{}?authMechanism=PLAIN&authSource=$external",
            url.replace("mongodb://", &format!("mongodb://backup:{PASSWORD}@"))
        )
    };
    desk.set("RUST_LOG", "trace").set("FROM_URL", with(&live.url)).set("INTO_URL", with(&restored.url));
    desk.set("LIFEBOAT_SCRATCH_URL", with(&shared_url()));
    let encrypt = desk.encrypt();
    let key = desk.key();
    let place = ["--dataset", "shop"];
    let mut said = String::new();
    let mut keep = |run: Run| {
        said.push_str(&run.stdout);
        said.push_str(&run.stderr);
        run
    };
    keep(mongodb(&desk, &[&["backup", "--from", "env:FROM_URL", "--encrypt", &encrypt, "-v"][..], &place].concat()))
        .good();
    keep(mongodb(&desk, &[&["verify", "--identity", &key, "-v"][..], &place].concat())).good();
    keep(mongodb(&desk, &[&["show", "--identity", &key, "--items"][..], &place].concat())).good();
    keep(mongodb(&desk, &[&["check", "--from", "env:FROM_URL", "--encrypt", &encrypt][..], &place].concat()));
    keep(mongodb(&desk, &[&["restore", "--identity", &key, "--into", "env:INTO_URL"][..], &place].concat())).good();
    for wrong in [
        format!("mongodb://u:{PASSWORD}@127.0.0.1:1/d?serverSelectionTimeoutMS=300"),
        format!("mongodb://u:{PASSWORD}@h:port/d"),
        format!("mongodb://u:{PASSWORD}/@h/d"),
        format!(
            "mongodb://u:{PASSWORD}@{}shop?authMechanism=SCRAM-SHA-256",
            shared_url().trim_start_matches("mongodb://")
        ),
    ] {
        desk.set("FROM_URL", wrong);
        keep(mongodb(&desk, &[&["backup", "--from", "env:FROM_URL", "--encrypt", "none"][..], &place].concat()))
            .says("error");
    }
    assert!(!said.contains("Zx9"), "the password is in the output");
    for folder in ["sink", "tmp"] {
        for name in harness::files(&desk.path(folder)) {
            let bytes = std::fs::read(desk.path(folder).join(&name)).unwrap();
            assert!(!bytes.windows(PASSWORD.len()).any(|w| w == PASSWORD.as_bytes()), "{name}");
        }
    }
}

#[test]
fn a_database_that_was_dropped_pushes_no_fuller_backup_out() {
    let (live, mut desk) = (shop(), desk());
    backup(&mut desk, &live).good();
    live.run(doc! { "dropDatabase": 1 });
    backup(&mut desk, &live).good().says("warning: shop is empty (0 items, 0 documents");
    let key = desk.key();
    let verify = ["verify", "--dataset", "shop", "--identity", &key, "--level", "structure"];
    mongodb(&desk, &verify).good().says("amount");
    let pruned = mongodb(&desk, &["prune", "--dataset", "shop", "--keep", "last=1", "-v"]).good();
    pruned.says("newer ones hold less").says("which stays");
    let listed = mongodb(&desk, &["list", "--json"]).good().json();
    let holds: Vec<_> = listed.as_array().unwrap().iter().map(|row| row["holds"].as_str()).collect();
    assert_eq!(holds, [None, Some("empty")]);
}

#[test]
fn a_collection_that_is_not_there_is_an_error_although_another_one_is() {
    let (live, mut desk) = (shop(), desk());
    desk.set("FROM_URL", &*live.url);
    let encrypt = desk.encrypt();
    for (patterns, code) in [(&["people", "poeple"][..], 2), (&["poeple"][..], 2), (&["peo*", "odd names"][..], 0)] {
        let place = ["backup", "--from", "env:FROM_URL", "--dataset", "shop", "--encrypt", &encrypt];
        let chosen: Vec<&str> = patterns.iter().flat_map(|pattern| ["--collection", pattern]).collect();
        let run = mongodb(&desk, &[&place[..], &chosen].concat()).ended(code);
        if code != 0 {
            run.says("the collection \"poeple\": there is no such collection");
        }
    }
}
