//! The [`Verifier`] trait: how a backend judges its own artifacts.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::context::Context;
use crate::error::{Error, ErrorKind, Result};
use crate::extract::Extract;
use crate::name::ArtifactName;
use crate::proof::{Proof, ProofItem, Tap};
use crate::report::Check;
use crate::target::RestoreInput;
use crate::words::Noun;

/// How much a verification proves. Each level includes the ones before it, except `live`, which includes `structure`
/// and compares with the live system.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Level {
    /// The artifact exists, is recent enough, and matches the manifest's size and SHA-256.
    Stored,
    /// The artifact can be decrypted, decompressed and parsed to its end, and agrees with the proof.
    Structure,
    /// The artifact restores into a scratch server, and the restored content matches the proof.
    #[default]
    Restore,
    /// The live system has not drifted from the artifact by more than is allowed.
    Live,
}

impl Level {
    /// The level's name on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stored => "stored",
            Self::Structure => "structure",
            Self::Restore => "restore",
            Self::Live => "live",
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Level {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        [Self::Stored, Self::Structure, Self::Restore, Self::Live].into_iter().find(|l| l.as_str() == text).ok_or_else(
            || {
                Error::new(ErrorKind::Config, "use", format!("level \"{text}\""), "there is no such verify level")
                    .hint("the levels are stored, structure, restore and live")
            },
        )
    }
}

/// Judges artifacts of a backend's formats. [`Verify`](crate::Verify) does the generic part (age, size, hash,
/// decryption). `lifeboat_conformance::verifier` checks this contract, and `lifeboat_conformance::lines` contains a
/// minimal verifier.
#[async_trait]
pub trait Verifier: Send + Sync {
    /// Creates a parser for the format of this artifact, for the `structure` level.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] for a format that this backend does not know.
    fn tap(&self, name: &ArtifactName) -> Result<Box<dyn Tap>>;

    /// Whether [`extract`](Verifier::extract) can read this item of a proof alone: it has rows or documents of its own, or is a
    /// document. None can by default.
    fn has_content(&self, item: &ProofItem) -> bool {
        let _ = item;
        false
    }

    /// What takes one item out of an artifact of this name. The item is named as the `proof` names one that
    /// [has content](Verifier::has_content); without a proof (a foreign artifact) as somebody asked for it.
    ///
    /// # Behaviour
    /// - What it gives out is what the proof has counted, in an order in which it can be read back.
    /// - It holds a bounded amount of what it saw, as a [tap](Verifier::tap) does.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] where items cannot be read alone, as it is by default, and for a format that this backend does
    /// not know.
    fn extract(&self, name: &ArtifactName, item: &str, proof: Option<&Proof>) -> Result<Box<dyn Extract>> {
        let _ = proof;
        let why = format!("{item} cannot be read alone: its system restores backups as a whole");
        Err(Error::new(ErrorKind::Unsupported, "read an item of", name.to_string(), why).hint("restore the backup"))
    }

    /// Whether the verifier reads nothing but secrets: see [`memory`](crate::memory).
    fn is_confidential(&self) -> bool {
        false
    }

    /// What the items of this kind hold, as messages count it: [`System::unit`](crate::System::unit).
    fn unit(&self, kind: &str) -> Option<Noun> {
        let _ = kind;
        Some(Noun::ROWS)
    }

    /// Whether the verifier can restore and compare an artifact that needs others, after those in
    /// [`RestoreInput::chain`]. If not, it is never given such an artifact.
    fn restores_series(&self) -> bool {
        false
    }

    /// Restores into its own scratch system and compares the content with the proof: the `restore` level.
    ///
    /// # Behaviour
    /// - It never touches an existing system.
    /// - It cleans up whatever happens, even when cancelled or dropped.
    /// - A restore that fails is a failed check with the tool's words, not an error.
    /// - A problem of this machine that says nothing about the artifact (a full disk, a killed scratch server, an extension
    ///   that is not installed) is a check that could not run: [`Check::untested`].
    /// - Content that differs from the proof, or is missing, is a failed check. So is an artifact that ends early or
    ///   was altered, unless the [tap](Verifier::tap) detects that.
    /// - Without a proof (a foreign artifact), it reports what was restored: tables and rows.
    ///
    /// # Errors
    /// Any error that prevents the test itself: no server binaries, no disk.
    async fn restore_test(&self, input: RestoreInput, cx: &Context) -> Result<Vec<Check>>;

    /// Compares the proof with the live system: the `live` level.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] if the backend has no such comparison.
    async fn live(&self, expected: Option<&Proof>, cx: &Context) -> Result<Vec<Check>>;

    /// Whether the `live` level needs the artifact's content, passed to [`live_content`](Verifier::live_content): if a
    /// proof says too little to name what has drifted, and for foreign artifacts, which have none.
    fn live_reads(&self) -> bool {
        false
    }

    /// Compares the artifact's content with the live system: the `live` level of a verifier for which
    /// [`live_reads`](Verifier::live_reads) is true.
    ///
    /// # Errors
    /// Errors of the stream, and of reading the live system.
    async fn live_content(&self, input: RestoreInput, cx: &Context) -> Result<Vec<Check>> {
        self.live(input.proof.as_ref(), cx).await
    }
}

/// Implements the trait for pointers.
macro_rules! pointers {
    ($($pointer:ident),*) => {$(
        #[async_trait]
        impl<T: Verifier + ?Sized> Verifier for $pointer<T> {
            fn tap(&self, name: &ArtifactName) -> Result<Box<dyn Tap>> {
                (**self).tap(name)
            }

            fn has_content(&self, item: &ProofItem) -> bool {
                (**self).has_content(item)
            }

            fn extract(&self, name: &ArtifactName, item: &str, proof: Option<&Proof>) -> Result<Box<dyn Extract>> {
                (**self).extract(name, item, proof)
            }

            fn is_confidential(&self) -> bool {
                (**self).is_confidential()
            }

            fn unit(&self, kind: &str) -> Option<Noun> {
                (**self).unit(kind)
            }

            fn restores_series(&self) -> bool {
                (**self).restores_series()
            }

            async fn restore_test(&self, input: RestoreInput, cx: &Context) -> Result<Vec<Check>> {
                (**self).restore_test(input, cx).await
            }

            async fn live(&self, expected: Option<&Proof>, cx: &Context) -> Result<Vec<Check>> {
                (**self).live(expected, cx).await
            }

            fn live_reads(&self) -> bool {
                (**self).live_reads()
            }

            async fn live_content(&self, input: RestoreInput, cx: &Context) -> Result<Vec<Check>> {
                (**self).live_content(input, cx).await
            }
        }
    )*};
}
pointers!(Arc, Box);
