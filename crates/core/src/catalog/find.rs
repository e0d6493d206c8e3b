//! Which of a dataset's artifacts is meant.

use futures::StreamExt;
use jiff::{SignedDuration, Timestamp, civil, tz};

use super::gap::{self, Lost, Trace};
use super::{Artifact, Kind, Listed, State, list_all};
use crate::duration;
use crate::error::{Error, ErrorKind, Result};
use crate::hint::Hint;
use crate::name::{ArtifactName, Dataset, join_key, parse_stamp, split_key};
use crate::sink::Sink;

/// Which of a dataset's artifacts is meant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum At {
    /// The newest.
    #[default]
    Latest,
    /// The newest that was taken at this time or before.
    Time(Timestamp),
    /// The one with this key or name.
    Key(String),
}

impl At {
    /// Reads what people write. All times are UTC.
    ///
    /// | text | what is meant |
    /// |---|---|
    /// | `latest` | the newest |
    /// | `2d`, `36h`, `2d ago` | the newest that was taken so long before `now`, or earlier |
    /// | `yesterday`, `today`, `2026-11-21`, `20261121` | the newest of that day, or an earlier one |
    /// | `2026-11-21T03:30:00Z`, `2026-11-21T04:30:00+01:00`, `2026-11-21 03:30`, `20261121-033000` | the newest that was taken at that time or before |
    /// | a key, or its last part | that one |
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for anything else.
    pub fn parse(text: &str, now: Timestamp) -> Result<Self> {
        if text == "latest" {
            return Ok(Self::Latest);
        }
        if let Some(time) = time(text, now) {
            return Ok(Self::Time(time));
        }
        if ArtifactName::parse(split_key(text).1).is_some() {
            return Ok(Self::Key(text.to_owned()));
        }
        let why = "neither a time nor an age nor the key of an artifact";
        Err(Error::new(ErrorKind::Config, "use", format!("\"{text}\""), why).hint(Hint::NameArtifact))
    }
}

fn time(text: &str, now: Timestamp) -> Option<Timestamp> {
    let utc = |at: civil::DateTime| at.to_zoned(tz::TimeZone::UTC).map(|z| z.timestamp()).ok();
    // A day means all of it.
    let whole = |day: civil::Date| utc(day.at(23, 59, 59, 0));
    let today = now.to_zoned(tz::TimeZone::UTC).date();
    match text {
        "today" => return whole(today),
        "yesterday" => return whole(today.yesterday().ok()?),
        _ => {}
    }
    if let Some(time) = parse_stamp(text).or_else(|| text.parse().ok()) {
        return Some(time);
    }
    if let Some(day) = text.parse().ok().filter(|_| matches!(text.len(), 8 | 10)) {
        return whole(day);
    }
    if let Ok(time) = text.parse::<civil::DateTime>() {
        return utc(time);
    }
    let age = duration::parse(text.strip_suffix(" ago").unwrap_or(text), "--at").ok()?;
    now.checked_sub(SignedDuration::try_from(age).ok()?).ok()
}

impl std::str::FromStr for At {
    type Err = Error;

    /// As [`At::parse`], with ages counted from now by the machine's clock.
    fn from_str(text: &str) -> Result<Self> {
        Self::parse(text, Timestamp::now())
    }
}

/// The artifact of a dataset that is meant.
///
/// Without a key it is the newest up to a time. Where a newer one must be there by what is known of it, and is not, that is an
/// error: its manifest lies there without its object, notes about it lie beside it, or the [history](crate::history) names it
/// and no prune has deleted it. Whoever means the older one names it by its key.
///
/// # Errors
/// [`ErrorKind::NoArtifact`], saying what there is instead. [`ErrorKind::NotFound`] for a newer one that is missing, naming it.
pub async fn find(sink: &dyn Sink, folder: &str, dataset: &Dataset, at: &At) -> Result<Artifact> {
    let mut found: Option<Artifact> = None;
    let (mut total, mut oldest) = (0u64, None);
    let mut lost = Vec::new();
    let mut listed = list_all(sink, folder, Some(dataset));
    while let Some(listed) = listed.next().await {
        let Listed { artifact, state } = listed?;
        match state {
            State::Unfinished => continue,
            State::Gone => {
                lost.push(Lost { name: artifact.name, trace: Trace::Notes });
                continue;
            }
            State::Whole => {}
        }
        total += 1;
        oldest = oldest.min(Some(artifact.name.taken_at)).or(Some(artifact.name.taken_at));
        let fits = match at {
            At::Key(key) => artifact.key() == *key || artifact.name.to_string() == *key,
            _ if artifact.kind == Kind::Damaged => {
                lost.push(Lost { trace: Trace::of_damaged(&artifact), name: artifact.name });
                continue;
            }
            At::Latest => true,
            At::Time(time) => artifact.name.taken_at <= *time,
        };
        // Of two of the same second the managed one comes later or wins: it has a proof.
        if fits && found.as_ref().is_none_or(|f| rank(&artifact) >= rank(f)) {
            // What is older than it is not asked for.
            lost.retain(|lost| lost.name.taken_at > artifact.name.taken_at);
            found = Some(artifact);
        }
    }
    let until = match at {
        At::Latest => None,
        At::Time(time) => Some(*time),
        At::Key(_) => return found.ok_or_else(|| none(sink, folder, dataset, at, total, oldest)),
    };
    if let Some(lost) = gap::newest(sink, folder, dataset, found.as_ref(), until, lost).await?
        && (found.is_some() || !lost.trace.is_listed())
    {
        return Err(lost.error(&place(sink, folder), found.as_ref()));
    }
    found.ok_or_else(|| none(sink, folder, dataset, at, total, oldest))
}

fn place(sink: &dyn Sink, folder: &str) -> String {
    join_key(&sink.url(), folder).trim_end_matches('/').to_owned()
}

/// The error for a dataset without the artifact that was asked for.
fn none(sink: &dyn Sink, folder: &str, dataset: &Dataset, at: &At, total: u64, oldest: Option<Timestamp>) -> Error {
    let place = place(sink, folder);
    let message = match (total, oldest) {
        (0, _) | (_, None) => format!("there is none in {place}"),
        (_, Some(oldest)) => match at {
            At::Time(time) => {
                format!("none of the {total} in {place} is as old as {time}; the oldest is from {oldest}")
            }
            At::Key(key) => format!("none of the {total} in {place} is named {key}"),
            At::Latest => format!("all {total} in {place} are damaged"),
        },
    };
    Error::new(ErrorKind::NoArtifact, "find", format!("an artifact of {dataset}"), message).hint(Hint::ListArtifacts)
}

fn rank(artifact: &Artifact) -> (Timestamp, bool) {
    (artifact.name.taken_at, artifact.kind == Kind::Managed)
}
