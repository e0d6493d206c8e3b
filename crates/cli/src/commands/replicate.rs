//! `replicate`: copies what one sink lacks, backups and foreign trees; shows the plan, then does it.

use std::path::Path;
use std::sync::Arc;

use lifeboat_config::{Config, Job, Store, Systems, guards, hint, marker};
use lifeboat_core::name::join_key;
use lifeboat_core::pipeline::{Deletion, NotCopied, ReplicatePlan, Replicated, Step, TreeCopied, TreePlan};
use lifeboat_core::report::human_bytes;
use lifeboat_core::sink::LeftOut;
use lifeboat_core::words::{Noun, suggest};
use lifeboat_core::{Context, Error, ErrorKind, Limiter, Replicate, Result, Sink, TreeCopy};
use serde_json::{Value, json};

use super::tally::Tally;
use super::{place, prune, verify};
use crate::exit::{Exit, no_artifact};
use crate::output::report::{count, seconds, size};
use crate::output::table::Table;
use crate::output::{self, GREEN, RED};
use crate::session::Session;

/// Objects of a tree that a dry run shows by name.
const SHOWN: usize = 50;

/// What is counted: each job once for each destination.
const COPIES: Noun = Noun::new("copy", "copies");

/// The options of the command line.
#[derive(Debug, Default)]
pub(crate) struct Options {
    pub(crate) names: Vec<String>,
    pub(crate) from: Option<String>,
    pub(crate) to: Option<String>,
    pub(crate) dry_run: bool,
    /// Whether a destination may be new.
    pub(crate) new_sink: bool,
    /// Whether backups that are there already are read again.
    pub(crate) reread: bool,
    pub(crate) verify: bool,
    pub(crate) tree: bool,
    pub(crate) prefix: Option<String>,
    pub(crate) into: Option<String>,
    pub(crate) deletion: Option<Deletion>,
    /// Of all copies of this run together.
    pub(crate) limiter: Limiter,
}

/// Something to copy from one place to another.
enum Task {
    /// The backups in a folder.
    Backups { from: Store, to: Store, folder: String, job: Option<Arc<Job>> },
    /// A tree that another tool wrote.
    Tree { to: String, tree: Box<TreeCopy> },
}

/// The tasks of a run by job or copy, or why there are none.
type Tasks = Vec<(String, Result<Vec<Task>>)>;

/// Copies as the config and the flags say.
pub(crate) async fn run(session: &Session, options: Options, config: Option<&Path>, systems: &Systems) -> Result<Exit> {
    let tasks = tasks(session, &options, config, systems)?;
    if tasks.is_empty() {
        return Err(Error::new(
            ErrorKind::Config,
            "find",
            "anything to replicate",
            "no job has a second sink, and no copy is configured",
        )
        .hint(
            "name two sinks with --from and --to, or in the config add sinks = [\"A\", \"B\"] to a job or write a table [copies.NAME]",
        ));
    }
    let asked = !options.names.is_empty();
    Ok(work(session, tasks, asked, &options).await)
}

/// Copies the backups of one job from its first sink to its others.
pub(crate) async fn one(session: &Session, job: Job, options: &Options) -> Exit {
    let name = job.name.clone();
    work(session, vec![(name, of_job(None, job, options))], true, options).await
}

