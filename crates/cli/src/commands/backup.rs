//! `backup`.

use std::time::Duration;

use lifeboat_config::{Job, hint};
use lifeboat_core::catalog::MaxShrink;
use lifeboat_core::{Hint, Receipt, Result};
use serde_json::{Value, json};

use super::place;
use crate::exit::Exit;
use crate::jobs::{self, Jobs, LookIn};
use crate::output::report::{count, seconds, size};
use crate::output::{self, GREEN, YELLOW};
use crate::session::Session;

/// The options of this run.
#[derive(Debug, Default)]
pub(crate) struct Options {
    pub(crate) allow_empty: bool,
    pub(crate) max_shrink: Option<MaxShrink>,
    pub(crate) stall_limit: Option<Duration>,
    /// Whether sinks may be new.
    pub(crate) new_sink: bool,
}

/// Backs up each job; one that fails does not stop the others.
pub(crate) async fn run(session: &Session, jobs: Jobs, options: &Options) -> Exit {
    let mut exit = Exit::Good;
    let mut results = Vec::new();
    if options.new_sink {
        let stores = jobs.iter().filter_map(|(_, job)| job.as_ref().ok()).flat_map(|job| &job.stores);
        if let Err(error) = place::take_as_new(session, stores.map(|store| &*store.sink)).await {
            session.output.fatal(&error);
            return Exit::from(&error);
        }
    }
    for (name, job) in jobs::expand(jobs, session, LookIn::Live).await {
        let stores = job.as_ref().map(names).unwrap_or_default();
        let outcome = one(session, &name, job, options).await;
        match session.settle("back up", &name, outcome) {
            Ok(receipt) => {
                exit.and(if receipt.is_complete() { Exit::Good } else { Exit::Failed });
                print(session, &receipt, &stores);
                results.push(value(&name, &receipt));
            }
            Err(error) => {
                session.output.error(&error);
                exit.and(Exit::from(&error));
                results.push(json!({ "job": name, "passed": false, "error": output::error_value(&error) }));
            }
        }
    }
    session.output.result(&results);
    exit
}

async fn one(session: &Session, name: &str, job: Result<Job>, options: &Options) -> Result<Receipt> {
    session.begin("back up", name)?;
    let mut job = job?;
    job.allow_empty |= options.allow_empty;
    job.max_shrink = options.max_shrink.unwrap_or(job.max_shrink);
    job.stall_limit = options.stall_limit.or(job.stall_limit);
    job.backup().await?.context(session.context.clone()).run().await
}

fn value(job: &str, receipt: &Receipt) -> Value {
    let mut value = json!(receipt);
    value["job"] = job.into();
    value["passed"] = receipt.is_complete().into();
    value
}

/// The names of a job and of its sinks.
fn names(job: &Job) -> Names {
    // What comes from one job of the config is copied under that job's name.
    let config = job.name.split_once('/').map_or(&*job.name, |(name, _)| name);
    Names { job: config.to_owned(), sinks: job.stores.iter().map(|store| store.name.clone()).collect() }
}

#[derive(Default)]
struct Names {
    job: String,
    sinks: Vec<String>,
}

impl Names {
    /// How to copy later what a sink lacks. Without a word on where from, it is copied from the job's first sink.
    fn direct(&self, hint: &Hint, to: usize, receipt: &Receipt) -> Hint {
        let holds = receipt.sinks.iter().position(|sink| sink.error.is_none());
        match (hint, holds, self.sinks.get(to)) {
            (Hint::All(hints), ..) => Hint::All(hints.iter().map(|hint| self.direct(hint, to, receipt)).collect()),
            (Hint::ReplicateLater, Some(from), Some(to)) if from > 0 => {
                let (job, from) = (&self.job, &self.sinks[from]);
                Hint::from(format!(
                    "run `lifeboat replicate {job} --from {from} --to {to}` later to copy what is missing there"
                ))
            }
            (hint, ..) => hint.clone(),
        }
    }
}

fn print(session: &Session, receipt: &Receipt, names: &Names) {
    let output = &session.output;
    let good = receipt.is_complete();
    let verdict = output.paint(if good { "DONE" } else { "PART" }, if good { GREEN } else { YELLOW });
    output.line(format!("{verdict} {}: {}", receipt.dataset, receipt.key));
    output.line(format!(
        "     {} read, {} stored in {}; {} and {} in the proof",
        size(receipt.plaintext_bytes),
        size(receipt.stored_bytes),
        seconds(receipt.seconds),
        count(receipt.items, "item"),
        count(usize::try_from(receipt.rows).unwrap_or(usize::MAX), "row")
    ));
    for (at, sink) in receipt.sinks.iter().enumerate() {
        match &sink.error {
            None => output.line(format!("     in {}", sink.url)),
            Some(error) => {
                output.line(format!("     NOT in {}: {error}", sink.url));
                output.warn(&format!("{} is not in {}: {error}", receipt.key, sink.url));
                if let Some(hint) = &sink.hint {
                    output.write_err(&format!("  hint: {}", hint::render(&names.direct(hint, at, receipt))));
                }
            }
        }
    }
}
