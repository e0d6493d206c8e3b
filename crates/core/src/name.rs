//! Names in the bucket: `<prefix>/<dataset>-<YYYYMMDD-HHMMSS>.<format>[.zst|.gz][.age|.enc]`.
//!
//! Scripts leave the format out: `shop-secrets-20261121-033000.enc`. Then it is the job's system that knows it.
//!
//! The suffixes are the recipe in reverse, so that reading back needs no flags. Times are UTC. What another program's
//! [`Encryptor`](crate::Encryptor) has written ends in `.enc-<word>`, as in `.enc-gpg`: encrypted, in a way that is not
//! known here.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Result};

/// The suffix of a manifest's key, after its artifact's key.
pub const MANIFEST_SUFFIX: &str = ".manifest.json";

/// The name of a dataset: one thing that is backed up as a unit.
///
/// Letters, digits, `.`, `_` and `-`, starting with a letter or digit, at most 128 bytes; it contains nothing that
/// reads like a timestamp (`-20261121-033000.`), or names could not be told apart.
///
/// ```
/// use lifeboat_core::Dataset;
///
/// assert_eq!(Dataset::new("shop-eu").unwrap().as_str(), "shop-eu");
/// assert!(Dataset::new("shop/eu").is_err());
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Dataset(String);

impl Dataset {
    /// Checks a name.
    ///
    /// # Errors
    /// [`ErrorKind::Config`], saying which rule it breaks.
    pub fn new(name: impl Into<String>) -> Result<Self> {
        let name = name.into();
        let wrong = |why: &str| {
            Err(Error::new(ErrorKind::Config, "use", format!("dataset name \"{name}\""), why)
                .hint("use letters, digits, '.', '_' and '-', as in codetalk or shop_eu"))
        };
        if name.is_empty() || name.len() > 128 {
            return wrong("it must have 1 to 128 characters");
        }
        if !name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-')) {
            return wrong("it has a character that is not a letter, digit, '.', '_' or '-'");
        }
        if !name.as_bytes()[0].is_ascii_alphanumeric() {
            return wrong("it must start with a letter or digit");
        }
        if find_timestamp(&format!("{name}.")).is_some() {
            return wrong("it contains something that looks like an artifact's timestamp");
        }
        Ok(Self(name))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Dataset {
    type Error = Error;
    fn try_from(name: String) -> Result<Self> {
        Self::new(name)
    }
}

impl From<Dataset> for String {
    fn from(d: Dataset) -> Self {
        d.0
    }
}

impl fmt::Display for Dataset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// The name of an artifact, without the prefix before it: what its key says about it.
///
/// Names are in order of dataset and time.
///
/// ```
/// use lifeboat_core::ArtifactName;
///
/// let name = ArtifactName::parse("shop-20261121-033000.dump.zst.age").unwrap();
/// assert_eq!((name.dataset.as_str(), name.format.as_str()), ("shop", "dump"));
/// assert_eq!((name.compression.as_deref(), name.encryption.as_deref()), (Some("zst"), Some("age")));
/// assert_eq!(ArtifactName::parse("notes.txt"), None);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub struct ArtifactName {
    /// The dataset.
    pub dataset: Dataset,
    /// When it was taken, to the second, UTC.
    pub taken_at: Timestamp,
    /// Extension of the plaintext's format: `dump`, `sql`, `tar`, `globals.sql`. Empty where the name does not say it, as
    /// scripts write names; ours always do.
    pub format: String,
    /// `zst` or `gz`, when compressed.
    pub compression: Option<String>,
    /// `age`, `enc` or `enc-<word>`, when encrypted.
    pub encryption: Option<String>,
}

crate::setters!(ArtifactName {
    dataset: Dataset,
    taken_at: Timestamp,
    format: String,
    compression: Option<String>,
    encryption: Option<String>,
});

