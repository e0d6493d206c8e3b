//! Decides whether a failed restore test says something about the dump, or about this machine.
//!
//! Client programs report no SQLSTATE, so a server's errors are recognized by their words, which are English here
//! (`lc_messages=C`). Only the server's or program's own message is examined, not the statement that it quotes.

use lifeboat_core::{Check, Error, ErrorKind};

use crate::child::Ended;

/// Messages of a server, what they mean about the machine, and what helps.
const MACHINE: [(&str, &str, &str); 22] = [
    ("No space left on device", "disk full", ROOM),
    ("Disk quota exceeded", "disk full", ROOM),
    ("could not resize shared memory segment", "out of memory", MEMORY),
    ("out of shared memory", "out of memory", MEMORY),
    ("out of memory", "out of memory", MEMORY),
    ("Cannot allocate memory", "out of memory", MEMORY),
    ("Too many open files", "out of files", "raise the limit of open files (ulimit -n)"),
    ("server closed the connection", ENDED_FIGURE, ENDED),
    ("terminating connection", ENDED_FIGURE, ENDED),
    ("the database system is ", ENDED_FIGURE, ENDED),
    ("could not access file", "not testable here", LIBRARY),
    ("could not load library", "not testable here", LIBRARY),
    ("could not find function", "not testable here", LIBRARY),
    ("could not open extension control file", "not testable here", LIBRARY),
    ("shared_preload_libraries", "not testable here", PRELOAD),
    ("must be preloaded", "not testable here", PRELOAD),
    ("security label provider", "not testable here", PRELOAD),
    ("could not create locale", "not testable here", LOCALE),
    ("could not open collator", "not testable here", LOCALE),
    ("could not open dictionary file", "not testable here", DICTIONARY),
    ("could not open affix file", "not testable here", DICTIONARY),
    ("could not open stop-word file", "not testable here", DICTIONARY),
];

/// Messages of a server about rows or ranges in the wrong place, which may also mean that text is sorted differently
/// than at the source.
const ORDER: [&str; 5] = [
    "violates partition constraint",
    "no partition of relation",
    "empty range bound specified",
    "would overlap partition",
    "violates check constraint",
];

const ENDED_FIGURE: &str = "server ended";
const ROOM: &str =
    "the scratch server is out of disk space: free some, or name another folder in --scratch-folder or TMPDIR";
const MEMORY: &str = "this machine has too little memory for the scratch server";
const ENDED: &str = "something ended the scratch server: check the machine's log, first for a lack of memory";
const LIBRARY: &str = "a library of the source's server is not installed here";
const PRELOAD: &str = "an extension works only in a server that loads its library at startup, and Lifeboat does not know this one: restore into a server that is set up for it";
const LOCALE: &str = "a locale of the source is not installed here";
const SORTED: &str = "text is sorted otherwise here than at the source, which may be why: test it where the locale is installed in the source's version";
const DICTIONARY: &str = "a dictionary of the source's text search is not installed here";

/// What this message of a server means about the machine, and what helps; `None` if it is about the dump.
fn machine(words: &str) -> Option<(&'static str, &'static str)> {
    let found = MACHINE.iter().find(|(said, ..)| words.contains(said)).map(|(_, figure, help)| (*figure, *help));
    let has = |all: &[&str]| all.iter().all(|part| words.contains(part));
    found
        .or_else(|| has(&["extension \"", "\" is not available"]).then_some(("not testable here", LIBRARY)))
        // Collations of the system's catalog: one of the dump's own would be in it.
        .or_else(|| has(&["collation \"", "for encoding \"", "not exist"]).then_some(("not testable here", LOCALE)))
}

/// The same, including the effects of a different sort order, if there is one.
fn machine_or_order(words: &str, sorted_otherwise: bool) -> Option<(&'static str, &'static str)> {
    let order = || sorted_otherwise && ORDER.iter().any(|said| words.contains(said));
    machine(words).or_else(|| order().then_some(("not testable here", SORTED)))
}

/// The check for a client program that did not restore everything.
pub(super) fn of_program(ended: &Ended, sorted_otherwise: bool) -> Check {
    let said = |line: &&str| ["ERROR:", "FATAL:", "PANIC:", " error: "].iter().any(|mark| line.contains(mark));
    let own = ended.stderr.lines().filter(said).find_map(|words| machine_or_order(words, sorted_otherwise));
    match own {
        Some((figure, help)) => Check::untested("restore", figure, format!("{}; {help}", ended.words())),
        None if ended.status.code().is_none() => {
            let error = ended.error("restore into", "the scratch server");
            Check::untested("restore", "killed", format!("{}; {ENDED}", error.message()))
        }
        None => Check::fail("restore", "failed", ended.words()),
    }
}

/// The check for an error of a restore test; `None` if it ends the whole verification.
pub(super) fn of_error(error: &Error, sorted_otherwise: bool) -> Option<Check> {
    if let Some((figure, help)) = machine_or_order(error.message(), sorted_otherwise) {
        return Some(Check::untested("restore", figure, format!("{error}; {help}")));
    }
    match error.kind() {
        // It may be good all the same.
        ErrorKind::Unsupported => Some(Check::untested_for("restore", error)),
        ErrorKind::Cancelled | ErrorKind::Unavailable | ErrorKind::Io | ErrorKind::Internal => None,
        _ => Some(Check::from_error("restore", error)),
    }
}

/// Whether a statement failed because of the machine.
pub(super) fn is_the_machines(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Io | ErrorKind::Unavailable) || machine(error.message()).is_some()
}

/// Adds the last words of a scratch server that has ended to the check that says so, because they tell why.
pub(super) fn with_last_words(checks: &mut [Check], words: &str) {
    if let Some(check) = checks.last_mut()
        && check.figure == ENDED_FIGURE
        && !words.is_empty()
    {
        if let Some((figure, help)) = machine(words) {
            check.figure = figure.to_owned();
            check.detail = format!("{}; {help}", check.detail);
        }
        check.detail = format!("{}; the server's last words: {words}", check.detail);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_machine_lacks_is_not_the_dumps_fault() {
        for (words, figure) in [
            ("could not extend file \"base/5/16401\": No space left on device", "disk full"),
            ("server closed the connection unexpectedly", "server ended"),
            ("terminating connection because of crash of another server process", "server ended"),
            ("could not access file \"$libdir/regress\": No such file or directory", "not testable here"),
            ("pgaudit must be loaded via shared_preload_libraries", "not testable here"),
            ("collation \"pg_catalog.de_DE\" for encoding \"UTF8\" does not exist", "not testable here"),
        ] {
            assert_eq!(machine(words).map(|(figure, _)| figure), Some(figure), "{words}");
        }
        for words in ["duplicate key value violates unique constraint \"a\"", "collation \"s.a\" does not exist"] {
            assert_eq!(machine(words), None, "{words}");
        }
    }
}
