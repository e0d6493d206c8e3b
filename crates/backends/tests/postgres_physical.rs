//! The foundations of physical backup against a real server: what it writes to its log, by its own `pg_waldump`.
//!
//! Needs PostgreSQL's server programs, in `LIFEBOAT_PG_BIN` or `/usr/lib/postgresql/*/bin`.
#![cfg(feature = "postgres")]
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "postgres_physical/log.rs"]
mod log;
