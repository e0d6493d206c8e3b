//! No secret reaches an output, a manifest, an argument of a child or a disk that is not to be trusted.
#![allow(clippy::unwrap_used, missing_docs)]

mod harness;

use harness::{Desk, files};
use lifeboat_testkit::postgres::Database;

const PASSWORD: &str = "Zx9-database-password";
const PASSPHRASE: &str = "Zx9-openssl-passphrase";
const CELL: &str = "Zx9-secret-cell";
const TABLE: &str = "zx9_secret_table";

#[test]
fn no_secret_is_in_any_output_argument_or_file() {
    let (live, mut desk) = (Database::fresh(), Desk::new());
    let role = format!("{}_owner", live.name);
    live.run(&format!(
        "CREATE ROLE {role} SUPERUSER LOGIN PASSWORD '{PASSWORD}'; CREATE TABLE {TABLE} AS SELECT '{CELL}' || i AS x FROM generate_series(1, 50000) i"
    ));
    let (_, server) = live.url.split_once('@').unwrap();
    let url = format!("postgres://{role}:{PASSWORD}@{server}");
    // Every program of PostgreSQL writes down its arguments and those of everything above it.
    let spy = "{ echo \"$0 $@\"; p=$$; while [ \"$p\" -gt 1 ]; do tr '\\0' ' ' < /proc/$p/cmdline; echo; p=$(awk '{print $4}' /proc/$p/stat); done; } >> arguments.log\nexec $REAL \"$@\"";
    for program in ["pg_dump", "pg_restore", "initdb", "psql"] {
        desk.shadow(program, spy);
    }
    desk.set("RUST_LOG", "trace").set("PASSPHRASE", PASSPHRASE).set("THE_URL", &*url);
    let (sink, encrypt, key) = (desk.sink(), desk.encrypt(), desk.key());
    let identity = std::fs::read_to_string(desk.path("key.txt")).unwrap();
    let mut said = String::new();
    let mut keep = |run: harness::Run| {
        said.push_str(&run.stdout);
        said.push_str(&run.stderr);
        run
    };
    for (how, key) in [(&*encrypt, &*key), ("openssl:env:PASSPHRASE", "openssl:env:PASSPHRASE")] {
        let place = ["--dataset", "shop", "--to", &sink];
        keep(desk.run(
            "lifeboat-postgres",
            &[&["backup", "--from", "env:THE_URL", "--encrypt", how, "-v"], &place[..]].concat(),
        ))
        .good();
        keep(desk.run("lifeboat-postgres", &[&["verify", "--identity", key, "-v"], &place[..]].concat())).good();
        keep(desk.run("lifeboat-postgres", &[&["list", "--json"], &place[..]].concat())).good();
        keep(desk.run("lifeboat-postgres", &[&["show"], &place[..]].concat())).good();
        keep(desk.run(
            "lifeboat-postgres",
            &[&["check", "--from", "env:THE_URL", "--encrypt", how, "--identity", key], &place[..]].concat(),
        ));
        let into = Database::reserved();
        let into_url = format!("postgres://{role}:{PASSWORD}@{}", into.url.split_once('@').unwrap().1);
        desk.set("INTO_URL", into_url);
        keep(desk.run(
            "lifeboat-postgres",
            &[&["restore", "--identity", key, "--into", "env:INTO_URL", "--jobs", "2"], &place[..]].concat(),
        ))
        .good();
    }
    // Errors as well: a wrong password, a wrong database, a server that is not there.
    for wrong in [
        format!("postgres://{role}:{PASSWORD}x@{server}"),
        format!("{url}_nowhere"),
        format!("postgres://u:{PASSWORD}@127.0.0.1:1/d"),
        format!("postgres://u:{PASSWORD}@h:port/d"),
    ] {
        desk.set("THE_URL", wrong);
        keep(desk.run(
            "lifeboat-postgres",
            &["backup", "--from", "env:THE_URL", "--encrypt", "none", "--dataset", "shop", "--to", &sink],
        ));
    }
    live.run(&format!("REASSIGN OWNED BY {role} TO CURRENT_USER; DROP ROLE {role}"));
    let arguments = std::fs::read_to_string(desk.path("arguments.log")).unwrap();
    assert!(arguments.contains("pg_dump"), "the spy has not run");
    let stored: Vec<(String, Vec<u8>)> = ["sink", "tmp"]
        .iter()
        .flat_map(|folder| {
            files(&desk.path(folder))
                .into_iter()
                .map(|f| (f.clone(), std::fs::read(desk.path(folder).join(f)).unwrap()))
                .collect::<Vec<_>>()
        })
        .collect();
    assert!(stored.iter().any(|(name, _)| name.ends_with(".manifest.json")));
    for secret in [PASSWORD, PASSPHRASE, CELL, identity.trim()] {
        assert!(!said.contains(secret), "{secret} is in an output:\n{}", around(&said, secret));
        assert!(!arguments.contains(secret), "{secret} is in an argument:\n{}", around(&arguments, secret));
        for (name, bytes) in &stored {
            assert!(memmem(bytes, secret.as_bytes()).is_none(), "{secret} is in {name}");
        }
    }
    for (name, bytes) in &stored {
        assert!(memmem(bytes, TABLE.as_bytes()).is_none(), "a table's name is in {name}");
    }
}

fn around(text: &str, secret: &str) -> String {
    text.lines().filter(|l| l.contains(secret)).take(3).collect::<Vec<_>>().join("\n")
}

fn memmem(bytes: &[u8], needle: &[u8]) -> Option<usize> {
    bytes.windows(needle.len()).position(|w| w == needle)
}

#[test]
fn a_password_on_the_command_line_is_warned_of() {
    let (live, desk) = (Database::fresh(), Desk::new());
    let (sink, encrypt) = (desk.sink(), desk.encrypt());
    desk.run(
        "lifeboat-postgres",
        &["backup", "--from", &live.url, "--dataset", "shop", "--to", &sink, "--encrypt", &encrypt],
    )
    .good()
    .says("env:NAME");
}
