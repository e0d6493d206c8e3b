//! The config file of Lifeboat, `lifeboat.toml`, as a library: it turns settings for sinks, jobs, encryption, retention
//! and schedules into [jobs](Job) that a program runs.
//!
//! This crate names no system. The program lists them in its [`Systems`]:
//!
//! ```no_run
//! # async fn run(systems: lifeboat_config::Systems) -> lifeboat_core::Result<()> {
//! use lifeboat_config::Config;
//!
//! let config = Config::load(None, &systems)?;
//! let receipt = config.job("shop")?.backup().await?.run().await?;
//! println!("{} is in {} sinks", receipt.key, receipt.sinks.len());
//! # Ok(())
//! # }
//! ```
//!
//! The file is read and checked as a whole. All mistakes are reported at once, each with its line, its column and a near name.
//! The variables and files that it names are looked up when they are needed ([`Setting`]).
#![cfg_attr(docsrs, feature(doc_cfg))]
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod copies;
mod encryption;
pub mod guards;
pub mod hint;
mod hooks;
mod jobs;
pub mod manual;
pub mod marker;
mod mistake;
mod node;
mod probe;
mod reader;
mod sinks;
pub mod stored;
mod systems;
mod table;
#[cfg(test)]
mod tests;
mod unknown;

pub use copies::CopyConfig;
pub use encryption::{Encryption, demanded, keys, undecided};
pub use hooks::HookSettings;
pub use jobs::{Job, Limits, Store};
pub use lifeboat_core::Setting;
pub use reader::{Config, JobConfig, NAME};
pub use sinks::{ByUrl, SinkConfig};
pub use systems::Systems;
