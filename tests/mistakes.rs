//! Every mistake that a newcomer makes with a server has a message that says what, where and what to try.
#![allow(clippy::unwrap_used, missing_docs)]

mod harness;

use harness::Desk;
use lifeboat_testkit::minio::Minio;
use lifeboat_testkit::postgres::{Database, with_database};

#[test]
fn wrong_password() {
    let (live, desk) = (Database::fresh(), Desk::new());
    let (user, rest) = live.url.split_once("://").unwrap().1.split_once(':').unwrap();
    let url = format!("postgres://{user}:wrong@{}", rest.split_once('@').unwrap().1);
    desk.backup(&url).ended(1).says("the password for user postgres is wrong").says("hint:").says("PGPASSWORD");
}

#[test]
fn no_password() {
    let (live, mut desk) = (Database::fresh(), Desk::new());
    desk.set("HOME", desk.folder.path().display().to_string());
    let url = format!("postgres://postgres@{}", live.url.split_once('@').unwrap().1);
    desk.backup(&url).ended(1).says("password").says("~/.pgpass");
}

#[test]
fn a_password_file_is_read() {
    let (live, mut desk) = (Database::fresh(), Desk::new());
    let password =
        live.url.split_once("://").unwrap().1.split_once(':').unwrap().1.split_once('@').unwrap().0.to_owned();
    let path = desk.path("pgpass");
    std::fs::write(&path, format!("127.0.0.1:*:*:postgres:{password}\n")).unwrap();
    desk.set("PGPASSFILE", path.display().to_string());
    let url = format!("postgres://postgres@{}", live.url.split_once('@').unwrap().1);
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    desk.backup(&url).ended(2).says("others can read it").says("chmod 600");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    desk.backup(&url).good();
}

#[test]
fn no_such_database() {
    let (live, desk) = (Database::fresh(), Desk::new());
    desk.backup(&with_database(&live.url, "nowhere")).ended(1).says("there is no database \"nowhere\"").says("psql -l");
}

#[test]
fn no_server() {
    let desk = Desk::new();
    desk.backup("postgres://postgres:x@127.0.0.1:1/shop")
        .ended(1)
        .says("127.0.0.1:1")
        .says("refused")
        .says("is the server running");
}

#[test]
fn pg_dump_older_than_the_server() {
    let (live, mut desk) = (Database::fresh(), Desk::new());
    // A machine on which nothing else is to be found.
    desk.shadow("pg_dump", "exec $REAL \"$@\"");
    let script = desk.path("shadow/pg_dump");
    std::fs::write(&script, "#!/bin/sh\necho 'pg_dump (PostgreSQL) 9.6.24'\n").unwrap();
    let path = desk.path("shadow").display().to_string();
    let run = desk
        .command("unshare")
        .args(["--map-root-user", "--mount", "sh", "-c"])
        .arg(format!(
            "mkdir empty && mount --bind empty /usr/lib/postgresql && exec {} backup --dataset shop --to {} --encrypt none",
            env!("CARGO_BIN_EXE_lifeboat-postgres"),
            desk.sink()
        ))
        .env("PATH", format!("{path}:/usr/bin:/bin"))
        .env("LIFEBOAT_PG_BIN", &path)
        .env("LIFEBOAT_FROM", &live.url)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&run.stderr).into_owned();
    // Debian's own wrapper in /usr/bin finds no version either.
    assert_eq!(run.status.code(), Some(1), "{said}");
    assert!(said.contains("the newest pg_dump here is 9") && said.contains("postgresql-client-"), "{said}");
    assert_eq!(desk.stored(), Vec::<String>::new());
}

