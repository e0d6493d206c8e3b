//! The options of `replicate`.

use clap::Args;
use clap::builder::PossibleValuesParser;
use lifeboat_core::pipeline::Deletion;
use lifeboat_core::{Error, ErrorKind, Limiter, Result};

use super::{Download, NewSink, Upload};
use crate::commands::replicate::Options;

/// How fast is copied.
#[derive(Args, Debug)]
pub(crate) struct Pace {
    #[command(flatten)]
    upload: Upload,
    #[command(flatten)]
    download: Download,
}

impl Pace {
    pub(crate) fn limiter(&self) -> Result<Limiter> {
        self.download.limit(self.upload.limit(Limiter::new())?)
    }
}

#[derive(Args, Debug)]
pub(crate) struct ReplicateArgs {
    /// Names of jobs or copies; all when none is named
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// Copy from this sink: a name in the config, or a URL; without it, the job's first
    #[arg(long, value_name = "SINK")]
    from: Option<String>,
    /// Copy to this sink; without it, to all the others of the job
    #[arg(long, value_name = "SINK")]
    to: Option<String>,
    /// Only show what would be done
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    new: NewSink,
    /// Read the backups that are there already again, and replace those that are not what their manifests say; without it, only
    /// those whose verification failed or whose size is wrong
    #[arg(long, conflicts_with_all = ["verify", "tree"])]
    reread: bool,
    /// Read copies of trees back and compare them with their records
    #[arg(long, conflicts_with_all = ["dry_run", "delete_extra"])]
    verify: bool,
    #[command(flatten)]
    pub(crate) pace: Pace,
    /// Copy a tree that another tool wrote, object by object under the same keys; needs --from and --to
    #[arg(long, requires_all = ["from", "to"], conflicts_with = "names", help_heading = "Without a config")]
    tree: bool,
    /// The folder in the source
    #[arg(long, value_name = "FOLDER", requires_all = ["from", "to"], conflicts_with = "names", help_heading = "Without a config")]
    prefix: Option<String>,
    /// With --tree: the folder in the destination; without it, the same as in the source
    #[arg(long, value_name = "FOLDER", requires = "tree", help_heading = "Without a config")]
    into: Option<String>,
    /// Delete from copies of trees what is no longer at the source: at most half of the copy, or `all`
    #[arg(
        long,
        value_name = "some|all",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "some",
        value_parser = PossibleValuesParser::new(["some", "all"])
    )]
    delete_extra: Option<String>,
}

impl ReplicateArgs {
    pub(crate) fn options(self) -> Result<Options> {
        if self.tree && self.prefix.is_none() && self.into.is_none() {
            return Err(Error::new(ErrorKind::Config, "use", "--tree", "no option says which folder to copy").hint(
                "give --prefix FOLDER, the folder in both sinks, or --into FOLDER if the URL of --from already names the folder",
            ));
        }
        Ok(Options {
            limiter: self.pace.limiter()?,
            names: self.names,
            from: self.from,
            to: self.to,
            dry_run: self.dry_run,
            new_sink: self.new.new_sink,
            reread: self.reread,
            verify: self.verify,
            tree: self.tree,
            prefix: self.prefix,
            into: self.into,
            deletion: match self.delete_extra.as_deref() {
                None => None,
                Some("all") => Some(Deletion::All),
                Some(_) => Some(Deletion::AtMostHalf),
            },
        })
    }
}
