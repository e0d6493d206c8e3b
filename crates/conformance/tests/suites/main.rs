//! The suites pass what keeps a trait's promises, and find what breaks one.
#![allow(clippy::unwrap_used)]

mod small;

use bytes::Bytes;
use futures::StreamExt;
use lifeboat_conformance::lines::{self, Content, LinesTap, LinesTarget, LinesVerifier, Table};
use lifeboat_conformance::{system, target, verifier};
use lifeboat_core::proof::WholeStream;
use lifeboat_core::{
    ArtifactName, Check, Context, Dataset, Description, Error, ErrorKind, Level, Manifest, NamedTarget, Opening, Proof,
    Reading, RestoreInput, Result, Setting, Source, System, Tap, Target, Verifier, async_trait,
};
use serde::{Deserialize, Deserializer};

fn content() -> Content {
    (0..2000).map(|n| (format!("key-{n:04}"), format!("value {n}"))).collect()
}

fn name() -> ArtifactName {
    "shop-20261121-033000.lines".parse().unwrap()
}

// ---- targets ----

/// What is wrong with a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wrong {
    Nothing,
    /// It writes line by line, and undoes nothing.
    KeepsHalf,
    /// It takes an error for the end.
    IgnoresErrors,
    /// It does not look whether something is there.
    NeverRefuses,
    /// It empties the place first.
    EmptiesFirst,
    /// It says nothing.
    IsSilent,
    /// It says that it plans, and carries out what it plans.
    PlansByDoing,
}

#[derive(Clone)]
struct WrongTarget {
    good: LinesTarget,
    wrong: Wrong,
}

#[async_trait]
impl Target for WrongTarget {
    async fn restore(&self, mut input: RestoreInput, cx: &Context) -> Result<Vec<Check>> {
        let table = &self.good.table;
        match self.wrong {
            Wrong::NeverRefuses => {
                return self.good.clone().replace(true).restore(input, cx).await;
            }
            Wrong::EmptiesFirst if self.good.replace => table.set(Content::new()),
            Wrong::KeepsHalf => {
                if !self.good.replace && !table.content().is_empty() {
                    return self.good.restore(input, cx).await;
                }
                table.set(Content::new());
                while let Some(chunk) = input.stream.next().await {
                    let text = String::from_utf8(chunk?.to_vec()).unwrap();
                    let mut content = table.content();
                    content.extend(text.lines().filter_map(|l| l.split_once('=')).map(|(k, v)| (k.into(), v.into())));
                    table.set(content);
                }
                return Ok(vec![Check::pass("lines", "all", "restored")]);
            }
            Wrong::IgnoresErrors => {
                let stream = input.stream.filter_map(|item| async move { item.ok().map(Ok) }).boxed();
                let bare = RestoreInput::new(stream, input.name, input.proof);
                return self.good.restore(bare, cx).await;
            }
            Wrong::IsSilent => return self.good.restore(input, cx).await.map(|_| Vec::new()),
            _ => {}
        }
        self.good.restore(input, cx).await
    }

    async fn plan(&self, input: RestoreInput, cx: &Context) -> Result<Box<dyn lifeboat_core::Prepared>> {
        if self.wrong == Wrong::PlansByDoing {
            self.good.restore(input, cx).await?;
        }
        Err(Error::new(ErrorKind::Unsupported, "plan", "a restore", "it does not plan"))
    }
}

struct Targets(Wrong);

struct Place(Table, Wrong);

#[async_trait]
impl target::Fixture for Targets {
    fn name(&self) -> ArtifactName {
        name()
    }
    fn plaintext(&self) -> Bytes {
        lines::format(&content()).into()
    }
    async fn place(&self) -> Box<dyn target::Place> {
        Box::new(Place(Table::default(), self.0))
    }
}

#[async_trait]
impl target::Place for Place {
    fn target(&self, replace: bool) -> Box<dyn Target> {
        Box::new(WrongTarget { good: LinesTarget::new(self.0.clone()).replace(replace), wrong: self.1 })
    }
    async fn state(&self) -> String {
        lines::format(&self.0.content())
    }
    async fn fill(&self) {
        self.0.set([("somebody".to_owned(), "else".to_owned())].into());
    }
}

