//! `--replace`: a restored database takes the name of the live one.
//!
//! Both renames are one transaction, so the name always leads to one whole database: the old one or the new one. The old
//! one is never closed (`ALLOW_CONNECTIONS`): a rename locks its database first, so that no new session gets in, and then
//! waits up to five seconds for those that are in there (`RenameDatabase` and `CountOtherDBBackends` in the server's
//! sources). A second session terminates those meanwhile. If Lifeboat is killed in between, the server rolls back what
//! was not committed.

use std::time::{Duration, Instant};

use lifeboat_core::{Check, Context, Error, ErrorKind, Result};

use super::archive::quote_ident;
use super::connection::Connection;
use super::session::{Session, quote_literal};

/// How long to wait for prepared transactions of the live database.
const PREPARED_LIMIT: Duration = Duration::from_secs(5);
/// How often the swap is tried. Each try keeps new sessions waiting for at most as long as the server waits for old ones.
const TRIES: usize = 3;
/// How often sessions that must end are terminated.
const PACE: Duration = Duration::from_millis(50);
/// How often a fresh session is attempted after one was lost, and the pause in between.
const FRESH: (usize, Duration) = (25, Duration::from_millis(200));

/// A swap: which database takes which name.
pub(super) struct Swap<'a> {
    /// The server, by a database that is neither of them.
    pub(super) server: &'a Connection,
    /// The live database.
    pub(super) name: &'a str,
    /// The restored one.
    pub(super) temporary: &'a str,
    pub(super) keep_replaced: bool,
}

