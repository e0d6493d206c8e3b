//! [`VeleroVerifier`]: what a copy of a backup proves.

use std::sync::Arc;
use std::time::{Duration, Instant};

use kube::ResourceExt;
use lifeboat_core::report::human_duration;
use lifeboat_core::words::Noun;
use lifeboat_core::{
    ArtifactName, Check, Context, Error, ErrorKind, Proof, RestoreInput, Result, Sink, Status, Tap, Verifier,
    async_trait,
};

use super::api::{Schedule, Stage};
use super::bucket::BucketVerifier;
use super::client::Cluster;
use super::inspection::expiration;
use super::restore_test::{RestoreTest, RestoreTestOptions, age};
use super::run::{self, Run};
use super::tap::{BACKUP_DETAIL, BackupTap};
use super::{FORMAT, MAX_AGE, backups};

/// Options of a verification.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct VerifierOptions {
    /// The cluster, and a sink at the bucket and prefix of its backup storage location: for the levels `restore` and `live`.
    pub live: Option<(Cluster, Arc<dyn Sink>)>,
    /// The restore test. The artifact determines which backup is tested, and the verification how old it may be.
    pub test: Option<RestoreTestOptions>,
    /// The schedule whose latest backup the level `live` checks; any backup if not set.
    pub schedule: Option<String>,
    /// How old the latest backup in the cluster may be.
    pub max_age: Duration,
    /// Claims, as `namespace/name`, whose data must be in every backup.
    pub must_cover: Vec<String>,
}

lifeboat_core::setters!(VerifierOptions {
    live: Option<(Cluster, Arc<dyn Sink>)>,
    test: Option<RestoreTestOptions>,
    schedule: Option<String>,
    max_age: Duration,
    must_cover: Vec<String>,
});

impl Default for VerifierOptions {
    fn default() -> Self {
        Self { live: None, test: None, schedule: None, max_age: MAX_AGE, must_cover: Vec::new() }
    }
}

/// Judges copies of Velero's backups.
///
/// | level | what it does |
/// |---|---|
/// | `structure` | parses the copy: all of Velero's files, the list of items against the tarball, claims that must be covered |
/// | `restore` | runs the restore test of the backup that was copied, after comparing the copy with the storage location |
/// | `live` | checks whether the cluster keeps making backups: location, schedule, age of the latest |
#[derive(Clone, Debug, Default)]
pub struct VeleroVerifier {
    options: VerifierOptions,
}

impl VeleroVerifier {
    /// Creates a verifier.
    pub fn new(options: VerifierOptions) -> Self {
        Self { options }
    }

    fn live(&self) -> Result<&(Cluster, Arc<dyn Sink>)> {
        self.options.live.as_ref().ok_or_else(|| {
            let why = "no cluster was given";
            Error::new(ErrorKind::Config, "find", "the cluster", why)
                .hint("name the kubeconfig and the storage location's URL; the level structure needs neither")
        })
    }
}

#[async_trait]
impl Verifier for VeleroVerifier {
    fn unit(&self, kind: &str) -> Option<Noun> {
        super::unit(kind)
    }

    fn tap(&self, name: &ArtifactName) -> Result<Box<dyn Tap>> {
        if name.format_or(FORMAT) != FORMAT {
            let message = format!("the copy of a Velero backup has the format {FORMAT}, but this is {}", name.format);
            return Err(Error::new(ErrorKind::Unsupported, "read", name.to_string(), message));
        }
        Ok(Box::new(BackupTap::new().must_cover(self.options.must_cover.iter().cloned())))
    }

