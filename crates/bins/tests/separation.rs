//! A binary of one system holds that system alone: no symbol and no text of another one.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::process::Command;

/// What tells a system: the start of its symbols, and texts that only it has.
const SYSTEMS: &[(&str, &[&str], &[&str])] = &[
    (
        "cloudflare-dns",
        &["lifeboat_backends::cloudflare::"],
        &["api.cloudflare.com", "CLOUDFLARE_API_TOKEN", "cloudflare://"],
    ),
    ("command", &["lifeboat_backends::command::"], &["pass-env"]),
    ("doppler", &["lifeboat_backends::doppler::"], &["api.doppler.com", "DOPPLER_TOKEN", "doppler://"]),
    ("mongodb", &["lifeboat_backends::mongodb::", "mongodb::", "bson::"], &["mongodb+srv", "mongorestore", "oplog"]),
    ("postgres", &["lifeboat_backends::postgres::", "tokio_postgres::"], &["pg_dump", "pg_restore", "PGPASSWORD"]),
    ("velero", &["lifeboat_backends::velero::", "kube_client::", "k8s_openapi::"], &["velero.io", "VELERO_NAMESPACE"]),
];

fn symbols(program: &Path) -> String {
    let output = Command::new("nm").arg("--demangle").arg(program).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The program without symbols and debug information, whose paths name every file of a crate.
fn stripped(program: &Path) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let into = folder.path().join("stripped");
    assert!(Command::new("strip").arg("-o").arg(&into).arg(program).status().unwrap().success());
    std::fs::read(into).unwrap()
}

fn holds(bytes: &[u8], text: &str) -> bool {
    memchr::memmem::find(bytes, text.as_bytes()).is_some()
}

fn holds_only(own: &str, program: &str) {
    let program = Path::new(program);
    let (symbols, bytes) = (symbols(program), stripped(program));
    for (system, starts, texts) in SYSTEMS {
        let is_own = *system == own;
        for start in *starts {
            // A path of a symbol, not a part of a longer one: `mongodb::` is not `lifeboat_backends::mongodb::`.
            let found =
                symbols.lines().find(|line| line.split([' ', '<', '&', '(']).any(|part| part.starts_with(start)));
            assert_eq!(found.is_some(), is_own, "{own}: {start}: {found:?}");
        }
        for text in *texts {
            assert_eq!(holds(&bytes, text), is_own, "{own}: {text:?} of {system}");
        }
    }
}

#[test]
fn the_binary_for_postgresql_holds_no_other_system() {
    holds_only("postgres", env!("CARGO_BIN_EXE_lifeboat-postgres"));
}

#[test]
fn the_binary_for_doppler_holds_no_other_system() {
    holds_only("doppler", env!("CARGO_BIN_EXE_lifeboat-doppler"));
}
