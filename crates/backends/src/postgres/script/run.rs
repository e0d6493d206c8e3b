//! Sends a plain SQL dump to a server.
//!
//! One message contains one statement: text that could be mistaken for several (because it contains a semicolon) is
//! sent by the extended protocol, in which the server rejects more than one. So the server executes exactly what the
//! reader has judged.

use std::collections::BTreeSet;
use std::future::Future;

use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use lifeboat_core::{ByteStream, Context, Error, ErrorKind, Result, progress};
use tokio_postgres::CopyInSink;

use super::{Event, Keep, Reader, Statement, Whole};
use crate::postgres::archive::{acl_roles, ident_len, unquote};
use crate::postgres::connection::Connection;
use crate::postgres::redact;
use crate::postgres::session::{Session, quote_literal};

/// The number of bytes scanned before yielding to other tasks.
const PIECE: usize = 256 << 10;

/// Settings that Lifeboat sets for its sessions itself: those in a dump are skipped. Older servers do not know all of
/// them.
const OURS: [&[u8]; 6] = [
    b"client_encoding",
    b"idle_in_transaction_session_timeout",
    b"idle_session_timeout",
    b"lock_timeout",
    b"statement_timeout",
    b"transaction_timeout",
];

/// How to run a dump. Statements that name missing roles are left out and reported.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Rules {
    /// Run everything in one transaction, for a database that is not discarded on failure.
    pub(crate) one_transaction: bool,
    /// Everything belongs to the restoring role.
    pub(crate) without_owners: bool,
    /// Without grants.
    pub(crate) without_privileges: bool,
}

/// The result of running a dump to its end.
#[derive(Debug, Default)]
pub(crate) struct Done {
    /// The kinds of statements that were left out because they are about the database as a whole.
    pub(crate) left_out: BTreeSet<&'static str>,
    /// The database that the dump calls its own (`pg_dump --create`).
    pub(crate) database: Option<String>,
    /// Missing tablespaces: their objects are in the database's tablespace instead.
    pub(crate) missing_tablespaces: BTreeSet<String>,
    /// Missing roles: statements that name them were left out.
    pub(crate) missing_roles: BTreeSet<String>,
}

/// Runs a dump of a database in the database that `into` names. The stream is read to its end in any case: whoever
/// watches it learns whether the artifact itself is whole.
///
/// # Errors
/// The stream's own, which outranks all others; what the [`Reader`] refuses; what the server fails with, by line and kind
/// of the statement. The rows and literals of the dump are not in it.
///
/// # Cancel safety
/// A dropped future closes its session: what was not committed is undone.
pub(crate) async fn run(mut stream: ByteStream, into: &Connection, rules: Rules, cx: &Context) -> Result<Done> {
    let ran = Runner::run(&mut stream, into, rules, cx).await;
    if ran.is_err() && !cx.cancel.is_cancelled() {
        while let Some(chunk) = stream.next().await {
            chunk?;
        }
    }
    ran
}

struct Runner<'a> {
    session: Session,
    rules: Rules,
    cx: &'a Context,
    done: Done,
    /// Of the dump; `None` is UTF-8, which is the session's.
    encoding: Option<String>,
    copy: Option<(std::pin::Pin<Box<CopyInSink<Bytes>>>, u64)>,
    tables: u64,
    /// Whether a transaction of the dump is open.
    block: bool,
    /// The server's roles.
    roles: BTreeSet<String>,
}

