//! Plain SQL as written by `pg_dump` and `pg_dumpall`, parsed here and never by psql.
//!
//! psql executes commands of its own (`\!`, `\copy`, `\connect`, backquotes), so that a dump in a bucket could be a
//! shell script. Therefore a [`Reader`] splits the text into statements and the data of `COPY … FROM stdin`, rejects
//! every psql command except the few that the programs themselves write, and knows whether the end has been reached.
//!
//! The reader takes bytes in chunks of any size, and keeps no more than the current statement. Its rules are those of
//! psql's and the server's scanners (`psqlscan.l`, `scan.l`) for everything that can occur in a dump: quotes, `E''`,
//! dollar quotes, nested comments, the bodies of SQL functions (`BEGIN ATOMIC … END`), `standard_conforming_strings`.

mod data;
mod reader;
#[cfg(test)]
mod tests;
mod words;

pub(crate) mod run;

use bytes::Bytes;

pub use reader::{Keep, Reader};
pub use words::Statement;

/// An event of a [`Reader`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A statement, without its semicolon.
    Statement {
        /// Its text: all of it, or its beginning, as [`Keep`] says.
        sql: Bytes,
        /// The line on which it starts.
        line: u64,
        /// What it is.
        kind: Statement,
    },
    /// `COPY … FROM stdin`: rows follow.
    Copy {
        /// The statement.
        sql: Bytes,
        /// The line on which it starts.
        line: u64,
        /// What it is: [`Statement::CopyIn`].
        kind: Statement,
    },
    /// Data of the last [`Event::Copy`]: any number of rows and parts of rows.
    Rows(Bytes),
    /// The last [`Event::Copy`] has all of its rows.
    CopyEnd,
    /// A psql command to connect to a database.
    Connect {
        /// Its name, where the line says it in one of the ways in which pg_dump does.
        database: Option<String>,
        /// The line.
        line: u64,
    },
}

/// The kind of a dump that has been read to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whole {
    /// Of a database: pg_dump wrote it.
    Database,
    /// Of a server's roles and tablespaces, or of all of it: pg_dumpall wrote it.
    Cluster,
}
