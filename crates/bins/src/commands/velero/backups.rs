//! `list`, `show`, `logs` and `delete` of Velero's backups.

use std::path::PathBuf;
use std::time::Duration;

use futures::TryStreamExt;
use lifeboat::report::human_bytes;
use lifeboat::velero::{self, BackupDetails, BackupSummary, Cluster, Files, LogOf};
use lifeboat::{Error, ErrorKind, Result};
use serde_json::{Value, json};

use crate::backend::velero::{Access, Settings};
use crate::exit::Exit;
use crate::output::report::{age, count, old, time};
use crate::output::table::Table;
use crate::output::{self, GREEN, RED, YELLOW};
use crate::session::Session;

/// Messages that `show` prints one by one.
const SHOWN: usize = 20;

/// Lists what Velero has, the oldest first.
pub(crate) async fn list(session: &Session, access: &Access, schedule: Option<&str>) -> Result<Exit> {
    session.begin("list", "Velero's backups")?;
    let cluster = access.cluster().await?;
    let found = velero::backups(&cluster, schedule).await?;
    if found.is_empty() {
        return Err(none(&cluster, schedule));
    }
    let now = session.context.now();
    let mut table =
        Table::new(["STARTED", "AGE", "PHASE", "ITEMS", "ERRORS", "WARNINGS", "EXPIRES", "SCHEDULE", "BACKUP"])
            .right(3)
            .right(4)
            .right(5);
    let when = |at: Option<jiff::Timestamp>| at.map_or_else(|| "-".to_owned(), time);
    for backup in &found {
        table.row([
            when(backup.started),
            backup.started.map_or_else(|| "-".to_owned(), |at| age(at, now)),
            phase(session, &backup.phase),
            items(backup),
            backup.errors.to_string(),
            backup.warnings.to_string(),
            when(backup.expires),
            backup.schedule.clone().unwrap_or_else(|| "-".to_owned()),
            backup.name.clone(),
        ]);
    }
    for line in table.lines() {
        session.output.line(line);
    }
    session.output.result(&found);
    Ok(Exit::Good)
}

fn none(cluster: &Cluster, schedule: Option<&str>) -> Error {
    let what =
        schedule.map_or_else(|| "a backup".to_owned(), |schedule| format!("a backup of the schedule {schedule}"));
    let why = format!("Velero has none in the namespace {} of {}", cluster.namespace(), cluster.server());
    Error::new(ErrorKind::NoArtifact, "find", what, why).hint(
        "`lifeboat-velero schedules list` shows what makes backups; --velero-namespace names another installation",
    )
}

