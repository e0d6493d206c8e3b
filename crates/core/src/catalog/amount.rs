//! How much artifacts hold, and which hold less than those before them.
//!
//! A backup of a dataset that was dropped or emptied is a good backup of nothing. So that it pushes no fuller one out, a backup
//! that holds nothing, or much less than the one before it, says so in a name beside the artifact: [`Holds`]. Whoever lists the
//! folder can tell.

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
    /// What a manifest says. Totals that it does not say are 0: nothing falls below them.
    pub fn of_manifest(manifest: &Manifest) -> Self {
        let open = match &manifest.private {
            PrivatePart::Open(private) => Self::of(&private.proof, manifest.plaintext_bytes),
            PrivatePart::Sealed(_) => Self { bytes: manifest.plaintext_bytes, ..Self::default() },
        };
        Self { items: manifest.items.unwrap_or(open.items), rows: manifest.rows.unwrap_or(open.rows), ..open }
    }

    /// What a proof says, of a plaintext of so many bytes.
    pub fn of(proof: &Proof, bytes: u64) -> Self {
        Self { items: proof.items.len() as u64, rows: proof.total_count(), bytes }
    }

    /// Whether it is nothing: no item, or items without a row.
    pub fn is_empty(self) -> bool {
        self.items == 0 || self.rows == 0 || self.bytes == 0
    }

    /// `empty`, or `less`.
    pub(crate) fn less_word(self) -> &'static str {
        if self.is_empty() { "empty" } else { "less" }
    }

    /// Whether this is so much less than `before` that it must be said.
    pub fn shrank(self, before: Self, limit: MaxShrink) -> bool {
        let fell = |before: u64, now: u64| u128::from(now) * 100 < u128::from(before) * u128::from(100 - limit.0);
        fell(before.items, self.items) || fell(before.rows, self.rows) || fell(before.bytes, self.bytes)
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use crate::words::{count, size};
        let number = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
        let (items, rows) = (count(number(self.items), "item"), count(number(self.rows), "row"));
        write!(f, "{items}, {rows}, {}", size(self.bytes))
    }
}

/// By how much a dataset may shrink from one backup to the next before that is said, in per cent of its items, rows or bytes.
/// With 100 nothing shrinks too much.
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

/// What was found when an artifact was compared with those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Judged {
    /// Its backup could not compare: its key may not read. A verification compares it.
    Unjudged,
    /// It holds as much as could be expected. Said only where it could not be compared at first.
    Whole,
    /// It holds nothing, or much less than the newest before it.
    Less,
}

impl Judged {
    pub(crate) const ALL: [Self; 3] = [Self::Unjudged, Self::Whole, Self::Less];

    /// The word as it stands in names.
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

/// How much an artifact holds, as the name of a sidecar tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Holds {
    /// Key of the sidecar.
    pub key: String,
    /// How much.
    pub amount: Amount,
    /// What was found when it was compared.
    pub judged: Judged,
}

impl Artifact {
    /// How much it holds and what was found, where names say so. Of several the worst is believed.
    pub fn amount(&self) -> Option<(Amount, Judged)> {
        let worst = self.holds.iter().max_by_key(|holds| holds.judged)?;
        Some((worst.amount, worst.judged))
    }

    /// How much it holds, when that is nothing, or much less than those before it.
    pub fn less(&self) -> Option<Amount> {
        self.amount().filter(|(_, judged)| *judged == Judged::Less).map(|(amount, _)| amount)
    }

    /// `empty` or `less`, when it holds nothing, or much less than those before it.
    pub fn less_word(&self) -> Option<&'static str> {
        self.less().map(Amount::less_word)
    }
}

/// What is the matter with an artifact that holds less than it should. `Display` writes it as the end of a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Less {
    /// What it holds.
    pub amount: Amount,
    /// The newest fuller one before it, and what that holds.
    pub fuller: Option<(ArtifactName, Amount)>,
}

impl fmt::Display for Less {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.amount.is_empty() {
            true => write!(f, "empty ({})", self.amount)?,
            false => write!(f, "much smaller than before ({})", self.amount)?,
        }
        match &self.fuller {
            Some((name, amount)) => write!(f, "; {name} holds {amount}"),
            None => Ok(()),
        }
    }
}

/// What an artifact of this name that holds so much is compared with: the newest before it that is good, of the same format,
/// not found to hold less, no increment, and says how much it holds.
///
/// # Errors
/// What the sink's listing fails with, and what the manifest cannot be read for.
pub(crate) async fn fuller_before(
    sink: &dyn Sink,
    folder: &str,
    name: &ArtifactName,
) -> Result<Option<(ArtifactName, Amount)>> {
    let mut newest = None;
    let mut artifacts = list(sink, folder, Some(&name.dataset));
    while let Some(artifact) = artifacts.next().await {
        let artifact = artifact?;
        // They come in the order of their keys, which is that of time.
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
            assert_eq!(now.shrank(before, MaxShrink::default()), less, "{now}");
            assert!(!now.shrank(before, "100%".parse().unwrap()), "{now}");
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
