//! Schedules: planned, applied, and applied again.

use std::time::Duration;

use kube::api::{DeleteParams, Patch, PatchParams};
use lifeboat_backends::velero::{
    Cluster, MANAGED_LABEL, Pair, ScheduleSettings, Velero, VeleroSettings, plan_schedules, schedules,
};
use lifeboat_core::duration::Length;
use lifeboat_core::{Action, Context, ErrorKind, Plan, Setting, Source, Status};
use lifeboat_testkit::content::fresh_name;
use serde_json::json;

use crate::cluster::{Kubernetes, cluster, location, velero_namespace};

const SCHEDULE: &str = "velero.io/v1 Schedule schedules";

const DAY: Duration = Duration::from_secs(86_400);

fn at(cron: &str) -> Setting {
    Setting::argument(cron, "cron")
}

/// At a minute that does not come while the test runs, or the schedule would make backups.
fn daily(namespace: &str) -> ScheduleSettings {
    ScheduleSettings::new(fresh_name("daily"), "0 0 29 2 *")
        .ttl(Length(7 * DAY))
        .namespaces(vec![namespace.to_owned()])
        .labels(vec![Pair::new("app", "web")])
        .default_volumes_to_fs_backup(true)
}

async fn planned(wanted: &[ScheduleSettings]) -> Plan {
    plan_schedules(&cluster().await, wanted, false).await.unwrap().plan().clone()
}

fn only<'a>(plan: &'a Plan, name: &str) -> &'a lifeboat_core::Change {
    plan.changes.iter().find(|change| change.name == name).unwrap()
}

async fn apply(wanted: &[ScheduleSettings]) -> Vec<lifeboat_core::Check> {
    let prepared = plan_schedules(&cluster().await, wanted, false).await.unwrap();
    prepared.apply(&Context::default()).await.unwrap()
}