impl<'a> Runner<'a> {
    async fn run(stream: &mut ByteStream, into: &Connection, rules: Rules, cx: &'a Context) -> Result<Done> {
        let session = Session::open(into).await?;
        let names = session.rows("SELECT rolname FROM pg_catalog.pg_roles").await?;
        let roles = names.into_iter().filter_map(|row| row.into_iter().next().flatten()).collect();
        let done = Done::default();
        let mut runner = Self { session, rules, cx, done, encoding: None, copy: None, tables: 0, block: false, roles };
        if rules.one_transaction {
            runner.session.execute("BEGIN").await?;
        }
        let mut reader = Reader::new(Keep::All);
        let mut events = Vec::new();
        while let Some(chunk) = stream.next().await {
            let mut rest = chunk?;
            while !rest.is_empty() {
                let piece = rest.split_to(rest.len().min(PIECE));
                reader.push(&piece, &mut |event| events.push(event))?;
                for event in events.drain(..) {
                    runner.event(event).await?;
                }
            }
        }
        let whole = reader.finish()?;
        if runner.block {
            let why = "it begins a transaction that it does not end";
            return Err(Error::new(ErrorKind::Corrupt, "read", "the SQL dump", why).hint("use another artifact"));
        }
        if whole == Whole::Cluster {
            return Err(several());
        }
        if rules.one_transaction {
            runner.session.execute("COMMIT").await?;
        }
        Ok(runner.done)
    }

    async fn event(&mut self, event: Event) -> Result<()> {
        match event {
            Event::Rows(rows) => self.rows(rows).await,
            Event::CopyEnd => self.end_copy().await,
            Event::Copy { sql, line, kind } => self.copy(&sql, line, &kind).await,
            Event::Statement { sql, line, kind } => self.statement(&sql, line, kind).await,
            Event::Connect { database, line } => {
                if self.done.database.is_none() || database != self.done.database {
                    let why = format!(
                        "line {line} has \\connect, which leads into another database: everything goes into the one that was named"
                    );
                    return Err(Error::new(ErrorKind::Refused, "restore", "the SQL dump", why).hint(
                        "a dump of one database by `pg_dump --create` can be restored; from a dump by pg_dumpall, restore each database by hand",
                    ));
                }
                self.done.left_out.insert("\\connect");
                Ok(())
            }
        }
    }

    async fn statement(&mut self, sql: &Bytes, line: u64, kind: Statement) -> Result<()> {
        match kind {
            Statement::Begin | Statement::Commit if self.rules.one_transaction => return Ok(()),
            Statement::Begin => self.block = true,
            Statement::Commit => self.block = false,
            Statement::Database { what, name } => {
                let name = name.map(|name| String::from_utf8_lossy(&name).into_owned());
                if what == "CREATE DATABASE" {
                    if self.done.database.is_some() {
                        return Err(several());
                    }
                    self.done.database = name;
                }
                self.done.left_out.insert(what);
                return Ok(());
            }
            Statement::ServerWide(what) => {
                let why = format!(
                    "line {line} has {what}: it changes the server, not the database, and would stay if the restore failed"
                );
                return Err(Error::new(ErrorKind::Refused, "restore", "the SQL dump", why).hint(
                    "roles come back from a dump by `pg_dumpall --globals-only` whose name ends in .globals.sql",
                ));
            }
            Statement::Set { name, value } if OURS.contains(&&*name) => {
                if name == b"client_encoding" {
                    let name = String::from_utf8_lossy(&value.unwrap_or_default()).into_owned();
                    let plain: String = name.chars().filter(char::is_ascii_alphanumeric).collect();
                    let unicode = matches!(&*plain.to_ascii_lowercase(), "utf8" | "unicode");
                    self.encoding = (!unicode).then_some(name);
                }
                return Ok(());
            }
            Statement::Set { name, value: Some(space) } if name == b"default_tablespace" && !space.is_empty() => {
                let space = String::from_utf8_lossy(&space).into_owned();
                let literal = quote_literal(&space);
                let sql = format!("SELECT 1 FROM pg_catalog.pg_tablespace WHERE spcname = {literal}");
                if self.session.value(&sql).await?.is_none() {
                    self.done.missing_tablespaces.insert(space);
                    return self.session.execute("SET default_tablespace = ''").await;
                }
            }
            // Of a dump by `pg_dump --schema=public`: every database has it.
            Statement::Other
                if sql.trim_ascii().eq_ignore_ascii_case(b"CREATE SCHEMA public")
                    && self.session.value("SELECT pg_catalog.to_regnamespace('public')").await?.is_some() =>
            {
                return Ok(());
            }
            _ => {}
        }
        let text = self.text(sql, line, false).await?;
        if self.leaves_out(&text) {
            return Ok(());
        }
        let sent = async {
            match sql.contains(&b';') {
                true => self.session.client().execute(&*text, &[]).await.map(drop),
                false => self.session.client().batch_execute(&text).await,
            }
        };
        match self.until_cancelled(sent).await? {
            Ok(()) => Ok(()),
            Err(error) => Err(self.told(&error, sql, line)),
        }
    }

