//! `lifeboat`: everything from a config file, over any list of systems.
//!
//! The flags of `verify` and `restore` depend on the job. So the command line is read twice: leniently, to find the config file
//! and the job; then strictly, with the flags of that job's system and no others.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind as Usage};
use clap::{Arg, ArgAction, ArgMatches, Command, CommandFactory, FromArgMatches};
use lifeboat_config::{Config, Job};
use lifeboat_core::catalog::At;
use lifeboat_core::system::Choices;
use lifeboat_core::{Error, ErrorKind, Result};

use crate::arguments::{EXIT_STATUS, Global};
use crate::exit::Exit;
use crate::found::{self, Asked, Holdings};
use crate::grammar::{CONFIG, EXAMPLES, FROM_SINK, Lifeboat, SinkArg, Verb};
use crate::jobs::{self, Jobs};
use crate::output::wrap;
use crate::session::{self, Session};
use crate::systems::{Entry, Systems};
use crate::{commands, complete};

/// The word that stands for every sink.
const EVERY: &str = "all";

/// The commands to which systems add flags.
const OF_SYSTEMS: [&str; 2] = ["verify", "restore"];

/// The commands that read what is stored, with the id of the argument that names jobs or datasets.
const READING: [(&str, &str); 4] = [("list", "jobs"), ("show", "what"), ("verify", "names"), ("restore", "job")];

/// Runs the whole grammar of `lifeboat` over a list of systems, with the arguments of this process.
pub fn main(systems: &Systems) -> ExitCode {
    run(systems, &std::env::args_os().collect::<Vec<_>>())
}

fn run(systems: &Systems, arguments: &[OsString]) -> ExitCode {
    if complete::is_asked(arguments) {
        return complete::run(whole(systems), arguments, &complete::Configured(systems));
    }
    let first = lenient(systems, arguments);
    if let Some((global, asked)) = first.as_ref().and_then(asked) {
        return session::main(&global, async |session| without_config(systems, arguments, &asked?, session).await);
    }
    let scope = first.as_ref().map_or(Scope::Unknown, |first| scope(systems, first));
    let strict = match strict(systems, &scope, arguments) {
        Ok(strict) => strict,
        Err(error) => return explain(systems, &scope, error),
    };
    let Lifeboat { global, config, command } = strict.parsed;
    session::main(&global, async |session| {
        crate::flags::warn_of_passwords(session, &strict.program, &strict.matches);
        dispatch(command, strict.choices, Where::Config(config.config.as_deref()), systems, session).await
    })
}

/// Runs a command on what a sink holds. What its system takes is known only when the sink has been looked at.
async fn without_config(
    systems: &Systems,
    arguments: &[OsString],
    (verb, asked): &(String, Asked),
    session: &Session,
) -> Result<Exit> {
    let looked =
        async { if verb == "list" { found::datasets(asked).await } else { found::with_systems(asked, systems).await } };
    let looked = session.context.cancel.run_until_cancelled(looked).await;
    let holdings = looked.unwrap_or_else(|| Err(Error::cancelled("look through", &asked.url)));
    let scope = match holdings.as_ref().map(Holdings::only) {
        Ok(Some(only)) => only.entry().map_or(Scope::Unknown, Scope::Stored),
        Ok(None) => Scope::Several,
        Err(_) => Scope::Unknown,
    };
    let strict = match strict(systems, &scope, arguments) {
        Ok(strict) => strict,
        Err(error) => {
            let is_wrong = error.use_stderr();
            explain(systems, &scope, error);
            return Ok(if is_wrong { Exit::Usage } else { Exit::Good });
        }
    };
    crate::flags::warn_of_passwords(session, &strict.program, &strict.matches);
    let reached = strict.matches.subcommand().map(|(_, matches)| matches).filter(|_| matches!(scope, Scope::Stored(_)));
    dispatch(strict.parsed.command, strict.choices, Where::Sink { holdings: holdings?, reached }, systems, session)
        .await
}

