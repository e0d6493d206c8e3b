//! Velero's Schedules, made as a configuration says: planned first, then applied.
//!
//! A schedule that is named in the configuration is made so; one that this tool has made and that is named no more is deleted
//! when leave is given. All others are nobody's business here.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::ResourceExt;
use kube::api::{Patch, PatchParams};
use lifeboat_core::progress::Event;
use lifeboat_core::{Action, Change, Check, Context, Error, ErrorKind, Plan, Prepared, Result, async_trait};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::api::{BackupSpec, Schedule, ScheduleSpec};
use super::backups::write_selector;
use super::client::{Cluster, Waited};
use super::go_duration;
use super::pairs;
use super::settings::ScheduleSettings;

/// The label on schedules that were made here.
pub const MANAGED_LABEL: &str = "lifeboat-schedule";

/// Its value.
const MANAGED: &str = "managed";

/// How long Velero's server has to look at a schedule that was changed.
const LOOKED_AT: Duration = Duration::from_secs(20);

/// The word for what is planned.
const KIND: &str = "Schedule";

/// A schedule in a list.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct ScheduleSummary {
    /// Its name.
    pub name: String,
    /// When it makes backups.
    pub cron: String,
    /// `New`, `Enabled` or `FailedValidation`.
    pub phase: String,
    /// What Velero does not accept of it.
    pub problems: Vec<String>,
    /// Whether it makes no backups for now.
    pub paused: bool,
    /// When it last made one.
    pub last_backup: Option<Timestamp>,
    /// How long each is kept, as Go writes durations.
    pub ttl: Option<String>,
    /// The namespaces that are in them; all when empty.
    pub namespaces: Vec<String>,
    /// The storage location; the default one when not set.
    pub storage_location: Option<String>,
    /// Whether it was made here.
    pub managed: bool,
}

