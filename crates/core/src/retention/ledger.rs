//! How decisions are made. Artifacts are positions and reasons are small causes; they become keys and words only for
//! display.
//!
//! Memory: two bytes per artifact, twelve per reason, and about 40 more for an artifact that needs others.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use jiff::Timestamp;

use super::order;
use super::plan::{Action, Candidate, Decision, DeleteReason, Plan, Reason, Warning};
use super::policy::{Period, Policy};

mod fuller;

/// The properties of an artifact that the rules use.
pub(crate) trait Subject {
    /// When it was taken.
    fn taken_at(&self) -> Timestamp;
    /// Whether it is good by itself.
    fn is_good(&self) -> bool;
    /// Whether it is empty, or much smaller than its predecessors.
    fn holds_less(&self) -> bool;
    /// Whether a verification that counts has passed.
    fn is_verified(&self) -> bool;
}

impl Subject for Candidate {
    fn taken_at(&self) -> Timestamp {
        self.taken_at
    }

    fn is_good(&self) -> bool {
        self.good
    }

    fn holds_less(&self) -> bool {
        self.less
    }

    fn is_verified(&self) -> bool {
        self.verified_at.is_some()
    }
}

/// A [`Reason`] without what the policy and the artifact already say.
#[derive(Clone, Copy, Debug)]
enum Cause {
    Everything,
    Future,
    NewestGood,
    NewestVerified,
    Fuller,
    NothingGood,
    Within,
    Last { slot: u32 },
    Period { rule: Period, slot: u32 },
    BadLast,
    BadPeriod { rule: Period },
    AtLeast,
    NeededBy { position: u32 },
    Unfinished { number: u32 },
    Unknown,
}

/// The decisions. Artifacts are identified by position.
#[derive(Debug)]
pub(crate) struct Verdicts {
    policy: Policy,
    good: Vec<bool>,
    /// What keeps each artifact, ordered by position. Artifacts without a cause are deleted.
    causes: Vec<(u32, Cause)>,
    warnings: Vec<Warning>,
    ties: Ties,
    /// The artifacts to delete, dependents before what they need, and where each next level begins.
    order: Vec<u32>,
    levels: Vec<usize>,
}

/// The dependencies between artifacts, which are identified by position.
#[derive(Debug, Default)]
pub(crate) struct Ties {
    /// For each artifact that needs others: the positions of those that exist.
    pub(crate) needs: BTreeMap<usize, Vec<usize>>,
    /// Artifacts with a missing dependency, and the key of that dependency.
    pub(crate) missing: Vec<(usize, String)>,
    /// Artifacts needed by a backup that is still being written, and that backup's key.
    pub(crate) awaited: Vec<(usize, String)>,
    /// Keys of the dataset's objects that this version does not recognize.
    pub(crate) unknown: Vec<String>,
}

impl Verdicts {
    pub(crate) fn warnings(&self) -> &[Warning] {
        &self.warnings
    }

    /// Whether the artifact counts as good.
    pub(crate) fn is_good(&self, i: usize) -> bool {
        self.good[i]
    }

    pub(crate) fn keeps(&self, i: usize) -> bool {
        !self.causes_of(i).is_empty()
    }

    /// The number of artifacts kept.
    pub(crate) fn kept(&self) -> usize {
        self.causes.chunk_by(|a, b| a.0 == b.0).count()
    }

    /// The positions of the artifacts to delete, level by level: no artifact is needed by another of its own or a later
    /// level. Newest first within a level.
    pub(crate) fn deletions(&self) -> impl Iterator<Item = &[u32]> {
        let ends = self.levels.iter().copied().skip(1).chain([self.order.len()]);
        self.levels.iter().zip(ends).map(|(&from, to)| &self.order[from..to])
    }

    /// The direct dependencies of an artifact.
    pub(crate) fn needs_of(&self, i: usize) -> &[usize] {
        self.ties.needs.get(&i).map_or(&[], Vec::as_slice)
    }