/// Whose flags to read.
enum Scope {
    /// Those of the one job's system.
    System(Entry),
    /// Those of the one dataset's system, and with them what a config would say of how it is reached.
    Stored(Entry),
    /// None: several jobs.
    Several,
    /// Unknown, because there is no config or no such job: those of all systems.
    Unknown,
}

/// The first, lenient reading: it tells whose flags the second one knows. `None` where that makes no difference.
fn lenient(systems: &Systems, arguments: &[OsString]) -> Option<ArgMatches> {
    // Most commands take no flags of a system: they are not read twice.
    if !arguments.iter().any(|argument| READING.iter().any(|(name, _)| argument == name)) {
        return None;
    }
    // Help and version are the second reading's.
    let lenient = OF_SYSTEMS.iter().fold(Lifeboat::command(), |program, name| {
        program.mut_subcommand(name, |command| {
            let all = systems.add_all(command);
            all.disable_help_flag(true)
                .arg(Arg::new("lenient-help").short('h').long("help").action(ArgAction::SetTrue))
                .mut_args(|arg| arg.required(false))
        })
    });
    let lenient = lenient.ignore_errors(true).arg_required_else_help(false).subcommand_required(false);
    lenient.try_get_matches_from(arguments).ok()
}

/// What is asked of a sink that stands in for a config, and the command that asks.
fn asked(first: &ArgMatches) -> Option<(Global, Result<(String, Asked)>)> {
    let (verb, command) = first.subcommand()?;
    let (_, id) = READING.iter().find(|(known, _)| *known == verb)?;
    let text = |id: &str| command.try_get_one::<String>(id).ok().flatten().cloned();
    let url = text(FROM_SINK)?;
    let names = command.try_get_many::<String>(id).ok().flatten().into_iter().flatten().cloned().collect();
    let at = text("at").map_or(Ok(At::Latest), |at| at.parse());
    let asked = at.map(|at| (verb.to_owned(), Asked { url, names, system: text("system"), at }));
    Some((Global::from_arg_matches(first).ok()?, asked))
}

/// Whose flags a command takes that works from a config.
fn scope(systems: &Systems, first: &ArgMatches) -> Scope {
    let Some((name, command)) = first.subcommand().filter(|(name, _)| OF_SYSTEMS.contains(name)) else {
        return Scope::Unknown;
    };
    let Some((_, id)) = READING.iter().find(|(known, _)| *known == name) else { return Scope::Unknown };
    let named: Vec<&String> = command.try_get_many(id).ok().flatten().into_iter().flatten().collect();
    let path = command.try_get_one::<PathBuf>(CONFIG).ok().flatten();
    let Ok(config) = Config::load(path.map(PathBuf::as_path), systems.config()) else { return Scope::Unknown };
    let chosen: Vec<_> = match named[..] {
        [] => config.jobs.iter().collect(),
        _ => named.iter().filter_map(|name| Some(config.find(name).ok()?.0)).collect(),
    };
    match chosen[..] {
        [] => Scope::Unknown,
        // Without a job there is no restore.
        [_] if name == "restore" && named.is_empty() => Scope::Unknown,
        [job] => systems.find(job.system.name()).map_or(Scope::Unknown, Scope::System),
        _ => Scope::Several,
    }
}

/// What the second reading makes of the arguments.
struct Strict {
    program: Command,
    matches: ArgMatches,
    parsed: Lifeboat,
    choices: Choices,
}

/// The second, strict reading, with the flags of these systems and no others.
fn strict(systems: &Systems, scope: &Scope, arguments: &[OsString]) -> std::result::Result<Strict, clap::Error> {
    let program = program(systems, scope);
    let matches = program.clone().try_get_matches_from(arguments)?;
    let parsed = Lifeboat::from_arg_matches(&matches)?;
    let choices = match (matches.subcommand(), scope) {
        (Some((name, matches)), Scope::System(entry) | Scope::Stored(entry)) => {
            entry.read(&Command::new(name.to_owned()), matches)?
        }
        _ => None,
    };
    Ok(Strict { program, matches, parsed, choices })
}

