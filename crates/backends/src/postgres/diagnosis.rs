//! Why pg_dump failed: what the role lacks, by name.

use lifeboat_core::{Check, Error, ErrorKind};

use super::archive::quote_ident;
use super::connection::Connection;
use super::session::Session;
use crate::child::Ended;

/// Tables that row security hides from the role, unless it owns them or may bypass it.
const ROW_SECURITY: &str = "
    SELECT c.oid::pg_catalog.regclass::text FROM pg_catalog.pg_class c JOIN pg_catalog.pg_roles me ON me.rolname = current_user
    WHERE c.relrowsecurity AND NOT me.rolsuper AND NOT me.rolbypassrls
      AND (c.relforcerowsecurity OR NOT pg_catalog.pg_has_role(c.relowner, 'USAGE'))
    ORDER BY 1 LIMIT 11";

/// Tables and sequences that the role may not read.
const UNREADABLE: &str = "
    SELECT c.oid::pg_catalog.regclass::text FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p', 'm', 'S') AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_(toast|temp)'
      AND NOT CASE WHEN c.relkind = 'S' THEN pg_catalog.has_sequence_privilege(c.oid, 'SELECT')
                   ELSE pg_catalog.has_table_privilege(c.oid, 'SELECT') END
    ORDER BY 1 LIMIT 11";

/// Schemas that the role may not enter.
const CLOSED_SCHEMAS: &str = "
    SELECT nspname FROM pg_catalog.pg_namespace
    WHERE nspname NOT IN ('pg_catalog', 'information_schema') AND nspname !~ '^pg_(toast|temp)'
      AND NOT pg_catalog.has_schema_privilege(oid, 'USAGE') ORDER BY 1 LIMIT 11";

/// Large objects that the role neither owns nor has been granted. pg_read_all_data does not cover them.
const LARGE_OBJECTS: &str = "
    SELECT l.oid::text FROM pg_catalog.pg_largeobject_metadata l JOIN pg_catalog.pg_roles me ON me.rolname = current_user
    WHERE NOT me.rolsuper AND NOT pg_catalog.pg_has_role(l.lomowner, 'USAGE')
      AND NOT EXISTS (SELECT FROM pg_catalog.aclexplode(l.lomacl) a
                      WHERE a.privilege_type = 'SELECT' AND (a.grantee = 0 OR pg_catalog.pg_has_role(a.grantee, 'USAGE')))
    ORDER BY l.oid LIMIT 11";

/// One kind of right that a role lacks.
struct Lack {
    name: &'static str,
    sql: &'static str,
    what: &'static str,
    remedy: fn(&str) -> String,
    /// Whether a membership would give it.
    by_membership: bool,
}

const LACKS: [Lack; 4] = [
    Lack {
        name: "schemas",
        sql: CLOSED_SCHEMAS,
        what: "it cannot enter the schemas",
        remedy: |user| {
            format!("GRANT pg_read_all_data TO {user} (PostgreSQL 14 and later), or GRANT USAGE ON SCHEMA … TO {user}")
        },
        by_membership: true,
    },
    Lack {
        name: "tables",
        sql: UNREADABLE,
        what: "it may not read",
        remedy: |user| {
            format!("GRANT pg_read_all_data TO {user} (PostgreSQL 14 and later), or GRANT SELECT ON … TO {user}")
        },
        by_membership: true,
    },
    Lack {
        name: "row security",
        sql: ROW_SECURITY,
        what: "row security hides rows of",
        remedy: |user| format!("ALTER ROLE {user} BYPASSRLS (as a superuser), or back up as the tables' owner"),
        by_membership: false,
    },
    Lack {
        name: "large objects",
        sql: LARGE_OBJECTS,
        what: "it cannot read the large objects",
        remedy: |user| {
            format!(
                "back up as their owner or a superuser, or leave them out with extra_args = [\"--no-blobs\"]; pg_read_all_data does not cover them (role {user})"
            )
        },
        by_membership: false,
    },
];

/// What client programs say when they have lost their session, or got none: libpq's `fe-misc.c`, `fe-exec.c`, `fe-secure*.c` and
/// `fe-connect.c`, and what a server says that ends (`ProcessInterrupts` in `postgres.c`) or is not ready (`postmaster.c`).
const LOST: [&str; 14] = [
    "server closed the connection unexpectedly",
    "could not receive data from server",
    "could not send data to server",
    "connection to server was lost",
    "no connection to the server",
    "ssl syscall error",
    "ssl connection has been closed unexpectedly",
    "terminating connection due to",
    "the database system is shutting down",
    "the database system is starting up",
    "the database system is in recovery mode",
    "connection refused",
    "timeout expired",
    // A standby whose primary removes what the dump still reads.
    "canceling statement due to conflict with recovery",
];

/// The error of a client program: [`ErrorKind::Unavailable`], which is transient, if it has lost its session.
pub(super) fn of_program(ended: &Ended, operation: &'static str, connection: &Connection) -> Error {
    let error = ended.error(operation, connection.redacted());
    let words = ended.stderr.to_lowercase();
    if !LOST.iter().any(|said| words.contains(said)) {
        return error;
    }
    Error::new(ErrorKind::Unavailable, operation, connection.redacted(), error.message().to_owned())
        .hint("run it again; if it keeps happening, look for a restart in the server's log, and for a proxy or pooler in between that ends sessions")
}

