//! Checks everything before it is needed: the API server, each right in it, the storage location and its bucket.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec};
use kube::ResourceExt;
use kube::api::{Api, PostParams};
use lifeboat_core::{Check, Context, Error, Result, Sink};

use super::api::{BackupStorageLocation, Stage};
use super::bucket::{self, BucketVerifier};
use super::client::Cluster;
use super::compare::is_compared;
use super::run::{self, Run};
use super::{BackupSummary, backups};

/// How many rights are checked concurrently.
const AT_ONCE: usize = 8;

/// Resources that most namespaces have: checked if no backup tells which ones are needed.
const USUAL: [&str; 6] =
    ["configmaps", "secrets", "services", "serviceaccounts", "persistentvolumeclaims", "deployments.apps"];

/// What rights are needed for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Use {
    /// Listing and showing backups, restores and schedules.
    List,
    /// Making backups.
    Backup,
    /// Reading logs and messages through links.
    Logs,
    /// Deleting backups.
    Delete,
    /// Applying schedules.
    Schedules,
    /// Restoring.
    Restore,
    /// The restore test.
    RestoreTest {
        /// The namespace to restore.
        namespace: String,
        /// The namespace to restore into.
        scratch_namespace: String,
    },
    /// The restore test, when it waits until the Pods in this namespace are ready.
    PodsReady {
        /// The namespace that it is restored into.
        scratch_namespace: String,
    },
}

impl Use {
    /// Completes "it is needed …".
    fn purpose(&self) -> &'static str {
        match self {
            Self::List => "to list backups",
            Self::Backup => "to make backups",
            Self::Logs => "to read logs",
            Self::Delete => "to delete backups",
            Self::Schedules => "to apply schedules",
            Self::Restore => "to restore",
            Self::RestoreTest { .. } => "for the restore test",
            Self::PodsReady { .. } => "to wait for Pods",
        }
    }

    /// The rights; `compared` names the resources that a restore test compares.
    fn rights(&self, velero: &str, compared: &BTreeSet<String>) -> BTreeSet<Right> {
        let of_velero = |resource: &str, verbs: &[&'static str]| {
            let resource = format!("{resource}.velero.io");
            verbs.iter().map(|verb| Right::new(verb, &resource, Some(velero), None)).collect::<Vec<_>>()
        };
        let location = || of_velero("backupstoragelocations", &["get", "list"]);
        let rights: Vec<Right> = match self {
            Self::List => [
                of_velero("backups", &["get", "list"]),
                of_velero("schedules", &["list"]),
                of_velero("podvolumebackups", &["list"]),
            ]
            .concat(),
            Self::Backup => [
                of_velero("backups", &["create", "get", "watch"]),
                of_velero("schedules", &["get"]),
                of_velero("podvolumebackups", &["list"]),
                location(),
            ]
            .concat(),
            Self::Logs => [
                of_velero("backups", &["get"]),
                of_velero("restores", &["get"]),
                of_velero("downloadrequests", &["create", "get", "watch"]),
                location(),
            ]
            .concat(),
            Self::Delete => [
                of_velero("backups", &["get"]),
                of_velero("deletebackuprequests", &["create", "get", "watch", "delete"]),
            ]
            .concat(),
            Self::Schedules => of_velero("schedules", &["create", "delete", "get", "list", "patch", "watch"]),
            Self::Restore => [
                of_velero("backups", &["get"]),
                of_velero("restores", &["create", "delete", "get", "watch"]),
                location(),
            ]
            .concat(),
            Self::PodsReady { scratch_namespace } => vec![Right::new("list", "pods", Some(scratch_namespace), None)],
            Self::RestoreTest { scratch_namespace: scratch, .. } => {
                let own = [("create", None), ("get", Some(scratch)), ("delete", Some(scratch))];
                let own = own.map(|(verb, name)| Right::new(verb, "namespaces", None, name.map(String::as_str)));
                let compared = compared.iter().map(|resource| Right::new("get", resource, Some(scratch), None));
                [
                    of_velero("backups", &["get", "list"]),
                    of_velero("podvolumebackups", &["list"]),
                    of_velero("restores", &["create", "delete", "get", "list", "watch"]),
                    location(),
                    own.to_vec(),
                    compared.collect(),
                ]
                .concat()
            }
        };
        rights.into_iter().collect()
    }
}

