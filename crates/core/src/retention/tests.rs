//! A table of cases with a fixed now, the text form, and the invariants over random histories.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;

use super::*;
use crate::error::ErrorKind;

/// A Saturday.
const NOW: &str = "2026-11-21T12:00:00Z";

fn at(text: &str) -> Timestamp {
    let time = if text.len() == 10 { format!("{text}T03:30:00Z") } else { format!("{text}:00Z") };
    time.parse().unwrap()
}

/// Reads `2026-11-20 bad verified <2026-11-19`: a time (which is also the key), marks, and what it depends on.
fn candidate(line: &str) -> Candidate {
    let mut words = line.split_whitespace();
    let key = words.next().unwrap();
    words.fold(Candidate::new(key, at(key)), |c, word| match word {
        "bad" => c.bad(),
        "verified" => c.verified(NOW.parse().unwrap()),
        word => c.depends_on([word.strip_prefix('<').unwrap()]),
    })
}

fn plan(policy: &str, history: &[Candidate]) -> Plan {
    policy.parse::<Policy>().unwrap().plan(history, NOW.parse().unwrap())
}

/// Each line: an artifact as [`candidate`] reads it, `=>`, and the reasons, or `-` and the reason to delete.
#[track_caller]
fn check(policy: &str, table: &str) -> Plan {
    let lines: Vec<(&str, &str)> = table.lines().filter_map(|l| l.split_once("=>")).collect();
    let history: Vec<Candidate> = lines.iter().map(|(artifact, _)| candidate(artifact)).collect();
    let plan = plan(policy, &history);
    let found: Vec<String> = plan
        .decisions
        .iter()
        .map(|d| format!("{} => {}{}", d.key, if d.keeps() { "" } else { "- " }, d.why()))
        .collect();
    let wanted: Vec<String> =
        lines.iter().zip(&history).map(|((_, why), c)| format!("{} => {}", c.key, why.trim())).collect();
    assert_eq!(found, wanted, "policy {policy}");
    plan
}

#[test]
fn by_age_keeps_to_the_second() {
    check(
        "30d",
        "2026-11-21       => newest good, within 30 days
         2026-10-22T12:00 => within 30 days
         2026-10-22T11:59 => - older than 30 days, and no rule keeps it
         2026-10-22T11:58 bad => - bad, older than 30 days, and no rule keeps it",
    );
}

#[test]
fn a_month_is_one_of_the_calendar() {
    check(
        "1m",
        "2026-11-21       => newest good, within 1 month
         2026-10-21T12:00 => within 1 month
         2026-10-21T11:59 => - older than 1 month, and no rule keeps it",
    );
    let march: Timestamp = "2026-03-31T00:00:00Z".parse().unwrap();
    assert_eq!("1m".parse::<Age>().unwrap().before(march).to_string(), "2026-02-28T00:00:00Z");
    assert_eq!("9000y".parse::<Age>().unwrap().before(march), "-006974-03-31T00:00:00Z".parse().unwrap());
    assert_eq!("19000y".parse::<Age>().unwrap().before(march), Timestamp::MIN);
}

#[test]
fn by_count() {
    check(
        "last=2",
        "2026-11-21 => newest good, last 1/2
         2026-11-20 bad => bad, but among the last 2
         2026-11-19 => last 2/2
         2026-11-18 bad => - bad, and no rule keeps it
         2026-11-17 => - no rule keeps it",
    );
}

#[test]
fn by_grandfather_father_son() {
    // Periods without an artifact use no slot: ISO week 47 begins on Monday, 16 November.
    check(
        "hourly=2,daily=3,weekly=3,monthly=3,yearly=2",
        "2026-11-21T11:45 => newest good, hourly 1/2 (2026-11-21T11), daily 1/3 (2026-11-21), weekly 1/3 (2026-W47), monthly 1/3 (2026-11), yearly 1/2 (2026)
         2026-11-21T11:15 => - no rule keeps it
         2026-11-21T09:00 => hourly 2/2 (2026-11-21T09)
         2026-11-21T08:00 => - no rule keeps it
         2026-11-18       => daily 2/3 (2026-11-18)
         2026-11-16T00:00 => daily 3/3 (2026-11-16)
         2026-11-15T23:59 => weekly 2/3 (2026-W46)
         2026-11-10       => - no rule keeps it
         2026-11-01       => weekly 3/3 (2026-W44)
         2026-08-31       => monthly 2/3 (2026-08)
         2026-01-01       => monthly 3/3 (2026-01)
         2024-12-31       => yearly 2/2 (2024)
         2023-12-31       => - no rule keeps it",
    );
}

