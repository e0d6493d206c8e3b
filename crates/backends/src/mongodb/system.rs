//! MongoDB as a system: one database, or all of a deployment.

use std::path::PathBuf;

use async_trait::async_trait;
use lifeboat_core::Field;
#[cfg(feature = "cli")]
use lifeboat_core::cli::CONTENTS;
use lifeboat_core::system::{NamedTarget, Opening, System};
use lifeboat_core::words::Noun;
use lifeboat_core::{
    ArtifactName, Check, Dataset, Error, ErrorKind, Level, Manifest, Result, Setting, Source, Verifier, setting,
};
use serde::Deserialize;

use super::selection::{self, Consistency, Query};
use super::{Connection, Mongo, MongoTarget, MongoVerifier, RestoreOptions, VerifierOptions};

/// The variable with a server for restore tests.
const SCRATCH: &str = "LIFEBOAT_SCRATCH_URL";

lifeboat_core::described! {
/// Which deployment to back up, and what from it.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct MongoSettings {
    /// The deployment and database: a URL mongodb://user:password@host:port/database or mongodb+srv://…, env:NAME (a variable
    /// that holds it) or file:PATH; without a database all of them
    #[serde(deserialize_with = "setting::required")]
    #[cfg_attr(feature = "cli", arg(long = "from", value_name = "URL", env = "LIFEBOAT_FROM", hide_env_values = true))]
    pub url: Option<Setting>,
    /// The database, when the URL names another one or none
    // The URL's database may only be the authentication database.
    #[serde(default)]
    #[cfg_attr(feature = "cli", arg(long, value_name = "NAME"))]
    pub database: Option<String>,
    /// A server for restore tests, where there is no mongod: only databases of its own are made there, and dropped
    #[serde(default)]
    #[cfg_attr(feature = "cli", arg(skip))]
    pub scratch: Option<Setting>,
    /// Only this collection; may hold `*`, and may be given several times, like the others
    #[serde(default)]
    #[cfg_attr(feature = "cli", arg(long = "collection", value_name = "PATTERN", help_heading = CONTENTS))]
    pub collections: Vec<String>,
    /// Every collection except this one
    #[serde(default)]
    #[cfg_attr(feature = "cli", arg(long = "exclude-collection", value_name = "PATTERN", help_heading = CONTENTS))]
    pub exclude_collections: Vec<String>,
    /// Every database except this one
    #[serde(default)]
    #[cfg_attr(feature = "cli", arg(long = "exclude-database", value_name = "PATTERN", help_heading = CONTENTS))]
    pub exclude_databases: Vec<String>,
    /// Only those documents of a collection that match a filter, as in 'orders={"status": "open"}'
    #[serde(default, deserialize_with = "selection::queries")]
    #[cfg_attr(feature = "cli", arg(long = "query", value_name = "COLLECTION=JSON", help_heading = CONTENTS))]
    pub queries: Vec<Query>,
    /// How consistent the collections are with each other: auto (a snapshot where there can be one), snapshot or none
    #[serde(default)]
    #[cfg_attr(feature = "cli", arg(long, value_name = "HOW", value_enum, help_heading = CONTENTS))]
    pub consistency: Option<Consistency>,
    /// Also record what is written during the backup, for a restore to replay; only for a whole replica set
    #[serde(default)]
    #[cfg_attr(feature = "cli", arg(long, help_heading = CONTENTS))]
    pub oplog: bool,
    /// Whether to include users and roles; by default yes for all databases, no for a single one
    // They contain password hashes: such a backup is never stored unencrypted.
    #[serde(default)]
    #[cfg_attr(
        feature = "cli",
        arg(long, value_name = "yes|no", value_parser = cli::yes_or_no(), help_heading = CONTENTS)
    )]
    pub users_and_roles: Option<bool>,
    /// How many collections are read at once; 0 means 4
    #[serde(default)]
    #[cfg_attr(feature = "cli", arg(long, value_name = "N", help_heading = CONTENTS))]
    pub cursors: Option<usize>,
}
}

lifeboat_core::setters!(MongoSettings {
    url: Option<Setting>,
    database: Option<String>,
    scratch: Option<Setting>,
    collections: Vec<String>,
    exclude_collections: Vec<String>,
    exclude_databases: Vec<String>,
    queries: Vec<Query>,
    consistency: Option<Consistency>,
    oplog: bool,
    users_and_roles: Option<bool>,
    cursors: Option<usize>,
});

