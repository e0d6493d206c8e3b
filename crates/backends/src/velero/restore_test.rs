//! The restore test: restores the latest backup of a schedule into a scratch namespace of the same cluster, compares it
//! object by object, and cleans up.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, ObjectMeta, PostParams};
use lifeboat_core::duration::Length;
use lifeboat_core::report::human_duration;
use lifeboat_core::{Check, Context, Error, ErrorKind, Level, Report, Result, Sink, Status};
use serde::Deserialize;

use super::api::{Backup, Restore, RestoreSpec, SCHEDULE_LABEL, Stage};
use super::bucket::BucketVerifier;
use super::client::{Cluster, Waited, is_missing};
use super::inspection::expiration;
use super::restored::{self, Mapping};
use super::{MAX_AGE, restore, run};

/// The label on everything that a restore test creates: its value is the scratch namespace, so that the next test with
/// the same one finds what a killed test left behind.
pub const OWNER_LABEL: &str = "lifeboat-restore-test";

/// How long a namespace may take to be deleted.
const CLEAN_UP: Duration = Duration::from_secs(300);

/// How long Velero's server has to begin a restore that is to be removed; a server that is not running begins none.
const BEGINS: Duration = Duration::from_secs(10);

/// The interval for checking whether a namespace is gone, or Pods are ready.
const PAUSE: Duration = Duration::from_millis(500);

/// The heading of the flags.
#[cfg(feature = "cli")]
const TEST: &str = "Restore test";

/// The default namespace to restore into.
const SCRATCH: &str = "velero-test-restore";

/// How long Velero has to restore, by default.
const LIMIT: Duration = Duration::from_secs(1800);

lifeboat_core::described! {
/// What to test, and how strictly. In a config file, the artifact and the job determine which backup is tested and what
/// it must cover, not this table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct RestoreTestOptions {
    /// The namespace in the backup that is restored
    // The same flag as elsewhere: the settings of a job are read from the same arguments.
    #[cfg_attr(
        feature = "cli",
        arg(id = "namespaces", long = "namespace", value_name = "NAME", help_heading = TEST)
    )]
    pub namespace: Option<String>,
    /// The namespace that it is restored into: made, and removed at the end; without it, velero-test-restore
    #[cfg_attr(feature = "cli", arg(long, value_name = "NAME", help_heading = TEST))]
    pub scratch_namespace: Option<String>,
    /// Wait until the restored Pods are ready, for so long
    #[cfg_attr(feature = "cli", arg(long, value_name = "TIME", help_heading = TEST))]
    pub pods_ready: Option<Length>,
    /// How long Velero has to restore it; without it, 30min
    #[cfg_attr(feature = "cli", arg(long, value_name = "TIME", help_heading = TEST))]
    pub limit: Option<Length>,
    /// This backup and no other
    #[serde(skip)]
    #[cfg_attr(feature = "cli", arg(long, value_name = "NAME", help_heading = TEST))]
    pub backup: Option<String>,
    /// A claim, as namespace/name, whose data must be in the backup; may be given several times
    #[serde(skip)]
    #[cfg_attr(feature = "cli", arg(long, value_name = "CLAIM", value_parser = claim, help_heading = TEST))]
    pub must_cover: Vec<String>,
    /// The schedule whose latest completed backup is tested; any backup if not set.
    #[serde(skip)]
    #[cfg_attr(feature = "cli", arg(skip))]
    pub schedule: Option<String>,
    /// The maximum age of the backup; if not set, there is none.
    #[serde(skip)]
    #[cfg_attr(feature = "cli", arg(skip))]
    pub max_age: Option<Duration>,
}
}

lifeboat_core::setters!(RestoreTestOptions {
    namespace: Option<String>,
    scratch_namespace: Option<String>,
    pods_ready: Option<Length>,
    limit: Option<Length>,
    backup: Option<String>,
    must_cover: Vec<String>,
    schedule: Option<String>,
    max_age: Option<Duration>,
});

#[cfg(feature = "cli")]
use super::settings::claim;

impl RestoreTestOptions {
    /// Creates options to test a namespace: the latest backup of any schedule, at most 48 hours old, into `velero-test-restore`.
    pub fn new(namespace: impl Into<String>) -> Self {
        Self { namespace: Some(namespace.into()), max_age: Some(MAX_AGE), ..Self::default() }
    }

    /// The namespace in the backup, if it is named.
    fn tested_namespace(&self) -> &str {
        self.namespace.as_deref().unwrap_or_default()
    }

