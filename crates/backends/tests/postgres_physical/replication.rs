//! The replication protocol with a real server, as a role that can do nothing else.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use lifeboat_backends::postgres::Connection;
use lifeboat_backends::postgres::physical::replication::{
    BackupItem, BaseBackupOptions, Ended, Keepalive, Received, Refusal, ReplicationClient, Scope, SlotName, Started,
    TimelineSwitch, WalStream,
};
use lifeboat_backends::postgres::physical::wal::{Lsn, Timeline, TimelineHistory};
use lifeboat_backends::postgres::physical::walker::{Event, EventKind, Walker};
use lifeboat_core::{Error, ErrorKind, Result};
use lifeboat_testkit::postgres::{Server, programs, psql};

use crate::tls;

const ROLE: &str = "CREATE ROLE rep LOGIN REPLICATION PASSWORD 'hunter2'";

/// A server with segments of 1 MB, and a role that can only replicate.
fn server() -> Server {
    let server = Server::start_as(&["--wal-segsize=1", "--data-checksums"], |folder| {
        std::fs::create_dir(folder.join("space")).unwrap();
        ["autovacuum=off", "max_wal_senders=6", "max_replication_slots=2", "wal_sender_timeout=5s"]
            .map(str::to_owned)
            .to_vec()
    });
    psql(&server.url, ROLE);
    server
}

fn url(server: &Server, password: &str) -> String {
    let (_, place) = server.url.split_once('@').unwrap();
    format!("postgres://rep:{password}@{place}")
}

fn connection(server: &Server, password: &str) -> Connection {
    Connection::parse(&url(server, password).into()).unwrap()
}

async fn client(server: &Server) -> ReplicationClient {
    ReplicationClient::connect(&connection(server, "hunter2")).await.unwrap()
}

fn slot(name: &str) -> SlotName {
    name.parse().unwrap()
}

fn refusal<T>(result: Result<T>) -> Refusal {
    let error = result.err().expect("the server refuses it");
    assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
    Refusal::of(&error).unwrap_or_else(|| panic!("{error:?}")).clone()
}

