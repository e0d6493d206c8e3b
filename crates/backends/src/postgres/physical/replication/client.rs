//! The commands that have one answer.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use bytes::Bytes;
use lifeboat_core::{Error, ErrorKind, Result};
use postgres_protocol::message::frontend;

use super::super::super::connection::{Connection, Wanted};
use super::super::super::session::{Opened, open_first, suits};
use super::super::wal::{Lsn, SegmentSize, Timeline};
use super::answer::{Notice, Row, ServerError, row, text};
use super::login::{self, LoggedIn};
use super::refusal::Command;
#[cfg(doc)]
use super::refusal::Refusal;
use super::wire::Wire;

/// The versions whose protocol and log are known.
const KNOWN: std::ops::RangeInclusive<u32> = 13..=18;
/// How long a command may take that the server answers from memory.
pub(super) const ANSWER: Duration = Duration::from_secs(60);

/// What a connection can do beside replication.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// SQL too (`replication=database`).
    Database,
    /// Nothing else (`replication=true`).
    Physical,
}

/// A connection to a WAL sender.
pub struct ReplicationClient {
    pub(super) wire: Wire,
    pub(super) major: u32,
    scope: Scope,
    encrypted: bool,
    /// Whether an answer was not read to its end.
    pub(super) is_amid: bool,
}

impl fmt::Debug for ReplicationClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ReplicationClient({}, PostgreSQL {})", self.wire.subject, self.major)
    }
}

/// Who a server is (`IDENTIFY_SYSTEM`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The system identifier, which `initdb` makes and a standby shares with its primary.
    pub system: u64,
    /// The timeline that it is on.
    pub timeline: Timeline,
    /// Up to where its log can be streamed: what it has flushed, or as a standby replayed.
    pub position: Lsn,
    /// The database of the connection, if it has one.
    pub database: Option<String>,
}

/// The history of a timeline (`TIMELINE_HISTORY`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryFile {
    /// The name of the file.
    pub name: String,
    /// What is in it: see [`TimelineHistory::parse`](super::super::wal::TimelineHistory::parse).
    pub content: Bytes,
}

/// A replication slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// From where on the server keeps its log for it: what was confirmed last. `None` if it keeps nothing, because nobody has
    /// received from the slot yet, or because the slot was lost.
    pub restart: Option<Lsn>,
    /// On which timeline that is. PostgreSQL 13 and 14 do not say it.
    pub timeline: Option<Timeline>,
}

/// The name of a replication slot: 1 to 63 small letters, digits and underscores (`slot.c`, `ReplicationSlotValidateName`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotName(String);

impl FromStr for SlotName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let good = text.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_'));
        if good && (1..=63).contains(&text.len()) {
            return Ok(Self(text.to_owned()));
        }
        let why = "the name of a replication slot has 1 to 63 small letters, digits and underscores";
        Err(Error::new(ErrorKind::Config, "use", format!("the slot {text}"), why))
    }
}

impl fmt::Display for SlotName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Opened for ReplicationClient {
    async fn open_one(to: &Connection) -> Result<Self> {
        let logged_in = login::log_in(to).await?;
        Self::new(logged_in, to.redacted())
    }

    async fn fits(&mut self, wanted: Wanted) -> Result<bool> {
        // Since 14 a setting says it, to which no SQL is needed.
        let standby = match (self.scope, self.major) {
            (_, 14..) => self.show("in_hot_standby").await? == "on",
            (Scope::Database, _) => self.sql("SELECT pg_catalog.pg_is_in_recovery()").await?.as_deref() == Some("t"),
            (Scope::Physical, _) => return Err(self.needs_database("whether it is a standby")),
        };
        let read_only = standby || self.show("default_transaction_read_only").await? == "on";
        Ok(suits(wanted, standby, read_only))
    }
}

impl ReplicationClient {
    /// Connects to the first host that answers and is what the connection asks for.
    ///
    /// # Errors
    /// As any other session with the server, and [`ErrorKind::Unsupported`] for a version that is not known. No error has a
    /// password in it.
    pub async fn connect(to: &Connection) -> Result<Self> {
        open_first(to).await
    }

    pub(super) fn new(logged_in: LoggedIn, subject: String) -> Result<Self> {
        let LoggedIn { io, major, version, scope, encrypted } = logged_in;
        if !KNOWN.contains(&major) {
            let why = match major {
                0..13 => format!("it is PostgreSQL {version}: before 13 there are no manifests of base backups"),
                _ => format!("it is PostgreSQL {version}: how its log is laid out is not known here"),
            };
            return Err(Error::new(ErrorKind::Unsupported, "use replication of", subject, why)
                .hint("physical backups work with PostgreSQL 13 to 18; dumps with others too"));
        }
        Ok(Self { wire: Wire::new(io, subject), major, scope, encrypted, is_amid: false })
    }