    /// A statement in the session's encoding.
    async fn text(&self, sql: &Bytes, line: u64, is_copy: bool) -> Result<String> {
        let unicode = std::str::from_utf8(sql).ok().map(str::to_owned);
        let Some(encoding) = self.encoding.as_ref().filter(|_| !sql.is_ascii()) else {
            return unicode.ok_or_else(|| {
                let why = format!("the statement in line {line} is not UTF-8, as the dump says");
                Error::new(ErrorKind::Corrupt, "read", "the SQL dump", why)
            });
        };
        if encoding.eq_ignore_ascii_case("sql_ascii") {
            if let Some(unicode) = unicode {
                return Ok(unicode);
            }
            if is_copy {
                let why = format!("the COPY in line {line} has a name that is not UTF-8, but the dump has no encoding");
                return Err(Error::new(ErrorKind::Unsupported, "restore", "the SQL dump", why)
                    .hint("rename the table or column at the source, or restore by hand: `lifeboat show` prints the line for it"));
            }
            // Bytes of no encoding cannot pass as text: the server puts them together.
            let statement =
                format!("pg_catalog.convert_from(pg_catalog.decode('{}', 'hex'), 'SQL_ASCII')", hex::encode(sql));
            return Ok(format!("DO $lifeboat$ BEGIN EXECUTE {statement}; END $lifeboat$"));
        }
        let converted = self
            .session
            .client()
            .query_one("SELECT pg_catalog.convert_from($1, $2)", &[&&sql[..], encoding])
            .await
            .map_err(|e| self.told(&e, b"SET client_encoding", line))?;
        converted.try_get(0).map_err(|e| self.session.error(&e))
    }

    async fn copy(&mut self, sql: &Bytes, line: u64, kind: &Statement) -> Result<()> {
        let mut text = self.text(sql, line, true).await?;
        if let Some(encoding) = &self.encoding {
            if *kind != (Statement::CopyIn { options: false }) {
                let why = format!("line {line} has a COPY with options, in a dump that is not in UTF-8");
                return Err(Error::new(ErrorKind::Unsupported, "read", "the SQL dump", why)
                    .hint("write it with `pg_dump --encoding=UTF8`"));
            }
            text = format!("{text} WITH (ENCODING {})", quote_literal(encoding));
        }
        let opened = self.until_cancelled(self.session.client().copy_in::<_, Bytes>(&*text)).await?;
        let sink = opened.map_err(|e| self.told(&e, sql, line))?;
        self.copy = Some((Box::pin(sink), line));
        Ok(())
    }

    async fn rows(&mut self, rows: Bytes) -> Result<()> {
        let Some((mut sink, line)) = self.copy.take() else { return Ok(()) };
        // `feed` instead of `send`: only full buffers are flushed.
        if self.until_cancelled(sink.feed(rows)).await?.is_err() {
            // Why is in the answer.
            let error = sink.as_mut().finish().await.err();
            let told = error.map(|e| self.told(&e, b"COPY", line));
            return Err(
                told.unwrap_or_else(|| Error::new(ErrorKind::Unavailable, "restore", "the rows", "COPY ended early"))
            );
        }
        self.copy = Some((sink, line));
        Ok(())
    }

    async fn end_copy(&mut self) -> Result<()> {
        let Some((mut sink, line)) = self.copy.take() else { return Ok(()) };
        let finished = self.until_cancelled(async { sink.as_mut().finish().await }).await?;
        finished.map_err(|e| self.told(&e, b"COPY", line))?;
        self.tables += 1;
        self.cx.progress.event(progress::Event::Items { done: self.tables, what: "tables" });
        Ok(())
    }

