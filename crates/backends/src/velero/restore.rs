//! Restores by Velero: requesting one, waiting for its end, and reporting its messages.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::ResourceExt;
use lifeboat_core::duration::Length;
use lifeboat_core::report::human_duration;
use lifeboat_core::{Check, Context, Error, ErrorKind, Result, Status, words};
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

/// How long Velero has to restore, by default.
const LIMIT: Duration = Duration::from_secs(4 * 3600);

/// The most that is read of the list of a backup's objects, in bytes: some hundred thousand of them.
const OBJECTS_LIMIT: usize = 64 << 20;

/// What happens to an object that already exists in the cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum ExistingPolicy {
    /// It stays as it is; a warning names it if it differs.
    #[cfg_attr(feature = "cli", value(help = None::<&str>))]
    #[default]
    Keep,
    /// It is patched back to its state in the backup, if the API server allows that.
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
    /// Whether the options select what to restore.
    fn chooses(&self) -> bool {
        !(self.namespaces.is_empty() && self.resources.is_empty() && self.labels.is_empty())
    }

    /// The namespaces that are named one by one, to be restored, mapped or left out. A pattern may fit nothing.
    fn named_namespaces(&self) -> BTreeSet<&str> {
        let mapped = self.namespace_mapping.iter().map(|pair| &pair.key);
        let named = self.namespaces.iter().chain(&self.exclude_namespaces).chain(mapped);
        named.map(String::as_str).filter(|name| !name.contains(['*', '?', '['])).collect()
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

    /// Rejects options that would restore nothing, or something other than intended.
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
/// - Failed checks mean that Velero did not restore everything; its errors and warnings are reported by namespace.
/// - A restore that Velero's server has not begun within the limit is withdrawn. Once begun, it continues even if this
///   run ends early: nothing can stop it.
///
/// # Errors
/// [`ErrorKind::NoArtifact`] if Velero knows no such backup; [`ErrorKind::Refused`] if it contains nothing to restore;
/// [`ErrorKind::Unavailable`] if the storage location is unavailable, or if the restore takes too long.
///
/// # Cancel safety
/// Safe: Velero continues by itself.
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
    let named = options.named_namespaces();
    if !named.is_empty() {
        match namespaces_in(cluster, files, backup, cx).await {
            Ok(held) => {
                let missing: Vec<_> = named.into_iter().filter(|name| !held.contains(*name)).collect();
                if !missing.is_empty() {
                    checks.push(holds_none_of(&missing, &held, backup));
                    return Ok(checks);
                }
            }
            Err(error) if error.kind() == ErrorKind::Cancelled => return Err(error),
            Err(error) => {
                let detail = format!("whether the backup holds each of them could not be read: {error}");
                checks.push(Check::warn("namespaces", "not compared", detail));
            }
        }
    }

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
            // The request was rejected: the only messages are those in its status.
            if restore.phase() != Some("FailedValidation") {
                let detail = format!("its errors and warnings could not be read: {error}");
                checks.push(Check::warn("messages", "not read", detail));
            }
        }
    }
    Ok(checks)
}

/// The namespaces of which a backup holds something.
async fn namespaces_in(cluster: &Cluster, files: &Files, backup: &str, cx: &Context) -> Result<BTreeSet<String>> {
    let file = File::BackupObjects(backup);
    let text = files.read(cluster, file, OBJECTS_LIMIT, cx).await?;
    // By kind; of what is in a namespace, `namespace/name`. Source: `backupResourceList` in Velero's
    // `pkg/backup/request.go`.
    let objects: BTreeMap<String, Vec<String>> = serde_json::from_slice(&text).map_err(|error| {
        Error::new(ErrorKind::Corrupt, "parse", format!("the list of objects of {backup}"), error.to_string())
    })?;
    let mut held = BTreeSet::new();
    for (kind, names) in objects {
        for name in names {
            match name.split_once('/') {
                Some((namespace, _)) => held.insert(namespace.to_owned()),
                None if kind == "v1/Namespace" => held.insert(name),
                None => continue,
            };
        }
    }
    Ok(held)
}

/// Nothing is restored rather than a part of what was meant.
fn holds_none_of(missing: &[&str], held: &BTreeSet<String>, backup: &str) -> Check {
    let near = missing.iter().find_map(|name| words::near(name, held.iter().map(String::as_str)));
    let names = held.iter().map(String::as_str);
    let hint = match near {
        Some(near) => format!("did you mean {near}?"),
        None if held.is_empty() => "it holds no namespace at all".to_owned(),
        None => format!("it holds {}", run::first_of(names.map(str::to_owned).collect())),
    };
    let detail = format!(
        "{backup} holds nothing of the namespace {}: a name that fits nothing is probably misspelt; {hint}. Nothing was \
         restored",
        missing.join(", ")
    );
    Check::fail("restore", "nothing", detail)
}

/// Checks that a backup contains something to restore.
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

/// One check for each scope that errors or warnings are about.
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

/// Whether a warning is about something that the cluster itself creates in every namespace before Velero does.
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
