//! `lifeboat-cloudflare-dns`: zones at Cloudflare from flags alone.

use clap::{Args, Parser, Subcommand};
use lifeboat::Result;

use super::single::{Keys, List, Packing, Place, Prune, Replicate, Show, one};
use super::{About, DriftArgs, Global, KindArgs, PlanArgs, RestoreArgs, VerifyArgs, VerifyKindArgs};
use crate::backend::Backend;
use crate::backend::cloudflare::Settings;
use crate::commands;
use crate::config::setting::Setting;
use crate::exit::Exit;
use crate::jobs::{self, Job};
use crate::session::{Program, Session};

/// Backs up DNS zones at Cloudflare, and proves that each backup restores.
#[derive(Debug, Parser)]
#[command(
    name = "lifeboat-cloudflare-dns",
    version,
    propagate_version = true,
    subcommand_required = true,
    arg_required_else_help = true,
    after_help = "\
Examples:
  export CLOUDFLARE_API_TOKEN=…
  lifeboat-cloudflare-dns backup --zone example.org --to file:///backups --encrypt age:age1…
  lifeboat-cloudflare-dns verify --dataset example.org --to file:///backups --identity key.txt
  lifeboat-cloudflare-dns restore --dataset example.org --to file:///backups --identity key.txt --into file:zone.txt

Exit status:
  0  good
  1  a backup, restore or check failed, or the run was cancelled
  2  usage or configuration
  3  nothing to do where something was asked for (no artifact found)"
)]
pub(crate) struct LifeboatCloudflareDns {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// The live zone.
#[derive(Args, Debug)]
struct From {
    /// The zone: cloudflare://example.org, its domain alone or its id; * for every zone that the token sees
    #[arg(long, visible_alias = "zone", value_name = "ZONE", env = "LIFEBOAT_FROM")]
    from: Option<String>,
    #[command(flatten)]
    access: Access,
}

/// How Cloudflare is reached.
#[derive(Args, Debug)]
struct Access {
    /// Where the token is: env:NAME or file:PATH; without it, in CLOUDFLARE_API_TOKEN
    #[arg(long, value_name = "PLACE")]
    token: Option<String>,
    /// Where the API is, when not at https://api.cloudflare.com/client/v4
    #[arg(long, value_name = "URL", env = "CLOUDFLARE_API_URL")]
    api_url: Option<String>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Back up
    #[command(
        mut_arg("compress", |arg| arg.default_value("gzip")),
        after_help = "\
Examples:
  lifeboat-cloudflare-dns backup --zone example.org --to file:///backups --encrypt age:age1…
  lifeboat-cloudflare-dns backup --zone example.org --dataset dns-zone --to s3://backups --encrypt none
  lifeboat-cloudflare-dns backup --zone '*' --token file:token.txt --to b2://backups --encrypt age-file:keys.txt"
    )]
    Backup {
        #[command(flatten)]
        from: From,
        #[command(flatten)]
        place: Place,
        #[command(flatten)]
        packing: Packing,
    },
    /// List the backups: time, age, size, kind, last verified
    #[command(after_help = "\
Examples:
  lifeboat-cloudflare-dns list --to file:///backups
  lifeboat-cloudflare-dns list --dataset example.org --to file:///backups --json")]
    List(List),
    /// Show a backup's manifest, and the shell line that restores it without Lifeboat
    #[command(mut_arg("items", |arg| arg.help("Also list what is inside (types with their records); needs the key when it is encrypted")), after_help = "\
Examples:
  lifeboat-cloudflare-dns show --dataset example.org --to file:///backups
  lifeboat-cloudflare-dns show --dataset example.org --to file:///backups --items --identity key.txt")]
    Show(Show),
    /// Prove that a backup is good
    #[command(after_help = "\
Levels:
  stored      it is there, young enough (8 days), and has the size and SHA-256 of its manifest
  structure   it decrypts, decompresses, parses to its end and agrees with its proof
  restore     the zone is built again, read back with a DNS library, and compared with the proof and with Cloudflare's
              own zone file (the default)
  live        how far the live zone has drifted from it, record by record

