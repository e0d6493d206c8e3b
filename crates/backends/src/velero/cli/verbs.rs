//! The arguments of the commands.
//!
//! `list`, `show`, `verify` and `restore` are read from the same arguments as the general commands of these names. So a flag
//! that both have has the same id and type in both.

use std::path::PathBuf;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Subcommand};
use lifeboat_core::Level;
use lifeboat_core::cli::{AT, CONNECTION};
use lifeboat_core::duration::Length;

use super::super::settings::claim;
use super::super::{RestoreOptions, RestoreTestOptions};
use super::reach::{InBoth, InBucket, InCluster, OfSchedule, Reach};

/// Velero's own commands.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// List Velero's backups; with --sink, the copies in a sink
    #[command(after_help = "\
Examples:
  lifeboat-velero list
  lifeboat-velero list --from-schedule daily --json | jq -r '.[] | select(.phase != \"Completed\") | .name'
  lifeboat-velero list --sink b2://offsite --prefix copies")]
    List(List),
    /// Show a backup of Velero: what is in it, its volumes, what went wrong; with --sink, a copy's manifest
    #[command(after_help = "\
Examples:
  lifeboat-velero show daily-20261121030000
  lifeboat-velero show --dataset daily --sink b2://offsite --prefix copies --items --identity key.txt")]
    Show(Show),
    /// Prove that a backup comes back: restore a namespace into a scratch one, and compare; with --sink, verify a copy
    #[command(after_help = "\
Without --sink the latest Completed backup of the schedule is restored, by Velero, and each object compared.

Levels, of a copy (with --sink):
  stored      it is there, young enough (48 hours), and has the size and SHA-256 of its manifest
  structure   it decrypts, every file in it decompresses and parses, and it agrees with its proof
  restore     the backup that it is a copy of is restored as above (the default)
  live        how far the cluster has gone on since: the schedule's latest backup

Examples:
  lifeboat-velero verify --from-schedule daily --namespace shop --location s3://velero
  lifeboat-velero verify --namespace shop --pods-ready 5min --must-cover shop/data --location s3://velero
  lifeboat-velero verify --dataset daily --sink b2://offsite --prefix copies --level structure --identity key.txt")]
    Verify(Box<Verify>),
    /// Judge the backups in a bucket, Velero's own or a copy of it; needs no cluster
    #[command(after_help = "\
Each backup: its files are there, decompress and parse; the list of items agrees with the tarball; phase and counts; \
which volumes have data, and the repositories that hold it.

Examples:
  lifeboat-velero judge --location s3://velero/production
  lifeboat-velero judge --location b2://offsite/velero daily-20261121030000 --must-cover shop/data")]
    Judge(Judge),
    /// Restore a backup into the cluster: whole, or a part of it, or into other namespaces
    #[command(after_help = "\
Velero restores; what it could not restore is listed at the end, by name. With --sink a copy is put back into the \
storage location first, so that Velero finds it: --location says where.

Examples:
  lifeboat-velero restore daily-20261121030000
  lifeboat-velero restore --from-schedule daily --namespace shop --map shop=shop-again
  lifeboat-velero restore daily-20261121030000 --namespace shop --resource configmaps --label app=web --existing update
  lifeboat-velero restore --dataset daily --sink b2://offsite --prefix copies --identity key.txt --location s3://velero-new")]
    Restore(Box<Restore>),
    /// Print the log of a backup or a restore
    #[command(after_help = "\
Velero's server signs a link to the log; with --location it is read from the bucket.

Examples:
  lifeboat-velero logs daily-20261121030000 | grep level=error
  lifeboat-velero logs --restore lifeboat-3f6c1a7e")]
    Logs(Logs),
    /// Have Velero delete backups, with their files, snapshots and restores
    #[command(after_help = "\
Examples:
  lifeboat-velero delete daily-20261101030000
  lifeboat-velero delete daily-20261101030000 daily-20261102030000 --apply")]
    Delete(Delete),
    /// The schedules by which Velero makes backups
    #[command(subcommand, arg_required_else_help = true)]
    Schedules(Schedules),
}

/// What `list` takes.
#[derive(Args, Debug)]
pub struct List {
    /// The cluster.
    #[command(flatten)]
    pub cluster: Reach<InCluster>,
    /// Only the backups that this schedule made
    #[arg(long = "from-schedule", value_name = "NAME")]
    pub schedule: Option<String>,
}

/// What `show` takes.
#[derive(Args, Debug)]
pub struct Show {
    /// The backup, as `list` names it
    #[arg(value_name = "BACKUP")]
    pub backup: Option<String>,
    /// Where its files are read.
    #[command(flatten)]
    pub files: Files,
}

