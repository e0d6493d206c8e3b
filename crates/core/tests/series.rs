//! Artifacts that need others: nothing kept ever loses its base, nothing is restored by half, and what is not known here
//! stops every deletion.
#![allow(clippy::unwrap_used, missing_docs)]

mod doubles;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use doubles::*;
use lifeboat_core::catalog::{self, Artifact, Kind};
use lifeboat_core::progress::{Event, Progress, Total};
use lifeboat_core::proof::WholeStream;
use lifeboat_core::retention::{Decision, Policy};
use lifeboat_core::{
    ArtifactName, Check, Context, ErrorKind, Level, PlannedPrune, Proof, Prune, Replicate, Restore, RestoreInput,
    Result, Sink, Status, Tap, Target, Verifier, Verify, async_trait, stream,
};
use lifeboat_testkit::memory::MemorySink;
use proptest::prelude::*;

const BASE: &str = "shop-20261101-000000.base.zst";
const FIRST: &str = "shop-20261102-000000.inc.zst";
const SECOND: &str = "shop-20261103-000000.inc.zst";

fn name(text: &str) -> ArtifactName {
    ArtifactName::parse(text).unwrap()
}

fn sidecar(of: &str, needed: &str) -> String {
    format!("db/{of}.needs-{}.json", needed.strip_prefix("shop-").unwrap())
}

/// Backs up these bytes as the artifact of this name.
async fn back_up(sink: &Arc<dyn Sink>, as_name: &str, needs: &[&str]) -> Result<lifeboat_core::Receipt> {
    let parsed = name(as_name);
    let source = FakeSource::of(Bytes::copy_from_slice(as_name.as_bytes())).format(&parsed.format);
    let context = Context::default().clock(clock_at(&parsed.taken_at.to_string()));
    backup(source).needs(needs.iter().map(|n| name(n))).context(context).to(sink.clone()).run().await
}

/// A base and two increments, each on the one before.
async fn series() -> (MemorySink, Arc<dyn Sink>) {
    let memory = MemorySink::new();
    let sink: Arc<dyn Sink> = Arc::new(memory.clone());
    back_up(&sink, BASE, &[]).await.unwrap();
    back_up(&sink, FIRST, &[BASE]).await.unwrap();
    back_up(&sink, SECOND, &[FIRST]).await.unwrap();
    (memory, sink)
}

async fn artifact(sink: &dyn Sink, wanted: &str) -> Artifact {
    let all = list_all(sink, FOLDER, None).await.unwrap();
    all.into_iter().find(|a| a.name.to_string() == wanted).unwrap_or_else(|| panic!("{wanted} is not listed"))
}

/// Restores series, and remembers what it was given, in order.
#[derive(Default)]
struct Series {
    single: bool,
    given: Mutex<Vec<String>>,
}

#[async_trait]
impl Target for Series {
    fn restores_series(&self) -> bool {
        !self.single
    }

    async fn restore(&self, input: RestoreInput, _: &Context) -> Result<Vec<Check>> {
        for link in input.chain {
            assert!(link.proof.is_some(), "{}", link.name);
            let name = link.name.to_string();
            let text = stream::collect(link.open().await?, 1000, &name).await?;
            assert_eq!(text, name.as_bytes());
            self.given.lock().unwrap().push(name);
        }
        let text = stream::collect(input.stream, 1000, "it").await?;
        self.given.lock().unwrap().push(String::from_utf8(text.to_vec()).unwrap());
        Ok(Vec::new())
    }
}

#[async_trait]
impl Verifier for Series {
    fn tap(&self, _: &ArtifactName) -> Result<Box<dyn Tap>> {
        Ok(Box::new(WholeStream::new(ITEM)))
    }

    fn restores_series(&self) -> bool {
        !self.single
    }

    async fn restore_test(&self, input: RestoreInput, cx: &Context) -> Result<Vec<Check>> {
        self.restore(input, cx).await
    }

    async fn live(&self, _: Option<&Proof>, _: &Context) -> Result<Vec<Check>> {
        Ok(Vec::new())
    }
}

async fn restore(sink: &Arc<dyn Sink>, wanted: &str, target: &Series) -> Result<Vec<String>> {
    Restore::new(sink.clone(), artifact(&**sink, wanted).await).history(false).into(target).await?;
    Ok(target.given.lock().unwrap().clone())
}

