//! `lifeboat-doppler`: the secrets of one Doppler config from flags alone.

use clap::{Args, Parser, Subcommand};
use lifeboat::Result;

use super::single::{Keys, List, Packing, Place, Prune, Replicate, Show, one};
use super::{About, DriftArgs, Global, KindArgs, PlanArgs, RestoreArgs, SecretsArgs, VerifyArgs, VerifyKindArgs};
use crate::backend::Backend;
use crate::backend::doppler::Settings;
use crate::commands;
use crate::config::setting::Setting;
use crate::exit::Exit;
use crate::jobs::{self, Job};
use crate::session::{Program, Session};

/// Backs up the secrets of a Doppler config, always encrypted, and proves that each backup restores.
#[derive(Debug, Parser)]
#[command(
    name = "lifeboat-doppler",
    version,
    propagate_version = true,
    subcommand_required = true,
    arg_required_else_help = true,
    after_help = "\
Examples:
  export DOPPLER_TOKEN=dp.st.prd.…
  lifeboat-doppler backup --to file:///backups --encrypt age:age1…
  lifeboat-doppler verify --dataset backend.prd --to file:///backups --identity key.txt
  lifeboat-doppler restore --dataset backend.prd --to file:///backups --identity key.txt --into -

Exit status:
  0  good
  1  a backup, restore or check failed, or the run was cancelled
  2  usage or configuration
  3  nothing to do where something was asked for (no artifact found)"
)]
pub(crate) struct LifeboatDoppler {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// The live config.
#[derive(Args, Debug)]
struct From {
    /// The config: doppler://PROJECT/CONFIG; without it, the one that a service token is of. * stands for all
    #[arg(long, value_name = "URL", env = "LIFEBOAT_FROM", hide_env_values = true)]
    from: Option<String>,
    #[command(flatten)]
    access: Access,
}

/// How Doppler is reached.
#[derive(Args, Debug)]
struct Access {
    /// Where the token is: env:NAME or file:PATH; without it, in DOPPLER_TOKEN
    #[arg(long, value_name = "PLACE")]
    token: Option<String>,
    /// Where Doppler's API is, when not at https://api.doppler.com
    #[arg(long, value_name = "URL", env = "DOPPLER_API_HOST")]
    api_url: Option<String>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Back up
    #[command(
        mut_arg("compress", |arg| arg.default_value("none")),
        after_help = "\
Examples:
  lifeboat-doppler backup --to file:///backups --encrypt age:age1…
  lifeboat-doppler backup --from doppler://backend/prd --token file:token.txt --to s3://backups --encrypt openssl:env:PASSPHRASE
  lifeboat-doppler backup --from 'doppler://backend/*' --to file:///backups --encrypt age:age1…"
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
  lifeboat-doppler list --to file:///backups
  lifeboat-doppler list --dataset backend.prd --to file:///backups --json")]
    List(List),
    /// Show a backup's manifest, and the shell line that restores it without Lifeboat
    #[command(mut_arg("items", |arg| arg.help("Also list the names of the secrets; needs the key")), after_help = "\
Examples:
  lifeboat-doppler show --dataset backend.prd --to file:///backups
  lifeboat-doppler show --dataset backend.prd --to file:///backups --items --identity key.txt")]
    Show(Show),
    /// Prove that a backup is good
    #[command(after_help = "\
Levels:
  stored      it is there, young enough (8 days), and has the size and SHA-256 of its manifest
  structure   it decrypts, parses to its end and agrees with its proof
  restore     it is written as .env, JSON and Kubernetes Secret in memory, and reads back as it was (the default)
  live        how far Doppler has drifted from it: names, and how many values have changed

Examples:
  lifeboat-doppler verify --dataset backend.prd --to file:///backups --identity key.txt
  lifeboat-doppler verify --dataset backend.prd --to file:///backups --identity key.txt --level live --max-drift 0")]
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
    /// Restore a backup: into Doppler, into a file or to standard output
    #[command(after_help = "\
Examples:
  lifeboat-doppler restore --dataset backend.prd --to file:///backups --identity key.txt --into doppler://backend/prd
  lifeboat-doppler restore --dataset backend.prd --to file:///backups --identity key.txt --into doppler://backend/prd --apply
  lifeboat-doppler restore --dataset backend.prd --to file:///backups --identity key.txt --into file:/run/app.env
  lifeboat-doppler restore --dataset backend.prd --to file:///backups --identity key.txt --into - --format kubernetes | kubectl apply -f -")]
    Restore {
        #[command(flatten)]
        place: Place,
        #[command(flatten)]
        keys: Keys,
        #[command(flatten)]
        restore: RestoreArgs,
        /// Carry the plan out; without it the plan is shown and nothing is changed
        #[arg(long)]
        apply: bool,
        /// Also delete what is in Doppler and not in the backup
        #[arg(long)]
        delete_extra: bool,
        #[command(flatten)]
        secrets: SecretsArgs,
        /// Where Doppler's API is, when not at https://api.doppler.com
        #[arg(long, value_name = "URL", env = "DOPPLER_API_HOST")]
        api_url: Option<String>,
    },
    /// Delete the backups that a policy no longer keeps
    #[command(after_help = "\
Examples:
  lifeboat-doppler prune --dataset backend.prd --to file:///backups --keep 30d,at-least=3 --dry-run
  lifeboat-doppler prune --dataset backend.prd --to file:///backups --orphans")]
    Prune(Prune),
    /// Copy the backups that the first sink holds to the others that lack them
    #[command(after_help = "\
Examples:
  lifeboat-doppler replicate --dataset shop.prd --to minio://minio:9000/backups --to b2://offsite
  lifeboat-doppler replicate --to file:///backups --to s3://backups --dry-run")]
    Replicate(Replicate),
    /// Check the sink, the token, the config and the keys
    #[command(
        mut_arg("compress", |arg| arg.default_value("none")),
        after_help = "\
Examples:
  lifeboat-doppler check --to file:///backups --encrypt age:age1…
  lifeboat-doppler check --from doppler://backend/prd --to s3://backups --encrypt age-file:keys.txt")]
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
    fn settings(&self) -> Result<Settings> {
        settings(self.access.token.as_deref(), self.access.api_url.as_deref(), self.from.as_deref())
    }
}

fn settings(token_place: Option<&str>, api_url: Option<&str>, place: Option<&str>) -> Result<Settings> {
    let api_url = api_url.filter(|url| !url.is_empty()).map(|url| Setting::argument(url, "--api-url"));
    Settings::of_place(super::token(token_place, "DOPPLER_TOKEN")?, api_url, place)
}

impl Program for LifeboatDoppler {
    fn global(&self) -> &Global {
        &self.global
    }