#[test]
fn weeks_are_iso_weeks_across_new_year() {
    check(
        "weekly=2",
        "2026-01-02 => newest good, weekly 1/2 (2026-W01)
         2025-12-29 => - no rule keeps it
         2025-12-28 => weekly 2/2 (2025-W52)",
    );
}

#[test]
fn rules_are_a_union() {
    check(
        "2d,last=1,monthly=2,at-least=2",
        "2026-11-21 => newest good, within 2 days, last 1/1, monthly 1/2 (2026-11)
         2026-11-20 => within 2 days
         2026-11-10 => - older than 2 days, and no rule keeps it
         2026-10-31 => monthly 2/2 (2026-10)",
    );
}

#[test]
fn the_floor_adds_the_newest_of_the_rest() {
    check(
        "3d,monthly=2,at-least=4",
        "2026-11-21 => newest good, within 3 days, monthly 1/2 (2026-11)
         2026-11-10 bad => - bad, older than 3 days, and no rule keeps it
         2026-11-09 => at least 4
         2026-11-08 => at least 4
         2026-11-07 => - older than 3 days, and no rule keeps it
         2026-10-31 => monthly 2/2 (2026-10)",
    );
}

#[test]
fn the_newest_good_one_stays_however_old_and_however_many_failed_since() {
    let plan = check(
        "30d",
        "2026-11-21 bad => within 30 days
         2026-10-01 bad => - bad, older than 30 days, and no rule keeps it
         2026-09-01 => newest good
         2026-08-01 => - older than 30 days, and no rule keeps it",
    );
    assert_eq!(
        plan.warnings[0].to_string(),
        "every good artifact is older than 30 days: no good backup has been made for 81 days, since \
         2026-09-01T03:30:00Z; is this machine's clock right?"
    );
}

#[test]
fn the_newest_verified_one_stays() {
    check(
        "last=1",
        "2026-11-21 => newest good, last 1/1
         2026-11-20 verified bad => - bad, and no rule keeps it
         2026-11-19 => - no rule keeps it
         2026-11-18 verified => newest verified
         2026-11-17 verified => - no rule keeps it",
    );
}

#[test]
fn where_no_good_one_was_verified_the_newest_that_once_was_stays() {
    check(
        "last=1",
        "2026-11-21 => newest good, last 1/1
         2026-11-20 verified bad => newest verified
         2026-11-19 verified bad => - bad, and no rule keeps it",
    );
}

#[test]
fn nothing_goes_while_nothing_is_good() {
    let plan = check(
        "1d",
        "2026-11-21 bad => nothing good exists, within 1 day
         2026-01-21 bad => nothing good exists",
    );
    assert_eq!(plan.warnings[0].to_string(), "no good artifact among 2 artifacts: nothing is deleted");
}

#[test]
fn a_bad_one_stands_for_a_period_without_a_good_one_and_takes_no_slot() {
    check(
        "daily=3",
        "2026-11-21T09:00 bad => - bad, and no rule keeps it
         2026-11-21T08:00 => newest good, daily 1/3 (2026-11-21)
         2026-11-20T09:00 bad => bad, but nothing is good in 2026-11-20 (daily)
         2026-11-20T08:00 bad => - bad, and no rule keeps it
         2026-11-19 => daily 2/3 (2026-11-19)
         2026-11-18 bad => - bad, and no rule keeps it
         2026-11-17 => daily 3/3 (2026-11-17)
         2026-11-16 => - no rule keeps it",
    );
}

#[test]
fn one_dated_in_the_future_stays_and_pushes_no_other_out() {
    let plan = check(
        "last=1",
        "2099-01-01 verified => dated in the future
         2026-11-21T12:01 bad => dated in the future
         2026-11-21T12:00 => newest good, last 1/1
         2026-11-20 verified => newest verified",
    );
    assert_eq!(
        plan.warnings[0].to_string(),
        "2 of 4 artifacts are dated in the future: is this machine's clock right?"
    );
}

