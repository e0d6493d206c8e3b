//! The tap: the parser of the archive, fed with bytes.

use futures::StreamExt;
use lifeboat_core::{ByteStream, Proof, Result, Tap};

use super::Content;
use super::members::Members;

/// Takes the proof of a zone's archive as it flows by. It holds the files, whose sizes are limited.
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
    /// A tap that has seen nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The archive has ended: its content.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`](lifeboat_core::ErrorKind::Corrupt) for what is no zone's archive, or not all of one.
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
/// The stream's own, or that it is no zone's archive.
pub async fn read(mut stream: ByteStream) -> Result<Content> {
    let mut tap = ZoneTap::new();
    let mut failed = None;
    while let Some(chunk) = stream.next().await {
        let chunk = chunk?;
        // The stream goes on to its end all the same: if the stored bytes are damaged, that is the reason.
        if failed.is_none() {
            failed = tap.push(&chunk).err();
        }
    }
    match failed {
        Some(error) => Err(error),
        None => tap.content(),
    }
}
