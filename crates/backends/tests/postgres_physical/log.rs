//! The walk over a server's log finds what `pg_waldump` finds.

use std::path::Path;
use std::process::Command;

use lifeboat_backends::postgres::physical::wal::{Lsn, SegmentName, SegmentSize, Timeline};
use lifeboat_backends::postgres::physical::walker::{Event, EventKind, Transaction, Walker};
use lifeboat_testkit::postgres::{Server, programs, psql};

fn size() -> SegmentSize {
    "1MB".parse().unwrap()
}

/// All that the walk tells apart, with records that cross pages and segments.
const LOAD: &str = "
    CREATE TABLE t AS SELECT i, repeat('x', i % 900) AS x FROM generate_series(1, 4000) i;
    CREATE INDEX ON t (i);
    BEGIN; INSERT INTO t VALUES (1); SAVEPOINT a; INSERT INTO t VALUES (2); SAVEPOINT b; INSERT INTO t VALUES (3); COMMIT;
    BEGIN; INSERT INTO t VALUES (1); SAVEPOINT a; INSERT INTO t VALUES (2); ROLLBACK;
    BEGIN; CREATE TABLE gone (i int); INSERT INTO gone VALUES (1); ROLLBACK;
    CREATE TABLE dropped (i int PRIMARY KEY, x text);
    INSERT INTO dropped SELECT i, repeat('y', 100) FROM generate_series(1, 100) i;
    TRUNCATE dropped;
    DROP TABLE dropped;
    SELECT pg_create_restore_point('deploy 17');
    BEGIN; CREATE TABLE p (i int); SAVEPOINT a; INSERT INTO p VALUES (1); PREPARE TRANSACTION 'one';
    COMMIT PREPARED 'one';
    BEGIN; DROP TABLE p; PREPARE TRANSACTION 'two';
    ROLLBACK PREPARED 'two';
    BEGIN; TRUNCATE p; PREPARE TRANSACTION 'three';
    COMMIT PREPARED 'three';
    SELECT pg_switch_wal();
    SELECT pg_logical_emit_message(true, 'lifeboat', 'nonce');
    SELECT pg_logical_emit_message(false, 'app', repeat('z', 1200000));
    CREATE DATABASE other;
    DROP DATABASE other;
    CHECKPOINT;
    UPDATE t SET i = -i;
    DELETE FROM t WHERE i % 3 = 0;
    SELECT pg_create_restore_point('the end');
    SELECT pg_switch_wal();
    SELECT pg_switch_wal();
    INSERT INTO t VALUES (5);
";

fn loaded() -> Server {
    let server = Server::start_as(&["--wal-segsize=1"], |_| {
        let settings =
            ["autovacuum=off", "wal_keep_size=1GB", "max_prepared_transactions=9", "bgwriter_lru_maxpages=0"];
        settings.map(str::to_owned).to_vec()
    });
    for statement in LOAD.lines().map(str::trim).filter(|line| !line.is_empty()) {
        psql(&server.url, statement);
    }
    server
}

/// A log from the oldest segment that the server has up to where it is written by now.
struct Log {
    start: Lsn,
    bytes: Vec<u8>,
}

impl Log {
    fn of(server: &Server) -> Self {
        let end: Lsn = psql(&server.url, "SELECT pg_current_wal_lsn()").trim().parse().unwrap();
        let folder = server.folder().join("data/pg_wal");
        let names = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut name: SegmentName = names.filter_map(|name| name.parse().ok()).min().unwrap();
        let start = name.start(size()).unwrap();
        let mut bytes = Vec::new();
        while name.start(size()).unwrap() < end {
            bytes.extend(std::fs::read(folder.join(name.to_string())).unwrap());
            name = name.next(size()).unwrap();
        }
        bytes.truncate(end.since(start).unwrap() as usize);
        Self { start, bytes }
    }

    fn end(&self) -> Lsn {
        Lsn(self.start.0 + self.bytes.len() as u64)
    }

    /// Walks over the log from so many bytes on, in pieces.
    fn walk(&self, from: usize, pieces: usize) -> (Walker, Vec<Event>) {
        let mut walker = Walker::new(Timeline::FIRST, size(), Lsn(self.start.0 + from as u64));
        let mut events = Vec::new();
        for piece in self.bytes[from..].chunks(pieces) {
            walker.push(piece, &mut events).unwrap();
        }
        (walker, events)
    }
}

