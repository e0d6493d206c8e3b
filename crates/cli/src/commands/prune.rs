//! `prune`: shows the plan, then does it.

use std::collections::{BTreeSet, HashSet};
use std::time::Duration;

use lifeboat_config::{Job, Store, marker};
use lifeboat_core::name::split_key;
use lifeboat_core::pipeline::Pruned;
use lifeboat_core::report::human_bytes;
use lifeboat_core::retention::Policy;
use lifeboat_core::sink::Held;
use lifeboat_core::{ArtifactName, Dataset, Error, ErrorKind, PlannedPrune, Prune, Result, catalog};
use serde::{Serialize, Serializer};
use serde_json::{Value, json};

use super::place;
use super::tally::Tally;
use crate::exit::Exit;
use crate::jobs::{self, Jobs, LookIn};
use crate::output::report::count;
use crate::output::table::Table;
use crate::output::{self, RED};
use crate::session::Session;

/// Rows that are printed together: columns are as wide as the widest cell so far.
const TOGETHER: usize = 500;

/// The options of the command line.
pub(crate) struct Options {
    pub(crate) dry_run: bool,
    /// Remove leftovers that are older.
    pub(crate) orphans: Option<Duration>,
}

/// Prunes each job in each of its sinks. `asked`: the jobs were named, so each must have something to decide about.
pub(crate) async fn run(session: &Session, jobs: Jobs, asked: bool, options: &Options) -> Exit {
    let output = &session.output;
    output.only_failures();
    let mut exit = Exit::Good;
    let (mut cleaned, mut tidied) = (BTreeSet::new(), BTreeSet::new());
    let jobs = jobs::expand(jobs, session, LookIn::Sink).await;
    let mut tally = Tally::of(jobs.len());
    let short = tally.is_short(output);
    for (name, job) in jobs {
        let (mut kept, mut undeleted) = (Vec::new(), 0);
        let outcome = async {
            session.begin("prune", &name)?;
            let job = job?;
            for store in &job.stores {
                match prune(session, &job, store, asked, options, short).await? {
                    Some(Told::Kept(n)) => kept.push(format!("{n} in {}", store.name)),
                    Some(Told::Undeleted(n)) => undeleted += n,
                    None => {}
                }
                if !options.dry_run
                    && job.keep_in(store).is_some()
                    && tidied.insert((store.sink.url(), job.prefix.clone()))
                {
                    super::config::prune(session, store, &job.prefix).await;
                }
            }
            if !kept.is_empty() {
                output.line(format!("{name}: nothing to delete; kept {}", kept.join(", ")));
            }
            if let Some(age) = options.orphans {
                for store in &job.stores {
                    // Jobs that share a folder share its leftovers.
                    if cleaned.insert((store.sink.url(), job.prefix.clone())) {
                        let cleaned = orphans(session, &job, store, age, options.dry_run).await?;
                        output.item(&cleaned);
                    }
                }
            }
            Ok::<_, Error>(())
        };
        let outcome = outcome.await;
        if undeleted > 0 {
            tally.failed(&name, &format!("{undeleted} not deleted"));
            exit.and(Exit::Failed);
        }
        if let Err(error) = session.settle("prune", &name, outcome) {
            tally.error(output, &name, &error);
            exit.and(Exit::from(&error));
            output.item(&json!({ "job": name, "error": output::error_value(&error) }));
        }
    }
    if options.orphans.is_none() {
        tally.end(output, if options.dry_run { "planned" } else { "pruned" });
    }
    output.end_of_items();
    exit
}

/// What is still to be told of a dataset in a sink.
enum Told {
    /// Nothing was to be deleted, and so many are kept.
    Kept(usize),
    /// So many could not be deleted.
    Undeleted(usize),
}

async fn prune(
    session: &Session,
    job: &Job,
    store: &Store,
    asked: bool,
    options: &Options,
    short: bool,
) -> Result<Option<Told>> {
    let Some(policy) = policy(session, job, store, asked, options)? else { return Ok(None) };
    let output = &session.output;
    let dataset = job.dataset()?;
    // On a disk that is not mounted there would be nothing to delete, and all would seem well.
    marker::refuse_unknown(&*store.sink).await?;
    let prune = Prune::new(store.sink.clone(), dataset.clone())
        .folder(&job.prefix)
        .keep(policy)
        .context(session.context.clone())
        .plan()
        .await?;
    if prune.kept() + prune.to_delete() == 0 {
        if asked && options.orphans.is_none() {
            return Err(place::nothing(job).await);
        }
        output.note(&format!("there is no artifact of {dataset} in {}", store.name));
        return Ok(None);
    }
    if !short {
        output.line(format!("{dataset} in {}, keep {policy}:", store.name));
        show(output, &prune, true);
    }
    let left_out = catalog::left_out_in_words(&*store.sink, &job.prefix, Some(dataset)).await?;
    let warnings: Vec<String> = prune.warnings().iter().map(ToString::to_string).chain(left_out).collect();
    for warning in &warnings {
        output.warn(warning);
    }
    let deletions = prune.to_delete();
    let mut told = (short && deletions == 0).then_some(Told::Kept(prune.kept()));
    let line = |text: String| match (short, &told) {
        (false, _) => output.line(format!("  {text}")),
        (true, None) => output.line(format!("{} in {}: {text}", job.name, store.name)),
        (true, Some(_)) => {}
    };
    let mut outcome = Outcome {
        dataset,
        sink: &store.name,
        policy: policy.to_string(),
        dry_run: options.dry_run,
        decisions: Decisions(&prune),
        warnings,
        bytes_to_free: prune.bytes_to_free(),
        pruned: Pruned::default(),
    };
    if options.dry_run {
        let would_stay = prune.held().await?;
        held(output, &would_stay);
        let would = if deletions == 0 {
            "nothing would be deleted".to_owned()
        } else {
            format!("{} would be deleted, {} freed", count(deletions, "artifact"), human_bytes(prune.bytes_to_free()))
        };
        line(format!("{would}; {} kept", prune.kept()));
        outcome.pruned.held = would_stay;
    } else {
        let pruned = prune.execute().await?;
        held(output, &pruned.held);
        line(format!(
            "{} deleted, {} freed; {} kept",
            count(pruned.deleted.len(), "artifact"),
            human_bytes(pruned.bytes),
            prune.kept()
        ));
        for note in &pruned.notes {
            output.warn(note);
        }
        for undeleted in &pruned.failed {
            output.error(&Error::new(ErrorKind::Permission, "delete", &undeleted.key, &undeleted.why));
        }
        if !pruned.failed.is_empty() {
            told = Some(Told::Undeleted(pruned.failed.len()));
        }
        outcome.pruned = pruned;
    }
    if short {
        show(output, &prune, false);
    }
    output.item(&outcome);
    Ok(told)
}

