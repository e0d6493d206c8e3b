//! What records say, laid out by hand as each version does.

use super::super::super::wal::PgTime;
use super::super::record::manager::{DATABASE, MESSAGE, XACT, XLOG};
use super::*;

/// Numbers of 32 bits.
fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

fn only(log: &Log) -> EventKind {
    let mut walked = log.walk();
    assert_eq!((walked.end, walked.records, walked.events.len()), (None, 1, 1));
    walked.events.remove(0).kind
}

fn transaction(xid: u32) -> Transaction {
    Transaction {
        xid,
        time: PgTime(5),
        prepared: false,
        database: None,
        subtransactions: Vec::new(),
        relations: Vec::new(),
        incomplete: false,
    }
}

/// A file of a relation.
fn file(file: u32) -> RelationFile {
    RelationFile { tablespace: 1663, database: 5, file }
}

/// All parts: database, two subtransactions, two files, one dropped statistic of this many words, invalidations, a prepared
/// transaction with its name, an origin.
fn all_parts(statistic: usize, is_commit: bool) -> Vec<u8> {
    let which = 0x1 | 0x2 | 0x4 | 0x10 | 0x20 | 0x80 | 0x100 | if is_commit { 0x8 } else { 0 };
    let mut main = words(&[5, 0, which, 5, 1663, 2, 901, 902, 2, 1663, 5, 70, 1663, 5, 71, 1]);
    main.extend(words(&vec![0xEEEE; statistic]));
    if is_commit {
        main.extend(words(&[2]));
        main.extend([0xEE; 32]);
    }
    main.extend(words(&[900]));
    main.extend(b"name\0");
    main.extend([7; 16]);
    main
}

#[test]
fn transactions_are_read_with_all_their_parts() {
    for (magic, statistic) in [(0xD110, 3), (0xD113, 3), (0xD116, 3), (0xD118, 4)] {
        for (info, is_commit) in [(0xB0, true), (0xC0, false)] {
            let mut log = Log::new();
            log.magic = magic;
            log.short(XACT, info, 0, &all_parts(statistic, is_commit));
            let expected = Transaction {
                prepared: true,
                database: Some(5),
                subtransactions: vec![901, 902],
                relations: vec![file(70), file(71)],
                ..transaction(900)
            };
            let expected = if is_commit { EventKind::Commit(expected) } else { EventKind::Abort(expected) };
            assert_eq!(only(&log), expected, "{magic:x} {info:x}");
        }
    }
}

#[test]
fn a_plain_transaction_has_only_its_time() {
    let mut log = Log::new();
    log.short(XACT, 0x00, 900, &5i64.to_le_bytes());
    assert_eq!(only(&log), EventKind::Commit(transaction(900)));
    // With an origin, and the transaction at the top, before the main data.
    let mut log = Log::new();
    log.record(XACT, 0x20, 900, &[&[253, 1, 0, 252, 1, 0, 0, 0, 255, 8], &5i64.to_le_bytes()[..]].concat());
    assert_eq!(only(&log), EventKind::Abort(transaction(900)));
}

#[test]
fn a_transaction_with_more_files_than_are_kept_says_so() {
    let files = 100_000u32;
    let mut main = words(&[5, 0, 0x4, files]);
    for at in 0..files {
        main.extend(words(&[1663, 5, at]));
    }
    let mut log = Log::new();
    log.long(XACT, 0x80, 900, &main);
    let EventKind::Commit(found) = only(&log) else { panic!("it is a commit") };
    assert!(found.incomplete && found.relations.len() > 80_000 && found.relations.len() < 90_000);
    assert_eq!((found.xid, found.relations[80_000]), (900, file(80_000)));
    // Not one that is kept as a whole.
    let mut log = Log::new();
    log.long(XACT, 0x80, 900, &main[..16 + 12 * 100_000 - 400_000]);
    assert_eq!(only(&log), EventKind::Unread { manager: XACT, info: 0x80 });
}

