//! Restores by Velero: what is asked for, waiting for the end, and what its messages say.

use std::time::{Duration, Instant};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::ResourceExt;
use lifeboat_core::duration::Length;
use lifeboat_core::report::human_duration;
use lifeboat_core::{Check, Context, Error, ErrorKind, Result, Status};
use serde::Deserialize;

use super::api::{Backup, Restore, RestoreSpec, Stage};
use super::client::{Cluster, Waited};
use super::files::{File, Files, find_backup};
use super::outcome::{Messages, Results};
use super::pairs::{self, Pair};
use super::run::{self, RESULTS_LIMIT, Run};

/// The heading of the flags.
#[cfg(feature = "cli")]
const RESTORED: &str = "What to restore";

/// How long Velero has to restore, where nobody says.
const LIMIT: Duration = Duration::from_secs(4 * 3600);

/// What becomes of an object that is in the cluster already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum ExistingPolicy {
    /// It stays as it is; a warning names it when it differs.
    #[cfg_attr(feature = "cli", value(help = None::<&str>))]
    #[default]
    Keep,
    /// It is patched to be as it was, where the API server lets it.
    #[cfg_attr(feature = "cli", value(help = None::<&str>))]
    Update,
}

/// What to restore, and how.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct RestoreOptions {
    /// Only this namespace; may be given several times, like the others
    #[cfg_attr(feature = "cli", arg(long = "namespace", value_name = "NAME", help_heading = RESTORED))]
    pub namespaces: Vec<String>,
    /// Every namespace except this one
    #[cfg_attr(feature = "cli", arg(long = "exclude-namespace", value_name = "NAME", help_heading = RESTORED))]
    pub exclude_namespaces: Vec<String>,
    /// Restore a namespace into another, as in shop=shop-again
    #[serde(deserialize_with = "pairs::table")]
    #[cfg_attr(
        feature = "cli",
        arg(
            long = "map",
            value_name = "FROM=INTO",
            value_parser = pairs::mapping,
            help_heading = RESTORED
        )
    )]
    pub namespace_mapping: Vec<Pair>,
    /// Only this resource, as in configmaps or deployments.apps
    #[cfg_attr(feature = "cli", arg(long = "resource", value_name = "NAME", help_heading = RESTORED))]
    pub resources: Vec<String>,
    /// Every resource except this one
    #[cfg_attr(feature = "cli", arg(long = "exclude-resource", value_name = "NAME", help_heading = RESTORED))]
    pub exclude_resources: Vec<String>,
    /// Only objects with this label
    #[serde(deserialize_with = "pairs::table")]
    #[cfg_attr(
        feature = "cli",
        arg(long = "label", value_name = "KEY=VALUE", value_parser = pairs::label, help_heading = RESTORED)
    )]
    pub labels: Vec<Pair>,
    /// Whether resources outside of namespaces are restored; without it, Velero decides
    #[cfg_attr(
        feature = "cli",
        arg(
            long,
            value_name = "true|false",
            num_args = 0..=1,
            require_equals = true,
            default_missing_value = "true",
            help_heading = RESTORED
        )
    )]
    pub cluster_resources: Option<bool>,
    /// What becomes of an object that is there: keep (the default) leaves it, update changes it to what it was
    #[cfg_attr(feature = "cli", arg(long, value_name = "keep|update", help_heading = RESTORED))]
    pub existing: Option<ExistingPolicy>,
    /// Whether persistent volumes come back from their snapshots; without it, Velero decides
    #[cfg_attr(
        feature = "cli",
        arg(
            long,
            value_name = "true|false",
            num_args = 0..=1,
            require_equals = true,
            default_missing_value = "true",
            help_heading = RESTORED
        )
    )]
    pub restore_volumes: Option<bool>,
    /// How long Velero has for it, as in 30min; without it, 4h
    #[cfg_attr(feature = "cli", arg(long, value_name = "TIME", help_heading = RESTORED))]
    pub limit: Option<Length>,
    /// Not possible: a namespace is never replaced as a whole. It is there to be refused with what to do instead
    #[cfg_attr(feature = "cli", arg(long, hide = true))]
    pub replace: bool,
}