fn streaming(started: Result<Started<'_>>) -> WalStream<'_> {
    match started.unwrap() {
        Started::Streaming(stream) => stream,
        Started::Ended(switch) => panic!("{switch:?}"),
    }
}

/// Why nothing comes of a stream: some refusals come only when it has begun.
async fn refused_start(started: Result<Started<'_>>) -> Refusal {
    match started {
        Ok(Started::Streaming(mut stream)) => refusal(stream.next().await),
        other => refusal(other),
    }
}

fn position(server: &Server) -> Lsn {
    psql(&server.url, "SELECT pg_current_wal_flush_lsn()").trim().parse().unwrap()
}

/// What a stream brings, checked as it comes.
struct Receiver {
    walker: Walker,
    events: Vec<Event>,
    keepalives: Vec<Keepalive>,
}

impl Receiver {
    async fn new(client: &mut ReplicationClient, timeline: Timeline, from: Lsn) -> Self {
        let size = client.segment_size().await.unwrap();
        let system = client.identify().await.unwrap().system;
        let walker = Walker::new(timeline, size, from).of_system(system);
        Self { walker, events: Vec::new(), keepalives: Vec::new() }
    }

    /// Takes what comes next. `None` if it was no end.
    async fn take(&mut self, stream: &mut WalStream<'_>) -> Result<Option<Ended>> {
        match stream.next().await? {
            Received::Data(data) => {
                assert_eq!(data.start, self.walker.position());
                assert!(data.bytes.len() <= 128 << 10);
                self.walker.push(&data.bytes, &mut self.events).unwrap();
            }
            Received::Keepalive(keepalive) => self.keepalives.push(keepalive),
            Received::Ended(ended) => return Ok(Some(ended)),
        }
        Ok(None)
    }

    async fn up_to(&mut self, stream: &mut WalStream<'_>, position: Lsn) {
        while self.walker.position() < position {
            assert_eq!(self.take(stream).await.unwrap(), None);
        }
    }
}

async fn commands(server: &Server) {
    let mut client = client(server).await;
    assert_eq!((client.major(), client.scope(), client.is_encrypted()), (15, Scope::Database, false));
    let identity = client.identify().await.unwrap();
    assert_eq!((identity.timeline, identity.database.as_deref()), (Timeline::FIRST, Some("postgres")));
    let system = psql(&server.url, "SELECT system_identifier FROM pg_control_system()");
    assert_eq!(identity.system.to_string(), system.trim());
    assert_eq!(client.segment_size().await.unwrap().bytes(), 1 << 20);
    assert_eq!(client.show("data_directory_mode").await.unwrap(), "0700");
    assert_eq!(refusal(client.show("no_such_setting").await), Refusal::Other("42704".to_owned()));
    assert_eq!(client.show("x; DROP TABLE t").await.unwrap_err().kind(), ErrorKind::Config);
    assert_eq!(refusal(client.timeline_history(Timeline::FIRST).await), Refusal::NoHistory);

    assert_eq!(client.slot(&slot("one")).await.unwrap(), None);
    client.create_slot(&slot("one")).await.unwrap();
    let found = client.slot(&slot("one")).await.unwrap().unwrap();
    assert!(found.restart.is_some_and(|restart| restart <= identity.position), "{found:?}");
    assert_eq!(refusal(client.create_slot(&slot("one")).await), Refusal::SlotExists);
    client.create_slot(&slot("two")).await.unwrap();
    assert_eq!(refusal(client.create_slot(&slot("three")).await), Refusal::NoSlotLeft);
    client.drop_slot(&slot("two"), true).await.unwrap();
    assert_eq!(refusal(client.drop_slot(&slot("two"), false).await), Refusal::NoSuchSlot);
    psql(&server.url, "SELECT pg_create_physical_replication_slot('two')");
    let kept = client.slot(&slot("two")).await.unwrap().unwrap();
    assert_eq!((kept.restart, kept.timeline), (None, None), "nobody has received from it");
    client.drop_slot(&slot("two"), false).await.unwrap();
    for wrong in ["", "One", "a-b", "a\"b", &"x".repeat(64)] {
        assert!(wrong.parse::<SlotName>().is_err(), "{wrong}");
    }

    // A command that was dropped before its answer: it waits until nobody receives from the slot.
    client.create_slot(&slot("two")).await.unwrap();
    let mut other = self::client(server).await;
    let held =
        streaming(other.start_replication(Some(&slot("two")), identity.position, Timeline::FIRST, Lsn::ZERO).await);
    let dropped = tokio::time::timeout(Duration::from_millis(100), client.drop_slot(&slot("two"), true)).await;
    assert!(dropped.is_err());
    assert_eq!(client.identify().await.unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(held.finish().await.unwrap(), Ended::Finished);
    client.close().await;
}

async fn refused_logins(server: &Server) {
    let error = ReplicationClient::connect(&connection(server, "hunter3")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Permission);
    assert!(error.message().contains("password"), "{error}");
    psql(&server.url, "CREATE ROLE plain LOGIN PASSWORD 'hunter2'");
    let plain = connection(server, "hunter2").redacted().replace("rep@", "plain:hunter2@");
    let plain = Connection::parse(&plain.into()).unwrap();
    let error = ReplicationClient::connect(&plain).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Permission);
    assert!(error.advice().unwrap().contains("REPLICATION"), "{error:?}");
    assert!(!format!("{error:?}").contains("hunter2"));
}

async fn streams(server: &Server) {
    let (slot, one) = (slot("one"), Timeline::FIRST);
    let mut client = client(server).await;
    let size = client.segment_size().await.unwrap();
    let kept = client.slot(&slot).await.unwrap().unwrap().restart.unwrap();
    let from = kept.segment_start(size);
    let mut received = Receiver::new(&mut client, one, from).await;
    let mut stream = streaming(client.start_replication(Some(&slot), from, one, kept).await);
    assert!(stream.confirm(kept, Lsn(kept.0 + (64 << 20))).is_err(), "what nobody has is not confirmed");

    // The slot is a mutex.
    let mut other = self::client(server).await;
    let error = other.start_replication(Some(&slot), from, one, kept).await.unwrap_err();
    assert_eq!((Refusal::of(&error), error.kind()), (Some(&Refusal::SlotBusy), ErrorKind::Unavailable));
    assert!(error.is_transient() && error.message().contains("active for PID"), "{error}");

    // Any role can write the sign of life; it comes back with its transaction.
    psql(&server.url, "CREATE TABLE t AS SELECT i, repeat('x', 500) FROM generate_series(1, 5000) i");
    psql(&url(server, "hunter2"), "SELECT pg_logical_emit_message(true, 'lifeboat', 'nonce 1')");
    let end = position(server);
    // A stream that is often dropped while it waits loses nothing.
    while received.walker.position() < end {
        let taken = tokio::time::timeout(Duration::from_micros(200), received.take(&mut stream)).await;
        assert!(matches!(taken, Err(_) | Ok(Ok(None))), "{taken:?}");
    }
    let nonce =
        |event: &Event| matches!(&event.kind, EventKind::Message(m) if m.content.as_deref() == Some(b"nonce 1"));
    assert!(received.events.iter().any(nonce));
    assert_eq!(received.walker.verified(), Some(end));

    // What is confirmed is what the slot keeps the log from.
    stream.confirm(end, end).unwrap();
    let begun = Instant::now();
    let restart = "SELECT restart_lsn FROM pg_replication_slots WHERE slot_name = 'one'";
    while psql(&server.url, restart).trim() != end.to_string() {
        assert!(begun.elapsed() < Duration::from_secs(20));
        let _ = tokio::time::timeout(Duration::from_millis(50), received.take(&mut stream)).await;
    }
    assert_eq!(stream.finish().await.unwrap(), Ended::Finished);
    // The connection goes on, and so does the slot.
    assert_eq!(client.slot(&slot).await.unwrap().unwrap().restart, Some(end));

    // Refusals before and after the stream has begun leave the connection as it was.
    let ahead = Lsn(end.0 + (64 << 20));
    let started = client.start_replication(None, ahead, one, Lsn::ZERO).await;
    assert_eq!(refused_start(started).await, Refusal::Position);
    let seven = Timeline::new(7).unwrap();
    assert_eq!(refusal(client.start_replication(None, from, seven, Lsn::ZERO).await), Refusal::Position);
    assert_eq!(
        refusal(client.start_replication(Some(&self::slot("no")), from, one, Lsn::ZERO).await),
        Refusal::NoSuchSlot
    );
    // The first segment went while the cluster was made.
    let mut stream = streaming(client.start_replication(None, Lsn(1 << 20), one, Lsn::ZERO).await);
    let error = stream.next().await.unwrap_err();
    assert_eq!((Refusal::of(&error), error.kind()), (Some(&Refusal::LogGone), ErrorKind::NotFound));
    client.identify().await.unwrap();
}

/// The parts of a base backup, by name; what came beside them; and the error at its end.
struct Taken {
    start: Lsn,
    end: Option<Lsn>,
    parts: BTreeMap<String, Vec<u8>>,
    warnings: Vec<String>,
    error: Option<Error>,
}

async fn take(client: &mut ReplicationClient, options: &BaseBackupOptions) -> Taken {
    let mut backup = client.base_backup(options).await.unwrap();
    let mut taken =
        Taken { start: backup.start(), end: None, parts: BTreeMap::new(), warnings: Vec::new(), error: None };
    let mut now = String::new();
    loop {
        match backup.next().await {
            Ok(Some(BackupItem::Archive { name, tablespace })) => {
                assert_eq!(tablespace.is_none(), name == "base.tar");
                now = name;
            }
            Ok(Some(BackupItem::Manifest)) => now = "backup_manifest".to_owned(),
            Ok(Some(BackupItem::Data(bytes))) => taken.parts.entry(now.clone()).or_default().extend(bytes),
            Ok(Some(BackupItem::Warning(warning))) => taken.warnings.push(warning.message),
            Ok(Some(BackupItem::End { position, .. })) => taken.end = Some(position),
            Ok(Some(BackupItem::Progress(_))) => {}
            Ok(None) => return taken,
            Err(error) => {
                taken.error = Some(error);
                return taken;
            }
        }
    }
}

fn run(program: &mut Command) {
    let output = program.output().unwrap();
    assert!(output.status.success(), "{program:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Lays the files of a backup out in a folder, as the server has them.
fn extract(taken: &Taken, data: &Path) {
    for (name, bytes) in &taken.parts {
        if name == "backup_manifest" {
            std::fs::write(data.join(name), bytes).unwrap();
            continue;
        }
        let folder = match name.strip_suffix(".tar") {
            Some("base") => data.to_owned(),
            number => data.join("pg_tblspc").join(number.unwrap()),
        };
        std::fs::create_dir_all(&folder).unwrap();
        let archive = data.with_extension(name);
        std::fs::write(&archive, bytes).unwrap();
        run(Command::new("tar").arg("-xf").arg(&archive).arg("-C").arg(&folder));
    }
}

async fn base_backups(server: &Server) {
    let space = server.folder().join("space");
    psql(&server.url, &format!("CREATE TABLESPACE space LOCATION '{}'", space.display()));
    psql(
        &server.url,
        "CREATE TABLE there TABLESPACE space AS SELECT i, repeat('y', 300) FROM generate_series(1, 5000) i",
    );
    let mut client = client(server).await;
    let options = BaseBackupOptions { label: "it's ours".to_owned(), ..BaseBackupOptions::default() };
    let taken = take(&mut client, &options).await;
    assert!(taken.error.is_none() && taken.warnings.is_empty(), "{:?} {:?}", taken.error, taken.warnings);
    assert!(taken.end.unwrap() > taken.start);
    assert_eq!(taken.parts.len(), 3);
    // The server's own programs find every file as the manifest says.
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    std::fs::create_dir(&data).unwrap();
    extract(&taken, &data);
    run(Command::new(programs().join("pg_verifybackup")).arg("--no-parse-wal").arg(&data));
    let label = std::fs::read_to_string(data.join("backup_label")).unwrap();
    assert!(label.contains("LABEL: it's ours"), "{label}");

    // Pages that are damaged: all of it comes, and then it is an error.
    psql(&server.url, "CHECKPOINT");
    let path = psql(&server.url, "SELECT pg_relation_filepath('t')");
    let path = server.folder().join("data").join(path.trim());
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[8_192 * 3 + 4_000] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    let taken = take(&mut client, &BaseBackupOptions::default()).await;
    let error = taken.error.unwrap();
    assert_eq!((Refusal::of(&error), error.kind()), (Some(&Refusal::DamagedPages), ErrorKind::Corrupt));
    assert!(taken.end.is_some() && taken.parts.len() == 3);
    assert!(taken.warnings.iter().any(|warning| warning.contains("block 3")), "{:?}", taken.warnings);
    bytes[8_192 * 3 + 4_000] ^= 1;
    std::fs::write(&path, &bytes).unwrap();

    // The connection is still good; options that no server takes are told before it is asked.
    let wrong = BaseBackupOptions { max_rate: Some(1), ..BaseBackupOptions::default() };
    assert_eq!(client.base_backup(&wrong).await.unwrap_err().kind(), ErrorKind::Config);
    let bare =
        BaseBackupOptions { manifest: false, verify_checksums: false, fast: true, ..BaseBackupOptions::default() };
    let taken = take(&mut client, &bare).await;
    assert!(taken.error.is_none() && !taken.parts.contains_key("backup_manifest"));
}

/// A planned stop waits until all is flushed here. While it is not, neither side keeps the other busy.
async fn shutdown(mut server: Server) {
    let mut client = client(&server).await;
    let size = client.segment_size().await.unwrap();
    let from = position(&server).segment_start(size);
    let mut received = Receiver::new(&mut client, Timeline::FIRST, from).await;
    let mut stream = streaming(client.start_replication(Some(&slot("one")), from, Timeline::FIRST, Lsn::ZERO).await);
    received.up_to(&mut stream, position(&server)).await;
    server.shut_down();
    let stalled = tokio::time::timeout(Duration::from_millis(1_500), async {
        loop {
            assert_eq!(received.take(&mut stream).await.unwrap(), None, "it waits for what is not flushed");
        }
    });
    assert!(stalled.await.is_err());
    let asked = received.keepalives.iter().filter(|keepalive| keepalive.wants_reply).count();
    assert!((1..40).contains(&asked), "{asked} signs of life");
    let last = received.events.last().unwrap();
    assert!(matches!(&last.kind, EventKind::Checkpoint(checkpoint) if checkpoint.shutdown), "{last:?}");
    let ended = loop {
        stream.confirm(stream.position(), stream.position()).unwrap();
        if let Some(ended) = received.take(&mut stream).await.unwrap() {
            break ended;
        }
    };
    assert_eq!(ended, Ended::Shutdown);
    assert_eq!(stream.next().await.unwrap_err().kind(), ErrorKind::Internal);
    let begun = Instant::now();
    server.ended();
    assert!(begun.elapsed() < Duration::from_secs(10));
    assert_eq!(client.identify().await.unwrap_err().kind(), ErrorKind::Unavailable);
    let error = ReplicationClient::connect(&connection(&server, "hunter2")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_can_only_replicate_gets_all_there_is() {
    let server = server();
    commands(&server).await;
    refused_logins(&server).await;
    streams(&server).await;
    base_backups(&server).await;
    shutdown(server).await;
}

/// A slot that held more of the log than the server allows is lost: it keeps nothing, and nothing can be received from it.
async fn lost_slot(server: &Server) {
    let (mut client, lost) = (client(server).await, slot("lost"));
    client.create_slot(&lost).await.unwrap();
    let kept = client.slot(&lost).await.unwrap().unwrap().restart.unwrap();
    psql(&server.url, "ALTER SYSTEM SET max_slot_wal_keep_size = '1MB'");
    psql(&server.url, "SELECT pg_reload_conf()");
    let begun = Instant::now();
    while client.slot(&lost).await.unwrap().unwrap().restart.is_some() {
        assert!(begun.elapsed() < Duration::from_secs(30));
        psql(&server.url, "SELECT pg_logical_emit_message(false, 'app', repeat('x', 3000000))");
        psql(&server.url, "CHECKPOINT");
    }
    let started = client.start_replication(Some(&lost), kept, Timeline::FIRST, Lsn::ZERO).await;
    assert_eq!(refused_start(started).await, Refusal::LogGone);
    client.drop_slot(&lost, false).await.unwrap();
}

/// Promotes the server on which the stream is, and follows it to the next timeline.
async fn promoted(server: &Server, client: &mut ReplicationClient, timeline: Timeline) -> (TimelineSwitch, Vec<Event>) {
    let size = client.segment_size().await.unwrap();
    let from = client.identify().await.unwrap().position.segment_start(size);
    let mut received = Receiver::new(client, timeline, from).await;
    let mut stream = streaming(client.start_replication(None, from, timeline, Lsn::ZERO).await);
    psql(&server.url, "SELECT pg_promote()");
    let switch = loop {
        match received.take(&mut stream).await.unwrap() {
            Some(Ended::Timeline(switch)) => break switch,
            Some(other) => panic!("{other:?}"),
            None => {}
        }
    };
    assert!(switch.start <= received.walker.position());
    // The connection goes on with the history, and the new timeline from the start of the segment.
    let file = client.timeline_history(switch.next).await.unwrap();
    assert_eq!(file.name, format!("{:08X}.history", switch.next.number()));
    let history = TimelineHistory::parse(switch.next, &file.content).unwrap();
    let parent = history.parent().unwrap();
    assert_eq!((parent.timeline, parent.end), (timeline, switch.start));
    assert_eq!(history.next_after(timeline), Some(switch.next));
    // At the end of the old one there is nothing more of it.
    let started = client.start_replication(None, switch.start, timeline, Lsn::ZERO).await.unwrap();
    assert!(matches!(started, Started::Ended(ended) if ended == switch), "{started:?}");
    psql(&server.url, "SELECT pg_logical_emit_message(true, 'lifeboat', 'after')");
    let from = switch.start.segment_start(size);
    let mut received = Receiver::new(client, switch.next, from).await;
    let mut stream = streaming(client.start_replication(None, from, switch.next, Lsn::ZERO).await);
    received.up_to(&mut stream, position(server)).await;
    assert_eq!(stream.finish().await.unwrap(), Ended::Finished);
    (switch, received.events)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_follows_two_promotions_whose_numbers_are_not_the_next() {
    let primary = server();
    let taken = take(&mut client(&primary).await, &BaseBackupOptions::default()).await;
    let (_, password) = primary.url.split_once("postgres:").unwrap().1.split_once(':').unwrap();
    let password = password.split('@').next().unwrap().to_owned();
    // A standby of the primary, made of our own backup.
    let (_, place) = primary.url.split_once('@').unwrap();
    let source = format!("primary_conninfo=postgres://rep:hunter2@{place}");
    let settings = ["autovacuum=off", &source, "recovery_target_timeline=current", "wal_keep_size=100MB"];
    let fill = |data: &Path| {
        extract(&taken, data);
        std::fs::write(data.join("standby.signal"), "").unwrap();
    };
    let mut standby = Server::over(&password, fill, &settings);
    psql(&primary.url, "CREATE TABLE t AS SELECT generate_series(1, 1000)");
    let mut client = self::client(&standby).await;
    let (first, events) = promoted(&standby, &mut client, Timeline::FIRST).await;
    assert_eq!(first.next.number(), 2);
    let began = |events: &[Event], number: u32, before: u32| {
        let found = |event: &Event| match &event.kind {
            EventKind::EndOfRecovery { timeline, previous, .. } => (*timeline, *previous) == (number, before),
            EventKind::Checkpoint(c) => (c.timeline, c.previous) == (number, before),
            _ => false,
        };
        assert!(events.iter().any(found), "{events:?}");
        assert!(
            events.iter().any(|e| matches!(&e.kind, EventKind::Message(m) if m.content.as_deref() == Some(b"after")))
        );
    };
    began(&events, 2, 1);
    client.close().await;

    // Somebody else has taken the third number.
    standby.shut_down();
    standby.ended();
    let log = standby.folder().join("data/pg_wal");
    let taken = format!("1\t{}\tx\n2\t{}\tx\n", first.start, Lsn(first.start.0 + (1 << 30)));
    std::fs::write(log.join("00000003.history"), taken).unwrap();
    std::fs::write(standby.folder().join("data/standby.signal"), "").unwrap();
    standby.launch();
    let mut client = self::client(&standby).await;
    assert_eq!(client.identify().await.unwrap().timeline, first.next);
    let (second, events) = promoted(&standby, &mut client, first.next).await;
    assert_eq!(second.next.number(), 4);
    began(&events, 4, 2);
    lost_slot(&primary).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_and_a_server_that_admits_only_replication() {
    let server = tls::server();
    psql(&server.url, ROLE);
    let to = |host: &str, more: &str| {
        let (_, place) = server.url.split_once("@127.0.0.1").unwrap();
        let root = server.folder().join("ca.pem");
        let url = format!("postgres://rep:hunter2@{host}{place}?sslrootcert={}{more}", root.display());
        Connection::parse(&url.into()).unwrap()
    };
    // Bound to the connection, as every other session is.
    let mut client =
        ReplicationClient::connect(&to("127.0.0.1", "&sslmode=require&channel_binding=require")).await.unwrap();
    assert!(client.is_encrypted());
    client.identify().await.unwrap();
    assert!(!ReplicationClient::connect(&to("127.0.0.1", "&sslmode=disable")).await.unwrap().is_encrypted());
    // The first host does not answer, the second one is the primary.
    let hosts = to("127.0.0.1:1,127.0.0.1", "&sslmode=require&target_session_attrs=primary");
    assert!(ReplicationClient::connect(&hosts).await.unwrap().is_encrypted());
    let error = ReplicationClient::connect(&to("127.0.0.1", "&target_session_attrs=standby")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    let lines = "host postgres postgres all scram-sha-256\nhostssl replication rep all scram-sha-256\n";
    std::fs::write(server.folder().join("hba.conf"), lines).unwrap();
    psql(&server.url, "SELECT pg_reload_conf()");
    let begun = Instant::now();
    let mut client = loop {
        let client = ReplicationClient::connect(&to("127.0.0.1", "&sslmode=require")).await.unwrap();
        match client.scope() {
            Scope::Physical => break client,
            Scope::Database => assert!(begun.elapsed() < Duration::from_secs(10)),
        }
    };
    assert_eq!(client.identify().await.unwrap().database, None);
    assert_eq!(client.slot(&slot("none")).await.unwrap(), None);
    let error = ReplicationClient::connect(&to("127.0.0.1", "&sslmode=disable")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Permission);
    assert!(!format!("{error} {error:?}").contains("hunter2"));
}
