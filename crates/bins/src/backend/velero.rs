//! Velero: the backups that it makes of a Kubernetes cluster, copied out of its storage location.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use lifeboat::velero::{
    BackupOptions, Cluster, ConnectOptions, ExistingPolicy, Files, LinkOptions, RestoreOptions, RestoreTestOptions,
    ScheduleSettings, Use, Velero, VeleroTarget, VeleroVerifier, VerifierOptions,
};
use lifeboat::{Check, Compression, Context, Dataset, Error, ErrorKind, Level, Result, Sink, Source, Verifier};

use super::{NamedTarget, RestoreChoices, Suggested, Topic, VerifyChoices};
use crate::config::SinkConfig;
use crate::config::setting::Setting;
use crate::jobs::open_sink;

/// How old a backup may be where nobody says.
pub(crate) const MAX_AGE: Duration = Duration::from_secs(48 * 3600);

/// The place of a restore: the cluster itself.
pub(crate) const INTO: &str = "velero://";

/// How the cluster is reached, and where Velero lives in it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Access {
    pub(crate) kubeconfig: Option<Setting>,
    pub(crate) context: Option<String>,
    /// Velero's namespace; the usual one when not set.
    pub(crate) namespace: Option<String>,
}

impl Access {
    /// Connects. The cluster is not asked for anything yet.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] without a kubeconfig that can be used.
    pub(crate) async fn cluster(&self) -> Result<Cluster> {
        let usual = ConnectOptions::default();
        let options = ConnectOptions {
            kubeconfig: self.kubeconfig.as_ref().map(Setting::path).transpose()?,
            context: self.context.clone(),
            namespace: self.namespace.clone().unwrap_or(usual.namespace),
        };
        Cluster::connect(&options).await
    }
}

/// Which cluster, what of it is backed up, and where Velero stores it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Settings {
    pub(crate) access: Access,
    /// The bucket and prefix of Velero's storage location.
    pub(crate) location: Option<SinkConfig>,
    pub(crate) backup: BackupOptions,
    pub(crate) test: Option<RestoreTestOptions>,
    /// Whether no backups are made here, and their restore is tested.
    pub(crate) only_tests: bool,
    /// Claims, as `namespace/name`, whose data must be in each backup.
    pub(crate) must_cover: Vec<String>,
    /// The schedules that the cluster should have.
    pub(crate) schedules: Vec<ScheduleSettings>,
}

/// What only a restore of this system can be asked to do.
#[derive(Clone, Debug, Default)]
pub(crate) struct Choices {
    pub(crate) namespaces: Vec<String>,
    pub(crate) exclude_namespaces: Vec<String>,
    /// `FROM=INTO`.
    pub(crate) maps: Vec<String>,
    pub(crate) resources: Vec<String>,
    pub(crate) exclude_resources: Vec<String>,
    /// `KEY=VALUE`.
    pub(crate) labels: Vec<String>,
    pub(crate) cluster_resources: Option<bool>,
    /// Whether objects that are there are changed to what they were.
    pub(crate) update_existing: bool,
    pub(crate) restore_volumes: Option<bool>,
    pub(crate) limit: Option<Duration>,
}

impl Choices {
    /// What the library is told.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for what is no pair.
    pub(crate) fn options(self) -> Result<RestoreOptions> {
        let usual = RestoreOptions::default();
        Ok(RestoreOptions {
            namespaces: self.namespaces,
            exclude_namespaces: self.exclude_namespaces,
            namespace_mapping: pairs(&self.maps, "--map", "shop=shop-again")?,
            resources: self.resources,
            exclude_resources: self.exclude_resources,
            labels: pairs(&self.labels, "--label", "app=web")?,
            cluster_resources: self.cluster_resources,
            existing: if self.update_existing { ExistingPolicy::Update } else { ExistingPolicy::Keep },
            restore_volumes: self.restore_volumes,
            limit: self.limit.unwrap_or(usual.limit),
        })
    }
}

/// Reads `KEY=VALUE` of a flag that may be given several times.
///
/// # Errors
/// [`ErrorKind::Config`] for what is no pair.
pub(crate) fn pairs(texts: &[String], flag: &str, example: &str) -> Result<BTreeMap<String, String>> {
    let pair = |text: &String| match text.split_once('=') {
        Some((key, value)) if !key.is_empty() && !value.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(Error::new(ErrorKind::Config, "use", format!("{flag} \"{text}\""), "it is no pair")
            .hint(format!("write {flag} {example}"))),
    };
    texts.iter().map(pair).collect()
}

impl Settings {
    pub(crate) async fn cluster(&self) -> Result<Cluster> {
        self.access.cluster().await
    }

    /// The storage location's bucket and prefix.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] when it was not said, or no sink is there to open.
    pub(crate) fn location(&self) -> Result<Arc<dyn Sink>> {
        match &self.location {
            Some(location) => open_sink(location),
            None => Err(Error::new(ErrorKind::Config, "find", "Velero's bucket", "where it is was not said").hint(
                "give the bucket and prefix of the storage location with --location s3://bucket/prefix, or set LIFEBOAT_LOCATION",
            )),
        }
    }

