//! The policy, as people write it: a config table, or a text.

use std::fmt;
use std::str::FromStr;

use jiff::tz::TimeZone;
use jiff::{Span, Timestamp};
use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::plan::{Candidate, Plan};
use crate::error::{Error, ErrorKind, Result};

const KEEP_HINT: &str = "write for example 30d or 30d,at-least=3 or last=7,daily=7,weekly=4,monthly=12,yearly=3, or all \
                         to keep everything; as a table: { days = 30, at_least = 3 }";
const AGE_HINT: &str = "write a number and a unit, as in 48h, 30d, 4w, 6m (months), 1y or 1y6m";

/// What is kept: the union of its rules. See the [module](self::super) for what each means.
///
/// The default has no rule and keeps everything. It is read from a config table (`{ days = 30, at_least = 3 }`) or from a
/// text (`30d,at-least=3`), and written as text by `Display` in the form that reads back.
///
/// ```
/// use lifeboat_core::retention::{Age, Policy};
///
/// let policy: Policy = "30d,weekly=4,at-least=3".parse()?;
/// assert_eq!((policy.within, policy.weekly, policy.at_least), (Age::days(30), 4, 3));
/// assert_eq!(policy.to_string(), "30d,weekly=4,at-least=3");
/// # Ok::<(), lifeboat_core::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
#[non_exhaustive]
pub struct Policy {
    /// Keep what is at most this old.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub within: Option<Age>,
    /// Keep the newest N. 0: no such rule, here and below.
    #[serde(skip_serializing_if = "is_zero")]
    pub last: u32,
    /// Keep the newest of each of the last N hours that have one.
    #[serde(skip_serializing_if = "is_zero")]
    pub hourly: u32,
    /// Keep the newest of each of the last N days that have one.
    #[serde(skip_serializing_if = "is_zero")]
    pub daily: u32,
    /// Keep the newest of each of the last N ISO weeks that have one.
    #[serde(skip_serializing_if = "is_zero")]
    pub weekly: u32,
    /// Keep the newest of each of the last N months that have one.
    #[serde(skip_serializing_if = "is_zero")]
    pub monthly: u32,
    /// Keep the newest of each of the last N years that have one.
    #[serde(skip_serializing_if = "is_zero")]
    pub yearly: u32,
    /// The floor: never fewer good artifacts than this, where there are as many. 0: no floor.
    #[serde(skip_serializing_if = "is_zero")]
    pub at_least: u32,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde's skip_serializing_if passes a reference")]
fn is_zero(n: &u32) -> bool {
    *n == 0
}

impl Policy {
    /// Keeps what is at most `days` days old; with 0, no age rule: everything.
    pub fn days(days: u32) -> Self {
        Self { within: Age::days(days), ..Self::default() }
    }

    /// Whether it has no rule, so that it deletes nothing. A floor alone is no rule.
    pub fn keeps_everything(&self) -> bool {
        Self { at_least: 0, ..*self } == Self::default()
    }

    /// Decides about each of a dataset's artifacts, as of `now`. Pure: it reads no clock and deletes nothing.
    ///
    /// # Behaviour
    /// - The order of `candidates` does not matter. Of two taken in the same second, the one whose key sorts first counts as
    ///   the newer one.
    /// - Candidates with the same key are one artifact: good if all are, with all their dependencies.
    pub fn plan(&self, candidates: &[Candidate], now: Timestamp) -> Plan {
        super::ledger::plan(self, candidates, now)
    }

