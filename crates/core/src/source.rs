//! The [`Source`] trait: a live dataset, read as a stream in a stock format.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::context::Context;
use crate::error::Result;
use crate::name::ArtifactName;
use crate::proof::Tap;
use crate::stream::ByteStream;

/// What a source is about to read. It is stored in the public part of the manifest, so it holds no secrets and
/// no names of the dataset's contents.
///
/// ```
/// use lifeboat_core::Description;
///
/// let description = Description::new("ledger", "db").dataset("shop").tool(format!("ledger {}", "3.50"));
/// assert_eq!(description.format, "db");
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Description {
    /// The dataset's name when none is given: the database's name. Empty where there is none; then every backup has to be given
    /// one. Not stored; the manifest's `dataset` counts.
    #[serde(skip)]
    pub dataset: String,
    /// The system, one word of letters, digits and '-'. A manifest with it is verified and restored by the
    /// backend of that name.
    pub system: String,
    /// The extension of the stock format, without dots at its ends: `dump`, `sql`, `tar`, `json`.
    pub format: String,
    /// Version of the server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_version: Option<String>,
    /// Tool that writes the stream, with its version: `some_dump 15.18`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool: Option<String>,
    /// The artifacts without which what is read cannot be restored, of the same dataset: the base of an increment. The
    /// manifest's `needs` and the sidecars say so; here it is not stored.
    #[serde(skip)]
    pub needs: Vec<ArtifactName>,
    /// What else a reader of the manifest should know, in plain words: options that shaped the dump.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub facts: BTreeMap<String, String>,
}

impl Description {
    /// Describes what a system gives in a format, in words as the fields [`system`](Self#structfield.system) and
    /// [`format`](Self#structfield.format) want them.
    pub fn new(system: impl Into<String>, format: impl Into<String>) -> Self {
        Self { system: system.into(), format: format.into(), ..Self::default() }
    }
}

crate::setters!(Description {
    dataset: String,
    system: String,
    format: String,
    server_version: Option<String>,
    tool: Option<String>,
    needs: Vec<ArtifactName>,
    facts: BTreeMap<String, String>,
});

/// About how much a source gives, known before it is read.
///
/// ```
/// use lifeboat_core::Estimate;
///
/// assert_eq!(Estimate::new(40 << 30).bytes, 42_949_672_960);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Estimate {
    /// Bytes of the stream: of plaintext, before compression.
    pub bytes: u64,
}

impl Estimate {
    /// About so many bytes.
    pub fn new(bytes: u64) -> Self {
        Self { bytes }
    }
}

/// An opened source: the bytes, and the parser that takes the proof from them.
#[non_exhaustive]
pub struct Reading {
    /// The bytes. Ends without an error only when everything has been read *and* the producer has confirmed it: a child
    /// process that closes its output and then exits with non-zero makes the last item an error.
    pub stream: ByteStream,
    /// Sees the bytes as they flow; the pipeline feeds it on a separate thread.
    pub tap: Box<dyn Tap>,
}

impl Reading {
    /// A stream with the parser that takes its proof.
    pub fn new(stream: ByteStream, tap: Box<dyn Tap>) -> Self {
        Self { stream, tap }
    }
}

impl std::fmt::Debug for Reading {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reading").finish_non_exhaustive()
    }
}

/// Reads a live dataset as a stream of bytes in a stock format.
///
/// ```
/// use lifeboat_core::proof::WholeStream;
/// use lifeboat_core::{Context, Description, Reading, Result, Source, async_trait, stream};
///
/// /// What a program holds in memory.
/// struct Memory(Vec<u8>);
///
/// #[async_trait]
/// impl Source for Memory {
///     async fn describe(&self) -> Result<Description> {
///         Ok(Description::new("memory", "bin").dataset("state"))
///     }
///
///     async fn open(&self, _: &Context) -> Result<Reading> {
///         Ok(Reading::new(stream::once(self.0.clone()), Box::new(WholeStream::new("state"))))
///     }
/// }
/// ```
///
/// `lifeboat_conformance::source` checks what is promised here.
#[async_trait]
pub trait Source: Send + Sync {
    /// Says what would be read, and checks what can be checked before anything starts: that the server answers, that
    /// the tools fit its version.
    ///
    /// # Behaviour
    /// - It changes nothing and may be called more than once.
    ///
    /// # Errors
    /// Whatever would make [`open`](Source::open) fail at once.
    ///
    /// # Cancel safety
    /// Safe: nothing is held over an await that outlives the future.
    async fn describe(&self) -> Result<Description>;

    /// Whether it reads nothing but secrets. Then a backup without an encryptor is an error, and
    /// [`memory`](crate::memory) applies. Known without contacting the live system.
    fn is_confidential(&self) -> bool {
        false
    }

    /// About how many bytes [`open`](Source::open)'s stream has, from what the live system's statistics say: for a percentage and
    /// the time that is left. `None`, the default, where it cannot say.
    ///
    /// A backup asks while it reads already, and only where the sink does not hold the one before, whose size says it better. It
    /// goes on without an answer.
    ///
    /// # Behaviour
    /// - It changes nothing, and may be called more than once.
    /// - It costs the live system a query or two, and reads none of the data.
    /// - It is right to an order of magnitude. A source that cannot promise that says nothing.
    ///
    /// # Errors
    /// What kept the live system from saying.
    ///
    /// # Cancel safety
    /// Safe: nothing is held over an await that outlives the future.
    async fn estimate(&self) -> Result<Option<Estimate>> {
        Ok(None)
    }

    /// Starts reading.
    ///
    /// # Behaviour
    /// - The stream is lazy or bounded: it reads no further ahead than a few chunks when nobody takes them.
    /// - Dropping the stream ends everything that serves it, child processes included.
    /// - What has not changed is read with the same proof each time.
    /// - When `cx.cancel` is cancelled the stream ends with an error of kind
    ///   [`Cancelled`](crate::ErrorKind::Cancelled), or goes on: the pipeline drops it then. It never ends as if it were
    ///   complete.
    ///
    /// # Errors
    /// What prevented the start. Later failures are items of the stream.
    ///
    /// # Cancel safety
    /// Safe: a dropped future leaves no child behind.
    async fn open(&self, cx: &Context) -> Result<Reading>;
}

/// A source behind a pointer is one.
macro_rules! pointers {
    ($($pointer:ident),*) => {$(
        #[async_trait]
        impl<T: Source + ?Sized> Source for $pointer<T> {
            async fn describe(&self) -> Result<Description> {
                (**self).describe().await
            }

            fn is_confidential(&self) -> bool {
                (**self).is_confidential()
            }

            async fn estimate(&self) -> Result<Option<Estimate>> {
                (**self).estimate().await
            }

            async fn open(&self, cx: &Context) -> Result<Reading> {
                (**self).open(cx).await
            }
        }
    )*};
}
pointers!(Arc, Box);
