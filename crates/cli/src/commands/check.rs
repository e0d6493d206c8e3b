//! `check`: whether everything that a backup and its restore need is there.

mod readable;
mod run;

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

use lifeboat_config::{Config, Encryption, HookSettings, Job, Store, Systems, demanded, guards, marker, undecided};
use lifeboat_core::{Check, Context, Encryptor, Error, ErrorKind, Result, Setting, check, stream};

use self::run::Run;
use super::place;
use crate::exit::Exit;
use crate::jobs::Jobs;
use crate::output::report::count;
use crate::session::Session;

/// A text that is encrypted and decrypted to see whether a key fits.
const PROBE: &[u8] = b"lifeboat check\n";

/// Checks the config, then each place in a sink, then each job.
/// Without names of jobs, the copies too.
pub(crate) async fn run(
    session: &Session,
    config: Option<(&Config, &Systems)>,
    jobs: Jobs,
    named: bool,
    new_sink: bool,
) -> Exit {
    session.output.only_failures();
    if new_sink && let Err(error) = place::take_sinks_as_new(session, &jobs).await {
        session.output.fatal(&error);
        return Exit::from(&error);
    }
    let mut run = Run::new(session, jobs.len());
    if let Some((config, systems)) = config {
        run.config([of_config(config)].into_iter().chain(super::config::check(config, systems)).collect());
    }
    let config = config.map(|(config, _)| config);
    let mut seen = BTreeSet::new();
    for (name, job) in jobs {
        if let Err(error) = session.begin("check", &name) {
            session.output.error(&error);
            return Exit::Failed;
        }
        let job = match job {
            Ok(job) => job,
            Err(error) => {
                run.job(&name, vec![Check::from_error("config", &error)]);
                continue;
            }
        };
        for store in &job.stores {
            if seen.insert((store.sink.url(), job.prefix.clone())) {
                let found = match guards::check(config, &job, store).await {
                    Some(foreign) => vec![foreign],
                    None => of_sink(session, store, &job.prefix).await,
                };
                run.sink(&store.name, &job.prefix, found);
            }
        }
        let mut found = job.system.check().await;
        found.extend(job.hooks.iter().flat_map(HookSettings::check));
        found.extend(of_encryption(&job).await);
        found.extend(readable::check(&job, session.context.now()).await);
        found.push(of_retention(&job));
        run.job(&name, found);
    }
    if let Some(config) = config.filter(|_| !named) {
        for (subject, found) in of_copies(config, &session.context).await {
            run.copy(&subject, found);
        }
    }
    run.end()
}

/// The checks of each copy in the config.
async fn of_copies(config: &Config, context: &Context) -> Vec<(String, Vec<Check>)> {
    let mut found = Vec::new();
    for copy in &config.copies {
        match copy.open(config, None, context) {
            Ok(trees) => {
                for (to, tree) in trees {
                    found.push((format!("{} to {to}", copy.name), tree.check().await));
                }
            }
            Err(error) => found.push((copy.name.clone(), vec![Check::from_error("config", &error)])),
        }
    }
    found
}

fn of_config(config: &Config) -> Check {
    let figure = format!("{}, {}", count(config.jobs.len(), "job"), count(config.sinks.len(), "sink"));
    Check::pass("file", figure, config.path.display().to_string())
}

async fn of_sink(session: &Session, store: &Store, prefix: &str) -> Vec<Check> {
    if let Err(error) = marker::refuse_unknown(&*store.sink).await
        && error.kind() == ErrorKind::Refused
    {
        return vec![Check::from_error("marker", &error)];
    }
    // A local folder would keep the empty folders of a prefix with a typo.
    let beside = if store.sink.url().starts_with("file://") { "" } else { prefix };
    check::sink(&*store.sink, prefix, beside, session.context.now()).await
}

/// What is kept, and where that is not the same everywhere.
fn of_retention(job: &Job) -> Check {
    if job.stores.iter().any(|store| store.keep.is_some()) {
        let in_words = |store: &Store| {
            let kept = job.keep_in(store).map_or_else(|| "all".to_owned(), |policy| policy.to_string());
            format!("{}: {kept}", store.name)
        };
        let all: Vec<String> = job.stores.iter().map(in_words).collect();
        return Check::pass("retention", "by sink", all.join("; "));
    }
    match job.keep {
        Some(keep) => Check::pass("retention", keep.to_string(), "what `prune` keeps"),
        None => Check::pass("retention", "all", "no keep is set: nothing is ever deleted"),
    }
}

/// Whether backups can be encrypted, and whether they can be decrypted here.
async fn of_encryption(job: &Job) -> Vec<Check> {
    if let (Some(why), None | Some(Encryption::None)) = (job.system.confidential(), &job.encrypt) {
        return vec![Check::from_error("encryption", &demanded(&job.name, why))];
    }
    let Some(choice) = &job.encrypt else {
        return vec![Check::from_error("encryption", &undecided(&job.name))];
    };
    let encryptor = match choice.encryptor() {
        Ok(Some(encryptor)) => encryptor,
        Ok(None) => {
            return vec![Check::warn("encryption", "none", "whoever can read the sink can read the backups")];
        }
        Err(error) => return vec![Check::from_error("encryption", &error)],
    };
    let recipients = encryptor.recipients();
    let figure = match recipients.len() {
        0 => format!("{}, passphrase", encryptor.scheme()),
        n => format!("{}, {}", encryptor.scheme(), count(n, "recipient")),
    };
    let mut found = vec![Check::pass("encryption", figure, recipients.join(", "))];
    let open = job.identities.iter().filter(|i| is_open_to_others(i));
    found.extend(open.map(|i| {
        let path = i.path().map(|p| p.display().to_string()).unwrap_or_default();
        let detail = format!("others can read {path}: chmod 600");
        Check::warn("identity file", "mode", detail)
    }));
    found.push(match job.keys() {
        Err(error) => Check::from_error("identity", &error),
        Ok(keys) if !keys.iter().any(|k| k.scheme() == encryptor.scheme() && k.can_decrypt()) => Check::pass(
            "identity",
            "not here",
            "this machine cannot read its own backups; `verify` at structure and restore, and `restore`, need the key",
        ),
        Ok(keys) => match round_trip(encryptor, &keys).await {
            Ok(()) => Check::pass("identity", "fits", "what is encrypted here can be decrypted here"),
            Err(error) if error.kind() == ErrorKind::Decrypt => Check::fail(
                "identity",
                "does not fit",
                "the identity does not belong to any of the recipients: backups made now could not be read with it",
            ),
            Err(error) => Check::from_error("identity", &error),
        },
    });
    found
}

fn is_open_to_others(identity: &Setting) -> bool {
    let Ok(path) = identity.path() else { return false };
    std::fs::metadata(path).is_ok_and(|m| m.is_file() && m.mode() & 0o077 != 0)
}

async fn round_trip(encryptor: Arc<dyn Encryptor>, keys: &[Arc<dyn Encryptor>]) -> Result<()> {
    let sealed = stream::collect(encryptor.encrypt(stream::once(PROBE))?, 1 << 20, "the probe").await?;
    let fitting = keys.iter().find(|k| k.scheme() == encryptor.scheme() && k.can_decrypt());
    let Some(key) = fitting else { return Ok(()) };
    let opened = stream::collect(key.decrypt(stream::once(sealed))?, 1 << 20, "the probe").await?;
    if opened == PROBE {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Decrypt, "decrypt", "the probe", "the key does not fit"))
}
