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
use crate::words::Noun;

/// What a source is about to read. It is stored in the public part of the manifest, so it contains no secrets and no
/// names of the dataset's contents.
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
    /// The default name of the dataset: the database's name. If empty, every backup has to be given a name. Not stored;
    /// the manifest's `dataset` counts.
    #[serde(skip)]
    pub dataset: String,
    /// The system, one word of letters, digits and '-'. The backend of that name verifies and restores the artifact.
    pub system: String,
    /// The extension of the stock format, without leading or trailing dots: `dump`, `sql`, `tar`, `json`.
    pub format: String,
    /// The version of the server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_version: Option<String>,
    /// The tool that writes the stream, with its version: `some_dump 15.18`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool: Option<String>,
    /// The artifacts of the same dataset without which this one cannot be restored: the base of an increment. Not
    /// stored here; the manifest's `needs` and the sidecars state them.
    #[serde(skip)]
    pub needs: Vec<ArtifactName>,
    /// What is counted most, for messages: [`System::unit`](crate::System::unit). Not stored.
    #[serde(skip)]
    pub unit: Noun,
    /// Anything else a reader of the manifest should know, in plain words: options that shaped the dump.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub facts: BTreeMap<String, String>,
}

impl Description {
    /// Creates a description. See the fields [`system`](Self#structfield.system) and
    /// [`format`](Self#structfield.format) for valid values.
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
    unit: Noun,
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
    /// The bytes. The stream ends without an error only when everything has been read *and* the producer has confirmed
    /// it: if a child process closes its output and then exits with a non-zero status, the last item is an error.
    pub stream: ByteStream,
    /// The parser, to which the pipeline pushes the bytes on a separate thread.
    pub tap: Box<dyn Tap>,
}

impl Reading {
    /// Creates a reading from a stream and the parser that takes its proof.
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
/// /// The state of a program, in memory.
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
/// `lifeboat_conformance::source` checks this contract.
#[async_trait]
pub trait Source: Send + Sync {
    /// Describes what would be read, and checks what can be checked beforehand: that the server responds, that the
    /// tools fit its version.
    ///
    /// # Behaviour
    /// - It changes nothing and may be called more than once.
    ///
    /// # Errors
    /// Any error that would make [`open`](Source::open) fail at once.
    ///
    /// # Cancel safety
    /// Safe: nothing is held over an await that outlives the future.
    async fn describe(&self) -> Result<Description>;

    /// Whether the source reads nothing but secrets. A backup without an encryptor is then an error, and
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
    /// - The stream is lazy or bounded: if it is not consumed, it reads at most a few chunks ahead.
    /// - Dropping the stream ends everything that serves it, including child processes.
    /// - Unchanged data is read with the same proof each time.
    /// - When `cx.cancel` is cancelled, the stream ends with an error of kind
    ///   [`Cancelled`](crate::ErrorKind::Cancelled), or continues until the pipeline drops it. It never ends as if it
    ///   were complete.
    ///
    /// # Errors
    /// Any error that prevents the start. Later errors are items of the stream.
    ///
    /// # Cancel safety
    /// Safe: a dropped future leaves no child behind.
    async fn open(&self, cx: &Context) -> Result<Reading>;
}

/// Implements the trait for pointers.
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
