//! `lifeboat`: everything from a config file, over any list of systems.
//!
//! The flags of `verify` and `restore` depend on the job. So the command line is read twice: leniently, to find the config file
//! and the job; then strictly, with the flags of that job's system and no others.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind as Usage};
use clap::{Arg, ArgAction, Args, Command, CommandFactory, FromArgMatches, Parser, Subcommand};
use lifeboat_config::{Config, Job};
use lifeboat_core::system::Choices;
use lifeboat_core::{Error, ErrorKind, Result};

use crate::arguments::place::Keys;
use crate::arguments::replicate::ReplicateArgs;
use crate::arguments::{About, AtArg, BackupArgs, EXIT_STATUS, Global, NewSink, PruneArgs, RestoreArgs, VerifyArgs};
use crate::exit::Exit;
use crate::jobs::{self, Jobs};
use crate::output::wrap;
use crate::session::{self, Session};
use crate::systems::{Entry, Systems};
use crate::{commands, complete};

/// Backs up databases to storage that you do not trust, and proves that each backup restores.
///
/// The jobs are in a config file: lifeboat.toml in the working folder, in $XDG_CONFIG_HOME/lifeboat or in /etc/lifeboat.
#[derive(Debug, Parser)]
#[command(
    name = "lifeboat",
    version,
    propagate_version = true,
    subcommand_required = true,
    arg_required_else_help = true
)]
struct Lifeboat {
    #[command(flatten)]
    global: Global,
    #[command(flatten)]
    config: ConfigArgs,
    #[command(subcommand)]
    command: Verb,
}

#[derive(Args, Debug)]
struct ConfigArgs {
    /// The config file
    #[arg(short, long, global = true, value_name = "PATH", env = "LIFEBOAT_CONFIG")]
    config: Option<PathBuf>,
}

/// The word that stands for every sink.
const EVERY: &str = "all";

/// A choice among the sinks of a job.
#[derive(Args, Debug)]
struct SinkArg {
    /// Look in this sink of the config; without it, in the job's first
    #[arg(long, value_name = "NAME")]
    sink: Option<String>,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Write a starting config file and an age identity
    #[command(after_help = "\
Examples:
  lifeboat init                                     ./lifeboat.toml and ./lifeboat-identity.txt
  lifeboat --config /etc/lifeboat/lifeboat.toml init
  lifeboat init --recipient age1…                   for a key that you already have")]
    Init(commands::init::InitArgs),
    /// Back up; all jobs when none is named
    #[command(after_help = "\
Examples:
  lifeboat backup
  lifeboat backup shop blog
  lifeboat backup --json | jq '.[].stored_bytes'")]
    Backup {
        /// Names of jobs
        #[arg(value_name = "JOB")]
        jobs: Vec<String>,
        #[command(flatten)]
        backup: BackupArgs,
    },
    /// List the backups: age, size, last verified; with -v everything
    #[command(after_help = "\
Examples:
  lifeboat list
  lifeboat list shop --sink offsite
  lifeboat list --json | jq -r '.[] | select(.verified_at == null) | .key'")]
    #[command(mut_arg("sink", |sink| sink.help("Look in this sink of the config; without it, in all")))]
    List {
        /// Names of jobs; all when none is named
        #[arg(value_name = "JOB")]
        jobs: Vec<String>,
        #[command(flatten)]
        sink: SinkArg,
    },
    /// Show a backup's manifest, and the shell line that restores it without Lifeboat
    #[command(after_help = "\
Examples:
  lifeboat show shop
  lifeboat show shop --at 2026-11-20 --items
  lifeboat show shop --item public.orders > orders.copy
  lifeboat show databases/shop-20261121-033000.dump.zst.age")]
    Show {
        /// A job, or the key of a backup as `lifeboat list` prints it
        #[arg(value_name = "JOB|KEY")]
        what: String,
        /// Which dataset of a job that has many
        #[arg(long, value_name = "NAME")]
        dataset: Option<String>,
        #[command(flatten)]
        at: AtArg,
        /// Also list the contents (tables with their rows); needs the key if it is encrypted
        #[arg(long)]
        items: bool,
        /// Write one item of the contents (the rows of a table) to standard output, compared with its proof
        #[arg(long, value_name = "NAME", conflicts_with = "items")]
        item: Option<String>,
        #[command(flatten)]
        sink: SinkArg,
        #[command(flatten)]
        keys: Keys,
    },
    /// Prove that a backup is good; all jobs when none is named
    #[command(after_help = "\
Levels:
  stored      it is there, young enough, and has the size and SHA-256 of its manifest
  structure   it decrypts, decompresses, parses to its end and agrees with its proof
  restore     it restores into a scratch server, and the content equals the proof (the default)
  live        how far the live system has drifted from it

With one job, its system's own options too: `lifeboat verify JOB --help` shows them.

Examples:
  lifeboat verify
  lifeboat verify shop --level structure --max-age 2d
  lifeboat verify shop --at 2026-11-20 --sink offsite
  lifeboat verify --sink all --level stored        every sink's copy of the newest backup")]
    #[command(mut_arg("sink", |sink| {
        sink.help("Verify what is in this sink of the config, or with all in each of the job's; without it, in the first")
    }))]
    Verify {
        /// Names of jobs
        // Systems have an option of the name `jobs`.
        #[arg(value_name = "JOB")]
        names: Vec<String>,
        #[command(flatten)]
        verify: VerifyArgs,
        #[command(flatten)]
        sink: SinkArg,
        #[command(flatten)]
        keys: Keys,
    },
    /// Restore a backup
    #[command(after_help = "\