    async fn restore_test(&self, input: RestoreInput, cx: &Context) -> Result<Vec<Check>> {
        let (cluster, location) = self.live()?;
        let Some(test) = &self.options.test else {
            return Err(Error::new(ErrorKind::Config, "make", "the restore test", "no namespace to restore was named")
                .hint("name one that the backup holds, or verify at the level structure"));
        };
        let proof = match BackupTap::proof_of(input.stream, cx).await {
            Ok(proof) => proof,
            // Told as the outcome of the level `structure`.
            Err(error) if error.kind() == ErrorKind::Corrupt => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let name = proof.details.get(BACKUP_DETAIL).and_then(|name| name.as_str()).unwrap_or_default().to_owned();
        let mut checks = vec![same(&proof, location, &name, cx).await?];
        if checks[0].status == Status::Fail {
            return Ok(checks);
        }
        let options = RestoreTestOptions {
            backup: Some(name),
            max_age: None,
            must_cover: test.must_cover.iter().chain(&self.options.must_cover).cloned().collect(),
            ..test.clone()
        };
        let report = RestoreTest::new(cluster.clone(), Arc::clone(location), options).run(cx).await?;
        checks.extend(report.checks);
        Ok(checks)
    }

    async fn live(&self, _: Option<&Proof>, cx: &Context) -> Result<Vec<Check>> {
        let (cluster, location) = self.live()?;
        let schedule = self.options.schedule.as_deref();
        let mut checks = Vec::new();
        let mut place = None;
        if let Some(name) = schedule {
            let found = cluster.find::<Schedule>(name).await?;
            place = found.as_ref().and_then(|schedule| schedule.spec.template.storage_location.clone());
            checks.push(schedule_check(name, found.as_ref()));
        }
        checks.push(run::location_check(&run::location(cluster, place.as_deref()).await?));
        let all = backups::of_schedule(cluster, schedule).await?;
        let Some(latest) = all.iter().rfind(|backup| backup.stage() == Stage::Completed) else {
            let detail = match all.last() {
                Some(last) => format!("the last one, {}, is {}", last.name_any(), last.phase().unwrap_or("New")),
                None => "Velero has made none".to_owned(),
            };
            checks.push(Check::fail("latest backup", "none Completed", detail));
            return Ok(checks);
        };
        // A later failed one is worth a look, even if the latest good one is recent.
        let failed = all.last().filter(|last| matches!(last.stage(), Stage::PartiallyFailed | Stage::Failed));
        checks.push(match failed {
            Some(last) => {
                let why = run::explain_failure(cluster, &**location, last).await;
                let detail = format!("the last one, {}: {}", last.name_any(), why.message());
                Check::warn("latest backup", latest.name_any(), detail)
            }
            None => Check::pass("latest backup", latest.name_any(), "the latest that is Completed"),
        });
        let mut young = age(latest, cx.now(), self.options.max_age);
        "age of the latest".clone_into(&mut young.name);
        checks.push(young);
        checks.extend(latest.status.as_ref().and_then(|status| expiration(status, cx.now())));
        Ok(checks)
    }
}

fn schedule_check(name: &str, schedule: Option<&Schedule>) -> Check {
    const NAME: &str = "schedule";
    let Some(schedule) = schedule else {
        return Check::fail(NAME, "missing", format!("Velero has no schedule {name}"));
    };
    let status = schedule.status.clone().unwrap_or_default();
    let cron = &schedule.spec.schedule;
    match status.phase.as_deref() {
        _ if schedule.spec.paused => Check::warn(NAME, "paused", format!("{name} makes no backups for now ({cron})")),
        Some("Enabled") => Check::pass(NAME, "Enabled", format!("{name}: {cron}")),
        Some("FailedValidation") => Check::fail(NAME, "FailedValidation", run::first_of(status.validation_errors)),
        None | Some("" | "New") => {
            Check::warn(NAME, "New", format!("{name}: Velero has not processed it yet: is its server running?"))
        }
        Some(phase) => Check::fail(NAME, phase, format!("{name}: this phase is unknown, and may mean anything")),
    }
}

/// Checks that the storage location and the copy have the same content, so that a restore from the location also proves
/// the copy.
async fn same(copy: &Proof, location: &Arc<dyn Sink>, name: &str, cx: &Context) -> Result<Check> {
    const NAME: &str = "same backup";
    let begun = Instant::now();
    let stored = match BucketVerifier::new(Arc::clone(location)).proof(name, cx).await {
        Ok(proof) => proof,
        Err(error) if error.kind() == ErrorKind::NoArtifact => {
            let detail = format!(
                "{name} is no longer in {}: Velero can restore it only after it is put back (`restore` does that)",
                location.url()
            );
            return Ok(Check::fail(NAME, "gone", detail));
        }
        Err(error) => return Err(error),
    };
    let differ: Vec<_> =
        copy.compare_in(&stored, super::unit).into_iter().filter(|check| check.status == Status::Fail).collect();
    Ok(match differ.first() {
        None => {
            let detail =
                format!("the storage location holds the same objects; compared in {}", human_duration(begun.elapsed()));
            Check::pass(NAME, super::OBJECTS.count(copy.total_count()), detail)
        }
        Some(first) => {
            let detail =
                format!("the copy and the storage location hold different objects: {}: {}", first.name, first.detail);
            Check::fail(NAME, format!("{} differ", differ.len()), detail)
        }
    })
}
