//! `list`.

use futures::future::ready;
use futures::{StreamExt, TryStreamExt};
use jiff::Timestamp;
use lifeboat_config::{Job, marker};
use lifeboat_core::catalog::{self, Artifact, At, Kind};
use lifeboat_core::{Dataset, ErrorKind, Level, Result};
use serde::Serialize;

use super::place;
use crate::exit::Exit;
use crate::jobs::Jobs;
use crate::output::report::{age, count, size, time};
use crate::output::table::Table;
use crate::session::Session;

/// One artifact, wherever it is stored. What it says itself is true of each of its copies: `verified_at` is the oldest of
/// their proofs, and missing where one of them has none. The field names are a stable interface.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) dataset: Dataset,
    pub(crate) key: String,
    pub(crate) taken_at: Timestamp,
    pub(crate) bytes: u64,
    pub(crate) kind: Kind,
    pub(crate) format: String,
    pub(crate) sinks: Vec<String>,
    pub(crate) verified_at: Option<Timestamp>,
    pub(crate) verified_level: Option<Level>,
    /// `empty` or `less`, when it holds nothing, or much less than earlier ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) holds: Option<&'static str>,
    /// What each sink holds under this key.
    pub(crate) copies: Vec<Held>,
}

/// What one sink holds of an artifact, and what is known of that.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Held {
    pub(crate) sink: String,
    bytes: u64,
    kind: Kind,
    verified_at: Option<Timestamp>,
    verified_level: Option<Level>,
    /// The verification that failed and that no later one outweighs.
    #[serde(skip_serializing_if = "Option::is_none")]
    failed_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    failed_level: Option<Level>,
    #[serde(skip)]
    holds: Option<&'static str>,
}

impl Held {
    fn of(artifact: &Artifact, sink: &str) -> Self {
        let passed = artifact.last_passed();
        let failed = artifact.standing_failure().or(artifact.verifications.last().filter(|v| !v.passed));
        Self {
            sink: sink.to_owned(),
            bytes: artifact.bytes(),
            kind: artifact.kind,
            verified_at: passed.map(|v| v.at),
            verified_level: passed.map(|v| v.level),
            failed_at: failed.map(|v| v.at),
            failed_level: failed.map(|v| v.level),
            holds: artifact.less_word(),
        }
    }

    /// Its kind, with anything that a person must not overlook.
    pub(crate) fn kind(&self) -> String {
        match self.holds {
            Some(word) => format!("{}, {}", self.kind.as_str(), word.to_uppercase()),
            None => self.kind.as_str().to_owned(),
        }
    }

    pub(crate) fn verified(&self, now: Timestamp) -> String {
        match (self.failed_at.zip(self.failed_level), self.verified_at.zip(self.verified_level)) {
            (Some((at, level)), _) => format!("FAILED {level} {} ago", age(at, now)),
            (None, Some((at, level))) => format!("{level} {} ago", age(at, now)),
            (None, None) => "never".to_owned(),
        }
    }

    /// Whether it has less to show than this one.
    fn is_worse_than(&self, row: &Row) -> bool {
        let rank = |kind| match kind {
            Kind::Managed => 0,
            Kind::Foreign => 1,
            _ => 2,
        };
        rank(self.kind) > rank(row.kind)
    }
}

impl Row {
    pub(crate) fn of(artifact: &Artifact, sink: &str) -> Self {
        let held = Held::of(artifact, sink);
        Self {
            dataset: artifact.name.dataset.clone(),
            key: artifact.key(),
            taken_at: artifact.name.taken_at,
            bytes: held.bytes,
            kind: held.kind,
            format: artifact.name.format.clone(),
            sinks: vec![sink.to_owned()],
            verified_at: held.verified_at,
            verified_level: held.verified_level,
            holds: held.holds,
            copies: vec![held],
        }
    }

    /// Adds what another sink holds under the same key.
    pub(crate) fn merge(&mut self, other: Self) {
        self.sinks.extend(other.sinks);
        for held in other.copies {
            if held.is_worse_than(self) {
                (self.kind, self.bytes) = (held.kind, held.bytes);
            }
            if held.verified_at < self.verified_at {
                (self.verified_at, self.verified_level) = (held.verified_at, held.verified_level);
            }
            self.holds = self.holds.or(held.holds);
            self.copies.push(held);
        }
    }

    /// Its copies by what is to be said of them, in words: kind, size and proof, and the sinks of which it is true.
    fn states(&self, now: Timestamp) -> Vec<([String; 3], Vec<&str>)> {
        let mut states: Vec<([String; 3], Vec<&str>)> = Vec::new();
        for held in &self.copies {
            let words = [size(held.bytes), held.kind(), held.verified(now)];
            match states.iter_mut().find(|(known, _)| *known == words) {
                Some((_, sinks)) => sinks.push(&held.sink),
                None => states.push((words, vec![&held.sink])),
            }
        }
        states
    }
}