#[test]
fn what_something_kept_depends_on_stays() {
    check(
        "last=1",
        "2026-11-21 <2026-11-20 => newest good, last 1/1
         2026-11-20 <2026-11-18 => needed by 2026-11-21
         2026-11-19 <2026-11-18 => - no rule keeps it
         2026-11-18 => needed by 2026-11-20
         2026-11-17 => - no rule keeps it",
    );
}

#[test]
fn a_chain_is_as_good_as_its_worst_link() {
    let plan = check(
        "last=1",
        "2026-11-21 <2026-11-20 => bad, but among the last 1
         2026-11-20 <2026-11-19 => needed by 2026-11-21
         2026-11-19 bad => needed by 2026-11-20
         2026-11-18 <2026-11-01 => - bad, and no rule keeps it
         2026-11-17 => newest good, last 1/1",
    );
    assert_eq!(
        plan.warnings.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["2026-11-18 cannot be restored: it depends on 2026-11-01, which is not there"]
    );
}

#[test]
fn artifacts_that_depend_on_each_other_end_and_are_bad() {
    let plan = check(
        "last=1",
        "2026-11-21 <2026-11-20 <2026-11-21 => bad, but among the last 1, needed by 2026-11-20
         2026-11-20 <2026-11-21 => needed by 2026-11-21
         2026-11-19 <2026-11-20 => - bad, and no rule keeps it
         2026-11-18 => newest good, last 1/1
         2026-11-17 => - no rule keeps it",
    );
    // Nobody can restore them. One that only needs them is bad too, but that is no circle.
    let circular = ["2026-11-21", "2026-11-20"].map(|key| Warning::CircularDependency { key: key.to_owned() });
    assert_eq!(plan.warnings, circular);
}

#[test]
fn what_is_deleted_goes_before_what_it_needs_whatever_the_clocks_say() {
    // The base is stamped later than its increments: by a machine whose clock is wrong.
    let history =
        ["2026-11-10", "2026-11-09 <2026-11-10", "2026-11-08 <2026-11-09 <2026-11-10", "2026-11-21", "2026-11-07"];
    let plan = plan("last=1", &history.map(candidate));
    let order: Vec<&str> = plan.deletions().map(|d| d.key.as_str()).collect();
    assert_eq!(order, ["2026-11-08", "2026-11-07", "2026-11-09", "2026-11-10"]);
}

#[test]
fn an_object_that_is_not_known_here_keeps_everything() {
    let mut history = ["2026-11-21", "2026-11-20 bad", "2026-11-19"].map(candidate).to_vec();
    history[2] = history[2].clone().beside(["a.hold.json", "a.more.json"]);
    let plan = plan("last=1", &history);
    assert_eq!(plan.deletions().count(), 0);
    let lines: Vec<String> = plan.decisions.iter().map(Decision::why).collect();
    let unknown = "nothing is deleted beside a.hold.json, which is not known here";
    assert_eq!(lines, [format!("newest good, last 1/1, {unknown}"), unknown.to_owned(), unknown.to_owned()]);
    assert_eq!(
        plan.warnings.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["nothing is deleted: a.hold.json and 1 other object are not known here; a newer Lifeboat may have written it"]
    );
}

#[test]
fn bases_count_for_the_floor() {
    check(
        "1d,at-least=3",
        "2026-11-21 => newest good, within 1 day
         2026-11-19 <2026-11-17 => at least 3
         2026-11-18 => - older than 1 day, and no rule keeps it
         2026-11-17 => needed by 2026-11-19",
    );
}

#[test]
fn the_base_of_a_bad_one_does_not_count_for_the_floor() {
    check(
        "1d,at-least=2",
        "2026-11-21 bad <2026-11-01 => within 1 day
         2026-11-19 => newest good
         2026-11-18 => at least 2
         2026-11-17 => - older than 1 day, and no rule keeps it
         2026-11-01 => needed by 2026-11-21",
    );
}

#[test]
fn a_policy_without_rules_keeps_everything() {
    check(
        "all",
        "2026-11-21 => the policy keeps everything, newest good
         2001-01-01 bad => the policy keeps everything
         2000-01-01 => the policy keeps everything",
    );
    let floor = Policy { at_least: 1, ..Policy::default() };
    assert!(floor.keeps_everything());
    assert_eq!(
        floor.plan(&[candidate("2001-01-01"), candidate("2000-01-01")], at("2026-01-01")).deletions().count(),
        0
    );
    assert_eq!(Policy::days(0), Policy::default());
}

