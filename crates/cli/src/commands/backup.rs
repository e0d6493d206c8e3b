//! `backup`.

use std::sync::Arc;
use std::time::Duration;

use lifeboat_config::{Config, Job, Systems, hint};
use lifeboat_core::catalog::MaxShrink;
use lifeboat_core::name::split_key;
use lifeboat_core::report::human_bytes;
use lifeboat_core::words::listed;
use lifeboat_core::{AnySystem, Hint, Limiter, Receipt, Result};
use serde_json::{Value, json};

use super::config::Places;
use super::place;
use super::tally::Tally;
use crate::exit::Exit;
use crate::jobs::{self, Jobs, LookIn};
use crate::output::report::{seconds, size};
use crate::output::wrap::COLUMNS;
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
    /// Of all jobs of this run together.
    pub(crate) limiter: Limiter,
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
    let mut tally = Tally::of(jobs.len());
    let short = tally.is_short(&session.output);
    let mut places = Places::default();
    for (name, job) in jobs {
        let stores = job.as_ref().map(names).unwrap_or_default();
        let outcome = one(session, &name, job, options).await;
        match session.settle("back up", &name, outcome) {
            Ok((job, receipt)) => {
                places.add(&job, &receipt);
                exit.and(if receipt.is_good() { Exit::Good } else { Exit::Failed });
                if !receipt.is_good() {
                    let why = if receipt.is_complete() { "its hook after" } else { "not in every sink" };
                    tally.failed(&name, why);
                }
                print(session, &name, &receipt, &stores, short);
                results.push(value(&name, &receipt));
            }
            Err(error) => {
                tally.error(&session.output, &name, &error);
                exit.and(Exit::from(&error));
                results.push(json!({ "job": name, "passed": false, "error": output::error_value(&error) }));
            }
        }
    }
    if let Some((config, systems)) = config {
        super::config::keep(session, config, systems, places).await;
    }
    tally.end(&session.output, "backed up");
    session.output.result(&results);
    exit
}

async fn one(session: &Session, name: &str, job: Result<Job>, options: &Options) -> Result<(Job, Receipt)> {
    session.begin("back up", name)?;
    let mut job = job?;
    job.allow_empty |= options.allow_empty;
    job.max_shrink = options.max_shrink.unwrap_or(job.max_shrink);
    job.stall_limit = options.stall_limit.or(job.stall_limit);
    job.limiter = options.limiter.clone().or(&job.limiter);
    let receipt = job.backup().await?.context(session.context.clone()).run().await?;
    Ok((job, receipt))
}

fn value(job: &str, receipt: &Receipt) -> Value {
    let mut value = json!(receipt);
    value["job"] = job.into();
    value["passed"] = receipt.is_good().into();
    value
}

/// The names of a job and of its sinks.
fn names(job: &Job) -> Names {
    // What comes from one job of the config is copied under that job's name.
    let config = job.name.split_once('/').map_or(&*job.name, |(name, _)| name);
    Names {
        system: Some(job.system.clone()),
        job: config.to_owned(),
        sinks: job.stores.iter().map(|store| store.name.clone()).collect(),
    }
}

#[derive(Default)]
struct Names {
    system: Option<Arc<dyn AnySystem>>,
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

/// The job, the artifact's key as far as there is room for it, its size and time.
fn in_a_line(job: &str, receipt: &Receipt, room: usize) -> String {
    let figures = format!("{} in {}", human_bytes(receipt.stored_bytes), seconds(receipt.seconds));
    let keys = [&*receipt.key, split_key(&receipt.key).1];
    let line = keys.map(|key| format!("{job}: {key}, {figures}")).into_iter().find(|line| line.chars().count() <= room);
    line.unwrap_or_else(|| format!("{job}: {figures}"))
}

/// What a backup did: in one line where it is one of several, and nothing is wrong.
fn print(session: &Session, job: &str, receipt: &Receipt, names: &Names, short: bool) {
    let output = &session.output;
    let good = receipt.is_complete();
    let verdict = output.paint(if good { "DONE" } else { "PART" }, if good { GREEN } else { YELLOW });
    if short && good {
        output.line(format!(
            "{verdict} {}",
            in_a_line(job, receipt, output.columns().unwrap_or(COLUMNS) - "DONE ".len())
        ));
        return;
    }
    output.line(format!("{verdict} {}: {}", receipt.dataset, receipt.key));
    output.line(format!(
        "     {} read, {} stored in {}; {} in the proof",
        size(receipt.plaintext_bytes),
        size(receipt.stored_bytes),
        seconds(receipt.seconds),
        listed(&receipt.in_words(|kind| names.system.as_ref().and_then(|system| system.unit(kind))))
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
    if let Some(hook) = &receipt.hook {
        output.line(format!("     the backup is good, but {}", hook.error));
        output.warn(&format!("{} is good, but {}", receipt.key, hook.error));
        if let Some(hint) = hook.hint.as_ref().filter(|_| !output.is_silent()) {
            output.write_err(&format!("  hint: {}", hint::render(hint)));
        }
    }
}
