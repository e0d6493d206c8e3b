//! `lifeboat-<system>`: one system from flags alone.
//!
//! The general commands take the flags of the system's three structs: see [`cli`](lifeboat_core::cli). When a system has its
//! own command with the name of a general one, that one runs if no sink is named.

use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::Arc;

use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches, Subcommand};
use lifeboat_config::Job;
use lifeboat_core::cli::{CHECKS, CONNECTION, CONTENTS, Commands, Verbs};
use lifeboat_core::name::join_key;
use lifeboat_core::system::Choices;
use lifeboat_core::{Error, ErrorKind, Result};

use crate::arguments::place::{Keys, Packing, Place};
use crate::arguments::replicate::Pace;
use crate::arguments::{About, BackupArgs, EXIT_STATUS, Global, NewSink, PruneArgs, RestoreArgs, ShowArgs, VerifyArgs};
use crate::console::Terminal;
use crate::exit::Exit;
use crate::opening::{self, Taken, nowhere, open, settings};
use crate::output::wrap;
use crate::session::{self, Session};
use crate::systems::Systems;
use crate::{commands, complete, flags, jobs};

/// Runs the program of one system with the arguments of this process. It links that system alone.
pub fn single<S: Commands>() -> ExitCode {
    run::<S>(std::env::args_os().collect())
}

fn run<S: Commands>(arguments: Vec<OsString>) -> ExitCode {
    let program = program::<S>();
    if complete::is_asked(&arguments) {
        return complete::run(program, &arguments, &complete::Single(nowhere::<S>));
    }
    let parsed = program.clone().try_get_matches_from(arguments).and_then(|matches| {
        let (name, command) = matches.subcommand().expect("clap demands a command");
        let task = Task::<S>::read(name, command, &matches)?;
        Ok((Global::from_arg_matches(&matches)?, task, matches.clone()))
    });
    let (global, task, matches) = match parsed {
        Ok(parsed) => parsed,
        Err(error) => {
            return match session::misplaced(&program, &error) {
                // There is no config that names the keys.
                Some(error) => session::usage_error(&error.hint("leave it out")),
                None => session::usage(&error),
            };
        }
    };
    session::main(&global, async |session| {
        flags::warn_of_passwords(session, &program, &matches);
        task.run(session).await
    })
}

/// The options of `prune`.
#[derive(Args, Debug)]
struct Prune {
    /// What to keep, as in 30d, 30d,at-least=3 or last=7,daily=7,weekly=4,monthly=12,yearly=3
    #[arg(long, value_name = "POLICY", required_unless_present = "orphans")]
    keep: Option<String>,
    #[command(flatten)]
    prune: PruneArgs,
}

/// The options of `replicate`.
#[derive(Args, Debug)]
struct Replicate {
    /// Only show what would be done
    #[arg(long)]
    dry_run: bool,
    /// Read what is there already again, and compare it: a backup that is not what its manifest says is replaced
    #[arg(long)]
    reread: bool,
    #[command(flatten)]
    new: NewSink,
    #[command(flatten)]
    pace: Pace,
}

/// The options of `replicate` for systems whose tool's bucket can be copied as it is.
#[derive(Args, Debug)]
struct Tree {
    /// Copy everything in the other tool's place, object by object, into this folder of the sink
    #[arg(long, value_name = "FOLDER")]
    into: Option<String>,
}

/// The general commands and their descriptions.
const GENERAL: [(&str, &str); 8] = [
    ("backup", "Back up"),
    ("list", "List the backups: age, size, last verified; with -v everything"),
    ("show", "Show a backup's manifest, and the shell line that restores it without Lifeboat"),
    ("verify", "Prove that a backup is good"),
    ("restore", "Restore a backup"),
    ("prune", "Delete the backups that a policy no longer keeps"),
    ("replicate", "Copy the backups of the first sink to the others that lack them"),
    ("check", "Check the sink, the live system, the keys and the tools"),
];

const LEVELS: &str = "\
Levels:
  stored      it is there, young enough, and has the size and SHA-256 of its manifest
  structure   it decrypts, decompresses, parses to its end and agrees with its proof
  restore     it restores into a scratch server, and the content equals the proof (the default)
  live        how far the live system has drifted from it (needs --from)";