impl Swap<'_> {
    /// The name of the replaced one.
    fn aside(&self) -> String {
        const SUFFIX: &str = "_replaced";
        format!("{}{SUFFIX}", shortened(self.temporary, 63 - SUFFIX.len(), false))
    }

    /// Gives the restored database the name. The check reports what happened.
    ///
    /// # Errors
    /// The live database is unchanged or, if the connection is lost for good, its state is unknown: the message says
    /// how to check. A failure after the swap is a check, not an error.
    ///
    /// # Cancel safety
    /// A dropped future leaves either the old or the new database under the name, complete and open.
    pub(super) async fn run(&self, cx: &Context) -> Result<Vec<Check>> {
        let aside = self.aside();
        // A session of its own: the one that began the restore may have been idle for hours.
        let mover = Mover::open(self.server).await?;
        if let Err(error) = self.rename(&mover, &aside, cx).await {
            match self.has_happened(mover, &aside).await {
                Some(true) => tracing::warn!(%error, "the connection was lost after the swap"),
                Some(false) => {
                    let hint = error.advice().map_or_else(
                        || "the old database is untouched; end the sessions that hold it, and try again".to_owned(),
                        |advice| format!("the old database is untouched; {advice}"),
                    );
                    return Err(Error::new(
                        error.kind(),
                        "replace",
                        self.server.with_database(self.name).redacted(),
                        error.message(),
                    )
                    .hint(hint)
                    .with_source(error));
                }
                None => {
                    let why = format!("the connection was lost during the swap: {}", error.message());
                    let subject = self.server.with_database(self.name).redacted();
                    return Err(Error::new(error.kind(), "replace", subject, why)
                        .hint(format!(
                            "one of the two is complete: if a database {aside} exists, it is the old one and the restored one has the name; if {} exists, nothing was replaced. Both accept connections",
                            self.temporary
                        ))
                        .with_source(error));
                }
            }
        }
        Ok(vec![self.settle(&aside).await])
    }

    async fn rename(&self, Mover { session: swapper, .. }: &Mover, aside: &str, cx: &Context) -> Result<()> {
        let ender = Session::open(self.server).await?;
        let swap = format!(
            "BEGIN; SET LOCAL lock_timeout = '5s'; ALTER DATABASE {name} RENAME TO {aside}; ALTER DATABASE {temporary} RENAME TO {name}",
            name = quote_ident(self.name),
            aside = quote_ident(aside),
            temporary = quote_ident(self.temporary),
        );
        let end_sessions = format!(
            "SELECT pg_catalog.pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity WHERE datname IN ({}, {}) AND pid <> pg_catalog.pg_backend_pid()",
            quote_literal(self.name),
            quote_literal(self.temporary)
        );
        let mut failed = None;
        for _ in 0..TRIES {
            no_prepared_transactions(&ender, self.name, PREPARED_LIMIT, cx).await?;
            if cx.cancel.is_cancelled() {
                return Err(Error::cancelled("replace", self.name));
            }
            // The rename comes first: it locks the name, and then waits for the sessions that are being terminated.
            let mut swapping = std::pin::pin!(swapper.execute(&swap));
            let swapped = loop {
                tokio::select! {
                    biased;
                    swapped = &mut swapping => break swapped,
                    () = tokio::time::sleep(PACE) => {}
                }
                if let Err(error) = ender.rows(&end_sessions).await {
                    // A superuser's session, for one, can be ended by superusers only. The swap says whether it mattered.
                    tracing::debug!(%error, "a session could not be ended");
                    failed = Some(error);
                }
            };
            // Sent by itself: a connection that was lost before this has changed nothing.
            let Err(error) = swapped else { return swapper.execute("COMMIT").await };
            // The failed transaction is still open. When this fails too, the session is gone, and its transaction with it.
            swapper.execute("ROLLBACK").await?;
            let error = match failed.take() {
                Some(cause) if cause.kind() == ErrorKind::Permission => {
                    Error::new(cause.kind(), "end", "the sessions of the live database", cause.message())
                        .hint("they belong to superusers: end them, and try again")
                }
                _ => error,
            };
            failed = Some(error);
        }
        no_prepared_transactions(&ender, self.name, Duration::ZERO, cx).await?;
        Err(failed.expect("there was at least one try, and it failed"))
    }

    /// Whether the swap has been committed, according to a fresh session. `None` if there is none.
    async fn has_happened(&self, mover: Mover, aside: &str) -> Option<bool> {
        let there =
            |name: &str| format!("EXISTS (SELECT FROM pg_catalog.pg_database WHERE datname = {})", quote_literal(name));
        let sql = format!("SELECT ({} AND NOT {})::text", there(aside), there(self.temporary));
        mover.ask_afterwards(self.server, &sql).await.map(|answer| answer == "true")
    }

    /// The remaining steps after the swap, none of which can undo the restore.
    async fn settle(&self, aside: &str) -> Check {
        if self.keep_replaced {
            return Check::pass("replaced", aside, "the database that was replaced is kept under this name");
        }
        let dropped =
            async { Session::open(self.server).await?.execute(&format!("DROP DATABASE {}", quote_ident(aside))).await };
        match dropped.await {
            Ok(()) => Check::pass("replaced", self.name, "the database that was replaced is gone"),
            Err(error) => {
                let detail = format!(
                    "the restored database has the name; the one that was replaced stays under this one: {} (DROP DATABASE {} removes it)",
                    error.message(),
                    quote_ident(aside)
                );
                Check::warn("replaced", aside, detail)
            }
        }
    }
}

/// Gives a restored database a name that no other has.
///
/// # Errors
/// Whether the name is free, as far as can be found out.
pub(super) async fn name_new(server: &Connection, temporary: &str, name: &str) -> Result<()> {
    let rename = format!("ALTER DATABASE {} RENAME TO {}", quote_ident(temporary), quote_ident(name));
    let mover = Mover::open(server).await?;
    let Err(error) = mover.session.execute(&rename).await else { return Ok(()) };
    // The answer may be all that was lost.
    let sql = format!(
        "SELECT (NOT EXISTS (SELECT FROM pg_catalog.pg_database WHERE datname = {}))::text",
        quote_literal(temporary)
    );
    match mover.ask_afterwards(server, &sql).await.as_deref() {
        Some("true") => Ok(()),
        _ => Err(error),
    }
}

