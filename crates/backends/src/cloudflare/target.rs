//! [`CloudflareTarget`]: makes a live zone as it was.

use lifeboat_core::progress::Event;
use lifeboat_core::report::Check;
use lifeboat_core::{
    Action, Context, Error, ErrorKind, Plan, Prepared, RestoreInput, Result, Status, Target, async_trait,
};
use reqwest::Method;
use serde_json::{Map, Value, json};
use tokio_util::sync::CancellationToken;

use super::api::Api;
use super::archive::{self, Content};
use super::dns;
use super::plan::{self, Planned, Step};
use super::record::{Extra, Record};
use super::zone::{Zone, ZoneRef};
use crate::http::{Request, token};

/// Changes in one batch: of a zone on the free plan, and of every other one
/// (<https://developers.cloudflare.com/dns/manage-dns-records/how-to/batch-record-changes/>).
const BATCH_FREE: usize = 200;
const BATCH: usize = 3500;

/// Restores into a live zone: plans first.
#[derive(Clone, Debug)]
pub struct CloudflareTarget {
    api: Api,
    zone: ZoneRef,
    delete_extra: bool,
    settings: bool,
    without: Vec<Extra>,
}

impl CloudflareTarget {
    /// Creates a target that restores into `zone`; [`ZoneRef::Any`] stands for the one that the artifact is of.
    pub fn new(api: Api, zone: ZoneRef) -> Self {
        Self { api, zone, delete_extra: false, settings: false, without: Vec::new() }
    }

    /// Also deletes what the zone has and the artifact has not.
    #[must_use]
    pub fn delete_extra(mut self, delete_extra: bool) -> Self {
        self.delete_extra = delete_extra;
        self
    }

    /// Also restores the zone's settings.
    #[must_use]
    pub fn settings(mut self, settings: bool) -> Self {
        self.settings = settings;
        self
    }

    /// Leaves these of the records alone: a smaller plan does not take them.
    #[must_use]
    pub fn without(mut self, without: Vec<Extra>) -> Self {
        self.without = without;
        self
    }

    /// What is left to do. What the records are restored without is no difference either.
    fn plan_of(&self, content: &Content, live: &[Record], zone: &Zone) -> Vec<Planned> {
        if self.without.is_empty() {
            return plan::records(&content.records, live, &zone.name, self.delete_extra);
        }
        let bare = |records: &[Record]| records.iter().map(|r| r.without(&self.without)).collect::<Vec<_>>();
        plan::records(&bare(&content.records), &bare(live), &zone.name, self.delete_extra)
    }

    async fn prepare(&self, content: Content, cx: &Context) -> Result<Prepare> {
        let own = content.zone_name();
        let zone = match (&self.zone, &own) {
            (ZoneRef::Any, Some(name)) => ZoneRef::Name(name.clone()),
            (zone, _) => zone.clone(),
        };
        let zone = self.api.zone(&zone, &cx.cancel).await?;
        zone.say_remark(cx);
        if let Some(stray) = content.records.iter().find(|r| !dns::is_within(r.name(), &zone.name)) {
            let message = format!("the backup is from another zone: {} is not in {}", stray.name(), zone.name);
            return Err(Error::new(ErrorKind::Refused, "restore into", zone.name, message)
                .hint("name the backup's zone, or write the backup to a file: --into file:zone.txt"));
        }
        let live = live_records(&self.api, &zone, &cx.cancel).await?;
        let mut planned = self.plan_of(&content, &live, &zone);
        if self.settings {
            if content.settings.is_empty() {
                return Err(Error::new(ErrorKind::Config, "use", "--settings", "the backup has no settings")
                    .hint("the token that made it was not allowed to read them: leave out --settings"));
            }
            let request = Request::get(["zones", &zone.id, "settings"], "read the settings of", zone.name.clone());
            let now = self.api.call(&request, &cx.cancel).await?;
            planned.extend(plan::settings(&content.settings, now.as_array().map(Vec::as_slice).unwrap_or_default()));
        }
        let plan = Plan::new(planned.iter().map(|p| p.change.clone()).collect());
        Ok(Prepare { target: self.clone(), content, zone, planned, plan })
    }
}

