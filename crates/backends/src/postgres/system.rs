//! PostgreSQL as a system: one database, or the roles and tablespaces of a server.

use std::path::PathBuf;

use async_trait::async_trait;
use lifeboat_core::Field;
use lifeboat_core::pipeline::TreeLayout;
use lifeboat_core::system::{NamedTarget, Opening, System};
use lifeboat_core::words::Noun;
use lifeboat_core::{
    ArtifactName, Check, Dataset, Error, ErrorKind, Level, Manifest, Result, Setting, Source, Verifier, setting,
};
use serde::Deserialize;

use super::{Connection, Globals, Postgres, PostgresTarget, PostgresVerifier, RestoreOptions, VerifierOptions};

lifeboat_core::described! {
/// Which database to dump, and what from it. Names are patterns, as in pg_dump's options of the same names.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct PostgresSettings {
    /// The database: a URL postgres://user:password@host:port/database, env:NAME (a variable that holds it) or file:PATH
    #[serde(deserialize_with = "setting::required")]
    #[cfg_attr(feature = "cli", arg(long = "from", value_name = "URL", env = "LIFEBOAT_FROM", hide_env_values = true))]
    pub url: Option<Setting>,
    /// The server's roles and tablespaces instead of a database, as a separate dataset (pg_dumpall --globals-only)
    #[serde(default)]
    #[cfg_attr(feature = "cli", arg(long))]
    pub globals: bool,
    /// Only this schema; may be given several times, like the others
    #[serde(default)]
    #[cfg_attr(feature = "cli", arg(long = "schema", value_name = "PATTERN", help_heading = CONTENTS))]
    pub schemas: Vec<String>,
    /// Every schema except this one
    #[serde(default)]
    #[cfg_attr(feature = "cli", arg(long = "exclude-schema", value_name = "PATTERN", help_heading = CONTENTS))]
    pub exclude_schemas: Vec<String>,
    /// Only this table
    #[serde(default)]
    #[cfg_attr(feature = "cli", arg(long = "table", value_name = "PATTERN", help_heading = CONTENTS))]
    pub tables: Vec<String>,
    /// Every table except this one
    #[serde(default)]
    #[cfg_attr(feature = "cli", arg(long = "exclude-table", value_name = "PATTERN", help_heading = CONTENTS))]
    pub exclude_tables: Vec<String>,
    /// The definition of this table without its rows
    #[serde(default)]
    #[cfg_attr(feature = "cli", arg(long, value_name = "PATTERN", help_heading = CONTENTS))]
    pub exclude_table_data: Vec<String>,
    /// A further argument for pg_dump, as it is
    #[serde(default)]
    #[cfg_attr(
        feature = "cli",
        arg(long = "pg-dump-arg", value_name = "ARGUMENT", allow_hyphen_values = true, help_heading = CONTENTS)
    )]
    pub extra_args: Vec<String>,
}
}

lifeboat_core::setters!(PostgresSettings {
    url: Option<Setting>,
    globals: bool,
    schemas: Vec<String>,
    exclude_schemas: Vec<String>,
    tables: Vec<String>,
    exclude_tables: Vec<String>,
    exclude_table_data: Vec<String>,
    extra_args: Vec<String>,
});

#[cfg(feature = "cli")]
use lifeboat_core::cli::CONTENTS;

/// Options for verifying an artifact.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct VerifyOptions {
    /// The folder for the scratch server's data
    #[cfg_attr(feature = "cli", arg(long, value_name = "FOLDER"))]
    pub scratch_folder: Option<PathBuf>,
    /// How many tables are restored and compared at once; 0 chooses by the machine
    #[cfg_attr(feature = "cli", arg(long, value_name = "N", default_value_t = 0, hide_default_value = true))]
    pub jobs: usize,
}

lifeboat_core::setters!(VerifyOptions { scratch_folder: Option<PathBuf>, jobs: usize });

/// PostgreSQL: one database through pg_dump, or the roles and tablespaces of a server.
#[derive(Clone, Debug)]
pub struct PostgresSystem {
    settings: PostgresSettings,
}

impl PostgresSystem {
    fn connection(&self) -> Result<Connection> {
        match &self.settings.url {
            Some(url) => url.read(Connection::parse),
            None => Err(Error::new(ErrorKind::Config, "find", "the database", "no URL was given").hint(
                "give --from env:NAME, where the variable NAME holds postgres://user:password@host/database; or set LIFEBOAT_FROM",
            )),
        }
    }
}

#[async_trait]
impl System for PostgresSystem {
    const NAME: &'static str = super::SYSTEM;
    const TITLE: &'static str = "PostgreSQL";
    const ABOUT: &'static str = "Backs up one PostgreSQL database, and proves that each backup restores";
    const EXAMPLE: &'static str = "postgres = { url = \"${SHOP_URL}\" }";

    type Settings = PostgresSettings;
    type Restore = RestoreOptions;
    type Verify = VerifyOptions;

