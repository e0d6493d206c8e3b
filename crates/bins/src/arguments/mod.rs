//! The command lines, as clap reads them. What a value means is decided where it is used, so that its error is like every
//! other.

use std::path::PathBuf;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, CommandFactory, Subcommand};
use lifeboat::{Dataset, Error, ErrorKind, Level, Result};
use secrecy::{ExposeSecret, SecretString};
use url::Url;

use crate::backend::mongodb::Choices;
use crate::backend::velero as velero_backend;
use crate::backend::{RestoreChoices, SecretsChoices, VerifyChoices};
use crate::commands::{prune, restore, verify};
use crate::config::setting::Setting;
use crate::duration;
use crate::exit::Exit;
use crate::jobs::Limits;
use crate::session::Session;

pub(crate) mod cloudflare;
pub(crate) mod configured;
pub(crate) mod doppler;
pub(crate) mod mongodb;
pub(crate) mod postgres;
pub(crate) mod replicate;
pub(crate) mod single;
pub(crate) mod velero;

/// What every command takes.
#[derive(Args, Debug)]
pub(crate) struct Global {
    /// Write the result as JSON to standard output
    #[arg(long, global = true, help_heading = "Output")]
    pub(crate) json: bool,
    /// Say more on standard error; twice for everything (RUST_LOG goes before it)
    #[arg(short, long, global = true, action = clap::ArgAction::Count, help_heading = "Output")]
    pub(crate) verbose: u8,
    /// No progress and no notes: results, warnings and errors only
    #[arg(short, long, global = true, conflicts_with = "verbose", help_heading = "Output")]
    pub(crate) quiet: bool,
    /// No colours, as with NO_COLOR
    #[arg(long, global = true, help_heading = "Output")]
    pub(crate) no_color: bool,
}

/// What `verify` takes.
#[derive(Args, Debug)]
pub(crate) struct VerifyArgs {
    /// How much to prove
    #[arg(long, value_name = "LEVEL", value_parser = level())]
    level: Option<Level>,
    /// Which backup: latest, a time or day (the newest that is not younger), or a key
    #[arg(long, value_name = "latest|TIME|KEY", default_value = "latest", hide_default_value = true)]
    at: String,
    /// Fail when the backup is older, as in 2d or 36h
    #[arg(long, value_name = "AGE")]
    max_age: Option<String>,
    /// Leave no record of the outcome beside the backup
    #[arg(long)]
    no_record: bool,
}

/// What `verify` takes where a restore test needs a server.
#[derive(Args, Debug, Default)]
pub(crate) struct ServerArgs {
    /// Where the scratch server has its data
    #[arg(long, value_name = "FOLDER")]
    scratch_folder: Option<PathBuf>,
    /// How many tables are restored and compared at once; 0 chooses by the machine
    #[arg(long = "jobs", value_name = "N", default_value_t = 0, hide_default_value = true)]
    parallel: usize,
}

/// What `verify` takes where the live system changes little from one backup to the next.
#[derive(Args, Debug, Default)]
pub(crate) struct DriftArgs {
    /// Level live, of zones and secrets: warn when the count differs by more
    #[arg(long, value_name = "N")]
    max_drift: Option<u64>,
}

/// What `verify` takes for each kind of system. A program of one system leaves the others as they are.
#[derive(Debug, Default)]
pub(crate) struct VerifyKindArgs {
    pub(crate) server: ServerArgs,
    /// A server for restore tests, where one was named.
    pub(crate) scratch: Option<Setting>,
    pub(crate) drift: DriftArgs,
}

impl VerifyArgs {
    pub(crate) fn options(self, kinds: VerifyKindArgs) -> Result<verify::Options> {
        Ok(verify::Options {
            level: self.level,
            at: self.at.parse()?,
            max_age: self.max_age.map(|text| duration::parse(&text, "--max-age")).transpose()?,
            record: !self.no_record,
            choices: VerifyChoices {
                level: Level::default(),
                scratch_folder: kinds.server.scratch_folder,
                scratch: kinds.scratch,
                jobs: kinds.server.parallel,
                max_drift: kinds.drift.max_drift,
            },
        })
    }
}

fn level() -> impl TypedValueParser<Value = Level> {
    PossibleValuesParser::new(["stored", "structure", "restore", "live"]).try_map(|text| text.parse::<Level>())
}

