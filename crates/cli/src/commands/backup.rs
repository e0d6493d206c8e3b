//! `backup`.

use std::time::Duration;

use lifeboat_config::{Config, Job, Systems, hint};
use lifeboat_core::catalog::MaxShrink;
use lifeboat_core::report::human_bytes;
use lifeboat_core::{ErrorKind, Hint, Receipt, Result};
use serde_json::{Value, json};

use super::config::Places;
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

/// Backs up each job; one that fails does not stop the others. The config that they are from is stored beside their backups.
pub(crate) async fn run(session: &Session, jobs: Jobs, options: &Options, config: Option<(&Config, &Systems)>) -> Exit {
    session.output.only_failures();
    let mut exit = Exit::Good;
    let mut results = Vec::new();
    if options.new_sink
        && let Err(error) = place::take_sinks_as_new(session, &jobs).await
    {
        session.output.fatal(&error);
        return Exit::from(&error);
    }
    let jobs = jobs::expand(jobs, session, LookIn::Live).await;
    let (all, mut failed) = (jobs.len(), Vec::new());
    let mut places = Places::default();
    for (name, job) in jobs {
        let stores = job.as_ref().map(names).unwrap_or_default();
        let outcome = one(session, &name, job, options).await;
        match session.settle("back up", &name, outcome) {
            Ok((job, receipt)) => {
                places.add(&job, &receipt);
                exit.and(if receipt.is_complete() { Exit::Good } else { Exit::Failed });
                if !receipt.is_complete() {
                    failed.push(format!("{name} (not in every sink)"));
                }
                print(session, &receipt, &stores, all > 1 && !session.output.is_verbose());
                results.push(value(&name, &receipt));
            }
            Err(error) => {
                session.output.error_of(&name, &error);
                failed.push(format!("{name} ({})", in_a_word(error.kind())));
                exit.and(Exit::from(&error));
                results.push(json!({ "job": name, "passed": false, "error": output::error_value(&error) }));
            }
        }
    }
    if let Some((config, systems)) = config {
        super::config::keep(session, config, systems, places).await;
    }
    if all > 1 {
        let done = format!("{} of {} backed up", all - failed.len(), count(all, "job"));
        let but = if failed.is_empty() { String::new() } else { format!("; failed: {}", failed.join(", ")) };
        session.output.line(format!("{done}{but}"));
    }
    session.output.result(&results);
    exit
}

/// Why a job failed, where there is room for no more. The error itself has been told.
fn in_a_word(kind: ErrorKind) -> String {
    match kind {
        ErrorKind::Permission => "permission denied".to_owned(),
        kind => kind.as_str().replace('_', " "),
    }
}

async fn one(session: &Session, name: &str, job: Result<Job>, options: &Options) -> Result<(Job, Receipt)> {
    session.begin("back up", name)?;
    let mut job = job?;
    job.allow_empty |= options.allow_empty;
    job.max_shrink = options.max_shrink.unwrap_or(job.max_shrink);
    job.stall_limit = options.stall_limit.or(job.stall_limit);
    let receipt = job.backup().await?.context(session.context.clone()).run().await?;
    Ok((job, receipt))
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

/// What a backup did: in one line where it is one of several, and nothing is wrong.
fn print(session: &Session, receipt: &Receipt, names: &Names, short: bool) {
    let output = &session.output;
    let good = receipt.is_complete();
    let verdict = output.paint(if good { "DONE" } else { "PART" }, if good { GREEN } else { YELLOW });
    if short && good {
        let (stored, took) = (human_bytes(receipt.stored_bytes), seconds(receipt.seconds));
        output.line(format!("{verdict} {}: {}, {stored} in {took}", receipt.dataset, receipt.key));
        return;
    }
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
                if let Some(hint) = sink.hint.as_ref().filter(|_| !output.is_silent()) {
                    output.write_err(&format!("  hint: {}", hint::render(&names.direct(hint, at, receipt))));
                }
            }
        }
    }
}
