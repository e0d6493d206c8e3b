//! Stock formats, both ways: what Lifeboat stores is read by the tools that a Debian has, and what they write by Lifeboat.
//!
//! A tool that is missing fails the test, and the test says which package it comes from.
#![allow(clippy::unwrap_used, missing_docs)]

mod doubles;

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use bytes::Bytes;
use doubles::*;
use lifeboat_core::catalog::Kind;
use lifeboat_core::encryptor::{Age, OpenSsl};
use lifeboat_core::{Compression, Encryptor, Manifest, Restore, Sink, stream};
use lifeboat_testkit::content;
use lifeboat_testkit::memory::MemorySink;
use tempfile::TempDir;

/// The Debian package of each tool.
const PACKAGES: [(&str, &str); 9] = [
    ("age", "age"),
    ("age-keygen", "age"),
    ("zstd", "zstd"),
    ("gzip", "gzip"),
    ("openssl", "openssl"),
    ("ssh-keygen", "openssh-client"),
    ("base64", "coreutils"),
    ("script", "bsdutils"),
    ("jq", "jq"),
];

fn need(tools: &[&str]) {
    for tool in tools {
        let found = std::env::split_paths(&std::env::var_os("PATH").unwrap()).any(|dir| dir.join(tool).is_file());
        let package = PACKAGES.iter().find(|(of, _)| of == tool).unwrap().1;
        assert!(found, "this test needs `{tool}`: apt-get install {package}");
    }
}

