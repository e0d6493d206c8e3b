//! How much artifacts hold, and which hold less than their predecessors.
//!
//! A backup of a dataset that was dropped or emptied is a good backup of nothing. It must not displace a fuller one, so
//! a backup that is empty, or much smaller than the one before it, is marked by the name of an object beside the
//! artifact: [`Holds`]. A listing of the folder is enough to see it.

use std::fmt;
use std::str::FromStr;

use futures::StreamExt;
use serde::{Deserialize, Deserializer, Serialize};

use super::{Artifact, Kind, list};
use crate::error::{Error, ErrorKind, Result};
use crate::manifest::{Manifest, PrivatePart};
use crate::name::ArtifactName;
use crate::proof::Proof;
use crate::sink::Sink;
use crate::words::{Noun, size};

/// How much an artifact holds, before compression and encryption.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
#[non_exhaustive]
pub struct Amount {
    /// Items in its proof: tables, collections, zones.
    pub items: u64,
    /// Rows in its proof, of all items.
    pub rows: u64,
    /// Bytes of plaintext.
    pub bytes: u64,
}

impl Amount {
    /// The amount stated in a manifest. Missing totals are 0, and nothing falls below them.
    pub fn of_manifest(manifest: &Manifest) -> Self {
        let open = match &manifest.private {
            PrivatePart::Open(private) => Self::of(&private.proof, manifest.plaintext_bytes),
            PrivatePart::Sealed(_) => Self { bytes: manifest.plaintext_bytes, ..Self::default() },
        };
        Self { items: manifest.items.unwrap_or(open.items), rows: manifest.rows.unwrap_or(open.rows), ..open }
    }

    /// The amount stated in a proof, for a plaintext of `bytes` bytes.
    pub fn of(proof: &Proof, bytes: u64) -> Self {
        Self { items: proof.items.len() as u64, rows: proof.total_count(), bytes }
    }

    /// Whether there is nothing: no items, or only items without rows.
    pub fn is_empty(self) -> bool {
        self.items == 0 || self.rows == 0 || self.bytes == 0
    }

    /// `empty`, or `less`.
    pub(crate) fn less_word(self) -> &'static str {
        if self.is_empty() { "empty" } else { "less" }
    }

    /// Whether this is so much less than `before` that it must be reported.
    pub fn shrank(self, before: Self, limit: MaxShrink) -> bool {
        let fell = |before: u64, now: u64| u128::from(now) * 100 < u128::from(before) * u128::from(100 - limit.0);
        fell(before.items, self.items) || fell(before.rows, self.rows) || fell(before.bytes, self.bytes)
    }
}

impl Amount {
    /// In words: `1 item, 20 rows, 3 B`.
    pub fn in_words(self, unit: Noun) -> String {
        format!("{}, {}, {}", ITEMS.count(self.items), unit.count(self.rows), size(self.bytes))
    }
}

const ITEMS: Noun = Noun::new("item", "items");

/// By how much a dataset may shrink from one backup to the next without being reported, in percent of its items, rows
/// or bytes. 100 means no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MaxShrink(u8);

impl Default for MaxShrink {
    fn default() -> Self {
        Self(50)
    }
}

impl fmt::Display for MaxShrink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", self.0)
    }
}

impl FromStr for MaxShrink {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let number = text.strip_suffix('%').and_then(|number| number.parse().ok());
        number.filter(|n| (1..=100).contains(n)).map(Self).ok_or_else(|| {
            Error::new(ErrorKind::Config, "use", format!("max_shrink \"{text}\""), "it is not a share from 1% to 100%")
                .hint("write the share that a dataset may lose between two backups, as in 50%; 100% sets no limit")
        })
    }
}

impl<'de> Deserialize<'de> for MaxShrink {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(|error: Error| match error.advice() {
            Some(hint) => serde::de::Error::custom(format_args!("{error}; {hint}")),
            None => serde::de::Error::custom(error),
        })
    }
}

/// The result of comparing an artifact with its predecessors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Judged {
    /// The backup could not compare, because its credentials may not read. A verification will.
    Unjudged,
    /// It holds about as much as its predecessors. Recorded only if it could not be compared at first.
    Whole,
    /// It is empty, or much smaller than the newest artifact before it.
    Less,
}

impl Judged {
    pub(crate) const ALL: [Self; 3] = [Self::Unjudged, Self::Whole, Self::Less];

    /// The word as it appears in names.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unjudged => "unjudged",
            Self::Whole => "whole",
            Self::Less => "less",
        }
    }

    pub(super) fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|judged| judged.as_str() == word)
    }
}

/// How much an artifact holds, as stated in the name of a sidecar.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Holds {
    /// The key of the sidecar.
    pub key: String,
    /// The amount.
    pub amount: Amount,
    /// The result of the comparison.
    pub judged: Judged,
}

