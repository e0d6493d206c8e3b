//! Writing the record of a pipeline run when it ends.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use jiff::Timestamp;

use super::{Failure, HISTORY_FOLDER, Outcome, Record, Verb, write};
use crate::context::Context;
use crate::error::{Error, ErrorKind};
use crate::name::{Dataset, join_key};
use crate::progress::Event;
use crate::report::{Check, Status};
use crate::sink::Sink;
use crate::verifier::Level;

/// How long writing a record may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long writing a record may take after a cancellation.
const HURRY: Duration = Duration::from_secs(3);

/// The figures of a completed run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Figures {
    pub(crate) outcome: Option<Outcome>,
    pub(crate) bytes: Option<u64>,
    pub(crate) items: Option<u64>,
    pub(crate) rows: Option<u64>,
}

impl Figures {
    /// The outcome that follows from these checks.
    pub(crate) fn of_checks(checks: &[Check]) -> Outcome {
        match checks.iter().map(|check| check.status).max() {
            None | Some(Status::Pass) => Outcome::Good,
            Some(Status::Warn) => Outcome::Warning,
            Some(Status::Untested | Status::Fail) => Outcome::Failed,
        }
    }
}

/// What the record needs to know about a run in progress.
#[derive(Clone, Debug)]
pub(crate) struct Journal {
    verb: Verb,
    folder: String,
    started_at: Timestamp,
    began: Instant,
    confidential: bool,
    /// The dataset. Without one there is no place for a record.
    pub(crate) dataset: Option<Dataset>,
    pub(crate) key: Option<String>,
    pub(crate) level: Option<Level>,
}

impl Journal {
    pub(crate) fn begin(verb: Verb, folder: &str, now: Timestamp, confidential: bool) -> Self {
        Self {
            verb,
            folder: folder.trim_matches('/').to_owned(),
            started_at: now,
            began: Instant::now(),
            confidential,
            dataset: None,
            key: None,
            level: None,
        }
    }

    /// Creates the record of the run, which ends now.
    pub(crate) fn record(&self, sink: &dyn Sink, result: Result<&Figures, &Error>) -> Option<Record> {
        let dataset = self.dataset.clone()?;
        let took = self.began.elapsed();
        let finished_at = self.started_at.checked_add(took).unwrap_or(self.started_at);
        let outcome = result.as_ref().map_or(Outcome::Failed, |f| f.outcome.unwrap_or(Outcome::Good));
        let mut record = Record::new(self.verb, dataset, outcome, self.started_at, finished_at);
        record.sink = Some(sink.url());
        record.key.clone_from(&self.key);
        record.level = self.level;
        record.seconds = took.as_secs_f64();
        match result {
            Ok(figures) => {
                (record.bytes, record.items, record.rows) = (figures.bytes, figures.items, figures.rows);
            }
            Err(error) => record.error = Some(Failure::of(error, self.confidential)),
        }
        Some(record)
    }

    /// Writes the record. This never fails the run: a problem is returned, for a note.
    pub(crate) async fn write(&self, sink: &Arc<dyn Sink>, record: &Record, patience: Duration) -> Result<(), String> {
        let written = tokio::time::timeout(patience, async {
            // A run that failed because the place does not exist must not create it: the disk may not be mounted.
            if record.outcome == Outcome::Failed
                && let Some(Err(error)) = sink.list(&join_key(&self.folder, HISTORY_FOLDER)).next().await
                && error.kind() == ErrorKind::NotFound
            {
                return Ok(());
            }
            write(&**sink, &self.folder, record).await.map(drop)
        });
        let error = match written.await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => error,
            Err(_) => {
                let why = format!("it did not answer for {} s", patience.as_secs());
                Error::new(ErrorKind::Unavailable, "write to", sink.url(), why)
            }
        };
        Err(format!("the record of this run could not be written: {error}"))
    }

    /// How long writing this run's record may take.
    pub(crate) fn patience(cx: &Context) -> Duration {
        if cx.cancel.is_cancelled() { HURRY } else { PATIENCE }
    }

    /// Writes the record of the run to one sink. A problem becomes a note.
    pub(crate) async fn close(&self, sink: &Arc<dyn Sink>, cx: &Context, result: Result<&Figures, &Error>) {
        let Some(record) = self.record(&**sink, result) else { return };
        if let Err(note) = self.write(sink, &record, Self::patience(cx)).await {
            cx.progress.event(Event::Note(note));
        }
    }
}