/// The program with the flags of these systems.
fn program(systems: &Systems, scope: &Scope) -> Command {
    let program = Lifeboat::command().after_help(format!("{EXAMPLES}\n\n{EXIT_STATUS}"));
    let program = OF_SYSTEMS.iter().fold(program, |program, name| {
        program.mut_subcommand(name, |command| match scope {
            Scope::System(entry) => entry.add(command),
            Scope::Stored(entry) => entry.reach(entry.add(command)),
            Scope::Several => command,
            Scope::Unknown => {
                // They are read, but only the general ones are shown: which others there are depends on the job.
                let general: Vec<_> = command.get_arguments().map(|arg| arg.get_id().clone()).collect();
                systems.add_all(command).mut_args(
                    |arg| {
                        if general.contains(arg.get_id()) { arg } else { arg.hide(true) }
                    },
                )
            }
        })
    });
    wrap::help(program)
}

/// The program with every option it accepts, under the name by which it was called.
fn whole(systems: &Systems) -> Command {
    let called = std::env::args_os().next().map(PathBuf::from);
    let name = called.as_deref().and_then(|path| path.file_name()?.to_str()).unwrap_or("lifeboat").to_owned();
    let program = Lifeboat::command().name(name);
    OF_SYSTEMS.iter().fold(program, |program, name| program.mut_subcommand(name, |c| systems.add_all(c)))
}

/// Checks that the flags of a system do not clash with those of every system: [`assert_grammar`](crate::assert_grammar).
pub(crate) fn assert_flags(systems: &Systems, name: &str) {
    let entry = systems.find(name).expect("it was added");
    for scope in [Scope::System(entry), Scope::Stored(entry), Scope::Unknown] {
        program(systems, &scope).debug_assert();
    }
}

/// What clap reports; for a flag that some system has but that does not apply here, why not.
fn explain(systems: &Systems, scope: &Scope, error: clap::Error) -> ExitCode {
    if error.kind() == Usage::UnknownArgument
        && let Some(ContextValue::String(flag)) = error.get(ContextKind::InvalidArg)
    {
        let name = flag.trim_start_matches('-');
        let of: Vec<&str> = systems.that_take("verify", name);
        if matches!(scope, Scope::Several) && !of.is_empty() {
            let why = format!("it is an option of {}, but several jobs are verified", of.join(" and "));
            let error = Error::new(ErrorKind::Config, "use", flag, why).hint("name one job");
            return session::usage_error(&error);
        }
    }
    match session::misplaced(&whole(systems), &error) {
        Some(error) => session::usage_error(&error),
        None => session::usage(&error),
    }
}