    fn causes_of(&self, i: usize) -> &[(u32, Cause)] {
        let i = narrow(i);
        let begin = self.causes.partition_point(|(of, _)| *of < i);
        let rest = &self.causes[begin..];
        &rest[..rest.partition_point(|(of, _)| *of == i)]
    }

    /// The action for the artifact at position `i`, taken at `taken_at`. `key_of` maps a position to a key.
    pub(crate) fn action(&self, i: usize, taken_at: Timestamp, key_of: impl Fn(usize) -> String) -> Action {
        let causes = self.causes_of(i);
        if !causes.is_empty() {
            let reasons = causes.iter().map(|(_, cause)| self.reason(*cause, taken_at, &key_of)).collect();
            return Action::Keep { reasons };
        }
        let reason = match self.policy.within {
            age if !self.good[i] => DeleteReason::Bad { age },
            Some(age) => DeleteReason::OlderThan { age },
            None => DeleteReason::NoRule,
        };
        Action::Delete { reason }
    }

    fn reason(&self, cause: Cause, taken_at: Timestamp, key_of: impl Fn(usize) -> String) -> Reason {
        let policy = &self.policy;
        let slots = |rule| policy.periods().into_iter().find(|(period, _)| *period == rule).map_or(0, |(_, of)| of);
        match cause {
            Cause::Everything => Reason::Everything,
            Cause::Future => Reason::Future,
            Cause::NewestGood => Reason::NewestGood,
            Cause::NewestVerified => Reason::NewestVerified,
            Cause::Fuller => Reason::Fuller,
            Cause::NothingGood => Reason::NothingGood,
            Cause::Within => policy.within.map_or(Reason::Everything, |age| Reason::Within { age }),
            Cause::Last { slot } => Reason::Last { slot, of: policy.last },
            Cause::Period { rule, slot } => {
                Reason::Period { rule, slot, of: slots(rule), period: rule.name_of(taken_at) }
            }
            Cause::BadLast => Reason::BadLast { of: policy.last },
            Cause::BadPeriod { rule } => Reason::BadPeriod { rule, period: rule.name_of(taken_at) },
            Cause::AtLeast => Reason::AtLeast { floor: policy.at_least },
            Cause::NeededBy { position } => Reason::NeededBy { key: key_of(wide(position)) },
            Cause::Unfinished { number } => {
                Reason::NeededByUnfinished { key: self.ties.awaited[wide(number)].1.clone() }
            }
            Cause::Unknown => Reason::Unknown { object: self.ties.unknown.first().cloned().unwrap_or_default() },
        }
    }
}

/// The plan for `candidates` under `policy`: [`Policy::plan`].
pub(super) fn plan(policy: &Policy, candidates: &[Candidate], now: Timestamp) -> Plan {
    let artifacts = merge(candidates);
    let position: HashMap<&str, usize> = artifacts.iter().enumerate().map(|(i, a)| (a.key.as_str(), i)).collect();
    let mut ties = Ties::default();
    for (i, artifact) in artifacts.iter().enumerate() {
        ties.unknown.extend(artifact.unknown.iter().cloned());
        for key in &artifact.depends_on {
            match position.get(key.as_str()) {
                Some(&base) => ties.needs.entry(i).or_default().push(base),
                None => ties.missing.push((i, key.clone())),
            }
        }
    }
    let verdicts = decide(policy, &artifacts, now, ties, |i| artifacts[i].key.clone());
    let order = verdicts.order.iter().map(|&i| wide(i)).collect();
    let action = |i: usize| verdicts.action(i, artifacts[i].taken_at, |other| artifacts[other].key.clone());
    let actions: Vec<Action> = (0..artifacts.len()).map(action).collect();
    let decisions = artifacts.into_iter().zip(&verdicts.good).zip(actions).map(|((artifact, &good), action)| {
        debug_assert!(matches!(action, Action::Keep { .. }) || artifact.taken_at <= now);
        Decision { key: artifact.key, taken_at: artifact.taken_at, good, action }
    });
    Plan { decisions: decisions.collect(), warnings: verdicts.warnings, order }
}

