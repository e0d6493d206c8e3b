//! The commands. Each takes jobs, from a config file or from flags, and prints the results.

pub(crate) mod backup;
pub(crate) mod check;
pub(crate) mod completions;
pub(crate) mod config;
pub(crate) mod init;
pub(crate) mod item;
pub(crate) mod list;
pub(crate) mod place;
pub(crate) mod prune;
pub(crate) mod replicate;
pub(crate) mod restore;
pub(crate) mod show;
mod tally;
pub(crate) mod verify;