/// The records of a live zone.
pub(super) async fn live_records(api: &Api, zone: &Zone, cancel: &CancellationToken) -> Result<Vec<Record>> {
    let read: Option<Vec<Record>> = api.records(zone, cancel).await?.into_iter().map(Record::read).collect();
    read.ok_or_else(|| {
        let message = "a record has no type or no name";
        Error::new(ErrorKind::Unavailable, "read the records of", zone.name.clone(), message).transient(false)
    })
}

#[async_trait]
impl Target for CloudflareTarget {
    async fn restore(&self, input: RestoreInput, cx: &Context) -> Result<Vec<Check>> {
        self.plan(input, cx).await?.apply(cx).await
    }

    fn plans(&self) -> bool {
        true
    }

    async fn plan(&self, input: RestoreInput, cx: &Context) -> Result<Box<dyn Prepared>> {
        let content = archive::read(input.stream).await?;
        Ok(Box::new(self.prepare(content, cx).await?))
    }
}

/// What a record that is refused could be restored without.
fn way_out(step: &Step) -> String {
    let (Step::Put(_, body) | Step::Post(body)) = step else { return String::new() };
    let has: Vec<&str> = Extra::ALL.into_iter().map(Extra::field).filter(|field| body.contains_key(*field)).collect();
    match has.is_empty() {
        true => String::new(),
        false => format!("; if the zone's plan does not allow its {0}: --without {0}", has.join(",")),
    }
}

/// A plan with the zone that it is for.
struct Prepare {
    target: CloudflareTarget,
    content: Content,
    zone: Zone,
    planned: Vec<Planned>,
    plan: Plan,
}

/// What was done, and what was refused.
#[derive(Default)]
struct Done {
    created: usize,
    updated: usize,
    deleted: usize,
    refused: Vec<(String, String)>,
}

impl Done {
    fn count(&mut self, action: Action) {
        match action {
            Action::Create => self.created += 1,
            Action::Update => self.updated += 1,
            Action::Delete => self.deleted += 1,
            _ => {}
        }
    }

    fn total(&self) -> usize {
        self.created + self.updated + self.deleted
    }
}

#[async_trait]
impl Prepared for Prepare {
    fn plan(&self) -> &Plan {
        &self.plan
    }

    async fn apply(self: Box<Self>, cx: &Context) -> Result<Vec<Check>> {
        let mut done = Done::default();
        if let Err(error) = self.carry_out(cx, &mut done).await {
            let message = format!(
                "{} (done before that: {} created, {} updated, {} deleted)",
                error.message(),
                done.created,
                done.updated,
                done.deleted
            );
            // A token that may not write would be refused again.
            let hint = token::hint_for_writing(&error)
                .unwrap_or_else(|| "run the same command again to make the remaining changes".to_owned());
            return Err(Error::new(error.kind(), "restore into", self.zone.name.clone(), message)
                .hint(hint)
                .with_source(error));
        }
        let figure = format!("{} changed", done.total());
        let detail = format!("{} created, {} updated, {} deleted", done.created, done.updated, done.deleted);
        let mut checks = vec![Check::pass("changes", figure, detail)];
        checks.extend(done.refused.iter().map(|(what, why)| Check::fail(what, "refused", why)));
        checks.extend(self.look_again(cx).await?);
        Ok(checks)
    }
}