impl ArtifactName {
    /// The name of an artifact that is neither compressed nor encrypted.
    pub fn new(dataset: Dataset, taken_at: Timestamp, format: impl Into<String>) -> Self {
        Self { dataset, taken_at, format: format.into(), compression: None, encryption: None }
    }

    /// Reads the name of an object (the last part of its key).
    ///
    /// Returns `None` for what is no artifact's name: another tool's object, a manifest, a volume's part.
    pub fn parse(name: &str) -> Option<Self> {
        let (at, taken_at) = find_timestamp(name)?;
        let dataset = Dataset::new(&name[..at]).ok()?;
        let mut rest = &name[at + STAMP.len() + 1..];
        if rest.is_empty() || rest.bytes().any(|b| b == b'/') || rest.contains(MANIFEST_SUFFIX.trim_start_matches('.'))
        {
            return None;
        }
        let mut take = |suffixes: &[&str]| {
            let found =
                suffixes.iter().find(|s| rest.strip_suffix(**s).is_some_and(|r| r.ends_with('.') && r.len() > 1));
            if let Some(found) = found {
                rest = &rest[..rest.len() - found.len() - 1];
                return Some((*found).to_owned());
            }
            // Nothing before it: the name does not say the format. What core does not know may be one.
            let alone = suffixes.iter().find(|s| **s == rest && !is_foreign_encryption(s))?;
            rest = "";
            Some((*alone).to_owned())
        };
        let foreign = name.rsplit_once('.').map(|(_, last)| last).filter(|last| is_foreign_encryption(last));
        let encryption = match foreign {
            Some(foreign) => take(&[foreign]),
            None => take(&["age", "enc"]),
        };
        let compression = take(&["zst", "gz"]);
        let plain = rest.is_empty()
            || rest
                .split('.')
                .all(|p| !p.is_empty() && p.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-')));
        // A verification's record and other notes beside an artifact have a longer tail than any format.
        if !plain || rest.split('.').count() > 2 {
            return None;
        }
        Some(Self { dataset, taken_at, format: rest.to_owned(), compression, encryption })
    }

    /// What follows the time and a dot: `dump.zst.age`.
    pub(crate) fn extensions(&self) -> String {
        let format = Some(&self.format).filter(|format| !format.is_empty());
        let all = [format, self.compression.as_ref(), self.encryption.as_ref()].into_iter().flatten();
        all.map(String::as_str).collect::<Vec<_>>().join(".")
    }

    /// The format, or that of a system where the name does not say it.
    pub fn format_or<'a>(&'a self, of_system: &'a str) -> &'a str {
        if self.format.is_empty() { of_system } else { &self.format }
    }

    /// The name's time as it stands in the name: `20261121-033000`.
    pub fn stamp(&self) -> String {
        format_stamp(self.taken_at)
    }
}

impl fmt::Display for ArtifactName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}.{}", self.dataset, self.stamp(), self.extensions())
    }
}

impl FromStr for ArtifactName {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::parse(name).ok_or_else(|| {
            Error::new(ErrorKind::Config, "read", format!("\"{name}\""), "not the name of an artifact")
                .hint("an artifact is named <dataset>-<YYYYMMDD-HHMMSS>.<format>[.zst|.gz][.age|.enc]")
        })
    }
}

/// Whether an extension is that of an [`Encryptor`](crate::Encryptor) that core does not know: `enc-` and a word of small
/// letters, digits, `_` and `-`.
pub(crate) fn is_foreign_encryption(extension: &str) -> bool {
    extension.strip_prefix("enc-").is_some_and(|word| {
        !word.is_empty()
            && word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'_' | b'-'))
    })
}

/// A name up to and with the dot after its timestamp, and what follows: `shop-20261121-033000.` and `dump.zst.age`.
/// `None` where there is no dataset and no timestamp.
pub(crate) fn split_stem(name: &str) -> Option<(&str, &str)> {
    let (at, _) = find_timestamp(name)?;
    Dataset::new(&name[..at]).ok()?;
    Some(name.split_at(at + STAMP.len() + 1))
}

