//! The decision about each artifact, and its reasons.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;

use jiff::Timestamp;
use serde::Serialize;

use super::policy::{Age, Period, Policy};

/// What retention needs to know of an artifact.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Candidate {
    /// Its key, which names it in the plan and in others' `depends_on`.
    pub key: String,
    /// When it was taken: the time in its name.
    pub taken_at: Timestamp,
    /// Complete (it has its manifest, or is a foreign object), and no failed verification is newer than every passed one.
    pub good: bool,
    /// When a verification last passed, at level `structure` or above.
    pub verified_at: Option<Timestamp>,
    /// The keys of the artifacts without which it cannot be restored: the base of an incremental one.
    pub depends_on: Vec<String>,
}

impl Candidate {
    /// A good artifact that was never verified and depends on no other.
    pub fn new(key: impl Into<String>, taken_at: Timestamp) -> Self {
        Self { key: key.into(), taken_at, good: true, verified_at: None, depends_on: Vec::new() }
    }

    /// Marks it as known to be bad.
    #[must_use]
    pub fn bad(mut self) -> Self {
        self.good = false;
        self
    }

    /// Says when a verification last passed.
    #[must_use]
    pub fn verified(mut self, at: Timestamp) -> Self {
        self.verified_at = Some(at);
        self
    }

    /// Adds artifacts that it depends on, by key.
    #[must_use]
    pub fn depends_on<K: Into<String>>(mut self, keys: impl IntoIterator<Item = K>) -> Self {
        self.depends_on.extend(keys.into_iter().map(Into::into));
        self
    }
}

/// What is to be done with each artifact, and what a person should know before it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Plan {
    /// One decision for each key, newest first.
    pub decisions: Vec<Decision>,
    /// Signs that something is wrong with the backups or the clock. The plan is safe to execute all the same.
    pub warnings: Vec<Warning>,
}

impl Plan {
    /// What is to be deleted, newest first: an incremental artifact goes before its base, so that an interrupted run leaves
    /// none without.
    pub fn deletions(&self) -> impl Iterator<Item = &Decision> {
        self.decisions.iter().filter(|d| !d.keeps())
    }

    /// What is kept, newest first.
    pub fn kept(&self) -> impl Iterator<Item = &Decision> {
        self.decisions.iter().filter(|d| d.keeps())
    }
}

/// The decision about one artifact. `Display` writes it as one line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Decision {
    /// The artifact's key.
    pub key: String,
    /// When it was taken.
    pub taken_at: Timestamp,
    /// Whether it counts as good: the candidate was, and so is all that it depends on.
    pub good: bool,
    /// What is to be done.
    #[serde(flatten)]
    pub action: Action,
}

impl Decision {
    /// Whether the artifact is kept.
    pub fn keeps(&self) -> bool {
        matches!(self.action, Action::Keep { .. })
    }

    /// The reason or reasons, in words, joined by commas.
    pub fn why(&self) -> String {
        match &self.action {
            Action::Keep { reasons } => reasons.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
            Action::Delete { reason } => reason.to_string(),
        }
    }
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = if self.keeps() { "keep" } else { "delete" };
        write!(f, "{verb} {}: {}", self.key, self.why())
    }
}

/// Keep or delete, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "action", rename_all = "lowercase")]
pub enum Action {
    /// It stays.
    Keep {
        /// Everything that keeps it. Never empty.
        reasons: Vec<Reason>,
    },
    /// It goes.
    Delete {
        /// Why nothing keeps it.
        reason: DeleteReason,
    },
}