The job's system has options of its own: `lifeboat restore JOB --help` shows them.

Examples:
  lifeboat restore shop --into postgres://admin@db.example/shop_again
  SHOP_URL=postgres://… lifeboat restore shop --at 2026-11-20 --into env:SHOP_URL --replace
  lifeboat restore shop --into postgres:///shop --table public.orders")]
    Restore {
        /// The job
        #[arg(value_name = "JOB")]
        job: String,
        /// Which dataset of a job that has many
        #[arg(long, value_name = "NAME")]
        dataset: Option<String>,
        #[command(flatten)]
        restore: RestoreArgs,
        #[command(flatten)]
        sink: SinkArg,
        #[command(flatten)]
        keys: Keys,
    },
    /// Delete the backups that the jobs' `keep` no longer keeps
    #[command(after_help = "\
Examples:
  lifeboat prune --dry-run
  lifeboat prune shop
  lifeboat prune --orphans --orphan-age 6h     also what killed runs have left behind")]
    Prune {
        /// Names of jobs; all when none is named
        #[arg(value_name = "JOB")]
        jobs: Vec<String>,
        #[command(flatten)]
        prune: PruneArgs,
    },
    /// Copy from one sink to another what the other lacks: backups, and trees that other tools wrote
    #[command(after_help = "\
Examples:
  lifeboat replicate                                 every job with several sinks, every [copies.NAME]
  lifeboat replicate shop --dry-run
  lifeboat replicate --from minio --to offsite       from the one to the other, for every job
  lifeboat replicate velero --verify                 read the copy again, compare it with its record
  lifeboat replicate --tree --from minio://minio:9000/velero --to b2://offsite --into velero")]
    Replicate(ReplicateArgs),
    /// Check the config, the sinks, the sources, the keys and the tools
    #[command(after_help = "\
Examples:
  lifeboat check
  lifeboat check shop --json")]
    Check {
        /// Names of jobs; all when none is named
        #[arg(value_name = "JOB")]
        jobs: Vec<String>,
        #[command(flatten)]
        new: NewSink,
        #[command(flatten)]
        keys: Keys,
    },
    #[command(flatten)]
    About(About),
}

const EXAMPLES: &str = "\
Examples:
  lifeboat init           write lifeboat.toml and an age identity
  lifeboat backup         back up every job
  lifeboat verify shop    restore the newest backup of shop into a scratch server, and compare";

/// The commands to which systems add flags, with the id of the argument that names jobs.
const OF_SYSTEMS: [(&str, &str); 2] = [("verify", "names"), ("restore", "job")];

/// Runs the whole grammar of `lifeboat` over a list of systems, with the arguments of this process.
pub fn main(systems: &Systems) -> ExitCode {
    run(systems, std::env::args_os().collect())
}

fn run(systems: &Systems, arguments: Vec<OsString>) -> ExitCode {
    if complete::is_asked(&arguments) {
        return complete::run(whole(systems), &arguments, &complete::Configured(systems));
    }
    let scope = scope(systems, &arguments);
    let program = program(systems, &scope);
    let matches = match program.clone().try_get_matches_from(&arguments) {
        Ok(matches) => matches,
        Err(error) => return explain(systems, &scope, error),
    };
    let parsed = Lifeboat::from_arg_matches(&matches).and_then(|parsed| {
        let choices = match (matches.subcommand(), &scope) {
            (Some((name, matches)), Scope::System(entry)) => entry.read(&Command::new(name.to_owned()), matches)?,
            _ => None,
        };
        Ok((parsed, choices))
    });
    let (parsed, choices) = match parsed {
        Ok(parsed) => parsed,
        Err(error) => return session::usage(&error),
    };
    let Lifeboat { global, config, command } = parsed;
    session::main(&global, async |session| {
        crate::flags::warn_of_passwords(session, &program, &matches);
        let path = config.config.as_deref();
        dispatch(command, choices, path, systems, session).await
    })
}

