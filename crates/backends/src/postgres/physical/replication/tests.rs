//! What a server of a version that is not here says, by script; and what no server should say.

use bytes::{BufMut, BytesMut};
use lifeboat_core::ErrorKind;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::super::wal::{Lsn, Timeline};
use super::client::Scope;
use super::login::{LoggedIn, Socket};
use super::*;

fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    [&[tag], &(body.len() as u32 + 4).to_be_bytes()[..], body].concat()
}

fn row(values: &[Option<&str>]) -> Vec<u8> {
    let mut body = BytesMut::new();
    body.put_u16(values.len() as u16);
    for value in values {
        match value {
            Some(text) => {
                body.put_i32(text.len() as i32);
                body.put_slice(text.as_bytes());
            }
            None => body.put_i32(-1),
        }
    }
    message(b'D', &body)
}

fn error(code: &str, text: &str) -> Vec<u8> {
    message(b'E', format!("SERROR\0VERROR\0C{code}\0M{text}\0\0").as_bytes())
}

fn begin() -> Vec<u8> {
    message(b'T', &[0, 0])
}

fn complete() -> Vec<u8> {
    message(b'C', b"SELECT\0")
}

fn ready() -> Vec<u8> {
    message(b'Z', b"I")
}

fn data(bytes: &[u8]) -> Vec<u8> {
    message(b'd', bytes)
}

fn copy(tag: u8) -> Vec<u8> {
    message(tag, &[0, 0, 0])
}

/// A client of a server of this version that answers with all of this.
fn client(major: u32, said: &[Vec<u8>]) -> (ReplicationClient, DuplexStream) {
    let (near, far) = tokio::io::duplex(1 << 20);
    let version = format!("{major}.1");
    let logged_in = LoggedIn { io: Socket::new(near), major, version, scope: Scope::Database, encrypted: false };
    let mut client = ReplicationClient::new(logged_in, "postgres://u@h:5432/d".to_owned()).unwrap();
    client.wire.received(&said.concat());
    (client, far)
}

/// What the client has asked.
async fn asked(far: &mut DuplexStream) -> String {
    let mut bytes = vec![0; 4_096];
    let length = far.read(&mut bytes).await.unwrap();
    String::from_utf8_lossy(&bytes[5..length - 1]).into_owned()
}

async fn all(
    client: &mut ReplicationClient,
    options: &BaseBackupOptions,
) -> Result<Vec<BackupItem>, lifeboat_core::Error> {
    let mut backup = client.base_backup(options).await?;
    let mut items = Vec::new();
    while let Some(item) = backup.next().await? {
        items.push(item);
    }
    Ok(items)
}

/// The answers before the first copy, with one tablespace beside the main one.
fn prelude() -> Vec<Vec<u8>> {
    vec![
        begin(),
        row(&[Some("0/2000028"), Some("1")]),
        complete(),
        begin(),
        row(&[Some("16931"), Some("/space"), Some("7")]),
        row(&[None, None, Some("9")]),
        complete(),
    ]
}

fn epilogue() -> Vec<Vec<u8>> {
    vec![begin(), row(&[Some("0/2000100"), Some("1")]), complete(), complete(), ready()]
}

fn archive(name: &str, tablespace: Option<u32>) -> BackupItem {
    BackupItem::Archive { name: name.to_owned(), tablespace }
}

fn end() -> BackupItem {
    BackupItem::End { position: Lsn(0x200_0100), timeline: Timeline::FIRST }
}

fn bytes(bytes: &'static [u8]) -> BackupItem {
    BackupItem::Data(bytes::Bytes::from_static(bytes))
}

#[tokio::test]
async fn a_backup_of_an_old_server_is_the_same_as_that_of_a_new_one() {
    let old = [
        vec![copy(b'H'), data(b"there"), copy(b'c'), copy(b'H'), data(b"here"), copy(b'c')],
        vec![copy(b'H'), data(b"{}"), copy(b'c')],
    ];
    let (mut old, _far) = client(14, &[prelude(), old.concat(), epilogue()].concat());
    let options = BaseBackupOptions { label: "it's".to_owned(), ..BaseBackupOptions::default() };
    let zeros = || bytes(&[0; 1024]);
    let items = all(&mut old, &options).await.unwrap();
    let expected = [
        archive("16931.tar", Some(16_931)),
        bytes(b"there"),
        zeros(),
        archive("base.tar", None),
        bytes(b"here"),
        zeros(),
        BackupItem::Manifest,
        bytes(b"{}"),
        end(),
    ];
    assert_eq!(items, expected);

    let new = vec![
        copy(b'H'),
        data(b"n16931.tar\0/space\0"),
        data(b"dthere"),
        data(&[b'p', 0, 0, 0, 0, 0, 0, 1, 0]),
        data(b"nbase.tar\0\0"),
        data(b"dhere"),
        data(b"m"),
        data(b"d{}"),
        copy(b'c'),
    ];
    let (mut new, _far) = client(15, &[prelude(), new, epilogue()].concat());
    let items = all(&mut new, &options).await.unwrap();
    let expected = [
        archive("16931.tar", Some(16_931)),
        bytes(b"there"),
        BackupItem::Progress(256),
        archive("base.tar", None),
        bytes(b"here"),
        BackupItem::Manifest,
        bytes(b"{}"),
        end(),
    ];
    assert_eq!(items, expected);
}