#[tokio::test]
async fn an_increment_says_in_a_name_what_it_needs() {
    let (memory, sink) = series().await;
    assert!(memory.keys().contains(&sidecar(FIRST, BASE)), "{:?}", memory.keys());
    assert_eq!(artifact(&*sink, SECOND).await.needs, [name(FIRST)]);
    let manifest = artifact(&*sink, SECOND).await.read_manifest(&*sink).await.unwrap().unwrap();
    assert_eq!(manifest.needs, [FIRST]);
    // The base says nothing of it, as before there were series.
    let base = memory.bytes(&format!("db/{BASE}.manifest.json")).unwrap();
    assert!(!String::from_utf8_lossy(&base).contains("needs"));
}

#[tokio::test]
async fn the_source_can_say_what_it_needs() {
    let (_, sink) = series().await;
    let mut source = FakeSource::of("x").format("inc");
    source.describe.as_mut().unwrap().needs = vec![name(SECOND), name(BASE)];
    let receipt = backup(source).to(sink.clone()).run().await.unwrap();
    let made = artifact(&*sink, receipt.key.strip_prefix("db/").unwrap()).await;
    assert_eq!(made.needs, [name(BASE), name(SECOND)]);
}

#[tokio::test]
async fn what_an_increment_needs_is_said_before_anything_of_it_is_there() {
    let memory = series().await.0;
    let sink = ScriptedSink::over(memory, |_, _| Fate::Done);
    back_up(&sink.arc(), "shop-20261104-000000.inc.zst", &[SECOND]).await.unwrap();
    let puts: Vec<String> = sink.log().into_iter().filter(|l| l.starts_with("put")).collect();
    let at =
        |wanted: &str| puts.iter().position(|p| p.ends_with(wanted)).unwrap_or_else(|| panic!("{wanted}: {puts:?}"));
    assert!(at(".intent.json") < at(".needs-20261103-000000.inc.zst.json"));
    assert!(at(".needs-20261103-000000.inc.zst.json") < at("20261104-000000.inc.zst"));
    assert!(at("20261104-000000.inc.zst") < at(".manifest.json"));
}

#[tokio::test]
async fn an_increment_without_its_base_is_not_written() {
    let (memory, sink) = series().await;
    let before = memory.keys();
    let error = back_up(&sink, "shop-20261104-000000.inc.zst", &["shop-20261020-000000.base"]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.message().contains("shop-20261020-000000.base"), "{error}");
    assert_eq!(memory.keys(), before);
    for wrong in ["other-20261101-000000.base", "shop-20261104-000000.inc.zst"] {
        let error = back_up(&sink, "shop-20261104-000000.inc.zst", &[wrong]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{wrong}");
    }
}

#[tokio::test]
async fn an_increment_whose_source_dies_leaves_nothing() {
    let (memory, sink) = series().await;
    let before = memory.keys();
    let source = FakeSource::dying_after("half").format("inc");
    backup(source).needs([name(SECOND)]).to(sink).run().await.unwrap_err();
    assert_eq!(memory.keys(), before);
}

#[tokio::test]
async fn a_chain_is_in_the_order_of_restoring() {
    let (memory, sink) = series().await;
    let chain = |artifact: Artifact| {
        let sink = sink.clone();
        async move {
            let chain = catalog::chain(&*sink, &artifact).await;
            chain.map(|c| c.into_iter().map(|a| a.name.to_string()).collect::<Vec<_>>())
        }
    };
    assert_eq!(chain(artifact(&*sink, SECOND).await).await.unwrap(), [BASE, FIRST, SECOND]);
    assert_eq!(chain(artifact(&*sink, BASE).await).await.unwrap(), [BASE]);
    // Several needs: each once.
    memory.place(&sidecar(SECOND, BASE), "{}", at("2026-11-03T00:00:00Z"));
    assert_eq!(chain(artifact(&*sink, SECOND).await).await.unwrap(), [BASE, FIRST, SECOND]);
    // A circle.
    memory.place(&sidecar(BASE, SECOND), "{}", at("2026-11-03T00:00:00Z"));
    let error = chain(artifact(&*sink, SECOND).await).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.message().contains("circle"), "{error}");
}