/// What a shell line writes, run in a folder with this input.
fn shell(dir: &Path, line: &str, input: &[u8]) -> Vec<u8> {
    let from = dir.join("stdin");
    fs::write(&from, input).unwrap();
    let child = Command::new("bash")
        .args(["-euo", "pipefail", "-c", line])
        .current_dir(dir)
        .stdin(fs::File::open(&from).unwrap())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("there is a bash");
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// Half of it compresses, and none of it is text.
fn data() -> Bytes {
    let mut data = content::bytes(9, 1_000_000).to_vec();
    data.extend(std::iter::repeat_n(0u8, 1_000_000));
    data.into()
}

fn all_compressions() -> [(Compression, &'static str, &'static str); 3] {
    [
        (Compression::zstd(3), "zst", "zstd -dc"),
        (Compression::gzip(6), "gz", "gzip -dc"),
        (Compression::None, "", "cat"),
    ]
}

async fn ours(compression: Compression, encryptor: Option<&Arc<dyn Encryptor>>) -> MemorySink {
    let sink = MemorySink::new();
    let mut run = backup(FakeSource::of(data())).compress(compression);
    if let Some(encryptor) = encryptor {
        run = run.encrypt(encryptor.clone());
    }
    run.to(Arc::new(sink.clone())).run().await.unwrap();
    sink
}

async fn read_ours(sink: &MemorySink, key: &Arc<dyn Encryptor>) -> Bytes {
    let restore = Restore::new(Arc::new(sink.clone()), the_artifact(sink).await).key(key.clone());
    stream::collect(restore.stream().await.unwrap(), 1 << 24, "x").await.unwrap()
}

/// What a stock tool wrote, put into the bucket under this name.
async fn read_theirs(name: &str, bytes: Vec<u8>, key: &Arc<dyn Encryptor>) -> Bytes {
    let sink = MemorySink::new();
    sink.place(&format!("db/{name}"), bytes, at("2026-01-01T00:00:00Z"));
    assert_eq!(the_artifact(&sink).await.kind, Kind::Foreign);
    read_ours(&sink, key).await
}

async fn stored_bytes(sink: &MemorySink) -> Bytes {
    sink.bytes(&the_artifact(sink).await.key()).unwrap()
}

fn no_key() -> Arc<dyn Encryptor> {
    Arc::new(Age::default())
}

#[tokio::test]
async fn zstd_and_gzip_read_ours_and_we_read_theirs() {
    need(&["zstd", "gzip"]);
    let dir = TempDir::new().unwrap();
    for (compression, _, read) in all_compressions() {
        let sink = ours(compression, None).await;
        assert!(shell(dir.path(), read, &stored_bytes(&sink).await) == data(), "{compression}");
    }
    for (tail, write) in [
        ("dump.zst", "zstd -c"),
        ("dump.zst", "zstd -c -T2 --long=27 -19"),
        ("dump.zst", "zstd -c --no-check"),
        ("dump.zst", "tee copy | head -c 7 | zstd -c; tail -c +8 copy | zstd -c"),
        ("dump.gz", "gzip -c"),
        ("dump.gz", "tee copy | head -c 7 | gzip -c; tail -c +8 copy | gzip -9c"),
        ("dump", "cat"),
    ] {
        // `tee` must have written all before `tail` reads.
        let line = write.replace("| head -c 7 |", ">/dev/null; head -c 7 copy |");
        let theirs = shell(dir.path(), &line, &data());
        assert!(read_theirs(&format!("shop-20261121-033000.{tail}"), theirs, &no_key()).await == data(), "{write}");
    }
}

/// An age identity, made by the stock tool.
fn age_key(dir: &Path) -> (String, Arc<dyn Encryptor>) {
    shell(dir, "rm -f key.txt; age-keygen -o key.txt 2>/dev/null", b"");
    let public = String::from_utf8(shell(dir, "age-keygen -y key.txt", b"")).unwrap().trim().to_owned();
    let secret = fs::read_to_string(dir.join("key.txt")).unwrap();
    let reader = Age::to([&public]).unwrap().identities(&secret.into(), "key.txt").unwrap();
    (public, Arc::new(reader))
}

#[tokio::test]
async fn age_reads_ours_and_we_read_its() {
    need(&["age", "age-keygen", "zstd", "gzip"]);
    let dir = TempDir::new().unwrap();
    let (public, key) = age_key(dir.path());
    for (compression, tail, read) in all_compressions() {
        let sink = ours(compression, Some(&key)).await;
        let plain = shell(dir.path(), &format!("age -d -i key.txt | {read}"), &stored_bytes(&sink).await);
        assert!(plain == data(), "{compression}");
        let write = read.replace("-dc", "-c");
        for armor in ["", "-a"] {
            let theirs = shell(dir.path(), &format!("{write} | age {armor} -r {public}"), &data());
            let name = format!("shop-20261121-033000.dump.{tail}.age").replace("..", ".");
            assert!(read_theirs(&name, theirs, &key).await == data(), "{compression} {armor}");
        }
    }
}

#[tokio::test]
async fn each_of_several_recipients_reads_ours_alone() {
    need(&["age", "age-keygen", "zstd"]);
    let (one, other) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let (first, second) = (age_key(one.path()).0, age_key(other.path()).0);
    let both: Arc<dyn Encryptor> = Arc::new(Age::to([first, second]).unwrap());
    let sink = ours(Compression::zstd(3), Some(&both)).await;
    for dir in [one, other] {
        assert!(shell(dir.path(), "age -d -i key.txt | zstd -dc", &stored_bytes(&sink).await) == data());
    }
}

#[tokio::test]
async fn ssh_keys_of_both_kinds_work_in_both_directions() {
    need(&["age", "ssh-keygen", "zstd"]);
    for kind in ["ed25519", "rsa -b 2048"] {
        for passphrase in ["", "hunter2hunter2"] {
            let dir = TempDir::new().unwrap();
            shell(dir.path(), &format!("ssh-keygen -q -t {kind} -N '{passphrase}' -C test -f id"), b"");
            let secret = fs::read_to_string(dir.path().join("id")).unwrap();
            let public = fs::read_to_string(dir.path().join("id.pub")).unwrap();
            let key = Age::to([public.trim()]).unwrap();
            if !passphrase.is_empty() {
                let error = key.clone().identities(&secret.clone().into(), "id").unwrap_err();
                assert!(error.message().contains("passphrase"), "{error}");
            }
            let key = key.key_passphrase(passphrase.to_owned().into()).identities(&secret.into(), "id").unwrap();
            let key: Arc<dyn Encryptor> = Arc::new(key);
            let sink = ours(Compression::zstd(3), Some(&key)).await;
            assert!(read_ours(&sink, &key).await == data(), "{kind}");
            // The stock tool would ask for the passphrase on a terminal.
            if passphrase.is_empty() {
                let plain = shell(dir.path(), "age -d -i id | zstd -dc", &stored_bytes(&sink).await);
                assert!(plain == data(), "{kind}");
            }
            let theirs = shell(dir.path(), "zstd -c | age -R id.pub", &data());
            assert!(read_theirs("shop-20261121-033000.dump.zst.age", theirs, &key).await == data(), "{kind}");
        }
    }
}

#[tokio::test]
async fn a_file_with_a_passphrase_is_read_by_age_and_age_s_by_us() {
    need(&["age", "script", "zstd"]);
    let dir = TempDir::new().unwrap();
    let key: Arc<dyn Encryptor> = Arc::new(Age::passphrase("correct horse".to_owned().into()));
    let sink = ours(Compression::zstd(3), Some(&key)).await;
    fs::write(dir.path().join("ours.age"), stored_bytes(&sink).await).unwrap();
    // age reads a passphrase from a terminal only.
    shell(dir.path(), "script -qec 'age -d -o ours.zst ours.age' /dev/null >&2", b"correct horse\n");
    assert!(shell(dir.path(), "zstd -dc ours.zst", b"") == data());
    fs::write(dir.path().join("data"), data()).unwrap();
    shell(dir.path(), "script -qec 'age -p -o theirs.age data' /dev/null >&2", b"correct horse\ncorrect horse\n");
    let theirs = fs::read(dir.path().join("theirs.age")).unwrap();
    assert!(read_theirs("shop-20261121-033000.dump.age", theirs, &key).await == data());
}

#[tokio::test]
async fn openssl_reads_ours_and_we_read_its() {
    need(&["openssl", "zstd", "gzip"]);
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("pass"), "s3cret pässword\n").unwrap();
    let key: Arc<dyn Encryptor> = Arc::new(OpenSsl::passphrase("s3cret pässword".to_owned().into()).unwrap());
    let openssl = "openssl enc -aes-256-cbc -salt -pbkdf2 -iter 100000 -pass file:pass";
    for (compression, tail, read) in all_compressions() {
        let sink = ours(compression, Some(&key)).await;
        let plain = shell(dir.path(), &format!("{openssl} -d | {read}"), &stored_bytes(&sink).await);
        assert!(plain == data(), "{compression}");
        let theirs = shell(dir.path(), &format!("{} | {openssl}", read.replace("-dc", "-c")), &data());
        let name = format!("shop-20261121-033000.dump.{tail}.enc").replace("..", ".");
        assert!(read_theirs(&name, theirs, &key).await == data(), "{compression}");
    }
}

