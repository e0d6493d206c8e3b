//! `schedules`: those that Velero has, and those that it should have.

use lifeboat::velero;
use lifeboat::{Error, ErrorKind, Result, Status};
use serde_json::json;

use crate::backend::Backend;
use crate::backend::velero::{Access, Settings};
use crate::commands::restore::print_plan;
use crate::config::Config;
use crate::config::mistake::suggest;
use crate::exit::Exit;
use crate::output::report::{age, checks};
use crate::output::table::Table;
use crate::output::{GREEN, RED, YELLOW};
use crate::session::Session;

/// Lists Velero's schedules.
pub(crate) async fn list(session: &Session, access: &Access) -> Result<Exit> {
    session.begin("list", "Velero's schedules")?;
    let cluster = access.cluster().await?;
    let found = velero::schedules(&cluster).await?;
    if found.is_empty() {
        let why = format!("Velero has none in the namespace {}", cluster.namespace());
        return Err(Error::new(ErrorKind::NoArtifact, "find", "a schedule", why)
            .hint("`lifeboat-velero schedules apply` makes those of a config file"));
    }
    let now = session.context.now();
    let mut table = Table::new(["SCHEDULE", "CRON", "STATE", "LAST BACKUP", "KEPT FOR", "NAMESPACES", "MADE BY"]);
    for schedule in &found {
        let state = if schedule.paused { "paused" } else { &schedule.phase };
        table.row([
            schedule.name.clone(),
            schedule.cron.clone(),
            state.to_owned(),
            schedule.last_backup.map_or_else(|| "never".to_owned(), |at| format!("{} ago", age(at, now))),
            schedule.ttl.clone().unwrap_or_else(|| "-".to_owned()),
            if schedule.namespaces.is_empty() { "all".to_owned() } else { schedule.namespaces.join(",") },
            if schedule.managed { "a config file" } else { "others" }.to_owned(),
        ]);
    }
    for line in table.lines() {
        session.output.line(line);
    }
    for schedule in &found {
        for problem in &schedule.problems {
            session.output.warn(&format!("Velero does not accept the schedule {}: {problem}", schedule.name));
        }
    }
    session.output.result(&found);
    Ok(Exit::Good)
}

/// Compares the schedules of a job with those that are there, and makes them so when told to.
pub(crate) async fn apply(
    session: &Session,
    config: &Config,
    job: Option<&str>,
    apply: bool,
    delete_extra: bool,
) -> Result<Exit> {
    let output = &session.output;
    let (name, settings) = of_config(config, job)?;
    session.begin("plan the schedules of", name)?;
    let cluster = settings.cluster().await?;
    let planned = velero::plan_schedules(&cluster, &settings.schedules, delete_extra).await;
    let planned = session.settle("plan the schedules of", name, planned)?;
    print_plan(session, planned.plan());
    let (plan, counts) = (planned.plan().clone(), planned.plan().counts());
    let value = |applied: bool, checks: &[lifeboat::Check]| {
        let passed = checks.iter().all(|check| check.status != Status::Fail);
        json!({ "job": name, "applied": applied, "passed": passed, "plan": plan, "counts": counts, "checks": checks })
    };
    if !apply || counts.to_do() == 0 {
        let rest = if counts.to_do() == 0 { "nothing is to do" } else { "nothing was changed; --apply does it" };
        output.line(format!("{} {name}: {counts}: {rest}", output.paint("PLAN", YELLOW)));
        output.result(&value(false, &[]));
        return Ok(Exit::Good);
    }
    let made = session.settle("apply the schedules of", name, planned.apply(&session.context).await)?;
    for line in checks(output, &made) {
        output.line(format!("  {line}"));
    }
    let value = value(true, &made);
    let passed = value["passed"] == true;
    let (word, color) = if passed { ("DONE", GREEN) } else { ("PART", RED) };
    output.line(format!("{} {name}: {counts}", output.paint(word, color)));
    output.result(&value);
    Ok(if passed { Exit::Good } else { Exit::Failed })
}

/// The job with schedules: the one that is named, or the only one.
fn of_config<'a>(config: &'a Config, named: Option<&str>) -> Result<(&'a str, &'a Settings)> {
    let all: Vec<(&str, &Settings)> = config
        .jobs
        .iter()
        .filter_map(|job| match &job.backend {
            Backend::Velero(settings) if !settings.schedules.is_empty() => Some((job.name.as_str(), &**settings)),
            _ => None,
        })
        .collect();
    let path = config.path.display().to_string();
    let names: Vec<&str> = all.iter().map(|(name, _)| *name).collect();
    match (named, &all[..]) {
        (Some(named), _) => all.iter().find(|(name, _)| *name == named).copied().ok_or_else(|| {
            let why = format!("{path} has no job of that name with schedules");
            Error::new(ErrorKind::Config, "find", format!("job \"{named}\""), why).hint(suggest(named, &names))
        }),
        (None, [only]) => Ok(*only),
        (None, []) => Err(Error::new(ErrorKind::Config, "find", "a schedule", format!("{path} names none"))
            .hint("write velero.schedules.daily = { cron = \"0 2 * * *\", ttl = \"7d\" } into a job with velero")),
        (None, _) => Err(Error::new(ErrorKind::Config, "choose", "the job", "several have schedules")
            .hint(format!("name one with --job: {}", names.join(", ")))),
    }
}
