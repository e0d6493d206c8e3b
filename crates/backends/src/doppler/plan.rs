//! The target: secrets put back into a config, after a plan that shows names and no values.

use std::collections::BTreeMap;

use async_trait::async_trait;
use lifeboat_core::plan::{Action, Change, Plan, Prepared};
use lifeboat_core::progress::Event;
use lifeboat_core::{Check, Context, Error, ErrorKind, RestoreInput, Result, Target};

use super::api::{ChangeRequest, Connection, Scope};
use super::document::Document;
use super::is_dopplers_own;
use super::secret::Secret;
use super::source::listed;
use super::target::{is_unauthenticated, stands};
use crate::http::token;

/// Changes of one upload. An upload is done as a whole or not at all.
const BATCH: usize = 500;

/// Puts secrets back into a config of Doppler.
#[derive(Debug)]
pub struct DopplerTarget {
    connection: Connection,
    scope: Scope,
    delete_extra: bool,
}

impl DopplerTarget {
    /// Creates a target that restores into a config, which must exist. Without a project and a config, it is the token's own.
    pub fn new(connection: Connection, scope: Scope) -> Self {
        Self { connection, scope, delete_extra: false }
    }

    /// Also deletes what the config has and the backup has not.
    #[must_use]
    pub fn delete_extra(mut self, delete_extra: bool) -> Self {
        self.delete_extra = delete_extra;
        self
    }
}

#[async_trait]
impl Target for DopplerTarget {
    async fn restore(&self, input: RestoreInput, cx: &Context) -> Result<Vec<Check>> {
        self.plan(input, cx).await?.apply(cx).await
    }

    fn is_confidential(&self) -> bool {
        true
    }

    fn plans(&self) -> bool {
        true
    }

    async fn plan(&self, input: RestoreInput, cx: &Context) -> Result<Box<dyn Prepared>> {
        let document = Document::read(input.stream, is_unauthenticated(&input.name)).await?;
        stands(&document)?;
        let (project, config) = self.connection.resolve(&self.scope, &cx.cancel).await?;
        let scope = Scope::of(project, config);
        let live = self.connection.secrets(&scope, &cx.cancel).await?;
        let plan = make(&document, &live, self.delete_extra);
        Ok(Box::new(Ready { connection: self.connection.clone(), scope, document, live, plan }))
    }
}

/// What is to be done so that the config holds what the document holds.
fn make(document: &Document, live: &BTreeMap<String, Secret>, delete_extra: bool) -> Plan {
    let mut changes = Vec::new();
    for (name, wanted) in &document.secrets {
        let change = |action| Change::new(action, "secret", name);
        changes.push(match (live.get(name), wanted.to_upload()) {
            _ if is_dopplers_own(name) => change(Action::Skipped).note("Doppler sets it itself"),
            _ if !is_taken(name) => change(Action::Skipped).note(
                "Doppler does not accept this name: use capital letters, digits and _, and no digit at the beginning",
            ),
            (_, None) => change(Action::Skipped).note("restricted: the backup has no value of it"),
            (None, Some(_)) => match wanted.raw {
                Some(_) => change(Action::Create),
                None => change(Action::Create).note("computed value: if it was a reference, that is lost"),
            },
            (Some(there), Some(value)) => {
                let differs = differences(wanted, there, value);
                if differs.is_empty() {
                    change(Action::Unchanged)
                } else {
                    change(Action::Update).note(differs.join(", "))
                }
            }
        });
    }
    for name in live.keys().filter(|n| !document.secrets.contains_key(*n) && !is_dopplers_own(n)) {
        changes.push(if delete_extra {
            Change::new(Action::Delete, "secret", name)
        } else {
            Change::new(Action::Skipped, "secret", name).note("not in the backup; --delete-extra deletes it")
        });
    }
    changes.sort_by(|a, b| a.name.cmp(&b.name));
    Plan::new(changes)
}

/// Whether Doppler takes a secret of this name. An upload is refused as a whole because of one that it does not take.
fn is_taken(name: &str) -> bool {
    let bytes = name.as_bytes();
    bytes.first().is_some_and(|first| !first.is_ascii_digit())
        && bytes.iter().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || *b == b'_')
}

/// What of a secret is other than it should be, in words. What the backup does not know is not compared.
fn differences(wanted: &Secret, there: &Secret, value: &str) -> Vec<&'static str> {
    let mut found = Vec::new();
    // A backup with computed values only is compared with those: a reference that gives the same value stays.
    let live_value = if wanted.raw.is_some() { there.to_upload() } else { there.value() };
    if live_value != Some(value) {
        found.push(if live_value.is_some() { "value" } else { "value, which the token may not read" });
    }
    if wanted.raw_visibility.is_some() && wanted.raw_visibility != there.raw_visibility {
        found.push("visibility");
    }
    if wanted.raw_value_type.is_some() && wanted.raw_value_type != there.raw_value_type {
        found.push("type");
    }
    if wanted.note.is_some() && wanted.note() != there.note() {
        found.push("note");
    }
    found
}