#[tokio::test]
async fn the_private_part_of_a_manifest_is_read_in_one_shell_line_as_its_docs_say() {
    need(&["age", "age-keygen", "zstd", "base64", "jq", "openssl"]);
    let dir = TempDir::new().unwrap();
    let (_, key) = age_key(dir.path());
    let openssl: Arc<dyn Encryptor> = Arc::new(OpenSsl::passphrase("x".to_owned().into()).unwrap());
    let decrypt_openssl = "openssl enc -d -aes-256-cbc -pbkdf2 -iter 100000 -pass pass:x";
    for (key, decrypt) in [(&key, "age -d -i key.txt"), (&openssl, decrypt_openssl)] {
        let sink = ours(Compression::None, Some(key)).await;
        let manifest = sink.bytes(&format!("{}.manifest.json", the_artifact(&sink).await.key())).unwrap();
        let json = shell(dir.path(), &format!("jq -r .private.sealed | base64 -d | {decrypt} | zstd -d"), &manifest);
        let private: lifeboat_core::manifest::Private = serde_json::from_slice(&json).unwrap();
        let read = Manifest::parse(&manifest, "m").unwrap().private(std::slice::from_ref(key)).await.unwrap();
        assert_eq!((&private, private.proof.items[0].name.as_str()), (&read, ITEM));
    }
}

#[tokio::test]
async fn the_recorded_sha256_is_what_sha256sum_prints() {
    let dir = TempDir::new().unwrap();
    let sink = ours(Compression::zstd(3), None).await;
    let key = the_artifact(&sink).await.key();
    let manifest = the_artifact(&sink).await.read_manifest(&sink as &dyn Sink).await.unwrap().unwrap();
    let printed = String::from_utf8(shell(dir.path(), "sha256sum", &sink.bytes(&key).unwrap())).unwrap();
    assert_eq!(printed.split(' ').next().unwrap(), manifest.objects[0].sha256);
}
