//! `restore` of a backup that Velero has.

use std::path::PathBuf;
use std::time::Instant;

use lifeboat::velero::{self, RestoreOptions};
use lifeboat::{Result, Status};
use serde_json::json;

use super::backups;
use crate::backend::velero::Settings;
use crate::exit::Exit;
use crate::output::report::{checks, seconds};
use crate::output::{GREEN, RED};
use crate::session::Session;

/// Which backup is restored.
pub(crate) enum Of {
    /// The one of this name.
    Backup(String),
    /// The latest one of this schedule that is complete.
    Schedule(String),
}

/// Has Velero restore a backup, and says at the end what it could not restore.
pub(crate) async fn run(
    session: &Session,
    settings: &Settings,
    ca: Option<&PathBuf>,
    of: Of,
    options: RestoreOptions,
) -> Result<Exit> {
    let output = &session.output;
    session.begin("restore", "Velero's backup")?;
    let begun = Instant::now();
    let (cluster, files) = (settings.cluster().await?, settings.files(ca)?);
    let backup = match of {
        Of::Backup(name) => name,
        Of::Schedule(schedule) => backups::latest(&cluster, &schedule).await?.name,
    };
    output.line(format!("{backup} into the cluster {}", cluster.server()));
    for (from, into) in &options.namespace_mapping {
        output.line(format!("  namespace {from} into {into}"));
    }
    let restored = velero::restore(&cluster, &files, &backup, &options, &session.context).await;
    let made = session.settle("restore", &backup, restored)?;
    for line in checks(output, &made) {
        output.line(format!("  {line}"));
    }
    let passed = made.iter().all(|check| check.status != Status::Fail);
    let took = begun.elapsed().as_secs_f64();
    let (word, color, how) =
        if passed { ("DONE", GREEN, "") } else { ("PART", RED, ", but not all of it: see what is marked FAIL") };
    output.line(format!("{} {backup} restored in {}{how}", output.paint(word, color), seconds(took)));
    output.result(
        &json!({ "backup": backup, "into": cluster.server(), "passed": passed, "checks": made, "seconds": took }),
    );
    Ok(if passed { Exit::Good } else { Exit::Failed })
}