/// Drops the database of a failed restore.
pub(super) async fn discard(server: &Connection, temporary: &str) {
    let drop = format!("DROP DATABASE IF EXISTS {}", quote_ident(temporary));
    // What is left of the restore: sessions whose connections were lost. One may still be making the database.
    let name = quote_literal(temporary);
    let others = format!(
        "SELECT pg_catalog.pg_terminate_backend(pid)::text FROM pg_catalog.pg_stat_activity
         WHERE application_name = 'lifeboat' AND pid <> pg_catalog.pg_backend_pid() AND (datname = {name} OR pg_catalog.strpos(query, {name}) > 0)"
    );
    let mut left = None;
    for _ in 0..FRESH.0 {
        let dropped = async {
            let session = Session::open(server).await?;
            if session.value(&others).await?.is_some() {
                return Ok(false);
            }
            session.execute(&drop).await.map(|()| true)
        };
        match dropped.await {
            Ok(true) => return,
            Ok(false) => {}
            Err(error) => left = Some(error),
        }
        tokio::time::sleep(FRESH.1).await;
    }
    let error = left.map(|e| e.to_string()).unwrap_or_default();
    tracing::warn!(database = temporary, %error, "the temporary database stays behind; `{drop}` removes it");
}

/// A session that renames, and the server's process behind it.
struct Mover {
    session: Session,
    pid: String,
}

impl Mover {
    async fn open(server: &Connection) -> Result<Self> {
        let session = Session::open(server).await?;
        let pid = session.value("SELECT pg_catalog.pg_backend_pid()::text").await?.unwrap_or_default();
        Ok(Self { session, pid })
    }

    /// Asks in a fresh session, after this one has ended: what it does can then no longer change. A few times.
    async fn ask_afterwards(self, server: &Connection, sql: &str) -> Option<String> {
        drop(self.session);
        let own =
            format!("FROM pg_catalog.pg_stat_activity WHERE pid = {} AND application_name = 'lifeboat'", self.pid);
        for attempt in 0..FRESH.0 {
            if attempt > 0 {
                tokio::time::sleep(FRESH.1).await;
            }
            let asked = async {
                let session = Session::open(server).await?;
                let begun = Instant::now();
                while session
                    .value(&format!("SELECT pg_catalog.pg_terminate_backend(pid)::text {own}"))
                    .await?
                    .is_some()
                {
                    if begun.elapsed() > Duration::from_secs(30) {
                        let why = "the session that renamed does not end";
                        return Err(Error::new(ErrorKind::Unavailable, "ask", server.redacted(), why));
                    }
                    tokio::time::sleep(PACE).await;
                }
                session.value(sql).await
            };
            match asked.await {
                Ok(answer) => return answer,
                Err(error) => tracing::debug!(%error, "no fresh session"),
            }
        }
        None
    }
}

/// Waits for the prepared transactions of a database to end.
///
/// # Errors
/// [`ErrorKind::Refused`] with their names if they do not: a database with a prepared transaction is not renamed.
pub(super) async fn no_prepared_transactions(
    session: &Session,
    database: &str,
    limit: Duration,
    cx: &Context,
) -> Result<()> {
    let sql = format!(
        "SELECT gid, prepared::text FROM pg_catalog.pg_prepared_xacts WHERE database = {} ORDER BY prepared LIMIT 4",
        quote_literal(database)
    );
    let begun = Instant::now();
    loop {
        let rows = session.rows(&sql).await?;
        let Some([Some(gid), Some(since)]) = rows.first().map(|row| &row[..]) else { return Ok(()) };
        if begun.elapsed() >= limit {
            let more = if rows.len() > 1 { " (and others)" } else { "" };
            let gid = quote_literal(gid);
            let why =
                format!("the database has a prepared transaction, {gid}, since {since}{more}: it cannot be renamed");
            return Err(Error::new(ErrorKind::Refused, "replace", database, why).hint(format!(
                "end it, connected to that database: COMMIT PREPARED {gid} or ROLLBACK PREPARED {gid}"
            )));
        }
        tokio::select! {
            biased;
            () = cx.cancel.cancelled() => return Err(Error::cancelled("replace", database)),
            () = tokio::time::sleep(Duration::from_millis(200)) => {}
        }
    }
}

/// The key of the advisory lock that a restore holds while its temporary database has no name yet: the first half says whose
/// locks these are, the second is the number in the database's name.
const RESTORES: i32 = 0x4c42_4f54;

/// Marks the restore that fills this database as alive on the server, until the session ends.
pub(super) async fn claim(session: &Session, temporary: &str) -> Result<()> {
    session.execute(&format!("SELECT pg_catalog.pg_advisory_lock({RESTORES}, {})", number_of(temporary))).await
}

