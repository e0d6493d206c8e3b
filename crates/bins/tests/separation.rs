//! A binary of one system holds that system alone: no symbol and no text of another one.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
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

/// The most bytes of a function that only returns a constant.
const CONSTANT: u64 = 16;

fn symbols(program: &Path) -> String {
    let output = Command::new("nm").args(["--demangle", "--print-size"]).arg(program).output().unwrap();
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

/// A path of a symbol, not a part of a longer one: `mongodb::` is not `lifeboat_backends::mongodb::`.
fn is_of(symbol: &str, starts: &[&str]) -> bool {
    symbol.split([' ', '<', '&', '(']).any(|part| starts.iter().any(|start| part.starts_with(start)))
}

/// The functions of a program, those of one address together: the compiler folds functions with the same machine code into
/// one, which keeps the names of all. So it does with the glue that drops values, which is left out: a name of it tells the
/// first of many types that are dropped alike. A function of a few bytes, such as one that returns `true`, may keep one name only.
fn functions(symbols: &str) -> BTreeMap<&str, Vec<&str>> {
    let mut functions = BTreeMap::<_, Vec<_>>::new();
    for line in symbols.lines().filter(|line| !line.contains("core::ptr::drop_in_place<")) {
        let (address, rest) = line.split_once(' ').unwrap_or_default();
        let (size, name) = rest.split_once(' ').unwrap_or_default();
        // Without a size, it stands there at once: one letter for the kind.
        let (size, name) = match u64::from_str_radix(size, 16) {
            Ok(bytes) if size.len() == 16 => (bytes, name),
            _ => (u64::MAX, rest),
        };
        if !address.is_empty() && size > CONSTANT {
            functions.entry(address).or_default().push(name);
        }
    }
    functions
}

fn holds_only(own: &str, program: &str) {
    let program = Path::new(program);
    let (symbols, bytes) = (symbols(program), stripped(program));
    let functions = functions(&symbols);
    let of_others: Vec<&str> =
        SYSTEMS.iter().filter(|(system, ..)| *system != own).flat_map(|(_, starts, _)| *starts).copied().collect();
    let foreign = functions.values().find(|names| names.iter().all(|name| is_of(name, &of_others)));
    assert_eq!(foreign, None, "{own} holds functions of another system");
    for (system, starts, texts) in SYSTEMS {
        let is_own = *system == own;
        for start in starts.iter().filter(|_| is_own) {
            assert!(functions.values().flatten().any(|name| is_of(name, &[start])), "{own}: {start}");
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
