//! The decision about each artifact, and the reasons for it.

use std::fmt;

use jiff::Timestamp;
use serde::Serialize;

use super::policy::{Age, Period};

/// What retention needs to know about an artifact.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Candidate {
    /// The artifact's key, which identifies it in the plan and in the `depends_on` of other candidates.
    pub key: String,
    /// When the artifact was taken: the time in its name.
    pub taken_at: Timestamp,
    /// Whether the artifact is complete (it has a manifest, or is a foreign object) and no failed verification is newer
    /// than every passed one.
    pub good: bool,
    /// Whether the artifact is empty or much smaller than its predecessors. It then displaces no fuller artifact.
    pub less: bool,
    /// When a verification at level `structure` or above last passed.
    pub verified_at: Option<Timestamp>,
    /// The keys of the artifacts without which this one cannot be restored, such as the base of an incremental backup.
    pub depends_on: Vec<String>,
    /// The keys of objects beside the artifact that this version does not recognize. While there are any, nothing is
    /// deleted.
    pub unknown: Vec<String>,
}

impl Candidate {
    /// Creates a candidate for a good artifact that was never verified and has no dependencies.
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

    /// Marks the artifact as known to be bad.
    #[must_use]
    pub fn bad(mut self) -> Self {
        self.good = false;
        self
    }

    /// Marks the artifact as empty, or much smaller than its predecessors.
    #[must_use]
    pub fn less(mut self) -> Self {
        self.less = true;
        self
    }

    /// Sets when a verification last passed.
    #[must_use]
    pub fn verified(mut self, at: Timestamp) -> Self {
        self.verified_at = Some(at);
        self
    }

    /// Adds dependencies, by key.
    #[must_use]
    pub fn depends_on<K: Into<String>>(mut self, keys: impl IntoIterator<Item = K>) -> Self {
        self.depends_on.extend(keys.into_iter().map(Into::into));
        self
    }

    /// Adds the keys of unrecognized objects beside the artifact.
    #[must_use]
    pub fn beside<K: Into<String>>(mut self, keys: impl IntoIterator<Item = K>) -> Self {
        self.unknown.extend(keys.into_iter().map(Into::into));
        self
    }
}

/// The action for each artifact, and warnings to read before acting.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Plan {
    /// One decision per key, newest first.
    pub decisions: Vec<Decision>,
    /// Signs that something is wrong with the backups or the clock. The plan is still safe to execute.
    pub warnings: Vec<Warning>,
    /// The positions of the decisions to delete, in order of deletion.
    #[serde(skip)]
    pub(super) order: Vec<usize>,
}

impl Plan {
    /// The artifacts to delete, in order of deletion. An incremental artifact comes before its base, so that an
    /// interrupted run leaves no increment without one. Artifacts that nothing needs come first, newest first.
    pub fn deletions(&self) -> impl Iterator<Item = &Decision> {
        self.order.iter().map(|&i| &self.decisions[i])
    }

    /// The artifacts to keep, newest first.
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
    /// Whether the artifact counts as good: the candidate and everything it depends on are good.
    pub good: bool,
    /// The action.
    #[serde(flatten)]
    pub action: Action,
}

impl Decision {
    /// Whether the artifact is kept.
    pub fn keeps(&self) -> bool {
        matches!(self.action, Action::Keep { .. })
    }

    /// The reasons in words, joined by commas.
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
    /// Keep the artifact.
    Keep {
        /// Every reason to keep it. Never empty.
        reasons: Vec<Reason>,
    },
    /// Delete the artifact.
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
    /// The artifact is dated after `now`.
    Future,
    /// The newest good artifact.
    NewestGood,
    /// The newest verified artifact.
    NewestVerified,
    /// The rules would keep it if there were no lesser artifacts.
    Fuller,
    /// No good artifact exists, so nothing is deleted.
    NothingGood,
    /// Not older than the age rule allows.
    Within {
        /// The age rule.
        age: Age,
    },
    /// One of the last N good artifacts.
    Last {
        /// The slot, counted from 1 for the newest.
        slot: u32,
        /// How many are kept.
        of: u32,
    },
    /// The newest good artifact of its hour, day, week, month or year.
    Period {
        /// The rule.
        rule: Period,
        /// The slot of its period, counted from 1 for the newest.
        slot: u32,
        /// How many periods are kept.
        of: u32,
        /// The period, as [`Period::name_of`] writes it.
        period: String,
    },
    /// Bad, but among the last N, bad ones included. Takes no slot.
    BadLast {
        /// How many are kept.
        of: u32,
    },
    /// Bad, but the newest of a period without a good artifact. Takes no slot.
    BadPeriod {
        /// The rule.
        rule: Period,
        /// The period, as [`Period::name_of`] writes it.
        period: String,
    },
    /// The other rules keep fewer good artifacts than the floor.
    AtLeast {
        /// The floor.
        floor: u32,
    },
    /// A kept artifact depends on it.
    NeededBy {
        /// The newest artifact that does.
        key: String,
    },
    /// A backup that is still being written, or was killed while being written, depends on it.
    NeededByUnfinished {
        /// The key of that backup.
        key: String,
    },
    /// This version does not recognize an object of the dataset; a newer Lifeboat may have written it to mark something
    /// that must be kept.
    Unknown {
        /// The key of that object.
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
    /// Older than the age rule allows, and nothing else keeps it.
    OlderThan {
        /// The age rule.
        age: Age,
    },
    /// There is no age rule, and nothing keeps it.
    NoRule,
    /// Bad, and nothing keeps it.
    Bad {
        /// The age rule that it exceeds, if there is one.
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

/// A warning to read before a plan is executed. `Display` writes it as a sentence.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(tag = "warning", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Warning {
    /// Artifacts are dated after now: this machine's clock is slow, or the one that wrote them was fast.
    Future {
        /// The number of such artifacts.
        count: usize,
        /// The number of all artifacts.
        total: usize,
    },
    /// Every good artifact that is not dated in the future is older than the age rule: backups have stopped, or this
    /// machine's clock is fast.
    Stale {
        /// The age rule.
        age: Age,
        /// When the newest good artifact was taken.
        newest_good: Timestamp,
        /// Whole days since then.
        days: i64,
    },
    /// The newest good artifact is empty, or much smaller than an earlier one. The earlier one is kept.
    Less {
        /// The key of the newest good artifact.
        key: String,
        /// How many of the newest good artifacts are empty or much smaller.
        count: usize,
        /// The key of the newest one that is neither.
        fuller: String,
    },
    /// There are artifacts, but all of them are bad or dated in the future.
    NothingGood {
        /// The number of artifacts.
        total: usize,
    },
    /// An artifact depends on a missing one. It cannot be restored and counts as bad.
    MissingDependency {
        /// The artifact.
        key: String,
        /// The key of the missing artifact.
        missing: String,
    },
    /// An artifact depends on itself, directly or through others. It cannot be restored and counts as bad.
    CircularDependency {
        /// The artifact.
        key: String,
    },
    /// This version does not recognize some of the dataset's objects. Nothing is deleted.
    Unknown {
        /// The key of the first.
        object: String,
        /// The number of such objects.
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
