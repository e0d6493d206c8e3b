//! Random histories of series: chains, several needs, gaps, circles, logs that carry bases forward.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;

use super::*;

/// Age in seconds, good, verified, a base, and what it needs, each with whether that is one of the history.
type Drawn = (i64, bool, bool, bool, Vec<(usize, bool)>);

fn now() -> Timestamp {
    "2026-11-21T12:00:00Z".parse().unwrap()
}

/// Bases and increments. Each increment needs one to three others: mostly one before it, sometimes anything, or what is not
/// there. Some are bad, verified, dated in the future, or on the same second.
fn some_series() -> impl Strategy<Value = Vec<Candidate>> {
    let needs = prop::collection::vec((0usize..40, prop::bool::weighted(0.9)), 0..3);
    let age = prop_oneof![6 => (-2i64..60).prop_map(|days| days * 86_400), 3 => -100_000i64..5_000_000];
    let artifact = (age, prop::bool::weighted(0.85), prop::bool::weighted(0.2), prop::bool::weighted(0.3), needs);
    prop::collection::vec(artifact, 0..30).prop_map(|artifacts| {
        let count = artifacts.len().max(1);
        let of = |(i, (age, good, verified, is_base, needs)): (usize, Drawn)| {
            let key = |n: usize| format!("{:02}", n * 17 % 41);
            let mut made = Candidate::new(key(i), now() - SignedDuration::from_secs(age));
            made.good = good;
            // Nothing that is drawn is told by this.
            made.less = age % 7 == 3;
            made.verified_at = verified.then(now);
            if is_base {
                return made;
            }
            let chain = i.checked_sub(1).map(key).into_iter();
            let others = needs.into_iter().map(|(n, near)| if near { key(n % count) } else { key(n) });
            made.depends_on(chain.chain(others.filter(|_| i % 3 != 0)))
        };
        artifacts.into_iter().enumerate().map(of).collect()
    })
}

fn some_policy() -> impl Strategy<Value = Policy> {
    prop::sample::select(vec![
        "last=1",
        "last=3",
        "1d",
        "7d,at-least=3",
        "daily=3,weekly=2",
        "monthly=2,yearly=1",
        "last=2,at-least=4",
        "all",
    ])
    .prop_map(|text| text.parse().unwrap())
}

type Needs<'a> = BTreeMap<&'a str, &'a [String]>;

fn needs_of(history: &[Candidate]) -> Needs<'_> {
    history.iter().map(|c| (c.key.as_str(), c.depends_on.as_slice())).collect()
}

/// Everything that this one needs and that is there, itself with it. Written anew, without the ledger.
fn closure<'a>(needs: &Needs<'a>, key: &'a str) -> BTreeSet<&'a str> {
    let (mut found, mut open) = (BTreeSet::new(), vec![key]);
    while let Some(key) = open.pop() {
        if needs.contains_key(key) && found.insert(key) {
            open.extend(needs[key].iter().map(String::as_str));
        }
    }
    found
}

/// Whether this one can be restored: all that it needs is there and good, and nothing needs itself.
fn restores(history: &[Candidate], needs: &Needs<'_>, key: &str) -> bool {
    let Some(candidate) = history.iter().find(|c| c.key == key) else { return false };
    let all = closure(needs, &candidate.key);
    all.iter().all(|key| {
        let of = history.iter().find(|c| c.key == *key).unwrap();
        let circular = of.depends_on.iter().any(|n| needs.contains_key(n.as_str()) && closure(needs, n).contains(key));
        of.good && !circular && of.depends_on.iter().all(|n| needs.contains_key(n.as_str()))
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn nothing_kept_ever_loses_what_it_needs(policy in some_policy(), history in some_series()) {
        let plan = policy.plan(&history, now());
        let needs = needs_of(&history);
        let kept: BTreeSet<&str> = plan.kept().map(|d| d.key.as_str()).collect();
        for key in &kept {
            for needed in closure(&needs, key) {
                prop_assert!(kept.contains(needed), "{} needs {}", key, needed);
            }
        }
    }

    #[test]
    fn what_counts_as_good_can_be_restored_and_nothing_else(policy in some_policy(), history in some_series()) {
        let needs = needs_of(&history);
        for decision in &policy.plan(&history, now()).decisions {
            prop_assert_eq!(decision.good, restores(&history, &needs, &decision.key), "{}", decision.key);
        }
    }

    #[test]
    fn deleting_any_beginning_of_the_plan_leaves_nothing_without_its_base(policy in some_policy(), history in some_series()) {
        let plan = policy.plan(&history, now());
        let needs = needs_of(&history);
        let circular = |key: &str| needs[key].iter().any(|n| needs.contains_key(n.as_str()) && closure(&needs, n).contains(key));
        let order: Vec<&str> = plan.deletions().map(|d| d.key.as_str()).collect();
        prop_assert_eq!(order.iter().collect::<BTreeSet<_>>().len(), order.len());
        prop_assert_eq!(order.len(), plan.decisions.iter().filter(|d| !d.keeps()).count());
        let mut gone: BTreeSet<&str> = BTreeSet::new();
        for key in &order {
            gone.insert(key);
            for (left, its) in needs.iter().filter(|(left, _)| !gone.contains(*left)) {
                // What needs itself has no right place, and can be restored neither before nor after.
                let in_circle = closure(&needs, left).iter().any(|key| circular(key));
                prop_assert!(in_circle || its.iter().all(|n| !gone.contains(n.as_str())), "{} has lost its base", left);
            }
        }
    }

    #[test]
    fn doing_a_beginning_and_planning_again_deletes_nothing_more(
        policy in some_policy(), history in some_series(), done in 0usize..30,
    ) {
        let plan = policy.plan(&history, now());
        let kept: BTreeSet<&str> = plan.kept().map(|d| d.key.as_str()).collect();
        let gone: BTreeSet<&str> = plan.deletions().take(done).map(|d| d.key.as_str()).collect();
        let left: Vec<Candidate> = history.iter().filter(|c| !gone.contains(c.key.as_str())).cloned().collect();
        for decision in policy.plan(&left, now()).deletions() {
            prop_assert!(!kept.contains(decision.key.as_str()), "{}", decision);
        }
    }

    #[test]
    fn an_unknown_object_stops_deletion(policy in some_policy(), history in some_series(), at in 0usize..30) {
        prop_assume!(!history.is_empty());
        let mut history = history;
        let at = at % history.len();
        history[at] = history[at].clone().beside(["x.hold.json"]);
        let plan = policy.plan(&history, now());
        prop_assert_eq!(plan.deletions().count(), 0);
        let unknown = Reason::Unknown { object: "x.hold.json".to_owned() };
        for decision in &plan.decisions {
            prop_assert!(matches!(&decision.action, Action::Keep { reasons } if reasons.contains(&unknown)), "{}", decision);
        }
    }
}
