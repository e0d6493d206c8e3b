//! [`Restore`]: from a sink back into a live system.

use std::sync::Arc;
use std::time::Instant;

use serde::Serialize;

use super::read;
use crate::catalog::Artifact;
use crate::context::Context;
use crate::encryptor::Encryptor;
use crate::error::{Error, ErrorKind, Result};
use crate::progress::{Event, Unit};
use crate::report::Check;
use crate::sink::Sink;
use crate::stream::ByteStream;
use crate::target::{RestoreInput, Target};

/// Restores an artifact: `Restore::new(sink, artifact).key(age).into(&target).await`.
pub struct Restore {
    sink: Arc<dyn Sink>,
    artifact: Artifact,
    keys: Vec<Arc<dyn Encryptor>>,
    context: Context,
}

impl Restore {
    /// Of this artifact, as [`catalog::find`](crate::catalog::find) gives it.
    pub fn new(sink: Arc<dyn Sink>, artifact: Artifact) -> Self {
        Self { sink, artifact, keys: Vec::new(), context: Context::default() }
    }

    /// Adds a key to decrypt with. The one that fits is chosen by the artifact's own magic.
    #[must_use]
    pub fn key(mut self, encryptor: Arc<dyn Encryptor>) -> Self {
        self.keys.push(encryptor);
        self
    }

    /// Adds several keys.
    #[must_use]
    pub fn keys(mut self, encryptors: impl IntoIterator<Item = Arc<dyn Encryptor>>) -> Self {
        self.keys.extend(encryptors);
        self
    }

    /// Sets cancellation, progress and clock.
    #[must_use]
    pub fn context(mut self, context: Context) -> Self {
        self.context = context;
        self
    }

    /// The plaintext as a stream, for a program that restores by itself. It counts only when it has ended well: stored
    /// bytes and plaintext are compared with the manifest on the way.
    ///
    /// # Errors
    /// What cannot be read or decrypted; what is wrong further on is an item of the stream.
    pub async fn stream(&self) -> Result<ByteStream> {
        Ok(self.open().await?.stream)
    }

    async fn open(&self) -> Result<RestoreInput> {
        let read = self.artifact.read_manifest(&*self.sink);
        let manifest = self.context.unless_cancelled("restore", || self.artifact.key(), read).await?;
        let private = match &manifest {
            Some(manifest) => Some(manifest.private(&self.keys).await?),
            None => None,
        };
        let (stored, _) = read::stored(self.sink.clone(), &self.artifact, manifest.as_ref(), &self.context);
        let plain = read::plaintext(stored, &self.artifact, &self.keys).await?;
        let stream = read::check_plaintext(plain, private.as_ref(), self.artifact.key());
        Ok(RestoreInput { stream, name: self.artifact.name.clone(), proof: private.map(|p| p.proof) })
    }

    /// Restores into a target.
    ///
    /// # Errors
    /// What cannot be read or decrypted, and what the target fails with; the target is then as it was.
    ///
    /// # Cancel safety
    /// As [`Target::restore`]: cancel through the context's token.
    pub async fn into(self, target: &dyn Target) -> Result<Restored> {
        let started = Instant::now();
        if self.artifact.objects.is_empty() {
            return Err(Error::new(
                ErrorKind::NotFound,
                "restore",
                self.artifact.key(),
                "its manifest is there, but not its data",
            )
            .hint("use another artifact, or the copy in another sink"));
        }
        let cx = &self.context;
        let step = format!("restore {}", self.artifact.name.dataset);
        cx.progress.event(Event::Begin { step, unit: Unit::Bytes, total: Some(self.artifact.bytes()) });
        let checks = target.restore(self.open().await?, cx).await?;
        cx.progress.event(Event::End);
        Ok(Restored {
            dataset: self.artifact.name.dataset.to_string(),
            key: self.artifact.key(),
            stored_bytes: self.artifact.bytes(),
            checks,
            seconds: started.elapsed().as_secs_f64(),
        })
    }
}

impl std::fmt::Debug for Restore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Restore")
            .field("sink", &self.sink)
            .field("artifact", &self.artifact.key())
            .finish_non_exhaustive()
    }
}

/// What came of a restore.
#[derive(Clone, Debug, Serialize)]
pub struct Restored {
    /// The dataset.
    pub dataset: String,
    /// The artifact's key.
    pub key: String,
    /// Stored bytes that were read.
    pub stored_bytes: u64,
    /// What was restored, and what the user should know.
    pub checks: Vec<Check>,
    /// How long it took, in seconds.
    pub seconds: f64,
}