Examples:
  lifeboat-cloudflare-dns verify --dataset example.org --to file:///backups --identity key.txt
  lifeboat-cloudflare-dns verify --zone '*' --to file:///backups --identity key.txt --level live --max-drift 10")]
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
        drift: DriftArgs,
    },
    /// Restore a backup: into the live zone, into a zone file or to standard output
    #[command(
        mut_arg("into", |arg| arg.value_name("ZONE|file:PATH|-").help(
            "Where to: cloudflare://example.org (cloudflare:// for the backup's own zone), file:PATH or - for a BIND zone file"
        )),
        mut_arg("replace", |arg| arg.help("With --into file:PATH: write in the place of a file that is there")),
        after_help = "\
Examples:
  lifeboat-cloudflare-dns restore --dataset example.org --to file:///backups --into cloudflare://example.org
  lifeboat-cloudflare-dns restore --dataset example.org --to file:///backups --into cloudflare://example.org --apply
  lifeboat-cloudflare-dns restore --dataset example.org --to file:///backups --identity key.txt --into file:zone.txt"
    )]
    Restore {
        #[command(flatten)]
        place: Place,
        #[command(flatten)]
        keys: Keys,
        #[command(flatten)]
        restore: RestoreArgs,
        #[command(flatten)]
        plan: PlanArgs,
        #[command(flatten)]
        access: Access,
    },
    /// Delete the backups that a policy no longer keeps
    #[command(after_help = "\
Examples:
  lifeboat-cloudflare-dns prune --dataset example.org --to file:///backups --keep 30d,at-least=3 --dry-run
  lifeboat-cloudflare-dns prune --dataset example.org --to file:///backups --orphans")]
    Prune(Prune),
    /// Copy the backups that the first sink holds to the others that lack them
    #[command(after_help = "\
Examples:
  lifeboat-cloudflare-dns replicate --dataset example.org --to minio://minio:9000/backups --to b2://offsite
  lifeboat-cloudflare-dns replicate --to file:///backups --to s3://backups --dry-run")]
    Replicate(Replicate),
    /// Check the sink, the token and its rights, the zone and the keys
    #[command(
        mut_arg("compress", |arg| arg.default_value("gzip")),
        after_help = "\
Examples:
  lifeboat-cloudflare-dns check --zone example.org --to file:///backups --encrypt age:age1…
  lifeboat-cloudflare-dns check --zone '*' --to s3://backups --encrypt age-file:keys.txt")]
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
    fn settings(self) -> Result<Settings> {
        let zone = self.from.filter(|z| !z.is_empty()).map(|zone| Setting::argument(zone, "--from"));
        self.access.settings(zone)
    }
}

impl Access {
    fn settings(self, zone: Option<Setting>) -> Result<Settings> {
        let token = super::token(self.token.as_deref(), "CLOUDFLARE_API_TOKEN")?;
        let api_url = self.api_url.filter(|url| !url.is_empty()).map(|url| Setting::argument(url, "--api-url"));
        Ok(Settings::new(token, api_url, zone))
    }
}

impl Program for LifeboatCloudflareDns {
    fn global(&self) -> &Global {
        &self.global
    }

    async fn run(self, session: &Session) -> Result<Exit> {
        // Artifacts that are only looked for in sinks need no zone.
        let nowhere = || Access { token: None, api_url: None }.settings(None).map(Backend::CloudflareDns);
        match self.command {
            Command::Backup { from, place, packing } => {
                let job = named(place, from.settings()?, Some(packing), None)?;
                Ok(commands::backup::run(session, one(job)).await)
            }
            Command::List(list) => list.run(nowhere()?, session).await,
            Command::Show(show) => show.run(nowhere()?, session).await,
            Command::Verify { from, place, keys, verify, drift } => {
                let options = verify.options(VerifyKindArgs { drift, ..VerifyKindArgs::default() })?;
                let mut job = named(place, from.settings()?, None, Some(keys))?;
                job.limits.max_age = Settings::suggested().max_age;
                Ok(commands::verify::run(session, one(job), &options).await)
            }
            Command::Restore { place, keys, restore, plan, access } => {
                let job = place.job(Backend::CloudflareDns(access.settings(None)?), None, Some(keys))?;
                let options = restore.options(KindArgs { plan, ..KindArgs::default() }, session)?;
                let job = jobs::one(job, None, &options.at).await?;
                commands::restore::run(session, &job, options).await
            }
            Command::Prune(prune) => prune.run(nowhere()?, session).await,
            Command::Replicate(replicate) => replicate.run(nowhere()?, session).await,
            Command::Check { from, place, packing, keys } => {
                let job = named(place, from.settings()?, Some(packing), Some(keys))?;
                Ok(commands::check::run(session, None, one(job), true).await)
            }
            Command::About(about) => about.run::<Self>(session),
        }
    }
}

/// A job whose dataset is named as the zone, when no other name was given.
fn named(place: Place, settings: Settings, packing: Option<Packing>, keys: Option<Keys>) -> Result<Job> {
    let dataset = settings.dataset()?;
    place.named(Backend::CloudflareDns(settings), packing, keys, || Ok(dataset))
}
