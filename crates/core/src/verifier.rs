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

/// How much a verification proves. Each level includes the ones before it, but for `live`, which compares with the
/// live system what `structure` proved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// It exists, is young enough, and matches the manifest's size and SHA-256.
    Stored,
    /// It decrypts, decompresses, parses to its end, and agrees with the proof.
    Structure,
    /// It restores into a scratch server, and the restored content matches the proof.
    #[default]
    Restore,
    /// The live system has not drifted from it by more than is allowed.
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

/// How a backend judges artifacts of its formats. The generic part (age, size, hash, decryption) is
/// [`Verify`](crate::Verify)'s. `lifeboat_conformance::verifier` checks what is promised here, and `lifeboat_conformance::lines` has
/// the smallest verifier.
#[async_trait]
pub trait Verifier: Send + Sync {
    /// A parser for the format of this artifact: the `structure` level.
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

    /// Whether it reads nothing but secrets: see [`memory`](crate::memory).
    fn is_confidential(&self) -> bool {
        false
    }

    /// Whether it restores, and compares, an artifact that needs others, after what [`RestoreInput::chain`] holds. One that
    /// does not is never given such an artifact.
    fn restores_series(&self) -> bool {
        false
    }

    /// Restores into its own scratch system and compares the content with the proof: the `restore` level.
    ///
    /// # Behaviour
    /// - It never touches an existing system.
    /// - It cleans up whatever happens, a run that is cancelled or dropped included.
    /// - A restore that fails is a failed check with the tool's words, not an error.
    /// - A problem of this machine that says nothing about the artifact (a full disk, a killed scratch server, an extension
    ///   that is not installed) is a check that could not run: [`Check::untested`].
    /// - What differs from the proof, or did not come, is a failed check. So is an artifact that ends early or was altered, unless
    ///   the [tap](Verifier::tap) finds that.
    /// - Without a proof (a foreign artifact) it reports what was restored: tables and rows.
    ///
    /// # Errors
    /// What prevented the test itself: no server binaries, no disk.
    async fn restore_test(&self, input: RestoreInput, cx: &Context) -> Result<Vec<Check>>;

    /// Compares the proof with the live system: the `live` level.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] where the backend has no such comparison.
    async fn live(&self, expected: Option<&Proof>, cx: &Context) -> Result<Vec<Check>>;

    /// Whether the `live` level wants the artifact's content, as [`live_content`](Verifier::live_content) gets it: where a
    /// proof says too little to name what has drifted, and for foreign artifacts, which have none.
    fn live_reads(&self) -> bool {
        false
    }

    /// Compares the artifact's content with the live system: the `live` level of a verifier that
    /// [reads](Verifier::live_reads) for it.
    ///
    /// # Errors
    /// What the stream ends with, and what kept the live system from being looked at.
    async fn live_content(&self, input: RestoreInput, cx: &Context) -> Result<Vec<Check>> {
        self.live(input.proof.as_ref(), cx).await
    }
}

/// A verifier behind a pointer is one.
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