/// Does each task; one that fails does not stop the others.
async fn work(session: &Session, tasks: Tasks, asked: bool, options: &Options) -> Exit {
    session.output.only_failures();
    let mut exit = Exit::Good;
    let mut results = Vec::new();
    let all = tasks.iter().map(|(_, opened)| opened.as_ref().map_or(1, Vec::len)).sum();
    let mut tally = Tally::of(all).counting(COPIES);
    // One that is named tells everything of each destination.
    let short = tasks.len() > 1 && tally.is_short(&session.output) && !options.dry_run;
    for (name, opened) in tasks {
        let copies = match opened {
            Ok(copies) => copies,
            Err(error) => {
                tally.error(&session.output, &name, &error);
                exit.and(Exit::from(&error));
                results.push(failure(&name, None, &error));
                continue;
            }
        };
        for task in copies {
            let to = match &task {
                Task::Backups { to, .. } => to.name.clone(),
                Task::Tree { to, .. } => to.clone(),
            };
            let outcome = async {
                session.begin("replicate", &name)?;
                match task {
                    Task::Backups { from, to, folder, job } => {
                        backups(session, &name, from, to, folder, job, How { asked, short, options }).await
                    }
                    Task::Tree { tree, .. } if options.verify => prove(session, &name, &to, &tree, short).await,
                    Task::Tree { tree, .. } => copy(session, &name, &to, &tree, short, options).await,
                }
            };
            match session.settle("replicate", &name, outcome.await) {
                Ok((passed, value)) => {
                    if !passed {
                        tally.failed(&format!("{name} to {to}"), "not all of it");
                    }
                    exit.and(if passed { Exit::Good } else { Exit::Failed });
                    results.push(value);
                }
                Err(error) => {
                    tally.error(&session.output, &format!("{name} to {to}"), &error);
                    exit.and(Exit::from(&error));
                    results.push(failure(&name, Some(&to), &error));
                }
            }
        }
    }
    tally.end(
        &session.output,
        if options.verify {
            "verified"
        } else if options.dry_run {
            "planned"
        } else {
            "done"
        },
    );
    session.output.result(&results);
    exit
}

fn failure(name: &str, to: Option<&str>, error: &Error) -> Value {
    json!({ "name": name, "to": to, "passed": false, "error": output::error_value(error) })
}

/// How a folder of backups is copied.
struct How<'a> {
    /// Whether it was named, so that there must be something.
    asked: bool,
    /// Whether what was done is told in one line.
    short: bool,
    options: &'a Options,
}

/// The context of a copy, with the limits of the flags.
fn context(session: &Session, options: &Options) -> Context {
    session.context.clone().limiter(options.limiter.clone())
}

fn tasks(session: &Session, options: &Options, path: Option<&Path>, systems: &Systems) -> Result<Tasks> {
    let is_url = |name: &Option<String>| name.as_ref().is_some_and(|n| n.contains("://"));
    let both = options.from.as_ref().zip(options.to.as_ref());
    // Two places say it all, unless they are to be those of jobs.
    if let Some((from, to)) = both
        && (options.tree
            || options.prefix.is_some()
            || (options.names.is_empty() && is_url(&options.from) && is_url(&options.to)))
    {
        let config =
            if is_url(&options.from) && is_url(&options.to) { None } else { Some(Config::load(path, systems)?) };
        let (from, to) = (sink(config.as_ref(), from)?, sink(config.as_ref(), to)?);
        let folder = options.prefix.clone().unwrap_or_default();
        if !options.tree {
            let task = Task::Backups { from, to, folder, job: None };
            return Ok(vec![("the folder".to_owned(), Ok(vec![task]))]);
        }
        let into = options.into.clone().unwrap_or_else(|| folder.clone());
        let name = into.trim_matches('/').replace('/', "-");
        let tree = TreeCopy::new(&name, from.sink, to.sink)?
            .layouts(systems.layouts())
            .prefix(&folder)
            .into_folder(&into)
            .deletion(options.deletion.unwrap_or_default())
            .context(context(session, options));
        return Ok(vec![(name, Ok(vec![Task::Tree { to: to.name, tree: Box::new(tree) }]))]);
    }
    let config = Config::load(path, systems)?;
    for named in [&options.from, &options.to].into_iter().flatten() {
        config.sink(named)?;
    }
    let mut tasks = Tasks::new();
    let known: Vec<&str> =
        config.jobs.iter().map(|j| j.name.as_str()).chain(config.copies.iter().map(|c| c.name.as_str())).collect();
    let is_copy = |name: &str| config.copies.iter().any(|copy| copy.name == name);
    if let Some(unknown) = options.names.iter().find(|name| !is_copy(name) && config.find(name).is_err()) {
        let why = format!("{} has no such job and no such copy", config.path.display());
        return Err(Error::new(ErrorKind::Config, "find", format!("\"{unknown}\""), why).hint(suggest(unknown, &known)));
    }
    let named = |name: &str| options.names.iter().any(|n| n == name);
    let chosen: Vec<String> = match options.names[..] {
        [] if options.verify => Vec::new(),
        [] => {
            let several = config.jobs.iter().filter(|job| job.sinks.len() > 1 || both.is_some());
            several.map(|job| job.name.clone()).collect()
        }
        // A job and a copy may have one name: then both are meant.
        _ => {
            let is_job = |name: &&String| config.find(name).is_ok_and(|(job, _)| job.name == **name || !is_copy(name));
            options.names.iter().filter(is_job).cloned().collect()
        }
    };
    if !chosen.is_empty() {
        for (name, job) in config.select(&chosen, None)? {
            let opened = job.and_then(|job| of_job(Some(&config), job, options));
            tasks.push((name, opened));
        }
    }
    for table in &config.copies {
        // Without names, --from and --to speak of jobs.
        if named(&table.name) || (options.names.is_empty() && options.from.is_none() && options.to.is_none()) {
            let opened = table.open(&config, options.deletion, &context(session, options)).and_then(|trees| {
                if options.from.is_some() || options.to.is_some() {
                    return Err(Error::new(
                        ErrorKind::Config,
                        "use",
                        format!("copy {}", table.name),
                        "the config says where it copies from and to",
                    )
                    .hint("leave out --from and --to, or copy with --tree"));
                }
                Ok(trees.into_iter().map(|(to, tree)| Task::Tree { to, tree: Box::new(tree) }).collect())
            });
            tasks.push((table.name.clone(), opened));
        }
    }
    Ok(tasks)
}