impl Artifact {
    /// How much the artifact holds and the result of the comparison, if its sidecars say so. The worst of several
    /// counts.
    pub fn amount(&self) -> Option<(Amount, Judged)> {
        let worst = self.holds.iter().max_by_key(|holds| holds.judged)?;
        Some((worst.amount, worst.judged))
    }

    /// How much the artifact holds, if it is empty or much smaller than its predecessors.
    pub fn less(&self) -> Option<Amount> {
        self.amount().filter(|(_, judged)| *judged == Judged::Less).map(|(amount, _)| amount)
    }

    /// `empty` or `less`, if the artifact is empty or much smaller than its predecessors.
    pub fn less_word(&self) -> Option<&'static str> {
        self.less().map(Amount::less_word)
    }
}

/// Why an artifact holds less than it should.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Less {
    /// What the artifact holds.
    pub amount: Amount,
    /// The newest fuller artifact before it, and what that holds.
    pub fuller: Option<(ArtifactName, Amount)>,
}

impl Less {
    /// The end of a sentence.
    pub fn in_words(&self, unit: Noun) -> String {
        let what = if self.amount.is_empty() { "empty" } else { "much smaller than before" };
        let fuller = self.fuller.as_ref().map(|(name, amount)| format!("; {name} holds {}", amount.in_words(unit)));
        format!("{what} ({}){}", self.amount.in_words(unit), fuller.unwrap_or_default())
    }
}

/// Finds the artifact to compare `name`, which holds `amount`, with: the newest earlier one that is good, of the same
/// format, not lesser, not an increment, and states how much it holds.
///
/// # Errors
/// Errors of the sink's listing, and of reading the manifest.
pub(crate) async fn fuller_before(
    sink: &dyn Sink,
    folder: &str,
    name: &ArtifactName,
) -> Result<Option<(ArtifactName, Amount)>> {
    let mut newest = None;
    let mut artifacts = list(sink, folder, Some(&name.dataset));
    while let Some(artifact) = artifacts.next().await {
        let artifact = artifact?;
        // They come in order of their keys, and so of time.
        if artifact.name.taken_at >= name.taken_at {
            break;
        }
        if artifact.kind == Kind::Managed
            && artifact.name.format == name.format
            && artifact.needs.is_empty()
            && artifact.less().is_none()
            && !artifact.is_known_bad()
        {
            newest = Some(artifact);
        }
    }
    drop(artifacts);
    let Some(newest) = newest else { return Ok(None) };
    let manifest = newest.read_manifest(sink).await?;
    Ok(manifest.map(|manifest| (newest.name, Amount::of_manifest(&manifest))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn amount(items: u64, rows: u64, bytes: u64) -> Amount {
        Amount { items, rows, bytes }
    }

    #[test]
    fn a_figure_that_falls_below_the_share_is_less() {
        let before = amount(10, 1000, 100_000);
        for (now, less) in [
            (before, false),
            (amount(5, 500, 50_000), false),
            (amount(4, 1000, 100_000), true),
            (amount(10, 499, 100_000), true),
            (amount(10, 1000, 49_999), true),
            (amount(100, 100_000, 10_000_000), false),
        ] {
            assert_eq!(now.shrank(before, MaxShrink::default()), less, "{now:?}");
            assert!(!now.shrank(before, "100%".parse().unwrap()), "{now:?}");
        }
        assert!(amount(10, 999, 100_000).shrank(amount(10, 10_000, 100_000), "90%".parse().unwrap()));
        for wrong in ["", "0%", "101%", "50", "-1%", "half"] {
            assert_eq!(wrong.parse::<MaxShrink>().unwrap_err().kind(), ErrorKind::Config, "{wrong}");
        }
    }

    #[test]
    fn the_worst_that_a_name_says_is_believed() {
        let name = ArtifactName::parse("shop-20261121-033000.dump.zst").unwrap();
        let mut artifact = Artifact::new("", name, Kind::Managed);
        assert_eq!((artifact.amount(), artifact.less_word()), (None, None));
        for (judged, rows, word) in [
            (Judged::Unjudged, 7, None),
            (Judged::Whole, 7, None),
            (Judged::Less, 6, Some("less")),
            (Judged::Whole, 7, Some("less")),
        ] {
            artifact.holds.push(Holds { key: String::new(), amount: amount(1, rows, 70), judged });
            assert_eq!(artifact.less_word(), word, "{judged:?}");
        }
        artifact.holds = vec![Holds { key: String::new(), amount: amount(1, 0, 70), judged: Judged::Less }];
        assert_eq!(artifact.less_word(), Some("empty"));
    }
}
