//! One item of a stored artifact as a stream: [`Restore::item`].

use std::fmt;

use futures::StreamExt;

use super::{Restore, stage};
use crate::error::{Error, ErrorKind, Result};
use crate::extract::{self, Extract};
use crate::memory::Confidential;
use crate::proof::{Proof, ProofItem};
use crate::report::Status;
use crate::stream::ByteStream;
use crate::verifier::Verifier;

/// One item of an artifact, to be read.
#[non_exhaustive]
pub struct Item {
    /// Its name as the artifact has it; as it was asked for where the artifact has no proof.
    pub name: String,
    /// What the source saw of it. `None` where the artifact has no manifest: then it is compared with nothing.
    pub expected: Option<ProofItem>,
    /// What the bytes are, for a person, in one line.
    pub form: String,
    /// Its bytes. They count only after the stream has ended without an error: that the artifact is whole, and that count and
    /// fingerprint are those of the proof, is known at its end.
    pub stream: ByteStream,
}

impl fmt::Debug for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Item").field("name", &self.name).field("expected", &self.expected).finish_non_exhaustive()
    }
}

impl Restore {
    /// One item of the artifact as a stream: the rows of a table, the documents of a collection. `verifier` knows the format, and
    /// which items [can be read alone](Verifier::has_content); `item` is named as
    /// [`extract::find`](crate::extract::find) takes it.
    ///
    /// The whole artifact is read, and all that is checked of it in a restore is checked: stored bytes and plaintext against the
    /// manifest, the format to its end, and the item's count and fingerprint against the proof. What differs is the stream's last
    /// item, an error, so nothing of it counts before its end. It holds no more than a few chunks. It leaves no record in the
    /// history.
    ///
    /// # Errors
    /// What cannot be read or decrypted. [`ErrorKind::NotFound`] for an item that is not there, with names that are near it. Of an
    /// artifact without a manifest that is found while it is read. [`ErrorKind::Unsupported`] where the system's items cannot be
    /// read alone, and for an artifact that needs others.
    ///
    /// # Cancel safety
    /// Safe. A dropped stream ends what reads for it.
    ///
    /// ```
    /// use lifeboat_core::catalog::{self, At};
    /// use lifeboat_core::futures::StreamExt;
    /// use lifeboat_core::{Dataset, Encryptor, Restore, Result, Sink, Verifier};
    ///
    /// /// The orders of the newest backup, and nothing if they are not what was backed up.
    /// async fn orders(sink: impl Sink + 'static, key: impl Encryptor + 'static, verifier: &dyn Verifier) -> Result<Vec<u8>> {
    ///     let newest = catalog::find(&sink, "databases", &Dataset::new("shop")?, &At::Latest).await?;
    ///     let mut orders = Restore::new(sink, newest).key(key).item(verifier, "public.orders").await?;
    ///     let mut rows = Vec::new();
    ///     while let Some(chunk) = orders.stream.next().await {
    ///         rows.extend_from_slice(&chunk?);
    ///     }
    ///     Ok(rows)
    /// }
    /// ```
    pub async fn item(&self, verifier: &dyn Verifier, item: &str) -> Result<Item> {
        let confidential = verifier.is_confidential().then(Confidential::begin);
        let input = self.input().await?;
        input.check_series(false)?;
        let subject = self.artifact().key();
        let expected = match &input.proof {
            // A system of which nothing can be read alone says that itself.
            Some(proof) if readable(verifier, proof).next().is_some() => {
                Some(extract::find(readable(verifier, proof), item, &subject)?.clone())
            }
            Some(proof) => proof.items.iter().find(|known| known.name == item).cloned(),
            None => None,
        };
        let name = expected.as_ref().map_or_else(|| item.to_owned(), |item| item.name.clone());
        let extract = verifier.extract(&input.name, &name, input.proof.as_ref())?;
        let form = extract.form();
        let of = Wanted { expected: expected.clone(), subject };
        let stream = stage::spawn("item", input.stream, move |input, output| run(extract, of, input, output));
        // Held for as long as somebody reads.
        let stream = stream
            .inspect(move |_| {
                let _ = &confidential;
            })
            .boxed();
        Ok(Item { name, expected, form, stream })
    }
}

fn readable<'a>(verifier: &'a dyn Verifier, proof: &'a Proof) -> impl Iterator<Item = &'a ProofItem> {
    proof.items.iter().filter(|item| verifier.has_content(item))
}

struct Wanted {
    expected: Option<ProofItem>,
    /// The artifact's key.
    subject: String,
}

fn run(
    mut extract: Box<dyn Extract>,
    wanted: Wanted,
    input: &mut stage::StageInput,
    output: &mut stage::StageOutput,
) -> Result<()> {
    let mut out = |bytes: &[u8]| output.gather(bytes);
    while let Some(chunk) = input.next_chunk()? {
        extract.take(&chunk, &mut out)?;
    }
    let proof = extract.end(&mut out)?;
    wanted.compare(&proof)
}

impl Wanted {
    /// Holds what was found of the item against what the source saw of it.
    fn compare(&self, found: &Proof) -> Result<()> {
        // Where nothing was known of it before, that it has come is all there is to say.
        let Some(expected) = &self.expected else { return Ok(()) };
        let same = |item: &&ProofItem| item.kind == expected.kind && item.shown() == expected.shown();
        let found = Proof::new(found.items.iter().filter(same).cloned());
        let differs = Proof::new([expected.clone()]).compare(&found);
        match differs.into_iter().find(|check| check.status == Status::Fail) {
            None => Ok(()),
            Some(check) => {
                let why = format!("{} is not what was backed up: {}", check.name, check.detail);
                Err(Error::new(ErrorKind::Corrupt, "read", &self.subject, why)
                    .hint("throw away what was read of it, and use another artifact"))
            }
        }
    }
}