    /// Where the files of backups and restores are read: in the bucket, where it was said; otherwise Velero signs links.
    pub(crate) fn files(&self, ca: Option<&PathBuf>) -> Result<Files> {
        if self.location.is_some() {
            return Ok(Files::Location(self.location()?));
        }
        let read = |path: &PathBuf| std::fs::read(path).map_err(|e| Error::io("read", path.display().to_string(), e));
        Ok(Files::Links(LinkOptions { ca: ca.map(read).transpose()?, ..LinkOptions::default() }))
    }

    /// What to call the dataset when nobody says.
    pub(crate) fn dataset(&self) -> Result<Dataset> {
        Dataset::new(self.backup.dataset())
    }

    pub(crate) async fn source(&self) -> Result<Box<dyn Source>> {
        let location = self.location()?;
        Ok(Box::new(Velero::new(self.cluster().await?, location, self.backup.clone())))
    }

    pub(crate) fn suggested() -> Suggested {
        // What it holds is compressed already.
        Suggested { compression: Compression::None, max_age: Some(MAX_AGE) }
    }

    pub(crate) async fn target(&self, into: &Setting, choices: RestoreChoices) -> Result<NamedTarget> {
        let hint = "what is restored is chosen with --namespace, --resource and --label; --existing update changes what is there";
        choices.refuse_all_but(&[Topic::Velero], "a cluster", hint)?;
        if choices.replace {
            let why = "a namespace is never replaced as a whole";
            return Err(Error::new(ErrorKind::Config, "use", "--replace", why)
                .hint("--existing update changes the objects that are there; --map restores into another namespace"));
        }
        if into.text()? != INTO {
            return Err(into.wrong("it is not the job's cluster").hint(format!(
                "write --into {INTO}; the cluster and the storage location that the copy goes back to are the job's"
            )));
        }
        let (cluster, location) = (self.cluster().await?, self.location()?);
        let name = format!("the cluster {}, through {}", cluster.server(), location.url());
        let target = VeleroTarget::new(cluster, location, choices.velero.options()?);
        Ok(NamedTarget { target: Box::new(target), name, to_stdout: false })
    }

    pub(crate) async fn verifier(&self, choices: &VerifyChoices) -> Result<Box<dyn Verifier>> {
        if choices.max_drift.is_some() {
            return Err(Error::new(ErrorKind::Config, "use", "--max-drift", "it has no meaning for a cluster"));
        }
        let live = match choices.level {
            Level::Restore | Level::Live => Some((self.cluster().await?, self.location()?)),
            Level::Stored | Level::Structure => None,
        };
        if choices.level == Level::Restore && self.test.is_none() {
            return Err(Error::new(ErrorKind::Config, "test", "the restore", "no namespace to restore was named").hint(
                "name one with --namespace, or test = { namespace = \"shop\" } in the job; --level structure needs none",
            ));
        }
        Ok(Box::new(VeleroVerifier::new(VerifierOptions {
            live,
            test: self.test.clone(),
            schedule: self.backup.from_schedule.clone(),
            max_age: MAX_AGE,
            must_cover: self.must_cover.clone(),
        })))
    }

    pub(crate) async fn check(&self) -> Vec<Check> {
        let cluster = match self.cluster().await {
            Ok(cluster) => cluster,
            Err(error) => return vec![Check::from_error("cluster", &error)],
        };
        let location = match self.location.as_ref().map(open_sink).transpose() {
            Ok(location) => location,
            Err(error) => return vec![Check::from_error("location", &error)],
        };
        let mut uses = if self.only_tests { Vec::new() } else { vec![Use::List, Use::Backup] };
        if let Some(test) = &self.test {
            uses.push(Use::RestoreTest {
                namespace: test.namespace.clone(),
                scratch_namespace: test.scratch_namespace.clone(),
            });
            if test.pods_ready.is_some() {
                uses.push(Use::PodsReady { scratch_namespace: test.scratch_namespace.clone() });
            }
        }
        if !self.schedules.is_empty() {
            uses.push(Use::Schedules);
        }
        let storage_location = self.backup.storage_location.as_deref();
        lifeboat::velero::check(&cluster, location.as_ref(), storage_location, &uses, &Context::default()).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_read_and_what_is_none_is_named() {
        let texts = ["shop=again".to_owned(), "blog=blog-2".to_owned()];
        assert_eq!(pairs(&texts, "--map", "a=b").unwrap()["shop"], "again");
        for wrong in ["shop", "=again", "shop="] {
            let error = pairs(&[wrong.to_owned()], "--map", "a=b").unwrap_err();
            assert_eq!((error.kind(), error.subject()), (ErrorKind::Config, &*format!("--map \"{wrong}\"")));
        }
    }
}