/// A sink by its name in the config, or by its URL.
fn sink(config: Option<&Config>, named: &str) -> Result<Store> {
    match config {
        Some(config) => config.sink(named),
        None if named.contains("://") => Ok(Store::new(named, lifeboat_sinks::open(named)?)),
        None => {
            let why = "it is not a URL, and there is no config";
            Err(Error::new(ErrorKind::Config, "use", format!("sink {named}"), why))
        }
    }
}

/// From a job's first sink to its others, or as the flags say.
fn of_job(config: Option<&Config>, job: Job, options: &Options) -> Result<Vec<Task>> {
    if options.verify {
        return Err(Error::new(
            ErrorKind::Config,
            "use",
            format!("--verify with job {}", job.name),
            "it applies only to copies of trees",
        )
        .hint(format!("`lifeboat verify {} --sink NAME` verifies a backup in any sink", job.name)));
    }
    if options.deletion.is_some() && !options.names.is_empty() {
        let why = "backups are never deleted because another sink lacks them";
        return Err(Error::new(ErrorKind::Config, "use", format!("--delete-extra with job {}", job.name), why)
            .hint("`lifeboat prune` deletes what the job no longer keeps, in each of its sinks"));
    }
    let find = |named: &str| match job.stores.iter().find(|store| store.name == named) {
        Some(store) => Ok(store.clone()),
        None => sink(config, named),
    };
    let from = match &options.from {
        Some(named) => find(named)?,
        None => job.store()?.clone(),
    };
    let to = match &options.to {
        Some(named) => vec![find(named)?],
        None => job.stores.iter().filter(|store| store.name != from.name).cloned().collect(),
    };
    if to.is_empty() {
        return Err(Error::new(ErrorKind::Config, "replicate", format!("job {}", job.name), "it has one sink").hint(
            match config {
                Some(_) => "name another with --to, or add sinks = [\"A\", \"B\"] to the job",
                None => "name several: the first is copied from, the others are copied to (--sink)",
            },
        ));
    }
    let job = Arc::new(job);
    let task = |to| Task::Backups { from: from.clone(), to, folder: job.prefix.clone(), job: Some(Arc::clone(&job)) };
    Ok(to.into_iter().map(task).collect())
}