lifeboat_core::setters!(RestoreOptions {
    namespaces: Vec<String>,
    exclude_namespaces: Vec<String>,
    namespace_mapping: Vec<Pair>,
    resources: Vec<String>,
    exclude_resources: Vec<String>,
    labels: Vec<Pair>,
    cluster_resources: Option<bool>,
    existing: Option<ExistingPolicy>,
    restore_volumes: Option<bool>,
    limit: Option<Length>,
    replace: bool,
});

impl RestoreOptions {
    /// Whether it names what is restored.
    fn chooses(&self) -> bool {
        !(self.namespaces.is_empty() && self.resources.is_empty() && self.labels.is_empty())
    }

    fn spec(&self, backup: &str) -> RestoreSpec {
        let selector = LabelSelector { match_labels: Some(pairs::map(&self.labels)), ..LabelSelector::default() };
        RestoreSpec {
            backup_name: backup.to_owned(),
            included_namespaces: self.namespaces.clone(),
            excluded_namespaces: self.exclude_namespaces.clone(),
            included_resources: self.resources.clone(),
            excluded_resources: self.exclude_resources.clone(),
            namespace_mapping: pairs::map(&self.namespace_mapping),
            label_selector: (!self.labels.is_empty()).then_some(selector),
            restore_pvs: self.restore_volumes,
            include_cluster_resources: self.cluster_resources,
            existing_resource_policy: (self.existing == Some(ExistingPolicy::Update)).then(|| "update".to_owned()),
        }
    }

    /// Finds what would restore nothing, or something else than was meant.
    pub(crate) fn validate(&self) -> Result<()> {
        if self.replace {
            let why = "a namespace is never replaced as a whole";
            return Err(Error::new(ErrorKind::Config, "use", "--replace", why)
                .hint("--existing update changes the objects that are there; --map restores into another namespace"));
        }
        let wrong = |why: String, hint: &str| {
            Err(Error::new(ErrorKind::Config, "restore", "with these options", why).hint(hint))
        };
        for Pair { key: from, value: into } in &self.namespace_mapping {
            if self.exclude_namespaces.contains(from) {
                return wrong(format!("{from} is mapped to {into}, but left out"), "do not leave it out");
            }
            if !self.namespaces.is_empty() && !self.namespaces.iter().any(|name| name == from || name.contains('*')) {
                let why = format!("{from} is mapped to {into}, but is not among the namespaces to restore");
                return wrong(why, "add it to them, or leave out the mapping");
            }
        }
        Ok(())
    }
}

/// Has Velero restore from a backup that it knows, and waits for the end.
///
/// # Behaviour
/// - Checks that failed say that Velero has not restored it all; its errors and warnings are told by namespace.
/// - A restore that Velero's server has not taken up within the limit is withdrawn. One that it has taken up goes on when this
///   run ends early: nothing stops it.
///
/// # Errors
/// [`ErrorKind::NoArtifact`] when Velero knows no such backup; [`ErrorKind::Refused`] when it holds nothing to restore;
/// [`ErrorKind::Unavailable`] when the storage location is, or when the time is over.
///
/// # Cancel safety
/// Safe: Velero goes on by itself.
pub async fn restore(
    cluster: &Cluster,
    files: &Files,
    backup: &str,
    options: &RestoreOptions,
    cx: &Context,
) -> Result<Vec<Check>> {
    options.validate()?;
    let limit = options.limit.map_or(LIMIT, |limit| limit.0);
    let found = find_backup(cluster, backup).await?;
    let mut checks = vec![usable(&found)?];
    run::available(cluster, found.spec.storage_location.as_deref()).await?;

    let begun = Instant::now();
    let base: String = backup.chars().take(48).collect();
    let name = format!("{}-{}", base.trim_end_matches(['-', '.']), run::random_suffix()?);
    cluster.create(&Restore::new(&name, options.spec(backup))).await?;
    let restore = match run::end_of::<Restore>(cluster, &name, limit, cx).await? {
        Waited::Done(restore) => restore,
        Waited::TooLong(restore) => return Err(too_long(cluster, &restore, limit).await?),
    };
    let results = match files.read(cluster, File::RestoreResults(&name), RESULTS_LIMIT, cx).await {
        Ok(text) => serde_json::from_slice::<Results>(&text).map_err(|error| {
            Error::new(ErrorKind::Corrupt, "parse", format!("the messages of {name}"), error.to_string())
        }),
        Err(error) if error.kind() == ErrorKind::Cancelled => return Err(error),
        Err(error) => Err(error),
    };
    checks.push(verdict(&restore, &name, options.chooses()).took(begun.elapsed()));
    match results {
        Ok(results) => checks.extend(told(&results)),
        Err(error) => {
            // What it was asked for was refused: there are no messages but those in its status.
            if restore.phase() != Some("FailedValidation") {
                let detail = format!("its errors and warnings could not be read: {error}");
                checks.push(Check::warn("messages", "not read", detail));
            }
        }
    }
    Ok(checks)
}