#[tokio::test]
async fn a_chain_with_a_gap_names_what_is_missing() {
    let (_, sink) = series().await;
    sink.delete(&[format!("db/{BASE}.manifest.json"), format!("db/{BASE}")]).await.unwrap();
    let error = catalog::chain(&*sink, &artifact(&*sink, SECOND).await).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert_eq!(error.message(), format!("{FIRST} needs {BASE}, which is not there"));
}

#[tokio::test]
async fn a_restore_gives_the_bases_first() {
    let (_, sink) = series().await;
    assert_eq!(restore(&sink, SECOND, &Series::default()).await.unwrap(), [BASE, FIRST, SECOND]);
    assert_eq!(restore(&sink, BASE, &Series { single: true, ..Series::default() }).await.unwrap(), [BASE]);
}

#[tokio::test]
async fn the_total_of_a_restore_and_of_its_test_counts_what_is_restored_before() {
    #[derive(Default)]
    struct Shown(Mutex<(Option<Total>, u64)>);

    impl Progress for Shown {
        fn event(&self, event: Event) {
            let mut shown = self.0.lock().unwrap();
            match event {
                Event::Begin { total: Some(total), .. } | Event::Total(total) => shown.0 = Some(total),
                Event::Advance(bytes) => shown.1 += bytes,
                _ => {}
            }
        }
    }

    let (_, sink) = series().await;
    let last = artifact(&*sink, SECOND).await;
    let all: u64 = catalog::chain(&*sink, &last).await.unwrap().iter().map(Artifact::bytes).sum();
    let (restored, verified) = (Arc::new(Shown::default()), Arc::new(Shown::default()));
    let cx = |shown: &Arc<Shown>| Context::default().progress(shown.clone());
    Restore::new(sink.clone(), last.clone()).context(cx(&restored)).into(&Series::default()).await.unwrap();
    let series = Series::default();
    Verify::new(sink.clone(), last, &series).record(false).context(cx(&verified)).run().await.unwrap();
    for shown in [restored, verified] {
        assert_eq!(*shown.0.lock().unwrap(), (Some(Total::Exact(all)), all));
    }
}

#[tokio::test]
async fn whoever_knows_single_artifacts_only_is_never_given_a_half() {
    let (_, sink) = series().await;
    let single = Series { single: true, ..Series::default() };
    let error = restore(&sink, SECOND, &single).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.message().contains(BASE), "{error}");
    let verify = Verify::new(sink.clone(), artifact(&*sink, SECOND).await, &single).record(false);
    assert_eq!(verify.run().await.unwrap_err().kind(), ErrorKind::Unsupported);
    let item = Restore::new(sink.clone(), artifact(&*sink, SECOND).await).item(&single, ITEM).await;
    assert_eq!(item.err().map(|e| e.kind()), Some(ErrorKind::Unsupported));
    let raw = Restore::new(sink.clone(), artifact(&*sink, SECOND).await).stream().await;
    assert_eq!(raw.err().map(|e| e.kind()), Some(ErrorKind::Unsupported));
    assert_eq!(single.given.lock().unwrap().len(), 0);
}

#[tokio::test]
async fn a_lost_sidecar_is_no_silence() {
    let (memory, sink) = series().await;
    sink.delete(&[sidecar(SECOND, FIRST)]).await.unwrap();
    let error = restore(&sink, SECOND, &Series::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.message().contains(FIRST), "{error}");
    for level in [Level::Stored, Level::Structure, Level::Restore] {
        let artifact = artifact(&*sink, SECOND).await;
        let report =
            Verify::new(sink.clone(), artifact, &Series::default()).level(level).record(false).run().await.unwrap();
        let failed: Vec<&str> = report.failures().map(|c| c.name.as_str()).collect();
        assert_eq!(failed, ["series"], "{level}");
    }
    // Nor is one of a base, or one that somebody has added.
    memory.place(&sidecar(SECOND, FIRST), "{}", at("2026-11-03T00:00:00Z"));
    restore(&sink, SECOND, &Series::default()).await.unwrap();
    sink.delete(&[sidecar(FIRST, BASE)]).await.unwrap();
    assert_eq!(restore(&sink, SECOND, &Series::default()).await.unwrap_err().kind(), ErrorKind::Corrupt);
    memory.place(&sidecar(BASE, FIRST), "{}", at("2026-11-03T00:00:00Z"));
    assert_eq!(restore(&sink, BASE, &Series::default()).await.unwrap_err().kind(), ErrorKind::Corrupt);
}

