//! The [`Target`] trait: writes a stream back into a live system.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use futures::future::BoxFuture;

use crate::context::Context;
use crate::error::{Error, ErrorKind, Result};
use crate::name::ArtifactName;
use crate::plan::Prepared;
use crate::proof::Proof;
use crate::report::Check;
use crate::stream::ByteStream;

/// The input of a target or a restore test: the plaintext and everything known about it.
#[non_exhaustive]
pub struct RestoreInput {
    /// The artifact's plaintext: decrypted and decompressed. After an `Err` item, the earlier items cannot be trusted
    /// either: the target undoes what it did.
    pub stream: ByteStream,
    /// The name of the artifact.
    pub name: ArtifactName,
    /// The proof, if the artifact has a manifest and its private part could be read.
    pub proof: Option<Proof>,
    /// The artifacts to restore before this one, base first. Empty except for [targets](Target::restores_series) and
    /// [verifiers](crate::Verifier::restores_series) that restore series.
    pub chain: Vec<Link>,
}

impl RestoreInput {
    /// Creates the input for an artifact that needs no other.
    pub fn new(stream: ByteStream, name: ArtifactName, proof: Option<Proof>) -> Self {
        Self { stream, name, proof, chain: Vec::new() }
    }

    /// Adds the artifacts to restore before this one, base first.
    #[must_use]
    pub fn after(mut self, chain: Vec<Link>) -> Self {
        self.chain = chain;
        self
    }

    /// Makes sure that the whole series can be restored: code that knows only single artifacts would restore half. This
    /// is the only place that decides it.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`].
    pub(crate) fn check_series(&self, restores_series: bool) -> Result<()> {
        if self.chain.is_empty() || restores_series {
            return Ok(());
        }
        let bases: Vec<String> = self.chain.iter().map(|link| link.name.to_string()).collect();
        let why = format!("it needs {}, but this target restores only single artifacts", bases.join(", "));
        Err(Error::new(ErrorKind::Unsupported, "restore", self.name.to_string(), why)
            .hint("restore an artifact that needs no other"))
    }
}

impl fmt::Debug for RestoreInput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RestoreInput").field("name", &self.name).field("chain", &self.chain).finish_non_exhaustive()
    }
}

type Open = Box<dyn FnOnce() -> BoxFuture<'static, Result<ByteStream>> + Send>;

/// An artifact that another one needs, to be restored first. Nothing is read until it is opened.
#[non_exhaustive]
pub struct Link {
    /// The artifact's name.
    pub name: ArtifactName,
    /// The artifact's proof, if it has a manifest.
    pub proof: Option<Proof>,
    pub(crate) stored_bytes: u64,
    open: Open,
}

impl Link {
    /// Creates a link to an artifact that `open` opens.
    pub fn new(
        name: ArtifactName,
        proof: Option<Proof>,
        open: impl FnOnce() -> BoxFuture<'static, Result<ByteStream>> + Send + 'static,
    ) -> Self {
        Self { name, proof, stored_bytes: 0, open: Box::new(open) }
    }

    /// How much of a sink is read for it, for progress.
    pub(crate) fn stored_bytes(mut self, bytes: u64) -> Self {
        self.stored_bytes = bytes;
        self
    }

    /// Opens the artifact's plaintext, which can be trusted only after it has ended without an error, like
    /// [`RestoreInput::stream`].
    ///
    /// # Errors
    /// Errors of reading and decrypting. Later errors are items of the stream.
    pub async fn open(self) -> Result<ByteStream> {
        (self.open)().await
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Writes an artifact into a live system. `lifeboat_conformance::target` checks this contract, and
/// `lifeboat_conformance::lines` contains a minimal target.
#[async_trait]
pub trait Target: Send + Sync {
    /// Restores the stream. A target that [plans](Target::plans) makes its plan and carries it out at once.
    ///
    /// # Behaviour
    /// - A destination that already holds data is refused ([`Refused`](ErrorKind::Refused) or
    ///   [`AlreadyExists`](ErrorKind::AlreadyExists)), unless the target was built to replace it.
    /// - Restoring the same artifact into an empty destination always has the same result.
    /// - Replaced data is removed only after its replacement is known to be good.
    /// - If this returns an error, the live system is as before. Only a target that plans may have made some of the
    ///   changes: the error says so, and the next plan holds the rest.
    /// - The checks report what was restored, and warn, once and by name, about what could not be (a role that does not
    ///   exist there).
    ///
    /// # Errors
    /// Any failure, with the tool's own words.
    ///
    /// # Cancel safety
    /// Not cancel safe: a dropped future ends its children, but may leave a half-restored scratch database, whose name
    /// is documented by the implementation. Cancel through `cx.cancel`, which cleans up.
    async fn restore(&self, input: RestoreInput, cx: &Context) -> Result<Vec<Check>>;

    /// Whether the target receives nothing but secrets: see [`memory`](crate::memory).
    fn is_confidential(&self) -> bool {
        false
    }

    /// Whether the target can restore an artifact that needs others, after those in [`RestoreInput::chain`]. If not, it
    /// is never given such an artifact.
    fn restores_series(&self) -> bool {
        false
    }

    /// Whether this target changes a live system piece by piece, so that somebody should review the plan first. Such a
    /// target implements [`plan`](Target::plan).
    fn plans(&self) -> bool {
        false
    }

    /// Reads the artifact and the live system, and plans what a restore would change.
    ///
    /// # Behaviour
    /// - It changes nothing.
    /// - The artifact is read to its end and checked before the plan is returned.
    /// - Once the artifact has been restored, there is nothing to do.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] for a target that does not plan; any failure to read.
    ///
    /// # Cancel safety
    /// Safe: nothing is changed.
    async fn plan(&self, input: RestoreInput, cx: &Context) -> Result<Box<dyn Prepared>> {
        let _ = cx;
        let subject = format!("the restore of {}", input.name);
        Err(Error::new(ErrorKind::Unsupported, "plan", subject, "this kind of target restores without a plan"))
    }
}

/// Implements the trait for pointers.
macro_rules! pointers {
    ($($pointer:ident),*) => {$(
        #[async_trait]
        impl<T: Target + ?Sized> Target for $pointer<T> {
            async fn restore(&self, input: RestoreInput, cx: &Context) -> Result<Vec<Check>> {
                (**self).restore(input, cx).await
            }

            fn is_confidential(&self) -> bool {
                (**self).is_confidential()
            }

            fn restores_series(&self) -> bool {
                (**self).restores_series()
            }

            fn plans(&self) -> bool {
                (**self).plans()
            }

            async fn plan(&self, input: RestoreInput, cx: &Context) -> Result<Box<dyn Prepared>> {
                (**self).plan(input, cx).await
            }
        }
    )*};
}
pointers!(Arc, Box);