/// A plan with the secrets that it takes.
struct Ready {
    connection: Connection,
    scope: Scope,
    document: Document,
    live: BTreeMap<String, Secret>,
    plan: Plan,
}

#[async_trait]
impl Prepared for Ready {
    fn plan(&self) -> &Plan {
        &self.plan
    }

    async fn apply(self: Box<Self>, cx: &Context) -> Result<Vec<Check>> {
        let requests: Vec<ChangeRequest<'_>> = self.plan.changes.iter().filter_map(|c| self.request(c)).collect();
        let mut done = 0;
        for batch in requests.chunks(BATCH) {
            if cx.cancel.is_cancelled() {
                return Err(partly(Error::cancelled("upload secrets to", self.scope.name()), done, requests.len()));
            }
            // What has been sent is waited for: whether it was done would not be known otherwise.
            let wait = tokio_util::sync::CancellationToken::new();
            self.connection
                .change(&self.scope, batch, &wait)
                .await
                .map_err(|error| partly(may_not_write(error), done, requests.len()))?;
            done += batch.len();
            cx.progress.event(Event::Items { done: done as u64, what: "secrets" });
        }
        let counts = self.plan.counts();
        let figure = counts.to_do().to_string();
        let mut checks = vec![Check::pass(
            "secrets",
            figure,
            format!(
                "{} created, {} updated, {} deleted, {} unchanged",
                counts.create, counts.update, counts.delete, counts.unchanged
            ),
        )];
        checks.extend(self.notes(cx).await);
        checks.push(self.look_again(cx).await?);
        Ok(checks)
    }
}

impl Ready {
    /// The upload of one line of the plan. One where only the note differs is none.
    fn request<'a>(&'a self, change: &'a Change) -> Option<ChangeRequest<'a>> {
        let name = change.name.as_str();
        let (wanted, there) = (self.document.secrets.get(name), self.live.get(name));
        let original = there.map(|_| name);
        match change.action {
            Action::Create | Action::Update => {
                let wanted = wanted?;
                if change.note.as_deref() == Some("note") {
                    return None;
                }
                Some(ChangeRequest {
                    name,
                    original_name: original,
                    value: wanted.to_upload(),
                    visibility: wanted.raw_visibility.as_deref(),
                    value_type: wanted.raw_value_type.as_ref(),
                    original_value: there.and_then(Secret::to_upload),
                    original_visibility: there.and_then(|s| s.raw_visibility.as_deref()),
                    should_delete: false,
                })
            }
            Action::Delete => Some(ChangeRequest {
                name,
                original_name: original,
                value: None,
                visibility: None,
                value_type: None,
                original_value: there.and_then(Secret::to_upload),
                original_visibility: there.and_then(|s| s.raw_visibility.as_deref()),
                should_delete: true,
            }),
            _ => None,
        }
    }

    /// Notes belong to the project and have a request each. One that is refused is told and does not undo the rest.
    async fn notes(&self, cx: &Context) -> Option<Check> {
        let wanted = self.plan.changes.iter().filter(|c| matches!(c.action, Action::Create | Action::Update));
        let differing: Vec<(&str, &str)> = wanted
            .filter_map(|c| {
                let note = self.document.secrets.get(&c.name)?.note.as_ref()?.expose();
                let there = self.live.get(&c.name).map_or("", Secret::note);
                (note != there).then_some((c.name.as_str(), note))
            })
            .collect();
        let project = self.scope.project.as_deref()?;
        let mut refused: Vec<String> = Vec::new();
        for (name, note) in &differing {
            if let Err(error) = self.connection.set_note(project, name, note, &cx.cancel).await {
                refused.push(format!("{name}: {}", error.message()));
            }
        }
        match (differing.len(), refused.len()) {
            (0, _) => None,
            (all, 0) => Some(Check::pass("notes", all.to_string(), "set")),
            (all, bad) => {
                let first = refused.into_iter().next().unwrap_or_default();
                Some(Check::warn("notes", format!("{} of {all}", all - bad), format!("some could not be set: {first}")))
            }
        }
    }

    /// What there is after a restore by which everything that was planned was done.
    fn read_back(&self, left: &Plan, live: usize) -> Check {
        let skipped = left.changes.iter().filter(|c| c.action == Action::Skipped && !is_dopplers_own(&c.name));
        let (missing, extra): (Vec<&str>, Vec<&str>) =
            skipped.map(|c| c.name.as_str()).partition(|name| self.document.secrets.contains_key(*name));
        let mut said = Vec::new();
        if !missing.is_empty() {
            said.push(format!("{} of the backup could not be restored: {}", missing.len(), listed(&missing)));
        }
        if !extra.is_empty() {
            said.push(format!("{} more, which are not in the backup: {}", extra.len(), listed(&extra)));
        }
        let begin = match (missing.is_empty(), extra.is_empty()) {
            (true, true) => "Doppler now holds exactly what the backup holds",
            (true, false) => "Doppler holds everything in the backup",
            (false, _) => "the rest of the backup is in Doppler",
        };
        let detail = std::iter::once(begin.to_owned()).chain(said).collect::<Vec<_>>().join("; ");
        let check = if missing.is_empty() { Check::pass } else { Check::warn };
        check("read back".to_owned(), live.to_string(), detail)
    }

