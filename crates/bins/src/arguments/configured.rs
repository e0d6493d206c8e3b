//! `lifeboat`: everything from a config file.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use lifeboat::{Error, ErrorKind, Result};

use super::{
    About, DatabaseArgs, DriftArgs, Global, KindArgs, MongodbRestoreArgs, PlanArgs, PostgresRestoreArgs, PruneArgs,
    RestoreArgs, ScratchArg, SecretsArgs, ServerArgs, VeleroRestoreArgs, VerifyArgs, VerifyKindArgs,
};
use crate::commands;
use crate::config::Config;
use crate::exit::Exit;
use crate::jobs::{self, Job, Jobs};
use crate::session::{Program, Session};

/// Backs up databases to storage that you do not trust, and proves that each backup restores.
///
/// The jobs are in a config file: lifeboat.toml in the working folder, in $XDG_CONFIG_HOME/lifeboat or in /etc/lifeboat.
#[derive(Debug, Parser)]
#[command(
    name = "lifeboat",
    version,
    propagate_version = true,
    subcommand_required = true,
    arg_required_else_help = true,
    after_help = "\
Examples:
  lifeboat init           write lifeboat.toml and an age identity
  lifeboat backup         back up every job
  lifeboat verify shop    restore the newest backup of shop into a scratch server, and compare

Exit status:
  0  good
  1  a backup, restore or check failed, or the run was cancelled
  2  usage or configuration
  3  nothing to do where something was asked for (no artifact found)"
)]
pub(crate) struct Lifeboat {
    #[command(flatten)]
    global: Global,
    #[command(flatten)]
    config: ConfigArgs,
    #[command(subcommand)]
    command: Command,
}

#[derive(Args, Debug)]
struct ConfigArgs {
    /// The config file
    #[arg(short, long, global = true, value_name = "PATH", env = "LIFEBOAT_CONFIG")]
    config: Option<PathBuf>,
}

/// A choice among the sinks of a job.
#[derive(Args, Debug)]
struct SinkArg {
    /// Look into this sink of the config; without it, the job's first (list: all of them)
    #[arg(long, value_name = "NAME")]
    sink: Option<String>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Write a config file to start with, and an age identity
    #[command(after_help = "\
Examples:
  lifeboat init                                     ./lifeboat.toml and ./lifeboat-identity.txt
  lifeboat --config /etc/lifeboat/lifeboat.toml init
  lifeboat init --recipient age1…                   for a key that you have already")]
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
    },
    /// List the backups: time, age, size, kind, last verified
    #[command(after_help = "\
Examples:
  lifeboat list
  lifeboat list shop --sink offsite
  lifeboat list --json | jq -r '.[] | select(.verified_at == null) | .key'")]
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
  lifeboat show databases/shop-20261121-033000.dump.zst.age")]
    Show {
        /// A job, or the key of a backup as `lifeboat list` prints it
        #[arg(value_name = "JOB|KEY")]
        what: String,
        /// Which dataset of a job that has many
        #[arg(long, value_name = "NAME")]
        dataset: Option<String>,
        /// Which backup of the job: latest, a time or day (the newest that is not younger), or a key
        #[arg(long, value_name = "latest|TIME|KEY", default_value = "latest", hide_default_value = true)]
        at: String,
        /// Also list what is inside (tables with their rows); needs the key when it is encrypted
        #[arg(long)]
        items: bool,
        #[command(flatten)]
        sink: SinkArg,
    },
    /// Prove that a backup is good; all jobs when none is named
    #[command(after_help = "\
Levels:
  stored      it is there, young enough, and has the size and SHA-256 of its manifest
  structure   it decrypts, decompresses, parses to its end and agrees with its proof
  restore     it restores into a scratch server, and the content equals the proof (the default)
  live        how far the live system has drifted from it