    /// The server's major version.
    pub fn major(&self) -> u32 {
        self.major
    }

    /// What can be done beside replication.
    pub fn scope(&self) -> Scope {
        self.scope
    }

    /// Whether TLS protects it.
    pub fn is_encrypted(&self) -> bool {
        self.encrypted
    }

    /// The server and the database, without a password.
    pub fn subject(&self) -> &str {
        &self.wire.subject
    }

    /// What the server has said beside its answers since this was last asked: at most a thousand notices.
    pub fn take_notices(&mut self) -> Vec<Notice> {
        self.wire.take_notices()
    }

    /// Who the server is, and how far its log goes.
    ///
    /// # Errors
    /// What the server refuses, and a connection that fails.
    pub async fn identify(&mut self) -> Result<Identity> {
        let row = self.row("IDENTIFY_SYSTEM", Command::Query).await?;
        // The types of the columns differ between versions, their text does not.
        let identity = || {
            Some(Identity {
                system: text(&row, 0)?.parse().ok()?,
                timeline: text(&row, 1)?.parse().ok()?,
                position: text(&row, 2)?.parse().ok()?,
                database: text(&row, 3).map(str::to_owned),
            })
        };
        identity().ok_or_else(|| self.wire.broken("an identity that cannot be read"))
    }

    /// The value of a setting, as `SHOW` gives it.
    ///
    /// # Errors
    /// As [`identify`](Self::identify); [`ErrorKind::Config`] for what is not the name of a setting.
    pub async fn show(&mut self, setting: &str) -> Result<String> {
        if setting.is_empty() || !setting.bytes().all(|b| b.is_ascii_lowercase() || matches!(b, b'_' | b'.')) {
            return Err(Error::new(ErrorKind::Config, "show", setting, "it is not the name of a setting"));
        }
        let row = self.row(&format!("SHOW {setting}"), Command::Query).await?;
        text(&row, 0).map(str::to_owned).ok_or_else(|| self.wire.broken("a setting without a value"))
    }

    /// The size of the cluster's segments.
    ///
    /// # Errors
    /// As [`identify`](Self::identify).
    pub async fn segment_size(&mut self) -> Result<SegmentSize> {
        let shown = self.show("wal_segment_size").await?;
        shown.parse().map_err(|e: super::super::wal::Malformed| self.wire.broken(&e.to_string()))
    }

    /// The history of a timeline.
    ///
    /// # Errors
    /// [`Refusal::NoHistory`] for a timeline that has none: the first one, and one that the server does not know.
    pub async fn timeline_history(&mut self, timeline: Timeline) -> Result<HistoryFile> {
        let mut row = self.row(&format!("TIMELINE_HISTORY {timeline}"), Command::History).await?;
        let name = text(&row, 0).map(str::to_owned);
        let content = (row.len() == 2).then(|| row.remove(1)).flatten();
        let file = name.zip(content).map(|(name, content)| HistoryFile { name, content });
        file.ok_or_else(|| self.wire.broken("a history without a name or content"))
    }

    /// Makes a slot that keeps the log from now on: without being told to, a server keeps nothing until the first connection.
    ///
    /// # Errors
    /// [`Refusal::SlotExists`], [`Refusal::NoSlotLeft`] and others.
    pub async fn create_slot(&mut self, slot: &SlotName) -> Result<()> {
        let sql = match self.major {
            15.. => format!("CREATE_REPLICATION_SLOT \"{slot}\" PHYSICAL (RESERVE_WAL true)"),
            _ => format!("CREATE_REPLICATION_SLOT \"{slot}\" PHYSICAL RESERVE_WAL"),
        };
        self.rows(&sql, Command::Slot, ANSWER).await.map(|_| ())
    }

    /// What the server knows of a slot. `None` if there is none.
    ///
    /// # Errors
    /// Before PostgreSQL 15 it takes SQL: [`ErrorKind::Unsupported`] with [`Scope::Physical`].
    pub async fn slot(&mut self, slot: &SlotName) -> Result<Option<Slot>> {
        let sql = match (self.major, self.scope) {
            (15.., _) => format!("READ_REPLICATION_SLOT \"{slot}\""),
            (_, Scope::Database) => format!(
                "SELECT slot_type, restart_lsn, NULL FROM pg_catalog.pg_replication_slots WHERE slot_name = '{slot}'"
            ),
            (_, Scope::Physical) => return Err(self.needs_database("from where on a slot keeps the log")),
        };
        let rows = self.rows(&sql, Command::Slot, ANSWER).await?;
        // A slot that is not there gives a row of NULLs, or none.
        let Some(row) = rows.first().filter(|row| text(row, 0).is_some()) else { return Ok(None) };
        if text(row, 0) != Some("physical") {
            let why = format!("the slot {slot} is a logical one");
            return Err(
                Error::new(ErrorKind::Refused, "use a slot of", &self.wire.subject, why).hint("name another slot")
            );
        }
        let read = || {
            let restart = text(row, 1).map(str::parse).transpose().ok()?;
            let timeline = text(row, 2).map(str::parse).transpose().ok()?;
            Some(Slot { restart, timeline })
        };
        read().map(Some).ok_or_else(|| self.wire.broken("a slot that cannot be read"))
    }

