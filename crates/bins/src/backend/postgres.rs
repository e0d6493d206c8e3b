//! PostgreSQL: one database, or the roles and tablespaces of a server.

use lifeboat::postgres::{
    Connection, Globals, Postgres, PostgresTarget, PostgresVerifier, RestoreOptions, VerifierOptions,
};
use lifeboat::{Check, Dataset, Error, ErrorKind, Level, Result, Source, Verifier};

pub(crate) use lifeboat::postgres::DumpOptions;

use super::{NamedTarget, RestoreChoices, Topic, VerifyChoices};
use crate::config::setting::Setting;

/// Where the database is, and what of it is dumped.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    url: Option<Setting>,
    globals: bool,
    dump: DumpOptions,
}

impl Settings {
    /// Settings of a job. Without a URL nothing can be backed up, but the rest works.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for options of a dump together with `globals`, which has none.
    pub(crate) fn new(url: Option<Setting>, globals: bool, dump: DumpOptions) -> Result<Self> {
        if globals && dump != DumpOptions::default() {
            let why = "roles and tablespaces are dumped whole: schemas, tables and further arguments have no meaning";
            return Err(Error::new(ErrorKind::Config, "use", "globals", why).hint("give them to a job of the database"));
        }
        Ok(Self { url, globals, dump })
    }

    /// Whether it was said where the database is.
    pub(crate) fn is_somewhere(&self) -> bool {
        self.url.is_some()
    }

    fn connection(&self) -> Result<Connection> {
        match &self.url {
            Some(url) => url.read(Connection::parse),
            None => Err(Error::new(ErrorKind::Config, "find", "the database", "where it is was not said")
                .hint("give --from env:NAME, where the variable NAME holds postgres://user:password@host/database; or set LIFEBOAT_FROM")),
        }
    }

    /// What to call the dataset when nobody says.
    pub(crate) fn dataset(&self) -> Result<Dataset> {
        if self.globals {
            return Dataset::new("globals");
        }
        let connection = self.connection()?;
        Dataset::new(connection.database()).map_err(|error| {
            let hint = "the database's name cannot name a dataset: give one with --dataset NAME";
            Error::new(error.kind(), "use", error.subject(), error.message()).hint(hint)
        })
    }

    pub(crate) fn source(&self) -> Result<Box<dyn Source>> {
        let connection = self.connection()?;
        if self.globals {
            return Ok(Box::new(Globals::new(connection)));
        }
        Ok(Box::new(Postgres::new(connection).options(self.dump.clone())?))
    }

    #[allow(clippy::unused_self, reason = "a backend's settings may matter to its target")]
    pub(crate) fn target(&self, into: &Setting, choices: RestoreChoices) -> Result<NamedTarget> {
        let hint = "it is restored as a whole, or single tables with --table and --schema; --replace replaces one that is there";
        choices.refuse_all_but(&[Topic::Databases, Topic::Postgres], "a PostgreSQL database", hint)?;
        let connection = into.read(Connection::parse)?;
        let name = connection.redacted();
        let options = RestoreOptions {
            replace: choices.replace,
            keep_replaced: choices.keep_replaced,
            jobs: choices.jobs,
            tables: choices.tables,
            schemas: choices.schemas,
            keep_owners: choices.keep_owners,
            skip_proof: choices.skip_proof,
            spool_folder: choices.spool_folder,
        };
        Ok(NamedTarget { target: Box::new(PostgresTarget::new(connection, options)), name, to_stdout: false })
    }

    pub(crate) fn verifier(&self, choices: &VerifyChoices) -> Result<Box<dyn Verifier>> {
        if choices.max_drift.is_some() {
            return Err(Error::new(ErrorKind::Config, "use", "--max-drift", "it has no meaning for a database")
                .hint("rows are expected to change: a drift of more than 20% is a warning"));
        }
        let live = if choices.level == Level::Live { Some(self.connection()?) } else { None };
        Ok(Box::new(PostgresVerifier::new(VerifierOptions {
            scratch_folder: choices.scratch_folder.clone(),
            live,
            jobs: choices.jobs,
        })))
    }

    pub(crate) async fn check(&self) -> Vec<Check> {
        match self.connection() {
            Ok(connection) => lifeboat::postgres::check(&connection, &self.dump).await,
            Err(error) => vec![Check::from_error("server", &error)],
        }
    }
}
