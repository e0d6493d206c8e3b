//! `lifeboat-mongodb`: MongoDB from flags alone.

use std::collections::BTreeMap;

use clap::{Args, Parser, Subcommand};
use lifeboat::{Error, ErrorKind, Result};

use super::single::{Keys, List, Packing, Place, Prune, Replicate, Show, one};
use super::{
    About, DatabaseArgs, Global, KindArgs, MongodbRestoreArgs, RestoreArgs, ScratchArg, Secret, ServerArgs, VerifyArgs,
    VerifyKindArgs,
};
use crate::backend::Backend;
use crate::backend::mongodb::{Consistency, DumpOptions, Settings};
use crate::commands;
use crate::config::setting::Setting;
use crate::exit::Exit;
use crate::jobs::Job;
use crate::session::{Program, Session};

/// Backs up a MongoDB database, or all of them, and proves that each backup restores.
#[derive(Debug, Parser)]
#[command(
    name = "lifeboat-mongodb",
    version,
    propagate_version = true,
    subcommand_required = true,
    arg_required_else_help = true,
    after_help = "\
Examples:
  export LIFEBOAT_FROM=mongodb://backup:password@db.example/shop?authSource=admin
  lifeboat-mongodb backup --to file:///backups --encrypt age:age1…
  lifeboat-mongodb verify --dataset shop --to file:///backups --identity key.txt

Exit status:
  0  good
  1  a backup, restore or check failed, or the run was cancelled
  2  usage or configuration
  3  nothing to do where something was asked for (no artifact found)"
)]
pub(crate) struct LifeboatMongodb {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// The live database.
#[derive(Args, Debug)]
struct From {
    /// The deployment and database: a URL mongodb://user:password@host:port/database or mongodb+srv://…, env:NAME (a variable
    /// that holds it) or file:PATH; without a database all of them
    #[arg(long, value_name = "URL", env = "LIFEBOAT_FROM", hide_env_values = true)]
    from: Option<Secret>,
    /// The database, when the URL names another one or none
    #[arg(long, value_name = "NAME")]
    database: Option<String>,
}

/// What of the deployment is backed up.
#[derive(Args, Debug, Default)]
#[command(next_help_heading = "What is backed up")]
struct Dump {
    /// Only this collection; may hold `*`, and may be given several times, like the others
    #[arg(long = "collection", value_name = "PATTERN")]
    collections: Vec<String>,
    /// All collections but this
    #[arg(long = "exclude-collection", value_name = "PATTERN")]
    exclude_collections: Vec<String>,
    /// All databases but this
    #[arg(long = "exclude-database", value_name = "PATTERN")]
    exclude_databases: Vec<String>,
    /// Of a collection only the documents that a filter fits, as in 'orders={"status": "open"}'
    #[arg(long = "query", value_name = "COLLECTION=JSON")]
    queries: Vec<String>,
    /// How consistent the collections are with each other: auto (a snapshot where there can be one), snapshot or none
    #[arg(long, value_name = "HOW", default_value = "auto", hide_default_value = true, value_parser = ["auto", "snapshot", "none"])]
    consistency: String,
    /// Also what is written while it runs, which a restore replays; of a whole replica set only
    #[arg(long)]
    oplog: bool,
    /// Whether users and roles go along; where nobody says, with all databases they do, and with one they do not
    #[arg(long, value_name = "yes|no", value_parser = ["yes", "no"])]
    users_and_roles: Option<String>,
    /// How many collections are read at once; 0 is 4
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    cursors: usize,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Back up
    #[command(after_help = "\
Examples:
  lifeboat-mongodb backup --from env:SHOP_URL --to file:///backups --encrypt age:age1…
  lifeboat-mongodb backup --from env:SHOP_URL --to s3://backups --encrypt openssl:env:PASSPHRASE
  lifeboat-mongodb backup --from env:SHOP_URL --exclude-collection 'log_*' --to file:///backups --encrypt none")]
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
  lifeboat-mongodb list --to file:///backups
  lifeboat-mongodb list --dataset shop --to file:///backups --json")]
    List(List),
    /// Show a backup's manifest, and the shell line that restores it without Lifeboat
    #[command(mut_arg("items", |arg| arg.help("Also list what is inside (collections with their documents); needs the key when it is encrypted")), after_help = "\
Examples:
  lifeboat-mongodb show --dataset shop --to file:///backups
  lifeboat-mongodb show --dataset shop --to file:///backups --items --identity key.txt")]
    Show(Show),
    /// Prove that a backup is good
    #[command(after_help = "\
Levels:
  stored      it is there, young enough, and has the size and SHA-256 of its manifest
  structure   it decrypts, decompresses, parses to its end and agrees with its proof
  restore     it restores into a scratch server, and the content equals the proof (the default)
  live        how far the live database has drifted from it (needs --from)

Examples:
  lifeboat-mongodb verify --dataset shop --to file:///backups --identity key.txt
  lifeboat-mongodb verify --dataset shop --to file:///backups --scratch env:SCRATCH_URL
  lifeboat-mongodb verify --dataset shop --to file:///backups --level stored --max-age 2d")]
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
        #[command(flatten)]
        scratch: ScratchArg,
    },
    /// Restore a backup
    #[command(after_help = "\
Examples:
  lifeboat-mongodb restore --dataset shop --to file:///backups --identity key.txt --into env:NEW
  lifeboat-mongodb restore --dataset shop --to file:///backups --into env:SHOP_URL --replace
  lifeboat-mongodb restore --dataset shop --to file:///backups --into env:URL --ns-from 'shop.*' --ns-to 'copy.*'")]
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
        mongodb: MongodbRestoreArgs,
    },
    /// Delete the backups that a policy no longer keeps
    #[command(after_help = "\