/// Why an artifact is kept. `Display` writes it for a table.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(tag = "reason", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Reason {
    /// The policy has no rule.
    Everything,
    /// Taken after now.
    Future,
    /// The newest good artifact.
    NewestGood,
    /// The newest artifact that was verified.
    NewestVerified,
    /// No good artifact exists, so nothing is deleted.
    NothingGood,
    /// Not older than the age rule.
    Within {
        /// The age rule.
        age: Age,
    },
    /// One of the last good ones.
    Last {
        /// Its place, from 1, the newest.
        slot: u32,
        /// How many are kept.
        of: u32,
    },
    /// The newest good one of its hour, day, week, month or year.
    Period {
        /// The rule.
        rule: Period,
        /// The place of its period, from 1, the newest.
        slot: u32,
        /// How many periods are kept.
        of: u32,
        /// The period, as [`Period::name_of`] writes it.
        period: String,
    },
    /// Bad, but among the last ones, bad ones included. Takes no slot.
    BadLast {
        /// How many are kept.
        of: u32,
    },
    /// Bad, but the newest of a period in which nothing is good. Takes no slot.
    BadPeriod {
        /// The rule.
        rule: Period,
        /// The period, as [`Period::name_of`] writes it.
        period: String,
    },
    /// The other rules kept fewer good ones than the floor.
    AtLeast {
        /// The floor.
        floor: u32,
    },
    /// Something that is kept depends on it.
    NeededBy {
        /// The newest that does.
        key: String,
    },
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Everything => f.write_str("the policy keeps everything"),
            Self::Future => f.write_str("dated in the future"),
            Self::NewestGood => f.write_str("newest good"),
            Self::NewestVerified => f.write_str("newest verified"),
            Self::NothingGood => f.write_str("nothing good exists"),
            Self::Within { age } => write!(f, "within {}", age.in_words()),
            Self::Last { slot, of } => write!(f, "last {slot}/{of}"),
            Self::Period { rule, slot, of, period } => write!(f, "{rule} {slot}/{of} ({period})"),
            Self::BadLast { of } => write!(f, "bad, but among the last {of}"),
            Self::BadPeriod { rule, period } => write!(f, "bad, but nothing is good in {period} ({rule})"),
            Self::AtLeast { floor } => write!(f, "at least {floor}"),
            Self::NeededBy { key } => write!(f, "needed by {key}"),
        }
    }
}

/// Why an artifact is deleted. `Display` writes it for a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(tag = "reason", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum DeleteReason {
    /// Older than the age rule, and nothing else keeps it.
    OlderThan {
        /// The age rule.
        age: Age,
    },
    /// There is no age rule, and nothing keeps it.
    NoRule,
    /// Bad, and nothing keeps it.
    Bad {
        /// The age rule, if there is one: it is older.
        age: Option<Age>,
    },
}

impl fmt::Display for DeleteReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OlderThan { age } => write!(f, "older than {}, and no rule keeps it", age.in_words()),
            Self::NoRule => f.write_str("no rule keeps it"),
            Self::Bad { age: Some(age) } => write!(f, "bad, older than {}, and no rule keeps it", age.in_words()),
            Self::Bad { age: None } => f.write_str("bad, and no rule keeps it"),
        }
    }
}

/// What a person should know of before a plan is executed. `Display` writes it as a sentence.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(tag = "warning", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Warning {
    /// Artifacts are dated after now: this machine's clock is slow, or the one that wrote them was fast.
    Future {
        /// How many.
        count: usize,
        /// Of how many.
        total: usize,
    },
    /// Every good artifact that is not dated in the future is older than the age rule: backups have stopped, or this
    /// machine's clock is fast.
    Stale {
        /// The age rule.
        age: Age,
        /// When the newest good one was taken.
        newest_good: Timestamp,
        /// Whole days since then.
        days: i64,
    },
    /// There are artifacts, but none that is good and not dated in the future.
    NothingGood {
        /// How many there are.
        total: usize,
    },
    /// An artifact depends on one that is not there. It cannot be restored and counts as bad.
    MissingDependency {
        /// The artifact.
        key: String,
        /// What it depends on.
        missing: String,
    },
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Future { count, total } => {
                let verb = if *count == 1 { "is" } else { "are" };
                let noun = if *total == 1 { "artifact" } else { "artifacts" };
                write!(f, "{count} of {total} {noun} {verb} dated in the future: is this machine's clock right?")
            }
            Self::Stale { age, newest_good, days } => write!(
                f,
                "every good artifact is older than {}: no good backup has been made for {days} days, since {newest_good}; \
                 is this machine's clock right?",
                age.in_words()
            ),
            Self::NothingGood { total } => {
                let noun = if *total == 1 { "artifact" } else { "artifacts" };
                write!(f, "no good artifact among {total} {noun}: nothing is deleted")
            }
            Self::MissingDependency { key, missing } => {
                write!(f, "{key} cannot be restored: it depends on {missing}, which is not there")
            }
        }
    }
}

/// The plan for `candidates` under `policy`: [`Policy::plan`].
pub(super) fn decide(policy: &Policy, candidates: &[Candidate], now: Timestamp) -> Plan {
    let mut ledger = Ledger::open(candidates, now);
    ledger.protect(policy);
    ledger.apply_age(policy, now);
    ledger.apply_last(policy.last);
    for (period, slots) in policy.periods() {
        ledger.apply_period(period, slots);
    }
    // The good ones first: what the floor adds to them must not depend on what bad ones and wrong clocks hold.
    ledger.keep_bases(|ledger, i| i >= ledger.past && ledger.good[i]);
    ledger.apply_floor(policy.at_least);
    ledger.keep_bases(|_, _| true);
    ledger.close(policy, now)
}