/// The schedules that Velero has, by name.
///
/// # Errors
/// What the cluster answers.
///
/// # Cancel safety
/// Safe: it changes nothing.
pub async fn schedules(cluster: &Cluster) -> Result<Vec<ScheduleSummary>> {
    let mut found: Vec<_> = cluster.list::<Schedule>("").await?.iter().map(summary).collect();
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

fn summary(schedule: &Schedule) -> ScheduleSummary {
    let (spec, status) = (schedule.spec.clone(), schedule.status.clone().unwrap_or_default());
    ScheduleSummary {
        name: schedule.name_any(),
        cron: spec.schedule,
        phase: status.phase.filter(|phase| !phase.is_empty()).unwrap_or_else(|| "New".to_owned()),
        problems: status.validation_errors,
        paused: spec.paused,
        last_backup: status.last_backup.map(|time| time.0),
        ttl: spec.template.ttl,
        namespaces: spec.template.included_namespaces.into_iter().filter(|name| name != "*").collect(),
        storage_location: spec.template.storage_location,
        managed: is_managed(schedule),
    }
}

fn is_managed(schedule: &Schedule) -> bool {
    schedule.labels().get(MANAGED_LABEL).is_some_and(|value| value == MANAGED)
}

/// Compares the schedules that should be there with those that are, and says what would be done.
///
/// # Behaviour
/// - A schedule that is named is made so, whoever made it before: the plan says when it was not made here. Of its template
///   only what [`ScheduleSettings`] can say is compared and set; hooks and the like stay as they are.
/// - One that was made here and is not named is deleted with `delete_extra`, and left alone without.
/// - What was applied once plans no change again.
///
/// # Errors
/// [`ErrorKind::Config`] for settings that cannot be, and what the cluster answers.
///
/// # Cancel safety
/// Safe: it changes nothing.
pub async fn plan_schedules(
    cluster: &Cluster,
    wanted: &[ScheduleSettings],
    delete_extra: bool,
) -> Result<Box<dyn Prepared>> {
    let mut names = BTreeSet::new();
    for settings in wanted {
        settings.validate()?;
        if !names.insert(&settings.name) {
            return Err(settings.wrong("it is there twice", "give each schedule its own name"));
        }
    }
    let live: BTreeMap<String, Schedule> =
        cluster.list::<Schedule>("").await?.into_iter().map(|schedule| (schedule.name_any(), schedule)).collect();
    let mut steps: Vec<Step> = wanted.iter().map(|settings| settings.step(live.get(&settings.name))).collect();
    for (name, schedule) in live.iter().filter(|(name, schedule)| !names.contains(name) && is_managed(schedule)) {
        let before = what_is_set(&fields_of(&schedule.spec));
        steps.push(if delete_extra {
            let delete = Work::Delete(schedule.resource_version().unwrap_or_default());
            Step { change: Change::new(Action::Delete, KIND, name).before(before), work: Some(delete) }
        } else {
            let note = "it was created here, but is no longer in the configuration";
            Step { change: Change::new(Action::Skipped, KIND, name).before(before).note(note), work: None }
        });
    }
    let plan = Plan::new(steps.iter().map(|step| step.change.clone()).collect());
    Ok(Box::new(PreparedSchedules { cluster: cluster.clone(), steps, plan }))
}

/// A change with what it takes to make it.
struct Step {
    change: Change,
    work: Option<Work>,
}

enum Work {
    Create(Box<Schedule>),
    Patch(Value),
    /// At this version of it.
    Delete(String),
}

/// The fields that are compared: how they are called to people, and their values.
type Fields = Vec<(&'static str, Option<String>)>;

impl ScheduleSettings {
    fn template(&self) -> BackupSpec {
        let selector = LabelSelector { match_labels: Some(pairs::map(&self.labels)), ..LabelSelector::default() };
        BackupSpec {
            included_namespaces: self.namespaces.clone(),
            excluded_namespaces: self.exclude_namespaces.clone(),
            label_selector: (!self.labels.is_empty()).then_some(selector),
            ttl: self.ttl.map(|ttl| go_duration::write(ttl.0)),
            storage_location: self.storage_location.clone(),
            snapshot_volumes: self.snapshot_volumes,
            default_volumes_to_fs_backup: self.default_volumes_to_fs_backup,
            ..BackupSpec::default()
        }
    }

    fn step(&self, live: Option<&Schedule>) -> Step {
        let paused = self.paused.unwrap_or_else(|| live.is_some_and(|schedule| schedule.spec.paused));
        let spec = ScheduleSpec { template: self.template(), schedule: self.cron.raw().to_owned(), paused };
        let after = fields_of(&spec);
        let Some(live) = live else {
            let mut made = Schedule::new(&self.name, spec);
            made.metadata.labels = Some(managed_labels());
            let change = Change::new(Action::Create, KIND, &self.name).after(what_is_set(&after));
            return Step { change, work: Some(Work::Create(Box::new(made))) };
        };
        let before = fields_of(&live.spec);
        let differ: Vec<_> = before.iter().zip(&after).filter(|(before, after)| before != after).collect();
        let managed = is_managed(live);
        if differ.is_empty() && managed {
            return Step { change: Change::new(Action::Unchanged, KIND, &self.name), work: None };
        }
        let mut change = Change::new(Action::Update, KIND, &self.name);
        if !differ.is_empty() {
            change = change.before(describe(differ.iter().map(|(before, _)| *before)));
            change = change.after(describe(differ.iter().map(|(_, after)| *after)));
        }
        if !managed {
            change = change.note("it was not created here; from now on it follows the configuration");
        }
        Step { change, work: Some(Work::Patch(patch(live, &spec))) }
    }
}

fn managed_labels() -> BTreeMap<String, String> {
    BTreeMap::from([(MANAGED_LABEL.to_owned(), MANAGED.to_owned())])
}

/// What can be said of a schedule, in an order that does not change. An empty value is no value: Velero takes one for the other.
fn fields_of(spec: &ScheduleSpec) -> Fields {
    let list = |names: &[String]| {
        let names: BTreeSet<_> = names.iter().filter(|name| *name != "*").map(String::as_str).collect();
        (!names.is_empty()).then(|| names.into_iter().collect::<Vec<_>>().join(","))
    };
    let template = &spec.template;
    // `7d` may be written as 168h0m0s and as 168h; none is zero.
    let ttl =
        template.ttl.as_ref().map(|text| go_duration::read(text).map_or_else(|| text.clone(), go_duration::write));
    let text = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    vec![
        ("cron", Some(spec.schedule.clone())),
        ("ttl", ttl.filter(|ttl| ttl != "0h0m0s")),
        ("namespaces", list(&template.included_namespaces)),
        ("excluded namespaces", list(&template.excluded_namespaces)),
        ("labels", template.label_selector.as_ref().map(write_selector).filter(|selector| !selector.is_empty())),
        ("storage location", text(&template.storage_location)),
        ("snapshot volumes", template.snapshot_volumes.map(|on| on.to_string())),
        ("copy files of volumes", template.default_volumes_to_fs_backup.map(|on| on.to_string())),
        ("paused", spec.paused.then(|| "true".to_owned())),
    ]
}

/// What is set, in one line.
fn what_is_set(fields: &Fields) -> String {
    describe(fields.iter().filter(|(_, value)| value.is_some()))
}

fn describe<'a>(fields: impl IntoIterator<Item = &'a (&'static str, Option<String>)>) -> String {
    let told = fields.into_iter().map(|(name, value)| match value {
        Some(value) => format!("{name} {value}"),
        None => format!("{name} not set"),
    });
    told.collect::<Vec<_>>().join("; ")
}

/// A merge patch that makes a schedule so, and leaves alone what is not ours to say. It fails when the schedule has changed
/// since it was read.
fn patch(live: &Schedule, wanted: &ScheduleSpec) -> Value {
    let template = &wanted.template;
    let or_null = |value: Value| match &value {
        Value::Array(list) if list.is_empty() => Value::Null,
        _ => value,
    };
    let selector = |spec: &BackupSpec| json!(spec.label_selector);
    json!({
        "metadata": {"resourceVersion": live.resource_version(), "labels": managed_labels()},
        "spec": {
            "schedule": wanted.schedule,
            "paused": wanted.paused,
            "template": {
                "ttl": template.ttl,
                "includedNamespaces": or_null(json!(template.included_namespaces)),
                "excludedNamespaces": or_null(json!(template.excluded_namespaces)),
                "labelSelector": replaced(&selector(&live.spec.template), &selector(template)),
                "storageLocation": template.storage_location,
                "snapshotVolumes": template.snapshot_volumes,
                "defaultVolumesToFsBackup": template.default_volumes_to_fs_backup,
            },
        },
        // What Velero thought of it does not hold any more: it looks at it again.
        "status": {"phase": "New", "validationErrors": null},
    })
}

/// The merge patch that turns one value into the other: what is only in the first becomes null.
fn replaced(from: &Value, into: &Value) -> Value {
    let (Value::Object(from), Value::Object(into)) = (from, into) else { return into.clone() };
    let gone = from.keys().filter(|key| !into.contains_key(*key)).map(|key| (key.clone(), Value::Null));
    let kept = into.iter().map(|(key, value)| (key.clone(), replaced(from.get(key).unwrap_or(&Value::Null), value)));
    Value::Object(gone.chain(kept).collect::<Map<_, _>>())
}

struct PreparedSchedules {
    cluster: Cluster,
    steps: Vec<Step>,
    plan: Plan,
}

#[async_trait]
impl Prepared for PreparedSchedules {
    fn plan(&self) -> &Plan {
        &self.plan
    }

    async fn apply(self: Box<Self>, cx: &Context) -> Result<Vec<Check>> {
        let (mut checks, mut done) = (Vec::new(), 0);
        for step in &self.steps {
            let Some(work) = &step.work else { continue };
            let name = &step.change.name;
            if cx.cancel.is_cancelled() {
                return Err(Error::cancelled("apply", format!("{KIND} {name} ({done} done before it)")));
            }
            match self.carry_out(name, work).await {
                Ok(()) => done += 1,
                Err(error) if matches!(error.kind(), ErrorKind::AlreadyExists | ErrorKind::Refused) => {
                    checks.push(Check::from_error(format!("{KIND} {name}"), &error));
                    continue;
                }
                Err(error) => {
                    let message = format!("{} ({done} schedules done before it)", error.message());
                    let told = Error::new(error.kind(), "apply", format!("{KIND} {name}"), message);
                    let hint =
                        error.advice().unwrap_or("run the same command again to make the remaining changes").to_owned();
                    return Err(told.hint(hint).with_source(error));
                }
            }
            cx.progress.event(Event::Advance(1));
            checks.push(match work {
                Work::Delete(_) => {
                    Check::pass(format!("{KIND} {name}"), "deleted", "its backups stay until they expire")
                }
                Work::Create(_) => self.verdict(name, "created", cx).await?,
                Work::Patch(_) => self.verdict(name, "updated", cx).await?,
            });
        }
        let counts = self.plan.counts();
        let detail = format!("{} unchanged, {} left alone", counts.unchanged, counts.skipped);
        checks.insert(0, Check::pass("schedules", format!("{done} changed"), detail));
        Ok(checks)
    }
}

impl PreparedSchedules {
    async fn carry_out(&self, name: &str, work: &Work) -> Result<()> {
        let api = self.cluster.api::<Schedule>();
        let subject = format!("{KIND} {name}");
        let changed =
            |error: kube::Error, operation: &'static str| match self.cluster.explain(error, operation, subject.clone())
            {
                error if error.kind() == ErrorKind::AlreadyExists => {
                    Error::new(ErrorKind::Refused, operation, subject.clone(), "it has changed since the plan was made")
                        .hint("run the same command again to make a new plan")
                }
                error => error,
            };
        match work {
            Work::Create(schedule) => self.cluster.create::<Schedule>(schedule).await.map(drop),
            Work::Patch(patch) => {
                let done = api.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await;
                done.map(drop).map_err(|error| changed(error, "update"))
            }
            Work::Delete(version) => {
                let only = kube::api::Preconditions { resource_version: Some(version.clone()), uid: None };
                let params = kube::api::DeleteParams { preconditions: Some(only), ..Default::default() };
                match api.delete(name, &params).await {
                    Err(error) if super::client::is_missing(&error) => Ok(()),
                    done => done.map(drop).map_err(|error| changed(error, "delete")),
                }
            }
        }
    }

    /// What Velero says of a schedule that was changed.
    async fn verdict(&self, name: &str, done: &str, cx: &Context) -> Result<Check> {
        let title = format!("{KIND} {name}");
        let decided = |schedule: &Schedule| {
            let phase = schedule.status.as_ref().and_then(|status| status.phase.as_deref());
            matches!(phase, Some("Enabled" | "FailedValidation"))
        };
        Ok(match self.cluster.wait::<Schedule>(name, LOOKED_AT, cx, decided).await {
            Ok(Waited::Done(schedule)) => {
                let told = summary(&schedule);
                if told.phase == "FailedValidation" {
                    Check::fail(title, "FailedValidation", told.problems.join("; "))
                } else {
                    Check::pass(title, done, "Velero has accepted it")
                }
            }
            Ok(Waited::TooLong(schedule)) if schedule.spec.paused => {
                Check::pass(title, done, "it is paused: Velero ignores it")
            }
            Ok(Waited::TooLong(_)) => {
                Check::warn(title, done, "Velero has not processed it yet: is its server running?")
            }
            Err(error) => return Err(error),
        })
    }
}

#[cfg(test)]
mod tests {
    use lifeboat_core::duration::Length;

    use super::*;

    fn daily() -> ScheduleSettings {
        ScheduleSettings {
            ttl: Some(Length(Duration::from_secs(7 * 86_400))),
            namespaces: vec!["shop".to_owned(), "blog".to_owned()],
            ..ScheduleSettings::new("daily", "30 3 * * *")
        }
    }

    /// As the API server has it, with what Velero and others have added.
    fn live(spec: &Value, labels: &Value) -> Schedule {
        let metadata = json!({"name": "daily", "resourceVersion": "5", "labels": labels});
        serde_json::from_value(
            json!({"apiVersion": "velero.io/v1", "kind": "Schedule", "metadata": metadata, "spec": spec}),
        )
        .unwrap()
    }

    #[test]
    fn what_velero_fills_in_is_no_difference() {
        let template = json!({"ttl": "168h", "includedNamespaces": ["blog", "shop"], "excludedNamespaces": null,
            "hooks": {}, "metadata": {}, "csiSnapshotTimeout": "0s", "labelSelector": {}});
        let spec = json!({"schedule": "30 3 * * *", "template": template, "useOwnerReferencesInBackup": false});
        let step = daily().step(Some(&live(&spec, &json!({MANAGED_LABEL: MANAGED}))));
        assert_eq!(step.change, Change::new(Action::Unchanged, KIND, "daily"));
        let step = daily().step(Some(&live(&spec, &json!({}))));
        assert_eq!(step.change.action, Action::Update);
        assert!(step.change.note.unwrap().contains("not created here") && step.change.before.is_none());
    }

    #[test]
    fn a_difference_names_the_fields_that_differ_only() {
        let spec = json!({"schedule": "30 3 * * *", "paused": true, "template": {"ttl": "720h0m0s",
            "includedNamespaces": ["shop", "blog"], "labelSelector": {"matchLabels": {"a": "b"}}}});
        let step = daily().step(Some(&live(&spec, &json!({MANAGED_LABEL: MANAGED}))));
        assert_eq!(step.change.before.as_deref(), Some("ttl 720h0m0s; labels a=b"));
        assert_eq!(step.change.after.as_deref(), Some("ttl 168h0m0s; labels not set"));
        let Some(Work::Patch(patch)) = step.work else { panic!() };
        assert_eq!(patch["spec"]["paused"], json!(true), "nobody has said that it shall go on");
        assert_eq!(patch["spec"]["template"]["labelSelector"], Value::Null);
        assert_eq!(patch["metadata"]["resourceVersion"], json!("5"));
    }

    #[test]
    fn a_selector_is_replaced_and_not_merged() {
        let old = json!({"matchLabels": {"app": "web", "tier": "x"}, "matchExpressions": []});
        let new = json!({"matchLabels": {"app": "api"}});
        let expected = json!({"matchExpressions": null, "matchLabels": {"tier": null, "app": "api"}});
        assert_eq!(replaced(&old, &new), expected);
    }
}
