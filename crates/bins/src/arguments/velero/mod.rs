//! `lifeboat-velero`: Velero's backups of a cluster, and copies of them, from flags alone.
//!
//! Two things are called a backup here: what Velero keeps in its storage location, and a copy of it that lies in a sink as an
//! artifact. `list`, `show`, `verify` and `restore` work on Velero's own, and with `--to` on the copies.

use std::path::PathBuf;

use clap::{Parser, Subcommand};
use lifeboat::velero::LogOf;
use lifeboat::{Error, ErrorKind, Level, Result};

use super::single::{Keys, List, Packing, Place, Prune, Replicate, Show, one};
use super::{About, Global, VeleroRestoreArgs, VerifyArgs, VerifyKindArgs};
use crate::backend::velero::{INTO, MAX_AGE, Settings};
use crate::backend::{Backend, RestoreChoices};
use crate::commands;
use crate::commands::velero::{backups, judge, restored, schedules};
use crate::config::Config;
use crate::config::setting::Setting;
use crate::duration;
use crate::exit::Exit;
use crate::jobs::Job;
use crate::session::{Program, Session};
use cluster::{ClusterArgs, Contents, FilesArgs, LocationArg, TestArgs};

mod cluster;

/// Restore-tests Velero's backups of a cluster, and keeps copies of them where nothing fails with the first.
#[derive(Debug, Parser)]
#[command(
    name = "lifeboat-velero",
    version,
    propagate_version = true,
    subcommand_required = true,
    arg_required_else_help = true,
    after_help = "\
list, show, verify and restore work on the backups that Velero keeps; with --to SINK-URL, on copies of them.

Examples:
  export LIFEBOAT_LOCATION=minio://minio:9000/velero
  lifeboat-velero verify --from-schedule daily --namespace shop
  lifeboat-velero backup --from-schedule daily --to b2://offsite --prefix copies --encrypt age:age1…
  lifeboat-velero restore daily-20261121030000 --namespace shop --map shop=shop-again
  lifeboat-velero judge --location s3://velero/production

Exit status:
  0  good
  1  a backup, restore or check failed, or the run was cancelled
  2  usage or configuration
  3  nothing to do where something was asked for (no backup found)"
)]
pub(crate) struct LifeboatVelero {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Have Velero make a backup, and copy it
    #[command(
        mut_arg("compress", |arg| arg.default_value("none")),
        after_help = "\
Examples:
  lifeboat-velero backup --from-schedule daily --location s3://velero --to b2://offsite --prefix copies --encrypt age:age1…
  lifeboat-velero backup --namespace shop --ttl 7d --location s3://velero --to file:///backups --encrypt age-file:keys.txt"
    )]
    Backup {
        #[command(flatten)]
        cluster: ClusterArgs,
        #[command(flatten)]
        location: LocationArg,
        #[command(flatten)]
        place: Place,
        #[command(flatten)]
        packing: Packing,
        #[command(flatten)]
        contents: Contents,
    },
    /// List Velero's backups; with --to, the copies in a sink
    #[command(
        mut_arg("to", |arg| arg.required(false).env(None::<&str>)),
        after_help = "\
Examples:
  lifeboat-velero list
  lifeboat-velero list --from-schedule daily --json | jq -r '.[] | select(.phase != \"Completed\") | .name'
  lifeboat-velero list --to b2://offsite --prefix copies"
    )]
    List {
        #[command(flatten)]
        cluster: ClusterArgs,
        /// Only the backups that this schedule made
        #[arg(long, value_name = "NAME")]
        from_schedule: Option<String>,
        #[command(flatten)]
        copies: List,
    },
    /// Show a backup of Velero: what is in it, its volumes, what went wrong; with --to, a copy's manifest
    #[command(
        mut_arg("to", |arg| arg.required(false).env(None::<&str>)),
        mut_arg("items", |arg| arg.help("Also list what is inside (resources with their objects); needs the key when it is encrypted")),
        after_help = "\
Examples:
  lifeboat-velero show daily-20261121030000
  lifeboat-velero show --dataset daily --to b2://offsite --prefix copies --items --identity key.txt"
    )]
    Show {
        /// The backup, as `list` names it
        #[arg(value_name = "BACKUP")]
        backup: Option<String>,
        #[command(flatten)]
        cluster: ClusterArgs,
        #[command(flatten)]
        files: FilesArgs,
        #[command(flatten, next_help_heading = "Of a copy")]
        copy: Show,
    },
    /// Prove that a backup comes back: restore a namespace into a scratch one, and compare; with --to, verify a copy
    #[command(
        mut_arg("to", |arg| arg.required(false).env(None::<&str>)),
        after_help = "\
Without --to the latest Completed backup of the schedule is restored, by Velero, and each object compared.