/// Decides about artifacts. They must be unique and sorted newest first, by key within a second. `key_of` maps a
/// position to a key, for warnings.
pub(crate) fn decide<S: Subject>(
    policy: &Policy,
    artifacts: &[S],
    now: Timestamp,
    ties: Ties,
    key_of: impl Fn(usize) -> String,
) -> Verdicts {
    debug_assert!(artifacts.is_sorted_by_key(|a| Reverse(a.taken_at())));
    let mut ledger = Ledger::open(artifacts, now, ties);
    ledger.spoil(&key_of);
    ledger.close(policy, now, &key_of)
}

pub(super) fn narrow(i: usize) -> u32 {
    u32::try_from(i).expect("a dataset has fewer than four billion artifacts")
}

pub(super) fn wide(i: u32) -> usize {
    usize::try_from(i).expect("a position fits")
}

/// The artifacts, newest first, and the causes found so far to keep each. Artifacts are identified by position.
struct Ledger<'a, S> {
    artifacts: &'a [S],
    ties: Ties,
    good: Vec<bool>,
    /// Empty or much smaller than its predecessors, or based on an artifact that is.
    less: Vec<bool>,
    causes: Vec<(u32, Cause)>,
    /// Kept for its causes, or because something kept needs it.
    kept: Vec<bool>,
    /// The position of the first artifact not dated in the future. Only artifacts from there on can be deleted or fill
    /// a slot.
    past: usize,
    warnings: Vec<Warning>,
}

impl<'a, S: Subject> Ledger<'a, S> {
    fn open(artifacts: &'a [S], now: Timestamp, ties: Ties) -> Self {
        Self {
            artifacts,
            ties,
            good: artifacts.iter().map(Subject::is_good).collect(),
            less: artifacts.iter().map(Subject::holds_less).collect(),
            causes: Vec::new(),
            kept: vec![false; artifacts.len()],
            past: artifacts.partition_point(|a| a.taken_at() > now),
            warnings: Vec::new(),
        }
    }

    /// A chain is as good as its worst link. A chain with a gap or a cycle is bad.
    fn spoil(&mut self, key_of: &impl Fn(usize) -> String) {
        let mut spoiled: Vec<usize> = (0..self.artifacts.len()).filter(|&i| !self.good[i]).collect();
        for (i, missing) in &self.ties.missing {
            self.good[*i] = false;
            spoiled.push(*i);
            self.warnings.push(Warning::MissingDependency { key: key_of(*i), missing: missing.clone() });
        }
        if self.ties.needs.is_empty() {
            return;
        }
        for i in order::in_circles(&self.ties.needs) {
            self.good[i] = false;
            spoiled.push(i);
            self.warnings.push(Warning::CircularDependency { key: key_of(i) });
        }
        let mut needed_by: HashMap<usize, Vec<usize>> = HashMap::new();
        for (&above, bases) in &self.ties.needs {
            for &base in bases {
                needed_by.entry(base).or_default().push(above);
            }
        }
        while let Some(i) = spoiled.pop() {
            for &above in needed_by.get(&i).into_iter().flatten() {
                if std::mem::replace(&mut self.good[above], false) {
                    spoiled.push(above);
                }
            }
        }
        self.spread_less(&needed_by);
    }

    fn close(mut self, policy: &Policy, now: Timestamp, key_of: &impl Fn(usize) -> String) -> Verdicts {
        let fuller = self.fuller_ones(policy, now);
        self.warn_of_less(key_of);
        self.apply_rules(policy, now);
        for i in fuller {
            if !self.kept[i] {
                self.keep(i, Cause::Fuller);
            }
        }
        self.keep_bases(|_, _| true);
        self.name_needs();
        self.keep_what_is_not_known();
        // A stable sort: each artifact's causes stay in the order in which they were found.
        self.causes.sort_by_key(|(i, _)| *i);
        let (order, levels) = order::deletions(&self.kept, &self.ties.needs);
        let Self { good, causes, warnings, ties, .. } = self;
        Verdicts { policy: *policy, good, causes, warnings, ties, order, levels }
    }