/// Shows what is deleted and why. What stays is a number, unless everything is asked for: it is the same list each night.
fn show(output: &output::Output, prune: &PlannedPrune, headed: bool) {
    let mut table = Table::new(["ACTION", "KEY", "WHY"]).fit(output.columns().map(|columns| columns - 2));
    if !headed {
        table = table.without_head();
    }
    let mut decisions = prune.decisions().filter(|decision| output.is_verbose() || !decision.keeps()).peekable();
    while !output.is_json() && decisions.peek().is_some() {
        for decision in decisions.by_ref().take(TOGETHER) {
            table.row([
                if decision.keeps() { "keep".to_owned() } else { output.paint("delete", RED) },
                decision.key.clone(),
                decision.why(),
            ]);
        }
        for line in table.take() {
            output.as_it_is(format!("  {line}"));
        }
    }
}

/// What the next prune of the destination would delete, where less is kept there than in the source: to copy it would be in
/// vain.
pub(crate) async fn would_go(session: &Session, job: &Job, from: &Store, to: &Store) -> Result<HashSet<ArtifactName>> {
    let is_own = job.stores.iter().any(|store| store.name == to.name);
    let (Some(dataset), Some(policy)) = (&job.dataset, job.keep_in(to)) else { return Ok(HashSet::new()) };
    if !is_own || job.keep_in(from) == Some(policy) {
        return Ok(HashSet::new());
    }
    let plan = Prune::new(from.sink.clone(), dataset.clone())
        .folder(&job.prefix)
        .keep(policy)
        .context(session.context.clone())
        .plan()
        .await?;
    let left = plan.decisions().filter(|decision| !decision.keeps());
    Ok(left.filter_map(|decision| ArtifactName::parse(split_key(&decision.key).1)).collect())
}

/// The `--json` result for one dataset in one sink. The field names are a stable interface.
#[derive(Serialize)]
struct Outcome<'a> {
    dataset: &'a Dataset,
    sink: &'a str,
    policy: String,
    dry_run: bool,
    decisions: Decisions<'a>,
    warnings: Vec<String>,
    bytes_to_free: u64,
    #[serde(flatten)]
    pruned: Pruned,
}

/// The decisions of a plan, written as they are made.
struct Decisions<'a>(&'a PlannedPrune);

impl Serialize for Decisions<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.decisions())
    }
}

/// What is kept in a sink; `None` when that is everything. A job that was named must keep less than that somewhere.
fn policy(session: &Session, job: &Job, store: &Store, asked: bool, options: &Options) -> Result<Option<Policy>> {
    if let Some(policy) = job.keep_in(store) {
        return Ok(Some(policy));
    }
    let anywhere = job.stores.iter().any(|store| job.keep_in(store).is_some());
    if anywhere {
        session.output.note(&format!("job {} has no keep for {}: everything there is kept", job.name, store.name));
    } else if options.orphans.is_none() && asked {
        return Err(Error::new(ErrorKind::Config, "prune", &job.name, "no `keep` is set")
            .hint("add keep = \"30d,at-least=3\" to the job, to its sink or to [defaults]"));
    } else if options.orphans.is_none() {
        session.output.note(&format!("job {} has no keep: everything is kept", job.name));
    }
    Ok(None)
}

async fn orphans(session: &Session, job: &Job, store: &Store, age: Duration, dry_run: bool) -> Result<Value> {
    let now = session.context.now();
    let cleaned = catalog::remove_orphans(&*store.sink, &job.prefix, now, age, dry_run).await?;
    let verb = if dry_run { "would be removed" } else { "removed" };
    let place = lifeboat_core::name::join_key(&store.sink.url(), &job.prefix);
    let freed = if cleaned.bytes > 0 { format!(", {} freed", human_bytes(cleaned.bytes)) } else { String::new() };
    session.output.line(format!("{} in {place} {verb}{freed}", count(cleaned.removed.len(), "leftover")));
    for what in &cleaned.removed {
        session.output.line(format!("  {what}"));
    }
    held(&session.output, &cleaned.held);
    for note in &cleaned.notes {
        session.output.warn(note);
    }
    Ok(json!({
        "sink": store.name,
        "folder": job.prefix,
        "dry_run": dry_run,
        "orphans": cleaned.removed,
        "bytes": cleaned.bytes,
        "held": cleaned.held,
        "notes": cleaned.notes,
    }))
}

/// Objects that the store does not yet let anyone delete: not a failure.
fn held(output: &output::Output, held: &[Held]) {
    for held in held {
        output.line(format!("  {} is {held}", held.key));
    }
}
