//! `list`, `show`, `logs` and `delete` of Velero's backups.

use std::time::Duration;

use futures::TryStreamExt;
use jiff::Timestamp;
use lifeboat_core::cli::{Cell, Console, Outcome, Part, Rows, Tone, settle};
use lifeboat_core::report::human_bytes;
use lifeboat_core::words::{age, count, old, seconds, time};
use lifeboat_core::{Error, ErrorKind, Result};
use serde_json::{Value, json};

use super::super::backups::{self as velero, delete_backup};
use super::super::{BackupDetails, BackupSummary, Cluster, Files, LinkOptions, LogOf};
use super::verbs::{self, Delete, List, Logs, Show};
use super::{Outcomes, begin, open, unnamed};

/// The number of messages that `show` prints one by one.
const SHOWN: usize = 20;

/// How long Velero has to delete a backup, by default.
const LIMIT: Duration = Duration::from_secs(600);

/// The cluster, and where to read the files of backups and restores: in the bucket, if one was given; otherwise through
/// links that Velero signs.
pub(super) async fn reach(files: verbs::Files, console: &dyn Console) -> Result<(Cluster, Files)> {
    use lifeboat_core::System;
    let system = open(*files.reach.settings, console)?;
    let cluster = system.cluster().await?;
    if system.foreign_place().is_some() {
        return Ok((cluster, Files::Location(system.location()?)));
    }
    let ca = match files.ca {
        Some(path) => {
            let read = std::fs::read(&path);
            Some(read.map_err(|error| Error::io("read", path.display().to_string(), error))?)
        }
        None => None,
    };
    Ok((cluster, Files::Links(LinkOptions { ca, ..LinkOptions::default() })))
}

/// Lists Velero's backups, oldest first.
pub(super) async fn list(list: List, console: &dyn Console) -> Result<Outcome> {
    begin(console, "list", "Velero's backups")?;
    let cluster = open(*list.cluster.settings, console)?.cluster().await?;
    let schedule = list.schedule.as_deref();
    let found = velero::backups(&cluster, schedule).await?;
    if found.is_empty() {
        return Err(none(&cluster, schedule));
    }
    console.say(Part::Table(table(&found, console.context().now())));
    console.result(json!(found));
    Ok(Outcome::Good)
}

fn table(found: &[BackupSummary], now: Timestamp) -> Rows {
    let mut table =
        Rows::new(["STARTED", "AGE", "PHASE", "ITEMS", "ERRORS", "WARNINGS", "EXPIRES", "SCHEDULE", "BACKUP"])
            .right([3, 4, 5]);
    let when = |at: Option<Timestamp>| at.map_or_else(|| "-".to_owned(), time);
    for backup in found {
        table.row([
            when(backup.started).into(),
            backup.started.map_or_else(|| "-".to_owned(), |at| age(at, now)).into(),
            Cell::new(&backup.phase, tone(&backup.phase)),
            items(backup).into(),
            backup.errors.to_string().into(),
            backup.warnings.to_string().into(),
            when(backup.expires).into(),
            backup.schedule.as_deref().unwrap_or("-").into(),
            backup.name.as_str().into(),
        ]);
    }
    table
}

fn none(cluster: &Cluster, schedule: Option<&str>) -> Error {
    let what =
        schedule.map_or_else(|| "a backup".to_owned(), |schedule| format!("a backup of the schedule {schedule}"));
    let why = format!("Velero has none in the namespace {} of {}", cluster.namespace(), cluster.server());
    Error::new(ErrorKind::NoArtifact, "find", what, why).hint(
        "`lifeboat-velero schedules list` shows what makes backups; for another installation, give --velero-namespace",
    )
}

/// The latest complete backup of a schedule.
///
/// # Errors
/// [`ErrorKind::NoArtifact`] if there is none.
pub(super) async fn latest(cluster: &Cluster, schedule: &str) -> Result<BackupSummary> {
    let found = velero::backups(cluster, Some(schedule)).await?;
    let last = found.last().map(|last| format!("; the last one, {}, is {}", last.name, last.phase));
    found.into_iter().rfind(BackupSummary::is_completed).ok_or_else(|| match last {
        Some(last) => {
            let what = format!("a backup of the schedule {schedule}");
            Error::new(ErrorKind::NoArtifact, "find", what, format!("none is Completed{last}"))
                .hint("`lifeboat-velero show NAME` says why; a backup that is not complete is restored by its name")
        }
        None => none(cluster, Some(schedule)),
    })
}