#[tokio::test]
async fn a_good_target_passes() {
    target::all(&Targets(Wrong::Nothing)).await;
}

/// Runs the suite over something wrong, and returns what it says.
async fn found(suite: impl Future<Output = ()> + Send + 'static) -> String {
    let ended = tokio::spawn(suite).await.expect_err("the suite has found nothing").into_panic();
    let text = ended.downcast_ref::<String>().cloned();
    text.or_else(|| ended.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
}

#[tokio::test]
async fn what_is_wrong_with_a_target_is_found() {
    for (wrong, says) in [
        (Wrong::KeepsHalf, "bytes"),
        (Wrong::IgnoresErrors, "the stream failed after"),
        (Wrong::NeverRefuses, "unwrap_err"),
        (Wrong::EmptiesFirst, "after 0 bytes"),
        (Wrong::IsSilent, "says what was restored"),
        (Wrong::PlansByDoing, "a plan changes nothing"),
    ] {
        let said = found(async move { target::all(&Targets(wrong)).await }).await;
        assert!(said.contains(says), "{wrong:?}: {said}");
    }
}

// ---- verifiers ----

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Nothing,
    /// It has a parser for everything.
    KnowsEverything,
    /// It compares with nothing.
    ComparesNothing,
    /// It calls a restore that fails an error.
    Errs,
    /// Neither its parser nor its test minds how the bytes end.
    MindsNoEnd,
    /// It leaves something behind when it is dropped.
    Leaks,
}

struct Verifiers {
    fault: Fault,
    left: std::sync::Arc<std::sync::Mutex<Vec<String>>>,
}

/// Takes any end.
struct Lenient(LinesTap);

impl Tap for Lenient {
    fn push(&mut self, chunk: &[u8]) -> Result<()> {
        self.0.push(chunk)
    }
    fn finish(self: Box<Self>) -> Result<Proof> {
        Ok(lines::proof(&content()))
    }
}

#[async_trait]
impl Verifier for Verifiers {
    fn tap(&self, name: &ArtifactName) -> Result<Box<dyn Tap>> {
        match self.fault {
            Fault::KnowsEverything => Ok(Box::new(LinesTap::default())),
            Fault::MindsNoEnd => {
                LinesVerifier.tap(name).map(|_| Box::new(Lenient(LinesTap::default())) as Box<dyn Tap>)
            }
            _ => LinesVerifier.tap(name),
        }
    }

    async fn restore_test(&self, mut input: RestoreInput, cx: &Context) -> Result<Vec<Check>> {
        match self.fault {
            Fault::ComparesNothing => input.proof = None,
            Fault::Errs => {
                let target = LinesTarget::new(Table::default());
                input.proof = None;
                let checks = target.restore(input, cx).await?;
                return Ok(checks);
            }
            Fault::MindsNoEnd => {
                while let Some(item) = input.stream.next().await {
                    item?;
                }
                return Ok(vec![Check::pass("lines", "all", "restored")]);
            }
            Fault::Leaks => {
                self.left.lock().unwrap().push("a folder".to_owned());
                let tested = LinesVerifier.restore_test(input, cx).await;
                self.left.lock().unwrap().clear();
                return tested;
            }
            _ => {}
        }
        LinesVerifier.restore_test(input, cx).await
    }

    async fn live(&self, expected: Option<&Proof>, cx: &Context) -> Result<Vec<Check>> {
        LinesVerifier.live(expected, cx).await
    }
}

#[async_trait]
impl verifier::Fixture for Verifiers {
    fn verifier(&self) -> &dyn Verifier {
        self
    }
    fn name(&self) -> ArtifactName {
        name()
    }
    fn plaintext(&self) -> Bytes {
        lines::format(&content()).into()
    }
    fn altered(&self) -> Vec<(String, Bytes)> {
        let mut other = content();
        other.insert("key-0007".to_owned(), "another value".to_owned());
        vec![("a value".to_owned(), lines::format(&other).into())]
    }
    async fn scratch(&self) -> Vec<String> {
        self.left.lock().unwrap().clone()
    }
}