#[tokio::test]
async fn each_version_is_asked_in_its_own_grammar() {
    for (major, wanted) in [
        (
            14,
            "BASE_BACKUP LABEL 'it''s' PROGRESS FAST NOWAIT MAX_RATE 1000 TABLESPACE_MAP NOVERIFY_CHECKSUMS MANIFEST 'yes' MANIFEST_CHECKSUMS 'CRC32C'",
        ),
        (
            18,
            "BASE_BACKUP (LABEL 'it''s', TARGET 'client', PROGRESS true, CHECKPOINT 'fast', WAIT false, WAL false, MAX_RATE 1000, TABLESPACE_MAP true, VERIFY_CHECKSUMS false, MANIFEST 'yes', MANIFEST_CHECKSUMS 'CRC32C')",
        ),
    ] {
        let options = BaseBackupOptions {
            label: "it's".to_owned(),
            max_rate: Some(1_000),
            verify_checksums: false,
            ..BaseBackupOptions::default()
        };
        let (mut client, mut far) = client(major, &[]);
        let asking = async { client.base_backup(&options).await.unwrap_err() };
        let answering = async {
            let asked = asked(&mut far).await;
            far.write_all(&[error("42601", "syntax error at or near \"hunter2\""), ready()].concat()).await.unwrap();
            asked
        };
        let (refused, asked) = tokio::join!(asking, answering);
        assert_eq!(asked, wanted);
        assert_eq!(refused.kind(), ErrorKind::Unsupported);
        assert!(!format!("{refused} {refused:?}").contains("hunter2"), "{refused}");
    }
}

