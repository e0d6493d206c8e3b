//! Subsets of the flags of [`VeleroSettings`]: a command that reads Velero's backups takes those needed to reach them.

use std::fmt;
use std::marker::PhantomData;

use clap::{ArgMatches, Args, Command, Error, FromArgMatches};
use lifeboat_core::Setting;

use super::super::VeleroSettings;

/// A set of flags.
pub trait Ids {
    /// The ids of the flags that [`Reach`] reads.
    const IDS: &'static [&'static str];
}

/// The cluster.
#[derive(Debug)]
pub enum InCluster {}

impl Ids for InCluster {
    const IDS: &'static [&'static str] = &["kubeconfig", "context", "velero_namespace"];
}

/// The cluster and Velero's bucket.
#[derive(Debug)]
pub enum InBoth {}

impl Ids for InBoth {
    const IDS: &'static [&'static str] = &["kubeconfig", "context", "velero_namespace", "location"];
}

/// The cluster, Velero's bucket, and a schedule.
#[derive(Debug)]
pub enum OfSchedule {}

impl Ids for OfSchedule {
    const IDS: &'static [&'static str] = &["from_schedule", "kubeconfig", "context", "velero_namespace", "location"];
}

/// Velero's bucket.
#[derive(Debug)]
pub enum InBucket {}

impl Ids for InBucket {
    const IDS: &'static [&'static str] = &["location"];
}

/// Settings, of which only a subset can be given.
pub struct Reach<I> {
    /// The settings.
    pub settings: Box<VeleroSettings>,
    which: PhantomData<fn() -> I>,
}

impl<I> fmt::Debug for Reach<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.settings.fmt(f)
    }
}

impl<I: Ids> Args for Reach<I> {
    fn augment_args(command: Command) -> Command {
        let whole = VeleroSettings::augment_args(Command::new("settings"));
        let mine = whole.get_arguments().filter(|arg| I::IDS.contains(&arg.get_id().as_str()));
        mine.cloned().fold(command, Command::arg)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl<I: Ids> FromArgMatches for Reach<I> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        let is_mine = |id: &&str| I::IDS.contains(id);
        let text = |id: &'static str| Some(id).filter(is_mine).and_then(|id| matches.get_one::<String>(id).cloned());
        let setting =
            |id: &'static str| Some(id).filter(is_mine).and_then(|id| matches.get_one::<Setting>(id).cloned());
        let settings = VeleroSettings {
            location: setting("location"),
            kubeconfig: setting("kubeconfig"),
            context: text("context"),
            velero_namespace: text("velero_namespace"),
            from_schedule: text("from_schedule"),
            ..VeleroSettings::default()
        };
        Ok(Self { settings: Box::new(settings), which: PhantomData })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}
