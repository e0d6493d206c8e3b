//! The content of a live database as a proof, to compare with the one that its backup took.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, pin_mut};
use lifeboat_core::progress::{Event, Step, Unit};
use lifeboat_core::{Check, Context, Error, ErrorKind, Fingerprint, Proof, ProofItem, Result};
use tokio::sync::Mutex;
use xxhash_rust::xxh3::Xxh3Default;

use super::connection::Connection;
use super::session::{Session, quote_literal};
use super::settings::Settings;
use super::unnamed::{self, Apart};

/// Bytes of a large object that are read at once.
const LARGE_OBJECT_PIECE: i64 = 4 << 20;

/// Compares a database's content with an expected proof. What cannot be read back is a warning.
///
/// # Errors
/// As [`read`].
pub(crate) async fn compare(
    connection: &Connection,
    expected: &Proof,
    others: bool,
    jobs: usize,
    cx: &Context,
) -> Result<Vec<Check>> {
    let apart = Apart::of(expected);
    match read(connection, &apart.named, others, jobs, cx).await {
        Ok(mut found) => {
            let unnamed = apart.compare(&mut found, others);
            Ok(unnamed.into_iter().chain(apart.named.compare(&found)).collect())
        }
        Err(error) if error.kind() == ErrorKind::Unsupported => {
            Ok(vec![Check::warn("content", "not compared", error.message())])
        }
        Err(error) => Err(error),
    }
}

/// Reads a database's content in the terms of an expected proof: the same tables, sequences and large objects, in the text
/// form that pg_dump's session gives them. With `others`, tables that hold rows and are not expected are in it too.
///
/// # Errors
/// What the server fails with. A table that is missing is no error: it is missing from the result.
async fn read(connection: &Connection, expected: &Proof, others: bool, jobs: usize, cx: &Context) -> Result<Proof> {
    let session = comparable_session(connection, expected).await?;
    let names: Vec<String> = expected.of_kind("table").map(|i| i.name.clone()).collect();
    let mut plans = plans(&session, expected, &names).await?;
    let mut found = Proof::default();
    if others {
        let known: Vec<String> =
            names.iter().map(|n| format!("pg_catalog.to_regclass({})", quote_literal(n))).collect();
        let with = format!(
            "WITH RECURSIVE known(oid) AS (
                 SELECT o FROM pg_catalog.unnest(ARRAY[{}]::pg_catalog.oid[]) o WHERE o IS NOT NULL),
             -- The rows of a partition that was loaded through its root are counted there.
             counted(oid) AS (
                 SELECT oid FROM known UNION
                 SELECT i.inhrelid FROM pg_catalog.pg_inherits i JOIN counted p ON p.oid = i.inhparent
                 JOIN pg_catalog.pg_class c ON c.oid = i.inhparent AND c.relkind = 'p')",
            known.join(", ")
        );
        let from = "pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
             WHERE c.relkind = 'r' AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_(toast|temp)'
               AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = c.oid AND d.deptype = 'e')
               AND c.oid NOT IN (SELECT oid FROM counted)";
        let counted = unnamed::counted(&session, &with, from).await?;
        found.items.extend(
            counted
                .into_iter()
                .filter(|(_, count)| *count > 0)
                .map(|(name, count)| ProofItem::new("table", name, count)),
        );
    }
    // The largest first, so that no session ends up alone with one at the end.
    let sizes: BTreeMap<&str, u64> = expected.of_kind("table").map(|i| (&*i.name, i.bytes)).collect();
    plans.sort_by_key(|plan| std::cmp::Reverse(sizes.get(&*plan.name).copied().unwrap_or_default()));
    found.items.extend(read_tables(connection, expected, session, plans, jobs, cx).await?);
    let session = comparable_session(connection, expected).await?;
    for sequence in expected.of_kind("sequence") {
        if session.value(&format!("SELECT pg_catalog.to_regclass({})", quote_literal(&sequence.name))).await?.is_none()
        {
            continue;
        }
        let sql = format!("SELECT last_value::text || ',' || is_called::text FROM {}", sequence.name);
        let value = session.value(&sql).await?;
        found.items.push(ProofItem::new("sequence", sequence.name.clone(), 0).value(value));
    }
    let count = session.value("SELECT pg_catalog.count(*) FROM pg_catalog.pg_largeobject_metadata").await?;
    let expects_objects = expected.of_kind("large objects").next().is_some();
    if expects_objects || (others && count.as_deref() != Some("0")) {
        found.items.push(large_objects(&session, cx).await?);
    }
    Ok(found)
}