/// The artifacts, newest first, and what has been found to keep each. An artifact is its position.
struct Ledger {
    artifacts: Vec<Candidate>,
    /// Of each artifact: what it depends on and is there.
    needs: Vec<Vec<usize>>,
    good: Vec<bool>,
    reasons: Vec<Vec<Reason>>,
    /// Kept for its reasons, or because something kept needs it.
    kept: Vec<bool>,
    /// Where the artifacts that are not dated in the future begin. Only they can be deleted or fill a slot.
    past: usize,
    warnings: Vec<Warning>,
}

impl Ledger {
    fn open(candidates: &[Candidate], now: Timestamp) -> Self {
        let artifacts = merge(candidates);
        let count = artifacts.len();
        let position: HashMap<&str, usize> = artifacts.iter().enumerate().map(|(i, a)| (a.key.as_str(), i)).collect();
        let mut warnings = Vec::new();
        let mut needs = vec![Vec::new(); count];
        let mut needed_by = vec![Vec::new(); count];
        let mut good: Vec<bool> = artifacts.iter().map(|a| a.good).collect();
        for (i, artifact) in artifacts.iter().enumerate() {
            for key in &artifact.depends_on {
                if let Some(&base) = position.get(key.as_str()) {
                    needs[i].push(base);
                    needed_by[base].push(i);
                } else {
                    good[i] = false;
                    warnings.push(Warning::MissingDependency { key: artifact.key.clone(), missing: key.clone() });
                }
            }
        }
        // A chain is as good as its worst link.
        let mut spoiled: Vec<usize> = (0..count).filter(|&i| !good[i]).collect();
        while let Some(i) = spoiled.pop() {
            for &above in &needed_by[i] {
                if std::mem::replace(&mut good[above], false) {
                    spoiled.push(above);
                }
            }
        }
        let past = artifacts.partition_point(|a| a.taken_at > now);
        Self { artifacts, needs, good, reasons: vec![Vec::new(); count], kept: vec![false; count], past, warnings }
    }

    fn keep(&mut self, i: usize, reason: Reason) {
        self.reasons[i].push(reason);
        self.kept[i] = true;
    }

    /// Those not dated in the future, newest first.
    fn past(&self) -> std::ops::Range<usize> {
        self.past..self.artifacts.len()
    }

    /// The good ones among them, newest first.
    fn past_good(&self) -> Vec<usize> {
        self.past().filter(|&i| self.good[i]).collect()
    }

    /// What is kept whatever the rules are.
    fn protect(&mut self, policy: &Policy) {
        let total = self.artifacts.len();
        if policy.keeps_everything() {
            (0..total).for_each(|i| self.keep(i, Reason::Everything));
        }
        if self.past > 0 {
            (0..self.past).for_each(|i| self.keep(i, Reason::Future));
            self.warnings.push(Warning::Future { count: self.past, total });
        }
        let good = self.past_good();
        match good.first() {
            Some(&newest) => self.keep(newest, Reason::NewestGood),
            None => {
                self.past().for_each(|i| self.keep(i, Reason::NothingGood));
                // Where all are dated in the future, that warning says what is the matter.
                if self.past < total {
                    self.warnings.push(Warning::NothingGood { total });
                }
            }
        }
        let verified = |i: &usize| self.artifacts[*i].verified_at.is_some();
        if let Some(newest) = good.into_iter().find(verified).or_else(|| self.past().find(verified)) {
            self.keep(newest, Reason::NewestVerified);
        }
    }

    fn apply_age(&mut self, policy: &Policy, now: Timestamp) {
        let Some(age) = policy.within else { return };
        let oldest = age.before(now);
        for i in self.past().take_while(|&i| self.artifacts[i].taken_at >= oldest).collect::<Vec<_>>() {
            self.keep(i, Reason::Within { age });
        }
        if let Some(&newest) = self.past_good().first() {
            let newest_good = self.artifacts[newest].taken_at;
            if newest_good < oldest {
                let days = now.duration_since(newest_good).as_hours() / 24;
                self.warnings.push(Warning::Stale { age, newest_good, days });
            }
        }
    }

    fn apply_last(&mut self, of: u32) {
        for (slot, i) in (1..=of).zip(self.past_good()) {
            self.keep(i, Reason::Last { slot, of });
        }
        for (_, i) in (0..of).zip(self.past()).filter(|(_, i)| !self.good[*i]).collect::<Vec<_>>() {
            self.keep(i, Reason::BadLast { of });
        }
    }