    /// Whether a statement is left out, because of a missing role or on request.
    fn leaves_out(&mut self, sql: &str) -> bool {
        let Some((speaks, named)) = Speaks::of(sql) else { return false };
        match speaks {
            Speaks::Owner if self.rules.without_owners => return true,
            Speaks::Privileges if self.rules.without_privileges => return true,
            _ => {}
        }
        let missing: Vec<String> = named.into_iter().filter(|role| !self.roles.contains(role)).collect();
        let any = !missing.is_empty();
        self.done.missing_roles.extend(missing);
        any
    }

    /// An error with the statement's line and kind, without its values.
    fn told(&self, error: &tokio_postgres::Error, sql: &[u8], line: u64) -> Error {
        let plain = self.session.error(error);
        let Some(db) = error.as_db_error() else { return plain };
        let message = format!("line {line}, {}: {}", redact::kind_of(sql), redact::answer(db));
        Error::new(plain.kind(), "restore", "the SQL dump", message)
    }

    async fn until_cancelled<T>(&self, work: impl Future<Output = T>) -> Result<T> {
        tokio::select! {
            biased;
            () = self.cx.cancel.cancelled() => Err(Error::cancelled("restore", "the SQL dump")),
            done = work => Ok(done),
        }
    }
}

/// How a statement refers to roles.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Speaks {
    Owner,
    Privileges,
    Other,
}

impl Speaks {
    /// Classifies a statement, with the roles that it refers to.
    fn of(sql: &str) -> Option<(Self, Vec<String>)> {
        let starts = |words: &[&str]| words.iter().any(|word| sql.starts_with(word));
        if starts(&["GRANT ", "REVOKE ", "ALTER DEFAULT PRIVILEGES "]) {
            return Some((Self::Privileges, acl_roles(sql.as_bytes())));
        }
        if sql.starts_with("ALTER ") {
            let role = sql.rsplit_once(" OWNER TO ")?.1.trim_end();
            // A name and nothing else: it could stand in a literal.
            let is_name = ident_len(role.as_bytes()) == Some(role.len());
            return is_name.then(|| (Self::Owner, vec![unquote(role)]));
        }
        if let Some(rest) = sql.strip_prefix("CREATE USER MAPPING FOR ") {
            let role = unquote(rest.get(..ident_len(rest.as_bytes())?)?);
            return (role != "public").then(|| (Self::Other, vec![role]));
        }
        // Conditions of a policy are in parentheses.
        let start = sql.split('(').next()?;
        starts(&["SET SESSION AUTHORIZATION ", "CREATE POLICY "]).then(|| (Self::Other, acl_roles(start.as_bytes())))
    }
}

fn several() -> Error {
    let why = "it is pg_dumpall's dump of a whole server, not of one database";
    Error::new(ErrorKind::Unsupported, "restore", "the SQL dump", why)
        .hint("dump each database separately, and the roles with `pg_dumpall --globals-only`")
}

#[cfg(test)]
mod tests {
    use super::Speaks;

    #[test]
    fn the_roles_of_a_statement_are_found() {
        for (sql, expected) in [
            ("ALTER TABLE public.t OWNER TO app", &["app"][..]),
            ("ALTER FUNCTION public.f(a text) OWNER TO \"My \"\"App\"", &["My \"App"]),
            ("GRANT SELECT(id),INSERT(id) ON TABLE public.t TO app", &["app"]),
            ("CREATE POLICY p ON public.t TO a, b USING ((x TO z))", &["a", "b"]),
            ("CREATE USER MAPPING FOR app SERVER s", &["app"]),
            ("SET SESSION AUTHORIZATION app", &["app"]),
        ] {
            assert_eq!(Speaks::of(sql).unwrap().1, expected, "{sql}");
        }
        for sql in [
            "ALTER TABLE t ALTER COLUMN c SET DEFAULT ' OWNER TO x'",
            "ALTER TABLE t RENAME TO x",
            "CREATE USER MAPPING FOR PUBLIC SERVER s",
            "CREATE TABLE x (a text)",
        ] {
            assert!(Speaks::of(sql).is_none(), "{sql}");
        }
    }
}
