//! Plans: what a restore would change, before anything is changed.
//!
//! A target that changes a live system piece by piece (DNS records, secrets, resources of a cluster) first makes a
//! [`Plan`]: options → plan → apply → report. The plan is plain data: it can be printed for a reviewer and written as JSON.
//! What it takes to carry it out stays in the backend, behind [`Prepared`].

use std::fmt;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::context::Context;
use crate::error::Result;
use crate::report::Check;

/// What is done to one thing of the live system.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Action {
    /// It is not there, and is made.
    Create,
    /// It is there and differs, and becomes as it was.
    Update,
    /// It is there and not in the backup, and deleting such things was allowed.
    Delete,
    /// It is as it was.
    Unchanged,
    /// It is left alone, for the reason in the note.
    Skipped,
}

impl Action {
    /// Whether carrying it out changes something.
    pub fn changes_something(self) -> bool {
        matches!(self, Self::Create | Self::Update | Self::Delete)
    }

    /// The sign before a line of a diff.
    pub fn sign(self) -> char {
        match self {
            Self::Create => '+',
            Self::Update => '~',
            Self::Delete => '-',
            Self::Unchanged => ' ',
            Self::Skipped => '=',
        }
    }

    /// The word in `N to …`, and in sentences.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Update => "update",
            Self::Delete => "delete",
            Self::Unchanged => "unchanged",
            Self::Skipped => "skipped",
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// One line of a plan: one thing of the live system and what is done to it.
///
/// What holds a secret has neither `before` nor `after`: its name and its note are all that is shown.
///
/// ```
/// use lifeboat_core::{Action, Change, Plan};
///
/// let plan = Plan::new(vec![
///     Change::new(Action::Update, "A", "www.example.org").before("192.0.2.1").after("192.0.2.2"),
///     Change::new(Action::Unchanged, "TXT", "example.org"),
/// ]);
/// assert_eq!((plan.counts().to_do(), plan.counts().unchanged), (1, 1));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Change {
    /// What is done.
    pub action: Action,
    /// What it is, in the words of its system: `A`, `setting`, `secret`.
    pub kind: String,
    /// Its name: `www.example.org`, `ssl`, `DATABASE_URL`.
    pub name: String,
    /// What is there now, in one line. `None` where nothing is, or where it may not be shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
    /// What will be there, in one line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// Why it is skipped, or what else the reviewer should know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

impl Change {
    /// Creates a change of which only the name is shown: of a secret, or of something unchanged.
    pub fn new(action: Action, kind: impl Into<String>, name: impl Into<String>) -> Self {
        Self { action, kind: kind.into(), name: name.into(), before: None, after: None, note: None }
    }

    /// Says what is there now.
    #[must_use]
    pub fn before(mut self, before: impl Into<String>) -> Self {
        self.before = Some(before.into());
        self
    }

    /// Says what will be there.
    #[must_use]
    pub fn after(mut self, after: impl Into<String>) -> Self {
        self.after = Some(after.into());
        self
    }

    /// Says what else the reviewer should know.
    #[must_use]
    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.note = Some(note.into());
        self
    }
}

/// How many changes of each action a plan has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Counts {
    /// Things that are made.
    pub create: usize,
    /// Things that become as they were.
    pub update: usize,
    /// Things that are deleted.
    pub delete: usize,
    /// Things that are as they were.
    pub unchanged: usize,
    /// Things that are left alone.
    pub skipped: usize,
}

impl Counts {
    /// How many things carrying it out changes.
    pub fn to_do(self) -> usize {
        self.create + self.update + self.delete
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} to create, {} to update, {} to delete, {} unchanged, {} skipped",
            self.create, self.update, self.delete, self.unchanged, self.skipped
        )
    }
}

/// What a restore would do to a live system, in the order in which a reviewer reads it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Plan {
    /// Every thing that was looked at.
    pub changes: Vec<Change>,
}

impl Plan {
    /// Creates a plan of these changes.
    pub fn new(changes: Vec<Change>) -> Self {
        Self { changes }
    }

