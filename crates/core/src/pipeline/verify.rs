//! [`Verify`]: judges a stored artifact.

use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use futures::StreamExt;
use jiff::Timestamp;

use super::{amount, flow, read, series};
use crate::catalog::{Amount, Artifact, Kind, verification_key};
use crate::context::Context;
use crate::encryptor::Encryptor;
use crate::error::{Error, ErrorKind, Result};
use crate::history::{Figures, Journal, Verb};
use crate::manifest::{Manifest, Private};
use crate::memory::Confidential;
use crate::progress::{Event, Step, Total, Unit};
use crate::proof::Tap;
use crate::report::{Check, Report, Status};
use crate::sink::Sink;
use crate::stream;
use crate::target::{Link, RestoreInput};
use crate::verifier::{Level, Verifier};

/// The name of the check that looks at the artifact's age.
const AGE_CHECK: &str = "age";

/// The name of the check that looks at what the artifact needs.
const SERIES_CHECK: &str = "series";

/// How old an artifact may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AgeLimit {
    /// The limit.
    pub max_age: Duration,
    /// The status of an older artifact: [`Status::Warn`] or [`Status::Fail`].
    pub status: Status,
}

/// Verifies an artifact: `Verify::new(sink, artifact, &verifier).level(Level::Restore).key(age).run().await`.
///
/// One pass over the stored bytes serves all levels: while they flow into the scratch server they are hashed and
/// parsed.
///
/// ```
/// use lifeboat_core::catalog::{self, At};
/// use lifeboat_core::{Dataset, Encryptor, Level, Result, Sink, Status, Verifier, Verify};
///
/// /// Whether the newest backup restores.
/// async fn is_good(sink: impl Sink + 'static, key: impl Encryptor + 'static, judge: &dyn Verifier) -> Result<bool> {
///     let newest = catalog::find(&sink, "databases", &Dataset::new("shop")?, &At::Latest).await?;
///     let report = Verify::new(sink, newest, judge).level(Level::Restore).key(key).run().await?;
///     report.failures().for_each(|check| println!("{}: {}", check.name, check.detail));
///     Ok(report.status() == Status::Pass)
/// }
/// ```
pub struct Verify<'a> {
    sink: Arc<dyn Sink>,
    artifact: Artifact,
    verifier: &'a dyn Verifier,
    level: Level,
    age: Option<AgeLimit>,
    keys: Vec<Arc<dyn Encryptor>>,
    record: bool,
    history: bool,
    context: Context,
}

impl<'a> Verify<'a> {
    /// Creates a verification of `artifact`, at the level `restore`.
    pub fn new(sink: impl Sink + 'static, artifact: Artifact, verifier: &'a dyn Verifier) -> Self {
        Self {
            sink: Arc::new(sink),
            artifact,
            verifier,
            level: Level::default(),
            age: None,
            keys: Vec::new(),
            record: true,
            history: true,
            context: Context::default(),
        }
    }

    /// Sets the level.
    #[must_use]
    pub fn level(mut self, level: Level) -> Self {
        self.level = level;
        self
    }

    /// Sets how old the artifact may be.
    #[must_use]
    pub fn age_limit(mut self, limit: Option<AgeLimit>) -> Self {
        self.age = limit;
        self
    }

    /// Adds a key to decrypt with.
    #[must_use]
    pub fn key(mut self, encryptor: impl Encryptor + 'static) -> Self {
        self.keys.push(Arc::new(encryptor));
        self
    }

    /// Adds several keys.
    #[must_use]
    pub fn keys(self, encryptors: impl IntoIterator<Item = impl Encryptor + 'static>) -> Self {
        encryptors.into_iter().fold(self, Self::key)
    }

    /// Whether the outcome is recorded beside the artifact, for `list` and retention. It is by default.
    #[must_use]
    pub fn record(mut self, record: bool) -> Self {
        self.record = record;
        self
    }

    /// Whether the run leaves a record in the [history](crate::history). It does, unless
    /// said otherwise or nothing is [recorded](Verify::record).
    #[must_use]
    pub fn history(mut self, history: bool) -> Self {
        self.history = history;
        self
    }