#[tokio::test]
async fn a_verification_restores_the_chain_and_fails_on_a_gap() {
    let (_, sink) = series().await;
    let verifier = Series::default();
    let verify = |sink: &Arc<dyn Sink>, artifact| Verify::new(sink.clone(), artifact, &verifier).record(false).run();
    let report = verify(&sink, artifact(&*sink, SECOND).await).await.unwrap();
    assert!(report.passed, "{report:?}");
    assert!(report.checks.iter().any(|c| c.name == "series" && c.status == Status::Pass), "{report:?}");
    assert_eq!(*verifier.given.lock().unwrap(), [BASE, FIRST, SECOND]);
    sink.delete(&[format!("db/{BASE}")]).await.unwrap();
    let report = verify(&sink, artifact(&*sink, SECOND).await).await.unwrap();
    assert_eq!(report.failures().map(|c| c.name.as_str()).collect::<Vec<_>>(), ["series"]);
}

#[tokio::test]
async fn a_damaged_base_fails_the_restore_of_what_needs_it() {
    let (memory, sink) = series().await;
    let mut bytes = memory.bytes(&format!("db/{BASE}")).unwrap().to_vec();
    *bytes.last_mut().unwrap() ^= 1;
    memory.place(&format!("db/{BASE}"), bytes, at("2026-11-01T00:00:00Z"));
    assert_eq!(restore(&sink, SECOND, &Series::default()).await.unwrap_err().kind(), ErrorKind::Corrupt);
}

const NOW: &str = "2026-11-30T00:00:00Z";

async fn prune(sink: Arc<dyn Sink>, policy: &str) -> PlannedPrune {
    let policy: Policy = policy.parse().unwrap();
    prune_at(sink, NOW).keep(policy).history(false).plan().await.unwrap()
}

fn kept(prune: &PlannedPrune) -> Vec<String> {
    prune.decisions().filter(Decision::keeps).map(|d| d.key.strip_prefix("db/").unwrap().to_owned()).collect()
}

#[tokio::test]
async fn pruning_keeps_what_is_needed_and_deletes_increments_first() {
    let (memory, sink) = series().await;
    let plan = prune(sink.clone(), "last=1").await;
    assert_eq!(kept(&plan), [SECOND, FIRST, BASE]);
    let why: Vec<String> = plan.decisions().map(|d| d.why()).collect();
    assert_eq!(why[2], format!("needed by db/{FIRST}"));
    // A new base, and all of the old series may go.
    back_up(&sink, "shop-20261104-000000.base.zst", &[]).await.unwrap();
    let scripted = ScriptedSink::over(memory.clone(), |_, _| Fate::Done);
    let plan = prune(scripted.arc(), "last=1").await;
    assert_eq!(kept(&plan), ["shop-20261104-000000.base.zst"]);
    let pruned = plan.execute().await.unwrap();
    assert_eq!(pruned.deleted, [SECOND, FIRST, BASE].map(|n| format!("db/{n}")));
    assert_eq!(memory.keys().len(), 2, "{:?}", memory.keys());
    let deleted: Vec<String> = scripted.log().into_iter().filter(|l| l.starts_with("delete")).collect();
    let order = [
        format!("delete db/{SECOND}.manifest.json"),
        format!("delete db/{SECOND}"),
        format!("delete {}", sidecar(SECOND, FIRST)),
        format!("delete db/{FIRST}.manifest.json"),
        format!("delete db/{FIRST}"),
        format!("delete {}", sidecar(FIRST, BASE)),
        format!("delete db/{BASE}.manifest.json"),
        format!("delete db/{BASE}"),
    ];
    assert_eq!(deleted, order);
}

