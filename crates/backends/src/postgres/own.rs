//! Session settings that a role, a database or a server may override, and that would end, block or distort Lifeboat's
//! sessions and those of the client programs: the values that they have in all of our sessions.

use lifeboat_core::{Error, ErrorKind, Result};

use super::session::{Session, quote_literal};

/// What another value of a setting would do to a session.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Harm {
    /// Ends the session or a statement. pg_dump, and the input of pg_restore, set it themselves at their beginning.
    Ends,
    /// The same, but neither of them sets it.
    EndsPrograms,
    /// Distorts what is read or written; pg_dump sets it itself.
    Bends,
    /// Also distorts what is written from a dump.
    BendsDumps,
}

use Harm::{Bends, BendsDumps, Ends, EndsPrograms};

/// Names in lower case and values, as in pg_settings. A server that does not know a setting omits it.
const OWN: [(&str, &str, Harm); 24] = [
    ("statement_timeout", "0", Ends),
    ("lock_timeout", "0", Ends),
    ("idle_in_transaction_session_timeout", "0", Ends),
    ("transaction_timeout", "0", Ends),
    ("idle_session_timeout", "0", EndsPrograms),
    ("default_transaction_read_only", "off", Bends),
    ("default_transaction_isolation", "read committed", Bends),
    ("default_transaction_deferrable", "off", Bends),
    ("row_security", "off", Bends),
    ("datestyle", "ISO, MDY", Bends),
    ("intervalstyle", "postgres", Bends),
    ("extra_float_digits", "3", Bends),
    ("synchronize_seqscans", "off", Bends),
    ("quote_all_identifiers", "off", Bends),
    ("standard_conforming_strings", "on", Bends),
    ("backslash_quote", "safe_encoding", Bends),
    ("array_nulls", "on", Bends),
    ("transform_null_equals", "off", Bends),
    ("xmloption", "content", Bends),
    ("client_min_messages", "warning", Bends),
    ("gin_fuzzy_search_limit", "0", Bends),
    ("bytea_output", "hex", BendsDumps),
    ("xmlbinary", "base64", BendsDumps),
    ("escape_string_warning", "on", Bends),
];

/// Settings that only a superuser may change, and that distort what is read or restored.
const CRITICAL: [(&str, &str); 3] =
    [("session_replication_role", "origin"), ("zero_damaged_pages", "off"), ("ignore_checksum_failure", "off")];

/// A timeout below this, in milliseconds, can end a program before it has set its own.
const TOO_SHORT: u32 = 5000;

fn list<'a>(settings: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let rows: Vec<String> =
        settings.map(|(name, value)| format!("({}, {})", quote_literal(name), quote_literal(value))).collect();
    rows.join(", ")
}

fn own() -> String {
    list(OWN.iter().map(|(name, value, _)| (*name, *value)))
}

/// The statements that apply our settings to a new session. The rows of two columns that they return are critical
/// settings with other values.
pub(super) fn statements() -> String {
    format!(
        "SET search_path = ''; SET client_encoding = 'UTF8'; SET ROLE NONE; SET TimeZone = 'UTC';
         SELECT pg_catalog.set_config(s.name, own.value, false) FROM pg_catalog.pg_settings s
         JOIN (VALUES {}) own(name, value) ON own.name = pg_catalog.lower(s.name) WHERE s.setting <> own.value;
         SELECT s.name, own.value FROM pg_catalog.pg_settings s JOIN (VALUES {}) own(name, value) ON own.name = s.name
         WHERE s.setting <> own.value",
        own(),
        list(CRITICAL.into_iter())
    )
}

/// The settings to start a session with, because a role's own could end it before it sets any.
pub(super) fn at_the_start(major: u32) -> Vec<(String, String)> {
    let since = |name: &str| match name {
        "transaction_timeout" => 17,
        "idle_session_timeout" => 14,
        "idle_in_transaction_session_timeout" => 10,
        _ => 0,
    };
    let ends = OWN.iter().filter(|(name, _, harm)| matches!(harm, Ends | EndsPrograms) && since(name) <= major);
    ends.map(|(name, value, _)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// The purpose of a client program's session.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    Dump,
    Restore,
}

/// The settings to start a client program's session with, because a new session of this role and database would have
/// other values and the program does not set them. Empty if there are none: not every pooler accepts them.
///
/// # Errors
/// [`ErrorKind::Permission`] for a setting that distorts the result and that the role may not change.
pub(super) async fn for_program(session: &Session, purpose: Purpose) -> Result<Vec<(String, String)>> {
    session.not_bent()?;
    let mut found = session.startup().to_vec();
    // reset_val is the value of a new session, before ours was set.
    let sql = format!(
        "SELECT own.name, own.value, s.reset_val FROM pg_catalog.pg_settings s JOIN (VALUES {}, {}) own(name, value)
         ON own.name = pg_catalog.lower(s.name) WHERE s.reset_val <> own.value",
        own(),
        list(CRITICAL.into_iter())
    );
    for row in session.rows(&sql).await? {
        let [Some(name), Some(value), Some(theirs)] = &row[..] else { continue };
        let harm = OWN.iter().find(|(known, ..)| known == name).map(|(.., harm)| *harm);
        let needed = match (harm, purpose) {
            // ISO is read in the same way whatever order days and months have besides it.
            (_, Purpose::Restore) if name == "datestyle" => !theirs.starts_with("ISO"),
            (_, Purpose::Restore) => true,
            (Some(Ends), Purpose::Dump) => theirs.parse().is_ok_and(|limit: u32| limit < TOO_SHORT),
            (Some(Bends), Purpose::Dump) => false,
            (Some(EndsPrograms | BendsDumps) | None, Purpose::Dump) => true,
        };
        if needed && !found.iter().any(|(known, _)| known == name) {
            found.push((name.clone(), value.clone()));
        }
    }
    // `role` is not among pg_settings.
    let role = "SELECT 1 FROM pg_catalog.pg_db_role_setting s, pg_catalog.unnest(s.setconfig) c
        WHERE c LIKE 'role=%' AND (s.setrole = 0 OR s.setrole = (SELECT oid FROM pg_catalog.pg_roles WHERE rolname = session_user))
          AND (s.setdatabase = 0 OR s.setdatabase = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()))";
    if session.value(role).await?.is_some() {
        found.push(("role".to_owned(), "none".to_owned()));
    }
    Ok(found)
}

/// Settings in the form of PGOPTIONS: the server splits at spaces; a backslash escapes.
pub(super) fn as_options(settings: &[(String, String)]) -> String {
    let escape = |value: &str| value.replace('\\', "\\\\").replace(' ', "\\ ");
    let options: Vec<String> = settings.iter().map(|(name, value)| format!("-c {name}={}", escape(value))).collect();
    options.join(" ")
}

/// The error for a setting that the role may not change.
pub(super) fn bent(subject: &str, name: &str, value: &str) -> Error {
    let why = match name {
        "session_replication_role" => "triggers and rules would not do what they should",
        _ => "damaged pages would be taken for empty or whole ones",
    };
    Error::new(
        ErrorKind::Permission,
        "use",
        subject,
        format!("{name} is not {value} for this role, and the role is not allowed to change that: {why}"),
    )
    .hint(format!("as a superuser: ALTER ROLE … RESET {name}, ALTER DATABASE … RESET {name}, or in postgresql.conf"))
}