/// The program.
fn program<S: Commands>() -> Command {
    let name = format!("lifeboat-{}", S::NAME);
    let mut program = Command::new(name.clone())
        .version(env!("CARGO_PKG_VERSION"))
        .propagate_version(true)
        .subcommand_required(true)
        .arg_required_else_help(true);
    program = Global::augment_args(program);
    let own = S::Verbs::augment_subcommands(Command::new("own"));
    for (verb, about) in GENERAL {
        // The structs of flags have words of their own, which are not the command's.
        let command = general::<S>(Command::new(verb)).about(about).after_help(examples(&name, verb));
        let command = match own.find_subcommand(verb) {
            Some(own) => beside(command, own),
            None => command,
        };
        program = program.subcommand(S::shape(command));
    }
    // After the general ones: they have places among the system's own verbs, which must not put them first.
    for (at, verb) in own.get_subcommands().filter(|verb| !is_general(verb.get_name())).enumerate() {
        program = program.subcommand(S::shape(verb.clone()).display_order(GENERAL.len() + at));
    }
    // Texts of the program itself come under no name.
    program = S::shape(program.name("")).name(name.clone()).bin_name(name);
    let after = program.get_after_help().map(ToString::to_string).unwrap_or_default();
    let after = if after.contains("Exit status") { after } else { format!("{after}\n\n{EXIT_STATUS}") };
    wrap::help(About::augment_subcommands(program).about(S::ABOUT).after_help(after))
}

fn is_general(name: &str) -> bool {
    GENERAL.iter().any(|(known, _)| *known == name)
}

/// A general command with those flags of the system that apply to it.
fn general<S: Commands>(command: Command) -> Command {
    let settings = S::Settings::augment_args(Command::new("settings"));
    let of_settings = |command: Command, headings, plain| opening::add::<S>(command, Taken { headings, plain });
    let compressed = |command: Command| {
        let text = S::defaults().compression.to_string();
        let text = if text.starts_with("gzip") { "gzip".to_owned() } else { text };
        command.mut_arg("compress", |arg| arg.default_value(text))
    };
    // What is to be seen first comes first; what a struct holds besides is added last, and withheld.
    let command = match command.get_name() {
        "backup" => {
            let command = of_settings(command, &[CONNECTION, CONTENTS], true);
            let command = Place::augment_args(command).mut_arg("to", |arg| arg.visible_alias("to"));
            compressed(BackupArgs::augment_args(Packing::augment_args(command)))
        }
        "list" => Place::augment_args(command),
        "show" => ShowArgs::augment_args(Keys::augment_args(Place::augment_args(command))),
        "verify" => {
            let command = visible(command, &settings, &[CONNECTION]);
            let command = VerifyArgs::augment_args(Keys::augment_args(Place::augment_args(command)));
            of_settings(S::Verify::augment_args(command), &[CONNECTION], true)
        }
        "restore" => {
            let command = RestoreArgs::augment_args(Keys::augment_args(Place::augment_args(command)));
            of_settings(S::Restore::augment_args(command), &[CONNECTION], false)
        }
        "prune" => Prune::augment_args(Place::augment_args(command)),
        "replicate" => {
            let command = Replicate::augment_args(Place::augment_args(command));
            if S::COPIES_TREES { of_settings(Tree::augment_args(command), &[CONNECTION], false) } else { command }
        }
        "check" => {
            let command = of_settings(command, &[CONNECTION, CONTENTS, CHECKS], true);
            compressed(NewSink::augment_args(Keys::augment_args(Packing::augment_args(Place::augment_args(command)))))
        }
        _ => command,
    };
    // The variable's older name.
    let is_set = |name| std::env::var_os(name).is_some();
    let has_sink = command.get_arguments().any(|arg| arg.get_id() == "to");
    if has_sink && is_set(OLDER) && !is_set("LIFEBOAT_SINK") {
        return command.mut_arg("to", |arg| arg.env(OLDER));
    }
    command
}

/// The variable that named the sink before LIFEBOAT_SINK did.
const OLDER: &str = "LIFEBOAT_TO";

/// Only the flags of the settings that can be given.
fn visible(command: Command, settings: &Command, headings: &[&str]) -> Command {
    let shown = |arg: &&Arg| arg.get_help_heading().is_none_or(|heading| headings.contains(&heading));
    settings.get_arguments().filter(shown).cloned().fold(command, Command::arg)
}

/// A general command merged with the system's own of the same name, which runs when no sink is named.
fn beside(command: Command, own: &Command) -> Command {
    let mut command = flags::add(command, own, |_| true);
    command = command.mut_arg("to", |arg| arg.required(false).env(None::<&str>));
    if command.get_arguments().any(|arg| arg.get_id() == "into") {
        command = command.mut_arg("into", |arg| arg.required(false).env(None::<&str>));
    }
    if let Some(about) = own.get_about() {
        command = command.about(about.clone());
    }
    match own.get_after_help() {
        Some(after) => command.after_help(after.clone()),
        None => command,
    }
}