#[tokio::test]
async fn an_increment_that_cannot_be_deleted_keeps_its_base() {
    let (memory, sink) = series().await;
    back_up(&sink, "shop-20261104-000000.base.zst", &[]).await.unwrap();
    let refused = format!("db/{SECOND}.manifest.json");
    let scripted =
        ScriptedSink::over(
            memory.clone(),
            move |call, key| {
                if call == "delete" && key == refused { Fate::Fails } else { Fate::Done }
            },
        );
    let pruned = prune(scripted.arc(), "last=1").await.execute().await.unwrap();
    assert_eq!((pruned.deleted.len(), pruned.failed.len()), (0, 1), "{pruned:?}");
    assert_eq!(pruned.notes.len(), 2, "{pruned:?}");
    assert!(pruned.notes[0].starts_with(&format!("db/{FIRST} stays")), "{pruned:?}");
    assert_eq!(catalog::chain(&memory, &artifact(&memory, SECOND).await).await.unwrap().len(), 3);
}

#[tokio::test]
async fn a_missing_base_makes_the_increment_bad_and_is_said() {
    let (_, sink) = series().await;
    sink.delete(&[format!("db/{BASE}.manifest.json"), format!("db/{BASE}")]).await.unwrap();
    let plan = prune(sink, "last=1").await;
    assert!(plan.decisions().all(|d| !d.good && d.keeps()));
    let warnings: Vec<String> = plan.warnings().iter().map(ToString::to_string).collect();
    assert_eq!(warnings[0], format!("db/{FIRST} cannot be restored: it depends on db/{BASE}, which is not there"));
}

#[tokio::test]
async fn the_base_of_a_backup_that_is_being_written_stays() {
    let (memory, sink) = series().await;
    back_up(&sink, "shop-20261104-000000.base.zst", &[]).await.unwrap();
    let plan = prune(sink.clone(), "last=1").await;
    assert_eq!(plan.to_delete(), 3);
    // It begins after the plan was made.
    let writing = "shop-20261105-000000.inc.zst";
    memory.place(&format!("db/_lifeboat/uploads/{writing}.intent.json"), "{}", at(NOW));
    memory.place(&sidecar(writing, FIRST), "{}", at(NOW));
    let pruned = plan.execute().await.unwrap();
    assert_eq!(pruned.deleted, [format!("db/{SECOND}")]);
    assert_eq!(pruned.notes.len(), 2, "{pruned:?}");
    // And before.
    let plan = prune(sink.clone(), "last=1").await;
    assert_eq!(kept(&plan), ["shop-20261104-000000.base.zst", FIRST, BASE]);
    let decision = plan.decisions().find(|d| d.key.ends_with(FIRST)).unwrap();
    assert_eq!(decision.why(), format!("needed by db/{writing}, which is not finished"));
    // What a killed run has left goes, with what says what it needed.
    let cleaned =
        catalog::remove_orphans(&*sink, "db", at("2099-01-01T00:00:00Z"), Duration::ZERO, false).await.unwrap();
    assert_eq!(cleaned.removed.len(), 2, "{cleaned:?}");
    assert_eq!(prune(sink, "last=1").await.to_delete(), 2);
}

#[tokio::test]
async fn what_is_not_known_here_stops_every_deletion_of_its_dataset() {
    for unknown in [
        format!("{BASE}.hold-until-2027.json"),
        format!("{SECOND}.manifest.v2.json"),
        format!("{BASE}.manifest-3.json"),
        format!("{BASE}.verified-20261130-000000-quantum-pass.json"),
        format!("{BASE}.needs-elsewhere.json"),
        format!("{BASE}.parity"),
        "shop-20261010-000000.dump.manifest.v2.json".to_owned(),
    ] {
        let (memory, sink) = series().await;
        back_up(&sink, "shop-20261104-000000.base.zst", &[]).await.unwrap();
        for day in ["01", "02"] {
            memory.place(&format!("db/other-202611{day}-000000.dump"), "x", at("2026-11-01T00:00:00Z"));
        }
        let before_it_came = prune(sink.clone(), "last=1").await;
        memory.place(&format!("db/{unknown}"), "{}", at("2026-11-01T00:00:00Z"));
        let plan = prune(sink.clone(), "last=1").await;
        assert_eq!((plan.to_delete(), plan.warnings().len()), (0, 1), "{unknown}");
        assert!(plan.warnings()[0].to_string().contains(&unknown), "{:?}", plan.warnings());
        assert!(plan.decisions().all(|d| d.why().contains(&unknown)));
        let pruned = before_it_came.execute().await.unwrap();
        assert_eq!((pruned.deleted.len(), pruned.notes.len()), (0, 1), "{pruned:?}");
        assert!(pruned.notes[0].contains(&unknown), "{pruned:?}");
        // Another dataset in the same folder has nothing to do with it.
        let other = Prune::new(sink.clone(), dataset("other")).folder("db").keep("last=1".parse().unwrap());
        let other = other.context(Context::default().clock(clock_at(NOW))).plan().await.unwrap();
        assert_eq!(other.to_delete(), 1);
        // An old note beside what a newer Lifeboat may have finished.
        memory.place(&format!("db/_lifeboat/uploads/{BASE}.intent.json"), "{}", at("2026-11-01T00:00:00Z"));
        let keys = memory.keys();
        let cleaned = catalog::remove_orphans(&*sink, "db", at(NOW), Duration::ZERO, false).await.unwrap();
        assert_eq!((cleaned.removed.len(), cleaned.notes.len()), (0, 1), "{cleaned:?}");
        assert_eq!(memory.keys(), keys);
    }
}