/// A verb on a resource.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Right {
    verb: &'static str,
    /// The resource with its group: `deployments.apps`.
    resource: String,
    /// The namespace; `None` for the whole cluster.
    namespace: Option<String>,
    /// The name of the only object that the right is needed for.
    name: Option<String>,
}

impl Right {
    fn new(verb: &'static str, resource: &str, namespace: Option<&str>, name: Option<&str>) -> Self {
        let [namespace, name] = [namespace, name].map(|text| text.map(str::to_owned));
        Self { verb, resource: resource.to_owned(), namespace, name }
    }

    /// Asks the API server whether the current user has this right.
    async fn is_there(&self, cluster: &Cluster) -> Result<bool> {
        let (resource, group) = self.resource.split_once('.').unwrap_or((&self.resource, ""));
        let attributes = ResourceAttributes {
            verb: Some(self.verb.to_owned()),
            resource: Some(resource.to_owned()),
            group: Some(group.to_owned()),
            namespace: self.namespace.clone(),
            name: self.name.clone(),
            ..ResourceAttributes::default()
        };
        let spec = SelfSubjectAccessReviewSpec { resource_attributes: Some(attributes), ..Default::default() };
        let review = SelfSubjectAccessReview { spec, ..Default::default() };
        let asked = Api::all(cluster.client().clone()).create(&PostParams::default(), &review).await;
        let answer = asked.map_err(|error| cluster.explain(error, "ask for", "the rights in the cluster"))?;
        Ok(answer.status.is_some_and(|status| status.allowed))
    }

    fn missing(&self, user: &str, purpose: &str) -> Check {
        let place = match &self.namespace {
            Some(namespace) => format!("in the namespace {namespace}"),
            None => "in the whole cluster".to_owned(),
        };
        let name = self.name.as_ref().map(|name| format!(" {name}")).unwrap_or_default();
        let detail =
            format!("give {user} the verb {} on {}{name} {place}: it is needed {purpose}", self.verb, self.resource);
        Check::fail(format!("right: {} {}", self.verb, self.resource), "missing", detail)
    }
}

/// Checks the API server, the storage location of this name (or the default one), its bucket, and the rights for these uses.
///
/// # Behaviour
/// - It changes nothing: rights are queried, not tried.
/// - `location` is a sink at the bucket and prefix of the storage location. Without one, the bucket is not checked.
/// - A failure is a failed check, and whatever depends on it is not tried.
///
/// # Cancel safety
/// Safe.
pub async fn check(
    cluster: &Cluster,
    location: Option<&Arc<dyn Sink>>,
    storage_location: Option<&str>,
    uses: &[Use],
    cx: &Context,
) -> Vec<Check> {
    let user = match server(cluster).await {
        Ok((check, user)) => (check, user),
        Err(error) => return vec![Check::from_error("Kubernetes", &error)],
    };
    let (server, user) = user;
    let (mut checks, mut place) = (vec![server], None);
    match run::location(cluster, storage_location).await {
        Ok(found) => {
            checks.push(run::location_check(&found));
            if let Some(sink) = location {
                checks.extend(of_bucket(cluster, sink, &found).await);
            }
            place = Some(found.name_any());
        }
        Err(error) => checks.push(Check::from_error("storage location", &error)),
    }
    for purpose in uses {
        let compared = match purpose {
            Use::RestoreTest { namespace, .. } => {
                resources(cluster, location.zip(place.as_deref()), namespace, cx).await
            }
            _ => BTreeSet::new(),
        };
        match of_use(cluster, purpose, &compared, &user).await {
            Ok(found) => checks.extend(found),
            Err(error) => checks.push(Check::from_error("rights", &error)),
        }
    }
    checks
}