    /// The namespace to restore into.
    pub fn scratch(&self) -> &str {
        self.scratch_namespace.as_deref().unwrap_or(SCRATCH)
    }

    /// Combines these options with others; these take precedence.
    pub(crate) fn over(self, others: Self) -> Self {
        Self {
            namespace: self.namespace.or(others.namespace),
            scratch_namespace: self.scratch_namespace.or(others.scratch_namespace),
            pods_ready: self.pods_ready.or(others.pods_ready),
            limit: self.limit.or(others.limit),
            backup: self.backup.or(others.backup),
            must_cover: self.must_cover.into_iter().chain(others.must_cover).collect(),
            schedule: self.schedule.or(others.schedule),
            max_age: self.max_age.or(others.max_age),
        }
    }
}

/// Tests whether a backup in the cluster's storage location can be restored.
#[derive(Clone, Debug)]
pub struct RestoreTest {
    cluster: Cluster,
    location: Arc<dyn Sink>,
    options: RestoreTestOptions,
}

impl RestoreTest {
    /// Creates a restore test in `cluster`. `location` must be opened at the bucket and prefix of the backup storage
    /// location.
    pub fn new(cluster: Cluster, location: Arc<dyn Sink>, options: RestoreTestOptions) -> Self {
        Self { cluster, location, options }
    }

    /// Runs the test.
    ///
    /// # Behaviour
    /// - The scratch namespace and the Restore are removed whatever happens, even if the run is cancelled. The next run
    ///   removes what a killed one left behind.
    /// - A namespace that no test created is never touched: then the test fails.
    ///
    /// # Errors
    /// Any error that prevents the test itself: the cluster does not respond, a right is missing. A backup that cannot
    /// be restored is a report that did not pass.
    ///
    /// # Cancel safety
    /// Cancel through the context's token. A dropped future leaves the scratch namespace for the next test to remove.
    pub async fn run(&self, cx: &Context) -> Result<Report> {
        if self.options.tested_namespace().is_empty() {
            let why = "no namespace to restore was named";
            return Err(Error::new(ErrorKind::Config, "make", "the restore test", why)
                .hint("name one that the backup holds, or verify at the level structure"));
        }
        let begun = Instant::now();
        let mut test = Test { subject: self, checks: Vec::new(), backup: None, dirty: false };
        let outcome = test.steps(cx).await;
        if test.dirty {
            // This must also be done after a cancelled run.
            let cleaned = self.clean_up(&Context::default()).await;
            match cleaned {
                Ok(_) if outcome.is_ok() => {
                    let detail = format!("the namespace {} and the Restore are gone", self.options.scratch());
                    test.checks.push(Check::pass("clean-up", "done", detail));
                }
                Ok(_) => {}
                Err(error) => test.checks.push(Check::from_error("clean-up", &error)),
            }
        }
        outcome?;
        let backup = test.backup.unwrap_or_default();
        let dataset = self.options.schedule.clone().unwrap_or_else(|| backup.clone());
        let mut report = Report::new(dataset, format!("backups/{backup}"), Level::Restore, test.checks);
        report.seconds = begun.elapsed().as_secs_f64();
        Ok(report)
    }

    fn namespaces(&self) -> Api<Namespace> {
        Api::all(self.cluster.client().clone())
    }

