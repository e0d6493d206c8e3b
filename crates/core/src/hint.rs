//! [`Hint`]: what to try after an error.

use std::borrow::Cow;
use std::fmt;

use serde::{Serialize, Serializer};

/// What to try after an error.
///
/// `Display` mentions no flags or commands, so that it fits every program. A program can instead tell its users how to
/// do it there, for each kind of hint:
///
/// ```
/// use lifeboat_core::Hint;
///
/// fn render(hint: &Hint) -> String {
///     match hint {
///         Hint::ListArtifacts => "open the page \"Backups\"".to_owned(),
///         other => other.to_string(),
///     }
/// }
/// assert_eq!(render(&Hint::ListArtifacts), "open the page \"Backups\"");
/// assert_eq!(render(&Hint::from("run it again")), "run it again");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Hint {
    /// A text that fits every program.
    Text(String),
    /// Several things, in this order.
    All(Vec<Hint>),
    /// Choose an encryptor, or choose explicitly not to encrypt.
    ChooseEncryption,
    /// Choose an encryptor: this dataset is never stored unencrypted.
    ChooseEncryptor,
    /// Name a recipient to encrypt to.
    NameRecipient,
    /// Write an `age` recipient in the right form.
    WriteRecipient,
    /// Put an identity into the file of `age` identities.
    WriteIdentity,
    /// Give a key: the artifact is encrypted, and no key for its scheme was given.
    GiveKey {
        /// The scheme, as [`Encryptor::scheme`](crate::Encryptor::scheme) names it: `age`, `openssl`.
        scheme: String,
    },
    /// Give an identity for one of the recipients in the manifest: none of those given matches.
    GiveFittingIdentity,
    /// Give a passphrase: the one that was given is empty.
    GivePassphrase,
    /// Give another passphrase, or compare the stored bytes with the manifest.
    CheckPassphrase,
    /// List the artifacts.
    ListArtifacts,
    /// Name an artifact by its time or its key.
    NameArtifact,
    /// An artifact is missing that should exist: look for it elsewhere, or name the one to use explicitly.
    FindMissingArtifact {
        /// The newest existing artifact.
        older: Option<String>,
    },
    /// Use another artifact; a verification says what is wrong with this one.
    UseAnotherArtifact,
    /// Copy what is missing in a sink later, from a sink that has it.
    ReplicateLater,
    /// If the dataset may be empty, say so.
    AllowEmpty,
    /// If the dataset is right although it shrank, say so once.
    AllowShrink,
    /// Check what does not respond, or wait longer.
    RaiseStallLimit,
    /// Make a copy of the tree first.
    CopyTree,
    /// Run again: a second later the name is different. A prune of orphans removes what a killed run has left.
    RunAgainOrPruneOrphans,
    /// Check the source of a copy. If it is right, allow the copy to delete everything that the source no longer has.
    AllowAllDeletions,
    /// Give a copy its own folder in the destination.
    CopyIntoFolder {
        /// A name for the folder.
        folder: String,
    },
    /// Copy the whole tree into a folder, or use a sink that begins one level above.
    CopyWholeTree {
        /// A name for the folder.
        folder: String,
    },
}

impl Hint {
    /// Combines this hint with another one, unless this one already contains it.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        match self {
            hint if hint == other => hint,
            Self::All(hints) if hints.contains(&other) => Self::All(hints),
            Self::All(mut hints) => {
                hints.push(other);
                Self::All(hints)
            }
            hint => Self::All(vec![hint, other]),
        }
    }
}

impl fmt::Display for Hint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Text(text) => text,
            Self::All(hints) => {
                for (n, hint) in hints.iter().enumerate() {
                    write!(f, "{}{hint}", if n == 0 { "" } else { "; " })?;
                }
                return Ok(());
            }
            Self::ChooseEncryption => "choose an encryptor, or choose explicitly not to encrypt",
            Self::ChooseEncryptor => "choose an encryptor",
            Self::NameRecipient => "name at least one recipient: age1…, or an SSH public key",
            Self::WriteRecipient => {
                "a recipient is age1… (the public key that age-keygen prints) or a line ssh-ed25519 … or ssh-rsa …"
            }
            Self::WriteIdentity => {
                "it must hold AGE-SECRET-KEY-1… lines, as age-keygen writes them, or an SSH private key"
            }
            Self::GiveKey { scheme } if scheme == "age" => {
                "give the secret key that matches one of the artifact's recipients"
            }
            Self::GiveKey { .. } => "give the key or passphrase that it was encrypted with",
            Self::GiveFittingIdentity => "the manifest names the recipients: give the identity of one of them",
            Self::GivePassphrase => "give a passphrase that is not empty",
            Self::CheckPassphrase => {
                "give the passphrase that it was encrypted with; a verification at level stored compares the object with the \
                 manifest's SHA-256"
            }
            Self::ListArtifacts => "list the artifacts to see what there is",
            Self::NameArtifact => {
                "write latest, an age like 2d or 36h, yesterday, a UTC time like 2026-11-21T03:30:00Z, a day like 2026-11-21, or \
                 the key of an artifact"
            }
            Self::FindMissingArtifact { older: None } => {
                "look for it in the job's other sinks, and among the bucket's older versions"
            }
            Self::FindMissingArtifact { older: Some(older) } => {
                return write!(
                    f,
                    "look for it in the job's other sinks, and among the bucket's older versions; to use the older one, name \
                     it: {older}"
                );
            }
            Self::UseAnotherArtifact => "use another artifact; verify this one to see what is wrong with it",
            Self::ReplicateLater => "replicate later to copy what is missing there",
            Self::AllowEmpty => "check the source; if it may be empty, allow that",
            Self::AllowShrink => "check the source, and keep the fuller backup; if the shrinkage is right, allow it once",
            Self::RaiseStallLimit => "check what does not respond; if it is only slow, raise the limit",
            Self::CopyTree => "copy the tree first",
            Self::RunAgainOrPruneOrphans => {
                "run again: a second later the name is different; pruning orphans removes what a killed run has left"
            }
            Self::AllowAllDeletions => "check the source; if it is right, allow the copy to delete all of them",
            Self::CopyIntoFolder { folder } => {
                return write!(f, "give the copy its own folder, such as {folder}");
            }
            Self::CopyWholeTree { folder } => {
                return write!(f, "copy the whole tree into a folder, such as {folder}, or use a sink one level above");
            }
        })
    }
}

impl From<String> for Hint {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<&String> for Hint {
    fn from(text: &String) -> Self {
        Self::Text(text.clone())
    }
}

impl From<&str> for Hint {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<Cow<'_, str>> for Hint {
    fn from(text: Cow<'_, str>) -> Self {
        Self::Text(text.into_owned())
    }
}

/// Serializes as the text of `Display`.
impl Serialize for Hint {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hint_is_not_said_twice() {
        let both = Hint::from("free some space").and(Hint::ReplicateLater);
        assert_eq!(both.to_string(), "free some space; replicate later to copy what is missing there");
        assert_eq!(both.clone().and(Hint::ReplicateLater), both);
        assert_eq!(Hint::ReplicateLater.and(Hint::ReplicateLater), Hint::ReplicateLater);
    }
}
