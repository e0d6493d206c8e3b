//! `judge`: the backups in a bucket, without a cluster. `verify` without a sink: the restore test of Velero's own backup.

use lifeboat::velero::{BucketVerifier, RestoreTest, RestoreTestOptions};
use lifeboat::{Level, Report, Result};
use serde_json::{Value, json};

use crate::backend::velero::Settings;
use crate::commands::verify;
use crate::exit::Exit;
use crate::output;
use crate::session::Session;

/// Judges the backups in the bucket, or those that are named; says what else lies there that keeps Velero from using it.
pub(crate) async fn run(session: &Session, settings: &Settings, names: &[String]) -> Result<Exit> {
    session.begin("judge", "the bucket")?;
    let location = settings.location()?;
    let bucket = BucketVerifier::new(location.clone()).must_cover(settings.must_cover.iter().cloned());
    let cx = &session.context;
    let mut exit = Exit::Good;
    let mut results: Vec<Value> = Vec::new();
    let mut tell = |outcome: Result<Report>| match outcome {
        Ok(report) => {
            exit.and(if report.passed { Exit::Good } else { Exit::Failed });
            if !results.is_empty() {
                session.output.line("");
            }
            verify::print(session, &report);
            results.push(json!(report));
        }
        Err(error) => {
            session.output.error(&error);
            exit.and(Exit::from(&error));
            results.push(json!({ "passed": false, "error": output::error_value(&error) }));
        }
    };
    if names.is_empty() {
        session.settle("judge", "the bucket", bucket.run(cx).await)?.into_iter().for_each(|report| tell(Ok(report)));
        let folders = session.settle("judge", "the bucket", bucket.foreign_folders().await)?;
        let of_bucket = Report::new(location.url(), location.url(), Level::Stored, vec![folders]);
        tell(Ok(of_bucket));
    }
    for name in names {
        tell(session.settle("judge", name, bucket.verify(name, cx).await));
    }
    session.output.result(&results);
    Ok(exit)
}

/// Restores a namespace of Velero's latest backup into a scratch one, and compares.
pub(crate) async fn test(session: &Session, settings: &Settings, options: RestoreTestOptions) -> Result<Exit> {
    session.begin("verify", &options.namespace)?;
    let location = settings.location()?;
    let test = RestoreTest::new(settings.cluster().await?, location, options);
    let report = session.settle("verify", "Velero's backup", test.run(&session.context).await)?;
    verify::print(session, &report);
    session.output.result(&[&report]);
    Ok(if report.passed { Exit::Good } else { Exit::Failed })
}
