//! Where a timeline comes from.

use std::error::Error;
use std::fmt;
use std::ops::Range;

use super::{Lsn, SegmentSize, Timeline};

/// A timeline that another one comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ancestor {
    /// Its number.
    pub timeline: Timeline,
    /// Where it was left: bytes from here on belong to the next timeline.
    pub end: Lsn,
    /// Why, in the server's words, such as `before transaction 170713`: where a recovery stopped.
    pub reason: String,
}

/// A branch of the log: a timeline, and all those that it comes from.
///
/// A history file has a line for each ancestor, the oldest first (`timeline.c`, `readTimeLineHistory`): its number, the position
/// at which it was left, and why, apart from each other by white space. Empty lines and those that begin with `#` say nothing.
///
/// ```
/// use lifeboat_backends::postgres::physical::wal::{Lsn, Timeline, TimelineHistory};
///
/// let three = Timeline::new(3).unwrap();
/// let history = TimelineHistory::parse(three, b"1\t0/5000060\tno recovery target specified\n").unwrap();
/// assert_eq!(history.timeline_at(Lsn(0x500_005F)), Timeline::FIRST);
/// assert_eq!(history.timeline_at(Lsn(0x500_0060)), three);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimelineHistory {
    timeline: Timeline,
    ancestors: Vec<Ancestor>,
}

/// Why a history file cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BrokenHistory {
    /// It names no ancestor. Every history file that a server writes does.
    Empty,
    /// A line does not begin with a timeline and a position.
    Line(usize),
    /// A line's timeline is not higher than that of the line before, or not lower than the file's own.
    Order(usize),
    /// A line's position lies before that of the line before.
    Backwards(usize),
}

impl fmt::Display for BrokenHistory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("it names no timeline"),
            Self::Line(line) => write!(f, "line {line} does not begin with a timeline and a position"),
            Self::Order(line) => {
                write!(f, "the timeline in line {line} is not between that of the line before and the file's own")
            }
            Self::Backwards(line) => write!(f, "the position in line {line} is before that of the line before"),
        }
    }
}

impl Error for BrokenHistory {}

impl TimelineHistory {
    /// The branch of a timeline that comes from none: [`Timeline::FIRST`], or one that `pg_resetwal` has set.
    pub fn root(timeline: Timeline) -> Self {
        Self { timeline, ancestors: Vec::new() }
    }

    /// Reads the content of `<timeline>.history`.
    ///
    /// # Errors
    /// What the server refuses too, an empty file (all that a crash may leave of one), and positions that go backwards.
    pub fn parse(timeline: Timeline, content: &[u8]) -> Result<Self, BrokenHistory> {
        let mut ancestors: Vec<Ancestor> = Vec::new();
        // The name of a restore point can be in it, in any encoding.
        for (at, line) in String::from_utf8_lossy(content).split('\n').enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let number = at + 1;
            let ancestor = ancestor(line).ok_or(BrokenHistory::Line(number))?;
            let before = ancestors.last();
            if ancestor.timeline >= timeline || before.is_some_and(|before| before.timeline >= ancestor.timeline) {
                return Err(BrokenHistory::Order(number));
            }
            if before.is_some_and(|before| before.end > ancestor.end) {
                return Err(BrokenHistory::Backwards(number));
            }
            ancestors.push(ancestor);
        }
        if ancestors.is_empty() {
            return Err(BrokenHistory::Empty);
        }
        Ok(Self { timeline, ancestors })
    }

    /// The timeline whose history it is.
    pub fn timeline(&self) -> Timeline {
        self.timeline
    }

    /// Those that it comes from, the oldest first.
    pub fn ancestors(&self) -> &[Ancestor] {
        &self.ancestors
    }

    /// The one that it comes from directly.
    pub fn parent(&self) -> Option<&Ancestor> {
        self.ancestors.last()
    }

    /// The timelines of this branch, the oldest first.
    pub fn timelines(&self) -> impl DoubleEndedIterator<Item = Timeline> {
        self.ancestors.iter().map(|ancestor| ancestor.timeline).chain([self.timeline])
    }

    /// The part of this branch that was written on a timeline: empty if it was left where it began, up to
    /// [`u64::MAX`] for the branch's own. `None` for a timeline that is not of this branch.
    pub fn range(&self, timeline: Timeline) -> Option<Range<Lsn>> {
        let at = self.timelines().position(|other| other == timeline)?;
        let start = at.checked_sub(1).map_or(Lsn::ZERO, |before| self.ancestors[before].end);
        Some(start..self.ancestors.get(at).map_or(Lsn(u64::MAX), |ancestor| ancestor.end))
    }

    /// On which timeline the byte at a position of this branch was written (`tliOfPointInHistory`).
    pub fn timeline_at(&self, lsn: Lsn) -> Timeline {
        let at = self.ancestors.partition_point(|ancestor| ancestor.end <= lsn);
        self.ancestors.get(at).map_or(self.timeline, |ancestor| ancestor.timeline)
    }

    /// Whether the log up to a position, as it was written on a timeline, is part of this branch. That holds still where the
    /// timeline was left, and not beyond: what came after it there was lost in the switch.
    pub fn includes(&self, timeline: Timeline, up_to: Lsn) -> bool {
        self.range(timeline).is_some_and(|range| (range.start..=range.end).contains(&up_to))
    }

    /// Which timeline follows one in this branch: rarely the next number.
    pub fn next_after(&self, timeline: Timeline) -> Option<Timeline> {
        let mut rest = self.timelines().skip_while(|other| *other != timeline);
        rest.next()?;
        rest.next()
    }

    /// From which timeline's file a recovery along this branch takes the segment that holds a position: the newest one that has
    /// begun by the end of that segment (`XLogFileReadAnyTLI`). A segment in which a timeline was left is copied to the next one
    /// up to there, so the newer file holds both.
    pub fn timeline_of_segment(&self, lsn: Lsn, size: SegmentSize) -> Timeline {
        let start = lsn.segment_start(size);
        let at = self.ancestors.partition_point(|ancestor| ancestor.end.segment_start(size) <= start);
        self.ancestors.get(at).map_or(self.timeline, |ancestor| ancestor.timeline)
    }

    /// Whether this branch goes on where another one was at a position: all of that one's log up to there is part of this one.
    pub fn continues(&self, other: &Self, from: Lsn) -> bool {
        let at = other.timeline_at(Lsn(from.0.saturating_sub(1)));
        let shared = |history: &Self| -> Vec<(Timeline, Lsn)> {
            let before = history.ancestors.iter().take_while(|ancestor| ancestor.timeline < at);
            before.map(|ancestor| (ancestor.timeline, ancestor.end)).collect()
        };
        self.includes(at, from) && shared(self) == shared(other)
    }
}

/// A line that says something.
fn ancestor(line: &str) -> Option<Ancestor> {
    let mut words = line.splitn(2, char::is_whitespace);
    let timeline = words.next()?.parse().ok()?;
    let rest = words.next()?.trim_start();
    let (end, reason) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    Some(Ancestor { timeline, end: end.parse().ok()?, reason: reason.trim().to_owned() })
}