#[test]
fn what_the_server_says_of_itself_is_read() {
    let mut log = Log::new();
    let mut name = [0; 64];
    name[..6].copy_from_slice(b"deploy");
    log.short(XLOG, 0x70, 0, &[&5i64.to_le_bytes()[..], &name].concat());
    let mut checkpoint = [0x00EE_EEEE, 0, 3, 2].map(u32::to_le_bytes).concat();
    checkpoint.extend([0; 48]);
    checkpoint.extend(1_800_000_000i64.to_le_bytes());
    checkpoint.extend([0; 16]);
    log.short(XLOG, 0x00, 0, &checkpoint);
    log.short(XLOG, 0x10, 0, &checkpoint);
    log.short(XLOG, 0x90, 0, &words(&[5, 0, 3, 1]));
    log.short(XLOG, 0x50, 0, &words(&[0x28, 1]));
    log.short(DATABASE, 0x20, 900, &words(&[16_384, 1, 1663]));
    // Another one's, images of pages, and a database that was made.
    log.short(XLOG, 0x30, 0, &words(&[1]));
    log.record(XLOG, 0xB0, 0, &[0; 60]);
    log.short(DATABASE, 0x10, 900, &words(&[16_384, 1663]));
    let kinds: Vec<EventKind> = log.walk().events.into_iter().map(|event| event.kind).collect();
    let point = |shutdown| {
        let redo = Lsn(0x00EE_EEEE);
        EventKind::Checkpoint(Checkpoint { shutdown, redo, timeline: 3, previous: 2, time: 1_800_000_000 })
    };
    assert_eq!(
        kinds,
        [
            EventKind::RestorePoint { name: "deploy".to_owned(), time: PgTime(5) },
            point(true),
            point(false),
            EventKind::EndOfRecovery { time: PgTime(5), timeline: 3, previous: 1 },
            EventKind::BackupEnd { from: Lsn(0x1_0000_0028) },
            EventKind::DatabaseDropped { xid: 900, database: 16_384 },
        ]
    );
    let mut old = Log::new();
    old.magic = 0xD10D;
    old.short(DATABASE, 0x10, 900, &words(&[16_384, 1, 1663]));
    assert_eq!(only(&old), EventKind::DatabaseDropped { xid: 900, database: 16_384 });
}

#[test]
fn of_messages_only_our_own_are_kept() {
    let message = |prefix: &[u8], content: &[u8]| {
        let mut main = words(&[5, 1, prefix.len() as u32 + 1, 0, content.len() as u32, 0]);
        main.extend(prefix);
        main.push(0);
        main.extend(content);
        let mut log = Log::new();
        log.long(MESSAGE, 0, 900, &main);
        only(&log)
    };
    let expected = |prefix: &str, content: Option<&[u8]>| {
        let (prefix, content) = (prefix.to_owned(), content.map(<[u8]>::to_vec));
        EventKind::Message(Message { xid: 900, transactional: true, prefix, content })
    };
    assert_eq!(message(b"lifeboat", b"nonce"), expected("lifeboat", Some(b"nonce")));
    assert_eq!(message(b"app", b"secret"), expected("app", None));
    assert_eq!(message(b"lifeboat", &[0; 5_000]), expected("lifeboat", None));
    assert_eq!(message(&[b'x'; 9_000], &[0; 5_000]), expected(&"x".repeat(1_024), None));
}

#[test]
fn what_is_laid_out_otherwise_is_told_and_no_end() {
    for (manager, info, main) in [(XACT, 0x00, 4), (XACT, 0x80, 8), (XLOG, 0x70, 8), (XLOG, 0x10, 64), (MESSAGE, 0, 30)]
    {
        let mut log = Log::new();
        // A list that says it is longer than all there is.
        log.short(manager, info, 900, &vec![0xFF; main]);
        assert_eq!(only(&log), EventKind::Unread { manager, info }, "{manager} {info:x}");
    }
    let mut log = Log::new();
    // A page, and main data that is not as long as it says.
    log.record(XACT, 0x00, 900, &[0; 40]);
    log.record(XACT, 0x00, 900, &[255, 9, 0, 0, 0, 0, 0, 0, 0, 0]);
    let unread = |event: &Event| matches!(event.kind, EventKind::Unread { .. });
    assert_eq!(log.walk().events.iter().filter(|event| unread(event)).count(), 2);
}

proptest! {
    /// A checksum says that the server wrote it, and not that it is laid out as it is read here.
    #[test]
    fn any_content_is_read_or_told_as_unread(
        manager in prop::sample::select(vec![XLOG, XACT, DATABASE, MESSAGE]),
        info: u8,
        magic in prop::sample::select(vec![0xD106u16, 0xD10D, 0xD110, 0xD113, 0xD116, 0xD118]),
        parts in prop::collection::vec(prop_oneof![0..6u32, Just(0x1FF), Just(u32::MAX), any::<u32>()], 0..40),
        is_short: bool,
    ) {
        let mut log = Log::new();
        log.magic = magic;
        match is_short {
            true => log.short(manager, info, 900, &words(&parts)),
            false => log.record(manager, info, 900, &words(&parts)),
        };
        let walked = log.walk();
        prop_assert_eq!((walked.end, walked.records), (None, 1));
        prop_assert!(walked.events.len() <= 1);
    }
}