    fn tables() -> Vec<(&'static str, &'static [Field])> {
        vec![("", PostgresSettings::FIELDS)]
    }

    fn unit(kind: &str) -> Option<Noun> {
        super::unit(kind)
    }

    fn open(settings: PostgresSettings, _: &Opening<'_>) -> Result<Self> {
        if settings.globals && !settings.is_whole_database() {
            let why = "roles and tablespaces are dumped whole: schemas, tables and extra arguments do not apply";
            return Err(Error::new(ErrorKind::Config, "use", "globals", why).hint("set them in a job for the database"));
        }
        settings.check()?;
        Ok(Self { settings })
    }

    fn formats() -> &'static [&'static str] {
        &["dump", "sql", "globals.sql"]
    }

    fn dataset(&self) -> Result<Option<Dataset>> {
        if self.settings.url.is_none() {
            return Ok(None);
        }
        if self.settings.globals {
            return Dataset::new("globals").map(Some);
        }
        Dataset::new(self.connection()?.database()).map(Some).map_err(|error| {
            let hint = "the database's name cannot name a dataset: give one with --dataset NAME";
            error.hint(hint)
        })
    }

    async fn source(&self) -> Result<Box<dyn Source>> {
        let connection = self.connection()?;
        if self.settings.globals {
            return Ok(Box::new(Globals::new(connection)));
        }
        Ok(Box::new(Postgres::new(connection).options(self.settings.clone())?))
    }

    async fn target(&self, into: &Setting, choices: RestoreOptions, dataset: &Dataset) -> Result<NamedTarget> {
        let connection = into.read(Connection::parse)?;
        // Where the live system is lost, its URL may be too: then the dataset's name is all there is.
        let live = self.connection().ok();
        let own: Vec<&str> = [dataset.as_str()].into_iter().chain(live.as_ref().map(Connection::database)).collect();
        let replaces = choices.replace.allows(connection.database(), &own)?;
        let name = connection.redacted();
        let target = PostgresTarget::new(connection, choices).globals(self.settings.globals);
        Ok(NamedTarget::new(target, name).replaces(replaces))
    }

    async fn verifier(&self, level: Level, choices: VerifyOptions) -> Result<Box<dyn Verifier>> {
        let live = if level == Level::Live { Some(self.connection()?) } else { None };
        let VerifyOptions { scratch_folder, jobs } = choices;
        Ok(Box::new(PostgresVerifier::new(VerifierOptions {
            scratch_folder,
            live,
            jobs,
            globals: self.settings.globals,
        })))
    }

    async fn check(&self) -> Vec<Check> {
        match self.connection() {
            Ok(connection) => super::check(&connection, &self.settings).await,
            Err(error) => vec![Check::from_error("server", &error)],
        }
    }

    fn layouts() -> Vec<TreeLayout> {
        vec![super::archive_layout()]
    }

    fn stock_restore(&self, name: &ArtifactName, _: Option<&Manifest>) -> String {
        super::stock_restore(name).to_owned()
    }

    fn stock_caution(&self, name: &ArtifactName, manifest: Option<&Manifest>) -> Option<&'static str> {
        super::stock_caution(name, manifest.is_some())
    }
}

#[cfg(feature = "cli")]
mod cli {
    use clap::Command;
    use lifeboat_core::cli::{Commands, NoVerbs};

    use super::PostgresSystem;

    impl Commands for PostgresSystem {
        type Verbs = NoVerbs;

        fn shape(command: Command) -> Command {
            let examples = match command.get_name() {
                "" => {
                    "\
Examples:
  export LIFEBOAT_FROM=postgres://backup:password@db.example/shop
  lifeboat-postgres backup --sink file:///backups --encrypt age:age1…
  lifeboat-postgres verify --dataset shop --sink file:///backups --identity key.txt"
                }
                "backup" => {
                    "\
Examples:
  lifeboat-postgres backup --from env:SHOP_URL --sink file:///backups --encrypt age:age1…
  lifeboat-postgres backup --from env:SHOP_URL --sink s3://backups --encrypt openssl:env:PASSPHRASE
  lifeboat-postgres backup --from env:SHOP_URL --globals --sink file:///backups --encrypt none"
                }
                "restore" => {
                    "\
Examples:
  lifeboat-postgres restore --dataset shop --sink file:///backups --identity key.txt --into env:NEW
  lifeboat-postgres restore --dataset shop --sink file:///backups --into env:SHOP_URL --replace
  lifeboat-postgres restore --dataset shop --sink file:///backups --into env:SHOP_URL --table public.orders"
                }
                "check" => {
                    "\
Examples:
  lifeboat-postgres check --from env:SHOP_URL --sink file:///backups --encrypt age:age1…
  lifeboat-postgres check --from env:SHOP_URL --sink s3://backups --encrypt age-file:keys.txt"
                }
                _ => return command,
            };
            command.after_help(examples)
        }
    }
}