    /// The rules by period, finest first, with their number of slots.
    pub(super) fn periods(&self) -> [(Period, u32); 5] {
        [
            (Period::Hourly, self.hourly),
            (Period::Daily, self.daily),
            (Period::Weekly, self.weekly),
            (Period::Monthly, self.monthly),
            (Period::Yearly, self.yearly),
        ]
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.keeps_everything() {
            return f.pad("all");
        }
        let mut parts: Vec<String> = self.within.iter().map(ToString::to_string).collect();
        let counts = [("last", self.last)]
            .into_iter()
            .chain(self.periods().map(|(period, slots)| (period.as_str(), slots)))
            .chain([("at-least", self.at_least)]);
        parts.extend(counts.filter(|(_, n)| *n > 0).map(|(key, n)| format!("{key}={n}")));
        f.pad(&parts.join(","))
    }
}

impl FromStr for Policy {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let subject = || format!("keep \"{text}\"");
        let wrong = |why: String| Error::new(ErrorKind::Config, "use", subject(), why).hint(KEEP_HINT);
        if text.trim() == "all" {
            return Ok(Self::default());
        }
        let mut table = Table::default();
        for part in text.split(',').map(str::trim) {
            let (key, value) = match part.split_once('=') {
                Some((key, value)) => (key.trim(), value.trim()),
                None if part.is_empty() => return Err(wrong("a rule is missing".into())),
                None if part == "all" => return Err(wrong("\"all\" cannot be combined with other rules".into())),
                None => ("within", part),
            };
            let twice = if key == "within" {
                table.within.replace(read_age(value, subject())?).is_some()
            } else {
                let count = match key {
                    "days" => &mut table.days,
                    "last" => &mut table.last,
                    "hourly" => &mut table.hourly,
                    "daily" => &mut table.daily,
                    "weekly" => &mut table.weekly,
                    "monthly" => &mut table.monthly,
                    "yearly" => &mut table.yearly,
                    "at-least" | "at_least" => &mut table.at_least,
                    _ => {
                        return Err(wrong(format!(
                            "there is no rule \"{key}\"; the rules are within, days, last, hourly, daily, weekly, monthly, \
                             yearly and at-least"
                        )));
                    }
                };
                let number = value.parse().map_err(|_| wrong(format!("{key}={value} is not a whole number")))?;
                count.replace(number).is_some()
            };
            if twice {
                return Err(wrong(format!("{key} is given twice")));
            }
        }
        table.into_policy(&subject())
    }
}

/// The config table, before it is judged.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    days: Option<u32>,
    within: Option<Age>,
    last: Option<u32>,
    hourly: Option<u32>,
    daily: Option<u32>,
    weekly: Option<u32>,
    monthly: Option<u32>,
    yearly: Option<u32>,
    #[serde(alias = "at-least")]
    at_least: Option<u32>,
}

impl Table {
    fn into_policy(self, subject: &str) -> Result<Policy> {
        let wrong = |why: String, hint: &str| Err(Error::new(ErrorKind::Config, "use", subject, why).hint(hint));
        let rules = [
            ("days", self.days),
            ("last", self.last),
            ("hourly", self.hourly),
            ("daily", self.daily),
            ("weekly", self.weekly),
            ("monthly", self.monthly),
            ("yearly", self.yearly),
        ];
        if let Some((key, _)) = rules.iter().find(|(_, n)| *n == Some(0)) {
            let hint = "leave out a rule that you do not want; to keep everything, write all";
            return wrong(format!("{key} = 0 would keep nothing"), hint);
        }
        if self.days.is_some() && self.within.is_some() {
            return wrong("it sets the age limit twice, with days and with within".into(), "give one of them");
        }
        let within = match self.days.map(|n| Age { days: n, ..Age::NONE }) {
            Some(age) if age.span().is_none() => {
                return wrong("the age limit is out of range".into(), "to keep everything, write all");
            }
            days => days.or(self.within),
        };
        let policy = Policy {
            within,
            last: self.last.unwrap_or(0),
            hourly: self.hourly.unwrap_or(0),
            daily: self.daily.unwrap_or(0),
            weekly: self.weekly.unwrap_or(0),
            monthly: self.monthly.unwrap_or(0),
            yearly: self.yearly.unwrap_or(0),
            at_least: self.at_least.unwrap_or(0),
        };
        if policy.at_least > 0 && policy.keeps_everything() {
            let hint = format!(
                "to keep the newest {0} and delete the others, write last = {0}; or add a rule, as in days = 30",
                policy.at_least
            );
            return wrong(
                "at_least is a floor for other rules, but there are none: nothing would be deleted".into(),
                &hint,
            );
        }
        Ok(policy)
    }
}

impl<'de> Deserialize<'de> for Policy {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = Policy;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("what to keep: a table like { days = 30, at_least = 3 } or a text like \"30d,at-least=3\"")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Policy, E> {
                text.parse().map_err(with_advice)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Policy, A::Error> {
                Table::deserialize(MapAccessDeserializer::new(map))?.into_policy("keep").map_err(with_advice)
            }
        }

        deserializer.deserialize_any(Either)
    }
}

/// A deserializer's error has no place for a hint but its text.
#[allow(clippy::needless_pass_by_value, reason = "map_err passes it by value")]
fn with_advice<E: serde::de::Error>(error: Error) -> E {
    match error.advice() {
        Some(hint) => E::custom(format_args!("{error}; {hint}")),
        None => E::custom(error),
    }
}

/// A length of time by the calendar, UTC: `48h`, `30d`, `4w`, `6m` (months), `1y`, `1y6m`. Never zero.
///
/// A month back from 31 March is the last day of February; a day is 24 hours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Age {
    years: u32,
    months: u32,
    weeks: u32,
    days: u32,
    hours: u32,
}

impl Age {
    const NONE: Self = Self { years: 0, months: 0, weeks: 0, days: 0, hours: 0 };

