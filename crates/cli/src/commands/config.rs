//! The config, kept beside the backups: what `init --from-sink` brings back.

use std::collections::BTreeSet;
use std::str::FromStr;
use std::time::Duration;

use lifeboat_config::{Config, Encryption, Job, Store, Systems, stored};
use lifeboat_core::catalog::At;
use lifeboat_core::{Check, Error, ErrorKind, Receipt, Result};

use crate::output::report::count;
use crate::session::Session;

/// How long one place may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// Where a run has stored backups, and how they are encrypted.
#[derive(Debug, Default)]
pub(crate) struct Places {
    places: Vec<(Store, String, Option<Encryption>)>,
}

impl Places {
    /// Adds the sinks that hold the backup of a job.
    pub(crate) fn add(&mut self, job: &Job, receipt: &Receipt) {
        for (store, sink) in job.stores.iter().zip(&receipt.sinks) {
            let is_known =
                |(known, folder, _): &(Store, String, _)| known.sink.url() == store.sink.url() && *folder == job.prefix;
            if sink.error.is_none() && !self.places.iter().any(is_known) {
                self.places.push((store.clone(), job.prefix.clone(), job.encrypt.clone()));
            }
        }
    }
}

/// Stores the config in each place in which the run has stored a backup, where it is not the one that is there. What goes
/// wrong is a warning: the backups are made.
pub(crate) async fn keep(session: &Session, config: &Config, systems: &Systems, places: Places) {
    let output = &session.output;
    if places.places.is_empty() || session.context.cancel.is_cancelled() {
        return;
    }
    let redacted = match config.without_secrets(systems) {
        Ok(redacted) => redacted,
        Err(error) => {
            output.note(&format!(
                "the config is not stored beside the backups: {}: {}",
                error.subject(),
                error.message()
            ));
            return;
        }
    };
    for (store, folder, encrypt) in places.places {
        let written = async {
            let encryptor = config.encryptor_beside(encrypt.as_ref())?;
            stored::write(&*store.sink, &folder, &redacted, encryptor, session.context.now()).await
        };
        let written = session.context.cancel.run_until_cancelled(tokio::time::timeout(PATIENCE, written)).await;
        let written = match written {
            None => return,
            Some(Ok(written)) => written,
            Some(Err(_)) => {
                let why = format!("it did not answer for {} s", PATIENCE.as_secs());
                Err(Error::new(ErrorKind::Unavailable, "write to", store.sink.url(), why))
            }
        };
        match written {
            Ok(Some(key)) if output.is_verbose() => {
                let left_out = match redacted.variables.len() {
                    0 => String::new(),
                    n => format!("; {} in it became a variable", count(n, "secret")),
                };
                output.line(format!("the config is stored in {}: {key}{left_out}", store.name));
            }
            Ok(_) => {}
            Err(error) => {
                output.warn(&format!("the config could not be stored beside the backups in {}: {error}", store.name));
            }
        }
    }
}

/// Whether the config can be stored beside the backups.
pub(crate) fn check(config: &Config, systems: &Systems) -> Option<Check> {
    let error = config.without_secrets(systems).err()?;
    let detail = format!("it is not stored beside the backups: {}: {}", error.subject(), error.message());
    Some(Check::warn("copy", "none", detail))
}

/// Deletes old configs of a folder.
pub(crate) async fn prune(session: &Session, store: &Store, folder: &str) {
    match stored::prune(&*store.sink, folder).await {
        Ok((gone, failed)) => {
            if gone > 0 {
                session.output.line(format!("{} in {} deleted", count(gone, "older config"), store.name));
            }
            for why in failed {
                session.output.warn(&why);
            }
        }
        Err(error) => session.output.warn(&format!("the older configs in {} stay: {error}", store.name)),
    }
}

/// Copies the configs of a folder to another sink.
pub(crate) async fn replicate(session: &Session, from: &Store, to: &Store, folder: &str) {
    match stored::replicate(&*from.sink, &*to.sink, folder).await {
        Ok(0) => {}
        Ok(copied) => session.output.line(format!("  {} copied", count(copied, "config"))),
        Err(error) => {
            session.output.warn(&format!("the configs in {} could not be copied to {}: {error}", from.name, to.name));
        }
    }
}

/// Of several folders, those whose newest config is not this one.
pub(crate) fn others(all: &[stored::Stored], chosen: &stored::Stored) -> Vec<String> {
    let mut seen = BTreeSet::new();
    let newest = all.iter().rev().filter(|stored| seen.insert(stored.prefix().to_owned()));
    newest.filter(|stored| stored.digits != chosen.digits).map(|stored| stored.key.clone()).collect()
}

/// The config that is meant (the newest, up to a time, or the one with a key), and all that there are.
pub(crate) async fn find(store: &Store, at: &str) -> Result<(stored::Stored, Vec<stored::Stored>)> {
    let all = stored::list_all(&*store.sink).await?;
    let found = match stored::Stored::parse(at) {
        Some(named) => all.iter().find(|stored| stored.key == named.key),
        None => match At::from_str(at)? {
            At::Time(time) => all.iter().rev().find(|stored| stored.at <= time),
            _ => all.last(),
        },
    };
    if let Some(found) = found {
        return Ok((found.clone(), all));
    }
    let why = format!("there is none in {}, nor in any folder of it", store.name);
    let error = Error::new(ErrorKind::NoArtifact, "find", "a stored config", why);
    Err(match all.first() {
        Some(oldest) => Error::new(ErrorKind::NoArtifact, "find", format!("a stored config of {at}"), "there is none")
            .hint(format!("the oldest is {}", oldest.key)),
        None => error.hint(
            "`lifeboat backup` stores its config beside the backups; `lifeboat restore --from-sink` works without one",
        ),
    })
}
