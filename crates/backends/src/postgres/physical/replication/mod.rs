//! The replication protocol: what a server tells a standby or `pg_basebackup`.
//!
//! [`ReplicationClient`] sends the commands of a WAL sender, [`WalStream`] receives the log, [`BaseBackup`] the files. Protocol:
//! the manual's chapter "Streaming Replication Protocol"; `src/backend/replication/walsender.c` and `repl_gram.y`;
//! `src/backend/backup/basebackup.c`. The client end of it follows `src/bin/pg_basebackup/receivelog.c`.
//!
//! PostgreSQL 13 to 18 are spoken to. Others are refused: before 13 there are no manifests of base backups, and after 18 the log
//! is laid out in another way.
//!
//! # What a role needs
//! `LOGIN REPLICATION`, and a line in `pg_hba.conf` that admits it to the database. If none does, the `replication` lines are
//! tried, and then [`Scope::Physical`] says that no SQL can be run.
//!
//! # Cancel safety
//! A command that is dropped before it has its answer leaves the connection in the middle of it: it then refuses all others, and
//! another connection has to be made. [`WalStream::next`] and [`BaseBackup::next`] can be dropped and called again.

mod answer;
mod base_backup;
mod client;
mod login;
mod refusal;
mod stream;
#[cfg(test)]
mod tests;
mod wire;

pub use answer::Notice;
pub use base_backup::{BackupItem, BaseBackup, BaseBackupOptions, Tablespace};
pub use client::{HistoryFile, Identity, ReplicationClient, Scope, Slot, SlotName};
pub use refusal::Refusal;
pub use stream::{Ended, Keepalive, Received, Started, TimelineSwitch, WalData, WalStream};
