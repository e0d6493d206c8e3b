//! `restore`.

use lifeboat::catalog::{self, At};
use lifeboat::{Restore, Result};

use super::place;
use crate::backend::RestoreChoices;
use crate::config::setting::Setting;
use crate::exit::Exit;
use crate::jobs::Job;
use crate::output::GREEN;
use crate::output::report::{checks, old, seconds, size, time};
use crate::session::Session;

/// Restores one artifact of a job.
pub(crate) async fn run(
    session: &Session,
    job: &Job,
    at: &At,
    into: &Setting,
    choices: RestoreChoices,
) -> Result<Exit> {
    let output = &session.output;
    session.begin("restore", &job.name)?;
    let store = job.store()?;
    let replace = choices.replace;
    let named = job.backend.target(into, choices)?;
    let artifact = match catalog::find(&store.sink, &job.prefix, job.dataset()?, at).await {
        Ok(artifact) => artifact,
        Err(error) => return Err(place::explain(error, job, store).await),
    };
    let keys = if artifact.manifest.is_none() && artifact.name.encryption.is_none() { Vec::new() } else { job.keys()? };
    output.line(format!(
        "{} of {} ({}, {}, {})",
        artifact.name.dataset,
        time(artifact.name.taken_at),
        old(artifact.name.taken_at, session.context.now()),
        size(artifact.bytes()),
        artifact.kind.as_str()
    ));
    output.line(format!("  from {}: {}", store.name, artifact.key()));
    let how = if replace { ", replacing what is there once the restored data is known to be good" } else { "" };
    output.line(format!("  into {}{how}", named.name));
    let restore = Restore::new(store.sink.clone(), artifact).keys(keys).context(session.context.clone());
    let restored = session.settle("restore", &job.name, restore.into(&*named.target).await)?;
    for line in checks(output, &restored.checks) {
        output.line(format!("  {line}"));
    }
    output.line(format!(
        "{} {} restored into {} in {}",
        output.paint("DONE", GREEN),
        restored.dataset,
        named.name,
        seconds(restored.seconds)
    ));
    output.result(&restored);
    Ok(Exit::Good)
}
