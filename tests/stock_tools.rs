//! Stock tools read what Lifeboat wrote, and Lifeboat reads what they wrote.
#![allow(clippy::unwrap_used, missing_docs)]

mod harness;

use std::process::Command;

use harness::Desk;
use lifeboat_testkit::postgres::{Database, programs};

const ROWS: &str = "CREATE TABLE t (id int PRIMARY KEY, x text); INSERT INTO t SELECT i, 'x' || i FROM generate_series(1, 5000) i; CREATE TABLE \"Ü\" ()";

fn bash(desk: &Desk, url: &str, line: &str) {
    let path = format!("{}:{}", programs().display(), std::env::var("PATH").unwrap());
    let run = Command::new("bash")
        .args(["-euo", "pipefail", "-c", line])
        .current_dir(desk.folder.path())
        .env("PATH", path)
        .env("URL", url)
        .env("PASSPHRASE", "correct horse")
        .output()
        .unwrap();
    assert!(run.status.success(), "{line}\n{}", String::from_utf8_lossy(&run.stderr));
}

#[test]
fn the_line_that_show_prints_restores_ours() {
    let (live, restored, mut desk) = (Database::fresh(), Database::fresh(), Desk::new());
    live.run(ROWS);
    let (sink, encrypt) = (desk.sink(), desk.encrypt());
    desk.set("PASSPHRASE", "correct horse");
    for (compress, how) in
        [("zstd:3", &*encrypt), ("gzip", "none"), ("none", &encrypt), ("zstd:1", "openssl:env:PASSPHRASE")]
    {
        restored.run("DROP TABLE IF EXISTS t; DROP TABLE IF EXISTS \"Ü\"");
        let _ = std::fs::remove_dir_all(desk.path("sink"));
        desk.known("sink");
        desk.postgres(
            &live.url,
            &["backup", "--dataset", "shop", "--to", &sink, "--encrypt", how, "--compress", compress],
        )
        .good();
        let shown = desk.run("lifeboat-postgres", &["show", "--dataset", "shop", "--to", &sink]).good().stdout;
        let line = shown.lines().find(|l| l.contains("pg_restore")).unwrap_or_else(|| panic!("{shown}"));
        let line = line[line.find("cat ").unwrap_or_else(|| panic!("{line}"))..]
            .replace("-i KEY", "-i key.txt")
            .replace("DATABASE", "\"$URL\"");
        bash(&desk, &restored.url, &line);
        assert_eq!(
            restored.run("SELECT count(*), md5(string_agg(t::text, ',' ORDER BY id)) FROM t"),
            live.run("SELECT count(*), md5(string_agg(t::text, ',' ORDER BY id)) FROM t")
        );
    }
}

#[test]
fn what_scripts_put_into_the_bucket_is_listed_verified_restored_and_pruned() {
    let (live, mut desk) = (Database::fresh(), Desk::new());
    live.run(ROWS);
    desk.set("PASSPHRASE", "correct horse");
    let lines = [
        ("dump", "pg_dump -Fc \"$URL\" > sink/shop-20260101-030000.dump"),
        ("dump", "pg_dump -Fc \"$URL\" | gzip > sink/shop-20260102-030000.dump.gz"),
        (
            "dump",
            "pg_dump -Fc \"$URL\" | openssl enc -aes-256-cbc -salt -pbkdf2 -iter 100000 -pass env:PASSPHRASE > sink/shop-20260103-030000.dump.enc",
        ),
        ("sql", "pg_dump \"$URL\" | gzip > sink/shop-20260104-030000.sql.gz"),
        (
            "dump",
            "(pg_dump -Fc -Z0 \"$URL\" | split -b 100000 - part; for p in part*; do gzip -c $p; done; rm part*) > sink/shop-20260105-030000.dump.gz",
        ),
        (
            "dump",
            "pg_dump -Fc \"$URL\" | zstd | age -r $(age-keygen -y key.txt) > sink/shop-20260106-030000.dump.zst.age",
        ),
    ];
    for (_, line) in lines {
        bash(&desk, &live.url, line);
    }
    bash(&desk, &live.url, "touch sink/shop-other-20260101-030000.dump sink/readme.txt");
    let (sink, key) = (desk.sink(), desk.key());
    let listed = desk.list();
    let kinds: Vec<&str> =
        listed.iter().filter(|a| a["dataset"] == "shop").map(|a| a["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["foreign"; 6]);
    for (day, (format, line)) in lines.iter().enumerate() {
        let at = format!("2026010{}-030000", day + 1);
        let arguments = [
            "--dataset",
            "shop",
            "--to",
            &sink,
            "--identity",
            &key,
            "--identity",
            "openssl:env:PASSPHRASE",
            "--at",
            &at,
        ];
        let verified = desk.run("lifeboat-postgres", &[&["verify"], &arguments[..]].concat()).good();
        assert!(verified.stdout.contains("(5000 rows)"), "{line}\n{}", verified.stdout);
        let restored = Database::reserved();
        desk.run("lifeboat-postgres", &[&["restore"], &arguments[..], &["--into", &restored.url]].concat()).good();
        assert_eq!(restored.run("SELECT count(*) FROM t").trim(), "5000", "{format}: {line}");
    }
    desk.run("lifeboat-postgres", &["prune", "--dataset", "shop", "--to", &sink, "--keep", "last=2"]).good();
    let left: Vec<String> = desk.stored().into_iter().filter(|f| !f.contains(".verified-")).collect();
    assert_eq!(
        left,
        [
            "readme.txt",
            "shop-20260105-030000.dump.gz",
            "shop-20260106-030000.dump.zst.age",
            "shop-other-20260101-030000.dump"
        ]
    );
}

#[test]
fn foreign_files_that_are_cut_short_or_altered_do_not_verify() {
    let (live, desk) = (Database::fresh(), Desk::new());
    live.run(ROWS);
    for (line, ending) in [
        ("pg_dump -Fc -Z0 \"$URL\" > whole", "dump"),
        ("pg_dump \"$URL\" | gzip > whole", "sql.gz"),
        ("pg_dump \"$URL\" > whole", "sql"),
        ("pg_dump -Fc \"$URL\" | gzip > whole", "dump.gz"),
    ] {
        let (sink, key) = (desk.sink(), desk.key());
        let name = format!("sink/shop-20260101-030000.{ending}");
        bash(&desk, &live.url, &format!("{line}; head -c $(($(stat -c %s whole) * 2 / 3)) whole > {name}"));
        for level in ["structure", "restore"] {
            let run = desk.run(
                "lifeboat-postgres",
                &["verify", "--dataset", "shop", "--to", &sink, "--identity", &key, "--level", level],
            );
            let run = run.ended(1).says("FAIL");
            // Depending on where the cut is: within a compressed block, an entry or a row.
            let named = ["cut short", "it ends within", "it does not end as"];
            assert!(named.iter().any(|n| run.stdout.contains(n)), "{line} {level}\n{}", run.stdout);
        }
        bash(&desk, &live.url, &format!("rm -rf whole {name}* sink/*"));
    }
}