/// Where the files of a backup or a restore are read.
#[derive(Args, Debug)]
pub struct Files {
    /// The cluster, and Velero's bucket.
    #[command(flatten)]
    pub reach: Reach<InBoth>,
    /// A file of certificates to trust besides the system's, for the links that Velero signs
    #[arg(long = "cacert", value_name = "PATH", help_heading = CONNECTION)]
    pub ca: Option<PathBuf>,
}

/// What `verify` takes.
#[derive(Args, Debug)]
pub struct Verify {
    /// The cluster, Velero's bucket, and the schedule.
    #[command(flatten)]
    pub reach: Reach<OfSchedule>,
    /// The test.
    #[command(flatten)]
    pub test: RestoreTestOptions,
    /// How much to prove, of a copy
    #[arg(long, value_name = "LEVEL", value_parser = level())]
    pub level: Option<Level>,
    /// The copy to verify: its time or its key.
    #[arg(
        long,
        value_name = "latest|TIME|KEY",
        default_value = "latest",
        hide_default_value = true,
        help = format!("Which copy: {AT}")
    )]
    pub at: String,
    /// Fail when the backup is older, as in 2d or 36h
    #[arg(long, value_name = "AGE")]
    pub max_age: Option<String>,
}

fn level() -> impl TypedValueParser<Value = Level> {
    PossibleValuesParser::new(["stored", "structure", "restore", "live"]).try_map(|text| text.parse::<Level>())
}

/// What `judge` takes.
#[derive(Args, Debug)]
pub struct Judge {
    /// Only these backups; all when none is named
    #[arg(value_name = "BACKUP")]
    pub backups: Vec<String>,
    /// Velero's bucket.
    #[command(flatten)]
    pub reach: Reach<InBucket>,
    /// A claim, as namespace/name, whose data must be in each backup; may be given several times
    #[arg(long, value_name = "CLAIM", value_parser = claim)]
    pub must_cover: Vec<String>,
}

/// What `restore` takes.
#[derive(Args, Debug)]
pub struct Restore {
    /// The backup, as `list` names it
    #[arg(value_name = "BACKUP")]
    pub backup: Option<String>,
    /// The latest Completed backup of this schedule
    #[arg(long = "from-schedule", value_name = "NAME", conflicts_with = "backup")]
    pub schedule: Option<String>,
    /// Where its files are read.
    #[command(flatten)]
    pub files: Files,
    /// What to restore.
    #[command(flatten)]
    pub what: RestoreOptions,
}

/// What `logs` takes.
#[derive(Args, Debug)]
pub struct Logs {
    /// The backup, or the restore with --restore
    #[arg(value_name = "NAME")]
    pub name: String,
    /// The name is a restore's
    #[arg(long)]
    pub restore: bool,
    /// Where its files are read.
    #[command(flatten)]
    pub files: Files,
}

/// What `delete` takes.
#[derive(Args, Debug)]
pub struct Delete {
    /// The backups, as `list` names them
    #[arg(value_name = "BACKUP", required = true)]
    pub backups: Vec<String>,
    /// The cluster.
    #[command(flatten)]
    pub cluster: Reach<InCluster>,
    /// Delete them; without it they are shown and nothing is deleted
    #[arg(long)]
    pub apply: bool,
    /// How long Velero has for each; without it, 10min
    #[arg(long, value_name = "TIME")]
    pub limit: Option<Length>,
}

/// The commands about schedules.
#[derive(Debug, Subcommand)]
pub enum Schedules {
    /// List them
    List {
        /// The cluster.
        #[command(flatten)]
        cluster: Reach<InCluster>,
    },
    /// Make them as a config file says; shows the changes first
    #[command(after_help = "\
The file is that of `lifeboat`; the schedules are in the job:
  velero.schedules.daily = { cron = \"0 2 * * *\", ttl = \"7d\" }

Examples:
  lifeboat-velero schedules apply --config lifeboat.toml
  lifeboat-velero schedules apply --config lifeboat.toml --apply --delete-extra")]
    Apply(Apply),
}

/// What `schedules apply` takes.
#[derive(Args, Debug)]
pub struct Apply {
    /// The config file
    #[arg(short, long, value_name = "PATH", env = "LIFEBOAT_CONFIG")]
    pub config: Option<PathBuf>,
    /// The job, where several have schedules
    #[arg(long, value_name = "NAME")]
    pub job: Option<String>,
    /// Carry the changes out; without it they are shown and nothing is changed
    #[arg(long)]
    pub apply: bool,
    /// Also delete schedules that were made in this way and that the file no longer names
    #[arg(long)]
    pub delete_extra: bool,
}
