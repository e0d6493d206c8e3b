//! What the records say that are read.
//!
//! Layouts, little-endian and the same from 13 to 18 but where the table says otherwise:
//!
//! | record | main data | source |
//! |---|---|---|
//! | commit, abort | i64 time; with flag `80` u32 which parts follow, in this order: database and tablespace; subtransactions; files of relations; statistics (from 15, of 12 bytes each, from 18 of 16); invalidations (commit only); u32 prepared transaction | `access/xact.h` |
//! | checkpoint | u64 redo, u32 timeline, u32 previous one, … , i64 time at 64 | `catalog/pg_control.h` |
//! | restore point | i64 time, 64 bytes of name | `access/xlog_internal.h` |
//! | end of recovery | i64 time, u32 timeline, u32 previous one | `access/xlog_internal.h` |
//! | backup end | u64 start | `access/xlog.h` |
//! | overwritten record | u64 position, i64 time | `access/xlog_internal.h` |
//! | database dropped | u32 database (flag `10`, from 15 `20`) | `commands/dbcommands_xlog.h` |
//! | logical message | u32 database, u8 transactional, u64 length of prefix with its NUL at 8, u64 length of content, both of them at 24 | `replication/message.h` |

use super::super::wal::{Lsn, PgTime};
use super::event::{Checkpoint, EventKind, Message, OWN_PREFIX, RelationFile, Transaction};
use super::record::{RecordHeader, manager};

/// The most that is kept of a message's prefix or content.
const MESSAGE: usize = 1 << 10;

/// Parts of a transaction's record (`XACT_XINFO_…`).
mod part {
    pub(super) const DATABASE: u32 = 1;
    pub(super) const SUBTRANSACTIONS: u32 = 1 << 1;
    pub(super) const RELATIONS: u32 = 1 << 2;
    pub(super) const INVALIDATIONS: u32 = 1 << 3;
    pub(super) const PREPARED: u32 = 1 << 4;
    pub(super) const STATISTICS: u32 = 1 << 8;
}

/// What a record says whose checksum is right. `body` is what was kept of that which follows the header. `None` for a record that
/// is of no interest.
pub(super) fn read(header: &RecordHeader, body: &[u8], is_whole: bool, major: u32) -> Option<EventKind> {
    let unread = || EventKind::Unread { manager: header.manager, info: header.info };
    let (op, has_parts) = match header.manager {
        manager::XACT => (header.info & 0x70, header.info & 0x80 != 0),
        _ => (header.info & 0xF0, false),
    };
    let read: fn(&mut Main<'_>, &RecordHeader) -> Option<EventKind> = match (header.manager, op) {
        (manager::XACT, 0x00 | 0x20 | 0x30 | 0x40) => {
            let read = main_data(body, is_whole).and_then(|main| transaction(main, header, op, has_parts, major));
            return Some(read.unwrap_or_else(unread));
        }
        (manager::XLOG, 0x00 | 0x10) => checkpoint,
        (manager::XLOG, 0x40) => return Some(EventKind::Switch),
        (manager::XLOG, 0x50) => |main, _| Some(EventKind::BackupEnd { from: Lsn(main.u64()?) }),
        (manager::XLOG, 0x70) => restore_point,
        (manager::XLOG, 0x90) => |main, _| {
            Some(EventKind::EndOfRecovery { time: main.time()?, timeline: main.u32()?, previous: main.u32()? })
        },
        (manager::XLOG, 0xD0) => |main, _| Some(EventKind::Overwritten { at: Lsn(main.u64()?), time: main.time()? }),
        (manager::DATABASE, drop) if drop == if major < 15 { 0x10 } else { 0x20 } => {
            |main, header| Some(EventKind::DatabaseDropped { xid: header.xid, database: main.u32()? })
        }
        (manager::MESSAGE, 0x00) => message,
        _ => return None,
    };
    Some(main_data(body, is_whole).and_then(|mut main| read(&mut main, header)).unwrap_or_else(unread))
}

/// The main data of a record that refers to no page: behind the headers of its parts (`xlogrecord.h`, `XLR_BLOCK_ID_…`).
fn main_data(body: &[u8], is_whole: bool) -> Option<Main<'_>> {
    let mut main = Main { rest: body, is_whole };
    loop {
        let length = match main.take(1)?[0] {
            // The origin and the transaction at the top.
            253 => {
                main.take(2)?;
                continue;
            }
            252 => {
                main.take(4)?;
                continue;
            }
            255 => usize::from(main.take(1)?[0]),
            254 => main.u32()? as usize,
            // A page.
            _ => return None,
        };
        return (!is_whole || main.rest.len() == length).then_some(main);
    }
}