fn examples(program: &str, verb: &str) -> String {
    let lines: &[&str] = match verb {
        "list" => &["--sink file:///backups", "--dataset shop --sink file:///backups --json"],
        "show" => &[
            "--dataset shop --sink file:///backups",
            "--dataset shop --sink file:///backups --items --identity key.txt",
            "--dataset shop --sink file:///backups --item NAME > item",
        ],
        "verify" => &[
            "--dataset shop --sink file:///backups --identity key.txt",
            "--dataset shop --sink file:///backups --level stored --max-age 2d",
        ],
        "prune" => &[
            "--dataset shop --sink file:///backups --keep 30d,at-least=3 --dry-run",
            "--dataset shop --sink file:///backups --keep last=7,weekly=4,monthly=12",
            "--dataset shop --sink file:///backups --orphans",
        ],
        "replicate" => &[
            "--dataset shop --sink minio://minio:9000/backups --sink b2://offsite",
            "--sink file:///backups --sink s3://backups --dry-run",
        ],
        _ => &["--sink file:///backups --encrypt age:age1…"],
    };
    let lines: Vec<String> = lines.iter().map(|line| format!("  {program} {verb} {line}")).collect();
    let levels = if verb == "verify" { format!("{LEVELS}\n\n") } else { String::new() };
    format!("{levels}Examples:\n{}", lines.join("\n"))
}

/// What to do.
enum Task<S: Commands> {
    Backup { system: S::Settings, place: Place, packing: Packing, backup: BackupArgs },
    List(Place),
    Show(Place, Keys, ShowArgs),
    Verify { system: S::Settings, place: Place, keys: Keys, verify: VerifyArgs, choices: Choices },
    Restore { system: S::Settings, place: Place, keys: Keys, restore: RestoreArgs, choices: Choices },
    Prune(Place, Prune),
    Replicate(Place, Replicate),
    Tree { system: S::Settings, place: Place, replicate: Replicate, tree: Tree },
    Check { system: S::Settings, place: Place, packing: Packing, keys: Keys, new: NewSink },
    Own(S::Verbs),
    About(About),
}

impl<S: Commands> Task<S> {
    fn read(name: &str, command: &ArgMatches, whole: &ArgMatches) -> Result<Self, clap::Error> {
        let has_sink = command.try_get_raw("to").ok().flatten().is_some();
        if S::Verbs::has_subcommand(name) && (!is_general(name) || !has_sink) {
            return S::Verbs::from_arg_matches(whole).map(Self::Own);
        }
        let system = || settings::<S>(taken(name), command);
        let place = Place::from_arg_matches;
        let keys = Keys::from_arg_matches;
        Ok(match name {
            "backup" => Self::Backup {
                system: system()?,
                place: place(command)?,
                packing: Packing::from_arg_matches(command)?,
                backup: BackupArgs::from_arg_matches(command)?,
            },
            "list" => Self::List(place(command)?),
            "show" => Self::Show(place(command)?, keys(command)?, ShowArgs::from_arg_matches(command)?),
            "verify" => Self::Verify {
                system: system()?,
                place: place(command)?,
                keys: keys(command)?,
                verify: VerifyArgs::from_arg_matches(command)?,
                choices: Some(Arc::new(S::Verify::from_arg_matches(command)?)),
            },
            "restore" => Self::Restore {
                system: system()?,
                place: place(command)?,
                keys: keys(command)?,
                restore: RestoreArgs::from_arg_matches(command)?,
                choices: Some(Arc::new(S::Restore::from_arg_matches(command)?)),
            },
            "prune" => Self::Prune(place(command)?, Prune::from_arg_matches(command)?),
            "replicate" if S::COPIES_TREES && command.value_source("into") == Some(ValueSource::CommandLine) => {
                Self::Tree {
                    system: system()?,
                    place: place(command)?,
                    replicate: Replicate::from_arg_matches(command)?,
                    tree: Tree::from_arg_matches(command)?,
                }
            }
            "replicate" => Self::Replicate(place(command)?, Replicate::from_arg_matches(command)?),
            "check" => Self::Check {
                system: system()?,
                place: place(command)?,
                packing: Packing::from_arg_matches(command)?,
                keys: keys(command)?,
                new: NewSink::from_arg_matches(command)?,
            },
            _ => Self::About(About::from_arg_matches(whole)?),
        })
    }