    /// Sets cancellation, progress and clock.
    #[must_use]
    pub fn context(mut self, context: Context) -> Self {
        self.context = context;
        self
    }

    /// Verifies.
    ///
    /// # Errors
    /// What prevented the verification itself: the sink does not answer, there is no key, there are no server binaries.
    /// A bad artifact gives a report that did not pass. One that could not be tested did not pass either,
    /// and nothing is recorded about it ([`Status::Untested`]).
    ///
    /// # Cancel safety
    /// As [`Verifier::restore_test`]: cancel through the context's token.
    pub async fn run(self) -> Result<Report> {
        let confidential = self.verifier.is_confidential();
        let mut journal = Journal::begin(Verb::Verify, &self.artifact.folder, self.context.now(), confidential);
        journal.dataset = Some(self.artifact.name.dataset.clone());
        journal.key = Some(self.artifact.key());
        journal.level = Some(self.level);
        let report = self.report().await;
        if self.history && self.record {
            let figures = report.as_ref().map(|report| Figures {
                outcome: Some(Figures::of_checks(&report.checks)),
                bytes: Some(self.artifact.bytes()),
                ..Figures::default()
            });
            journal.close(&self.sink, &self.context, figures.as_ref().map_err(|error| *error)).await;
        }
        report
    }

    async fn report(&self) -> Result<Report> {
        let started = Instant::now();
        let _confidential = self.verifier.is_confidential().then(Confidential::begin);
        let cx = &self.context;
        let step = Step::Verify(self.artifact.name.dataset.to_string());
        cx.progress.event(Event::Begin { step, unit: Unit::Bytes, total: Some(self.artifact.bytes().into()) });
        let checks = self.checks().await?;
        cx.progress.event(Event::End);
        if cx.cancel.is_cancelled() {
            return Err(Error::cancelled("verify", self.artifact.key()));
        }
        let mut report = Report::new(self.artifact.name.dataset.as_str(), self.artifact.key(), self.level, checks);
        report.seconds = started.elapsed().as_secs_f64();
        if self.record {
            self.write_record(&report).await;
        }
        Ok(report)
    }

