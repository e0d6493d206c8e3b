//! The foundations of physical backup: what a server writes to its log, and the protocol by which it hands its files and its log
//! over.
//!
//! | module | what it knows |
//! |---|---|
//! | [`wal`] | positions, timelines, the names of files, the history of a timeline |
//! | [`walker`] | pages, records and checksums of the log, and what they say: commits, drops, restore points |
//! | [`replication`] | the protocol of a WAL sender: commands, slots, the stream of the log, base backups |
//!
//! Nothing here knows of sinks, artifacts or jobs.

pub mod replication;
pub mod wal;
pub mod walker;
