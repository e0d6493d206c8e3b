//! The options of the general commands, as clap reads them. A value is parsed where it is used, so that its error looks like
//! every other.

use std::path::PathBuf;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Command, Subcommand};
use lifeboat_config::Systems;
use lifeboat_core::catalog::At;
use lifeboat_core::cli::AT;
use lifeboat_core::limiter::Rate;
use lifeboat_core::system::Choices;
use lifeboat_core::{Level, Limiter, Result, Setting, duration};

use crate::commands::{backup, prune, restore, verify};
use crate::exit::Exit;
use crate::session::Session;

pub(crate) mod place;
pub(crate) mod replicate;

/// How the exit status is explained in the help of every program.
pub(crate) const EXIT_STATUS: &str = "\
Exit status:
  0  good
  1  a backup, restore or check failed, or the run was cancelled
  2  usage or configuration
  3  nothing to do where something was asked for (no artifact found)";

/// The options of every command.
#[derive(Args, Debug)]
pub(crate) struct Global {
    /// Write the result as JSON to standard output
    #[arg(long, global = true, help_heading = "Output")]
    pub(crate) json: bool,
    /// Say more on standard error; twice for everything (RUST_LOG overrides it)
    #[arg(short, long, global = true, action = clap::ArgAction::Count, help_heading = "Output")]
    pub(crate) verbose: u8,
    /// No progress and no notes; backup, verify, replicate, prune and check say only what is wrong
    #[arg(short, long, global = true, conflicts_with = "verbose", help_heading = "Output")]
    pub(crate) quiet: bool,
    /// No colours, as with NO_COLOR
    #[arg(long, global = true, help_heading = "Output")]
    pub(crate) no_color: bool,
}

/// The options of `backup` for every system.
#[derive(Args, Debug, Default)]
pub(crate) struct BackupArgs {
    /// Accept an empty dataset; without it, an empty dataset is a warning, and one without a single byte an error
    #[arg(long)]
    allow_empty: bool,
    /// Warn when the dataset has shrunk by more than this since the last backup (50%); 100% never warns
    #[arg(long, value_name = "SHARE")]
    max_shrink: Option<String>,
    /// Give up when nothing moves for this long, as in 30min (2h)
    #[arg(long, value_name = "TIME")]
    stall_limit: Option<String>,
    /// Read no more than this from the source, in bytes per second, as in 50MB/s
    #[arg(long, value_name = "RATE")]
    source_limit: Option<String>,
    #[command(flatten)]
    upload: Upload,
    #[command(flatten)]
    pub(crate) new: NewSink,
}

/// How fast is sent.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct Upload {
    /// Send no more than this to all sinks together, in bytes per second, as in 20MB/s or 20MiB/s
    #[arg(long, value_name = "RATE")]
    upload_limit: Option<String>,
}

impl Upload {
    pub(crate) fn limit(&self, limiter: Limiter) -> Result<Limiter> {
        let rate = self.upload_limit.as_ref().map(|text| Rate::parse(text, "--upload-limit")).transpose()?;
        Ok(match rate {
            Some(rate) => limiter.upload(rate),
            None => limiter,
        })
    }
}

/// How fast is read from sinks.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct Download {
    /// Read no more than this from sinks, in bytes per second, as in 50MB/s or 50MiB/s
    #[arg(long, value_name = "RATE")]
    download_limit: Option<String>,
}

impl Download {
    pub(crate) fn limit(&self, limiter: Limiter) -> Result<Limiter> {
        let rate = self.download_limit.as_ref().map(|text| Rate::parse(text, "--download-limit")).transpose()?;
        Ok(match rate {
            Some(rate) => limiter.download(rate),
            None => limiter,
        })
    }
}

/// Whether a place may be new.
#[derive(Args, Clone, Copy, Debug, Default)]
pub(crate) struct NewSink {
    /// Take a file:// sink in which nothing of Lifeboat's is yet for a new one, and mark it; without this, it is refused,
    /// because its disk may not be mounted
    #[arg(long)]
    pub(crate) new_sink: bool,
}

