//! The foundations of physical backup: what a server writes to its log.
//!
//! | module | what it knows |
//! |---|---|
//! | [`wal`] | positions, timelines, the names of files, the history of a timeline |
//! | [`walker`] | pages, records and checksums of the log, and what they say: commits, drops, restore points |
//!
//! Nothing here knows of sinks, artifacts or jobs.

pub mod wal;
pub mod walker;