    /// Reads the config again, and compares.
    async fn look_again(&self, cx: &Context) -> Result<Check> {
        let live = self.connection.secrets(&self.scope, &cx.cancel).await?;
        let left = make(&self.document, &live, false);
        let differing: Vec<&str> = left
            .changes
            .iter()
            .filter(|c| c.action.changes_something() && c.note.as_deref() != Some("note"))
            .map(|c| c.name.as_str())
            .collect();
        if differing.is_empty() {
            return Ok(self.read_back(&left, live.len()));
        }
        let names = listed(&differing);
        let why = format!("after the upload these still differ from the backup: {names}");
        Err(Error::new(ErrorKind::Mismatch, "restore into", self.scope.name(), why)
            .hint("somebody may have changed them meanwhile: run it again, and check the plan"))
    }
}

/// With the flag that names another token.
fn may_not_write(error: Error) -> Error {
    match token::hint_for_writing(&error) {
        Some(hint) => error.hint(hint),
        None => error,
    }
}

fn partly(error: Error, done: usize, all: usize) -> Error {
    if done == 0 && error.kind() != ErrorKind::Unavailable {
        return error;
    }
    let state = if error.kind() == ErrorKind::Unavailable { " for certain" } else { "" };
    let message = format!("{} ({done} of {all} changes were made{state})", error.message());
    let advice = error.advice().map(|a| format!("{a}; ")).unwrap_or_default();
    error.reworded(message).hint(format!("{advice}run it again: the next plan holds the remaining changes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(raw: Option<&str>, computed: Option<&str>) -> Secret {
        let text = |t: &str| t.to_owned().into();
        Secret { raw: raw.map(text), computed: computed.map(text), ..Secret::default() }
    }

    fn document(secrets: &[(&str, Secret)]) -> Document {
        Document { secrets: secrets.iter().map(|(n, s)| ((*n).to_owned(), s.clone())).collect(), ..Document::default() }
    }

    fn shown(plan: &Plan) -> Vec<String> {
        plan.changes.iter().map(|c| format!("{} {} {}", c.action, c.name, c.note.as_deref().unwrap_or(""))).collect()
    }

    #[test]
    fn a_plan_names_what_differs_and_shows_no_value() {
        let noted = Secret { note: Some("n".to_owned().into()), ..secret(Some("x"), Some("x")) };
        let wanted = document(&[
            ("A", secret(Some("${B}"), Some("b-value"))),
            ("B", secret(Some("b-value"), Some("b-value"))),
            ("C", secret(Some("new-value"), Some("new-value"))),
            ("DOPPLER_CONFIG", secret(Some("prd"), Some("prd"))),
            ("N", noted),
            ("R", secret(None, None)),
        ]);
        let live = document(&[
            ("A", secret(Some("b-value"), Some("b-value"))),
            ("B", secret(Some("b-value"), Some("b-value"))),
            ("DOPPLER_CONFIG", secret(Some("dev"), Some("dev"))),
            ("DOPPLER_OTHER", secret(Some("x"), Some("x"))),
            ("N", secret(Some("x"), Some("x"))),
            ("X", secret(Some("extra-value"), None)),
        ])
        .secrets;
        let plan = make(&wanted, &live, false);
        assert_eq!(
            shown(&plan),
            [
                "update A value",
                "unchanged B ",
                "create C ",
                "skipped DOPPLER_CONFIG Doppler sets it itself",
                "update N note",
                "skipped R restricted: the backup has no value of it",
                "skipped X not in the backup; --delete-extra deletes it",
            ]
        );
        let text = serde_json::to_string(&plan).unwrap();
        for value in ["b-value", "new-value", "extra-value", "${B}"] {
            assert!(!text.contains(value), "{value}");
        }
        assert!(shown(&make(&wanted, &live, true)).contains(&"delete X ".to_owned()));
    }

    #[test]
    fn a_secret_that_doppler_does_not_take_is_named_before_anything_is_sent() {
        let names = ["GOOD_1", "_GOOD", "lower", "1ST", "WITH-DASH", "ÄÖ"];
        let wanted = document(&names.map(|name| (name, secret(Some("v"), Some("v")))));
        let plan = make(&wanted, &BTreeMap::new(), false);
        let refused: Vec<&str> =
            plan.changes.iter().filter(|c| c.action == Action::Skipped).map(|c| c.name.as_str()).collect();
        assert_eq!(refused, ["1ST", "WITH-DASH", "lower", "ÄÖ"]);
    }

    #[test]
    fn a_scripts_backup_leaves_references_that_give_the_same_value() {
        let wanted =
            document(&[("A", secret(None, Some("v"))), ("B", secret(None, Some("v"))), ("C", secret(None, Some("v")))]);
        let live = document(&[("A", secret(Some("${X}"), Some("v"))), ("B", secret(Some("${X}"), Some("w")))]).secrets;
        assert_eq!(
            shown(&make(&wanted, &live, false)),
            ["unchanged A ", "update B value", "create C computed value: if it was a reference, that is lost"]
        );
    }
}
