//! `schedules`: lists Velero's schedules, and applies those in a config file.

use lifeboat_core::cli::{Console, Jobs, Outcome, Part, Rows, Tone, settle};
use lifeboat_core::words::{age, suggest};
use lifeboat_core::{Check, Error, ErrorKind, Result, Status};
use serde_json::json;

use super::super::VeleroSystem;
use super::super::schedules::{plan_schedules, schedules};
use super::reach::{InCluster, Reach};
use super::verbs::Apply;
use super::{begin, open};

/// Lists Velero's schedules.
pub(super) async fn list(reach: Reach<InCluster>, console: &dyn Console) -> Result<Outcome> {
    begin(console, "list", "Velero's schedules")?;
    let cluster = open(*reach.settings, console)?.cluster().await?;
    let found = schedules(&cluster).await?;
    if found.is_empty() {
        let why = format!("Velero has none in the namespace {}", cluster.namespace());
        return Err(Error::new(ErrorKind::NoArtifact, "find", "a schedule", why)
            .hint("`lifeboat-velero schedules apply` creates those of a config file"));
    }
    let now = console.context().now();
    let mut table = Rows::new(["SCHEDULE", "CRON", "STATE", "LAST BACKUP", "KEPT FOR", "NAMESPACES", "MADE BY"]);
    for schedule in &found {
        let state = if schedule.paused { "paused" } else { &schedule.phase };
        table.row([
            schedule.name.as_str().into(),
            schedule.cron.as_str().into(),
            state.into(),
            schedule.last_backup.map_or_else(|| "never".to_owned(), |at| format!("{} ago", age(at, now))).into(),
            schedule.ttl.as_deref().unwrap_or("-").into(),
            if schedule.namespaces.is_empty() { "all".to_owned() } else { schedule.namespaces.join(",") }.into(),
            if schedule.managed { "a config file" } else { "others" }.into(),
        ]);
    }
    console.say(Part::Table(table));
    for schedule in &found {
        for problem in &schedule.problems {
            let text = format!("Velero does not accept the schedule {}: {problem}", schedule.name);
            console.say(Part::Warning(text));
        }
    }
    console.result(json!(found));
    Ok(Outcome::Good)
}

/// Compares the schedules of a job with the existing ones, and applies the changes on request.
pub(super) async fn apply(wanted: Apply, console: &dyn Console) -> Result<Outcome> {
    let jobs = console.jobs(wanted.config.as_deref())?;
    let (name, system) = of_config(&jobs, wanted.job.as_deref())?;
    begin(console, "plan the schedules of", name)?;
    let (cluster, cx) = (system.cluster().await?, console.context());
    let planned = plan_schedules(&cluster, &system.schedules(), wanted.delete_extra).await;
    let planned = settle(cx, "plan the schedules of", name, planned)?;
    let (plan, counts) = (planned.plan().clone(), planned.plan().counts());
    console.say(Part::Plan(plan.clone()));
    let value = |applied: bool, checks: &[Check]| {
        let passed = checks.iter().all(|check| check.status != Status::Fail);
        json!({ "job": name, "applied": applied, "passed": passed, "plan": plan, "counts": counts, "checks": checks })
    };
    if !wanted.apply || counts.to_do() == 0 {
        let rest = if counts.to_do() == 0 { "nothing to do" } else { "nothing was changed; --apply does it" };
        console.say(Part::Verdict("PLAN", Tone::Caution, format!("{name}: {counts}: {rest}")));
        console.result(value(false, &[]));
        return Ok(Outcome::Good);
    }
    let applied = settle(cx, "apply the schedules of", name, planned.apply(cx).await)?;
    let value = value(true, &applied);
    let passed = value["passed"] == true;
    console.say(Part::Checks(applied));
    let (word, tone) = if passed { ("DONE", Tone::Good) } else { ("PART", Tone::Bad) };
    console.say(Part::Verdict(word, tone, format!("{name}: {counts}")));
    console.result(value);
    Ok(Outcome::of(passed))
}

/// The job with schedules: the named one, or the only one.
pub(super) fn of_config<'a>(jobs: &'a Jobs, named: Option<&str>) -> Result<(&'a str, &'a VeleroSystem)> {
    let all: Vec<(&str, &VeleroSystem)> = jobs
        .jobs
        .iter()
        .filter_map(|(name, system)| Some((name.as_str(), system.downcast::<VeleroSystem>()?)))
        .filter(|(_, system)| !system.schedules().is_empty())
        .collect();
    let path = &jobs.path;
    let names: Vec<&str> = all.iter().map(|(name, _)| *name).collect();
    match (named, &all[..]) {
        (Some(named), _) => all.iter().find(|(name, _)| *name == named).copied().ok_or_else(|| {
            let why = format!("{path} has no job of that name with schedules");
            Error::new(ErrorKind::Config, "find", format!("job \"{named}\""), why).hint(suggest(named, &names))
        }),
        (None, [only]) => Ok(*only),
        (None, []) => Err(Error::new(ErrorKind::Config, "find", "a schedule", format!("{path} names none"))
            .hint("add velero.schedules.daily = { cron = \"0 2 * * *\", ttl = \"7d\" } to a job with velero")),
        (None, _) => Err(Error::new(ErrorKind::Config, "choose", "the job", "several have schedules")
            .hint(format!("name one with --job: {}", names.join(", ")))),
    }
}
