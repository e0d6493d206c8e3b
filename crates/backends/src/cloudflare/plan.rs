//! Plans how to bring a live zone back to its state in the backup: pure, from two lists of records.

use std::collections::{BTreeMap, HashMap, VecDeque};

use lifeboat_core::{Action, Change};
use serde_json::{Map, Value};

use super::dns;
use super::record::Record;

/// One request to the zone.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Step {
    /// Delete the record with this id.
    Delete(String),
    /// Overwrite the record with this id.
    Put(String, Map<String, Value>),
    /// Create this record.
    Post(Map<String, Value>),
    /// Set the setting with this id to this value.
    Setting(String, Value),
}

/// A change with the request that makes it, if it changes anything.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Planned {
    pub(super) change: Change,
    pub(super) step: Option<Step>,
}

fn planned(action: Action, record: &Record) -> Planned {
    Planned { change: Change::new(action, record.kind(), record.name()), step: None }
}

/// Compares the records of an artifact with those of a live zone.
///
/// An unchanged record is left alone. One with the same identity, or the same id, is overwritten. The remaining records
/// of the artifact are created, and the remaining records of the zone are left alone, or deleted with `delete_extra`.
/// Records that Cloudflare manages itself are never touched.
pub(super) fn records(wanted: &[Record], live: &[Record], zone: &str, delete_extra: bool) -> Vec<Planned> {
    let mut plan = Vec::new();
    let mut left: Vec<Option<&Record>> = live.iter().map(Some).collect();
    let (mut open, mut managed) = (Vec::new(), Vec::new());
    for record in wanted {
        match record.managed(zone) {
            Some(why) => managed.push((record, why)),
            None => open.push(record),
        }
    }
    // Existing records that Cloudflare manages do not count as extra.
    for (record, why) in managed {
        let mut made = planned(Action::Skipped, record);
        made.change = made.change.note(why);
        plan.push(made);
    }
    for slot in &mut left {
        if slot.is_some_and(|r| r.managed(zone).is_some()) {
            *slot = None;
        }
    }
    // From the most certain match to the least: a swap of two contents must not become two edits.
    let mut take = |open: &mut Vec<&'_ Record>, key: &dyn Fn(&Record) -> String, plan: &mut Vec<Planned>| {
        let mut by: HashMap<String, VecDeque<usize>> = HashMap::new();
        for (at, record) in left.iter().enumerate() {
            if let Some(record) = record {
                by.entry(key(record)).or_default().push_back(at);
            }
        }
        open.retain(|record| {
            let Some(at) = by.get_mut(&key(record)).and_then(VecDeque::pop_front) else { return true };
            if let Some(found) = left[at].take() {
                plan.push(matched(record, found));
            }
            false
        });
    };
    take(&mut open, &Record::canonical, &mut plan);
    take(&mut open, &Record::identity, &mut plan);
    take(
        &mut open,
        &|r| if r.id().is_empty() { format!("?{}", r.identity()) } else { format!("{} {}", r.kind(), r.id()) },
        &mut plan,
    );
    // A name has at most one CNAME: a different one in the zone is the same record, changed.
    take(
        &mut open,
        &|r| if r.kind() == "CNAME" { dns::lower(r.name()) } else { format!("? {} {}", r.id(), r.identity()) },
        &mut plan,
    );

    let extra: Vec<&Record> = left.into_iter().flatten().collect();
    let mut in_the_way: BTreeMap<String, Vec<&Record>> = BTreeMap::new();
    for record in &extra {
        in_the_way.entry(dns::lower(record.name())).or_default().push(record);
    }
    for record in open {
        let others = in_the_way.get(&dns::lower(record.name())).map(Vec::as_slice).unwrap_or_default();
        let conflict = others.iter().find(|other| excludes(record.kind(), other.kind()));
        let mut made = planned(Action::Create, record);
        made.change = made.change.after(record.summary());
        match conflict {
            Some(other) if !delete_extra => {
                made.change.action = Action::Skipped;
                let why = format!(
                    "a {} of that name, which is not in the backup, is in the way; --delete-extra deletes it",
                    other.kind()
                );
                made.change = made.change.note(why);
            }
            _ => made.step = Some(Step::Post(record.body())),
        }
        plan.push(made);
    }
    for record in extra {
        let mut made = planned(if delete_extra { Action::Delete } else { Action::Skipped }, record);
        made.change = made.change.before(record.summary());
        if delete_extra {
            made.step = Some(Step::Delete(record.id().to_owned()));
        } else {
            made.change = made.change.note("not in the backup; --delete-extra deletes it");
        }
        plan.push(made);
    }
    plan.sort_by_cached_key(|p| {
        (dns::lower(&p.change.name), p.change.kind.clone(), p.change.after.clone(), p.change.before.clone())
    });
    plan
}