/// What `pg_waldump` says: all records of the log, each in a line.
fn waldump(folder: &Path, log: &Log) -> Vec<String> {
    let output = Command::new(programs().join("pg_waldump"))
        .arg("-p")
        .arg(folder.join("data/pg_wal"))
        .args(["-s", &log.start.to_string(), "-e", &log.end().to_string()])
        .env("TZ", "UTC")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().filter(|line| line.starts_with("rmgr: ")).map(str::to_owned).collect()
}

fn between<'a>(line: &'a str, from: &str, to: &str) -> &'a str {
    let rest = line.split_once(from).unwrap_or_else(|| panic!("{from} in {line}")).1;
    rest.split_once(to).map_or(rest, |(found, _)| found).trim()
}

/// A list after its name in a description, such as `; rels: base/5/16384 base/5/16385`.
fn list(description: &str, name: &str) -> Vec<String> {
    let Some((_, rest)) = description.split_once(name) else { return Vec::new() };
    rest.split(';').next().unwrap().split_whitespace().map(str::to_owned).collect()
}

/// One of its lines as [`told`] tells the event. `None` for records that are not told.
fn expected(line: &str) -> Option<String> {
    let manager = between(line, "rmgr: ", "len");
    let xid = between(line, "tx:", ",");
    let lsn: Lsn = between(line, "lsn: ", ",").parse().unwrap();
    let (kind, rest) = line.split_once("desc: ").unwrap().1.split_once(' ').unwrap();
    let said = match (manager, kind) {
        ("Transaction", "COMMIT" | "ABORT" | "COMMIT_PREPARED" | "ABORT_PREPARED") => {
            let (xid, rest) = match kind.ends_with("PREPARED") {
                true => rest.split_once(": ").unwrap(),
                false => (xid, rest),
            };
            let time = rest.split(" UTC").next().unwrap();
            let (files, subtransactions) = (list(rest, "; rels:"), list(rest, "; subxacts:"));
            format!("{kind} {xid} {time} files {files:?} subtransactions {subtransactions:?}")
        }
        ("XLOG", "RESTORE_POINT") => format!("{kind} {}", rest.trim()),
        ("XLOG", "SWITCH") => kind.to_owned(),
        ("XLOG", "CHECKPOINT_SHUTDOWN" | "CHECKPOINT_ONLINE") => {
            let redo: Lsn = between(rest, "redo ", ";").parse().unwrap();
            format!(
                "{kind} redo {redo} timeline {} before {}",
                between(rest, "tli ", ";"),
                between(rest, "prev tli ", ";")
            )
        }
        ("Database", "DROP") => format!("{kind} {xid} {}", rest.trim().rsplit('/').next().unwrap()),
        ("LogicalMessage", "MESSAGE") => {
            format!("{kind} {xid} {} {}", rest.split(',').next().unwrap(), between(rest, "prefix \"", "\""))
        }
        _ => return None,
    };
    Some(format!("{lsn} {said}"))
}

fn told(event: &Event) -> String {
    let transaction = |kind: &str, t: &Transaction| {
        assert!(!t.incomplete);
        let files: Vec<String> = t.relations.iter().map(|r| format!("base/{}/{}", r.database, r.file)).collect();
        let subtransactions: Vec<String> = t.subtransactions.iter().map(u32::to_string).collect();
        let time = t.time.timestamp().unwrap().strftime("%Y-%m-%d %H:%M:%S.%6f");
        let prepared = if t.prepared { "_PREPARED" } else { "" };
        format!("{kind}{prepared} {} {time} files {files:?} subtransactions {subtransactions:?}", t.xid)
    };
    let said = match &event.kind {
        EventKind::Commit(t) => transaction("COMMIT", t),
        EventKind::Abort(t) => transaction("ABORT", t),
        EventKind::RestorePoint { name, .. } => format!("RESTORE_POINT {name}"),
        EventKind::Switch => "SWITCH".to_owned(),
        EventKind::Checkpoint(c) => {
            let kind = if c.shutdown { "SHUTDOWN" } else { "ONLINE" };
            format!("CHECKPOINT_{kind} redo {} timeline {} before {}", c.redo, c.timeline, c.previous)
        }
        EventKind::DatabaseDropped { xid, database } => format!("DROP {xid} {database}"),
        EventKind::Message(m) => {
            let kind = if m.transactional { "transactional" } else { "non-transactional" };
            assert_eq!(m.content.as_deref(), (m.prefix == "lifeboat").then_some(&b"nonce"[..]));
            format!("MESSAGE {} {kind} {}", m.xid, m.prefix)
        }
        other => panic!("{other:?}"),
    };
    format!("{} {said}", event.start)
}