    /// Drops a slot: with `wait` as soon as nobody receives from it, within a minute.
    ///
    /// # Errors
    /// [`Refusal::NoSuchSlot`]; without `wait` also [`Refusal::SlotBusy`].
    pub async fn drop_slot(&mut self, slot: &SlotName, wait: bool) -> Result<()> {
        let wait = if wait { " WAIT" } else { "" };
        self.rows(&format!("DROP_REPLICATION_SLOT \"{slot}\"{wait}"), Command::Slot, ANSWER).await.map(|_| ())
    }

    /// Says goodbye, so that the server logs no broken connection. Dropping it does for everything else.
    pub async fn close(mut self) {
        frontend::terminate(self.wire.outgoing());
        // The server answers by closing the connection.
        let _ = self.wire.message(Duration::from_secs(1)).await;
    }

    /// Runs SQL that gives at most one value.
    async fn sql(&mut self, sql: &str) -> Result<Option<String>> {
        let rows = self.rows(sql, Command::Query, ANSWER).await?;
        Ok(rows.first().and_then(|row| text(row, 0)).map(str::to_owned))
    }

    fn needs_database(&self, what: &str) -> Error {
        let why = format!("PostgreSQL {} says {what} only to who may run SQL", self.major);
        Error::new(ErrorKind::Unsupported, "query", &self.wire.subject, why)
            .hint("admit the role to its database in pg_hba.conf, not only to `replication`")
    }

    /// The one row that a command gives.
    async fn row(&mut self, sql: &str, command: Command) -> Result<Row> {
        let mut rows = self.rows(sql, command, ANSWER).await?;
        match rows.len() {
            1 => Ok(rows.remove(0)),
            count => Err(self.wire.broken(&format!("{count} rows instead of one"))),
        }
    }

    /// All rows that a command gives.
    async fn rows(&mut self, sql: &str, command: Command, limit: Duration) -> Result<Vec<Row>> {
        self.ask(sql)?;
        self.rest(command, limit).await
    }

    /// Sends a command, whose answer has to be read to its end before the next one.
    pub(super) fn ask(&mut self, sql: &str) -> Result<()> {
        if self.is_amid {
            let why = "an answer on this connection was not read to its end";
            return Err(Error::new(ErrorKind::Unavailable, "query", &self.wire.subject, why).hint("connect again"));
        }
        let asked = frontend::query(sql, self.wire.outgoing());
        asked.map_err(|error| Error::io("query", &self.wire.subject, error))?;
        self.is_amid = true;
        Ok(())
    }

    /// Reads what is left of an answer: its rows up to the next prompt.
    pub(super) async fn rest(&mut self, command: Command, limit: Duration) -> Result<Vec<Row>> {
        let (mut rows, mut refused) = (Vec::new(), None);
        loop {
            let message = match (self.wire.message(limit).await, refused.take()) {
                (Ok(message), error) => {
                    refused = error;
                    message
                }
                // After a fatal error the server closes the connection.
                (Err(_), Some(error)) => return Err(error),
                (Err(error), None) => return Err(error),
            };
            match message.tag {
                b'T' | b'C' | b'I' => {}
                b'D' => {
                    let row = row(message.body).ok_or_else(|| self.wire.broken("a row that cannot be read"))?;
                    rows.push(row);
                }
                b'E' => refused = Some(ServerError::read(&message.body).error(command, &self.wire.subject)),
                b'Z' => {
                    self.is_amid = false;
                    return refused.map_or(Ok(rows), Err);
                }
                _ => return Err(self.wire.unexpected(&message)),
            }
        }
    }

    /// The error of an `E` message, once the rest of the answer is read.
    pub(super) async fn refused(&mut self, body: &[u8], command: Command) -> Error {
        let error = ServerError::read(body).error(command, &self.wire.subject);
        // A second error says less than the first.
        let _ = self.rest(command, ANSWER).await;
        error
    }
}
