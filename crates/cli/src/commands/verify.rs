//! `verify`.

use std::time::{Duration, Instant};

use lifeboat_config::Job;
use lifeboat_core::catalog::At;
use lifeboat_core::history::Verb;
use lifeboat_core::system::Choices;
use lifeboat_core::words::Noun;
use lifeboat_core::{Check, Level, Limiter, Report, Result, Status, Verify};
use serde_json::{Value, json};

use super::place;
use super::tally::Tally;
use crate::exit::Exit;
use crate::jobs::{self, Jobs, LookIn};
use crate::output::report::{checks, count, seconds};
use crate::output::{self, GREEN, RED, YELLOW};
use crate::session::Session;

/// What is counted where each sink's copy is verified.
const COPIES: Noun = Noun::new("copy", "copies");

/// The options of the command line; the rest comes from the job.
pub(crate) struct Options {
    pub(crate) level: Option<Level>,
    pub(crate) at: At,
    pub(crate) max_age: Option<Duration>,
    pub(crate) record: bool,
    /// Whether the copies in several sinks are verified, so that each report says which it is of.
    pub(crate) each_sink: bool,
    pub(crate) limiter: Limiter,
    pub(crate) choices: Choices,
}

/// Verifies each job; one that fails does not stop the others.
pub(crate) async fn run(session: &Session, jobs: Jobs, options: &Options) -> Exit {
    let mut exit = Exit::Good;
    session.output.only_failures();
    let mut results = Vec::new();
    let jobs = jobs::expand(jobs, session, LookIn::Sink).await;
    let mut tally = Tally::of(jobs.len());
    if options.each_sink {
        tally = tally.counting(COPIES);
    }
    let short = tally.is_short(&session.output);
    for (index, (name, job)) in jobs.into_iter().enumerate() {
        let begun = Instant::now();
        let dataset =
            job.as_ref().ok().and_then(|j| j.dataset.as_ref()).map_or_else(|| name.clone(), ToString::to_string);
        let sink = job.as_ref().ok().and_then(|j| j.stores.first()).map(|store| store.name.clone());
        let level = options.level.or_else(|| job.as_ref().ok().map(|j| j.limits.level)).unwrap_or_default();
        if index > 0 && !short {
            session.output.line("");
        }
        let outcome = one(session, &name, job, level, options).await;
        match session.settle("verify", &name, outcome) {
            Ok(report) => {
                exit.and(if report.passed { Exit::Good } else { Exit::Failed });
                let place = sink.as_deref().filter(|_| options.each_sink);
                print(session, &name, &report, place, short);
                if !report.passed {
                    let wrong: Vec<&str> = wrong(&report).map(|check| &*check.name).collect();
                    tally.failed(&format!("{name}{}", in_words(place)), &wrong.join(", "));
                }
                let mut value = json!(report);
                value["sink"] = sink.into();
                results.push(value);
            }
            Err(error) => {
                let failed = session.output.paint("FAIL", RED);
                let place = in_words(sink.as_deref().filter(|_| options.each_sink));
                tally.error(&session.output, &format!("{name}{place}"), &error);
                if !short {
                    session.output.line(format!("{failed} {name}{place} ({level}): {error}"));
                }
                exit.and(Exit::from(&error));
                let took = begun.elapsed();
                let mut value = failure(&dataset, level, &error, took);
                value["sink"] = sink.into();
                results.push(value);
            }
        }
    }
    tally.end(&session.output, "verified");
    session.output.result(&results);
    exit
}

async fn one(session: &Session, name: &str, job: Result<Job>, level: Level, options: &Options) -> Result<Report> {
    session.begin("verify", name)?;
    let mut job = job?;
    job.limiter = options.limiter.clone().or(&job.limiter);
    let store = job.store()?;
    // What was asked for wrongly is said before anything is looked for.
    let verifier = job.system.verifier(level, options.choices.clone()).await?;
    let artifact = place::find(&job, store, &options.at).await?;
    // A look at the stored bytes needs no key.
    let keys = if level == Level::Stored { Vec::new() } else { place::keys_for(&job, &artifact)? };
    let mut limits = job.limits;
    // The job's limit is for the newest: it tells whether backups have stopped. One that was chosen may be as old as it is.
    if options.at != At::Latest {
        limits.max_age = None;
    }
    if options.max_age.is_some() {
        limits.max_age = options.max_age;
        limits.age_status = Status::Fail;
    }
    Verify::new(store.sink.clone(), artifact, &*verifier)
        .level(level)
        .age_limit(limits.age_limit())
        .keys(keys)
        .record(options.record)
        .context(job.context(&session.context))
        .hooks(job.hooks(Verb::Verify))
        .run()
        .await
}

fn in_words(sink: Option<&str>) -> String {
    sink.map(|sink| format!(" in {sink}")).unwrap_or_default()
}

/// The checks for which a report did not pass.
fn wrong(report: &Report) -> impl Iterator<Item = &Check> {
    report.checks.iter().filter(|check| matches!(check.status, Status::Fail | Status::Untested))
}

/// Prints a report with its verdict, and where one of several copies is meant, with its sink. In short, its verdict and what
/// did not pass, under the job's name: several folders may hold a dataset of one name.
pub(crate) fn print(session: &Session, whose: &str, report: &Report, sink: Option<&str>, short: bool) {
    let output = &session.output;
    if !short {
        output.line(&report.key);
        output.table(checks(output, &report.checks), 2);
    }
    let (word, color) = match report.status() {
        Status::Pass | Status::Warn => ("PASS", GREEN),
        Status::Untested => ("UNTESTED", YELLOW),
        _ => ("FAIL", RED),
    };
    let of = |status| report.checks.iter().filter(|c| c.status == status).count();
    let mut figures = vec![count(report.checks.len(), "check")];
    for (status, word) in [(Status::Fail, "failed"), (Status::Untested, "not made"), (Status::Warn, "with a warning")] {
        if of(status) > 0 {
            figures.push(format!("{} {word}", of(status)));
        }
    }
    output.line(format!(
        "{} {}{} ({}): {} in {}",
        output.paint(word, color),
        if short { whose } else { &report.dataset },
        in_words(sink),
        report.level,
        figures.join(", "),
        seconds(report.seconds)
    ));
    if short {
        let remarkable = report.checks.iter().filter(|check| check.status != Status::Pass);
        output.table(checks(output, remarkable).without_head(), 2);
    }
    let wrong: Vec<String> = wrong(report).map(|c| format!("{} {} ({})", c.name, c.status, c.detail)).collect();
    if !wrong.is_empty() {
        output.failure(&format!("{word} {} ({}): {}", report.key, report.level, wrong.join("; ")));
    }
}

/// A job that could not be verified, as a report that did not pass.
fn failure(dataset: &str, level: Level, error: &lifeboat_core::Error, took: Duration) -> Value {
    json!({
        "dataset": dataset,
        "key": null,
        "level": level,
        "passed": false,
        "checks": [Check::from_error("verify", error)],
        "seconds": took.as_secs_f64(),
        "error": output::error_value(error),
    })
}