/// Options for verifying an artifact.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct VerifyOptions {
    /// The folder for the scratch server's data
    #[cfg_attr(feature = "cli", arg(long, value_name = "FOLDER"))]
    pub scratch_folder: Option<PathBuf>,
    /// How many connections insert at once; 0 means 4
    #[cfg_attr(feature = "cli", arg(long, value_name = "N", default_value_t = 0, hide_default_value = true))]
    pub jobs: usize,
    /// A MongoDB server for restore tests, where there is no mongod: only databases of its own are made there, and dropped. A
    /// URL, env:NAME or file:PATH
    #[cfg_attr(feature = "cli", arg(long, value_name = "URL", env = SCRATCH, hide_env_values = true))]
    pub scratch: Option<Setting>,
}

lifeboat_core::setters!(VerifyOptions { scratch_folder: Option<PathBuf>, jobs: usize, scratch: Option<Setting> });

/// MongoDB: one database through the driver, or all of a deployment.
#[derive(Clone, Debug)]
pub struct MongoSystem {
    settings: MongoSettings,
}

impl MongoSystem {
    fn connection(&self) -> Result<Connection> {
        let Some(url) = &self.settings.url else {
            return Err(Error::new(ErrorKind::Config, "find", "the database", "no URL was given").hint(
                "give --from env:NAME, where the variable NAME holds mongodb://user:password@host/database; or set LIFEBOAT_FROM",
            ));
        };
        let connection = url.read(Connection::parse)?;
        Ok(match &self.settings.database {
            Some(database) => connection.with_database(database),
            None => connection,
        })
    }

    fn deployment(&self) -> Result<Mongo> {
        Mongo::new(self.connection()?).options(self.settings.clone())
    }
}

#[async_trait]
impl System for MongoSystem {
    const NAME: &'static str = super::SYSTEM;
    const TITLE: &'static str = "MongoDB";
    const ABOUT: &'static str = "Backs up a MongoDB database, or all of them, and proves that each backup restores";
    const EXAMPLE: &'static str = "mongodb = { url = \"${SHOP_URL}\" }";

    type Settings = MongoSettings;
    type Restore = RestoreOptions;
    type Verify = VerifyOptions;

    fn tables() -> Vec<(&'static str, &'static [Field])> {
        vec![("", MongoSettings::FIELDS)]
    }

    fn unit(kind: &str) -> Option<Noun> {
        super::unit(kind)
    }

    fn open(settings: MongoSettings, _: &Opening<'_>) -> Result<Self> {
        settings.check()?;
        Ok(Self { settings })
    }

    fn formats() -> &'static [&'static str] {
        &["archive"]
    }

    fn dataset(&self) -> Result<Option<Dataset>> {
        if self.settings.url.is_none() {
            return Ok(None);
        }
        let connection = self.connection()?;
        Dataset::new(connection.database().unwrap_or("all-databases")).map(Some).map_err(|error| {
            let hint = "the database's name cannot name a dataset: give one with --dataset NAME";
            error.hint(hint)
        })
    }

    fn confidential(&self) -> Option<&'static str> {
        // Where the deployment is unknown, so is this.
        let source = self.deployment().ok()?;
        source.is_confidential().then_some(
            "it holds the password hashes of users (unless they are left out: --users-and-roles no, or users_and_roles = false)",
        )
    }

    async fn source(&self) -> Result<Box<dyn Source>> {
        Ok(Box::new(self.deployment()?))
    }

    async fn target(&self, into: &Setting, choices: RestoreOptions, dataset: &Dataset) -> Result<NamedTarget> {
        let connection = into.read(Connection::parse)?;
        // Where the live system is lost, its URL may be too: then the dataset's name is all there is.
        let live = self.connection().ok();
        let live = live.as_ref().and_then(Connection::database);
        let own: Vec<&str> = [dataset.as_str()].into_iter().chain(live).collect();
        // Without a name in the URL, everything goes into the databases that it came from.
        let replaces = match connection.database() {
            Some(database) => choices.replace.allows(database, &own)?,
            None => choices.replace.is_given(),
        };
        let name = connection.redacted();
        Ok(NamedTarget::new(MongoTarget::new(connection, choices)?, name).replaces(replaces))
    }

    async fn verifier(&self, level: Level, choices: VerifyOptions) -> Result<Box<dyn Verifier>> {
        let VerifyOptions { scratch_folder, jobs, scratch } = choices;
        let live = if level == Level::Live { Some(self.connection()?) } else { None };
        let scratch = match scratch.as_ref().or(self.settings.scratch.as_ref()) {
            Some(url) if level == Level::Restore => Some(url.read(Connection::parse)?),
            _ => None,
        };
        Ok(Box::new(MongoVerifier::new(VerifierOptions { scratch, scratch_folder, live, jobs })))
    }

    async fn check(&self) -> Vec<Check> {
        let of_environment = || std::env::var_os(SCRATCH).map(|_| Setting::variable_named(SCRATCH));
        let named = self.settings.scratch.clone().or_else(of_environment);
        let scratch = match named.map(|url| url.read(Connection::parse)).transpose() {
            Ok(scratch) => scratch,
            Err(error) => return vec![Check::from_error("scratch server", &error)],
        };
        match self.connection() {
            Ok(connection) => super::check(&connection, &self.settings, scratch.as_ref()).await,
            Err(error) => vec![Check::from_error("server", &error)],
        }
    }

    fn stock_restore(&self, name: &ArtifactName, manifest: Option<&Manifest>) -> String {
        super::stock_restore(name, manifest.map(|manifest| &manifest.source.facts)).to_owned()
    }
}