    async fn checks(&self) -> Result<Vec<Check>> {
        let mut checks = vec![self.age_check(self.context.now())];
        if self.artifact.kind == Kind::Damaged {
            checks.push(Check::fail("stored", "missing", "the manifest is there, but not the data"));
            return Ok(checks);
        }
        let read = self.artifact.read_manifest(&*self.sink);
        let manifest = match self.context.unless_cancelled("verify", || self.artifact.key(), read).await {
            Ok(manifest) => manifest,
            Err(error) if matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::NotFound) => {
                checks.push(Check::from_error("manifest", &error));
                return Ok(checks);
            }
            Err(error) => return Err(error),
        };
        let before = match series::before(&*self.sink, &self.artifact, manifest.as_ref()).await {
            Ok(before) => before,
            Err(error) if judges_the_artifact(&error) => {
                checks.push(Check::from_error(SERIES_CHECK, &error));
                return Ok(checks);
            }
            Err(error) => return Err(error),
        };
        if !before.is_empty() {
            let names: Vec<String> = before.iter().map(|a| a.name.to_string()).collect();
            let figure = format!("{} before it", names.len());
            checks.push(Check::pass(SERIES_CHECK, figure, format!("what it needs is there: {}", names.join(", "))));
        }
        match self.level {
            Level::Stored => {
                self.stored_level(manifest.as_ref(), &mut checks).await?;
                checks.extend(self.amount_check(None).await);
            }
            Level::Structure | Level::Restore => match self.private(manifest.as_ref(), &mut checks).await? {
                Some(private) => self.deep_levels(manifest.as_ref(), private, before, &mut checks).await?,
                None => return Ok(checks),
            },
            Level::Live => {
                let Some(private) = self.private(manifest.as_ref(), &mut checks).await? else { return Ok(checks) };
                if self.verifier.live_reads() {
                    return self.live_content(manifest.as_ref(), private, before, checks).await;
                }
                checks.extend(self.verifier.live(private.as_ref().map(|p| &p.proof), &self.context).await?);
            }
        }
        Ok(checks)
    }

    async fn amount_check(&self, found: Option<Amount>) -> Option<Check> {
        amount::check(&self.sink, &self.artifact, found, self.record, &self.context).await
    }

    async fn links(&self, before: Vec<Artifact>) -> Result<Vec<Link>> {
        let before_bytes: u64 = before.iter().map(Artifact::bytes).sum();
        if before_bytes > 0 {
            self.context.progress.event(Event::Total(Total::Exact(self.artifact.bytes() + before_bytes)));
        }
        let links = series::links(&self.sink, before, &self.keys, &self.context);
        self.context.unless_cancelled("verify", || self.artifact.key(), links).await
    }

    /// The private part: `Some(None)` where there is none to have, `None` when it is damaged (a check says so).
    async fn private(&self, manifest: Option<&Manifest>, checks: &mut Vec<Check>) -> Result<Option<Option<Private>>> {
        let Some(manifest) = manifest else { return Ok(Some(None)) };
        match manifest.private(&self.keys).await {
            Ok(private) => Ok(Some(Some(private))),
            Err(error) if error.kind() == ErrorKind::Corrupt => {
                checks.push(Check::from_error("manifest", &error));
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    fn age_check(&self, now: Timestamp) -> Check {
        let taken = self.artifact.name.taken_at;
        let Ok(age) = Duration::try_from(now.duration_since(taken)) else {
            return Check::warn(
                AGE_CHECK,
                "in the future",
                format!("it is dated {taken}, but it is now {now}: is a clock wrong?"),
            );
        };
        let figure = crate::report::human_duration(age);
        match self.age {
            Some(limit) if age > limit.max_age => {
                let allowed = crate::report::human_duration(limit.max_age);
                Check::new(
                    limit.status,
                    AGE_CHECK,
                    figure,
                    format!("older than {allowed}: backups have stopped, or are failing"),
                )
            }
            Some(limit) => {
                Check::pass(AGE_CHECK, figure, format!("within {}", crate::report::human_duration(limit.max_age)))
            }
            None => Check::pass(AGE_CHECK, figure, "no limit is set"),
        }
    }

    async fn stored_level(&self, manifest: Option<&Manifest>, checks: &mut Vec<Check>) -> Result<()> {
        let begun = Instant::now();
        let (mut stored, seen) = read::stored(self.sink.clone(), &self.artifact, manifest, &self.context);
        while let Some(item) = stored.next().await {
            match item {
                Err(error) if !judges_the_artifact(&error) => return Err(error),
                _ => {}
            }
        }
        checks.push(stored_check(&seen, manifest).took(begun.elapsed()));
        Ok(())
    }

    async fn deep_levels(
        &self,
        manifest: Option<&Manifest>,
        private: Option<Private>,
        before: Vec<Artifact>,
        checks: &mut Vec<Check>,
    ) -> Result<()> {
        let begun = Instant::now();
        let chain = match self.level {
            Level::Restore => match self.links(before).await {
                Ok(chain) => chain,
                Err(error) if judges_the_artifact(&error) => {
                    checks.push(Check::from_error(SERIES_CHECK, &error));
                    return Ok(());
                }
                Err(error) => return Err(error),
            },
            _ => Vec::new(),
        };
        let (stored, seen) = read::stored(self.sink.clone(), &self.artifact, manifest, &self.context);
        let opened = match read::plaintext(stored, &self.artifact, manifest, &self.keys).await {
            Ok(plain) => plain,
            Err(error) if !judges_the_artifact(&error) => return Err(error),
            Err(error) => {
                self.stored_level(manifest, checks).await?;
                checks.push(Check::from_error("structure", &error));
                return Ok(());
            }
        };
        let plain = read::check_plaintext(opened, private.as_ref(), self.artifact.key());
        let tap: Box<dyn Tap> = self.verifier.tap(&self.artifact.name)?;
        let (plain, tapped) = flow::tap(plain, tap, self.context.progress.clone());
        let proof = private.map(|p| p.proof);
        let (plain, failure) = note_failure(plain);
        let restored = if self.level == Level::Restore {
            let input = RestoreInput::new(plain, self.artifact.name.clone(), proof.clone()).after(chain);
            input.check_series(self.verifier.restores_series())?;
            match self.verifier.restore_test(input, &self.context).await {
                Ok(checks) => Some(checks),
                // Told below, when it is known whether the stored bytes are to blame.
                Err(error) if error.kind() == ErrorKind::Decrypt => None,
                Err(error) => return Err(error),
            }
        } else {
            let mut plain = plain;
            while let Some(Ok(_)) = plain.next().await {}
            None
        };
        let was_read = {
            let seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
            seen.ended || seen.error.is_some()
        };
        if was_read {
            checks.push(stored_check(&seen, manifest));
        } else {
            // A later stage gave up in the middle. Whether the stored bytes are to blame, their hash tells.
            self.stored_level(manifest, checks).await?;
        }
        match tapped.await {
            Ok(tapped) => {
                let items = tapped.proof.items.len();
                let figure = format!("{items} items, {} rows", tapped.proof.total_count());
                let detail = format!("{} bytes of plaintext, parsed to the end", tapped.bytes);
                checks.push(Check::pass("structure", figure, detail).took(begun.elapsed()));
                checks.extend(self.amount_check(Some(Amount::of(&tapped.proof, tapped.bytes))).await);
                if let Some(expected) = &proof {
                    let compared = expected.compare(&tapped.proof);
                    let failed: Vec<Check> = compared.into_iter().filter(|c| c.status == Status::Fail).collect();
                    if failed.is_empty() {
                        checks.push(Check::pass(
                            "proof",
                            figure_of(expected),
                            "the stored archive holds what the source saw go past",
                        ));
                    }
                    checks.extend(failed);
                }
            }
            Err(_) => {
                let check = match failure.lock().unwrap_or_else(PoisonError::into_inner).as_ref() {
                    // What is not read here may be good all the same.
                    Some(error) if error.kind() == ErrorKind::Unsupported => Check::untested_for("structure", error),
                    Some(error) if judges_the_artifact(error) || damaged_header(error, checks) => {
                        Check::from_error("structure", error)
                    }
                    Some(error) => return Err(error.duplicate()),
                    None if restored.iter().flatten().any(|check| check.status == Status::Untested) => Check::untested(
                        "structure",
                        "not read",
                        "the restore test was given up before the artifact had been read to its end",
                    ),
                    None => Check::fail(
                        "structure",
                        "not read",
                        "the restore ended before the artifact had been read to its end",
                    ),
                };
                checks.push(check.took(begun.elapsed()));
            }
        }
        checks.extend(restored.into_iter().flatten());
        Ok(())
    }

    /// The `live` level of a verifier that compares the content itself.
    async fn live_content(
        &self,
        manifest: Option<&Manifest>,
        private: Option<Private>,
        before: Vec<Artifact>,
        mut checks: Vec<Check>,
    ) -> Result<Vec<Check>> {
        let chain = self.links(before).await?;
        let (stored, _) = read::stored(self.sink.clone(), &self.artifact, manifest, &self.context);
        let opened = read::plaintext(stored, &self.artifact, manifest, &self.keys).await;
        let compared = match opened {
            Ok(plain) => {
                let stream = read::check_plaintext(plain, private.as_ref(), self.artifact.key());
                let proof = private.map(|p| p.proof);
                let input = RestoreInput::new(stream, self.artifact.name.clone(), proof).after(chain);
                input.check_series(self.verifier.restores_series())?;
                self.verifier.live_content(input, &self.context).await
            }
            Err(error) => Err(error),
        };
        match compared {
            Ok(found) => checks.extend(found),
            // Other kinds may be the live system's.
            Err(error) if matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Mismatch) => {
                checks.push(Check::from_error("structure", &error));
            }
            Err(error) => return Err(error),
        }
        Ok(checks)
    }

    /// Records the outcome, without names of what is inside. A verifier whose key may not write verifies all the same.
    async fn write_record(&self, report: &Report) {
        // Its age is no fault of the artifact: a good one must not count as bad because newer ones are missing.
        let worst = report.checks.iter().filter(|c| c.name != AGE_CHECK).map(|c| c.status).max();
        // What could not be tested says nothing about it, and must not make retention give it up.
        if worst == Some(Status::Untested) {
            return;
        }
        let count = |status| report.checks.iter().filter(|c| c.status == status).count();
        let verdict = Verdict {
            level: report.level,
            passed: worst != Some(Status::Fail),
            counts: [Status::Pass, Status::Warn, Status::Fail].map(count),
            took: Duration::try_from_secs_f64(report.seconds).unwrap_or_default(),
        };
        put_verdict(&*self.sink, &self.artifact, &verdict, &self.context).await;
    }
}

/// The outcome of a verification.
pub(super) struct Verdict {
    pub(super) level: Level,
    pub(super) passed: bool,
    /// How many checks passed, passed with a warning, and failed.
    pub(super) counts: [usize; 3],
    pub(super) took: Duration,
}

/// Records the outcome of a verification beside its artifact. What goes wrong is a note.
pub(super) async fn put_verdict(sink: &dyn Sink, artifact: &Artifact, verdict: &Verdict, cx: &Context) {
    let now = cx.now();
    let [pass, warn, fail] = verdict.counts;
    let record = serde_json::json!({
        "dataset": artifact.name.dataset,
        "artifact": artifact.name.to_string(),
        "level": verdict.level,
        "passed": verdict.passed,
        "verified_at": now,
        "verified_by": concat!("lifeboat ", env!("CARGO_PKG_VERSION")),
        "checks": { "pass": pass, "warn": warn, "fail": fail },
        "seconds": verdict.took.as_secs_f64(),
    });
    let key = verification_key(&artifact.key(), now, verdict.level, verdict.passed);
    if let Err(error) = sink.put(&key, stream::once(format!("{record:#}\n"))).await {
        let note = format!("the outcome of this verification could not be recorded: {error}");
        cx.progress.event(Event::Note(note));
    }
}

impl std::fmt::Debug for Verify<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Verify")
            .field("artifact", &self.artifact.key())
            .field("level", &self.level)
            .finish_non_exhaustive()
    }
}