    fn apply_period(&mut self, rule: Period, of: u32) {
        if of == 0 {
            return;
        }
        // Newest first, so the artifacts of a period stand together.
        let mut periods: Vec<(String, usize, Option<usize>)> = Vec::new();
        for i in self.past() {
            let name = rule.name_of(self.artifacts[i].taken_at);
            let good = self.good[i].then_some(i);
            match periods.last_mut() {
                Some((current, _, best)) if *current == name => *best = best.or(good),
                _ => periods.push((name, i, good)),
            }
        }
        let mut slot = 0;
        for (rank, (period, newest, best)) in (0u64..).zip(periods) {
            match best {
                Some(best) if slot < of => {
                    slot += 1;
                    self.keep(best, Reason::Period { rule, slot, of, period });
                }
                None if rank < u64::from(of) => self.keep(newest, Reason::BadPeriod { rule, period }),
                _ => {}
            }
        }
    }

    /// Keeps what is needed by those of the kept that `from` chooses, and what is needed by that, and so on.
    fn keep_bases(&mut self, from: impl Fn(&Self, usize) -> bool) {
        self.keep_bases_of((0..self.kept.len()).filter(|&i| self.kept[i] && from(self, i)).collect());
    }

    /// Keeps what these need. Returns how many good ones that adds which are not dated in the future.
    fn keep_bases_of(&mut self, mut open: Vec<usize>) -> usize {
        let mut added = 0;
        while let Some(i) = open.pop() {
            for &base in &self.needs[i] {
                if !std::mem::replace(&mut self.kept[base], true) {
                    added += usize::from(base >= self.past && self.good[base]);
                    open.push(base);
                }
            }
        }
        added
    }

    /// Adds the newest good ones that nothing keeps until there are enough.
    fn apply_floor(&mut self, floor: u32) {
        let good = self.past_good();
        let enough = usize::try_from(floor).unwrap_or(usize::MAX);
        let mut count = good.iter().filter(|&&i| self.kept[i]).count();
        for i in good {
            if count >= enough {
                return;
            }
            if !self.kept[i] {
                self.keep(i, Reason::AtLeast { floor });
                count += 1 + self.keep_bases_of(vec![i]);
            }
        }
    }

    fn close(mut self, policy: &Policy, now: Timestamp) -> Plan {
        let mut named = vec![false; self.artifacts.len()];
        for i in 0..self.artifacts.len() {
            for &base in self.needs[i].iter().filter(|&&base| self.kept[i] && base != i) {
                if !std::mem::replace(&mut named[base], true) {
                    self.reasons[base].push(Reason::NeededBy { key: self.artifacts[i].key.clone() });
                }
            }
        }
        let decision = |((artifact, good), reasons): ((Candidate, bool), Vec<Reason>)| {
            let action = if !reasons.is_empty() {
                Action::Keep { reasons }
            } else if !good {
                Action::Delete { reason: DeleteReason::Bad { age: policy.within } }
            } else {
                let reason = policy.within.map_or(DeleteReason::NoRule, |age| DeleteReason::OlderThan { age });
                Action::Delete { reason }
            };
            debug_assert!(matches!(action, Action::Keep { .. }) || artifact.taken_at <= now);
            Decision { key: artifact.key, taken_at: artifact.taken_at, good, action }
        };
        let decisions = self.artifacts.into_iter().zip(self.good).zip(self.reasons).map(decision).collect();
        Plan { decisions, warnings: self.warnings }
    }
}

/// One artifact for each key, newest first; in the same second by key.
fn merge(candidates: &[Candidate]) -> Vec<Candidate> {
    let mut by_key: BTreeMap<&str, Candidate> = BTreeMap::new();
    for candidate in candidates {
        by_key
            .entry(&candidate.key)
            .and_modify(|known| {
                known.taken_at = known.taken_at.max(candidate.taken_at);
                known.good &= candidate.good;
                known.verified_at = known.verified_at.max(candidate.verified_at);
                known.depends_on.extend_from_slice(&candidate.depends_on);
            })
            .or_insert_with(|| candidate.clone());
    }
    let mut artifacts: Vec<Candidate> = by_key.into_values().collect();
    for artifact in &mut artifacts {
        let unique: BTreeSet<String> = artifact.depends_on.drain(..).collect();
        artifact.depends_on.extend(unique);
    }
    // They stand in the order of their keys, and the sort is stable.
    artifacts.sort_by_key(|a| Reverse(a.taken_at));
    artifacts
}
