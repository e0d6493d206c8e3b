//! What a server refuses, for whoever decides by it.

use std::fmt;

use lifeboat_core::Error;

use super::answer::ServerError;

/// Why a server has refused a command. [`Refusal::of`] finds it in an error, whose kind and words are for people.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// Somebody else receives from the slot (`55006`).
    SlotBusy,
    /// There is no such slot (`42704`).
    NoSuchSlot,
    /// There is a slot with this name (`42710`).
    SlotExists,
    /// The server can have no further slot (`53400`).
    NoSlotLeft,
    /// The server can have no further WAL sender (`53300`).
    NoSenderLeft,
    /// The log that was asked for is not there any more (`58P01`), or the slot is lost.
    LogGone,
    /// There is no history of this timeline (`58P01`).
    NoHistory,
    /// The timeline or the position is not of the server's branch, or is ahead of it (`XX000`).
    Position,
    /// Pages of the files are damaged (`XX001`): see [`BaseBackup::next`](super::BaseBackup::next).
    DamagedPages,
    /// The role lacks a right (`42501`).
    Permission,
    /// Anything else, by its SQLSTATE.
    Other(String),
}

impl Refusal {
    /// The server's refusal that has led to this error.
    pub fn of(error: &Error) -> Option<&Self> {
        std::error::Error::source(error)?.downcast_ref()
    }

    pub(super) fn from(error: &ServerError, command: Command) -> Self {
        match (&*error.code, command) {
            ("55006", _) => Self::SlotBusy,
            ("42704", Command::Start | Command::Slot) => Self::NoSuchSlot,
            ("42710", Command::Slot) => Self::SlotExists,
            ("53400", _) => Self::NoSlotLeft,
            ("53300", _) => Self::NoSenderLeft,
            // A slot that is lost: it was held longer than the server's limit allows.
            ("58P01" | "55000", Command::Start) => Self::LogGone,
            ("58P01", Command::History) => Self::NoHistory,
            ("XX000", Command::Start) => Self::Position,
            ("XX001", Command::BaseBackup) => Self::DamagedPages,
            ("42501", _) => Self::Permission,
            (code, _) => Self::Other(code.to_owned()),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SlotBusy => "the slot is in use (55006)",
            Self::NoSuchSlot => "there is no such slot (42704)",
            Self::SlotExists => "there is such a slot (42710)",
            Self::NoSlotLeft => "the server has no slot left (53400)",
            Self::NoSenderLeft => "the server has no connection left for replication (53300)",
            Self::LogGone => "the log is not there any more",
            Self::NoHistory => "there is no history of the timeline (58P01)",
            Self::Position => "the position is not one of the server's (XX000)",
            Self::DamagedPages => "pages are damaged (XX001)",
            Self::Permission => "the role lacks a right (42501)",
            Self::Other(code) => return write!(f, "SQLSTATE {code}"),
        })
    }
}

impl std::error::Error for Refusal {}

/// What was asked of the server: the same SQLSTATE means different things.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Command {
    Query,
    History,
    Slot,
    Start,
    BaseBackup,
}

impl Command {
    pub(super) fn verb(self) -> &'static str {
        match self {
            Self::Query => "query",
            Self::History => "read the timeline's history of",
            Self::Slot => "manage a replication slot of",
            Self::Start => "stream the log of",
            Self::BaseBackup => "take a base backup of",
        }
    }
}