    async fn run(self, session: &Session) -> Result<Exit> {
        match self {
            Self::Backup { system, place, packing, backup } => {
                let options = backup.options()?;
                let job = place.named(open::<S>(system)?, Some(packing), None)?;
                Ok(commands::backup::run(session, jobs::only(job), &options, None).await)
            }
            Self::List(place) => Ok(commands::list::run(session, place.stored(nowhere::<S>()?)?, true).await),
            Self::Show(place, keys, show) => {
                let job = place.job(nowhere::<S>()?, None, Some(keys))?;
                commands::show::run(session, &job, &show.at.read()?, &show).await
            }
            Self::Verify { system, place, keys, verify, choices } => {
                let mut options = verify.options(choices)?;
                let job = place.named(open::<S>(system)?, None, Some(keys))?;
                options.each_sink = job.stores.len() > 1;
                Ok(commands::verify::run(session, jobs::in_each_sink(jobs::only(job)), &options).await)
            }
            Self::Restore { system, place, keys, restore, choices } => {
                let options = restore.options(choices)?;
                let job = one(place.named(open::<S>(system)?, None, Some(keys))?, &options).await?;
                commands::restore::run(session, &job, options).await
            }
            Self::Prune(place, prune) => {
                let options = prune.prune.options()?;
                let mut job = place.job(nowhere::<S>()?, None, None)?;
                job.keep = prune.keep.map(|text| text.parse()).transpose()?;
                Ok(commands::prune::run(session, jobs::only(job), true, &options).await)
            }
            Self::Replicate(place, replicate) => {
                let job = place.job(nowhere::<S>()?, None, None)?;
                let options = commands::replicate::Options {
                    dry_run: replicate.dry_run,
                    reread: replicate.reread,
                    new_sink: replicate.new.new_sink,
                    limiter: replicate.pace.limiter()?,
                    ..commands::replicate::Options::default()
                };
                Ok(commands::replicate::one(session, job, &options).await)
            }
            Self::Tree { system, place, replicate, tree } => {
                let system = open::<S>(system)?;
                let Some(from) = system.foreign_place() else {
                    let why = format!("no option says where {} keeps its backups", S::TITLE);
                    return Err(Error::new(ErrorKind::Config, "use", "--into", why)
                        .hint("give --location s3://bucket/prefix, or set LIFEBOAT_LOCATION"));
                };
                let [to] = <[String; 1]>::try_from(place.to).map_err(|_| {
                    Error::new(ErrorKind::Config, "use", "--sink", "a bucket can be copied to only one sink at a time")
                        .hint("run the command once for each sink")
                })?;
                let into = tree.into.unwrap_or_default();
                let options = commands::replicate::Options {
                    from: Some(from.name().to_owned()),
                    to: Some(to),
                    into: Some(join_key(&place.prefix, into.trim_matches('/'))),
                    tree: true,
                    verify: replicate.reread,
                    dry_run: replicate.dry_run,
                    new_sink: replicate.new.new_sink,
                    limiter: replicate.pace.limiter()?,
                    ..commands::replicate::Options::default()
                };
                let mut systems = lifeboat_config::Systems::new();
                systems.add::<S>();
                commands::replicate::run(session, options, None, &systems).await
            }
            Self::Check { system, place, packing, keys, new } => {
                let job = place.named(open::<S>(system)?, Some(packing), Some(keys))?;
                Ok(commands::check::run(session, None, jobs::only(job), true, new.new_sink).await)
            }
            Self::Own(verb) => {
                let mut systems = Systems::new();
                systems.add::<S>();
                let ended = verb.run(&Terminal::new(session, &systems)).await?;
                Ok(Exit::from(ended))
            }
            Self::About(about) => about.run(program::<S>(), None, session),
        }
    }
}

/// The flags of the settings that a command takes.
fn taken(name: &str) -> Taken {
    match name {
        "restore" => Taken { headings: &[CONNECTION], plain: false },
        "verify" => Taken { headings: &[CONNECTION], plain: true },
        _ => Taken { headings: &[CONNECTION, CONTENTS, CHECKS], plain: true },
    }
}

async fn one(job: Job, options: &commands::restore::Options) -> Result<Job> {
    jobs::one(job, None, &options.at).await
}

/// Checks the grammar of a system: no two flags of a command are the same, and the flags they require exist. For the tests
/// of its author.
///
/// # Panics
/// If it is not consistent.
pub fn assert_grammar<S: Commands>() {
    let mut systems = Systems::new();
    systems.add::<S>();
    crate::configured::assert_flags(&systems, S::NAME);
    let program = program::<S>();
    program.clone().debug_assert();
    let hidden =
        |arg: &&Arg| !arg.is_hide_set() && arg.get_help().is_none() && !matches!(arg.get_action(), ArgAction::Help);
    for command in program.get_subcommands() {
        let silent: Vec<_> = command.get_arguments().filter(hidden).map(Arg::get_id).collect();
        assert!(silent.is_empty(), "{}: no help for {silent:?}", command.get_name());
    }
}