/// What `restore` takes.
#[derive(Args, Debug)]
pub(crate) struct RestoreArgs {
    /// Which backup: latest, a time or day (the newest that is not younger), or a key
    #[arg(long, value_name = "latest|TIME|KEY", default_value = "latest", hide_default_value = true)]
    at: String,
    /// Where to: a URL, env:NAME (a variable that holds it) or file:PATH
    #[arg(long, value_name = "URL", env = "LIFEBOAT_INTO", hide_env_values = true)]
    into: Secret,
    /// Replace what is there; it goes only after the restored data is known to be good
    #[arg(long)]
    replace: bool,
}

/// What `restore` of a database takes.
#[derive(Args, Debug, Default)]
pub(crate) struct DatabaseArgs {
    /// With --replace: keep what was there under another name
    #[arg(long, requires = "replace")]
    keep_replaced: bool,
    /// How many jobs restore at once; for PostgreSQL more than 1 writes the dump to an unnamed file first
    #[arg(long = "jobs", value_name = "N", default_value_t = 0, hide_default_value = true)]
    parallel: usize,
    /// Do not compare the restored content with the proof
    #[arg(long)]
    skip_proof: bool,
}

/// What `restore` takes for PostgreSQL.
#[derive(Args, Debug, Default)]
pub(crate) struct PostgresRestoreArgs {
    /// Only this table; may be given several times
    #[arg(long = "table", value_name = "TABLE")]
    tables: Vec<String>,
    /// Only this schema; may be given several times
    #[arg(long = "schema", value_name = "SCHEMA")]
    schemas: Vec<String>,
    /// Give everything the owners that it had, instead of the connecting role
    #[arg(long)]
    keep_owners: bool,
    /// Where the dump is spooled when a seekable file is needed
    #[arg(long, value_name = "FOLDER")]
    spool_folder: Option<PathBuf>,
}

/// What `restore` takes where it changes a live system piece by piece.
#[derive(Args, Debug, Default)]
pub(crate) struct PlanArgs {
    /// Carry the plan out; without it the plan is shown and nothing is changed
    #[arg(long)]
    apply: bool,
    /// Also delete what is there and not in the backup
    #[arg(long)]
    delete_extra: bool,
    /// Also restore the settings beside the data, such as those of a zone
    #[arg(long)]
    settings: bool,
}

/// What `restore` of secrets takes.
#[derive(Args, Debug, Default)]
#[command(next_help_heading = "Secrets")]
pub(crate) struct SecretsArgs {
    /// How secrets are written to a file or to standard output: env, json or kubernetes
    #[arg(long, value_name = "FORM")]
    format: Option<String>,
    /// With --format kubernetes: the name of the Secret; without it, the dataset's
    #[arg(long, value_name = "NAME")]
    secret_name: Option<String>,
    /// With --format kubernetes: the namespace of the Secret
    #[arg(long, value_name = "NAME")]
    secret_namespace: Option<String>,
    /// Where a token is that may write: env:NAME or file:PATH; without it, that of the backup
    #[arg(long, value_name = "PLACE")]
    token: Option<String>,
}

impl SecretsArgs {
    pub(crate) fn choices(self, dataset: Option<&Dataset>) -> Result<SecretsChoices> {
        let token = self.token.map(|place| token(Some(&place), "")).transpose()?;
        Ok(SecretsChoices {
            format: self.format,
            name: self.secret_name,
            namespace: self.secret_namespace,
            token,
            dataset: dataset.map(ToString::to_string),
        })
    }
}

/// What `restore` takes for MongoDB.
#[derive(Args, Debug, Default)]
pub(crate) struct MongodbRestoreArgs {
    /// Only this collection, as in orders or shop.orders; may hold `*`, and may be given several times
    #[arg(long = "collection", value_name = "PATTERN")]
    collections: Vec<String>,
    /// Rename collections: those that fit this pattern, as in 'shop.*' or '$db$.orders'; in pairs with --ns-to
    #[arg(long, value_name = "PATTERN")]
    ns_from: Vec<String>,
    /// What they become, as in 'copy.*' or 'copy.$db$'
    #[arg(long, value_name = "PATTERN")]
    ns_to: Vec<String>,
    /// Build no indexes but the one that each collection has
    #[arg(long)]
    no_indexes: bool,
    /// Do not replay what was written during the backup (of one with an oplog): collections are then as they were read, each at
    /// its own time
    #[arg(long)]
    no_oplog_replay: bool,
    /// Restore users and roles as well: those that are there already become as they are in the backup, others stay
    #[arg(long)]
    users_and_roles: bool,
}