impl BackupArgs {
    pub(crate) fn options(&self) -> Result<backup::Options> {
        Ok(backup::Options {
            allow_empty: self.allow_empty,
            max_shrink: self.max_shrink.as_ref().map(|text| text.parse()).transpose()?,
            stall_limit: self.stall_limit.as_ref().map(|text| duration::parse(text, "--stall-limit")).transpose()?,
            new_sink: self.new.new_sink,
            limiter: self.limiter()?,
        })
    }

    fn limiter(&self) -> Result<Limiter> {
        let source = self.source_limit.as_ref().map(|text| Rate::parse(text, "--source-limit")).transpose()?;
        let limiter = source.map_or_else(Limiter::new, |rate| Limiter::new().source(rate));
        self.upload.limit(limiter)
    }
}

/// A choice among the backups of a dataset.
#[derive(Args, Debug)]
pub(crate) struct AtArg {
    #[arg(
        long,
        value_name = "latest|TIME|KEY",
        default_value = "latest",
        hide_default_value = true,
        help = format!("Which backup: {AT}")
    )]
    at: String,
}

impl AtArg {
    pub(crate) fn read(&self) -> Result<At> {
        self.at.parse()
    }
}

/// The options of `show`.
#[derive(Args, Debug)]
pub(crate) struct ShowArgs {
    #[command(flatten)]
    pub(crate) at: AtArg,
    /// Also list the contents (tables with their rows); needs the key if it is encrypted
    #[arg(long)]
    pub(crate) items: bool,
    /// Write one item of the contents (the rows of a table) to standard output, compared with its proof
    #[arg(long, value_name = "NAME", conflicts_with = "items")]
    pub(crate) item: Option<String>,
}

/// The options of `verify` for every system.
#[derive(Args, Debug)]
pub(crate) struct VerifyArgs {
    /// How much to prove
    #[arg(long, value_name = "LEVEL", value_parser = level())]
    level: Option<Level>,
    #[command(flatten)]
    at: AtArg,
    /// Fail when the backup is older, as in 2d or 36h
    #[arg(long, value_name = "AGE")]
    max_age: Option<String>,
    /// Leave no record of the outcome beside the backup
    #[arg(long)]
    no_record: bool,
    #[command(flatten)]
    download: Download,
}

impl VerifyArgs {
    /// Together with the system's own options.
    pub(crate) fn options(self, choices: Choices) -> Result<verify::Options> {
        Ok(verify::Options {
            level: self.level,
            at: self.at.read()?,
            max_age: self.max_age.map(|text| duration::parse(&text, "--max-age")).transpose()?,
            record: !self.no_record,
            each_sink: false,
            limiter: self.download.limit(Limiter::new())?,
            choices,
        })
    }
}

fn level() -> impl TypedValueParser<Value = Level> {
    PossibleValuesParser::new(["stored", "structure", "restore", "live"]).try_map(|text| text.parse::<Level>())
}

/// The options of `restore` for every system.
#[derive(Args, Debug)]
pub(crate) struct RestoreArgs {
    #[command(flatten)]
    at: AtArg,
    /// Where to: a URL, env:NAME (a variable that holds it) or file:PATH
    #[arg(long, value_name = "URL", env = "LIFEBOAT_INTO", hide_env_values = true)]
    into: Setting,
    #[command(flatten)]
    download: Download,
}

impl RestoreArgs {
    /// Together with the system's own options.
    pub(crate) fn options(self, choices: Choices) -> Result<restore::Options> {
        let limiter = self.download.limit(Limiter::new())?;
        Ok(restore::Options { at: self.at.read()?, into: self.into, limiter, choices })
    }
}

/// The options of `prune`.
#[derive(Args, Debug)]
pub(crate) struct PruneArgs {
    /// Show what would be deleted, and delete nothing
    #[arg(long)]
    dry_run: bool,
    /// Also remove what killed runs have left behind
    #[arg(long)]
    orphans: bool,
    /// Only remove leftovers older than this: those of a running command look the same
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
        /// The folder; created if it does not exist
        folder: PathBuf,
    },
}

impl About {
    /// `program`: with every option it accepts. `systems`: of a program with a config file.
    pub(crate) fn run(self, program: Command, systems: Option<&Systems>, session: &Session) -> Result<Exit> {
        match self {
            Self::Completions { shell } => crate::commands::completions::print(program, shell, session),
            Self::Man { folder } => crate::commands::completions::write_man(program, &folder, systems, session),
        }
    }
}