/// The latest backup of a schedule that is complete.
///
/// # Errors
/// [`ErrorKind::NoArtifact`] when there is none.
pub(crate) async fn latest(cluster: &Cluster, schedule: &str) -> Result<BackupSummary> {
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

fn phase(session: &Session, phase: &str) -> String {
    let color = match phase {
        "Completed" => GREEN,
        "PartiallyFailed" | "Failed" | "FailedValidation" => RED,
        _ => YELLOW,
    };
    session.output.paint(phase, color)
}

/// Shows one backup.
pub(crate) async fn show(session: &Session, settings: &Settings, ca: Option<&PathBuf>, name: &str) -> Result<Exit> {
    session.begin("show", name)?;
    let (cluster, files) = (settings.cluster().await?, settings.files(ca)?);
    let details = velero::backup(&cluster, &files, name, &session.context).await?;
    print(session, &details);
    session.output.result(&details);
    Ok(Exit::Good)
}

fn print(session: &Session, details: &BackupDetails) {
    let (output, backup) = (&session.output, &details.summary);
    let now = session.context.now();
    let line = |name: &str, value: String| output.line(format!("{name:<14} {value}"));
    let listed = |names: &[String], none: &str| if names.is_empty() { none.to_owned() } else { names.join(", ") };
    let chosen =
        |choice: Option<bool>| choice.map_or("as Velero decides", |yes| if yes { "yes" } else { "no" }).to_owned();
    line("backup", backup.name.clone());
    line("phase", phase(session, &backup.phase));
    line(
        "started",
        backup.started.map_or_else(|| "not yet".to_owned(), |at| format!("{} ({})", time(at), old(at, now))),
    );
    if let Some(seconds) = backup.seconds() {
        line("took", output::report::seconds(seconds));
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
    for (title, messages, color) in [("problems", &details.problems, RED), ("warnings", &details.notices, YELLOW)] {
        if messages.is_empty() {
            continue;
        }
        output.line(format!("\n{}:", output.paint(title, color)));
        for message in messages.iter().take(SHOWN) {
            output.line(format!("  {message}"));
        }
        if messages.len() > SHOWN {
            output.line(format!("  and {} more; --json shows all", messages.len() - SHOWN));
        }
    }
    if !details.volumes.is_empty() {
        output.line("");
        let mut table = Table::new(["VOLUME", "METHOD", "PHASE", "SIZE", "PROBLEM"]).right(3);
        let dash = || "-".to_owned();
        for volume in &details.volumes {
            table.row([
                volume.claim.clone(),
                if volume.method.is_empty() { dash() } else { volume.method.clone() },
                if volume.phase.is_empty() { dash() } else { volume.phase.clone() },
                volume.bytes.map_or_else(dash, human_bytes),
                volume.problem.clone().unwrap_or_else(dash),
            ]);
        }
        for row in table.lines() {
            output.line(row);
        }
    }
    if let Some(why) = &details.unread {
        output.warn(&format!("messages and volumes could not be read: {why}"));
    }
}

/// Prints the log of a backup or a restore, as it comes.
pub(crate) async fn logs(session: &Session, settings: &Settings, ca: Option<&PathBuf>, of: &LogOf) -> Result<Exit> {
    let (LogOf::Backup(name) | LogOf::Restore(name)) = of;
    session.begin("read the log of", name)?;
    let (cluster, files) = (settings.cluster().await?, settings.files(ca)?);
    let mut stream = velero::logs(&cluster, &files, of, &session.context).await?;
    let mut lines = Lines { session, rest: Vec::new() };
    while let Some(chunk) = stream.try_next().await? {
        lines.take(&chunk);
    }
    lines.end();
    Ok(Exit::Good)
}

/// Prints whole lines; with `--json`, as an array of them.
struct Lines<'a> {
    session: &'a Session,
    rest: Vec<u8>,
}

impl Lines<'_> {
    fn take(&mut self, chunk: &[u8]) {
        self.rest.extend_from_slice(chunk);
        if let Some(end) = self.rest.iter().rposition(|byte| *byte == b'\n') {
            let rest = self.rest.split_off(end + 1);
            let whole = std::mem::replace(&mut self.rest, rest);
            self.print(&whole[..end]);
        }
    }

    fn print(&self, whole: &[u8]) {
        let text = String::from_utf8_lossy(whole);
        if self.session.output.is_json() {
            text.lines().for_each(|line| self.session.output.item(&line));
        } else {
            self.session.output.line(text);
        }
    }

    fn end(self) {
        if !self.rest.is_empty() {
            self.print(&self.rest);
        }
        self.session.output.end_of_items();
    }
}

/// Has Velero delete backups, when told to; otherwise says what would go. One that fails does not stop the others.
pub(crate) async fn delete(
    session: &Session,
    access: &Access,
    names: &[String],
    limit: Duration,
    apply: bool,
) -> Result<Exit> {
    let output = &session.output;
    let cluster = access.cluster().await?;
    let mut exit = Exit::Good;
    let mut results: Vec<Value> = Vec::new();
    for name in names {
        let outcome = async {
            session.begin("delete", name)?;
            if !apply {
                let details = velero::backup(&cluster, &Files::links(), name, &session.context).await?;
                return Ok(planned(&details));
            }
            velero::delete_backup(&cluster, name, limit, &session.context).await.map(|check| check.detail)
        };
        match session.settle("delete", name, outcome.await) {
            Ok(detail) => {
                let word = if apply { output.paint("DONE", GREEN) } else { output.paint("PLAN", YELLOW) };
                output.line(format!("{word} {name}: {detail}"));
                results.push(json!({ "backup": name, "deleted": apply, "passed": true, "detail": detail }));
            }
            Err(error) => {
                output.error(&error);
                exit.and(Exit::from(&error));
                results.push(
                    json!({ "backup": name, "deleted": false, "passed": false, "error": output::error_value(&error) }),
                );
            }
        }
    }
    if !apply && exit == Exit::Good {
        output.line("nothing was deleted; --apply does it");
    }
    output.result(&results);
    Ok(exit)
}

fn planned(details: &BackupDetails) -> String {
    let backup = &details.summary;
    let started = backup.started.map_or_else(|| "not begun".to_owned(), |at| format!("of {}", time(at)));
    let volumes = count(details.volumes.len(), "volume");
    format!(
        "{}, {started}, {} items, data of {volumes}, and the restores that were made of it",
        backup.phase,
        items(backup)
    )
}
