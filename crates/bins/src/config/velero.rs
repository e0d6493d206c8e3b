//! `velero = { … }` of a job: the cluster, what of it is backed up, its restore test and its schedules.

use std::collections::BTreeMap;
use std::time::Duration;

use lifeboat::velero::{BackupOptions, RestoreTestOptions, ScheduleSettings};
use serde::{Deserialize, Deserializer};
use toml::Spanned;

use super::mistake::{Mistake, suggest};
use super::table::with_advice;
use super::{Reader, SinkConfig, schedule};
use crate::backend::velero::{Access, Settings};
use crate::duration;

/// `velero = { … }`, as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Velero {
    location: Spanned<String>,
    kubeconfig: Option<Spanned<String>>,
    context: Option<String>,
    velero_namespace: Option<String>,
    from_schedule: Option<String>,
    #[serde(default)]
    namespaces: Vec<String>,
    #[serde(default)]
    exclude_namespaces: Vec<String>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    ttl: Option<Span>,
    storage_location: Option<String>,
    snapshot_volumes: Option<bool>,
    default_volumes_to_fs_backup: Option<bool>,
    limit: Option<Span>,
    #[serde(default)]
    must_cover: Vec<Spanned<String>>,
    test: Option<Test>,
    #[serde(default)]
    schedules: BTreeMap<String, Schedule>,
}

/// `test = { namespace = "shop" }`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Test {
    namespace: String,
    scratch_namespace: Option<String>,
    pods_ready: Option<Span>,
    limit: Option<Span>,
}

/// `schedules.NAME = { cron = "0 2 * * *", ttl = "7d" }`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Schedule {
    cron: Spanned<String>,
    ttl: Option<Span>,
    #[serde(default)]
    namespaces: Vec<String>,
    #[serde(default)]
    exclude_namespaces: Vec<String>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    storage_location: Option<String>,
    snapshot_volumes: Option<bool>,
    default_volumes_to_fs_backup: Option<bool>,
    paused: Option<bool>,
}

/// A length of time, as in `7d`.
#[derive(Clone, Copy)]
struct Span(Duration);

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        duration::parse(&text, "the time").map(Self).map_err(|e| with_advice(&e))
    }
}

impl Reader<'_> {
    pub(super) fn velero(&mut self, velero: Velero, table: &str) -> Settings {
        let location = self.location(velero.location, table);
        let must_cover = velero.must_cover.into_iter().map(|claim| self.claim(claim, table)).collect::<Vec<_>>();
        let usual = BackupOptions::default();
        let schedules = velero.schedules.into_iter().map(|(name, made)| self.schedule(name, made, table)).collect();
        Settings {
            access: Access {
                kubeconfig: velero.kubeconfig.map(|path| self.spanned(path, "velero.kubeconfig", table)),
                context: velero.context,
                namespace: velero.velero_namespace,
            },
            location,
            backup: BackupOptions {
                from_schedule: velero.from_schedule,
                namespaces: velero.namespaces,
                exclude_namespaces: velero.exclude_namespaces,
                labels: velero.labels,
                ttl: velero.ttl.map(|ttl| ttl.0),
                storage_location: velero.storage_location,
                default_volumes_to_fs_backup: velero.default_volumes_to_fs_backup,
                snapshot_volumes: velero.snapshot_volumes,
                limit: velero.limit.map_or(usual.limit, |limit| limit.0),
            },
            test: velero.test.map(|test| test.options(&must_cover)),
            only_tests: false,
            must_cover,
            schedules,
        }
    }

    /// A sink of the file by its name, or any sink by its URL.
    fn location(&mut self, location: Spanned<String>, table: &str) -> Option<SinkConfig> {
        let at = location.span().start;
        if location.get_ref().contains("://") {
            return Some(SinkConfig::of_url(self.spanned(location, "velero.location", table)));
        }
        let name = location.into_inner();
        let found = self.sinks.get(&name).cloned();
        if found.is_none() && !self.partial {
            let known: Vec<&str> = self.sinks.keys().map(String::as_str).collect();
            let message = format!("velero.location of {table}: there is no sink \"{name}\"");
            self.mistakes.push(Mistake::new(at, message).hint(format!(
                "{}; it is the sink, or the URL, of the bucket and prefix in which Velero stores",
                suggest(&name, &known)
            )));
        }
        found.flatten()
    }

    /// Nothing of ours may lie in the bucket and prefix of Velero: there it makes the storage location Unavailable.
    pub(super) fn check_location(&mut self, velero: &Velero, sinks: Option<&[String]>, table: &str) {
        let location = velero.location.get_ref();
        if sinks.is_some_and(|sinks| sinks.contains(location)) {
            let message = format!("{table} stores in \"{location}\", which is Velero's own storage location");
            self.mistakes.push(Mistake::new(velero.location.span().start, message).hint(
                "any other folder there makes it Unavailable: write sinks = [\"NAME\"] with a sink that fails separately",
            ));
        }
    }

    fn claim(&mut self, claim: Spanned<String>, table: &str) -> String {
        let at = claim.span().start;
        let claim = claim.into_inner();
        if claim.split('/').filter(|part| !part.is_empty()).count() != 2 || claim.matches('/').count() != 1 {
            let message = format!("must_cover of {table}: \"{claim}\" is no claim");
            self.mistakes
                .push(Mistake::new(at, message).hint("write namespace/name, as in must_cover = [\"shop/data\"]"));
        }
        claim
    }

    fn schedule(&mut self, name: String, made: Schedule, table: &str) -> ScheduleSettings {
        let at = made.cron.span().start;
        let cron = made.cron.into_inner();
        // The zone, and what only Velero's cron has, is looked at by Velero.
        let fields = match cron.split_once(' ') {
            Some((zone, fields)) if zone.contains("TZ=") => fields,
            _ => &cron,
        };
        let checked = if fields.starts_with("@every ") { Ok(()) } else { schedule::check(fields) };
        let no_nth = if fields.contains('#') { Err("Velero knows no # in a schedule".to_owned()) } else { Ok(()) };
        if let Err(why) = checked.and(no_nth) {
            self.mistakes.push(Mistake::new(at, format!("cron of schedule {name} of {table}: {why}")));
        }
        ScheduleSettings {
            name,
            cron,
            ttl: made.ttl.map(|ttl| ttl.0),
            namespaces: made.namespaces,
            exclude_namespaces: made.exclude_namespaces,
            labels: made.labels,
            storage_location: made.storage_location,
            snapshot_volumes: made.snapshot_volumes,
            default_volumes_to_fs_backup: made.default_volumes_to_fs_backup,
            paused: made.paused,
        }
    }
}

impl Test {
    fn options(self, must_cover: &[String]) -> RestoreTestOptions {
        let usual = RestoreTestOptions::new(self.namespace);
        RestoreTestOptions {
            scratch_namespace: self.scratch_namespace.unwrap_or(usual.scratch_namespace),
            pods_ready: self.pods_ready.map(|limit| limit.0),
            limit: self.limit.map_or(usual.limit, |limit| limit.0),
            must_cover: must_cover.to_vec(),
            ..usual
        }
    }
}