/// Whether there is something to restore in a backup.
fn usable(backup: &Backup) -> Result<Check> {
    let (name, phase) = (backup.name_any(), backup.phase().unwrap_or("New").to_owned());
    let refused = |why: String, hint: &str| {
        Err(Error::new(ErrorKind::Refused, "restore", format!("Velero's backup {name}"), why).hint(hint))
    };
    match backup.stage() {
        Stage::Completed => Ok(Check::pass("backup", phase, name)),
        Stage::PartiallyFailed => {
            let detail = format!("{name} does not hold everything it should; restoring what it holds");
            Ok(Check::warn("backup", phase, detail))
        }
        Stage::Running => refused(format!("it has not ended: its phase is {phase}"), "wait until it ends"),
        Stage::Failed => refused(format!("it holds nothing: its phase is {phase}"), "choose another one"),
    }
}

fn verdict(restore: &Restore, name: &str, chosen: bool) -> Check {
    let status = restore.status.clone().unwrap_or_default();
    let phase = status.phase.clone().filter(|phase| !phase.is_empty()).unwrap_or_else(|| "none".to_owned());
    let (total, done) = restore.items().unwrap_or_default();
    let figures =
        format!("{done} of {total} items, {} errors, {} warnings; Restore {name}", status.errors, status.warnings);
    if restore.stage() == Stage::Completed && status.errors == 0 {
        if chosen && restore.items().is_some_and(|(total, done)| total == 0 && done == 0) {
            let why = "nothing in the backup fits what was chosen: a name that fits nothing is probably misspelt";
            return Check::fail("restore", "nothing", format!("{why}; {figures}"));
        }
        return Check::pass("restore", phase, figures);
    }
    let reasons: Vec<_> = status.failure_reason.into_iter().chain(status.validation_errors).collect();
    let why = if reasons.is_empty() { String::new() } else { format!("{}; ", run::first_of(reasons)) };
    Check::fail("restore", phase, format!("{why}{figures}"))
}

/// A check for each place that errors or warnings are about.
fn told(results: &Results) -> Vec<Check> {
    let of = |status: Status, word: &str, messages: &Messages| {
        let shown = messages.by_place().into_iter().filter_map(|(place, messages)| {
            let messages: Vec<_> = messages.into_iter().filter(|message| !is_of_the_cluster(message)).collect();
            let check = |count: usize| {
                Check::new(status, format!("{word}: {place}"), count.to_string(), run::first_of(messages.clone()))
            };
            (!messages.is_empty()).then(|| check(messages.len()))
        });
        shown.collect::<Vec<_>>()
    };
    let mut checks = of(Status::Fail, "errors", &results.errors);
    checks.extend(of(Status::Warn, "warnings", &results.warnings));
    checks
}

/// Whether a warning is about what the cluster puts into each namespace by itself, before Velero comes to it.
pub(crate) fn is_of_the_cluster(message: &str) -> bool {
    message.contains("kube-root-ca.crt")
}

async fn too_long(cluster: &Cluster, restore: &Restore, limit: Duration) -> Result<Error> {
    let (name, limit) = (restore.name_any(), human_duration(limit));
    let (message, hint) = if restore.is_waiting() {
        cluster.delete::<Restore>(&name).await?;
        let hint = "is Velero's server running, and does it have other restores to finish first? Check its log";
        (format!("Velero has not begun it within {limit}, and it was withdrawn"), hint)
    } else {
        let (total, done) = restore.items().unwrap_or_default();
        let phase = restore.phase().unwrap_or_default();
        let hint = "Velero continues if its server runs; check its log, or allow more time";
        (format!("it is not complete after {limit}: {phase}, {done} of {total} items"), hint)
    };
    Ok(Error::new(ErrorKind::Unavailable, "make", format!("Velero's restore {name}"), message).hint(hint))
}
