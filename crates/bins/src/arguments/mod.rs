//! The command lines, as clap reads them. What a value means is decided where it is used, so that its error is like every
//! other.

use std::path::PathBuf;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, CommandFactory, Subcommand};
use lifeboat::catalog::At;
use lifeboat::{Level, Result};
use secrecy::{ExposeSecret, SecretString};
use url::Url;

use crate::backend::{RestoreChoices, VerifyChoices};
use crate::commands::{prune, verify};
use crate::config::setting::Setting;
use crate::duration;
use crate::exit::Exit;
use crate::jobs::Limits;
use crate::session::Session;

pub(crate) mod configured;
pub(crate) mod postgres;
pub(crate) mod replicate;
pub(crate) mod single;

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
    /// Where the scratch server has its data
    #[arg(long, value_name = "FOLDER")]
    scratch_folder: Option<PathBuf>,
    /// How many tables are restored and compared at once; 0 chooses by the machine
    #[arg(long = "jobs", value_name = "N", default_value_t = 0, hide_default_value = true)]
    parallel: usize,
    /// Leave no record of the outcome beside the backup
    #[arg(long)]
    no_record: bool,
}

impl VerifyArgs {
    pub(crate) fn options(self) -> Result<verify::Options> {
        Ok(verify::Options {
            level: self.level,
            at: self.at.parse()?,
            max_age: self.max_age.map(|text| duration::parse(&text, "--max-age")).transpose()?,
            record: !self.no_record,
            choices: VerifyChoices {
                level: Level::default(),
                scratch_folder: self.scratch_folder,
                jobs: self.parallel,
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
    /// With --replace: keep what was there under another name
    #[arg(long, requires = "replace")]
    keep_replaced: bool,
    /// How many jobs restore at once; more than 1 writes the dump to an unnamed file first
    #[arg(long = "jobs", value_name = "N", default_value_t = 0, hide_default_value = true)]
    parallel: usize,
    /// Only this table; may be given several times
    #[arg(long = "table", value_name = "TABLE")]
    tables: Vec<String>,
    /// Only this schema; may be given several times
    #[arg(long = "schema", value_name = "SCHEMA")]
    schemas: Vec<String>,
    /// Give everything the owners that it had, instead of the connecting role
    #[arg(long)]
    keep_owners: bool,
    /// Do not compare the restored content with the proof
    #[arg(long)]
    skip_proof: bool,
    /// Where the dump is spooled when a seekable file is needed
    #[arg(long, value_name = "FOLDER")]
    spool_folder: Option<PathBuf>,
}

impl RestoreArgs {
    pub(crate) fn parts(self, session: &Session) -> Result<(At, Setting, RestoreChoices)> {
        let into = self.into.setting("--into", "LIFEBOAT_INTO", session);
        let choices = RestoreChoices {
            replace: self.replace,
            keep_replaced: self.keep_replaced,
            jobs: self.parallel,
            tables: self.tables,
            schemas: self.schemas,
            keep_owners: self.keep_owners,
            skip_proof: self.skip_proof,
            spool_folder: self.spool_folder,
        };
        Ok((self.at.parse()?, into, choices))
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
    Url::parse(text).is_ok_and(|url| url.password().is_some() || url.query_pairs().any(|(name, _)| name == "password"))
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
        configured::Lifeboat::command().debug_assert();
        postgres::LifeboatPostgres::command().debug_assert();
    }

    #[test]
    fn a_url_is_not_shown() {
        let secret = Secret::from("postgres://u:hunter2@h/d");
        assert!(!format!("{secret:?}").contains("hunter2"));
        assert!(holds_password("postgres://u:hunter2@h/d"));
        assert!(holds_password("postgres://u@h/d?password=hunter2"));
        assert!(!holds_password("postgres://u@h/d?sslmode=require"));
        assert!(!holds_password("env:NAME"));
    }
}