/// Lists the artifacts of each job, from all its sinks, as they come: by dataset, the oldest first. Memory does not grow with
/// their number. `asked`: the jobs were named, so each must have one.
pub(crate) async fn run(session: &Session, jobs: Jobs, asked: bool) -> Exit {
    let output = &session.output;
    let mut exit = Exit::Good;
    let mut listing = Listing::new(session);
    let mut empty = Vec::new();
    for (name, job) in jobs {
        let before = listing.rows;
        let found = async {
            session.begin("list", &name)?;
            let job = job?;
            list(session, &job, &mut listing, &mut exit).await?;
            Ok::<_, lifeboat_core::Error>(job)
        };
        match session.settle("list", &name, found.await) {
            Ok(job) if listing.rows == before => empty.push(job),
            Ok(_) => {}
            Err(error) => {
                output.error(&error);
                exit.and(Exit::from(&error));
            }
        }
    }
    let rows = listing.end();
    for job in empty {
        // After an error, "there is none" would be a guess.
        if asked || (rows == 0 && exit == Exit::Good) {
            let error = place::nothing(&job).await;
            output.error(&error);
            exit.and(Exit::from(&error));
        } else if rows > 0 {
            output.note(&format!("there is no artifact of job {}", job.name));
        }
    }
    exit
}

/// Lists a job. A sink that cannot be read is a separate error when there is another.
async fn list(session: &Session, job: &Job, listing: &mut Listing<'_>, exit: &mut Exit) -> Result<()> {
    let mut stores: Vec<_> = job
        .stores
        .iter()
        .map(|store| {
            let artifacts = catalog::list(&*store.sink, &job.prefix, job.dataset.as_ref());
            let own = artifacts.try_filter(|artifact| ready(job.claims(&artifact.name)));
            (own.map_ok(|artifact| Row::of(&artifact, &store.name)), None::<Row>)
        })
        .collect();
    let mut failed = Vec::new();
    loop {
        let mut open = Vec::with_capacity(stores.len());
        for (mut rows, mut next) in stores {
            if next.is_none() {
                next = match rows.next().await {
                    Some(Ok(row)) => Some(row),
                    Some(Err(error)) => {
                        failed.push(error);
                        None
                    }
                    None => None,
                };
            }
            // One that has ended, or failed, is not asked again.
            if next.is_some() {
                open.push((rows, next));
            }
        }
        stores = open;
        // Every listing is in the order of keys: what several sinks hold comes first from all of them.
        let Some(key) = stores.iter().filter_map(|(_, next)| Some(&next.as_ref()?.key)).min().cloned() else { break };
        let mut same = stores.iter_mut().filter_map(|(_, next)| next.take_if(|row| row.key == key));
        if let Some(mut row) = same.next() {
            same.for_each(|other| row.merge(other));
            listing.add(&row);
        }
    }
    if failed.is_empty() {
        for store in &job.stores {
            if let Some(words) = catalog::left_out_in_words(&*store.sink, &job.prefix, job.dataset.as_ref()).await? {
                session.output.warn(&words);
            }
            if let Some(dataset) = &job.dataset
                && let Err(missing) = catalog::find(&*store.sink, &job.prefix, dataset, &At::Latest).await
            {
                match missing.kind() {
                    ErrorKind::NoArtifact => {}
                    ErrorKind::NotFound => session.output.warn(missing.message()),
                    _ => session.output.warn(&format!("whether a newer backup is missing cannot be told: {missing}")),
                }
            }
            if let Err(unknown) = marker::refuse_unknown(&*store.sink).await {
                session.output.warn(&format!("{}: {}", unknown.subject(), unknown.message()));
            }
        }
    }
    if failed.len() == job.stores.len()
        && let Some(first) = failed.pop()
    {
        for error in failed {
            session.output.error(&error);
        }
        return Err(first);
    }
    for error in failed {
        session.output.error(&error);
        exit.and(Exit::from(&error));
    }
    Ok(())
}

/// Rows that are printed together: columns are as wide as the widest cell so far.
const TOGETHER: usize = 500;

/// The output, page by page.
struct Listing<'a> {
    session: &'a Session,
    now: Timestamp,
    table: Table,
    rows: usize,
    future: usize,
}

impl<'a> Listing<'a> {
    fn new(session: &'a Session) -> Self {
        let table = Table::new(["TAKEN AT", "AGE", "SIZE", "KIND", "VERIFIED", "SINKS", "KEY"]).right(2);
        Self { session, now: session.context.now(), table, rows: 0, future: 0 }
    }

    fn add(&mut self, row: &Row) {
        self.rows += 1;
        self.future += usize::from(row.taken_at > self.now);
        if self.session.output.is_json() {
            self.session.output.item(row);
            return;
        }
        for ([size, kind, verified], sinks) in row.states(self.now) {
            let (taken, age) = (time(row.taken_at), age(row.taken_at, self.now));
            self.table.row([taken, age, size, kind, verified, sinks.join(","), row.key.clone()]);
        }
        if self.rows.is_multiple_of(TOGETHER) {
            self.flush();
        }
    }

    fn flush(&mut self) {
        if !self.table.is_empty() {
            self.session.output.line(self.table.take().join("\n"));
        }
    }

    /// Prints the rest. Returns how many rows there were.
    fn end(mut self) -> usize {
        self.flush();
        self.session.output.end_of_items();
        warn_of_future(self.session, self.future);
        self.rows
    }
}

/// An artifact from the future means that a clock is wrong: here, or where it was made.
fn warn_of_future(session: &Session, future: usize) {
    if future > 0 {
        session.output.warn(&format!(
            "{} dated in the future; it is now {}: is this machine's clock right?",
            if future == 1 { "an artifact is".to_owned() } else { format!("{} are", count(future, "artifact")) },
            time(session.context.now())
        ));
    }
}