/// A session that writes values as the one did from which the proof was taken.
async fn comparable_session(connection: &Connection, expected: &Proof) -> Result<Session> {
    let session = Session::open(connection).await?;
    // As setup_connection in pg_dump.c has them, and TimeZone as our pg_dump gets it.
    session
        .execute(
            "SET DateStyle = ISO; SET IntervalStyle = postgres; SET extra_float_digits = 3; SET row_security = off;
             SET synchronize_seqscans = off; SET TimeZone = 'UTC'; SET statement_timeout = 0; SET lock_timeout = 0;
             SET idle_in_transaction_session_timeout = 0; SET search_path = ''",
        )
        .await?;
    for (name, value) in &Settings::load(expected).session {
        let set = format!("SET {name} = {}", quote_literal(value));
        if let Err(error) = session.execute(&set).await {
            // A locale that is not installed here: values of type money may then look different.
            tracing::warn!(%error, setting = name, "a setting of the source could not be set for the comparison");
        }
    }
    Ok(session)
}

/// How to read one table back.
struct Plan {
    name: String,
    sql: String,
    /// Whether there is a fingerprint to compare with; only rows are counted where there is not.
    fingerprint: bool,
}

async fn plans(session: &Session, expected: &Proof, names: &[String]) -> Result<Vec<Plan>> {
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let list: Vec<String> = names.iter().map(|n| format!("({})", quote_literal(n))).collect();
    let sql = format!(
        "SELECT t.name, c.relkind, x.condition FROM (VALUES {}) t(name)
         JOIN pg_catalog.pg_class c ON c.oid = pg_catalog.to_regclass(t.name)
         LEFT JOIN (SELECT u.* FROM pg_catalog.pg_extension e, ROWS FROM (pg_catalog.unnest(e.extconfig), pg_catalog.unnest(e.extcondition)) u(oid, condition)) x ON x.oid = c.oid",
        list.join(", ")
    );
    let copy = expected.details.get("copy");
    // The rows in the dump's encoding; the session itself stays in UTF-8, or names could not be read.
    let encoding = match expected.details.get("encoding").and_then(|e| e.as_str()) {
        Some(encoding) if encoding != "UTF8" => format!(" WITH (ENCODING {})", quote_literal(encoding)),
        _ => String::new(),
    };
    let mut plans = Vec::new();
    for row in session.rows(&sql).await? {
        let [Some(name), Some(kind), condition] = &row[..] else { continue };
        let relation = copy.and_then(|c| c.get(name)).and_then(|c| c.as_str()).unwrap_or(name);
        let condition = condition.as_deref().unwrap_or_default();
        // COPY reads ordinary tables only, and without their children, as pg_dump does. An extension's own table is dumped
        // without the rows that creating the extension makes (getExtensionMembership in pg_dump.c).
        let fingerprint = expected.of_kind("table").any(|i| i.name == *name && i.fingerprint.is_some());
        let sql = if !fingerprint {
            // An empty line for each row.
            let only = if kind == "p" { "" } else { "ONLY " };
            format!("COPY (SELECT FROM {only}{name} {condition}) TO STDOUT")
        } else if kind == "r" && condition.is_empty() {
            format!("COPY {relation} TO STDOUT{encoding}")
        } else {
            let columns =
                relation.strip_prefix(&**name).map(|c| c.trim().trim_start_matches('(').trim_end_matches(')'));
            let only = if kind == "p" { "" } else { "ONLY " };
            format!("COPY (SELECT {} FROM {only}{name} {condition}) TO STDOUT{encoding}", columns.unwrap_or_default())
        };
        plans.push(Plan { name: name.clone(), sql, fingerprint });
    }
    Ok(plans)
}

