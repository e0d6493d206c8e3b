//! The foundations of physical backup against a real server: what it writes to its log, by its own `pg_waldump`, and what it says
//! to who speaks its replication protocol.
//!
//! Needs PostgreSQL's server programs, in `LIFEBOAT_PG_BIN` or `/usr/lib/postgresql/*/bin`.
#![cfg(feature = "postgres")]
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "postgres_physical/log.rs"]
mod log;
#[path = "postgres_physical/replication.rs"]
mod replication;
#[allow(dead_code, unreachable_pub)]
#[path = "postgres/tls.rs"]
mod tls;