impl Prepare {
    /// Deletions first, then what is written over, then what is new: nothing new meets what has to go.
    async fn carry_out(&self, cx: &Context, done: &mut Done) -> Result<()> {
        let size = if self.zone.is_free() { BATCH_FREE } else { BATCH };
        let of = |action: Action| {
            self.planned
                .iter()
                .filter(move |p| p.change.action == action && p.change.kind != "setting" && p.step.is_some())
        };
        let records: Vec<&Planned> = of(Action::Delete).chain(of(Action::Update)).chain(of(Action::Create)).collect();
        let mut one_by_one = false;
        for batch in records.chunks(size) {
            if one_by_one {
                self.each(batch, cx, done).await?;
                continue;
            }
            match self.batch(batch, cx).await {
                Ok(()) => {
                    batch.iter().for_each(|p| done.count(p.change.action));
                    cx.progress.event(Event::Advance(batch.len() as u64));
                }
                // All or nothing: one by one, it is seen which of them the zone does not take.
                Err(error) if error.kind() == ErrorKind::Refused => {
                    tracing::info!(%error, "a batch was refused: making its changes one by one");
                    self.each(batch, cx, done).await?;
                }
                // An API that has no batches: an older one, or one behind something that lets single requests pass.
                Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Unsupported) => {
                    tracing::info!(%error, "batches are not available: making all changes one by one");
                    one_by_one = true;
                    self.each(batch, cx, done).await?;
                }
                Err(error) => return Err(error),
            }
        }
        for setting in self.planned.iter().filter(|p| matches!(p.step, Some(Step::Setting(..)))) {
            self.one(setting, cx, done).await?;
        }
        Ok(())
    }

    async fn each(&self, batch: &[&Planned], cx: &Context, done: &mut Done) -> Result<()> {
        for one in batch {
            self.one(one, cx, done).await?;
        }
        Ok(())
    }

    async fn batch(&self, batch: &[&Planned], cx: &Context) -> Result<()> {
        let mut body: Map<String, Value> = Map::new();
        for step in batch.iter().filter_map(|p| p.step.as_ref()) {
            let (key, value) = match step {
                Step::Delete(id) => ("deletes", json!({ "id": id })),
                Step::Put(id, record) => {
                    let mut record = record.clone();
                    record.insert("id".to_owned(), id.as_str().into());
                    ("puts", Value::Object(record))
                }
                Step::Post(record) => ("posts", Value::Object(record.clone())),
                Step::Setting(..) => continue,
            };
            if let Value::Array(list) = body.entry(key).or_insert_with(|| json!([])) {
                list.push(value);
            }
        }
        let request = Request::new(
            Method::POST,
            ["zones", &self.zone.id, "dns_records", "batch"],
            "change the records of",
            self.zone.name.clone(),
        );
        self.target.api.call(&request.json(&body)?, &cx.cancel).await.map(drop)
    }

    /// Makes one change. One that is refused is noted; what ends the restore is an error.
    async fn one(&self, planned: &Planned, cx: &Context, done: &mut Done) -> Result<()> {
        let Some(step) = &planned.step else { return Ok(()) };
        let what = format!("{} {}", planned.change.kind, planned.change.name);
        let zone = self.zone.id.as_str();
        let records = ["zones", zone, "dns_records"];
        let request = match step {
            Step::Delete(id) => Request::new(Method::DELETE, records.into_iter().chain([id.as_str()]), "delete", &what),
            Step::Put(id, body) => {
                Request::new(Method::PUT, records.into_iter().chain([id.as_str()]), "update", &what).json(body)?
            }
            Step::Post(body) => Request::new(Method::POST, records, "create", &what).json(body)?,
            Step::Setting(id, value) => Request::new(Method::PATCH, ["zones", zone, "settings", id], "set", &what)
                .repeatable(true)
                .json(&json!({ "value": value }))?,
        };
        match self.target.api.call(&request, &cx.cancel).await {
            Ok(_) => done.count(planned.change.action),
            // It has gone meanwhile, which is what was wanted.
            Err(error) if error.kind() == ErrorKind::NotFound && matches!(step, Step::Delete(_)) => {
                done.count(planned.change.action);
            }
            Err(error) if matches!(error.kind(), ErrorKind::Refused | ErrorKind::NotFound) => {
                done.refused.push((what, format!("{}{}", error.message(), way_out(step))));
            }
            Err(error) if error.kind() == ErrorKind::Permission && matches!(step, Step::Setting(..)) => {
                done.refused.push((what, error.message().to_owned()));
            }
            Err(error) => return Err(error),
        }
        cx.progress.event(Event::Advance(1));
        Ok(())
    }

    /// Reads the zone once more: what counts is what is there.
    async fn look_again(&self, cx: &Context) -> Result<Vec<Check>> {
        let live = live_records(&self.target.api, &self.zone, &cx.cancel).await?;
        let left = self.target.plan_of(&self.content, &live, &self.zone);
        let counts = Plan::new(left.iter().map(|p| p.change.clone()).collect()).counts();
        let open: Vec<String> = left
            .iter()
            .filter(|p| p.change.action.changes_something())
            .take(5)
            .map(|p| format!("{} {}", p.change.kind, p.change.name))
            .collect();
        let status = if counts.to_do() == 0 { Status::Pass } else { Status::Fail };
        let figure = format!("{} as in the backup", counts.unchanged);
        let detail = match status {
            Status::Pass => format!("{} left alone; read again from the live zone", counts.skipped),
            _ => format!("{} differ from the backup, first {}", counts.to_do(), open.join(", ")),
        };
        Ok(vec![Check::new(status, "records", figure, detail)])
    }
}