async fn remove(names: &[&str]) {
    let api = Kubernetes::new().await.api(SCHEDULE, Some(&velero_namespace()));
    for name in names {
        api.delete(name, &DeleteParams::default()).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_applied_is_accepted_by_velero_and_plans_no_change_again() {
    let (first, second) = (daily("shop"), daily("blog").cron(at("@yearly")).ttl(Length(30 * DAY)));
    let wanted = [first.clone(), second.clone()];
    let plan = planned(&wanted).await;
    assert_eq!(only(&plan, &first.name).action, Action::Create);
    assert!(only(&plan, &second.name).after.as_ref().unwrap().contains("ttl 720h0m0s; namespaces blog"), "{plan:?}");

    let checks = apply(&wanted).await;
    let check = checks.iter().find(|check| check.name == format!("Schedule {}", first.name)).unwrap();
    assert_eq!((check.status, check.detail.as_str()), (Status::Pass, "Velero has accepted it"), "{checks:#?}");
    let plan = planned(&wanted).await;
    assert!(wanted.iter().all(|s| only(&plan, &s.name).action == Action::Unchanged), "{plan:?}");
    let all = schedules(&cluster().await).await.unwrap();
    let listed = all.iter().find(|schedule| schedule.name == first.name).unwrap();
    assert!(listed.managed && listed.phase == "Enabled" && listed.ttl.as_deref() == Some("168h0m0s"), "{listed:?}");
    remove(&[&first.name, &second.name]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_is_shown_and_made_and_what_others_have_set_stays() {
    let kubernetes = Kubernetes::new().await;
    let api = kubernetes.api(SCHEDULE, Some(&velero_namespace()));
    let old = daily("shop");
    apply(std::slice::from_ref(&old)).await;
    let hooks = json!({"spec": {"paused": true, "template": {"csiSnapshotTimeout": "20m0s"}}});
    api.patch(&old.name, &PatchParams::default(), &Patch::Merge(hooks)).await.unwrap();

    let new = old.clone().ttl(Length(14 * DAY)).labels(Vec::new());
    let plan = planned(std::slice::from_ref(&new)).await;
    let change = only(&plan, &old.name);
    assert_eq!(change.before.as_deref(), Some("ttl 168h0m0s; labels app=web"));
    assert_eq!(change.after.as_deref(), Some("ttl 336h0m0s; labels not set"));
    apply(std::slice::from_ref(&new)).await;
    let live = api.get(&old.name).await.unwrap().data;
    assert_eq!(live["spec"]["template"]["csiSnapshotTimeout"], json!("20m0s"));
    assert_eq!((live["spec"]["paused"].clone(), live["spec"]["template"].get("labelSelector")), (json!(true), None));
    remove(&[&old.name]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_is_named_or_was_made_here_is_touched() {
    // In a namespace of its own: deleting what is not named would meet the schedules of other tests.
    let kubernetes = Kubernetes::new().await;
    let namespace = kubernetes.fresh_namespace().await;
    let cluster = Cluster::connect(&crate::cluster::options(&namespace)).await.unwrap();
    let spec = json!({"schedule": "@yearly", "template": {}});
    for (name, labels) in [("ours", json!({MANAGED_LABEL: "managed"})), ("theirs", json!({})), ("adopted", json!({}))] {
        let object = json!({"metadata": {"name": name, "labels": labels}, "spec": spec});
        kubernetes.create(SCHEDULE, Some(&namespace), object).await;
    }
    let adopted = ScheduleSettings::new("adopted", "@yearly").paused(true);
    let kept = plan_schedules(&cluster, std::slice::from_ref(&adopted), false).await.unwrap();
    assert_eq!(only(kept.plan(), "ours").action, Action::Skipped);
    let prepared = plan_schedules(&cluster, std::slice::from_ref(&adopted), true).await.unwrap();
    assert_eq!(prepared.plan().changes.len(), 2, "{:?}", prepared.plan());
    assert_eq!(only(prepared.plan(), "ours").action, Action::Delete);
    assert!(only(prepared.plan(), "adopted").note.as_ref().unwrap().contains("not created here"));

    // What has changed since it was planned is not written over.
    let api = kubernetes.api(SCHEDULE, Some(&namespace));
    let patch = Patch::Merge(json!({"spec": {"template": {"ttl": "1h"}}}));
    api.patch("ours", &PatchParams::default(), &patch).await.unwrap();
    let checks = prepared.apply(&Context::default()).await.unwrap();
    let refused = checks.iter().find(|check| check.name == "Schedule ours").unwrap();
    assert!(refused.status == Status::Fail && refused.detail.contains("changed since the plan"), "{checks:#?}");
    plan_schedules(&cluster, &[adopted], true).await.unwrap().apply(&Context::default()).await.unwrap();
    let left: Vec<_> = schedules(&cluster).await.unwrap().into_iter().map(|s| (s.name, s.managed, s.paused)).collect();
    assert_eq!(left, [("adopted".to_owned(), true, true), ("theirs".to_owned(), false, false)]);
    kubernetes.api("v1 Namespace namespaces", None).delete(&namespace, &DeleteParams::default()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_velero_does_not_accept_is_told_in_its_words() {
    let wrong = daily("shop").cron(at("99 99 * * *"));
    let checks = apply(std::slice::from_ref(&wrong)).await;
    let check = checks.iter().find(|check| check.name.ends_with(&wrong.name)).unwrap();
    assert_eq!((check.status, check.figure.as_str()), (Status::Fail, "FailedValidation"), "{checks:#?}");
    assert!(check.detail.contains("99"), "{checks:#?}");
    // Put right, Velero looks at it again.
    let right = wrong.cron(at("@yearly"));
    let checks = apply(std::slice::from_ref(&right)).await;
    assert!(checks.iter().all(|check| check.status == Status::Pass), "{checks:#?}");
    let error = plan_schedules(&cluster().await, &[right.clone(), right.clone()], false).await.err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Config);
    remove(&[&right.name]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_from_a_schedule_has_its_template_and_label() {
    let kubernetes = Kubernetes::new().await;
    let namespace = kubernetes.fresh_namespace().await;
    let schedule = daily(&namespace).labels(Vec::new()).paused(true);
    apply(std::slice::from_ref(&schedule)).await;
    let options = VeleroSettings::default().from_schedule(schedule.name.clone());
    let source = Velero::new(cluster().await, location(), options);
    assert_eq!(source.describe().await.unwrap().dataset, schedule.name);
    drop(source.open(&Context::default()).await.unwrap());
    let made = lifeboat_backends::velero::backups(&cluster().await, Some(&schedule.name)).await.unwrap();
    let [made] = &made[..] else { panic!("{made:?}") };
    assert_eq!((made.phase.as_str(), &made.namespaces), ("Completed", &vec![namespace]));
    let kept = made.expires.unwrap().duration_since(made.started.unwrap()).as_hours();
    assert!((167..=168).contains(&kept), "{kept} h");
    remove(&[&schedule.name]).await;
}
