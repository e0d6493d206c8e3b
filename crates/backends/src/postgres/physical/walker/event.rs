//! What a walk finds.

use super::super::wal::{Lsn, PgTime};

/// The prefix of the logical messages that Lifeboat writes itself. Only their content is kept.
pub const OWN_PREFIX: &str = "lifeboat";

/// A record that a reader of the log's index wants to know of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Where the record begins: what `pg_waldump` calls its `lsn`.
    pub start: Lsn,
    /// Where it ends, and the next one can begin.
    pub end: Lsn,
    /// What it is.
    pub kind: EventKind,
}

/// What a record says.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EventKind {
    /// A transaction was committed.
    Commit(Transaction),
    /// A transaction was rolled back.
    Abort(Transaction),
    /// A database was dropped. The transaction's own record follows.
    DatabaseDropped {
        /// The transaction.
        xid: u32,
        /// The database's number.
        database: u32,
    },
    /// A restore point was made.
    RestorePoint {
        /// Its name: what is no UTF-8 in it is replaced.
        name: String,
        /// When.
        time: PgTime,
    },
    /// The rest of the segment is unused. The event ends where the next segment begins.
    Switch,
    /// A checkpoint.
    Checkpoint(Checkpoint),
    /// A server has begun to write to this timeline.
    EndOfRecovery {
        /// When.
        time: PgTime,
        /// Its timeline, as a server says it: 0 is none.
        timeline: u32,
        /// The one that it comes from.
        previous: u32,
    },
    /// A base backup is consistent from here on.
    BackupEnd {
        /// Where it began.
        from: Lsn,
    },
    /// A record that a crash had cut off is void.
    Overwritten {
        /// Where it began.
        at: Lsn,
        /// When the server found it.
        time: PgTime,
    },
    /// A logical message.
    Message(Message),
    /// A record of one of these kinds whose content is laid out in another way. Its checksum is right, so nothing is wrong with the
    /// log: it is the reading that does not go far enough.
    Unread {
        /// Its resource manager.
        manager: u8,
        /// Its flags.
        info: u8,
    },
}

/// A transaction that has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transaction {
    /// Its number; that of the prepared one in a `COMMIT PREPARED` or `ROLLBACK PREPARED`.
    pub xid: u32,
    /// When it ended, by the server's clock. These times need not be in the order of the log.
    pub time: PgTime,
    /// Whether it was prepared before.
    pub prepared: bool,
    /// Its database, where the record says it.
    pub database: Option<u32>,
    /// Its subtransactions that ended with it.
    pub subtransactions: Vec<u32>,
    /// Files of relations that went with it: of a `DROP` or `TRUNCATE` that was committed, or a `CREATE` that was rolled back.
    pub relations: Vec<RelationFile>,
    /// The record is larger than what is kept of one: the lists end early, and the number of a prepared transaction is 0.
    pub incomplete: bool,
}

/// The file of a relation (`RelFileLocator`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RelationFile {
    /// Its tablespace.
    pub tablespace: u32,
    /// Its database; 0 for what all databases share.
    pub database: u32,
    /// Its number, which is its name in the database's folder.
    pub file: u32,
}

/// A checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Whether the server was shut down with it.
    pub shutdown: bool,
    /// Where a recovery from it begins.
    pub redo: Lsn,
    /// Its timeline, as the server says it: 0 is none.
    pub timeline: u32,
    /// The one before, if the server has just left that; otherwise the same.
    pub previous: u32,
    /// When it began, in seconds since 1970 (`pg_time_t`).
    pub time: i64,
}

/// A logical message (`pg_logical_emit_message`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The transaction that wrote it; 0 for none.
    pub xid: u32,
    /// Whether it counts only if that is committed.
    pub transactional: bool,
    /// Whose message it is: its first KiB, and what is no UTF-8 in it is replaced.
    pub prefix: String,
    /// Its content, where [`OWN_PREFIX`] is its prefix and there is at most one KiB of it. What others write is their own.
    pub content: Option<Vec<u8>>,
}