    /// How many of each.
    pub fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for change in &self.changes {
            *match change.action {
                Action::Create => &mut counts.create,
                Action::Update => &mut counts.update,
                Action::Delete => &mut counts.delete,
                Action::Unchanged => &mut counts.unchanged,
                Action::Skipped => &mut counts.skipped,
            } += 1;
        }
        counts
    }

    /// Whether carrying it out would change nothing.
    pub fn is_done(&self) -> bool {
        self.counts().to_do() == 0
    }

    /// The diff: each line with the action that it belongs to, so that a terminal can colour it. What is unchanged has no
    /// line. Columns are aligned; control characters of a live system's names are escaped.
    ///
    /// ```
    /// use lifeboat_core::plan::{Action, Change, Plan};
    ///
    /// let plan = Plan::new(vec![
    ///     Change::new(Action::Create, "A", "www.example.org").after("192.0.2.1"),
    ///     Change::new(Action::Update, "TXT", "example.org").before("\"a\"").after("\"b\""),
    ///     Change::new(Action::Skipped, "SOA", "example.org").note("the provider manages it"),
    /// ]);
    /// let lines: Vec<String> = plan.lines().into_iter().map(|(_, line)| line).collect();
    /// assert_eq!(
    ///     lines,
    ///     [
    ///         "+ A    www.example.org  192.0.2.1",
    ///         "~ TXT  example.org",
    ///         "    - \"a\"",
    ///         "    + \"b\"",
    ///         "= SOA  example.org      (the provider manages it)",
    ///     ]
    /// );
    /// ```
    pub fn lines(&self) -> Vec<(Action, String)> {
        const WIDEST: usize = 48;
        let shown = || self.changes.iter().filter(|c| c.action != Action::Unchanged);
        let width = |of: fn(&Change) -> &str| {
            shown().map(|c| escape(of(c)).chars().count()).filter(|w| *w <= WIDEST).max().unwrap_or_default()
        };
        let (kinds, names) = (width(|c| &c.kind), width(|c| &c.name));
        let mut lines = Vec::new();
        for change in shown() {
            let mut line =
                format!("{} {:kinds$}  {:names$}", change.action.sign(), escape(&change.kind), escape(&change.name));
            let (one, two) = match (&change.before, &change.after) {
                (Some(before), Some(after)) if before != after => (None, Some((before, after))),
                (Some(one), _) | (None, Some(one)) => (Some(one), None),
                (None, None) => (None, None),
            };
            if let Some(one) = one {
                line += &format!("  {}", escape(one));
            }
            if let Some(note) = &change.note {
                line += &format!("  ({})", escape(note));
            }
            lines.push((change.action, line.trim_end().to_owned()));
            if let Some((before, after)) = two {
                lines.push((Action::Delete, format!("    - {}", escape(before))));
                lines.push((Action::Create, format!("    + {}", escape(after))));
            }
        }
        lines
    }
}

/// A name of a live system stays in its line and moves no cursor.
fn escape(text: &str) -> String {
    if !text.chars().any(char::is_control) {
        return text.to_owned();
    }
    text.chars().map(|c| if c.is_control() { c.escape_default().to_string() } else { c.to_string() }).collect()
}

/// A plan together with all that it takes to carry it out.
#[async_trait]
pub trait Prepared: Send {
    /// The plan.
    fn plan(&self) -> &Plan;

    /// Carries the plan out.
    ///
    /// # Behaviour
    /// - It changes what the plan says and nothing else.
    /// - It can be repeated: after an interrupted run, a new plan holds what is left.
    /// - The checks say what was done, and name what the live system refused.
    ///
    /// # Errors
    /// What ended it. What was done before stays done; the message says how much that was.
    ///
    /// # Cancel safety
    /// Cancel through `cx.cancel`: what has been sent is waited for, and nothing more is sent.
    async fn apply(self: Box<Self>, cx: &Context) -> Result<Vec<Check>>;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Plan {
        Plan::new(vec![
            Change::new(Action::Create, "A", "www").after("192.0.2.1"),
            Change::new(Action::Update, "secret", "TOKEN"),
            Change::new(Action::Delete, "A", "old").before("192.0.2.9"),
            Change::new(Action::Unchanged, "MX", "mail"),
            Change::new(Action::Skipped, "NS", "a\nb\u{1b}[31m").note("managed"),
        ])
    }

    #[test]
    fn counts_say_what_is_to_do() {
        let counts = sample().counts();
        assert_eq!(counts.to_do(), 3);
        assert_eq!(counts.to_string(), "1 to create, 1 to update, 1 to delete, 1 unchanged, 1 skipped");
        assert!(!sample().is_done());
        assert!(Plan::new(vec![Change::new(Action::Skipped, "A", "x")]).is_done());
    }

    #[test]
    fn a_name_cannot_leave_its_line() {
        let lines = sample().lines();
        assert_eq!(lines.len(), 4, "what is unchanged has no line");
        assert!(lines.iter().all(|(_, line)| !line.chars().any(char::is_control)), "{lines:?}");
    }

    #[test]
    fn a_plan_reads_back_from_json() {
        let plan = sample();
        let text = serde_json::to_string(&plan).unwrap();
        assert!(text.contains(r#"{"action":"update","kind":"secret","name":"TOKEN"}"#), "{text}");
        assert_eq!(serde_json::from_str::<Plan>(&text).unwrap(), plan);
    }
}
