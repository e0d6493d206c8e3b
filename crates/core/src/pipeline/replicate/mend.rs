//! Reading existing copies again, and replacing those that do not match their manifest.

use std::time::Instant;

use super::{Done, Replicate, Wanted, internal, read_manifest, wanted};
use crate::catalog::{Artifact, Kind};
use crate::error::{Error, ErrorKind, Result};
use crate::pipeline::flow::Hashed;
use crate::pipeline::verify::{Verdict, put_verdict};
use crate::progress::Event;
use crate::sink::PutOptions;
use crate::span;
use crate::verifier::Level;

impl Replicate {
    /// Reads a copy again and replaces those of its objects that do not match the manifest.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] if the object in the first sink does not match the manifest either: then nothing is
    /// changed.
    pub(super) async fn mend(&self, artifact: &Artifact, there: &Artifact) -> Result<Done> {
        if self.context.cancel.is_cancelled() {
            return Err(Error::cancelled("copy", artifact.key()));
        }
        let begun = Instant::now();
        let manifest = match artifact.kind {
            Kind::Foreign => None,
            _ => Some(read_manifest(&*self.from, artifact).await?.1),
        };
        let mut bad = Vec::new();
        for mut object in wanted(artifact, manifest.as_ref()) {
            if !self.is_as_it_must_be(&mut object, artifact, there).await? {
                bad.push(object);
            }
        }
        let mut sent = 0;
        for object in &bad {
            sent += self.replace(object).await?;
        }
        let note = if bad.is_empty() { same(there) } else { None };
        // Of a foreign one it is only known that both sinks hold the same.
        if manifest.is_some() {
            let verdict = Verdict { level: Level::Stored, passed: true, counts: [1, 0, 0], took: begun.elapsed() };
            put_verdict(&*self.to, there, &verdict, &self.context).await;
        }
        if bad.is_empty() {
            return Ok(Done::Same(note));
        }
        self.forget_failures(there).await;
        Ok(Done::Mended(sent))
    }

    /// Whether an object of the copy matches the manifest or, without a manifest, the first sink's object.
    async fn is_as_it_must_be(&self, object: &mut Wanted, artifact: &Artifact, there: &Artifact) -> Result<bool> {
        let found = match self.hash_of(&self.to, &object.key).await {
            Ok(found) => Some(found),
            // What cannot be read to its end is not what it must be.
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Corrupt) => None,
            Err(error) => return Err(error),
        };
        if let Some(expected) = &object.expected {
            return Ok(found.as_ref() == Some(expected));
        }
        let ours = self.hash_of(&self.from, &object.key).await?;
        if found.as_ref() == Some(&ours) {
            return Ok(true);
        }
        // Which of the two is right, only verifications can tell.
        if artifact.last_passed().is_none() || artifact.is_known_bad() || !there.is_known_bad() {
            let sha256 = found.map_or_else(|| "none".to_owned(), |found| found.sha256);
            let why =
                format!("the copy there has other content (SHA-256 {sha256}), and no manifest says which is right");
            return Err(Error::new(ErrorKind::AlreadyExists, "copy", &object.key, why)
                .hint("verify both: a copy that has failed is replaced by one that has passed"));
        }
        object.expected = Some(ours);
        Ok(false)
    }

    /// Replaces a bad object from the first sink, and reads it back.
    async fn replace(&self, object: &Wanted) -> Result<u64> {
        let (body, hashed) = self.body(object).await?;
        let options = PutOptions::new().lock(true).replace(true);
        let put = self.to.put_with(&object.key, body, options);
        let bytes = span::put(&*self.to, &object.key, put).await?;
        let sent: Hashed = hashed.await.map_err(|_| internal(&object.key, "it was confirmed before its end"))?;
        if bytes != sent.bytes {
            return Err(internal(&object.key, &format!("{bytes} of {} bytes were confirmed", sent.bytes)));
        }
        self.read_back(&object.key, sent).await?;
        Ok(bytes)
    }

    /// Removes the records of failed verifications: the bytes they describe are gone.
    async fn forget_failures(&self, there: &Artifact) {
        let failed: Vec<String> = there.verifications.iter().filter(|v| !v.passed).map(|v| v.key.clone()).collect();
        if failed.is_empty() {
            return;
        }
        let stays = match self.to.delete(&failed).await {
            Ok(deleted) if deleted.failed.is_empty() => return,
            Ok(deleted) => deleted.failed.into_iter().next().map(|(_, why)| why).unwrap_or_default(),
            Err(error) => error.to_string(),
        };
        let note = format!("{} was mended, but its failed verification is still recorded: {stays}", there.key());
        self.context.progress.event(Event::Note(note));
    }
}

/// The note about a copy whose bytes are right although a verification failed.
fn same(there: &Artifact) -> Option<String> {
    let failed = there.standing_failure().filter(|failed| failed.level > Level::Stored)?;
    Some(format!(
        "{} is stored as its manifest says, but its verification at level {} failed: the backup itself is bad, in every sink",
        there.key(),
        failed.level
    ))
}