#[tokio::test]
async fn checksums_and_signatures_of_scripts_stop_nothing_and_go_with_their_artifact() {
    let sink = MemorySink::new();
    let old = at("2026-11-01T00:00:00Z");
    for name in ["shop-20261101-000000.sql.gz", "shop-20261102-000000.sql", "shop-20261103-000000.tar.000"] {
        for suffix in ["", ".sha256", ".md5", ".asc", ".sha256.sig"] {
            sink.place(&format!("db/{name}{suffix}"), "0123456789", old);
        }
    }
    sink.place("db/shop-20261104-000000.sql", "x", old);
    // Alone, it is what gpg has encrypted; and names of three parts are nobody's business.
    sink.place("db/shop-20261105-000000.sql.asc", "x", old);
    sink.place("db/shop-20261106-000000.some.thing.else.json", "x", old);
    let plan = prune(Arc::new(sink.clone()), "last=2").await;
    assert_eq!(plan.warnings(), []);
    assert_eq!(kept(&plan), ["shop-20261105-000000.sql.asc", "shop-20261104-000000.sql"]);
    assert_eq!(plan.execute().await.unwrap().deleted.len(), 3);
    assert_eq!(sink.keys().len(), 3, "{:?}", sink.keys());
}

#[tokio::test]
async fn an_artifact_with_a_manifest_of_another_form_is_not_taken_for_a_foreign_one() {
    let sink = MemorySink::new();
    sink.place("db/shop-20261101-000000.dump", "x", at(NOW));
    sink.place("db/shop-20261101-000000.dump.manifest.v2.json", "{}", at(NOW));
    let found = the_artifact(&sink).await;
    assert_eq!((found.kind, found.unknown.len()), (Kind::Foreign, 1));
    let error = Restore::new(Arc::new(sink), found).stream().await.err().unwrap();
    assert_eq!((error.kind(), error.advice()), (ErrorKind::Unsupported, Some("use a newer Lifeboat")));
}

async fn copy(from: &Arc<dyn Sink>, to: &ScriptedSink) -> lifeboat_core::pipeline::Replicated {
    let plan = Replicate::new(from.clone(), to.arc()).folder("db").history(false).plan().await.unwrap();
    plan.execute().await.unwrap()
}

#[tokio::test]
async fn a_copy_brings_bases_first_and_says_what_is_needed() {
    let (memory, sink) = series().await;
    let to = ScriptedSink::new(|_, _| Fate::Done);
    let done = copy(&sink, &to).await;
    assert_eq!((done.copied.len(), done.failed.len()), (3, 0), "{done:?}");
    assert_eq!(to.memory.keys(), memory.keys());
    let manifests: Vec<String> =
        to.log().into_iter().filter(|l| l.starts_with("put") && l.ends_with(".manifest.json")).collect();
    assert_eq!(manifests, [BASE, FIRST, SECOND].map(|n| format!("put db/{n}.manifest.json")));
    // A sidecar that was lost there is put again.
    to.memory.delete(&[sidecar(SECOND, FIRST)]).await.unwrap();
    assert_eq!(copy(&sink, &to).await.copied.len(), 1);
    assert_eq!(to.memory.keys(), memory.keys());
}