    fn apply_rules(&mut self, policy: &Policy, now: Timestamp) {
        self.protect(policy);
        self.apply_age(policy, now);
        self.apply_last(policy.last);
        for (period, slots) in policy.periods() {
            self.apply_period(period, slots);
        }
        // Good artifacts first: what the floor adds must not depend on what bad or future-dated ones keep.
        self.keep_bases(|ledger, i| i >= ledger.past && ledger.good[i]);
        self.apply_floor(policy.at_least);
    }

    /// Keeps everything beside an unrecognized object: whoever wrote that object may rely on any of it.
    fn keep_what_is_not_known(&mut self) {
        let Some(object) = self.ties.unknown.first().cloned() else { return };
        self.warnings.push(Warning::Unknown { object, count: self.ties.unknown.len() });
        (0..self.artifacts.len()).for_each(|i| self.keep(i, Cause::Unknown));
    }

    fn keep(&mut self, i: usize, cause: Cause) {
        self.causes.push((narrow(i), cause));
        self.kept[i] = true;
    }

    /// The positions of artifacts not dated in the future, newest first.
    fn past(&self) -> std::ops::Range<usize> {
        self.past..self.artifacts.len()
    }

    /// The positions of good artifacts not dated in the future, newest first.
    fn past_good(&self) -> impl Iterator<Item = usize> {
        self.past().filter(|&i| self.good[i])
    }

    /// Keeps what no policy can delete.
    fn protect(&mut self, policy: &Policy) {
        let total = self.artifacts.len();
        if policy.keeps_everything() {
            (0..total).for_each(|i| self.keep(i, Cause::Everything));
        }
        if self.past > 0 {
            (0..self.past).for_each(|i| self.keep(i, Cause::Future));
            self.warnings.push(Warning::Future { count: self.past, total });
        }
        let newest_good = self.past_good().next();
        match newest_good {
            Some(newest) => self.keep(newest, Cause::NewestGood),
            None => {
                self.past().for_each(|i| self.keep(i, Cause::NothingGood));
                // When all are dated in the future, the warning about that is enough.
                if self.past < total {
                    self.warnings.push(Warning::NothingGood { total });
                }
            }
        }
        let verified = |i: &usize| self.artifacts[*i].is_verified();
        let newest_verified = self.past_good().find(verified).or_else(|| self.past().find(verified));
        if let Some(newest) = newest_verified {
            self.keep(newest, Cause::NewestVerified);
        }
        for number in 0..self.ties.awaited.len() {
            self.keep(self.ties.awaited[number].0, Cause::Unfinished { number: narrow(number) });
        }
    }

    fn apply_age(&mut self, policy: &Policy, now: Timestamp) {
        let Some(age) = policy.within else { return };
        let oldest = age.before(now);
        for i in self.past() {
            if self.artifacts[i].taken_at() < oldest {
                break;
            }
            self.keep(i, Cause::Within);
        }
        let newest = self.past_good().next();
        if let Some(newest) = newest {
            let newest_good = self.artifacts[newest].taken_at();
            if newest_good < oldest {
                let days = now.duration_since(newest_good).as_hours() / 24;
                self.warnings.push(Warning::Stale { age, newest_good, days });
            }
        }
    }

    fn apply_last(&mut self, of: u32) {
        let mut slot = 0;
        for (rank, i) in (0u64..).zip(self.past()) {
            if slot == of {
                break;
            }
            if self.good[i] {
                slot += 1;
                self.keep(i, Cause::Last { slot });
            } else if rank < u64::from(of) {
                self.keep(i, Cause::BadLast);
            }
        }
    }

