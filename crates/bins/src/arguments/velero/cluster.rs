//! The groups of flags that several commands take: the cluster, Velero's bucket, what is backed up, the restore test.

use std::path::PathBuf;

use clap::Args;
use lifeboat::Result;
use lifeboat::velero::{BackupOptions, RestoreTestOptions};

use super::{VerifyArgs, only_of_copies, wrong};
use crate::backend::velero::{Access, MAX_AGE, Settings, pairs};
use crate::config::SinkConfig;
use crate::config::setting::Setting;
use crate::duration;

/// The cluster.
#[derive(Args, Debug)]
pub(super) struct ClusterArgs {
    /// The kubeconfig; without it KUBECONFIG, ~/.kube/config, or the service account of the Pod
    #[arg(long, value_name = "PATH", help_heading = "Cluster")]
    kubeconfig: Option<String>,
    /// The context in the kubeconfig; without it, the current one
    #[arg(long, value_name = "NAME", help_heading = "Cluster")]
    context: Option<String>,
    /// The namespace that Velero is installed in
    #[arg(long, value_name = "NAME", default_value = "velero", env = "VELERO_NAMESPACE", help_heading = "Cluster")]
    velero_namespace: String,
}

impl ClusterArgs {
    pub(super) fn access(self) -> Access {
        Access {
            kubeconfig: self.kubeconfig.map(|path| Setting::argument(path, "--kubeconfig")),
            context: self.context,
            namespace: Some(self.velero_namespace),
        }
    }

    pub(super) fn settings(self, location: &LocationArg) -> Settings {
        Settings { access: self.access(), location: location.sink(), ..Settings::default() }
    }
}

/// Velero's bucket.
#[derive(Args, Debug)]
pub(super) struct LocationArg {
    /// Where Velero stores: the bucket and prefix of its storage location, as the URL of a sink
    #[arg(long, value_name = "SINK-URL", env = "LIFEBOAT_LOCATION", help_heading = "Cluster")]
    location: Option<String>,
}

impl LocationArg {
    pub(super) fn url(&self) -> Option<String> {
        self.location.clone().filter(|url| !url.is_empty())
    }

    pub(super) fn sink(&self) -> Option<SinkConfig> {
        self.url().map(|url| SinkConfig::of_url(Setting::argument(url, "--location")))
    }
}

/// Where the files of a backup or a restore are read.
#[derive(Args, Debug)]
pub(super) struct FilesArgs {
    #[command(flatten)]
    pub(super) location: LocationArg,
    /// A file of certificates to trust besides the system's, for the links that Velero signs
    #[arg(long = "cacert", value_name = "PATH", help_heading = "Cluster")]
    pub(super) ca: Option<PathBuf>,
}

/// What is backed up.
#[derive(Args, Debug, Default)]
#[command(next_help_heading = "What is backed up")]
pub(super) struct Contents {
    /// What this schedule backs up, and how; the options below go before what it says
    #[arg(long, value_name = "NAME")]
    from_schedule: Option<String>,
    /// Only this namespace; may be given several times, like the others
    #[arg(long = "namespace", value_name = "NAME")]
    namespaces: Vec<String>,
    /// All namespaces but this
    #[arg(long = "exclude-namespace", value_name = "NAME")]
    exclude_namespaces: Vec<String>,
    /// Only objects with this label
    #[arg(long = "label", value_name = "KEY=VALUE")]
    labels: Vec<String>,
    /// How long Velero keeps it, as in 30d
    #[arg(long, value_name = "TIME")]
    ttl: Option<String>,
    /// Velero's storage location, when not the default one
    #[arg(long, value_name = "NAME")]
    storage_location: Option<String>,
    /// Whether the files of all volumes of Pods are copied; without it, Velero's default
    #[arg(long, value_name = "true|false", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    default_volumes_to_fs_backup: Option<bool>,
    /// Whether persistent volumes are snapshotted; without it, Velero decides
    #[arg(long, value_name = "true|false", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    snapshot_volumes: Option<bool>,
    /// How long Velero has to make it
    #[arg(long, value_name = "TIME", default_value = "4h")]
    limit: String,
}

impl Contents {
    pub(super) fn options(self) -> Result<BackupOptions> {
        Ok(BackupOptions {
            from_schedule: self.from_schedule,
            namespaces: self.namespaces,
            exclude_namespaces: self.exclude_namespaces,
            labels: pairs(&self.labels, "--label", "app=web")?,
            ttl: self.ttl.map(|text| duration::parse(&text, "--ttl")).transpose()?,
            storage_location: self.storage_location,
            default_volumes_to_fs_backup: self.default_volumes_to_fs_backup,
            snapshot_volumes: self.snapshot_volumes,
            limit: duration::parse(&self.limit, "--limit")?,
        })
    }
}

/// The restore test.
#[derive(Args, Debug)]
#[command(next_help_heading = "Restore test")]
pub(super) struct TestArgs {
    /// The namespace that is restored
    #[arg(long, value_name = "NAME")]
    namespace: Option<String>,
    /// The latest Completed backup of this schedule; without it, of any
    #[arg(long, value_name = "NAME")]
    from_schedule: Option<String>,
    /// This backup and no other
    #[arg(long, value_name = "NAME", conflicts_with = "from_schedule")]
    backup: Option<String>,
    /// The namespace that it is restored into: made, and removed at the end
    #[arg(long, value_name = "NAME", default_value = "velero-test-restore")]
    scratch_namespace: String,
    /// Wait until the restored Pods are ready, for so long
    #[arg(long, value_name = "TIME")]
    pods_ready: Option<String>,
    /// How long Velero has to restore it
    #[arg(long, value_name = "TIME", default_value = "30min")]
    limit: String,
    /// A claim, as namespace/name, whose data must be in the backup; may be given several times
    #[arg(long, value_name = "CLAIM")]
    must_cover: Vec<String>,
}

impl TestArgs {
    /// The test of a backup that Velero has.
    pub(super) fn of_velero(self, verify: VerifyArgs) -> Result<RestoreTestOptions> {
        only_of_copies(&verify)?;
        let max_age = verify.max_age.map_or(Ok(MAX_AGE), |text| duration::parse(&text, "--max-age"))?;
        let Some(options) = self.options()? else {
            let hint = "name it with --namespace; it is restored into a scratch namespace and stays as it is";
            return Err(wrong("the restore test", "no namespace was named", hint));
        };
        Ok(RestoreTestOptions { max_age: Some(max_age), ..options })
    }

    /// The settings with the test of a backup of which a copy is verified.
    pub(super) fn of_copy(self, settings: Settings) -> Result<Settings> {
        if self.backup.is_some() {
            return Err(wrong(
                "--backup",
                "with --to it is a copy that is asked for",
                "choose it by --dataset and --at",
            ));
        }
        let mut settings = settings;
        settings.backup.from_schedule.clone_from(&self.from_schedule);
        settings.must_cover.clone_from(&self.must_cover);
        settings.test = self.options()?;
        Ok(settings)
    }

    fn options(self) -> Result<Option<RestoreTestOptions>> {
        let pods_ready = self.pods_ready.map(|text| duration::parse(&text, "--pods-ready")).transpose()?;
        let limit = duration::parse(&self.limit, "--limit")?;
        Ok(self.namespace.map(|namespace| RestoreTestOptions {
            schedule: self.from_schedule,
            backup: self.backup,
            scratch_namespace: self.scratch_namespace,
            pods_ready,
            limit,
            must_cover: self.must_cover,
            ..RestoreTestOptions::new(namespace)
        }))
    }
}