#[test]
fn no_identity_and_a_wrong_one() {
    let (live, desk) = (Database::fresh(), Desk::new());
    desk.backup(&live.url).good();
    let sink = desk.sink();
    desk.run("lifeboat-postgres", &["verify", "--dataset", "shop", "--to", &sink])
        .ended(1)
        .says("no key for that was given")
        .says("--identity");
    let other = Desk::new();
    desk.run("lifeboat-postgres", &["verify", "--dataset", "shop", "--to", &sink, "--identity", &other.key()])
        .ended(1)
        .says("none of the given identities fits")
        .says("lifeboat show");
    let target = Database::reserved();
    desk.run(
        "lifeboat-postgres",
        &["restore", "--dataset", "shop", "--to", &sink, "--identity", &other.key(), "--into", &target.url],
    )
    .ended(1)
    .says("none of the given identities fits");
}

#[test]
fn an_extra_argument_that_breaks_the_proof() {
    let (live, desk) = (Database::fresh(), Desk::new());
    let (sink, encrypt) = (desk.sink(), desk.encrypt());
    desk.postgres(
        &live.url,
        &[
            "backup",
            "--dataset",
            "shop",
            "--to",
            &sink,
            "--encrypt",
            &encrypt,
            "--pg-dump-arg",
            "--enable-row-security",
        ],
    )
    .ended(2)
    .says("--enable-row-security");
}

#[test]
fn a_table_that_is_not_there() {
    let (live, desk) = (Database::fresh(), Desk::new());
    let (sink, encrypt) = (desk.sink(), desk.encrypt());
    desk.postgres(&live.url, &["backup", "--dataset", "shop", "--to", &sink, "--encrypt", &encrypt, "--table", "typo"])
        .ended(1)
        .says("no matching tables were found")
        .says("patterns");
}

#[test]
fn a_clock_in_the_past() {
    let (live, desk) = (Database::fresh(), Desk::new());
    desk.backup(&live.url).good();
    let name = desk.stored().into_iter().find(|f| f.ends_with(".age")).unwrap();
    // The artifact of a machine whose clock is ahead, as seen from here.
    let future = format!("sink/shop-20990101-000000{}", &name[name.find(".dump").unwrap()..]);
    std::fs::rename(desk.path("sink").join(&name), desk.path(&future)).unwrap();
    let sink = desk.sink();
    desk.run(
        "lifeboat-postgres",
        &[
            "verify",
            "--dataset",
            "shop",
            "--to",
            &sink,
            "--identity",
            &desk.key(),
            "--level",
            "structure",
            "--at",
            "shop-20990101-000000.dump.zst.age",
        ],
    )
    .says("in the future")
    .says("clock");
    desk.run("lifeboat-postgres", &["prune", "--dataset", "shop", "--to", &sink, "--keep", "1d", "--dry-run"])
        .says("future");
}

#[tokio::test(flavor = "multi_thread")]
async fn bucket_missing_and_bad_key() {
    let minio = Minio::shared();
    let (live, mut desk) = (Database::fresh(), Desk::new());
    let encrypt = desk.encrypt();
    desk.set("MINIO_ACCESS_KEY", minio.user()).set("MINIO_SECRET_KEY", minio.password());
    let nowhere = minio.sink_url("no-such-bucket");
    desk.postgres(&live.url, &["backup", "--dataset", "shop", "--to", &nowhere, "--encrypt", &encrypt])
        .ended(1)
        .says("no-such-bucket")
        .says("hint:");
    desk.run("lifeboat-postgres", &["list", "--to", &nowhere]).ended(1).says("no-such-bucket");
    let bucket = minio.fresh_bucket().await;
    let there = minio.sink_url(&bucket);
    desk.set("MINIO_SECRET_KEY", "wrong-secret-key");
    desk.postgres(&live.url, &["backup", "--dataset", "shop", "--to", &there, "--encrypt", &encrypt])
        .ended(1)
        .says("secret key")
        .says("hint:");
    desk.set("MINIO_ACCESS_KEY", "nobody-knows-me");
    desk.postgres(&live.url, &["backup", "--dataset", "shop", "--to", &there, "--encrypt", &encrypt])
        .ended(1)
        .says("access key")
        .says("hint:");
}
