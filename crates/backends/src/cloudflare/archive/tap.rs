//! The tap: a push parser for the archive.

use futures::StreamExt;
use lifeboat_core::{ByteStream, Proof, Result, Tap};

use super::Content;
use super::members::Members;

/// Takes the proof of a zone's archive as it flows past. It keeps the files in memory; their sizes are limited.
#[derive(Default)]
pub struct ZoneTap {
    members: Members,
}

impl std::fmt::Debug for ZoneTap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ZoneTap").finish_non_exhaustive()
    }
}

impl ZoneTap {
    /// Creates a tap.
    pub fn new() -> Self {
        Self::default()
    }

    /// Ends the archive and returns its content.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`](lifeboat_core::ErrorKind::Corrupt) if it is not a zone's archive, or not a complete one.
    pub fn content(self) -> Result<Content> {
        Content::read(self.members.finish()?)
    }
}

impl Tap for ZoneTap {
    fn push(&mut self, chunk: &[u8]) -> Result<()> {
        self.members.push(chunk)
    }

    fn finish(self: Box<Self>) -> Result<Proof> {
        Ok(self.content()?.proof())
    }

    fn units_done(&self) -> u64 {
        self.members.begun()
    }

    fn units(&self) -> &'static str {
        "files"
    }
}

/// Reads a stream to its end.
///
/// # Errors
/// The stream's own error, or that it is not a zone's archive.
pub async fn read(mut stream: ByteStream) -> Result<Content> {
    let mut tap = ZoneTap::new();
    let mut failed = None;
    while let Some(chunk) = stream.next().await {
        let chunk = chunk?;
        // Read the stream to its end anyway: if the stored bytes are damaged, that is the cause to report.
        if failed.is_none() {
            failed = tap.push(&chunk).err();
        }
    }
    match failed {
        Some(error) => Err(error),
        None => tap.content(),
    }
}