    /// Removes the scratch namespace and the Restores of tests with it, and waits until the namespace is gone. Returns
    /// what was removed.
    async fn clean_up(&self, cx: &Context) -> Result<Vec<String>> {
        let name = self.options.scratch();
        let mut removed = Vec::new();
        for restore in self.cluster.list::<Restore>(&format!("{OWNER_LABEL}={name}")).await? {
            self.let_end(&restore, cx).await?;
            self.cluster.delete::<Restore>(&restore.name_any()).await?;
            removed.push(format!("Restore {}", restore.name_any()));
        }
        let namespaces = self.namespaces();
        let read = |error| self.cluster.explain(error, "read", format!("Namespace {name}"));
        let Some(found) = namespaces.get_opt(name).await.map_err(read)? else { return Ok(removed) };
        if found.labels().get(OWNER_LABEL).map(String::as_str) != Some(name) {
            return Err(Error::new(
                ErrorKind::Refused,
                "use",
                format!("Namespace {name}"),
                "it exists, but no restore test created it",
            )
            .hint("name another scratch namespace, or delete this one if nobody needs it"));
        }
        removed.push(format!("Namespace {name}"));
        match namespaces.delete(name, &DeleteParams::default()).await {
            // A conflict means that it is already being deleted.
            Err(error) if !is_missing(&error) && !matches!(&error, kube::Error::Api(status) if status.code == 409) => {
                return Err(self.cluster.explain(error, "delete", format!("Namespace {name}")));
            }
            _ => {}
        }
        let deadline = Instant::now() + CLEAN_UP;
        while namespaces.get_opt(name).await.map_err(read)?.is_some_and(|there| there.uid() == found.uid()) {
            if cx.cancel.is_cancelled() {
                return Err(Error::cancelled("remove", format!("Namespace {name}")));
            }
            if Instant::now() >= deadline {
                let why = format!("it is still there after {}", human_duration(CLEAN_UP));
                return Err(Error::new(ErrorKind::Unavailable, "remove", format!("Namespace {name}"), why).hint(
                    "an object in it has a finalizer that nobody removes: `kubectl describe namespace` names it",
                ));
            }
            tokio::time::sleep(PAUSE).await;
        }
        Ok(removed)
    }