Levels, of a copy (with --to):
  stored      it is there, young enough (48 hours), and has the size and SHA-256 of its manifest
  structure   it decrypts, every file in it decompresses and parses, and it agrees with its proof
  restore     the backup that it is a copy of is restored as above (the default)
  live        how far the cluster has gone on since: the schedule's latest backup

Examples:
  lifeboat-velero verify --from-schedule daily --namespace shop --location s3://velero
  lifeboat-velero verify --namespace shop --pods-ready 5min --must-cover shop/data --location s3://velero
  lifeboat-velero verify --dataset daily --to b2://offsite --prefix copies --level structure --identity key.txt"
    )]
    Verify {
        #[command(flatten)]
        verify: VerifyArgs,
        #[command(flatten)]
        cluster: ClusterArgs,
        #[command(flatten)]
        location: LocationArg,
        #[command(flatten)]
        test: TestArgs,
        #[command(flatten, next_help_heading = "Of a copy")]
        place: Place,
        #[command(flatten)]
        keys: Keys,
    },
    /// Judge the backups in a bucket, Velero's own or a copy of it; needs no cluster
    #[command(after_help = "\
Each backup: its files are there, decompress and parse; the list of items agrees with the tarball; phase and counts; \
which volumes have data, and the repositories that hold it.

Examples:
  lifeboat-velero judge --location s3://velero/production
  lifeboat-velero judge --location b2://offsite/velero daily-20261121030000 --must-cover shop/data")]
    Judge {
        /// Only these backups; all when none is named
        #[arg(value_name = "BACKUP")]
        backups: Vec<String>,
        #[command(flatten)]
        location: LocationArg,
        /// A claim, as namespace/name, whose data must be in each backup; may be given several times
        #[arg(long, value_name = "CLAIM")]
        must_cover: Vec<String>,
    },
    /// Restore a backup into the cluster: whole, or a part of it, or into other namespaces
    #[command(
        mut_arg("to", |arg| arg.required(false).env(None::<&str>)),
        after_help = "\
Velero restores; what it could not restore is listed at the end, by name. With --to a copy is put back into the \
storage location first, so that Velero finds it: --location says where.

Examples:
  lifeboat-velero restore daily-20261121030000
  lifeboat-velero restore --from-schedule daily --namespace shop --map shop=shop-again
  lifeboat-velero restore daily-20261121030000 --namespace shop --resource configmaps --label app=web --existing update
  lifeboat-velero restore --dataset daily --to b2://offsite --prefix copies --identity key.txt --location s3://velero-new"
    )]
    Restore {
        /// The backup, as `list` names it
        #[arg(value_name = "BACKUP")]
        backup: Option<String>,
        /// The latest Completed backup of this schedule
        #[arg(long, value_name = "NAME", conflicts_with = "backup")]
        from_schedule: Option<String>,
        #[command(flatten)]
        cluster: ClusterArgs,
        #[command(flatten)]
        files: FilesArgs,
        #[command(flatten, next_help_heading = "What is restored")]
        what: Box<VeleroRestoreArgs>,
        #[command(flatten, next_help_heading = "Of a copy")]
        place: Place,
        #[command(flatten)]
        keys: Keys,
        /// Which copy: latest, a time or day (the newest that is not younger), or a key
        #[arg(long, value_name = "latest|TIME|KEY", default_value = "latest", hide_default_value = true)]
        at: String,
    },
    /// Print the log of a backup or a restore
    #[command(after_help = "\
Velero's server signs a link to the log; with --location it is read from the bucket.

Examples:
  lifeboat-velero logs daily-20261121030000 | grep level=error
  lifeboat-velero logs --restore lifeboat-3f6c1a7e")]
    Logs {
        /// The backup, or the restore with --restore
        #[arg(value_name = "NAME")]
        name: String,
        /// The name is a restore's
        #[arg(long)]
        restore: bool,
        #[command(flatten)]
        cluster: ClusterArgs,
        #[command(flatten)]
        files: FilesArgs,
    },
    /// Have Velero delete backups, with their files, snapshots and restores
    #[command(after_help = "\
Examples:
  lifeboat-velero delete daily-20261101030000
  lifeboat-velero delete daily-20261101030000 daily-20261102030000 --apply")]
    Delete {
        /// The backups, as `list` names them
        #[arg(value_name = "BACKUP", required = true)]
        backups: Vec<String>,
        #[command(flatten)]
        cluster: ClusterArgs,
        /// Delete them; without it they are shown and nothing is deleted
        #[arg(long)]
        apply: bool,
        /// How long Velero has for each, as in 10min
        #[arg(long, value_name = "TIME", default_value = "10min")]
        limit: String,
    },
    /// The schedules by which Velero makes backups
    #[command(subcommand, arg_required_else_help = true)]
    Schedules(SchedulesCommand),
    /// Delete the copies that a policy no longer keeps
    #[command(after_help = "\