/// The error for a failed pg_dump: its own words, and what the role lacks if that is the cause.
pub(crate) async fn explain(connection: &Connection, ended: Ended) -> Error {
    let error = of_program(&ended, "back up", connection);
    if error.kind() == ErrorKind::Unavailable {
        return error;
    }
    let words = ended.stderr.to_lowercase();
    if words.contains("aborting because of server version mismatch") {
        return error
            .hint("install the client programs of the server's version, or set LIFEBOAT_PG_BIN to their folder");
    }
    if words.contains("no matching tables were found") || words.contains("no matching schemas were found") {
        return error.hint(
            "check schemas and tables in the job: they are patterns, and names with capitals need double quotes",
        );
    }
    // pg_dump's --lock-wait-timeout is a statement_timeout for its LOCK TABLE (getTables in pg_dump.c).
    let lock = words.contains("lock table") && words.contains("statement timeout");
    if lock || words.contains("lock timeout") {
        return error.hint("another session holds a lock on a table: find it in pg_locks; extra_args = [\"--lock-wait-timeout=…\"] waits longer");
    }
    if !words.contains("permission denied") && !words.contains("row-level security") {
        return error;
    }
    let Ok(session) = Session::open(connection).await else { return error };
    for lack in &LACKS {
        if let Some(names) = names(&session, lack).await {
            let message = format!("role {} cannot read everything: {} {names}", connection.user, lack.what);
            return Error::new(ErrorKind::Permission, "back up", connection.redacted(), message)
                .hint(remedy(lack, &session, &connection.user).await)
                .with_source(error);
        }
    }
    error
}

/// Which sessions the session with this `application_name` waits for, as far as the role may see them.
pub(crate) async fn waits_for(session: &Session, application_name: &str) -> Option<String> {
    let sql = format!(
        "SELECT COALESCE(l.relation::pg_catalog.regclass::text, 'an object'), b.pid::text, b.usename, b.application_name
         FROM pg_catalog.pg_stat_activity w
         JOIN pg_catalog.pg_locks l ON l.pid = w.pid AND NOT l.granted
         LEFT JOIN pg_catalog.pg_stat_activity b ON b.pid = ANY (pg_catalog.pg_blocking_pids(w.pid))
         WHERE w.application_name = {} ORDER BY b.xact_start LIMIT 3",
        super::session::quote_literal(application_name)
    );
    let rows = session.rows(&sql).await.ok()?;
    let relation = rows.first()?.first()?.clone()?;
    let blockers: Vec<String> = rows
        .iter()
        .filter_map(|row| {
            let [_, Some(pid), user, program] = &row[..] else { return None };
            let known = |value: &Option<String>| value.clone().filter(|v| !v.is_empty());
            let program = known(program).map(|program| format!(" ({program})")).unwrap_or_default();
            Some(format!("process {pid} of {}{program}", known(user).unwrap_or_else(|| "a user".to_owned())))
        })
        .collect();
    let whom = if blockers.is_empty() { "somebody".to_owned() } else { blockers.join(", ") };
    Some(format!("the backup waits for a lock on {relation}: {whom} holds it or is ahead in the queue"))
}

/// Checks what the role lacks for a full dump, for `lifeboat check`.
pub(crate) async fn rights(connection: &Connection, session: &Session) -> Vec<Check> {
    let mut checks = Vec::new();
    for lack in &LACKS {
        if let Some(names) = names(session, lack).await {
            let detail = format!("{} {names}: {}", lack.what, remedy(lack, session, &connection.user).await);
            checks.push(Check::fail(format!("rights: {}", lack.name), "missing", detail));
        }
    }
    if checks.is_empty() {
        checks.push(Check::pass(
            "rights",
            "enough",
            format!("role {} can read every table and large object", connection.user),
        ));
    }
    checks
}

/// What to do about a missing right. Memberships count only if they are inherited: another grant would change nothing.
async fn remedy(lack: &Lack, session: &Session, user: &str) -> String {
    let plain = (lack.remedy)(user);
    if !lack.by_membership {
        return plain;
    }
    let sql = "SELECT rolinherit::text,
               (SELECT r.rolname FROM pg_catalog.pg_roles r
                WHERE pg_catalog.pg_has_role(r.oid, 'MEMBER') AND NOT pg_catalog.pg_has_role(r.oid, 'USAGE')
                ORDER BY r.rolname <> 'pg_read_all_data', r.rolname LIMIT 1)
        FROM pg_catalog.pg_roles WHERE rolname = current_user";
    let row = session.rows(sql).await.ok().and_then(|rows| rows.into_iter().next()).unwrap_or_default();
    let [Some(inherits), member_of] = &row[..] else { return plain };
    let role = quote_ident(user);
    match member_of {
        // Since 16 each grant says whether it is inherited; ALTER ROLE only changes those to come.
        Some(of) if session.major() >= 16 => format!(
            "{user} is a member of {of} without inheriting its rights: GRANT {} TO {role} WITH INHERIT TRUE; if that is not enough, {plain}",
            quote_ident(of)
        ),
        Some(of) => format!(
            "{user} is a member of {of}, but NOINHERIT: its rights do not count. ALTER ROLE {role} INHERIT; if that is not enough, {plain}"
        ),
        None if inherits == "false" && session.major() < 16 => {
            format!("{user} is NOINHERIT: ALTER ROLE {role} INHERIT, and then {plain}")
        }
        None => plain,
    }
}

async fn names(session: &Session, lack: &Lack) -> Option<String> {
    let rows = match session.rows(lack.sql).await {
        Ok(rows) => rows,
        Err(error) => {
            tracing::debug!(%error, "the rights could not be queried");
            return None;
        }
    };
    let mut names: Vec<String> = rows.into_iter().filter_map(|row| row.into_iter().next().flatten()).collect();
    if names.is_empty() {
        return None;
    }
    if names.len() > 10 {
        names.truncate(10);
        names.push("and more".to_owned());
    }
    Some(names.join(", "))
}
