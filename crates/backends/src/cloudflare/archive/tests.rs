use lifeboat_core::{ErrorKind, Tap};
use proptest::prelude::*;
use serde_json::json;

use super::*;

const ZONE: &str =
    r#"{"success":true,"result":{"id":"z","name":"Example.org","settings":[{"id":"ssl","value":"full"}]}}"#;
const LIST: &str = r#"{"success":true,"result":[{"type":"A","name":"a.example.org","content":"192.0.2.1","ttl":1},
    {"type":"A","name":"b.example.org","content":"192.0.2.2","ttl":1},{"type":"TXT","name":"example.org","content":"\"x\"","ttl":1}]}"#;

fn archive(members: &[(&str, &str)]) -> Vec<u8> {
    write(members.iter().map(|(name, content)| (*name, content.as_bytes()))).unwrap()
}

fn read_in(bytes: &[u8], size: usize) -> lifeboat_core::Result<Content> {
    let mut tap = ZoneTap::new();
    for chunk in bytes.chunks(size) {
        tap.push(chunk)?;
    }
    tap.content()
}

fn sample() -> Vec<u8> {
    archive(&[
        (RECORDS, LIST),
        ("dnssec.json", "{}"),
        (SETTINGS, ZONE),
        (EXPORT, ";; x\na.example.org. 1 IN A 192.0.2.1\n"),
    ])
}

#[test]
fn an_archive_says_records_settings_and_zone() {
    let content = read_in(&sample(), 4096).unwrap();
    assert_eq!(content.zone_name().as_deref(), Some("example.org"));
    assert_eq!(content.breakdown().into_iter().collect::<Vec<_>>(), [("A", 2), ("TXT", 1)]);
    assert_eq!(content.settings, [json!({"id": "ssl", "value": "full"})]);
    let proof = content.proof();
    let short: Vec<(&str, &str, u64)> =
        proof.items.iter().map(|i| (i.kind.as_str(), i.name.as_str(), i.count)).collect();
    assert_eq!(
        short,
        [
            ("record", "A", 2),
            ("record", "TXT", 1),
            ("setting", SETTINGS, 1),
            ("line", EXPORT, 1),
            ("file", "dnssec.json", 1)
        ]
    );
}