/// Whether records of these types cannot share a name: nothing may accompany a CNAME (RFC 1034, section 3.6.2), nor an
/// NS at Cloudflare.
fn excludes(one: &str, other: &str) -> bool {
    let address = |kind: &str| matches!(kind, "A" | "AAAA");
    match (one, other) {
        ("CNAME", other) => address(other) || matches!(other, "CNAME" | "NS"),
        (one, "CNAME") => address(one) || one == "NS",
        ("NS", other) => address(other),
        (one, "NS") => address(one),
        _ => false,
    }
}

fn matched(wanted: &Record, found: &Record) -> Planned {
    if wanted.canonical() == found.canonical() {
        return planned(Action::Unchanged, wanted);
    }
    let mut made = planned(Action::Update, wanted);
    made.change = made.change.before(found.summary()).after(wanted.summary());
    if !dns::same(wanted.name(), found.name()) {
        made.change = made.change.note(format!("it is now called {}", found.name()));
    }
    let mut body = wanted.body();
    // A PUT leaves fields that it does not mention unchanged, so empty ones are sent explicitly.
    for (field, empty) in [("comment", Value::from("")), ("tags", Value::Array(Vec::new()))] {
        let has = |r: &Record| if field == "comment" { r.comment().is_some() } else { !r.tags().is_empty() };
        if has(found) && !has(wanted) {
            body.insert(field.to_owned(), empty);
        }
    }
    made.step = Some(Step::Put(found.id().to_owned(), body));
    made
}