fn verifiers(fault: Fault) -> Verifiers {
    Verifiers { fault, left: Default::default() }
}

#[tokio::test]
async fn a_good_verifier_passes() {
    verifier::all(&verifiers(Fault::Nothing)).await;
}

#[tokio::test]
async fn what_is_wrong_with_a_verifier_is_found() {
    // What waits for a clean-up waits no real time.
    tokio::time::pause();
    for (fault, says) in [
        (Fault::KnowsEverything, "unheard-of"),
        (Fault::ComparesNothing, "the proof of another content"),
        (Fault::Errs, "a failed check, not an error"),
        (Fault::MindsNoEnd, "is found by nobody"),
        (Fault::Leaks, "left behind"),
    ] {
        let said = found(async move { verifier::all(&verifiers(fault)).await }).await;
        assert!(said.contains(says), "{fault:?}: {said}");
    }
}

// ---- systems ----

/// What is wrong with a system.
mod flaw {
    pub(crate) const NOTHING: u8 = 0;
    /// Its help ends with a full stop.
    pub(crate) const ABOUT: u8 = 1;
    /// It takes keys that it does not know.
    pub(crate) const TAKES_ALL: u8 = 2;
    /// It looks up the variable while the config file is read.
    pub(crate) const LOOKS_UP: u8 = 3;
    /// It finds a mistake only when it is used.
    pub(crate) const FINDS_LATE: u8 = 4;
    /// Its error says nothing of where the setting stands.
    pub(crate) const FORGETS_PLACE: u8 = 5;
    /// It asks for the live system's secret where an artifact is judged.
    pub(crate) const JUDGES_LIVE: u8 = 6;
    /// It checks nothing.
    pub(crate) const CHECKS_NOTHING: u8 = 7;
    /// Its backups are another system's.
    pub(crate) const OTHER_NAME: u8 = 8;
    /// Its source and its verifier count differently.
    pub(crate) const OTHER_PROOF: u8 = 9;
}

/// The table `lines = { content = "key=value …" }`.
#[derive(Debug)]
struct LinesSettings<const FLAW: u8>(Setting);

impl<'de, const FLAW: u8> Deserialize<'de> for LinesSettings<FLAW> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> std::result::Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Strict {
            content: Setting,
        }
        #[derive(Deserialize)]
        struct Lax {
            content: Setting,
        }
        match FLAW {
            flaw::TAKES_ALL => Lax::deserialize(d).map(|lax| Self(lax.content)),
            _ => Strict::deserialize(d).map(|strict| Self(strict.content)),
        }
    }
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct NoChoices {}

#[derive(Clone, Debug)]
struct LinesSystem<const FLAW: u8>(Setting);

impl<const FLAW: u8> LinesSystem<FLAW> {
    fn content(&self) -> Result<Content> {
        let text = self.0.text().map_err(|error| match FLAW {
            flaw::FORGETS_PLACE => Error::new(error.kind(), "read", "the content", error.message()),
            _ => error,
        })?;
        let pairs = text.split(' ').map(|pair| pair.split_once('=').map(|(k, v)| (k.to_owned(), v.to_owned())));
        pairs.collect::<Option<_>>().ok_or_else(|| self.0.wrong("it is not key=value"))
    }
}

#[async_trait]
impl<const FLAW: u8> System for LinesSystem<FLAW> {
    const NAME: &'static str = "lines";
    const TITLE: &'static str = "Lines";
    const ABOUT: &'static str = if FLAW == flaw::ABOUT { "Backs up lines." } else { "Backs up lines" };
    const EXAMPLE: &'static str = "lines = { content = \"one=1 two=2\" }";

    type Settings = LinesSettings<FLAW>;
    type Restore = NoChoices;
    type Verify = NoChoices;