fn items(backup: &BackupSummary) -> String {
    match (backup.items_done, backup.items) {
        (done, all) if done == all => all.to_string(),
        (done, all) => format!("{done} of {all}"),
    }
}

fn tone(phase: &str) -> Tone {
    match phase {
        "Completed" => Tone::Good,
        "PartiallyFailed" | "Failed" | "FailedValidation" => Tone::Bad,
        _ => Tone::Caution,
    }
}

/// Shows one backup.
pub(super) async fn show(show: Show, console: &dyn Console) -> Result<Outcome> {
    let name = show.backup.ok_or_else(|| unnamed("show"))?;
    begin(console, "show", &name)?;
    let (cluster, files) = reach(show.files, console).await?;
    let details = velero::backup(&cluster, &files, &name, console.context()).await?;
    for part in parts(&details, console.context().now()) {
        console.say(part);
    }
    console.result(json!(details));
    Ok(Outcome::Good)
}

/// The output for a backup.
pub(super) fn parts(details: &BackupDetails, now: Timestamp) -> Vec<Part> {
    let backup = &details.summary;
    let mut parts = vec![
        Part::Line(format!("{:<14} {}", "backup", backup.name)),
        Part::Toned(format!("{:<14} {}", "phase", backup.phase), tone(&backup.phase)),
    ];
    let mut line = |name: &str, value: String| parts.push(Part::Line(format!("{name:<14} {value}")));
    let listed = |names: &[String], none: &str| if names.is_empty() { none.to_owned() } else { names.join(", ") };
    let chosen =
        |choice: Option<bool>| choice.map_or("as Velero decides", |yes| if yes { "yes" } else { "no" }).to_owned();
    line(
        "started",
        backup.started.map_or_else(|| "not yet".to_owned(), |at| format!("{} ({})", time(at), old(at, now))),
    );
    if let Some(took) = backup.seconds() {
        line("took", seconds(took));
    }
    line("expires", backup.expires.map_or_else(|| "-".to_owned(), time));
    line("items", items(backup));
    line("errors", backup.errors.to_string());
    line("warnings", backup.warnings.to_string());
    line("schedule", backup.schedule.clone().unwrap_or_else(|| "none".to_owned()));
    line("location", listed(std::slice::from_ref(&backup.storage_location), "the default one"));
    line("namespaces", listed(&backup.namespaces, "all"));
    if !details.excluded_namespaces.is_empty() {
        line("but not", details.excluded_namespaces.join(", "));
    }
    line("resources", listed(&details.resources, "all"));
    if !details.excluded_resources.is_empty() {
        line("but not", details.excluded_resources.join(", "));
    }
    line("labels", details.selector.clone().unwrap_or_else(|| "any".to_owned()));
    line("kept for", details.ttl.clone().unwrap_or_else(|| "Velero's default".to_owned()));
    line("fs backup", chosen(details.default_volumes_to_fs_backup));
    line("snapshots", chosen(details.snapshot_volumes));
    for (title, messages, tone) in
        [("problems:", &details.problems, Tone::Bad), ("warnings:", &details.notices, Tone::Caution)]
    {
        if messages.is_empty() {
            continue;
        }
        parts.extend([Part::Line(String::new()), Part::Toned(title.to_owned(), tone)]);
        parts.extend(messages.iter().take(SHOWN).map(|message| Part::Line(format!("  {message}"))));
        if messages.len() > SHOWN {
            parts.push(Part::Line(format!("  and {} more; --json shows all", messages.len() - SHOWN)));
        }
    }
    if !details.volumes.is_empty() {
        let mut table = Rows::new(["VOLUME", "METHOD", "PHASE", "SIZE", "PROBLEM"]).right([3]);
        let or_dash = |text: &str| if text.is_empty() { "-".into() } else { text.into() };
        for volume in &details.volumes {
            table.row([
                volume.claim.as_str().into(),
                or_dash(&volume.method),
                or_dash(&volume.phase),
                volume.bytes.map_or_else(|| "-".to_owned(), human_bytes).into(),
                or_dash(volume.problem.as_deref().unwrap_or_default()),
            ]);
        }
        parts.extend([Part::Line(String::new()), Part::Table(table)]);
    }
    if let Some(why) = &details.unread {
        parts.push(Part::Warning(format!("messages and volumes could not be read: {why}")));
    }
    parts
}