/// What `restore` takes for Velero.
#[derive(Args, Debug, Default)]
pub(crate) struct VeleroRestoreArgs {
    /// Only this namespace; may be given several times, like the others
    #[arg(long = "namespace", value_name = "NAME")]
    namespaces: Vec<String>,
    /// All namespaces but this
    #[arg(long = "exclude-namespace", value_name = "NAME")]
    exclude_namespaces: Vec<String>,
    /// Restore a namespace into another, as in shop=shop-again
    #[arg(long = "map", value_name = "FROM=INTO")]
    maps: Vec<String>,
    /// Only this resource, as in configmaps or deployments.apps
    #[arg(long = "resource", value_name = "NAME")]
    resources: Vec<String>,
    /// All resources but this
    #[arg(long = "exclude-resource", value_name = "NAME")]
    exclude_resources: Vec<String>,
    /// Only objects with this label
    #[arg(long = "label", value_name = "KEY=VALUE")]
    labels: Vec<String>,
    /// Whether resources outside of namespaces are restored; without it, Velero decides
    #[arg(long, value_name = "true|false", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    cluster_resources: Option<bool>,
    /// What becomes of an object that is there: keep leaves it, update changes it to what it was
    #[arg(long, value_name = "keep|update", default_value = "keep", hide_default_value = true, value_parser = ["keep", "update"])]
    existing: String,
    /// Whether persistent volumes come back from their snapshots; without it, Velero decides
    #[arg(long, value_name = "true|false", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    restore_volumes: Option<bool>,
    /// How long Velero has for it, as in 30min
    #[arg(long, value_name = "TIME")]
    limit: Option<String>,
}

impl VeleroRestoreArgs {
    fn choices(self) -> Result<velero_backend::Choices> {
        Ok(velero_backend::Choices {
            namespaces: self.namespaces,
            exclude_namespaces: self.exclude_namespaces,
            maps: self.maps,
            resources: self.resources,
            exclude_resources: self.exclude_resources,
            labels: self.labels,
            cluster_resources: self.cluster_resources,
            update_existing: self.existing == "update",
            restore_volumes: self.restore_volumes,
            limit: self.limit.map(|text| duration::parse(&text, "--limit")).transpose()?,
        })
    }
}

/// A server for restore tests.
#[derive(Args, Debug)]
pub(crate) struct ScratchArg {
    /// A MongoDB server for restore tests, where there is no mongod: only databases of its own are made there, and dropped. A
    /// URL, env:NAME or file:PATH
    #[arg(long, value_name = "URL", env = "LIFEBOAT_SCRATCH_URL", hide_env_values = true)]
    scratch: Option<Secret>,
}

impl ScratchArg {
    pub(crate) fn setting(self, session: &Session) -> Option<Setting> {
        self.scratch.map(|url| url.setting("--scratch", "LIFEBOAT_SCRATCH_URL", session))
    }
}

/// What `restore` takes for each kind of system. A program of one system leaves the others as they are.
#[derive(Debug, Default)]
pub(crate) struct KindArgs {
    pub(crate) database: DatabaseArgs,
    pub(crate) postgres: PostgresRestoreArgs,
    pub(crate) mongodb: MongodbRestoreArgs,
    pub(crate) plan: PlanArgs,
    pub(crate) velero: VeleroRestoreArgs,
}

impl RestoreArgs {
    pub(crate) fn options(self, kinds: KindArgs, session: &Session) -> Result<restore::Options> {
        let KindArgs { database, postgres, mongodb, plan, velero } = kinds;
        Ok(restore::Options {
            at: self.at.parse()?,
            into: self.into.setting("--into", "LIFEBOAT_INTO", session),
            apply: plan.apply,
            choices: RestoreChoices {
                replace: self.replace,
                keep_replaced: database.keep_replaced,
                jobs: database.parallel,
                skip_proof: database.skip_proof,
                tables: postgres.tables,
                schemas: postgres.schemas,
                keep_owners: postgres.keep_owners,
                spool_folder: postgres.spool_folder,
                mongodb: Choices {
                    collections: mongodb.collections,
                    ns_from: mongodb.ns_from,
                    ns_to: mongodb.ns_to,
                    no_indexes: mongodb.no_indexes,
                    no_oplog_replay: mongodb.no_oplog_replay,
                    users_and_roles: mongodb.users_and_roles,
                },
                delete_extra: plan.delete_extra,
                settings: plan.settings,
                secrets: SecretsChoices::default(),
                velero: velero.choices()?,
            },
        })
    }
}

/// What `prune` takes.
#[derive(Args, Debug)]
pub(crate) struct PruneArgs {
    /// Show what would be deleted, and delete nothing
    #[arg(long)]
    dry_run: bool,
    /// Also remove what killed runs have left behind
    #[arg(long)]
    orphans: bool,
    /// How old a leftover must be: a run that goes on looks like one that was killed
    #[arg(long, value_name = "AGE", default_value = "24h", requires = "orphans")]
    orphan_age: String,
}

