//! Converts errors of the driver and the server.

use lifeboat_core::{Error, ErrorKind};
use mongodb::error::ErrorKind as Driver;

/// Codes of the server (`src/mongo/base/error_codes.yml`).
pub(crate) mod code {
    pub(crate) const UNAUTHORIZED: i32 = 13;
    pub(crate) const AUTHENTICATION_FAILED: i32 = 18;
    pub(crate) const NAMESPACE_NOT_FOUND: i32 = 26;
    pub(crate) const CURSOR_NOT_FOUND: i32 = 43;
    pub(crate) const NAMESPACE_EXISTS: i32 = 48;
    pub(crate) const MAX_TIME_EXPIRED: i32 = 50;
    pub(crate) const COMMAND_NOT_FOUND: i32 = 59;
    pub(crate) const QUERY_PLAN_KILLED: i32 = 175;
    pub(crate) const INVALID_INDEX_SPECIFICATION_OPTION: i32 = 197;
    pub(crate) const CURSOR_KILLED: i32 = 237;
    pub(crate) const SNAPSHOT_TOO_OLD: i32 = 239;
    pub(crate) const SHUTDOWN_IN_PROGRESS: i32 = 91;
    pub(crate) const DUPLICATE_KEY: i32 = 11_000;
    pub(crate) const INTERRUPTED_AT_SHUTDOWN: i32 = 11_600;
    pub(crate) const OUT_OF_DISK_SPACE: i32 = 14_031;
}

/// The server's error code, if the error came from the server.
pub(crate) fn code_of(error: &mongodb::error::Error) -> Option<i32> {
    match &*error.kind {
        Driver::Command(command) => Some(command.code),
        _ => None,
    }
}

/// What the driver or the server says, on one line and without values of documents: what errors, notes and logs tell.
pub(crate) fn message(error: &mongodb::error::Error) -> String {
    without_values(&whole(error))
}

/// A message without the documents and keys that a server quotes in it. The names of collections and indexes stay.
pub(crate) fn without_values(said: &str) -> String {
    // `E11000 duplicate key error collection: shop.users index: email_1 dup key: { email: "…" }`, `Can't extract geo keys:
    // { … }`, `BSONObj size: … is invalid. First element: _id: …`
    let marks = [" dup key:", " First element:"];
    let end = marks.iter().filter_map(|mark| said.find(mark).map(|at| at + mark.len())).min();
    let (kept, cut) = end.and_then(|end| said.split_at_checked(end)).unwrap_or((said, ""));
    let (kept, cut) = match (kept.split_once('{'), kept.rsplit_once('}')) {
        (Some((before, _)), Some((_, after))) => (format!("{before}{{…}}{after}"), cut),
        (Some((before, _)), None) => (format!("{before}{{…"), ""),
        (None, _) => (kept.to_owned(), cut),
    };
    if kept != said {
        crate::whole_words::keep("MongoDB", said);
    }
    if cut.is_empty() { kept } else { format!("{kept} …") }
}

/// All that the driver or the server says, on one line: to be looked at, and not to be told.
pub(crate) fn whole(error: &mongodb::error::Error) -> String {
    let text = match &*error.kind {
        Driver::Command(command) if command.code_name.is_empty() => command.message.clone(),
        Driver::Command(command) => format!("{} ({})", command.message, command.code_name),
        Driver::InvalidArgument { message, .. } => message.clone(),
        kind => kind.to_string(),
    };
    text.lines().map(str::trim).filter(|l| !l.is_empty()).collect::<Vec<_>>().join(" ")
}

/// The advice of an error for want of room on the server.
pub(crate) const NO_ROOM: &str = "the server has no room left: free some";

/// What a server's error says of its machine, and not of what it was given: that its disk is full, or that it is ending.
fn of_the_machine(code: i32, said: &str) -> Option<ErrorKind> {
    match code {
        code::OUT_OF_DISK_SPACE => Some(ErrorKind::Io),
        code::SHUTDOWN_IN_PROGRESS | code::INTERRUPTED_AT_SHUTDOWN => Some(ErrorKind::Unavailable),
        // WiredTiger's own words, under several codes.
        _ if said.contains("No space left on device") || said.contains("Disk quota exceeded") => Some(ErrorKind::Io),
        _ => None,
    }
}

