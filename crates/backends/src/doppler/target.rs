//! The target in case Doppler is unavailable: a file, or standard output.

use std::collections::BTreeMap;

use async_trait::async_trait;
use lifeboat_core::{ArtifactName, Check, Context, Error, ErrorKind, RestoreInput, Result, Target};

use super::document::Document;
use super::form::{Form, LeftOut};
use super::source::listed;
use crate::outfile::Destination;

/// Writes secrets to a file or standard output. Needs no network.
#[derive(Debug)]
pub struct SecretsFile {
    destination: Destination,
    form: Form,
}

impl SecretsFile {
    /// Creates a target that writes to `destination` in this form.
    pub fn new(destination: Destination, form: Form) -> Self {
        Self { destination, form }
    }
}

#[async_trait]
impl Target for SecretsFile {
    fn is_confidential(&self) -> bool {
        true
    }

    async fn restore(&self, input: RestoreInput, cx: &Context) -> Result<Vec<Check>> {
        // Before anything is decrypted; and again when it is written.
        self.destination.check()?;
        let document = Document::read(input.stream, is_unauthenticated(&input.name)).await?;
        stands(&document)?;
        self.form.has_room(&document.secrets)?;
        let (body, left_out) = self.form.write(&document.secrets)?;
        if cx.cancel.is_cancelled() {
            return Err(Error::cancelled("write", self.destination.name()));
        }
        self.destination.write(body.as_slice())?;
        let count = document.secrets.len() - left_out.len();
        let detail = format!("written to {} as {}", self.destination.name(), self.form);
        let mut checks = vec![Check::pass("secrets", count.to_string(), detail)];
        checks.extend(told(&left_out));
        Ok(checks)
    }
}

/// A warning for each reason why something was left out, with names.
pub(super) fn told(left_out: &[LeftOut]) -> Vec<Check> {
    let mut reasons: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for left in left_out {
        reasons.entry(left.why).or_default().push(&left.name);
    }
    reasons
        .into_iter()
        .map(|(why, names)| Check::warn("left out", names.len().to_string(), format!("{}: {why}", listed(&names))))
        .collect()
}

/// Whether the artifact's encryption does not authenticate the plaintext.
pub(super) fn is_unauthenticated(name: &ArtifactName) -> bool {
    name.encryption.as_deref() == Some("enc")
}

/// A backup of nothing restores nothing.
pub(super) fn stands(document: &Document) -> Result<()> {
    if document.secrets.is_empty() {
        let error = Error::new(ErrorKind::Corrupt, "restore", "the secrets", "the backup holds none");
        return Err(error.hint("use another artifact"));
    }
    Ok(())
}