Velero deletes its own backups when they expire; --ttl and the schedules say when.

Examples:
  lifeboat-velero prune --dataset daily --to b2://offsite --prefix copies --keep 30d,at-least=3 --dry-run
  lifeboat-velero prune --dataset daily --to b2://offsite --prefix copies --orphans")]
    Prune(Prune),
    /// Copy the copies that the first sink holds to the others; with --into, Velero's whole bucket as it is
    #[command(after_help = "\
Examples:
  lifeboat-velero replicate --dataset daily --to minio://minio:9000/backups --to b2://offsite
  lifeboat-velero replicate --location minio://minio:9000/velero --to b2://offsite --into velero
  lifeboat-velero replicate --location minio://minio:9000/velero --to b2://offsite --into velero --reread")]
    Replicate {
        #[command(flatten)]
        location: LocationArg,
        #[command(flatten)]
        copies: Replicate,
        /// Copy everything in --location, volumes' repositories too, object by object into this folder of the sink
        #[arg(long, value_name = "FOLDER")]
        into: Option<String>,
        /// With --into: read the copy again, and compare it with its record
        #[arg(long, requires = "into", conflicts_with = "dry_run")]
        reread: bool,
    },
    /// Check the cluster, Velero's storage location, the rights, the sink and the keys
    #[command(
        mut_arg("compress", |arg| arg.default_value("none")),
        after_help = "\
Examples:
  lifeboat-velero check --location s3://velero --to b2://offsite --prefix copies --encrypt age:age1…
  lifeboat-velero check --test shop --location s3://velero --to file:///backups --encrypt age-file:keys.txt"
    )]
    Check {
        #[command(flatten)]
        cluster: ClusterArgs,
        #[command(flatten)]
        location: LocationArg,
        /// The rights that a restore test of this namespace needs, instead of those of a backup
        #[arg(long, value_name = "NAMESPACE")]
        test: Option<String>,
        #[command(flatten)]
        place: Place,
        #[command(flatten)]
        packing: Packing,
        #[command(flatten)]
        keys: Keys,
    },
    #[command(flatten)]
    About(About),
}

#[derive(Debug, Subcommand)]
enum SchedulesCommand {
    /// List them
    List {
        #[command(flatten)]
        cluster: ClusterArgs,
    },
    /// Make them as a config file says; shows the changes first
    #[command(after_help = "\
The file is that of `lifeboat`; the schedules are in the job:
  velero.schedules.daily = { cron = \"0 2 * * *\", ttl = \"7d\" }

Examples:
  lifeboat-velero schedules apply --config lifeboat.toml
  lifeboat-velero schedules apply --config lifeboat.toml --apply --delete-extra")]
    Apply {
        /// The config file
        #[arg(short, long, value_name = "PATH", env = "LIFEBOAT_CONFIG")]
        config: Option<PathBuf>,
        /// The job, where several have schedules
        #[arg(long, value_name = "NAME")]
        job: Option<String>,
        /// Carry the changes out; without it they are shown and nothing is changed
        #[arg(long)]
        apply: bool,
        /// Also delete schedules that were made in this way and that the file names no more
        #[arg(long)]
        delete_extra: bool,
    },
}

fn wrong(subject: &str, why: &str, hint: &str) -> Error {
    Error::new(ErrorKind::Config, "use", subject, why).hint(hint)
}

impl Program for LifeboatVelero {
    fn global(&self) -> &Global {
        &self.global
    }

