//! What a job is told: the table `velero = {…}` of a config file, and the flags of the commands.

use std::collections::BTreeMap;

#[cfg(feature = "cli")]
use lifeboat_core::cli::{CHECKS, CONNECTION, CONTENTS};
use lifeboat_core::duration::Length;
use lifeboat_core::{Setting, setting};
use serde::Deserialize;

use super::pairs::{self, Pair};
use super::restore_test::RestoreTestOptions;
use super::schedules::ScheduleSettings;

/// The cluster, what of it is backed up and how, where Velero stores it, its restore test and its schedules.
///
/// [`Velero`](super::Velero) takes from it what goes into a backup, and how long that may take.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
#[serde(deny_unknown_fields)]
pub struct VeleroSettings {
    /// Where Velero stores: the bucket and prefix of its storage location, as the URL of a sink
    #[serde(deserialize_with = "setting::required")]
    #[cfg_attr(
        feature = "cli",
        arg(long, value_name = "SINK-URL", env = "LIFEBOAT_LOCATION", help_heading = CONNECTION)
    )]
    pub location: Option<Setting>,
    /// The kubeconfig; without it KUBECONFIG, ~/.kube/config, or the service account of the Pod
    #[cfg_attr(feature = "cli", arg(long, value_name = "PATH", help_heading = CONNECTION))]
    pub kubeconfig: Option<Setting>,
    /// The context in the kubeconfig; without it, the current one
    #[cfg_attr(feature = "cli", arg(long, value_name = "NAME", help_heading = CONNECTION))]
    pub context: Option<String>,
    /// The namespace that Velero is installed in; without it, velero
    #[cfg_attr(feature = "cli", arg(long, value_name = "NAME", env = "VELERO_NAMESPACE", help_heading = CONNECTION))]
    pub velero_namespace: Option<String>,
    /// What this schedule backs up, and how; the other options override what it says
    #[cfg_attr(feature = "cli", arg(long, value_name = "NAME"))]
    pub from_schedule: Option<String>,
    /// Only this namespace; may be given several times, like the others
    #[serde(default)]
    #[cfg_attr(feature = "cli", arg(long = "namespace", value_name = "NAME", help_heading = CONTENTS))]
    pub namespaces: Vec<String>,
    /// All namespaces but this
    #[serde(default)]
    #[cfg_attr(feature = "cli", arg(long = "exclude-namespace", value_name = "NAME", help_heading = CONTENTS))]
    pub exclude_namespaces: Vec<String>,
    /// Only objects with this label
    #[serde(default, deserialize_with = "pairs::table")]
    #[cfg_attr(
        feature = "cli",
        arg(long = "label", value_name = "KEY=VALUE", value_parser = pairs::label, help_heading = CONTENTS)
    )]
    pub labels: Vec<Pair>,
    /// How long Velero keeps it, as in 30d; without it, as the schedule says, or Velero's default
    #[cfg_attr(feature = "cli", arg(long, value_name = "TIME", help_heading = CONTENTS))]
    pub ttl: Option<Length>,
    /// Velero's storage location, when not the default one
    #[cfg_attr(feature = "cli", arg(long, value_name = "NAME", help_heading = CONTENTS))]
    pub storage_location: Option<String>,
    /// Whether the files of all volumes of Pods are copied; without it, Velero's default
    #[cfg_attr(
        feature = "cli",
        arg(
            long,
            value_name = "true|false",
            num_args = 0..=1,
            require_equals = true,
            default_missing_value = "true",
            help_heading = CONTENTS
        )
    )]
    pub default_volumes_to_fs_backup: Option<bool>,
    /// Whether persistent volumes are snapshotted; without it, Velero decides
    #[cfg_attr(
        feature = "cli",
        arg(
            long,
            value_name = "true|false",
            num_args = 0..=1,
            require_equals = true,
            default_missing_value = "true",
            help_heading = CONTENTS
        )
    )]
    pub snapshot_volumes: Option<bool>,
    /// How long Velero has to make it; without it, 4h
    #[cfg_attr(feature = "cli", arg(long, value_name = "TIME", help_heading = CONTENTS))]
    pub limit: Option<Length>,
    /// The rights that a restore test of this namespace needs, instead of those of a backup
    #[serde(skip)]
    #[cfg_attr(feature = "cli", arg(long = "test", value_name = "NAMESPACE", help_heading = CHECKS))]
    pub check_test_of: Option<String>,
    /// Claims, as `namespace/name`, whose data must be in each backup.
    #[serde(default)]
    #[cfg_attr(feature = "cli", arg(skip))]
    pub must_cover: Vec<Setting>,
    /// The restore test.
    #[cfg_attr(feature = "cli", arg(skip))]
    pub test: Option<RestoreTestOptions>,
    /// The schedules that the cluster should have, by their names.
    #[serde(default)]
    #[cfg_attr(feature = "cli", arg(skip))]
    pub schedules: BTreeMap<String, ScheduleSettings>,
}

impl VeleroSettings {
    /// What to call the dataset: the schedule, the one namespace, or the whole cluster.
    pub fn dataset(&self) -> String {
        match (&self.from_schedule, &self.namespaces[..]) {
            (Some(schedule), _) => schedule.clone(),
            (None, [namespace]) if !namespace.contains('*') => namespace.clone(),
            _ => "cluster".to_owned(),
        }
    }
}

/// Whether a text has the form of a claim, `namespace/name`.
pub(crate) fn is_claim(text: &str) -> bool {
    matches!(text.split('/').collect::<Vec<_>>()[..], [namespace, name] if !namespace.is_empty() && !name.is_empty())
}

/// Reads a claim that was given after a flag.
#[cfg(feature = "cli")]
pub(crate) fn claim(text: &str) -> Result<String, String> {
    if is_claim(text) {
        Ok(text.to_owned())
    } else {
        Err("it is no claim: write namespace/name, as in shop/data".to_owned())
    }
}