#[test]
fn the_walk_finds_what_pg_waldump_finds() {
    let server = loaded();
    let log = Log::of(&server);
    let (walker, events) = log.walk(0, usize::MAX);
    assert_eq!((walker.major(), walker.verified(), walker.is_between_records()), (Some(15), Some(log.end()), true));
    let system = psql(&server.url, "SELECT system_identifier FROM pg_control_system()");
    assert_eq!(walker.system().unwrap().to_string(), system.trim());
    let lines = waldump(server.folder(), &log);
    assert_eq!(walker.records(), lines.len() as u64);
    let told: Vec<String> = events.iter().map(told).collect();
    assert_eq!(told, lines.iter().filter_map(|line| expected(line)).collect::<Vec<_>>());
    // The load has all of it.
    for kind in [
        "COMMIT ",
        "ABORT ",
        "COMMIT_PREPARED ",
        "ABORT_PREPARED ",
        "RESTORE_POINT deploy 17",
        "SWITCH",
        "DROP ",
        "CHECKPOINT_ONLINE ",
        "CHECKPOINT_SHUTDOWN ",
        "MESSAGE ",
        "files [\"base",
        "subtransactions [\"",
    ] {
        assert!(told.iter().any(|line| line.contains(kind)), "{kind}");
    }
    // However it is cut, and from any segment on.
    for piece in [1_009, 8_192, 100_003] {
        assert_eq!(log.walk(0, piece).1, events);
    }
    for from in (0..log.bytes.len()).step_by(1 << 20) {
        let start = Lsn(log.start.0 + from as u64);
        let (walker, later) = log.walk(from, usize::MAX);
        assert_eq!(walker.verified(), Some(log.end()));
        assert!(events.ends_with(&later) && later.iter().all(|event| event.start >= start));
        let before = &events[..events.len() - later.len()];
        assert!(before.iter().all(|event| event.start < start), "from {start}");
    }
}

#[test]
#[ignore = "writes the seeds into the repository"]
fn seeds() {
    let server = loaded();
    let log = Log::of(&server);
    let (_, events) = log.walk(0, usize::MAX);
    let seed = |name: &str, size: u8, bytes: &[u8]| {
        let path = format!("{}/../../fuzz/corpus/wal/{name}", env!("CARGO_MANIFEST_DIR"));
        std::fs::create_dir_all(Path::new(&path).parent().unwrap()).unwrap();
        std::fs::write(path, [&[size], bytes].concat()).unwrap();
    };
    let at = |lsn: Lsn| lsn.since(log.start).unwrap() as usize;
    // Pages with drops, a restore point, prepared transactions; the end of a segment that was switched; and one cut within a
    // record, behind which there are zeros.
    let point = events.iter().find(|event| matches!(event.kind, EventKind::RestorePoint { .. })).unwrap();
    let page = at(point.start) / 8_192 * 8_192;
    seed("postgres-15", 200, &log.bytes[page..page + 3 * 8_192]);
    let switch = events.iter().filter(|event| matches!(event.kind, EventKind::Switch)).nth(1).unwrap();
    let page = at(switch.start) / 8_192 * 8_192;
    seed("switch", 64, &log.bytes[page..page + 2 * 8_192]);
    seed("cut", 7, &log.bytes[at(point.start) / 8_192 * 8_192..at(point.end) + 20]);
    let mut zeros = log.bytes[at(point.start) / 8_192 * 8_192..at(point.end)].to_vec();
    zeros.resize(8_192 * 2, 0);
    seed("end", 1, &zeros);
    seed("names", 1, b"000000010000000100000072.00000028.backup");
    seed("history", 3, b"1\t0/3000148\tno recovery target specified\n\n2\t0/5000060\tat restore point \"a\"\n");
}