/// What is left of the main data.
struct Main<'a> {
    rest: &'a [u8],
    /// Whether it was kept to its end.
    is_whole: bool,
}

impl<'a> Main<'a> {
    fn take(&mut self, bytes: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(bytes)?;
        self.rest = rest;
        Some(taken)
    }

    fn u32(&mut self) -> Option<u32> {
        Some(super::page::u32_at(self.take(4)?, 0))
    }

    fn u64(&mut self) -> Option<u64> {
        Some(super::page::u64_at(self.take(8)?, 0))
    }

    fn time(&mut self) -> Option<PgTime> {
        Some(PgTime(self.u64()?.cast_signed()))
    }

    /// A list with its length before it, of which as much is read as was kept.
    fn list<T>(&mut self, size: usize, into: &mut Vec<T>, mut read: impl FnMut(&mut Self) -> Option<T>) -> Option<()> {
        let count = self.u32()? as usize;
        let there = count.min(self.rest.len() / size);
        for _ in 0..there {
            into.push(read(self)?);
        }
        (there == count).then_some(())
    }

    /// Passes over such a list.
    fn pass(&mut self, size: usize) -> Option<()> {
        let count = self.u32()? as usize;
        self.take(count.checked_mul(size)?).map(|_| ())
    }
}

fn transaction(mut main: Main<'_>, header: &RecordHeader, op: u8, has_parts: bool, major: u32) -> Option<EventKind> {
    let prepared = matches!(op, 0x30 | 0x40);
    let mut found = Transaction {
        xid: if prepared { 0 } else { header.xid },
        time: main.time()?,
        prepared,
        database: None,
        subtransactions: Vec::new(),
        relations: Vec::new(),
        incomplete: false,
    };
    let committed = matches!(op, 0x00 | 0x30);
    if has_parts && parts(&mut main, &mut found, committed, major).is_none() {
        if main.is_whole {
            return None;
        }
        found.incomplete = true;
    }
    Some(if committed { EventKind::Commit(found) } else { EventKind::Abort(found) })
}

/// `ParseCommitRecord` and `ParseAbortRecord` in `src/backend/access/rmgrdesc/xactdesc.c`.
fn parts(main: &mut Main<'_>, found: &mut Transaction, committed: bool, major: u32) -> Option<()> {
    let which = main.u32()?;
    let has = |part| which & part != 0;
    if has(part::DATABASE) {
        found.database = Some(main.u32()?);
        main.u32()?;
    }
    if has(part::SUBTRANSACTIONS) {
        main.list(4, &mut found.subtransactions, Main::u32)?;
    }
    if has(part::RELATIONS) {
        main.list(12, &mut found.relations, |main| {
            Some(RelationFile { tablespace: main.u32()?, database: main.u32()?, file: main.u32()? })
        })?;
    }
    if has(part::STATISTICS) {
        main.pass(if major < 18 { 12 } else { 16 })?;
    }
    if committed && has(part::INVALIDATIONS) {
        main.pass(16)?;
    }
    if has(part::PREPARED) {
        found.xid = main.u32()?;
    }
    Some(())
}

fn checkpoint(main: &mut Main<'_>, header: &RecordHeader) -> Option<EventKind> {
    let (redo, timeline, previous) = (Lsn(main.u64()?), main.u32()?, main.u32()?);
    main.take(48)?;
    let shutdown = header.info & 0xF0 == 0x00;
    Some(EventKind::Checkpoint(Checkpoint { shutdown, redo, timeline, previous, time: main.u64()?.cast_signed() }))
}

fn restore_point(main: &mut Main<'_>, _: &RecordHeader) -> Option<EventKind> {
    let time = main.time()?;
    Some(EventKind::RestorePoint { name: text(main.take(64)?), time })
}

fn message(main: &mut Main<'_>, header: &RecordHeader) -> Option<EventKind> {
    main.u32()?;
    let transactional = main.take(4)?[0] != 0;
    let (prefix, content) = (main.u64()?, main.u64()?);
    if main.is_whole && prefix.checked_add(content)? != main.rest.len() as u64 {
        return None;
    }
    let prefix = usize::try_from(prefix).ok()?;
    let shown = text(main.rest.get(..prefix.min(MESSAGE).min(main.rest.len()))?);
    let own = shown == OWN_PREFIX && content <= MESSAGE as u64;
    let content = match own {
        true => {
            main.take(prefix)?;
            Some(main.take(usize::try_from(content).ok()?)?.to_vec())
        }
        false => None,
    };
    Some(EventKind::Message(Message { xid: header.xid, transactional, prefix: shown, content }))
}

/// Up to the first NUL.
fn text(bytes: &[u8]) -> String {
    let bytes = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(bytes).into_owned()
}