    fn apply_period(&mut self, rule: Period, of: u32) {
        if of == 0 {
            return;
        }
        // Newest first, so the artifacts of a period are adjacent.
        let (mut slot, mut rank) = (0, 0u64);
        let mut next = self.past;
        while next < self.artifacts.len() && slot < of {
            let (newest, name) = (next, rule.name_of(self.artifacts[next].taken_at()));
            let mut best = None;
            while next < self.artifacts.len() && rule.name_of(self.artifacts[next].taken_at()) == name {
                best = best.or(self.good[next].then_some(next));
                next += 1;
            }
            match best {
                Some(best) => {
                    slot += 1;
                    self.keep(best, Cause::Period { rule, slot });
                }
                None if rank < u64::from(of) => self.keep(newest, Cause::BadPeriod { rule }),
                None => {}
            }
            rank += 1;
        }
    }

    /// Keeps everything that kept artifacts selected by `from` need, directly or not.
    fn keep_bases(&mut self, from: impl Fn(&Self, usize) -> bool) {
        let chosen = self.ties.needs.keys().copied().filter(|&i| self.kept[i] && from(self, i)).collect();
        self.keep_bases_of(chosen);
    }

    /// Keeps what these artifacts need, directly or not. Returns how many newly kept ones are good and not dated in the
    /// future.
    fn keep_bases_of(&mut self, mut open: Vec<usize>) -> usize {
        let mut added = 0;
        while let Some(i) = open.pop() {
            for &base in self.ties.needs.get(&i).into_iter().flatten() {
                if !std::mem::replace(&mut self.kept[base], true) {
                    added += usize::from(base >= self.past && self.good[base]);
                    open.push(base);
                }
            }
        }
        added
    }

    /// Keeps the newest good artifacts that nothing else keeps until the floor is reached.
    fn apply_floor(&mut self, floor: u32) {
        let enough = usize::try_from(floor).unwrap_or(usize::MAX);
        let mut count = self.past_good().filter(|&i| self.kept[i]).count();
        for i in self.past() {
            if count >= enough {
                return;
            }
            if self.good[i] && !self.kept[i] {
                self.keep(i, Cause::AtLeast);
                count += 1 + self.keep_bases_of(vec![i]);
            }
        }
    }

    /// Records, for each artifact needed by a kept one, the newest such dependent.
    fn name_needs(&mut self) {
        let mut named = BTreeSet::new();
        for (&i, bases) in self.ties.needs.iter().filter(|(i, _)| self.kept[**i]) {
            for &base in bases.iter().filter(|&&base| base != i) {
                if named.insert(base) {
                    self.causes.push((narrow(base), Cause::NeededBy { position: narrow(i) }));
                }
            }
        }
    }
}

/// Merges candidates with the same key. Newest first, by key within a second.
fn merge(candidates: &[Candidate]) -> Vec<Candidate> {
    let mut by_key: BTreeMap<&str, Candidate> = BTreeMap::new();
    for candidate in candidates {
        by_key
            .entry(&candidate.key)
            .and_modify(|known| {
                known.taken_at = known.taken_at.max(candidate.taken_at);
                known.good &= candidate.good;
                known.less |= candidate.less;
                known.verified_at = known.verified_at.max(candidate.verified_at);
                known.depends_on.extend_from_slice(&candidate.depends_on);
                known.unknown.extend_from_slice(&candidate.unknown);
            })
            .or_insert_with(|| candidate.clone());
    }
    let mut artifacts: Vec<Candidate> = by_key.into_values().collect();
    for artifact in &mut artifacts {
        let unique: BTreeSet<String> = artifact.depends_on.drain(..).collect();
        artifact.depends_on.extend(unique);
    }
    // They are already sorted by key, and this sort is stable.
    artifacts.sort_by_key(|a| Reverse(a.taken_at));
    artifacts
}