/// Prints the log of a backup or a restore as it arrives.
pub(super) async fn logs(logs: Logs, console: &dyn Console) -> Result<Outcome> {
    begin(console, "read the log of", &logs.name)?;
    let (cluster, files) = reach(logs.files, console).await?;
    let of = if logs.restore { LogOf::Restore(logs.name) } else { LogOf::Backup(logs.name) };
    let mut stream = super::super::logs(&cluster, &files, &of, console.context()).await?;
    let mut lines = Lines { console, rest: Vec::new() };
    while let Some(chunk) = stream.try_next().await? {
        lines.take(&chunk);
    }
    lines.end();
    Ok(Outcome::Good)
}

/// Prints whole lines; with `--json`, as an array of them.
pub(super) struct Lines<'a> {
    pub(super) console: &'a dyn Console,
    pub(super) rest: Vec<u8>,
}

impl Lines<'_> {
    pub(super) fn take(&mut self, chunk: &[u8]) {
        self.rest.extend_from_slice(chunk);
        if let Some(end) = self.rest.iter().rposition(|byte| *byte == b'\n') {
            let rest = self.rest.split_off(end + 1);
            let whole = std::mem::replace(&mut self.rest, rest);
            self.print(&whole[..end]);
        }
    }

    fn print(&self, whole: &[u8]) {
        let text = String::from_utf8_lossy(whole);
        if self.console.is_json() {
            text.lines().for_each(|line| self.console.item(line.into()));
        } else {
            self.console.say(Part::Line(text.into_owned()));
        }
    }

    pub(super) fn end(self) {
        if !self.rest.is_empty() {
            self.print(&self.rest);
        }
        self.console.end_of_items();
    }
}

/// Has Velero delete backups, if requested; otherwise reports what would be deleted. A failure does not stop the
/// others.
pub(super) async fn delete(delete: Delete, console: &dyn Console) -> Result<Outcome> {
    let cluster = open(*delete.cluster.settings, console)?.cluster().await?;
    let (apply, cx) = (delete.apply, console.context());
    let limit = delete.limit.map_or(LIMIT, |limit| limit.0);
    let mut outcomes = Outcomes::new(console);
    let mut results: Vec<Value> = Vec::new();
    for name in &delete.backups {
        let outcome = async {
            begin(console, "delete", name)?;
            if !apply {
                let details = velero::backup(&cluster, &Files::links(), name, cx).await?;
                return Ok(planned(&details));
            }
            delete_backup(&cluster, name, limit, cx).await.map(|check| check.detail)
        };
        match settle(cx, "delete", name, outcome.await) {
            Ok(detail) => {
                let (word, tone) = if apply { ("DONE", Tone::Good) } else { ("PLAN", Tone::Caution) };
                console.say(Part::Verdict(word, tone, format!("{name}: {detail}")));
                results.push(json!({ "backup": name, "deleted": apply, "passed": true, "detail": detail }));
            }
            Err(error) => {
                results.push(
                    json!({ "backup": name, "deleted": false, "passed": false, "error": console.failure(&error) }),
                );
                outcomes.error(error);
            }
        }
    }
    if !apply && outcomes.is_good() {
        console.say(Part::Line("nothing was deleted; --apply does it".to_owned()));
    }
    console.result(results.into());
    outcomes.end()
}

fn planned(details: &BackupDetails) -> String {
    let backup = &details.summary;
    let started = backup.started.map_or_else(|| "not begun".to_owned(), |at| format!("of {}", time(at)));
    let volumes = count(details.volumes.len(), "volume");
    format!("{}, {started}, {} items, data of {volumes}, and the restores made from it", backup.phase, items(backup))
}