/// Where a command finds what it works on.
enum Where<'a> {
    /// In a config: that of this path, or the one that is found.
    Config(Option<&'a Path>),
    /// In a sink, with the flags that say how the one dataset's system is reached.
    Sink { holdings: Holdings, reached: Option<&'a ArgMatches> },
}

async fn dispatch(
    command: Verb,
    choices: Choices,
    place: Where<'_>,
    systems: &Systems,
    session: &Session,
) -> Result<Exit> {
    let path = match place {
        Where::Config(path) => path,
        Where::Sink { holdings, reached } => {
            return of_sink(command, choices, holdings, reached, systems, session).await;
        }
    };
    let select = |jobs: &[String], sink: &SinkArg| {
        Config::load(path, systems.config()).and_then(|config| config.select(jobs, sink.sink.as_deref()))
    };
    let every_sink = SinkArg::default();
    match command {
        Verb::Init(args) => commands::init::run(session, &args, path, systems.config()).await,
        Verb::Backup { jobs, backup } => {
            let options = backup.options()?;
            let config = Config::load(path, systems.config())?;
            let selected = config.select(&jobs, None)?;
            Ok(commands::backup::run(session, selected, &options, Some((&config, systems.config()))).await)
        }
        Verb::List { jobs, sink } => Ok(commands::list::run(session, select(&jobs, &sink)?, !jobs.is_empty()).await),
        Verb::Show { what, dataset, show, sink, keys, .. } => {
            let is_key = commands::show::is_key(&what);
            let jobs = keys.replace(select(if is_key { &[] } else { std::slice::from_ref(&what) }, &sink)?);
            let (job, at) =
                if is_key { commands::show::job_of_key(jobs, &what)? } else { (only(jobs)?, show.at.read()?) };
            let job = jobs::one(job, dataset.as_deref(), &at).await?;
            commands::show::run(session, &job, &at, &show).await
        }
        Verb::Verify { names, verify, sink, keys, .. } => {
            let mut options = verify.options(choices)?;
            let config = Config::load(path, systems.config())?;
            options.each_sink = sink.sink.as_deref() == Some(EVERY) && !config.sinks.contains_key(EVERY);
            let jobs = keys.replace(config.select(&names, sink.sink.as_deref().filter(|_| !options.each_sink))?);
            let jobs = if options.each_sink { jobs::in_each_sink(jobs) } else { jobs };
            Ok(commands::verify::run(session, jobs, &options).await)
        }
        Verb::Restore { job, dataset, restore, sink, keys, .. } => {
            let job = only(keys.replace(select(&[job], &sink)?))?;
            let options = restore.options(choices)?;
            let job = jobs::one(job, dataset.as_deref(), &options.at).await?;
            commands::restore::run(session, &job, options).await
        }
        Verb::Prune { jobs, prune } => {
            let options = prune.options()?;
            Ok(commands::prune::run(session, select(&jobs, &every_sink)?, !jobs.is_empty(), &options).await)
        }
        Verb::Replicate(args) => commands::replicate::run(session, args.options()?, path, systems.config()).await,
        Verb::Check { jobs, new, keys } => {
            let config = Config::load(path, systems.config())?;
            let selected = keys.replace(config.select(&jobs, None)?);
            let config = Some((&config, systems.config()));
            Ok(commands::check::run(session, config, selected, !jobs.is_empty(), new.new_sink).await)
        }
        Verb::About(about) => about.run(whole(systems), Some(systems.config()), session),
    }
}

/// The commands that work on what a sink holds.
async fn of_sink(
    command: Verb,
    choices: Choices,
    holdings: Holdings,
    reached: Option<&ArgMatches>,
    systems: &Systems,
    session: &Session,
) -> Result<Exit> {
    let key = holdings.only().and_then(|only| only.key.clone());
    let open = |entry: Entry| entry.open(reached);
    match command {
        Verb::List { jobs, .. } => Ok(commands::list::run(session, holdings.listed(systems), !jobs.is_empty()).await),
        Verb::Show { show, keys, .. } => {
            let job = only(keys.replace(holdings.jobs(|entry| entry.open(None))))?;
            let at = key.map_or_else(|| show.at.read(), |key| Ok(At::Key(key)))?;
            commands::show::run(session, &job, &at, &show).await
        }
        Verb::Verify { verify, keys, .. } => {
            let mut options = verify.options(choices)?;
            options.at = key.map_or(options.at, At::Key);
            Ok(commands::verify::run(session, keys.replace(holdings.jobs(open)), &options).await)
        }
        Verb::Restore { restore, keys, .. } => {
            let job = only(keys.replace(holdings.jobs(open)))?;
            let mut options = restore.options(choices)?;
            options.at = key.map_or(options.at, At::Key);
            commands::restore::run(session, &job, options).await
        }
        _ => Err(Error::new(ErrorKind::Internal, "use", "--from-sink", "this command does not take it")),
    }
}

/// The one job that was selected by its name.
fn only(mut jobs: Jobs) -> Result<Job> {
    match jobs.pop() {
        Some((_, job)) => job,
        None => Err(Error::new(ErrorKind::Internal, "find", "the job", "it was selected but does not exist")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_grammar_without_a_system_holds_together() {
        program(&Systems::new(), &Scope::Unknown).debug_assert();
    }
}
