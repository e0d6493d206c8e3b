//! The suites pass what keeps a trait's promises, and find what breaks one.
#![allow(clippy::unwrap_used)]

use bytes::Bytes;
use futures::StreamExt;
use lifeboat_core::{
    ArtifactName, Check, Context, Error, ErrorKind, Proof, RestoreInput, Result, Tap, Target, Verifier, async_trait,
};
use lifeboat_testkit::conformance::{target, verifier};
use lifeboat_testkit::lines::{self, Content, LinesTap, LinesTarget, LinesVerifier, Table};

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
                return LinesTarget { replace: true, ..self.good.clone() }.restore(input, cx).await;
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
        Box::new(WrongTarget { good: LinesTarget { table: self.0.clone(), replace }, wrong: self.1 })
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
                let target = LinesTarget { table: Table::default(), replace: false };
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