/// Whose flags to read.
enum Scope {
    /// Those of the one job's system.
    System(Entry),
    /// None: several jobs.
    Several,
    /// Unknown, because there is no config or no such job: those of all systems.
    Unknown,
}

/// The first, lenient reading: whose flags the second one knows.
fn scope(systems: &Systems, arguments: &[OsString]) -> Scope {
    // Most commands take no flags of a system: they are not read twice.
    if !arguments.iter().any(|argument| OF_SYSTEMS.iter().any(|(name, _)| argument == name)) {
        return Scope::Unknown;
    }
    // Help and version are the second reading's.
    let mut lenient = OF_SYSTEMS.iter().fold(Lifeboat::command(), |program, (name, _)| {
        program.mut_subcommand(name, |command| {
            let all = systems.add_all(command);
            all.disable_help_flag(true)
                .arg(Arg::new("lenient-help").short('h').long("help").action(ArgAction::SetTrue))
                .mut_args(|arg| arg.required(false))
        })
    });
    lenient = lenient.ignore_errors(true).arg_required_else_help(false).subcommand_required(false);
    let Ok(matches) = lenient.try_get_matches_from(arguments) else { return Scope::Unknown };
    let Some((name, command)) = matches.subcommand() else { return Scope::Unknown };
    let Some((_, id)) = OF_SYSTEMS.iter().find(|(known, _)| *known == name) else { return Scope::Unknown };
    let named: Vec<&String> = command.try_get_many(id).ok().flatten().into_iter().flatten().collect();
    let path = command.try_get_one::<PathBuf>("config").ok().flatten();
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

/// The program with the flags of these systems.
fn program(systems: &Systems, scope: &Scope) -> Command {
    let program = Lifeboat::command().after_help(format!("{EXAMPLES}\n\n{EXIT_STATUS}"));
    let program = OF_SYSTEMS.iter().fold(program, |program, (name, _)| {
        program.mut_subcommand(name, |command| match scope {
            Scope::System(entry) => entry.add(command),
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
    OF_SYSTEMS.iter().fold(program, |program, (name, _)| program.mut_subcommand(name, |c| systems.add_all(c)))
}

/// Checks that the flags of a system do not clash with those of every system: [`assert_grammar`](crate::assert_grammar).
pub(crate) fn assert_flags(systems: &Systems, name: &str) {
    let entry = systems.find(name).expect("it was added");
    for scope in [Scope::System(entry), Scope::Unknown] {
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

async fn dispatch(
    command: Verb,
    choices: Choices,
    path: Option<&std::path::Path>,
    systems: &Systems,
    session: &Session,
) -> Result<Exit> {
    let select = |jobs: &[String], sink: &SinkArg| {
        Config::load(path, systems.config()).and_then(|config| config.select(jobs, sink.sink.as_deref()))
    };
    let every_sink = SinkArg { sink: None };
    match command {
        Verb::Init(args) => commands::init::run(session, &args, path),
        Verb::Backup { jobs, backup } => {
            let options = backup.options()?;
            Ok(commands::backup::run(session, select(&jobs, &every_sink)?, &options).await)
        }
        Verb::List { jobs, sink } => Ok(commands::list::run(session, select(&jobs, &sink)?, !jobs.is_empty()).await),
        Verb::Show { what, dataset, at, items, item, sink, keys } => {
            let is_key = commands::show::is_key(&what);
            let jobs = keys.replace(select(if is_key { &[] } else { std::slice::from_ref(&what) }, &sink)?);
            let (job, at) = if is_key { commands::show::job_of_key(jobs, &what)? } else { (only(jobs)?, at.read()?) };
            let job = jobs::one(job, dataset.as_deref(), &at).await?;
            match item {
                Some(item) => commands::item::run(session, &job, &at, &item).await,
                None => commands::show::run(session, &job, &at, items).await,
            }
        }
        Verb::Verify { names, verify, sink, keys } => {
            let mut options = verify.options(choices)?;
            let config = Config::load(path, systems.config())?;
            options.each_sink = sink.sink.as_deref() == Some(EVERY) && !config.sinks.contains_key(EVERY);
            let jobs = keys.replace(config.select(&names, sink.sink.as_deref().filter(|_| !options.each_sink))?);
            let jobs = if options.each_sink { jobs::in_each_sink(jobs) } else { jobs };
            Ok(commands::verify::run(session, jobs, &options).await)
        }
        Verb::Restore { job, dataset, restore, sink, keys } => {
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
            Ok(commands::check::run(session, Some(&config), selected, !jobs.is_empty(), new.new_sink).await)
        }
        Verb::About(about) => about.run(whole(systems), Some(systems.config()), session),
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
