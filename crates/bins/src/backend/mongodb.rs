//! MongoDB: one database, or all of a deployment.

use lifeboat::mongodb::{Connection, Mongo, MongoTarget, MongoVerifier, RestoreOptions, VerifierOptions};
use lifeboat::{Check, Dataset, Error, ErrorKind, Level, Result, Source, Verifier};

pub(crate) use lifeboat::mongodb::{Consistency, DumpOptions};

use super::{NamedTarget, RestoreChoices, Topic, VerifyChoices};
use crate::config::setting::Setting;

/// Where the deployment is, and what of it is backed up.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    url: Option<Setting>,
    /// Goes before the one in the URL, which may only be there for the user to be looked up in.
    database: Option<String>,
    scratch: Option<Setting>,
    dump: DumpOptions,
}

/// What only a restore of this system can be asked to do.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Choices {
    pub(crate) collections: Vec<String>,
    pub(crate) ns_from: Vec<String>,
    pub(crate) ns_to: Vec<String>,
    pub(crate) no_indexes: bool,
    pub(crate) no_oplog_replay: bool,
    pub(crate) users_and_roles: bool,
}

impl Settings {
    /// Settings of a job. Without a URL nothing can be backed up, but the rest works.
    pub(crate) fn new(
        url: Option<Setting>,
        database: Option<String>,
        scratch: Option<Setting>,
        dump: DumpOptions,
    ) -> Self {
        Self { url, database, scratch, dump }
    }

    /// Whether it was said where the deployment is.
    pub(crate) fn is_somewhere(&self) -> bool {
        self.url.is_some()
    }

    fn connection(&self) -> Result<Connection> {
        let Some(url) = &self.url else {
            return Err(Error::new(ErrorKind::Config, "find", "the database", "where it is was not said")
                .hint("give --from env:NAME, where the variable NAME holds mongodb://user:password@host/database; or set LIFEBOAT_FROM"));
        };
        let connection = url.read(Connection::parse)?;
        Ok(match &self.database {
            Some(database) => connection.with_database(database),
            None => connection,
        })
    }

    /// What to call the dataset when nobody says.
    pub(crate) fn dataset(&self) -> Result<Dataset> {
        let connection = self.connection()?;
        Dataset::new(connection.database().unwrap_or("all-databases")).map_err(|error| {
            let hint = "the database's name cannot name a dataset: give one with --dataset NAME";
            Error::new(error.kind(), "use", error.subject(), error.message()).hint(hint)
        })
    }

    /// Why a backup is never stored without encryption, if it is not. Where the deployment is unknown, so is this.
    pub(crate) fn confidential(&self) -> Option<&'static str> {
        let source = self.source().ok()?;
        source.is_confidential().then_some(
            "it holds the password hashes of users (unless they are left out: --users-and-roles no, or users_and_roles = false)",
        )
    }

    pub(crate) fn source(&self) -> Result<Box<dyn Source>> {
        Ok(Box::new(Mongo::new(self.connection()?).options(self.dump.clone())?))
    }

    #[allow(clippy::unused_self, reason = "a backend's settings may matter to its target")]
    pub(crate) fn target(&self, into: &Setting, choices: RestoreChoices) -> Result<NamedTarget> {
        let hint = "single collections are chosen with --collection; --replace replaces what is there";
        choices.refuse_all_but(&[Topic::Databases, Topic::Mongodb], "MongoDB", hint)?;
        let connection = into.read(Connection::parse)?;
        let name = connection.redacted();
        let options = RestoreOptions {
            replace: choices.replace,
            keep_replaced: choices.keep_replaced,
            collections: choices.mongodb.collections,
            ns_from: choices.mongodb.ns_from,
            ns_to: choices.mongodb.ns_to,
            no_indexes: choices.mongodb.no_indexes,
            jobs: choices.jobs,
            skip_proof: choices.skip_proof,
            no_oplog_replay: choices.mongodb.no_oplog_replay,
            users_and_roles: choices.mongodb.users_and_roles,
        };
        Ok(NamedTarget { target: Box::new(MongoTarget::new(connection, options)?), name, to_stdout: false })
    }

    pub(crate) fn verifier(&self, choices: &VerifyChoices) -> Result<Box<dyn Verifier>> {
        if choices.max_drift.is_some() {
            return Err(Error::new(ErrorKind::Config, "use", "--max-drift", "it has no meaning for a database")
                .hint("documents are expected to change: a drift of more than 20% is a warning"));
        }
        let live = if choices.level == Level::Live { Some(self.connection()?) } else { None };
        let scratch = match (choices.level, choices.scratch.as_ref().or(self.scratch.as_ref())) {
            (Level::Restore, Some(url)) => Some(url.read(Connection::parse)?),
            _ => None,
        };
        Ok(Box::new(MongoVerifier::new(VerifierOptions {
            scratch,
            scratch_folder: choices.scratch_folder.clone(),
            live,
            jobs: choices.jobs,
        })))
    }

    pub(crate) async fn check(&self) -> Vec<Check> {
        let named = self.scratch.clone().or_else(|| {
            let variable = "LIFEBOAT_SCRATCH_URL";
            std::env::var_os(variable).map(|_| Setting::argument(format!("${{{variable}}}"), variable))
        });
        let scratch = match named.as_ref().map(|url| url.read(Connection::parse)).transpose() {
            Ok(scratch) => scratch,
            Err(error) => return vec![Check::from_error("scratch server", &error)],
        };
        match self.connection() {
            Ok(connection) => lifeboat::mongodb::check(&connection, &self.dump, scratch.as_ref()).await,
            Err(error) => vec![Check::from_error("server", &error)],
        }
    }
}