async fn backups(
    session: &Session,
    name: &str,
    from: Store,
    to: Store,
    folder: String,
    job: Option<Arc<Job>>,
    How { asked, short, options }: How<'_>,
) -> Result<(bool, Value)> {
    let output = &session.output;
    let dataset = job.as_ref().and_then(|job| job.dataset.clone());
    let whose = dataset.as_ref().map_or_else(|| "all datasets".to_owned(), ToString::to_string);
    let place = join_key(&from.sink.url(), &folder);
    guards::refuse_folder(&*to.sink, &folder).await?;
    // From a disk that is not mounted there would be nothing to copy, and all would seem well.
    marker::refuse_unknown(&*from.sink).await?;
    admit(session, &*to.sink, options).await?;
    let cx = context(session, options);
    let cx = job.as_ref().map_or_else(|| cx.clone(), |job| job.context(&cx));
    let unwanted = match &job {
        Some(job) => prune::would_go(session, job, &from, &to).await?,
        None => Default::default(),
    };
    let mut replicate = Replicate::new(from.sink.clone(), to.sink.clone()).folder(&folder).dataset(dataset).context(cx);
    replicate = replicate.reread(options.reread);
    if let Some(job) = job {
        replicate = replicate.only(move |name| job.claims(name) && !unwanted.contains(name));
    }
    let plan = replicate.plan().await?;
    if plan.artifacts.is_empty() && plan.present == 0 {
        let message = format!("there is none in {}", place.trim_end_matches('/'));
        if asked {
            return Err(no_artifact(&whose, message));
        }
        output.note(&format!("nothing to replicate of {whose}: {message}"));
    }
    if !short {
        output.line(format!("{whose}, {} to {}:", from.name, to.name));
    }
    let mut value = json!({
        "name": name, "kind": "backups", "from": from.name, "to": to.name, "dry_run": options.dry_run,
        "plan": plan.artifacts, "bytes_to_copy": plan.bytes_to_copy(), "present": plan.present,
        "copied": [], "mended": [], "reread": 0, "failed": [], "bytes": 0, "seconds": 0.0,
    });
    let passed = if options.dry_run {
        show_backups(session, &plan);
        show_left_out(session, &plan.left_out);
        plan.left_out.is_empty() && !plan.artifacts.iter().any(|a| matches!(a.step, Step::Conflict | Step::Unusable))
    } else {
        let done = plan.execute().await?;
        match short {
            true => {
                let copied = format!("{} copied", done.copied.len());
                tell_in_a_line(
                    session,
                    name,
                    &to.name,
                    &copied,
                    done.bytes(),
                    &format!("{} there already", done.present),
                    &done.failed,
                );
                done.notes.iter().for_each(|note| output.warn(note));
            }
            false => tell_backups(session, &done),
        }
        super::config::replicate(session, &from, &to, &folder).await;
        value["copied"] = json!(done.copied);
        value["mended"] = json!(done.mended);
        (value["present"], value["reread"]) = (done.present.into(), done.reread.into());
        value["failed"] = json!(done.failed);
        value["bytes"] = done.bytes().into();
        value["seconds"] = done.seconds.into();
        done.is_complete()
    };
    value["passed"] = passed.into();
    Ok((passed, value))
}

/// Looks whether a destination is the place that it is taken for, and marks one that is said to be new.
async fn admit(session: &Session, to: &dyn Sink, options: &Options) -> Result<()> {
    match (options.new_sink, options.dry_run) {
        (true, true) => Ok(()),
        (true, false) => place::take_as_new(session, [to]).await,
        (false, _) => marker::refuse_unknown(to).await,
    }
}

