//! The grammar of `lifeboat`, without the flags of systems.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::arguments::place::Keys;
use crate::arguments::replicate::ReplicateArgs;
use crate::arguments::{About, BackupArgs, Global, NewSink, PruneArgs, RestoreArgs, ShowArgs, VerifyArgs};
use crate::commands;

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
pub(crate) struct Lifeboat {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(flatten)]
    pub(crate) config: ConfigArgs,
    #[command(subcommand)]
    pub(crate) command: Verb,
}

/// The id of the argument that names the config file.
pub(crate) const CONFIG: &str = "config_file";

#[derive(Args, Debug)]
pub(crate) struct ConfigArgs {
    /// The config file
    // Systems have a setting of the name `config`.
    #[arg(id = CONFIG, short = 'c', long = "config", global = true, value_name = "PATH", env = "LIFEBOAT_CONFIG")]
    pub(crate) config: Option<PathBuf>,
}

/// A choice among the sinks of a job, or a sink in place of the config.
#[derive(Args, Debug, Default)]
pub(crate) struct SinkArg {
    /// Look in this sink of the config; without it, in the job's first
    #[arg(long, value_name = "NAME")]
    pub(crate) sink: Option<String>,
    /// Look in the sink at this URL and in all of its folders, for datasets in place of jobs
    #[arg(long, value_name = "SINK-URL", conflicts_with = "sink", help_heading = BARE)]
    pub(crate) from_sink: Option<String>,
}

/// The heading of options that stand in for a config.
pub(crate) const BARE: &str = "Without a config";

/// What only a config says otherwise.
#[derive(Args, Debug)]
pub(crate) struct SystemArg {
    /// The system of a backup that has no manifest and whose name does not tell it
    #[arg(long, value_name = "NAME", requires = FROM_SINK, help_heading = BARE)]
    pub(crate) system: Option<String>,
}

/// The id of the argument that names a sink in place of a config.
pub(crate) const FROM_SINK: &str = "from_sink";

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Write a starting config file and an age identity
    #[command(after_help = "\
Examples:
  lifeboat init                                     ./lifeboat.toml and ./lifeboat-identity.txt
  lifeboat --config /etc/lifeboat/lifeboat.toml init
  lifeboat init --recipient age1…                   for a key that you already have
  lifeboat init --from-sink s3://backups --identity key.txt   the stored config")]
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
  lifeboat list --from-sink s3://backups
  lifeboat list --json | jq -r '.[] | select(.verified_at == null) | .key'")]
    #[command(mut_arg("sink", |sink| sink.help("Look in this sink of the config; without it, in all")))]
    List {
        /// Names of jobs, with --from-sink of datasets; all when none is named
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
  lifeboat show databases/shop-20261121-033000.dump.zst.age
  lifeboat show --from-sink s3://backups shop")]
    Show {
        /// A job (with --from-sink a dataset), or the key of a backup as `lifeboat list` prints it
        #[arg(value_name = "JOB|KEY")]
        what: String,
        /// Which dataset of a job that has many
        #[arg(long, value_name = "NAME", conflicts_with = FROM_SINK)]
        dataset: Option<String>,
        #[command(flatten)]
        show: ShowArgs,
        #[command(flatten)]
        sink: SinkArg,
        #[command(flatten)]
        system: SystemArg,
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
  lifeboat verify --from-sink s3://backups --identity key.txt
  lifeboat verify --sink all --level stored        every sink's copy of the newest backup")]
    #[command(mut_arg("sink", |sink| {
        sink.help("Verify what is in this sink of the config, or with all in each of the job's; without it, in the first")
    }))]
    Verify {
        /// Names of jobs; with --from-sink of datasets
        // Systems have an option of the name `jobs`.
        #[arg(value_name = "JOB")]
        names: Vec<String>,
        #[command(flatten)]
        verify: VerifyArgs,
        #[command(flatten)]
        sink: SinkArg,
        #[command(flatten)]
        system: SystemArg,
        #[command(flatten)]
        keys: Keys,
    },
    /// Restore a backup
    #[command(after_help = "\
The job's system has options of its own: `lifeboat restore JOB --help` shows them.

Examples:
  lifeboat restore shop --into postgres://admin@db.example/shop_again
  SHOP_URL=postgres://… lifeboat restore shop --at 2026-11-20 --into env:SHOP_URL --replace
  lifeboat restore shop --into postgres:///shop --table public.orders
  lifeboat restore --from-sink s3://backups shop --identity key.txt --into postgres:///shop")]
    Restore {
        /// The job; with --from-sink the dataset, where several folders hold it FOLDER/DATASET, or the key of a backup
        #[arg(value_name = "JOB")]
        job: String,
        /// Which dataset of a job that has many
        #[arg(long, value_name = "NAME", conflicts_with = FROM_SINK)]
        dataset: Option<String>,
        #[command(flatten)]
        restore: RestoreArgs,
        #[command(flatten)]
        sink: SinkArg,
        #[command(flatten)]
        system: SystemArg,
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

pub(crate) const EXAMPLES: &str = "\
Examples:
  lifeboat init           write lifeboat.toml and an age identity
  lifeboat backup         back up every job
  lifeboat verify shop    restore the newest backup of shop into a scratch server, and compare";