    /// Waits for the end of a restore, because nothing can stop one: Velero continues without the Restore object, and
    /// creates the namespace again if it is removed. The wait for a restore that has not begun, or does not end, is
    /// limited.
    async fn let_end(&self, restore: &Restore, cx: &Context) -> Result<()> {
        let name = restore.name_any();
        let phase = |restore: &Restore| restore.status.as_ref().and_then(|status| status.phase.clone());
        let begun = |restore: &Restore| !matches!(phase(restore).as_deref(), None | Some("" | "New"));
        let ended = |restore: &Restore| Stage::of(phase(restore).as_deref()) != Stage::Running;
        for (limit, done) in [(BEGINS, &begun as &(dyn Fn(&Restore) -> bool + Sync)), (CLEAN_UP, &ended)] {
            match self.cluster.wait(&name, limit, cx, done).await {
                Ok(Waited::Done(_)) => {}
                Ok(Waited::TooLong(_)) => break,
                Err(error) if error.kind() == ErrorKind::NotFound => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// The backup to test: the named one, or the latest completed one of the schedule.
    async fn choose(&self) -> Result<std::result::Result<Backup, Check>> {
        let labels = self.options.schedule.as_ref().map(|schedule| format!("{SCHEDULE_LABEL}={schedule}"));
        let mut backups: Vec<Backup> = match &self.options.backup {
            Some(name) => self.cluster.find::<Backup>(name).await?.into_iter().collect(),
            None => self.cluster.list::<Backup>(&labels.unwrap_or_default()).await?,
        };
        backups.sort_by_key(|backup| backup.status.as_ref().and_then(|s| s.start_timestamp.clone()).map(|time| time.0));
        let phase = |backup: &Backup| backup.status.as_ref().and_then(|status| status.phase.clone());
        let latest = backups.iter().rfind(|backup| Stage::of(phase(backup).as_deref()) == Stage::Completed);
        if let Some(backup) = latest {
            return Ok(Ok(backup.clone()));
        }
        let what = match (&self.options.backup, &self.options.schedule) {
            (Some(name), _) => format!("the backup {name}"),
            (None, Some(schedule)) => format!("a backup of the schedule {schedule}"),
            (None, None) => "a backup".to_owned(),
        };
        let detail = match backups.last() {
            Some(last) => {
                let phase = phase(last).unwrap_or_else(|| "New".to_owned());
                let why = match Stage::of(Some(&phase)) {
                    Stage::PartiallyFailed | Stage::Failed => {
                        let error = run::explain_failure(&self.cluster, &*self.location, last).await;
                        format!(": {}", error.message())
                    }
                    _ => String::new(),
                };
                format!("there is not {what} that is Completed; the last one, {}, is {phase}{why}", last.name_any())
            }
            None => format!("there is not {what}"),
        };
        Ok(Err(Check::fail("backup", "none", detail)))
    }
}

/// A test in progress.
struct Test<'a> {
    subject: &'a RestoreTest,
    checks: Vec<Check>,
    backup: Option<String>,
    /// Whether there is something to clean up.
    dirty: bool,
}

impl Test<'_> {
    /// Runs the steps in order; a failing step ends the test, but not with an error.
    async fn steps(&mut self, cx: &Context) -> Result<()> {
        let RestoreTest { cluster, location, options } = self.subject;
        let chosen = self.subject.choose().await?;
        let place = chosen.as_ref().ok().and_then(|backup| backup.spec.storage_location.as_deref());
        let place = run::location(cluster, place).await?;
        self.checks.push(run::location_check(&place));
        let backup = match chosen {
            Ok(backup) => backup,
            Err(check) => {
                self.checks.push(check);
                return Ok(());
            }
        };
        let name = backup.name_any();
        self.backup = Some(name.clone());
        let which =
            if options.backup.is_some() { "the one that was asked for" } else { "the latest that is Completed" };
        self.checks.push(Check::pass("backup", name.clone(), which));
        self.checks.extend(options.max_age.map(|limit| age(&backup, cx.now(), limit)));
        self.checks.extend(backup.status.as_ref().and_then(|status| expiration(status, cx.now())));
        // An old backup is restored anyway: it is worth knowing whether that works.
        if self.checks[0].status == Status::Fail {
            return Ok(());
        }
        if !self.judge_files(&name, cx).await? || !self.prepare(cx).await? || !self.restore(&name, cx).await? {
            return Ok(());
        }
        let begun = Instant::now();
        let mapping = Mapping { from: options.tested_namespace().to_owned(), into: options.scratch().to_owned() };
        let tarball = restored::tarball(location, &name).await?;
        let mut compared = restored::compare(cluster, tarball, &mapping, cx).await?;
        if let Some(first) = compared.first_mut() {
            first.seconds = begun.elapsed().as_secs_f64();
        }
        self.checks.append(&mut compared);
        if let Some(limit) = options.pods_ready {
            self.checks.push(self.pods_ready(limit.0, cx).await?);
        }
        Ok(())
    }

    /// Checks the backup's files, and the claims in the namespace. Returns whether the files exist at all.
    async fn judge_files(&mut self, name: &str, cx: &Context) -> Result<bool> {
        let RestoreTest { location, options, .. } = self.subject;
        let bucket = BucketVerifier::new(Arc::clone(location)).must_cover(options.must_cover.iter().cloned());
        let report = match bucket.verify(name, cx).await {
            Ok(report) => report,
            Err(error) if error.kind() == ErrorKind::NoArtifact => {
                let detail =
                    format!("its files are not in {}: is this the bucket of the storage location?", location.url());
                self.checks.push(Check::fail("files", "missing", detail));
                return Ok(false);
            }
            Err(error) => return Err(error),
        };
        let inside = format!("volume {}/", options.tested_namespace());
        let wanted = |check: &Check| {
            let must = options.must_cover.iter().any(|claim| check.name == format!("volume {claim}"));
            must || check.name.starts_with(&inside)
        };
        let failed = |check: &Check| check.status == Status::Fail && !check.name.starts_with("volume ");
        self.checks.extend(report.checks.into_iter().filter(|check| wanted(check) || failed(check)));
        Ok(true)
    }

    /// Removes what an earlier test left behind and creates the scratch namespace.
    async fn prepare(&mut self, cx: &Context) -> Result<bool> {
        let name = self.subject.options.scratch();
        match self.subject.clean_up(cx).await {
            Ok(removed) if removed.is_empty() => {}
            Ok(removed) => {
                let detail = format!("an earlier test was interrupted; removed {}", removed.join(", "));
                self.checks.push(Check::warn("leftovers", removed.len().to_string(), detail));
            }
            Err(error) if error.kind() == ErrorKind::Refused => {
                self.checks.push(Check::from_error("scratch namespace", &error));
                return Ok(false);
            }
            Err(error) => return Err(error),
        }
        let labels = BTreeMap::from([(OWNER_LABEL.to_owned(), name.to_owned())]);
        let metadata = ObjectMeta { name: Some(name.to_owned()), labels: Some(labels), ..ObjectMeta::default() };
        self.dirty = true;
        let namespace = Namespace { metadata, ..Namespace::default() };
        let created = self.subject.namespaces().create(&PostParams::default(), &namespace).await;
        created.map_err(|error| self.subject.cluster.explain(error, "create", format!("Namespace {name}")))?;
        Ok(true)
    }

    /// Has Velero restore the namespace, and returns whether it did.
    async fn restore(&mut self, backup: &str, cx: &Context) -> Result<bool> {
        let RestoreTest { cluster, location, options } = self.subject;
        let begun = Instant::now();
        let name = format!("{}-{}", OWNER_LABEL, run::random_suffix()?);
        let spec = RestoreSpec {
            backup_name: backup.to_owned(),
            included_namespaces: vec![options.tested_namespace().to_owned()],
            namespace_mapping: BTreeMap::from([(options.tested_namespace().to_owned(), options.scratch().to_owned())]),
            ..RestoreSpec::default()
        };
        let mut wanted = Restore::new(&name, spec);
        wanted.metadata.labels = Some(BTreeMap::from([(OWNER_LABEL.to_owned(), options.scratch().to_owned())]));
        cluster.create(&wanted).await?;
        let limit = options.limit.map_or(LIMIT, |limit| limit.0);
        let waited = run::end_of::<Restore>(cluster, &name, limit, cx).await?;
        let (restore, in_time) = match waited {
            Waited::Done(restore) => (restore, true),
            Waited::TooLong(restore) => (restore, false),
        };
        let status = restore.status.unwrap_or_default();
        let phase = status.phase.clone().unwrap_or_else(|| "New".to_owned());
        if !in_time {
            let limit = human_duration(limit);
            let detail = format!("it has not ended within {limit}: is Velero's server running? Check its log");
            self.checks.push(Check::fail("restore", phase, detail).took(begun.elapsed()));
            return Ok(false);
        }
        let results = run::results(&**location, &format!("restores/{name}/restore-{name}-results.gz")).await;
        let (errors, warnings) =
            results.map(|results| (results.errors.all(), results.warnings.all())).unwrap_or_default();
        let good = Stage::of(Some(&phase)) == Stage::Completed && status.errors == 0;
        self.checks.push(if good {
            let detail = format!("into the namespace {}, without errors", options.scratch());
            Check::pass("restore", phase, detail).took(begun.elapsed())
        } else {
            let reasons = status.failure_reason.into_iter().chain(status.validation_errors).chain(errors).collect();
            Check::fail("restore", phase, run::first_of(reasons)).took(begun.elapsed())
        });
        let warnings: Vec<_> = warnings.into_iter().filter(|warning| !restore::is_of_the_cluster(warning)).collect();
        if !warnings.is_empty() {
            self.checks.push(Check::warn("restore warnings", warnings.len().to_string(), run::first_of(warnings)));
        }
        Ok(good)
    }

    async fn pods_ready(&self, limit: Duration, cx: &Context) -> Result<Check> {
        let RestoreTest { cluster, options, .. } = self.subject;
        let pods: Api<Pod> = Api::namespaced(cluster.client().clone(), options.scratch());
        let begun = Instant::now();
        loop {
            let all = cluster.list_of(&pods, "", &format!("the Pods of {}", options.scratch())).await?;
            let waiting: Vec<_> = all.iter().filter(|pod| !is_ready(pod)).map(ResourceExt::name_any).collect();
            if waiting.is_empty() {
                let figure = all.len().to_string();
                return Ok(Check::pass("pods ready", figure, "all of them").took(begun.elapsed()));
            }
            if begun.elapsed() >= limit {
                let figure = format!("{} of {}", all.len() - waiting.len(), all.len());
                let detail = format!("not ready after {}: {}", human_duration(limit), run::first_of(waiting));
                return Ok(Check::fail("pods ready", figure, detail).took(begun.elapsed()));
            }
            tokio::select! {
                biased;
                () = cx.cancel.cancelled() => return Err(Error::cancelled("wait for", "Pods")),
                () = tokio::time::sleep(PAUSE) => {}
            }
        }
    }
}

/// Whether a Pod is ready. A Pod that has succeeded counts as ready.
fn is_ready(pod: &Pod) -> bool {
    let Some(status) = &pod.status else { return false };
    status.phase.as_deref() == Some("Succeeded")
        || status.conditions.iter().flatten().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// The age of a backup.
pub(crate) fn age(backup: &Backup, now: Timestamp, limit: Duration) -> Check {
    let status = backup.status.clone().unwrap_or_default();
    let Some(taken) = status.start_timestamp.map(|time| time.0) else {
        return Check::fail("age", "unknown", "Velero does not say when it began");
    };
    let age = Duration::try_from(now.duration_since(taken)).unwrap_or_default();
    let (figure, limit_text) = (human_duration(age), human_duration(limit));
    if age > limit {
        return Check::fail("age", figure, format!("taken at {taken}, and {limit_text} is the limit"));
    }
    Check::pass("age", figure, format!("taken at {taken}, within {limit_text}"))
}
