//! The [`Target`] trait: takes a stream back and writes it into a live system.

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

/// The input of a target or a restore test: the plaintext and all that is known about it.
#[non_exhaustive]
pub struct RestoreInput {
    /// The artifact's plaintext: decrypted, decompressed. After an `Err` item, the earlier items cannot be
    /// trusted either: the target undoes what it did.
    pub stream: ByteStream,
    /// Name of the artifact.
    pub name: ArtifactName,
    /// What the source saw, when the artifact has a manifest and its private part could be read.
    pub proof: Option<Proof>,
    /// What to restore before it, base first. Empty except for [targets](Target::restores_series) and
    /// [verifiers](crate::Verifier::restores_series) that restore series.
    pub chain: Vec<Link>,
}

impl RestoreInput {
    /// An artifact that needs no other.
    pub fn new(stream: ByteStream, name: ArtifactName, proof: Option<Proof>) -> Self {
        Self { stream, name, proof, chain: Vec::new() }
    }

    /// Adds what is restored before it, base first.
    #[must_use]
    pub fn after(mut self, chain: Vec<Link>) -> Self {
        self.chain = chain;
        self
    }

    /// Makes sure that all of it can be restored: code that knows only single artifacts would restore half. The only
    /// place that decides this.
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

/// An artifact that another one needs, to be restored before it. Nothing is read before it is opened.
#[non_exhaustive]
pub struct Link {
    /// Its name.
    pub name: ArtifactName,
    /// What its source saw, when it has a manifest.
    pub proof: Option<Proof>,
    pub(crate) stored_bytes: u64,
    open: Open,
}

impl Link {
    /// An artifact that `open` opens.
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

    /// Its plaintext, which counts only after it has ended without an error, like [`RestoreInput::stream`].
    ///
    /// # Errors
    /// What cannot be read or decrypted; what is wrong further on is an item of the stream.
    pub async fn open(self) -> Result<ByteStream> {
        (self.open)().await
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Writes an artifact into a live system. `lifeboat_conformance::target` checks what is promised here, and
/// `lifeboat_conformance::lines` has the smallest target.
#[async_trait]
pub trait Target: Send + Sync {
    /// Restores the stream. A target that [plans](Target::plans) makes its plan and carries it out at once.
    ///
    /// # Behaviour
    /// - A target that already holds data is refused ([`Refused`](ErrorKind::Refused) or
    ///   [`AlreadyExists`](ErrorKind::AlreadyExists)), unless it was built to replace it.
    /// - The same artifact makes the same of each empty place.
    /// - Replaced data is removed only after its replacement is known to be good.
    /// - When this returns an error the live system is as it was before. Only a target that plans may have made part of
    ///   the changes: the error says so, and the next plan holds the rest.
    /// - The checks say what was restored, and warn, once and by name, about what could not be (a role that
    ///   does not exist there).
    ///
    /// # Errors
    /// What failed, with the tool's own words.
    ///
    /// # Cancel safety
    /// Not cancel safe: a dropped future ends its children, but may leave a half-restored scratch database whose
    /// name the documentation of the implementation gives. Cancel through `cx.cancel`, which cleans up.
    async fn restore(&self, input: RestoreInput, cx: &Context) -> Result<Vec<Check>>;

    /// Whether it receives nothing but secrets: see [`memory`](crate::memory).
    fn is_confidential(&self) -> bool {
        false
    }

    /// Whether it restores an artifact that needs others, after what [`RestoreInput::chain`] holds. One that does not is never
    /// given such an artifact.
    fn restores_series(&self) -> bool {
        false
    }

    /// Whether this target changes a live system piece by piece, so that a person looks at the plan first. Such a target
    /// implements [`plan`](Target::plan).
    fn plans(&self) -> bool {
        false
    }

    /// Reads the artifact and the live system, and says what a restore would change.
    ///
    /// # Behaviour
    /// - It changes nothing.
    /// - The artifact is read to its end and checked before the plan is returned.
    /// - Once the artifact has been restored, there is nothing to do.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] for a target that does not plan; what cannot be read otherwise.
    ///
    /// # Cancel safety
    /// Safe: nothing was changed.
    async fn plan(&self, input: RestoreInput, cx: &Context) -> Result<Box<dyn Prepared>> {
        let _ = cx;
        let subject = format!("the restore of {}", input.name);
        Err(Error::new(ErrorKind::Unsupported, "plan", subject, "this kind of target restores without a plan"))
    }
}

/// A target behind a pointer is one.
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