#[test]
fn no_artifact_is_no_decision_and_no_warning() {
    assert_eq!(plan("30d", &[]), Plan::default());
}

/// Twelve daily artifacts, the newest from today.
fn twelve() -> Vec<Candidate> {
    (10..22).map(|day| candidate(&format!("2026-11-{day}"))).collect()
}

#[test]
fn a_clock_far_in_the_past_loses_nothing() {
    let policy: Policy = "30d,at-least=3".parse().unwrap();
    let plan = policy.plan(&twelve(), at("1970-01-01"));
    assert_eq!(plan.deletions().count(), 0);
    assert_eq!(
        plan.warnings.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["12 of 12 artifacts are dated in the future: is this machine's clock right?"]
    );
    // Halfway, the older ones are younger than they are, and stay too.
    assert_eq!(policy.plan(&twelve(), at("2026-11-15")).deletions().count(), 0);
}

#[test]
fn a_clock_far_in_the_future_leaves_newest_verified_and_floor_and_warns() {
    let mut history = twelve();
    history[0].verified_at = Some(at("2026-11-10"));
    let plan = "30d,at-least=3".parse::<Policy>().unwrap().plan(&history, at("2031-11-21"));
    let kept: Vec<&str> = plan.kept().map(|d| d.key.as_str()).collect();
    assert_eq!(kept, ["2026-11-21", "2026-11-20", "2026-11-10"]);
    assert!(matches!(plan.warnings[..], [Warning::Stale { days: 1826, .. }]), "{:?}", plan.warnings);
    // Rules by count and by period do not look at the clock at all.
    let gfs: Policy = "last=3,daily=12".parse().unwrap();
    assert_eq!(gfs.plan(&history, at("2031-11-21")).deletions().count(), 0);
}

#[test]
fn of_two_in_the_same_second_the_key_decides() {
    let history = ["b", "a", "c"].map(|key| Candidate::new(key, at("2026-11-21")));
    let lines: Vec<String> = plan("last=2", &history).decisions.iter().map(ToString::to_string).collect();
    assert_eq!(lines, ["keep a: newest good, last 1/2", "keep b: last 2/2", "delete c: no rule keeps it"]);
}

#[test]
fn one_key_is_one_artifact() {
    let same =
        [Candidate::new("a", at("2026-11-20")).bad(), Candidate::new("a", at("2026-11-19")), candidate("2026-11-18")];
    let plan = plan("last=1", &same);
    assert_eq!(plan.decisions.len(), 2);
    assert_eq!((plan.decisions[0].key.as_str(), plan.decisions[0].good), ("a", false));
}

#[test]
fn an_empty_one_takes_the_place_of_none() {
    let history = [
        candidate("2026-11-21").less(),
        candidate("2026-11-20").less().verified("2026-11-20T05:00:00Z".parse().unwrap()),
        candidate("2026-11-19"),
        candidate("2026-11-18"),
    ];
    let plan = plan("last=1", &history);
    let lines: Vec<String> = plan.decisions.iter().map(ToString::to_string).collect();
    assert_eq!(
        lines,
        [
            "keep 2026-11-21: newest good, last 1/1",
            "keep 2026-11-20: newest verified",
            "keep 2026-11-19: newer ones hold less",
            "delete 2026-11-18: no rule keeps it",
        ]
    );
    let warnings: Vec<String> = plan.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(
        warnings,
        [
            "2026-11-21 and 1 before it are empty or much smaller than 2026-11-19, which stays: was anything lost at the source?"
        ]
    );
}

#[test]
fn where_all_are_empty_they_are_pruned_like_others() {
    let plan = plan("last=1", &[candidate("2026-11-21").less(), candidate("2026-11-20").less()]);
    assert_eq!((plan.kept().count(), plan.warnings.len()), (1, 0));
}