#[test]
fn archives_of_scripts_are_read_whatever_shape_they_have() {
    let record = |name: &str| format!(r#"{{"type":"A","name":"{name}","content":"192.0.2.1"}}"#);
    let (a, b) = (record("a.example.org"), record("b.example.org"));
    for records in [
        format!("[{a},{b}]"),
        format!(r#"{{"result":[{a}],"success":true}}{{"result":[{b}],"success":true}}"#),
        format!("[[{a}],[{b}]]"),
        format!("[{a}]\n[{b}]\n"),
    ] {
        let content = read_in(&archive(&[("dns-backup-1/all_records.json", &records)]), 512).unwrap();
        assert_eq!(content.records.len(), 2, "{records}");
        assert_eq!(content.zone_name(), None);
    }
    for (settings, count) in
        [(r#"{"success":true,"result":[{"id":"ssl","value":"off"}]}"#, 1), (r#"{"result":{"name":"example.org"}}"#, 0)]
    {
        let content = read_in(&archive(&[(RECORDS, "[]"), (SETTINGS, settings)]), 512).unwrap();
        assert_eq!(content.settings.len(), count);
    }
    let soa = "example.org. 3600 IN SOA ada.ns.cloudflare.com. dns.cloudflare.com. 1 2 3 4 5\n";
    assert_eq!(read_in(&archive(&[(RECORDS, "[]"), (EXPORT, soa)]), 512).unwrap().zone_name().unwrap(), "example.org");
}

#[test]
fn what_is_no_backup_of_a_zone_is_refused_with_the_file_that_is_wrong() {
    for (members, says) in [
        (&[("x.json", "{}")][..], "all_records.json in the archive: it is not in"),
        (&[(RECORDS, "")], "all_records.json in the archive: it is empty"),
        (&[(RECORDS, "{}")], "not a list of records"),
        (&[(RECORDS, "[{}]")], "record 1 has no type"),
        (&[(RECORDS, "[1]")], "record 1 has no type"),
        (&[(RECORDS, r#"{"success":false,"errors":[{"code":10000}],"result":null}"#)], "an API error"),
        (&[(RECORDS, "[]"), (SETTINGS, "3")], "zone_settings.json in the archive"),
        (&[(RECORDS, "[]"), ("dnssec.json", "{")], "dnssec.json in the archive: it is not JSON"),
        (&[(RECORDS, "[]"), ("x/all_records.json", "[]")], "all_records.json in the archive: it is there twice"),
    ] {
        let error = read_in(&archive(members), 100).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        assert!(error.to_string().contains(says), "{error}");
    }
}

#[test]
fn an_archive_that_breaks_off_or_goes_on_is_refused() {
    let whole = sample();
    for cut in [0, 1, 511, 512, 700, whole.len() - 1024, whole.len() - 512, whole.len() - 1] {
        assert_eq!(read_in(&whole[..cut], 512).unwrap_err().kind(), ErrorKind::Corrupt, "{cut}");
    }
    let mut more = whole.clone();
    more.extend([0; 8192]);
    read_in(&more, 1000).unwrap();
    more.push(1);
    assert_eq!(read_in(&more, 1000).unwrap_err().kind(), ErrorKind::Corrupt);
    let mut flipped = whole;
    flipped[3] ^= 1;
    assert!(read_in(&flipped, 1000).unwrap_err().message().contains("a header's checksum is wrong"));
}

#[test]
fn absurd_sizes_are_refused_before_anything_is_kept() {
    let mut large = archive(&[(RECORDS, "[]")]);
    // A size of 8 GiB less one, and the sum that goes with it.
    large[124..135].copy_from_slice(b"77777777777");
    large[148..156].copy_from_slice(b"        ");
    let sum: u32 = large[..512].iter().map(|b| u32::from(*b)).sum();
    large[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    assert!(read_in(&large, 512).unwrap_err().message().contains("no zone's backup"));
}

#[test]
fn tar_reads_what_is_written_here_and_the_other_way_round() {
    use std::io::Write;
    use std::process::{Command, Stdio};
    let folder = tempfile::tempdir().unwrap();
    let mut child = Command::new("tar").arg("-xf").arg("-").current_dir(&folder).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(&sample()).unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!(std::fs::read_to_string(folder.path().join(RECORDS)).unwrap(), LIST);
    let ours = read_in(&sample(), 4096).unwrap().proof();
    for format in ["gnu", "posix", "ustar"] {
        let inner = folder.path().join("d".repeat(90));
        std::fs::create_dir_all(&inner).unwrap();
        for name in [RECORDS, SETTINGS, EXPORT, "dnssec.json"] {
            std::fs::copy(folder.path().join(name), inner.join(name)).unwrap();
        }
        let output = Command::new("tar")
            .arg(format!("--format={format}"))
            .arg("-cf")
            .arg("-")
            .arg("-C")
            .arg(folder.path())
            .arg("d".repeat(90))
            .output()
            .unwrap();
        assert!(output.status.success());
        assert_eq!(read_in(&output.stdout, 777).unwrap().proof(), ours, "{format}");
    }
}

/// The inputs of the fuzzer, replayed.
#[test]
fn the_corpus_is_read_or_refused_however_it_is_cut() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/corpus/zone");
    let mut seen = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        let whole = read_in(&bytes, bytes.len().max(1)).map(|c| c.proof()).map_err(|e| e.kind());
        for size in [1, 7, 512, 513] {
            assert_eq!(read_in(&bytes, size).map(|c| c.proof()).map_err(|e| e.kind()), whole);
        }
        seen += 1;
    }
    assert!(seen >= 5, "{seen}");
}

proptest! {
    #[test]
    fn chunk_borders_mean_nothing(size in 1usize..3000) {
        let bytes = sample();
        prop_assert_eq!(read_in(&bytes, size).unwrap().proof(), read_in(&bytes, bytes.len()).unwrap().proof());
    }

    #[test]
    fn damaged_archives_are_refused_or_read_and_never_panic(at in 0usize..8000, byte: u8, cut in 0usize..8000) {
        let mut bytes = sample();
        let length = bytes.len();
        bytes[at % length] = byte;
        let _ = read_in(&bytes[..cut % (length + 1)], 512);
        let _ = read_in(&bytes, 512);
    }
}