#[cfg(feature = "cli")]
mod cli {
    use clap::Command;
    use clap::builder::{PossibleValuesParser, TypedValueParser};
    use lifeboat_core::cli::{Commands, NoVerbs};

    use super::MongoSystem;

    pub(super) fn yes_or_no() -> impl TypedValueParser<Value = bool> {
        PossibleValuesParser::new(["yes", "no"]).map(|said| said == "yes")
    }

    impl Commands for MongoSystem {
        type Verbs = NoVerbs;

        fn shape(command: Command) -> Command {
            match command.get_name() {
                "" => command.after_help(
                    "\
Examples:
  export LIFEBOAT_FROM=mongodb://backup:password@db.example/shop?authSource=admin
  lifeboat-mongodb backup --sink file:///backups --encrypt age:age1…
  lifeboat-mongodb verify --dataset shop --sink file:///backups --identity key.txt",
                ),
                "backup" => command.after_help(
                    "\
Examples:
  lifeboat-mongodb backup --from env:SHOP_URL --sink file:///backups --encrypt age:age1…
  lifeboat-mongodb backup --from env:SHOP_URL --sink s3://backups --encrypt openssl:env:PASSPHRASE
  lifeboat-mongodb backup --from env:SHOP_URL --exclude-collection 'log_*' --sink file:///backups --encrypt none",
                ),
                "show" => command
                    .mut_arg("items", |arg| {
                        let help =
                            "Also list the contents (collections with their documents); needs the key if it is encrypted";
                        arg.help(help)
                    })
                    .mut_arg("item", |arg| {
                        let help =
                            "Write the documents of one collection to standard output as BSON, compared with its proof";
                        arg.help(help)
                    }),
                "verify" => command.after_help(
                    "\
Levels:
  stored      it is there, young enough, and has the size and SHA-256 of its manifest
  structure   it decrypts, decompresses, parses to its end and agrees with its proof
  restore     it restores into a scratch server, and the content equals the proof (the default)
  live        how far the live database has drifted from it (needs --from)

Examples:
  lifeboat-mongodb verify --dataset shop --sink file:///backups --identity key.txt
  lifeboat-mongodb verify --dataset shop --sink file:///backups --scratch env:SCRATCH_URL
  lifeboat-mongodb verify --dataset shop --sink file:///backups --level stored --max-age 2d",
                ),
                "restore" => command.after_help(
                    "\
Examples:
  lifeboat-mongodb restore --dataset shop --sink file:///backups --identity key.txt --into env:NEW
  lifeboat-mongodb restore --dataset shop --sink file:///backups --into env:SHOP_URL --replace
  lifeboat-mongodb restore --dataset shop --sink file:///backups --into env:URL --ns-from 'shop.*' --ns-to 'copy.*'",
                ),
                "check" => command.about("Check the sink, the database, the keys and the tools").after_help(
                    "\
Examples:
  lifeboat-mongodb check --from env:SHOP_URL --sink file:///backups --encrypt age:age1…
  lifeboat-mongodb check --from env:SHOP_URL --sink s3://backups --encrypt age-file:keys.txt",
                ),
                _ => command,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use lifeboat_core::system::NoSinks;
    use serde_json::{Value, from_value, json};

    use super::*;

    fn open(table: Value) -> Result<MongoSystem> {
        MongoSystem::open(from_value(table).unwrap(), &Opening::of_table(&NoSinks))
    }

    #[test]
    fn a_table_has_the_keys_of_the_settings() {
        let settings: MongoSettings = from_value(json!({
            "url": "${SHOP_URL}",
            "database": "shop",
            "scratch": "${SCRATCH_URL}",
            "collections": ["orders"],
            "exclude_collections": ["log_*"],
            "exclude_databases": ["old"],
            "queries": { "orders": "{}" },
            "consistency": "snapshot",
            "oplog": true,
            "cursors": 2,
            "users_and_roles": false,
        }))
        .unwrap();
        assert_eq!(settings.url.unwrap().raw(), "${SHOP_URL}");
        assert_eq!(settings.queries, [Query::new("orders", "{}")]);
        assert_eq!((settings.consistency, settings.cursors), (Some(Consistency::Snapshot), Some(2)));
        assert_eq!(settings.users_and_roles, Some(false));
        from_value::<MongoSettings>(json!({ "url": "x" })).unwrap();
        for wrong in
            [json!({}), json!({ "url": "x", "collection": "y" }), json!({ "url": "x", "consistency": "so-so" })]
        {
            assert!(from_value::<MongoSettings>(wrong.clone()).is_err(), "{wrong}");
        }
        assert!(from_value::<VerifyOptions>(json!({ "max_drift": 1 })).is_err());
        assert!(from_value::<RestoreOptions>(json!({ "tables": [] })).is_err());
    }

    #[test]
    fn what_is_wrong_without_any_variable_is_found_when_it_is_opened() {
        assert!(open(json!({ "url": "${NOT_SET}", "oplog": true })).is_ok());
        for wrong in [
            json!({ "url": "${NOT_SET}", "queries": { "shop.orders": "{" } }),
            json!({ "url": "${NOT_SET}", "oplog": true, "collections": ["shop.*"] }),
            json!({ "url": "${NOT_SET}", "oplog": true, "database": "shop" }),
        ] {
            assert_eq!(open(wrong.clone()).unwrap_err().kind(), ErrorKind::Config, "{wrong}");
        }
    }

    #[test]
    fn the_dataset_is_the_database_or_all_of_them() {
        let dataset = |table| open(table).unwrap().dataset().unwrap().unwrap().to_string();
        assert_eq!(dataset(json!({ "url": "mongodb://h/shop" })), "shop");
        assert_eq!(dataset(json!({ "url": "mongodb://h/admin", "database": "shop" })), "shop");
        assert_eq!(dataset(json!({ "url": "mongodb://h" })), "all-databases");
        let nowhere = MongoSystem::open(MongoSettings::default(), &Opening::of_flags(&NoSinks)).unwrap();
        assert_eq!(nowhere.dataset().unwrap(), None);
        assert_eq!(nowhere.connection().unwrap_err().message(), "no URL was given");
    }

    #[test]
    fn users_make_a_backup_confidential() {
        assert!(open(json!({ "url": "mongodb://h" })).unwrap().confidential().is_some());
        assert!(open(json!({ "url": "mongodb://h", "users_and_roles": false })).unwrap().confidential().is_none());
        assert!(open(json!({ "url": "mongodb://h/shop" })).unwrap().confidential().is_none());
        assert!(open(json!({ "url": "${LIFEBOAT_TEST_NOT_SET}" })).unwrap().confidential().is_none());
    }

    #[cfg(feature = "cli")]
    mod flags {
        use clap::{Args, Command, FromArgMatches};

        use super::*;

        #[test]
        fn the_commands_hold_together() {
            MongoSettings::augment_args(Command::new("check")).debug_assert();
            VerifyOptions::augment_args(MongoSettings::augment_args(Command::new("verify"))).debug_assert();
            RestoreOptions::augment_args(Command::new("restore")).debug_assert();
        }

        fn settings(flags: &[&str]) -> Result<MongoSettings, clap::Error> {
            let command = MongoSettings::augment_args(Command::new("backup").no_binary_name(true));
            MongoSettings::from_arg_matches(&command.try_get_matches_from(flags)?)
        }

        #[test]
        fn flags_say_what_a_table_says() {
            let said = settings(&[
                "--query",
                "orders={\"a\": \"=\"}",
                "--query=people={}",
                "--users-and-roles",
                "no",
                "--consistency=none",
            ])
            .unwrap();
            assert_eq!(said.queries, [Query::new("orders", "{\"a\": \"=\"}"), Query::new("people", "{}")]);
            assert_eq!((said.users_and_roles, said.consistency), (Some(false), Some(Consistency::None)));
            assert_eq!(settings(&[]).unwrap().cursors, None);
            assert!(settings(&["--query", "orders"]).unwrap_err().to_string().contains("it has no ="));
            assert!(settings(&["--users-and-roles", "maybe"]).is_err());
        }
    }
}