Examples:
  lifeboat verify
  lifeboat verify shop --level structure --max-age 2d
  lifeboat verify shop --at 2026-11-20 --sink offsite")]
    Verify {
        /// Names of jobs
        #[arg(value_name = "JOB")]
        jobs: Vec<String>,
        #[command(flatten)]
        verify: VerifyArgs,
        #[command(flatten)]
        server: ServerArgs,
        #[command(flatten)]
        drift: DriftArgs,
        #[command(flatten)]
        scratch: ScratchArg,
        #[command(flatten)]
        sink: SinkArg,
    },
    /// Restore a backup
    #[command(after_help = "\
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
        plan: PlanArgs,
        #[command(flatten)]
        database: DatabaseArgs,
        #[command(flatten)]
        secrets: Box<SecretsArgs>,
        #[command(flatten)]
        sink: SinkArg,
        #[command(flatten, next_help_heading = "PostgreSQL")]
        postgres: Box<PostgresRestoreArgs>,
        #[command(flatten, next_help_heading = "MongoDB")]
        mongodb: Box<MongodbRestoreArgs>,
        #[command(flatten, next_help_heading = "Velero")]
        velero: Box<VeleroRestoreArgs>,
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
    /// Copy what one sink lacks from another: backups, and trees that other tools wrote
    #[command(after_help = "\
Examples:
  lifeboat replicate                                 every job with several sinks, every [copies.NAME]
  lifeboat replicate shop --dry-run
  lifeboat replicate --from minio --to offsite       from the one to the other, for every job
  lifeboat replicate velero --verify                 read the copy again, compare it with its record
  lifeboat replicate --tree --from minio://minio:9000/velero --to b2://offsite --into velero")]
    Replicate(super::replicate::ReplicateArgs),
    /// Check the config, the sinks, the sources, the keys and the tools
    #[command(after_help = "\
Examples:
  lifeboat check
  lifeboat check shop --json")]
    Check {
        /// Names of jobs; all when none is named
        #[arg(value_name = "JOB")]
        jobs: Vec<String>,
    },
    #[command(flatten)]
    About(About),
}

impl Program for Lifeboat {
    fn global(&self) -> &Global {
        &self.global
    }

    async fn run(self, session: &Session) -> Result<Exit> {
        let path = self.config.config.as_deref();
        let select = |jobs: &[String], sink: &SinkArg| {
            Config::load(path).and_then(|config| jobs::select(&config, jobs, sink.sink.as_deref()))
        };
        let every_sink = SinkArg { sink: None };
        match self.command {
            Command::Init(args) => commands::init::run(session, &args, path),
            Command::Backup { jobs } => Ok(commands::backup::run(session, select(&jobs, &every_sink)?).await),
            Command::List { jobs, sink } => {
                Ok(commands::list::run(session, select(&jobs, &sink)?, !jobs.is_empty()).await)
            }
            Command::Show { what, dataset, at, items, sink } => {
                let is_key = commands::show::is_key(&what);
                let jobs = select(if is_key { &[] } else { std::slice::from_ref(&what) }, &sink)?;
                let (job, at) =
                    if is_key { commands::show::job_of_key(jobs, &what)? } else { (only(jobs)?, at.parse()?) };
                let job = jobs::one(job, dataset.as_deref(), &at).await?;
                commands::show::run(session, &job, &at, items).await
            }
            Command::Verify { jobs, verify, server, drift, scratch, sink } => {
                let options = verify.options(VerifyKindArgs { server, scratch: scratch.setting(session), drift })?;
                Ok(commands::verify::run(session, select(&jobs, &sink)?, &options).await)
            }
            Command::Restore { job, dataset, restore, plan, database, secrets, sink, postgres, mongodb, velero } => {
                let job = only(select(&[job], &sink)?)?;
                let kinds = KindArgs { database, postgres: *postgres, mongodb: *mongodb, plan, velero: *velero };
                let mut options = restore.options(kinds, session)?;
                let job = jobs::one(job, dataset.as_deref(), &options.at).await?;
                options.choices.secrets = secrets.choices(job.dataset.as_ref())?;
                commands::restore::run(session, &job, options).await
            }
            Command::Prune { jobs, prune } => {
                let options = prune.options()?;
                Ok(commands::prune::run(session, select(&jobs, &every_sink)?, !jobs.is_empty(), &options).await)
            }
            Command::Replicate(args) => commands::replicate::run(session, args.options()?, path).await,
            Command::Check { jobs } => {
                let config = Config::load(path)?;
                let selected = jobs::select(&config, &jobs, None)?;
                Ok(commands::check::run(session, Some(&config), selected, !jobs.is_empty()).await)
            }
            Command::About(about) => about.run::<Self>(session),
        }
    }
}

/// The one job that was selected by its name.
fn only(mut jobs: Jobs) -> Result<Job> {
    match jobs.pop() {
        Some((_, job)) => job,
        None => Err(Error::new(ErrorKind::Internal, "find", "the job", "it was selected and is not there")),
    }
}