    async fn run(self, session: &Session) -> Result<Exit> {
        let nowhere = || Backend::Velero(Box::default());
        match self.command {
            Command::Backup { cluster, location, place, packing, contents } => {
                let settings = Settings { backup: contents.options()?, ..cluster.settings(&location) };
                let job = named(place, settings, Some(packing), None)?;
                Ok(commands::backup::run(session, one(job)).await)
            }
            Command::List { copies, .. } if copies.is_given() => copies.run(nowhere(), session).await,
            Command::List { cluster, from_schedule, .. } => {
                backups::list(session, &cluster.access(), from_schedule.as_deref()).await
            }
            Command::Show { copy, backup, .. } if copy.is_given() => {
                no_backup(backup.as_deref(), "--dataset NAME and --at")?;
                copy.run(nowhere(), session).await
            }
            Command::Show { backup, cluster, files, .. } => {
                let backup = backup.ok_or_else(|| unnamed("show"))?;
                let settings = cluster.settings(&files.location);
                backups::show(session, &settings, files.ca.as_ref(), &backup).await
            }
            Command::Verify { cluster, location, test, place, keys, verify } => {
                let settings = cluster.settings(&location);
                if !place.is_given() {
                    let options = test.of_velero(verify)?;
                    return judge::test(session, &settings, options).await;
                }
                let options = verify.options(VerifyKindArgs::default())?;
                let mut job = named(place, test.of_copy(settings)?, None, Some(keys))?;
                job.limits.max_age = Some(MAX_AGE);
                Ok(commands::verify::run(session, one(job), &options).await)
            }
            Command::Judge { backups, location, must_cover } => {
                let settings = Settings { location: location.sink(), must_cover, ..Settings::default() };
                judge::run(session, &settings, &backups).await
            }
            Command::Restore { place, backup, from_schedule, cluster, files, what, keys, at } if place.is_given() => {
                no_backup(backup.as_deref().or(from_schedule.as_deref()), "--dataset NAME and --at")?;
                let settings = cluster.settings(&files.location);
                let job = named(place, settings, None, Some(keys))?;
                let options = commands::restore::Options {
                    at: at.parse()?,
                    into: Setting::argument(INTO, "--to"),
                    apply: false,
                    choices: RestoreChoices { velero: what.choices()?, ..RestoreChoices::default() },
                };
                commands::restore::run(session, &job, options).await
            }
            Command::Restore { backup, from_schedule, cluster, files, what, .. } => {
                let settings = cluster.settings(&files.location);
                let of = match (backup, from_schedule) {
                    (Some(backup), _) => restored::Of::Backup(backup),
                    (None, Some(schedule)) => restored::Of::Schedule(schedule),
                    (None, None) => return Err(unnamed("restore")),
                };
                restored::run(session, &settings, files.ca.as_ref(), of, what.choices()?.options()?).await
            }
            Command::Logs { name, restore, cluster, files } => {
                let settings = cluster.settings(&files.location);
                let of = if restore { LogOf::Restore(name) } else { LogOf::Backup(name) };
                backups::logs(session, &settings, files.ca.as_ref(), &of).await
            }
            Command::Delete { backups, cluster, apply, limit } => {
                let limit = duration::parse(&limit, "--limit")?;
                backups::delete(session, &cluster.access(), &backups, limit, apply).await
            }
            Command::Schedules(SchedulesCommand::List { cluster }) => schedules::list(session, &cluster.access()).await,
            Command::Schedules(SchedulesCommand::Apply { config, job, apply, delete_extra }) => {
                let config = Config::load(config.as_deref())?;
                schedules::apply(session, &config, job.as_deref(), apply, delete_extra).await
            }
            Command::Prune(prune) => prune.run(nowhere(), session).await,
            Command::Replicate { copies, into: None, .. } => copies.run(nowhere(), session).await,
            Command::Replicate { location, copies, into: Some(into), reread } => {
                let from = location.url().ok_or_else(|| {
                    let hint = "give --location s3://bucket/prefix, or set LIFEBOAT_LOCATION";
                    wrong("--into", "where Velero's bucket is was not said", hint)
                })?;
                copies.tree(from, &into, reread, session).await
            }
            Command::Check { cluster, location, test, place, packing, keys } => {
                let settings = Settings {
                    only_tests: test.is_some(),
                    test: test.map(lifeboat::velero::RestoreTestOptions::new),
                    ..cluster.settings(&location)
                };
                let job = named(place, settings, Some(packing), Some(keys))?;
                Ok(commands::check::run(session, None, one(job), true).await)
            }
            Command::About(about) => about.run::<Self>(session),
        }
    }
}

fn unnamed(command: &str) -> Error {
    wrong(
        "the backup",
        "none was named",
        &format!(
            "name it, as in `lifeboat-velero {command} daily-20261121030000`; `lifeboat-velero list` shows which there are"
        ),
    )
}

/// A backup of Velero is named, and a copy is asked for.
fn no_backup(named: Option<&str>, instead: &str) -> Result<()> {
    match named {
        Some(name) => Err(wrong(name, "with --to it is a copy that is asked for", &format!("choose it by {instead}"))),
        None => Ok(()),
    }
}

/// A job whose dataset is named as the schedule or the namespace, when no other name was given.
fn named(place: Place, settings: Settings, packing: Option<Packing>, keys: Option<Keys>) -> Result<Job> {
    let dataset = settings.dataset()?;
    place.named(Backend::Velero(Box::new(settings)), packing, keys, || Ok(Some(dataset)))
}

/// The levels of a copy have no meaning for a backup of Velero.
fn only_of_copies(verify: &VerifyArgs) -> Result<()> {
    let hint = "name the sink of the copies with --to; without it the restore of Velero's own backup is tested";
    if verify.level.is_some_and(|level| level != Level::Restore) {
        return Err(wrong("--level", "it is of a copy", hint));
    }
    if verify.at != "latest" {
        return Err(wrong("--at", "it is of a copy", "name a backup of Velero with --backup"));
    }
    Ok(())
}