/// Joins a prefix and a name with one `/`; an empty prefix adds nothing.
pub fn join_key(prefix: &str, name: &str) -> String {
    match prefix.trim_matches('/') {
        "" => name.to_owned(),
        prefix => format!("{prefix}/{name}"),
    }
}

/// Splits a key into its folder (without the slash; empty when there is none) and its name.
pub fn split_key(key: &str) -> (&str, &str) {
    key.rsplit_once('/').unwrap_or(("", key))
}

/// A time as names and records write it: `20261121-033000`, UTC.
pub fn format_stamp(time: Timestamp) -> String {
    time.to_zoned(TimeZone::UTC).strftime("%Y%m%d-%H%M%S").to_string()
}

/// Reads what [`format_stamp`] wrote.
pub fn parse_stamp(text: &str) -> Option<Timestamp> {
    let b = text.as_bytes();
    if b.len() != STAMP.len() - 1 || b[8] != b'-' || !b.iter().enumerate().all(|(i, c)| i == 8 || c.is_ascii_digit()) {
        return None;
    }
    let n = |r: std::ops::Range<usize>| text[r].parse::<i16>().ok();
    let small = |r| n(r).and_then(|v| i8::try_from(v).ok());
    let time =
        DateTime::new(n(0..4)?, small(4..6)?, small(6..8)?, small(9..11)?, small(11..13)?, small(13..15)?, 0).ok()?;
    Some(time.to_zoned(TimeZone::UTC).ok()?.timestamp())
}

/// The shape of a timestamp in a name, with the hyphen before it.
const STAMP: &str = "-YYYYMMDD-HHMMSS";

