//! `list`.

use std::collections::BTreeMap;

use futures::StreamExt;
use jiff::Timestamp;
use lifeboat::catalog::{self, Artifact, Kind, Verification};
use lifeboat::{Dataset, Level, Result};
use serde::Serialize;

use super::place;
use crate::exit::Exit;
use crate::jobs::{Job, Jobs};
use crate::output::report::{age, count, size, time};
use crate::output::table::Table;
use crate::session::Session;

/// One artifact, wherever it lies. The names of the fields are a promise.
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
    /// The newest verification, where it failed.
    #[serde(skip)]
    failed: Option<(Timestamp, Level)>,
}

impl Row {
    pub(crate) fn of(artifact: &Artifact, sink: &str) -> Self {
        let passed = artifact.last_passed();
        Self {
            dataset: artifact.name.dataset.clone(),
            key: artifact.key(),
            taken_at: artifact.name.taken_at,
            bytes: artifact.bytes(),
            kind: artifact.kind,
            format: artifact.name.format.clone(),
            sinks: vec![sink.to_owned()],
            verified_at: passed.map(|v| v.at),
            verified_level: passed.map(|v| v.level),
            failed: failure(artifact.verifications.last()),
        }
    }

    /// Adds what another sink holds under the same key.
    fn merge(&mut self, other: Self) {
        self.sinks.extend(other.sinks);
        // A copy that is whole stands for one that is not.
        if self.kind != Kind::Managed && other.kind != Kind::Damaged {
            (self.kind, self.bytes) = (other.kind, other.bytes);
        }
        if other.verified_at > self.verified_at {
            (self.verified_at, self.verified_level) = (other.verified_at, other.verified_level);
        }
        self.failed = self.failed.max(other.failed);
    }

    pub(crate) fn verified(&self, now: Timestamp) -> String {
        match (self.failed, self.verified_at.zip(self.verified_level)) {
            (Some((at, level)), passed) if passed.is_none_or(|(p, _)| at > p) => {
                format!("FAILED {level} {} ago", age(at, now))
            }
            (_, Some((at, level))) => format!("{level} {} ago", age(at, now)),
            _ => "never".to_owned(),
        }
    }
}

fn failure(last: Option<&Verification>) -> Option<(Timestamp, Level)> {
    last.filter(|v| !v.passed).map(|v| (v.at, v.level))
}

/// Lists the artifacts of each job, from all its sinks. `asked`: the jobs were named, so each must have one.
pub(crate) async fn run(session: &Session, jobs: Jobs, asked: bool) -> Exit {
    let output = &session.output;
    let mut exit = Exit::Good;
    let mut rows = Vec::new();
    let mut empty = Vec::new();
    for (name, job) in jobs {
        let found = async {
            session.begin("list", &name)?;
            let job = job?;
            let found = rows_of(session, &job, &mut exit).await?;
            Ok::<_, lifeboat::Error>((job, found))
        };
        match session.settle("list", &name, found.await) {
            Ok((job, found)) if found.is_empty() => empty.push(job),
            Ok((_, found)) => rows.extend(found),
            Err(error) => {
                output.error(&error);
                exit.and(Exit::from(&error));
            }
        }
    }
    print(session, &rows);
    output.result(&rows);
    for job in empty {
        // Where an error was printed, "there is none" would be a guess.
        if asked || (rows.is_empty() && exit == Exit::Good) {
            let error = place::nothing(&job).await;
            output.error(&error);
            exit.and(Exit::from(&error));
        } else if !rows.is_empty() {
            output.note(&format!("there is no artifact of job {}", job.name));
        }
    }
    exit
}

/// The artifacts of a job, oldest first. A sink that cannot be read is an error of its own when there is another.
async fn rows_of(session: &Session, job: &Job, exit: &mut Exit) -> Result<Vec<Row>> {
    let mut merged: BTreeMap<(Timestamp, String), Row> = BTreeMap::new();
    let mut failed = Vec::new();
    for store in &job.stores {
        let mut artifacts = catalog::list(&*store.sink, &job.prefix, job.dataset.as_ref());
        while let Some(artifact) = artifacts.next().await {
            match artifact {
                Ok(artifact) if !job.claims(&artifact.name) => {}
                Ok(artifact) => {
                    let row = Row::of(&artifact, &store.name);
                    match merged.entry((row.taken_at, row.key.clone())) {
                        std::collections::btree_map::Entry::Occupied(mut known) => known.get_mut().merge(row),
                        std::collections::btree_map::Entry::Vacant(vacant) => drop(vacant.insert(row)),
                    }
                }
                Err(error) => {
                    failed.push(error);
                    break;
                }
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
    Ok(merged.into_values().collect())
}

fn print(session: &Session, rows: &[Row]) {
    let now = session.context.now();
    let mut table = Table::new(["TAKEN AT", "AGE", "SIZE", "KIND", "VERIFIED", "SINKS", "KEY"]).right(2);
    for row in rows {
        table.row([
            time(row.taken_at),
            age(row.taken_at, now),
            size(row.bytes),
            row.kind.as_str().to_owned(),
            row.verified(now),
            row.sinks.join(","),
            row.key.clone(),
        ]);
    }
    if !table.is_empty() {
        for line in table.lines() {
            session.output.line(line);
        }
    }
    warn_of_future(session, rows.iter().map(|r| r.taken_at));
}

/// An artifact from the future says that a clock is wrong: here, or where it was made.
pub(crate) fn warn_of_future(session: &Session, times: impl Iterator<Item = Timestamp>) {
    let now = session.context.now();
    let future = times.filter(|t| *t > now).count();
    if future > 0 {
        session.output.warn(&format!(
            "{} dated in the future, and now is {}: is this machine's clock right?",
            if future == 1 { "an artifact is".to_owned() } else { format!("{} are", count(future, "artifact")) },
            time(now)
        ));
    }
}