#[test]
fn as_json() {
    let json = serde_json::to_value(plan(
        "1d,daily=1",
        &[candidate("2099-01-01"), candidate("2026-11-21"), candidate("2026-11-01")],
    ))
    .unwrap();
    assert_eq!(
        json,
        serde_json::json!({
            "decisions": [
                {"key": "2099-01-01", "taken_at": "2099-01-01T03:30:00Z", "good": true, "action": "keep",
                 "reasons": [{"reason": "future"}]},
                {"key": "2026-11-21", "taken_at": "2026-11-21T03:30:00Z", "good": true, "action": "keep", "reasons": [
                    {"reason": "newest-good"},
                    {"reason": "within", "age": "1d"},
                    {"reason": "period", "rule": "daily", "slot": 1, "of": 1, "period": "2026-11-21"},
                ]},
                {"key": "2026-11-01", "taken_at": "2026-11-01T03:30:00Z", "good": true, "action": "delete",
                 "reason": {"reason": "older-than", "age": "1d"}},
            ],
            "warnings": [{"warning": "future", "count": 1, "total": 3}],
        })
    );
}

#[test]
fn policies_are_read_from_text() {
    for (text, canonical) in [
        ("30d", "30d"),
        (" 30d , at_least=3 ", "30d,at-least=3"),
        ("days=30,at-least=0", "30d"),
        ("within=1y6m", "1y6m"),
        ("2h1y", "1y2h"),
        (
            "yearly=3,monthly=12,weekly=4,daily=7,hourly=24,last=7",
            "last=7,hourly=24,daily=7,weekly=4,monthly=12,yearly=3",
        ),
        ("all", "all"),
    ] {
        assert_eq!(text.parse::<Policy>().unwrap().to_string(), canonical, "{text}");
    }
}

#[test]
fn what_is_no_policy_is_refused_with_advice() {
    for (text, why) in [
        ("", "a rule is missing"),
        ("30d,", "a rule is missing"),
        ("30", "has no unit"),
        ("30 days", "is not an age"),
        ("thirty", "is not an age"),
        ("0d", "would keep nothing"),
        ("days=0", "days = 0 would keep nothing"),
        ("30d,daily=0", "daily = 0 would keep nothing"),
        ("1d2d", "has the unit d twice"),
        ("99999999999d", "out of range"),
        ("99999999d", "out of range"),
        ("days=99999999", "out of range"),
        ("30d,40d", "within is given twice"),
        ("30d,days=30", "age limit twice"),
        ("last=1,last=1", "last is given twice"),
        ("last=-1", "is not a whole number"),
        ("last=", "is not a whole number"),
        ("dayly=7", "there is no rule \"dayly\""),
        ("all,last=3", "cannot be combined"),
        ("at-least=3", "at_least is a floor"),
        ("é", "is not an age"),
    ] {
        let error = text.parse::<Policy>().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{text}");
        assert!(error.to_string().contains(why), "{text}: {error}");
        assert!(error.subject().contains(text) && error.advice().is_some(), "{text}: {error:?}");
    }
}

