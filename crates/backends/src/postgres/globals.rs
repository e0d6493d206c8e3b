//! Restores the roles of a server from the output of `pg_dumpall --globals-only`: read completely, then run statement
//! by statement.

use lifeboat_core::{ByteStream, Check, Context, Error, ErrorKind, RestoreInput, Result};

use super::archive::ident_len;
use super::connection::Connection;
use super::dump::Look;
use super::script::{Event, Keep, Reader, Statement, Whole};

/// A limit larger than any server's roles.
const SIZE_LIMIT: usize = 256 << 20;

/// One statement about roles or tablespaces.
pub(super) struct Global {
    pub(super) sql: String,
    /// Whether it is about a tablespace: a folder of the source's machine.
    pub(super) tablespace: bool,
}

/// Reads a dump to its end.
///
/// # Errors
/// The stream's own error, and [`ErrorKind::Corrupt`] if it is incomplete or contains statements that are not about
/// roles; nothing has been run then.
pub(super) async fn read(stream: ByteStream) -> Result<Vec<Global>> {
    let text = lifeboat_core::stream::collect(stream, SIZE_LIMIT, "the globals dump").await?;
    let mut reader = Reader::new(Keep::All);
    let mut events = Vec::new();
    reader.push(&text, &mut |event| events.push(event))?;
    let corrupt = |why: String| Error::new(ErrorKind::Corrupt, "read", "the globals dump", why);
    if reader.finish()? != Whole::Cluster {
        return Err(corrupt("it is pg_dump's dump of a database, not of a server's roles".to_owned()));
    }
    let mut found = Vec::new();
    for event in events {
        match event {
            Event::Statement { kind: Statement::Set { name, .. }, .. } if name == b"client_encoding" => {}
            Event::Statement { sql, line, kind } => {
                let tablespace = matches!(&kind, Statement::ServerWide(what) if what.contains("TABLESPACE"));
                match kind {
                    Statement::ServerWide(_)
                    | Statement::Set { .. }
                    | Statement::Database { what: "ALTER ROLE … IN DATABASE", .. } => {}
                    _ => {
                        let kind = super::redact::kind_of(&sql);
                        return Err(corrupt(format!(
                            "line {line} has {kind}, which does not belong in a dump of roles"
                        )));
                    }
                }
                let sql = String::from_utf8(sql.to_vec())
                    .map_err(|_| corrupt(format!("the statement in line {line} is not UTF-8")))?;
                found.push(Global { sql, tablespace });
            }
            // pg_dumpall before 11 begins with it. Roles are the same in every database.
            Event::Connect { database, .. } if matches!(database.as_deref(), Some("postgres" | "template1")) => {}
            Event::Connect { line, .. } => {
                return Err(corrupt(format!("line {line} has \\connect, which leads into a database")));
            }
            Event::Copy { line, .. } => return Err(corrupt(format!("line {line} has rows of a table"))),
            Event::Rows(_) | Event::CopyEnd => {}
        }
    }
    Ok(found)
}

/// The role that a `CREATE ROLE` or `ALTER ROLE` of pg_dumpall is about, as it is written.
fn role_of(statement: &str) -> Option<&str> {
    let rest = statement.strip_prefix("CREATE ROLE ").or_else(|| statement.strip_prefix("ALTER ROLE "))?;
    rest.get(..ident_len(rest.as_bytes())?)
}

/// Runs the statements one by one: roles that exist are kept as they are.
pub(super) async fn restore(connection: &Connection, input: RestoreInput, cx: &Context) -> Result<Vec<Check>> {
    let look = Look::at(connection).await?;
    look.session.not_bent()?;
    let all = read(input.stream).await?;
    let mut checks = Vec::new();
    let (mut done, mut kept) = (0, Vec::new());
    // One transaction for all: roles are created together or not at all. Tablespaces cannot be created in one.
    let (tablespaces, roles): (Vec<&Global>, Vec<&Global>) = all.iter().partition(|g| g.tablespace);
    look.session.execute("BEGIN").await?;
    for Global { sql: statement, .. } in roles {
        if cx.cancel.is_cancelled() {
            return Err(Error::cancelled("restore", connection.redacted()));
        }
        let role = role_of(statement);
        // Statements about an existing role are skipped: its password and rights belong to this server.
        if role.is_some_and(|role| kept.contains(&role)) {
            continue;
        }
        look.session.execute("SAVEPOINT statement").await?;
        match look.session.execute(statement).await {
            Ok(()) => done += 1,
            Err(error) if error.kind() == ErrorKind::AlreadyExists && role.is_some() => {
                look.session.execute("ROLLBACK TO SAVEPOINT statement").await?;
                kept.extend(role);
            }
            Err(error) => {
                // The statement may hold a password's hash: only its first words are shown.
                let words: Vec<&str> = statement.split_whitespace().take(3).collect();
                return Err(Error::new(
                    error.kind(),
                    "restore the roles into",
                    connection.redacted(),
                    format!("{}: {}", words.join(" "), error.message()),
                )
                .hint("nothing was changed; only a superuser can restore roles and their passwords"));
            }
        }
    }
    look.session.execute("COMMIT").await?;
    for Global { sql: statement, .. } in tablespaces {
        if let Err(error) = look.session.execute(statement).await {
            let words: Vec<&str> = statement.split_whitespace().take(3).collect();
            checks.push(Check::warn("tablespace", words.join(" "), error.message()));
        }
    }
    if !kept.is_empty() {
        checks.push(Check::warn(
            "roles",
            format!("{} there already", kept.len()),
            format!("kept as they were: {}", kept.join(", ")),
        ));
    }
    checks.insert(0, Check::pass("restored", format!("{done} statements"), format!("into {}", connection.redacted())));
    Ok(checks)
}