    fn open(settings: Self::Settings, _: &Opening<'_>) -> Result<Self> {
        let system = Self(settings.0);
        let looks = system.0.is_literal() && FLAW != flaw::FINDS_LATE;
        if looks || FLAW == flaw::LOOKS_UP {
            system.content()?;
        }
        Ok(system)
    }

    fn dataset(&self) -> Result<Option<Dataset>> {
        Ok(None)
    }

    async fn source(&self) -> Result<Box<dyn Source>> {
        Ok(Box::new(LinesSource::<FLAW>(self.content()?)))
    }

    async fn target(&self, _: &Setting, _: NoChoices, _: &Dataset) -> Result<NamedTarget> {
        Ok(NamedTarget::new(LinesTarget::new(Table::default()), "a table"))
    }

    async fn verifier(&self, _: Level, _: NoChoices) -> Result<Box<dyn Verifier>> {
        if FLAW == flaw::JUDGES_LIVE {
            self.content()?;
        }
        Ok(Box::new(LinesVerifier))
    }

    async fn check(&self) -> Vec<Check> {
        match self.content() {
            Err(error) if FLAW != flaw::CHECKS_NOTHING => vec![Check::from_error("content", &error)],
            _ => vec![Check::pass("content", "lines", "")],
        }
    }

    fn stock_restore(&self, _: &ArtifactName, _: Option<&Manifest>) -> String {
        "cat".to_owned()
    }
}

struct LinesSource<const FLAW: u8>(Content);

#[async_trait]
impl<const FLAW: u8> Source for LinesSource<FLAW> {
    async fn describe(&self) -> Result<Description> {
        let system = if FLAW == flaw::OTHER_NAME { "rows" } else { "lines" };
        let (dataset, system, format) = ("shop".to_owned(), system.to_owned(), lines::FORMAT.to_owned());
        Ok(Description::new(system, format).dataset(dataset))
    }

    async fn open(&self, _: &Context) -> Result<Reading> {
        let stream = futures::stream::iter([Ok(lines::format(&self.0).into())]).boxed();
        let tap: Box<dyn Tap> = match FLAW {
            flaw::OTHER_PROOF => Box::new(WholeStream::new("lines")),
            _ => Box::new(LinesTap::default()),
        };
        Ok(Reading::new(stream, tap))
    }
}

struct LinesJobs;

impl system::Fixture for LinesJobs {
    fn job(&self) -> Option<String> {
        Some(r#"content = "one=1 two=2""#.to_owned())
    }
    fn locked(&self) -> Option<String> {
        Some(r#"content = "${LIFEBOAT_SUITE_NOT_SET}""#.to_owned())
    }
    fn mistakes(&self) -> Vec<String> {
        vec![r#"content = "one""#.to_owned()]
    }
}

#[tokio::test]
async fn a_good_system_passes() {
    system::all::<LinesSystem<{ flaw::NOTHING }>>(&LinesJobs).await;
}

#[tokio::test]
async fn what_is_wrong_with_a_system_is_found() {
    async fn says<const FLAW: u8>(expected: &str) {
        let said = found(system::all::<LinesSystem<FLAW>>(&LinesJobs)).await;
        assert!(said.contains(expected), "flaw {FLAW}: {said}");
    }
    says::<{ flaw::ABOUT }>("the help ends no sentence").await;
    says::<{ flaw::TAKES_ALL }>("no_such_setting is taken").await;
    says::<{ flaw::LOOKS_UP }>("this table cannot be used").await;
    says::<{ flaw::FINDS_LATE }>("this is taken").await;
    says::<{ flaw::FORGETS_PLACE }>("the content").await;
    says::<{ flaw::JUDGES_LIVE }>("asks for more than the artifact").await;
    says::<{ flaw::CHECKS_NOTHING }>("is not missed").await;
    says::<{ flaw::OTHER_NAME }>("rows").await;
    says::<{ flaw::OTHER_PROOF }>("does not find what was backed up").await;
}