Examples:
  lifeboat-mongodb prune --dataset shop --to file:///backups --keep 30d,at-least=3 --dry-run
  lifeboat-mongodb prune --dataset shop --to file:///backups --keep last=7,weekly=4,monthly=12
  lifeboat-mongodb prune --dataset shop --to file:///backups --orphans")]
    Prune(Prune),
    /// Copy the backups that the first sink holds to the others that lack them
    #[command(after_help = "\
Examples:
  lifeboat-mongodb replicate --dataset shop --to minio://minio:9000/backups --to b2://offsite
  lifeboat-mongodb replicate --to file:///backups --to s3://backups --dry-run")]
    Replicate(Replicate),
    /// Check the sink, the database, the keys and the tools
    #[command(after_help = "\
Examples:
  lifeboat-mongodb check --from env:SHOP_URL --to file:///backups --encrypt age:age1…
  lifeboat-mongodb check --from env:SHOP_URL --to s3://backups --encrypt age-file:keys.txt")]
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
        Ok(Settings::new(url, self.database, None, dump.options()?))
    }
}

impl Dump {
    fn options(self) -> Result<DumpOptions> {
        let mut queries = BTreeMap::new();
        for text in self.queries {
            let Some((collection, filter)) = text.split_once('=') else {
                return Err(Error::new(ErrorKind::Config, "use", format!("--query {text}"), "it has no =")
                    .hint("write --query 'orders={\"status\": \"open\"}'"));
            };
            queries.insert(collection.to_owned(), filter.to_owned());
        }
        Ok(DumpOptions {
            collections: self.collections,
            exclude_collections: self.exclude_collections,
            exclude_databases: self.exclude_databases,
            queries,
            consistency: match &*self.consistency {
                "snapshot" => Consistency::Snapshot,
                "none" => Consistency::None,
                _ => Consistency::Auto,
            },
            oplog: self.oplog,
            cursors: self.cursors,
            users_and_roles: self.users_and_roles.map(|said| said == "yes"),
        })
    }
}

impl Program for LifeboatMongodb {
    fn global(&self) -> &Global {
        &self.global
    }

    async fn run(self, session: &Session) -> Result<Exit> {
        // A database that is only looked for in sinks needs no address.
        let nowhere = || Backend::Mongodb(Settings::new(None, None, None, DumpOptions::default()));
        match self.command {
            Command::Backup { from, place, packing, dump } => {
                let settings = from.settings(dump, session)?;
                let job = named(place, &settings, Some(packing), None)?;
                Ok(commands::backup::run(session, one(job)).await)
            }
            Command::List(list) => list.run(nowhere(), session).await,
            Command::Show(show) => show.run(nowhere(), session).await,
            Command::Verify { from, place, keys, verify, server, scratch } => {
                let options = verify.options(VerifyKindArgs {
                    server,
                    scratch: scratch.setting(session),
                    ..VerifyKindArgs::default()
                })?;
                let settings = from.settings(Dump::default(), session)?;
                let job = named(place, &settings, None, Some(keys))?;
                Ok(commands::verify::run(session, one(job), &options).await)
            }
            Command::Restore { place, keys, restore, database, mongodb } => {
                let job = place.job(nowhere(), None, Some(keys))?;
                let options = restore.options(KindArgs { database, mongodb, ..KindArgs::default() }, session)?;
                commands::restore::run(session, &job, options).await
            }
            Command::Prune(prune) => prune.run(nowhere(), session).await,
            Command::Replicate(replicate) => replicate.run(nowhere(), session).await,
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
    place.named(Backend::Mongodb(settings.clone()), packing, keys, dataset)
}