#[tokio::test]
async fn an_increment_whose_base_could_not_be_copied_is_not_copied() {
    let (_, sink) = series().await;
    let to = ScriptedSink::new(|call, key| if call == "put" && key.ends_with(BASE) { Fate::Fails } else { Fate::Done });
    let done = copy(&sink, &to).await;
    let kinds: Vec<&str> = done.failed.iter().map(|f| f.kind).collect();
    assert_eq!((done.copied.len(), kinds), (0, vec!["io", "not-found", "not-found"]));
    assert_eq!(to.memory.keys(), Vec::<String>::new());
}

#[tokio::test]
async fn what_has_something_unknown_beside_it_is_not_copied_without_it() {
    let (memory, sink) = series().await;
    memory.place(&format!("db/{BASE}.hold-1.json"), "{}", at(NOW));
    let to = ScriptedSink::new(|_, _| Fate::Done);
    let done = copy(&sink, &to).await;
    assert_eq!((done.copied.len(), done.failed.len()), (0, 3));
    assert!(done.failed[0].error.contains("hold-1.json"), "{done:?}");
}

fn run<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

/// Which artifacts can be restored with all that they need.
async fn restorable(sink: &MemorySink) -> Vec<String> {
    let mut found = Vec::new();
    for artifact in list_all(sink, FOLDER, None).await.unwrap() {
        if artifact.kind == Kind::Managed && catalog::chain(sink, &artifact).await.is_ok() {
            found.push(artifact.name.to_string());
        }
    }
    found
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Whatever the store refuses to delete, and at whatever call the run is killed: what is left and could be restored
    /// before can be restored still, and of what was to be kept nothing is gone.
    #[test]
    fn no_prune_costs_an_artifact_that_stays_its_base(
        history in prop::collection::vec((1u32..28, prop::collection::vec(0usize..12, 0..3)), 1..12),
        policy in prop::sample::select(vec!["last=1", "last=2", "1d", "20d", "weekly=2", "last=1,at-least=3"]),
        refused in prop::collection::btree_set(0usize..40, 0..4),
        killed_at in prop::option::of(0usize..40),
    ) {
        run(async {
            let memory = MemorySink::new();
            let names: Vec<String> =
                history.iter().enumerate().map(|(n, (day, _))| format!("shop-202611{day:02}-0000{n:02}.inc")).collect();
            for ((_, needs), name) in history.iter().zip(&names) {
                memory.place(&format!("db/{name}"), "x", at("2026-11-01T00:00:00Z"));
                memory.place(&format!("db/{name}.manifest.json"), "{}", at("2026-11-01T00:00:00Z"));
                // Some need what is not there, some each other.
                for needed in needs {
                    let needed = names.get(*needed).map_or("shop-20261001-000000.base", String::as_str);
                    memory.place(&sidecar(name, needed), "{}", at("2026-11-01T00:00:00Z"));
                }
            }
            let before = restorable(&memory).await;
            let calls = Mutex::new(0usize);
            let scripted = ScriptedSink::over(memory.clone(), move |call, _| {
                if call != "delete" {
                    return Fate::Done;
                }
                let mut calls = calls.lock().unwrap();
                *calls += 1;
                match *calls - 1 {
                    n if killed_at.is_some_and(|at| n >= at) => Fate::LosesItsAnswer,
                    n if refused.contains(&n) => Fate::Fails,
                    _ => Fate::Done,
                }
            });
            let plan = prune(scripted.arc(), policy).await;
            let kept = kept(&plan);
            let _ = plan.execute().await;
            let after = restorable(&memory).await;
            let left = list_all(&memory, FOLDER, None).await.unwrap();
            for artifact in left.iter().filter(|a| a.kind == Kind::Managed) {
                let name = artifact.name.to_string();
                prop_assert!(!before.contains(&name) || after.contains(&name), "{} has lost its base", name);
            }
            for name in &kept {
                prop_assert!(left.iter().any(|a| a.name.to_string() == *name), "{} was to be kept", name);
            }
            Ok(())
        })?;
    }
}