fn show_backups(session: &Session, plan: &ReplicatePlan) {
    let output = &session.output;
    let mut table = Table::new(["ACTION", "SIZE", "KEY", "WHY"]).right(1);
    for artifact in &plan.artifacts {
        let action = match artifact.step {
            Step::Conflict | Step::Unusable => output.paint(artifact.step.as_str(), RED),
            step => step.as_str().to_owned(),
        };
        table.row([action, human_bytes(artifact.bytes), artifact.key.clone(), artifact.why.clone()]);
    }
    if !table.is_empty() {
        output.table(table, 2);
    }
    let of = |steps: [Step; 2]| plan.artifacts.iter().filter(|a| steps.contains(&a.step)).count();
    let doubtful = match of([Step::Reread, Step::Mend]) {
        0 => String::new(),
        n => format!("; {n} read again, and replaced where bad"),
    };
    output.line(format!(
        "  {} would be copied, {} sent{doubtful}; {} there already",
        count(of([Step::Copy, Step::Complete]), "artifact"),
        human_bytes(plan.bytes_to_copy()),
        plan.present
    ));
}

fn show_left_out(session: &Session, left_out: &[LeftOut]) {
    for left in left_out {
        session.output.warn(&format!("{} would not be copied: it is {}, and no object", left.path, left.what));
    }
}

fn tell_backups(session: &Session, done: &Replicated) {
    for copied in &done.copied {
        session.output.line(format!("  copied {} ({})", copied.key, size(copied.bytes)));
    }
    for mended in &done.mended {
        session.output.line(format!(
            "  mended {} ({}): what was there was not what its manifest says",
            mended.key,
            size(mended.bytes)
        ));
    }
    for note in &done.notes {
        session.output.warn(note);
    }
    tell_failed(session, &done.failed);
    let mended = if done.mended.is_empty() { String::new() } else { format!(", {} mended", done.mended.len()) };
    let reread = if done.reread == 0 { String::new() } else { format!(", {} of them read again", done.reread) };
    session.output.line(format!(
        "  {} {} copied{mended}, {} sent in {}; {} there already{reread}{}",
        verdict(session, done.is_complete()),
        count(done.copied.len(), "artifact"),
        human_bytes(done.bytes()),
        seconds(done.seconds),
        done.present,
        failures(&done.failed)
    ));
}

/// What was done, in one line, and what was not.
fn tell_in_a_line(session: &Session, name: &str, to: &str, copied: &str, bytes: u64, rest: &str, failed: &[NotCopied]) {
    let bytes = if bytes == 0 { String::new() } else { format!(" ({})", human_bytes(bytes)) };
    let verdict = verdict(session, failed.is_empty());
    session.output.line(format!("{verdict} {name} to {to}: {copied}{bytes}, {rest}{}", failures(failed)));
    tell_failed(session, failed);
}

fn verdict(session: &Session, good: bool) -> String {
    if good { session.output.paint("DONE", GREEN) } else { session.output.paint("FAIL", RED) }
}

fn failures(failed: &[NotCopied]) -> String {
    if failed.is_empty() { String::new() } else { format!("; {} not copied", failed.len()) }
}

fn tell_failed(session: &Session, failed: &[NotCopied]) {
    for failure in failed {
        let word = session.output.paint("NOT copied", RED);
        session.output.line(format!("  {word} {}: {}", failure.key, failure.error));
        session.output.failure(&format!("{} was not copied: {}", failure.key, failure.error));
        if let Some(hint) = failure.hint.as_ref().filter(|_| !session.output.is_silent()) {
            session.output.write_err(&format!("  hint: {}: {}", failure.key, hint::render(hint)));
        }
    }
}