    async fn run(self, session: &Session) -> Result<Exit> {
        let nowhere = || settings(None, None, None).map(Backend::Doppler);
        match self.command {
            Command::Backup { from, place, packing } => {
                let job = named(place, from.settings()?, Some(packing), None)?;
                Ok(commands::backup::run(session, one(job)).await)
            }
            Command::List(list) => list.run(nowhere()?, session).await,
            Command::Show(show) => show.run(nowhere()?, session).await,
            Command::Verify { from, place, keys, verify, drift } => {
                let options = verify.options(VerifyKindArgs { drift, ..VerifyKindArgs::default() })?;
                let settings = from.settings()?;
                let max_age = settings.suggested().max_age;
                let mut job = named(place, settings, None, Some(keys))?;
                job.limits.max_age = max_age;
                Ok(commands::verify::run(session, one(job), &options).await)
            }
            Command::Restore { place, keys, restore, apply, delete_extra, secrets, api_url } => {
                let backend = Backend::Doppler(settings(None, api_url.as_deref(), None)?);
                let job = place.job(backend, None, Some(keys))?;
                let plan = PlanArgs { apply, delete_extra, ..PlanArgs::default() };
                let mut options = restore.options(KindArgs { plan, ..KindArgs::default() }, session)?;
                options.choices.secrets = secrets.choices(job.dataset.as_ref())?;
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

/// A job whose dataset is named as the config, when no other name was given.
fn named(place: Place, settings: Settings, packing: Option<Packing>, keys: Option<Keys>) -> Result<Job> {
    let dataset = settings.dataset()?;
    place.named(Backend::Doppler(settings), packing, keys, || Ok(dataset))
}
