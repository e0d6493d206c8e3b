//! `judge`: judges the backups in a bucket, without a cluster. `verify` without a sink: the restore test of Velero's
//! own backup.

use lifeboat_core::cli::{Console, Outcome, Part, settle};
use lifeboat_core::{Level, Report, Result, duration};
use serde_json::{Value, json};

use super::super::{BucketVerifier, MAX_AGE, RestoreTest, RestoreTestOptions};
use super::verbs::{Judge, Verify};
use super::{Outcomes, begin, open, wrong};

/// Judges all backups in the bucket, or the named ones; reports other contents that keep Velero from using the bucket.
pub(super) async fn run(judge: Judge, console: &dyn Console) -> Result<Outcome> {
    begin(console, "judge", "the bucket")?;
    let location = open(*judge.reach.settings, console)?.location()?;
    let bucket = BucketVerifier::new(location.clone()).must_cover(judge.must_cover);
    let cx = console.context();
    let mut outcomes = Outcomes::new(console);
    let mut results: Vec<Value> = Vec::new();
    let mut tell = |outcome: Result<Report>| match outcome {
        Ok(report) => {
            outcomes.note(report.passed);
            if !results.is_empty() {
                console.say(Part::Line(String::new()));
            }
            results.push(json!(report));
            console.say(Part::Report(report));
        }
        Err(error) => {
            results.push(json!({ "passed": false, "error": console.failure(&error) }));
            outcomes.error(error);
        }
    };
    if judge.backups.is_empty() {
        settle(cx, "judge", "the bucket", bucket.run(cx).await)?.into_iter().for_each(|report| tell(Ok(report)));
        let folders = settle(cx, "judge", "the bucket", bucket.foreign_folders().await)?;
        tell(Ok(Report::new(location.url(), location.url(), Level::Stored, vec![folders])));
    }
    for name in &judge.backups {
        tell(settle(cx, "judge", name, bucket.verify(name, cx).await));
    }
    console.result(results.into());
    outcomes.end()
}

/// Restores a namespace of Velero's latest backup into a scratch one, and compares.
pub(super) async fn test(verify: Verify, console: &dyn Console) -> Result<Outcome> {
    only_of_copies(&verify)?;
    let Verify { reach, test, max_age, .. } = verify;
    let schedule = reach.settings.from_schedule.clone();
    if schedule.is_some() && test.backup.is_some() {
        let why = "give a backup or a schedule, not both";
        return Err(wrong("--backup", why, "leave out --from-schedule or --backup"));
    }
    // The limit reveals whether backups have stopped; a named backup may have any age.
    let newest = test.backup.is_none();
    let asked = max_age.map(|text| duration::parse(&text, "--max-age")).transpose()?;
    let max_age = asked.or(newest.then_some(MAX_AGE));
    let Some(namespace) = test.namespace.clone() else {
        let hint = "name it with --namespace; it is restored into a scratch namespace and itself left alone";
        return Err(wrong("the restore test", "no namespace was named", hint));
    };
    let options = RestoreTestOptions { schedule, max_age, ..test };
    begin(console, "verify", &namespace)?;
    let system = open(*reach.settings, console)?;
    let location = system.location()?;
    let test = RestoreTest::new(system.cluster().await?, location, options);
    let report = settle(console.context(), "verify", "Velero's backup", test.run(console.context()).await)?;
    let (passed, value) = (report.passed, json!([&report]));
    console.say(Part::Report(report));
    console.result(value);
    Ok(Outcome::of(passed))
}

/// Rejects flags that apply only to copies.
fn only_of_copies(verify: &Verify) -> Result<()> {
    let hint = "name the sink of the copies with --sink; without it the restore of Velero's own backup is tested";
    if verify.level.is_some_and(|level| level != Level::Restore) {
        return Err(wrong("--level", "it is of a copy", hint));
    }
    if verify.at != "latest" {
        return Err(wrong("--at", "it is of a copy", "name a backup of Velero with --backup"));
    }
    Ok(())
}
