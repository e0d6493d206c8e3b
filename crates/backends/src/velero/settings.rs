//! The settings of a job: the table `velero = {…}` of a config file, and the flags of the commands.

use std::collections::BTreeMap;

#[cfg(feature = "cli")]
use lifeboat_core::cli::{CHECKS, CONNECTION, CONTENTS};
use lifeboat_core::duration::Length;
use lifeboat_core::{Error, ErrorKind, Result, Setting, schedule, setting};
use serde::Deserialize;

use super::pairs::{self, Pair};
use super::restore_test::RestoreTestOptions;

lifeboat_core::described! {
/// The cluster, what to back up and how, where Velero stores it, the restore test and the schedules.
///
/// [`Velero`](super::Velero) uses only what goes into a backup, and how long that may take.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
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
    /// Every namespace except this one
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
}

lifeboat_core::setters!(VeleroSettings {
    location: Option<Setting>,
    kubeconfig: Option<Setting>,
    context: Option<String>,
    velero_namespace: Option<String>,
    from_schedule: Option<String>,
    namespaces: Vec<String>,
    exclude_namespaces: Vec<String>,
    labels: Vec<Pair>,
    ttl: Option<Length>,
    storage_location: Option<String>,
    default_volumes_to_fs_backup: Option<bool>,
    snapshot_volumes: Option<bool>,
    limit: Option<Length>,
    check_test_of: Option<String>,
    must_cover: Vec<Setting>,
    test: Option<RestoreTestOptions>,
    schedules: BTreeMap<String, ScheduleSettings>,
});

impl VeleroSettings {
    /// The name of the dataset: after the schedule, the only namespace, or the whole cluster.
    pub fn dataset(&self) -> String {
        match (&self.from_schedule, &self.namespaces[..]) {
            (Some(schedule), _) => schedule.clone(),
            (None, [namespace]) if !namespace.contains('*') => namespace.clone(),
            _ => "cluster".to_owned(),
        }
    }
}

lifeboat_core::described! {
/// The wanted state of a schedule.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct ScheduleSettings {
    /// The name, which is the key of its table in a config file. The names of backups are this name and the time.
    #[serde(skip)]
    pub name: String,
    /// The times: five cron fields in the time zone of Velero's server, optionally after `CRON_TZ=…`; or `@daily`,
    /// `@every 6h`.
    pub cron: Setting,
    /// How long each backup is kept; if not set, Velero's default (30 days).
    pub ttl: Option<Length>,
    /// Only these namespaces; all if empty.
    #[serde(default)]
    pub namespaces: Vec<String>,
    /// All namespaces except these.
    #[serde(default)]
    pub exclude_namespaces: Vec<String>,
    /// Only objects with these labels.
    #[serde(default, deserialize_with = "pairs::table")]
    pub labels: Vec<Pair>,
    /// The storage location; the default one when not set.
    pub storage_location: Option<String>,
    /// Whether persistent volumes are snapshotted; Velero decides when not set.
    pub snapshot_volumes: Option<bool>,
    /// Whether the files of all volumes of Pods are copied; the server's default when not set.
    pub default_volumes_to_fs_backup: Option<bool>,
    /// Whether the schedule is paused. If not set, this is left as it is, so that a schedule paused by hand stays
    /// paused.
    pub paused: Option<bool>,
}
}

lifeboat_core::setters!(ScheduleSettings {
    name: String,
    cron: Setting,
    ttl: Option<Length>,
    namespaces: Vec<String>,
    exclude_namespaces: Vec<String>,
    labels: Vec<Pair>,
    storage_location: Option<String>,
    snapshot_volumes: Option<bool>,
    default_volumes_to_fs_backup: Option<bool>,
    paused: Option<bool>,
});

impl ScheduleSettings {
    /// Creates a schedule of this name, which backs up everything at these times.
    pub fn new(name: impl Into<String>, cron: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            cron: Setting::argument(cron, "cron"),
            ttl: None,
            namespaces: Vec::new(),
            exclude_namespaces: Vec::new(),
            labels: Vec::new(),
            storage_location: None,
            snapshot_volumes: None,
            default_volumes_to_fs_backup: None,
            paused: None,
        }
    }

    /// Checks the times field by field. Velero itself checks the time zone and its own extensions of cron.
    pub(crate) fn check_cron(&self) -> Result<()> {
        let cron = self.cron.raw();
        let fields = match cron.split_once(' ') {
            Some((zone, fields)) if zone.contains("TZ=") => fields,
            _ => cron,
        };
        let checked = if fields.starts_with("@every ") { Ok(()) } else { schedule::check(fields) };
        let no_nth = if fields.contains('#') { Err("Velero knows no # in a schedule".to_owned()) } else { Ok(()) };
        checked.and(no_nth).map_err(|why| self.cron.wrong(why))
    }

    pub(crate) fn wrong(&self, why: impl Into<String>, hint: &str) -> Error {
        Error::new(ErrorKind::Config, "use", format!("the schedule {:?}", self.name), why).hint(hint)
    }

    /// Rejects what Velero or the API server would certainly refuse.
    pub(crate) fn validate(&self) -> Result<()> {
        let letters = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
        if self.name.is_empty() || !self.name.chars().all(letters) {
            return Err(self.wrong("it is not a valid name for an object", "use lower-case letters, digits, - and ."));
        }
        // A backup's name is used as a label value, and consists of the schedule's name and the time.
        if self.name.len() > 48 {
            return Err(self.wrong("its name is too long", "Velero appends the time: use at most 48 characters"));
        }
        let times = self.cron.raw().trim();
        let times = match times.strip_prefix("CRON_TZ=").or_else(|| times.strip_prefix("TZ=")) {
            Some(rest) => rest.split_once(' ').map_or("", |(_, times)| times.trim()),
            None => times,
        };
        if !times.starts_with('@') && times.split_whitespace().count() != 5 {
            let why = format!("{:?} is not a cron expression: it does not have five fields", self.cron.raw());
            return Err(self.wrong(why, "minute hour day month weekday, as 30 3 * * *; or @daily"));
        }
        if self.ttl.is_some_and(|ttl| ttl.0.as_secs() == 0) {
            return Err(self.wrong("its backups would not be kept at all", "give a ttl such as 7d"));
        }
        Ok(())
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
        Err("it is not a claim: write namespace/name, as in shop/data".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(cron: &str) -> ScheduleSettings {
        ScheduleSettings::new("daily", cron)
    }

    #[test]
    fn settings_that_cannot_be_are_refused_by_name() {
        for (change, word) in [
            (at("30 3 * *"), "five fields"),
            (at("CRON_TZ=Europe/Berlin 3 * * *"), "five fields"),
            (ScheduleSettings { name: "Daily".to_owned(), ..at("30 3 * * *") }, "not a valid name"),
            (ScheduleSettings { name: "d".repeat(49), ..at("30 3 * * *") }, "too long"),
            (ScheduleSettings { ttl: Some(Length(Duration::ZERO)), ..at("30 3 * * *") }, "not be kept at all"),
        ] {
            let error = change.validate().unwrap_err();
            assert!(error.message().contains(word), "{error}");
            assert!(error.subject().contains(&change.name), "{error}");
        }
        for cron in ["@daily", "CRON_TZ=Europe/Berlin 30 3 * * *", "@every 6h"] {
            at(cron).validate().unwrap();
            at(cron).check_cron().unwrap();
        }
    }
}