/// The number at the end of a temporary database's name, as the server's `int4`.
fn number_of(temporary: &str) -> i32 {
    let digits = temporary.rsplit('_').next().unwrap_or_default();
    u32::from_str_radix(digits, 16).unwrap_or_default().cast_signed()
}

/// Drops what killed restores into this database have left on the server, and reports what it cannot drop: closed
/// databases, those of other restores, and replaced ones.
pub(super) async fn sweep(session: &Session, target: &str) -> Result<Vec<Check>> {
    // Locks of every database of the server are seen in each (`pg_lock_status` of src/backend/utils/adt/lockfuncs.c).
    let sql = format!(
        "SELECT datname, datallowconn::text,
           (datname ~ '_lifeboat_[0-9a-f]{{8}}$' AND pg_catalog.left(datname, -18) = {stem} AND datallowconn
              AND pg_catalog.pg_has_role(datdba, 'USAGE')
              AND NOT EXISTS (SELECT FROM pg_catalog.pg_locks l WHERE l.locktype = 'advisory' AND l.objsubid = 2
                  AND l.classid::bigint = {RESTORES}
                  AND l.objid::bigint = ('x' || pg_catalog.right(datname, 8))::bit(32)::bigint))::text
         FROM pg_catalog.pg_database
         WHERE (datname = {name} AND NOT datallowconn) OR datname ~ '_lifeboat_[0-9a-f]{{8}}(_replaced)?$' ORDER BY 1",
        stem = quote_literal(shortened(target, STEM, true)),
        name = quote_literal(target),
    );
    let mut checks = Vec::new();
    for row in session.rows(&sql).await? {
        let [Some(name), Some(open), Some(dead)] = &row[..] else { continue };
        let quoted = quote_ident(name);
        if dead == "true" {
            // Without force: if somebody is connected, it stays.
            match session.execute(&format!("DROP DATABASE IF EXISTS {quoted}")).await {
                Ok(()) => {
                    let detail = "an interrupted restore left this database: dropped";
                    checks.push(Check::pass("left behind", name.clone(), detail));
                    continue;
                }
                Err(error) => tracing::debug!(database = name, %error, "what a restore has left cannot be dropped"),
            }
        }
        checks.push(match &**open {
            "false" => Check::warn(
                "closed",
                name.clone(),
                format!(
                    "nobody can connect to it; an interrupted restore may have left it closed: ALTER DATABASE {quoted} WITH ALLOW_CONNECTIONS true"
                ),
            ),
            _ => Check::warn(
                "left behind",
                name.clone(),
                format!("a restore kept it, is filling it now, or was interrupted: DROP DATABASE {quoted} removes it"),
            ),
        });
    }
    Ok(checks)
}

/// How many bytes of a database's name are part of a temporary name. `NAMEDATALEN` - 1 is 63; the suffix has 18.
pub(super) const STEM: usize = 45;

/// At most this many bytes of a name, from its beginning or end, without splitting a character.
pub(super) fn shortened(name: &str, bytes: usize, beginning: bool) -> &str {
    if name.len() <= bytes {
        return name;
    }
    if beginning {
        let end = (0..=bytes).rev().find(|at| name.is_char_boundary(*at)).unwrap_or_default();
        name.get(..end).unwrap_or_default()
    } else {
        let start = (name.len() - bytes..=name.len()).find(|at| name.is_char_boundary(*at)).unwrap_or(name.len());
        name.get(start..).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_any_characters_are_cut_between_them() {
        for name in [
            "datenbank",
            "ääääääääääääääääääääääääääääää1",
            "数据库数据库数据库数据库数据库数据库数据库",
            "😀😀😀😀😀😀😀😀😀😀😀😀😀😀😀x",
        ] {
            for bytes in 0..70 {
                for beginning in [true, false] {
                    let cut = shortened(name, bytes, beginning);
                    assert!(cut.len() <= bytes && (cut.len() + 3 >= bytes.min(name.len())), "{name} {bytes}: {cut}");
                    assert!(if beginning { name.starts_with(cut) } else { name.ends_with(cut) });
                }
            }
        }
    }
}