async fn copy(
    session: &Session,
    name: &str,
    to: &str,
    tree: &TreeCopy,
    short: bool,
    options: &Options,
) -> Result<(bool, Value)> {
    let output = &session.output;
    let (sink, into) = tree.destination();
    // The copy may well be such a location; what lies around it may not.
    guards::refuse_folder(sink, into.rsplit_once('/').map_or("", |(around, _)| around)).await?;
    admit(session, sink, options).await?;
    let plan = tree.plan().await?;
    if !short {
        output.line(format!("{name}, {} to {}:", tree.source_url(), tree.destination_url()));
    }
    let mut value = json!({
        "name": name, "kind": "tree", "from": tree.source_url(), "to": tree.destination_url(), "sink": to,
        "dry_run": options.dry_run, "plan": plan.objects, "bytes_to_copy": plan.bytes_to_copy(),
        "unchanged": plan.unchanged, "extra": plan.extra, "last_record": plan.last_record,
    });
    let passed = if options.dry_run {
        show_tree(session, &plan);
        show_left_out(session, &plan.left_out);
        plan.left_out.is_empty() && plan.deletes.is_ok()
    } else {
        let done = plan.execute().await?;
        match short {
            true => {
                let copied = format!("{} copied", done.copied + done.replaced);
                tell_in_a_line(
                    session,
                    name,
                    to,
                    &copied,
                    done.bytes,
                    &format!("{} unchanged", done.unchanged),
                    &done.failed,
                );
                done.notes.iter().for_each(|note| output.note(note));
            }
            false => tell_tree(session, &done),
        }
        value["done"] = json!(done);
        done.is_complete()
    };
    value["passed"] = passed.into();
    Ok((passed, value))
}

fn show_tree(session: &Session, plan: &TreePlan) {
    let output = &session.output;
    let deletes = matches!(plan.deletes, Ok(true));
    let mut table = Table::new(["ACTION", "SIZE", "KEY", "WHY"]).right(1);
    for object in plan.objects.iter().take(SHOWN) {
        table.row([
            object.step.as_str().to_owned(),
            human_bytes(object.bytes),
            object.key.clone(),
            object.why.to_owned(),
        ]);
    }
    for extra in plan.extra.iter().take(SHOWN) {
        let action = if deletes { output.paint("delete", RED) } else { "keep".to_owned() };
        table.row([action, human_bytes(extra.bytes), extra.key.clone(), "it is no longer at the source".to_owned()]);
    }
    if !table.is_empty() {
        output.table(table, 2);
    }
    let hidden = plan.objects.len().saturating_sub(SHOWN) + plan.extra.len().saturating_sub(SHOWN);
    if hidden > 0 {
        output.line(format!("  and {hidden} more; --json shows all"));
    }
    let mut figures = vec![
        format!("{} would be copied or compared", count(plan.objects.len(), "object")),
        format!("{} at most sent", human_bytes(plan.bytes_to_copy())),
        format!("{} unchanged", plan.unchanged),
    ];
    if !plan.extra.is_empty() {
        let fate = if deletes { "deleted" } else { "kept" };
        figures.push(format!("{} no longer at the source would be {fate}", plan.extra.len()));
    }
    output.line(format!("  {}", figures.join("; ")));
    if let Err(error) = &plan.deletes {
        output.error(error);
    }
}

fn tell_tree(session: &Session, done: &TreeCopied) {
    let output = &session.output;
    tell_failed(session, &done.failed);
    for note in &done.notes {
        output.note(note);
    }
    let mut figures = vec![
        format!("{} copied", count(usize::try_from(done.copied).unwrap_or(usize::MAX), "object")),
        format!("{} replaced", done.replaced),
        format!("{} unchanged", done.unchanged),
        format!("{} sent in {}", human_bytes(done.bytes), seconds(done.seconds)),
    ];
    for (number, what) in [(done.deleted, "deleted"), (done.extra, "kept that are no longer at the source")] {
        if number > 0 {
            figures.push(format!("{number} {what}"));
        }
    }
    if !done.failed.is_empty() {
        figures.push(format!("{} not copied", done.failed.len()));
    }
    output.line(format!("  {} {}", verdict(session, done.is_complete()), figures.join("; ")));
    if let Some(record) = &done.record {
        output.line(format!("     recorded in {record}"));
    }
}

async fn prove(session: &Session, name: &str, to: &str, tree: &TreeCopy, short: bool) -> Result<(bool, Value)> {
    let report = tree.verify().await?;
    verify::print(session, name, &report, short.then_some(to), short);
    let mut value = json!(report);
    value["name"] = name.into();
    value["sink"] = to.into();
    Ok((report.passed, value))
}
