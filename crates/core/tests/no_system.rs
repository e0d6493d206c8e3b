//! Core names no system: what it says of itself is true of its sources.
#![allow(clippy::unwrap_used, missing_docs)]

use std::path::Path;

/// Names of systems and of their tools, as parts of words.
const NAMES: [&str; 24] = [
    "postgres",
    "pg_dump",
    "pg_restore",
    "pg_basebackup",
    "pgbackrest",
    "barman",
    "wal-g",
    "initdb",
    "mongo",
    "bson",
    "oplog",
    "cloudflare",
    "doppler",
    "velero",
    "kopia",
    "restic",
    "kubernetes",
    "kubectl",
    "mysql",
    "mariadb",
    "sqlite",
    "redis-",
    "etcd",
    "minio",
];

/// Words in which a name stands for something else.
const INNOCENT: [&str; 1] = ["restrict"];

fn look(folder: &Path, found: &mut Vec<String>, files: &mut usize) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            look(&path, found, files);
            continue;
        }
        *files += 1;
        for (number, line) in std::fs::read_to_string(&path).unwrap().lines().enumerate() {
            let mut words = line.to_lowercase();
            INNOCENT.iter().for_each(|word| words = words.replace(word, ""));
            if let Some(name) = NAMES.iter().find(|name| words.contains(*name)) {
                found.push(format!("{}:{}: {name}: {}", path.display(), number + 1, line.trim()));
            }
        }
    }
}

#[test]
fn the_sources_of_core_name_no_system() {
    let (mut found, mut files) = (Vec::new(), 0);
    look(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut found, &mut files);
    assert!(files > 30, "only {files} files were looked at");
    assert!(found.is_empty(), "what is known of a system comes into core as data:\n{}", found.join("\n"));
}
