//! `restore` of one of Velero's own backups.

use std::time::Instant;

use lifeboat_core::cli::{Console, Outcome, Part, Tone, settle};
use lifeboat_core::words::seconds;
use lifeboat_core::{Result, Status};
use serde_json::json;

use super::super::Pair;
use super::super::restore::restore;
use super::verbs::Restore;
use super::{backups, begin, unnamed};

/// Has Velero restore a backup, and reports at the end what it could not restore.
pub(super) async fn run(wanted: Restore, console: &dyn Console) -> Result<Outcome> {
    let Restore { backup, schedule, files, what } = wanted;
    if backup.is_none() && schedule.is_none() {
        return Err(unnamed("restore"));
    }
    what.validate()?;
    begin(console, "restore", "Velero's backup")?;
    let begun = Instant::now();
    let (cluster, files) = backups::reach(files, console).await?;
    let backup = match (backup, schedule) {
        (Some(name), _) => name,
        (None, Some(schedule)) => backups::latest(&cluster, &schedule).await?.name,
        (None, None) => return Err(unnamed("restore")),
    };
    console.say(Part::Line(format!("{backup} into the cluster {}", cluster.server())));
    for Pair { key: from, value: into } in &what.namespace_mapping {
        console.say(Part::Line(format!("  namespace {from} into {into}")));
    }
    let restored = restore(&cluster, &files, &backup, &what, console.context()).await;
    let checks = settle(console.context(), "restore", &backup, restored)?;
    console.say(Part::Checks(checks.clone()));
    let passed = checks.iter().all(|check| check.status != Status::Fail);
    let took = begun.elapsed().as_secs_f64();
    let (word, tone, how) = if passed {
        ("DONE", Tone::Good, "")
    } else {
        ("PART", Tone::Bad, ", but not all of it: see the checks marked FAIL")
    };
    console.say(Part::Verdict(word, tone, format!("{backup} restored in {}{how}", seconds(took))));
    console.result(
        json!({ "backup": backup, "into": cluster.server(), "passed": passed, "checks": checks, "seconds": took }),
    );
    Ok(Outcome::of(passed))
}
