//! `lifeboat-postgres`: one PostgreSQL database from flags alone.

use clap::{Args, Parser, Subcommand};
use lifeboat::Result;

use super::single::{Keys, List, Packing, Place, Prune, Replicate, Show, one};
use super::{
    About, DatabaseArgs, Global, KindArgs, PostgresRestoreArgs, RestoreArgs, Secret, ServerArgs, VerifyArgs,
    VerifyKindArgs,
};
use crate::backend::Backend;
use crate::backend::postgres::{DumpOptions, Settings};
use crate::commands;
use crate::config::setting::Setting;
use crate::exit::Exit;
use crate::jobs::Job;
use crate::session::{Program, Session};

/// Backs up one PostgreSQL database, and proves that each backup restores.
#[derive(Debug, Parser)]
#[command(
    name = "lifeboat-postgres",
    version,
    propagate_version = true,
    subcommand_required = true,
    arg_required_else_help = true,
    after_help = "\
Examples:
  export LIFEBOAT_FROM=postgres://backup:password@db.example/shop
  lifeboat-postgres backup --to file:///backups --encrypt age:age1…
  lifeboat-postgres verify --dataset shop --to file:///backups --identity key.txt

Exit status:
  0  good
  1  a backup, restore or check failed, or the run was cancelled
  2  usage or configuration
  3  nothing to do where something was asked for (no artifact found)"
)]
pub(crate) struct LifeboatPostgres {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// The live database.
#[derive(Args, Debug)]
struct From {
    /// The database: a URL postgres://user:password@host:port/database, env:NAME (a variable that holds it) or file:PATH
    #[arg(long, value_name = "URL", env = "LIFEBOAT_FROM", hide_env_values = true)]
    from: Option<Secret>,
    /// Not the database but the server's roles and tablespaces, as a dataset of its own (pg_dumpall --globals-only)
    #[arg(long)]
    globals: bool,
}

/// What of the database is dumped: patterns as pg_dump's options of the same names take them.
#[derive(Args, Debug, Default)]
#[command(next_help_heading = "What is dumped")]
struct Dump {
    /// Only this schema; may be given several times, like the others
    #[arg(long = "schema", value_name = "PATTERN")]
    schemas: Vec<String>,
    /// All schemas but this
    #[arg(long = "exclude-schema", value_name = "PATTERN")]
    exclude_schemas: Vec<String>,
    /// Only this table
    #[arg(long = "table", value_name = "PATTERN")]
    tables: Vec<String>,
    /// All tables but this
    #[arg(long = "exclude-table", value_name = "PATTERN")]
    exclude_tables: Vec<String>,
    /// This table without its rows
    #[arg(long = "exclude-table-data", value_name = "PATTERN")]
    exclude_table_data: Vec<String>,
    /// A further argument for pg_dump, as it is
    #[arg(long = "pg-dump-arg", value_name = "ARGUMENT", allow_hyphen_values = true)]
    extra_args: Vec<String>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Back up
    #[command(after_help = "\
Examples:
  lifeboat-postgres backup --from env:SHOP_URL --to file:///backups --encrypt age:age1…
  lifeboat-postgres backup --from env:SHOP_URL --to s3://backups --encrypt openssl:env:PASSPHRASE
  lifeboat-postgres backup --from env:SHOP_URL --globals --to file:///backups --encrypt none")]
    Backup {
        #[command(flatten)]
        from: From,
        #[command(flatten)]
        place: Place,
        #[command(flatten)]
        packing: Packing,
        #[command(flatten)]
        dump: Dump,
    },
    /// List the backups: time, age, size, kind, last verified
    #[command(after_help = "\
Examples:
  lifeboat-postgres list --to file:///backups
  lifeboat-postgres list --dataset shop --to file:///backups --json")]
    List(List),
    /// Show a backup's manifest, and the shell line that restores it without Lifeboat
    #[command(after_help = "\
Examples:
  lifeboat-postgres show --dataset shop --to file:///backups
  lifeboat-postgres show --dataset shop --to file:///backups --items --identity key.txt")]
    Show(Show),
    /// Prove that a backup is good
    #[command(after_help = "\
Levels:
  stored      it is there, young enough, and has the size and SHA-256 of its manifest
  structure   it decrypts, decompresses, parses to its end and agrees with its proof
  restore     it restores into a scratch server, and the content equals the proof (the default)
  live        how far the live database has drifted from it (needs --from)

Examples:
  lifeboat-postgres verify --dataset shop --to file:///backups --identity key.txt
  lifeboat-postgres verify --dataset shop --to file:///backups --level stored --max-age 2d")]
    Verify {
        #[command(flatten)]
        from: From,
        #[command(flatten)]
        place: Place,
        #[command(flatten)]
        keys: Keys,
        #[command(flatten)]
        verify: VerifyArgs,
        #[command(flatten)]
        server: ServerArgs,
    },
    /// Restore a backup
    #[command(after_help = "\
Examples:
  lifeboat-postgres restore --dataset shop --to file:///backups --identity key.txt --into env:NEW
  lifeboat-postgres restore --dataset shop --to file:///backups --into env:SHOP_URL --replace")]
    Restore {
        #[command(flatten)]
        place: Place,
        #[command(flatten)]
        keys: Keys,
        #[command(flatten)]
        restore: RestoreArgs,
        #[command(flatten)]
        database: DatabaseArgs,
        #[command(flatten)]
        postgres: PostgresRestoreArgs,
    },
    /// Delete the backups that a policy no longer keeps
    #[command(after_help = "\
Examples:
  lifeboat-postgres prune --dataset shop --to file:///backups --keep 30d,at-least=3 --dry-run
  lifeboat-postgres prune --dataset shop --to file:///backups --keep last=7,weekly=4,monthly=12
  lifeboat-postgres prune --dataset shop --to file:///backups --orphans")]
    Prune(Prune),
    /// Copy the backups that the first sink holds to the others that lack them
    #[command(after_help = "\
Examples:
  lifeboat-postgres replicate --dataset shop --to minio://minio:9000/backups --to b2://offsite
  lifeboat-postgres replicate --to file:///backups --to s3://backups --dry-run")]
    Replicate(Replicate),
    /// Check the sink, the database, the keys and the tools
    #[command(after_help = "\
Examples:
  lifeboat-postgres check --from env:SHOP_URL --to file:///backups --encrypt age:age1…
  lifeboat-postgres check --from env:SHOP_URL --to s3://backups --encrypt age-file:keys.txt")]
    Check {
        #[command(flatten)]
        from: From,
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

impl From {
    fn settings(self, dump: Dump, session: &Session) -> Result<Settings> {
        let url: Option<Setting> = self.from.map(|from| from.setting("--from", "LIFEBOAT_FROM", session));
        let dump = DumpOptions {
            schemas: dump.schemas,
            exclude_schemas: dump.exclude_schemas,
            tables: dump.tables,
            exclude_tables: dump.exclude_tables,
            exclude_table_data: dump.exclude_table_data,
            extra_args: dump.extra_args,
        };
        Settings::new(url, self.globals, dump)
    }
}

impl Program for LifeboatPostgres {
    fn global(&self) -> &Global {
        &self.global
    }

    async fn run(self, session: &Session) -> Result<Exit> {
        // A database that is only looked for in sinks needs no address.
        let nowhere = || Settings::new(None, false, DumpOptions::default()).map(Backend::Postgres);
        match self.command {
            Command::Backup { from, place, packing, dump } => {
                let settings = from.settings(dump, session)?;
                let job = named(place, &settings, Some(packing), None)?;
                Ok(commands::backup::run(session, one(job)).await)
            }
            Command::List(list) => list.run(nowhere()?, session).await,
            Command::Show(show) => show.run(nowhere()?, session).await,
            Command::Verify { from, place, keys, verify, server } => {
                let options = verify.options(VerifyKindArgs { server, ..VerifyKindArgs::default() })?;
                let settings = from.settings(Dump::default(), session)?;
                let job = named(place, &settings, None, Some(keys))?;
                Ok(commands::verify::run(session, one(job), &options).await)
            }
            Command::Restore { place, keys, restore, database, postgres } => {
                let job = place.job(nowhere()?, None, Some(keys))?;
                let options = restore.options(KindArgs { database, postgres, ..KindArgs::default() }, session)?;
                commands::restore::run(session, &job, options).await
            }
            Command::Prune(prune) => prune.run(nowhere()?, session).await,
            Command::Replicate(replicate) => replicate.run(nowhere()?, session).await,
            Command::Check { from, place, packing, keys } => {
                let settings = from.settings(Dump::default(), session)?;
                let job = named(place, &settings, Some(packing), Some(keys))?;
                Ok(commands::check::run(session, None, one(job), true).await)
            }
            Command::About(about) => about.run::<Self>(session),
        }
    }
}

/// A job whose dataset is named as the database, when no other name was given.
fn named(place: Place, settings: &Settings, packing: Option<Packing>, keys: Option<Keys>) -> Result<Job> {
    let dataset = || settings.is_somewhere().then(|| settings.dataset()).transpose();
    place.named(Backend::Postgres(settings.clone()), packing, keys, dataset)
}