/// The error of a write that the server refused for want of room, or because it is ending; `None` for one that is about the
/// document.
pub(crate) fn of_write(operation: &'static str, subject: &str, code: i32, said: &str) -> Option<Error> {
    let kind = of_the_machine(code, said)?;
    Some(Error::new(kind, operation, subject, without_values(said)).hint(match kind {
        ErrorKind::Io => NO_ROOM,
        _ => "the server is being shut down: look into its log, and run again",
    }))
}

/// An error of `operation` on `subject`, with the kind and the advice that follow from the driver's.
pub(crate) fn of_driver(operation: &'static str, subject: &str, error: &mongodb::error::Error) -> Error {
    let said = message(error);
    let failure = |kind| Error::new(kind, operation, subject, said.clone());
    if let Some(error) = code_of(error).and_then(|code| of_write(operation, subject, code, &said)) {
        return error;
    }
    match &*error.kind {
        Driver::Authentication { .. } => failure(ErrorKind::Permission)
            .hint("check user, password and authSource: without authSource, the user is looked up in the database in the path"),
        Driver::InvalidArgument { .. } | Driver::InvalidTlsConfig { .. } => {
            failure(ErrorKind::Config).hint("check the options of the connection string")
        }
        Driver::DnsResolve { .. } => {
            failure(ErrorKind::Unavailable).hint("the SRV and TXT records of the name in mongodb+srv:// could not be looked up: check the name and the DNS")
        }
        Driver::ServerSelection { .. } if said.contains("uthentication") || said.contains("SCRAM") => failure(ErrorKind::Permission)
            .hint("check user, password and authSource"),
        Driver::ServerSelection { .. } => failure(ErrorKind::Unavailable)
            .hint("check host, port and TLS (tls=true, tlsCAFile); a member of a replica set that is reached under another name needs directConnection=true"),
        Driver::Io(_) | Driver::ConnectionPoolCleared { .. } => {
            failure(ErrorKind::Unavailable).hint("the connection to the server was lost: check its log, and run again")
        }
        Driver::IncompatibleServer { .. } => failure(ErrorKind::Unsupported),
        Driver::Command(command) => match command.code {
            code::UNAUTHORIZED => failure(ErrorKind::Permission)
                .hint("a backup needs the role `read` on the database (`backup` for all of them), a restore `readWrite` and `dbAdmin` (`restore` for all)"),
            code::AUTHENTICATION_FAILED => failure(ErrorKind::Permission).hint("check user, password and authSource"),
            code::CURSOR_NOT_FOUND | code::CURSOR_KILLED | code::QUERY_PLAN_KILLED | code::MAX_TIME_EXPIRED => failure(ErrorKind::Unavailable)
                .hint("the server closed a cursor that was still being read: the collection was dropped, the cursor waited too long for a slow sink, or somebody killed it; run again"),
            code::SNAPSHOT_TOO_OLD => failure(ErrorKind::Unavailable)
                .hint("reading took longer than the server keeps a snapshot: raise minSnapshotHistoryWindowInSeconds, or get consistency from the oplog (oplog = true), or do without it (consistency = \"none\")"),
            code::DUPLICATE_KEY => failure(ErrorKind::Mismatch),
            _ => failure(ErrorKind::Tool),
        },
        _ => failure(ErrorKind::Tool),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_documents_are_not_told() {
        for (said, told) in [
            (
                "E11000 duplicate key error collection: shop.users index: email_1 dup key: { email: \"hunter2\" }",
                "E11000 duplicate key error collection: shop.users index: email_1 dup key: …",
            ),
            (
                "Can't extract geo keys: { _id: 1, loc: \"hunter2\" } unknown GeoJSON type: { a: 1 } (x)",
                "Can't extract geo keys: {…} (x)",
            ),
            (
                "BSONObj size: 9 is invalid. First element: _id: \"hunter2\"",
                "BSONObj size: 9 is invalid. First element: …",
            ),
            ("cut { a: \"hunter2", "cut {…"),
            ("ns not found: shop.users", "ns not found: shop.users"),
        ] {
            assert_eq!(without_values(said), told);
        }
    }
}