#[tokio::test]
async fn a_backup_that_ends_early_is_an_error() {
    let copies = [
        // One archive too few, one too many, no manifest, another archive, data before an archive.
        vec![copy(b'H'), data(b"n16931.tar\0/space\0"), data(b"m"), copy(b'c')],
        vec![copy(b'H'), data(b"n16931.tar\0\0"), data(b"nbase.tar\0\0"), data(b"nbase.tar\0\0"), copy(b'c')],
        vec![copy(b'H'), data(b"n16931.tar\0\0"), data(b"nbase.tar\0\0"), copy(b'c')],
        vec![copy(b'H'), data(b"nbase.tar\0\0"), data(b"n16931.tar\0\0"), data(b"m"), copy(b'c')],
        vec![copy(b'H'), data(b"dx"), copy(b'c')],
        vec![copy(b'H'), copy(b'c')],
        vec![copy(b'H'), copy(b'H')],
    ];
    for copies in copies {
        let (mut client, _far) = client(16, &[prelude(), copies, epilogue()].concat());
        let error = all(&mut client, &BaseBackupOptions::default()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    }
    // Complete, and no end was said.
    let copies = vec![copy(b'H'), data(b"n16931.tar\0\0"), data(b"nbase.tar\0\0"), data(b"m"), copy(b'c'), ready()];
    let (mut client, _far) = client(16, &[prelude(), copies].concat());
    let error = all(&mut client, &BaseBackupOptions::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
}

#[tokio::test]
async fn other_versions_are_refused_with_a_reason() {
    for (major, reason) in [(12, "before 13"), (19, "not known here")] {
        let (near, _far) = tokio::io::duplex(64);
        let version = format!("{major}.3");
        let logged_in = LoggedIn {
            io: Socket::new(near),
            major,
            version: version.clone(),
            scope: Scope::Database,
            encrypted: true,
        };
        let error = ReplicationClient::new(logged_in, "s".to_owned()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.message().contains(reason) && error.message().contains(&version), "{error}");
    }
}

#[tokio::test]
async fn identities_and_slots_are_read_as_each_version_writes_them() {
    let identity = [begin(), row(&[Some("7574000000000000001"), Some("3"), Some("A/BC"), None]), complete(), ready()];
    let (mut client, _far) = client(13, &identity);
    let found = client.identify().await.unwrap();
    assert_eq!(
        (found.system, found.timeline.number(), found.position),
        (7_574_000_000_000_000_001, 3, Lsn(0xA_0000_00BC))
    );
    client.wire.received(&[begin(), row(&[Some("logical"), Some("0/1"), None]), complete(), ready()].concat());
    let slot = "s".parse().unwrap();
    assert_eq!(client.slot(&slot).await.unwrap_err().kind(), ErrorKind::Refused);
    // Before 15 a slot that is not there gives no row.
    client.wire.received(&[begin(), complete(), ready()].concat());
    assert_eq!(client.slot(&slot).await.unwrap(), None);
    client.wire.received(&[begin(), row(&[Some("physical"), Some("0/1"), None]), complete(), ready()].concat());
    assert_eq!(client.slot(&slot).await.unwrap(), Some(Slot { restart: Some(Lsn(1)), timeline: None }));
    client.wire.received(&[begin(), row(&[Some("x"), Some("0"), Some("0/0"), None]), complete(), ready()].concat());
    assert_eq!(client.identify().await.unwrap_err().kind(), ErrorKind::Corrupt);
}

fn log(start: u64, bytes: &[u8]) -> Vec<u8> {
    data(&[b"w", &start.to_be_bytes()[..], &[0; 16], bytes].concat())
}

#[tokio::test]
async fn a_hole_in_the_stream_is_an_error() {
    let said = [copy(b'W'), log(100, b"abc"), log(103, b"d"), log(105, b"x")];
    let (mut client, _far) = client(17, &said);
    let started = client.start_replication(None, Lsn(100), Timeline::FIRST, Lsn::ZERO).await.unwrap();
    let Started::Streaming(mut stream) = started else { panic!("{started:?}") };
    for end in [103, 104] {
        assert!(
            matches!(stream.next().await.unwrap(), Received::Data(data) if data.start.0 + data.bytes.len() as u64 == end)
        );
        assert_eq!(stream.position(), Lsn(end));
    }
    let error = stream.next().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.message().contains("goes on at 0/69, not at 0/68"), "{error}");
}

#[tokio::test]
async fn a_fatal_error_is_told_although_the_connection_ends() {
    let fatal = message(b'E', b"SFATAL\0VFATAL\0C57P01\0Mterminating connection due to administrator command\0\0");
    let (mut client, far) = client(15, &[copy(b'W'), fatal]);
    drop(far);
    let started = client.start_replication(None, Lsn(100), Timeline::FIRST, Lsn::ZERO).await.unwrap();
    let Started::Streaming(mut stream) = started else { panic!("{started:?}") };
    let error = stream.next().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.message().contains("administrator command"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_silent_server_is_asked_and_then_given_up() {
    let (mut client, mut far) = client(15, &[copy(b'W')]);
    let started = client.start_replication(None, Lsn(100), Timeline::FIRST, Lsn(90)).await.unwrap();
    let Started::Streaming(mut stream) = started else { panic!("{started:?}") };
    let error = stream.next().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.message().contains("nothing for 50 s"), "{error}");
    drop(client);
    let mut said = Vec::new();
    far.read_to_end(&mut said).await.unwrap();
    // The command, what was durable before, and after ten seconds the question whether it is there.
    let command = 5 + "START_REPLICATION PHYSICAL 0/64 TIMELINE 1".len() + 1;
    let replies: Vec<&[u8]> = said[command..].chunks(39).collect();
    assert_eq!(replies.len(), 2, "{replies:?}");
    assert!(
        replies.iter().all(|reply| reply[..6] == [b'd', 0, 0, 0, 38, b'r'] && reply[14..22] == 90u64.to_be_bytes())
    );
    assert_eq!((replies[0][38], replies[1][38]), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn who_was_away_for_long_still_gets_what_came_meanwhile() {
    let (mut client, mut far) = client(15, &[copy(b'W')]);
    let started = client.start_replication(None, Lsn(100), Timeline::FIRST, Lsn::ZERO).await.unwrap();
    let Started::Streaming(mut stream) = started else { panic!("{started:?}") };
    tokio::time::sleep(std::time::Duration::from_secs(600)).await;
    far.write_all(&log(100, b"abc")).await.unwrap();
    assert!(matches!(stream.next().await.unwrap(), Received::Data(data) if data.bytes == b"abc"[..]));
    // Nothing was there, and nobody had asked: the server gets its time to answer.
    tokio::time::sleep(std::time::Duration::from_secs(600)).await;
    let answer = async {
        tokio::time::sleep(std::time::Duration::from_secs(40)).await;
        far.write_all(&log(103, b"d")).await.unwrap();
    };
    let (received, ()) = tokio::join!(stream.next(), answer);
    assert!(matches!(received.unwrap(), Received::Data(data) if data.bytes == b"d"[..]));
    // One that is ended, and does not say so, does not make it spin.
    let error = stream.finish().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_asks_without_end_is_answered_ten_times_a_second() {
    let alive = data(&[b"k", &[0; 16][..], &[1]].concat());
    let (mut client, mut far) = client(15, &[copy(b'W')]);
    let started = client.start_replication(None, Lsn(100), Timeline::FIRST, Lsn::ZERO).await.unwrap();
    let Started::Streaming(mut stream) = started else { panic!("{started:?}") };
    let server = tokio::spawn(async move {
        let mut said = vec![0; 1 << 16];
        // The command.
        let _ = far.read(&mut said).await.unwrap();
        let mut replies = 0;
        // As a server does that waits for what is not flushed.
        loop {
            let sent = far.write_all(&alive).await;
            match far.read(&mut said).await {
                Ok(length) if sent.is_ok() && length > 0 => replies += length / 39,
                _ => return replies,
            }
        }
    });
    let limit = std::time::Duration::from_secs(5);
    let _ = tokio::time::timeout(limit, async { while stream.next().await.is_ok() {} }).await;
    drop(client);
    let replies = server.await.unwrap();
    assert!((45..=51).contains(&replies), "{replies} replies in five seconds");
}