impl PruneArgs {
    pub(crate) fn options(&self) -> Result<prune::Options> {
        let age = duration::parse(&self.orphan_age, "--orphan-age")?;
        Ok(prune::Options { dry_run: self.dry_run, orphans: self.orphans.then_some(age) })
    }
}

/// Commands about the program itself.
#[derive(Debug, Subcommand)]
pub(crate) enum About {
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Write the manual pages into a folder
    Man {
        /// The folder; it is made when it does not exist
        folder: PathBuf,
    },
}

impl About {
    pub(crate) fn run<P: CommandFactory>(self, session: &Session) -> Result<Exit> {
        match self {
            Self::Completions { shell } => crate::commands::completions::print(P::command(), shell, session),
            Self::Man { folder } => crate::commands::completions::write_man(P::command(), &folder, session),
        }
    }
}

/// A URL that may hold a password: neither printed nor shown by `Debug`.
#[derive(Clone, Debug)]
pub(crate) struct Secret(SecretString);

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self(text.to_owned().into())
    }
}

impl Secret {
    /// The place that it names, or itself. A password among the arguments can be read by every user of the machine in
    /// `/proc`: there is a warning.
    pub(crate) fn setting(&self, flag: &str, variable: &str, session: &Session) -> Setting {
        let text = self.0.expose_secret();
        let is_argument = std::env::args_os().any(|a| a.to_string_lossy().ends_with(text));
        let place = if is_argument { flag } else { variable };
        if let Some(name) = text.strip_prefix("env:") {
            return Setting::argument(format!("${{{name}}}"), place);
        }
        if is_argument && holds_password(text) {
            session.output.warn(&format!(
                "the URL of {flag} holds a password, which every user of this machine can read while this runs: put it into a \
                 variable and write {flag} env:NAME, or set {variable}"
            ));
        }
        // What looks like a variable in a URL is part of it.
        Setting::argument(text.replace("${", "$${"), place)
    }
}

fn holds_password(text: &str) -> bool {
    // Several hosts, as MongoDB has them, are no URL.
    let user = text.split_once("://").and_then(|(_, rest)| rest.rsplit_once('@'));
    user.is_some_and(|(user, _)| user.contains(':'))
        || Url::parse(text)
            .is_ok_and(|url| url.password().is_some() || url.query_pairs().any(|(name, _)| name == "password"))
}

/// Where a token is: `env:NAME` or `file:PATH`; in `variable` where nobody says.
///
/// # Errors
/// [`ErrorKind::Config`] for anything else, which may be the token itself and is not printed.
pub(crate) fn token(place: Option<&str>, variable: &str) -> Result<Setting> {
    match place.map(|p| (p, p.split_once(':'))) {
        None => Ok(Setting::argument(format!("${{{variable}}}"), variable)),
        Some((_, Some(("env", name)))) if !name.is_empty() => Ok(Setting::argument(format!("${{{name}}}"), name)),
        Some((place, Some(("file", path)))) if !path.is_empty() => Ok(Setting::argument(place, "--token")),
        Some(_) => Err(Error::new(ErrorKind::Config, "use", "--token", "it does not take a token itself")
            .hint("put it into a variable or a file of mode 0600, and write --token env:NAME or --token file:PATH")),
    }
}

/// The limits of a verification that no config file sets.
pub(crate) fn no_limits() -> Limits {
    Limits::default()
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_lines_hold_together() {
        cloudflare::LifeboatCloudflareDns::command().debug_assert();
        configured::Lifeboat::command().debug_assert();
        doppler::LifeboatDoppler::command().debug_assert();
        mongodb::LifeboatMongodb::command().debug_assert();
        postgres::LifeboatPostgres::command().debug_assert();
        velero::LifeboatVelero::command().debug_assert();
    }

    #[test]
    fn a_url_is_not_shown() {
        let secret = Secret::from("postgres://u:hunter2@h/d");
        assert!(!format!("{secret:?}").contains("hunter2"));
        assert!(holds_password("postgres://u:hunter2@h/d"));
        assert!(holds_password("postgres://u@h/d?password=hunter2"));
        assert!(!holds_password("postgres://u@h/d?sslmode=require"));
        assert!(holds_password("mongodb://u:hunter2@a:27017,b:27017/d"));
        assert!(!holds_password("mongodb://u@a:27017,b:27017/d"));
        assert!(!holds_password("env:NAME"));
    }
}