/// Where the timestamp of a name starts (at its hyphen), and the time it says.
fn find_timestamp(name: &str) -> Option<(usize, Timestamp)> {
    let bytes = name.as_bytes();
    (0..bytes.len().saturating_sub(STAMP.len())).find_map(|at| {
        if bytes[at] != b'-' || bytes[at + STAMP.len()] != b'.' {
            return None;
        }
        Some((at, parse_stamp(name.get(at + 1..at + STAMP.len())?)?))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn suffixes_are_the_recipe_in_reverse() {
        let n = ArtifactName::parse("codetalk-20261121-033000.dump.zst.age").unwrap();
        assert_eq!(n.dataset.as_str(), "codetalk");
        assert_eq!(n.taken_at.to_string(), "2026-11-21T03:30:00Z");
        assert_eq!(
            (n.format.as_str(), n.compression.as_deref(), n.encryption.as_deref()),
            ("dump", Some("zst"), Some("age"))
        );
        assert_eq!(n.to_string(), "codetalk-20261121-033000.dump.zst.age");
    }

    #[test]
    fn names_of_scripts_are_read() {
        for (name, format) in [
            ("dns-zone-20261121-033000.tar.gz", "tar"),
            ("secrets-20261121-033000.json.enc", "json"),
            ("shop-20261121-033000.sql.gz", "sql"),
            ("shop-20261121-033000.dump", "dump"),
            ("shop-20261121-033000.archive.gz", "archive"),
            ("shop-20261121-033000.globals.sql.zst.age", "globals.sql"),
            ("shop-20261121-033000.sql.gpg", "sql.gpg"),
            ("shop-20261121-033000.dump.zst.enc-gpg", "dump"),
            ("shop-20261121-033000.globals.sql.enc-aws_kms-2", "globals.sql"),
        ] {
            let n = ArtifactName::parse(name).unwrap_or_else(|| panic!("{name}"));
            assert_eq!(n.format, format);
            assert_eq!(n.to_string(), name);
        }
    }

    #[test]
    fn names_without_a_format_are_read() {
        for (name, compression, encryption) in [
            ("shop-secrets-20261121-033000.enc", None, Some("enc")),
            ("shop-20261121-033000.gz", Some("gz"), None),
            ("shop-20261121-033000.gz.enc", Some("gz"), Some("enc")),
            ("shop-20261121-033000.age", None, Some("age")),
            ("shop-20261121-033000.zst.age", Some("zst"), Some("age")),
        ] {
            let n = ArtifactName::parse(name).unwrap_or_else(|| panic!("{name}"));
            assert_eq!((n.compression.as_deref(), n.encryption.as_deref()), (compression, encryption), "{name}");
            assert_eq!((n.format.as_str(), n.format_or("json")), ("", "json"));
            assert_eq!(n.to_string(), name);
        }
        let n = ArtifactName::parse("shop-20261121-033000.dump.gz.enc").unwrap();
        assert_eq!(
            (n.format_or("json"), n.compression.as_deref(), n.encryption.as_deref()),
            ("dump", Some("gz"), Some("enc"))
        );
    }

    #[test]
    fn a_foreign_encryption_is_told_from_a_format() {
        let n = ArtifactName::parse("shop-20261121-033000.dump.zst.enc-gpg").unwrap();
        assert_eq!((n.compression.as_deref(), n.encryption.as_deref()), (Some("zst"), Some("enc-gpg")));
        for (name, format) in
            [("shop-20261121-033000.enc-gpg", "enc-gpg"), ("shop-20261121-033000.dump.enc-", "dump.enc-")]
        {
            let n = ArtifactName::parse(name).unwrap();
            assert_eq!((n.format.as_str(), n.encryption), (format, None));
        }
    }

    #[test]
    fn a_dataset_is_matched_whole_and_never_by_a_bare_prefix() {
        let n = ArtifactName::parse("educationelly-graphql-20261121-033000.archive.gz").unwrap();
        assert_eq!(n.dataset.as_str(), "educationelly-graphql");
    }

    #[test]
    fn what_is_no_artifact_is_not_read_as_one() {
        for name in [
            "codetalk-20261121-033000.dump.zst.age.manifest.json",
            "codetalk-20261121-033000",
            "codetalk-20261121-033000.",
            "codetalk-20261321-033000.dump",
            "codetalk-20261121-256000.dump",
            "-20261121-033000.dump",
            "readme.md",
            "code talk-20261121-033000.dump",
            "codetalk-20261121-033000.dump.zst.age.verified-20261122-000000-restore-pass.json",
        ] {
            assert_eq!(ArtifactName::parse(name), None, "{name}");
        }
    }

    #[test]
    fn a_dataset_that_looks_like_an_artifact_is_refused() {
        for name in ["", "a/b", "ü", "-a", "a-20261121-033000", "a-20261121-033000.b", &"x".repeat(129)] {
            let e = Dataset::new(name).unwrap_err();
            assert_eq!(e.kind(), ErrorKind::Config, "{name}");
        }
        Dataset::new("educationelly-graphql").unwrap();
        Dataset::new("a-20269999-033000").unwrap();
    }

    proptest! {
        #[test]
        fn every_name_reads_back(
            dataset in "[a-z0-9][a-z0-9._-]{0,20}",
            seconds in 0i64..253_402_300_799,
            format in "[a-z]{1,8}",
            compression in prop::option::of(prop::sample::select(vec!["zst", "gz"])),
            encryption in prop::option::of(prop::sample::select(vec!["age", "enc", "enc-gpg"])),
        ) {
            prop_assume!(!["zst", "gz", "age", "enc"].contains(&format.as_str()));
            let Ok(dataset) = Dataset::new(dataset) else { return Ok(()) };
            let name = ArtifactName {
                dataset,
                taken_at: Timestamp::from_second(seconds).unwrap(),
                format,
                compression: compression.map(str::to_owned),
                encryption: encryption.map(str::to_owned),
            };
            prop_assert_eq!(ArtifactName::parse(&name.to_string()), Some(name));
        }

        #[test]
        fn no_text_makes_it_panic(text in "\\PC*") {
            let _ = ArtifactName::parse(&text);
            let _ = Dataset::new(text);
        }
    }
}