/// Checks the API server, and returns the name by which it knows the current user.
async fn server(cluster: &Cluster) -> Result<(Check, String)> {
    let begun = Instant::now();
    let version = cluster.version().await?;
    // API servers before 1.28 do not support it.
    let review = Api::all(cluster.client().clone()).create(&PostParams::default(), &SelfSubjectReview::default()).await;
    let user = review.ok().and_then(|review| review.status?.user_info?.username);
    let user = user.unwrap_or_else(|| "this user".to_owned());
    let detail = format!("{} as {user}, Velero in the namespace {}", cluster.server(), cluster.namespace());
    Ok((Check::pass("Kubernetes", version, detail).took(begun.elapsed()), user))
}

/// Checks that the sink is the storage location's bucket, and contains nothing that makes Velero reject it.
async fn of_bucket(cluster: &Cluster, sink: &Arc<dyn Sink>, place: &BackupStorageLocation) -> Vec<Check> {
    const NAME: &str = "bucket";
    let name = place.name_any();
    let all = match backups(cluster, None).await {
        Ok(all) => all,
        Err(error) => return vec![Check::from_error(NAME, &error)],
    };
    let here =
        |backup: &&BackupSummary| backup.storage_location == name && Stage::of(Some(&backup.phase)) == Stage::Completed;
    let (url, wanted) = (sink.url(), run::bucket_of(place));
    let mut checks = match all.iter().rfind(here) {
        None => {
            vec![Check::warn(NAME, "not compared", format!("{name} has no backup yet that would be in {url} as well"))]
        }
        Some(latest) => vec![match bucket::is_there(&**sink, &latest.name).await {
            Ok(true) => Check::pass(NAME, "the location's", format!("{} is in {url}", latest.name)),
            Ok(false) => {
                let detail = format!(
                    "{} is in {wanted} and not in {url}: name the bucket and the prefix of {name}",
                    latest.name
                );
                Check::fail(NAME, "another", detail)
            }
            Err(error) => Check::from_error(NAME, &error),
        }],
    };
    checks.push(match BucketVerifier::new(Arc::clone(sink)).foreign_folders().await {
        Ok(check) => check,
        Err(error) => Check::from_error("folders", &error),
    });
    checks
}

/// The resources that a restore test of this namespace compares: as the latest backup says that holds it, in this bucket of
/// this storage location.
async fn resources(
    cluster: &Cluster,
    location: Option<(&Arc<dyn Sink>, &str)>,
    namespace: &str,
    cx: &Context,
) -> BTreeSet<String> {
    let usual = || USUAL.map(str::to_owned).into();
    let (Some((sink, place)), Ok(all)) = (location, backups::of_schedule(cluster, None).await) else { return usual() };
    let holds = |backup: &&super::api::Backup| {
        let spec = &backup.spec;
        backup.stage() == Stage::Completed
            && spec.storage_location.as_deref() == Some(place)
            && (spec.included_namespaces.is_empty()
                || spec.included_namespaces.iter().any(|name| name == namespace || name == "*"))
            && !spec.excluded_namespaces.iter().any(|name| name == namespace)
    };
    let Some(latest) = all.iter().rfind(holds) else { return usual() };
    let found = BucketVerifier::new(Arc::clone(sink)).resources(&latest.name_any(), namespace, cx).await;
    let found: BTreeSet<String> = found.unwrap_or_default().into_iter().filter(|name| is_compared(name)).collect();
    if found.is_empty() { usual() } else { found }
}

async fn of_use(cluster: &Cluster, purpose: &Use, compared: &BTreeSet<String>, user: &str) -> Result<Vec<Check>> {
    let rights = purpose.rights(cluster.namespace(), compared);
    let count = rights.len();
    let asked = stream::iter(rights).map(async |right| {
        let there = right.is_there(cluster).await?;
        Ok::<_, Error>((!there).then(|| right.missing(user, purpose.purpose())))
    });
    let missing: Vec<Check> =
        asked.buffered(AT_ONCE).try_filter_map(async |check| Ok(check)).boxed().try_collect().await?;
    if missing.is_empty() {
        let name = format!("rights {}", purpose.purpose());
        return Ok(vec![Check::pass(name, format!("{count} of {count}"), format!("{user} has them"))]);
    }
    Ok(missing)
}