#[test]
fn policies_are_read_from_a_config() {
    let read = |json: &str| serde_json::from_str::<Policy>(json);
    assert_eq!(read(r#"{"days": 30, "at_least": 3}"#).unwrap(), "30d,at-least=3".parse().unwrap());
    assert_eq!(read(r#"{"within": "6m", "at-least": 3}"#).unwrap(), "6m,at-least=3".parse().unwrap());
    assert_eq!(read(r#""last=7,yearly=3""#).unwrap(), "last=7,yearly=3".parse().unwrap());
    assert_eq!(read("{}").unwrap(), Policy::default());
    for (json, why) in [
        (r#"{"day": 30}"#, "unknown field `day`"),
        (r#"{"days": 0}"#, "cannot use keep: days = 0 would keep nothing; leave out a rule"),
        (r#"{"days": -1}"#, "invalid value"),
        (r#"{"at_least": 3}"#, "write last = 3; or add a rule"),
        (r#"{"within": "6x"}"#, "\"6x\" is not an age; write a number and a unit"),
        (r#"{"within": 6}"#, "an age like \"30d\""),
        ("30", "a table like { days = 30, at_least = 3 } or a text"),
    ] {
        let error = read(json).unwrap_err().to_string();
        assert!(error.contains(why), "{json}: {error}");
    }
}

fn some_age() -> impl Strategy<Value = Age> {
    (1u32..60, prop::sample::select(vec!["h", "d", "w", "m", "y", "d12h", "m3d"]))
        .prop_map(|(n, unit)| format!("{n}{unit}").parse().unwrap())
}

fn some_policy() -> impl Strategy<Value = Policy> {
    let count = || prop_oneof![3 => Just(0u32), 3 => 1u32..5, 1 => Just(u32::MAX)];
    (prop::option::of(some_age()), count(), count(), count(), count(), count(), count(), count()).prop_map(
        |(within, last, hourly, daily, weekly, monthly, yearly, at_least)| Policy {
            within,
            last,
            hourly,
            daily,
            weekly,
            monthly,
            yearly,
            at_least,
        },
    )
}

fn now() -> Timestamp {
    NOW.parse().unwrap()
}

/// Ages in seconds: crowded in the last hours, sparse over years, on the same seconds, some in the future.
fn some_ages() -> impl Strategy<Value = i64> {
    prop_oneof![
        4 => 0i64..100_000,
        4 => 0i64..100 * 86_400,
        2 => 0i64..5 * 366 * 86_400,
        4 => (0i64..40).prop_map(|days| days * 86_400),
        1 => -400i64 * 86_400..0,
    ]
}

/// A history: keys in an order that has nothing to do with time; some artifacts depend on earlier ones, some on none that exists.
fn some_history() -> impl Strategy<Value = Vec<Candidate>> {
    some_history_with(0.2)
}

fn some_history_with(less: f64) -> impl Strategy<Value = Vec<Candidate>> {
    let less = prop::bool::weighted(less);
    let artifact = (
        some_ages(),
        prop::bool::weighted(0.7),
        prop::bool::weighted(0.3),
        prop::option::weighted(0.2, 0usize..40),
        less,
    );
    prop::collection::vec(artifact, 0..40).prop_map(|artifacts| {
        artifacts
            .into_iter()
            .enumerate()
            .map(|(i, (age, good, verified, base, less))| Candidate {
                key: format!("{:02}", i * 17 % 41),
                taken_at: now() - SignedDuration::from_secs(age),
                good,
                less,
                verified_at: verified.then(now),
                depends_on: base.map(|b| format!("{:02}", b * 17 % 41)).into_iter().collect(),
                unknown: Vec::new(),
            })
            .collect()
    })
}

fn kept_keys(plan: &Plan) -> BTreeSet<&str> {
    plan.kept().map(|d| d.key.as_str()).collect()
}

/// Those that are not dated in the future and count as good, newest first.
fn past_good(plan: &Plan) -> Vec<&Decision> {
    plan.decisions.iter().filter(|d| d.good && d.taken_at <= now()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn a_policy_reads_back(policy in some_policy()) {
        let text = policy.to_string();
        let read: Policy = text.parse().unwrap();
        if policy.keeps_everything() {
            prop_assert!(read.keeps_everything());
        } else {
            prop_assert_eq!(read, policy);
            let json = serde_json::to_string(&policy).unwrap();
            prop_assert_eq!(serde_json::from_str::<Policy>(&json).unwrap(), policy);
        }
    }

    #[test]
    fn no_text_makes_it_panic(text in "\\PC*", number in "[0-9]{0,12}[ymwdh]{0,2}[0-9]{0,12}[ymwdh]?") {
        let _ = text.parse::<Policy>();
        let _ = text.parse::<Age>();
        if let Ok(age) = number.parse::<Age>() {
            prop_assert_eq!(age.to_string().parse::<Age>().unwrap(), age);
            let _ = (age.before(now()), age.before(Timestamp::MIN), age.before(Timestamp::MAX));
        }
    }

    #[test]
    fn every_artifact_has_one_decision_with_its_reasons(policy in some_policy(), history in some_history()) {
        let plan = policy.plan(&history, now());
        prop_assert_eq!(plan.decisions.len(), history.len());
        for decision in &plan.decisions {
            prop_assert!(!decision.why().is_empty());
            if let Action::Keep { reasons } = &decision.action {
                prop_assert!(!reasons.is_empty());
                prop_assert_eq!(reasons.iter().collect::<std::collections::HashSet<_>>().len(), reasons.len());
            }
        }
        prop_assert!(plan.decisions.windows(2).all(|w| (w[1].taken_at, &w[0].key) <= (w[0].taken_at, &w[1].key)
            || w[1].taken_at < w[0].taken_at));
    }

    #[test]
    fn the_last_lines_of_defence_hold(policy in some_policy(), history in some_history()) {
        let plan = policy.plan(&history, now());
        let verified: BTreeSet<&str> =
            history.iter().filter(|c| c.verified_at.is_some()).map(|c| c.key.as_str()).collect();
        let good = past_good(&plan);
        prop_assert!(good.first().is_none_or(|d| d.keeps()), "newest good");
        prop_assert!(good.iter().find(|d| verified.contains(d.key.as_str())).is_none_or(|d| d.keeps()), "newest verified");
        if !verified.is_empty() {
            prop_assert!(plan.kept().any(|d| verified.contains(d.key.as_str())), "something verified");
        }
        prop_assert!(plan.deletions().all(|d| d.taken_at <= now()), "future");
        let kept = good.iter().filter(|d| d.keeps()).count();
        prop_assert!(kept >= good.len().min(policy.at_least as usize), "floor");
        if good.is_empty() || policy.keeps_everything() {
            prop_assert_eq!(plan.deletions().count(), 0);
        }
    }

    #[test]
    fn what_something_kept_depends_on_is_kept(policy in some_policy(), history in some_history()) {
        let plan = policy.plan(&history, now());
        let kept = kept_keys(&plan);
        let all: BTreeMap<&str, &Candidate> = history.iter().map(|c| (c.key.as_str(), c)).collect();
        for key in &kept {
            for base in &all[key].depends_on {
                prop_assert!(kept.contains(base.as_str()) || !all.contains_key(base.as_str()), "{} needs {}", key, base);
            }
        }
        for decision in plan.decisions.iter().filter(|d| d.good) {
            prop_assert!(all[decision.key.as_str()].good);
        }
    }

    #[test]
    fn each_rule_keeps_what_it_says(policy in some_policy(), history in some_history()) {
        // Written anew, without the ledger: from the definition of each rule.
        let plan = policy.plan(&history, now());
        let good = past_good(&plan);
        for decision in plan.decisions.iter().filter(|d| d.taken_at <= now()) {
            let newer: Vec<&&Decision> = good.iter().take_while(|g| g.key != decision.key).collect();
            let within = policy.within.is_some_and(|age| decision.taken_at >= age.before(now()));
            prop_assert!(!within || decision.keeps(), "within: {}", decision);
            if !decision.good {
                continue;
            }
            let mut by_rule = within || newer.is_empty() || newer.len() < policy.last as usize;
            for (period, slots) in policy.periods() {
                let names: BTreeSet<String> = newer.iter().map(|d| period.name_of(d.taken_at)).collect();
                by_rule |= names.len() < slots as usize && !names.contains(&period.name_of(decision.taken_at));
            }
            prop_assert!(!by_rule || decision.keeps(), "{}", decision);
            // And nothing is kept for no reason: what no rule keeps is there by floor, proof, need, or as all is.
            if let (Action::Keep { reasons }, false) = (&decision.action, by_rule) {
                let other = |r: &Reason| matches!(r, Reason::NewestVerified | Reason::AtLeast { .. } | Reason::Fuller
                    | Reason::NeededBy { .. } | Reason::Everything);
                prop_assert!(reasons.iter().all(other), "{}", decision);
            }
        }
    }

    #[test]
    fn bad_ones_beside_the_good_ones_are_bounded(policy in some_policy(), history in some_history()) {
        let plan = policy.plan(&history, now());
        let count = |wanted: &dyn Fn(&Reason) -> bool| {
            let beside = |d: &&Decision| matches!(&d.action, Action::Keep { reasons } if reasons.iter().any(wanted));
            plan.kept().filter(beside).count()
        };
        let last = count(&|r| matches!(r, Reason::BadLast { .. }));
        prop_assert!(last <= policy.last as usize);
        for (period, slots) in policy.periods() {
            let beside = count(&|r| matches!(r, Reason::BadPeriod { rule, .. } if *rule == period));
            prop_assert!(beside <= slots as usize);
        }
    }

    #[test]
    fn order_does_not_matter((policy, history, mixed) in (some_policy(), some_history())
        .prop_flat_map(|(p, h)| (Just(p), Just(h.clone()), Just(h).prop_shuffle())))
    {
        prop_assert_eq!(policy.plan(&history, now()), policy.plan(&mixed, now()));
    }

    #[test]
    fn doing_all_or_part_of_it_and_planning_again_deletes_nothing_more(
        policy in some_policy(), history in some_history(), done in any::<u64>(),
    ) {
        let plan = policy.plan(&history, now());
        let kept = kept_keys(&plan);
        for done in [u64::MAX, done] {
            let left: Vec<Candidate> = history.iter().enumerate()
                .filter(|(i, c)| kept.contains(c.key.as_str()) || done & (1 << i) == 0)
                .map(|(_, c)| c.clone()).collect();
            let again = policy.plan(&left, now());
            for decision in again.deletions() {
                prop_assert!(!kept.contains(decision.key.as_str()), "{}", decision);
            }
        }
    }

    #[test]
    fn a_newer_failure_or_a_date_in_the_future_costs_no_good_one(
        policy in some_policy(), history in some_history(), ages in prop::collection::vec(some_ages(), 1..5),
    ) {
        let before = policy.plan(&history, now());
        let mut more = history.clone();
        more.extend(ages.iter().enumerate().map(|(i, &age)| {
            let added = Candidate::new(format!("added-{i}"), now() - SignedDuration::from_secs(age));
            let added = added.depends_on(history.get(i).map(|c| c.key.clone()));
            if age < 0 { added.verified(now()) } else { added.bad() }
        }));
        let after = policy.plan(&more, now());
        let kept = kept_keys(&after);
        // But for a base of a bad one: it goes when that one goes.
        let for_itself = |d: &&Decision| matches!(&d.action, Action::Keep { reasons }
            if d.good && reasons.iter().any(|r| !matches!(r, Reason::NeededBy { .. })));
        for decision in before.kept().filter(for_itself) {
            prop_assert!(kept.contains(decision.key.as_str()), "{}", decision);
        }
    }

    #[test]
    fn an_empty_or_smaller_one_costs_no_fuller_one(policy in some_policy(), history in some_history_with(0.5)) {
        let plan = policy.plan(&history, now());
        // Whatever needs a lesser one is as little worth.
        let mut less: BTreeSet<&str> = history.iter().filter(|c| c.less).map(|c| c.key.as_str()).collect();
        while history.iter().any(|c| c.depends_on.iter().any(|base| less.contains(base.as_str())) && less.insert(&c.key)) {}
        let kept = kept_keys(&plan);
        let good: BTreeSet<&str> = plan.decisions.iter().filter(|d| d.good).map(|d| d.key.as_str()).collect();
        // What is good and kept where there are none that hold less is kept where there are.
        let fuller: Vec<Candidate> = history.iter().filter(|c| !less.contains(c.key.as_str())).cloned().collect();
        // One that is only needed is kept with what needs it, as another property says: a bad one may go sooner.
        let by_itself = |d: &&Decision| match &d.action {
            Action::Keep { reasons } => reasons.iter().any(|reason| !matches!(reason, Reason::NeededBy { .. })),
            Action::Delete { .. } => false,
        };
        let without = policy.plan(&fuller, now());
        for decision in without.kept().filter(by_itself).filter(|d| good.contains(d.key.as_str())) {
            prop_assert!(kept.contains(decision.key.as_str()), "{}", decision);
        }
        let newest = past_good(&plan).into_iter().find(|d| !less.contains(d.key.as_str()));
        prop_assert!(newest.is_none_or(Decision::keeps), "newest fuller one");
        // And a lesser one goes no sooner than any other would.
        let as_any: Vec<Candidate> = history.iter().cloned().map(|c| Candidate { less: false, ..c }).collect();
        for decision in policy.plan(&as_any, now()).kept() {
            prop_assert!(kept.contains(decision.key.as_str()), "{}", decision);
        }
    }

    #[test]
    fn no_clock_costs_the_newest_good_one(
        policy in some_policy(), history in some_history(), clock in -4_000_000_000i64..20_000_000_000,
    ) {
        let clock = now() + SignedDuration::from_secs(clock);
        let plan = policy.plan(&history, clock);
        let newest = plan.decisions.iter().find(|d| d.good);
        prop_assert!(newest.is_none_or(Decision::keeps));
        let good = plan.decisions.iter().filter(|d| d.good);
        let kept = good.clone().filter(|d| d.keeps()).count();
        prop_assert!(kept >= good.count().min(policy.at_least as usize));
    }
}