/// Whether an error says that the artifact is bad, and not that it could not be looked at: without a key, or from a store
/// that does not answer, nothing is known about it. A failure that is recorded makes retention give the artifact up.
fn judges_the_artifact(error: &Error) -> bool {
    use ErrorKind as K;
    !error.is_transient()
        && !matches!(error.kind(), K::Decrypt | K::Cancelled | K::Permission | K::Unavailable | K::Internal)
}

/// Whether a key that does not fit is the artifact's fault: its stored bytes are not the manifest's.
fn damaged_header(error: &Error, checks: &[Check]) -> bool {
    error.kind() == ErrorKind::Decrypt && checks.iter().any(|c| c.name == "stored" && c.status == Status::Fail)
}

fn figure_of(proof: &crate::proof::Proof) -> String {
    format!("{} items, {} rows", proof.items.len(), proof.total_count())
}

fn stored_check(seen: &std::sync::Mutex<read::Stored>, manifest: Option<&Manifest>) -> Check {
    let seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(error) = &seen.error {
        return Check::from_error("stored", error);
    }
    if !seen.ended {
        return Check::fail("stored", "not read", "the stored bytes were not read to their end");
    }
    let figure = format!("{} bytes", seen.bytes);
    match manifest {
        Some(_) => Check::pass("stored", figure, "size and SHA-256 match the manifest"),
        None => Check::pass(
            "stored",
            figure,
            format!("foreign, without a manifest to compare with; SHA-256 {}", seen.hashes.join(", ")),
        ),
    }
}

type Failure = Arc<std::sync::Mutex<Option<Error>>>;

/// Remembers the error that a stream ends with, for the report, and passes it on.
fn note_failure(input: stream::ByteStream) -> (stream::ByteStream, Failure) {
    let failure = Failure::default();
    let noted = failure.clone();
    let stream = input
        .inspect(move |item| {
            if let Err(error) = item {
                noted.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(|| error.duplicate());
            }
        })
        .boxed();
    (stream, failure)
}