/// Compares the settings of an artifact with those of a live zone.
pub(super) fn settings(wanted: &[Value], live: &[Value]) -> Vec<Planned> {
    let id = |setting: &Value| setting["id"].as_str().unwrap_or_default().to_owned();
    let live: BTreeMap<String, &Value> = live.iter().map(|setting| (id(setting), setting)).collect();
    let mut plan = Vec::new();
    for setting in wanted {
        let (name, value) = (id(setting), &setting["value"]);
        let found = live.get(&name);
        let (action, note) = match found {
            None => (Action::Skipped, Some("the live zone does not have it")),
            Some(now) if now["value"] == *value => (Action::Unchanged, None),
            Some(now) if now["editable"].as_bool() == Some(false) => {
                (Action::Skipped, Some("the zone's plan does not allow changing it"))
            }
            Some(_) => (Action::Update, None),
        };
        let mut change = Change::new(action, "setting", &name);
        if action != Action::Unchanged {
            change = change.after(value.to_string());
            if let Some(now) = found {
                change = change.before(now["value"].to_string());
            }
        }
        if let Some(note) = note {
            change = change.note(note);
        }
        let step = (action == Action::Update).then(|| Step::Setting(name, value.clone()));
        plan.push(Planned { change, step });
    }
    plan.sort_by(|a, b| a.change.name.cmp(&b.change.name));
    plan
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn record(id: &str, kind: &str, name: &str, content: &str) -> Record {
        Record::read(json!({"id": id, "type": kind, "name": name, "content": content, "ttl": 300})).unwrap()
    }

    fn with(record: &Record, key: &str, value: Value) -> Record {
        let mut all = record.all().clone();
        all.insert(key.to_owned(), value);
        Record::read(Value::Object(all)).unwrap()
    }

    fn of(wanted: &[Record], live: &[Record], delete_extra: bool) -> Vec<(char, String, bool)> {
        records(wanted, live, "example.org", delete_extra)
            .into_iter()
            .map(|p| (p.change.action.sign(), format!("{} {}", p.change.kind, p.change.name), p.step.is_some()))
            .collect()
    }

    fn line(sign: char, what: &str) -> (char, String, bool) {
        (sign, what.to_owned(), matches!(sign, '+' | '~' | '-'))
    }

    #[test]
    fn an_equal_zone_needs_nothing() {
        let zone = [record("1", "A", "a.example.org", "192.0.2.1"), record("2", "A", "a.example.org", "192.0.2.2")];
        let other_ids =
            [record("8", "A", "A.example.org", "192.0.2.2"), record("9", "A", "a.example.org", "192.0.2.1")];
        assert_eq!(of(&zone, &other_ids, true), [line(' ', "A a.example.org"), line(' ', "A a.example.org")]);
    }

    #[test]
    fn what_is_not_in_the_backup_is_left_alone_unless_it_is_told() {
        let extra = [record("1", "A", "new.example.org", "192.0.2.1")];
        assert_eq!(of(&[], &extra, false), [line('=', "A new.example.org")]);
        assert_eq!(of(&[], &extra, true), [line('-', "A new.example.org")]);
    }

    #[test]
    fn a_record_that_was_edited_is_edited_back() {
        let was = record("1", "A", "a.example.org", "192.0.2.1");
        for edited in [
            with(&was, "content", "192.0.2.9".into()),
            with(&was, "ttl", 60.into()),
            with(&was, "proxied", true.into()),
            with(&was, "name", "b.example.org".into()),
            with(&was, "comment", "x".into()),
        ] {
            assert_eq!(
                of(std::slice::from_ref(&was), std::slice::from_ref(&edited), false),
                [line('~', "A a.example.org")],
                "{edited:?}"
            );
        }
        let commented = with(&was, "comment", "x".into());
        let plan = records(&[was], &[commented], "example.org", false);
        let Some(Step::Put(id, body)) = &plan[0].step else { panic!("{plan:?}") };
        assert_eq!((id.as_str(), &body["comment"]), ("1", &Value::from("")));
    }

    #[test]
    fn two_contents_that_were_swapped_need_nothing() {
        let zone = [record("1", "A", "a.example.org", "192.0.2.1"), record("2", "A", "a.example.org", "192.0.2.2")];
        let swapped = [record("2", "A", "a.example.org", "192.0.2.1"), record("1", "A", "a.example.org", "192.0.2.2")];
        assert!(of(&zone, &swapped, true).iter().all(|(sign, ..)| *sign == ' '));
    }

    #[test]
    fn a_cname_takes_the_place_of_another_one_and_waits_for_an_address() {
        let wanted = [record("1", "CNAME", "w.example.org", "a.example.net")];
        let other = [record("7", "CNAME", "w.example.org", "b.example.net")];
        assert_eq!(of(&wanted, &other, false), [line('~', "CNAME w.example.org")]);
        let address = [record("7", "A", "w.example.org", "192.0.2.1")];
        assert_eq!(of(&wanted, &address, false), [line('=', "A w.example.org"), line('=', "CNAME w.example.org")]);
        assert_eq!(of(&wanted, &address, true), [line('-', "A w.example.org"), line('+', "CNAME w.example.org")]);
    }

    #[test]
    fn what_cloudflare_manages_is_skipped_on_both_sides() {
        let soa = record("1", "SOA", "example.org", "ada.ns.cloudflare.com dns.cloudflare.com 1 2 3 4 5");
        let ns = record("2", "NS", "example.org", "ada.ns.cloudflare.com");
        assert_eq!(of(&[soa, ns.clone()], &[], true), [line('=', "NS example.org"), line('=', "SOA example.org")]);
        assert_eq!(of(&[], &[ns], true), []);
    }

    #[test]
    fn settings_are_set_where_they_can_be() {
        let wanted = [
            json!({"id": "ssl", "value": "full"}),
            json!({"id": "waf", "value": "on"}),
            json!({"id": "old", "value": 1}),
            json!({"id": "same", "value": {"a": 1}}),
        ];
        let live = [
            json!({"id": "ssl", "value": "off", "editable": true}),
            json!({"id": "waf", "value": "off", "editable": false}),
            json!({"id": "same", "value": {"a": 1}, "editable": true}),
        ];
        let plan = settings(&wanted, &live);
        let short: Vec<(char, &str)> = plan.iter().map(|p| (p.change.action.sign(), p.change.name.as_str())).collect();
        assert_eq!(short, [('=', "old"), (' ', "same"), ('~', "ssl"), ('=', "waf")]);
        assert_eq!(plan[2].step, Some(Step::Setting("ssl".to_owned(), "full".into())));
    }
}
