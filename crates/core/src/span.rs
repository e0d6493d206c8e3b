//! The [spans](tracing::Span) of runs, so that a program that collects them sees what belongs together.
//!
//! | span | level | fields | within |
//! |---|---|---|---|
//! | `backup`, `restore`, `verify`, `prune`, `replicate`, `copy` | info | `verb` (its name), `run` (8 hex digits), `dataset` (of `replicate`, the folder; of `copy`, the tree's name), `system` (once it is known), `outcome` (at the end: `good`, `warning`, `failed`) | what the program has entered |
//! | `hook` | info | `when` (`before` or `after`) | the run |
//! | `stage` | debug | `stage` (`tap`, `zstd`, `age`, `hash`, …), `bytes` (read, at the end) | the run; its thread is inside |
//! | `put` | debug | `sink` (its URL), `key`, `bytes` (at the end) | the run |
//! | `get` | debug | `sink`, `key`, `bytes` (at the end) | the run |
//! | `request` (of an S3 store) | debug | `method`, `bytes` (sent), `status` | `put`, or whatever asks |
//!
//! No field holds a secret, or a name of what is inside a dataset. A span that nobody collects costs nothing.

use std::fmt::Display;

use futures::StreamExt;
use tracing::{Instrument, Span, debug_span, field, info_span};

use crate::error::Result;
use crate::history::{Outcome, Verb};
use crate::sink::Sink;
use crate::stream::ByteStream;

/// The span of a run.
pub(crate) fn of_run(verb: Verb, dataset: Option<&dyn Display>) -> Span {
    macro_rules! run {
        ($name:literal) => {
            info_span!(
                $name,
                verb = $name,
                run = field::Empty,
                dataset = field::Empty,
                system = field::Empty,
                outcome = field::Empty
            )
        };
    }
    let span = match verb {
        Verb::Backup => run!("backup"),
        Verb::Restore => run!("restore"),
        Verb::Verify => run!("verify"),
        Verb::Prune => run!("prune"),
        Verb::Replicate => run!("replicate"),
    };
    begin(span, dataset)
}

/// The span of the copy of a tree.
pub(crate) fn of_tree(name: &str) -> Span {
    let span = info_span!(
        "copy",
        verb = "copy",
        run = field::Empty,
        dataset = field::Empty,
        system = field::Empty,
        outcome = field::Empty
    );
    begin(span, Some(&name))
}

fn begin(span: Span, dataset: Option<&dyn Display>) -> Span {
    if !span.is_disabled() {
        let mut random = [0; 4];
        // Without randomness it has no number.
        if getrandom::fill(&mut random).is_ok() {
            span.record("run", hex::encode(random));
        }
        if let Some(dataset) = dataset {
            span.record("dataset", field::display(dataset));
        }
    }
    span
}

/// Says of the run that is under way here what only its source or its manifest told.
pub(crate) fn know(dataset: &str, system: &str) {
    Span::current().record("dataset", dataset).record("system", system);
}

/// Says what came of the run.
pub(crate) fn end(span: &Span, outcome: Outcome) {
    span.record("outcome", outcome.as_str());
}

/// The span of a stage, within the current one.
pub(crate) fn stage(name: &'static str) -> Span {
    debug_span!("stage", stage = name, bytes = field::Empty)
}

/// Writes an object in a span of its own, within the current one.
pub(crate) async fn put(sink: &dyn Sink, key: &str, put: impl Future<Output = Result<u64>>) -> Result<u64> {
    let span = debug_span!("put", sink = %sink.url(), key, bytes = field::Empty);
    let done = put.instrument(span.clone()).await;
    if let Ok(bytes) = &done {
        span.record("bytes", bytes);
    }
    done
}

/// A stream that is read from a sink: its span, within the current one, lasts until the stream has gone.
pub(crate) fn get(sink: &dyn Sink, key: &str, stream: ByteStream) -> ByteStream {
    let span = debug_span!("get", sink = %sink.url(), key, bytes = field::Empty);
    if span.is_disabled() {
        return stream;
    }
    let mut reading = Reading { span, bytes: 0 };
    stream
        .inspect(move |item| {
            if let Ok(chunk) = item {
                reading.add(chunk.len());
            }
        })
        .boxed()
}

struct Reading {
    span: Span,
    bytes: u64,
}

impl Reading {
    fn add(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        self.span.record("bytes", self.bytes);
    }
}