    /// That many days; `None` for 0, as in a policy without an age rule.
    pub fn days(days: u32) -> Option<Self> {
        (days > 0).then_some(Self { days, ..Self::NONE })
    }

    /// The moment this long before `now`; the beginning of time when that is farther than time reaches.
    pub fn before(self, now: Timestamp) -> Timestamp {
        self.span()
            .and_then(|span| now.to_zoned(TimeZone::UTC).checked_sub(span).ok())
            .map_or(Timestamp::MIN, |zoned| zoned.timestamp())
    }

    /// `None` when it is longer than the calendar.
    fn span(self) -> Option<Span> {
        Span::new()
            .try_years(self.years)
            .and_then(|s| s.try_months(self.months))
            .and_then(|s| s.try_weeks(self.weeks))
            .and_then(|s| s.try_days(self.days))
            .and_then(|s| s.try_hours(self.hours))
            .ok()
    }

    fn units(self) -> [(u32, char, &'static str); 5] {
        [
            (self.years, 'y', "year"),
            (self.months, 'm', "month"),
            (self.weeks, 'w', "week"),
            (self.days, 'd', "day"),
            (self.hours, 'h', "hour"),
        ]
    }

    /// In words, for sentences: `30 days`, `1 year 6 months`.
    pub(super) fn in_words(self) -> String {
        let words = self.units().into_iter().filter(|(n, ..)| *n > 0);
        words.map(|(n, _, unit)| format!("{n} {unit}{}", if n == 1 { "" } else { "s" })).collect::<Vec<_>>().join(" ")
    }
}

impl fmt::Display for Age {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = self.units().into_iter().filter(|(n, ..)| *n > 0);
        f.pad(&units.map(|(n, letter, _)| format!("{n}{letter}")).collect::<String>())
    }
}

impl FromStr for Age {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        read_age(text, format!("age \"{text}\""))
    }
}

fn read_age(text: &str, subject: String) -> Result<Age> {
    let wrong = |why: String| Error::new(ErrorKind::Config, "use", subject.clone(), why).hint(AGE_HINT);
    let mut age = Age::NONE;
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(wrong("the age is missing".into()));
    }
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, tail) = rest.split_at(digits);
        let Some(unit) = tail.chars().next() else {
            return Err(wrong(format!("the age \"{text}\" has no unit")));
        };
        let slot = match unit {
            'y' => &mut age.years,
            'm' => &mut age.months,
            'w' => &mut age.weeks,
            'd' => &mut age.days,
            'h' => &mut age.hours,
            _ => return Err(wrong(format!("\"{text}\" is not an age"))),
        };
        if number.is_empty() {
            return Err(wrong(format!("\"{text}\" is not an age")));
        }
        if *slot > 0 {
            return Err(wrong(format!("the age \"{text}\" has the unit {unit} twice")));
        }
        match number.parse() {
            Ok(0) => return Err(wrong(format!("the age \"{text}\" has a zero, which would keep nothing"))),
            Ok(n) => *slot = n,
            Err(_) => return Err(wrong(format!("the age \"{text}\" is out of range"))),
        }
        rest = &tail[1..];
    }
    match age.span() {
        Some(_) => Ok(age),
        None => Err(wrong(format!("the age \"{text}\" is out of range"))),
    }
}

impl Serialize for Age {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Age {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;

        impl Visitor<'_> for Text {
            type Value = Age;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an age like \"30d\"")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Age, E> {
                text.parse().map_err(with_advice)
            }
        }

        deserializer.deserialize_str(Text)
    }
}

/// The periods of the rules that thin out with age (grandfather, father, son). UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Period {
    /// By the hour: `2026-11-19T03`.
    Hourly,
    /// By the day: `2026-11-19`.
    Daily,
    /// By the ISO week, which starts on Monday: `2026-W47`.
    Weekly,
    /// By the month: `2026-11`.
    Monthly,
    /// By the year: `2026`.
    Yearly,
}

impl Period {
    /// The name of the rule, as in a config.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hourly => "hourly",
            Self::Daily => "daily",
            Self::Weekly => "weekly",
            Self::Monthly => "monthly",
            Self::Yearly => "yearly",
        }
    }

    /// The name of the period in which `time` lies: two times are in the same one exactly when the names are equal.
    pub fn name_of(self, time: Timestamp) -> String {
        let zoned = time.to_zoned(TimeZone::UTC);
        let format = match self {
            Self::Hourly => "%Y-%m-%dT%H",
            Self::Daily => "%Y-%m-%d",
            Self::Weekly => "%G-W%V",
            Self::Monthly => "%Y-%m",
            Self::Yearly => "%Y",
        };
        zoned.strftime(format).to_string()
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
