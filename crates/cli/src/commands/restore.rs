//! `restore`.

use lifeboat_config::Job;
use lifeboat_core::catalog::At;
use lifeboat_core::history::Verb;
use lifeboat_core::pipeline::Restored;
use lifeboat_core::plan::Action;
use lifeboat_core::system::Choices;
use lifeboat_core::{Error, ErrorKind, Limiter, NamedTarget, Plan, Restore, Result, Setting, Status};
use serde_json::json;

use super::place;
use crate::exit::Exit;
use crate::output::report::{checks, old, seconds, size, time};
use crate::output::{Color, GREEN, RED, YELLOW};
use crate::session::Session;

/// The options of the command line.
pub(crate) struct Options {
    pub(crate) at: At,
    pub(crate) into: Setting,
    pub(crate) limiter: Limiter,
    pub(crate) choices: Choices,
}

/// Restores one artifact of a job; where the target plans, shows the plan and carries it out only when told to.
pub(crate) async fn run(session: &Session, job: &Job, options: Options) -> Result<Exit> {
    let output = &session.output;
    session.begin("restore", &job.name)?;
    let store = job.store()?;
    let named = job.system.target(&options.into, options.choices, job.dataset()?).await?;
    check_choices(&named, output.is_json())?;
    let artifact = place::find(job, store, &options.at).await?;
    let keys = place::keys_for(job, &artifact)?;
    // What to restore to standard output is alone there.
    let say = |line: String| if named.to_stdout { output.aside(&line) } else { output.line(line) };
    say(format!(
        "{} of {} ({}, {}, {})",
        artifact.name.dataset,
        time(artifact.name.taken_at),
        old(artifact.name.taken_at, session.context.now()),
        size(artifact.bytes()),
        artifact.kind.as_str()
    ));
    say(format!("  from {}: {}", store.name, artifact.key()));
    let how = if named.replaces { ", replacing what is there once the restored data is known to be good" } else { "" };
    say(format!("  into {}{how}", named.name));
    let cx = job.context(&session.context.clone().limiter(options.limiter));
    let restore = Restore::new(store.sink.clone(), artifact).keys(keys).context(cx).hooks(job.hooks(Verb::Restore));
    let restored = if named.target.plans() {
        let planned = session.settle("plan the restore of", &job.name, restore.plan(&*named.target).await)?;
        print_plan(session, planned.plan());
        if !named.apply {
            let verdict = match planned.plan().counts() {
                counts if counts.to_do() == 0 => format!("{counts}: nothing to do"),
                counts => format!("{counts}: nothing was changed; --apply does it"),
            };
            output.line(format!("{} {}: {verdict}", output.paint("PLAN", YELLOW), job.dataset()?));
            output.result(&value(&planned.report(), &named, Some(false)));
            return Ok(Exit::Good);
        }
        session.settle("restore", &job.name, planned.apply().await)?
    } else {
        session.settle("restore", &job.name, restore.into(&*named.target).await)?
    };
    let table = checks(output, &restored.checks);
    if named.to_stdout {
        table.lines().iter().for_each(|line| output.aside(&format!("  {line}")));
    } else {
        output.table(table, 2);
    }
    let refused = restored.checks.iter().filter(|c| c.status == Status::Fail).count();
    let (word, color, how) = match refused {
        0 => ("DONE", GREEN, String::new()),
        _ => ("PART", RED, ", but not all of it: see the checks marked FAIL".to_owned()),
    };
    say(format!(
        "{} {} restored into {} in {}{how}",
        if named.to_stdout { word.to_owned() } else { output.paint(word, color) },
        restored.dataset,
        named.name,
        seconds(restored.seconds)
    ));
    output.result(&value(&restored, &named, restored.plan.as_ref().map(|_| true)));
    Ok(if refused == 0 { Exit::Good } else { Exit::Failed })
}

fn check_choices(named: &NamedTarget, json: bool) -> Result<()> {
    if named.apply && !named.target.plans() {
        return Err(Error::new(ErrorKind::Config, "use", "--apply", format!("{} is restored at once", named.name))
            .hint("only restores that change a live system piece by piece plan first; leave out --apply"));
    }
    if named.to_stdout && json {
        let why = "standard output cannot hold both the JSON result and the restored data";
        return Err(Error::new(ErrorKind::Config, "use", "--json", why).hint("write to a file: --into file:PATH"));
    }
    Ok(())
}

/// The lines of a plan, coloured on a terminal.
pub(crate) fn print_plan(session: &Session, plan: &Plan) {
    let color = |action| -> Option<Color> {
        match action {
            Action::Create => Some(GREEN),
            Action::Update => Some(YELLOW),
            Action::Delete => Some(RED),
            _ => None,
        }
    };
    for (action, line) in plan.lines() {
        let line = match color(action) {
            Some(color) => session.output.paint(&line, color),
            None => line,
        };
        session.output.line(format!("  {line}"));
    }
}

fn value(restored: &Restored, named: &NamedTarget, applied: Option<bool>) -> serde_json::Value {
    let mut value = json!(restored);
    value["into"] = named.name.as_str().into();
    if let (Some(applied), Some(plan)) = (applied, &restored.plan) {
        value["applied"] = applied.into();
        value["plan"]["counts"] = json!(plan.counts());
    }
    value
}
