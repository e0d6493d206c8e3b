//! The decision about each artifact, and its reasons.

use std::fmt;

use jiff::Timestamp;
use serde::Serialize;

use super::policy::{Age, Period};

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
    /// It holds nothing, or much less than those before it: it pushes out none that does not.
    pub less: bool,
    /// When a verification last passed, at level `structure` or above.
    pub verified_at: Option<Timestamp>,
    /// The keys of the artifacts without which it cannot be restored: the base of an incremental one.
    pub depends_on: Vec<String>,
    /// Keys of objects that lie beside it and are not known here. While there is any, nothing is deleted.
    pub unknown: Vec<String>,
}

impl Candidate {
    /// A good artifact that was never verified and depends on no other.
    pub fn new(key: impl Into<String>, taken_at: Timestamp) -> Self {
        Self {
            key: key.into(),
            taken_at,
            good: true,
            less: false,
            verified_at: None,
            depends_on: Vec::new(),
            unknown: Vec::new(),
        }
    }

    /// Marks it as known to be bad.
    #[must_use]
    pub fn bad(mut self) -> Self {
        self.good = false;
        self
    }

    /// Marks it as holding nothing, or much less than those before it.
    #[must_use]
    pub fn less(mut self) -> Self {
        self.less = true;
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

    /// Adds objects beside it that are not known here.
    #[must_use]
    pub fn beside<K: Into<String>>(mut self, keys: impl IntoIterator<Item = K>) -> Self {
        self.unknown.extend(keys.into_iter().map(Into::into));
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
    /// The positions of what is to be deleted, in the order of deletion.
    #[serde(skip)]
    pub(super) order: Vec<usize>,
}

impl Plan {
    /// What is to be deleted, in the order of deletion: an incremental artifact goes before its base, so that an interrupted
    /// run leaves none without. Those that nothing needs come first; among them, newest first.
    pub fn deletions(&self) -> impl Iterator<Item = &Decision> {
        self.order.iter().map(|&i| &self.decisions[i])
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
#[non_exhaustive]
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
    /// The rules would keep it if there were none that hold less than those before them.
    Fuller,
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
    /// A backup that is still being written, or was killed while it was, depends on it.
    NeededByUnfinished {
        /// That backup.
        key: String,
    },
    /// There is an object of the dataset that is not known here: a newer Lifeboat may mean by it that something must stay.
    Unknown {
        /// Its key.
        object: String,
    },
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Everything => f.write_str("the policy keeps everything"),
            Self::Future => f.write_str("dated in the future"),
            Self::NewestGood => f.write_str("newest good"),
            Self::NewestVerified => f.write_str("newest verified"),
            Self::Fuller => f.write_str("newer ones hold less"),
            Self::NothingGood => f.write_str("nothing good exists"),
            Self::Within { age } => write!(f, "within {}", age.in_words()),
            Self::Last { slot, of } => write!(f, "last {slot}/{of}"),
            Self::Period { rule, slot, of, period } => write!(f, "{rule} {slot}/{of} ({period})"),
            Self::BadLast { of } => write!(f, "bad, but among the last {of}"),
            Self::BadPeriod { rule, period } => write!(f, "bad, but nothing is good in {period} ({rule})"),
            Self::AtLeast { floor } => write!(f, "at least {floor}"),
            Self::NeededBy { key } => write!(f, "needed by {key}"),
            Self::NeededByUnfinished { key } => write!(f, "needed by {key}, which is not finished"),
            Self::Unknown { object } => write!(f, "nothing is deleted beside {object}, which is not known here"),
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
    /// The newest good artifact holds nothing, or much less than one before it. That one stays.
    Less {
        /// The newest.
        key: String,
        /// How many of the newest do.
        count: usize,
        /// The newest one that does not.
        fuller: String,
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
    /// An artifact depends on itself, directly or through others. It cannot be restored and counts as bad.
    CircularDependency {
        /// The artifact.
        key: String,
    },
    /// There are objects of the dataset that are not known here. Nothing is deleted.
    Unknown {
        /// The key of the first.
        object: String,
        /// How many there are.
        count: usize,
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
            Self::Less { key, count, fuller } => {
                write!(f, "{key}")?;
                match count {
                    0 | 1 => f.write_str(" is empty or much smaller")?,
                    n => write!(f, " and {} before it are empty or much smaller", n - 1)?,
                }
                write!(f, " than {fuller}, which stays: was anything lost at the source?")
            }
            Self::NothingGood { total } => {
                let noun = if *total == 1 { "artifact" } else { "artifacts" };
                write!(f, "no good artifact among {total} {noun}: nothing is deleted")
            }
            Self::MissingDependency { key, missing } => {
                write!(f, "{key} cannot be restored: it depends on {missing}, which is not there")
            }
            Self::CircularDependency { key } => write!(f, "{key} cannot be restored: it depends on itself"),
            Self::Unknown { object, count } => {
                write!(f, "nothing is deleted: {object}")?;
                match count {
                    0 | 1 => f.write_str(" is not known here")?,
                    2 => f.write_str(" and 1 other object are not known here")?,
                    n => write!(f, " and {} other objects are not known here", n - 1)?,
                }
                f.write_str("; a newer Lifeboat may have written it")
            }
        }
    }
}