/// Reads tables on several sessions side by side.
async fn read_tables(
    connection: &Connection,
    expected: &Proof,
    first: Session,
    plans: Vec<Plan>,
    jobs: usize,
    cx: &Context,
) -> Result<Vec<ProofItem>> {
    let total = plans.len() as u64;
    let workers = jobs.clamp(1, plans.len().max(1));
    let queue = Arc::new(Mutex::new(VecDeque::from(plans)));
    let mut sessions = vec![first];
    while sessions.len() < workers {
        sessions.push(comparable_session(connection, expected).await?);
    }
    cx.progress.event(Event::Begin { step: Step::Compare, unit: Unit::Items, total: Some(total.into()) });
    let work = sessions.into_iter().map(|session| {
        let queue = queue.clone();
        async move {
            let mut items = Vec::new();
            loop {
                let Some(plan) = queue.lock().await.pop_front() else { return Ok::<_, Error>(items) };
                items.push(read_table(&session, plan, cx).await?);
                cx.progress.event(Event::Advance(1));
            }
        }
    });
    let items = futures::future::try_join_all(work).await;
    cx.progress.event(Event::End);
    let items = items?;
    Ok(items.into_iter().flatten().collect())
}

async fn read_table(session: &Session, plan: Plan, cx: &Context) -> Result<ProofItem> {
    let rows = session.client().copy_out(&plan.sql).await.map_err(|e| session.error(&e))?;
    pin_mut!(rows);
    let mut item = ProofItem::new("table", plan.name, 0);
    let mut sum = Fingerprint::default();
    let mut partial: Vec<u8> = Vec::new();
    loop {
        let message: Bytes = tokio::select! {
            biased;
            () = cx.cancel.cancelled() => return Err(Error::cancelled("compare", item.name)),
            next = rows.next() => match next {
                Some(message) => message.map_err(|e| session.error(&e))?,
                None => break,
            },
        };
        item.bytes += message.len() as u64;
        // The server sends a row a message; the protocol does not promise it.
        let mut rest = &message[..];
        while let Some(end) = memchr::memchr(b'\n', rest) {
            item.count += 1;
            if partial.is_empty() {
                sum.add(&rest[..end]);
            } else {
                partial.extend_from_slice(&rest[..end]);
                sum.add(&partial);
                partial.clear();
            }
            rest = &rest[end + 1..];
        }
        partial.extend_from_slice(rest);
    }
    item.fingerprint = plan.fingerprint.then_some(sum);
    Ok(item)
}

/// The numbers of the large objects that come after this one: the next thousand.
async fn object_numbers(session: &Session, after: u32) -> Result<VecDeque<u32>> {
    let sql = format!("SELECT oid FROM pg_catalog.pg_largeobject_metadata WHERE oid > {after} ORDER BY oid LIMIT 1000");
    let rows = session.rows(&sql).await?;
    Ok(rows.into_iter().filter_map(|row| row.into_iter().next().flatten()?.parse().ok()).collect())
}

/// The large objects of the session's database, counted as the archive's tap counts them.
async fn large_objects(session: &Session, cx: &Context) -> Result<ProofItem> {
    let mut item = ProofItem::new("large objects", "all", 0);
    let mut sum = Fingerprint::default();
    let client = session.client();
    let piece = client.prepare("SELECT pg_catalog.lo_get($1, $2, $3)").await.map_err(|e| session.error(&e))?;
    let mut oids = VecDeque::new();
    let mut last = 0u32;
    loop {
        // There may be millions: some at a time. No object has the number 0.
        if oids.is_empty() {
            oids = object_numbers(session, last).await?;
        }
        let Some(oid) = oids.pop_front() else { break };
        last = oid;
        let mut hash = Xxh3Default::new();
        hash.update(&oid.to_le_bytes());
        let mut offset = 0i64;
        loop {
            if cx.cancel.is_cancelled() {
                return Err(Error::cancelled("compare", "the large objects"));
            }
            let size = LARGE_OBJECT_PIECE as i32;
            let row = client.query_one(&piece, &[&oid, &offset, &size]).await.map_err(|e| session.error(&e))?;
            let bytes: &[u8] = row.get(0);
            hash.update(bytes);
            item.bytes += bytes.len() as u64;
            offset += LARGE_OBJECT_PIECE;
            if (bytes.len() as i64) < LARGE_OBJECT_PIECE {
                break;
            }
        }
        item.count += 1;
        sum.merge(Fingerprint(hash.digest128()));
    }
    item.fingerprint = Some(sum);
    Ok(item)
}
