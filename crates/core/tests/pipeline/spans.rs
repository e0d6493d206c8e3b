//! The spans of runs: their names, their fields, and what lies within what, on every thread.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, OnceLock};

use futures::StreamExt;
use lifeboat_core::retention::Policy;
use lifeboat_core::{Check, Context, async_trait};
use lifeboat_core::{
    Hooks, Level, Proof, ProofItem, Prune, Replicate, Restore, RestoreInput, Result, Tap, Target, Verify,
};
use lifeboat_testkit::memory::MemorySink;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::{Context as In, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;

use super::doubles::*;
use super::limits::Whole;

/// A span as it was collected.
#[derive(Clone, Debug, Default)]
struct Seen {
    name: &'static str,
    parent: Option<u64>,
    fields: BTreeMap<&'static str, String>,
}

impl Visit for Seen {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.fields.insert(field.name(), format!("{value:?}").trim_matches('"').to_owned());
    }
}

#[derive(Default)]
struct All {
    spans: BTreeMap<u64, Seen>,
    /// Of each event with the message `pushed`, the span that it is in.
    pushed: Vec<u64>,
}

fn all() -> &'static Mutex<All> {
    static ALL: OnceLock<Mutex<All>> = OnceLock::new();
    ALL.get_or_init(|| {
        tracing::subscriber::set_global_default(tracing_subscriber::registry().with(Collector)).unwrap();
        Mutex::default()
    })
}

/// Collects the spans of this crate, of all tests that run meanwhile.
struct Collector;

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Collector {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, cx: In<'_, S>) {
        let parent = cx.span(id).and_then(|span| span.parent().map(|parent| parent.id().into_u64()));
        let mut seen = Seen { name: attributes.metadata().name(), parent, ..Seen::default() };
        attributes.record(&mut seen);
        all().lock().unwrap().spans.insert(id.into_u64(), seen);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, _: In<'_, S>) {
        if let Some(seen) = all().lock().unwrap().spans.get_mut(&id.into_u64()) {
            values.record(seen);
        }
    }

    fn on_event(&self, event: &Event<'_>, cx: In<'_, S>) {
        let mut said = Seen::default();
        event.record(&mut said);
        if said.fields.get("message").is_some_and(|message| message == "pushed")
            && let Some(span) = cx.lookup_current()
        {
            all().lock().unwrap().pushed.push(span.id().into_u64());
        }
    }
}

struct Pushes;

impl Tap for Pushes {
    fn push(&mut self, _: &[u8]) -> Result<()> {
        tracing::info!("pushed");
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<Proof> {
        Ok(Proof::new([ProofItem::new("table", ITEM, 1000)]))
    }
}

struct Reads;

#[async_trait]
impl Target for Reads {
    async fn restore(&self, mut input: RestoreInput, _: &Context) -> Result<Vec<Check>> {
        while let Some(chunk) = input.stream.next().await {
            chunk?;
        }
        Ok(Vec::new())
    }
}

/// The spans below those runs whose dataset is `dataset`, as `parent > name(stage)`, sorted, and the fields of the runs.
fn tree(dataset: &str) -> (Vec<String>, Vec<BTreeMap<&'static str, String>>) {
    let all = all().lock().unwrap();
    let label = |seen: &Seen| match seen.fields.get("stage").or(seen.fields.get("when")) {
        Some(which) => format!("{} {which}", seen.name),
        None => seen.name.to_owned(),
    };
    let is_ours = |seen: &Seen| seen.fields.get("dataset").is_some_and(|of| of == dataset);
    let mut lines: Vec<String> = Vec::new();
    for seen in all.spans.values() {
        if let Some(parent) = seen.parent.and_then(|id| all.spans.get(&id)).filter(|parent| is_ours(parent)) {
            lines.push(format!("{} > {}", label(parent), label(seen)));
        }
    }
    lines.sort();
    let runs = all.spans.values().filter(|seen| is_ours(seen)).map(|seen| seen.fields.clone()).collect();
    (lines, runs)
}

#[tokio::test]
async fn each_run_is_a_span_and_what_it_does_lies_within() {
    drop(all().lock().unwrap());
    let sink = MemorySink::new();
    let hooks = Hooks::new().before(|_| async { Ok(()) });
    let source = FakeSource::of(lines()).tapped_by(|| Box::new(Pushes));
    let made = backup(source).dataset(dataset("spans")).hooks(hooks).to(sink.clone());
    made.run().await.unwrap();
    let artifact = the_artifact(&sink).await;
    let verify = Verify::new(sink.clone(), artifact.clone(), &Whole).level(Level::Stored).record(false);
    verify.run().await.unwrap();
    Restore::new(sink.clone(), artifact).history(false).into(&Reads).await.unwrap();
    let to = ScriptedSink::new(|_, _| Fate::Done).named("copy");
    let replicate = Replicate::new(sink.clone(), to.arc()).folder(FOLDER).dataset(Some(dataset("spans")));
    replicate.history(false).plan().await.unwrap().execute().await.unwrap();
    let prune = Prune::new(sink, dataset("spans")).folder(FOLDER).keep(Policy::days(30)).history(false);
    prune.plan().await.unwrap().execute().await.unwrap();

    // A stage's last message comes before its thread has closed its span.
    let (tree, runs) = tree("spans");
    assert_eq!(
        tree,
        [
            "backup > hook after",
            "backup > hook before",
            "backup > put",
            "backup > stage hash",
            "backup > stage tap",
            "backup > stage zstd",
            "replicate > get",
            "replicate > put",
            "replicate > stage hash",
            "restore > get",
            "restore > stage check",
            "restore > stage decompress",
            "restore > stage hash",
            "verify > get",
            "verify > stage hash",
        ]
    );
    assert_eq!(runs.len(), 5, "{runs:?}");
    for run in &runs {
        assert_eq!((run["run"].len(), run["outcome"].as_str()), (8, "good"), "{run:?}");
        let system = run.get("system").map_or("", String::as_str);
        let known = matches!(run["verb"].as_str(), "backup" | "verify" | "restore");
        assert_eq!(system, if known { "fake" } else { "" }, "{run:?}");
    }
    let all = all().lock().unwrap();
    let within = all.pushed.iter().map(|id| all.spans[id].fields["stage"].clone()).collect::<Vec<_>>();
    assert!(!within.is_empty() && within.iter().all(|stage| stage == "tap"), "{within:?}");
    let put = all.spans.values().find(|seen| seen.name == "put" && seen.fields["sink"] == "memory://copy").unwrap();
    assert_ne!(put.fields["bytes"], "0");
    let told = format!("{:?}", all.spans);
    assert!(!told.contains(ITEM) && !told.contains("public.b"), "no name of what is inside");
}
