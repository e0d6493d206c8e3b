//! PostgreSQL: databases through pg_dump and pg_restore, roles through pg_dumpall.
//!
//! [`Postgres`] and [`Globals`] are sources, [`PostgresTarget`] is the target, [`PostgresVerifier`] the verifier. The
//! custom archive format is parsed as it flows, by [`archive`].

pub mod archive;
mod collation;
mod connection;
mod content;
mod create;
mod diagnosis;
mod dump;
mod estimate;
mod format;
mod globals;
mod inventory;
mod layout;
mod load;
mod needs;
mod own;
mod ownership;
mod parameters;
mod passfile;
mod redact;
mod scratch;
pub mod script;
mod service;
mod session;
mod settings;
mod sql;
mod swap;
mod system;
mod target;
mod tls;
mod tools;
mod unnamed;
mod verdict;
mod verifier;

pub(crate) use redact::{warnings, words};

use lifeboat_core::{ArtifactName, Check};

pub use connection::Connection;
pub use dump::{Globals, Postgres};
pub use layout::archive_layout;
pub use system::{PostgresSettings, PostgresSystem, VerifyOptions};
pub use target::{PostgresTarget, RestoreOptions};
pub use verifier::{PostgresVerifier, VerifierOptions};

/// The name of this system in manifests.
pub const SYSTEM: &str = "postgres";

/// Looks whether a database can be backed up: it answers, a fitting pg_dump is here, the role can read everything. A check a
/// line, each with what to do.
pub async fn check(connection: &Connection, settings: &PostgresSettings) -> Vec<Check> {
    let look = match dump::Look::at(connection).await {
        Ok(look) => look,
        Err(error) => return vec![Check::from_error("server", &error)],
    };
    let protection = if look.encrypted { "over TLS" } else { "without TLS" };
    let mut checks = vec![Check::pass(
        "server",
        format!("PostgreSQL {}", look.version),
        format!("{} answers, {protection}", connection.redacted()),
    )];
    checks.push(match tools::at_least("pg_dump", look.major).await {
        Ok(tools) => Check::pass("pg_dump", tools.version.clone(), tools.folder().display().to_string()),
        Err(error) => Check::from_error("pg_dump", &error),
    });
    checks.push(match tools::exactly("initdb", look.major).await {
        Ok(tools) => Check::pass("scratch server", tools.version.clone(), "restore tests can run here"),
        Err(error) => {
            let advice = error.advice().unwrap_or_default();
            Check::warn(
                "scratch server",
                "missing",
                format!("no restore tests on this machine: {}; {advice}", error.message()),
            )
        }
    });
    if settings.is_whole_database() {
        checks.extend(diagnosis::rights(connection, &look.session).await);
    } else {
        checks.push(Check::warn(
            "rights",
            "not looked at",
            "only a part is dumped: the first backup shows whether the role can read it",
        ));
    }
    checks
}

/// The format of an artifact; where its name does not say it, the job's.
pub(crate) fn format_of(name: &ArtifactName, globals: bool) -> &str {
    name.format_or(if globals { "globals.sql" } else { "dump" })
}

/// The end of the shell line that restores an artifact with stock tools.
pub fn stock_restore(name: &ArtifactName) -> &'static str {
    match name.format.as_str() {
        "globals.sql" => "psql -d postgres",
        format if format.ends_with("sql") => "psql -d DATABASE",
        _ => "pg_restore --no-owner -d DATABASE",
    }
}

/// What to know before [`stock_restore`] is run on what Lifeboat did not write.
pub fn stock_caution(name: &ArtifactName, is_ours: bool) -> Option<&'static str> {
    let caution = "psql runs what stands in the file, shell commands too (\\!, \\copy … from program): only for a file of your own. Lifeboat's restore reads it without psql, and refuses such lines.";
    (name.format.ends_with("sql") && !is_ours).then_some(caution)
}
